"""Checks of the exercises on Taylor series, on jets and their gaps, and on collapsing. Needs NumPy and JAX.

Lesson: 17_taylor_mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, same, wrong

LESSON = "17_taylor_mode"


@check(
    LESSON,
    "For y = atan(u): y' w = u', with w = 1 + u². What are the coefficients of w?",
    "w_k is the sum over j of u_j u_(k-j), and 1 more for k = 0.",
    "Compare the coefficients of t^(k-1): the sum over j from 1 to k of j y_j w_(k-j) is k u_k. Solve for y_k.",
    points=3,
)
def arctan_series(rng: np.random.Generator, arctan_series: Any) -> None:
    """Taylor coefficients of atan(u(t)), against nested jax.grad in float64."""
    answer = function(arctan_series, "arctan_series(u)")
    order = 4
    u = [float(c) for c in rng.uniform(0.4, 1.3, order + 1) * rng.choice((-1, 1), order + 1)]
    with float64():
        f: Callable[[Any], Any] = lambda t: jnp.arctan(sum(c * t**k for k, c in enumerate(u)))  # noqa: E731
        chain = [f]
        for _ in range(order):
            chain.append(jax.grad(chain[-1]))
        derivatives = [float(one) for one in jax.jit(lambda t: [g(t) for g in chain])(0.0)]
    expected = [value / math.factorial(k) for k, value in enumerate(derivatives)]

    def recurrence(w: list[float], last: Callable[[int], float]) -> list[float]:
        y = [math.atan(u[0])]
        for k in range(1, order + 1):
            y.append((k * u[k] - sum(last(j) * y[j] * w[k - j] for j in range(1, k))) / (k * w[0]))
        return y

    squares = [sum(u[j] * u[k - j] for j in range(k + 1)) for k in range(order + 1)]
    w = [1 + squares[0], *squares[1:]]
    slopes = [math.atan(u[0]), *(c / (1 + u[0] ** 2) for c in u[1:])]
    same(
        _as_numbers(answer(list(u))), np.array(expected), f"the series of atan to order {order}", rtol=1e-8, atol=1e-10,
        slips={
            "derivatives, k! times the coefficients": np.array(derivatives),
            "one k! too many: u holds coefficients already": np.array(expected)
            / [math.factorial(k) for k in range(order + 1)],
            "atan of each coefficient: a series is not mapped entry by entry": np.arctan(u),
            "every order as if it were the first, u_k / (1 + u_0²)": np.array(slopes),
            "w holds the squares of the coefficients; u² is a product of series": np.array(
                recurrence([1 + u[0] ** 2, *(c**2 for c in u[1:])], float)
            ),
            "1 is added to every coefficient of w; as a series, 1 is 1, 0, 0, …": np.array(
                recurrence([1 + s for s in squares], float)
            ),
            "w lacks the 1 of 1 + u²": np.array(recurrence(squares, float)),
            "the factor j is lacking in the sum of j y_j w_(k-j)": np.array(recurrence(w, lambda j: 1.0)),
        },
    )  # fmt: skip
    for length in (1, 2):  # a short series
        same(_as_numbers(answer(u[:length])), np.array(expected[:length]), f"a series of {length} coefficients")


def _as_numbers(got: Any) -> Any:
    """A list of numbers of any library as an array; anything else as it is."""
    if isinstance(got, list | tuple) and got and all(np.ndim(part) == 0 for part in got if not hasattr(part, "detach")):
        try:
            return np.array([float(part) for part in got])
        except (TypeError, ValueError):
            return got
    return got


@check(
    LESSON,
    "Three operations in energy(x) have no rule in jet. Replace one, run, and read the next message.",
    "Write tan as a quotient, and the product as a loop over the entries, `for one in x: product = product * one`.",
    "softplus(x) = log(1 + exp(x)); exp and log have rules. The form with max and |x| has kinks at 0, softplus none.",
    points=2,
)
def jettable(rng: np.random.Generator, jettable: Any) -> None:
    """A function that jax.experimental.jet can take, against the original and its nested derivatives."""
    from jax.experimental import jet

    answer = function(jettable, "jettable(x)")

    def energy(x: jax.Array) -> jax.Array:
        return jax.nn.softplus(x).sum() + jnp.prod(x) + jnp.tan(x[0])

    x, v = rng.uniform(0.3, 1.2, (2, 4)) * rng.choice((-1, 1), (2, 4))
    x[3] *= -np.sign(x.prod())  # a negative product
    zero = int(rng.integers(1, 4))
    with float64():
        at, along = jnp.asarray(x), jnp.asarray(v)
        terms = jax.nn.softplus(at).sum(), jnp.prod(at), jnp.tan(at[0])
        same(
            answer(at), sum(terms), f"the energy at {x.round(2).tolist()}", rtol=1e-9,
            slips={
                "the logarithm of a negative number: exp(sum(log(x))) is no product here": jnp.nan,
                "the product of the absolute values": terms[0] - terms[1] + terms[2],
                "the sum of the entries, not their product": terms[0] + at.sum() + terms[2],
                "softplus is not relu": jax.nn.relu(at).sum() + terms[1] + terms[2],
                "cos / sin is the cotangent": terms[0] + terms[1] + 1 / terms[2],
            },
        )  # fmt: skip
        at = at.at[zero].set(0.0)
        chain: list[Callable[[Any], Any]] = [lambda t: energy(at + t * along)]
        for _ in range(3):
            chain.append(_slope(chain[-1]))
        expected = jax.jit(lambda t: jnp.stack([one(t) for one in chain[1:]]))(0.0)
        try:
            _, series = jet.jet(jettable, (at,), ((along, jnp.zeros(4), jnp.zeros(4)),))
        except Exception as error:  # the learner's function runs in here
            custom = "an operation with a rule of its own, as softplus, relu and logaddexp have: write out what it does"
            slip = "an operation without a rule in jet: the KeyError names it" if type(error) is KeyError else custom
            text = " ".join(str(error).split())[:100]
            wrong("jet.jet(jettable, (x,), series) raised an error.", got=f"{type(error).__name__}: {text}", slip=slip)
        got = jnp.stack([jnp.asarray(part) for part in series])
        same(
            got, expected, "its first three derivatives along a line, where one coordinate is 0", rtol=1e-8,
            slips={
                "jet takes 0.5 as the slope of max(x, 0) at 0, and 1 as that of |x|: written with these, softplus has "
                "another slope there; it is log(1 + exp(x)) as well": lambda: _with_kinks(at, along, expected),
                "nan: a logarithm or a quotient at 0": jnp.full(3, jnp.nan),
            },
        )  # fmt: skip


def _slope(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda t: jax.jvp(f, (t,), (1.0,))[1]


def _with_kinks(x: jax.Array, v: jax.Array, expected: jax.Array) -> jax.Array:
    """What jet makes of max(x, 0) + log1p(exp(-|x|)) in place of softplus, where x is 0."""
    from jax.experimental import jet

    def body(z: jax.Array) -> jax.Array:
        return (jnp.maximum(z, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(z)))).sum()

    def smooth(z: jax.Array) -> jax.Array:
        return jnp.log(1 + jnp.exp(z)).sum()

    zeros = jnp.zeros_like(x)
    kinked, right = (jnp.stack(jet.jet(f, (x,), ((v, zeros, zeros),))[1]) for f in (body, smooth))
    return expected + kinked - right


@check(
    LESSON,
    "The product with w is linear: it maps value, first and second derivatives alike; b only moves the value.",
    "tanh' = 1 - tanh², tanh'' = -2 tanh (1 - tanh²).",
    "The sum of the second derivatives behind tanh is tanh'' times the sum of the squared first ones, plus tanh' times "
    "the sum before it.",
    points=3,
)
def dense_jet(rng: np.random.Generator, dense_jet: Any) -> None:
    """A layer that maps a collapsed jet, against the whole Hessians of a network of two."""
    answer = function(dense_jet, "dense_jet(w, b, jet)")
    d, m, n, lines = (int(size) for size in rng.permutation([2, 3, 4, 5]))
    with float64():
        w1, w2 = jnp.asarray(rng.normal(size=(d, m)) / 2), jnp.asarray(rng.normal(size=(m, n)) / 2)
        b1, b2, x = jnp.asarray(rng.normal(size=m)), jnp.asarray(rng.normal(size=n)), jnp.asarray(rng.normal(size=d))
        v = jnp.asarray(rng.normal(size=(lines, d)))

        def layer(x: jax.Array) -> jax.Array:
            return jnp.tanh(x @ w1 + b1)

        def both(x: jax.Array) -> jax.Array:
            return jnp.tanh(layer(x) @ w2 + b2)

        def whole(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
            curvature = jax.hessian(f)
            return lambda x: (f(x), v @ jax.jacobian(f)(x).T, jnp.einsum("nij,ri,rj->n", curvature(x), v, v))

        jets = jax.jit(lambda x: (whole(layer)(x), whole(both)(x)))(x)
        first, second = (tuple(np.array(part) for part in one) for one in jets)
        z, inner, b, w = first[0], np.array(v @ w1), np.array(b1), np.array(w2)
        p1, p2 = 1 - z**2, -2 * z * (1 - z**2)
        got = _three(answer(w1, b1, (x, v, jnp.zeros(d))))
        same(
            got, first, f"the jet behind a first layer, along {lines} lines", rtol=1e-9,
            slips={
                "the square of the sum of the first derivatives; square each line's, then add them up": (
                    z, first[1], p2 * inner.sum(0) ** 2
                ),
                "the second derivatives of each line; collapsed, only their sum is carried": (
                    z, first[1], p2 * inner**2
                ),
                "the first derivatives are added up too; only the highest is": (z, first[1].sum(0), first[2]),
                "Taylor coefficients: the second derivative is 2! times the coefficient": (z, first[1], first[2] / 2),
                "tanh'' is -2 tanh tanh': the factor 2, or the sign": (z, first[1], -first[2]),
                "b was added to the derivatives": lambda: (
                    z, p1 * (inner + b), (p2 * (inner + b) ** 2).sum(0) + p1 * b
                ),
                "b was added to the first derivatives": (z, p1 * (inner + b), (p2 * (inner + b) ** 2).sum(0)),
                "the term tanh'' times the squares of the first derivatives is lacking": (z, first[1], 0 * first[2]),
                "squares of what comes out of tanh; Faà di Bruno has those of what goes in": (
                    z, first[1], (p2 * first[1] ** 2).sum(0)
                ),
                "the mean over the lines, not the sum": (z, first[1], first[2] / lines),
            },
        )  # fmt: skip
        got = _three(answer(w2, b2, tuple(map(jnp.asarray, first))))
        pushed = (1 - second[0] ** 2) * (first[2] @ w)
        same(
            got, second, "the jet behind a second layer", rtol=1e-9,
            slips={
                "the second derivatives that come in are lost: add tanh' times what w makes of them": (
                    second[0], second[1], second[2] - pushed
                ),
                "the second derivatives that come in count once, not once a line": (
                    second[0], second[1], second[2] + (lines - 1) * pushed
                ),
                "what comes in has to go through w and be multiplied by tanh', as the first derivatives are": (
                    second[0], second[1], second[2] - pushed + first[2] @ w
                ),
            },
        )  # fmt: skip


def _three(got: Any) -> Any:
    """A triple as a tuple, whichever sequence it came in."""
    return tuple(got) if isinstance(got, list | tuple) and len(got) == 3 else got
