"""What every benchmark shares: one core for both sides, interleaved rounds, medians, tables and one form of JSON file.

Importing this module, or a benchmark, measures and changes nothing. `command` is a benchmark's `main`: it asks the
operating system for one core before JAX starts its threads, runs `bench(quick)`, prints its tables and writes them.
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import NotRequired, TypedDict

import jax
import numpy as np
from tqdm import tqdm

from benchmarks import machine
from course import timing
from tools.tables import print_table

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "bench"


# --- what a result file holds --------------------------------------------------------------------------------------


class Conditions(TypedDict):
    """What a result is worth nothing without; None where it was not recorded."""

    software: str  # platform and versions, `timing.environment()`
    cpu: str
    cores: int  # that this process may use
    torch_threads: int | None  # None where torch took no part
    jax_device: str
    numpy: str | None
    date: str  # YYYY-MM-DD, UTC
    peak_memory_GiB: float | None  # of the whole process, on the host


class RatioRow(TypedDict):
    """A comparison: `Ratio.row()`."""

    what: str
    measured: float
    at_least: float | None
    reached: bool | None


class Result(TypedDict):
    """The content of benchmarks/results/NAME-PLATFORM.json.

    A table's rows have equal keys, the first of which is "name"; values are texts, numbers, booleans or None.
    """

    conditions: Conditions
    tables: dict[str, list[dict]]
    ratios: list[RatioRow]
    setting: NotRequired[dict]  # of a benchmark that offers several


def check_result(content: dict) -> None:
    """Refuse what does not follow `Result`.

    Raises:
      ValueError: keys are missing or unknown, a table is empty or ragged, or a number is not finite.
    """
    _same_keys("a result", content, Result)
    _same_keys("conditions", content["conditions"], Conditions)
    if not content["tables"]:
        raise ValueError("expected at least one table, got none")
    for title, rows in content["tables"].items():
        if not rows or any(list(row) != list(rows[0]) or next(iter(row)) != "name" for row in rows):
            raise ValueError(
                f'expected rows with equal keys, "name" first, in the table {title!r}, got {[list(r) for r in rows]}; '
                "write None where a value is missing"
            )
    for row in content["ratios"]:
        _same_keys("a ratio", row, RatioRow)
    rows = chain(*content["tables"].values(), content["ratios"], [content["conditions"], content.get("setting", {})])
    for row in rows:
        for key, value in row.items():
            if not (isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value))):
                raise ValueError(f"expected a text, a finite number, a boolean or None as {key!r}, got {value!r}")


def _same_keys(what: str, got: dict, form: type) -> None:
    missing, unknown = form.__required_keys__ - got.keys(), got.keys() - form.__annotations__.keys()
    if missing or unknown:
        raise ValueError(
            f"expected the keys {sorted(form.__annotations__)} in {what}, got {sorted(got)}; see {form.__name__} in "
            "benchmarks/harness.py"
        )


# --- measuring -----------------------------------------------------------------------------------------------------


@dataclass
class Contender:
    """One side of a comparison.

    Attributes:
      name: as it stands in the tables.
      setup: makes the arguments of `run`; not timed.
      run: what is timed; its result is waited for.
      scale: what one call's seconds are multiplied by to give the reported quantity, e.g. 10 where a call trains 50
        of 500 epochs.
      rounds: turns that count.
      calls: calls per turn, of which the mean is taken; several where one is so short that whoever ran before it
        decides what is in the processor's caches.
      cold: time first calls instead: compiled programs are dropped before each.
    """

    name: str
    setup: Callable[[], tuple]
    run: Callable
    scale: float = 1.0
    rounds: int = 5
    calls: int = 1
    cold: bool = False
    seconds: list[float] = field(default_factory=list)
    first_s: float = float("nan")

    @property
    def median(self) -> float:
        """Median seconds of the reported quantity."""
        return self.scale * statistics.median(self.seconds)

    def call(self) -> float:
        """Seconds of one call, setup excluded."""
        return self._turn(1)

    def turn(self) -> float:
        """Mean seconds of one turn's calls."""
        return self._turn(self.calls)

    def _turn(self, calls: int) -> float:
        arguments = self.setup()
        if self.cold:
            jax.clear_caches()
        start = perf_counter()
        for _ in range(calls):
            jax.block_until_ready(self.run(*arguments))
        return (perf_counter() - start) / calls

    def row(self) -> dict:
        """What the JSON file says about it."""
        return {
            "name": self.name, "median_s": self.median, "min_s": self.scale * min(self.seconds),
            "max_s": self.scale * max(self.seconds), "first_call_s": self.first_s, "rounds": len(self.seconds),
            "scaled_by": self.scale,
        }  # fmt: skip


def interleave(contenders: list[Contender], title: str) -> dict[str, Contender]:
    """Warm everybody up, then go round and round, so that a slow moment of the machine hits all alike."""
    with tqdm(total=sum(1 + c.rounds for c in contenders), desc=title, unit="run") as bar:
        for contender in contenders:
            contender.first_s = contender.call()
            bar.update()
        for turn in range(max(c.rounds for c in contenders)):
            for contender in contenders:
                if turn < contender.rounds:
                    contender.seconds.append(contender.turn())
                    bar.update()
    return {contender.name: contender for contender in contenders}


@dataclass(frozen=True)
class Ratio:
    """How many times faster (or smaller) one contender is than another, and what we ask for."""

    what: str
    measured: float
    at_least: float | None = None

    def row(self) -> RatioRow:
        reached = None if self.at_least is None else self.measured >= self.at_least
        return {"what": self.what, "measured": self.measured, "at_least": self.at_least, "reached": reached}


# --- the machine ---------------------------------------------------------------------------------------------------


def pin(cores: int) -> None:
    """Keep this process on so many cores. JAX counts them when it starts: call this before the first computation."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))[:cores]
        for thread in Path("/proc/self/task").iterdir():  # imported libraries have started some; later ones inherit
            os.sched_setaffinity(int(thread.name), allowed)
    os.environ["OMP_NUM_THREADS"] = str(cores)
    if "torch" in sys.modules:  # it has read the variable already
        sys.modules["torch"].set_num_threads(cores)


def conditions() -> Conditions:
    """Device, versions, threads, memory and date of this process."""
    torch = sys.modules.get("torch")
    precision = jax.config.jax_default_matmul_precision  # a GPU rounds float32 products unless told otherwise
    return {
        "software": timing.environment() + (f", matmul precision {precision}" if precision else ""),
        "cpu": machine.cpu_name(), "cores": machine.cores(),
        "torch_threads": torch and torch.get_num_threads(), "jax_device": jax.devices()[0].device_kind,
        "numpy": np.__version__, "date": f"{datetime.now(UTC):%Y-%m-%d}", "peak_memory_GiB": machine.peak_memory_gib(),
    }  # fmt: skip


# --- the result ----------------------------------------------------------------------------------------------------


def report(
    name: str, tables: dict[str, list[dict]], ratios: list[Ratio], setting: dict | None = None, folder: Path = OUT
) -> Path:
    """Print tables and ratios, and write them to NAME-PLATFORM.json in a folder, in the form of `Result`."""
    content: Result = {"conditions": conditions(), "tables": tables, "ratios": [ratio.row() for ratio in ratios]}
    if setting is not None:
        content["setting"] = setting
    check_result(content)
    for title, rows in [*tables.items(), *([("ratios", content["ratios"])] if ratios else [])]:
        print(f"\n{title}")
        print_table(rows)
    print("\n" + ", ".join(f"{key}: {value}" for key, value in content["conditions"].items()))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{jax.devices()[0].platform}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    print(f"wrote {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    return path


def command(name: str, bench: Callable[[bool], tuple[dict[str, list[dict]], list[Ratio]]]) -> None:
    """A benchmark's `main`: on one core (or $BENCH_CORES), tables and ratios are printed and written.

    Args:
      name: of the result file.
      bench: `bench(quick)` returns tables and ratios. With --quick it only shows that it runs, and the numbers go to a
        folder apart, which `make publish-results` leaves alone.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="tiny sizes and one round, to see that it runs")
    quick = parser.parse_args().quick
    pin(int(os.environ.get("BENCH_CORES", "1")))
    report(name, *bench(quick), folder=OUT / "quick" if quick else OUT)
