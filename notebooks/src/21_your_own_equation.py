# %% [markdown]
# # 21 · An equation of your own
#
# **How does an equation become a network that solves it, and how do you know that it does?** (55 minutes)

# %% [markdown]
# After this lesson you can
#
# - write domain, residual and conditions of an equation of your own in a screenful, and read what refuses a slip,
# - compute a reference by a classical method, and say why a small loss does not mean a small error,
# - choose between Adam and Gauss-Newton, cut time into windows, and find a coefficient from data.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch

from course import pde, plots, results
from course.failures import fails

# %%
SEED, POINTS, ADAM_STEPS, STEPS, KS_STEPS = 0, 512, 300, 80, 30
KEY = jax.random.key(SEED)
torch.set_num_threads(1)
plots.use()


def by_row(found, exact):  # the relative L2 error at each time
    return np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)


# %% [markdown]
# ## 1 · Domain, residual, conditions
#
# The Allen-Cahn equation describes how two phases separate, $u = 1$ and $u = -1$:
#
# $$u_t = 0.001\,u_{xx} + 5\,(u - u^3), \qquad u(0, x) = x^2 \cos \pi x, \qquad u \text{ periodic in } x .$$
#
# Where $u > 0$ it grows to 1, where $u < 0$ it falls to $-1$, and in between a thin wall is left, whose width is set by
# the small factor of $u_{xx}$. It is a standard trial for networks, because plain ones fail at it.
#
# An equation is a `pde.Problem`: a `Box` whose axes have names, a residual at one point, and what is given.
# `domain.derivatives` returns derivatives by the names of axes, all along one axis out of one jet (17).

# %%
domain = pde.Box(t=(0, 1), x=(-1, 1), periodic="x")


def residual(u, point):
    value, u_t, u_xx = domain.derivatives(u, point, "", "t", "xx")
    return u_t - 0.001 * u_xx - 5 * (value - value**3)


def initial(point):
    return point[1] ** 2 * jnp.cos(jnp.pi * point[1])


conditions = [pde.given(t=0, u=initial)]
problem = pde.Problem(domain, residual, conditions)
print(domain, "- a network is given", problem.inputs, "numbers at a point")


# %% [markdown]
# The numbers are $t$ and five sines and cosines of $x$: a function of those is periodic in $x$ with all its
# derivatives, and no condition has to say so (Dong and Ni, 2021). The initial value is built in, as in lesson 20: $u =
# u_0(x) + t\,N(t, x)$ for any network $N$.
#
# **Predict.** A network with random weights: is $u(0, x)$ right, and $u(t, -1) = u(t, 1)$, before anything is trained?

# %%
def some_network(features):
    return jnp.sin(features @ jnp.arange(1.0, 12)) + 2


u = problem.ansatz(some_network)
points = domain.sample(KEY, 100)
start, left, right = points.at[:, 0].set(0.0), points.at[:, 1].set(-1.0), points.at[:, 1].set(1.0)
at = jax.jit(jax.vmap(u))
print(f"at t = 0, largest gap to the initial value {abs(at(start) - jax.vmap(initial)(start)).max():.0e}")
print(f"between x = -1 and x = 1, largest gap below 1e-5: {bool(abs(at(left) - at(right)).max() < 1e-5)}")


# %% [markdown]
# Both hold. `given(x=1, u=0.0)` and, beside it, `given(x=1, u_x=0.0)` are built in likewise. With a weight a condition
# is a penalty instead, the mean square of what is left over: `given(x=1, u_x=0.0, weight=10.0)`, or `given(x=1,
# residual=lambda u, point: ..., weight=10.0)` for what is no value. Corners where faces meet must agree.
#
# The same residual in PyTorch, by `torch.autograd.grad` and in float64, is what the jets are checked against:

# %%
def torch_u(p):
    t, x = p[:, 0], p[:, 1]
    angles = torch.pi * x[:, None] * torch.arange(1, 6)
    features = torch.cat([2 * t[:, None] - 1, angles.cos(), angles.sin()], dim=1)
    network = torch.sin(features @ torch.arange(1, 12, dtype=p.dtype)) + 2
    return x**2 * torch.cos(torch.pi * x) + t * network


def torch_residual(p):
    p = p.clone().requires_grad_()
    value = torch_u(p)
    u_t, u_x = torch.autograd.grad(value.sum(), p, create_graph=True)[0].T
    u_xx = torch.autograd.grad(u_x.sum(), p)[0][:, 1]
    return u_t - 0.001 * u_xx - 5 * (value - value**3)


in_torch = torch_residual(torch.tensor(np.asarray(points, np.float64))).detach().numpy()
ours = np.asarray(jax.jit(jax.vmap(lambda x: problem.residual(u, x)))(points))
print(f"largest residual {abs(in_torch).max():.1f}, gap below 1e-5 of it: "
      f"{abs(ours - in_torch).max() < 1e-5 * abs(in_torch).max()}")  # fmt: skip


# %% [markdown]
# ## 2 · A reference of a few lines
#
# No closed form is known. In one dimension with periodic ends a classical method gives all digits one wants: Fourier
# modes in $x$, for which $u_{xx}$ is a multiplication, and Runge-Kutta steps that solve the linear part exactly, so
# that stiff terms limit no step (ETDRK4: Kassam and Trefethen, 2005). `pde.etdrk4` is given the linear part as a
# polynomial of $d = \partial_x$, and the rest as a function. Is it right? Half the step should leave a sixteenth of
# the error.

# %%
def allen_cahn(steps):
    return pde.etdrk4(
        domain, lambda x: x**2 * np.cos(np.pi * x), lambda d: 0.001 * d**2 + 5, lambda u, d: -5 * u**3,
        points=256, times=101, steps=steps,
    )  # fmt: skip


finest = allen_cahn(16)
gaps = {steps: np.linalg.norm(allen_cahn(steps).values - finest.values) for steps in (1, 2, 4)}
print("half the step, error over error:", *(f"{gaps[n] / gaps[2 * n]:.0f}" for n in (1, 2)))
reference = finest
problem = pde.Problem(domain, residual, conditions, reference=reference)
still = np.linalg.norm(reference.values - reference.values[0]) / np.linalg.norm(reference.values)
baseline = pde.relative_l2(problem, initial)
print(f"baselines: the initial value, left as it is, {baseline.relative_l2:.2f}; "
      f"the best constant {baseline.best_constant:.2f}")  # fmt: skip

# %% [markdown]
# The reference is a `pde.Grid`, values with the coordinates of their axes. A function of the point would do, or
# nothing: then there is a loss, and no error.
#
# ## 3 · Adam: a small loss, and a wrong answer
#
# `pde.solve` draws the network's weights, draws points anew in every step, and trains with `pde.train` (19, 20). Any
# callable is a network: a module of Linen or NNX, a pair of function and parameters, or one of the course's: `Mlp`,
# `ModifiedMlp` (Wang, Teng and Perdikaris, 2021), `FourierFeatures`. Its activations must be smooth: of a ReLU network
# $u_{xx}$ is zero.
#
# **Predict.** The mean square of the residual starts at 1 or so. Adam brings it below a hundredth. How large is the
# error of the solution then: 1 %, 10 %, or more?

# %% tags=["nbval-ignore-output"] volatile="errors after training differ between processors in their last digits"
network = pde.Mlp(width=24, depth=3)
adam = optax.adam(optax.cosine_decay_schedule(1e-2, ADAM_STEPS))
by_adam = pde.solve(problem, network, KEY, steps=ADAM_STEPS, optimizer=adam, points=POINTS, progress=False)
print(f"loss {by_adam.losses[0]:.2f} -> {by_adam.losses[-1]:.1e}, relative L2 error {by_adam.error:.2f}")
assert by_adam.error > 0.1 and by_adam.losses[-1] < 0.05

# %% [markdown]
# More than 10 %. The residual is small, and the answer is wrong: an error that is made early grows with
# $e^{5t}$, without any residual, for the equation itself lets it grow. A loss is no error; so there is a reference.
#
# ## 4 · Gauss-Newton
#
# Adam knows the gradient of the mean. Here every point has a residual $r_i$ of its own with a gradient of its own,
# $J_{ij} = \partial r_i / \partial \theta_j$, and these say more: the change $\delta$ with $J \delta = -r$
# takes *all* residuals of the batch to zero, to first order. Damped, it is
# $\delta = -J^\top (J J^\top + \lambda)^{-1} r$: a system of as many equations as points.
#
# `pde.gauss_newton()` is this step; it goes back while the loss does not fall, and lowers $\lambda$ where whole steps
# are taken. It is the default of `pde.solve`. A step costs more than one of Adam's: all of $J$
# is needed.

# %% tags=["nbval-ignore-output"] volatile="errors after training, seconds"
solution = pde.solve(problem, network, KEY, steps=STEPS, points=POINTS, progress=False)
print(f"{STEPS} steps in {solution.seconds:.0f} s, compiling included: relative L2 error {solution.error:.1e}")
assert solution.error <= 2e-2
steps = np.arange(STEPS // 5, STEPS + 1, STEPS // 5)
rows = {"loss": solution.losses[steps - 1], "error": [solution.errors[n] for n in steps]}
pd.DataFrame(rows, index=steps).map("{:.1e}".format)

# %% tags=["nbval-ignore-output"] volatile="errors after training" alt="Four panels. Upper left, u over x and t: it becomes plus one between two thin walls at x = -0.5 and 0.5, but for a notch at x = 0 that is filled last, and minus one outside. Upper right, the error: hardly any but at x = 0 towards the end. Lower left, u at three times, the network's lines covering the pale reference. Lower right, the loss against the step, falling over several decades."
plots.solution(solution)
plt.show()
for name, each in {"Adam": by_adam, "Gauss-Newton": solution}.items():
    errors = by_row(each.grid().values, reference.values)
    print(f"{name}: relative L2 at t = 0.1, 0.5, 1:", *(f"{errors[row]:.1e}" for row in (10, 50, 100)))
worst = np.unravel_index(abs(solution.grid().values - reference.values).argmax(), reference.values.shape)
print(
    "the largest error is late and in the middle:",
    bool(worst[0] > 80 and abs(reference.coordinates[1][worst[1]]) < 0.2),
)

# %% [markdown]
# In the middle $u$ starts at 0 and stays there for long: whatever is off there has the whole time to grow.
#
# What else `pde.solve` may be given:
#
# - `optimizer=`: any of optax, with a schedule where you like. `optax.lbfgs()` searches along a line and wants the same
#   points in every step, `fixed=True`. `pde.NaturalGradient` (19) is for few points and many parameters, where a row of
#   $J$ for each point does not fit.
# - `points=`, drawn in each step; `candidates=4` draws four times as many and keeps those where the residual is large,
#   more often than others. `causal=1.0` lets a time count only once the residuals before it are small.
# - A `Solution` in the place of the network: training goes on from there, with another optimizer if you like.
# - `run=`: where checkpoints are kept (19). The same call goes on from the newest one:
#
# ```python
# with Run("build/mine", {"equation": "Allen-Cahn", "steps": 5000, "seed": 0}) as run:  # course.train.resumable
#     solution = pde.solve(problem, network, key, steps=5000, run=run)
# ```
#
# ## 5 · Slips
#
# What people write when they write their own equation, and what they are told. First: `jax.grad` returns both
# derivatives where one is due; and a batch where a point is due.

# %%
with fails(ValueError):
    pde.solve(pde.Problem(domain, lambda u, x: jax.grad(u)(x) - u(x), conditions), network, KEY, steps=1)
with fails(ValueError):
    problem.residual(u, points)

# %% [markdown]
# A condition that contradicts another where their faces meet, and a name that is none:

# %%
open_box = pde.Box(t=(0, 1), x=(-1, 1))
with fails(ValueError):
    walls = [pde.given(t=0, u=initial), pde.given(x=-1, u=0.0)]
    pde.solve(pde.Problem(open_box, lambda u, x: u(x), walls), network, KEY, steps=1)
with fails(ValueError):
    pde.given(x=1, flux=0.0)

# %% [markdown]
# An ansatz of one's own that forgets to hand on the point trains without complaint to something flat, a root has no
# value where its argument is negative, and a reference may lie on another grid:

# %%
with fails(ValueError):
    flat = pde.Problem(domain, residual, ansatz=lambda network: lambda x: initial(x) + x[0] * network(jnp.zeros(2)))
    pde.solve(flat, network, KEY, steps=1)
with fails(ValueError):
    pde.solve(pde.Problem(domain, lambda u, x: jnp.sqrt(u(x)), conditions), network, KEY, steps=1)
with fails(ValueError):
    pde.Grid(reference.values.T, t=reference.coordinates[0], x=reference.coordinates[1])

# %% [markdown]
# ## 6 · Time in windows
#
# The Kuramoto-Sivashinsky equation, with the coefficients of Wang, Sankaran and Perdikaris (2022), steepens waves,
# feeds long ones and damps short ones by a fourth derivative:
#
# $$u_t + 5\,u\,u_x + 0.5\,u_{xx} + 0.005\,u_{xxxx} = 0, \qquad u(0, x) = -\sin \pi x .$$
#
# Over the whole time at once it stalls: a residual that is small late does not help while the solution is wrong early.
# `pde.march` cuts time into windows and solves one after the other, each from the end of the one before; it compiles
# once. Up to $t = 1$ this is a command, `make pde-own`: it saves itself, stops on Ctrl-C and goes on where it was. Here
# run its first few hundredths, in two windows.

# %% tags=["nbval-ignore-output"] volatile="errors after training, seconds"
ring = pde.Box(t=(0, 0.04), x=(-1, 1), periodic="x")


def ks_residual(u, point):
    value, u_t, u_x, u_xx, u_xxxx = ring.derivatives(u, point, "", "t", "x", "xx", "xxxx")
    return u_t + 5 * value * u_x + 0.5 * u_xx + 0.005 * u_xxxx


ks_reference = pde.etdrk4(
    ring, lambda x: -np.sin(np.pi * x), lambda d: -0.5 * d**2 - 0.005 * d**4, lambda u, d: -2.5 * d(u**2),
    points=128, times=9, steps=50,
)  # fmt: skip
ks = pde.Problem(ring, ks_residual, [pde.given(t=0, u=lambda p: -jnp.sin(jnp.pi * p[1]))], reference=ks_reference)
first = pde.march(ks, network, KEY, windows=2, steps=KS_STEPS, points=256, progress=False)
print(f"to t = 0.04 in {first.seconds:.0f} s; relative L2 error over each window:",
      *(f"{error:.1e}" for error in first.errors.values()))  # fmt: skip
assert max(first.errors.values()) < 5e-2


# %% [markdown]
# No window forgives the one before: its initial values are what that one found. What becomes of an error, the equation
# alone decides, so the classical method can tell: once more from $-\sin \pi x$, and from a thousandth beside it, once
# $\sin 2 \pi x$, which is odd like the initial value, and once $\cos 2 \pi x$, which is even.
#
# **Predict.** An odd initial value makes an odd solution, $u(t, -x) = -u(t, x)$. Which of the two thousandths grows
# more?

# %%
def from_beside(odd, even):
    return pde.etdrk4(
        pde.Box(t=(0, 1), x=(-1, 1), periodic="x"),
        lambda x: -np.sin(np.pi * x) + odd * np.sin(2 * np.pi * x) + even * np.cos(2 * np.pi * x),
        lambda d: -0.5 * d**2 - 0.005 * d**4, lambda u, d: -2.5 * d(u**2), points=128, times=21, steps=100,
    ).values  # fmt: skip


exactly = from_beside(0, 0)
apart = {"odd": by_row(from_beside(1e-3, 0), exactly), "even": by_row(from_beside(0, 1e-3), exactly)}
for name, each in apart.items():
    print(f"a thousandth, {name}: {each[10]:.2f} at t = 0.5, largest {each.max():.2f}, {each[-1]:.4f} at t = 1")
assert apart["even"][-1] > 1 > 10 * apart["odd"].max()

# %% [markdown]
# The even one: from the middle of the time on it is another solution, while the odd one comes and goes. The published
# run:

# %% tags=["nbval-ignore-output"] volatile="errors after training" alt="Two panels. Left, the relative error against time on a logarithmic axis. The even thousandth at the start grows to one within half of the time and stays there; the odd one rises and falls back. The published run's error begins far lower and climbs alongside the even one; the live stretch lies at its lower left. Right, the gap to the reference at the last time against x: the network's is a curve with its mirror image left and right of x = 0, that of its odd part is flat at zero."
whole = results.load("pde_own_kuramoto-sivashinsky")
by_time = results.table(whole, "error by time")["relative_l2"].rename(float).iloc[1:]
end = results.table(whole, "at the end").rename(float)
end["odd part"] = (end["network"] - end["network"].to_numpy()[-np.arange(len(end)) % len(end)]) / 2  # x = -1 is x = 1
live = by_row(first.grid().values, ks_reference.values)
figure, (growth, last) = plots.panels(2, height=2.8)
for name, each in apart.items():
    growth.semilogy(np.linspace(0, 1, 21), each, ls="--", marker="", label=f"0.001, {name}")
growth.semilogy(by_time, label="published")
growth.semilogy(ks_reference.coordinates[0][1:], live[1:], label="live")
growth.set(xlabel="t", title="Relative L2 error")
growth.legend(fontsize=7)
for name in ("network", "odd part"):
    last.plot(end[name] - end["reference"], marker="", label=name)
last.set(xlabel="x", title="u less the reference, at t = 1")
last.legend(fontsize=7)
plt.show()

# %% tags=["nbval-ignore-output"] volatile="errors after training"
print(results.measured_on(whole))
gaps = {name: np.linalg.norm(end[name] - end["reference"]) / np.linalg.norm(end["reference"])
        for name in ("network", "odd part")}  # fmt: skip
row, setting = whole["tables"]["run"][0], whole["setting"]
print(f"{row['seconds']:.0f} s:", {name: setting[name] for name in ("windows", "steps", "points", "float64")})
print(f"relative L2 {row['relative_l2']:.1%} over the whole time; at t = 0.1, 0.5, 1:",
      *(f"{by_time[t]:.1e}" for t in (0.1, 0.5, 1.0)), f"(odd part {gaps['odd part']:.1e})")  # fmt: skip
assert row["relative_l2_at_the_end"] < 0.05 and gaps["odd part"] < gaps["network"] / 5

# %% [markdown]
# Within 5 % up to $t = 1$. The first windows have to be that exact, for what they leave over is multiplied by a
# thousand: so this run computes in float64, draws more points, and lets the damping fall further,
# `pde.gauss_newton(least=1e-10)`.
#
# Nearly all that is left at the end is even. The odd part, $(u(t, x) - u(t, -x)) / 2$, costs nothing and is far
# closer. It can be built in as well, for any callable is a network, and this one makes no even errors:
#
# ```python
# def odd(params, z):  # z is t, five cosines, five sines
#     return pde.mlp(params, z) - pde.mlp(params, z * jnp.where(jnp.arange(11) < 6, 1.0, -1.0))
#
# network = odd, pde.init_mlp(key, (11, 24, 24, 24, 1))
# ```
#
# ## 7 · A coefficient from data
#
# Somebody has measured $u$ at 200 places, with noise of 1 %, and knows the form of the equation but not its
# coefficients: $u_t = 0.001\,k\,u_{xx} + c\,(u - u^3)$. Unknowns are arguments of the residual, with a first guess
# each; they are trained together with the network, and `pde.data` adds the gaps to the loss.
#
# **Predict.** One of the two coefficients is found more exactly. Is it $c$, which acts everywhere, or $k$, which acts
# in the walls alone?

# %% tags=["nbval-ignore-output"] volatile="errors after training, seconds"
rng = np.random.default_rng(SEED)
rows_at, columns = (rng.integers(0, size, 200) for size in reference.values.shape)
places = np.stack([reference.coordinates[0][rows_at], reference.coordinates[1][columns]], axis=1)
measured = reference.values[rows_at, columns] + 0.01 * rng.normal(size=200)


def with_unknowns(u, point, k, c):
    value, u_t, u_xx = domain.derivatives(u, point, "", "t", "xx")
    return u_t - 0.001 * k * u_xx - c * (value - value**3)


inverse = pde.Problem(domain, with_unknowns, [*conditions, pde.data(places, measured, weight=10.0)])
found = pde.solve(inverse, network, KEY, steps=STEPS, points=POINTS, unknowns={"k": 3.0, "c": 2.0}, progress=False)
published = results.load("pde_own_allen-cahn-coefficients")
rows = {"true": {"k": 1.0, "c": 5.0}, "first guess": {"k": 3.0, "c": 2.0}, f"live, {STEPS} steps": found.unknowns,
        f"published, {published['setting']['steps']} steps": published["tables"]["run"][0]}  # fmt: skip
table = pd.DataFrame({name: {each: values[each] for each in "kc"} for name, values in rows.items()}).T
off = abs(table / table.loc["true"] - 1).iloc[2:]
assert (off["c"] < 0.01).all() and (off["k"] < 0.3).all() and (off["c"] < off["k"]).all()
print(results.measured_on(published))
table.assign(**{f"{name} off by": off[name].map("{:.1%}".format) for name in "kc"}).fillna("").round(3)


# %% [markdown]
# $c$: it is seen at all points. For $k$ only those count that lie in a wall. Is that the noise, or the network? Two
# unknowns can also be fitted by the classical method: a few steps of Gauss-Newton with slopes from differences, which
# begin where the network ended (from the first guess they diverge).

# %%
def classical(k, c):
    return pde.etdrk4(
        domain, lambda x: x**2 * np.cos(np.pi * x), lambda d: 0.001 * k * d**2 + c, lambda u, d: -c * u**3,
        points=256, times=101, steps=2,
    ).values[rows_at, columns]  # fmt: skip


guess = np.array([found.unknowns["k"], found.unknowns["c"]])
for _ in range(4):
    here = classical(*guess)
    slopes = np.stack([(classical(*(guess + step)) - here) / 1e-4 for step in 1e-4 * np.eye(2)], axis=1)
    guess = guess + np.linalg.lstsq(slopes, measured - here)[0]
off = abs(guess / [1.0, 5.0] - 1)
noise = 0.01 * np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes))) / [1.0, 5.0]
print(f"classical: k off by {off[0]:.1%}, c by {off[1]:.2%}; the noise explains {noise[0]:.1%} and {noise[1]:.2%}")
assert (off < 4 * noise).all()

# %% [markdown]
# The data hold far more than the network found: it meets noise and equation half-way, and gives way where that is
# cheapest, in the thin walls. For an equation in one dimension the classical fit is better, and quicker. What it
# needs is a solver; `pde.solve` needs a residual.
#
# ## Summary
#
# - A `Problem` is a `Box` with named axes, a residual at one point, and conditions, built in or with a weight; slips
#   are refused with what was expected, what came, and what to do.
# - A small residual is not a small error where the equation lets early errors grow. A reference tells; in one periodic
#   dimension a few lines compute one, and say which errors grow. Build in what you know: conditions, periods, symmetry.
# - Gauss-Newton fits the residuals of a whole batch in each step and gets far below Adam in the same time, for networks
#   of a few thousand parameters. Windows of time make the stiff ones possible; unknown coefficients are trained along.
#
# ## Further reading
#
# - [Respecting causality is all you need](https://arxiv.org/abs/2203.07404): Wang, Sankaran and Perdikaris (2022),
#   causal weights, and both equations of this lesson.
# - [An expert's guide to training PINNs](https://arxiv.org/abs/2308.08468): Wang et al. (2023), networks, weights,
#   points.
# - [Fourth-order time-stepping for stiff PDEs](https://doi.org/10.1137/S1064827502410633): Kassam and Trefethen (2005),
#   the reference method.
#
# Exercises: [your turn](exercises/21_your_own_equation.ipynb).
#
# Next: [22 · Functional derivatives](22_functional_derivatives.ipynb).
