"""An operator applied to a function, exact by jets. Needs JAX. Lesson: 18_stde."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course import taylor
from course.stde import shared
from course.stde.fields import FieldOperator
from course.stde.kinds import Factor, Kind, alike, common, factor_at, groups, in_dtype_of, joined
from course.stde.operators import Operator
from course.taylor import arguments
from course.taylor.functions import Field, along_axes

PAIRS = 28
"""So many pairs u_iijj are taken one by one where all of them as a difference would lose digits."""


def apply(operator: Operator | FieldOperator, f: Field, x: Any, *, coordinates: str | None = None) -> jax.Array:
    """The operator applied to f at x, exact up to rounding; of an f with several values to each of them.

    Each axis is one line, of the highest order asked along it, and lower derivatives are read from its jet; lines of
    one order go together. The Laplacian and the biharmonic operator take compressed jets, and so does any mixture of
    the sum of u_iiii with that of all u_iijj; a definite form of second order takes the eigenvectors of its matrix; any
    other mixed derivative is taken one axis after the other, which loses no digits where axes differ in scale, and
    those of lower order are read from its jets. The sum of all u_iijj without that of u_iiii is a difference, of more
    than 28 pairs: its rounding is that of the larger.

    Args:
      operator: over d coordinates; or of vector fields, as `divergence`.
      f: (d,) -> (*out), one array, real or complex; for a `FieldOperator` a vector field (d,) -> (d,).
      x: point, (d,) float.
      coordinates: "all" where x is an array of another shape, or a pytree, and every entry is a coordinate. They count
        in the order of `jax.flatten_util.ravel_pytree`; or where x is a dict of numbers with the names of the
        operator's coordinates, in the order of these. Coefficients that are functions get the flat point (d,).
    Returns:
      (*out), dtype of x; complex where f or a coefficient is.
    Raises:
      ValueError: the dimensions differ, or x or f do not fit as in `taylor.laplacian`.
      DifferentiationError: an operation of f has no derivative.
    Example:
      >>> wave = Operator({(2, 0): 1.0, (0, 2): -9.0})
      >>> float(apply(wave, lambda x: jnp.sin(3 * x[0] + x[1]), jnp.zeros(2)))
      0.0
    """
    if isinstance(operator, FieldOperator):
        return operator.apply(f, x, coordinates)
    f, x = flat(operator, f, x, coordinates)
    return total(list(operator.kinds), f, x)


def total(kinds: list[Kind], f: Field, x: jax.Array) -> jax.Array:
    """The sum of these terms at x."""
    if not kinds:
        value = jax.eval_shape(f, x)
        return jnp.zeros(value.shape, jnp.result_type(value, x))
    wholes, kinds = _bilaplacian(kinds, f, x)
    forms, kinds = _forms(kinds, f, x)
    rows = [kind for kind in kinds if kind.powers == (1, 1) and len(np.unique(kind.listed[:, 0])) < len(kind)]
    rest = [kind for kind in kinds if not any(kind is row for row in rows)]
    return sum([*wholes, *forms, *(_row_by_row(kind, f, x) for kind in rows)], shared.total(rest, f, x))


def _bilaplacian(kinds: list[Kind], f: Field, x: jax.Array) -> tuple[list[jax.Array], list[Kind]]:
    """The Laplacian of (c4 times the Laplacian of f, plus c2 f), if these terms hold it; and the other terms.

    The sum of u_iijj over all pairs is half of what the biharmonic operator has beyond the sum of u_iiii.
    """
    d, fourth, second = len(x), [], []
    for pairs in [kind for kind in kinds if kind.powers == (2, 2)]:
        scale = common(pairs, d)
        if scale is None:
            continue
        less = Kind((4,), np.arange(d)[:, None], np.full(d, -scale / 2), pairs.factor)
        pure = next((kind for kind in kinds if kind.powers == (4,) and alike(kind, pairs)), None)
        rest = less if pure is None else joined(pure, less)
        if len(pairs) <= PAIRS and (rest.known * scale < 0).any():  # it would be a difference
            continue
        fourth.append(_value(pairs.factor, scale / 2, x))
        kept = rest.known != 0
        rest = dataclasses.replace(rest, axes=rest.listed[kept], coefficients=rest.known[kept])
        kinds = [kind for kind in kinds if kind is not pairs and kind is not pure] + [rest] * bool(kept.any())
    if not fourth:
        return [], kinds
    for kind in [kind for kind in kinds if kind.powers == (2,)]:
        scale = common(kind, d)
        if scale is not None:
            second.append(_value(kind.factor, scale, x))
            kinds = [other for other in kinds if other is not kind]

    def inner(z: jax.Array) -> jax.Array:
        value, laplacian = taylor.value_and_laplacian(f, z)
        return sum(fourth) * laplacian + sum(second) * value if second else sum(fourth) * laplacian

    return [taylor.laplacian(inner, x)], kinds


def _value(factor: Factor, number: float, x: jax.Array) -> jax.Array:
    return in_dtype_of(x, factor_at(x, factor) * number)


def _forms(kinds: list[Kind], f: Field, x: jax.Array) -> tuple[list[jax.Array], list[Kind]]:
    """Definite quadratic forms of second order, by their eigenvectors; and the other terms."""
    found = []
    for group in groups([kind for kind in kinds if kind.order == 2 and kind.fixed]):
        crossed = [kind for kind in group if len(kind.powers) == 2]
        zero = [kind for kind in group if crossed and not kind.known.any()]  # of a diagonal matrix, or one of zeros
        kinds = [kind for kind in kinds if not any(kind is other for other in zero)]
        if all(any(kind is other for other in zero) for kind in crossed):
            continue
        directions, values = eigenvectors(group, len(x))
        if (values >= 0).all() or (values <= 0).all():  # else terms cancel that a mixed derivative does not have
            kinds = [kind for kind in kinds if not any(kind is other for other in group)]
            if len(values):
                found.append(_value(group[0].factor, 1.0, x) * taylor.weighted(f, x, directions, values, 2))
    return found, kinds


def _row_by_row(kind: Kind, f: Field, x: jax.Array) -> jax.Array:
    """The sum of c_ij u_ij over i < j: for each i, the derivative along e_i of that along the sum of c_ij e_j."""
    coefficients = kind.at(x)
    if jnp.iscomplexobj(coefficients):

        def with_coefficients(part: jax.Array) -> Kind:
            return Kind(kind.powers, kind.axes, lambda x: part)

        parts = (coefficients.real, coefficients.imag)
        real, imaginary = (_row_by_row(with_coefficients(part), f, x) for part in parts)
        return real + 1j * imaginary
    pairs = kind.listed
    axes, rows = np.unique(pairs[:, 0], return_inverse=True)
    # gathered, not scattered: XLA (jaxlib 0.7 to 0.12) folds this scatter into a wrong program, where x makes numbers
    if len(np.unique(pairs, axis=0)) < len(kind):
        raise ValueError("expected every pair of axes once in a kind, got one twice; add up their coefficients")
    places = np.full((len(axes), len(x)), len(kind))
    places[rows, pairs[:, 1]] = np.arange(len(kind))
    matrix = jnp.append(coefficients, jnp.zeros((), x.dtype))[places]

    def second(axis: jax.Array, row: jax.Array) -> jax.Array:
        def slope(x: jax.Array) -> jax.Array:
            return taylor.weighted(f, x, row[None], jnp.ones(1, x.dtype), 1)

        return along_axes(slope, x, axis[None], (1,))

    return jax.vmap(second)(jnp.asarray(axes), matrix).sum(axis=0)


def eigenvectors(kinds: list[Kind], d: int) -> tuple[np.ndarray, np.ndarray]:
    """A quadratic form in d directions instead of one for each of its d^2 terms; those of value 0 left out.

    Axes are scaled first, so that small coefficients of one axis do not pass for the rounding of another's.
    """
    matrix = _matrix(kinds, d)
    scale = np.sqrt(np.abs(np.where(np.diag(matrix) == 0, np.abs(matrix).max(axis=0), np.diag(matrix))))
    scale[scale == 0] = 1
    values, vectors = np.linalg.eigh(matrix / scale / scale[:, None])
    kept = np.abs(values) > 1e-14 * np.abs(values).max()
    return (scale[:, None] * vectors).T[kept], values[kept]


def _matrix(kinds: list[Kind], d: int) -> np.ndarray:
    """The symmetric matrix C of second-order terms, (d, d)."""
    matrix = np.zeros((d, d))
    for kind in kinds:
        i, j = kind.listed[:, 0], kind.listed[:, -1]
        np.add.at(matrix, (i, j), kind.known / 2)
        np.add.at(matrix, (j, i), kind.known / 2)
    return matrix


def flat(operator: Operator, f: Field, x: Any, coordinates: str | None) -> tuple[Field, jax.Array]:
    """f as a function of a flat point, and that point (d,), in the order of the operator's coordinates."""
    if not isinstance(operator, Operator):
        raise TypeError(f"expected an Operator first, got {operator!r:.80}; stde.laplacian(d) is one")
    names = operator.coordinates
    if coordinates == "all" and names is not None and isinstance(x, Mapping):
        if set(x) != set(names):
            raise ValueError(f"expected x with the operator's names {names}, got {tuple(x)}; rename its entries")
        inner = f
        f, x = (lambda z: inner({name: z[i] for i, name in enumerate(names)})), [x[name] for name in names]
        if any(jnp.shape(each) for each in x):
            got = {name: jnp.shape(each) for name, each in zip(names, x, strict=True)}
            raise ValueError(f"expected one number for each name in x, got shapes {got}; give each coordinate its name")
        x, coordinates = jnp.stack([arguments.floating(each) for each in x]), None
    f, x = arguments.flattened(f, x, coordinates)
    if len(x) != operator.dimension:
        raise ValueError(
            f"expected x of the operator's {operator.dimension} coordinates, got {x.shape}; make the operator for those"
        )
    return f, x
