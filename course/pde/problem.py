"""An equation of one's own: a residual on a box, with conditions. Needs NumPy and JAX. Lesson: 21_your_own_equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.pde.conditions import Data, Face, Residual, across, built_in, left_over
from course.pde.domain import Box, Grid
from course.pde.equation import Field


class Problem:
    """An equation on a box, an `Equation` as `ball` and `box` have them, made of its parts.

    u is one real function; systems of several, and complex ones, are not for it.

    Args:
      domain: a Box.
      residual: (u, x (d,)) -> (), zero where u solves the equation; u is (d,) -> (). Unknown coefficients come as
        keyword arguments: `def residual(u, x, speed)`.
      conditions: from `given` and `data`, several or one.
      reference: what a solution is compared with: a function (d,) -> (), a Grid, or None.
      ansatz: network -> u, in the place of what the conditions without weight build; network is (inputs,) -> ().
    Attributes:
      domain: as given.
      reference: as given.
      penalties: the conditions with a weight.
      dimension: how many axes, d.
      inputs: how many numbers a network is given.
      faces: the conditions without a weight.
      has_ansatz: whether an ansatz was given.
      solution: the reference where it is a function, else None.
    Raises:
      TypeError: a condition from elsewhere, or a reference that is neither function nor Grid.
      ValueError: a condition or data on an unknown axis or outside of the domain, given twice, or not to be built in;
        a reference on another grid.
    """

    def __init__(
        self,
        domain: Box,
        residual: Residual,
        conditions: Sequence[Face | Data] | Face | Data = (),
        *,
        reference: Field | Grid | None = None,
        ansatz: Callable[[Field], Field] | None = None,
    ) -> None:
        conditions = [conditions] if isinstance(conditions, Face | Data) else conditions
        for condition in conditions:
            if isinstance(condition, Face):
                axis = domain.axis(condition.axis)
                if not domain.lower[axis] <= condition.at <= domain.upper[axis]:
                    raise ValueError(
                        f"expected a condition inside of {domain}, got {condition}; correct one of the two"
                    )
            elif not isinstance(condition, Data):
                raise TypeError(
                    f"expected conditions from pde.given or pde.data, got {type(condition).__name__}; "
                    "as in given(t=0, u=initial)"
                )
            elif condition.points.shape[1] != len(domain.names):
                raise ValueError(
                    f"expected data at points (n, {len(domain.names)}), got {condition.points.shape}; one column for "
                    f"each of {', '.join(domain.names)}"
                )
            else:
                slack = [np.inf if n else 1e-6 for n in domain.harmonics]  # of [-1, 1]; a periodic axis has no end
                outside = (abs(np.asarray(jax.vmap(domain.unit)(condition.points))) > np.add(1, slack)).any(axis=1)
                if outside.any():
                    raise ValueError(
                        f"expected data inside of {domain}, got some at {condition.points[outside.argmax()]}; the "
                        "columns of points are the axes in this order"
                    )
        if isinstance(reference, Grid):
            reference.points(domain)
        elif reference is not None and not callable(reference):
            raise TypeError(
                f"expected a reference as a function (d,) -> (), a Grid or None, got {type(reference).__name__}; name "
                "the axes of an array: Grid(values, t=times, x=places)"
            )
        self.domain, self.reference = domain, reference
        self.dimension, self.inputs = domain.dimension, domain.inputs
        self.solution = reference if callable(reference) else None
        self.penalties = [c for c in conditions if c.weight is not None]
        self.faces = [c for c in conditions if isinstance(c, Face) and c.weight is None]
        if ansatz is not None and self.faces:
            raise ValueError(
                f"expected conditions with a weight beside ansatz=, got {', '.join(map(str, self.faces))}; build them "
                "into the ansatz, or leave it out"
            )
        self.has_ansatz = ansatz is not None
        self._residual, self._ansatz = residual, ansatz
        self._lift, self._factor = built_in(domain, self.faces)

    def residual(self, u: Field, x: jax.Array, **unknowns: Any) -> jax.Array:
        """What the equation leaves over of u at x (d,), ().

        Raises:
          ValueError: x is a batch, or the residual no scalar.
        """
        if jnp.shape(x) != (self.dimension,):
            remedy = "wrap the call in jax.vmap" if jnp.ndim(x) > 1 else f"one number each for {self.domain.names}"
            raise ValueError(f"expected a point ({self.dimension},), got {jnp.shape(x)}; {remedy}")
        return left_over(self._residual, u, x, unknowns)

    def ansatz(self, network: Field) -> Field:
        """A function that satisfies the conditions without weight, whatever the network (inputs,) -> ()."""
        features = self.domain.features
        if self._ansatz is not None:
            return self._ansatz(lambda x: network(features(x)))
        return lambda x: self._lift(x) + self._factor(x) * network(features(x))

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Collocation points, uniform, (n, d)."""
        return self.domain.sample(key, n)

    def best_constant(self, x: jax.Array) -> jax.Array:
        """1: the baseline is one number everywhere."""
        return jnp.ones((), x.dtype)

    def check(self) -> None:
        """Try the conditions at a few points.

        Raises:
          ValueError: built-in conditions contradict each other where faces meet, or are not periodic as the domain is.
        """
        for face in self.faces:
            gap, scale = jax.jit(self._gap, static_argnums=0)(face)
            if not gap <= 1e-3 * scale + 1e-5:
                raise ValueError(
                    f"expected conditions that agree where faces meet, got a gap of {gap:.1e} in {face}; correct the "
                    "values, or give one of them a weight"
                )

    def _gap(self, face: Face) -> tuple[jax.Array, jax.Array]:
        """How far the built-in function is off where a face meets others, and the size of what is given."""
        axis, others = (
            self.domain.axis(face.axis),
            [n for n in range(self.dimension) if self.domain.names[n] != face.axis],
        )
        x = self.domain.sample(jax.random.key(0), 16).at[:, axis].set(face.at)
        edges = [x.at[:, n].set(bound[n]) for n in others for bound in (self.domain.lower, self.domain.upper)]
        x = jnp.concatenate(edges or [x])
        wanted = jax.vmap(face.equals)(x)
        got = jax.vmap(lambda x: across(self._lift, x, axis, face.order))(x)
        return abs(got - wanted).max(), abs(wanted).max()
