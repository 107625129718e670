"""Jets through solutions of linear equations, Cholesky factors and determinants, against nested `jax.jvp`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy import linalg
from jax.scipy.sparse.linalg import cg

from course import taylor
from course.taylor.programs import trace

RNG = np.random.default_rng(5)
B = RNG.normal(size=(4, 3, 3))
LINES, WEIGHTS = np.array([[1.0, 0.3], [-0.2, 0.8], [0.5, 0.5]]), np.array([1.0, -2.0, 0.3])
X = np.array([0.4, 0.7])

pytestmark = pytest.mark.usefixtures("x64")


def matrix(x):
    return 3 * jnp.eye(3) + x[0] * B[0] + jnp.sin(x[1]) * B[1] + x[0] * x[1] ** 2 * B[2]


def positive(x):
    return matrix(x) @ matrix(x).T + jnp.eye(3)


def hermitian(x):
    a = matrix(x) + 1j * jnp.sin(x[0]) * B[3]
    return a @ a.conj().T + jnp.eye(3)


def both(of, x):
    return jnp.stack([of(x), of(2 * x)])


def triangular(x, *, right_moves=True, **params):
    a, b = matrix(x), B[3] * (x[0] ** 2 if right_moves else 1.0)
    if params.get("conjugate_a"):
        a, b = a + 1j * B[3] * x[0], b + 1j * x[1]
    return jnp.abs(lax.linalg.triangular_solve(a, b, **params) @ B[0]).sum()


def nonlinear_in_x(x):  # the program of the matrix takes functions of x of its own
    return cg(lambda v: positive(x) @ (jnp.exp(x[0]) * (positive(x).T @ v)), B[3][0], tol=1e-14)[0] @ B[3][1]


def several_unknowns(x):
    first, second = cg(lambda v: (v[0] * jnp.exp(x[0]), positive(x) @ v[1]), (x, B[3][0] * x[0]), tol=1e-14)[0]
    return first.sum() + (second**2).sum()


FUNCTIONS = {
    "inverse": lambda x: (jnp.linalg.inv(matrix(x)) * B[3]).sum(),
    "inverses": lambda x: (jnp.linalg.inv(both(matrix, x)) ** 3).sum(),
    "solve, one column": lambda x: jnp.linalg.solve(matrix(x), B[3][0] * x[0]) @ B[3][1],
    "solve, fixed right side": lambda x: (jnp.linalg.solve(matrix(x), B[3]) ** 2).sum(),
    "solve, fixed matrix": lambda x: (jnp.linalg.solve(B[0], B[3] * jnp.exp(x[0] * x[1]))).sum(),
    "solve, batched": lambda x: (jnp.linalg.solve(both(matrix, x), both(lambda x: B[3] * x[0], x)) ** 2).sum(),
    "solve, vmapped": lambda x: jax.vmap(lambda s: jnp.linalg.solve(matrix(s * x), B[3][0]) @ B[3][1])(X).sum(),
    "solve, complex": lambda x: jnp.abs(jnp.linalg.solve(hermitian(x), B[3][0] + 0j) @ B[3][1]) ** 2,
    "solve, positive": lambda x: linalg.solve(positive(x), B[3][0], assume_a="pos") @ B[3][1],
    "conjugate gradients": lambda x: cg(positive(x), B[3][0] * x[0], tol=1e-14)[0] @ B[3][1],
    "conjugate gradients, nonlinear in x": nonlinear_in_x,
    "conjugate gradients, several unknowns": several_unknowns,
    "log determinant": lambda x: jnp.linalg.slogdet(matrix(x))[1],
    "log determinants": lambda x: (jnp.linalg.slogdet(both(matrix, x))[1] ** 2).sum(),
    "log determinant, negative": lambda x: jnp.prod(jnp.stack(jnp.linalg.slogdet(matrix(x)[::-1]))),
    "log determinant, complex": lambda x: jnp.linalg.slogdet(hermitian(x) + 1j * matrix(x))[1],
    "determinant": lambda x: jnp.linalg.det(matrix(x)),
    "Cholesky": lambda x: (jnp.linalg.cholesky(positive(x)) * B[3]).sum(),
    "Cholesky, batched": lambda x: (jnp.linalg.cholesky(both(positive, x)) ** 3).sum(),
    "Cholesky, complex": lambda x: jnp.abs((jnp.linalg.cholesky(hermitian(x)) * B[3]).sum()) ** 2,
    "Cholesky, solved with": lambda x: linalg.cho_solve(linalg.cho_factor(positive(x)), B[3][0] * x[1]) @ B[3][1],
    "triangular, right": partial(triangular, left_side=False, lower=True),
    "triangular, right, transposed": partial(triangular, left_side=False, transpose_a=True, right_moves=False),
    "triangular, left, upper": partial(triangular, left_side=True),
    "triangular, left, ones": partial(triangular, left_side=True, lower=True, unit_diagonal=True, right_moves=False),
    "triangular, conjugate": partial(triangular, left_side=True, transpose_a=True, conjugate_a=True, lower=True),
    "eigenvalues": lambda x: (jnp.linalg.eigh(positive(x))[0] ** 2) @ B[3][0],
}


def nested(f, x, v, order):
    for _ in range(order):
        f = lambda x, g=f: jax.jvp(g, (x,), (v,))[1]  # noqa: E731
    return f(x)


QUICK = {"inverse", "solve, one column", "log determinant", "Cholesky", "conjugate gradients"}
CASES = [
    pytest.param(name, order, marks=[pytest.mark.slow, pytest.mark.thorough][: (name not in QUICK) + (order != 2)])
    for name in FUNCTIONS
    for order in (1, 2, 3, 4)
]


@pytest.mark.parametrize(("name", "order"), CASES)
def test_linear_algebra_is_what_nested_jvp_gives(name, order):
    f = FUNCTIONS[name]
    got = jax.jit(lambda x: taylor.weighted(f, x, LINES, WEIGHTS, order))(X)
    want = jax.jit(lambda x: WEIGHTS @ jax.vmap(lambda v: nested(f, x, v, order))(LINES))(X)
    np.testing.assert_allclose(got, want, rtol=1e-11)  # 7e-15 is the largest measured up to order 4


@pytest.mark.slow  # it compiles two programs of third order
@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_gradient_goes_through(name):
    f = FUNCTIONS[name]
    got = jax.jit(jax.grad(lambda x: taylor.laplacian(f, x)))(X)
    want = jax.grad(lambda x: jnp.trace(jax.hessian(f)(x)))(X)
    np.testing.assert_allclose(got, want, rtol=1e-11)


@pytest.mark.parametrize("name", ["inverse", "log determinant", "Cholesky", "eigenvalues"])
def test_it_factors_once_whatever_the_number_of_lines(name):
    def shapes(lines):
        program = trace(lambda x: taylor.laplacian(FUNCTIONS[name], x, lines, compress=False), X)
        factors = [e for e in program.equations if e.name in ("lu", "cholesky", "eigh")]
        return [e.sizes for e in factors]

    assert shapes(LINES[:1]) and shapes(LINES[:1]) == shapes(np.tile(LINES, (4, 1)))


@pytest.mark.slow
def test_single_precision_stays():
    x = jnp.asarray(X, jnp.float32)

    def f(x):
        a = 2 * jnp.eye(2, dtype=x.dtype) + jnp.outer(x, x)
        return jnp.linalg.slogdet(a)[1] + jnp.linalg.inv(jnp.diag(x)).sum() + jnp.linalg.cholesky(a).sum()

    got, want = jax.jit(lambda x, z: (taylor.laplacian(f, x), jnp.trace(jax.hessian(f)(z))))(x, X)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_custom_rule_beside_that_of_slogdet_keeps_its_own():
    @jax.custom_jvp
    def twice(a):
        return tuple(jnp.linalg.slogdet(a))

    twice.defjvp(lambda p, t: (twice(*p), (jnp.zeros(()), 2 * jnp.trace(jnp.linalg.solve(p[0], t[0])))))
    functions = lambda x: twice(matrix(x))[1], FUNCTIONS["log determinant"]
    got, once = jax.jit(lambda x: [taylor.laplacian(f, x) for f in functions])(X)
    np.testing.assert_allclose(got, 2 * once, rtol=1e-12)


def test_a_singular_matrix_has_no_logarithm():
    f = lambda x: jnp.linalg.slogdet(jnp.stack([x, 0 * x]))[1]  # noqa: E731
    got, want = taylor.weighted(f, X, LINES, WEIGHTS, 2), WEIGHTS @ jax.vmap(lambda v: nested(f, X, v, 2))(LINES)
    assert not np.isfinite(got) and not np.isfinite(want)
