"""Checks of the exercises on what jets with gaps hold, and on how large a sample has to be. Needs NumPy and JAX.

Lesson: 18b_stde_checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import jax
import numpy as np

from course.checks.core import check, float64, function, predicted, wrong

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
    if not isinstance(jet_contents, dict) or set(jet_contents) != set(names):
        wrong(f"expected a dict with the keys {', '.join(names)}.", got=jet_contents)

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
