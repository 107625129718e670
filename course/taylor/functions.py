"""What users call: derivatives along lines, Laplacians, mixed partial derivatives. Needs JAX.

Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from course.taylor import arguments, linear_algebra, loops  # noqa: F401 - they register their rules
from course.taylor.one_hot import OneHot
from course.taylor.programs import Program, trace
from course.taylor.propagation import Lines, propagate
from course.taylor.rules import Jet

ScalarField = Callable[[jax.Array], jax.Array]
"""A scalar field: a function of one point, (d,) -> ()."""
Field = Callable[[Any], jax.Array]
"""A field: a function of one point, (d,) -> (*out), with values of any one shape, real or complex."""


def derivatives(f: Callable[[jax.Array], jax.Array], x: jax.Array, v: ArrayLike, order: int) -> jax.Array:
    """All derivatives of f along a line up to an order: d^k/dt^k f(x + t v) at t = 0.

    Args:
      f: any function of one array, (*shape) -> (*out).
      x: point, (*shape) float.
      v: direction, (*shape).
      order: highest derivative, an integer from 1 to 40.
    Returns:
      D^0 f … D^order f along v, (order + 1, *out), in the dtype of f's output.
    Raises:
      ValueError: x and v differ in shape, x is not floating, f returns several arrays, or order is out of range.
      TypeError: x is no array, or order no integer.
      DifferentiationError: an operation of f has no derivative.
    Source: Griewank and Walther, Evaluating Derivatives, chapter 13; Shi et al. (2024), section 3.
    Example:
      >>> derivatives(jnp.exp, jnp.array(0.0), jnp.array(2.0), order=3).tolist()
      [1.0, 2.0, 4.0, 8.0]
    """
    x, order = arguments.floating(x), arguments.derivative_order(order)
    direction = arguments.real("directions", v, x.dtype)
    if direction.shape != x.shape:
        raise ValueError(f"expected a direction of x's shape {x.shape}, got {direction.shape}; one direction per call")
    program = trace(f, x)
    if len(program.outputs) != 1:
        raise ValueError(
            f"expected f to return one array, got {len(program.outputs)}; return them stacked, or one by one"
        )
    (y,) = propagate(program, [x, *_start(direction[None], Lines(order, 1))], Lines(order, 1))
    zero = jnp.zeros_like(y[0])
    lower = [zero if each is None else each[0].astype(zero.dtype) for each in y[1:order]]
    return jnp.stack([y[0], *lower, _highest(y)])


def value_and_laplacian(
    f: Field, x: Any, directions: Any = None, *, compress: bool = True, coordinates: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """The value of f, and the sum over directions r of D^2 f[v_r, v_r]: the Laplacian where they are all coordinates.

    Collapsed Taylor mode: one second-order coefficient, not one per direction. What follows a point of the program
    depends on the first derivatives alive there only through their Gram matrix; where they are together narrower than
    the number of directions, they are replaced by a square factor of it (`course.taylor.gram`). For a network that
    finds the linear first layer by itself and makes the cost almost independent of the dimension.

    Args:
      f: (d,) -> (*out), one array of any shape, real or complex.
      x: point, (d,) float.
      directions: (R, d); or integers (R,), the numbers of coordinate axes; or None, all d of them. Traced axes cannot
        be checked: one that does not exist makes the result NaN.
      compress: whether to replace first derivatives by a factor of their Gram matrix.
      coordinates: "all" where x is an array of another shape, or a pytree of floating arrays, and every entry is a
        coordinate: electrons (n, 3), or {"t": (), "x": (3,)}. Directions are then like x with an axis R in front of
        each array, or the numbers of axes in the order of `jax.flatten_util.ravel_pytree`.
    Returns:
      (f(x), sum of second derivatives of each entry), both (*out) in the dtype of f's output. Exact up to rounding;
      where first derivatives are linearly dependent: with m of them 4 * sqrt(m) machine epsilons, relative, at worst
      10 * m.
    Raises:
      ValueError: x is not one-dimensional or not floating, f returns several arrays, or directions do not fit.
      TypeError: x is no array.
      DifferentiationError: an operation of f has no derivative.
    Source: Dangel et al. (NeurIPS 2025), section 3; Li et al., forward Laplacian (2024).
    Example:
      >>> [float(part) for part in value_and_laplacian(lambda x: (x**2).sum(), jnp.ones(3))]
      [3.0, 6.0]
    """
    directions = arguments.flat_directions(directions, x, coordinates)
    f, x = arguments.flattened(f, x, coordinates)
    start, count = arguments.lines(x, directions)
    (y,) = propagate(_one_array(f, x), [x, start, None], Lines(2, count), compress)
    return y[0], _highest(y)


def laplacian(
    f: Field, x: Any, directions: Any = None, *, compress: bool = True, coordinates: str | None = None
) -> jax.Array:
    """The sum of second derivatives alone, (*out) in the dtype of f's output; all else is as in `value_and_laplacian`.

    Example:
      >>> float(laplacian(lambda x: (x**2).sum(), jnp.ones(3)))
      6.0
      >>> laplacian(lambda x: x**3, jnp.array([1.0, 2.0])).tolist()
      [6.0, 12.0]
      >>> float(laplacian(lambda r: jnp.prod(r["t"] * r["x"] ** 2), {"t": 1.0, "x": jnp.ones(1)}, coordinates="all"))
      2.0
    """
    return value_and_laplacian(f, x, directions, compress=compress, coordinates=coordinates)[1]


def weighted(
    f: Field, x: Any, directions: Any, weights: ArrayLike, order: int, *, coordinates: str | None = None
) -> jax.Array:
    """The sum over directions r of weight_r times D^order f along v_r, with one collapsed top coefficient.

    Args:
      f: (d,) -> (*out), one array of any shape, real or complex.
      x: point, (d,) float.
      directions: (R, d), or integers (R,), the numbers of coordinate axes.
      weights: (R,), real, of any sign.
      order: an integer from 1 to 40.
      coordinates: "all" where x is not (d,), as for `value_and_laplacian`.
    Returns:
      (*out), in the dtype of f's output.
    Raises:
      ValueError: as for `value_and_laplacian`; or the weights are complex, or not one per direction.
      TypeError: x is no array.
      DifferentiationError: an operation of f has no derivative.
    Source: Dangel et al. (NeurIPS 2025), section 3.
    """
    order, directions = arguments.derivative_order(order), arguments.flat_directions(directions, x, coordinates)
    f, x = arguments.flattened(f, x, coordinates)
    start, count = arguments.lines(x, directions)
    weights = arguments.real("weights", weights, x.dtype)
    if weights.shape != (count,):
        raise ValueError(f"expected one weight per direction, ({count},), got {weights.shape}")
    lines = Lines(order, count, weights)
    (y,) = propagate(_one_array(f, x), [x, *_start(start, lines)], lines)
    return _highest(y)


def biharmonic(f: Field, x: Any, *, coordinates: str | None = None) -> jax.Array:
    """The Laplacian of the Laplacian of f, the sum over i, j of d^4 f / dx_i^2 dx_j^2.

    Args:
      f: (d,) -> (*out), one array of any shape, real or complex.
      x: point, (d,) float.
      coordinates: "all" where x is not (d,), as for `value_and_laplacian`.
    Returns:
      (*out), in the dtype of f's output. Both Laplacians are collapsed and compressed.
    Raises:
      ValueError: x or f do not fit, as for `value_and_laplacian`.
      TypeError: x is no array.
      DifferentiationError: an operation of f has no derivative.
    Example:
      >>> float(biharmonic(lambda x: (x**4).sum(), jnp.ones(3)))
      72.0
    """
    f, x = arguments.flattened(f, x, coordinates)
    return laplacian(lambda x: laplacian(f, x), x)


def partial_derivative(f: Field, x: Any, multi_index: Any, *, coordinates: str | None = None) -> jax.Array:
    """Any mixed partial derivative, exact up to rounding whatever the scales of the axes.

    One axis after the other, those of the lowest powers first: a jet of order p along an axis, of the program of the
    jets before it. Nothing cancels, as it does along lines with signs or in `interpolation`, and (p + 1) (q + 1) …
    coefficients are carried. Where every power is 1 that is nested `jax.jvp`, and as fast.

    Args:
      f: (d,) -> (*out), one array of any shape, real or complex.
      x: point, (d,) float.
      multi_index: how often to differentiate by each coordinate, d integers >= 0: (2, 0, 1) is d^3 f / dx_0^2 dx_2.
      coordinates: "all" where x is not (d,), as for `value_and_laplacian`; the multi-index is then like x, with an
        integer in the place of each entry: {"t": 1, "x": (2, 0, 0)}.
    Returns:
      (*out), in the dtype of f's output.
    Raises:
      ValueError: the multi-index does not fit x; else as for `value_and_laplacian`.
      DifferentiationError: an operation of f has no derivative.
    Example:
      >>> float(partial_derivative(lambda x: x[0] ** 2 * x[1], jnp.array([3.0, 5.0]), (2, 1)))
      2.0
    """
    multi_index = arguments.flat_multi_index(multi_index, x, coordinates)
    f, x = arguments.flattened(f, x, coordinates)
    powers = arguments.multi_index(multi_index, len(x))
    axes = np.flatnonzero(powers)
    return along_axes(f, x, axes, tuple(powers[axis] for axis in axes))


def along_axes(f: Field, x: jax.Array, axes: jax.Array | np.ndarray, powers: tuple[int, ...]) -> jax.Array:
    """The mixed partial derivative d^p1 / dx_a1^p1 d^p2 / dx_a2^p2 …, where the axes (n,) may be traced.

    Raises:
      ValueError: x or f do not fit, as for `partial_derivative`.
      DifferentiationError: an operation of f has no derivative.
    """
    if not powers:
        _one_array(f, x)
    for n in sorted(range(len(powers)), key=powers.__getitem__):  # a gradient has less to keep this way round
        f = _pure(f, axes[n : n + 1], powers[n])
    return f(x)


def _pure(f: Field, axis: jax.Array | np.ndarray, order: int) -> Field:
    """x -> the derivative of an order along one axis."""
    return lambda x: weighted(f, x, axis, jnp.ones(1, x.dtype), order)


# --- the ends of a propagation -----------------------------------------------------------------------------


def _start(first: jax.Array | OneHot, lines: Lines) -> Jet:
    """The derivatives 1 … K of x itself, along directions (R, *shape)."""
    if lines.order > 1:
        return [first, *[None] * (lines.order - 1)]
    weights = jnp.ones(lines.count, first.dtype) if lines.weights is None else lines.weights
    return [first.collect(weights * first.entries) if isinstance(first, OneHot) else jnp.tensordot(weights, first, 1)]


def _highest(y: Jet) -> jax.Array:
    return jnp.zeros_like(y[0]) if y[-1] is None else y[-1].astype(y[0].dtype)


def _one_array(f: Field, x: jax.Array) -> Program:
    """f as a program, which must return one array."""
    program = trace(f, x)
    found = program.result
    if not isinstance(found, jax.ShapeDtypeStruct):
        got = jax.tree.map(lambda leaf: leaf.shape, found)
        many = jax.tree.leaves(found)
        remedy = "let f return one of these, or stack them" if many else "does f end without a return?"
        raise ValueError(f"expected f to return one array, got outputs of shapes {got}; {remedy}")
    return program
