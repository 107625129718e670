"""The web book: its generators, and, marked `book`, the built pages in a browser."""

from tools.lessons import ROOT

HTML = ROOT / "build" / "book" / "html"
# every page, largest first: the last ones to be visited are quick, and no process waits for another
PAGES = [
    path.relative_to(HTML).as_posix()
    for path in sorted(HTML.rglob("*.html"), key=lambda path: path.stat().st_size, reverse=True)
    if "_static" not in path.parts
]
