# %% [markdown]
# # 14 · Many processes
#
# **What must change when one program runs as several processes, on one machine or on a hundred?** (105 minutes)

# %% [markdown]
# After this lesson you can
#
# - start one program as several processes, and say which devices and which rows each of them has,
# - give each process its share of the data, also where the shares are uneven,
# - save what no single process holds, lose a process, and go on to the same bits,
# - read a checkpoint with another number of processes, and under another sharding,
# - see why a job hangs, or why it trains on wrong numbers,
# - say the same on Slurm, on Kubernetes and on cloud TPUs.

# %%
import hashlib
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

logging.getLogger("absl").setLevel("ERROR")  # Grain warns of a jaxlib below 0.11 as it is imported
import grain
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import orbax.checkpoint as ocp
import pandas as pd
import torch
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from torch.utils.data import DistributedSampler

import course
from course import launch, plots, results

# %%
SEED, ROWS, BATCH, STEPS = 0, 1003, 32, 60

jax.config.update("jax_num_cpu_devices", 8)  # for this notebook's own process, towards the end
jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
plots.use()
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name).resolve()


def run(script, processes, *arguments, devices=1, timeout=120, keep=()):
    command = [sys.executable, "-m", "course.launch", "--processes", str(processes), "--devices", str(devices)]
    command += ["--timeout", str(timeout), str(folder / script), *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(course.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    lines = [line for line in done.stdout.splitlines() if not re.search("Gloo|peer ranks", line)]
    said = [line for line in done.stderr.splitlines() if any(word in line for word in ("course.launch:", *keep))]
    said = [re.sub(r'"/.*/', '"…/', line) for line in said]  # of a path, the file
    shown = [*sorted(lines, key=lambda line: line[:3]), *sorted(said, key=lambda line: line[:3])]  # by process
    print(*shown, f"exit code {done.returncode}", sep="\n")
    return lines


# %% [markdown]
# ## One program, several processes
#
# In [13](13_many_devices.ipynb) one process had eight devices. A second machine brings a process of its own, with its
# own devices, its own memory and its own files. In JAX that is not another way to program: each process runs the same
# script, `jax.devices()` lists the devices of all of them, and a mesh spans them all.
#
# | PyTorch | JAX |
# | --- | --- |
# | `torchrun --nproc-per-node=4 train.py` | `python -m course.launch --processes 4 train.py` on one machine |
# | `init_process_group("gloo", "tcp://…", …)` | `jax.distributed.initialize(address, processes, process)` |
# | rank, world size | `jax.process_index()`, `jax.process_count()` |
# | one process a device | one process a machine with all of its devices, or one a device |
# | `DistributedDataParallel(model)` | a sharding; the step stays as it is |
# | `dist.all_reduce(x)` | inserted by `jit`, or `jax.lax.psum` |
# | `dist.barrier()` | `multihost_utils.sync_global_devices("a name")` |

# %% alt="Two boxes, process 0 and process 1. Each holds its own rows of the data and its own two devices, 0 and 1, 2 and 3. A frame around the four devices across both boxes is the mesh; an arrow between the processes says collectives."
d = plots.Diagram(height=2.7)
for process in range(2):
    left = 0.3 + 4.0 * process
    d.axes.add_patch(plt.Rectangle((left, 0.1), 3.4, 2.4, fill=False, edgecolor="#555555"))
    d.note(left + 1.7, 2.3, f"process {process}: the same script")
    rows = d.array(left + 1.7, 1.75, "its own rows of the batch", side="jax", width=2.4)
    for place in range(2):
        device = d.array(left + 0.9 + 1.6 * place, 0.75, f"device {2 * process + place}", side="jax")
        d.arrow(rows, device)
d.axes.add_patch(plt.Rectangle((0.42, 0.4), 7.16, 0.7, fill=False, edgecolor=plots.JAX, linestyle="--", linewidth=1.8))
d.arrow((3.7, 0.25), (4.3, 0.25))
d.arrow((4.3, 0.25), (3.7, 0.25))
d.note(4.0, 0.02, "collectives")
d.note(4.0, 1.22, "mesh", side="jax")
plt.show()
print("2 processes x 2 devices = a mesh of", 2 * 2)

# %% [markdown]
# A notebook is one process. So this lesson writes scripts, starts them, and shows what they print. The launcher takes a
# free port, tells each process its number, and puts `[0] `, `[1] `, … before its lines; `run` shows them sorted by
# process, not in the order of time. (gloo, which carries the collectives between processes on a CPU, reports its
# connections; those lines are left out. The launcher needs Linux, macOS or WSL.)
#
# The processes meet at a *coordinator*: process 0 listens at an address, and the others connect to it.
# `coordinator_bind_address` keeps it on this machine; why that matters comes later.
#
# **Predict.** Two processes with two devices each. A row of eight numbers is sharded over the mesh of four: which part
# of it does process 1 have, and can it print the whole?

# %%
hello = """
import os, jax, numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from course.failures import fails

address, process = os.environ["COURSE_COORDINATOR"], int(os.environ["COURSE_PROCESS"])  # the launcher sets them
jax.distributed.initialize(address, 2, process, coordinator_bind_address=address)  # before anything else of JAX

mesh = Mesh(jax.devices(), "data")
print("devices here", jax.local_device_count(), "all, by process", [device.process_index for device in jax.devices()])

mine = np.arange(4.0) + 10 * process  # what this process has loaded
x = jax.make_array_from_process_local_data(NamedSharding(mesh, P("data")), mine)
print("global shape", x.shape, "here", [shard.data.tolist() for shard in x.addressable_shards])
print("mean over all", float(jax.jit(lambda x: x.mean())(x)))
if process == 1:
    with fails(RuntimeError):
        np.asarray(x)
print("collected", multihost_utils.process_allgather(x, tiled=True))
"""
(folder / "hello.py").write_text(hello, "utf-8")
_ = run("hello.py", 2, devices=2)

# %% [markdown]
# `make_array_from_process_local_data` takes what this process has, and returns the global array: its shape is that of
# all, its values are where they were. A process holds only its *addressable* shards. The mean is a number on every
# device, so each process may print it. "Spans non-addressable devices" means: you read an array of which this process
# has a part. Reduce it under `jit`, or collect it by `process_allgather`, torch's `all_gather`, on all processes.
#
# The scripts that follow write `launch.join()` for the two lines on top. It does nothing where a script was started
# alone, waits for the others no longer than a minute, and ends the process where the launcher is gone.
#
# ## Shares of the data
#
# Each process loads only its rows. PyTorch has `DistributedSampler` for it. In Grain a dataset is a sequence, and a
# share is a slice of it.
#
# **Predict.** Ten rows, four processes: what do the third and the fourth get from each?

# %% tags=["trap:uneven-shares"]
shares = pd.DataFrame(index=pd.Index(range(4), name="process"))
shares["DistributedSampler"] = [list(DistributedSampler(range(10), 4, p, shuffle=False)) for p in range(4)]
dropping = [DistributedSampler(range(10), 4, p, shuffle=False, drop_last=True) for p in range(4)]
shares["drop_last=True"] = [list(sampler) for sampler in dropping]
whole = grain.MapDataset.range(10)
shares["Grain, [p::4]"] = [list(whole[p::4]) for p in range(4)]
shares["Grain, [:8][p::4]"] = [list(whole[:8][p::4]) for p in range(4)]
assert shares["drop_last=True"].equals(shares["Grain, [:8][p::4]"])
shares


# %% [markdown]
# The rows are the same up to the eighth. Then torch repeats rows 0 and 1, so that all have as many, or drops the last
# two. Grain cuts what is there, and two processes have a row less. Neither will do everywhere:
#
# - In training a process that has a batch less stops first, and the others wait for it in the next step, for ever.
#   `repeat()` before the slice makes an endless stream, of which all take as many batches.
# - In evaluation a repeated row counts twice, and a dropped one not at all.
#
# For evaluation, give all the same shape, and the rows that fill up a weight of zero:

# %%
def share_of(process, processes, rows):
    """Row numbers and weights, (most,) each, most = the longest share."""
    most = -(-rows // processes)
    mine = np.arange(process, rows, processes)
    return np.resize(mine, most), (np.arange(most) < len(mine)).astype(float)


errors = np.arange(10.0) ** 2
parts = [share_of(p, 4, 10) for p in range(4)]
weighted = sum((w * errors[rows]).sum() for rows, w in parts) / sum(w.sum() for _, w in parts)
padded = np.mean([errors[list(rows)].mean() for rows in shares["DistributedSampler"]])
print(f"mean over all rows {errors.mean()}, weighted {weighted}, DistributedSampler {padded:.2f}")
print("process 3:", *parts[3])
assert weighted == errors.mean() != padded

# %% [markdown]
# In training the order is drawn once for all: every process shuffles the *whole* dataset by the same seed, then takes
# its slice. So a batch has the same rows, however many processes share it. And because a `MapDataset` is indexed, the
# step's number is the whole place in the data, as in [05b](05b_checkpoints.ipynb).

# %%
stream = grain.MapDataset.range(ROWS).shuffle(seed=SEED).repeat()  # another order in each epoch
number = 31  # this batch lies across the end of the first epoch
for processes in (1, 2, 4):
    shares_of = [stream[p::processes].batch(BATCH // processes) for p in range(processes)]
    rows = [share[number].tolist() for share in shares_of]
    assert sorted(row for part in rows for row in part) == sorted(stream.batch(BATCH)[number])
    print(f"batch {number}, cut in {processes}: process 0 begins with {rows[0][:4]}; together the same {BATCH} rows")

sampler = DistributedSampler(range(ROWS), 4, 0, seed=SEED)
first = list(sampler)
print("DistributedSampler: the second epoch is the first again:", list(sampler) == first)
sampler.set_epoch(1)
print("after set_epoch(1):", list(sampler) == first)

# %% [markdown]
# `set_epoch` is a line that is forgotten without a word; an indexed stream has no such line.
#
# ## The script
#
# A regression on `ROWS` rows, an MLP, Adam: small, so that the processes are what takes time. The first part is data
# and shares. `process` and `processes` say which slice is this process's; no line branches on them.

# %%
data = f"""
import hashlib, os, sys
from course import launch

launch.join()

import grain, jax, jax.numpy as jnp, numpy as np, optax, orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

jax.config.update("jax_enable_x64", True)
SEED, ROWS, BATCH, STEPS = {SEED}, {ROWS}, {BATCH}, {STEPS}
process, processes = jax.process_index(), jax.process_count()
mesh = Mesh(jax.devices(), "data")

rng = np.random.default_rng(SEED)  # a real program opens files here, and reads its own rows alone
x = rng.normal(size=(ROWS, 8))
y = np.sin(x).sum(axis=1)
stream = grain.MapDataset.range(ROWS).shuffle(seed=SEED).repeat()
share = stream[process::processes].batch(BATCH // processes)  # BATCH: a multiple of the devices

def spread(*mine):  # rows of this process -> rows of the global batch
    return [jax.make_array_from_process_local_data(NamedSharding(mesh, P("data")), part) for part in mine]
"""

# %% [markdown]
# The second part is the state and the step. All weights and moments are cut along their last axis, over all devices of
# all processes (FSDP; [13](13_many_devices.ipynb)). `make_array_from_callback` asks each process for the parts that
# its devices hold. The step is that of one device; the weights in the loss are there for the evaluation.

# %%
step = """
adam = optax.adam(1e-2)

def fresh():
    rng = np.random.default_rng(SEED)  # the same on all: each cuts its parts out of the same arrays
    params = {"w": rng.normal(size=(8, 64)) / 3, "b": np.zeros(64), "out": rng.normal(size=64) / 8}
    return {"params": params, "adam": adam.init(params)}

def loss_fn(params, x, y, weight):
    error = jnp.tanh(x @ params["w"] + params["b"]) @ params["out"] - y
    return (weight * error**2).sum() / weight.sum()

def train_step(state, x, y, weight):
    loss, grads = jax.value_and_grad(loss_fn)(state["params"], x, y, weight)
    updates, moments = adam.update(grads, state["adam"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "adam": moments}, loss

start = fresh()
rule = lambda leaf: NamedSharding(mesh, P(*[None] * (leaf.ndim - 1), "data") if leaf.ndim else P())
shardings = jax.tree.map(rule, start)
place = lambda leaf, sharding: jax.make_array_from_callback(leaf.shape, sharding, lambda index: np.asarray(leaf)[index])
state = jax.tree.map(place, start, shardings)
train_step = jax.jit(train_step, out_shardings=(shardings, None), donate_argnums=0)
"""

# %% [markdown]
# The third is the loop. All processes call `save`, since each writes the shards that it holds. It returns once they are
# copied to the host, so the next step may overwrite the state; they are written in the background. Then Orbax lets the
# processes meet, and renames the folder. `under_way` counts the steps that were taken meanwhile. Only printing is left
# to process 0.
#
# At the end every process evaluates on all rows, with weights of zero as above, and computes a hash of all weights and
# moments. For that all of the state is collected on every device, which is nothing for a large model.

# %%
loop = """
folder, kill = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
options = ocp.CheckpointManagerOptions(save_interval_steps=20, max_to_keep=2, cleanup_tmp_directories=True)
with ocp.CheckpointManager(folder, options=options) as manager:
    newest, under_way = manager.latest_step() or 0, 0
    if newest:
        like = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), start, shardings)
        state = manager.restore(newest, args=ocp.args.StandardRestore(like))
    if process == 0:
        print("begins at step", newest, flush=True)
    for step in range(newest, STEPS):
        mine = share[step]
        under_way += manager.is_saving_in_progress()
        state, loss = train_step(state, *spread(x[mine], y[mine], np.ones(len(mine))))
        manager.save(step + 1, args=ocp.args.StandardSave(state))  # the first and every 20th are written
        if process == 0 and (step + 1) % 10 == 0:
            print("step", step + 1, "loss", float(loss), flush=True)
        if kill == f"{process}@{step + 1}":
            os.kill(os.getpid(), 9)  # as kill -9 does
if process == 0 and newest < STEPS:
    print("steps while a save was under way:", under_way, "of", STEPS - newest)
"""

# %%
end = """
most = -(-ROWS // jax.device_count()) * jax.local_device_count()  # a multiple of this process's devices
mine = np.arange(process, ROWS, processes)
mine, weight = np.resize(mine, most), np.arange(most) < len(mine)
loss = jax.jit(loss_fn)(state["params"], *spread(x[mine], y[mine], weight.astype(float)))
whole = jax.jit(lambda state: state, out_shardings=NamedSharding(mesh, P()))(state)  # all of it on every device
digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(whole))).hexdigest()[:12]
shards = [shard.data.shape for shard in state["params"]["w"].addressable_shards]
print("evaluation", float(loss), "hash", digest, "w here", *shards)
"""
(folder / "train.py").write_text(data + step + loop + end, "utf-8")
print(len((data + step + loop + end).strip().splitlines()), "lines in all")

# %% [markdown]
# ## One, two and four
#
# Four devices each time: in one process, in two, in four.
#
# **Predict.** Will the losses of the three runs be the same to the last bit? And the hashes: which of them agree?

# %% tags=["nbval-ignore-output"] volatile="last bits and hashes, which follow the processor; how far a save was"
printed = {count: run("train.py", count, folder / f"of {count}", devices=4 // count) for count in (1, 2, 4)}


def logged(lines, word="step"):
    return [float(line.split()[4 if word == "step" else 2]) for line in lines if line.split()[1] == word]


# %% [markdown]
# And torch, on the whole batch in this one process: `DistributedDataParallel` promises that number, the mean of the
# gradients of equal shares ([13](13_many_devices.ipynb) runs it).

# %%
rng = np.random.default_rng(SEED)
x = rng.normal(size=(ROWS, 8))
y = np.sin(x).sum(axis=1)
rng = np.random.default_rng(SEED)
w, out = torch.tensor(rng.normal(size=(8, 64)) / 3), torch.tensor(rng.normal(size=64) / 8)
weights = [weight.requires_grad_() for weight in (w, torch.zeros(64, dtype=torch.float64), out)]
optimizer = torch.optim.Adam(weights, 1e-2)
losses = []
for chosen in stream.batch(BATCH)[:STEPS]:
    predictions = torch.tanh(torch.tensor(x[chosen]) @ weights[0] + weights[1]) @ weights[2]
    loss = ((predictions - torch.tensor(y[chosen])) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

table = pd.DataFrame({f"processes: {n}": logged(lines) for n, lines in printed.items()}, index=range(10, STEPS + 1, 10))
table["torch"] = losses[9::10]
gap = table.sub(table["torch"], axis=0).abs().max().max()
evaluations = [value for lines in printed.values() for value in logged(lines, "evaluation")]
assert gap < 1e-12 and np.ptp(evaluations) < 1e-12
print(f"largest gap below 1e-12: ok; evaluations on {ROWS} rows, of 1, 2 and 4 processes alike: ok")
table.rename_axis("step").round(6)

# %% [markdown]
# The same losses to rounding, and not to the bit: the sums of a collective are taken in another order. So the hashes
# differ between 1, 2 and 4 processes, and agree among the processes of one run. The steps under way show that saving
# is asynchronous: the loop waits for the copy, and where the save before is still being written, for that one.
#
# ## What is on disk
#
# **Predict.** Four processes saved `w` of shape (8, 64). Who wrote what?

# %%
newest = folder / "of 4" / str(STEPS)
print("parts:", *sorted(path.name for path in newest.glob("default/ocdbt.process_*")))
print("index:", *(path.name for path in newest.glob("default/manifest*")))

# %% [markdown]
# Each wrote its quarter, and process 0 the index that makes one checkpoint of them: that is why all must see the same
# folder. (`default` is the name that the manager gives to what is saved without one.) torch's counterpart is
# `torch.distributed.checkpoint.async_save`; `torch.save` on rank 0 would first have to gather.
#
# ## One is killed
#
# Two processes, and the second gets SIGKILL after step 47. Nothing is cleaned up.
#
# **Predict.** What becomes of the first process, and with which exit code does the job end?

# %% tags=["nbval-ignore-output"] volatile="how far the save was when the kill hit"
_ = run("train.py", 2, folder / "killed", "1@47", devices=2)
print("--- on disk:", *sorted(path.name for path in (folder / "killed").iterdir()))

# %% [markdown]
# 137 is 128 + 9, SIGKILL. A process cannot go on alone, for its next collective needs the others: so the launcher ends
# all when one fails. The same command again:

# %% tags=["nbval-ignore-output"] volatile="how far the save was when the kill hit"
again = run("train.py", 2, folder / "killed", devices=2)


def hashes(lines):
    return {line.split()[4] for line in lines if "hash" in line}


assert len(hashes(again)) == 1 and hashes(again) == hashes(printed[2])
print("--- undisturbed:", *hashes(printed[2]), " killed and resumed:", *hashes(again))
kills = results.load("resume")
print("\n300 kills of runs of course.train.resumable:", results.measured_on(kills))
results.table(kills, "kills").T

# %% [markdown]
# The same bits: weights, moments and the count. If it began at 20, the checkpoint of 40 was not whole yet, and its
# folder had `tmp` in its name. `torchrun --max-restarts=3` starts such a job anew by itself. The course's launcher
# leaves that to a loop around it (`until python -m course.launch …; do sleep 1; done`) or to the cluster.
#
# For long runs `course.train.resumable` adds what this script leaves out: checksums, a comparison of the setting, a
# lock on the folder. One kill proves little, so the table has 300 of its runs, at random moments and in three of four
# cases while a checkpoint was being written: none was lost, and none had other bits.
#
# ## Read by others
#
# A checkpoint does not know how many processes wrote it. The example says what each is to get: shapes, dtypes and
# shardings. The script makes its own from its own mesh, so two processes read what four have written. All steps are
# done: it restores, evaluates, and ends.

# %% tags=["nbval-ignore-output"] volatile="last bits and hashes, which follow the processor"
by_two = run("train.py", 2, folder / "of 4", devices=1)
assert hashes(by_two) == hashes(printed[4])

# %% [markdown]
# And this notebook, one process with eight devices, reads it three times: onto one device, cut in eight along the
# other axis, and on a mesh of 4 x 2.

# %%
w, b = np.zeros((8, 64)), np.zeros(64)
like = {"params": {"w": w, "b": b, "out": b}}
like["adam"] = optax.adam(1e-2).init(like["params"])
devices = np.array(jax.devices("cpu"))
line, grid = Mesh(devices, "rows"), Mesh(devices.reshape(4, 2), ("a", "b"))
layouts = {
    "one device": lambda leaf: NamedSharding(Mesh(devices[:1], "rows"), P()),
    "first axis in 8": lambda leaf: NamedSharding(line, P("rows") if leaf.ndim else P()),
    "4 x 2": lambda leaf: NamedSharding(grid, P("b", "a") if leaf.ndim == 2 else P()),
}
for name, layout in layouts.items():
    shardings = jax.tree.map(layout, like)
    example = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), like, shardings)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(newest / "default", example)
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found))).hexdigest()[:12]
    assert {digest} == hashes(printed[4])
    shard = found["params"]["w"].addressable_shards[0].data.shape
    print(f"{name:16} w in {len(found['params']['w'].addressable_shards)} shards of {shard}: the bits of the 4  ok")

# %% [markdown]
# ## What goes wrong
#
# Three slips, in one script of two processes. Its first part makes two sharded arrays, as batches are.
#
# **Predict.** The mean of `x` is that of 1 and 2, the mean of `held_out` that of 10 and 20. Process 0 asks for `x`
# first, process 1 for `held_out`. Then each makes weights from a seed of its own, and declares them to be the same
# everywhere. At last each saves to a disk of its own. Which of the three is an error?

# %%
top = """
import faulthandler, signal, sys
from course import launch

launch.join()

import jax, numpy as np, orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from course.failures import fails

process = jax.process_index()
mesh = Mesh(jax.devices(), "data")
rows, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
mean = jax.jit(lambda x: x.mean())
x, held_out = (
    jax.make_array_from_process_local_data(rows, np.full(4, value)) for value in (1.0 + process, 10.0 + 10 * process)
)
"""

# %% tags=["nbval-ignore-output", "trap:order-of-collectives"] volatile="which part of the save gives up first"
slips = """
if process == 0:
    loss, evaluation = float(mean(x)), float(mean(held_out))
else:
    evaluation, loss = float(mean(held_out)), float(mean(x))
print(f"order: loss {loss}, due 1.5; evaluation {evaluation}, due 15.0")

weights = np.random.default_rng(process).normal(size=3)
replicated = jax.make_array_from_callback((3,), everywhere, lambda index: weights[index])
print("seeds: replicated", replicated.is_fully_replicated, np.asarray(replicated).round(2))
with fails(AssertionError):
    multihost_utils.assert_equal(weights, "weights differ")

wait = ocp.CheckpointManagerOptions(async_options=ocp.AsyncOptions(timeout_secs=3), create=True)
manager = ocp.CheckpointManager(f"{sys.argv[1]} of {process}", options=wait)
print("disk: saved", manager.save(0, args=ocp.args.StandardSave({"x": x})))
with fails(TimeoutError):
    manager.wait_until_finished()
"""
(folder / "slips.py").write_text(top + slips, "utf-8")
_ = run("slips.py", 2, folder / "disk")
print("--- on disk:", *sorted(path.name for path in folder.glob("disk of */*")))

# %% [markdown]
# - **Order.** No error, and no number is right. A collective has no name: each process's first meets the other's
#   first, and gloo adds 1 and 20. It takes no more than a collective under `if process_index() == 0`, a loop over a
#   `set`, or one process that skips a bad batch. On GPUs such a pair may also hang or abort. So: the same calls in the
#   same order on all processes, and decisions from global values only.
# - **Seeds.** No error: JAX believes you. Each process trains weights of its own on averaged gradients. One seed for
#   all for weights and the order of the data; dropout's key is drawn globally under `jit`, and needs no
#   `fold_in(key, process_index())`. `multihost_utils.assert_equal` compares, once at the start (its message lists the
#   values of process 0, or of all); `jax.device_put` of a host array to all devices does so by itself.
# - **Disk.** The save waits for a folder that it never sees; after `timeout_secs` (600 by default) it fails, and
#   `tmp` stays in the names. Checkpoints go to a file system or bucket that all processes see.
#
# ### A job that hangs
#
# Process 0 evaluates at the end, and process 1 doesn't, since "one is enough". `faulthandler`, of Python's own library,
# is armed for two seconds.
#
# **Predict.** Which of the two processes hangs?

# %% tags=["nbval-ignore-output"] volatile="frames of the installed version"
hang = """
print("mean of x", float(mean(x)))
faulthandler.dump_traceback_later(2)  # prints where this process stands then
signal.alarm(5)  # and ends it
if process == 0:
    print("evaluation", float(mean(held_out)))
print("done")
"""
(folder / "hang.py").write_text(top + hang, "utf-8")
_ = run("hang.py", 2, keep=("Timeout", "hang.py", "distributed.py"))

# %% [markdown]
# Both. Process 0 waits in `mean(held_out)`, a line of the script; process 1 is done, and waits in `shutdown` until
# process 0 is. That is how one sees it: the line at which each process stands. Where they differ, the collectives do.
# (142 is 128 + 14, SIGALRM.)
#
# Without a limit both would wait without a word and at no load. They are alive, so no heartbeat is missed. After 300
# seconds, `initialize`'s `shutdown_timeout_seconds`, JAX gives up and aborts all: "Shutdown barrier has failed". Where
# process 1 is not done but busy elsewhere, there is not even that: such a job was ended by hand after twenty minutes.
#
# Write `faulthandler.dump_traceback_later(600)` into each step of a long job: every call starts the clock anew. A job
# that runs already is asked by `py-spy dump --pid`. The launcher's `--timeout` bounds the whole, and
# `initialization_timeout` of `jax.distributed.initialize` the wait for processes that never come. torch's are
# `init_process_group(timeout=...)` and NCCL's flight recorder.
#
# ## Who listens
#
# Neither the coordinator nor gloo asks who is calling: whoever reaches their ports can join, or send numbers.
#
# **Predict.** Two processes. How many ports are open, and at which addresses? (Linux lists a process's own sockets.)

# %% tags=["nbval-ignore-output"] volatile="ports, and the address of this machine's name"
listen = """
mean(x)  # gloo has its port from the first collective on
own = {os.path.basename(os.path.realpath(link)) for link in Path("/proc/self/fd").glob("*")}
for table in ("tcp", "tcp6"):
    for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:]):
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:  # 0A: it listens
            words, port = fields[1].split(":")
            address = b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8))
            address = ipaddress.ip_address(address)
            print("listens at", getattr(address, "ipv4_mapped", None) or address, "port", int(port, 16))
"""
head = "import ipaddress, os\nfrom pathlib import Path\n"
(folder / "listen.py").write_text(head + top + listen, "utf-8")
if sys.platform == "linux":
    run("listen.py", 2)
print("this machine's name resolves to", launch.gloo_address())

# %% [markdown]
# Three, and all on the loopback address; `tests/processes/test_launch.py` requires it.
#
# - The **coordinator**, in process 0, listens on all addresses by default. `launch.join` passes
#   `coordinator_bind_address="127.0.0.1:port"`, so that nobody outside this machine reaches it.
# - **gloo** opens a port in each process, on the address that the machine's own name resolves to. Neither an option of
#   JAX changes that nor torch's `GLOO_SOCKET_IFNAME`; a line in `/etc/hosts` does, and the launcher says so where that
#   address is not a loopback one.
#
# On a cluster they must listen to other machines. Keep them within a network that you trust.
#
# ## On a cluster
#
# There the line is `jax.distributed.initialize()`, without arguments, before anything else of JAX. It asks its
# surroundings for the coordinator's address, the number of processes and its own; the rest of the script stays.
#
# **Slurm**: read from five variables that `srun` sets. After a first line `#!/bin/bash`:
#
# ```bash
# #SBATCH --job-name=train
# #SBATCH --nodes=4
# #SBATCH --ntasks-per-node=8     # one process a GPU
# #SBATCH --gpus-per-node=8
# #SBATCH --time=12:00:00
# #SBATCH --requeue               # a lost node: the job starts again, and goes on from its checkpoint
# #SBATCH --open-mode=append
# srun --kill-on-bad-exit=1 python train.py /shared/checkpoints/run1
# ```
#
# With torch the last line would be, with one task a node,
#
# ```bash
# srun torchrun --nnodes=4 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=$HEAD_NODE:29500 train.py
# ```
#
# The script finds the variables here too, if somebody sets them:

# %% tags=["nbval-ignore-output"] volatile="a job's number, and with it the port"
job = os.getpid()  # Slurm's number of the job; it gives the port
closed = f"127.0.0.1:{2**16 - 2**12 + job % 2**12}"
script = f"""
import jax
jax.distributed.initialize(coordinator_bind_address="{closed}")  # for this machine; on a cluster without
print("process", jax.process_index(), "of", jax.process_count(), "devices", jax.device_count())
"""
slurm = {"SLURM_JOB_ID": job, "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": 2}
tasks = []
for task in range(2):
    given = {**slurm, "SLURM_PROCID": task, "SLURM_LOCALID": task, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": 1}
    environment = {**os.environ, **{name: str(value) for name, value in given.items()}}
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    tasks.append(subprocess.Popen([sys.executable, "-c", script], env=environment, **piped))
for task in tasks:
    said, errors = task.communicate(timeout=60)
    assert task.returncode == 0, errors
    print(*[line for line in said.splitlines() if line.startswith("process")])

# %% [markdown]
# The first of `SLURM_STEP_NODELIST` is the coordinator. `SLURM_LOCALID` chooses the GPU: `initialize` gives each
# process one. With `--ntasks-per-node=1` seven of eight would stand idle, without a word: there, say
# `initialize(local_device_ids=range(8))`.
#
# **Kubernetes**: read from the Job by way of the cluster's interface. It takes `pip install "jax[k8s]"` in the image,
# an indexed Job, a headless Service for the names, and an account that may read pods, jobs and services.
#
# ```yaml
# apiVersion: v1
# kind: Service
# metadata: {name: train}
# spec:
#   clusterIP: None                     # headless: a name for each pod
#   publishNotReadyAddresses: true
#   selector: {job-name: train}
# ---
# apiVersion: batch/v1
# kind: Job
# metadata: {name: train}
# spec:
#   completionMode: Indexed             # JOB_COMPLETION_INDEX is the process's number
#   completions: 4
#   parallelism: 4
#   backoffLimit: 100
#   template:
#     spec:
#       subdomain: train                # the Service's name
#       serviceAccountName: train
#       restartPolicy: Never
#       containers:
#       - name: train
#         image: registry.example.com/train:1
#         command: [python, train.py, /shared/checkpoints/run1]
#         resources: {limits: {nvidia.com/gpu: 8}}
#         volumeMounts: [{name: shared, mountPath: /shared}]
#       volumes: [{name: shared, persistentVolumeClaim: {claimName: shared}}]
# ```
#
# ```yaml
# apiVersion: v1
# kind: ServiceAccount
# metadata: {name: train}
# ---
# apiVersion: rbac.authorization.k8s.io/v1
# kind: Role
# metadata: {name: train}
# rules:
# - {apiGroups: [""], resources: [pods, services], verbs: [get, list]}
# - {apiGroups: [batch], resources: [jobs], verbs: [get, list]}
# ---
# apiVersion: rbac.authorization.k8s.io/v1
# kind: RoleBinding
# metadata: {name: train}
# subjects: [{kind: ServiceAccount, name: train}]
# roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: train}
# ```
#
# A Job replaces a lost pod alone, and the others then fail at their next collective and are replaced too; a JobSet
# with a `failurePolicy` starts all anew at once. torch's counterpart is the Training Operator's `PyTorchJob`.
#
# **Cloud TPU**: the machines of a slice know each other. One command starts the same script on all of them.
#
# ```bash
# gcloud compute tpus tpu-vm ssh my-slice --zone=us-central2-b --worker=all \
#     --command="python train.py gs://my-bucket/run1"
# ```
#
# Anywhere else give address, count and number yourself, as the first script did. On GPUs and TPUs the collectives run
# over NCCL and the TPUs' own links, and gloo is not there. Of this section only Slurm's variables were run; the rest
# follows the detection code that ships in the installed JAX (`jax/_src/clusters`).
#
# ## Summary
#
# - One script in each process. The mesh spans all devices, and a process holds the shards of its own.
# - Each process loads a slice of one global order. Uneven ends: an endless stream for training, weights of zero for
#   evaluation.
# - All processes save; Orbax makes one checkpoint of it, which any number of processes and any sharding can read. One
#   is lost: all stop, all start, and the bits are the same.
# - Collectives have no names: same calls, same order, on all. A hang shows as processes that stand at different lines;
#   wrong numbers don't show at all.
#
# ## Further reading
#
# - [JAX: Introduction to multi-controller JAX](https://docs.jax.dev/en/latest/multi_process.html): processes, local and
#   global devices, and Kubernetes with GPUs.
# - [jax.distributed](https://docs.jax.dev/en/latest/jax.distributed.html): every argument of `initialize`, and what it
#   finds by itself.
# - [PyTorch: torchrun](https://docs.pytorch.org/docs/stable/elastic/run.html): restarts and rendezvous, for comparison.
# - [Grain](https://google-grain.readthedocs.io/en/latest/): datasets that are indexed, sliced and resumed.
# - [orbax.checkpoint](https://orbax.readthedocs.io/en/stable/api_reference/checkpoint.html): what each process writes,
#   and when a checkpoint is whole.
#
# Exercises: [your turn](exercises/14_many_processes.ipynb).
#
# Next: [15 · Ship it](15_ship_it.ipynb).
