# %% [markdown]
# # 17 · Taylor mode
#
# **How do you get high derivatives in one forward pass?** (100 minutes)

# %% [markdown]
# After this lesson you can
#
# - push a whole Taylor series through a function, by hand, with `jax.experimental.jet` and with `course.taylor`,
# - write an interpreter that does it to second order, for any operation on real numbers that JAX can differentiate
#   forwards, in 25 lines,
# - compute Laplacians and mixed partial derivatives exactly and fast, and say when nested `jvp` is good enough.

# %%
import math
from collections import Counter
from itertools import pairwise

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jax import lax
from jax.experimental import jet
from torch import func

from course import plots, taylor, timing
from course.failures import fails
from course.taylor.programs import Constant, is_real, trace

# %%
SEED, D, WIDTH, POINTS = 0, 100, 32, 32
jax.config.update("jax_enable_x64", True)  # float64: formulas that agree do so to 1e-10 and better
jax.config.update("jax_pprint_use_color", False)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plots.use()


def same(what, ours, reference, tolerance=1e-10):  # prints the first two numbers of each side
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(side)]) for side in (ours, reference))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    shown = [", ".join(f"{value:.6g}" for value in side[:2]) + " …" * (len(side) > 2) for side in (a, b)]
    print(f"{what}: {shown[0]} and {shown[1]}, gap below {tolerance:g}")


# %% [markdown]
# ## 1 · A jet by hand
#
# Nesting `grad` differentiates a program that has been differentiated already, and that program grows with
# each order (16). Taylor mode differentiates nothing twice. It runs the function once, on a *jet*: the
# coefficients $u_0, u_1, \dots, u_K$ of a truncated power series in $t$ where there used to be one number.
#
# Each operation maps coefficients to coefficients. The rules follow from a differential equation. For
# $e = \exp(u)$ it is $e' = e\,u'$; compare the coefficients of $t^{k-1}$ and get
# $k\,e_k = \sum_{j=1}^k j\,u_j\,e_{k-j}$. Sine and cosine go together.

# %%
def exp_series(u):
    e = [math.exp(u[0])]
    for k in range(1, len(u)):
        e.append(sum(j * u[j] * e[k - j] for j in range(1, k + 1)) / k)
    return e


def sin_series(u):
    s, c = [math.sin(u[0])], [math.cos(u[0])]
    for k in range(1, len(u)):
        s.append(sum(j * u[j] * c[k - j] for j in range(1, k + 1)) / k)
        c.append(-sum(j * u[j] * s[k - j] for j in range(1, k + 1)) / k)
    return s


x0, K = 0.3, 5
series = sin_series(exp_series([x0, 1.0] + [0.0] * (K - 1)))  # along x0 + t
print("Taylor coefficients of sin(exp(x)):", np.round(series, 6))


# %% [markdown]
# These are Taylor coefficients. The $k$-th *derivative* is $k!$ times the $k$-th coefficient. JAX ships a Taylor mode,
# `jax.experimental.jet`: it takes a point and the series of a curve through it. Its numbers are *derivatives*; the
# factor $k!$ is taken care of on the way in and out. Beside both, five nested `grad`, in JAX and in PyTorch:

# %%
def nested_grad(f, x, order):
    values = []
    for _ in range(order + 1):
        values.append(f(x))
        f = jax.grad(f)
    return jnp.stack(values)


nested = nested_grad(lambda x: jnp.sin(jnp.exp(x)), x0, K)
value, by_jet = jet.jet(lambda x: jnp.sin(jnp.exp(x)), (x0,), ((1.0, 0.0, 0.0, 0.0, 0.0),))
leaf = torch.tensor(x0, requires_grad=True)
in_torch = [torch.sin(torch.exp(leaf))]
for _ in range(K):
    in_torch += torch.autograd.grad(in_torch[-1], leaf, create_graph=True)

ways = {"by hand": [math.factorial(k) * c for k, c in enumerate(series)], "jet": [value, *by_jet]}
ways |= {"nested jax.grad": nested, "nested autograd.grad": [each.item() for each in in_torch]}
ways = pd.DataFrame({name: np.array(values) for name, values in ways.items()})
assert np.ptp(ways, axis=1).max() < 1e-10
print("gaps below 1e-10")
ways.round(6).rename_axis("order")


# %% [markdown]
# ## 2 · Faà di Bruno's formula
#
# The rules above are for two functions. For a composition $f(g(t))$ in general, the $k$-th derivative is a sum
# over all ways to split a set of $k$ things into blocks: one factor $g^{(|B|)}$ per block $B$, times
# $f^{(\text{number of blocks})}$. In the output below, `f2` is $f''$ and `g3` is $g^{(3)}$.

# %%
def partitions(items):
    if not items:
        yield []
        return
    first, *rest = items
    for blocks in partitions(rest):
        yield [[first], *blocks]
        for i, block in enumerate(blocks):
            yield [*blocks[:i], [first, *block], *blocks[i + 1 :]]


outer = taylor.derivatives(jnp.sin, jnp.exp(x0), 1.0, order=4).tolist()  # of sin at exp(x0)
inner = [math.exp(x0)] * 5  # of exp at x0
for k in (2, 3, 4):
    splits = [tuple(sorted(map(len, blocks))) for blocks in partitions(range(k))]
    terms = [f"{n} f{len(sizes)}·" + "·".join(f"g{s}" for s in sizes) for sizes, n in sorted(Counter(splits).items())]
    total = sum(outer[len(sizes)] * math.prod(inner[s] for s in sizes) for sizes in splits)
    same(f"order {k}: " + " + ".join(terms), total, nested[k])

# %% alt="On the left a column of boxes, what goes in: g1 to g4. In the middle four rows of numbers under f1 to f4: 1; 1 1; 1 3 1; 1 7 6 1, the rest zero. The column under f1 is marked. On the right a column of boxes, what comes out: orders 1 to 4. An arrow leads from each box on the left to the marked number of its row, and from each row to its box on the right."
blocks = [Counter(map(len, partitions(range(k)))) for k in range(1, 5)]
table = np.array([[row[n] for n in range(1, 5)] for row in blocks])
diagram = plots.Diagram(height=2.7)
size, middle = 0.5, (4.0, 1.1)
diagram.cells(*middle, table, side="jax", size=size, marked=np.arange(4) == np.zeros((4, 1)))
for x, title in ((1.2, "in: derivatives of g"), (4.0, "how many splits, by blocks"), (6.8, "out: those of f(g(t))")):
    diagram.note(x, 2.55, title)
for k in range(1, 5):
    y = middle[1] + (2.5 - k) * size
    diagram.note(middle[0] + (k - 2.5) * size, 2.24, f"f{k}")
    given = diagram.array(1.2, y, f"g{k}", side="jax", width=0.9, height=0.36)
    diagram.arrow(given, (middle[0] - 2 * size, y))
    diagram.arrow((middle[0] + 2 * size, y), diagram.array(6.8, y, f"order {k}", side="jax", width=0.9, height=0.36))
plt.show()
print("splits of 1 to 4 things:", *table.sum(1), "  into one block:", *table[:, 0])

# %% [markdown]
# The table says how many splits there are of $k$ things (the row) into how many blocks (the column): 2, 5, 15, … in
# all, the Bell numbers. Note one thing for later, the marked column: the highest derivative of the inside, $g^{(k)}$,
# occurs once, *linearly*, times $f'$. All that stands right of it is made of lower derivatives of $g$.
#
# ## 3 · `jax.experimental.jet` has gaps
#
# `torch.func` has no Taylor mode; for PyTorch there is [torch-jet](https://github.com/f-dangel/torch-jet) by Dangel et
# al., whose paper section 5 follows. JAX's `jet` takes any curve, also a bent one. But it is a table with one rule per
# primitive, and what is not in the table fails. Some examples, with what `course.taylor.derivatives(f, x, v, order)`
# makes of them, $D^k f$ along the line $x + t v$ for $k = 0 \dots$ `order`:

# %%
v, w = 0.7, -1.3  # a curve x0 + v t + w t^2 / 2
_, (_, second) = jet.jet(lambda x: jnp.sin(jnp.exp(x)), (x0,), ((v, w),))
same("second order along a curve, jet and f'' v^2 + f' w", second, nested[2] * v**2 + nested[1] * w)
print("torch.func has a jet:", hasattr(func, "jet"))


def scanned(x):
    return lax.scan(lambda c, _: (jnp.sin(c), None), x, length=3)[0]


functions = {"softplus": jax.nn.softplus, "relu": jax.nn.relu, "lax.scan": scanned, "tan": jnp.tan}
functions["prod"] = lambda x: jnp.prod(jnp.stack([x, x + 1]))
functions["at[].set"] = lambda x: jnp.zeros(2).at[0].set(x).sum()
for name, function in functions.items():
    both = jax.jit(lambda x, f=function: (taylor.derivatives(f, x, 1.0, order=4), nested_grad(f, x, order=4)))
    same(f"\n{name}, course.taylor and nested grad", *both(0.4))
    with fails(lines=4):  # the type depends on the version
        jet.jet(function, (0.0,), ((1.0, 0.0),))


# %% [markdown]
# A `KeyError` names the primitive that has no rule: `scan`, `tan`, `reduce_prod`, `scatter`. `UnexpectedTracerError`
# speaks of a leak, and the leak is not yours: `softplus` and `relu` are `custom_jvp` functions (09), `jet` has no rule
# for those, tries to run the body instead, and its tracers get into another trace.
#
# So why not write the body into the program oneself? `relu` is $\max(x, 0)$, `softplus` is $\max(x, 0) + \log(1 +
# e^{-|x|})$.
#
# **Predict.** With their rules, the slopes at 0 are 0 for `relu` and 0.5 for `softplus`, in JAX and in PyTorch. Which
# slopes does `jet` find in the bodies?

# %%
def softplus_body(x):
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def relu_body(x):
    return jnp.maximum(x, 0.0)


at_zero = torch.zeros((), requires_grad=True)
for body, kept, theirs in (
    (softplus_body, jax.nn.softplus, torch.nn.functional.softplus),
    (relu_body, jax.nn.relu, torch.relu),
):
    _, (opened, _) = jet.jet(body, (0.0,), ((1.0, 0.0),))
    (slope,) = torch.autograd.grad(theirs(at_zero), at_zero)
    ours = jax.jit(lambda x, kept=kept: taylor.derivatives(kept, x, 1.0, order=2))(0.0)[1]
    assert ours == jax.grad(kept)(0.0) == slope.item() != opened
    print(f"{kept.__name__:8} slope at 0: body {opened:.1f}, with its rule {ours:.1f}, torch {slope:.1f}")


# %% [markdown]
# Both are off by a half, in silence: where $x$ and 0 tie, `jet` takes the mean of their slopes, and 1 as the slope of
# $|x|$. So custom rules have to be kept.
#
# ## 4 · How: a jaxpr is a list of equations
#
# A traced function is a flat list of operations (08). `course.taylor.programs.trace` opens nested calls, numbers the
# values, and makes each operation something that can be *called*. Value 0 is the argument.

# %%
def tiny(x):
    return jax.nn.softplus(jnp.sin(x) * x).sum()


for equation in trace(tiny, jnp.ones(3)).equations:
    inputs = ", ".join("constant" if isinstance(i, Constant) else f"value {i}" for i in equation.inputs)
    print(f"value {equation.outputs[0]} = {equation.name}({inputs})")


# %% [markdown]
# `softplus` stayed one equation, `custom_jvp_call`: its rule survives.
#
# Now second order. Let an operation $p$ receive, for each input, a value $z$, first derivatives $v_r$ along
# $R$ directions, and the *sum* $w$ of its second derivatives over the directions. Then it must return
#
# $$p(z), \qquad D p[v_r], \qquad \sum_r D^2 p[v_r, v_r] + D p[w].$$
#
# No table of rules is needed. $D p$ is one `jax.jvp`, and $D^2 p[v, v]$ is a `jvp` of a `jvp`: of one operation
# at a time. With all coordinate directions the result is the Laplacian. (Real values only: complex ones are left to
# `course.taylor`.)

# %%
def forward_laplacian(f, x, directions):
    """f(x), and the sum of the second derivatives of f along the directions (R, d)."""
    program = trace(f, x)
    values = {0: (x, directions, jnp.zeros_like(x))}  # a jet; what does not depend on x is a plain array
    for equation in program.equations:
        known = [i.value if isinstance(i, Constant) else values[i] for i in equation.inputs]
        moving = [n for n, i in enumerate(known) if isinstance(i, tuple)]

        def p(*parts, equation=equation, known=known, moving=moving):
            arguments = [i[0] if isinstance(i, tuple) else i for i in known]
            for n, part in zip(moving, parts, strict=True):
                arguments[n] = part
            return equation.call(*arguments)

        z, v, w = zip(*(known[n] for n in moving), strict=True) if moving else ((), (), ())
        values.update(zip(equation.outputs, p(*z), strict=True))
        floats = [n for n, o in enumerate(p(*z)) if moving and is_real(o)]  # comparisons and indices stay plain
        if floats:
            q = lambda *z, p=p, floats=floats: [p(*z)[n] for n in floats]  # noqa: E731
            twice = jax.vmap(lambda *v, q=q, z=z: jax.jvp(lambda *z: jax.jvp(q, z, v)[1], z, v))
            slopes, curved = twice(*v)  # D p[v_r] and D^2 p[v_r, v_r], for all r
            for n, s, c, pushed in zip(floats, slopes, curved, jax.jvp(q, z, w)[1], strict=True):
                values[equation.outputs[n]] = values[equation.outputs[n]], s, c.sum(0) + pushed
    value, _, second = values[program.outputs[0]]
    return value, second


# %%
rng = np.random.default_rng(SEED)
a, b = jnp.asarray(rng.normal(size=(6, 8)) / 3), jnp.asarray(rng.normal(size=(8, 8)) / 3)


def small(x):  # a custom_jvp, a comparison, and a loop that carries an integer beside: it knows none of them
    hidden = lax.fori_loop(0, 2, lambda i, h: jnp.tanh(h @ b + i), jax.nn.softplus(x @ a))
    return jnp.where(hidden > 0, hidden, 0.1 * hidden).sum() * (1 - x @ x)


point = jnp.asarray(rng.normal(size=6))
reference = jax.jit(lambda x: (small(x), jnp.trace(jax.hessian(small)(x))))(point)
ours = jax.jit(lambda x: forward_laplacian(small, x, jnp.eye(6)))(point)
print("value and Laplacian, 6 inputs:")
same("25 lines and the trace of jax.hessian", ours, reference)
same("course.taylor and the same", jax.jit(lambda x: taylor.value_and_laplacian(small, x))(point), reference)


# %% [markdown]
# `course/taylor/rules.py` is this for any order $K$. A jet is there a list: `x[0]` is the value, `x[1]` to `x[K-1]`
# hold one derivative for each direction, and `x[K]` only the sum over the directions of the $K$-th. The rule
# `anything` is the nested `jvp` above; the others only save time, one for each *class* of operations. What is linear
# maps each derivative as it maps the value; elementwise functions obey Faà di Bruno; products obey Leibniz.
#
# ## 5 · Collapsing
#
# Why carry the sum and not each second derivative? Because each operation is linear in the highest
# coefficient, as Faà di Bruno's formula showed, the sum can be taken at the start as well as at the end. Per
# intermediate value that is $1 + R + 1$ arrays: the value, $R$ first coefficients, one sum. Order $K$ has
# $1 + (K-1)R + 1$ in place of $1 + KR$.
#
# Dangel et al. (*Collapsing Taylor mode automatic differentiation*, NeurIPS 2025) derive this for general
# operators. With $K = 2$ and the coordinate directions it is the *forward Laplacian* (Li et al., 2024). Does it
# save what it promises? Count the numbers that a whole program writes.
#
# **Predict.** For 64 directions through layers of width 64, a collapsed jet holds 4,224 numbers in place of 8,256. Does
# the whole program write half as much?

# %%
def one_jet_each(x):  # the same 25 lines, for one direction at a time
    return jax.vmap(lambda v: forward_laplacian(plain, x, v[None])[1])(jnp.eye(64)).sum()


def collapsed(x):
    return forward_laplacian(plain, x, jnp.eye(64))[1]


def plain(x):  # four dense layers of width 64
    for _ in range(3):
        x = jnp.tanh(x @ mix)
    return x @ mix[0]


def numbers_written(run):
    return sum(output.aval.size for equation in jax.make_jaxpr(run)(at).eqns for output in equation.outvars)


mix, at = jnp.asarray(rng.normal(size=(64, 64)) / 8), jnp.ones(64)
same("one jet each, collapsed", jax.jit(one_jet_each)(at), jax.jit(collapsed)(at))
print(f"a jet of width 64, 64 directions: {64 * (1 + 2 * 64)} numbers, collapsed {64 * (1 + 64 + 1)}")
ratio = numbers_written(one_jet_each) / numbers_written(collapsed)
print(f"written by the whole program: {ratio:.2f} times as many without collapsing")


# %% [markdown]
# Collapsing halves what is carried. Of all that is written it saves far less than half, because the work inside an
# operation stays.
#
# ## 6 · The Laplacian of a network, six ways
#
# Three hidden layers of `tanh`, 100 inputs, 32 points, the same weights on both sides. `torch.nn.Linear` stores
# (out, in), so each weight is transposed on its way.
#
# PyTorch: a gradient with a graph, then one more backward pass per coordinate; and, in `torch.func`, the trace of
# a full Hessian, mapped over points. JAX: the trace of `jax.hessian`; a loop of Hessian-vector products that never
# holds a Hessian (09); and collapsed jets, without and with what section 7 explains. Rounds are interleaved, so that a
# busy moment hits all alike, and the median of five counts. Memory is XLA's own figure for temporary arrays; PyTorch
# reports none on a CPU.

# %%
def torch_mlp(d):
    torch.manual_seed(SEED)
    sizes = [d, WIDTH, WIDTH, WIDTH]
    layers = [part for i, o in pairwise(sizes) for part in (torch.nn.Linear(i, o), torch.nn.Tanh())]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 1))


def carried(net):
    dense = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    return [(jnp.asarray(m.weight.detach().numpy().T), jnp.asarray(m.bias.detach().numpy())) for m in dense]


def mlp(params, x):
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = params[-1]
    return (x @ w + b)[0]


net = torch_mlp(D)
params = carried(net)
X = jnp.asarray(rng.normal(size=(POINTS, D)))
X_torch = torch.from_numpy(np.array(X))
same("outputs, JAX and PyTorch", jax.vmap(mlp, (None, 0))(params, X), net(X_torch)[:, 0].detach().numpy())


# %%
def nested_autograd(x, create_graph=False):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    total = 0.0
    for i in range(x.shape[1]):
        (row,) = torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True, create_graph=create_graph)
        total = total + row[:, i]
    return total


def torch_func(x):
    return func.vmap(lambda point: func.hessian(lambda p: net(p)[0])(point).trace())(x).detach()


# %%
def product_loop(u, x):
    def add(i, total):
        unit = jnp.zeros_like(x).at[i].set(1.0)
        return total + jax.jvp(jax.grad(u), (x,), (unit,))[1][i]

    return lax.fori_loop(0, len(x), add, jnp.zeros((), x.dtype))


def batched(operator):  # (u, x) -> number, made a compiled function of weights and points
    return jax.jit(lambda params, X: jax.vmap(lambda x: operator(lambda z: mlp(params, z), x))(X))


ways = {
    "jax.hessian, trace": batched(lambda u, x: jnp.trace(jax.hessian(u)(x))),
    "Hessian-vector loop": batched(product_loop),
    "collapsed": batched(lambda u, x: taylor.laplacian(u, x, compress=False)),
    "collapsed, compressed": batched(taylor.laplacian),
}
reference = nested_autograd(X_torch).detach().numpy()
print("Laplacians at 32 points, each way and PyTorch's nested autograd:")
same("torch.func hessian", torch_func(X_torch).numpy(), reference)
for name, way in ways.items():
    same(name, way(params, X), reference)

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
contestants = {name: (way, params, X) for name, way in ways.items()}
contestants |= {"PyTorch nested autograd": (nested_autograd, X_torch), "torch.func hessian": (torch_func, X_torch)}
rounds = [{name: timing.seconds(*call) for name, call in contestants.items()} for _ in range(5)]
table = pd.DataFrame({"ms": 1e3 * pd.DataFrame(rounds).median()})
table["times slower"] = table["ms"] / table["ms"].min()
table["temporary MB"] = pd.Series(
    {name: way.lower(params, X).compile().memory_analysis().temp_size_in_bytes / 1e6 for name, way in ways.items()}
)
print(timing.environment())
table.sort_values("ms").round(2)


# %% [markdown]
# (torch runs on one thread here, XLA takes the cores it finds. PyTorch is eager: part of its time is Python.)
#
# ## 7 · Compression: the dimension drops out
#
# 100 directions enter a layer of width 32. Behind it every jet carries 100 first derivatives of 32 numbers.
# Write $h$ for the rest of the network, as a function of these 32 numbers, and $c_r$ for row $r$ of $C$ (100,
# 32), the derivatives along direction $r$. They are used only in $\sum_r D^2 h[c_r, c_r] = \sum_{ij}
# \partial_i \partial_j h\,(C^T C)_{ij}$: the *Gram matrix* $C^T C$ is all that counts. It is only 32 by 32,
# so its Cholesky factorisation gives an $F$ of 32 rows with $F^T F = C^T C$, and these can replace the 100.
#
# Three conditions: the order is 2; all directions have the same weight; and $C$ has a column for everything that
# depends on $x$ and is used later. That a weighted Laplacian can take any factor of its matrix, and so only as many
# directions as that has rank, is part of Dangel et al. To do it again in the middle of a program, wherever that is
# narrow, is ours. By hand, for the first layer $z = xW + b$, where $C = W$:

# %%
def by_gram(params, x):
    (w, b), *rest = params
    gram = w.T @ w  # (32, 32), sums over all 100 directions
    factor = jnp.linalg.cholesky(gram).T  # 32 rows, each a direction in the space of z; needs full rank
    return taylor.laplacian(lambda z: mlp(rest, jnp.tanh(z)), x @ w + b, factor, compress=False)


same("32 directions, 100 directions", jax.jit(jax.vmap(by_gram, (None, 0)))(params, X), reference)


# %% [markdown]
# `taylor.laplacian` looks for such a place by itself: after each equation it adds up the widths of the values
# that are still needed (complex ones count twice), and where they are narrower than the number of directions it puts
# in a factor. The factor of a *linear* first layer depends on no point, so under `vmap` it is computed once.
#
# Columns that depend on each other make the Gram matrix singular. It then gets a small multiple of the identity added,
# so unlike the line above it does not need full rank. What does that cost in float32? About one digit, up to 1e-5 in
# place of 1e-6: a first layer of 128 columns, then the same with every second column a copy of its neighbour.
# (`compress=False` has all digits, at the full price.) And what does compression save? Time against dimension, eight
# points.

# %% tags=["nbval-ignore-output"] volatile="rounding in float32"
def first_layer_error(weights):
    def f(x):
        return jnp.sin(x @ jnp.asarray(weights, x.dtype)).sum()

    at = jnp.asarray(rng.normal(size=(8, 256)))
    exact = jax.vmap(lambda x: taylor.laplacian(f, x, compress=False))(at)
    single = jax.vmap(lambda x: taylor.laplacian(f, x))(at.astype(jnp.float32))
    return float(abs(single - exact).max() / abs(exact).max())


independent = rng.normal(size=(256, 128)) / 16
errors = [first_layer_error(w) for w in (independent, independent[:, np.arange(128) // 2 * 2])]
print("relative error in float32, independent columns:", f"{errors[0]:.0e}")
print("relative error in float32, half of them copies:", f"{errors[1]:.0e}")
assert errors[0] < 1e-6 < errors[1] < 1e-5

# %% tags=["nbval-ignore-output"] volatile="milliseconds, and a picture of them" alt="Milliseconds for the exact Laplacian of a network of width 32 at eight points, against the dimension, both logarithmic. With all directions the time grows nearly in proportion to the dimension; compressed it starts lower and grows more slowly, and at 4,000 takes a fraction of the other."
dimensions, times = (100, 1000, 4000), {"all directions": [], "compressed": []}
for d in dimensions:
    wide, few = carried(torch_mlp(d)), jnp.asarray(rng.normal(size=(8, d)))
    runs = {"all directions": ways["collapsed"], "compressed": ways["collapsed, compressed"]}
    results = [run(wide, few) for run in runs.values()]  # compiles
    same(f"d = {d}, all directions, compressed", *results)
    rounds = pd.DataFrame([{n: 1e3 * timing.seconds(run, wide, few) for n, run in runs.items()} for _ in range(7)])
    for name, milliseconds in rounds.median().items():
        times[name].append(milliseconds)
figure, axes = plt.subplots()
plots.lines(axes, dimensions, times, log="xy", xlabel="dimension d", ylabel="milliseconds, 8 points",
            title="Exact Laplacian of a network of width 32")  # fmt: skip
axes.set_xticks(dimensions)
plt.show()
print({name: np.round(milliseconds, 2).tolist() for name, milliseconds in times.items()})


# %% [markdown]
# The dimension is left in $W^T W$ and in the first layer itself, nowhere else. It does not always happen: a place is
# needed where all that depends on $x$ is narrower than the number of directions. Where it happens, a Cholesky
# factorisation shows in the program.
#
# **Predict.** Which of these are compressed: the network; the network times $1 - |x|^2$; a network that takes $x$ again
# in every layer; the network along 16 directions instead of 100?

# %%
def skip(x):
    w, b = params[0]
    hidden = jnp.tanh(jnp.concatenate([jnp.tanh(x @ w + b), x]) @ wider)
    return jnp.concatenate([hidden, x]) @ wider[:, 0]  # x is needed in every layer


def boundary(x):
    return (1 - x @ x) * mlp(params, x)


wider = jnp.asarray(rng.normal(size=(WIDTH + D, WIDTH)) / 10)
cases = {
    "network": (lambda x: mlp(params, x), None),
    "times 1 - |x|^2": (boundary, None),
    "wide skip connection": (skip, None),
    "network, 16 directions": (lambda x: mlp(params, x), jnp.arange(16)),
}
for name, (f, axes_) in cases.items():
    program = str(jax.make_jaxpr(lambda x, f=f, axes_=axes_: taylor.value_and_laplacian(f, x, axes_))(X[0]))
    print(f"{name:23} compressed: {'cholesky' in program}")


# %% [markdown]
# The product with $1 - |x|^2$ is fine, since that is one number, which can be computed first. The wide skip connection
# keeps $x$ alive to the end. And 16 directions are fewer than the width: nothing to gain.
#
# ## 8 · Mixed partial derivatives
#
# Jets give derivatives along lines. Along the diagonals, $D^2 f[(1, \pm 1)] = f_{xx} \pm 2 f_{xy} + f_{yy}$, so two
# second derivatives make a mixed one: $f_{xy} = \frac14 \big(D^2 f[(1, 1)] - D^2 f[(1, -1)]\big)$. The same works for
# every multi-index $i$ of order $k$: $\partial^i f$ is a weighted sum of $D^k f$ along the directions $i - 2j$,
# $0 \le j \le i$, one of each pair of opposites (*polarisation*; Kan, From moments of sum to moments of product, 2008,
# proposition 2).

# %%
def two(lib, x, y):
    return lib.sin(x) * lib.exp(x * y)


def f(z):
    return two(jnp, z[0], z[1])


z, tensors = jnp.array([0.3, -0.8]), (torch.tensor(0.3), torch.tensor(-0.8))
in_torch = func.grad(func.grad(lambda x, y: two(torch, x, y), 0), 1)
diagonal, other = (taylor.derivatives(f, z, jnp.array(v), order=2)[2] for v in ([1.0, 1.0], [1.0, -1.0]))
same("f_xy, two diagonals and torch.func", (diagonal - other) / 4, in_torch(*tensors).item())

steps, weights = taylor.interpolation((2, 1))
for step, weight in zip(steps, weights, strict=True):
    print(f"f_xxy: direction {step}, weight {weight:+.6f}")
mixed = sum(w * taylor.derivatives(f, z, step, order=3)[3] for step, w in zip(steps, weights, strict=True))
same("f_xxy, three lines and torch.func", mixed, func.grad(in_torch, 0)(*tensors).item())


# %% [markdown]
# It has a weakness. Let $y$ be measured in other units than $x$, so that $f_y$ is 30 times as large. Then the terms
# with many $y$ in them are huge, and have to cancel. What does $f_{xxxy}$ have left in float32?

# %% tags=["nbval-ignore-output"] volatile="rounding in float32"
def tilted(x):
    return jnp.tanh(x @ jnp.asarray(slopes, x.dtype)).sum()


def one_axis_after_the_other(x):  # a jet of order 3 along x, and a tangent of all of it along y
    along_x = lambda x: taylor.derivatives(tilted, x, jnp.array([1.0, 0.0], x.dtype), order=3)[3]  # noqa: E731
    return jax.jvp(along_x, (x,), (jnp.array([0.0, 1.0], x.dtype),))[1]


slopes = rng.normal(size=(2, 8)) * np.array([[1.0], [30.0]])
somewhere = jnp.asarray(rng.normal(size=(50, 2)) / np.array([1, 30]))
lines_, weights = taylor.interpolation((3, 1))
ways = {
    "lines": lambda x: taylor.weighted(tilted, x, lines_, weights, order=4),
    "axes": one_axis_after_the_other,
    "taylor.partial_derivative": lambda x: taylor.partial_derivative(tilted, x, (3, 1)),
}
exact = jax.jit(jax.vmap(ways["axes"]))(somewhere)
for name, way in ways.items():
    off = abs(jax.jit(jax.vmap(way))(somewhere.astype(jnp.float32)) - exact).max() / abs(exact).max()
    print(f"{name:26}relative error in float32 {off:.0e}")
    assert (1e-5 < off < 1e-2) if name == "lines" else off < 1e-5


# %% [markdown]
# Along lines some two digits are lost. So `taylor.partial_derivative` takes one axis after the other: a jet along the
# first, of whose program it takes a jet along the second. Nothing cancels, and $(3 + 1)(1 + 1)$ coefficients are fewer
# than four jets of order 4. Products of operators come the same way: `taylor.biharmonic`, for $\Delta\Delta f$, is the
# Laplacian of the Laplacian (20).
#
# ## 9 · Transformations around it
#
# Propagating a jet is ordinary JAX. So `vmap` over points, `grad` by the weights and `jit` around it all work.
# This is how a network is trained on a differential equation: the gradient of a loss made of Laplacians.

# %%
def loss(params, X):
    laplacians = jax.vmap(lambda x: taylor.laplacian(lambda z: mlp(params, z), x))(X)
    return (laplacians**2).mean()


value, grads = jax.jit(jax.value_and_grad(loss))(params, X[:4])
loss_torch = (nested_autograd(X_torch[:4], create_graph=True) ** 2).mean()
net.zero_grad()
loss_torch.backward()
same("loss, JAX and PyTorch", value, loss_torch.item())
same("gradient", grads[:-1], [(m.weight.grad.numpy().T, m.bias.grad.numpy()) for m in net[:-1:2]])
same("gradient by the last weights", grads[-1][0], net[-1].weight.grad.numpy().T)


# %% [markdown]
# ## 10 · What it costs, and when not to use it
#
# One direction, order $k$, a small network with `tanh`, or `erf`: the equations of nested `jvp`, `jet` and
# `course.taylor`. Then times: the sixth derivative along one line; and a Laplacian, with its gradient by the weights,
# through a loop, a recurrence of 24 steps.

# %%
def nested_jvp(f, x, v, order):
    for _ in range(order):
        f = lambda x, g=f: jax.jvp(g, (x,), (v,))[1]  # noqa: E731
    return f(x)

def by_jet(f, x, v, order):
    return jet.jet(f, (x,), ((v, *[jnp.zeros_like(v)] * (order - 1)),))[1][-1]

def by_erf(x):  # the same network with another elementwise function
    for _ in range(3):
        x = jax.scipy.special.erf(x @ mix)
    return x @ mix[0]

def equations(m, f, k):
    return len(jax.make_jaxpr(lambda x, v: m(f, x, v, k))(at, along).eqns)

methods = {"nested jvp": nested_jvp, "jet": by_jet, "course.taylor": lambda *a: taylor.derivatives(*a)[-1]}
at, along, orders = jnp.ones(64) / 8, mix[0], (2, 4, 6)
rows = {("tanh", n): [equations(m, plain, k) for k in orders] for n, m in methods.items()}
rows |= {("erf", n): [equations(m, by_erf, k) for k in orders] for n, m in methods.items()}
counts = pd.DataFrame(rows, index=pd.Index(orders, name="equations at order"))
assert (counts["tanh"].idxmin(axis=1).iloc[1:] == "course.taylor").all()
assert counts["erf", "course.taylor"].iloc[-1] > 2 * counts["erf", "jet"].iloc[-1]
counts

# %% tags=["nbval-ignore-output"] volatile="seconds"
rows = {}
high = {n: jax.jit(lambda x, v, m=m: m(plain, x, v, orders[-1])) for n, m in methods.items()}
for name, run in high.items():
    first = timing.seconds(run, at, along)  # tracing and compiling
    rows[name] = {"first call, s": first, "then, µs": 1e6 * timing.measure(run, at, along, repeats=51).steady_s}
results = [run(at, along) for run in high.values()]
same(f"order {orders[-1]}, jet and course.taylor, both against nested jvp", results[1:], results[:1] * 2, 1e-9)


def recurrent(weights, x):
    step = lambda h, _: (jnp.tanh(h @ weights + x), None)  # noqa: E731
    return lax.scan(step, jnp.zeros_like(x), None, length=24)[0].sum()


loops = {"taylor.laplacian": taylor.laplacian, "jax.hessian": lambda f, x: jnp.trace(jax.hessian(f)(x))}
for name, way in loops.items():
    run = jax.jit(jax.grad(lambda w, x, way=way: way(lambda x: recurrent(w, x), x)))
    print(f"through a scan, {name}: {1e3 * timing.measure(run, mix / 4, at, repeats=7).steady_s:.1f} ms")
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# In equations, `nested jvp` nearly triples with every order. `jet` grows slowly: its rule for `tanh` is a recurrence
# as in section 1. So does `course.taylor`, and it is the shorter from order 4 on: every derivative of `tanh` is a
# polynomial in $\tanh$ and $1 - \tanh^2$, so one `tanh` gives them all. It knows such formulas for `tanh`, the logistic
# function, `exp`, `sin`, `cos` and integer powers. Other elementwise functions it differentiates by nesting `jvp` for
# that one function, and there, as with `erf`, it has the cliff again.
#
# For one direction nested `jvp` still runs as fast as the others at this order or faster, since XLA finds
# equal subexpressions and merges them, and its first call takes about as long as that of `jet`. What grows is
# what has to be traced and compiled: at order 7 of lesson 16 that was much more than for `jet`.
#
# | you want | take | why not (more) Taylor mode |
# |---|---|---|
# | a first derivative | `grad`, or `jvp` along one direction | nothing to save |
# | one direction, low order | nested `jvp`, three lines | XLA merges what it repeats |
# | one direction, high order | `course.taylor` | `erf`, quotients, roots: the cliff again; `jet` has rules for them |
# | a mixed partial derivative | `taylor.partial_derivative` | by lines it cancels; many axes nest as deep as `jvp` |
# | the whole Hessian | `jax.hessian` | jets are for few directions, or for a sum |
# | a Laplacian through `scan`, `while` or `cond` | measure: above, `jax.hessian` | loops are not collapsed inside |
# | any other Laplacian | `taylor.laplacian` | wide skip connections stop compression |
#
# (For wide skips over sparse first derivatives, as in wave functions of many electrons,
# [folx](https://github.com/microsoft/folx) uses the sparsity.)
#
# ## Summary
#
# - A jet is a truncated Taylor series that travels through the program once. Derivatives are $k!$ times
#   coefficients.
# - Every operation is linear in the highest coefficient, so a sum over directions can be carried as one:
#   collapsing. For a sum of *second* derivatives, first-order coefficients matter only through their Gram
#   matrix, so a narrow layer makes the dimension drop out.
# - An interpreter over the jaxpr does this for any operation with nested `jvp`, custom rules included; mixed
#   partials are jets of jets.
#
# ## Further reading
#
# - [Collapsing Taylor mode](https://arxiv.org/abs/2505.13644): Dangel et al. (NeurIPS 2025); the sum over directions
#   carried as one, for any linear operator, with and without random directions.
# - [Forward Laplacian](https://arxiv.org/abs/2307.08214): Li et al. (2024); the special case of order 2, and what it
#   did for wave functions.
# - [Evaluating Derivatives](https://doi.org/10.1137/1.9780898717761): Griewank and Walther (2008); chapter 13 has the
#   recurrences for all elementary functions.
# - [jax.experimental.jet](https://docs.jax.dev/en/latest/jax.experimental.jet.html): its conventions, and the notes
#   behind it.
#
# Next: [18 · STDE](18_stde.ipynb): when even a sum over all directions is too much, draw some at random.
