# %% [markdown]
# # 01b · Who survives? The same program in Flax NNX
#
# **What must change when gradients are a return value and random keys an argument?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - feed a JAX model from a torch `DataLoader`,
# - write model, optimizer and training step in Flax NNX, and compile the step with `@nnx.jit`,
# - say what makes it compile again, what it costs per call, and how to see both,
# - save a model, and restore it, in one line each.
#
# Each step opens with the PyTorch lines of [01a](01a_titanic_torch.ipynb) that it replaces.

# %%
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.flax import load_file, save_file
from tqdm import tqdm

from course import metrics, plots, timing
from course.data import Features, find_kaggle, labels, load_titanic, split
from course.failures import fails
from course.loaders import make_loader
from course.train import titanic_torch

# %%
SEED, BATCH, EPOCHS, RATE = 0, 32, 40, 1e-3
TABLE = None  # None: the 1309 passengers that ship with the course; or a path to Kaggle's train.csv

plots.use()
torch.set_num_threads(1)


# %% [markdown] tags=["step:data"]
# ## Step 1 · Data
#
# ```python
# loader = DataLoader(train_set, BATCH, shuffle=True, drop_last=True, generator=shuffle)
# x, y = next(iter(loader))
# ```
#
# JAX has no data loader of its own, so torch's `DataLoader` stays. What moves is the collate function: it
# must not make tensors. This one stacks NumPy rows, whatever tuples, lists or dicts they come in.

# %%
def numpy_collate(samples):
    first = samples[0]
    if isinstance(first, dict):
        return {key: numpy_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(numpy_collate(column) for column in zip(*samples, strict=True))
    return np.array(samples)


# %%
passengers = load_titanic(TABLE)
train, valid, test = split(passengers, SEED)
features = Features.fit(train)  # medians, port and scales of the training passengers, as in 01a
rows = features(train), labels(train)


def fresh_loader():
    return make_loader(*rows, BATCH, SEED, collate_fn=numpy_collate)


x, y = next(iter(fresh_loader()))
print(type(x).__name__, x.shape, x.dtype, "and", y.shape, y.dtype)

x_torch, y_torch = next(iter(make_loader(*rows, BATCH, SEED)))
print(f"first passenger: age {x[0, 0]:.3f}, label {y[0]:.0f}; in PyTorch {x_torch[0, 0]:.3f}, {y_torch[0]:.0f}")
assert np.array_equal(x, x_torch) and np.array_equal(y, y_torch)  # one seed, one generator: the same batch

# validation and test become one batch each
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
# every weight. `nnx.tabulate` prints what torch's `print(model)` does, and shapes: it needs an example input.

# %%
model = TitanicMLP(rngs=nnx.Rngs(SEED))
plain = {"force_terminal": False, "force_jupyter": False, "width": 100}  # text, without colours
print(nnx.tabulate(model, x, console_kwargs=plain).rstrip())

# %% [markdown]
# A weight is called `kernel` and stored as (in, out), the transpose of torch's (out, in).
#
# **Predict.** In 01a one draw in between changed the weights. Which of these two draws changes them here?

# %%
jax.random.uniform(jax.random.key(SEED))  # a draw elsewhere, with the same seed
elsewhere = TitanicMLP(rngs=nnx.Rngs(SEED))

rngs = nnx.Rngs(SEED)
rngs.params()  # a draw from the Rngs object that the model will use
from_it = TitanicMLP(rngs=rngs)
first = {"as above": model, "after a draw elsewhere": elsewhere, "after a draw from the same Rngs": from_it}
for name, made in first.items():
    print(f"{name:32} first weight {made.hidden.kernel[0, 0]:.4f}")

key = jax.random.key(SEED)
one, two = jax.random.split(key)
print("one key, two draws:", *(f"{jax.random.normal(k):.4f}" for k in (key, key)))
print("split, two draws:  ", *(f"{jax.random.normal(k):.4f}" for k in (one, two)))

# %% [markdown]
# Only the second: an `Rngs` object counts, and the count is state that you hold. A bare key has no state at all: it
# gives the same number twice, and for two numbers you split it. Nothing is global.
#
# ### Assigning to a weight
#
# PyTorch refused a bare tensor under a parameter's name (`cannot assign 'torch.FloatTensor' as parameter`).
#
# **Predict.** What does NNX say to a bare array?

# %%
adam = optax.adam(RATE)
victim = TitanicMLP(rngs=nnx.Rngs(SEED))
optimizer = nnx.Optimizer(victim, adam, wrt=nnx.Param)
victim.out.kernel = jnp.zeros((64, 1))
print("parameters of out:", sorted(nnx.state(victim, nnx.Param)["out"]))

gradients = jax.tree.map(jnp.zeros_like, nnx.state(victim, nnx.Param))
with fails(ValueError, lines=10):
    optimizer.update(victim, gradients)

kept = TitanicMLP(rngs=nnx.Rngs(SEED))
kept.out.kernel[...] = jnp.zeros((64, 1))
print("with [...]:", sorted(nnx.state(kept, nnx.Param)["out"]))

# %% [markdown]
# Nothing: the name now holds an array, the `Param` is gone, and what is no `Param` is not trained. Only an optimizer
# made *before* the slip complains, and not at that line: read its message from below, `kernel` is what one side lacks.
# (A *pytree* is a nest of dicts, lists or tuples with arrays in it, such as these parameters.) An optimizer made
# afterwards trains the bias alone, without a word (flax 0.12.0 stops at the next call of the model:
# `has no attribute 'value'`). Write into the box: `model.out.kernel[...] = array`.

# %% [markdown] tags=["step:forward"]
# ## Step 4 · A forward pass
#
# ```python
# logits = model(x)
# ```
#
# The call looks the same, and takes the NumPy batch as it is. The result carries no graph: whoever wants a
# gradient asks for it, in step 6. Optax returns one loss per example; the mean is yours to take.
#
# **Predict.** Logits of shape (32, 1) against labels (32,) were a `ValueError` in 01a. And here?

# %% tags=["trap:broadcast-labels"]
logits = model(x)
print("logits", logits.shape, "a jax.Array:", isinstance(logits, jax.Array))

right = optax.sigmoid_binary_cross_entropy(logits, jnp.asarray(y))
wrong = optax.sigmoid_binary_cross_entropy(logits[:, None], jnp.asarray(y))
for name, losses in {"right": right, "wrong": wrong}.items():
    print(f"{name}: losses {losses.shape}, mean {losses.mean():.3f}")

# %% [markdown]
# No error: (32, 1) against (32,) broadcasts to (32, 32), every passenger against everybody's label. The mean of
# these 1024 numbers looks like a loss, and is lowest where everybody gets the same answer: the share of survivors.
# Hence the `squeeze(-1)` in the model.

# %% [markdown] tags=["step:optimizer"]
# ## Step 5 · Optimizer
#
# ```python
# optimizer = torch.optim.Adam(model.parameters(), RATE)
# ```
#
# Optax describes the rule (`adam`, above); `nnx.Optimizer` keeps its state. Code written for flax before 0.11 ends
# here:

# %%
with fails(TypeError):
    nnx.Optimizer(model, adam)

optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
print("step", int(optimizer.step[...]), "with", len(jax.tree.leaves(nnx.state(optimizer))), "arrays of state")


# %% [markdown]
# The message names the argument: `wrt`, "with respect to", says which variables are trained. The other old line
# is `optimizer.update(grads)`; today the model comes first. The state is there before the first step: two moments
# for each of four weights, Adam's count of steps and the optimizer's own.

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
_, again = nnx.value_and_grad(loss_fn)(model, x, y)
print("returned:", grads["out"]["kernel"].shape)
print(f"gradient of the last bias: {grads['out']['bias'][0]:.4f}, asked again: {again['out']['bias'][0]:.4f}")


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
# Still in place, but the gradients are passed in: that is `eager_step`. The lines of `train_step` are the same;
# `@nnx.jit` runs them once with stand-ins for the arrays, records what these go through, and compiles the recording
# ([08](08_tracing.ipynb)). A compiled program knows arrays only, and can change nothing outside. So at every call
# `nnx.jit` takes your objects apart, runs the program, and writes the new arrays back into them.

# %%
def eager_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)
    return loss


def start():
    model = TitanicMLP(rngs=nnx.Rngs(SEED))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)


for step in (eager_step, train_step):
    model, optimizer = start()
    losses = [step(model, optimizer, x, y) for _ in range(3)]
    print(f"{'compiled' if step is train_step else 'un-jitted':10}loss on this batch:", *(f"{v:.4f}" for v in losses))

# %% alt="A diagram in three steps. One: model and optimizer are split into graphdef, their structure, and state, 14 arrays. Two: graphdef and the shapes decide which compiled program runs, or whether one must be traced and compiled; it takes the 14 arrays and the batch, and returns the loss and 14 arrays. Three: an arrow writes these back into model and optimizer."
graphdef, state = nnx.split((model, optimizer))
count = len(jax.tree.leaves(state))

d = plots.Diagram(height=2.8)
objects = d.array(0.8, 1.6, "model,\noptimizer", side="jax", height=0.7)
graph = d.array(3.0, 2.4, "graphdef:\nstructure", width=1.3, height=0.5)
arrays = d.array(3.0, 1.4, f"state:\n{count} arrays", side="jax", width=1.3, height=0.5)
batch = d.array(3.0, 0.75, "x, y", side="jax", width=1.3, height=0.3)
cache = d.function(5.3, 2.4, "seen before, with these shapes?\nelse trace and compile", width=2.3, height=0.5)
program = d.function(5.3, 1.2, "compiled program", side="jax", width=1.5, height=0.6)
result = d.array(7.25, 1.2, f"loss,\n{count} arrays", side="jax", height=0.5)
for end in (graph, arrays):
    d.arrow(objects, end, "1 split  " * (end is graph))
d.arrow(graph, cache)
d.arrow(cache, program, "picks")
d.arrow(arrays, program, "2 run", side="jax")
d.arrow(batch, program, side="jax")
d.arrow(program, result, side="jax")
d.axes.plot([7.25, 7.25, 0.8], [0.95, 0.3, 0.3], color=plots.JAX, linewidth=1.4, marker="")
d.arrow((0.8, 0.3), objects, side="jax")
d.note(4.0, 0.43, "3 write back", side="jax")
plt.show()
print(count, "arrays: 4 weights, Adam's 8 moments and its count, and the optimizer's step")

# %% [markdown]
# In the picture, 1 and 3 are Python, at every call; lesson [10](10_jit_speed.ipynb) measures them and takes them out
# of the loop. Between them, JAX compiles where structure or shapes are new. A counter shows when: what is Python in a
# compiled function runs while JAX traces it, and never again.
#
# **Predict.** Below are six calls of one compiled step. Which of them compile?

# %%
traces = []


@nnx.jit
def counted_step(model, optimizer, x, y):
    traces.append(x.shape)  # Python: runs while JAX traces
    return eager_step(model, optimizer, x, y)


same_adam, new_adam = (nnx.Optimizer(model, rule, wrt=nnx.Param) for rule in (adam, optax.adam(RATE)))
calls = {
    "a batch": (optimizer, x, y),
    "another batch": (optimizer, x[::-1], y[::-1]),
    "the 5 rows left over": (optimizer, x[:5], y[:5]),
    "a new Optimizer with the same adam": (same_adam, x, y),
    "a new Optimizer with a new adam": (new_adam, x, y),
    "the first batch again": (optimizer, x, y),
}
for name, arguments in calls.items():
    before = len(traces)
    counted_step(model, *arguments)
    print(f"{name:36}{'compiled' if len(traces) > before else 'from the cache'}")


# %% [markdown]
# Three. A batch of another size is another shape: hence `drop_last`, full batches only, and the 5 passengers left
# over sit out that epoch. And `optax.adam(RATE)` returns new functions each time, which are part of the structure: a
# new one is a new program, even at the same rate. Make it once, outside of every loop, and pass it around. A rate
# that changes during training is no reason for a new one: pass a schedule, `optax.adam(schedule)`.

# %% [markdown] tags=["step:train"]
# ## Step 8 · The training loop
#
# ```python
#         losses = [step(model, optimizer, x, y) for x, y in loader]
# ```
#
# One thing is added: `jnp.asarray` copies the batch to the device, written out so that you see it. The validation
# loss is asked for once an epoch, always at one shape, so it is worth compiling too.

# %%
@nnx.jit
def eval_step(model, x, y):
    return loss_fn(model, x, y)


def fit(model, optimizer, loader, epochs, valid=None, step=train_step):
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = [step(model, optimizer, jnp.asarray(x), jnp.asarray(y)) for x, y in loader]
        row = {"train": jnp.stack(losses).mean().item()}
        if valid is not None:
            row["valid"] = eval_step(model, *valid).item()
        history.append(row)
    return pd.DataFrame(history)


# %% [markdown]
# What does the decorator buy? JAX returns before it is done, so a clock around a call measures nothing until
# somebody waits: `jax.block_until_ready` does, and `timing.seconds` calls it. The first epoch is kept apart: it
# compiles. The later ones are taken in turns, so that a busy moment of the machine hits all three.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
module = titanic_torch.TitanicMLP()
theirs = module, torch.optim.Adam(module.parameters(), RATE), make_loader(*rows, BATCH, SEED)
runs = {
    "PyTorch, eager": (titanic_torch.fit, *theirs, 1),
    "NNX, un-jitted": (fit, *start(), fresh_loader(), 1, None, eager_step),
    "NNX, @nnx.jit": (fit, *start(), fresh_loader(), 1, None, nnx.jit(eager_step)),
}
first = {name: timing.seconds(*run) for name, run in runs.items()}
later = pd.DataFrame([{name: timing.seconds(*run) for name, run in runs.items()} for _ in range(3)]).median()
for name in runs:
    print(f"{name:16} first epoch {1e3 * first[name]:6.0f} ms, later ones {1e3 * later[name]:6.1f} ms")
print(timing.environment())

# %% [markdown]
# Un-jitted, JAX builds the derivative anew in Python at every step; running its operations is the small part.
# That is no bug, but no way to train. Compiled, the step is far faster, and still no faster than PyTorch eager: the
# arithmetic of a model this small is nothing beside 1 and 3 of the picture. Linen has neither
# ([01c](01c_titanic_linen.ipynb)), and NNX can do without ([10](10_jit_speed.ipynb), with a benchmark on a machine
# that did nothing else).

# %% [markdown] tags=["step:curves"]
# ## Step 9 · Learning curves
#
# ```python
# losses = {f"PyTorch, {name}": history[name] for name in history}
# lines = plots.lines(axis, history.index, losses, xlabel="epoch", ylabel="mean loss")
# ```
#
# All epochs now. The history is a table of Python floats, so the same lines plot it.

# %% alt="Two falling curves over 40 epochs, the mean loss of training and of validation in Flax NNX: from 0.7 and 0.65 they drop below 0.45 within ten epochs, then flatten near 0.41 and stay together."
model, optimizer = start()
history = fit(model, optimizer, fresh_loader(), EPOCHS, valid=(x_valid, y_valid))

figure, axis = plt.subplots()
losses = {f"NNX, {name}": history[name] for name in history}
lines = plots.lines(axis, history.index, losses, xlabel="epoch", ylabel="mean loss")
lines[1].set(color=plots.JAX, linestyle=":", markerfacecolor="white")
plt.setp(lines, markevery=4)
axis.legend()
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
# No `no_grad()`: nothing is recorded unless you ask for a gradient. `predict` is compiled, though it runs once:
# un-jitted, JAX compiles every operation by itself at every new shape, and the many small programs take longer to
# make than the one.

# %%
@nnx.jit
def predict(model, x):
    return model(x)


test_logits = predict(model, x_test)
accuracy = metrics.accuracy(test_logits, y_test)
rule = metrics.accuracy(metrics.gender_rule(test), y_test)
print(f"network {accuracy:.2f}, the rule 'women survive, men don't' {rule:.2f}")
metrics.confusion(test_logits, y_test)


# %% tags=["report"]
def fit_predict(train, test):
    features = Features.fit(train)
    model, optimizer = start()
    loader = make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)
    fit(model, optimizer, loader, EPOCHS)
    return predict(model, features(test))


table = metrics.baselines(passengers, SEED)
table.loc["NNX MLP"] = metrics.summary(metrics.cross_validate(fit_predict, passengers, SEED))
mlp, boosting = table.loc["NNX MLP"], table.loc["gradient boosting"]
assert mlp["accuracy"] >= 0.80 and mlp["accuracy"] >= boosting["accuracy"] - boosting["sd"]
print(f"accuracy {mlp['accuracy']:.2f} over 5 folds: at least 0.80, and within one sd of boosting  ok")
table.round(2)

# %% [markdown]
# To disk and back, a line each way, through a flat dict of arrays in a safetensors file, which PyTorch can read too.
# Like `state_dict()`, `nnx.state(model)` holds the live boxes; the file holds copies. Checkpoints of a whole run,
# optimizer included, are the subject of [05b](05b_checkpoints.ipynb).

# %%
file = Path(tempfile.mkdtemp()) / "titanic.safetensors"
save_file(flatten_dict(nnx.to_pure_dict(nnx.state(model)), sep="."), file)

restored = TitanicMLP(rngs=nnx.Rngs(SEED + 1))
nnx.update(restored, unflatten_dict(load_file(file), sep="."))

print({name: array.shape for name, array in load_file(file).items()})
restored_logits = predict(restored, x_test)
assert (restored_logits == test_logits).all()
pd.DataFrame({"model": test_logits[:4], "restored": restored_logits[:4]}).round(1).T

# %%
# On Kaggle, with the Titanic competition attached, this writes a submission. It trains on the competition's
# train.csv alone: our 1309 passengers include Kaggle's test passengers with their labels.
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
# - `@nnx.jit` changes the speed, not the numbers. It compiles for every new structure and shape: one `adam`, full
#   batches.
# - Two slips that PyTorch refuses pass in silence: labels of another shape, and an array assigned over a `Param`.
#
# ## Further reading
#
# - [NNX basics](https://flax.readthedocs.io/en/latest/nnx_basics.html): modules, `Param`, `split` and `merge`.
# - [Performance considerations](https://flax.readthedocs.io/en/latest/guides/performance.html): what `nnx.jit`
#   does in Python at every call, and how to avoid it.
# - [Pseudorandom numbers](https://docs.jax.dev/en/latest/random-numbers.html): why a key is an argument.
# - [Asynchronous dispatch](https://docs.jax.dev/en/latest/async_dispatch.html): why a clock must wait.
# - [Optax losses](https://optax.readthedocs.io/en/latest/api/losses.html): one loss per example, formulas included.
#
# Exercises: [your turn](exercises/01b_titanic_nnx.ipynb).
#
# Next: [01c · Who survives? The same program in Flax Linen](01c_titanic_linen.ipynb).
# There the model owns no weights at all.
