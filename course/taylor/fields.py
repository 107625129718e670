"""What acts on vector fields: divergence, curl and the vector Laplacian, in any coordinates. Needs JAX.

Without a metric, coordinates are Cartesian. With one, x -> g_ij (d, d), a field is given by its contravariant
components F^i: F = F^i e_i with the tangent vectors e_i of the coordinate lines, which need not have length 1.
Lesson: 20_high_order_pdes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from course.taylor import arguments
from course.taylor.functions import Field, laplacian, weighted

Metric = Callable[[jax.Array], jax.Array]
"""The metric tensor at a point, (d,) -> (d, d), symmetric."""


def divergence(field: Field, x: Any, *, metric: Metric | None = None, coordinates: str | None = None) -> jax.Array:
    """The divergence of a vector field: the sum over i of dF_i / dx_i, or with a metric 1/w d_i (w F^i), w^2 = |det g|.

    First-order jets along all axes in one propagation, d times the work of F, with a matrix (d, d);
    `course.stde` estimates a divergence from a few of them.

    Args:
      field: F, (d,) -> (d,), real or complex.
      x: point, (d,) float.
      metric: x -> g_ij, (d, d); None means Cartesian coordinates.
      coordinates: "all" where x is an array of another shape or a pytree, all of whose entries are coordinates; the
        field's values are then like x, and a metric is given the flat point.
    Returns:
      Scalar (), in the dtype of the field's output.
    Raises:
      ValueError: x is not one-dimensional or not floating, or the field's or the metric's values do not fit.
      TypeError: x is no array.
      DifferentiationError: an operation has no derivative.
    Example:
      >>> float(divergence(lambda x: x * x.sum(), jnp.array([1.0, 2.0])))
      9.0
      >>> polar = lambda x: jnp.diag(jnp.stack([1.0, x[0] ** 2]))  # r and the angle; F = r e_r is the identity map
      >>> float(divergence(lambda x: jnp.stack([x[0], 0.0]), jnp.array([2.0, 0.5]), metric=polar))
      2.0
    """
    field, x = flat_field(field, x, coordinates)
    if metric is not None:
        flux = times_volume(field, metric)
        return divergence(flux, x) / volume(metric, x)
    return jnp.trace(slopes(_square(field, x), x, np.arange(len(x))))


def curl(field: Field, x: jax.Array, *, metric: Metric | None = None) -> jax.Array:
    """The curl of a vector field in three dimensions, or dF_y / dx - dF_x / dy in two; three or two first-order jets.

    Args:
      field: F, (3,) -> (3,) or (2,) -> (2,), real or complex.
      x: point, (3,) or (2,) float.
      metric: x -> g_ij, (d, d); the result is then contravariant, too: (curl F)^i = e^ijk d_j (g_kl F^l) / w, where
        w^2 = |det g|. None means Cartesian coordinates.
    Returns:
      (3,), or () in two dimensions, in the dtype of the field's output.
    Raises:
      ValueError: x has another dimension; else as for `divergence`.
      DifferentiationError: an operation has no derivative.
    Example:
      >>> curl(lambda x: jnp.stack([-x[1], x[0], x[0]]), jnp.ones(3)).tolist()
      [0.0, -1.0, 2.0]
    """
    x = arguments.point(x)
    if len(x) not in (2, 3):
        raise ValueError(f"expected x in two or three dimensions, got {x.shape}; there is no curl in others")
    if metric is not None:
        return curl(lowered(field, metric), x) / volume(metric, x)
    slope = slopes(_square(field, x), x, np.arange(len(x)))  # (axis, component)
    if len(x) == 2:
        return slope[0, 1] - slope[1, 0]
    first, second = np.array([1, 2, 0]), np.array([2, 0, 1])
    return slope[first, second] - slope[second, first]


def vector_laplacian(field: Field, x: jax.Array, *, metric: Metric | None = None) -> jax.Array:
    """The Laplacian of a vector field: of each component, or with a metric the trace of its second covariant one.

    In flat space, whatever the coordinates, that is grad div F - curl curl F. On a curved surface it is the rough
    Laplacian, which differs from the one of Hodge by the Ricci curvature.

    Args:
      field: F, (d,) -> (d,), real or complex.
      x: point, (d,) float.
      metric: x -> g_ij, (d, d), invertible; None means Cartesian coordinates.
    Returns:
      (d,), contravariant components, in the dtype of the field's output. Without a metric collapsed and compressed as
      `laplacian`; with one made of Jacobians, d^3 numbers.
    Raises:
      ValueError: as for `divergence`.
      DifferentiationError: an operation has no derivative.
    Source: Weizenböck's formula; Petersen, Riemannian Geometry, chapter 9.
    Example:
      >>> vector_laplacian(lambda x: x**3, jnp.array([1.0, 2.0])).tolist()
      [6.0, 12.0]
    """
    x = arguments.point(x)
    field, axes = _square(field, x), np.arange(len(x))
    if metric is None:
        return laplacian(field, x)

    def covariant(x: jax.Array) -> jax.Array:  # T^i_j = d_j F^i + Gamma^i_jk F^k
        return slopes(field, x, axes).T + jnp.einsum("ijk,k->ij", christoffel(metric, x), field(x))

    gamma, t = christoffel(metric, x), covariant(x)
    second = slopes(covariant, x, axes)  # (l, i, j): d_l T^i_j
    second = second + jnp.einsum("ilk,kj->lij", gamma, t) - jnp.einsum("klj,ik->lij", gamma, t)
    return jnp.einsum("lj,lij->i", jnp.linalg.inv(_metric_at(metric, x)), second)


# --- parts of these, and of the operators of course.stde ---------------------------------------------------------


def slopes(f: Field, x: jax.Array, directions: ArrayLike) -> jax.Array:
    """First derivatives of f at x (d,) along directions (n, d), or along axes (n,) that may be traced: (n, *out)."""
    one = jnp.ones(1, x.dtype)
    return jax.vmap(lambda v: weighted(f, x, v[None], one, 1))(jnp.asarray(directions))


def flat_field(field: Field, x: Any, coordinates: str | None) -> tuple[Field, jax.Array]:
    """As `arguments.flattened`, for a field whose values are like x: both are made flat."""
    flat, z = arguments.flattened(field, x, coordinates)
    if coordinates is None:
        return flat, z

    def like_x(z: jax.Array) -> jax.Array:
        value = flat(z)
        try:
            fits = all(jax.tree.leaves(jax.tree.map(lambda a, b: np.shape(a) == np.shape(b), x, value)))
        except (TypeError, ValueError):  # nested in another way
            fits = False
        if not fits:
            wanted, got = (jax.tree.map(np.shape, each) for each in (x, value))
            raise ValueError(f"expected a field with values like x, {wanted}, got {got}; one component per coordinate")
        return ravel_pytree(value)[0]

    return like_x, z


def volume(metric: Metric, x: jax.Array) -> jax.Array:
    """The density of volume in these coordinates, the root of |det g|: ()."""
    return jnp.sqrt(jnp.abs(jnp.linalg.det(_metric_at(metric, x))))


def times_volume(field: Field, metric: Metric) -> Field:
    """x -> w F^i, whose divergence needs no metric."""
    return lambda x: volume(metric, x) * _square(field, x)(x)


def lowered(field: Field, metric: Metric) -> Field:
    """x -> F_i = g_ij F^j, whose curl needs no metric."""
    return lambda x: _metric_at(metric, x) @ _square(field, x)(x)


def christoffel(metric: Metric, x: jax.Array) -> jax.Array:
    """Gamma^i_jk = g^il (d_j g_lk + d_k g_lj - d_l g_jk) / 2, (d, d, d)."""
    slope = slopes(lambda x: _metric_at(metric, x), x, np.arange(len(x)))  # (j, l, k): d_j g_lk
    lower = jnp.einsum("jlk->ljk", slope) + jnp.einsum("klj->ljk", slope) - slope
    return jnp.einsum("il,ljk->ijk", jnp.linalg.inv(_metric_at(metric, x)), lower) / 2


def _square(field: Field, x: jax.Array) -> Field:
    """The field, checked when it is called: as many components as coordinates."""

    def checked(z: jax.Array) -> jax.Array:
        value = field(z)
        if isinstance(value, list | tuple | dict) or jnp.shape(value) != x.shape:
            got = jax.tree.map(np.shape, value)
            raise ValueError(
                f"expected a vector field ({len(x)},) -> ({len(x)},), got values of shape {got}; stack them"
            )
        return value

    return checked


def _metric_at(metric: Metric, x: jax.Array) -> jax.Array:
    if not callable(metric):
        raise ValueError(f"expected metric as a function (d,) -> (d, d), got {metric!r:.80}; write lambda x: g")
    found = jnp.asarray(metric(x))
    if found.shape != (len(x), len(x)):
        raise ValueError(
            f"expected a metric (d,) -> ({len(x)}, {len(x)}), got values of shape {found.shape}; jnp.diag makes one"
        )
    return found
