"""Every entry of the Rosetta stone from layers to modules, on random inputs."""

import pytest

from tests.unit.rosetta_entries import check, entries

pytestmark = [pytest.mark.slow, pytest.mark.rosetta]


@pytest.mark.parametrize("entry", entries("layers"))
def test_entry(entry):
    check(entry)
