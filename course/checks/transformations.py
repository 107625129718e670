"""Checks of the exercises on gradients per example, curvature along a line, frozen targets. Needs NumPy and JAX.

Lesson: 09_transformations.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, same, wrong

LESSON = "09_transformations"


@check(
    LESSON,
    "jax.grad gives the gradient of one example; jax.vmap makes it the gradients of many, one row each.",
    "The weights are shared, the examples are not: in_axes=(None, 0, 0).",
    "The norm of one example's gradient is over all weights: the root of the sum over leaves of the sum of squares.",
    "The factor is min(1, limit / norm): it never makes a gradient longer.",
    points=3,
)
def clipped_gradient(rng: np.random.Generator, clipped_gradient: Any) -> None:
    """The mean of the examples' gradients, each clipped to a norm; against torch, one backward pass an example."""
    import torch

    answer = function(clipped_gradient, "clipped_gradient(loss, params, x, y, limit)")

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return (jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2

    for n, d in rng.integers(3, 7, (2, 2)):
        params = {"w": rng.normal(size=(d, 4)).astype("f"), "v": rng.normal(size=4).astype("f")}
        x, y = rng.normal(size=(n, d)).astype("f"), 2 * rng.normal(size=n).astype("f")
        y[0] = np.tanh(x[0] @ params["w"]) @ params["v"] + 0.01  # one gradient is short
        w, v = (torch.tensor(params[name], requires_grad=True) for name in ("w", "v"))
        rows = [
            torch.autograd.grad((torch.tanh(torch.tensor(a) @ w) @ v - b) ** 2, (w, v))
            for a, b in zip(x, torch.tensor(y), strict=True)
        ]
        norms = [float(sum((part**2).sum() for part in row) ** 0.5) for row in rows]

        def averaged(factors: Any, rows: Any = rows) -> dict[str, np.ndarray]:
            parts = zip(
                *(([f * part.numpy() for part in row]) for f, row in zip(factors, rows, strict=True)), strict=True
            )
            return dict(zip(("w", "v"), (np.mean(list(part), axis=0) for part in parts), strict=True))

        mean = averaged([1.0] * n)
        length = float(sum((part**2).sum() for part in mean.values()) ** 0.5)
        limit = 0.8 * length  # the mean is longer, and so is at least one of the rest
        expected = averaged([min(1.0, limit / norm) for norm in norms])
        by_leaf = [[part.numpy() * min(1.0, limit / float(part.norm())) for part in row] for row in rows]
        got = answer(loss, jax.tree.map(jnp.asarray, params), jnp.asarray(x), jnp.asarray(y), limit)
        same(
            got, expected, f"the gradient of {n} examples", rtol=1e-4,
            slips={
                "nothing is clipped": mean,
                "the mean is clipped; clip every example's gradient, then average": {
                    name: part * min(1.0, limit / length) for name, part in mean.items()
                },
                "the sum, not the mean": {name: n * part for name, part in expected.items()},
                "gradients that are short enough are made longer: the factor is min(1, limit / norm)": averaged(
                    [limit / norm for norm in norms]
                ),
                "every leaf is clipped by its own norm; the norm is over all weights of an example": dict(
                    zip(("w", "v"), (np.mean([row[k] for row in by_leaf], axis=0) for k in (0, 1)), strict=True)
                ),
            },
        )  # fmt: skip


@check(
    LESSON,
    "jax.jvp(f, (x,), (v,)) gives the pair of value and slope. The slope is a function of x, too.",
    "v @ H @ v is the derivative of the slope along v: a jvp of a function that itself returns a jvp.",
    "With pair = lambda x: jax.jvp(f, (x,), (v,)), jax.jvp(pair, (x,), (v,)) returns the pair and its derivative.",
    points=2,
)
def hessian_vector(rng: np.random.Generator, along_line: Any) -> None:
    """Value, slope and v H v against the whole Hessian in small dimensions; in a large one it would not fit."""
    answer = function(along_line, "along_line(f, x, v)")
    for d in rng.integers(3, 8, 2):
        a = jnp.asarray(rng.normal(size=(d, d)), jnp.float32)
        x, v = jnp.asarray(rng.normal(size=(2, d)), jnp.float32)

        def f(x: jax.Array, a: jax.Array = a) -> jax.Array:
            return jnp.sin(a @ x).sum() + (x**3).prod()

        value, gradient, hessian = jax.jit(lambda x, f=f: (f(x), jax.grad(f)(x), jax.hessian(f)(x)))(x)
        slope, curvature = gradient @ v, v @ hessian @ v
        got = answer(f, x, v)
        parts = f"the triple (value, slope, curvature) in {d} dimensions"
        same(
            tuple(got) if isinstance(got, list) else got, (value, slope, curvature), parts, rtol=1e-4,
            slips={
                "H v, a vector, in place of v H v, a number": (value, slope, hessian @ v),
                "the gradient, in place of the slope along v": (value, gradient, curvature),
                "the gradient and H v, in place of their products with v": (value, gradient, hessian @ v),
                "the pairs as the outer jax.jvp returns them, not a triple": ((value, slope), (slope, curvature)),
                "the slope twice: of the second pair that the outer jax.jvp returns, take the second value": (
                    value, slope, slope
                ),
                "half of it, as in Taylor's formula; the second derivative is due": (value, slope, curvature / 2),
                "divided by the length of v; the derivatives are by t": lambda s=slope, c=curvature, value=value, v=v: (
                    value, s / jnp.linalg.norm(v), c / (v @ v)
                ),
                "the trace of H, the curvature along all axes": (value, slope, jnp.trace(hessian)),
                "x and v are swapped": lambda f=f, x=x, v=v: (f(v), jax.grad(f)(v) @ x, x @ jax.hessian(f)(v) @ x),
                "x H v, not v H v": (value, slope, x @ hessian @ v),
                "the order: value, slope, curvature": (curvature, slope, value),
            },
        )  # fmt: skip
    d = 30_000
    x = jnp.ones(d)
    shapes = jax.make_jaxpr(lambda x, v: answer(lambda x: jnp.sin(x).sum(), x, v))(x, x)
    if f"{d},{d}" in str(shapes):
        wrong(
            f"v H v in {d} dimensions goes through a matrix ({d}, {d}), 3.6 GB.",
            slip="jax.hessian builds the whole matrix; differentiate the slope along v instead",
        )


@check(
    LESSON,
    "Which of the two values does the target come from, and should the loss push it?",
    "lax.stop_gradient(target) is torch's target.detach().",
    points=2,
)
def td_gradient(rng: np.random.Generator, td_gradient: Any) -> None:
    """The gradient of a loss with a frozen target, against torch's with detach()."""
    import torch

    answer = function(td_gradient, "td_gradient(w, state, reward, following, gamma)")
    for n, d in rng.integers(3, 7, (2, 2)):
        w = rng.normal(size=d).astype("f")
        state, following = rng.normal(size=(2, n, d)).astype("f")
        reward, gamma = rng.normal(size=n).astype("f"), float(rng.uniform(0.5, 0.95))

        def by_torch(freeze: bool, half: float = 1.0, sign: float = 1.0, arrays: Any = (w, state, reward, following),
                     gamma: float = gamma) -> np.ndarray:  # fmt: skip
            w, state, reward, following = (torch.tensor(array) for array in arrays)
            w.requires_grad_(True)
            target = reward + gamma * torch.tanh(following @ w)
            value = torch.tanh(state @ w)
            loss = half * ((value - (target.detach() if freeze else target)) ** 2).mean()
            return sign * torch.autograd.grad(loss, w)[0].numpy()

        arrays = map(jnp.asarray, (w, state, reward, following))
        same(
            answer(*arrays, gamma), by_torch(True), f"the gradient from {n} transitions", rtol=1e-4,
            slips={
                "the target moves: the gradient flows through it; freeze it with lax.stop_gradient": by_torch(False),
                "the value is frozen, not the target": by_torch(False) - by_torch(True),
                "the sum, not the mean": n * by_torch(True),
                "a factor 1/2 that the given loss does not have": by_torch(True, 0.5),
                "the sign: descent subtracts the gradient later": by_torch(True, sign=-1.0),
            },
        )  # fmt: skip
