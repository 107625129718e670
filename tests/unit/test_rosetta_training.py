"""Every entry of the Rosetta stone from losses to parallelism, on random inputs."""

import pytest

from tests.unit.rosetta_entries import check, entries

pytestmark = [pytest.mark.slow, pytest.mark.rosetta]


@pytest.mark.parametrize("entry", entries("training"))
def test_entry(entry):
    check(entry)
