"""Creation, dtypes and shapes

Arrays are made and shaped as in NumPy, and where NumPy and PyTorch give a word two meanings, JAX follows NumPy. Without
`jax_enable_x64`, JAX's widest types are float32 and int32. `dim` is `axis`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental import checkify

from rosetta.elementwise import quiet
from rosetta.kinds import Pair, booleans, integers, normal, raises
from tools.environment import double_precision


class Wide:
    """A mixin: the fix turns on 64 bits, which ends with it."""

    @classmethod
    def result(cls, side, drawn):
        if side != "fix":
            return super().result(side, drawn)
        with double_precision():
            return jax.tree.map(np.asarray, super().result(side, drawn))


class FromList(Pair):
    """From a Python list or number"""

    also = ("torch.FloatTensor", "torch.IntTensor")
    note = "An int32 and a float32 unless you say more: `torch.FloatTensor([1])` is `jnp.array([1], jnp.float32)`."

    def torch():
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.scalar_tensor(3.0), torch.LongTensor([1, 2])

    def jax():
        return jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array(3.0), jnp.array([1, 2])

    def claims():
        assert jnp.array([1]).dtype == jnp.int32 and jnp.array([1.0]).dtype == jnp.float32
        assert torch.FloatTensor([1]).dtype == torch.float32 and jnp.array([1], jnp.float32).dtype == jnp.float32


class FromNumpy(Pair):
    """From a NumPy array"""

    note = (
        "`torch.from_numpy` shares the memory; `jnp.array` copies, and `jnp.asarray` does either, by version. The copy "
        "may run in the background: call `block_until_ready()` before you write to the NumPy array again."
    )

    def torch():
        return torch.from_numpy(np.ones((2, 3), np.float32))

    def jax():
        return jnp.array(np.ones((2, 3), np.float32))

    def claims():
        x = np.zeros(3, np.float32)
        theirs, ours = torch.from_numpy(x), jnp.array(x).block_until_ready()
        x[0] = 9
        assert theirs[0] == 9 and ours[0] == 0


class AsTensor(Pair):
    """As a tensor, copied only where needed"""

    inputs = {"x": normal(2, 3)}
    note = "`jnp.asarray` of an array of the right dtype is that array itself, `jnp.array` a copy."
    also = ("torch.asarray",)

    def torch(x):
        return torch.as_tensor(x), torch.as_tensor([1.0, 2.0], dtype=torch.float32)

    def jax(x):
        return jnp.asarray(x), jnp.asarray([1.0, 2.0], dtype=jnp.float32)

    def claims():
        x = jnp.ones(3)
        assert jnp.asarray(x) is x and jnp.array(x) is not x


class FromBytes(Pair):
    """From bytes"""

    inputs = {"data": np.arange(3, dtype=np.float32).tobytes()}

    def torch(data):
        return torch.frombuffer(bytearray(data), dtype=torch.float32)

    def jax(data):
        return jnp.frombuffer(data, dtype=jnp.float32)


class DefaultFloat(Wide, Pair):
    """The default dtype of floats"""

    trap = (
        "`torch.set_default_dtype` has no counterpart in JAX: the switch is `jax_enable_x64`, which makes integers "
        "64 bits wide as well. Any other width is given at each call."
    )
    note = "`torch.get_default_dtype()` is `jnp.result_type(float)`."
    also = ("torch.get_default_dtype",)

    def torch():
        torch.set_default_dtype(torch.float64)
        x = torch.zeros(3)
        torch.set_default_dtype(torch.float32)
        return x

    def jax():
        return jnp.zeros(3)

    def fix():
        jax.config.update("jax_enable_x64", True)  # once, where the program starts
        return jnp.zeros(3)

    def differ(theirs, ours):
        with double_precision():
            wide = jnp.arange(3).dtype == jnp.int64
        asked = jnp.result_type(float) == jnp.float32 and torch.get_default_dtype() == torch.float32
        return wide and asked and theirs.dtype == torch.float64 and ours.dtype == jnp.float32


class ToNumpy(Pair):
    """To a NumPy array"""

    inputs = {"x": normal(2, 3)}
    note = "`np.asarray(x)` waits for the result, `np.array(x)` is a copy to write to. Under `jit` both raise."
    also = ("Tensor.numpy",)

    def torch(x):
        return x.detach().numpy()

    def jax(x):
        return np.asarray(x)

    def claims():
        x = jnp.ones(2)
        assert raises(jax.errors.TracerArrayConversionError, jax.jit(np.asarray), x)
        assert not np.asarray(x).flags.writeable and np.array(x).flags.writeable


class ToPython(Pair):
    """To Python numbers and lists"""

    inputs = {"x": normal(2, 3)}
    no_gradient = "the values leave the graph"
    note = "Each waits for the result. Under `jit` there is no value to give yet: they raise."

    def torch(x):
        return x.sum().item(), float(x[0, 0]), x.tolist()

    def jax(x):
        return x.sum().item(), float(x[0, 0]), x.tolist()

    def claims():
        for call in (lambda x: x.item(), float, lambda x: x.tolist()):
            assert raises(jax.errors.ConcretizationTypeError, jax.jit(call), jnp.ones(()))


class CopyOf(Pair):
    """A copy to change"""

    inputs = {"x": normal(4)}
    note = "An array never changes, so there is nothing to clone: the `.at` copy leaves `x` as it was."
    also = ("torch.clone",)

    def torch(x):
        y = x.clone()
        y[0] = 9
        return x, y

    def jax(x):
        y = x.at[0].set(9)
        return x, y


class FromTensor(Pair):
    """From a PyTorch tensor"""

    trap = (
        "`jnp.from_dlpack` shares the memory: writing to the tensor changes the array, which JAX takes for immutable. "
        "`copy=True` does not help on every version (on jax 0.10.2 the memory is shared all the same)."
    )
    also = ("utils.dlpack.from_dlpack", "utils.dlpack.to_dlpack", "torch.from_dlpack")

    def torch():
        t = torch.zeros(3)
        j = t.clone()
        t[0] = 9
        return j

    def jax():
        t = torch.zeros(3)
        j = jnp.from_dlpack(t)
        t[0] = 9
        return j

    def fix():
        t = torch.zeros(3)
        j = jnp.from_dlpack(t.clone())
        t[0] = 9
        return j

    def differ(theirs, ours):
        t = torch.zeros(3)
        j = jnp.from_dlpack(t, copy=True)
        t[0] = 9
        shared = j.tolist() == [9, 0, 0] or jax.__version__ != "0.10.2"
        return shared and theirs.tolist() == [0, 0, 0] and ours.tolist() == [9, 0, 0]


class Filled(Pair):
    """Zeros, ones, one value"""

    inputs = {"x": normal(2, 3)}
    note = "A shape is one tuple in JAX: `jnp.zeros(2, 3)` takes the 3 for a dtype."
    also = (
        "torch.zeros_like",
        "torch.ones",
        "torch.zeros",
    )

    def torch(x):
        return torch.zeros(2, 3), torch.ones_like(x), torch.full((2,), 7.0)

    def jax(x):
        return jnp.zeros((2, 3)), jnp.ones_like(x), jnp.full((2,), 7.0)

    def claims():
        assert raises(TypeError, jnp.zeros, 2, 3)


class LikeAnother(Pair):
    """Of the dtype of another: new_zeros, type_as, full_like"""

    inputs = {"x": integers(0, 9, 2, 3), "y": normal(2)}
    also = ("Tensor.new_tensor", "Tensor.new_ones")
    note = "On several devices: `jnp.zeros(..., device=y.sharding)`."

    def torch(x, y):
        return y.new_zeros(2, 3), y.new_full((2,), 7), y.new_tensor([1, 2]), x.type_as(y), torch.full_like(y, 2)

    def jax(x, y):
        return (
            jnp.zeros((2, 3), y.dtype), jnp.full((2,), 7, y.dtype), jnp.array([1, 2], y.dtype), x.astype(y.dtype),
            jnp.full_like(y, 2),
        )  # fmt: skip

    def claims():
        assert jnp.zeros(2, device=jnp.ones(3).sharding).sharding == jnp.ones(3).sharding


class Identity(Pair):
    """Identity matrix"""

    def torch():
        return torch.eye(3), torch.eye(2, 3)

    def jax():
        return jnp.eye(3), jnp.eye(2, 3)


class Empty(Pair):
    """Memory that is not initialised"""

    note = "Memory is always written in JAX: `jnp.empty` is `jnp.zeros`, and so is `jnp.empty_like`."
    also = (
        "Tensor.new_empty",
        "torch.empty",
    )

    def torch():
        return torch.empty(2, 3).zero_(), torch.empty_like(torch.ones(3)).zero_()

    def jax():
        return jnp.empty((2, 3)), jnp.empty_like(jnp.ones(3))


class Ranges(Pair):
    """Ranges of numbers"""

    def torch():
        return torch.arange(0, 10, 2), torch.arange(5.0), torch.linspace(0, 1, 5)

    def jax():
        return jnp.arange(0, 10, 2), jnp.arange(5.0), jnp.linspace(0, 1, 5)


class LogRange(Pair):
    """Numbers evenly spaced on a log scale"""

    note = "`steps` must be given in PyTorch; `num` is 50 in JAX where it is not."

    def torch():
        return torch.logspace(0, 2, 5), torch.logspace(0, 3, 4, base=2)

    def jax():
        return jnp.logspace(0, 2, 5), jnp.logspace(0, 3, 4, base=2)

    def claims():
        assert len(jnp.logspace(0, 2)) == len(jnp.linspace(0, 1)) == 50
        assert raises(TypeError, torch.logspace, 0, 2)


class OneHot(Pair):
    """One-hot vectors"""

    inputs = {"labels": integers(0, 4, 5)}
    note = "int64 in PyTorch, float32 in JAX unless you give a `dtype`. In JAX a label out of range is a row of zeros."
    also = ("F.one_hot",)

    def torch(labels):
        return torch.nn.functional.one_hot(labels, 4)

    def jax(labels):
        return jax.nn.one_hot(labels, 4)

    def claims():
        labels = jnp.array([5])
        assert jax.nn.one_hot(labels, 4).tolist() == [[0, 0, 0, 0]] and jax.nn.one_hot(labels, 4).dtype == jnp.float32
        assert jax.nn.one_hot(labels, 4, dtype=int).dtype == jnp.int32
        assert torch.nn.functional.one_hot(torch.tensor([1]), 4).dtype == torch.int64


class IntegerDtype(Wide, Pair):
    """The dtype of integers"""

    trap = "The default integer is int64 in PyTorch, and int32 in JAX unless `jax_enable_x64` is set. It wraps earlier."
    lesson = ("00_start_here", "trap:integer-dtype")

    def torch():
        return torch.tensor([1, 2, 3])

    def jax():
        return jnp.array([1, 2, 3])

    def fix():
        jax.config.update("jax_enable_x64", True)  # once, where the program starts
        return jnp.array([1, 2, 3])

    def differ(theirs, ours, fixed):
        wraps = int((ours + (2**31 - 1))[0]) == -(2**31)
        return wraps and theirs.dtype == torch.int64 and ours.dtype == jnp.int32 and fixed.dtype == np.int64


class LargeIntegers(Wide, Pair):
    """An integer beyond 32 bits, from NumPy"""

    inputs = {"x": integers(0, 9, 3)}
    trap = "JAX has no int64 unless `jax_enable_x64` is set: the upper bits go, without a word."
    lesson = ("00_start_here", "trap:integer-dtype")

    def torch(x):
        return x + torch.from_numpy(np.array(2**40))

    def jax(x):
        return x + jnp.asarray(np.array(2**40))

    def fix(x):
        jax.config.update("jax_enable_x64", True)  # once, where the program starts
        return x + jnp.asarray(np.array(2**40))

    def differ(theirs, ours):
        return (theirs >= 2**40).all() and ours.dtype == jnp.int32 and ours.tolist() == (theirs - 2**40).tolist()


class Doubles(Wide, Pair):
    """float64 from NumPy"""

    trap = "A NumPy array of float64 becomes float32, without a word, unless `jax_enable_x64` is set."
    lesson = ("00_start_here", "trap:integer-dtype")

    def torch():
        return torch.from_numpy(np.array([0.1]))

    def jax():
        return jnp.asarray(np.array([0.1]))

    def fix():
        jax.config.update("jax_enable_x64", True)  # once, where the program starts
        return jnp.asarray(np.array([0.1]))

    def differ(theirs, ours):
        return theirs.dtype == torch.float64 and ours.dtype == jnp.float32 and ours.item() == np.float32(0.1)


class Cast(Pair):
    """Change the dtype"""

    inputs = {"x": normal(2, 3)}
    note = "`.astype` does them all: `.float()` is `.astype(jnp.float32)`, `.long()` `.astype(int)`, int32."
    also = (
        "Tensor.to", "Tensor.float", "Tensor.half", "Tensor.double", "Tensor.bfloat16", "Tensor.int", "Tensor.long",
        "Tensor.bool", "Tensor.short", "Tensor.char", "Tensor.byte", "Tensor.type",
    )  # fmt: skip

    def torch(x):
        return x.to(torch.bfloat16)

    def jax(x):
        return x.astype(jnp.bfloat16)

    def claims():
        assert not hasattr(jnp.ones(1), "float") and jnp.ones(1).astype(int).dtype == jnp.int32


class PythonNumbers(Pair):
    """Calculate with a Python number"""

    no_gradient = "compiled, XLA keeps intermediates wider than bfloat16"
    inputs = {"x": normal(3), "n": integers(0, 9, 3)}
    note = "Python numbers don't widen an array on either side. Integers become float32 with a float, and by `/`."

    def torch(x, n):
        return x.to(torch.bfloat16) * 2.5, n * 2.5, n / 2, n // 2

    def jax(x, n):
        return x.astype(jnp.bfloat16) * 2.5, n * 2.5, n / 2, n // 2


class SmallIntegers(Pair):
    """Calculate with uint8 and bool"""

    inputs = {"x": integers(0, 256, 4), "mask": booleans(4)}
    note = "Both wrap at 256, and `+` of two masks is `or`. A sum of uint8 is int64 in PyTorch and uint32 in JAX."

    def torch(x, mask):
        x = x.to(torch.uint8)
        return x + 100, x - x.flip(0), x * mask, mask + mask.flip(0), x.sum(), mask.sum()

    def jax(x, mask):
        x = x.astype(jnp.uint8)
        return x + 100, x - x[::-1], x * mask, mask + mask[::-1], x.sum(), mask.sum()

    def claims():
        assert torch.ones(2, dtype=torch.uint8).sum().dtype == torch.int64
        assert jnp.ones(2, jnp.uint8).sum().dtype == jnp.uint32


class NumPyNumbers(Pair):
    """Calculate with a NumPy number"""

    inputs = {"x": normal(3)}
    trap = (
        "A NumPy number has a dtype, and JAX heeds it: bfloat16 becomes float32. PyTorch takes it for a Python number."
    )
    note = "JAX rounds a Python number to bfloat16 first; PyTorch calculates in float32 and rounds once."

    def torch(x):
        return x.to(torch.bfloat16) / np.sqrt(64)

    def jax(x):
        return x.astype(jnp.bfloat16) / np.sqrt(64)

    def fix(x):
        return x.astype(jnp.bfloat16) / 64**0.5

    def differ(theirs, ours):
        once, twice = torch.tensor(3.0).bfloat16() * 1.003, jnp.bfloat16(3) * 1.003
        rounding = float(once) == 3.015625 and float(twice) == 3
        return rounding and theirs.dtype == torch.bfloat16 and ours.dtype == jnp.float32


class DivisionByZero(Pair):
    """Divide integers by zero"""

    inputs = {"x": integers(1, 9, 3)}
    trap = (
        "PyTorch raises; JAX can't raise on a value, and returns a number that means nothing. `checkify` makes the "
        "error a second result."
    )
    lesson = ("00_start_here", "trap:no-error")

    def torch(x):
        return x // 0

    def jax(x):
        return x // 0

    def fix(x):
        error, y = checkify.checkify(lambda x: x // 0, errors=checkify.div_checks)(x)
        return error.get()  # "division by zero"; error.throw() raises it

    def differ(theirs, ours, fixed):
        return "division by zero" in fixed and isinstance(theirs, RuntimeError) and ours.dtype == jnp.int32


class SizeOfDimension(Pair):
    """Length of a dimension"""

    inputs = {"x": normal(2, 3)}
    trap = "`size` is the number of elements in JAX, a number and no method."
    lesson = ("00_start_here", "trap:same-word")
    also = ("Tensor.size", "Tensor.shape")

    def torch(x):
        return x.size(0)

    def jax(x):
        return x.size(0)

    def fix(x):
        return x.shape[0]

    def differ(theirs, ours):
        return theirs == 2 and isinstance(ours, TypeError)


class CountElements(Pair):
    """Number of elements, of dimensions, of bytes"""

    inputs = {"x": normal(2, 3)}
    also = ("Tensor.nelement", "Tensor.ndimension", "Tensor.itemsize", "Tensor.nbytes")

    def torch(x):
        return x.numel(), x.dim(), x.element_size(), x.nbytes, len(x), torch.is_tensor(x)

    def jax(x):
        return x.size, x.ndim, x.itemsize, x.nbytes, len(x), isinstance(x, jax.Array)


class View(Pair):
    """Reshape with view"""

    inputs = {"x": normal(2, 6)}
    trap = "`view` in JAX reads the same bytes as another dtype, as in NumPy. The word for shapes is `reshape`."
    also = ("Tensor.reshape", "torch.reshape", "Tensor.view", "Tensor.view_as", "Tensor.reshape_as")

    def torch(x):
        return x.view(4, 3)

    def jax(x):
        return x.view(4, 3)

    def fix(x):
        return x.reshape(4, 3)

    def differ(theirs, ours):
        return theirs.shape == (4, 3) and isinstance(ours, NotImplementedError | TypeError)


class Flatten(Pair):
    """Flatten and unflatten"""

    inputs = {"x": normal(2, 3, 4)}
    also = ("nn.Unflatten", "Tensor.ravel")

    def torch(x):
        return x.flatten(), torch.ravel(x), x.flatten(1), x.flatten(0, 1), x.unflatten(2, (2, 2))

    def jax(x):
        return x.ravel(), jnp.ravel(x), x.reshape(2, -1), x.reshape(-1, 4), x.reshape(2, 3, 2, 2)


class ViewDtype(Pair):
    """The same bytes as another dtype"""

    inputs = {"x": normal(4)}

    def torch(x):
        return x.view(torch.int32)

    def jax(x):
        return x.view(jnp.int32)


class Contiguous(Pair):
    """Contiguous memory"""

    inputs = {"x": normal(2, 3)}
    note = "The compiler chooses how an array lies in memory. There are no strides, and `reshape` always works."
    also = ("Tensor.is_contiguous", "Tensor.stride")

    def torch(x):
        return x.mT.contiguous().view(-1)

    def jax(x):
        return x.mT.reshape(-1)

    def claims():
        assert not hasattr(jnp.ones(1), "strides") and not hasattr(jnp.ones(1), "stride")


class Unsqueeze(Pair):
    """Add a dimension"""

    inputs = {"x": normal(2, 3)}
    note = "`x[:, None]` does it on both sides."
    also = ("Tensor.unsqueeze_",)

    def torch(x):
        return x.unsqueeze(1)

    def jax(x):
        return jnp.expand_dims(x, 1)

    def claims():
        assert torch.ones(2, 3)[:, None].shape == jnp.ones((2, 3))[:, None].shape == (2, 1, 3)


class Squeeze(Pair):
    """Squeeze a dimension that may not be 1"""

    inputs = {"x": normal(2, 3, 1)}
    trap = (
        "`squeeze(1)` of a longer dimension does nothing in PyTorch, and raises in JAX. Without a number it's the same."
    )
    also = ("Tensor.squeeze_",)

    def torch(x):
        return x.squeeze(1)

    def jax(x):
        return x.squeeze(1)

    def fix(x):
        return x.squeeze(1) if x.shape[1] == 1 else x

    def differ(theirs, ours):
        x = np.ones((2, 1, 3, 1), np.float32)
        same = torch.tensor(x).squeeze().shape == jnp.array(x).squeeze().shape == (2, 3)
        return same and theirs.shape == (2, 3, 1) and isinstance(ours, ValueError)


class Permute(Pair):
    """Reorder all dimensions"""

    inputs = {"x": normal(2, 3, 4)}

    def torch(x):
        return x.permute(2, 0, 1)

    def jax(x):
        return x.transpose(2, 0, 1)


class MoveDimension(Pair):
    """Move a dimension, channels last"""

    inputs = {"x": normal(2, 3, 4, 5)}
    also = ("torch.moveaxis",)

    def torch(x):
        return torch.movedim(x, 1, -1)

    def jax(x):
        return jnp.moveaxis(x, 1, -1)


class SwapDimensions(Pair):
    """Swap two dimensions"""

    inputs = {"x": normal(2, 3, 4)}
    trap = "`transpose` names two dimensions in PyTorch, and all of them in JAX. `swapaxes` means the same in both."
    also = ("torch.swapaxes", "torch.swapdims", "Tensor.transpose_", "Tensor.t")

    def torch(x):
        return x.transpose(0, 1)

    def jax(x):
        return x.transpose(0, 1)

    def fix(x):
        return x.swapaxes(0, 1)

    def differ(theirs, ours):
        return theirs.shape == torch.ones(2, 3, 4).swapaxes(0, 1).shape == (3, 2, 4) and isinstance(ours, TypeError)


class TransposeBatch(Pair):
    """Transpose each matrix of a batch"""

    inputs = {"x": normal(3, 3, 3)}
    trap = "`.T` and `jnp.transpose` reverse all axes, the batch with them; with a cube no shape gives it away."
    also = ("Tensor.mT", "Tensor.T")

    def torch(x):
        return x.mT

    def jax(x):
        return x.T

    def fix(x):
        return x.mT

    def differ(theirs, ours, fixed):
        return np.array_equal(ours, np.transpose(fixed, (1, 2, 0))) and not np.array_equal(ours, fixed)


class Repeat(Pair):
    """Tile a tensor"""

    inputs = {"x": normal(3)}
    trap = "`repeat` tiles the whole in PyTorch, and repeats each element in JAX."
    lesson = ("00_start_here", "trap:same-word")
    also = ("torch.tile",)

    def torch(x):
        return x.repeat(2)

    def jax(x):
        return x.repeat(2)

    def fix(x):
        return jnp.tile(x, 2)

    def differ(theirs, ours):
        return ours.tolist() == theirs.reshape(2, 3).T.flatten().tolist()


class RepeatEach(Pair):
    """Repeat each element"""

    inputs = {"x": normal(3, 2)}
    note = "Under `jit`, counts that are a JAX array need `total_repeat_length`; those of a NumPy array are known."
    also = ("Tensor.repeat_interleave",)

    def torch(x):
        return torch.repeat_interleave(x, 2, dim=0), x.repeat_interleave(torch.tensor([1, 0, 2]), dim=0)

    def jax(x):
        return jnp.repeat(x, 2, axis=0), jnp.repeat(x, np.array([1, 0, 2]), axis=0)

    def claims():
        x, counts = jnp.arange(3.0), jnp.array([1, 0, 2])
        assert raises(jax.errors.ConcretizationTypeError, jax.jit(jnp.repeat), x, counts)
        assert jax.jit(lambda x: jnp.repeat(x, np.array([1, 0, 2])))(x).tolist() == [0, 2, 2]
        assert jax.jit(lambda x, n: jnp.repeat(x, n, total_repeat_length=3))(x, counts).tolist() == [0, 2, 2]


class Expand(Pair):
    """Broadcast to a shape"""

    inputs = {"x": normal(3), "y": normal(4, 3)}
    note = "A -1, which keeps a length in PyTorch, is an error in JAX."
    also = ("Tensor.expand", "Tensor.broadcast_to")

    def torch(x, y):
        shape = torch.broadcast_shapes((4, 1), (3,))
        return x.expand(4, 3), x.expand_as(y), torch.broadcast_to(x, shape), torch.broadcast_tensors(x, y)

    def jax(x, y):
        shape = jnp.broadcast_shapes((4, 1), (3,))
        everything = jnp.broadcast_arrays(x, y)
        return jnp.broadcast_to(x, (4, 3)), jnp.broadcast_to(x, y.shape), jnp.broadcast_to(x, shape), everything

    def claims():
        assert torch.ones(1, 3).expand(2, -1).shape == (2, 3)
        assert raises(ValueError, jnp.broadcast_to, jnp.ones((1, 3)), (2, -1))


class Join(Pair):
    """Join tensors"""

    inputs = {"x": normal(2, 3), "y": normal(2, 3)}
    also = (
        "torch.concat",
        "torch.concatenate",
        "torch.cat",
    )

    def torch(x, y):
        return torch.cat([x, y], dim=1), torch.stack([x, y])

    def jax(x, y):
        return jnp.concatenate([x, y], axis=1), jnp.stack([x, y])


class JoinNamed(Pair):
    """hstack, vstack, dstack"""

    inputs = {"x": normal(2, 3), "y": normal(2, 3)}
    note = "`column_stack` and `atleast_1d` to `atleast_3d` have the same names, too."
    also = ("torch.row_stack", "torch.column_stack", "torch.atleast_1d", "torch.atleast_2d", "torch.atleast_3d")

    def torch(x, y):
        return torch.hstack([x, y]), torch.vstack([x, y]), torch.dstack([x, y])

    def jax(x, y):
        return jnp.hstack([x, y]), jnp.vstack([x, y]), jnp.dstack([x, y])

    def claims():
        x = np.ones(3, np.float32)
        for name in ("atleast_1d", "atleast_2d", "atleast_3d"):
            assert getattr(torch, name)(torch.tensor(x)).shape == getattr(jnp, name)(x).shape
        assert jnp.column_stack([x, x]).shape == torch.column_stack([torch.tensor(x)] * 2).shape == (3, 2)


class Split(Pair):
    """Split into pieces"""

    inputs = {"x": normal(6, 2)}
    trap = "The number is the length of a piece in PyTorch, and how many pieces in JAX."
    lesson = ("00_start_here", "trap:same-word")

    def torch(x):
        return torch.split(x, 2)

    def jax(x):
        return jnp.split(x, 2)

    def fix(x):
        return jnp.split(x, np.arange(2, len(x), 2))

    def differ(theirs, ours):
        uneven = torch.split(torch.ones(7), 2), jnp.split(jnp.ones(7), np.arange(2, 7, 2))
        assert [len(part) for part in uneven[0]] == [len(part) for part in uneven[1]] == [2, 2, 2, 1]
        return [len(part) for part in theirs] == [2, 2, 2] and [len(part) for part in ours] == [3, 3]


class SplitLengths(Pair):
    """Split into pieces of given lengths"""

    inputs = {"x": normal(6, 2)}
    trap = "A list means lengths in PyTorch, and the places of the cuts in JAX."
    also = ("torch.split_with_sizes", "Tensor.split_with_sizes")

    def torch(x):
        return torch.split(x, [1, 2, 3])

    def jax(x):
        return jnp.split(x, [1, 2, 3])

    def fix(x):
        return jnp.split(x, np.cumsum([1, 2, 3])[:-1])

    def differ(theirs, ours):
        return [len(part) for part in theirs] == [1, 2, 3] and [len(part) for part in ours] == [1, 1, 1, 3]


class Chunk(Pair):
    """Chunks of an uneven length"""

    inputs = {"x": normal(7)}
    trap = (
        "`chunk` makes all pieces but the last equally long, and fewer than asked for if need be. `jnp.array_split` "
        "spreads the rest, as `torch.tensor_split` does; `jnp.split` raises."
    )

    def torch(x):
        return torch.chunk(x, 3)

    def jax(x):
        return jnp.array_split(x, 3)

    def fix(x):
        length = -(-len(x) // 3)
        return [x[start : start + length] for start in range(0, len(x), length)]

    def differ(theirs, ours):
        fewer = len(torch.chunk(torch.ones(6), 4)) == 3 and raises(ValueError, jnp.split, jnp.ones(7), 3)
        return fewer and [*map(len, theirs)] == [3, 3, 1] and [*map(len, ours)] == [3, 2, 2]


class Unbind(Pair):
    """Take apart along a dimension: unbind, tensor_split"""

    inputs = {"x": normal(3, 2), "y": normal(7)}
    note = "`hsplit`, `vsplit` and `dsplit` are the same in both: how many pieces, or the places of the cuts."
    also = ("torch.hsplit", "torch.vsplit", "torch.dsplit")

    def torch(x, y):
        return torch.unbind(x, dim=1), torch.tensor_split(y, 3), [row.sum() for row in x]

    def jax(x, y):
        return jnp.unstack(x, axis=1), jnp.array_split(y, 3), [row.sum() for row in x]

    def claims():
        x = np.arange(64.0).reshape(4, 4, 4)
        for name in ("hsplit", "vsplit", "dsplit"):
            for where in (2, [1, 2]):
                parts = zip(getattr(torch, name)(torch.tensor(x), where), getattr(jnp, name)(x, where), strict=True)
                assert all(np.array_equal(*part) for part in parts)


class Flip(Pair):
    """Flip, roll, rotate"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        return x.flip(0), torch.fliplr(x), torch.flipud(x), torch.roll(x, 1, dims=1), torch.rot90(x), x.roll(2)

    def jax(x):
        return jnp.flip(x, 0), jnp.fliplr(x), jnp.flipud(x), jnp.roll(x, 1, axis=1), jnp.rot90(x), jnp.roll(x, 2)


class PadLast(Pair):
    """Pad the last dimension"""

    inputs = {"x": normal(2, 3)}
    note = "PyTorch lists the dimensions from the last, JAX all from the first; `jnp.pad(x, (1, 2))` pads every one."

    def torch(x):
        return torch.nn.functional.pad(x, (1, 2))

    def jax(x):
        return jnp.pad(x, ((0, 0), (1, 2)))

    def claims():
        assert jnp.pad(jnp.ones((2, 3)), (1, 2)).shape == (5, 6)


class Grid(Pair):
    """A grid of coordinates: meshgrid"""

    inputs = {"x": normal(2), "y": normal(3)}
    trap = 'Without `indexing` PyTorch takes `"ij"`, and warns; JAX takes `"xy"`: the first two axes swapped.'

    @quiet
    def torch(x, y):
        return torch.meshgrid(x, y)

    def jax(x, y):
        return jnp.meshgrid(x, y)

    def fix(x, y):
        return jnp.meshgrid(x, y, indexing="ij")

    def differ(theirs, ours):
        return theirs[0].shape == (2, 3) and all(np.array_equal(t, j.T) for t, j in zip(theirs, ours, strict=True))


class Combinations(Pair):
    """All pairs: Cartesian product, combinations"""

    inputs = {"x": normal(2), "y": normal(3)}

    def torch(x, y):
        return torch.cartesian_prod(x, y), torch.combinations(y, 2)

    def jax(x, y):
        product = jnp.stack(jnp.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        return product, y[np.array([*itertools.combinations(range(3), 2)])]


class Triangle(Pair):
    """Upper and lower triangle, causal mask"""

    inputs = {"x": normal(4, 4)}
    also = ("Tensor.tril_", "Tensor.triu_")

    def torch(x):
        causal = torch.ones(4, 4, dtype=torch.bool).tril()
        return torch.triu(x, diagonal=1), torch.tril(x), x.masked_fill(~causal, 0)

    def jax(x):
        causal = jnp.tril(jnp.ones((4, 4), dtype=bool))
        return jnp.triu(x, k=1), jnp.tril(x), jnp.where(causal, x, 0)
