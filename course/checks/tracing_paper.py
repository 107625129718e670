"""Checks of the exercises on pure functions, loops as primitives, and work moved out of loops. Needs NumPy and JAX.

Lesson: 12_tracing_paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, keyed, operations, predicted, same, wrong

LESSON = "12_tracing_paper"


def _measured_kinds() -> dict[str, str]:
    """The functions of the exercise, called and traced: "both", "pure", "static" or "neither"."""
    seen: list[Any] = []
    random = np.random.default_rng(0)

    def scaled(v: Any) -> Any:
        return v / jnp.maximum(jnp.abs(v).max(), 1.0)

    def jittered(v: Any) -> Any:
        return v + random.normal()

    def positives(v: Any) -> Any:
        return v[v > 0].sum()

    def halved(v: Any) -> Any:
        while v.max() > 1:
            v = v / 2
        return v

    def remembered(v: Any) -> Any:
        if v.sum() > 0:
            seen.append(float(v.sum()))
        return v.sum()

    def relaxed(v: Any) -> Any:
        return jax.lax.fori_loop(0, 20, lambda i, v: 0.5 * (v + v.mean()), v)

    def measure(f: Callable[[Any], Any]) -> str:
        v = jnp.array([3.0, -1.0, 2.0])
        before = len(seen)
        pure = bool((f(v) == f(v)).all()) and len(seen) == before
        try:
            jax.make_jaxpr(f)(v)
        except jax.errors.JAXTypeError:
            return "pure" if pure else "neither"
        except jax.errors.JAXIndexError:
            return "pure" if pure else "neither"
        return "both" if pure else "static"

    return {f.__name__: measure(f) for f in (scaled, jittered, positives, halved, remembered, relaxed)}


@check(
    LESSON,
    "Pure: the same argument gives the same result, and nothing else changes. Static: make_jaxpr gets through.",
    "What decides how many entries v[v > 0] has? And who runs a Python `while`?",
    points=2,
)
def pure_or_static(rng: np.random.Generator, kinds: Any) -> None:
    """Which functions are pure, which statically composed; measured by calling and tracing them."""
    not_static = "tracing it fails: its graph depends on the values of v"
    slips: dict[str, dict[Any, str]] = {
        "scaled": dict.fromkeys(
            ("pure", "static", "neither"), "jnp.maximum is no branch: the graph is always the same"
        ),
        "jittered": {
            "both": "called twice, it gives two results",
            "neither": "it can be traced; the number drawn meanwhile stays in the graph for good",
            "pure": "a generator outside moves on at each call",
        },
        "positives": {
            "both": f"{not_static}, here the shape of v[v > 0]",
            "static": not_static,
            "neither": "it is pure",
        },
        "halved": {
            "both": f"{not_static}: Python's `while` asks for one",
            "static": not_static,
            "neither": "it is pure",
        },
        "remembered": {
            "static": f"{not_static}: Python's `if` asks for one",
            "pure": "it appends to a list outside",
            "both": "it appends to a list outside",
        },
        "relaxed": {"pure": "lax.fori_loop is a primitive: one node, however often it turns"},
    }
    keyed(kinds, slips)
    for name, value in _measured_kinds().items():
        if str(kinds[name]).strip().casefold() not in ("both", "pure", "static", "neither"):
            wrong(f"{name}: expected 'both', 'pure', 'static' or 'neither'.", got=kinds[name])
        predicted(kinds[name], value, name, slips[name])


@check(
    LESSON,
    "What changes from turn to turn is the state: low, high and the number of turns.",
    "jax.lax.while_loop(condition, body, state): the condition gets the state and returns a traced boolean.",
    "The `if` becomes jnp.where(same_side, middle, high) and jnp.where(same_side, low, middle).",
    points=2,
)
def bisect(rng: np.random.Generator, bisect: Any) -> None:
    """Bisection as one node of a graph, mapped over intervals; against the Python loop."""
    answer = function(bisect, "bisect(f, low, high, tolerance)")
    for sign in (1.0, -1.0):
        c = float(rng.uniform(0.5, 2.0))
        calls: list[int] = []

        def f(x: Any, c: float = c, sign: float = sign, calls: list[int] = calls) -> Any:
            calls.append(1)
            return sign * (x**3 + x - c)

        def loop(low: float, high: float, tolerance: float, after: Any = None, c: float = c, sign: float = sign) -> Any:
            """Root, turns, ends, least |f| at a middle; `after` replaces how the half is chosen."""
            turns, nearest = 0, np.inf
            while high - low > tolerance and turns < 60:
                middle = (low + high) / 2
                at_middle, at_high = (sign * (x**3 + x - c) for x in (middle, high))
                if (at_middle > 0) == (at_high > 0) if after is None else after(at_middle, at_high):
                    high = middle
                else:
                    low = middle
                turns, nearest = turns + 1, min(nearest, abs(at_middle))
            return (low + high) / 2, turns, low, high, nearest

        tolerance = 2.0 ** -int(rng.integers(6, 10))
        for _ in range(50):  # until float32 decides every turn as float64 does: no middle lies at the root
            lows = -rng.uniform(0.1, 1.0, 3)
            highs = lows + 2.0 ** np.array([1, 2, 3]) * rng.uniform(1.7, 1.9, 3)
            rows = [loop(low, high, tolerance) for low, high in zip(lows, highs, strict=True)]
            if min(row[4] for row in rows) > 1e-4:
                break
        rising = [loop(*pair, tolerance, lambda m, h: m > 0) for pair in zip(lows, highs, strict=True)]
        other = [loop(*pair, tolerance, lambda m, h: (m > 0) != (h > 0)) for pair in zip(lows, highs, strict=True)]

        expected = np.array([row[0] for row in rows], "f"), np.array([row[1] for row in rows])
        one = answer(f, jnp.float32(lows[0]), jnp.float32(highs[0]), tolerance)

        def first(rows: Any, place: int = 0) -> tuple[Any, Any]:
            return np.float32(rows[0][place]), rows[0][1]

        same(
            one, first(rows), "(root, turns)", atol=1e-5,
            slips={
                "f is taken to rise; compare the signs at the middle and at high": first(rising),
                "the half without the root is kept": first(other),
                "the lower end, not the middle of what is left": first(rows, 2),
                "the upper end, not the middle of what is left": first(rows, 3),
                "one turn too many is counted": (expected[0][0], expected[1][0] + 1),
                "one turn too few is counted": (expected[0][0], expected[1][0] - 1),
                "the root alone": expected[0][0],
            },
        )  # fmt: skip
        calls.clear()
        mapped = jax.jit(jax.vmap(lambda low, high: answer(f, low, high, tolerance)))  # noqa: B023
        got = mapped(jnp.asarray(lows, jnp.float32), jnp.asarray(highs, jnp.float32))
        most = int(expected[1].max())
        same(
            got, expected, "(roots, turns) of three intervals under vmap and jit", atol=1e-5,
            slips={"all intervals take the turns of the longest": (expected[0], np.full(3, most))},
        )  # fmt: skip
        if len(calls) > 8:
            wrong(f"f was traced {len(calls)} times.", slip="a Python loop of a fixed number of turns")


def _inside_loops(f: Callable[..., Any], *args: Any) -> set[str]:
    """The primitives inside the loops of f's jaxpr."""
    names: set[str] = set()
    waiting = [(jax.make_jaxpr(f)(*args).jaxpr, False)]
    while waiting:
        jaxpr, looping = waiting.pop()
        for equation in jaxpr.eqns:
            names |= {equation.primitive.name} if looping else set()
            inside = looping or equation.primitive.name in ("scan", "while")
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
                inner = getattr(value, "jaxpr", value)
                waiting += [(inner, inside)] if hasattr(inner, "eqns") else []
    return names


def _conjugate_gradients(hessian: np.ndarray, g: np.ndarray, turns: int) -> np.ndarray:
    p, residual = np.zeros_like(g), -g
    direction = residual
    for _ in range(turns):
        product, size = hessian @ direction, residual @ residual
        p = p + size / (direction @ product) * direction
        residual = residual - size / (direction @ product) * product
        direction = residual + residual @ residual / size * direction
    return p


@check(
    LESSON,
    "w stays the same in all turns. What does a product with the Hessian at w need that does not depend on the vector?",
    "jax.linearize(jax.grad(f), w) does the work at w once: it returns the gradient and a linear function.",
    "g, hvp = jax.linearize(jax.grad(f), w); then hvp(direction) in the body of a lax.scan or fori_loop.",
    points=3,
)
def newton_direction(rng: np.random.Generator, newton_direction: Any) -> None:
    """Turns of conjugate gradients in one loop without exponentials; against the whole Hessian in float64."""
    answer = function(newton_direction, "newton_direction(f, w, turns)")
    calls: list[int] = []
    for turns in (2, 3):
        d = int(rng.integers(5, 8))
        a, w = rng.normal(size=(2 * d, d)), 0.3 * rng.normal(size=d)
        calls.clear()
        with float64():
            a_on_device = jnp.asarray(a)

            def f(w: Any, a: Any = a_on_device) -> Any:
                calls.append(1)
                return jnp.log1p(jnp.exp(a @ w)).sum() + (w @ w) / 2 + w[0]

            point = jnp.asarray(w)
            p = 1 / (1 + np.exp(-a @ w))
            g = a.T @ p + w + np.eye(d)[0]
            hessian = (a.T * (p * (1 - p))) @ a + np.eye(d)
            expected = _conjugate_gradients(hessian, g, turns)
            got = answer(f, point, turns)
            ran = len(calls)
            exact = -np.linalg.solve(hessian, g)
            same(
                got, expected, f"the direction after {turns} turns in {d} dimensions", rtol=1e-6,
                slips={
                    "uphill: the right side is -g": -expected,
                    "the exact solution; exactly `turns` turns are asked for": exact,
                    "the negative gradient": -g,
                    "a turn too few": _conjugate_gradients(hessian, g, turns - 1),
                    "a turn too many": _conjugate_gradients(hessian, g, turns + 1),
                    "steepest descent: each direction is the residual alone": _steepest(hessian, g, turns),
                    "w plus the direction: the direction alone is asked for": w + expected,
                },
            )  # fmt: skip
            if "exp" in _inside_loops(lambda w, f=f, turns=turns: answer(f, w, turns), point):
                wrong(
                    "there is an exponential in the loop's body.",
                    slip="each product runs f anew, at the same w; jax.linearize does that once, before the loop",
                )
            few, many = (
                sum(operations(lambda w, f=f, n=n: answer(f, w, n), point).values()) for n in (3, 24)
            )  # fmt: skip
            if many > 2 * few:
                wrong(f"the program grows with the turns: {few} operations become {many}.", slip="a Python loop")
            if ran > 4:
                wrong(f"f ran {ran} times.", slip="linearize once, before the loop")


def _steepest(hessian: np.ndarray, g: np.ndarray, turns: int) -> np.ndarray:
    p, residual = np.zeros_like(g), -g
    for _ in range(turns):
        product = hessian @ residual
        step = residual @ residual / (residual @ product)
        p, residual = p + step * residual, residual - step * product
    return p
