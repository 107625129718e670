"""Truncated Newton-CG for smooth convex functions, written once for Python loops and for `lax.while_loop`. Needs JAX.

The first experiment of Frostig, Johnson and Leary, "Compiling machine learning programs via high-level tracing" (2018).
The algorithm is the line-search Newton-CG method of Nocedal and Wright, Numerical Optimization, section 7.1.
Lesson: 12_tracing_paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Vector = Any
"""A JAX array, a tracer or a torch tensor, (d,): the text is the same for all of them."""
Scalar = Any
"""The same, ()."""
WhileLoop = Callable[[Callable[[Any], Any], Callable[[Any], Any], Any], Any]
"""(condition, body, state) -> state."""
State = TypeVar("State")


def python_while(condition: Callable[[State], Any], body: Callable[[State], State], state: State) -> State:
    """`lax.while_loop` as a Python loop: each turn is run, not recorded.

    Taught in 12_tracing_paper.
    """
    while condition(state):
        state = body(state)
    return state


def conjugate_gradients(hvp: Callable[[Vector], Vector], g: Vector, while_loop: WhileLoop) -> Vector:
    """Solve H p = -g, stopped early: far from the optimum (large g) a rough p will do. At most d turns.

    Taught in 12_tracing_paper.
    """
    norm = (g @ g) ** 0.5
    enough = norm * (norm / (1 + norm)) ** 0.5

    def more(state: tuple[Vector, Vector, Vector, Any]) -> Scalar:
        _, residual, _, turns = state
        return ((residual @ residual) ** 0.5 > enough) & (turns < len(g))

    def turn(state: tuple[Vector, Vector, Vector, Any]) -> tuple[Vector, Vector, Vector, Any]:
        p, residual, direction, turns = state
        h, rr = hvp(direction), residual @ residual
        alpha = rr / (direction @ h)
        p, residual = p + alpha * direction, residual + alpha * h
        return p, residual, (residual @ residual) / rr * direction - residual, turns + 1

    return while_loop(more, turn, (0 * g, g, -g, 0))[0]


def line_search(value: Callable[[Vector], Scalar], w: Vector, g: Vector, p: Vector, while_loop: WhileLoop) -> Scalar:
    """Halve the step along p until the value falls nearly as its slope promises.

    Taught in 12_tracing_paper.
    """
    start, slope = value(w), g @ p

    def too_long(t: Scalar) -> Scalar:
        return (value(w + t * p) > start + 1e-4 * t * slope + 1e-15) & (t > 1e-10)

    return while_loop(too_long, lambda t: t / 2, 0 * slope + 1)


def newton_cg(
    value: Callable[[Vector], Scalar],
    grad: Callable[[Vector], Vector],
    hvp: Callable[[Vector, Vector], Vector],
    w: Vector,
    tolerance: float = 1e-9,
    while_loop: WhileLoop = python_while,
    max_steps: int = 100,
) -> tuple[Vector, Any]:
    """Minimise a smooth, strictly convex function.

    Only +, *, @, **, & and comparisons touch the arrays: the same text runs on JAX arrays, tracers and torch tensors.

    Args:
      value: w -> scalar.
      grad: w -> (d,).
      hvp: (w, v) -> (d,), the Hessian at w times v.
      w: where to start, (d,) float64.
      tolerance: stop when the gradient's Euclidean norm is below it.
      while_loop: how to loop: `python_while`, or `jax.lax.while_loop` to be compiled as a whole.
      max_steps: where to stop if the tolerance is out of reach, as 1e-9 is in float32.
    Returns:
      The minimiser, (d,), and the number of Newton steps; max_steps of them say that the tolerance was not reached.

    Taught in 12_tracing_paper.
    """

    def unfinished(state: tuple[Vector, Vector, Any]) -> Scalar:
        _, g, steps = state
        return ((g @ g) ** 0.5 > tolerance) & (steps < max_steps)

    def newton_step(state: tuple[Vector, Vector, Any]) -> tuple[Vector, Vector, Any]:
        w, g, steps = state
        p = conjugate_gradients(lambda v: hvp(w, v), g, while_loop)
        w = w + line_search(value, w, g, p, while_loop) * p
        return w, grad(w), steps + 1

    w, _, steps = while_loop(unfinished, newton_step, (w, grad(w), 0))
    return w, steps


def logistic_loss(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean logistic loss with an L2 term: w (d,), x (n, d), y (n,) in {0, 1} -> ().

    Taught in 12_tracing_paper.
    """
    logits = x @ w
    return jnp.mean(jnp.logaddexp(0.0, logits) - y * logits) + 1e-3 * (w @ w)


def value_grad_hvp(
    x: jax.Array, y: jax.Array
) -> tuple[
    Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array], Callable[[jax.Array, jax.Array], jax.Array]
]:
    """Value, gradient and Hessian-vector product (forward over reverse) of `logistic_loss` on given data.

    Taught in 12_tracing_paper.
    """

    def value(w: jax.Array) -> jax.Array:
        return logistic_loss(w, x, y)

    def hvp(w: jax.Array, v: jax.Array) -> jax.Array:
        return jax.jvp(jax.grad(value), (w,), (v,))[1]

    return value, jax.grad(value), hvp
