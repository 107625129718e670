"""Checks of the exercises on a residual, conditions, a reference, an ansatz, and data. Needs NumPy and JAX.

Lesson: 21_your_own_equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, raised, same, wrong

LESSON = "21_your_own_equation"


@check(
    LESSON,
    "domain.derivatives(u, point, ...) knows derivatives by the names of axes, wherever these stand in a point.",
    "Its names: '' for the value, 't', 'x', 'xx', 'yy', 'xy'.",
    "residual = u_t + w u_x - a (u_xx + u_yy) - b u_xy - r u (1 - u)",
    points=2,
)
def spreading_residual(rng: np.random.Generator, spreading_residual: Any) -> None:
    """The residual in boxes of any order of axes, against derivatives by hand."""
    from course import pde

    answer = function(spreading_residual, "spreading_residual(domain, u, point, w, a, b, r)")
    with float64():
        for names in ("xty", "ytx")[:: rng.choice([-1, 1])]:
            axes: Any = dict.fromkeys(names, (-1, 1))
            domain = pde.Box(**axes)
            amplitude, *slopes, phase = rng.uniform(0.5, 1.5, (5, 3)) * rng.choice([-1, 1], (5, 3))
            point, (w, a, b, r) = rng.uniform(-1, 1, 3), rng.uniform(0.5, 1.5, 4)

            def u(x: jax.Array, amplitude: Any = amplitude, slopes: Any = slopes, phase: Any = phase) -> jax.Array:
                return amplitude @ jnp.sin(sum(p * z for p, z in zip(slopes, x, strict=True)) + phase)

            angles = sum(p * z for p, z in zip(slopes, point, strict=True)) + phase
            sine, cosine = amplitude * np.sin(angles), amplitude * np.cos(angles)

            def residual(t: Any, x: Any, y: Any, s: Any = sine, c: Any = cosine, w: float = w, a: float = a,
                         b: float = b, r: float = r) -> float:  # fmt: skip
                grows = s.sum() * (1 - s.sum())
                return c @ t + w * (c @ x) + a * (s @ (x**2 + y**2)) + b * (s @ (x * y)) - r * grows

            t, x, y = (slopes[names.index(name)] for name in "txy")
            expected = residual(t, x, y)
            got = answer(domain, u, jnp.asarray(point), w, a, b, r)
            if isinstance(got, list):
                wrong("expected a number.", got=got, slip="domain.derivatives returns a list, one for each name")
            same(
                got, expected, f"the residual on {domain}",
                rtol=1e-7, atol=1e-7,
                slips={
                    "coordinates by their place, t first; here the axes have another order, so take names": residual(
                        *slopes
                    ),
                    "u_xy is missing": residual(t, x, y, b=0.0),
                    "u_yy is missing": expected - a * (sine @ y**2),
                    "growth without its limit: r u (1 - u), not r u": expected - r * sine.sum() ** 2,
                    "the sign of the wind": residual(t, x, y, w=-w),
                    "the sign of the growth: on the left side it is subtracted": residual(t, x, y, r=-r),
                    "the sign of what spreads: on the left side it is subtracted": residual(t, x, y, a=-a, b=-b),
                    "u_t is missing: that is the right side, less the wind": expected - cosine @ t,
                    "2 u_xy: the term stands in the equation once": residual(t, x, y, b=2 * b),
                },
            )  # fmt: skip


@check(
    LESSON,
    "Two conditions hold at t = 0, one at x = 0, one at x = 1. A condition without a weight is built in.",
    "A function given to pde.given takes the point, and shape takes its second coordinate.",
    "What gives no value is given(x=1, residual=lambda u, point: ..., weight=weight).",
    "u_x there: domain.derivatives(u, point, 'x')[0].",
    points=3,
)
def string_conditions(rng: np.random.Generator, string_conditions: Any) -> None:
    """Values and slopes of the ansatz that the conditions make, and the penalty of any function, by nested jax.grad."""
    from course import pde
    from course.pde.conditions import Data, Face

    answer = function(string_conditions, "string_conditions(domain, shape, speed, k, weight)")
    domain = pde.Box(t=(0, 2), x=(0, 1))
    with float64():
        p, q, s = rng.uniform(0.5, 1.5, 3)
        k, weight = float(rng.uniform(1.5, 3)), float(rng.uniform(3, 6))

        def shape(x: Any) -> jax.Array:
            return jnp.sin(p * _number(x, "shape"))

        def speed(x: Any) -> jax.Array:
            return q * _number(x, "speed") ** 2

        found = answer(domain, shape, speed, k, weight)
        if not isinstance(found, list | tuple) or not all(isinstance(each, Face | Data) for each in found):
            wrong("expected a list of conditions from pde.given.", got=found)
        try:
            problem = pde.Problem(domain, lambda u, x: u(x), found)
        except (ValueError, TypeError) as error:
            raised(error, "pde.Problem(domain, residual, string_conditions(...))")
        at = {(f.axis, f.at, f.order) for f in problem.faces}
        due = {("t", 0.0, 0): "u at t = 0", ("t", 0.0, 1): "u_t at t = 0", ("x", 0.0, 0): "u at x = 0"}
        weighed = {(f.axis, f.at, f.order) for f in problem.penalties if isinstance(f, Face) and f.residual is None}
        for one, text in due.items():
            if one in weighed:
                wrong(f"{text} is a penalty.", slip="without a weight the condition is built in, and holds exactly")
            if one not in at:
                wrong(f"{text} is not given.", slip="two conditions at t = 0, one at x = 0, one at x = 1")
        if more := at - due.keys():
            wrong("more is built in than is given.", got=sorted(more), slip="on its spring the end may take any value")

        def network(z: jax.Array) -> jax.Array:
            return 2 + jnp.sin(s * z.sum())

        u = problem.ansatz(network)
        x = float(rng.uniform(0.3, 0.9))
        start, left = jnp.array([0.0, x]), jnp.array([x, 0.0])
        values = np.array([u(start), jax.grad(u)(start)[0], u(left)])
        wanted = np.array([np.sin(p * x), q * x**2, 0.0])
        same(
            values, wanted, "u and u_t at t = 0, and u at x = 0", rtol=1e-6,
            slips={
                "shape and speed are swapped": np.array([q * x**2, np.sin(p * x), 0.0]),
                "shape of the time: a point is (t, x)": np.array([0.0, q * x**2, 0.0]),
                "speed of the time: a point is (t, x)": np.array([np.sin(p * x), 0.0, 0.0]),
                "shape and speed of the time: a point is (t, x)": np.zeros(3),
            },
        )  # fmt: skip
        if not problem.penalties:
            wrong("nothing is given at x = 1.", slip="given(x=1, residual=..., weight=weight)")

        def penalty(u: Callable[[jax.Array], jax.Array]) -> float:
            total = 0.0
            for each in problem.penalties:
                batch = each.draw(domain, jax.random.key(0), 64)
                gaps = jax.vmap(lambda one, each=each: each.residual_at(domain, u, one, {}))(batch)
                total += (each.weight or 0.0) * float((gaps**2).mean())
            return total

        def bent(z: jax.Array) -> jax.Array:  # at x = 1 it does not depend on t, so neither do the points drawn matter
            return s * z[1] ** 2 + (1 - z[1]) * (p + jnp.sin(z[0]))

        value, slope = s, 2 * s - p - jnp.sin(0.0)
        fixed = lambda z: bent(z.at[0].set(0.0))  # noqa: E731
        try:
            got = penalty(fixed)
        except (ValueError, TypeError) as error:
            raised(error, "the condition at x = 1")
        at_left = -p - 0.0, p  # slope and value at x = 0
        same(
            got, weight * (slope + k * value) ** 2, "weight times the mean square of u_x + k u at x = 1", rtol=1e-6,
            slips={
                "the sign: u_x + k u is zero": weight * (slope - k * value) ** 2,
                "k stands with u, not with u_x": weight * (k * slope + value) ** 2,
                "u_x alone, as for an end without a spring": weight * slope**2,
                "u alone, as for an end that is held": weight * value**2,
                "u_x and u each for itself; the spring asks for their sum": weight * (slope**2 + value**2),
                "the left end": weight * (at_left[0] + k * at_left[1]) ** 2,
                "u_t in place of u_x": weight * (k * value) ** 2,
                "the weight: it is another one": (slope + k * value) ** 2,
                "the weight stands in the residual too": weight**3 * (slope + k * value) ** 2,
            },
        )  # fmt: skip


def _number(x: Any, name: str) -> jax.Array:
    x = jnp.asarray(x)
    if x.shape != ():
        wrong(f"{name} was called with the whole point.", got=x, slip=f"lambda point: {name}(point[1])")
    return x


@check(
    LESSON,
    "Write u_t = L u + N(u). Linear are the terms that have u in them once: which?",
    "L as a polynomial of d: u_xx is d**2, u_xxx d**3, and r u is r.",
    "N(u) = -c u^2 u_x: lambda u, d: -c * u**2 * d(u)",
    points=2,
)
def wave_reference(rng: np.random.Generator, wave_reference: Any) -> None:
    """Against the method of lines: derivatives by FFT, classical Runge-Kutta steps that are small enough."""
    from course import pde

    answer = function(wave_reference, "wave_reference(domain, initial, a, b, c, r)")
    begin, length = float(rng.uniform(0, 1)), 2 * np.pi
    domain = pde.Box(t=(begin, begin + 0.25), x=(0, length), periodic="x")
    a, b, c, r = rng.uniform([0.06, 0.02, 0.7, 0.5], [0.1, 0.03, 1.0, 0.8])
    p, q = rng.uniform(0.5, 0.8, 2)
    x, times = length * np.arange(64) / 64, begin + np.linspace(0, 0.25, 11)

    def initial(x: Any) -> Any:
        return p * np.sin(x) + q * np.cos(2 * x)

    def d(u: np.ndarray, order: int) -> np.ndarray:
        modes = np.arange(33) * (np.arange(33) < 32)
        return np.fft.irfft((1j * modes) ** order * np.fft.rfft(u), 64)

    def lines(rate: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        u, h, found = initial(x), 0.25 / 300, [initial(x)]
        for n in range(300):
            k1 = rate(u)
            k2 = rate(u + h / 2 * k1)
            k3 = rate(u + h / 2 * k2)
            u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(u + h * k3))
            if n % 30 == 29:
                found.append(u)
        return np.array(found)

    def right(a: float = a, b: float = b, c: float = c, r: float = r, power: int = 2, more: Any = lambda u: 0.0
              ) -> np.ndarray:  # fmt: skip
        with np.errstate(all="ignore"):
            return lines(lambda u: a * d(u, 2) - b * d(u, 3) - c * u**power * d(u, 1) + r * u + more(u))

    found = answer(domain, initial, a, b, c, r)
    if not isinstance(found, pde.Grid):
        slip = "return what pde.etdrk4 returns" if found is None or hasattr(found, "shape") else ""
        wrong("expected a pde.Grid.", got=found, slip=slip)
    if found.names != "tx" or found.values.shape != (11, 64):
        wrong("the grid is another one.", expected=np.zeros((11, 64)), got=found.values, slip="points=64, times=11")
    for got, wanted, name in zip(found.coordinates, (times, x), "tx", strict=True):
        same(got, wanted, f"the coordinates {name}", rtol=1e-6)
    same(
        found.values, right(), "the solution", rtol=1e-3, atol=1e-4,
        slips={
            "the sign of u_xxx: on the right side it is subtracted": lambda: right(b=-b),
            "the sign of u^2 u_x: on the right side it is subtracted": lambda: right(c=-c),
            "the sign of u_xx: friction damps, L has + a d**2 in it": lambda: right(a=-a),
            "u u_x in place of u^2 u_x": lambda: right(power=1),
            "(u^3)_x is 3 u^2 u_x: divide it by 3": lambda: right(c=0.0, more=lambda u: -c * d(u**3, 1)),
            "u^2 u_x is missing": lambda: right(c=0.0),
            "r u is missing": lambda: right(r=0.0),
            "r u stands in both parts": lambda: right(r=2 * r),
            "u_xxx is missing": lambda: right(b=0.0),
            "u_xx is missing": lambda: right(a=0.0),
            "a and b are swapped": lambda: right(a=b, b=a),
        },
    )  # fmt: skip


@check(
    LESSON,
    "Where the network is minus infinity, u should be 0; where it is 0, u may be start.",
    "A product of positive numbers is positive; the factor is 1 at t = 0.",
    "start(point) * jnp.exp(point[0] * network(point))",
    points=2,
)
def concentration(rng: np.random.Generator, concentration: Any) -> None:
    """Start, sign and range of u with networks that are constant, random, or differ in one coordinate."""
    answer = function(concentration, "concentration(network, start)")
    with float64():
        t, x = rng.uniform(0.7, 1.0), rng.uniform(0.5, 1.0)
        p, q = rng.uniform(0.5, 1.0, 2)
        point, begin = jnp.array([t, x]), jnp.array([0.0, x])

        def start(z: Any) -> jax.Array:
            z = jnp.asarray(z)
            if z.shape != (2,):
                wrong("start takes the point (t, x).", got=z, slip="start(point)")
            return 0.5 + p * z[1] ** 2

        def at(where: jax.Array, network: Callable[[jax.Array], jax.Array]) -> float:
            u = function(answer(network, start), "u = concentration(network, start); u(point)")
            value = u(where)
            if not isinstance(value, jax.Array | float | int) or jnp.shape(value) != ():
                wrong("u(point) is no number.", got=value, slip="" if value is not None else "no `return` in u")
            return float(value)

        def constant(level: float) -> Callable[[jax.Array], jax.Array]:
            return lambda z: level + 0 * jnp.asarray(z)[0]

        def some(z: jax.Array) -> jax.Array:
            return jnp.sin(q * z[0] + 2 * z[1]) - 0.3

        s, n0 = float(start(begin)), float(some(begin))
        same(
            at(begin, some), s, "u at t = 0", rtol=1e-6,
            slips={
                "start is missing": 1.0,
                "exp(N) is not 1 at t = 0: the network's factor t stands inside of exp": s * np.exp(n0),
                "exp(N) is not 0 at t = 0; what the network does must vanish there": s + np.exp(n0),
                "softplus(start) is not start: it needs softplus's inverse": np.log1p(np.exp(s)),
                "exp(start) is not start: it needs the logarithm of start": np.exp(s),
                "the network is handed on as it is": n0,
            },
        )  # fmt: skip
        levels = np.array([-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0])
        values = np.array([at(point, constant(level)) for level in levels])
        if not np.isfinite(values).all():
            wrong("u is not finite, with networks that are constants from -8 to 8.", got=values)
        if np.ptp(values) == 0:
            wrong("u does not depend on the network at t > 0.", got=values)
        if (values < 0).any():
            wrong("u is negative with some network.", got=values, slip="start + t N can be anything; exp cannot")
        if (values == 0).any():
            wrong("u is 0 with some network.", got=values, slip="a maximum cuts off, and no gradient comes from there")
        if not (np.all(np.diff(values) > 0) or np.all(np.diff(values) < 0)):
            wrong("two constants as a network give one and the same u.", got=values, slip="an absolute value or a "
                  "square folds, and has a kink or no slope where it does; exp does not")  # fmt: skip
        if values.min() > s / 4:
            wrong("u cannot fall below start, or not far.", expected=s, got=values, slip="what is added to start is "
                  "positive; multiply start instead")  # fmt: skip
        if values.max() < 4 * s:
            wrong("u cannot grow far above start.", expected=s, got=values, slip="a bounded function; exp is none")
        for axis, name in enumerate("tx"):
            here = at(point, some)
            shift = jnp.zeros(2).at[axis].set(0.7)
            there = at(point, lambda z, shift=shift: some(z) + shift @ (jnp.asarray(z) - 0.2))  # type: ignore[misc]
            moved = at(point, lambda z, shift=shift: some(z) + shift @ (point - 0.2))  # type: ignore[misc]
            if abs(there - moved) > 1e-6 * (abs(there) + abs(here)):
                wrong(f"the network is not given {name}.", slip="hand on the whole point, network(point)")


@check(
    LESSON,
    "An unknown is an argument of the residual, after u and the point; solve hands it in by its name.",
    "domain = pde.Box(t=(0, times[-1])), and pde.data takes points (n, 1), not times (n,).",
    "Return pde.Problem(domain, residual, [pde.data(times[:, None], values, weight=10.0)]), {'c': 1.0, 'k': 1.0}.",
    points=3,
)
def spring_from_data(rng: np.random.Generator, spring_from_data: Any) -> None:
    """The residual of random functions with random coefficients, and the gaps to the data, by hand."""
    from course import pde
    from course.pde.conditions import Data

    answer = function(spring_from_data, "spring_from_data(times, values)")
    n, end = int(rng.integers(10, 20)), float(rng.uniform(3, 5))
    times = np.sort(np.append(rng.uniform(0.1, end - 0.1, n - 2), [0.0, end]))
    values = rng.normal(size=n)
    found = answer(times, values)
    if not isinstance(found, list | tuple) or len(found) != 2 or not isinstance(found[0], pde.Problem):
        wrong("expected the pair (problem, unknowns).", got=found)
    problem, unknowns = found
    if not isinstance(unknowns, dict) or set(unknowns) != {"c", "k"}:
        wrong("expected unknowns as a dict with the names c and k.", got=unknowns)
    same({name: float(value) for name, value in unknowns.items()}, {"c": 1.0, "k": 1.0}, "the first guesses")
    if problem.domain.names != "t":
        wrong("expected a domain with one axis, t.", got=problem.domain.names)
    same(
        np.array([*problem.domain.lower, *problem.domain.upper]), np.array([0, end]), "beginning and end of t",
        slips={"the end is the number of measurements, not the last time": np.array([0.0, float(n)])},
    )  # fmt: skip
    if problem.faces:
        slip = "the first value has noise like the others, and all of them are data"
        wrong("something is built in.", got=str(problem.faces[0]), slip=slip)
    a, p, q = rng.uniform(0.5, 1.5, 3)
    c, k, t = (float(z) for z in rng.uniform([1.5, 3.0, 0.5], [2.5, 5.0, 2.5]))

    def u(z: jax.Array) -> jax.Array:
        return a * jnp.sin(p * z[0] + q)

    value, u_t, u_tt = a * np.sin(p * t + q), a * p * np.cos(p * t + q), -a * p**2 * np.sin(p * t + q)
    residual = function(problem.residual, "problem.residual(u, point, c=…, k=…)")
    same(
        residual(u, jnp.array([t], jnp.float32), c=jnp.float32(c), k=jnp.float32(k)), u_tt + c * u_t + k * value,
        "the residual of a random function", rtol=1e-4, atol=1e-4,
        slips={
            "c and k are swapped: c stands with u_t": u_tt + k * u_t + c * value,
            "the guesses are built in; c and k are what residual is called with": u_tt + u_t + value,
            "u_t in place of u_tt": u_t + c * u_t + k * value,
            "k u is missing": u_tt + c * u_t,
            "c u_t is missing": u_tt + k * value,
            "the sign of c u_t": u_tt - c * u_t + k * value,
            "the sign of k u": u_tt + c * u_t - k * value,
            "k squared": u_tt + c * u_t + k**2 * value,
        },
    )  # fmt: skip
    if len(problem.penalties) != 1 or not isinstance(problem.penalties[0], Data):
        wrong("expected one penalty, of pde.data.", got=len(problem.penalties), slip="[pde.data(points, values, ...)]")
    (data,) = problem.penalties
    same(data.weight, 10.0, "the weight of the data")
    order = np.argsort(np.asarray(data.points)[:, 0])
    same(np.asarray(data.points)[order], times[:, None], "the points of the data", rtol=1e-4)
    same(np.asarray(data.values)[order], values, "the values of the data", rtol=1e-4)
