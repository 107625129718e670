"""Devices and memory

JAX puts arrays on the first device of its best backend unless told otherwise, and computation follows the arrays. Calls
return before the work is done, on a CPU as well.
"""

import time

import jax
import numpy as np
import torch

from rosetta.kinds import Pair, normal, positive


class HasGpu(Pair):
    """Is there a GPU?"""

    note = "`jax.devices()` lists what is there, `jax.device_count()` counts it."

    def torch():
        return torch.cuda.is_available()

    def jax():
        return jax.default_backend() == "gpu"


class ToDevice(Pair):
    """Move to a device"""

    inputs = {"x": normal(3)}
    note = "`device_put` takes any pytree: a whole model state moves in one call."

    def torch(x):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return x.to(device)

    def jax(x):
        device = jax.devices()[0]
        return jax.device_put(x, device)


class Bytes(Pair):
    """Memory of a tensor and of weights"""

    inputs = {"w": normal(3, 4), "b": normal(4)}

    def torch(w, b):
        params = {"w": w, "b": b}
        return w.nbytes, w.element_size(), sum(p.nbytes for p in params.values())

    def jax(w, b):
        params = {"w": w, "b": b}
        return w.nbytes, w.dtype.itemsize, sum(p.nbytes for p in jax.tree.leaves(params))


class WriteThroughNumPy(Pair):
    """Write through the NumPy view"""

    inputs = {"x": normal(3)}
    trap = "`np.asarray` of a JAX array is read-only: writing raises a ValueError. `np.array` copies."
    lesson = ("08_tracing", "NumPy's view")
    no_gradient = "leaves the framework"

    def torch(x):
        view = x.numpy()
        view[0] = 9
        return view

    def jax(x):
        view = np.asarray(x)
        view[0] = 9
        return view

    def fix(x):
        own = np.array(x)
        own[0] = 9
        return own

    def differ(ours):
        return isinstance(ours, ValueError)


class NumberInside(Pair):
    """A Python number inside a compiled function"""

    inputs = {"x": normal(4)}
    no_gradient = "`item` leaves the graph"
    trap = "`item()`, `float()` and NumPy functions ask a tracer for its value: an error under `jit`. Stay in `jnp`."
    lesson = ("08_tracing", "x.sum().item()")

    def torch(x):
        return torch.compile(lambda x: x / x.sum().item(), backend="eager")(x)

    def jax(x):
        return jax.jit(lambda x: x / x.sum().item())(x)

    def fix(x):
        return jax.jit(lambda x: x / x.sum())(x)

    def differ(ours):
        return isinstance(ours, jax.errors.ConcretizationTypeError)


class TimeACall(Pair):
    """Time a call"""

    inputs = {"x": positive(50, 50)}
    no_gradient = "its result is a measurement"
    note = (
        "JAX returns before the work is done, on a CPU too: without `block_until_ready()` you time the call alone. "
        "PyTorch waits on a CPU; on a GPU call `torch.cuda.synchronize()` before you read the clock."
    )

    def torch(x):
        start = time.perf_counter()
        y = x @ x
        seconds = time.perf_counter() - start
        return y, seconds > 0

    def jax(x):
        jax.block_until_ready(x @ x)  # the first call compiles
        start = time.perf_counter()
        y = jax.block_until_ready(x @ x)
        seconds = time.perf_counter() - start
        return y, seconds > 0
