"""Checks of the exercises on virtual work, on potentials of kernels, and on multipliers. Needs NumPy and JAX.

Lesson: 22b_more_functionals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course import functional
from course.checks.core import check, float64, function, same, wrong

LESSON = "22b_more_functionals"


@check(
    LESSON,
    "Write L(x, w, slope, bend); Functional(L, rule, order=2) is the energy. What takes its derivative along g?",
    "functional.variation(F, w)(g) is d/de F[w + e g] at e = 0, terms at the ends included.",
    points=2,
)
def virtual_work(rng: np.random.Generator, virtual_work: Any) -> None:
    """The derivative of a beam's energy along a function, against nested torch.autograd."""
    import torch

    answer = function(virtual_work, "virtual_work(w, g, stiffness, load, rule)")
    a, p = rng.uniform(0.5, 1.5, (4, 2)), rng.uniform(1, 3, (4, 2)) * rng.choice([-1, 1], (4, 2))
    left, right = float(rng.uniform(-0.5, 0)), float(rng.uniform(0.7, 1.2))

    def wave(k: int, lib: Any = jnp) -> Callable[[Any], Any]:
        return lambda x: a[k, 0] * lib.sin(p[k, 0] * x + 0.3) + a[k, 1] * lib.cos(p[k, 1] * x) + 2.5 * (k > 1)

    with float64():
        rule = functional.gauss_legendre(left, right, int(rng.integers(16, 22)))
        nodes, weights = (torch.tensor(np.asarray(part)) for part in rule)

        def by_torch(density: Callable[..., Any]) -> float:
            """d/de of the integral of density(w + e g, slopes, bends, stiffness, load)."""
            x, e = nodes.clone().requires_grad_(), torch.zeros((), dtype=torch.float64, requires_grad=True)
            values = [wave(0, torch)(x) + e * wave(1, torch)(x)]
            for _ in range(2):
                values.append(torch.autograd.grad(values[-1].sum(), x, create_graph=True)[0])
            energy = weights @ density(*values, wave(2, torch)(x), wave(3, torch)(x))
            return float(torch.autograd.grad(energy, e)[0])

        expected = by_torch(lambda w, slope, bend, s, q: s * bend**2 / 2 - q * w)
        jax_waves = [wave(k) for k in range(4)]
        energy = functional.Functional(
            lambda x, w, slope, bend: jax_waves[2](x) * bend**2 / 2 - jax_waves[3](x) * w, rule, order=2
        )

        def without_ends() -> jax.Array:
            paired = functional.compose(jnp.multiply, energy.gradient(jax_waves[0]), jax_waves[1])
            return jax.jit(lambda: functional.integrate(paired, rule))()

        same(
            answer(*jax_waves, rule), expected, "the virtual work", rtol=1e-8, atol=1e-8,
            slips={
                "the integral of G g leaves out what g does at the ends; the derivative along g has it": without_ends,
                "the energy itself, not its derivative along g": lambda: jax.jit(lambda: energy(jax_waves[0]))(),
                "w' in place of w''": by_torch(lambda w, slope, bend, s, q: s * slope**2 / 2 - q * w),
                "the sign of the load": by_torch(lambda w, slope, bend, s, q: s * bend**2 / 2 + q * w),
                "the load is lacking": by_torch(lambda w, slope, bend, s, q: s * bend**2 / 2),
                "the factor 1/2 of the energy": by_torch(lambda w, slope, bend, s, q: s * bend**2 - q * w),
                "the stiffness is lacking": by_torch(lambda w, slope, bend, s, q: bend**2 / 2 - q * w),
                "the stiffness is squared": by_torch(lambda w, slope, bend, s, q: (s * bend) ** 2 / 2 - q * w),
                "the energy of w + g less that of w: g is a direction, not a step": lambda: jax.jit(
                    lambda: energy(lambda x: jax_waves[0](x) + jax_waves[1](x)) - energy(jax_waves[0])
                )(),
            },
        )  # fmt: skip


@check(
    LESSON,
    "n stands in the integral twice. Move n at a node: which row and which column of K count?",
    "The gradient of the energy by node values, divided by the weights: a node is worth its weight.",
    "(K + K.T) @ (weights * n) / 2 + outer at the nodes, with K the matrix of kernel(x, y).",
    points=3,
)
def potential_at_nodes(rng: np.random.Generator, potential_at_nodes: Any) -> None:
    """The functional derivative of an energy with a kernel that is not symmetric, against loops."""
    answer = function(potential_at_nodes, "potential_at_nodes(kernel, outer, n, nodes, weights)")
    with float64():
        points, (a, b, c) = int(rng.integers(5, 9)), rng.uniform(0.5, 1.5, 3)
        nodes, weights = np.sort(rng.uniform(-1, 1, points)), rng.uniform(0.2, 0.8, points)
        n = rng.uniform(0.5, 2, points)
        matrix = np.array([[np.cos(a * x - 2 * b * y) + x * y**2 for y in nodes] for x in nodes])
        v = np.sin(c * nodes) + 2
        rows, columns = matrix @ (weights * n), matrix.T @ (weights * n)
        expected = (rows + columns) / 2 + v
        same(
            answer(
                lambda x, y: jnp.cos(a * x - 2 * b * y) + x * y**2, lambda x: jnp.sin(c * x) + 2,
                *map(jnp.asarray, (n, nodes, weights)),
            ),
            expected, f"the potential at {points} nodes", rtol=1e-8,
            slips={
                "K is not symmetric: n at a node is moved as n(x) and as n(y), so K and K^T both count": rows + v,
                "K is not symmetric: K^T alone was taken": columns + v,
                "half of it: n is moved as n(x) only": rows / 2 + v,
                "half of it: n is moved as n(y) only": columns / 2 + v,
                "the factor 1/2 of the energy": rows + columns + v,
                "the plain gradient of node values; divide it by the weights": weights * expected,
                "the weights are lacking in the integral over the other place": (matrix + matrix.T) @ n / 2 + v,
                "the potential V is lacking": expected - v,
                "V is multiplied by n": expected - v + v * n,
                "the weights come in twice": (matrix + matrix.T) @ (weights**2 * n) / 2 + v,
            },
        )  # fmt: skip


@check(
    LESSON,
    "The unknowns are z and mu together: m + 1 numbers, and as many equations. Of which function is that the gradient?",
    "saddle(z, mu) = objective(z) - mu * (constraint(z) - target): its gradient by both is to be zero.",
    "A step: both - solve(hessian(saddle)(both), grad(saddle)(both)), with both = jnp.append(z, mu).",
    points=3,
)
def held_exactly(rng: np.random.Generator, held_exactly: Any) -> None:
    """A stationary point under a constraint and its multiplier, against linear equations and an eigenvalue."""
    answer = function(held_exactly, "held_exactly(objective, constraint, target, start)")
    with float64():
        m = int(rng.integers(3, 6))
        root, shift, normal = rng.normal(size=(m, m)), rng.normal(size=m), rng.uniform(1, 2, m)
        matrix, target = root @ root.T + np.eye(m), float(rng.uniform(1, 2))
        kkt = np.block([[matrix, -normal[:, None]], [normal, np.zeros(1)]])
        solved = np.linalg.solve(kkt, np.append(shift, target))
        free = np.linalg.solve(matrix, shift)
        near = solved[:-1] + 0.1 * rng.normal(size=m)
        got = _pair(
            answer(lambda z: z @ matrix @ z / 2 - shift @ z, lambda z: normal @ z, target, jnp.asarray(near)), m
        )
        if abs(normal @ got[0] - target) > 1e-7:
            slip = "the constraint is left out" if np.abs(got[0] - free).max() < 1e-6 else (
                "a penalty pulls only as hard as it is violated; solve for z and mu together"
            )  # fmt: skip
            wrong("the constraint is not met.", expected=target, got=normal @ got[0], slip=slip)
        if np.abs(got[0] - near - normal * ((target - normal @ near) / (normal @ normal))).max() < 1e-6:
            wrong(
                "z meets the constraint, and is nowhere stationary.", expected=solved[:-1], got=got[0],
                slip="the point of the plane next to `start`; the objective is left out",
            )  # fmt: skip
        same(got[0], solved[:-1], "z on a plane", rtol=1e-6, atol=1e-6)
        same(
            got[1], solved[-1], "mu on a plane", rtol=1e-6, atol=1e-6,
            slips={
                "the sign of mu: the gradient of the objective is mu times that of the constraint": -solved[-1],
                "mu times the size of the constraint's gradient": solved[-1] * np.linalg.norm(normal),
            },
        )  # fmt: skip
        values, vectors = np.linalg.eigh(matrix)
        start = vectors[:, 0] + 0.05 * rng.normal(size=m) * min(1.0, values[1] - values[0])
        z, mu = _pair(answer(lambda z: z @ matrix @ z / 2, lambda z: z @ z / 2, 0.5, jnp.asarray(start)), m)
        off = np.linalg.norm(matrix @ z - mu * z) + abs(z @ z - 1)
        if off > 1e-6:
            slip = "one step is enough for a quadratic function on a plane only; take some more"
            wrong("on the sphere z and mu are not stationary.", expected=values[0], got=mu, slip=slip)


def _pair(got: Any, m: int) -> tuple[np.ndarray, float]:
    """An answer (z, mu) as NumPy arrays; refused where it is none."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        wrong("expected two results, (z, mu).", got=got)
    z, mu = (np.asarray(part) for part in got)
    if z.shape != (m,) or mu.shape != () or z.dtype.kind != "f" or not np.isfinite(z).all():
        wrong(f"expected z of shape ({m},) and mu a number.", expected=(np.zeros(m), 0.0), got=got)
    return z, float(mu)
