"""torch's Dataset and DataLoader over NumPy rows, and the collate functions that leave torch's world.

Lessons: 01a_titanic_torch, 01b_titanic_nnx. Needs torch; `jax_collate` also imports JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from course.batching import Tree, check_structure, checked_batch_size, numpy_collate

if TYPE_CHECKING:  # it is imported where it is used
    import jax


class Passengers(Dataset):
    """Rows x (n, d) and labels y (n,) behind torch's map-style Dataset interface.

    Taught in 01a_titanic_torch.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.float32]:
        return self.x[index], self.y[index]


def make_loader(
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    seed: int,
    collate_fn: Callable[[list[Any]], object] | None = None,
) -> DataLoader:
    """A DataLoader that shuffles by its own generator, so that every framework sees the same batches.

    The short last batch is dropped: under `jit` every new batch shape is compiled again. There are no worker
    processes: they would fork a process in which JAX runs threads, and hang. Lesson: 01a_titanic_torch.

    Args:
      x: features, (n, d) float, finite.
      y: labels, (n,) float, finite.
      batch_size: rows per batch, 1 <= batch_size <= n.
      seed: the same seed gives the same sequence of batches; every epoch is shuffled anew.
      collate_fn: turns a list of samples into a batch; torch's own where None.
    Raises:
      ValueError: x and y differ in length, y is not one-dimensional, the batch size does not fit, or x or y holds
        anything but finite numbers.
      TypeError: the batch size is no integer.
    """
    if np.ndim(x) < 2 or np.ndim(y) != 1 or len(x) != len(y):
        raise ValueError(
            f"expected x (n, d) and y (n,), got {np.shape(x)} and {np.shape(y)}; flatten the labels with y.ravel()"
        )
    for name, values in (("x", np.asarray(x)), ("y", np.asarray(y))):
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            got = f"{values.dtype} values" if values.dtype.kind not in "biuf" else "NaN or infinity"
            raise ValueError(f"expected finite numbers in {name}, got {got}; fill missing values, make numbers of text")
    batch_size = checked_batch_size(batch_size, len(x))
    shuffle = torch.Generator().manual_seed(seed)
    return DataLoader(
        Passengers(x, y), batch_size, shuffle=True, drop_last=True, generator=shuffle, collate_fn=collate_fn
    )


def torch_to_numpy_collate(samples: Sequence[Any]) -> Tree:
    """torch's default collate, then NumPy views of its tensors; for datasets whose samples are tensors.

    Args:
      samples: B samples of one structure, leaves as torch's `default_collate` takes them.
    Returns:
      The same structure with (B, *shape) NumPy leaves that share the tensors' memory; a text stays in a tuple of B.
    Raises:
      ValueError: there are no samples, or their structures differ.
    """
    check_structure(samples)
    return _to_numpy(default_collate(list(samples)))


def _to_numpy(batch: Any) -> Tree:
    if isinstance(batch, torch.Tensor):
        return batch.numpy()
    if isinstance(batch, str | bytes):
        return batch
    if isinstance(batch, Mapping):
        return {key: _to_numpy(value) for key, value in batch.items()}
    return tuple(_to_numpy(value) for value in batch)


def jax_collate(samples: Sequence[Any]) -> Tree:
    """`numpy_collate`, then one copy to JAX's default device: convenient, and slower than converting later.

    Args:
      samples: B samples of one structure; a leaf is an array or a number.
    Returns:
      The same structure with (B, *shape) `jax.Array` leaves; 64-bit leaves become 32-bit unless x64 is on.
    Raises:
      ValueError: as for `numpy_collate`; or a leaf is a text, or a number that 32 bits do not hold.
    """
    import jax

    return jax.tree.map(_to_jax, numpy_collate(samples))


def _to_jax(leaf: np.ndarray) -> jax.Array:
    import jax.numpy as jnp

    if leaf.dtype.kind in "SU":
        raise ValueError(
            f"expected numbers, got {str(leaf[0])!r}; JAX holds no text: use numpy_collate, or number the texts"
        )
    with np.errstate(over="ignore"):  # told below, and with the number
        array = jnp.asarray(leaf)
    if array.dtype != leaf.dtype:
        back = np.asarray(array)
        kept = back == leaf if leaf.dtype.kind in "iu" else np.isfinite(back) == np.isfinite(leaf)
        if not kept.all():
            raise ValueError(
                f"expected numbers that {array.dtype} holds, got {leaf[~kept][0]}; turn on x64 before the first array, "
                "or make them smaller: ids can be numbered anew"
            )
    return array
