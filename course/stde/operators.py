"""Linear differential operators and what one can do with them: sums, differences, multiples. Needs JAX.

Lesson: 18_stde.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from course.stde.kinds import Coefficients, Kind, Scalar, alike, is_number, joined, scaled
from course.taylor import arguments
from course.taylor.functions import ScalarField


class Operator:
    """A linear differential operator, the sum of c_a D^a over multi-indices a.

    Args:
      terms: multi-index (a non-negative integer per coordinate) -> coefficient: a number, real or complex, which may be
        traced, so that it can be learned; or a function (d,) -> ().
    Raises:
      ValueError: no terms, multi-indices of different length or not of integers >= 0, or a number that is not finite.
      TypeError: a coefficient is neither a number nor a function.
    Operators over the same coordinates can be added and subtracted, and multiplied and divided by a number.
    Source: Shi et al. (2024), section 4: an operator is a tensor contracted with the derivative tensor of u.
    Example:
      >>> helmholtz = Operator({(2, 0): 1.0, (0, 2): 1.0}) + 4.0 * Operator({(0, 0): 1.0})
      >>> helmholtz
      Operator(dimension=2, order=2, terms=3)
    """

    __array_ufunc__ = None  # NumPy's numbers leave the multiplication to us

    dimension: int
    kinds: tuple[Kind, ...]

    def __init__(self, terms: Mapping[tuple[int, ...], Scalar | ScalarField]):
        if not isinstance(terms, Mapping) or not terms:
            raise ValueError(f"expected at least one multi-index, got {terms!r}; Operator({{(2, 0): 1.0}}) is u_xx")
        first = next(iter(terms))
        self.dimension = len(first) if isinstance(first, tuple) else 1
        found: dict[tuple[Any, ...], list[tuple[list[int], float | ScalarField, Scalar]]] = {}
        for index, coefficient in terms.items():
            index = arguments.multi_index(index, self.dimension)
            pairs = sorted(((p, axis) for axis, p in enumerate(index) if p), key=lambda pair: (-pair[0], pair[1]))
            powers, axes = tuple(p for p, _ in pairs), [axis for _, axis in pairs]
            for number, factor in _real_parts(coefficient):
                # terms with the same factor go together: 1, the imaginary unit, or one traced number each
                slot = (powers, callable(number), factor if is_number(factor) else id(factor))
                found.setdefault(slot, []).append((axes, number, factor))
        self.kinds = tuple(
            Kind(
                powers,
                np.array([axes for axes, _, _ in rows], int).reshape(len(rows), len(powers)),
                _coefficients([number for _, number, _ in rows]),
                rows[0][2],
            )
            for (powers, *_), rows in found.items()
        )

    @classmethod
    def of_kinds(cls, dimension: int, kinds: tuple[Kind, ...]) -> Operator:
        """An operator from terms that are already sorted by kind; no multi-index of length d is written out."""
        operator = object.__new__(cls)
        operator.dimension, operator.kinds = dimension, tuple(kind for kind in kinds if len(kind))
        return operator

    @property
    def order(self) -> int:
        return max((kind.order for kind in self.kinds), default=0)

    def __add__(self, other: Operator | complex) -> Operator:
        if is_number(other) and other == 0:  # what `sum` starts from
            return self
        if not isinstance(other, Operator):
            return NotImplemented
        if other.dimension != self.dimension:
            raise ValueError(
                f"expected operators over the same coordinates, got {self.dimension} and {other.dimension}"
            )
        merged: list[Kind] = list(self.kinds)
        for kind in other.kinds:
            same = [n for n, k in enumerate(merged) if k.powers == kind.powers and alike(k, kind)]
            if same:
                merged[same[0]] = joined(merged[same[0]], kind)
            else:
                merged.append(kind)
        return Operator.of_kinds(self.dimension, tuple(merged))

    __radd__ = __add__

    def __neg__(self) -> Operator:
        return -1.0 * self

    def __sub__(self, other: Operator) -> Operator:
        return self + -other if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: Scalar) -> Operator:
        kinds = []
        for number, unit in _real_parts(factor):
            if callable(number):
                raise TypeError("expected a number, got a function; a coefficient that depends on x stands in a term")
            kinds += [scaled(kind, number, unit) for kind in self.kinds]
        return Operator.of_kinds(self.dimension, tuple(kinds))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Scalar) -> Operator:
        return self * (1 / divisor)

    def __repr__(self) -> str:
        return f"Operator(dimension={self.dimension}, order={self.order}, terms={sum(map(len, self.kinds))})"


def _real_parts(value: Scalar | ScalarField) -> list[tuple[float | ScalarField, Scalar]]:
    """A coefficient as pairs of a real number (or function) and a factor; a traced number is the factor of 1."""
    if callable(value):
        return [(value, 1.0)]
    if isinstance(value, jax.core.Tracer) and value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.number):
        return [(1.0, value)]
    if isinstance(value, jax.Array | np.ndarray) and value.ndim == 0 and not isinstance(value, jax.core.Tracer):
        value = value.item()
    if not is_number(value):
        got = f"an array of shape {value.shape}" if hasattr(value, "shape") else repr(value)
        raise TypeError(
            f"expected a number, or as a term's coefficient a function (d,) -> (), got {got}; give each term its own"
        )
    try:
        whole = complex(value)
    except OverflowError:  # an integer of 400 digits
        whole = complex(np.nan)
    if not np.isfinite(whole):
        raise ValueError(f"expected a finite number, got {str(value)[:40]}; what divides it may be 0")
    if not isinstance(value, numbers.Real):
        value = whole  # NumPy's are numbers too
        return [(value.real, 1.0)] * (value.real != 0) + [(value.imag, 1j)]
    return [(float(value), 1.0)]


def _coefficients(values: Sequence[float | ScalarField]) -> Coefficients:
    """Those of one kind: all of them numbers, or all functions."""
    functions = [value for value in values if callable(value)]
    if functions:
        return lambda x: jnp.stack([_scalar(function(x)) for function in functions])
    return np.array(values, float)


def _scalar(value: ArrayLike) -> jax.Array:
    if jnp.shape(value) != ():
        raise ValueError(f"expected a coefficient (d,) -> (), got {jnp.shape(value)}; index or sum its result")
    return jnp.asarray(value)
