"""All pairs of axes, numbered and drawn, never listed: a million axes have 5e11. Needs JAX. Lesson: 18_stde."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from course.stde.draws import distinct

Numbers = TypeVar("Numbers", jax.Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The pairs i < j of d axes.

    Pair number q d + r holds the axes r and r + q + 1, counted round: all neighbours first, then all that are two
    apart, and so on. That takes a division, while rows of a triangle would take a square root, which float32 rounds.

    Attributes:
      d: how many axes there are.
    """

    d: int

    def __len__(self) -> int:
        return self.d * (self.d - 1) // 2

    def numbered(self, numbers: Numbers) -> Numbers:
        """The axes of the pairs with these numbers, (n,) -> (n, 2); the numbers may be traced."""
        xp = np if isinstance(numbers, np.ndarray) else jnp
        apart, first = xp.divmod(numbers, self.d)
        second = (first + apart + 1) % self.d
        return xp.stack([xp.minimum(first, second), xp.maximum(first, second)], axis=1)

    def listed(self) -> np.ndarray:
        """All of them, (n, 2), for small d."""
        return self.numbered(np.arange(len(self)))

    def draw(self, key: jax.Array, samples: int, replace: bool) -> jax.Array:
        """Some of them, (samples, 2); every set is equally likely, or where one may come twice every sequence."""
        if len(self) >= 2**31:  # more than int32 counts
            return self._any(key, samples) if replace else self._different(key, samples)
        numbers = jax.random.randint(key, (samples,), 0, len(self)) if replace else distinct(key, len(self), samples)
        return self.numbered(numbers)

    def _any(self, key: jax.Array, samples: int) -> jax.Array:
        """One axis, then another."""
        one, two = jax.random.split(key)
        first = jax.random.randint(one, (samples,), 0, self.d)
        second = jax.random.randint(two, (samples,), 0, self.d - 1)
        second += second >= first
        return jnp.stack([jnp.minimum(first, second), jnp.maximum(first, second)], axis=1)

    def _different(self, key: jax.Array, samples: int) -> jax.Array:
        """Those that came before are drawn anew; no pair is treated unlike another, so all sets are equally likely."""

        def again(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            key, pairs, repeated = state
            key, own = jax.random.split(key)
            pairs = jnp.where(repeated[:, None], self._any(own, samples), pairs)
            return key, pairs, _repeated(pairs)

        start = (key, jnp.zeros_like(self._any(key, samples)), jnp.ones(samples, bool))
        return jax.lax.while_loop(lambda state: state[2].any(), again, start)[1]


def _repeated(rows: jax.Array) -> jax.Array:
    """Which rows (n, 2) stand there before, (n,)."""
    order = jnp.lexsort((rows[:, 1], rows[:, 0]))  # stable: of equal rows the first stays first
    alike = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    return jnp.zeros(len(rows), bool).at[order[1:]].set(alike)
