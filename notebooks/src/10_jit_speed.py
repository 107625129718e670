# %% [markdown]
# # 10 · The Titanic loop, faster rung by rung
#
# **Where does the time of a training step go, and how much of it can a compiler take away?** (35 minutes)

# %% [markdown]
# After this lesson you can
#
# - name the four costs of a step: loader, dispatch, graph bookkeeping, arithmetic, and measure each,
# - turn an NNX loop into one compiled program, shuffling included,
# - say when compiling pays, and where JAX loses to PyTorch.

# %%
import tempfile
from functools import partial
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

from course import porting, results, timing, torch_compile
from course.batching import numpy_collate
from course.data import Features, labels, load_titanic, split
from course.loaders import Passengers
from course.train import compiled, titanic_linen, titanic_nnx, titanic_torch

# %%
SEED, BATCH, EPOCHS, RATE = 0, 32, 5, 1e-3
plt.rcParams["figure.figsize"], plt.rcParams["figure.dpi"] = (7, 3.2), 80
torch.set_num_threads(1)


# %% [markdown]
# A speed-up of a program that computes something else is none. So every rung starts from the same weights and
# visits the same passengers in the same order, and at the end we compare losses.
#
# The order comes from the device. `jax.random.permutation` would do, but it sorts pairs, which XLA does
# slowly on a CPU; sorting single integers that carry the row in their low bits is about four times faster.

# %%
def batch_orders(key, rows, batch_size):
    steps = rows // batch_size
    return shuffled(key, rows)[: steps * batch_size].reshape(steps, batch_size)


def shuffled(key, rows):
    if rows > 4096:  # too few random bits would be left, and equal ones keep their order
        return jax.random.permutation(key, rows)
    low = 2 ** (rows - 1).bit_length() - 1
    pairs = jax.random.bits(key, (rows,)) & ~jnp.uint32(low) | jnp.arange(rows, dtype=jnp.uint32)
    return (jnp.sort(pairs) & low).astype(jnp.int32)


# %%
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train), labels(train)
x_device, y_device = jnp.asarray(x), jnp.asarray(y)
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y)

keys = jax.random.split(jax.random.key(SEED), EPOCHS)
orders = jax.vmap(lambda key: batch_orders(key, len(x), BATCH))(keys).reshape(-1, BATCH)  # (steps, B)
orders_host = np.array(orders)  # a copy: torch wants to own its memory
print(EPOCHS, "epochs,", len(orders), "steps of", BATCH, "rows")

# %% [markdown]
# One set of weights, drawn by torch and carried over. Each rung asks for a fresh model of its kind.

# %%
torch.manual_seed(SEED)
weights, adam = titanic_torch.TitanicMLP(), optax.adam(RATE)


def fresh_torch(**options):
    model = titanic_torch.TitanicMLP()
    model.load_state_dict(weights.state_dict())
    return model, torch.optim.Adam(model.parameters(), RATE, **options)


def fresh_nnx():
    model = porting.torch_to_nnx(weights, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)


linen = titanic_linen.TitanicMLP()
template = linen.init(jax.random.key(SEED), x[:1])["params"]


def fresh_linen():
    params = porting.torch_to_linen(weights, template)
    return (TrainState.create(apply_fn=linen.apply, params=params, tx=adam),)


# %% [markdown]
# A rung is two functions: one that sets up (not timed) and one that trains and returns the loss of every
# step. Batches come from torch's loader, told to use our order, or from tables that are in memory already.

# %%
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


# %% [markdown]
# ## PyTorch's rungs
#
# Eager with the loader, as in 01a; tables in memory; Adam fused into one kernel; forward and backward through
# `torch.compile` (Inductor, where there is a C++ compiler).

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


# %% [markdown]
# ## JAX, one step per call
#
# Un-jitted, and `nnx.jit` as in 01b. Then the tables move to the device for good and only 32 row numbers
# travel:

# %%
def rows_step(model, optimizer, x, y, rows):
    return titanic_nnx.train_step(model, optimizer, x[rows], y[rows])


nnx_step, nnx_rows_step = nnx.jit(titanic_nnx.train_step), nnx.jit(rows_step)
rows_of_steps = [(x_device, y_device, rows) for rows in orders_host]
rungs |= {
    "nnx un-jitted + loader": (
        fresh_nnx, lambda m, o: run_objects(titanic_nnx.train_step, m, o, loader(numpy_collate)),
    ),
    "@nnx.jit + loader": (fresh_nnx, lambda m, o: run_objects(nnx_step, m, o, loader(numpy_collate))),
    "@nnx.jit": (fresh_nnx, lambda m, o: run_objects(nnx_rows_step, m, o, rows_of_steps)),
}  # fmt: skip


# %% [markdown]
# `nnx.jit` takes model and optimizer apart before each call and puts them together after it: *graph
# bookkeeping*. `nnx.cached_partial` does most of that once. Newer flax can skip it for models that are plain
# trees, with `nnx.jit(graph=False)`.

# %%
def cached(model, optimizer):
    step = nnx.cached_partial(nnx_rows_step, model, optimizer)
    return [step(*batch) for batch in rows_of_steps]


rungs["nnx.cached_partial"] = (fresh_nnx, cached)
try:
    tree_step = nnx.jit(rows_step, graph=False)
    rungs["nnx.jit(graph=False)"] = (fresh_nnx, lambda m, o: run_objects(tree_step, m, o, rows_of_steps))
except TypeError:
    print("this flax has no graph=False")


# %% [markdown]
# By hand: `nnx.split` once, before the loop. What goes in and out of `jax.jit` is then a pytree, like Linen's
# state.

# %%
def split_step(graphdef, state, x, y, rows):
    model, optimizer = nnx.merge(graphdef, state)
    loss = rows_step(model, optimizer, x, y, rows)
    return nnx.state((model, optimizer)), loss


graphdef, _ = nnx.split(fresh_nnx())
jit_split_step, linen_step = jax.jit(partial(split_step, graphdef)), jax.jit(titanic_linen.train_step)


def fresh_split():
    return (nnx.split(fresh_nnx())[1],)


rungs |= {
    "nnx split, jax.jit": (fresh_split, lambda s: run_state(jit_split_step, s, rows_of_steps)),
    "Linen, jax.jit + loader": (fresh_linen, lambda s: run_state(linen_step, s, loader(numpy_collate))),
}


# %% [markdown]
# ## JAX, all steps in one call
#
# Calling a compiled program costs tens of microseconds, the arithmetic of a step only a few. `lax.scan` puts
# the loop into the program:

# %%
def split_epochs(graphdef, state, x, y, orders):
    return jax.lax.scan(lambda state, rows: split_step(graphdef, state, x, y, rows), state, orders)


jit_epochs = jax.jit(partial(split_epochs, graphdef))
rungs["one scan"] = (fresh_split, lambda s: jit_epochs(s, x_device, y_device, orders)[1])


# %% [markdown]
# And the shuffling too. This function is all of training, from keys to weights, and knows nothing of any
# framework:

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


# %%
def split_loss(graphdef):
    def loss_fn(params, x, y):
        return titanic_nnx.loss_fn(nnx.merge(graphdef, params), x, y)

    return loss_fn


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
# The first call of each rung; we keep its time as well, compilation included.

# %%
losses, first = {}, {}
for name, (setup, run) in rungs.items():
    arguments, start = setup(), perf_counter()
    result = jax.block_until_ready(run(*arguments))
    first[name] = perf_counter() - start
    losses[name] = np.array([float(loss) for loss in result])
reference = losses["torch eager + loader"]
gaps = {name: float(np.abs(values - reference).max()) for name, values in losses.items()}
assert all(values.shape == reference.shape for values in losses.values()) and max(gaps.values()) < 5e-6
print(len(gaps), "rungs,", len(reference), "losses each: all within 5e-6 of torch eager  ok")

# %% [markdown]
# ## How fast?
#
# Three rounds through all rungs, interleaved so that a busy moment of the machine hits everybody; medians.

# %% tags=["nbval-ignore-output"] volatile="microseconds"
rounds = [{name: timing.seconds(run, *setup()) for name, (setup, run) in rungs.items()} for _ in range(3)]
speed = pd.DataFrame(rounds).median().to_frame("steady") / len(orders) * 1e6  # µs per step
speed["vs torch eager"] = speed.loc["torch eager + loader", "steady"] / speed["steady"]
speed["first call, s"] = pd.Series(first)
speed.rename(columns={"steady": "µs per step"}).round({"µs per step": 0, "vs torch eager": 2, "first call, s": 2})

# %% tags=["nbval-ignore-output"] volatile="microseconds, and an order that they decide"
step = speed["steady"].sort_values()
colors = ["tab:orange" if name.startswith("torch") else "tab:blue" for name in step.index]
plt.barh(step.index, step, color=colors)
plt.xscale("log"), plt.xlabel("µs per step, logarithmic (orange: PyTorch)")
plt.show()
print("slowest:", step.index[-1], " fastest:", step.index[0])
print(f"@nnx.jit against torch preloaded: {step['@nnx.jit'] / step['torch preloaded']:.1f} times the time")


# %% [markdown]
# Plain `@nnx.jit` is *slower* than PyTorch eager here. The article that this loop comes from reports 500
# epochs going from 6.25 to 1.8 minutes on a P100, 3.5 times, by that one decorator. That compares with
# un-jitted NNX, not with PyTorch.
#
# ## Where the time goes
#
# Differences between rungs are the parts of a step.

# %% tags=["nbval-ignore-output"] volatile="microseconds"
def per_step(function):
    return timing.measure(function).steady_s / len(orders) * 1e6


parts = {
    "building the derivative in Python": step["nnx un-jitted + loader"] - step["@nnx.jit + loader"],
    "graph bookkeeping": step["@nnx.jit"] - step["nnx split, jax.jit"],
    "dispatching one call": step["nnx split, jax.jit"] - step["one scan"],
    "loader and collate": per_step(lambda: list(loader(numpy_collate))),
    "arithmetic, shuffling included": step["one scan, shuffling inside"],
}
pd.Series(parts).round(1).to_frame("µs per step")

# %% [markdown]
# Arithmetic is the smallest part. A model this small is all overhead, and taking overhead away is what a
# compiler is good at. With a larger model the arithmetic grows, the rest stays, and the ratios shrink towards
# one.
#
# ## When does compiling pay?
#
# The first call of the whole run costs a compilation. It is worth it from so many epochs on:

# %% tags=["nbval-ignore-output"] volatile="a break-even made of seconds"
steps = len(orders) // EPOCHS
eager, compiled_step = step["torch eager + loader"] * 1e-6, step["one scan, shuffling inside"] * 1e-6
break_even = first["one scan, shuffling inside"] / (steps * (eager - compiled_step))
print(f"break-even with torch eager after {break_even:.0f} epochs")
print(f"500 epochs: torch eager {500 * steps * eager:.1f} s, one compiled run {500 * steps * compiled_step:.2f} s,")
print(f"            with its compilation {first['one scan, shuffling inside'] + 500 * steps * compiled_step:.2f} s")

# %% [markdown]
# JAX can keep compiled programs on disk: a second process then reads instead of compiling. Tracing is still
# done each time. And a compiled program says beforehand how much memory it takes beyond its arguments.

# %% tags=["nbval-ignore-output"] volatile="seconds"
(params,) = fresh_params()


def first_call():
    jax.clear_caches()  # what a new process starts with
    return timing.seconds(whole_run, params, keys)


without = first_call()
jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # by default only slow compilations are kept
writing, reading = first_call(), first_call()
jax.config.update("jax_enable_compilation_cache", False)
print(f"first call without cache {without:.2f} s, writing it {writing:.2f} s, reading it {reading:.2f} s")
memory = whole_run.lower(params, keys).compile().memory_analysis()
print(f"temporary memory of the whole run: {memory.temp_size_in_bytes / 1024:.0f} KiB")

# %% [markdown]
# ## The benchmark
#
# The same rungs over 500 epochs, on one core for both sides, medians of five interleaved rounds: `make bench` measures
# them, and this is the published result. The last two rows include compilation.

# %%
result = results.load("titanic_speed")
seconds = results.table(result, "one model, seconds per 500 epochs")[["median_s", "first_call_s"]]
print(results.measured_on(result))
seconds.assign(vs_torch=seconds["median_s"]["torch eager + DataLoader"] / seconds["median_s"]).round(2)


# %% [markdown]
# `course.train.compiled.fit` is `train_run` with its arguments checked: what would broadcast in silence, or
# be a NaN an hour later, is an error here.

# %%
def apply_fn(params, x):
    return linen.apply({"params": params}, x)


arguments = dict(params=template, optimizer=adam, x=x, y=y, key=keys[0], epochs=1)
for change in (dict(batch_size=32), dict(batch_size=0), dict(batch_size=27, y=y[:, None])):
    try:
        compiled.fit(apply_fn, **arguments | change)
    except ValueError as error:
        print("-", error)

# %% [markdown]
# ## Summary
#
# - Loader, dispatch and bookkeeping cost more than the arithmetic of a small model; each can be measured by a
#   difference of two rungs.
# - `nnx.split` once and `jax.jit` beat `nnx.jit`; `lax.scan` over steps and epochs beats everything.
# - Compiling has a price, paid at the first call. Say both numbers, and against what you compare.
#
# Next: [11 · ensembles](11_ensembles.ipynb): if one run is one function, what is `vmap` of it?
