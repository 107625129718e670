"""The guards, asked about this repository. test_guards_fail.py shows that each of them can fail."""

import hashlib
import subprocess
import sys

import nbformat
import pytest

from tools import guards, readme
from tools.lessons import ROOT, lessons

LESSONS = {lesson.stem: lesson for lesson in lessons()}
SIBLINGS = ("01a_titanic_torch", "01b_titanic_nnx", "01c_titanic_linen")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("data/*.md")])
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.glob("course/**/*.py")
    if path.stat().st_size
)

# What each module (or package) may bring along when it is imported; the watched packages are the heavy or foreign ones.
WATCHED = {"numpy", "pandas", "sklearn", "torch", "jax", "flax", "optax", "tqdm", "matplotlib"}
JAX, FLAX = {"numpy", "jax"}, {"numpy", "jax", "flax", "optax"}  # flax itself imports optax
IMPORTS = {
    "course.checked_csv": {"numpy", "pandas"},
    "course.data": {"numpy", "pandas"},
    "course.metrics": {"numpy", "pandas"},
    "course.batching": {"numpy"},
    "course.loaders": {"numpy", "torch", "tqdm"},  # torch itself imports tqdm where there is one
    "course.timing": JAX,
    "course.results": {"numpy", "pandas"},
    "course.newton_cg": JAX,
    "course.functional": JAX,
    "course.stde": JAX,
    "course.pde": {"numpy", "jax", "optax"},
    "course.taylor": JAX,
    "course.plots": {"numpy", "matplotlib"},
    "course.convnet": JAX | {"torch", "tqdm"},
    "course.layouts": {"numpy", "torch", "tqdm"},
    "course.activations": FLAX | {"torch", "tqdm"},
    "course.porting": FLAX | {"torch", "tqdm"},
    "course.torch_compile": set(),
    "course.train.compiled": {"numpy", "jax", "optax"},
    "course.train.titanic_torch": {"numpy", "pandas", "torch", "tqdm"},
    "course.train.titanic_nnx": FLAX | {"pandas", "tqdm"},
    "course.train.titanic_linen": FLAX | {"pandas", "tqdm"},
    "course.train.rungs": FLAX | {"pandas", "tqdm"},
}


def built(stem):
    return nbformat.read(LESSONS[stem].notebook, as_version=4)


def code_of(module):
    path = ROOT / module.replace(".", "/")
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")


@pytest.mark.parametrize("stem", LESSONS)
def test_source_and_notebook_agree(stem):
    assert guards.source_and_notebook_differ(LESSONS[stem], built(stem)) == []


@pytest.mark.parametrize("stem", LESSONS)
def test_every_cell_was_executed_in_order(stem):
    assert guards.not_executed_in_order(stem, built(stem)) == []


@pytest.mark.parametrize("stem", LESSONS)
def test_outputs_are_small_and_stable(stem):
    assert guards.forbidden_outputs(stem, built(stem), LESSONS[stem].notebook.stat().st_size) == []


DESCRIBED = [stem for stem in LESSONS if stem >= "16"]  # the others follow


@pytest.mark.parametrize("stem", DESCRIBED)
def test_pictures_are_described(stem):
    assert guards.undescribed_pictures(stem, built(stem)) == []


@pytest.mark.parametrize("stem", LESSONS)
def test_sources_have_no_long_lines(stem):
    assert guards.long_lines(stem, LESSONS[stem].source.read_text("utf-8")) == []


@pytest.mark.parametrize("stem", LESSONS)
def test_cells_that_are_not_compared_say_why(stem):
    assert guards.unexplained_volatile_cells(stem, built(stem)) == []


@pytest.mark.parametrize("stem", LESSONS)
def test_lesson_has_its_shape(stem):
    assert guards.misshapen_lesson(stem, built(stem)) == []


def test_siblings_share_their_steps():
    assert guards.siblings_disagree({stem: built(stem) for stem in SIBLINGS}) == []


@pytest.mark.parametrize("stem", SIBLINGS[1:])
def test_quotations_stand_in_the_torch_lesson(stem):
    assert guards.unfaithful_quotations(stem, built(stem), built(SIBLINGS[0])) == []


@pytest.mark.parametrize("module", MODULES)
def test_taught_code_is_the_packaged_code(module):
    lesson_code = {stem: lesson.source.read_text("utf-8") for stem, lesson in LESSONS.items()}
    assert guards.taught_differs_from_packaged(module, code_of(module), lesson_code) == []


def test_every_module_declares_its_imports():
    """A module of a package that offers names comes along with the package, whose line counts for all of it."""
    assert {m for m in MODULES if m.rpartition(".")[0] not in MODULES} == set(IMPORTS)


# a process of its own that imports a framework takes a second or two: not for `make check`
HEAVY = {module for module, allowed in IMPORTS.items() if allowed & {"torch", "jax"}}


@pytest.mark.parametrize(
    "module", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in IMPORTS]
)
def test_module_imports_only_what_it_declares(module):
    assert guards.undeclared_imports(module, IMPORTS[module], WATCHED) == []


@pytest.mark.parametrize("module", MODULES)
def test_public_names_have_docstrings(module):
    assert guards.undocumented_names(module, code_of(module)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_resolve(page):
    text = page.read_text("utf-8")
    assert guards.broken_links(page.name, text, page.parent) == []
    assert guards.wrong_badges(page.name, text, ROOT) == []


@pytest.mark.parametrize("stem", LESSONS)
def test_links_and_badges_of_lessons_resolve(stem):
    text = "\n\n".join(cell.source for cell in built(stem).cells if cell.cell_type == "markdown")
    assert "colab" in text and "kaggle" in text
    assert guards.broken_links(stem, text, LESSONS[stem].notebook.parent) == []
    assert guards.wrong_badges(stem, text, ROOT) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_in_the_makefile(page):
    assert guards.unknown_targets(page.name, page.read_text("utf-8"), (ROOT / "Makefile").read_text("utf-8")) == []


def test_generated_parts_of_readme_are_current():
    text = (ROOT / "README.md").read_text("utf-8")
    assert readme.render(text) == text, "run `make build`"


def test_readme_shows_the_lessons_training_steps():
    code = "\n".join(LESSONS[stem].source.read_text("utf-8") for stem in SIBLINGS)
    text = (ROOT / "README.md").read_text("utf-8")
    for comment in (
        "  # PyTorch",
        "  # Flax NNX: gradients are returned",
        "  # Flax Linen: state goes in and comes out",
    ):
        text = text.replace(comment, "")
    assert guards.unquoted_readme_code(text, code) == []


def test_every_requirement_has_a_purpose():
    assert guards.purposeless_requirements((ROOT / "requirements.txt").read_text("utf-8")) == []


def test_dataset_is_the_wheels_table_and_its_hash_is_documented():
    table = (ROOT / "data" / "titanic.csv").read_bytes()
    assert hashlib.sha256(table).hexdigest() in (ROOT / "data" / "README.md").read_text("utf-8")
    made = subprocess.run(
        [sys.executable, "-c", "import make_titanic, sys; sys.stdout.buffer.write(make_titanic.make())"],
        cwd=ROOT / "data", capture_output=True, check=True,
    )  # fmt: skip
    assert made.stdout == table
