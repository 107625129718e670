"""The built book on a free port, and a Chromium that visits it. `make test-book` builds the one and finds the other."""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.book import HTML

WIDTHS = {"phone": 375, "desk": 1400}
# MathJax typesets after the page has loaded, and a chosen tab's colour fades in: half of the way it is hard to read
READY = """async () => {
  await document.fonts.ready; await window.MathJax?.startup?.promise;
  const ends = document.getAnimations().filter(each => each.effect.getComputedTiming().endTime < Infinity);
  await Promise.allSettled(ends.map(each => each.finished));
  return true;
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site():
    """The address of the built book."""
    if not (HTML / "index.html").is_file():
        pytest.fail("expected the built book in build/book/html, got nothing there; run make test-book")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    """A browser; tests that ask for it are skipped where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser: expected one of {', '.join(names)} in PATH; on Debian, apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; run make test-book")
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0  # to whom Chromium refuses its sandbox
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"] if as_root else [])
        yield browser
        browser.close()


class Visitor:
    """One person at one browser: a window whose every request, failure and console error is on record."""

    def __init__(self, browser, site, width="desk", scheme="light", **options):
        size = {"width": WIDTHS[width], "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, base_url=site, **options)
        self.page = self.context.new_page()
        self.faults = []
        self.page.on("console", lambda said: said.type == "error" and self.faults.append(f"console: {said.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("requestfailed", lambda request: self.faults.append(f"no answer: {request.url}"))
        self.page.on("response", lambda got: got.status >= 400 and self.faults.append(f"{got.status}: {got.url}"))
        own = (site, "data:", "blob:")
        self.page.on("request", lambda r: r.url.startswith(own) or self.faults.append(f"another host: {r.url}"))

    def open(self, address):
        self.faults.clear()
        self.page.goto(address)
        self.page.evaluate(READY)
        return self.page


@pytest.fixture
def visitor(chromium, site):
    """A function that lets a new visitor in: visitor("phone", "dark").open("index.html")."""
    visitors = []

    def enter(*args, **options):
        visitors.append(Visitor(chromium, site, *args, **options))
        return visitors[-1]

    yield enter
    for one in visitors:
        one.context.close()


@pytest.fixture(scope="session")
def reader(chromium, site):
    """A visitor with a phone who stays for many pages, so that scripts and fonts come from the cache."""
    one = Visitor(chromium, site, "phone")
    yield one
    one.context.close()
