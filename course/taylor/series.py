"""Elementwise functions of a series, each by a recurrence of k^2 operations. Needs JAX.

A series is the list of the derivatives 0 … K of a value by one variable; None stands for zero. From those of x follow
those of y = g(x), because y solves a differential equation, y' = g'(x) x', whose slope g'(x) is known from x and y: one
derivative of y after the other, each from lower ones. Derivatives are not divided by factorials: whole numbers stay
whole, and float32 stays within its range at every order.

Source: Griewank and Walther, Evaluating Derivatives, 2nd ed. (2008), section 13.2 and table 13.2; powers: Knuth, The
Art of Computer Programming, volume 2, section 4.7. Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import comb, log, pi
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Series = list[Any]
"""Arrays, and Nones from place 1 on; all of a shape, or of shapes that broadcast."""
Recurrence = Callable[..., Series]
"""(g(x), a series for each input) -> the series of g(x)."""
SERIES: dict[str, Recurrence] = {}
"""The recurrence of each elementwise primitive, by its name."""


def series(*names: str) -> Callable[[Recurrence], Recurrence]:
    """Register the recurrence of the primitives with these names."""

    def register(function: Recurrence) -> Recurrence:
        SERIES.update(dict.fromkeys(names, function))
        return function

    return register


# --- sums and products -------------------------------------------------------------------------------------


def add(terms: Iterable[jax.Array | None]) -> jax.Array | None:
    """Sum of the terms that are not zero (None); None where all are."""
    total: jax.Array | None = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def times(factor: float, value: jax.Array | None) -> jax.Array | None:
    """A multiple of what may be zero (None)."""
    return value if value is None or factor == 1 else float(factor) * value


def multiplied(x: Any, y: Any) -> Any:
    """A product of what may be zero (None)."""
    return None if x is None or y is None else x * y


def leibniz(k: int, x: Series, y: Series, places: Iterable[int], sign: int = 1) -> jax.Array | None:
    """The terms binomial(k, i) x[i] y[k - i] of the k-th derivative of x y, for i at these places."""
    return add(times(sign * comb(k, i), multiplied(x[i], y[k - i])) for i in places)


def product(x: Series, y: Series) -> Series:
    """The series of x y."""
    return [leibniz(k, x, y, range(k + 1)) for k in range(len(x))]


def squared(k: int, x: Series, start: int = 0) -> jax.Array | None:
    """The k-th derivative of x^2, without the two terms in which i or k - i is below the start."""
    ways = {i: comb(k, i) * (1 if 2 * i == k else 2) for i in range(start, k // 2 + 1)}
    return add(times(n, multiplied(x[i], x[k - i])) for i, n in ways.items())


def one_plus_square(x: Series) -> Series:
    """The series of 1 + x^2."""
    return [1 + x[0] * x[0], *(squared(k, x) for k in range(1, len(x)))]


def one_minus_square(x: Series) -> Series:
    """The series of 1 - x^2, in factors: near 1 the square would have lost the difference."""
    return [(1 - x[0]) * (1 + x[0]), *(times(-1, squared(k, x)) for k in range(1, len(x)))]


# --- quotients and powers ----------------------------------------------------------------------------------


def divided(x: jax.Array | None, y: jax.Array) -> jax.Array | None:
    """A quotient whose numerator may be zero (None)."""
    return None if x is None else x / y


@series("div")
def quotient(value: jax.Array, x: Series, y: Series) -> Series:
    """From q y = x."""
    q: Series = [value]
    for k in range(1, len(x)):
        q.append(divided(add([x[k], leibniz(k, y, q, range(1, k + 1), -1)]), y[0]))
    return q


def over(value: jax.Array, x: Series, u: Series) -> Series:
    """The series of y where u y' = x'."""
    y: Series = [value]
    for k in range(1, len(x)):
        y.append(divided(add([x[k], leibniz(k - 1, u, y[1:], range(1, k), -1)]), u[0]))
    return y


@series("sqrt")
def _sqrt(value: jax.Array, x: Series) -> Series:  # y^2 = x
    y: Series = [value]
    for k in range(1, len(x)):
        y.append(divided(add([x[k], times(-1, squared(k, y, start=1))]), 2 * value))
    return y


def power(value: Any, x: Series, exponent: Any) -> Series:
    """The series of y = x^p for a fixed p, from x y' = p y x'. It divides by x: p is negative, or x not near 0."""
    y: Series = [value]
    for k in range(1, len(x)):
        terms = (
            multiplied(exponent * comb(k - 1, i - 1) - comb(k - 1, i), multiplied(x[i], y[k - i]))
            for i in range(1, k + 1)
        )
        y.append(divided(add(terms), x[0]))
    return y


@series("rsqrt")
def _rsqrt(value: jax.Array, x: Series) -> Series:
    return power(value, x, -0.5)


@series("cbrt")
def _cbrt(value: jax.Array, x: Series) -> Series:
    return power(value, x, 1 / 3)


@series("square")
def _square(value: jax.Array, x: Series) -> Series:
    return [value, *(squared(k, x) for k in range(1, len(x)))]


def whole_power(value: jax.Array, x: Series, n: int) -> Series:
    """The series of x^n: products, which are right at 0, too; a recurrence for negative n."""
    return power(value, x, n) if n < 0 else [value, *_products(x, n)[1:]]


def _products(x: Series, n: int) -> Series:
    if n < 2:
        return x if n else [1.0, *[None] * (len(x) - 1)]
    half = _products(x, n // 2)
    even = [squared(k, half) for k in range(len(x))]
    return product(even, x) if n % 2 else even


@series("pow", "integer_pow")
def _pow(value: jax.Array, x: Series, p: Series) -> Series:
    exponent = p[0]
    if all(each is None for each in x[1:]):
        base = jnp.log(_no_zero(x[0]))
        return follow(value, p, lambda k, y: multiplied(base, y[k]))
    fixed = all(each is None for each in p[1:])
    if fixed and not isinstance(exponent, jax.core.Tracer):
        numbers = np.unique(np.asarray(exponent))
        if len(numbers) == 1 and np.isfinite(numbers[0]) and numbers[0] == int(numbers[0].real):
            return whole_power(value, x, int(numbers[0].real))
    # Where x is small or its power out of range, y as a function of t / x: its derivatives, and those of x, stay within
    # the range then, and at x = 0 no division is left. y[k] is x^(p - k) v[k], and v the power of what starts from 1.
    scaled, one = (abs(x[0]) < 1) | ~lax.is_finite(abs(value)), jnp.ones_like(x[0])
    scale, rest = lax.select(scaled, x[0], one), lax.select(scaled, one, x[0])
    u: Series = [1.0, *_scaled(x, scale, 1 / rest)]
    if fixed:
        exponent = jnp.asarray(exponent, x[0].dtype)
        v = power(one, u, exponent)
    else:
        log_u = over(jnp.log(_no_zero(x[0])), u, u)
        v = follow(one, product([exponent, *_scaled(p, scale, scale)], log_u), lambda k, v: v[k])
    less = scaled.astype(x[0].dtype)
    return [value, *(multiplied(v[k], x[0] ** (exponent - k * less)) for k in range(1, len(x)))]


def _scaled(x: Series, scale: jax.Array, first: jax.Array) -> Series:
    """x[1] first, x[2] scale first, x[3] scale^2 first, …"""
    found = []
    for each in x[1:]:
        found.append(None if each is None else each * first)
        first = first * scale
    return found


def _no_zero(x: jax.Array) -> jax.Array:
    """As JAX has it in the derivative of a power by its exponent: 0^p stays 0."""
    return lax.select(x == 0, jnp.ones_like(x), x)


# --- exponentials and what is made of them -----------------------------------------------------------------


def follow(value: jax.Array, x: Series, slope: Callable[[int, Series], jax.Array | None]) -> Series:
    """The series of y where y' = w x', and w[k] = slope(k, y[0] … y[k])."""
    y: Series = [value]
    w: Series = []
    dx = x[1:]
    for k in range(len(dx)):
        w.append(slope(k, y))
        y.append(leibniz(k, w, dx, range(k + 1)))
    return y


@series("exp")
def _exp(value: jax.Array, x: Series) -> Series:
    return follow(value, x, lambda k, y: y[k])


@series("exp2")
def _exp2(value: jax.Array, x: Series) -> Series:
    return follow(value, x, lambda k, y: times(log(2), y[k]))


@series("expm1")
def _expm1(value: jax.Array, x: Series) -> Series:
    return follow(value, x, lambda k, y: y[k] if k else jnp.exp(x[0]))


@series("log")
def _log(value: jax.Array, x: Series) -> Series:
    return over(value, x, x)


@series("log1p")
def _log1p(value: jax.Array, x: Series) -> Series:
    return over(value, x, [1 + x[0], *x[1:]])


@series("logistic")
def _logistic(value: jax.Array, x: Series) -> Series:
    rest = 1 - value  # rounded as in a user's own 1 - y: log(1 - y) has no digits otherwise

    def slope(k: int, y: Series) -> jax.Array | None:  # y (1 - y), whose derivative is small where y is flat
        if k == 0:
            return value * rest
        return add([multiplied(rest - value, y[k]), times(-1, squared(k, y, start=1))])

    return follow(value, x, slope)


@series("tanh")
def _tanh(value: jax.Array, x: Series) -> Series:
    return follow(value, x, lambda k, y: times(-1, squared(k, y)) if k else (1 - value) * (1 + value))


def _gauss(value: jax.Array, x: Series, factor: float) -> Series:
    """y' = factor exp(-x^2) x'."""
    inner = [None, *(times(-1, squared(k, x)) for k in range(1, len(x)))]
    bell = follow(factor * jnp.exp(-x[0] * x[0]), inner, lambda k, w: w[k])
    return follow(value, x, lambda k, y: bell[k])


@series("erf")
def _erf(value: jax.Array, x: Series) -> Series:
    return _gauss(value, x, 2 / pi**0.5)


@series("erfc")
def _erfc(value: jax.Array, x: Series) -> Series:
    return _gauss(value, x, -2 / pi**0.5)


@series("erf_inv")
def _erf_inv(value: jax.Array, x: Series) -> Series:
    square: Series = []  # of y
    w: Series = []  # sqrt(pi) / 2 exp(y^2)

    def slope(k: int, y: Series) -> jax.Array | None:
        square.append(squared(k, y))
        w.append(leibniz(k - 1, w, square[1:], range(k)) if k else pi**0.5 / 2 * jnp.exp(square[0]))
        return w[k]

    return follow(value, x, slope)


# --- circular and hyperbolic functions ---------------------------------------------------------------------


def pair(value: jax.Array, other: jax.Array, x: Series, sign: int) -> Series:
    """The series of y where y' = z x' and z' = sign y x'."""
    y: Series = [value]
    z: Series = [other]
    dx = x[1:]
    for k in range(len(dx)):
        following = leibniz(k, z, dx, range(k + 1)), leibniz(k, y, dx, range(k + 1), sign)
        y.append(following[0])
        z.append(following[1])
    return y


@series("sin")
def _sin(value: jax.Array, x: Series) -> Series:
    return pair(value, jnp.cos(x[0]), x, -1)


@series("cos")
def _cos(value: jax.Array, x: Series) -> Series:
    return pair(value, -jnp.sin(x[0]), x, -1)


@series("sinh")
def _sinh(value: jax.Array, x: Series) -> Series:
    return pair(value, jnp.cosh(x[0]), x, 1)


@series("cosh")
def _cosh(value: jax.Array, x: Series) -> Series:
    return pair(value, jnp.sinh(x[0]), x, 1)


@series("tan")
def _tan(value: jax.Array, x: Series) -> Series:
    return follow(value, x, lambda k, y: squared(k, y) if k else 1 + value * value)


@series("atan")
def _atan(value: jax.Array, x: Series) -> Series:
    return over(value, x, one_plus_square(x))


@series("atanh")
def _atanh(value: jax.Array, x: Series) -> Series:
    return over(value, x, one_minus_square(x))


def _root(u: Series) -> Series:
    return _sqrt(jnp.sqrt(u[0]), u)


@series("asin")
def _asin(value: jax.Array, x: Series) -> Series:
    return over(value, x, _root(one_minus_square(x)))


@series("acos")
def _acos(value: jax.Array, x: Series) -> Series:
    return over(value, [times(-1, each) for each in x], _root(one_minus_square(x)))


@series("asinh")
def _asinh(value: jax.Array, x: Series) -> Series:
    return over(value, x, _root(one_plus_square(x)))


@series("acosh")
def _acosh(value: jax.Array, x: Series) -> Series:
    square = [(x[0] - 1) * (x[0] + 1), *(squared(k, x) for k in range(1, len(x)))]
    return over(value, x, _root(square))


@series("atan2")
def _atan2(value: jax.Array, y: Series, x: Series) -> Series:
    """(x^2 + y^2) angle' = x y' - y x'."""
    square: Series = [add([squared(k, x), squared(k, y)]) for k in range(len(x))]
    angle: Series = [value]
    for k in range(1, len(x)):
        turned = leibniz(k - 1, x, y[1:], range(k)), leibniz(k - 1, y, x[1:], range(k), -1)
        angle.append(divided(add([*turned, leibniz(k - 1, square, angle[1:], range(1, k), -1)]), square[0]))
    return angle


# --- what solves no such equation --------------------------------------------------------------------------


def composed(values: Sequence[jax.Array], x: Series) -> Series:
    """The series of g(x) from g, g', g'' … at x[0]: g(x)' = g'(x) x', g'(x)' = g''(x) x', … in k^3 operations."""
    if len(x) == 1:
        return [values[0]]
    slope = composed(values[1:], x[:-1])
    return follow(values[0], x, lambda k, _: slope[k])


@series("digamma")
def _digamma(value: jax.Array, x: Series) -> Series:
    return composed([value, *_polygammas(x, range(1, len(x)))], x)


@series("lgamma")
def _lgamma(value: jax.Array, x: Series) -> Series:
    return composed([value, jax.scipy.special.digamma(x[0]), *_polygammas(x, range(1, len(x) - 1))], x)


def _polygammas(x: Series, orders: Iterable[int]) -> list[jax.Array]:
    return [lax.polygamma(jnp.full_like(x[0], n), x[0]) for n in orders]
