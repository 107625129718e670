"""Lessons and exercises as pages: the committed notebooks with their outputs, made fit for the web.

Below each check of an exercise stand its hints and its solution, folded. The notebooks themselves can be downloaded.
"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.book.places import docname, rewritten
from tools.lessons import GENERATED, ROOT, Lesson, exercises, lessons

CALL = re.compile(r"^checks\.(?P<name>\w+)\(", re.MULTILINE)
HOW = (
    "Launch this page with the rocket above, or type `make lab` in your copy of the course. The folds below each check "
    "hold what `checks.NAME.hint()` and `checks.NAME.solution()` print there."
)


def write(folder: Path) -> None:
    """Every lesson and every exercise, each in its page's place below a folder; beside it, what is downloaded."""
    stage(folder.parent / "extra" / "notebooks")
    for lesson in (*lessons(), *exercises(kinds=("exercise",))):
        path = lesson.notebook.relative_to(ROOT).as_posix()
        page = docname(path)
        assert page is not None, path
        target = folder / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(for_the_web(lesson, path, page), target)


def stage(downloads: Path) -> None:
    """Every notebook as it is in the repository, solutions too, in a folder that the site carries."""
    shutil.rmtree(downloads, ignore_errors=True)
    for notebook in (*lessons(), *exercises()):
        target = downloads / f"{notebook.name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notebook.notebook, target)


def for_the_web(lesson: Lesson, path: str, page: str) -> NotebookNode:
    """The committed notebook: links lead to pages, pictures keep their description, the bootstrap cell is folded."""
    notebook = nbformat.read(lesson.notebook, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not _badges(cell)]
    if lesson.kind == "exercise":
        notebook.cells = with_folds(notebook.cells, lesson)
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


# --- hints and solutions -----------------------------------------------------------------------------------


def with_folds(cells: list[NotebookNode], exercise: Lesson) -> list[NotebookNode]:
    """The cells of an exercise notebook, with how to work below the title, and folds below each check."""
    solved = nbformat.read(exercise.root / "notebooks" / "solutions" / exercise.notebook.name, as_version=4)
    said = {call["name"]: _printed(cell) for cell in solved.cells if (call := _check_of(cell))}
    title, *rest = cells
    kept = [title, nbformat.v4.new_markdown_cell(HOW)]
    for cell in rest:
        if cell.cell_type == "markdown":
            # the page would lead to itself
            link = rf"\[([^\]]+)\]\(\.\./solutions/{exercise.stem}\.ipynb\)"
            cell.source = re.sub(link, lambda found: download(exercise, found[1]), cell.source)
        kept.append(cell)
        if call := _check_of(cell):
            kept.append(nbformat.v4.new_markdown_cell(folds(call["name"], exercise, said[call["name"]])))
    return kept


def folds(name: str, exercise: Lesson, said: str) -> str:
    """The hints of a check, one fold each, and a fold with the solution and what the check said to it."""
    from course.checks import core, solutions  # brings JAX, for which other pages need not wait

    check = core.REGISTRY[name]
    code = solutions.find(name, exercise.stem)
    if code is None:
        raise LookupError(
            f"expected a cell tagged `solution` above checks.{name} in {exercise.notebook.name}, got none"
        )
    hints = [
        f":::{{dropdown}} Hint {number} of {len(check.hints)}\n:class-container: course-fold\n\n{as_html(hint)}\n:::"
        for number, hint in enumerate(check.hints, 1)
    ]
    solution = [":::{dropdown} Solution", ":class-container: course-fold", "", "```python", code, "```", ""]
    solution += [f"`checks.{name}` says: `{said}`.", "", download(exercise, "All solutions as a notebook"), ":::"]
    return "\n\n".join([*hints, "\n".join(solution)])


def as_html(hint: str) -> str:
    """A hint is plain text; Markdown would find emphasis and maths in it, and turn the quotes of its code."""
    marked = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(hint, quote=False))
    return f"<p>{marked}</p>"


def download(exercise: Lesson, text: str) -> str:
    """A link to the solved notebook as it is in the repository."""
    address = f"../notebooks/solutions/{exercise.stem}.ipynb"
    return f'<a class="download-solution" href="{address}" download>{text}</a>'


def _check_of(cell: NotebookNode) -> re.Match | None:
    """The call of a check, in the cell that has one."""
    return CALL.search(cell.source) if cell.cell_type == "code" else None


def _printed(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs).strip()
