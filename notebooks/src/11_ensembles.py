# %% [markdown]
# # 11 · Hundreds of models in one program
#
# **If a whole training run is one function, what is `vmap` of it?** (30 minutes)

# %% [markdown]
# After this lesson you can
#
# - train over seeds, folds and hyperparameters in one compiled program,
# - select on inner folds, score once on an untouched test split, and say what an ensemble adds,
# - spread the same training over several devices, to the same loss.

# %%
from time import perf_counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch import func

from course import metrics, porting, timing
from course.data import Features, folds, labels, load_titanic, split
from course.train import compiled, titanic_linen, titanic_torch

# %%
SEED, BATCH, EPOCHS, SEEDS = 0, 32, 40, 3
plt.rcParams["figure.figsize"], plt.rcParams["figure.dpi"] = (5, 3.4), 80
torch.set_num_threads(1)
jax.config.update("jax_num_cpu_devices", 8)  # eight simulated devices for the last part; must come first

# %% [markdown]
# ## One run is a function
#
# Test passengers are set aside. The others are cut into five folds; each fold's features are fitted on its
# own training part.

# %%
train, valid, test = split(load_titanic(), SEED)
develop = pd.concat([train, valid])


def rectangle(frames, features):  # every fold the same number of rows: extra ones repeat the first, with weight 0
    size = max(len(frame) for frame in frames)
    rows = [np.arange(size) % len(frame) for frame in frames]
    weight = np.stack([np.arange(size) < len(frame) for frame in frames]).astype(np.float32)
    x = np.stack([f(frame)[r] for frame, f, r in zip(frames, features, rows, strict=True)])
    y = np.stack([labels(frame)[r] for frame, r in zip(frames, rows, strict=True)])
    return jnp.asarray(x), jnp.asarray(y), jnp.asarray(weight)


inner, outer = zip(*folds(develop, SEED), strict=True)
fitted = [Features.fit(frame) for frame in inner]
x_inner, y_inner, w_inner = rectangle(inner, fitted)
x_outer, y_outer, w_outer = rectangle(outer, fitted)
print("training parts", x_inner.shape, " validation parts", x_outer.shape, " test", len(test))

# %% [markdown]
# A run, from a key to a validation loss: `train_run` of lesson 10, with learning rate and weight decay as
# *arguments*. They are numbers that the program receives, so one program serves all of them. The weights mark
# the padding.

# %%
model = titanic_linen.TitanicMLP()


def loss_fn(params, x, labels_and_weight):
    y, weight = labels_and_weight[:, 0], labels_and_weight[:, 1]
    losses = optax.sigmoid_binary_cross_entropy(model.apply({"params": params}, x), y)
    return (weight * losses).sum() / weight.sum()


def run(key, rate, decay, x, y, weight):
    init_key, order_key = jax.random.split(key)
    params = model.init(init_key, x[:1])["params"]
    adam = optax.adamw(rate, weight_decay=decay)
    keys = jax.random.split(order_key, EPOCHS)
    params, _ = compiled.train_run(loss_fn, adam, params, x, jnp.stack([y, weight], axis=1), keys, BATCH)
    return params


def validate(key, rate, decay, x, y, weight, x_out, y_out, w_out):
    params = run(key, rate, decay, x, y, weight)
    return loss_fn(params, x_out, jnp.stack([y_out, w_out], axis=1))


# %% [markdown]
# ## `vmap` of a run
#
# Three axes: 64 settings, five folds, three seeds. Each `vmap` says which arguments vary along its axis. That
# is the whole search: one function, one compilation.

# %%
rates, decays = np.geomspace(1e-4, 3e-2, 8), np.geomspace(1e-2, 30.0, 8)
settings = np.stack(np.meshgrid(rates, decays, indexing="ij"), axis=-1).reshape(-1, 2)  # (64, 2)
keys = jax.random.split(jax.random.key(SEED), SEEDS)

over_seeds = jax.vmap(validate, in_axes=(0, None, None, None, None, None, None, None, None))
over_folds = jax.vmap(over_seeds, in_axes=(None, None, None, 0, 0, 0, 0, 0, 0))
over_settings = jax.vmap(over_folds, in_axes=(None, 0, 0, None, None, None, None, None, None))


@jax.jit
def search(keys, settings):
    tables = (x_inner, y_inner, w_inner, x_outer, y_outer, w_outer)
    return over_settings(keys, settings[:, 0], settings[:, 1], *tables)


program = search.lower(keys, settings).compile()  # ahead of time, so that the next line times the search alone
start = perf_counter()
losses = jax.block_until_ready(program(keys, settings))  # (64, 5, 3)
mapped = perf_counter() - start
print("validation losses:", losses.shape, "=", losses.size, "models; all finite:", bool(jnp.isfinite(losses).all()))

# %% [markdown]
# What did that take, beside one compiled run after the other, and beside PyTorch eager (one epoch timed, the
# rest extrapolated)?

# %% tags=["nbval-ignore-output"] volatile="seconds"
alone = timing.measure(jax.jit(run), keys[0], 1e-3, 1e-2, x_inner[0], y_inner[0], w_inner[0])

theirs = titanic_torch.TitanicMLP()
adam = torch.optim.AdamW(theirs.parameters(), 1e-3)
x_torch, y_torch = torch.tensor(np.array(x_inner[0])), torch.tensor(np.array(y_inner[0]))
batches = [(x_torch[i : i + BATCH], y_torch[i : i + BATCH]) for i in range(0, len(x_torch) - BATCH + 1, BATCH)]
epoch = timing.measure(lambda: [titanic_torch.train_step(theirs, adam, *batch) for batch in batches])
in_a_row = losses.size * alone.steady_s
print(f"{losses.size} models: mapped {mapped:.1f} s, compiled runs in a row about {in_a_row:.1f} s,")
print(f"PyTorch eager in a row about {losses.size * EPOCHS * epoch.steady_s:.0f} s")

# %% [markdown]
# On a CPU, mapped and in a row take about the same time: a compiled run is hardly more than its arithmetic,
# and a core that is busy can't do more. What `vmap` gives here is one program and one compilation. The gain
# over eager PyTorch is lesson 10's, once more. (On hardware that one small model leaves idle, mapping fills
# it.)
#
# PyTorch can map too: `torch.func.stack_module_state` stacks the weights of several modules,
# `torch.func.vmap` maps over them. The gradients of five models in one call, both ways, same weights:

# %%
modules = [titanic_torch.TitanicMLP() for _ in range(5)]
stacked, _ = func.stack_module_state(modules)
batch_x, batch_y = (np.array(a[0, :BATCH]) for a in (x_inner, y_inner))


def loss_torch(params, x, y):
    return titanic_torch.loss_fn(lambda x: func.functional_call(modules[0], params, (x,)), x, y)


grads_torch = func.vmap(func.grad(loss_torch), in_dims=(0, None, None))(
    stacked, torch.from_numpy(batch_x), torch.from_numpy(batch_y)
)

template = model.init(keys[0], batch_x)["params"]
params = jax.tree.map(lambda *w: jnp.stack(w), *(porting.torch_to_linen(m, template) for m in modules))
grads = jax.vmap(jax.grad(titanic_linen.loss_fn), in_axes=(0, None, None, None))(params, model.apply, batch_x, batch_y)
gap = np.abs(np.swapaxes(grads["hidden"]["kernel"], 1, 2) - grads_torch["hidden.weight"].detach().numpy()).max()
assert gap < 1e-6
print("gradients of five models at once, JAX = torch within 1e-6  ok")

# %% [markdown]
# ## Select inside, score once
#
# The mean over folds and seeds picks the setting. The test passengers have no say in it.

# %%
score = np.asarray(losses.mean(axis=(1, 2)))  # (64,)
best_rate, best_decay = settings[score.argmin()]
plt.pcolormesh(np.arange(9), np.arange(9), score.reshape(8, 8), cmap="viridis_r", vmax=np.quantile(score, 0.9))
plt.colorbar(label="mean validation loss (clipped)")
column, row = np.argmin(score) % 8, np.argmin(score) // 8
plt.plot(column + 0.5, row + 0.5, "r*", markersize=14)
plt.xticks(np.arange(8) + 0.5, [f"{d:.0e}" for d in decays], rotation=60), plt.xlabel("weight decay")
plt.yticks(np.arange(8) + 0.5, [f"{r:.0e}" for r in rates]), plt.ylabel("learning rate")
plt.show()
print(f"chosen: learning rate {best_rate:.0e}, weight decay {best_decay:.0e}")

# %% [markdown]
# With that setting, twenty seeds on all passengers but the test ones, again in one call. The ensemble
# averages probabilities.

# %%
features = Features.fit(develop)
x_all, y_all = jnp.asarray(features(develop)), jnp.asarray(labels(develop))
x_test, y_test = features(test), labels(test)

train_all = jax.jit(jax.vmap(run, in_axes=(0, None, None, None, None, None)))
seeds, weight = jax.random.split(jax.random.key(SEED + 1), 20), jnp.ones_like(y_all)
members = train_all(seeds, best_rate, best_decay, x_all, y_all, weight)
logits = jax.vmap(lambda params: model.apply({"params": params}, x_test))(members)  # (20, 262)
single = np.array([metrics.accuracy(member, y_test) for member in logits])
together = jax.nn.sigmoid(logits).mean(axis=0) - 0.5

# %%
rows = {"gender rule": metrics.accuracy(metrics.gender_rule(test), y_test)}
for rival in (LogisticRegression(max_iter=1000), GradientBoostingClassifier(random_state=SEED)):
    decision = rival.fit(x_all, y_all).decision_function(x_test)
    rows[type(rival).__name__] = metrics.accuracy(decision, y_test)
rows |= {"single network, mean of 20": single.mean(), "ensemble of 20": metrics.accuracy(together, y_test)}
pd.Series(rows).round(2).to_frame("test accuracy")


# %%
def log_loss(probability):
    return float(-np.mean(np.log(np.where(y_test > 0.5, probability, 1 - probability))))


ensemble = log_loss(np.asarray(together + 0.5))
alone = np.mean([log_loss(np.asarray(p)) for p in jax.nn.sigmoid(logits)])
assert ensemble <= alone
print("seeds move a single network's accuracy by about", f"{single.std():.2f} (sd)")
print("the ensemble's log loss is not above the mean of its members':", ensemble <= alone)

# %% [markdown]
# That inequality always holds: log loss is convex. The gain in accuracy is small here and inside the noise of
# 262 passengers. An ensemble is cheap insurance against a bad seed, no miracle.
#
# ## The same training on eight devices
#
# This process simulates eight CPU devices (the configuration cell asked for them). A *mesh* names their
# arrangement; a sharding says how an array lies on it: the batch in eight parts, the parameters on every
# device.

# %%
mesh = Mesh(np.array(jax.devices()), ("data",))
spread, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
steps = [(x_all[i : i + 32], y_all[i : i + 32]) for i in range(0, 32 * 20, 32)]
x_spread = jax.device_put(steps[0][0], spread)
part = x_spread.addressable_shards[0].data.shape
print(len(mesh.devices), "devices; a batch of", x_spread.shape, "lies in parts of", part)

# %% [markdown]
# The step is the one from 01c, unchanged. XLA sees where the arrays lie, splits the work, and puts in the
# `all-reduce` of the gradients that `DistributedDataParallel` does with hooks and one process per device.

# %%
adam = optax.adam(1e-3)


@jax.jit
def step(params, opt_state, x, y):
    loss, grads = jax.value_and_grad(titanic_linen.loss_fn)(params, model.apply, x, y)
    updates, opt_state = adam.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def train(place_batch, place_params):
    params = jax.device_put(template, place_params)
    opt_state, losses = jax.device_put(adam.init(template), place_params), []
    for batch in steps:
        params, opt_state, loss = step(params, opt_state, *jax.device_put(batch, place_batch))
        losses.append(float(loss))
    return params, losses


_, on_one = train(jax.devices()[0], jax.devices()[0])
params, on_eight = train(spread, everywhere)
assert np.allclose(on_one, on_eight, rtol=0, atol=1e-6)
print(len(steps), "steps on one device and on eight: losses equal within 1e-6  ok")

# %%
program = step.lower(params, adam.init(params), *jax.device_put(steps[0], spread)).compile().as_text()
print("all-reduce in the compiled program:", "all-reduce" in program)
print("parameters on every device:", params["hidden"]["kernel"].sharding.is_fully_replicated)

# %% [markdown]
# Eight simulated devices on one processor are not faster; they are for trying the program that later runs on
# eight real ones.
#
# ## Summary
#
# - `vmap` of a training run trains many models in one program; hyperparameters that are arguments need no new
#   compilation.
# - Select on inner folds, score once. An ensemble never has a worse log loss than its members on average.
# - Data parallelism is a statement about where arrays lie; the step does not change.
#
# Next: [12 · the tracing paper](12_tracing_paper.ipynb): the two experiments of the paper behind JAX,
# rebuilt.
