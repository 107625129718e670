# %% [markdown]
# # 12 · Exercises: The tracing paper, rebuilt
#
# **Which of your functions can be one node of a graph, and what may leave the loop?** (20 minutes)

# %% [markdown]
# Three exercises to the [lesson](../12_tracing_paper.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from course import checks

# %% [markdown]
# ## Exercise 1: Pure, static, both, neither (7 minutes)
#
# **Given** six functions of a vector.

# %%
seen, random = [], np.random.default_rng(0)


def scaled(v):
    return v / jnp.maximum(jnp.abs(v).max(), 1.0)


def jittered(v):
    return v + random.normal()


def positives(v):
    return v[v > 0].sum()


def halved(v):
    while v.max() > 1:
        v = v / 2
    return v


# %%
def remembered(v):
    if v.sum() > 0:
        seen.append(float(v.sum()))
    return v.sum()


def relaxed(v):
    return jax.lax.fori_loop(0, 20, lambda i, v: 0.5 * (v + v.mean()), v)


# %% [markdown]
# **Asked** for what each is, as the paper has it: `"pure"`, `"static"` (statically composed, relative to JAX's
# primitives), `"both"` or `"neither"`.
#
# **Checked** by calling each twice and by tracing it.

# %% tags=["stub"]
kinds = {"scaled": ..., "jittered": ..., "positives": ..., "halved": ..., "remembered": ..., "relaxed": ...}

# %% tags=["solution"]
kinds = {
    "scaled": "both",
    "jittered": "static",
    "positives": "pure",
    "halved": "pure",
    "remembered": "neither",
    "relaxed": "both",
}

# %%
checks.pure_or_static(kinds)

# %% [markdown]
# ## Exercise 2: Bisection as one node (5 minutes)
#
# ```python
# def bisect(f, low, high, tolerance):
#     turns = 0
#     while high - low > tolerance:
#         middle = (low + high) / 2
#         if (f(middle) > 0) == (f(high) > 0):
#             high = middle
#         else:
#             low = middle
#         turns += 1
#     return (low + high) / 2, turns
# ```
#
# **Given** this function, pure, and not statically composed. `f` has one root between `low` and `high`, and may rise or
# fall.
#
# **Asked** for one that is both, with the same results, so that `jax.jit` and `jax.vmap` take it.
#
# **Checked** against the loop: one interval, then several in one `vmap`, each with a number of turns of its own.


# %% tags=["stub"]
def bisect(f, low, high, tolerance):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def bisect(f, low, high, tolerance):
    def halve(state):
        low, high, turns = state
        middle = (low + high) / 2
        same_side = (f(middle) > 0) == (f(high) > 0)
        return jnp.where(same_side, low, middle), jnp.where(same_side, middle, high), turns + 1

    low, high, turns = jax.lax.while_loop(lambda state: state[1] - state[0] > tolerance, halve, (low, high, 0))
    return (low + high) / 2, turns


# %%
checks.bisect(bisect)

# %% [markdown]
# ## Exercise 3: Out of the loop, by hand (6 minutes)
#
# In the lesson XLA moved the exponentials out of the loop of conjugate gradients. It can be said in the program, too,
# and then holds for every back end.
#
# ```python
# def hvp(v):
#     return torch.autograd.grad(grad @ v, w, retain_graph=True)[0]
#
# p, residual = torch.zeros_like(w), -grad
# direction = residual
# for _ in range(turns):
#     product, size = hvp(direction), residual @ residual
#     alpha = size / (direction @ product)
#     p, residual = p + alpha * direction, residual - alpha * product
#     direction = residual + (residual @ residual) / size * direction
# ```
#
# **Given** `f`, a function of `w` of shape `(d,)` with a number as its value, and a Python number `turns`. In the torch
# loop `grad` is the gradient of `f` at `w`, made with `create_graph=True`: the graph is recorded once and used in every
# turn.
#
# **Asked** for `p` after `turns` turns, by one compiled loop whose body does not run `f` again. `jax.linearize(g, w)`
# returns `g(w)` and the linear function `v -> g'(w) v`.
#
# **Checked** against the whole Hessian in float64, and for exponentials (`f` has some) in the loop's jaxpr.


# %% tags=["stub"]
def newton_direction(f, w, turns):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def newton_direction(f, w, turns):
    grad, hvp = jax.linearize(jax.grad(f), w)

    def turn(_, state):
        p, residual, direction = state
        product, size = hvp(direction), residual @ residual
        alpha = size / (direction @ product)
        p, residual = p + alpha * direction, residual - alpha * product
        return p, residual, residual + (residual @ residual) / size * direction

    return jax.lax.fori_loop(0, turns, turn, (jnp.zeros_like(w), -grad, -grad))[0]


# %%
checks.newton_direction(newton_direction)

# %% [markdown]
# Back to the [lesson](../12_tracing_paper.ipynb), or on to the [capstone](capstone_12_training_script.ipynb) and the
# next lesson: [13 · One step on many devices](../13_many_devices.ipynb).
# [Solutions](../solutions/12_tracing_paper.ipynb).
