"""`make new-lesson`: what it writes, what it refuses, and the way of a stranger from a fork to a lesson that passes."""

import ast
import re
import shutil
import sys

import nbformat
import pytest

from tests.repo import fork
from tools import build, exercise_guards, guards
from tools.adopt import adopt
from tools.lessons import ROOT, Lesson, as_notebook, exercises, lessons
from tools.new_lesson import LAST, NewLessonError, closing, with_checks, write

INDEX = (ROOT / "course" / "checks" / "__init__.py").read_text("utf-8")


@pytest.fixture
def root(tmp_path):
    """The sources of a repository."""
    for folder in ("notebooks/src/exercises", "course/checks", "tests/answers"):
        (tmp_path / folder).mkdir(parents=True)
    for stem in ("08_tracing", "08c_debugging", "09_transformations"):
        shutil.copy(Lesson(stem).source, tmp_path / "notebooks" / "src")
    shutil.copy(ROOT / "course" / "checks" / "__init__.py", tmp_path / "course" / "checks")
    shutil.copy(ROOT / "course" / "checks" / "core.py", tmp_path / "course" / "checks")
    return tmp_path


@pytest.mark.parametrize(
    ("number", "name", "expected"),
    [
        ("08", "my_topic", "free, got 08, of 08_tracing; take another, or add a letter"),
        ("08c", "my_topic", "free, got 08c, of 08c_debugging"),
        ("8", "my_topic", "two digits and at most one letter, like 23 or 08d, got '8'"),
        ("08dd", "my_topic", "two digits"),
        ("", "my_topic", "say NUMBER="),
        ("23", "My_topic", "lower case with underscores, like my_topic, got 'My_topic'; say NAME="),
        ("23", "my-topic", "lower case"),
        ("23", "", "say NAME="),
        ("٢٣", "my_topic", "two digits"),
        ("23", "class", "a module can have, got class"),
        ("23", "test_answers", "a module can have, got test_answers"),  # it would take the place of the tests
        ("23", "a" * 34, "at most 33 letters, got 34"),
        ("23", "core", "free, got core, which course/checks has"),
    ],
)
def test_what_cannot_be_used_is_refused(root, number, name, expected):
    with pytest.raises(NewLessonError) as caught:
        write(number, name, root)
    assert expected in str(caught.value)
    assert (root / "course" / "checks" / "__init__.py").read_text("utf-8") == INDEX


@pytest.mark.parametrize(
    ("number", "name", "after"),
    [("08d", "my_topic", "(09_transformations.ipynb)."), ("99z", "a_topic_with_quite_a_long_name_xx", LAST)],
)
def test_a_number_may_have_a_letter_and_the_close_names_the_next_lesson(root, number, name, after):
    written = write(number, name, root)
    assert all(path.is_file() for path in written) and closing(number, root).endswith(after)
    lesson = Lesson(f"{number}_{name}", root)
    assert f"# # {number} · ‹title›" in lesson.source.read_text("utf-8")
    for path in written:
        text = path.read_text("utf-8")
        assert not re.search(r"(?<![A-Z])(NN|TOPIC|NEXT)(?![A-Z])", text), path
        assert max(map(len, text.splitlines())) <= 120, path
    assert guards.of_lesson(lesson) == guards.missing_words(lesson.stem, guards.as_source(lesson)) != []


def test_an_untouched_scaffold_is_adopted_to_the_letter(root):
    lesson = Lesson("23_my_topic", root)
    before = write("23", "my_topic", root)[0].read_text("utf-8")
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, root)
    nbformat.write(as_notebook(lesson), lesson.notebook)
    adopt(lesson.notebook, root)
    assert lesson.source.read_text("utf-8") == before


def test_its_checks_are_entered_in_order():
    for topic in ("aaa", "my_topic", "zzz", "a_topic_with_quite_a_long_name_xx"):
        names = [f"{topic}_{part}" for part in ("gradient", "losses", "step")]
        text = with_checks(INDEX, topic, names)
        modules = [node.module for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
        assert modules == sorted(modules) and f"course.checks.{topic}" in modules
        listed = ast.literal_eval(text.partition("__all__ = ")[2].partition("]")[0] + "]")
        assert listed == sorted(listed) and set(names) < set(listed)
        assert max(map(len, text.splitlines())) <= 120
    assert with_checks(INDEX, "zzz", []).partition("__all__")[2] == INDEX.partition("__all__")[2]


def everything(folder):
    """What `make guards` finds in the new lesson, and in what it shares with others."""
    faults, package = guards.of_lesson(Lesson(fork.STEM, folder)), guards.modules(folder)
    for kind in ("exercise", "solution"):
        faults += exercise_guards.of_exercise(Lesson(fork.STEM, folder, kind), package)
    texts = {lesson.stem: lesson.source.read_text("utf-8") for lesson in lessons(folder)}
    stems = [exercise.stem for exercise in exercises(folder, ("exercise",))]
    faults += exercise_guards.lessons_without_exercises(stems, texts)
    return faults + guards.of_package(folder) + guards.of_pages(folder)


@pytest.mark.doors  # builds three notebooks
@pytest.mark.skipif(
    bool(build.unfit((ROOT / "requirements.txt").read_text("utf-8"))), reason="`make build` stores nothing made here"
)
def test_from_a_fork_to_a_lesson_that_passes(tmp_path):
    folder = tmp_path / "fork"
    fork.fork(folder)
    done = fork.new_lesson(folder)
    assert done.returncode == 0, done.stderr
    said, marks = everything(folder), fork.missing(folder)
    assert len(marks) > 30
    assert [re.search("words are missing: ‹(.*)›; write them$", line)[1] for line in said] == marks
    fork.write_words(folder)
    done = fork.commands(folder, sys.executable, "-m", "tools.build", fork.STEM)
    assert "3 built" in done.stdout and done.returncode == 0, done.stdout + done.stderr
    assert everything(folder) == []
