# %% [markdown]
# # 05 · Precision and checkpoints
#
# **What must be saved so that a killed run goes on as if nothing had happened, and in how many bits?** (110 minutes)

# %% [markdown]
# After this lesson you can
#
# - train in bfloat16 as under `torch.autocast`, and say which arrays must stay float32,
# - scale a float16 loss as `GradScaler` does, and read an underflow and an overflow from numbers,
# - list what belongs in a checkpoint, and say what each omission costs,
# - save and resume with Orbax so that a killed run ends at the same loss to the bit,
# - exchange weights with other programs as safetensors, and keep a log that survives a restart.

# %%
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import orbax.checkpoint as ocp
import pandas as pd
import safetensors.flax
import safetensors.torch
import torch
from flax import nnx
from flax.training.dynamic_scale import DynamicScale
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN
from sklearn.datasets import load_digits

from course import batching, plots, porting
from course.failures import fails

# %%
SEED, BATCH, EPOCHS, RATE = 0, 64, 8, 4e-3

torch.set_num_threads(1)
plots.use()
jax.config.update("jax_pprint_use_color", False)  # plain text, wherever you read this
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name).resolve()

pixels, digits = load_digits(return_X_y=True)  # 1797 pictures of 8 x 8 pixels, ten classes
x, y = (pixels / 16).astype(np.float32), digits.astype(np.int32)
held_out = slice(1024, None)
batches = batching.epoch_permutations(1024, EPOCHS, SEED).reshape(-1, BATCH)  # (EPOCHS * 16, BATCH) row numbers

# %% [markdown]
# ## Three types of numbers
#
# Beside its sign a float32 spends 8 bits on the exponent and 23 on the digits. Two types of 16 bits divide them
# differently: float16 takes 5 and 10, bfloat16 ("brain float") 8 and 7. So bfloat16 reaches as far as float32, with
# two or three digits; float16 has three or four, and ends at 65,504.
#
# **Predict.** Start at 1 and add 0.001, a thousand times, with every sum kept in the type. Where does each one end,
# in PyTorch and in JAX?

# %%
rows = {}
for name in ("float32", "float16", "bfloat16"):
    kind, torch_kind = jnp.finfo(name), getattr(torch, name)
    ours, theirs = jnp.ones((), name), torch.ones((), dtype=torch_kind)
    for _ in range(1000):
        ours, theirs = ours + jnp.asarray(0.001, name), theirs + torch.tensor(0.001, dtype=torch_kind)
    rows[name] = {
        "largest": f"{float(kind.max):.1e}", "smallest above 0": f"{float(kind.smallest_subnormal):.1e}",
        "next after 1": f"1 + {float(kind.eps):.1e}", "torch ends at": theirs.item(), "JAX ends at": float(ours),
    }  # fmt: skip
pd.DataFrame(rows).T

# %% [markdown]
# The types are the same on both sides, so are the results. In bfloat16 the next number after 1 is 1.0078: 1.001 is
# rounded back to 1, a thousand times. float16 comes near because its steps of 0.00098 happen to be almost 0.001.
# Adding small numbers to larger ones is all that an optimizer does. That is why weights stay in float32 even where
# everything else does not.
#
# ## A step in mixed precision

# %% alt="A diagram of one training step. Tall boxes are float32: weights, loss, gradients and Adam's moments. Half as tall boxes are bfloat16: the copy of the weights, the input, the activations and the logits. Arrows run from the weights over a cast to the copy, through the layers to the logits, over a cast to the loss, and back over the gradients to the optimizer, which adds to the float32 weights."
d = plots.Diagram(height=2.8)
tall, flat = {"side": "jax", "height": 0.66}, {"height": 0.36}
weights = d.array(0.85, 2.3, "weights\nfloat32", **tall)
copy = d.array(2.75, 2.3, "copy, bfloat16", **flat)
given = d.array(3.0, 1.5, "x, bfloat16", **flat)
layers = d.function(4.25, 2.3, "layers", width=0.8)
logits = d.array(5.65, 2.3, "logits, bfloat16", width=1.25, **flat)
loss = d.array(7.4, 2.3, "loss\nfloat32", width=0.9, **tall)
grads = d.array(4.6, 0.5, "gradients\nfloat32", **tall)
rule = d.function(2.6, 0.5, "optimizer", width=1.0, height=0.5)
moments = d.array(0.85, 0.5, "moments\nfloat32", **tall)
for start, end in ((copy, layers), (layers, logits), (given, layers), (grads, rule), (moments, rule)):
    d.arrow(start, end)
for start, end in ((weights, copy), (logits, loss)):
    d.arrow(start, end, "cast")
d.arrow(rule, weights), d.arrow(loss, grads, side="jax")
d.note(1.1, 1.35, "+ update")
d.note(6.75, 1.2, "jax.grad: back through\nthe same casts", side="jax")
d.note(7.2, 0.4, "tall: 32 bits\nflat: 16 bits")
plt.show()

layer = nnx.eval_shape(lambda: nnx.Linear(64, 10, dtype=jnp.bfloat16, rngs=nnx.Rngs(SEED)))  # types, no numbers
print(jax.make_jaxpr(lambda layer, x: layer(x).astype(jnp.float32))(layer, x[:BATCH]))
slopes = jax.eval_shape(nnx.grad(lambda layer: layer(x).astype(jnp.float32).sum()), layer)
print("gradients:", {name: str(slope.dtype) for name, slope in slopes.items()})

# %% [markdown]
# The program below the picture is a dense layer as JAX sees it: `convert_element_type` is the cast. Input, kernel and
# bias go down to bfloat16, and the logits up to float32. The gradient of a cast is a cast back, so gradients are
# float32 by themselves.
#
# Who writes the casts? `torch.autocast` decides for each operation: products in bfloat16, losses in float32. In flax
# you say it for each layer, in NNX and Linen with the same two words: `dtype` is what a layer computes in,
# `param_dtype` what it stores. (torch's `dtype=` of a layer is flax's `param_dtype`.)
#
# **Predict.** Someone casts only the input, `x.astype(bfloat16)`. In which type does a plain layer compute, and in
# which type is the loss of bfloat16 logits: as under autocast?

# %% tags=["trap:layer-dtype"]
linear, x_torch, y_torch = torch.nn.Linear(64, 10), torch.from_numpy(x), torch.from_numpy(y).long()
with torch.autocast("cpu", dtype=torch.bfloat16):
    logits = linear(x_torch)
    theirs = torch.nn.functional.cross_entropy(logits, y_torch)
names = (str(kind).removeprefix("torch.") for kind in (linear.weight.dtype, logits.dtype, theirs.dtype))
rows = {"torch.autocast": [*names, logits.nbytes]}


def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


for name, given, options in [
    ("x.astype(bfloat16)", x.astype(jnp.bfloat16), {}),
    ("param_dtype=bfloat16", x, {"param_dtype": jnp.bfloat16}),
    ("dtype=bfloat16", x, {"dtype": jnp.bfloat16}),
]:
    layer = nnx.eval_shape(lambda options=options: nnx.Linear(64, 10, **options, rngs=nnx.Rngs(SEED)))
    logits = jax.eval_shape(lambda layer, x: layer(x), layer, given)
    loss = jax.eval_shape(cross_entropy, logits, y)
    rows[name] = [*(str(kind.dtype) for kind in (layer.kernel, logits, loss)), logits.size * logits.dtype.itemsize]

loss = jax.eval_shape(lambda logits, y: cross_entropy(logits.astype(jnp.float32), y), logits, y)
rows["dtype=bfloat16, logits.astype(float32)"] = [*rows[name][:2], str(loss.dtype), rows[name][3]]
pd.DataFrame(rows, index=["weights", "logits", "loss", "bytes of the logits"]).T


# %% [markdown]
# Only the last row is what autocast does. The input alone is promoted back to float32 by the weights: nothing is
# gained. With `param_dtype=bfloat16` alone the float32 input promotes, and small steps are lost, as you will see. And
# a loss of bfloat16 logits stays bfloat16, with two or three digits. So: `dtype=jnp.bfloat16` in every layer, and one
# cast of the logits.
#
# ## The same run, four times
#
# A network with every kind of state, in both frameworks: weights, BatchNorm's averages, dropout. For now its rate is
# zero, so that both compute the same. `porting` hands torch's initial weights to JAX, and the batches are the same
# too.
#
# Four runs: float32, `torch.autocast`, flax with `dtype=bfloat16`, and flax with weights that are themselves rounded
# to bfloat16, which is what `param_dtype=bfloat16`, or torch's `model.bfloat16()`, makes them.

# %%
class TorchNet(torch.nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.hidden, self.norm = torch.nn.Linear(64, 128), torch.nn.BatchNorm1d(128)
        self.drop, self.out = torch.nn.Dropout(rate), torch.nn.Linear(128, 10)

    def forward(self, x):
        return self.out(self.drop(torch.relu(self.norm(self.hidden(x)))))


class Net(nnx.Module):
    def __init__(self, rate, dtype=None, *, rngs):
        self.hidden = nnx.Linear(64, 128, dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(128, momentum=0.9, dtype=dtype, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.out = nnx.Linear(128, 10, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.relu(self.norm(self.hidden(x)))))


# %%
@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: cross_entropy(model(x).astype(jnp.float32), y))(model)
    optimizer.update(model, grads)
    return loss


def torch_run(dtype=None):
    torch.manual_seed(SEED)
    model, losses = TorchNet(0.0), []
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    for chosen in batches:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = torch.nn.functional.cross_entropy(model(x_torch[chosen]), y_torch[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def jax_run(model):
    optimizer = nnx.Optimizer(model, optax.sgd(RATE), wrt=nnx.Param)
    losses = [train_step(model, optimizer, x[chosen], y[chosen]) for chosen in batches]
    return np.array(losses)  # waits once, at the end


# %% alt="Four loss curves over eight epochs. Float32, bfloat16 in JAX and autocast in PyTorch lie on one another and fall from 2.3 to 1.5. The run whose weights are bfloat16 falls more slowly from the first epoch on and ends at 1.7."
def same_start(dtype=None):
    torch.manual_seed(SEED)
    return porting.torch_to_nnx(TorchNet(0.0), Net(0.0, dtype, rngs=nnx.Rngs(SEED)))


rounded = same_start(jnp.bfloat16)
nnx.update(rounded, jax.tree.map(lambda p: p.astype(jnp.bfloat16), nnx.state(rounded, nnx.Param)))
runs = {
    "JAX float32": jax_run(same_start()),
    "torch.autocast bfloat16": torch_run(torch.bfloat16),
    "JAX dtype=bfloat16": jax_run(same_start(jnp.bfloat16)),
    "JAX weights in bfloat16": jax_run(rounded),
}
curves = pd.DataFrame(runs).groupby(lambda step: 1 + step // 16).mean()  # 16 steps an epoch
figure, axis = plots.panels(1, height=3.2)
drawn = plots.lines(axis, curves.index, curves, xlabel="epoch", ylabel="training loss")
drawn[0].set(linewidth=8, alpha=0.35)  # three curves in one place: a band,
drawn[2].set(linestyle="", markersize=11, markerfacecolor="none")  # a dashed line, and open squares
axis.legend()
plt.show()
print(curves.iloc[[0, 4, -1]].round(2).to_string())
same = curves.iloc[:, :3]
assert (same.max(axis=1) - same.min(axis=1)).max() < 5e-3
print("float32, autocast and dtype=bfloat16: within 0.005 of each other in every epoch  ok")


# %% [markdown]
# Three curves are one. What mixed precision rounds away averages out; what the fourth run rounds away is the update
# itself, and that is a bias: a step below 0.2 % to 0.4 % of a weight is lost as a whole. Nothing warns. A small
# learning rate, or the end of a decaying schedule, makes it worse.
#
# What is gained? Half the memory for activations. Speed comes only where the hardware has units for the type: tensor
# cores, TPUs, some CPUs. Elsewhere the conversions are extra work, so time your own step ([10](10_jit_speed.ipynb))
# before you believe in it.
#
# ## float16: scale the loss
#
# Where the hardware has bfloat16, use it and skip `GradScaler`: it has float32's range. Older GPUs, the T4 of free
# hosted notebooks among them, have tensor cores for float16 and none for bfloat16. And float16 ends at 6e-8 below.
# Here the true gradient is 2.4e-8.
#
# **Predict.** The loss is float32 and right, and the weight is float32. Which gradients arrive, with the product in
# float16, with the loss scaled by 1024, with the loss scaled by 2³², and in bfloat16?

# %%
def small_loss(weight, dtype):
    return (weight.astype(dtype) * jnp.asarray(1e-4, dtype)).astype(jnp.float32) / 4096  # slope 1e-4 / 4096


def torch_slope(scale, dtype):
    weight = torch.ones((), requires_grad=True)
    (scale * (weight.to(dtype) * torch.tensor(1e-4, dtype=dtype)).float() / 4096).backward()
    return weight.grad.item() / scale


rows = {}
for name, scale in ("float16", 1.0), ("float16", 1024.0), ("float16", 2.0**32), ("bfloat16", 1.0):
    slope = jax.grad(lambda weight, scale=scale, name=name: scale * small_loss(weight, name))(jnp.ones(())) / scale
    rows[f"{name}, scale {scale:.0f}"] = torch_slope(scale, getattr(torch, name)), float(slope)
print(f"the loss with float16 inside: {small_loss(jnp.ones(()), 'float16'):.2e}")
pd.DataFrame(rows, index=["torch: gradient", "JAX: gradient"]).T.map("{:.2e}".format)

# %% [markdown]
# Unscaled the gradient underflows to 0: the weight stops learning, and the loss does not tell. Scaled by 1024 on the
# way out and divided in float32 afterwards, it is right. Too large a scale overflows: the gradient is `inf`, the next
# step makes the weights infinite, and the next loss is `nan`. bfloat16 needs none of this.
#
# So the scale should be as large as goes, and nobody knows how large that is. It is searched for: at a gradient that
# is not finite, skip the step and halve; after some good steps, double. That is `torch.amp.GradScaler`, and in flax
# `DynamicScale`, with one difference: flax hands you a flag, `finite`, and skipping is yours. `jnp.where(finite, new,
# old)` over weights *and* optimizer state does it inside `jit`.
#
# `DynamicScale` differentiates a function of a tree. So the NNX model is split ([03](03_state_and_trees.ipynb)):
# trained weights, and the rest, which comes back as the second output (`has_aux`).

# %%
sgd, adam = optax.sgd(RATE), optax.adam(1e-3)
graphdef, start, rest = nnx.split(same_start(jnp.float16), nnx.Param, ...)


@jax.jit
def scaled_step(scaler, params, opt_state, rest, x, y):
    def loss_fn(params):
        model = nnx.merge(graphdef, params, rest, copy=True)  # boxes of its own to write averages into
        loss = cross_entropy(model(x).astype(jnp.float32), y)
        return loss, nnx.state(model, nnx.Not(nnx.Param))

    scaler, finite, (loss, rest), grads = scaler.value_and_grad(loss_fn, has_aux=True)(params)
    updates, changed = sgd.update(grads, opt_state, params)
    new, old = (optax.apply_updates(params, updates), changed), (params, opt_state)
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
    return scaler, finite, loss, rest, kept, new


# %% tags=["trap:loss-scale"]
def jax_scaled(interval, skip=True):
    counts = {"scale": jnp.float32(2**22), "fin_steps": jnp.int32(0)}  # Python numbers here would compile twice
    scaler, kept, others = DynamicScale(**counts, growth_interval=interval), (start, sgd.init(start)), rest
    for chosen in batches[:12]:
        scale = np.log2(float(scaler.scale))
        scaler, _, loss, others, skipping, taken = scaled_step(scaler, *kept, others, x[chosen], y[chosen])
        kept = skipping if skip else taken
        yield scale, float(loss)


torch.manual_seed(SEED)
model, scaler, rows = TorchNet(0.0), torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=4), []
optimizer = torch.optim.SGD(model.parameters(), RATE)
for chosen in batches[:12]:
    with torch.autocast("cpu", dtype=torch.float16):
        loss = torch.nn.functional.cross_entropy(model(x_torch[chosen]), y_torch[chosen])
    rows.append((np.log2(scaler.get_scale()), loss.item()))
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer), scaler.update()
columns = [np.array(rows), *(np.array(list(jax_scaled(*how))) for how in ((4,), (3,), (3, False)))]
names = ["torch, 4", "flax, 4", "flax, 3", "flax, no skip"]
tables = [pd.DataFrame(dict(zip(names, [c[:, i] for c in columns], strict=True)), index=range(1, 13)) for i in (0, 1)]
pd.concat([tables[0].astype(int), tables[1].round(2)], axis=1, keys=["log2 of the scale", "loss"])


# %% [markdown]
# Twelve steps of the digits in float16, from a scale of 2²² that is too large on purpose; the number behind a name is
# its `growth_interval`. The first four steps are lost to the search: they overflow, and each halves the scale. Then
# both train, at nearly the same loss. torch doubles after four good steps, flax after five if it is told 4: give it
# torch's number less one.
#
# The last column takes every step, finite or not: `nan` comes with the second loss and stays, and the scale falls
# without end. Read such a log backwards to the first `nan`, and look at the step *before* it; [08](08_tracing.ipynb)
# finds the operation.
#
# Two more: flax's gradients come divided, so clipping needs no `unscale_`. And the scale is state: it belongs in the
# checkpoint.
#
# ## What a run is made of
#
# Half the work of a checkpoint is to know what the run consists of. Here it has dropout and Adam, so that nothing is
# missing.

# %%
def fresh(seed):
    model = Net(0.5, rngs=nnx.Rngs(seed))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)  # one `adam` for all: another one compiles anew


def advance(run, begin, steps):
    for chosen in batches[begin : begin + steps]:
        loss = train_step(*run, x[chosen], y[chosen])
    return float(loss)


@nnx.jit
def evaluate(model):
    model.eval()
    loss = cross_entropy(model(x[held_out]), y[held_out])
    model.train()
    return loss


run = fresh(SEED)
loss = advance(run, 0, 20)
saved = jax.tree.map(jnp.copy, nnx.state(run))  # a copy: nnx.state refers to the live arrays
print(f"after 20 steps: training loss {loss:.3f}, evaluation {evaluate(run[0]):.3f}")

# %% alt="Two trees side by side of what a checkpoint holds. On the left PyTorch's: model with weights and running averages, optimizer with first and second moments and step, the states of the global random generators, and the place in the data. On the right NNX's: model with weights, BatchNorm's averages and dropout's key and counter, optimizer with count, mu and nu, and the place in the data."
d = plots.Diagram(height=3.3)
in_torch = {
    "model.state_dict()": {"hidden.weight, .bias": "(128, 64), (128,)", "norm.weight, .bias": "2 × (128,)",
                           "norm.running_mean, _var": "2 × (128,)", "out.weight, .bias": "(10, 128), (10,)"},
    "optimizer.state_dict()": {"exp_avg, exp_avg_sq": "2 × the weights", "step": "one a tensor"},
    "elsewhere": {"torch.get_rng_state()": "global", "scheduler, GradScaler": "own state_dict()",
                  "place in the data": "yours to write down"},
}  # fmt: skip
in_jax = {
    "nnx.state(model)": {"hidden.kernel, .bias": "Param", "norm.scale, .bias": "Param",
                         "norm.mean, .var": "BatchStat", "out.kernel, .bias": "Param",
                         "drop.rngs.key, .count": "RngState"},
    "nnx.state(optimizer)": {"mu, nu": "2 × the weights", "count, step": "schedules read it"},
    "elsewhere": {"DynamicScale": "a tree like the others", "place in the data": "yours to write down"},
}  # fmt: skip
d.tree(0.1, 3.2, in_torch, side="torch", step=0.27)
d.tree(4.1, 3.2, in_jax, side="jax", step=0.27)
plt.show()
kinds = pd.Series([type(leaf).__name__ for _, leaf in nnx.to_flat_state(saved)]).value_counts(sort=False)
print("arrays in the state:", ", ".join(f"{count} {kind}" for kind, count in kinds.items()))

# %% [markdown]
# What does each of them cost if it is left out? Twenty steps are done, and the state is copied. Then a fresh run, as
# a new process would make it with the same seed, gets the copy back, complete or with one part missing, and takes
# sixteen more steps. Linen's parts are `params`, `batch_stats` and `opt_state`; its keys are yours (`fold_in(key,
# step)`), so the step is the counter.
#
# **Predict.** One omission changes not a single training loss. Which one?

# %% tags=["trap:batch-statistics"]
parts = {
    "nothing": (nnx.Nothing(), 20),
    "Adam's state": (nnx.PathContains("opt_state"), 20),
    "BatchNorm's averages": (nnx.BatchStat, 20),
    "dropout's counter": (nnx.RngState, 20),
    "the place in the data": (nnx.Nothing(), 0),
}
rows, at_once = {}, {"(the run itself)": evaluate(run[0])}
for missing, (kind, begin) in parts.items():
    again = fresh(SEED)
    nnx.update(again, nnx.filter_state(saved, nnx.Not(kind)))
    at_once[missing] = evaluate(again[0])
    rows[missing] = advance(again, begin, 1), advance(again, begin + 1, 15), evaluate(again[0])
rows["(the run itself)"] = truth = advance(run, 20, 1), advance(run, 21, 15), evaluate(run[0])
assert rows["nothing"] == truth and rows["BatchNorm's averages"][:2] == truth[:2]
table = pd.DataFrame(rows, index=["next training loss", "15 steps on", "evaluated then"]).T
table.insert(0, "evaluated at once", at_once)
table.astype(float).round(3)

# %% [markdown]
# With everything restored the run goes on to the bit. Without BatchNorm's averages training goes on to the bit as
# well, since training uses each batch's own; what is off is the evaluation, at once and still sixteen steps later.
# The three others are other runs from here on: fifteen steps on they are a few hundredths away, two of them lower. No
# curve would give them away, and that is what makes a forgotten part expensive.
#
# ## Orbax: a tree in a folder
#
# `torch.save` pickles whatever it is given into one file. Orbax writes a tree of arrays into a folder, given by an
# absolute path. For one checkpoint there is `StandardCheckpointer`; leaving its block waits until all is written.
#
# Two surprises: `save` refuses a folder that is there, until you say `force=True`. And `restore` has not kept which
# kind of tree it was: without an example of it, tuples come back as lists and Optax's states as dicts.

# %% tags=["trap:overwrite"]
params = nnx.to_pure_dict(nnx.state(run[0], nnx.Param))  # a plain dict, as Linen has it
tree = {"params": params, "opt_state": adam.init(params)}
torch.save({"weight": torch.ones(1)}, folder / "run.pt")
torch.save({"weight": torch.zeros(1)}, folder / "run.pt")
print("torch.save overwrites:", torch.load(folder / "run.pt", weights_only=True))

with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / "run", tree)
    checkpointer.wait_until_finished()
    with fails(ValueError):
        checkpointer.save(folder / "run", tree)
    checkpointer.save(folder / "run", tree, force=True)

# %% tags=["trap:optimizer-state"]
with ocp.StandardCheckpointer() as checkpointer:
    bare = checkpointer.restore(folder / "run")
    whole = checkpointer.restore(folder / "run", jax.eval_shape(lambda: tree))
for words, found in ("without", bare), ("with", whole):
    print(f"{words:8} an example: {type(found['opt_state']).__name__} of {type(found['opt_state'][0]).__name__}")

grads = jax.tree.map(jnp.ones_like, params)
update = jax.jit(adam.update)
with fails(AttributeError):
    update(grads, bare["opt_state"], params)
updates, _ = update(grads, whole["opt_state"], params)
print("with an example the next update runs:", updates["out"]["bias"][:2])

# %% [markdown]
# "'dict' object has no attribute 'mu'", far from any checkpoint, is how a tree looks that was restored without its
# types. The example needs no values: `jax.eval_shape` runs a function on stand-ins and returns shapes and dtypes.
# Linen's is `jax.eval_shape(net.init, key, x)`; in NNX the state of a fresh model will do.
#
# The example is compared with what was written.
#
# **Predict.** An example with a branch too few, one with another shape, one with another dtype: what happens to each?

# %%
kernel, bias = params["out"]["kernel"], params["out"]["bias"]
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / "pair", {"kernel": kernel, "bias": bias})
    checkpointer.save(folder / "single", {"kernel": kernel})
    checkpointer.wait_until_finished()
    with fails(ValueError, lines=8):
        checkpointer.restore(folder / "pair", {"kernel": kernel})
    with fails(ValueError):
        checkpointer.restore(folder / "single", {"kernel": jax.ShapeDtypeStruct((128, 12), jnp.float32)})
    narrow = checkpointer.restore(folder / "single", {"kernel": jax.ShapeDtypeStruct((128, 10), jnp.bfloat16)})
narrow = narrow["kernel"]
print(f"{kernel.dtype} on disk, {narrow.dtype} in the example: {kernel[0, 0]:.6f} comes back as {narrow[0, 0]:.6f}")


# %% [markdown]
# Of the first message read the name: `bias` is on disk (Target), and MISSING in the example (Source). The second
# names both shapes and not the array: look for it by its shape. The dtype is converted without a word, which is right
# for serving float32 weights in bfloat16, and wrong for a run that is to go on.
#
# ## Many checkpoints: the manager
#
# `CheckpointManager` numbers checkpoints, deletes old ones and knows the newest. Each has named parts: arrays
# (`StandardSave`) and, for the place in the data, JSON. `best_fn` picks a metric, `max_to_keep` a number.
#
# **Predict.** Five epochs with losses 0.9, 0.5, 0.3, 0.4, 0.6 and `max_to_keep=2`: which are on disk afterwards, and
# from where does a killed run go on?

# %%
def save_all(name, **options):
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["loss"], best_mode="min", **options)
    with ocp.CheckpointManager(folder / name, options=options) as manager:
        for epoch, loss in enumerate((0.9, 0.5, 0.3, 0.4, 0.6)):
            place = ocp.args.JsonSave({"epochs done": epoch + 1})
            parts = ocp.args.Composite(state=ocp.args.StandardSave(nnx.state(run)), place=place)
            manager.save(epoch, args=parts, metrics={"loss": loss})
        manager.wait_until_finished()
        best, newest = manager.best_step(), manager.latest_step()
        print(f"{name}: on disk {manager.all_steps()}, best {best}, newest {newest}")
        print("    epoch 1 saved again:", manager.save(1, args=parts, metrics={"loss": 0.1}))
        parts = ocp.args.Composite(state=ocp.args.StandardRestore(nnx.state(run)), place=ocp.args.JsonRestore())
        return manager.restore(best, args=parts)


save_all("max_to_keep=2", max_to_keep=2)
both = AnyPreservationPolicy([LatestN(1), BestN(get_metric_fn=lambda metrics: metrics["loss"], reverse=True, n=1)])
found = save_all("best and newest", preservation_policy=both)
nnx.update(run, found["state"])
print("restored the best:", found["place"])

# %% [markdown]
# "The best two" are the best two. Epoch 4 is gone, so a killed run goes on from epoch 3 and repeats the last one. To
# keep the best *and* the newest takes a preservation policy in place of `max_to_keep`; `reverse=True` means that less
# is better.
#
# `save` returned False for a step that is older than the newest: nothing is written, nothing is raised. That happens
# to those who restore the best epoch and train on in the same folder. Take a new folder.
#
# The manager writes in the background (`enable_async_checkpointing`, on by default) while the training goes on.
#
# **Predict.** The bias is 1, it is saved, and one line later it is 2. Which one is in the file, with a `state_dict()`
# and with Orbax?

# %%
with torch.no_grad():
    model.out.bias.fill_(1.0)
    held = model.state_dict()
    model.out.bias.fill_(2.0)  # the training goes on
torch.save(held, folder / "held.pt")  # as a thread in the background would
in_torch = torch.load(folder / "held.pt", weights_only=True)["out.bias"]

bias = run[0].out.bias
with ocp.CheckpointManager(folder / "async") as manager:
    bias[...] = jnp.full(10, 1.0)
    manager.save(0, args=ocp.args.StandardSave(nnx.state(run)))
    bias[...] = jnp.full(10, 2.0)
    manager.wait_until_finished()
    restored = manager.restore(0, args=ocp.args.StandardRestore(nnx.state(run)))
print(f"torch: {in_torch[0]:.0f} in the file, {model.out.bias[0]:.0f} in the model")
print(f"Orbax: {restored[0]['out']['bias'][0]:.0f} in the file, {bias[0]:.0f} in the model")

# %% [markdown]
# A JAX array never changes, the box merely got another one; and `save` returns only after it has a copy of its own in
# host memory. That copy is its price: time for the transfer, memory for one more state. What it has not done is
# finish: before you read the folder, and before the process ends, call `wait_until_finished()`. Leaving the `with`
# does.
#
# ## A run that is killed
#
# Now the proof, by a script that knows nothing of this notebook. `setup` is model, data and a step, as in any script.
# `loop` is what makes it resumable: it asks the manager for the newest step, and restores it if there is one. The
# order of the data is drawn from the epoch's number, so that number is the whole place in the data.

# %%
setup = """
import csv, sys
from pathlib import Path
import jax.numpy as jnp, numpy as np, optax, orbax.checkpoint as ocp
from flax import nnx

rngs = nnx.Rngs(0)
model = nnx.Sequential(
    nnx.BatchNorm(16, rngs=rngs), jnp.sin, nnx.Dropout(0.2, rngs=rngs), nnx.Linear(16, 1, rngs=rngs),
)
run = model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
x = np.random.default_rng(0).normal(size=(512, 16)).astype(np.float32)
y = np.sin(x).sum(axis=1, keepdims=True)

@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: ((model(x) - y) ** 2).mean())(model)
    optimizer.update(model, grads)
    return loss
"""

# %%
loop = """
folder = Path(sys.argv[1])
options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
with ocp.CheckpointManager(folder, options=options) as manager:
    newest = manager.latest_step()  # None in a new folder
    if newest is not None:
        nnx.update(run, manager.restore(newest, args=ocp.args.StandardRestore(nnx.state(run))))
    for epoch in range(0 if newest is None else newest + 1, 8):
        order = np.random.default_rng(epoch).permutation(512).reshape(-1, 32)
        loss = np.mean([train_step(*run, x[chosen], y[chosen]) for chosen in order])
        with open(f"{folder}.csv", "a", newline="") as file:
            csv.writer(file).writerow([epoch, float(loss)])
        manager.save(epoch, args=ocp.args.StandardSave(nnx.state(run)))
        print(epoch, flush=True)
"""
script = folder / "train.py"
script.write_text(setup + loop, "utf-8")
print(len(setup.strip().splitlines()), "lines of set-up,", len(loop.strip().splitlines()), "of loop")


# %% [markdown]
# Three processes, all on the CPU, since this notebook may hold the accelerator. One runs to its end. One is killed
# when it reports epoch 4, without a chance to clean up (`SIGKILL`; on Windows `TerminateProcess`). The third is the
# second's command again.

# %% tags=["nbval-ignore-output"] volatile="where the kill hits"
def launch(name, kill_at=None):
    command = [sys.executable, str(script), str(folder / name)]
    where = {"env": {**os.environ, "JAX_PLATFORMS": "cpu"}, "cwd": folder}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **where, **pipes) as process:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip() == kill_at:
                process.kill()
    print(f"{name:7} epochs {' '.join(lines)}, exit code {process.returncode}")


launch("whole")
launch("killed", kill_at="4")
print("        on disk:", *sorted(path.name for path in (folder / "killed").iterdir()))
launch("killed")
logs = {name: pd.read_csv(folder / f"{name}.csv", names=["epoch", "loss"]) for name in ("whole", "killed")}
print("last loss:", *(f"{name} {log['loss'].iloc[-1]:.9f}" for name, log in logs.items()))
assert logs["whole"]["loss"].iloc[-1] == logs["killed"]["loss"].iloc[-1]

# %% [markdown]
# The same loss in every digit. A checkpoint that was being written when the process died is a folder with `tmp` in
# its name: Orbax writes beside and renames at the end, so a numbered folder is a whole one. The epoch that was not
# whole was run again. Exit code -9, or 137 in a container, is `SIGKILL`; the kernel sends it too, to those who take
# all memory.
#
# What a folder of checkpoints does not know is whose it is: with another seed or learning rate the same command goes
# on without a word. `course.train.resumable` compares the setting, checksums the arrays, obeys `SIGTERM` and locks
# the folder; the long runs of [19](19_million_dimensions.ipynb) use it.
#
# ## A log that survives
#
# The script appends a row an epoch to a CSV, before it saves: so a restart may repeat a row, and never misses one. Of
# each epoch the last row counts.

# %%
log = logs["killed"].drop_duplicates("epoch", keep="last").set_index("epoch")
assert log.equals(logs["whole"].set_index("epoch"))
print("killed and resumed, duplicates dropped: every epoch's loss as in the whole run  ok")

if importlib.util.find_spec("tensorboard"):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder / "board") as writer:
        for epoch, loss in log["loss"].items():
            writer.add_scalar("training loss", loss, epoch)
    print("TensorBoard: written; tensorboard --logdir shows it")
else:
    print("TensorBoard: not installed, nothing written; `pip install tensorboard` and run this cell again")
log.T.round(3)

# %% [markdown]
# TensorBoard's writer knows NumPy and torch, and refuses a JAX array: hand it `float(loss)`. That waits for the
# device, as `.item()` does. Log every hundredth step, or collect the arrays and convert them at the end of the epoch.
#
# ## Weights for others
#
# Orbax folders are for going on. To hand weights to another program, safetensors is the common ground: one file,
# names and arrays, no code inside, and no torch needed to read it. It is flat, so join the path of a nested tree
# first (for Linen's, `flax.traverse_util.flatten_dict(params, sep=".")`).

# %%
flat = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(run[0], nnx.Param))}
safetensors.flax.save_file(flat, folder / "net.safetensors")
back = safetensors.flax.load_file(folder / "net.safetensors")
assert all((back[name] == flat[name]).all() for name in flat)
print("out and back:", *back)
with fails():
    safetensors.flax.save_file(params, folder / "nested.safetensors")

safetensors.torch.save_file(TorchNet(0.0).state_dict(), folder / "torch.safetensors")
theirs = safetensors.flax.load_file(folder / "torch.safetensors")
for name in ("hidden.weight", "norm.running_mean"):
    print(f"torch's file: {name:18}", theirs[name].shape)
ported = porting.arrays_to_nnx(porting.read_checkpoint(folder / "torch.safetensors"), Net(0.0, rngs=nnx.Rngs(SEED)))
print("carried over: hidden.kernel     ", ported.hidden.kernel.shape)
scratch.cleanup()

# %% [markdown]
# A complaint about dtype "object" means a nested dict: a branch was taken for an array. A file of torch's has torch's
# names and layouts, (out, in); `course.porting` turns them over, as [07](07_porting_checkpoints.ipynb) does with a
# real checkpoint. A `.pt` file needs torch once: `torch.load(path, weights_only=True)`, then the same road.
#
# ## Summary
#
# - bfloat16: `dtype=jnp.bfloat16` in the layers, logits cast to float32, weights and optimizer state left in float32.
#   Nothing is scaled.
# - float16: scale the loss with `DynamicScale`, skip the step yourself where `finite` is False, give it torch's
#   `growth_interval` less one, and save it.
# - A run is weights, averages, optimizer state, dropout's counter and the place in the data. Leave one out, and it
#   trains on without a word as another run.
# - Restore with an example of the tree. Keep the best *and* the newest. Wait until it is written.
#
# ## Further reading
#
# - [Mixed Precision Training](https://arxiv.org/abs/1710.03740): float32 master weights and loss scaling, where both
#   come from.
# - [torch.amp](https://docs.pytorch.org/docs/stable/amp.html): which operations autocast runs in which type, and
#   `GradScaler`.
# - [flax.training.dynamic_scale](https://github.com/google/flax/blob/main/flax/training/dynamic_scale.py): the whole
#   of `DynamicScale`, one page of code.
# - [Orbax](https://orbax.readthedocs.io/en/stable/guides/checkpoint/orbax_checkpoint_api_overview.html): managers,
#   policies, named parts of a checkpoint.
# - [safetensors](https://huggingface.co/docs/safetensors/index): the format and its readers.
#
# Next: [06 · porting models](06_porting_layers.ipynb).
