# %% [markdown]
# # 05 · Exercises: Precision
#
# **Can you keep sixteen bits where they help, and away from where they hurt?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../05_precision.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import optax

from course import checks

# %% [markdown]
# ## Exercise 1: Which type comes out? (2 minutes)
#
# **Given** three arrays.

# %%
b, h, i = jnp.ones(3, jnp.bfloat16), jnp.ones(3, jnp.float16), jnp.ones(3, jnp.int32)

# %% [markdown]
# **Asked**, before you run anything: the dtype of each expression, as text, like `"float32"`. Not all are as in PyTorch
# or NumPy.
#
# **Checked** by asking JAX.

# %% tags=["stub"]
prediction = {"b * 2.0": ..., "b * jnp.float32(2.0)": ..., "b * h": ..., "b + i": ..., "b.sum()": ...}  # your turn

# %% tags=["solution"]
prediction = {
    "b * 2.0": "bfloat16",  # a Python number adapts
    "b * jnp.float32(2.0)": "float32",  # an array does not, whatever its shape
    "b * h": "float32",
    "b + i": "bfloat16",
    "b.sum()": "bfloat16",
}

# %%
checks.promoted_types(prediction)

# %% [markdown]
# ## Exercise 2: A variance far from zero (2 minutes)
#
# **Given** the variance as flax's norms calculate it unless told otherwise (`use_fast_variance=True`):

# %%
x = 3000 + jax.random.normal(jax.random.key(0), (2, 1000), jnp.float32)
fast = (x**2).mean(-1) - x.mean(-1) ** 2
print("near 1, as is due:", bool(jnp.allclose(fast, 1, atol=0.2)))

# %% [markdown]
# **Asked** for the variance of each row (the last axis; the sum of squares is divided by the row's length), right also
# far from zero, in the memory of float32: no float64. Where `x` is bfloat16, calculate in float32. The result has the
# dtype of `x`.
#
# **Checked** against NumPy in float64, in float32 near 3000 and in bfloat16 near 200.


# %% tags=["stub"]
def variance(x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def variance(x):
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    return (centred**2).mean(-1).astype(x.dtype)


# %%
checks.steady_variance(variance)

# %% [markdown]
# ## Exercise 3: autocast by hand (3 minutes)
#
# ```python
# with torch.autocast("cpu", dtype=torch.bfloat16):
#     loss = torch.nn.functional.cross_entropy(model(x), y)
# loss.backward()
# ```
#
# **Given** `model(params, x)`, a function from a dict of weights and rows `(B, n)` to logits `(B, classes)`, that
# calculates in the types it is handed; `params` and `x` in float32, and labels `y`, integers.
#
# **Asked** for the pair of loss and gradients: all products in bfloat16, the loss from logits on in float32, gradients
# in float32.
#
# **Checked** against `torch.autocast`, and by the types in your function's jaxpr.


# %% tags=["stub"]
def mixed(model, params, x, y):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def mixed(model, params, x, y):
    def loss_fn(params):
        narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        logits = model(narrow, x.astype(jnp.bfloat16)).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return jax.value_and_grad(loss_fn)(params)


# %%
checks.mixed_gradients(mixed)

# %% [markdown]
# ## Exercise 4: Round at random (2 minutes)
#
# The lesson added 0.001 a thousand times to 1, in bfloat16, and stayed at 1. Weights can live in bfloat16 all the same
# if an update is rounded *at random*: to one of its two neighbours, to each with the probability that makes the result
# right on average. A number that is a third of the way up goes up once in three times.
#
# **Given** an array `x` in float32, of finite numbers, and a `key`.
#
# **Asked** for `x` in bfloat16, every element rounded at random and independently of the others.
#
# **Checked**: every result is one of the two neighbours; how often which, over thousands of draws; what bfloat16 holds
# exactly stays.


# %% tags=["stub"]
def stochastic_round(x, key):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def stochastic_round(x, key):
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint32) >> 16  # below the last bit that stays
    cut = (bits + noise) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(cut, jnp.float32).astype(jnp.bfloat16)


# %%
checks.random_rounding(stochastic_round)

# %% [markdown]
# Back to the [lesson](../05_precision.ipynb), or on to the next one:
# [05b · Checkpoints](../05b_checkpoints.ipynb). [Solutions](../solutions/05_precision.ipynb).
