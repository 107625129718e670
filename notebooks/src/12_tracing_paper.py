# %% [markdown]
# # 12 · The tracing paper, rebuilt
#
# **How much does it matter how large the compiled piece is?** (35 minutes)

# %% [markdown]
# After this lesson you can
#
# - write an optimizer with loops inside loops once, and compile as little or as much of it as you like,
# - say what compiling function by function costs, and when that is next to nothing,
# - name a case in which compiling *more* is slower.
#
# The experiments follow Frostig, Johnson and Leary, *Compiling machine learning programs via high-level
# tracing* (2018). We test its claims on this machine; its own figures belong to the hardware of its time and
# are not repeated here.

# %%
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from course import convnet, results, timing, torch_compile
from course.convnet import CLASSES, WIDTHS
from course.data import Features, labels, load_titanic, split

# %%
SEED = 0
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # experiment 1 compares optima to 1e-6; experiment 2 stays in float32


# %% [markdown]
# ## Experiment 1 · A whole optimizer
#
# Logistic regression by truncated Newton-CG: Newton steps outside, conjugate gradients and a line search
# inside, and in the innermost loop a Hessian-vector product, forward over reverse (09).

# %%
def logistic_loss(w, x, y):
    logits = x @ w
    return jnp.mean(jnp.logaddexp(0.0, logits) - y * logits) + 1e-3 * (w @ w)


def value_grad_hvp(x, y):
    def value(w):
        return logistic_loss(w, x, y)

    def hvp(w, v):
        return jax.jvp(jax.grad(value), (w,), (v,))[1]

    return value, jax.grad(value), hvp


# %% [markdown]
# The loops are written once. What a "loop" is comes in as an argument: `lax.while_loop`, or its Python twin,
# which runs each turn instead of recording one.

# %%
def python_while(condition, body, state):
    while condition(state):
        state = body(state)
    return state


def conjugate_gradients(hvp, g, while_loop):
    norm = (g @ g) ** 0.5
    enough = norm * (norm / (1 + norm)) ** 0.5

    def more(state):
        _, residual, _, turns = state
        return ((residual @ residual) ** 0.5 > enough) & (turns < len(g))

    def turn(state):
        p, residual, direction, turns = state
        h, rr = hvp(direction), residual @ residual
        alpha = rr / (direction @ h)
        p, residual = p + alpha * direction, residual + alpha * h
        return p, residual, (residual @ residual) / rr * direction - residual, turns + 1

    return while_loop(more, turn, (0 * g, g, -g, 0))[0]


# %%
def line_search(value, w, g, p, while_loop):
    start, slope = value(w), g @ p

    def too_long(t):
        return (value(w + t * p) > start + 1e-4 * t * slope + 1e-15) & (t > 1e-10)

    return while_loop(too_long, lambda t: t / 2, 0 * slope + 1)


# %%
def newton_cg(value, grad, hvp, w, tolerance=1e-9, while_loop=python_while, max_steps=100):
    def unfinished(state):
        _, g, steps = state
        return ((g @ g) ** 0.5 > tolerance) & (steps < max_steps)

    def newton_step(state):
        w, g, steps = state
        p = conjugate_gradients(lambda v: hvp(w, v), g, while_loop)
        w = w + line_search(value, w, g, p, while_loop) * p
        return w, grad(w), steps + 1

    w, _, steps = while_loop(unfinished, newton_step, (w, grad(w), 0))
    return w, steps


# %% [markdown]
# All three loops have an end: in float32 the tolerance is out of reach, and a compiled loop can't be interrupted.
#
# Nothing in it is JAX: `+`, `@` and comparisons work on torch tensors too. So one text gives four runs. *Op
# by op*: plain functions, Python loops. *Function by function*: value, gradient and product compiled apart,
# Python loops. *Whole*: one program. And PyTorch eager, with double backward.

# %%
def runs_for(x, y):
    value, grad, hvp = value_grad_hvp(jnp.asarray(x), jnp.asarray(y))
    pieces = jax.jit(value), jax.jit(grad), jax.jit(hvp)
    whole = jax.jit(partial(newton_cg, value, grad, hvp, while_loop=jax.lax.while_loop))
    x_torch, y_torch, start = torch.from_numpy(x), torch.from_numpy(y), jnp.zeros(x.shape[1])

    def value_torch(w):
        logits = x_torch @ w
        return (torch.logaddexp(torch.zeros_like(logits), logits) - y_torch * logits).mean() + 1e-3 * (w @ w)

    def grad_torch(w, create_graph=False):
        w = w if create_graph else w.detach().requires_grad_()
        return torch.autograd.grad(value_torch(w), w, create_graph=create_graph)[0]

    def hvp_torch(w, v):
        w = w.detach().requires_grad_()
        return torch.autograd.grad(grad_torch(w, create_graph=True) @ v, w)[0]

    return {
        "op by op": lambda: newton_cg(value, grad, hvp, start),
        "function by function": lambda: newton_cg(*pieces, start),
        "whole": lambda: whole(start),
        "PyTorch eager": lambda: newton_cg(value_torch, grad_torch, hvp_torch, x_torch.new_zeros(len(start))),
    }


# %% [markdown]
# The passengers first (837 x 15). SciPy's own Newton-CG joins, with our compiled pieces. It stops where a
# curvature falls below the machine epsilon, an absolute number, so we hand it the loss times 10,000.

# %%
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train).astype(np.float64), labels(train).astype(np.float64)
value, grad, hvp = map(jax.jit, value_grad_hvp(jnp.asarray(x), jnp.asarray(y)))


def scipy_newton_cg():
    return minimize(
        lambda w: 1e4 * float(value(w)), np.zeros(15), method="Newton-CG", options={"xtol": 1e-12},
        jac=lambda w: 1e4 * np.asarray(grad(w)), hessp=lambda w, v: 1e4 * np.asarray(hvp(w, v)),
    ).x  # fmt: skip


runs = runs_for(x, y)
optima = {name: np.asarray(run()[0].detach() if name == "PyTorch eager" else run()[0]) for name, run in runs.items()}
optima["SciPy"] = scipy_newton_cg()
gaps = {name: np.abs(w - optima["whole"]).max() for name, w in optima.items()}
assert max(gaps.values()) < 1e-6
print(len(gaps), "runs, one optimum within 1e-6 after", int(runs["whole"]()[1]), "Newton steps  ok")


# %% tags=["nbval-ignore-output"] volatile="milliseconds"
def table_of(runs):
    timings = {name: timing.measure(run, repeats=3) for name, run in runs.items()}
    table = pd.DataFrame({name: {"ms": 1e3 * t.steady_s} for name, t in timings.items()}).T
    table["times the whole"] = table["ms"] / table.loc["whole", "ms"]
    return table.round(2)


table_of(runs | {"SciPy, compiled pieces": scipy_newton_cg})

# %% [markdown]
# Hundreds of times. The arithmetic of a few Newton steps on 15 weights is nothing; Python is everything: op
# by op, every product traces a derivative anew. Now data with some arithmetic in them: 20,000 rows, 100
# features.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
rng = np.random.default_rng(SEED)
x_large = rng.normal(size=(20_000, 100))
y_large = (rng.random(20_000) < 1 / (1 + np.exp(-0.3 * x_large @ rng.normal(size=100)))).astype(np.float64)
runs = runs_for(x_large, y_large)
runs["whole"]()  # compiled before the clock starts
table_of(runs)


# %% [markdown]
# The factor is down to single digits, and function by function is nearly as good as whole: each piece now
# works long enough to hide the Python between two pieces. That is the paper's point. It does not ask you to
# compile everything; it asks for pieces that are pure and large enough.
#
# ## Experiment 2 · A convolutional training step
#
# Three convolutions and a dense layer as plain functions, in JAX's layout: channels last, kernels HWIO.

# %%
def conv_layer(param, x):
    w, b = param
    x = jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(x + b)


def dense_layer(param, x):
    w, b = param
    return x.reshape(len(x), -1) @ w + b


LAYERS = (conv_layer, conv_layer, conv_layer, dense_layer)


def loss_fn(params, x, y, layers=LAYERS):
    for layer, param in zip(layers, params, strict=True):
        x = layer(param, x)
    return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1).mean()


def sgd_step(params, x, y, layers=LAYERS):
    loss, grads = jax.value_and_grad(loss_fn)(params, x, y, layers)
    return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), loss


# %% [markdown]
# The same in PyTorch: channels first, kernels OIHW, and a `permute` before the flattening, because the dense
# weights count (H, W, C).

# %%
class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(WIDTHS)
        )
        self.dense = torch.nn.Linear(4 * 4 * WIDTHS[-1], CLASSES)

    def forward(self, x, y):
        for conv in self.convs:
            x = torch.relu(conv(x))
        x = x.permute(0, 2, 3, 1).flatten(1)  # JAX flattens (H, W, C)
        return F.cross_entropy(self.dense(x), y)


# %%
weights = convnet.init(SEED)
params = jax.tree.map(jnp.asarray, weights)
images, classes = rng.normal(size=(32, 32, 32, 3)).astype(np.float32), rng.integers(0, 10, 32)
x, y = jnp.asarray(images), jnp.asarray(classes)
x_torch, y_torch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(classes)

net = convnet.torch_net(weights)  # a TorchNet with these weights, transposed
net(x_torch, y_torch).backward()
grads = jax.grad(loss_fn)(params, x, y)
for layer, (kernel, _) in zip([*net.convs, net.dense], grads, strict=True):
    axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
    assert np.abs(np.asarray(kernel).transpose(axes) - layer.weight.grad.numpy()).max() < 1e-4
print("equal weights, equal gradients in all four layers within 1e-4  ok")

# %% [markdown]
# Now pieces of five sizes. *Op by op*. *Per layer*: each layer jitted, `value_and_grad` around them in
# Python. *Per layer, derivatives too*: `jax.vjp` of a layer, itself compiled, returns output and pullback
# (09: a pytree!), and Python passes them on. *Per step*: one program. *Whole*: ten steps in one program.

# %%
pullback_of = {layer: jax.jit(partial(jax.vjp, layer)) for layer in set(LAYERS)}
call = jax.jit(lambda pullback, cotangent: pullback(cotangent))
head = jax.jit(jax.value_and_grad(lambda logits, y: loss_fn([], logits, y, ())))
descend = jax.jit(lambda params, grads: jax.tree.map(lambda p, g: p - 0.01 * g, params, grads))


def layerwise_step(params, x, y):
    pullbacks, grads = [], []
    for layer, param in zip(LAYERS, params, strict=True):
        x, pullback = pullback_of[layer](param, x)
        pullbacks.append(pullback)
    loss, cotangent = head(x, y)
    for pullback in reversed(pullbacks):
        grad, cotangent = call(pullback, cotangent)
        grads.append(grad)
    return descend(params, grads[::-1]), loss


# %%
def steps_of(count, unroll):
    def run(params, x, y):
        return jax.lax.scan(lambda params, _: sgd_step(params, x, y), params, None, length=count, unroll=unroll)

    return jax.jit(run)


jit_layers, jit_step = tuple(map(jax.jit, LAYERS)), jax.jit(lambda *batch: sgd_step(*batch))
ten, ten_unrolled = steps_of(10, 1), steps_of(10, 10)
sizes = {
    "op by op": (1, sgd_step),
    "per layer": (1, lambda *batch: sgd_step(*batch, jit_layers)),
    "per layer, derivatives too": (1, layerwise_step),
    "per step": (1, jit_step),
    "whole, ten steps unrolled": (10, ten_unrolled),
}
losses = {name: float(np.ravel(step(params, x, y)[1])[0]) for name, (_, step) in sizes.items()}
assert np.ptp(list(losses.values())) < 1e-5
print(len(losses), "ways to run one step, one loss within 1e-5  ok")

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
compiled_net = torch.compile(net, backend=torch_compile.backend())
parameters = list(net.parameters())
for name, forward in {"PyTorch eager": net, "PyTorch compiled": compiled_net}.items():
    sizes[name] = (1, lambda *_, forward=forward: convnet.torch_sgd_step(forward, parameters, x_torch, y_torch))
timings = {name: (count, timing.measure(step, params, x, y)) for name, (count, step) in sizes.items()}
table = pd.DataFrame({name: {"ms per step": 1e3 * t.steady_s / count} for name, (count, t) in timings.items()}).T
table["times per step"] = table["ms per step"] / table.loc["per step", "ms per step"]
table.round(2)

# %% [markdown]
# Per layer costs a multiple of per step. With the derivatives compiled too, most of that is gone: what was
# expensive was not the number of pieces but building the derivative in Python at each step. What remains is
# the dispatch of a dozen calls, a fixed price that larger layers hide. So the paper's claim holds where *all*
# functions are compiled, the derivatives among them, and each does some work.
#
# PyTorch eager is as fast as XLA here: convolutions of this size are library calls in both.
#
# ## Where compiling more is slower
#
# Ten steps unrolled are ten steps' worth. The same ten steps in a `lax.scan`:

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
in_scan = timing.measure(ten, params, x, y, repeats=1).steady_s / 10
unrolled = table.loc["whole, ten steps unrolled", "ms per step"]
print(f"per step: unrolled {unrolled:.1f} ms, in lax.scan {1e3 * in_scan:.1f} ms")

# %% [markdown]
# The published benchmark, one core for both sides:

# %%
result = results.load("tracing_paper")
print(results.measured_on(result))
pd.DataFrame(result["ratios"]).set_index("what")[["measured"]].round(1)

# %% [markdown]
# XLA's CPU back end calls a fast library for a convolution at the top level of a program, and does not inside
# a loop. 07's scan won because its steps were tiny; this one loses because a step is large and loops lose the
# library. Measure, then choose the piece.
#
# ## Summary
#
# - One text of an optimizer ran op by op, function by function and whole: the same optimum, a few hundred
#   times apart on small data and single digits apart on larger data.
# - Compiling function by function costs next to nothing if the derivatives are among the functions and each
#   does some work.
# - More is not always faster: on a CPU, convolutions inside `lax.scan` are slow.
#
# Next: [lesson 16](16_derivative_cliff.ipynb), on derivatives of higher order, where tracing and compiling become
# the problem.
