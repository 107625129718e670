"""TEACHING.md's generated parts: timetables, from the minutes that lessons and exercises state."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

from tools.lessons import ROOT, Lesson, renew, title_of

TYPING = 2  # an exercise in class takes this many times the minutes that it states, which leave out thinking
PLAN = re.compile(r"(<!-- begin plan: (?P<start>\d\d:\d\d) (?P<items>.+?) -->\n).*?(<!-- end plan -->)", re.DOTALL)


def render(text: str, root: Path = ROOT) -> str:
    """The same page with every timetable written anew from the list in its first comment."""
    return PLAN.sub(lambda m: f"{m[1]}{timetable(m['start'], m['items'].split(', '), root)}\n{m[4]}", text)


def timetable(start: str, items: list[str], root: Path = ROOT) -> str:
    """Rows of a table: when, how long, what. An item is a lesson, "exercises/NN_name", "break 15" or "day 09:00"."""
    rows, clock, taught = ["| from | minutes | what |", "|---|---|---|"], datetime.strptime(start, "%H:%M"), 0
    for item in items:
        kind, _, rest = item.partition(" ")
        if kind == "day":
            clock = datetime.strptime(rest, "%H:%M")
            rows.append("| | | **next day** |")
            continue
        minutes, what = (int(rest), "break") if kind == "break" else _part(item, root)
        taught += minutes * (kind != "break")
        rows.append(f"| {clock:%H:%M} | {minutes} | {what} |")
        clock += timedelta(minutes=minutes)
    return "\n".join([*rows, f"| {clock:%H:%M} | | end; {taught} minutes without breaks |"])


def _part(item: str, root: Path) -> tuple[int, str]:
    folder, _, stem = item.rpartition("/")
    title, _, minutes = title_of(Lesson(stem, root, "exercise" if folder else "lesson"))
    return minutes * (TYPING if folder else 1), f"[{title}](notebooks/{item}.ipynb)"


def update_teaching(root: Path = ROOT) -> None:
    try:
        renew(root / "TEACHING.md", render, root)
    except FileNotFoundError as error:
        print(f"TEACHING.md is not renewed: a plan names what is not there: {Path(error.filename).name}")
