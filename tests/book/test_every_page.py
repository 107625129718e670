"""Every page of the book, in a phone's width: what must hold everywhere."""

import pytest

from tests.book import PAGES
from tests.book.conftest import WIDTHS

pytestmark = pytest.mark.book

# what one look at a page finds: faults as words
LOOK = r"""
() => {
  const faults = [], main = document.querySelector("main"), wide = document.scrollingElement.scrollWidth;
  const words = (element) => `<${element.localName} class="${element.className}"> ${element.textContent.slice(0, 60)}`;
  if (wide > window.innerWidth) faults.push(`scrolls sideways: ${wide} px wide`);
  const scrolls = (element) => {
    for (; element && element !== main; element = element.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(element).overflowX)) return true;
    return false;
  };
  for (const element of main.querySelectorAll("pre, table, img, mjx-container")) {
    const cut = element.checkVisibility() && element.getBoundingClientRect().right > window.innerWidth;
    if (cut && !scrolls(element)) faults.push(`cut off: ${words(element)}`);
  }
  const headings = [...main.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter((heading) => heading.checkVisibility());
  const levels = headings.map((heading) => Number(heading.localName[1]));
  if (levels.filter((level) => level === 1).length !== 1 || levels[0] !== 1) faults.push("expected one h1, first");
  headings.forEach((heading, i) => {
    if (i && levels[i] > levels[i - 1] + 1) faults.push(`skips a level: ${words(heading)}`);
  });
  for (const math of main.querySelectorAll(".math"))
    if (!math.querySelector("mjx-container") || math.querySelector("mjx-merror"))
      faults.push(`mathematics not set: ${words(math)}`);
  const walk = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, raw = /\\\(|\\\[|\$\$|\$[^\s$]+\$/.test(walk.currentNode.data);
    if (raw && !element.closest("pre, code, script, mjx-container"))
      faults.push(`raw mathematics: ${words(element)}`);
  }
  return faults;
}
"""
# axe measures every token and every word of code anew; one of each colour is enough
ONE_TOKEN_OF_EACH = """
() => {
  const all = document.querySelectorAll(".highlight pre span[class], main li code, main p code");
  const alone = (token) => (token.localName === "code" ? !token.closest("table") : !token.children.length);
  const tokens = [...all].filter(alone);
  const colour = (token) => [token.parentElement.localName, token.className, getComputedStyle(token).backgroundColor];
  const colours = tokens.map((token) => colour(token).join());
  const seen = new Set();
  tokens.forEach((token, i) => (seen.has(colours[i]) ? token.replaceWith(token.textContent) : seen.add(colours[i])));
}
"""


def barriers(page):
    """What axe-core finds that keeps people out."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate(ONE_TOKEN_OF_EACH)
    # preload would fetch style sheets a second time, against a wrong base
    found = axe.run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    return [
        f"{rule['impact']}: {rule['help']}: {node['html'][:120]} ({node['failureSummary'].splitlines()[-1].strip()})"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"][:3]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_page_on_a_phone(reader, name):
    page = reader.open(name)
    faults = [*reader.faults, *page.evaluate(LOOK), *barriers(page)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "side_by_side", "lessons/17_taylor_mode", "exercises/08_tracing",
                                  "rosetta/index", "rosetta/losses", "api/course.data", "search"])  # fmt: skip
def test_page_at_a_desk(visitor, name, scheme):
    page = visitor("desk", scheme).open(f"{name}.html")
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    faults = [*page.evaluate(LOOK), *barriers(page)]
    assert not faults, "\n".join(faults)


def test_the_width_of_a_phone_is_what_it_says(reader):
    assert reader.open("index.html").evaluate("window.innerWidth") == WIDTHS["phone"]
