"""An equation of one's own: domain, conditions, networks, the loss and its optimizer, and the slips."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from course import pde, plots
from course.pde.gauss_newton import Part

KEY = jax.random.key(0)
PI = np.pi
BOX = pde.Box(t=(0, 1), x=(-1, 1))
RING = pde.Box(t=(0, 2), x=(0, 3), periodic={"x": 2})


def wave(p):
    return jnp.sin(p[0]) * jnp.exp(p[1])


def heat(u, x):
    u_t, u_xx = BOX.derivatives(u, x, "t", "xx")
    return u_t - u_xx


def exact_heat(p):
    return jnp.exp(-(PI**2) / 4 * p[0]) * jnp.cos(PI / 2 * p[1])


INITIAL = pde.given(t=0, u=lambda p: jnp.cos(PI / 2 * p[1]))
ENDS = [pde.given(x=-1, u=0.0), pde.given(x=1, u=0.0)]
HEAT = pde.Problem(BOX, heat, [INITIAL, *ENDS], reference=exact_heat)


def any_network(z):
    return jnp.sin(3 * z @ jnp.arange(1.0, len(z) + 1)) + 2


# --- domain --------------------------------------------------------------------------------------------------------


def test_derivatives_have_the_names_of_axes(x64):
    p = jnp.array([0.3, -0.2])
    found = BOX.derivatives(wave, p, "", "t", "x", "xx", "tt", "txx", "xxxx")
    s, c, e = np.sin(0.3), np.cos(0.3), np.exp(-0.2)
    np.testing.assert_allclose(found, [s * e, c * e, s * e, s * e, -s * e, c * e, s * e], rtol=1e-12)
    np.testing.assert_allclose(BOX.derivatives(wave, p, "")[0], s * e, rtol=1e-12)
    np.testing.assert_allclose(BOX.derivatives(wave, p, "tx", "")[1], s * e, rtol=1e-12)


def test_features_are_periodic_with_their_derivatives(x64):
    assert (BOX.inputs, RING.inputs) == (2, 5)
    p = jnp.array([0.5, 0.4])
    np.testing.assert_allclose(BOX.features(p), [0.0, 0.4], atol=1e-12)
    shift = jnp.array([0.0, 3.0])
    f = lambda p: any_network(RING.features(p))  # noqa: E731
    for name in ("", "x", "xx"):
        here, there = (RING.derivatives(f, at, name)[0] for at in (p, p + shift))
        assert float(here) == pytest.approx(float(there), rel=1e-10)


# --- conditions ----------------------------------------------------------------------------------------------------


def built(domain, *conditions):
    problem = pde.Problem(domain, lambda u, x: u(x), conditions)
    problem.check()
    return problem.ansatz(any_network)


def test_values_on_faces_are_built_in(x64):
    """Of a function of three variables, given at the start and on four faces."""
    box = pde.Box(t=(1, 2), x=(-2, 2), y=(0, 3))

    def f(p):
        return jnp.sin(p[0] + p[1]) * p[2] + p[1] ** 2

    faces = [
        pde.given(t=1, u=f),
        *(pde.given(u=f, **{axis: at}) for axis, at in zip("xxyy", (-2, 2, 0, 3), strict=True)),
    ]
    u = built(box, *faces)
    for p in box.sample(KEY, 3):
        for axis, at in [(0, 1.0), (1, -2.0), (1, 2.0), (2, 0.0), (2, 3.0)]:
            face = p.at[axis].set(at)
            assert float(u(face)) == pytest.approx(float(f(face)), abs=1e-12)
        assert abs(float(u(p)) - float(f(p))) > 1e-3


def test_slopes_are_built_in_beside_values(x64):
    """A wave equation's start; and a plate clamped at one end, whose slope at the other is given."""
    u = built(BOX, pde.given(t=0, u=wave), pde.given(t=0, u_t=lambda p: jnp.exp(p[1])))
    p = jnp.array([0.0, 0.3])
    np.testing.assert_allclose(BOX.derivatives(u, p, "", "t"), [wave(p), np.exp(0.3)], atol=1e-12)
    u = built(pde.Box(x=(0, 2)), pde.given(x=0, u=1.0), pde.given(x=0, u_x=-2.0), pde.given(x=2, u=3.0))
    values = [pde.Box(x=(0, 2)).derivatives(u, jnp.array([at]), "", "x") for at in (0.0, 2.0)]
    np.testing.assert_allclose([*values[0], values[1][0]], [1, -2, 3], atol=1e-12)


def test_the_factor_is_of_size_one():
    problem = pde.Problem(pde.Box(x=(2, 8), y=(0, 1)), lambda u, x: u(x), [
        pde.given(x=2, u=0.0), pde.given(x=8, u=0.0), pde.given(x=8, u_x=0.0), pde.given(y=0, u=0.0)])  # fmt: skip
    factor = problem.ansatz(lambda z: jnp.ones(()))
    x = jnp.stack(jnp.meshgrid(jnp.linspace(2, 8, 201), jnp.linspace(0, 1, 21)), axis=-1).reshape(-1, 2)
    assert float(abs(jax.vmap(factor)(x)).max()) == pytest.approx(1, abs=1e-3)


def test_penalties_are_mean_squares():
    """Of a value, of a slope, of another condition, and of data; at the exact solution they are zero."""
    at = BOX.sample(KEY, 40)
    conditions = [
        pde.given(t=0, u=lambda p: jnp.cos(PI / 2 * p[1]), weight=3.0),
        pde.given(x=0.0, u_x=0.0, weight=2.0),
        pde.given(x=1, residual=lambda u, p: BOX.derivatives(u, p, "x")[0] + PI / 2 * jnp.exp(-(PI**2) / 4 * p[0]),
                  weight=5.0),
        pde.data(at, jax.vmap(exact_heat)(at), weight=7.0),
    ]  # fmt: skip
    problem = pde.Problem(BOX, heat, conditions, reference=exact_heat)
    loss = pde.Loss(
        problem, lambda params, z: params["by"] + exact_heat((z + jnp.array([1.0, 0.0])) * jnp.array([0.5, 1])), 100
    )
    right = {"network": {"by": jnp.float32(0.0)}, "unknowns": {}}
    assert float(loss(right, KEY)) < 1e-9
    off = {"network": {"by": jnp.float32(0.5)}, "unknowns": {}}
    assert float(loss(off, KEY)) == pytest.approx(0.25 * (3 + 7), rel=1e-4)  # slopes and the equation see no constant


# --- networks ------------------------------------------------------------------------------------------------------


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(16)(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(2, 16, rngs=rngs), nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.tanh(self.first(x)))


def plain(params, x):
    return jnp.tanh(x @ params["first"] + params["bias"]) @ params["last"]


PLAIN = {"first": jax.random.normal(KEY, (2, 16)), "bias": jnp.linspace(-1, 1, 16), "last": jnp.ones(16) / 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        Linen(),
        (plain, PLAIN),
        pde.Mlp(16, 2),
        pde.ModifiedMlp(16, 2),
        pde.FourierFeatures(pde.Mlp(16, 1), 8, 1.0),
        "nnx",
    ],
    ids=lambda network: type(network).__name__,
)
def test_any_callable_is_a_network(network):
    network = Nnx(nnx.Rngs(0)) if network == "nnx" else network
    solution = pde.solve(HEAT, network, KEY, steps=40, points=64, progress=False)
    assert solution.error < 2e-2
    assert solution.losses.shape == (40,) and solution.losses[-1] < 1e-2 * solution.losses[0]
    assert list(solution.errors) == list(range(2, 41, 2))


def test_a_natural_gradient_solves_too():
    step = pde.NaturalGradient(damping=1e-3)
    solution = pde.solve(HEAT, pde.Mlp(16, 2), KEY, steps=40, points=64, optimizer=step, progress=False)
    assert solution.error < 2e-2


def test_fourier_features_stay_and_a_modified_mlp_mixes():
    x = jnp.array([0.3, -0.7])
    network = pde.FourierFeatures(pde.Mlp(8, 1), features=4)
    params = network.init(KEY, x)
    assert not jnp.any(jax.grad(network.apply)(params, x)["frequencies"])
    modified = pde.ModifiedMlp(8, 1)
    params = modified.init(KEY, x)
    params["layers"][-1] = (jnp.ones((8, 1)), jnp.zeros(1))
    (w1, b1), (w2, b2) = params["encoders"]
    w, b = params["layers"][0]
    z = jnp.tanh(x @ w + b)
    expected = ((1 - z) * jnp.tanh(x @ w1 + b1) + z * jnp.tanh(x @ w2 + b2)).sum()
    np.testing.assert_allclose(modified.apply(params, x), expected, rtol=1e-6)


# --- loss and optimizers -------------------------------------------------------------------------------------------


def line_parts(params, key):
    """u = a x + b through three points, one of them counted fourfold."""
    x, y = jnp.array([0.0, 1.0, 2.0]), jnp.array([1.0, 2.0, 5.0])
    return [Part(lambda params, one: params["a"] * one[0] + params["b"] - one[1], (x, y), jnp.array([1.0, 4.0, 1.0]))]


@pytest.mark.parametrize("more", [0, 5])
def test_gauss_newton_solves_linear_least_squares_in_a_step(x64, more):
    """With fewer residuals than parameters and with more, against NumPy."""
    optimizer = pde.gauss_newton(damping=1e-9, least=1e-9)
    params = {"a": jnp.zeros(()), "b": jnp.zeros(()), "idle": jnp.zeros(more)}
    updates, state = optimizer.update(None, optimizer.init(params), params, parts=line_parts(params, KEY))
    a, b = np.polyfit([0, 1, 2], [1, 2, 5], 1, w=[1, 2, 1])
    np.testing.assert_allclose([updates["a"], updates["b"]], [a, b], rtol=1e-5)
    assert not updates["idle"].any() and float(state.damping) == pytest.approx(1e-9)


def test_gauss_newton_goes_back_where_a_step_is_too_long():
    """atan has its root at 0; Newton's step from 3 overshoots, and so on to infinity."""
    optimizer, params = pde.gauss_newton(1e-4), {"x": jnp.float32(3.0)}
    state, sizes = optimizer.init(params), []
    for _ in range(8):
        parts = [Part(lambda params, _: jnp.arctan(params["x"]), jnp.zeros(1), jnp.ones(()))]
        updates, state = optimizer.update(None, state, params, parts=parts)
        params = optax.apply_updates(params, updates)
        sizes.append(abs(float(params["x"])))
    assert sizes[0] < 3 and sizes[-1] < 1e-3


def test_without_a_step_that_helps_the_damping_is_raised():
    """x^2 + 1 at 0: no gradient, a matrix of zeros that cannot be factored; nothing moves, and nothing is NaN."""
    optimizer, params = pde.gauss_newton(1e-3), {"x": jnp.zeros(())}
    parts = [Part(lambda params, _: params["x"] ** 2 + 1, jnp.zeros(2), jnp.ones(()))]
    updates, state = optimizer.update(None, optimizer.init(params), params, parts=parts)
    assert updates["x"] == 0 and float(state.damping) == pytest.approx(2e-3)


def test_a_gradient_that_is_not_finite_is_for_the_trainer_to_report():
    problem = pde.Problem(pde.Box(x=(0, 1)), lambda u, x: jnp.sqrt(u(x)) + x[0])
    loss = pde.Loss(problem, lambda params, z: params["a"] * (z[0] - z[0]), 8)
    optimizer = pde.gauss_newton()
    state = pde.start({"network": {"a": jnp.ones(())}, "unknowns": {}}, optimizer, KEY)
    with pytest.raises(pde.DivergedError):
        pde.train(loss, optimizer, state, 2)


@pytest.mark.slow
def test_other_optimizers_and_going_on_from_a_solution():
    rough = pde.solve(HEAT, pde.Mlp(16, 2), KEY, steps=300, points=64, progress=False,
                      optimizer=optax.adam(optax.exponential_decay(1e-2, 100, 0.5)))  # fmt: skip
    fine = pde.solve(HEAT, rough, KEY, steps=60, points=256, fixed=True, optimizer=optax.lbfgs(), progress=False)
    assert fine.error < rough.error < 0.1
    assert float(rough.losses[-1]) > 0  # `rough` is still there


@pytest.mark.slow
def test_candidates_are_taken_where_the_residual_is_large():
    def peak(u, x):
        return jnp.where(x[1] > 0.8, 10.0, 0.01) + 0 * u(x)

    problem = pde.Problem(BOX, peak, [INITIAL])
    params = {"network": {"by": jnp.ones(())}, "unknowns": {}}
    losses = [pde.Loss(problem, lambda params, z: params["by"], 400, candidates=c) for c in (1, 8)]
    shares = [float((loss.parts(params, KEY)[0].batch[:, 1] > 0.8).mean()) for loss in losses]
    assert shares[0] < 0.2 and shares[1] > 0.4


def test_causal_weights_wait_for_the_earlier_times():
    """The residual is 2 up to t = 1/2, then 0.1: weights fall like exp(-c 4 k) over the first 8 pieces, then stay."""
    problem = pde.Problem(BOX, lambda u, x: jnp.where(x[0] < 0.5, 2.0, 0.1) + 0 * u(x), [INITIAL])
    loss = pde.Loss(problem, lambda params, z: params["by"], 800, causal=0.25)
    (part,) = loss.parts({"network": {"by": jnp.ones(())}, "unknowns": {}}, KEY)
    piece = np.minimum((16 * np.asarray(part.batch[:, 0])).astype(int), 15)
    before = 4.0 * np.minimum(piece, 8) + 0.01 * np.maximum(piece - 8, 0)
    np.testing.assert_allclose(part.weight * 800, np.exp(-0.25 * before), rtol=1e-4)


@pytest.mark.slow
def test_a_coefficient_is_found_from_data():
    """u_t = k u_xx with k = 1: from 30 values."""

    def residual(u, x, k):
        u_t, u_xx = BOX.derivatives(u, x, "t", "xx")
        return u_t - k * u_xx

    at = BOX.sample(KEY, 30)
    problem = pde.Problem(BOX, residual, [INITIAL, *ENDS, pde.data(at, jax.vmap(exact_heat)(at), weight=10.0)])
    solution = pde.solve(problem, pde.Mlp(16, 2), KEY, steps=80, points=64, unknowns={"k": 0.3}, progress=False)
    assert solution.unknowns["k"] == pytest.approx(1, abs=1e-2) and solution.error is None


@pytest.mark.slow
def test_an_equation_of_the_course_is_solved_alike():
    equation = pde.ball_equation("poisson", 3, KEY)
    solution = pde.solve(equation, pde.Mlp(16, 2), KEY, steps=40, points=128, progress=False)
    assert solution.error == pytest.approx(pde.relative_l2(equation, solution, KEY).relative_l2, rel=0.3)
    assert solution.error < 0.1


# --- solutions -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved():
    times, x = np.linspace(0, 1, 11), np.linspace(-1, 1, 21)
    values = np.exp(-(PI**2) / 4 * times)[:, None] * np.cos(PI / 2 * x)
    problem = pde.Problem(BOX, heat, [INITIAL, *ENDS], reference=pde.Grid(values, t=times, x=x))
    return pde.solve(problem, pde.Mlp(8, 1), KEY, steps=5, points=32, progress=False)


def test_a_solution_is_compared_on_the_grid_of_its_reference(solved):
    grid = solved.grid()
    assert grid.values.shape == (11, 21) and solved.exact() is solved.problem.reference
    error = np.linalg.norm(grid.values - solved.exact().values) / np.linalg.norm(solved.exact().values)
    assert solved.error == pytest.approx(error, rel=1e-4)
    assert pde.relative_l2(solved.problem, solved).relative_l2 == pytest.approx(error, rel=1e-4)
    p = jnp.array([grid.coordinates[0][3], grid.coordinates[1][4]])
    assert float(solved(p)) == pytest.approx(grid.values[3, 4], abs=1e-6)


@pytest.mark.parametrize("kind", [np.array, jnp.array, list, tuple])
@pytest.mark.parametrize("box", [pde.Box(t=(0, 1.5), x=(-1.5, 1.5)), pde.Box(t=(0, 1.5), x=(-1.5, 1.5), periodic="x")])
def test_a_solution_takes_whole_numbers_and_what_is_no_array_of_jax(box, kind):
    problem = pde.Problem(box, heat, pde.given(t=0.5, u=lambda x: jnp.cos(x[1])))
    network = lambda z: z.sum()  # noqa: E731
    solution = pde.Solution(problem, problem.ansatz(network), None, {}, None, {}, 0.0)
    at_one = solution(jnp.array([1.0, 1.0]))
    assert at_one == solution(kind([1, 1])) == solution(kind([1.0, 1.0]))
    np.testing.assert_array_equal(box.features(jnp.array([1, 1])), box.features(jnp.array([1.0, 1.0])))


def test_a_picture_of_a_solution(solved):
    figure = plots.solution(solved)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "u" and titles[1].startswith("Error, relative L2") and "Loss" in titles
    plots.plt.close(figure)


def test_on_a_grid_without_a_reference_and_with_a_function(solved):
    from dataclasses import replace

    alone = replace(solved, problem=pde.Problem(BOX, heat, [INITIAL, *ENDS]))
    assert alone.grid(5).values.shape == (5, 5) and alone.exact() is None
    named = replace(solved, problem=HEAT).exact(5)
    np.testing.assert_allclose(named.values[0], np.cos(PI / 2 * np.linspace(-1, 1, 5)), atol=1e-6)


# --- slips ---------------------------------------------------------------------------------------------------------


def solve(residual=heat, conditions=(INITIAL, *ENDS), network=None, domain=BOX, **more):
    names = {name: more.pop(name) for name in ("reference", "ansatz") if name in more}
    problem = pde.Problem(domain, residual, conditions, **names)
    return pde.solve(problem, network or pde.Mlp(8, 1), KEY, steps=2, points=16, progress=False, **more)


SOME = (lambda params, z: params["a"] * z[:3].sum(), {"a": jnp.ones(())})
SLIPS = {
    "residual, a vector": (lambda: solve(lambda u, x: jax.grad(u)(x)), "residual of shape () at a point, got (2,)"),
    "residual of a batch": (lambda: HEAT.residual(exact_heat, jnp.zeros((5, 2))), "(5, 2); wrap the call in jax"),
    "derivatives at a batch": (lambda: BOX.derivatives(wave, jnp.zeros((5, 2)), "t"), "wrap the call in jax.vmap"),
    "point too long": (lambda: BOX.derivatives(wave, jnp.zeros(3), "t"), "its coordinates are t, x"),
    "an unknown derivative": (lambda: BOX.derivatives(wave, jnp.zeros(2), "xz"), "among ['t', 'x'], got 'z'"),
    "an ansatz that ignores x": (
        lambda: solve(conditions=(), ansatz=lambda network: lambda x: jnp.cos(x[1]) + x[0] * network(jnp.zeros(2))),
        "expected the ansatz to depend on all 2 numbers that it is given, got one that ignores number [0, 1]",
    ),
    "a network that ignores x": (
        lambda: solve(network=(lambda params, z: params["a"] * z[0], {"a": jnp.ones(())})),
        "expected the network to depend on all 2 numbers that it is given, got one that ignores number [1]",
    ),
    "a network that ignores a harmonic": (
        lambda: solve(domain=RING, conditions=(), network=SOME),
        "expected the network to depend on all 5 numbers that it is given, got one that ignores number [3, 4]",
    ),
    "NaN": (lambda: solve(lambda u, x: jnp.sqrt(-1 - x[0]) + u(x)), "expected a finite residual, got nan at ["),
    "reference on another grid": (
        lambda: pde.Problem(BOX, heat, reference=pde.Grid(np.zeros((2, 2)), x=[0, 1], t=[0, 1])),
        "name them in this order",
    ),
    "condition on an unknown axis": (lambda: pde.Problem(BOX, heat, [pde.given(z=0, u=1.0)]), "got 'z'"),
    "condition outside": (lambda: pde.Problem(BOX, heat, [pde.given(t=-1, u=1.0)]), "inside of Box(t=(0, 1)"),
    "an unknown condition": (lambda: pde.given(x=1, flux=0.0), "got the unknown flux"),
    "an unknown letter": (lambda: pde.given(x=1, v=0.0), "or its slope, got ['x', 'v']"),
    "a derivative along the face": (lambda: pde.given(x=1, u_t=0.0), "a derivative across the face, u_x"),
    "no face": (lambda: pde.given(u=0.0), "expected one face and u"),
    "two faces": (lambda: pde.given(t=0, x=1, u=0.0), "got ['t', 'x', 'u']"),
    "nothing given": (lambda: pde.given(t=0), "expected u, one derivative"),
    "residual without weight": (lambda: pde.given(t=0, residual=heat), "expected a weight"),
    "weight below zero": (lambda: pde.given(t=0, u=0.0, weight=-1.0), "expected a weight > 0"),
    "causal weights below zero": (lambda: solve(causal=-1.0), "causal >= 0"),
    "causal weights without time": (
        lambda: pde.solve(pde.Problem(pde.Box(x=(0, 1)), lambda u, x: u(x)), pde.Mlp(), KEY, steps=1, causal=1.0),
        "where t is the first axis",
    ),
    "a grid that is not sorted": (lambda: pde.Grid(np.zeros(3), x=[0, 2, 1]), "rising coordinates of x"),
    "values at coordinates of one axis": (
        lambda: pde.Solution(HEAT, None, None, {}, None, {}, 0.0).values(np.zeros(5)),
        "expected points (..., 2), got (5,)",
    ),
    "a march to go on from": (
        lambda: solve(network=pde.Solution(HEAT, None, None, {"held": 0}, None, {}, 0.0)),
        "got one of pde.march",
    ),
    "an NNX module that draws": (
        lambda: solve(network=nnx.Sequential(Nnx(nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))),
        "one that changes when it is called",
    ),
    "data of another dimension": (lambda: solve(conditions=[pde.data(np.zeros((3, 3)), np.zeros(3))]), "points (n, 2)"),
    "data and points of two lengths": (lambda: pde.data(np.zeros((3, 2)), np.zeros(2)), "values (n,)"),
    "data that is missing": (lambda: pde.data(np.zeros((1, 2)), [np.nan]), "leave missing values out"),
    "unknowns that nobody names": (lambda: solve(lambda u, x, k: u(x)), "first guesses"),
    "a network of two outputs": (lambda: solve(network=(lambda params, z: params * z, jnp.ones(2))), "() or (1,)"),
    "arguments of a residual, swapped": (lambda: solve(lambda x, u: BOX.derivatives(u, x, "t")[0]), "called as (u, x)"),
    "values and axes of a grid, swapped": (
        lambda: pde.Grid(np.zeros((3, 2)), x=[0, 1], t=[0, 1, 2]), "transpose them, or swap the names",
    ),
    "bounds in the wrong order": (lambda: pde.Box(x=(1, 0)), "bounds (lower, upper) of x"),
    "an axis of two letters": (lambda: pde.Box(time=(0, 1)), "names of one letter"),
    "an unknown periodic axis": (lambda: pde.Box(x=(0, 1), periodic="y"), "got ['y']"),
    "a solution at a batch": (
        lambda: pde.Solution(HEAT, None, None, {}, None, {}, 0.0)(jnp.zeros((3, 2))),
        "got (3, 2); take solution.values(x)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_say_what_is_wrong(slip):
    call, message = SLIPS[slip]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_what_is_no_condition_and_no_network():
    with pytest.raises(TypeError, match=r"expected conditions from .*, got tuple"):
        pde.Problem(BOX, heat, [("t", 0)])
    with pytest.raises(TypeError, match="expected a network"):
        solve(network=[1])
    with pytest.raises(TypeError, match="got the class Mlp; call it"):
        solve(network=pde.Mlp)
    with pytest.raises(TypeError, match=r"name the axes of an array: Grid"):
        pde.Problem(BOX, heat, reference=np.zeros((3, 3)))
    with pytest.raises(TypeError, match="expected an open Run, got str"):
        solve(run="folder")


def test_errors_inside_a_residual_are_its_own():
    def helper(a, b):
        return a + b

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        solve(lambda u, x: helper(u(x)))


def test_a_solution_says_in_a_line_what_it_is():
    solution = pde.Solution(HEAT, None, None, {}, np.zeros(3), {3: 0.012}, 4.0)
    assert repr(solution) == "Solution(3 steps in 4 s, relative L2 1.2e-02)"


def test_data_on_a_periodic_axis_may_lie_in_another_period():
    pde.Problem(RING, heat, [pde.data([[1.0, 7.0]], [0.0])])


def test_a_solution_brings_its_unknowns_along():
    """Going on with another coefficient to be found keeps those that are known."""
    at = BOX.sample(KEY, 8)

    def residual(u, x, k, more=0.0):
        u_t, u_xx = BOX.derivatives(u, x, "t", "xx")
        return u_t - k * u_xx - more

    problem = pde.Problem(BOX, residual, [INITIAL, *ENDS, pde.data(at, jax.vmap(exact_heat)(at))])
    first = pde.solve(problem, pde.Mlp(4, 1), KEY, steps=1, points=8, unknowns={"k": 0.5}, progress=False)
    second = pde.solve(problem, first, KEY, steps=1, points=8, unknowns={"more": 0.1}, progress=False)
    assert set(second.unknowns) == {"k", "more"} and abs(second.unknowns["k"] - first.unknowns["k"]) < 0.5


@pytest.mark.parametrize("domain", [pde.Box(t=(0, 2)), pde.Box(x=(0, 1), y=(0, 1), z=(0, 1))], ids=str)
def test_one_axis_and_three(domain):
    """u = exp(-t), and a source that makes u = sin sin sin."""
    one = domain.dimension == 1

    def residual(u, x):
        if one:
            return sum(domain.derivatives(u, x, "t", ""))
        return sum(domain.derivatives(u, x, "xx", "yy", "zz")) + 3 * PI**2 * jnp.sin(PI * x).prod()

    faces = [pde.given(t=0, u=1.0)] if one else [pde.given(u=0.0, **{a: e}) for a in "xyz" for e in (0, 1)]
    problem = pde.Problem(
        domain, residual, faces, reference=lambda x: jnp.exp(-x[0]) if one else jnp.sin(PI * x).prod()
    )
    solution = pde.solve(problem, pde.Mlp(8, 1), KEY, steps=20, points=64, progress=False)
    assert solution.error < 2e-2 and solution.grid(5).values.shape == (5,) * domain.dimension
