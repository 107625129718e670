"""What build, run and adopt promise."""

import shutil
import subprocess
import sys
import zipfile

import jax.numpy as jnp
import nbformat
import pytest
from packaging.requirements import Requirement

from tools import build, environment, lessons, run
from tools.adopt import AdoptError, adopt
from tools.floor import pins
from tools.lessons import ROOT, Lesson, as_notebook, execute, project, tagged_output

STEM = "01a_titanic_torch"

SOURCE = """\
# %% [markdown]
# # 00 · Tiny
#
# **Is it?** (1 minutes)

# %% [markdown] tags=["step:data"]
# After this lesson you can
#
# - nothing.

# %%
import math

# %% tags=["report"]
print(f"pi is {math.pi:.2f}")
"""


@pytest.fixture
def tiny(tmp_path):
    """A repository with one short lesson."""
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    lesson = Lesson("00_tiny", tmp_path)
    lesson.source.write_text(SOURCE, "utf-8")
    return lesson


def built(lesson):
    """As the build writes it, without outputs: no test here looks at them, and a kernel takes a second."""
    notebook = as_notebook(lesson)
    nbformat.write(notebook, lesson.notebook)
    return notebook


@pytest.mark.parametrize("lesson", lessons.lessons(), ids=lambda lesson: lesson.stem)
def test_an_untouched_notebook_is_adopted_to_the_letter(lesson, tmp_path):
    copy = Lesson(lesson.stem, tmp_path)
    copy.source.parent.mkdir(parents=True)
    shutil.copy(lesson.source, copy.source)
    nbformat.write(as_notebook(lesson), copy.notebook)
    adopt(copy.notebook, tmp_path)
    assert copy.source.read_text("utf-8") == lesson.source.read_text("utf-8")


def test_an_edit_is_adopted_without_generated_cells(tiny):
    notebook = built(tiny)
    notebook.cells[-1].source = 'print("edited")'
    notebook.cells[-1].metadata["id"] = "a host's own"
    notebook.metadata["colab"] = {"name": "copy"}
    nbformat.write(notebook, tiny.notebook)
    adopt(tiny.notebook, tiny.root)
    assert tiny.source.read_text("utf-8") == SOURCE.replace('print(f"pi is {math.pi:.2f}")', 'print("edited")')


def test_adopting_over_a_changed_source_is_refused(tiny):
    built(tiny)
    tiny.source.write_text(SOURCE + "\n# %%\n1 + 1\n", "utf-8")
    with pytest.raises(AdoptError, match="changed since"):
        adopt(tiny.notebook, tiny.root)


def test_adopting_something_else_is_refused(tiny):
    with pytest.raises(AdoptError, match="no other"):
        adopt(tiny.root / "other.ipynb", tiny.root)
    notebook = built(tiny)
    del notebook.metadata["course"]
    nbformat.write(notebook, tiny.notebook)
    with pytest.raises(AdoptError, match="hash"):
        adopt(tiny.notebook, tiny.root)


def test_a_notebook_is_stale_when_what_it_depends_on_changes(tiny):
    assert build.is_stale(tiny)
    built(tiny)
    assert not build.is_stale(tiny)
    tiny.source.write_text(SOURCE.replace(".2f", ".3f"), "utf-8")
    assert build.is_stale(tiny)
    built(tiny)
    pins_file = tiny.root / "requirements.txt"
    pins_file.write_text(pins_file.read_text().replace("  # ", "  # another word on ") + "# and a line of words\n")
    assert not build.is_stale(tiny)
    pins_file.write_text(pins_file.read_text() + "another==1.0  # purpose\n")
    assert build.is_stale(tiny)


def test_outputs_are_stored_by_the_pinned_environment_alone():
    assert build.unfit("", python=(3, 12)) == ["expected Python 3.11, got 3.12"]
    text = 'nbformat==0.0.1  # old\nno-such-package==1.0\npytest>=1 ; python_version < "3"\npackaging'
    fit = build.unfit(text, python=build.PYTHON)
    assert fit == [f"expected nbformat==0.0.1, got {nbformat.__version__}", "expected no-such-package==1.0, got none"]


def test_another_environment_is_refused_before_anything_runs(tiny, monkeypatch, capsys):
    monkeypatch.setattr(build, "lessons", lambda: [tiny])
    monkeypatch.setattr(build, "exercises", list)
    monkeypatch.setattr(build, "unfit", lambda text: ["expected jax==0.10.2, got 0.12.0"])
    monkeypatch.setattr(build, "execute_all", lambda *_: pytest.fail("a lesson ran"))
    monkeypatch.setattr("sys.argv", ["build"])
    assert build.main() == 1
    printed = capsys.readouterr().out
    assert "not built: expected jax==0.10.2, got 0.12.0" in printed and "00_tiny; `make setup`" in printed


def test_the_build_writes_the_minutes_and_then_nothing_more(tiny):
    words = "# - nothing.\n#\n# " + "word " * 1990
    tiny.source.write_text(SOURCE.replace("# - nothing.", words.rstrip()), "utf-8")
    build.finish(tiny, lessons.Execution(as_notebook(tiny), seconds=4.0, cpu_seconds=4.0, failure=None))
    assert lessons.title_of(tiny)[2] == 10
    kept = tiny.source.read_text("utf-8"), tiny.notebook.read_text("utf-8")
    assert "**Is it?** (10 minutes)" in kept[1] and not build.is_stale(tiny)
    build.finish(tiny, lessons.Execution(nbformat.reads(kept[1], 4), seconds=1.0, cpu_seconds=1.0, failure=None))
    assert (tiny.source.read_text("utf-8"), tiny.notebook.read_text("utf-8")) == kept


def test_a_change_in_an_imported_module_makes_a_notebook_stale(tiny):
    package = tiny.root / "course"
    package.mkdir()
    (package / "outer.py").write_text("from course.inner import x\n")
    (package / "inner.py").write_text("x = 1\n")
    tiny.source.write_text(SOURCE.replace("import math", "import math\nfrom course import outer"), "utf-8")
    before = as_notebook(tiny).metadata["course"]
    (package / "inner.py").write_text("x = 2\n")
    assert as_notebook(tiny).metadata["course"] != before


MODULE = '''"""What it is."""

LIMIT = 3
"""What the limit is."""


def twice(x):
    """Twice x."""
    return x + x  # quicker than a product
'''


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("What it is.", "What it was.", False),
        ("What the limit is.", "How far.", False),
        ('    """Twice x."""\n', "", False),
        ("  # quicker than a product", "", False),
        ("x + x", "(x + x)", False),
        ("x + x", "2 * x", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("LIMIT = 3", 'LIMIT = "3"', True),
    ],
)
def test_words_make_no_notebook_stale_and_expressions_do(tiny, old, new, stale):
    (tiny.root / "course").mkdir()
    for name, text in [("__init__.py", '"""An index."""\n'), ("module.py", MODULE)]:
        (tiny.root / "course" / name).write_text(text)
    tiny.source.write_text(SOURCE.replace("import math", "import math\nfrom course import module"), "utf-8")
    built(tiny)
    assert old in MODULE
    (tiny.root / "course" / "module.py").write_text(MODULE.replace(old, new))
    (tiny.root / "course" / "__init__.py").write_text('"""A longer index."""\n')
    assert build.is_stale(tiny) == stale


@pytest.mark.parametrize("changed", ["course/__init__.py", "course/box/__init__.py", "course/box/inner.py"])
@pytest.mark.parametrize(
    "line", ["from course import box", "from course.box import x", "import course.box", "import course.box.inner"]
)
def test_a_change_inside_a_package_makes_a_notebook_stale(tiny, changed, line):
    package = tiny.root / "course" / "box"
    package.mkdir(parents=True)
    (tiny.root / "course" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("from .inner import x\n")
    (package / "inner.py").write_text("x = 1\n")
    tiny.source.write_text(SOURCE.replace("import math", f"import math\n{line}"), "utf-8")
    before = as_notebook(tiny).metadata["course"]
    (tiny.root / changed).write_text("x = 2\n")
    assert as_notebook(tiny).metadata["course"] != before


def test_cell_ids_survive_a_rebuild(tiny):
    first = built(tiny)
    tiny.source.write_text(SOURCE.replace("import math", "import math  # for pi"), "utf-8")
    again = lessons.with_ids_of(as_notebook(tiny), tiny.notebook)
    assert [cell.id for cell in again.cells] == [cell.id for cell in first.cells]


@pytest.mark.slow
def test_execution_names_the_failing_cell_and_stops_there(tiny):
    text = SOURCE.replace("import math", "import math\nmath.nothing")
    tiny.source.write_text(text, "utf-8")
    done = execute(as_notebook(tiny), tiny.notebook.parent)
    assert done.failure.startswith("cell 5 (`import math`): AttributeError")
    assert tagged_output(done.notebook, "report") == ""


@pytest.mark.slow
def test_execution_keeps_what_the_report_prints_and_counts_core_seconds(tiny):
    done = execute(as_notebook(tiny), tiny.notebook.parent)
    assert tagged_output(done.notebook, "report") == "pi is 3.14"
    assert done.cpu_seconds > 0 and done.seconds > 0


@pytest.mark.slow
def test_run_fails_naming_lesson_and_cell_and_runs_the_others(tiny, monkeypatch, capsys):
    broken = Lesson("01_broken", tiny.root)
    broken.source.write_text(
        SOURCE.replace("# # 00", "# # 01").replace("import math", "import nothing_of_the_kind"), "utf-8"
    )
    monkeypatch.setattr(run, "lessons", lambda: lessons.lessons(tiny.root))
    monkeypatch.setattr(run, "ROOT", tiny.root)
    monkeypatch.setattr(run, "OUT", tiny.root / "build" / "run")
    monkeypatch.setattr("sys.argv", ["run", "--jobs", "1"])
    assert run.main() == 1
    printed = capsys.readouterr().out
    assert "FAILED 01_broken, cell 5 (`import nothing_of_the_kind`): ModuleNotFoundError" in printed
    assert "00_tiny" in printed and "pi is 3.14" in printed


def test_the_floor_replaces_pins_and_keeps_the_rest():
    floor = pins((ROOT / "requirements" / "floor.txt").read_text("utf-8"))
    pinned = pins((ROOT / "requirements.txt").read_text("utf-8"))
    assert str(floor["jax"][0]) == "jax==0.7.2" and str(floor["flax"][0]) == "flax==0.12.0"
    assert set(floor) - set(pinned) == {"pyparsing"}
    assert len(pinned["jax"]) == 2  # one line for Python 3.11, one for newer ones


def test_the_floor_is_what_the_package_asks_for():
    """requirements/floor.txt has the lowest version that pyproject.toml allows, or one of the same series."""
    floor = pins((ROOT / "requirements" / "floor.txt").read_text("utf-8"))
    for needed in map(Requirement, project()["dependencies"]):
        for pinned in floor.get(needed.name, []):
            (version,) = (each.version for each in pinned.specifier)
            assert needed.specifier.contains(version), f"{needed} leaves out {pinned}"


@pytest.mark.slow
def test_the_wheel_carries_the_dataset_and_the_published_results(tmp_path):
    hatchling = pytest.importorskip("hatchling.builders.wheel")
    wheel = next(hatchling.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        for name in ("titanic.csv", "crepe_tiny.safetensors"):
            assert archive.read(f"course/{name}") == (ROOT / "data" / name).read_bytes()
        assert "course/py.typed" in archive.namelist()
        assert not [name for name in archive.namelist() if not name.startswith(("course/", "torch_to_jax_course"))]
        archive.extractall(tmp_path / "unpacked")
    code = """if True:
        from course import data, results
        print(data.EMBEDDED, len(data.load_titanic()), results.FOLDER, "tables" in results.load("titanic_speed"))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(tmp_path / "unpacked"), "PATH": ""},
    )  # fmt: skip
    package = tmp_path / "unpacked" / "course"
    expected = [package / "titanic.csv", 1309, package / "published_results", True]
    assert done.stdout.split() == list(map(str, expected))
    names = {path.name for path in (ROOT / "benchmarks" / "results").iterdir()}
    assert {path.name for path in (package / "published_results").iterdir()} == names


def test_double_precision_ends_with_its_block():
    assert jnp.ones(1).dtype == jnp.float32
    with pytest.raises(KeyError), environment.double_precision():
        assert jnp.ones(1).dtype == jnp.float64
        raise KeyError
    assert jnp.ones(1).dtype == jnp.float32


def test_alarms_of_the_compiler_are_no_warnings():
    """XLA rings them by the clock; what a program itself says still counts, before an alarm and after it."""
    place = "2026-11-26 10:00:00.1: E external/xla/xla/service/slow_operation_alarm.cc:"
    folding = (
        f"{place}73] Constant folding an instruction is taking > 1s:\n\n  %dot = f32[2]\n\nThis isn't a bug. If you'd "
    )
    folding += "like to file a bug, run with envvar XLA_FLAGS=--xla_dump_to=/tmp/foo and attach the results.\n"
    compiling = f"{place}73] \n{'*' * 32}\nVery slow compile? run with envvar and attach the results.\n{'*' * 32}\n"
    text = folding + folding.replace("73] ", "140] The operation took 1.5s\n") + compiling

    def said(text):
        cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", name="stderr", text=text)])
        return lessons.stderr_of(nbformat.v4.new_notebook(cells=[cell]), alarms=False)

    assert said(text) == []
    assert said(text + "UserWarning: x\n") == said("UserWarning: x\n" + text) == ["cell 1: UserWarning: x"]


def test_nbval_passes_over_alarms_and_shows_what_a_cell_wrote(tmp_path):
    alarm = "E1 slow_operation_alarm.cc:73] Constant folding an instruction is taking > 1s"
    lines = [f"import sys; print({text!r}, file=sys.stderr)" for text in (alarm, "UserWarning: what was it")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(x, execution_count=1) for x in lines])
    nbformat.write(notebook, tmp_path / "lesson.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", "pyproject.toml", "--nbval", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "UserWarning: what was it" in done.stdout.partition("what the cell wrote to stderr")[2]


@pytest.mark.parametrize(
    ("address", "book"),
    [
        ("https://github.com/Someone/course", "https://someone.github.io/course/"),
        ("https://github.com/Someone/course.git", "https://someone.github.io/course/"),
        ("https://github.com/someone/someone.github.io/", "https://someone.github.io/"),
        ("https://gitlab.com/group/part/course", None),
        ("https://github.com/someone/course/tree/main", None),
        ("git@github.com:someone/course", None),
    ],
)
def test_the_books_address_follows_from_the_repositorys(address, book, tmp_path):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "0.1.0"\nurls.Repository = "{address}"\n')
    if book:
        assert lessons.book_address(tmp_path) == book
        return
    for ask in (lambda: lessons.book_address(tmp_path), lambda: lessons.badges("x", address, "v0.1.0")):
        with pytest.raises(ValueError, match=r"expected https://github.com/owner/name, got .*; see \[project.urls\]"):
            ask()
