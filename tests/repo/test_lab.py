"""`make lab` never overwrites an answer and says what is newer."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.lab import copy_exercises

NAME = "08_tracing"


def publish(root, build, stub="answer = ..."):
    """Put a build of an exercise notebook where the course keeps them."""
    text = "Back to the [lesson](../08_tracing.ipynb). [Solutions](../solutions/08_tracing.ipynb)."
    notebook = new_notebook(cells=[new_markdown_cell(text), new_code_cell(stub)])
    notebook.metadata["course"] = {"build_sha256": build}
    folder = root / "notebooks" / "exercises"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{NAME}.ipynb")


def edit(path, source):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = source
    nbformat.write(notebook, path)


@pytest.fixture
def root(tmp_path):
    publish(tmp_path, "first")
    assert copy_exercises(tmp_path) == [f"new        work/{NAME}.ipynb"]
    return tmp_path


def test_links_lead_from_work_into_notebooks(root):
    text = (root / "work" / f"{NAME}.ipynb").read_text("utf-8")
    assert "](../notebooks/08_tracing.ipynb)" in text and "](../notebooks/solutions/08_tracing.ipynb)" in text


def test_a_second_time_changes_nothing(root):
    edit(root / "work" / f"{NAME}.ipynb", "answer = 1")
    before = {path: path.read_bytes() for path in (root / "work").iterdir()}
    assert copy_exercises(root) == []
    assert {path: path.read_bytes() for path in (root / "work").iterdir()} == before


def test_an_answer_stays_and_the_newer_version_lies_beside(root):
    own, beside = root / "work" / f"{NAME}.ipynb", root / "work" / f"{NAME}.new.ipynb"
    edit(own, "answer = 1")
    before = own.read_bytes()
    publish(root, "second", "answer = ...  # an int")
    assert copy_exercises(root) == [
        f"has answers, and a newer version   work/{NAME}.ipynb: the newer one is work/{NAME}.new.ipynb"
    ]
    assert own.read_bytes() == before and "an int" in beside.read_text("utf-8")
    publish(root, "third", "answer = ...  # a float")
    copy_exercises(root)
    assert own.read_bytes() == before and "a float" in beside.read_text("utf-8")
    edit(beside, "answer = 1.0")
    kept = beside.read_bytes()
    publish(root, "fourth")
    assert copy_exercises(root)[0].endswith("keep one")
    assert (own.read_bytes(), beside.read_bytes()) == (before, kept)
    publish(root, "third", "answer = ...  # a float")
    beside.replace(own)  # the learner has moved over
    assert copy_exercises(root) == []


def test_a_copy_without_answers_is_renewed_even_when_it_was_run(root):
    own = root / "work" / f"{NAME}.ipynb"
    notebook = nbformat.read(own, as_version=4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="ran")]
    nbformat.write(notebook, own)
    publish(root, "second")
    assert copy_exercises(root) == [f"renewed    work/{NAME}.ipynb: it held no answers"]
    assert json.loads(own.read_text("utf-8"))["metadata"]["course"]["build_sha256"] == "second"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"metadata": 1}'])
def test_what_cannot_be_read_is_left_alone(root, content):
    own = root / "work" / f"{NAME}.ipynb"
    own.write_text(content, "utf-8")
    (root / "work" / ".copied.json").write_text(content, "utf-8")
    copy_exercises(root)
    assert own.read_text("utf-8") == content
