"""First-order differential operators on vector fields, exact or estimated. Needs JAX. Lesson: 20_high_order_pdes."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.stde.draws import distinct
from course.stde.kinds import factor_at, finite
from course.taylor import arguments
from course.taylor.fields import Metric, flat_field, lowered, slopes, times_volume, volume
from course.taylor.functions import Field, ScalarField


@dataclasses.dataclass(frozen=True, eq=False)
class FieldTerms:
    """Terms c dF_k / dx_a of one operator, each added to one entry of its result.

    Attributes:
      rows: the entry of each term, (n,); zeros where the result is ().
      axes: a, by which each differentiates, (n,).
      components: k, which each differentiates, (n,).
      coefficients: c, (n,), numbers or traced; or a function of the point that returns them.
      before: what is made of the field first, for instance its product with a density; None for nothing.
    """

    rows: np.ndarray
    axes: np.ndarray
    components: np.ndarray
    coefficients: np.ndarray | jax.Array | Callable[[jax.Array], jax.Array]
    before: Callable[[Field], Field] | None = None

    def __len__(self) -> int:
        return len(self.axes)

    def at(self, x: jax.Array) -> jax.Array:
        """The coefficients at a point: (n,) in its dtype, or in the complex one that belongs to it."""
        found = jnp.asarray(_value(self.coefficients, x))
        return found.astype(jnp.result_type(x, jnp.complex64) if jnp.iscomplexobj(found) else x.dtype)

    def scaled(self, factor: complex | jax.Array | ScalarField) -> FieldTerms:
        """The terms times a number, or a function of the point."""
        old = self.coefficients
        if callable(old) or callable(factor):
            return dataclasses.replace(self, coefficients=lambda x: factor_at(x, factor) * _value(old, x))
        return dataclasses.replace(self, coefficients=factor * old)


@dataclasses.dataclass(frozen=True, eq=False)
class FieldOperator:
    """A linear differential operator of first order on fields (d,) -> (m,).

    It can be added to another over the same coordinates, and multiplied by a number, which may be traced, or by a
    function (d,) -> ().

    Attributes:
      dimension: how many coordinates there are, d.
      shape: of its result, () or (rows,).
      parts: its terms; those of one part are taken in one propagation.
    Example:
      >>> divergence(3) - 2.0 * divergence(3)
      FieldOperator(dimension=3, shape=(), terms=6)
    """

    __array_ufunc__ = None  # NumPy's numbers leave the multiplication to us

    dimension: int
    shape: tuple[int, ...]
    parts: tuple[FieldTerms, ...]

    def __add__(self, other: FieldOperator | int) -> FieldOperator:
        if isinstance(other, int) and other == 0:  # what `sum` starts from
            return self
        if not isinstance(other, FieldOperator):
            return NotImplemented
        if (other.dimension, other.shape) != (self.dimension, self.shape):
            raise ValueError(
                f"expected operators over the same coordinates with results of one shape, got {self} and {other}; "
                "apply them one by one"
            )
        return dataclasses.replace(self, parts=self.parts + other.parts)

    __radd__ = __add__

    def __neg__(self) -> FieldOperator:
        return -1.0 * self

    def __sub__(self, other: FieldOperator) -> FieldOperator:
        return self + -other if isinstance(other, FieldOperator) else NotImplemented

    def __mul__(self, factor: complex | jax.Array | ScalarField) -> FieldOperator:
        if isinstance(factor, numbers.Real):
            factor = finite(factor).real  # fractions, too
        elif not callable(factor) and (np.shape(factor) or not jnp.issubdtype(jnp.result_type(factor), jnp.number)):
            raise TypeError(f"expected a number or a function (d,) -> (), got {factor!r:.80}; add terms one by one")
        return dataclasses.replace(self, parts=tuple(part.scaled(factor) for part in self.parts))

    __rmul__ = __mul__

    def __truediv__(self, divisor: complex | jax.Array) -> FieldOperator:
        return self * (1 / divisor)

    def __repr__(self) -> str:
        return f"FieldOperator(dimension={self.dimension}, shape={self.shape}, terms={sum(map(len, self.parts))})"

    def apply(self, field: Field, x: Any, coordinates: str | None = None) -> jax.Array:
        """The operator applied to a field at x, exact up to rounding: one propagation of first-order jets a part.

        Args:
          field: F, (d,) -> (m,).
          x: point, (d,) float.
          coordinates: "all" where x has another shape, as for `taylor.divergence`.
        Returns:
          `shape`, in the dtype of x; complex where the field or a coefficient is.
        Raises:
          ValueError: the field, x and the operator do not fit.
          DifferentiationError: an operation of the field has no derivative.
        """
        field, x = self._fitted(field, x, coordinates)
        return sum((self._whole(part, field, x) for part in self.parts), start=jnp.zeros(self.shape, x.dtype))

    def estimate(
        self,
        field: Field,
        x: Any,
        key: jax.Array,
        samples: int,
        *,
        dense: str | None = None,
        replace: bool = False,
        coordinates: str | None = None,
    ) -> jax.Array:
        """An unbiased estimate of `apply`, from a few first-order jets.

        Sparse (the default): `samples` terms of each part are drawn, and weighted by how many they stand for. Dense:
        along random directions v with E v v^T = 1, c dF_k / dx_a is the mean of c v_a (J v)_k; of a divergence v.J v.

        Args:
          field, x, coordinates: as for `apply`.
          key: PRNG key, consumed once.
          samples: terms of each part, or directions; an integer >= 1.
          dense: None, "rademacher" or "gaussian".
          replace: whether a term may be drawn twice; sparse only.
        Returns:
          As for `apply`. For a divergence with Jacobian J the variance is that of the Laplacian's estimate with the
          symmetric part of J in the place of the Hessian, see `stde.estimate`.
        Raises:
          ValueError: samples out of range, another word in dense, or as for `apply`.
          TypeError: samples is no integer.
        Source: Hutchinson (1990); Grathwohl et al., FFJORD (ICLR 2019), section 3; sparse as Shi et al. (2024), eq. 17.
        """
        field, x = self._fitted(field, x, coordinates)
        samples = arguments.integer("samples", samples, "use apply for the exact operator")
        if dense not in (None, "rademacher", "gaussian"):
            raise ValueError(f'expected dense="rademacher", "gaussian" or None, got {dense!r}')
        largest = max(map(len, self.parts), default=samples)
        if dense is None and samples > largest and not replace:
            raise ValueError(
                f"expected samples <= {largest}, the terms of the operator's largest part, got {samples}; draw fewer, "
                "pass replace=True, or use apply"
            )
        total = jnp.zeros(self.shape, x.dtype)
        for part, own in zip(self.parts, jax.random.split(key, len(self.parts)), strict=True):
            inside = _inside(part, field)
            if dense is not None:
                draw = jax.random.rademacher if dense == "rademacher" else jax.random.normal
                v = draw(own, (samples, len(x)), x.dtype)
                slope = self._checked(part, slopes(inside, x, v))
                means = (v[:, part.axes] * slope[:, part.components]).mean(axis=0)
                total = total + self._collect(part.rows, part.at(x) * means)
            elif len(part) <= samples and not replace:
                total = total + self._whole(part, field, x)
            else:
                count = len(part)
                chosen = jax.random.randint(own, (samples,), 0, count) if replace else distinct(own, count, samples)
                slope = self._checked(part, slopes(inside, x, jnp.asarray(part.axes)[chosen]))
                picked = slope[jnp.arange(samples), jnp.asarray(part.components)[chosen]]
                total = total + self._collect(
                    jnp.asarray(part.rows)[chosen], count / samples * part.at(x)[chosen] * picked
                )
        return total

    def _whole(self, part: FieldTerms, field: Field, x: jax.Array) -> jax.Array:
        axes, place = np.unique(part.axes, return_inverse=True)
        slope = self._checked(part, slopes(_inside(part, field), x, axes))
        return self._collect(part.rows, part.at(x) * slope[place, part.components])

    def _collect(self, rows: np.ndarray | jax.Array, values: jax.Array) -> jax.Array:
        """The sum of the values (n,) in their rows."""
        if self.shape == ():
            return values.sum()
        # no scatter into zeros, of which XLA makes a wrong program (see `OneHot.collect`)
        return jnp.where(jnp.asarray(rows) == jnp.arange(self.shape[0])[:, None], values, 0).sum(axis=1)

    def _fitted(self, field: Field, x: Any, coordinates: str | None) -> tuple[Field, jax.Array]:
        field, x = flat_field(field, x, coordinates)
        if len(x) != self.dimension:
            raise ValueError(
                f"expected x of the operator's {self.dimension} coordinates, got {x.shape}; make the operator for those"
            )
        return field, x

    def _checked(self, part: FieldTerms, slope: jax.Array) -> jax.Array:
        """First derivatives (n, m) of a field that has the components the terms ask for, as many as coordinates."""
        if slope.shape[1:] != (self.dimension,):
            raise ValueError(
                f"expected a vector field ({self.dimension},) -> ({self.dimension},), got values of shape "
                f"{slope.shape[1:]}; stack its components"
            )
        return slope


def _inside(part: FieldTerms, field: Field) -> Field:
    return field if part.before is None else part.before(field)


def _value(coefficients: Any, x: jax.Array) -> Any:
    """The coefficients at a point."""
    return coefficients(x) if callable(coefficients) else coefficients


# --- ready operators -----------------------------------------------------------------------------------------


def divergence(d: int, metric: Metric | None = None) -> FieldOperator:
    """The divergence of a field (d,) -> (d,); with a metric as `taylor.divergence`.

    Example:
      >>> float(divergence(2).apply(lambda x: x * x.sum(), jnp.array([1.0, 2.0])))
      9.0
    """
    d = arguments.integer("d", d, "there is no coordinate")
    axes = np.arange(d)
    terms = FieldTerms(np.zeros(d, int), axes, axes, np.ones(d))
    return _with_metric(FieldOperator(d, (), (terms,)), metric, times_volume)


def curl(d: int = 3, metric: Metric | None = None) -> FieldOperator:
    """The curl of a field in three dimensions, or two, where it is one number; with a metric as `taylor.curl`."""
    d = arguments.integer("d", d, "there is no curl in one dimension", least=2)
    if d > 3:
        raise ValueError(f"expected d as 2 or 3, got {d!r}; there is no curl in other dimensions")
    first, second = (np.array([1, 2, 0]), np.array([2, 0, 1])) if d == 3 else (np.array([0]), np.array([1]))
    rows, axes, components = (
        np.concatenate(pair) for pair in ((np.arange(len(first)),) * 2, (first, second), (second, first))
    )
    terms = FieldTerms(rows, axes, components, np.repeat([1.0, -1.0], len(first)))
    return _with_metric(FieldOperator(d, (3,) if d == 3 else (), (terms,)), metric, lowered)


def _with_metric(
    operator: FieldOperator, metric: Metric | None, before: Callable[[Field, Metric], Field]
) -> FieldOperator:
    """1 / w times the operator of what `before` makes of the field."""
    if metric is None:
        return operator
    parts = tuple(dataclasses.replace(part, before=lambda field: before(field, metric)) for part in operator.parts)
    return dataclasses.replace(operator, parts=parts) * (lambda x: 1 / volume(metric, x))
