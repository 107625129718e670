"""One visual language for the lessons: PyTorch orange, JAX blue, markers that differ, readable at the size shown.

Needs matplotlib. Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart; each comes with a
marker of its own, so that nothing depends on colour alone. The background is solid, so that a picture stays readable on
a dark page. Lesson: 16_derivative_cliff.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

TORCH, JAX = "#D55E00", "#0072B2"
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COLOURS = (JAX, *OTHERS)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 8.0  # inches; 640 pixels


def use() -> None:
    """Set matplotlib's defaults for a lesson; called once, in the configuration cell."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH * 0.62, 3.4), "figure.dpi": 80, "figure.constrained_layout.use": True,
            "figure.facecolor": "white", "savefig.facecolor": "white", "font.size": 10, "axes.titlesize": 10.5,
            "legend.fontsize": 9, "lines.linewidth": 1.8, "lines.markersize": 5.5, "axes.grid": True, "grid.alpha": 0.3,
            "axes.spines.top": False, "axes.spines.right": False, "image.cmap": "viridis",
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(marker=MARKERS[: len(COLOURS)]),
        }
    )  # fmt: skip


def panels(count: int, height: float = 3.2) -> tuple[Figure, Any]:
    """A row of axes as wide as a lesson's text.

    Args:
      count: how many, >= 1.
      height: in inches; the row is 8 inches wide.
    Returns:
      The figure and an array of axes (count,), or the axes themselves where there is one.
    """
    figure, axes = plt.subplots(1, count, figsize=(WIDTH, height))
    return figure, axes


def style(name: str, place: int = 0) -> dict[str, Any]:
    """Colour and marker of a contestant: orange for what is PyTorch's, else the colour at a place of the cycle.

    Example:
      >>> style("PyTorch loop")["color"] == TORCH, style("jax.hessian")["color"] == JAX
      (True, True)
    """
    if "torch" in name.lower():
        return {"color": TORCH, "marker": "d", "linestyle": "--"}
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "linestyle": "-"}


def lines(
    axis: Axes, x: Iterable[Any], series: Mapping[str, Iterable[Any]], *, log: str = "", **labels: str
) -> list[Line2D]:
    """One line a series with its name in the legend.

    Args:
      axis: where to draw.
      x: shared by all series.
      series: name -> values; a DataFrame does. PyTorch's are told by their names.
      log: which axes are logarithmic: "", "x", "y" or "xy".
      labels: xlabel, ylabel, title.
    Returns:
      The lines drawn, in the order of the series.
    """
    place, x, drawn = 0, list(x), []
    for name, values in series.items():
        drawn += axis.plot(x, list(values), label=name, **style(name, place))
        place += "torch" not in name.lower()
    for letter in log:
        axis.set(**{f"{letter}scale": "log"})
        side, (low, high) = getattr(axis, f"{letter}axis"), getattr(axis, f"get_{letter}lim")()
        side.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        side.set_major_formatter("{x:,.7g}" if high < 1e6 * low else LogFormatterSciNotation())
        side.set_minor_formatter(NullFormatter())
    axis.set(**labels)
    axis.legend()
    return drawn


def field(
    axis: Axes,
    x: ArrayLike,
    y: ArrayLike,
    values: ArrayLike,
    *,
    signed: bool = False,
    levels: int = 9,
    **labels: str,
) -> None:
    """A function of two variables as filled contours, with a colour bar whose labels do not repeat.

    Args:
      axis: where to draw.
      x, y: (m,) and (n,).
      values: (m, n), values[i, j] at x[i], y[j].
      signed: whether zero is the middle of the colours (errors, waves).
      levels: how many contours, about.
      labels: xlabel, ylabel, title.
    """
    grid = np.asarray(values)
    largest = float(abs(grid).max())
    low = -largest if signed else float(grid.min())
    ticks = MaxNLocator(levels).tick_values(low, largest if signed else float(grid.max()))
    image = axis.contourf(x, y, grid.T, ticks, cmap="RdBu" if signed else "viridis")
    bar = axis.figure.colorbar(image, ax=axis, ticks=ticks[:: max(1, len(ticks) // 5)])
    assert isinstance(bar.formatter, ScalarFormatter)  # what numbers get
    bar.formatter.set_powerlimits((-2, 3))
    bar.update_ticks()
    axis.grid(False)
    axis.set(**labels)
