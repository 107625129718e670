"""Operators: exact against nested forward derivatives; estimates against exact, in mean and in variance."""

import dataclasses
import re
from collections import defaultdict
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course import stde
from course.stde import Kind, Operator, Pairs, kinds, sampled

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


pytestmark = pytest.mark.usefixtures("x64")


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

    @jax.jit
    def total(x):
        terms = [zip(kind.listed, kind.at(x), [kind.powers] * len(kind), strict=True) for kind in operator.kinds]
        return sum(c * nested(f, x, np.repeat(axes, powers)) for rows in terms for axes, c, powers in rows)

    return total(x)


def applied(operator, f, x):
    return jax.jit(lambda x: stde.apply(operator, f, x))(x)


HEAVY = {"mixed", "sum", "biharmonic", "matrix", "signs"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in OPERATORS])
def test_apply_is_exact(name):
    x = point()
    expected = by_definition(OPERATORS[name], field, x)
    np.testing.assert_allclose(applied(OPERATORS[name], field, x), expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("ready", [stde.kdv(0.5), stde.kdv_2d(), stde.kuramoto_sivashinsky()], ids=repr)
def test_ready_operators_are_the_sum_of_their_terms(ready):
    x = point(ready.dimension)
    np.testing.assert_allclose(applied(ready, field, x), by_definition(ready, field, x), rtol=1e-12)


def test_ready_operators_say_what_they_are():
    x = jnp.array([0.3, 0.2])
    wave = lambda p: jnp.sin(p[0] + 2 * p[1])  # noqa: E731
    s, c = np.sin(0.7), np.cos(0.7)
    np.testing.assert_allclose(applied(stde.kdv(0.5), wave, x), c - 0.5 * 8 * c)
    np.testing.assert_allclose(applied(stde.kuramoto_sivashinsky(), wave, x), c - 4 * s + 16 * s)
    wave3 = lambda p: jnp.sin(p[0] + 2 * p[1] + 3 * p[2])  # noqa: E731
    x3 = jnp.array([0.1, 0.0, 0.2])
    np.testing.assert_allclose(applied(stde.kdv_2d(), wave3, x3), s * (-3 + 24 - 18 + 4))


def terms(operator):
    """The coefficients of an operator of numbers, by powers and axes: more than one where it has a term twice."""
    found = defaultdict(list)
    for kind in operator.kinds:
        for axes, known in zip(kind.listed.tolist(), kind.known.tolist(), strict=True):
            found[kind.powers, tuple(axes)].append(kind.factor * known)
    return found


def d2(*coefficients):
    """The terms of a sum of c_i u_ii."""
    return {((2,), (i,)): [c] if np.isscalar(c) else c for i, c in enumerate(coefficients)}


LAPLACIAN, ONE_ROW = stde.laplacian(2), Operator({(2, 0): 1.5})
TERMS = [
    (stde.kdv(), {((1,), (0,)): [1], ((3,), (1,)): [1]}),
    (stde.kdv_2d(), {((1, 1), (0, 2)): [1], ((3, 1), (1, 2)): [1], ((2,), (2,)): [2], ((2,), (1,)): [-1]}),
    (stde.kuramoto_sivashinsky(), {((1,), (0,)): [1], ((2,), (1,)): [1], ((4,), (1,)): [1]}),
    (stde.biharmonic(2), {((4,), (0,)): [1], ((4,), (1,)): [1], ((2, 2), (0, 1)): [2]}),
    (stde.second_order([[1.5, 2], [3, 4]]), d2(1.5, 4) | {((1, 1), (0, 1)): [5]}),
    (stde.second_order([[2]]), d2(2)),
    (stde.second_order([[1, 8e307], [1, 1]]), d2(1, 1) | {((1, 1), (0, 1)): [8e307]}),
    (Operator({(1, 3, 1, 0): 7.0}), {((3, 1, 1), (1, 0, 2)): [7]}),
    (LAPLACIAN + ONE_ROW, d2(2.5, 1)),
    (ONE_ROW + LAPLACIAN, d2(2.5, 1)),
    (LAPLACIAN + LAPLACIAN, d2(2, 2)),
    (LAPLACIAN + Operator({(1, 0): 4.0}), d2(1, 1) | {((1,), (0,)): [4]}),
    (stde.laplacian(1) + stde.biharmonic(1), {((2,), (0,)): [1], ((4,), (0,)): [1]}),
    (sum([ONE_ROW, ONE_ROW]), d2(3)),
    (0.0 + LAPLACIAN, d2(1, 1)),
    (-ONE_ROW, d2(-1.5)),
    (LAPLACIAN - ONE_ROW, d2(-0.5, 1)),
    (ONE_ROW / 4, d2(0.375)),
    (np.array(2.0) * ONE_ROW, d2(3)),
    (ONE_ROW * jnp.float32(2), d2(3)),
    (Fraction(1, 2) * ONE_ROW, d2(0.75)),
    ((-1 - 2j) * ONE_ROW, d2([-1.5, -3j])),
    (LAPLACIAN + 1j * LAPLACIAN, d2([1, 1j], [1, 1j])),
    (1j * LAPLACIAN + 1j * LAPLACIAN, d2(2j, 2j)),
    (2.5j * (1j * ONE_ROW), d2(-3.75)),
    (1j * Operator.of_kinds(1, (Kind((2,), np.array([[0]]), np.array([5.0]), factor=2j),)), d2(-10)),
    (1j * Operator.of_kinds(1, (Kind((2,), np.array([[0]]), np.array([5.0]), factor=-1 - 1j),)), d2(5 - 5j)),
    (Operator.of_kinds(2, ()), {}),
]


@pytest.mark.parametrize(("operator", "expected"), TERMS, ids=str)
def test_an_operator_is_the_sum_of_these_terms(operator, expected):
    assert terms(operator) == expected


def test_an_operator_of_many_coordinates():
    assert terms(stde.laplacian(300) + Operator({(2,) + 299 * (0,): 1.0})) == d2(2, *[1] * 299)
    assert repr(stde.second_order(np.eye(300))) == "Operator(dimension=300, order=2, terms=45150)"
    assert repr(Operator.of_kinds(300, ())) == "Operator(dimension=300, order=0, terms=0)"


def test_coefficients_of_x_are_scaled_and_stay_apart_from_numbers():
    of_x, x = Operator({(1, 0): lambda x: x[1]}), jnp.array([0.0, 3.0])
    for operator, expected in (
        (2 * of_x, [[6.0]]), (of_x + of_x, [[3.0], [3.0]]),
        (of_x + Operator({(1, 0): 5.0}), [[3.0], [5.0]]), (Operator({(1, 0): 5.0}) + of_x, [[5.0], [3.0]]),
    ):  # fmt: skip
        assert [kind.at(x).tolist() for kind in operator.kinds] == expected


def test_operators_share_their_kinds_which_nothing_changes():
    (kind,) = LAPLACIAN.kinds
    assert kind != dataclasses.replace(kind)  # no comparison of arrays
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind.factor = 2.0


@jax.jit
def fourths(x):
    return (x**4).sum() + 5 * x[0]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (Operator({(4, 0): 1.0, (0, 4): 1.0}), 48),
        (Operator({(1, 0): 1.0, (0, 1): 1.0}), 4 + 5 + 32),
        (Operator({(3, 0): 1.0, (0, 3): 1.0}), 24 + 48),
        (Operator({(0, 0): 3.0}), 3 * 22),
        (stde.second_order([[2, 1], [1, 2]]) + 1j * stde.second_order([[2, 1], [1, 3]]), 24 + 96 + 1j * (24 + 144)),
    ],
    ids=str,
)
def test_apply_to_fourth_powers(operator, expected):
    np.testing.assert_allclose(applied(operator, fourths, jnp.array([1.0, 2.0])), expected, rtol=1e-12)


def test_apply_to_a_product_and_in_one_dimension():
    assert applied(Operator({(1, 1, 1): 2.0}), jnp.prod, jnp.array([3.0, 5.0, 7.0])) == 2
    assert applied(stde.laplacian(1), fourths, jnp.array([2.0])) == 48


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_results_have_the_dtype_of_the_point(dtype):
    operators = [
        stde.biharmonic(2), stde.second_order([[2, 1], [1, 2]]), Operator({(1, 1): 1.0, (3, 0): lambda x: x[0]}),
        stde.laplacian(2),
    ]  # fmt: skip

    def values(x, factor):
        parts = [stde.apply(each, fourths, x) for operator in operators for each in (operator, factor * operator)]
        parts += [stde.estimate(factor * operators[n], fourths, x, KEY, 1, dense="gaussian") for n in (0, 1, 3)]
        return [*parts, stde.estimate(operators[0], fourths, x, KEY, 1)], stde.apply(1j * operators[1], fourths, x)

    real, complex_ = jax.eval_shape(values, jnp.ones(2, dtype), jnp.ones((), jnp.float64))
    assert {each.dtype for each in real} == {jnp.dtype(dtype)}
    assert complex_.dtype == jnp.result_type(dtype, jnp.complex64)


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
    *((name, {"samples": 4, "dense": "gaussian"}) for name in ("biharmonic", "sum")),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how"), [pytest.param(*c, marks=[pytest.mark.thorough] * (n % 2)) for n, c in enumerate(CASES)], ids=str
)
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


@pytest.mark.parametrize(("replace", "sums"), [(False, [11, 101, 110]), (True, [2, 11, 20, 101, 110, 200])])
def test_terms_are_drawn_once_unless_replaced(replace, sums):
    keys, x = jax.random.split(KEY, 200), jnp.zeros(3)

    def draw(key):
        return stde.estimate(stde.laplacian(3), lambda x: x**2 @ 10.0 ** jnp.arange(3), x, key, 2, replace=replace)

    np.testing.assert_allclose(np.unique(jax.jit(jax.vmap(draw))(keys)), 3 * np.array(sums))  # 3 / 2 of twice these


def test_what_a_dense_estimate_must_know_is_exact():
    """Orders 0 and 1, and by Rademacher directions a second derivative that is diagonal, with every factor."""
    operator = (1 + 2j) * LAPLACIAN + Operator({(1, 0): 3.0, (0, 0): 2.0})
    got = jax.jit(lambda x: stde.estimate(operator, lambda x: x @ x, x, KEY, 2, dense="rademacher"))(jnp.ones(2))
    np.testing.assert_allclose(got, (1 + 2j) * 4 + 3 * 2 + 2 * 2)


def test_a_dense_estimate_takes_each_order_and_factor_by_itself():
    fourth = stde.biharmonic(2)
    for operator in (LAPLACIAN + 1j * fourth, 1j * fourth + LAPLACIAN, fourth + LAPLACIAN, 1j * fourth + fourth):
        how = {"samples": 2, "dense": "gaussian"}
        got = jax.eval_shape(lambda x, o=operator, how=how: stde.estimate(o, fourths, x, KEY, **how), jnp.ones(2))
        assert got.dtype == (complex if 1j in [kind.factor for kind in operator.kinds] else float)


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


@pytest.mark.slow
def test_all_terms_without_replacement_are_exact():
    x = point()
    for name in ("laplacian", "matrix"):
        operator = OPERATORS[name]
        most = max(map(len, operator.kinds))
        got = jax.jit(lambda x, o=operator, n=most: stde.estimate(o, field, x, KEY, samples=n))(x)
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


def test_the_squares_of_a_residual_without_noise():
    assert stde.unbiased_square(lambda key: 3.0, KEY) == stde.biased_square(lambda key: 3.0, KEY) == 9


@pytest.mark.slow
def test_under_jit_vmap_and_grad():
    operator = stde.laplacian(D)
    xs = jnp.stack([point(), 2 * point()])
    laplacians = jax.jit(jax.vmap(lambda x: stde.apply(operator, field, x)))(xs)
    np.testing.assert_allclose(laplacians, [by_definition(operator, field, x) for x in xs])

    def through(x):
        return stde.estimate(operator, field, x, jax.random.key(1), samples=D)

    expected = jax.jit(jax.grad(lambda x: jnp.trace(jax.hessian(field)(x))))(point())
    np.testing.assert_allclose(jax.jit(jax.grad(through))(point()), expected, rtol=1e-9)


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
    assert stde.distinct(KEY, 2**31 - 1, 3).min() >= 0


def program(call, d=7):
    """What `call` of a field with a layer (d, 3) does, as text, and how many lines at most go through that at once."""
    first = np.linspace(-1, 1, 3 * d).reshape(d, 3)
    text = str(jax.make_jaxpr(lambda x: call(lambda x: jnp.tanh(x @ first).sum(), x))(jnp.ones(d)))
    return text, max({int(n) for n in re.findall(r"\[(\d+),3\]", text)} - {d}, default=0)


RANK_ONE, OFF_DIAGONAL = np.outer(np.arange(1.0, 8), np.arange(1.0, 8)), np.ones((7, 7)) - np.eye(7)


@pytest.mark.parametrize(
    ("operator", "lines"),
    [
        (stde.second_order(1e6 * RANK_ONE), 1),  # its eigenvector
        (stde.second_order(1e-3 * RANK_ONE), 1),
        (stde.second_order(-1e-3 * RANK_ONE), 1),
        (stde.second_order(np.zeros((7, 7))), 0),
        (stde.second_order(0.1 * OFF_DIAGONAL), 6),  # the rows of it, not its 21 pairs
        (stde.second_order(np.ones((24, 24)) - np.eye(24)), 23),
        (Operator({(2, 0, 0, 0, 0, 0, 0): 1.0, (0, 0, 2, 0, 0, 0, 0): 3.0}), 2),  # the axes
    ],
    ids=["definite", "small", "negative", "zero", "indefinite", "more than 256 pairs", "pure"],
)
def test_terms_of_second_order_take_few_lines_together(operator, lines):
    text, found = program(lambda f, x: stde.apply(operator, f, x), operator.dimension)
    assert found == lines
    assert "[2,7]" not in text  # lines along axes are not written out
    assert ("tanh" in text) == bool(lines)


def test_what_an_estimate_need_not_make():
    lap = stde.laplacian(7)
    whole, _ = program(lambda f, x: stde.estimate(lap, f, x, KEY, 7))
    assert "cholesky" in whole  # all terms are the Laplacian again
    dense, _ = program(lambda f, x: stde.estimate(lap, f, x, KEY, 2, dense="rademacher"))
    assert "[7,7]" not in dense  # the eigenvectors of a diagonal matrix
    sparse, lines = program(lambda f, x: stde.estimate(lap, f, x, KEY, 2))
    assert lines == 2 and "[2,7]" not in sparse


SUM_OF_FOURTHS = Operator({(4, 0): 1.0, (0, 4): 1.0})
TWICE = Kind((1, 1), np.array([[0, 1], [0, 1]]), np.ones(2))
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stde.estimate(SUM_OF_FOURTHS, field, point(2), KEY, 1, dense="gaussian"), r"E v_i\^2 v_j\^2 = 0"),
        (
            lambda: stde.estimate(Operator({(6, 0): 1.0, (0, 6): 1.0}), field, point(2), KEY, 1, dense="gaussian"),
            r"E v_i\^2 v_j\^4 = 0",
        ),
        (lambda: stde.estimate(stde.biharmonic(3), field, point(3), KEY, 1, dense="rademacher"), "moments of order 4"),
        (lambda: stde.estimate(stde.kdv(), field, point(2), KEY, 1, dense="gaussian"), "odd moments are zero"),
        (
            lambda: stde.estimate(Operator({(2,): lambda x: x[0]}), field, point(1), KEY, 1, dense="gaussian"),
            "coefficients depend on x",
        ),
        (lambda: stde.estimate(stde.laplacian(4), field, point(), KEY, 1, dense="normal"), "rademacher.*got 'normal'"),
        (lambda: stde.estimate(stde.laplacian(4), field, point(), KEY, 0), "samples >= 1, got 0"),
        (lambda: stde.estimate(stde.laplacian(4), field, point(), KEY, 5), "samples <= 4.*replace=True"),
        (lambda: stde.apply(stde.laplacian(4), field, point(3)), r"operator's 4 coordinates, got \(3,\)"),
        (lambda: stde.apply(stde.laplacian(4), field, point(5)), r"operator's 4 coordinates, got \(5,\)"),
        (lambda: stde.apply(stde.laplacian(4), field, jnp.ones((2, 4))), "jax.vmap"),
        (lambda: stde.apply(stde.laplacian(4), field, jnp.ones(4, int)), "floating dtype, got int64"),
        (lambda: Operator({}), "at least one multi-index"),
        (lambda: Operator({(1,): 1.0, (1, 2): 1.0}), "expected 1 integers >= 0, one per coordinate"),
        (lambda: Operator({(-1, 2): 1.0}), "integers >= 0"),
        (lambda: stde.second_order(np.ones(3)), r"real matrix \(d, d\), got float64 \(3,\)"),
        *(
            (lambda shape=shape: stde.second_order(np.ones(shape)), re.escape(f"(d, d), got float64 {shape}"))
            for shape in [(2, 3), (3, 2), (2, 2, 2)]
        ),
        (lambda: stde.second_order([[1.0, 9e307]] * 2), "infinity or near it"),
        (lambda: stde.second_order([[np.finfo(float).max / 2]]), "infinity or near it"),
        (
            lambda: jax.jit(lambda c: stde.apply(stde.second_order(c), field, point(2)))(np.eye(2)),
            "known numbers, got a traced matrix",
        ),
        (lambda: stde.laplacian(0), "d >= 1, got 0"),
        (lambda: stde.biharmonic(0), "d >= 1, got 0"),
        (lambda: stde.laplacian(2) + stde.laplacian(3), "same coordinates, got 2 and 3"),
        (lambda: stde.laplacian(3) + stde.laplacian(2), "same coordinates, got 3 and 2"),
        (lambda: stde.apply(Operator.of_kinds(2, (TWICE,)), field, point(2)), "every pair of axes once.*got one twice"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- arithmetic, and coefficients that are learned or complex ------------------------------------------------


@pytest.mark.slow
def test_operators_are_vectors():
    a, b, x = stde.laplacian(D), OPERATORS["mixed"], point()
    ways = {
        "-a": (-a, lambda a, b: -a),
        "a - b": (a - b, lambda a, b: a - b),
        "b / 2": (b / 2, lambda a, b: b / 2),
        "sum": (sum([a, b, a]), lambda a, b: 2 * a + b),
        "numpy's numbers": (np.float64(2) * a - b * np.float32(0.5), lambda a, b: 2 * a - b / 2),
        "jax's numbers": (jnp.float64(2) * a, lambda a, b: 2 * a),
        "back and forth": (2 * a - a - a, lambda a, b: 0 * a),
    }

    @jax.jit
    def both(x):
        values = stde.apply(a, field, x), stde.apply(b, field, x)
        return [stde.apply(way, field, x) for way, _ in ways.values()], [f(*values) for _, f in ways.values()]

    np.testing.assert_allclose(*both(x), rtol=1e-12, atol=1e-12)
    assert repr(sum([a, a]) / 2) == repr(a)  # the same terms, not twice as many


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["laplacian", *(pytest.param(n, marks=pytest.mark.slow) for n in ("biharmonic", "matrix", "mixed"))]
)
def test_a_coefficient_can_be_learned(name):
    operator, x = OPERATORS[name], point()

    @jax.jit
    def with_gradient(a):
        return jax.value_and_grad(lambda a: stde.apply(a * operator + operator / a, field, x))(a)

    whole = applied(operator, field, x)
    np.testing.assert_allclose(with_gradient(2.0), (2.5 * whole, 0.75 * whole), rtol=1e-11)


def test_a_learned_factor_stays_one_for_all_terms():
    @jax.jit
    def counts(a):
        once = 2 * (a * LAPLACIAN) + a * ONE_ROW
        return [len(operator.kinds) for operator in (once, once + LAPLACIAN, once + 1j * once)]

    assert counts(2.0) == [1, 2, 2]


@pytest.mark.parametrize("how", [stde.apply, lambda *args: stde.estimate(*args, KEY, 1)], ids=["apply", "estimate"])
def test_a_complex_factor_can_be_learned(how):
    """Of terms that an estimate of one sample takes whole: one of each kind."""
    operator, f = Operator({(3, 0): 2.0, (1, 1): 3.0, (0, 1): 1.0}), lambda x: x[0] ** 3 + 7 * x[0] * x[1]
    got = jax.jit(lambda a: how(a * operator, f, jnp.array([2.0, 5.0])))(1 + 2j)
    np.testing.assert_allclose(got, (1 + 2j) * (2 * 6 + 3 * 7 + 14), rtol=1e-12)


def test_a_learned_laplacian_is_still_compressed():
    w = np.random.default_rng(0).normal(size=(40, 3))
    f, x = lambda x: jnp.tanh(x @ w).sum(), jnp.ones(40)
    program = str(jax.make_jaxpr(lambda a: stde.apply(a * stde.laplacian(40), f, x))(2.0))
    assert "cholesky" in program


@pytest.mark.slow
def test_terms_with_coefficients_of_every_sort():
    """Traced, complex and functions, in one operator; exact and estimated."""
    x = point(2)

    @jax.jit
    def run(a):
        operator = Operator({(2, 0): a, (1, 1): 2j, (0, 2): lambda x: x[0], (1, 0): a * a, (0, 0): 1.0 + 1.0j})
        return [stde.apply(operator, field, x), stde.estimate(operator, field, x, KEY, 1)]

    u_xx, u_xy, u_yy = (nested(field, x, axes) for axes in ((0, 0), (0, 1), (1, 1)))
    want = 3 * u_xx + 2j * u_xy + x[0] * u_yy + 9 * nested(field, x, (0,)) + (1 + 1j) * field(x)
    np.testing.assert_allclose(run(3.0), [want, want], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [complex, np.complex64, np.complex128])
def test_complex_numbers_of_any_kind(x64, kind):
    x, cube = jnp.array([0.3, 0.5, 0.7]), lambda x: (x**3).sum()
    whole = 6 * 1.5
    for operator, want in (
        (kind(2j) * stde.laplacian(3), 2j * whole), (stde.laplacian(3) / kind(2j), -0.5j * whole),
        (Operator({(2, 0, 0): kind(1 + 2j)}), (1 + 2j) * 6 * 0.3),
    ):  # fmt: skip
        np.testing.assert_allclose(stde.apply(operator, cube, x), want, rtol=1e-12)


@pytest.mark.slow
def test_complex_operators():
    def square(z):
        return z @ z

    assert stde.apply(1j * Operator({(2, 0): 1.0, (0, 2): 2.0}), square, jnp.ones(2)) == 6j
    c, x = 1j * MATRIX[:2, :2] + np.eye(2), point(2)
    form = stde.second_order(c.real) + 1j * stde.second_order(c.imag)
    hessian = jax.hessian(field)(x)
    np.testing.assert_allclose(stde.apply(form, field, x), (c * hessian).sum(), rtol=1e-12)
    np.testing.assert_allclose(stde.apply(1j * (1j * form), field, x), -(c * hessian).sum(), rtol=1e-12)
    by_signs = stde.estimate(1j * stde.laplacian(2), lambda z: (z**2).sum(), x, KEY, 3, dense="rademacher")
    np.testing.assert_allclose(by_signs, 4j)


@pytest.mark.slow
def test_an_operator_of_zeros_gives_zero():
    x = point()
    zeros = [0 * stde.laplacian(D), stde.second_order(np.zeros((D, D))), stde.laplacian(D) - stde.laplacian(D)]
    for operator in zeros:
        assert stde.apply(operator, field, x) == 0
        assert stde.estimate(operator, field, x, KEY, 2) == 0
        assert stde.estimate(operator, field, x, KEY, 2, dense="gaussian") == 0


def test_terms_that_differentiate_alike_are_one_kind():
    same = Operator({(2, 0, 0): 1.0, (0, 0, 2): 3.0, (1, 2, 0): 1.0, (0, 1, 2): 1j, (2, 1, 0): 2.0})
    assert [(kind.powers, len(kind)) for kind in same.kinds] == [((2,), 2), ((2, 1), 2), ((2, 1), 1)]
    assert [len(operator.kinds) for operator in (1j * stde.laplacian(3), stde.biharmonic(3) * 2)] == [1, 2]
    assert (stde.laplacian(3) + stde.laplacian(3)).kinds[0].coefficients.tolist() == [2.0] * 3


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_a_mixed_term_with_a_coefficient_of_x(wrap):
    """Found by `make fuzz`: XLA compiled a scatter of the coefficients into a program that differentiated them too."""
    x, weights = jnp.array([0.79, 0.5, 0.89]), jnp.array([1.0, 2.0, 3.0])

    def f(x):
        return (jnp.cumsum(x) / 3 + jnp.cumprod(jnp.tanh(x))) @ weights * x[0]

    got = wrap(lambda x: stde.apply(Operator({(1, 1, 0): lambda x: x[0] + 1.0}), f, x))(x)
    np.testing.assert_allclose(got, (x[0] + 1) * jax.hessian(f)(x)[0, 1], rtol=1e-12)


@pytest.mark.slow
def test_ready_operators_on_monomials():
    x = jnp.array([0.3, 0.7, -0.4])
    kdv = stde.apply(stde.kdv(5.0), lambda x: x[0] * 2 + x[1] ** 3, x[:2])
    np.testing.assert_allclose(kdv, 2 + 5 * 6, rtol=1e-12)
    two = stde.apply(stde.kdv_2d(), lambda x: 3 * x[0] * x[2] + x[1] ** 3 * x[2] + 5 * x[2] ** 2 + 7 * x[1] ** 2, x)
    np.testing.assert_allclose(two, 3 + 6 + 2 * 10 - (6 * x[1] * x[2] + 14), rtol=1e-12)


def named(index, coordinates=("t", "x")):
    return Operator([(index, 1.0)], coordinates=coordinates)


def test_a_biharmonic_operator_is_recognised_in_any_dimension():
    for d in (2, 3, 300):
        assert sampled.biharmonic_scale(list((3 * stde.biharmonic(d)).kinds), d) == 3
        assert kinds.common((2 * stde.laplacian(d)).kinds[0], d) == 2
    assert sampled.biharmonic_scale(list(stde.biharmonic(3).kinds), 4) is None
    pure, mixed = (dataclasses.replace(k, axes=k.listed, coefficients=k.known) for k in stde.biharmonic(3).kinds)
    assert sampled.biharmonic_scale([pure, mixed], 3) == 1
    assert sampled.biharmonic_scale([pure, mixed, pure], 3) is None
    for axes, coefficients in (
        ([0, 1], [1, 1]), ([0, 1, 1], [1, 1, 1]), ([0, 1, 2], [1, 1, 2]), ([0, 1, 2], [1, 2, 1])
    ):  # fmt: skip
        other = Kind((4,), pure.axes[axes], np.array(coefficients))
        assert sampled.biharmonic_scale([other, mixed], 3) is None
        other = Kind((2, 2), mixed.axes[axes], 2 * np.array(coefficients))
        assert sampled.biharmonic_scale([pure, other], 3) is None
    for factor in (0.5, 1.5):
        assert (
            sampled.biharmonic_scale([pure, dataclasses.replace(mixed, coefficients=factor * mixed.known)], 3) is None
        )
    for unequal in ([1.0, 2.0], [2.0, 1.0]):
        assert kinds.common(Kind((2,), np.array([[0], [1]]), np.array(unequal)), 2) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stde.laplacian(2) * np.array([1.0, 5.0]), r"expected a number.*shape \(2,\)"),
        (lambda: np.array([1.0, 5.0]) * stde.laplacian(2), r"expected a number.*shape \(2,\)"),
        (lambda: stde.laplacian(2) * (lambda x: x[0]), "expected a number, got a function"),
        (lambda: stde.laplacian(2) + 1.0, "unsupported operand"),
        (lambda: stde.laplacian(2) + -1.0, "unsupported operand"),
        (lambda: stde.laplacian(2) - 1.0, "unsupported operand"),
        (
            lambda: jax.jit(lambda c: stde.apply(c * LAPLACIAN, field, point(2)))(np.ones(2)),
            r"expected a number.*\(2,\)",
        ),
        (lambda: jax.jit(lambda c: stde.apply(c * LAPLACIAN, field, point(2)))(True), r"expected a number.*shape \(\)"),
        (lambda: Operator({(2, 0): None}), "expected a number.*got None"),
        (lambda: Operator({(2, 0): "1"}), "expected a number.*got '1'"),
        (lambda: Operator({"xx": 1.0}), "integers >= 0.*got 'xx'"),
        (lambda: Operator({2: 1.0}), "expected 1 integers >= 0.*got 2"),
        (lambda: Operator([]), "at least one multi-index, got"),
        (lambda: Operator([(2, 0, 1.0)]), "expected pairs of a multi-index and a coefficient, got"),
        (lambda: Operator(3.0), "at least one multi-index, got 3.0"),
        (lambda: Operator([({"t": 1}, 1.0)]), r"expected names in coordinates, got \{'t': 1\}.*coordinates="),
        (lambda: named({"y": 1}), r"names among the coordinates \('t', 'x'\), got 'y'"),
        (lambda: named({"t": 1.5}), "the power of t as an integer >= 0, got 1.5"),
        (lambda: named({"t": -1}), "the power of t >= 0, got -1"),
        (lambda: named((1, 0, 0)), r"expected 2 integers >= 0.*got \(1, 0, 0\)"),
        (lambda: named({"t": 1}, ("t", "t")), r"expected coordinates as different names, got \('t', 't'\)"),
        (lambda: named({"t": 1}, "tx"), "expected coordinates as different names, got 'tx'"),
        (lambda: named({"t": 1}, ()), r"expected coordinates as different names, got \(\)"),
        (lambda: named({"t": 1}) + named({"t": 1}, ("x", "t")), r"same coordinates, got \('t', 'x'\) and \('x', 't'\)"),
        (lambda: named({"t": 1}) + stde.laplacian(3), "same coordinates, got 2 and 3"),
        (lambda: stde.laplacian(2) / (lambda x: x[0]), "expected a number, got a function; write"),
        (
            lambda: stde.apply((lambda x: x) * LAPLACIAN, field, point(2)),
            r"coefficient \(d,\) -> \(\), got \(2,\)",
        ),
        (
            lambda: stde.apply(Operator({(1, 0): lambda x: x}), field, point(2)),
            r"coefficient \(d,\) -> \(\), got \(2,\)",
        ),
        (lambda: stde.estimate(stde.laplacian(4), field, point(), KEY, 2.0), "samples as an integer >= 1, got 2.0"),
        (lambda: stde.distinct(KEY, 2, 5), "samples <= population = 2, got 5"),
        (lambda: stde.distinct(KEY, 5, -1), "samples >= 1, got -1"),
        (lambda: stde.distinct(KEY, 5, 0), "samples >= 1, got 0"),
        (lambda: stde.distinct(KEY, 0, 0), "population >= 1, got 0"),
        (lambda: stde.distinct(KEY, 5.5, 2), "population as an integer >= 1, got 5.5"),
        (lambda: stde.distinct(KEY, 5, True), "samples as an integer >= 1, got True"),
        (lambda: stde.distinct(KEY, 2**31, 3), r"population < 2\*\*31"),  # 0 was drawn for 2^31 - 1
        (lambda: stde.distinct(KEY, 2**32, 3), r"population < 2\*\*31"),
        (lambda: Operator({(2, 0): np.nan}), "finite number, got nan"),
        (lambda: Operator({(2, 0): complex(0, np.inf)}), "finite number, got infj"),
        (lambda: Operator({(2, 0): 10**400}), "finite number, got 10{39}; what divides it may be 0"),
        (lambda: np.inf * stde.laplacian(2), "finite number, got inf"),
        (lambda: stde.kdv(np.nan), "finite number, got nan"),
        (lambda: stde.second_order(np.zeros((0, 0))), r"real matrix \(d, d\), got float64 \(0, 0\)"),
        (lambda: stde.second_order([["1"]]), r"real matrix \(d, d\), got <U1"),
        (lambda: stde.second_order([[1.0, np.nan], [0.0, 1.0]]), "matrix of finite numbers, got NaN"),
        (lambda: stde.apply(Operator({(10**9,): 1.0}), field, point(1)), "order <= 40, got 1000000000"),
        (
            lambda: stde.estimate(Operator({(10**9,): 1.0}), field, point(1), KEY, 1, dense="gaussian"),
            "a sum of pure derivatives of order 1000000000",
        ),
    ],
)
def test_what_is_no_operator_or_number_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


# --- all pairs, which are not listed -------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 8, 9])
def test_pairs_are_numbered_each_once(d):
    listed = Pairs(d).listed()
    assert sorted(map(tuple, listed.tolist())) == [(i, j) for i in range(d) for j in range(i + 1, d)]
    traced = jax.jit(Pairs(d).numbered)(jnp.arange(len(Pairs(d))))
    assert traced.tolist() == listed.tolist()


@pytest.mark.parametrize("replace", [False, True])
def test_pairs_of_a_million_axes_are_drawn(replace):
    """More than int32 counts."""
    drawn = jax.jit(lambda key: Pairs(1_000_000).draw(key, 1000, replace))(KEY)
    assert (drawn[:, 0] < drawn[:, 1]).all() and drawn.min() >= 0 and drawn.max() < 1_000_000
    assert abs(float(drawn.mean()) - 5e5) < 5 * 1e6 / 12**0.5 / 2000**0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", [Pairs._different, lambda pairs, key, n: pairs.draw(key, n, False)], ids=["anew", "numbers"]
)
def test_every_set_of_pairs_is_drawn_equally_often(way):
    """Two of the 6 pairs of 4 axes, with many to be drawn anew: 15 sets."""
    draws = np.sort(
        jax.jit(jax.vmap(lambda key: way(Pairs(4), key, 2) @ jnp.array([4, 1])))(jax.random.split(KEY, 7500))
    )
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == 15
    assert ((counts - 500) ** 2 / 500).sum() < 36.2  # chi-squared, 14 degrees of freedom, 1 in 1,000
    everything = way(Pairs(4), KEY, 6)
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, Pairs(4).listed().tolist()))


def test_a_biharmonic_operator_in_a_million_dimensions():
    whole = stde.biharmonic(1_000_000)
    for operator in (whole, 2 * whole - whole / 3, whole + whole):
        assert repr(operator) == "Operator(dimension=1000000, order=4, terms=500000500000)"
        assert (
            sum(
                each.nbytes
                for kind in operator.kinds
                for each in (kind.axes, kind.coefficients)
                if hasattr(each, "nbytes")
            )
            < 2e7
        )


@pytest.mark.parametrize(
    "how", [stde.apply, lambda *a: stde.estimate(*a, KEY, 4, dense="gaussian")], ids=["apply", "dense"]
)
def test_a_biharmonic_operator_takes_no_line_for_a_pair(how):
    """Of the 300 pairs of 25 axes."""
    text, lines = program(lambda f, x: how(3.0 * stde.biharmonic(25), f, x), 25)
    assert lines < 25 and "300" not in text


def fourths_of(d):
    return Operator.of_kinds(d, (Kind((4,), np.arange(d)[:, None], np.ones(d)),))


@pytest.mark.slow
@pytest.mark.parametrize("d", [3, 9])  # pair by pair; and as a difference
def test_any_mixture_of_pure_fourths_and_pairs(d):
    x, f, whole, fourths = (
        point(d),
        lambda x: jnp.sin(x @ jnp.arange(1.0, d + 1)) * jnp.exp(x[0] * x[-1]),
        stde.biharmonic(d),
        fourths_of(d),
    )
    one = Operator({tuple(2 * (n in (0, 2)) for n in range(d)): 1.0})

    @jax.jit
    def run(x, a):
        def fourth(i, j):
            return nested(f, x, (i, i, j, j))

        i, j = jnp.triu_indices(d, 1)
        pure, pairs = jax.vmap(fourth)(jnp.arange(d), jnp.arange(d)).sum(), jax.vmap(fourth)(i, j).sum()
        u = fourth(0, 2)
        bilaplacian = pure + 2 * pairs
        ways = [
            (whole - fourths, 2 * pairs),
            (whole + 2 * fourths, bilaplacian + 2 * pure),
            (a * whole - fourths, a * bilaplacian - pure),
            (a * (whole - fourths) + 1j * whole, 2 * a * pairs + 1j * bilaplacian),
            (whole + 5 * one, bilaplacian + 5 * u),
            ((lambda x: x[0]) * (whole - a * fourths), x[0] * (bilaplacian - a * pure)),
        ]
        return [stde.apply(operator, f, x) for operator, _ in ways], [want for _, want in ways]

    np.testing.assert_allclose(*run(x, 1.5), rtol=1e-10)


@pytest.mark.slow
def test_all_pairs_of_few_axes_lose_no_digits():
    """In float32, where the sum of u_iijj is a millionth of that of u_iiii: no difference of two large sums."""
    operator, f = stde.biharmonic(2) - fourths_of(2), lambda x: jnp.sin(30 * x[0]) * jnp.cos(x[1] / 30)
    x = jnp.array([0.3, 0.2])
    exact = 2 * jnp.sin(30 * x[0]) * jnp.cos(x[1] / 30)
    got = applied(operator, f, x.astype(jnp.float32))
    np.testing.assert_allclose(got, exact, rtol=1e-5)


@pytest.mark.slow
def test_an_estimate_of_pairs_is_unbiased():
    x, operator = point(), stde.biharmonic(D) - 0.5 * fourths_of(D)
    keys = jax.random.split(KEY, KEYS)
    exact = applied(operator, field, x)
    for how in ({"samples": 2}, {"samples": 3, "replace": True}):
        draws = np.asarray(jax.jit(jax.vmap(lambda key: stde.estimate(operator, field, x, key, **how)))(keys))  # noqa: B023
        assert abs(draws.mean() - exact) <= 4 * draws.std() / KEYS**0.5


# --- terms that share jets -----------------------------------------------------------------------------------

SHARING = {
    "one axis": Operator({(4, 0): 1.0, (3, 0): -2.0, (2, 0): lambda x: x[1], (1, 0): 2j, (0, 1): 3.0, (0, 0): 2.0}),
    "read from mixed": Operator(
        {(2, 1): 1.0, (2, 0): 3.0, (1, 1): -1.0, (0, 1): 2.0, (0, 0): 5.0, (0, 2): 1.0, (1, 0): 1.0}
    ),
    "two mixed": Operator({(3, 1): 1.0, (1, 2): 2.0, (1, 1): lambda x: x[0], (0, 2): 1.0, (3, 0): 1.0}),
    "Laplacian and slopes": stde.laplacian(2) + Operator({(1, 0): 2.0, (0, 0): 1.0}),
    "Laplacian and bilaplacian": 2 * stde.biharmonic(2) - 3 * stde.laplacian(2) + Operator({(0, 0): 1.0, (0, 1): 1.0}),
    "factors": (lambda x: x[0]) * stde.laplacian(2) + 1j * Operator({(2, 0): 1.0, (4, 0): 2.0}),
    "many lines": stde.laplacian(9) + Operator.of_kinds(9, (Kind((1,), np.arange(9)[:, None], np.arange(9.0)),)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARING)
def test_terms_that_share_jets(name):
    operator = SHARING[name]
    x = point(operator.dimension)
    most = max(map(len, operator.kinds))
    want = by_definition(operator, field, x)
    got = jax.jit(lambda x: [stde.apply(operator, field, x), stde.estimate(operator, field, x, KEY, most)])(x)
    np.testing.assert_allclose(got, [want, want], rtol=1e-11)


def test_lower_orders_take_no_jets_of_their_own():
    """Kuramoto-Sivashinsky is not longer than u_t and u_xxxx."""

    def length(operator):
        return program(lambda f, x: stde.apply(operator, f, x), 2)[0].count("= tanh")

    assert length(stde.kuramoto_sivashinsky()) == length(Operator({(1, 0): 1.0, (0, 4): 1.0}))
    both = stde.biharmonic(2) + stde.laplacian(2)
    assert length(both) == length(stde.biharmonic(2))


# --- coefficients that are functions, or learned -------------------------------------------------------------


def test_a_whole_laplacian_is_not_taken_apart():
    """In many dimensions one term of it, read from another's jets, would leave a larger rest than it saves."""
    for powers in ((4,), (2, 1)):
        other = Operator.of_kinds(25, (Kind(powers, np.arange(len(powers))[None], np.ones(1)),))
        text, lines = program(lambda f, x, other=other: stde.apply(stde.laplacian(25) + other, f, x), 25)
        assert "cholesky" in text and lines < 24


@pytest.mark.slow
def test_a_function_before_an_operator():
    x, bend = point(), lambda x: 1 + x[0] ** 2
    operators = [
        bend * (2 * stde.laplacian(D)),
        bend * (bend * Operator({(1, 0, 0, 0): 1j})),
        bend * stde.second_order(MATRIX),
    ]

    @jax.jit
    def run(x):
        plain = [2 * stde.laplacian(D), 1j * Operator({(1, 0, 0, 0): 1.0}), stde.second_order(MATRIX)]
        got = [stde.apply(operator, field, x) for operator in operators]
        scales = [bend(x), bend(x) ** 2, bend(x)]
        return got, [scale * stde.apply(operator, field, x) for scale, operator in zip(scales, plain, strict=True)]

    np.testing.assert_allclose(*run(x), rtol=1e-12)
    text, _ = program(lambda f, x: stde.apply(bend * stde.laplacian(40), f, x), 40)
    assert "cholesky" in text  # still compressed
    signs = stde.estimate(bend * stde.laplacian(D), lambda x: (x**2).sum(), x, KEY, 3, dense="rademacher")
    np.testing.assert_allclose(signs, bend(x) * 2 * D)


WAYS = {
    "a factor": lambda a: a * Operator({(0, 2): 1.0}),
    "a coefficient": lambda a: Operator([({"x": 2}, a)], coordinates=("t", "x")),
    "a function": lambda a: Operator({(0, 2): lambda p: a}),
    "a function before": lambda a: (lambda p: a) * Operator({(0, 2): 1.0}),
    "diffusion": lambda a: stde.diffusion(jnp.diag(jnp.array([0.0, 1.0])) * a, 2),
    "diffusion by a function": lambda a: stde.diffusion(lambda p: jnp.array([0.0, 1.0]) * a, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_a_diffusivity_is_learned_from_a_solution(name):
    """By Newton's method on the mean squared residual, a parabola: one step, exact and estimated, in jit and vmap."""
    points = jnp.stack([jnp.full(8, 0.2), jnp.linspace(0.1, 1.0, 8)], axis=1)
    u = lambda p: jnp.exp(-0.37 * 4 * p[0]) * jnp.sin(2 * p[1])  # noqa: E731  u_t = 0.37 u_xx

    def loss(a, how):
        operator = Operator({(1, 0): 1.0}) - WAYS[name](a)
        return (jax.vmap(lambda p: how(operator, u, p))(points) ** 2).mean()

    for how in (stde.apply, lambda *args: stde.estimate(*args, KEY, max(map(len, args[0].kinds)))):
        slope = jax.grad(loss)
        step = jax.jit(
            lambda a, slope=slope, how=how: a - slope(a, how) / jax.jvp(lambda a: slope(a, how), (a,), (1.0,))[1]
        )
        np.testing.assert_allclose(step(2.0), 0.37, rtol=1e-10)
        np.testing.assert_allclose(jax.vmap(step)(jnp.array([1.0, -3.0])), 0.37, rtol=1e-10)


# --- names ---------------------------------------------------------------------------------------------------


def test_coordinates_have_names():
    by_names = Operator(
        [({"t": 1}, 1.0), ({"x": 2}, -0.5), ({}, 3.0), ((1, 2), 2j), ({"x": 1, "t": 0}, 1.5)], ("t", "x")
    )
    by_tuples = Operator({(1, 0): 1.0, (0, 2): -0.5, (0, 0): 3.0, (1, 2): 2j, (0, 1): 1.5})
    assert terms(by_names) == terms(by_tuples)
    assert repr(by_names) == "Operator(coordinates=('t', 'x'), order=3, terms=5)"
    assert (2 * by_names - LAPLACIAN).coordinates == (LAPLACIAN + by_names).coordinates == ("t", "x")
    assert repr(Operator([({"x": 1}, 1.0)], ["x"])) == "Operator(coordinates=('x',), order=1, terms=1)"
    assert terms(Operator([((2, 0), 1.0), ((0, 2), 1.0)])) == d2(1, 1)


def test_what_stands_there_twice_is_added_up():
    x = jnp.array([2.0, 5.0])
    twice = Operator([((1, 1), 1.0), ((1, 1), 2.0), ((1, 1), 1j), ((1, 1), lambda x: x[0]), ((1, 1), lambda x: x[1])])
    assert [len(kind) for kind in twice.kinds] == [1, 1, 1]
    np.testing.assert_allclose(stde.apply(twice, jnp.prod, x), 3 + 1j + 7)


# --- variable coefficients -----------------------------------------------------------------------------------


def full(a):
    return a * jnp.eye(3) if a.ndim == 0 else jnp.diag(a) if a.ndim == 1 else a


DIFFUSIVITIES = {
    "scalar": lambda x: 1 + x[0] * x[1],
    "diagonal": lambda x: jnp.sin(x) * x[::-1],
    "matrix": lambda x: jnp.outer(jnp.sin(x + 1), x) + jnp.diag(x**2) + jnp.arange(9.0).reshape(3, 3),
    "definite": lambda x: jnp.eye(3) + jnp.outer(x, x),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFUSIVITIES)
def test_diffusion_is_the_divergence_of_the_flux(name):
    a, x = DIFFUSIVITIES[name], point(3)
    known = np.asarray(a(x))

    @jax.jit
    def run(x, numbers):
        def divergence(a):
            return jnp.trace(jax.jacfwd(lambda x: full(a(x)) @ jax.grad(field)(x))(x))

        diffusion = stde.diffusion(a, 3)
        most = max(map(len, diffusion.kinds))
        fixed = [stde.diffusion(b, 3) for b in (numbers, known, known.tolist())]
        got = [stde.apply(diffusion, field, x), stde.estimate(diffusion, field, x, KEY, most)]
        return [*got, *(stde.apply(b, field, x) for b in fixed)], [divergence(a)] * 2 + [
            divergence(lambda x: numbers)
        ] * 3

    np.testing.assert_allclose(*run(x, a(x)), rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFUSIVITIES)
def test_estimates_of_diffusion_are_unbiased(name):
    x, operator = point(3), stde.diffusion(DIFFUSIVITIES[name], 3) + stde.advection(jnp.cos, 3)
    draws = jax.jit(jax.vmap(lambda key: stde.estimate(operator, field, x, key, 1)))(jax.random.split(KEY, KEYS))
    assert abs(draws.mean() - applied(operator, field, x)) <= 4 * draws.std() / KEYS**0.5


def test_advection_is_a_derivative_along_the_velocity():
    x, constant = point(3), [1.0, -2.0, 3.0]
    for b, velocity in (
        (jnp.cos, jnp.cos(x)),
        (constant, jnp.array(constant)),
        (lambda x: jnp.arange(3), jnp.arange(3.0)),
    ):
        got = jax.jit(lambda x, b=b: stde.apply(stde.advection(b, 3), field, x))(x)
        np.testing.assert_allclose(got, jax.grad(field)(x) @ velocity, rtol=1e-12)


@pytest.mark.slow
def test_lists_may_hold_what_is_traced_and_diffusivities_be_complex():
    x, numbers = point(3), [2.0, -1.0, 3.0]

    def values(first):
        listed = [first, *numbers[1:]]
        return [stde.apply(way(listed, 3), field, x) for way in (stde.advection, stde.diffusion)]

    want = [stde.apply(way(numbers, 3), field, x) for way in (stde.advection, stde.diffusion)]
    np.testing.assert_allclose(jax.jit(values)(numbers[0]), want, rtol=1e-12)
    for name, a in DIFFUSIVITIES.items():
        real, whole = (stde.apply(stde.diffusion(b, 3), field, x) for b in (a, lambda x, a=a: (1 + 2j) * a(x)))
        np.testing.assert_allclose(whole, (1 + 2j) * real, rtol=1e-12, err_msg=name)


def test_scalar_diffusion_in_ten_thousand_dimensions_stays_compressed():
    text, lines = program(lambda f, x: stde.apply(stde.diffusion(lambda x: 1 + x @ x, 10_000), f, x), 10_000)
    assert "cholesky" in text and lines <= 3


@pytest.mark.parametrize("order", [1, 2, 3])
def test_laplace_beltrami_on_the_sphere(order):
    """Spherical harmonics have the eigenvalues -l (l + 1); here those with m = l."""
    sphere = stde.laplace_beltrami(lambda x: jnp.diag(jnp.array([1.0, jnp.sin(x[0]) ** 2])), 2)
    harmonic = lambda x: jnp.sin(x[0]) ** order * jnp.cos(order * x[1])  # noqa: E731
    x = jnp.array([0.7, 0.4])
    np.testing.assert_allclose(applied(sphere, harmonic, x), -order * (order + 1) * harmonic(x), rtol=1e-11)


@pytest.mark.slow
def test_laplace_beltrami_in_polar_and_in_skew_coordinates():
    flat = lambda p: jnp.sin(2 * p[0]) * p[1] ** 3 + p[0]  # noqa: E731
    polar = lambda q: q[0] * jnp.array([jnp.cos(q[1]), jnp.sin(q[1])])  # noqa: E731
    skew = lambda q: jnp.array([q[0] + 0.3 * q[1] ** 2, q[1] * (1 + 0.2 * q[0])])  # noqa: E731
    for chart in (polar, skew):
        metric = lambda q, chart=chart: jax.jacfwd(chart)(q).T @ jax.jacfwd(chart)(q)  # noqa: E731
        q = jnp.array([1.3, 0.4])
        got = applied(stde.laplace_beltrami(metric, 2), lambda q, chart=chart: flat(chart(q)), q)
        np.testing.assert_allclose(got, jnp.trace(jax.hessian(flat)(chart(q))), rtol=1e-11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stde.advection(np.ones(2), 3), r"expected b \(3,\), or a function.*got an array \(2,\); d is 3"),
        (lambda: stde.advection(lambda x: x[0], 3), r"expected b \(3,\).*got an array \(\)"),
        (lambda: stde.advection(jnp.ones(0), 0), "d >= 1, got 0"),
        (lambda: stde.diffusion(np.ones((2, 3)), 3), r"expected a \(\) or \(3,\) or \(3, 3\).*got an array \(2, 3\)"),
        (lambda: stde.diffusion(lambda x: (x, x), 3), r"expected a \(\).*got \(ShapeDtypeStruct"),
        (lambda: stde.diffusion(None, 3), "expected a number.*got None"),
        (lambda: stde.laplace_beltrami(np.eye(2), 2), "expected metric as a function"),
        (lambda: stde.laplace_beltrami(lambda x: x, 2), r"expected metric \(2, 2\).*got an array \(2,\)"),
    ],
)
def test_coefficients_that_do_not_fit(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e8, 1e12])
def test_a_definite_form_keeps_axes_of_small_coefficients(x64, scale):
    form = stde.second_order(np.array([[1.0, 0.5 / scale], [0.5 / scale, 1 / scale**2]]))
    f = lambda x: jnp.exp(x[0] + scale * x[1] + 0.5 * scale * x[0] * x[1])  # noqa: E731
    x = jnp.array([0.3, 0.2 / scale])
    (xx, xy), (_, yy) = jax.hessian(f)(x)
    np.testing.assert_allclose(stde.apply(form, f, x), xx + xy / scale + yy / scale**2, rtol=1e-10)


AT = {"t": 0.1, "y": 0.3}
MISNAMED = {
    "a dict of other names": (
        lambda: stde.apply(
            stde.Operator([({"x": 1}, 1.0)], coordinates=("x", "t")), lambda p: p["y"], AT, coordinates="all"
        ),
        r"names \('x', 't'\), got \('t', 'y'\)",
    ),
    "a set of names": (
        lambda: stde.Operator([({"x": 1}, 1.0)], coordinates={"x", "t"}), "coordinates as different names"
    ),
    "a velocity that is not finite": (lambda: stde.advection([1.0, np.nan], 2), r"finite numbers, got \[ 1\. nan\]"),
    "a field before a field's operator": (
        lambda: stde.apply((lambda x: x) * stde.divergence(2), lambda x: x, jnp.ones(2)),
        r"a coefficient \(d,\) -> \(\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISNAMED)
def test_what_would_be_read_in_another_way_is_refused(name):
    call, message = MISNAMED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_operator_is_refused():
    with pytest.raises(TypeError, match="expected an Operator first, got 3"):
        stde.apply(3, lambda x: x.sum(), jnp.ones(2))
