"""README's generated parts: the lesson table with its badges, and the published speeds."""

from __future__ import annotations

import re
from pathlib import Path

from course import results
from tools.lessons import MISSING, ROOT, address, badges, lessons, tag, title_of

SPEED_ROWS = (
    "torch eager + DataLoader",
    "torch.compile, fused Adam",
    "nnx un-jitted + loader",
    "@nnx.jit + loader",
    "Linen, jax.jit + loader",
    "one compiled run",
    "one compiled run, first call",
)


def render(text: str, root: Path = ROOT) -> str:
    """The same README with every generated part renewed, between its begin and end comments."""
    for name, make in {"lessons": lesson_table, "speed": speed_table}.items():
        begin, end = f"<!-- begin {name}: written by `make build` -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"expected the lines {begin!r} and {end!r} in README.md, got a README without them")
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, m=make, b=begin, e=end: f"{b}\n{m(root)}\n{e}", text,
            flags=re.DOTALL,
        )  # fmt: skip
    return text


def lesson_table(root: Path) -> str:
    rows = ["| lesson | question | minutes | open in |", "|---|---|---|---|"]
    for lesson in lessons(root):
        if MISSING.search(lesson.source.read_text("utf-8")):  # not written yet
            continue
        _, question, minutes = title_of(lesson)
        links = " ".join(badges(lesson.stem, address(root), tag(root)).values())
        rows.append(f"| [{lesson.stem}](notebooks/{lesson.stem}.ipynb) | {question} | {minutes} | {links} |")
    return "\n".join(rows)


def speed_table(root: Path) -> str:
    """Seconds of 500 epochs from the published benchmark, with its conditions."""
    result = results.load("titanic_speed", folder=root / "benchmarks" / "results")
    seconds = results.table(result, "one model, seconds per 500 epochs")["median_s"]
    eager = seconds["torch eager + DataLoader"]
    rows = ["| 500 epochs of the Titanic loop | seconds | vs PyTorch eager |", "|---|---|---|"]
    for name in SPEED_ROWS:
        rows.append(f"| {name} | {seconds[name]:.3g} | {eager / seconds[name]:.2g}x |")
    conditions = f"Batch 32, 837 rows, float32, medians of five rounds; {results.measured_on(result)}."
    return "\n".join([*rows, "", conditions])


def update_readme(root: Path = ROOT) -> None:
    readme = root / "README.md"
    old = readme.read_text("utf-8")
    new = render(old, root)
    if new != old:
        readme.write_text(new, "utf-8")
        print("README.md renewed")


if __name__ == "__main__":
    update_readme()
