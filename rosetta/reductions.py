"""Reductions and sorting

`dim` is `axis` and `keepdim` is `keepdims`. Where PyTorch returns values and indices together, JAX mostly has two
functions. The conventions are NumPy's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, integers, normal, positive


class Sum(Pair):
    """Sum along a dimension"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        return x.sum(dim=1), x.mean(dim=0, keepdim=True)

    def jax(x):
        return x.sum(axis=1), x.mean(axis=0, keepdims=True)


class SumOfIntegers(Pair):
    """Sum of int32"""

    trap = "PyTorch sums integers in int64. JAX keeps int32, and the sum wraps without a word."
    note = "float32 keeps the size and not every digit; `jax_enable_x64` keeps both."
    lesson = ("00_start_here", "np.full(4, 2**30, np.int32)")

    def torch():
        return torch.full((4,), 2**30, dtype=torch.int32).sum()

    def jax():
        return jnp.full((4,), 2**30, dtype=jnp.int32).sum()

    def fix():
        return jnp.full((4,), 2**30, dtype=jnp.int32).sum(dtype=jnp.float32)

    def differ(theirs, ours):
        return theirs == 2**32 and ours == 0


class MeanOfIntegers(Pair):
    """Mean of integers"""

    inputs = {"x": integers(0, 9, 4)}
    trap = "PyTorch raises and wants a floating dtype first. JAX returns a float32."
    lesson = ("00_start_here", "x.mean()")

    def torch(x):
        return x.mean()

    def jax(x):
        return x.mean()

    def differ(theirs, ours):
        return isinstance(theirs, RuntimeError) and ours.dtype == jnp.float32


class StandardDeviation(Pair):
    """Standard deviation and variance"""

    inputs = {"x": normal(5, 4)}
    trap = "PyTorch divides by N - 1, JAX by N, as NumPy does."
    lesson = ("00_start_here", "x.std()")

    def torch(x):
        return x.std(dim=0), x.var()

    def jax(x):
        return x.std(axis=0), x.var()

    def fix(x):
        return x.std(axis=0, ddof=1), x.var(ddof=1)

    def differ(theirs, ours):
        std, var = np.allclose(ours[0], theirs[0] * (4 / 5) ** 0.5), np.allclose(ours[1], theirs[1] * (19 / 20))
        return std and var


class MaxAlong(Pair):
    """Maximum along a dimension"""

    inputs = {"x": normal(3, 4)}
    trap = "PyTorch returns values and indices, JAX the values alone."
    lesson = ("00_start_here", "x.max(axis=0)")

    def torch(x):
        values, indices = x.max(dim=1)
        return values, indices

    def jax(x):
        return x.max(axis=1)

    def fix(x):
        return x.max(axis=1), x.argmax(axis=1)

    def differ(theirs, ours):
        return len(theirs) == 2 and isinstance(ours, jax.Array) and ours.tolist() == theirs[0].tolist()


class LargerOfTwo(Pair):
    """Larger of two tensors"""

    inputs = {"x": normal(3), "y": normal(3)}
    note = "In `jnp.max(x, y)` the `y` would be the axis."

    def torch(x, y):
        return torch.max(x, y)

    def jax(x, y):
        return jnp.maximum(x, y)


class Median(Pair):
    """Median of an even number of values"""

    inputs = {"x": normal(6)}
    trap = "PyTorch returns the lower of the two in the middle, JAX their mean."
    lesson = ("00_start_here", "xp.median(x)")

    def torch(x):
        return x.median()

    def jax(x):
        return jnp.median(x)

    def fix(x):
        return jnp.quantile(x, 0.5, method="lower")

    def differ(theirs, ours, fixed):
        return ours > fixed and theirs.item() == fixed.item()


class LogSumExp(Pair):
    """Log of a sum of exponentials"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        return torch.logsumexp(x, dim=1)

    def jax(x):
        return jax.nn.logsumexp(x, axis=1)


class Cumulative(Pair):
    """Cumulative sums and products"""

    inputs = {"x": positive(5)}

    def torch(x):
        return x.cumsum(0), x.cumprod(0)

    def jax(x):
        return x.cumsum(0), x.cumprod(0)


class Sort(Pair):
    """Sort, with indices"""

    inputs = {"x": normal(3, 4)}
    note = "`jnp.sort` is along the last axis, as `torch.sort` is, and stable."

    def torch(x):
        values, indices = x.sort(dim=1, descending=True)
        return values, indices

    def jax(x):
        return jnp.sort(x, axis=1, descending=True), jnp.argsort(x, axis=1, descending=True)


class TopK(Pair):
    """The k largest"""

    inputs = {"x": normal(3, 6)}
    note = "`lax.top_k` works along the last axis."

    def torch(x):
        values, indices = x.topk(2)
        return values, indices

    def jax(x):
        values, indices = jax.lax.top_k(x, 2)
        return values, indices


class Unique(Pair):
    """Unique values and their counts"""

    inputs = {"x": integers(0, 4, 9)}
    note = "Under `jit` the number of values must be given: `size=`."

    def torch(x):
        return torch.unique(x, return_counts=True)

    def jax(x):
        return jnp.unique(x, return_counts=True)
