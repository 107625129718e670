"""Creation, dtypes and shapes

Arrays are made and shaped as in NumPy, and where NumPy and PyTorch give a word two meanings, JAX follows NumPy. Without
`jax_enable_x64`, JAX's widest types are float32 and int32. `dim` is `axis`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, booleans, integers, normal


class FromList(Pair):
    """From a Python list"""

    def torch():
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def jax():
        return jnp.array([[1.0, 2.0], [3.0, 4.0]])


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


class ToNumpy(Pair):
    """To a NumPy array"""

    inputs = {"x": normal(2, 3)}
    note = "`np.asarray(x)` waits for the result and is read-only; `np.array(x)` is a copy of your own."

    def torch(x):
        return x.detach().numpy()

    def jax(x):
        return np.asarray(x)


class FromTensor(Pair):
    """From a PyTorch tensor"""

    trap = (
        "`jnp.from_dlpack` shares the memory: writing to the tensor changes the array, which JAX takes for immutable. "
        "`copy=True` does not help on every version (on jax 0.10.2 the memory is shared all the same)."
    )
    lesson = ("00_start_here", "jnp.from_dlpack(t)")

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
        return theirs.tolist() == [0, 0, 0] and ours.tolist() == [9, 0, 0]


class Filled(Pair):
    """Zeros, ones, one value"""

    inputs = {"x": normal(2, 3)}
    note = "A shape is one tuple in JAX: `jnp.zeros(2, 3)` takes the 3 for a dtype."

    def torch(x):
        return torch.zeros(2, 3), torch.ones_like(x), torch.full((2,), 7.0)

    def jax(x):
        return jnp.zeros((2, 3)), jnp.ones_like(x), jnp.full((2,), 7.0)


class Empty(Pair):
    """Memory that is not initialised"""

    note = "There is none in JAX: `jnp.empty` is `jnp.zeros`."

    def torch():
        return torch.empty(2, 3).zero_()

    def jax():
        return jnp.empty((2, 3))


class Ranges(Pair):
    """Ranges of numbers"""

    def torch():
        return torch.arange(0, 10, 2), torch.arange(5.0), torch.linspace(0, 1, 5)

    def jax():
        return jnp.arange(0, 10, 2), jnp.arange(5.0), jnp.linspace(0, 1, 5)


class OneHot(Pair):
    """One-hot vectors"""

    inputs = {"labels": integers(0, 4, 5)}
    note = "int64 in PyTorch, float32 in JAX unless you give a `dtype`. In JAX a label out of range is a row of zeros."

    def torch(labels):
        return torch.nn.functional.one_hot(labels, 4)

    def jax(labels):
        return jax.nn.one_hot(labels, 4)


class IntegerDtype(Pair):
    """The dtype of integers"""

    trap = "The default integer is int64 in PyTorch, and int32 in JAX unless `jax_enable_x64` is set. It wraps earlier."
    lesson = ("00_start_here", "np.array([4, -4])")

    def torch():
        return torch.tensor([1, 2, 3]).dtype

    def jax():
        return jnp.array([1, 2, 3]).dtype

    def differ(theirs, ours):
        return theirs == torch.int64 and ours == jnp.int32


class LargeIntegers(Pair):
    """An integer beyond 32 bits, from NumPy"""

    inputs = {"x": integers(0, 9, 3)}
    trap = "JAX has no int64 unless `jax_enable_x64` is set: the upper bits go, without a word."
    lesson = ("00_start_here", "2**40")

    def torch(x):
        return x + torch.from_numpy(np.array(2**40))

    def jax(x):
        return x + jnp.asarray(np.array(2**40))

    def differ(theirs, ours):
        return (theirs >= 2**40).all() and ours.dtype == jnp.int32 and ours.tolist() == (theirs - 2**40).tolist()


class Doubles(Pair):
    """float64 from NumPy"""

    trap = "A NumPy array of float64 becomes float32, without a word, unless `jax_enable_x64` is set."
    lesson = ("00_start_here", "np.array([0.1])")

    def torch():
        return torch.from_numpy(np.array([0.1]))

    def jax():
        return jnp.asarray(np.array([0.1]))

    def differ(theirs, ours):
        return theirs.dtype == torch.float64 and ours.dtype == jnp.float32 and ours.item() == np.float32(0.1)


class Cast(Pair):
    """Change the dtype"""

    inputs = {"x": normal(2, 3)}
    note = "`.astype` returns a new array, as `.to` does; there is no `.float()`, `.long()` or `.half()`."

    def torch(x):
        return x.to(torch.bfloat16)

    def jax(x):
        return x.astype(jnp.bfloat16)


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


class NumPyNumbers(Pair):
    """Calculate with a NumPy number"""

    inputs = {"x": normal(3)}
    trap = (
        "A NumPy number has a dtype, and JAX heeds it: bfloat16 becomes float32. PyTorch takes it for a Python number."
    )
    note = "JAX rounds a Python number to bfloat16 first; PyTorch calculates in float32 and rounds once."
    lesson = ("00_start_here", "/ np.sqrt(64)).dtype")

    def torch(x):
        return x.to(torch.bfloat16) / np.sqrt(64)

    def jax(x):
        return x.astype(jnp.bfloat16) / np.sqrt(64)

    def fix(x):
        return x.astype(jnp.bfloat16) / 64**0.5

    def differ(theirs, ours):
        return theirs.dtype == torch.bfloat16 and ours.dtype == jnp.float32


class DivisionByZero(Pair):
    """Divide integers by zero"""

    inputs = {"x": integers(1, 9, 3)}
    trap = "PyTorch raises; JAX can't raise on a value, and returns a number that means nothing."
    lesson = ("00_start_here", "x // 0")

    def torch(x):
        return x // 0

    def jax(x):
        return x // 0

    def differ(theirs, ours):
        return isinstance(theirs, RuntimeError) and ours.dtype == jnp.int32


class SizeOfDimension(Pair):
    """Length of a dimension"""

    inputs = {"x": normal(2, 3)}
    trap = "`size` is the number of elements in JAX, a number and no method."
    lesson = ("00_start_here", "x.size(0)")

    def torch(x):
        return x.size(0)

    def jax(x):
        return x.size(0)

    def fix(x):
        return x.shape[0]

    def differ(theirs, ours):
        return theirs == 2 and isinstance(ours, TypeError)


class View(Pair):
    """Reshape with view"""

    inputs = {"x": normal(2, 6)}
    trap = "`view` in JAX reads the same bytes as another dtype, as in NumPy. The word for shapes is `reshape`."
    note = "`x.flatten(1)` is `x.reshape(len(x), -1)`."
    lesson = ("00_start_here", "x.view(6, 4)")

    def torch(x):
        return x.view(4, 3)

    def jax(x):
        return x.view(4, 3)

    def fix(x):
        return x.reshape(4, 3)

    def differ(theirs, ours):
        return theirs.shape == (4, 3) and isinstance(ours, NotImplementedError | TypeError)


class Unsqueeze(Pair):
    """Add a dimension"""

    inputs = {"x": normal(2, 3)}
    note = "`x[:, None]` does it on both sides. `squeeze(1)` of a length other than one is an error in JAX."

    def torch(x):
        return x.unsqueeze(1)

    def jax(x):
        return jnp.expand_dims(x, 1)


class Permute(Pair):
    """Reorder all dimensions"""

    inputs = {"x": normal(2, 3, 4)}

    def torch(x):
        return x.permute(0, 2, 1)

    def jax(x):
        return x.transpose(0, 2, 1)


class SwapDimensions(Pair):
    """Swap two dimensions"""

    inputs = {"x": normal(2, 3, 4)}
    trap = "`transpose` names two dimensions in PyTorch, and all of them in JAX. `swapaxes` means the same in both."
    lesson = ("00_start_here", "x.transpose(0, 1)")

    def torch(x):
        return x.transpose(0, 1)

    def jax(x):
        return x.transpose(0, 1)

    def fix(x):
        return x.swapaxes(0, 1)

    def differ(theirs, ours):
        return theirs.shape == (3, 2, 4) and isinstance(ours, TypeError)


class TransposeBatch(Pair):
    """Transpose each matrix of a batch"""

    inputs = {"x": normal(3, 3, 3)}
    trap = "`.T` and `jnp.transpose` reverse all axes, the batch with them; with a cube no shape gives it away."
    lesson = ("00_start_here", "j.T.shape")

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
    note = "`torch.repeat_interleave` is `jnp.repeat`; `x.expand` is `jnp.broadcast_to`."
    lesson = ("00_start_here", "x.repeat(2)")

    def torch(x):
        return x.repeat(2)

    def jax(x):
        return x.repeat(2)

    def fix(x):
        return jnp.tile(x, 2)

    def differ(theirs, ours):
        return ours.tolist() == theirs.reshape(2, 3).T.flatten().tolist()


class Join(Pair):
    """Join tensors"""

    inputs = {"x": normal(2, 3), "y": normal(2, 3)}

    def torch(x, y):
        return torch.cat([x, y], dim=1), torch.stack([x, y])

    def jax(x, y):
        return jnp.concatenate([x, y], axis=1), jnp.stack([x, y])


class Split(Pair):
    """Split into pieces"""

    inputs = {"x": normal(6, 2)}
    trap = "The number is the length of a piece in PyTorch, and how many pieces in JAX."
    note = "`torch.tensor_split` is `jnp.array_split`. A list means lengths in PyTorch and positions in JAX."
    lesson = ("00_start_here", "xp.split(x, 2)")

    def torch(x):
        return torch.split(x, 2)

    def jax(x):
        return jnp.split(x, 2)

    def fix(x):
        return jnp.split(x, len(x) // 2)

    def differ(theirs, ours):
        return [len(part) for part in theirs] == [2, 2, 2] and [len(part) for part in ours] == [3, 3]


class PadLast(Pair):
    """Pad the last dimension"""

    inputs = {"x": normal(2, 3)}
    note = "PyTorch lists the dimensions from the last, JAX all from the first; `jnp.pad(x, (1, 2))` pads every one."

    def torch(x):
        return torch.nn.functional.pad(x, (1, 2))

    def jax(x):
        return jnp.pad(x, ((0, 0), (1, 2)))


class Grid(Pair):
    """A grid of coordinates"""

    inputs = {"x": normal(2), "y": normal(3)}
    note = (
        'Without `indexing` JAX takes `"xy"`, the first two axes swapped, as in NumPy. PyTorch takes `"ij"`, and warns.'
    )

    def torch(x, y):
        return torch.meshgrid(x, y, indexing="ij")

    def jax(x, y):
        return jnp.meshgrid(x, y, indexing="ij")
