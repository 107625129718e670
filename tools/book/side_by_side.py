"""The three Titanics side by side, from the step tags of their sources."""

from __future__ import annotations

from pathlib import Path


def write(folder: Path) -> None:
    """The page side_by_side."""
