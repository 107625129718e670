# %% [markdown]
# # 03 · Exercises: State and trees
#
# **Can you say where every array lives, and keep the ones that change?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../03_state_and_trees.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
from flax import nnx

from course import checks

# %% [markdown]
# ## Exercise 1: What is a leaf? (2 minutes)
#
# **Given** this tree, and the same with a tuple in place of the list.

# %%
tree = {"layer9": {"scale": jnp.ones(3), "bias": None}, "layer10": [jnp.zeros(3), 2.5], "act": "relu"}
other = {**tree, "layer10": tuple(tree["layer10"])}

# %% [markdown]
# **Asked**, before you run anything:
#
# - `"leaves"`: how many leaves does `jax.tree.leaves(tree)` return? An int.
# - `"second"` and `"last"`: which leaf is its second, and which its last? A path, written like `"layer9.scale"` or
#   `"layer10.0"`.
# - `"same"`: is `jax.tree.structure(tree) == jax.tree.structure(other)`? A bool.
#
# **Checked** by asking JAX.

# %% tags=["stub"]
prediction = {"leaves": ..., "second": ..., "last": ..., "same": ...}  # your turn

# %% tags=["solution"]
prediction = {"leaves": 4, "second": "layer10.0", "last": "layer9.scale", "same": False}

# %%
checks.tree_leaves(prediction)

# %% [markdown]
# ## Exercise 2: A layer with a buffer (6 minutes)
#
# ```python
# class RunningScale(torch.nn.Module):
#     def __init__(self, size, momentum):
#         super().__init__()
#         self.momentum = momentum
#         self.gain = torch.nn.Parameter(torch.ones(size))
#         self.register_buffer("peak", torch.zeros(size))
#
#     def forward(self, x):  # (B, size)
#         if self.training:
#             self.peak.lerp_(x.detach().abs().amax(0), self.momentum)  # peak + momentum * (new - peak)
#         return self.gain * x / (self.peak + 1e-6)
# ```
#
# **Given** this layer in PyTorch. It divides by a running average of each feature's largest magnitude.
#
# **Asked** for the same in NNX: the gain as a `Param`, the peak as a `BatchStat`, the mode switched by `train()` and
# `eval()`, which set the attribute `use_running_average` where there is one.
#
# **Checked** against torch: three batches in training mode, two after `eval()`, all compiled by `nnx.jit`; then the
# types of the arrays, and the gradient by `x`.


# %% tags=["stub"]
class RunningScale(nnx.Module):
    def __init__(self, size, momentum):
        raise NotImplementedError("your turn")

    def __call__(self, x):
        raise NotImplementedError("your turn")


# %% tags=["solution"]
class RunningScale(nnx.Module):
    def __init__(self, size, momentum):
        self.momentum = momentum
        self.use_running_average = False
        self.gain = nnx.Param(jnp.ones(size))
        self.peak = nnx.BatchStat(jnp.zeros(size))

    def __call__(self, x):
        if not self.use_running_average:
            peak = jnp.abs(jax.lax.stop_gradient(x)).max(axis=0)
            self.peak[...] += self.momentum * (peak - self.peak[...])
        return self.gain[...] * x / (self.peak[...] + 1e-6)


# %%
checks.running_scale(RunningScale)

# %% [markdown]
# ## Exercise 3: End at the best step (4 minutes)
#
# ```python
# for _ in range(steps):
#     step(model)
#     if score(model) < lowest:
#         lowest, best = score(model), nnx.state(model, nnx.Param)
# nnx.update(model, best)
# return lowest
# ```
#
# **Given** this loop, in which two things are wrong: whatever the scores, the weights in the end are the last. And
# were they the best, BatchNorm's averages would not fit them. `step(model)` trains an NNX model in place, and
# `score(model)` returns a number, less is better.
#
# **Asked** for the loop mended: afterwards `model` holds weights and averages of its best step, and the best score is
# returned. The weights before the first step don't count.
#
# **Checked** with a model whose every step is written down.


# %% tags=["stub"]
def train_best(model, step, score, steps):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def train_best(model, step, score, steps):
    lowest = float("inf")
    for _ in range(steps):
        step(model)
        now = float(score(model))
        if now < lowest:
            lowest, best = now, jax.tree.map(jnp.copy, nnx.state(model))
    nnx.update(model, best)
    return lowest


# %%
checks.best_weights(train_best)

# %% [markdown]
# ## Exercise 4: Refresh the averages (3 minutes)
#
# Weights that were averaged over training have no running statistics of their own. In PyTorch you would run the data
# through the model in training mode, without a gradient:
#
# ```python
# model.train()
# with torch.no_grad():
#     for x in batches:
#         model(x)
# ```
#
# **Given** a Linen network `net`, called as `net.apply(variables, x, train=True, …)`, with the collections `params` and
# `batch_stats` in `variables`, and dropout; a list `batches` of arrays; a `key`.
#
# **Asked** for the variables afterwards: the same weights, and averages moved by every batch in turn. Each batch is to
# have another dropout mask.
#
# **Checked** against NumPy, with a network that notes what it drew.


# %% tags=["stub"]
def refreshed(net, variables, batches, key):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def refreshed(net, variables, batches, key):
    for i, x in enumerate(batches):
        rngs = {"dropout": jax.random.fold_in(key, i)}
        _, changed = net.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)
        variables = {**variables, **changed}
    return variables


# %%
checks.refreshed_averages(refreshed)

# %% [markdown]
# Back to the [lesson](../03_state_and_trees.ipynb), or on to the next one:
# [04 · Optimizers](../04_optimizers.ipynb). [Solutions](../solutions/03_state_and_trees.ipynb).
