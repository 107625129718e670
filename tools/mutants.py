"""`make mutants`: plant small faults in `course`, one at a time, and see whether the unit and parity tests find them.

Cosmic Ray makes the faults: another operator, another number, a comparison turned round, a loop that never runs. Places
are sampled by seed, then one fault at each. Coverage tells which tests run the changed line, and those run, quick ones
first, until one fails. The result goes to tests/unit/mutants_result.json; a fault that no test finds is listed there,
with the reason why it is none where tests/unit/harmless_mutants.toml gives one.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
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

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
RESULT = ROOT / "tests" / "unit" / "mutants_result.json"
HARMLESS = ROOT / "tests" / "unit" / "harmless_mutants.toml"
TESTS = ["--doctest-modules", "course", "tests/unit", "tests/parity"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:nbval", "-p", "no:cacheprovider"]
FIRST_S = 40  # seconds of quick tests that a fault meets first; the others only where it survives these
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
    for number in sorted(drawn):
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


def covering(jobs: int) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """Which tests run a line, file -> line -> tests, and the seconds of each test; from one run of all of them."""
    data, times = BUILD / "coverage", BUILD / "times.xml"
    command = [*PYTEST, "-n", str(jobs), "--dist", "loadfile", "--cov=course", "--cov-context=test", "--cov-report=",
               f"--junitxml={times}", "-o", "junit_family=xunit1", *TESTS]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"COVERAGE_FILE": str(data)}, stdout=sys.stderr)
    recorded = CoverageData(str(data))
    recorded.read()
    lines = {}
    for file in recorded.measured_files():
        by_line = recorded.contexts_by_lineno(file)
        lines[str(Path(file).relative_to(ROOT))] = {
            line: {context.rpartition("|")[0] for context in contexts if context} for line, contexts in by_line.items()
        }
    seconds: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(times).iter("testcase"):
        seconds[case.get("name")] = max(seconds[case.get("name")], float(case.get("time")))
    return lines, seconds


def chosen(mutation, lines: dict, seconds: dict) -> list[str]:
    """The tests that run a fault's lines, or, where only an import does, all of its file's; quick ones first."""
    by_line = lines.get(str(mutation.module_path), {})
    there = range(mutation.start_pos[0], mutation.end_pos[0] + 1)
    tests = set().union(*(by_line.get(line, set()) for line in there)) or set().union(*by_line.values())
    return sorted(tests, key=lambda test: (seconds.get(test.rpartition("::")[2], 0.0), test))


# --- one fault -----------------------------------------------------------------------------------------------


def prepare(folders) -> None:
    """A worker works in a copy of its own."""
    os.chdir(folders.get())
    os.environ["PYTHONPATH"] = os.getcwd()


def try_out(mutation, tests: list[str], seconds: list[float]) -> dict:
    """Plant one fault and run tests until one fails."""
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_item import TestOutcome

    quick = sum(np.cumsum(seconds) <= FIRST_S) or 1
    result = None
    for part, limit in ((tests[:quick], 60 + 5 * FIRST_S), (tests[quick:], 60 + 5 * sum(seconds))):
        if part:
            with NamedTemporaryFile("w", suffix=".txt") as arguments:
                arguments.write("\n".join(part))
                arguments.flush()
                command = " ".join([*PYTEST, "-x", f"@{arguments.name}"])
                result = mutate_and_test([mutation], command, limit)
        if result is None or result.test_outcome != TestOutcome.SURVIVED:
            break
    changed = [line for line in (result.diff or "").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return {
        "file": str(mutation.module_path), "line": mutation.start_pos[0], "change": "\n".join(changed),
        "outcome": result.test_outcome.value, "output": (result.output or "")[-600:],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=60, help="stop then; the result says how many were tried")
    parser.add_argument("--only", default="", help="files whose path begins so, course/pde for instance")
    parser.add_argument("--reuse", action="store_true", help="take coverage and times from the run before")
    options = parser.parse_args()
    os.chdir(ROOT)
    files = [path for path in sorted(Path("course").rglob("*.py")) if str(path).startswith(options.only)]
    mutations = sample(options.sample, options.seed, files)
    end = monotonic() + 60 * options.minutes
    if not (options.reuse and (BUILD / "map.json").is_file()):
        lines, seconds = covering(options.jobs)
        stored = {file: {line: sorted(tests) for line, tests in by.items()} for file, by in lines.items()}
        (BUILD / "map.json").write_text(json.dumps([stored, seconds]), "utf-8")
    stored, seconds = json.loads((BUILD / "map.json").read_text("utf-8"))
    lines = {file: {int(line): set(tests) for line, tests in by.items()} for file, by in stored.items()}
    context = get_context("spawn")
    folders = context.SimpleQueue()
    for worker in range(options.jobs):
        folder = BUILD / f"copy{worker}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in COPIED:
            source = ROOT / name
            shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
        folders.put(str(folder))
    rows = []
    with (
        ProcessPoolExecutor(options.jobs, mp_context=context, initializer=prepare, initargs=(folders,)) as pool,
        tqdm(total=len(mutations), desc="faults", file=sys.stderr) as bar,
    ):
        futures = []
        for mutation in mutations:
            tests = chosen(mutation, lines, seconds)
            times = [seconds.get(test.rpartition("::")[2], 0.0) for test in tests]
            futures.append(pool.submit(try_out, mutation, tests, times))
        for future in as_completed(futures):
            if not future.cancelled():
                rows.append(future.result())
                bar.update()
                bar.set_postfix(missed=sum(row["outcome"] == "survived" for row in rows))
            if monotonic() > end:
                pool.shutdown(wait=False, cancel_futures=True)
    return write(options.seed, rows, whole=not options.only)


def write(seed: int, rows: list[dict], whole: bool) -> int:
    """Print what was missed, and write the result; the exit code is 1 where a fault without a reason is left."""
    reasons = {
        entry["change"].strip(): entry["reason"] for entry in tomllib.loads(HARMLESS.read_text("utf-8"))["mutant"]
    }
    missed = sorted((row for row in rows if row["outcome"] == "survived"), key=lambda row: (row["file"], row["line"]))
    for row in missed:
        row["reason"] = reasons.get(row["change"])
        print(f"{row['file']}:{row['line']}\n{row['change']}\n    {row['reason'] or 'no test finds it'}\n")
    print(f"{len(rows)} faults, {len(rows) - len(missed)} found, {sum(bool(row['reason']) for row in missed)} harmless")
    if whole:
        content = {
            "seed": seed,
            "faults": len(rows),
            "found": len(rows) - len(missed),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "missed": [{key: row[key] for key in ("file", "line", "change", "reason")} for row in missed],
        }
        RESULT.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 1 if any(not row["reason"] for row in missed) else 0


if __name__ == "__main__":
    raise SystemExit(main())
