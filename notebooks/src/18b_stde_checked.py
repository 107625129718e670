# %% [markdown]
# # 18b · STDE, checked
#
# **Do the published jets and speed-ups hold, and when is an exact method better?** (65 minutes)

# %% [markdown]
# After this lesson you can
#
# - evaluate an operator with mixed derivatives in several ways, and say what each costs,
# - let a machine check a table of jets that was made by hand,
# - say what the published speed-ups compare, and when an exact method is the better choice.
#
# "The paper" is that of lesson 18: Shi et al., *Stochastic Taylor Derivative Estimator* (NeurIPS 2024,
# [arXiv](https://arxiv.org/abs/2412.00088)).

# %%
from functools import partial
from itertools import product
from math import factorial, prod

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jax import lax
from jax.experimental import jet
from torch import func

from course import plots, results, stde, taylor, timing
from course.stde import Operator

# %%
SEED, WIDTH = 0, 64
jax.config.update("jax_enable_x64", True)  # float64: exact methods agree to 1e-10, order 13 does not drown in rounding
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plots.use()
rng = np.random.default_rng(SEED)


def same(what, ours, reference, tolerance=1e-10):  # prints the first two numbers of each side
    a, b = np.ravel(ours), np.ravel(reference)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    shown = [", ".join(f"{value:.6g}" for value in side[:2]) + " …" * (len(side) > 2) for side in (a, b)]
    print(f"{what}: {shown[0]} and {shown[1]}, gap below {tolerance:g}")


def mapped(function, x, batch):  # over axes or directions; x is an argument, not a constant for XLA to fold
    return np.asarray(jax.jit(jax.vmap(function, (None, 0)))(x, batch))


def unbiased(what, draws, exact):
    error = draws.std(ddof=1) / len(draws) ** 0.5  # of the mean
    off = abs(draws.mean() - exact) / error
    assert off < 4  # chance: 1 in 16,000
    print(f"{what}: mean {draws.mean():.3f} ± {error:.3f}, exact {exact:.3f}: {off:.1f} standard errors off")


# %% [markdown]
# ## 1 · Any operator
#
# `Operator` takes multi-indices and coefficients, numbers or functions of the point. Operators can be added and scaled.
# Here is the linear part of the two-dimensional Korteweg-de Vries equation over $(t, x, y)$:
# $u_{ty} + u_{xxxy} + 2u_{yy} - u_{xx}$.
#
# A term like $u_{xxxy}$ is a *mixed* partial derivative. No table of special jets is needed: a jet of order 3 along $x$
# goes through the program, its coefficients carrying a jet of order 1 along $y$ (`taylor.partial_derivative`, 17b). In
# high dimension `estimate` draws some terms of each *kind* of terms, of the $u_{iij}$ say (18).

# %%
KDV = Operator({(1, 0, 1): 1.0, (0, 3, 1): 1.0}) + 2.0 * Operator({(0, 0, 2): 1.0}) + Operator({(0, 2, 0): -1.0})
terms, z, point = {"ty": 1.0, "xxxy": 1.0, "yy": 2.0, "xx": -1.0}, (0.4, 0.7, -0.3), jnp.array((0.4, 0.7, -0.3))


def field(t, x, y, lib=jnp):
    return lib.sin(x * y) * lib.exp(t * y) + lib.exp(x - y * t)


def nested(f, names, grad):
    for name in names:
        f = grad(f, "txy".index(name))
    return f


def by_jax(z):
    by_grad = sum(c * nested(field, names, jax.grad)(*z) for names, c in terms.items())
    return by_grad, *(stde.apply(operator, lambda z: field(*z), z) for operator in (KDV, stde.kdv_2d()))


tensors, in_torch = [torch.tensor(each) for each in z], lambda t, x, y: field(t, x, y, torch)
by_torch = sum(c * nested(in_torch, names, func.grad)(*tensors).item() for names, c in terms.items())
by_grad, ours, ready = jax.jit(by_jax)(point)
print(KDV)
same("apply and nested torch.func.grad, jax.grad", [ours] * 2, [by_torch, by_grad])
same("stde.kdv_2d() and the same", ready, by_torch)

# %% [markdown]
# ## 2 · One jet with gaps, and why to check by machine
#
# The paper gets mixed derivatives another way: one jet of high order, whose input has tangents at a few orders only.
# For KdV it is order 13 with $e_x$ at 3, $e_y$ at 4, $e_t$ at 7. The paper's table of jets says what its output holds,
# for example
#
# | order | 6 | 7 | 11 | 13 |
# |---|---|---|---|---|
# | said to be | $u_{xx}$ | $35\,u_{xy}$ | $330\,u_{ty}$ | $200200\,u_{xxxy}$ |

# %% alt="Two rows of thirteen numbered squares, orders 1 to 13, in and out. In the upper row 3, 4 and 7 are marked, with e x, e y and e t above them. In the lower row all are marked but 1, 2 and 5. Arrows lead from 3 to 6, from 3 and from 4 to 7, and from 7 to 7."
orders, tangents, middle = np.arange(1, 14), {3: "x", 4: "y", 7: "t"}, 4.4
reached = {3 * x + 4 * y + 7 * t for x, y, t in product(range(5), range(4), range(2))} & set(orders.tolist())
diagram = plots.Diagram(height=2.3)
for y, name, marked in ((1.65, "in", list(tangents)), (0.45, "out", list(reached))):
    diagram.cells(middle, y, orders, side="jax", size=0.5, marked=np.isin(orders, marked))
    diagram.note(0.6, y, name)
for order, name in tangents.items():
    diagram.note(middle + (order - 7) * 0.5, 2.08, f"$e_{name}$")
for start, end in ((3, 6), (3, 7), (4, 7), (7, 7)):
    diagram.arrow((middle + (start - 7) * 0.5, 1.42), (middle + (end - 7) * 0.5, 0.7))
diagram.note(6.0, 1.04, "6 = 3 + 3;  7 = 7 and 7 = 3 + 4")
plt.show()
print("orders that hold something:", *sorted(reached))


# %% [markdown]
# By Faà di Bruno (17) the output at order $k$ has one term for each way to write $k$ as a sum of 3, 4 and 7. Its
# factor is $k!\,/ \prod_o (o!)^{m_o} m_o!$ where order $o$ is used $m_o$ times. So $13 = 3 + 3 + 3 + 4$ gives
# $u_{xxxy}$. Let the machine enumerate the ways:

# %%
def contents(k, slots):
    """Which partial derivatives the k-th output has, and how many times: {"xxxy": 200200, ...}."""
    found = {}
    for uses in product(*(range(k // order + 1) for order in slots)):
        if sum(m * order for m, order in zip(uses, slots, strict=True)) == k:
            ways = prod(factorial(order) ** m * factorial(m) for m, order in zip(uses, slots, strict=True))
            found["".join(name * m for m, name in zip(uses, slots.values(), strict=True))] = factorial(k) // ways
    return found


def gapped(slots, length, z, sign_of_t, f=field):
    signs = {"t": sign_of_t, "x": 1.0, "y": 1.0}
    tangents = [[signs[n] * (slots.get(k) == n) for k in range(1, length + 1)] for n in "txy"]
    return jnp.stack(jet.jet(f, z, tangents)[1])


slots, slots9 = {7: "t", 3: "x", 4: "y"}, {2: "x", 3: "y"}
print("orders 3, 6, 7:", *(contents(k, slots) for k in (3, 6, 7)))

# %% [markdown]
# $J_7$ holds $u_t$ beside $u_{xy}$. Now all orders, confirmed by `jet` and nested `grad`.
#
# **Predict.** Does the output of order 13 hold $u_{xxxy}$ alone, as the table has it?

# %%
names = {name for k in range(1, 14) for name in contents(k, slots)}
partials = jax.jit(lambda z: {n: nested(field, n, jax.grad)(*z) for n in names})(point)
jet13 = jax.jit(partial(gapped, slots, 13))
J, mirrored, J9 = jet13(z, 1.0), jet13(z, -1.0), jax.jit(partial(gapped, slots9, 9))(z, 1.0)[-1]
partials, J, mirrored, J9 = jax.tree.map(np.array, (partials, J, mirrored, J9))
for k in range(1, 14):
    if found := contents(k, slots):
        text = " + ".join(f"{c} u_{n}" for n, c in found.items())
        same(f"J{k:<2} and {text}", J[k - 1], sum(c * partials[n] for n, c in found.items()))

# %% [markdown]
# No: $13 = 3 + 3 + 7$ as well. $J_3$, $J_4$, $J_6$, $J_8$ and $J_9$ hold one derivative each, $J_6$ with a factor 10
# that the table leaves out. $J_7$, $J_{11}$ and $J_{13}$ hold two: no factor turns one of them into $u_{xy}$, $u_{ty}$
# or $u_{xxxy}$. As we read it, the hand-made table slips at all four places; and the paper's 9-jet with $e_x$ at 2 and
# $e_y$ at 3 (equation 66) has 840 $u_{xxxy}$ where 1260 belong. Where a term uses $e_t$ an odd number of times, a
# second jet with $-e_t$ separates it:

# %%
for k, name, slip in ((6, "xx", 1), (7, "xy", 35), (11, "ty", 330), (13, "xxxy", 200200)):
    said, true = J[k - 1] / slip, partials[name]
    factor, pair = contents(k, slots)[name], J - mirrored if "t" in name else J + mirrored
    read = pair[k - 1] / 2 / factor  # where no t is in the way, the pair is twice the one jet
    assert abs(said - true) > 1e-3 * abs(true) and abs(read - true) < 1e-10 * abs(true)
    print(f"u_{name:4} {true:9.6f}: J{k} / {slip} is {said:.6f}, and two jets / {factor} give {read:.6f}")

nine = contents(9, slots9)
slipped = 840 * partials["xxxy"] + 280 * partials["yyy"]
assert abs(slipped - J9) > 1e-3 * abs(J9)
print(f"9-jet: {J9:.4f}; with 840 u_xxxy it would be {slipped:.4f}")
same(f"9-jet and {nine}", J9, sum(c * partials[n] for n, c in nine.items()))

# %% [markdown]
# So the whole operator takes two jets of order 13. Eight small ones do it too: four of order 4 along lines in the plane
# $(x, y)$ for $u_{xxxy}$ (17b), four of order 2 for the rest. A network at 100 points:

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
hidden, output = rng.normal(size=(3, WIDTH)), rng.normal(size=(WIDTH, WIDTH)) / 8
batch, pairs = jnp.asarray(rng.normal(size=(100, 3))), jnp.array([(1.0, 0, 1), (1, 0, -1), (0, 0, 1), (0, 1, 0)])
lines, by_line = taylor.interpolation((3, 1))  # (4, 2) and (4,), in the plane (x, y)


def net(z):
    return jnp.tanh(jnp.tanh(z @ hidden) @ output).sum()


def two_of_order_13(z):
    one, other = (gapped(slots, 13, tuple(z), sign, lambda *z: net(jnp.stack(z))) for sign in (1.0, -1.0))
    return (one - other)[10] / 660 + (one + other)[12] / 400400 + 2 * one[7] / 35 - one[5] / 10


def eight_small(z):
    second = taylor.weighted(net, z, pairs, jnp.array([0.25, -0.25, 2.0, -1.0]), order=2)  # u_ty + 2 u_yy - u_xx
    return second + taylor.weighted(net, z, np.insert(lines, 0, 0, axis=1), by_line, order=4)


three = {"two of order 13": two_of_order_13, "eight small": eight_small, "stde.apply": partial(stde.apply, KDV, net)}
three = {name: jax.jit(jax.vmap(way)) for name, way in three.items()}
times = {name: timing.measure(way, batch, repeats=7) for name, way in three.items()}
one, *others = (way(batch) for way in three.values())
same("two of order 13 and the others", np.tile(one, 2), np.ravel(others), 1e-8)
pd.DataFrame({n: {"first call, s": t.first_s, "then, ms": 1e3 * t.steady_s} for n, t in times.items()}).T.round(2)

# %% [markdown]
# Two jets of order 13 take several times as long as eight small ones, and much longer still at the first call: a jet of
# high order is a long program to compile.
#
# The paper has more of them: a 5-jet for $u_{tx}$, 7-jets for KdV with the gradient of its residual (20), a 9-jet for
# $u_{xxxy}$. `benchmarks/jets_by_hand.py` writes each as a user would have to, with `jax.experimental.jet` and the
# right factors, beside what the package derives: same numbers in float64, then both timed in turn in float32, at 128
# points.

# %%
by_hand = results.load("jets_by_hand")
print(results.measured_on(by_hand))
table = results.table(by_hand, "hand-made jets")
ratios = {
    "value": table["value_ratio"],
    "gradient": table["gradient_ratio"],
    "compiling": table["gradient_compile_s_by_hand"] / table["gradient_compile_s_derived"],
    "lines": table["lines_by_hand"] / table["lines_derived"],
    "float32 error": table["float32_error_by_hand"] / table["float32_error_derived"],
}
print("by hand, over derived")
pd.DataFrame(ratios).map("{:.2g}".format)


# %% [markdown]
# Time of the values, of a gradient by the weights, and of compiling it; lines of code; and the error in float32. Above
# 1 the hand-made jet is the worse one. It is in nearly every place, the values of order 13 most of all: the work of a
# jet grows like the square of its order (17), and the big factors cancel digits. Each of its lines has factors besides,
# and those are what slipped in the paper.
#
# ## 3 · "1000 times faster": than what?
#
# The paper reports more than 1000 times the speed and less than a 30th of the memory. In its tables of speed and of
# memory, at 100,000 dimensions on an A100, that is 283 against 0.23 iterations a second, and 1,063 against 32,777 MB:
# JAX with 16 samples against a PyTorch loop in Python. Like for like (JAX on both sides, 100 samples) the same tables
# give 5.4 times the speed and 4.6 times less memory.
#
# Here is the comparison in small, on a network with two hidden layers. First, that all say the same.

# %%
def network(d):
    torch.manual_seed(SEED)
    parts = [part for i in (d, WIDTH) for part in (torch.nn.Linear(i, WIDTH), torch.nn.Tanh())]
    net = torch.nn.Sequential(*parts, torch.nn.Linear(WIDTH, 1))  # torch stores weights as (out, in)
    return net, [tuple(jnp.asarray(each.detach().numpy().T) for each in (m.weight, m.bias)) for m in net[::2]]


def mlp(params, x):
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    return (x @ params[-1][0] + params[-1][1])[0]


def loop(f, x, axes):
    def one(axis):  # a Hessian-vector product
        unit = jnp.zeros_like(x).at[axis].set(1.0)
        return jax.jvp(jax.grad(f), (x,), (unit,))[1][axis]

    return lax.map(one, axes).sum()


def python_loop(net, x, axes):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(slope[i], x, retain_graph=True)[0][i] for i in axes)


# %%
def compiled(way):  # way: (f, x, draw) -> number; made a function of the weights
    return jax.jit(lambda params, x, draw: way(lambda z: mlp(params, z), x, draw))


def jets(f, x, draw):  # stde.estimate behind its draw of axes, or of directions
    scale = len(x) / 16 if draw.ndim == 1 else 1 / 16
    return taylor.weighted(f, x, draw, jnp.full(16, scale), order=2)


ALL, SPARSE = "Hessian-vector loop, all d", "sparse jets, 16 of d"
EXACT, DRAWN = "exact, compressed (17b)", "Hessian-vector loop, 16 of d"
ways = {
    ALL: compiled(lambda f, x, _: loop(f, x, jnp.arange(len(x)))),
    EXACT: compiled(lambda f, x, _: taylor.laplacian(f, x)),
    DRAWN: compiled(lambda f, x, axes: len(x) / 16 * loop(f, x, axes)),
    SPARSE: compiled(jets),
}
net, params = network(250)
point, axes = jnp.asarray(rng.normal(size=250)), rng.choice(250, 16, replace=False)
values = {name: way(params, point, axes) for name, way in ways.items()}
by_torch = python_loop(net, torch.from_numpy(np.array(point)), range(250)).item()
same("d = 250, JAX loop, compressed jets and PyTorch loop", [values[ALL], values[EXACT]], [by_torch] * 2)
same("same 16 axes, Hessian-vector products and sparse jets", values[DRAWN], values[SPARSE])

# %% [markdown]
# **Predict.** For 1,000 dimensions, sparse jets on 16 of them are hundreds of times faster than a PyTorch loop over
# all. How many times faster are they than a JAX loop over the same 16?

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
table = {}
for d in (250, 1000):
    net, params = network(d)
    point, axes = jnp.asarray(np.random.default_rng(d).normal(size=d)), rng.choice(d, 16, replace=False)
    calls = {name: (way, params, point, axes) for name, way in ways.items()}
    for call in calls.values():
        call[0](*call[1:])  # compiles
    rounds = [{name: 1e3 * timing.seconds(*call) for name, call in calls.items()} for _ in range(3)]
    milliseconds = pd.DataFrame(rounds).median()
    at = torch.from_numpy(np.array(point))
    python_loop(net, at, range(10))  # warms up
    milliseconds["PyTorch loop, all d"] = 1e3 * timing.seconds(python_loop, net, at, range(d))
    table[f"d = {d}, ms"] = milliseconds
table = pd.DataFrame(table).sort_values("d = 1000, ms", ascending=False)
for d in (250, 1000):
    ms = table[f"d = {d}, ms"]
    print(f"d = {d}: sparse jets against PyTorch loop over all {ms['PyTorch loop, all d'] / ms[SPARSE]:.0f} x, "
          f"against JAX loop over all {ms[ALL] / ms[SPARSE]:.0f} x, against JAX loop over the same 16 "
          f"{ms[DRAWN] / ms[SPARSE]:.1f} x")  # fmt: skip
print(timing.environment())
table.round(3)

# %% tags=["nbval-ignore-output"] volatile="milliseconds, and XLA's memory"
ways["jax.hessian, trace"] = compiled(lambda f, x, _: jnp.trace(jax.hessian(f)(x)))
ways["Rademacher, 16"], signs = ways[SPARSE], rng.choice((-1.0, 1.0), (16, 1000))
ways["biharmonic, exact"] = compiled(lambda f, x, _: taylor.biharmonic(f, x))
ways["biharmonic, 16 directions"] = compiled(lambda f, x, v: taylor.weighted(f, x, v, jnp.full(16, 1 / 48), order=4))
(_, params), point, rows = network(1000), jnp.asarray(rng.normal(size=1000)), {}
for name in ("jax.hessian, trace", EXACT, "Rademacher, 16", "biharmonic, exact", "biharmonic, 16 directions"):
    by_weights = jax.jit(jax.grad(ways[name])).lower(params, point, signs).compile()
    milliseconds = 1e3 * timing.measure(by_weights, params, point, signs, repeats=3).steady_s
    megabytes = by_weights.memory_analysis().temp_size_in_bytes / 1e6
    rows[name] = {"ms": milliseconds, "temporary MB": megabytes}
table = pd.DataFrame(rows).T
sample = ["Rademacher, 16"] * 3 + ["biharmonic, 16 directions"] * 2
table["times the MB of 16 directions"] = table["temporary MB"] / table["temporary MB"][sample].to_numpy()
print("gradient of the Laplacian, and of the biharmonic, by the weights, d = 1000")
table.round(2)

# %% [markdown]
# The large numbers compare a loop over all $d$ coordinates, which is exact, with 16 of them, which is a
# sample. Of course that ratio grows with $d$; it says how much less was *asked for*. It is not the same
# product. The last ratio, a few times and not a thousand, has the same 16 numbers on both sides, but one side takes
# them one after another (`lax.map`) and the other all at once: part of it is batching, not jets. Of the first one, part
# is Python and PyTorch being eager. The memory is a full Hessian against 16 directions, again two different products.
#
# ## 4 · The exact rival
#
# Both tables have a row "exact, compressed". The first layer of a network is linear, so the Laplacian over $d$ inputs
# is a weighted one over its few outputs, and `taylor.laplacian` finds that by itself (17b). At one point it costs
# several times as much as a sample of 16, and more at the larger size: $W^\top W$ grows with $d$. A batch of points
# shares it and its factorisation. What does the sample lose against it?

# %%
d = 1000
net, params = network(d)
f, point = lambda x: mlp(params, x), jnp.asarray(np.random.default_rng(d).normal(size=d))
axes = np.array([rng.choice(d, 16, replace=False) for _ in range(400)])
truth, looped = (ways[name](params, point, axes[0]).item() for name in (EXACT, ALL))
draws = mapped(lambda x, axes: jets(f, x, axes), point, axes)
loss = draws.std() / abs(truth)
unbiased("16 of 1000, over the exact", draws / truth, 1.0)
print(f"standard deviation of one estimate: {100 * loss:.0f} % of the Laplacian")
assert abs(truth - looped) < 1e-10 * abs(looped)
print(f"exact {truth:.9f}, loop over all {looped:.9f}, gap below 1e-10 of it")
for percent in (10, 1):
    inverse = (1 / 16 - 1 / d) * (percent / 100 / loss) ** 2 + 1 / d  # the variance goes with 1 / S - 1 / d
    print(f"coordinates for a standard deviation of {percent} %: about {1 / inverse:.0f} of {d}")

# %% [markdown]
# One more digit wants most of the coordinates. So for plain networks with a narrow first layer exact wins, unless 16
# terms are accurate enough.
#
# The compression is for second order, and $\Delta\Delta$ has order 4 and $d^2/2$ terms. But it is the Laplacian of the
# Laplacian, and both of these compress. `taylor.biharmonic` does that, and `stde.apply(stde.biharmonic(d), …)` too:

# %%
small_net, small_params = network(40)
small, at = lambda x: mlp(small_params, x), jnp.asarray(rng.normal(size=40))
hvp_loop = lambda f, x: loop(f, x, jnp.arange(len(x)))  # noqa: E731
twice, by_loops = jax.jit(lambda x: (taylor.biharmonic(small, x), hvp_loop(lambda z: hvp_loop(small, z), x)))(at)
same("d = 40, biharmonic by jets and by 1,600 nested Hessian-vector products", twice, by_loops)

truth = jax.jit(lambda x: taylor.biharmonic(f, x))(point)
lines = rng.normal(size=(200, 16, d))
draws = mapped(lambda x, v: taylor.weighted(f, x, v, jnp.full(16, 1 / 48), order=4), point, lines)
unbiased("16 Gaussian directions, over the exact", draws / truth, 1.0)
print(f"d = 1000: standard deviation of one estimate: {100 * draws.std() / abs(truth):.0f} % of the biharmonic")

# %% [markdown]
# (Its milliseconds stand in section 3, in the table of gradients.) Sampling earns its place where neither applies:
#
# - *operators that are not made of Laplacians*: a sum of pure fourth derivatives, or of $c_{ij}\,u_{iij}$ with a full
#   table of coefficients, has no exact short cut here; a sparse sample costs as many jets as it has terms, and pure
#   derivatives of any order can be drawn along roots of unity (18),
# - *skip connections* that keep $x$ alive through the network (17b),
# - *memory*: for the gradient by the weights the exact way wants several times that of 16 directions, for
#   $\Delta\Delta$ about two hundred times (the same table), and with a wide first layer it has more directions to take.
#
# ## Summary
#
# - Mixed derivatives need no table of special jets: small jets and jets of jets do, at a fraction of the cost of
#   order 13.
# - Hand-made tables of factors slip. A dozen lines enumerate the ways to write an order as a sum, and nested `grad` in
#   float64 confirms them.
# - A sample is not the operator: compare methods at equal output. For Laplacians of plain networks, and powers of them,
#   there is an exact way, at one point for several times the price of 16 samples; it needs a narrow place in the
#   program.
#
# ## Further reading
#
# - [Stochastic Taylor Derivative Estimator](https://arxiv.org/abs/2412.00088): Shi et al. (NeurIPS 2024); with the
#   tables of speed, of memory and of jets that this lesson checks.
# - [The authors' code](https://github.com/sail-sg/stde): the paper's experiments, in JAX.
# - [Collapsing Taylor mode](https://arxiv.org/abs/2505.13644): Dangel et al. (NeurIPS 2025); weighted Laplacians by as
#   many directions as their matrix has rank.
#
# Exercises: [your turn](exercises/18b_stde_checked.ipynb).
#
# Next: [19 · A million dimensions](19_million_dimensions.ipynb): train on such estimates, in very many
# dimensions.
