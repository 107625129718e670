# %% [markdown]
# # 18 · Exercises: STDE
#
# **Can you draw an estimate that is right on average?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../18_stde.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks, stde, taylor

# %% [markdown]
# ## Exercise 1: Draw some third derivatives (2 minutes)
#
# No law of signs or normals estimates $\sum_i u_{iii}$: their odd moments are zero. Sparse sampling does.
#
# **Given** `u`, a function of `x` of shape `(d,)` with a number as its value; a `key`; and the number of `samples`, at
# most `d`.
#
# **Asked** for an estimate of $\sum_i u_{iii}$ from `samples` axes, drawn without replacement, every set of `samples`
# axes as likely as any other; to be run under `jax.jit` and `jax.vmap` over keys.
#
# **Checked** on a function whose third derivatives are powers of 16 in random order, so that an estimate tells which
# axes were drawn and how often; for 600 keys.


# %% tags=["stub"]
def third_derivatives(u, x, key, samples):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def third_derivatives(u, x, key, samples):
    axes = jax.random.choice(key, len(x), (samples,), replace=False)
    return taylor.weighted(u, x, axes, jnp.full(samples, len(x) / samples), order=3)


# %%
checks.third_derivatives(third_derivatives)

# %% [markdown]
# ## Exercise 2: Find the bias (2 minutes)
#
# This loss is too large on average, and its minimum is in the wrong place.


# %%
def biased_loss(residual, x, key):
    keys = jax.random.split(key, len(x))
    return jnp.mean(jax.vmap(residual)(x, keys) ** 2)


# %% [markdown]
# **Given** `residual(x, key)`, an unbiased estimate of the residual at one point; points `x` of shape `(n, d)`; a
# `key`.
#
# **Asked** for `fair_loss`, whose mean over all keys is the mean over the points of the squared true residual. Each
# point draws its own samples.
#
# **Checked** with residuals that are nothing but a random sign, whose fair loss is 0 on average, and with residuals
# that are known up to a small noise; for 1,000 keys.


# %% tags=["stub"]
def fair_loss(residual, x, key):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def fair_loss(residual, x, key):
    keys = jax.random.split(key, (2, len(x)))  # two independent keys a point
    first, second = (jax.vmap(residual)(x, each) for each in keys)
    return jnp.mean(first * second)


# %%
checks.fair_loss(fair_loss)

# %% [markdown]
# ## Exercise 3: Four derivatives along a random line (2 minutes)
#
# For a Laplacian signs are as good as normals. For $\Delta\Delta u$ they are not.
#
# **Given** `u`, a function of `x` of shape `(d,)` with a number as its value; a `key`; and the number of `samples`.
#
# **Asked** for an unbiased estimate of $\Delta\Delta u = \sum_{ij} u_{iijj}$ from fourth derivatives along `samples`
# independent dense directions; to be run under `jax.jit` and `jax.vmap` over keys.
#
# **Checked** against the trace of a Hessian of the trace of a Hessian, by the mean over 4,000 keys; and by the variance
# of estimates from four directions.


# %% tags=["stub"]
def biharmonic_by_normals(u, x, key, samples):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def biharmonic_by_normals(u, x, key, samples):
    directions = jax.random.normal(key, (samples, len(x)), x.dtype)
    return taylor.weighted(u, x, directions, jnp.full(samples, 1 / (3 * samples)), order=4)


# %%
checks.biharmonic_by_normals(biharmonic_by_normals)

# %% [markdown]
# ## Exercise 4: Heat on a curved surface (2 minutes)
#
# On a surface heat flows by the Laplace-Beltrami operator. With coordinates $q = (q_1, q_2)$ on it and its metric $g$,
# a matrix that says how long a step $dq$ is, $|dq|^2 = \sum_{ij} g_{ij}\,dq_i\,dq_j$, it is
#
# $$\Delta_g u = \frac{1}{\sqrt{\det g}} \sum_{ij} \partial_i \big( \sqrt{\det g}\;
#   (g^{-1})_{ij}\, \partial_j u \big) .$$
#
# **Given** `surface`, a function of `q` of shape `(2,)` that returns the point in space, `(3,)`; `u`, a function of `q`
# with a number as its value; and `q`. Latitude and longitude on a sphere, for example.
#
# **Asked** for $\Delta_g u$ at `q`. How long is a step $dq$ in space?
#
# **Checked** on a sphere of random size, on which $\Delta_g$ multiplies spherical harmonics by $-l(l + 1) / r^2$, and
# on an ellipsoid, by the Christoffel symbols.


# %% tags=["stub"]
def on_surface(surface, u, q):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def on_surface(surface, u, q):
    def metric(q):
        jacobian = jax.jacfwd(surface)(q)  # (3, 2): a step dq is jacobian @ dq in space
        return jacobian.T @ jacobian

    return stde.apply(stde.laplace_beltrami(metric, 2), u, q)


# %%
checks.on_surface(on_surface)

# %% [markdown]
# Back to the [lesson](../18_stde.ipynb), or on to the next one:
# [18b · STDE, checked](../18b_stde_checked.ipynb). [Solutions](../solutions/18_stde.ipynb).
