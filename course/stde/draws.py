"""Draws without replacement. Needs JAX. Lesson: 18_stde."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from course.taylor import arguments


def distinct(key: jax.Array, population: int, samples: int) -> jax.Array:
    """Draw different numbers below `population`, every set of them equally likely: (samples,) integers.

    `jax.random.choice(replace=False)` shuffles the whole population, 40 ms for 100,000; this takes samples^2 steps.

    Args:
      key: PRNG key, consumed once.
      population: how many numbers there are, from 1 to 2^31 - 1.
      samples: how many to draw, from 1 to `population`.
    Raises:
      ValueError: more samples than numbers, or more numbers than int32 counts.
      TypeError: population or samples is no integer.
    Source: Floyd's algorithm; Bentley, "A sample of brilliance", Communications of the ACM 30 (1987).
    """
    population = arguments.integer("population", population, "there is nothing to draw from")
    samples = arguments.integer("samples", samples, "draw at least one")
    if population >= 2**31:
        raise ValueError(
            f"expected population < 2**31, which int32 counts, got {population}; draw blocks, then in them"
        )
    if samples > population:
        raise ValueError(f"expected 1 <= samples <= population = {population}, got {samples}; draw fewer")
    lasts = population - samples + jnp.arange(samples)
    draws = jax.random.randint(key, (samples,), 0, lasts + 1)

    def step(chosen: jax.Array, turn: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        i, draw, last = turn
        return chosen.at[i].set(jnp.where((chosen == draw).any(), last, draw)), None

    turns = (jnp.arange(samples), draws, lasts.astype(draws.dtype))
    return jax.lax.scan(step, jnp.full(samples, -1, draws.dtype), turns)[0]
