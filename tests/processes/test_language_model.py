"""The language model in one process and in two: the same losses, and a run of two that one continues."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "examples/language_model/train.py"
OPTIONS = [
    "--vocab", "260", "--width", "16", "--layers", "1", "--heads", "2", "--hidden", "16", "--batch", "64",
    "--context", "32", "--steps", "4", "--warmup", "1",
]  # fmt: skip


def losses(folder: Path, processes: int) -> list[float]:
    """Train, and read the losses that were written."""
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    start = [sys.executable, "-m", "course.launch", "--processes", str(processes), "--timeout", "240", SCRIPT]
    options = [*OPTIONS, "--evaluate_every", "1", "--folder", str(folder)]
    done = subprocess.run([*start, *options], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("held-out bits a character:") == 1  # process 0 alone speaks
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_have_the_losses_of_one(tmp_path):
    one, two = losses(tmp_path / "one", 1), losses(tmp_path / "two", 2)
    assert len(one) == 4 and one == pytest.approx(two, rel=1e-5)  # six digits are written
    assert losses(tmp_path / "two", 1) == two  # the finished run of two, read by one
