# %% [markdown]
# # 18 · STDE
#
# **Can a few random jets stand for a whole differential operator?** (45 minutes)

# %% [markdown]
# After this lesson you can
#
# - write a differential operator as a contraction of derivative tensors, and estimate it without bias from a few
#   random terms or directions,
# - predict the variance of each estimator from the Hessian, and pick the one that suits a function,
# - build an unbiased estimator for an operator of your own and test it,
# - say what the published speed-ups compare, and when an exact method is the better choice.
#
# STDE is the *stochastic Taylor derivative estimator* of Shi, Hu, Lin and Kawaguchi (NeurIPS 2024,
# [arXiv](https://arxiv.org/abs/2412.00088), [code](https://github.com/sail-sg/stde)), "the paper" below.

# %%
from functools import partial
from itertools import combinations_with_replacement, product
from math import comb, factorial, prod

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jax import lax
from jax.experimental import jet
from torch import func

from course import plots, stde, taylor, timing
from course.stde import Operator

# %%
SEED, D, KEYS, WIDTH = 0, 16, 2000, 64
jax.config.update("jax_enable_x64", True)  # float64: exact methods agree to 1e-10, order 13 does not drown in rounding
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plots.use()
rng, keys = np.random.default_rng(SEED), jax.random.split(jax.random.key(SEED), KEYS)


def same(what, ours, reference, tolerance=1e-10):
    np.testing.assert_allclose(ours, reference, rtol=tolerance, atol=tolerance)
    print(f"{what}  ok")


def mapped(function, x, batch):  # over axes or directions; x is an argument, not a constant for XLA to fold
    return np.asarray(jax.jit(jax.vmap(function, (None, 0)))(x, batch))


def unbiased(what, draws, exact):
    error = draws.std(ddof=1) / len(draws) ** 0.5  # of the mean
    off = abs(draws.mean() - exact) / error
    assert off < 4  # chance: 1 in 16,000
    print(f"{what:26} mean {draws.mean():8.3f} ± {error:.3f}, exact {exact:8.3f}: {off:.1f} standard errors off  ok")


# %% [markdown]
# ## 1 · An operator is a contraction
#
# A linear differential operator is a sum of terms $c_a D^a u$. The multi-index $a$ says how often each coordinate is
# differentiated. Seen otherwise: all derivatives of order $k$ form a tensor with $d^k$ entries, the $c_a$ form
# another, and the operator is the sum of their products, entry by entry. The Laplacian is the Hessian contracted with
# the identity. A jet along $v$ (17) is also a contraction: with $v \otimes \dots \otimes v$.

# %%
A = rng.normal(size=(D, D)) / 4
A_torch = torch.from_numpy(A)


def u(x, lib=jnp, a=A):
    return lib.tanh(x @ a).sum() + lib.sin(2 * x).sum()


x, v = jnp.asarray(rng.normal(size=D)), jnp.asarray(rng.normal(size=D))
x_torch = torch.from_numpy(np.array(x))
hessian, third, line, exact = jax.jit(
    lambda x: (jax.hessian(u)(x), jax.jacfwd(jax.hessian(u))(x), taylor.derivatives(u, x, v, 3), taylor.laplacian(u, x))
)(x)

same("the Hessian, JAX and PyTorch", hessian, func.hessian(lambda x: u(x, torch, A_torch))(x_torch).numpy())
same("Laplacian: Hessian times identity", np.sum(hessian * np.eye(D)), exact)
same("second jet: Hessian times v v", np.einsum("ij,i,j", hessian, v, v), line[2])
same("third jet: third tensor times v v v", np.einsum("ijk,i,j,k", third, v, v, v), line[3])

# %% [markdown]
# The tensor cannot be had: it has $d^k$ entries. An exact method that takes the terms one by one needs $d$
# derivatives for a Laplacian, about $d^2/2$ for the biharmonic operator $\Delta\Delta$, and more than $d^k /
# k!$ for a full tensor of coefficients. (If the function has structure, fewer do: 17, and section 10.)

# %%
sizes = (10, 1_000, 100_000)
counts = {
    "Laplacian": [d for d in sizes],
    "biharmonic": [d * (d + 1) // 2 for d in sizes],
    "all of order 3": [comb(d + 2, 3) for d in sizes],
    "entries of the order-3 tensor": [d**3 for d in sizes],
}
assert sum(map(len, stde.biharmonic(10).kinds)) == counts["biharmonic"][0]
assert len(list(combinations_with_replacement(range(10), 3))) == counts["all of order 3"][0]
pd.DataFrame(counts, index=[f"d = {d:,}" for d in sizes]).map("{:.1e}".format).T


# %% [markdown]
# A training loop evaluates its operator at new points in each step and averages anyway. So it can live with an
# estimate that is right *on average*.
#
# ## 2 · Sparse: draw some of the terms
#
# Draw $S$ of the $n$ terms at random, add them up, multiply by $n / S$. Each term is picked equally often, so
# the mean is the whole sum. For the Laplacian the terms are coordinates, and a second-order jet along a coordinate axis
# gives $u_{ii}$:

# %%
def sparse_by_hand(f, x, axes):
    def second(axis):
        v = jnp.zeros_like(x).at[axis].set(1.0)
        return jet.jet(f, (x,), ((v, jnp.zeros_like(x)),))[1][1]

    return len(x) / len(axes) * jax.vmap(second)(axes).sum()


def sparse_torch(x, axes):  # PyTorch: Hessian-vector products with the same unit vectors
    slope = func.grad(lambda x: u(x, torch, A_torch))
    units = torch.eye(D)[axes]
    rows = [func.jvp(slope, (x,), (unit,))[1] @ unit for unit in units]
    return D / len(axes) * torch.stack(rows).sum()


axes = rng.integers(0, D, (KEYS, 4))
draws = mapped(lambda x, axes: sparse_by_hand(u, x, axes), x, axes)
same("same axes, JAX and PyTorch", draws[0], sparse_torch(x_torch, axes[0]).item())
unbiased("by hand, 4 of 16", draws, exact)
print(f"without the factor d: mean {draws.mean() / D:.3f}, exact {exact:.3f}")

# %% [markdown]
# (That factor is missing in the paper's equation 88.) The package does it for any `Operator`. Its default
# draws *without* replacement, and it carries one collapsed top coefficient for all drawn directions (17).
# The draw comes from a key, so it can be part of a jitted training step.

# %%
LAPLACIAN = stde.laplacian(D)


@partial(jax.jit, static_argnums=(0, 1, 3), static_argnames=("dense", "replace"))  # compiled once for each of these
def estimates(operator, f, x, samples, keys, **how):
    return jax.vmap(lambda key: stde.estimate(operator, f, x, key, samples, **how))(keys)


def many(operator, f, x, samples, keys=keys, **how):
    return np.asarray(estimates(operator, f, x, samples, keys, **how))


four = many(LAPLACIAN, u, x, 4)
unbiased("estimate, 4 of 16", four, exact)
same("16 of 16 is the Laplacian, for any key", many(LAPLACIAN, u, x, D, keys[:3]), jnp.full(3, exact))


# %% [markdown]
# ## 3 · Dense: random directions
#
# Any random $v$ with $E\,v v^\top = I$ will do as well, because
# $E\,v^\top H v = \mathrm{tr}(H\,E\,v v^\top)$. Two choices: independent signs (*Rademacher*) and independent normals
# (*Gaussian*). At order 2 this is Hutchinson's trace estimator, long in use with Hessian-vector products. In PyTorch
# it comes as a double backward pass or as a `jvp` of a gradient. Equal directions give equal numbers:

# %%
def dense_by_hand(f, x, directions):
    return jax.vmap(lambda v: taylor.derivatives(f, x, v, order=2)[2])(directions).mean()


def hutchinson(x, directions):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(u(x, torch, A_torch), x, create_graph=True)
    products = [torch.autograd.grad(slope @ v, x, retain_graph=True)[0] @ v for v in directions]
    return torch.stack(products).mean()


def hutchinson_func(x, directions):
    slope = func.grad(lambda x: u(x, torch, A_torch))
    return torch.stack([func.jvp(slope, (x,), (v,))[1] @ v for v in directions]).mean()


shape = (KEYS, 4, D)
for law, v in {"rademacher": rng.choice((-1.0, 1.0), shape), "gaussian": rng.normal(size=shape)}.items():
    off = abs(np.einsum("nsi,nsj->ij", v, v) / (4 * KEYS) - np.eye(D)).max()
    print(f"{law}: mean of v v^T is I within {off:.2f}, v_i^2 varies by {(v**2).std():.2f}")
    draws, few = mapped(lambda x, v: dense_by_hand(u, x, v), x, v), torch.from_numpy(v[0])
    same("torch.autograd, torch.func", [draws[0]] * 2, [h(x_torch, few).item() for h in (hutchinson, hutchinson_func)])
    unbiased("by hand, 4 directions", draws, exact)

# %% [markdown]
# ## 4 · How far off is one estimate?
#
# All are right on average. They differ in variance, and at order 2 the Hessian $H$ gives it in closed form.
# With $S$ samples of $d$ coordinates:
#
# | estimator | variance |
# |---|---|
# | sparse, with replacement | $\frac{d^2}{S}\,\mathrm{var}(H_{ii})$ |
# | sparse, without | $\frac{d^2}{S}\,\mathrm{var}(H_{ii}) \left(1 - \frac{S}{d}\right)$, `ddof=1` |
# | Rademacher | $\frac{2}{S} \sum_{i \ne j} H_{ij}^2$ |
# | Gaussian | $\frac{2}{S} \sum_{ij} H_{ij}^2$ |
#
# Points are measured over 2,000 keys with `estimate(…, dense="rademacher")` and so on; where samples are independent,
# $S$ of them are a mean of estimates from one. Lines are these formulas.

# %%
METHODS = {
    "sparse, with replacement": {"replace": True},
    "sparse, without": {},
    "Rademacher": {"dense": "rademacher"},
    "Gaussian": {"dense": "gaussian"},
}


def theory(h, samples):
    h = np.asarray(h)
    d, diagonal, everything = len(h), np.diag(h), (h**2).sum()
    variances = (
        d**2 * diagonal.var(),
        d**2 * diagonal.var(ddof=1) * (1 - samples / d),
        2 * (everything - (diagonal**2).sum()),
        2 * everything,
    )
    return dict(zip(METHODS, np.sqrt(np.array(variances) / samples), strict=True))


# %% alt="Standard deviation of four estimators of a Laplacian against the number of samples, both logarithmic, with lines from theory through the measured points. Three fall as one over the square root; sparse without replacement bends down steeply as the samples near the dimension, 16, and crosses Gaussian. Rademacher lies lowest."
counts, fine, sampled = (1, 4, 14), np.geomspace(1, 15.5, 60), {}
batches = [jax.random.split(jax.random.key(seed), KEYS) for seed in range(1, 15)]
figure, plot = plots.panels(1, height=3.6)
for number, (name, how) in enumerate(METHODS.items()):
    if name == "sparse, without":  # a single draw is the same as with replacement
        sampled[name] = {1: sampled["sparse, with replacement"][1], 4: four, 14: many(LAPLACIAN, u, x, 14)}
    else:  # samples are independent: an estimate from S of them is the mean of S estimates from one
        ones = np.array([many(LAPLACIAN, u, x, 1, batch, **how) for batch in batches])
        sampled[name] = {s: ones[:s].mean(0) for s in counts}
    measured = np.array([sampled[name][s].std() for s in counts])
    bias = np.array([abs(sampled[name][s].mean() - exact) for s in counts])
    assert all(bias < 4 * measured / KEYS**0.5)
    assert max(abs(measured / [theory(hessian, s)[name] for s in counts] - 1)) < 0.06
    print(f"{name:25} {counts} samples: no bias, deviation as predicted within 6 %  ok")
    style = plots.style(name, number)
    plot.loglog(counts, measured, **style | {"linestyle": ""}, label=name)
    plot.loglog(fine, [theory(hessian, s)[name] for s in fine], **style | {"marker": ""}, lw=1)
plot.set(xlabel="samples S", ylabel="standard deviation", title=f"Estimates of a Laplacian, d = {D} (lines: theory)")
plot.set(ylim=(0.1, 70), xticks=(1, 2, 4, 8, 16), xticklabels=(1, 2, 4, 8, 16))
plot.legend(loc="lower left")
plt.show()

# %% [markdown]
# The error falls as $1/\sqrt S$: a hundred times the work buys one more digit. Only drawing without replacement
# ends, at $S = d$, and is exact there.
#
# Which is best depends on $H$, and on the number of samples only where that comes near $d$. Sparse suffers from a
# diagonal that *varies*, Rademacher from anything *off* the diagonal. Four functions at one point, one sample each:

# %%
Q = np.linalg.qr(rng.normal(size=(D, D)))[0]
functions = {
    "sum of sin(2 x_i)": lambda x: jnp.sin(2 * x).sum(),
    "5 x_0^2, one coordinate": lambda x: 5 * x[0] ** 2,
    "5 s^2, s = sum / sqrt(d)": lambda x: 5 * x.sum() ** 2 / D,
    "5 (q.x)^2, random q": lambda x: 5 * (Q[0] @ x) ** 2,
}
rows, sign = {}, rng.permutation(np.repeat((1.0, -1.0), (11, 5)))
two = [lambda x, f=f: (jax.hessian(f)(x), taylor.derivatives(f, x, sign, order=2)[2]) for f in functions.values()]
for name, (h, along) in zip(functions, jax.jit(lambda x: [each(x) for each in two])(x), strict=True):
    deviations = theory(h, 1)
    del deviations["sparse, without"]  # one sample: the same as with replacement
    rows[name] = {"Laplacian": np.trace(h), "along one sign vector": along.item(), **deviations}
pd.DataFrame(rows).T.rename(columns={"sparse, with replacement": "sparse"}).round(2)


# %% [markdown]
# - A diagonal Hessian: Rademacher is exact with a single direction, since $v_i^2 = 1$.
# - All curvature along one axis: sparse mostly draws a coordinate where nothing happens, and then a huge number.
# - Curvature spread evenly over the axes: sparse is exact, and Rademacher is poor.
# - A random direction: all three are about equal.
#
# The last three columns are standard deviations. By the formulas Gaussian directions are never better than signs at
# order 2. They have their use in section 8.
#
# ## 5 · The square of an estimate is biased
#
# A training loss squares the residual $r = \mathcal{L} u - g$. But for an estimate $\hat r$, however fair,
# $E\,\hat r^2 = r^2 + \mathrm{var}(\hat r)$. Two independent draws repair that: $E\,\hat r_1 \hat r_2 = r^2$.
#
# All the paper's runs use the same samples twice, so the biased loss *is* what was trained. Does it matter? The extra
# term is a penalty on variance. First a residual whose true value is $-3$. Then the model $c\,u$ with one parameter
# $c$ and the target $g = \Delta u$; the answer is $c = 1$.

# %%
def residual(key):  # 2,000 draws at once; the true residual is -3
    return many(LAPLACIAN, u, x, 4, jax.random.split(key, KEYS)) - float(exact + 3.0)


biased, fair = (square(residual, keys[0]) for square in (stde.biased_square, stde.unbiased_square))
unbiased("biased_square: 9 + variance", biased, 9.0 + theory(hessian, 4)["sparse, without"] ** 2)
unbiased("unbiased_square: 9", fair, 9.0)
for samples, first in sampled["sparse, without"].items():
    second = np.roll(first, 1)  # the draw of another key: independent
    c, fair_c = (exact * first.mean() / (first * other).mean() for other in (first, second))
    print(f"{samples:2} of 16: the biased loss of c u is least at c = {c:.2f}, the unbiased at c = {fair_c:.2f}")

# %% [markdown]
# The biased square is nearly all variance here, and its loss prefers functions that are too flat. The unbiased one
# costs two draws, can be negative, and is noisy itself. Where the variance is small against the squared residual that
# you can reach, the bias does not matter. Measure both once.
#
# ## 6 · Any operator
#
# `Operator` takes multi-indices and coefficients, numbers or functions of the point. Operators can be added and scaled.
# Here is the linear part of the two-dimensional Korteweg-de Vries equation over $(t, x, y)$:
# $u_{ty} + u_{xxxy} + 2u_{yy} - u_{xx}$.
#
# A term like $u_{xxxy}$ is a *mixed* partial derivative. No table of special jets is needed: a jet of order 3 along $x$
# goes through the program, its coefficients carrying a jet of order 1 along $y$ (`taylor.partial_derivative`, 17). In
# high dimension `estimate` draws some terms of each *kind* of terms, of the $u_{iij}$ say (section 11).

# %%
KDV = Operator({(1, 0, 1): 1.0, (0, 3, 1): 1.0}) + 2.0 * Operator({(0, 0, 2): 1.0}) + Operator({(0, 2, 0): -1.0})
print(KDV)


def field(t, x, y, lib=jnp):
    return lib.sin(x * y) * lib.exp(t * y) + lib.exp(x - y * t)


def nested(f, names, grad):
    for name in names:
        f = grad(f, "txy".index(name))
    return f


# %%
z, point = (0.4, 0.7, -0.3), jnp.array((0.4, 0.7, -0.3))
terms = {"ty": 1.0, "xxxy": 1.0, "yy": 2.0, "xx": -1.0}
tensors, in_torch = [torch.tensor(each) for each in z], lambda t, x, y: field(t, x, y, torch)
by_torch = sum(c * nested(in_torch, names, func.grad)(*tensors).item() for names, c in terms.items())
by_jax, ours, ready = jax.jit(
    lambda z: (
        sum(c * nested(field, names, jax.grad)(*z) for names, c in terms.items()),
        stde.apply(KDV, lambda z: field(*z), z),
        stde.apply(stde.kdv_2d(), lambda z: field(*z), z),
    )
)(point)
same("apply = nested torch.func.grad = nested jax.grad", [ours] * 2, [by_torch, by_jax])
same("stde.kdv_2d() is the same operator", ready, ours)


# %% [markdown]
# ## 7 · One jet with gaps, and why to check by machine
#
# The paper gets mixed derivatives another way: one jet of high order, whose input has tangents at a few orders only.
# For KdV it is order 13 with $e_x$ at 3, $e_y$ at 4, $e_t$ at 7. From its output the paper's table of jets reads, for
# example,
#
# | order | 6 | 7 | 11 | 13 |
# |---|---|---|---|---|
# | said to be | $u_{xx}$ | $35\,u_{xy}$ | $330\,u_{ty}$ | $200200\,u_{xxxy}$ |
#
# By Faà di Bruno (17) the output at order $k$ has one term for each way to write $k$ as a sum of 3, 4 and 7. Its
# factor is $k!\,/ \prod_o (o!)^{m_o} m_o!$ where order $o$ is used $m_o$ times. Let the machine enumerate them, and
# `jet` and nested `grad` confirm:

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


# %%
slots, slots9 = {7: "t", 3: "x", 4: "y"}, {2: "x", 3: "y"}
names = {name for k in range(1, 14) for name in contents(k, slots)}
partials = jax.jit(lambda z: {n: nested(field, n, jax.grad)(*z) for n in names})(point)
jet13 = jax.jit(partial(gapped, slots, 13))
J, mirrored, J9 = jet13(z, 1.0), jet13(z, -1.0), jax.jit(partial(gapped, slots9, 9))(z, 1.0)[-1]
partials, J, mirrored, J9 = jax.tree.map(np.array, (partials, J, mirrored, J9))
for k in range(1, 14):
    if found := contents(k, slots):
        text = " + ".join(f"{c} u_{n}" for n, c in found.items())
        same(f"J{k:<2} = {text}", J[k - 1], sum(c * partials[n] for n, c in found.items()))

# %% [markdown]
# So $J_3$, $J_4$, $J_6$, $J_8$ and $J_9$ hold one derivative each, $J_6$ with a factor 10 that the table leaves out.
# $J_7$, $J_{11}$ and $J_{13}$ hold two: no factor turns one of them into $u_{xy}$, $u_{ty}$ or $u_{xxxy}$. As we read
# it, the hand-made table slips at all four places; and the paper's 9-jet with $e_x$ at 2 and $e_y$ at 3 (equation 66)
# has 840 $u_{xxxy}$ where 1260 belong. Where a term uses $e_t$ an odd number of times, a second jet with $-e_t$
# separates it:

# %%
for k, name, slip in ((6, "xx", 1), (7, "xy", 35), (11, "ty", 330), (13, "xxxy", 200200)):
    assert abs(J[k - 1] / slip - partials[name]) > 1e-3 * abs(partials[name])
    pair = J - mirrored if "t" in name else J + mirrored
    factor = contents(k, slots)[name]
    how = "it is" if k == 6 else "two jets give"
    same(f"J{k} is not {slip} u_{name}; {how} {factor} u_{name}", pair[k - 1] / 2, factor * partials[name])

nine = contents(9, slots9)
assert abs(840 * partials["xxxy"] + 280 * partials["yyy"] - J9) > 1e-3 * abs(J9)
same(f"9-jet: {nine}", J9, sum(c * partials[n] for n, c in nine.items()))

# %% [markdown]
# So the whole operator takes two jets of order 13. Eight small ones do it too: four of order 4 along lines in the plane
# $(x, y)$ for $u_{xxxy}$ (17), four of order 2 for the rest. A network at 100 points:

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
same("all three", [one] * 2, others, 1e-8)
pd.DataFrame({n: {"first call, s": t.first_s, "then, ms": 1e3 * t.steady_s} for n, t in times.items()}).T.round(2)

# %% [markdown]
# ## 8 · Where dense directions fail
#
# Dense directions mix all axes, so at order $k$ the *moments* of $v$ decide which operator they estimate. At order 4
# Gaussians have $E\,v_i v_j v_k v_l = \delta_{ij}\delta_{kl} + \delta_{ik}\delta_{jl} + \delta_{il}\delta_{jk}$, so
# they estimate three times the biharmonic operator; `estimate(stde.biharmonic(d), …, dense="gaussian")` divides by
# three. A sum of pure fourth derivatives needs $E\,v_i^2 v_j^2 = 0$ for $i \ne j$. With positive weights only
# directions along the axes have that, and they are sparse sampling again. (With weights of both signs there is one,
# half of Gaussian minus signs; what it subtracts is far larger than what is left.)
#
# At order 3 every moment of a symmetric law is zero, but a skewed law will do: $v_i = 4^{1/3}$ with probability 1/3,
# else $-4^{1/3}/2$, has $E\,v_i = 0$ and $E\,v_i^3 = 1$, so $E\,v_i v_j v_k = 0$ unless $i = j = k$: it estimates
# $\sum_i u_{iii}$. The package knows signs and Gaussians only, and says what these can't do:

# %%
FOURTHS = Operator({tuple(4 * (k == i) for k in range(D)): 1.0 for i in range(D)})
THIRDS = Operator({tuple(3 * (k == i) for k in range(D)): 1.0 for i in range(D)})
for operator, law in ((FOURTHS, "gaussian"), (THIRDS, "rademacher"), (stde.biharmonic(D), "rademacher")):
    try:
        stde.estimate(operator, u, x, keys[0], samples=4, dense=law)
    except ValueError as error:
        print(f"order {operator.order}, {law}: {error}\n")

skewed = 4 ** (1 / 3) * np.where(rng.random((KEYS, D)) < 1 / 3, 1, -0.5)
cubes = mapped(lambda x, v: taylor.derivatives(u, x, v, order=3)[3], x, skewed)
unbiased("D^3 u along skewed signs", cubes, np.einsum("iii->", third))
pure, bilaplacian = jax.jit(lambda x: (stde.apply(FOURTHS, u, x), taylor.biharmonic(u, x)))(x)
fourth = mapped(lambda x, v: taylor.derivatives(u, x, v, order=4)[4], x, rng.normal(size=(KEYS, D)))
unbiased("D^4 u along Gaussian v", fourth, 3 * bilaplacian)
print(f"standard deviation from 8 directions: {fourth.std() / 8**0.5 / abs(3 * bilaplacian):.2f} times the value")
unbiased("pure fourths, sparse, 4", many(FOURTHS, u, x, 4), pure)


# %% [markdown]
# ## 9 · "1000 times faster": than what?
#
# The paper reports more than 1000 times the speed and less than a 30th of the memory. In its tables of speed and of
# memory, at 100,000 dimensions on an A100, that is 283 against 0.23 iterations a second, and 1,063 against 32,777 MB:
# JAX with 16 samples against a PyTorch loop in Python. Like for like (JAX on both sides, 100 samples) the same tables
# give 5.4 times the speed and 4.6 times less memory.
#
# Here is the comparison in small, on a network with two hidden layers. First, that all say the same:

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
EXACT, DRAWN = "exact, compressed (17)", "Hessian-vector loop, 16 of d"
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
same("d = 250, exact: both loops, compressed jets", [values[ALL], values[EXACT]], [by_torch] * 2)
same("same 16 axes: Hessian-vector products = sparse jets", values[DRAWN], values[SPARSE])

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
# product. The last ratio has the same 16 numbers on both sides, but one side takes them one after another
# (`lax.map`) and the other all at once: part of it is batching, not jets. Of the first one, part is Python
# and PyTorch being eager. The memory is a full Hessian against 16 directions, again two different products.
#
# ## 10 · The exact rival
#
# Both tables have a row "exact, compressed". The first layer of a network is linear, so the Laplacian over $d$ inputs
# is a weighted one over its few outputs, and `taylor.laplacian` finds that by itself (17). At one point it costs
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
print("exact: relative error below 1e-10:", bool(abs(truth - looped) < 1e-10 * abs(looped)))
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
same("d = 40, biharmonic: 1,600 Hessian-vector products of Hessian-vector products", twice, by_loops)

truth = jax.jit(lambda x: taylor.biharmonic(f, x))(point)
lines = rng.normal(size=(400, 16, d))
draws = mapped(lambda x, v: taylor.weighted(f, x, v, jnp.full(16, 1 / 48), order=4), point, lines)
unbiased("16 Gaussian directions, over the exact", draws / truth, 1.0)
print(f"d = 1000: standard deviation of one estimate: {100 * draws.std() / abs(truth):.0f} % of the biharmonic")

# %% [markdown]
# (Its milliseconds stand in the second table.) Sampling earns its place where neither applies:
#
# - *operators that are not made of Laplacians*: a sum of pure fourth derivatives, or of $c_{ij}\,u_{iij}$ with a full
#   table of coefficients, has no short cut here; a sparse sample costs as many jets as it has terms,
# - *skip connections* that keep $x$ alive through the network (17),
# - *memory*: for the gradient by the weights the exact way wants several times that of 16 directions, for
#   $\Delta\Delta$ nearly two hundred times (second table), and with a wide first layer it has more directions to take.
#
# ## 11 · Write your own
#
# An operator with coefficients that depend on the point: $\sum_i x_i^2\,u_{ii} + u_{001}$. The recipe has three steps.
#
# 1. Split off what is cheap to take exactly: here $u_{001}$, one jet.
# 2. Draw from the rest with any probabilities $p_i > 0$, and divide by them:
#    $\frac{1}{S} \sum_s c_{i_s} u_{i_s i_s} / p_{i_s}$.
# 3. Compare the mean over many draws with something exact and slow.
#
# Step 2 leaves a choice. Uniform is simplest; $p_i \propto |c_i|$ spends the draws where the coefficients are large.
# Or dense: $v_i = x_i s_i$ with random signs $s$ has $E\,v v^\top = \mathrm{diag}(x^2)$. (The package refuses dense
# estimates with coefficients that depend on $x$; by hand it is one line.) NumPy draws here; under
# `jit`, in a training step, `jax.random` draws from a key.

# %%
XXY = (2, 1) + (0,) * (D - 2)


def drawn(x, axes, p):  # step 2: axes drawn with probabilities p
    return taylor.weighted(u, x, axes, x[axes] ** 2 / p[axes] / len(axes), order=2)


def scaled_signs(x, signs):
    return taylor.weighted(u, x, x * signs, jnp.full(len(signs), 1 / len(signs)), order=2)


slow = (x**2 * jnp.diag(hessian)).sum() + third[0, 0, 1]
own = Operator({tuple(2 * (k == i) for k in range(D)): lambda x, i=i: x[i] ** 2 for i in range(D)} | {XXY: 1.0})
cheap, by_package = jax.jit(lambda x: (taylor.partial_derivative(u, x, XXY), stde.apply(own, u, x)))(x)
by_axes, sizes = jax.jit(jax.vmap(drawn, (None, 0, None))), np.array(x**2 / (x @ x))
results = {}
for name, p in {"uniform": np.full(D, 1 / D), "by size": sizes / sizes.sum()}.items():
    results[name] = np.array(by_axes(x, rng.choice(D, (KEYS, 4), p=p), p))
results["scaled signs"] = mapped(scaled_signs, x, rng.choice((-1.0, 1.0), (KEYS, 4, D)))
for name, draws in results.items():
    unbiased(f"{name}, deviation {draws.std():.1f}", draws + float(cheap), slow)
unbiased("the package, 4 of 16", many(own, u, x, 4), slow)
same("the package, exact", by_package, slow)

# %% [markdown]
# `Operator` takes such coefficients as functions. Its `estimate` draws uniformly without replacement, and takes
# $u_{001}$ whole, because that is the only term of its kind.
#
# A factor of 2 shows at once, as dozens of standard errors. A slip of a few per cent shows only if the
# standard error is smaller than that: under 1 % with scaled signs here, but with uniform draws 9 % could
# pass. So print the standard error, and take draws until four standard errors are less than the slip you fear. A test
# over thousands of draws in float64 takes a second and belongs beside every estimator that you write.
#
# ## Summary
#
# - An operator is a contraction of derivative tensors; drawing some terms (sparse) or random directions (dense)
#   estimates it without bias. Order 2: the Hessian says which one is better before any training.
# - The square of an estimate is biased by its variance. Two independent draws repair it.
# - A sample is not the operator: compare methods at equal output. For Laplacians of plain networks, and powers of them,
#   there is an exact way, at one point for about ten times the price of 16 samples; it needs a narrow place in the
#   program.
#
# To read: the paper ([arXiv](https://arxiv.org/abs/2412.00088)) and its [code](https://github.com/sail-sg/stde);
# Dangel et al., [Collapsing Taylor mode](https://arxiv.org/abs/2505.13644), on random directions too; and next, short
# and with pictures, the first author's [post](https://sail.sea.com/blog/articles/61) on STDE.
#
# Next: [lesson 19 · A million dimensions](19_million_dimensions.ipynb): train on such estimates, in very many
# dimensions.
