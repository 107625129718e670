# %% [markdown]
# # 01c · Who survives? The same program in Flax Linen
#
# **What must change when the model no longer owns its state?** (25 minutes)

# %% [markdown]
# After this lesson you can
#
# - read and write Linen modules, with `@nn.compact` and with `setup`,
# - keep parameters and optimizer state outside the model, in a `TrainState`,
# - say where you will still meet Linen.
#
# Each step opens with the PyTorch lines of [01a](01a_titanic_torch.ipynb) that it replaces.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from flax import errors
from flax import linen as nn
from flax.training.train_state import TrainState
from tqdm import tqdm

from course import metrics, timing
from course.batching import numpy_collate
from course.data import Features, labels, load_titanic, split
from course.loaders import make_loader

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
# As in [01b](01b_titanic_nnx.ipynb): torch's loader, our collate function, NumPy batches. Imputation is
# fitted on the training passengers alone.

# %%
passengers = load_titanic(TABLE)
train, valid, test = split(passengers, SEED)
features = Features.fit(train)
loader = make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)
x, y = next(iter(loader))
print(type(x).__name__, x.shape, x.dtype, "and", y.shape, y.dtype)

# %%
x_valid, y_valid = jnp.asarray(features(valid)), jnp.asarray(labels(valid))
x_test, y_test = jnp.asarray(features(test)), jnp.asarray(labels(test))


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
# A Linen module is a dataclass: its fields are the configuration, and it holds no arrays. Under `@nn.compact`
# the layers are declared where they are used; the input's size is not written anywhere.

# %%
class TitanicMLP(nn.Module):
    width: int = 64

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width, name="hidden")(x))  # (B, width)
        return nn.Dense(1, name="out")(x).squeeze(-1)  # (B,)


# %% [markdown]
# The other style looks like PyTorch's `__init__`: `setup` declares, `__call__` uses. Use it where several
# methods share layers.

# %%
class TitanicMLPSetup(nn.Module):
    width: int = 64

    def setup(self):
        self.hidden = nn.Dense(self.width)
        self.out = nn.Dense(1)

    def __call__(self, x):
        return self.out(nn.relu(self.hidden(x))).squeeze(-1)  # (B,)


# %% [markdown] tags=["step:init"]
# ## Step 3 · Instantiation and initial weights
#
# ```python
# torch.manual_seed(SEED)
# model = TitanicMLP()
# ```
#
# Two steps now. The model is a description; `init` runs it once on an example, with a key, and *returns* what
# it made: a dict with one entry per kind of variable. Here there is one kind, `"params"`; BatchNorm would add
# `"batch_stats"`.
#
# Nested dicts, tuples and lists of arrays are called *pytrees*. `jax.tree.map` applies a function to every
# array in one.

# %%
model = TitanicMLP()
params = model.init(jax.random.key(SEED), x)["params"]
jax.tree.map(jnp.shape, params)

# %%
other = TitanicMLPSetup().init(jax.random.key(SEED), x)["params"]
same = jax.tree.map(lambda a, b: bool((a == b).all()), params, other)
print("compact and setup give the same tree:", all(jax.tree.leaves(same)))

# %% [markdown] tags=["step:forward"]
# ## Step 4 · A forward pass
#
# ```python
# logits = model(x)
# ```
#
# The model has no weights to compute with:

# %%
try:
    model(x)
except errors.CallCompactUnboundModuleError as error:
    print(type(error).__name__)

# %% [markdown]
# `apply` takes them as an argument. Same parameters, same input, same output, always.

# %%
logits = model.apply({"params": params}, x)
print(logits.shape, "a jax.Array:", isinstance(logits, jax.Array))

# %% [markdown] tags=["step:optimizer"]
# ## Step 5 · Optimizer
#
# ```python
# optimizer = torch.optim.Adam(model.parameters(), RATE)
# ```
#
# Optax's optimizer is a pair of functions, `init` and `update`; its state, Adam's two moments, is one more
# pytree. `TrainState` bundles what training changes: parameters, optimizer state, step count. (`tx`, for
# "gradient transformation", is Optax's name for an optimizer.)

# %%
optimizer = optax.adam(RATE)
opt_state = optimizer.init(params)
print("first moment:", jax.tree.map(jnp.shape, opt_state[0].mu["out"]))

state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)
print("step", int(state.step))


# %% [markdown] tags=["step:grad"]
# ## Step 6 · Loss and gradients
#
# ```python
# loss = loss_fn(model, x, y)
# print("returned:", loss.backward())
# print("left in .grad:", tuple(model.out.weight.grad.shape))
# ```
#
# The loss becomes a function of the parameters, its first argument. That is what `jax.value_and_grad`
# differentiates, and the gradients are a tree like the parameters. Nothing was stored, nothing needs zeroing.

# %%
def loss_fn(params, apply_fn, x, y):
    logits = apply_fn({"params": params}, x)
    return optax.sigmoid_binary_cross_entropy(logits, y).mean()


loss, grads = jax.value_and_grad(loss_fn)(state.params, state.apply_fn, x, y)
print("returned:", grads["out"]["kernel"].shape)


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
# Nothing is overwritten: the step takes a state and returns the next one.

# %%
def train_step(state, x, y):
    loss, grads = jax.value_and_grad(loss_fn)(state.params, state.apply_fn, x, y)
    state = state.apply_gradients(grads=grads)
    return state, loss


updates, opt_state = optimizer.update(grads, opt_state, params)  # what apply_gradients does
by_hand = optax.apply_updates(params, updates)

after, loss = train_step(state, x, y)
print("steps:", int(state.step), "->", int(after.step))
print("by hand the same:", bool((by_hand["out"]["kernel"] == after.params["out"]["kernel"]).all()))
print("loss on this batch went down:", bool(loss_fn(after.params, model.apply, x, y) < loss))

# %% [markdown]
# The old state still holds the old weights. The slip to know: forget to rebind it, and training silently does
# nothing.

# %%
for _ in range(3):
    train_step(state, x, y)  # the result is dropped
print("steps after three dropped results:", int(state.step))


# %% [markdown] tags=["step:train"]
# ## Step 8 · The training loop
#
# ```python
#         losses = [step(model, optimizer, x, y) for x, y in loader]
# ```
#
# The state goes through the loop like a baton, so the loop returns it.

# %%
def fit(state, loader, epochs, valid=None, step=train_step):
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = []
        for x, y in loader:
            state, loss = step(state, jnp.asarray(x), jnp.asarray(y))
            losses.append(loss)
        row = {"train": jnp.stack(losses).mean().item()}
        if valid is not None:
            row["valid"] = loss_fn(state.params, state.apply_fn, *valid).item()
        history.append(row)
    return state, pd.DataFrame(history)


# %% [markdown]
# Three epochs un-jitted, then the same loop with `jax.jit`, JAX's own: `TrainState` is a pytree, so `jit`
# takes it as it is. Then a check that both compute the same, and all epochs, under a progress bar if you run
# this yourself.

# %%
jit_step = jax.jit(train_step)


def start():
    params = model.init(jax.random.key(SEED), x)["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)


def fresh_loader():
    return make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)


# %% tags=["nbval-ignore-output", "speed"] volatile="milliseconds"
slow = timing.measure(fit, start(), fresh_loader(), 3, None, train_step, repeats=3)
fast = timing.measure(fit, start(), fresh_loader(), 3, None, jit_step)
ratio, compiling = slow.steady_s / fast.steady_s, 1e3 * fast.first_s
print(f"Linen, un-jitted    {1e3 * slow.steady_s:6.0f} ms for 3 epochs")
print(f"Linen, jax.jit      {1e3 * fast.steady_s:6.0f} ms, {ratio:.0f}x; first run, compiling: {compiling:.0f} ms")
print(f"on {timing.environment()}")

# %%
_, slow = fit(start(), fresh_loader(), 2, step=train_step)
_, fast = fit(start(), fresh_loader(), 2, step=jit_step)
assert np.allclose(slow, fast, rtol=0, atol=1e-6)
print("un-jitted and jitted losses agree within 1e-6  ok")

# %%
state, history = fit(start(), fresh_loader(), EPOCHS, valid=(x_valid, y_valid), step=jit_step)
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
history.plot(xlabel="epoch", ylabel="mean loss", title="Flax Linen")
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
# The trained weights are in the state, so the state makes the prediction.

# %%
test_logits = state.apply_fn({"params": state.params}, x_test)
accuracy = metrics.accuracy(test_logits, y_test)
rule = metrics.accuracy(metrics.gender_rule(test), y_test)
print(f"network {accuracy:.2f}, the rule 'women survive, men don't' {rule:.2f}")
metrics.confusion(test_logits, y_test)


# %%
def fit_predict(train, test):
    features = Features.fit(train)
    loader = make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)
    state, _ = fit(start(), loader, EPOCHS, step=jit_step)
    return state.apply_fn({"params": state.params}, features(test))


# %%
table = metrics.baselines(passengers, SEED)
table.loc["Linen MLP"] = metrics.summary(metrics.cross_validate(fit_predict, passengers, SEED))
table.round(2)

# %% tags=["report"]
mlp, boosting = table.loc["Linen MLP"], table.loc["gradient boosting"]
assert mlp["accuracy"] >= 0.80 and mlp["accuracy"] >= boosting["accuracy"] - boosting["sd"]
print(f"accuracy {mlp['accuracy']:.2f} over 5 folds: at least 0.80, and within one sd of boosting  ok")

# %% [markdown]
# ## Where you still meet Linen
#
# [Flax's own documentation](https://flax.readthedocs.io) sends newcomers to NNX and says that most of its
# users still rely on Linen. Large code bases were written in it: MaxText (moving to NNX during 2026),
# MaxDiffusion, Scenic, Big Vision, and most JAX research code up to 2024. To work with them you read `init`,
# `apply` and `TrainState` every day.

# %% [markdown]
# ## Summary
#
# - A Linen model is a description. `init` returns parameters, `apply` takes them.
# - A step takes a state and returns the next one. Forget to rebind it and nothing is learned.
# - The step takes and returns pytrees, so plain `jax.jit` compiles it, with little overhead per call.
#
# Next: [02 · the same numbers](02_same_numbers.ipynb): three frameworks, one set of weights, and how closely
# they agree.
