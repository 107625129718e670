# %% [markdown]
# # 11 · Hundreds of models in one program
#
# **If a whole training run is one function, what is `vmap` of it?** (60 minutes)

# %% [markdown]
# After this lesson you can
#
# - train over seeds, folds and hyperparameters in one compiled program,
# - select on inner folds, score once on an untouched test split, and say what an ensemble adds,
# - move `pmap` code to `jit` and shardings, and train on several devices to the same numbers,
# - say what BatchNorm averages over when the batch lies on eight devices.

# %%
from time import perf_counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch import func

from course import metrics, plots, porting, timing
from course.data import Features, folds, labels, load_titanic, split
from course.failures import fails
from course.train import compiled, titanic_linen, titanic_torch

# %%
SEED, BATCH, EPOCHS, SEEDS = 0, 32, 40, 3
plots.use()
np.set_printoptions(precision=4, suppress=True)
torch.set_num_threads(1)
jax.config.update("jax_num_cpu_devices", 8)  # eight simulated devices for the last part; must come first

# %% [markdown]
# ## One run is a function
#
# Test passengers are set aside. The others are cut into five folds; each fold's features are fitted on its
# own training part. A *table* is a dict of features, labels and weights; the weights mark the padding.

# %%
train, valid, test = split(load_titanic(), SEED)
develop = pd.concat([train, valid])


def tables(frames, features):  # every fold the same number of rows: extra ones repeat the first, with weight 0
    size = max(len(frame) for frame in frames)
    rows = [np.arange(size) % len(frame) for frame in frames]
    weight = np.stack([np.arange(size) < len(frame) for frame in frames]).astype(np.float32)
    x = np.stack([f(frame)[r] for frame, f, r in zip(frames, features, rows, strict=True)])
    y = np.stack([labels(frame)[r] for frame, r in zip(frames, rows, strict=True)])
    return jax.tree.map(jnp.asarray, {"x": x, "y": y, "weight": weight})


inner, outer = zip(*folds(develop, SEED), strict=True)
fitted = [Features.fit(frame) for frame in inner]
cuts = {"train": tables(inner, fitted), "valid": tables(outer, fitted)}
print({part: table["x"].shape for part, table in cuts.items()}, " test", len(test))

# %% [markdown]
# A run goes from a key to weights, by `train_run` of lesson [10](10_jit_speed.ipynb). Learning rate and weight decay
# are *arguments*: numbers that the program receives, so one program serves all of them.
#
# Note how few arguments there are. `vmap` asks for an axis of each, and a dict counts as one: what is mapped together
# belongs into one tree. With nine positional arguments, `in_axes` would be nine entries to miscount.

# %%
model, traced = titanic_linen.TitanicMLP(), []


def loss_fn(params, x, labels_and_weight):
    y, weight = labels_and_weight[:, 0], labels_and_weight[:, 1]
    losses = optax.sigmoid_binary_cross_entropy(model.apply({"params": params}, x), y)
    return (weight * losses).sum() / weight.sum()


def run(key, setting, table, batch_size=BATCH):
    traced.append("run")
    init_key, order_key = jax.random.split(key)
    params = model.init(init_key, table["x"][:1])["params"]
    adam = optax.adamw(setting["rate"], weight_decay=setting["decay"])
    keys, y = jax.random.split(order_key, EPOCHS), jnp.stack([table["y"], table["weight"]], axis=1)
    return compiled.train_run(loss_fn, adam, params, table["x"], y, keys, batch_size)[0]


def validate(key, setting, cut):
    params, table = run(key, setting, cut["train"]), cut["valid"]
    return loss_fn(params, table["x"], jnp.stack([table["y"], table["weight"]], axis=1))


# %% [markdown]
# ## `vmap` of a run
#
# Three axes: 64 settings, five folds, three seeds. Each `vmap` says which argument varies along its axis. That is the
# whole search.
#
# **Predict.** `run` notes each time that Python executes it. There are 64 · 5 · 3 models to train, in 40 epochs each.
# How many notes will there be?

# %%
rates, decays = np.geomspace(1e-4, 3e-2, 8), np.geomspace(1e-2, 30.0, 8)
grid = np.stack(np.meshgrid(rates, decays, indexing="ij"), axis=-1).reshape(-1, 2)  # (64, 2)
settings = {"rate": jnp.asarray(grid[:, 0]), "decay": jnp.asarray(grid[:, 1])}
keys = jax.random.split(jax.random.key(SEED), SEEDS)

over_seeds = jax.vmap(validate, in_axes=(0, None, None))
over_folds = jax.vmap(over_seeds, in_axes=(None, None, 0))
over_settings = jax.vmap(over_folds, in_axes=(None, 0, None))

program = jax.jit(over_settings).lower(keys, settings, cuts).compile()  # apart, so as to time the search alone
start = perf_counter()
losses = jax.block_until_ready(program(keys, settings, cuts))  # (64, 5, 3)
mapped = perf_counter() - start
print("validation losses:", losses.shape, "=", losses.size, "models; all finite:", bool(jnp.isfinite(losses).all()))
print("run was executed by Python:", len(traced), "time(s)")

# %% [markdown]
# Once: three `vmap`s and a `jit` are one trace and one compilation. What can be mapped is what the program receives
# as a number. What decides a *shape* can't, such as the batch size or a layer's width:

# %%
one = jax.tree.map(lambda leaf: leaf[0], {"setting": settings, "table": cuts["train"]})  # the first of each
with fails(TypeError, lines=3):
    jax.vmap(lambda width: titanic_linen.TitanicMLP(width).init(keys[0], one["table"]["x"]))(jnp.array([16, 64]))

# %% [markdown]
# *Shapes must be … concrete values* means: a traced number stands where a shape is asked for. `VmapTracer` says who
# traced it. Such settings need a Python loop, one compilation each, or one size for all with the surplus masked to
# zero.
#
# What did the search take, beside one compiled run after the other, and beside PyTorch eager (one epoch timed, the
# rest extrapolated)?

# %% tags=["nbval-ignore-output"] volatile="seconds"
alone = timing.measure(jax.jit(run), keys[0], one["setting"], one["table"])

theirs = titanic_torch.TitanicMLP()
adam = torch.optim.AdamW(theirs.parameters(), 1e-3)
x_torch, y_torch = (torch.tensor(np.array(one["table"][name])) for name in ("x", "y"))
batches = [(x_torch[i : i + BATCH], y_torch[i : i + BATCH]) for i in range(0, len(x_torch) - BATCH + 1, BATCH)]
epoch = timing.measure(lambda: [titanic_torch.train_step(theirs, adam, *batch) for batch in batches])
in_a_row = losses.size * alone.steady_s
print(f"{losses.size} models: mapped {mapped:.1f} s, compiled runs in a row about {in_a_row:.1f} s,")
print(f"PyTorch eager in a row about {losses.size * EPOCHS * epoch.steady_s:.0f} s")

# %% [markdown]
# What `vmap` gives for certain is one program and one compilation. On a CPU don't count on more: a compiled run is
# hardly more than its arithmetic, and mapped runs can at best use a core that is free; where none is, they may well be
# the slower ones. (On hardware that one small model leaves idle, mapping can fill it.) The gain over eager PyTorch is
# lesson [10](10_jit_speed.ipynb)'s, once more.
#
# PyTorch can map too: `torch.func.stack_module_state` stacks the weights of several modules,
# `torch.func.vmap` maps over them. The gradients of five models in one call, both ways, same weights:

# %%
torch.manual_seed(SEED)
modules = [titanic_torch.TitanicMLP() for _ in range(5)]
stacked, _ = func.stack_module_state(modules)
batch_x, batch_y = (np.array(one["table"][name][:BATCH]) for name in ("x", "y"))


def loss_torch(params, x, y):
    return titanic_torch.loss_fn(lambda x: func.functional_call(modules[0], params, (x,)), x, y)


grads_torch = func.vmap(func.grad(loss_torch), in_dims=(0, None, None))(
    stacked, torch.from_numpy(batch_x), torch.from_numpy(batch_y)
)

template = model.init(keys[0], batch_x)["params"]
params = jax.tree.map(lambda *w: jnp.stack(w), *(porting.torch_to_linen(m, template) for m in modules))
grads = jax.vmap(jax.grad(titanic_linen.loss_fn), in_axes=(0, None, None, None))(params, model.apply, batch_x, batch_y)
ours, theirs = grads["out"]["bias"][:, 0], grads_torch["out.bias"][:, 0].detach().numpy()
print("gradient of the last bias, JAX  ", ours.round(4))
print("                           torch", theirs.round(4))
gap = np.abs(np.swapaxes(grads["hidden"]["kernel"], 1, 2) - grads_torch["hidden.weight"].detach().numpy()).max()
print("gap of all hidden weights below 1e-6:", bool(gap < 1e-6))

# %% [markdown]
# ## Select inside, score once
#
# The mean over folds and seeds picks the setting. The test passengers have no say in it.

# %% alt="A heat map of mean validation loss over eight learning rates and eight weight decays. It is low in a broad middle, higher for the smallest rate and for large rates with little decay, highest for the largest decay. A star marks the lowest loss, at rate 3e-03 and decay 1."
score = np.asarray(losses.mean(axis=(1, 2)))  # (64,)
best = {name: values[score.argmin()] for name, values in settings.items()}
figure, axis = plots.panels(1, height=3.6)
edges, clip = np.arange(9), np.quantile(score, 0.9)
image = axis.pcolormesh(edges, edges, score.reshape(8, 8), cmap="viridis_r", vmax=clip)
figure.colorbar(image, label="mean validation loss (clipped)")
axis.plot(score.argmin() % 8 + 0.5, score.argmin() // 8 + 0.5, "*", color="black", markersize=16)
axis.set_xticks(np.arange(8) + 0.5, [f"{decay:.2g}" for decay in decays])
axis.set_yticks(np.arange(8) + 0.5, [f"{rate:.0e}" for rate in rates])
axis.set(xlabel="weight decay", ylabel="learning rate")
axis.grid(False)
plt.show()
print(f"chosen: learning rate {best['rate']:.0e}, weight decay {best['decay']:.1g}")

# %% [markdown]
# With that setting, twenty seeds on all passengers but the test ones, again in one call. The ensemble
# averages probabilities.

# %%
features = Features.fit(develop)
everybody = {"x": jnp.asarray(features(develop)), "y": jnp.asarray(labels(develop))}
everybody["weight"] = jnp.ones_like(everybody["y"])
x_test, y_test = features(test), labels(test)

train_all = jax.jit(jax.vmap(run, in_axes=(0, None, None)))
members = train_all(jax.random.split(jax.random.key(SEED + 1), 20), best, everybody)
logits = jax.vmap(lambda params: model.apply({"params": params}, x_test))(members)  # (20, 262)
single = np.array([metrics.accuracy(member, y_test) for member in logits])
together = np.asarray(jax.nn.sigmoid(logits).mean(axis=0))  # (262,)
print("weights of the members:", jax.tree.map(jnp.shape, members["hidden"]))

# %%
rows = {"gender rule": metrics.accuracy(metrics.gender_rule(test), y_test)}
for rival in (LogisticRegression(max_iter=1000), GradientBoostingClassifier(random_state=SEED)):
    decision = rival.fit(everybody["x"], everybody["y"]).decision_function(x_test)
    rows[type(rival).__name__] = metrics.accuracy(decision, y_test)
rows |= {"single network, mean of 20": single.mean(), "ensemble of 20": metrics.accuracy(together - 0.5, y_test)}
pd.Series(rows).round(2).to_frame("test accuracy")


# %%
def log_loss(probability):
    return float(-np.mean(np.log(np.where(y_test > 0.5, probability, 1 - probability))))


each = np.array([log_loss(np.asarray(member)) for member in jax.nn.sigmoid(logits)])
chance = (single.mean() * (1 - single.mean()) / len(y_test)) ** 0.5  # an accuracy's standard error
print(f"accuracy of a single network: {single.mean():.2f}, standard deviation over seeds {single.std():.2f},", end=" ")
print(f"standard error on {len(y_test)} passengers {chance:.2f}")
print(f"log loss: members' mean {each.mean():.3f}, best member {each.min():.3f}, ensemble {log_loss(together):.3f}")
assert log_loss(together) <= each.mean()

# %% [markdown]
# The ensemble's log loss is never above its members' mean: log loss is convex. Here the gain is small, and the best
# member is better still, but which one that is only the test labels told. In accuracy the five rows lie within two
# standard errors of each other, the gender rule included. An ensemble is cheap insurance against a bad seed, no
# miracle.
#
# ## Eight devices, the old way: `pmap`
#
# This process simulates eight CPU devices (the configuration cell asked for them). Code of a few years ago uses
# `jax.pmap` for them; since 0.8 it is only maintained. It is `vmap` with a device for each row, so *every* array
# needs a leading axis of eight: the batch cut into eight, and the weights copied eight times. Hand it what 01c's step
# takes, and it stops:

# %%
x_batch, y_batch = everybody["x"][:BATCH], everybody["y"][:BATCH]


def old_step(params, x, y):
    loss, grads = jax.value_and_grad(titanic_linen.loss_fn)(params, model.apply, x, y)
    grads, loss = jax.lax.pmean((grads, loss), "data")  # the mean over devices, by hand
    return jax.tree.map(lambda leaf, grad: leaf - 0.1 * grad, params, grads), loss


mapped_step = jax.pmap(old_step, axis_name="data")
copied = jax.tree.map(lambda leaf: jnp.stack([leaf] * 8), template)
with fails():
    mapped_step(copied, x_batch, y_batch)  # 32 rows are not 8
with fails():
    mapped_step(template, x_batch.reshape(8, 4, 15), y_batch.reshape(8, 4))  # the weights' axis is 15 or 64
with fails():
    x_batch[:30].reshape(8, -1, 15)  # a last batch of 30


# %% [markdown]
# All three say: axis 0 is not eight, or can't be cut into eight. The wording depends on the version. Search for *cannot
# select an axis to squeeze out* and *implies that array axis 0 is partitioned 8 times*; up to 0.7 it was *pmap got
# inconsistent sizes for array axes to be mapped*.
#
# **Predict.** With the shapes mended it runs. What if `pmean` is forgotten: an error, one wrong model, or something
# else?

# %%
def forgetful_step(params, x, y):
    grads = jax.grad(titanic_linen.loss_fn)(params, model.apply, x, y)
    return jax.tree.map(lambda leaf, grad: leaf - 0.1 * grad, params, grads)


parts = x_batch.reshape(8, 4, 15), y_batch.reshape(8, 4)
by_pmap, _ = mapped_step(copied, *parts)
forgotten = jax.pmap(forgetful_step)(copied, *parts)
print("pmean:    last bias on devices 0 to 3:", by_pmap["out"]["bias"][:4, 0])
print("forgotten:                            ", forgotten["out"]["bias"][:4, 0])

# %% [markdown]
# Eight models, each trained on four passengers, and no message. (PyTorch does the same where a process trains its model
# without the `DistributedDataParallel` around it.)
#
# ## The new way: say where arrays lie
#
# A *mesh* names the devices' arrangement. A *sharding* says how an array lies on it: the batch in eight parts along
# `"data"`, the weights on every device. The function keeps the shapes of one device.

# %%
mesh = Mesh(np.array(jax.devices()), ("data",))
spread, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
x_spread = jax.device_put(x_batch, spread)
weights = jax.device_put(template["hidden"]["kernel"], everywhere)
for name, array in {"batch": x_spread, "weights": weights}.items():
    print(f"{name:8} {array.shape} on {len(array.sharding.device_set)} devices, each with",
          array.addressable_shards[0].data.shape)  # fmt: skip

# %% alt="A mesh of eight devices in a row, called data. Above it a batch of 32 rows, cut into eight parts of four; an arrow takes each part to a device. Every device holds the weights. Below, arrows lead from all devices into one rounded box: all-reduce, the mean of the gradients."
diagram = plots.Diagram(height=3.0)
places = np.linspace(0.55, 7.45, 8)
diagram.function(4.0, 0.35, "all-reduce: the gradients' mean, back to every device", side="jax", width=7.6)
diagram.note(4.0, 2.85, 'a batch of 32 rows, P("data")')
for number, place in enumerate(places):
    part = diagram.array(place, 2.5, f"{4 * number}–{4 * number + 3}", width=0.95, side="jax")
    device = diagram.array(place, 1.45, f"device {number}\nweights", width=0.85, height=0.6)
    diagram.arrow(part, device)
    diagram.arrow(device, (place, 0.6))
plt.show()
print("rows on device 3:", x_spread.addressable_shards[3].index[0])

# %% [markdown]
# The step is now 01c's own, imported, not a line changed: `TrainState` in, `TrainState` out. What changed is outside:
# one `device_put` for the state, one for each batch. XLA sees where the arrays lie, splits the work, and puts in the
# *all-reduce* of the gradients that `DistributedDataParallel` does with hooks and a process for each device.

# %%
step = jax.jit(titanic_linen.train_step)


def fit(rule, place_batch, place_state, count):
    state = TrainState.create(apply_fn=model.apply, params=template, tx=rule)
    state, losses = jax.device_put(state, place_state), []
    for i in range(0, count * BATCH, BATCH):
        batch = jax.device_put((everybody["x"][i : i + BATCH], everybody["y"][i : i + BATCH]), place_batch)
        state, loss = step(state, *batch)
        losses.append(float(loss))
    return state, np.array(losses)


one_device = jax.devices()[0]
after_sgd, _ = fit(optax.sgd(0.1), spread, everywhere, 1)
print("last bias after one step of SGD: sharded", after_sgd.params["out"]["bias"], " pmap", by_pmap["out"]["bias"][0])
adam = optax.adam(1e-3)
(_, on_one), (state, on_eight) = fit(adam, one_device, one_device, 20), fit(adam, spread, everywhere, 20)
for name, losses_of in {"one device": on_one, "eight": on_eight}.items():
    print(f"Adam, losses of steps 1, 10, 20, {name:10}", losses_of[[0, 9, 19]].round(4))
print("gap of all twenty below 1e-6:", bool(np.abs(on_one - on_eight).max() < 1e-6))

# %%
program = step.lower(state, *jax.device_put((x_batch, y_batch), spread)).compile().as_text()
print("all-reduce in the compiled program:", "all-reduce" in program)
print("weights on every device:", state.params["hidden"]["kernel"].sharding.is_fully_replicated)

# %% [markdown]
# Eight simulated devices on one processor are not faster; they are for trying the program that later runs on eight real
# ones. Two errors remain to be met:

# %%
with fails(ValueError):
    jax.device_put(x_batch[:30], spread)  # a last batch of 30
with fails(ValueError):
    step(jax.device_put(state, one_device), x_spread, jax.device_put(y_batch, spread))

# %% [markdown]
# *partitioned 8 times, but the dimension size is 30* (older: *should be divisible by 8*): drop or pad the last batch.
# *incompatible devices*: an array was left on one device; the message says which argument, and its `device ids`. The
# state needs its `device_put` too.
#
# ## BatchNorm on eight devices
#
# **Predict.** BatchNorm in training mode, four of the 32 rows on each device. Over how many rows does it average? Under
# `DistributedDataParallel` the answer is 4, and one converts to `SyncBatchNorm` for 32.

# %%
wide = np.array(x_batch[:, :3]) * np.arange(1, 33, dtype=np.float32)[:, None]  # rows that differ a lot
norm = nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(SEED))
sharded = nnx.jit(lambda norm, x: norm(x))(norm, jax.device_put(wide, spread))


def torch_norm(rows):
    module = torch.nn.BatchNorm1d(3)
    return module(torch.from_numpy(rows)).detach().numpy(), module.running_mean.numpy()


ways = {
    "JAX, sharded in 8": (np.asarray(sharded), norm.mean[...]),
    "torch, all 32 rows": torch_norm(wide),
    "torch, device 0's 4": torch_norm(wide[:4]),
}
for name, (out, mean) in ways.items():
    print(f"{name:20} first row {out[0].round(4)}  running mean {np.asarray(mean).round(4)}")
by_part = np.concatenate([torch_norm(part)[0] for part in np.split(wide, 8)])
gaps = [float(np.abs(sharded - out).max()) for out in (torch_norm(wide)[0], by_part)]
print(f"largest gap of the outputs to torch's 32 rows: below 1e-5: {gaps[0] < 1e-5}; to 8 times 4 rows: {gaps[1]:.1f}")

# %% [markdown]
# Over all 32. A program under `jit` means what it means on one device, wherever its arrays lie: a mean over the batch
# is the mean over the batch, and XLA puts in the communication. So BatchNorm over a sharded batch *is*
# `SyncBatchNorm`, by itself, and at its cost: the devices exchange sums in every BatchNorm.
#
# Under `pmap` the function sees one device's rows. There flax's BatchNorm is DDP's, unless it is told the name of the
# axis:

# %%
for axis_name in (None, "data"):
    layer = nn.BatchNorm(use_running_average=False, axis_name=axis_name)
    variables = nn.BatchNorm(use_running_average=False).init(keys[0], wide)
    apply = jax.pmap(lambda rows, f=layer, v=variables: f.apply(v, rows, mutable=["batch_stats"])[0], axis_name="data")
    print(f"pmap, axis_name={axis_name!s:5} first row {np.asarray(apply(wide.reshape(8, 4, 3)))[0, 0].round(4)}")

# %% [markdown]
# The numbers of torch's 4 rows, and of its 32.
#
# ## Summary
#
# - `vmap` of a training run trains many models in one program; hyperparameters that are arguments need no new
#   compilation, those that decide a shape do.
# - Bundle arguments: what is mapped together is one tree and one entry of `in_axes`.
# - Select on inner folds, score once. An ensemble never has a worse log loss than its members on average.
# - `pmap` wants a leading axis of devices and a `pmean`; `jit` with shardings wants a `device_put`, and the step stays.
#   Every mean over the batch, BatchNorm's too, is over the whole batch.
#
# ## Further reading
#
# - [Introduction to parallel programming](https://docs.jax.dev/en/latest/sharded-computation.html): meshes, shardings,
#   and what the compiler does with them
# - [Migrating to the new jax.pmap](https://docs.jax.dev/en/latest/migrate_pmap.html): what changed in 0.8, error by
#   error
# - [SyncBatchNorm](https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html): PyTorch's conversion
# - [Model ensembling](https://docs.pytorch.org/tutorials/intermediate/ensembling.html): `stack_module_state` and
#   `torch.func.vmap`
# - [Deep Ensembles](https://arxiv.org/abs/1612.01474): Lakshminarayanan et al., what averaging over seeds gives at
#   scale
#
# Exercises: [your turn](exercises/11_ensembles.ipynb).
#
# Next: [12 · The tracing paper, rebuilt](12_tracing_paper.ipynb).
