"""What 1B and 8B parameters need on 256 devices: `examples.language_model.plan` for several meshes, and its check.

Each plan is made in a process of its own, for JAX counts its devices when it starts. The check compiles all layers of
one plan; the others are counted from two and three layers. PLAN.md in examples/language_model is `page` of the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Ratio
from examples.language_model.plan import ACCELERATORS, ASSUMPTIONS

CASES = {
    "1B, data=32,tensor=8": ["--params", "1B", "--mesh", "data=32,tensor=8"],
    "1B, fsdp=256": ["--params", "1B", "--mesh", "fsdp=256"],
    "8B, fsdp=32,tensor=8": ["--params", "8B", "--mesh", "fsdp=32,tensor=8"],
}
QUICK = {"4M, tensor=2": ["--params", "4M", "--mesh", "tensor=2", "--vocab", "256", "--heads", "2", "--layers", "4"]}


def planned(options: list[str]) -> dict[str, list[dict]]:
    """The tables of one plan, for all accelerators."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "examples.language_model.plan", *options, "--json", str(path)]
        done = subprocess.run(
            [*command, "--accelerator", ",".join(ACCELERATORS)],
            cwd=harness.ROOT, env=os.environ | {"PYTHONPATH": str(harness.ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"expected a plan of {options}, got exit code {done.returncode}:\n{done.stderr}")
        return json.loads(path.read_text("utf-8"))


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    cases = QUICK if quick else CASES
    plans = {name: planned(options) for name, options in cases.items()}
    checked = next(iter(cases))
    return result(plans, checked, planned([*cases[checked], "--whole"]))


def result(plans: dict[str, dict], checked: str, whole: dict[str, list[dict]]) -> tuple[dict, list[Ratio]]:
    """Tables of all plans, and how `whole`, one of them with all layers compiled, compares."""
    tables: dict[str, list[dict]] = {
        "settings": [{"name": n} | {row["name"]: row["value"] for row in plan["setting"]} for n, plan in plans.items()]
    }
    for name, plan in plans.items():
        tables |= {f"{name}: {title}": rows for title, rows in plan.items() if title != "setting"}

    def numbers(plan: dict) -> dict[str, Any]:
        setting = {row["name"]: row["value"] for row in plan["setting"]}
        return {
            "FLOPs of products": setting["TFLOPs a device, products"],
            "bytes of collectives": sum(row["GB"] for row in plan["collectives of a device"]),
            "number of collectives": sum(row["count"] for row in plan["collectives of a device"]),
            "temporary memory, XLA for CPU": plan["memory of a device, GB"][-1]["XLA for CPU"],
        }

    counted, compiled = numbers(plans[checked]), numbers(whole)
    return tables, [Ratio(f"{checked}, counted over compiled: {n}", counted[n] / compiled[n]) for n in counted]


def page(content: dict) -> str:
    """PLAN.md of a published result."""
    tables = content["tables"]
    settings = tables["settings"]
    columns = ("parameters", "layers", "width", "heads", "batch", "context")
    columns += tuple(f"TFLOPs a device, {whose}" for whose in ("products", "formula", "XLA"))
    text = [
        "# Planned past this machine: 1B and 8B parameters on 256 devices",
        "`python -m examples.language_model.plan --params 1B --mesh data=32,tensor=8 --accelerator h100` compiles this "
        "program's training step for simulated devices and reads what each would hold, send and compute. Nothing here "
        "was run on an accelerator. `python -m benchmarks.language_model_plan` makes the numbers, "
        "`benchmarks.language_model_plan.page` writes this page of them.",
        "## What is planned",
        _table([{"plan": row["name"]} | {column: row[column] for column in columns} for row in settings]),
        f"Computed in {settings[0]['dtype']}; parameters, moments and moving average in float32. Every block is "
        "computed again in the backward pass (`remat`). The batch is 16 sequences for each of its parts along `data` "
        "and `fsdp`, where `--batch` says nothing else. Where a step sends on `tensor` longer than it multiplies, a "
        "smaller `tensor` axis, or more of the batch on each device, is worth a try: plan it.",
    ]
    for row in settings:
        name = row["name"]
        text += [f"## {name}"]
        for title in ("memory of a device, GB", "collectives of a device", "time of a step"):
            text += [f"{title[0].upper()}{title[1:]}:", _table(tables[f"{name}: {title}"])]
    text += [
        "## Where it is counted instead of compiled",
        "Of each plan two and three layers were compiled, and all further ones counted like the third. "
        f"Compile times (seconds, a shared core): {', '.join(str(row['seconds to compile']) for row in settings)}. "
        "For one plan all layers were compiled too; what was counted, over what was compiled:",
        _table([{"": row["what"], "ratio": row["measured"]} for row in content["ratios"]]),
        "## Assumptions",
        ASSUMPTIONS.strip(),
        _table(
            [
                {
                    "accelerator": name, "peak, TFLOP/s": one.peak / 1e12, "memory, GB": one.memory / 1e9,
                    "memory, GB/s": one.memory_rate / 1e9, "link, GB/s": one.link / 1e9, "island": one.island,
                    "network, GB/s": one.network / 1e9, "source": one.source,
                }
                for name, one in ACCELERATORS.items()
            ]
        ),
    ]  # fmt: skip
    return "\n\n".join(text) + "\n"


def _table(rows: list[dict]) -> str:
    def cell(value: Any) -> str:
        if value is None:
            return ""
        return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    harness.command("language_model_plan", bench)


if __name__ == "__main__":
    main()
