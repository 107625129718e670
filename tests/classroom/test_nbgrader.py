"""The real nbgrader takes the course that `make classroom` writes, and twenty submissions in one go."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.classroom.submissions import NAMES, STEM
from tools import grade
from tools.classroom import nbgrader_source
from tools.lessons import Lesson, as_notebook, exercises

pytestmark = pytest.mark.classroom
LIMITS = ["--Sandboxed.seconds=20", "--Sandboxed.cell_seconds=5"]


def ran(folder, *command):
    """Run a program of this environment in a folder, without this repository on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def course(handed_out):
    """The nbgrader course, its assignment released."""
    program = shutil.which("nbgrader", path=str(Path(sys.executable).parent))
    assert program, "expected nbgrader in this environment; run make test-classroom"
    ran(handed_out / "nbgrader", program, "generate_assignment", STEM)
    return handed_out / "nbgrader", program


def test_released_cells_are_the_stubs_and_hold_no_hidden_test(course, root):
    folder, _ = course
    released = nbformat.read(folder / "release" / STEM / f"{STEM}.ipynb", as_version=4)
    ours = as_notebook(Lesson(STEM, root, "exercise"))
    code = [cell.source for cell in released.cells if cell.cell_type == "code"]
    assert code == [cell.source for cell in ours.cells if cell.cell_type == "code"]
    ids = {
        cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader
        for cell in released.cells
        if "nbgrader" in cell.metadata
    }
    assert list(ids) == [part for name in NAMES for part in (f"{name}-answer", name)]
    assert [ids[name].points for name in NAMES] == [1, 3, 2] and all(ids[name].locked for name in NAMES)


@pytest.mark.parametrize("lesson", exercises(kinds=("exercise",)), ids=lambda lesson: lesson.stem)
def test_every_exercise_of_the_course_has_its_place(lesson):
    source = nbgrader_source(lesson.stem)
    graded = [
        cell.metadata.nbgrader.grade_id for cell in source.cells if cell.metadata.get("nbgrader", {}).get("grade")
    ]
    asked = grade.sheet(lesson.stem, as_notebook(lesson).cells, grade.points())
    assert graded == [one.name for one in asked.exercises] and graded
    assert all(one.heading and one.answers for one in asked.exercises)


@pytest.mark.filterwarnings("ignore")  # nbgrader's own, about its data base
def test_twenty_submissions_in_one_go(course, handed_in):
    folder, program = course
    submissions, expected = handed_in
    said = ran(folder, sys.executable, "-m", "tools.nbgrader_parts", "collect", str(submissions))
    assert said.count("expected") == 3  # no JSON, 200 MB, a link
    ran(folder, program, "autograde", STEM, *LIMITS)
    ran(folder, program, "generate_feedback", STEM)
    rows = scores(folder / "gradebook.db")
    assert len(rows) == 60
    for student, parts in expected.items():
        for name, part in parts.items():
            points, most = rows[student, name]
            assert points == (most if part is None else 0), (student, name)
        page = (folder / "feedback" / student / STEM / f"{STEM}.html").read_text("utf-8")
        assert "Score:" in page
    assert "the sum, not the mean" in (folder / "feedback" / "wrong" / STEM / f"{STEM}.html").read_text("utf-8")
    assert "Not read:" in (folder / "feedback" / "no_json" / STEM / f"{STEM}.html").read_text("utf-8")


def scores(database):
    """(student, exercise) -> points and the most that there are, as nbgrader's own data base has them."""
    from nbgrader.api import Gradebook

    found = {}
    with Gradebook(f"sqlite:///{database}") as book:
        for student in book.students:
            notebook = book.find_submission_notebook(STEM, STEM, student.id)
            found.update({(student.id, one.name): (one.auto_score, one.max_score) for one in notebook.grades})
    return found
