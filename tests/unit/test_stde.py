"""Operators: exact against nested forward derivatives; estimates against exact, in mean and in variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course import stde
from course.stde import Operator

D = 4
MATRIX = np.random.default_rng(0).normal(size=(D, D))
MIXED = Operator(
    {
        (2, 1, 0, 0): 2.0,
        (0, 2, 1, 0): -1.0,
        (1, 0, 0, 0): lambda x: x[1],
        (0, 0, 0, 0): 3.0,
        (0, 0, 0, 4): lambda x: x @ x,
        (0, 0, 2, 2): 1.0,
        (1, 1, 0, 0): 1.0,
    }
)
OPERATORS = {
    "laplacian": stde.laplacian(D),
    "biharmonic": stde.biharmonic(D),
    "matrix": stde.second_order(MATRIX),
    "mixed": MIXED,
    "sum": 2.0 * stde.laplacian(D) + stde.biharmonic(D) * 0.5 + stde.laplacian(D),
    "signs": stde.second_order(np.diag([1.0, 2.0, -3.0, 0.0])),
    "first": Operator({(0, 0, 0, 1): 1.0}),
}


@pytest.fixture(autouse=True)
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def field(x):
    """Smooth, not symmetric, of full degree in all coordinates."""
    a = jnp.arange(1.0, len(x) + 1)
    return jnp.exp(0.3 * x @ a[::-1] / len(x)) * (1 + jnp.sin(x @ a)) + (1 - x @ x) * jnp.cos(x[0] + 2 * x[-1])


def point(d=D):
    return jnp.linspace(-0.4, 0.5, d)


def along(f, v):
    return lambda x: jax.jvp(f, (x,), (v,))[1]


def nested(f, x, axes):
    for axis in axes:
        f = along(f, jnp.eye(len(x))[axis])
    return f(x)


def by_definition(operator, f, x):
    """The sum over the terms, each by nested forward derivatives."""
    total = 0.0
    for kind in operator.kinds:
        for axes, coefficient in zip(kind.axes, kind.at(x), strict=True):
            total += coefficient * nested(f, x, np.repeat(axes, kind.powers))
    return total


HEAVY = {"mixed", "sum", "biharmonic", "matrix", "signs"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in OPERATORS])
def test_apply_is_exact(name):
    x = point()
    expected = by_definition(OPERATORS[name], field, x)
    np.testing.assert_allclose(stde.apply(OPERATORS[name], field, x), expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("ready", [stde.kdv(0.5), stde.kdv_2d(), stde.kuramoto_sivashinsky()], ids=repr)
def test_ready_operators_are_the_sum_of_their_terms(ready):
    x = point(ready.dimension)
    np.testing.assert_allclose(stde.apply(ready, field, x), by_definition(ready, field, x), rtol=1e-12)


def test_ready_operators_say_what_they_are():
    x = jnp.array([0.3, 0.2])
    wave = lambda p: jnp.sin(p[0] + 2 * p[1])  # noqa: E731
    s, c = np.sin(0.7), np.cos(0.7)
    np.testing.assert_allclose(stde.apply(stde.kdv(0.5), wave, x), c - 0.5 * 8 * c)
    np.testing.assert_allclose(stde.apply(stde.kuramoto_sivashinsky(), wave, x), c - 4 * s + 16 * s)
    wave3 = lambda p: jnp.sin(p[0] + 2 * p[1] + 3 * p[2])  # noqa: E731
    x3 = jnp.array([0.1, 0.0, 0.2])
    np.testing.assert_allclose(stde.apply(stde.kdv_2d(), wave3, x3), s * (-3 + 24 - 18 + 4))


KEYS = 2000
CASES = [
    *((name, {"samples": s}) for name in ("laplacian", "matrix", "signs", "mixed", "sum") for s in (1, 2)),
    ("laplacian", {"samples": 5, "replace": True}),
    ("mixed", {"samples": 2, "replace": True}),
    *(
        (name, {"samples": 3, "dense": law})
        for name in ("laplacian", "signs", "matrix")
        for law in ("rademacher", "gaussian")
    ),
    ("biharmonic", {"samples": 4, "dense": "gaussian"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), CASES, ids=str)
def test_estimates_are_unbiased(name, how):
    x, keys = point(), jax.random.split(jax.random.key(5), KEYS)
    exact = by_definition(OPERATORS[name], field, x)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: stde.estimate(OPERATORS[name], field, x, key, **how)))(keys))
    error = draws.std(ddof=1) / KEYS**0.5
    assert abs(draws.mean() - exact) <= 4 * error + 1e-10 * abs(exact)


def test_a_sparse_estimate_in_the_mean():
    """The quick one of the tests above."""
    x, operator = point(), OPERATORS["laplacian"]
    keys = jax.random.split(jax.random.key(8), KEYS)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: stde.estimate(operator, field, x, key, 1)))(keys))
    assert abs(draws.mean() - by_definition(operator, field, x)) <= 4 * draws.std() / KEYS**0.5


def variance(samples, **how):
    x, keys = point(), jax.random.split(jax.random.key(6), 10 * KEYS)
    draws = jax.jit(jax.vmap(lambda key: stde.estimate(stde.laplacian(D), field, x, key, samples, **how)))(keys)
    return float(jnp.var(draws))


@pytest.mark.slow
def test_variances_are_those_of_the_theory():
    """Of the Laplacian with Hessian H, as `estimate` says; 20,000 draws give a variance to a few percent."""
    h = jax.hessian(field)(point())
    diagonal, everything, n = jnp.diag(h), (h**2).sum(), 2
    theory = {
        "without replacement": (D**2 / n * float(diagonal.var(ddof=1)) * (1 - n / D), variance(n)),
        "with replacement": (D**2 / n * float(diagonal.var()), variance(n, replace=True)),
        "rademacher": (2 / n * float(everything - (diagonal**2).sum()), variance(n, dense="rademacher")),
        "gaussian": (2 / n * float(everything), variance(n, dense="gaussian")),
    }
    for name, (expected, measured) in theory.items():
        assert measured == pytest.approx(expected, rel=0.08), name


def test_all_terms_without_replacement_are_exact():
    x = point()
    for name in ("laplacian", "matrix"):
        operator = OPERATORS[name]
        got = stde.estimate(operator, field, x, jax.random.key(0), samples=max(map(len, operator.kinds)))
        np.testing.assert_allclose(got, by_definition(operator, field, x), rtol=1e-12)


@pytest.mark.slow
def test_unbiased_square_and_its_biased_sibling():
    """The biased one is too large by the variance of the estimate, and not by chance."""
    x, keys = point(), jax.random.split(jax.random.key(7), 10 * KEYS)
    exact = by_definition(OPERATORS["laplacian"], field, x)

    def residual(key):
        return stde.estimate(OPERATORS["laplacian"], field, x, key, samples=1)

    fair = np.asarray(jax.jit(jax.vmap(lambda key: stde.unbiased_square(residual, key)))(keys))
    naive = np.asarray(jax.jit(jax.vmap(lambda key: stde.biased_square(residual, key)))(keys))
    assert abs(fair.mean() - exact**2) <= 4 * fair.std() / len(keys) ** 0.5
    bias = D**2 * float(jnp.diag(jax.hessian(field)(x)).var())
    assert abs(naive.mean() - exact**2 - bias) <= 4 * naive.std() / len(keys) ** 0.5
    assert bias > 20 * naive.std() / len(keys) ** 0.5


@pytest.mark.slow
def test_under_jit_vmap_and_grad():
    operator = stde.laplacian(D)
    xs = jnp.stack([point(), 2 * point()])
    laplacians = jax.jit(jax.vmap(lambda x: stde.apply(operator, field, x)))(xs)
    np.testing.assert_allclose(laplacians, [by_definition(operator, field, x) for x in xs])

    def through(x):
        return stde.estimate(operator, field, x, jax.random.key(1), samples=D)

    expected = jax.grad(lambda x: jnp.trace(jax.hessian(field)(x)))(point())
    np.testing.assert_allclose(jax.grad(through)(point()), expected, rtol=1e-9)


def test_a_hundred_thousand_dimensions_need_no_dense_directions():
    """16 directions of 10^5 coordinates would be 6 MB each in float32; the program has no array that large but x."""
    d = 100_000
    x = jax.ShapeDtypeStruct((d,), jnp.float32)
    f = lambda x: jnp.sin(x).sum()  # noqa: E731
    jaxpr = jax.make_jaxpr(lambda x, key: stde.estimate(stde.laplacian(d), f, x, key, samples=16))(x, jax.random.key(0))
    sizes = [v.aval.size for eqn in jaxpr.jaxpr.eqns for v in eqn.outvars if hasattr(v.aval, "size")]
    assert max(sizes) <= d


@pytest.mark.slow
def test_distinct_draws_every_set_equally_often():
    keys = jax.random.split(jax.random.key(0), 7000)
    draws = np.sort(jax.vmap(lambda key: stde.distinct(key, 5, 2))(keys), axis=1)
    assert (draws[:, 0] < draws[:, 1]).all() and draws.min() == 0 and draws.max() == 4
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == 10
    assert ((counts - 700) ** 2 / 700).sum() < 27.9  # chi-squared, 9 degrees of freedom, 1 in 1,000
    assert sorted(stde.distinct(jax.random.key(1), 6, 6).tolist()) == list(range(6))


SUM_OF_FOURTHS = Operator({(4, 0): 1.0, (0, 4): 1.0})
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stde.estimate(SUM_OF_FOURTHS, field, point(2), KEY, 1, dense="gaussian"), r"E v_i\^2 v_j\^2 = 0"),
        (lambda: stde.estimate(stde.biharmonic(3), field, point(3), KEY, 1, dense="rademacher"), "moments of order 4"),
        (lambda: stde.estimate(stde.kdv(), field, point(2), KEY, 1, dense="gaussian"), "no odd moments"),
        (
            lambda: stde.estimate(Operator({(2,): lambda x: x[0]}), field, point(1), KEY, 1, dense="gaussian"),
            "coefficients depend on x",
        ),
        (lambda: stde.estimate(stde.laplacian(4), field, point(), KEY, 1, dense="normal"), "rademacher.*got 'normal'"),
        (lambda: stde.estimate(stde.laplacian(4), field, point(), KEY, 0), "samples >= 1, got 0"),
        (lambda: stde.estimate(stde.laplacian(4), field, point(), KEY, 5), "samples <= 4.*replace=True"),
        (lambda: stde.apply(stde.laplacian(4), field, point(3)), "operator's 4 coordinates"),
        (lambda: stde.apply(stde.laplacian(4), field, jnp.ones((2, 4))), "jax.vmap"),
        (lambda: stde.apply(stde.laplacian(4), field, jnp.ones(4, int)), "floating dtype, got int64"),
        (lambda: stde.apply(stde.laplacian(4), lambda x: x, point()), r"scalar field \(d,\) -> \(\)"),
        (lambda: Operator({}), "at least one multi-index"),
        (lambda: Operator({(1,): 1.0, (1, 2): 1.0}), "expected 1 integers >= 0, one per coordinate"),
        (lambda: Operator({(-1, 2): 1.0}), "integers >= 0"),
        (lambda: stde.second_order(np.ones(3)), r"real matrix \(d, d\), got float64 \(3,\)"),
        (lambda: stde.laplacian(2) + stde.laplacian(3), "same coordinates, got 2 and 3"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
