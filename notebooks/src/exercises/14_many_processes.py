# %% [markdown]
# # 14 · Exercises: Many processes
#
# **Does your program do the same on every process, where it must, and something else where it may?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../14_many_processes.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top. All four are functions
# of one process; the checks call them as every process would.

# %%
import jax
import numpy as np

from course import checks

# %% [markdown]
# ## Exercise 1: Batches of an evaluation (2 minutes)
#
# ```python
# sampler = DistributedSampler(held_out, processes, process, shuffle=False)
# loader = DataLoader(held_out, size, sampler=sampler)  # repeats rows, and ends with a short batch
# ```
#
# **Given** the number of this `process`, how many `processes` there are, the number of `rows`, and the `size` of a
# batch on one process.
#
# **Asked** for this process's batches, a list of pairs `(row numbers, weights)`, each of shape `(size,)`. Over all
# processes together each row has the weight 1 once; what fills up has weight 0, and row numbers that exist. All
# processes have equally many batches, and no more than needed.
#
# **Checked** with random sizes, some of them with fewer rows than one batch of all processes.


# %% tags=["stub"]
def evaluation_batches(process, processes, rows, size):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def evaluation_batches(process, processes, rows, size):
    count = -(-rows // (processes * size))
    places = np.arange(process, processes * count * size, processes).reshape(count, size)
    return [(np.minimum(part, rows - 1), (part < rows).astype(float)) for part in places]


# %%
checks.weighted_batches(evaluation_batches)

# %% [markdown]
# ## Exercise 2: The same, or not (2 minutes)
#
# A script is ported to several processes. It had one seed for everything:
#
# ```python
# torch.manual_seed(seed + rank)  # weights differ by rank now; and rank 1's step 0 ...
# ```
#
# **Given** the `seed`, the number of the `process`, of the `epoch`, and of the `step`, counted over all epochs.
#
# **Asked** for a dict of three PRNG keys. `"weights"`: the same on all processes, and in every epoch and step.
# `"order"`: shuffles the whole dataset before it is cut into shares, anew in each epoch. `"noise"`: is added on the
# host to the rows of this process alone, another one on each process and in each step. No key serves twice, and from
# none that is used are others made.
#
# **Checked** by comparing the keys of six processes over three epochs, for two seeds.


# %% tags=["stub"]
def keys_of(seed, process, epoch, step):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def keys_of(seed, process, epoch, step):
    weights, order, noise = jax.random.split(jax.random.key(seed), 3)
    noise = jax.random.fold_in(jax.random.fold_in(noise, process), step)
    return {"weights": weights, "order": jax.random.fold_in(order, epoch), "noise": noise}


# %%
checks.keys_of_processes(keys_of)

# %% [markdown]
# ## Exercise 3: An early stop that hangs (5 minutes)
#
# ```python
# best, waited = float("inf"), 0
# for epoch in range(epochs):
#     train_epoch()      # all-reduces gradients: every rank must be there
#     loss = evaluate()  # on this rank's rows
#     best, waited = (loss, 0) if loss < best else (best, waited + 1)
#     if waited == patience:
#         break          # and the other ranks wait in train_epoch
# ```
#
# **Given** `train_epoch()`, a collective; `evaluate()`, which returns the loss on the rows of this process after that
# epoch; `all_mean(number)`, a collective that returns the mean over all processes; `patience` and `epochs`. The shares
# are of one size.
#
# **Asked** for the same early stop on the loss over all rows, so that all stop together. It returns how many epochs
# were trained.
#
# **Checked** with three processes, played by threads: a collective goes on once all three have called the same one.


# %% tags=["stub"]
def train(train_epoch, evaluate, all_mean, patience, epochs):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def train(train_epoch, evaluate, all_mean, patience, epochs):
    best, waited = float("inf"), 0
    for epoch in range(epochs):
        train_epoch()
        loss = all_mean(evaluate())
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == patience:
            return epoch + 1
    return epochs


# %%
checks.common_stop(train)

# %% [markdown]
# ## Exercise 4: Read under another sharding (4 minutes)
#
# A checkpoint is made of the parts that several processes wrote. A process of another mesh wants a region that may lie
# across some of them.
#
# **Given** `parts`, a list of pairs `(index, load)`: `index` is a tuple of slices, as `shard.index` has them (so
# `slice(None)` for an axis that is whole), and `load()` reads that part, an array. `wanted` is the index of the region,
# and `shape` that of the whole array.
#
# **Asked** for the region, a NumPy array of the parts' dtype. A part that holds nothing of it must not be loaded.
#
# **Checked** with arrays of two axes, cut in one way and read in another, with counts of what was loaded.


# %% tags=["stub"]
def read_region(parts, wanted, shape):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def read_region(parts, wanted, shape):
    def ranges(index):
        return [range(*cut.indices(n)) for cut, n in zip(index, shape, strict=True)]

    def within(both, outer):  # counted from where the outer one begins
        return tuple(slice(b.start - o.start, b.stop - o.start) for b, o in zip(both, outer, strict=True))

    region, due = None, ranges(wanted)
    for index, load in parts:
        held = ranges(index)
        both = [range(max(h.start, d.start), min(h.stop, d.stop)) for h, d in zip(held, due, strict=True)]
        if all(both):  # an empty range is false
            part = load()
            region = np.empty([len(d) for d in due], part.dtype) if region is None else region
            region[within(both, due)] = part[within(both, held)]
    return region


# %%
checks.region_of_parts(read_region)

# %% [markdown]
# Back to the [lesson](../14_many_processes.ipynb), or on to the next one:
# [15 · Ship it](../15_ship_it.ipynb). [Solutions](../solutions/14_many_processes.ipynb).
