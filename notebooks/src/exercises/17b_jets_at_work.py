# %% [markdown]
# # 17b · Exercises: Jets at work
#
# **Can you put an operator of your own on jets?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../17b_jets_at_work.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import torch

from course import checks, taylor

# %% [markdown]
# ## Exercise 1: How many lines? (2 minutes)
#
# `taylor.interpolation` makes a mixed derivative out of derivatives along lines: two for $u_{xy}$, three for $u_{xxy}$.
#
# **Given** the rule of the lesson: for a multi-index $i$, the directions $i - 2j$ with $0 \le j \le i$, one of each
# pair of opposites, and not the zero direction.
#
# **Asked** for your prediction, before you run anything: along how many lines does it go for $u_{xyz}$, $u_{xxyy}$,
# $u_{xxyz}$ and $u_{xxyyzz}$? Whole numbers.
#
# **Checked** against the number of directions that `taylor.interpolation` returns.

# %% tags=["stub"]
lines_needed = {"xyz": ..., "xxyy": ..., "xxyz": ..., "xxyyzz": ...}

# %% tags=["solution"]
lines_needed = {"xyz": 8 // 2, "xxyy": 9 // 2, "xxyz": 12 // 2, "xxyyzz": 27 // 2}  # half of the product of power + 1

# %%
checks.lines_needed(lines_needed)

# %% [markdown]
# ## Exercise 2: Any constant coefficients (2 minutes)
#
# In PyTorch, `(a * torch.func.hessian(f)(x)).sum()` is the operator $\sum_{ij} a_{ij} u_{ij}$: diffusion that is faster
# in some directions, or, where `a` has eigenvalues of both signs, a wave.
#
# **Given** `f`, a function of `x` of shape `(d,)` with a number as its value, and `a`, a matrix `(d, d)`, symmetric,
# but in general not positive definite. `f` holds a `lax.while_loop`, through which no gradient goes backwards; jets go
# forwards.
#
# **Asked** for $\sum_{ij} a_{ij} u_{ij}$ at `x`, by second derivatives along `d` lines; to be run under `jax.jit`.
#
# **Checked** against the whole Hessian, for random matrices; and, by your function's jaxpr, that it does not
# differentiate along all pairs of inputs.


# %% tags=["stub"]
def constant_coefficients(f, x, a):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def constant_coefficients(f, x, a):
    values, vectors = jnp.linalg.eigh(a)  # a is the sum of value * vector vector^T; the vectors are columns
    return taylor.weighted(f, x, vectors.T, values, order=2)


# %%
checks.constant_coefficients(constant_coefficients)

# %% [markdown]
# ## Exercise 3: Train on the Helmholtz equation (4 minutes)
#
# The loss of a network on $\Delta u + k^2 u = g$ in PyTorch: one backward pass for the slopes, one more for each
# input, and one through all of them.

# %%
net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
x, g, k = torch.randn(5, 3, requires_grad=True), torch.zeros(5), 2.0

u = net(x)[:, 0]
(slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
rows = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(3)]
loss = ((sum(rows) + k**2 * u - g) ** 2).mean()
loss.backward()
print(net[0].weight.grad.shape)

# %% [markdown]
# **Given** `u(params, x)`, a number for one point `x` of shape `(d,)`; `params`, a dict of arrays; points `x` of shape
# `(n, d)`; the values `g` of the source there, `(n,)`; a number `k`.
#
# **Asked** for the gradient of that loss by `params`, a dict like `params`; to be run under `jax.jit`.
#
# **Checked** against PyTorch's nested passes, for random weights, points and sizes.


# %% tags=["stub"]
def helmholtz_gradient(u, params, x, g, k):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def helmholtz_gradient(u, params, x, g, k):
    def loss(params):
        one = lambda x: taylor.value_and_laplacian(lambda z: u(params, z), x)  # noqa: E731
        values, laplacians = jax.vmap(one)(x)
        return jnp.mean((laplacians + k**2 * values - g) ** 2)

    return jax.grad(loss)(params)


# %%
checks.helmholtz_gradient(helmholtz_gradient)

# %% [markdown]
# ## Exercise 4: The energy of a walker (2 minutes)
#
# Variational Monte Carlo moves walkers, places of $n$ electrons, and averages over them the *local energy* of a wave
# function $\psi$,
#
# $$E(x) = -\frac{1}{2}\,\frac{\Delta \psi(x)}{\psi(x)} + V(x) .$$
#
# Networks return $\log \psi$: $\psi$ itself is smaller than any float where there are many electrons.
#
# **Given** `log_psi` and `potential`, functions of one walker of shape `(n, 3)` with numbers as their values; and
# `walkers`, of shape `(w, n, 3)`.
#
# **Asked** for the local energies, `(w,)`; to be run under `jax.jit`.
#
# **Checked** against the Hessian of $\psi$, for random wave functions; then with one so small that
# $\psi$ is 0 in floating point.


# %% tags=["stub"]
def local_energy(log_psi, potential, walkers):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def local_energy(log_psi, potential, walkers):
    def of_one(x):
        curved = taylor.laplacian(log_psi, x, coordinates="all") + jnp.sum(jax.grad(log_psi)(x) ** 2)
        return -curved / 2 + potential(x)

    return jax.vmap(of_one)(walkers)


# %%
checks.local_energy(local_energy)

# %% [markdown]
# Back to the [lesson](../17b_jets_at_work.ipynb), or on to the next one:
# [18 · STDE](../18_stde.ipynb). [Solutions](../solutions/17b_jets_at_work.ipynb).
