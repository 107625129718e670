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

from torch.utils.data import default_collate

from course import metrics, timing
from course.data import Features, find_kaggle, labels, load_titanic, split
from course.loaders import Passengers, jax_collate, make_loader

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

# %% tags=["nbval-ignore-output"] volatile="microseconds"
costs = {
    "torch's default_collate": lambda: default_collate(rows),
    "numpy_collate": lambda: numpy_collate(rows),
    "jnp.asarray(x), jnp.asarray(y)": lambda: (jnp.asarray(x), jnp.asarray(y)),
    "jax_collate: the last two in one": lambda: jax_collate(rows),
}
for name, convert in costs.items():
    print(f"{name:34}{1e6 * timing.measure(convert, repeats=200).steady_s:6.0f} µs")


# %% [markdown]
# On NumPy rows, torch's own collate makes a tensor of every row first; `numpy_collate` does not, and is
# several times faster. The copy to the device costs more than the collate: a reason to do it once, for the
# whole table, when the data fit ([10](10_jit_speed.ipynb) does).

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
#
# What `nn.Parameter` is to a tensor, `nnx.Param` is to a JAX array: a box with a role. `model.hidden.kernel`
# is such a box, `model.hidden.kernel[...]` the array in it, and `nnx.state(model, nnx.Param)` collects all of
# them, as `named_parameters()` does.

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
# There is no global generator. `nnx.Rngs(SEED)` holds a key and a counter, and hands out a fresh key for
# every weight.

# %%
model = TitanicMLP(rngs=nnx.Rngs(SEED))
for path, weight in nnx.to_flat_state(nnx.state(model, nnx.Param)):
    print(f"{'.'.join(path):14} {weight.shape}")


# %% [markdown]
# A weight is called `kernel` and stored as (in, out), the transpose of torch's (out, in). A draw somewhere
# else can't change what you get. A draw from the same `Rngs` object does: the counter is state, and you hold
# it.

# %%
def same_weights(a, b):
    return bool((a.hidden.kernel[...] == b.hidden.kernel[...]).all())


jax.random.uniform(jax.random.key(SEED))  # one innocent draw in between
print("same seed, same weights:", same_weights(model, TitanicMLP(rngs=nnx.Rngs(SEED))))

rngs = nnx.Rngs(SEED)
rngs.params()  # a draw from the Rngs object that the model will use
print("after a draw from the same Rngs:", same_weights(model, TitanicMLP(rngs=rngs)))

# %% [markdown] tags=["step:forward"]
# ## Step 4 · A forward pass
#
# ```python
# logits = model(x)
# ```
#
# The call looks the same, and takes the NumPy batch as it is. The result carries no graph: whoever wants a
# gradient asks for it, in step 6.

# %%
logits = model(x)
print(logits.shape, "a jax.Array:", isinstance(logits, jax.Array))

# %% [markdown]
# The slip that raised an error in 01a. Here (32, 1) against (32,) broadcasts to (32, 32), and the mean of all
# these wrong terms looks like a loss. Hence the `squeeze(-1)` in the model. Optax returns one loss per
# example; the mean is yours to take.

# %% tags=["trap:broadcast-labels"]
wrong = optax.sigmoid_binary_cross_entropy(logits[:, None], jnp.asarray(y))
right = optax.sigmoid_binary_cross_entropy(logits, jnp.asarray(y))
print("no error, but shape", wrong.shape, "instead of", right.shape)
print(f"mean {wrong.mean():.2f} instead of {right.mean():.2f}")

# %% [markdown] tags=["step:optimizer"]
# ## Step 5 · Optimizer
#
# ```python
# optimizer = torch.optim.Adam(model.parameters(), RATE)
# ```
#
# Optax describes the rule; `nnx.Optimizer` keeps its state. `wrt` says which variables are trained. Code for
# flax before 0.11 leaves it out, and calls `optimizer.update(grads)` without the model:

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
# that returns both; the gradients come nested like the model's parameters. Nothing accumulates, so there is
# nothing to zero.

# %%
def loss_fn(model, x, y):
    logits = model(x)
    return optax.sigmoid_binary_cross_entropy(logits, y).mean()


loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
print("returned:", grads["out"]["kernel"].shape)

_, grads_again = nnx.value_and_grad(loss_fn)(model, x, y)
print("asked again, same:", bool((grads_again["out"]["kernel"][...] == grads["out"]["kernel"][...]).all()))


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
# One thing is added: the conversion to device arrays, written out so that you see it.

# %%
def fit(model, optimizer, loader, epochs, valid=None, step=train_step):
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = [step(model, optimizer, jnp.asarray(x), jnp.asarray(y)) for x, y in loader]
        row = {"train": jnp.stack(losses).mean().item()}
        if valid is not None:
            row["valid"] = loss_fn(model, *valid).item()
        history.append(row)
    return pd.DataFrame(history)


# %% [markdown]
# Three epochs twice: with the step as it is, then with the same step under `nnx.jit` (used here as a
# function; it is the same as writing `@nnx.jit` above the step). `jit` runs the function once with stand-ins
# for the arrays, compiles what they went through, and from then on runs the compiled program
# ([08](08_tracing.ipynb)). Once per shape: a batch of another size is compiled again. Hence `drop_last`: full
# batches only, and the few passengers left over sit out that epoch.

# %%
jit_step = nnx.jit(train_step)


def start():
    model = TitanicMLP(rngs=nnx.Rngs(SEED))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)  # one `adam`: a new one would compile again


def fresh_loader():
    return make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)


# %% tags=["nbval-ignore-output", "speed"] volatile="milliseconds"
slow = timing.measure(fit, *start(), fresh_loader(), 3, None, train_step, repeats=3)
fast = timing.measure(fit, *start(), fresh_loader(), 3, None, jit_step)
ratio, compiling = slow.steady_s / fast.steady_s, 1e3 * fast.first_s
print(f"Flax NNX, un-jitted {1e3 * slow.steady_s:6.0f} ms for 3 epochs")
print(f"Flax NNX, @nnx.jit  {1e3 * fast.steady_s:6.0f} ms, {ratio:.0f}x; first run, compiling: {compiling:.0f} ms")

# %% [markdown]
# Un-jitted, JAX builds the derivative anew in Python at every step; running its operations is the small part.
# That is no bug, but no way to train. Compiled, the step is far faster, yet slower than PyTorch eager in 01a:
# most of what remains is `nnx.jit` taking the objects apart and putting them together at every call.
# [10](10_jit_speed.ipynb) takes both apart with a clock.
#
# The compiled loop computes the same losses. After that check, all epochs: run this notebook yourself and a
# progress bar shows how far it is.

# %%
slow = fit(*start(), fresh_loader(), 2, step=train_step)
fast = fit(*start(), fresh_loader(), 2, step=jit_step)
assert np.allclose(slow, fast, rtol=0, atol=1e-6)
print("un-jitted and jitted losses agree within 1e-6  ok")

# %%
model, optimizer = start()
history = fit(model, optimizer, fresh_loader(), EPOCHS, valid=(x_valid, y_valid), step=jit_step)
print("epochs:", len(history), " training loss fell:", history["train"].iloc[-1] < history["train"].iloc[0])

# %% [markdown] tags=["step:curves"]
# ## Step 9 · Learning curves
#
# ```python
# history.plot(xlabel="epoch", ylabel="mean loss", title="PyTorch")
# ```
#
# The history is a table of Python floats, so the same line plots it.

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
# No `no_grad()`: nothing is recorded unless you ask for a gradient.

# %%
test_logits = model(x_test)
accuracy = metrics.accuracy(test_logits, y_test)
rule = metrics.accuracy(metrics.gender_rule(test), y_test)
print(f"network {accuracy:.2f}, the rule 'women survive, men don't' {rule:.2f}")
metrics.confusion(test_logits, y_test)


# %%
def fit_predict(train, test):
    features = Features.fit(train)
    model, optimizer = start()
    loader = make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)
    fit(model, optimizer, loader, EPOCHS, step=jit_step)
    return model(features(test))


# %%
table = metrics.baselines(passengers, SEED)
table.loc["NNX MLP"] = metrics.summary(metrics.cross_validate(fit_predict, passengers, SEED))
table.round(2)

# %% tags=["report"]
mlp, boosting = table.loc["NNX MLP"], table.loc["gradient boosting"]
assert mlp["accuracy"] >= 0.80 and mlp["accuracy"] >= boosting["accuracy"] - boosting["sd"]
print(f"accuracy {mlp['accuracy']:.2f} over 5 folds: at least 0.80, and within one sd of boosting  ok")

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
# - `@nnx.jit` changes the speed, not the numbers. A shape slip that PyTorch's loss refuses broadcasts in
#   silence.
#
# Next: [01c · the same program in Flax Linen](01c_titanic_linen.ipynb), where the model owns no weights at
# all.
