# %% [markdown]
# # 12 · The tracing paper, rebuilt
#
# **How much does it matter how large the compiled piece is?** (75 minutes)

# %% [markdown]
# After this lesson you can
#
# - say what "pure and statically composed" means, and tell which of your functions are,
# - write an optimizer with loops inside loops once, and compile as little or as much of it as you like,
# - find loops, products and convolutions in the compiled text,
# - say what compiling function by function costs, and when that is next to nothing,
# - name a case in which compiling *more* is slower, and read the reason.

# %%
import os
import re
from collections import Counter
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from course import convnet, plots, results, timing, torch_compile
from course.convnet import CLASSES, WIDTHS
from course.data import Features, labels, load_titanic, split
from course.failures import fails

# %%
SEED = 0
plots.use()
torch.set_num_threads(1)
core = {max(os.sched_getaffinity(0))} if hasattr(os, "sched_getaffinity") else None
if core:  # Linux: one core for both sides; elsewhere JAX may use several
    os.sched_setaffinity(0, core)
jax.config.update("jax_enable_x64", True)  # experiment 1 compares optima to 1e-6; experiment 2 stays in float32
jax.config.update("jax_pprint_use_color", False)

# %% [markdown]
# ## The paper's claim
#
# Frostig, Johnson and Leary, *Compiling machine learning programs via high-level tracing* (2018), is where JAX
# comes from. It rests on an observation: the work of a machine-learning program sits in subroutines that are *pure
# and statically composed*, and Python, as dynamic as it likes, only calls them. So compile those, and leave Python
# alone.
#
# - *Pure*: no side effects. What comes out depends on the arguments alone.
# - *Statically composed*, relative to a set of primitives: the routine is a fixed graph of primitives, the same
#   for all values of its arguments.
#
# Four functions that shorten a vector longer than 1.
#
# **Predict.** Which of them are pure, and which are statically composed?

# %%
calls, v = [], jnp.array([3.0, 4.0])


def masked(v):
    return v * jnp.minimum(1.0, (v @ v) ** -0.5)


def counted(v):
    calls.append("called")
    return masked(v)


def branched(v):
    return masked(v) if v @ v > 1 else v


def looped(v):
    return jax.lax.while_loop(lambda v: v @ v > 1, lambda v: 0.9 * v, v)


for function in (masked, counted, looped):
    print(f"{function.__name__:8}", *[jax.jit(function)(scale * v).round(3) for scale in (0.1, 1, 2)])
print("counted was called three times and noted", len(calls))
with fails(jax.errors.TracerBoolConversionError):
    jax.jit(branched)(v)

# %% [markdown]
# `masked` is both. `counted` is not pure: its Python ran once for three calls, when the first call was traced, and
# the compiled program is `masked`. No error says so: purity is your promise. `branched` is pure, and not statically
# composed: `v` or another formula, the value decides. "Attempted boolean conversion of traced array" is how tracing
# finds out: a graph cannot fork on a value that it does not have.
#
# And `looped`? How often it turns depends on the value too. Look at the graphs:

# %%
for function in (masked, looped):
    print(f"{function.__name__}:", *[equation.primitive.name for equation in jax.make_jaxpr(function)(v).eqns])
print(jax.make_jaxpr(looped)(v))

# %% [markdown]
# One node. "Relative to a set of primitives" is the point: `while` *is* a primitive, which holds the graphs of its
# condition and its body. Between primitives nothing is dynamic any more, inside one may be. With `cond` and `while`
# among the primitives, a whole optimizer is statically composed. We try that, then test the paper's claims about speed
# on this machine (its own figures belong to the hardware of its time).
#
# ## Experiment 1 · A whole optimizer
#
# Logistic regression by truncated Newton-CG: Newton steps outside, conjugate gradients and a line search
# inside, and in the innermost loop a Hessian-vector product, forward over reverse ([09](09_transformations.ipynb)).
# It can be compiled in pieces of three sizes:

# %% alt="Three drawings of the optimizer as nested boxes: Newton steps around conjugate gradients and a line search. Left, op by op: all loops grey, Python's, with many tiny blue boxes inside. Middle, function by function: the loops still grey, with one rounded blue box each for hvp, value and grad. Right, whole: all boxes blue, one program."
diagram = plots.Diagram(height=2.75)
for x, title, side in ((1.35, "op by op", ""), (4.0, "function by function", ""), (6.65, "whole", "jax")):
    diagram.note(x, 2.6, title)
    diagram.array(x, 1.35, "", side=side, width=2.4, height=2.1)
    diagram.note(x - 0.5, 2.2, "Newton steps")
    for dx, loop, function in ((-0.58, "CG turns", "hvp"), (0.58, "line search", "value")):
        diagram.array(x + dx, 1.0, "", side=side, width=1.06, height=1.2)
        diagram.note(x + dx, 1.43, loop)
        if title != "op by op":
            diagram.function(x + dx, 0.85, function, side="jax", width=0.75, height=0.45)
    if title == "op by op":
        for place, operation in enumerate(["dot", "exp", "add", "mul"] * 2):
            dx, dy = (-0.82, -0.34, 0.34, 0.82)[place % 4], 1.05 - 0.36 * (place // 4)
            diagram.array(x + dx, dy, operation, side="jax", width=0.4, height=0.26)
        diagram.array(x + 0.7, 2.15, "dot", side="jax", width=0.4, height=0.26)
    else:
        diagram.function(x + 0.62, 2.05, "grad", side="jax", width=0.8, height=0.4)
diagram.note(4.0, 0.13, "grey: a loop that Python runs      blue: compiled, a call for each outermost box", size=9)
plt.show()
print("pieces to call: an operation; value, grad or hvp; the optimizer")


# %% [markdown]
# The loss, and the three functions that the optimizer asks for:

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
# Each of the three loops has a bound on its turns: in float32 the tolerance is out of reach, and Python cannot
# interrupt a compiled loop.
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
# The passengers first: 837 rows, 15 weights. SciPy's own Newton-CG joins, with our compiled pieces. It stops where
# a curvature falls below the machine epsilon, an absolute number, so we hand it the loss times 10,000.

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
for name, w in optima.items():
    print(f"{name:21}", *w[:4].round(6), " gap below 1e-06:", bool(gaps[name] < 1e-6))
print(int(runs["whole"]()[1]), "Newton steps")


# %% [markdown]
# One optimum. Now the clock.
#
# **Predict.** Op by op sends each operation to compiled code too. How much slower is it than the whole program: twice,
# ten times, a hundred times? And where is PyTorch eager?

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
def fastest(runs, rounds=6):  # in turns; whatever else the machine does can only add time
    return 1e3 * pd.DataFrame([{name: timing.seconds(run) for name, run in runs.items()} for _ in range(rounds)]).min()


def table_of(runs):
    table = fastest(runs).to_frame("ms")
    table["times the whole"] = table["ms"] / table.loc["whole", "ms"]
    return table.round(2)


table_of(runs | {"SciPy, compiled pieces": scipy_newton_cg})


# %% [markdown]
# By a factor of hundreds, or more. The arithmetic of a few Newton steps on 15 weights is nothing; Python is
# everything: op by op, every product builds its derivative anew. Eager torch differentiates in C++, and is about
# where the compiled pieces are. (SciPy takes its own steps, with its own stopping rules: no race, a reference.)
#
# What became of the loops? The compiled text says it. In this text a `while` names the computation that is its body,
# and computations call others; so we count what each loop holds, nested ones included.

# %%
def inside(name, computations):
    body = computations[name]
    called = re.findall(r"(?:calls|to_apply|body|condition)=%([\w.\-]+)", body)
    return body + "".join(inside(other, computations) for other in called)


def contents(text):
    return {kind: len(re.findall(rf" {kind}\(", text)) for kind in ("while", "dot", "exponential")}


start = jnp.zeros(15)
whole = jax.jit(partial(newton_cg, value, grad, hvp, while_loop=jax.lax.while_loop))
text = whole.lower(start).compile().as_text()
computations = dict(re.findall(r"(?ms)^(?:ENTRY )?%(\S+) \(.*?\{\n(.*?)^\}", text))
found = [contents(inside(body, computations)) for body in re.findall(r" while\(.*body=%([\w.\-]+)", text)]
for loop in sorted(found, key=lambda loop: -loop["dot"]):
    print("body of a loop:    ", loop)
print("hvp, compiled alone:", contents(hvp.lower(start, start).compile().as_text()))

# %% [markdown]
# Three `while` instructions for three loops, whatever the number of turns. The body with two `while` inside is
# Newton's; of the other two, the one with products is conjugate gradients'; the last is the line search's, which only
# halves (it tries the loss in its condition).
#
# And the compiler did what no one wrote: `hvp` alone takes three products and three exponentials, the turn of
# conjugate gradients two and none. What depends on `w` but not on the direction is the same in all turns, so it was
# moved out of the loop. Compiled function by function, nobody can see that.
#
# Now data with some arithmetic in them: 20,000 rows, 100 features.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
rng = np.random.default_rng(SEED)
x_large = rng.normal(size=(20_000, 100))
y_large = (rng.random(20_000) < 1 / (1 + np.exp(-0.3 * x_large @ rng.normal(size=100)))).astype(np.float64)
runs = runs_for(x_large, y_large)
table_of(runs)


# %% [markdown]
# Hundreds have become about ten or less, and function by function is no longer far from whole: each piece now works
# long enough to hide the Python between two pieces. That is the paper's point. It does not ask you to compile
# everything; it asks for pieces that are pure, statically composed, and large enough.
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
    ours, theirs = np.asarray(kernel).transpose(axes), layer.weight.grad.numpy()
    print("a gradient, jax", ours.flat[0].round(4), " torch", theirs.flat[0].round(4), end="  ")
    print("largest gap below 1e-04:", bool(np.abs(ours - theirs).max() < 1e-4))

# %% [markdown]
# Now pieces of five sizes. *Op by op*. *Per layer*: each layer jitted, `value_and_grad` around them in
# Python. *Per layer, derivatives too*: `jax.vjp` of a layer, itself compiled, returns output and pullback
# (a pytree, so it may leave the compiled code), and Python passes them on. *Per step*: one program. *Whole*: ten steps
# in one program.

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
print({name: round(loss, 3) for name, loss in losses.items()})
print("gap below 1e-05:", bool(np.ptp(list(losses.values())) < 1e-5))

# %% [markdown]
# **Predict.** "Per layer" compiles all four layers; they hold all the convolutions. Is it near "op by op" or near "per
# step"?

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
compiled_net = torch.compile(net, backend=torch_compile.backend())
parameters = list(net.parameters())
for name, forward in {"PyTorch eager": net, "PyTorch compiled": compiled_net}.items():
    sizes[name] = (1, lambda *_, forward=forward: convnet.torch_sgd_step(forward, parameters, x_torch, y_torch))
counts = pd.Series({name: count for name, (count, _) in sizes.items()})
times = fastest({name: partial(step, params, x, y) for name, (_, step) in sizes.items()}, rounds=10)
table = (times / counts).to_frame("ms per step")
table["times per step"] = table["ms per step"] / table.loc["per step", "ms per step"]
table.round(2)


# %% [markdown]
# In between, at a multiple of per step. With the derivatives compiled too, most of that is gone: what was
# expensive was not the number of pieces but building the derivative in Python at each step. What remains is the
# dispatch of a dozen calls, a fixed price that larger layers hide. So the paper's claim holds where *all* functions
# are compiled, the derivatives among them, and each does some work.
#
# PyTorch eager is not far from XLA: convolutions of this size are library calls in both.
#
# ## Where compiling more is slower
#
# Ten steps unrolled took about ten steps' time. [10](10_jit_speed.ipynb) put the loop into the program, and won.
# Here, too?
#
# **Predict.** The same ten steps in a `lax.scan`: a little faster than unrolled, equal, or slower?

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
@jax.jit
def forward_in_scan(params, x, y):
    def turn(shift, _):
        return shift + loss_fn(params, x + shift, y), None  # depends on the turn before: can't be moved out

    return jax.lax.scan(turn, jnp.float32(0), length=10)[0]


forward = jax.jit(loss_fn)
first, again = (1e3 * timing.seconds(ten, params, x, y) for _ in range(2))  # the first compiles
training = {"alone": table.loc["per step", "ms per step"], "in lax.scan": again / 10}
both = fastest({"one": partial(forward, params, x, y), "ten": partial(forward_in_scan, params, x, y)})
loss_only = {"alone": both["one"], "in lax.scan": both["ten"] / 10}
pd.DataFrame({"a training step, ms": training, "the loss only, ms": loss_only}).T.round(1)

# %% [markdown]
# Many times slower, and only with the derivatives. The compiled text has the reason. `dim_labels` is the layout of a
# convolution: its input, its kernel, its output (`b` batch, `f` features, `0` and `1` height and width; `i` and `o` in
# and out).

# %%
for name, program in {"one step": jit_step, "scan over ten": ten}.items():
    text = program.lower(params, x, y).compile().as_text()
    layouts = Counter(re.findall(r" convolution\(.*dim_labels=([\w>\-]+)", text))
    print(f"{name}:", dict(layouts))

# %% [markdown]
# Eight convolutions, three of them forward. At the top level of a program XLA's CPU back end rewrites each into the one
# layout that its fast library has, `b01f_01io->b01f`, with transposes around. In the body of a loop it does not: the
# forward ones happen to have that layout, channels last, and stay fast; the derivatives' five do not, and run as plain
# loops. It is a known shortcoming ("Convolution is significantly slower inside a loop body (CPU)"), of this back end:
# a GPU has other rules.
#
# So a scan wins where steps are tiny, as in lesson 10, and may lose where a step is large and a loop loses the
# library. Measure, then choose the piece.
#
# The published benchmark, one core for both sides:

# %%
result = results.load("tracing_paper")
print(results.measured_on(result))
pd.DataFrame(result["ratios"]).set_index("what")[["measured"]].round(1)

# %% [markdown]
# ## Summary
#
# - Pure and statically composed: no side effects, and a fixed graph of primitives. `while` and `cond` are primitives,
#   so loops and branches are no obstacle; a Python `if` on a value is.
# - One text of an optimizer ran op by op, function by function and whole: the same optimum, hundreds of times apart
#   on small data, about ten or less on larger data. Only the whole let the compiler move work out of a loop.
# - Compiling function by function costs next to nothing if the derivatives are among the functions and each does some
#   work.
# - More is not always faster: on a CPU, derivatives of convolutions inside `lax.scan` are slow.
#
# ## Further reading
#
# - [The paper](https://mlsys.org/Conferences/2019/doc/2018/146.pdf): short; it defines the terms and describes the
#   experiments.
# - [The jaxpr language](https://docs.jax.dev/en/latest/jaxpr.html): the grammar of the graphs, and how loops and
#   branches nest in them.
# - [Operation semantics](https://openxla.org/xla/operation_semantics): what each operation of the compiled text means.
# - [Convolution is slower inside a loop body](https://github.com/jax-ml/jax/issues/12868): the report of what you saw.
#
# Exercises: [your turn](exercises/12_tracing_paper.ipynb).
# Capstone: [a training script with accumulation and resume](exercises/capstone_12_training_script.ipynb).
#
# Next: [13 · One step on many devices](13_many_devices.ipynb).
