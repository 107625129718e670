"""Devices and memory

JAX puts arrays on the first device of its best backend unless told otherwise, and computation follows the arrays. Calls
return before the work is done, on a CPU as well.
"""

import gc
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from rosetta.kinds import Pair, normal, positive, raises
from rosetta.optimizers import layer, model


class HasGpu(Pair):
    """Is there a GPU?"""

    also = ("cuda.is_available", "accelerator.is_available")
    note = "`jax.devices()` lists what is there, `jax.device_count()` counts it."

    def torch():
        return torch.cuda.is_available()

    def jax():
        return jax.default_backend() == "gpu"


class ToDevice(Pair):
    """Move to a device"""

    also = ("Tensor.to", "Tensor.cuda", "torch.device")
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

    also = ("Tensor.nbytes", "Tensor.element_size", "Tensor.itemsize")
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
    lesson = ("08_tracing", "trap:write-through-num-py")
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

    also = ("Tensor.item",)
    inputs = {"x": normal(4)}
    no_gradient = "`item` leaves the graph"
    trap = "`item()`, `float()` and NumPy functions ask a tracer for its value: an error under `jit`. Stay in `jnp`."
    lesson = ("08_tracing", "trap:item")

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

    also = ("cuda.synchronize", "cuda.Event", "accelerator.synchronize")
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


class CountDevices(Pair):
    """Count the GPUs"""

    also = ("cuda.device_count", "accelerator.device_count")
    trap = "`jax.device_count()` counts the devices of the best backend: where there is no GPU the CPU is one."

    def torch():
        return torch.cuda.device_count()

    def jax():
        return jax.device_count()

    def fix():
        return sum(device.platform == "gpu" for device in jax.devices())

    def differ(theirs, ours, fixed):
        return ours >= 1 and (ours == theirs or fixed == theirs == 0)


class WhereIsIt(Pair):
    """Where does a tensor lie?"""

    inputs = {"x": normal(3)}
    also = ("Tensor.device", "Tensor.get_device", "Tensor.is_cuda", "Tensor.is_cpu", "cuda.get_device_name")
    note = "`x.devices()` is a set: an array may lie on several. A device's name is `device.device_kind`."

    def torch(x):
        return x.device.type

    def jax(x):
        return x.device.platform

    def claims():
        device = jax.devices()[0]
        assert jnp.ones(3).devices() == {device} and isinstance(device.device_kind, str)


class BackToHost(Pair):
    """Back to NumPy"""

    inputs = {"x": normal(3)}
    no_gradient = "leaves the framework"
    also = ("Tensor.cpu", "Tensor.numpy", "nn.Module.cpu")
    note = "`jax.device_get` takes a whole tree. Both wait for the array's value, and no `detach` is asked for."

    def torch(x):
        return x.detach().cpu().numpy()

    def jax(x):
        return np.asarray(x)

    def claims():
        tree = jax.device_get({"a": jnp.ones(3)})
        assert type(tree["a"]) is np.ndarray


class MoveModel(Pair):
    """Move a model"""

    inputs = {"model": model, "layer": layer, "x": normal(4, 3)}
    no_gradient = "a model is moved"
    also = ("nn.Module.to", "nn.Module.cuda")
    note = "Linen's parameters are a tree already: `jax.device_put(params, device)`."

    def torch(model, x):
        model.to("cpu")
        return model(x)

    def nnx(layer, x):
        nnx.update(layer, jax.device_put(nnx.state(layer), jax.devices()[0]))
        return layer(x)


class LikeAnother(Pair):
    """Put a tensor where another one lies"""

    inputs = {"x": normal(3), "y": normal(3)}
    note = "The sharding says where, on one device or on many."
    no_gradient = "under `jit` an array cannot be asked where it lies"

    def torch(x, y):
        return x.to(y.device) + y

    def jax(x, y):
        return jax.device_put(x, y.sharding) + y


class DefaultDevice(Pair):
    """Choose the default device"""

    also = ("torch.set_default_device", "cuda.set_device", "cuda.device", "torch.get_default_device")
    note = (
        "For good: `jax.config.update('jax_default_device', device)`, or the environment variable `JAX_PLATFORMS=cpu` "
        "before JAX starts."
    )

    def torch():
        with torch.device("cpu"):
            return torch.ones(3)

    def jax():
        with jax.default_device(jax.devices("cpu")[0]):
            return jnp.ones(3)

    def claims():
        before = jax.config.jax_default_device
        jax.config.update("jax_default_device", jax.devices("cpu")[0])
        assert jnp.ones(3).device == jax.devices("cpu")[0]
        jax.config.update("jax_default_device", before)


class PeakMemory(Pair):
    """Peak memory of the device"""

    also = (
        "cuda.max_memory_allocated", "cuda.memory_allocated", "cuda.memory_stats", "cuda.memory_reserved",
        "cuda.memory_summary", "cuda.mem_get_info",
    )  # fmt: skip
    note = "A CPU keeps no such statistics: `memory_stats()` is None there."

    def torch():
        return torch.cuda.max_memory_allocated() >= 0

    def jax():
        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use", 0) >= 0

    def claims():
        assert jax.devices("cpu")[0].memory_stats() is None


class EmptyCache(Pair):
    """Give memory back"""

    inputs = {"x": normal(3)}
    no_gradient = "the tensor is gone"
    also = ("cuda.empty_cache", "accelerator.empty_cache")
    note = "An array's memory is given back with its last reference, or at once by `delete`; using it then raises."

    def torch(x):
        del x
        torch.cuda.empty_cache()

    def jax(x):
        x.delete()

    def claims():
        x = jnp.ones((3, 219))
        assert any(array.shape == (3, 219) for array in jax.live_arrays())
        del x
        gc.collect()
        assert not any(array.shape == (3, 219) for array in jax.live_arrays())
        x = jnp.ones(3)
        x.delete()
        assert x.is_deleted() and raises((RuntimeError, ValueError), lambda: x + 1)


class LiveArrays(Pair):
    """All tensors that are alive"""

    inputs = {"x": lambda rng: rng.normal(size=(3, 217)).astype(np.float32)}
    no_gradient = "it is a count"

    def torch(x):
        alive = [o for o in gc.get_objects() if type(o) is torch.Tensor and o.shape == (3, 217)]
        return len(alive) >= 1

    def jax(x):
        alive = [o for o in jax.live_arrays() if o.shape == (3, 217)]
        return len(alive) >= 1


class PinnedMemory(Pair):
    """Pinned host memory"""

    inputs = {"x": normal(3)}
    no_gradient = "PyTorch raises"
    also = ("Tensor.pin_memory", "Tensor.is_pinned")
    trap = (
        "PyTorch asks for a GPU and raises without one. In JAX it is a kind of memory that an array's sharding names."
    )

    def torch(x):
        return x.pin_memory()

    def jax(x):
        return jax.device_put(x, x.sharding.with_memory_kind("pinned_host"))

    def differ(theirs, ours):
        raised = isinstance(theirs, RuntimeError) or torch.cuda.is_available()
        return raised and ours.sharding.memory_kind == "pinned_host"


class MetaDevice(Pair):
    """A tensor without data (meta)"""

    also = ("nn.utils.skip_init",)
    note = "A whole model without its weights: `nnx.eval_shape(lambda: Model(rngs=nnx.Rngs(0)))`."

    def torch():
        x = torch.empty(1000, 1000, device="meta")
        return x.shape, x.is_meta

    def jax():
        x = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
        return x.shape, not isinstance(x, jax.Array)

    def claims():
        model = nnx.eval_shape(lambda: nnx.Linear(1000, 1000, rngs=nnx.Rngs(0)))
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(model)))
