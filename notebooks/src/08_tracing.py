# %% [markdown]
# # 08 · What jit sees
#
# **What does `jit` do to a Python function, and why must that function be pure?** (35 minutes)

# %% [markdown]
# After this lesson you can
#
# - read a jaxpr, and say what of your Python is left in it,
# - recognise the six classic failures under `jit` by their error, and mend each,
# - say what `torch.compile` does with the same code, and why it answers differently.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from course import timing, torch_compile

# %%
SEED = 0
torch.set_num_threads(1)
jax.config.update("jax_pprint_use_color", False)  # plain text, wherever you read this


# %% [markdown]
# ## The idea
#
# Frostig, Johnson and Leary (*Compiling machine learning programs via high-level tracing*, 2018) start from
# an observation: most of the work of a machine learning program happens in pieces that are pure and put
# together before the data are known. So: call such a piece once with stand-ins for its arrays, write down
# what it does, compile that, and let ordinary Python orchestrate the compiled pieces.
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
# Python ran `f` once. A tracer has a shape and a dtype, `float32[]`, and no value. What `f` did to it was
# recorded, as a *jaxpr*. (This `print` has no place in a pure function; we come back to it.)

# %%
def f(x):
    return jnp.tanh(x) * 2 + x


print(jax.make_jaxpr(f)(1.0))

# %% [markdown]
# Line by line: a function of one input `a`, a float32 scalar. `tanh` of it is `b`. `b` times the constant 2.0
# is `c`. `c` plus `a` is `d`. The result is `d`. No Python is left: no names, no `*`, no loop that made it.
#
# `jit` hands this to the XLA compiler as StableHLO, one line per operation. XLA then *fuses*: the compiled
# program reads each element once and writes the result once.

# %%
lowered = jax.jit(f).lower(jnp.ones(1000))
print(lowered.as_text())
compiled = lowered.compile().as_text()
operations = len(jax.make_jaxpr(f)(1.0).eqns)
print("operations in the jaxpr:", operations, " fused loops in the program:", compiled.count(" fusion("))

# %% [markdown]
# `torch.compile` records a graph too, but not by calling the function with stand-ins: it reads the function's
# bytecode. A backend is a function that receives the graph; this one keeps it and runs it as it is.

# %%
graphs = []


def keep(graph, example_inputs):
    graphs.append(graph)
    return graph.forward


def f_torch(x):
    return torch.tanh(x) * 2 + x


torch.compile(f_torch, backend=keep)(torch.tensor(1.0))
print(graphs[0].code.strip())

# %% [markdown]
# ## 1 · Side effects and globals
#
# Tracing sees what happens to arrays. What else a function does happens once, while tracing, and what it read
# from outside is frozen.

# %% tags=["trap:frozen-global"]
scale, calls = 2.0, []


def scaled(x):
    calls.append("called")
    return scale * x


jit_scaled = jax.jit(scaled)
before = jit_scaled(1.0)
scale = 10.0
after = jit_scaled(1.0)
print("before:", before, " after scale = 10:", after, " calls recorded:", len(calls))

# %% [markdown]
# No error, and the answer is stale. `torch.compile` guards against this: it notes which globals it read,
# checks them at each call, and compiles anew when one changed.

# %%
scale, compiled_scaled = 2.0, torch.compile(lambda x: scale * x, backend=keep)
graphs.clear()
before = compiled_scaled(torch.tensor(1.0)).item()
scale = 10.0
after = compiled_scaled(torch.tensor(1.0)).item()
print("before:", before, " after scale = 10:", after, " graphs compiled:", len(graphs))


# %% [markdown]
# Convenient, and every call pays for the checks. The mend in JAX: what may change is an argument. And to
# print values from inside, use `jax.debug.print`, which becomes part of the program.

# %%
@jax.jit
def scaled(scale, x):
    jax.debug.print("inside, with values: scale={s} x={x}", s=scale, x=x, ordered=True)
    return scale * x


results = scaled(2.0, 1.0), scaled(10.0, 1.0)
jax.effects_barrier()  # printing happens when the program runs: wait for it
print(*results)

# %% [markdown]
# ## 2 · In-place updates
#
# The first error of most newcomers; mended by `.at[]`, which returns the changed array. NumPy, too, may only
# read it. In place is possible for an array that you give away: a donated argument's memory becomes the
# result's, and the argument is gone.

# %% tags=["trap:write-through-num-py"]
try:
    jax.jit(lambda x: x.__setitem__(0, 9.0))(jnp.zeros(3))
except TypeError as error:
    print(type(error).__name__)
print(jax.jit(lambda x: x.at[0].set(9.0))(jnp.zeros(3)))

on_torch, old = torch.zeros(3), jnp.zeros(3)
on_torch.numpy()[0] = 9.0
try:
    np.asarray(old)[0] = 9.0
except ValueError as error:
    print("NumPy's view, torch:", on_torch, " jax:", error)
jax.jit(lambda x: x.at[0].set(9.0), donate_argnums=0)(old)
try:
    old + 1
except (RuntimeError, ValueError) as error:  # which one, depends on the path that the call takes
    print("donated: deleted, the error says:", "deleted" in str(error))


# %% [markdown]
# ## 3 · A Python `if`
#
# `if x.sum() > 0` needs a yes or no; a tracer has no value to give one. `lax.cond` puts both branches into
# the program and chooses while it runs. (`jnp.where` computes both and selects element by element.)

# %% tags=["trap:if-on-data"]
def branch(x):
    if x.sum() > 0:
        return x + 1
    return x - 1


try:
    jax.jit(branch)(jnp.ones(3))
except jax.errors.TracerBoolConversionError as error:
    print(type(error).__name__)


def branch_traced(x):
    return lax.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, x)


print(jax.jit(branch_traced)(jnp.ones(3)), jax.jit(branch_traced)(-jnp.ones(3)))

# %% [markdown]
# `torch.compile` does not fail: it breaks the graph in two, runs the `if` in Python between them, and goes
# on. You get an answer and a slower program, and have to look to notice.

# %%
graphs.clear()
result = torch.compile(lambda x: branch(x), backend=keep)(torch.ones(3))
print(result, "from", len(graphs), "graphs")


# %% [markdown]
# Where the condition is a setting and not data, make it static: a separate program per value, and plain `if`
# works. The second cell has more of what plain Python (torch's side) permits and `jit` refuses: whatever asks a
# tracer for its value, an argument that is no array, a static argument that can't be hashed.

# %%
def shift(x, up):
    return x + 1 if up else x - 1


try:
    jax.jit(shift)(jnp.zeros(2), up=True)
except jax.errors.TracerBoolConversionError as error:
    print("without static_argnames:", type(error).__name__)
jit_shift = jax.jit(shift, static_argnames="up")
print("with it:", jit_shift(jnp.zeros(2), up=True), jit_shift(jnp.zeros(2), up=False))


# %% tags=["trap:data-count"]
class Scale:
    def times(self, x):
        return 2 * x


def checked(x):
    assert (x > 0).all()
    return x


attempts = {
    "assert": lambda jit, x: jit(checked)(x),
    "range(n)": lambda jit, x: jit(lambda x, n: sum(x for _ in range(n)))(x, 2),
    "x.sum().item()": lambda jit, x: jit(lambda x: x / x.sum().item())(x),
    "a method": lambda jit, x: jit(Scale.times)(Scale(), x),
    "static, a list": lambda jit, x: jit(lambda x, dims: x.sum(dims), static_argnums=1)(x, [0]),
}
for what, attempt in attempts.items():
    in_torch = attempt(lambda function, **options: function, torch.ones(2))
    try:
        attempt(jax.jit, jnp.ones(2))
    except (TypeError, ValueError) as error:
        print(f"{what:15} torch: {in_torch.tolist()!s:10}  jit: {type(error).__name__}")


# %% [markdown]
# ## 4 · Loops
#
# A Python loop runs while tracing: it is unrolled, and the program grows with the number of turns.
# `lax.fori_loop` and `lax.scan` put *one* turn into the program. `scan` also collects an output per turn.
# Compile time grows with the program, so a training loop belongs into `scan` (10). `torch.compile` unrolls as
# well. What `scan` carries must keep its shape and dtype; a Python loop may change both on the way.

# %%
def unrolled(x, n):
    for _ in range(n):
        x = jnp.sin(x)
    return x


def looped(x, n):
    return lax.fori_loop(0, n, lambda i, x: jnp.sin(x), x)


def scanned(x, n):
    return lax.scan(lambda x, _: (jnp.sin(x), x), x, length=n)


def size(function, n):
    return str(jax.make_jaxpr(lambda x: function(x, n))(1.0)).count("sin")


for n in (1, 10, 100):
    print(f"{n:3} turns: sin stands {size(unrolled, n):3} times, fori_loop {size(looped, n)}, scan {size(scanned, n)}")
assert np.allclose(unrolled(1.0, 10), looped(1.0, 10)) and np.allclose(scanned(1.0, 10)[0], looped(1.0, 10))


# %% tags=["trap:carry-type"]
def ten_times(x):
    for _ in range(10):
        x = torch.sin(x)
    return x


graphs.clear()
torch.compile(ten_times, backend=keep)(torch.ones(3))
print("torch.compile, 10 turns: sin stands", graphs[0].code.count("torch.sin("), "times")

total = torch.tensor(0)
for value in torch.ones(3):
    total = total + value
try:
    lax.scan(lambda total, value: (total + value, None), jnp.zeros((), jnp.int32), jnp.ones(3))
except TypeError as error:
    print("scan from an int, torch:", total, " jax:", type(error).__name__)

# %% [markdown]
# ## 5 · Shapes, and when `jit` compiles again
#
# One program per combination of shapes, dtypes and static values. A side effect counts the traces for us.

# %% tags=["trap:new-shape"]
traced = []


@jax.jit
def mean(x):
    traced.append(f"{x.dtype}{list(x.shape)}")
    return x.mean()


for size_ in (32, 32, 32, 5, 32, 5):  # the short batch at the end of an epoch
    mean(jnp.ones(size_))
mean(jnp.ones(32, jnp.int32))
print(len(traced), "programs:", *traced)

# %% [markdown]
# Each costs a compilation, hence `drop_last` in our loaders. `torch.compile` guards on shapes too; at the
# second size it compiles a version that takes any size.

# %%
torch.compiler.reset()
graphs.clear()
mean_torch = torch.compile(lambda x: x.mean(), backend=keep)
for size_ in (32, 32, 5, 7, 9):
    mean_torch(torch.ones(size_))
print(len(graphs), "graphs for", 4, "sizes")

# %% [markdown]
# ## 6 · Leaked tracers, NaN, reused keys
#
# Three bugs that show late, and a switch for each. A tracer that was stored somewhere outlives its trace. NaN
# wander through a program in silence, in PyTorch as in JAX; `jax.debug_nans` stops at the operation that made
# the first one, by running the function again un-jitted. (`torch.autograd.detect_anomaly` does it for the
# backward pass.) And a key used twice gives the same numbers twice.

# %% tags=["trap:collect-in-list"]
stored = []


def store(x):
    stored.append(x)
    return x + 1


jax.jit(store)(1.0)
try:
    stored[0] + 1
except jax.errors.UnexpectedTracerError as error:
    print("used later:", type(error).__name__)
try:
    with jax.checking_leaks():
        jax.jit(lambda x: store(x) * 2)(1.0)
except Exception as error:  # JAX raises a plain Exception here
    print("at the source, with jax.checking_leaks():", str(error).partition(" ")[0], "trace")


# %%
def loss(x):
    return jnp.log(x).sum() * 0


print("silent:", jax.jit(loss)(jnp.array([1.0, -1.0])))
try:
    with jax.debug_nans(True):
        jax.jit(loss)(jnp.array([1.0, -1.0]))
except FloatingPointError as error:
    print("with jax.debug_nans(True):", error)

key = jax.random.key(SEED)
noise, dropout = jax.random.normal(key), jax.random.normal(key)
print("one key twice, equal 'random' numbers:", bool(noise == dropout))
try:
    with jax.debug_key_reuse(True):
        key = jax.random.key(SEED)
        jax.random.normal(key) + jax.random.normal(key)
except jax.errors.KeyReuseError as error:
    print("with jax.debug_key_reuse(True):", type(error).__name__)
noise_key, dropout_key = jax.random.split(jax.random.key(SEED))
print("split, equal:", bool(jax.random.normal(noise_key) == jax.random.normal(dropout_key)))

# %% [markdown]
# ## Calls return before the work is done
#
# Like PyTorch on a GPU, JAX queues work and returns, on a CPU too. Whoever times it must wait:
# `block_until_ready()`, where torch has `torch.cuda.synchronize()`.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
matrix = jnp.ones((1500, 1500))
product = jax.jit(lambda a: a @ a)
product(matrix).block_until_ready()
call = timing.measure(lambda: (product(matrix), None)[1])
work = timing.measure(lambda: product(matrix))
print(f"the call returns after {1e3 * call.steady_s:.2f} ms, the result is there after {1e3 * work.steady_s:.1f} ms")

# %% [markdown]
# Devices: torch moves a tensor with `.to(device)` and then follows it. JAX puts arrays on its default device
# unless told otherwise; `device_put` moves, and computation follows committed data.

# %%
cpu = jax.devices("cpu")[0]
on_jax = jax.device_put(np.ones(3), cpu)
on_torch = torch.ones(3).to("cpu")
print(on_jax.devices() == {cpu}, on_torch.device)

# %% [markdown]
# ## What it buys
#
# `f` has three operations. Eager, each walks over memory once; fused, all are done in one walk. The only
# Inductor compilation of this lesson, against `jit`; first call and steady state apart.

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

# %%
results = [np.asarray(function(argument)) for function, argument in contestants.values()]
assert all(np.allclose(result, results[0], rtol=0, atol=1e-5) for result in results)
print("all four agree within 1e-5  ok")

# %% [markdown]
# (torch runs on one thread here, XLA takes the cores it finds: compare within a framework.)
#
# ## Summary
#
# - `jit` calls your function with tracers and keeps what happens to arrays. Everything else happens once.
# - Tracers have shapes, not values: `if`, loops and shapes that depend on data need `lax.cond`, `fori_loop`,
#   `scan`, or a static argument. JAX refuses loudly what it can't trace, and freezes silently what it can't
#   see.
# - `torch.compile` guards, recompiles and breaks graphs instead: it runs more code as it is, and hides more.
#
# Next: [09 · transformations](09_transformations.ipynb): what else can be done with a function that is pure.
