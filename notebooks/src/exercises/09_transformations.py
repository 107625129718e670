# %% [markdown]
# # 09 · Exercises: Transformations
#
# **Can you ask a function for the derivative that you need?** (10 minutes)

# %% [markdown]
# Three exercises to the [lesson](../09_transformations.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks

# %% [markdown]
# ## Exercise 1: Clip every example (3 minutes)
#
# In PyTorch you would run one backward pass per example, or reach for `torch.func`:
#
# ```python
# for x_i, y_i in zip(x, y):
#     grads = torch.autograd.grad(loss(params, x_i, y_i), params)
#     norm = sum((g ** 2).sum() for g in grads).sqrt()
#     total = [t + g * min(1, limit / norm) for t, g in zip(total, grads)]
# ```
#
# **Given** `loss(params, x, y)`, a function of one example that returns a number, `params`, a dict of arrays,
# examples `x` of shape `(n, d)` and `y` of shape `(n,)`, and a `limit`.
#
# **Asked** for the mean over the examples of their gradients, each scaled down to norm `limit` where it is longer; a
# dict like `params`. No Python loop.
#
# **Checked** with random weights, sizes and limits, against torch's loop.


# %% tags=["stub"]
def clipped_gradient(loss, params, x, y, limit):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def clipped_gradient(loss, params, x, y, limit):
    def of_one(x, y):
        grads = jax.grad(loss)(params, x, y)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        return jax.tree.map(lambda g: g * jnp.minimum(1, limit / norm), grads)

    return jax.tree.map(lambda g: g.mean(0), jax.vmap(of_one)(x, y))


# %%
checks.clipped_gradient(clipped_gradient)

# %% [markdown]
# ## Exercise 2: Slope and curvature along a line (2 minutes)
#
# **Given** a function `f` of a point `x` of shape `(d,)` with a number as its value, and a direction `v` of shape
# `(d,)`.
#
# **Asked** for the triple `(f(x), slope, curvature)`: the value, and the first and second derivative of `f(x + t * v)`
# by `t` at 0, which is `v @ H @ v` with the Hessian `H` of `f` at `x`; in the memory of a few vectors.
#
# **Checked** against `jax.grad(f)(x)` and `jax.hessian(f)(x)` in small dimensions; in 30,000, where that matrix would
# take 3.6 GB, by looking for an array of its shape in your function's jaxpr.


# %% tags=["stub"]
def along_line(f, x, v):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def along_line(f, x, v):
    def value_and_slope(x):
        return jax.jvp(f, (x,), (v,))

    (value, slope), (_, curvature) = jax.jvp(value_and_slope, (x,), (v,))
    return value, slope, curvature


# %%
checks.hessian_vector(along_line)

# %% [markdown]
# ## Exercise 3: A target that holds still (3 minutes)
#
# ```python
# value = torch.tanh(state @ w)
# with torch.no_grad():
#     target = reward + gamma * torch.tanh(following @ w)
# loss = ((value - target) ** 2).mean()
# loss.backward()
# ```
#
# **Given** this step of temporal-difference learning in PyTorch: `w` of shape `(d,)`, `state` and `following` of shape
# `(n, d)`, `reward` of shape `(n,)`, a number `gamma`.
#
# **Asked** for what `w.grad` holds afterwards.
#
# **Checked** against torch, for random sizes and discounts.


# %% tags=["stub"]
def td_gradient(w, state, reward, following, gamma):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def td_gradient(w, state, reward, following, gamma):
    def loss(w):
        target = reward + gamma * jnp.tanh(following @ w)
        return jnp.mean((jnp.tanh(state @ w) - jax.lax.stop_gradient(target)) ** 2)

    return jax.grad(loss)(w)


# %%
checks.td_gradient(td_gradient)

# %% [markdown]
# Back to the [lesson](../09_transformations.ipynb), or on to the [puzzles](puzzles.ipynb) and the next lesson:
# [09b · Custom rules, memory, and NNX's transforms](../09b_custom_rules.ipynb).
# [Solutions](../solutions/09_transformations.ipynb).
