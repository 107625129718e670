"""Data

JAX has no data loader. PyTorch's stays, with a collate function that makes NumPy arrays, or the rows are picked from
arrays that fit into memory. Batches become device arrays outside the loader, and all have one shape: `jit` compiles
each shape anew.
"""

import itertools
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)  # fmt: skip

from rosetta.kinds import Pair, folder, integers, key, normal

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
    also = (
        "utils.data.DataLoader",
        "utils.data.TensorDataset",
        "utils.data.BatchSampler",
        "utils.data.SequentialSampler",
    )
    no_gradient = DATA
    note = "Without `drop_last` the short batch at the end is compiled as a program of its own."

    def torch(x, y):
        return list(DataLoader(TensorDataset(x, y), batch_size=4, drop_last=True))

    def jax(x, y):
        return [(x[i : i + 4], y[i : i + 4]) for i in range(0, len(x) - 3, 4)]


class Shuffle(Pair):
    """Shuffled batches"""

    inputs = {"x": normal(12), "key": key()}
    also = ("utils.data.RandomSampler", "utils.data.SubsetRandomSampler")
    no_gradient = DATA
    note = (
        "A key for each epoch: `jax.random.fold_in(key, epoch)`. The order is another one than PyTorch's. Rows of "
        "several arrays: `order = jax.random.permutation(key, len(x))`, then `x[order], y[order]`."
    )

    def torch(x):
        batches = list(DataLoader(x, batch_size=4, shuffle=True))
        return torch.stack(batches).shape, torch.cat(batches).sort().values

    def jax(x, key):
        batches = jax.random.permutation(key, x).reshape(-1, 4)
        return batches.shape, jnp.sort(batches.ravel())

    def claims():
        key, x = jax.random.key(0), jnp.arange(100)
        orders = [jax.random.permutation(jax.random.fold_in(key, epoch), x) for epoch in range(2)]
        assert (orders[0] != orders[1]).any() and (orders[0] != x).any()


class Collate(Pair):
    """Collate samples into a batch"""

    inputs = {"samples": samples}
    also = ("utils.data.default_collate",)
    no_gradient = DATA
    note = "A `collate_fn` for PyTorch's `DataLoader`. The copy to the device comes after it: `jnp.asarray`."

    def torch(samples):
        return default_collate(samples)

    def jax(samples):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *samples)


class RandomSplit(Pair):
    """Split into training and test rows"""

    inputs = {"x": normal(10), "key": key()}
    also = ("utils.data.random_split",)
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
    lesson = ("00_start_here", "trap:same-word")

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
    also = ("nn.utils.rnn.pad_sequence",)
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
    lesson = ("00_start_here", "trap:workers")
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


class OwnDataset(Pair):
    """A dataset of your own"""

    inputs = {"x": normal(6, 3)}
    no_gradient = DATA
    also = ("utils.data.Dataset",)
    note = "What fits into memory needs no class: a transformation runs on the whole array, once."

    def torch(x):
        class Squares(Dataset):
            __len__ = lambda self: len(x)  # noqa: E731
            __getitem__ = lambda self, i: x[i] ** 2  # noqa: E731

        return next(iter(DataLoader(Squares(), batch_size=6)))

    def jax(x):
        return jax.vmap(lambda row: row**2)(x)


class Stream(Pair):
    """A stream of samples"""

    inputs = {"x": normal(7, 3)}
    no_gradient = DATA
    also = ("utils.data.IterableDataset", "utils.data.ChainDataset")
    note = "A generator; `itertools.chain` puts one after another. The short batch at the end is left out here."

    def torch(x):
        class Rows(IterableDataset):
            __iter__ = lambda self: iter(x)  # noqa: E731

        return list(DataLoader(ChainDataset([Rows(), Rows()]), batch_size=4, drop_last=True))

    def jax(x):
        rows = itertools.chain(x, x)  # zip takes four at a time
        return [jnp.stack(batch) for batch in zip(*[rows] * 4, strict=False)]


class ConcatAndSubset(Pair):
    """Join datasets and take some of the rows"""

    inputs = {"a": normal(4, 3), "b": normal(3, 3)}
    no_gradient = DATA
    also = ("utils.data.ConcatDataset", "utils.data.Subset")

    def torch(a, b):
        both = ConcatDataset([a, b])
        return default_collate([*Subset(both, [0, 2, 5])])

    def jax(a, b):
        both = jnp.concatenate([a, b])
        return both[jnp.array([0, 2, 5])]


class Together(Pair):
    """Two datasets side by side"""

    inputs = {"x": normal(4, 3), "y": integers(0, 2, 4)}
    no_gradient = DATA
    also = ("utils.data.StackDataset",)
    note = "One index goes through the whole tree."

    def torch(x, y):
        data = StackDataset(image=x, label=y)
        return default_collate([data[1], data[3]])

    def jax(x, y):
        data = {"image": x, "label": y}
        return jax.tree.map(lambda leaf: leaf[jnp.array([1, 3])], data)


class DictBatches(Pair):
    """Batches of dictionaries"""

    inputs = {"samples": lambda rng: [{"x": rng.normal(size=3).astype(np.float32), "y": i} for i in range(4)]}
    no_gradient = DATA
    note = "For a `DataLoader`'s `collate_fn`: NumPy arrays, whatever the shape of the sample."

    def torch(samples):
        loader = DataLoader(samples, batch_size=4)
        return next(iter(loader))

    def jax(samples):
        collate = lambda samples: jax.tree.map(lambda *leaves: np.stack(leaves), *samples)  # noqa: E731
        loader = DataLoader(samples, batch_size=4, collate_fn=collate)
        return next(iter(loader))


class WeightedSampler(Pair):
    """Draw rare classes more often"""

    inputs = {"key": key()}
    also = ("utils.data.WeightedRandomSampler",)

    def torch():
        weights = torch.tensor([0.0, 3.0, 0.0, 1.0])
        drawn = torch.tensor(list(WeightedRandomSampler(weights, num_samples=4000)))
        return drawn.unique(), abs((drawn == 1).float().mean() - 0.75) < 0.05

    def jax(key):
        weights = jnp.array([0.0, 3.0, 0.0, 1.0])
        drawn = jax.random.choice(key, 4, (4000,), p=weights)
        return jnp.unique(drawn), abs((drawn == 1).mean() - 0.75) < 0.05


class Bootstrap(Pair):
    """Draw rows with replacement"""

    inputs = {"x": normal(4), "key": key()}
    tolerance = 0.1  # means of 4000 draws, five deviations
    no_gradient = DATA
    also = ("utils.data.RandomSampler",)

    def torch(x):
        rows = torch.tensor(list(torch.utils.data.RandomSampler(x, replacement=True, num_samples=4000)))
        return rows.unique(), torch.stack([(x[rows] == row).float().mean() for row in x])

    def jax(x, key):
        rows = jax.random.randint(key, (4000,), 0, len(x))
        return jnp.unique(rows), jnp.stack([(x[rows] == row).mean() for row in x])


class SameOrder(Pair):
    """The same order again"""

    inputs = {"x": normal(8)}
    no_gradient = DATA
    also = ("utils.data.get_worker_info",)
    note = "No worker has a seed of its own: what augments a row is handed a key, `jax.random.fold_in(key, row)`."

    def torch(x):
        loader = DataLoader(x, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))
        again = DataLoader(x, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))
        first = next(iter(loader))
        return torch.equal(first, next(iter(again))), torch.equal(first, x)

    def jax(x):
        first = jax.random.permutation(jax.random.key(0), x)
        again = jax.random.permutation(jax.random.key(0), x)
        return jnp.array_equal(first, again), jnp.array_equal(first, x)


class Augment(Pair):
    """Augment each row with its own randomness"""

    inputs = {"x": normal(4, 6), "key": key()}
    no_gradient = "random draws"
    note = "`vmap` over keys draws for each row; in one compiled step, on the device."

    def torch(x):
        starts = torch.randint(0, 3, (len(x),))
        crops = torch.stack([row[s : s + 4] for row, s in zip(x, starts, strict=True)])
        return crops.shape, all((crops[i] == x[i, s : s + 4]).all() for i, s in enumerate(starts))

    def jax(x, key):
        starts = jax.random.randint(key, (len(x),), 0, 3)
        crops = jax.vmap(lambda row, s: jax.lax.dynamic_slice(row, (s,), (4,)))(x, starts)
        return crops.shape, all((crops[i] == x[i, s : s + 4]).all() for i, s in enumerate(starts))


class ShardOfRank(Pair):
    """The rows of each process"""

    inputs = {"x": normal(8)}
    no_gradient = DATA
    also = ("utils.data.DistributedSampler", "utils.data.distributed.DistributedSampler")
    note = (
        "For a permutation that is the same everywhere, shuffle with one key before. PyTorch repeats the first rows "
        "where the processes do not divide their number."
    )

    def torch(x):
        rank, world = 1, 2
        return x[list(DistributedSampler(x, num_replicas=world, rank=rank, shuffle=False))]

    def jax(x):
        rank, world = 1, 2  # jax.process_index(), jax.process_count()
        return x[rank::world]

    def claims():
        assert list(DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False)) == [1, 3, 0]


class MemoryMap(Pair):
    """Data larger than memory"""

    inputs = {"x": normal(8, 3), "folder": folder()}
    no_gradient = DATA
    also = ("torch.from_file",)
    note = "Only the rows that are asked for are read."

    def torch(x, folder):
        np.save(folder / "x.npy", x.numpy())
        rows = np.load(folder / "x.npy", mmap_mode="r")
        return torch.from_numpy(rows[[1, 5]])

    def jax(x, folder):
        np.save(folder / "x.npy", x)
        rows = np.load(folder / "x.npy", mmap_mode="r")
        return jnp.asarray(rows[[1, 5]])


class KFold(Pair):
    """Folds for cross-validation"""

    inputs = {"x": normal(9, 2)}
    no_gradient = DATA
    note = "Shuffle first. All folds in one `vmap` need equal sizes."

    def torch(x):
        folds = x.chunk(3)
        return [(torch.cat([*folds[:k], *folds[k + 1 :]]), folds[k]) for k in range(3)]

    def jax(x):
        folds = jnp.split(x, 3)
        return [(jnp.concatenate([*folds[:k], *folds[k + 1 :]]), folds[k]) for k in range(3)]


class PadLastBatch(Pair):
    """Keep the short last batch"""

    inputs = {"x": normal(10)}
    note = (
        "Padded and masked all batches have one shape, so `jit` compiles once; the mean runs over the rows that are "
        "there."
    )

    def torch(x):
        return torch.stack([batch.mean() for batch in x.split(4)])

    def jax(x):
        padded = jnp.pad(x, (0, -len(x) % 4)).reshape(-1, 4)
        mask = jnp.arange(padded.size).reshape(padded.shape) < len(x)
        return padded.mean(axis=1, where=mask)


class OwnOrder(Pair):
    """An order of your own (sampler)"""

    inputs = {"sequences": sequences}
    no_gradient = DATA
    also = ("utils.data.Sampler", "utils.data.BatchSampler")
    note = "A sampler is an array of indices. Sorted by length, batches of sequences need little padding."

    def torch(sequences):
        order = sorted(range(3), key=lambda i: len(sequences[i]))
        return [len(s[0]) for s in DataLoader([*sequences], batch_size=1, sampler=order)]

    def jax(sequences):
        order = np.argsort([len(s) for s in sequences])
        return [len(sequences[i]) for i in order]
