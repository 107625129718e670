# %% [markdown]
# # 13 · One step on many devices
#
# **What must change in a training step for DDP, FSDP or tensor parallelism on eight devices?** (90 minutes)

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
LIMITS = {"float64": 1e-12, "float32": 1e-6}  # how far a loss may be from that of one device
plots.use()
torch.set_num_threads(1)
jax.config.update("jax_num_cpu_devices", 8)  # simulated; before JAX's first computation
jax.config.update("jax_enable_x64", True)  # to compare in both precisions
pixels, digits = load_digits(return_X_y=True)
x, y = pixels[: STEPS * BATCH].reshape(STEPS, BATCH, 64) / 16, digits[: STEPS * BATCH].reshape(STEPS, BATCH)
print(f"{STEPS} batches x {x.shape[1:]}, y {y.shape[1:]}; {jax.device_count()} devices in one process")


# %% [markdown]
# DDP has one process for each device, and each process sees its own tensors. Here one process drives eight devices, and
# an array is one array, wherever its parts lie. On eight GPUs the line with `jax_num_cpu_devices` goes away, and the
# rest stays. (Older code sets `XLA_FLAGS=--xla_force_host_platform_device_count=8` to the same end.)
#
# ## Device, mesh, sharding
#
# A *mesh* arranges devices and names the axes of the arrangement. A `PartitionSpec` says, axis by axis of an array,
# along which axis of the mesh it is cut; `None`, or nothing, is "not cut". Both together are a `NamedSharding`, and
# `jax.device_put` lays an array so. In torch a `DeviceMesh` is the mesh, and a `DTensor`, made by `distribute_tensor`,
# the array; but its *placements* go along the axes of the mesh: on each, `Shard(axis of the array)` or `Replicate()`.

# %%
def mesh_of(*shape):
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)  # the compiler decides


mesh = mesh_of(4, 2)
kernel = jnp.arange(64 * 256.0).reshape(64, 256)
rows = {}
for spec in (P(), P("data"), P(None, "model"), P("data", "model"), P(("data", "model"))):
    array = jax.device_put(kernel, NamedSharding(mesh, spec))
    parts = len({str(shard.index) for shard in array.addressable_shards})
    cuts = {name: axis for axis, names in enumerate(spec) for name in np.atleast_1d(names)}
    placements = ", ".join(f"Shard({cuts[name]})" if name in cuts else "Replicate()" for name in mesh.axis_names)
    rows[str(tuple(spec))] = {"holds": array.addressable_shards[0].data.shape, "parts": parts, "copies": 8 // parts,
                              "bytes": bytes_per_device(array), "torch": placements}  # fmt: skip
    assert (array == kernel).all() and array.shape == (64, 256)
pd.DataFrame(rows).T.rename_axis("PartitionSpec")

# %% [markdown]
# For each spec: the shape that one device holds, how many different parts there are, on how many devices each lies,
# the bytes on one device (in float64), and torch's placements along data and model. The shape of the array stays
# (64, 256) in all rows: what differs is where its parts lie. JAX draws that in text, with the `rich` package, which
# flax brings along. (In a notebook it makes HTML; the capture takes the plain text. At its full scale the boxes of a
# wide array have no room for names.)

# %%
cut = jax.device_put(kernel, NamedSharding(mesh, P("data", "model")))
with capture_output() as shown:
    jax.debug.visualize_array_sharding(cut, use_color=False, scale=0.5)
drawn = shown.outputs[0].data["text/plain"] if shown.outputs else shown.stdout
print(re.sub(r"\x1b\[[\d;]*m", "", drawn).rstrip())  # without colours
print("device 5 holds", tuple(f"{part.start}:{part.stop}" for part in cut.addressable_shards[5].index))

# %% [markdown]
# `axis_types=Auto` leaves the compiler to choose how intermediate results lie. The other kind, `Explicit`, is what
# `make_mesh` takes by default in newer versions of JAX (0.10, not yet 0.7). It makes the sharding part of an array's
# type, `shape@axis of the mesh`, and wants you to decide where there is a choice:

# %%
explicit = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
left = jax.device_put(jnp.ones((8, 64)), NamedSharding(explicit, P(None, "data")))
right = jax.device_put(kernel, NamedSharding(explicit, P("data")))
print("the product of", jax.typeof(left), "and", jax.typeof(right))
with fails():
    left @ right
print("decided:", jax.typeof(jnp.matmul(left, right, out_sharding=NamedSharding(explicit, P()))))

# %% [markdown]
# The axis that the product sums over is cut on both sides, so the result could be cut or whole. Code for `Auto` meets
# this error under a mesh that was made without `axis_types`: name them. From here on all meshes are `Auto`.
#
# ## One step, on one device
#
# The model: an embedding, two residual blocks that widen from 64 to 256 and come back, a head. First in PyTorch, in a
# file of its own, because each of its processes will run it:

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
# In torch you choose the communication by what you wrap around the model, or put into it. DDP leaves the layers alone;
# `fully_shard` (FSDP) and `parallelize_module` (tensor parallel) turn their weights into `DTensor`s, so the optimizer
# comes after them. `up` is cut by what goes out of it, `down` by what comes in: the 256 between them are never whole on
# a device. Each process takes its half of each batch, under tensor parallelism all rows, and process 0 prints the mean
# loss.

# %%
WRAPPED = """
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
def wrapped(net, kind, mesh):
    if kind == "DDP":
        return nn.parallel.DistributedDataParallel(net)
    for block in (net.first, net.second):
        if kind == "FSDP":
            fully_shard(block, mesh=mesh)  # a unit: gathered together, and dropped together
        else:
            parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return fully_shard(net, mesh=mesh) if kind == "FSDP" else net
"""

# %%
MAIN = """
if __name__ == "__main__":
    rank, size, folder, rate = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    batches, mesh = np.load(f"{folder}/batches.npz"), dist.init_device_mesh("cpu", (size,))
    for kind in ("DDP", "FSDP", "tensor"):
        net = Net().double()
        net.load_state_dict(torch.load(f"{folder}/weights.pt"))
        model = wrapped(net, kind, mesh)
        adam = torch.optim.Adam(model.parameters(), rate)
        for x, y in zip(batches["x"], batches["y"]):
            if kind != "tensor":
                x, y = (np.split(rows, size)[rank] for rows in (x, y))
            loss = nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
            adam.zero_grad()
            loss.backward()  # hooks send what must be sent
            adam.step()
            mean = loss.detach() / size
            dist.all_reduce(mean)  # for the log alone
            if rank == 0:
                print(kind, float(mean))
    dist.destroy_process_group()
"""

# %% [markdown]
# Two processes of it. They find each other through a file, and gloo, torch's collectives for CPUs, is told to
# use the loopback interface: without that it binds to whatever the host's name resolves to.

# %%
scratch = tempfile.TemporaryDirectory()
folder, torch_side = scratch.name, {}
with open(f"{folder}/train.py", "w") as file:
    file.write(SCRIPT + WRAPPED + MAIN)
exec(SCRIPT, torch_side)  # the same classes here
torch.manual_seed(SEED)
net = torch_side["Net"]().double()
torch.save(net.state_dict(), f"{folder}/weights.pt")
np.savez(f"{folder}/batches.npz", x=x, y=y)
environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
command = [sys.executable, f"{folder}/train.py"]
processes = [
    subprocess.Popen([*command, str(rank), "2", folder, str(RATE)], env=environment, text=True,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for rank in range(2)
]  # fmt: skip
try:
    (printed, errors), _ = (process.communicate(timeout=120) for process in processes)
finally:
    [process.kill() for process in processes]
torch_losses = {kind: np.array([float(loss) for name, loss in map(str.split, printed.splitlines()) if name == kind])
                for kind in ("DDP", "FSDP", "tensor")}  # fmt: skip
for kind, losses in torch_losses.items():
    assert len(losses) == STEPS, errors[-500:]
    print(f"torch {kind:6} in two processes, losses of steps 1, 2, {STEPS}:", losses[[0, 1, -1]].round(4))


# %% [markdown]
# Now the same model in NNX, and its step. The step is pure, as in [10](10_jit_speed.ipynb): the state of model and
# optimizer goes in and comes out. **This is the step of the whole lesson** (Linen has its own); it knows nothing of
# devices.

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
adam = optax.adam(RATE)


def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train_step(graphdef, state, x, y):
    model, optimizer = nnx.merge(graphdef, state)
    loss, grads = nnx.value_and_grad(lambda model: cross_entropy(model(x), y))(model)
    optimizer.update(model, grads)
    return nnx.state((model, optimizer)), loss


# %% [markdown]
# The weights come from the torch model (`nnx.eval_shape` makes a `Net` of shapes, to be filled). In float64 the losses
# on one device are those of torch's two processes, however these share the work: a mean of gradients over two halves
# of a batch is the gradient over the batch, and a product cut in two is the sum of its halves.

# %%
def fresh(dtype):
    shapes = nnx.eval_shape(lambda: Net(rngs=nnx.Rngs(SEED)))
    model = porting.torch_to_nnx(net.to(getattr(torch, dtype)), shapes)  # drawn in float32: nothing is rounded
    return nnx.split((model, nnx.Optimizer(model, adam, wrt=nnx.Param)))


def run(step, state, dtype, place=lambda batch: batch):
    losses = []
    for x_batch, y_batch in zip(x.astype(dtype), y, strict=True):
        state, loss = step(state, *place((x_batch, y_batch)))
        losses.append(float(loss))
    assert loss.dtype == dtype
    return state, np.array(losses)


one_device = {}
for dtype in ("float64", "float32"):
    graphdef, state = fresh(dtype)
    one_device[dtype] = run(jax.jit(partial(train_step, graphdef)), state, dtype)[1]
for kind, losses in torch_losses.items():
    gap, limit = np.abs(one_device["float64"] - losses).max(), LIMITS["float64"]
    assert gap < limit
    print(f"one device, all {STEPS} losses within {limit} of torch's {kind}:", bool(gap < limit))

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
        axes = next((axes for part, axes in AXES.items() if part in name), ())
        return NamedSharding(mesh, P(*(rules.get(axis) for axis in axes)))

    return jax.tree_util.tree_map_with_path(of, state)


# %% [markdown]
# Adam's moments have the names of their weights in their paths, so they are cut alike. (ZeRO's first stage cuts the
# moments alone; its third is what follows as FSDP.) What no line of `AXES` names, a counter or a name with a typo,
# stays whole without a word: the table of memory further down would show it.
#
# - **DDP**: the batch is cut, weights lie everywhere. (`DistributedDataParallel`)
# - **FSDP**, or ZeRO-3: the weights are cut too, and gathered where they are used. Here along the axis named `embed`,
#   whichever of the array's axes that is; `fully_shard` cuts axis 0 unless told otherwise.
# - **Tensor parallel**: every device has all rows and a part of each block's width; `up` is cut by columns, `down` by
#   rows. (`parallelize_module`)
# - **Both**, on a mesh of two axes. The last table holds all rules: on a mesh of (8, 1) it is FSDP, on (1, 8) tensor
#   parallel. (torch: a `DeviceMesh` of two axes, `parallelize_module` along one, then `fully_shard` along the other.)
#
# In the picture each column begins with its mesh, the axis `data` downwards and `model` to the right. Each box below is
# a part of an array, and the numbers in it are the devices that have it.

# %% alt="Four columns, DDP, FSDP, tensor, FSDP + tensor, each with a mesh of eight devices, a batch below it, and the kernel of the layer up at the bottom, cut into boxes with device numbers. The meshes: eight rows for DDP and FSDP, eight columns for tensor, four rows by two columns for FSDP + tensor. DDP: the batch in eight rows, the kernel whole, on devices 0 to 7. FSDP: batch and kernel both in eight rows. Tensor: the batch whole, the kernel in eight columns. FSDP + tensor: the batch in four rows of two devices each, the kernel in four rows by two columns."
def draw(diagram, x, top, shape, sharding):
    holders, side = {}, 1.6  # inches
    for device, index in sharding.devices_indices_map(shape).items():
        place = tuple(part.indices(length)[:2] for part, length in zip(index, shape, strict=True))
        holders.setdefault(place, []).append(device.id)
    for ((low, high), (left, right)), ids in holders.items():
        height, width = side * (high - low) / shape[0], side * (right - left) / shape[1]
        place = x + side * (left + right) / 2 / shape[1], top - side * (low + high) / 2 / shape[0]
        diagram.array(*place, "–".join(map(str, sorted({ids[0], ids[-1]}))), side="jax", width=width, height=height)
    return len(holders)


diagram, parts = plots.Diagram(height=5.6), {}
arrays = {"mesh": (5.25, None, ("data", "model")), "batch": (3.45, (128, 64), ("batch", None)),
          "up.kernel": (1.65, (64, 256), ("embed", "mlp"))}  # fmt: skip
for column, (name, (shape, rules)) in enumerate(VARIANTS.items()):
    mesh, left, rules = mesh_of(*shape), 0.75 + 1.85 * column, rules | {"data": "data", "model": "model"}
    diagram.note(left + 0.8, 5.45, name)
    for array, (top, size, axes) in arrays.items():
        lies = NamedSharding(mesh, P(*map(rules.get, axes)))
        parts[name, array] = draw(diagram, left, top, size or shape, lies)
for array, (top, size, _) in arrays.items():
    diagram.note(0.35, top - 0.8, f"{array}\n{size}" if size else array)
plt.show()
print({name: f"batch in {parts[name, 'batch']}, up.kernel in {parts[name, 'up.kernel']}" for name in VARIANTS})


# %% [markdown]
# Now all four, in both precisions. All that is new stands outside the step: state and batches are placed (`device_get`
# first brings the state to the host, so that each part goes straight to its device), `out_shardings` says that the new
# state shall lie as the old one did, and by `donate_argnums` it overwrites the old one, as in torch.
#
# **Predict.** The step says nothing of devices, and sums run in another order. How far from one device will the
# losses be: the same to rounding, or different like another random seed?

# %%
def verdicts(gaps):
    table = pd.DataFrame({f"{dtype}, within {limit}": {name: gaps[name, dtype] < limit for name in VARIANTS}
                          for dtype, limit in LIMITS.items()})  # fmt: skip
    assert table.all(axis=None)
    return table


programs, states, gaps = {}, {}, {}
for dtype in LIMITS:
    for name, (shape, rules) in VARIANTS.items():
        mesh, (graphdef, state) = mesh_of(*shape), fresh(dtype)
        place_state, place_batch = shardings(state, mesh, rules), NamedSharding(mesh, P(rules["batch"]))
        state = jax.device_put(jax.device_get(state), place_state)
        batch = jax.device_put((x[0].astype(dtype), y[0]), place_batch)
        lie_after = place_state, NamedSharding(mesh, P())
        step = jax.jit(partial(train_step, graphdef), out_shardings=lie_after, donate_argnums=0)
        compiled = step.lower(state, *batch).compile()  # jit would compile the same at its first call
        state, losses = run(compiled, state, dtype, partial(jax.device_put, device=place_batch))
        gaps[name, dtype] = np.abs(losses - one_device[dtype]).max()
        programs[name], states[name] = compiled, state  # float32 is the last one
verdicts(gaps)

# %% [markdown]
# The same to rounding, in all steps. Under `jit` a program means what it means on one device; a sharding changes where
# it is computed and in which order sums are taken, never what.
#
# ## What the devices send
#
# Nobody wrote a collective; the compiler put them in. They stand in the compiled program's text: the types of the
# results (numbers in braces are the layout in memory), the operation, and which devices take part, `replica_groups`.
# How many there are, and the first one of each kind, in float32:

# %%
for name in ("DDP", "FSDP"):
    for kind in ("all-gather", "all-reduce"):
        lines = [line.strip() for line in programs[name].as_text().splitlines() if f" {kind}(" in line]
        print(f"{name}: {len(lines)} {kind}")
        for line in lines[:1]:
            print("   ", line[:70], "…", re.search(r"replica_groups=.*?(?=, \w+=)", line)[0])

# %% [markdown]
# `course.sharding.collectives` reads that text: kind, how many devices take part in one, how many there are in a step,
# and the bytes that they reduce or gather, all parts together. Bytes on the wire follow: in a ring of n devices an
# all-reduce of b bytes has each device send 2 (n-1)/n b, an all-gather or a reduce-scatter half of that.
#
# **Predict.** Which variant sends least here, and what would make it the worst?

# %%
sent = pd.concat({name: collectives(program) for name, program in programs.items()}, names=["variant"]).droplevel(1)
ring = np.where(sent["kind"] == "all-reduce", 2, 1) * (1 - 1 / sent["devices"]) * sent["bytes"]
sent["each device sends"] = ring.map("{:.0f}".format)
weights = sum(leaf.size for leaf in jax.tree.leaves(states["DDP"][0]))
row = sent["bytes"]["tensor"] / BATCH
print(f"the weights: {weights:,} numbers, {4 * weights:,} bytes")
print(f"tensor: {row:.0f} bytes for each row of the batch; more than DDP from {4 * weights / row:.0f} rows on")
print(f"FSDP in the ZeRO paper: two all-gathers, one reduce-scatter, {3 * 7 / 8 * 4 * weights:.0f} sent by each device")
assert sent["bytes"]["DDP"] == 4 * weights + 4  # all gradients, and the loss
sent.set_index(["kind", "devices"], append=True)


# %% [markdown]
# **DDP**: one all-reduce of all gradients and the loss, 4 bytes more than the weights. (torch cuts them into buckets of
# 25 MB by default, to send while the backward pass runs.)
#
# **FSDP**: besides, every weight that is cut is gathered, once. In the ZeRO paper (section 7) it is twice, forward and
# backward, and a reduce-scatter takes the place of the all-reduce: 1.5 times what DDP sends. XLA for CPUs keeps the
# gathered weights for the backward pass, and leaves an all-reduce that each device then takes its part of.
# [13b](13b_collectives_by_hand.ipynb) writes the paper's form.
#
# **Tensor**: two all-reduces a block, one forward after `down`, one backward for the gradient by `up`'s input, each of
# a whole batch of activations, (128, 64). Weights are never sent. This is the least here, and grows with the batch,
# while DDP's is the same for any. And the next layer waits for it, where gradients can travel while others are
# computed. So tensor parallelism goes where the wires are fast, within a machine, and data parallelism between
# machines.
#
# **FSDP + tensor**: the same all-reduces, in pairs, of a quarter of the rows; gradients and gathers, in fours, of half
# the width. Here the compiler gathers `up` and `down` again in the backward pass, so more gathers than FSDP's.
#
# ## What a device holds
#
# Weights and moments are counted shard by shard. *Activations* are what the forward pass keeps for the backward one:
# the pullback of `jax.vjp` is a tree of it ([09b](09b_custom_rules.ipynb)). *Temporaries* are what the compiled step
# needs beside arguments and results, by its own account: activations, gradients, gathered weights.

# %%
def pullback(state, x, y):
    graph, params = nnx.split(nnx.merge(graphdef, state)[0])
    return jax.vjp(lambda params: cross_entropy(nnx.merge(graph, params)(x), y), params)[1]


memory = {}
for name, (shape, rules) in VARIANTS.items():
    shards = [leaf.addressable_shards for leaf in jax.tree.leaves(states[name])]
    held = [sum(part[device].data.nbytes for part in shards) for device in range(8)]
    assert held == [bytes_per_device(states[name])] * 8  # all devices hold equally much
    batch = jax.device_put((x[0].astype("float32"), y[0]), NamedSharding(mesh_of(*shape), P(rules["batch"])))
    kept = jax.tree.leaves(jax.jit(pullback)(states[name], *batch))  # weights too, and relu's zeros, a constant
    kept = [leaf for leaf in kept if leaf.shape[:1] == (BATCH,) and np.asarray(leaf).any()]
    memory[name] = {"weights": bytes_per_device(states[name][0]), "optimizer": bytes_per_device(states[name][1]),
                    "activations": bytes_per_device(kept),
                    "temporaries": programs[name].memory_analysis().temp_size_in_bytes}  # fmt: skip
table = (pd.DataFrame(memory).T / 1024).round(0).astype(int)
table.rename(columns=lambda part: f"{part}, KiB")

# %% alt="Horizontal stacked bars, what each device holds in the four variants: weights, optimizer, temporaries. DDP is the longest. FSDP has small weights and optimizer, but temporaries as long as those of DDP. Tensor and the combination are short in all parts."
figure, axis = plots.panels(1, height=2.8)
bars = table.drop(columns="activations").T.to_dict()  # they are part of the temporaries
plots.stacked(axis, bars, xlabel="KiB on each device", title="What a device holds, float32")
plt.show()
ddp, fsdp = memory["DDP"], memory["FSDP"]
print("FSDP: weights and moments cut to", f"1/{ddp['optimizer'] / fsdp['optimizer']:.1f} of DDP's")
print("tensor: activations", f"{memory['tensor']['activations'] / ddp['activations']:.1f} times DDP's")
assert ddp["weights"] == 4 * weights


# %% [markdown]
# FSDP cuts what lies between steps almost to an eighth; `up`'s and the head's biases and the counter stay whole. Its
# temporaries are as large as DDP's: for the time of the step whole weights and whole gradients are there. One wants it
# layer by layer: [13b](13b_collectives_by_hand.ipynb) gathers in a scan, and `jax.checkpoint` makes it gather again in
# the backward pass. Tensor parallelism keeps the blocks' weights and gradients cut all the time, and pays with
# activations: all 128 rows are on every device, and only what lies between `up` and `down` is cut.
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
# The same tables of rules, then, with the weights of the torch model, in both precisions; `linen_step` knows as little
# of devices as `train_step` does:

# %%
template, gaps = nn.unbox(boxed.params), {}
for dtype in LIMITS:
    for name, (shape, rules) in VARIANTS.items():
        mesh, params = mesh_of(*shape), porting.torch_to_linen(net.to(getattr(torch, dtype)), template)
        place_state = nn.logical_to_mesh_sharding(names, mesh, list(rules.items()))
        place_batch = NamedSharding(mesh, P(rules["batch"]))
        step = jax.jit(linen_step, out_shardings=(place_state, NamedSharding(mesh, P())))
        state = jax.device_put(jax.device_get(create(params)), place_state)
        state, losses = run(step, state, dtype, partial(jax.device_put, device=place_batch))
        gaps[name, dtype] = np.abs(losses - one_device[dtype]).max()
        kernel, nnx_kernel = state.params["first"]["up"]["kernel"], states[name][0].first.up.kernel[...]
        assert kernel.sharding.is_equivalent_to(nnx_kernel.sharding, 2)  # cut as in NNX
verdicts(gaps)

# %% [markdown]
# NNX can keep names in the model as well, given by `nnx.with_partitioning`. Then nothing needs placing: under a mesh
# and rules, a new variable is born in its place, and so are Adam's moments. (The table `AXES` is for a model whose code
# you cannot, or will not, change.)

# %%
with jax.set_mesh(mesh_of(4, 2)), nnx.logical_axis_rules(list(VARIANTS["FSDP + tensor"][1].items())):
    init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("embed", "mlp"))
    layer = nnx.Linear(64, 256, kernel_init=init, rngs=nnx.Rngs(SEED))
    moments = nnx.state(nnx.Optimizer(layer, adam, wrt=nnx.Param))
print("the weight:  ", tuple(layer.kernel[...].sharding.spec))
print("Adam's mu:   ", {tuple(leaf.sharding.spec) for leaf in jax.tree.leaves(moments) if leaf.ndim == 2})
assert layer.kernel[...].addressable_shards[0].data.shape == (16, 128)

# %% [markdown]
# ## Beside torch
#
# | | torch: what you wrap | JAX: what you cut | what is sent in a step |
# |---|---|---|---|
# | DDP | `DistributedDataParallel(model)` | batch | all-reduce of gradients |
# | FSDP | `fully_shard(block)`, then of the model | batch, weights | all-gather of weights, all-reduce as before |
# | tensor | `parallelize_module(block, mesh, plan)` | the blocks' width | all-reduce of activations |
#
# There you choose the communication by choosing wrappers, layer by layer. Here you choose where arrays lie, and the
# communication follows. What to do where you want to write it yourself, and what goes wrong, is
# [13b](13b_collectives_by_hand.ipynb).
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
