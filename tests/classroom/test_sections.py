"""Which cell of a student's belongs to which exercise, and which file to which student."""

import os

import pytest

from tools import grade
from tools.grade import Exercise, Sheet

pytestmark = pytest.mark.classroom
ASKED = Sheet(
    "00_tiny",
    ("import jax",),
    (
        Exercise("first", ("step",), 1, "Exercise 1", ("rate = 0.1",)),
        Exercise("second", ("loss", "model"), 2, "Exercise 2"),
        Exercise("third", ("step",), 2, "Exercise 3"),
    ),
)
HEADS = [f"## Exercise {number}: A title (2 minutes)" for number in (1, 2, 3)]


def cells(*sources):
    return [{"cell_type": "markdown" if source.startswith("#") else "code", "source": source} for source in sources]


@pytest.mark.parametrize(
    ("sources", "top", "first", "second", "third"),
    [
        (
            ["import jax", HEADS[0], "rate = 0.1", "step = 1", "checks.first(step)", HEADS[2], "step = 2"],
            [],
            ["step = 1"],
            [],
            ["step = 2"],
        ),
        ([HEADS[0], "step = 1\nchecks.first(step)"], [], ["step = 1\nchecks.first(step)"], [], []),
        ([HEADS[0], "def loss(x): 1", HEADS[1], "x = 1"], [], [], ["def loss(x): 1", "x = 1"], []),
        ([HEADS[0], "step = loss = 1", HEADS[1], "model = 1"], [], ["step = loss = 1"], ["model = 1"], []),
        ([HEADS[0], "checks.first.hint()", "def loss(x)\n    return"], [], [], ["def loss(x)\n    return"], []),
        (
            ["x = 1", HEADS[1], "(loss, model) = 1, 2", HEADS[2], "loss = 3"],
            ["x = 1"],
            [],
            ["(loss, model) = 1, 2"],
            ["loss = 3"],
        ),
    ],
)
def test_a_cell_belongs_to_its_heading_or_to_the_answer_that_it_binds(sources, top, first, second, third):
    assert grade.sections(ASKED, cells(*sources)) == (top, {"first": first, "second": second, "third": third})


@pytest.mark.parametrize(
    "source",
    [
        "-" * 100_000 + "1",
        "(" * 100_000,
        "a" + ".b" * 5000 + "()",
        "checks" + ".b" * 700 + "()",
        "\0",
        "\ud800",
        "[" * 90 + "x",
    ],
)
def test_no_source_stops_the_reader(source):
    grade.sections(ASKED, cells(HEADS[0], source))


def test_files_are_found_whatever_browsers_make_of_their_names(tmp_path):
    for name in (
        "ada/00_tiny.ipynb",
        "bob/hw/1/00_tiny (1).ipynb",
        "eve/other.ipynb",
        "dan/00_tiny.ipynb",
        "dan/00_tiny-Copy1.ipynb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"cells": []}')
    (tmp_path / "fay-00_tiny.ipynb").write_text("[1]")
    os.mkfifo(tmp_path / "ada" / "pipe.ipynb")
    (tmp_path / "gil").mkdir()
    os.mkfifo(tmp_path / "gil" / "00_tiny.ipynb")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "ada" / "up").symlink_to(tmp_path)
    found = [
        (work.student, work.stem, work.outcome if work.fault else "")
        for work in grade.submissions(tmp_path, ["00_tiny"])
    ]
    assert found == [
        ("ada", "pipe", "unknown notebook"),
        ("ada", "00_tiny", ""),
        ("bob", "00_tiny", ""),
        ("dan", "00_tiny", ""),
        ("dan", "00_tiny-Copy1", "second copy"),
        ("eve", "other", "unknown notebook"),
        ("fay", "00_tiny", "not read"),
        ("gil", "00_tiny", "not read"),
    ]


def test_nothing_of_a_students_is_carried_out_by_a_table_or_a_terminal():
    assert grade.cell_of_table("=HYPERLINK(1)") == "'=HYPERLINK(1)" and grade.cell_of_table(3) == 3
    assert grade.clean("a\x1b[2Jb\u202ec\ud800\n") == "a[2Jbc\n"
    assert grade.safe("../../etc") == "_.._etc" and grade.safe("..") == "_"
