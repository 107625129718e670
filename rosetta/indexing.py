"""Indexing and in-place updates

Reading is as in NumPy. Writing is `x = x.at[index].set(value)`, or `add`, `multiply`, `min`, `max`: a changed copy,
which a compiled function makes in place where nobody needs the old array. An index out of range does not raise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental import checkify

from rosetta.kinds import Pair, booleans, integers, normal, positive, raises


class Read(Pair):
    """Read elements and slices"""

    inputs = {"x": normal(4, 5)}

    def torch(x):
        return x[0, 1], x[-1], x[:, ::2], x[..., 1:], x[:, None]

    def jax(x):
        return x[0, 1], x[-1], x[:, ::2], x[..., 1:], x[:, None]


class ReadByName(Pair):
    """select, narrow, index_select"""

    inputs = {"x": normal(4, 5)}
    also = ("torch.select", "torch.narrow")

    def torch(x):
        index = torch.tensor([0, 2])
        return x.select(1, 2), x.narrow(0, 1, 2), torch.index_select(x, 1, index), x.index_select(0, index)

    def jax(x):
        index = jnp.array([0, 2])
        return x[:, 2], x[1:3], jnp.take(x, index, axis=1), x[index]


class ReadBackwards(Pair):
    """A slice backwards"""

    inputs = {"x": normal(4, 5)}
    note = "A negative step is a ValueError in PyTorch."

    def torch(x):
        return x.flip(0), x.flip(1)[:, ::2]

    def jax(x):
        return x[::-1], x[:, ::-2]

    def claims():
        assert raises(ValueError, lambda: torch.ones(3)[::-1])


class LabelOfEachRow(Pair):
    """The element of each row at its label"""

    inputs = {"x": normal(4, 5), "label": integers(0, 5, 4)}

    def torch(x, label):
        return x[torch.arange(4), label]

    def jax(x, label):
        return x[jnp.arange(4), label]


class NumberAndList(Pair):
    """A number and an index array around a slice"""

    inputs = {"x": normal(2, 3, 4)}
    trap = (
        "PyTorch takes the number first, and the array's dimension stays in its place. JAX takes the number for an "
        "array too, and puts their dimension in front, as NumPy does."
    )

    def torch(x):
        return x[0, :, torch.tensor([0, 1])]

    def jax(x):
        return x[0, :, jnp.array([0, 1])]

    def fix(x):
        return x[0][:, jnp.array([0, 1])]

    def differ(theirs, ours):
        return np.array_equal(theirs, ours.T)


class ReadRows(Pair):
    """Rows by a list of numbers"""

    inputs = {"x": normal(4, 5)}
    trap = "JAX refuses a list as an index. Say `jnp.array`."

    def torch(x):
        return x[[0, 2]]

    def jax(x):
        return x[[0, 2]]

    def fix(x):
        return x[jnp.array([0, 2])]

    def differ(theirs, ours):
        return theirs.shape == (2, 5) and isinstance(ours, TypeError)


class ReadPastEnd(Pair):
    """Read past the end"""

    inputs = {"x": normal(4)}
    trap = (
        "PyTorch raises. JAX can't raise on a value, and reads the last element (before the start, the first): an "
        "off-by-one goes unseen."
    )
    note = (
        '`x.at[index].get(mode="fill", fill_value=jnp.nan)` makes it seen. `checkify` makes the error a second result.'
    )
    lesson = ("00_start_here", "trap:no-error")

    def torch(x):
        return x[torch.tensor([0, 10])], x[10], x[-1]

    def jax(x):
        return x[jnp.array([0, 10])], x[10], x[-1]

    def fix(x):
        error, y = checkify.checkify(lambda x: x[10], errors=checkify.index_checks)(x)
        return error.get()  # "out-of-bounds indexing for array of shape (4,): ..."; error.throw() raises it

    def claims():
        x = jnp.arange(3.0)
        assert x[-5] == x[jnp.array(-5)] == x[0]
        assert jnp.isnan(x.at[jnp.array([0, 10])].get(mode="fill", fill_value=jnp.nan)).tolist() == [False, True]
        error, _ = checkify.checkify(lambda x: x[10], errors=checkify.index_checks)(x)
        assert "out-of-bounds indexing" in error.get() and raises(checkify.JaxRuntimeError, error.throw)

    def differ(theirs, ours):
        several, one, last = map(np.asarray, ours)
        return isinstance(theirs, IndexError) and several[1] == one == last


class TakePastEnd(Pair):
    """Take past the end"""

    inputs = {"x": normal(4)}
    trap = "`jnp.take` has a rule of its own for an index out of range: NaN, where `x[index]` reads the last element."

    def torch(x):
        return torch.take(x, torch.tensor([0, 10]))

    def jax(x):
        return jnp.take(x, jnp.array([0, 10]))

    def fix(x):
        return jnp.take(x, jnp.array([0, 10]), mode="clip")  # as x[index]

    def differ(theirs, ours):
        clipped = jnp.take(jnp.arange(4.0), jnp.array([0, 10]), mode="clip").tolist() == [0, 3]
        return clipped and isinstance(theirs, IndexError) and np.isnan(ours).tolist() == [False, True]


class WriteElement(Pair):
    """Write an element"""

    inputs = {"x": normal(4)}
    trap = "JAX arrays do not change. `.at` returns a changed copy."
    lesson = ("00_start_here", "trap:write-element")

    def torch(x):
        x[0] = 9
        return x

    def jax(x):
        x[0] = 9
        return x

    def fix(x):
        return x.at[0].set(9)

    def differ(theirs, ours):
        return theirs[0] == 9 and isinstance(ours, TypeError)


class WriteSlice(Pair):
    """Write into a slice"""

    inputs = {"x": normal(4, 5), "row": normal(3)}

    def torch(x, row):
        x[1, 2:] = row
        x[:, 0] *= 2
        return x

    def jax(x, row):
        x = x.at[1, 2:].set(row)
        x = x.at[:, 0].multiply(2)
        return x


class WriteAll(Pair):
    """Overwrite a whole tensor: `copy_`, `fill_`, `zero_`"""

    inputs = {"x": normal(2, 3), "y": normal(3)}

    def torch(x, y):
        copied, filled, zeros = x.clone().copy_(y), x.clone().fill_(7), x.clone().zero_()
        return copied, filled, zeros

    def jax(x, y):
        copied, filled, zeros = jnp.broadcast_to(y, x.shape), jnp.full_like(x, 7), jnp.zeros_like(x)
        return copied, filled, zeros


class ChangedCopy(Pair):
    """A changed copy: `select_scatter`, `slice_scatter`"""

    inputs = {"x": normal(4, 3), "row": normal(3), "rows": normal(2, 3)}

    def torch(x, row, rows):
        return torch.select_scatter(x, row, 0, 1), torch.slice_scatter(x, rows, 0, 1, 3)

    def jax(x, row, rows):
        return x.at[1].set(row), x.at[1:3].set(rows)


class SwapRows(Pair):
    """Swap two rows"""

    inputs = {"x": normal(4, 3)}

    def torch(x):
        x[[0, 2]] = x[[2, 0]]
        return x

    def jax(x):
        return x.at[jnp.array([0, 2])].set(x[jnp.array([2, 0])])


class FillDiagonal(Pair):
    """Write the diagonal"""

    inputs = {"x": normal(3, 3)}

    def torch(x):
        return x.fill_diagonal_(0)

    def jax(x):
        return jnp.fill_diagonal(x, 0, inplace=False)


class WritePastEnd(Pair):
    """Write past the end"""

    inputs = {"x": normal(4)}
    trap = "PyTorch raises. JAX drops the write and returns the array as it was."
    lesson = ("00_start_here", "trap:no-error")

    def torch(x):
        x[10] = 9
        return x

    def jax(x):
        return x, x.at[10].set(9)

    def fix(x):
        error, y = checkify.checkify(lambda x: x.at[10].set(9), errors=checkify.index_checks)(x)
        return error.get()  # "out-of-bounds indexing for array of shape (4,): ..."; error.throw() raises it

    def differ(theirs, ours, fixed):
        return "out-of-bounds indexing" in fixed and isinstance(theirs, IndexError) and np.array_equal(*ours)


class WriteThroughView(Pair):
    """Change a row of a matrix through a view"""

    inputs = {"x": normal(2, 3)}
    trap = "A slice is a view in PyTorch: `+=` on it changes the matrix. In JAX a slice is an array of its own."
    lesson = ("00_start_here", "trap:view")

    def torch(x):
        row = x[0]
        row += 1
        return x

    def jax(x):
        row = x[0]
        row += 1
        return x

    def fix(x):
        return x.at[0].add(1)

    def differ(theirs, ours):
        return np.allclose(theirs.numpy() - np.asarray(ours), [[1], [0]], atol=1e-6)


class AddAtRepeatedIndices(Pair):
    """Add at repeated indices"""

    inputs = {"x": normal(3)}
    no_gradient = "PyTorch counts the gradient of a repeated index twice"
    trap = "`x[index] += 1` counts a repeated index once in PyTorch; `.at[index].add(1)` counts each, as `index_add_`."

    def torch(x):
        x[[0, 0, 2]] += 1
        return x

    def jax(x):
        return x.at[jnp.array([0, 0, 2])].add(1)

    def fix(x):
        index = jnp.array([0, 0, 2])
        return x.at[index].set(x[index] + 1)

    def differ(theirs, ours):
        each = torch.zeros(3).index_add_(0, torch.tensor([0, 0, 2]), torch.ones(3))
        return each.tolist() == [2, 0, 1] and np.allclose(np.asarray(ours) - theirs.numpy(), [1, 0, 0], atol=1e-6)


class IndexAdd(Pair):
    """Sum rows into groups: index_add"""

    inputs = {"x": normal(5, 2), "group": integers(0, 3, 5)}
    note = "`jax.ops.segment_sum(x, group, num_segments=3)` does the same."
    also = ("Tensor.index_add",)

    def torch(x, group):
        return torch.zeros(3, 2).index_add_(0, group, x)

    def jax(x, group):
        return jnp.zeros((3, 2)).at[group].add(x)

    def claims():
        x, group = jnp.arange(6.0).reshape(3, 2), jnp.array([0, 2, 0])
        assert (jax.ops.segment_sum(x, group, num_segments=3) == jnp.zeros((3, 2)).at[group].add(x)).all()


class IndexFill(Pair):
    """index_fill, index_copy, index_put"""

    inputs = {"x": normal(3, 4), "y": normal(3, 2)}
    also = ("Tensor.index_fill_", "Tensor.index_copy_", "Tensor.index_put", "torch.index_put_")

    def torch(x, y):
        index, rows = torch.tensor([0, 2]), torch.tensor([1, 1])
        added = x.clone().index_put_((rows, index), torch.ones(2), accumulate=True)
        return x.index_fill(1, index, 7), x.index_copy(1, index, y), added

    def jax(x, y):
        index, rows = jnp.array([0, 2]), jnp.array([1, 1])
        added = x.at[rows, index].add(1)
        return x.at[:, index].set(7), x.at[:, index].set(y), added


class ScatterAdd(Pair):
    """Add at given places, or take the maximum: scatter_add"""

    inputs = {"x": normal(3, 4), "index": integers(0, 3, 5, 4), "y": normal(5, 4)}
    also = ("Tensor.scatter_add", "Tensor.scatter_reduce_")

    def torch(x, index, y):
        added = x.clone().scatter_add_(0, index, y)
        return added, x.scatter_reduce(0, index, y, "amax")

    def jax(x, index, y):
        place = index, jnp.arange(4)
        return x.at[place].add(y), x.at[place].max(y)


class GroupMean(Pair):
    """Mean of each group"""

    inputs = {"x": normal(6), "group": np.array([0, 2, 2, 0, 2, 2])}
    note = "The `maximum` is for a group without members, here the second."

    def torch(x, group):
        return torch.zeros(3).scatter_reduce(0, group, x, "mean", include_self=False)

    def jax(x, group):
        return jax.ops.segment_sum(x, group, 3) / jnp.maximum(jnp.bincount(group, length=3), 1)


class EmptyGroup(Pair):
    """Maximum of a group without members"""

    inputs = {"x": normal(4), "group": np.array([0, 2, 2, 0])}
    trap = "`scatter_reduce` leaves what stood there before, here 0; `segment_max` gives minus infinity."

    def torch(x, group):
        return torch.zeros(3).scatter_reduce(0, group, x, "amax", include_self=False)

    def jax(x, group):
        return jax.ops.segment_max(x, group, num_segments=3)

    def fix(x, group):
        largest = jax.ops.segment_max(x, group, num_segments=3)
        return jnp.where(jnp.bincount(group, length=3) > 0, largest, 0)

    def differ(theirs, ours):
        return theirs[1] == 0 and ours[1] == -np.inf


class Gather(Pair):
    """Pick one element per row: gather"""

    inputs = {"x": normal(4, 5), "index": integers(0, 5, 4, 1)}
    note = "In PyTorch `index` may have fewer rows than `x`, and takes the first of them; JAX raises."
    also = ("torch.take_along_dim", "Tensor.take_along_dim")

    def torch(x, index):
        return x.gather(1, index)

    def jax(x, index):
        return jnp.take_along_axis(x, index, axis=1)

    def claims():
        few = np.zeros((2, 3), int)
        assert torch.arange(8).reshape(4, 2).gather(1, torch.tensor(few)).tolist() == [[0] * 3, [2] * 3]
        assert raises(ValueError, lambda: jnp.take_along_axis(jnp.ones((4, 2)), few, axis=1))


class Scatter(Pair):
    """Write one element per row: scatter"""

    inputs = {"x": normal(4, 5), "index": integers(0, 5, 4, 1), "value": normal(4, 1)}
    also = ("Tensor.scatter", "torch.scatter")

    def torch(x, index, value):
        return x.scatter_(1, index, value)

    def jax(x, index, value):
        return jnp.put_along_axis(x, index, value, axis=1, inplace=False)


class MaskedFill(Pair):
    """Fill where a mask holds: masked_fill"""

    inputs = {"x": normal(3, 4), "mask": booleans(3, 4)}
    note = (
        "`x.at[mask].set(value)` does the same op by op. Under `jit` it raises `NonConcreteBooleanIndexError`: it "
        "would have to know how many entries the mask has."
    )
    also = ("Tensor.masked_fill_",)

    def torch(x, mask):
        return x.masked_fill(mask, -1e9)

    def jax(x, mask):
        return jnp.where(mask, -1e9, x)

    def claims():
        x, fill = jnp.arange(4.0), lambda x, mask: x.at[mask].set(-1e9)
        assert (fill(x, x > 1) == jnp.where(x > 1, -1e9, x)).all()
        assert raises(jax.errors.NonConcreteBooleanIndexError, jax.jit(fill), x, x > 1)


class MaskedScatter(Pair):
    """Write values where a mask holds: masked_scatter"""

    inputs = {"x": normal(3, 4), "mask": booleans(3, 4), "values": normal(12)}
    note = "`x.at[mask].set(values[: mask.sum()])` does it too, but not under `jit`."
    also = ("Tensor.masked_scatter_",)

    def torch(x, mask, values):
        return x.masked_scatter(mask, values)

    def jax(x, mask, values):
        place = jnp.cumsum(mask).reshape(mask.shape) - 1
        return jnp.where(mask, values[place], x)

    def claims():
        x, mask, values = jnp.zeros(4), jnp.array([True, False, True, False]), jnp.arange(1.0, 5)
        write = lambda x, mask, values: x.at[mask].set(values[: mask.sum()])  # noqa: E731
        assert write(x, mask, values).tolist() == [1, 0, 2, 0]
        assert raises(IndexError, jax.jit(write), x, mask, values)


class MeanOfMask(Pair):
    """Mean, sum or maximum where a mask holds"""

    inputs = {"x": normal(8), "mask": np.array([True, False] * 4)}
    note = "Of static shape, so it works under `jit`."

    def torch(x, mask):
        return x[mask].mean(), x[mask].sum(), x[mask].max()

    def jax(x, mask):
        return x.mean(where=mask), x.sum(where=mask), x.max(where=mask, initial=-jnp.inf)

    def claims():
        mean = jax.jit(lambda x, mask: x.mean(where=mask))
        assert mean(jnp.arange(4.0), jnp.array([True, False, False, True])) == 1.5


class Clamp(Pair):
    """Limit values to a range, in place: clamp, clip"""

    inputs = {"x": normal(3, 4)}
    note = "At a bound itself the gradients differ: see the clamp among the gradients."
    also = ("Tensor.clamp", "torch.clamp", "torch.clip", "Tensor.clip", "Tensor.clip_")

    def torch(x):
        x.clamp_(-1, 1)
        return x

    def jax(x):
        x = x.clip(-1, 1)
        return x

    def claims():
        at_bound = torch.func.grad(lambda x: x.clamp(0, 1))(torch.ones(())), jax.grad(lambda x: x.clip(0, 1))(1.0)
        assert [*map(float, at_bound)] == [1, 0.5]


class Mask(Pair):
    """Keep what a mask selects: masked_select"""

    no_gradient = "the length of the result depends on values"
    inputs = {"x": normal(6)}
    trap = "The shape of the result depends on values. Outside `jit` it works; inside, JAX raises."
    note = "Often the selection is not needed: for its sum, `jnp.where(x > 0, x, 0).sum()` does."
    lesson = ("00_start_here", "trap:mask")
    also = ("torch.masked_select", "Tensor.masked_select")

    def torch(x):
        return x[x > 0]

    def jax(x):
        return jax.jit(lambda x: x[x > 0])(x)

    def fix(x):
        filled = jax.jit(lambda x: x[jnp.nonzero(x > 0, size=x.size)])(x)  # padded with x[0]
        return filled[: (x > 0).sum()]

    def claims():
        x = jnp.arange(-1.0, 3)
        assert x[x > 0].sum() == jax.jit(lambda x: jnp.where(x > 0, x, 0).sum())(x) == 3

    def differ(theirs, ours):
        return theirs.ndim == 1 and isinstance(ours, jax.errors.NonConcreteBooleanIndexError)


class Nonzero(Pair):
    """Where the non-zero elements are"""

    inputs = {"x": integers(0, 2, 6)}
    trap = "Under `jit` the number of results must be known: give a `size`, and a value for the places left over."
    lesson = ("00_start_here", "trap:mask")
    also = ("torch.nonzero",)

    def torch(x):
        return torch.nonzero(x, as_tuple=True)[0]

    def jax(x):
        return jax.jit(lambda x: jnp.nonzero(x)[0])(x)

    def fix(x):
        found = jax.jit(lambda x: jnp.nonzero(x, size=6, fill_value=-1)[0])(x)
        return found[found >= 0]

    def differ(theirs, ours):
        return theirs.ndim == 1 and isinstance(ours, jax.errors.ConcretizationTypeError)


class NonzeroRows(Pair):
    """The coordinates of the non-zero elements, as rows"""

    inputs = {"x": integers(0, 2, 3, 4)}
    trap = "`torch.nonzero` gives a row for each element found, `jnp.nonzero` a tuple with an array for each dimension."
    note = "Under `jit` both want a `size=`, as above."

    def torch(x):
        return torch.nonzero(x)

    def jax(x):
        return jnp.nonzero(x)

    def fix(x):
        return jnp.argwhere(x)

    def differ(theirs, ours):
        x = jnp.array([[0, 1], [1, 0]])
        assert raises(jax.errors.ConcretizationTypeError, jax.jit(jnp.argwhere), x)
        assert jax.jit(lambda x: jnp.argwhere(x, size=2))(x).tolist() == [[0, 1], [1, 0]]
        return isinstance(ours, tuple) and np.array_equal(theirs, np.stack(ours, axis=1))


class TriangleIndices(Pair):
    """The elements of a triangle: tril_indices"""

    inputs = {"x": normal(3, 3)}
    note = "A tensor of two rows in PyTorch; a tuple in JAX, which is an index as it is. `triu_indices` likewise."
    also = ("torch.triu_indices",)

    def torch(x):
        row, column = torch.tril_indices(3, 3)
        return x[row, column]

    def jax(x):
        return x[jnp.tril_indices(3)]

    def claims():
        assert torch.triu_indices(3, 3, 1).tolist() == [index.tolist() for index in jnp.triu_indices(3, 1)]


class FlatPosition(Pair):
    """Read and write by flat position: take, put"""

    inputs = {"x": normal(2, 3)}

    def torch(x):
        at = torch.tensor([1, 4])
        return torch.take(x, at), x.clone().put_(at, torch.zeros(2)), torch.unravel_index(at, (2, 3))

    def jax(x):
        at = jnp.array([1, 4])
        return jnp.take(x, at), jnp.put(x, at, 0, inplace=False), jnp.unravel_index(at, (2, 3))


class SlidingWindows(Pair):
    """Sliding windows over a sequence: unfold"""

    inputs = {"x": normal(7)}
    also = ("Tensor.unfold",)

    def torch(x):
        return x.unfold(0, 3, 2)

    def jax(x):
        starts = jnp.arange(0, len(x) - 2, 2)
        return x[starts[:, None] + jnp.arange(3)]


class DynamicSlice(Pair):
    """A slice that starts at a computed place"""

    inputs = {"x": positive(6)}
    note = "Outside `jit`, `x[i : i + 2]` works as well. The start is moved back where the slice would pass the end."

    def torch(x):
        i = x[:4].argmax()
        return x[i : i + 2]

    def jax(x):
        i = x[:4].argmax()
        return jax.lax.dynamic_slice_in_dim(x, i, 2)

    def claims():
        x, i = jnp.arange(6), jnp.array(5)
        assert jax.lax.dynamic_slice_in_dim(x, i, 2).tolist() == [4, 5]
        assert x[i - 2 : i].tolist() == [3, 4]
        assert raises(IndexError, jax.jit(lambda x, i: x[i : i + 2]), x, i)
