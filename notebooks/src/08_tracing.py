# %% [markdown]
# # 08 · What jit sees
#
# **What does `jit` do to a Python function, and why must that function be pure?** (50 minutes)

# %% [markdown]
# After this lesson you can
#
# - read a tracer, a jaxpr and the name of each station on the way to a compiled program,
# - say which of your Python runs once, and what of it is frozen into the program,
# - recognise the classic failures under `jit` by the words of their message, and mend each,
# - say what `torch.compile` does with the same code, and why it answers differently.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import torch
from jax import lax

from course import plots, timing, torch_compile
from course.failures import fails

# %%
SEED = 0
torch.set_num_threads(1)
jax.config.update("jax_pprint_use_color", False)  # plain text, wherever you read this
plots.use()


# %% [markdown]
# ## The idea
#
# Frostig, Johnson and Leary, who built JAX, start from an observation: most of the work of a machine learning program
# happens in pieces that are pure and put together before the data are known. So call such a piece once with stand-ins
# for its arrays, write down what it does, compile that, and let ordinary Python call the compiled piece.
#
# The stand-ins are called *tracers*. Print one:

# %%
def f(x):
    print("Python runs f with", x)
    return jnp.tanh(x) * 2 + x


jit_f = jax.jit(f)
first, second = jit_f(1.0), jit_f(2.0)
print(f"two calls, two results: {first:.3f} {second:.3f}")

# %% [markdown]
# Python ran `f` once, and both calls gave their own result. A tracer has a shape and a dtype, here `float32[]`, and
# no value.
#
# The `~` says *weakly typed*: the argument was a Python number. Python's `1.0` has no precision of its own, so it
# takes that of the array that it meets. PyTorch has such a rule too, and draws the line elsewhere.
#
# **Predict.** A bfloat16 vector is multiplied by `2.0`, and by a float32 *scalar array*. Which dtypes come out, in
# PyTorch and in JAX? And does `f` run again for `jnp.float32(1.0)`?

# %%
half_torch, half = torch.ones(3, dtype=torch.bfloat16), jnp.ones(3, jnp.bfloat16)
print("bfloat16 * 2.0:          torch", (half_torch * 2.0).dtype, " jax", (half * 2.0).dtype)
by_scalar = half_torch * torch.tensor(2.0), half * jnp.float32(2.0)
print("bfloat16 * scalar array: torch", by_scalar[0].dtype, " jax", by_scalar[1].dtype)
third = jit_f(jnp.float32(1.0))


# %% [markdown]
# In PyTorch a tensor without dimensions does not raise the precision of one that has some. In JAX a NumPy or JAX
# scalar is an array that happens to have no dimensions: it counts like any other, and only Python numbers give way.
# One stray `np.float32(…)` therefore turns a bfloat16 model into a float32 model from there on, without a word.
#
# And `f` did run again: `float32[]` and `~float32[]` are two types, hence two programs.
#
# What `f` did to its tracer is recorded as a *jaxpr*. `torch.compile` records a graph too. It does not call your
# function with stand-ins; it reads the function's bytecode. Its backend is a function that receives the graph: `keep`
# stores it and runs it as it is.

# %%
def f(x):
    return jnp.tanh(x) * 2 + x


def f_torch(x):
    return torch.tanh(x) * 2 + x


graphs = []


def keep(graph, example_inputs):
    graphs.append(graph)
    return graph.forward


torch.compile(f_torch, backend=keep)(torch.tensor(1.0))
print(graphs[0].code.strip(), end="\n\n")
print(jax.make_jaxpr(f)(1.0))

# %% [markdown]
# The jaxpr, line by line: a function of one input `a`, a float32 scalar. `tanh` of it is `b`. `b` times the constant
# 2.0 is `c`. `c` plus `a` is `d`. The result is `d`. No Python is left: no names, no `*`, no loop or class that made
# it.
#
# From there the way is fixed, and it is walked once for each *key*. The key holds what the recording depended on, as
# far as JAX can see it: the function, the shapes and dtypes of its arguments, and a few things more.

# %% alt="A diagram in two rows. Above, the first call: the Python function f is called with tracers, which gives a jaxpr; lowering gives StableHLO; XLA compiles that to a program. Below, every call: the arguments give a key of shapes, dtypes, weak types, tree structure and static values; the key is looked up in a cache; on a hit the program runs, on a miss the upper row is walked first and its program stored."
diagram = plots.Diagram(height=3.0)
f_box = diagram.function(0.85, 2.3, "Python function\nf", side="jax", width=1.3, height=0.6)
jaxpr = diagram.array(3.0, 2.3, "jaxpr\ntanh, mul, add", side="jax", width=1.3, height=0.6)
hlo = diagram.array(4.95, 2.3, "StableHLO", side="jax", width=1.1, height=0.6)
program = diagram.function(7.1, 2.3, "XLA program\none fused loop", side="jax", width=1.4, height=0.6)
diagram.arrow(f_box, jaxpr, "call it with\ntracers", side="jax", offset=0.2)
diagram.arrow(jaxpr, hlo, "lower", side="jax")
diagram.arrow(hlo, program, "compile", side="jax")
arguments = diagram.array(0.85, 0.75, "arguments\n(1000,) float32", width=1.3, height=0.6)
key = diagram.array(3.5, 0.75, "key: shapes, dtypes, ~,\ntree, static values", width=1.9, height=0.6)
cache = diagram.array(7.1, 0.75, "cache\nkey → program", width=1.4, height=0.6)
diagram.arrow(arguments, key)
diagram.arrow(key, cache, "look it up")
diagram.arrow(key, f_box, dashed=True)
diagram.note(2.4, 1.55, "not found: trace f", align="left")
diagram.arrow(program, cache, "store")
diagram.note(0.1, 2.85, "once for each key: milliseconds to minutes", align="left", side="jax")
diagram.note(0.1, 0.2, "every call: microseconds; once found, the program runs and f does not", align="left")
plt.show()
traced = jax.jit(f).trace(jnp.ones(1000))
print("recorded:", *[equation.primitive.name for equation in traced.jaxpr.eqns])

# %% [markdown]
# `trace`, `lower` and `compile` are methods that you may call yourself. StableHLO is the compiler's input, one line
# an operation. What comes out is machine code; its text shows how operations were *fused*.

# %%
lowered = traced.lower()
print(lowered.as_text())
compiled = lowered.compile()
print("operations:", len(traced.jaxpr.eqns), " fused loops:", compiled.as_text().count(" fusion("))

# %% [markdown]
# Three operations became one loop: each element is read once, and each result written once. Run one at a time, they
# would walk over memory three times.
#
# ## 1 · Side effects and globals
#
# Tracing sees what happens to arrays. A function may do more: append to a list, or read what it *finds* instead of
# being handed (a global, a closed-over model, `self.scale`, a file, the clock).
#
# **Predict.** `scale` is 2 at the first call and 10 at the second. What do both frameworks return, and how often was
# `"called"` appended?

# %% tags=["trap:frozen-global"]
scale, calls = 2.0, []


def scaled(x):
    calls.append("called")
    return scale * x


for name, compiled_scaled, one in (
    ("torch.compile", torch.compile(scaled, backend=keep), torch.tensor(1.0)),
    ("jax.jit      ", jax.jit(scaled), jnp.array(1.0)),
):
    calls.clear()
    scale = 2.0
    before = compiled_scaled(one)
    scale = 10.0
    after = compiled_scaled(one)
    print(name, "before:", before.item(), " after:", after.item(), " calls recorded:", len(calls))


# %% [markdown]
# JAX gave a stale answer without an error. Python appended once, while tracing; and the value of the global was
# frozen into the program, for a global is no part of the key. A jitted function that closes over a model has frozen
# its weights in the same way, and training has no effect on it.
#
# `torch.compile` notes which globals it read and checks them at each call: a *guard*. The guard failed, so it
# compiled again; and it replays the `append` at every call.
#
# The mend: what may change is an argument, what has happened is a result.

# %%
@jax.jit
def scaled_purely(scale, calls, x):
    return scale * x, calls + 1


result, count = scaled_purely(2.0, 0, 1.0)
result, count = scaled_purely(10.0, count, 1.0)
print("after:", result, " calls recorded:", count)

# %% [markdown]
# Random numbers are the case that hurts.
#
# **Predict.** Each function is called twice. Which ones give new noise the second time?

# %%
rng, keys = np.random.default_rng(SEED), jax.random.split(jax.random.key(SEED))
torch.manual_seed(SEED)
noises = {
    "torch.compile, torch.randn": torch.compile(lambda key: torch.randn(()), backend=keep),
    "jit, NumPy's generator": jax.jit(lambda key: rng.normal()),
    "jit, a key made inside": jax.jit(lambda key: jax.random.normal(jax.random.key(SEED))),
    "jit, a key handed in": jax.jit(lambda key: jax.random.normal(key)),
}
for name, noise in noises.items():
    first, second = float(noise(keys[0])), float(noise(keys[1]))
    print(f"{name:27} {first:6.3f} {second:6.3f}   {'new' if first != second else 'the same again'}")


# %% [markdown]
# NumPy's generator is Python: it drew once, while tracing. A key that is made inside is a constant, and so is what is
# drawn from it. A network with noise or dropout of these two kinds trains, on one fixed noise. The key must come in
# as an argument, another one for each step: `jax.random.fold_in(key, step)`. (In PyTorch's graph `randn` is an
# operation that advances the generator.)
#
# ## 2 · In place, views, donation
#
# The first error of most newcomers. It has nothing to do with `jit`, it comes without it too: arrays do not change.

# %%
def set_first(x):
    x[0] = 9.0
    return x


print("torch:", set_first(torch.zeros(3)))
with fails(TypeError):
    jax.jit(set_first)(jnp.zeros(3))
print("jax:  ", jax.jit(lambda x: x.at[0].set(9.0))(jnp.zeros(3)))

# %% [markdown]
# The message holds the mend: `.at[]` returns the changed array (also `.add`, `.multiply`, `.max`). Outside `jit` that
# copies the whole array. Inside, XLA writes in place wherever nobody needs the old value any more; only an argument,
# which the caller may still hold, is copied once.
#
# PyTorch code writes through views as well.
#
# **Predict.** `row = w[0]`, then `row += 1`. What is `w` now, in both? And may NumPy write into a JAX array?

# %% tags=["trap:write-through-num-py"]
for name, w in (("torch", torch.zeros(2, 2)), ("jax  ", jnp.zeros((2, 2)))):
    row = w[0]
    row += 1
    print(name, "w:", w.tolist(), " row:", row.tolist())

w_torch, w = torch.zeros(3), jnp.zeros(3)
w_torch.numpy()[0] = 9.0
print("written through NumPy's view, torch:", w_torch.tolist())
with fails(ValueError):
    np.asarray(w)[0] = 9.0

# %% [markdown]
# In JAX a slice is an array of its own. `row += 1` is no error: for an array, Python reads it as `row = row + 1`, and
# the name `row` moves on to a new array. Code that relied on the view loses its update silently. Write
# `w = w.at[0].add(1)`. NumPy's view of a JAX array is read-only, as the message says; `np.array(w)` makes a copy that
# you own.
#
# The one copy that `.at[]` makes of an argument goes as well if you *donate* it: the result takes over its memory.

# %% tags=["trap:donation"]
old = jnp.zeros(1000)
plain = jax.jit(lambda x: x.at[0].set(9.0))
donating = jax.jit(lambda x: x.at[0].set(9.0), donate_argnums=0)
for name, function in (("plain", plain), ("donating", donating)):
    memory = function.lower(old).compile().memory_analysis()
    print(f"{name:9} result: {memory.output_size_in_bytes} bytes, shared with x: {memory.alias_size_in_bytes}")
new = donating(old)
with fails(RuntimeError, ValueError):
    old + 1


# %% [markdown]
# "Has been deleted": the array was donated, and someone still used it; the message does not say by which call. Donate
# parameters and optimizer state of a training step, `params = step(params, …)`, and its peak memory falls by one copy
# of both.
#
# ## 3 · A Python `if`
#
# `if x.sum() > 0` needs a yes or no.

# %% tags=["trap:if-on-data"]
def branch(x):
    if x.sum() > 0:
        return x + 1
    return x - 1


with fails(jax.errors.TracerBoolConversionError):
    jax.jit(branch)(jnp.ones(3))

# %% [markdown]
# How to read it: "attempted boolean conversion" is the `if` (or `while`, `and`, `assert`). "Depends on the value of
# the argument x" tells which argument brought the tracer. There are three mends:
#
# - The choice depends on data: `lax.cond` puts both branches into the program and runs one.
# - It is made for each element: `jnp.where` computes both and selects.
# - It is a setting and no data: name it in `static_argnames`, and each value gets a program of its own.

# %%
choose = jax.jit(lambda x: lax.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, x))
each = jax.jit(lambda x: jnp.where(x > 0, x + 1, x - 1))


@partial(jax.jit, static_argnames="up")
def shift(x, up):
    return x + 1 if up else x - 1


x = jnp.array([3.0, -1.0])
print("cond:  ", choose(x), choose(-x))
print("where: ", each(x), each(-x))
print("static:", shift(x, up=True), shift(x, up=False))

# %% [markdown]
# (Under `vmap`, which is explained in 09, a `cond` on mapped data becomes a `where`: both branches run.)
#
# What does `torch.compile` do at this `if`?
#
# **Predict.** An error, as in JAX, or an answer? And how many graphs?

# %%
torch.compiler.reset()
graphs.clear()
print(torch.compile(branch, backend=keep)(torch.ones(3)), "from", len(graphs), "graphs")
torch.compiler.reset()
with fails(RuntimeError, lines=5):
    torch.compile(branch, backend=keep, fullgraph=True)(torch.ones(3))


# %% [markdown]
# A *graph break*: PyTorch compiled what comes before the `if` and the branch that it took, and ran the `if` in Python
# between the two. You get an answer and a slower program, and have to look to notice. With `fullgraph=True` PyTorch
# is as strict as JAX, and its message names the same cause: "data-dependent branching".
#
# The same happens whenever Python asks a tracer for its value. A loop asks for a count:

# %% tags=["trap:data-count"]
def squared(x, n):  # n times in a row
    for _ in range(n):
        x = x * x
    return x


def squared_in_loop(x, n):
    return lax.fori_loop(0, n, lambda i, x: x * x, x)


with fails(jax.errors.TracerIntegerConversionError, lines=4):
    jax.jit(squared)(3.0, 2)
print("n static:", jax.jit(squared, static_argnames="n")(3.0, n=2), " fori_loop:", jax.jit(squared_in_loop)(3.0, 2))
with fails(ValueError):
    jax.jit(jax.grad(squared_in_loop))(3.0, 2)
print("n static, gradient:", jax.jit(jax.grad(squared_in_loop), static_argnums=1)(3.0, 2))

# %% [markdown]
# `range(n)` called `__index__()` on a value that "depends on the value of the argument n". `lax.fori_loop` takes a
# traced count, at a price that the second message names: such a loop has no backward pass ("reverse mode"), since
# nobody knows how many values to keep for it. With a static count it has one, and each count is a program of its own.
# (Known counts, unrolling and `lax.scan` are the subject of 08b.)
#
# Two more ways to ask: for a number, and for a shape.

# %% tags=["trap:item"]
x = jnp.array([3.0, -1.0])
with fails(jax.errors.ConcretizationTypeError, lines=5):
    jax.jit(lambda x: x / x.sum().item())(x)
with fails(jax.errors.NonConcreteBooleanIndexError):
    jax.jit(lambda x: x[x > 0].sum())(x)
print("mended:", jax.jit(lambda x: x / x.sum())(x), jax.jit(lambda x: x.sum(where=x > 0))(x))

# %% [markdown]
# "Concrete" in both messages means: with a value. `.item()`, `float()` and NumPy's functions want one: stay in `jnp`,
# where the sum of an array is an array. `x[x > 0]` has as many elements as the data say, and a program's shapes are
# fixed: keep the shape, and mask with `where=` or `jnp.where`.
#
# ## What it buys
#
# `f` again, on a million numbers; first call and steady state apart. torch runs on one thread here, XLA takes the
# cores it finds: compare within a framework. In its first call each compiler shows its price, in the later ones what
# one fused loop saves.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
numbers = np.random.default_rng(SEED).normal(size=1_000_000).astype(np.float32)
on_torch, on_jax = torch.from_numpy(numbers), jnp.asarray(numbers)
contestants = {
    "torch eager": (f_torch, on_torch),
    "torch.compile": (torch.compile(f_torch, backend=torch_compile.backend()), on_torch),
    "jax un-jitted": (f, on_jax),
    "jax.jit": (jax.jit(f), on_jax),
}
for name, (function, argument) in contestants.items():
    t = timing.measure(function, argument)
    print(f"{name:14} first call {1e3 * t.first_s:8.1f} ms, then {1e3 * t.steady_s:6.2f} ms")
results = [np.asarray(function(argument)) for function, argument in contestants.values()]
assert all(np.allclose(result, results[0], rtol=0, atol=1e-5) for result in results)
print("first results:", *[f"{result[0]:.5f}" for result in results])

# %% [markdown]
# ## Summary
#
# - `jit` calls your function with tracers and keeps what happens to arrays. Everything else happens once, and what
#   the function finds instead of being handed is frozen, random numbers included.
# - A program is looked up by shapes, dtypes, weak types, structure and static values; never by the globals that it
#   read.
# - Arrays do not change: `.at[]` returns a new one, slices are no views, and donation reuses memory.
# - Tracers have no values: `if`, counts and shapes that depend on data need `lax.cond`, `lax.fori_loop`, a mask or a
#   static argument.
# - JAX refuses loudly what it can't trace and freezes silently what it can't see. `torch.compile` guards, recompiles
#   and breaks graphs instead: it runs more code as it is, and hides more.
#
# ## Further reading
#
# - [Compiling machine learning programs via high-level tracing](https://research.google/pubs/pub47008): the paper of
#   2018.
# - [Type promotion semantics](https://docs.jax.dev/en/latest/type_promotion.html): the whole table, and weak types.
# - [Key concepts](https://docs.jax.dev/en/latest/key-concepts.html): tracers, jaxprs and pytrees in JAX's own words.
# - [Errors](https://docs.jax.dev/en/latest/errors.html): each tracer error with examples and remedies.
# - [Core concepts](https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/core_concepts.html): graphs, guards
#   and breaks of `torch.compile`.
#
# Exercises: [your turn](exercises/08_tracing.ipynb).
#
# Next: [08b · What compiling costs](08b_compiling.ipynb).
