# %% [markdown]
# # 15 · Exercises: Ship it
#
# **Does what you ship still work where you are not?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../15_ship_it.ipynb). Fill in the cells that say `your turn` and run the check below
# each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and `checks.progress()`
# what is done. The minutes count reading and typing; thinking comes on top.

# %%
import json

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from course import checks

# %% [markdown]
# ## Exercise 1: What a client should not have to know (2 minutes)
#
# In PyTorch the scaling of the inputs often lies in another file than the model, and is forgotten there.
#
# **Given** `params`, a dict with `w` (d, k) and `b` (k,), and the training set's `mean` and `scale`, each (d,): NumPy
# arrays of float32.
#
# **Asked** for the bytes of a program that takes raw rows (n, d) float32, for any n, subtracts `mean`, divides by
# `scale`, and returns the softmax of `x @ w + b`, (n, k). It is to run on "cpu", "cuda" and "tpu".
#
# **Checked** by reading the bytes, and against PyTorch for several n.


# %% tags=["stub"]
def ship(params, mean, scale):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def ship(params, mean, scale):
    def predict(x):
        return jax.nn.softmax((x - mean) / scale @ params["w"] + params["b"])

    (n,) = export.symbolic_shape("n")
    rows = jax.ShapeDtypeStruct((n, len(mean)), jnp.float32)
    return export.export(jax.jit(predict), platforms=("cpu", "cuda", "tpu"))(rows).serialize()


# %%
checks.shipped_pipeline(ship)

# %% [markdown]
# ## Exercise 2: Which of them can be exported? (5 minutes)
#
# **Given** six functions of x, (b, 3) float32, whose first dimension is to stay symbolic.
#
# **Asked** for `"exports"` or `"refused"` for each, without running it.
#
# **Checked** by exporting them.

# %%
def averaged(x):
    return x.sum(axis=0) / x.shape[0]


def counted(x):
    return x.sum(axis=0) / len(x)


def doubled(x):
    return 2 * x if x.shape[0] >= 1 else x


def halved(x):
    return x[: x.shape[0] // 2]


def looped(x):
    return jnp.stack([row.sum() for row in x])


def padded(x):
    return jnp.pad(x, ((0, 8 - x.shape[0]), (0, 0)))


# %% tags=["stub"]
verdicts = {"averaged": ..., "counted": ..., "doubled": ..., "halved": ..., "looped": ..., "padded": ...}

# %% tags=["solution"]
verdicts = {
    "averaged": "exports",  # arithmetic with a symbolic dimension is allowed
    "counted": "refused",  # len() must return an int
    "doubled": "exports",  # every b is at least 1
    "halved": "exports",  # b // 2 is a dimension as well
    "looped": "refused",  # Python would have to know how often
    "padded": "refused",  # 8 - b might be negative
}

# %%
checks.symbolic_batches(verdicts)

# %% [markdown]
# ## Exercise 3: More rows than the largest size (3 minutes)
#
# **Given** `compiled`, a dict from a batch size to a program that takes exactly so many rows (size, d) and returns
# (size,), in no particular order; and rows `x`, (n, d) float32, n >= 1, perhaps more than the largest size.
#
# **Asked** for the predictions (n,), in order. Full batches of the largest size first; what is left goes to the
# smallest program that holds it, filled with zeros.
#
# **Checked** with programs that note which of them was called, and with what.


# %% tags=["stub"]
def predict_all(compiled, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def predict_all(compiled, x):
    largest, found = max(compiled), []
    for start in range(0, len(x), largest):
        part = x[start : start + largest]
        size = min(size for size in compiled if size >= len(part))
        rows = np.zeros((size, x.shape[1]), x.dtype)
        rows[: len(part)] = part
        found.append(np.asarray(compiled[size](rows))[: len(part)])
    return np.concatenate(found)


# %%
checks.padded_chunks(predict_all)

# %% [markdown]
# ## Exercise 4: What a client sends (5 minutes)
#
# **Given** the `body` of a request, bytes, and a number of `columns`.
#
# **Asked** for the rows in it, (n, columns) float32, where it is JSON of the form `[[1, 2.5], [0, -3]]`, n >= 1. For
# anything else raise a ValueError: what is no JSON or no list of rows, rows of another length, text, `true`, `null`,
# `NaN`, and numbers that float32 does not hold.
#
# **Checked** with bodies that fit, and with twenty that don't.


# %% tags=["stub"]
def read_rows(body, columns):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def read_rows(body, columns):
    try:
        rows = json.loads(body)
    except RecursionError:  # lists in lists without an end; a JSONDecodeError is a ValueError already
        raise ValueError("expected rows, got lists in lists") from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"expected a list of rows, got {type(rows).__name__}")
    for row in rows:
        if not isinstance(row, list) or len(row) != columns or any(type(value) not in (int, float) for value in row):
            raise ValueError(f"expected rows of {columns} numbers, got another")
    try:
        with np.errstate(over="ignore"):
            x = np.array(rows, np.float64).astype(np.float32)
    except OverflowError:
        raise ValueError("expected numbers that float32 holds, got a larger integer") from None
    if not np.isfinite(x).all():
        raise ValueError("expected finite numbers, got NaN or infinity")
    return x


# %%
checks.strict_rows(read_rows)

# %% [markdown]
# Back to the [lesson](../15_ship_it.ipynb), or on to the next one:
# [16 · The derivative cliff](../16_derivative_cliff.ipynb). [Solutions](../solutions/15_ship_it.ipynb).
