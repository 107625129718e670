# %% [markdown]
# # 03 · State and trees
#
# **Where does everything live that is not a weight, and who updates it?** (85 minutes)

# %% [markdown]
# After this lesson you can
#
# - find every array of a model in PyTorch, NNX and Linen, and pick some of them by path or by filter,
# - keep, restore and overwrite weights without losing any, and without keeping the wrong ones,
# - say who updates BatchNorm's averages and dropout's randomness, and notice when nobody does,
# - compile a model with state, and find the two things that a compiled function freezes: a mode and a global.

# %%
from contextlib import suppress

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import linen as nn
from flax import nnx
from flax.errors import InvalidRngError, ModifyScopeVariableError, TraceContextError
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict, unflatten_dict

from course import plots, porting
from course.failures import fails

# %%
SEED, ROWS, RATE = 0, 32, 0.1

plots.use()
torch.set_num_threads(1)
rng = np.random.default_rng(SEED)
x = rng.normal(size=(ROWS, 4)).astype(np.float32)
y = x.sum(axis=1)
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y)


def gap(a, b):
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


# %% [markdown]
# ## One model, three homes
#
# Here is a small network with every kind of state: weights, BatchNorm's running averages, dropout's randomness. In
# PyTorch all arrays sit on the module. Weights are *parameters*, the others *buffers*. The random generator is in
# neither list: it is global.

# %%
class TorchNet(torch.nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.hidden = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.drop = torch.nn.Dropout(dropout)
        self.out = torch.nn.Linear(8, 1)

    def forward(self, x):
        x = self.drop(torch.relu(self.norm(self.hidden(x))))
        return self.out(x).squeeze(-1)  # (B,)


source = TorchNet(dropout=0.5)
print("parameters:", *(name for name, _ in source.named_parameters()))
print("buffers:   ", *(name for name, _ in source.named_buffers()))


# %% [markdown]
# In NNX all arrays sit on the module too, each in a box, a *Variable*, whose type says what it is: `Param`,
# `BatchStat`, and for dropout a key and a counter of draws, both `RngState`. A layer gets its randomness at birth:
# `rngs`. (`momentum=0.9` is torch's 0.1, see [02](02_same_numbers.ipynb).)

# %%
class NNXNet(nnx.Module):
    def __init__(self, dropout, *, rngs):
        self.hidden = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(dropout, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        x = self.drop(nnx.relu(self.norm(self.hidden(x))))
        return self.out(x).squeeze(-1)  # (B,)


model = NNXNet(dropout=0.5, rngs=nnx.Rngs(SEED))
for kind in (nnx.Param, nnx.BatchStat, nnx.RngState):
    print(f"{kind.__name__:10}", *(".".join(path) for path, _ in nnx.to_flat_state(nnx.state(model, kind))))


# %% [markdown]
# In Linen the module holds nothing: it is a description. `init` returns the arrays as a dict with one entry, a
# *collection*, for each kind. Randomness is not among them: every call is handed its own. Whether a call trains is
# an argument as well.

# %%
class LinenNet(nn.Module):
    dropout: float

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8, name="hidden")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return nn.Dense(1, name="out")(x).squeeze(-1)  # (B,)


net = LinenNet(dropout=0.5)
variables = net.init(jax.random.key(SEED), x)
print("collections:", *variables)

# %% alt="Three trees of names and shapes side by side. PyTorch: hidden, norm, out with weights, and norm also with running averages. NNX: the same layers, each leaf marked Param or BatchStat, and drop with a key and a count. Linen: two branches, batch_stats with norm's mean and var, and params with the rest."
homes = {
    "torch": {tuple(name.split(".")): str(tuple(a.shape)) for name, a in source.state_dict().items()},
    "nnx": {path: f"{type(box).__name__} {box.shape}" for path, box in nnx.to_flat_state(nnx.state(model))},
    "linen": {path: str(array.shape) for path, array in flatten_dict(variables).items()},
}
words = {
    "torch": (0.1, "torch: on the module", "one global generator"),
    "nnx": (2.8, "NNX: on the module, in boxes", "drop's key and count"),
    "linen": (5.8, "Linen: outside, by collection", "an argument"),
}
diagram = plots.Diagram(height=4.6)
for name, (left, where, randomness) in words.items():
    side = "torch" if name == "torch" else "jax"
    diagram.note(left, 4.4, where, side=side, align="left")
    diagram.tree(left, 4.2, unflatten_dict(homes[name]), side=side)
    diagram.note(left, 0.3, f"randomness: {randomness}", side=side, align="left")
plt.show()
print("arrays:", {name: len(paths) for name, paths in homes.items()})


# %% [markdown]
# The picture is drawn from the three objects themselves. torch has one array more than Linen: BatchNorm's count of
# batches, which flax does not need. NNX has two more than Linen: dropout's key and count.
#
# `course.porting` carries torch's weights and averages over, as in 02. All three are put in evaluation mode here,
# where averages stay and nothing is dropped.

# %%
def three(dropout):
    torch.manual_seed(SEED)
    source = TorchNet(dropout).eval()
    model = porting.torch_to_nnx(source, NNXNet(dropout, rngs=nnx.Rngs(SEED)))
    model.eval()
    return source, model, porting.torch_to_linen(source, LinenNet(dropout).init(jax.random.key(SEED), x))


source, model, variables = three(dropout=0.5)
logits = {"torch": source(x_torch).detach(), "NNX": model(x), "Linen": net.apply(variables, x)}
assert gap(logits["torch"], logits["NNX"]) < 1e-6 and gap(logits["NNX"], logits["Linen"]) < 1e-6
pd.DataFrame({name: np.asarray(values[:3]) for name, values in logits.items()}).round(4)


# %% [markdown]
# The same model three times. Two of them get a step of training, with all that it needs handed in as arguments;
# Linen's comes further down, since it is made of trees.

# %%
def torch_step(source, optimizer, x, y):
    optimizer.zero_grad()
    loss = ((source(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


@nnx.jit
def nnx_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: ((model(x) - y) ** 2).mean())(model)
    optimizer.update(model, grads)
    return loss


sgd, torch_sgd = optax.sgd(RATE), torch.optim.SGD(source.parameters(), RATE)
optimizer = nnx.Optimizer(model, sgd, wrt=nnx.Param)
print(f"torch {torch_step(source, torch_sgd, x_torch, y_torch):.4f}, NNX {nnx_step(model, optimizer, x, y):.4f}")


# %% [markdown]
# Both numbers are the loss before the step: 02's parity, in one line.
#
# ## Trees
#
# Nested dicts, lists and tuples of arrays are *pytrees*; the arrays are the *leaves*. Parameters, gradients, NNX's
# states and Optax's states are pytrees. `jax.tree.flatten` takes one apart into a list of leaves and a plan, the
# *treedef*. A tree is a container, not a vector: arithmetic goes through `jax.tree.map`, leaf by leaf. Here is Linen's
# step of training.

# %%
def linen_loss(params, batch_stats, x, y):
    logits = net.apply({"params": params, "batch_stats": batch_stats}, x)
    return ((logits - y) ** 2).mean()


params, batch_stats = variables["params"], variables["batch_stats"]
linen_grad = jax.jit(jax.grad(linen_loss))
grads = linen_grad(params, batch_stats, x, y)
leaves, treedef = jax.tree.flatten(grads)
print(len(leaves), "leaves in", treedef)

with fails(TypeError):
    params - RATE * grads

stepped = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
before, after = (linen_loss(tree, batch_stats, x, y) for tree in (params, stepped))
print(f"jax.tree.map: the loss goes from {before:.4f} to {after:.4f}")
params = stepped

# %% [markdown]
# `unsupported operand type(s)` with a `dict` in it means: you did arithmetic on a tree. The treedef is worth a look,
# too: it has an order.
#
# torch's `parameters()` come in the order in which they were made, weight before bias.
#
# **Predict.** You zip them with the leaves of a Linen tree, and copy where the shapes agree. What does BatchNorm's
# scale become?

# %%
start, _, variables = three(dropout=0.5)
pairs = zip(start.named_parameters(), jax.tree.leaves_with_path(variables["params"]), strict=True)
for (name, weight), (path, leaf) in pairs:
    theirs = jax.tree_util.keystr(path, simple=True, separator=".")
    agree = weight.shape == leaf.shape
    fits = f"shapes agree, {weight.mean():.0f} goes where {leaf.mean():.0f} was" if agree else ""
    print(f"{name:13} meets {theirs:14} {fits}")

# %% [markdown]
# Zero. A dict's leaves come sorted by name, so bias comes before kernel and scale, and weights meet biases. Where the
# shapes happen to agree, as they do in every norm, nothing complains.
#
# So go by the leaf's name, its *path*. `jax.tree.map_with_path` hands it over with the leaf. NNX has *filters*: a type
# (`nnx.Param`), a name on the path (`nnx.PathContains`), both (`nnx.All`), the rest (`nnx.Not`), everything (`...`).
# Here are the squared weights without biases and norms, in all three:

# %%
by_path = jax.tree.map_with_path(lambda path, p: (p**2).sum() if path[-1].key == "kernel" else 0.0, params)
kernels = nnx.All(nnx.Param, nnx.PathContains("kernel"))
sums = {
    "torch, by shape": sum((p.detach() ** 2).sum() for p in source.parameters() if p.ndim > 1),
    "Linen, by path": sum(jax.tree.leaves(by_path)),
    "NNX, by filter": sum((p**2).sum() for p in jax.tree.leaves(nnx.state(model, kernels))),
}
for name, value in sums.items():
    print(f"{name:16}{float(value):.4f}")

filters = {"Param": nnx.Param, "PathContains('norm')": nnx.PathContains("norm"), "All(…)": kernels,
           "Not(Param)": nnx.Not(nnx.Param), "...": ...}  # fmt: skip
print({name: len(jax.tree.leaves(nnx.state(model, chosen))) for name, chosen in filters.items()})

# %% [markdown]
# The same filters choose what `nnx.grad` differentiates, what an optimizer updates and what is saved
# ([04b](04b_training_rules.ipynb), [05b](05b_checkpoints.ipynb)).
#
# ## Who owns the arrays?
#
# You keep the best weights, and training goes on. In torch you know the slip.
#
# **Predict.** `state_dict()`, `nnx.state` and Linen's `params` are kept, then comes one training step. Which of the
# three still hold the old weights?

# %%
of_torch, of_nnx, of_linen = source.state_dict(), nnx.state(model, nnx.Param), params
copied = jax.tree.map(jnp.copy, of_nnx)


def kept():
    biases = of_torch["out.bias"], of_nnx["out"]["bias"], of_linen["out"]["bias"], copied["out"]["bias"]
    return [float(bias[0]) for bias in biases]


before = kept()
torch_step(source, torch_sgd, x_torch, y_torch)
nnx_step(model, optimizer, x, y)
params = jax.tree.map(lambda p, g: p - RATE * g, params, linen_grad(params, batch_stats, x, y))
rows = ["torch, state_dict()", "NNX, nnx.state", "Linen, params", "NNX, nnx.state copied"]
pd.DataFrame({"bias before the step": before, "after": kept()}, index=rows).round(4)

# %% [markdown]
# Linen's alone. `state_dict()` refers to the live tensors. `nnx.state` and `nnx.split` hand out the live boxes, so they
# follow the training as well: copy the arrays, `jax.tree.map(jnp.copy, state)`, or the whole model,
# `nnx.clone(model)`. A Linen tree can't change under you: a step makes a new one.
#
# ## Writing into a model
#
# torch refuses a plain tensor where a parameter was; its message says what it expected. NNX takes an array, and the
# box is gone. In [01b](01b_titanic_nnx.ipynb) an optimizer made before the slip complained; here it is made afterwards.

# %% tags=["trap:assign"]
source, model, variables = three(dropout=0.5)
with fails(TypeError):
    source.out.bias = torch.ones(1)

assigned, written = nnx.clone(model), nnx.clone(model)
assigned.out.bias = jnp.ones(1)  # the box is gone
written.out.bias[...] = jnp.ones(1)  # the box has a new content
for name, module in {"assigned": assigned, "written with [...]": written}.items():
    count = len(jax.tree.leaves(nnx.state(module, nnx.Param)))
    with suppress(AttributeError):  # flax 0.12.0 refuses here, newer ones do not
        nnx_step(module, nnx.Optimizer(module, sgd, wrt=nnx.Param), x, y)
    print(f"NNX, {name}: {count} Params, after a step the bias is {module.out.bias[0]:.4f}")

# %% [markdown]
# Assigned, the bias is no `Param`: no gradient, no update, and no word about it. (flax 0.12.0 raises when the layer is
# called: "object has no attribute 'value'".) Write into the box, with `[...]`.
#
# The way back into a model, torch's `load_state_dict`, is `nnx.update(model, state)`, and it refuses nothing: missing
# weights stay as they were, a wrong shape moves in. Compare the shapes first.

# %% tags=["trap:strict-load"]
with fails(RuntimeError):
    source.load_state_dict({"out.weight": torch.ones(1, 5)})

half = {"out": {"kernel": jnp.ones((5, 1))}}  # one array of six, of a wrong shape
trial = nnx.clone(model)
nnx.update(trial, half)
print("nnx.update takes it: out.kernel is now", trial.out.kernel.shape)

wanted, given = (jax.tree.map(jnp.shape, tree) for tree in (nnx.to_pure_dict(nnx.state(model, nnx.Param)), half))
with fails(ValueError):
    if wanted != given:
        raise ValueError(f"expected {wanted}, got {given}")
    nnx.update(model, half)

# %% [markdown]
# torch's message lists what is missing, and both shapes where they differ; our comparison prints all that was expected
# and all that was given. (`course.porting` compares names and shapes in the same way, and lists all that is wrong at
# once.)
#
# ## BatchNorm: who moves the averages?
#
# torch's and NNX's modules carry the mode: both start in training mode, `train()` and `eval()` switch it, and a call
# in training mode moves the averages. Linen's mode is an argument, and its modules can't move anything: a call that
# changes a collection must say `mutable=`, and then returns a *pair*, the output and the changed collections.

# %%
source, model, variables = three(dropout=0.0)  # without dropout all three compute the same
quiet = LinenNet(dropout=0.0)
source.train(), model.train()
source(x_torch), model(x)
with fails(ModifyScopeVariableError):
    quiet.apply(variables, x, train=True)

logits, changed = quiet.apply(variables, x, train=True, mutable=["batch_stats"])
means = {
    "torch": source.norm.running_mean, "NNX": model.norm.mean,
    "Linen, variables": variables["batch_stats"]["norm"]["mean"],
    "Linen, changed": changed["batch_stats"]["norm"]["mean"],
}  # fmt: skip
assert gap(means["torch"], means["NNX"]) < 1e-6 and gap(means["torch"], means["Linen, changed"]) < 1e-6
pd.DataFrame({name: np.asarray(mean[:4]) for name, mean in means.items()}).round(4)

# %% [markdown]
# The message names the collection that you forgot to list, `"batch_stats"`. The pair's second half is yours to
# keep: `{**variables, **changed}` goes into the next call. Drop it, and the averages stay where they began (means 0,
# variances 1) for the whole training, without a word. So does a call that forgets `train=True`, and it has no dropout
# either. (torch's running variance takes each batch's times N/(N - 1), flax's does not: see
# [02](02_same_numbers.ipynb).)
#
# The slip of torch and NNX is the other one: `eval()` forgotten.
#
# **Predict.** Two different rows go through the model in training mode, one at a time. What do torch and NNX answer?

# %%
with fails(ValueError):
    source(x_torch[:1])

before = jnp.copy(model.norm.mean[...])
training = [float(model(x[i : i + 1])[0]) for i in (0, 1)]
print(f"NNX in training mode: {training[0]:.4f} and {training[1]:.4f}")
print(f"and its averages moved by up to {gap(before, model.norm.mean):.2f}")

model.eval()
evaluated = [float(model(x[i : i + 1])[0]) for i in (0, 1)]
print(f"NNX after eval(): {evaluated[0]:.4f} and {evaluated[1]:.4f}")

# %% [markdown]
# Of one row the mean is the row itself and the variance is zero, so every row looks alike. torch raises: "more than 1
# value per channel" is its word for a batch of one. NNX answers, and moves its averages.
# `model.norm.use_running_average` and `model.drop.deterministic` tell the mode: an `assert` on them before an
# evaluation is cheap.
#
# ## Dropout: who draws?
#
# torch draws from the global generator, NNX from the layer's own key, and counts its draws. Linen wants a key with
# every call, and the same key is the same mask. `fold_in` makes a new key of a key and a number: fold the step into it.

# %%
ones, key = np.ones(12, np.float32), jax.random.key(SEED)
linen_drop = nn.Dropout(0.5, deterministic=False)
with fails(InvalidRngError):
    linen_drop.apply({}, ones)

nnx_drop = nnx.Dropout(0.5, rngs=nnx.Rngs(SEED))
draws = {
    "NNX, first call": nnx_drop(ones), "NNX, second call": nnx_drop(ones),
    "Linen, the key": linen_drop.apply({}, ones, rngs={"dropout": key}),
    "Linen, the key again": linen_drop.apply({}, ones, rngs={"dropout": key}),
    "Linen, step 1 folded in": linen_drop.apply({}, ones, rngs={"dropout": jax.random.fold_in(key, 1)}),
}  # fmt: skip
for name, kept in draws.items():
    print(f"{name:24}", *(f"{value:.0f}" for value in kept))
print("draws that NNX counted:", nnx_drop.rngs.count[...])

# %% [markdown]
# `needs PRNG for "dropout"` means: the call has no `rngs={"dropout": key}`. What is kept is doubled, as in torch, so
# that the mean stays. (`None` is where the layer's name would stand, had it a model around it.)
#
# ## A model taken apart
#
# Compiled programs take arrays and return arrays. `nnx.split` takes a model apart for them: the *graphdef* holds what
# is no array (classes, names, sizes, **the mode**), the *state* holds the arrays. `nnx.merge` puts both together
# inside the function, which returns the new state. `nnx.update` writes that into the model's boxes.

# %% alt="A diagram. A box model on the left. An arrow nnx.split leads to two boxes, graphdef with classes, names and mode, and state with the arrays. Both enter a rounded box, the compiled function, that merges, calls and takes the new state. An arrow nnx.update leads from the new state back to the model."
diagram = plots.Diagram(height=2.8)
model_box = diagram.array(0.8, 1.9, "model:\nboxes, mode", side="jax", width=1.3, height=0.8)
graph_box = diagram.array(3.0, 2.4, "graphdef: classes,\nnames, the mode", side="jax", width=1.6, height=0.6)
state_box = diagram.array(3.0, 1.4, "state:\nall arrays", side="jax", width=1.6, height=0.6)
call_box = diagram.function(5.2, 1.9, "jax.jit: nnx.merge,\ncall, nnx.state", side="jax", width=1.7, height=0.8)
for box in (graph_box, state_box):
    diagram.arrow(model_box, box, side="jax")
    diagram.arrow(box, call_box, side="jax")
for y_box, text in (2.4, "logits"), (1.4, "new state"):
    diagram.arrow(call_box, diagram.array(7.3, y_box, text, side="jax"), side="jax")
diagram.arrow((7.3, 1.17), (0.8, 1.5), side="jax", bend=-0.25)
diagram.note(1.7, 2.45, "nnx.split")
diagram.note(4.1, 0.2, "nnx.update(model, new state)")
plt.show()
graphdef, state = nnx.split(model)
print("arrays in the graphdef:", len(jax.tree.leaves(graphdef)), " in the state:", len(jax.tree.leaves(state)))


# %% [markdown]
# ## Compiled in three ways
#
# An NNX module is a pytree, so `jax.jit` takes it as it is, without being split. So does `nnx.jit`. By hand it takes
# the steps of the picture.
#
# **Predict.** The model is in training mode and is called twice on the same rows, in each of the three ways. When are
# the two answers the same? What has changed in the model afterwards?

# %% tags=["trap:batch-norm-under-jit"]
@jax.jit
def pure(graphdef, state, x):
    model = nnx.merge(graphdef, state)
    return model(x), nnx.state(model)  # state in, state out


def by_hand(model, x):
    logits, state = pure(*nnx.split(model), x)
    nnx.update(model, state)
    return logits


source, model, variables = three(dropout=0.5)
model.train()
ways = {"jax.jit": jax.jit(NNXNet.__call__), "nnx.jit": nnx.jit(NNXNet.__call__), "by hand": by_hand}
for name, call in ways.items():
    trial = nnx.clone(model)
    first, second = call(trial, x), call(trial, x)
    print(f"{name}: mean logit {first.mean():.4f}, then {second.mean():.4f}; draws counted: "
          f"{trial.drop.rngs.count[...]}; a running mean: {trial.norm.mean[0]:.4f}")  # fmt: skip

# %% [markdown]
# `jax.jit` works on a copy of the boxes and gives back only what the function returns. The averages stay at zero,
# the counter too, and so every call draws the same mask. Without a word. `nnx.jit` writes the changes back, and so
# does `nnx.update`.
#
# Splitting at every call costs time, so fast loops ([10](10_jit_speed.ipynb)) split once, or leave that to
# `nnx.cached_partial`, which binds a compiled function to a model and keeps the split.
#
# `predict` is `nnx.jit` of the call, `cached` is `predict` bound to the model, and `pure` gets the graphdef of one
# `nnx.split`; all of them made in training mode.
#
# **Predict.** Then comes `model.eval()`. Which of the three still drop units?

# %% tags=["trap:stale-mode"]
predict = nnx.jit(NNXNet.__call__)
graphdef, _ = nnx.split(model)
cached = nnx.cached_partial(predict, model)
model.eval()
print("model.drop.deterministic:", model.drop.deterministic)


def ask():
    print(f"mean logit, by eval(): {model(x).mean():.4f}")
    print(f"  predict(model, x)    {predict(model, x).mean():.4f}")
    print(f"  pure(graphdef, …)    {pure(graphdef, nnx.state(model), x)[0].mean():.4f}")
    print(f"  cached(x)            {cached(x).mean():.4f}")


ask()
graphdef, _ = nnx.split(model)
cached = nnx.cached_partial(predict, model)
print("split and bound again")
ask()

# %% [markdown]
# Two of three. The mode is no array: it sits in the graphdef, and that was captured while the model trained. The flag
# on the model says `True`, and the compiled call drops units. `cached` moved the averages, too: by `eval()` the answer
# is no longer what it was. `predict` compares the mode at every call, and compiles anew. So after `train()` or `eval()`
# split again and bind again. Better: keep two from the start, one for each mode.
#
# ## A model read from outside
#
# A function may read a model from outside instead of taking it as an argument. In torch everybody does.
#
# **Predict.** Each function is called, the model takes a training step, and it is called again. Which of them see the
# new weights?

# %%
source, model, variables = three(dropout=0.5)
reading = {
    "torch, reads source": lambda: source(x_torch).detach()[0],
    "jax.jit, reads model": jax.jit(lambda: model(x)[0]),
    "jax.jit, reads variables": jax.jit(lambda: net.apply(variables, x)[0]),
}
old = {name: float(f()) for name, f in reading.items()}

torch_step(source, torch.optim.SGD(source.parameters(), RATE), x_torch, y_torch)
nnx_step(model, nnx.Optimizer(model, sgd, wrt=nnx.Param), x, y)
variables = {**variables, "params": stepped}

for name, f in reading.items():
    print(f"{name:25} before {old[name]:.4f}, after {float(f()):.4f}")
handed_in = predict(model, x)[0], jax.jit(net.apply)(variables, x)[0]
print(f"handed in as arguments: NNX {handed_in[0]:.4f}, Linen {handed_in[1]:.4f}")

model.train()
with fails(TraceContextError):
    jax.jit(lambda: model(x))()


# %% [markdown]
# A compiled function reads a global once, while it is traced, and keeps what it found as a constant
# ([08](08_tracing.ipynb)). Weights that are to change go in as arguments. What never changes, like Linen's `net`,
# may stay outside.
#
# One case is loud: in training mode the model wants to change its averages. "From a different trace level" means: the
# function writes into a box that it did not get as an argument.
#
# ## A whole step
#
# NNX's step is `nnx_step`, as it stands. Linen's has to carry the averages out of the loss, and `jax.grad` wants one
# number: `has_aux=True` lets a second value pass beside it. Without it the error says "only defined for scalar-output
# functions" and shows the pair. `TrainState` holds parameters and optimizer; a subclass gives the averages a place.

# %%
class State(TrainState):
    batch_stats: dict


def train_loss(params, batch_stats, key, x, y):
    variables = {"params": params, "batch_stats": batch_stats}
    logits, changed = quiet.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})
    return ((logits - y) ** 2).mean(), changed["batch_stats"]


with fails(TypeError, lines=4):
    jax.jit(jax.grad(train_loss))(variables["params"], variables["batch_stats"], key, x, y)


@jax.jit
def linen_step(state, key, x, y):
    step_key = jax.random.fold_in(key, state.step)  # a new mask for every step
    losses = jax.value_and_grad(train_loss, has_aux=True)
    (loss, batch_stats), grads = losses(state.params, state.batch_stats, step_key, x, y)
    return state.apply_gradients(grads=grads, batch_stats=batch_stats), loss


# %%
source, model, variables = three(dropout=0.0)
source.train(), model.train()
torch_sgd, optimizer = torch.optim.SGD(source.parameters(), RATE), nnx.Optimizer(model, sgd, wrt=nnx.Param)
state = State.create(apply_fn=quiet.apply, tx=sgd, **variables)
rows = []
for _ in range(3):
    state, loss = linen_step(state, key, x, y)
    rows.append((torch_step(source, torch_sgd, x_torch, y_torch), float(nnx_step(model, optimizer, x, y)), float(loss)))

means = source.norm.running_mean, model.norm.mean, state.batch_stats["norm"]["mean"]
assert max(gap(means[0], means[1]), gap(means[0], means[2])) < 1e-5
print("a running mean:", *(f"{float(mean[0]):.4f}" for mean in means))
pd.DataFrame(rows, columns=["torch", "NNX", "Linen"]).round(4)

# %% [markdown]
# Three steps in three frameworks, the same losses and the same running mean.
#
# ## Summary
#
# - Everything is a tree. Pick leaves by path, or in NNX by filter, never by their order.
# - `nnx.state` shares the live boxes: copy what you want to keep, write with `[...]`, compare shapes before an update.
# - State that nobody returns is lost: `jax.jit` drops what an NNX module changed, Linen's second half is yours to keep.
# - The mode is captured by `nnx.split` and `nnx.cached_partial`, a global by `jax.jit`: split again after `eval()`, and
#   hand in what changes.
#
# ## Further reading
#
# - [Flax, NNX basics](https://flax.readthedocs.io/en/latest/nnx_basics.html): modules, boxes, split, merge, update.
# - [Flax, filters](https://flax.readthedocs.io/en/latest/guides/filters_guide.html): the whole language of filters.
# - [JAX, jax.tree](https://docs.jax.dev/en/latest/jax.tree.html): every function on trees.
# - [Batch Normalization, Ioffe and Szegedy](https://arxiv.org/abs/1502.03167): why training and evaluation differ.
#
# Exercises: [your turn](exercises/03_state_and_trees.ipynb).
#
# Next: [04 · Optimizers](04_optimizers.ipynb).
