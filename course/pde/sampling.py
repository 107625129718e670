"""Collocation points of a ball and of a box. Needs JAX. Lesson: 19_million_dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from course.taylor import arguments


def sample_ball(key: jax.Array, n: int, d: int) -> jax.Array:
    """Independent points of the unit ball: uniform directions, uniform radii, as in the paper's runs; (n, d).

    Directions are normal numbers on a grid of 65,536 values, from 16 random bits each: half the bits of
    `jax.random.normal`, which in many dimensions is two thirds of its time.

    Raises:
      ValueError: n or d below 1.
      TypeError: they are no integers.
    """
    n, d = arguments.integer("n", n, "draw at least one point"), arguments.integer("d", d, "there is no coordinate")
    key_normal, key_radius = jax.random.split(key)
    words = jax.random.bits(key_normal, (n, (d + 1) // 2), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(n, -1)[:, :d]
    normal = jax.scipy.special.erfinv((levels.astype(float) + 0.5) / 2**15 - 1)  # but for a factor
    radius = jax.random.uniform(key_radius, (n, 1))
    return normal * (radius / jnp.linalg.norm(normal, axis=1, keepdims=True))


def sample_box(
    key: jax.Array, n: int, lower: Sequence[float] | jax.Array, upper: Sequence[float] | jax.Array
) -> jax.Array:
    """Uniform points of a box, (n, d).

    Args:
      key: PRNG key, consumed once.
      n: how many, >= 1.
      lower, upper: two corners, d numbers each, finite; a coordinate whose bounds are equal stays there: a face.
    Raises:
      ValueError: n below 1, or bounds of different lengths, not finite, or in the wrong order.
      TypeError: n is no integer.
    """
    n = arguments.integer("n", n, "draw at least one point")
    low, high = jnp.asarray(lower, float), jnp.asarray(upper, float)
    if low.ndim != 1 or low.shape != high.shape or len(low) == 0:
        raise ValueError(
            f"expected lower and upper of one shape (d,), got {low.shape} and {high.shape}; one each per axis"
        )
    if not any(isinstance(bound, jax.core.Tracer) for bound in jax.tree.leaves((lower, upper))):
        with np.errstate(over="ignore"):
            known = np.asarray(lower, low.dtype), np.asarray(upper, low.dtype)  # NumPy: under jit nothing is traced
            width = known[1] - known[0]
        if not (np.isfinite(known).all() and np.isfinite(width).all() and (width >= 0).all()):
            raise ValueError(
                f"expected finite lower <= upper, got {known[0].tolist()} and {known[1].tolist()}; swap or bound them"
            )
    return low + (high - low) * jax.random.uniform(key, (n, len(low)))
