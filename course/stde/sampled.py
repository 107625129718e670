"""An operator estimated from a sample of its terms, or from random directions. Needs JAX. Lesson: 18_stde."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course import taylor
from course.stde import jets
from course.stde.draws import distinct
from course.stde.exact import apply, eigenvectors, flat, total
from course.stde.fields import FieldOperator
from course.stde.kinds import Kind, alike, common, factor_at, in_dtype_of
from course.stde.operators import Operator
from course.stde.pairs import Pairs
from course.stde.shared import one_by_one
from course.taylor import arguments
from course.taylor.functions import Field, along_axes


def estimate(
    operator: Operator | FieldOperator,
    f: Field,
    x: Any,
    key: jax.Array,
    samples: int,
    *,
    dense: str | None = None,
    replace: bool = False,
    coordinates: str | None = None,
) -> jax.Array:
    """An unbiased estimate of the operator applied to f at x.

    Sparse (the default): of each kind of terms (u_ii, u_iijj …) `samples` are drawn and weighted by how many they stand
    for; a kind with no more terms than that is taken whole. Dense: random directions v with E v v^T = C for the terms
    of second order, or Gaussian ones for a multiple of the biharmonic operator; terms of order 0 and 1 are exact. Of
    vector fields (`FieldOperator`) terms of first order are estimated, too, sparse or dense.

    Roots are for the sums of c_i D_i^k u that no other law has, of odd order or of order 4 and more: each v_i is a k-th
    root of c_i, all k of them equally likely, so that of E v_i v_j … every product but v_i^k is zero. The derivative
    along such a complex v is real jets along k directions; orders 1 and 2 are as for Rademacher. At order 4 it has any
    equal multiple of all u_iijj besides, the biharmonic operator for instance. Exact where f is a sum of functions of
    one coordinate each, as Rademacher is at order 2.

    Args:
      operator: over d coordinates; or of vector fields, as `divergence`.
      f: (d,) -> (*out), one array, real or complex; for a `FieldOperator` a vector field (d,) -> (d,).
      x: point, (d,) float.
      key: PRNG key, consumed once.
      samples: terms of each kind, or directions (of roots, complex ones: k jets each); an integer >= 1.
      dense: None, "rademacher", "gaussian" or "roots".
      replace: whether a term may be drawn twice; sparse only.
      coordinates: "all" where x is not (d,), as for `apply`.
    Returns:
      (*out), dtype of x; complex where f or a coefficient is. For the Laplacian with Hessian H the variance is
      d^2 / samples times that of H_ii (times 1 - samples / d without replacement, with the variance over d - 1) if
      sparse, 2 / samples times the sum of H_ij^2 over i != j for Rademacher, and over all i, j for Gaussian directions.
      For the sum of all u_iii by roots it is 1 / samples times the sum of 9 / 2 (u_iij + u_ijj)^2 over i < j and of
      18 u_ijl^2 over i < j < l; for that of all u_iiii 1 / samples times the sum of 8 (u_iiij + u_ijjj)^2 + 36 u_iijj^2
      over i < j, of 72 u_iijl^2 over i and j < l, and of 288 u_ijlm^2 over i < j < l < m, indices all different.
    Raises:
      ValueError: samples out of range, a dense estimate that cannot exist, or as for `apply`.
      TypeError: samples is no integer.
    Source: Shi et al. (2024), section 4; sparse is their eq. 17, dense their section 4.3. Roots of unity: Ganguly,
      "Estimating frequency moments of data streams using random linear combinations" (RANDOM 2004).
    Example:
      >>> from course.stde import laplacian
      >>> squares = lambda x: (x**2).sum()
      >>> float(estimate(laplacian(8), squares, jnp.ones(8), jax.random.key(0), samples=2))
      16.0
    """
    if isinstance(operator, FieldOperator):
        return operator.estimate(f, x, key, samples, dense=dense, replace=replace, coordinates=coordinates)
    f, x = flat(operator, f, x, coordinates)
    samples = arguments.integer("samples", samples, "use apply for the exact operator")
    if dense is not None:
        return _dense(operator, f, x, key, samples, dense)
    largest = max(map(len, operator.kinds), default=samples)
    if samples > largest and not replace:
        raise ValueError(
            f"expected samples <= {largest}, the terms of the operator's largest kind, got {samples}; draw fewer, "
            "pass replace=True, or use apply"
        )
    keys = jax.random.split(key, len(operator.kinds))
    drawn = [len(kind) > samples or replace for kind in operator.kinds]
    whole = [kind for kind, some in zip(operator.kinds, drawn, strict=True) if not some]
    parts = [
        _some(kind, f, x, each, samples, replace)
        for kind, each, some in zip(operator.kinds, keys, drawn, strict=True)
        if some
    ]
    return sum(parts, total(whole, f, x))


def _some(kind: Kind, f: Field, x: jax.Array, key: jax.Array, samples: int, replace: bool) -> jax.Array:
    """The sum of a kind's terms, estimated from some of them."""
    if isinstance(kind.axes, Pairs):
        axes, values = kind.axes.draw(key, samples, replace), kind.values(x)
        coefficients = jnp.broadcast_to(values, (samples,))
    else:
        draw = jax.random.randint(key, (samples,), 0, len(kind)) if replace else distinct(key, len(kind), samples)
        axes, coefficients = jnp.asarray(kind.listed)[draw], kind.at(x)[draw]
    coefficients *= len(kind) / samples
    if not kind.powers:
        return coefficients.sum() * along_axes(f, x, np.arange(0), ())
    if len(kind.powers) == 1:
        return jets.along_lines(f, x, axes[:, 0], coefficients, kind.order)[2]
    return one_by_one(kind, coefficients, axes, f, x)


def _dense(operator: Operator, f: Field, x: jax.Array, key: jax.Array, samples: int, law: str) -> jax.Array:
    if law not in ("rademacher", "gaussian", "roots"):
        raise ValueError(f'expected dense="rademacher", "gaussian", "roots" or None, got {law!r}')
    low = tuple(kind for kind in operator.kinds if kind.order < 2)
    result, high = apply(Operator.of_kinds(operator.dimension, low), f, x), [k for k in operator.kinds if k.order >= 2]
    while high:
        group = [kind for kind in high if kind.order == high[0].order and (kind is high[0] or alike(kind, high[0]))]
        high = [kind for kind in high if not any(kind is other for other in group)]
        key, own = jax.random.split(key)
        order, scale, pairs = group[0].order, biharmonic_scale(group, len(x)), _pairs(group, len(x))
        factor = in_dtype_of(x, factor_at(x, group[0].factor))
        if order == 2 and group[0].fixed:
            directions, weights = _second_moments(group, own, samples, law, x)
        elif pairs is not None and law == "roots":
            directions, weights = _roots(_pure(group, len(x)), pairs, own, samples, order, x)
        elif scale is not None and law == "gaussian":
            directions = jax.random.normal(own, (samples, len(x)), x.dtype)  # E D^4 f[v] is 3 times the biharmonic
            weights = jnp.full(samples, scale / 3, x.dtype)
        else:
            raise ValueError(_no_dense(order, group, law, pairs))
        if len(weights):
            result += factor * taylor.weighted(f, x, directions, weights / samples, order)
    return result


def _second_moments(
    kinds: list[Kind], key: jax.Array, samples: int, law: str, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Random directions and weights with E sum w v v^T = samples * C; one family for each sign in C."""
    draw = jax.random.normal if law == "gaussian" else jax.random.rademacher
    if all(len(kind.powers) == 1 for kind in kinds):
        values, vectors = _pure(kinds, len(x)), None
    else:
        vectors, values = eigenvectors(kinds, len(x))
    directions, weights = [jnp.zeros((0, len(x)), x.dtype)], [jnp.zeros(0, x.dtype)]
    for sign, own in zip((1.0, -1.0), jax.random.split(key), strict=True):
        roots = np.sqrt(np.maximum(sign * values, 0))
        if roots.any():
            v = draw(own, (samples, len(roots)), x.dtype) * jnp.asarray(roots, x.dtype)
            directions.append(v if vectors is None else v @ jnp.asarray(vectors, x.dtype))
            weights.append(jnp.full(samples, sign, x.dtype))
    return jnp.concatenate(directions), jnp.concatenate(weights)


def _roots(
    values: np.ndarray, pairs: float, key: jax.Array, samples: int, k: int, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Random directions and weights with E sum w D^k f[v] = samples * (sum of values_i D_i^k f, and of pairs u_iijj).

    z_i is a k-th root of value i, and E z_i^m = 0 unless k divides m: E D^k f[z] is the sum of z_i^k D_i^k f. Its real
    part is the sum over j < k of (-1)^j 2^(k-1) / k D^k f[Re(z r_j)] with r_j = exp(-i pi j / k). For by Re y = (y +
    conj(y)) / 2 the power k holds z^(k-m) conj(z)^m with the phase r_j^(k-2m) = (-1)^j exp(2 i pi j m / k), and over j
    these phases times (-1)^j add up to k for m = 0 and m = k, else to zero.
    Signs s have E D^4 f[s] = the sum of all u_iiii, and of 6 u_iijj over i < j.
    """
    own, other = jax.random.split(key)
    values = values - pairs / 6
    turns = 2 * jax.random.randint(own, (samples, len(x)), 0, k) + jnp.asarray(values < 0)  # angles over pi / k
    cosines = jnp.asarray(np.cos(np.pi / k * np.arange(2 * k)), x.dtype)
    along = cosines[(turns - jnp.arange(k)[:, None, None]) % (2 * k)] * jnp.asarray(np.abs(values) ** (1 / k), x.dtype)
    directions = [along.reshape(-1, len(x))] * bool(values.any())
    weights = [jnp.repeat(jnp.asarray((-1.0) ** np.arange(k) * 2 ** (k - 1) / k, x.dtype), samples)] * len(directions)
    if pairs:
        directions.append(jax.random.rademacher(other, (samples, len(x)), x.dtype))
        weights.append(jnp.full(samples, pairs / 6, x.dtype))
    empty = jnp.zeros((0, len(x)), x.dtype), jnp.zeros(0, x.dtype)
    return jnp.concatenate([empty[0], *directions]), jnp.concatenate([empty[1], *weights])


def _pure(kinds: list[Kind], d: int) -> np.ndarray:
    """The coefficient of the pure derivative along each axis, (d,)."""
    values = np.zeros(d)
    for kind in kinds:
        if len(kind.powers) == 1:
            np.add.at(values, kind.listed[:, 0], kind.known)
    return values


def _pairs(kinds: list[Kind], d: int) -> float | None:
    """The coefficient of all u_iijj, if these terms have no others beside pure derivatives, and all are fixed."""
    shared: list[Any] = [common(kind, d) if kind.powers == (2, 2) else None for kind in kinds if len(kind.powers) > 1]
    return None if None in shared or not all(kind.fixed for kind in kinds) else sum(shared)


def biharmonic_scale(kinds: list[Kind], d: int) -> float | None:
    """The factor, if these terms are a multiple of the biharmonic operator in d > 1 coordinates."""
    scales = {kind.powers: common(kind, d) for kind in kinds}
    pure, pairs = scales.get((4,)), scales.get((2, 2))
    if len(kinds) != 2 or pure is None or pairs is None:
        return None
    return pure if pairs == 2 * pure else None


def _no_dense(order: int, kinds: list[Kind], law: str, pairs: float | None) -> str:
    if any(not kind.fixed for kind in kinds):
        reason = "its coefficients depend on x, and directions are drawn before x is seen"
    elif law == "roots":
        reason = "it has mixed derivatives other than all u_iijj alike"
    elif order % 2:
        reason = f"it has order {order}, and their odd moments are zero"
    elif all(kind.powers == (order,) for kind in kinds):
        reason = (
            f"a sum of pure derivatives of order {order} needs E v_i^2 v_j^{order - 2} = 0 for i != j; with positive "
            "weights only directions along the axes have that"
        )
    else:
        reason = f"their moments of order {order} do not match its coefficients"
    remedy = "dense=None" if pairs is None else 'dense="roots", or None'
    return f"expected an operator that {law} directions can estimate, got one that they can't: {reason}; use {remedy}"


def unbiased_square(residual: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """The product of two independent draws of a residual: its mean is the square of the residual's mean.

    Args:
      residual: key -> estimate, any shape.
      key: PRNG key, consumed once.
    Returns:
      The product, entry by entry; it may be negative.
    Source: Shi et al. (2024), the unbiased form of their loss.
    """
    first, second = jax.random.split(key)
    return residual(first) * residual(second)


def biased_square(residual: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """The square of one draw, as in the paper's runs: its mean is too large by the estimate's variance.

    Args:
      residual: key -> estimate, any shape.
      key: PRNG key, consumed once.
    Returns:
      The square, entry by entry; half the work of `unbiased_square`, and never negative.
    """
    return residual(key) ** 2
