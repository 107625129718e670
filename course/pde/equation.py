"""What all equations offer, so that one loss, one trainer and one error serve them. Needs JAX.

Lesson: 19_million_dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax

Field = Callable[[jax.Array], jax.Array]
"""A scalar field: a function of one point, (d,) -> ()."""


class Equation(Protocol):
    """A partial differential equation on a domain that points can be drawn from, with boundary conditions.

    Attributes:
      dimension: d, of its points; time is one of the coordinates where there is time.
      solution: exact, (d,) -> (); None where it is not known.
    """

    @property
    def dimension(self) -> int: ...

    @property
    def solution(self) -> Field | None: ...

    def residual(self, u: Field, x: jax.Array) -> jax.Array:
        """What the equation leaves over of any function u at x (d,), (); zero for the solution, of size 1 for u = 0."""

    def ansatz(self, network: Field) -> Field:
        """A function that satisfies the boundary and initial conditions whatever the network, (d,) -> ()."""

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Collocation points, (n, d)."""

    def best_constant(self, x: jax.Array) -> jax.Array:
        """The baseline's shape: what an ansatz makes of a network that returns one number, but for a factor."""
