"""Pages of exercises: hints and solution folded below each check, and nowhere else; downloads are what is committed."""

import html
import re
from functools import cache
from itertools import pairwise

import nbformat
import pytest

from course.checks import core, solutions
from tools.book import __main__, notebooks, page
from tools.book.places import docname
from tools.lessons import GENERATED, ROOT, Lesson, exercises, lessons

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


@pytest.mark.parametrize("hint", [
    "Then: «return {'count': count, 'mean': mean}, row».",
    "«def go_on(carry): _, old = carry; return jnp.abs(old) > tol»",
    "One image: «jnp.pad», then «lax.dynamic_slice» at (i, j, 0); «jax.vmap(f)(x)»'s result is a batch.",
    "here «ddof=1», and «mask=» of «optax.adamw»",
    "divided by «real.sum()»; the row is «x[i]», its end «[:, None]», its gradient «.grad».",
    "computes «x @ weight.T + bias», under «@nn.compact», with «seq_lengths=lengths».",
    "«first, second = jax.random.split(key)»; then key is used up.",
    "«floor + rate * jnp.cos(t)» for t epochs (see «optax.apply_updates» there).",
])  # fmt: skip
def test_code_in_a_hint_is_marked(hint):
    text = hint.replace("«", "").replace("»", "")
    assert html.unescape(notebooks.with_code(text)).replace("<code>", "«").replace("</code>", "»") == hint


@pytest.mark.parametrize("text", [
    "mean(residual^2) + 10 mean((u - sin pi x)^2 + u_t^2) + 5 mean(u^2 + 0.1 u_xx^2)",
    "By the chain rule the Hessian of u is A^T H A, with H the Hessian of g at A x + b, (k, k).",
    "lift = a + s x + (b - a - s) x^2, factor = x^2 (1 - x), and F[f] = 0 where f is even.",
    "tanh' = 1 - tanh², tanh'' = -2 tanh (1 - tanh²).",
    "step(state, key) -> (new state, loss): u_xx, w_k and 1 - exp(z) at -1 <= z, e.g. on [-1, 1].",
    "Keep float64; one goes in, one comes out: Adam's carry is (c, h) and its axis is the last",
    "The index is -1 (not 0, as in NumPy [here]) for min(1, limit / norm), the shape ().",
])  # fmt: skip
def test_prose_and_mathematics_stay_as_they_are(text):
    assert notebooks.with_code(text) == html.escape(text, quote=False)


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


def test_a_lesson_that_is_not_built_is_named(monkeypatch, capsys):
    monkeypatch.setattr(__main__, "lessons", lambda: [Lesson("08_tracing"), Lesson("08d_my_topic")])
    monkeypatch.setattr(__main__.shutil, "rmtree", lambda *_, **__: pytest.fail("the old book is gone"))
    assert __main__.main() == 1
    assert "got none of 08d_my_topic; run `make build`" in capsys.readouterr().out
