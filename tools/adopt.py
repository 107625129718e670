"""`make adopt NB=path`: carry edits made in a hosted or local notebook back to its source."""

from __future__ import annotations

import argparse
from pathlib import Path

import jupytext
import nbformat

from tools.lessons import GENERATED, ROOT, Lesson, sha256


class AdoptError(Exception):
    """The notebook can't be carried back; the message says why and what to do."""


def adopt(path: Path, root: Path = ROOT) -> Lesson:
    """Write a notebook's own cells to its source; generated cells and outputs are dropped.

    Raises:
      AdoptError: the notebook is no lesson's (an exercise's, say), or the source has changed since it was built.
    """
    lesson = Lesson(path.stem, root)
    if not lesson.source.is_file():
        raise AdoptError(f"expected a notebook named like a source, got {path.name}; there is no {lesson.source.name}")
    notebook = nbformat.read(path, as_version=4)
    if kind := notebook.metadata.get("course", {}).get("kind"):
        raise AdoptError(
            f"{path.name}: expected a lesson, got an {kind}: it holds half of each pair of stub and solution, and the "
            f"other half would be lost; edit notebooks/src/exercises/{lesson.stem}.py"
        )
    built_from = notebook.metadata.get("course", {}).get("source_sha256")
    if built_from is None:
        raise AdoptError(f"{path.name}: expected the build's hash in its metadata, got none; edit {lesson.source.name}")
    if built_from != sha256(lesson.source.read_bytes()):
        raise AdoptError(
            f"{path.name}: expected it to be built from today's {lesson.source.name}, got an older one; "
            "the source has changed since: run `make build` and make the edits again"
        )
    notebook.cells = [cell for cell in notebook.cells if GENERATED not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in ("tags", "volatile", "alt") if cell.metadata.get(key)}
        cell.metadata = nbformat.NotebookNode(kept)  # hosts add ids and forms of their own
    notebook.metadata = nbformat.NotebookNode()
    text = jupytext.writes(notebook, fmt="py:percent")
    if text.startswith("# ---"):  # jupytext's own header says nothing that the project needs
        text = text.split("# ---\n", 2)[2].lstrip("\n")
    lesson.source.write_text(text, "utf-8")
    return lesson


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    try:
        lesson = adopt(parser.parse_args().notebook)
    except AdoptError as error:
        print(f"not adopted: {error}")
        return 1
    print(f"wrote {lesson.source.relative_to(ROOT)}; look at `git diff`, then run `make build`")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
