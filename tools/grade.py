"""`make grade SUBMISSIONS=folder [OUT=build/grades]`: points and a message for every exercise of every notebook.

The folder holds one folder (or one notebook, NAME-STEM.ipynb) a student; a student's folder holds exercise notebooks
under the names that the course gave them. Results: OUT/grades.csv and OUT/feedback/STUDENT/STEM.md.

This process reads notebooks and never runs what stands in them. tools/grade_one.py does, in a sandbox of bubblewrap: no
network, no processes but its own, no files but Python's and the course's and those read-only, an empty /tmp, limits on
memory, processes and file sizes, and on the time from one result to the next. One process takes a notebook's exercises
in order; where it dies, each exercise without a result gets one of its own, with the cells above the first exercise and
its own cells alone. Where there is no bubblewrap, only work marked `--trusted` is run, and without a sandbox.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tools.sandbox import KEPT, MEGABYTE, ROOT, Refused, run_job, sandbox

LARGEST = 20 * MEGABYTE  # of a notebook that is read
SECONDS, CELL_SECONDS = 60.0, 20.0  # from one result to the next; for one cell
HEADING = re.compile(r"(?m)^## ((?:Exercise|Puzzle) \d+)\b")


@dataclass(frozen=True)
class Exercise:
    """One check of a notebook: its name, its answers' names, and the cells that its section gives."""

    name: str
    answers: tuple[str, ...]
    points: int
    heading: str
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """An exercise notebook as the course hands it out."""

    stem: str
    given: tuple[str, ...]  # code above the first exercise
    exercises: tuple[Exercise, ...]


@dataclass
class Grade:
    """What one exercise of one student came to."""

    student: str
    notebook: str
    exercise: str
    points: int
    of: int
    outcome: str
    message: str


@dataclass
class Work:
    """A student's notebook: cells that were read, or why they could not be."""

    student: str
    stem: str
    cells: list[dict] = field(default_factory=list)
    fault: str = ""
    outcome: str = "not read"


# --- sheets: what the course asks ----------------------------------------------------------------------------


def calls(source: str) -> list[tuple[str, tuple[str, ...]]]:
    """The checks that a cell calls at its top level, each with the names of the answers that it hands in."""
    return [made for node in _statements(source) if (made := _call(node))]


def only_calls(source: str) -> bool:
    """Whether a cell does nothing but call checks."""
    return all(_call(node) for node in _statements(source)) and bool(_statements(source))


def _statements(source: str) -> list[ast.stmt]:
    """A cell's statements at the top level; none where it does not parse."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _call(node: ast.stmt) -> tuple[str, tuple[str, ...]] | None:
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call):
        return None
    parts, called = [], call.func
    while isinstance(called, ast.Attribute):
        parts.append(called.attr)
        called = called.value
    if not parts or not isinstance(called, ast.Name) or called.id != "checks":
        return None
    return ".".join(reversed(parts)), tuple(part.id for part in call.args if isinstance(part, ast.Name))


def points(root: Path = ROOT) -> dict[str, int]:
    """What each check counts, read from the checks' sources."""
    found = {}
    for path in sorted((root / "course" / "checks").glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            for made in getattr(node, "decorator_list", []):
                if isinstance(made, ast.Call) and ast.unparse(made.func) == "check":
                    named = {part.arg: part.value for part in made.keywords}
                    found[node.name] = ast.literal_eval(named["points"]) if "points" in named else 1
    return found


def sheet(stem: str, cells: Iterable[Mapping], points: Mapping[str, int]) -> Sheet:
    """What a notebook of the course asks, read from its cells; stubs, solutions and generated cells are no part of it.

    Args:
      stem: the notebook's name.
      cells: of type, source and metadata.
      points: what each check counts, by name.
    """
    top: list[str] = []
    exercises: list[Exercise] = []
    given, heading = top, ""
    for cell in cells:
        source, meta = cell["source"], cell["metadata"]
        if cell["cell_type"] == "markdown" and (found := HEADING.search(source)):
            heading, given = found[1], []
        elif cell["cell_type"] == "code":
            if asked := calls(source):
                found = [(name, answers) for name, answers in asked if name in points]
                exercises += [Exercise(name, answers, points[name], heading, tuple(given)) for name, answers in found]
            elif not {"stub", "solution", "generated"} & set(meta.get("tags", [])):
                given.append(source)
    return Sheet(stem, tuple(top), tuple(exercises))


def sheets(root: Path = ROOT) -> dict[str, Sheet]:
    """Every exercise notebook of the course, from its source."""
    from tools.lessons import as_notebook, exercises

    worth = points(root)
    return {one.stem: sheet(one.stem, as_notebook(one).cells, worth) for one in exercises(root, kinds=("exercise",))}


def sections(asked: Sheet, cells: Iterable[Mapping]) -> tuple[list[str], dict[str, list[str]]]:
    """A student's code: above the first exercise, and by exercise.

    A cell belongs to the exercise whose heading stands above it. Where no cell there binds the exercise's answer, one
    that does so elsewhere is taken. Calls of checks are left out, and so are cells that are as the course gave them.
    """
    by_heading = {one.heading: one.name for one in reversed(asked.exercises)}
    answers = {"": set(), **{one.name: set(one.answers) for one in asked.exercises}}
    as_given = {source for one in asked.exercises for source in one.given} | set(asked.given)
    here, places, sources = "", [], []
    for cell in cells:
        source = cell["source"]
        if cell["cell_type"] == "markdown" and (found := HEADING.search(source)):
            here = by_heading.get(found[1], here)
        elif cell["cell_type"] == "code" and source.strip() and source not in as_given and not only_calls(source):
            places.append(here)
            sources.append(source)
    bound = [_bound(source) for source in sources]
    for name, wanted in answers.items():
        if not any(place == name and names & wanted for place, names in zip(places, bound, strict=True)):
            for i, names in enumerate(bound):
                if names & wanted and not names & answers[places[i]]:
                    places[i] = name
    top = [source for place, source in zip(places, sources, strict=True) if not place]
    return top, {
        one.name: [source for place, source in zip(places, sources, strict=True) if place == one.name]
        for one in asked.exercises
    }


def _bound(source: str) -> set[str]:
    """Names that a cell binds at its top level; guessed line by line where it does not parse."""
    body = _statements(source)
    if not body:
        return set(re.findall(r"(?m)^(?:(?:def|class)\s+)?(\w+)\b(?=\s*[(=:])", source[:100_000]))
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        parts = [part for target in targets if target is not None for part in ast.walk(target)]
        names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


# --- submissions: what students hand in ----------------------------------------------------------------------


def read(path: Path) -> list[dict]:
    """The cells of a submitted notebook: type and source, nothing else.

    Raises:
      Refused: it is no plain file, too large, or no notebook.
    """
    try:
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        raise Refused("expected a file, got a link, or one that can't be opened; hand in the notebook itself") from None
    with os.fdopen(opened, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or path.is_symlink():
            raise Refused("expected a plain file, got a link or a device; hand in the notebook itself")
        if about.st_size > LARGEST:
            got = f"{about.st_size / MEGABYTE:.0f} MB"
            raise Refused(f"expected at most {LARGEST // MEGABYTE} MB, got {got}; clear the outputs and hand in again")
        content = file.read(LARGEST + 1)
    try:
        cells = json.loads(content.decode("utf-8"))["cells"]
        return [
            {"cell_type": str(cell["cell_type"]), "source": _text(cell["source"]), "metadata": {}} for cell in cells
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise Refused(f"expected a notebook, got something else ({reason}); save it anew in Jupyter") from None


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def submissions(folder: Path, known: Iterable[str], most: int = 1000) -> list[Work]:
    """Every notebook below a folder, with its student and which of ours it is; links to folders are not followed."""
    known = sorted(known, key=len, reverse=True)
    work: list[Work] = []
    taken: set[tuple[str, str]] = set()
    for path in _notebooks(folder, most):
        student, name = clean(path.relative_to(folder).parts[0]), clean(path.stem)
        stem = next((stem for stem in known if re.fullmatch(rf"{re.escape(stem)}(?:[^\w].*)?", name)), None)
        if path.parent == folder:
            stem = next((stem for stem in known if name.endswith(stem)), None)
            student = (name.removesuffix(stem) if stem else name).rstrip("-_ ") or name
        one = Work(student, stem or name)
        if stem is None:
            one.fault = f"expected the name of an exercise notebook, got {name}; give it the course's name back"
            one.outcome = "unknown notebook"
        elif (student, stem) in taken:
            one.fault = f"expected one {stem} from a student, got {name} too, which is not graded; remove one"
            one.outcome, one.stem = "second copy", name
        else:
            taken.add((student, stem))
            try:
                one.cells = read(path)
            except Refused as error:
                one.fault = str(error)
        work.append(one)
    return work


def _notebooks(folder: Path, most: int) -> Iterator[Path]:
    """Notebooks in a folder and three folders deep, in order; `most` of each student's at most."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.suffix == ".ipynb" and not (entry.is_dir() and not entry.is_symlink()):
            yield entry
        elif entry.is_dir() and not entry.is_symlink():
            yield from _below(entry, 3, iter(range(most)))


def _below(folder: Path, depth: int, budget: Iterator[int]) -> Iterator[Path]:
    for entry in sorted(folder.iterdir(), key=lambda entry: (len(entry.name), entry.name)):  # "x" before "x (1)"
        if next(budget, None) is None:
            return
        plain_folder = entry.is_dir() and not entry.is_symlink()
        if entry.suffix == ".ipynb" and not plain_folder:
            yield entry
        elif plain_folder and depth and not entry.name.startswith("."):
            yield from _below(entry, depth - 1, budget)


# --- grades ----------------------------------------------------------------------------------------------------


def outcomes(
    asked: Sheet, cells: list[dict], *, trusted: bool = False, seconds: float = SECONDS,
    cell_seconds: float = CELL_SECONDS, root: Path = ROOT,
) -> tuple[dict[str, tuple[str, str]], str]:  # fmt: skip
    """What each exercise of a student's notebook comes to.

    Args:
      asked: the notebook as the course hands it out.
      cells: the student's, of type and source.
      trusted: run them without a sandbox.
      seconds: from one result to the next, at most.
      cell_seconds: for one cell.
      root: the folder that has course, data and tools.
    Returns:
      Name -> (kind, message), every exercise in it; the first of what the cells printed.
    """
    top, by_name = sections(asked, cells)

    def job(exercises: Iterable[Exercise], top: list[str]) -> dict:
        parts = [
            {"name": one.name, "answers": one.answers, "given": one.given, "cells": by_name[one.name]}
            for one in exercises
        ]
        return {"given": asked.given, "top": top, "exercises": parts, "seconds": cell_seconds}

    def attempt(exercises: Iterable[Exercise], top: list[str]) -> tuple[list[str], str, str]:
        reports, fault, printed = run_job(job(exercises, top), trusted=trusted, seconds=seconds, root=root)
        found.update({one["exercise"]: (one["kind"], one["message"]) for one in reports if one["event"] == "done"})
        return [one["event"] for one in reports], fault, printed

    found: dict[str, tuple[str, str]] = {}
    events, fault, printed = attempt(asked.exercises, top)
    if fault and "start" not in events and top:  # it died in the cells above the first exercise
        top = []
        events, fault, _ = attempt(asked.exercises, top)
    if fault:
        for one in asked.exercises:
            if one.name not in found:
                _, fault, more = attempt([one], top)
                printed += more[: KEPT - len(printed)]
                if one.name not in found:
                    found[one.name] = ("incorrect", f"{one.name}: stopped: {fault}")
    return {one.name: found[one.name] for one in asked.exercises}, printed


def graded(work: Work, known: Mapping[str, Sheet], **how) -> tuple[list[Grade], str]:
    """A row for each exercise of a notebook, and what its cells printed."""
    asked = known.get(work.stem)
    if asked is None or work.outcome == "second copy":
        return [Grade(work.student, work.stem, "", 0, 0, work.outcome, work.fault)], ""
    if work.fault:
        found, printed = {one.name: (work.outcome, work.fault) for one in asked.exercises}, ""
    else:
        try:
            found, printed = outcomes(asked, work.cells, **how)
        except Exception as error:  # one submission stops no other
            reason = f"not graded: {type(error).__name__}: {error}; look at the notebook yourself"
            found, printed = {one.name: ("not graded", reason) for one in asked.exercises}, ""
    rows, points = [], {one.name: one.points for one in asked.exercises}
    for name, (kind, message) in found.items():
        most = points[name]
        rows.append(Grade(work.student, work.stem, name, most * (kind == "correct"), most, kind, clean(message)))
    return rows, clean(printed)


def clean(text: str) -> str:
    """Text without what a terminal or a spreadsheet would carry out."""
    return "".join(
        char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co")
    )


def cell_of_table(value: str | int) -> str | int:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t") else value


def feedback(rows: list[Grade], printed: str) -> str:
    """One notebook's grades for its student, in Markdown; the student's own text stands in indented blocks."""
    got, of = sum(row.points for row in rows), sum(row.of for row in rows)
    parts = [f"# {rows[0].notebook}: {got} of {of} points"]
    for row in rows:
        parts.append(f"## {row.exercise or row.notebook}: {row.outcome}, {row.points} of {row.of}")
        parts.append(_indented(row.message))
    if printed.strip():
        parts += [f"## The first {KEPT} characters that the cells printed", _indented(printed.rstrip())]
    return "\n\n".join(parts) + "\n"


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.split("\n"))


def safe(name: str) -> str:
    """A name for a file or folder of ours, from one of a student's."""
    return re.sub(r"[^\w.-]", "_", clean(name)).lstrip(".")[:100] or "_"


def grade_folder(
    folder: Path, out: Path, known: Mapping[str, Sheet], *, due: Iterable[str] = (), jobs: int = 1, **how
) -> list[Grade]:
    """Grade all submissions in a folder; write grades.csv and feedback/ into another.

    Args:
      folder: one folder or notebook a student.
      out: written to; it is made.
      known: stem -> what the notebook asks.
      due: notebooks that each student should have handed in; those that anyone did where none is named.
      jobs: how many at a time.
      how: passed to `outcomes`.
    Raises:
      Refused: there is no such folder, or strangers' code cannot be run here.
    """
    if not folder.is_dir():
        raise Refused(f"expected a folder with one folder a student, got {folder}; say make grade SUBMISSIONS=folder")
    if not how.get("trusted"):
        sandbox(how.get("root", ROOT))
    work = submissions(folder, known)
    due = sorted(due) or sorted({one.stem for one in work if one.stem in known})
    students = {one.student for one in work} | {
        clean(path.name) for path in folder.iterdir() if path.is_dir() and not path.is_symlink()
    }
    for student in sorted(students):
        handed_in = {one.stem for one in work if one.student == student}
        fault = "expected this notebook, got none; hand it in"
        work += [Work(student, stem, [], fault, "not handed in") for stem in due if stem not in handed_in]
    rows: list[Grade] = []
    with ThreadPoolExecutor(jobs) as pool:
        for one, (found, printed) in zip(work, pool.map(lambda one: graded(one, known, **how), work), strict=True):
            rows += found
            page = out / "feedback" / safe(one.student) / f"{safe(one.stem)}.md"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(feedback(found, printed), "utf-8")
    rows.sort(key=lambda row: (row.student, row.notebook))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "grades.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(Grade.__dataclass_fields__)
        table.writerows([cell_of_table(value) for value in vars(row).values()] for row in rows)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "grades")
    parser.add_argument("--due", nargs="*", default=[], help="notebooks that everyone should have handed in")
    parser.add_argument("--trusted", action="store_true", help="run the work without a sandbox")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="from one result to the next, at most")
    parser.add_argument("--cell-seconds", type=float, default=CELL_SECONDS, help="for one cell, at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    how = {"trusted": options.trusted, "seconds": options.seconds, "cell_seconds": options.cell_seconds}
    try:
        rows = grade_folder(
            Path(options.submissions or "(none)"), options.out, sheets(), due=options.due, jobs=options.jobs, **how
        )
    except Refused as error:
        print(error)
        return 1
    for student in dict.fromkeys(row.student for row in rows):
        own = [row for row in rows if row.student == student]
        print(f"{clean(student)}: {sum(row.points for row in own)} of {sum(row.of for row in own)} points")
    print(f"{len(rows)} exercises graded; {options.out}/grades.csv, {options.out}/feedback/")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
