# %% [markdown]
# # 08b · What compiling costs
#
# **Why does it compile for so long, and why does it compile again?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - keep compile time flat with `lax.scan`, and say what a scan asks of you in return,
# - time compiled code without fooling yourself,
# - find out from JAX's own log why something was compiled again,
# - mend the usual causes: ragged batches, a new optimizer, a lambda in a loop, a `partial` in a model, a list as a
#   setting.

# %%
import logging
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import torch
from flax import nnx
from jax import lax

from course import plots, timing
from course.failures import fails

# %%
SEED = 0
torch.set_num_threads(1)
jax.config.update("jax_pprint_use_color", False)  # plain text, wherever you read this
plots.use()

# %% [markdown]
# ## 1 · Loops
#
# A Python loop with a known count works under `jit`. It runs while tracing, and the program gets one copy of its body
# for each turn: it is *unrolled*. `lax.scan` puts one turn into the program.
#
# In 06b it ran an RNN. `lax.scan(turn, carry, xs)` calls `turn(carry, x)`, which returns the next carry and an output
# to stack. Here there is nothing to read and nothing to stack, hence `_`, `None` and a `length`.

# %% alt="Two programs beside each other. Left, the unrolled loop: four boxes named turn, chained by arrows from w0 to w4. Right, the scan: a single box named turn with an arrow that leads its output, the carry, back to its input, n times."
diagram = plots.Diagram(height=2.1)
diagram.note(2.05, 1.9, "Python loop: the program grows with n")
place = diagram.array(0.3, 1.1, "$w_0$", width=0.4, side="jax")
for number in range(4):
    box = diagram.function(1.0 + number * 0.75, 1.1, "turn", width=0.55, side="jax")
    diagram.arrow(place, box, side="jax")
    place = box
diagram.arrow(place, diagram.array(3.95, 1.1, "$w_4$", width=0.4, side="jax"), side="jax")
diagram.note(6.2, 1.9, "lax.scan: the program stays as it is")
start, end = (diagram.array(x, 1.1, text, width=0.4, side="jax") for x, text in ((4.9, "$w_0$"), (7.6, "$w_n$")))
body = diagram.function(6.25, 1.1, "turn", width=0.7, height=0.6, side="jax")
diagram.arrow(start, body, side="jax")
diagram.arrow(body, end, side="jax")
diagram.arrow((6.5, 0.8), (6.0, 0.8), side="jax", bend=-1.5)
diagram.note(6.25, 0.2, "carry: n times, same shape and dtype")
plt.show()


def sines(x, n):
    return lax.scan(lambda x, _: (jnp.sin(x), None), x, length=n)[0]


print(jax.make_jaxpr(sines, static_argnums=1)(1.0, 1000))

# %% [markdown]
# A thousand turns, one `scan` equation; its body stands between the inner braces. Let a turn now be one step of
# gradient descent on eight points, and let us count what each loop costs: lines of jaxpr, seconds to trace and
# compile, microseconds a run.

# %% tags=["nbval-ignore-output"] volatile="seconds"
points, targets = jnp.ones((8, 4)), jnp.ones(8)


def turn(w):
    return w - 0.1 * jax.grad(lambda w: ((jnp.tanh(points @ w) - targets) ** 2).mean())(w)


def unrolled(w, n):
    for _ in range(n):
        w = turn(w)
    return w


def scanned(w, n):
    return lax.scan(lambda w, _: (turn(w), None), w, length=n)[0]


for n in (1, 10, 30):
    for loop in (unrolled, scanned):
        jit_loop, w, start = jax.jit(loop, static_argnums=1), jnp.zeros(4), perf_counter()
        traced = jit_loop.trace(w, n)
        traced.lower().compile()
        compile_s, run_s = perf_counter() - start, timing.measure(jit_loop, w, n).steady_s
        lines = len(str(traced.jaxpr).splitlines())
        print(f"{n:3} turns, {loop.__name__:9}{lines:5} lines, {compile_s:5.2f} s, then {1e6 * run_s:4.0f} µs a run")

# %% [markdown]
# The unrolled loop pays compile time for every turn, and a training loop has thousands. The scan pays once. Neither
# changes the result, and `torch.compile` has the same trouble:

# %%
print("unrolled:", unrolled(jnp.zeros(4), 10).round(4), " scanned:", scanned(jnp.zeros(4), 10).round(4))
graphs = []


def keep(graph, example_inputs):  # a backend for torch.compile: store the graph, run it as it is
    graphs.append(graph)
    return graph.forward


def sines_torch(x, n):
    for _ in range(n):
        x = torch.sin(x)
    return x


torch.compile(sines_torch, backend=keep)(torch.ones(3), 100)
print("torch.compile, 100 turns: sin stands", graphs[0].code.count("torch.sin("), "times in its graph")

# %% [markdown]
# (A loop of a few turns may be worth unrolling, since XLA fuses across turns; `lax.scan(…, unroll=4)` is the
# compromise.)
#
# What a scan asks in return: its *carry*, which a turn hands to the next, must keep shape and dtype. A Python loop
# may change both on the way.

# %% tags=["trap:carry-type"]
total = torch.tensor(0)
for value in torch.ones(3):
    total = total + value
print("torch, from an int:", total)


def add(total, value):
    return total + value, total + value  # the carry, and what to stack


with fails(TypeError, lines=5):
    lax.scan(add, jnp.zeros((), jnp.int32), jnp.ones(3))
total, sums = lax.scan(add, jnp.zeros(()), jnp.ones(3))
print("jax, from a float: ", total, " after each turn:", sums)

# %% [markdown]
# Read the second sentence: it names the part of the carry, the type that came in and the type that went out. Start
# with the type that the loop ends with. A list that grows is no carry; return each turn's value as the second result,
# and `scan` stacks them.
#
# ## 2 · Timing
#
# The first call of a compiled function holds tracing, compiling and a run; time it apart from the others. The others
# have a trap of their own.
#
# **Predict.** The product of two 1500 x 1500 matrices, already compiled, on a *CPU*. When does the call return,
# before or after the work is done?

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
matrix = jnp.ones((1500, 1500))
product = jax.jit(lambda a: a @ a)
print(f"first call, tracing and compiling included: {1e3 * timing.seconds(product, matrix):6.1f} ms")
start = perf_counter()
result = product(matrix)
returned = perf_counter() - start
result.block_until_ready()
done = perf_counter() - start
print(f"the call returned after {1e3 * returned:.2f} ms, the result was there after {1e3 * done:.1f} ms")

# %% [markdown]
# Before. JAX queues work and returns, as PyTorch does on CUDA, but on every kind of device. `block_until_ready()`
# waits for one array, where `torch.cuda.synchronize()` waits for all that is queued; reading a value (`float(loss)`,
# `print`) waits too. `course.timing` blocks, and keeps the first call apart.
#
# ## 3 · The key of a program
#
# A compiled program is looked up by the function, by the shapes, dtypes and weak types of its arguments, their tree
# structure, and static values. A side effect, which runs once a trace (08), makes a counter.
#
# **Predict.** Six batches of two sizes, then one of integers. How many programs does `jit` compile? And how many
# graphs does `torch.compile` record for five batches of four sizes?

# %% tags=["trap:new-shape"]
traces = []


@jax.jit
def mean(x):
    traces.append(f"{x.dtype}{list(x.shape)}")
    return x.mean()


for rows in (32, 32, 32, 5, 32, 5):  # 5: the short batch at the end of an epoch
    mean(jnp.ones(rows))
mean(jnp.ones(32, jnp.int32))
print("programs:", len(traces), "for", *traces)

torch.compiler.reset()
graphs.clear()
mean_torch = torch.compile(lambda x: x.mean(), backend=keep)
for rows in (32, 32, 5, 7, 9):
    mean_torch(torch.ones(rows))
print("torch.compile:", len(graphs), "graphs")


# %% [markdown]
# One program for each shape and dtype; going back to a known shape is free. `torch.compile` guards on shapes as well,
# and at the second size it compiles a version that takes any size. XLA compiles for fixed shapes, so `jit` never does
# that. Nor does `jit` give up: after eight versions of a function `torch.compile` runs it as it is, `jit` goes on
# compiling.
#
# Shapes are easy to see. This one is not:
#
# **Predict.** A running average of ten losses starts at `0.0`. How many programs?

# %%
@jax.jit
def running(average, loss):
    traces.append(str(average))
    return 0.9 * average + 0.1 * loss


for start in (0.0, jnp.zeros(())):
    running.clear_cache()
    traces.clear()
    average = start
    for loss in jnp.linspace(1, 0, 10):
        average = running(average, loss)
    print(f"from {start!r:29} {average:.4f}, programs: {len(traces)}, for {' and '.join(traces)}")


# %% [markdown]
# The Python number `0.0` is weakly typed (the `~`, lesson 08), the average that comes back is not: other type, other
# key, a second compilation at the second step. If your training step compiles twice, look for a Python number in its
# state, and start with an array.
#
# ## 4 · Reading the log
#
# `JAX_LOG_COMPILES=1` in the environment, or `jax.log_compiles()` around a few lines, makes JAX log what it compiles.
# The lines go to stderr through Python's `logging`; the helper below keeps them in a list.

# %%
@contextmanager
def jax_log():
    messages, logger, handler = [], logging.getLogger("jax"), logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield messages
    finally:
        logger.handlers, logger.propagate = before


# %% tags=["nbval-ignore-output"] volatile="seconds"
batch = jnp.ones(7)
with jax_log() as messages, jax.log_compiles():
    mean(batch)
print(*messages, sep="\n")


# %% [markdown]
# How to read it: the three lines that begin with "Finished" are the stations trace, lower ("jaxpr to MLIR": StableHLO
# is a dialect of it) and compile, each with its seconds. The line "Compiling jit(mean) with global shapes and types"
# holds the key's visible part: look for the function that you know, and for a shape that you did not expect. Lines
# about functions that you never wrote, such as `broadcast_in_dim`, are un-jitted operations; each is a small program.
#
# `jax.explain_cache_misses()` says *why*. (Lines with this machine's paths are left out.)
#
# **Predict.** Inside a loop of three turns, `jax.jit` is applied to a lambda, to a `partial` and to a function that
# was defined before. How many programs does each take?

# %%
def scaled(factor, x):
    traces.append("partial")
    return factor * x


def doubled(x):
    traces.append("named")
    return 2 * x


traces.clear()
with jax_log() as messages, jax.explain_cache_misses():
    mean(jnp.ones(9))
    for _ in range(3):
        jax.jit(lambda x: traces.append("lambda") or 2 * x)(batch)
for message in messages[0], messages[-1]:
    print(*[line for line in message.splitlines() if not ("MISS" in line or "defined at" in line)], sep="\n")
for _ in range(3):
    jax.jit(partial(scaled, 2))(batch)
    jax.jit(doubled)(batch)
print("programs:", *[f"{name} {traces.count(name)}" for name in ("lambda", "partial", "named")])


# %% [markdown]
# The first message compares with the closest key: "at x, now f32[9]" and what it was before. The last one has found
# the culprit: a function defined again and again on the same line. A function is known by its identity, and each turn
# makes a new lambda and a new partial. The named function is the same object each time, so jitting it again finds its
# program. `jax.jit` belongs outside the loop, at the top of the file if possible.
#
# ## 5 · New objects in old places
#
# The same rule makes an optimizer expensive. `optax.adam(1e-3)` is a pair of functions, made anew by every call, and
# they stand in the key: as a static argument, in a `TrainState`, in an `nnx.Optimizer`.

# %%
@partial(jax.jit, static_argnames="optimizer")
def train_step(w, state, optimizer):
    traces.append("train_step")
    updates, state = optimizer.update(jax.grad(lambda w: (w**2).sum())(w), state)
    return optax.apply_updates(w, updates), state


w = jnp.ones(3)
traces.clear()
for rate in (0.1, 0.1, 0.1):
    adam = optax.adam(rate)
    train_step(w, adam.init(w), adam)
print("a new Adam, the same rate: programs:", len(traces))

traces.clear()
adam = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
for rate in (0.1, 0.2, 0.3):
    state = adam.init(w)
    state.hyperparams["learning_rate"] = jnp.array(rate)
    train_step(w, state, adam)
print("one Adam, three rates:     programs:", len(traces))


# %% [markdown]
# So make the optimizer once, outside the loop over folds or seeds. What has to change is data: `inject_hyperparams`
# moves the rate from the function into the optimizer's state, and a new rate needs no new program. (A schedule, too,
# is computed inside.)
#
# A model has such objects as well: its activations. `nnx.jit` splits a model into weights and structure; the
# structure is in the key, and with it every function that the model holds.
#
# **Predict.** The same network is built and called three times. Four ways to write its activation: how many programs
# does each take?

# %%
@nnx.jit
def forward(model, x):
    traces.append("forward")
    return model(x)


def network(activation):
    rngs = nnx.Rngs(SEED)
    return nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), activation, nnx.Linear(4, 1, rngs=rngs))


exact_gelu = partial(nnx.gelu, approximate=False)
ways = {
    "nnx.gelu": lambda: nnx.gelu,
    "a lambda": lambda: lambda x: nnx.gelu(x),
    "a partial": lambda: partial(nnx.gelu, approximate=False),
    "one partial, made once": lambda: exact_gelu,
}
for way, activation in ways.items():
    traces.clear()
    for _ in range(3):
        forward(network(activation()), jnp.ones((2, 3)))
    print(f"{way:23} {len(traces)}")


# %% [markdown]
# Two partials of the same function with the same settings are not equal in Python, and neither are two lambdas. A
# named function at the top of the file, or one partial that all models share, costs one program.
#
# ## 6 · Settings
#
# A static argument is part of the key by its *hash* and its equality.

# %% tags=["trap:static-list"]
@partial(jax.jit, static_argnames="axes")
def total_over(x, axes):
    return x.sum(axes)


x = jnp.arange(6.0).reshape(2, 3)
print("torch, a list:", torch.arange(6.0).reshape(2, 3).sum([0, 1]))
with fails(ValueError, lines=4):
    total_over(x, axes=[0, 1])
print("jax, a tuple:", total_over(x, axes=(0, 1)))


# %% [markdown]
# "Non-hashable static arguments": a list, dict or array can change, so Python gives it no hash. Pass a tuple, a
# frozen dataclass, a string. (A NumPy array as a setting is better passed as an ordinary argument.)
#
# In a method, `self` is an argument like any other. Making it static removes the error, and is worse.

# %% tags=["trap:method"]
class Scale:
    def __init__(self, w):
        self.w = w

    @jax.jit
    def times(self, x):
        return self.w * x

    @partial(jax.jit, static_argnums=0)
    def times_static(self, x):
        return self.w * x


scale, one = Scale(2.0), jnp.ones(())
with fails(TypeError):
    scale.times(one)
before = scale.times_static(one)
scale.w = 10.0
print("static self, w = 2:", before, " then w = 10:", scale.times_static(one))
times = jax.jit(lambda w, x: w * x)
print("w handed in, w = 2:", times(2.0, one), " then w = 10:", times(10.0, one))

# %% [markdown]
# The message names the argument ("at path self") and its type, and advises to mark it static. With static `self` the
# weight is frozen: the object is known by its identity, which did not change when `w` did. State goes in as
# arguments; an `nnx.Module` under `nnx.jit`, or Flax Linen's `apply`, does just that for you.
#
# ## 7 · Padding and buckets
#
# Back to ragged batches, which cost a program for every size. `drop_last` is the simplest mend, and loses data. The
# general one: pad each batch to a size that has a program, and keep the padding out of the loss with a mask.

# %% alt="A batch of five rows becomes one of eight: five filled squares and three empty ones, padded with zeros. Below it a mask with five ones and three zeros. Arrows lead from both to a box, mean where mask, which divides by five, the number of real rows, and gives the same loss."
diagram = plots.Diagram(height=2.2)
real = np.arange(8) < 5
diagram.cells(1.0, 1.55, [0.7, 0.1, 0.9, 0.4, 0.2], side="jax", title="5 rows, ragged")
diagram.cells(4.0, 1.55, [0.7, 0.1, 0.9, 0.4, 0.2, 0, 0, 0], side="jax", title="8 rows, padded with 0")
diagram.cells(4.0, 0.6, real.astype(int), marked=real, side="jax", title="mask: which rows are real")
diagram.arrow((1.8, 1.55), (2.75, 1.55), "pad", side="jax")
box = diagram.function(6.8, 1.1, "losses.mean(where=mask)\nsum of 5 losses / 5", side="jax", width=2.05, height=0.65)
diagram.arrow((5.25, 1.55), box, side="jax")
diagram.arrow((5.25, 0.6), box, side="jax")
plt.show()
print("rows that count:", real.sum(), "of", len(real))


# %%
def loss_fn(w, x, y, mask):
    losses = (jnp.tanh(x @ w) - y) ** 2  # (B,)
    return losses.mean(where=mask)


def pad(size, *arrays):
    rows = len(arrays[0])
    padded = [np.pad(a, [(0, size - rows)] + [(0, 0)] * (a.ndim - 1)) for a in arrays]
    return *padded, np.arange(size) < rows


rng = np.random.default_rng(SEED)
w, x, y = jnp.array([0.3, -0.2, 0.5]), rng.normal(size=(5, 3)), rng.normal(size=5)
value_and_grad = jax.jit(jax.value_and_grad(loss_fn))
x8, y8, mask8 = pad(8, x, y)
cases = {
    "5 rows": (x, y, np.ones(5, bool)), "8 rows, no mask": (x8, y8, np.ones(8, bool)), "8 rows, masked": (x8, y8, mask8)
}  # fmt: skip
for case, batch in cases.items():
    loss, grads = value_and_grad(w, *batch)
    print(f"{case:16} loss {loss:.4f}  gradient", *[f"{g:.4f}" for g in grads])

# %% [markdown]
# Without the mask the three rows of zeros count as data, and the loss is too small. With it, loss and gradient are
# those of the five rows. Two things to watch: a layer that mixes rows must know the mask too (`nnx.BatchNorm` takes
# `mask=`), and padding must not be NaN, nor lead to one (08c).
#
# One size for all would waste work on short batches. A few *buckets* are the compromise: each batch is padded to the
# next of them.

# %% tags=["nbval-ignore-output"] volatile="seconds"
sizes = rng.integers(1, 65, size=8)
buckets = {"as they come": range(1, 65), "16, 32 or 64": (16, 32, 64), "always 64": (64,)}
for name, allowed in buckets.items():
    value_and_grad.clear_cache()
    used, start = [], perf_counter()
    for size in sizes:
        padded_size = min(bucket for bucket in allowed if bucket >= size)
        loss, grads = value_and_grad(w, *pad(padded_size, np.ones((size, 3)), np.ones(size)))
        used.append(padded_size)
    jax.block_until_ready(grads)
    seconds, waste = perf_counter() - start, 1 - sizes.sum() / sum(used)
    print(f"{name:13} programs: {len(set(used))}, padding: {waste:4.0%} of the rows, {seconds:.2f} s for 8 batches")
    assert len(set(used)) <= len(allowed)

# %% [markdown]
# Here the compilations cost far more than the padded rows. For a large network it is the rows that cost, so take more
# buckets; for sequences, where attention costs the square of the length, sort by length first. The time to compile is
# paid in every new process; JAX can keep programs on disk (10).
#
# ## Summary
#
# - Python loops are unrolled, and compile time grows with them. `lax.scan` has one body, at the price of a carry of
#   fixed shape and dtype.
# - A program is known by shapes, dtypes, weak types, structure and static values. Functions in the key count by
#   identity: a lambda, a partial or an optimizer made anew is a new key.
# - Count traces with a side effect, see them with `jax.log_compiles()`, and ask `jax.explain_cache_misses()` for the
#   reason.
# - Ragged batches: pad to a few buckets and mask the loss. Block before you read the clock.
#
# ## Further reading
#
# - [Slow tracing and compiling](https://docs.jax.dev/en/latest/debugging/slow_tracing_compilation.html): the switches
#   of this lesson, and how to dump what is compiled.
# - [Asynchronous dispatch](https://docs.jax.dev/en/latest/async_dispatch.html): when JAX waits, and for what.
# - [torch.compile](https://docs.pytorch.org/docs/stable/generated/torch.compile.html): when it compiles again, what
#   `dynamic=` does about shapes, and where it gives up.
# - [Optimizer schedules](https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html): `inject_hyperparams`.
#
# Exercises: [your turn](exercises/08b_compiling.ipynb).
#
# Next: [08c · Looking inside](08c_debugging.ipynb).
