"""Which page of the book shows a file of the repository; a file that none shows is looked at in the repository."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path, PurePosixPath

from tools.book.public import page_of
from tools.lessons import ROOT, address, exercises, lessons, tag

LINK = re.compile(r"(?<=\]\()(?!https?://|mailto:|#)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
CODE = re.compile(r"(?s)(```.*?```|`[^`\n]+`|<code>.*?</code>)")  # in which `branches[0](x)` is no link
# pages that are written by hand or made of several files
PAGES = {"README.md": "index", "TEACHING.md": "teaching", "CHANGELOG.md": "changes", "CONTRIBUTING.md": "contributing"}

INDEXES = {"error-messages": "rosetta/messages", "names-of-pytorch": "rosetta/names"}  # anchors of ROSETTA.md


@cache
def docname(path: str) -> str | None:
    """The page that shows a file, as Sphinx calls it: "lessons/08_tracing"; None where there is none."""
    pages = {f"notebooks/{lesson.stem}.ipynb": f"lessons/{lesson.stem}" for lesson in lessons()}
    pages |= {f"notebooks/exercises/{found.stem}.ipynb": f"exercises/{found.stem}" for found in exercises()}
    # solutions stand folded below their exercises
    pages |= {f"notebooks/solutions/{found.stem}.ipynb": f"exercises/{found.stem}" for found in exercises()}
    if path.startswith("course/") and path.endswith(".py"):
        return page_of(path.removesuffix("/__init__.py").removesuffix(".py").replace("/", "."))
    return (pages | PAGES).get(path)


def in_repository(path: str, how: str = "blob") -> str:
    """The public address of a file at this version, to read ("blob") or, on the main branch, to change ("edit")."""
    return f"{address()}/{how}/{tag() if how == 'blob' else 'main'}/{path}"


def rewritten(markdown: str, source: str, page: str) -> str:
    """Markdown with its relative links turned from files of the repository to pages of the book.

    Args:
      markdown: what a file says.
      source: that file's path in the repository, from which links are relative.
      page: the page that shows it, from which they become relative.
    Raises:
      FileNotFoundError: a link leads to nothing.
    """

    def turned(link: re.Match) -> str:
        target = os.path.normpath(PurePosixPath(source).parent / link["path"])
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{source}: expected a file of the repository, got the link {link['path']}")
        anchor = link["anchor"] or ""
        if target == "ROSETTA.md":
            return relative(*rosetta_place(anchor), page)
        if (found := docname(target)) is None:
            return in_repository(target) + anchor
        return relative(found, anchor, page)

    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(turned, part) for part in parts[::2]]
    return "".join(parts)


def relative(target: str, anchor: str, page: str) -> str:
    """A link from one page to another, as MyST reads it."""
    suffix = ".ipynb" if target.startswith(("lessons/", "exercises/")) else ".md"
    return os.path.relpath(target + suffix, Path(page).parent) + anchor


def rosetta_place(anchor: str) -> tuple[str, str]:
    """The page and the anchor of the book for an anchor of ROSETTA.md."""
    name = anchor.removeprefix("#")
    if name in ("", "contents"):
        return "rosetta/index", ""
    if name in INDEXES:
        return INDEXES[name], ""
    group = name.partition("-")[0]
    return f"rosetta/{group}", anchor if "-" in name else ""
