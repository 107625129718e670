"""Batches of NumPy rows: a collate function and the order in which an epoch visits the rows. Needs NumPy only.

Lesson: 01b_titanic_nnx.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def numpy_collate(samples: Sequence):
    """Stack samples into one batch of NumPy arrays, whatever tuples, lists or dicts they are made of.

    A `collate_fn` for torch's DataLoader that never makes a tensor.

    Args:
      samples: B samples of one structure; a leaf is an array or a number.
    Returns:
      The same structure with leaves stacked along a new first axis: (B, *shape), dtype of the leaves.
    Raises:
      ValueError: there are no samples, or their shapes or structures differ.
    Example:
      >>> numpy_collate([(np.zeros(3), 0.0), (np.ones(3), 1.0)])[0].shape
      (2, 3)
    """
    if len(samples) == 0:
        raise ValueError("expected at least one sample, got none; check the dataset's length and the sampler")
    try:
        return _collate(samples)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"expected samples of one structure and shape, got samples that differ ({error}); "
            "pad or crop them in the dataset"
        ) from None


def _collate(samples):
    """Taught in 01b_titanic_nnx as `numpy_collate`."""
    first = samples[0]
    if isinstance(first, dict):
        return {key: _collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(_collate(column) for column in zip(*samples, strict=True))
    return np.array(samples)


def epoch_permutations(rows: int, epochs: int, seed: int) -> np.ndarray:
    """The order in which each epoch visits the rows.

    Args:
      rows: number of rows in the dataset, >= 1.
      epochs: number of epochs, >= 1.
      seed: the same seed gives the same orders.
    Returns:
      (epochs, rows) int32; every row is a permutation of 0 … rows - 1.
    Raises:
      ValueError: rows or epochs below 1.
    """
    if rows < 1 or epochs < 1:
        raise ValueError(f"expected rows >= 1 and epochs >= 1, got rows={rows}, epochs={epochs}; nothing to visit")
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(rows) for _ in range(epochs)]).astype(np.int32)


def batches(arrays: Sequence[np.ndarray], order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield full batches of rows in the given order; a short last batch is dropped, as with drop_last=True.

    Args:
      arrays: arrays with one row a sample: (n, ...) each.
      order: row numbers in the order of the visit, (n,) integers; one row of `epoch_permutations`.
      batch_size: rows per batch, 1 <= batch_size <= n.
    Yields:
      One (batch_size, ...) array for each of `arrays`.
    Raises:
      ValueError: the arrays differ in length, or the batch size does not fit.
    """
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        raise ValueError(f"expected arrays of one length, got {sorted(lengths)}; features and labels have come apart")
    if not 1 <= batch_size <= len(order):
        raise ValueError(
            f"expected 1 <= batch_size <= {len(order)} (the rows), got {batch_size}; "
            "choose a smaller batch or bring more rows"
        )
    return _batches(arrays, order, batch_size)


def _batches(arrays, order, batch_size):
    for start in range(0, len(order) - batch_size + 1, batch_size):
        picked = order[start : start + batch_size]
        yield tuple(array[picked] for array in arrays)
