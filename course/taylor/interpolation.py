"""Mixed partial derivatives out of derivatives along lines. Needs NumPy. Lesson: 17b_jets_at_work."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cache
from itertools import product
from math import comb, factorial, prod

import numpy as np


def interpolation(powers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Directions and weights that make a mixed partial derivative out of derivatives along lines.

    With k = |i|, the derivative d^i f is the sum over directions of weight * D^k f along the direction. These are the
    i - 2 j for 0 <= j <= i, one of each pair of opposites; (1, 1) gives (D^2 f[1, 1] - D^2 f[1, -1]) / 4. The terms
    cancel where axes differ in scale, so `partial_derivative` does not use it.

    Args:
      powers: the multi-index i, integers >= 1.
    Returns:
      directions (R, n) with integer entries, and weights (R,), float64; both read-only, since they are cached.
    Raises:
      ValueError: powers are not integers >= 1.
    Source: polarisation; Kan, "From moments of sum to moments of product" (2008), proposition 2.
    Example:
      >>> directions, weights = interpolation((1, 1))
      >>> directions.tolist(), weights.tolist()
      ([[1.0, 1.0], [1.0, -1.0]], [0.25, -0.25])
    """
    try:
        found = tuple(map(operator.index, powers))
    except TypeError:
        found = ()
    if not found or min(found) < 1:
        raise ValueError(
            f"expected a tuple of integers >= 1, got {powers!r}; leave out axes that are not differentiated"
        )
    return _interpolation(found)


@cache
def _interpolation(powers: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    order = sum(powers)
    directions, weights = [], []
    for j in product(*(range(p + 1) for p in powers)):
        direction = tuple(p - 2 * q for p, q in zip(powers, j, strict=True))
        if direction > tuple(-d for d in direction):  # the opposite one has the same term
            ways = prod(map(comb, powers, j))
            directions.append(direction)
            weights.append((-1) ** sum(j) * ways * 2 / (2**order * factorial(order)))
    found = np.array(directions, float), np.array(weights)
    for array in found:
        array.flags.writeable = False
    return found
