"""Checks of the exercises on mixed derivatives by lines, Laplacians, their losses and energies. Needs NumPy and JAX.

Lesson: 17b_jets_at_work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course import taylor
from course.checks.core import check, float64, function, keyed, predicted, same, wrong
from course.checks.derivative_cliff import largest_array

LESSON = "17b_jets_at_work"


@check(
    LESSON,
    "For the multi-index i the directions are i - 2 j with 0 <= j <= i: list them for (1, 1) and for (2, 2).",
    "Of d and -d one is enough; and one direction goes nowhere, where all powers are even.",
    "Half of the product of all (power + 1), rounded down.",
    points=2,
)
def lines_needed(rng: np.random.Generator, lines_needed: Any) -> None:
    """A prediction of how many lines a mixed derivative takes, against taylor.interpolation."""
    powers = {"xyz": (1, 1, 1), "xxyy": (2, 2), "xxyz": (2, 1, 1), "xxyyzz": (2, 2, 2)}
    keyed(lines_needed, powers)
    rules: dict[str, Callable[[tuple[int, ...]], int]] = {
        "the order of the derivative is not the number of lines": sum,
        "the number of axes is not the number of lines": len,
        "one for each choice of signs; equal axes share theirs, and opposites give the same": lambda i: 2 ** sum(i),
        "as for as many different axes; equal axes share their directions": lambda i: 2 ** (sum(i) - 1),
        "the directions of one axis are power + 1 many: i - 2 j for j from 0 to i": math.prod,
        "one of each pair of opposites is enough": lambda i: math.prod(power + 1 for power in i),
        "the direction that is zero gives nothing": lambda i: (math.prod(power + 1 for power in i) + 1) // 2,
    }

    def fits(rule: Callable[[tuple[int, ...]], int]) -> bool:
        return all(type(lines_needed[name]) is int and lines_needed[name] == rule(i) for name, i in powers.items())

    for name, index in powers.items():
        predicted(
            lines_needed[name], len(taylor.interpolation(index)[0]), f"lines for u_{name}",
            slips={rule(index): text for text, rule in sorted(rules.items(), key=lambda pair: fits(pair[1]))},
        )  # fmt: skip


@check(
    LESSON,
    "The sum of a_ij u_ij is a Laplacian along other directions, with weights. Which directions make `a` diagonal?",
    "a = q diag(w) q^T by jnp.linalg.eigh: then the sum is that of w_r D²f along column r of q.",
    "taylor.weighted(f, x, directions, weights, order=2) takes directions as rows, weights of any sign.",
    points=3,
)
def constant_coefficients(rng: np.random.Generator, constant_coefficients: Any) -> None:
    """The sum of a_ij times the second derivatives, against the whole Hessian, through a while loop."""
    answer = function(constant_coefficients, "constant_coefficients(f, x, a)")
    d = int(rng.integers(8, 11))
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    values = rng.uniform(0.5, 2.0, d) * np.where(np.arange(d) % 3, 1, -1)  # both signs
    matrix = rotation @ np.diag(values) @ rotation.T
    matrix = (matrix + matrix.T) / 2
    with float64():
        mix, x, a = jnp.asarray(rng.normal(size=(d, d)) / d**0.5), jnp.asarray(rng.normal(size=d)), jnp.asarray(matrix)

        def f(x: jax.Array) -> jax.Array:
            def turn(carry: Any) -> Any:
                count, h = carry
                return count + 1, jnp.tanh(h @ mix + x)

            return jax.lax.while_loop(lambda carry: carry[0] < 2, turn, (0, x))[1].sum() + (x**3).sum()

        h = np.array(jax.jit(jax.jacfwd(jax.jacfwd(f)))(x))
        w, q = np.linalg.eigh(matrix)
        along = np.einsum("ir,ij,jr->r", q, h, q)
        expected = np.sum(matrix * h)
        same(
            jax.jit(lambda x, a: answer(f, x, a))(x, a), expected, f"the sum of a_ij u_ij for {d} inputs", rtol=1e-8,
            slips={
                "the rows of q; eigenvectors are its columns": np.einsum("r,ri,ij,rj", w, q, h, q),
                "the rows of `a` as directions give the sum for a^T a": np.sum(matrix.T @ matrix * h),
                "the eigenvalues are lost; without them it is the Laplacian": np.trace(h),
                "the signs of the eigenvalues are lost": np.sum(abs(w) * along),
                "the eigenvalues count twice, in the directions and as weights, or squared": np.sum(w**2 * along),
                "the eigenvalues count three times": np.sum(w**3 * along),
                "the diagonal of `a` only": np.sum(np.diag(matrix) * np.diag(h)),
                "Cholesky wants a positive definite matrix; this one has eigenvalues of both signs": np.nan,
                "each pair i, j once; a_ij and a_ji both count": np.sum(np.triu(matrix) * h),
            },
        )  # fmt: skip
        most = largest_array(lambda x, a: answer(f, x, a), x, a)
    if most >= d**3:
        wrong(
            f"for {d} inputs an array of {most} numbers is made.",
            slip="the whole Hessian, by derivatives along all pairs of inputs; along d lines jets do",
        )


@check(
    LESSON,
    "taylor.value_and_laplacian gives both parts of the residual at one point; jax.vmap goes over the points.",
    "The function of one point is z -> u(params, z); the loss is a function of params.",
    "jax.grad(loss)(params) around all of it: a jet is ordinary JAX.",
    points=3,
)
def helmholtz_gradient(rng: np.random.Generator, helmholtz_gradient: Any) -> None:
    """The gradient by the weights of a loss made of Laplacians, against nested torch.autograd."""
    import torch

    answer = function(helmholtz_gradient, "helmholtz_gradient(u, params, x, g, k)")
    n, d = int(rng.integers(3, 6)), int(rng.integers(2, 5))
    params = {"w": rng.normal(size=(d, 5)), "b": rng.normal(size=5), "v": rng.normal(size=5)}
    x, g, k = rng.normal(size=(n, d)), rng.normal(size=n), float(rng.uniform(1.5, 2.5))

    def u(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]

    def by_torch(loss: Callable[[Any, Any, Any], Any]) -> dict[str, np.ndarray]:
        leaves = {name: torch.tensor(part, requires_grad=True) for name, part in params.items()}
        points = torch.tensor(x, requires_grad=True)
        value = torch.tanh(points @ leaves["w"] + leaves["b"]) @ leaves["v"]
        (slope,) = torch.autograd.grad(value.sum(), points, create_graph=True)
        rows = [torch.autograd.grad(slope[:, i].sum(), points, create_graph=True)[0][:, i] for i in range(d)]
        grads = torch.autograd.grad(loss(value, sum(rows), torch.tensor(g)), tuple(leaves.values()))
        return {name: part.numpy() for name, part in zip(leaves, grads, strict=True)}

    expected = by_torch(lambda u, lap, g: ((lap + k**2 * u - g) ** 2).mean())
    with float64():
        arrays = jax.tree.map(jnp.asarray, params), jnp.asarray(x), jnp.asarray(g)
        same(
            jax.jit(lambda params, x, g: answer(u, params, x, g, k))(*arrays), expected,
            f"the gradient from {n} points in {d} dimensions", rtol=1e-8,
            slips={
                "k, not its square": by_torch(lambda u, lap, g: ((lap + k * u - g) ** 2).mean()),
                "the sign of k² u": by_torch(lambda u, lap, g: ((lap - k**2 * u - g) ** 2).mean()),
                "the term k² u is lacking": by_torch(lambda u, lap, g: ((lap - g) ** 2).mean()),
                "the source g is lacking": by_torch(lambda u, lap, g: ((lap + k**2 * u) ** 2).mean()),
                "the sign of g: it is subtracted": by_torch(lambda u, lap, g: ((lap + k**2 * u + g) ** 2).mean()),
                "the sum over the points, not the mean": by_torch(lambda u, lap, g: ((lap + k**2 * u - g) ** 2).sum()),
                "the square of the mean, not the mean of the squares": by_torch(
                    lambda u, lap, g: (lap + k**2 * u - g).mean() ** 2
                ),
                "nothing flows through the Laplacian: it was stopped": by_torch(
                    lambda u, lap, g: ((lap.detach() + k**2 * u - g) ** 2).mean()
                ),
                "Taylor coefficients: the Laplacian is half as large as it should be": by_torch(
                    lambda u, lap, g: ((lap / 2 + k**2 * u - g) ** 2).mean()
                ),
            },
        )  # fmt: skip


@check(
    LESSON,
    "Write psi = exp(f) and differentiate twice: what is the Laplacian of psi over psi, in terms of f?",
    "It is the Laplacian of f, and the square of its gradient.",
    'taylor.laplacian(log_psi, x, coordinates="all") takes x of shape (n, 3); jax.vmap goes over the walkers.',
    points=3,
)
def local_energy(rng: np.random.Generator, local_energy: Any) -> None:
    """Local energies from the logarithm of a wave function, against the Hessian of the wave function."""
    answer = function(local_energy, "local_energy(log_psi, potential, walkers)")
    n, w = int(rng.integers(2, 4)), 4
    with float64():
        mix, out = jnp.asarray(rng.normal(size=(3 * n, 6)) / 2), jnp.asarray(rng.normal(size=6))
        width = float(rng.uniform(0.3, 0.6))
        walkers = jnp.asarray(rng.normal(size=(w, n, 3)))

        def log_psi(x: jax.Array) -> jax.Array:
            return jnp.tanh(x.reshape(-1) @ mix) @ out - width * (x**2).sum()

        def potential(x: jax.Array) -> jax.Array:
            return (x**2).sum() / 2 + 1 / jnp.sqrt(((x[0] - x[1]) ** 2).sum())

        def parts(x: jax.Array) -> tuple[jax.Array, ...]:
            flat = x.reshape(-1)
            hessians = [
                jax.hessian(lambda z, f=f: f(z.reshape(n, 3)))(flat) for f in (lambda x: jnp.exp(log_psi(x)), log_psi)
            ]
            slope = jax.grad(log_psi)(x)
            return jnp.trace(hessians[0]) / jnp.exp(log_psi(x)), jnp.trace(hessians[1]), slope, log_psi(x), potential(x)

        curved, lap, slope, logs, v = (np.asarray(part) for part in jax.jit(jax.vmap(parts))(walkers))
        square = (slope**2).sum((1, 2))
        expected = v - curved / 2
        same(
            jax.jit(lambda walkers: answer(log_psi, potential, walkers))(walkers), expected, f"{w} local energies",
            rtol=1e-8,
            slips={
                "the square of the gradient is lacking: the logarithm bends what psi does not": v - lap / 2,
                "the Laplacian of log psi is lacking": v - square / 2,
                "the sign of the gradient's square": v - (lap - square) / 2,
                "divided by log psi; the Laplacian of log psi over log psi is no energy": v - lap / logs / 2,
                "the factor 1/2 of the kinetic energy": v - curved,
                "the sign of the kinetic energy": v + curved / 2,
                "the potential is lacking": -curved / 2,
                "the sign of the potential": -curved / 2 - v,
                "the gradient's entries are added up before they are squared": v - (lap + slope.sum((1, 2)) ** 2) / 2,
                "the Laplacian of psi, not divided by psi": v - curved * np.exp(logs) / 2,
                "the mean over the walkers; one energy for each is asked for": expected.mean(),
            },
        )  # fmt: skip
        tiny = np.asarray(jax.jit(lambda walkers: answer(lambda x: log_psi(x) - 2000.0, potential, walkers))(walkers))
        if not np.isfinite(tiny).all():
            wrong(
                "where log psi is -2000 the energies are not finite.", expected=expected, got=tiny,
                slip="exp(log_psi) is 0 there, and 0 / 0 no number; stay with the logarithm",
            )  # fmt: skip
        same(tiny, expected, "the same with a psi that is exp(-2000) times as large", rtol=1e-8)
