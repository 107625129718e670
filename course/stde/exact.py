"""An operator applied to a function, exact by jets. Needs JAX. Lesson: 18_stde."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from course import taylor
from course.stde.kinds import Kind, alike, in_dtype_of
from course.stde.operators import Operator
from course.taylor import arguments
from course.taylor.functions import ScalarField, along_axes


def apply(operator: Operator, f: ScalarField, x: jax.Array) -> jax.Array:
    """The operator applied to f at x, exact up to rounding.

    Pure derivatives of one order take one propagation of jets along the axes, the Laplacian and the biharmonic operator
    the compressed one; a definite form of second order takes the eigenvectors of its matrix; any other mixed derivative
    is taken one axis after the other, which loses no digits where axes differ in scale.

    Args:
      operator: over d coordinates.
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
    Returns:
      Scalar (), dtype of x; complex where f or a coefficient is.
    Raises:
      ValueError: the dimensions differ, or x or f do not fit as in `taylor.laplacian`.
      DifferentiationError: an operation of f has no derivative.
    Example:
      >>> wave = Operator({(2, 0): 1.0, (0, 2): -9.0})
      >>> float(apply(wave, lambda x: jnp.sin(3 * x[0] + x[1]), jnp.zeros(2)))
      0.0
    """
    x = point(operator, x)
    total = jnp.zeros((), x.dtype)
    for order in sorted({kind.order for kind in operator.kinds}):
        total += of_order([kind for kind in operator.kinds if kind.order == order], f, x)
    return total


def of_order(kinds: list[Kind], f: ScalarField, x: jax.Array) -> jax.Array:
    """Terms of one order."""
    order = kinds[0].order
    if order == 0:
        return sum(kind.at(x).sum() for kind in kinds) * along_axes(f, x, np.arange(0), ())
    total, rest = jnp.zeros((), x.dtype), []
    while kinds:
        group = [kind for kind in kinds if kind is kinds[0] or alike(kind, kinds[0])]
        kinds = [kind for kind in kinds if not any(kind is other for other in group)]
        found = _as_a_whole(group, f, x)
        if found is None:
            rest += group
        else:
            total += found
    pure = [kind for kind in rest if len(kind.powers) == 1]
    if pure:
        axes, weights = np.concatenate([k.axes[:, 0] for k in pure]), jnp.concatenate([k.at(x) for k in pure])
        total += weighted(f, x, axes, weights, order)
    for kind in rest:
        if kind.powers == (1, 1):
            total += _row_by_row(kind, f, x)
        elif len(kind.powers) > 1:
            total += one_by_one(kind, kind.at(x), kind.axes, f, x)
    return total


def _as_a_whole(kinds: list[Kind], f: ScalarField, x: jax.Array) -> jax.Array | None:
    """Fixed terms of one order with one factor, if there is a way to take them together."""
    if not kinds[0].fixed:
        return None
    factor, scale = in_dtype_of(x, kinds[0].factor), laplacian_scale(kinds, len(x))
    if scale is not None:
        return factor * scale * taylor.laplacian(f, x)
    scale = biharmonic_scale(kinds, len(x))
    if scale is not None:
        return factor * scale * taylor.biharmonic(f, x)
    if kinds[0].order == 2 and any(len(kind.powers) == 2 for kind in kinds):
        directions, values = eigenvectors(kinds, len(x))
        if (values >= 0).all() or (values <= 0).all():  # else terms cancel that a mixed derivative does not have
            return factor * taylor.weighted(f, x, directions, values, 2) if len(values) else jnp.zeros((), x.dtype)
    return None


def weighted(f: ScalarField, x: jax.Array, directions: ArrayLike, weights: jax.Array, order: int) -> jax.Array:
    """`taylor.weighted` with weights that may be complex."""
    if not jnp.iscomplexobj(weights):
        return taylor.weighted(f, x, directions, weights, order)
    real, imaginary = (taylor.weighted(f, x, directions, part, order) for part in (weights.real, weights.imag))
    return real + 1j * imaginary


def _row_by_row(kind: Kind, f: ScalarField, x: jax.Array) -> jax.Array:
    """The sum of c_ij u_ij over i < j: for each i, the derivative along e_i of that along the sum of c_ij e_j."""
    coefficients = kind.at(x)
    if jnp.iscomplexobj(coefficients):

        def with_coefficients(part: jax.Array) -> Kind:
            return Kind(kind.powers, kind.axes, lambda x: part)

        parts = (coefficients.real, coefficients.imag)
        real, imaginary = (_row_by_row(with_coefficients(part), f, x) for part in parts)
        return real + 1j * imaginary
    axes, rows = np.unique(kind.axes[:, 0], return_inverse=True)
    # gathered, not scattered: XLA (jaxlib 0.7 to 0.12) folds this scatter into a wrong program, where x makes numbers
    if len(np.unique(kind.axes, axis=0)) < len(kind):
        raise ValueError("expected every pair of axes once in a kind, got one twice; add up their coefficients")
    places = np.full((len(axes), len(x)), len(kind))
    places[rows, kind.axes[:, 1]] = np.arange(len(kind))
    matrix = jnp.append(coefficients, jnp.zeros((), x.dtype))[places]

    def second(axis: jax.Array, row: jax.Array) -> jax.Array:
        def slope(x: jax.Array) -> jax.Array:
            return taylor.weighted(f, x, row[None], jnp.ones(1, x.dtype), 1)

        return along_axes(slope, x, axis[None], (1,))

    return jax.vmap(second)(jnp.asarray(axes), matrix).sum()


def one_by_one(kind: Kind, coefficients: jax.Array, axes: ArrayLike, f: ScalarField, x: jax.Array) -> jax.Array:
    """The sum of terms of one kind, each by its own jets."""
    return coefficients @ jax.vmap(lambda axes: along_axes(f, x, axes, kind.powers))(jnp.asarray(axes))


def eigenvectors(kinds: list[Kind], d: int) -> tuple[np.ndarray, np.ndarray]:
    """A quadratic form in d directions instead of one for each of its d^2 terms; those of value 0 left out."""
    values, vectors = np.linalg.eigh(_matrix(kinds, d))
    kept = np.abs(values) > 1e-14 * np.abs(values).max()
    return vectors.T[kept], values[kept]


def _matrix(kinds: list[Kind], d: int) -> np.ndarray:
    """The symmetric matrix C of second-order terms, (d, d)."""
    matrix = np.zeros((d, d))
    for kind in kinds:
        i, j = kind.axes[:, 0], kind.axes[:, -1]
        np.add.at(matrix, (i, j), kind.known / 2)
        np.add.at(matrix, (j, i), kind.known / 2)
    return matrix


def point(operator: Operator, x: jax.Array) -> jax.Array:
    x = arguments.point(x)
    if len(x) != operator.dimension:
        raise ValueError(
            f"expected x of the operator's {operator.dimension} coordinates, got {x.shape}; make the operator for those"
        )
    return x


def laplacian_scale(kinds: list[Kind], d: int) -> float | None:
    """The coefficient, if these terms are a multiple of the Laplacian over all coordinates."""
    if len(kinds) != 1 or kinds[0].powers != (2,) or not _equal(kinds[0].known):
        return None
    return float(kinds[0].known[0]) if np.array_equal(np.sort(kinds[0].axes[:, 0]), np.arange(d)) else None


def biharmonic_scale(kinds: list[Kind], d: int) -> float | None:
    """The factor, if these terms are a multiple of the biharmonic operator in d > 1 coordinates."""
    by_powers = {kind.powers: kind for kind in kinds}
    if set(by_powers) != {(4,), (2, 2)} or len(kinds) != 2 or not kinds[0].fixed:
        return None
    pure, mixed = by_powers[4,], by_powers[2, 2]
    complete = (
        len({*pure.axes[:, 0]}) == len(pure) == d and len({*map(tuple, mixed.axes)}) == len(mixed) == d * (d - 1) // 2
    )
    if not (complete and _equal(pure.known) and _equal(mixed.known)):
        return None
    scale = pure.known[0]
    return float(scale) if mixed.known[0] == 2 * scale else None


def _equal(values: np.ndarray) -> bool:
    return bool(np.all(values == values[0]))
