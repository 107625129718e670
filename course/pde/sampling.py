"""Collocation points of a ball and of a box. Needs JAX. Lesson: 19_million_dimensions."""

from __future__ import annotations

import math
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


def orthogonal_ball(key: jax.Array, first: jax.Array | int, n: int, d: int) -> jax.Array:
    """Points first … first + n - 1 of an endless sequence in the unit ball, any d in a round at right angles; (n, d).

    Row k of a d x d orthogonal matrix with random signs of its columns, times a uniform radius. Each direction alone is
    as good as a random one; but a method that fits one batch after the other, moving along the points it sees, has been
    along every direction after d of them, where d independent ones leave a share of 1/e of the mean square. The matrix
    is Hadamard's for the power of two in d, the Hartley transform's for the rest; the next d points have other signs.

    Args:
      key: PRNG key, the same for the whole sequence.
      first: number of the first point, >= 0; may be traced.
      n: how many, from 1 to d.
      d: dimension; its odd part is at most 2^20.
    Raises:
      ValueError: n or d is out of range.
      TypeError: they are no integers.
    Source: Yu et al., Orthogonal random features (2016), who use them for kernels.
    """
    n, d = arguments.integer("n", n, "draw at least one point"), arguments.integer("d", d, "there is no coordinate")
    power = d & -d
    odd = d // power
    if n > d or odd > 2**20 or d >= 2**31:
        raise ValueError(f"expected n <= d and an odd part of d up to 2**20, got n = {n} and d = {d}; use sample_ball")
    stride = next(s for s in range(max(1, min(int(0.618 * d), (2**31 - 1) // d - 1)), 0, -1) if math.gcd(s, d) == 1)
    number = first + jnp.arange(n)
    turn, row = number // d, number % d * stride % d  # neighbours in the sequence are no neighbours in the matrix
    above, below = row // odd, row % odd
    coordinate = jnp.arange(odd)
    high, low = below[:, None] // 1024, below[:, None] % 1024  # below * coordinate mod odd, without overflow
    angle = (high * coordinate % odd * 1024 + low * coordinate) % odd
    wave = jnp.cos(2 * jnp.pi / odd * jnp.arange(odd)) + jnp.sin(2 * jnp.pi / odd * jnp.arange(odd))
    bits = jax.lax.population_count(above[:, None] & jnp.arange(power))
    unit = ((1.0 - 2.0 * (bits & 1))[:, :, None] * wave[angle][:, None, :]).reshape(n, d) / d**0.5
    key_signs, key_radius = jax.random.split(key)
    signs = [jax.random.rademacher(jax.random.fold_in(key_signs, turn[0] + t), (d,), unit.dtype) for t in (0, 1)]
    radius = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(key_radius, k)))(number)
    return unit * radius[:, None] * jnp.where(turn[:, None] == turn[0], *signs)


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
