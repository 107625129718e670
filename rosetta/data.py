"""Data

JAX has no data loader. PyTorch's stays, with a collate function that makes NumPy arrays, or the rows are picked from
arrays that fit into memory. Batches become device arrays outside the loader, and all have one shape: `jit` compiles
each shape anew.
"""

import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, TensorDataset, default_collate, random_split

from rosetta.kinds import Pair, integers, key, normal

DATA = "data are not differentiated"


def samples(rng):
    """Four samples as a dataset gives them: a row of features and a label."""
    return [(rng.normal(size=3).astype(np.float32), label) for label in range(4)]


def sequences(rng):
    return [rng.normal(size=n).astype(np.float32) for n in (2, 5, 3)]


def fork():
    """A copy of this process, which ends at once."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


class Batches(Pair):
    """Batches in order"""

    inputs = {"x": normal(10, 3), "y": integers(0, 2, 10)}
    no_gradient = DATA
    note = "Without `drop_last` the short batch at the end is compiled as a program of its own."

    def torch(x, y):
        return list(DataLoader(TensorDataset(x, y), batch_size=4, drop_last=True))

    def jax(x, y):
        return [(x[i : i + 4], y[i : i + 4]) for i in range(0, len(x) - 3, 4)]


class Shuffle(Pair):
    """Shuffled batches"""

    inputs = {"x": normal(12), "key": key()}
    no_gradient = DATA
    note = "A key for each epoch: `jax.random.fold_in(key, epoch)`. The order is another one than PyTorch's."

    def torch(x):
        batches = list(DataLoader(x, batch_size=4, shuffle=True))
        return torch.stack(batches).shape, torch.cat(batches).sort().values

    def jax(x, key):
        batches = jax.random.permutation(key, x).reshape(-1, 4)
        return batches.shape, jnp.sort(batches.ravel())


class Collate(Pair):
    """Collate samples into a batch"""

    inputs = {"samples": samples}
    no_gradient = DATA
    note = "A `collate_fn` for PyTorch's `DataLoader`. The copy to the device comes after it: `jnp.asarray`."

    def torch(samples):
        return default_collate(samples)

    def jax(samples):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *samples)


class RandomSplit(Pair):
    """Split into training and test rows"""

    inputs = {"x": normal(10), "key": key()}
    no_gradient = DATA

    def torch(x):
        train, test = random_split(x, [7, 3])
        return len(train), len(test), torch.tensor([*train, *test]).sort().values

    def jax(x, key):
        train, test = jnp.split(jax.random.permutation(key, x), [7])
        return len(train), len(test), jnp.sort(jnp.concatenate([train, test]))


class Standardise(Pair):
    """Standardise by the training rows"""

    inputs = {"train": normal(8, 3), "test": normal(4, 3)}
    trap = "PyTorch's `std` divides by N - 1, JAX's by N: features of another scale, by 7 % with 8 rows."
    lesson = ("00_start_here", "x.std()")

    def torch(train, test):
        return (test - train.mean(0)) / train.std(0)

    def jax(train, test):
        return (test - train.mean(0)) / train.std(0)

    def fix(train, test):
        return (test - train.mean(0)) / train.std(0, ddof=1)

    def differ(theirs, ours):
        return np.allclose(ours, (8 / 7) ** 0.5 * theirs.numpy(), rtol=1e-4)


class PadSequences(Pair):
    """Pad sequences to one length"""

    inputs = {"sequences": sequences}
    no_gradient = DATA
    note = "For `jit`, pad to a few fixed lengths, not to the longest of each batch."

    def torch(sequences):
        return pad_sequence([torch.from_numpy(s) for s in sequences], batch_first=True)

    def jax(sequences):
        longest = max(map(len, sequences))
        return jnp.stack([jnp.pad(s, (0, longest - len(s))) for s in sequences])


class PaddingMask(Pair):
    """Mean over what is not padding"""

    inputs = {"x": normal(3, 5), "lengths": lambda rng: np.array([2, 5, 3])}

    def torch(x, lengths):
        mask = torch.arange(x.shape[1]) < lengths[:, None]
        return (x * mask).sum(1) / lengths

    def jax(x, lengths):
        mask = jnp.arange(x.shape[1]) < lengths[:, None]
        return x.mean(1, where=mask)


class ToDevice(Pair):
    """Send batches to the device without waiting"""

    inputs = {"x": normal(12, 3)}
    no_gradient = DATA
    note = "`device_put` returns at once. To prefetch, send the next batch before you run the step on this one."

    def torch(x):
        return [batch.to("cpu", non_blocking=True) for batch in DataLoader(x, batch_size=4)]

    def jax(x):
        return [jax.device_put(batch) for batch in np.split(np.asarray(x), 3)]


class Workers(Pair):
    """Worker processes"""

    inputs = {"x": normal(4, 3)}
    no_gradient = DATA
    trap = (
        "On Linux a `DataLoader` forks its workers. JAX runs threads: a forked copy of the process inherits their "
        "locks, and may hang."
    )
    lesson = ("00_start_here", "os.fork()")
    note = "Use `num_workers=0`, `multiprocessing_context='spawn'`, a thread that fetches ahead, or Grain."

    def torch(x):
        return DataLoader(x, batch_size=2, num_workers=1)

    def jax(x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fork()  # os.fork(), what that loader does for each worker
        return [str(warning.message) for warning in caught]

    def differ(theirs, ours):
        return theirs.multiprocessing_context is None and any("JAX is multithreaded" in words for words in ours)
