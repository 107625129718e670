"""Equations against nested derivatives in float64; the trainer: exact, resumable, careful."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from course import pde
from course.pde import ball

KEY = jax.random.key(1)
BALLS = [(kind, body) for kind in pde.NONLINEAR for body in pde.BODIES]
BOXES = [pde.heat_equation(3), pde.kdv_equation(), pde.kdv_2d_equation(), pde.plate_equation()]
MOSTLY_QUICK = [pytest.param(e, marks=[pytest.mark.slow] * (e.name == "KdV 2-D"), id=e.name) for e in BOXES]


def network(x):
    return jnp.sin(jnp.arange(1.0, len(x) + 1) @ x) + 1.5


def by_axis(f, axis):
    return lambda x: jax.grad(f)(x)[axis]


def derivative(f, *axes):
    """Nested grad along numbered coordinates."""
    for axis in axes:
        f = by_axis(f, axis)
    return f


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "body"), BALLS)
def test_sources_in_the_ball(x64, kind, body):
    """At four points of different radii: source, residual of the solution, residual of any network."""
    equation = pde.ball_equation(kind, 6, KEY, body)

    @jax.jit
    @jax.vmap
    def both(x):
        def by_nested_grad(u):
            return jnp.trace(jax.hessian(u)(x)) + pde.NONLINEAR[kind](u(x))

        wanted = (by_nested_grad(equation.ansatz(network)) - equation.source(x)) / equation.source_rms
        return (
            (equation.source(x), by_nested_grad(equation.solution)),
            (equation.residual_of(equation.exact(x), x), 0.0),
            (equation.residual(equation.ansatz(network), x), wanted),
            (equation.network_residual(network, x), wanted),
            (equation.network_residual(network, x, KEY, samples=6), wanted),
        )

    for got, expected in both(equation.sample(KEY, 4)):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("equation", MOSTLY_QUICK)
def test_residuals_vanish_for_the_solution(x64, equation):
    residuals = jax.jit(jax.vmap(lambda x: equation.residual(equation.solution, x)))(equation.sample(KEY, 5))
    np.testing.assert_allclose(residuals, 0, atol=1e-12)


def kdv_by_grad(u, x):
    return derivative(u, 0)(x) + 6 * u(x) * derivative(u, 1)(x) + derivative(u, 1, 1, 1)(x)


def kdv_2d_by_grad(u, x):
    cross = lambda x: derivative(u, 1)(x) * derivative(u, 2)(x)  # noqa: E731
    return (
        derivative(u, 0, 2)(x)
        + derivative(u, 1, 1, 1, 2)(x)
        + 3 * derivative(cross, 1)(x)
        - derivative(u, 1, 1)(x)
        + 2 * derivative(u, 2, 2)(x)
    )


def plate_by_grad(u, x):
    lap = lambda x: jnp.trace(jax.hessian(u)(x))  # noqa: E731
    g = jnp.trace(jax.hessian(lambda x: jnp.trace(jax.hessian(BOXES[3].solution)(x)))(x))
    return (jnp.trace(jax.hessian(lap)(x)) - g) / (80**0.5 * jnp.pi**4)


def heat_by_grad(u, x):
    def left(u):
        return jax.grad(u)(x)[0] - jnp.trace(jax.hessian(u)(x)[1:, 1:]) - (1 - u(x) ** 2) / (1 + u(x) ** 2)

    return left(u) - left(BOXES[0].solution)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("equation", "by_grad"),
    list(zip(BOXES, [heat_by_grad, kdv_by_grad, kdv_2d_by_grad, plate_by_grad], strict=True)),
    ids=lambda value: getattr(value, "name", ""),
)
def test_residuals_of_any_function(x64, equation, by_grad):
    x = equation.sample(KEY, 3)
    got = jax.jit(jax.vmap(lambda x: equation.residual(network, x)))(x)
    np.testing.assert_allclose(got, jax.jit(jax.vmap(lambda x: by_grad(network, x)))(x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("equation", MOSTLY_QUICK)
def test_boundary_and_initial_values_are_built_in(x64, equation):
    u = equation.ansatz(network)
    for x in equation.sample(KEY, 3):
        sides = [x.at[axis].set(v) for axis in range(len(x)) for v in (equation.lower[axis], equation.upper[axis])]
        if equation.name.startswith("heat"):  # a ball: start, and surface
            sides = [sides[0], x.at[1:].set(x[1:] / jnp.linalg.norm(x[1:]))]
        elif equation.name != "plate":
            del sides[1]  # the end of time is what is sought
        for side in sides:
            # the soliton's tails at the ends of the interval are 5e-5 and left out
            assert float(u(side)) == pytest.approx(
                float(equation.solution(side)), abs=6e-5 if equation.name == "KdV" else 1e-12
            )
            if equation.name == "plate":
                assert jnp.linalg.norm(jax.grad(u)(side)) < 1e-11


@pytest.mark.slow
def test_points_lie_where_they_should():
    points = pde.sample_ball(KEY, 4000, 3)
    radius = np.linalg.norm(points, axis=1)
    assert radius.max() <= 1 and abs(radius.mean() - 0.5) < 0.03
    assert np.abs((points / radius[:, None]).mean(axis=0)).max() < 0.05
    assert np.abs(np.cov((points / radius[:, None]).T) - np.eye(3) / 3).max() < 0.03
    box = pde.sample_box(KEY, 1000, (0.0, -2.0), (1.0, 2.0))
    assert box.shape == (1000, 2) and (box >= jnp.array([0.0, -2.0])).all() and (box <= jnp.array([1.0, 2.0])).all()


@pytest.mark.slow
def test_points_are_independent():
    """Neighbours in a batch agree no more than chance lets them, nor do halves of a row that share random words."""
    n, d = 2000, 50
    points = np.asarray(pde.sample_ball(KEY, n, d), float)
    along = points.sum(axis=1) / np.linalg.norm(points, axis=1)  # of variance 1 for a uniform direction
    assert abs(along.var() - 1) < 0.15  # five standard errors, sqrt(2 / n)
    for shift in (1, 2, 10):
        assert abs(np.corrcoef(along[:-shift], along[shift:])[0, 1]) < 4 / n**0.5
    correlations = np.corrcoef(points.T)[np.triu_indices(d, 1)]
    assert abs(correlations).max() < 5 / n**0.5
    means = np.array([pde.sample_ball(k, 100, d).sum(axis=1).mean() for k in jax.random.split(KEY, 200)])
    one = np.asarray(pde.sample_ball(KEY, 20_000, d).sum(axis=1)).var()
    assert means.var() == pytest.approx(one / 100, rel=0.5)  # windows of one row had 96 times this


@pytest.mark.slow
def test_points_of_odd_dimension_and_in_float64(x64):
    points = pde.sample_ball(KEY, 3, 7)
    assert points.shape == (3, 7) and points.dtype == jnp.float64 and jnp.isfinite(points).all()


def test_polynomials_for_sine_and_cosine():
    z = jnp.linspace(-2.2, 2.2, 10001)
    for got, exact in zip(ball._sin_cos(z), (np.sin(np.float64(z)), np.cos(np.float64(z))), strict=True):
        assert abs(got - exact).max() < 2.5e-7
        assert abs((got - exact)[z > 2.1].mean()) < 5e-8  # rounding alone; a term too few would lean to one side
    assert " sin" not in str(jax.make_jaxpr(ball._sin_cos)(z))  # XLA's own are slow


def test_only_in_float32_are_sine_and_cosine_polynomials(x64):
    for got, exact in zip(ball._sin_cos(jnp.float64(2.1)), (np.sin(2.1), np.cos(2.1)), strict=True):
        assert float(got) == pytest.approx(exact, rel=1e-14)
    assert " sin" in str(jax.make_jaxpr(ball._sin_cos)(jnp.float16(2.1)))


def test_boxes_have_the_corners_that_their_equations_say():
    assert {e.name: (e.dimension, e.lower, e.upper) for e in BOXES} == {
        "heat, d=3": (4, (0.0, -1.0, -1.0, -1.0), (1.0, 1.0, 1.0, 1.0)),
        "KdV": (2, (0.0, -6.0), (1.0, 10.0)),
        "KdV 2-D": (3, (0.0, -2.0, -2.0), (1.0, 2.0, 2.0)),
        "plate": (2, (0.0, 0.0), (1.0, 1.0)),
    }


LATER = np.exp(-0.5)


@pytest.mark.parametrize(
    ("equation", "point", "solution", "start", "factor"),
    [
        (BOXES[0], (0.5, 0.6, 0.0, -0.4), LATER * 5 / 11.04, 5 / 11.04 + (LATER - 1) * 5 / 12, 0.5 * 0.48),
        (BOXES[1], (0.5, 1.0), 2 / np.cosh(1.0) ** 2, 2 / np.cosh(1.0) ** 2, 0.5 * 7 * 9**2 / 600),
        (BOXES[1], (0.25, 2.0), 2 / np.cosh(1.0) ** 2, 2 / np.cosh(2.0) ** 2, 0.25 * 8 * 8**2 / 600),
        (BOXES[2], (0.5, 1.0, -2.0), np.tanh(-1.0), np.tanh(-1.0), 0.0),
        (BOXES[2], (0.0, 1.0, 0.4), np.tanh(0.7), np.tanh(0.7), 0.0),
        (BOXES[3], (0.2, 0.5), np.sin(0.2 * np.pi) ** 2, 0.0, (16 * 0.2 * 0.8 * 0.25) ** 2),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_solutions_and_ansatz_as_their_equations_say(equation, point, solution, start, factor):
    """The ansatz is a function that is known, and a factor times the network."""
    x = jnp.array(point)
    np.testing.assert_allclose(equation.solution(x), solution, rtol=1e-5)
    np.testing.assert_allclose(equation.ansatz(lambda z: 0.0)(x), start, rtol=1e-5)
    np.testing.assert_allclose(equation.ansatz(lambda z: 3.0)(x), start + 3 * factor, rtol=1e-5, atol=1e-6)


def test_what_multiplies_a_network_in_two_dimensions_of_kdv():
    u, x = BOXES[2].ansatz, jnp.array([0.5, 1.0, -0.5])
    np.testing.assert_allclose(u(lambda z: 3.0)(x) - u(lambda z: 1.0)(x), 0.5 * 3 * 3.75 / 16 * 2, rtol=1e-5)


def test_a_network_sees_coordinates_from_minus_one_to_one():
    plate, kdv = pde.plate_equation(), pde.kdv_equation()
    assert (plate.lower, plate.upper) == ((0, 0), (1, 1))
    for equation in (plate, kdv):
        corners = jnp.array([equation.lower, equation.upper, np.add(equation.lower, equation.upper) / 2])
        np.testing.assert_allclose(jax.vmap(equation.unit)(corners), np.outer([-1, 1, 0], [1, 1]), atol=1e-6)


@pytest.mark.slow
def test_an_equation_cannot_be_changed_and_waves_see_larger_coordinates():
    waves = pde.ball_equation("poisson", 100, KEY, "waves")
    x = waves.sample(KEY, 3)
    np.testing.assert_allclose(jax.vmap(waves.best_constant)(x), 1 - (x**2).sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(waves.unit(x), 10 * x, rtol=1e-6)
    assert jnp.linalg.norm(waves.coefficients) == pytest.approx(10, rel=1e-6)
    two_body = pde.ball_equation("poisson", 100, KEY)
    np.testing.assert_array_equal(two_body.unit(x), x)
    assert abs(jnp.linalg.norm(two_body.coefficients) - 10) > 0.01  # normal numbers, of any length
    for equation in (waves, pde.plate_equation()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            equation.dimension = 3


@pytest.mark.slow
@pytest.mark.parametrize("equation", [pde.kdv_equation(1.0), pde.kdv_equation(50.0), *BOXES[2:]], ids=lambda e: e.name)
def test_what_multiplies_a_network_is_of_size_one(equation):
    points = equation.sample(KEY, 400)
    change = jax.vmap(equation.ansatz(lambda x: 1.0))(points) - jax.vmap(equation.ansatz(lambda x: 0.0))(points)
    assert 0.4 < abs(change).max() < 1.5


def test_the_source_is_measured_on_64_megabytes_of_points_at_a_time(monkeypatch):
    class Seen(Exception):
        pass

    def seen(key, n, d):
        raise Seen(n)

    monkeypatch.setattr(ball, "sample_ball", seen)
    for d, n in ((3, 256), (10**5, 167), (2**25, 1)):
        with pytest.raises(Seen) as caught:
            jax.eval_shape(lambda key, d=d: pde.ball_equation("poisson", d, key), KEY)
        assert caught.value.args == (n,)


@pytest.mark.slow
@pytest.mark.parametrize("d", [6, 7])
def test_directions_from_extreme_random_words_are_finite_and_opposite(monkeypatch, d):
    """16 bits for each coordinate, all of them 0 or all of them 1."""
    shapes = []

    def bits(word):
        return lambda key, shape, dtype: shapes.append(shape) or jnp.full(shape, word, dtype)

    points = []
    for word in (0, 2**32 - 1):
        monkeypatch.setattr(jax.random, "bits", bits(word))
        points.append(pde.sample_ball(KEY, 2, d))
    assert jnp.isfinite(points[0]).all() and set(shapes) == {(2, (d + 1) // 2)}
    np.testing.assert_array_equal(points[0], -points[1])


@pytest.mark.slow
def test_the_network_is_a_tanh_network():
    params = pde.init_mlp(KEY, (400, 300, 2, 1))
    (first, bias), _, (last, _) = params
    assert [(w.shape, b.shape) for w, b in params] == [((400, 300), (300,)), ((300, 2), (2,)), ((2, 1), (1,))]
    assert float(first.std()) == pytest.approx(1 / 20, rel=0.01) and not bias.any() and not last.any()
    linear = pde.init_mlp(KEY, (5, 1))
    assert [w.shape for w, _ in linear] == [(5, 1)] and not linear[0][0].any()
    rng = np.random.default_rng(0)
    params = [(np.float32(rng.normal(size=(4, n))), np.float32(rng.normal(size=n))) for n in (4, 4, 1)]
    x = wanted = np.array([0.1, -0.2, 0.3, 0.4], np.float32)
    for w, b in params[:2]:
        wanted = np.tanh(wanted @ w + b)
    np.testing.assert_allclose(pde.mlp(params, x), (wanted @ params[2][0] + params[2][1])[0], rtol=1e-5)


# --- the trainer ---------------------------------------------------------------------------------------------

STEPS = 12
OPTIMIZER = pde.scaled_cosine_adam(STEPS, 1e-2, 5)
EQUATION = pde.ball_equation("sine-gordon", 5, KEY)


def loss_fn(params, key):
    def square(x):
        return EQUATION.network_residual(lambda z: pde.mlp(params, z), x) ** 2

    return jax.vmap(square)(EQUATION.sample(key, 8)).mean()


def fresh():
    return pde.start(pde.init_mlp(KEY, (5, 8, 8, 1)), OPTIMIZER, jax.random.key(2))


@pytest.mark.slow
def test_training_in_chunks_interrupted_or_not_is_the_same():
    reports = []
    whole, losses = pde.train(
        loss_fn, OPTIMIZER, fresh(), STEPS, chunk=6, report=lambda state, _: reports.append(int(state.step))
    )
    first, early = pde.train(loss_fn, OPTIMIZER, fresh(), 6, chunk=6)
    again, late = pde.train(loss_fn, OPTIMIZER, first, STEPS, chunk=6)
    assert reports == [6, 12] and len(losses) == STEPS
    np.testing.assert_array_equal(jnp.concatenate([early, late]), losses)
    jax.tree.map(np.testing.assert_array_equal, whole.params, again.params)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_one_step_is_what_optax_does():
    state = fresh()
    loss, grads = jax.jit(jax.value_and_grad(loss_fn))(state.params, jax.random.fold_in(state.key, 0))
    updates, _ = OPTIMIZER.update(grads, state.opt_state, state.params)
    expected = optax.apply_updates(state.params, updates)
    got, losses = pde.train(loss_fn, OPTIMIZER, state, 1, chunk=1)
    np.testing.assert_allclose(losses[0], loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got.params, expected)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(what):
    optimizer = optax.sgd(0.1)

    def breaks(params, key):
        late = params["steps"] > 2.5
        if what == "loss":
            spoiled = jnp.where(late, jnp.nan, 0.0)
        else:  # the square root's slope at 0
            spoiled = jnp.sqrt(jnp.abs(params["w"] - jax.lax.stop_gradient(params["w"])) + jnp.where(late, 0.0, 1.0))
        return 10 * -params["steps"] + params["w"] + spoiled

    state = pde.start({"steps": jnp.array(0.0), "w": jnp.array(1.0)}, optimizer, KEY)
    loss = "nan" if what == "loss" else r"-29\.4\d*"
    with pytest.raises(pde.DivergedError, match=f"got loss {loss} at step 3; .* parameters before it") as caught:
        pde.train(breaks, optimizer, state, 10, chunk=4 if what == "loss" else 2)
    assert caught.value.step == 3 == int(caught.value.state.step)
    assert caught.value.state.params["steps"] == 3.0 and np.isclose(
        caught.value.state.params["w"], 0.7 if what == "loss" else 0.55
    )
    assert bool(caught.value.state.good)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "scale"), [(900, 0.1), (4, 1.0)])
def test_the_first_matrix_with_d_rows_takes_smaller_steps(d, scale):
    optimizer = pde.scaled_cosine_adam(10, 1.0, d)
    shapes = {"bias": (d,), "conv": (d, 2, 1), "less": (2, 2), "more": (d + 1, 2), "these": (d, 2), "too": (d, 3)}
    params = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    updates = jax.jit(lambda p: optimizer.update(p, optimizer.init(p), p)[0])(params)
    steps = {name: float(-update.ravel()[-1]) for name, update in updates.items()}
    assert steps == pytest.approx(dict.fromkeys(shapes, 1.0) | {"these": scale}, rel=1e-5)


@pytest.mark.slow
def test_the_learning_rate_falls_to_zero_by_a_cosine():
    optimizer, params = pde.scaled_cosine_adam(4, 0.2, 9, mu_dtype=jnp.bfloat16), jnp.ones(1)
    state, steps = optimizer.init(params), []
    assert "bfloat16" in {str(leaf.dtype) for leaf in jax.tree.leaves(state)}
    for _ in range(6):
        update, state = optimizer.update(params, state, params)
        steps.append(-float(update[0]))
    np.testing.assert_allclose(steps, [*(0.1 * (1 + np.cos(np.pi * np.arange(5) / 4))), 0], rtol=0.02, atol=1e-6)


def test_chunks_are_of_100_steps_and_the_last_one_ends_where_it_should():
    def steps_of(steps, **options):
        reports, optimizer = [], optax.sgd(0.1)
        state, losses = pde.train(
            lambda params, key: params**2, optimizer, pde.start(jnp.array(1.0), optimizer, KEY), steps,
            report=lambda state, losses: reports.append((int(state.step), len(losses))), **options,
        )  # fmt: skip
        assert int(state.step) == len(losses) == steps
        return reports

    assert steps_of(150) == [(100, 100), (150, 50)]
    assert steps_of(7, chunk=3) == [(3, 3), (6, 3), (7, 1)]
    assert steps_of(0) == []


@pytest.mark.slow
def test_only_the_first_layer_takes_smaller_steps_where_all_have_d_rows():
    optimizer, params = pde.scaled_cosine_adam(10, 1.0, 36), pde.init_mlp(KEY, (36, 36, 36, 1))
    updates = jax.jit(lambda p: optimizer.update(jax.tree.map(jnp.ones_like, p), optimizer.init(p), p)[0])(params)
    steps = [float(-weight[0, 0]) for weight, _ in updates]
    np.testing.assert_allclose(steps, [0.5, 1.0, 1.0], rtol=1e-5)


@pytest.mark.slow
def test_an_optimizer_that_searches_along_lines_is_given_what_it_needs():
    fixed = EQUATION.sample(KEY, 8)

    def loss_of(params, key):
        return jax.vmap(lambda x: EQUATION.network_residual(lambda z: pde.mlp(params, z), x) ** 2)(fixed).mean()

    optimizer = optax.lbfgs()
    state = pde.start(pde.init_mlp(KEY, (5, 8, 8, 1)), optimizer, KEY)
    _, losses = pde.train(loss_of, optimizer, state, 20, chunk=10)
    assert losses[-1] < losses[0] / 10


@pytest.mark.slow
def test_relative_l2_and_the_best_constant():
    exact = pde.relative_l2(EQUATION, EQUATION.solution, KEY)
    assert exact.relative_l2 == 0 and 0.01 < exact.best_constant < 1
    twice = pde.relative_l2(EQUATION, lambda x: 2 * EQUATION.solution(x), KEY, points=400)
    assert twice.relative_l2 == pytest.approx(1, rel=1e-5)
    # no multiple of 1 - |x|^2 does better than the one that is said to be the best
    tries = [pde.relative_l2(EQUATION, lambda x, c=c: c * (1 - x @ x), KEY).relative_l2 for c in (-2.0, 0.5, 1.0)]
    assert min(tries) >= exact.best_constant


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["poisson", "allen-cahn"])
def test_a_network_that_is_zero_starts_at_the_best_constant(kind):
    equation = pde.ball_equation(kind, 50, KEY)
    found = pde.relative_l2(equation, equation.ansatz(lambda x: jnp.zeros(())), KEY, points=400)
    assert found.best_constant < 0.9
    assert found.relative_l2 == pytest.approx(found.best_constant, rel=0.02)  # from 256 points, a mean to 1 %


@pytest.mark.slow
def test_no_constant_comes_near_the_waves():
    equation = pde.ball_equation("poisson", 500, KEY, "waves")
    assert pde.relative_l2(equation, equation.solution, KEY, points=1000).best_constant > 0.3


@pytest.mark.slow
def test_gradient_enhanced_loss_is_unbiased():
    def residual(x):
        return jnp.sin(x[0]) * x[1] + x[2] ** 2

    x, keys = jnp.array([0.3, 0.5, -0.2]), jax.random.split(KEY, 4000)
    exact = residual(x) ** 2 + 0.1 * (jax.grad(residual)(x) ** 2).sum()
    draws = jax.vmap(lambda key: pde.gradient_enhanced(residual, x, key, 0.1))(keys)
    assert abs(draws.mean() - exact) <= 4 * draws.std() / len(keys) ** 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pde.ball_equation("burgers", 5, KEY), "poisson.*got 'burgers'"),
        (lambda: pde.ball_equation("poisson", 5, KEY, "four-body"), "two-body.*'four-body'"),
        (lambda: pde.ball_equation("poisson", 2, KEY), "d >= 3, got 2; three-body"),
        (lambda: pde.heat_equation(0), "d >= 1, got 0"),
        (lambda: pde.kdv_equation(0.0), r"speed from 0\.001 to 100, got 0\.0"),
        (lambda: pde.kdv_equation(-4.0), r"speed from 0\.001 to 100, got -4\.0"),
        (lambda: pde.kdv_equation(100.5), "speed from .* got 100.5; u"),
        (lambda: pde.kdv_equation(float("nan")), "speed from .* got nan"),
        (lambda: pde.sample_ball(KEY, 0, 3), "n >= 1, got 0"),
        (lambda: pde.sample_ball(KEY, 3, 0), "d >= 1, got 0"),
        (lambda: pde.sample_box(KEY, 0, (0.0,), (1.0,)), "n >= 1, got 0"),
        (lambda: pde.sample_box(KEY, 3, (0.0,), (1.0, 5.0)), r"of one shape \(d,\), got \(1,\) and \(2,\)"),
        (lambda: pde.sample_box(KEY, 3, (0.0, 5.0), (1.0,)), r"of one shape \(d,\), got \(2,\) and \(1,\)"),
        (lambda: pde.sample_box(KEY, 3, [[0.0]], [[1.0]]), r"of one shape \(d,\), got \(1, 1\) and \(1, 1\)"),
        (lambda: pde.sample_box(KEY, 3, 0.0, 1.0), r"of one shape \(d,\), got \(\) and \(\)"),
        (lambda: pde.sample_box(KEY, 3, (), ()), r"of one shape \(d,\), got \(0,\) and \(0,\)"),
        (
            lambda: pde.sample_box(KEY, 3, (1.0, 0.0), (0.0, 1.0)),
            r"lower <= upper, got \[1\.0, 0\.0\] and \[0\.0, 1\.0\]",
        ),
        (lambda: pde.sample_box(KEY, 3, (0.0,), (float("nan"),)), "finite lower <= upper"),
        (lambda: pde.sample_box(KEY, 3, (-3e38,), (3e38,)), "finite lower <= upper"),
        (lambda: dataclasses.replace(BOXES[1], lower=(0.0,)), "corners of one shape"),
        (lambda: dataclasses.replace(BOXES[1], lower=(0.0, 0.0, 0.0)), "corners of one shape"),
        (lambda: dataclasses.replace(BOXES[1], lower=0.0, upper=1.0), r"corners of one shape \(d,\), got 0.0 and 1.0"),
        (lambda: dataclasses.replace(BOXES[1], lower=[[0.0]], upper=[[1.0]]), "corners of one shape"),
        (lambda: dataclasses.replace(BOXES[1], lower=(), upper=()), "corners of one shape .* one number per axis"),
        (lambda: dataclasses.replace(BOXES[1], lower=(1.0, 0.0)), "finite lower < upper in all coordinates"),
        (lambda: dataclasses.replace(BOXES[1], lower=(0.0, 11.0)), "finite lower < upper in all coordinates"),
        (lambda: dataclasses.replace(BOXES[1], upper=(1.0, np.inf)), "finite lower < upper in all coordinates"),
        (lambda: dataclasses.replace(BOXES[1], lower=(0, -1e308), upper=(1, 1e308)), "finite lower < upper in all"),
        (
            lambda: EQUATION.network_residual(network, jnp.ones(5), samples=3),
            "key to draw 3 coordinates with, got None",
        ),
        (lambda: pde.init_mlp(KEY, (5,)), r"at least two sizes, got \(5,\)"),
        (lambda: pde.init_mlp(KEY, (5, 0, 1)), "every size >= 1, got 0"),
        (lambda: pde.relative_l2(BOXES[1], network, KEY, points=0), "points >= 1, got 0"),
        (lambda: pde.relative_l2(BOXES[1], network, KEY, batch=0), "batch >= 1, got 0"),
        (lambda: pde.relative_l2(BOXES[1], network, KEY, points=150), "multiple of batch = 100, got 150"),
        (lambda: pde.train(loss_fn, OPTIMIZER, None, 5, chunk=0), "chunk >= 1, got 0"),
        (lambda: pde.train(loss_fn, OPTIMIZER, None, -1), "steps >= 0, got -1"),
        (lambda: pde.scaled_cosine_adam(0, 1e-3, 5), "steps >= 1, got 0"),
        (lambda: pde.scaled_cosine_adam(10, 1e-3, 0), "d >= 1, got 0"),
        (
            lambda: pde.mlp(pde.init_mlp(KEY, (5, 8, 3)), jnp.ones(5)),
            r"last layer \(width, 1\), got \(8, 3\); take one",
        ),
        (
            lambda: pde.relative_l2(dataclasses.replace(BOXES[1], solution=None), network, KEY),
            "exact solution, got solution=None; compare residuals",
        ),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pde.sample_ball(KEY, 2.0, 3), "n as an integer >= 1, got 2.0"),
        (lambda: pde.sample_box(KEY, True, (0.0,), (1.0,)), "n as an integer >= 1, got True"),
        (lambda: pde.ball_equation("poisson", 5.5, KEY), "d as an integer >= 3, got 5.5"),
        (lambda: pde.heat_equation("3"), "d as an integer >= 1, got '3'"),
        (lambda: pde.kdv_equation(True), "speed as a known number, got True"),
        (lambda: pde.kdv_equation("4"), "speed as a known number, got '4'"),
        (lambda: pde.kdv_equation(None), "speed as a known number, got None"),
        (lambda: pde.kdv_equation(4 + 1j), "speed as a known number"),
        (lambda: pde.kdv_equation(np.ones(2)), "speed as a known number"),
        (lambda: jax.jit(lambda c: pde.kdv_equation(c).lower)(4.0), "speed as a known number, got .*racer"),
    ],
)
def test_what_is_no_number_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    "equation", [pde.ball_equation("poisson", 3, KEY), *BOXES], ids=lambda e: getattr(e, "name", "ball")
)
def test_an_equation_has_one_unknown(equation):
    """A network that nobody squeezed would be broadcast by everything that follows."""
    x = jnp.ones(equation.dimension) / 3
    for column, remedy in ((lambda x: x[:1] ** 2, "squeeze"), (lambda x: x[:2] ** 2, "take one")):
        with pytest.raises(ValueError, match=rf"u as a scalar field .*of shape \(\d,\); {remedy}"):
            equation.residual(column, x)
        if hasattr(equation, "network_residual"):
            with pytest.raises(ValueError, match=f"u as a scalar field.*{remedy}"):
                equation.network_residual(column, x)


@pytest.mark.slow
@pytest.mark.parametrize("speed", [1e-3, 1, np.float32(10.0), jnp.float32(100.0)])
def test_a_soliton_of_any_speed_stays_in_its_box(speed):
    """In float32: finite all over the box, zero at its ends, a solution, and what the ansatz starts from."""
    equation, c = pde.kdv_equation(speed), float(speed)
    grid = np.meshgrid([0.0, 0.5, 1.0], np.linspace(equation.lower[1], equation.upper[1], 101))
    t, x = (axis.ravel() for axis in grid)
    points = jnp.stack([t, x], axis=1).at[:3, 1].add(c * jnp.array([0.0, 0.5, 1.0]) - x[:3])  # the tops, too
    values, residuals, started = jax.jit(jax.vmap(lambda p: (
        equation.solution(p), equation.residual(equation.solution, p), equation.ansatz(lambda z: 1.0)(p)
    )))(points)  # fmt: skip
    assert values.max() == pytest.approx(c / 2, rel=1e-4)
    assert jnp.abs(values.reshape(101, 3)[-1]).max() < 2.6e-5 * c / 2
    rounding = 1e-6 * (1 + c**1.5)  # of x - c t, in widths of the soliton
    assert jnp.abs(residuals).max() < 3 * c**2.5 * rounding
    np.testing.assert_array_equal(started[t == 0], values[t == 0])


def test_a_box_may_be_a_face_and_its_corners_traced():
    narrow = pde.sample_box(KEY, 5, (1.0, 0.0), (1.0, 0.5))
    assert (narrow[:, 0] == 1).all() and 0 <= narrow[:, 1].min() <= narrow[:, 1].max() <= 0.5
    flat = jax.jit(lambda top: pde.sample_box(KEY, 5, (1.0, 0.0), (1.0, top)))(2.0)
    assert (flat[:, 0] == 1).all() and 0 <= flat[:, 1].min() <= flat[:, 1].max() <= 2
    assert jax.jit(lambda key: pde.sample_box(key, 5, (1.0, 0.0), jnp.ones(2)))(KEY).shape == (5, 2)


def test_what_writes_checkpoints_is_not_loaded_for_a_run_without_them():
    assert not hasattr(pde.training, "resumable")


@pytest.mark.parametrize("steps", [2.5, 2.0, float("nan"), float("inf"), True, "3", None, np.float32(2), np.ones(2)])
def test_steps_and_chunks_are_integers(steps):
    """With 2.5 steps the last chunk was half a step, which rounds to none, for ever."""
    with pytest.raises(TypeError, match="steps as an integer >= 0, got"):
        pde.train(loss_fn, OPTIMIZER, None, steps)
    with pytest.raises(TypeError, match="chunk as an integer >= 1, got"):
        pde.train(loss_fn, OPTIMIZER, None, 3, chunk=steps)


def test_a_state_that_is_used_up_is_refused():
    """`train` takes over a state's memory; what is left of it says so, wherever it comes back."""
    optimizer, params = optax.sgd(0.1), {"w": jnp.ones(2)}
    first = pde.start(params, optimizer, KEY)
    second, _ = pde.train(lambda params, _: (params["w"] ** 2).sum(), optimizer, first, np.int64(1))
    with pytest.raises(ValueError, match=r"a state with arrays that are still there.*continue with the state"):
        pde.train(loss_fn, optimizer, first, 2)
    with pytest.raises(ValueError, match=r"expected parameters with arrays.*take `params` of the state"):
        pde.start(params, optimizer, KEY)
    with pytest.raises(TypeError, match=r"state from pde\.start, got tuple"):
        pde.train(loss_fn, optimizer, tuple(second), 2)
