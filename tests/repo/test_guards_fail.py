"""A guard that can't fail is worth nothing: one planted fault for each."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import guards, readme
from tools.lessons import ROOT, Lesson, address, lessons, tag

STEM = "01b_titanic_nnx"
LESSON = Lesson(STEM)


@pytest.fixture
def notebook():
    return nbformat.read(LESSON.notebook, as_version=4)


@pytest.fixture
def torch_notebook():
    return nbformat.read(Lesson("01a_titanic_torch").notebook, as_version=4)


def cell_with(notebook, text):
    return next(cell for cell in notebook.cells if text in cell.source)


def test_an_edited_notebook_is_seen(notebook):
    cell_with(notebook, "loss_fn").source += "\n# edited in a browser"
    (fault,) = guards.source_and_notebook_differ(LESSON, notebook)
    assert f"make adopt NB=notebooks/{STEM}.ipynb" in fault and "make build" in fault


def test_a_lost_tag_is_seen(notebook):
    next(cell for cell in notebook.cells if "step:grad" in guards.tags_of(cell)).metadata["tags"] = []
    assert guards.source_and_notebook_differ(LESSON, notebook)


def test_a_dropped_last_cell_is_seen(notebook):
    notebook.cells.pop()
    assert guards.source_and_notebook_differ(LESSON, notebook)


def test_a_cleared_cell_is_seen(notebook):
    cell_with(notebook, "numpy_collate").execution_count = None
    assert guards.not_executed_in_order(STEM, notebook)


def test_a_cell_executed_twice_is_seen(notebook):
    notebook.cells[-2].execution_count += 1
    assert guards.not_executed_in_order(STEM, notebook)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (new_output("display_data", {"image/svg+xml": "<svg/>"}), "forbidden output type"),
        (new_output("display_data", {"text/html": "<b>rich</b>", "text/plain": ""}), "no DataFrame"),
        (new_output("stream", name="stderr", text="FutureWarning: soon"), "stderr"),
        (new_output("stream", name="stdout", text="<Model at 0x7f0012345678>"), "memory address"),
        (new_output("stream", name="stdout", text="40/40 [00:01<00:00, 30.1it/s]"), "progress bar"),
        (new_output("stream", name="stdout", text="/home/me/course"), "path of one machine"),
        (new_output("error", ename="NameError", evalue="x"), "stored error"),
    ],
)
def test_a_forbidden_output_is_seen(output, expected):
    (fault,) = guards.forbidden_outputs("x", new_notebook(cells=[new_code_cell("1", outputs=[output])]), 1)
    assert expected in fault


def test_a_large_notebook_is_seen(notebook):
    assert guards.forbidden_outputs(STEM, notebook, guards.MAX_NOTEBOOK_BYTES + 1)


def test_a_volatile_cell_without_a_reason_is_seen(notebook):
    assert guards.unexplained_volatile_cells(STEM, notebook) == []
    first, second = [cell for cell in notebook.cells if "nbval-ignore-output" in guards.tags_of(cell)]
    first.metadata["volatile"] = " "
    second.metadata["tags"] = []
    without, needless = guards.unexplained_volatile_cells(STEM, notebook)
    assert 'volatile="milliseconds"' in without and "remove the reason" in needless


@pytest.mark.parametrize(
    "break_it",
    [
        lambda cells: cells.__setitem__(0, new_markdown_cell("# A title without a number")),
        lambda cells: cells.pop(2),  # what you will be able to do; cell 2 is the generated badges
        lambda cells: cells.insert(3, new_code_cell("x = 1")),  # something before the imports
        lambda cells: cells.append(new_markdown_cell("one more thing")),
        lambda cells: cells.append(new_code_cell("\n".join(["x = 1"] * 26))),
        lambda cells: cells.__delitem__(slice(10, None)),
        lambda cells: cells.extend([new_code_cell("1")] * 30),
    ],
)
def test_a_misshapen_lesson_is_seen(notebook, break_it):
    assert guards.misshapen_lesson(STEM, notebook) == []
    break_it(notebook.cells)
    assert guards.misshapen_lesson(STEM, notebook)


def test_siblings_with_swapped_steps_are_seen(notebook):
    steps = [cell for cell in notebook.cells if any(t.startswith("step:") for t in guards.tags_of(cell))]
    steps[2].metadata, steps[3].metadata = steps[3].metadata, steps[2].metadata
    assert guards.siblings_disagree({STEM: notebook})


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("optimizer.step()", "optimizer.walk()"),  # not in 01a
        lambda text: text.replace("```python", "```"),  # no quotation
        lambda text: text.replace("    loss.backward()\n", ""),  # lines in 01a, but not together
    ],
)
def test_an_unfaithful_quotation_is_seen(notebook, torch_notebook, edit):
    cell = next(cell for cell in notebook.cells if "step:update" in guards.tags_of(cell))
    assert edit(cell.source) != cell.source
    cell.source = edit(cell.source)
    assert guards.unfaithful_quotations(STEM, notebook, torch_notebook)


def test_a_quotation_of_seven_lines_is_seen(notebook, torch_notebook):
    seven = "\n".join(cell_with(torch_notebook, "class TitanicMLP").source.splitlines()[:7])
    cell = next(cell for cell in notebook.cells if "step:model" in guards.tags_of(cell))
    cell.source = f"## Step\n\n```python\n{seven}\n```"
    assert guards.unfaithful_quotations(STEM, notebook, torch_notebook)


PACKAGED = '''
def double(x: int) -> int:
    """Twice x. Taught in 99_doubling."""
    return 2 * x


def _inner(x):
    """Taught in 99_doubling as `outer`."""
    return _inner(x - 1) if x else 0
'''
TAUGHT = "def double(x):\n    return 2 * x\n\ndef outer(x):\n    return outer(x - 1) if x else 0\n"


@pytest.mark.parametrize(
    ("lesson", "faults"),
    [
        (TAUGHT, 0),  # docstrings, annotations and the private name may differ
        (TAUGHT.replace("2 * x", "x + x"), 1),
        (TAUGHT.replace("(x - 1)", "(x - 2)"), 1),
        (TAUGHT.replace("def double", "def twice"), 1),
        ("", 2),
    ],
)
def test_taught_code_that_differs_is_seen(lesson, faults):
    assert len(guards.taught_differs_from_packaged("m", PACKAGED, {"99_doubling": lesson})) == faults


def test_an_undeclared_import_is_seen(tmp_path):
    (tmp_path / "planted.py").write_text("import pandas\n")
    assert guards.undeclared_imports("planted", {"numpy"}, {"numpy", "pandas"}, str(tmp_path))
    assert guards.undeclared_imports("planted", {"numpy", "pandas"}, {"numpy", "pandas"}, str(tmp_path)) == []
    assert guards.undeclared_imports("missing_module", set(), set(), str(tmp_path))


def test_a_missing_docstring_is_seen():
    assert guards.undocumented_names("m", '"""A module."""\ndef f():\n    pass\n')
    assert guards.undocumented_names("m", 'def f():\n    """Does."""\n')


def test_a_broken_link_is_seen():
    assert guards.broken_links("page", "see [it](no/such/file.md)", ROOT)
    assert guards.broken_links("page", "see [it](README.md#licence) and [web](https://example.org)", ROOT) == []


@pytest.mark.parametrize(
    ("old", "new"), [(tag(), "v0.0.0"), (address().split("/")[-2], "someone-else"), (STEM, "01z_gone")]
)
def test_a_wrong_badge_is_seen(old, new):
    text = (ROOT / "README.md").read_text("utf-8")
    assert guards.wrong_badges("README.md", text, ROOT) == []
    assert guards.wrong_badges("README.md", text.replace(old, new), ROOT)


def test_an_unknown_command_is_seen():
    makefile = "run: x ## runs\nhidden: x\n"
    assert guards.unknown_targets("page", "type `make run`", "run: ## runs\n") == []
    assert guards.unknown_targets("page", "type `make fly`", "run: ## runs\n")
    assert guards.unknown_targets("page", "```sh\nmake fly    # up\n```", "run: ## runs\n")
    assert guards.unknown_targets("page", "type `make run`", makefile) == ["Makefile: hidden has no line of help"]


def test_a_requirement_without_purpose_is_seen():
    assert guards.purposeless_requirements("numpy==1  # arrays\npandas==2\n")


def test_readme_code_that_no_lesson_has_is_seen():
    assert guards.unquoted_readme_code("```python\n@jit\nx = 1\n```", "x = 1") == []
    assert guards.unquoted_readme_code("```python\nx = 2\n```", "x = 1")
    seven = "\n".join(f"x{i} = 1" for i in range(7))
    assert guards.unquoted_readme_code(f"```python\n{seven}\n```", seven)


def test_a_stale_readme_is_seen():
    text = (ROOT / "README.md").read_text("utf-8")
    assert readme.render(text.replace(f"[{lessons()[0].stem}]", "[old_name]")) == text
    with pytest.raises(ValueError, match="begin lessons"):
        readme.render("# no markers")


def test_a_picture_without_a_description_is_seen():
    notebook = nbformat.read(Lesson("16_derivative_cliff").notebook, as_version=4)
    assert guards.undescribed_pictures("it", notebook) == []
    drawn = next(cell for cell in notebook.cells if "alt" in cell.metadata)
    picture = next(output for output in drawn.outputs if "image/png" in output.get("data", {}))
    picture.metadata = nbformat.NotebookNode()
    assert guards.undescribed_pictures("it", notebook)
    drawn.metadata["alt"] = "A plot."
    assert guards.undescribed_pictures("it", notebook)


def test_a_long_line_is_seen():
    assert guards.long_lines("it", "x" * 121)
    assert guards.long_lines("it", "x" * 120 + '\n# %% alt="' + "x" * 200 + '"') == []


def test_planted_faults_cover_every_guard():
    names = {name for name in vars(guards) if callable(getattr(guards, name)) and not name[0].isupper()}
    imported = {
        "Path",
        "NotebookNode",
        "address",
        "badges",
        "compose",
        "tag",
        "tags_of",
        "first_line",
        "bare_dump",
    }
    here = Path(__file__).read_text("utf-8")
    assert [name for name in sorted(names - imported) if f"guards.{name}(" not in here] == []
