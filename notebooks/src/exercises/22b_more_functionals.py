# %% [markdown]
# # 22b · Exercises: More functionals
#
# **Can you differentiate what bends, what acts at a distance, and what is held?** (10 minutes)

# %% [markdown]
# Three exercises to the [lesson](../22b_more_functionals.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import torch

from course import checks, functional
from course.functional import Functional

# %% [markdown]
# ## Exercise 1: Virtual work (3 minutes)
#
# An elastic beam under a load has the energy $\int \frac12 s\,w''^2 - q\,w\;dx$. Moved by a small $\varepsilon g$, it
# gains $\varepsilon$ times the *virtual work*, the derivative along $g$. In PyTorch, through a graph in `x`:

# %%
nodes, weights = torch.linspace(0, 1, 5).requires_grad_(), torch.full((5,), 0.2)
epsilon = torch.zeros((), requires_grad=True)
w = torch.sin(nodes) + epsilon * torch.cos(nodes)
(slope,) = torch.autograd.grad(w.sum(), nodes, create_graph=True)
(bend,) = torch.autograd.grad(slope.sum(), nodes, create_graph=True)
energy = weights @ ((1 + nodes) * bend**2 / 2 - w)  # stiffness 1 + x, load 1
print(torch.autograd.grad(energy, epsilon)[0].shape)

# %% [markdown]
# **Given** the functions `w`, `g`, `stiffness` and `load` of a number, and `rule`, a `Quadrature`. `g` need not be zero
# at the ends.
#
# **Asked** for the virtual work, a number.
#
# **Checked** against PyTorch, as above, with random functions and rules.


# %% tags=["stub"]
def virtual_work(w, g, stiffness, load, rule):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def virtual_work(w, g, stiffness, load, rule):
    def lagrangian(x, w, slope, bend):
        return stiffness(x) * bend**2 / 2 - load(x) * w

    return functional.variation(Functional(lagrangian, rule, order=2), w)(g)


# %%
checks.virtual_work(virtual_work)

# %% [markdown]
# ## Exercise 2: What acts at a distance (2 minutes)
#
# A density $n$ has the energy $\frac12 \iint n(x)\,K(x, y)\,n(y)\,dx\,dy + \int V n\,dx$, with a kernel $K$ that is
# *not* symmetric.
#
# **Given** `kernel(x, y)` and `outer(x)`, which is $V$, functions of numbers; `n`, values `(points,)` at `nodes`, with
# `weights`, all of that shape.
#
# **Asked** for the functional derivative at the nodes, `(points,)`: a potential.
#
# **Checked** on random grids with uneven weights, with NumPy and loops.


# %% tags=["stub"]
def potential_at_nodes(kernel, outer, n, nodes, weights):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def potential_at_nodes(kernel, outer, n, nodes, weights):
    K = jax.vmap(lambda x: jax.vmap(lambda y: kernel(x, y))(nodes))(nodes)
    return (K + K.T) @ (weights * n) / 2 + jax.vmap(outer)(nodes)  # n is moved as n(x), and as n(y)


# %%
checks.potential_at_nodes(potential_at_nodes)

# %% [markdown]
# ## Exercise 3: Held exactly (4 minutes)
#
# A penalty holds a constraint only about. A multiplier holds it.
#
# **Given** `objective` and `constraint`, functions of a vector `z` of shape `(m,)` with numbers as their values; the
# value `target` that the constraint shall have; and `start`, a vector near the answer.
#
# **Asked** for `z` and `mu`: the constraint is met and the gradient of `objective` is `mu` times that of `constraint`.
# Few steps of Newton's method on both unknowns together do it; ten are plenty.
#
# **Checked** on a quadratic function on a plane, solved by linear equations, and on the unit sphere, where `mu` is an
# eigenvalue.


# %% tags=["stub"]
def held_exactly(objective, constraint, target, start):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def held_exactly(objective, constraint, target, start):
    def saddle(both):
        return objective(both[:-1]) - both[-1] * (constraint(both[:-1]) - target)

    @jax.jit
    def step(both):
        return both - jnp.linalg.solve(jax.hessian(saddle)(both), jax.grad(saddle)(both))

    slope, normal = jax.grad(objective)(start), jax.grad(constraint)(start)
    both = jnp.append(start, slope @ normal / (normal @ normal))  # the multiplier of least squares
    for _ in range(10):
        both = step(both)
    return both[:-1], both[-1]


# %%
checks.held_exactly(held_exactly)

# %% [markdown]
# Back to the [lesson](../22b_more_functionals.ipynb), the last one; [the README](../../README.md) maps the way
# back to every other. [Solutions](../solutions/22b_more_functionals.ipynb).
