"""README's generated parts: the lesson table with its badges, and the speeds that the lessons printed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from tools.lessons import ROOT, address, badges, lessons, tag, tagged_output, title_of


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
        _, question, minutes = title_of(lesson)
        links = " ".join(badges(lesson.stem, address(root), tag(root)).values())
        rows.append(f"| [{lesson.stem}](notebooks/{lesson.stem}.ipynb) | {question} | {minutes} | {links} |")
    return "\n".join(rows)


def speed_table(root: Path) -> str:
    lines = [
        tagged_output(nbformat.read(lesson.notebook, as_version=4), "speed")
        for lesson in lessons(root)
        if lesson.notebook.is_file()
    ]
    return "\n".join(["```", *(line for line in lines if line), "```"])


def update_readme(root: Path = ROOT) -> None:
    readme = root / "README.md"
    old = readme.read_text("utf-8")
    new = render(old, root)
    if new != old:
        readme.write_text(new, "utf-8")
        print("README.md renewed")


if __name__ == "__main__":
    update_readme()
