# %% [markdown]
# # 08c · Exercises: Looking inside
#
# **Can you mend what runs without an error and is wrong?** (10 minutes)

# %% [markdown]
# Three exercises to the [lesson](../08c_debugging.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import torch
from jax.experimental import checkify

from course import checks

# %% [markdown]
# ## Exercise 1: Distances without NaN (3 minutes)
#
# Each point is at distance 0 from itself, and PyTorch's `cdist` knows what to do with the gradient there:

# %%
torch_points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]], requires_grad=True)
torch_table = torch.cdist(torch_points, torch_points)
torch_table.sum().backward()
print(torch_table.tolist(), torch_points.grad.tolist(), sep="\n")

# %% [markdown]
# **Given** points `x` of shape `(n, d)`, some of which may coincide.
#
# **Asked** for their distances, `(n, n)`, exactly 0 where points coincide, and with PyTorch's gradient: a pair that
# coincides adds nothing to it.
#
# **Checked** against `torch.cdist`, values and gradients, first with points that are all apart.


# %% tags=["stub"]
def distances(x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def distances(x):
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    safe = jnp.where(squared > 0, squared, 1.0)
    return jnp.where(squared > 0, jnp.sqrt(safe), 0.0)


# %%
checks.distance_gradient(distances)


# %% [markdown]
# ## Exercise 2: A key for each draw (5 minutes)
#
# This augmentation was ported from PyTorch, where each draw moves the generator on. It runs, and its images are wrong.


# %%
def augmented_with_one_key(key, images):  # (n, h, w)
    flip = jax.random.bernoulli(key, 0.5, (len(images), 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    for _ in range(2):  # two layers of noise
        images = images + 0.1 * jax.random.normal(key, images.shape)
    dropped = jax.random.bernoulli(key, 0.25, images.shape)
    return jnp.where(dropped, 0.0, images)


black = augmented_with_one_key(jax.random.key(0), jnp.zeros((100, 8, 8)))
print(f"noise of the pixels that are kept: mean {black[black != 0].mean():.3f}, and 0 is due")

# %% [markdown]
# **Given** a key and `images` of shape `(n, h, w)`.
#
# **Asked** for the same augmentation, in which no key is used twice. The order stays: flips, two layers of noise,
# dropped pixels.
#
# **Checked** under `jax.jit` with `jax.debug_key_reuse`, and by mean, spread and shares of what comes out.


# %% tags=["stub"]
def augmented(key, images):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def augmented(key, images):
    flip_key, *noise_keys, drop_key = jax.random.split(key, 4)
    flip = jax.random.bernoulli(flip_key, 0.5, (len(images), 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    for noise_key in noise_keys:
        images = images + 0.1 * jax.random.normal(noise_key, images.shape)
    dropped = jax.random.bernoulli(drop_key, 0.25, images.shape)
    return jnp.where(dropped, 0.0, images)


# %%
checks.unused_keys(augmented)


# %% [markdown]
# ## Exercise 3: As strict as PyTorch (4 minutes)
#
# PyTorch raises at an index out of range. JAX takes the nearest element that there is, and a NaN passes without a word
# in both.

# %%
try:
    torch.ones(3)[torch.tensor([5])]
except IndexError as error:
    print("torch:", error)
print("jax:  ", jnp.ones(3)[jnp.array([5])])

# %% [markdown]
# **Given** a function `f(*args)` of arrays.
#
# **Asked** for `strict(f)`: a function of the same arguments that returns what `f` returns, and raises an error if
# inside `f` an index is out of range, a result is NaN or something is divided by zero. It compiles once for arguments
# of the same shapes.
#
# **Checked** with good arguments and four kinds of bad ones; the check's `f` counts its traces.


# %% tags=["stub"]
def strict(f):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def strict(f):
    checked = jax.jit(checkify.checkify(f, errors=checkify.index_checks | checkify.float_checks))

    def call(*args):
        error, value = checked(*args)
        error.throw()
        return value

    return call


# %%
checks.strict_function(strict)

# %% [markdown]
# Back to the [lesson](../08c_debugging.ipynb), or on to the next one:
# [09 · Transformations](../09_transformations.ipynb). [Solutions](../solutions/08c_debugging.ipynb).
