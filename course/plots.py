"""One visual language for the lessons: PyTorch orange, JAX blue, markers that differ, readable at the size shown.

Needs matplotlib. Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart; each comes with a
marker of its own, so that nothing depends on colour alone. The background is solid, so that a picture stays readable on
a dark page. Lesson: 00_start_here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, Rectangle
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

TORCH, JAX = "#D55E00", "#0072B2"
"""PyTorch's orange and JAX's blue."""
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours for what is of neither side; a colour-blind reader can tell them apart."""
COLOURS = (JAX, *OTHERS)
"""The cycle of colours."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""The cycle of markers."""
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
"""The hatching of bars, series by series."""
SIDES = {"torch": (TORCH, "#F9DCCB", "--"), "jax": (JAX, "#CFE3F3", "-"), "": ("#555555", "#F0F0F0", "-")}
"""Edge, face and line style of a box, by the side that it belongs to."""
WIDTH = 8.0
"""Of a picture, in inches: 640 pixels."""


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


def solution(solved: Any, cuts: int = 3) -> Figure:
    """What `pde.solve` found for an equation in two coordinates: picture, error, cuts, and the loss on its way down.

    Args:
      solved: with `grid()`, `exact()` and `losses`, as `pde.Solution` has them.
      cuts: at how many values of the first coordinate, time for instance, the second is drawn against u.
    Returns:
      The figure; without a reference there is no error in it.
    Raises:
      ValueError: there are not two coordinates.
    """
    found, exact = solved.grid(), solved.exact()
    if len(found.names) != 2:
        raise ValueError(f"expected a solution in two coordinates, got {list(found.names)}; draw cuts with `lines`")
    (first, second), (t, x) = found.names, found.coordinates
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.2))
    picture, error, lines_, loss = axes.ravel()
    upward = first == "t"  # time goes up; of two places the first goes to the right, as one draws them

    def draw(axis: Axes, values: np.ndarray, **kinds: Any) -> None:
        if upward:
            field(axis, x, t, values.T, xlabel=second, ylabel=first, **kinds)
        else:
            field(axis, t, x, values, xlabel=first, ylabel=second, **kinds)

    draw(picture, found.values, title="u")
    if exact is None:
        error.axis("off")
    else:
        gap = found.values - exact.values
        size = np.linalg.norm(gap) / np.linalg.norm(exact.values)
        draw(error, gap, signed=True, title=f"Error, relative L2 {size:.1e}")
    for row, colour in zip(np.linspace(0, len(t) - 1, cuts).astype(int), COLOURS, strict=False):
        if exact is not None:
            lines_.plot(x, exact.values[row], color=colour, marker="", lw=5, alpha=0.3)
        lines_.plot(x, found.values[row], color=colour, marker="", label=f"{first} = {t[row]:.2g}")
    lines_.set(xlabel=second, title="u" if exact is None else "u, the reference pale")
    lines_.legend()
    loss.semilogy(np.arange(1, len(solved.losses) + 1), solved.losses, marker="")
    loss.set(xlabel="step", title="Loss")
    return figure


@dataclass(frozen=True)
class Box:
    """What a Diagram drew, for arrows to start and end at.

    Attributes:
      x: of its middle, in inches from the left.
      y: of its middle, in inches from the bottom.
      patch: matplotlib's shape.
    """

    x: float
    y: float
    patch: Patch


class Diagram:
    """An idea drawn: arrays as boxes, functions as rounded boxes, PyTorch orange and JAX blue.

    Places and sizes are in inches from the lower left corner; a box is given by its middle. `side` is "torch", "jax"
    or "" for neither. Boxes of PyTorch have a dashed edge, so that nothing depends on colour alone.

    Args:
      width, height: in inches; a lesson's text is 8 inches wide.
    Attributes:
      axes: matplotlib's axes, for what is missing here.
    Example:
      >>> diagram = Diagram(height=1.0)
      >>> loss = diagram.function(1.0, 0.5, "loss", side="jax")
      >>> diagram.arrow(loss, diagram.array(3.0, 0.5, "gradients", side="jax"), "jax.grad")
    """

    def __init__(self, width: float = WIDTH, height: float = 2.6) -> None:
        self.figure, self.axes = plt.subplots(figsize=(width, height))
        self.axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
        self.axes.axis("off")

    def array(self, x: float, y: float, text: str, *, side: str = "", width: float = 1.2, height: float = 0.45) -> Box:
        """A box with sharp corners: data. Returns it, for arrows."""
        return self._box(x, y, text, side, width, height, "square,pad=0")

    def function(
        self, x: float, y: float, text: str, *, side: str = "", width: float = 1.2, height: float = 0.45
    ) -> Box:
        """A box with round corners: something that is called. Returns it, for arrows."""
        return self._box(x, y, text, side, width, height, "round,pad=0,rounding_size=0.18")

    def _box(self, x: float, y: float, text: str, side: str, width: float, height: float, shape: str) -> Box:
        edge, face, line = SIDES[side]
        corner = (x - width / 2, y - height / 2)
        patch = FancyBboxPatch(
            corner, width, height, boxstyle=shape, edgecolor=edge, facecolor=face, linestyle=line, linewidth=1.4
        )
        self.axes.add_patch(patch)
        self.axes.text(x, y, text, ha="center", va="center", fontsize=9)
        return Box(x, y, patch)

    def arrow(
        self,
        start: Box | tuple[float, float],
        end: Box | tuple[float, float],
        text: str = "",
        *,
        side: str = "",
        bend: float = 0.0,
        dashed: bool = False,
        offset: float = 0.13,
    ) -> None:
        """An arrow from a box or a place to another, with a word beside its middle.

        Args:
          start, end: boxes, or places (x, y).
          text: the word.
          side: whose colour.
          bend: 0 is straight; positive bends to the right of its direction.
          dashed: for what happens behind the scenes.
          offset: how far the word is above the middle, or right of it where the arrow is steep, in inches.
        """
        (a, patch_a), (b, patch_b) = (
            ((place.x, place.y), place.patch) if isinstance(place, Box) else (place, None) for place in (start, end)
        )
        self.axes.add_patch(
            FancyArrowPatch(
                a, b, patchA=patch_a, patchB=patch_b, arrowstyle="-|>", mutation_scale=11, shrinkA=2, shrinkB=2,
                connectionstyle=f"arc3,rad={bend}", color=SIDES[side][0], linewidth=1.4,
                linestyle="--" if dashed else "-",
            )
        )  # fmt: skip
        if text:
            (x, y), (dx, dy) = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), (b[0] - a[0], b[1] - a[1])
            steep = abs(dy) > abs(dx)  # then the word stands to the right
            where = (x + bend * dy / 2 + steep * offset, y - bend * dx / 2 + (not steep) * offset)
            self.axes.text(*where, text, ha="left" if steep else "center", va="center", fontsize=8.5)

    def note(self, x: float, y: float, text: str, *, side: str = "", size: float = 9, align: str = "center") -> None:
        """Words without a box, in the colour of their side; align is "left", "center" or "right"."""
        self.axes.text(x, y, text, ha=align, va="center", fontsize=size, color=SIDES[side][0] if side else "black")

    def cells(
        self,
        x: float,
        y: float,
        values: ArrayLike,
        *,
        side: str = "",
        size: float = 0.3,
        text: str = "{:g}",
        marked: ArrayLike | None = None,
        title: str = "",
    ) -> Box:
        """A small matrix as squares, the marked ones in their side's full colour.

        Args:
          x, y: the middle of the whole.
          values: (m, n) or (n,), drawn as a row.
          size: of a square, in inches.
          text: the format of a value; "" writes none.
          marked: booleans of the same shape.
          title: stands above.
        Returns:
          The whole, for arrows.
        """
        grid = np.atleast_2d(np.asarray(values))
        strong = np.zeros(grid.shape, bool) if marked is None else np.atleast_2d(np.asarray(marked, bool))
        (rows, columns), (edge, face, _) = grid.shape, SIDES[side]
        left, top = x - columns * size / 2, y + rows * size / 2
        for (i, j), value in np.ndenumerate(grid):
            corner = (left + j * size, top - (i + 1) * size)
            self.axes.add_patch(
                Rectangle(corner, size, size, facecolor=edge if strong[i, j] else face, edgecolor="white")
            )
            if text:
                self.axes.text(
                    corner[0] + size / 2, corner[1] + size / 2, text.format(value), ha="center", va="center",
                    fontsize=8, color="white" if strong[i, j] else "black",
                )  # fmt: skip
        frame = Rectangle((left, top - rows * size), columns * size, rows * size, fill=False, edgecolor=edge)
        self.axes.add_patch(frame)
        if title:
            self.note(x, top + 0.14, title)
        return Box(x, y, frame)

    def tree(self, x: float, y: float, content: Mapping[str, Any], *, side: str = "", step: float = 0.24) -> None:
        """A nested dict, one row a name, branches indented; a leaf's value stands in a box behind its name.

        Args:
          x, y: the upper left corner.
          content: name -> a dict, or what to write in the leaf's box.
          step: the height of a row, in inches.
        """
        self._tree(x, y - step / 2, content, side, step)

    def _tree(self, x: float, y: float, content: Mapping[str, Any], side: str, step: float) -> tuple[float, float]:
        """Draws and returns where the next row is, and where the last row of this level was."""
        edge, face, _ = SIDES[side]
        last = y
        for name, value in content.items():
            last = y
            self.axes.plot([x, x + 0.1], [y, y], color=edge, linewidth=1, marker="")
            label: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": 8.5}
            if isinstance(value, Mapping):
                self.axes.text(x + 0.14, y, name, **label, fontweight="bold")
                following, end = self._tree(x + 0.22, y - step, value, side, step)
                self.axes.plot([x + 0.22] * 2, [y - step / 2, end], color=edge, linewidth=1, marker="")
                y = following
            else:
                box = {"boxstyle": "square,pad=0.2", "facecolor": face, "edgecolor": edge}
                written = self.axes.annotate(name, (x + 0.14, y), **label)
                self.axes.annotate(str(value), (1, 0.5), xycoords=written, xytext=(6, 0),
                                   textcoords="offset points", **label, bbox=box)  # fmt: skip
                y -= step
        return y, last


def stacked(axis: Axes, bars: Mapping[str, Mapping[str, float]], **labels: str) -> None:
    """Horizontal bars, each cut into parts of the same names; parts differ in colour and hatching.

    Args:
      axis: where to draw.
      bars: name of a bar -> {part: length >= 0}; the first stands on top.
      labels: xlabel, ylabel, title.
    """
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    names = list(bars)[::-1]
    start = np.zeros(len(names))
    for place, part in enumerate(parts):
        lengths = np.array([bars[name].get(part, 0.0) for name in names])
        axis.barh(
            names, lengths, left=start, label=part, color=COLOURS[place % len(COLOURS)],
            hatch=HATCHES[place % len(HATCHES)], edgecolor="white",
        )  # fmt: skip
        start += lengths
    axis.grid(axis="y", visible=False)
    axis.set(**labels)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=min(4, len(parts)))
