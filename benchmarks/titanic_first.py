"""The compiled Titanic run's first call in fresh processes: traced or exported, with an empty cache or a warm one.

A part of benchmarks.titanic_speed, which starts `python -m benchmarks.titanic_first FOLDER FORM` again and again. A
first call is all from the Python function, or the exported file, to the losses; imports and data come before. Lesson:
10_jit_speed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import jax
import numpy as np
import optax
import scipy.linalg  # noqa: F401  jax.export imports it when an exported program is called; imports are not counted
from flax import nnx
from jax import export

from benchmarks.harness import ROOT
from course.train import compiled, rungs, titanic_nnx

START, EXPORTED = "start.npz", "run.jax"
FORMS = ("traced", "exported") if find_spec("flatbuffers") else ("traced",)  # jax.export writes files by it
STAGES = ("trace_s", "lower_s", "compile_s", "run_s")  # trace: or to load what was exported


def program(rate: float, batch_size: int) -> Callable:
    """The run as a function of plain arrays (x, y, key data, *parameters), as an exported program wants them."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: titanic_nnx.TitanicMLP(rngs=nnx.Rngs(0))))
    loss_fn, form, adam = rungs.split_loss(graphdef), jax.tree.structure(state), optax.adam(rate)

    def run(x, y, key_data, *leaves):
        keys = jax.random.wrap_key_data(key_data)
        return compiled.train_run(loss_fn, adam, jax.tree.unflatten(form, leaves), x, y, keys, batch_size)[1]

    return run


def prepare(folder: Path, params, x: np.ndarray, y: np.ndarray, keys: jax.Array, rate: float, batch_size: int) -> None:
    """Write what a fresh process starts from: the arrays, and the exported program."""
    arrays = [x, y, np.asarray(jax.random.key_data(keys)), *map(np.asarray, jax.tree.leaves(params))]
    np.savez(folder / START, *arrays, rate=rate, batch_size=batch_size)
    if "exported" in FORMS:
        exported = export.export(jax.jit(program(rate, batch_size)))(*arrays)
        (folder / EXPORTED).write_bytes(exported.serialize())


def first_call(folder: Path, form: str) -> dict:
    """In this process: the seconds of every stage, and the losses."""
    jax.config.update("jax_compilation_cache_dir", str(folder / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # keep quick compilations, too,
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)  # and small programs
    with np.load(folder / START) as start:
        rate, batch_size = float(start["rate"]), int(start["batch_size"])
        arrays = [jax.numpy.asarray(start[name]) for name in start.files if name.startswith("arr_")]
    run = program(rate, batch_size)
    jax.block_until_ready(arrays)
    times = [perf_counter()]
    if form == "exported":
        run = export.deserialize(bytearray((folder / EXPORTED).read_bytes())).call
    traced = jax.jit(run).trace(*arrays)
    times.append(perf_counter())
    lowered = traced.lower()
    times.append(perf_counter())
    executable = lowered.compile()
    times.append(perf_counter())
    losses = np.asarray(executable(*arrays))
    times.append(perf_counter())
    return dict(zip(STAGES, np.diff(times).tolist(), strict=True)) | {"losses": losses.ravel()[:500].tolist()}


def one_round(folder: Path, forms: Iterable[str] = FORMS) -> dict[str, dict]:
    """Fresh processes, each form with an empty cache and then with what that call left in it."""
    seen = {}
    for form in forms:
        with tempfile.TemporaryDirectory() as fresh:
            for file in folder.iterdir():
                shutil.copy(file, fresh)
            for cache in ("empty", "warm"):
                command = [sys.executable, "-m", "benchmarks.titanic_first", fresh, form]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
                seen[f"{form}, {cache} cache"] = json.loads(done.stdout)
    return seen


if __name__ == "__main__":
    print(json.dumps(first_call(Path(sys.argv[1]), sys.argv[2])))
