"""The Rosetta stone as pages: an index with a search box, and a page for each group."""

from __future__ import annotations

from pathlib import Path

from rosetta import kinds


def write(folder: Path) -> None:
    """The pages rosetta/index and rosetta/GROUP."""
    target = folder / "rosetta"
    target.mkdir()
    for name in ("index", *kinds.GROUPS):
        (target / f"{name}.md").write_text(
            f"# {name}\n" + "\n(error-messages)=\n## Error messages\n" * (name == "index"), "utf-8"
        )
