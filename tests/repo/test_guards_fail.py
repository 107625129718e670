"""A guard that can't fail is worth nothing: one planted fault for each."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import exercise_guards, guards, links, readme, teaching
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
    first = next(cell for cell in notebook.cells if "nbval-ignore-output" in guards.tags_of(cell))
    second = new_code_cell("1", metadata={**first.metadata})
    notebook.cells.append(second)
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
    return _inner(x - 1) if x else _last(0)


_last = int
'''
TAUGHT = "def double(x):\n    return 2 * x\n\ndef outer(x):\n    return outer(x - 1) if x else last(0)\n"


@pytest.mark.parametrize(
    ("lesson", "faults"),
    [
        (TAUGHT, 0),  # docstrings, annotations and the private names may differ
        (TAUGHT.replace("last(0)", "first(0)"), 1),
        (TAUGHT.replace("2 * x", "x + x"), 1),
        (TAUGHT.replace("(x - 1)", "(x - 2)"), 1),
        (TAUGHT.replace("def double", "def twice"), 1),
        ("", 2),
    ],
)
def test_taught_code_that_differs_is_seen(lesson, faults):
    assert len(guards.taught_differs_from_packaged("m", PACKAGED, {"99_doubling": lesson})) == faults


@pytest.mark.parametrize(
    ("docstring", "needs"),
    [
        ("Does this. Needs NumPy, JAX\nand Orbax; one function also uses torch.", {"NumPy", "JAX", "Orbax"}),
        ("Needs NumPy only.", {"NumPy"}),
        ("Needs nothing but Python. Lesson: 08_tracing.", set()),
        ("Says nothing.", None),
    ],
)
def test_needs_are_read(docstring, needs):
    assert guards.stated_needs(docstring) == needs


def test_unstated_needs_are_seen():
    assert guards.unstated_needs("m", "Needs NumPy and JAX.") == []
    assert "got no 'Needs'" in guards.unstated_needs("m", "Says nothing.")[0]
    assert "['Jax']" in guards.unstated_needs("m", "Needs NumPy and Jax.")[0]


def test_untrue_needs_are_seen(tmp_path):
    """Stand-ins for the packages: what counts is what comes along, not what it does."""
    for name in ("numpy", "tqdm"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "pandas.py").write_text("import numpy")
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "__init__.py").write_text("import tqdm")
    (tmp_path / "box" / "inner.py").write_text("import pandas")

    def faults(module, docstring):
        return guards.untrue_needs({module: docstring}, tmp_path)

    assert faults("box.inner", "Needs pandas.") == []  # pandas brings NumPy, and box is not asked for tqdm
    assert faults("box.inner", "Needs NumPy and pandas.") == []
    assert faults("box.inner", "Needs NumPy.") == ["box.inner: imports pandas; say so in its docstring, or don't"]
    assert faults("box", "Needs tqdm and JAX.") == ["box: says that it needs JAX, and does not"]
    (fault,) = faults("missing_module", "Needs NumPy.")
    assert "can't be imported" in fault


INDEX = """What there is:

  data       01a_titanic_torch  the passengers
  train.nnx  01b_titanic_nnx    a loop
  pde        19_million         equations
"""
DOCSTRINGS = {
    "course": INDEX, "course.data": "Lesson: 01a_titanic_torch.", "course.pde": "Lessons: 19_million, 20_high.",
    "course.pde.ball": "Lesson: 19_million.", "course.train.nnx": "Lesson: 01b_titanic_nnx; later ones use it.",
}  # fmt: skip
STEMS = ["01a_titanic_torch", "01b_titanic_nnx", "19_million", "20_high"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  data ", "  # ", "no line for course.data"),
        ("  pde ", "  pde.ball ", "lists course.pde.ball, which is not there"),
        ("  pde        19_million ", "  pde        21_gone ", "no such lesson"),
        ("  pde        19_million ", "  pde        20_high ", "expected what the module says, got ['19_million']"),
        ("  train.nnx  01b_titanic_nnx    a loop\n", "", "no line for course.train.nnx"),
        ("  pde ", "  data     01a_titanic_torch  again\n  pde ", "or twice"),
        ("What there is:\n", "\n  pde  19_million  first\n", "move the line of 01a_titanic_torch up"),
    ],
)
def test_an_untrue_index_is_seen(old, new, expected):
    assert guards.untrue_index(INDEX, DOCSTRINGS, STEMS) == []
    assert old in INDEX
    assert any(expected in fault for fault in guards.untrue_index(INDEX.replace(old, new), DOCSTRINGS, STEMS))


def test_a_missing_docstring_is_seen():
    assert guards.undocumented_names("m", '"""A module."""\ndef f():\n    pass\n')
    assert guards.undocumented_names("m", 'def f():\n    """Does."""\n')


def test_a_broken_link_is_seen():
    assert guards.broken_links("page", "see [it](no/such/file.md)", ROOT)
    assert guards.broken_links("page", "see [it](README.md#licence) and [web](https://example.org)", ROOT) == []
    assert guards.broken_links("page", "call `branches[0](x)` of [`it`](README.md)", ROOT) == []
    assert guards.broken_links("page", "call `f(x)` of [`it`](no/such/file.md)", ROOT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see [it](http://docs.jax.dev)", "expected https://docs.jax.dev, got http"),
        ("see [it](https://docs.jax.dev/en page)", "has a space in it"),
        ("see [it](https://docs.jax.dev/en.)", "ends in '.'"),
        ("see [it] (https://docs.jax.dev/en)", "is no link"),
        ("see (it)[https://docs.jax.dev/en]", "is no link"),
        ("see [it](https://docs.jax.dev/en\nand more", "is no link"),
        ("see <https://docs.jax.dev/en,>", "ends in ','"),
        ("Source: https://docs, section 2", "no host like"),
        ("see [it](https://docs.jax.dev:port/en)", "no host like"),
        ("see https://docs.jax.dev/Schrödinger.", "expected ASCII"),
        ("see [it](https://docs.jax.dev/A_(b))", "A_(b) has parentheses; write %28"),
    ],
)
def test_a_misshapen_link_is_seen(text, expected):
    (fault,) = guards.misshapen_links("page", text)
    assert fault.startswith("page: ") and expected in fault


def test_good_links_are_not_touched():
    good = "[a](https://docs.jax.dev/en/latest/jit.html#x), [b](x.md). Bare: https://arxiv.org/abs/2412.00088. <https://jax.dev>"
    assert guards.misshapen_links("page", good) == []
    assert links.links_of(good)[1] == "https://arxiv.org/abs/2412.00088"


def test_missing_words_are_named_cell_by_cell():
    cells = [new_markdown_cell("# 23 · ‹title›"), new_code_cell("x = 1", metadata={"alt": "‹what is seen›"})]
    first, second = guards.missing_words("23_x", new_notebook(cells=cells))
    assert first == "23_x, cell 1 (`# 23 · ‹title›`): words are missing: ‹title›; write them"
    assert "cell 2 (`x = 1`)" in second and "‹what is seen›" in second
    assert guards.missing_words("x", new_notebook(cells=[new_markdown_cell("all < there >")])) == []
    (fault,) = guards.missing_words_of("course/checks/x.py", '"""Checks\n‹of what›."""')
    assert fault == "course/checks/x.py, line 2: words are missing: ‹of what›; write them"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 0", "version: 9"),
        (address(), "https://github.com/someone-else/course"),
        ("\nversion", "\ndate-released: 2020-01-01\nversion"),
    ],
)
def test_a_stale_citation_is_seen(old, new):
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert guards.stale_citation(text, ROOT) == []
    assert old in text and guards.stale_citation(text.replace(old, new), ROOT)


@pytest.mark.parametrize(
    ("old", "new"), [(tag(), "v0.0.0"), (address().split("/")[-2], "someone-else"), (lessons()[0].stem, "00z_gone")]
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
    assert guards.stale_readme(text, ROOT) == []
    stale = text.replace("| [00](", "| [99](")
    assert guards.stale_readme(stale, ROOT) and readme.render(stale) == text
    with pytest.raises(ValueError, match="begin picture"):
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
    drawn.outputs = []
    assert "stored none" in guards.undescribed_pictures("it", notebook)[0]


def test_a_long_line_is_seen():
    assert guards.long_lines("it", "x" * 121)
    assert guards.long_lines("it", "x" * 120 + '\n# %% alt="' + "x" * 200 + '"') == []


def test_a_lesson_without_a_notebook_is_seen(tmp_path):
    (fault,) = guards.of_lesson(Lesson("00_new", tmp_path))
    assert "make build" in fault


def test_every_guard_has_a_planted_fault_and_is_asked():
    """A guard is a function that returns a list of faults."""
    code = Path(guards.__file__).read_text("utf-8")
    names = set(re.findall(r"^def (\w+)\((?:[^()]|\n)*\) -> list\[str\]:", code, re.MULTILINE))
    names -= {"tags_of", "parents", "lessons_of", "of_lesson", "of_package", "of_pages", "of_files"}
    assert len(names) > 15
    asking = code[code.index("def of_lesson") :] + Path(exercise_guards.__file__).read_text("utf-8")
    assert [name for name in sorted(names) if f"{name}(" not in asking] == []
    here = Path(__file__).read_text("utf-8")
    assert [name for name in sorted(names) if f"guards.{name}(" not in here] == []


def test_what_windows_lacks_is_seen():
    for line in ("child = os.fork()", "from signal import SIGKILL", "import resource", "n = os.sched_getaffinity(0)"):
        (fault,) = guards.posix_only("x", f"import os\n{line}\n")
        assert "line 2" in fault and "Windows" in fault
    assert (
        guards.posix_only("x", 'n = os.fork() if hasattr(os, "fork") else 0\nos.path\nprocess.wait()\n# SIGKILL') == []
    )


ERROR = """try:
    f()
except TypeError as error:
    print(type(error).__name__)"""


def test_an_error_that_is_only_named_is_seen():
    (fault,) = guards.unread_errors("x", new_notebook(cells=[new_code_cell(ERROR)]))
    assert "course.failures" in fault
    assert guards.unread_errors("x", new_notebook(cells=[new_code_cell("with fails(TypeError):\n    f()")])) == []


def asked(*questions, below=new_code_cell):
    return new_notebook(cells=[cell for text in questions for cell in (new_markdown_cell(text), below("1"))])


def test_a_question_without_an_answer_is_seen():
    good = "**Predict.** What does this print?"
    assert guards.few_predictions("x", asked(good, good)) == []
    assert "two questions" in guards.few_predictions("x", asked(good))[0]
    assert "code cell below" in guards.few_predictions("x", asked(good, good, below=new_markdown_cell))[0]
    assert "a question" in guards.few_predictions("x", asked(good, "What? **Predict.** It is 1."))[0]


@pytest.mark.parametrize("words", ["in the second cell", "The next cells run", "the cell after it", "(third cell)"])
def test_prose_that_speaks_of_another_cell_is_seen(words):
    assert guards.steering("x", new_notebook(cells=[new_markdown_cell(words)]))
    assert not guards.steering("x", new_notebook(cells=[new_code_cell(words), new_markdown_cell("a GRU cell")]))


def reading(*rows):
    return new_notebook(
        cells=[new_markdown_cell("\n".join(["## Summary", "## Further reading", "", *rows, "", "Next: x"]))]
    )


def test_a_poor_reading_list_is_seen():
    good = "- [JAX](https://docs.jax.dev/en/latest/jit-compilation.html): how it works"
    assert guards.poor_reading_list("x", reading(good, good)) == []
    for rows in ([good], [good] * 6, []):
        assert "two to five" in guards.poor_reading_list("x", reading(*rows))[0]
    for bad in ("- https://docs.jax.dev", "- [JAX](http://docs.jax.dev): why", "- [JAX](https://docs.jax.dev)"):
        assert "got '- " in guards.poor_reading_list("x", reading(good, good, bad))[0]


def test_minutes_that_are_no_longer_true_are_seen():
    cells = [new_markdown_cell("# x\n\n**Why?** (10 minutes)"), new_code_cell("a = 1\n\n# a comment\nb = 2\n" * 20)]
    notebook = new_notebook(cells=cells, metadata={"course": {"seconds": 0}})
    assert guards.untrue_minutes("x", notebook) == []
    notebook.metadata["course"]["seconds"] = 240
    assert "(15 minutes)" in guards.untrue_minutes("x", notebook)[0]
    notebook.metadata["course"]["seconds"] = 0
    cells[0].source += "\n" + "word " * 1000 + "\n```python\n" + "x = 1\n" * 20 + "```"
    assert "(20 minutes)" in guards.untrue_minutes("x", notebook)[0]


def test_teaching_that_is_no_longer_true_is_seen():
    plan = "<!-- begin plan: 09:00 00_start_here, break 15, exercises/09_transformations -->\n{}<!-- end plan -->\n"
    fresh = teaching.render(plan.format(""))
    assert guards.untrue_teaching(fresh, ROOT) == []
    assert guards.untrue_teaching(plan.format("old\n"), ROOT)
    place = "### [00 · Start](notebooks/00_start_here.ipynb)\n\n- **{}**: say it.\n"
    assert guards.untrue_teaching(place.format("A model trains"), ROOT) == []
    (fault,) = guards.untrue_teaching(place.format("A model sleeps"), ROOT)
    assert "no heading 'A model sleeps'" in fault


def test_a_timetable_adds_up():
    rows = teaching.timetable("09:00", ["00_start_here", "break 15", "exercises/09_transformations", "day 10:00"])
    minutes = [int(found) for found in re.findall(r"\| (\d+) \|", rows)]
    assert minutes[1] == 15 and minutes[2] % teaching.TYPING == 0
    assert f"end; {minutes[0] + minutes[2]} minutes without breaks" in rows
    assert "| 10:00 | | end" in rows
