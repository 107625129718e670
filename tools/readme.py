"""README's generated parts: where to click, the table of lessons, the published speeds and their picture."""

from __future__ import annotations

import re
from pathlib import Path

from course import results
from tools.lessons import MISSING, ROOT, Lesson, address, badges, book_address, lessons, renew, tag, title_of
from tools.speed import PICTURES, in_words, ladder_table, update_pictures

SHORT = ("00_start_here", "01b_titanic_nnx", "08_tracing")  # what one evening has room for


def render(text: str, root: Path = ROOT) -> str:
    """The same README with every generated part renewed, between its begin and end comments."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin {name}: written by `make build` -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"expected the lines {begin!r} and {end!r} in README.md, got a README without them")
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, m=make, b=begin, e=end: f"{b}\n{m(root)}\n{e}", text,
            flags=re.DOTALL,
        )  # fmt: skip
    return text


def picture(root: Path) -> str:
    """The speed ladder, light or dark as the reader's page is."""
    light, dark = (f"{PICTURES.as_posix()}/ladder-{shade}.svg" for shade in ("light", "dark"))
    return f"""\
<picture>
  <source media="(prefers-color-scheme: dark)" srcset="{dark}">
  <img alt="{in_words(ladder_table(root))}" src="{light}">
</picture>"""


def doors(root: Path) -> str:
    """Where to click first, and how long it takes."""
    first, *_ = found = written(root)
    links = " ".join(badges(first.stem, address(root), tag(root)).values())
    short = [lesson for lesson in found if lesson.stem in SHORT]
    numbers = ", ".join(lesson.stem.partition("_")[0] for lesson in short)
    evening, whole = (sum(title_of(lesson)[2] for lesson in chosen) / 60 for chosen in (short, found))
    return f"""\
**Start here:** [lesson 00](notebooks/{first.stem}.ipynb) {links}, or [read the book]({book_address(root)}).
An evening: lessons {numbers}, {evening:.1f} hours. All of it: {whole:.0f} hours, exercises not counted."""


def lesson_table(root: Path) -> str:
    rows = ["| lesson | question | minutes |", "|---|---|--:|"]
    for lesson in written(root):
        _, question, minutes = title_of(lesson)
        rows.append(f"| [{lesson.stem.partition('_')[0]}](notebooks/{lesson.stem}.ipynb) | {question} | {minutes} |")
    return "\n".join(rows)


def written(root: Path) -> list[Lesson]:
    """The lessons without a missing word."""
    return [lesson for lesson in lessons(root) if not MISSING.search(lesson.source.read_text("utf-8"))]


def speed_table(root: Path) -> str:
    """Seconds of 500 epochs from the published benchmark, with its conditions."""
    result = results.load("titanic_speed", folder=root / "benchmarks" / "results")
    rows = ["| 500 epochs of the Titanic loop | seconds | vs PyTorch eager |", "|---|---|---|"]
    rows += [f"| {name} | {row.seconds:.3g} | {row.times:.2g}x |" for name, row in ladder_table(root).iterrows()]
    conditions = f"Batch 32, 837 rows, float32, medians of five rounds; {results.measured_on(result)}."
    return "\n".join([*rows, "", conditions])


PARTS = {"picture": picture, "doors": doors, "lessons": lesson_table, "speed": speed_table}


def update_readme(root: Path = ROOT) -> None:
    update_pictures(root)
    renew(root / "README.md", render, root)


if __name__ == "__main__":
    update_readme()
