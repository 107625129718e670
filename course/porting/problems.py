"""What is wrong with a conversion: all of it at once, as a table. Needs nothing but Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """One array that does not fit: where it is on both sides, what was expected and found, and what to do."""

    torch: str
    torch_shape: tuple[int, ...] | None
    flax: str
    flax_shape: tuple[int, ...] | None
    wrong: str
    remedy: str


class PortingError(ValueError):
    """Weights that do not fit; names both paths, both shapes and the likely remedy.

    Attributes:
      problems: one entry for each; `pandas.DataFrame(error.problems)` makes a table of them.
    """

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        super().__init__(_told(self.problems))


def _told(problems: list[Problem]) -> str:
    return (
        _sentence(problems[0]) if len(problems) == 1 else "\n".join([f"{len(problems)} problems:", *_table(problems)])
    )


def _table(problems: list[Problem]) -> list[str]:
    """A line for each problem, in columns."""
    rows = [("torch", "shape", "flax", "shape", "what is wrong; what to do")]
    for problem in problems:
        torch, flax = ("" if shape is None else str(shape) for shape in (problem.torch_shape, problem.flax_shape))
        rows.append((problem.torch, torch, problem.flax, flax, f"{problem.wrong}; {problem.remedy}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]


def _sentence(problem: Problem) -> str:
    sides = []
    if problem.torch:
        sides.append(
            f"torch's {problem.torch}" + (f" {problem.torch_shape}" if problem.torch_shape is not None else "")
        )
    if problem.flax:
        sides.append(f"flax's {problem.flax}" + (f" {problem.flax_shape}" if problem.flax_shape is not None else ""))
    return f"{', '.join(sides)}{': ' if sides else ''}{problem.wrong}; {problem.remedy}"


def some(items: Sequence[str], most: int = 8) -> str:
    """A list for a message, cut short where it is long."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "") or "nothing"
