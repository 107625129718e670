# %% [markdown]
# # 19 · Exercises: A million dimensions
#
# **Can you set up an equation of your own, and tell whether it asks anything of a network?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../19_million_dimensions.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

from course import checks, taylor

# %% [markdown]
# ## Exercise 1: The source of a made-up solution (2 minutes)
#
# The Bratu equation describes a reaction that heats itself. With a source, in the unit ball and zero on its surface:
#
# $$\Delta u + e^u = g .$$
#
# **Given** any function `s` of a point, `(d,) -> ()`, which you choose as the made-up part of the solution
# $u = (1 - |x|^2)\,s(x)$, and a point `x` of shape `(d,)`.
#
# **Asked** for the source $g(x)$ that makes this $u$ a solution.
#
# **Checked** against derivatives by hand, for random `s` and few dimensions; with 20,000 coordinates, where a Hessian
# would take 1.6 GB, by looking for an array of its shape in your function's jaxpr.


# %% tags=["stub"]
def bratu_source(s, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def bratu_source(s, x):
    value, lap = taylor.value_and_laplacian(lambda x: (1 - x @ x) * s(x), x)
    return lap + jnp.exp(value)


# %%
checks.bratu_source(bratu_source)

# %% [markdown]
# ## Exercise 2: Two surfaces, two values (2 minutes)
#
# **Given** a network, `(d,) -> ()`, a point `x` of shape `(d,)` in the shell $1 \le |x| \le 2$, and two numbers:
# $u$ shall be `inner` where $|x| = 1$ and `outer` where $|x| = 2$.
#
# **Asked** for the ansatz's value at `x`, of the form $u = \mathrm{lift}(x) + \mathrm{factor}(x)\,N(x)$. Both must be
# smooth in the shell, and the network must stay free to choose the value at every point between the surfaces, and the
# slope at either surface.
#
# **Checked** with random networks and dimensions: both surfaces, the points between them, and how fast the
# factor leaves zero.


# %% tags=["stub"]
def shell_ansatz(network, x, inner, outer):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def shell_ansatz(network, x, inner, outer):
    square = x @ x
    across = (square - 1) / 3  # 0 on the inner surface, 1 on the outer
    return inner + across * (outer - inner) + across * (1 - across) * network(x)


# %%
checks.shell_ansatz(shell_ansatz)

# %% [markdown]
# ## Exercise 3: Which of them is still a problem? (5 minutes)
#
# **Given** points as in the lesson, with uniform directions and uniform radii in the unit ball, and six choices of
# $s$ in $u = (1 - |x|^2)\,s(x)$, for points `x` of shape `(n, d)`:

# %%
choices = {
    "mean of cosines": lambda x: np.cos(x).mean(axis=1),
    "one coordinate": lambda x: 1 + x[:, 0],
    "length": lambda x: np.cos(3 * np.linalg.norm(x, axis=1)),
    "sine of the sum": lambda x: np.sin(x.sum(axis=1)),
    "product of cosines": lambda x: np.cos(2 * x).prod(axis=1),
    "largest": lambda x: abs(x).max(axis=1),
}

# %% [markdown]
# **Asked** for a prediction: as $d$ goes from 10 to 10,000, the relative L2 error of the best constant times
# $1 - |x|^2$ `"falls"`, at least tenfold, or it `"stays"`.
#
# **Checked** by measuring it at both ends.

# %% tags=["stub"]
flat_in_the_end = {
    "mean of cosines": ...,
    "one coordinate": ...,
    "length": ...,
    "sine of the sum": ...,
    "product of cosines": ...,
    "largest": ...,
}

# %% tags=["solution"]
flat_in_the_end = {
    "mean of cosines": "falls",  # 1 - |x|^2 / 2d
    "one coordinate": "falls",  # a coordinate is of size 1 / sqrt(d)
    "length": "stays",
    "sine of the sum": "stays",  # d terms of size 1 / sqrt(d), with random signs
    "product of cosines": "stays",  # exp(-2 |x|^2)
    "largest": "stays",  # |x| times a number that hardly varies; the number cancels in a relative error
}

# %%
checks.flat_in_the_end(flat_in_the_end)

# %% [markdown]
# ## Exercise 4: A loop that draws its own points (4 minutes)
#
# ```python
# for step in range(steps):
#     x = torch.randn(points, d)          # new ones in each step
#     loss = loss_fn(model, x)
#     optimizer.zero_grad(); loss.backward(); optimizer.step()
#     losses.append(loss.item())
# ```
#
# **Given** `loss_fn(params, key)`, which draws its points from the key, an optax `optimizer`, `params`, a `key` and a
# number of `steps`.
#
# **Asked** for `(params, losses)` after that many steps, `losses` of shape `(steps,)`, each loss from before its step.
# New points in each step; one loop that JAX compiles, so that the loss is traced once and not in each step.
#
# **Checked** by an identity between losses and weights that holds whatever keys you make, by how often the loss is
# called, and by whether the steps drew different points.


# %% tags=["stub"]
def train_on_fresh_points(loss_fn, optimizer, params, key, steps):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def train_on_fresh_points(loss_fn, optimizer, params, key, steps):
    def step(state, key):
        params, opt_state = state
        loss, grads = jax.value_and_grad(loss_fn)(params, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, start, jax.random.split(key, steps))
    return params, losses


# %%
checks.train_on_fresh_points(train_on_fresh_points)

# %% [markdown]
# Back to the [lesson](../19_million_dimensions.ipynb), or on to the next one:
# [20 · Third and fourth order](../20_high_order_pdes.ipynb). [Solutions](../solutions/19_million_dimensions.ipynb).
