"""The guards of exercises, asked about this repository, and one planted fault for each."""

import re
from pathlib import Path

import jupytext
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tools import build, exercise_guards, guards
from tools.adopt import AdoptError, adopt
from tools.lessons import ROOT, Lesson, as_notebook, exercise_minutes, exercises, lessons, with_minutes

STEM = "09_transformations"
SOURCE = Lesson(STEM, kind="exercise").source
PACKAGE = guards.modules()


@pytest.fixture
def source():
    return jupytext.read(SOURCE, fmt="py:percent")


@pytest.mark.parametrize("exercise", exercises(), ids=lambda exercise: exercise.name)
def test_exercise(exercise):
    assert exercise_guards.of_exercise(exercise, PACKAGE) == []


def test_every_lesson_has_exercises_and_nothing_imports_checks():
    texts = {lesson.stem: lesson.source.read_text("utf-8") for lesson in lessons()}
    stems = [exercise.stem for exercise in exercises(kinds=("exercise",))]
    assert exercise_guards.lessons_without_exercises(stems, texts) == []
    assert exercise_guards.importers_of_checks(PACKAGE) == []


def test_a_stub_and_a_solution_become_two_notebooks(source):
    tags = {kind: [t for c in as_notebook(Lesson(STEM, kind=kind)).cells for t in guards.tags_of(c)]
            for kind in ("exercise", "solution")}  # fmt: skip
    assert "stub" in tags["exercise"] and "solution" not in tags["exercise"]
    assert "solution" in tags["solution"] and "stub" not in tags["solution"]


def test_an_exercise_depends_on_its_own_checks_alone():
    names = {path.relative_to(ROOT / "course").as_posix() for path in Lesson(STEM, kind="solution").modules()}
    assert {"checks/transformations.py", "checks/core.py", "failures.py"} <= names
    assert {"checks/__init__.py", "stde/__init__.py"}.isdisjoint(names)


def first(source, tag):
    return next(n for n, cell in enumerate(source.cells) if tag in guards.tags_of(cell))


def without_given(source):
    for cell in source.cells:
        cell.source = cell.source.replace("**Given**", "Given")


def without_stub(source):
    del source.cells[first(source, "stub")]


def without_solution(source):
    del source.cells[first(source, "solution")]


def stub_is_solved(source):
    source.cells[first(source, "stub")].source = "def clipped_gradient(): return 1"


def solution_first(source):
    n = first(source, "stub")
    source.cells[n : n + 2] = source.cells[n : n + 2][::-1]


def without_check(source):
    del source.cells[first(source, "solution") + 1]


def check_and_more(source):
    source.cells[first(source, "solution") + 1].source += "\nprint('done')"


def misnumbered(source):
    for cell in source.cells:
        cell.source = cell.source.replace("Exercise 2:", "Exercise 4:")


def too_few(source):
    source.cells[2].source = source.cells[2].source.replace("## Exercise 1:", "## Example:")
    source.cells = [cell for cell in source.cells if "Exercise 3" not in cell.source]


def without_link(source):
    source.cells[-1].source = "The end."


def long_cell(source):
    source.cells[first(source, "solution")].source += "\nx = 1" * 25


@pytest.mark.parametrize(
    "break_it",
    [without_given, without_stub, without_solution, stub_is_solved, solution_first, without_check, check_and_more,
     misnumbered, too_few, without_link, long_cell],
)  # fmt: skip
def test_a_misshapen_exercise_is_seen(source, break_it):
    assert exercise_guards.misshapen_exercises(STEM, source) == []
    break_it(source)
    assert exercise_guards.misshapen_exercises(STEM, source)


@pytest.mark.parametrize(
    ("kind", "printed"), [("exercise", "correct: a\n"), ("solution", "not attempted: a\n"), ("solution", "")]
)
def test_a_wrong_outcome_is_seen(kind, printed):
    outputs = [new_output("stream", name="stdout", text=printed)] if printed else []
    notebook = as_notebook(Lesson(STEM, kind=kind))
    notebook.cells = [new_code_cell("checks.a(answer)", outputs=outputs)]
    assert exercise_guards.wrong_outcomes("x", notebook, kind)


def test_untrue_minutes_are_seen_and_mended():
    text, solved = SOURCE.read_text("utf-8"), as_notebook(Lesson(STEM, kind="solution"))
    assert exercise_guards.untrue_exercise_minutes("x", text, solved) == []
    wrong = re.sub(r"(Exercise 1: .*)\(\d+ minutes\)", r"\1(44 minutes)", text)
    assert wrong != text and exercise_guards.untrue_exercise_minutes("x", wrong, solved)
    assert with_minutes(wrong, exercise_minutes(solved)) == text


def test_a_single_minute_is_written_as_one():
    assert with_minutes("# ## Exercise 1: One (2 minutes)\n", [1]) == "# ## Exercise 1: One (1 minute)\n"
    assert with_minutes("# ## Puzzle 1: One (1 minute)\n", [3]) == "# ## Puzzle 1: One (3 minutes)\n"


CHECKS = """
@check(LESSON, "a nudge", "the line", points=2)
def one(rng, one):
    \"\"\"One.\"\"\"

@check(LESSON, "a nudge")
def two(rng, two): ...
"""


def test_checks_that_do_not_match_are_seen(source):
    source.cells = [new_code_cell("checks.one(one)"), new_code_cell("checks.two(two)")]
    (fault,) = exercise_guards.unmatched_checks("x", source, CHECKS)
    assert "two hints" in fault
    assert len(exercise_guards.unmatched_checks("x", source, CHECKS.replace("def two", "def three"))) == 2


def test_a_solution_in_the_package_is_seen(source):
    solution = source.cells[first(source, "solution")].source
    assert exercise_guards.packaged_solutions("x", source, PACKAGE) == []
    (fault,) = exercise_guards.packaged_solutions(
        "x", source, {"course.checks.y": solution.replace("def clip", "def my_clip")}
    )
    assert "clipped_gradient" in fault


def test_a_program_that_differs_is_seen(source):
    source.cells = [new_code_cell("def f(x):\n    return x")]
    assert exercise_guards.differing_programs("x", source, 'def f(x):\n    "Same."\n    return x') == []
    assert exercise_guards.differing_programs("x", source, "def f(x):\n    return 2 * x")


def test_a_lesson_without_exercises_is_seen():
    link = "Exercises: [your turn](exercises/00_x.ipynb)."
    assert exercise_guards.lessons_without_exercises(["00_x"], {"00_x": link}) == []
    assert exercise_guards.lessons_without_exercises([], {"00_x": link})
    assert exercise_guards.lessons_without_exercises(["00_x"], {"00_x": ""})


def test_an_import_of_the_checks_is_seen():
    assert exercise_guards.importers_of_checks({"course.x": "from course.checks import core"})


def test_an_exercise_without_a_notebook_is_seen(tmp_path):
    exercise = Lesson(STEM, tmp_path, "exercise")
    exercise.source.parent.mkdir(parents=True)
    exercise.source.write_text(SOURCE.read_text("utf-8"), "utf-8")
    (fault,) = exercise_guards.of_exercise(exercise, PACKAGE)
    assert "make build" in fault


def test_every_guard_has_a_planted_fault_and_is_asked():
    code = Path(exercise_guards.__file__).read_text("utf-8")
    names = set(re.findall(r"^def (\w+)\((?:[^()]|\n)*\) -> list\[str\]:", code, re.MULTILINE))
    names -= {"called", "of_exercise", "of_exercises"}
    assert len(names) >= 8
    asking, here = code[code.index("def of_exercise(") :], Path(__file__).read_text("utf-8")
    assert [name for name in sorted(names) if f"{name}(" not in asking or f"guards.{name}(" not in here] == []


def test_an_exercise_is_not_adopted():
    for kind in ("exercise", "solution"):
        with pytest.raises(
            AdoptError, match=f"expected a lesson, got an? {kind}.*edit notebooks/src/exercises/{STEM}.py"
        ):
            adopt(Lesson(STEM, kind=kind).notebook)


def test_minutes_are_written_before_the_build(tmp_path, monkeypatch):
    exercise = Lesson(STEM, tmp_path, "exercise")
    exercise.source.parent.mkdir(parents=True)
    for name in ("pyproject.toml", "requirements.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    text = SOURCE.read_text("utf-8")
    exercise.source.write_text(text.replace(" minutes)", "0 minutes)"), "utf-8")
    build.write_minutes(exercise)
    assert exercise.source.read_text("utf-8") == text


def test_prose_counts(source):
    cells = [new_markdown_cell("## Exercise 1: Read (9 minutes)\n" + "word " * 1000)]
    source.cells = cells
    assert exercise_minutes(source) == [5]
