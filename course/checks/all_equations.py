"""Checks of the exercises on a residual with mixed derivatives, a beam's conditions, and a steered value.

Needs NumPy and JAX. Lesson: 20b_all_equations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, same, wrong

LESSON = "20b_all_equations"


@check(
    LESSON,
    "domain.derivatives(u, point, ...) takes one name a derivative, mixed ones too, and gives them back in this order.",
    'The names are those of the axes, in any order: "tx", "xy", "xxxy".',
    'u_x, u_y, u_xx, u_xy, u_tx, u_xxxy = domain.derivatives(u, point, "x", "y", "xx", "xy", "tx", "xxxy")',
    points=2,
)
def breaking_residual(rng: np.random.Generator, breaking_residual: Any) -> None:
    """The residual of the breaking soliton equation over axes in any order, against derivatives by hand."""
    from course import pde  # with optax and tqdm, which no other check needs

    answer = function(breaking_residual, "breaking_residual(domain, u, point)")
    with float64():
        for names in ("txy", "yxt"):
            axes: dict[str, Any] = dict.fromkeys(names, (-1, 1))
            domain = pde.Box(**axes)
            a, r, *k = rng.uniform(0.5, 1.5, (5, 2)) * rng.choice([-1, 1], (5, 2))
            point = rng.uniform(-1, 1, 3)
            waves = np.array(k)  # (3, 2), in the order of the axes

            def u(x: jax.Array, a: Any = a, r: Any = r, waves: Any = waves) -> jax.Array:
                return a @ jnp.sin(x @ waves + r)

            def by_hand(derivative: str, axes: str = names, a: Any = a, r: Any = r, waves: Any = waves,
                        point: Any = point) -> float:  # fmt: skip
                factor = np.prod([waves[axes.index(letter)] for letter in derivative], axis=0)
                return float((a * factor) @ np.sin(point @ waves + r + len(derivative) * np.pi / 2))

            def left(axes: str = names, cross: float = 4.0, bent: float = 2.0, by_hand: Any = by_hand) -> float:
                u_x, u_y, u_xx, u_xy, u_tx, u_xxxy = (by_hand(n, axes) for n in ("x", "y", "xx", "xy", "tx", "xxxy"))
                return u_tx - cross * u_x * u_xy - bent * u_y * u_xx + u_xxxy

            same(
                jax.jit(partial(answer, domain, u))(jnp.asarray(point)), left(),
                f"the residual over the axes {', '.join(names)}", rtol=1e-7, atol=1e-7,
                slips={
                    "the axes are taken by number, as t, x, y; take them by name, domain.derivatives": left("txy"),
                    "4 and 2 are swapped": left(cross=2.0, bent=4.0),
                    "the signs of both products": left(cross=-4.0, bent=-2.0),
                    "the sign of the second product": left(bent=-2.0),
                    "u_x u_xy once, without its factor 4": left(cross=1.0),
                    "u_xxxy is missing": left() - by_hand("xxxy"),
                    "u_xxyy in place of u_xxxy": left() - by_hand("xxxy") + by_hand("xxyy"),
                    "u_xxx in place of u_xxxy": left() - by_hand("xxxy") + by_hand("xxx"),
                    "u_xxxx in place of u_xxxy": left() - by_hand("xxxy") + by_hand("xxxx"),
                    "u_t in place of u_tx": left() - by_hand("tx") + by_hand("t"),
                    "u_ty in place of u_tx": left() - by_hand("tx") + by_hand("ty"),
                    "u u_xx in place of u_y u_xx": left(bent=0.0) - 2 * by_hand("") * by_hand("xx"),
                },
            )  # fmt: skip


@check(
    LESSON,
    "The second derivative in time wants two conditions at t = 0, the fourth in x four, two at each end.",
    "A condition without a weight is built in; its value is a number, or a function of the whole point (t, x).",
    "pde.given(t=0, u=lambda p: shape(p[1])), pde.given(t=0, u_t=lambda p: speed(p[1])), pde.given(x=0, u=0.0), …",
    points=3,
)
def beam_conditions(rng: np.random.Generator, beam_conditions: Any) -> None:
    """Six conditions, built in: met by any network on the faces, and nothing beyond them."""
    from course import pde
    from course.pde.conditions import Face

    answer = function(beam_conditions, "beam_conditions(shape, speed, hand)")
    domain = pde.Box(t=(0, 1), x=(0, 1))
    with float64():
        a, b, c = rng.uniform(0.5, 1.5, 3) * np.array([1, -1, 1])
        w = rng.uniform(1, 2, 2)
        t, x = rng.uniform(0.2, 0.8, 2)

        def bump(x: Any) -> Any:
            return x**2 * (1 - x) ** 2

        def step(x: Any) -> Any:
            return x**2 * (3 - 2 * x)  # from 0 to 1, level at both ends

        def hand(t: Any) -> Any:
            return c * (1 + jnp.sin(t))

        def shape(x: Any) -> Any:
            return c * step(x) + a * bump(x)

        def speed(x: Any) -> Any:
            return c * step(x) + b * bump(x)

        got = answer(shape, speed, hand)
        if not isinstance(got, list | tuple) or not all(isinstance(one, Face) for one in got):
            wrong("expected a list of conditions.", got=got, slip="each is made by pde.given(...)")
        if weighted := [one for one in got if one.weight is not None]:
            slip = "leave weight= out, and the condition is built in"
            wrong(f"a condition is a penalty: {', '.join(map(str, weighted))}.", slip=slip)
        names = {str(one) for one in got}
        wanted = ["u at x = 0", "u_x at x = 0", "u at x = 1", "u_x at x = 1", "u at t = 0", "u_t at t = 0"]
        if lacking := [name for name in wanted if name not in names]:
            slip = "second order in t and fourth in x: two conditions at t = 0, and two at each end of x"
            wrong(f"{', '.join(lacking)}: not given.", expected=", ".join(wanted), got=", ".join(names), slip=slip)
        if surplus := names - set(wanted):
            wrong(f"nothing is known of {', '.join(sorted(surplus))}.", slip="six conditions, and no more")

        def network(z: jax.Array) -> jax.Array:
            return 2 + jnp.sin(w @ z)

        def faces() -> list[jax.Array]:
            u = pde.Problem(domain, lambda u, x: u(x), got).ansatz(network)

            def across(axis: int, *point: float) -> tuple[jax.Array, jax.Array]:
                return jax.jvp(u, (jnp.array(point),), (jnp.eye(2)[axis],))

            return [*across(1, t, 0.0), *across(1, t, 1.0), *across(0, 0.0, x)]

        try:
            found = dict(zip(wanted, jax.jit(faces)(), strict=True))
        except ValueError as error:
            slip = "each is given once, and its function takes the whole point: lambda p: shape(p[1])"
            wrong(f"the conditions cannot be built in: {error}.", slip=slip)
        truth = [0.0, 0.0, hand(t), 0.0, shape(x), speed(x)]
        slips: list[dict[str, Any]] = [
            {"the ends are swapped: the hand holds x = 1": hand(t)},
            {},
            {
                "the end that the hand moves is held still": 0.0,
                "the function is given x; a value gets the whole point, lambda p: hand(p[0])": hand(1.0),
            },
            {"the hand's place, given as the slope": hand(t)},
            {
                "shape and speed are swapped": speed(x),
                "the function is given t; a value gets the whole point, lambda p: shape(p[1])": c * step(x),
            },
            {"shape and speed are swapped": shape(x)},
        ]
        for name, value, its in zip(wanted, truth, slips, strict=True):
            same(found[name], value, name, rtol=1e-8, atol=1e-8, slips=its)


@check(
    LESSON,
    "With v = exp(-control u) the square of the gradient drops out: v solves v_t + lap v = 0, so v is a mean.",
    "u(0, x) = -1 / control ln E exp(-control g(x + sqrt(2 T) Z)), Z standard normal.",
    "exp(-control g) is 0 in float32 where g is large; jax.scipy.special.logsumexp(-control * g) - jnp.log(samples).",
    points=3,
)
def steered_value(rng: np.random.Generator, steered_value: Any) -> None:
    """The value of a steered Brownian motion by Cole and Hopf's transformation, against closed forms and quadrature."""
    usage = "steered_value(g, x, control, horizon, key, samples)"
    answer, samples = function(steered_value, usage), 10**6
    d = int(rng.integers(2, 5))
    slope, x = (rng.uniform(0.3, 0.6, (2, d)) * rng.choice([-1, 1], (2, d))).astype("f")
    slope /= np.linalg.norm(slope)  # exp(-control g) has a deviation of control sqrt(2 horizon), about 1.2
    at, control, horizon = (float(rng.uniform(*ends)) for ends in ((5, 6), (1.3, 1.5), (0.35, 0.45)))
    offset = at - float(slope @ x)

    def g(x: jax.Array) -> jax.Array:
        return jnp.asarray(slope) @ x + offset

    def value(reward: float = control, spread: float = 2.0) -> float:  # in closed form: g is linear
        return at - reward * spread * horizon / 2

    def check_one(got: Any, expected: float, what: str, slips: dict[str, Any]) -> None:
        same(got, expected, what, rtol=0, atol=0.01, slips=slips)  # seven standard errors

    key, other = jax.random.split(jax.random.key(int(rng.integers(1000))))
    drawn = [np.asarray(answer(g, jnp.asarray(x), control, horizon, k, 100)) for k in (key, key, other)]
    if drawn[0].shape != ():
        wrong("the value is no number.", got=drawn[0], slip="the mean over all samples is due")
    if drawn[0] != drawn[1] or drawn[0] == drawn[2]:
        wrong("the samples do not come from the key.", slip="jax.random.normal(key, ...), with the key that is given")
    check_one(
        answer(g, jnp.asarray(x), control, horizon, key, samples), value(), "the value with a linear g",
        {
            "the mean of g, without steering": at,
            "paths of variance T; that of u_t + lap u is 2 T": value(spread=1.0),
            "the deviation is 2 T; that is the variance": value(spread=4 * horizon),
            "the sign: exp(-control g), and minus the logarithm": value(-control),
            "not divided by control": control * value(),
            "the control is missing in the exponent": value(1.0) / control,
            "the sign of the logarithm": -value(),
            "the mean is missing: subtract ln(samples) within the logarithm": value() - np.log(samples) / control,
            "exp(-control u), not u": np.exp(-control * value()),
        },
    )  # fmt: skip
    nodes, masses = np.polynomial.hermite_e.hermegauss(80)
    ends = float(x[0]) + np.sqrt(2 * horizon) * nodes
    bent = np.log((1 + ends**2) / 2)
    expected = -np.log(masses @ np.exp(-control * bent) / masses.sum()) / control
    got = answer(lambda x: jnp.log((1 + x @ x) / 2), jnp.asarray(x[:1]), control, horizon, key, samples)
    check_one(got, expected, "the value with g = ln((1 + x^2) / 2)", {})
    far = answer(lambda x: g(x) + 200, jnp.asarray(x), control, horizon, key, samples)
    if not np.isfinite(np.asarray(far)).all():
        slip = "exp(-400) is 0 in float32, and its logarithm is no number; use jax.scipy.special.logsumexp"
        wrong("the value is not finite where g is near 200.", expected=200 + value(), got=far, slip=slip)
    check_one(far, 200 + value(), "the value where g is near 200", {})
