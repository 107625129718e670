# %% [markdown]
# # 13 · One step on many devices
#
# **What must change in a training step for DDP, FSDP or tensor parallelism on eight devices?** (80 minutes)

# %% [markdown]
# After this lesson you can
#
# - lay an array on a mesh of devices, and say which device holds what,
# - turn one unchanged step into DDP, FSDP or tensor parallelism by a table of rules, in NNX and in Linen,
# - read in the compiled program what the devices send each other, in bytes,
# - say what each device holds: weights, moments, temporaries.

# %%
import os
import re
import subprocess
import sys
import tempfile
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState
from IPython.utils.capture import capture_output
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

from course import plots, porting
from course.failures import fails
from course.sharding import bytes_per_device, collectives

# %%
SEED, BATCH, STEPS, RATE = 0, 128, 10, 1e-3
plots.use()
torch.set_num_threads(1)
jax.config.update("jax_num_cpu_devices", 8)  # simulated; before JAX's first computation
jax.config.update("jax_enable_x64", True)  # to compare in both precisions
pixels, digits = load_digits(return_X_y=True)
x, y = pixels[: STEPS * BATCH].reshape(STEPS, BATCH, 64) / 16, digits[: STEPS * BATCH].reshape(STEPS, BATCH)
print(f"{STEPS} batches x {x.shape[1:]}, y {y.shape[1:]}; {jax.device_count()} devices in one process")


# %% [markdown]
# PyTorch has one process for each device, and each process sees its own tensors. Here one process drives eight
# devices, and an array is one array, wherever its parts lie. On eight GPUs the line with
# `jax_num_cpu_devices` goes away, and the rest stays.
#
# ## Device, mesh, sharding
#
# A *mesh* arranges devices and names the axes of the arrangement. A `PartitionSpec` says, axis by axis of an array,
# along which axis of the mesh it is cut; `None`, or nothing, is "not cut". Both together are a `NamedSharding`.
# torch's names for the three are `DeviceMesh`, `Shard(0)` or `Replicate()`, and `DTensor`.

# %%
def mesh_of(*shape):
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)  # the compiler decides


mesh = mesh_of(4, 2)
kernel = jnp.arange(64 * 256.0).reshape(64, 256)
rows = {}
for spec in (P(), P("data"), P(None, "model"), P("data", "model"), P(("data", "model"))):
    array = jax.device_put(kernel, NamedSharding(mesh, spec))
    parts = len({str(shard.index) for shard in array.addressable_shards})
    rows[str(tuple(spec))] = {"holds": array.addressable_shards[0].data.shape, "parts": parts,
                              "copies": 8 // parts, "bytes": bytes_per_device(array)}  # fmt: skip
    assert (array == kernel).all() and array.shape == (64, 256)
pd.DataFrame(rows).T.rename_axis("PartitionSpec")

# %% [markdown]
# For each spec: the shape that one device holds, how many different parts there are, on how many devices each lies,
# and the bytes on one device. The shape of the array stays (64, 256) in all rows: what differs is where its parts lie.
# JAX draws that in text, with the `rich` package, which flax brings along. (In a notebook it makes HTML; the capture
# takes the plain text.)

# %%
cut = jax.device_put(kernel, NamedSharding(mesh, P("data", "model")))
with capture_output() as shown:
    jax.debug.visualize_array_sharding(cut, use_color=False)
print(shown.outputs[0].data["text/plain"].rstrip() if shown.outputs else shown.stdout)
print("device 5 holds", tuple(f"{part.start}:{part.stop}" for part in cut.addressable_shards[5].index))

# %% [markdown]
# `axis_types=Auto` leaves the compiler to choose how intermediate results lie. The other kind, `Explicit`, is what
# `make_mesh` takes by default in newer versions of JAX (0.10, not yet 0.7). It makes the sharding part of an array's
# type, and wants you to decide where there is a choice:

# %%
explicit = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
with fails():
    jax.device_put(jnp.ones((8, 64)), NamedSharding(explicit, P(None, "data"))) @ jax.device_put(
        kernel, NamedSharding(explicit, P("data"))
    )

# %% [markdown]
# The axis that the product sums over is cut on both sides, so the result could be cut or whole. Code for `Auto` meets
# this error under a mesh that was made without `axis_types`: name them.
#
# ## One step, on one device
#
# The model: an embedding, two residual blocks that widen from 64 to 256 and come back, a head. First in PyTorch, in a
# file of its own, because each of DDP's processes will run it. It reads weights and batches, takes its half of each
# batch, and process 0 prints the losses.

# %%
SCRIPT = """
import sys, numpy as np, torch, torch.distributed as dist
from torch import nn
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)
    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.first, self.second, self.head = nn.Linear(64, 64), Block(), Block(), nn.Linear(64, 10)
    def forward(self, x):
        return self.head(self.second(self.first(self.embed(x))))
"""

# %% [markdown]
# What each process does with it:

# %%
MAIN = """
if __name__ == "__main__":
    rank, size, folder, rate = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    net = Net().double()
    net.load_state_dict(torch.load(f"{folder}/weights.pt"))
    model = nn.parallel.DistributedDataParallel(net)
    adam = torch.optim.Adam(model.parameters(), rate)
    batches = np.load(f"{folder}/batches.npz")
    for x, y in zip(batches["x"], batches["y"]):
        x, y = (torch.from_numpy(np.split(rows, size)[rank]) for rows in (x, y))
        loss = nn.functional.cross_entropy(model(x), y)
        adam.zero_grad()
        loss.backward()  # DDP's hooks average the gradients
        adam.step()
        mean = loss.detach() / size
        dist.all_reduce(mean)  # for the log alone
        if rank == 0:
            print(float(mean))
    dist.destroy_process_group()
"""

# %% [markdown]
# It runs as two processes. They find each other through a file, and gloo, torch's collectives for CPUs, is told to
# use the loopback interface: without that it binds to whatever the host's name resolves to.

# %%
scratch = tempfile.TemporaryDirectory()
folder, torch_side = scratch.name, {}
with open(f"{folder}/ddp.py", "w") as file:
    file.write(SCRIPT + MAIN)
exec(SCRIPT, torch_side)  # the same classes here
torch.manual_seed(SEED)
net = torch_side["Net"]().double()
torch.save(net.state_dict(), f"{folder}/weights.pt")
np.savez(f"{folder}/batches.npz", x=x, y=y)
environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
command = [sys.executable, f"{folder}/ddp.py"]
processes = [
    subprocess.Popen([*command, str(rank), "2", folder, str(RATE)], env=environment, text=True,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for rank in range(2)
]  # fmt: skip
try:
    (printed, errors), _ = (process.communicate(timeout=120) for process in processes)
finally:
    [process.kill() for process in processes]
ddp_losses = np.array([float(line) for line in printed.split()])
assert len(ddp_losses) == STEPS, errors[-500:]
print("torch DDP, two processes, losses of steps 1, 2, 10:", ddp_losses[[0, 1, -1]].round(4))


# %% [markdown]
# Now the same model in NNX, and its step. The step is pure, as in [10](10_jit_speed.ipynb): the state of model and
# optimizer goes in and comes out. **This is the step of the whole lesson**; it knows nothing of devices.

# %%
class Block(nnx.Module):
    def __init__(self, *, rngs):
        self.up, self.down = nnx.Linear(64, 256, rngs=rngs), nnx.Linear(256, 64, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.relu(self.up(x)))


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.embed, self.head = nnx.Linear(64, 64, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)
        self.first, self.second = Block(rngs=rngs), Block(rngs=rngs)

    def __call__(self, x):
        return self.head(self.second(self.first(self.embed(x))))


# %%
def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train_step(graphdef, state, x, y):
    model, optimizer = nnx.merge(graphdef, state)
    loss, grads = nnx.value_and_grad(lambda model: cross_entropy(model(x), y))(model)
    optimizer.update(model, grads)
    return nnx.state((model, optimizer)), loss


# %% [markdown]
# The weights come from the torch model. In float64 the losses on one device are those of DDP's two processes: a mean
# of gradients over two halves of a batch is the gradient over the batch.

# %%
adam = optax.adam(RATE)


def fresh(dtype):
    model = porting.torch_to_nnx(net.to(getattr(torch, dtype)), Net(rngs=nnx.Rngs(SEED)))
    return nnx.split((model, nnx.Optimizer(model, adam, wrt=nnx.Param)))


def run(step, state, dtype, place=lambda batch: batch):
    losses = []
    for x_batch, y_batch in zip(x.astype(dtype), y, strict=True):
        state, loss = step(state, *place((x_batch, y_batch)))
        losses.append(float(loss))
    return state, np.array(losses)


one_device = {}
for dtype in ("float64", "float32"):
    graphdef, state = fresh(dtype)
    one_device[dtype] = run(jax.jit(partial(train_step, graphdef)), state, dtype)[1]
gap = np.abs(one_device["float64"] - ddp_losses).max()
print("JAX, one device,          losses of steps 1, 2, 10:", one_device["float64"][[0, 1, -1]].round(4))
print("gap to torch DDP, all steps, below 1e-12:", bool(gap < 1e-12))
assert gap < 1e-12

# %% [markdown]
# ## Rules
#
# What to cut along which axis of the mesh? Not array by array: every axis of every weight gets a *logical name*, once,
# and a table of *rules* takes names to axes of the mesh. This is how large code bases do it (MaxText, T5X), since
# another parallelism is another table:

# %%
AXES = {
    "embed.kernel": ("pixel", "embed"), "embed.bias": ("embed",), "up.kernel": ("embed", "mlp"), "up.bias": ("mlp",),
    "down.kernel": ("mlp", "embed"), "down.bias": ("embed",), "head.kernel": ("embed", "class"), "head.bias": ("class",)
}  # fmt: skip
VARIANTS = {  # the shape of the mesh, (data, model), and the rules; a name without a rule is not cut
    "DDP": ((8, 1), {"batch": "data"}),
    "FSDP": ((8, 1), {"batch": "data", "embed": "data"}),
    "tensor": ((1, 8), {"batch": "data", "mlp": "model"}),
    "FSDP + tensor": ((4, 2), {"batch": "data", "embed": "data", "mlp": "model"}),
}


def shardings(state, mesh, rules):
    def of(path, leaf):
        name = ".".join(re.findall(r"\w+", jax.tree_util.keystr(path)))  # 1.opt_state.0.mu.first.up.kernel
        axes = next((axes for ending, axes in AXES.items() if ending in name), ())
        return NamedSharding(mesh, P(*(rules.get(axis) for axis in axes)))

    return jax.tree_util.tree_map_with_path(of, state)


# %% [markdown]
# Adam's moments end in the same names as their weights, so they are cut alike. (ZeRO's first stage cuts the moments
# alone; its third is what follows as FSDP.)
#
# - **DDP**: the batch is cut, weights lie everywhere. (`DistributedDataParallel`)
# - **FSDP**, or ZeRO-3: the weights are cut too, and gathered where they are used. (`fully_shard`)
# - **Tensor parallel**: every device has all rows and a part of each layer's width; `up` is cut by columns, `down` by
#   rows. (`parallelize_module` with `ColwiseParallel` and `RowwiseParallel`)
# - **Both**, on a mesh of two axes. The last table holds all rules; a mesh of (8, 1) makes FSDP of it.
#
# In the picture each box is a part of an array, and the numbers in it are the devices that have it.

# %% alt="Four columns, DDP, FSDP, tensor, FSDP + tensor, each with a batch above and the kernel of the layer up below, cut into boxes with device numbers. DDP: the batch in eight rows, the kernel whole, on devices 0 to 7. FSDP: batch and kernel both in eight rows. Tensor: the batch whole, the kernel in eight columns. FSDP + tensor: the batch in four rows of two devices each, the kernel in four rows by two columns."
def draw(diagram, x, top, width, height, shape, sharding):
    holders = {}
    for device, index in sharding.devices_indices_map(shape).items():
        place = tuple(part.indices(length)[:2] for part, length in zip(index, shape, strict=True))
        holders.setdefault(place, []).append(device.id)
    for ((low, high), (left, right)), ids in holders.items():
        text = f"{ids[0]}" if len(ids) == 1 else f"{ids[0]}–{ids[-1]}"
        middle = x + width * (left + right) / 2 / shape[1], top - height * (low + high) / 2 / shape[0]
        box = width * (right - left) / shape[1], height * (high - low) / shape[0]
        diagram.array(*middle, text, side="jax", width=box[0], height=box[1])
    return len(holders)


diagram, parts = plots.Diagram(height=4.4), {}
for column, (name, (shape, rules)) in enumerate(VARIANTS.items()):
    mesh, left = mesh_of(*shape), 0.75 + 1.85 * column
    diagram.note(left + 0.8, 4.25, name)
    for array, (top, size, axes) in {"batch": (4.05, (128, 64), ("batch", None)),
                                     "up": (2.05, (64, 256), ("embed", "mlp"))}.items():  # fmt: skip
        sharding = NamedSharding(mesh, P(*(rules.get(axis) for axis in axes)))
        parts[name, array] = draw(diagram, left, top, 1.6, 1.75, size, sharding)
for text, height in {"batch\n(128, 64)": 3.2, "up.kernel\n(64, 256)": 1.2}.items():
    diagram.note(0.35, height, text)
plt.show()
print("different parts:", {" ".join(key): count for key, count in parts.items()})

# %% [markdown]
# Now all four, in both precisions. Outside the step there are three lines of placing; `out_shardings`, which says that
# the new state shall lie as the old one did; and `donate_argnums`, by which it overwrites the old one, as in torch.
#
# **Predict.** The step says nothing of devices, and sums run in another order. How far from one device will the
# losses be: the same to rounding, or different like another random seed?

# %%
programs, states, gaps = {}, {}, {}
for dtype in ("float64", "float32"):
    for name, (shape, rules) in VARIANTS.items():
        mesh, (graphdef, state) = mesh_of(*shape), fresh(dtype)
        place_state, place_batch = shardings(state, mesh, rules), NamedSharding(mesh, P(rules["batch"]))
        state = jax.device_put(state, place_state)
        batch = jax.device_put((x[0].astype(dtype), y[0]), place_batch)
        lie_after = place_state, NamedSharding(mesh, P())
        step = jax.jit(partial(train_step, graphdef), out_shardings=lie_after, donate_argnums=0)
        compiled = step.lower(state, *batch).compile()  # jit would compile the same at its first call
        state, losses = run(compiled, state, dtype, partial(jax.device_put, device=place_batch))
        gaps[name, dtype] = np.abs(losses - one_device[dtype]).max()
        programs[name], states[name] = compiled, state  # float32 is the last one
limits = {"float64": 1e-12, "float32": 1e-6}
assert all(gap < limits[dtype] for (_, dtype), gap in gaps.items())
for dtype, limit in limits.items():
    below = {name: bool(gaps[name, dtype] < limit) for name in VARIANTS}
    print(f"{dtype}: all {STEPS} losses within {limit} of one device's:", below)

# %% [markdown]
# The same to rounding. Under `jit` a program means what it means on one device; a sharding changes where it is
# computed, never what.
#
# ## What the devices send
#
# Nobody wrote a collective; the compiler put them in. They stand in the compiled program's text:

# %%
for name in ("DDP", "FSDP"):
    for kind in ("all-gather", "all-reduce"):
        line = next((line for line in programs[name].as_text().splitlines() if f" {kind}(" in line), "none")
        print(f"{name:5} {kind}: {line.strip()[:90]}")

# %% [markdown]
# `course.sharding.collectives` reads that text: kind, how many devices take part in one, how many there are, and the
# size of the whole arrays that they reduce or gather.
#
# **Predict.** The weights have some 70,000 numbers. Which variant sends least in this table, and what would make it the
# worst?

# %%
tables = {name: collectives(program) for name, program in programs.items()}
sent = pd.concat(tables, names=["variant"]).droplevel(1).set_index(["kind", "devices"], append=True)
weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(nnx.merge(graphdef, state)[0], nnx.Param)))
row = tables["tensor"]["bytes"].sum() / BATCH
print(f"the weights: {weights:,} numbers, {4 * weights:,} bytes")
print(f"tensor: {row:.0f} bytes for each row of the batch; more than DDP from {4 * weights / row:.0f} rows on")
assert tables["DDP"]["bytes"].sum() == 4 * weights + 4  # all gradients, and the loss
sent

# %% [markdown]
# **DDP**: one all-reduce of all gradients and the loss, 4 bytes more than the weights. (torch cuts them into buckets of
# 25 MB, to send while the backward pass runs; so does XLA on accelerators.)
#
# **FSDP**: besides, all weights are gathered. In the books it is all-gather twice, forward and backward, and a
# reduce-scatter in place of the all-reduce. XLA for CPUs gathers once and keeps the result, and leaves all-reduce and
# slice as they are; for GPUs and TPUs it merges those two into a reduce-scatter.
#
# **Tensor**: two all-reduces a block, one forward after `down`, one backward before `up`, each of a whole batch of
# activations, (128, 64). Weights are never sent. This is the least here, and grows with the batch, while DDP's is the
# same for any. So tensor parallelism goes where the wires are fast, within a
# machine, and data parallelism between machines.
#
# On wires: in a ring of n devices an all-reduce of b bytes has each device send 2 (n-1)/n b, an all-gather or a
# reduce-scatter half of that. So the books' FSDP sends 1.5 times what DDP does.
#
# ## What a device holds
#
# `bytes_per_device` adds up shards; the compiled program says what it needs beside arguments and results, its
# *temporaries*: activations, gradients, gathered weights.

# %%
memory = {}
for name, state in states.items():
    memory[name] = {"weights": bytes_per_device(state[0]), "optimizer": bytes_per_device(state[1])}
    memory[name]["temporaries"] = programs[name].memory_analysis().temp_size_in_bytes
table = (pd.DataFrame(memory).T / 1024).round(0).astype(int)
assert bytes_per_device(states["DDP"][0]) == 4 * weights
table.rename(columns=lambda part: f"{part}, KiB")

# %% alt="Horizontal stacked bars, what one device holds in the four variants: weights, optimizer, temporaries. DDP is the longest. FSDP has small weights and optimizer, but temporaries as long as those of DDP. Tensor and the combination are short in all parts."
figure, axis = plots.panels(1, height=2.8)
plots.stacked(axis, table.T.to_dict(), xlabel="KiB on each device", title="What a device holds, float32")
plt.show()
print("FSDP: weights and moments cut to", f"1/{memory['DDP']['optimizer'] / memory['FSDP']['optimizer']:.1f} of DDP's")


# %% [markdown]
# FSDP cuts what lies between steps almost to an eighth; the head's ten biases and the counters stay whole. Its
# temporaries are still large, as the CPU's compiler gathers all weights early: it optimizes for time. On accelerators a
# scheduler gathers layer by layer, and `jax.checkpoint` around each block makes it gather again in the backward pass
# ([13b](13b_collectives_by_hand.ipynb)).
#
# ## Linen: names in the model
#
# Linen keeps the logical names in the model: an initializer with `nn.with_logical_partitioning` makes a *partitioned
# parameter*, a box with the array and its names. `jax.eval_shape` builds the whole state, Adam's moments included,
# without computing a number, so the shardings of everything are known before anything is allocated.

# %%
def dense(features, *axes):
    kernel = nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes)
    bias = nn.with_logical_partitioning(nn.initializers.zeros, axes[1:])
    return nn.Dense(features, kernel_init=kernel, bias_init=bias)


class LinenBlock(nn.Module):
    def setup(self):
        self.up, self.down = dense(256, "embed", "mlp"), dense(64, "mlp", "embed")

    def __call__(self, x):
        return x + self.down(nn.relu(self.up(x)))


class LinenNet(nn.Module):
    def setup(self):
        self.embed, self.head = dense(64, "pixel", "embed"), dense(10, "embed", "class")
        self.first, self.second = LinenBlock(), LinenBlock()

    def __call__(self, x):
        return self.head(self.second(self.first(self.embed(x))))


# %%
def linen_step(state, x, y):
    def loss_fn(params):
        return cross_entropy(state.apply_fn({"params": params}, x), y)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


def create(params):
    return TrainState.create(apply_fn=linen.apply, params=params, tx=adam)


linen = LinenNet()
boxed = jax.eval_shape(lambda key: create(linen.init(key, x[0])["params"]), jax.random.key(SEED))
names = nn.get_partition_spec(boxed)
print("the box:    ", type(boxed.params["first"]["up"]["kernel"]).__name__)
print("of a weight:", tuple(names.params["first"]["up"]["kernel"]))
print("of a moment:", tuple(names.opt_state[0].mu["first"]["up"]["kernel"]))

# %% [markdown]
# The same tables of rules, then, with the weights of the torch model:

# %%
template = nn.unbox(boxed.params)
for name, (shape, rules) in VARIANTS.items():
    mesh, params = mesh_of(*shape), porting.torch_to_linen(net.to(torch.float64), template)
    place_state = nn.logical_to_mesh_sharding(names, mesh, list(rules.items()))
    place_batch = NamedSharding(mesh, P(rules["batch"]))
    step = jax.jit(linen_step, out_shardings=(place_state, NamedSharding(mesh, P())))
    state, losses = run(step, jax.device_put(create(params), place_state), "float64",
                        partial(jax.device_put, device=place_batch))  # fmt: skip
    kernel = state.params["first"]["up"]["kernel"]
    nnx_kernel = states[name][0].first.up.kernel[...]
    same_place = kernel.sharding.is_equivalent_to(nnx_kernel.sharding, 2)
    assert np.abs(losses - one_device["float64"]).max() < 1e-12 and same_place
    print(f"Linen, {name:14} losses within 1e-12 of one device's; up.kernel cut as in NNX: {same_place}")

# %% [markdown]
# NNX has boxes as well: a `Param` carries its names, given by `nnx.with_partitioning`. It needs no placing at all:
# under a mesh and rules, a new variable is born in its place, and so are Adam's moments. (Then the names stand in the
# model's code; the table `AXES` leaves a model untouched that is not yours.)

# %%
with jax.set_mesh(mesh_of(4, 2)), nnx.logical_axis_rules(list(VARIANTS["FSDP + tensor"][1].items())):
    init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("embed", "mlp"))
    layer = nnx.Linear(64, 256, kernel_init=init, rngs=nnx.Rngs(SEED))
    moments = nnx.state(nnx.Optimizer(layer, adam, wrt=nnx.Param))
print("the weight:  ", tuple(layer.kernel[...].sharding.spec))
print("Adam's mu:   ", {tuple(leaf.sharding.spec) for leaf in jax.tree.leaves(moments) if leaf.ndim == 2})
assert layer.kernel[...].addressable_shards[0].data.shape == (16, 128)

# %% [markdown]
# ## In torch
#
# Side by side, each for a model that exists. DDP you saw run; the other two wrap or rewrite the model's layers, one by
# one, and the optimizer is made after that:
#
# ```python
# mesh = init_device_mesh("cuda", (4, 2), mesh_dim_names=("data", "model"))
# DistributedDataParallel(model)                                              # DDP
# for block in (model.first, model.second):                                   # FSDP: a unit for each block
#     fully_shard(block, mesh=mesh["data"])
# fully_shard(model, mesh=mesh["data"])
# parallelize_module(model.first, mesh["model"], {"up": ColwiseParallel(), "down": RowwiseParallel()})  # tensor
# ```
#
# There you choose the communication by choosing wrappers. Here you choose where arrays lie, and the communication
# follows. What to do where you want to write it yourself, and what goes wrong, is [13b](13b_collectives_by_hand.ipynb).
#
# ## Summary
#
# - A mesh names axes of devices, a `PartitionSpec` says what is cut along which; the array keeps its shape.
# - DDP, FSDP and tensor parallelism are rules from logical names to axes of the mesh. The step stays, and so do its
#   losses, to rounding.
# - Read the collectives and their bytes in the compiled program, and the memory of each device before you run it:
#   `course.sharding`.
#
# ## Further reading
#
# - [Introduction to parallel programming](https://docs.jax.dev/en/latest/sharded-computation.html): automatic, explicit
#   and manual, side by side.
# - [How to scale your model](https://jax-ml.github.io/scaling-book/): which parallelism for which size, with the
#   arithmetic of wires.
# - [ZeRO](https://arxiv.org/abs/1910.02054): Rajbhandari et al., what each stage cuts; section 7 counts what is sent.
# - [Megatron-LM](https://arxiv.org/abs/1909.08053): Shoeybi et al., columns first, rows second; figure 3.
# - [Flax on a mesh](https://flax.readthedocs.io/en/latest/guides/flax_gspmd.html): NNX's names and rules.
#
# Exercises: [your turn](exercises/13_many_devices.ipynb).
#
# Next: [13b · Collectives by hand](13b_collectives_by_hand.ipynb).
