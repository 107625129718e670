"""Ready operators: the Laplacian, the biharmonic operator, the linear parts of known equations. Needs JAX.

Lesson: 18_stde.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.typing import ArrayLike

from course.stde.kinds import Kind
from course.stde.operators import Operator
from course.stde.pairs import Pairs
from course.taylor import arguments


def laplacian(d: int) -> Operator:
    """The sum of the second derivatives along all d coordinates."""
    d = arguments.integer("d", d, "there is no coordinate")
    return Operator.of_kinds(d, (Kind((2,), np.arange(d)[:, None], np.ones(d)),))


def biharmonic(d: int) -> Operator:
    """The Laplacian of the Laplacian: d fourth derivatives, and twice u_iijj for each pair."""
    d = arguments.integer("d", d, "there is no coordinate")
    pure = Kind((4,), np.arange(d)[:, None], np.array(1.0))
    return Operator.of_kinds(d, (pure, Kind((2, 2), Pairs(d), np.array(2.0))))


def second_order(matrix: ArrayLike) -> Operator:
    """The sum over i, j of C_ij u_ij.

    Args:
      matrix: C, (d, d), real; its symmetric part counts.
    Raises:
      ValueError: not a square matrix of known real numbers, all finite.
    """
    if isinstance(matrix, jax.core.Tracer):
        raise ValueError(
            "expected known numbers, got a traced matrix; learn coefficients as the terms of an Operator, "
            "or as a traced factor of one"
        )
    c = np.asarray(matrix)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or len(c) == 0 or c.dtype.kind not in "biuf":
        raise ValueError(f"expected a real matrix (d, d), got {c.dtype} {c.shape}; np.diag(c) makes one of a vector")
    c = c.astype(float)
    if not (np.abs(c) < np.finfo(float).max / 2).all():  # two of them are added
        raise ValueError(
            "expected a matrix of finite numbers, got NaN, infinity or near it; look at np.isfinite(matrix)"
        )
    i, j = np.triu_indices(len(c), k=1)
    mixed = Kind((1, 1), np.stack([i, j], axis=1), c[i, j] + c[j, i])
    return Operator.of_kinds(len(c), (Kind((2,), np.arange(len(c))[:, None], np.diag(c).copy()), mixed))


def kdv(dispersion: float = 1.0) -> Operator:
    """The linear part of the Korteweg-de Vries equation over (t, x): u_t + dispersion u_xxx."""
    return Operator({(1, 0): 1.0, (0, 3): dispersion})


def kdv_2d() -> Operator:
    """The linear part of the two-dimensional KdV equation over (t, x, y): u_ty + u_xxxy + 2 u_yy - u_xx."""
    return Operator({(1, 0, 1): 1.0, (0, 3, 1): 1.0, (0, 0, 2): 2.0, (0, 2, 0): -1.0})


def kuramoto_sivashinsky() -> Operator:
    """The linear part of the Kuramoto-Sivashinsky equation over (t, x): u_t + u_xx + u_xxxx."""
    return Operator({(1, 0): 1.0, (0, 2): 1.0, (0, 4): 1.0})
