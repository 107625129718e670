"""Waves in closed form of equations with three and four derivatives. Needs NumPy and JAX.

Lesson: 20b_all_equations.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from course.pde.conditions import conditions_of
from course.pde.domain import Box
from course.pde.equation import Field
from course.pde.problem import Problem


def kp_equation() -> Problem:
    """(u_t + 6 u u_x + u_xxx)_x + 3 u_yy = 0 over (t, x, y): Kadomtsev-Petviashvili, of waves on shallow water.

    Exact: u = 2 (ln tau)_xx, with tau the sum of exp(k x + k^2 y - 4 k^3 t) over k = -1, 0, 1. So u is twice the
    variance of k under the softmax of these exponents: where two of them are equal and the third is small a soliton,
    where all three are equal the point where the solitons meet. It is a Y that moves along x with speed 4. Built in are
    the initial value, value and slope at both ends of x, and the value at both ends of y.
    Source: Miles, "Resonantly interacting solitary waves", Journal of Fluid Mechanics 79 (1977); by insertion.
    """
    k = np.array([-1.0, 0.0, 1.0])
    exponents = np.stack([-4 * k**3, k, k**2], axis=1)  # of t, x, y

    def solution(point: jax.Array) -> jax.Array:
        p = jax.nn.softmax(exponents.astype(point.dtype) @ point)
        mean, square = p @ k.astype(p.dtype), p @ (k**2).astype(p.dtype)
        return 2 * (square - mean**2)

    def residual(u: Field, point: jax.Array) -> jax.Array:
        names = "", "x", "xx", "xxxx", "tx", "yy"
        value, u_x, u_xx, u_xxxx, u_tx, u_yy = domain.derivatives(u, point, *names)
        return u_tx + 6 * (u_x**2 + value * u_xx) + u_xxxx + 3 * u_yy

    domain = Box(t=(0, 1), x=(-6, 10), y=(-4, 4))
    known = conditions_of(solution, domain, t=(1, 0), x=(2, 2), y=(1, 1))
    return Problem(domain, residual, known, reference=solution)


def zk_equation() -> Problem:
    """u_t + u u_x + (lap u)_x = 0 over (t, x, y): Zakharov-Kuznetsov, of ions in a magnetic field.

    Exact: a soliton that runs aslant, u = 12 (k^2 + l^2) sech^2(k x + l y - 4 k (k^2 + l^2) t) with k = 0.6, l = 0.3.
    Built in are the initial value, the value at all ends, and the slope at the right end of x.
    Source: Zakharov and Kuznetsov, "Three-dimensional solitons", Soviet Physics JETP 39 (1974); by insertion.
    """
    k, l = 0.6, 0.3  # noqa: E741
    size = k**2 + l**2
    direction = 2 * np.array([-4 * k * size, k, l])  # of t, x, y

    def solution(point: jax.Array) -> jax.Array:
        z = direction.astype(point.dtype) @ point
        return 48 * size * jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)  # sech^2(z / 2) / 4; cosh would overflow

    def residual(u: Field, point: jax.Array) -> jax.Array:
        value, u_t, u_x, u_xxx, u_xyy = domain.derivatives(u, point, "", "t", "x", "xxx", "xyy")
        return u_t + value * u_x + u_xxx + u_xyy

    domain = Box(t=(0, 1), x=(-5, 7), y=(-3, 3))
    known = conditions_of(solution, domain, t=(1, 0), x=(1, 2), y=(1, 1))
    return Problem(domain, residual, known, reference=solution)


def sine_gordon_equation() -> Problem:
    """u_tx = sin u over (t, x): sine-Gordon in light-cone coordinates.

    Exact: a kink and an antikink that pass through each other, u = 4 arctan(r sinh(a - b) / cosh(a + b)), where 2 a =
    2 x + t / 2, 2 b = x / 2 + 2 t and r = (2 + 1 / 2) / (2 - 1 / 2). Waves go along both axes, so that u is given where
    they come in: at the lower end of t, and at the lower end of x.
    Source: Drazin and Johnson, Solitons (1989), chapter 5 (by Baecklund's transformation).
    """

    def solution(point: jax.Array) -> jax.Array:
        t, x = point
        a, b = x + t / 4, x / 4 + t
        return 4 * jnp.arctan(5 / 3 * jnp.sinh(a - b) / jnp.cosh(a + b))

    def residual(u: Field, point: jax.Array) -> jax.Array:
        value, u_tx = domain.derivatives(u, point, "", "tx")
        return u_tx - jnp.sin(value)

    domain = Box(t=(-2, 2), x=(-2, 2))
    return Problem(domain, residual, conditions_of(solution, domain, t=(1, 0), x=(1, 0)), reference=solution)


def ks_equation() -> Problem:
    """u_t + u u_x + u_xx + u_xxxx = 0 over (t, x): Kuramoto-Sivashinsky, of flame fronts.

    Exact: the front u = 1 + 15 / 19 sqrt(11 / 19) (11 tanh^3 z - 9 tanh z), z = sqrt(11 / 19) / 2 (x - t). On
    both sides of it u is nearly constant, and waves of length 9 grow there like exp(t / 4). Built in are the initial
    value, and value and slope at both ends of x.
    Source: Kuramoto and Tsuzuki, Progress of Theoretical Physics 55 (1976); by insertion.
    """
    root = (11 / 19) ** 0.5

    def solution(point: jax.Array) -> jax.Array:
        t, x = point
        w = jnp.tanh(root / 2 * (x - t))
        return 1 + 15 / 19 * root * (11 * w**3 - 9 * w)

    def residual(u: Field, point: jax.Array) -> jax.Array:
        value, u_t, u_x, u_xx, u_xxxx = domain.derivatives(u, point, "", "t", "x", "xx", "xxxx")
        return u_t + value * u_x + u_xx + u_xxxx

    domain = Box(t=(0, 2), x=(-8, 10))
    return Problem(domain, residual, conditions_of(solution, domain, t=(1, 0), x=(2, 2)), reference=solution)
