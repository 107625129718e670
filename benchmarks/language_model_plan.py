"""What 1B and 8B parameters need on 256 devices: `examples.language_model.plan` for several meshes, and its check.

Each plan is made in a process of its own, for JAX counts its devices when it starts. The check compiles all layers of
one plan and compares with what was counted from two and three layers. `page` writes examples/language_model/PLAN.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Ratio

CASES = {
    "1B, data=32,tensor=8": ["--params", "1B", "--mesh", "data=32,tensor=8"],
    "1B, fsdp=256": ["--params", "1B", "--mesh", "fsdp=256"],
    "8B, fsdp=32,tensor=8": ["--params", "8B", "--mesh", "fsdp=32,tensor=8"],
    "8B, fsdp=256": ["--params", "8B", "--mesh", "fsdp=256"],
}
CHECKED = "1B, data=32,tensor=8"
QUICK = {"4M, fsdp=2,tensor=2": "--params 4M --mesh fsdp=2,tensor=2 --vocab 256 --context 64 --heads 2 --layers 4".split()}
ACCELERATORS = "a100,h100,tpu-v5e,tpu-v6e"


def planned(options: list[str]) -> dict[str, list[dict]]:
    """The tables of one plan."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "examples.language_model.plan", *options, "--json", str(path)]
        done = subprocess.run(
            [*command, "--accelerator", ACCELERATORS],
            cwd=harness.ROOT, env=os.environ | {"PYTHONPATH": str(harness.ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"expected a plan of {options}, got exit code {done.returncode}:\n{done.stderr}")
        return json.loads(path.read_text("utf-8"))
