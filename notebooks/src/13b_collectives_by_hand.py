# %% [markdown]
# # 13b · Collectives by hand
#
# **What do you write when the communication is to be yours, and what goes wrong between eight devices?** (60 minutes)

# %% [markdown]
# After this lesson you can
#
# - write DDP, FSDP and a ring of matrix products with `shard_map` and collectives, and differentiate through them,
# - move `pmap` code to what took its place,
# - accumulate gradients so that devices talk once a step, and recompute gathered weights with `jax.checkpoint`,
# - find five slips: an uneven cut, a host array, donated shards, equal random numbers, local statistics.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import torch
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

from course.failures import fails
from course.sharding import bytes_per_device, collectives

# %%
SEED, BATCH, DEVICES, MICRO = 0, 128, 8, 4
LIMITS = {"float64": 1e-12, "float32": 1e-6}  # how far loss and gradients may be from those of one device
jax.config.update("jax_num_cpu_devices", DEVICES)  # simulated; before JAX's first computation
jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

# %% [markdown]
# A small network on the digits, its weights as a dict. `reference` is loss and gradients on one device: all that
# follows must give the same, and `same` looks whether it does, in both precisions. As in [13](13_many_devices.ipynb),
# arrays lie whole (`P()`) or cut by rows (`P("data")`).

# %%
pixels, digits = load_digits(return_X_y=True)
x, y, rng = pixels[:BATCH] / 16, digits[:BATCH], np.random.default_rng(SEED)
params = {"up": rng.normal(size=(64, 256)) / 8, "down": rng.normal(size=(256, 10)) / 16}
whole, batch = jax.device_put(params, everywhere), jax.device_put((x, y), cut)


def loss_fn(params, x, y):
    logits = jnp.maximum(x @ params["up"], 0) @ params["down"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


# %%
def cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf, tree)


def distance(one, other):
    pairs = zip(*(jax.tree.leaves(jax.device_get(tree)) for tree in (one, other)), strict=True)
    return max(np.abs(a - b).max() for a, b in pairs)


reference = {dtype: jax.jit(jax.value_and_grad(loss_fn))(*cast((params, x, y), dtype)) for dtype in LIMITS}


def same(function, params):
    gaps = {dtype: distance(jax.jit(function)(*cast((params, *batch), dtype)), reference[dtype]) for dtype in LIMITS}
    assert all(gaps[dtype] < limit for dtype, limit in LIMITS.items()), gaps
    return {f"{dtype}, within {limit}": True for dtype, limit in LIMITS.items()}


print(f"loss on one device: {reference['float64'][0]:.4f}")
print("under jit, the batch cut:", same(jax.value_and_grad(loss_fn), whole))


# %% [markdown]
# ## DDP with `psum`
#
# `jax.shard_map` runs a function once on each device, on the part that lies there: the function sees 16 rows, not 128.
# `in_specs` says how arguments are cut, `out_specs` how results are put together. It is the world of a torch process,
# with the collectives of `torch.distributed` under other names: `psum` (`all_reduce`), `all_gather`, `psum_scatter`
# (`reduce_scatter`), `ppermute` (`send` and `recv`), `axis_index` (`get_rank`). `pmean` is `psum` divided by the number
# of devices. What DDP's hooks do, in torch by hand:
#
# ```python
# loss.backward()                                     # of this rank's rows
# for p in model.parameters():
#     dist.all_reduce(p.grad)                         # the sum over ranks, in place
#     p.grad /= dist.get_world_size()
# ```
#
# **Predict.** The same recipe, word by word: the gradient of the local loss, then the mean over devices. Is it right?

# %%
def by_recipe(params, x, y):
    return jax.lax.pmean(jax.value_and_grad(loss_fn)(params, x, y), "data")


def mean_inside(params, x, y):
    return jax.value_and_grad(lambda params: jax.lax.pmean(loss_fn(params, x, y), "data"))(params)


rows = {}
for function in (by_recipe, mean_inside):
    for check in (True, False):
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P(), check_vma=check
        )
        got, right = jax.jit(mapped)(whole, *batch), reference["float64"]
        ratio = np.vdot(got[1]["up"], right[1]["up"]) / np.vdot(right[1]["up"], right[1]["up"])
        rows[function.__name__, f"check_vma={check}"] = {
            "gradient / right one": round(float(ratio), 3), "right": distance(got, right) < LIMITS["float64"]
        }  # fmt: skip
pd.DataFrame(rows).T


# %% [markdown]
# By default the gradient is eight times too large. `shard_map` tracks which values differ between devices (`check_vma`,
# "varying manual axes"). Weights that are the same everywhere go into eight losses, so the derivative by *the* weights
# is the sum over devices, and JAX has already summed. A mean of eight equal sums is the sum. With `check_vma=False`
# nothing is tracked; then the recipe holds, and a mean inside the loss leaves each device its own gradient, in silence:
# what came out in the last row is device 0's.
#
# The rule that needs no memory: differentiate what is whole. Let `shard_map` return the mean loss, and take the
# gradient outside:

# %%
def mean_loss(params, x, y):
    return jax.lax.psum(loss_fn(params, x, y), "data") / DEVICES


def mapped_loss(function, params_spec):
    return jax.shard_map(function, mesh=mesh, in_specs=(params_spec, P("data"), P("data")), out_specs=P())


def sent_by(function, *args):
    return collectives(jax.jit(function).lower(*args).compile())


ddp = jax.value_and_grad(mapped_loss(mean_loss, P()))
print("as on one device:", same(ddp, whole))
sent_by(ddp, whole, *batch)


# %% [markdown]
# ## FSDP with `all_gather`
#
# One all-reduce, of all gradients and the loss, as `jit` puts it in by itself. In FSDP the weights come in cut, and the
# function gathers them: `tiled=True` joins the parts along the axis that was cut (the default would stack them along a
# new one). In torch this is `dist.all_gather_into_tensor(whole, part)` before the layer, and what its backward pass
# sends is yours to write.
#
# **Predict.** No reduction of gradients is written here. What will the derivative of `all_gather` be?

# %%
def gather(part):
    return jax.lax.all_gather(part, "data", tiled=True)


def fsdp_loss(parts, x, y):
    return jax.lax.pmean(loss_fn(jax.tree.map(gather, parts), x, y), "data")


parts, fsdp = jax.device_put(params, cut), jax.value_and_grad(mapped_loss(fsdp_loss, P("data")))
print("as on one device:", same(fsdp, parts))
print("bytes of weights on a device:", bytes_per_device(parts), "of", bytes_per_device(params))
slope = jax.jit(fsdp)(parts, *batch)[1]["up"]
print("a gradient lies as its weight does:", slope.sharding.is_equivalent_to(parts["up"].sharding, 2))
sent_by(fsdp, parts, *batch)


# %% [markdown]
# A reduce-scatter (torch: `dist.reduce_scatter_tensor`): what brings a part to everybody has as its transpose what adds
# everybody's share to the part. `jit` on a CPU had left it an all-reduce. (The all-reduce of 8 bytes is the loss.)
#
# ## A ring with `ppermute`
#
# `gather` holds the whole weight for a moment. A ring need not: each device multiplies with the part that it has,
# passes it on to its neighbour, and after eight turns has seen all. On accelerators sending and multiplying overlap
# ("collective matmul"). In torch this is `batch_isend_irecv` in a loop, and its backward pass is yours.

# %%
def ring_product(x, part):  # x: (16, 64), part: (8, 256) of a weight (64, 256)
    me, rows = jax.lax.axis_index("data"), len(part)
    turn = [(sender, (sender - 1) % DEVICES) for sender in range(DEVICES)]
    total = 0
    for k in range(DEVICES):
        columns = jax.lax.dynamic_slice_in_dim(x, (me + k) % DEVICES * rows, rows, axis=1)
        total += columns @ part
        if k < DEVICES - 1:
            part = jax.lax.ppermute(part, "data", turn)
    return total


ring = jax.shard_map(ring_product, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
difference = distance(jax.jit(ring)(batch[0], parts["up"]), x @ params["up"])
through = jax.jit(jax.grad(lambda up: (ring(batch[0], up) ** 2).sum()))(parts["up"])
slope = 2 * x.T @ (x @ params["up"])  # the same gradient, by hand
assert difference < 1e-12 and distance(through, slope) < 1e-12 * np.abs(slope).max()
print("the product, and the gradient through it, are those of one device, within 1e-12")
sent_by(ring, batch[0], parts["up"])


# %% [markdown]
# Seven sends of an eighth each: what an all-gather sends. (Sends go between pairs, so the table counts no group: 0
# devices.) The gradient goes round the other way, and nobody had to write that.
#
# ## What became of `pmap`
#
# `pmap` was `shard_map`'s forerunner: a leading axis, one entry a device ([11](11_ensembles.ipynb) shows its shapes and
# how to leave it for `jit`). Code that you find may also use what grew around it:

# %%
def old_step(params, x, y):
    return jax.lax.pmean(jax.grad(loss_fn)(params, x, y), axis_name="data")


sixteen = x.reshape(16, 8, 64), y.reshape(16, 8)
with fails(ValueError):  # 16 parts on 8 devices
    jax.pmap(old_step, axis_name="data", in_axes=(None, 0, 0))(params, *sixteen)
with fails(ImportError):
    from jax.experimental.maps import xmap  # noqa: F401
with fails(ImportError):
    from jax.sharding import PositionalSharding  # noqa: F401

# %% [markdown]
# The first message depends on the version: since 0.8 `pmap` is itself made of `jit` and `shard_map`, and speaks of *an
# axis to squeeze out*; before, of *16 logical devices*. More of what you may find, and what it is now:
#
# | old | now |
# |---|---|
# | `xmap`, `jax.experimental.shard_map`, its `check_rep` | `jax.shard_map`, `check_vma` |
# | `PositionalSharding` | a mesh, and `NamedSharding` |
# | `pjit`, its `in_axis_resources` | `jit`, `in_shardings` |
# | `device_put_replicated`, `device_put_sharded` (gone in 0.10, there in 0.7) | `device_put` with a sharding |
# | `flax.jax_utils.replicate`: copies along a leading axis | `device_put` with `P()`: one array |
#
# The fix for the step: rows in place of the leading axis, and the gradient taken outside.

# %%
new_grad = jax.jit(jax.grad(mapped_loss(mean_loss, P())))
by_pmap = jax.pmap(old_step, axis_name="data", in_axes=(None, 0, 0))(params, x.reshape(8, 16, 64), y.reshape(8, 16))
moved = new_grad(whole, *batch)
print("pmap returns", by_pmap["up"].shape, "- eight equal gradients; shard_map", moved["up"].shape)
assert distance([by_pmap["up"][0], moved["up"]], [reference["float64"][1]["up"]] * 2) < 1e-12


# %% [markdown]
# ## Accumulation
#
# A batch in four micro-batches, one after the other, saves activations. On one device any four would do. On eight,
# `reshape(4, 32, …)` takes as its first micro-batch 32 rows in a row, those of devices 0 and 1: rows must travel, or
# six devices wait. Let each device give a quarter of *its* rows instead. And does each micro-batch need an all-reduce?
# (In torch each process has its own rows, so only the second question arises.)

# %%
def accumulated(micro_batches, params, x, y):
    def one(total, micro):
        return jax.tree.map(lambda a, b: a + b / MICRO, total, jax.value_and_grad(loss_fn)(params, *micro)), None

    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(one, zeros, (micro_batches(x), micro_batches(y)))[0]


def blocks(rows):
    return rows.reshape(MICRO, -1, *rows.shape[1:])


def stripes(rows):
    return rows.reshape(-1, MICRO, *rows.shape[1:]).swapaxes(0, 1)


def local(params, x, y):  # on each device: 4 times 4 of its 16 rows, one mean at the end
    return jax.lax.pmean(accumulated(blocks, params, x, y), "data")


ways = {"jit, blocks": partial(accumulated, blocks), "jit, stripes": partial(accumulated, stripes)}
ways["shard_map"] = jax.shard_map(
    local, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P(), check_vma=False
)

# %%
tables = {}
for name, function in ways.items():
    placed = jax.jit(function, out_shardings=everywhere)
    print(f"{name:12} as on one device:", same(placed, whole))
    tables[name] = sent_by(placed, whole, *batch)
pd.concat(tables, names=["accumulation"]).droplevel(1)

# %% [markdown]
# All three are right, and differ in what they send. `blocks` moves rows of the batch. `stripes` moves none, but the
# all-reduce stands in the loop: four times the gradients' bytes. By hand there is one (and here `check_vma=False` is
# wanted: the recipe of a local gradient and one mean). In torch the slip is a missing `with model.no_sync():` around
# all micro-batches but the last.
#
# ## Recomputing
#
# `jax.checkpoint` drops what a layer made, and makes it again in the backward pass. Under FSDP this includes the
# gathered weights. Eight layers in a scan, with and without:

# %%
layers = rng.normal(size=(8, 64, 64)) / 8
stack = jax.device_put(layers, NamedSharding(mesh, P(None, "data")))


def deep_loss(wrap, stack, x):
    def layer(x, part):
        return jnp.tanh(x @ gather(part)), None

    return jax.lax.pmean((jax.lax.scan(wrap(layer), x, stack)[0] ** 2).mean(), "data")


def on_one(layers, x):
    return (jax.lax.scan(lambda x, layer: (jnp.tanh(x @ layer), None), x, layers)[0] ** 2).mean()


rows, expected = {}, jax.jit(jax.grad(on_one))(layers, x)
for name, wrap in {"kept": lambda layer: layer, "jax.checkpoint": jax.checkpoint}.items():
    mapped = jax.shard_map(partial(deep_loss, wrap), mesh=mesh, in_specs=(P(None, "data"), P("data")), out_specs=P())
    step = jax.jit(jax.grad(mapped)).lower(stack, batch[0]).compile()
    assert distance(step(stack, batch[0]), expected) < 1e-12
    counts = collectives(step).set_index("kind")["count"]
    rows[name] = {"all-gathers": counts["all-gather"], "reduce-scatters": counts["reduce-scatter"],
                  "temporaries, KiB": step.memory_analysis().temp_size_in_bytes // 1024}  # fmt: skip
pd.DataFrame(rows).T

# %% [markdown]
# Twice the gathers, and a fraction of the memory: the eight whole weights are no longer kept from the forward pass for
# the backward one; both gradients are those of one device. That is the trade that torch's
# `fully_shard(reshard_after_forward=True)` makes, the default for all but the outermost module. (Activations alone are
# recomputed by `torch.utils.checkpoint`; a `policy` of `jax.checkpoint` chooses too, [09b](09b_custom_rules.ipynb).)
#
# ## Five slips
#
# **1. The cut is uneven.** The last batch has 100 rows, and 8 does not divide 100.

# %%
with fails(ValueError):
    jax.device_put(x[:100], cut)
padded = np.pad(x[:100], ((0, 4), (0, 0))), np.pad(y[:100], (0, 4))
weight = np.arange(104) < 100


def weighted_loss(params, x, y, weight):
    logits = jnp.maximum(x @ params["up"], 0) @ params["down"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return jnp.where(weight, losses, 0).sum() / weight.sum()


loss = jax.jit(weighted_loss)(params, *jax.device_put((*padded, weight), cut))
print(
    "padded to 104 rows, four of weight 0: right to 1e-12:", bool(abs(loss - loss_fn(params, x[:100], y[:100])) < 1e-12)
)

# %% [markdown]
# Pad, and give the padding weight 0; the divisor is the sum of the weights of *all* devices, which under `jit` is what
# `weight.sum()` says. (torch's `DistributedSampler` repeats rows, or drops some; a mean of means over uneven parts is
# another slip.)
#
# **2. A host array in a sharded step.** The batch comes from the loader as NumPy, and nobody places it.

# %%
rows, places = {}, {"in_shardings": (everywhere, cut, cut)}
for name, data, options in (("NumPy", (x, y), {}), ("placed", batch, {}), ("NumPy, in_shardings", (x, y), places)):
    jitted = jax.jit(jax.value_and_grad(loss_fn), **options)
    step = jitted.lower(whole, *data).compile()
    assert distance(step(whole, *data), reference["float64"]) < 1e-12
    rows[name] = {"batch lies": str(tuple(step.input_shardings[0][1].spec)), "collectives": len(collectives(step)),
                  "million operations a device": round(step.cost_analysis()["flops"] / 1e6, 1)}  # fmt: skip
with fails(ValueError):
    jitted(whole, *jax.device_put((x, y), everywhere))
pd.DataFrame(rows).T

# %% [markdown]
# No error, right numbers, and no gain: an array that was not placed goes to all devices, and each does all the work.
# `jax.jit(step, in_shardings=…)` places NumPy arrays on the way in, and refuses arrays that lie otherwise (the error).
# Look for collectives: a data-parallel step without any is eight times the same step. (In torch it is a `DataLoader`
# without a `DistributedSampler`: all ranks train on the same rows, and nothing complains.)
#
# **3. Donated shards.** `donate_argnums` lets a step overwrite its state, as torch does. Placing "a copy" everywhere
# first is no protection:

# %%
original = jnp.ones((8, 8))
copy, placed = jnp.copy(original), jax.device_put(original, everywhere)
updated = jax.jit(lambda w: 2 * w, donate_argnums=0)(placed)
with fails(RuntimeError):
    original + 1
print("sums of the copy and the new weights:", float(copy.sum()), float(updated.sum()))


# %% [markdown]
# `device_put` does not copy what is already there: device 0's copy *was* the original's memory, and it was given away.
# Keep `jnp.copy(original)` if you need the old weights (for a second run, for an EMA), or build the state anew.
# (torch's `model.state_dict()` has the same trap without an error: its tensors are the live ones, and change;
# `deepcopy` it.)
#
# **4. The same random numbers on all devices.** Dropout's mask inside `shard_map`, one key for all:

# %%
def mask(key, x):
    return jax.random.bernoulli(key, 0.5, x.shape)


def own_mask(key, x):
    return mask(jax.random.fold_in(key, jax.lax.axis_index("data")), x)


key = jax.random.key(SEED)
for function in (mask, own_mask):
    mapped = jax.shard_map(function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))
    masks = np.asarray(jax.jit(mapped)(key, batch[0]))
    print(f"{function.__name__:9} different masks on 8 devices:", len({part.tobytes() for part in np.split(masks, 8)}))
under_jit = jax.jit(mask, out_shardings=cut)(key, batch[0])
print("under jit: the mask of one device, whatever the sharding:", bool((under_jit == mask(key, x)).all()))

# %% [markdown]
# In `shard_map`, `fold_in` the device's index. Under `jit` there is nothing to do: a random array is one array, and
# each device draws its part of it. (In torch the slip is the opposite one: a seed that differs by rank also makes the
# initial weights differ; DDP broadcasts those of rank 0.)
#
# **5. BatchNorm.** Under `jit` a mean over the batch is over the whole batch ([11](11_ensembles.ipynb)); in `shard_map`
# it is over the part, DDP's way, unless flax is told the axis. Against torch, on rows that differ a lot:

# %%
wide = x[:, 20:23] * np.arange(1, BATCH + 1)[:, None]
layer = torch.nn.BatchNorm1d(3, dtype=torch.float64)
all_rows = layer(torch.from_numpy(wide)).detach().numpy()  # SyncBatchNorm
by_part = np.concatenate([layer(torch.from_numpy(part)).detach().numpy() for part in np.split(wide, 8)])  # DDP
options, rows = {"use_running_average": False, "param_dtype": jnp.float64, "use_fast_variance": False}, {}  # two passes
variables = nn.BatchNorm(**options).init(key, wide)
for axis_name in (None, "data"):
    apply = partial(nn.BatchNorm(axis_name=axis_name, **options).apply, variables, mutable="batch_stats")
    mapped = jax.shard_map(apply, mesh=mesh, in_specs=P("data"), out_specs=(P("data"), P()), check_vma=False)
    out = np.asarray(jax.jit(mapped)(jax.device_put(wide, cut))[0])
    rows[f"axis_name={axis_name!r}"] = {
        "torch, each part (DDP)": np.abs(out - by_part).max() < 1e-12,
        "torch, all rows (SyncBatchNorm)": np.abs(out - all_rows).max() < 1e-12,
    }
pd.DataFrame(rows).T.rename_axis("equals, within 1e-12")

# %% [markdown]
# `nnx.BatchNorm` takes the same `axis_name`. (Its running averages then agree on all devices; without it each device
# has its own, and `out_specs=P()` returns device 0's. DDP does likewise: it broadcasts the buffers of rank 0.)
#
# ## Summary
#
# - `shard_map` shows a function one device's part; collectives are functions with derivatives, and that of `all_gather`
#   is a reduce-scatter. Take the gradient outside, of a mean that is whole.
# - Cut a batch into micro-batches within each device, reduce once; `jax.checkpoint` gathers again what it doesn't keep.
# - The silent slips (host arrays, equal keys, local statistics, a gradient eight times too large) are found by
#   comparing with one device, and by a look at the collectives.
#
# ## Further reading
#
# - [shard_map](https://docs.jax.dev/en/latest/notebooks/shard_map.html): its rules, and FSDP, pipelines and rings in
#   it.
# - [Migrating to the new jax.pmap](https://docs.jax.dev/en/latest/migrate_pmap.html): what changed in 0.8.
# - [Collective matmul](https://dl.acm.org/doi/10.1145/3567955.3567959): Wang et al., overlapping the ring with
#   products.
# - [FSDP in PyTorch](https://arxiv.org/abs/2304.11277): Zhao et al., when to gather again, and what it costs.
#
# Exercises: [your turn](exercises/13b_collectives_by_hand.ipynb).
#
# Next: [14 · Many processes](14_many_processes.ipynb).
