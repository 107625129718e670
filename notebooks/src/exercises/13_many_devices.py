# %% [markdown]
# # 13 · Exercises: One step on many devices
#
# **Can you say what each device holds before anything runs?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../13_many_devices.ipynb); none needs more than one device. Fill in the cells that say
# `your turn` and run the check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the
# solution, and `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import math

from jax.sharding import PartitionSpec as P

from course import checks

# %% [markdown]
# ## Exercise 1: What does a device hold? (2 minutes)
#
# ```python
# mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
# array = jax.device_put(jnp.zeros((64, 256), jnp.float32), NamedSharding(mesh, spec))
# ```
#
# **Given** this array, and one spec after the other.
#
# **Asked** for `a`, `b`, `c`: the shape, a tuple, of what one device holds under `P("data")`, under `P(None, "model")`,
# and under `P(("data", "model"))`; `d`: the bytes on one device under `P("model", "data")`; `e`: on how many devices
# each part lies under `P("model")`.
#
# **Checked** against JAX's own shardings.

# %% tags=["stub"]
shards = {"a": ..., "b": ..., "c": ..., "d": ..., "e": ...}

# %% tags=["solution"]
shards = {"a": (16, 256), "b": (64, 128), "c": (8, 256), "d": 32 * 64 * 4, "e": 4}

# %%
checks.shards_on_a_mesh(shards)

# %% [markdown]
# ## Exercise 2: From names to a spec (3 minutes)
#
# What Linen's `logical_to_mesh_sharding` does inside.
#
# **Given** `axes`, a tuple of logical names (or `None`), one for each axis of an array, and `rules`, a list of pairs
# `(name, mesh_axes)`, where `mesh_axes` is the name of a mesh axis or a tuple of such names.
#
# **Asked** for the `PartitionSpec`. A name without a rule is not cut. An axis of the mesh can be used once in a spec:
# an *earlier rule* has it, and the axis that comes too late is not cut.
#
# **Checked** against flax, for names and clashes drawn at random.


# %% tags=["stub"]
def spec_of(axes, rules):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def spec_of(axes, rules):
    found, taken = {}, set()
    for name, mesh_axes in rules:
        wanted = {mesh_axes} if isinstance(mesh_axes, str) else set(mesh_axes)
        if name in axes and not wanted & taken:
            found[name] = mesh_axes
            taken |= wanted
    return P(*(found.get(axis) for axis in axes))


# %%
checks.spec_from_rules(spec_of)

# %% [markdown]
# ## Exercise 3: Will it fit? (4 minutes)
#
# **Given** `shapes`, a dict from a weight's name to its shape, `specs`, from its name to its `PartitionSpec`, and
# `mesh`, from the name of a mesh axis to its size: `{"data": 4, "model": 2}`.
#
# **Asked** for the bytes that one device holds of the float32 weights together with Adam's moments, which lie as the
# weights do; a `ValueError` where a cut is not even.
#
# **Checked** against JAX's shardings, on three meshes.


# %% tags=["stub"]
def bytes_on_device(shapes, specs, mesh):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def bytes_on_device(shapes, specs, mesh):
    numbers = 0
    for name, shape in shapes.items():
        part = list(shape)
        for axis, entry in enumerate(specs[name]):
            names = (entry,) if isinstance(entry, str) else entry or ()
            cuts = math.prod(mesh[one] for one in names)
            if part[axis] % cuts:
                raise ValueError(f"axis {axis} of {name} must be a multiple of {cuts}, got {part[axis]}; pad it")
            part[axis] //= cuts
        numbers += math.prod(part)
    return 3 * 4 * numbers


# %%
checks.training_bytes(bytes_on_device)

# %% [markdown]
# ## Exercise 4: FSDP for a model that has no names (2 minutes)
#
# **Given** the `shape` of a weight and a number of `devices` along the mesh axis `"data"`.
#
# **Asked** for a `PartitionSpec` that cuts the longest axis that `devices` divides, the first of equally long ones; and
# for `P()` where none can be cut.
#
# **Checked** by brute force, for kernels, biases, convolutions, scalars and lengths that don't divide.


# %% tags=["stub"]
def fsdp_spec(shape, devices):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def fsdp_spec(shape, devices):
    candidates = [axis for axis, length in enumerate(shape) if length % devices == 0]
    if not candidates:
        return P()
    axis = max(candidates, key=lambda axis: shape[axis])
    return P(*[None] * axis, "data")


# %%
checks.fsdp_axis(fsdp_spec)

# %% [markdown]
# Back to the [lesson](../13_many_devices.ipynb), or on to the next one:
# [13b · Collectives by hand](../13b_collectives_by_hand.ipynb). [Solutions](../solutions/13_many_devices.ipynb).
