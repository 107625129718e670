# %% [markdown]
# # 01b · Who survives? The same program in Flax NNX
#
# **What must change when gradients are a return value and random keys an argument?** (25 minutes)

# %% [markdown]
# After this lesson you can
#
# - feed a JAX model from a torch `DataLoader`, and say what each conversion costs,
# - write model, optimizer and training step in Flax NNX,
# - compile the step with `@nnx.jit`, and say what that bought.
#
# Each step opens with the PyTorch lines of [01a](01a_titanic_torch.ipynb) that it replaces.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from flax import nnx
from tqdm import tqdm

from course import loaders, metrics, timing
from course.data import Features, find_kaggle, labels, load_titanic, split
from course.loaders import Passengers, make_loader

# %%
SEED, BATCH, EPOCHS, RATE = 0, 32, 40, 1e-3
TABLE = None  # None: the 1309 passengers that ship with the course; or a path to Kaggle's train.csv

plt.rcParams["figure.figsize"], plt.rcParams["figure.dpi"] = (6, 3), 80

# %% [markdown] tags=["step:data"]
# ## Step 1 · Data
#
# ```python
# loader = DataLoader(train_set, BATCH, shuffle=True, drop_last=True, generator=shuffle)
# x, y = next(iter(loader))
# ```
#
# JAX has no data loader of its own, so torch's `DataLoader` stays. What moves is the collate function: it
# must not make tensors.

# %%
passengers = load_titanic(TABLE)
train, valid, test = split(passengers, SEED)
features = Features.fit(train)  # medians, port and scales of the training passengers, as in 01a
rows = [Passengers(features(train), labels(train))[i] for i in range(BATCH)]
print(len(rows), "rows, each a", type(rows[0]).__name__, "of features", rows[0][0].shape, "and a label")

# validation and test become one batch each
x_valid, y_valid = jnp.asarray(features(valid)), jnp.asarray(labels(valid))
x_test, y_test = jnp.asarray(features(test)), jnp.asarray(labels(test))


# %%
def numpy_collate(samples):
    first = samples[0]
    if isinstance(first, dict):
        return {key: numpy_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(numpy_collate(column) for column in zip(*samples, strict=True))
    return np.array(samples)


# %%
loader = make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)
x, y = next(iter(loader))
print(type(x).__name__, x.shape, x.dtype, "and", y.shape, y.dtype)

x_torch, y_torch = next(iter(make_loader(features(train), labels(train), BATCH, SEED)))
assert np.array_equal(x, x_torch) and np.array_equal(y, y_torch)
print("same seed, same generator: the very batch that PyTorch got  ok")

# %% [markdown]
# From NumPy to a JAX array is one more step: `jnp.asarray` copies to the device. Keep it outside the loader,
# where you see it. This is what each piece costs for one batch:

# %% tags=["nbval-ignore-output"]
costs = {
    "torch's default collate": lambda: loaders.default_collate(rows),
    "numpy_collate": lambda: numpy_collate(rows),
    "jnp.asarray(x), jnp.asarray(y)": lambda: (jnp.asarray(x), jnp.asarray(y)),
    "jax_collate: both at once": lambda: loaders.jax_collate(rows),
}
for name, convert in costs.items():
    print(f"{name:32}{1e6 * timing.measure(convert, repeats=200).steady_s:6.0f} µs")


# %% [markdown]
# On NumPy rows, torch's own collate makes a tensor of every row first; `numpy_collate` does not, and is
# several times faster. The copy to the device costs more than the collate: a reason to do it once, for the
# whole table, when the data fit (lesson 07 does).

# %% [markdown] tags=["step:model"]
# ## Step 2 · Model
#
# ```python
# class TitanicMLP(nn.Module):
#     def __init__(self, features=15, width=64):
#         super().__init__()
#         self.hidden = nn.Linear(features, width)
#         self.out = nn.Linear(width, 1)
# ```
#
# `forward` becomes `__call__`, and whoever makes weights is handed the randomness: `rngs`.

# %%
class TitanicMLP(nnx.Module):
    def __init__(self, features=15, width=64, *, rngs):
        self.hidden = nnx.Linear(features, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.hidden(x))  # (B, width)
        return self.out(x).squeeze(-1)  # (B,)


# %% [markdown] tags=["step:init"]
# ## Step 3 · Instantiation and initial weights
#
# ```python
# torch.manual_seed(SEED)
# model = TitanicMLP()
# ```
#
# There is no global generator. `nnx.Rngs(SEED)` holds a key and hands out a fresh one a layer.

# %%
model = TitanicMLP(rngs=nnx.Rngs(SEED))
for path, weight in nnx.to_flat_state(nnx.state(model, nnx.Param)):
    print(f"{'.'.join(path):14} {weight.shape}")

# %% [markdown]
# A weight is called `kernel` and stored as (in, out), the transpose of torch's (out, in). And because the key
# is an argument, a draw in between can't change what you get:

# %%
jax.random.uniform(jax.random.key(SEED))  # one innocent draw in between
again = TitanicMLP(rngs=nnx.Rngs(SEED))
print("same seed, same weights:", bool((model.hidden.kernel[...] == again.hidden.kernel[...]).all()))

# %% [markdown] tags=["step:forward"]
# ## Step 4 · A forward pass
#
# ```python
# logits = model(x)
# ```
#
# The call looks the same. Nothing is recorded: a JAX array carries no graph.

# %%
logits = model(x)
print(logits.shape, "a jax.Array:", isinstance(logits, jax.Array), " recorded:", hasattr(logits, "grad_fn"))

# %% [markdown]
# The slip that raised an error in 01a. Here (32, 1) against (32,) broadcasts to (32, 32), and the mean of
# 1024 wrong terms looks like a loss. Hence the `squeeze(-1)` in the model. Optax returns one loss an example;
# the mean is yours to take.

# %%
wrong = optax.sigmoid_binary_cross_entropy(logits[:, None], jnp.asarray(y))
right = optax.sigmoid_binary_cross_entropy(logits, jnp.asarray(y))
print("no error, shape", wrong.shape, "instead of", right.shape)

# %% [markdown] tags=["step:optimizer"]
# ## Step 5 · Optimizer
#
# ```python
# optimizer = torch.optim.Adam(model.parameters(), RATE)
# ```
#
# Optax describes the rule; `nnx.Optimizer` keeps its state. `wrt` says which variables are trained. Tutorials
# from before 2025 leave it out:

# %%
try:
    nnx.Optimizer(model, optax.adam(RATE))
except TypeError as error:
    print(type(error).__name__, "without wrt")

adam = optax.adam(RATE)
optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
print("step", int(optimizer.step[...]))


# %% [markdown] tags=["step:grad"]
# ## Step 6 · Loss and gradients
#
# ```python
# loss = loss_fn(model, x, y)
# print("returned:", loss.backward())
# print("left in .grad:", tuple(model.out.weight.grad.shape))
# ```
#
# Gradients are now a return value, not an attribute. `nnx.value_and_grad` turns the loss function into one
# that returns both; the gradients come in the shape of the model's parameters. Nothing accumulates, so there is
# nothing to zero.

# %%
def loss_fn(model, x, y):
    logits = model(x)
    return optax.sigmoid_binary_cross_entropy(logits, y).mean()


loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
print("returned:", grads["out"]["kernel"].shape, " left on the model:", hasattr(model.out, "grad"))

_, again = nnx.value_and_grad(loss_fn)(model, x, y)
print("asked again, same gradients:", bool((again["out"]["kernel"][...] == grads["out"]["kernel"][...]).all()))


# %% [markdown] tags=["step:update"]
# ## Step 7 · Update
#
# ```python
#     optimizer.zero_grad()
#     loss = loss_fn(model, x, y)
#     loss.backward()
#     optimizer.step()
#     return loss.detach()
# ```
#
# Still in place, but the gradients are passed in: `optimizer.update(model, grads)`.

# %%
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)
    return loss


before = loss_fn(model, x, y)
train_step(model, optimizer, x, y)
print("loss on this batch went down:", bool(loss_fn(model, x, y) < before))


# %% [markdown] tags=["step:train"]
# ## Step 8 · The training loop
#
# ```python
#         losses = [step(model, optimizer, x, y) for x, y in loader]
# ```
#
# One thing is added: the conversion to device arrays.

# %%
def fit(model, optimizer, loader, valid, epochs, step):
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = [step(model, optimizer, jnp.asarray(x), jnp.asarray(y)) for x, y in loader]
        history.append((jnp.stack(losses).mean().item(), loss_fn(model, *valid).item()))
    return pd.DataFrame(history, columns=["train", "valid"])


# %% [markdown]
# Three epochs twice: with the step as it is, then with the same step under `@nnx.jit`. `jit` runs the function
# once with stand-ins for the arrays, compiles what they went through, and from then on runs the compiled
# program (lesson 05 looks inside).

# %%
@nnx.jit
def jit_step(model, optimizer, x, y):
    return train_step(model, optimizer, x, y)


def start():
    model = TitanicMLP(rngs=nnx.Rngs(SEED))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)  # one `adam`: a new one would compile again


def fresh_loader():
    return make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)


# %% tags=["nbval-ignore-output", "speed"]
valid_batch = (x_valid, y_valid)
unjitted = timing.seconds(fit, *start(), fresh_loader(), valid_batch, 3, train_step)
first = timing.seconds(fit, *start(), fresh_loader(), valid_batch, 3, jit_step)
jitted = timing.seconds(fit, *start(), fresh_loader(), valid_batch, 3, jit_step)
print(f"Flax NNX, un-jitted {1e3 * unjitted:6.0f} ms for 3 epochs")
print(f"Flax NNX, @nnx.jit  {1e3 * jitted:6.0f} ms, {unjitted / jitted:.0f}x; compiling first: {1e3 * first:.0f} ms")

# %% [markdown]
# Un-jitted JAX dispatches every small operation on its own and is slow: not a bug, but not how JAX is meant to
# run. Compiled, the step is far faster, yet slower than PyTorch eager in 01a: most of what remains is `nnx.jit`
# taking the objects apart and putting them together at every call. Lesson 07 measures that and removes
# it.
#
# The compiled loop computes the same losses. After that check, all epochs: run this notebook yourself and a
# progress bar shows how far it is.

# %%
slow = fit(*start(), fresh_loader(), valid_batch, 2, train_step)
fast = fit(*start(), fresh_loader(), valid_batch, 2, jit_step)
assert np.allclose(slow, fast, rtol=0, atol=1e-6)
print("un-jitted and jitted losses agree within 1e-6  ok")

# %%
model, optimizer = start()
history = fit(model, optimizer, fresh_loader(), valid_batch, EPOCHS, jit_step)
print("epochs:", len(history), " training loss fell:", history["train"].iloc[-1] < history["train"].iloc[0])

# %% [markdown] tags=["step:curves"]
# ## Step 9 · Learning curves
#
# ```python
# history.plot(xlabel="epoch", ylabel="mean loss", title="PyTorch")
# ```
#
# Losses are numbers by now: the same line, the same picture.

# %%
history.plot(xlabel="epoch", ylabel="mean loss", title="Flax NNX")
plt.show()
gap = history["valid"].iloc[-1] - history["train"].iloc[-1]
print("validation loss within 0.1 of training loss:", abs(gap) < 0.1)

# %% [markdown] tags=["step:evaluate"]
# ## Step 10 · Evaluation
#
# ```python
# with torch.no_grad():
#     test_logits = model(x_test)
# accuracy = metrics.accuracy(test_logits, y_test)
# ```
#
# No `no_grad()`: nothing was recorded unless you asked for a gradient.

# %%
test_logits = model(x_test)
accuracy = metrics.accuracy(test_logits, y_test)
print("test accuracy above the gender rule's 0.78:", accuracy > 0.78)
metrics.confusion(test_logits, y_test)


# %%
def fit_predict(train, test):
    features = Features.fit(train)
    model, optimizer = start()
    loader = make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)
    fit(model, optimizer, loader, valid_batch, EPOCHS, jit_step)
    return model(features(test))


# %%
table = metrics.baselines(passengers, SEED)
table.loc["NNX MLP"] = metrics.summary(metrics.cross_validate(fit_predict, passengers, SEED))
table.round(2)

# %% tags=["report"]
mlp, boosting = table.loc["NNX MLP"], table.loc["gradient boosting"]
assert mlp["accuracy"] >= 0.80 and mlp["accuracy"] >= boosting["accuracy"] - boosting["sd"]
print(f"accuracy {mlp['accuracy']:.2f} (5 folds), at least 0.80 and within one sd of boosting  ok")

# %% [markdown]
# On Kaggle, with the Titanic competition attached, this cell writes a submission. It trains on the
# competition's `train.csv` alone: our 1309 passengers include Kaggle's test passengers *with their labels*.

# %%
train_csv, test_csv = find_kaggle("train.csv"), find_kaggle("test.csv")
if train_csv and test_csv:
    unknown = load_titanic(test_csv, labelled=False)
    survived = (np.asarray(fit_predict(load_titanic(train_csv), unknown)) > 0).astype(int)
    answer = pd.DataFrame({"PassengerId": unknown["PassengerId"], "Survived": survived})
    answer.to_csv("submission.csv", index=False)
    print("wrote submission.csv:", len(answer), "rows")
else:
    print("no competition data mounted: no submission written")

# %% [markdown]
# ## Summary
#
# - Gradients are returned, not stored; nothing accumulates, nothing needs zeroing.
# - Random keys are arguments: the same key gives the same weights, whatever happened before.
# - `@nnx.jit` changes the speed, not the numbers. A shape slip that PyTorch refuses may broadcast in silence.
#
# Next: [01c · the same program in Flax Linen](01c_titanic_linen.ipynb), where the model owns no weights at all.
