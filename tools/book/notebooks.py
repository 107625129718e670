"""Lessons and exercises as pages: the committed notebooks with their outputs, made fit for the web."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.book.places import docname, rewritten
from tools.lessons import GENERATED, ROOT, Lesson, exercises, lessons


def write(folder: Path) -> None:
    """Every lesson and every exercise, each in its page's place below a folder."""
    for lesson in (*lessons(), *exercises(kinds=("exercise",))):
        path = lesson.notebook.relative_to(ROOT).as_posix()
        page = docname(path)
        assert page is not None, path
        target = folder / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(for_the_web(lesson, path, page), target)


def for_the_web(lesson: Lesson, path: str, page: str) -> NotebookNode:
    """The committed notebook: links lead to pages, pictures keep their description, the bootstrap cell is folded."""
    notebook = nbformat.read(lesson.notebook, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not _badges(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = rewritten(cell.source, path, page)
        elif GENERATED in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [GENERATED, "hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": "The cell that finds the course on a host"}
        elif "alt" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
    return notebook


def _badges(cell: NotebookNode) -> bool:
    """The generated cell of badges: the book's header has these buttons."""
    return cell.cell_type == "markdown" and GENERATED in cell.metadata.get("tags", [])
