# %% [markdown]
# # 17 · Taylor mode
#
# **How do you get high derivatives in one forward pass?** (60 minutes)

# %% [markdown]
# After this lesson you can
#
# - push a whole Taylor series through a function, by hand, with `jax.experimental.jet` and with `course.taylor`,
# - write an interpreter that does it to second order, for any operation on real numbers that JAX can differentiate
#   forwards, in 25 lines,
# - say what collapsing is, how much it saves, and what a loop carries when a jet goes through it.

# %%
import inspect
import math
from collections import Counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jax import lax
from jax.experimental import jet
from torch import func

from course import plots, taylor
from course.failures import fails
from course.taylor import rules, series
from course.taylor.programs import Constant, is_real, trace

# %%
SEED = 0
jax.config.update("jax_enable_x64", True)  # float64: formulas that agree do so to 1e-10 and better
torch.set_default_dtype(torch.float64)
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
# Each operation maps coefficients to coefficients. The rules follow from an equation between series. A quotient solves
# $q\,v = u$; compare the coefficients of $t^k$, get $\sum_{j=0}^k q_{k-j}\,v_j = u_k$, and solve for $q_k$, the only
# one that is new. For $e = \exp(u)$ the equation is a differential one, $e' = e\,u'$; the coefficients of $t^{k-1}$
# give $k\,e_k = \sum_{j=1}^k j\,u_j\,e_{k-j}$. Sine and cosine go together.

# %%
def quotient_series(u, v):
    q = []
    for k in range(len(u)):
        q.append((u[k] - sum(q[k - j] * v[j] for j in range(1, k + 1))) / v[0])
    return q


x0, K = 0.3, 5
line = [x0, 1.0] + [0.0] * (K - 1)  # x0 + t
quotient = quotient_series(line, [1 + x0**2, 2 * x0, 1.0] + [0.0] * (K - 2))
print("Taylor coefficients of x / (1 + x²):", np.round(quotient, 6))


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


sine = sin_series(exp_series(line))
print("Taylor coefficients of sin(exp(x)):", np.round(sine, 6))


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


by_hand = [[math.factorial(k) * c for k, c in enumerate(coefficients)] for coefficients in (sine, quotient)]
same("x / (1 + x²), by hand and nested grad", by_hand[1], nested_grad(lambda x: x / (1 + x * x), x0, K))
nested = nested_grad(lambda x: jnp.sin(jnp.exp(x)), x0, K)
value, by_jet = jet.jet(lambda x: jnp.sin(jnp.exp(x)), (x0,), ((1.0, 0.0, 0.0, 0.0, 0.0),))
leaf = torch.tensor(x0, requires_grad=True)
in_torch = [torch.sin(torch.exp(leaf))]
for _ in range(K):
    in_torch += torch.autograd.grad(in_torch[-1], leaf, create_graph=True)

ways = {"by hand": by_hand[0], "jet": [value, *by_jet]}
ways |= {"nested jax.grad": nested, "nested autograd.grad": [each.item() for each in in_torch]}
ways = pd.DataFrame({name: np.array(values) for name, values in ways.items()})
assert np.ptp(ways, axis=1).max() < 1e-10
print("gaps below 1e-10")
ways.round(6).rename_axis("order")


# %% [markdown]
# ## 2 · Faà di Bruno's formula
#
# Each rule above is for one function. For a composition $f(g(t))$ in general, the $k$-th derivative is a sum over
# all ways to split a set of $k$ things into blocks: one factor $g^{(|B|)}$ per block $B$, times
# $f^{(\text{number of blocks})}$. In the output below, `f2` is $f''$ and `g3` is $g^{(3)}$. (The derivatives of the
# sine come from `taylor.derivatives`, the course's own Taylor mode: section 3 says what it takes.)

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
print("splits of 8 things:", len(list(partitions(range(8)))), "  products in a recurrence for coefficient 8: 8")

# %% [markdown]
# The table says how many splits there are of $k$ things (the row) into how many blocks (the column). Their sums, the
# Bell numbers, explode, while the recurrences of section 1 take $k$ products for coefficient $k$: those are for
# computing. The formula is for seeing one thing, the marked column: the highest derivative of the inside, $g^{(k)}$,
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
# speaks of a leak, and the leak is not yours: `relu` is a `custom_jvp` function (09), `softplus` is made of one,
# `logaddexp(x, 0)`. `jet` has no rule for those, tries to run the body instead, and its tracers get into another
# trace.
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
# `softplus` stayed one equation, the `custom_jvp_call` of its `logaddexp`: the rule survives.
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
# hold one derivative for each direction, or *line*, and `x[K]` holds only the sum over the lines of the $K$-th (section
# 5 says why). `None` stands for zero. The rule `anything` is the nested `jvp` above, to order 2; for higher ones it
# sends jets through JAX's first derivative of the operation. The other rules only save time, one for each *class* of
# operations. What is linear maps each derivative as it maps the value. Above order 2, elementwise functions go by
# recurrences such as those of section 1, in derivatives instead of coefficients, so with binomials. The quotient's, and
# the rule for products:

# %%
print(inspect.getsource(series.quotient))
print(inspect.getsource(rules.product))


# %% [markdown]
# `leibniz(k, …)` has terms of the $k$-th derivative of a product, here those with known derivatives of $q$, and
# `divided`, `add` and `times` let zeros be `None`. `over_lines` is `vmap` over the axis of lines, if there is one. In
# the last two statements of `product` the top order stands apart: terms between are summed over the lines, the two
# outer ones are sums already. (For a few orders, `tanh` and other bounded functions go by Faà di Bruno all the same:
# there the sum can be taken before their derivatives are multiplied in.)
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
# ## 6 · A jet through a loop
#
# The 25 lines take a loop as one operation and differentiate it whole, by nesting, so its body grows as in lesson 16.
# But the body is a program, too. `course.taylor` pushes jets through it *once*, and the new loop carries a jet where
# the old one carried a value. Below, a recurrence of 24 steps; `carries` prints what its `scan` hands from step to
# step. PyTorch has no such loop: its forward modes see 24 copies of the body.

# %%
def recurrent(x, lib=jnp, weights=mix / 4):
    hidden = lib.zeros_like(x)
    if lib is torch:
        for _ in range(24):
            hidden = torch.tanh(hidden @ weights + x)
        return hidden.sum()
    return lax.scan(lambda h, _: (jnp.tanh(h @ weights + x), None), hidden, length=24)[0].sum()


def loop_of(run):
    (loop,) = [equation for equation in jax.make_jaxpr(run)(at).eqns if equation.primitive.name == "scan"]
    return loop


def carries(what, run):
    print(f"{what}:", ", ".join(f"({', '.join(map(str, o.aval.shape))})" for o in loop_of(run).outvars))


direction = mix[0]
carries("f", recurrent)
carries("order 4 along a line", lambda x: taylor.derivatives(recurrent, x, direction, order=4))
carries("Laplacian, 64 directions", lambda x: taylor.laplacian(recurrent, x))


# %% [markdown]
# The value stands first, then a derivative of each lower order for each line, then the one sum over the lines: a jet as
# in section 4. Each derivative has one place for all steps. What is zero before the first step (here all of them, for
# $h = 0$) but not after it is carried as an array of zeros; `course/taylor/loops.py` finds out which those are by
# trying. `while_loop` and `cond` go the same way: a condition sees values only.
#
# And how long does the body get? Beside it nested `jvp` of the same loop, and a check in PyTorch.

# %%
def nested_jvp(f, x, v, order, jvp=jax.jvp):
    for _ in range(order):
        f = lambda x, g=f: jvp(g, (x,), (v,))[1]  # noqa: E731
    return f(x)


def body_length(run):
    return len(loop_of(run).params["jaxpr"].eqns)


ours = jax.jit(lambda x: taylor.derivatives(recurrent, x, direction, order=3))(at)
in_torch = [torch.from_numpy(np.array(each)) for each in (at, direction, mix / 4)]
third = nested_jvp(lambda x: recurrent(x, torch, in_torch[2]), *in_torch[:2], 3, func.jvp)
same("third derivative through the loop, course.taylor and torch.func", ours[3], third.item())
sizes = {order: (body_length(lambda x, k=order: nested_jvp(recurrent, x, direction, k)),
                 body_length(lambda x, k=order: taylor.derivatives(recurrent, x, direction, k)))
         for order in (2, 4, 8)}  # fmt: skip
print("equations in the body of f:", body_length(recurrent))
assert sizes[8][0] > 20 * sizes[8][1]
pd.DataFrame(sizes, index=["nested jvp", "course.taylor"]).T.rename_axis("in the body, order")

# %% [markdown]
# Nesting multiplies the body with each order; the jet's grows about as the square, and XLA compiles one body, not 24.
#
# ## Summary
#
# - A jet is a truncated Taylor series that travels through the program once. Derivatives are $k!$ times
#   coefficients.
# - Every operation is linear in the highest coefficient, so a sum over directions can be carried as one: collapsing. It
#   halves what a second-order jet holds.
# - An interpreter over the jaxpr does this for any operation with nested `jvp`, custom rules included. Recurrences for
#   elementwise functions, and loops that carry jets, keep its programs short at high order.
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
# Exercises: [your turn](exercises/17_taylor_mode.ipynb).
#
# Next: [17b · Jets at work](17b_jets_at_work.ipynb): Laplacians and mixed derivatives, measured, and when not to use
# jets.
