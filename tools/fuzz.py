"""`make fuzz`: 3,000 random programs through every public operator of course.taylor and course.stde.

Each is compared with nested JAX. The grammar is that of tests/unit/random_programs.py, with more items a program than
in `make test`. The result goes to tests/unit/fuzz_result.json; a failure names its program, to be made a fixed test.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

from tqdm import tqdm

from course import timing
from tools import environment

RESULT = Path(__file__).resolve().parents[1] / "tests" / "unit" / "fuzz_result.json"
CHUNK = 30  # programs of one process, so that memory stays small


def chunk(numbers: tuple[int, range]) -> list[tuple[int, str, float | None, str]]:
    """Run some programs of a seed: number, operator and relative gap of each, or what went wrong."""
    import jax
    import numpy as np

    from tests.unit import random_checks

    environment.compile_quickly()
    jax.config.update("jax_enable_x64", True)
    (seed, programs), rows = numbers, []
    for number in programs:
        rng = np.random.default_rng((seed, number))
        operator, setting, _ = random_checks.plan(number, random_checks.MORE_ITEMS)
        name = f"{operator.__name__}, {setting}"
        try:
            gap = random_checks.check(number, lambda n, _, rng=rng: int(rng.integers(n)), random_checks.MORE_ITEMS)
            rows.append((number, name, gap, ""))
        except Exception as error:  # whatever it is, it is a finding
            rows.append((number, name, None, f"{type(error).__name__}: {error}"))
    jax.clear_caches()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=600, help="stop then; the result says how far it came")
    options = parser.parse_args()
    everything, rows = range(options.programs), []
    chunks = [(options.seed, everything[start : start + CHUNK]) for start in everything[::CHUNK]]
    with (
        get_context("spawn").Pool(options.jobs, maxtasksperchild=5) as pool,
        tqdm(total=options.programs, desc="programs", file=sys.stderr) as bar,
    ):
        end = monotonic() + 60 * options.minutes
        for found in pool.imap_unordered(chunk, chunks):
            rows += found
            bar.update(len(found))
            if monotonic() > end:
                break
    failures = [row for row in sorted(rows) if row[3]]
    for number, name, _, problem in failures:
        print(f"program {number} ({name}): {problem}")
    write(options.seed, rows, failures)
    print(f"{len(rows)} programs, {len(failures)} failures; wrote {RESULT.name}")
    return 1 if failures else 0


def write(seed: int, rows: list, failures: list) -> None:
    operators = sorted({row[1].partition(",")[0] for row in rows})
    content = {
        "seed": seed,
        "programs": len(rows),
        "failures": [f"{number}: {problem}" for number, _, _, problem in failures],
        "software": timing.environment(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "programs_by_operator": {o: sum(row[1].startswith(f"{o},") for row in rows) for o in operators},
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
