"""Indexing and in-place updates

Reading is as in NumPy. Writing is `x = x.at[index].set(value)`, or `add`, `multiply`, `min`, `max`: a changed copy,
which a compiled function makes in place where nobody needs the old array. An index out of range does not raise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, booleans, integers, normal, positive, raises


class Read(Pair):
    """Read elements and slices"""

    inputs = {"x": normal(4, 5)}

    def torch(x):
        return x[0, 1], x[-1], x[:, ::2], x[..., 1:], x[:, None]

    def jax(x):
        return x[0, 1], x[-1], x[:, ::2], x[..., 1:], x[:, None]


class ReadRows(Pair):
    """Rows by a list of numbers"""

    inputs = {"x": normal(4, 5)}
    trap = "JAX refuses a list as an index. Say `jnp.array`."
    lesson = ("00_start_here", "x[[0, 2]]")

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
    trap = "PyTorch raises. JAX can't raise on a value, and reads the last element instead: an off-by-one goes unseen."
    note = '`x.at[index].get(mode="fill", fill_value=jnp.nan)` makes it seen.'
    lesson = ("00_start_here", "x[10]")

    def torch(x):
        return x[torch.tensor([0, 10])], x[10], x[-1]

    def jax(x):
        return x[jnp.array([0, 10])], x[10], x[-1]

    def differ(theirs, ours):
        several, one, last = map(np.asarray, ours)
        return isinstance(theirs, IndexError) and several[1] == one == last


class TakePastEnd(Pair):
    """Take past the end"""

    inputs = {"x": normal(4)}
    trap = "`jnp.take` has a rule of its own for an index out of range: NaN, where `x[index]` reads the last element."
    lesson = ("00_start_here", "xp.take(x, xp.asarray([0, 10]))")

    def torch(x):
        return torch.take(x, torch.tensor([0, 10]))

    def jax(x):
        return jnp.take(x, jnp.array([0, 10]))

    def differ(theirs, ours):
        return isinstance(theirs, IndexError) and np.isnan(ours).tolist() == [False, True]


class WriteElement(Pair):
    """Write an element"""

    inputs = {"x": normal(4)}
    trap = "JAX arrays do not change. `.at` returns a changed copy."
    lesson = ("00_start_here", "j[0] = 9")

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


class WritePastEnd(Pair):
    """Write past the end"""

    inputs = {"x": normal(4)}
    trap = "PyTorch raises. JAX drops the write and returns the array as it was."
    lesson = ("00_start_here", "j.at[10].set(9)")

    def torch(x):
        x[10] = 9
        return x

    def jax(x):
        return x, x.at[10].set(9)

    def differ(theirs, ours):
        return isinstance(theirs, IndexError) and np.array_equal(*ours)


class WriteThroughView(Pair):
    """Change a row of a matrix"""

    inputs = {"x": normal(2, 3)}
    trap = "A slice is a view in PyTorch: `+=` on it changes the matrix. In JAX a slice is an array of its own."
    lesson = ("00_start_here", "row += 1")

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
    lesson = ("00_start_here", "t[[0, 0, 2]] += 1")

    def torch(x):
        x[[0, 0, 2]] += 1
        return x

    def jax(x):
        return x.at[jnp.array([0, 0, 2])].add(1)

    def fix(x):
        index = jnp.array([0, 0, 2])
        return x.at[index].set(x[index] + 1)

    def differ(theirs, ours):
        return np.allclose(np.asarray(ours) - theirs.numpy(), [1, 0, 0], atol=1e-6)


class IndexAdd(Pair):
    """Sum rows into groups"""

    inputs = {"x": normal(5, 2), "group": integers(0, 3, 5)}
    note = "`jax.ops.segment_sum(x, group, num_segments=3)` does the same."

    def torch(x, group):
        return torch.zeros(3, 2).index_add_(0, group, x)

    def jax(x, group):
        return jnp.zeros((3, 2)).at[group].add(x)


class Gather(Pair):
    """Pick one element per row"""

    inputs = {"x": normal(4, 5), "index": integers(0, 5, 4, 1)}

    def torch(x, index):
        return x.gather(1, index)

    def jax(x, index):
        return jnp.take_along_axis(x, index, axis=1)


class Scatter(Pair):
    """Write one element per row"""

    inputs = {"x": normal(4, 5), "index": integers(0, 5, 4, 1), "value": normal(4, 1)}

    def torch(x, index, value):
        return x.scatter_(1, index, value)

    def jax(x, index, value):
        return jnp.put_along_axis(x, index, value, axis=1, inplace=False)


class MaskedFill(Pair):
    """Fill where a mask holds"""

    inputs = {"x": normal(3, 4), "mask": booleans(3, 4)}
    note = (
        "`x.at[mask].set(value)` does the same op by op. Under `jit` it raises `NonConcreteBooleanIndexError`: it "
        "would have to know how many entries the mask has."
    )

    def torch(x, mask):
        return x.masked_fill(mask, -1e9)

    def jax(x, mask):
        return jnp.where(mask, -1e9, x)

    def claims():
        x, fill = jnp.arange(4.0), lambda x, mask: x.at[mask].set(-1e9)
        assert (fill(x, x > 1) == jnp.where(x > 1, -1e9, x)).all()
        assert raises(jax.errors.NonConcreteBooleanIndexError, jax.jit(fill), x, x > 1)


class Clamp(Pair):
    """Limit values to a range, in place"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        x.clamp_(-1, 1)
        return x

    def jax(x):
        x = x.clip(-1, 1)
        return x


class Mask(Pair):
    """Keep what a mask selects"""

    no_gradient = "the length of the result depends on values"
    inputs = {"x": normal(6)}
    trap = "The shape of the result depends on values. Outside `jit` it works; inside, JAX raises."
    note = "Often the selection is not needed: for its sum, `jnp.where(x > 0, x, 0).sum()` does."
    lesson = ("00_start_here", "jax.jit(lambda x: x[x > 0])")

    def torch(x):
        return x[x > 0]

    def jax(x):
        return jax.jit(lambda x: x[x > 0])(x)

    def fix(x):
        filled = jax.jit(lambda x: x[jnp.nonzero(x > 0, size=x.size)])(x)  # padded with x[0]
        return filled[: (x > 0).sum()]

    def differ(theirs, ours):
        return theirs.ndim == 1 and isinstance(ours, jax.errors.NonConcreteBooleanIndexError)


class Nonzero(Pair):
    """Where the non-zero elements are"""

    inputs = {"x": integers(0, 2, 6)}
    trap = "Under `jit` the number of results must be known: give a `size`, and a value for the places left over."
    lesson = ("00_start_here", "jnp.nonzero(x, size=3, fill_value=-1)")

    def torch(x):
        return torch.nonzero(x, as_tuple=True)[0]

    def jax(x):
        return jax.jit(lambda x: jnp.nonzero(x)[0])(x)

    def fix(x):
        found = jax.jit(lambda x: jnp.nonzero(x, size=6, fill_value=-1)[0])(x)
        return found[found >= 0]

    def differ(theirs, ours):
        return theirs.ndim == 1 and isinstance(ours, jax.errors.ConcretizationTypeError)


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
