"""Every benchmark runs, in its quick form and in this process; importing one does nothing; result files have one form."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from benchmarks import harness, machine
from benchmarks.harness import ROOT, Contender, Ratio, check_result, report

NAMES = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if "harness.command(" in p.read_text("utf-8"))
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "harness"])
@pytest.mark.filterwarnings("ignore")  # of torch, whose compiler warns about what it meets on the way
def test_a_benchmark_runs_in_its_quick_form(name, tmp_path, capsys):
    tables, ratios = importlib.import_module(f"benchmarks.{name}").bench(quick=True)
    path = report(name, tables, ratios, folder=tmp_path)
    content = json.loads(path.read_text("utf-8"))
    check_result(content)
    assert set(content["tables"]) == set(tables)
    printed = capsys.readouterr().out
    assert all(title in printed for title in tables) and all(ratio.what in printed for ratio in ratios)
