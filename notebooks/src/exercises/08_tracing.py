# %% [markdown]
# # 08 · Exercises: What jit sees
#
# **Can you tell what a program keeps of your Python, and write Python of which it keeps all?** (15 minutes)

# %% [markdown]
# Three exercises to the [lesson](../08_tracing.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import torch
from jax import lax

from course import checks

# %% [markdown]
# ## Exercise 1: What was frozen? (4 minutes)
#
# **Given** this program. Do not run it yet.
#
# ```python
# log, scale = [], 3.0
#
# @jax.jit
# def step(x):
#     log.append(x)
#     return scale * x.sum()
#
# a = step(jnp.ones(4))
# scale = 5.0
# b = step(jnp.ones(4))
# c = step(jnp.ones((2, 2)))
# scale = 7.0
# d = step(jnp.ones(4, jnp.int32))
# ```
#
# **Asked** for the numbers `a`, `b`, `c` and `d`, for how many `entries` the log has in the end, and for the `kind` of
# its first entry, `"array"` or `"tracer"`.
#
# **Checked** by running the program.

# %% tags=["stub"]
frozen = {"a": ..., "b": ..., "c": ..., "d": ..., "entries": ..., "kind": ...}

# %% tags=["solution"]
frozen = {"a": 12.0, "b": 12.0, "c": 20.0, "d": 28.0, "entries": 3, "kind": "tracer"}

# %%
checks.frozen_values(frozen)


# %% [markdown]
# ## Exercise 2: An object becomes a function (6 minutes)
#
# Rows arrive one at a time, and each is standardised by the mean and the spread of all that have come so far
# (Welford's method). In PyTorch the object remembers:


# %%
class Standardise:
    def __init__(self, width):
        self.count, self.mean, self.m2 = 0, torch.zeros(width), torch.zeros(width)

    def __call__(self, row):
        self.count += 1
        delta = row - self.mean
        self.mean += delta / self.count
        self.m2 += delta * (row - self.mean)
        if self.count < 2:
            return row - self.mean
        return (row - self.mean) / (self.m2 / (self.count - 1)).sqrt()


torch_standardise = Standardise(2)
for torch_row in torch.tensor([[1.0, 10.0], [2.0, 30.0], [3.0, 80.0]]):
    print(torch_standardise(torch_row))

# %% [markdown]
# **Given** `state`, a dict of arrays `count` (an int32 scalar), `mean` and `m2` (`(d,)`, all 0 in the beginning), and
# `row` of shape `(d,)`.
#
# **Asked** for the same as a pure function that can be jitted: it returns the next state and the standardised row.
#
# **Checked** under `jax.jit`, row by row against the class; the state goes in as it came out, and one trace has to do
# for all rows.


# %% tags=["stub"]
def standardise(state, row):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def standardise(state, row):
    count = state["count"] + 1
    delta = row - state["mean"]
    mean = state["mean"] + delta / count
    m2 = state["m2"] + delta * (row - mean)
    spread = jnp.where(count < 2, 1.0, jnp.sqrt(m2 / jnp.maximum(count - 1, 1)))
    return {"count": count, "mean": mean, "m2": m2}, (row - mean) / spread


# %%
checks.standardised_stream(standardise)


# %% [markdown]
# ## Exercise 3: As many turns as it takes (6 minutes)
#
# Power iteration finds the largest eigenvalue, and stops when it has settled:


# %%
def torch_power_iteration(a, tol):
    v = torch.ones(len(a)) / len(a) ** 0.5
    old, value, turns = torch.tensor(float("inf")), v @ a @ v, 0
    while abs(value - old) > tol * abs(value):
        v = a @ v
        v = v / v.norm()
        old, value, turns = value, v @ a @ v, turns + 1
    return value, turns


print(torch_power_iteration(torch.tensor([[2.0, 1.0], [1.0, 3.0]]), 1e-4))

# %% [markdown]
# **Given** a symmetric matrix `a` of shape `(n, n)` and a number `tol`, both traced.
#
# **Asked** for the same two results, `(value, turns)`, from a function that `jax.jit` accepts. It does not go on after
# the value has settled.
#
# **Checked** under `jax.jit`, for random matrices and tolerances, against PyTorch's value and its number of turns.


# %% tags=["stub"]
def power_iteration(a, tol):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def power_iteration(a, tol):
    def go_on(carry):
        _, old, value, _ = carry
        return jnp.abs(value - old) > tol * jnp.abs(value)

    def turn(carry):
        v, _, value, turns = carry
        v = a @ v
        v = v / jnp.linalg.norm(v)
        return v, value, v @ a @ v, turns + 1

    v = jnp.ones(len(a), a.dtype) / len(a) ** 0.5
    start = v, jnp.full((), jnp.inf, a.dtype), v @ a @ v, 0
    _, _, value, turns = lax.while_loop(go_on, turn, start)
    return value, turns


# %%
checks.power_iteration(power_iteration)

# %% [markdown]
# Back to the [lesson](../08_tracing.ipynb), or on to the next one:
# [08b · What compiling costs](../08b_compiling.ipynb). [Solutions](../solutions/08_tracing.ipynb).
