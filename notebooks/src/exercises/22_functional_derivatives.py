# %% [markdown]
# # 22 · Exercises: Functional derivatives
#
# **Can you differentiate by a function, and say what the ends and a constraint do to the result?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../22_functional_derivatives.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks

# %% [markdown]
# ## Exercise 1: Several functions at once (2 minutes)
#
# A mechanical system has a Lagrangian $L(t, q, q')$, with `q` and its velocity of shape `(m,)`. The functional is
# $\int L\,dt$, and its derivative has one component for each coordinate:
#
# $$G_i(t) = L_{q_i} - \frac{d}{dt} L_{q'_i} .$$
#
# `functional.euler_lagrange` takes several functions, too (22b); here it is yours to write.
#
# **Given** `L(t, q, velocity)`, which returns a number, and `q`, a function of a number that returns `(m,)`.
#
# **Asked** for `G`, a function of a number that returns `(m,)`.
#
# **Checked** with random masses, magnetic terms and time-dependent forces, against formulas by hand in float64.


# %% tags=["stub"]
def equations_of_motion(L, q):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def equations_of_motion(L, q):
    def momentum(t):
        return jax.grad(L, argnums=2)(t, q(t), jax.jacfwd(q)(t))

    return lambda t: jax.grad(L, argnums=1)(t, q(t), jax.jacfwd(q)(t)) - jax.jacfwd(momentum)(t)


# %%
checks.equations_of_motion(equations_of_motion)

# %% [markdown]
# ## Exercise 2: Solve for the acceleration (2 minutes)
#
# To simulate a system one needs $q''$. Where $L$ does not depend on time, write out $G = 0$ by the chain rule:
# $\frac{d}{dt} L_{q'}$ is $L_{q'q'}\,q'' + L_{q'q}\,q'$, with matrices of second derivatives.
#
# **Given** `L(q, velocity)`, and values `q` and `velocity`, arrays of shape `(m,)`.
#
# **Asked** for `q''` there, shape `(m,)`.
#
# **Checked** with a double pendulum and with charged particles in a magnetic field, against formulas by hand in
# float64.


# %% tags=["stub"]
def acceleration(L, q, velocity):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def acceleration(L, q, velocity):
    momentum = jax.grad(L, argnums=1)
    mass = jax.jacfwd(momentum, argnums=1)(q, velocity)
    drift = jax.jvp(lambda q: momentum(q, velocity), (q,), (velocity,))[1]
    return jnp.linalg.solve(mass, jax.grad(L)(q, velocity) - drift)


# %%
checks.acceleration(acceleration)

# %% [markdown]
# ## Exercise 3: A step that keeps the integral (2 minutes)
#
# A density $n$ on the nodes of some quadrature shall move downhill in a functional, and keep its integral. In PyTorch
# somebody wrote this, and finds that the result depends on the grid and that the integral drifts:
#
# ```python
# energy(n, weights).backward()
# n = n - rate * (n.grad - n.grad.mean())
# ```
#
# **Given** `energy(n, weights)`, a functional by quadrature as a function of node values, `n` and `weights` of shape
# `(points,)`, and a `rate`.
#
# **Asked** for the new `n`: a step along the functional derivative $G$ less the constant $\mu$ that keeps
# $\int n\,dx$.
#
# **Checked** on random grids with uneven weights, with an energy that also has an integral squared in it.


# %% tags=["stub"]
def conserving_step(energy, n, weights, rate):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def conserving_step(energy, n, weights, rate):
    G = jax.grad(energy)(n, weights) / weights
    mu = weights @ G / weights.sum()
    return n - rate * (G - mu)


# %%
checks.conserving_step(conserving_step)

# %% [markdown]
# ## Exercise 4: What the ends do (5 minutes)
#
# **Given** six functionals on $[0, 1]$, each at a function of its own:

# %%
cases = {
    "slope squared, sine": (lambda x, f, slope: slope**2, lambda x: jnp.sin(jnp.pi * x)),
    "slope squared, cubic": (lambda x, f, slope: slope**2, lambda x: x**2 * (3 - 2 * x)),
    "value squared, sine": (lambda x, f, slope: f**2, lambda x: jnp.sin(3 * x)),
    "value times slope, sine": (lambda x, f, slope: f * slope, lambda x: jnp.sin(jnp.pi * x)),
    "value times slope, cosine": (lambda x, f, slope: f * slope, lambda x: jnp.cos(jnp.pi * x)),
    "weighted slope": (lambda x, f, slope: x * (1 - x) * slope**2, lambda x: jnp.exp(x)),
}

# %% [markdown]
# **Asked** for a prediction: does the gradient by node values, divided by the weights, agree with the functional
# derivative $G$ at all nodes? `True` or `False` for each.
#
# **Checked** by computing both with `course.functional`, on 24 Gauss nodes in float64.

# %% tags=["stub"]
nodes_agree = {
    "slope squared, sine": ...,
    "slope squared, cubic": ...,
    "value squared, sine": ...,
    "value times slope, sine": ...,
    "value times slope, cosine": ...,
    "weighted slope": ...,
}

# %% tags=["solution"]
nodes_agree = {  # they do where L_f' is zero at both ends
    "slope squared, sine": False,
    "slope squared, cubic": True,  # f' = 6 x (1 - x)
    "value squared, sine": True,  # no slope in L
    "value times slope, sine": True,  # L_f' = f
    "value times slope, cosine": False,
    "weighted slope": True,  # L_f' = 2 x (1 - x) f'
}

# %%
checks.nodes_agree(nodes_agree)

# %% [markdown]
# Back to the [lesson](../22_functional_derivatives.ipynb), or on to the next one:
# [22b · More functionals](../22b_more_functionals.ipynb). [Solutions](../solutions/22_functional_derivatives.ipynb).
