"""A damped Gauss-Newton step for networks small enough that every residual's gradient fits. Needs JAX and optax.

Lesson: 21_your_own_equation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from course.pde.natural_gradient import Dense

BACK = 0.4
"""How much shorter the next step is that is tried."""


class Part(NamedTuple):
    """Residuals of one kind; a loss is the sum of weight x residual^2 over its parts.

    Attributes:
      residual: (params, one of the batch) -> ().
      batch: arrays (n, ...): points, or points and values.
      weight: (n,) or ().
    """

    residual: Callable[[Any, Any], jax.Array]
    batch: Any
    weight: jax.Array

    def loss(self, params: Any) -> jax.Array:
        """The part's share of the loss, ()."""
        return (self.weight * jax.vmap(self.residual, (None, 0))(params, self.batch) ** 2).sum()


class GaussNewtonState(NamedTuple):
    """The damping, relative to the mean of the squared sizes of the residuals' gradients, ()."""

    damping: jax.Array


def gauss_newton(damping: float = 1e-3, least: float = 1e-5) -> optax.GradientTransformationExtraArgs:
    """Fit the linearised residuals of a batch by least squares, damped, and go back while the loss does not fall.

    With J the residuals' gradients, (n, p), and r the residuals: J^T (J J^T + damping)^-1 r, or the same through J^T J,
    whichever is smaller. The damping falls where the whole step is taken and rises where it is not (Levenberg and
    Marquardt). A step takes n p numbers of memory and n p min(n, p) operations.

    Args:
      damping: at the start, relative to the mean diagonal of J J^T.
      least: the damping does not fall below; in float32 the factorisation fails much below 1e-5.
    Returns:
      An optax optimizer for `pde.train` with a loss that has `parts(params, key)`, as that of `pde.solve` has.
    """

    def init(params: Any) -> GaussNewtonState:
        return GaussNewtonState(jnp.float32(damping))

    def update(
        grads: Any, state: GaussNewtonState, params: Any = None, *, parts: Sequence[Part], **_: Any
    ) -> tuple[Any, GaussNewtonState]:
        flat, unravel = ravel_pytree(params)
        r, tree = linearized(parts, params)
        n, p = len(r), len(flat)
        jacobian = jnp.concatenate([leaf.reshape(n, -1) for leaf in jax.tree.leaves(tree)], axis=1)
        gram = jacobian @ jacobian.T if n <= p else jacobian.T @ jacobian
        shift = state.damping * jnp.trace(gram) / len(gram)
        factor = jax.scipy.linalg.cho_factor(gram + shift * jnp.eye(len(gram)))
        if n <= p:
            step = jacobian.T @ jax.scipy.linalg.cho_solve(factor, r)
        else:
            step = jax.scipy.linalg.cho_solve(factor, jacobian.T @ r)

        def loss(rate: jax.Array) -> jax.Array:
            moved = unravel(flat - rate * step)
            return jnp.stack([part.loss(moved) for part in parts]).sum()

        def goes_on(search: tuple[jax.Array, jax.Array]) -> jax.Array:
            rate, found = search
            return ~(found < before) & (rate > 1e-3)

        def shorter(search: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            rate = BACK * search[0]
            return rate, loss(rate)

        before = r @ r
        start = jnp.asarray(1 / BACK, r.dtype), jnp.asarray(jnp.inf, r.dtype)
        rate, found = jax.lax.while_loop(goes_on, shorter, start)
        better = found < before
        change = jnp.where(better & (rate > 0.9), 0.7, jnp.where(better & (rate > 0.3), 1.0, 2.0))
        stay = jnp.where(jnp.isfinite(jacobian).all(), 0.0, jnp.nan)  # NaN is for the trainer to report
        updates = unravel(jnp.where(better, -rate * step, stay))
        return updates, GaussNewtonState(jnp.clip(change * state.damping, least, 1.0))

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def linearized(parts: Sequence[Part], params: Any) -> Dense:
    """Residuals of all parts and their Jacobian, times the roots of the weights: the loss is the sum of squares."""

    def weighted(part: Part) -> Dense:
        rows = jax.vmap(jax.value_and_grad(part.residual), (None, 0))(params, part.batch)
        root = jnp.broadcast_to(jnp.sqrt(part.weight), rows[0].shape)
        return Dense(*jax.tree.map(lambda leaf: jax.vmap(jnp.multiply)(root, leaf), rows))

    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *map(weighted, parts))
