# %% [markdown]
# # 08b · Exercises: What compiling costs
#
# **Can you say how often a line compiles, and write it so that it compiles once?** (15 minutes)

# %% [markdown]
# Three exercises to the [lesson](../08b_compiling.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from course import checks

# %% [markdown]
# ## Exercise 1: How many programs? (4 minutes)
#
# **Given** these groups of calls. Each begins with an empty cache, and `ones` is `jnp.ones((8, 3))`, float32.
#
# ```python
# def total(batch, scale, mode="sum"):
#     batch = batch[0] if isinstance(batch, (tuple, list)) else batch
#     return scale * (batch.sum() if mode == "sum" else batch.mean())
#
# jitted, one = jax.jit(total, static_argnames="mode"), jnp.float32(1)
#
# for rows in (8, 8, 5, 8, 5):                                                 # sizes
#     jitted(jnp.ones((rows, 3)), one)
# for scale in (1.0, 2.0, 3, jnp.float32(4), np.float32(5)):                   # scales
#     jitted(ones, scale)
# for mode in ("sum", "mean", "sum", "mean"):                                  # modes
#     jitted(ones, one, mode=mode)
# for batch in ((ones, ones), [ones, ones], (ones,), (ones, 2 * ones)):        # containers
#     jitted(batch, one)
# for _ in range(4):                                                           # partials
#     jax.jit(partial(total, mode="mean"))(ones, one)
# ```
#
# **Asked** for the number of programs that each group compiles.
#
# **Checked** by running the groups and counting traces.

# %% tags=["stub"]
programs = {"sizes": ..., "scales": ..., "modes": ..., "containers": ..., "partials": ...}

# %% tags=["solution"]
programs = {"sizes": 2, "scales": 3, "modes": 2, "containers": 3, "partials": 4}

# %%
checks.program_count(programs)


# %% [markdown]
# ## Exercise 2: A filter, sample by sample (5 minutes)
#
# A recursive filter: each output depends on the last two states, so there is nothing to vectorise. PyTorch's loop
# under `torch.compile` is unrolled as JAX's would be.


# %%
def torch_biquad(state, x, b, a):
    (z1, z2), outs = state, []
    for value in x:
        out = b[0] * value + z1
        z1, z2 = b[1] * value - a[0] * out + z2, b[2] * value - a[1] * out
        outs.append(out)
    return torch.stack([z1, z2]), torch.stack(outs)


impulse = torch.tensor([100, 0, 0, 0], dtype=torch.int16)
torch_biquad(torch.zeros(2), impulse, torch.tensor([0.5, 0.2, 0.1]), torch.tensor([-0.4, 0.1]))[1]

# %% [markdown]
# **Given** `state` of shape `(2,)`, samples `x` of shape `(n,)`, float32 or int16 as they come from a sound card, and
# coefficients `b` (three) and `a` (two) in float32.
#
# **Asked** for the same two results: the state after the last sample, an array `(2,)`, and the filtered samples in
# float32. The program must not grow with `n`.
#
# **Checked** against PyTorch's loop, in two chunks, the second of which goes on with the state of the first; and by
# counting the operations of the jaxpr for two lengths.


# %% tags=["stub"]
def biquad(state, x, b, a):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def biquad(state, x, b, a):
    def turn(state, value):
        z1, z2 = state
        out = b[0] * value + z1
        return jnp.stack([b[1] * value - a[0] * out + z2, b[2] * value - a[1] * out]), out

    return lax.scan(turn, state, x)


# %%
checks.biquad_scan(biquad)

# %% [markdown]
# ## Exercise 3: Ragged batches (5 minutes)
#
# ```python
# total, count = 0.0, 0
# for x, y in batches:                    # 7 rows, 12 rows, 3 rows, ...
#     losses = row_losses(w, x, y)        # (n,)
#     total, count = total + losses.sum(), count + len(x)
# return total / count
# ```
#
# **Given** `row_losses(w, x, y)`, not yet jitted, which returns one loss per row; `w`, which is handed on as it is;
# a list `batches` of pairs of NumPy arrays, `x` of shape `(n, d)` and `y` of shape `(n,)`, each with an `n` of its own;
# and `buckets`, sizes in rising order, the last of which holds every batch.
#
# **Asked** for the mean loss over all rows, with `row_losses` compiled once for each bucket and for no other size.
#
# **Checked** against PyTorch without padding. The check's `row_losses` notes each trace. Its loss of a row of zeros is
# infinite.


# %% tags=["stub"]
def mean_loss(row_losses, w, batches, buckets):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def mean_loss(row_losses, w, batches, buckets):
    @jax.jit
    def summed(w, x, y, mask):
        return row_losses(w, x, y).sum(where=mask)

    total, count = 0.0, 0
    for x, y in batches:
        rows = len(x)
        size = min(bucket for bucket in buckets if bucket >= rows)
        x, y = np.pad(x, [(0, size - rows), (0, 0)]), np.pad(y, (0, size - rows))
        total, count = total + summed(w, x, y, np.arange(size) < rows), count + rows
    return total / count


# %%
checks.bucketed_loss(mean_loss)

# %% [markdown]
# Back to the [lesson](../08b_compiling.ipynb), or on to the next one:
# [08c · Looking inside](../08c_debugging.ipynb). [Solutions](../solutions/08b_compiling.ipynb).
