"""The guards, asked about this repository. test_guards_fail.py shows that each of them can fail."""

import hashlib
import subprocess
import sys

import pytest

from tools import guards
from tools.lessons import ROOT, Lesson, as_notebook, lessons, minutes_of

DOCSTRINGS = {module: guards.docstring_of(code) for module, code in guards.modules().items()}


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.stem)
def test_lesson(lesson):
    assert guards.of_lesson(lesson) == []


def test_package():
    assert guards.of_package() == []


def test_pages_and_requirements():
    assert guards.of_pages() == []


def test_training_starts_within_ten_minutes():
    cells = as_notebook(Lesson("00_start_here")).cells
    (place,) = [n for n, cell in enumerate(cells) if "starts-training" in guards.tags_of(cell)]
    assert minutes_of(cells[: place + 1]) <= 10


@pytest.mark.slow  # imports every framework: seconds
def test_modules_import_what_they_say():
    assert guards.untrue_needs(DOCSTRINGS) == []


def test_the_hashes_of_the_data_are_documented():
    for name in ("titanic.csv", "crepe_tiny.safetensors"):
        content = (ROOT / "data" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() in (ROOT / "data" / "README.md").read_text("utf-8"), name


@pytest.mark.slow
def test_the_dataset_is_what_its_script_makes():
    made = subprocess.run(
        [sys.executable, "-c", "import make_titanic, sys; sys.stdout.buffer.write(make_titanic.make())"],
        cwd=ROOT / "data", capture_output=True, check=True,
    )  # fmt: skip
    assert made.stdout == (ROOT / "data" / "titanic.csv").read_bytes()
