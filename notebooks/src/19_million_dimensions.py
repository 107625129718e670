# %% [markdown]
# # 19 · A million dimensions
#
# **Can a network solve an equation over a million coordinates, and how would you know?** (85 minutes)

# %% [markdown]
# After this lesson you can
#
# - set up a partial differential equation (PDE) with a known solution in any dimension, with the boundary condition
#   built into the network,
# - train it in one compiled loop with sampled or exact Laplacians,
# - tell a solved equation from one whose solution a constant already approximates,
# - take a step that fits a batch as a whole, and say where it beats Adam.
#
# The second last point first, because it decides what the numbers mean. In the benchmark that the STDE paper uses, the
# solution tends to become flatter as the dimension grows: in a million dimensions *one number* times the boundary
# factor $1-|x|^2$ has a relative error below a thousandth. Adam beats that best constant clearly at 1,000 and 10,000
# dimensions; at 100,000 and 1,000,000 it only matches it, and section 6 measures why: there are as many unknowns as
# dimensions, and a run sees fewer points. Section 7 has an optimizer that learns more from each point, beats the
# constant at 100,000, and by a tenth at 1,000,000. Section 8 has an equation where a constant is useless.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from tqdm import tqdm

from course import pde, plots, results, stde, taylor
from course.failures import fails

# %%
SEED, POINTS, SAMPLES, WIDTH = 0, 100, 16, 128
torch.set_num_threads(1)
plots.use()


# %% [markdown]
# ## 1 · An equation with a known solution
#
# Sine-Gordon in the unit ball, $\Delta u + \sin u = g$, $u = 0$ on the surface. One chooses the solution
# first, $u = (1 - |x|^2)\,s(x)$ with $s(x) = \sum_i c_i \sin(x_i + \cos x_{i+1} + x_{i+1}\cos x_i)$ and
# random normal numbers $c_i$, and computes the source $g$ that makes it one (Shi et al. 2024, section 5,
# [arXiv](https://arxiv.org/abs/2412.00088)). The network never sees $s$, only $g$.
#
# The package has $g$ in closed form. A PyTorch user would get it from $u$ with nested `autograd.grad`, one pass for
# each coordinate, which is a check:

# %%
def laplacian_torch(u, x):
    (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    rows = [torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
    return torch.stack(rows).sum(0)


def solution_torch(x):
    c, a, b = torch.from_numpy(np.array(equation.coefficients)), x[:, :-1], x[:, 1:]
    return (1 - (x**2).sum(1)) * (torch.sin(a + torch.cos(b) + b * torch.cos(a)) @ c)


equation = pde.ball_equation("sine-gordon", 100, jax.random.key(SEED))
x = equation.sample(jax.random.key(1), 5)
source = jax.jit(jax.vmap(equation.source))(x)
x_torch = torch.from_numpy(np.array(x)).requires_grad_()
source_torch = (laplacian_torch(solution_torch, x_torch) + torch.sin(solution_torch(x_torch))).detach().numpy()
print("g in closed form, JAX:  ", np.round(source, 1))
print("100 passes, PyTorch:    ", np.round(source_torch, 1))
print("largest gap below 1e-4 of the largest:", bool(abs(source_torch - source).max() < 1e-4 * abs(source).max()))


# %% [markdown]
# ## 2 · How good is a constant?
#
# A point of the ball spreads its length over all coordinates, so each is of size $1/\sqrt d$ and every sine
# sees nearly the same argument. The *relative L2 error* is the norm of the error's values at many points, divided by
# that of the solution's. At 100 points, for $c\,(1 - |x|^2)$ with the best single number $c$:

# %%
def two_body(c, x):  # s at points (n, d), in NumPy
    a, b = x[:, :-1], x[:, 1:]
    return np.sin(a + np.cos(b) + b * np.cos(a)) @ c


def coefficients(d):  # as `pde.ball_equation` draws them
    return np.asarray(jax.random.normal(jax.random.split(jax.random.key(SEED))[0], d - 1), np.float64)


def in_ball(rng, n, d):
    x = rng.normal(size=(n, d))
    return x * (rng.uniform(size=(n, 1)) / np.linalg.norm(x, axis=1, keepdims=True))


def constant_error(s, x):
    shape = 1 - (x**2).sum(axis=1)
    u, constant = shape * s, (shape * s @ shape) / (shape @ shape)
    return np.linalg.norm(u - constant * shape) / np.linalg.norm(u)


# %%
rows = []
for d in (100, 1_000, 10_000, 100_000):
    x = in_ball(np.random.default_rng(SEED), 100, d)
    s = two_body(coefficients(d), x)
    rows.append({"d": d, "coordinate": abs(x).mean(), "spread of s": s.std() / abs(s.mean()),
                 "best constant's error": constant_error(s, x)})  # fmt: skip
pd.DataFrame(rows).set_index("d").map("{:.1e}".format)

# %% [markdown]
# Any error above the best constant's is worse than not looking at $x$ at all; we print it beside every error. As a
# rule, the more dimensions, the closer $s$ is to one number. The spread is about $0.5 / |\sum_i c_i|$, and that sum
# is random, of size $\sqrt d$: at 10,000 the draw nearly cancels, so its row is worse.
#
# ## 3 · The boundary, built in
#
# The *ansatz*, the form in which the network enters, is $u = (1 - |x|^2)\,(\text{offset} + N(x))$, times a scale: zero
# on the surface whatever the network $N$.
# The offset comes from the mean of the source: a network that is zero starts near the best constant.
# The product rule takes the factor out of the expensive part:
#
# $$\Delta\big((1-|x|^2)\,N\big) = (1-|x|^2)\,\Delta N - 4\,x\cdot\nabla N - 2d\,N$$
#
# $x \cdot \nabla N$ is one `jvp` along $x$ itself, and shares its first product $xW$ with the value. What remains is
# $\Delta N$, exact (`taylor.laplacian`, lesson 17b) or from 16 sampled coordinates (`stde.estimate`, lesson 18).

# %%
params = pde.init_mlp(jax.random.key(3), (100, WIDTH, WIDTH, WIDTH, 1))
params[-1] = jax.random.normal(jax.random.key(4), (WIDTH, 1)) / WIDTH**0.5, params[-1][1]
network = partial(pde.mlp, params)

x = equation.sample(jax.random.key(5), POINTS)
opaque, by_product_rule = jax.jit(jax.vmap(lambda x: (
    equation.residual(equation.ansatz(network), x), equation.network_residual(network, x))))(x)  # fmt: skip
print("the Laplacian of u as a whole:", np.round(opaque[:4], 3))
print("by the product rule:          ", np.round(by_product_rule[:4], 3))
print("largest gap below 2e-5:", bool(abs(by_product_rule - opaque).max() < 2e-5))

keys = jax.random.split(jax.random.key(6), 2000)
estimates = jax.jit(jax.vmap(lambda key: equation.network_residual(network, x[0], key, SAMPLES)))(keys)
mean, standard_error = estimates.mean(), estimates.std() / 2000**0.5
print(f"residual at one point: exact {by_product_rule[0]:.4f}, mean of 2000 estimates {mean:.4f}")
print(f"spread of one estimate {estimates.std():.1e}, standard error of the mean {standard_error:.1e}")
print("gap below four standard errors:", bool(abs(mean - by_product_rule[0]) < 4 * standard_error))
with fails(ValueError):
    equation.network_residual(network, x[0], samples=SAMPLES)

# %% [markdown]
# The error reads: expected, got, remedy. In PyTorch one would draw from the global generator and need no key; here
# nothing draws without one (00).
#
# What is drawn, then? Points, and for all of them together some coordinates:

# %% alt="A diagram. A key is split in two: one draws the points, a table with a row for each point and a column for each coordinate; the other draws 16 columns, marked in every row. Each row goes through the network and its derivatives, then through the residual with the source, and the mean of the squares is the loss."
diagram = plots.Diagram(height=2.5)
rng = np.random.default_rng(SEED)
chosen = np.tile(np.isin(np.arange(10), [1, 4, 8]), (5, 1))
key_box = diagram.array(0.45, 1.25, "key", side="jax", width=0.7)
points_box = diagram.cells(2.65, 1.25, rng.normal(size=(5, 10)), side="jax", size=0.25, text="", marked=chosen)
diagram.note(2.65, 2.1, "100 points, one a row", size=8.5)
diagram.note(2.65, 0.4, "d coordinates, one a column\n16 of them drawn, for all rows", size=8.5)
network_box = diagram.function(4.95, 1.55, "N,  $x\\cdot\\nabla N$,\n16 of $\\partial_i^2 N$", side="jax", height=0.6)
source_box = diagram.function(4.95, 0.7, "source g", side="jax", width=1.1, height=0.4)
residual_box = diagram.function(6.25, 1.25, "residual", side="jax", width=0.8)
loss_box = diagram.array(7.65, 1.25, "loss", side="jax", width=0.6)
diagram.arrow(key_box, (1.37, 1.55), "points", offset=0.17)
diagram.arrow(key_box, (1.37, 0.95), "axes", offset=-0.2)
diagram.arrow((3.92, 1.4), network_box)
diagram.arrow((3.92, 1.1), source_box)
diagram.arrow(network_box, residual_box)
diagram.arrow(source_box, residual_box)
diagram.arrow(residual_box, loss_box, "mean of\nsquares", offset=0.25)
plt.show()
print(f"second derivatives taken: {POINTS * SAMPLES:,} of {POINTS * equation.dimension:,}")


# %% [markdown]
# ## 4 · The loss draws its own points
#
# In PyTorch the loop draws points and feeds them in. Here the loss takes a key and draws inside, so that the
# whole loop can be compiled: no data leave the device between two steps. All points share one draw of
# coordinates, and the square uses the same draw twice: biased by the variance (18). Here the bias is small:
# for this solution $\Delta s \approx -(2\sin 1 + \cos 1)\sum_i c_i$, about $1.3/d$ of the term $2d\,s$ in the
# product rule, so a noisy $\Delta N$ hardly moves the residual. In section 8 that is no longer so.

# %%
def make_loss(equation, samples, points=POINTS):
    def loss_fn(params, key):
        key_x, key_axes = jax.random.split(key)
        x = equation.sample(key_x, points)

        def square(x):
            return equation.network_residual(partial(pde.mlp, params), x, key_axes, samples) ** 2

        return jax.vmap(square)(x).mean()

    return loss_fn


# %% [markdown]
# The same residual in PyTorch on the same points and weights, through `torch.func` forward over reverse on the 16
# coordinates; `torch.func.vmap` is the counterpart of `jax.vmap`:

# %%
axes = np.array(stde.distinct(jax.random.key(7), 100, SAMPLES))
weights = [(torch.from_numpy(np.array(w)), torch.from_numpy(np.array(b))) for w, b in params]
source = torch.from_numpy(np.array(jax.jit(jax.vmap(equation.source))(x)))
points = torch.from_numpy(np.array(x))


def u_torch(x):
    factor = equation.scale * (1 - (x**2).sum(-1, keepdim=True))
    for w, b in weights[:-1]:
        x = torch.tanh(x @ w + b)
    return (factor * (equation.offset + x @ weights[-1][0] + weights[-1][1])).sum()


def residual_torch(x, g):
    slope, unit = torch.func.grad(u_torch), torch.eye(len(x))
    second = torch.func.vmap(lambda e: torch.func.jvp(slope, (x,), (e,))[1] @ e)(unit[axes])
    return (len(x) * second.mean() + torch.sin(u_torch(x)) - g) / equation.source_rms


# %%
def residual_jax(x, g):
    u = equation.ansatz(network)
    value, lap = taylor.value_and_laplacian(u, x, axes)
    return (len(x) / SAMPLES * lap + jnp.sin(value) - g) / equation.source_rms


ours = jax.jit(jax.vmap(residual_jax))(x, source.numpy())
theirs = torch.func.vmap(residual_torch)(points, source).numpy()
print("JAX:    ", np.round(ours[:4], 3))
print("PyTorch:", np.round(theirs[:4], 3))
print("largest gap of 100 below 1e-4:", bool(abs(ours - theirs).max() < 1e-4))


# %% [markdown]
# ## 5 · Training, live
#
# `pde.train` runs chunks of steps inside `lax.scan`, the state's memory donated (08) from chunk to chunk; between two
# chunks it reports, which is where a progress bar or a checkpoint goes. Here 1,000 dimensions, of whose second
# derivatives each step samples 16:

# %% tags=["nbval-ignore-output"] volatile="the error after training differs between processors in its last digits"
def solve(equation, steps, learning_rate, samples, points=POINTS):
    d = equation.dimension
    loss_fn, optimizer = make_loss(equation, samples, points), pde.scaled_cosine_adam(steps, learning_rate, d)
    params = pde.init_mlp(jax.random.key(SEED + 1), (d, WIDTH, WIDTH, WIDTH, 1))
    start = pde.start(params, optimizer, jax.random.key(SEED + 2))
    with tqdm(total=steps, desc=f"d = {d:,}") as bar:
        state, losses = pde.train(
            loss_fn, optimizer, start, steps, chunk=steps // 5, report=lambda _, losses: bar.update(len(losses))
        )
    u = equation.ansatz(partial(pde.mlp, state.params))
    return state.params, np.asarray(losses), pde.relative_l2(equation, u, jax.random.key(SEED + 3))


thousand = pde.ball_equation("sine-gordon", 1_000, jax.random.key(SEED))
params_1000, losses_1000, error_1000 = solve(thousand, 300, 5e-3, samples=SAMPLES)
print(f"relative L2 {error_1000.relative_l2:.1e}, best constant {error_1000.best_constant:.1e}, "
      f"ratio {error_1000.best_constant / error_1000.relative_l2:.1f}")  # fmt: skip
assert error_1000.relative_l2 < min(1.5e-3, error_1000.best_constant / 3)


# %% tags=["nbval-ignore-output"] volatile="after training, the last digits differ between processors"
def seen(params, x):  # what the network has learned of s
    u = thousand.ansatz(partial(pde.mlp, params))
    value, lap = taylor.value_and_laplacian(lambda x: u(x) / (1 - x @ x), x)
    s = thousand.exact(x)
    return s.value, value, (1 - x @ x) * (lap - s.laplacian) / (2 * len(x)), lap / s.laplacian


x = thousand.sample(jax.random.key(8), 200)
# the weights are an argument: as constants, XLA would multiply them while it compiles, and say that this is slow
exact, got, predicted, curvature = np.asarray(jax.jit(jax.vmap(seen, (None, 0)))(params_1000, x))
correlation = np.corrcoef(exact, got)[0, 1]
print(f"correlation of s and the network's s: {correlation:.3f} (a constant has none)")

# %% alt="Left, the loss against the step for 1,000 dimensions, falling by two decades. Right, the network's s against the exact s at 200 points of 1,000 dimensions: a narrow band along the diagonal, most of it a little below."
figure, (left, right) = plots.panels(2)
left.semilogy(losses_1000, marker="")
left.set(xlabel="step", ylabel="mean squared residual / source²", title="Training, 1,000 dimensions")
right.plot(exact, got, "o", markersize=3)
right.plot([exact.min(), exact.max()], [exact.min(), exact.max()], color="black", marker="", linewidth=0.7)
right.set(xlabel="exact s", ylabel="network's s", title="What a constant misses")
plt.show()
assert correlation > 0.95

# %% [markdown]
# A few of them lie off the diagonal together: the equation, in which $2d\,s$ outweighs $\Delta s$ by about $d$, fixes
# the slope of $s$ and leaves its curvature nearly free, and a shift makes up for it.
#
# Two details make this work. The first layer's weights see $d$ coordinates, and Adam moves each of them by the
# learning rate, so that their sum would jump by $\sqrt d$ times as much: `pde.scaled_cosine_adam` scales that layer's
# step by $3/\sqrt d$. And the ansatz multiplies by the size of $s$, so that the network's output is of size one and the
# learning rate means the same in every dimension. (Dividing the residual by the source's size makes losses
# comparable; Adam takes no notice of it.)
#
# What does the operator cost? The loss's gradient for 100 points, its Laplacian exact or from 16 coordinates, as
# `make bench` measured it.
#
# **Predict.** From 1,000 to 100,000 dimensions there are a hundred times as many second derivatives. How many times
# longer does the exact Laplacian take: 100 times, 20 times, or 3 times?

# %%
operators = results.load("operators")
print(results.measured_on(operators))
ways = {"exact, course.taylor": "exact", "course.stde, 16 sparse": "16 sampled", "jax.hessian": "jax.hessian"}
pd.DataFrame({
    d: results.table(operators, f"d = {d:,}")["gradient_ms"].reindex(ways).rename(ways)
    for d in (100, 1_000, 10_000, 100_000)
}).map("{:,.1f} ms".format, na_action="ignore").fillna("")  # fmt: skip


# %% [markdown]
# Three times. The first layer is linear, so the exact Laplacian is compressed to its 128 outputs (17b), and past 128
# dimensions the number of directions stands still; what grows is the product with the first layer's weights. The same
# product makes the sampled one grow too: at 100,000 dimensions sampling saves a factor of two or three, not of
# thousands. `jax.hessian` has no entry where it would not fit.
#
# ## 6 · Ten thousand, a hundred thousand, a million
#
# These take longer than a lesson may; `make pde DIM=1000000 OPTIMIZER=adam` runs one, shows progress, saves itself on
# Ctrl-C and continues when started again. The committed results:

# %%
def committed(dimensions, optimizer):
    runs = [results.load(f"pde_sine-gordon_two-body_{d}{optimizer}") for d in dimensions]
    print("\n".join(sorted({results.measured_on(run) for run in runs})))
    rows = [run["tables"]["run"][0] | run["setting"] | run["conditions"] for run in runs]
    table = pd.DataFrame(rows).set_index("dimension")
    table["constant / error"] = table["best_constant"] / table["relative_l2"]
    table["points seen / d"] = table["steps"] * table["points"] / table.index
    return table


columns = ["relative_l2", "best_constant", "constant / error", "points seen / d", "seconds", "peak_memory_GiB"]
table = committed((100, 1_000, 10_000, 100_000, 1_000_000), "_adam")
table[columns].map("{:,.4g}".format)

# %% [markdown]
# For scale: the paper reports eight minutes for a million dimensions on an A100 GPU (Shi et al. 2024,
# abstract). Our million-dimensional run is 60 steps of 16 points on a CPU, so the two times cannot be
# compared.
#
# The last two rows do not beat the constant (they are above it by a hair). The column `points seen / d` says one
# reason. To first order
# $s(x) \approx \sum_i c_i\,(\sin 1 + (x_i + x_{i+1}) \cos 1)$: what a constant misses is a linear function,
# $\cos 1 \sum_i (c_{i-1} + c_i)\,x_i$, with $d$ random coefficients. Take the training out of it: give a linear
# function the *solution's* values at $n$ points, and solve for the best one exactly.
#
# **Predict.** With values at $n = d/2$ points, how much of the constant's error is left: nearly nothing, a half, or
# more?

# %%
d = 500
x = in_ball(np.random.default_rng(SEED), 1_500, d)
s, known = two_body(coefficients(d), x), np.column_stack([np.ones(len(x)), x])
rows = []
for n in (5, 50, 250, 750):
    fit, *_ = np.linalg.lstsq(known[:n], s[:n], rcond=None)  # the smallest linear function through n values
    left_over = (s - known @ fit)[1_000:]  # at 500 points that it has not seen
    rows.append({"n / d": n / d, "spread left, of the constant's": left_over.std() / s[1_000:].std(),
                 "sqrt(1 - n/d)": max(1 - n / d, 0) ** 0.5})  # fmt: skip
pd.DataFrame(rows).set_index("n / d").map("{:.2f}".format)

# %% [markdown]
# More than a half. From $n < d$ values a linear fit explains on average a share of about $n/d$ of the *mean square*,
# so a spread of about $\sqrt{1 - n/d}$ is left: at $n = d/10$ nearly all, at $n = d/2$ seven tenths, and only past
# $n = d$ little.
#
# But the rows of the table also differ in steps and learning rates, and Adam is no solver of linear equations. To tell
# the causes apart, `benchmarks/pde_points.py` varies each alone: 1,000 dimensions, 100 points a step, drawn from a pool
# of $n$ different points or fresh, and three numbers of steps with three rates. The best constant's error over the
# network's:

# %%
causes = results.load("pde_points")
print(results.measured_on(causes))
pools = results.table(causes, "constant / error").astype({"steps": int})
pools["n / d"] = pools["pool"].replace("fresh", "0.1 a step")
grid = pools.pivot(index="n / d", columns=["steps", "rate"], values="constant / error")
grid.loc[["1/3", "1", "3", "0.1 a step"]].map("{:.1f}".format)

# %% [markdown]
# Down a column only the points change, along a row only steps and rate.
#
# - From $d/3$ points none of the nine runs gets more than about a tenth below the constant: the points are the limit.
#   From $d$ points the best run is about twice as good as the constant, from $3d$ about seven times.
# - But steps and rate count too: 300 steps at the slow rate come to 1.3 and 1.7 in these two rows.
# - 300 steps with fresh points see ten times as many as the pool of $3d$ holds. At the slow rate they are no better
#   than 300 steps from that pool at the middle one. There steps and rate are the limit, not points.
#
# So a million dimensions in about a minute is real as a computation: 60 steps with the full residual, its Laplacian
# sampled without bias. As a statement about learning it says nothing: the network starts at about the best constant
# (section 3) and stays there. What a step costs, with equal settings in every dimension: 16 points, 16 samples. Below
# the picture stands the step itself, against the method of the authors' published script (dense one-hot tangents, the
# boundary factor inside the jet, one dispatched call a step), same network, points and samples, one core each:

# %% alt="One step of 16 points against the dimension, both logarithmic: milliseconds, state and temporary memory in megabytes, all growing in proportion to the dimension from 10,000 on."
speed = results.load("pde_training")
cost = results.table(speed, "one step of 16 points").set_index("dimension")
cost.columns = cost.columns.map({"points": "points", "step_ms": "milliseconds", "state_MB": "MB, weights and Adam",
                                 "temporary_MB": "MB, temporary values"})  # fmt: skip
figure, axis = plots.panels(1)
plots.lines(axis, cost.index, cost.drop(columns="points"), log="xy", xlabel="dimension d",
            title="A step of 16 points")  # fmt: skip
plt.show()
assert (table["relative_l2"] < 1.05 * table["best_constant"]).all()
print(results.measured_on(speed))
steps = pd.DataFrame({d: results.table(speed, f"training step, d = {d:,}, milliseconds")["median_ms"]
                      for d in (1_000, 10_000, 100_000)}).T  # fmt: skip
steps["times faster"] = steps["the script's method"] / steps["course.pde"]
steps["times, with our source"] = steps["the same, our source"] / steps["course.pde"]
steps.round(1)


# %% [markdown]
# In the last column the script has our way to compute the source. At the two larger sizes that is most of the
# difference, a factor of two by itself; the derivatives, the drawing of points and the compiled loop together make the
# rest. Adam's pass over $128\,d$ weights is the same on both sides and cannot be saved.
#
# ## 7 · A step that fits the whole batch
#
# From $n$ points one can hope for $n$ of the $d$ unknowns. Adam gets far fewer out of a batch: it moves along one
# gradient, the sum of what all points ask for, and lets go of the batch. Ask for more. Let $r$ be the residuals at the
# $n$ points and $J = \partial r / \partial \theta$ their Jacobian, $(n, P)$. To first order, any change $-\varphi$ of
# the parameters with $J\varphi = r$ takes *every* residual of the batch to zero. There are many such changes where
# there are more parameters than points; the smallest is
#
# $$\varphi = J^\top (J J^\top)^{-1}\, r$$
#
# a system of $n$ equations, however many parameters there are. It is the Gauss-Newton, or natural-gradient, step solved
# in the space of the samples; in quantum Monte Carlo it is called MinSR (Chen and Heyl 2024). On five points of a
# function of ten variables, beside PyTorch:
#
# **Predict.** The residuals are of size one. After one such step: a half, a fifth, or nothing? After four? And along
# the gradient, with the best length for every step?

# %%
def short_of_sum(params, x):  # a residual at one point
    return pde.mlp(params, x) - 0.3 * x.sum()


def short_of_sum_torch(params, x):
    (w, b), (w_last, b_last) = params
    return (torch.tanh(x @ w + b) @ w_last + b_last)[0] - 0.3 * x.sum()


few = jax.random.normal(jax.random.key(9), (5, 10))
small = pde.init_mlp(jax.random.key(10), (10, 8, 1))
small[-1] = jnp.ones((8, 1)) / 8, small[-1][1]
change = pde.natural_gradient_step(pde.linearize(short_of_sum, small, few), damping=0.0)

few_torch, small_torch = torch.tensor(np.asarray(few)), [tuple(torch.tensor(np.asarray(a)) for a in p) for p in small]
r = torch.func.vmap(short_of_sum_torch, (None, 0))(small_torch, few_torch)
rows = torch.func.vmap(torch.func.jacrev(short_of_sum_torch), (None, 0))(small_torch, few_torch)
J = torch.cat([row.reshape(5, -1) for pair in rows for row in pair], dim=1)
change_torch = J.T @ torch.linalg.solve(J @ J.T, r)
gap = abs(change_torch.numpy() - np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(change)])).max()
print(f"{J.shape[1]} parameters, {len(r)} equations; largest gap below 1e-4: {gap < 1e-4}")


# %%
def size(params):
    return float(jnp.sqrt((pde.linearize(short_of_sum, params, few).residuals ** 2).mean()))


def moved(params, change, rate=1.0):
    return jax.tree.map(lambda old, each: old - rate * each, params, change)


def along_gradient(params):
    batch = pde.linearize(short_of_sum, params, few)
    return min((moved(params, batch.pull(batch.residuals), rate) for rate in np.geomspace(1e-3, 1, 40)), key=size)


def whole_batch(damping):
    return lambda params: moved(params, pde.natural_gradient_step(pde.linearize(short_of_sum, params, few), damping))


sizes = {}
for name, way in {"along the gradient, best length": along_gradient, "the whole batch, no damping": whole_batch(0.0),
                  "damping 0.1": whole_batch(0.1), "damping 10": whole_batch(10.0)}.items():  # fmt: skip
    path = [small]
    for _ in range(4):
        path.append(way(path[-1]))
    sizes[name] = [size(params) for params in path]
pd.DataFrame(sizes).rename_axis("step").T.map("{:.1e}".format)

# %% [markdown]
# A fifth; and after four steps nothing, each step squaring what is left, as Newton's do. Damping adds a multiple of the
# identity to $JJ^\top$, in units of the mean of its diagonal. A little makes the step safe where rows are nearly alike;
# with much of it the step is short and goes along the gradient.
#
# For many dimensions two things are missing. The first is room: at 100,000 dimensions 200 points times the 1.6 million
# weights of a layer of width 16 are 1.3 GB of $J$. But the residual sees these weights $W$ only through $h = xW$ and,
# in its Laplacian, through $W^\top W$. So the layer's part of $JJ^\top$ is, entry by entry, the product of two small
# matrices, $(XX^\top) \circ (\Delta\Delta^\top)$ with $\Delta = \partial r/\partial h$, and a few like it.
# `pde.linearize_layered` keeps $X$ and $\Delta$, and no row of $J$:

# %%
params = pde.init_layered_mlp(jax.random.key(11), (100, 16, 16, 1))
params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(12), leaf.shape), params)
x = equation.sample(jax.random.key(13), 20)
layered = jax.jit(partial(pde.linearize_layered, equation.layer_residual))(params, x)
u_of = equation.layer_ansatz
dense = jax.jit(partial(pde.linearize, lambda params, x: equation.residual(u_of(params), x)))(params, x)
for name, batch in {"J": dense, "layered": layered}.items():
    print(f"{name:8}{sum(leaf.size for leaf in jax.tree.leaves(batch)):7,} numbers")
gap = abs(layered.gram() - dense.gram()).max() / abs(dense.gram()).max()
print("the same J J^T, to 1e-5 of its largest entry:", bool(gap < 1e-5))


# %% [markdown]
# The second is the choice of points. A step moves along the points it sees, and forgets them. After $d$ independent
# ones a share of $(1 - 1/d)^d \approx 1/e$ of a direction's square has not been moved along at all.
# `pde.orthogonal_ball` draws an endless sequence of which any $d$ in a round are at right angles, and leave nothing.
# With both, and the Laplacian exact, 1,000 dimensions again. The network is given $|x|^2$ beside $x$; its loss returns
# the linearized batch in the place of a number:

# %% tags=["nbval-ignore-output"] volatile="the error after training differs between processors in its last digits"
def solve_by_batches(equation, steps, width=16):
    d = equation.dimension

    def linearized(params, key, step):
        x = pde.orthogonal_ball(jax.random.key(SEED + 4), step * POINTS, POINTS, d)
        return pde.linearize_layered(equation.layer_residual, params, x)

    full = 2 * steps // 5  # then the rate falls, for what one batch undoes of another is noise
    falling = optax.cosine_decay_schedule(1.0, steps - full)
    optimizer = pde.NaturalGradient(optax.join_schedules([optax.constant_schedule(1.0), falling], [full]), damping=1e-4)
    params = pde.init_layered_mlp(jax.random.key(SEED + 1), (d, width, width, 1))
    state, losses = pde.train(linearized, optimizer, pde.start(params, optimizer, jax.random.key(SEED + 2)), steps)
    return np.asarray(losses), pde.relative_l2(equation, equation.layer_ansatz(state.params), jax.random.key(SEED + 3))


losses_by_batches, error_by_batches = solve_by_batches(thousand, 50)
print(f"relative L2 {error_by_batches.relative_l2:.1e} from {50 * POINTS:,} points; "
      f"Adam, from {300 * POINTS:,}: {error_1000.relative_l2:.1e}")  # fmt: skip
assert error_by_batches.relative_l2 < error_1000.relative_l2 / 1.5

# %% [markdown]
# And the committed runs, by `make pde DIM=100000`:

# %% alt="Left, the mean squared residual against the points seen, both logarithmic, at 1,000 dimensions: Adam falls by two decades over 30,000 points; whole batches stand still up to 1,000 points, then fall in steps, one at each further thousand, by three decades in 5,000. Right, the best constant's error over the run's against the dimension: Adam between 8 and 27 up to 10,000 dimensions and 1 at 100,000; whole batches 9, 22, 27 and 28."
by_batches = committed((100, 1_000, 10_000, 100_000), "")
figure, (left, right) = plots.panels(2)
ratios = {"Adam": table.loc[:100_000, "constant / error"], "whole batches": by_batches["constant / error"]}
for name, losses in {"Adam": losses_1000, "whole batches": losses_by_batches}.items():
    left.loglog(np.arange(1, len(losses) + 1) * POINTS, losses, marker="", label=name)
left.set(xlabel="points seen", ylabel="mean squared residual / source²", title="Training, 1,000 dimensions")
left.legend()
plots.lines(right, by_batches.index, ratios, log="xy", xlabel="dimension d", ylabel="best constant / error",
            title="Committed runs")  # fmt: skip
right.axhline(1, color="black", linewidth=0.7, marker="")
plt.show()
assert by_batches["constant / error"].min() > 5
million = results.load("pde_sine-gordon_two-body_1000000", "gpu")
row, seen = million["tables"]["run"][0], million["setting"]["steps"] * million["setting"]["points"] / 1_000_000
left_over = row["relative_l2"] / row["best_constant"]
print(f"a million, {seen:.2f} d points: {left_over:.2f} of the best constant's error after {row['seconds']:.0f} s; "
      f"sqrt(1 - n/d) is {(1 - seen) ** 0.5:.2f}")  # fmt: skip
print(results.measured_on(million))
assert left_over < 0.91
by_batches[columns].map("{:,.4g}".format)

# %% [markdown]
# The left picture shows what a round is: up to 1,000 points little seems to happen, for each batch fits what no other
# sees. Then every direction has been seen once, and the residual falls by a factor of some twenty at once.
#
# At 100,000 dimensions the error is 28 times below the best constant's, after three points for each dimension and 7.5
# minutes on two cores. Adam reaches the constant there in its 100 steps, and section 6 would not let it go much further
# with its points. Up to 10,000 dimensions both solve the equation; whole batches take a fifth of Adam's time on the
# same machine, half of it to compile.
#
# What it costs, and where it does not win:
#
# - With few unknowns and points that cost little, one gets nothing for the system of equations: at 100 dimensions the
#   errors are about the same.
# - $n$ points need $n^2 d$ products for $JJ^\top$ and $n^3/3$ to solve; and $J$ of all layers but the first is kept, so
#   the network is small here, two layers of 16 where Adam has three of 128.
# - Each step fits its own batch, and forgets a little of the others. At the full rate that noise stays; so the rate
#   falls, and with `momentum` the step keeps what this batch says nothing about (SPRING, Goldshlager et al. 2024).
# - A million dimensions need a million points for one round: at 50 a step that is 20,000 steps. `make pde DIM=1000000`
#   takes 5,000 of them, a quarter of a round, and the spread that is left is what section 6 says of any method with so
#   few points. The printed run is a GPU's; on two cores a step takes about a second, and the command an hour and a
#   half.
#
# ## 8 · An equation that no constant solves
#
# Take $s(x) = \sin(c \cdot x)$ with a random direction $c$ of length $\sqrt d$: its argument varies by about $|x|$
# whatever the dimension, and its mean is zero. The network has to find $c$:

# %%
for d in (100, 1_000, 10_000):
    rng = np.random.default_rng(SEED)
    x, c = in_ball(rng, 500, d), rng.normal(size=d)
    print(f"d = {d:6,}: best constant's error {constant_error(np.sin(x @ c * d**0.5 / np.linalg.norm(c)), x):.2f}")
for name, optimizer in {"Adam": "_adam", "whole batches": ""}.items():
    waves = results.load(f"pde_sine-gordon_waves_10000{optimizer}")
    row, setting = waves["tables"]["run"][0], waves["setting"]
    print(f"{name}, d = 10,000: error {row['relative_l2']:.2f} after {row['seconds']:.0f} s, "
          f"{setting['steps'] * setting['points']:,} points seen, samples: {setting['samples']}")  # fmt: skip
    print(results.measured_on(waves))

# %% [markdown]
# The network is given $\sqrt d\,x$ here, with coordinates of size one. Now $\Delta N \approx -d\,N$ is of the size of
# the term $2d\,N$, not smaller by $d$, and the 16-coordinate estimate of it has a standard deviation of about a
# third: $\partial_i^2 N$ varies with $i$ as the square of a normal number does. So these runs take the exact one
# (`samples: None`), which the compression of lesson 17b makes affordable. Whole batches leave
# a sixth of Adam's error: all that there is to find is one direction, and each batch of 500 points gives 500 of its
# 10,000 coordinates.
#
# ## Summary
#
# - A sampled Laplacian makes a training step in a million dimensions affordable on a CPU: about a second, in
#   4 GiB of memory.
# - Print the best constant beside the error. Where the solution is nearly constant, a small error proves little.
# - Learning needs about as many points as unknowns, and steps besides: the estimator removes the cost of the operator,
#   not these. A step that fits its batch as a whole needs far fewer steps, for the price of a small network.
#
# ## Further reading
#
# - [Stochastic Taylor derivative estimator](https://arxiv.org/abs/2412.00088): the paper by Shi et al. (2024);
#   section 5 has the equations.
# - [sail-sg/stde](https://github.com/sail-sg/stde): the authors' code, whose method section 6 times.
# - [Empowering deep neural quantum states](https://arxiv.org/abs/2302.01941): Chen and Heyl (2024), the step of section
#   7; [SPRING](https://arxiv.org/abs/2401.10190): Goldshlager, Abrahamsen and Lin (2024), the same with momentum.
# - [Tackling the curse of dimensionality with PINNs](https://arxiv.org/abs/2307.12306): Hu et al. (2024), where the
#   sampling of dimensions comes from.
#
# Exercises: [your turn](exercises/19_million_dimensions.ipynb).
#
# Next: [20 · Third and fourth order](20_high_order_pdes.ipynb).
