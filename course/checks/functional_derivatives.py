"""Checks of the exercises on equations of motion, a constrained step, terms at the ends. Needs NumPy and JAX.

Lesson: 22_functional_derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course import functional
from course.checks.core import check, float64, function, keyed, predicted, same

LESSON = "22_functional_derivatives"


@check(
    LESSON,
    "L_q' along the path is a function of t alone; differentiate that function as a whole.",
    "momentum(t) = jax.grad(L, argnums=2)(t, q(t), q'(t)), with q' = jax.jacfwd(q); then jax.jacfwd(momentum).",
    points=2,
)
def equations_of_motion(rng: np.random.Generator, equations_of_motion: Any) -> None:
    """The functional derivative by a path of several coordinates, against formulas by hand."""
    answer = function(equations_of_motion, "equations_of_motion(L, q)")
    with float64():
        for m in rng.choice([2, 3, 4], 2, replace=False):
            root, b, k = rng.normal(size=(3, m, m))
            mass, k = root @ root.T + np.eye(m), k + k.T
            force, a, c, d = rng.normal(size=(4, m))
            t = float(rng.uniform(0.3, 1))

            def L(t: Any, q: Any, v: Any, mass: Any = mass, b: Any = b, k: Any = k, force: Any = force) -> jax.Array:
                return (1 + t) * v @ mass @ v / 2 + v @ b @ q - q @ k @ q / 2 + jnp.sin(t) * force @ q

            def q(t: Any, a: Any = a, c: Any = c, d: Any = d) -> jax.Array:
                return a + c * t + d * t**3

            x, v, acceleration = a + c * t + d * t**3, c + 3 * d * t**2, 6 * d * t
            by_q = b.T @ v - k @ x + np.sin(t) * force
            by_t, along = mass @ v, (1 + t) * mass @ acceleration + b @ v
            path = function(answer(L, q), "G = equations_of_motion(L, q); G(t)")
            same(
                path(jnp.array(t)), by_q - by_t - along, f"G of {m} coordinates", rtol=1e-8, atol=1e-8,
                slips={
                    "the sign: L_q comes first, d/dt L_q' is taken off": by_t + along - by_q,
                    "d/dt L_q' is added, not taken off": by_q + by_t + along,
                    "the derivative by the first argument alone; d/dt goes along q(t) and q'(t) too": by_q - by_t,
                    "without the derivative by the first argument: L depends on t by itself too": by_q - along,
                    "d/dt goes along q'(t) too, not along t and q(t) only": by_q - by_t - b @ v,
                    "only L_q": by_q,
                    "L_q', not its derivative": by_q - (1 + t) * mass @ v - b @ x,
                    "the sum over coordinates; G has one component for each": np.sum(by_q - by_t - along),
                },
            )  # fmt: skip


@check(
    LESSON,
    "G = 0 reads L_q = L_q'q' q'' + L_q'q q'. Everything but q'' is known.",
    "momentum = jax.grad(L, argnums=1); its Jacobian by the velocity is the mass matrix.",
    "L_q'q times the velocity is a jvp of the momentum by q, along the velocity. Then jnp.linalg.solve.",
    points=3,
)
def acceleration(rng: np.random.Generator, acceleration: Any) -> None:
    """q'' of a double pendulum and of charges in a magnetic field, against formulas by hand."""
    answer = function(acceleration, "acceleration(L, q, velocity)")
    with float64():
        m = int(rng.integers(3, 5))
        root, b, k = rng.normal(size=(3, m, m))
        mass, k = root @ root.T + np.eye(m), k + k.T
        q, v = rng.normal(size=(2, m))

        def magnetic(q: Any, v: Any) -> jax.Array:
            return v @ mass @ v / 2 + v @ b @ q - q @ k @ q / 2

        def solved(right: np.ndarray, mass: np.ndarray = mass) -> np.ndarray:
            return np.linalg.solve(mass, right)

        force, drift = b.T @ v - k @ q, b @ v
        same(
            answer(magnetic, jnp.asarray(q), jnp.asarray(v)), solved(force - drift), "q'' in a magnetic field",
            rtol=1e-7, atol=1e-7,
            slips={
                "the mixed derivatives are missing: L_q'q times the velocity": solved(force),
                "the mixed derivatives are transposed: differentiate the momentum L_q' by q": solved(force - b.T @ v),
                "the sign of the mixed term": solved(force + drift),
                "the mass matrix is missing": force - drift,
                "the mass matrix is applied, not solved with": mass @ (force - drift),
                "L_q'q times q; it is times the velocity": solved(force - b @ q),
                "divided by the mass matrix entry by entry; solve with it": lambda: (force - drift) / np.diag(mass),
                "the sign": -solved(force - drift),
            },
        )  # fmt: skip
        (l1, l2, m1, m2), g = rng.uniform(0.5, 2, 4), float(rng.uniform(5, 10))
        (q1, q2), (v1, v2) = rng.uniform(-2, 2, (2, 2))

        def pendulum(q: Any, v: Any) -> jax.Array:
            kinetic = (m1 + m2) * (l1 * v[0]) ** 2 / 2 + m2 * (l2 * v[1]) ** 2 / 2
            kinetic += m2 * l1 * l2 * v[0] * v[1] * jnp.cos(q[0] - q[1])
            return kinetic + (m1 + m2) * g * l1 * jnp.cos(q[0]) + m2 * g * l2 * jnp.cos(q[1])

        cosine, sine = m2 * l1 * l2 * np.cos(q1 - q2), m2 * l1 * l2 * np.sin(q1 - q2)
        matrix = np.array([[(m1 + m2) * l1**2, cosine], [cosine, m2 * l2**2]])
        right = [-sine * v2**2 - (m1 + m2) * g * l1 * np.sin(q1), sine * v1**2 - m2 * g * l2 * np.sin(q2)]
        same(
            answer(pendulum, jnp.array([q1, q2]), jnp.array([v1, v2])), solved(np.array(right), matrix),
            "q'' of a double pendulum", rtol=1e-7, atol=1e-7,
        )  # fmt: skip


@check(
    LESSON,
    "A node is worth its weight: which gradient does not depend on the grid?",
    "The constant must make the integral of the step zero: weights @ (G - mu) = 0.",
    "G = jax.grad(energy)(n, weights) / weights; mu = weights @ G / weights.sum().",
    points=3,
)
def conserving_step(rng: np.random.Generator, conserving_step: Any) -> None:
    """A step along the functional derivative less its mean, on uneven grids, against formulas by hand."""
    answer = function(conserving_step, "conserving_step(energy, n, weights, rate)")
    with float64():
        for points in rng.integers(5, 12, 2):
            weights, n = rng.uniform(0.1, 1, points), rng.uniform(0.5, 2, points)
            a, b = rng.normal(size=(2, points))
            rate = float(rng.uniform(0.05, 0.3))

            def energy(n: Any, weights: Any, a: Any = a, b: Any = b) -> jax.Array:
                return weights @ (a * n + n**3) + (weights @ (b * n)) ** 2 / 2

            G = a + 3 * n**2 + (weights @ (b * n)) * b
            plain = weights * G

            def less(G: np.ndarray, mu: Any, n: Any = n, rate: float = rate) -> np.ndarray:
                return n - rate * (G - mu)

            mu = weights @ G / weights.sum()
            rescaled = less(G, 0) * (weights @ n) / (weights @ less(G, 0))
            got = answer(energy, jnp.asarray(n), jnp.asarray(weights), rate)
            same(
                got, less(G, mu), f"the new n on {points} nodes", rtol=1e-8, atol=1e-8,
                slips={
                    "the plain gradient of node values; divide it by the weights": less(plain, plain.mean()),
                    "the plain gradient of node values, though the integral is kept": less(
                        plain, weights @ plain / weights.sum()
                    ),
                    "the gradient times the weights; divide by them": less(
                        weights * plain, weights @ (weights * plain) / weights.sum()
                    ),
                    "mu is the mean over nodes; it is the mean over x, by the weights": less(G, G.mean()),
                    "mu is not divided by the length of the interval, the sum of the weights": less(G, weights @ G),
                    "mu is the integral of G n; this one belongs to n divided by its integral": less(
                        G, weights @ (G * n)
                    ),
                    "mu is the integral of G n over that of n: the derivative of another way to keep it": less(
                        G, weights @ (G * n) / (weights @ n)
                    ),
                    "the constraint is missing: the integral changes": less(G, 0),
                    "the step goes uphill": 2 * n - less(G, mu),
                    "the plain gradient, and no constraint": less(plain, 0),
                    "n is divided by its new integral; the step itself must keep it": rescaled,
                    "G - mu, not the new n": G - mu,
                },
            )  # fmt: skip


@check(
    LESSON,
    "The gradient by node values contains the term at the ends, [L_f' g]. When is it zero for every g?",
    "Take the derivative of L by the slope, and look at x = 0 and x = 1.",
    points=2,
)
def nodes_agree(rng: np.random.Generator, nodes_agree: Any) -> None:
    """Where the node gradient agrees with the functional derivative, against both of them."""
    Part = Callable[..., jax.Array]
    cases: dict[str, tuple[Part, Part, str]] = {
        "slope squared, sine": (
            lambda x, f, slope: slope**2, lambda x: jnp.sin(jnp.pi * x),
            "f is zero at the ends, but L_f' = 2 f' is not",
        ),
        "slope squared, cubic": (
            lambda x, f, slope: slope**2, lambda x: x**2 * (3 - 2 * x),
            "L_f' = 2 f' is zero where the cubic is flat, at both ends",
        ),
        "value squared, sine": (
            lambda x, f, slope: f**2, lambda x: jnp.sin(3 * x), "no slope in L, so no term at the ends"
        ),
        "value times slope, sine": (
            lambda x, f, slope: f * slope, lambda x: jnp.sin(jnp.pi * x), "L_f' = f here, zero at both ends"
        ),
        "value times slope, cosine": (
            lambda x, f, slope: f * slope, lambda x: jnp.cos(jnp.pi * x),
            "G is zero everywhere, but L_f' = f is not zero at the ends",
        ),
        "weighted slope": (
            lambda x, f, slope: x * (1 - x) * slope**2, lambda x: jnp.exp(x),
            "L_f' = 2 x (1 - x) f' is zero at both ends, whatever f",
        ),
    }  # fmt: skip
    keyed(nodes_agree, cases)
    with float64():
        rule = functional.gauss_legendre(0.0, 1.0, 24)
        for name, (lagrangian, f, reason) in cases.items():
            both = functional.Functional(lagrangian, rule)

            def gap(both: functional.Functional = both, f: Part = f) -> jax.Array:
                exact = jax.vmap(functional.functional_gradient(both, f))(rule.nodes)
                return abs(functional.node_gradient(both, f) - exact).max()

            truth = bool(jax.jit(gap)() < 1e-6)
            predicted(nodes_agree[name], truth, name, {not truth: reason})
