"""Every error message of the Rosetta stone is raised for real."""

import pytest

from rosetta import messages


@pytest.mark.parametrize("found", [m for m in messages.MESSAGES if m.provoke], ids=lambda found: found.provoke.__name__)
def test_message(found):
    error = messages.raised(found)
    assert type(error).__name__ in found.error.split("|"), repr(error)
    assert any(words in str(error) for words in found.text.split("|")), f"expected {found.text!r}, got {error}"
