# %% [markdown]
# # 06b · Exercises: Porting sequences
#
# **Do your masks, loops and states mean what torch's mean?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../06b_porting_sequences.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from flax import nnx

from course import checks

# %% [markdown]
# ## Exercise 1: Loud or quiet? (3 minutes)
#
# **Given** six expressions:
#
# - `"torch label"`: `F.cross_entropy(torch.zeros(1, 5), torch.tensor([7]))`
# - `"optax label"`: `optax.softmax_cross_entropy_with_integer_labels(jnp.zeros((1, 5)), jnp.array([7]))`
# - `"optax negative"`: the same with the label `-1`
# - `"embed"`: `nnx.Embed(5, 2, rngs=nnx.Rngs(0))(jnp.array([5]))`
# - `"table"`: `jnp.ones((5, 2))[jnp.array([5])]`
# - `"sqrt"`: `jax.grad(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0))(0.0)`
#
# **Asked** what each of them does: `"raises"`, gives `"nan"`, or gives a `"number"`.
#
# **Checked** by running them.

# %% tags=["stub"]
loud_or_quiet = {
    "torch label": ..., "optax label": ..., "optax negative": ..., "embed": ..., "table": ..., "sqrt": ...,
}  # fmt: skip

# %% tags=["solution"]
loud_or_quiet = {
    "torch label": "raises",
    "optax label": "nan",  # out of range, and a compiled program cannot raise
    "optax negative": "number",  # counted from the end: the loss of the last class
    "embed": "nan",
    "table": "number",  # plain indexing takes the last row
    "sqrt": "nan",  # the branch not taken has an infinite slope, and 0 times infinity is nan
}

# %%
checks.loud_or_quiet(loud_or_quiet)

# %% [markdown]
# ## Exercise 2: A window, and padding (2 minutes)
#
# Local attention in torch, each query on a window of keys, on padded sentences:
#
# ```python
# scores = scores + additive  # (B, heads, T, T)
# scores = scores.masked_fill(padding[:, None, None, :], -torch.inf)
# weights = scores.softmax(-1)
# ```
#
# **Given** `additive` of shape `(T, T)`, a float mask: 0, or -inf where the query (row) must not see the key (column);
# and `padding` of shape `(B, T)`, bool, True at the padding.
#
# **Asked** for the one mask that `nnx.MultiHeadAttention` takes, with an axis for the heads.
#
# **Checked** by the weights of torch's lines: a key is visible where its weight is not 0. Windows, lengths and sizes
# are random.


# %% tags=["stub"]
def flax_mask(additive, padding):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def flax_mask(additive, padding):
    return (additive == 0) & ~padding[:, None, None, :]  # (T, T) and (B, 1, 1, T): (B, 1, T, T)


# %%
checks.flax_mask(flax_mask)

# %% [markdown]
# ## Exercise 3: Episodes (5 minutes)
#
# An agent's memory, run over recorded play. Where a new episode begins, it must forget the one before.


# %%
def torch_episodes(params, x, first):  # x: (B, T, I), first: (B, T), True where an episode begins
    h, outputs = torch.zeros(len(x), params["u"].shape[0]), []
    for t in range(x.shape[1]):
        h = torch.where(first[:, t, None], 0.0, h)
        h = torch.tanh(x[:, t] @ params["w"] + h @ params["u"] + params["b"])
        outputs.append(h)
    return torch.stack(outputs, 1), h  # (B, T, H), (B, H)


# %% [markdown]
# **Given** this loop; `params` is a dict with `w` (I, H), `u` (H, H) and `b` (H,).
#
# **Asked** for the same function in JAX, as a `jax.lax.scan`.
#
# **Checked** against torch for random sizes, outputs and last state; and that as many operations are recorded for 20
# steps as for 5.


# %% tags=["stub"]
def episodes(params, x, first):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def episodes(params, x, first):
    def step(h, inputs):
        x, first = inputs  # (B, I), (B,)
        h = jnp.where(first[:, None], 0.0, h)
        h = jnp.tanh(x @ params["w"] + h @ params["u"] + params["b"])
        return h, h

    zeros = jnp.zeros((len(x), params["u"].shape[0]))
    h, outputs = jax.lax.scan(step, zeros, (jnp.moveaxis(x, 1, 0), first.T))
    return jnp.moveaxis(outputs, 0, 1), h


# %%
checks.episodes(episodes)

# %% [markdown]
# ## Exercise 4: The next chunk (2 minutes)
#
# A stream comes in chunks, and torch's LSTM goes on where it stopped:
#
# ```python
# y, (h, c) = lstm(x, (h, c))  # x: (B, T, I), y: (B, T, H), h and c: (1, B, H)
# ```
#
# **Given** `rnn`, an `nnx.RNN` of an `OptimizedLSTMCell` with that LSTM's weights; `state`, the pair `(h, c)` in
# torch's order and shapes; and the next chunk `x`. `rnn` takes `initial_carry=…`, and with `return_carry=True` it
# returns `(carry, y)`.
#
# **Asked** for what torch's line returns: `y, (h, c)`, in torch's order and shapes.
#
# **Checked** against a torch LSTM that has read one chunk, for random sizes and weights.


# %% tags=["stub"]
def next_chunk(rnn, state, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def next_chunk(rnn, state, x):
    h, c = state
    (c, h), y = rnn(x, initial_carry=(c[0], h[0]), return_carry=True)  # flax's carry is (c, h), without layers
    return y, (h[None], c[None])


# %%
checks.next_chunk(next_chunk)

# %% [markdown]
# Back to the [lesson](../06b_porting_sequences.ipynb), or on to the next one:
# [07 · Porting checkpoints](../07_porting_checkpoints.ipynb). [Solutions](../solutions/06b_porting_sequences.ipynb).
