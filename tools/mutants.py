"""`make mutants`: plant small faults in `course`, one at a time, and see whether the unit and parity tests find them.

Cosmic Ray makes the faults: another operator, another number, a comparison turned round, a loop that never runs. Places
are sampled by seed, then one fault at each. Coverage tells which tests run the changed line, and those run, quick ones
first, until one fails or MOST_S seconds of tests have passed; `--missed` tries what is left with all of them. The
result goes to tests/unit/mutants_result.json as it comes; a fault that no test finds is listed there, with the reason
why it is none where tests/unit/harmless_mutants.toml gives one.
"""

from __future__ import annotations

import argparse
import ast
import json
import operator
import os
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import monotonic
from xml.etree import ElementTree

import numpy as np
from coverage import CoverageData
from tqdm import tqdm

from course import timing

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
RESULT = ROOT / "tests" / "unit" / "mutants_result.json"
HARMLESS = ROOT / "tests" / "unit" / "harmless_mutants.toml"
TESTS = ["course", "tests/unit", "tests/parity"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:nbval", "-p", "no:cacheprovider", "--doctest-modules"]
FIRST_S = 40  # seconds of quick tests that a fault meets first; the others only where it survives these
MOST_S = 120  # seconds of tests in all, or the survivors alone would take more than the hour
COPIED = ("course", "tests", "tools", "benchmarks", "rosetta", "data", "conftest.py", "pyproject.toml")


# --- faults --------------------------------------------------------------------------------------------------


def sample(count: int, seed: int, files: list[Path]) -> list:
    """Cosmic Ray's mutations of these files, one at each of `count` places drawn by seed."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB, use_db

    BUILD.mkdir(parents=True, exist_ok=True)
    with use_db(BUILD / "mutations.sqlite", WorkDB.Mode.create) as database:
        init(files, database, {})
        mutations = [item.mutations[0] for item in database.work_items]
    places = defaultdict(list)
    ignored = {path: annotations(path.read_text("utf-8")) for path in files}
    for mutation in mutations:
        if not any(start <= mutation.start_pos < end for start, end in ignored[mutation.module_path]):
            places[str(mutation.module_path), mutation.start_pos].append(mutation)
    rng = np.random.default_rng(seed)
    everywhere = sorted(places)
    drawn = rng.permutation(len(everywhere))[:count]
    found = []
    for number in drawn:  # not in the order of files: a run that is stopped has tried some of each
        choices = sorted(places[everywhere[number]], key=lambda m: (m.operator_name, m.occurrence))
        found.append(choices[rng.integers(len(choices))])
    return found


def annotations(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations stand, from (line, column) to (line, column): nothing runs them."""
    nodes = []
    for node in ast.walk(ast.parse(code)):
        nodes += [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n is not None]


# --- tests ---------------------------------------------------------------------------------------------------


def copies(count: int) -> list[Path]:
    """What the tests need of the repository, as often as there are workers."""
    folders = [BUILD / f"copy{number}" for number in range(count)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in COPIED:
            source = ROOT / name
            shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    return folders


def covering(folder: Path, jobs: int) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """Which tests run a line, file -> line -> tests, and the seconds of each test; from one run of all in a copy."""
    data, times = BUILD / "coverage", BUILD / "times.xml"
    command = [*PYTEST, "-n", str(jobs), "--dist", "loadfile", "--cov=course", "--cov-context=test", "--cov-report=",
               f"--junitxml={times}", "-o", "junit_family=xunit1", *TESTS]  # fmt: skip
    environment = os.environ | {"COVERAGE_FILE": str(data), "PYTHONPATH": str(folder)}
    subprocess.run(command, cwd=folder, check=True, env=environment, stdout=sys.stderr)
    recorded = CoverageData(str(data))
    recorded.read()
    lines = {}
    for file in recorded.measured_files():
        by_line = recorded.contexts_by_lineno(file)
        lines[str(Path(file).relative_to(folder))] = {
            line: {context.rpartition("|")[0] for context in contexts} for line, contexts in by_line.items()
        }
    seconds: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(times).iter("testcase"):
        seconds[case.get("name")] = max(seconds[case.get("name")], float(case.get("time")))
    return lines, seconds


def chosen(mutation, lines: dict, seconds: dict) -> list[str]:
    """The tests that run a fault's lines, or, where an import does, all of its file's; quick ones first."""
    by_line = lines.get(str(mutation.module_path), {})
    there = range(mutation.start_pos[0], mutation.end_pos[0] + 1)
    tests = set().union(*(by_line.get(line, {""}) for line in there))
    if "" in tests:  # an import runs it
        tests = set().union(*by_line.values()) - {""}
    return sorted(tests, key=lambda test: (seconds[test.rpartition("::")[2]], test))


# --- one fault -----------------------------------------------------------------------------------------------


def prepare(folders) -> None:
    """A worker works in a copy of its own."""
    os.chdir(folders.get())
    os.environ["PYTHONPATH"] = os.getcwd()


def try_out(mutation, tests: list[str], seconds: list[float]) -> dict:
    """Plant one fault and run tests until one fails."""
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_item import TestOutcome

    quick, most = (sum(np.cumsum(seconds) <= limit) or len(tests) for limit in (FIRST_S, MOST_S))
    for part, limit in ((tests[:quick], 60 + 5 * FIRST_S if seconds else 900), (tests[quick:most], 60 + 5 * MOST_S)):
        if not part:
            break
        with NamedTemporaryFile("w", suffix=".txt") as arguments:
            arguments.write("\n".join(part))
            arguments.flush()
            result = mutate_and_test([mutation], " ".join([*PYTEST, "-x", f"@{arguments.name}"]), limit)
        if "ERROR: not found" in (result.output or ""):
            raise RuntimeError(f"expected tests that can be found, got:\n{result.output}")
        if result.test_outcome != TestOutcome.SURVIVED:
            break
    changed = [line for line in (result.diff or "").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return {
        "file": str(mutation.module_path), "line": mutation.start_pos[0], "column": mutation.start_pos[1],
        "change": "\n".join(changed), "outcome": result.test_outcome.value,
        "tests": sorted({test.partition("::")[0] for test in tests}),
    }  # fmt: skip


def in_copies(work: list[tuple], folders: list[Path], end: float) -> Iterator[dict]:
    """Try out (mutation, tests, their seconds), each worker in a copy of its own, until the time is over."""
    context, missed = get_context("spawn"), 0
    queue = context.SimpleQueue()
    for folder in folders:
        queue.put(str(folder))
    with (
        ProcessPoolExecutor(len(folders), mp_context=context, initializer=prepare, initargs=(queue,)) as pool,
        tqdm(total=len(work), desc="faults", file=sys.stderr) as bar,
    ):
        left = {pool.submit(try_out, *each) for each in work}
        for future in as_completed(set(left)):  # never yields one that is cancelled
            left.remove(future)
            missed += future.result()["outcome"] == "survived"
            bar.update()
            bar.set_postfix(missed=missed)
            yield future.result()
            if monotonic() > end:
                break
        pool.shutdown(cancel_futures=True)
        yield from (future.result() for future in left if not future.cancelled())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=60, help="stop then; the result says how many were tried")
    parser.add_argument("--missed", action="store_true", help="those of the last result without a reason, once more")
    options = parser.parse_args()
    os.chdir(ROOT)
    end = monotonic() + 60 * options.minutes
    files, before, folders = sorted(Path("course").rglob("*.py")), None, copies(options.jobs)
    if options.missed:  # tests may have come since: whole files of tests
        before = json.loads(RESULT.read_text("utf-8"))
        known = reasons()
        places = {place(row): row["tests"] for row in before["missed"] if row["change"].strip() not in known}
        mutations = sample(options.sample, before["seed"], files)
        work = [(m, tests, []) for m in mutations if (tests := places.get((str(m.module_path), *m.start_pos)))]
    else:
        mutations = sample(options.sample, options.seed, files)
        lines, seconds = covering(folders[0], options.jobs)
        work = []
        for mutation in mutations:
            tests = chosen(mutation, lines, seconds)
            work.append((mutation, tests, [seconds[test.rpartition("::")[2]] for test in tests]))
    rows, saved = [], before
    for row in in_copies(work, folders, end):
        rows.append(row)
        saved = save(rows, options.seed, before)
    for row in saved["missed"]:
        print(f"{row['file']}:{row['line']}\n{row['change']}\n    {row['reason'] or 'no test finds it'}\n")
    harmless = sum(bool(row["reason"]) for row in saved["missed"])
    print(f"{saved['faults']} faults, {saved['found']} found, {harmless} harmless")
    return 1 if harmless < len(saved["missed"]) else 0


place = operator.itemgetter("file", "line", "column")


def reasons() -> dict[str, str]:
    """Faults that are none: what was changed -> why."""
    harmless = tomllib.loads(HARMLESS.read_text("utf-8"))["mutant"]
    return {entry["change"].strip(): entry["reason"] for entry in harmless}


def save(rows: list[dict], seed: int, before: dict | None) -> dict:
    """Write what is known so far; where it goes over what was missed `before`, only that changes."""
    found = sum(row["outcome"] != "survived" for row in rows)
    result = {"seed": seed, "faults": len(rows), "found_at_first": found, "found": found}
    if before:
        result = {key: before[key] for key in result} | {"found": before["found"] + found}
        tried = {place(row) for row in rows}
        rows = rows + [row for row in before["missed"] if place(row) not in tried]
    known = reasons()
    missed = sorted((row for row in rows if row["outcome"] == "survived"), key=place)
    missed = [row | {"reason": known.get(row["change"].strip())} for row in missed]
    result |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "software": timing.environment(), "missed": missed}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return result


if __name__ == "__main__":
    raise SystemExit(main())
