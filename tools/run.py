"""`make run`: execute every lesson from its source into build/run/ and print a table; the tree stays clean.

With --host the kernels look like that host's (tools/hosts.py), and what a lesson needs of the course comes from there.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import hosts
from tools.kaggle import competitions, flax_wheel, write_dataset
from tools.lessons import (
    NOTEBOOKS,
    ROOT,
    Execution,
    Lesson,
    as_notebook,
    execute_all,
    lessons,
    stderr_of,
    tagged_output,
)
from tools.tables import print_table

OUT = ROOT / "build" / "run"


def host_of(name: str, lesson: Lesson, made: Path, packages: Path | None) -> hosts.Host:
    """The host that a lesson runs on: Colab with internet, or Kaggle without and with the course attached."""
    if name == "Colab":
        return hosts.Host(name, made / "repository", made / "wheels", packages=packages)
    inputs = {hosts.DATASET: made / "dataset"}
    if competitions(lesson):
        inputs[hosts.COMPETITION] = made / "competition"
    return hosts.Host(name, inputs=inputs, packages=packages)


def make_hosts(folder: Path) -> None:
    """Write what the hosts of `host_of` mount.

    Raises:
      HostError: no hosts can be made here.
    """
    hosts.check()
    wheel = flax_wheel()
    if wheel is None:
        raise hosts.HostError(
            "expected the wheel of flax that some lessons bring, got no network; run it with one, once"
        )
    hosts.repository(folder / "repository")
    hosts.competition(folder / "competition")
    write_dataset(folder / "dataset", wheel)
    (folder / "wheels").symlink_to(wheel.parent)


def one_of_each_opening(notebooks: dict[str, NotebookNode]) -> dict[str, NotebookNode]:
    """The first of those that share a first code cell, which finds the course and brings what the lesson needs."""
    first: dict[str, str] = {}
    for stem, notebook in notebooks.items():
        first.setdefault(next(cell.source for cell in notebook.cells if cell.cell_type == "code"), stem)
    return {stem: notebooks[stem] for stem in first.values()}


def failure_of(lesson: Lesson, done: Execution, host: hosts.Host | None, warnings_are_errors: bool) -> str | None:
    """Why a lesson's run is not right, or None."""
    if done.failure:
        return done.failure
    warned = stderr_of(done.notebook, alarms=False)
    if warned and warnings_are_errors:
        return f"stderr in {warned[0]}"
    if host and hosts.COMPETITION in host.inputs:
        wanted = f"wrote submission.csv: {hosts.ROWS['test.csv']} rows"
        if not any(
            wanted in output.get("text", "") for cell in done.notebook.cells for output in cell.get("outputs", [])
        ):
            return f"expected {wanted!r}, because the competition is mounted, got nothing of the kind"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stems", nargs="*", help="lessons to run; all where none is named")
    parser.add_argument("--host", choices=hosts.MARKS, help="look like this host; skipped where there is no bubblewrap")
    parser.add_argument(
        "--packages", type=lambda text: Path(text).resolve(), help="with --host, a folder of packages that it has older"
    )
    parser.add_argument("--openings", action="store_true", help="of the lessons that open alike run only the first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--warnings-are-errors", action="store_true", help="fail a lesson that writes to stderr")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        return run(options, Path(made))


def run(options: argparse.Namespace, made: Path) -> int:
    """Execute, print and return the exit status; `made` is for what hosts mount."""
    out = OUT.with_name(f"run-{options.host.lower()}") if options.host else OUT
    out.mkdir(parents=True, exist_ok=True)
    chosen = {lesson.stem: lesson for lesson in lessons() if not options.stems or lesson.stem in options.stems}
    on: dict[str, hosts.Host] = {}
    how: dict[str, Callable[[NotebookNode, Path], Execution]] = {}
    if options.host:
        try:
            make_hosts(made)
        except hosts.HostError as error:
            print(f"lessons not run as on {options.host}: {error}")
            return int(sys.platform.startswith("linux"))
        on = {stem: host_of(options.host, lesson, made, options.packages) for stem, lesson in chosen.items()}
        how = {stem: partial(hosts.execute_on, host) for stem, host in on.items()}
    notebooks = {stem: as_notebook(lesson) for stem, lesson in chosen.items()}
    if options.openings:
        notebooks = one_of_each_opening(notebooks)
    rows, failures, total = {}, [], 0.0
    for stem, done in execute_all(notebooks, options.jobs, NOTEBOOKS, how):
        nbformat.write(done.notebook, out / f"{stem}.ipynb")
        warned = stderr_of(done.notebook, alarms=False)
        failure = failure_of(chosen[stem], done, on.get(stem), options.warnings_are_errors)
        if failure:
            failures.append(f"{stem}, {failure}")
        verdict = "FAILED" if failure else "ok" if not warned else f"ok, stderr in {warned[0].partition(':')[0]}"
        rows[stem] = {
            "lesson": stem, **({"host": str(on[stem])} if on else {}), "seconds": f"{done.seconds:.1f}",
            **({} if on else {"core-seconds": f"{done.cpu_seconds:.1f}"}),  # a host's kernel does not tell
            "verdict": verdict, "": tagged_output(done.notebook, "report"),
        }  # fmt: skip
        total += done.cpu_seconds
    print_table([rows[stem] for stem in sorted(rows)])
    took = "" if on else f", {total:.0f} core-seconds together"
    print(f"\n{len(rows)} lessons{took}; executed copies in {out.relative_to(ROOT)}/")
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
