"""Newton-CG finds the optimum, whatever the loops are made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course.newton_cg import conjugate_gradients, line_search, newton_cg, python_while, value_grad_hvp


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


def test_conjugate_gradients_stop_early_far_from_the_optimum(x64):
    products = []
    conjugate_gradients(lambda v: products.append(v) or jnp.arange(1.0, 9.0) * v, 1e6 * jnp.ones(8), python_while)
    assert len(products) < 3


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
