"""The entries of the Rosetta stone as test parameters, in three parts that can run side by side."""

import pytest

from rosetta import kinds
from tools import rosetta

PARTS = ("arrays", "layers", "training")
STARTS = (0, kinds.GROUPS.index("layers"), kinds.GROUPS.index("losses"), None)


def entries(part: str) -> list:
    """Those of a third of the groups: every third of them for `make test`, the others for `make test-thorough`."""
    place = PARTS.index(part)
    groups = kinds.GROUPS[STARTS[place] : STARTS[place + 1]]
    found = [(g, entry) for g, module in rosetta.groups().items() if g in groups for entry in kinds.entries(module)]
    return [
        pytest.param(entry, id=f"{group}.{entry.__name__}", marks=[pytest.mark.thorough] * (number % 3 > 0))
        for number, (group, entry) in enumerate(found)
    ]


def check(entry: type[kinds.Pair]) -> None:
    """On random inputs: pairs agree, traps differ as they say."""
    for seed in range(2):
        entry.check(seed)
