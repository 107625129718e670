# %% [markdown]
# # 10 · The Titanic loop, faster rung by rung
#
# **Where does the time of a training step go, and how much of it can a compiler take away?** (85 minutes)

# %% [markdown]
# After this lesson you can
#
# - name the four costs of a step: loader, bookkeeping, dispatch, arithmetic, and measure each,
# - turn an NNX loop into one compiled program, shuffling included,
# - say what a first call costs, and what a cache on disk saves of it,
# - say from which size on compiling pays, and where JAX loses to PyTorch.

# %%
import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import islice
from time import perf_counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import nnx
from flax.training.train_state import TrainState
from torch.utils.data import DataLoader

from course import plots, porting, results, timing, torch_compile
from course.batching import numpy_collate
from course.data import Features, labels, load_titanic, split
from course.loaders import Passengers
from course.train import compiled, titanic_linen, titanic_nnx, titanic_torch

# %%
SEED, BATCH, EPOCHS, RATE, ROUNDS = 0, 32, 2, 1e-3, 9
plots.use()
torch.set_num_threads(1)
core = {max(os.sched_getaffinity(0))} if hasattr(os, "sched_getaffinity") else None
if core:  # Linux: one core for both sides; elsewhere JAX may use several
    os.sched_setaffinity(0, core)

# %% [markdown]
# The passengers, and one set of weights, drawn by torch and carried over. Whoever competes below starts from a
# fresh model of its kind with these weights.

# %%
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train), labels(train)
x_device, y_device = jnp.asarray(x), jnp.asarray(y)
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y)
torch.manual_seed(SEED)
weights, adam = titanic_torch.TitanicMLP(), optax.adam(RATE)


def fresh_torch(**options):
    model = titanic_torch.TitanicMLP()
    model.load_state_dict(weights.state_dict())
    return model, torch.optim.Adam(model.parameters(), RATE, **options)


def fresh_nnx():
    model = porting.torch_to_nnx(weights, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)


# %% [markdown]
# ## Three steps
#
# The training steps of [01a](01a_titanic_torch.ipynb) and [01b](01b_titanic_nnx.ipynb), on one batch of 32
# passengers. `timing.seconds` waits for the result of a call; the first call, which compiles, stands apart.
#
# **Predict.** PyTorch eager, NNX as it stands, NNX under `@nnx.jit`: which is fastest, and which two are the most
# apart?

# %% tags=["nbval-ignore-output"] volatile="microseconds"
batch, torch_batch = (x_device[:BATCH], y_device[:BATCH]), (x_torch[:BATCH], y_torch[:BATCH])
contenders = {
    "torch eager": partial(titanic_torch.train_step, *fresh_torch(), *torch_batch),
    "nnx un-jitted": partial(titanic_nnx.train_step, *fresh_nnx(), *batch),
    "@nnx.jit": partial(nnx.jit(titanic_nnx.train_step), *fresh_nnx(), *batch),
}
steps_per_epoch, rows = len(x) // BATCH, {}
for name, step in contenders.items():
    first, later = timing.seconds(step), min(timing.seconds(step) for _ in range(25))
    rows[name] = {"first call, s": first, "later, µs": 1e6 * later, "500 epochs, s": 500 * steps_per_epoch * later}
print(timing.environment())
pd.DataFrame(rows).T.round({"first call, s": 3, "later, µs": 0, "500 epochs, s": 1})

# %% [markdown]
# PyTorch is the fastest, and un-jitted NNX is the most apart from it. The decorator takes away most of NNX's time
# and still loses. The article that this loop comes from reports 3.5 times the speed by that one decorator, on a GPU;
# it compares with un-jitted NNX, and you would come from the first row.
#
# Un-jitted, each line is Python that builds a derivative and sends operation after operation: minutes for a
# training that torch does in seconds. `@nnx.jit` runs one program instead. What is left of the time can hardly be
# arithmetic: the model has a thousand weights. This lesson finds out what it is, and takes it away.
#
# ("Later" is the fastest of 25 calls: whatever else the machine does can only add time.)
#
# ## The rungs
#
# A speed-up of a program that computes something else is none. So every rung visits the same passengers in the
# same order, and we compare losses. A rung is two functions: one sets up (not timed), one trains and returns the
# loss of every step. Batches come from torch's loader, or from tables that are in memory. Their order is drawn here,
# once for all, by a function of the course that you will see further down.

# %%
keys = jax.random.split(jax.random.key(SEED), EPOCHS)
orders = jax.vmap(lambda key: compiled.batch_orders(key, len(x), BATCH))(keys).reshape(-1, BATCH)  # (steps, B)
orders_host = np.array(orders)  # a copy: torch wants to own its memory


def loader(collate_fn=None):
    return DataLoader(Passengers(x, y), batch_sampler=orders_host.tolist(), collate_fn=collate_fn)


def run_objects(step, model, optimizer, batches):
    return [step(model, optimizer, *batch) for batch in batches]


def run_state(step, state, batches):
    losses = []
    for batch in batches:
        state, loss = step(state, *batch)
        losses.append(loss)
    return losses


print(EPOCHS, "epochs,", len(orders), "steps of", BATCH, "rows; the first row numbers:", orders_host[0, :5])


# %% [markdown]
# **PyTorch**: eager with the loader, as in 01a; tables in memory; Adam fused into one kernel; forward and backward
# through `torch.compile` (Inductor, where there is a C++ compiler).

# %% tags=["nbval-ignore-output"] volatile="a line where torch.compile has no compiler"
def preloaded():
    return ((x_torch[rows], y_torch[rows]) for rows in torch.from_numpy(orders_host).long())


compiled_loss = torch.compile(titanic_torch.loss_fn, backend=torch_compile.backend())


def compiled_torch_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = compiled_loss(model, x, y)
    loss.backward()
    optimizer.step()
    return loss.detach()


torch_step, fused = titanic_torch.train_step, partial(fresh_torch, fused=True)
rungs = {
    "torch eager + loader": (fresh_torch, lambda m, o: run_objects(torch_step, m, o, loader())),
    "torch preloaded": (fresh_torch, lambda m, o: run_objects(torch_step, m, o, preloaded())),
    "torch preloaded, fused Adam": (fused, lambda m, o: run_objects(torch_step, m, o, preloaded())),
    "torch.compile, fused Adam": (fused, lambda m, o: run_objects(compiled_torch_step, m, o, preloaded())),
}
print(*rungs, sep="\n")


# %% [markdown]
# **JAX, a call per step.** Un-jitted (five steps must do) and `nnx.jit`, with the loader. Then the tables move to
# the device for good, and only 32 row numbers travel:

# %%
def rows_step(model, optimizer, x, y, rows):
    return titanic_nnx.train_step(model, optimizer, x[rows], y[rows])


def first_five(model, optimizer):
    return run_objects(titanic_nnx.train_step, model, optimizer, islice(loader(numpy_collate), 5))


nnx_step, nnx_rows_step = nnx.jit(titanic_nnx.train_step), nnx.jit(rows_step)
rows_of_steps = [(x_device, y_device, rows) for rows in orders_host]
rungs |= {
    "nnx un-jitted + loader": (fresh_nnx, first_five),
    "@nnx.jit + loader": (fresh_nnx, lambda m, o: run_objects(nnx_step, m, o, loader(numpy_collate))),
    "@nnx.jit": (fresh_nnx, lambda m, o: run_objects(nnx_rows_step, m, o, rows_of_steps)),
}

# %% [markdown]
# `nnx.jit` takes model and optimizer apart before each call and puts them together after it: *graph bookkeeping*,
# in Python. `nnx.cached_partial` does most of that once, for the objects that you bind (and keeps the mode that
# they had: [03](03_state_and_trees.ipynb)). Newer flax can skip it for models that are plain trees.

# %%
cached_step = nnx.jit(rows_step)


def cached(model, optimizer):
    step = nnx.cached_partial(cached_step, model, optimizer)
    return [step(*batch) for batch in rows_of_steps]


rungs["nnx.cached_partial"] = (fresh_nnx, cached)
try:
    tree_step = nnx.jit(rows_step, graph=False)
    rungs["nnx.jit(graph=False)"] = (fresh_nnx, lambda m, o: run_objects(tree_step, m, o, rows_of_steps))
    print("this flax has graph=False")
except TypeError as error:
    print("no graph=False in this flax:", error)


# %% [markdown]
# Or by hand: `nnx.split` once, before the loop. What goes in and out of `jax.jit` is then a pytree, like Linen's
# state.

# %%
def split_step(graphdef, state, x, y, rows):
    model, optimizer = nnx.merge(graphdef, state)
    loss = rows_step(model, optimizer, x, y, rows)
    return nnx.state((model, optimizer)), loss


linen = titanic_linen.TitanicMLP()
template = linen.init(jax.random.key(SEED), x[:1])["params"]
graphdef, _ = nnx.split(fresh_nnx())
jit_split_step, linen_step = jax.jit(partial(split_step, graphdef)), jax.jit(titanic_linen.train_step)


def fresh_split():
    return (nnx.split(fresh_nnx())[1],)


def fresh_linen():
    return (TrainState.create(apply_fn=linen.apply, params=porting.torch_to_linen(weights, template), tx=adam),)


rungs |= {
    "nnx split, jax.jit": (fresh_split, lambda s: run_state(jit_split_step, s, rows_of_steps)),
    "Linen, jax.jit + loader": (fresh_linen, lambda s: run_state(linen_step, s, loader(numpy_collate))),
}


# %% [markdown]
# **JAX, all steps in one call.** A call of a compiled program has a price of its own, its *dispatch*: arguments are
# checked and handed over, and results wrapped, by Python and the runtime. `lax.scan` puts the loop into the program,
# which is then called once:

# %%
def split_epochs(graphdef, state, x, y, orders):
    return jax.lax.scan(lambda state, rows: split_step(graphdef, state, x, y, rows), state, orders)


jit_epochs = jax.jit(partial(split_epochs, graphdef))
rungs["one scan"] = (fresh_split, lambda s: jit_epochs(s, x_device, y_device, orders)[1])


# %% [markdown]
# And the shuffling. `jax.random.permutation` would do, but it sorts pairs (random number, row), which XLA does
# slowly on a CPU. So we sort single integers, random bits above and the row below:

# %% tags=["nbval-ignore-output"] volatile="microseconds"
def batch_orders(key, rows, batch_size):
    steps = rows // batch_size
    return shuffled(key, rows)[: steps * batch_size].reshape(steps, batch_size)


def shuffled(key, rows):
    if rows > 4096:  # too few random bits would be left, and equal ones keep their order
        return jax.random.permutation(key, rows)
    low = 2 ** (rows - 1).bit_length() - 1
    pairs = jax.random.bits(key, (rows,)) & ~jnp.uint32(low) | jnp.arange(rows, dtype=jnp.uint32)
    return (jnp.sort(pairs) & low).astype(jnp.int32)


many_keys = jax.random.split(jax.random.key(SEED), 100)
for draw in (jax.random.permutation, shuffled):
    draw_all = jax.jit(lambda keys, draw=draw: jax.lax.map(lambda key: draw(key, len(x)), keys))  # one by one
    assert (np.sort(draw_all(many_keys)) == np.arange(len(x))).all()  # each row once
    print(f"{draw.__name__:12}{1e4 * min(timing.seconds(draw_all, many_keys) for _ in range(9)):5.0f} µs an epoch")


# %% [markdown]
# All of training, from keys to weights, in one function that knows nothing of any framework:

# %%
def train_run(loss_fn, optimizer, params, x, y, keys, batch_size):
    def step(carry, rows):
        params, opt_state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params, x[rows], y[rows])
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    def epoch(carry, key):
        return jax.lax.scan(step, carry, batch_orders(key, len(x), batch_size))

    (params, _), losses = jax.lax.scan(epoch, (params, optimizer.init(params)), keys)
    return params, losses


def split_loss(graphdef):
    def loss_fn(params, x, y):
        return titanic_nnx.loss_fn(nnx.merge(graphdef, params), x, y)

    return loss_fn


# %%
model_def, _ = nnx.split(fresh_nnx()[0])


@jax.jit
def whole_run(params, keys):
    return train_run(split_loss(model_def), adam, params, x_device, y_device, keys, BATCH)


def fresh_params():
    return (nnx.split(fresh_nnx()[0])[1],)


rungs["one scan, shuffling inside"] = (fresh_params, lambda params: whole_run(params, keys)[1].ravel())

# %% [markdown]
# ## Same losses?
#
# The first call of each rung, timed; and its losses, step by step, against those of eager torch.

# %%
losses, first = {}, {}
for name, (setup, run) in rungs.items():
    arguments, start = setup(), perf_counter()
    result = jax.block_until_ready(run(*arguments))
    first[name] = perf_counter() - start
    losses[name] = np.array([float(loss) for loss in result])
reference = losses["torch eager + loader"]
for name in ("torch eager + loader", "@nnx.jit", "Linen, jax.jit + loader", "one scan, shuffling inside"):
    print(f"{name:28}", *losses[name][[0, 1, 2, -1]].round(4))
gaps = {name: np.abs(values - reference[: len(values)]).max() for name, values in losses.items()}
assert max(gaps.values()) < 5e-6
print(f"{len(gaps)} rungs: every loss of every rung within 5e-06 of torch eager's")

# %% [markdown]
# ## How fast?
#
# Several rounds through all rungs, interleaved so that a busy moment of the machine hits everybody; the fastest
# counts. "Compiling" is what the first call took beyond an equal call later, so it means the same in every row,
# however many steps a call has.

# %% tags=["nbval-ignore-output"] volatile="microseconds"
rounds = [{name: timing.seconds(run, *setup()) for name, (setup, run) in rungs.items()} for _ in range(ROUNDS)]
call = pd.DataFrame(rounds).min()
per_step = 1e6 * call / pd.Series({name: len(values) for name, values in losses.items()})
table = pd.DataFrame({"µs per step": per_step.round(1)})
table["vs torch eager"] = (per_step["torch eager + loader"] / per_step).round(2)
table["compiling, s"] = (pd.Series(first) - call).clip(lower=0).round(2)
table.loc[list(rungs)]

# %% [markdown]
# Torch has rungs of its own: tables in memory and a fused Adam help, `torch.compile` has little to fuse in a model
# this small. Plain `@nnx.jit` stays behind torch. With most of its bookkeeping gone JAX is about as fast as torch's
# better rungs; with all of it gone (`split`) JAX leads; with the calls gone too it is far ahead. (Un-jitted has next
# to nothing left to compile: its single operations were compiled for the table at the start.)
#
# ## Where the time goes
#
# Differences between rungs are the parts of a step: what the loader adds, what NNX's objects add, what calling
# adds. What remains inside the scan is the arithmetic, with the turns of XLA's own loop. The dashed line is torch
# with tables in memory.

# %% tags=["nbval-ignore-output"] volatile="microseconds" alt="Horizontal stacked bars, time of one step in five forms. @nnx.jit with the loader is the longest: mostly graph bookkeeping, then loader, dispatch and a sliver of arithmetic. Each following bar lacks a part: the loader, most of the bookkeeping, all of it, and at last the dispatch, so that the bar of the scan is hardly visible. A dashed orange line marks torch."
arithmetic, split_call = per_step["one scan"], per_step["nnx split, jax.jit"]
loading = max(0, per_step["@nnx.jit + loader"] - per_step["@nnx.jit"])
bars = {}
for name in ("@nnx.jit + loader", "@nnx.jit", "nnx.cached_partial", "nnx split, jax.jit", "one scan"):
    part = bars[name] = {"arithmetic": arithmetic}
    part["dispatch of a call"] = 0 if name == "one scan" else split_call - arithmetic
    part["loader and copying"] = loading if "loader" in name else 0
    part["graph bookkeeping"] = max(0, per_step[name] - sum(part.values())) if "nnx" in name else 0
figure, axis = plots.panels(1)
plots.stacked(axis, bars, xlabel="µs per step", title="A step of @nnx.jit, part by part")
axis.axvline(per_step["torch preloaded"], color=plots.TORCH, linestyle="--")
axis.text(1.03 * per_step["torch preloaded"], 0, "torch preloaded", color=plots.TORCH, va="center")
plt.show()
print({part: round(float(time), 1) for part, time in bars["@nnx.jit + loader"].items()})
unjitted = per_step["nnx un-jitted + loader"]
print(f"un-jitted: {unjitted / per_step['@nnx.jit + loader']:.0f} times as long as the first bar")

# %% [markdown]
# Arithmetic is a sliver. A model this small is all overhead, and taking overhead away is what a compiler
# is good at. So the ladder has an order: `jit` first, then `split` (or `graph=False`) outside the loop, then the
# loop inside.
#
# ## What the first call costs
#
# Now the whole job, 500 epochs in one call. Its first call traces Python into a jaxpr, lowers that to StableHLO, and
# compiles it. Each stage can be called by itself:

# %% tags=["nbval-ignore-output"] volatile="seconds"
keys_500, (params,) = jax.random.split(jax.random.key(SEED), 500), fresh_params()
jax.clear_caches()  # what a new process starts with
stages, start = {}, perf_counter()
traced = whole_run.trace(params, keys_500)
stages["tracing"] = perf_counter() - start
lowered = traced.lower()
stages["lowering"] = perf_counter() - start - stages["tracing"]
executable = lowered.compile()
stages["compiling"] = perf_counter() - start - stages["tracing"] - stages["lowering"]
stages["500 epochs"] = min(timing.seconds(executable, params, keys_500) for _ in range(3))
print({stage: f"{seconds:.2f} s" for stage, seconds in stages.items()})
once, eager = sum(list(stages.values())[:3]), 1e-6 * steps_per_epoch * per_step["torch eager + loader"]
print(f"the compiled run catches up with torch eager after {once / (eager - stages['500 epochs'] / 500):.0f} epochs")
print(f"memory beside arguments and results: {executable.memory_analysis().temp_size_in_bytes / 1024:.0f} KiB")

# %% [markdown]
# The price is paid once per shape and process, for one epoch or for 500. With its compilation the run still wins
# over 500 epochs of eager torch, and loses over a handful.
#
# ## When is it done?
#
# JAX returns as soon as the work is queued.
#
# **Predict.** The program is compiled. How long until the call returns, and how long until the losses are there?

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
start = perf_counter()
_, run_losses = executable(params, keys_500)
returned = perf_counter() - start
run_losses.block_until_ready()
done = perf_counter() - start
print(f"returned after {1e3 * returned:.2f} ms, done after {1e3 * done:.0f} ms")
print(f"loss of the first step {run_losses[0, 0]:.3f}, mean of the last epoch {run_losses[-1].mean():.3f}")

# %% [markdown]
# A clock around the call alone measures the queue, and reports a speed-up that nobody has. It is
# `torch.cuda.synchronize()` again, on a CPU too: wait with `block_until_ready`, and keep the first call apart.
#
# ## A cache on disk
#
# Can the next process be spared the first call? JAX keeps compiled programs on disk, if you name a folder. Two
# processes, one after the other, each compile a run like this one:
#
# **Predict.** The second one finds the program on disk. Which of the stages does it still pay for?

# %% tags=["nbval-ignore-output"] volatile="seconds"
program = """
from time import perf_counter
import jax, optax, jax.numpy as jnp
from course.train import compiled
def loss_fn(params, x, y):
    logits = jnp.maximum(x @ params[0], 0) @ params[1]
    return optax.sigmoid_binary_cross_entropy(logits, y).mean()
params, keys = (jnp.ones((15, 64)), jnp.ones(64)), jax.random.split(jax.random.key(0), 500)
x, y, adam, start = jnp.ones((837, 15)), jnp.ones(837), optax.adam(1e-3), perf_counter()
lowered = jax.jit(lambda p, k: compiled.train_run(loss_fn, adam, p, x, y, k, 32)).lower(params, keys)
middle = perf_counter()
lowered.compile()
print(f"tracing and lowering {middle - start:.2f} s, compiling {perf_counter() - middle:.2f} s")
"""
settings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
with tempfile.TemporaryDirectory() as folder:
    for process in ("first ", "second"):
        settings["JAX_COMPILATION_CACHE_DIR"] = folder
        done = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=True)
        print(f"{process} process: {done.stdout.strip()};", len(done.stderr.splitlines()), "lines on stderr")


# %% [markdown]
# It still traces and lowers, since the text of the lowered program is the key under which the compiled one is
# found (with versions and settings). What it saves is compiling, and that is little here and minutes for a large
# model. So set `JAX_COMPILATION_CACHE_DIR` where programs are large. By default only those that took a second or
# more to compile are kept; the other variable here asks for all.
#
# On a CPU mind two things. A cached program is machine code for one kind of processor: read on another it is
# "Machine type used for XLA:CPU compilation doesn't match the machine type for execution" and perhaps SIGILL, and
# some versions say so on the very machine that wrote it. And a cache is code: whoever may write to the folder may
# run programs as you.
#
# ## From which size on?
#
# A larger model has more arithmetic and the same overhead. So we let it grow: two hidden layers of a width, eager
# torch with Adam as in 01a and with the fused one, against `@nnx.jit` and against `jax.jit` on the split state. The
# JAX sides may overwrite what they are given (`donate_argnums`), as torch does; else they write new weights and
# moments beside the old ones.

# %%
def steps_of_width(width):
    def init(key, shape, dtype, **_):  # NumPy's numbers: nothing to compile
        return jnp.asarray(np.random.default_rng(SEED).normal(0, shape[0] ** -0.5, shape), dtype)
    linear, layers = partial(nnx.Linear, kernel_init=init, rngs=nnx.Rngs(SEED)), torch.nn
    model = nnx.Sequential(linear(15, width), nnx.relu, linear(width, width), nnx.relu, linear(width, 1), jnp.ravel)
    optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
    graphdef, state = nnx.split((model, optimizer))
    state, rows = jax.tree.map(jnp.copy, state), jnp.arange(BATCH)  # arrays of its own: both sides give theirs away
    hidden = layers.Linear(15, width), layers.ReLU(), layers.Linear(width, width), layers.ReLU()
    net = layers.Sequential(*hidden, layers.Linear(width, 1), layers.Flatten(0))
    torch_adam, torch_fused = (torch.optim.Adam(net.parameters(), RATE, fused=fused) for fused in (False, True))
    nnx_step = nnx.jit(rows_step, donate_argnums=(0, 1))
    state_step = jax.jit(partial(split_step, graphdef), donate_argnums=0)

    def next_state():
        nonlocal state
        state, loss = state_step(state, x_device, y_device, rows)
        return state, loss

    return {
        "torch eager": lambda: torch_step(net, torch_adam, *torch_batch),
        "torch eager, fused Adam": lambda: torch_step(net, torch_fused, *torch_batch),
        "@nnx.jit": lambda: (nnx_step(model, optimizer, x_device, y_device, rows), nnx.state(model)),
        "nnx split, jax.jit": next_state,
    }


# %% [markdown]
# **Predict.** `@nnx.jit` lost at width 64. Where does it overtake the loop of 01a: never, near 100, near 1,000?

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
widths, measured = [64, 512, 1024, 2048], []
for width in widths:
    steps = steps_of_width(width)
    first_calls = [timing.seconds(step) for step in steps.values()]  # compiles
    repeats = range(25 if width < 1000 else 6)
    rounds = [{name: 1e3 * timing.seconds(step) for name, step in steps.items()} for _ in repeats]
    measured.append(pd.DataFrame(rounds).min())
sweep = pd.DataFrame(measured, index=pd.Index(widths, name="width"))
sweep.round(2)


# %% tags=["nbval-ignore-output"] volatile="a crossing that milliseconds decide" alt="A log-log plot of the time of a step against the width of two hidden layers, 64 to 2048. jax.jit on the split state lies below torch but for the right end, where all lines come together. @nnx.jit starts above both of torch's orange lines, nearly flat, and meets the dashed one of plain Adam at a dotted vertical line. All rise steeply at last."
def crossing(torch_name):
    lead = np.log(sweep["@nnx.jit"] / sweep[torch_name]).to_numpy()  # above 0: JAX loses
    for i in range(1, len(widths)):
        if lead[i - 1] > 0 >= lead[i]:
            return widths[i - 1] * (widths[i] / widths[i - 1]) ** (lead[i - 1] / (lead[i - 1] - lead[i]))


figure, axis = plots.panels(1)
drawn = plots.lines(axis, widths, sweep, log="xy", xlabel="width", ylabel="ms per step", title="A step, batch 32")
drawn[1].set(linestyle=":", marker="x")
if place := crossing("torch eager"):
    axis.axvline(place, color="black", linestyle=":")
axis.legend()
plt.show()
for name in sweep.columns[:2]:
    place = crossing(name)
    print(f"@nnx.jit overtakes {name}", f"near width {place:.0f}" if place else f"nowhere up to {widths[-1]}")

# %% [markdown]
# Near 1,000, to within a factor of two or so; the line below the picture has the place found here. `jax.jit` on the
# split state needs no such width: there is no bookkeeping, and the program fuses activations, their derivatives and
# Adam. `@nnx.jit` pays its fixed price in every step, the flat part at the left, and overtakes the loop of 01a where
# the arithmetic has grown to hide it. Torch's fused Adam does by hand what the compiler does, so against it the lead
# is smaller and comes later, if at all. At the right end matrix products and memory traffic decide. Both sides have
# the same of those, and who is ahead there may change from run to run.
#
# All of this is one CPU core. On a GPU arithmetic is cheaper, so overhead counts up to larger widths: measure
# anew there, and mind that JAX takes most of the GPU's memory beforehand ([00](00_start_here.ipynb)).
#
# ## The benchmark
#
# The same rungs by `make bench`, on one core for both sides, medians of five interleaved rounds: the published
# result. Calls there differ in length: 50 epochs, 1 for un-jitted NNX, 500 for the compiled run. So `compiling_s`
# is again the first call less an equal one later.

# %%
result = results.load("titanic_speed")
rows = results.table(result, "one model, seconds per 500 epochs")
cold, rows = rows.iloc[-2:], rows.iloc[:-2]
rows = rows.assign(vs_torch=rows["median_s"]["torch eager + DataLoader"] / rows["median_s"])
rows["compiling_s"] = (rows["first_call_s"] - rows["median_s"] / rows["scaled_by"]).clip(lower=0)
print(results.measured_on(result))
print("500 epochs from a cold start, side by side:", cold["median_s"].round(2).to_dict())
for title, which in {"first call in a fresh process": ".", "the floor of one compiled run": "batches|rate"}.items():
    table = results.table(result, f"{title}, seconds per 500 epochs")["median_s"].filter(regex=which)
    print(f"\n{title}\n{table.rename_axis(None).round(3).to_string()}")
rows[["median_s", "vs_torch", "compiling_s"]].round(2)

# %% [markdown]
# The first line compares what you wait for: eager torch, which compiles nothing, and the compiled run with its
# compilation. Then the same in processes of their own: the function traced, or read as `jax.export` wrote it, with an
# empty and with a warm cache on disk. And how far XLA is from what the processor could do: the same loop written in C
# by hand takes half of its time, and both are far above the time that their arithmetic would take at the rate of a
# large product, or their traffic at that of a copy, for the products here are small. `nnx.cached_partial` has nothing
# to compile there: it shares the program of the row above it.
#
# `course.train.compiled.fit` is `train_run` with its arguments checked: what would broadcast in silence, or be a
# NaN an hour later, is an error there. [11](11_ensembles.ipynb) maps `train_run` over many models.
#
# ## Summary
#
# - Loader, bookkeeping and dispatch cost more than the arithmetic of a small model; each can be measured as the
#   difference of two rungs.
# - On a small model `nnx.split` once and `jax.jit` beat `nnx.jit`; `lax.scan` over steps and epochs beats both.
# - Compiling is paid at the first call, per shape and process; a cache on disk saves its last stage. Say both
#   numbers, wait for results, and say against what you compare.
# - JAX loses where overhead is most of the step and you leave it there. It pays where you compile the loop, or where
#   the model is large enough to hide it.
#
# ## Further reading
#
# - [Performance considerations](https://flax.readthedocs.io/en/latest/guides/performance.html): Flax's own page on
#   NNX's bookkeeping and how to avoid it.
# - [Asynchronous dispatch](https://docs.jax.dev/en/latest/async_dispatch.html): why a call returns early, and what a
#   clock must wait for.
# - [Persistent compilation cache](https://docs.jax.dev/en/latest/persistent_compilation_cache.html): where it may
#   live, what is kept, who may write to it.
# - [XLA:CPU and cached programs](https://github.com/jax-ml/jax/issues/38445): the warning on the machine that wrote
#   the cache.
#
# Exercises: [your turn](exercises/10_jit_speed.ipynb).
#
# Next: [11 · Hundreds of models in one program](11_ensembles.ipynb).
