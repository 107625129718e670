"""Pages that are files of the repository as they are (for teachers, for contributors, what changed), and one on top
of the exercises.
"""

from __future__ import annotations

from pathlib import Path

from tools.book.places import PAGES, rewritten
from tools.lessons import ROOT, exercises, title_of

FILES = {page: file for file, page in PAGES.items() if page != "index"}  # page -> file


def write(folder: Path) -> None:
    """The pages teaching, contributing, changes and exercises/index."""
    for page, file in FILES.items():
        text = rewritten((ROOT / file).read_text("utf-8"), file, page)
        (folder / f"{page}.md").write_text(text, "utf-8")
    (folder / "exercises").mkdir(exist_ok=True)
    (folder / "exercises" / "index.md").write_text(exercises_text(), "utf-8")


def exercises_text() -> str:
    """The page above the exercises: what is asked, how long it takes, and the order of their pages."""
    found = exercises(kinds=("exercise",))
    rows = ["| | asks | minutes |", "|---|---|--:|"]
    for exercise in found:
        title, question, minutes = title_of(exercise)
        rows.append(f"| [{title}]({exercise.stem}.ipynb) | {question} | {minutes} |")
    tree = ["```{toctree}", ":hidden:", "", *(exercise.stem for exercise in found), "```"]
    said = "Each has a check that says what is wrong, and hints to unfold. The minutes are for reading and typing."
    return "\n\n".join(["# Exercises", said, "\n".join(rows), "\n".join(tree)]) + "\n"
