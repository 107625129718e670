# %% [markdown]
# # 07b · Exercises: A real checkpoint
#
# **Can you bring what stands around a published network over as well?** (10 minutes)

# %% [markdown]
# Three exercises to the [lesson](../07b_real_checkpoint.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F

from course import checks

# %% [markdown]
# ## Exercise 1: Frames, as torch cuts them (3 minutes)
#
# A tracker's package cuts the recording in torch. It pads, so that the first frame's middle is the first sample, and
# some frames may be silent.


# %%
def padded_frames(audio, size, hop):  # (n,) -> (count, size)
    audio = F.pad(audio[None], (size // 2, size // 2), mode="reflect")[0]
    cut = audio.unfold(0, size, hop)
    cut = cut - cut.mean(dim=1, keepdim=True)
    return cut / cut.std(dim=1, keepdim=True).clamp(min=1e-10)


# %% [markdown]
# **Given** this function; in the JAX version `size` and `hop` are static under `jax.jit`.
#
# **Asked** for the same function of a JAX array, without a Python loop.
#
# **Checked** against torch, under `jax.jit`, for random recordings with a silent stretch; and that as many operations
# are recorded for a long recording as for a short one.


# %% tags=["stub"]
def torch_frames(audio, size, hop):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def torch_frames(audio, size, hop):
    audio = jnp.pad(audio, size // 2, mode="reflect")
    starts = jnp.arange(0, len(audio) - size + 1, hop)
    cut = audio[starts[:, None] + jnp.arange(size)]
    cut = cut - cut.mean(axis=1, keepdims=True)
    return cut / jnp.maximum(cut.std(axis=1, keepdims=True, ddof=1), 1e-10)  # torch's std divides by n - 1


# %%
checks.torch_frames(torch_frames)

# %% [markdown]
# ## Exercise 2: A norm that is gone (2 minutes)
#
# In most networks BatchNorm follows a convolution at once, `norm(conv(x))`. In eval mode both are linear, so one
# convolution can do the work of two:
#
# ```python
# fused = torch.nn.utils.fuse_conv_bn_eval(conv, norm)  # a Conv2d
# ```
#
# (Not in CREPE: there ReLU stands between the two.)
#
# **Given** flax's arrays: `conv`, a dict with `kernel` (H, W, in, out) and, if the layer has one, `bias` (out,);
# `norm`, a dict with `scale`, `bias`, `mean` and `var`, each (out,); and `epsilon`.
#
# **Asked** for the fused layer's arrays, a dict with `kernel` and `bias`.
#
# **Checked** against torch's function, carried over by hand, with a bias and without one.


# %% tags=["stub"]
def folded_norm(conv, norm, epsilon):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def folded_norm(conv, norm, epsilon):
    factor = norm["scale"] / jnp.sqrt(norm["var"] + epsilon)  # (out,), the kernel's last axis
    bias = (conv.get("bias", 0.0) - norm["mean"]) * factor + norm["bias"]
    return {"kernel": conv["kernel"] * factor, "bias": bias}


# %%
checks.folded_norm(folded_norm)

# %% [markdown]
# ## Exercise 3: A path through the frames (6 minutes)
#
# A tracker that takes each frame's largest likelihood jumps by an octave now and then. The remedy is Viterbi's: of
# all paths through the frames, the one with the largest sum of scores and of log probabilities of its steps. First
# forwards, with the best way into each state; then backwards along the ways taken.


# %%
def torch_path(scores, steps):  # (T, S), and (S, S): from row to column -> (T,), the states
    best, ways = scores[0], []
    for score in scores[1:]:
        through = best[:, None] + steps  # (from, to)
        ways.append(through.argmax(dim=0))
        best = through.max(dim=0).values + score
    path = [best.argmax()]
    for way in reversed(ways):
        path.append(way[path[-1]])
    return torch.stack(path[::-1])


# %% [markdown]
# **Given** these two loops.
#
# **Asked** for the same function in JAX, with two scans. `jax.lax.scan(…, reverse=True)` reads from the end, and its
# outputs still stand in the order of its inputs.
#
# **Checked** against all paths that there are, for random scores, with steps that are not symmetric; and that as many
# operations are recorded for 40 frames as for 5.


# %% tags=["stub"]
def smoothed_path(scores, steps):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def smoothed_path(scores, steps):
    def forwards(best, score):
        through = best[:, None] + steps  # (from, to)
        return through.max(axis=0) + score, through.argmax(axis=0)

    def backwards(state, way):
        return way[state], way[state]

    best, ways = jax.lax.scan(forwards, scores[0], scores[1:])
    last = best.argmax()
    _, path = jax.lax.scan(backwards, last, ways, reverse=True)
    return jnp.append(path, last)


# %%
checks.smoothed_path(smoothed_path)

# %% [markdown]
# Back to the [lesson](../07b_real_checkpoint.ipynb), or on to the capstone:
# [a sequence model with packed input](capstone_07_sequence.ipynb). [Solutions](../solutions/07b_real_checkpoint.ipynb).
