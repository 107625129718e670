"""How far a solution is off, beside what the best constant reaches. Needs NumPy and JAX.

Lesson: 19_million_dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from course.pde.domain import Grid
from course.pde.equation import Equation, Field
from course.taylor import arguments


class Accuracy(NamedTuple):
    """Errors over the same test points, in the norm relative to the solution's."""

    relative_l2: float
    best_constant: float


def relative_l2(
    equation: Equation, u: Field, key: jax.Array | None = None, points: int = 2000, batch: int = 100
) -> Accuracy:
    """The relative L2 error of u, and that of the best constant: what a network reaches without looking at x.

    Args:
      equation: a `BallEquation`, `BoxEquation` or `Problem`; where its reference is a Grid, u is compared there.
      u: (d,) -> (), boundary conditions included.
      key: PRNG key, consumed once, for the test points; not needed with a Grid.
      points: how many, a multiple of batch.
      batch: how many at a time.
    Raises:
      ValueError: there is nothing to compare with, or no key, or points is no multiple of batch, both >= 1.
      TypeError: points or batch is no integer.
    """
    batch = arguments.integer("batch", batch, "take at least one point at a time")
    points = arguments.integer("points", points, "compare at one batch of points or more")
    reference = getattr(equation, "reference", None)

    if isinstance(reference, Grid):
        x = reference.points(equation.domain).reshape(-1, equation.dimension)  # type: ignore[attr-defined]
        exact = reference.values.reshape(-1)

        def at(x: jax.Array) -> jax.Array:
            return jnp.stack([u(x), equation.best_constant(x)])

        got, shape = np.asarray(jax.jit(lambda x: jax.lax.map(at, x, batch_size=4096))(x), np.float64).T
    else:
        solution = equation.solution
        if solution is None:
            raise ValueError(
                "expected an equation with an exact solution, got solution=None; compare residuals instead"
            )
        if points % batch:
            raise ValueError(f"expected points as a multiple of batch = {batch}, got {points}; choose another batch")
        if key is None:
            raise ValueError("expected a key to draw test points with, got None; pass key=")

        def values(key: jax.Array) -> jax.Array:
            x = equation.sample(key, batch)
            return jnp.stack([jax.vmap(f)(x) for f in (solution, u, equation.best_constant)])

        found = jax.jit(lambda keys: jax.lax.map(values, keys))(jax.random.split(key, points // batch))
        exact, got, shape = np.asarray(found, np.float64).swapaxes(0, 1).reshape(3, -1)  # float64: large sums
    constant = (exact @ shape) / (shape @ shape)
    return Accuracy(*(float(np.linalg.norm(v - exact) / np.linalg.norm(exact)) for v in (got, constant * shape)))
