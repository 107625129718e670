# %% [markdown]
# # 01b · Exercises: Who survives? The same program in Flax NNX
#
# **Do you see what NNX does for you, and what it leaves to you?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../01b_titanic_nnx.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from course import checks

# %% [markdown]
# ## Exercise 1: Which calls compile? (5 minutes)
#
# ```python
# class MLP(nnx.Module):
#     def __init__(self, width, *, rngs):
#         self.hidden = nnx.Linear(3, width, rngs=rngs)
#         self.dropout = nnx.Dropout(0.5, rngs=rngs)
#         self.out = nnx.Linear(width, 1, rngs=rngs)
#     ...
#
# @nnx.jit
# def scaled_loss(model, x, y, scale):
#     return scale * ((model(x) - y) ** 2).mean()
#
# model = MLP(8, rngs=nnx.Rngs(0))
# scaled_loss(model, x, y, 1.0)                                # compiles
# scaled_loss(MLP(8, rngs=nnx.Rngs(1)), x, y, 1.0)             # "seed"
# scaled_loss(model, x, y, 2.0)                                # "scale"
# scaled_loss(model, x, y.astype(np.int32), 1.0)               # "integers"
# scaled_loss(MLP(16, rngs=nnx.Rngs(0)), x, y, 1.0)            # "width"
# model.eval()
# scaled_loss(model, x, y, 1.0)                                # "evaluation"
# ```
#
# **Given** these calls, with `x` and `y` in float32.
#
# **Asked** for True or False for each of the five names: does the call compile?
#
# **Checked** by making the calls and counting traces.

# %% tags=["stub"]
compiles = {"seed": ..., "scale": ..., "integers": ..., "width": ..., "evaluation": ...}

# %% tags=["solution"]
compiles = {"seed": False, "scale": False, "integers": True, "width": True, "evaluation": True}

# %%
checks.nnx_compilations(compiles)

# %% [markdown]
# ## Exercise 2: Gradients that add up (3 minutes)
#
# ```python
# for x, y in batches:
#     (loss_fn(model, x, y) / len(batches)).backward()
# optimizer.step()
# optimizer.zero_grad()
# ```
#
# **Given** an NNX `model`, an `nnx.Optimizer`, a function `loss_fn(model, x, y)` and a list of `batches`, pairs of
# arrays of equal length.
#
# **Asked** for what the PyTorch lines do, in NNX: one update, from the mean of the batches' gradients. The model and
# the optimizer change in place; return the mean of the losses. (You need not use `nnx.jit`.)
#
# **Checked** against torch with the same weights, for two steps of SGD with momentum.


# %% tags=["stub"]
def accumulated_step(model, optimizer, loss_fn, batches):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def accumulated_step(model, optimizer, loss_fn, batches):
    pairs = [nnx.value_and_grad(loss_fn)(model, x, y) for x, y in batches]
    loss, grads = jax.tree.map(lambda *parts: sum(parts) / len(parts), *pairs)
    optimizer.update(model, grads)
    return loss


# %%
checks.accumulated_step(accumulated_step)

# %% [markdown]
# ## Exercise 3: Into the boxes (3 minutes)
#
# **Given** an NNX model whose attributes `hidden`, `middle` and `out` are `nnx.Linear` layers, and `weights`, what
# `state_dict()` of the same model in PyTorch holds, as NumPy arrays: `hidden.weight`, `hidden.bias` and so on.
#
# **Asked** for a function that copies these weights into the model, in place. Afterwards the model computes what
# PyTorch's does, and the optimizer that it already has can train it.
#
# **Checked** against torch with random sizes, with square layers among them, and with an update.


# %% tags=["stub"]
def copy_weights(model, weights):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def copy_weights(model, weights):
    for key, array in weights.items():
        name, kind = key.split(".")
        layer = getattr(model, name)
        if kind == "weight":
            layer.kernel[...] = jnp.asarray(array.T)
        else:
            layer.bias[...] = jnp.asarray(array)


# %%
checks.copied_weights(copy_weights)

# %% [markdown]
# ## Exercise 4: Nobody is left over (3 minutes)
#
# The lesson drops the last passengers of an epoch, since a short batch would compile again. They can stay, if every
# batch has one shape.
#
# **Given** `x` of shape `(n, d)` and `y` of shape `(n,)`, NumPy arrays in float32, and a `size` of at least `n`.
# `model(x)` returns logits of shape `(size,)`. The check compiles `weighted_loss` with `nnx.jit`.
#
# **Asked** for two functions. `padded(x, y, size)` returns `(x, y, weight)`, each with `size` rows: the given ones,
# then rows of padding; `weight`, of shape `(size,)`, is 1 for a given row and 0 for padding.
# `weighted_loss(model, x, y, weight)` returns the mean of the binary cross-entropy over the rows that are no padding.
#
# **Checked** against torch on the short batch, whatever the padding holds; and one trace serves all lengths.


# %% tags=["stub"]
def padded(x, y, size):
    raise NotImplementedError("your turn")


def weighted_loss(model, x, y, weight):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def padded(x, y, size):
    missing = size - len(x)
    weight = np.arange(size) < len(x)
    return np.pad(x, ((0, missing), (0, 0))), np.pad(y, (0, missing)), weight.astype(np.float32)


def weighted_loss(model, x, y, weight):
    losses = optax.sigmoid_binary_cross_entropy(model(x), y)
    return (weight * losses).sum() / weight.sum()


# %%
checks.full_batches(padded, weighted_loss)

# %% [markdown]
# Back to the [lesson](../01b_titanic_nnx.ipynb), or on to the next one:
# [01c · Who survives? The same program in Flax Linen](../01c_titanic_linen.ipynb).
# [Solutions](../solutions/01b_titanic_nnx.ipynb).
