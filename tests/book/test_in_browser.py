"""What a visitor does with the book: choose a tab, search, read in the dark, launch, copy, print, use the keyboard."""

import io
import json
import re
import shutil
import subprocess

import nbformat
import pytest
from PIL import Image

from tests.book import HTML
from tools.book.page import launch_addresses
from tools.lessons import Lesson, lessons

pytestmark = pytest.mark.book
LESSON = "lessons/08_tracing.html"
FRAMEWORKS = ("PyTorch", "Flax NNX", "Flax Linen")


def tabs(page):
    """Of the first set of tabs that is seen: its labels."""
    return page.locator(".sd-tab-set").filter(visible=True).first.locator(":scope > label")


def chosen(page):
    return (
        page.locator(".sd-tab-set")
        .filter(visible=True)
        .first.locator(":scope > input:checked + label")
        .inner_text()
        .strip()
    )


def test_landing_page(visitor):
    one = visitor()
    page = one.open("index.html")
    assert page.title().startswith("From PyTorch to JAX")
    assert page.locator("html").get_attribute("lang") == "en"
    assert [label.strip() for label in tabs(page).all_inner_texts()] == [*FRAMEWORKS]
    cards = page.locator(".sd-card a[href*='lessons/']").evaluate_all("links => links.map(link => link.pathname)")
    assert {path.rpartition("/")[2] for path in cards} >= {f"{lesson.stem}.html" for lesson in lessons()}
    assert page.locator("main img").evaluate_all("pictures => pictures.filter(one => !one.naturalWidth).length") == 0
    assert not one.faults


def test_the_first_lesson_is_launched_with_two_clicks(visitor):
    page = visitor().open("index.html")
    page.locator("main a[href*='lessons/00_start_here.html']").filter(visible=True).first.click()
    page.locator(".dropdown-launch-buttons > button").click()
    link = page.locator(".btn-launch-colab")
    assert link.is_visible()
    assert link.get_attribute("href") == launch_addresses(lessons()[0])["Colab"]


def test_a_tab_stays_chosen_across_pages_and_visits(visitor):
    one = visitor()
    page = one.open("index.html")
    tabs(page).filter(has_text="NNX").click()
    assert "nnx.value_and_grad" in page.locator(".sd-tab-set").first.inner_text()
    kept = one.context.storage_state()
    assert chosen(visitor("phone", storage_state=kept).open("side_by_side.html")) == "Flax NNX"
    assert chosen(visitor(storage_state=kept).open("index.html")) == "Flax NNX"
    assert chosen(visitor().open("index.html")) == "PyTorch"


@pytest.mark.parametrize(
    ("query", "pages"),
    [
        ("DataLoader", {"lessons/01a_titanic_torch", "rosetta/data"}),
        ("masked_fill_", {"rosetta/indexing"}),
        ("NonConcreteBooleanIndexError", {"rosetta/messages"}),
    ],
)
def test_search_leads_to_the_right_pages(visitor, query, pages):
    one = visitor()
    page = one.open(f"search.html?q={query}")
    # the search says so when it is through
    page.locator("#search-results .search-summary", has_text=re.compile("finished|found|did not match")).wait_for()
    links = page.locator("#search-results ul.search li a").evaluate_all("links => links.map(link => link.pathname)")
    found = {path.removeprefix("/").removesuffix(".html") for path in links}
    assert pages <= found, f"expected {pages} among {sorted(found)}"
    page.locator("#search-results ul.search li a").first.click()
    page.locator("main").get_by_text(query).first.wait_for(state="attached")
    assert not one.faults


@pytest.mark.parametrize(
    ("query", "page", "anchor"),
    [
        ("masked_fill_", "indexing.html", "indexing-"),
        ("NonConcreteBooleanIndexError", "", ""),
        ("Abstract tracer value encountered", "", ""),
    ],
)
def test_the_box_of_the_rosetta_stone_finds_names_and_messages(visitor, query, page, anchor):
    tab = visitor().open("rosetta/index.html")
    tab.get_by_role("searchbox", name="A name of PyTorch, or words of an error message").fill(query)
    first = tab.locator(".rosetta-results a").first
    first.wait_for()
    href = first.get_attribute("href")
    assert href.startswith(f"{page}#{anchor}" if page else ""), href
    first.click()
    tab.wait_for_url(f"**/rosetta/{href}")
    assert tab.locator(f"[id='{href.partition('#')[2]}']").count() == 1


# --- colours ------------------------------------------------------------------------------------------------


def lightness(colour):
    """Relative luminance of an sRGB colour, as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((lightness(one), lightness(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_switch_turns_pages_dark_and_back_and_stays_so(visitor):
    page = visitor().open("index.html")
    grounds = {}
    for mode in ("dark", "light", "auto"):
        page.locator(".theme-switch-button").filter(visible=True).first.click()
        page.locator(f".theme-change-button[data-mode={mode}]").filter(visible=True).first.click()
        assert page.locator("html").get_attribute("data-mode") == mode
        grounds[mode] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert lightness([int(c) for c in re.findall(r"\d+", grounds["dark"])[:3]]) < 0.05
    assert lightness([int(c) for c in re.findall(r"\d+", grounds["light"])[:3]]) > 0.9
    assert grounds["auto"] == grounds["light"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "lessons/20_high_order_pdes.html", "lessons/08b_compiling.html"])
def test_pictures_are_readable(visitor, name, scheme):
    page = visitor("desk", scheme).open(name)
    pictures = page.locator("article img").filter(visible=True).all()
    assert pictures
    for picture in pictures:
        seen = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
        colours = seen.quantize(16).convert("RGB").getcolors(seen.width * seen.height)
        ground = max(colours)[1]
        ink = max(contrast(ground, colour) for count, colour in colours if count > 20)
        assert ink >= 4.5, f"{picture.get_attribute('src')}: expected a contrast of 4.5 on {ground}, got {ink:.1f}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tables_of_results_are_readable(visitor, scheme):
    page = visitor("desk", scheme).open("lessons/20_high_order_pdes.html")
    cells = page.locator("table.dataframe td, table.dataframe th")
    styles = cells.evaluate_all(
        """cells => cells.map((cell) => {
             let ground = cell;
             while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
             return [getComputedStyle(cell).color, getComputedStyle(ground).backgroundColor];
           })"""
    )
    assert styles
    for colours in {tuple(pair) for pair in styles}:
        ink, ground = ([int(c) for c in re.findall(r"\d+", colour)[:3]] for colour in colours)
        assert contrast(ink, ground) >= 4.5, colours


# --- keyboard, copy, print ----------------------------------------------------------------------------------


def test_the_keyboard_reaches_tabs_and_search(visitor):
    page = visitor().open("index.html")
    reached = []
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                  const here = document.activeElement;
                  return here.closest(".sd-tab-set") && here.type === "radio" ? "tab"
                    : here.closest(".search-button__button") ? "search" : here.getAttribute("href");
                }"""
            )
        )
        if reached[-1] == "tab":
            break
    assert reached[0] == "#main-content", "expected the first stop to lead past the navigation"
    assert {"search", "tab"} <= set(reached), reached
    page.keyboard.press("ArrowRight")
    assert chosen(page) == "Flax NNX"
    page.keyboard.press("Control+k")
    page.keyboard.type("DataLoader")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=DataLoader*")


def test_what_is_focused_is_seen(visitor):
    page = visitor().open("index.html")
    for _ in range(3):
        page.keyboard.press("Tab")
        style = page.evaluate("(({ outlineWidth, boxShadow }) => [outlineWidth, boxShadow])"
                              "(getComputedStyle(document.activeElement))")  # fmt: skip
        assert style != ["0px", "none"], page.evaluate("document.activeElement.outerHTML")


def test_a_copied_cell_is_the_cell(visitor):
    one = visitor(permissions=["clipboard-read", "clipboard-write"])
    page = one.open(LESSON)
    cells = [cell.source for cell in nbformat.read(Lesson("08_tracing").notebook, as_version=4).cells
             if cell.cell_type == "code" and "generated" not in cell.metadata.get("tags", [])]  # fmt: skip
    blocks = page.locator("div.cell_input:visible")
    assert blocks.count() == len(cells)
    for i in (0, 1, len(cells) - 1):
        blocks.nth(i).hover()
        blocks.nth(i).locator("button.copybtn").click()
        assert page.evaluate("navigator.clipboard.readText()").rstrip() == cells[i].rstrip()


def test_prompts_are_not_copied(visitor):
    page = visitor(permissions=["clipboard-read", "clipboard-write"]).open("api/course.data.html")
    examples = page.locator("div.highlight", has_text=">>> ")
    assert examples.count()
    examples.first.hover()
    examples.first.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() and ">>>" not in copied


@pytest.mark.parametrize("name", [LESSON, "exercises/08_tracing.html"])
def test_paper_holds_the_lesson_and_nothing_else(visitor, name):
    page = visitor().open(name)
    page.emulate_media(media="print")
    hidden = (".bd-header, .bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .bd-footer, .prev-next-area,"
              ".prev-next-footer, .copybtn, .headerlink, .skip-link, #pst-back-to-top, #jb-print-toc")  # fmt: skip
    left = page.locator(hidden).filter(visible=True).evaluate_all("found => found.map(one => one.className)")
    assert not left
    assert page.locator("h1").filter(visible=True).count() == 1
    assert page.locator("article details[open]").count() == 0
    cut = (
        page.locator("article pre")
        .filter(visible=True)
        .evaluate_all(
            "blocks => blocks.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent.slice(0, 80))"
        )
    )
    assert not cut


def test_a_lesson_as_pdf(visitor, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("expected pdftotext in PATH; on Debian, apt-get install poppler-utils")
    page = visitor("desk", "dark").open(LESSON)
    page.evaluate("addEventListener('beforeprint', () => window.printed = document.documentElement.dataset.theme)")
    page.pdf(path=tmp_path / "lesson.pdf", format="A4")
    assert page.evaluate("window.printed") == "light"
    assert page.locator("html").get_attribute("data-theme") == "dark"
    done = subprocess.run(["pdftotext", tmp_path / "lesson.pdf", "-"], capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.split())
    assert "What does jit do to a Python function" in words
    assert "bfloat16 * scalar array" in words
    for navigation in ("Search", "Ctrl", "Open in Colab", "Previous", "Next", "Contents", "07b", "finds the course"):
        assert navigation not in words.replace("Next: ", ""), navigation


# --- speed, and without a server ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.html", LESSON, "side_by_side.html"])
def test_a_page_can_be_used_within_a_second(visitor, name):
    one = visitor()
    times = []
    for _ in range(3):
        times.append(one.open(name).evaluate("performance.getEntriesByType('navigation')[0].domInteractive"))
    assert min(times) < 1000, times


def test_the_book_works_from_a_folder(visitor):
    one = visitor()
    one.page.goto((HTML / "lessons" / "17_taylor_mode.html").as_uri())
    one.page.locator("mjx-container").first.wait_for()
    assert not [fault for fault in one.faults if not fault.startswith("another host: file:")]
    one.page.goto((HTML / "search.html").as_uri() + "?q=DataLoader")
    one.page.locator("#search-results ul.search li a").first.wait_for()


def test_the_notebook_comes_as_it_is_in_the_repository(visitor):
    one = visitor()
    page = one.open(LESSON)
    link = page.locator(".btn-download-notebook").evaluate("link => link.href")
    answer = one.context.request.get(link)
    assert answer.status == 200
    assert json.loads(answer.text()) == json.loads(Lesson("08_tracing").notebook.read_text("utf-8"))
