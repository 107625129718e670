# %% [markdown]
# # 13b · Exercises: Collectives by hand
#
# **Can you write what each device does, and what it must tell the others?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../13b_collectives_by_hand.ipynb). Each function runs once on each device, inside
# `shard_map`, on the part of the data that lies there; the axis of the mesh is `"data"`. To try one without devices,
# let `jax.vmap(f, axis_name="data")` stand for `shard_map`: axis 0 is then the devices, and collectives work. Fill in
# the cells that say `your turn` and run the check below each. `checks.NAME.hint()` prints one hint at a time,
# `checks.NAME.solution()` the solution, and `checks.progress()` what is done. The minutes count reading and typing;
# thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks

# %% [markdown]
# ## Exercise 1: A mean over devices that are not equally full (2 minutes)
#
# ```python
# loss = (values * weight).sum() / weight.sum()        # on each rank, of what it has
# dist.all_reduce(loss)
# loss /= dist.get_world_size()
# ```
#
# **Given** `values` and `weight`, each `(rows,)`: the losses of this device's rows, and 0 for those that are padding.
# The code above, often seen, is wrong, for one device may have more padding than another.
#
# **Asked** for the weighted mean over the rows of all devices, on every device.
#
# **Checked** on the whole with NumPy, with more padding on some devices.


# %% tags=["stub"]
def global_mean(values, weight):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def global_mean(values, weight):
    total, weights = jax.lax.psum(((values * weight).sum(), weight.sum()), "data")
    return total / weights


# %%
checks.weighted_mean_of_all(global_mean)

# %% [markdown]
# ## Exercise 2: A sum that goes round (2 minutes)
#
# **Given** this device's `x` and the number of `devices`.
#
# **Asked** for the sum of all devices' `x`, on every device, with `jax.lax.ppermute` as the only collective.
#
# **Checked** on every device, and by the primitives in your function.


# %% tags=["stub"]
def ring_sum(x, devices):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def ring_sum(x, devices):
    to_the_next = [(sender, (sender + 1) % devices) for sender in range(devices)]
    total = travelling = x
    for _ in range(devices - 1):
        travelling = jax.lax.ppermute(travelling, "data", to_the_next)
        total = total + travelling
    return total


# %%
checks.sum_by_ring(ring_sum)

# %% [markdown]
# ## Exercise 3: Dropout on eight devices (2 minutes)
#
# **Given** a `key`, the same on all devices, this device's `x`, and `rate`, the share that is dropped.
#
# **Asked** for dropout as in torch: what is dropped becomes 0, what is kept is scaled so that the mean stays; and each
# device drops other places.
#
# **Checked** on eight devices: masks that differ from each other and with the key, and the same ones for the same key.


# %% tags=["stub"]
def dropout(key, x, rate):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def dropout(key, x, rate):
    own = jax.random.fold_in(key, jax.lax.axis_index("data"))
    keep = jax.random.bernoulli(own, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


# %%
checks.dropout_on_each(dropout)

# %% [markdown]
# ## Exercise 4: Micro-batches that stay at home (2 minutes)
#
# **Given** `rows` of shape `(B, ...)`, a whole batch under `jit`, cut along axis 0 over devices: the first `B /
# devices` rows lie on device 0, and so on. And `count`, which divides the rows of each device.
#
# **Asked** for an array `(count, B / count, ...)` of micro-batches which, cut along axis 1, leaves every row on its
# device. You do not need to know how many devices there are.
#
# **Checked** for four and eight devices: the shape, that no row is lost, and on which device each one lies.


# %% tags=["stub"]
def micro_batches(rows, count):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def micro_batches(rows, count):
    return rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1)


# %%
checks.striped_micro_batches(micro_batches)

# %% [markdown]
# Back to the [lesson](../13b_collectives_by_hand.ipynb), or on to the next one:
# [14 · Many processes](../14_many_processes.ipynb). [Solutions](../solutions/13b_collectives_by_hand.ipynb).
