"""The speed ladder that README and the book show: a picture of published measurements, for light pages and dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from course import plots, results
from tools.lessons import ROOT

LOOP, EAGER = "one model, seconds per 500 epochs", "torch eager + DataLoader"
ROWS = (
    EAGER,
    "torch.compile, fused Adam",
    "nnx un-jitted + loader",
    "@nnx.jit + loader",
    "Linen, jax.jit + loader",
    "one compiled run",
    "one compiled run, first call",
)
PICTURES = Path("book") / "pictures"


def ladder_table(root: Path = ROOT) -> pd.DataFrame:
    """Seconds for 500 epochs, and how many times as fast as PyTorch eager, for each of `ROWS`."""
    result = results.load("titanic_speed", folder=root / "benchmarks" / "results")
    seconds = results.table(result, LOOP)["median_s"]
    table = pd.DataFrame({"seconds": seconds.loc[[*ROWS]]})
    return table.assign(times=seconds[EAGER] / table["seconds"])


def in_words(table: pd.DataFrame) -> str:
    """What the picture shows."""
    said = "; ".join(f"{name}: {row.times:.2g}x" for name, row in table.iterrows())
    return f"Bars on a logarithmic scale, speed relative to PyTorch eager. {said}."


def stale_pictures(root: Path = ROOT) -> list[Path]:
    """The committed pictures that do not show what was published; each carries its own words."""
    words = in_words(ladder_table(root))
    paths = [root / PICTURES / f"ladder-{shade}.svg" for shade in ("light", "dark")]
    return [path for path in paths if not path.is_file() or words not in path.read_text("utf-8")]


def update_pictures(root: Path = ROOT) -> None:
    """Draw the stale ones anew."""
    for path in stale_pictures(root):
        path.parent.mkdir(exist_ok=True)
        draw_ladder(path, ladder_table(root), dark="dark" in path.stem)
        print(f"{path.relative_to(root)} drawn")


def draw_ladder(path: Path, table: pd.DataFrame, dark: bool) -> None:
    rows = table.iloc[::-1]
    with styled(dark):
        _, axis = plt.subplots(figsize=(5.6, 3.0))
        for place, (name, row) in enumerate(rows.iterrows()):
            torch = "torch" in str(name)
            axis.barh(
                place, row.times - 1, left=1, color=plots.TORCH if torch else plots.JAX, hatch="//" if torch else "",
                edgecolor="white", height=0.65,
            )  # fmt: skip
            beyond, side = (1.15, "left") if row.times >= 1 else (1 / 1.15, "right")
            axis.text(row.times * beyond, place, f"{row.times:.2g}×", ha=side, va="center")
        axis.axvline(1, color=plt.rcParams["text.color"], linewidth=1)
        axis.set(xscale="log", xlim=(0.002, 400), xlabel="times as fast as PyTorch eager", yticks=range(len(rows)))
        axis.set_yticklabels(rows.index)
        axis.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        axis.grid(axis="y", visible=False)
        save(path, in_words(table))


@contextmanager
def styled(dark: bool) -> Iterator[None]:
    """matplotlib's settings of course.plots, on a transparent ground, so that the page's own shows."""
    ink = "#E6E6E6" if dark else "#1A1A1A"
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    with plt.rc_context():
        plots.use()
        plt.rcParams.update(dict.fromkeys(inks, ink))
        plt.rcParams.update(dict.fromkeys(("axes.facecolor", "legend.facecolor", "savefig.facecolor"), "none"))
        plt.rcParams.update({"svg.hashsalt": "course", "grid.color": "#808080"})
        yield


def save(path: Path, description: str = "") -> None:
    """The current figure as SVG, equal bytes for equal figures."""
    plt.savefig(path, metadata={"Date": None, "Description": description})
    plt.close()
