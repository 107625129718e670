"""The natural-gradient step against dense least squares in float64; its trainer; orthogonal points."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from course import pde

KEY = jax.random.key(1)
D, W, N = 7, 3, 5


def problem(kind="sine-gordon", body="two-body", d=D, n=N, width=W):
    """An equation, parameters none of which is zero, and points."""
    equation = pde.ball_equation(kind, d, KEY, body)
    params = pde.init_layered_mlp(KEY, (d, width, 4, 1))
    flat, tree = ravel_pytree(params)
    params = tree(flat + 0.3 * jax.random.normal(jax.random.key(2), flat.shape))
    return equation, params, equation.sample(jax.random.key(3), n)


def dense_of(equation, params, points):
    """By nested derivatives of u as a whole: nothing is shared with the layered form."""
    return pde.linearize(lambda p, x: equation.residual(equation.layer_ansatz(p), x), params, points)


def layered_of(equation, params, points):
    return pde.linearize_layered(equation.layer_residual, params, points)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def test_a_step_is_dense_least_squares(x64):
    equation, params, points = problem()
    batch = dense_of(equation, params, points)
    rows = np.stack([flat(jax.tree.map(lambda leaf, i=i: leaf[i], batch.jacobian)) for i in range(N)])
    previous = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape), params)
    for damping, momentum in ((1e-2, 0.0), (1e-2, 0.7), (1e-8, 0.3)):
        shift = damping * np.trace(rows @ rows.T) / N
        # SPRING's definition: |J phi - r|^2 + shift |phi - m phi'|^2, as one stacked system
        stacked = np.vstack([rows, shift**0.5 * np.eye(rows.shape[1])])
        right = np.concatenate([batch.residuals, shift**0.5 * momentum * flat(previous)])
        wanted = np.linalg.lstsq(stacked, right, rcond=None)[0]
        got = flat(pde.natural_gradient_step(batch, damping, previous, momentum))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10 * abs(wanted).max() / min(1, damping * 1e4))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "body"), [("sine-gordon", "two-body"), ("allen-cahn", "waves")])
def test_the_layered_form_is_the_dense_one(x64, kind, body):
    equation, params, points = problem(kind, body)
    dense, layered = dense_of(equation, params, points), layered_of(equation, params, points)
    change = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape), params)
    z = jax.random.normal(KEY, (N,))
    for got, wanted in (
        (layered.residuals, dense.residuals),
        (layered.gram(), dense.gram()),
        (flat(layered.pull(z)), flat(dense.pull(z))),
        (layered.push(change), dense.push(change)),
        (
            flat(pde.natural_gradient_step(layered, 1e-3, change, 0.5)),
            flat(pde.natural_gradient_step(dense, 1e-3, change, 0.5)),
        ),
    ):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


def test_without_momentum_spring_is_minsr(x64):
    batch = layered_of(*problem())
    zero = batch.pull(jnp.zeros(N))
    for previous, momentum in ((zero, 0.9), (jax.tree.map(jnp.ones_like, zero), 0.0)):
        got = pde.natural_gradient_step(batch, 1e-3, previous, momentum)
        np.testing.assert_allclose(flat(got), flat(pde.natural_gradient_step(batch, 1e-3)), rtol=1e-12)


def test_a_step_fits_its_batch(x64):
    """Linear in the parameters, more of them than points: at once; a network: to second order in the residual."""
    points = jax.random.normal(KEY, (4, 6))
    residual = lambda p, x: p["a"] @ x + p["b"] - jnp.sin(x[0])  # noqa: E731
    params = {"a": jnp.ones(6), "b": jnp.zeros(())}
    phi = pde.natural_gradient_step(pde.linearize(residual, params, points), 1e-14)
    moved = jax.tree.map(jnp.subtract, params, phi)
    assert abs(pde.linearize(residual, moved, points).residuals).max() < 1e-11
    equation, params, points = problem()
    for _ in range(5):
        batch = layered_of(equation, params, points)
        params = jax.tree.map(jnp.subtract, params, pde.natural_gradient_step(batch, 1e-12))
    assert abs(batch.residuals).max() < 1e-6


def batch_fn(equation, n=8):
    def linearized(params, key, step):
        x = equation.sample(key, n)
        return pde.linearize_layered(equation.layer_residual, params, x)

    return linearized


@pytest.mark.slow
def test_the_trainer_takes_it_in_place_of_an_optax_optimizer():
    """The same whatever the chunks; with a schedule, momentum and a bound on the step."""
    equation, params, _ = problem(d=30)
    optimizer = pde.NaturalGradient(optax.cosine_decay_schedule(0.5, 6), 1e-2, momentum=0.5, max_norm=0.3)
    loss_fn = batch_fn(equation)

    def fresh():
        return pde.start(jax.tree.map(jnp.copy, params), optimizer, jax.random.key(2))

    whole, losses = pde.train(loss_fn, optimizer, fresh(), 6, chunk=6)
    first, early = pde.train(loss_fn, optimizer, fresh(), 2, chunk=2)
    again, late = pde.train(loss_fn, optimizer, first, 6, chunk=2)
    np.testing.assert_allclose(jnp.concatenate([early, late]), losses, rtol=1e-5)
    np.testing.assert_allclose(flat(again.params), flat(whole.params), rtol=1e-4, atol=1e-6)
    one, _ = pde.train(loss_fn, optimizer, fresh(), 1)
    assert np.linalg.norm(flat(one.params) - flat(params)) <= 0.3 * 1.00001


@pytest.mark.slow
def test_three_rounds_of_orthogonal_points_leave_the_constant_behind():
    d, n = 256, 32
    equation = pde.ball_equation("sine-gordon", d, KEY)

    def linearized(params, key, step):
        x = pde.orthogonal_ball(KEY, step * n, n, d)
        return pde.linearize_layered(equation.layer_residual, params, x)

    optimizer = pde.NaturalGradient(1.0, 1e-4)
    state = pde.start(pde.init_layered_mlp(KEY, (d, 8, 8, 1)), optimizer, KEY)
    state, _ = pde.train(linearized, optimizer, state, 3 * d // n, chunk=d // n)
    error = pde.relative_l2(equation, equation.layer_ansatz(state.params), KEY, points=400)
    assert error.relative_l2 < error.best_constant / 2.5  # 3.5 after two rounds


def test_a_batch_that_is_not_finite_stops_the_run():
    optimizer = pde.NaturalGradient()
    loss_fn = lambda p, key, step: pde.linearize(  # noqa: E731
        lambda p, x: p @ x + jnp.where(step > 2, jnp.nan, 0.0), p, jax.random.normal(key, (2, 3))
    )
    with pytest.raises(pde.DivergedError, match="got loss nan at step 3") as caught:
        pde.train(loss_fn, optimizer, pde.start(jnp.ones(3), optimizer, KEY), 9, chunk=5)
    assert jnp.isfinite(caught.value.state.params).all() and int(caught.value.state.step) == 3


@pytest.mark.parametrize("d", [8, 12, 15, 1])
def test_a_round_of_orthogonal_points_is_at_right_angles(x64, d):
    points = np.asarray(pde.orthogonal_ball(KEY, 0, d, d))
    radius = np.linalg.norm(points, axis=1)
    assert radius.min() > 0 and radius.max() < 1
    np.testing.assert_allclose(points / radius[:, None] @ (points / radius[:, None]).T, np.eye(d), atol=1e-12)


def test_the_sequence_of_orthogonal_points_has_no_seams(x64):
    """Any cut, traced or not, gives the same points; a new round has new signs; the key makes all of it."""
    whole = np.concatenate([pde.orthogonal_ball(KEY, first, 12, 12) for first in (0, 12, 24)])
    draw = jax.jit(lambda first: pde.orthogonal_ball(KEY, first, 7, 12))
    for first in (0, 5, 9, 17, 29):
        np.testing.assert_allclose(draw(first), whole[first : first + 7], rtol=1e-14)
    assert abs(whole[:12] / whole[12:24]).std() > 0 and (np.sign(whole[:12]) != np.sign(whole[12:24])).any()
    assert (pde.orthogonal_ball(jax.random.key(9), 0, 12, 12) != whole[:12]).any()


@pytest.mark.slow
@pytest.mark.parametrize("d", [3 * 5**7, 2**6 * 5**6])
def test_orthogonal_points_of_many_dimensions(d):
    """No overflow of int32 on the way: 234,375 is odd, a million has the factor 64."""
    first = d - 2
    points = np.asarray(pde.orthogonal_ball(KEY, first, 3, d), np.float64)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert np.linalg.norm(points, axis=1).max() < 1 and abs(unit[0] @ unit[1]) < 1e-5
    assert abs((unit**2).mean() * d - 1) < 1e-5 and abs(unit.mean() * d**0.5) < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pde.linearize(lambda p, x: p * x, jnp.ones(3), jnp.ones((2, 3))),
            r"a residual \(\) at one point, got \(3,\)",
        ),
        (
            lambda: pde.linearize_layered(lambda rest, h, gram, x: h, (jnp.ones((3, 2)), ()), jnp.ones((4, 3))),
            r"a residual \(\) at one point, got \(2,\)",
        ),
        (
            lambda: pde.linearize_layered(lambda *_: 0.0, (jnp.ones((3, 2)), ()), jnp.ones((4, 5))),
            r"points \(n, d\) and a first layer's weight \(d, width\), got points \(4, 5\) and weight \(3, 2\); pass",
        ),
        (lambda: pde.NaturalGradient(momentum=1.0), "momentum from 0 to below 1, got 1.0; 0 is none"),
        (lambda: pde.NaturalGradient(damping=-1.0), "damping >= 0, got -1.0; 1e-3"),
        (lambda: pde.NaturalGradient(damping=float("nan")), "damping >= 0, got nan; 1e-3"),
        (lambda: pde.NaturalGradient(max_norm=0.0), "max_norm > 0, got 0.0; None"),
        (lambda: pde.orthogonal_ball(KEY, 0, 5, 4), "n <= d and an odd part .*got n = 5 and d = 4; use sample_ball"),
        (lambda: pde.orthogonal_ball(KEY, 0, 2, 2**20 + 1), "odd part of d up to .*use sample_ball"),
        (lambda: pde.init_layered_mlp(KEY, (5, 1)), r"at least three sizes, got \(5, 1\)"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
