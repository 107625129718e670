"""The Rosetta stone as a page: current, complete, short, and every trap shown in a lesson."""

import pytest
import torch
import torch.nn.functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from rosetta import kinds, messages, names
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
    assert {path.stem for path in ROOT.glob("rosetta/[!_]*.py")} == {*kinds.GROUPS, "kinds", "names", "messages"}


def test_there_are_enough():
    assert len(ENTRIES) >= 420 and len(TRAPS) >= 106
    assert len(names.index(ENTRIES)) >= 600


def test_the_page_is_not_too_long_to_be_shown():
    assert rosetta.PAGE.stat().st_size < 500_000  # hosts cut pages somewhat above


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
    stem, tag = entry.lesson
    assert "differ" in vars(entry), f"{entry.__name__}: a trap checks its difference"
    if stem:
        source = ROOT / "notebooks" / "src" / f"{stem}.py"
        assert source.exists(), f"{entry.__name__}: expected a lesson, got {stem!r}"
        headers = [line for line in source.read_text("utf-8").splitlines() if line.startswith("# %%")]
        tagged = [header for header in headers if f'"{tag}"' in header]
        assert tag.startswith("trap:") and len(tagged) == 1, (
            f"{entry.__name__}: expected one cell tagged {tag!r} in {stem}"
        )
    assert entry.trap.endswith((".", ".)")), f"{entry.__name__}: expected sentences, got {entry.trap!r}"


@pytest.mark.parametrize(("group", "entry"), ENTRIES, ids=lambda value: getattr(value, "__name__", value))
def test_names_exist(group, entry):
    for name in names.names(entry):
        assert names.resolve(name) is not None, f"{entry.__name__}: torch has no {name}"


def test_names_are_spelled_as_programs_spell_them():
    def function(x, model):
        y = torch.nn.functional.relu(x).clamp(0).add_(torch.ones(3).sum())
        torch.optim.Adam(model.parameters())
        return DataLoader(y.T), F.silu(y), "text".upper(), lr_scheduler.StepLR, torch.linalg.norm(y)

    entry = type("Example", (kinds.Pair,), {"torch": function, "jax": function, "also": ("nn.SiLU",)})
    assert set(names.names(entry)) == {
        "F.relu", "Tensor.clamp", "torch.clamp", "Tensor.add_", "torch.ones", "Tensor.sum", "torch.sum", "optim.Adam",
        "utils.data.DataLoader", "Tensor.T", "F.silu", "lr_scheduler.StepLR", "linalg.norm", "nn.SiLU",
    }  # fmt: skip
    assert names.names(entry)["nn.SiLU"]


def test_index_puts_first_the_entry_that_says_least_besides():
    def alone(x):
        return torch.relu(x)

    def among_others(x):
        return torch.relu(torch.sin(x)), torch.cos(x)

    def entry(function, *also):
        return type("Example", (kinds.Pair,), {"torch": function, "also": also})

    short, long, listed = entry(alone), entry(among_others), entry(among_others, "torch.relu")
    found = names.index([("a", long), ("a", short), ("b", listed)])
    assert [entry for _, entry in found["torch.relu"]] == [listed, short]  # two at most


@pytest.mark.parametrize("found", messages.MESSAGES, ids=lambda found: found.text[:40])
def test_messages_are_explained_by_an_entry(found):
    group, _, name = found.entry.partition(".")
    assert getattr(GROUPS[group], name) in kinds.entries(GROUPS[group])
    assert found.meaning.endswith("."), found.meaning
    assert (found.provoke is None) == bool(found.source)
