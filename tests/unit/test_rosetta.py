"""Every entry of the Rosetta stone, on random inputs: pairs agree, traps differ as they say."""

import importlib
import os

import pytest

from rosetta import kinds

pytestmark = pytest.mark.slow

ENTRIES = [
    pytest.param(entry, id=f"{group}.{entry.__name__}")
    for group in os.environ.get("ROSETTA", " ".join(kinds.GROUPS)).split()
    for entry in kinds.entries(importlib.import_module(f"rosetta.{group}"))
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry(entry):
    for seed in range(2):
        entry.check(seed)
