"""How far a solution is off, beside what the best constant reaches. Needs NumPy and JAX.

Lesson: 19_million_dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from course.pde.equation import Equation, Field
from course.taylor import arguments


class Accuracy(NamedTuple):
    """Errors over the same test points, in the norm relative to the solution's."""

    relative_l2: float
    best_constant: float


def relative_l2(equation: Equation, u: Field, key: jax.Array, points: int = 2000, batch: int = 100) -> Accuracy:
    """The relative L2 error of u, and that of the best constant: what a network reaches without looking at x.

    Args:
      equation: a `BallEquation` or `BoxEquation`.
      u: (d,) -> (), boundary conditions included.
      key: PRNG key, consumed once, for the test points.
      points: how many, a multiple of batch.
      batch: how many at a time.
    Raises:
      ValueError: no exact solution is known, or points is no multiple of batch, both >= 1.
      TypeError: points or batch is no integer.
    """

    solution = equation.solution
    if solution is None:
        raise ValueError("expected an equation with an exact solution, got solution=None; compare residuals instead")
    batch = arguments.integer("batch", batch, "take at least one point at a time")
    points = arguments.integer("points", points, "compare at one batch of points or more")
    if points % batch:
        raise ValueError(f"expected points as a multiple of batch = {batch}, got {points}; choose another batch")

    def values(key: jax.Array) -> jax.Array:
        x = equation.sample(key, batch)
        return jnp.stack([jax.vmap(f)(x) for f in (solution, u, equation.best_constant)])

    found = jax.jit(lambda keys: jax.lax.map(values, keys))(jax.random.split(key, points // batch))
    exact, got, shape = np.asarray(found, np.float64).swapaxes(0, 1).reshape(3, -1)  # small differences of large sums
    constant = (exact @ shape) / (shape @ shape)
    return Accuracy(*(float(np.linalg.norm(v - exact) / np.linalg.norm(exact)) for v in (got, constant * shape)))
