# %% [markdown]
# # 16 · The derivative cliff
#
# **Why does backpropagation applied k times explode?** (65 minutes)

# %% [markdown]
# After this lesson you can
#
# - take a derivative of any order in four ways, in JAX and in PyTorch, and say how the program grows with the
#   order,
# - tell the growth that a compiler removes from the growth that it does not,
# - predict what second derivatives by *d* inputs cost, in time and in memory.
#
# Such derivatives are what differential equations are made of; lessons 17 and 18 need them.

# %%
import re
from functools import partial
from time import perf_counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jax.experimental import jet

from course import plots, timing
from course.taylor.programs import Constant, trace

# %%
SEED, ORDERS, DIMENSIONS = 0, range(1, 7), (16, 128, 1024)
jax.config.update("jax_enable_x64", True)  # float64: sixth derivatives lose half of float32's digits
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plots.use()

# %% [markdown]
# ## 1 · One function, four ways
#
# A network with four tanh layers, evaluated on 64 points that all move along straight lines `x + t v`. What
# we differentiate is one number as a function of one number, `t`. Nothing could be simpler; only the order
# will grow.

# %%
rng = np.random.default_rng(SEED)
first, *middle = (rng.normal(size=shape) / 4 for shape in ((4, 16), (16, 16), (16, 16), (16, 16)))
last, points, directions = rng.normal(size=16) / 4, rng.normal(size=(64, 4)), rng.normal(size=(64, 4))


def curve(t):
    h = jnp.tanh((points + t * directions) @ first)
    for w in middle:
        h = jnp.tanh(h @ w)
    return (h @ last).sum()


tensors = [torch.from_numpy(a) for a in (points, directions, first, *middle, last)]


def curve_torch(t):
    points, directions, *hidden, last = tensors
    h = points + t * directions
    for w in hidden:
        h = torch.tanh(h @ w)
    return (h @ last).sum()


# %% [markdown]
# *Backwards, k times.* In PyTorch: `autograd.grad` with `create_graph=True`, which makes a gradient that can
# be differentiated again. In JAX: `grad` of `grad` of `grad`.

# %%
def backward_torch(order):
    t = torch.zeros((), requires_grad=True)
    y = curve_torch(t)
    for _ in range(order):
        (y,) = torch.autograd.grad(y, t, create_graph=True)
    return y


def repeat(transform, function, order):
    for _ in range(order):
        function = transform(function)
    return function


third, third_torch = float(repeat(jax.grad, curve, 3)(0.0)), backward_torch(3).item()
assert abs(third - third_torch) < 1e-10
print(f"third derivative: JAX {third:.9f}, PyTorch {third_torch:.9f}, gap below 1e-10")


# %% [markdown]
# *Forwards, k times.* `jvp` pushes a tangent along (09). Nested, a tangent of a tangent of a tangent. With one input
# and one output, neither backwards nor forwards should be cheaper.
#
# *All orders at once.* `jax.experimental.jet` pushes a truncated Taylor series through the function: value,
# first, second, … derivative, in one pass. It is the subject of lesson 17; here it is a yardstick.

# %%
def along(function):
    return lambda t: jax.jvp(function, (t,), (1.0,))[1]


def by_jet(order):
    def derivative(t):
        _, series = jet.jet(curve, (t,), [[1.0] + [0.0] * (order - 1)])
        return series[-1]

    return derivative


WAYS = {
    "nested grad": lambda order: repeat(jax.grad, curve, order),
    "nested jvp": lambda order: repeat(along, curve, order),
    "jet": by_jet,
}
values = {name: [float(way(order)(0.0)) for order in (1, 2)] for name, way in WAYS.items()}
values["PyTorch"] = [backward_torch(order).item() for order in (1, 2)]
assert np.ptp(list(values.values()), axis=0).max() < 1e-10
print("four ways, gaps below 1e-10")
pd.DataFrame(values, index=["first derivative", "second derivative"]).T.round(9)


# %% [markdown]
# ## 2 · The size of the program
#
# Before any clock: how much is there to do? In JAX, the equations of the jaxpr (08). `course.taylor.programs.trace`
# lists them, with calls opened and without equations that nothing depends on. In PyTorch, the nodes of the graph
# behind the result, found by walking `next_functions`.
#
# **Predict.** PyTorch's graph of the first derivative has 21 nodes. How many has that of the sixth: about 120 (as many
# again for each order), 700 (doubling) or 4,000 (nearly tripling)?

# %%
def nodes(y):
    seen, waiting = set(), [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


programs = {name: [trace(way(order), jnp.zeros(())) for order in ORDERS] for name, way in WAYS.items()}
sizes = pd.DataFrame({name: [len(p.equations) for p in row] for name, row in programs.items()}, index=ORDERS)
sizes["PyTorch graph"] = [nodes(backward_torch(order)) for order in ORDERS]
sizes.rename_axis("order")

# %%
(sizes / sizes.shift(1)).loc[2:].round(2).rename_axis("times the order before")

# %% [markdown]
# Nearly 4,000. The factor is 2.3 to 2.6 at order 2 and about three at order 6, in both frameworks and in both
# directions. The series method adds a little more each time than the time before: it is a polynomial, and its factor
# falls towards 1.

# %% alt="Number of equations against the order, from 1 to 6, on a logarithmic scale. Nested grad, nested jvp and the PyTorch graph rise together in a straight line, nearly three times as many for each order; nested grad lies as a broad band under nested jvp. jet bends and stays below a thousand."
assert (sizes.loc[6] / sizes.loc[5]).drop("jet").min() > 2.5
assert set(np.diff(sizes["jet"], 3)) == {0}  # third differences are zero: a polynomial of degree 2
figure, axis = plt.subplots()
band, *_ = plots.lines(axis, sizes.index, sizes, log="y", xlabel="order k", ylabel="equations, or graph nodes",
                       title="The program of a k-th derivative")  # fmt: skip
band.set(linewidth=10, alpha=0.3, marker="")  # it would hide under nested jvp
axis.legend()
plt.show()
print("order 6 over order 1:", *(f"{name} {sizes.loc[6, name] / sizes.loc[1, name]:.0f}x;" for name in sizes))

# %% [markdown]
# The literature says $O(2^{k-1})$ (Shi et al. 2024, section 3.1, of the operations of the function itself), not
# $3^k$. Both are right; they count different things. Here are the matrix products alone, in which nearly all the
# arithmetic of a large network is:

# %%
products = pd.DataFrame(
    {name: [sum(e.name == "dot_general" for e in p.equations) for p in row] for name, row in programs.items()},
    index=ORDERS,
)
assert (products.loc[6] / products.loc[5]).drop("jet").between(1.9, 2).all()
products.T.rename_axis("matrix products at order", axis=1)

# %% [markdown]
# Nearly twice as many each time, where the equations tripled: the literature's factor.
#
# ## 3 · Where the growth comes from
#
# Take one operation. Its derivative contains the operation again, beside new ones. Differentiate *that*, and
# each of its parts brings itself and new ones. Every pass multiplies; and no pass knows what the one before
# it already had. Why two: what is linear, like the product with a fixed matrix, is applied to the value and once more
# to its tangent. Why three: a product $ab$ of two things that move comes back as $ab$, $a'b$ and $ab'$ (and
# one sum). Slopes such as $1 - \tanh^2$ bring such products in, from 2 to 6 in the output below, and soon they are
# most of the program.

# %%
for order in (1, 2):
    print(f"order {order}:", *(e.name for e in trace(repeat(along, jnp.tanh, order), jnp.zeros(())).equations))


# %% [markdown]
# Here is one product, differentiated forwards along one direction, twice. Each box becomes three.

# %% alt="A tree of three rows. Order 0: one box, a b. Order 1: three boxes, a b, a' b and a b'. Order 2: nine boxes, three under each of those. Six of the nine are blue; three are grey and say again: a' b, a b' and a' b' stand there twice."
def differentiated(products):  # (i, j): the i-th derivative of a times the j-th of b
    return [child for i, j in products for child in ((i, j), (i + 1, j), (i, j + 1))]


rows = [[(0, 0)]]
for _ in range(6):
    rows.append(differentiated(rows[-1]))
diagram, above = plots.Diagram(height=2.6), []
for order, row in enumerate(rows[:3]):
    y, step, seen, boxes = 2.3 - 0.9 * order, 7.1 / len(row), set(), []
    diagram.note(0.4, y, f"order {order}")
    for place, (i, j) in enumerate(row):
        again, x = (i, j) in seen, 0.9 + step * (place + 0.5)
        box = diagram.array(x, y, f"a{i * '′'} b{j * '′'}", side="" if again else "jax", width=0.6, height=0.4)
        if order:
            diagram.arrow(above[place // 3], box)
        if again:
            diagram.note(x, y - 0.33, "again")
        seen, boxes = seen | {(i, j)}, [*boxes, box]
    above = boxes
plt.show()
print("products at orders 0 to 6:", *map(len, rows), "; different ones:", *(len(set(row)) for row in rows))


# %% [markdown]
# The products grow as $3^k$. The different ones are $(k + 1)(k + 2) / 2$: those are what a Taylor series multiplies.
#
# How much of the whole program is repetition? Two equations are duplicates if they apply the same operation, with the
# same parameters, to the same values. Compilers remove them under the name *common subexpression
# elimination*. Here it is, in a dozen lines: number the values, and give equal equations equal numbers.
#
# **Predict.** At order 6, nested `grad` and nested `jvp` have nearly 5,000 equations each. How many are left of each
# without the duplicates?

# %%
def distinct(program):
    number, made = {}, {}
    for equation in program.equations:
        inputs = [str(i.value) if isinstance(i, Constant) else number.get(i, i) for i in equation.inputs]
        if equation.name in ("add", "mul", "add_any"):  # a + b is b + a
            inputs.sort(key=str)
        key = equation.name, tuple(inputs), str(equation.params)
        outputs = made.setdefault(key, equation.outputs)
        number.update(zip(equation.outputs, outputs, strict=True))
    return len(made)


unique = pd.DataFrame({name: [distinct(p) for p in row] for name, row in programs.items()}, index=ORDERS)
unique.rename_axis("distinct equations")

# %%
kept = (unique / sizes[list(unique)]).loc[6]
assert kept["nested jvp"] < 0.15 < 0.5 < kept["nested grad"]
print("distinct at order 6:", *(f"{name} {share:.0%};" for name, share in kept.items()))


# %% [markdown]
# Nine in ten equations of nested `jvp` are repetitions. The mathematics says so: all tangents are the same
# one, so the derivative "first by this, then by that" is the derivative "first by that, then by this". Nested
# `jvp` computes 2^k mixed derivatives of which k + 1 differ. Without the repetitions, nested `jvp` is as
# small as the series method, or smaller.
#
# Nested `grad` is a different matter. A backward pass computes the sensitivity to every intermediate value, and
# the next one the sensitivities of those. These really are different numbers, and they stay.
#
# ## 4 · What the compiler hides
#
# XLA does the same elimination. So: how long do tracing and compiling take, how many instructions are left,
# how much memory does the compiled program need beside its inputs and outputs, and how long does it run?

# %% tags=["nbval-ignore-output"] volatile="seconds, and what XLA makes of a program"
def costs(way, order):
    start = perf_counter()
    lowered = jax.jit(way(order)).lower(0.0)
    traced = perf_counter()
    compiled = lowered.compile()
    return {
        "trace s": traced - start,
        "compile s": perf_counter() - traced,
        "instructions": len(re.findall(r"^ +(?:ROOT )?%?\S+ = ", compiled.as_text(), re.MULTILINE)),
        "temporary kB": compiled.memory_analysis().temp_size_in_bytes / 1000,
        "run ms": 1e3 * timing.measure(compiled, 0.0, repeats=15).steady_s,
        "derivative": float(compiled(0.0)),
    }


measured = {(name, order): costs(way, order) for name, way in WAYS.items() for order in (1, 3, 5, 7)
            if (name, order) != ("nested grad", 7)}  # fmt: skip
for order in (1, 3, 5, 7):
    run = 1e3 * timing.measure(backward_torch, order, repeats=7).steady_s
    measured["PyTorch", order] = {"run ms": run, "derivative": backward_torch(order).item()}
table = pd.DataFrame(measured).T.rename_axis(["way", "order"])
for _, values in table["derivative"].groupby("order"):
    assert np.ptp(values) < 1e-9 * (1 + abs(values.iloc[0]))
table.round(3)

# %% tags=["nbval-ignore-output"] volatile="a ratio of instructions that XLA decides" alt="Two panels against the order of the derivative. Left, seconds to trace and compile: nested grad rises steeply; nested jvp stays near jet up to order 5 and rises faster after it. Right, milliseconds of a call: PyTorch rises steeply, nested grad follows at order 5; nested jvp and jet stay low."
figure, axes = plots.panels(2)
once, run = (table["trace s"] + table["compile s"]).unstack(0), table["run ms"].unstack(0)
ways = ["nested grad", "nested jvp", "jet"]
plots.lines(axes[0], once.index, once[ways], log="y", xlabel="order k", ylabel="seconds, once",
            title="Tracing and compiling")  # fmt: skip
plots.lines(axes[1], run.index, run[[*ways, "PyTorch"]], log="y", xlabel="order k", ylabel="milliseconds a call",
            title="Running")  # fmt: skip
for axis in axes:
    axis.set_xticks(run.index)
plt.show()
fifth = table["instructions"].xs(5, level="order")
print(f"instructions at order 5, nested grad over nested jvp: {fifth['nested grad'] / fifth['nested jvp']:.1f}")

# %% [markdown]
# Read the two panels together. (The table's column `derivative`: for each order, all ways give one number. Nested
# `grad` stops at order 5, for your patience.)
#
# - Nested `jvp` *runs* about as fast as `jet`, often faster: the compiler has merged the duplicates. Up to
#   order 5 or so merging is cheap as well. Above that the cliff begins on the left: Python traces every duplicate and
#   XLA reads every one before it can drop it, nearly three times as many for each order.
# - Nested `grad` loses on both sides. Its program stays large after compiling, so it also runs longer and
#   needs more memory.
# - PyTorch compiles nothing here. It builds and walks its graph at every call, and its time grows with the graph.
#
# Hence a rule of thumb: backwards once for each set of *many* variables, and forwards for everything else.
# Derivatives along one direction are nested `jvp` up to order 5 or so, and Taylor series (17) above that.
# Hessian-vector products are `jvp` of `grad` (09). But `grad` of `grad` is right where both levels have many
# variables and one output: a gradient penalty $|\nabla_x f|^2$ in a loss, or a network of energies trained on
# forces $-\nabla_x E$ (force matching). There the inner gradient is by the inputs, the outer one by the weights, and
# going forwards by either would take one pass for each variable.
#
# ## 5 · Where the compiler cannot help
#
# Elimination works inside one program, on equations that stand side by side. It fails where there is no
# program, and where there are walls in it. No program: op by op, each `jnp` function is a small program of
# its own. It receives up to 2^k tangents as separate arguments, and nothing tells it that most of them are
# equal.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
run_ms = table["run ms"].xs(5, level="order")
op_by_op = timing.measure(WAYS["nested jvp"](5), 0.0, repeats=3).steady_s
print(f"nested jvp, order 5: op by op {1e3 * op_by_op:.0f} ms, compiled {run_ms['nested jvp']:.2f} ms, ", end="")
print(f"PyTorch's backward passes {run_ms['PyTorch']:.2f} ms")


# %% [markdown]
# Walls: the body of a loop is a program of its own. The same network with its layers in `lax.scan` carries
# value and tangents from turn to turn, and whether two entries of the carry are always equal is not visible
# in the body.
#
# **Predict.** The loop of the function itself carries one array, `h`. How many does the loop of its sixth derivative
# carry: 7, as many as a Taylor series of that order has, or more?

# %%
def curve_scanned(t):
    h = jnp.tanh((points + t * directions) @ first)
    h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, jnp.stack(middle))
    return (h @ last).sum()


def carried(order):
    equations = trace(repeat(along, curve_scanned, order), jnp.zeros(())).equations
    return next(e.params["num_carry"] for e in equations if e.name == "scan")


in_a_scan = float(repeat(along, curve_scanned, 3)(0.0))
assert abs(in_a_scan - third) < 1e-10
print(f"third derivative: in a scan {in_a_scan:.9f}, written out {third:.9f}, gap below 1e-10")
print("arrays carried, orders 1 to 6:", *map(carried, ORDERS), "; a Taylor series has", *(k + 1 for k in ORDERS))

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
for order in (1, 3, 5):
    scanned = timing.measure(jax.jit(repeat(along, curve_scanned, order)), 0.0, repeats=15).steady_s
    written_out = table.loc[("nested jvp", order), "run ms"]
    print(f"order {order}: {written_out:5.2f} ms written out, {1e3 * scanned:5.2f} ms in a scan")


# %% [markdown]
# 64: twice the arrays for every order, all of them multiplied by the weights. Deep networks are often written
# with `scan` precisely to compile quickly; there, nested derivatives get the full 2^k at run time.
#
# ## 6 · The other cliff: dimension
#
# Orders rarely exceed four. Dimensions do. The Laplacian, the sum of the second derivatives by each of d
# inputs, is the trace of the Hessian. Here a network of d inputs and what users of both frameworks write.

# %%
def parameters(d):
    rng = np.random.default_rng(SEED)
    weights = rng.normal(size=(d, 32)) / d**0.5, rng.normal(size=(32, 32)) / 32**0.5, rng.normal(size=32)
    return *weights, rng.normal(size=d)


def net(weights, x, tanh=jnp.tanh):
    w1, w2, w3 = weights
    return tanh(tanh(x @ w1) @ w2) @ w3


def laplacian_torch(weights, x, trainable=False):
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(net(weights, x, torch.tanh), x, create_graph=True)
    total = 0.0
    for i in range(len(x)):  # one backward pass through the backward pass for each input
        total = total + torch.autograd.grad(g[i], x, retain_graph=True, create_graph=trainable)[0][i]
    return total


# %% [markdown]
# In JAX: a loop in Python over d Hessian-vector products (09), calls of one jitted function; `jax.hessian`, which
# is their `vmap`; and the same products one after the other in `lax.map`.

# %%
def product(f, x, v):
    return jax.jvp(jax.grad(f), (x,), (v,))[1] @ v


@jax.jit
def one_product(weights, x, i):
    return product(partial(net, weights), x, jnp.zeros_like(x).at[i].set(1.0))


def laplacian_loop(weights, x):
    return sum(one_product(weights, x, i) for i in range(len(x)))


def laplacian_hessian(weights, x):
    return jnp.trace(jax.hessian(partial(net, weights))(x))


def laplacian_map(weights, x):
    return jax.lax.map(lambda i: one_product(weights, x, i), jnp.arange(len(x))).sum()


# %%
*weights, x = parameters(16)
ways = {"JAX loop": laplacian_loop, "jax.hessian": jax.jit(laplacian_hessian), "lax.map": jax.jit(laplacian_map)}
values = {name: float(way(weights, x)) for name, way in ways.items()}
values["PyTorch loop"] = laplacian_torch([torch.from_numpy(w) for w in weights], torch.from_numpy(x)).item()
assert np.ptp(list(values.values())) < 1e-12
print(*(f"{name:13}{value:.10f}" for name, value in values.items()), "gaps below 1e-12", sep="\n")

# %% [markdown]
# Program size first, again. To *train* on a Laplacian, PyTorch's loop has to keep the graph of all d passes
# (`torch.func.hessian` batches them; 17b times it). The program of `jax.hessian` batches them: its size does not
# depend on d. It would if you put the Python loop inside `jit` (08).

# %%
counts = {}
for d in DIMENSIONS:
    *weights, x = parameters(d)
    tensors = [torch.from_numpy(w).requires_grad_() for w in weights]
    counts[d] = {
        "PyTorch graph, trainable": nodes(laplacian_torch(tensors, torch.from_numpy(x), trainable=True)),
        "jax.hessian": len(trace(partial(laplacian_hessian, weights), x).equations),
    }
*weights, x = parameters(16)
print("Python loop inside jit, d = 16:", len(trace(partial(laplacian_loop, weights), x).equations), "equations")
pd.DataFrame(counts).T.rename_axis("d")

# %% tags=["nbval-ignore-output"] volatile="milliseconds, and XLA's memory"
rows = {}
for d in DIMENSIONS:
    *weights, x = map(jnp.asarray, parameters(d))
    tensors = [torch.from_numpy(np.array(w)) for w in (*weights, x)]
    rows[d] = {"PyTorch loop ms": timing.measure(lambda t=tensors: laplacian_torch(t[:-1], t[-1]), repeats=1).steady_s}
    rows[d]["JAX loop ms"] = timing.measure(laplacian_loop, weights, x, repeats=3).steady_s
    for name, way in {"jax.hessian": laplacian_hessian, "lax.map": laplacian_map}.items():
        compiled = jax.jit(way).lower(weights, x).compile()
        rows[d][f"{name} ms"] = timing.measure(compiled, weights, x, repeats=7).steady_s
        rows[d][f"{name} kB"] = compiled.memory_analysis().temp_size_in_bytes
(1e3 * pd.DataFrame(rows)).T.mul({c: 1e-6 if c.endswith("kB") else 1 for c in rows[16]}).round(2).rename_axis("d")

# %% [markdown]
# - The loops cost d calls, each with its fixed price in Python: their time grows with d.
# - `jax.hessian` removes the calls and keeps the arithmetic: d directions through a first layer of d rows of weights,
#   which grows as d^2. And it holds all directions at once, d x d numbers for *one* point: 8 MB at d = 1024, 8 GB for a
#   batch of a thousand points.
# - `lax.map` gives the memory back, takes longer at large d, and does the same arithmetic.
#
# None of it uses that only a *sum* is wanted, or that most of these tangents are zeros. Both can be had.
#
# ## Summary
#
# - Nested derivatives multiply the program by nearly 3 with each order, in both frameworks; a Taylor series
#   adds a polynomial amount.
# - XLA merges the duplicates of nested `jvp`, so its cost is tracing and compiling. It does not rescue nested
#   `grad`, code that runs op by op, or derivatives through `scan`.
# - A Laplacian by Hessian-vector products costs d passes, and for each point arithmetic that grows as d^2, however
#   they are run.
#
# ## Further reading
#
# - [Stochastic Taylor Derivative Estimator](https://arxiv.org/abs/2412.00088): Shi et al. (2024); section 3 has the
#   cost of nested derivatives, by order and by dimension.
# - [jax.experimental.jet](https://docs.jax.dev/en/latest/jax.experimental.jet.html): the series method of this lesson,
#   and the notes behind it.
# - [The autodiff cookbook](https://docs.jax.dev/en/latest/notebooks/autodiff_cookbook.html): forward and reverse, and
#   what Hessian-vector products cost.
#
# Exercises: [your turn](exercises/16_derivative_cliff.ipynb).
#
# Next: [17 · Taylor mode](17_taylor_mode.ipynb): one pass for all orders, and a Laplacian that does not
# build a Hessian.
