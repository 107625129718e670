# %% [markdown]
# # 18 · STDE
#
# **Can a few random jets stand for a whole differential operator?** (80 minutes)

# %% [markdown]
# After this lesson you can
#
# - write a differential operator as a contraction of derivative tensors, and estimate it without bias from a few
#   random terms or directions, at odd orders as well,
# - predict the variance of each estimator from the derivatives, and pick the one that suits a function,
# - build an unbiased estimator for an operator of your own and test it, and learn its coefficients from data.
#
# STDE is the *stochastic Taylor derivative estimator* of Shi, Hu, Lin and Kawaguchi (NeurIPS 2024,
# [arXiv](https://arxiv.org/abs/2412.00088), [code](https://github.com/sail-sg/stde)), "the paper" below.

# %%
from functools import partial
from itertools import combinations_with_replacement
from math import comb

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jax.experimental import jet
from torch import func

from course import plots, stde, taylor
from course.failures import fails
from course.stde import Operator

# %%
SEED, D, KEYS = 0, 16, 2000
jax.config.update("jax_enable_x64", True)  # float64: exact methods agree to 1e-10
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plots.use()
rng, keys = np.random.default_rng(SEED), jax.random.split(jax.random.key(SEED), KEYS)


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
    print(f"{what:28} mean {draws.mean():8.3f} ± {error:.3f}, exact {exact:8.3f}: {off:.1f} standard errors off")


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

same("Hessian, JAX and PyTorch", hessian, func.hessian(lambda x: u(x, torch, A_torch))(x_torch).numpy())
same("Hessian times identity, Laplacian", np.sum(hessian * np.eye(D)), exact)
same("Hessian times v v, second jet", np.einsum("ij,i,j", hessian, v, v), line[2])
same("third tensor times v v v, third jet", np.einsum("ijk,i,j,k", third, v, v, v), line[3])

# %% [markdown]
# The tensor cannot be had: it has $d^k$ entries. An exact method that takes the terms one by one needs $d$
# derivatives for a Laplacian, about $d^2/2$ for the biharmonic operator $\Delta\Delta$, and more than $d^k /
# k!$ for a full tensor of coefficients. (If the function has structure, fewer do: 17b and 18b.)

# %%
sizes = (10, 1_000, 100_000)
counts = {
    "Laplacian": [d for d in sizes],
    "biharmonic": [d * (d + 1) // 2 for d in sizes],
    "all of order 3": [comb(d + 2, 3) for d in sizes],
    "entries of the order-3 tensor": [d**3 for d in sizes],
}
print(stde.biharmonic(1_000_000))
assert sum(map(len, stde.biharmonic(10).kinds)) == counts["biharmonic"][0]
assert len(list(combinations_with_replacement(range(10), 3))) == counts["all of order 3"][0]
pd.DataFrame(counts, index=[f"d = {d:,}" for d in sizes]).map("{:.1e}".format).T


# %% [markdown]
# (No terms are listed for that operator in a million dimensions: the package numbers the pairs, and draws numbers.)
#
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
same("four axes, JAX and PyTorch", draws[0], sparse_torch(x_torch, axes[0]).item())
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
same("16 of 16 for three keys, Laplacian", many(LAPLACIAN, u, x, D, keys[:3]), jnp.full(3, exact))


# %% [markdown]
# ## 3 · Dense: random directions
#
# Any random $v$ with $E\,v v^\top = I$ will do as well ($E$ is the mean over all draws), because
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
    in_torch = [h(x_torch, few).item() for h in (hutchinson, hutchinson_func)]
    same("4 directions, jets and torch.autograd, torch.func", [draws[0]] * 2, in_torch)
    unbiased("by hand, 4 directions", draws, exact)

# %% alt="Three squares of six by six numbers. Exact: ones on the diagonal, zero elsewhere. Sparse, 2 of 6: a three at two places of the diagonal, zero elsewhere. One sign vector: plus or minus one everywhere, in the pattern of a product of signs, plus one on the whole diagonal. What is positive is marked."
axes, signs = [1, 4], np.array([1, -1, -1, 1, 1, -1])  # as they might be drawn
weights = {
    "exact": (np.eye(6), "6 entries, once each"),
    "sparse, 2 of 6": (3 * np.diag(np.isin(range(6), axes)), "2 entries, times d / S = 3"),
    "one sign vector": (np.outer(signs, signs), "36 entries, by the signs in $v v^T$"),
}
corner = np.asarray(hessian)[:6, :6]  # of six of the sixteen coordinates
diagram = plots.Diagram(height=2.7)
for place, (name, (w, reads)) in enumerate(weights.items()):
    diagram.cells(1.35 + 2.65 * place, 1.35, w, side="jax", size=0.32, marked=w > 0, title=name)
    diagram.note(1.35 + 2.65 * place, 0.15, reads)
    print(f"{name}: sum of the Hessian's entries times these weights {(corner * w).sum():.3f}")
plt.show()

# %% [markdown]
# Drawn for six coordinates: the numbers by which each way multiplies the Hessian's entries before it adds them up. An
# estimator puts a random matrix where the identity was, and the mean of that matrix is the identity.
#
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
# In the picture, lines are these formulas. Points are measured over 2,000 keys with `estimate(…, dense="rademacher")`
# and so on; where samples are independent, an estimate from $S$ of them is the mean of $S$ estimates from one.

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
    means, measured = np.array([(sampled[name][s].mean(), sampled[name][s].std()) for s in counts]).T
    predicted = np.array([theory(hessian, s)[name] for s in counts])
    assert all(abs(means - exact) < 4 * measured / KEYS**0.5) and max(abs(measured / predicted - 1)) < 0.06
    print(f"{name:25}deviations", *measured.round(2), " predicted", *predicted.round(2), " means", *means.round(1))
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
# Which is best depends on $H$, and on the number of samples only where that comes near $d$. Four functions at one
# point, one sample each.
#
# **Predict.** The Hessian of the first function is diagonal, that of the third has the same number everywhere. How far
# off is one sign vector for each of them, and how far one drawn coordinate?

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
# Sparse suffers from a diagonal that *varies*, Rademacher from anything *off* the diagonal.
#
# - A diagonal Hessian: Rademacher is exact with a single direction, since $v_i^2 = 1$.
# - All curvature along one axis: sparse mostly draws a coordinate where nothing happens, and then a huge number.
# - Curvature spread evenly over the axes: sparse is exact, and Rademacher is poor.
# - A random direction: all three are about equal.
#
# The last three columns are standard deviations. By the formulas Gaussian directions are never better than signs at
# order 2. Section 6 goes beyond it.
#
# ## 5 · The square of an estimate is biased
#
# A training loss squares the residual $r = \mathcal{L} u - g$. `stde.biased_square` squares one estimate of it;
# `stde.unbiased_square` multiplies two independent ones. First a residual whose true value is $-3$. Then the model
# $c\,u$ with one parameter $c$ and the target $g = \Delta u$; the answer is $c = 1$.
#
# **Predict.** From 4 of 16 coordinates the mean of the estimated residual is $-3$. What is the mean of its square:
# about 9, 20 or 400?

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
# Nearest to 400. For an estimate $\hat r$, however fair, $E\,\hat r^2 = r^2 + \mathrm{var}(\hat r)$, and here that is
# nearly all variance. The extra term is a penalty on variance: the loss prefers functions that are too flat. Two
# independent draws repair it, $E\,\hat r_1 \hat r_2 = r^2$. (All the paper's runs use the same samples twice: what was
# trained is the biased loss.)
#
# The unbiased square costs two draws, can be negative, and is noisy itself. Where the variance is small against the
# squared residual that you can reach, the bias does not matter. Measure both once.
#
# ## 6 · Odd orders, pure fourths
#
# Dense directions mix all axes, so at order $k$ the *moments* of $v$ decide which operator they estimate. At order 4
# Gaussians have $E\,v_i v_j v_k v_l = \delta_{ij}\delta_{kl} + \delta_{ik}\delta_{jl} + \delta_{il}\delta_{jk}$, so
# they estimate three times the biharmonic operator; `estimate(stde.biharmonic(d), …, dense="gaussian")` divides by
# three. Signs and Gaussians can't have sums of pure derivatives beyond order 2: all odd moments are zero, and
# $\sum_i u_{iiii}$ needs $E\,v_i^2 v_j^2 = 0$ for $i \ne j$, which squares of real numbers refuse. (`Operator` takes
# multi-indices and coefficients, numbers or functions of the point; `estimate` draws some terms of each *kind*, of the
# $u_{iij}$ say.)

# %%
FOURTHS = Operator({tuple(4 * (k == i) for k in range(D)): 1.0 for i in range(D)})
THIRDS = Operator({tuple(3 * (k == i) for k in range(D)): 1.0 for i in range(D)})
refused = {"pure fourths": FOURTHS, "pure thirds": THIRDS, "biharmonic": stde.biharmonic(D)}
for (name, operator), law in zip(refused.items(), ("gaussian", "rademacher", "rademacher"), strict=True):
    print(f"{name}, {law}:")
    with fails(ValueError):
        stde.estimate(operator, u, x, keys[0], samples=4, dense=law)

pure, bilaplacian = jax.jit(lambda x: (stde.apply(FOURTHS, u, x), taylor.biharmonic(u, x)))(x)
fourth = mapped(lambda x, v: taylor.derivatives(u, x, v, order=4)[4], x, rng.normal(size=(KEYS, D)))
unbiased("D^4 u along Gaussian v", fourth, 3 * bilaplacian)
print(f"standard deviation from 8 directions: {fourth.std() / 8**0.5 / abs(3 * bilaplacian):.2f} times the value")


# %% [markdown]
# Each message says what is missing, a moment of the law, and what works instead. By Gaussians, $\Delta\Delta u$ can be
# estimated, but see the deviation: half the value, from eight directions.
#
# **Roots of unity.** A complex direction may have $E\,v_i^2 = 0$. Let each $v_i$ be one of the $k$ numbers with
# $v_i^k = 1$, all equally likely. They stand evenly on a circle, and so do their powers until they fall together:
# $E\,v_i^m = 0$ unless $k$ divides $m$. The $v_i$ are independent, so $E\,v_{i_1} \cdots v_{i_k}$ is a product of such
# moments, one for each coordinate in it. With $k$ factors only one product has no zero: all $k$ indices are equal. So
# $E\,D^k u[v, \dots, v] = \sum_i \partial_i^k u$, exactly the terms wanted, at any order; a root of $c_i$ instead of 1
# gives $\sum_i c_i\,\partial_i^k u$. (The trick comes from the counting of data streams: Ganguly, *Estimating frequency
# moments of data streams using random linear combinations*, RANDOM 2004.)
#
# Its variance follows in the same way. At order 3, for $S$ directions,
#
# $$\frac{1}{S}\Big(\tfrac{9}{2} \sum_{i<j} (u_{iij} + u_{ijj})^2 + 18 \sum_{i<j<l} u_{ijl}^2\Big);$$
#
# what stands off the diagonal, as for signs at order 2. `estimate`'s docstring has order 4.
#
# A jet along a complex $v$ is no more than real jets along $k$ directions, the projections of $v$ turned $k$ times;
# `dense="roots"` does that. By hand, with tensors, in NumPy:

# %%
def variance_of_roots(third):
    pairs = np.einsum("iij->ij", third).copy()
    diagonal = np.diag(pairs).copy()
    np.fill_diagonal(pairs, 0)
    different = (third**2).sum() - (diagonal**2).sum() - 3 * (pairs**2).sum()  # 6 of each i < j < l
    return 9 / 4 * ((pairs + pairs.T) ** 2).sum() + 3 * different


angles = 2 * np.pi / 3 * rng.integers(0, 3, (KEYS, D))
roots = np.cos(angles) + 1j * np.sin(angles)
print(f"mean of v^2, v^3: {abs((roots**2).mean()):.2f}, {abs((roots**3).mean()):.2f}")
contracted = np.einsum("ijk,si,sj,sk->s", third, roots, roots, roots, optimize=True).real
cubes, spread = np.einsum("iii->", third), np.sqrt(variance_of_roots(np.asarray(third)))
jets = many(THIRDS, u, x, 1, dense="roots")
unbiased("thirds, roots, by tensor", contracted, cubes)
unbiased("thirds, roots, by jets", jets, cubes)
unbiased("pure fourths, roots", many(FOURTHS, u, x, 1, dense="roots"), pure)
unbiased("pure fourths, sparse, 4", many(FOURTHS, u, x, 4), pure)
print(f"deviation of the thirds: tensor {contracted.std():.1f}, jets {jets.std():.1f}, theory {spread:.1f}")
both = many(stde.biharmonic(D), u, x, 2, dense="roots")  # 2 samples: 8 jets along roots, 2 along signs
unbiased("biharmonic, roots", both, bilaplacian)
print(f"deviation of the biharmonic: {both.std() / abs(bilaplacian):.2f} times the value")
assert max(abs(each.std() / spread - 1) for each in (contracted, jets)) < 0.1


# %% [markdown]
# One sample of roots is $k$ jets, so the fair rival is sparse with $k$ times as many terms. For the sum of all
# $u_{iiii}$, twelve jets each, in more and more dimensions: eight units $e^{w \cdot x}$ with random $w$ of length about
# 1, a sum of functions of one coordinate each, and both added up. (`estimate` takes functions with several outputs.)
#
# **Predict.** Roots suffer from what stands off the diagonal. For which of the three functions is sparse better?

# %%
def rivals(d):
    weights, at = jnp.asarray(rng.normal(size=(d, 8)) / d**0.5), jnp.asarray(rng.normal(size=d))
    operator = Operator.of_kinds(d, (stde.Kind((4,), np.arange(d)[:, None], np.ones(d)),))  # sum of all u_iiii

    def f(x):
        units, apart = jnp.exp(x @ weights).sum(), jnp.sin(2 * x).sum()
        return jnp.stack([units, apart, units + apart])

    size = np.abs(jax.jit(partial(stde.apply, operator, f))(at))
    few = keys[:500]
    ways = {"sparse, 12": many(operator, f, at, 12, few), "roots, 3": many(operator, f, at, 3, few, dense="roots")}
    rows = "units", "one coordinate each", "both"
    return pd.DataFrame({way: draws.std(0) / size for way, draws in ways.items()}, rows)


table = pd.concat({f"d = {d}": rivals(d) for d in (16, 64, 256)}, axis=1).T
print("standard deviation of the sum of pure fourths, over its value")
table.map("{:.2f}".format)

# %% [markdown]
# The units. Of their $d^4$ derivatives only $d$ are wanted, and roots rely on all others cancelling on average: the
# deviation, over the value, grows like $d$. Sparse never sees those others; it suffers from a diagonal that varies, as
# in the second function, for which roots are exact. So:
#
# - for a plain network with many inputs draw terms, and take as many as the jets allow,
# - take roots where most of the function is a sum over coordinates (particles or grid points that hardly interact),
#   where there are few coordinates, and for $\Delta\Delta$, which they have along with all pairs $u_{iijj}$: ten jets
#   vary less than eight Gaussian directions above,
# - and measure both once. That takes a minute, and an order of magnitude hangs on it in either direction.
#
# ## 7 · Write your own
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
same("stde.apply, exact and slow", by_package, slow)

# %% [markdown]
# `Operator` takes such coefficients as functions. Its `estimate` draws uniformly without replacement, and takes
# $u_{001}$ whole, because that is the only term of its kind.
#
# A factor of 2 shows at once, as dozens of standard errors. A slip of a few per cent shows only if the
# standard error is smaller than that: under 1 % with scaled signs here, but with uniform draws 9 % could
# pass. So print the standard error, and take draws until four standard errors are less than the slip you fear. A test
# over thousands of draws in float64 takes a second and belongs beside every estimator that you write.
#
# ## 8 · Learn a coefficient
#
# An inverse problem: $u$ is known, and at 64 points its rate of change has been measured,
# $u_t = \kappa\,\Delta u - b \sum_i u_i$, diffusion and a drift. Which $\kappa$ and $b$? In PyTorch coefficients are
# leaves like any weight. Here they may be traced, so an operator is made of them inside the loss, and `jax.grad` goes
# through `stde.apply` and `stde.estimate`. Sums, differences and multiples of operators are operators; so is a function
# times one; `stde.advection`, `stde.diffusion` and `stde.laplace_beltrami` take functions of the point.

# %%
TRUE, START = {"kappa": 0.7, "drift": 1.5}, {"kappa": 1.0, "drift": 0.0}
places = rng.normal(size=(64, D))


def transport(c):
    return c["kappa"] * stde.laplacian(D) - c["drift"] * stde.advection(np.ones(D), D)


def rate(c):
    return jax.vmap(lambda x: stde.apply(transport(c), u, x))(places)


rates = jax.jit(rate)(TRUE)
gradient = jax.jit(jax.grad(lambda c: ((rate(c) - rates) ** 2).mean()))(START)

c, points = torch.tensor([1.0, 0.0], requires_grad=True), torch.from_numpy(places)
u_torch = partial(u, lib=torch, a=A_torch)
laplacians = func.vmap(lambda x: func.hessian(u_torch)(x).trace())(points)
slopes = func.vmap(func.grad(u_torch))(points).sum(1)
((c[0] * laplacians - c[1] * slopes - torch.from_numpy(np.array(rates))) ** 2).mean().backward()
same("gradient by kappa and drift, JAX and PyTorch", [gradient["kappa"], gradient["drift"]], c.grad.numpy())


# %% [markdown]
# Exact derivatives would do here. From 4 of 16 coordinates, drawn anew in each of 1,000 steps of gradient descent with
# a falling rate, the square counts (section 5). The result is the mean of the last 500 steps.

# %%
def fit(square):
    def loss(c, key):
        def residual(key):
            draws = jax.random.split(key, len(places))
            found = jax.vmap(lambda x, k: stde.estimate(transport(c), u, x, k, samples=4))(places, draws)
            return found - rates

        return square(residual, key).mean()

    def step(c, n):
        slope = jax.grad(loss)(c, keys[n])
        c = jax.tree.map(lambda c, s: c - 0.4 / (100 + n) * s, c, slope)
        return c, c

    steps = jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(1000))[1])(START)
    return {name: float(c[-500:].mean()) for name, c in steps.items()}


for square in (stde.biased_square, stde.unbiased_square):
    found = fit(square)
    print(f"{square.__name__}: " + ", ".join(f"{name} {found[name]:.2f} (true {c})" for name, c in TRUE.items()))
assert all(abs(found[name] / c - 1) < 0.1 for name, c in TRUE.items())

# %% [markdown]
# The biased loss is afraid of variance and makes both coefficients far too small. The product of two draws finds them,
# within a tenth.
#
# ## Summary
#
# - An operator is a contraction of derivative tensors; drawing some terms (sparse) or random directions (dense)
#   estimates it without bias. Order 2: the Hessian says which one is better before any training.
# - The square of an estimate is biased by its variance, and so is a coefficient learned with it. Two independent draws
#   repair it.
# - Any probabilities and any directions will do, if their moments fit. A mean over thousands of draws, with its
#   standard error, beside something exact and slow, shows whether they do.
#
# ## Further reading
#
# - [Stochastic Taylor Derivative Estimator](https://arxiv.org/abs/2412.00088): Shi et al. (NeurIPS 2024); section 4 has
#   sparse and dense estimators for any operator.
# - [The authors' code](https://github.com/sail-sg/stde): the paper's experiments, in JAX.
# - [Collapsing Taylor mode](https://arxiv.org/abs/2505.13644): Dangel et al. (NeurIPS 2025); random directions there,
#   too, and carried as one sum.
#
# Exercises: [your turn](exercises/18_stde.ipynb).
#
# Next: [18b · STDE, checked](18b_stde_checked.ipynb): the published jets and speed-ups, measured again.
