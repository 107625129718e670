"""Waves over a box: residuals against nested derivatives, conditions on the faces, in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course import pde
from course.checks.core import operations
from course.pde.conditions import built_in

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(1)
KP, ZK, SINE_GORDON, KS = pde.kp_equation(), pde.zk_equation(), pde.sine_gordon_equation(), pde.ks_equation()
WAVES = {"KP": KP, "ZK": ZK, "sine-Gordon": SINE_GORDON, "KS": KS}
ENDS = ("lower", "upper")
named = pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "KP")) for n in WAVES])


def network(x):
    return jnp.sin(jnp.arange(1.0, len(x) + 1) @ x) + 1.5


def along(f, axis):
    return lambda x: jax.jvp(f, (x,), (jnp.eye(len(x))[axis],))[1]


def d(f, *axes):
    """Nested derivatives along numbered coordinates."""
    for axis in axes:
        f = along(f, axis)
    return f


def kp(u):
    inner = lambda x: d(u, 0)(x) + 6 * u(x) * d(u, 1)(x) + d(u, 1, 1, 1)(x)  # noqa: E731
    return lambda x: d(inner, 1)(x) + 3 * d(u, 2, 2)(x)


def zk(u):
    laplacian = lambda x: d(u, 1, 1)(x) + d(u, 2, 2)(x)  # noqa: E731
    return lambda x: d(u, 0)(x) + u(x) * d(u, 1)(x) + d(laplacian, 1)(x)


BY_DEFINITION = {
    "KP": kp,
    "ZK": zk,
    "sine-Gordon": lambda u: lambda x: d(u, 0, 1)(x) - jnp.sin(u(x)),
    "KS": lambda u: lambda x: d(u, 0)(x) + u(x) * d(u, 1)(x) + d(u, 1, 1)(x) + d(u, 1, 1, 1, 1)(x),
}


@named
def test_residuals_are_those_of_the_equation_and_vanish_for_the_solution(name):
    equation = WAVES[name]

    @jax.jit
    @jax.vmap
    def three(x):
        residuals = [equation.residual(u, x) for u in (equation.solution, network)]
        return *residuals, BY_DEFINITION[name](network)(x), equation.solution(x)

    left, of_any, wanted, size = three(equation.sample(KEY, 20))
    np.testing.assert_allclose(left, 0, atol=3e-14 * abs(size).max())
    np.testing.assert_allclose(of_any, wanted, rtol=1e-11, atol=1e-11)


@named
def test_what_is_known_on_the_faces_is_built_in(name):
    """Values, and slopes where the order of the equation wants them; elsewhere the network is free."""
    equation = WAVES[name]
    u, known = equation.ansatz(network), {"KP": {1: "both"}, "ZK": {1: "upper"}, "KS": {1: "both"}}.get(name, {})
    open_ends = {(0, "upper")} | ({(1, "upper")} if name == "sine-Gordon" else set())

    @jax.jit
    @jax.vmap
    def gap_and_slope(x, along):
        return jax.jvp(lambda x: u(x) - equation.solution(x), (x,), (along,))

    points, axes = equation.sample(KEY, 4), range(equation.dimension)
    places = [(axis, end, points.at[:, axis].set(getattr(equation.domain, end)[axis])) for axis in axes for end in ENDS]
    directions = jnp.repeat(jnp.eye(equation.dimension), 2 * len(points), axis=0)
    found = gap_and_slope(jnp.concatenate([each for *_, each in places]), directions)
    for (axis, end, _), gap, slope in zip(places, *(np.split(each, len(places)) for each in found), strict=True):
        assert (abs(gap).max() < 1e-12) == ((axis, end) not in open_ends), (axis, end)
        assert (abs(slope).max() < 1e-11) == (known.get(axis) in (end, "both")), (axis, end)


@named
def test_what_multiplies_the_network_is_of_size_one(name):
    equation = WAVES[name]
    change = jax.jit(jax.vmap(lambda x: equation.ansatz(lambda z: 1.0)(x) - equation.ansatz(lambda z: 0.0)(x)))
    found = change(equation.sample(KEY, 2000))
    assert 0.5 < found.max() <= 1 and found.min() > 0


def test_the_waves_are_where_their_descriptions_say():
    at = lambda equation, *x: float(equation.solution(jnp.array(x)))  # noqa: E731
    for t in (0.0, 0.5):
        assert at(KP, t, 4 * t, 20.0) == pytest.approx(2)  # the stem
        assert at(KP, t, 4 * t + 20, -20.0) == at(KP, t, 4 * t - 20, -20.0) == pytest.approx(0.5)  # two arms
        assert at(KP, t, 4 * t, 0.0) == pytest.approx(4 / 3)  # where they meet
    assert at(ZK, 1.0, 1.08 / 0.6, 0.0) == pytest.approx(12 * 0.45)
    for t, x, turns in ((-8.0, 15.0, 1), (-8.0, 90.0, 0), (8.0, -15.0, -1), (0.0, 0.0, 0)):  # between them, and outside
        assert at(SINE_GORDON, t, x) == pytest.approx(2 * np.pi * turns, abs=0.01)
    height = 30 / 19 * (11 / 19) ** 0.5
    assert [at(KS, 2.0, x) for x in (-60.0, 2.0, 60.0)] == pytest.approx([1 - height, 1, 1 + height])


@pytest.mark.parametrize("known", [(1, 0), (0, 2), (1, 1), (2, 1), (2, 2)])
def test_a_polynomial_of_the_degree_that_the_ends_fix_is_carried_whole(known):
    domain = pde.Box(t=(0, 1), x=(-1, 3))
    f = lambda x: x[0] * sum((k + 1) * x[1] ** k for k in range(sum(known)))  # noqa: E731
    lift, factor = built_in(domain, pde.conditions_of(f, domain, x=known))
    for y in (-0.5, 1.2):
        x = jnp.array([0.7, y])
        np.testing.assert_allclose(lift(x), f(x), rtol=1e-12, atol=1e-14)
    line = jax.vmap(lambda y: factor(jnp.array([0.7, y])))(jnp.linspace(-1, 3, 1001))
    assert line.max() == pytest.approx(1, abs=1e-5)


def test_the_ansatz_never_looks_inside():
    """A function that is only defined on three faces of a square, and a face that nothing is known on."""

    def f(x):
        on_a_face = (x[0] == 0) | (x[1] == -1) | (x[1] == 1)
        return jnp.where(on_a_face, jnp.cos(x[0]) + x[1] ** 3, jnp.nan)

    domain = pde.Box(t=(0, 2), x=(-1, 1))
    residual = lambda u, x: u(x)  # noqa: E731
    u = pde.Problem(domain, residual, pde.conditions_of(f, domain, t=(1, 0), x=(1, 1))).ansatz(network)
    inside = jnp.array([0.5, 0.3])
    assert jnp.isfinite(u(inside))
    for x in ([0.0, 0.3], [0.5, -1.0], [0.5, 1.0]):
        np.testing.assert_allclose(u(jnp.array(x)), np.cos(x[0]) + x[1] ** 3, rtol=1e-12)
    free = pde.Problem(domain, residual, pde.conditions_of(f, domain, x=(0, 0))).ansatz(network)
    np.testing.assert_allclose(free(inside), network(jnp.array([-0.5, 0.3])), rtol=1e-12)  # sees (-1, 1)


def test_the_lift_of_a_shared_function_is_that_of_its_conditions_one_by_one():
    """The same values with a smaller program: copies of f for the axes, not for corners, edges and faces."""
    domain, known = pde.Box(t=(0, 1), x=(-1, 3), y=(0, 2)), {"t": (1, 0), "x": (2, 1), "y": (1, 1)}
    faces = pde.conditions_of(lambda x: jnp.sin(x @ jnp.array([1.0, 0.7, -1.3])) * x[1], domain, **known)
    apart = [replace(face, equals=lambda x, face=face: face.equals(x)) for face in faces]
    shared, one_by_one = (built_in(domain, each)[0] for each in (faces, apart))
    points = domain.sample(KEY, 20)
    np.testing.assert_allclose(jax.vmap(shared)(points), jax.vmap(one_by_one)(points), rtol=1e-11, atol=1e-12)
    few, many = (sum(operations(lift, points[0]).values()) for lift in (shared, one_by_one))
    assert few < 0.6 * many
