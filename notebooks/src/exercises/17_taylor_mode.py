# %% [markdown]
# # 17 · Exercises: Taylor mode
#
# **Can you carry a Taylor series through an operation?** (5 minutes)

# %% [markdown]
# Three exercises to the [lesson](../17_taylor_mode.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import math

import jax
import jax.numpy as jnp
from jax.experimental import jet

from course import checks
from course.failures import fails

# %% [markdown]
# ## Exercise 1: A rule that jet lacks (2 minutes)
#
# The inverse tangent has no rule in `jax.experimental.jet`. Its derivative $1 / (1 + u^2)$ gives it one: with
# $y = \operatorname{atan}(u)$ and $w = 1 + u^2$ it is $y'\,w = u'$, an equation between power series.
#
# **Given** `u`, a list of Taylor coefficients $u_0, u_1, \dots$ of a curve, as Python numbers.
#
# **Asked** for the Taylor coefficients of $\operatorname{atan}(u(t))$, as many, in a list.
#
# **Checked** with random coefficients up to order 4, against nested `jax.grad` in float64.


# %% tags=["stub"]
def arctan_series(u):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def arctan_series(u):
    w = [sum(u[j] * u[k - j] for j in range(k + 1)) for k in range(len(u))]  # the series of u * u
    w[0] += 1
    y = [math.atan(u[0])]
    for k in range(1, len(u)):
        y.append((k * u[k] - sum(j * y[j] * w[k - j] for j in range(1, k))) / (k * w[0]))
    return y


# %%
checks.arctan_series(arctan_series)

# %% [markdown]
# ## Exercise 2: Make it fit (3 minutes)
#
# This function has derivatives of any order, and `jet` finds none of them.


# %%
def energy(x):
    return jax.nn.softplus(x).sum() + jnp.prod(x) + jnp.tan(x[0])


with fails(lines=4):
    jet.jet(energy, (jnp.ones(4),), ((jnp.ones(4), jnp.zeros(4)),))

# %% [markdown]
# **Given** `energy`, for a point `x` of shape `(4,)`, with coordinates between -2 and 2. One of them may be zero.
#
# **Asked** for the same function, written such that `jet` can take it.
#
# **Checked** against `energy` at a point with negative coordinates and a zero; then `jet` takes three derivatives of
# your function along a line, against nested `jax.jvp` of `energy`.


# %% tags=["stub"]
def jettable(x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def jettable(x):
    product = 1.0
    for one in x:
        product = product * one
    softplus = jnp.log(1 + jnp.exp(x))  # without a kink at 0, and far from overflow
    return softplus.sum() + product + jnp.sin(x[0]) / jnp.cos(x[0])


# %%
checks.jettable(jettable)

# %% [markdown]
# ## Exercise 3: A layer for jets (2 minutes)
#
# In place of an interpreter one can write each layer such that it maps jets to jets, by hand and without any automatic
# differentiation. With such layers a network gives its own Laplacian.
#
# **Given** weights `w` of shape `(d, n)`, `b` of shape `(n,)`, and a collapsed jet of order 2, a tuple: the value of
# shape `(d,)`; the first derivatives along `R` lines, `(R, d)`; the sum over the lines of the second derivatives,
# `(d,)`.
#
# **Asked** for the jet of `tanh(x @ w + b)`, a tuple of shapes `(n,)`, `(R, n)` and `(n,)`.
#
# **Checked** for one layer and for two in a row, along random lines, against `jax.hessian` in float64.


# %% tags=["stub"]
def dense_jet(w, b, jet):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def dense_jet(w, b, jet):
    value, first, second = jet
    y, first, second = jnp.tanh(value @ w + b), first @ w, second @ w
    slope, bend = 1 - y**2, -2 * y * (1 - y**2)
    return y, slope * first, bend * (first**2).sum(0) + slope * second


# %%
checks.dense_jet(dense_jet)

# %% [markdown]
# Back to the [lesson](../17_taylor_mode.ipynb), or on to the next one:
# [17b · Jets at work](../17b_jets_at_work.ipynb). [Solutions](../solutions/17_taylor_mode.ipynb).
