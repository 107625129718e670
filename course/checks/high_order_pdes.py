"""Checks of the exercises on residuals, an ansatz, a mixed derivative and a solved beam. Needs NumPy and JAX.

Lesson: 20_high_order_pdes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import Polynomial, chebyshev

from course.checks.core import check, float64, function, same, wrong

LESSON = "20_high_order_pdes"


@check(
    LESSON,
    "One jet of order 4 along x has u, u_x, u_xx, u_xxx and u_xxxx; u_t is a jvp along t.",
    "taylor.derivatives(u, point, direction, 4) gives the five derivatives in order, factorials included.",
    "value, u_x, u_xx, _, u_xxxx = taylor.derivatives(u, point, jnp.array([0.0, 1.0]), 4)",
    points=2,
)
def flame_residual(rng: np.random.Generator, flame_residual: Any) -> None:
    """The residual of the Kuramoto-Sivashinsky equation, against derivatives by hand."""
    answer = function(flame_residual, "flame_residual(u, point)")
    with float64():
        for _ in range(2):
            a, p, q, r = rng.uniform(0.5, 1.5, (4, 3)) * rng.choice([-1, 1], (4, 3))
            t, x = rng.uniform(-1, 1, 2)

            def u(point: jax.Array, a: Any = a, p: Any = p, q: Any = q, r: Any = r) -> jax.Array:
                return a @ jnp.sin(p * point[0] + q * point[1] + r)

            sine, cosine = a * np.sin(p * t + q * x + r), a * np.cos(p * t + q * x + r)
            value, u_t, u_x, u_xx, u_xxxx = sine.sum(), cosine @ p, cosine @ q, -sine @ q**2, sine @ q**4
            expected = u_t + value * u_x + u_xx + u_xxxx
            same(
                answer(u, jnp.array([t, x])), expected, "the residual at a point", rtol=1e-7, atol=1e-7,
                slips={
                    "t and x are swapped: a point is (t, x)": u_x + value * u_t - sine @ p**2 + sine @ p**4,
                    "u_xxx in place of u_xxxx": expected - u_xxxx - cosine @ q**3,
                    "u_xxxx is missing": expected - u_xxxx,
                    "u_xx is missing": expected - u_xx,
                    "u_t is missing": expected - u_t,
                    "the sign of u_xx": expected - 2 * u_xx,
                    "the factor 6 is that of KdV": expected + 5 * value * u_x,
                    "u_x alone; the term is u times u_x": expected + (1 - value) * u_x,
                    "divided by factorials: taylor.derivatives gives derivatives, not coefficients": u_t
                    + value * u_x + u_xx / 2 + u_xxxx / 24,
                    "multiplied by factorials: taylor.derivatives gives derivatives, not coefficients": u_t
                    + value * u_x + 2 * u_xx + 24 * u_xxxx,
                },
            )  # fmt: skip


@check(
    LESSON,
    "Three conditions: a lift with three coefficients meets them, a parabola.",
    "The factor is zero at both ends, and on the left its slope is zero too; on the right it is not.",
    "lift = a + s x + (b - a - s) x^2, factor = x^2 (1 - x).",
    points=2,
)
def beam_ansatz(rng: np.random.Generator, beam_ansatz: Any) -> None:
    """Three conditions with any network, no fourth, and a factor that is nowhere zero inside."""
    answer = function(beam_ansatz, "beam_ansatz(network, a, s, b)")
    with float64():
        a, s, b = rng.uniform(0.5, 1, 3) * np.array([1, -1, 2])
        w = rng.uniform(0.5, 2, 4)

        def network(x: jax.Array) -> jax.Array:
            return 2 + jnp.sin(w * (x + 1)).sum() / 4  # from 1 to 3

        def made(network: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
            u = function(answer(network, a, s, b), "u = beam_ansatz(network, a, s, b); u(x)")
            return lambda x: jnp.asarray(u(x))

        def at_ends(u: Callable[[jax.Array], jax.Array]) -> list[float]:
            zero, one = jnp.array(0.0), jnp.array(1.0)
            if u(zero).shape != ():
                wrong("u(x) is no number.", got=u(zero))
            return [float(value) for value in (u(zero), jax.grad(u)(zero), u(one), jax.grad(u)(one))]

        u, lift = made(network), made(lambda x: 0.0 * x)
        found, of_lift = at_ends(u), at_ends(lift)
        n0, n1 = float(network(jnp.array(0.0))), float(network(jnp.array(1.0)))
        same(
            np.array(found[:3]), np.array([a, s, b]), "u(0), u'(0), u(1)", rtol=1e-6,
            slips={
                "a and b are swapped": np.array([b, s, a]),
                "the lift is missing: all three are zero": np.zeros(3),
                "the lift is the straight line; it has the slope b - a, not s": np.array([a, b - a, b]),
                "the lift leaves the right end alone": np.array([a, s, a + s]),
                "x (1 - x) lets the network change the slope on the left": np.array([a, s + n0, b]),
                "x^2 lets the network move the right end": np.array([a, s, b + n1]),
                "the factor is missing": np.array([found[0], found[1], found[2]]) if found[0] != of_lift[0] else None,
            },
        )  # fmt: skip
        x = jnp.linspace(0, 1, 41)
        with_network, alone = np.asarray(jax.vmap(u)(x)), np.asarray(jax.vmap(lift)(x))
        factor = (with_network - alone) / np.asarray(jax.vmap(network)(x))
        if not np.abs(factor).max():
            wrong("u does not depend on the network.", slip="the lift alone; add factor * network(x)")
        if np.abs(factor[1:-1]).min() < 1e-6 * np.abs(factor).max() or np.ptp(np.sign(factor[1:-1])):
            wrong("the factor is zero between the ends; there the network could not move u.")
        raised = np.asarray(jax.vmap(made(lambda x: 1.0 + 0.0 * x))(x)) - alone
        same(factor, raised, "the factor, u less the lift over the network", rtol=1e-6)
        size = np.abs(factor).max()
        if abs(found[3] - of_lift[3]) < 1e-3 * size:
            slip = "(1 - x)^2: on the prop the beam may take any slope"
            wrong("the network cannot change the slope on the right.", slip=slip)
        bend = jax.grad(jax.grad(lambda x: u(x) - lift(x)))(jnp.array(0.0))
        if not np.isfinite(bend) or abs(float(bend)) < 1e-3 * size:
            slip = "x^3: at a clamp the curvature is free"
            wrong("the network cannot change the curvature on the left.", slip=slip)


@check(
    LESSON,
    "Write down D^3 along (1, 1) and (1, -1). What is left of their difference?",
    "The difference is 6 u_xxy + 2 u_yyy, and u_yyy is D^3 along (0, 1).",
    points=2,
)
def u_xxy_from_lines(rng: np.random.Generator, u_xxy_from_lines: Any) -> None:
    """u_xxy of random third derivatives, from at most four calls."""
    answer = function(u_xxy_from_lines, "u_xxy_from_lines(third)")
    for _ in range(2):
        xxx, xxy, xyy, yyy = rng.normal(size=4) + np.array([3.0, -2.0, 4.0, 5.0])
        calls: list[Any] = []

        def third(v: Any, terms: Any = (xxx, xxy, xyy, yyy), calls: list[int] = calls) -> jax.Array:
            calls.append(1)
            v = jnp.asarray(v, jnp.float32)
            if v.shape != (2,):
                wrong("third(v) takes a direction of shape (2,).", got=v)
            x, y = v
            return terms[0] * x**3 + 3 * terms[1] * x**2 * y + 3 * terms[2] * x * y**2 + terms[3] * y**3

        got = answer(third)
        same(
            got, xxy, "u_xxy", rtol=1e-4, atol=1e-4,
            slips={
                "u_xyy: x and y are swapped": xyy,
                "2 u_yyy is left over": xxy + yyy / 3,
                "u_yyy is taken off once, not twice": xxy + yyy / 6,
                "u_yyy is added, not taken off": xxy + 2 * yyy / 3,
                "3 u_xxy: each mixed term stands three times in D^3": 3 * xxy,
                "6 u_xxy: divide by 6": 6 * xxy,
                "the derivative along (1, 1) itself": xxx + 3 * xxy + 3 * xyy + yyy,
                "a third of the derivative along (1, 1); the other terms are still in it": (xxx + yyy) / 3 + xxy + xyy,
                "the sum of the two directions keeps what is even in y; take the difference": (2 * xxx + 6 * xyy) / 6,
            },
        )  # fmt: skip
        if len(calls) > 4:
            wrong(f"third was called {len(calls)} times; four are enough.")


@check(
    LESSON,
    "Four conditions: the square of x (1 - x) as a factor meets them all.",
    "The residual is u'''' + k u - load; divide it by a few hundreds, so that Adam's first losses are about 1.",
    "As in the lesson's plate: ansatz, loss_fn(params, key), pde.scaled_cosine_adam, pde.start, pde.train.",
    "z has shape (1,) in pde.mlp and taylor.derivatives(u, z, jnp.ones(1), 4); u itself takes a number.",
    points=5,
)
def beam_on_springs(rng: np.random.Generator, beam_on_springs: Any) -> None:
    """A trained network against an exact polynomial, its conditions at both ends, and what slips would solve."""
    answer = function(beam_on_springs, "beam_on_springs(load, k, key)")
    first, k = rng.uniform(0.8, 1.2), float(rng.uniform(300, 600))
    clamped = Polynomial([0, 0, 16, -32, 16])
    exact = clamped * Polynomial([first, rng.choice([-1, 1]) * rng.uniform(1.5, 2), rng.uniform(0.5, 1)])
    coefficients = jnp.asarray((exact.deriv(4) + k * exact).coef[::-1].copy(), jnp.float32)

    def load(x: Any) -> jax.Array:
        return jnp.polyval(coefficients, jnp.asarray(x))

    u = function(answer(load, k, jax.random.key(int(rng.integers(2**31)))), "u = beam_on_springs(load, k, key); u(x)")
    x = np.linspace(0, 1, 101)
    one = jnp.asarray(u(jnp.float32(0.3)))
    if one.shape != ():
        wrong("u(x) is no number.", got=one, slip="pde.mlp takes (1,) and returns (); u takes ()")
    got = np.asarray(jax.vmap(u)(jnp.asarray(x, jnp.float32)), np.float64)
    if not np.isfinite(got).all():
        wrong("u is not finite.", got=got, slip="a run that diverged; divide the residual by the load's size")
    size = np.abs(exact(x)).max()
    slope = np.asarray([jax.grad(lambda x: jnp.asarray(u(x)))(jnp.float32(end)) for end in (0.0, 1.0)], np.float64)

    def error(other: np.ndarray, to: np.ndarray = got) -> float:
        return float(np.linalg.norm(to - other) / np.linalg.norm(other))

    if np.abs(got).max() < 1e-3 * size:
        wrong("u is zero.", slip="the network was not trained, or not returned: pde.train returns (state, losses)")
    if np.abs(got[[0, -1]]).max() > 5e-3 * size:
        slip = "conditions in the loss hold only about; build them into the ansatz"
        wrong("u is not zero at both ends.", expected=np.zeros(2), got=got[[0, -1]], slip=slip)
    if np.abs(slope).max() > 3e-2 * size:
        slip = "x (1 - x) holds the values only; its square holds the slopes too"
        wrong("u' is not zero at both ends.", expected=np.zeros(2), got=slope, slip=slip)
    if error(exact(x)) < 0.05:
        return
    slips = {
        "the springs are missing: u'''' = load was solved": _clamped_beam(load, 0.0),
        "the sign of k u": _clamped_beam(load, -k),
        "the sign of the load: the residual is u'''' + k u - load": -_clamped_beam(load, k),
        "k u stands for u'''' + k u": _clamped_beam(load, k, highest=0),
        "u'' in place of u''''": _clamped_beam(load, k, highest=2),
    }
    named = [text for text, other in slips.items() if np.isfinite(other).all() and error(other) < 0.05]
    shape = clamped(x)
    constant = error(exact(x), shape * (exact(x) @ shape) / (shape @ shape))
    text = f"the relative L2 error is {error(exact(x)):.2g}, not below 0.05; the best constant has {constant:.2g}."
    wrong(text, expected=exact(x), got=got, slip=named[0] if named else "too few steps, or a rate that does not fit")


@check(
    LESSON,
    "Write the velocity as a function of (t, x), then the vorticity as a function of (t, x): the rest is derivatives.",
    "jax.grad(psi, argnums=1)(t, x) is (psi_x, psi_y); taylor.curl(lambda x: velocity(t, x), x) is the vorticity.",
    "rate, slope = jax.grad(vorticity, argnums=(0, 1))(t, x); the residual: rate + velocity @ slope - nu * laplacian.",
    points=3,
)
def eddy_residual(rng: np.random.Generator, eddy_residual: Any) -> None:
    """The vorticity equation from a stream function, on random waves by hand, and on eddies that decay."""
    answer = function(eddy_residual, "eddy_residual(psi, nu, t, x)")
    with float64():
        a, p, r = rng.uniform(0.5, 1.5, (3, 4)) * rng.choice([-1, 1], (3, 4))
        q = rng.uniform(0.5, 1.5, (4, 2)) * rng.choice([-1, 1], (4, 2))
        t, x, nu = float(rng.uniform(-1, 1)), rng.uniform(-1, 1, 2), float(rng.uniform(0.2, 0.6))

        def psi(t: jax.Array, x: jax.Array) -> jax.Array:
            return a @ jnp.sin(p * t + q @ x + r)

        def decaying(t: jax.Array, x: jax.Array) -> jax.Array:  # Taylor and Green's
            return jnp.exp(-2 * nu * t) * jnp.cos(x[0]) * jnp.cos(x[1])

        got, left = jax.jit(lambda t, x: (answer(psi, nu, t, x), answer(decaying, nu, t, x)))(t, x)
        sine, cosine, square = a * np.sin(p * t + q @ x + r), a * np.cos(p * t + q @ x + r), (q**2).sum(1)
        by_x, by_y = cosine @ q  # of psi; the vorticity is minus its Laplacian
        rate, slope, spread = (square * cosine) @ p, (square * cosine) @ q, -(square**2) @ sine
        carried = by_y * slope[0] - by_x * slope[1]
        expected = rate + carried - nu * spread
        same(
            got, expected, "the residual of random waves",
            rtol=1e-8, atol=1e-8,
            slips={
                "the velocity turns the other way: v = (psi_y, -psi_x)": rate - carried - nu * spread,
                "the velocity is the gradient of psi; it runs along the lines of psi, at a right angle to that":
                    rate + by_x * slope[0] + by_y * slope[1] - nu * spread,
                "the sign of the vorticity: curl v is minus the Laplacian of psi": -expected,
                "the sign of the vorticity in what is carried along, or of the velocity": -rate + carried + nu * spread,
                "the velocity does not carry the vorticity: v . grad omega is lacking": rate - nu * spread,
                "the sign of the viscous term": rate + carried + nu * spread,
                "without viscosity": rate + carried,
                "nu is lacking": rate + carried - spread,
                "omega, not its Laplacian, in the viscous term": rate + carried - nu * square @ sine,
                "omega_t is lacking": carried - nu * spread,
                "psi_t, where omega_t belongs": cosine @ p + carried - nu * spread,
            },
        )  # fmt: skip

        same(left, np.zeros(()), "the residual of eddies that decay", atol=1e-9)


def _clamped_beam(load: Callable[[Any], jax.Array], k: float, highest: int = 4) -> np.ndarray:
    """u at 101 points, from u^(highest) + k u = load with u and u' zero at both ends, by least squares."""
    n, unit = 16, np.eye(16)
    nodes, ends = np.cos(np.pi * (np.arange(40) + 0.5) / 40), np.array([-1.0, 1.0])

    def columns(points: np.ndarray, order: int) -> np.ndarray:  # d/dx is twice d/dz, z = 2 x - 1
        return np.stack([2**order * chebyshev.chebval(points, chebyshev.chebder(row, order)) for row in unit], axis=1)

    inside = (columns(nodes, highest) if highest else 0) + k * columns(nodes, 0)
    edges = np.concatenate([columns(ends, 0), columns(ends, 1)])
    matrix = np.concatenate([inside, 1e6 * edges])
    right = np.concatenate([np.asarray(load(jnp.asarray((nodes + 1) / 2, jnp.float32)), np.float64), np.zeros(4)])
    solved = np.linalg.lstsq(matrix, right, rcond=None)[0]
    return columns(np.linspace(-1, 1, 101), 0) @ solved[:n]
