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
#
# In NNX (the second cell) all arrays sit on the module too, each in a box whose type says what it is: `Param`,
# `BatchStat`, and for dropout a key with a counter, `RngState`. (`momentum=0.9` is torch's 0.1, see
# [02](02_same_numbers.ipynb).)

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
#
# The cell after it carries torch's weights and averages over, as in 02, and gives each home the same loss.
# `variables` is all of Linen's collections, `params` the one that is trained.

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
    print(f"{collection:12}{jax.tree.map(jnp.shape, tree)}")


# %%
def three(rate=0.5):
    torch.manual_seed(SEED)
    source, net = TorchNet(rate).eval(), LinenNet(rate)
    model = porting.torch_to_nnx(source, NNXNet(rate, rngs=nnx.Rngs(SEED)))
    model.eval()
    return source, model, net, porting.torch_to_linen(source, net.init(jax.random.key(SEED), x))


def torch_loss(model):
    return ((model(x_torch) - y_torch) ** 2).mean()


def nnx_loss(model):
    return ((model(x) - y) ** 2).mean()


def linen_loss(params):
    return ((net.apply({**variables, "params": params}, x) - y) ** 2).mean()


source, model, net, variables = three()
params = variables["params"]
assert gap(source(x_torch), model(x)) < 1e-6 and gap(source(x_torch), net.apply(variables, x)) < 1e-6
print("three homes, one function: equal within 1e-6  ok")

# %% [markdown]
# ## Trees
#
# Nested dicts, lists and tuples of arrays are *pytrees*; the arrays are its *leaves*. NNX states, gradients and
# optimizer states are pytrees too. `jax.tree.flatten` takes one apart into a list of leaves and a plan, the
# *treedef*; `jax.tree.unflatten` puts it together again. A tree is a container, not a vector: arithmetic goes
# through `jax.tree.map`, leaf by leaf.
#
# Leaves come sorted by name, torch's parameters as they were made. The second cell zips the two, and weights meet
# biases; where the shapes happen to agree nothing complains. So go by the leaf's name, its *path*:
# `jax.tree.map_with_path` hands it over with the leaf. NNX has *filters*: a type (`nnx.Param`), a name on the path
# (`nnx.PathContains`), or both (`nnx.All`). All three then add up the squared weights without biases and norms.

# %%
leaves, treedef = jax.tree.flatten(params)
print(len(leaves), "leaves in", treedef)

linen_grad = jax.jit(jax.grad(linen_loss))
grads = linen_grad(params)
try:
    params - RATE * grads
except TypeError as error:
    print("params - RATE * grads:", type(error).__name__)
stepped = jax.tree.map(lambda p, g: p - RATE * g, params, grads)

by_hand = copy.deepcopy(source)
torch_loss(by_hand).backward()
with torch.no_grad():
    for p in by_hand.parameters():
        p -= RATE * p.grad
assert gap(by_hand.hidden.weight.T, stepped["hidden"]["kernel"]) < 1e-6
print("jax.tree.map over two trees = a loop over parameters()  ok")

# %%
for (name, weight), (path, leaf) in zip(source.named_parameters(), jax.tree.leaves_with_path(params), strict=True):
    fits = "shapes agree" if weight.shape == leaf.shape else ""
    print(f"{name:14} meets {jax.tree_util.keystr(path, simple=True, separator='.'):14} {fits}")

is_kernel = jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)
print(is_kernel)
by_path = jax.tree.map(lambda p, wanted: (p**2).sum() if wanted else 0.0, params, is_kernel)
kernels = nnx.state(model, nnx.All(nnx.Param, nnx.PathContains("kernel")))

in_torch = sum((p**2).sum() for p in source.parameters() if p.ndim > 1)
in_linen = sum(jax.tree.leaves(by_path))
in_nnx = sum((p**2).sum() for p in jax.tree.leaves(kernels))
assert gap(in_torch, in_linen) < 1e-5 and gap(in_torch, in_nnx) < 1e-5
print("torch, Linen by path, NNX by filter: the same sum  ok")


# %% [markdown]
# ## Who owns the arrays?
#
# You keep the best weights, and training goes on. In torch you know the slip: `state_dict()` refers to the
# live tensors. `nnx.state` and `nnx.split` hand out the live boxes, so they follow as well. A Linen tree can't
# change under you: a step makes a new one.

# %%
@nnx.jit
def nnx_step(model, optimizer):
    optimizer.update(model, nnx.grad(nnx_loss)(model))


def torch_step(source, optimizer):
    optimizer.zero_grad()
    torch_loss(source).backward()
    optimizer.step()


sgd = optax.sgd(RATE)
torch_kept, nnx_kept, linen_kept = source.state_dict(), nnx.state(model, nnx.Param), params
torch_copy, nnx_copy = copy.deepcopy(torch_kept), jax.tree.map(jnp.copy, nnx_kept)

torch_step(source, torch.optim.SGD(source.parameters(), RATE))
nnx_step(model, nnx.Optimizer(model, sgd, wrt=nnx.Param))
updates, _ = sgd.update(grads, sgd.init(params), params)
updated = optax.apply_updates(params, updates)

for name, old in ("state_dict()", torch_kept), ("deepcopy", torch_copy):
    print(f"torch, {name:13} follows the training: {torch.equal(old['out.weight'], source.out.weight)}")
for name, old in ("nnx.state", nnx_kept), ("jnp.copy", nnx_copy):
    print(f"NNX,   {name:13} follows the training: {gap(old['out']['kernel'][...], model.out.kernel[...]) == 0}")
print(f"Linen, params        follows the training: {gap(linen_kept['out']['kernel'], updated['out']['kernel']) == 0}")

# %% [markdown]
# `nnx.clone(model)` copies too. `nnx.merge(*nnx.split(model))` does not: its boxes are the model's own.
#
# The next slip is an assignment. torch refuses a plain tensor where a parameter was. NNX takes the array, and
# the box is gone: no `Param`, no gradient, no update, and no word about it. (Adam's state made before the slip no
# longer fits and raises; flax 0.12.0 raises in the gradient.) Write into the box instead.
#
# The way back, torch's `load_state_dict`, is `nnx.update(model, copied)`, and it refuses nothing: missing weights
# stay as they were, a wrong shape moves in. Compare the shapes first.

# %% tags=["trap:strict-load"]
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

try:
    source.load_state_dict({"out.weight": torch.ones(1, 5)})
except RuntimeError as error:
    print("torch, one weight, of a wrong shape:", type(error).__name__)
given, wanted = {"out": {"kernel": jnp.ones((5, 1))}}, nnx.to_pure_dict(nnx.state(model, nnx.Param))
print("trees of shapes equal:", jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, wanted))
nnx.update(model, given)
print("NNX takes it:", model.out.kernel.shape, "where", wanted["out"]["kernel"].shape, "was")

# %% [markdown]
# ## Train and eval
#
# torch's and NNX's modules carry the mode: both start in training mode, `train()` and `eval()` switch it.
# Linen's mode is an argument, and so are its consequences: a call that changes a collection must say
# `mutable=`, and then returns a *pair*, the output and the changed collections. Drop the second half and
# BatchNorm never learns its averages.
#
# The last lines forget `eval()`, and predict one row at a time.

# %%
source, model, net, variables = three(rate=0.0)
source.train(), model.train()
try:
    net.apply(variables, x, train=True)
except errors.ModifyScopeVariableError as error:
    print("Linen without mutable:", type(error).__name__)
logits, changed = net.apply(variables, x, train=True, mutable=["batch_stats"])
assert gap(source(x_torch), logits) < 1e-5 and gap(model(x), logits) < 1e-5
for name, now in ("dropped", variables), ("kept", {**variables, **changed}):
    same = gap(source.norm.running_mean, now["batch_stats"]["norm"]["mean"]) < 1e-6
    print(f"Linen, second half {name}: running mean as in torch: {same}")
assert gap(source.norm.running_mean, model.norm.mean[...]) < 1e-6

try:
    source(x_torch[:1])
except ValueError as error:
    print("torch, eval() forgotten:", type(error).__name__)
a, b = model(x[:1]), model(x[1:2])
print(f"NNX, eval() forgotten: two different rows give {a[0]:.4f} and {b[0]:.4f}")

# %% [markdown]
# With one row the batch's variance is zero and every row looks alike: torch raises, NNX answers, and moves its
# averages as well. Linen's slip is the other way round: forget `train=True` here, and you train without dropout,
# on the averages of the first day.
#
# Dropout needs randomness. torch takes it from the global generator, NNX from the module's own `Rngs`, which
# counts its draws. Linen wants a key with every call, and the same key is the same mask. `fold_in` makes a new key
# of a key and a number: fold the step into it.

# %%
ones, key = np.ones(10_000, np.float32), jax.random.key(SEED)
linen_drop = nn.Dropout(0.5, deterministic=False)
try:
    linen_drop.apply({}, ones)
except errors.InvalidRngError as error:
    print("Linen without a key:", type(error).__name__)

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
# writes the changes back. By hand it takes three steps: `nnx.split` off the state, return it, `nnx.update`.
#
# The second cell is a whole training step. NNX's is the one from above, under `nnx.jit`. Linen's has to return
# the changed averages from inside the loss, and `jax.grad` wants one number: `has_aux=True` lets a second value
# pass beside it.

# %% tags=["trap:batch-norm-under-jit"]
source, model, net, variables = three()
model.train()
graphdef, _ = nnx.split(model)


@jax.jit
def pure(state, x):
    model = nnx.merge(graphdef, state)
    return model(x), nnx.state(model)  # state in, state out


def handed_on(model, x):
    logits, state = pure(nnx.state(model), x)
    nnx.update(model, state)
    return logits


for name, way in ("jax.jit", jax.jit(NNXNet.__call__)), ("nnx.jit", nnx.jit(NNXNet.__call__)), ("by hand", handed_on):
    trial = nnx.clone(model)
    same, moved = bool((way(trial, x) == way(trial, x)).all()), gap(trial.norm.mean[...], 0) > 0
    print(f"{name}  same mask twice: {same!s:5}  averages moved: {moved!s:5}  draws: {trial.drop.rngs.count[...]}")
try:
    jax.jit(lambda x: model(x))(x)
except errors.TraceContextError as error:
    print("model as a global:", type(error).__name__)

# %%
source, model, net, variables = three(rate=0.0)  # without dropout all three compute the same
source.train(), model.train()


def train_loss(params, variables, key):
    inputs = {**variables, "params": params}
    logits, changed = net.apply(inputs, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})
    return ((logits - y) ** 2).mean(), changed


try:
    jax.grad(train_loss)(params, variables, key)
except TypeError as error:
    print("a pair from the loss:", type(error).__name__)

linen_slopes, optimizer = jax.jit(jax.grad(train_loss, has_aux=True)), nnx.Optimizer(model, sgd, wrt=nnx.Param)
for step in range(3):
    torch_step(source, torch.optim.SGD(source.parameters(), RATE))
    nnx_step(model, optimizer)
    slopes, changed = linen_slopes(variables["params"], variables, jax.random.fold_in(key, step))
    variables = {"params": jax.tree.map(lambda p, g: p - RATE * g, variables["params"], slopes), **changed}
assert gap(source.norm.running_mean, variables["batch_stats"]["norm"]["mean"]) < 1e-5
assert gap(source.out.weight.T, variables["params"]["out"]["kernel"]) < 1e-5
assert gap(variables["params"]["out"]["kernel"], model.out.kernel[...]) < 1e-5
print("three steps: weights and running means as in torch  ok")

# %% [markdown]
# ## Optimizer state
#
# Adam's moments are trees like the parameters. torch makes them at the first step, Optax in `init`.
# `nnx.Optimizer` keeps the same tree, in boxes, as `opt_state`. What `update` returns is to be *added*: it
# carries the minus.

# %% tags=["trap:apply-updates"]
source, model, net, variables = three()
adam, adam_rule = torch.optim.Adam(source.parameters(), RATE), optax.adam(RATE)
opt_state, adam_update = adam_rule.init(params), jax.jit(adam_rule.update)
print("arrays before the first step: torch", len(adam.state), " Optax", len(jax.tree.leaves(opt_state)))
paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(opt_state)]
print(*(path for path in paths if "count" in path or "out" in path), sep="  ")

torch_step(source, adam)
updates, opt_state = adam_update(grads, opt_state, params)
optimizer = nnx.Optimizer(model, adam_rule, wrt=nnx.Param)
nnx_step(model, optimizer)
moments = opt_state[0].mu["out"]["kernel"], optimizer.opt_state[0].mu["out"]["kernel"][...]
assert all(gap(adam.state[source.out.weight]["exp_avg"].T, moment) < 1e-6 for moment in moments)
print("after it: the same first moments  ok")

added = jax.tree.map(lambda p, u: p + u, params, updates)  # what optax.apply_updates does
taken = jax.tree.map(lambda p, u: p - u, params, updates)  # as one subtracts a gradient
for words, now in ("params + updates", added), ("params - updates", taken):
    print(f"{words}: the loss falls: {bool(linen_loss(now) < linen_loss(params))}")

# %% [markdown]
# ## Defaults that differ
#
# [02](02_same_numbers.ipynb) found AdamW's. Here are the others: the same weights, the same five gradients,
# and the largest gap between torch's weights and Optax's. First those that agree.
#
# The table's cell uses `optax.chain`: the gradient passes through its links from left to right, each one changes
# it, and what comes out is the update. torch has such choices as arguments of the optimizer; here you place them.

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
print("SGD with Nesterov, Adam, Adamax, Adadelta, RAdam: within 1e-4 as they are")

# %% tags=["trap:momentum-decay"]
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


# %% [markdown] tags=["trap:n-adam"]
# What changed stands in the cell: AdamW's decay, RMSprop's decay and the place of its epsilon (inside the root or
# outside), Adagrad's start at 0.1 where torch has 0, and its larger epsilon. torch's `weight_decay` in SGD and Adam
# is added to the gradient *before* the rule; after it, as in `adamw`, it is another method. The last three are other
# algorithms, as the sources of both say: torch's NAdam raises its momentum over thousands of steps, Optax corrects
# AMSGrad's second moment before it takes the maximum and torch after, and `optax.rprop` holds every step back for
# one call.
#
# ## Schedules
#
# A torch scheduler moves when *you* call `step()`, often once an epoch. An Optax schedule is a function of the
# number of updates: it counts batches. It goes where the rate was, and the optimizer's state counts; there is
# nothing to call. The first cell shows that, the second what seven schedules are called.

# %%
def torch_rates(make, every=1):
    optimizer, rates = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE), []
    scheduler = make(optimizer)
    for step in range(1, 41):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return rates


def warm_up(o):
    parts = lr_scheduler.LinearLR(o, 0.1, total_iters=10), lr_scheduler.CosineAnnealingLR(o, 30)
    return lr_scheduler.SequentialLR(o, parts, [10])


rule = optax.sgd(optax.exponential_decay(RATE, 10, 0.1, staircase=True))
state = rule.init(jnp.zeros(()))
for expected in torch_rates(lambda o: lr_scheduler.StepLR(o, 10))[:12]:
    update, state = rule.update(jnp.ones(()), state)
    assert abs(update + expected) < 1e-6
print("12 updates by a gradient of 1 are torch's rates; counted by the optimizer:", *jax.tree.leaves(state))


# %% tags=["trap:step-lr"]
def optax_rates(schedule):
    return [schedule(step) for step in range(40)]


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
rows = {name: (round(gap(theirs, optax_rates(wrong)), 3), gap(theirs, optax_rates(right)) < 1e-6)
        for name, (theirs, wrong, right) in rates.items()}  # fmt: skip
pd.DataFrame(rows, index=["first try: gap", "then within 1e-6"]).T

# %% [markdown]
# The names in the table say what was wrong. One more: torch's `OneCycleLR` moves the momentum as well
# (`cycle_momentum=True`), Optax's schedule is a rate and nothing else.
#
# ## Some weights differently
#
# torch has parameter groups. Optax takes a *mask*, a tree of booleans or a function that makes one. First, weight
# decay without biases and norms: a bare `weight_decay=` decays everything, on both sides.
#
# Then all but the last layer is frozen (second cell). `optax.masked` looks right and is not: what it leaves out it
# passes *through*, so a frozen weight moves by its bare gradient, uphill. `optax.partition` takes a tree of labels
# and a rule for each label; the frozen ones get `set_to_zero`. Two labels with two rates are torch's groups. (A label
# or a boolean in place of a whole branch counts for all of it.)
#
# In NNX, `wrt=` takes a filter. So does `nnx.DiffState(0, filter)`, "argument 0, these variables of it": no gradient
# is computed for the rest.

# %%
source, model, net, variables = three()
matrices, vectors = ([p for p in source.parameters() if (p.ndim > 1) == wanted] for wanted in (True, False))
groups = [{"params": matrices, "weight_decay": 0.5}, {"params": vectors, "weight_decay": 0.0}]
torch_step(source, torch.optim.AdamW(groups, RATE))
for name, mask in ("no mask", None), ("mask", lambda params: jax.tree.map(lambda p: p.ndim > 1, params)):
    rule = optax.adamw(RATE, weight_decay=0.5, mask=mask)
    updates, _ = jax.jit(rule.update)(grads, rule.init(params), params)
    updated = optax.apply_updates(params, updates)
    print(f"{name:8} BatchNorm's scales are off torch's by {gap(source.norm.weight, updated['norm']['scale']):.3f}")
assert gap(source.norm.weight, updated["norm"]["scale"]) < 1e-5
assert gap(source.hidden.weight.T, updated["hidden"]["kernel"]) < 1e-5
print("with the mask, scales and kernels as with torch's groups  ok")

# %% tags=["trap:freeze"]
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
# Clipping is a link in front of the rule: `optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE))`. torch
# adds 1e-6 to the norm it divides by, which shows where gradients are tiny.
#
# torch *sums* what `.grad` accumulates. `optax.MultiSteps` goes around the rule, returns zeros until the last batch,
# and takes the *mean*.
#
# torch's moving average of the weights starts at the first weights. `optax.ema` starts at zero and corrects for it,
# which is another average; `optax.incremental_update` is torch's.

# %% tags=["trap:clip-tiny-norm"]
for size in (1.0, 1e-5):
    push, weights = (size * pushes[0]).astype(np.float32), torch.nn.Parameter(torch.zeros(4, 3))
    weights.grad = torch.from_numpy(push.copy())
    torch.nn.utils.clip_grad_norm_([weights], size)
    clip = optax.clip_by_global_norm(size)
    clipped, _ = clip.update(push, clip.init(push))
    norms = float(weights.grad.norm()) / size, float(optax.tree.norm(clipped)) / size
    print(f"clipped to {size:.0e}: torch leaves a norm of {norms[0]:.2f} times that, Optax {norms[1]:.2f}")

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

# %% tags=["trap:moving-average"]
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
# `param_dtype` what it stores. With `dtype=bfloat16` weights, gradients and running averages stay float32, as under
# autocast.
#
# Three slips. A bfloat16 input alone is promoted back to float32 by the weights: nothing is gained.
# `param_dtype=bfloat16` stores weights that cannot take small steps. And a loss on bfloat16 logits stays bfloat16,
# where autocast makes it float32: cast the logits.
#
# There is no `GradScaler` here because bfloat16 has float32's range and needs none. For float16, flax has
# `flax.training.dynamic_scale`.

# %%
linear, classes = torch.nn.Linear(4, 3), torch.arange(ROWS) % 3
with torch.autocast("cpu", dtype=torch.bfloat16):
    logits = linear(x_torch)
    theirs = torch.nn.functional.cross_entropy(logits, classes)
rows = {"torch.autocast": [str(dtype)[6:] for dtype in (linear.weight.dtype, logits.dtype, theirs.dtype)]}

half = jnp.bfloat16
cross_entropy = jax.jit(lambda z: optax.softmax_cross_entropy_with_integer_labels(z, classes.numpy()).mean())
for name, x_dtype, options in [
    ("input.astype(bfloat16)", half, {}),
    ("param_dtype=bfloat16", None, {"param_dtype": half}),
    ("dtype=bfloat16", None, {"dtype": half}),
]:
    layer = nnx.Linear(4, 3, **options, rngs=nnx.Rngs(SEED))
    logits = layer(jnp.asarray(x, x_dtype))
    rows[name] = [str(dtype) for dtype in (layer.kernel[...].dtype, logits.dtype, cross_entropy(logits).dtype)]

porting.torch_to_nnx(linear, layer)  # the last one, now with torch's weights
ours, slopes = nnx.jit(nnx.value_and_grad(lambda layer: cross_entropy(layer(x).astype(jnp.float32))))(layer)
rows["the same, logits.astype(float32)"] = [*rows[name][:2], str(ours.dtype)]
assert gap(theirs, ours) < 2e-3 and slopes["kernel"][...].dtype == jnp.float32
assert nnx.BatchNorm(3, dtype=half, rngs=nnx.Rngs(SEED)).mean[...].dtype == jnp.float32
print("1 + 0.001 in bfloat16:", half(1) + half(0.001))
pd.DataFrame(rows, index=["weights", "logits", "loss"]).T

# %% [markdown]
# ## Saving and restoring
#
# Orbax writes a tree of arrays into a folder, given by an absolute path. It does not write what kind of tree it was:
# restored without an example, optimizer states come back as lists and dicts, and Optax can't use them. With an
# example you get the same types back. `jax.eval_shape` makes one without computing it: it runs a function on
# stand-ins and returns shapes and dtypes. An example with a branch more or less raises. So does a folder that
# exists, unless you say `force=True`; torch overwrites.
#
# A `.pt` file (second cell) is read by torch; `course.porting` takes the weights from there, and refuses what does
# not fit.
#
# For NNX (third cell), save `nnx.state((model, optimizer))`, and `nnx.update` both from what comes back. The weights
# alone are not the run: moments, averages and dropout's counter begin anew.

# %% tags=["trap:overwrite"]
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)


def start():
    return {"params": params, "opt_state": adam_rule.init(params)}


def advance(run):
    updates, opt_state = adam_update(linen_grad(run["params"]), run["opt_state"], run["params"])
    return {"params": optax.apply_updates(run["params"], updates), "opt_state": opt_state}


with ocp.StandardCheckpointer() as checkpointer:  # leaving the block waits until all is written
    checkpointer.save(folder / "run", advance(start()))
with ocp.StandardCheckpointer() as checkpointer:
    save, restore = checkpointer.save, checkpointer.restore
    bare, run = restore(folder / "run"), restore(folder / "run", jax.eval_shape(start))
    for name, way, tree in ("the folder is there:", save, run), ("half an example:", restore, {"params": params}):
        try:
            way(folder / "run", tree)
        except ValueError as error:
            print(name, type(error).__name__)
for name, found in ("without", bare), ("with", run):
    print(f"{name:8} an example: {type(found['opt_state']).__name__} of {type(found['opt_state'][0]).__name__}")

# %% tags=["trap:optimizer-state"]
try:
    adam_rule.update(grads, bare["opt_state"], params)
except AttributeError as error:
    print("the next step without an example:", type(error).__name__)

source, model, net, variables = three()
adam = torch.optim.Adam(source.parameters(), RATE)
torch_step(source, adam)
torch.save({"model": source.state_dict(), "optimizer": adam.state_dict()}, folder / "run.pt")

saved = torch.load(folder / "run.pt", weights_only=True)
source = TorchNet(rate=0.5).eval()
source.load_state_dict(saved["model"])
adam = torch.optim.Adam(source.parameters(), RATE)
adam.load_state_dict(saved["optimizer"])
porting.torch_to_nnx(source, model)  # the file's weights, in JAX
assert gap(source(x_torch), model(x)) < 1e-6
torch_step(source, adam)
assert gap(source.out.weight.T, advance(run)["params"]["out"]["kernel"]) < 1e-5
print("torch from its file, Linen from Orbax's: the same next step  ok")


# %%
def pair(seed):
    model = NNXNet(rate=0.5, rngs=nnx.Rngs(seed))
    return model, nnx.Optimizer(model, adam_rule, wrt=nnx.Param)


first, parts = pair(SEED), {"the weights alone": nnx.Param, "everything": ...}  # `...` is the filter for all
nnx_step(*first)
with ocp.StandardCheckpointer() as checkpointer:
    for words, kinds in parts.items():
        checkpointer.save(folder / words, nnx.state(first, kinds))
nnx_step(*first)  # goes on without a break

with ocp.StandardCheckpointer() as checkpointer:
    for words, kinds in parts.items():
        restored = pair(SEED + 1)
        nnx.update(restored, checkpointer.restore(folder / words, nnx.state(restored, kinds)))
        nnx_step(*restored)
        same = gap(first[0].out.kernel[...], restored[0].out.kernel[...]) < 1e-6
        print(f"NNX, saved {words}: the next step is the same: {same}")
scratch.cleanup()

# %% [markdown]
# ## Summary
#
# - Everything is a tree. Pick leaves by path, by shape, or in NNX by filter; masks and labels are trees too.
# - State that nobody returns is lost: `jax.jit` drops what an NNX module changed, Linen's second half is yours to
#   keep. `nnx.state` shares the live boxes, so copy what you want to keep.
# - Optax is not `torch.optim` with other names: check defaults, counts (updates, not epochs), means and sums by
#   numbers.
# - Save the whole run, restore with an example of the tree, and compare shapes before `nnx.update`.
#
# Next: [lesson 06](06_porting_layers.ipynb), on whole models: convolutions, recurrent cells, attention.
