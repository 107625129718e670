"""Answers to the exercises of 21_your_own_equation."""

import jax
import jax.numpy as jnp
import numpy as np

from course import pde
from tests.answers import right, wrong

# --- a residual ----------------------------------------------------------------------------------------------------


def spreading(of):
    def residual(domain, u, point, w, a, b, r):
        terms = domain.derivatives(u, point, "", "t", "x", "xx", "yy", "xy")
        return of(*terms, w, a, b, r)

    return residual


@wrong("spreading_residual", "coordinates by their place")
def by_place(domain, u, point, w, a, b, r):
    slope, bend, value = jax.grad(u)(point), jax.hessian(u)(point), u(point)
    growth = r * value * (1 - value)
    return slope[0] + w * slope[1] - a * (bend[1, 1] + bend[2, 2]) - b * bend[1, 2] - growth


wrong("spreading_residual", "u_xy is missing")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: t + w * x - a * (xx + yy) - r * u * (1 - u))
)
wrong("spreading_residual", "u_yy is missing")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: t + w * x - a * xx - b * xy - r * u * (1 - u))
)
wrong("spreading_residual", "growth without its limit")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: t + w * x - a * (xx + yy) - b * xy - r * u)
)
wrong("spreading_residual", "the sign of the growth")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: t + w * x - a * (xx + yy) - b * xy + r * u * (1 - u))
)
wrong("spreading_residual", "the sign of the wind")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: t - w * x - a * (xx + yy) - b * xy - r * u * (1 - u))
)
wrong("spreading_residual", "the sign of what spreads")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: t + w * x + a * (xx + yy) + b * xy - r * u * (1 - u))
)
wrong("spreading_residual", "the sign")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: a * (xx + yy) + b * xy + r * u * (1 - u) - t - w * x)
)
wrong("spreading_residual", "u_t is missing")(
    spreading(lambda u, t, x, xx, yy, xy, w, a, b, r: w * x - a * (xx + yy) - b * xy - r * u * (1 - u))
)
wrong("spreading_residual", "domain.derivatives returns a list")(
    lambda domain, u, point, w, a, b, r: domain.derivatives(lambda z: spreading_on(domain, u, z, w, a, b, r), point, "")
)
wrong("spreading_residual", "another shape")(lambda domain, u, point, w, a, b, r: jax.grad(u)(point))


def spreading_on(domain, u, point, w, a, b, r):
    def at(name):
        return domain.names.index(name)

    slope, bend, value = jax.grad(u)(point), jax.hessian(u)(point), u(point)
    spread = a * bend[at("x"), at("x")] + a * bend[at("y"), at("y")] + b * bend[at("x"), at("y")]
    return slope[at("t")] + w * slope[at("x")] - spread - r * value * (1 - value)


right("spreading_residual")(spreading_on)


@right("spreading_residual")
def name_by_name(domain, u, point, w, a, b, r):
    (u_t,), (u_x,) = domain.derivatives(u, point, "t"), domain.derivatives(u, point, "x")
    (right_side,) = domain.derivatives(lambda z: a * u(z), point, "xx")
    right_side += a * domain.derivatives(u, point, "yy")[0] + b * domain.derivatives(u, point, "yx")[0]
    return u_t + w * u_x - right_side - r * (u(point) - u(point) ** 2)


# --- conditions ----------------------------------------------------------------------------------------------------


def string(at_right=None, start=None, slope=None, left=None):
    """The list, with one of the conditions replaced; None in its place leaves it out."""

    def conditions(domain, shape, speed, k, weight):
        def spring(u, point):
            return jax.grad(u)(point)[1] + k * u(point)

        found = [
            pde.given(t=0, u=lambda point: shape(point[1])) if start is None else start(shape, speed),
            pde.given(t=0, u_t=lambda point: speed(point[1])) if slope is None else slope(shape, speed),
            pde.given(x=0, u=0.0) if left is None else left(weight),
            pde.given(x=1, residual=spring, weight=weight) if at_right is None else at_right(domain, k, weight),
        ]
        return [each for each in found if each]

    return conditions


def spring_of(of):
    return string(
        lambda domain, k, weight: pde.given(
            x=1, weight=weight, residual=lambda u, p: of(*domain.derivatives(u, p, "", "t", "x"), k)
        )
    )


wrong("string_conditions", "the sign: u_x + k u")(spring_of(lambda u, u_t, u_x, k: u_x - k * u))
wrong("string_conditions", "k stands with u")(spring_of(lambda u, u_t, u_x, k: k * u_x + u))
wrong("string_conditions", "u_t in place of u_x")(spring_of(lambda u, u_t, u_x, k: u_t + k * u))
wrong("string_conditions", "u_x alone")(
    string(lambda domain, k, weight: pde.given(x=1, u_x=0.0, weight=weight))
)  # fmt: skip
wrong("string_conditions", "u alone")(string(lambda domain, k, weight: pde.given(x=1, u=0.0, weight=weight)))
wrong("string_conditions", "more is built in than is given")(string(lambda domain, k, weight: pde.given(x=1, u=0.0)))
wrong("string_conditions", "needs a weight: given(x=1")(string(lambda domain, k, weight: pde.given(x=1, u_x=0.0)))
wrong("string_conditions", "nothing is given at x = 1")(string(lambda domain, k, weight: False))
wrong("string_conditions", "the left end")(
    string(lambda domain, k, weight: pde.given(x=0, weight=weight, residual=lambda u, p: jax.grad(u)(p)[1] + k * u(p)))
)
wrong("string_conditions", "the weight: it is another one")(
    string(lambda domain, k, weight: pde.given(x=1, weight=1.0, residual=lambda u, p: jax.grad(u)(p)[1] + k * u(p)))
)
wrong("string_conditions", "expected a weight with residual=")(
    string(lambda domain, k, weight: pde.given(x=1, residual=lambda u, p: jax.grad(u)(p)[1] + k * u(p)))
)
wrong("string_conditions", "expected a residual of shape ()")(
    string(lambda domain, k, weight: pde.given(x=1, weight=weight, residual=lambda u, p: jax.grad(u)(p) + k * u(p)))
)
wrong("string_conditions", "u_t at t = 0 is not given")(string(slope=lambda shape, speed: False))
wrong("string_conditions", "u at x = 0 is a penalty")(string(left=lambda weight: pde.given(x=0, u=0.0, weight=weight)))
wrong("string_conditions", "shape was called with the whole point")(
    string(start=lambda shape, speed: pde.given(t=0, u=shape))
)
wrong("string_conditions", "shape of the time")(
    string(start=lambda shape, speed: pde.given(t=0, u=lambda point: shape(point[0])))
)
wrong("string_conditions", "shape and speed are swapped")(
    string(
        lambda domain, k, weight: pde.given(x=1, weight=weight, residual=lambda u, p: jax.grad(u)(p)[1] + k * u(p)),
        lambda shape, speed: pde.given(t=0, u=lambda point: speed(point[1])),
        lambda shape, speed: pde.given(t=0, u_t=lambda point: shape(point[1])),
    )
)
right("string_conditions")(string())


@right("string_conditions")
def in_another_order(domain, shape, speed, k, weight):
    return (
        pde.given(
            x=1.0, weight=weight, residual=lambda u, p: sum(domain.derivatives(lambda z: u(z), p, "x")) + u(p) * k
        ),
        pde.given(x=0.0, u=lambda p: 0 * p[0]),
        pde.given(t=0.0, u_t=lambda p: speed(p[1])),
        pde.given(t=0.0, u=lambda p: shape(p[1])),
    )


# --- a reference ---------------------------------------------------------------------------------------------------


def waves(linear, nonlinear, **sizes):
    def reference(domain, initial, a, b, c, r):
        return pde.etdrk4(
            domain, initial, lambda d: linear(d, a, b, r), lambda u, d: nonlinear(u, d, c, r),
            **{"points": 64, "times": 11} | sizes,
        )  # fmt: skip

    return reference


def linear(d, a, b, r):
    return a * d**2 - b * d**3 + r


def advection(u, d, c, r):
    return -c * u**2 * d(u)


wrong("wave_reference", "the sign of u_xxx")(waves(lambda d, a, b, r: a * d**2 + b * d**3 + r, advection))
wrong("wave_reference", "the sign of u^2 u_x")(waves(linear, lambda u, d, c, r: c * u**2 * d(u)))
wrong("wave_reference", "u u_x in place of")(waves(linear, lambda u, d, c, r: -c * u * d(u)))
wrong("wave_reference", "divide it by 3")(waves(linear, lambda u, d, c, r: -c * d(u**3)))
wrong("wave_reference", "u^2 u_x is missing")(waves(linear, lambda u, d, c, r: 0 * u))
wrong("wave_reference", "r u is missing")(waves(lambda d, a, b, r: a * d**2 - b * d**3, advection))
wrong("wave_reference", "r u stands in both parts")(waves(linear, lambda u, d, c, r: r * u - c * u**2 * d(u)))
wrong("wave_reference", "a and b are swapped")(waves(lambda d, a, b, r: b * d**2 - a * d**3 + r, advection))
wrong("wave_reference", "points=64, times=11")(waves(linear, advection, points=128))
wrong("wave_reference", "return what pde.etdrk4 returns")(
    lambda *problem: waves(linear, advection)(*problem).values
)  # fmt: skip
wrong("wave_reference", "the sign of u_xx")(waves(lambda d, a, b, r: -a * d**2 - b * d**3 + r, advection))


@right("wave_reference")
def conservative(domain, initial, a, b, c, r):
    return pde.etdrk4(
        domain, initial, lambda d: d * d * (a - b * d), lambda u, d: r * u - c / 3 * d(u**3), points=64, times=11,
        steps=40,
    )  # fmt: skip


@right("wave_reference")
def explicit_wind(domain, initial, a, b, c, r):
    """Friction among the nonlinear terms: right, with steps that are small enough."""
    return pde.etdrk4(
        domain, initial, lambda d: -b * d**3, lambda u, d: a * d(d(u)) + r * u - c * u * u * d(u), points=64, times=11,
        steps=50,
    )  # fmt: skip


# --- an ansatz -----------------------------------------------------------------------------------------------------


def density(of):
    return lambda network, start: lambda point: of(network, start(point), point)


wrong("concentration", "the network is not given t")(
    density(lambda N, s, p: s * jnp.exp(p[0] * N(jnp.array([0.0, p[1]]))))
)
wrong("concentration", "the network is not given x")(
    density(lambda N, s, p: s * jnp.exp(p[0] * N(jnp.array([p[0], 0.0]))))
)
wrong("concentration", "u cannot fall below start")(density(lambda N, s, p: s + p[0] * jnp.exp(N(p))))
wrong("concentration", "folds")(density(lambda N, s, p: s + p[0] * N(p) ** 2))
wrong("concentration", "folds")(density(lambda N, s, p: abs(s + p[0] * N(p))))
wrong("concentration", "a maximum cuts off")(density(lambda N, s, p: jnp.maximum(s + p[0] * N(p), 0)))
wrong("concentration", "u is negative with some network")(density(lambda N, s, p: s + p[0] * N(p)))
wrong("concentration", "stands inside of exp")(density(lambda N, s, p: s * jnp.exp(N(p))))
wrong("concentration", "must vanish there")(density(lambda N, s, p: s + jnp.exp(N(p))))
wrong("concentration", "start is missing")(density(lambda N, s, p: jnp.exp(p[0] * N(p))))
wrong("concentration", "softplus's inverse")(density(lambda N, s, p: jax.nn.softplus(s + p[0] * N(p))))
wrong("concentration", "a bounded function")(density(lambda N, s, p: s * 2 * jax.nn.sigmoid(p[0] * N(p))))
wrong("concentration", "does not depend on the network")(density(lambda N, s, p: s + 0 * p[0]))
wrong("concentration", "u(point) is no number")(lambda network, start: lambda point: None)
right("concentration")(density(lambda N, s, p: jnp.exp(jnp.log(s) + p[0] * N(p))))
right("concentration")(density(lambda N, s, p: jax.nn.softplus(jnp.log(jnp.expm1(s)) + jnp.sin(p[0]) * N(p))))
right("concentration")(density(lambda N, s, p: s * jnp.exp(-jnp.tanh(p[0]) * N(p))))


# --- coefficients from data ----------------------------------------------------------------------------------------


def spring(of=lambda u, u_t, u_tt, c, k: u_tt + c * u_t + k * u, end=None, conditions=None, guesses=None):
    def problem(times, values):
        domain = pde.Box(t=(0, times[-1] if end is None else end(times)))

        def residual(u, point, c, k):
            return of(*domain.derivatives(u, point, "", "t", "tt"), c, k)

        data = [pde.data(times[:, None], values, weight=10.0)] if conditions is None else conditions(times, values)
        return pde.Problem(domain, residual, data), {"c": 1.0, "k": 1.0} if guesses is None else guesses

    return problem


wrong("spring_from_data", "c and k are swapped")(spring(lambda u, u_t, u_tt, c, k: u_tt + k * u_t + c * u))
wrong("spring_from_data", "the guesses are built in")(spring(lambda u, u_t, u_tt, c, k: u_tt + u_t + u))
wrong("spring_from_data", "u_t in place of u_tt")(spring(lambda u, u_t, u_tt, c, k: u_t + c * u_t + k * u))
wrong("spring_from_data", "the sign of c u_t")(spring(lambda u, u_t, u_tt, c, k: u_tt - c * u_t + k * u))
wrong("spring_from_data", "the sign of k u")(spring(lambda u, u_t, u_tt, c, k: u_tt + c * u_t - k * u))
wrong("spring_from_data", "expected data inside of")(spring(end=lambda times: 1.0))
wrong("spring_from_data", "the number of measurements")(spring(end=len))
wrong("spring_from_data", "expected points (n, d)")(
    spring(conditions=lambda times, values: [pde.data(times, values, weight=10.0)])
)
wrong("spring_from_data", "the weight of the data")(
    spring(conditions=lambda times, values: [pde.data(times[:, None], values)])
)
wrong("spring_from_data", "all of them are data")(
    spring(
        conditions=lambda times, values: [
            pde.given(t=0, u=float(values[0])), pde.data(times[1:, None], values[1:], weight=10.0)
        ]
    )
)  # fmt: skip
wrong("spring_from_data", "expected one penalty, of pde.data")(spring(conditions=lambda times, values: []))
wrong("spring_from_data", "the values of the data")(
    spring(conditions=lambda times, values: [pde.data(times[:, None], times, weight=10.0)])
)
wrong("spring_from_data", "with the names c and k")(spring(guesses={"k": 1.0}))
wrong("spring_from_data", "the pair (problem, unknowns)")(lambda times, values: spring()(times, values)[0])


@wrong("spring_from_data", "it is called as problem.residual")
def without_unknowns(times, values):
    domain, (c, k) = pde.Box(t=(0, times[-1])), (1.0, 1.0)

    def residual(u, point):
        value, u_t, u_tt = domain.derivatives(u, point, "", "t", "tt")
        return u_tt + c * u_t + k * value

    return pde.Problem(domain, residual, [pde.data(times[:, None], values, weight=10.0)]), {"c": c, "k": k}


right("spring_from_data")(spring())


@right("spring_from_data")
def by_nested_gradients(times, values):
    def residual(u, point, k, c):
        def of_time(t):
            return u(point.at[0].set(t))

        first = jax.grad(of_time)
        return jax.grad(first)(point[0]) + c * first(point[0]) + k * u(point)

    mixed = np.random.default_rng(0).permutation(len(times))
    data = pde.data(jnp.stack([times[mixed]], axis=-1), list(values[mixed]), 10)
    return [pde.Problem(pde.Box(t=(0.0, float(times.max()))), residual, (data,)), dict(k=1, c=1)]
