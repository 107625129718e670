"""The landing page's generated parts: the training step in three frameworks, cards, measured speed."""

from __future__ import annotations

from pathlib import Path


def write(folder: Path) -> None:
    """Files that book/index.md includes."""
