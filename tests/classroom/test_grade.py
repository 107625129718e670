"""`make grade`: every exercise gets its grade and a message, whatever the others do."""

import csv
import subprocess
import sys

import nbformat
import pytest

from tests.classroom.submissions import NAMES, STEM, replaced, solved
from tools import grade, sandbox
from tools.lessons import ROOT

pytestmark = pytest.mark.classroom
LIMITS = {"seconds": 20.0, "cell_seconds": 5.0}  # of loops without an end; an import of the libraries takes 5 s
WORTH = {"doubled": 1, "mean_square": 3, "last_row": 2}


def test_twenty_submissions_good_bad_and_hostile(root, handed_in, tmp_path):
    folder, expected = handed_in
    before = sorted(path for path in folder.rglob("*"))
    rows = grade.grade_folder(folder, tmp_path, grade.sheets(root), jobs=2, root=root, **LIMITS)
    assert sorted(path for path in folder.rglob("*")) == before
    assert [(row.student, row.exercise) for row in rows] == [
        (student, name) for student in sorted(expected) for name in NAMES
    ]
    for row in rows:
        part = expected[row.student][row.exercise]
        assert row.of == WORTH[row.exercise]
        assert (row.outcome, row.points) == ("correct", row.of) if part is None else row.points == 0, row
        assert part is None or part in row.message, row
    with (tmp_path / "grades.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 60 and sum(int(row["points"]) for row in table) == sum(row.points for row in rows)
    page = (tmp_path / "feedback" / "wrong" / f"{STEM}.md").read_text("utf-8")
    assert page.startswith(f"# {STEM}: 3 of 6 points") and "the sum, not the mean" in page
    flood = tmp_path / "feedback" / "print_flood" / f"{STEM}.md"
    assert flood.stat().st_size < 4 * sandbox.KEPT


def test_an_answer_may_lean_on_the_exercise_before(root):
    cells = replaced(solved(root).cells, "mean_square", "def mean_square(x):\n    return jnp.mean(doubled(x) ** 2) / 4")
    found, _ = grade.outcomes(grade.sheets(root)[STEM], cells, root=root)
    assert {kind for kind, _ in found.values()} == {"correct"}


def test_a_lost_import_and_a_hostile_first_cell_cost_nothing(root):
    cells = [cell for cell in solved(root).cells if not cell.source.startswith("import jax")]
    cells.insert(2, nbformat.v4.new_code_cell("import os\nos._exit(1)"))
    found, _ = grade.outcomes(grade.sheets(root)[STEM], cells, root=root)
    assert {kind for kind, _ in found.values()} == {"correct"}


def test_without_a_sandbox_only_trusted_work_is_graded(root, handed_in, tmp_path, monkeypatch):
    folder, _ = handed_in
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    sandbox.sandbox.cache_clear()
    try:
        with pytest.raises(grade.Refused, match=r"expected Linux with bubblewrap.*TRUSTED=1"):
            grade.grade_folder(folder, tmp_path, grade.sheets(root), root=root)
        assert not any(tmp_path.iterdir())
        alone = tmp_path / "trusted"
        alone.mkdir()
        for name in ("good", "endless_python_loop"):
            (alone / name).symlink_to(folder / name)  # a link to a folder is left out
        (alone / f"ada-{STEM}.ipynb").write_text((folder / "wrong" / f"{STEM}.ipynb").read_text("utf-8"), "utf-8")
        rows = grade.grade_folder(alone, tmp_path / "out", grade.sheets(root), root=root, trusted=True, **LIMITS)
    finally:
        sandbox.sandbox.cache_clear()
    assert [(row.student, row.exercise, row.points) for row in rows if row.student == "ada"] == [
        ("ada", "doubled", 1), ("ada", "mean_square", 0), ("ada", "last_row", 2),
    ]  # fmt: skip


def test_the_command_says_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "tools.grade", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stdout.startswith("expected a folder with one folder a student, got ")
