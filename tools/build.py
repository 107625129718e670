"""`make build`: execute the lessons whose notebooks are stale, then bring the generated parts of pages up to date.

Outputs are stored as the pinned environment makes them: on another Python, or with other versions, nothing is executed.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version

import nbformat

from tools.citation import update_citation
from tools.floor import pins
from tools.lessons import (
    HEAD,
    NOTEBOOKS,
    ROOT,
    Execution,
    Lesson,
    as_notebook,
    execute_all,
    exercise_minutes,
    exercises,
    lessons,
    stated_minutes,
    stderr_of,
    with_ids_of,
    with_minutes,
)
from tools.readme import update_readme
from tools.teaching import update_teaching

PYTHON = (3, 11)  # what outputs are stored on, and compared on


def unfit(requirements: str, python: tuple[int, int] = sys.version_info[:2]) -> list[str]:
    """How this environment differs from the one whose outputs are stored; nothing where it does not."""
    if python != PYTHON:
        wanted, got = (".".join(map(str, each)) for each in (PYTHON, python))
        return [f"expected Python {wanted}, got {got}"]
    found = []
    for name, lines in pins(requirements).items():
        wanted = next((line.specifier for line in lines if line.marker is None or line.marker.evaluate()), None)
        try:
            got = version(name)
        except PackageNotFoundError:
            got = "none"
        if wanted is not None and (got == "none" or not wanted.contains(got, prereleases=True)):
            found.append(f"expected {name}{wanted}, got {got}")
    return found


def is_stale(lesson: Lesson) -> bool:
    """Whether a notebook was built from something other than today's source, package and versions."""
    if not lesson.notebook.is_file():
        return True
    built = nbformat.read(lesson.notebook, as_version=4)
    stored = {**built.metadata.get("course", {})}
    stored.pop("seconds", None)
    return stored != as_notebook(lesson).metadata["course"]


def write_minutes(lesson: Lesson) -> None:
    """Write into an exercise's source how long each of its exercises takes; its solution tells."""
    text = lesson.source.read_text("utf-8")
    new = with_minutes(text, exercise_minutes(as_notebook(Lesson(lesson.stem, lesson.root, "solution"))))
    if new != text:
        lesson.source.write_text(new, "utf-8")


def finish(lesson: Lesson, done: Execution) -> None:
    """Write an executed notebook, and the minutes that it takes a reader into its title, and its source's."""
    lesson.notebook.parent.mkdir(exist_ok=True)
    if lesson.kind != "lesson":
        lesson.notebook.write_text(nbformat.writes(done.notebook) + "\n", "utf-8")
        return
    course = done.notebook.metadata["course"]
    course["seconds"] = 10 * round(done.seconds / 10)  # coarse: a second build seldom changes it
    text = lesson.source.read_text("utf-8")
    if (head := HEAD.match(text)) and int(head["minutes"]) != (minutes := stated_minutes(done.notebook)):
        start, end = head.span("minutes")
        lesson.source.write_text(f"{text[:start]}{minutes}{text[end:]}", "utf-8")
        fresh = as_notebook(lesson)
        done.notebook.cells[0].source = fresh.cells[0].source
        course.update(fresh.metadata["course"])
    lesson.notebook.write_text(nbformat.writes(done.notebook) + "\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stems", nargs="*", help="notebooks to build (09_x, exercises/09_x); all where none is named")
    parser.add_argument("--force", action="store_true", help="build what is not stale too")
    parser.add_argument("--jobs", type=int, default=1, help="more than one disturbs the timings that lessons print")
    options = parser.parse_args()
    known = [*lessons(), *exercises()]
    chosen = [lesson for lesson in known if not options.stems or {lesson.stem, lesson.name} & set(options.stems)]
    for lesson in chosen:
        if lesson.kind == "exercise":
            write_minutes(lesson)
    stale = {lesson.name: lesson for lesson in chosen if options.force or is_stale(lesson)}
    if stale and (found := unfit((ROOT / "requirements.txt").read_text("utf-8"))):
        where = ".".join(map(str, PYTHON))
        remedy = f"`make setup` with Python {where} makes the environment (`make clean` first where .venv is another's)"
        print(*(f"not built: {fault}" for fault in found), f"not built: {', '.join(stale)}; {remedy}", sep="\n")
        return 1
    failures = []
    composed = {name: with_ids_of(as_notebook(lesson), lesson.notebook) for name, lesson in stale.items()}
    for name, done in execute_all(composed, options.jobs, NOTEBOOKS):
        problems = (
            [done.failure] if done.failure else [f"writes to stderr, {line}" for line in stderr_of(done.notebook)]
        )
        if problems:
            failures += [f"{name}: {problem}" for problem in problems]
        else:
            finish(stale[name], done)
    update_readme()
    update_teaching()
    update_citation()
    print(f"{len(stale)} built, {len(chosen) - len(stale)} up to date")
    print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
