"""What all equations offer, so that one loss, one trainer and one error serve them. Needs JAX.

Lesson: 19_million_dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

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


def scalar(u: Field) -> Field:
    """The same function, checked: an equation with one unknown would broadcast a (1,) without a word.

    Raises:
      ValueError: when it is called, if its value is not ().
    """

    def checked(x: jax.Array) -> jax.Array:
        value = u(x)
        if jnp.shape(value) != ():
            remedy = "squeeze its last axis" if jnp.shape(value) == (1,) else "take one component, lambda x: u(x)[0]"
            raise ValueError(
                f"expected u as a scalar field (d,) -> (), got values of shape {jnp.shape(value)}; {remedy}"
            )
        return value

    return checked
