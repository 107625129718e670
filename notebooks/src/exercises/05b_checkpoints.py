# %% [markdown]
# # 05b · Exercises: Checkpoints
#
# **Can a run of yours be killed anywhere, and go on?** (10 minutes)

# %% [markdown]
# Three exercises to the [lesson](../05b_checkpoints.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from course import checks

# %% [markdown]
# ## Exercise 1: The place in the data (3 minutes)
#
# ```python
# generator = torch.Generator().manual_seed(seed)
# loader = DataLoader(dataset, size, shuffle=True, drop_last=True, generator=generator)
# for epoch in range(epochs):
#     for batch in loader:  # a killed run can't begin in the middle
#         ...
# ```
#
# **Given** a `seed`, the number of a training step from 0 on, counted over all epochs, the number of `rows` in the data
# and the `size` of a batch.
#
# **Asked** for the row numbers of that step's batch, of shape `(size,)`, from these four numbers alone: then the step
# is the whole place in the data. Each epoch shuffles all rows anew, cuts them into `rows // size` batches, and leaves
# out the rest.
#
# **Checked** by asking for the batches of eight epochs in any order: no row twice in an epoch, another order in each,
# other epochs for another seed.


# %% tags=["stub"]
def batch_at(seed, step, rows, size):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def batch_at(seed, step, rows, size):
    epoch, place = divmod(step, rows // size)
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return order[place * size : (place + 1) * size]


# %%
checks.resumable_batches(batch_at)

# %% [markdown]
# ## Exercise 2: Strict (4 minutes)
#
# torch's `load_state_dict` refuses a file that does not fit, and its message lists all that is wrong. Files of
# safetensors are flat, and JAX's trees are not.
#
# **Given** `arrays`, a dict from names like `"blocks.first.bias"` to NumPy arrays, in any order, and `params`, a nested
# dict of arrays, as an example.
#
# **Asked** for a tree like `params` with the file's values, each in the dtype that it has in `params`. Where names are
# missing or unexpected, or a shape differs, raise a ValueError whose text names every array that is at fault, and no
# other.
#
# **Checked** with a file that fits, and with five that don't.


# %% tags=["stub"]
def load_strict(arrays, params):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def load_strict(arrays, params):
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree.leaves_with_path(params)
    }
    faults = [f"missing {name}" for name in leaves if name not in arrays]
    faults += [f"unexpected {name}" for name in arrays if name not in leaves]
    for name in leaves.keys() & arrays.keys():
        if leaves[name].shape != arrays[name].shape:
            faults.append(f"{name}: expected {leaves[name].shape}, got {arrays[name].shape}")
    if faults:
        raise ValueError("; ".join(faults))
    found = [jnp.asarray(arrays[name], leaf.dtype) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(params), found)


# %%
checks.strict_loading(load_strict)

# %% [markdown]
# ## Exercise 3: A run in a folder (2 minutes)
#
# **Given** a `run`, a dict with `"params"`, `"opt_state"` (of an Optax rule), `"key"` (a PRNG key) and `"step"`; an
# absolute path `folder`; and for reading an `example`, a run of the same kind with other values.
#
# **Asked** for two functions, with Orbax: `save_run` writes the run, and replaces one that is there; when it returns,
# everything is on disk. `load_run` returns the run, fit to go on.
#
# **Checked** with two saves in a temporary folder, which is moved before it is read: every part, then two more steps,
# to the bit.


# %% tags=["stub"]
def save_run(folder, run):
    raise NotImplementedError("your turn")


def load_run(folder, example):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def save_run(folder, run):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, run, force=True)


def load_run(folder, example):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder, example)


# %%
checks.saved_run(save_run, load_run)

# %% [markdown]
# Back to the [lesson](../05b_checkpoints.ipynb), or on to the [capstone](capstone_05_classifier.ipynb) and the next
# lesson: [06 · Porting layers](../06_porting_layers.ipynb). [Solutions](../solutions/05b_checkpoints.ipynb).
