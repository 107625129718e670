"""What every benchmark shares: one core for both sides, interleaved rounds, medians, a table and a JSON file.

Import this module before JAX: it asks the operating system for one core, so that both frameworks get the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

CORES = int(os.environ.get("BENCH_CORES", "1"))
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
os.environ["OMP_NUM_THREADS"] = str(CORES)

import jax
import numpy as np
from tqdm import tqdm

from benchmarks import machine
from course import timing

OUT = Path(__file__).resolve().parents[1] / "build" / "bench"


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

    def row(self) -> dict:
        reached = None if self.at_least is None else self.measured >= self.at_least
        return {"what": self.what, "measured": self.measured, "at_least": self.at_least, "reached": reached}


def conditions() -> dict:
    """Device, versions, threads and date: what a result is worth nothing without."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "software": timing.where(), "cpu": machine.cpu_name(), "cores": cores, "torch_threads": torch.get_num_threads(),
        "jax_device": jax.devices()[0].device_kind, "numpy": np.__version__, "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }  # fmt: skip


def report(name: str, tables: dict[str, list[dict]], ratios: list[Ratio]) -> None:
    """Print tables and ratios, and write them to build/bench/NAME-PLATFORM.json."""
    where = conditions()
    for title, rows in tables.items():
        print(f"\n{title}")
        print_table(rows)
    if ratios:
        print("\nratios")
        print_table([ratio.row() for ratio in ratios])
    print("\n" + ", ".join(f"{key}: {value}" for key, value in where.items()))
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}-{jax.devices()[0].platform}.json"
    content = {"conditions": where, "tables": tables, "ratios": [ratio.row() for ratio in ratios]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"wrote {path.relative_to(OUT.parents[1])}")


def print_table(rows: list[dict]) -> None:
    """Rows of one kind as aligned text."""
    cells = [[_text(value) for value in row.values()] for row in rows]
    header = list(rows[0])
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    for line in [header, *cells]:
        print(
            "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        )


def _text(value) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def quick() -> bool:
    """Whether --quick was given: one short round that only shows that the benchmark runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    return parser.parse_args(sys.argv[1:]).quick
