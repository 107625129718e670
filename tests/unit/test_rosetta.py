"""Every entry of the Rosetta stone, on random inputs: pairs agree, traps differ as they say, messages are raised."""

import importlib
import os

import pytest

from rosetta import kinds, messages

ENTRIES = [
    pytest.param(entry, id=f"{group}.{entry.__name__}")
    for group in os.environ.get("ROSETTA", " ".join(kinds.GROUPS)).split()
    for entry in kinds.entries(importlib.import_module(f"rosetta.{group}"))
]


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_entry(entry):
    for seed in range(2):
        entry.check(seed)


@pytest.mark.parametrize("found", [m for m in messages.MESSAGES if m.provoke], ids=lambda found: found.provoke.__name__)
def test_message(found):
    error = messages.raised(found)
    assert type(error).__name__ in found.error.split("|"), repr(error)
    assert any(words in str(error) for words in found.text.split("|")), f"expected {found.text!r}, got {error}"
