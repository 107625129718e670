"""Answers to the exercises of 17_taylor_mode."""

import math
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong


def solved(w, u, factor=lambda j: j):
    y = [math.atan(u[0])]
    for k in range(1, len(u)):
        y.append((k * u[k] - sum(factor(j) * y[j] * w[k - j] for j in range(1, k))) / (k * w[0]))
    return y


def square(u):
    return [sum(u[j] * u[k - j] for j in range(k + 1)) for k in range(len(u))]


def one_and(w):
    return [1 + w[0], *w[1:]]


wrong("arctan_series", "derivatives, k! times")(
    lambda u: [math.factorial(k) * y for k, y in enumerate(solved(one_and(square(u)), u))]
)
wrong("arctan_series", "atan of each coefficient")(lambda u: [math.atan(c) for c in u])
wrong("arctan_series", "every order as if it were the first")(
    lambda u: [math.atan(u[0]), *(c / (1 + u[0] ** 2) for c in u[1:])]
)
wrong("arctan_series", "u² is a product of series")(lambda u: solved(one_and([c**2 for c in u]), u))
wrong("arctan_series", "1 is added to every coefficient")(lambda u: solved([1 + c for c in square(u)], u))
wrong("arctan_series", "w lacks the 1")(lambda u: solved(square(u), u))
wrong("arctan_series", "the factor j is lacking")(lambda u: solved(one_and(square(u)), u, lambda j: 1))
wrong("arctan_series", "one k! too many")(
    lambda u: [y / math.factorial(k) for k, y in enumerate(solved(one_and(square(u)), u))]
)
wrong("arctan_series", "a function without `return`")(lambda u: None)


@right("arctan_series")
def with_numpy(u):
    u = np.array(u)
    w = np.convolve(u, u)[: len(u)] + np.eye(len(u))[0]
    slope = []  # the coefficients of u' / w
    for k in range(len(u) - 1):
        slope.append(((k + 1) * u[k + 1] - sum(s * w[k - j] for j, s in enumerate(slope))) / w[0])
    return np.array([np.arctan(u[0]), *(s / (k + 1) for k, s in enumerate(slope))])


@right("arctan_series")
def by_complex_logarithm(u):  # atan(u) is the imaginary part of log(1 + iu)
    z = [1 + 1j * u[0], *(1j * c for c in u[1:])]
    y = [math.atan(u[0]) + 0j]
    for k in range(1, len(u)):
        y.append((z[k] - sum(j * y[j] * z[k - j] for j in range(1, k)) / k) / z[0])
        y[k] = complex(y[k])
    log = [np.log(z[0])]
    for k in range(1, len(z)):
        log.append((z[k] - sum(j * log[j] * z[k - j] for j in range(1, k)) / k) / z[0])
    return tuple(float(c.imag) for c in log)


def written(softplus, product, tan):
    return lambda x: softplus(x).sum() + product(x) + tan(x[0])


def smooth(x):
    return jnp.log(1 + jnp.exp(x))


def kinked(x):
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def one_by_one(x):
    return x[0] * x[1] * x[2] * x[3]


def quotient(x):
    return jnp.sin(x) / jnp.cos(x)


wrong("jettable", "0.5 as the slope of max")(written(kinked, one_by_one, quotient))
wrong("jettable", "the logarithm of a negative number")(written(smooth, lambda x: jnp.exp(jnp.log(x).sum()), quotient))
wrong("jettable", "absolute values")(written(smooth, lambda x: jnp.exp(jnp.log(jnp.abs(x)).sum()), quotient))
wrong("jettable", "reduce_prod")(written(smooth, jnp.prod, quotient))
wrong("jettable", "an operation without a rule in jet")(written(smooth, one_by_one, jnp.tan))
wrong("jettable", "a rule of its own")(written(jax.nn.softplus, one_by_one, quotient))
wrong("jettable", "softplus is not relu")(written(jax.nn.relu, one_by_one, quotient))
wrong("jettable", "the cotangent")(written(smooth, one_by_one, lambda x: jnp.cos(x) / jnp.sin(x)))
wrong("jettable", "not their product")(written(smooth, jnp.sum, quotient))
right("jettable")(written(smooth, lambda x: reduce(lambda a, b: a * b, x), quotient))
right("jettable")(written(lambda x: jnp.log1p(jnp.exp(x)), lambda x: (x[:2] * x[2:])[0] * (x[:2] * x[2:])[1], quotient))
right("jettable")(written(lambda x: x / 2 + jnp.log(2 * jnp.cosh(x / 2)), one_by_one, quotient))


def by_hand(second=lambda bend, slope, first, w2: bend * (first**2).sum(0) + slope * w2, add=0.0, half=1.0):
    def layer(w, b, jet):
        value, first, collapsed = jet
        y = jnp.tanh(value @ w + b)
        slope, bend = 1 - y**2, -2 * y * (1 - y**2)
        first = first @ w + add * b
        return y, slope * first, half * second(bend, slope, first, collapsed @ w)

    return layer


wrong("dense_jet", "square each line's")(by_hand(lambda p2, p1, v, w: p2 * v.sum(0) ** 2 + p1 * w))
wrong("dense_jet", "only their sum is carried")(by_hand(lambda p2, p1, v, w: p2 * v**2 + p1 * w))
wrong("dense_jet", "what comes in")(by_hand(lambda p2, p1, v, w: p2 * (v**2).sum(0) + w))
wrong("dense_jet", "are lost")(by_hand(lambda p2, p1, v, w: p2 * (v**2).sum(0)))
wrong("dense_jet", "once, not once a line")(by_hand(lambda p2, p1, v, w: (p2 * v**2 + p1 * w).sum(0)))
wrong("dense_jet", "is lacking")(by_hand(lambda p2, p1, v, w: p1 * w))
wrong("dense_jet", "2! times the coefficient")(by_hand(half=0.5))
wrong("dense_jet", "b was added to the first derivatives")(by_hand(add=1.0))
wrong("dense_jet", "squares of what comes out of tanh")(
    by_hand(lambda p2, p1, v, w: p2 * ((p1 * v) ** 2).sum(0) + p1 * w)
)
right("dense_jet")(by_hand())


@right("dense_jet")
def by_jvp(w, b, jet):
    value, first, collapsed = jet

    def p(x):
        return jnp.tanh(x @ w + b)

    def slope(v):
        return lambda x: jax.jvp(p, (x,), (v,))[1]

    bends = jax.vmap(lambda v: jax.jvp(slope(v), (value,), (v,))[1])(first)
    return [p(value), jax.vmap(lambda v: slope(v)(value))(first), bends.sum(0) + slope(collapsed)(value)]
