# %% [markdown]
# # 13b · Collectives by hand
#
# **What do you write when the communication is to be yours, and what goes wrong between eight devices?** (55 minutes)

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
jax.config.update("jax_num_cpu_devices", DEVICES)  # simulated; before JAX's first computation
jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

# %% [markdown]
# A small network on the digits, its weights as a dict, in float64. `reference` is loss and gradients on one device: all
# that follows must give the same. As in [13](13_many_devices.ipynb), arrays lie whole (`P()`) or cut by rows
# (`P("data")`).

# %%
pixels, digits = load_digits(return_X_y=True)
x, y = pixels[:BATCH] / 16, digits[:BATCH]
keys = jax.random.split(jax.random.key(SEED), 2)
params = {"up": jax.random.normal(keys[0], (64, 256)) / 8, "down": jax.random.normal(keys[1], (256, 10)) / 16}


def loss_fn(params, x, y):
    logits = jnp.maximum(x @ params["up"], 0) @ params["down"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


reference = jax.jit(jax.value_and_grad(loss_fn))(params, x, y)
batch = jax.device_put((x, y), cut)


def gap(result):
    return max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (result, reference)), strict=True))


print(f"loss {reference[0]:.4f}; on one device every gap below is 0:", gap(reference) == 0)


# %% [markdown]
# ## DDP with `psum`
#
# `jax.shard_map` runs a function once on each device, on the part that lies there: the function sees 16 rows, not 128.
# `in_specs` says how arguments are cut, `out_specs` how results are put together. It is the world of a torch process,
# with the collectives of `torch.distributed` under other names: `psum` (`all_reduce`), `all_gather`, `psum_scatter`
# (`reduce_scatter`), `ppermute` (`send` and `recv`), `axis_index` (`get_rank`).
#
# **Predict.** DDP's recipe, word by word: the gradient of the local loss, then the mean over devices. Is it right?

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
        loss, grads = jax.jit(mapped)(params, *batch)
        ratio = jnp.vdot(grads["up"], reference[1]["up"]) / jnp.vdot(reference[1]["up"], reference[1]["up"])
        rows[function.__name__, f"check_vma={check}"] = {
            "gradient / right one": round(float(ratio), 3), "right": gap((loss, grads)) < 1e-12
        }  # fmt: skip
pd.DataFrame(rows).T


# %% [markdown]
# By default it is eight times too long. `shard_map` tracks which values differ between devices (`check_vma`, "varying
# manual axes"). Weights that are the same everywhere go into eight losses, so the derivative by *the* weights is the
# sum over devices, and JAX has already summed. A mean of eight equal sums is the sum. With `check_vma=False` nothing
# is tracked; then the recipe holds, and a mean inside the loss leaves each device its own gradient, in silence.
#
# The rule that needs no memory: differentiate what is whole. Let `shard_map` return the mean loss, and take the
# gradient outside:

# %%
def mean_loss(params, x, y):
    return jax.lax.pmean(loss_fn(params, x, y), "data")


def mapped_loss(function, params_spec):
    return jax.shard_map(function, mesh=mesh, in_specs=(params_spec, P("data"), P("data")), out_specs=P())


def program_of(function, *args):
    return jax.jit(function).lower(*args).compile()


ddp = program_of(jax.value_and_grad(mapped_loss(mean_loss, P())), jax.device_put(params, everywhere), *batch)
assert gap(ddp(jax.device_put(params, everywhere), *batch)) < 1e-12
collectives(ddp)


# %% [markdown]
# ## FSDP with `all_gather`
#
# The weights come in cut, and the function gathers them: `tiled=True` joins the parts along the axis that was cut (the
# default would stack them along a new one).
#
# **Predict.** No reduction of gradients is written. What will the derivative of `all_gather` be?

# %%
def gather(part):
    return jax.lax.all_gather(part, "data", tiled=True)


def fsdp_loss(parts, x, y):
    return jax.lax.pmean(loss_fn(jax.tree.map(gather, parts), x, y), "data")


parts = jax.device_put(params, cut)
fsdp = program_of(jax.value_and_grad(mapped_loss(fsdp_loss, P("data"))), parts, *batch)
result = fsdp(parts, *batch)
assert gap(result) < 1e-12
print("bytes of weights on a device:", bytes_per_device(parts), "of", bytes_per_device(params))
print("gradients lie as the weights do:", result[1]["up"].sharding.is_equivalent_to(parts["up"].sharding, 2))
collectives(fsdp)


# %% [markdown]
# A reduce-scatter: what brings a part to everybody has as its transpose what adds everybody's share to the part. That
# is FSDP's communication as in the books; `jit` on a CPU had left it an all-reduce.
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
difference = jnp.abs(jax.jit(ring)(batch[0], parts["up"]) - x @ params["up"]).max()
through = jax.grad(lambda up: (ring(batch[0], up) ** 2).sum())(parts["up"])
whole = jax.grad(lambda up: ((x @ up) ** 2).sum())(params["up"])
assert difference < 1e-12 and jnp.abs(through - whole).max() < 1e-9  # sums of 128 squares of size 10
print("the product and its gradient are those of one device, within 1e-12 and 1e-9")
collectives(program_of(ring, batch[0], parts["up"]))


# %% [markdown]
# Seven sends of an eighth each, one way: what an all-gather sends.
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
# axis to squeeze out*; before, of *16 logical devices*. `jax.device_put_replicated` and `device_put_sharded` go the
# same way (use `device_put` with a sharding), `jax.experimental.shard_map` became `jax.shard_map` with `check_rep`
# renamed `check_vma`, and `pjit` is `jit`.
#
# The fix: rows in place of the leading axis, and the gradient taken outside.

# %%
new_grad = jax.jit(jax.grad(mapped_loss(mean_loss, P())))
by_pmap = jax.pmap(old_step, axis_name="data", in_axes=(None, 0, 0))(params, x.reshape(8, 16, 64), y.reshape(8, 16))
moved = new_grad(params, *batch)
print("pmap returns", by_pmap["up"].shape, "- eight equal gradients; shard_map", moved["up"].shape)
assert jnp.abs(by_pmap["up"][0] - moved["up"]).max() < 1e-12


# %% [markdown]
# ## Accumulation
#
# A batch in four micro-batches, one after the other, saves activations. On one device any four would do. On eight,
# `reshape(4, 32, …)` takes as its first micro-batch 32 rows in a row, those of devices 0 and 1: rows must travel, or
# six devices wait. Let each device give a quarter of *its* rows instead. And does each micro-batch need an all-reduce?

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
    step = jax.jit(function, out_shardings=everywhere).lower(jax.device_put(params, everywhere), *batch).compile()
    assert gap(step(jax.device_put(params, everywhere), *batch)) < 1e-12
    tables[name] = collectives(step)
pd.concat(tables, names=["accumulation"]).droplevel(1)

# %% [markdown]
# All three are right, and differ in what they send. `blocks` moves rows of the batch. `stripes` moves none, but the
# all-reduce stands in the loop: four times the gradients' bytes. By hand there is one (and here `check_vma=False` is
# wanted: the recipe of a local gradient and one mean). In torch the same slip has a name, a missing
# `model.no_sync()`.
#
# ## Recomputing
#
# `jax.checkpoint` drops what a layer made, and makes it again in the backward pass. Under FSDP this includes the
# gathered weights. Eight layers in a scan, with and without:

# %%
stack = jax.device_put(jax.random.normal(keys[0], (8, 64, 64)) / 8, NamedSharding(mesh, P(None, "data")))


def deep_loss(wrap, stack, x):
    def layer(x, part):
        return jnp.tanh(x @ gather(part)), None

    return jax.lax.pmean((jax.lax.scan(wrap(layer), x, stack)[0] ** 2).mean(), "data")


rows, grads = {}, []
for name, wrap in {"kept": lambda layer: layer, "jax.checkpoint": jax.checkpoint}.items():
    mapped = jax.shard_map(partial(deep_loss, wrap), mesh=mesh, in_specs=(P(None, "data"), P("data")), out_specs=P())
    step = program_of(jax.grad(mapped), stack, batch[0])
    grads.append(step(stack, batch[0]))
    counts = collectives(step).set_index("kind")["count"]
    rows[name] = {"all-gathers": counts["all-gather"], "reduce-scatters": counts["reduce-scatter"],
                  "temporaries, KiB": step.memory_analysis().temp_size_in_bytes // 1024}  # fmt: skip
assert jnp.abs(grads[0] - grads[1]).max() < 1e-12
pd.DataFrame(rows).T

# %% [markdown]
# Twice the gathers, and a fraction of the memory: the eight whole weights are no longer kept from the forward pass for
# the backward one. That is the trade that `fully_shard(reshard_after_forward=True)` makes in torch, by default.
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
rows, weights = {}, jax.device_put(params, everywhere)
for name, data in {"NumPy": (x, y), "placed": batch}.items():
    step = program_of(jax.value_and_grad(loss_fn), weights, *data)
    assert gap(step(weights, *data)) < 1e-12
    rows[name] = {"batch lies": str(tuple(step.input_shardings[0][1].spec)), "collectives": len(collectives(step)),
                  "million operations a device": round(step.cost_analysis()["flops"] / 1e6, 1)}  # fmt: skip
pd.DataFrame(rows).T

# %% [markdown]
# No error, right numbers, and no gain: an array that was not placed goes to all devices, and each does all the work.
# `jax.jit(step, in_shardings=…)` places NumPy arrays on the way in, and refuses arrays that lie otherwise. Look for
# collectives: a data-parallel step without any is eight times the same step.
#
# **3. Donated shards.** `donate_argnums` lets a step overwrite its state, as torch does. Placing "a copy" everywhere
# first is no protection:

# %%
original = jnp.ones((8, 8))
placed = jax.device_put(original, everywhere)
updated = jax.jit(lambda w: 2 * w, donate_argnums=0)(placed)
with fails(RuntimeError):
    original + 1


# %% [markdown]
# `device_put` does not copy what is already there: device 0's copy *was* the original's memory, and it was given away.
# Keep `jnp.copy(original)` if you need the old weights (for a second run, for an EMA), or build the state anew.
#
# **4. The same random numbers on all devices.** Dropout's mask inside `shard_map`, one key for all:

# %%
def mask(key, x):
    return jax.random.bernoulli(key, 0.5, x.shape)


def own_mask(key, x):
    return mask(jax.random.fold_in(key, jax.lax.axis_index("data")), x)


key = jax.random.key(SEED)
for function in (mask, own_mask):
    masks = np.asarray(
        jax.shard_map(function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))(key, batch[0])
    )
    print(f"{function.__name__:9} different masks on 8 devices:", len({part.tobytes() for part in np.split(masks, 8)}))
under_jit = jax.jit(mask, out_shardings=cut)(key, batch[0])
print("under jit: the mask of one device, whatever the sharding:", bool((under_jit == mask(key, jnp.asarray(x))).all()))

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
for axis_name in (None, "data"):
    options = {"use_running_average": False, "param_dtype": jnp.float64, "use_fast_variance": False}  # in two passes
    norm, variables = nn.BatchNorm(axis_name=axis_name, **options), nn.BatchNorm(**options).init(key, wide)
    apply = partial(norm.apply, variables, mutable="batch_stats")
    out = jax.shard_map(apply, mesh=mesh, in_specs=P("data"), out_specs=(P("data"), P()), check_vma=False)(
        jax.device_put(wide, cut)
    )[0]
    gaps = {"all rows": np.abs(out - all_rows).max(), "each part": np.abs(out - by_part).max()}
    print(
        f"axis_name={axis_name!s:5} equals torch's BatchNorm of",
        min(gaps, key=gaps.get),
        bool(min(gaps.values()) < 1e-9),
    )

# %% [markdown]
# ## Summary
#
# - `shard_map` shows a function one device's part; collectives are functions with derivatives, and that of `all_gather`
#   is a reduce-scatter. Take the gradient outside, of a mean that is whole.
# - Cut a batch into micro-batches within each device, reduce once; `jax.checkpoint` gathers again what it doesn't keep.
# - The silent slips (host arrays, equal keys, local statistics, a gradient eight times too long) are found by comparing
#   with one device, and by a look at the collectives.
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
