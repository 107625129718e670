"""Pages of exercises: hints and solution folded below each check, and nowhere else; downloads are what is committed."""

import html
import re
from functools import cache
from itertools import pairwise

import nbformat
import pytest

from course.checks import core, solutions
from tools.book import notebooks, page
from tools.book.places import docname
from tools.lessons import GENERATED, ROOT, exercises, lessons

EXERCISES = {found.stem: found for found in exercises(kinds=("exercise",))}


@cache
def cells(stem):
    path = EXERCISES[stem].notebook.relative_to(ROOT).as_posix()
    return notebooks.for_the_web(EXERCISES[stem], path, docname(path)).cells


def is_fold(cell):
    return "course-fold" in cell.source


@pytest.mark.parametrize("stem", EXERCISES)
def test_every_check_has_its_folds(stem):
    asked = {name for name, check in core.REGISTRY.items() if check.lesson == stem}
    above = [before.source for before, cell in pairwise(cells(stem)) if is_fold(cell)]
    found = [notebooks.CALL.search(source)["name"] for source in above]
    assert set(found) == asked and len(found) == len(asked)
    for name, fold in zip(found, filter(is_fold, cells(stem)), strict=True):
        shown = html.unescape(re.sub("</?code>", "", fold.source))
        assert all(hint.replace("`", "") in shown for hint in core.REGISTRY[name].hints)
        assert solutions.find(name, stem) in fold.source
        assert f"correct: {name}" in fold.source
        assert fold.source.count(":::{dropdown}") == len(core.REGISTRY[name].hints) + 1


@pytest.mark.parametrize("stem", EXERCISES)
def test_no_solution_stands_outside_a_fold(stem):
    outside = "\n".join(cell.source for cell in cells(stem) if not is_fold(cell))
    for name, check in core.REGISTRY.items():
        if check.lesson == stem:
            assert solutions.find(name, stem) not in outside
            assert not any(hint in outside for hint in check.hints)


@pytest.mark.parametrize("stem", EXERCISES)
def test_the_rest_is_the_committed_notebook(stem):
    committed = nbformat.read(EXERCISES[stem].notebook, as_version=4).cells
    code = [(cell.source, cell.outputs) for cell in committed if cell.cell_type == "code"]
    assert [(cell.source, cell.outputs) for cell in cells(stem) if cell.cell_type == "code"] == code
    assert notebooks.HOW in cells(stem)[1].source
    words = [cell.source for cell in committed if cell.cell_type == "markdown"]
    badges = sum(GENERATED in cell.metadata.get("tags", []) for cell in committed if cell.cell_type == "markdown")
    assert (
        len([cell for cell in cells(stem) if cell.cell_type == "markdown" and not is_fold(cell)])
        == len(words) - badges + 1
    )


def test_a_check_without_a_solution_is_named():
    with pytest.raises(LookupError, match=r"`solution` above checks\.hessian_vector in puzzles\.ipynb, got none"):
        notebooks.folds("hessian_vector", EXERCISES["puzzles"], "")


def test_hints_are_shown_letter_by_letter():
    assert notebooks.as_html("x * y_ < 1, *so*, `a & b`") == "<p>x * y_ &lt; 1, *so*, <code>a &amp; b</code></p>"


def test_downloads_are_the_committed_files(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "old.ipynb").touch()
    notebooks.stage(tmp_path / "notebooks")
    committed = {path.relative_to(ROOT): path.read_bytes() for path in ROOT.glob("notebooks/**/*.ipynb")}
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.ipynb")} == committed


@pytest.mark.parametrize("stem", [lesson.stem for lesson in lessons()])
def test_a_lesson_and_its_exercises_lead_to_each_other(stem):
    text, target, minutes = page.partner(f"lessons/{stem}")
    assert (text, target) == ("Exercises", f"exercises/{stem}") and minutes >= 5
    assert page.partner(target)[:2] == ("Lesson", f"lessons/{stem}")


def test_what_has_no_lesson_has_no_button():
    assert page.partner("exercises/puzzles") is page.partner("api/course.stde") is page.partner("index") is None
