"""The built pages as text: links and anchors lead somewhere, ids are unique, pages small, pictures described."""

from collections import Counter
from functools import cache
from html.parser import HTMLParser
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from tests.book import HTML, PAGES
from tools.book.page import BY_PAGE, launch_addresses
from tools.book.places import in_repository
from tools.lessons import ROOT, address, tag

pytestmark = pytest.mark.book
SIZE = 1_000_000  # bytes of HTML
PATHS = {"a": "href", "link": "href", "img": "src", "script": "src"}


class Page(HTMLParser):
    """What one page refers to (tag, address), its ids, and pictures without a description."""

    def __init__(self, name):
        super().__init__()
        self.references, self.ids, self.undescribed, self.classes = [], Counter(), [], {}
        self.feed((HTML / name).read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids[found["id"]] += 1
        if found.get(PATHS.get(tag, "")):
            self.references.append((tag, found[PATHS[tag]]))
            for name in found.get("class", "").split():
                self.classes.setdefault(name, found[PATHS[tag]])
        if tag == "img" and not found.get("alt"):
            self.undescribed.append(found.get("src"))


@cache
def parsed(name):
    return Page(name)


@pytest.fixture(scope="module", autouse=True)
def built():
    assert PAGES, "expected pages in build/book/html, got none; run make test-book"


def test_every_page_of_the_course_is_there():
    assert {f"{page}.html" for page in BY_PAGE} | {"index.html", "side_by_side.html", "search.html"} <= set(PAGES)


def test_links_lead_to_files_and_anchors():
    faults = []
    for name in PAGES:
        for _, reference in set(parsed(name).references):
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                continue
            target = normpath(join(dirname(name), unquote(parts.path))) if parts.path else name
            file = HTML / target
            if not file.is_file():
                faults.append(f"{name}: expected a file, got {reference}")
            elif parts.fragment and file.suffix == ".html" and unquote(parts.fragment) not in parsed(target).ids:
                faults.append(f"{name}: expected an anchor, got {reference}")
    assert not faults, "\n".join(faults)


def test_links_to_the_repository_lead_to_files():
    starts, public, version = [in_repository("", how) for how in ("blob", "edit")], address(), tag()
    faults = []
    for name in PAGES:
        for _, reference in set(parsed(name).references):
            for start in starts:
                path = unquote(reference.removeprefix(start).partition("#")[0])
                if reference.startswith(start) and not (ROOT / path).exists():
                    faults.append(f"{name}: expected a file of the repository, got {reference}")
            if reference.startswith(f"{public}/blob/") and f"/{version}/" not in reference:
                faults.append(f"{name}: expected {version} in {reference}")
    assert not faults, "\n".join(faults)


def test_nothing_comes_from_another_host():
    loaded = [
        f"{name}: {reference}"
        for name in PAGES
        for kind, reference in parsed(name).references
        if kind != "a" and urlsplit(reference).netloc
    ]
    assert not loaded


def test_ids_are_unique():
    twice = {name: [i for i, n in parsed(name).ids.items() if n > 1] for name in PAGES}
    assert not {name: ids for name, ids in twice.items() if ids}


def test_pages_are_small():
    assert not {name: size for name in PAGES if (size := (HTML / name).stat().st_size) >= SIZE}


def test_pictures_are_described():
    assert not {name: parsed(name).undescribed for name in PAGES if parsed(name).undescribed}


@pytest.mark.parametrize("page", BY_PAGE)
def test_buttons_of_a_notebook(page):
    lesson, found = BY_PAGE[page], parsed(f"{page}.html")
    for host, url in launch_addresses(lesson).items():
        assert found.classes[f"btn-launch-{host.lower()}"] == url
        assert unquote(url).endswith(f"notebooks/{lesson.name}.ipynb") and tag() in url
    assert found.classes["btn-edit-page"] == in_repository(f"notebooks/src/{lesson.name}.py", "edit")
    download = HTML / normpath(join(dirname(page), found.classes["btn-download-notebook"]))
    assert download.read_bytes() == lesson.notebook.read_bytes()
    nbformat.validate(nbformat.read(download, as_version=4))
