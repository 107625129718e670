"""Reductions and sorting

`dim` is `axis` and `keepdim` is `keepdims`. Where PyTorch returns values and indices together, JAX mostly has two
functions. The conventions are NumPy's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from rosetta.kinds import Pair, integers, normal, positive, raises
from tools.environment import double_precision


class Sum(Pair):
    """Sum along a dimension"""

    also = (
        "torch.sum",
        "Tensor.sum",
    )
    inputs = {"x": normal(3, 4)}

    def torch(x):
        return x.sum(dim=1), x.mean(dim=0, keepdim=True)

    def jax(x):
        return x.sum(axis=1), x.mean(axis=0, keepdims=True)


class SumOverNone(Pair):
    """Sum over no dimension"""

    inputs = {"x": normal(2, 3)}
    trap = "An empty list of dimensions means all of them in PyTorch, and none in JAX, as in NumPy."

    def torch(x):
        return x.sum(dim=[])

    def jax(x):
        return x.sum(axis=())

    def fix(x):
        return x.sum()

    def differ(theirs, ours):
        return theirs.shape == () and ours.shape == (2, 3)


class SumOfSeveral(Pair):
    """Sum over several dimensions"""

    inputs = {"x": positive(2, 3, 4)}
    also = ("torch.mean",)

    def torch(x):
        return x.sum(dim=(0, 2)), x.mean(dim=(-2, -1), keepdim=True), torch.amax(x, dim=(1, 2)), x.prod(dim=1)

    def jax(x):
        return x.sum(axis=(0, 2)), x.mean(axis=(-2, -1), keepdims=True), jnp.max(x, axis=(1, 2)), x.prod(axis=1)


class PassOverNaN(Pair):
    """Pass over NaN: nanmean, nansum, nanmedian"""

    inputs = {"x": np.array([[1.0, np.nan, 3.0], [np.nan, 5.0, 7.0]], np.float32)}
    no_gradient = "a NaN goes in"
    note = "Of an even number of values `jnp.nanmedian` takes the mean of the two in the middle, PyTorch the lower."
    also = ("Tensor.nanquantile",)

    def torch(x):
        return torch.nanmean(x, dim=1), torch.nansum(x), torch.nanquantile(x, 0.5, dim=1), torch.nanmedian(x)

    def jax(x):
        median = jnp.nanquantile(x, 0.5, method="lower")
        return jnp.nanmean(x, axis=1), jnp.nansum(x), jnp.nanquantile(x, 0.5, axis=1), median

    def claims():
        x = np.array([1.0, np.nan, 3.0, 5.0, 7.0], np.float32)
        assert torch.nanmedian(torch.tensor(x)) == 3 and jnp.nanmedian(x) == 4


class SumOfIntegers(Pair):
    """Sum of int32"""

    trap = "PyTorch sums integers in int64. JAX keeps int32, and the sum wraps without a word."
    note = "float32 keeps the size and not every digit; with `jax_enable_x64`, `dtype=jnp.int64` keeps both."
    lesson = ("00_start_here", "trap:integer-dtype")

    def torch():
        return torch.full((4,), 2**30, dtype=torch.int32).sum()

    def jax():
        return jnp.full((4,), 2**30, dtype=jnp.int32).sum()

    def fix():
        return jnp.full((4,), 2**30, dtype=jnp.int32).sum(dtype=jnp.float32)

    def claims():
        x = np.array([2**30, 2**30, 2**30, 2**30 + 1], np.int32)
        assert float(jnp.sum(x, dtype=jnp.float32)) == 2.0**32 != torch.tensor(x).sum().item()
        with double_precision():
            assert jnp.sum(x, dtype=jnp.int64) == 2**32 + 1

    def differ(theirs, ours):
        return theirs == 2**32 and ours == 0


class MeanOfIntegers(Pair):
    """Mean of integers"""

    inputs = {"x": integers(0, 9, 4)}
    trap = "PyTorch raises and wants a floating dtype first. JAX returns a float32."

    def torch(x):
        return x.mean()

    def jax(x):
        return x.mean()

    def fix(x):
        return x.astype(jnp.float32).mean()

    def differ(theirs, ours, fixed):
        return ours == fixed and isinstance(theirs, RuntimeError) and ours.dtype == jnp.float32


class StandardDeviation(Pair):
    """Standard deviation and variance"""

    inputs = {"x": normal(5, 4)}
    trap = "PyTorch divides by N - 1, JAX by N, as NumPy does."
    lesson = ("00_start_here", "trap:same-word")
    also = ("torch.std", "torch.var")

    def torch(x):
        return x.std(dim=0), x.var()

    def jax(x):
        return x.std(axis=0), x.var()

    def fix(x):
        return x.std(axis=0, ddof=1), x.var(ddof=1)

    def differ(theirs, ours):
        std, var = np.allclose(ours[0], theirs[0] * (4 / 5) ** 0.5), np.allclose(ours[1], theirs[1] * (19 / 20))
        return std and var


class MeanAndStd(Pair):
    """std_mean, var_mean, covariance and correlation"""

    inputs = {"x": normal(5, 4)}
    also = ("torch.var_mean",)

    def torch(x):
        std, mean = torch.std_mean(x, dim=0)
        return std, mean, x.var(correction=0), torch.cov(x), torch.corrcoef(x)

    def jax(x):
        std, mean = x.std(axis=0, ddof=1), x.mean(axis=0)
        return std, mean, x.var(), jnp.cov(x), jnp.corrcoef(x)


class StdOfConstant(Pair):
    """Gradient of a standard deviation of equal values"""

    inputs = {"x": np.ones(4, np.float32)}
    no_gradient = "its result is a gradient"
    trap = "0 in PyTorch, NaN in JAX: the square root's infinite slope times 0. Put a small number under the root."

    def torch(x):
        return torch.func.grad(lambda x: x.std())(x)

    def jax(x):
        return jax.grad(lambda x: x.std(ddof=1))(x)

    def fix(x):
        return jax.grad(lambda x: jnp.sqrt(x.var(ddof=1) + 1e-12))(x)

    def differ(theirs, ours):
        return theirs.tolist() == [0] * 4 and np.isnan(ours).all()


class MaxAlong(Pair):
    """Maximum along a dimension"""

    inputs = {"x": normal(3, 4)}
    trap = "PyTorch returns values and indices, JAX the values alone."
    also = ("Tensor.min", "torch.min")

    def torch(x):
        values, indices = x.max(dim=1)
        return values, indices

    def jax(x):
        return x.max(axis=1)

    def fix(x):
        return x.max(axis=1), x.argmax(axis=1)

    def differ(theirs, ours):
        return len(theirs) == 2 and isinstance(ours, jax.Array) and ours.tolist() == theirs[0].tolist()


class ArgMax(Pair):
    """argmax, argmin: ties and NaN"""

    inputs = {"x": integers(0, 3, 4, 6), "y": np.array([1.0, np.nan, 3.0, np.nan], np.float32)}
    note = "Of ties both name the first, of NaN the first NaN. Without a dimension the index counts all elements."

    def torch(x, y):
        return x.argmax(dim=1), torch.argmin(x, dim=0), x.argmax(), y.argmax(), y.argmin()

    def jax(x, y):
        return x.argmax(axis=1), jnp.argmin(x, axis=0), x.argmax(), y.argmax(), y.argmin()


class MaxOfTies(Pair):
    """Gradient of a maximum with ties"""

    inputs = {"x": np.array([1.0, 3.0, 3.0], np.float32)}
    no_gradient = "its result is a gradient"
    trap = "`max(dim)` sends all to the first of the largest, `jnp.max` shares it among them (as `torch.amax` does)."

    def torch(x):
        return torch.func.grad(lambda x: x.max(dim=0).values)(x)

    def jax(x):
        return jax.grad(lambda x: x.max(axis=0))(x)

    def fix(x):
        return jax.grad(lambda x: x[x.argmax(axis=0)])(x)

    def differ(theirs, ours):
        amax = torch.func.grad(lambda x: x.amax(0))(torch.tensor([1.0, 3, 3]))
        return theirs.tolist() == [0, 1, 0] and ours.tolist() == amax.tolist() == [0, 0.5, 0.5]


class SmallestAndLargest(Pair):
    """Smallest and largest together"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        smallest, largest = torch.aminmax(x, dim=1)
        return smallest, largest, x.amin(), torch.amax(x)

    def jax(x):
        smallest, largest = x.min(axis=1), x.max(axis=1)
        return smallest, largest, x.min(), x.max()


class LargerOfTwo(Pair):
    """Larger of two tensors"""

    inputs = {"x": normal(3), "y": normal(3)}
    note = "In `jnp.max(x, y)` the `y` would be the axis."
    also = ("torch.maximum",)

    def torch(x, y):
        return torch.max(x, y)

    def jax(x, y):
        return jnp.maximum(x, y)

    def claims():
        assert raises(TypeError, jnp.max, jnp.ones(2), jnp.ones(2))


class Median(Pair):
    """Median of an even number of values"""

    inputs = {"x": normal(6)}
    trap = "PyTorch returns the lower of the two in the middle, JAX their mean."
    lesson = ("00_start_here", "trap:same-word")

    def torch(x):
        return x.median()

    def jax(x):
        return jnp.median(x)

    def fix(x):
        return jnp.quantile(x, 0.5, method="lower")

    def differ(theirs, ours, fixed):
        return ours > fixed and theirs.item() == fixed.item()


class Quantile(Pair):
    """Quantiles, the k-th smallest"""

    inputs = {"x": normal(4, 7)}

    def torch(x):
        middle, index = torch.kthvalue(x, 3, dim=1)
        return torch.quantile(x, 0.3, dim=1), middle, index, x.median(dim=1).values

    def jax(x):
        index = jnp.argsort(x, axis=1)[:, 2]
        middle = jnp.sort(x, axis=1)[:, 2]
        return jnp.quantile(x, 0.3, axis=1), middle, index, jnp.median(x, axis=1)


class Mode(Pair):
    """Most frequent value"""

    inputs = {"x": integers(0, 4, 3, 9)}
    note = "Of ties both take the smallest. PyTorch returns an index with it, JAX the count."

    def torch(x):
        values, index = torch.mode(x, dim=1)
        return values

    def jax(x):
        values, count = jax.scipy.stats.mode(x, axis=1)
        return values

    def claims():
        x = np.array([2, 1, 2, 1, 3])
        assert torch.mode(torch.tensor(x)).values.item() == jax.scipy.stats.mode(x).mode.item() == 1


class LogSumExp(Pair):
    """Log of a sum of exponentials"""

    inputs = {"x": normal(3, 4)}
    also = ("special.logsumexp",)

    def torch(x):
        return torch.logsumexp(x, dim=1)

    def jax(x):
        return jax.nn.logsumexp(x, axis=1)


class AnyAll(Pair):
    """Any, all, how many"""

    inputs = {"x": np.array([[1, 2, 3], [0, 0, 4], [0, 0, 0]])}

    def torch(x):
        return torch.any(x > 3), x.all(dim=1), x.any(dim=1), torch.count_nonzero(x), torch.count_nonzero(x, dim=0)

    def jax(x):
        return jnp.any(x > 3), x.all(axis=1), x.any(axis=1), jnp.count_nonzero(x), jnp.count_nonzero(x, axis=0)


class Cumulative(Pair):
    """Cumulative sums and products"""

    inputs = {"x": positive(2, 3)}
    note = "PyTorch wants the dimension; without one JAX flattens the array, as NumPy does."
    also = ("Tensor.cumsum_", "Tensor.cumprod_")

    def torch(x):
        return x.cumsum(dim=0), x.cumprod(dim=1)

    def jax(x):
        return x.cumsum(axis=0), x.cumprod(axis=1)

    def claims():
        assert raises(TypeError, torch.ones(2, 3).cumsum) and jnp.ones((2, 3)).cumsum().shape == (6,)


class CumulativeBytes(Pair):
    """Cumulative sum or product of small integers"""

    inputs = {"x": integers(100, 256, 4)}
    trap = "PyTorch calculates in int64. JAX keeps uint8, and wraps without a word; `sum` and `prod` alone widen it."

    def torch(x):
        return x.to(torch.uint8).cumsum(0)

    def jax(x):
        return x.astype(jnp.uint8).cumsum()

    def fix(x):
        return x.astype(jnp.uint8).cumsum(dtype=jnp.int32)

    def differ(theirs, ours):
        product = torch.full((2,), 20, dtype=torch.uint8).cumprod(0)[1], jnp.full(2, 20, jnp.uint8).cumprod()[1]
        assert [*map(int, product)] == [400, 144] and jnp.full(2, 20, jnp.uint8).prod() == 400
        widened = jnp.full(2, 200, jnp.uint8).sum() == 400
        return widened and ours.dtype == jnp.uint8 and (theirs % 256).tolist() == ours.tolist() and theirs.max() > 255


class CumulativeMaximum(Pair):
    """Cumulative maximum, with indices"""

    inputs = {"x": np.array([1.0, 3.0, 2.0, 3.0, 3.0], np.float32)}
    trap = (
        "`lax.cummax` returns the values alone, and shares the gradient among ties. PyTorch names the last of the "
        "ties, and sends the gradient there."
    )
    note = "`torch.cummin` is `lax.cummin`, likewise."
    also = ("torch.cummin", "Tensor.cummin")

    def torch(x):
        values, indices = torch.cummax(x, dim=0)
        return values, indices

    def jax(x):
        return lax.cummax(x, axis=0)

    def fix(x):
        indices = lax.cummax(jnp.where(x == lax.cummax(x), jnp.arange(len(x)), 0))
        return x[indices], indices

    def differ(theirs, ours):
        slopes = jax.grad(lambda x: lax.cummax(x).sum())(jnp.array([1.0, 3, 2, 3, 3]))
        shared = slopes.tolist() == [1, 2.75, 0, 0.75, 0.5]
        assert torch.cummin(torch.tensor([3, 1, 2]), 0).values.tolist() == lax.cummin(jnp.array([3, 1, 2])).tolist()
        return shared and theirs[1].tolist() == [0, 1, 1, 3, 4] and np.array_equal(theirs[0], ours)


class LogCumulative(Pair):
    """Cumulative log of a sum of exponentials"""

    inputs = {"x": normal(3, 5)}

    def torch(x):
        return torch.logcumsumexp(x, dim=1)

    def jax(x):
        return lax.cumlogsumexp(x, axis=1)


class Differences(Pair):
    """Differences of neighbours, trapezoidal rule"""

    inputs = {"x": normal(6), "t": np.array([0, 1, 2, 4, 5, 8], np.float32)}
    also = ("torch.trapz",)

    def torch(x, t):
        return torch.diff(x), torch.diff(x, n=2), torch.trapezoid(x, t), torch.gradient(x)[0]

    def jax(x, t):
        return jnp.diff(x), jnp.diff(x, n=2), jnp.trapezoid(x, t), jnp.gradient(x)


class Sort(Pair):
    """Sort, with indices"""

    inputs = {"x": normal(3, 4)}
    note = "`jnp.sort` is along the last axis, as `torch.sort` is, and stable."

    def torch(x):
        values, indices = x.sort(dim=1, descending=True)
        return values, indices

    def jax(x):
        return jnp.sort(x, axis=1, descending=True), jnp.argsort(x, axis=1, descending=True)

    def claims():
        x = np.array([[2, 1, 2], [0, 3, 0]])
        assert np.array_equal(jnp.sort(x), torch.sort(torch.tensor(x)).values)
        assert jnp.argsort(x).tolist() == [[1, 0, 2], [0, 2, 1]]


class ArgSort(Pair):
    """Order of the elements, ties and NaN"""

    inputs = {"x": integers(0, 3, 8), "y": np.array([np.nan, 1.0, 3.0], np.float32)}
    no_gradient = "a NaN goes in"
    note = (
        "NaN counts as the largest on both sides. `argsort` is stable in JAX; ask for it in PyTorch. "
        "`argsort(x)[::-1]` turns the order of ties round, `descending=True` keeps it."
    )

    def torch(x, y):
        order, down = torch.argsort(x, stable=True), torch.argsort(x, descending=True, stable=True)
        return order, down, torch.sort(y).values, y.argsort(descending=True)

    def jax(x, y):
        order, down = jnp.argsort(x), jnp.argsort(x, descending=True)
        return order, down, jnp.sort(y), y.argsort(descending=True)

    def claims():
        x = jnp.array([1, 2, 1, 2])
        assert jnp.argsort(x)[::-1].tolist() == [3, 1, 2, 0] and jnp.argsort(x, descending=True).tolist() == [
            1,
            3,
            0,
            2,
        ]


class SortByColumn(Pair):
    """Sort rows by a column"""

    inputs = {"x": normal(5, 3)}

    def torch(x):
        return x[x[:, 1].argsort()]

    def jax(x):
        return x[x[:, 1].argsort()]


class TopK(Pair):
    """The k largest: topk"""

    inputs = {"x": normal(3, 6)}
    note = "`lax.top_k` works along the last axis, and names the first of ties; PyTorch may name another."

    def torch(x):
        values, indices = x.topk(2)
        return values, indices

    def jax(x):
        values, indices = jax.lax.top_k(x, 2)
        return values, indices

    def claims():
        x = np.random.default_rng(0).integers(0, 5, 1000).astype(np.float32)
        theirs, ours = torch.topk(torch.tensor(x), 20), lax.top_k(x, 20)
        assert np.array_equal(theirs.values, ours[0]) and not np.array_equal(theirs.indices, ours[1])
        assert ours[1].tolist() == np.flatnonzero(x == 4)[:20].tolist()


class TopKOther(Pair):
    """The k smallest, along another dimension"""

    inputs = {"x": normal(6, 3)}
    note = "The minus turns floats round. Of unsigned integers, which it does not, take `jnp.argsort(x, axis=0)[:2]`."

    def torch(x):
        values, indices = torch.topk(x, 2, dim=0, largest=False)
        return values, indices

    def jax(x):
        values, indices = lax.top_k(-x.T, 2)
        return -values.T, indices.T

    def claims():
        n = np.array([5, 0, 9], np.uint8)
        assert jnp.argsort(n)[:2].tolist() == torch.topk(torch.tensor(n), 2, largest=False).indices.tolist() == [1, 0]
        assert lax.top_k(-jnp.array(n), 2)[1].tolist() != [1, 0]


class Unique(Pair):
    """Unique values and their counts"""

    inputs = {"x": integers(0, 4, 9)}
    note = "Under `jit` the number of values must be given: `size=`. PyTorch keeps every NaN, JAX one."

    def torch(x):
        return torch.unique(x, return_counts=True)

    def jax(x):
        return jnp.unique(x, return_counts=True)

    def claims():
        nan = np.array([np.nan, np.nan], np.float32)
        assert len(torch.unique(torch.tensor(nan))) == 2 and len(jnp.unique(nan)) == 1
        x = jnp.array([3, 1, 3])
        assert raises(jax.errors.ConcretizationTypeError, jax.jit(jnp.unique), x)
        assert jax.jit(lambda x: jnp.unique(x, size=2))(x).tolist() == [1, 3]


class UniqueInverse(Pair):
    """Unique values and where they stood"""

    inputs = {"x": integers(0, 4, 9), "rows": integers(0, 2, 6, 2)}
    note = "Under `jit` each wants a `size=`; places left over repeat the smallest value."

    def torch(x, rows):
        values, inverse = torch.unique(x, return_inverse=True)
        return values, inverse, torch.unique(rows, dim=0)

    def jax(x, rows):
        values, inverse = jnp.unique(x, return_inverse=True)
        return values, inverse, jnp.unique(rows, axis=0)

    def claims():
        x = jnp.array([3, 1, 3])
        values, inverse = jax.jit(lambda x: jnp.unique(x, return_inverse=True, size=4))(x)
        assert values.tolist() == [1, 3, 1, 1] and inverse.tolist() == [1, 0, 1]
        assert jax.jit(lambda x: jnp.unique(x, axis=0, size=2))(x[:, None]).tolist() == [[1], [3]]


class UniqueNeighbours(Pair):
    """Runs of equal values"""

    inputs = {"x": integers(0, 2, 9)}
    note = "The number of runs depends on values; under `jit` use `jnp.nonzero(..., size=)` for `starts`."
    also = ("Tensor.unique_consecutive",)

    def torch(x):
        return torch.unique_consecutive(x, return_counts=True)

    def jax(x):
        starts = jnp.nonzero(jnp.diff(x, prepend=x[0] - 1))[0]
        return x[starts], jnp.diff(starts, append=len(x))

    def claims():
        runs = jax.jit(lambda x: jnp.nonzero(jnp.diff(x, prepend=x[0] - 1), size=3)[0])
        assert runs(jnp.array([1, 1, 2, 1])).tolist() == [0, 2, 3]


class Histogram(Pair):
    """Histogram"""

    inputs = {"x": normal(50)}
    no_gradient = "PyTorch has none"
    note = "Values outside of the range are left out. Without a range both take the smallest and the largest."

    def torch(x):
        counts, edges = torch.histogram(x, 5, range=(-1.0, 1.0))
        return torch.histc(x, 5, -1, 1), counts, edges, torch.histc(x, 3)

    def jax(x):
        counts, edges = jnp.histogram(x, 5, range=(-1.0, 1.0))
        return counts, counts, edges, jnp.histogram(x, 3)[0]


class Bincount(Pair):
    """Count integers: bincount"""

    inputs = {"x": integers(0, 4, 9), "weights": normal(9)}
    no_gradient = "PyTorch has none"
    note = (
        "Under `jit` say `length=`, which leaves out larger numbers. A negative number raises in PyTorch and counts as "
        "0 in JAX."
    )

    def torch(x, weights):
        return torch.bincount(x, minlength=5), torch.bincount(x, weights, minlength=5)

    def jax(x, weights):
        return jnp.bincount(x, minlength=5), jnp.bincount(x, weights, minlength=5)

    def claims():
        assert raises(RuntimeError, torch.bincount, torch.tensor([-1]))
        assert jnp.bincount(jnp.array([-1, 2])).tolist() == [1, 0, 1]
        assert raises(jax.errors.ConcretizationTypeError, jax.jit(jnp.bincount), jnp.array([1]))
        assert jax.jit(lambda x: jnp.bincount(x, length=2))(jnp.array([0, 1, 5])).tolist() == [1, 1]


class Search(Pair):
    """Where a value belongs: searchsorted"""

    inputs = {"edges": np.array([1.0, 2.0, 3.0], np.float32), "x": np.array([0.5, 1.0, 2.5, 3.0, 9.0], np.float32)}
    note = '`right=True` is `side="right"`. For rows of edges use `jax.vmap(jnp.searchsorted)`.'

    def torch(edges, x):
        batch = torch.searchsorted(torch.stack([edges, 2 * edges]), torch.stack([x, x]))
        return torch.searchsorted(edges, x), torch.searchsorted(edges, x, right=True), batch

    def jax(edges, x):
        batch = jax.vmap(jnp.searchsorted)(jnp.stack([edges, 2 * edges]), jnp.stack([x, x]))
        return jnp.searchsorted(edges, x), jnp.searchsorted(edges, x, side="right"), batch


class Bucketize(Pair):
    """Bins of values: bucketize and digitize"""

    inputs = {"edges": np.array([1.0, 2.0, 3.0], np.float32), "x": np.array([0.5, 1.0, 2.5, 3.0, 9.0], np.float32)}
    trap = "`right` means the opposite: a value on an edge goes to the lower bin in PyTorch, to the upper in JAX."

    def torch(edges, x):
        return torch.bucketize(x, edges)

    def jax(edges, x):
        return jnp.digitize(x, edges)

    def fix(edges, x):
        return jnp.searchsorted(edges, x)

    def differ(theirs, ours):
        edges, x = np.array([1.0, 2, 3], np.float32), np.array([0.5, 1, 2.5, 3, 9], np.float32)
        opposite = torch.bucketize(torch.tensor(x), torch.tensor(edges), right=True).tolist() == ours.tolist()
        return opposite and theirs.tolist() == [0, 0, 2, 2, 3] and ours.tolist() == [0, 1, 2, 3, 3]


class EmptyMaximum(Pair):
    """Reduce an empty tensor"""

    note = "The maximum of nothing raises on both sides, the mean is NaN, the sum 0, the product 1, `all` true."

    def torch():
        x = torch.zeros(0)
        return x.sum(), x.prod(), x.mean(), x.all()

    def jax():
        x = jnp.zeros(0)
        return x.sum(), x.prod(), x.mean(), x.all()

    def claims():
        total, product, mean, every = map(float, EmptyMaximum.jax())
        assert (total, product, every) == (0, 1, 1) and np.isnan(mean)
        assert raises(RuntimeError, torch.zeros(0).max) and raises(ValueError, jnp.zeros(0).max)
