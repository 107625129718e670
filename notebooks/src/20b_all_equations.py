# %% [markdown]
# # 20b · All equations of the papers
#
# **Which of the papers' equations does this solve, how exactly, and how long does it take?** (55 minutes)

# %% [markdown]
# After this lesson you can
#
# - build what is known on the faces of a box into a network, and check it in PyTorch,
# - read a table of errors beside its baselines, and a table of values at one point beside their references,
# - say which of these equations a classical method solves better, and why they are tried all the same.
#
# "The papers" are Shi et al. (2024, [arXiv](https://arxiv.org/abs/2412.00088)), of lessons 18 to 20, and those that
# they take equations from: Han, Jentzen and E (2018), Beck et al. (2021), Raissi (2018), Hu et al. (2024).

# %%
from itertools import pairwise
from time import perf_counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from course import pde, plots, results

# %%
SEED, STEPS, POINTS, VALUE_STEPS, VALUE_POINTS = 0, 40, 256, 60, 256
KEY = jax.random.key(SEED)
torch.set_num_threads(1)
plots.use()
EQUATIONS = {
    "KdV": pde.kdv_equation(), "KdV, gradient-enhanced": pde.kdv_equation(), "KdV 2-D": pde.kdv_2d_equation(),
    "Kadomtsev-Petviashvili": pde.kp_equation(), "Zakharov-Kuznetsov": pde.zk_equation(),
    "sine-Gordon, u_tx": pde.sine_gordon_equation(), "Kuramoto-Sivashinsky": pde.ks_equation(),
    "plate": pde.plate_equation(),
}  # fmt: skip


# %% [markdown]
# ## 1 · Three kinds of question
#
# The papers ask three things. *A function over a box* of time and one or two coordinates, with up to four derivatives:
#
# | name | equation |
# |---|---|
# | KdV | $u_t + 6 u u_x + u_{xxx} = 0$ |
# | KdV, gradient-enhanced | the same, and the slope of its residual in the loss |
# | KdV 2-D | $u_{ty} + u_{xxxy} + 3 (u_y u_x)_x - u_{xx} + 2 u_{yy} = 0$ |
# | Kadomtsev-Petviashvili | $(u_t + 6 u u_x + u_{xxx})_x + 3 u_{yy} = 0$ |
# | Zakharov-Kuznetsov | $u_t + u u_x + (\Delta u)_x = 0$ |
# | sine-Gordon | $u_{tx} = \sin u$ |
# | Kuramoto-Sivashinsky | $u_t + u u_x + u_{xx} + u_{xxxx} = 0$ |
# | plate | $\Delta \Delta u = g$ |
#
# *A function in a ball* of up to a hundred thousand dimensions: Poisson, Allen-Cahn and sine-Gordon (19). And *one
# value* of a function over all of space. Each equation has an exact solution in the package, or a reference of six
# digits, so that "solved" can be a number here.
#
# A closed form proves nothing until the residual has been tried on it:

# %%
def root_mean_square(values):
    return float(jnp.sqrt((values**2).mean()))


rows = {}
for name, equation in EQUATIONS.items():
    x = equation.sample(KEY, 64)
    exact, wrong = (lambda x, e=equation: e.solution(x)), (lambda x, e=equation: 1.1 * e.solution(x))
    left, of_wrong = jax.jit(jax.vmap(lambda x, e=equation, f=exact, g=wrong: (e.residual(f, x), e.residual(g, x))))(x)
    rows[name] = {"exact": root_mean_square(left), "1.1 times it": root_mean_square(of_wrong)}
left_over = pd.DataFrame(rows).T
print("residual of the exact solution, over that of 1.1 times it, below 1e-4 everywhere:",
      bool((left_over["exact"] < 1e-4 * left_over["1.1 times it"]).all()))  # fmt: skip
assert (left_over["exact"] < 1e-4 * left_over["1.1 times it"]).all()

# %% [markdown]
# What is left over is float32's rounding.
#
# ## 2 · What is known is built in
#
# An equation of order $n$ along an axis wants $n$ conditions along it, at one end or at both. The KdV lesson wrote its
# ansatz by hand. `pde.conditions_of(solution, domain, t=(1, 0), x=(1, 2))` says it by counting: at the lower end of $t$
# one, the value; at the lower end of $x$ one, at the upper two, value and slope.

# %%
kp = EQUATIONS["Kadomtsev-Petviashvili"]
print(kp.domain, "knows", ", ".join(map(str, kp.faces)))

# %% [markdown]
# Any network $N$ is then carried inside, as $u = \ell + \varphi N$: the *lift* $\ell$ has these values and slopes, the
# *factor* $\varphi$ vanishes there. With $P_t$ the interpolation along $t$ of what is known at its ends, and so on, the
# lift of a known function $f$ is $\ell = f - (1 - P_t)(1 - P_x)(1 - P_y) f$: where one of the brackets is zero, it is
# $f$ (Gordon and Hall, 1973). Multiplied out, $f$ itself drops out, and all that is left lies on faces.
#
# **Predict.** A network with random weights, and KP's seven conditions: how large is the error of $u$ at a random
# point of the face $y = -4$, and how large inside?

# %%
weights = [(w, b + 0.3) for w, b in pde.init_mlp(KEY, (3, 16, 16, 1))]
weights[-1] = (jax.random.normal(KEY, (16, 1)), weights[-1][1])
u = kp.ansatz(lambda z: pde.mlp(weights, z))
inside = kp.sample(KEY, 200)
gap = jax.jit(jax.vmap(lambda x: abs(u(x) - kp.solution(x))))
print(f"largest gap at y = -4: below 1e-5: {bool(gap(inside.at[:, 2].set(-4.0)).max() < 1e-5)}; "
      f"inside: {gap(inside).max():.1f}, of a wave of height 2")  # fmt: skip
slope = jax.jit(jax.vmap(jax.grad(lambda x: u(x) - kp.solution(x))))
at_left, at_top = slope(inside.at[:, 1].set(-6.0)), slope(inside.at[:, 2].set(4.0))
print("slope across x = -6 right:", bool(abs(at_left[:, 1]).max() < 1e-4),
      " across y = 4:", bool(abs(at_top[:, 2]).max() < 1e-4))  # fmt: skip


# %% [markdown]
# Rounding on the face, and inside whatever the network says. The slope holds where it was counted, at the ends of $x$;
# at those of $y$ it is the network's to find.
#
# ## 3 · One of them from end to end
#
# The sine-Gordon equation in light-cone coordinates has one derivative along each axis, so one condition each: the
# values where waves come in. Both sides write the ansatz, the mixed derivative and the residual, PyTorch in float64.
# Here the lift is short enough to be written by hand: two edges, minus the corner that both count.

# %%
def torch_exact(t, x):
    a, b = x + t / 4, x / 4 + t
    return 4 * torch.arctan(5 / 3 * torch.sinh(a - b) / torch.cosh(a + b))


def torch_u(params, p):
    (t, x), start = p.T, torch.full((), -2.0, dtype=p.dtype)
    z = p / 2
    for weight, bias in params[:-1]:
        z = torch.tanh(z @ weight + bias)
    network = (z @ params[-1][0] + params[-1][1])[:, 0]
    lift = torch_exact(start, x) + torch_exact(t, start) - torch_exact(start, start)
    return lift + (t + 2) * (x + 2) / 16 * network


def torch_residual(params, p):
    p = p.clone().requires_grad_()
    value = torch_u(params, p)
    u_t = torch.autograd.grad(value.sum(), p, create_graph=True)[0][:, 0]
    u_tx = torch.autograd.grad(u_t.sum(), p)[0][:, 1]
    return (u_tx - value.sin()).detach()


# %%
wave = EQUATIONS["sine-Gordon, u_tx"]


def residual(u, point):
    value, u_tx = wave.domain.derivatives(u, point, "", "tx")
    return u_tx - jnp.sin(value)


some = [(w[:2], b) if n == 0 else (w, b) for n, (w, b) in enumerate(weights)]
points = wave.sample(KEY, 200)
u = wave.ansatz(lambda z: pde.mlp(some, z))
by_hand, ready = jax.jit(jax.vmap(lambda x: (residual(u, x), wave.residual(u, x))))(points)
in_torch = torch_residual(*jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf, np.float64)), (some, points)))
for ours in (by_hand, ready):
    assert abs(np.asarray(ours) - in_torch.numpy()).max() < 1e-5 * in_torch.abs().max()
print(f"largest residual {in_torch.abs().max():.2f}; JAX, the package and PyTorch: gaps below 1e-5 of it")

# %% [markdown]
# `pde.solve` trains. Its default, Gauss-Newton, makes the residuals at all points of a batch zero to first order in
# each step, damped (21 takes it apart): for networks of a thousand weights a few dozen steps do what takes Adam
# thousands.

# %% tags=["nbval-ignore-output"] volatile="errors after training, seconds"
solved = pde.solve(wave, pde.Mlp(width=24, depth=2), KEY, steps=STEPS, points=POINTS, progress=False)
print(f"{STEPS} steps in {solved.seconds:.0f} s, compiling included: relative L2 error {solved.error:.1e}")
assert solved.error < 1e-2

# %% tags=["nbval-ignore-output"] volatile="errors after training" alt="Four panels. Upper left, u over x and t: a valley and a hill, the kink and the antikink, that cross in the middle. Upper right, the signed error, at most a hundredth, zero along the lower and the left edge. Lower left, u at three times, the network's lines on the pale exact ones. Lower right, the loss against the step, falling over many decades."
plots.solution(solved)
plt.show()
gaps = abs(solved.grid().values - solved.exact().values)
print("error at t = -2 and at x = -2 below 1e-5:", bool(max(gaps[0].max(), gaps[:, 0].max()) < 1e-5))

# %% [markdown]
# ## 4 · All eight
#
# One is harder than the others: KP, whose three solitons meet in the middle of the box.
#
# `make bench` runs each of the eight on one core (`benchmarks/pde_waves.py`); here is what was published, with the
# baseline of lesson 20: what the best number does, times the factor of the plate and alone elsewhere.

# %%
waves = results.load("pde_waves")
print(results.measured_on(waves))
table = results.table(waves, "waves")
print("relative L2 at most 2e-2:", int((table["relative_l2"] <= 2e-2).sum()), "of", len(table))
assert list(table.index) == list(EQUATIONS)
assert (table["relative_l2"] < 0.01).sum() == 7 and table.loc["Kadomtsev-Petviashvili", "relative_l2"] < 0.06
with_slope, plain = (table.loc[name] for name in ("KdV, gradient-enhanced", "KdV"))
print(f"gradient-enhanced over plain KdV: error {with_slope.relative_l2 / plain.relative_l2:.1f}, "
      f"seconds {with_slope.seconds / plain.seconds:.1f}")  # fmt: skip
table.assign(relative_l2=table["relative_l2"].map("{:.1e}".format)).round({"best_constant": 2, "seconds": 0})


# %% [markdown]
# An error of $10^{-3}$ is invisible in a picture, so each column shows the network above the exact solution, and below
# them the gap, in the colours of its own size. Where there are three coordinates it is the end of time.

# %%
def on_grid(name):
    equation, kept = EQUATIONS[name], results.table(waves, "gaps").loc[name]
    box, side = getattr(equation, "domain", equation), int(kept["side"])
    axes = [np.linspace(*ends, side) for ends in zip(box.lower, box.upper, strict=True)]
    axes[:-2] = [axis[-1:] for axis in axes[:-2]]
    at = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(side, side, -1), float)
    gaps = np.array(kept["gaps"].split(), float).reshape(side, side) * kept["largest"] / 99
    return axes[-2:], np.asarray(jax.jit(jax.vmap(jax.vmap(equation.solution)))(at)), gaps


shown = [name for name in EQUATIONS if name != "KdV, gradient-enhanced"]

# %% alt="Seven columns in two blocks, each of three pictures: the network, the exact solution, and the gap. Network and exact solution look the same in all columns: a travelling wave, a front, a Y of three solitons, a slanting ridge, two crossing kinks, a front with two sides, a hill. The gaps are patches without the shape of the solution."
figure, axes = plt.subplots(6, 4, figsize=(plots.WIDTH, 9.6))
for place, name in enumerate(shown):
    (first, second), exact, gaps = on_grid(name)
    column = axes[3 * (place // 4) : 3 * (place // 4) + 3, place % 4]
    for axis, what, values in zip(column, ("network", "exact", "gap"), (exact + gaps, exact, gaps), strict=True):
        size = abs(gaps if what == "gap" else exact).max()
        axis.pcolormesh(second, first, values, cmap="RdBu", vmin=-size, vmax=size, shading="nearest")
        axis.set(xticks=[], yticks=[], ylabel="" if place % 4 else what)
    column[0].set_title(name.replace("-", "-\n") if len(name) > 18 else name, fontsize=9)
    column[2].set_xlabel(f"largest gap {abs(gaps).max():.0e}", fontsize=8)
for axis in axes[3:, 3]:
    axis.axis("off")
plt.show()
print("largest gap over the largest value:",
      {name: f"{abs(on_grid(name)[2]).max() / abs(on_grid(name)[1]).max():.0e}" for name in shown[:3]})  # fmt: skip

# %% [markdown]
# ## 5 · A value at one point
#
# Other equations live in all of space, and asked is $u$ at $t = 0$ and one $x$: what a derivative costs today, or
# steering. Allen-Cahn in time, for instance:
#
# $$u_t + \Delta u + u - u^3 = 0 \text{ for } t < T, \qquad u(T, x) = \frac{5}{10 + 2 |x|^2} .$$
#
# What counts lies on paths: $u(0, x)$ depends on what a Brownian motion from $x$ meets until $T$. So the points are
# drawn from such paths, and the network learns $u$ along them. Without the reaction $u - u^3$ the answer would be the
# mean of the values at their ends, which is the baseline here.
#
# **Predict.** $d = 20$, $T = 0.3$, and the final values are at most $1/2$. By how much is the mean of the ends off,
# without any reaction: 1 %, 5 % or 25 %?

# %% tags=["nbval-ignore-output"] volatile="errors after training, seconds"
growth = pde.semilinear_equation("allen-cahn", 20)
asked, true = growth.asked, float(growth.solution(growth.asked))
valued = pde.solve(growth, pde.Mlp(24, 2), KEY, steps=VALUE_STEPS, points=VALUE_POINTS, progress=False)
value = float(valued(asked))
print(f"u(0, 0) = {value:.5f}, reference {true:.5f}: {100 * abs(value / true - 1):.2f} % off, "
      f"baseline {100 * abs(growth.mean / true - 1):.0f} % off")  # fmt: skip
print(f"relative L2 error along the paths {100 * valued.error:.2f} %, {valued.seconds:.0f} s")
assert abs(value / true - 1) < 0.03 and abs(growth.mean / true - 1) > 0.2

# %% [markdown]
# By a quarter: in that time $u$ grows by $e^{0.3}$, nearly. The network is within a few per cent.
#
# Where is the reference from? The final value depends on $|x|$ alone, and with it $u$ at all times: in $q = |x|^2$ the
# equation has one dimension, whatever $d$. Another way needs no such luck: the mean over many paths, corrected for the
# reaction. To first order in $T$ it is the mean plus $T$ times the reaction of it. Both sides of this course draw it:

# %%
n = 200_000
z = np.random.default_rng(SEED).normal(size=(n, 20)).astype(np.float32)
ends = np.asarray(jax.jit(jax.vmap(growth.final))(growth.path(jnp.asarray(growth.horizon), jnp.asarray(z))))
at_ends = 5 / (10 + 2 * (torch.tensor(z) * (2 * growth.horizon) ** 0.5).square().sum(dim=1))
assert abs(at_ends.mean().item() - ends.mean()) < 1e-5
first_order = ends.mean() + growth.horizon * (ends.mean() - (ends**3).mean())
print(f"mean of {n:,} paths {ends.mean():.4f}, first order {first_order:.4f}, reference {true:.4f}")
assert abs(first_order - true) < abs(ends.mean() - true)

# %% [markdown]
# ## 6 · Many dimensions: two tables
#
# In the unit ball: Poisson, Allen-Cahn and sine-Gordon, each with a solution that couples neighbouring coordinates in
# pairs and in triples (19). What can be read is the ratio of the best constant's error to the network's: where it is
# near 1, nothing was learned but a number.

# %%
many = results.load("pde_table")
print(results.measured_on(many))
ball = pd.DataFrame(many["tables"]["ball"])
ball["constant / error"] = ball["best_constant"] / ball["relative_l2"]
assert (ball["name"].str.contains("two-body") == (ball["constant / error"] > 1)).all()
print(f"better than the best constant: {(ball['constant / error'] > 1).sum()} of {len(ball)}")
ball.pivot(index="name", columns="d", values=["relative_l2", "constant / error", "seconds"]).map(
    "{:.2g}".format
).replace("nan", "")

# %% [markdown]
# The error falls with $d$ in such tables, and that is no merit of the network: the solution itself comes ever closer
# to a number times the factor that vanishes on the surface (19). With three bodies it is so close that no row beats its
# constant: a small error, and nothing learned.
#
# Values at one point: beside the network's stands the reference, and what was published, mostly by Monte Carlo; `gap`
# is relative to the reference, `worst_gap` that of the worst seed, and `baseline_gap` that of the mean without a
# reaction.

# %%
values = pd.DataFrame(many["tables"]["value"]).set_index(["name", "d"])
known = values.dropna(subset="published")
off = (known["published"] / known["reference"] - 1).abs().max()
print(f"published values against our references: at most {100 * off:.1f} % apart")
print(f"worst seed within 1 %: {(values['worst_gap'] <= 0.01).sum()} of {len(values)}; "
      f"closer than the baseline: {(values['gap'] < values['baseline_gap']).sum()}")  # fmt: skip
values.map("{:.4g}".format).replace("nan", "")

# %% [markdown]
# ## 7 · What a step is made of, and what the authors share
#
# Points have to be drawn, the source computed at them, multiplied with the first layer's weights, and the weights
# moved. `benchmarks/pde_cost.py` times each part alone, beside a floor that no method passes: points written and read
# once, weights and moments read and written once, at the speed at which the machine copies.

# %%
cost = results.load("pde_cost")
print(results.measured_on(cost))
parts = pd.DataFrame(cost["tables"]["parts of a step"])
parts = parts.pivot_table(index=["optimizer", "name"], columns="dimension", values="step_ms", sort=False)
whole, floor = (parts.xs(name, level="name") for name in ("a whole step", "floor: bytes at copy speed"))
print("a whole step over its floor:")
print((whole / floor).round(1).to_string())
assert (whole > 3 * floor).all(axis=None)
parts.map("{:,.3g}".format)

# %% [markdown]
# Memory does not bind: a whole step takes several times its floor. Drawing points is arithmetic (random bits and an
# inverse error function; for the natural gradient signs and a wave, which is less), and so is the source, with sines
# and cosines of every coordinate. The products come third; only Adam's pass over weights and moments runs at about the
# speed of memory. A natural-gradient step moves nothing of that kind, and pays with the products $X X^\top$.
#
# The error that is left by the natural gradient's step, at its full rate, against the points seen: the best constant's
# error over the run's, and what a perfect fit of a linear function would have ($1 / \sqrt{1 - n/d}$, 19).

# %%
law = pd.DataFrame(cost["tables"]["error against points seen"])
shown_law = law.pivot(index="n / d", columns="dimension", values="constant / error")
assert (shown_law.loc[0.5] < 1.5).all() and (shown_law.loc[1] > 1.5).all()
shown_law["perfect"] = [1 / (1 - share) ** 0.5 if share < 1 else np.inf for share in shown_law.index]
shown_law.map("{:.2f}".format).replace("nan", "")

# %% [markdown]
# Up to half a round little is gained, less than a perfect fit of a line would gain from as many values: at the full
# rate each batch is fitted at the cost of the others. With the round complete, at $n = d$, the error falls by two to
# four.
#
# Shi et al. save memory in two ways: one first layer for all blocks of so many coordinates, and one draw of
# coordinates for all points of a batch. What do they cost?
#
# **Predict.** Blocks of ten coordinates leave a tenth of the first layer's weights. The solution has a random
# coefficient for every pair of coordinates. Is the error ten times larger, the constant's, or the same?

# %%
shared = results.table(cost, "weights shared in the first layer")
draws = results.table(cost, "sampled coordinates")
keep = ["state_MB", "temporary_MB", "step_ms", "relative_l2", "constant / error"]
assert shared.loc["blocks of 10", "constant / error"] < 1.5 < shared.loc["nothing shared", "constant / error"] / 5
pd.concat([shared, draws.iloc[1:]])[keep].map("{:.3g}".format)


# %% [markdown]
# Nearly the constant's. Two coordinates to a block cost a factor of six or so, five or more leave little but a number:
# one unit for every block cannot tell coefficients apart that are drawn for each pair. The saving suits solutions that
# treat all blocks alike. One draw of coordinates for the batch costs nothing in the error, against a draw for each
# point; on this processor it saves nothing either.

# %% [markdown]
# ## 8 · What a classical method does
#
# The sine-Gordon wave of section 3 again, summed over the small squares of a grid by the trapezoidal rule, in NumPy and
# a loop of Python:
# $u_{i+1,j+1} = u_{i+1,j} + u_{i,j+1} - u_{i,j} + h^2 \sin \frac{u_{i+1,j} + u_{i,j+1}}{2}$.
#
# **Predict.** The network took seconds to get where it is. How long does the loop take to get as far: a minute, a
# second, or a hundredth of it?

# %% tags=["nbval-ignore-output"] volatile="the network's error, milliseconds"
def by_squares(n):
    side, h = torch.linspace(-2, 2, n + 1, dtype=torch.float64), 4 / n
    exact, u = torch_exact(side[:, None], side).numpy(), np.zeros((n + 1, n + 1))
    u[0], u[:, 0] = exact[0], exact[:, 0]  # where waves come in
    for i in range(n):
        for j in range(n):
            two = u[i + 1, j] + u[i, j + 1]
            u[i + 1, j + 1] = two - u[i, j] + h**2 * np.sin(two / 2)
    return np.linalg.norm(u - exact) / np.linalg.norm(exact)


rows = {}
for n in (25, 50, 100):
    begun = perf_counter()
    rows[f"squares, {n} a side"] = [by_squares(n), 1e3 * (perf_counter() - begun)]
gaps = [error for error, _ in rows.values()]
print("half the side, error over error:", *(f"{a / b:.1f}" for a, b in pairwise(gaps)))
rows["network"] = [solved.error, 1e3 * solved.seconds]
assert all(3.8 < a / b < 4.2 for a, b in pairwise(gaps)) and gaps[-1] < solved.error
pd.DataFrame(rows, index=["relative L2", "milliseconds"]).T.map("{:.1e}".format)

# %% [markdown]
# A hundredth of a second, or a few: and the error falls with the square of the side, on and on, where the network's
# training stops. In one to three dimensions grids are the first choice (lesson 21 has a method for
# Kuramoto-Sivashinsky and its kin), and the references of section 5 came out of one dimension. What a network has for
# it: one program for every equation of the table; a result with all derivatives, between the points too; unknown
# coefficients that are trained along (21); and the balls of section 6, where there is no grid.
#
# ## Summary
#
# - What is known on the faces of a box is carried inside by `conditions_of`, and a network cannot spoil it; residual
#   and ansatz agree with PyTorch's.
# - Seven of the eight equations in a few dimensions come out within 1 %, in a minute or so each, and KP's three
#   solitons within 6 %; an error stands beside the best constant's, a value beside its reference and the mean without a
#   reaction.
# - Where a grid is possible it is faster and more exact, measured here for one of them. Many dimensions, and unknowns,
#   are what networks are for.
#
# ## Further reading
#
# - [Stochastic Taylor derivative estimator](https://arxiv.org/abs/2412.00088): Shi et al. (2024), section 5, most of
#   these equations.
# - [Solving high-dimensional PDEs using deep learning](https://doi.org/10.1073/pnas.1718942115): Han, Jentzen and E
#   (2018), values at a point, and where Allen-Cahn's and HJB's are from.
# - [Tackling the curse of dimensionality with PINNs](https://arxiv.org/abs/2307.12306): Hu et al. (2024), the ball.
#
# Exercises: [your turn](exercises/20b_all_equations.ipynb).
#
# Next: [21 · An equation of your own](21_your_own_equation.ipynb).
