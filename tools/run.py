"""`make run`: execute every lesson from its source into build/run/ and print a table; the tree stays clean."""

from __future__ import annotations

import argparse
import os

import nbformat

from tools.lessons import (
    NOTEBOOKS,
    ROOT,
    as_notebook,
    execute_all,
    lessons,
    new_in_flax,
    stderr_of,
    tagged_output,
    uses_flax,
)
from tools.tables import print_table

OUT = ROOT / "build" / "run"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stems", nargs="*", help="lessons to run; all where none is named")
    parser.add_argument(
        "--leaving-flax", action="store_true", help="only lessons that use flax, and run on a host's older one"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--warnings-are-errors", action="store_true", help="fail a lesson that writes to stderr")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    chosen = [lesson for lesson in lessons() if not options.stems or lesson.stem in options.stems]
    if options.leaving_flax:
        chosen = [lesson for lesson in chosen if uses_flax(lesson) and not new_in_flax(lesson)]
    rows, failures, total = {}, [], 0.0
    for stem, done in execute_all({lesson.stem: as_notebook(lesson) for lesson in chosen}, options.jobs, NOTEBOOKS):
        nbformat.write(done.notebook, OUT / f"{stem}.ipynb")
        warned = stderr_of(done.notebook, alarms=False)
        failure = done.failure or (f"stderr in {warned[0]}" if warned and options.warnings_are_errors else None)
        if failure:
            failures.append(f"{stem}, {failure}")
        verdict = "FAILED" if failure else "ok" if not warned else f"ok, stderr in {warned[0].partition(':')[0]}"
        rows[stem] = {
            "lesson": stem, "seconds": f"{done.seconds:.1f}", "core-seconds": f"{done.cpu_seconds:.1f}",
            "verdict": verdict, "": tagged_output(done.notebook, "report"),
        }  # fmt: skip
        total += done.cpu_seconds
    print_table([rows[stem] for stem in sorted(rows)])
    print(f"\n{len(rows)} lessons, {total:.0f} core-seconds together; executed copies in {OUT.relative_to(ROOT)}/")
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
