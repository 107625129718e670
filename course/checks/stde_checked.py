"""Checks of the exercises on jets with gaps, sample sizes, the exact rival, and densities. Needs NumPy and JAX.

Lesson: 18b_stde_checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, keyed, predicted, same, wrong

LESSON = "18b_stde_checked"


@check(
    LESSON,
    "Every way to write the order as a sum of 1 (for x) and 2 (for y) gives one derivative.",
    "The factor of a way is the number of ways to split k things into such blocks; blocks of one size have no order.",
    "k! / (1!^m 2!^n m! n!) for m times x and n times y: for u_xy in the third output 3! / (1! 2!) = 3.",
    points=2,
)
def jet_contents(rng: np.random.Generator, jet_contents: Any) -> None:
    """A prediction of the factors in a jet along a parabola, against nested jax.grad of monomials along it."""
    names = ("xxy", "yy", "xxxy", "xyy")
    keyed(jet_contents, names)

    def along(name: str) -> Callable[[Any], Any]:  # a monomial of which this derivative is 1, all others 0
        m, n = name.count("x"), name.count("y")
        f: Callable[[Any], Any] = lambda t: t**m * (t**2 / 2) ** n / (math.factorial(m) * math.factorial(n))  # noqa: E731
        for _ in range(m + 2 * n):
            f = jax.grad(f)
        return f

    def split(m: int, n: int) -> int:  # k things into m blocks of one and n of two, all blocks numbered
        return math.factorial(m + 2 * n) // 2**n

    with float64():
        factors = jax.jit(lambda t: {name: along(name)(t) for name in names})(0.0)
    rules: dict[str, Callable[[int, int], int]] = {
        "there are several ways to split that many things into such blocks": lambda m, n: 1,
        "the order of the letters does not count; the split of the k orders does": lambda m, n: math.comb(m + n, m),
        "the outputs are derivatives: k! has gone in, divide by what the blocks repeat": lambda m, n: (
            2**n * split(m, n)
        ),
        "blocks of the same size have no order: divide by m! n!": split,
        "blocks of size 1 have no order: divide by m!": lambda m, n: split(m, n) // math.factorial(n),
        "two blocks of the same size have no order: divide by n!": lambda m, n: split(m, n) // math.factorial(m),
        "the tangent of y is of order 2: divide by 2! for each y": (
            lambda m, n: 2**n * split(m, n) // (math.factorial(m) * math.factorial(n))
        ),
    }
    counts = {name: (name.count("x"), name.count("y")) for name in names}

    def fits(rule: Callable[[int, int], int]) -> bool:
        return all(type(jet_contents[name]) is int and jet_contents[name] == rule(*counts[name]) for name in names)

    for name in names:
        ordered = sorted(rules.items(), key=lambda pair: fits(pair[1]))
        predicted(
            jet_contents[name], round(float(factors[name])), f"the factor of u_{name} in its output",
            slips={rule(*counts[name]): text for text, rule in ordered},
        )  # fmt: skip


@check(
    LESSON,
    "The variance of an estimate from S of d, drawn without replacement: d² / S var(H_ii) (1 - S / d), with ddof=1.",
    "Compare its root with tolerance * |trace|; the trace is the sum of the diagonal.",
    "The first S from 1 to d that is good enough; S = d always is.",
    points=2,
)
def smallest_sample(rng: np.random.Generator, smallest_sample: Any) -> None:
    """The smallest number of coordinates that is accurate enough, against all subsets of all sizes."""
    answer = function(smallest_sample, "smallest_sample(diagonal, tolerance)")
    d = 8
    for _ in range(4):
        diagonal = rng.normal(size=d) + rng.choice((-1.5, 1.5))
        trace = diagonal.sum()
        spread = [
            np.std([d / size * sum(chosen) for chosen in combinations(diagonal, size)]) / abs(trace)
            for size in range(1, d + 1)
        ]  # over all draws, each as likely as any other
        deviations = np.array([*spread[:-1], 0.0])
        target = int(rng.integers(2, d - 1))
        tolerance = float(deviations[target - 1] * 1.0001)
        replaced = d * diagonal.std() / np.sqrt(np.arange(1, 50 * d)) / abs(trace)

        def first(good: Any) -> int:
            return int(np.argmax(good)) + 1 if np.any(good) else d

        got = answer(diagonal.copy(), tolerance)
        size = np.asarray(got)
        if size.shape != () or size.dtype.kind not in "iuf" or int(size) != size:
            wrong("expected a whole number.", expected=target, got=got)
        squared = first(deviations**2 <= tolerance)
        biased = first(deviations * np.sqrt((d - 1) / d) <= tolerance)
        absolute = first(deviations * abs(trace) <= tolerance)
        slips = {  # where two agree, the last one counts
            first(replaced * np.sqrt(d / (d - 1)) <= tolerance): "without replacement the factor 1 - S / d comes in",
            first(replaced <= tolerance): "drawn with replacement; without, the factor 1 - S / d comes in",
            biased: "var with ddof=0; without replacement it takes ddof=1",
            squared: "the variance was compared with the tolerance; take its root",
            absolute: "the tolerance is relative: times |trace|",
            target - 1: "one too few: a count from 0, or < where S has to be large enough",
            target + 1: "one too many: the first S that is good enough counts",
        }
        if int(size) != target:
            wrong(
                f"for a tolerance of {tolerance:.4f} that is not the smallest sample.", expected=target, got=int(size),
                slip=slips.get(int(size), "over all draws the deviation is d times that of the mean of the drawn ones"),
            )  # fmt: skip
    if int(np.asarray(answer(np.full(d, 2.0), 1e-3))) != 1:
        wrong("where all coordinates are alike, one of them is enough.", expected=1)


@check(
    LESSON,
    "By the chain rule the Hessian of u is A^T H A, with H the Hessian of g at A x + b, (k, k).",
    "trace(A^T H A) = trace(H A A^T): a product of two matrices (k, k), and a sum.",
    "jnp.sum(jax.hessian(g)(A @ x + b) * (A @ A.T))",
    points=3,
)
def exact_laplacian(rng: np.random.Generator, exact_laplacian: Any) -> None:
    """The Laplacian of g(A x + b), against the whole Hessian; in many dimensions that matrix may not come up."""
    answer = function(exact_laplacian, "exact_laplacian(g, A, b, x)")
    k, d = 3, int(rng.integers(5, 9))
    A, b = rng.normal(size=(k, d)).astype("f"), rng.normal(size=k).astype("f")
    x, mix = rng.normal(size=d).astype("f"), rng.normal(size=(k, k)).astype("f")

    def g(z: jax.Array) -> jax.Array:
        return jnp.sin(mix @ z).sum() + (z**2).prod() / 4

    inner, slope = jax.jit(jax.hessian(g)), jax.jit(jax.grad(g))
    hessian, z = np.asarray(jax.jit(jax.hessian(lambda x: g(A @ x + b)))(x)), A @ x + b
    same(
        answer(g, *map(jnp.asarray, (A, b, x))), np.trace(hessian), f"the Laplacian in {d} dimensions",
        rtol=1e-4, atol=1e-4,
        slips={
            "the Laplacian of g: each direction of x moves z by a column of A": lambda: np.trace(inner(z)),
            "only the diagonal of g's Hessian; the mixed derivatives count, too": lambda: (
                np.diag(inner(z)) @ (A**2).sum(1)
            ),
            "at A x, without b": lambda: (np.asarray(inner(A @ x)) * (A @ A.T)).sum(),
            "the trace of A A^T times the trace of the Hessian is not that of the product": lambda: (
                np.trace(inner(z)) * (A**2).sum()
            ),
            "the sum of all second derivatives, not the trace": hessian.sum(),
            "the gradient's part is zero: A x + b has no second derivative": lambda: (
                np.trace(hessian) + np.asarray(slope(z)) @ A.sum(1)
            ),
        },
    )  # fmt: skip
    d = 20_000
    wide = jnp.ones((2, d)) / d
    program = str(jax.make_jaxpr(lambda x: answer(lambda z: jnp.sin(z).prod(), wide, jnp.ones(2), x))(jnp.ones(d)))
    if f"{d},{d}" in program:
        slip = "the trace of A^T H A is that of H A A^T, and those are (k, k)"
        wrong(f"in {d} dimensions there is a matrix ({d}, {d}), 1.6 GB.", slip=slip)


@check(
    LESSON,
    "One derivative stands outside of everything: p_t is minus the divergence of a flow. What flows?",
    "The flow has entries b_i p - 1/2 sum_j d_j (D_ij p), with the derivative of the whole product.",
    "jax.jacfwd of x -> noise(x) @ noise(x).T * p(x) is (d, d, d); einsum 'ijj->i' adds up what is wanted of it.",
    "-stde.apply(stde.divergence(d), flow, x), or minus the trace of jax.jacfwd(flow)(x).",
    points=3,
)
def density_rate(rng: np.random.Generator, density_rate: Any) -> None:
    """The Fokker-Planck equation's right side, against the product rule term by term, and a density at rest."""
    answer = function(density_rate, "density_rate(p, drift, noise, x)")
    d = int(rng.integers(2, 4))
    with float64():
        mix, turn = jnp.asarray(rng.normal(size=(d, d))), jnp.asarray(rng.normal(size=(2, d, d)))
        x = jnp.asarray(rng.normal(size=d))

        def p(x: jax.Array) -> jax.Array:
            return jnp.exp(-x @ x / 2) * (2 + jnp.sin(mix @ x).sum())

        def drift(x: jax.Array) -> jax.Array:
            return jnp.cos(turn[0] @ x) + mix @ x

        def noise(x: jax.Array) -> jax.Array:
            return turn[1] + jnp.outer(jnp.sin(x), jnp.cos(mix @ x))

        def spreading(square: Callable[[jax.Array], jax.Array]) -> dict[str, float]:
            def parts(x: jax.Array) -> dict[str, jax.Array]:
                spread = lambda x: square(noise(x))  # noqa: E731
                return {
                    "out": jnp.sum(spread(x) * jax.hessian(p)(x)),
                    "once": jnp.einsum("iji,j", jax.jacfwd(spread)(x), jax.grad(p)(x)),
                    "in": jnp.einsum("ijij", jax.jacfwd(jax.jacfwd(spread))(x)) * p(x),
                    "carried": drift(x) @ jax.grad(p)(x),
                    "squeezed": jnp.trace(jax.jacfwd(drift)(x)) * p(x),
                }

            found = {name: float(value) for name, value in jax.jit(parts)(x).items()}
            return found | {"all": found["out"] + 2 * found["once"] + found["in"]}

        scale = jnp.asarray(rng.uniform(0.5, 1.5, d))

        def both(x: jax.Array) -> tuple[Any, Any]:  # at rest each coordinate is an Ornstein-Uhlenbeck process
            at_rest = answer(lambda x: jnp.exp(-x @ (scale * x)), lambda x: -scale * x, lambda x: jnp.eye(d), x)
            return answer(p, drift, noise, x), at_rest

        got, at_rest = jax.jit(both)(x)
        t = spreading(lambda b: b @ b.T)
        away, spread = -t["carried"] - t["squeezed"], t["all"]
        same(
            got, away + spread / 2, f"p_t in {d} dimensions", rtol=1e-8,
            slips={
                "in flux form, div (D grad p): that is another process; Itô's D stands inside both derivatives":
                    away + (t["out"] + t["once"]) / 2,
                "D stands outside of the derivatives; it depends on x, too": away + t["out"] / 2,
                "b . grad p alone: where the drift spreads out, p falls: -p div b": -t["carried"] + spread / 2,
                "the sign of the drift": -away + spread / 2,
                "the sign of the noise": away - spread / 2,
                "the factor 1/2": away + spread,
                "B^T B, where B B^T belongs": lambda: away + spreading(lambda b: b.T @ b)["all"] / 2,
                "the drift alone": away,
                "the noise alone": spread / 2,
                "the equation of means, b . grad + 1/2 D : Hessian, is the adjoint of this one":
                    t["carried"] + t["out"] / 2,
                "the sign": -away - spread / 2,
            },
        )  # fmt: skip
        same(at_rest, np.zeros(()), "p_t of a density at rest", atol=1e-10)
