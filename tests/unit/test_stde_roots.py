"""Dense estimates from roots of unity: odd orders and pure fourths, in mean and variance over all draws."""

from itertools import combinations, permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course import stde, taylor
from course.stde import Kind, Operator, sampled

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
D = 4


def pure(order, coefficients):
    coefficients = np.asarray(coefficients, float)
    return Operator.of_kinds(len(coefficients), (Kind((order,), np.arange(len(coefficients))[:, None], coefficients),))


RNG = np.random.default_rng(0)
SLOPES, OFFSETS = RNG.normal(size=(3, D)) / 2, RNG.normal(size=3)


def field(x):
    """Of full degree in all coordinates, and quick to compile."""
    return ((SLOPES[:, : len(x)] @ x + OFFSETS) ** 7).sum()


X = np.linspace(-0.4, 0.5, D)


def tensor(order, f=field, x=X):
    """All derivatives of an order, (d,) * order."""
    for _ in range(order):
        f = jax.jacfwd(f)
    return np.asarray(jax.jit(f)(x))


def every_draw(operator, order, monkeypatch, x=X, f=field):
    """The estimates from one sample for each of the order^d equally likely draws."""
    turns = jnp.asarray(list(product(range(order), repeat=len(x))))

    def estimate(turn):
        monkeypatch.setattr(jax.random, "randint", lambda *args: turn[None])
        return stde.estimate(operator, f, x, KEY, 1, dense="roots")

    return np.asarray(jax.jit(jax.vmap(estimate))(turns))


COEFFICIENTS = {3: [1.0, -2.0, 0.0, 0.5], 4: [1.0, -2.0, 0.0, 0.5], 5: [0.3, 1.0, -1.0], 6: [2.0, -1.0, 3.0]}


@pytest.mark.parametrize("order", COEFFICIENTS)
def test_the_mean_over_all_draws_is_the_operator(order, monkeypatch):
    c = np.array(COEFFICIENTS[order])
    x = X[: len(c)]
    draws = every_draw(pure(order, c), order, monkeypatch, x)
    np.testing.assert_allclose(draws.mean(), stde.apply(pure(order, c), field, x), rtol=1e-11)
    assert draws.std() > 0.1 * abs(draws.mean())  # one draw alone is far off


def test_the_variances_are_those_of_the_theory(monkeypatch):
    third, fourth, axes = tensor(3), tensor(4), range(D)
    pairs, ones = list(combinations(axes, 2)), np.ones(D)
    expected = sum(4.5 * (third[i, i, j] + third[i, j, j]) ** 2 for i, j in pairs)
    expected += sum(18 * third[i, j, k] ** 2 for i, j, k in combinations(axes, 3))
    np.testing.assert_allclose(every_draw(pure(3, ones), 3, monkeypatch).var(), expected, rtol=1e-11)
    expected = sum(8 * (fourth[i, i, i, j] + fourth[i, j, j, j]) ** 2 + 36 * fourth[i, i, j, j] ** 2 for i, j in pairs)
    expected += sum(72 * fourth[i, i, j, k] ** 2 for i, j, k in permutations(axes, 3) if j < k)
    expected += sum(288 * fourth[i, j, k, m] ** 2 for i, j, k, m in combinations(axes, 4))
    np.testing.assert_allclose(every_draw(pure(4, ones), 4, monkeypatch).var(), expected, rtol=1e-11)


@pytest.mark.parametrize("order", [3, 4, 5])
def test_sums_over_one_coordinate_each_are_exact(order):
    f, c = lambda x: (jnp.sin(x) * jnp.arange(1, 7.0)).sum(), np.array([1.0, -1.0, 2.0, 0.0, 3.0, 0.5])
    x, operator = jnp.linspace(-1, 1, 6), pure(order, c)
    got = jax.jit(lambda x: stde.estimate(operator, f, x, KEY, 2, dense="roots"))(x)
    np.testing.assert_allclose(got, stde.apply(operator, f, x), rtol=1e-12)


def test_each_direction_of_order_three_is_skewed_alone():
    """4^(1/3) with probability 1/3, else -4^(1/3) / 2, weights included: E v_i v_j v_k = 1 only at i = j = k."""
    n = 4000
    directions, weights = sampled._roots(np.ones(D), 0.0, KEY, n, 3, jnp.asarray(X))
    for part in np.split(np.asarray(directions * jnp.cbrt(3 * weights)[:, None]), 3):
        np.testing.assert_allclose(np.unique(part.round(9)), [-(4 ** (1 / 3)) / 2, 4 ** (1 / 3)], atol=1e-8)
        products = np.einsum("ni,nj,nk->nijk", part, part, part)
        exact = np.einsum("il,jl,kl->ijk", *[np.eye(D)] * 3)
        assert (abs(products.mean(axis=0) - exact) < 5 * products.std(axis=0) / n**0.5).all()


@pytest.mark.slow
def test_a_biharmonic_operator_varies_less_from_roots_than_from_gaussians():
    keys, deviations = jax.random.split(KEY, 4000), {}
    for law in ("gaussian", "roots"):
        way = lambda k, law=law: stde.estimate(stde.biharmonic(D), field, X, k, 1, dense=law)  # noqa: E731
        draws = np.asarray(jax.jit(jax.vmap(way))(keys))
        assert abs(draws.mean() - taylor.biharmonic(field, X)) < 4 * draws.std() / len(draws) ** 0.5
        deviations[law] = draws.std()
    assert deviations["roots"] < deviations["gaussian"] / 2


@pytest.mark.slow
@pytest.mark.parametrize("c", [(1.0, 6.0), (2.0, -3.0), (0.0, 1.0)])
def test_any_multiple_of_all_pairs_is_estimated_beside_pure_fourths(c):
    operator = c[0] * pure(4, np.ones(3)) + c[1] * (stde.biharmonic(3) - pure(4, np.ones(3))) / 2
    keys = jax.random.split(KEY, 4000)
    x = X[:3]
    draws = np.asarray(jax.jit(jax.vmap(lambda k: stde.estimate(operator, field, x, k, 2, dense="roots")))(keys))
    assert abs(draws.mean() - stde.apply(operator, field, x)) < 4 * draws.std() / len(draws) ** 0.5


def test_orders_factors_and_what_is_exact_go_together():
    operator = (1 + 2j) * pure(3, np.ones(3)) + stde.laplacian(3) + Operator({(1, 0, 0): 3.0, (0, 0, 0): 2.0})
    f, x = lambda x: (x**3).sum() + (x**2).sum(), jnp.ones(3)
    got = jax.jit(lambda a: stde.estimate(a * operator, f, x, KEY, 2, dense="roots"))(0.5)
    np.testing.assert_allclose(got, 0.5 * ((1 + 2j) * 18 + 24 + 3 * 5 + 2 * 6))


def test_many_coordinates_cost_lines_alone():
    d = 10_000
    f = lambda x: jnp.sin(x).sum()  # noqa: E731
    x = jnp.linspace(-1, 1, d)
    got = jax.jit(lambda x: stde.estimate(pure(3, np.ones(d)), f, x, KEY, 2, dense="roots"))(x)
    np.testing.assert_allclose(got, -jnp.cos(x).sum(), rtol=1e-11)
    single = jax.eval_shape(
        lambda x: stde.estimate(pure(4, np.ones(d)), f, x, KEY, 1, dense="roots"), x.astype(jnp.float32)
    )
    assert single.dtype == jnp.float32


@pytest.mark.parametrize(
    ("operator", "law", "message"),
    [
        (pure(3, np.ones(2)), "rademacher", 'odd moments are zero; use dense="roots", or None'),
        (pure(4, np.ones(2)), "gaussian", r'E v_i\^2 v_j\^2 = 0 .* use dense="roots", or None'),
        (stde.biharmonic(2), "rademacher", 'moments of order 4 .* use dense="roots", or None'),
        (Operator({(2, 1): 1.0}), "roots", "mixed derivatives other than all u_iijj alike; use dense=None"),
        (Operator({(2, 1): 1.0}), "gaussian", "odd moments are zero; use dense=None"),
        (Operator({(3, 0): lambda x: x[0]}), "roots", "coefficients depend on x.*; use dense=None"),
        (Operator({(2, 2, 0): 1.0}), "roots", "mixed derivatives other than"),
        (pure(3, np.ones(2)), "skewed", '"rademacher", "gaussian", "roots" or None, got \'skewed\''),
    ],
)
def test_what_roots_cannot_estimate_is_refused(operator, law, message):
    with pytest.raises(ValueError, match=message):
        stde.estimate(operator, field, X[: operator.dimension], KEY, 1, dense=law)
