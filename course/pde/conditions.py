"""Initial and boundary conditions and data: built into an ansatz, or penalised. Needs NumPy and JAX.

Lesson: 21_your_own_equation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from course import taylor
from course.pde.domain import Box
from course.pde.equation import Field, scalar
from course.pde.sampling import sample_box

Residual = Callable[..., jax.Array]
"""(u, x (d,), **unknowns) -> (): what an equation or a condition leaves over of u at x."""


@dataclass(frozen=True)
class Face:
    """What holds where one coordinate has one value; made by `given`.

    Attributes:
      axis: the name of the coordinate.
      at: its value.
      order: of the derivative across the face that is given.
      equals: its value, x (d,) -> ().
      residual: another condition than a given value, or None.
      weight: of the penalty; None builds it into the ansatz.
    """

    axis: str
    at: float
    order: int
    equals: Field
    residual: Residual | None
    weight: float | None

    def __str__(self) -> str:
        return f"{'u' + '_' * bool(self.order) + self.axis * self.order} at {self.axis} = {self.at:g}"

    def draw(self, domain: Box, key: jax.Array, n: int) -> jax.Array:
        """Random points of the face, a quarter of n, (m, d)."""
        axis = domain.axis(self.axis)
        lower, upper = ((*b[:axis], self.at, *b[axis + 1 :]) for b in (domain.lower, domain.upper))
        return sample_box(key, max(16, n // 4), lower, upper)

    def residual_at(self, domain: Box, u: Field, x: jax.Array, unknowns: Mapping[str, jax.Array]) -> jax.Array:
        """What the condition leaves over at a point (d,) of the face, ()."""
        if self.residual is None:
            return across(u, x, domain.axis(self.axis), self.order) - self.equals(x)
        return left_over(self.residual, u, x, unknowns)


@dataclass(frozen=True)
class OnFaces:
    """A derivative across a face of a function that all faces share: what `conditions_of` gives as `equals`."""

    shared: Field
    axis: int
    order: int

    def __call__(self, x: jax.Array) -> jax.Array:
        return across(self.shared, x, self.axis, self.order)


@dataclass(frozen=True, eq=False)
class Data:
    """Values of u at points, measured for instance; made by `data`."""

    points: jax.Array
    values: jax.Array
    weight: float

    def draw(self, domain: Box, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """Points and values: all of them, or n drawn ones where there are more."""
        if n >= len(self.values):
            return self.points, self.values
        chosen = jax.random.choice(key, len(self.values), (n,), replace=False)
        return self.points[chosen], self.values[chosen]

    def residual_at(
        self, domain: Box, u: Field, one: tuple[jax.Array, jax.Array], unknowns: Mapping[str, jax.Array]
    ) -> jax.Array:
        """The gap between u and one value, ()."""
        return u(one[0]) - one[1]


def given(*, weight: float | None = None, residual: Residual | None = None, **what: float | Field) -> Face:
    """A condition on a face of the domain: `given(t=0, u=initial)`, `given(x=1, u_x=0.0, weight=1.0)`.

    Args:
      weight: of a penalty, the mean square of what the condition leaves over. None builds the condition in: any network
        satisfies it. A slope, u_x, can be built in only together with the value u on the same face.
      residual: (u, x (d,), **unknowns) -> (), for a condition that gives no value: `lambda u, x: ...`; with a weight.
      what: the face, as name=number; and u, or a derivative across the face (u_t, u_xx), as a number or a function
        x (d,) -> () of the point.
    Raises:
      ValueError: no face or more than one, neither a value nor a residual, or a residual without weight.
    """
    faces = [name for name in what if len(name) == 1 and name != "u"]
    values = [name for name in what if name not in faces]
    if len(faces) != 1:
        raise ValueError(f"expected one face and u, or its slope, got {list(what)}; as in given(t=0, u=...)")
    if (residual is None) != (len(values) == 1) or len(values) > 1:
        raise ValueError(f"expected u, one derivative of it, or residual=, got {values}; one for each condition")
    (axis,), name = faces, values[0] if values else "u"
    order = len(name) - 2 if name != "u" else 0
    if name not in ("u", "u_" + axis * max(order, 1)):
        raise ValueError(
            f"expected u or a derivative across the face, u_{axis}, got the unknown {name}; write another condition as "
            "residual=lambda u, x: ..., with a weight"
        )
    if residual is not None and weight is None:
        raise ValueError("expected a weight with residual=, got None; only values of u and slopes can be built in")
    if weight is not None and not weight > 0:
        raise ValueError(
            f"expected a weight > 0, got {weight}; leave the condition out, or leave weight out to build it in"
        )
    value: Any = what[name] if values else 0.0
    equals = scalar(value) if callable(value) else lambda x: jnp.asarray(value, x.dtype)
    return Face(axis, float(what[axis]), order, equals, residual, weight)  # type: ignore[arg-type]


def data(points: ArrayLike, values: ArrayLike, weight: float = 1.0) -> Data:
    """Values of u at points as a penalty, the mean square of the gaps times a weight.

    Args:
      points: (n, d).
      values: (n,), finite.
      weight: of the penalty, > 0.
    Raises:
      ValueError: other shapes, values that are not finite, or a weight that is not positive.
    """
    at, wanted = jnp.asarray(points, float), jnp.asarray(values, float)
    if at.ndim != 2 or wanted.shape != at.shape[:1] or not len(at):
        raise ValueError(
            f"expected points (n, d) and values (n,), got {at.shape} and {wanted.shape}; on one axis take "
            "points[:, None]"
        )
    if not (jnp.isfinite(at).all() and jnp.isfinite(wanted).all() and weight > 0):
        raise ValueError("expected finite points and values and a weight > 0, got others; leave missing values out")
    return Data(at, wanted, float(weight))


def conditions_of(solution: Field, domain: Box, **known: tuple[int, int]) -> list[Face]:
    """What a known solution has on the faces of a box, to be built in.

    Args:
      solution: (d,) -> (); called on the faces alone.
      domain: the box.
      known: axis -> how much is given at its lower and at its upper end: 0 is nothing, 1 the value, 2 value and slope.
        t=(1, 0) is an initial value, x=(1, 2) the three conditions of a third derivative.
    Returns:
      As from `given`, one for each.
    Raises:
      ValueError: an axis that is not there.
    """

    def face(axis: str, at: float, order: int) -> Face:
        return Face(axis, at, order, OnFaces(solution, domain.axis(axis), order), None, None)

    return [
        face(axis, bounds[domain.axis(axis)], order)
        for axis, counts in known.items()
        for bounds, count in zip((domain.lower, domain.upper), counts, strict=True)
        for order in range(count)
    ]


def left_over(residual: Residual, u: Field, x: jax.Array, unknowns: Mapping[str, jax.Array]) -> jax.Array:
    """The value of a residual at a point, ().

    Raises:
      ValueError: it is no single number, or the residual takes other coefficients.
    """
    try:
        inspect.signature(residual).bind(u, x, **unknowns)
    except TypeError as error:
        raise ValueError(
            f"expected a residual ({', '.join(['u', 'x', *unknowns])}), got one that is called otherwise ({error}); "
            "residuals of equation and conditions take all coefficients, whose first guesses are solve's unknowns="
        ) from error
    value = residual(scalar(u), x, **unknowns)
    number = isinstance(value, jax.Array | np.ndarray | np.generic | float | int)
    got = np.shape(value) if number else type(value).__name__
    if got != ():
        raise ValueError(
            f"expected a residual of shape () at a point, got {got}; pick entries of derivatives, "
            "u_t = domain.derivatives(u, x, 't')[0], and give one Problem one equation"
        )
    return jnp.asarray(value)


def across(u: Field, x: jax.Array, axis: int, order: int) -> jax.Array:
    """A derivative of u along one axis, ()."""
    if not order:
        return u(x)
    return taylor.derivatives(u, x, np.eye(len(x))[axis], order)[order]


def built_in(domain: Box, faces: Sequence[Face]) -> tuple[Field, Field]:
    """A function that satisfies the conditions, and a factor that vanishes where a network must not change it.

    Axis by axis, what the function so far lacks on the faces is carried inside by Hermite polynomials: transfinite
    interpolation (Gordon and Hall, 1973). The largest value of the factor is 1.

    Raises:
      ValueError: a derivative is given without those below it, or something twice.
    """
    lift: Field = lambda x: jnp.zeros((), x.dtype)  # noqa: E731
    factors, sources = [], {face.equals.shared if isinstance(face.equals, OnFaces) else None for face in faces}
    (lacking,) = sources if len(sources) == 1 else (None,)
    for axis, name in enumerate(domain.names):
        here = sorted((face for face in faces if face.axis == name), key=lambda face: (face.at, face.order))
        if not here:
            continue
        for place, group in groupby(here, key=lambda face: face.at):
            orders = [face.order for face in group]
            if orders != list(range(len(orders))):
                raise ValueError(
                    f"expected u, u_{name}, ... once each at {name} = {place:g} to build them in, got derivatives of "
                    f"orders {orders}; a slope alone, or what is given twice, needs a weight: "
                    f"given({name}={place:g}, u_{name}=..., weight=1.0)"
                )
        if lacking is None:
            lift = _with_faces(domain, lift, axis, here)
        else:
            lift, lacking = _with_shared(domain, lift, lacking, axis, here)
        factors.append((axis, _roots(domain, axis, here)))

    def factor(x: jax.Array) -> jax.Array:
        z, product = domain.unit(x), jnp.ones((), x.dtype)
        for axis, polynomial in factors:
            product *= _horner(polynomial, z[axis])
        return product

    return lift, factor


def _with_faces(domain: Box, lift: Field, axis: int, faces: Sequence[Face]) -> Field:
    polynomials = _hermite(domain, axis, faces)

    def lifted(x: jax.Array) -> jax.Array:
        total, z = lift(x), domain.unit(x)[axis]
        for face, polynomial in zip(faces, polynomials, strict=True):
            at = x.at[axis].set(face.at)
            total += _horner(polynomial, z) * (face.equals(at) - across(lift, at, axis, face.order))
        return total

    return lifted


def _with_shared(domain: Box, lift: Field, lacking: Field, axis: int, faces: Sequence[Face]) -> tuple[Field, Field]:
    """`_with_faces` where all that is given comes from one function f; `lacking` is f - lift, known on faces alone.

    The lift has a copy of f for each axis, evaluated for many places at once. `_with_faces` has one for each corner,
    edge and face: ten times the program, and the compiler's time.
    """
    polynomials, orders = _hermite(domain, axis, faces), np.array([face.order for face in faces])
    places, rows = np.unique([face.at for face in faces], return_inverse=True)
    order = int(orders.max())
    middle, half = (domain.upper[axis] + domain.lower[axis]) / 2, (domain.upper[axis] - domain.lower[axis]) / 2

    def at(x: jax.Array, where: jax.Array) -> jax.Array:  # (places, order + 1), derivatives across
        direction = np.eye(len(x))[axis]

        def here(place: jax.Array) -> jax.Array:
            moved = jnp.where(direction == 1, place, x)
            return taylor.derivatives(lacking, moved, direction, order) if order else lacking(moved)[None]

        return jax.vmap(here)(where)

    def carried(x: jax.Array, found: jax.Array) -> jax.Array:
        values, z = jnp.zeros(len(faces), x.dtype), (x[axis] - middle) / half
        for powers in polynomials.T:  # all faces' at once
            values = values * z + powers.astype(x.dtype)
        return values @ found[rows, orders]

    def lifted(x: jax.Array) -> jax.Array:
        return lift(x) + carried(x, at(x, jnp.asarray(places, x.dtype)))

    def left(x: jax.Array) -> jax.Array:
        found = at(x, jnp.append(jnp.asarray(places, x.dtype), x[axis]))
        return found[-1, 0] - carried(x, found)

    return lifted, left


def _to_unit(domain: Box, axis: int, at: float) -> tuple[float, float]:
    """A coordinate in [-1, 1], and its derivative."""
    slope = 2 / (domain.upper[axis] - domain.lower[axis])
    return slope * (at - domain.lower[axis]) - 1, slope


def _hermite(domain: Box, axis: int, faces: Sequence[Face]) -> np.ndarray:
    """For each condition the polynomial, highest power first, that satisfies it alone and the others with zero."""
    monomials, rows = np.eye(len(faces)), []
    for face in faces:
        z, slope = _to_unit(domain, axis, face.at)
        rows.append([slope**face.order * np.polyval(np.polyder(p, face.order), z) for p in monomials])
    return np.linalg.inv(np.array(rows)).T


def _roots(domain: Box, axis: int, faces: Sequence[Face]) -> np.ndarray:
    """A polynomial with a root for each condition, of size 1 in [-1, 1]."""
    polynomial = np.poly([_to_unit(domain, axis, face.at)[0] for face in faces])
    values = np.polyval(polynomial, np.linspace(-1, 1, 2001))
    return polynomial / values[abs(values).argmax()]


def _horner(polynomial: np.ndarray, z: jax.Array) -> jax.Array:
    total = jnp.zeros((), z.dtype)
    for coefficient in polynomial:
        total = total * z + float(coefficient)
    return total
