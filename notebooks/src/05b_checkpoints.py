# %% [markdown]
# # 05b · Checkpoints
#
# **What must be saved so that a killed run goes on as if nothing had happened?** (75 minutes)

# %% [markdown]
# After this lesson you can
#
# - list what belongs in a checkpoint, and say what each omission costs,
# - save and restore with Orbax, and read its errors,
# - keep the best checkpoint and the newest, and say when a file holds what you saved,
# - make a run resumable, so that a killed one ends at the same loss to the bit, with a log that survives,
# - exchange weights with other programs: as safetensors, and out of a `.pt` file.

# %%
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
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
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN
from sklearn.datasets import load_digits

from course import batching, plots, porting
from course.failures import fails

# %%
SEED, BATCH, EPOCHS = 0, 64, 8

torch.set_num_threads(1)
plots.use()
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name).resolve()

pixels, digits = load_digits(return_X_y=True)  # 1797 pictures of 8 x 8 pixels, ten classes
x, y = (pixels / 16).astype(np.float32), digits.astype(np.int32)
held_out = slice(1024, None)
batches = batching.epoch_permutations(1024, EPOCHS, SEED).reshape(-1, BATCH)  # (EPOCHS * 16, BATCH) row numbers
adam = optax.adam(1e-3)  # one for all runs: another one compiles anew


# %% [markdown]
# ## What a run is made of
#
# Half the work of a checkpoint is to know what the run consists of. Here is the network of [05](05_precision.ipynb)
# with dropout, and Adam, so that every kind of state is there: weights, BatchNorm's averages, random numbers, moments.

# %%
class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.hidden = nnx.Linear(64, 128, rngs=rngs)
        self.norm = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def loss_fn(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)
    return loss


# %% [markdown]
# A run is a pair, model and optimizer. `nnx.state(run)` is all its arrays as one tree, and the copy is needed:
# `nnx.state` refers to the live ones ([03](03_state_and_trees.ipynb)). Twenty steps, then the copy:

# %%
@nnx.jit  # compiled once, for all runs that start here
def fresh():
    model = Net(rngs=nnx.Rngs(SEED))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)


def advance(run, begin, steps):
    for chosen in batches[begin : begin + steps]:
        loss = train_step(*run, x[chosen], y[chosen])
    return float(loss)


@nnx.jit
def evaluate(model):
    model.eval()
    loss = loss_fn(model, x[held_out], y[held_out])
    model.train()
    return loss


run = fresh()
loss = advance(run, 0, 20)
saved = jax.tree.map(jnp.copy, nnx.state(run))
print(f"after 20 steps: training loss {loss:.2f}, evaluation {evaluate(run[0]):.2f}")

# %% [markdown]
# In PyTorch you collect these arrays from several objects, and the random numbers are global. In NNX `nnx.state` has
# all that model and optimizer own, the random numbers included, since a layer's key and counter are its own.

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
# The names that are printed are NNX's types of variables: 6 weights, 2 averages, dropout's key and counter; and Adam's:
# 12 moments, its count, and NNX's count of steps. What no framework knows is your place in the data.
#
# What does each of them cost if it is left out? A fresh run, as a new process would make it with the same seed, gets
# the copy back, complete or with one part missing, and takes sixteen more steps. Linen's parts are `params`,
# `batch_stats` and `opt_state`; its keys are yours (`fold_in(key, step)`), so the step is the counter.
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
    again = fresh()
    nnx.update(again, nnx.filter_state(saved, nnx.Not(kind)))
    at_once[missing] = evaluate(again[0])
    rows[missing] = advance(again, begin, 1), advance(again, begin + 1, 15), evaluate(again[0])
rows["(the run itself)"] = truth = advance(run, 20, 1), advance(run, 21, 15), evaluate(run[0])
assert rows["nothing"] == truth and rows["BatchNorm's averages"][:2] == truth[:2]
table = pd.DataFrame(rows, index=["next training loss", "15 steps on", "evaluated then"]).T
table.insert(0, "evaluated at once", at_once)
table.astype(float).round(2)

# %% [markdown]
# With everything restored the run goes on to the bit. Without BatchNorm's averages training goes on to the bit as
# well, since training uses each batch's own; what is off is the evaluation, at once and still sixteen steps later.
# The three others are other runs from here on: fifteen steps on they are a few hundredths away, two of them lower. No
# curve would give them away, and that is what makes a forgotten part expensive.
#
# ## Orbax: a tree in a folder
#
# `torch.save` pickles whatever it is given into one file. Orbax writes a tree of arrays into a folder, given by an
# absolute path. For one checkpoint there is `StandardCheckpointer`. (This is `orbax.checkpoint` as programs use it
# today, "V0" in its documentation. A new interface, V1, comes with `from orbax.checkpoint import v1`, and can read
# these folders.)
#
# **Predict.** Save twice to the same place: what does torch do, and what Orbax?

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

# %% [markdown]
# Orbax refuses a folder that is there, until you say `force=True`. Leaving the block waits until all is written.
#
# The folder does not say which kind of tree it was. `restore` takes an example of it, which needs no values:
# `jax.eval_shape` runs a function on stand-ins and returns shapes and dtypes. (Linen's is
# `jax.eval_shape(net.init, key, x)`; in NNX the state of a fresh model will do.)
#
# **Predict.** Restored without an example, the weights are right to the bit, and so are Adam's moments. Does the next
# `update` run?

# %% tags=["trap:optimizer-state"]
with ocp.StandardCheckpointer() as checkpointer:
    bare = checkpointer.restore(folder / "run")
    whole = checkpointer.restore(folder / "run", jax.eval_shape(lambda: tree))
assert all(map(np.array_equal, jax.tree.leaves(bare), jax.tree.leaves(tree)))
for words, found in ("without", bare), ("with", whole):
    print(f"{words:8} an example: {type(found['opt_state']).__name__} of {type(found['opt_state'][0]).__name__}")

grads = jax.tree.map(jnp.ones_like, params)
update = jax.jit(adam.update)
with fails(AttributeError):
    update(grads, bare["opt_state"], params)
updates, _ = update(grads, whole["opt_state"], params)
print("with an example the next update runs:", updates["out"]["bias"][:2])

# %% [markdown]
# Without an example tuples come back as lists and Optax's states as dicts. "'dict' object has no attribute 'mu'", far
# from any checkpoint, is how such a tree looks at its first use. With one, all is as it was.
#
# And an example that does not fit? torch's `load_state_dict` names missing, unexpected and misshapen weights.
#
# **Predict.** An example with a branch too few, and one with another shape: which arrays do the two messages name?

# %%
kernel, bias = params["out"]["kernel"], params["out"]["bias"]
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / "pair", {"kernel": kernel, "bias": bias})
    checkpointer.save(folder / "single", {"kernel": kernel})
    checkpointer.wait_until_finished()
    with fails(ValueError, lines=8):
        checkpointer.restore(folder / "pair", {"kernel": kernel})
    print()
    with fails(ValueError):
        checkpointer.restore(folder / "single", {"kernel": jax.ShapeDtypeStruct((128, 12), jnp.float32)})

# %% [markdown]
# Of the first message read the name: `bias` is on disk (Target), and MISSING in the example (Source). The second
# names both shapes and no array: look for it by its shape.
#
# **Predict.** And an example with another dtype?

# %%
with ocp.StandardCheckpointer() as checkpointer:
    narrow = checkpointer.restore(folder / "single", {"kernel": jax.ShapeDtypeStruct((128, 10), jnp.bfloat16)})
narrow = narrow["kernel"]
print(f"{kernel.dtype} on disk, {narrow.dtype} in the example: {kernel[1, 0]:.4f} comes back as {narrow[1, 0]:.4f}")


# %% [markdown]
# It is converted without a word. That is right for serving float32 weights in bfloat16, and wrong for a run that is to
# go on: [05](05_precision.ipynb) shows what becomes of it.
#
# ## Many checkpoints: the manager
#
# `CheckpointManager` numbers checkpoints, deletes old ones and knows the newest. Each has named parts: arrays
# (`StandardSave`) and, for the place in the data, JSON. `best_fn` picks a metric, `max_to_keep` a number.
#
# **Predict.** Five epochs with losses 0.9, 0.5, 0.3, 0.4, 0.6 and `max_to_keep=2`: which are on disk afterwards, and
# from where does a killed run go on?

# %%
def save_five(name, **options):
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["loss"], best_mode="min", **options)
    with ocp.CheckpointManager(folder / name, options=options) as manager:
        for epoch, loss in enumerate((0.9, 0.5, 0.3, 0.4, 0.6)):
            place = ocp.args.JsonSave({"epochs done": epoch + 1})
            parts = ocp.args.Composite(state=ocp.args.StandardSave(nnx.state(run)), place=place)
            manager.save(epoch, args=parts, metrics={"loss": loss})
        manager.wait_until_finished()
        print(f"on disk {manager.all_steps()}, best {manager.best_step()}, newest {manager.latest_step()}")


save_five("two", max_to_keep=2)

# %% [markdown]
# "The best two" are the best two. Epoch 4 is gone, so a killed run goes on from epoch 3 and repeats the last one. To
# keep the best *and* the newest takes a preservation policy in place of `max_to_keep`; `reverse=True` means that less
# is better.
#
# **Predict.** You restore the best epoch, 2, to train on from there, and save the next epoch, 3, in the same folder.
# What does `save` do?

# %%
policy = AnyPreservationPolicy([LatestN(1), BestN(get_metric_fn=lambda metrics: metrics["loss"], reverse=True, n=1)])
save_five("both", preservation_policy=policy)

with ocp.CheckpointManager(folder / "both") as manager:
    parts = ocp.args.Composite(state=ocp.args.StandardRestore(nnx.state(run)), place=ocp.args.JsonRestore())
    found = manager.restore(2, args=parts)
    nnx.update(run, found["state"])
    print("restored:", found["place"])
    parts = ocp.args.Composite(state=ocp.args.StandardSave(nnx.state(run)), place=ocp.args.JsonSave({"epochs done": 4}))
    print("epoch 3 saved:", manager.save(3, args=parts))
    manager.wait_until_finished()
    print("on disk", manager.all_steps())

# %% [markdown]
# False: 3 is older than the newest, 4. Nothing is written, and nothing is raised. Whoever goes back takes a new folder.
#
# The manager writes in the background (`enable_async_checkpointing`, on by default) while the training goes on.
#
# **Predict.** A bias is 1, it is saved, and one line later it is 2. Which one is in the file, with a `state_dict()`
# and with Orbax?

# %%
layer = torch.nn.Linear(128, 10)
with torch.no_grad():
    layer.bias.fill_(1.0)
    held = layer.state_dict()
    layer.bias.fill_(2.0)  # the training goes on
torch.save(held, folder / "held.pt")  # as a thread in the background would
in_torch = torch.load(folder / "held.pt", weights_only=True)["bias"]

bias = run[0].out.bias
with ocp.CheckpointManager(folder / "async") as manager:
    bias[...] = jnp.full(10, 1.0)
    manager.save(0, args=ocp.args.StandardSave(nnx.state(run)))
    bias[...] = jnp.full(10, 2.0)
    manager.wait_until_finished()
    restored = manager.restore(0, args=ocp.args.StandardRestore(nnx.state(run)))
print(f"torch: {in_torch[0]:.0f} in the file, {layer.bias[0]:.0f} in the model")
print(f"Orbax: {restored[0]['out']['bias'][0]:.0f} in the file, {bias[0]:.0f} in the model")

# %% [markdown]
# A `state_dict` refers to the weights, and they changed. A JAX array never changes, the box merely got another one; and
# `save` returns only after it has a copy of its own in host memory. That copy is its price: time for the transfer,
# memory for one more state. What it has not done is finish: before you read the folder, and before the process ends,
# call `wait_until_finished()`. Leaving the `with` does.
#
# ## A run that is killed
#
# Now the proof, by a script that knows nothing of this notebook. Its first part is model, data and a step, as in any
# script.

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

# %% [markdown]
# The second part makes it resumable: it asks the manager for the newest step, and restores it if there is one. The
# order of the data is drawn from the epoch's number, so that number is the whole place in the data.

# %%
loop = """
folder = Path(sys.argv[1])
options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
with ocp.CheckpointManager(folder, options=options) as manager:
    newest = manager.latest_step()  # None in a new folder
    if newest is not None:
        nnx.update(run, manager.restore(newest, args=ocp.args.StandardRestore(nnx.state(run))))
    for epoch in range(0 if newest is None else newest + 1, 6):
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
# when it reports epoch 3, without a chance to clean up (`kill -9`; on Windows `TerminateProcess`). The third is the
# second's command again. They share a cache of compiled programs, so that going on does not mean compiling again.
#
# **Predict.** Epoch 3 was reported, and `save` had returned. Which epoch does the third process begin with?

# %% tags=["nbval-ignore-output"] volatile="where the kill hits"
def launch(name, kill_at=None):
    command = [sys.executable, str(script), str(folder / name)]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    where = {"env": {**os.environ, **cache, "JAX_PLATFORMS": "cpu"}, "cwd": folder}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **where, **pipes) as process:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip() == kill_at:
                process.kill()
    print(f"{name:7} epochs {' '.join(lines)}, exit code {process.returncode}")


launch("whole")
launch("killed", kill_at="3")
print("        on disk:", *sorted(path.name for path in (folder / "killed").iterdir()))
launch("killed")
logs = {name: pd.read_csv(folder / f"{name}.csv", names=["epoch", "loss"]) for name in ("whole", "killed")}
print("last loss:", *(f"{name} {log['loss'].iloc[-1]:.9f}" for name, log in logs.items()))
assert logs["whole"]["loss"].iloc[-1] == logs["killed"]["loss"].iloc[-1]

# %% [markdown]
# The same loss in every digit. If the third process began with 3, the kill was quicker than the write: `save` had
# returned, but the checkpoint was still a folder with `tmp` in its name. If it began with 4, the write was quicker.
# Orbax writes beside and renames at the end, so a numbered folder is a whole one.
#
# Exit code -9, or 137 in a container, is `kill -9`; out of memory, Linux does that to a process too.
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
log.T.round(2)

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
assert all(np.array_equal(back[name], flat[name]) for name in flat)
print("out and back:", *back)
with fails():
    safetensors.flax.save_file(params, folder / "nested.safetensors")

# %% [markdown]
# A complaint about dtype "object" means a nested dict: a branch was taken for an array.
#
# ## Weights from torch
#
# The other way there are three kinds of files: safetensors; a `.pt` file of tensors, where the weights often lie beside
# other things; and a whole pickled model. `porting.read_checkpoint` makes a flat dict of NumPy arrays of them, under
# torch's names, and `arrays_to_nnx` lays them out for flax. Only `.pt` needs torch for it.
#
# **Predict.** Which of the three can't be read?

# %%
torch.manual_seed(SEED)
layers = OrderedDict(hidden=torch.nn.Linear(64, 128), norm=torch.nn.BatchNorm1d(128), relu=torch.nn.ReLU())
model = torch.nn.Sequential(OrderedDict(**layers, drop=torch.nn.Dropout(0.5), out=torch.nn.Linear(128, 10)))
with torch.no_grad():
    model(torch.from_numpy(x))  # once in training mode, so that the averages say something
    theirs = model.eval()(torch.from_numpy(x)).numpy()
print("torch's logits:    ", theirs[0, :4].round(3))
safetensors.torch.save_file(model.state_dict(), folder / "torch.safetensors")
torch.save({"epoch": 7, "model_state_dict": model.state_dict()}, folder / "training.pt")
torch.save(model, folder / "whole.pt")

for name in ("torch.safetensors", "training.pt"):
    arrays = porting.read_checkpoint(folder / name)
    ported = porting.arrays_to_nnx(arrays, fresh()[0])
    ported.eval()
    ours = np.asarray(ported(x))
    assert abs(ours - theirs).max() < 1e-5
    print(f"{name:19}", ours[0, :4].round(3), arrays["hidden.weight"].shape, "->", ported.hidden.kernel.shape)
print("gaps over all digits below 1e-05")
with fails(ValueError):
    porting.read_checkpoint(folder / "whole.pt")
scratch.cleanup()

# %% [markdown]
# A pickled model names classes that must be there, and reading it may run any code: `weights_only=True`, with which
# `course.porting` reads, refuses it. Save the `state_dict` where the model's code is.
#
# torch's layout of a dense layer is (out, in), flax's (in, out), and `course.porting` turns them over;
# [07](07_porting_checkpoints.ipynb) does it for models with other names, and goes on with torch's Adam.
#
# ## Summary
#
# - A run is weights, averages, optimizer state, dropout's counter and the place in the data. Leave one out, and it
#   trains on without a word as another run.
# - Restore with an example of the tree: names and shapes are compared, dtypes are converted.
# - Keep the best *and* the newest. A save returns before it is written: wait before you read, and before you end.
# - Resumable is a loop that asks for the newest step, and data whose order follows from a number. Then a killed run
#   ends at the same loss to the bit.
# - Weights travel as safetensors, flat; `course.porting` reads torch's files.
#
# ## Further reading
#
# - [orbax.checkpoint](https://orbax.readthedocs.io/en/stable/api_reference/checkpoint.html): managers, policies, named
#   parts of a checkpoint.
# - [What is the Orbax V1 API?](https://orbax.readthedocs.io/en/stable/guides/checkpoint/v1/what_is_orbax_v1.html): what
#   takes the place of manager and checkpointer, and when.
# - [Flax: Save and load checkpoints](https://flax.readthedocs.io/en/latest/guides/checkpointing.html): NNX and Orbax in
#   the words of their authors, also over several processes.
# - [PyTorch: Serialization semantics](https://docs.pytorch.org/docs/stable/notes/serialization.html): what is in a
#   `.pt` file, and what `weights_only` keeps out.
# - [safetensors](https://huggingface.co/docs/safetensors/index): the format and its readers.
#
# Exercises: [your turn](exercises/05b_checkpoints.ipynb).
# Capstone: [an image classifier, migrated whole](exercises/capstone_05_classifier.ipynb).
#
# Next: [06 · Porting layers](06_porting_layers.ipynb).
