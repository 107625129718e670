"""`make classroom`: what a teacher hands out, and an nbgrader course to grade it with, in build/classroom/.

`learners/` goes to the learners: notebooks without solutions, the package, the data, requirements. `nbgrader/` stays
with the teacher: its sources hold the solutions. Both are made from notebooks/src, so no build has to come first for
exercises; lessons are copied as built.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import grade
from tools.lessons import ROOT, Lesson, as_notebook, exercises, lessons, project

OUT = ROOT / "build" / "classroom"
NBGRADER_TOOLS = ("__init__", "grade", "grade_one", "sandbox", "nbgrader_parts")
SOLUTIONS = re.compile(r" ?\[[^\]\n]*\]\((?:\.\./)?solutions/[^)\n]*\)\.?")
NEARBY = re.compile(r"\[([^\]\n]+)\]\(\.\./[^)\n]*\)")

README = """\
# {name} {version}: what learners need

- `notebooks/` holds the lessons, `notebooks/exercises/` the exercises; fill them in where they say `your turn`.
- `requirements.txt` names the packages, for Python 3.11 to 3.13:

```
python3.11 -m venv .venv
.venv/bin/python -m pip install -r requirements.txt
.venv/bin/jupyter lab notebooks
```

Without a network, from a folder `wheelhouse/` that your teacher hands out with this one (Linux, Python 3.11):

```
.venv/bin/python -m pip install --no-index --find-links wheelhouse -r requirements.txt
```

For other systems `wheelhouse/resolved/` lists the packages, and its README the commands that fetch them. The package
`course` is found beside the notebooks; it is not installed. Hand in the exercise notebooks under the names that they
have.
"""

TEACHER = """\
# An nbgrader course, one assignment a lesson

Needs this repository's environment with `requirements/classroom.txt` installed, and on Linux bubblewrap. Here:

```
nbgrader generate_assignment 09_transformations
nbgrader autograde 09_transformations
nbgrader generate_feedback 09_transformations
```

`release/` is what learners get. Submissions go to `submitted/STUDENT/ASSIGNMENT/`; where they came in by mail or on a
stick, one folder a student, `python -m tools.nbgrader_parts collect FOLDER` puts them there and mends deleted cells,
other names and broken files. Autograding runs each submission as `make grade` does: in a sandbox, exercise by exercise,
with a limit on time, memory and processes. Without bubblewrap it refuses; `--Sandboxed.trusted=True` is for work that
you would run yourself. `source/` holds the solutions: hand out nothing of this folder but `release/`.
"""

CONFIG = '''\
"""nbgrader's configuration: stubs as the course wrote them, submissions in a sandbox."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])  # for alembic

from nbgrader import preprocessors as theirs

from tools.nbgrader_parts import KeepStub, Sandboxed

c = get_config()
c.CourseDirectory.root = str(HERE)
c.CourseDirectory.course_id = "{name}"
# nbgrader's own lists, with KeepStub for ClearSolutions and Sandboxed for Execute
c.GenerateAssignment.preprocessors = [
    theirs.IncludeHeaderFooter,
    theirs.LockCells,
    KeepStub,
    theirs.ClearOutput,
    theirs.CheckCellMetadata,
    theirs.ComputeChecksums,
    theirs.SaveCells,
    theirs.ClearHiddenTests,
    theirs.ClearMarkScheme,
    theirs.ComputeChecksums,
    theirs.CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    Sandboxed,
    theirs.IgnorePattern,
    theirs.LimitOutput,
    theirs.SaveAutoGrades,
    theirs.AssignLatePenalties,
    theirs.CheckCellMetadata,
]
'''

HIDDEN = """\
{call}
### BEGIN HIDDEN TESTS
assert {outcome}.kind == "correct", "no points: not attempted, or not correct"
### END HIDDEN TESTS"""


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """The notebook without links to solved ones."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTIONS.sub("", cell.source).rstrip()
    return notebook


def learners(out: Path, root: Path = ROOT) -> None:
    """Write the folder for learners."""
    (out / "notebooks" / "exercises").mkdir(parents=True)
    for one in lessons(root):
        if one.notebook.is_file():
            nbformat.write(
                without_solutions(nbformat.read(one.notebook, as_version=4)), out / "notebooks" / one.notebook.name
            )
    for one in exercises(root, kinds=("exercise",)):
        nbformat.write(without_solutions(as_notebook(one)), out / "notebooks" / "exercises" / one.notebook.name)
    skip = shutil.ignore_patterns("__pycache__", "make_*.py")
    for name in ("course", "data"):
        shutil.copytree(root / name, out / name, ignore=skip)
    if (root / "benchmarks" / "results").is_dir():
        shutil.copytree(root / "benchmarks" / "results", out / "course" / "published_results")
    shutil.copy(root / "LICENSE", out / "LICENSE")
    (out / "requirements.txt").write_text(run_requirements(root), "utf-8")
    (out / "README.md").write_text(README.format(**project(root)), "utf-8")


def run_requirements(root: Path = ROOT) -> str:
    """What lessons and exercises need: requirements.txt without its section on tests."""
    text = (root / "requirements.txt").read_text("utf-8")
    return "\n\n".join(part for part in text.split("\n\n") if not part.startswith("# tests")).rstrip() + "\n"


def nbgrader_source(stem: str, root: Path = ROOT) -> NotebookNode:
    """An exercise notebook as nbgrader's instructor version: stub and solution in one answer cell, locked tests.

    Raises:
      ValueError: a check follows no answer, or a stub no solution.
    """
    stub = as_notebook(Lesson(stem, root, "exercise"))
    solved = iter([cell for cell in as_notebook(Lesson(stem, root, "solution")).cells if tagged(cell, "solution")])
    worth, answers = grade.points(root), []
    for cell in stub.cells:
        if cell.cell_type == "markdown":
            cell.source = NEARBY.sub(r"\1", SOLUTIONS.sub("", cell.source)).rstrip()
        elif tagged(cell, "stub"):
            solution = next(solved, None)
            if solution is None:
                raise ValueError(f"{stem}: expected a solution after each stub, got fewer; add the cell")
            cell.source += f"\n### BEGIN SOLUTION\n{solution.source}\n### END SOLUTION"
            answers.append(cell)
        elif asked := [(name, given) for name, given in grade.calls(cell.source) if name in worth]:
            name, _ = asked[0]
            if len(asked) > 1 or not answers:
                raise ValueError(f"{stem}: expected one check after an answer, got {cell.source!r}; split the cell")
            for number, answer in enumerate(answers, start=1):
                mark(answer, f"{name}-answer" + f"-{number}" * (number > 1), solution=True)
            outcome = cell.source.strip().replace(f"checks.{name}(", f"checks.{name}.outcome(", 1)
            cell.source = HIDDEN.format(call=cell.source, outcome=outcome)
            mark(cell, name, grade=True, locked=True, points=worth[name])
            answers = []
    stub.metadata.pop("course")
    return stub


def tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def mark(cell: NotebookNode, grade_id: str, **about: object) -> None:
    """nbgrader's metadata of a cell; the id is the check's name, so that it outlives a rebuild."""
    plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
    cell.metadata["nbgrader"] = NotebookNode({**plain, "grade_id": grade_id, **about})
    cell.id = re.sub(r"\W", "-", grade_id)[:64]


def nbgrader_course(out: Path, root: Path = ROOT) -> None:
    """Write the nbgrader course: configuration, sources, and the code that grades."""
    for one in exercises(root, kinds=("exercise",)):
        path = out / "source" / one.stem / one.notebook.name
        path.parent.mkdir(parents=True)
        nbformat.write(nbgrader_source(one.stem, root), path)
    (out / "nbgrader_config.py").write_text(CONFIG.format(name=project(root)["name"]), "utf-8")
    (out / "README.md").write_text(TEACHER, "utf-8")
    for name in ("course", "data"):
        shutil.copytree(root / name, out / name, ignore=shutil.ignore_patterns("__pycache__", "make_*.py"))
    (out / "tools").mkdir()
    for name in NBGRADER_TOOLS:
        shutil.copy(root / "tools" / f"{name}.py", out / "tools" / f"{name}.py")


def classroom(out: Path = OUT, root: Path = ROOT) -> None:
    """Write both folders anew; what teachers keep in nbgrader/ (its data base, submissions, grades) stays.

    Args:
      out: the folder; made where it is not there.
      root: the repository.
    """
    shutil.rmtree(out / "learners", ignore_errors=True)
    for name in ("source", "course", "data", "tools"):
        shutil.rmtree(out / "nbgrader" / name, ignore_errors=True)
    learners(out / "learners", root)
    nbgrader_course(out / "nbgrader", root)
    found = [path for path in (out / "learners").rglob("*.ipynb") if "### BEGIN SOLUTION" in path.read_text("utf-8")]
    assert not found, f"expected no solutions among what learners get, got {found}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    classroom(options.out)
    sheets = grade.sheets()
    count = sum(len(one.exercises) for one in sheets.values())
    print(f"{options.out}/learners: {len(lessons())} lessons, {len(sheets)} exercise notebooks, {count} exercises")
    print(f"{options.out}/nbgrader: {len(sheets)} assignments, with solutions; keep it to yourself")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
