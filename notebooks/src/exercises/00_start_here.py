# %% [markdown]
# # 00 · Exercises: Start here
#
# **Do arrays, functions, randomness and state do what you expect of them?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../00_start_here.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks

# %% [markdown]
# ## Exercise 1: Five predictions (4 minutes)
#
# ```python
# traced = []
#
# @jax.jit
# def double(batch):
#     traced.append(batch.shape)
#     batch *= 2
#     return batch.sum()
#
# data = jnp.arange(1, 11).reshape(5, 2)
# for batch in (data[:2], data[2:4], data[4:], data[:2]):
#     double(batch)
#
# key = jax.random.key(0)
# before = jax.random.normal(key)
# jax.random.split(key)
# ```
#
# **Given** this program. Do not run it yet.
#
# **Asked** for `traced`, the length of the list (an int); `first`, the value of `data[0, 0]` afterwards; `beyond`, that
# of `data[7, 1]`; `piece`, the shape of `jnp.split(data, 5)[0]` (a tuple); `equal`, whether another
# `jax.random.normal(key)` gives `before` again (a bool).
#
# **Checked** by running the program, with another key.

# %% tags=["stub"]
predictions = {"traced": ..., "first": ..., "beyond": ..., "piece": ..., "equal": ...}

# %% tags=["solution"]
predictions = {"traced": 2, "first": 1, "beyond": 10, "piece": (1, 2), "equal": True}

# %%
checks.first_week(predictions)

# %% [markdown]
# ## Exercise 2: Add rows, skip the padding (2 minutes)
#
# ```python
# real = ids != -1
# table.index_add_(0, ids[real], rows[real])
# return table
# ```
#
# **Given** this PyTorch code, with `table` of shape `(n, d)`, `ids` of shape `(b,)` and `rows` of shape `(b, d)`. An id
# is a row of the table, and may come several times; -1 marks padding, which is left out.
#
# **Asked** for the same in JAX: return the new table. It must work inside `jax.jit`.
#
# **Checked** against torch, for random tables, as it is and under `jit`.


# %% tags=["stub"]
def padded_sum(table, ids, rows):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def padded_sum(table, ids, rows):
    return table.at[jnp.where(ids == -1, len(table), ids)].add(rows)  # a write past the end is dropped


# %%
checks.padded_sum(padded_sum)

# %% [markdown]
# ## Exercise 3: One key, many images (3 minutes)
#
# This function is to flip each image left to right with probability 1/2, and to add noise of standard deviation 0.1 to
# each of its pixels. It runs, and three things are wrong with its draws.
#
# ```python
# def augmented(key, images):
#     coin = jax.random.bernoulli(key, 0.5)
#     noise = 0.1 * jax.random.normal(key, images.shape[1:])
#     return jnp.where(coin, images[:, :, ::-1], images) + noise
# ```
#
# **Given** a key, and `images` of shape `(n, height, width)`.
#
# **Asked** for the function mended: each image has its own coin, each pixel its own noise, and no two draws share a
# key.
#
# **Checked** by telling coins and noise apart in 200 images: their shares, their spread, that the key alone decides
# them; and with `jax.debug_key_reuse`.


# %% tags=["stub"]
def augmented(key, images):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def augmented(key, images):
    coin_key, noise_key = jax.random.split(key)
    coins = jax.random.bernoulli(coin_key, 0.5, (len(images), 1, 1))
    noise = 0.1 * jax.random.normal(noise_key, images.shape)
    return jnp.where(coins, images[:, :, ::-1], images) + noise


# %%
checks.augmented(augmented)

# %% [markdown]
# ## Exercise 4: An average without an object (3 minutes)
#
# ```python
# class Smoother:
#     def __init__(self, decay, size):
#         self.decay, self.total, self.weight = decay, torch.zeros(size), 0.0
#
#     def __call__(self, x):
#         self.total = self.decay * self.total + (1 - self.decay) * x
#         self.weight = self.decay * self.weight + (1 - self.decay)
#         return self.total / self.weight
# ```
#
# **Given** this running average, which starts without a bias towards zero.
#
# **Asked** for it as a pure function: `smooth(state, x, decay)` takes a dict with `total`, of shape `(size,)`, and
# `weight`, a number, and returns the pair `(state, y)`, the state in a dict of its own.
#
# **Checked** against the object, with two streams that take turns, as it is and under `jit`.


# %% tags=["stub"]
def smooth(state, x, decay):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def smooth(state, x, decay):
    total = decay * state["total"] + (1 - decay) * x
    weight = decay * state["weight"] + (1 - decay)
    return {"total": total, "weight": weight}, total / weight


# %%
checks.smooth(smooth)

# %% [markdown]
# Back to the [lesson](../00_start_here.ipynb), or on to the next one:
# [01a · Who survives? The program you know, in PyTorch](../01a_titanic_torch.ipynb).
# [Solutions](../solutions/00_start_here.ipynb).
