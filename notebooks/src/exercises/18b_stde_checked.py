# %% [markdown]
# # 18b · Exercises: STDE, checked
#
# **Can you check a claim before you build on it?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../18b_stde_checked.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import jet

from course import checks, stde


# %% [markdown]
# ## Exercise 1: What a parabola holds (2 minutes)
#
# A jet whose input has $e_x$ at order 1 and $e_y$ at order 2 runs along a parabola. For $u = xy$ at $(0, 0)$ only one
# of its outputs is not zero, the third: it holds $u_{xxx} + 3\,u_{xy}$.

# %%
slots = ((1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0))
print([round(float(part), 3) for part in jet.jet(lambda x, y: x * y, (0.0, 0.0), slots)[1]])

# %% [markdown]
# **Given** that the fourth output holds $u_{xxxx}$ and some multiples of $u_{xxy}$ and $u_{yy}$, the fifth $u_{xxxxx}$
# and some multiples of $u_{xxxy}$ and $u_{xyy}$.
#
# **Asked** for your prediction of these four factors, before you run anything. Whole numbers.
#
# **Checked** against nested `jax.grad` along the parabola, of monomials that have one such derivative and no other.

# %% tags=["stub"]
jet_contents = {"xxy": ..., "yy": ..., "xxxy": ..., "xyy": ...}


# %% tags=["solution"]
def ways(m, n):  # splits of m + 2 n things into m blocks of one and n of two
    return factorial(m + 2 * n) // (2**n * factorial(m) * factorial(n))


jet_contents = {"xxy": ways(2, 1), "yy": ways(0, 2), "xxxy": ways(3, 1), "xyy": ways(1, 2)}

# %%
checks.jet_contents(jet_contents)

# %% [markdown]
# ## Exercise 2: How many are enough? (2 minutes)
#
# A speed-up by sampling means something only at a stated accuracy.
#
# **Given** `diagonal`, an array `(d,)` of the second derivatives $u_{ii}$ at a point; and a `tolerance`.
#
# **Asked** for the smallest number of coordinates, a whole number, from which a sparse estimate of the Laplacian, drawn
# without replacement, has a standard deviation of at most `tolerance` times the absolute value of the Laplacian.
#
# **Checked** against the estimates from all subsets of every size, for eight coordinates.


# %% tags=["stub"]
def smallest_sample(diagonal, tolerance):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def smallest_sample(diagonal, tolerance):
    d = len(diagonal)
    sizes = np.arange(1, d + 1)
    variances = d**2 * np.var(diagonal, ddof=1) * (1 / sizes - 1 / d)
    return sizes[np.sqrt(variances) <= tolerance * abs(diagonal.sum())][0]


# %%
checks.smallest_sample(smallest_sample)

# %% [markdown]
# ## Exercise 3: Exact, and as cheap (2 minutes)
#
# A network begins with a linear layer, from `d` coordinates to `k` numbers: $u(x) = g(Ax + b)$. Where `k` is small, no
# sample is needed.
#
# **Given** `g`, a function of `k` numbers with a number as its value; `A` of shape `(k, d)`, `b` of shape `(k,)`, and a
# point `x` of shape `(d,)`.
#
# **Asked** for the exact Laplacian of $u$ at `x`, from arrays of `(k, k)` and `(k, d)` at most.
#
# **Checked** against the trace of `jax.hessian` in a few dimensions; in 20,000 by looking for an array `(d, d)`.


# %% tags=["stub"]
def exact_laplacian(g, A, b, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def exact_laplacian(g, A, b, x):
    return jnp.sum(jax.hessian(g)(A @ x + b) * (A @ A.T))


# %%
checks.exact_laplacian(exact_laplacian)

# %% [markdown]
# ## Exercise 4: Where the particles go (2 minutes)
#
# Particles drift and are shaken: $dX = b(X)\,dt + B(X)\,dW$, in Itô's sense. Their density $p$ changes by the
# Fokker-Planck equation,
#
# $$p_t = -\sum_i \partial_i (b_i\,p) + \frac{1}{2} \sum_{ij} \partial_i \partial_j (D_{ij}\,p), \qquad D = B B^\top .$$
#
# **Given** `p`, a function of `x` of shape `(d,)` with a number as its value; `drift`, which returns `(d,)`; `noise`,
# which returns `B`, of shape `(d, m)`; and `x`. All three depend on the point.
#
# **Asked** for $p_t$ at `x`. It is minus the divergence of a flow.
#
# **Checked** with random fields against the product rule, term by term; then with a process and the density that it
# comes to rest at, where $p_t$ is 0.


# %% tags=["stub"]
def density_rate(p, drift, noise, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def density_rate(p, drift, noise, x):
    def flow(x):
        spread = jax.jacfwd(lambda x: noise(x) @ noise(x).T * p(x))(x)  # (d, d, d), the last one differentiates
        return drift(x) * p(x) - jnp.einsum("ijj->i", spread) / 2

    return -stde.apply(stde.divergence(len(x)), flow, x)


# %%
checks.density_rate(density_rate)

# %% [markdown]
# Back to the [lesson](../18b_stde_checked.ipynb), or on to the next one:
# [19 · A million dimensions](../19_million_dimensions.ipynb). [Solutions](../solutions/18b_stde_checked.ipynb).
