"""Batches of NumPy rows: a collate function and the order in which an epoch visits the rows. Needs NumPy only.

Lesson: 01b_titanic_nnx.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

Tree = Any
"""Arrays, nested in tuples and dicts as the samples are."""


def numpy_collate(samples: Sequence[Any]) -> Tree:
    """Stack samples into one batch of NumPy arrays, whatever tuples, lists or dicts they are made of.

    A `collate_fn` for torch's DataLoader that never makes a tensor.

    Args:
      samples: B samples of one structure; a leaf is an array, a number or a text.
    Returns:
      The same structure, lists as tuples, with leaves stacked along a new first axis: (B, *shape), dtype of the leaves;
      where they differ in dtype NumPy's common one, if it holds every value.
    Raises:
      ValueError: there are no samples, their shapes or structures differ, or a leaf does not fit into an array.
    Example:
      >>> numpy_collate([(np.zeros(3), 0.0), (np.ones(3), 1.0)])[0].shape
      (2, 3)
    """
    check_structure(samples, _check_leaves)
    try:
        return _collate(samples)
    except ValueError as error:
        raise _differ(str(error)) from None


def check_structure(
    samples: Sequence[Any], check_leaves: Callable[[Sequence[Any]], None] = lambda leaves: None
) -> None:
    """Refuse what is no list of samples, and samples that are not of one structure; check the leaves in each place."""
    if isinstance(samples, Mapping | str | bytes) or not hasattr(samples, "__len__"):
        raise ValueError(f"expected a list of samples, got {type(samples).__name__}; pass [dataset[i] for i in rows]")
    if len(samples) == 0:
        raise ValueError("expected at least one sample, got none; check the dataset's length and the sampler")
    _check_structure(samples, check_leaves)


def _check_structure(samples: Sequence[Any], check_leaves: Callable[[Sequence[Any]], None]) -> None:
    kinds = {_kind(kind) for kind in set(map(type, samples))}
    if len(kinds) > 1:
        raise _differ(f"{' and '.join(sorted(kind.__name__ for kind in kinds))} in one place")
    (kind,) = kinds
    if kind is dict:
        keys = samples[0].keys()
        for sample in samples:
            if sample.keys() != keys:
                raise _differ(f"keys {list(keys)} and {list(sample)}")
        for key in keys:
            _check_structure([sample[key] for sample in samples], check_leaves)
    elif kind is tuple:
        lengths = set(map(len, samples))
        if len(lengths) > 1:
            raise _differ(f"lengths {sorted(lengths)}")
        for column in zip(*samples, strict=True):
            _check_structure(column, check_leaves)
    else:
        check_leaves(samples)


@cache
def _kind(kind: type) -> type:
    """dict, tuple (which stands for lists too), str, or object for what becomes an array."""
    if issubclass(kind, list):
        return tuple
    return next((each for each in (dict, tuple, str) if issubclass(kind, each)), object)


def _check_leaves(leaves: Sequence[Any]) -> None:
    """Refuse leaves that NumPy can only hold as objects, and integers that the dtype common to all does not hold."""
    kinds = set(map(type, leaves))
    if kinds == {np.ndarray}:
        kinds = {leaf.dtype for leaf in leaves}
    if len(kinds) == 1 and kinds != {int} and np.asarray(leaves[0]).dtype != object:
        return  # the quick way, for every batch of a loader
    arrays = [np.asarray(leaf) for leaf in leaves]
    common = np.result_type(*arrays) if len({array.shape for array in arrays}) == 1 else arrays[0].dtype
    for leaf, array in zip(leaves, arrays, strict=True):
        if array.dtype == object:
            raise ValueError(
                f"expected arrays or numbers of up to 64 bits as leaves, got {leaf!r:.60}; leave them out of the "
                "samples, or turn them into numbers"
            )
        if array.dtype.kind in "iu" and (array.astype(common).astype(object) != array.astype(object)).any():
            raise ValueError(
                f"expected leaves that fit one dtype, got {leaf!r:.60}, which {common} does not hold; "
                "give all leaves one dtype"
            )


def _differ(how: str) -> ValueError:
    return ValueError(
        f"expected samples of one structure and shape, got samples that differ ({how}); pad or crop them in the dataset"
    )


def _collate(samples: Sequence[Any]) -> Tree:
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
      rows: number of rows in the dataset, from 1 to 2^31 - 1.
      epochs: number of epochs, >= 1.
      seed: the same seed gives the same orders.
    Returns:
      (epochs, rows) int32; every row is a permutation of 0 … rows - 1.
    Raises:
      ValueError: rows or epochs out of range.
      TypeError: rows or epochs is no integer, or there is no seed.
    """
    rows, epochs = integer("rows", rows), integer("epochs", epochs)
    if not 1 <= rows < 2**31 or epochs < 1:
        raise ValueError(
            f"expected 1 <= rows < 2**31 and epochs >= 1, got rows={rows}, epochs={epochs}; nothing to visit, or more "
            "than int32 can number"
        )
    if seed is None:
        raise TypeError("expected a seed, got None; orders that cannot be drawn again compare nothing: pass an int")
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(rows) for _ in range(epochs)]).astype(np.int32)


def batches(arrays: Sequence[np.ndarray], order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield full batches of rows in the given order; a short last batch is dropped, as with drop_last=True.

    Args:
      arrays: arrays with one row a sample: (n, ...) each.
      order: row numbers in the order of the visit, one-dimensional, integers from 0 to n - 1; one row of
        `epoch_permutations`.
      batch_size: rows per batch, 1 <= batch_size <= len(order).
    Yields:
      One (batch_size, ...) array for each of `arrays`.
    Raises:
      ValueError: the arrays differ in length, the order is none of their rows, or the batch size does not fit.
      TypeError: a single array in the place of several, or a batch size that is no integer.
    """
    if hasattr(arrays, "shape"):
        raise TypeError(f"expected a tuple of arrays, got one array {arrays.shape}; write batches((x,), ...)")
    arrays = [array if hasattr(array, "shape") else np.asarray(array) for array in arrays]
    lengths = {len(array) if array.shape else 0 for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"expected arrays of one length, got {sorted(lengths)}; features and labels came apart, or have no rows"
        )
    (rows,) = lengths
    order = np.asarray(order)
    if order.ndim != 1 or order.dtype.kind not in "iu":
        raise ValueError(
            f"expected an order of row numbers, (n,) integers, got {order.dtype} {order.shape}; pass one row of "
            "epoch_permutations, or np.flatnonzero(mask) for a mask"
        )
    if len(order) and not 0 <= order.min() <= order.max() < rows:
        raise ValueError(
            f"expected row numbers from 0 to {rows - 1}, got {order.min()} to {order.max()}; make the order for these "
            "arrays: epoch_permutations(len(x), ...)"
        )
    return _batches(arrays, order, checked_batch_size(batch_size, len(order)))


def checked_batch_size(batch_size: int, rows: int) -> int:
    """The batch size as an int, if so many rows fill a batch."""
    batch_size = integer("batch_size", batch_size)
    if not 1 <= batch_size <= rows:
        raise ValueError(
            f"expected 1 <= batch_size <= {rows} (the rows), got {batch_size}; "
            "choose a smaller batch or bring more rows"
        )
    return batch_size


def integer(name: str, value: Any) -> int:
    """The value as an int, if it is an integer; True is none."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"expected {name} as an integer, got {value!r}; pass an int")


def _batches(arrays: Sequence[np.ndarray], order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    for start in range(0, len(order) - batch_size + 1, batch_size):
        picked = order[start : start + batch_size]
        yield tuple(array[picked] for array in arrays)
