"""The terms of an operator, sorted by kind: those that differentiate in the same pattern go together. Needs JAX.

Lesson: 18_stde.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Coefficients = np.ndarray | Callable[[jax.Array], jax.Array]
"""One number per term, (n,), or a function of the point that returns them."""
Scalar = complex | jax.Array
"""A number, or an array () that may be traced."""


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """The terms of an operator that differentiate in the same pattern, u_xxy and u_yyz for instance.

    Attributes:
      powers: how often each of the axes is differentiated, largest first: (2, 1).
      axes: the axes of each term, (n, len(powers)).
      coefficients: real, (n,); or a function of the point x that returns them.
      factor: of all terms; a traced or a complex number stands here, so that the coefficients stay known and real.
    """

    powers: tuple[int, ...]
    axes: np.ndarray
    coefficients: Coefficients
    factor: Scalar = 1.0

    @property
    def order(self) -> int:
        return sum(self.powers)

    @property
    def fixed(self) -> bool:
        """Whether the coefficients are the same at all points."""
        return not callable(self.coefficients)

    @property
    def known(self) -> np.ndarray:
        """The coefficients, of a kind that is fixed."""
        assert not callable(self.coefficients)
        return self.coefficients

    def __len__(self) -> int:
        return len(self.axes)

    def at(self, x: jax.Array) -> jax.Array:
        """The coefficients at a point, factor included: (n,) in its dtype, or in the complex one that belongs to it."""
        coefficients = self.coefficients(x) if callable(self.coefficients) else self.coefficients
        return in_dtype_of(x, jnp.asarray(self.factor) * coefficients)


def in_dtype_of(x: jax.Array, values: ArrayLike) -> jax.Array:
    """The values in the dtype of the point, or in the complex one that belongs to it."""
    return jnp.asarray(values, jnp.result_type(x, jnp.complex64) if jnp.iscomplexobj(values) else x.dtype)


def is_number(value: object) -> TypeGuard[complex]:
    """Whether it is a known number: NumPy's and fractions are, though a type checker takes them for something else."""
    return isinstance(value, numbers.Number)


def scaled(kind: Kind, number: float, factor: Scalar) -> Kind:
    if not is_one(factor):
        factor = factor if is_one(kind.factor) else kind.factor * factor
        if isinstance(factor, complex) and factor.imag == 0:  # i * i
            number, factor = number * factor.real, 1.0
        kind = dataclasses.replace(kind, factor=factor)
    old = kind.coefficients
    return dataclasses.replace(kind, coefficients=(lambda x: number * old(x)) if callable(old) else number * old)


def is_one(factor: Scalar) -> bool:
    return is_number(factor) and factor == 1


def alike(a: Kind, b: Kind) -> bool:
    """Whether two kinds differ in known numbers only, so that one factor serves both."""
    known = is_number(a.factor) and is_number(b.factor) and a.factor == b.factor
    return a.fixed and b.fixed and (known or a.factor is b.factor)


def joined(a: Kind, b: Kind) -> Kind:
    """The terms of both, those that differentiate alike added up."""
    if np.array_equal(a.axes, b.axes):
        return dataclasses.replace(a, coefficients=a.known + b.known)
    axes, place = np.unique(np.concatenate([a.axes, b.axes]), axis=0, return_inverse=True)
    coefficients = np.bincount(place.ravel(), np.concatenate([a.known, b.known]), len(axes))
    return dataclasses.replace(a, axes=axes, coefficients=coefficients)
