"""Linear differential operators and what one can do with them: sums, differences, multiples. Needs JAX.

Lesson: 18_stde.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.stde.kinds import Factor, Kind, Scalar, finite, is_number, joinable, joined, product, scalar, scaled
from course.taylor import arguments
from course.taylor.functions import ScalarField

MultiIndex = Sequence[int] | Mapping[str, int]
"""How often to differentiate by each coordinate: (0, 2), or by names {"x": 2}; {} is the identity."""
Terms = Mapping[Any, Scalar | ScalarField] | Iterable[tuple[MultiIndex, Scalar | ScalarField]]
"""Multi-indices with their coefficients."""


class Operator:
    """A linear differential operator, the sum of c_a D^a over multi-indices a.

    Args:
      terms: multi-index (a non-negative integer per coordinate) -> coefficient: a number, real or complex, which may be
        traced, so that it can be learned; or a function (d,) -> (). Or pairs of the two, in which a multi-index may
        also be a mapping name -> power; what stands there twice is added up.
      coordinates: names of the coordinates, in the order in which a point holds them; needed where terms use names.
    Raises:
      ValueError: no terms, multi-indices of different length or not of integers >= 0, a number that is not finite, or
        names that are unknown, missing or repeated.
      TypeError: a coefficient is neither a number nor a function, or the power of a name no integer.
    Operators over the same coordinates can be added and subtracted, and multiplied and divided by a number. A function
    (d,) -> () may stand before an operator: `g * operator` is g(x) times what the operator gives at x. They are
    compared and hashed by identity: as a static argument of `jax.jit`, one made anew is compiled anew.
    Source: Shi et al. (2024), section 4: an operator is a tensor contracted with the derivative tensor of u.
    Example:
      >>> helmholtz = Operator({(2, 0): 1.0, (0, 2): 1.0}) + 4.0 * Operator({(0, 0): 1.0})
      >>> helmholtz
      Operator(dimension=2, order=2, terms=3)
      >>> Operator([({"t": 1}, 1.0), ({"x": 2}, -0.5)], coordinates=("t", "x"))
      Operator(coordinates=('t', 'x'), order=2, terms=2)
    """

    __array_ufunc__ = None  # NumPy's numbers leave the multiplication to us

    dimension: int
    kinds: tuple[Kind, ...]
    coordinates: tuple[str, ...] | None

    def __init__(self, terms: Terms, coordinates: Sequence[str] | None = None):
        self.coordinates = None if coordinates is None else _names(coordinates)
        rows = _rows(terms)
        if self.coordinates is not None:
            self.dimension = len(self.coordinates)
        else:
            self.dimension = len(rows[0][0]) if isinstance(rows[0][0], tuple | list) else 1
        # terms with the same factor go together: 1, the imaginary unit, or one traced number each
        found: dict[tuple[Any, ...], dict[tuple[int, ...], float | ScalarField]] = {}
        factors: dict[tuple[Any, ...], Scalar] = {}
        for index, coefficient in rows:
            powers, axes = _pattern(self._powers(index))
            for number, factor in _real_parts(coefficient):
                slot = (powers, callable(number), factor if is_number(factor) else id(factor))
                factors[slot], terms_of = factor, found.setdefault(slot, {})
                terms_of[axes] = _sum(terms_of[axes], number) if axes in terms_of else number
        self.kinds = tuple(_kind(slot[0], each, factors[slot]) for slot, each in found.items())

    def _powers(self, index: MultiIndex) -> list[tuple[int, int]]:
        """A multi-index as pairs of power and axis."""
        if not isinstance(index, Mapping):
            return [(power, axis) for axis, power in enumerate(arguments.multi_index(index, self.dimension))]
        if self.coordinates is None:
            raise ValueError(f'expected names in coordinates, got {index!r} without; pass coordinates=("t", "x")')
        unknown = [name for name in index if name not in self.coordinates]
        if unknown:
            raise ValueError(
                f"expected names among the coordinates {self.coordinates}, got {unknown[0]!r}; add it there"
            )
        return [
            (
                arguments.integer(f"the power of {name}", power, "an integral is no term", least=0),
                self.coordinates.index(name),
            )
            for name, power in index.items()
        ]

    @classmethod
    def of_kinds(cls, dimension: int, kinds: tuple[Kind, ...], coordinates: tuple[str, ...] | None = None) -> Operator:
        """An operator from terms that are already sorted by kind; no multi-index of length d is written out."""
        operator = object.__new__(cls)
        operator.dimension, operator.coordinates = dimension, coordinates
        operator.kinds = tuple(kind for kind in kinds if len(kind))
        return operator

    @property
    def order(self) -> int:
        return max((kind.order for kind in self.kinds), default=0)

    def __add__(self, other: Operator | complex) -> Operator:
        if is_number(other) and other == 0:  # what `sum` starts from
            return self
        if not isinstance(other, Operator):
            return NotImplemented
        names = [each.coordinates for each in (self, other) if each.coordinates is not None]
        if other.dimension != self.dimension or len(set(names)) > 1:
            one, two = (each.coordinates if names[1:] else each.dimension for each in (self, other))
            raise ValueError(
                f"expected operators over the same coordinates, got {one} and {two}; write both over all of them"
            )
        merged: list[Kind] = list(self.kinds)
        for kind in other.kinds:
            same = next((n for n, each in enumerate(merged) if joinable(each, kind)), None)
            if same is None:
                merged.append(kind)
            else:
                merged[same] = joined(merged[same], kind)
        return Operator.of_kinds(self.dimension, tuple(merged), names[0] if names else None)

    __radd__ = __add__

    def __neg__(self) -> Operator:
        return -1.0 * self

    def __sub__(self, other: Operator) -> Operator:
        return self + -other if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: Scalar) -> Operator:
        if callable(factor):
            raise TypeError(
                "expected a number, got a function; write it before the operator, function * operator: its value then "
                "multiplies what the operator gives"
            )
        return self._times([(number, unit) for number, unit in _real_parts(factor) if not callable(number)])

    def __rmul__(self, factor: Factor) -> Operator:
        return self._times([(1.0, factor)]) if callable(factor) else self * factor

    def _times(self, parts: list[tuple[float, Factor]]) -> Operator:
        kinds = []
        for number, unit in parts:
            factors = {id(kind.factor): product(kind.factor, unit) for kind in self.kinds}  # what was one stays one
            kinds += [scaled(kind, number, factors[id(kind.factor)]) for kind in self.kinds]
        return Operator.of_kinds(self.dimension, tuple(kinds), self.coordinates)

    def __truediv__(self, divisor: Scalar) -> Operator:
        if callable(divisor):
            raise TypeError("expected a number, got a function; write (lambda x: 1 / function(x)) * operator")
        return self * (1 / divisor)

    def __repr__(self) -> str:
        over = f"dimension={self.dimension}" if self.coordinates is None else f"coordinates={self.coordinates}"
        return f"Operator({over}, order={self.order}, terms={sum(map(len, self.kinds))})"


def _names(coordinates: Sequence[str]) -> tuple[str, ...]:
    unordered = isinstance(coordinates, str | set | frozenset)
    names = () if unordered else tuple(coordinates)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f'expected coordinates as different names, got {coordinates!r}; for u(t, x) pass coordinates=("t", "x")'
        )
    return names


def _rows(terms: Terms) -> list[tuple[MultiIndex, Scalar | ScalarField]]:
    """Terms as a list of pairs, at least one."""
    if isinstance(terms, Mapping):
        rows = list(terms.items())
    else:
        rows = list(terms) if isinstance(terms, Iterable) and not isinstance(terms, str) else []
    if not rows:
        raise ValueError(f"expected at least one multi-index, got {terms!r}; Operator({{(2, 0): 1.0}}) is u_xx")
    if any(not isinstance(row, tuple | list) or len(row) != 2 for row in rows):
        raise ValueError(
            f"expected pairs of a multi-index and a coefficient, got {terms!r:.80}; Operator([((2, 0), 1.0)]) is u_xx"
        )
    return rows


def _pattern(powers: list[tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The powers that are not zero, largest first, and their axes."""
    pairs = sorted(((power, axis) for power, axis in powers if power), key=lambda pair: (-pair[0], pair[1]))
    return tuple(power for power, _ in pairs), tuple(axis for _, axis in pairs)


def _sum(a: Any, b: Any) -> Any:
    """Of two coefficients, both numbers or both functions."""
    return (lambda x: a(x) + b(x)) if callable(a) else a + b


def _kind(powers: tuple[int, ...], terms: dict[tuple[int, ...], Any], factor: Scalar) -> Kind:
    """Terms of one pattern; their coefficients are all numbers, or all functions."""
    axes, values = np.array(list(terms), int).reshape(len(terms), len(powers)), list(terms.values())
    if callable(values[0]):
        return Kind(powers, axes, lambda x: jnp.stack([scalar(function(x)) for function in values]), factor)
    return Kind(powers, axes, np.array(values, float), factor)


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
    whole = finite(value)
    if isinstance(value, numbers.Real):
        return [(whole.real, 1.0)]
    return [(whole.real, 1.0)] * (whole.real != 0) + [(whole.imag, 1j)]
