"""How far the compiled Titanic run is from what it must spend: the same loop in C, and its arithmetic and traffic.

A part of benchmarks.titanic_speed. Lesson: 10_jit_speed.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")
IN, WIDTH, BATCH = 15, 64, 32  # as in the source
SIZE = IN * WIDTH + WIDTH + WIDTH + 1

FLOPS = 2 * BATCH * WIDTH * (2 * IN + 3) + 3 * BATCH * WIDTH + 12 * SIZE
"""Of one step: two products with 15 features and three with one logit, bias and ReLU and its slope, Adam."""

BYTES = 4 * (6 * SIZE + BATCH * (IN + 2))
"""Of one step: parameters and both moments read and written, a batch and its row numbers read; all of it in caches."""


def compiled() -> Callable | None:
    """The loop in C as a function of (params (SIZE,), x (n, IN), y (n,), rows (steps, BATCH), rate) -> losses (steps,).

    Parameters are trained in place. None where there is no C compiler.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        library = Path(folder) / "floor.so"
        done = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", str(library), "-lm"], capture_output=True, text=True
        )
        if done.returncode:
            print(f"{compiler} does not compile {SOURCE.name}: {done.stderr.strip()[-300:]}")
            return None
        function = ctypes.CDLL(str(library)).train
    function.restype = None

    def train(params: np.ndarray, x: np.ndarray, y: np.ndarray, rows: np.ndarray, rate: float) -> np.ndarray:
        rows, losses = np.ascontiguousarray(rows, np.int32), np.empty(len(rows), np.float32)
        if params.shape != (SIZE,) or x.shape[1:] != (IN,) or rows.shape[1:] != (BATCH,):
            raise ValueError(
                f"expected parameters ({SIZE},), x (n, {IN}) and rows (steps, {BATCH}), got {params.shape}, {x.shape} "
                f"and {rows.shape}; {SOURCE.name} has these sizes in it"
            )
        arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (params, x, y, rows)]
        steps = ctypes.c_long(len(rows))
        function(*arrays, steps, ctypes.c_float(rate), losses.ctypes.data_as(ctypes.c_void_p))
        return losses

    return train
