"""Checks of the exercises on custom rules: a backward rule, an implicit derivative, memory. Needs NumPy and JAX.

Lesson: 09b_custom_rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, operations, same, wrong
from course.failures import last_lines

LESSON = "09b_custom_rules"


@check(
    LESSON,
    "No function has this derivative, as it depends on the sign of what arrives: it takes jax.custom_vjp.",
    "limit is a setting: nondiff_argnums=(2,), and then bwd takes (limit, saved, g), the setting first.",
    "bias was broadcast over the rows, so its cotangent is a sum over them: g.sum(0).",
    "blocked = (jnp.abs(shifted) > limit) & (g * shifted < 0)",
    points=3,
)
def inward_clip(rng: np.random.Generator, inward_clip: Any) -> None:
    """A clip whose gradient is stopped only where descent would lead further out, against torch's Function."""
    import torch

    class InwardClip(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, bias: Any, limit: float) -> Any:
            ctx.limit, shifted = limit, x + bias
            ctx.save_for_backward(shifted)
            return shifted.clamp(-limit, limit)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (shifted,) = ctx.saved_tensors
            g = g.masked_fill((shifted.abs() > ctx.limit) & (g * shifted < 0), 0.0)
            return g, g.sum(0), None

    answer = function(inward_clip, "inward_clip(x, bias, limit)")
    for n, d in rng.integers(6, 10, (2, 2)):
        x, pull = 2 * rng.normal(size=(2, n, d)).astype("f")
        bias, limit = rng.normal(size=d).astype("f"), float(rng.uniform(0.5, 1.5))
        leaves = [torch.tensor(array, requires_grad=True) for array in (x, bias)]
        out = InwardClip.apply(*leaves, limit)
        (out * torch.tensor(pull)).sum().backward()
        expected = [np.asarray(leaf.grad) for leaf in leaves]
        given = jnp.asarray(x), jnp.asarray(bias)
        same(
            answer(*given, limit), out.detach().numpy(), f"the value for {n} rows",
            slips={"nothing is clipped": x + bias, "bias is added after the clip": np.clip(x, -limit, limit) + bias},
        )  # fmt: skip

        def loss(x: jax.Array, bias: jax.Array, limit: float = limit, pull: np.ndarray = pull) -> jax.Array:
            return (answer(x, bias, limit) * pull).sum()

        try:
            got = jax.jit(jax.grad(loss, argnums=(0, 1)))(*given)
        except (TypeError, ValueError) as error:
            text = str(error)
            slip = ""
            if "tuple of length" in text or "must produce" in text or "structure" in text:
                slip = "bwd returns one cotangent for each argument that is not static, as a tuple"
            if "shape" in text:
                slip = "a cotangent has the shape of its argument: the bias was broadcast, so its share is a sum"
            wrong("the gradient of inward_clip raised an error.", got=last_lines(error, 4), slip=slip)
        shifted = x + bias
        outside = np.abs(shifted) > limit

        def both(g: np.ndarray, reduce: Any = np.sum) -> list[np.ndarray]:
            return [g, reduce(g, axis=0)]

        shuffled = np.where((limit > pull) & (shifted * limit < 0), 0, shifted)
        same(
            list(got), expected, f"the gradient for {n} rows", rtol=1e-4, atol=1e-5,
            slips={
                "the gradient of a plain clip: it stops every gradient out of range": both(np.where(outside, 0, pull)),
                "straight through: nothing is stopped": both(pull),
                "the wrong ones are stopped: those that would bring the value back inside":
                    both(np.where(outside & (pull * shifted > 0), 0, pull)),
                "stopped inside the range as well; only what is out of it can be": both(
                    np.where(pull * shifted < 0, 0, pull)),
                "the bias has the mean over the rows, where a broadcast argument needs the sum":
                    both(expected[0], np.mean),
                "the backward rule's arguments are shifted: static settings come first, then what was saved, then g":
                    both(shuffled),
            },
        )  # fmt: skip


def _newton(mean: Any, e: Any, turns: int = 30) -> Any:
    """Kepler's equation by Newton's method on tensors: differentiated turn by turn."""
    angle = mean
    for _ in range(turns):
        angle = angle - (angle - e * angle.sin() - mean) / (1 - e * angle.cos())
    return angle


@check(
    LESSON,
    "The solution satisfies E - e sin E = M. Differentiate that line, and solve for dE.",
    "dE (1 - e cos E) = dM + sin E de: two tangents come in, one goes out, and no loop is run through.",
    "jax.custom_jvp gives both directions. In the rule call the decorated function, so that its derivative has a rule.",
    "return angle, (mean_dot + jnp.sin(angle) * e_dot) / (1 - e * jnp.cos(angle))",
    points=4,
)  # fmt: skip
def implicit_root(rng: np.random.Generator, kepler: Any) -> None:
    """Derivatives of an equation's solution, first and second, forward and backward, against torch through the loop."""
    import torch

    answer = function(kepler, "kepler(mean, e)")
    at = rng.uniform(0.5, 2.5), rng.uniform(0.2, 0.6)
    leaves = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in at]
    value = _newton(leaves[0], leaves[1])
    slopes = torch.autograd.grad(value, leaves, create_graph=True)
    second = [
        [float(part.detach()) for part in torch.autograd.grad(slope, leaves, retain_graph=True)] for slope in slopes
    ]
    by_mean, by_e = (float(slope.detach()) for slope in slopes)

    def attempt(what: str, call: Callable[[], Any], slip: str) -> Any:
        try:
            return call()
        except Exception as error:  # the learner's rule runs in here
            wrong(f"{what} raised an error.", got=last_lines(error, 4), slip=slip)

    with float64():
        point = tuple(jnp.asarray(number, jnp.float64) for number in at)
        same(answer(*point), float(value.detach()), "the angle", rtol=1e-6)
        got = attempt(
            "jax.grad(kepler)", lambda: jax.grad(kepler, argnums=(0, 1))(*point),
            "there is no backward pass through a while_loop: state the derivative, with jax.custom_jvp",
        )  # fmt: skip
        sine, cosine = float(value.detach().sin()), float(value.detach().cos())
        divisor = 1 - at[1] * cosine
        same(
            list(got), [by_mean, by_e], "the gradient by (mean, e)", rtol=1e-6,
            slips={
                "the share of e is missing: two tangents come in": [by_mean, 0.0],
                "the share of mean is missing: two tangents come in": [0.0, by_e],
                "the division by 1 - e cos E is missing": [1.0, sine],
                "the sign of the share of e": [by_mean, -by_e],
                "1 + e cos E: the derivative of -e sin E is -e cos E":
                    [1 / (2 - divisor), sine / (2 - divisor)],
                "the factor sin E of the share of e is missing": [by_mean, by_mean],
            },
        )  # fmt: skip
        forward = attempt(
            "jax.jvp of kepler", lambda: jax.jvp(kepler, point, (jnp.ones_like(point[0]), 2 * jnp.ones_like(point[0]))),
            "a custom_vjp has a backward rule only; jax.custom_jvp gives both directions",
        )  # fmt: skip
        same(list(forward), [float(value.detach()), by_mean + 2 * by_e], "value and slope along (1, 2)", rtol=1e-6)
        found = operations(jax.grad(answer, argnums=(0, 1)), *point)
        if found["scan"] + found["while"] > 1 or found["sin"] + found["cos"] > 12:
            wrong(
                "the derivative runs through the solver's turns.",
                slip="at the solution no turn matters: state the rule with jax.custom_jvp",
            )
        twice = attempt(
            "the second derivative of kepler, backward twice,",
            lambda: jax.jacrev(jax.jacrev(kepler, argnums=(0, 1)), argnums=(0, 1))(*point),
            "inside the rule call the decorated function, kepler, not solve: its derivative must find the rule",
        )
        same(
            [list(row) for row in twice], second, "the second derivatives", rtol=1e-5,
            slips={
                "the angle is a constant in the rule: the decorated function's result must be differentiable":
                    [[0.0, cosine / divisor**2], [0.0, sine * cosine / divisor**2]],
            },
        )  # fmt: skip
        means = jnp.asarray(rng.uniform(0.3, 2.5, 3), jnp.float64)
        rows = jax.vmap(jax.grad(answer), in_axes=(0, None))(means, point[1])
        angles = [_newton(torch.tensor(float(mean), dtype=torch.float64), torch.tensor(at[1])) for mean in means]
        same(rows, np.array([1 / (1 - at[1] * float(a.cos())) for a in angles]), "the slopes of three means", rtol=1e-6)


@check(
    LESSON,
    "jax.checkpoint(function) keeps the inputs of a call and nothing from inside it. Which call should that be?",
    "A segment is a function of (x, its weights): a loop, or a scan, over its blocks.",
    "weights.reshape(-1, segment, *weights.shape[1:]) has one row a segment; an outer loop or scan goes over the rows.",
    points=3,
)
def checkpointed_segments(rng: np.random.Generator, in_segments: Any) -> None:
    """Blocks in checkpointed segments: value and gradients against torch, and what is kept between the passes."""
    import torch

    answer = function(in_segments, "in_segments(block, weights, x, segment)")
    n, segment = [(12, 3), (12, 4), (15, 3), (15, 5)][int(rng.integers(4))]
    rows, d = 400, 2
    weights = (rng.normal(size=(n, d, d)) / d**0.5).astype("f")
    x, pull = rng.normal(size=(2, rows, d)).astype("f")
    leaves = [torch.tensor(array, requires_grad=True) for array in (weights, x)]
    out = leaves[1]
    for w in leaves[0]:
        out = torch.tanh(out @ w) + 0.1 * out
    (out * torch.tensor(pull)).sum().backward()

    def block(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.tanh(x @ w) + 0.1 * x

    def by_blocks(order: Any) -> np.ndarray:
        value = x.astype(np.float64)
        for i in order:
            value = np.tanh(value @ weights[i]) + 0.1 * value
        return value

    def run(weights: jax.Array, x: jax.Array) -> jax.Array:
        return answer(block, weights, x, segment)

    value, pullback = jax.vjp(run, jnp.asarray(weights), jnp.asarray(x))
    same(
        value, out.detach().numpy(), f"the output of {n} blocks", rtol=1e-4, atol=1e-5,
        slips={
            "the blocks run from the last to the first": by_blocks(range(n)[::-1]),
            "only the first block of each segment runs": by_blocks(range(0, n, segment)),
            "only the first segment runs": by_blocks(range(segment)),
            "the segments are mixed up: reshape to (segments, segment, ...), rows in order": by_blocks(
                np.arange(n).reshape(segment, -1).T.ravel()),
        },
    )  # fmt: skip
    slopes = pullback(jnp.asarray(pull))
    same(list(slopes), [np.asarray(leaf.grad) for leaf in leaves], "the gradients", rtol=1e-4, atol=1e-4)
    sizes = {id(leaf): leaf.size for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "size")}
    kept, due = sum(sizes.values()) / x.size, n // segment
    if not due - 0.5 < kept < due + 1.6:
        slip = "nothing is checkpointed"
        if kept < due:
            slip = "one checkpoint around several segments: its backward pass keeps all their blocks at once"
        elif kept < n + 1.6:
            slip = "each block is checkpointed by itself: of a segment, only the input need stay"
        wrong(
            f"{kept:.1f} arrays of the size of x are kept between forward and backward, and {due} segments "
            f"need {due}.", slip=slip,
        )  # fmt: skip
