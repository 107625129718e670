"""The pictures of the puzzles: what is given, an arrow, what is wanted. Needs NumPy and matplotlib.

Lesson: 09_transformations.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike

from course.plots import Box, Diagram

LETTER = 0.078  # how wide a letter of a title is, about
GAP = 0.3


def draw(
    given: Mapping[str, ArrayLike],
    wanted: Mapping[str, ArrayLike],
    word: str = "",
    *,
    marked: Mapping[str, ArrayLike] | None = None,
    text: str = "{:g}",
    size: float = 0.36,
) -> None:
    """Draw a puzzle: the given arrays in grey, an arrow, the wanted ones in blue.

    Args:
      given, wanted: title -> (m, n), or (n,) for a row; a title of given starts with the array's name.
      word: stands above the arrow.
      marked: title -> booleans, which squares to fill.
      text: the format of a number.
      size: of a square, in inches.
    """
    marks = {} if marked is None else dict(marked)
    grids = {title: np.atleast_2d(np.asarray(values)) for title, values in [*given.items(), *wanted.items()]}
    widths = {title: max(grid.shape[1] * size, LETTER * len(title)) for title, grid in grids.items()}
    arrow = max(0.7, LETTER * len(word) + 0.2)
    total = sum(widths.values()) + GAP * (len(grids) - 1) + arrow + 0.3
    height = max(len(grid) for grid in grids.values()) * size + 0.62
    diagram = Diagram(total, height)
    place, middle = 0.15, height / 2 - 0.1
    boxes: dict[str, Box] = {}
    for title, grid in grids.items():
        if title in wanted and not any(other in wanted for other in boxes):
            place += arrow
        squares = marks.get(title)
        if grid.dtype == bool:  # filled squares say more than "True"
            squares = grid
        boxes[title] = diagram.cells(
            place + widths[title] / 2, middle, grid, size=size, side="jax" if title in wanted else "", title=title,
            marked=squares, text="" if grid.dtype == bool else text,
        )  # fmt: skip
        place += widths[title] + GAP
    last, first = list(given)[-1], next(iter(wanted))
    start, end = boxes[last].x + widths[last] / 2 + 0.08, boxes[first].x - widths[first] / 2 - 0.08
    diagram.arrow((start, middle), (end, middle), word)
    plt.show()
