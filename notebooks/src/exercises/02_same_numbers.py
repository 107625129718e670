# %% [markdown]
# # 02 · Exercises: The same numbers
#
# **Can you find what makes two programs differ, and mend it?** (10 minutes)

# %% [markdown]
# Three exercises to the [lesson](../02_same_numbers.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import math

import jax.numpy as jnp
import numpy as np

from course import checks

# %% [markdown]
# ## Exercise 1: Which layers are wrong? (3 minutes)
#
# A port gives other numbers. Some of its layers are wrong; the layers behind them are right, and give other numbers
# too.
#
# **Given** the layers of both models, two lists of functions in the order in which they are applied: each of
# `torch_layers` takes and returns a tensor, each of `jax_layers` takes and returns an array (a NumPy array will do).
# `x` is a tensor, `tolerance` a number.
#
# **Asked** for the list of the indices, from 0 on, of the layers that are wrong themselves: fed with the same input,
# their output is off by more than `tolerance` times the largest absolute value in torch's output.
#
# **Checked** with ports that have none, one or two faults, and activations of any size.


# %% tags=["stub"]
def guilty_layers(torch_layers, jax_layers, x, tolerance):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def guilty_layers(torch_layers, jax_layers, x, tolerance):
    guilty = []
    for index, (theirs, ours) in enumerate(zip(torch_layers, jax_layers, strict=True)):
        expected, got = theirs(x).numpy(), np.asarray(ours(x.numpy()))
        if abs(got - expected).max() > tolerance * abs(expected).max():
            guilty.append(index)
        x = theirs(x)  # both go on with torch's output
    return guilty


# %%
checks.guilty_layers(guilty_layers)

# %% [markdown]
# ## Exercise 2: All digits of a correction (2 minutes)
#
# The lesson found why `1 - 0.999**t` in float32 is off in the fifth digit, and left it so.
#
# **Given** `decay`, a Python float between 0.85 and 1, and `t`, a float32 array of counts from 1 on.
#
# **Asked** for `1 - decay**t` in float32, without x64, with a relative error of at most 2e-6. It must work where `t` is
# traced.
#
# **Checked** against double precision, for decays up to 0.99995, as it is and under `jit`.


# %% tags=["stub"]
def bias_correction(decay, t):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def bias_correction(decay, t):
    return -jnp.expm1(t * math.log(decay))  # the log in double precision, before it is rounded


# %%
checks.bias_correction(bias_correction)

# %% [markdown]
# ## Exercise 3: BatchNorm, with torch's numbers (3 minutes)
#
# ```python
# module = torch.nn.BatchNorm1d(c, eps=eps, momentum=momentum, affine=False)
# module.train(training)
# y = module(x)  # and module.running_mean, module.running_var have changed, or not
# ```
#
# **Given** this layer, which has no weights, and its state as a dict with `mean` and `var`, of shape `(c,)` each; `x`
# of shape `(n, c)`; `training`, True or False.
#
# **Asked** for a pure function that returns the pair `(state, y)`, with torch's numbers.
#
# **Checked** against torch, two calls in training and one in evaluation, for random sizes, `momentum` and `eps`.


# %% tags=["stub"]
def batch_norm(state, x, training, momentum, eps):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def batch_norm(state, x, training, momentum, eps):
    if training:
        mean, var = x.mean(0), x.var(0)
        now = {"mean": mean, "var": x.var(0, ddof=1)}
        state = {name: (1 - momentum) * state[name] + momentum * now[name] for name in state}
    else:
        mean, var = state["mean"], state["var"]
    return state, (x - mean) / jnp.sqrt(var + eps)


# %%
checks.batch_norm(batch_norm)

# %% [markdown]
# Back to the [lesson](../02_same_numbers.ipynb), or on to the next one:
# [03 · State and trees](../03_state_and_trees.ipynb). [Solutions](../solutions/02_same_numbers.ipynb).
