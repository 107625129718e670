# %% [markdown]
# # Capstone after 12 · A training script, migrated whole
#
# **Can you take a script that is used, with all that it has grown, and get its numbers?** (15 minutes)

# %% [markdown]
# Four exercises on what lessons [04b](../04b_training_rules.ipynb) to [12](../12_tracing_paper.ipynb) taught. A PyTorch
# script stands here whole; you migrate it part by part, and the last part is the run. Fill in the cells that say
# `your turn` and run the check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the
# solution, and `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import torch
import torch.nn.functional as F
from flax import nnx
from jax import lax
from sklearn.datasets import load_digits

from course import checks

# %%
SIZE, PARTS, RATE, WARMUP, LIMIT, SMOOTHING = 16, 4, 3e-2, 4, 1.0, 0.1
torch.set_num_threads(1)

pixels, digits = load_digits(return_X_y=True)
x, y = (pixels / 16).astype(np.float32), digits.astype(np.int32)


# %% [markdown]
# **The script.** A network with LayerNorm; a batch comes in four parts, since one of four times the size would not fit
# into memory. A step draws its rows from its own number.


# %%
def rows_of(step, count):  # the data's order follows from the step's number, so that a run can go on anywhere
    return np.random.default_rng(step).permutation(count)[: PARTS * SIZE].reshape(PARTS, SIZE)


class TorchNet(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = torch.nn.Linear(64, width)
        self.norm = torch.nn.LayerNorm(width)
        self.out = torch.nn.Linear(width, 10)

    def forward(self, x):
        return self.out(F.gelu(self.norm(self.inner(x))))


# %% [markdown]
# Forward runs under autocast in bfloat16, and `.grad` adds up the parts. AdamW decays matrices only, by PyTorch's
# default of 0.01, and its rate warms up.


# %%
def torch_gradients(model, x, y, half):  # (PARTS, SIZE, 64), (PARTS, SIZE) -> the mean loss
    total = 0.0
    for part_x, part_y in zip(x, y, strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(part_x), part_y, label_smoothing=SMOOTHING) / len(x)
        loss.backward()  # adds to .grad
        total += loss.item()
    return total


def torch_optimizer(model, rate, warmup):
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},  # with AdamW's default decay
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, rate)
    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: min(1.0, (step + 1) / warmup))


# %% [markdown]
# The run saves after every step, and goes on from what it finds.


# %%
def torch_fit(model, x, y, path, until, half=True):
    adamw, schedule = torch_optimizer(model, RATE, WARMUP)
    start, losses = 0, []
    if path.exists():
        saved = torch.load(path)
        start = saved["steps"]
        for part, name in (model, "model"), (adamw, "adamw"), (schedule, "schedule"):
            part.load_state_dict(saved[name])
    for step in range(start, until):
        rows = rows_of(step, len(x))
        adamw.zero_grad()
        losses.append(torch_gradients(model, x[rows], y[rows], half))
        torch.nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
        adamw.step()
        schedule.step()
        states = {"model": model.state_dict(), "adamw": adamw.state_dict(), "schedule": schedule.state_dict()}
        torch.save({"steps": step + 1, **states}, path)
    return losses


# %%
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y).long()
with tempfile.TemporaryDirectory() as torch_folder:
    for until in (10, 20):  # two processes, as it were
        torch.manual_seed(0)
        torch_losses = torch_fit(TorchNet(32), x_torch, y_torch, Path(torch_folder, "run.pt"), until)
        print(f"steps to {until}:", *[f"{loss:.1f}" for loss in torch_losses])

# %% [markdown]
# ## Exercise 1: The model (2 minutes)
#
# **Given** `width`, a `dtype` to compute in, and `rngs`.
#
# **Asked** for `Net` as an NNX module with PyTorch's names of layers. With `dtype=float32` it gives PyTorch's logits.
# With `dtype=bfloat16` its products and logits are bfloat16, its weights still float32.
#
# **Checked** with PyTorch's weights in both types, and by the types in the jaxpr.


# %% tags=["stub"]
class Net(nnx.Module):
    def __init__(self, width, dtype, *, rngs):
        raise NotImplementedError("your turn")

    def __call__(self, x):
        raise NotImplementedError("your turn")


# %% tags=["solution"]
class Net(nnx.Module):
    def __init__(self, width, dtype, *, rngs):
        self.inner = nnx.Linear(64, width, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, 10, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.gelu(self.norm(self.inner(x)), approximate=False))


# %%
checks.script_model(Net)

# %% [markdown]
# ## Exercise 2: Gradients, part by part (3 minutes)
#
# **Given** a `model` like yours, in float32 or bfloat16, `x` of shape `(parts, size, 64)` and `y` of shape
# `(parts, size)`.
#
# **Asked** for the mean loss and its gradients, a tree as `nnx.value_and_grad` returns it, both float32, one part at a
# time. As under autocast, the loss itself is computed in float32: cast the logits first. The smoothing is 0.1, as in
# the script.
#
# **Checked** against PyTorch's loss and `.grad`; the check's model notes which shapes it is called with.


# %% tags=["stub"]
def accumulated(model, x, y):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def accumulated(model, x, y):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss_fn(params, x, y):
        logits = nnx.merge(graphdef, params, rest, copy=True)(x).astype(jnp.float32)
        labels = optax.smooth_labels(jax.nn.one_hot(y, 10), SMOOTHING)
        return optax.softmax_cross_entropy(logits, labels).mean()

    def add(total, part):
        return jax.tree.map(jnp.add, total, jax.value_and_grad(loss_fn)(params, *part)), None

    start = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    total, _ = lax.scan(add, start, (x, y))
    return jax.tree.map(lambda total: total / len(x), total)


# %%
checks.script_gradients(accumulated)

# %% [markdown]
# ## Exercise 3: The optimizer (3 minutes)
#
# **Given** a `rate`, the number of `warmup` steps, and a `limit` for the gradient's norm.
#
# **Asked** for one Optax transformation that does what `clip_grad_norm_`, AdamW with its two groups and the schedule
# do together; to be run under `jax.jit`.
#
# **Checked** on random gradients below and above the limit, over seven steps, against PyTorch's weights.


# %% tags=["stub"]
def make_optimizer(rate, warmup, limit):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def make_optimizer(rate, warmup, limit):
    return optax.chain(
        optax.clip_by_global_norm(limit),
        optax.adamw(
            lambda count: rate * jnp.minimum(1.0, (count + 1) / warmup),
            weight_decay=1e-2,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )


# %%
checks.script_optimizer(make_optimizer)

# %% [markdown]
# ## Exercise 4: The run (5 minutes)
#
# **Given** a `model` like yours; all images `x` and labels `y`, NumPy arrays; `folder`, an absolute path, where there
# may be a run to go on with, or nothing yet; and `until`, the number of steps after which to stop.
#
# **Asked** for the losses of the steps that this call runs, and for the model to be trained in place. It saves what a
# fresh model needs to go on, and goes on from what it finds. Use your functions, `rows_of` and the constants above.
#
# **Checked** by a run of three steps, resumed by a fresh model for three more, against PyTorch's run of six: losses of
# every step, weights in the end.


# %% tags=["stub"]
def fit(model, x, y, folder, until):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = accumulated(model, x, y)
    optimizer.update(model, grads)
    return loss


def fit(model, x, y, folder, until):
    run = model, nnx.Optimizer(model, make_optimizer(RATE, WARMUP, LIMIT), wrt=nnx.Param)
    losses = []
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=1)) as manager:
        newest = manager.latest_step()
        if newest is not None:
            nnx.update(run, manager.restore(newest, args=ocp.args.StandardRestore(nnx.state(run))))
        for step in range(0 if newest is None else newest + 1, until):
            rows = rows_of(step, len(x))
            losses.append(float(train_step(*run, x[rows], y[rows])))
            manager.save(step, args=ocp.args.StandardSave(nnx.state(run)))
    return losses


# %%
checks.script_run(fit)

# %% [markdown]
# Back to the [lesson](../12_tracing_paper.ipynb), or on to the next one:
# [16 · The derivative cliff](../16_derivative_cliff.ipynb).
# [Solutions](../solutions/capstone_12_training_script.ipynb).
