# %% [markdown]
# # 09b · Exercises: Custom rules, memory, and NNX's transforms
#
# **Can you state a derivative that JAX would not find, or not cheaply?** (15 minutes)

# %% [markdown]
# Three exercises to the [lesson](../09b_custom_rules.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch.utils.checkpoint import checkpoint_sequential

from course import checks


# %% [markdown]
# ## Exercise 1: Stuck at the limit (7 minutes)
#
# A clipped value that has left its range gets no gradient, and stays out for good. This function stops a gradient
# only where descent would lead further out:


# %%
class InwardClip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, limit):
        ctx.limit, shifted = limit, x + bias
        ctx.save_for_backward(shifted)
        return shifted.clamp(-limit, limit)

    @staticmethod
    def backward(ctx, g):
        (shifted,) = ctx.saved_tensors
        g = g.masked_fill((shifted.abs() > ctx.limit) & (g * shifted < 0), 0.0)
        return g, g.sum(0), None


torch_x = torch.tensor([[-2.0, 0.5, 2.0]], requires_grad=True)
InwardClip.apply(torch_x, torch.zeros(3), 1.0).sum().backward()
print(torch_x.grad)

# %% [markdown]
# **Given** `x` of shape `(n, d)`, `bias` of shape `(d,)`, and a Python number `limit`.
#
# **Asked** for the same function in JAX, with the same gradients by `x` and `bias`.
#
# **Checked** under `jax.jit` and `jax.grad` against PyTorch, with random cotangents.


# %% tags=["stub"]
def inward_clip(x, bias, limit):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
@partial(jax.custom_vjp, nondiff_argnums=(2,))
def inward_clip(x, bias, limit):
    return jnp.clip(x + bias, -limit, limit)


def inward_clip_fwd(x, bias, limit):
    return inward_clip(x, bias, limit), x + bias


def inward_clip_bwd(limit, shifted, g):
    blocked = (jnp.abs(shifted) > limit) & (g * shifted < 0)
    g = jnp.where(blocked, 0, g)
    return g, g.sum(0)


inward_clip.defvjp(inward_clip_fwd, inward_clip_bwd)

# %%
checks.inward_clip(inward_clip)


# %% [markdown]
# ## Exercise 2: The derivative of a solution (6 minutes)
#
# Kepler's equation `E - e sin E = M` has no closed solution; Newton's method finds `E` from the mean anomaly `M` and
# the eccentricity `e`. The loop ends when values say so, and has no backward pass:


# %%
def solve(mean, e):
    def turn(carry):
        angle, _, turns = carry
        step = (angle - e * jnp.sin(angle) - mean) / (1 - e * jnp.cos(angle))
        return angle - step, jnp.abs(step), turns + 1

    def go_on(carry):
        return (carry[1] > 1e-5) & (carry[2] < 50)

    return lax.while_loop(go_on, turn, (mean, jnp.ones_like(mean), 0))[0]


angle = solve(jnp.float32(1.0), jnp.float32(0.5))
print(f"E = {angle:.4f}, E - e sin E = {angle - 0.5 * jnp.sin(angle):.4f}")
try:
    jax.grad(solve)(1.0, 0.5)
except ValueError as error:
    print(str(error)[:60])

# %% [markdown]
# **Given** `solve`, and scalars `mean` and `e`.
#
# **Asked** for `kepler(mean, e)`: the value of `solve`, with derivatives by both arguments, forward and backward, of
# any order, which do not run through the loop.
#
# **Checked** in float64 against PyTorch's autograd through thirty turns: gradients, a `jvp`, second derivatives by
# reverse mode twice, and under `vmap`.


# %% tags=["stub"]
def kepler(mean, e):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
@jax.custom_jvp
def kepler(mean, e):
    return solve(mean, e)


@kepler.defjvp
def kepler_jvp(primals, tangents):
    (mean, e), (mean_dot, e_dot) = primals, tangents
    angle = kepler(mean, e)
    return angle, (mean_dot + jnp.sin(angle) * e_dot) / (1 - e * jnp.cos(angle))


# %%
checks.implicit_root(kepler)

# %% [markdown]
# ## Exercise 3: Segments (4 minutes)
#
# PyTorch runs a stack of blocks in segments and keeps the input of each (all but the last, which it does not
# checkpoint):

# %%
torch_blocks = [torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()) for _ in range(12)]
kept = []
with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
    checkpoint_sequential(torch_blocks, 4, torch.ones(2, 4, requires_grad=True), use_reentrant=False)
print("tensors kept:", len(kept), "by checkpoint_sequential of 12 blocks in 4 segments")

# %% [markdown]
# **Given** `block(x, w)`, which returns an array of the shape of `x`; `weights` of shape `(n, ...)`, those of the first
# block first; `x`; and `segment`, a divisor of `n`: how many blocks make a segment.
#
# **Asked** for the output of the `n` blocks, so that between forward and backward only the inputs of the segments are
# kept. Checkpoint all segments, the last one too.
#
# **Checked** against PyTorch, value and gradients; and by counting what the pullback of `jax.vjp` holds.


# %% tags=["stub"]
def in_segments(block, weights, x, segment):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def in_segments(block, weights, x, segment):
    @jax.checkpoint
    def through(x, group):
        return lax.scan(lambda x, w: (block(x, w), None), x, group)

    groups = weights.reshape(-1, segment, *weights.shape[1:])
    return lax.scan(through, x, groups)[0]


# %%
checks.checkpointed_segments(in_segments)

# %% [markdown]
# Back to the [lesson](../09b_custom_rules.ipynb), or on to the next one:
# [10 · The Titanic loop, faster rung by rung](../10_jit_speed.ipynb). [Solutions](../solutions/09b_custom_rules.ipynb).
