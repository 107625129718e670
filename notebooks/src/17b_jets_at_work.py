# %% [markdown]
# # 17b · Jets at work
#
# **What do jets save on real operators, and where do they lose?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - compute Laplacians and mixed partial derivatives exactly and fast,
# - say where the number of inputs drops out of a Laplacian's cost, and where it stays,
# - train on such derivatives, and say when nested `jvp` or `jax.hessian` is good enough.

# %%
from itertools import pairwise

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jax import lax
from jax.experimental import jet
from torch import func

from course import plots, taylor, timing

# %%
SEED, D, WIDTH, POINTS = 0, 100, 32, 32
jax.config.update("jax_enable_x64", True)  # float64: formulas that agree do so to 1e-10 and better
jax.config.update("jax_pprint_use_color", False)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plots.use()
rng = np.random.default_rng(SEED)


def same(what, ours, reference, tolerance=1e-10):  # prints the first two numbers of each side
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(side)]) for side in (ours, reference))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    shown = [", ".join(f"{value:.6g}" for value in side[:2]) + " …" * (len(side) > 2) for side in (a, b)]
    print(f"{what}: {shown[0]} and {shown[1]}, gap below {tolerance:g}")


# %% [markdown]
# ## 1 · The Laplacian of a network, six ways
#
# Three hidden layers of `tanh`, 100 inputs, 32 points, the same weights on both sides. `torch.nn.Linear` stores
# (out, in), so each weight is transposed on its way.
#
# PyTorch: a gradient with a graph, then one more backward pass per coordinate; and, in `torch.func`, the trace of
# a full Hessian, mapped over points. JAX: the trace of `jax.hessian`; a loop of Hessian-vector products that never
# holds a Hessian (09); and collapsed jets (17), without and with what section 2 explains. Rounds are interleaved, so
# that a busy moment hits all alike, and the median of five counts. Memory is XLA's own figure for temporary arrays;
# PyTorch reports none on a CPU.

# %%
def torch_mlp(d):
    torch.manual_seed(SEED)
    sizes = [d, WIDTH, WIDTH, WIDTH]
    layers = [part for i, o in pairwise(sizes) for part in (torch.nn.Linear(i, o), torch.nn.Tanh())]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 1))


def carried(net):
    dense = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    return [(jnp.asarray(m.weight.detach().numpy().T), jnp.asarray(m.bias.detach().numpy())) for m in dense]


def mlp(params, x):
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = params[-1]
    return (x @ w + b)[0]


net = torch_mlp(D)
params = carried(net)
X = jnp.asarray(rng.normal(size=(POINTS, D)))
X_torch = torch.from_numpy(np.array(X))
same("outputs, JAX and PyTorch", jax.vmap(mlp, (None, 0))(params, X), net(X_torch)[:, 0].detach().numpy())


# %%
def nested_autograd(x, create_graph=False):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    total = 0.0
    for i in range(x.shape[1]):
        (row,) = torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True, create_graph=create_graph)
        total = total + row[:, i]
    return total


def torch_func(x):
    return func.vmap(lambda point: func.hessian(lambda p: net(p)[0])(point).trace())(x).detach()


# %%
def product_loop(u, x):
    def add(i, total):
        unit = jnp.zeros_like(x).at[i].set(1.0)
        return total + jax.jvp(jax.grad(u), (x,), (unit,))[1][i]

    return lax.fori_loop(0, len(x), add, jnp.zeros((), x.dtype))


def batched(operator):  # (u, x) -> number, made a compiled function of weights and points
    return jax.jit(lambda params, X: jax.vmap(lambda x: operator(lambda z: mlp(params, z), x))(X))


ways = {
    "jax.hessian, trace": batched(lambda u, x: jnp.trace(jax.hessian(u)(x))),
    "Hessian-vector loop": batched(product_loop),
    "collapsed": batched(lambda u, x: taylor.laplacian(u, x, compress=False)),
    "collapsed, compressed": batched(taylor.laplacian),
}
reference = nested_autograd(X_torch).detach().numpy()
print("Laplacians at 32 points, each way and PyTorch's nested autograd:")
same("torch.func hessian", torch_func(X_torch).numpy(), reference)
for name, way in ways.items():
    same(name, way(params, X), reference)

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
contestants = {name: (way, params, X) for name, way in ways.items()}
contestants |= {"PyTorch nested autograd": (nested_autograd, X_torch), "torch.func hessian": (torch_func, X_torch)}
rounds = [{name: timing.seconds(*call) for name, call in contestants.items()} for _ in range(5)]
table = pd.DataFrame({"ms": 1e3 * pd.DataFrame(rounds).median()})
table["times slower"] = table["ms"] / table["ms"].min()
table["temporary MB"] = pd.Series(
    {name: way.lower(params, X).compile().memory_analysis().temp_size_in_bytes / 1e6 for name, way in ways.items()}
)
print(timing.environment())
table.sort_values("ms").round(2)


# %% [markdown]
# (torch runs on one thread here, XLA takes the cores it finds. PyTorch is eager: part of its time is Python.)
#
# ## 2 · Compression: the dimension drops out
#
# 100 directions enter a layer of width 32. Behind it every jet carries 100 first derivatives of 32 numbers.
# Write $h$ for the rest of the network, as a function of these 32 numbers, and $c_r$ for row $r$ of $C$ (100,
# 32), the derivatives along direction $r$. They are used only in $\sum_r D^2 h[c_r, c_r] = \sum_{ij}
# \partial_i \partial_j h\,(C^T C)_{ij}$: the *Gram matrix* $C^T C$ is all that counts. It is only 32 by 32,
# so its Cholesky factorisation gives an $F$ of 32 rows with $F^T F = C^T C$, and these can replace the 100.
#
# Three conditions: the order is 2; all directions have the same weight; and $C$ has a column for everything that
# depends on $x$ and is used later. That a weighted Laplacian can take any factor of its matrix, and so only as many
# directions as that has rank, is part of Dangel et al. To do it again in the middle of a program, wherever that is
# narrow, is ours. By hand, for the first layer $z = xW + b$, where $C = W$:

# %%
def by_gram(params, x):
    (w, b), *rest = params
    gram = w.T @ w  # (32, 32), sums over all 100 directions
    factor = jnp.linalg.cholesky(gram).T  # 32 rows, each a direction in the space of z; needs full rank
    return taylor.laplacian(lambda z: mlp(rest, jnp.tanh(z)), x @ w + b, factor, compress=False)


same("32 directions, 100 directions", jax.jit(jax.vmap(by_gram, (None, 0)))(params, X), reference)


# %% [markdown]
# `taylor.laplacian` looks for such a place by itself: after each equation it adds up the widths of the values
# that are still needed (complex ones count twice), and where they are narrower than the number of directions it puts
# in a factor. The factor of a *linear* first layer depends on no point, so under `vmap` it is computed once.
#
# Columns that depend on each other make the Gram matrix singular. It then gets a small multiple of the identity
# added, so unlike the line above it does not need full rank. What does that cost in float32? A digit or two, an error
# near 1e-5 in place of one below 1e-6: a first layer of 128 columns, then the same with every second column a copy of
# its neighbour. (`compress=False` has all digits, at the full price.) And what does compression save? Time against
# dimension, eight points.

# %% tags=["nbval-ignore-output"] volatile="rounding in float32"
def first_layer_error(weights):
    def f(x):
        return jnp.sin(x @ jnp.asarray(weights, x.dtype)).sum()

    at = jnp.asarray(rng.normal(size=(8, 256)))
    exact = jax.vmap(lambda x: taylor.laplacian(f, x, compress=False))(at)
    single = jax.vmap(lambda x: taylor.laplacian(f, x))(at.astype(jnp.float32))
    return float(abs(single - exact).max() / abs(exact).max())


independent = rng.normal(size=(256, 128)) / 16
errors = [first_layer_error(w) for w in (independent, independent[:, np.arange(128) // 2 * 2])]
print("relative error in float32, independent columns:", f"{errors[0]:.0e}")
print("relative error in float32, half of them copies:", f"{errors[1]:.0e}")
assert errors[0] < 1e-6 < errors[1] < 1e-4

# %% tags=["nbval-ignore-output"] volatile="milliseconds, and a picture of them" alt="Milliseconds for the exact Laplacian of a network of width 32 at eight points, against the dimension, both logarithmic. With all directions the time grows nearly in proportion to the dimension; compressed it starts no higher and grows more slowly, and at 4,000 takes a fraction of the other."
dimensions, times = (100, 1000, 4000), {"all directions": [], "compressed": []}
for d in dimensions:
    wide, few = carried(torch_mlp(d)), jnp.asarray(rng.normal(size=(8, d)))
    runs = {"all directions": ways["collapsed"], "compressed": ways["collapsed, compressed"]}
    results = [run(wide, few) for run in runs.values()]  # compiles
    same(f"d = {d}, all directions, compressed", *results)
    rounds = pd.DataFrame([{n: 1e3 * timing.seconds(run, wide, few) for n, run in runs.items()} for _ in range(7)])
    for name, milliseconds in rounds.median().items():
        times[name].append(milliseconds)
figure, axes = plt.subplots()
plots.lines(axes, dimensions, times, log="xy", xlabel="dimension d", ylabel="milliseconds, 8 points",
            title="Exact Laplacian of a network of width 32")  # fmt: skip
axes.set_xticks(dimensions)
plt.show()
print({name: np.round(milliseconds, 2).tolist() for name, milliseconds in times.items()})


# %% [markdown]
# The dimension is left in $W^T W$ and in the first layer itself, nowhere else. It does not always happen: a place is
# needed where all that depends on $x$ is narrower than the number of directions. Where it happens, a Cholesky
# factorisation shows in the program.
#
# **Predict.** Which of these are compressed: the network; the network times $1 - |x|^2$; a network that takes $x$ again
# in every layer; the network along 16 directions instead of 100?

# %%
def skip(x):
    w, b = params[0]
    hidden = jnp.tanh(jnp.concatenate([jnp.tanh(x @ w + b), x]) @ wider)
    return jnp.concatenate([hidden, x]) @ wider[:, 0]  # x is needed in every layer


def boundary(x):
    return (1 - x @ x) * mlp(params, x)


wider = jnp.asarray(rng.normal(size=(WIDTH + D, WIDTH)) / 10)
cases = {
    "network": (lambda x: mlp(params, x), None),
    "times 1 - |x|^2": (boundary, None),
    "wide skip connection": (skip, None),
    "network, 16 directions": (lambda x: mlp(params, x), jnp.arange(16)),
}
for name, (f, axes_) in cases.items():
    program = str(jax.make_jaxpr(lambda x, f=f, axes_=axes_: taylor.value_and_laplacian(f, x, axes_))(X[0]))
    print(f"{name:23} compressed: {'cholesky' in program}")


# %% [markdown]
# The product with $1 - |x|^2$ is fine, since that is one number, which can be computed first. The wide skip connection
# keeps $x$ alive to the end. And 16 directions are fewer than the width: nothing to gain.
#
# ## 3 · Mixed partial derivatives
#
# Jets give derivatives along lines. Along the diagonals, $D^2 f[(1, \pm 1)] = f_{xx} \pm 2 f_{xy} + f_{yy}$, so two
# second derivatives make a mixed one: $f_{xy} = \frac14 \big(D^2 f[(1, 1)] - D^2 f[(1, -1)]\big)$. The same works for
# every multi-index $i$ of order $k$: $\partial^i f$ is a weighted sum of $D^k f$ along the directions $i - 2j$,
# $0 \le j \le i$, one of each pair of opposites (*polarisation*; Kan, From moments of sum to moments of product, 2008,
# proposition 2).

# %%
def two(lib, x, y):
    return lib.sin(x) * lib.exp(x * y)


def f(z):
    return two(jnp, z[0], z[1])


z, tensors = jnp.array([0.3, -0.8]), (torch.tensor(0.3), torch.tensor(-0.8))
in_torch = func.grad(func.grad(lambda x, y: two(torch, x, y), 0), 1)
diagonal, other = (taylor.derivatives(f, z, jnp.array(v), order=2)[2] for v in ([1.0, 1.0], [1.0, -1.0]))
same("f_xy, two diagonals and torch.func", (diagonal - other) / 4, in_torch(*tensors).item())

steps, weights = taylor.interpolation((2, 1))
for step, weight in zip(steps, weights, strict=True):
    print(f"f_xxy: direction {step}, weight {weight:+.6f}")
mixed = sum(w * taylor.derivatives(f, z, step, order=3)[3] for step, w in zip(steps, weights, strict=True))
same("f_xxy, three lines and torch.func", mixed, func.grad(in_torch, 0)(*tensors).item())


# %% [markdown]
# It has a weakness. Let $y$ be measured in other units than $x$, so that $f_y$ is 30 times as large. Then the terms
# with many $y$ in them are huge, and have to cancel. Another way to $f_{xxxy}$ is one axis after the other.
#
# **Predict.** A float32 number has seven digits. How many of them are right in $f_{xxxy}$ along lines, and how many by
# one axis after the other?

# %% tags=["nbval-ignore-output"] volatile="rounding in float32"
def tilted(x):
    return jnp.tanh(x @ jnp.asarray(slopes, x.dtype)).sum()


def one_axis_after_the_other(x):  # a jet of order 3 along x, and a tangent of all of it along y
    along_x = lambda x: taylor.derivatives(tilted, x, jnp.array([1.0, 0.0], x.dtype), order=3)[3]  # noqa: E731
    return jax.jvp(along_x, (x,), (jnp.array([0.0, 1.0], x.dtype),))[1]


slopes = rng.normal(size=(2, 8)) * np.array([[1.0], [30.0]])
somewhere = jnp.asarray(rng.normal(size=(50, 2)) / np.array([1, 30]))
lines_, weights = taylor.interpolation((3, 1))
ways = {
    "lines": lambda x: taylor.weighted(tilted, x, lines_, weights, order=4),
    "axes": one_axis_after_the_other,
    "taylor.partial_derivative": lambda x: taylor.partial_derivative(tilted, x, (3, 1)),
}
exact = jax.jit(jax.vmap(ways["axes"]))(somewhere)
for name, way in ways.items():
    off = abs(jax.jit(jax.vmap(way))(somewhere.astype(jnp.float32)) - exact).max() / abs(exact).max()
    print(f"{name:26}relative error in float32 {off:.0e}")
    assert (1e-5 < off < 1e-2) if name == "lines" else off < 1e-5


# %% [markdown]
# Four digits along lines, six by axes. So `taylor.partial_derivative` takes one axis after the other: a jet along the
# first, of whose program it takes a jet along the second. Nothing cancels, and $(3 + 1)(1 + 1)$ coefficients are fewer
# than four jets of order 4. Products of operators come the same way: `taylor.biharmonic`, for $\Delta\Delta f$, is the
# Laplacian of the Laplacian (20).
#
# ## 4 · Transformations around it
#
# Propagating a jet is ordinary JAX. So `vmap` over points, `grad` by the weights and `jit` around it all work.
# This is how a network is trained on a differential equation: the gradient of a loss made of Laplacians. Nor need a
# point be one array, or the function a scalar: with `coordinates="all"` each entry of a pytree is a coordinate.

# %%
def loss(params, X):
    laplacians = jax.vmap(lambda x: taylor.laplacian(lambda z: mlp(params, z), x))(X)
    return (laplacians**2).mean()


value, grads = jax.jit(jax.value_and_grad(loss))(params, X[:4])
loss_torch = (nested_autograd(X_torch[:4], create_graph=True) ** 2).mean()
net.zero_grad()
loss_torch.backward()
same("loss, JAX and PyTorch", value, loss_torch.item())
same("gradient", grads[:-1], [(m.weight.grad.numpy().T, m.bias.grad.numpy()) for m in net[:-1:2]])
same("gradient by the last weights", grads[-1][0], net[-1].weight.grad.numpy().T)

parts = {"few": X[0, :40], "rest": X[0, 40:]}
values = lambda p: jnp.stack([mlp(params, jnp.concatenate([p["few"], p["rest"]])), p["few"] @ p["few"]])  # noqa: E731
both = jax.jit(lambda p: taylor.laplacian(values, p, coordinates="all"))(parts)
same("a dict as the point, two values", both, [reference[0], 2 * 40])


# %% [markdown]
# ## 5 · What it costs, and when not to use it
#
# First the size of programs. One direction, order $k$, a small network with `tanh`, `erf` or a quotient: the equations
# of nested `jvp`, `jet` and `course.taylor`.

# %%
def nested_jvp(f, x, v, order):
    for _ in range(order):
        f = lambda x, g=f: jax.jvp(g, (x,), (v,))[1]  # noqa: E731
    return f(x)


def by_jet(f, x, v, order):
    return jet.jet(f, (x,), ((v, *[jnp.zeros_like(v)] * (order - 1)),))[1][-1]


def by_taylor(f, x, v, order):
    return taylor.derivatives(f, x, v, order)[-1]


def deep(activation):  # three hidden layers of width 64
    def f(x):
        for _ in range(3):
            x = activation(x @ mix)
        return x @ mix[0]

    return f


def equations(method, f, order):
    return len(jax.make_jaxpr(lambda x, v: method(f, x, v, order))(at, mix[0]).eqns)


# %%
mix, at, orders = jnp.asarray(rng.normal(size=(64, 64)) / 8), jnp.ones(64) / 8, (2, 4, 6)
activations = {"tanh": jnp.tanh, "erf": jax.scipy.special.erf, "x / (1 + x²)": lambda x: x / (1 + x * x)}
methods = {"nested jvp": nested_jvp, "jet": by_jet, "course.taylor": by_taylor}
rows = {(a, n): [equations(m, deep(g), k) for k in orders] for a, g in activations.items() for n, m in methods.items()}
counts = pd.DataFrame(rows, index=pd.Index(orders, name="equations at order"))
for name in activations:
    assert (counts[name].iloc[1:].idxmin(axis=1) == "course.taylor").all()
counts


# %% [markdown]
# `nested jvp` multiplies its program with every order. The other two grow slowly, by recurrences (17), and from order 4
# on `course.taylor` is the shortest for each of the three.
#
# Then times, ours beside what one would write without: nested `jvp`, or the trace of `jax.hessian`. One line at orders
# 2 and 5; `softplus`, which has a rule of its own (`custom_jvp`), and a loop of 24 steps; a mixed partial derivative;
# Laplacians through that loop, with their gradient by the weights; of $\log|\det|$; and with section 2's wide skip.
#
# **Predict.** In which rows is Taylor mode clearly faster, and what do they have in common?

# %%
def recurrent(weights, x):
    step = lambda h, _: (jnp.tanh(h @ weights + x), None)  # noqa: E731
    return lax.scan(step, jnp.zeros_like(x), None, length=24)[0].sum()


def log_det(x):
    return jnp.linalg.slogdet(3 * jnp.eye(8) + x.reshape(8, 8))[1]


def nested_partial(f, x, powers):
    for unit, power in zip(jnp.eye(len(powers)), powers, strict=True):
        f = lambda x, g=f, v=unit, k=power: nested_jvp(g, x, v, k)  # noqa: E731
    return f(x)


def hessian_trace(f, x):
    return jnp.trace(jax.hessian(f)(x))


def sides(without, ours, *rest, f=None, gradient=False):  # two functions of weights and a point
    g = f or (lambda w, x: recurrent(w, x))
    runs = [lambda w, x, way=way: way(lambda x: g(w, x), x, *rest) for way in (without, ours)]
    return [jax.jit(jax.grad(run) if gradient else run) for run in runs]


# %%
def fixed(f):
    return lambda w, x: f(x)


lines_of, partials = (nested_jvp, by_taylor, mix[0]), (nested_partial, taylor.partial_derivative)
two_of = lambda w, x: deep(jnp.tanh)(at.at[:2].set(x))  # noqa: E731
contests = {
    "one line, order 2": (sides(*lines_of, 2, f=fixed(deep(jnp.tanh))), at),
    "one line, order 5": (sides(*lines_of, 5, f=fixed(deep(jnp.tanh))), at),
    "one line, order 4, softplus": (sides(*lines_of, 4, f=fixed(deep(jax.nn.softplus))), at),
    "one line, order 5, loop": (sides(*lines_of, 5), at),
    "mixed, u_xxyy": (sides(*partials, (2, 2), f=two_of), at[:2]),
    "Laplacian, loop, with gradient": (sides(hessian_trace, taylor.laplacian, gradient=True), at),
    "Laplacian, log |det|": (sides(hessian_trace, taylor.laplacian, f=fixed(log_det)), at),
    "Laplacian, wide skip": (sides(hessian_trace, taylor.laplacian, f=fixed(skip)), X[0]),
}
first = {name: [timing.seconds(run, mix / 4, x) for run in runs] for name, (runs, x) in contests.items()}  # compiles
for runs, x in contests.values():
    np.testing.assert_allclose(*(run(mix / 4, x) for run in runs), rtol=1e-8, atol=1e-10)
print("both sides agree in all", len(contests))

# %% tags=["nbval-ignore-output"] volatile="times"
rows = {}
for name, (runs, x) in contests.items():
    then = pd.DataFrame([[1e6 * timing.seconds(run, mix / 4, x) for run in runs] for _ in range(31)]).median()
    rows[name] = [*first[name], *then, then[0] / then[1]]
columns = ["first call without, s", "ours, s", "then without, µs", "ours, µs", "ours faster, times"]
times = pd.DataFrame(rows, index=columns).T
print(timing.environment())
times.round(2)

# %% [markdown]
# Where the factor is near 1, XLA has merged what nesting computes twice (16); what is saved is the size of programs.
# Through a loop Taylor mode wins clearly: there XLA merges nothing, and jets carry one series in place of $2^k$ values.
# Laplacians it computes at least as fast, since it carries their sum as one. With `softplus` it takes longer to compile
# than nesting: for a function with a rule of its own it has no recurrence, and sends jets through the program of the
# rule's derivative. So does the mixed derivative, a jet of jets.
#
# | you want | take | why not (more) Taylor mode |
# |---|---|---|
# | a first derivative | `grad`, or `jvp` along one direction | nothing to save |
# | one direction, low order | nested `jvp`, three lines | XLA merges what it repeats |
# | one direction, high order | `course.taylor` | `softplus` and other `custom_jvp` rules compile longer: measure |
# | one direction through a loop | `course.taylor` | at order 1, `jvp` |
# | a mixed partial derivative | `taylor.partial_derivative` | nested `jvp` compiles sooner; by lines it cancels |
# | the whole Hessian | `jax.hessian` | jets are for few directions, or for a sum |
# | a Laplacian, also through loops and linear algebra | `taylor.laplacian` | wide skips stop compression |
#
# (Where each value depends on few coordinates, as in wave functions of many electrons, `taylor.laplacian` carries only
# those first derivatives; [folx](https://github.com/microsoft/folx) does so, too.)
#
# ## Summary
#
# - For a sum of *second* derivatives, first-order coefficients matter only through their Gram matrix, so a narrow layer
#   makes the dimension drop out.
# - Mixed partials are jets of jets; along lines they are sums of large terms that cancel.
# - For one direction without a loop nested `jvp` runs as fast, in a longer program; loops and Laplacians are where jets
#   win.
#
# ## Further reading
#
# - [Collapsing Taylor mode](https://arxiv.org/abs/2505.13644): Dangel et al. (NeurIPS 2025); weighted Laplacians, and
#   measurements in PyTorch.
# - [Forward Laplacian](https://arxiv.org/abs/2307.08214): Li et al. (2024); Laplacians of wave functions.
# - [folx](https://github.com/microsoft/folx): the forward Laplacian in JAX, with sparse first derivatives.
#
# Exercises: [your turn](exercises/17b_jets_at_work.ipynb).
#
# Next: [18 · STDE](18_stde.ipynb): when even a sum over all directions is too much, draw some at random.
