"""The Rosetta stone as a page: current, complete, short, and every trap shown in a lesson."""

import pytest

from rosetta import kinds
from tools import rosetta
from tools.lessons import ROOT

GROUPS = rosetta.groups()
ENTRIES = [(name, entry) for name, module in GROUPS.items() for entry in kinds.entries(module)]
# a class with its two methods cannot be said in five lines
LONGER = {"OwnModule", "OwnParameter", "Buffer", "ModuleDict", "EncoderLayer"}
TRAPS = [(name, entry) for name, entry in ENTRIES if entry.trap]


def test_page_is_current():
    assert rosetta.PAGE.read_text("utf-8") == rosetta.page_text(), "run `make rosetta`"


def test_every_module_is_a_group():
    assert {path.stem for path in ROOT.glob("rosetta/[!_]*.py")} == {*kinds.GROUPS, "kinds"}


def test_there_are_enough():
    assert len(ENTRIES) >= 150 and len(TRAPS) >= 35


@pytest.mark.parametrize("group", GROUPS)
def test_titles_and_snippets(group):
    found = kinds.entries(GROUPS[group])
    titles = [entry.__doc__ for entry in found]
    assert len(set(titles)) == len(titles)
    long = [title for title in titles if "\n" in title or title.endswith(".") or len(title.split()) > 9]
    assert long == [], "a title is a few words that one would look for"
    for entry in found:
        sides = entry.sides()
        assert "torch" in sides and sides.keys() & {"jax", "nnx", "linen"}, entry.__name__
        for side in sides:
            lines = [line for line in rosetta.snippet(entry, side).split("\n") if line.strip()]
            most = 9 if entry.__name__ in LONGER else 5
            assert len(lines) <= most, f"{entry.__name__}.{side}: expected at most {most} lines, got {len(lines)}"


@pytest.mark.parametrize(("group", "entry"), TRAPS, ids=lambda value: getattr(value, "__name__", value))
def test_trap_is_shown_in_its_lesson(group, entry):
    stem, words = entry.lesson
    source = ROOT / "notebooks" / "src" / f"{stem}.py"
    assert "differ" in vars(entry), f"{entry.__name__}: a trap checks its difference"
    assert stem and source.exists(), f"{entry.__name__}: expected a lesson, got {stem!r}"
    assert words and words in source.read_text("utf-8"), f"{entry.__name__}: expected {words!r} in {source.name}"
    assert entry.trap.endswith((".", ".)")), f"{entry.__name__}: expected sentences, got {entry.trap!r}"
