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

from course.stde.pairs import Pairs

Coefficients = np.ndarray | Callable[[jax.Array], jax.Array]
"""One number per term, (n,); or one for all, (); or a function of the point that returns them, (n,)."""
Scalar = complex | jax.Array
"""A number, or an array () that may be traced."""
Factor = Scalar | Callable[[jax.Array], jax.Array]
"""A number, or a function of the point, (d,) -> ()."""


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """The terms of an operator that differentiate in the same pattern, u_xxy and u_yyz for instance.

    Attributes:
      powers: how often each of the axes is differentiated, largest first: (2, 1).
      axes: the axes of each term, (n, len(powers)); or all pairs, where the powers are two and equal.
      coefficients: real, (n,), or () where the terms share one; or a function of the point x that returns (n,).
      factor: of all terms; a traced or complex number or a function of x stands here, so that the coefficients stay
        known and real.
    """

    powers: tuple[int, ...]
    axes: np.ndarray | Pairs
    coefficients: Coefficients
    factor: Factor = 1.0

    @property
    def order(self) -> int:
        return sum(self.powers)

    @property
    def fixed(self) -> bool:
        """Whether the coefficients are the same at all points, but for the factor."""
        return not callable(self.coefficients)

    @property
    def known(self) -> np.ndarray:
        """The coefficients without the factor, (n,), of a kind that is fixed."""
        assert not callable(self.coefficients)
        return np.broadcast_to(self.coefficients, (len(self),))

    @property
    def listed(self) -> np.ndarray:
        """The axes of each term, (n, len(powers))."""
        return self.axes.listed() if isinstance(self.axes, Pairs) else self.axes

    def __len__(self) -> int:
        return len(self.axes)

    def values(self, x: jax.Array) -> jax.Array:
        """The coefficients at a point, factor included: in its dtype, or in the complex one that belongs to it."""
        coefficients = self.coefficients(x) if callable(self.coefficients) else self.coefficients
        return in_dtype_of(x, factor_at(x, self.factor) * coefficients)

    def at(self, x: jax.Array) -> jax.Array:
        """The same, one for each term, (n,)."""
        return jnp.broadcast_to(self.values(x), (len(self),))


def in_dtype_of(x: jax.Array, values: ArrayLike) -> jax.Array:
    """The values in the dtype of the point, or in the complex one that belongs to it."""
    return jnp.asarray(values, jnp.result_type(x, jnp.complex64) if jnp.iscomplexobj(values) else x.dtype)


def factor_at(x: jax.Array, factor: Factor) -> jax.Array:
    """What a factor is at a point, ()."""
    return scalar(factor(x)) if callable(factor) else jnp.asarray(factor)


def scalar(value: ArrayLike) -> jax.Array:
    """What a function has returned as a coefficient."""
    if jnp.shape(value) != ():
        raise ValueError(f"expected a coefficient (d,) -> (), got {jnp.shape(value)}; index or sum its result")
    return jnp.asarray(value)


def is_number(value: object) -> TypeGuard[complex]:
    """Whether it is a known number: NumPy's and fractions are, though a type checker takes them for something else."""
    return isinstance(value, numbers.Number)


def finite(value: complex) -> complex:
    """A known number as a complex one.

    Raises:
      ValueError: it is NaN, infinite, or beyond what floating point holds.
    """
    try:
        number = complex(value)
    except OverflowError:  # an integer of 400 digits
        number = complex(np.nan)
    if not np.isfinite(number):
        raise ValueError(f"expected a finite number, got {str(value)[:40]}; what divides it may be 0")
    return number


def is_one(factor: Factor) -> bool:
    """Whether it is the known number 1."""
    return is_number(factor) and factor == 1


def product(a: Factor, b: Factor) -> Factor:
    """One factor that does the work of two."""
    if is_one(a) or is_one(b):
        return b if is_one(a) else a
    if callable(a) or callable(b):
        return lambda x: factor_at(x, a) * factor_at(x, b)
    return a * b


def scaled(kind: Kind, number: float, factor: Factor) -> Kind:
    """The kind with another factor, and its coefficients times a number."""
    if isinstance(factor, complex) and factor.imag == 0:  # i * i
        number, factor = number * factor.real, 1.0
    old = kind.coefficients
    new = (lambda x: number * old(x)) if callable(old) else np.asarray(number * old)
    return dataclasses.replace(kind, coefficients=new, factor=factor)


def alike(a: Kind, b: Kind) -> bool:
    """Whether two kinds differ in known numbers only, so that one factor serves both."""
    known = is_number(a.factor) and is_number(b.factor) and a.factor == b.factor
    return a.fixed and b.fixed and (known or a.factor is b.factor)


def groups(kinds: list[Kind]) -> list[list[Kind]]:
    """Kinds sorted into groups that are alike."""
    found: list[list[Kind]] = []
    for kind in kinds:
        group = next((group for group in found if alike(group[0], kind)), None)
        if group is None:
            found.append([kind])
        else:
            group.append(kind)
    return found


def joinable(a: Kind, b: Kind) -> bool:
    """Whether the terms of both can be one kind."""
    return a.powers == b.powers and alike(a, b) and isinstance(a.axes, Pairs) == isinstance(b.axes, Pairs)


def joined(a: Kind, b: Kind) -> Kind:
    """The terms of both, those that differentiate alike added up."""
    if isinstance(a.axes, Pairs) or isinstance(b.axes, Pairs) or np.array_equal(a.axes, b.axes):
        return dataclasses.replace(a, coefficients=np.asarray(a.coefficients) + np.asarray(b.coefficients))
    axes = np.concatenate([a.axes, b.axes])
    _, first, place = np.unique(row_numbers(axes), return_index=True, return_inverse=True)
    coefficients = np.bincount(place.ravel(), np.concatenate([a.known, b.known]), len(first))
    return dataclasses.replace(a, axes=axes[first], coefficients=coefficients)


def row_numbers(axes: np.ndarray) -> np.ndarray:
    """An integer for each row (n, k), equal where rows are, in the order of the rows."""
    base = int(axes.max(initial=0)) + 1
    if base ** axes.shape[1] >= 2**63:
        return np.unique(axes, axis=0, return_inverse=True)[1].ravel()
    return axes.astype(np.int64) @ np.array([base**k for k in reversed(range(axes.shape[1]))], np.int64)


def common(kind: Kind, d: int) -> float | None:
    """The coefficient that a fixed kind has along all d axes, or for all pairs of them; None where there is none."""
    known = None if callable(kind.coefficients) else np.ravel(kind.coefficients)
    if known is None or len(known) == 0 or not (known == known[0]).all():
        return None
    if isinstance(kind.axes, Pairs):
        complete = kind.axes.d == d
    elif len(kind.powers) == 1:
        complete = np.array_equal(np.sort(kind.axes[:, 0]), np.arange(d))
    else:
        complete = len(kind) == d * (d - 1) // 2 == len(np.unique(row_numbers(np.sort(kind.axes, axis=1))))
    return float(known[0]) if complete else None
