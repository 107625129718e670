"""`make build`: execute the lessons whose notebooks are stale, then bring the generated parts of pages up to date."""

from __future__ import annotations

import argparse

import nbformat

from tools.lessons import (
    HEAD,
    NOTEBOOKS,
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
    print(f"{len(stale)} built, {len(chosen) - len(stale)} up to date")
    print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
