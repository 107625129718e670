"""Equations in time and a few dimensions. Needs NumPy and JAX. Lesson: 20_high_order_pdes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from course import stde, taylor
from course.pde.conditions import conditions_of
from course.pde.domain import Box
from course.pde.equation import Field, scalar
from course.pde.problem import Problem
from course.pde.sampling import sample_ball, sample_box
from course.taylor import arguments


@dataclass(frozen=True)
class BoxEquation:
    """An equation over a box, with the exact solution that its residual vanishes for.

    Attributes:
      name: as in the tables.
      lower: the corner with the smallest coordinates, d numbers; time comes first where there is time.
      upper: the opposite corner, d numbers.
      solution: exact, (d,) -> (); None where it is not known, and then there is no `relative_l2`.
      residual: (u, x (d,)) -> (), by jets; zero for the solution.
      ansatz: network -> a function that satisfies the boundary and initial conditions.
      best_constant: the shape that the best constant multiplies, in the baseline.
      draw: (key, n) -> collocation points (n, d); uniform in the box where None.
    Raises:
      ValueError: the corners differ in length, or lower is not below upper everywhere.
    """

    name: str
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    solution: Field | None
    residual: Callable[[Field, jax.Array], jax.Array]
    ansatz: Callable[[Field], Field]
    best_constant: Field = lambda x: jnp.ones((), x.dtype)
    draw: Callable[[jax.Array, int], jax.Array] | None = None

    def __post_init__(self) -> None:
        lower, upper = np.asarray(self.lower, float), np.asarray(self.upper, float)
        if lower.ndim != 1 or lower.shape != upper.shape or not len(lower):
            raise ValueError(
                f"expected corners of one shape (d,), got {self.lower} and {self.upper}; one number per axis"
            )
        with np.errstate(over="ignore"):
            finite = np.isfinite(upper - lower)
        if not (finite & (lower < upper)).all():
            raise ValueError(
                f"expected finite lower < upper in all coordinates, got {self.lower} and {self.upper}; swap"
            )

    @property
    def dimension(self) -> int:
        return len(self.lower)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Collocation points, (n, d)."""
        return sample_box(key, n, self.lower, self.upper) if self.draw is None else self.draw(key, n)

    def unit(self, x: jax.Array) -> jax.Array:
        """Coordinates in [-1, 1], as a network likes them."""
        lower, upper = jnp.asarray(self.lower, x.dtype), jnp.asarray(self.upper, x.dtype)
        return 2 * (x - lower) / (upper - lower) - 1


def heat_equation(d: int) -> BoxEquation:
    """u_t = lap u + (1 - u^2) / (1 + u^2) + g over (t, x), x in the unit ball of d dimensions, t from 0 to 1.

    The initial value is the paper's, 5 / (10 + 2 |x|^2). The exact solution is that value times exp(-t), which fixes
    the source g. Source: Shi et al. (2024), section 5, who have g = 0, no closed form, and a value at one point.
    """

    d = arguments.integer("d", d, "the ball has at least one dimension")

    def reaction(u: jax.Array) -> jax.Array:
        return (1 - u**2) / (1 + u**2)

    def solution(point: jax.Array) -> jax.Array:
        t, x = point[0], point[1:]
        return jnp.exp(-t) * 5 / (10 + 2 * x @ x)

    def source(point: jax.Array) -> jax.Array:
        t, q = point[0], point[1:] @ point[1:]
        u = jnp.exp(-t) * 5 / (10 + 2 * q)
        lap = jnp.exp(-t) * (160 * q / (10 + 2 * q) ** 3 - 20 * d / (10 + 2 * q) ** 2)
        return -u - lap - reaction(u)

    space = stde.Operator.of_kinds(d + 1, (stde.Kind((2,), 1 + np.arange(d)[:, None], np.ones(d)),))
    time = stde.Operator.of_kinds(d + 1, (stde.Kind((1,), np.zeros((1, 1), int), np.ones(1)),))

    def residual(u: Field, point: jax.Array) -> jax.Array:
        u = scalar(u)
        rate, lap = stde.apply(time, u, point), stde.apply(space, u, point)
        return rate - lap - reaction(u(point)) - source(point)

    def ansatz(network: Field) -> Field:
        def u(point: jax.Array) -> jax.Array:
            t, q = point[0], point[1:] @ point[1:]
            given = 5 / (10 + 2 * q) + (jnp.exp(-t) - 1) * 5 / 12  # right at t = 0 and on the surface
            return given + t * (1 - q) * network(point)

        return u

    def draw(key: jax.Array, n: int) -> jax.Array:
        key_time, key_space = jax.random.split(key)
        return jnp.concatenate([jax.random.uniform(key_time, (n, 1)), sample_ball(key_space, n, d)], axis=1)

    return BoxEquation(f"heat, d={d}", (0.0,) + (-1.0,) * d, (1.0,) * (d + 1), solution, residual, ansatz, draw=draw)


def kdv_equation(speed: float = 4.0) -> BoxEquation:
    """u_t + 6 u u_x + u_xxx = 0 over (t, x): Korteweg-de Vries with one soliton.

    Exact: u = c / 2 sech^2(sqrt(c) / 2 (x - c t)), c its speed. Time from 0 to 1, x from -m to c + m with the margin
    m = 12 / sqrt(c), so -6 to 10 for c = 4; the initial value is built in, and so are u = 0 at both ends and u_x = 0 at
    the right one, which the soliton satisfies to 2.5e-5 of its height, whatever its speed.

    Args:
      speed: from 0.001 to 100, a known number.
    Raises:
      ValueError: another speed: nothing moves to the right slower than 0, and above 100 float32 does not tell where in
        its width, 1 / sqrt(c), the soliton is.
      TypeError: the speed is no known number.
    Source: Drazin and Johnson, Solitons (1989), chapter 1.
    """
    if isinstance(speed, jax.core.Tracer) or np.ndim(speed) != 0 or np.asarray(speed).dtype.kind not in "iuf":
        raise TypeError(f"expected speed as a known number, got {speed!r:.80}; the box depends on it: pass a float")
    speed = float(speed)
    if not 1e-3 <= speed <= 100:
        raise ValueError(
            f"expected a speed from 0.001 to 100, got {speed}; u(a^3 t, a x) a^2 solves the equation where u does, so "
            "that other speeds are this one on another scale"
        )
    margin = 12 / speed**0.5
    lower, upper = -margin, speed + margin
    size = 600 * ((upper - lower) / 16) ** 3  # what the factor of the ends is at most, nearly

    def solution(point: jax.Array) -> jax.Array:
        t, x = point
        y = jnp.sqrt(speed) * (x - speed * t)
        return 2 * speed * jax.nn.sigmoid(y) * jax.nn.sigmoid(-y)  # sech^2(y / 2) / 4; cosh would overflow

    def residual(u: Field, point: jax.Array) -> jax.Array:
        u = scalar(u)
        along_x = taylor.derivatives(u, point, jnp.array([0.0, 1.0], point.dtype), 3)
        rate = jax.jvp(u, (point,), (jnp.array([1.0, 0.0], point.dtype),))[1]
        return rate + 6 * along_x[0] * along_x[1] + along_x[3]

    def ansatz(network: Field) -> Field:
        def u(point: jax.Array) -> jax.Array:
            t, x = point
            ends = (x - lower) * (upper - x) ** 2 / size
            return solution(jnp.stack([0 * t, x])) + t * ends * network(equation.unit(point))

        return u

    equation = BoxEquation("KdV", (0.0, lower), (1.0, upper), solution, residual, ansatz)
    return equation


def kdv_2d_equation() -> BoxEquation:
    """u_ty + u_xxxy + 3 (u_y u_x)_x - u_xx + 2 u_yy = 0 over (t, x, y): two-dimensional KdV.

    Exact: u = 2 k tanh(k x + l y + w t) with w = (k^2 - 2 l^2 - 4 k^3 l) / l, here k = l = 1/2; derived by insertion.
    Source of the equation: Shi et al. (2024), section 5.
    """
    k = l = 0.5  # noqa: E741
    w = (k**2 - 2 * l**2 - 4 * k**3 * l) / l
    linear = stde.Operator({(1, 0, 1): 1.0, (0, 3, 1): 1.0, (0, 2, 0): -1.0, (0, 0, 2): 2.0})

    def solution(point: jax.Array) -> jax.Array:
        t, x, y = point
        return 2 * k * jnp.tanh(k * x + l * y + w * t)

    def residual(u: Field, point: jax.Array) -> jax.Array:
        u = scalar(u)
        u_xx, u_xy = taylor.partial_derivative(u, point, (0, 2, 0)), taylor.partial_derivative(u, point, (0, 1, 1))
        _, u_x, u_y = jax.grad(u)(point)
        return stde.apply(linear, u, point) + 3 * (u_xy * u_x + u_y * u_xx)

    domain = Box(t=(0, 1), x=(-2, 2), y=(-2, 2))
    problem = Problem(domain, residual, conditions_of(solution, domain, t=(1, 0), x=(1, 1), y=(1, 1)))
    return BoxEquation("KdV 2-D", domain.lower, domain.upper, solution, residual, problem.ansatz)


def plate_equation() -> BoxEquation:
    """lap lap u = g in the unit square, u = 0 and its normal derivative = 0 on the boundary: a clamped plate.

    Exact: u = sin(pi x)^2 sin(pi y)^2, from which g follows. Fourth order: a Laplacian of a Laplacian, both collapsed.
    """
    pi = jnp.pi

    def bump(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        # sin(pi z)^2 with its second and fourth derivatives
        return jnp.sin(pi * z) ** 2, 2 * pi**2 * jnp.cos(2 * pi * z), -8 * pi**4 * jnp.cos(2 * pi * z)

    def solution(point: jax.Array) -> jax.Array:
        return bump(point[0])[0] * bump(point[1])[0]

    def source(point: jax.Array) -> jax.Array:
        (a, a2, a4), (b, b2, b4) = bump(point[0]), bump(point[1])
        return a4 * b + 2 * a2 * b2 + a * b4

    def residual(u: Field, point: jax.Array) -> jax.Array:
        return (taylor.biharmonic(scalar(u), point) - source(point)) / (
            80**0.5 * pi**4
        )  # the source's root mean square

    def factor(point: jax.Array) -> jax.Array:
        x, y = point
        return (16 * x * (1 - x) * y * (1 - y)) ** 2

    def ansatz(network: Field) -> Field:
        return lambda point: factor(point) * network(equation.unit(point))

    equation = BoxEquation("plate", (0.0, 0.0), (1.0, 1.0), solution, residual, ansatz, factor)
    return equation
