"""Newton-CG finds the optimum, whatever the loops are made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course.newton_cg import conjugate_gradients, line_search, logistic_loss, newton_cg, python_while, value_grad_hvp


def test_a_quadratic_is_solved_exactly(x64):
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6))
    matrix, b = jnp.asarray(factor @ factor.T + np.eye(6)), jnp.asarray(rng.normal(size=6))
    w, steps = newton_cg(
        lambda w: 0.5 * w @ matrix @ w - b @ w, lambda w: matrix @ w - b, lambda w, v: matrix @ v, jnp.zeros(6)
    )
    np.testing.assert_allclose(w, np.linalg.solve(matrix, b), atol=1e-8)
    assert steps < 20


def test_conjugate_gradients_need_one_turn_for_each_eigenvalue(x64):
    """Steepest descent would need hundreds here."""
    eigenvalues, products = jnp.array([1.0, 30.0, 900.0]), []

    def hvp(v):
        products.append(v)
        return eigenvalues * v

    g = 1e-9 * jnp.array([1.0, -2.0, 3.0])  # small, so that it is solved to the end
    p = conjugate_gradients(hvp, g, python_while)
    np.testing.assert_allclose(p, -g / eigenvalues, rtol=1e-6)
    assert len(products) == 3
    np.testing.assert_allclose(products[0] @ (eigenvalues * products[1]), 0, atol=1e-30)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 1e6])
def test_conjugate_gradients_stop_early_far_from_the_optimum(size):
    """Where the residual is below sqrt(|g| / (1 + |g|)) of the gradient; the optimum over a Krylov space by NumPy."""
    eigenvalues, products = np.arange(1.0, 9.0) ** 2, []
    g = size * np.ones(8) / 8**0.5
    p = conjugate_gradients(lambda v: products.append(v) or eigenvalues * v, g, python_while)
    expected, turns = np.zeros(8), 0
    while np.linalg.norm(eigenvalues * expected + g) > size * (size / (1 + size)) ** 0.5:
        turns += 1
        space = np.linalg.qr(np.stack([(eigenvalues / 64) ** n * g / size for n in range(turns)], axis=1))[0]
        expected = -space @ np.linalg.solve(space.T @ (eigenvalues[:, None] * space), space.T @ g)
    assert len(products) == turns
    np.testing.assert_allclose(p, expected, rtol=1e-6)


def test_conjugate_gradients_end_after_d_turns_though_they_have_not_converged(x64):
    products, skew = [], jnp.array([[2.0, 1.0], [-1.0, 2.0]])  # not symmetric: two turns are not enough
    g = jnp.array([1e-9, 2e-9])
    p = conjugate_gradients(lambda v: products.append(v) or skew @ v, g, python_while)
    assert len(products) == 2 and jnp.linalg.norm(skew @ p + g) > 1e-10
    compiled = jax.jit(lambda g: conjugate_gradients(lambda v: skew @ v, g, jax.lax.while_loop))(g)
    np.testing.assert_allclose(compiled, p, rtol=1e-12)


def test_the_line_search_halves_until_the_value_falls_as_promised(x64):
    tried = []

    def value(w):
        tried.append(float(w[0]))
        return (w**2).sum()

    w = jnp.array([1.0])
    assert line_search(value, w, 2 * w, -8 * w, python_while) == 0.125  # 1, 1/2, 1/4 end at |w| >= 1
    assert tried == [1.0, -7.0, -3.0, -1.0, 0.0]


@pytest.mark.slow
def test_compiled_whole_and_turn_by_turn_give_the_same_optimum(x64):
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(50, 4))), jnp.asarray((rng.random(50) > 0.5).astype(float))
    value, grad, hvp = value_grad_hvp(x, y)
    by_python, steps = newton_cg(value, grad, hvp, jnp.zeros(4))
    whole = jax.jit(partial(newton_cg, value, grad, hvp, while_loop=jax.lax.while_loop))
    compiled, compiled_steps = whole(jnp.zeros(4))
    np.testing.assert_allclose(by_python, compiled, atol=1e-12)
    assert steps == int(compiled_steps)
    assert float(jnp.linalg.norm(grad(compiled))) < 1e-9
    np.testing.assert_allclose(hvp(compiled, jnp.ones(4)), jax.hessian(value)(compiled) @ jnp.ones(4), atol=1e-12)


def test_the_line_search_shortens_a_step_that_overshoots(x64):
    def value(w):  # Newton's step from here is far too long
        return jnp.sqrt(1 + (w**2).sum())

    w, _ = newton_cg(value, jax.grad(value), lambda w, v: jax.jvp(jax.grad(value), (w,), (v,))[1], jnp.array([3.0]))
    np.testing.assert_allclose(w, 0, atol=1e-8)


def test_the_line_search_takes_a_ten_thousandth_of_the_fall_that_the_slope_promises():
    values = {0.0: 1.0, 1.0: 1 - 0.9e-4, 0.5: 1 - 0.4e-4, 0.25: 1.0 + 1e-4 * 0.25 * -1.0 + 1e-15}  # enough at last
    assert line_search(lambda w: values[w[0]], np.zeros(1), -np.ones(1), np.ones(1), python_while) == 0.25


def test_the_line_search_ends_where_rounding_hides_the_fall():
    """A value that stays the same is taken; one that rises everywhere ends at the first power of 1/2 below 1e-10."""
    w, p = np.zeros(1), np.ones(1)
    assert line_search(lambda w: 1.0, w, np.array([-1e-20]), p, python_while) == 1
    assert line_search(lambda w: w[0], w, np.array([-1.0]), p, python_while) == 2.0**-34


def test_how_long_newton_goes_on():
    """The default is 100 steps; a gradient as small as the tolerance is the end, before the first step, too."""
    fixed = {"value": lambda w: 1.0, "hvp": lambda w, v: v, "w": np.zeros(1)}
    assert newton_cg(grad=lambda w: np.ones(1), **fixed)[1] == 100
    assert newton_cg(grad=lambda w: np.array([2e-9]), **fixed)[1] == 100
    assert newton_cg(grad=lambda w: np.array([5e-10]), **fixed)[1] == 0
    assert newton_cg(grad=lambda w: np.zeros(1), tolerance=0.0, **fixed)[1] == 0


def test_logistic_loss():
    x, y, w = np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]]), np.array([1.0, 0.0, 1.0]), np.array([0.3, -0.7])
    chance = 1 / (1 + np.exp(-(x @ w)))
    wanted = -np.log(np.where(y == 1, chance, 1 - chance)).mean() + 1e-3 * (0.3**2 + 0.7**2)
    np.testing.assert_allclose(logistic_loss(w, x, y), wanted, rtol=1e-6)


def test_a_python_loop_is_a_while_loop():
    assert python_while(lambda n: n < 5, lambda n: n + 2, 0) == 6


@pytest.mark.slow
@pytest.mark.parametrize("while_loop", [python_while, jax.lax.while_loop])
def test_it_ends_where_the_tolerance_is_out_of_reach(while_loop):
    rng = np.random.default_rng(0)
    x, y = jnp.float32(rng.normal(size=(50, 4))), jnp.float32(rng.random(50) > 0.5)
    run = partial(newton_cg, *value_grad_hvp(x, y), tolerance=0.0, while_loop=while_loop, max_steps=12)
    w, steps = run(jnp.zeros(4)) if while_loop is python_while else jax.jit(run)(jnp.zeros(4))
    # a float32 value shows a step of size 1e-4 no longer: its square is the rounding error
    assert int(steps) == 12 and float(jnp.linalg.norm(value_grad_hvp(x, y)[1](w))) < 3e-4
