"""Answers to the exercises of 20b_all_equations."""

import jax
import jax.numpy as jnp
import numpy as np

from course import pde
from tests.answers import right, wrong


def breaking(first=4.0, second=2.0, last="xxxy", rate="tx", second_of="y"):
    def residual(domain, u, point):
        names = "x", second_of, "xx", "xy", rate, last
        u_x, u_y, u_xx, u_xy, u_tx, u_xxxy = domain.derivatives(u, point, *names)
        return u_tx - first * u_x * u_xy - second * u_y * u_xx + u_xxxy

    return residual


def nested(number):
    """By jax.grad; `number` says which coordinate is which."""

    def residual(domain, u, point):
        def d(f, name):
            return lambda p: jax.grad(f)(p)[number(domain, name)]

        u_x, u_y = d(u, "x"), d(u, "y")
        u_xx, u_xy = d(u_x, "x"), d(u_x, "y")
        u_xxxy = d(d(u_xx, "x"), "y")
        return (d(u_x, "t")(point) - 4 * u_x(point) * u_xy(point) - 2 * u_y(point) * u_xx(point)) + u_xxxy(point)

    return residual


wrong("breaking_residual", "by number")(nested(lambda domain, name: "txy".index(name)))
wrong("breaking_residual", "4 and 2 are swapped")(breaking(2.0, 4.0))
wrong("breaking_residual", "the signs of both products")(breaking(-4.0, -2.0))
wrong("breaking_residual", "the sign of the second product")(breaking(second=-2.0))
wrong("breaking_residual", "without its factor 4")(breaking(first=1.0))
wrong("breaking_residual", "u_xxyy in place of u_xxxy")(breaking(last="xxyy"))
wrong("breaking_residual", "u_xxx in place of u_xxxy")(breaking(last="xxx"))
wrong("breaking_residual", "u_xxxx in place of u_xxxy")(breaking(last="xxxx"))
wrong("breaking_residual", "u_t in place of u_tx")(breaking(rate="t"))
wrong("breaking_residual", "u_ty in place of u_tx")(breaking(rate="ty"))
wrong("breaking_residual", "u u_xx in place of u_y u_xx")(breaking(second_of=""))
wrong("breaking_residual", "another shape")(lambda domain, u, point: jax.grad(u)(point))
wrong("breaking_residual", "expected an axis among")(breaking(last="xxxz"))
wrong("breaking_residual", "None")(lambda domain, u, point: None)


@wrong("breaking_residual", "u_xxxy is missing")
def third_order(domain, u, point):
    return breaking()(domain, u, point) - domain.derivatives(u, point, "xxxy")[0]


right("breaking_residual")(breaking())
right("breaking_residual")(nested(lambda domain, name: domain.axis(name)))


def given(at_start=("u", "u_t"), left=("u", "u_x"), right_end=("u", "u_x"), weight=None, place=1, time=0):
    """The six, or others."""

    def conditions(shape, speed, hand):
        start = {"u": lambda p: shape(p[place]), "u_t": lambda p: speed(p[place])}
        held = {"u": lambda p: hand(p[time]), "u_x": 0.0, "u_xx": 0.0}
        return [
            *[pde.given(t=0, weight=weight, **{name: start[name]}) for name in at_start],
            *[pde.given(x=0, weight=weight, **{name: 0.0}) for name in left],
            *[pde.given(x=1, weight=weight, **{name: held[name]}) for name in right_end],
        ]

    return conditions


@wrong("beam_conditions", "shape and speed are swapped")
def swapped(shape, speed, hand):
    return given()(lambda x: speed(x), lambda x: shape(x), hand)


@wrong("beam_conditions", "the ends are swapped")
def ends_swapped(shape, speed, hand):
    first = given(left=(), right_end=())(shape, speed, hand)
    held = [pde.given(x=0, u=lambda p: hand(p[0])), pde.given(x=0, u_x=0.0), pde.given(x=1, u=0.0)]
    return [*first, *held, pde.given(x=1, u_x=0.0)]


@wrong("beam_conditions", "scalar field")
def functions_of_a_number(shape, speed, hand):
    walls = [pde.given(x=0, u=0.0), pde.given(x=0, u_x=0.0), pde.given(x=1, u=hand), pde.given(x=1, u_x=0.0)]
    return [pde.given(t=0, u=shape), pde.given(t=0, u_t=speed), *walls]


@wrong("beam_conditions", "expected a list of conditions")
def as_dicts(shape, speed, hand):
    return [{"t": 0, "u": shape}, {"t": 0, "u_t": speed}]


wrong("beam_conditions", "u_t at t = 0: not given")(given(at_start=("u",)))
wrong("beam_conditions", "u_x at x = 0: not given")(given(left=("u",)))
wrong("beam_conditions", "u_x at x = 1: not given")(given(right_end=("u",)))
wrong("beam_conditions", "nothing is known of u_xx at x = 1")(given(right_end=("u", "u_x", "u_xx")))
wrong("beam_conditions", "is a penalty")(given(weight=1.0))
wrong("beam_conditions", "is given t")(given(place=0))
wrong("beam_conditions", "is given x")(given(time=1))
wrong("beam_conditions", "expected a list")(lambda shape, speed, hand: None)
right("beam_conditions")(given())


@right("beam_conditions")
def in_another_order(shape, speed, hand):
    walls = [pde.given(x=x, **{name: 0.0}) for x, name in ((1, "u_x"), (0, "u_x"), (0, "u"))]
    moved = pde.given(x=1, u=lambda point: hand(point[0]) * 1.0)
    return (*walls, moved, pde.given(t=0, u_t=lambda p: speed(p[1])), pde.given(t=0, u=lambda p: shape(p[1])))


def steered(deviation=lambda T: (2 * T) ** 0.5, of=lambda g, c: jnp.log(jnp.exp(-c * g).mean()) / -c):
    def value(g, x, control, horizon, key, samples):
        ends = x + deviation(horizon) * jax.random.normal(key, (samples, len(x)))
        return of(jax.vmap(g)(ends), control)

    return value


def stable(g, c):
    least = g.min()
    return least - jnp.log(jnp.exp(-c * (g - least)).mean()) / c


wrong("steered_value", "logsumexp")(steered())
wrong("steered_value", "without steering")(steered(of=lambda g, c: g.mean()))
wrong("steered_value", "paths of variance T")(steered(lambda T: T**0.5, stable))
wrong("steered_value", "the deviation is 2 T")(steered(lambda T: 2 * T, stable))
wrong("steered_value", "not divided by control")(steered(of=lambda g, c: c * stable(g, c)))
wrong("steered_value", "the control is missing in the exponent")(steered(of=lambda g, c: stable(g, 1.0) / c))
wrong("steered_value", "the sign: exp(-control g)")(steered(of=lambda g, c: stable(g, -c)))
wrong("steered_value", "the sign of the logarithm")(steered(of=lambda g, c: -stable(g, c)))
wrong("steered_value", "subtract ln(samples)")(steered(of=lambda g, c: -jax.scipy.special.logsumexp(-c * g) / c))
wrong("steered_value", "exp(-control u), not u")(steered(of=lambda g, c: jnp.exp(-c * stable(g, c))))
wrong("steered_value", "is no number")(steered(of=lambda g, c: -jnp.log(jnp.exp(-c * g)) / c))


@wrong("steered_value", "do not come from the key")
def a_key_of_its_own(g, x, control, horizon, key, samples):
    return steered(of=stable)(g, x, control, horizon, jax.random.key(0), samples)


@wrong("steered_value", "do not come from the key")
def numpy_normals(g, x, control, horizon, key, samples):
    ends = x + jnp.sqrt(2 * horizon) * jnp.float32(np.random.default_rng().normal(size=(samples, len(x))))
    return stable(jax.vmap(g)(ends), control)


right("steered_value")(steered(of=stable))


@right("steered_value")
def with_logsumexp(g, x, control, horizon, key, samples):
    z = (2 * horizon) ** 0.5 * jax.random.normal(key, (samples, *x.shape))
    weights = jnp.full(samples, 1 / samples)
    return -jax.nn.logsumexp(jax.vmap(lambda z: -control * g(x + z))(z), b=weights) / control
