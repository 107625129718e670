"""The natural-gradient (Gauss-Newton) step, solved in the space of a batch's points. Needs JAX.

A batch of n points has residuals r (n,) with Jacobian J = dr/dparams (n, P). The smallest change of the parameters that
takes all of them to zero to first order is J^T (J J^T)^-1 r: a system of n equations, however many parameters there
are. Lesson: 19_million_dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Params = Any  # a pytree of arrays


class Linearized(Protocol):
    """The residuals of a batch, (n,), and what a step needs of their Jacobian J (n, P)."""

    @property
    def residuals(self) -> jax.Array: ...

    def gram(self) -> jax.Array:
        """J J^T, (n, n)."""

    def pull(self, z: jax.Array) -> Params:
        """J^T z of z (n,), like the parameters."""

    def push(self, change: Params) -> jax.Array:
        """J times a change of the parameters, (n,)."""


class Dense(NamedTuple):
    """Residuals (n,) with J as it is: like the parameters, with an axis n in front of each array."""

    residuals: jax.Array
    jacobian: Params

    def gram(self) -> jax.Array:
        rows = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(self.jacobian)]
        return sum((each @ each.T for each in rows), jnp.zeros((len(self.residuals),) * 2, self.residuals.dtype))

    def pull(self, z: jax.Array) -> Params:
        return jax.tree.map(lambda leaf: jnp.tensordot(z, leaf, 1), self.jacobian)

    def push(self, change: Params) -> jax.Array:
        parts = jax.tree.map(lambda leaf, each: leaf.reshape(len(leaf), -1) @ each.ravel(), self.jacobian, change)
        return sum(jax.tree.leaves(parts), jnp.zeros_like(self.residuals))


class Layered(NamedTuple):
    """Residuals (n,) of a network whose first layer is x @ weight, without the part of J (n, d w) for that weight.

    A residual sees weight W in h = x W and in the Gram matrix W^T W alone, so that its derivative by W is
    x (outer) delta + 2 W S, and J J^T comes from products of small matrices.
    """

    residuals: jax.Array
    points: jax.Array  # x, (n, d)
    weight: jax.Array  # W, (d, w)
    hidden: jax.Array  # h, (n, w)
    delta: jax.Array  # dr/dh, (n, w)
    curvature: jax.Array  # S = dr/d(W^T W), made symmetric, (n, w, w)
    rest: Dense  # of all other parameters

    def gram(self) -> jax.Array:
        n, s = len(self.residuals), self.curvature.reshape(len(self.residuals), -1)
        cross = 2 * jnp.einsum("iv,iw->ivw", self.hidden, self.delta).reshape(n, -1) @ s.T
        both = 4 * (self.weight.T @ self.weight @ self.curvature).reshape(n, -1) @ s.T
        return (self.points @ self.points.T) * (self.delta @ self.delta.T) + cross + cross.T + both + self.rest.gram()

    def pull(self, z: jax.Array) -> Params:
        bent = 2 * self.weight @ jnp.tensordot(z, self.curvature, 1)
        return self.points.T @ (z[:, None] * self.delta) + bent, self.rest.pull(z)

    def push(self, change: Params) -> jax.Array:
        weight, rest = change
        bent = 2 * jnp.tensordot(self.curvature, self.weight.T @ weight, 2)
        return ((self.points @ weight) * self.delta).sum(1) + bent + self.rest.push(rest)


def linearize(residual: Callable[[Params, jax.Array], jax.Array], params: Params, points: jax.Array) -> Dense:
    """Residuals and their Jacobian at points, for any small model.

    Args:
      residual: (params, x) -> (), at one point.
      params: a pytree of floating arrays, P numbers in all.
      points: (n, …); x is one of them.
    Raises:
      ValueError: a residual is no scalar.
    """
    _scalar(jax.eval_shape(residual, params, points[0]))
    return Dense(*jax.vmap(jax.value_and_grad(residual), in_axes=(None, 0))(params, points))


def linearize_layered(
    residual: Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array],
    params: tuple[jax.Array, Params],
    points: jax.Array,
) -> Layered:
    """The same for a network with a wide input, in memory for the points and the parameters, not for n times them.

    Args:
      residual: (rest, h (w,), gram (w, w), x) -> (), at one point; h is x @ weight there, and gram is weight^T weight,
        the sum over coordinates of what their second derivatives see. `BallEquation.layer_residual` is one.
      params: (weight (d, w), rest), rest a pytree.
      points: (n, d).
    Raises:
      ValueError: shapes do not fit, or a residual is no scalar.
    """
    weight, rest = params
    if weight.ndim != 2 or points.ndim != 2 or points.shape[1] != weight.shape[0]:
        raise ValueError(
            f"expected points (n, d) and a first layer's weight (d, width), got points {points.shape} and weight "
            f"{weight.shape}; pass params=(weight, rest)"
        )
    hidden, gram = points @ weight, weight.T @ weight
    _scalar(jax.eval_shape(residual, rest, hidden[0], gram, points[0]))
    by_point = jax.vmap(jax.value_and_grad(residual, argnums=(0, 1, 2)), in_axes=(None, 0, None, 0))
    residuals, (by_rest, delta, bent) = by_point(rest, hidden, gram, points)
    bent = (bent + bent.mT) / 2
    return Layered(residuals, points, weight, hidden, delta, bent, Dense(residuals, by_rest))


def _scalar(value: jax.ShapeDtypeStruct) -> None:
    if value.shape != ():
        raise ValueError(f"expected a residual () at one point, got {value.shape}; wrap it in no vmap, or take one [0]")


def natural_gradient_step(
    batch: Linearized, damping: ArrayLike, previous: Params = None, momentum: float = 0.0
) -> Params:
    """The change phi that a step subtracts: phi = m phi' + J^T (J J^T + damping s I)^-1 (r - m J phi').

    Without momentum m this is MinSR: with damping -> 0 and independent rows the batch is fitted to first order. With
    it, SPRING: what an earlier step phi' found is kept where this batch says nothing about it.

    Args:
      batch: from `linearize` or `linearize_layered`.
      damping: >= 0, relative to s, the mean of the diagonal of J J^T; below 1e-6 float32 may not factor the matrix, and
        the change is NaN.
      previous: phi', like the parameters; None is zero.
      momentum: m, from 0 to below 1.
    Returns:
      phi, like the parameters; move by its negative times a learning rate.
    Source: Chen and Heyl (Nature Physics 2024), MinSR; Goldshlager, Abrahamsen and Lin (J. Comput. Phys. 2024), SPRING.
    """
    r, gram = batch.residuals, batch.gram()
    if previous is not None:
        r = r - momentum * batch.push(previous)
    damped = gram + damping * jnp.trace(gram) / len(r) * jnp.eye(len(r), dtype=gram.dtype)
    phi = batch.pull(jax.scipy.linalg.solve(damped, r, assume_a="pos"))
    return phi if previous is None else jax.tree.map(lambda old, new: momentum * old + new, previous, phi)


@dataclass(frozen=True)
class NaturalGradient:
    """Takes the place of an optax optimizer in `pde.start` and `pde.train`.

    Their loss_fn is then (params, key, step) -> `Linearized`, with step the number of steps done.

    Attributes:
      learning_rate: a number, or a schedule: step -> number. 1 fits each batch.
      damping: relative to the mean of the diagonal of J J^T, or a schedule.
      momentum: 0 is MinSR, more SPRING; from 0 to below 1.
      max_norm: the largest norm of a step, learning rate included; None sets no bound.
    Raises:
      ValueError: momentum, a constant damping or max_norm is out of range.
    """

    learning_rate: float | Callable[[jax.Array], ArrayLike] = 1.0
    damping: float | Callable[[jax.Array], ArrayLike] = 1e-3
    momentum: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"expected momentum from 0 to below 1, got {self.momentum}; 0 is none")
        if not callable(self.damping) and not self.damping >= 0:
            raise ValueError(f"expected damping >= 0, got {self.damping}; 1e-3 is a start")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"expected max_norm > 0, got {self.max_norm}; None sets no bound")

    def init(self, params: Params) -> Params:
        """The state before the first step: what the step before it moved, where momentum needs it."""
        return jax.tree.map(jnp.zeros_like, params) if self.momentum else None

    def step(self, batch: Linearized, previous: Params, step: jax.Array) -> tuple[jax.Array, Params, Params]:
        """The mean squared residual, what to add to the parameters, and the next state."""
        rate, damping = (v(step) if callable(v) else v for v in (self.learning_rate, self.damping))
        phi = natural_gradient_step(batch, damping, previous, self.momentum)
        scale = jnp.asarray(rate, batch.residuals.dtype)
        if self.max_norm is not None:
            norm = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(phi)))
            scale = jnp.minimum(scale, self.max_norm / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
        updates = jax.tree.map(lambda leaf: (-scale * leaf).astype(leaf.dtype), phi)
        return (batch.residuals**2).mean(), updates, phi if self.momentum else None
