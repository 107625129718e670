"""Checks of the exercises on ‹what the exercises are about›. Needs NumPy and JAX.

Lesson: NN_TOPIC.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, same

LESSON = "NN_TOPIC"


def _drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, rows and targets of a random size."""
    rows, columns = (int(size) for size in rng.integers(4, 9, size=2))
    return rng.normal(size=columns), rng.normal(size=(rows, columns)), rng.normal(size=rows)


@check(LESSON, "‹a nudge›", "‹the line that does it›", points=1)
def TOPIC_gradient(rng: np.random.Generator, gradient: Any) -> None:
    """‹what is checked, and against what›."""
    w, x, y = _drawn(rng)
    got = function(gradient, "gradient(w, x, y)")(*map(jnp.float32, (w, x, y)))
    expected = 2 * x.T @ (x @ w - y) / len(x)
    same(got, expected, "the gradient", rtol=1e-4, slips={"‹a likely slip, here a sum for a mean›": expected * len(x)})


@check(LESSON, "‹a nudge›", "‹the line that does it›", points=1)
def TOPIC_step(rng: np.random.Generator, step: Any) -> None:
    """‹what is checked, and against what›."""
    w, x, y = _drawn(rng)
    got = function(step, "step(w, x, y, rate)")(*map(jnp.float32, (w, x, y)), 0.1)
    gradient = 2 * x.T @ (x @ w - y) / len(x)
    same(got, w - 0.1 * gradient, "the weights after a step", rtol=1e-4, slips={"uphill": w + 0.1 * gradient})


@check(LESSON, "‹a nudge›", "‹the line that does it›", points=1)
def TOPIC_losses(rng: np.random.Generator, losses: Any) -> None:
    """‹what is checked, and against what›."""
    w, x, y = _drawn(rng)
    got = function(losses, "losses(w, x, y)")(*map(jnp.float32, (w, x, y)))
    same(got, (x @ w - y) ** 2, "the loss of each row", rtol=1e-4, slips={"no square": x @ w - y})
