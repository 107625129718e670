"""Checks of the exercises on a source, an ansatz, a baseline and a compiled loop. Needs NumPy, JAX and optax.

Lesson: 19_million_dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from course.checks.core import check, float64, function, keyed, operations, predicted, same, wrong

LESSON = "19_million_dimensions"


@check(
    LESSON,
    "Insert the made-up u into the left side of the equation; what comes out is g.",
    "Write u as a function of x, factor included, and let taylor.value_and_laplacian have it whole.",
    "value, lap = taylor.value_and_laplacian(lambda x: (1 - x @ x) * s(x), x)",
    points=2,
)
def bratu_source(rng: np.random.Generator, bratu_source: Any) -> None:
    """The source in few dimensions, against the product rule by hand; in many, no array of the Hessian's shape."""
    answer = function(bratu_source, "bratu_source(s, x)")
    with float64():
        for d in rng.integers(3, 7, 2):
            a, b, w = rng.normal(size=3), rng.normal(size=3), rng.normal(size=(3, d))
            x = rng.normal(size=d)
            x *= rng.uniform(0.3, 0.9) / np.linalg.norm(x)

            def s(x: jax.Array, a: Any = a, b: Any = b, w: Any = w) -> jax.Array:
                return a @ jnp.sin(w @ x + b)

            sine, cosine, factor = a * np.sin(w @ x + b), a * np.cos(w @ x + b), 1 - x @ x
            value, along = sine.sum(), cosine @ (w @ x)
            lap_s, across = -sine @ (w**2).sum(1), w.sum(1)
            lap, source = factor * lap_s - 4 * along - 2 * d * value, np.exp(factor * value)
            all_entries = -factor * sine @ across**2 - 4 * x.sum() * (cosine @ across) - 2 * d * value
            same(
                answer(s, jnp.asarray(x)), lap + source, f"g at a point of {d} dimensions", rtol=1e-5,
                slips={
                    "u without its factor 1 - |x|^2": lap_s + np.exp(value),
                    "the factor counts in the Laplacian too: it is the Laplacian of (1 - |x|^2) s": factor * lap_s
                    + source,
                    "the product rule without its term -4 x.grad s": factor * lap_s - 2 * d * value + source,
                    "the Laplacian of |x|^2 is 2 d, not 2": lap + 2 * (d - 1) * value + source,
                    "e^s, not e^u": lap + np.exp(value),
                    "the sum of all entries of the Hessian; the Laplacian is the sum of its diagonal": all_entries
                    + source,
                    "only the Laplacian; the equation has e^u too": lap,
                    "the sign of e^u: g is the left side of the equation": lap - source,
                },
            )  # fmt: skip
    d = 20_000
    shapes = jax.make_jaxpr(lambda x: answer(lambda x: jnp.sin(x.sum()), x))(jnp.full(d, 1e-3, jnp.float32))
    if f"{d},{d}" in str(shapes):
        wrong(
            f"g in {d} dimensions goes through a matrix ({d}, {d}), 1.6 GB in float32.",
            slip="a whole Hessian, or an identity matrix; taylor.value_and_laplacian needs neither",
        )


@check(
    LESSON,
    "First find a function that has both values and knows no network; then a factor that is zero on both surfaces.",
    "|x|^2 is smooth, 1 on the inner surface and 4 on the outer. So (|x|^2 - 1) / 3 goes from 0 to 1.",
    "With a = (x @ x - 1) / 3: the lift is inner + a (outer - inner), the factor a (1 - a).",
    points=2,
)
def shell_ansatz(rng: np.random.Generator, shell_ansatz: Any) -> None:
    """Values on both surfaces, and a factor between them that is smooth, never zero, and leaves zero linearly."""
    answer = function(shell_ansatz, "shell_ansatz(network, x, inner, outer)")
    with float64():
        d = int(rng.integers(3, 7))
        inner, outer = rng.uniform(1, 2), rng.uniform(-2, -1)
        weights = rng.normal(size=(4, d))
        direction = rng.normal(size=d)
        direction /= np.linalg.norm(direction)
        radii = np.linspace(1, 2, 201)

        def network(x: jax.Array) -> jax.Array:
            return 2 + jnp.tanh(weights @ x).sum() / 4  # from 1 to 3

        def on_line(network: Callable[[jax.Array], jax.Array]) -> np.ndarray:
            points = jnp.asarray(radii[:, None] * direction)
            value = jax.vmap(lambda x: jnp.asarray(answer(network, x, inner, outer)))(points)
            if value.shape != radii.shape:
                wrong("u at a point is no number.", expected=np.zeros(()), got=np.zeros(value.shape[1:]))
            return np.asarray(value)

        u, lift, raised = on_line(network), on_line(lambda x: 0.0 * x[0]), on_line(lambda x: 1.0 + 0.0 * x[0])
        n = np.asarray(jax.vmap(network)(jnp.asarray(radii[:, None] * direction)))
        factor = raised - lift
        if not np.abs(u - lift).max():
            wrong("u does not depend on the network.", slip="the lift alone; add factor * network(x)")
        same(
            np.array([u[0], u[-1]]), np.array([inner, outer]), "u on the inner and on the outer surface", rtol=1e-6,
            slips={
                "inner and outer are swapped": np.array([outer, inner]),
                "zero on both surfaces: the lift is missing": np.zeros(2),
                "the factor is missing: the network moves u on the surfaces": np.array([inner + n[0], outer + n[-1]]),
                "the factor is zero on the outer surface only": np.array([u[0], outer]),
                "the factor is zero on the inner surface only": np.array([inner, u[-1]]),
            },
        )  # fmt: skip
        same(u, lift + factor * n, "u between the surfaces, as lift + factor * network(x)", rtol=1e-6)
        size = np.abs(factor).max()
        if np.abs(factor[1:-1]).min() < 1e-6 * size or np.ptp(np.sign(factor[1:-1])):
            wrong("the factor is zero inside the shell; there the network could not move u.")
        if min(abs(factor[1]), abs(factor[-2])) < 0.1 * size / 200:  # one of 200 steps away from a surface
            wrong(
                "the factor is zero on a surface together with its slope.",
                slip="a square: it takes from the network the slope at the surface, which nobody prescribed",
            )
        bend = 200**2 * np.abs(np.diff(np.stack([lift, factor]), 2)).max(axis=1)
        if (bend > 100 * np.maximum(np.abs([lift, factor]).max(axis=1), 1e-9)).any():
            wrong("u has a kink inside the shell.", slip="min, max or abs; a second derivative needs a smooth factor")


@check(
    LESSON,
    "A coordinate is of size |x| / sqrt(d), but the length |x| itself is uniform between 0 and 1 in any dimension.",
    "What does each s become as a function of |x|, up to terms that vanish with d?",
    "s that depends on |x| alone is no constant; a sum of all coordinates has a spread of about |x|.",
    points=2,
)
def flat_in_the_end(rng: np.random.Generator, flat_in_the_end: Any) -> None:
    """Whether the best constant's error falls with the dimension, for six solutions, against measurements."""
    choices: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
        "mean of cosines": (
            lambda x: np.cos(x).mean(axis=1), "a mean over coordinates of size 1 / sqrt(d): the cosines are all near 1"
        ),
        "one coordinate": (lambda x: 1 + x[:, 0], "one coordinate is of size 1 / sqrt(d), beside a 1 that stays"),
        "length": (
            lambda x: np.cos(3 * np.linalg.norm(x, axis=1)), "the coordinates shrink, but the length |x| does not"
        ),
        "sine of the sum": (
            lambda x: np.sin(x.sum(axis=1)), "d coordinates of size 1 / sqrt(d) and of random signs add up to about |x|"
        ),
        "product of cosines": (
            lambda x: np.cos(2 * x).prod(axis=1), "each factor is near 1, but there are d of them: exp(-2 |x|^2)"
        ),
        "largest": (
            lambda x: abs(x).max(axis=1),
            "it shrinks as a whole, as |x| times a number, and the number cancels in a relative error",
        ),
    }  # fmt: skip
    keyed(flat_in_the_end, choices)
    errors: dict[str, list[float]] = {name: [] for name in choices}
    for d in (10, 10_000):
        x = rng.normal(size=(300, d))
        x *= rng.uniform(size=(300, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
        shape = 1 - (x**2).sum(axis=1)
        for name, (s, _) in choices.items():
            u = shape * s(x)
            left = u - (u @ shape) / (shape @ shape) * shape
            errors[name].append(float(np.linalg.norm(left) / np.linalg.norm(u)))
    for name, (few, many) in errors.items():
        truth, other = ("falls", "stays") if few > 10 * many else ("stays", "falls")
        predicted(flat_in_the_end[name], truth, name, {other: choices[name][1]})


@check(
    LESSON,
    "lax.scan carries (params, opt_state); what differs from step to step is the key.",
    "jax.random.split(key, steps) makes one key a step; scan over them.",
    "step(state, key) -> (new state, loss); (params, _), losses = jax.lax.scan(step, start, keys).",
    points=3,
)
def train_on_fresh_points(rng: np.random.Generator, train_on_fresh_points: Any) -> None:
    """Weights and losses by an identity for random signs, calls of the loss, and keys that differ."""
    answer = function(train_on_fresh_points, "train_on_fresh_points(loss_fn, optimizer, params, key, steps)")
    d, steps = int(rng.integers(60, 90)), int(rng.integers(30, 50))
    rate = float(rng.uniform(0.05, 0.2))
    start = {"w": jnp.asarray(rng.normal(size=d), jnp.float32)}
    calls = []

    def loss_fn(params: Any, key: jax.Array) -> jax.Array:
        calls.append(key)
        return params["w"] @ jax.random.rademacher(key, (d,), jnp.float32)

    def optimizer(decay: float) -> optax.GradientTransformation:
        return optax.chain(optax.trace(decay), optax.scale(-rate))

    key = jax.random.key(int(rng.integers(2**31)))
    result = answer(loss_fn, optimizer(0.0), start, key, steps)
    if not isinstance(result, tuple | list) or len(result) != 2:
        wrong("expected (params, losses).", got=result)
    if not isinstance(result[0], dict) or set(result[0]) != {"w"}:
        wrong("params come back as another tree.", expected=start, got=result[0])
    losses, w, w0 = (np.asarray(part, np.float64) for part in (result[1], result[0]["w"], start["w"]))
    same(losses.shape, (steps,), "the shape of losses")
    if len(calls) > 6:
        slip = "a Python loop; jax.lax.scan traces the step once"
        wrong(f"the loss was called {len(calls)} times for {steps} steps.", slip=slip)
    inside = operations(lambda w, key: answer(loss_fn, optimizer(0.0), w, key, steps), start, key)
    if not inside["scan"] + inside["while"]:
        wrong("no loop in the program.", slip="a Python loop around a compiled step; put the loop into lax.scan")
    moved = (w0 - w) / rate  # the sum of the steps' signs: whole numbers
    if np.abs(moved).max() < 0.5:
        wrong("the weights are those of the start.", slip="the new params must be carried on to the next step")
    if np.abs(np.abs(moved) - 1).max() < 1e-2:
        wrong("the weights have moved by one step only.", slip="params come from the start in each step; carry them")
    if np.abs(np.abs(moved) - steps).max() < 1e-2:
        wrong("all steps drew the same points.", slip="the key is reused; give each step a key of its own")
    if np.abs(moved - np.round(moved)).max() > 1e-2 or np.abs(moved).max() > steps + 0.5:
        wrong("the weights are not the start less rate times the gradients.", got=w, expected=w0)
    # w+ = w - rate z with |z|^2 = d: |w+|^2 = |w|^2 - 2 rate loss + rate^2 d, whatever the z
    from_losses = (w0 @ w0 - w @ w + steps * rate**2 * d) / (2 * rate)
    same(
        losses.sum(), from_losses, "the sum of the losses", rtol=1e-3, atol=1e-2,
        slips={
            "each loss is from after its step": from_losses - steps * rate * d,
            "gradients, or new points, in place of the losses": float(moved.sum()),
        },
    )  # fmt: skip
    # a second optimizer, with memory: w_T is the start less rate times the sum of z_t (1 + b + b^2 + ...)
    b = 0.5
    other = np.asarray(answer(loss_fn, optimizer(b), start, key, steps)[0]["w"], np.float64)
    if np.abs((w0 - other) / rate - moved).max() < 1e-2:
        wrong("an optimizer with momentum moved as one without.", slip="the optimizer's state must be carried too")
    if np.abs((w0 - other) / rate * (1 - b) - moved).max() > b / (1 - b) + 1e-1:
        wrong("an optimizer with momentum moved otherwise than it should.", slip="its state is lost on the way")
