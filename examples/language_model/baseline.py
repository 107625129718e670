"""What a model has to beat: an n-gram over bytes. Needs NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ngram_bits(train: Sequence[str], test: Sequence[str], order: int = 5) -> float:
    """Bits a character of an n-gram model on `test`: bytes, interpolated Kneser-Ney (Chen and Goodman 1998).

    Each order takes a discount n1 / (n1 + 2 n2) from its counts and gives it to the order below, whose counts are of
    distinct bytes before; below the first stands 1/256.
    """
    if not 1 <= order <= 7:
        raise ValueError(f"expected an order from 1 to 7, got {order}; grams are kept in 64 bits")
    seen, asked = (_grams(texts, order) for texts in (train, test))
    probability = np.full(len(asked), 1 / 256)
    levels, (grams, counts) = [], np.unique(seen, return_counts=True)
    for n in range(order, 0, -1):
        levels.append((n, grams, counts))
        grams, counts = np.unique(grams & np.uint64(256 ** (n - 1) - 1), return_counts=True)
    for n, grams, counts in reversed(levels):
        contexts, inverse = np.unique(grams >> np.uint64(8), return_inverse=True)
        total, kinds = np.bincount(inverse, counts), np.bincount(inverse)
        ones, twos = (counts == 1).sum(), (counts == 2).sum()
        discount = ones / (ones + 2 * twos) if ones else 0.0
        gram = asked & np.uint64(256**n - 1)
        count, of_context = _found(grams, counts, gram), _found(contexts, total, gram >> np.uint64(8))
        known = of_context > 0
        left = np.maximum(count - discount, 0) + discount * _found(contexts, kinds, gram >> np.uint64(8)) * probability
        probability = np.where(known, left / np.where(known, of_context, 1), probability)
    return float(-np.log2(probability).sum() / sum(map(len, test)))


def _grams(texts: Sequence[str], order: int) -> np.ndarray:
    """Each byte with those before it as one number, the newest byte lowest; zeros stand before a text."""
    all_grams = []
    for text in texts:
        padded = np.frombuffer(bytes(order - 1) + text.encode(), np.uint8).astype(np.uint64)
        count = len(padded) - order + 1
        all_grams.append(sum(padded[k : k + count] << np.uint64(8 * (order - 1 - k)) for k in range(order)))
    return np.concatenate(all_grams)


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of wanted keys, 0 where there is none; `keys` is sorted."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
