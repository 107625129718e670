"""What the course's nbgrader folder adds to nbgrader: release cells equal to the stubs, and a sandbox.

`python -m tools.nbgrader_parts collect FOLDER`, in the nbgrader folder, fills `submitted/` from a folder with one
folder a student, as `make grade` takes it: each notebook is written anew on top of the released one, so that deleted
cells, renamed files and broken metadata are mended, and what is no notebook becomes an untouched one that says so.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import ClearSolutions, NbGraderPreprocessor
from traitlets import Bool, Dict, Float

from tools import grade
from tools.sandbox import ROOT, Refused


class KeepStub(ClearSolutions):
    """Leaves the stub that stands above the solution, to the letter."""

    code_stub = Dict({"python": ""}, help="What stands in the solution's place").tag(config=True)

    def preprocess_cell(self, cell: NotebookNode, resources: Any, cell_index: int) -> tuple[NotebookNode, Any]:
        cell, resources = super().preprocess_cell(cell, resources, cell_index)
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = cell.source.rstrip("\n")  # what an empty code_stub leaves
        return cell, resources


class Sandboxed(NbGraderPreprocessor):
    """Runs a submission's exercises as `make grade` does, in the place of nbgrader's kernel."""

    seconds = Float(grade.SECONDS, help="From one result to the next, at most").tag(config=True)
    cell_seconds = Float(grade.CELL_SECONDS, help="For one cell, at most").tag(config=True)
    trusted = Bool(False, help="Run the work without a sandbox").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        about = resources["nbgrader"]
        asked = asked_by(about["assignment"], about["notebook"])
        how = {"seconds": self.seconds, "cell_seconds": self.cell_seconds, "trusted": self.trusted}
        found, _ = grade.outcomes(asked, nb.cells, root=ROOT, **how)
        for cell in nb.cells:
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            own = cell.metadata.get("nbgrader", {})
            if own.get("grade") and own.get("grade_id") in found:
                kind, message = found[own["grade_id"]]
                cell.outputs = [output(kind, grade.clean(message))]
        return nb, resources


def output(kind: str, message: str) -> NotebookNode:
    """An outcome as nbgrader reads it: an error is 0 points."""
    if kind == "correct":
        return nbformat.v4.new_output("stream", name="stdout", text=message + "\n")
    return nbformat.v4.new_output("error", ename=kind, evalue=message.split("\n")[0], traceback=message.split("\n"))


def asked_by(assignment: str, notebook: str, root: Path = ROOT) -> grade.Sheet:
    """What an assignment's notebook asks, from its source."""
    source = nbformat.read(root / "source" / assignment / f"{notebook}.ipynb", as_version=4)
    worth = {
        cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
        for cell in source.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    }
    return grade.sheet(notebook, source.cells, worth)


def onto(released: NotebookNode, cells: list[dict], asked: grade.Sheet) -> NotebookNode:
    """The released notebook with a student's code: the last cells of an exercise in its answer cells, others above."""
    top, by_name = grade.sections(asked, cells)
    made = copy.deepcopy(released)
    for name, own in by_name.items():
        places = [cell for cell in made.cells if exercise_of(cell) == name]
        sources = [""] * (len(places) - len(own)) + own
        extra = len(sources) - len(places)
        for cell, source in zip(places, sources[extra:], strict=True):
            cell.source = source
        at = made.cells.index(places[0])
        made.cells[at:at] = [nbformat.v4.new_code_cell(source) for source in sources[:extra]]
    first = next(i for i, cell in enumerate(made.cells) if grade.HEADING.search(cell.source))
    made.cells[first:first] = [nbformat.v4.new_code_cell(source) for source in top]
    return made


def exercise_of(cell: NotebookNode) -> str | None:
    """The exercise whose answer a cell is for, by its grade_id: NAME-answer, NAME-answer-2."""
    own = cell.metadata.get("nbgrader", {})
    return own["grade_id"].partition("-answer")[0] if own.get("solution") else None


def collect(folder: Path, root: Path = ROOT) -> list[str]:
    """Fill submitted/ from a folder with one folder a student.

    Returns:
      What was out of order, a line each.
    """
    released = {path.stem: path for path in sorted((root / "release").glob("*/*.ipynb"))}
    if not released:
        raise Refused("expected released notebooks in release/, got none; run `nbgrader generate_assignment` first")
    found = []
    for work in grade.submissions(folder, released):
        if work.stem not in released or work.outcome == "second copy":
            found.append(f"{work.student}: {work.fault}")
            continue
        path = released[work.stem]
        notebook = nbformat.read(path, as_version=4)
        if work.fault:
            found.append(f"{work.student}, {work.stem}: {work.fault}")
            notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Not read:** {work.fault}."))
        else:
            notebook = onto(notebook, work.cells, asked_by(path.parent.name, work.stem, root))
        target = root / "submitted" / grade.safe(work.student) / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["collect"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    try:
        print(*collect(options.folder), sep="\n")
    except Refused as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
