# %% [markdown]
# # 12 · STDE
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
# STDE is the *stochastic Taylor derivative estimator* of Shi, Hu, Lin and Kawaguchi (NeurIPS 2024), "the paper" below.

# %%
from itertools import combinations_with_replacement, pairwise, product
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

from course import stde, taylor, timing
from course.stde import Operator

# %%
SEED, D, KEYS, WIDTH = 0, 16, 4000, 64
jax.config.update("jax_enable_x64", True)  # float64: exact methods agree to 1e-10, order 13 does not drown in rounding
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plt.rcParams["figure.figsize"], plt.rcParams["figure.dpi"] = (5.4, 3.6), 80
rng, keys = np.random.default_rng(SEED), jax.random.split(jax.random.key(SEED), KEYS)


def same(what, ours, reference, tolerance=1e-10):
    np.testing.assert_allclose(ours, reference, rtol=tolerance, atol=tolerance)
    print(f"{what}  ok")


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
# the identity. A jet along $v$ (11) is also a contraction: with $v \otimes \dots \otimes v$.

# %%
A = rng.normal(size=(D, D)) / 4
A_torch = torch.from_numpy(A)


def u(x, lib=jnp, a=A):
    return lib.tanh(x @ a).sum() + lib.sin(2 * x).sum()


x = jnp.asarray(rng.normal(size=D))
x_torch, v = torch.from_numpy(np.array(x)), jnp.asarray(rng.normal(size=D))
hessian, third = jax.jit(lambda x: (jax.hessian(u)(x), jax.jacfwd(jax.hessian(u))(x)))(x)
exact = taylor.laplacian(u, x)[1]
in_torch = func.hessian(lambda x: u(x, torch, A_torch))(x_torch)

same("the Hessian, JAX and PyTorch", hessian, in_torch.numpy())
same("Laplacian: Hessian times identity", (hessian * jnp.eye(D)).sum(), exact)
line = taylor.derivatives(u, x, v, 3)
same("second jet: Hessian times v v", jnp.einsum("ij,i,j", hessian, v, v), line[2])
same("third jet: third tensor times v v v", jnp.einsum("ijk,i,j,k", third, v, v, v), line[3])

# %% [markdown]
# The tensor cannot be had: it has $d^k$ entries. An exact method must touch every *term* at least once. That is
# $d$ for a Laplacian, but about $d^2/2$ for the biharmonic operator $\Delta\Delta$, and all of $d^k / k!$ and more for
# a full tensor of coefficients:

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


axes = jax.random.randint(jax.random.key(1), (4,), 0, D)
same("same axes, JAX and PyTorch", sparse_by_hand(u, x, axes), sparse_torch(x_torch, np.array(axes)).item())
draws = jax.jit(jax.vmap(lambda key: sparse_by_hand(u, x, jax.random.randint(key, (4,), 0, D))))(keys)
unbiased("by hand, 4 of 16", draws, exact)
print(f"without the factor n: {draws.mean() / D:.3f}, the Laplacian over d")

# %% [markdown]
# (That factor is missing in the paper's equation 88.) The package does it for any `Operator`. Its default
# draws *without* replacement, and it carries one collapsed top coefficient for all drawn directions (11).

# %%
LAPLACIAN = stde.laplacian(D)


def many(operator, f, x, samples, **how):
    return jax.jit(jax.vmap(lambda key: stde.estimate(operator, f, x, key, samples, **how)))(keys)


unbiased("estimate, replace=True", many(LAPLACIAN, u, x, 4, replace=True), exact)
unbiased("estimate", many(LAPLACIAN, u, x, 4), exact)
same("16 of 16 is the Laplacian", stde.estimate(LAPLACIAN, u, x, keys[0], samples=D), exact)


# %% [markdown]
# ## 3 · Dense: random directions
#
# Any random $v$ with $E\,v v^\top = I$ will do as well, because $E\,v^\top H v = \mathrm{tr}(H\,E\,v v^\top)$. Two choices:
# independent signs (*Rademacher*) and independent normals (*Gaussian*). At order 2 this is Hutchinson's trace estimator,
# long in use with Hessian-vector products. In PyTorch it comes as a double backward pass or as a `jvp` of a
# gradient. Equal directions give equal numbers, whichever way:

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


for law in (jax.random.rademacher, jax.random.normal):
    directions = law(jax.random.key(2), (KEYS, D), jnp.float64)
    off = abs(directions.T @ directions / KEYS - jnp.eye(D)).max()
    print(f"{law.__name__:10} mean of v v^T is I within {off:.2f}; v_i^2 varies by {(directions**2).std():.2f}")
    few = torch.from_numpy(np.array(directions[:4]))
    ours = dense_by_hand(u, x, directions[:4])
    same("  = torch.autograd = torch.func", [ours] * 2, [h(x_torch, few).item() for h in (hutchinson, hutchinson_func)])
for name in ("rademacher", "gaussian"):
    unbiased(f'dense="{name}"', many(LAPLACIAN, u, x, 4, dense=name), exact)

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
# Points are measured over 4,000 keys, lines are these formulas.

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


# %%
counts, fine = (1, 2, 4, 8, 14), np.geomspace(1, 15.5, 60)
figure, plot = plt.subplots()
for number, (name, how) in enumerate(METHODS.items()):
    measured = []
    for samples in counts:
        draws = many(LAPLACIAN, u, x, samples, **how)
        assert abs(draws.mean() - exact) < 4 * draws.std() / KEYS**0.5
        measured.append(draws.std())
    expected = [theory(hessian, s)[name] for s in counts]
    worst = max(abs(np.array(measured) / expected - 1))
    assert worst < 0.06  # 4,000 draws give a standard deviation to 1.1 %; Gaussian squares have heavier tails
    print(f"{name:25} no bias at {counts} samples; deviation as predicted within 6 %  ok")
    plot.loglog(counts, measured, "o", color=f"C{number}", label=name)
    plot.loglog(fine, [theory(hessian, s)[name] for s in fine], color=f"C{number}", lw=1)
plot.set(xlabel="samples S", ylabel="standard deviation", title=f"Estimates of a Laplacian, d = {D} (lines: theory)")
plot.legend(fontsize=8)
plt.show()

# %% [markdown]
# The error falls as $1/\sqrt S$: a hundred times the work buys one more digit. Only drawing without replacement
# ends, at $S = d$, and is exact there.
#
# Which is best depends on $H$, not on the number of samples. Sparse suffers from a diagonal that *varies*,
# Rademacher from anything *off* the diagonal. Four functions at one point, one sample each:

# %%
Q = np.linalg.qr(rng.normal(size=(D, D)))[0]
functions = {
    "sum of sin(2 x_i)": lambda x: jnp.sin(2 * x).sum(),
    "5 x_0^2, one coordinate": lambda x: 5 * x[0] ** 2,
    "5 s^2, s = sum / sqrt(d)": lambda x: 5 * x.sum() ** 2 / D,
    "5 (q.x)^2, random q": lambda x: 5 * (Q[0] @ x) ** 2,
}
rows = {}
for name, f in functions.items():
    rows[name] = {"Laplacian": taylor.laplacian(f, x)[1].item(), **theory(jax.hessian(f)(x), 1)}
    for method, how in METHODS.items():
        if rows[name][method] < 1e-10:  # predicted to be exact: is it?
            one = stde.estimate(LAPLACIAN, f, x, keys[0], 1, **how)
            np.testing.assert_allclose(one, rows[name]["Laplacian"], rtol=1e-10)
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# - A diagonal Hessian: Rademacher is exact with a single direction, since $v_i^2 = 1$.
# - All curvature along one axis: sparse mostly draws a coordinate where nothing happens, and then a huge number.
# - Curvature spread evenly over the axes: sparse is exact, and Rademacher is poor.
# - A random direction lies between. Gaussian is never better than Rademacher here. It has its use in section 8.
#
# ## 5 · The square of an estimate is biased
#
# A training loss squares the residual $r = \mathcal{L} u - g$. But for an estimate $\hat r$, however fair,
# $E\,\hat r^2 = r^2 + \mathrm{var}(\hat r)$. Two independent draws repair that: $E\,\hat r_1 \hat r_2 = r^2$.

# %%
target, rows = exact + 3.0, {}
for samples in (1, 4, 8):

    def residual(key, samples=samples):
        return stde.estimate(LAPLACIAN, u, x, key, samples) - target

    two = jax.jit(jax.vmap(lambda key: (stde.biased_square(residual, key), stde.unbiased_square(residual, key))))
    biased, fair = two(keys)
    predicted = 9.0 + theory(hessian, samples)["sparse, without"] ** 2
    unbiased(f"biased,   {samples} samples", biased, predicted)
    unbiased(f"unbiased, {samples} samples", fair, 9.0)

# %% [markdown]
# The true square is 9. With one sample the biased loss is mostly variance. Does it matter? All the paper's runs use
# the same samples twice, so this *is* what was trained. The extra term is a penalty on variance. Take the model
# $c\,u$ with one parameter $c$ and the target $g = \Delta u$; the answer is $c = 1$:

# %%
for samples in (1, 4, 8):
    first = many(LAPLACIAN, u, x, samples)
    second = jnp.roll(first, 1)  # another key's draw: independent
    minimisers = [exact * first.mean() / (first * other).mean() for other in (first, second)]  # of mean (c l - g)(c m - g)
    print(f"{samples} samples: the biased loss is least at c = {minimisers[0]:.2f}, the unbiased at {minimisers[1]:.2f}")

# %% [markdown]
# The biased loss prefers functions that are too flat. The unbiased one costs two draws, can be negative, and has
# noise of its own; with the same number of jets it splits them in two halves. Rule of thumb: as soon as
# the variance is small against the residual that you can reach, the bias does not matter. Measure both once.
#
# ## 6 · Any operator
#
# `Operator` takes multi-indices and coefficients, numbers or functions of the point. Operators can be added and scaled.
# Here is the linear part of the two-dimensional Korteweg-de Vries equation over $(t, x, y)$:
# $u_{ty} + u_{xxxy} + 2u_{yy} - u_{xx}$.
#
# A term like $u_{xxxy}$ is a *mixed* partial derivative. No table of special jets is needed: the interpolation
# formula (11) makes it from fourth derivatives along a few lines.

# %%
KDV = Operator({(1, 0, 1): 1.0, (0, 3, 1): 1.0}) + 2.0 * Operator({(0, 0, 2): 1.0}) + Operator({(0, 2, 0): -1.0})
steps, weights = taylor.interpolation((3, 1))
print(KDV, "; u_xxxy from", len(steps), "lines in the plane (x, y):", *(tuple(map(int, s)) for s in steps))


def field(t, x, y, lib=jnp):
    return lib.sin(x * y) * lib.exp(t * y) + lib.exp(x - y * t)


def nested(f, names, grad):
    for name in names:
        f = grad(f, "txy".index(name))
    return f


z = (0.4, 0.7, -0.3)
terms = {"ty": 1.0, "xxxy": 1.0, "yy": 2.0, "xx": -1.0}
tensors, in_torch = [torch.tensor(each) for each in z], lambda t, x, y: field(t, x, y, torch)
by_torch = sum(c * nested(in_torch, names, func.grad)(*tensors).item() for names, c in terms.items())
by_jax = sum(c * nested(field, names, jax.grad)(*z) for names, c in terms.items())
ours = stde.apply(KDV, lambda z: field(*z), jnp.array(z))
same("apply = nested torch.func.grad = nested jax.grad", [ours] * 2, [by_torch, by_jax])
same("stde.kdv_2d() is the same operator", stde.apply(stde.kdv_2d(), lambda z: field(*z), jnp.array(z)), ours)

# %% [markdown]
# In high dimension, sampling works the same way: of each *kind* of terms, $u_{iij}$ say, draw some. A
# sum of $u_{iij}$ over all pairs $i \ne j$ has 240 terms for $d = 16$:

# %%
pairs = [(i, j) for i in range(D) for j in range(D) if i != j]
mixed = Operator({tuple(2 * (k == i) + (k == j) for k in range(D)): 1.0 for i, j in pairs})
whole = jnp.einsum("iij->", third) - jnp.einsum("iii->", third)
print(mixed)
same("exact", stde.apply(mixed, u, x), whole)
unbiased("8 of its terms", many(mixed, u, x, 8), whole)


# %% [markdown]
# ## 7 · One jet with gaps, and why to check by machine
#
# The paper gets mixed derivatives another way: one jet of high order, whose input has tangents at a few orders only.
# For KdV it is order 13 with $e_x$ at 3, $e_y$ at 4, $e_t$ at 7. By Faà di Bruno (11) the output at order $k$ has
# one term for each way to write $k$ as a sum of these orders, with $k!\,/ \prod_o (o!)^{m_o} m_o!$ in front, where order $o$
# is used $m_o$ times. Let the machine enumerate, and `jet` and nested `grad` confirm:

# %%
def contents(k, slots):
    """Which partial derivatives the k-th output has, and how many times: {"xxxy": 200200, ...}."""
    found = {}
    for uses in product(*(range(k // order + 1) for order in slots)):
        if sum(m * order for m, order in zip(uses, slots, strict=True)) == k:
            ways = prod(factorial(order) ** m * factorial(m) for m, order in zip(uses, slots, strict=True))
            found["".join(name * m for m, name in zip(uses, slots.values(), strict=True))] = factorial(k) // ways
    return found


def gapped(point, slots, length, sign_of_t=1.0):
    signs = {"t": sign_of_t, "x": 1.0, "y": 1.0}
    tangents = [[signs[n] * (slots.get(k) == n) for k in range(1, length + 1)] for n in "txy"]
    return jnp.stack(jet.jet(field, point, tangents)[1])


slots = {7: "t", 3: "x", 4: "y"}
names = sorted({name for k in range(1, 14) for name in contents(k, slots)}, key=lambda n: (len(n), n))
partials = jax.jit(lambda *z: {n: nested(field, n, jax.grad)(*z) for n in names})(*z)
J = jax.jit(lambda *z: gapped(z, slots, 13))(*z)
for k in range(1, 14):
    if found := contents(k, slots):
        text = " + ".join(f"{c} u_{n}" for n, c in found.items())
        same(f"J{k:<2} = {text}", J[k - 1], sum(c * partials[n] for n, c in found.items()))

# %% [markdown]
# So $J_3, J_4, J_8, J_9$ give one derivative each. But $J_6$ is $10\,u_{xx}$, and $J_7$, $J_{11}$ and $J_{13}$ each
# hold two derivatives: no factor turns one into $u_{xy}$, $u_{ty}$ or $u_{xxxy}$. The paper's hand-made
# tables slip at these places, and its 9-jet with $e_x$ at 2 and $e_y$ at 3 (equation 66) has 840 where 1260 belongs.
#
# Where a term uses $e_t$ an odd number of times, a second jet with $-e_t$ separates it:

# %%
mirrored = jax.jit(lambda *z: gapped(z, slots, 13, -1.0))(*z)
for k, name, slip in ((6, "xx", 1), (7, "xy", 35), (11, "ty", 330), (13, "xxxy", 200200)):
    assert abs(J[k - 1] / slip - partials[name]) > 1e-3 * abs(partials[name])
    odd = "t" in name
    apart = (J - mirrored if odd else J + mirrored)[k - 1] / 2 / contents(k, slots)[name]
    same(f"J{k} / {slip} is not u_{name}; two jets with e_t and -e_t give it", apart, partials[name])

nine = contents(9, {2: "x", 3: "y"})
J9 = gapped(z, {2: "x", 3: "y"}, 9)[-1]
pure = nested(field, "yyy", jax.grad)(*z)
assert abs(840 * partials["xxxy"] + 280 * pure - J9) > 1e-3 * abs(J9)
same(f"9-jet: {nine}, not 840", J9, 1260 * partials["xxxy"] + 280 * pure)

# %% [markdown]
# Nothing of this is needed with interpolated lines: their highest order is 4, not 13.
#
# ## 8 · Where dense directions fail
#
# Dense directions mix all axes, so at order $k$ the *moments* of $v$ decide which operator they estimate. A symmetric
# law has no odd moments. At order 4 Gaussians have
# $E\,v_i v_j v_k v_l = \delta_{ij}\delta_{kl} + \delta_{ik}\delta_{jl} + \delta_{il}\delta_{jk}$, so they estimate
# three times the biharmonic operator. A sum of pure fourth derivatives cannot be had from one law: it would need
# $E\,v_i^2 v_j^2 = 0$. The package says so:

# %%
FOURTHS = Operator({tuple(4 * (k == i) for k in range(D)): 1.0 for i in range(D)})
THIRDS = Operator({tuple(3 * (k == i) for k in range(D)): 1.0 for i in range(D)})
for operator, law in ((FOURTHS, "gaussian"), (THIRDS, "rademacher"), (stde.biharmonic(D), "rademacher")):
    try:
        stde.estimate(operator, u, x, keys[0], samples=4, dense=law)
    except ValueError as error:
        print(f"order {operator.order}, {law}: {error}\n")

pure = stde.apply(FOURTHS, u, x)
bilaplacian = taylor.biharmonic(u, x)
fourth_along = jax.jit(jax.vmap(lambda v: taylor.derivatives(u, x, v, order=4)[4]))
unbiased("D^4 u along Gaussian v", fourth_along(jax.random.normal(jax.random.key(3), (KEYS, D))), 3 * bilaplacian)
unbiased("biharmonic, Gaussian, 8", many(stde.biharmonic(D), u, x, 8, dense="gaussian"), bilaplacian)
unbiased("pure fourths, sparse, 4", many(FOURTHS, u, x, 4), pure)

# %% [markdown]
# "From one law": a *difference* of two can do it. For signs the fourth moment is the Gaussian one minus
# $2$ where all four indices are equal, hence $E\,D^4 u[v] = 3\,\Delta\Delta u - 2 \sum_i u_{iiii}$. With four coordinates
# the mean over all 16 sign vectors is exact:

# %%
small, at = lambda x: jnp.sin(x @ jnp.arange(1.0, 5.0)) * jnp.exp(x[0] * x[3]), jnp.array([0.1, -0.2, 0.3, 0.2])  # noqa: E731
signs = jnp.array(list(product((-1.0, 1.0), repeat=4)))
mean = jax.vmap(lambda v: taylor.derivatives(small, at, v, order=4)[4])(signs).mean()
fourths = sum(jax.vmap(lambda v: taylor.derivatives(small, at, v, order=4)[4])(jnp.eye(4)))
same("signs: 3 biharmonic - 2 pure fourths", mean, 3 * taylor.biharmonic(small, at) - 2 * fourths)


# %% [markdown]
# Half the difference of a Gaussian and a sign estimate is thus a dense estimate of the pure fourths, with the variance of
# two large numbers that cancel. Sparse is simpler and better.
#
# ## 9 · "1000 times faster": than what?
#
# The paper reports more than 1000 times the speed and less than a 30th of the memory. At 100,000 dimensions on an
# A100 that is 283 against 0.23 iterations a second, and 1,063 against 32,777 MB. It compares JAX with 16 samples to
# a PyTorch loop in Python. Like for like (JAX on both sides, 100 samples) its tables give 5.4 and 4.6.
#
# Here is the comparison in small, on a network with three hidden layers. First, that all say the same:

# %%
def network(d):
    torch.manual_seed(SEED)
    sizes = [d, WIDTH, WIDTH, WIDTH]
    layers = [part for i, o in pairwise(sizes) for part in (torch.nn.Linear(i, o), torch.nn.Tanh())]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 1))
    dense = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    return net, [tuple(jnp.asarray(each.detach().numpy().T) for each in (m.weight, m.bias)) for m in dense]


def mlp(params, x):
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = params[-1]
    return (x @ w + b)[0]


def loop(f, x, axes):  # a Hessian-vector product for each axis
    def add(total, axis):
        unit = jnp.zeros_like(x).at[axis].set(1.0)
        return total + jax.jvp(jax.grad(f), (x,), (unit,))[1][axis], None

    return lax.scan(add, jnp.zeros((), x.dtype), axes)[0]


def python_loop(net, x, axes):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(slope[i], x, retain_graph=True)[0][i] for i in axes)


# %%
def compiled(way):  # way: (f, x, key) -> number; made a function of the weights
    return jax.jit(lambda params, x, key: way(lambda z: mlp(params, z), x, key))


def drawn_loop(f, x, key):  # the axes that stde.estimate draws
    axes = stde.distinct(jax.random.split(key, 1)[0], len(x), 16)
    return len(x) / 16 * loop(f, x, axes)


ALL, SPARSE = "Hessian-vector loop, all d", "sparse jets, 16 of d"
EXACT, DRAWN = "exact, compressed (11)", "Hessian-vector loop, 16 of d"
ways = {
    ALL: compiled(lambda f, x, key: loop(f, x, jnp.arange(len(x)))),
    EXACT: compiled(lambda f, x, key: taylor.laplacian(f, x)[1]),
    DRAWN: compiled(drawn_loop),
    SPARSE: compiled(lambda f, x, key: stde.estimate(stde.laplacian(len(x)), f, x, key, samples=16)),
}
net, params = network(500)
point = jnp.asarray(rng.normal(size=500))
values = {name: way(params, point, keys[0]) for name, way in ways.items()}
by_torch = python_loop(net, torch.from_numpy(np.array(point)), range(500)).item()
same("d = 500, exact: both loops, compressed jets", [values[ALL], values[EXACT]], [by_torch] * 2)
same("same 16 axes: Hessian-vector products = sparse jets", values[DRAWN], values[SPARSE])

# %% tags=["nbval-ignore-output"]
table = {}
for d in (500, 2000):
    net, params = network(d)
    point = jnp.asarray(np.random.default_rng(d).normal(size=d))
    calls = {name: (way, params, point, keys[0]) for name, way in ways.items()}
    calls["PyTorch loop, all d"] = (python_loop, net, torch.from_numpy(np.array(point)), range(d))
    for call in calls.values():
        call[0](*call[1:])  # compiles
    rounds = [{name: 1e3 * timing.seconds(*call) for name, call in calls.items()} for _ in range(5)]
    table[f"d = {d}, ms"] = pd.DataFrame(rounds).median()
table = pd.DataFrame(table).sort_values("d = 2000, ms", ascending=False)
for d in (500, 2000):
    ms = table[f"d = {d}, ms"]
    print(f"d = {d}: sparse jets against PyTorch loop over all {ms['PyTorch loop, all d'] / ms[SPARSE]:.0f} x, "
          f"against JAX loop over all {ms[ALL] / ms[SPARSE]:.0f} x, against JAX loop over the same 16 "
          f"{ms[DRAWN] / ms[SPARSE]:.1f} x")  # fmt: skip
gradient = {
    "jax.hessian": compiled(lambda f, x, key: jnp.trace(jax.hessian(f)(x))),
    "Rademacher, 16": compiled(lambda f, x, key: stde.estimate(LARGE, f, x, key, 16, dense="rademacher")),
}
(_, params), LARGE, point = network(1000), stde.laplacian(1000), jnp.ones(1000)
sizes = {n: jax.jit(jax.grad(g)).lower(params, point, keys[0]).compile() for n, g in gradient.items()}
megabytes = {n: program.memory_analysis().temp_size_in_bytes / 1e6 for n, program in sizes.items()}
print(f"gradient by the weights, d = 1000, temporary MB: {megabytes}; {timing.where()}")
table.round(3)

# %% [markdown]
# The large numbers compare a loop over all $d$ coordinates, which is exact, with 16 of them, which is a sample. Of
# course that ratio grows with $d$; it says how much less was *asked for*. It is not the same product. The last
# ratio is like for like: the same 16 numbers, added up in two ways. Of the first one, part is Python and PyTorch
# being eager. The memory is a full Hessian against 16 directions, again two different products.
#
# ## 10 · The exact rival
#
# The table has an exact row that is no slower than a sample by much. The first layer of a network is linear, so the
# Laplacian over $d$ inputs is a weighted one over its few outputs, and `taylor.laplacian` finds that by itself (11).
# What does a 16-sample estimate lose against it?

# %%
d = 2000
net, params = network(d)
f, point = lambda x: mlp(params, x), jnp.asarray(np.random.default_rng(d).normal(size=d))
truth = ways[EXACT](params, point, keys[0])
losses = {}
for name, how in METHODS.items():
    if name != "sparse, with replacement":
        run = jax.jit(jax.vmap(lambda key, how=how: stde.estimate(stde.laplacian(d), f, point, key, 16, **how)))
        draws = run(keys[:500])
        assert abs(draws.mean() - truth) < 4 * draws.std() / 500**0.5
        losses[name] = (draws.std() / abs(truth)).item()
        print(f"{name:16} 16 samples: standard deviation {100 * losses[name]:.0f} % of the Laplacian")
looped = ways[ALL](params, point, keys[0])
print("exact: relative error below 1e-10:", bool(abs(truth - looped) < 1e-10 * abs(looped)))
needed = 16 * (losses["Rademacher"] / 0.01) ** 2
print(f"Rademacher directions for 1 %: more than d = {d}:", bool(needed > d))

# %% [markdown]
# For plain networks with a narrow first layer, exact wins: similar time, and no error. Sampling earns its place where
# the trick does not apply:
#
# - *operators of higher order*: the compression is for second order; an exact $\Delta\Delta$ takes $d^2$ directions,
# - *skip connections* that keep $x$ alive through the network (11),
# - *gradients by the weights*, where the factorisation is differentiated too,
# - *a first layer wider than the samples that you would take*: the exact cost grows with the width.
#
# Higher order in numbers, with $d = 60$: the exact biharmonic takes 3,600 fourth-order jets, the estimate 16.

# %%
d = 60
net, params = network(d)
f, point = lambda x: mlp(params, x), jnp.asarray(np.random.default_rng(d).normal(size=d))
bilaplacian = jax.jit(lambda x: taylor.biharmonic(f, x))(point)
run = jax.jit(jax.vmap(lambda key: stde.estimate(stde.biharmonic(d), f, point, key, 16, dense="gaussian")))
draws = run(keys[:500])
off = abs(draws.mean() - bilaplacian) / (draws.std(ddof=1) / 500**0.5)
print(f"{d**2} jets against 16; mean of 500 estimates is {off:.1f} standard errors off")
print(f"standard deviation of one: {draws.std() / abs(bilaplacian):.1f} times the value")

# %% [markdown]
# ## 11 · Write your own
#
# An operator with coefficients that depend on the point: $\sum_i x_i^2\,u_{ii} + u_{001}$. The recipe has three steps.
#
# 1. Split off what is cheap to take exactly: here $u_{001}$, a few lines in a plane.
# 2. Draw from the rest with any probabilities $p_i > 0$, and divide by them: $\frac{1}{S} \sum_s c_{i_s} u_{i_s i_s} / p_{i_s}$.
# 3. Compare the mean over many keys with something exact and slow.
#
# Step 2 leaves a choice. Uniform is simplest; $p_i \propto |c_i|$ spends the draws where the coefficients are large.
# Or dense: $v_i = x_i s_i$ with random signs $s$ has $E\,v v^\top = \mathrm{diag}(x^2)$. (The package refuses dense
# estimates with coefficients that depend on $x$; by hand it is one line.)

# %%
XXY = (2, 1) + (0,) * (D - 2)


def uniform(f, x, key):
    axes = jax.random.randint(key, (4,), 0, D)
    return taylor.weighted(f, x, axes, D / 4 * x[axes] ** 2, order=2) + taylor.partial(f, x, XXY)


def by_size(f, x, key):
    axes = jax.random.choice(key, D, (4,), p=x**2 / (x @ x))
    return taylor.weighted(f, x, axes, jnp.full(4, x @ x / 4), order=2) + taylor.partial(f, x, XXY)


def scaled_signs(f, x, key):
    directions = x * jax.random.rademacher(key, (4, D), x.dtype)
    return taylor.weighted(f, x, directions, jnp.full(4, 1 / 4), order=2) + taylor.partial(f, x, XXY)


slow = (x**2 * jnp.diag(hessian)).sum() + third[0, 0, 1]
for mine in (uniform, by_size, scaled_signs):
    draws = jax.jit(jax.vmap(lambda key, mine=mine: mine(u, x, key)))(keys)
    unbiased(f"{mine.__name__}, deviation {draws.std():.1f}", draws, slow)

# %% [markdown]
# The package takes such coefficients as functions, draws without replacement, and recognises by itself that $u_{001}$
# is a kind with a single term, which it takes whole:

# %%
OWN = Operator({tuple(2 * (k == i) for k in range(D)): lambda x, i=i: x[i] ** 2 for i in range(D)} | {XXY: 1.0})
draws = many(OWN, u, x, 4)
same("apply", stde.apply(OWN, u, x), slow)
unbiased(f"package, deviation {draws.std():.1f}", draws, slow)

# %% [markdown]
# A wrong factor shows at once: its mean is dozens of standard errors off. A test over thousands of keys in float64
# takes a second and belongs beside every estimator that you write.
#
# ## Summary
#
# - An operator is a contraction of derivative tensors; drawing some terms (sparse) or random directions (dense)
#   estimates it without bias. Order 2: the Hessian says which one is better before any training.
# - The square of an estimate is biased by its variance. Two independent draws repair it.
# - A sample is not the operator. Compare methods at equal output: for Laplacians of plain networks the exact way costs
#   about as much as 16 samples; at higher orders and large $d$ there is only the sample.
#
# Next: [lesson 13 · A million dimensions](13_million_dimensions.ipynb): train on such estimates, in very many
# dimensions.
