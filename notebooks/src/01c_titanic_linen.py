# %% [markdown]
# # 01c · Who survives? The same program in Flax Linen
#
# **What must change when the model no longer owns its state?** (65 minutes)

# %% [markdown]
# After this lesson you can
#
# - read and write Linen modules, with `@nn.compact` and with `setup`,
# - keep parameters and optimizer state outside the model, in a `TrainState`,
# - name what makes a step of pure functions compile again,
# - choose between NNX and Linen, with three programs side by side.
#
# Each step opens with the PyTorch lines of [01a](01a_titanic_torch.ipynb) that it replaces.

# %%
import ast
import inspect
import tempfile
from pathlib import Path
from time import perf_counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
import pandas as pd
import torch
from flax import errors, nnx
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.training.train_state import TrainState
from safetensors.flax import load_file, save_file
from tqdm import tqdm

from course import metrics, plots, timing
from course.batching import numpy_collate
from course.data import Features, labels, load_titanic, split
from course.failures import fails
from course.loaders import make_loader
from course.train import titanic_linen, titanic_nnx, titanic_torch

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
# As in [01b](01b_titanic_nnx.ipynb): torch's loader, our collate function, NumPy batches; features fitted on the
# training passengers alone.

# %%
passengers = load_titanic(TABLE)
train, valid, test = split(passengers, SEED)
features = Features.fit(train)
rows = features(train), labels(train)


def fresh_loader():
    return make_loader(*rows, BATCH, SEED, collate_fn=numpy_collate)


x, y = next(iter(fresh_loader()))
print(type(x).__name__, x.shape, x.dtype, "and", y.shape, y.dtype)

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
# Such a nest of dicts, tuples and lists is a *pytree*, and the arrays in it are its *leaves*. `jax.tree.map` applies
# a function to every leaf. `model.tabulate` is the summary; it takes a key and an example, as `init` does.

# %%
model = TitanicMLP()
params = model.init(jax.random.key(SEED), x)["params"]
by_setup = TitanicMLPSetup().init(jax.random.key(SEED), x)["params"]
for style, made in {"compact": params, "setup": by_setup}.items():
    print(f"{style:8}first weight {made['hidden']['kernel'][0, 0]:.4f}, out {jax.tree.map(jnp.shape, made['out'])}")

plain = {"force_terminal": False, "force_jupyter": False, "width": 100}  # text, without colours
print(model.tabulate(jax.random.key(SEED), x, console_kwargs=plain).strip("\n"))

# %% [markdown] tags=["step:forward"]
# ## Step 4 · A forward pass
#
# ```python
# logits = model(x)
# ```
#
# The model has no weights to compute with:

# %%
with fails(errors.CallCompactUnboundModuleError):
    model(x)

# %% [markdown]
# "Unbound" is a model without variables; the address explains it. `apply` takes them as an argument, and the second
# slip is to hand over the inner dict alone:

# %%
with fails(errors.ScopeCollectionNotFound):
    model.apply(params, x)

logits = model.apply({"params": params}, x)
print(logits.shape, "a jax.Array:", isinstance(logits, jax.Array))

# %% [markdown]
# The message looks for a *collection* named "params" and finds none: `apply` wants what `init` returned, kind by
# kind. Same parameters, same input, same output, always.

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
adam = optax.adam(RATE)
opt_state = adam.init(params)
print("first moment of out:", jax.tree.map(jnp.shape, opt_state[0].mu["out"]))

state = TrainState.create(apply_fn=model.apply, params=params, tx=adam)
print("step", int(state.step), "with", len(jax.tree.leaves(state)), "leaves: step, 4 weights, 8 moments, Adam's count")


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
print(f"loss {loss:.4f}, gradients of out", jax.tree.map(jnp.shape, grads["out"]))


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
# Nothing is overwritten: the step takes a state and returns the next one. A `TrainState` is a pytree, so JAX's own
# `jax.jit` compiles the step as it is: there are no objects to take apart, and none to write back to.

# %%
def eager_step(state, x, y):
    loss, grads = jax.value_and_grad(loss_fn)(state.params, state.apply_fn, x, y)
    state = state.apply_gradients(grads=grads)
    return state, loss


@jax.jit
def train_step(state, x, y):
    loss, grads = jax.value_and_grad(loss_fn)(state.params, state.apply_fn, x, y)
    state = state.apply_gradients(grads=grads)
    return state, loss


updates, _ = adam.update(grads, opt_state, params)  # what apply_gradients does
by_hand = optax.apply_updates(params, updates)
for name, step in {"by hand": None, "un-jitted": eager_step, "compiled": train_step}.items():
    after = by_hand if step is None else step(state, x, y)[0].params
    weight, loss = after["out"]["kernel"][0, 0], loss_fn(after, model.apply, x, y)
    print(f"{name:10}first weight of out {params['out']['kernel'][0, 0]:.4f} -> {weight:.4f}, loss then {loss:.4f}")

# %% [markdown]
# All three agree, and each began at the same `state`, which no step has changed. The price: old and new exist side by
# side, unless the old one is donated to the new ([08](08_tracing.ipynb)).
#
# **Predict.** Ten calls on one batch: how far does each of these two loops get?

# %%
forgetful = state
for _ in range(10):
    train_step(forgetful, x, y)
print(f"without rebinding: step {int(forgetful.step)}, loss {loss_fn(forgetful.params, model.apply, x, y):.3f}")

rebound = state
for _ in range(10):
    rebound, loss = train_step(rebound, x, y)
print(f"state, loss = ...: step {int(rebound.step)}, loss {loss_fn(rebound.params, model.apply, x, y):.3f}")

# %% [markdown]
# The first gets nowhere, and nothing complains: a result that nobody keeps is lost. The other side of the coin: a
# state that you keep stays as it is. `best = state` is a checkpoint, where 01a's `state_dict()` was not.
#
# A counter again shows what compiles, as in 01b.
#
# **Predict.** Every state below has the same shapes. Which calls compile?

# %%
traces = []


@jax.jit
def counted_step(state, x, y):
    traces.append(x.shape)  # Python: runs while JAX traces
    return eager_step(state, x, y)


def new_state(model=model, tx=adam, seed=SEED):
    params = model.init(jax.random.key(seed), x)["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=tx)


calls = {
    "a state": new_state(),
    "a new state, other weights": new_state(seed=1),
    "a new adam": new_state(tx=optax.adam(RATE)),
    "a new, equal model": new_state(TitanicMLP()),
}
for name, a_state in calls.items():
    before = len(traces)
    counted_step(a_state, x, y)
    print(f"{name:28}{'compiled' if len(traces) > before else 'from the cache'}")


# %% [markdown]
# `apply_fn` and `tx` are functions, not arrays: they ride along in the tree's structure, and two functions count as
# equal only if they are one and the same. `optax.adam(RATE)` makes new functions; `TitanicMLP().apply` is the method of
# another object, even though the two models are equal. One model, one `adam`, made once: then new weights, new folds,
# new seeds come from the cache.

# %% [markdown] tags=["step:train"]
# ## Step 8 · The training loop
#
# ```python
#         losses = [step(model, optimizer, x, y) for x, y in loader]
# ```
#
# The state goes through the loop like a baton, so the loop returns it.

# %%
@jax.jit
def eval_step(state, x, y):
    return loss_fn(state.params, state.apply_fn, x, y)


def fit(state, loader, epochs, valid=None, step=train_step):
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = []
        for x, y in loader:
            state, loss = step(state, jnp.asarray(x), jnp.asarray(y))
            losses.append(loss)
        row = {"train": jnp.stack(losses).mean().item()}
        if valid is not None:
            row["valid"] = eval_step(state, *valid).item()
        history.append(row)
    return state, pd.DataFrame(history)


state, history = fit(new_state(), fresh_loader(), EPOCHS, valid=(x_valid, y_valid))
history.iloc[[0, -1]].round(2)


# %% [markdown] tags=["step:curves"]
# ## Step 9 · Learning curves
#
# ```python
# losses = {f"PyTorch, {name}": history[name] for name in history}
# lines = plots.lines(axis, history.index, losses, xlabel="epoch", ylabel="mean loss")
# ```
#
# All three programs now, from 01a, 01b and this lesson, as functions: same rows, same order of batches, and each
# with the initial weights that its own framework draws.

# %%
def train_torch():
    torch.manual_seed(SEED)
    module = titanic_torch.TitanicMLP()
    optimizer = torch.optim.Adam(module.parameters(), RATE)
    valid_set = torch.from_numpy(features(valid)), torch.from_numpy(labels(valid))
    return titanic_torch.fit(module, optimizer, make_loader(*rows, BATCH, SEED), EPOCHS, valid_set)


def train_nnx():
    module = titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED))
    optimizer = nnx.Optimizer(module, adam, wrt=nnx.Param)
    return titanic_nnx.fit(module, optimizer, fresh_loader(), EPOCHS, (x_valid, y_valid), nnx_step)


def train_linen():
    return fit(new_state(), fresh_loader(), EPOCHS, (x_valid, y_valid))[1]


nnx_step = nnx.jit(titanic_nnx.train_step)
programs = {"PyTorch": train_torch, "Flax NNX": train_nnx, "Flax Linen": train_linen}

# %%
histories, first_s, next_s = {}, {}, {}
for name, run in programs.items():
    jax.clear_caches()  # what a new process starts with
    begin = perf_counter()
    histories[name] = run()
    first_s[name] = perf_counter() - begin
    next_s[name] = timing.seconds(run)
pd.DataFrame({name: table.iloc[-1] for name, table in histories.items()}).round(2)

# %% alt="Two panels over 40 epochs, mean loss of training and of validation, a line each for PyTorch, orange and dashed, Flax NNX and Flax Linen. All start between 0.6 and 0.72, drop below 0.45 within ten epochs and end near 0.41; in training they can hardly be told apart, in validation NNX lies 0.01 above the other two."
figure, axes = plots.panels(2)
for axis, part in zip(axes, ("train", "valid"), strict=True):
    losses = {name: table[part] for name, table in histories.items()}
    lines = plots.lines(axis, range(EPOCHS), losses, xlabel="epoch", title=f"mean loss, {part}")
    for place, line in enumerate(lines):
        line.set(markevery=(3 * place, 9), zorder=4 - place)
    axis.set_ylim(0.38, 0.72)
plt.show()
last = [table.iloc[-1] for table in histories.values()]
spread = max((a - b).abs().max() for a in last for b in last)
print("last losses of the three within 0.05 of each other:", spread < 0.05)


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
@jax.jit
def predict(state, x):
    return state.apply_fn({"params": state.params}, x)


test_logits = predict(state, x_test)
accuracy = metrics.accuracy(test_logits, y_test)
rule = metrics.accuracy(metrics.gender_rule(test), y_test)
print(f"network {accuracy:.2f}, the rule 'women survive, men don't' {rule:.2f}")
metrics.confusion(test_logits, y_test)


# %% tags=["report"]
def fit_predict(train, test):
    features = Features.fit(train)
    loader = make_loader(features(train), labels(train), BATCH, SEED, collate_fn=numpy_collate)
    state, _ = fit(new_state(), loader, EPOCHS)
    return predict(state, features(test))


table = metrics.baselines(passengers, SEED)
table.loc["Linen MLP"] = metrics.summary(metrics.cross_validate(fit_predict, passengers, SEED))
mlp, boosting = table.loc["Linen MLP"], table.loc["gradient boosting"]
assert mlp["accuracy"] >= 0.80 and mlp["accuracy"] >= boosting["accuracy"] - boosting["sd"]
print(f"accuracy {mlp['accuracy']:.2f} over 5 folds: at least 0.80, and within one sd of boosting  ok")
table.round(2)

# %% [markdown]
# To disk and back, as in 01b, and shorter: the parameters are a dict already.

# %%
file = Path(tempfile.mkdtemp()) / "titanic.safetensors"
save_file(flatten_dict(state.params, sep="."), file)
restored = unflatten_dict(load_file(file), sep=".")

restored_logits = predict(state.replace(params=restored), x_test)
assert (restored_logits == test_logits).all()
pd.DataFrame({"model": test_logits[:4], "restored": restored_logits[:4]}).round(1).T


# %% [markdown]
# ## Three programs side by side
#
# Lines are counted in `course.train`, where the three lessons' code is kept, without docstrings. Seconds are those of
# the runs behind the curves, the first as in a new process, and the next. In the first, JAX compiles, and PyTorch
# pays for what `torch.optim` imports when the first optimizer is made.

# %% tags=["nbval-ignore-output"] volatile="seconds"
def lines_of_code(module, name):
    tree = ast.parse(inspect.getsource(getattr(module, name)) if hasattr(module, name) else "")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return sum(bool(line.strip()) for line in ast.unparse(tree).splitlines())


modules = {"PyTorch": titanic_torch, "Flax NNX": titanic_nnx, "Flax Linen": titanic_linen}
parts = ("TitanicMLP", "loss_fn", "train_step", "eval_step", "fit")
rows_of = {f"lines, {part}": [lines_of_code(module, part) for module in modules.values()] for part in parts}
rows_of[f"first {EPOCHS} epochs, s"] = [f"{first_s[name]:.2f}" for name in modules]
rows_of[f"next {EPOCHS} epochs, s"] = [f"{next_s[name]:.2f}" for name in modules]
rows_of |= {
    "weights live in": ["the model", "the model", "a tree beside it"],
    "gradients are": ["left in .grad", "returned", "returned"],
    "a step": ["changes objects", "changes objects", "returns a new state"],
    "random draws from": ["a global generator", "an Rngs you pass", "a key you pass"],
    "compiled by": ["torch.compile, if at all", "nnx.jit", "jax.jit"],
}
pd.DataFrame(rows_of, modules).T

# %% [markdown]
# ## NNX, Linen, or neither?
#
# The programs are about equally long and compute the same ([02](02_same_numbers.ipynb) carries weights from
# one to the other). What differs is who holds the state.
#
# - **NNX** for new models, and for whoever thinks in objects: a layer can be looked at, replaced and shared as in
#   PyTorch. [Flax's own documentation](https://flax.readthedocs.io/en/latest/index.html) sends newcomers there. The
#   price is the bookkeeping at every call, which weighs on small models until [10](10_jit_speed.ipynb) takes it away,
#   and slips that pass in silence.
# - **Linen** where a code base is written in it, and where whole training runs are to be mapped or scanned as one
#   function ([11](11_ensembles.ipynb)): its step is that function already. The same page of Flax says that most of its
#   users still rely on Linen, and that it will not be deprecated in the near future.
#   [Scenic](https://github.com/google-research/scenic) and [Big Vision](https://github.com/google-research/big_vision)
#   are written in it; MaxText, another large code base, made NNX
#   [its default](https://github.com/AI-Hypercomputer/maxtext/pull/3526) in 2026.
# - **Equinox**, not used in this course, takes a third way: the model *is* a pytree, an immutable dataclass with arrays
#   as fields and a `__call__`. `eqx.filter_jit` and `eqx.filter_grad` tell its arrays from the rest, and an update
#   returns a new model: Linen's discipline without `init` and `apply`.
#
# All three share JAX's transformations and Optax, which are the larger part of what there is to learn.

# %% [markdown]
# ## Summary
#
# - A Linen model is a description. `init` returns parameters, `apply` takes them.
# - A step takes a state and returns the next one. Forget to rebind it and nothing is learned; keep it and you have a
#   checkpoint.
# - The step takes and returns pytrees, so plain `jax.jit` compiles it, with little overhead per call; a new `tx` or a
#   new model object compiles again.
#
# ## Further reading
#
# - [Flax Linen](https://flax-linen.readthedocs.io/en/latest/): Linen's own documentation.
# - [Why Flax NNX?](https://flax.readthedocs.io/en/latest/why.html): the two side by side, by those who wrote both.
# - [Flax Linen to Flax NNX](https://flax.readthedocs.io/en/stable/migrating/linen_to_nnx.html): how to move code.
# - [All of Equinox](https://docs.kidger.site/equinox/all-of-equinox/): models as pytrees, on one page.
#
# Exercises: [your turn](exercises/01c_titanic_linen.ipynb).
#
# Next: [02 · The same numbers](02_same_numbers.ipynb).
# Three frameworks, one set of weights, and how closely they agree.
