"""Every benchmark runs in its quick form, in this process; importing one does nothing; result files have one form."""

import importlib
import json
import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import jets_by_hand, machine, operators, pde_run, titanic_floor, titanic_many
from benchmarks.harness import ROOT, Contender, Ratio, check_result, interleave, report
from course.train import compiled
from tools.tables import print_table

FOLDER = ROOT / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if "    harness.command(" in path.read_text("utf-8"))
RESULTS = sorted((FOLDER / "results").glob("*.json"))
APART = {"resume"}  # it takes a minute of waiting: tests/unit/test_resumable.py runs it


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about what it meets on the way
@pytest.mark.parametrize("name", sorted(set(NAMES) - APART))
def test_a_benchmark_runs_in_its_quick_form(name, tmp_path, capsys):
    tables, ratios = importlib.import_module(f"benchmarks.{name}").bench(quick=True)
    path = report(name, tables, ratios, folder=tmp_path)
    assert json.loads(path.read_text("utf-8"))["tables"] == tables
    printed = capsys.readouterr().out
    assert all(title in printed for title in tables) and all(ratio.what in printed for ratio in ratios)


@pytest.mark.benchmark
@pytest.mark.parametrize("name", jets_by_hand.PAIRS)
def test_jets_by_hand_and_derived_give_the_same_numbers(name, monkeypatch):
    _, derived, d = jets_by_hand.PAIRS[name]
    params, z = jets_by_hand.network(d, 5, 1), jnp.linspace(-1, 1, 2 * d).reshape(2, d)
    assert abs(jets_by_hand.agreed(name, params, z)).max() > 1e-3
    monkeypatch.setitem(jets_by_hand.PAIRS, name, (lambda f, z: 1.001 * derived(f, z), derived, d))
    with pytest.raises(SystemExit, match=r"agree within 1e-9 in float64, got a .*gap of 1\.0e-03"):
        jets_by_hand.agreed(name, params, z)


@pytest.mark.benchmark
def test_without_folx_its_rows_are_left_out(monkeypatch):
    monkeypatch.setattr(operators, "folx", None)
    kept = {name: operators.JAX_SIDES[name] for name in ("exact, course.taylor", "folx")}
    monkeypatch.setattr(operators, "JAX_SIDES", kept)
    monkeypatch.setattr(operators, "torch_sides", lambda params, x: {})
    rows, _, _ = operators.at_dimension(3, operators.QUICK)
    assert [row["name"] for row in rows] == ["exact, course.taylor"]


@pytest.mark.benchmark
@pytest.mark.parametrize("rows", [5, 96])
def test_batches_sorted_by_numpy_are_those_of_the_compiled_run(rows):
    keys = jax.random.split(jax.random.key(0), (2, 3))
    expected = jax.vmap(jax.vmap(lambda key: compiled.batch_orders(key, rows, 4)))(keys)
    drawn = titanic_many.orders(keys, rows, 4)
    assert drawn.dtype == expected.dtype and np.array_equal(drawn, expected)


@pytest.mark.benchmark
def test_the_product_of_many_models_has_the_weights_gradient():
    x, w = jnp.arange(12.0).reshape(2, 3, 2), jnp.ones((2, 2, 4))

    def grad_of(product):
        return jax.vmap(jax.grad(lambda w, x: (product(x, w) ** 2).sum()))(w, x)

    assert np.array_equal(grad_of(titanic_many.product), grad_of(jnp.matmul))


@pytest.mark.benchmark
def test_without_a_c_compiler_there_is_no_floor(monkeypatch):
    monkeypatch.setattr(titanic_floor.shutil, "which", lambda name: None)
    assert titanic_floor.compiled() is None


@pytest.mark.benchmark
def test_a_long_run_whose_result_cannot_be_written_is_not_lost(tmp_path, monkeypatch):
    setting = pde_run.Setting("sine-gordon", "two-body", 10, 4, None, 4, 1e-2)
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(OSError):
        pde_run.solve_and_report(setting, tmp_path / "run", tmp_path / "out")
    assert any((tmp_path / "run" / "checkpoints").iterdir())
    (tmp_path / "out").unlink()
    monkeypatch.setattr(pde_run.pde.training, "_run", None)  # nothing is left to train
    written = pde_run.solve_and_report(setting, tmp_path / "run", tmp_path / "out")
    assert json.loads(written.read_text("utf-8"))["setting"]["dimension"] == 10
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


IMPORTS = """
import os, sys
import jax

def state():
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return dict(os.environ), cores, jax.config.jax_enable_x64

sys.argv.append("--an-argument-of-another-program")
before = state()
for name in {names}:
    __import__("benchmarks." + name)
    assert state() == before, name
    assert not jax.live_arrays(), name
"""


@pytest.mark.slow
def test_importing_a_benchmark_does_nothing():
    code = IMPORTS.format(names=[path.stem for path in FOLDER.glob("*.py")])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


PIN = """
import os
import numpy as np  # its threads are there before
from benchmarks import harness
from pathlib import Path
np.ones((300, 300)) @ np.ones((300, 300))
harness.pin(1)
assert harness.conditions()["cores"] == 1
assert all(len(os.sched_getaffinity(int(thread.name))) == 1 for thread in Path("/proc/self/task").iterdir())
assert os.environ["OMP_NUM_THREADS"] == "1"
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot keep a process on a core")
def test_pinned_means_every_thread():
    done = subprocess.run([sys.executable, "-c", PIN], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_where_the_system_knows_no_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.cores() == os.cpu_count()


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_memory_is_in_gib_whatever_the_system_counts_in(platform, unit, monkeypatch):
    usage = SimpleNamespace(getrusage=lambda who: SimpleNamespace(ru_maxrss=3 * 2**30 // unit), RUSAGE_SELF=0)
    monkeypatch.setattr(machine, "resource", usage)
    monkeypatch.setattr(sys, "platform", platform)
    assert machine.peak_memory_gib() == 3


def test_without_a_count_of_memory_none_is_reported(monkeypatch):
    monkeypatch.setattr(machine, "resource", None)
    assert machine.peak_memory_gib() is None


def test_contenders_take_turns():
    seen = []
    both = [Contender(name, lambda: (), partial(seen.append, name), rounds=2, calls=2) for name in "ab"]
    done = interleave(both, "two")
    assert "".join(seen) == "ab" + "aabb" * 2  # a first call each, then rounds of two calls
    assert len(done["a"].seconds) == 2 and done["a"].first_s >= 0


def a_result():
    return json.loads((FOLDER / "results" / "operators-cpu.json").read_text("utf-8"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_published_result_has_the_form_of_all(path):
    check_result(json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r.pop("ratios"), r"expected the keys .*'ratios'.* in a result"),
        (lambda r: r.update(where="here"), r"in a result, got .*'where'"),
        (lambda r: r["conditions"].pop("cpu"), "in conditions"),
        (lambda r: r["ratios"][0].pop("what"), "in a ratio"),
        (lambda r: r["tables"].clear(), "at least one table"),
        (lambda r: r["tables"].update(empty=[]), "expected rows with equal keys"),
        (lambda r: r["tables"].update(ragged=[{"name": "a"}, {"name": "b", "s": 1}]), "expected rows with equal keys"),
        (lambda r: r["tables"].update(nameless=[{"s": 1, "name": "a"}]), '"name" first'),
        (lambda r: r["ratios"][0].update(measured=float("nan")), "a finite number.* as 'measured', got nan"),
        (lambda r: r["tables"].update(lists=[{"name": "a", "s": [1]}]), r"as 's', got \[1\]"),
    ],
)
def test_another_form_is_refused(spoil, message):
    result = a_result()
    spoil(result)
    with pytest.raises(ValueError, match=message):
        check_result(result)


def test_a_report_carries_its_setting(tmp_path, capsys):
    path = report("one", {"runs": [{"name": "a", "s": 1.5}]}, [Ratio("a vs b", 2.0, 3)], {"d": 10}, tmp_path)
    content = json.loads(path.read_text("utf-8"))
    assert path.name == "one-cpu.json" and content["setting"] == {"d": 10}
    assert content["ratios"] == [{"what": "a vs b", "measured": 2.0, "at_least": 3, "reached": False}]
    assert content["conditions"]["cores"] >= 1
    assert "a vs b" in capsys.readouterr().out


def test_a_table_lines_up(capsys):
    print_table([{"name": "a", "s": 1.23456, "n": None}, {"name": "long", "s": 10, "n": 7}])
    assert capsys.readouterr().out == "name      s  n\na     1.235  -\nlong     10  7\n"
    print_table([])
    assert capsys.readouterr().out == ""
