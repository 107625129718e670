"""Operators with variable coefficients: advection, diffusion, Laplace-Beltrami. Needs JAX. Lesson: 18_stde."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from course.stde.kinds import Kind, Scalar
from course.stde.operators import Operator
from course.stde.ready import laplacian, second_order
from course.taylor import arguments

Function = Callable[[jax.Array], jax.Array]
"""Of the point, (d,)."""


def advection(b: ArrayLike | Function, d: int) -> Operator:
    """The derivative along a velocity, b . grad u: the sum of b_i u_i.

    Args:
      b: velocity, numbers (d,) or a function (d,) -> (d,); it may hold what is traced.
      d: how many coordinates there are.
    Raises:
      ValueError: b, or what it returns, is not (d,), or a number in it is not finite; or d < 1.
      TypeError: d is no integer.
    Example:
      >>> advection(jnp.array([1.0, 2.0]), 2)
      Operator(dimension=2, order=1, terms=2)
    """
    d, b = arguments.integer("d", d, "there is no coordinate"), _one(b)
    _shape("b", b, d, [(d,)])
    return Operator.of_kinds(d, (_pure(1, b, d),))


def diffusion(a: ArrayLike | Function, d: int) -> Operator:
    """Diffusion in flux form, div (a grad u): the sum over i, j of d_i (a_ij d_j u).

    JAX differentiates a. A scalar a keeps the compressed Laplacian, whatever d; a matrix takes d^2 terms.

    Args:
      a: diffusivity: scalar (), diagonal (d,) or matrix (d, d), which need not be symmetric; numbers, or a function of
        the point (d,) that returns them; it may hold what is traced.
      d: how many coordinates there are.
    Raises:
      ValueError: a, or what it returns, has another shape, or a number in it is not finite; or d < 1.
      TypeError: d is no integer.
    Source: the product rule, d_i (a_ij u_j) = a_ij u_ij + (d_i a_ij) u_j.
    Example:
      >>> diffusion(lambda x: 1 + x[0] ** 2, 3)
      Operator(dimension=3, order=2, terms=6)
    """
    d, a = arguments.integer("d", d, "there is no coordinate"), _one(a)
    shape = _shape("a", a, d, [(), (d,), (d, d)])
    if not callable(a) and shape == (d, d) and not isinstance(a, jax.core.Tracer):
        return second_order(a)
    if shape == ():
        second = a * laplacian(d) if callable(a) else laplacian(d) * cast(Scalar, a)
    else:
        second = Operator.of_kinds(d, _second(a, shape, d))
    if not callable(a):
        return second
    slope = jax.jacfwd(partial(_at, a))
    drift: Function = {
        (): slope,
        (d,): lambda x: jnp.diagonal(slope(x)),
        (d, d): lambda x: jnp.einsum("iji->j", slope(x)),
    }[shape]
    return second + Operator.of_kinds(d, (_pure(1, drift, d),))


def laplace_beltrami(metric: Function, d: int) -> Operator:
    """The Laplacian of a curved space or of curved coordinates: 1 / sqrt|g| times the sum of d_i (sqrt|g| g^ij d_j u).

    Args:
      metric: g, a function (d,) -> (d, d), symmetric and invertible.
      d: how many coordinates there are.
    Raises:
      ValueError: the metric is no function, or does not return (d, d); or d < 1.
      TypeError: d is no integer.
    Source: do Carmo, Riemannian Geometry (1992), chapter 3, exercises; g^ij is the inverse of g_ij.
    Example:
      >>> sphere = laplace_beltrami(lambda x: jnp.diag(jnp.array([1.0, jnp.sin(x[0]) ** 2])), 2)
      >>> sphere
      Operator(dimension=2, order=2, terms=5)
    """
    d = arguments.integer("d", d, "there is no coordinate")
    if not callable(metric):
        raise ValueError(f"expected metric as a function (d,) -> (d, d), got {metric!r:.80}; write lambda x: g")
    _shape("metric", metric, d, [(d, d)])

    def volume(x: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.abs(jnp.linalg.det(metric(x))))

    flux = diffusion(lambda x: volume(x) * jnp.linalg.inv(metric(x)), d)
    return (lambda x: 1 / volume(x)) * flux


def _one(value: ArrayLike | Function) -> ArrayLike | Function:
    """A list that holds something traced as one array."""
    return jnp.asarray(value) if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)) else value


def _shape(name: str, value: ArrayLike | Function, d: int, allowed: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of numbers, or of what a function of the point returns."""
    point = jax.ShapeDtypeStruct((d,), jnp.result_type(float))
    found = jax.eval_shape(value, point) if callable(value) else value
    shape = getattr(found, "shape", None) if callable(value) else np.shape(found)
    if shape not in allowed:
        wanted = " or ".join(map(str, allowed))
        got = f"an array {shape}" if shape is not None else repr(found)[:80]
        raise ValueError(f"expected {name} {wanted}, or a function of the point that returns that, got {got}; d is {d}")
    return shape


def _second(a: ArrayLike | Function, shape: tuple[int, ...], d: int) -> tuple[Kind, ...]:
    """The sum of a_ij u_ij, of a diagonal or a matrix."""
    if shape == (d,):
        return (_pure(2, a, d),)
    i, j = np.triu_indices(d, k=1)

    def crossed(x: jax.Array) -> jax.Array:
        matrix = _at(a, x)
        return matrix[i, j] + matrix[j, i]

    diagonal = _pure(2, lambda x: jnp.diagonal(_at(a, x)), d)
    return diagonal, Kind((1, 1), np.stack([i, j], axis=1), crossed)


def _pure(order: int, coefficients: ArrayLike | Function, d: int) -> Kind:
    """Derivatives of one order along all axes."""
    traced = isinstance(coefficients, jax.core.Tracer)
    known = not callable(coefficients) and not traced and not np.iscomplexobj(coefficients)
    if not known:
        return Kind((order,), np.arange(d)[:, None], partial(_at, coefficients))
    values = np.array(coefficients, float)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite numbers, got {values}; what divides them may be 0")
    return Kind((order,), np.arange(d)[:, None], values)


def _at(value: ArrayLike | Function, x: jax.Array) -> jax.Array:
    """Numbers, or what a function returns, which may be integers."""
    found = jnp.asarray(value(x) if callable(value) else value)
    return found if jnp.issubdtype(found.dtype, jnp.inexact) else found.astype(x.dtype)
