"""Collocation points of a ball and of a box. Needs JAX. Lesson: 19_million_dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def sample_ball(key: jax.Array, n: int, d: int) -> jax.Array:
    """Independent points of the unit ball: uniform directions, uniform radii, as in the paper's runs; (n, d).

    Directions are normal numbers on a grid of 65,536 values, from 16 random bits each: half the bits of
    `jax.random.normal`, which in many dimensions is two thirds of its time (lesson 19 measures it).
    """
    key_normal, key_radius = jax.random.split(key)
    words = jax.random.bits(key_normal, (n, (d + 1) // 2), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(n, -1)[:, :d]
    normal = jax.scipy.special.erfinv((levels.astype(float) + 0.5) / 2**15 - 1)  # but for a factor
    radius = jax.random.uniform(key_radius, (n, 1))
    return normal * (radius / jnp.linalg.norm(normal, axis=1, keepdims=True))


def sample_box(
    key: jax.Array, n: int, lower: Sequence[float] | jax.Array, upper: Sequence[float] | jax.Array
) -> jax.Array:
    """Uniform points of a box, (n, d)."""
    low, high = jnp.asarray(lower, float), jnp.asarray(upper, float)
    return low + (high - low) * jax.random.uniform(key, (n, len(low)))
