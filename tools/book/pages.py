"""Pages that are files of the repository as they are: for teachers, for contributors, what changed."""

from __future__ import annotations

from pathlib import Path

from tools.book.places import PAGES, rewritten
from tools.lessons import ROOT

FILES = {page: file for file, page in PAGES.items() if page != "index"}  # page -> file


def write(folder: Path) -> None:
    """The pages teaching, contributing and changes."""
    for page, file in FILES.items():
        text = rewritten((ROOT / file).read_text("utf-8"), file, page)
        (folder / f"{page}.md").write_text(text, "utf-8")
