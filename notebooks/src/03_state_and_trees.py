# %% [markdown]
# # 03 · State and trees
#
# **Where does everything live that is not a weight, and who updates it?** (40 minutes)

# %% [markdown]
# After this lesson you can
#
# - find every array of a model in PyTorch, NNX and Linen, and pick those to train, decay or freeze,
# - say who updates BatchNorm's averages and dropout's randomness, and notice when nobody does,
# - translate optimizers, schedules, clipping, accumulation, EMA and mixed precision, and check them by numbers,
# - save a training run, restore it, and read a `.pt` file.

# %%
import copy
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pandas as pd
import torch
from flax import errors
from flax import linen as nn
from flax import nnx
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course import porting

# %%
SEED, ROWS, RATE = 0, 32, 0.1

torch.set_num_threads(1)
rng = np.random.default_rng(SEED)
x = rng.normal(size=(ROWS, 4)).astype(np.float32)
y = x.sum(axis=1)
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y)


def gap(a, b):
    a, b = (t.detach().float().numpy() if isinstance(t, torch.Tensor) else np.asarray(t, np.float32) for t in (a, b))
    return float(np.abs(a - b).max())


# %% [markdown]
# ## One model, three homes
#
# A small network with every kind of state: weights, BatchNorm's running averages, dropout's randomness. In
# PyTorch all arrays sit on the module. Weights are *parameters*, the others *buffers*. The random generator is
# in neither list: it is global.

# %%
class TorchNet(torch.nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.hidden = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.drop = torch.nn.Dropout(rate)
        self.out = torch.nn.Linear(8, 1)

    def forward(self, x):
        x = self.drop(torch.relu(self.norm(self.hidden(x))))
        return self.out(x).squeeze(-1)  # (B,)


source = TorchNet(rate=0.5)
print("parameters:", *(name for name, _ in source.named_parameters()))
print("buffers:   ", *(name for name, _ in source.named_buffers()))


# %% [markdown]
# In NNX all arrays sit on the module too, each in a box whose type says what it is: `Param`, `BatchStat`, and
# for dropout a key with a counter, `RngState`. (`momentum=0.9` is torch's 0.1, see
# [02](02_same_numbers.ipynb).)

# %%
class NNXNet(nnx.Module):
    def __init__(self, rate, *, rngs):
        self.hidden = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        x = self.drop(nnx.relu(self.norm(self.hidden(x))))
        return self.out(x).squeeze(-1)  # (B,)


model = NNXNet(rate=0.5, rngs=nnx.Rngs(SEED))
for kind in (nnx.Param, nnx.BatchStat, nnx.RngState):
    print(f"{kind.__name__:10}", *(".".join(path) for path, _ in nnx.to_flat_state(nnx.state(model, kind))))


# %% [markdown]
# In Linen the module holds nothing. `init` returns a dict with one entry, a *collection*, for each kind.
# Randomness is not among them: every call is handed its own. Whether a call trains is an argument as well.

# %%
class LinenNet(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8, name="hidden")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = nn.Dropout(self.rate, deterministic=not train)(nn.relu(x))
        return nn.Dense(1, name="out")(x).squeeze(-1)  # (B,)


net = LinenNet(rate=0.5)
for collection, tree in net.init(jax.random.key(SEED), x).items():
    leaves = jax.tree.leaves_with_path(tree)
    print(f"{collection:12}", *(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves))


# %%
def three(rate=0.5):
    torch.manual_seed(SEED)
    source, net = TorchNet(rate).eval(), LinenNet(rate)
    model = porting.torch_to_nnx(source, NNXNet(rate, rngs=nnx.Rngs(SEED)))
    model.eval()
    return source, model, net, porting.torch_to_linen(source, net.init(jax.random.key(SEED), x))


source, model, net, variables = three()
params = variables["params"]
assert gap(source(x_torch), model(x)) < 1e-6 and gap(source(x_torch), net.apply(variables, x)) < 1e-6
print("three homes, one function: equal within 1e-6  ok")


# %% [markdown]
# ## Trees
#
# Nested dicts, lists and tuples of arrays are *pytrees*. So are NNX states, gradients and optimizer states.
# They are containers, not vectors: arithmetic goes through `jax.tree.map`, leaf by leaf.
#
# A leaf's name is its path, which `jax.tree.map_with_path` hands over with the leaf. NNX also has *filters*: by
# type, by path, or combined. The second cell takes the squared weights without biases and norms, three times.

# %%
def torch_loss(model):
    return ((model(x_torch) - y_torch) ** 2).mean()


def linen_loss(params):
    return ((net.apply({**variables, "params": params}, x) - y) ** 2).mean()


linen_grad = jax.jit(jax.grad(linen_loss))
grads = linen_grad(params)
try:
    params - RATE * grads
except TypeError as error:
    print(type(error).__name__)
stepped = jax.tree.map(lambda p, g: p - RATE * g, params, grads)

by_hand = copy.deepcopy(source)
torch_loss(by_hand).backward()
with torch.no_grad():
    for p in by_hand.parameters():
        p -= RATE * p.grad
assert gap(by_hand.hidden.weight.T, stepped["hidden"]["kernel"]) < 1e-6
print("jax.tree.map over two trees = a loop over parameters()  ok")

# %%
theirs = sum((p**2).sum() for p in source.parameters() if p.ndim > 1)

is_kernel = jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)
print(is_kernel)
by_path = sum(jax.tree.leaves(jax.tree.map(lambda p, wanted: (p**2).sum() if wanted else 0.0, params, is_kernel)))

kernels = nnx.All(nnx.Param, nnx.PathContains("kernel"))
by_filter = sum((p**2).sum() for p in jax.tree.leaves(nnx.state(model, kernels)))

assert gap(theirs, by_path) < 1e-5 and gap(theirs, by_filter) < 1e-5
print("torch, Linen by path, NNX by filter: the same sum  ok")


# %% [markdown]
# ## Who owns the arrays?
#
# You keep the best weights, and training goes on. In torch you know the slip: `state_dict()` refers to the
# live tensors. `nnx.state` and `nnx.split` hand out the live boxes, so they follow as well. A Linen tree can't
# change under you.

# %%
def nnx_loss(model):
    return ((model(x) - y) ** 2).mean()


@nnx.jit
def nnx_step(model, optimizer):
    optimizer.update(model, nnx.grad(nnx_loss)(model))


sgd = optax.sgd(RATE)
kept = source.state_dict(), nnx.state(model, nnx.Param), params
copies = copy.deepcopy(kept[0]), jax.tree.map(jnp.copy, kept[1]), params

torch_loss(source).backward()
torch.optim.SGD(source.parameters(), RATE).step()
nnx_step(model, nnx.Optimizer(model, sgd, wrt=nnx.Param))
updates, _ = sgd.update(grads, sgd.init(params), params)
updated = optax.apply_updates(params, updates)

trained = source.out.weight, model.out.kernel[...].T, updated["out"]["kernel"].T
assert gap(trained[0], trained[1]) < 1e-6 and gap(trained[0], trained[2]) < 1e-6
for (a, b, c), words in (kept, "as it came"), (copies, "copied"):
    old = a["out.weight"], b["out"]["kernel"][...].T, c["out"]["kernel"].T
    follows = [gap(*pair) == 0 for pair in zip(old, trained, strict=True)]
    print(f"{words:11}follows the training: torch {follows[0]}, NNX {follows[1]}, Linen {follows[2]}")

# %% [markdown]
# `nnx.clone(model)` copies too. The way back is `nnx.update(model, copied)`, torch's `load_state_dict`. And
# `nnx.merge(*nnx.split(model))` is no copy: its boxes are the model's own.
#
# The next slip is an assignment. torch refuses a plain tensor where a parameter was. NNX takes the array, and
# the box is gone: no `Param`, no gradient, no update, and no word about it. (An optimizer made before the slip
# raises at its next update; flax 0.12.0 raises in the gradient.) Write into the box instead.

# %%
try:
    source.out.bias = torch.ones(1)
except TypeError as error:
    print("torch:", type(error).__name__)

assert nnx.merge(*nnx.split(model)).out.bias is model.out.bias
broken, mended = nnx.clone(model), nnx.clone(model)
broken.out.bias = jnp.ones(1)  # the box is gone
mended.out.bias[...] = jnp.ones(1)  # the box has a new content
for name, module in ("assigned", broken), ("written with [...]", mended):
    count = len(jax.tree.leaves(nnx.state(module, nnx.Param)))
    try:
        nnx_step(module, nnx.Optimizer(module, sgd, wrt=nnx.Param))
        print(f"NNX, {name}: {count} Params, the bias learns: {bool(module.out.bias[0] != 1)}")
    except AttributeError as error:
        print(f"NNX, {name}: {count} Params, {type(error).__name__}")

# %% [markdown]
# ## Train and eval
#
# torch's and NNX's modules carry the mode: both start in training mode, `train()` and `eval()` switch it.
# Linen's mode is an argument, and so are its consequences: a call that changes a collection must say
# `mutable=`, and then returns a *pair*, the output and the changed collections. Drop the second half and
# BatchNorm never learns its averages.

# %%
source, model, net, variables = three(rate=0.0)
source.train(), model.train()
try:
    net.apply(variables, x, train=True)
except errors.ModifyScopeVariableError as error:
    print("Linen:", type(error).__name__)
theirs, ours = source(x_torch), model(x)
logits, changed = net.apply(variables, x, train=True, mutable=["batch_stats"])
assert gap(theirs, ours) < 1e-5 and gap(ours, logits) < 1e-5
for name, now in ("dropped", variables), ("kept", {**variables, **changed}):
    same = gap(source.norm.running_mean, now["batch_stats"]["norm"]["mean"]) < 1e-6
    print(f"Linen, second half {name}: running mean as in torch: {same}")
assert gap(source.norm.running_mean, model.norm.mean[...]) < 1e-6

try:
    source(x_torch[:1])  # eval() forgotten, one row
except ValueError as error:
    print("torch:", type(error).__name__)
a, b = model(x[:1]), model(x[1:2])
print(f"NNX, eval() forgotten, two different rows: {a[0]:.4f} and {b[0]:.4f}")

# %% [markdown]
# With one row the batch's variance is zero and every row looks alike: torch raises, NNX answers.
#
# Dropout needs randomness. torch takes it from the global generator, NNX from the module's own `Rngs`, which
# counts its draws. Linen wants a key with every call, and the same key is the same mask: fold the step into it.

# %%
ones, key = np.ones(10_000, np.float32), jax.random.key(SEED)
linen_drop = nn.Dropout(0.5, deterministic=False)
try:
    linen_drop.apply({}, ones)
except errors.InvalidRngError as error:
    print("Linen:", type(error).__name__)

torch.manual_seed(SEED)
theirs = torch.nn.Dropout(0.5)(torch.from_numpy(ones))
ours = nnx.Dropout(0.5, rngs=nnx.Rngs(SEED))(ones)
masks = [linen_drop.apply({}, ones, rngs={"dropout": key}) for _ in range(2)]
later = linen_drop.apply({}, ones, rngs={"dropout": jax.random.fold_in(key, 1)})
for name, out in ("torch", theirs.numpy()), ("NNX", ours), ("Linen", masks[0]):
    print(f"{name:6} values {np.unique(out)}, half of them zero within 2%: {abs((out == 0).mean() - 0.5) < 0.02}")
print("Linen, same key, same mask:", bool((masks[0] == masks[1]).all()))
print("Linen, step folded in, same mask:", bool((masks[0] == later).all()))


# %% [markdown]
# ## What `jax.jit` forgets
#
# An NNX module is a pytree, so `jax.jit` takes it as an argument. It works on a copy of the boxes and returns
# only what the function returns: BatchNorm's averages stay, and the dropout counter too, so each call draws
# the same mask. Without a word. (A module that is not an argument but a global raises, at least.) `nnx.jit`
# writes the changes back. By hand it is Linen's pattern: state in, state out.

# %%
def call(model, x):
    return model(x)


_, model, _, _ = three()
model.train()
graphdef, _ = nnx.split(model)


@jax.jit
def pure(state, x):
    model = nnx.merge(graphdef, state)
    return model(x), nnx.state(model)


def by_hand(model, x):
    out, state = pure(nnx.state(model), x)
    nnx.update(model, state)
    return out


# %%
ways, after = {"jax.jit": jax.jit(call), "nnx.jit": nnx.jit(call), "by hand": by_hand}, {}
for name, way in ways.items():
    trial = nnx.clone(model)
    first, second = way(trial, x), way(trial, x)
    after[name] = first, second, trial.norm.mean[...], trial.norm.var[...]
    print(f"{name:10} same mask twice: {bool((first == second).all())!s:6}", end="")
    print(f"averages moved: {gap(trial.norm.mean[...], 0) > 0!s:6} draws counted: {int(trial.drop.rngs.count[...])}")
assert all(gap(a, b) < 1e-5 for a, b in zip(after["nnx.jit"], after["by hand"], strict=True))

try:
    jax.jit(lambda x: model(x))(x)
except errors.TraceContextError as error:
    print("model as a global:", type(error).__name__)

# %% [markdown]
# ## Optimizer state
#
# Adam's moments are trees like the parameters. torch makes them at the first step, Optax in `init`.
# `nnx.Optimizer` keeps the same tree, in boxes, as `opt_state`. What `update` returns is to be *added*: it
# carries the minus.

# %%
source, model, net, variables = three()
adam, adam_rule = torch.optim.Adam(source.parameters(), RATE), optax.adam(RATE)
opt_state, adam_update = adam_rule.init(params), jax.jit(adam_rule.update)
print("arrays before the first step: torch", len(adam.state), " Optax", len(jax.tree.leaves(opt_state)))
paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(opt_state)]
print(*(path for path in paths if "count" in path or "out" in path), sep="  ")


def torch_step(source, optimizer):
    optimizer.zero_grad()
    torch_loss(source).backward()
    optimizer.step()


torch_step(source, adam)
updates, opt_state = adam_update(grads, opt_state, params)
optimizer = nnx.Optimizer(model, adam_rule, wrt=nnx.Param)
nnx_step(model, optimizer)
moments = opt_state[0].mu["out"]["kernel"], optimizer.opt_state[0].mu["out"]["kernel"][...]
assert all(gap(adam.state[source.out.weight]["exp_avg"].T, moment) < 1e-6 for moment in moments)

for words, sign in ("params + updates", 1), ("params - updates", -1):  # as one subtracts a gradient
    loss = linen_loss(jax.tree.map(lambda p, u, sign=sign: p + sign * u, params, updates))
    print(f"{words}: the loss falls: {bool(loss < linen_loss(params))}")

# %% [markdown]
# ## Defaults that differ
#
# [02](02_same_numbers.ipynb) found AdamW's. Here are the others: the same weights, the same five gradients,
# and the largest gap between torch's weights and Optax's. First those that agree:

# %%
start, pushes = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(5, 4, 3)).astype(np.float32)


def walks_apart(make, rule):
    weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer, ours, state = make([weights]), jnp.asarray(start), rule.init(jnp.asarray(start))
    for push in pushes:
        weights.grad = torch.from_numpy(push.copy())
        optimizer.step()
        updates, state = rule.update(push, state, ours)
        ours = optax.apply_updates(ours, updates)
    return gap(weights, ours)


optim, nesterov = torch.optim, {"momentum": 0.9, "nesterov": True}
assert walks_apart(lambda p: optim.SGD(p, RATE, **nesterov), optax.sgd(RATE, **nesterov)) < 1e-5
for name in ("Adam", "Adamax", "Adadelta", "RAdam"):
    theirs, ours = getattr(optim, name), getattr(optax, name.lower())
    assert walks_apart(lambda p, theirs=theirs: theirs(p, RATE), ours(RATE)) < 1e-4
print("SGD with Nesterov, Adam, Adamax, Adadelta, RAdam: equal as they are")

# %%
decay, momentum = optax.add_decayed_weights(0.1), optax.sgd(RATE, momentum=0.9)
rules = {  # torch's, as first written, what to write
    "AdamW": (lambda p: optim.AdamW(p, RATE), optax.adamw(RATE), optax.adamw(RATE, weight_decay=0.01)),
    "RMSprop": (lambda p: optim.RMSprop(p, RATE), optax.rmsprop(RATE),
                optax.rmsprop(RATE, decay=0.99, eps_in_sqrt=False)),
    "Adagrad": (lambda p: optim.Adagrad(p, RATE), optax.adagrad(RATE),
                optax.adagrad(RATE, initial_accumulator_value=0.0, eps=0.0)),
    "SGD with weight_decay": (lambda p: optim.SGD(p, RATE, momentum=0.9, weight_decay=0.1),
                              optax.chain(momentum, decay), optax.chain(decay, momentum)),
    "Adam with weight_decay": (lambda p: optim.Adam(p, RATE, weight_decay=0.1),
                               optax.adamw(RATE, weight_decay=0.1), optax.chain(decay, optax.adam(RATE))),
    "NAdam": (lambda p: optim.NAdam(p, RATE), optax.nadam(RATE), None),
    "Adam with amsgrad": (lambda p: optim.Adam(p, RATE, amsgrad=True), optax.amsgrad(RATE), None),
    "Rprop": (lambda p: optim.Rprop(p, RATE), optax.rprop(RATE), None),
}  # fmt: skip
rows = {name: (round(walks_apart(theirs, wrong), 3), walks_apart(theirs, right) < 1e-5 if right else "no counterpart")
        for name, (theirs, wrong, right) in rules.items()}  # fmt: skip
pd.DataFrame(rows, index=["first try: gap", "then within 1e-5"]).T


# %% [markdown]
# What changed stands in the cell: AdamW's decay, RMSprop's decay and the place of its epsilon, Adagrad's start at
# 0.1 where torch has 0. torch's `weight_decay` in SGD and Adam is added to the gradient *before* the rule; after
# it, as in `adamw`, it is another method. The last three are other algorithms: torch's NAdam raises its momentum
# over thousands of steps, Optax corrects AMSGrad's second moment before it takes the maximum and torch after, and
# `optax.rprop` holds every step back for one call.
#
# ## Schedules
#
# A torch scheduler moves when *you* call `step()`, often once an epoch. An Optax schedule is a function of the
# number of updates: it counts batches.

# %%
def torch_rates(make, every=1):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
    scheduler, rates = make(optimizer), []
    for step in range(1, 41):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return np.array(rates)


def warm_up(o):
    parts = lr_scheduler.LinearLR(o, 0.1, total_iters=10), lr_scheduler.CosineAnnealingLR(o, 30)
    return lr_scheduler.SequentialLR(o, parts, [10])


# %%
step_lr, multi, cosine = optax.exponential_decay, optax.piecewise_constant_schedule, optax.cosine_decay_schedule
one_cycle, warm = optax.cosine_onecycle_schedule, optax.warmup_cosine_decay_schedule
rates = {  # torch's, as first written, right
    "StepLR(10): staircase": (torch_rates(lambda o: lr_scheduler.StepLR(o, 10)),
        step_lr(RATE, 10, 0.1), step_lr(RATE, 10, 0.1, staircase=True)),
    "StepLR(2), stepped every 5 batches": (torch_rates(lambda o: lr_scheduler.StepLR(o, 2), every=5),
        step_lr(RATE, 2, 0.1, staircase=True), step_lr(RATE, 2 * 5, 0.1, staircase=True)),
    "MultiStepLR([10, 20]): scales multiply": (torch_rates(lambda o: lr_scheduler.MultiStepLR(o, [10, 20])),
        multi(RATE, {10: 0.1, 20: 0.01}), multi(RATE, {10: 0.1, 20: 0.1})),
    "eta_min=0.01: alpha is a fraction": (torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 40, 0.01)),
        cosine(RATE, 40, alpha=0.01), cosine(RATE, 40, alpha=0.1)),
    "CosineAnnealingLR(20) climbs again": (torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 20)),
        cosine(RATE, 20), lambda step: RATE * (1 + jnp.cos(jnp.pi * step / 20)) / 2),
    "decay_steps includes the warm-up": (torch_rates(warm_up),
        warm(0.01, RATE, 10, decay_steps=30), warm(0.01, RATE, 10, decay_steps=40)),
    "OneCycleLR(50) peaks a step early": (torch_rates(lambda o: lr_scheduler.OneCycleLR(o, RATE, 50)),
        one_cycle(50, RATE), one_cycle(49, RATE, pct_start=14 / 49)),
}  # fmt: skip
ours = jax.jit(jax.vmap(lambda step: [(wrong(step), right(step)) for _, wrong, right in rates.values()]))(np.arange(40))
rows = {name: (round(gap(theirs, wrong), 3), gap(theirs, right) < 1e-6)
        for (name, (theirs, *_)), (wrong, right) in zip(rates.items(), ours, strict=True)}  # fmt: skip
pd.DataFrame(rows, index=["first try: gap", "then within 1e-6"]).T

# %% [markdown]
# ## Some weights differently
#
# torch has parameter groups. Optax takes a *mask*, a tree of booleans or a function that makes one, or labels
# for `optax.partition`. First, weight decay without biases and norms: a bare `weight_decay=` decays everything,
# on both sides.
#
# Then all but the last layer is frozen. `optax.masked` looks right and is not: what it leaves out it passes
# *through*, so a frozen weight moves by its bare gradient, uphill. Label it `set_to_zero` instead. In NNX, `wrt=`
# and `DiffState` take a filter, and no gradient is computed for the rest.

# %%
source, model, net, variables = three()
matrices, vectors = ([p for p in source.parameters() if (p.ndim > 1) == wanted] for wanted in (True, False))
groups = [{"params": matrices, "weight_decay": 0.5}, {"params": vectors, "weight_decay": 0.0}]
torch_step(source, torch.optim.AdamW(groups, RATE))
for name, mask in ("no mask", None), ("mask", lambda params: jax.tree.map(lambda p: p.ndim > 1, params)):
    rule = optax.adamw(RATE, weight_decay=0.5, mask=mask)
    updates, _ = jax.jit(rule.update)(grads, rule.init(params), params)
    updated = optax.apply_updates(params, updates)
    print(f"{name:8} BatchNorm's scales are off by {gap(source.norm.weight, updated['norm']['scale']):.3f}")
assert gap(source.norm.weight, updated["norm"]["scale"]) < 1e-5
assert gap(source.hidden.weight.T, updated["hidden"]["kernel"]) < 1e-5

# %%
source, model, net, variables = three()
source.hidden.requires_grad_(False), source.norm.requires_grad_(False)
torch_step(source, torch.optim.SGD(source.parameters(), RATE))

masked = optax.masked(sgd, {"hidden": False, "norm": False, "out": True})
labels = {"hidden": "frozen", "norm": "frozen", "out": "trained"}
partition = optax.partition({"trained": sgd, "frozen": optax.set_to_zero()}, labels)
for name, rule in ("masked", masked), ("partition", partition):
    updates, _ = rule.update(grads, rule.init(params), params)
    ratio = updates["hidden"]["kernel"].sum() / grads["hidden"]["kernel"].sum()
    print(f"{name:10} moves a frozen weight by {ratio:.1f} times its gradient")
updated = optax.apply_updates(params, updates)

head = nnx.All(nnx.Param, nnx.PathContains("out"))
own = nnx.grad(nnx_loss, argnums=nnx.DiffState(0, head))(model)
nnx.Optimizer(model, sgd, wrt=head).update(model, own)
for layer, theirs in ("hidden", source.hidden.weight.T), ("out", source.out.weight.T):
    assert gap(theirs, updated[layer]["kernel"]) < 1e-6
    assert gap(theirs, getattr(model, layer).kernel[...]) < 1e-6
print("frozen and trained as in torch  ok")

# %% [markdown]
# ## Clipping, accumulation, EMA
#
# Three small numbers. torch adds 1e-6 to the norm it divides by, which shows where gradients are tiny. It *sums*
# what `.grad` accumulates, `MultiSteps` takes the mean. Its moving average starts at the first weights;
# `optax.ema` starts at zero and corrects for it, which is another average.

# %%
for size in (1.0, 1e-5):
    push, weights = (size * pushes[0]).astype(np.float32), torch.nn.Parameter(torch.zeros(4, 3))
    weights.grad = torch.from_numpy(push.copy())
    torch.nn.utils.clip_grad_norm_([weights], size)
    clipped, _ = optax.clip_by_global_norm(size).update(push, optax.EmptyState())
    norms = float(weights.grad.norm()) / size, float(optax.tree.norm(clipped)) / size
    print(f"clipped to {size:.0e}: torch leaves {norms[0]:.2f} of it, Optax {norms[1]:.2f}")

weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
for push in pushes[:2]:
    (weights * torch.from_numpy(push)).sum().backward()  # no zero_grad between
torch.optim.SGD([weights], RATE).step()
for name, inner in ("sgd", sgd), ("chain(scale(2), sgd)", optax.chain(optax.scale(2.0), sgd)):
    rule, ours = optax.MultiSteps(inner, every_k_schedule=2), jnp.asarray(start)
    state, update = rule.init(ours), jax.jit(rule.update)
    for push in pushes[:2]:
        updates, state = update(push, state, ours)
        ours = optax.apply_updates(ours, updates)
    share = (ours - start).sum() / (weights.detach().numpy() - start).sum()
    print(f"MultiSteps({name}, 2) makes {share:.1f} of torch's step")
assert gap(weights, ours) < 1e-5

# %%
live = torch.nn.Linear(1, 1, bias=False)
average = AveragedModel(live, multi_avg_fn=get_ema_multi_avg_fn(0.9))
ema, smooth = optax.ema(0.9), None
state, rows = ema.init(jnp.zeros(())), []
for weight in (1.0, 2.0, 3.0):
    live.weight.data.fill_(weight)
    average.update_parameters(live)
    corrected, state = ema.update(jnp.asarray(weight), state)
    smooth = weight if smooth is None else optax.incremental_update(weight, smooth, step_size=0.1)
    rows.append((weight, average.module.weight.item(), float(corrected), float(smooth)))
table = pd.DataFrame(rows, columns=["weight", "AveragedModel", "optax.ema", "incremental_update"])
assert gap(table["AveragedModel"], table["incremental_update"]) < 1e-6
table.round(3)

# %% [markdown]
# ## Mixed precision without autocast
#
# autocast decides for each operation. In flax you say it for each layer: `dtype` is what it computes in,
# `param_dtype` what it stores. With `dtype=bfloat16` weights and running averages stay float32, as under autocast.
#
# Three slips. A bfloat16 input alone is promoted back to float32 by the weights: nothing is gained.
# `param_dtype=bfloat16` stores weights that cannot take small steps. And a loss on bfloat16 logits stays bfloat16,
# where autocast makes it float32: cast the logits.

# %%
linear, classes = torch.nn.Linear(4, 3), torch.arange(ROWS) % 3
with torch.autocast("cpu", dtype=torch.bfloat16):
    logits = linear(x_torch)
    theirs = torch.nn.functional.cross_entropy(logits, classes)
rows = {"torch.autocast": [str(dtype)[6:] for dtype in (linear.weight.dtype, logits.dtype, theirs.dtype)]}

half, zeros = jnp.bfloat16, nnx.initializers.zeros_init()
cross_entropy = jax.jit(lambda z: optax.softmax_cross_entropy_with_integer_labels(z, classes.numpy()).mean())
for name, options, cast_in, cast_out in [
    ("input.astype(bfloat16)", {}, half, None),
    ("param_dtype=bfloat16", {"param_dtype": half}, None, None),
    ("dtype=bfloat16", {"dtype": half}, None, None),
    ("the same, logits.astype(float32)", {"dtype": half}, None, jnp.float32),
]:
    layer = nnx.Linear(4, 3, **options, kernel_init=zeros, rngs=nnx.Rngs(SEED))
    layer.kernel[...] = jnp.asarray(linear.weight.detach().numpy().T, layer.kernel[...].dtype)
    layer.bias[...] = jnp.asarray(linear.bias.detach().numpy(), layer.bias[...].dtype)
    logits = layer(jnp.asarray(x, cast_in))
    ours = cross_entropy(logits if cast_out is None else logits.astype(cast_out))
    rows[name] = [str(dtype) for dtype in (layer.kernel[...].dtype, logits.dtype, ours.dtype)]
assert gap(theirs, ours) < 2e-3
assert nnx.BatchNorm(3, dtype=half, rngs=nnx.Rngs(SEED)).mean[...].dtype == jnp.float32
print("1 + 0.001 in bfloat16:", half(1) + half(0.001))
pd.DataFrame(rows, index=["weights", "logits", "loss"]).T

# %% [markdown]
# ## Saving and restoring
#
# Orbax writes a tree of arrays into a folder. It does not write what kind of tree it was: restored without an
# example, optimizer states come back as lists and dicts, and Optax can't use them. With an example (a fresh
# state, or its `jax.eval_shape`) you get the same types back, and a shape that differs raises. The folder must
# not exist, unless you say `force=True`; torch overwrites. For NNX, save `nnx.state((model, optimizer))` and
# `nnx.update` both from what comes back.
#
# A `.pt` file is read by torch; `course.porting` takes the weights from there, and refuses what does not fit.
# `nnx.update` refuses nothing: missing weights stay as they were, a wrong shape moves in. Compare the shapes first.

# %%
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
source, model, net, variables = three()
adam = torch.optim.Adam(source.parameters(), RATE)


def advance(run):
    updates, opt_state = adam_update(linen_grad(run["params"]), run["opt_state"], run["params"])
    return {"params": optax.apply_updates(run["params"], updates), "opt_state": opt_state}


torch_step(source, adam)
fresh = {"params": params, "opt_state": adam_rule.init(params)}
torch.save({"model": source.state_dict(), "optimizer": adam.state_dict()}, folder / "run.pt")
with ocp.StandardCheckpointer() as checkpointer:  # leaving the block waits until all is written
    checkpointer.save(folder / "run", advance(fresh))
with ocp.StandardCheckpointer() as checkpointer:
    bare, run = checkpointer.restore(folder / "run"), checkpointer.restore(folder / "run", fresh)
    try:
        checkpointer.save(folder / "run", run)
    except ValueError as error:
        print("the folder is there:", type(error).__name__)
for name, found in ("without", bare), ("with", run):
    print(f"{name:8} an example: {type(found['opt_state']).__name__} of {type(found['opt_state'][0]).__name__}")

# %%
try:
    adam_rule.update(grads, bare["opt_state"], params)
except AttributeError as error:
    print("the next step without an example:", type(error).__name__)

saved = torch.load(folder / "run.pt", weights_only=True)
source = TorchNet(rate=0.5).eval()
source.load_state_dict(saved["model"])
adam = torch.optim.Adam(source.parameters(), RATE)
adam.load_state_dict(saved["optimizer"])
porting.torch_to_nnx(source, model)  # the file's weights, in JAX
assert gap(source(x_torch), model(x)) < 1e-6
torch_step(source, adam)
assert gap(source.out.weight.T, advance(run)["params"]["out"]["kernel"]) < 1e-5
print("both continue with the same step  ok")

try:
    source.load_state_dict({"out.weight": torch.ones(1, 5)})
except RuntimeError as error:
    print("torch, one weight, of a wrong shape:", type(error).__name__)
given, wanted = {"out": {"kernel": jnp.ones((5, 1))}}, nnx.to_pure_dict(nnx.state(model, nnx.Param))
print("trees of shapes equal:", jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, wanted))
nnx.update(model, given)
print("NNX takes it:", model.out.kernel.shape, "where", wanted["out"]["kernel"].shape, "was")
scratch.cleanup()

# %% [markdown]
# ## Summary
#
# - Everything is a tree. Pick leaves by path, by shape, or in NNX by filter; masks and labels are trees too.
# - State that nobody returns is lost: `jax.jit` drops what an NNX module changed, Linen's second half is yours to
#   keep. `nnx.state` shares the live boxes, so copy what you want to keep.
# - Optax is not `torch.optim` with other names: check defaults, counts (updates, not epochs), means and sums by
#   numbers.
# - Restore with an example of the tree, and compare shapes before `nnx.update`.
#
# Next: [lesson 04](04_porting_models.ipynb), on whole models: convolutions, recurrent cells, attention.
