"""Divergence, curl and vector Laplacian: their identities, other coordinates, and estimates that are right in the mean.

Cartesian components at the same place are the reference for every metric: the same field, asked for in two ways.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course import stde, taylor

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 3))
X = np.array([0.3, 0.5, 0.7])
KEY = jax.random.key(2)

pytestmark = pytest.mark.usefixtures("x64")


def field(x):
    """Of as many components as coordinates, two or three."""
    return jnp.tanh(x @ A[: len(x)]) @ B[:, : len(x)] * (1 + x[0] * x[1])


def potential(x):
    return jnp.sin(x @ A[: len(x)]).prod() + x[0] ** 3


def close(got, want, bound=1e-11):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert jnp.shape(a) == jnp.shape(b)
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


def curl_of(jacobian):
    if len(jacobian) == 2:
        return jacobian[1, 0] - jacobian[0, 1]
    return jnp.stack([jacobian[k, j] - jacobian[j, k] for j, k in ((1, 2), (2, 0), (0, 1))])


@pytest.mark.parametrize("unit", [1.0, 1.0 + 0.5j], ids=["real", "complex"])
@pytest.mark.parametrize("d", [2, 3])
def test_they_are_parts_of_the_jacobian(d, unit):
    def f(x):
        return unit * field(x)

    @jax.jit
    def both(x):
        jacobian, operators = jax.jacfwd(f)(x), (stde.divergence(d), stde.curl(d))
        got = [taylor.divergence(f, x), taylor.curl(f, x), *(each.apply(f, x) for each in operators)]
        return got, [jnp.trace(jacobian), curl_of(jacobian)] * 2

    close(*jax.jit(lambda x: jax.vmap(both)(jnp.stack([x, 2 * x])))(X[:d]))


def test_identities():
    """div curl = 0, curl grad = 0, div grad = laplacian, and vector Laplacian = grad div - curl curl."""

    def curl(x):
        return taylor.curl(field, x)

    @jax.jit
    def found(x):
        grad_div = jax.grad(lambda x: taylor.divergence(field, x))(x)
        zeros = taylor.divergence(curl, x), taylor.curl(jax.grad(potential), x)
        pairs = [
            (taylor.divergence(jax.grad(potential), x), taylor.laplacian(potential, x)),
            (taylor.vector_laplacian(field, x), grad_div - taylor.curl(curl, x)),
        ]
        return [*zip(zeros, (0.0, jnp.zeros(3)), strict=True), *pairs]

    for got, want in found(X):
        close(got, want)


def polar(q):
    return q[0] * jnp.stack([jnp.cos(q[1]), jnp.sin(q[1])])


def spherical(q):
    r, inclination, azimuth = q
    across = jnp.sin(inclination)
    return r * jnp.stack([across * jnp.cos(azimuth), across * jnp.sin(azimuth), jnp.cos(inclination)])


def skew(q):
    return jnp.stack([q[0] + 0.3 * q[1] ** 2, q[1] - 0.5 * q[2] * q[0], q[2] + 0.1 * q[1]])


@pytest.mark.parametrize(
    "place",
    [polar, *(pytest.param(each, marks=[pytest.mark.slow, pytest.mark.thorough]) for each in (spherical, skew))],
)
def test_other_coordinates(place):
    q = np.array([1.2, 0.7, 0.4])[: 2 if place is polar else 3]
    tangents = jax.jacfwd(place)

    def metric(q):
        return tangents(q).T @ tangents(q)

    def contravariant(q):
        return jnp.linalg.solve(tangents(q), field(place(q)))

    @jax.jit
    def both(q):
        x, how, d = place(q), {"metric": metric}, len(q)
        ways = [taylor.divergence, taylor.curl, taylor.vector_laplacian]
        operators = stde.divergence(d, **how), stde.curl(d, **how)
        got = [*(way(contravariant, q, **how) for way in ways), *(each.apply(contravariant, q) for each in operators)]
        divergence, curl, laplacian = (way(field, x) for way in ways)
        if d == 3:
            curl = jnp.linalg.solve(tangents(q), curl)
        return got, [divergence, curl, jnp.linalg.solve(tangents(q), laplacian), divergence, curl]

    close(*both(q), bound=1e-10)


def test_on_a_sphere():
    """The field of a rotation has no divergence, and its rough Laplacian is minus itself: it is a Killing field."""

    def metric(q):
        return jnp.diag(jnp.stack([1.0, jnp.sin(q[0]) ** 2]))

    def rotation(q):  # about the x axis
        return jnp.stack([-jnp.sin(q[1]), -jnp.cos(q[1]) / jnp.tan(q[0])])

    q = jnp.array([0.8, 0.3])
    got = jax.jit(lambda q: [way(rotation, q, metric=metric) for way in (taylor.divergence, taylor.vector_laplacian)])(
        q
    )
    close(got, [0.0, -rotation(q)])


@pytest.mark.slow
@pytest.mark.thorough
def test_a_field_of_electrons():
    def drift(r):
        return -jnp.tanh(r) * (r**2).sum()

    r = RNG.normal(size=(2, 3))
    want = jnp.trace(jax.jacfwd(drift)(r).reshape(6, 6))
    close(taylor.divergence(drift, r, coordinates="all"), want)
    close(stde.divergence(6).apply(drift, r, coordinates="all"), want)
    got = taylor.divergence(lambda p: {"t": p["x"].sum(), "x": p["t"] * p["x"]}, {"t": 2.0, "x": X}, coordinates="all")
    close(got, 6.0)


OPERATORS = {
    "divergence": stde.divergence(3),
    "curl": stde.curl(3),
    "with coefficients": (lambda x: x[0]) * stde.curl(3) / 2 - 3 * stde.curl(3),
    "complex": 1j * stde.divergence(3),
    "with a metric": stde.divergence(3, lambda x: jnp.diag(1 + x**2)),
}
WAYS = [{}, {"replace": True}, {"dense": "rademacher"}, {"dense": "gaussian"}]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow, pytest.mark.thorough] * (n != "curl")) for n in OPERATORS]
)
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_estimates_are_right_in_the_mean(name, how):
    operator, n = OPERATORS[name], 4000

    @jax.jit
    def draws(keys):
        return jax.vmap(lambda key: operator.estimate(field, X, key, 2, **how))(keys)

    found, want = draws(jax.random.split(KEY, n)), operator.apply(field, X)
    spread = jnp.abs(found - found.mean(0)).std(0) + jnp.abs(found - found.mean(0)).mean(0)  # above a deviation
    assert (jnp.abs(found.mean(0) - want) < 4 * spread / n**0.5 + 1e-12).all()
    assert float(spread.min()) > 0


def test_all_terms_are_exact_and_signs_know_a_diagonal():
    divergence = stde.divergence(3)
    close(divergence.estimate(field, X, KEY, 3), divergence.apply(field, X))
    got = divergence.estimate(lambda x: x**2, X, KEY, 1, dense="rademacher")
    close(got, 2 * X.sum())


def test_operators_are_vectors():
    divergence, curl = stde.divergence(3), stde.curl(3)
    want = divergence.apply(field, X)
    sums = [
        sum([divergence, divergence]),
        2 * divergence,
        divergence / 0.5,
        3 * divergence - divergence,
        -(-2 * divergence),
    ]
    for each in (*sums, divergence * np.float64(2), (lambda x: 2.0) * divergence):
        close(each.apply(field, X), 2 * want)
    assert repr(2 * curl + curl) == "FieldOperator(dimension=3, shape=(3,), terms=12)"
    assert (1j * divergence).apply(field, X).dtype == jnp.complex128
    slope = jax.jit(jax.grad(lambda a: (a * divergence + a**2 * divergence).apply(field, X)))(2.0)
    close(slope, 5 * want)


@pytest.mark.slow
@pytest.mark.thorough
def test_results_have_the_dtype_of_the_point():
    x = jnp.asarray(X, jnp.float32)
    metric = lambda x: jnp.diag(1 + x**2)  # noqa: E731
    found = [way(jnp.tanh, x) for way in (taylor.divergence, taylor.curl, taylor.vector_laplacian)]
    found += [way(jnp.tanh, x, metric=metric) for way in (taylor.divergence, taylor.curl)]
    found += [stde.curl(3).apply(jnp.tanh, x), stde.divergence(3).estimate(jnp.tanh, x, KEY, 2)]
    assert {each.dtype for each in found} == {np.dtype(np.float32)}


DIVERGENCE = stde.divergence(3)
REFUSED = {
    "a scalar": (lambda: taylor.divergence(potential, X), r"\(3,\) -> \(3,\), got values of shape \(\); stack"),
    "several arrays": (
        lambda: taylor.curl(lambda x: (x[0], x[1], x[2]), X),
        r"got values of shape \(\(\), \(\), \(\)\)",
    ),
    "four dimensions": (lambda: taylor.curl(lambda x: x, np.ones(4)), r"two or three dimensions, got \(4,\)"),
    "no operator": (lambda: stde.curl(4), "d as 2 or 3, got 4"),
    "a diagonal": (lambda: taylor.divergence(field, X, metric=lambda x: x), r"\(3, 3\), got values of shape \(3,\)"),
    "a batch": (lambda: taylor.divergence(field, np.ones((2, 3))), 'jax.vmap.*coordinates="all"'),
    "not like x": (
        lambda: taylor.divergence(lambda x: x[0], np.ones((2, 3)), coordinates="all"),
        r"values like x, \(2, 3\), got \(3,\)",
    ),
    "other dimensions": (lambda: DIVERGENCE.apply(field, X[:2]), r"operator's 3 coordinates, got \(2,\)"),
    "a scalar for an operator": (lambda: DIVERGENCE.apply(potential, X), r"vector field.*got values of shape \(\)"),
    "too many samples": (lambda: DIVERGENCE.estimate(field, X, KEY, 4), "samples <= 3.*replace=True"),
    "another law": (lambda: DIVERGENCE.estimate(field, X, KEY, 1, dense="normal"), "rademacher.*got 'normal'"),
    "a metric that is an array": (
        lambda: taylor.curl(field, X, metric=jnp.eye(3)),
        "(?s)as a function .*write lambda x: g",
    ),
    "no number": (lambda: np.nan * DIVERGENCE, "a finite number, got nan"),
    "a number too large": (lambda: 10**400 * DIVERGENCE, "a finite number, got 1000"),
    "another shape": (lambda: DIVERGENCE + stde.curl(3), "results of one shape, got .*shape=.3,."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"a number or a function .*got array\(\[1\., 1\.\]\)"):
        np.ones(2) * DIVERGENCE


EVERY_SORT = {
    "Laplacian": stde.laplacian(3),
    "a form": stde.second_order(np.array([[2.0, 1, 0], [1, 3, 0.5], [0, 0.5, 1]])),
    "an indefinite form": stde.second_order(np.array([[0.0, 1, 2], [1, 0, 0.5], [2, 0.5, 0]])),
    "several orders": stde.Operator({(1, 0, 0): 1.0, (2, 0, 1): 0.5, (1, 0, 1): 2.0, (4, 0, 0): -1.0, (0, 0, 0): 3.0}),
    "functions": stde.advection(lambda x: x**2, 3) + (lambda x: x[0]) * stde.laplacian(3),
    "biharmonic": stde.biharmonic(3),
    "nothing": 0.0 * stde.laplacian(3),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow, pytest.mark.thorough] * (n != "functions")) for n in EVERY_SORT]
)
def test_operators_act_on_each_component(name):
    """For values of any shape and points of any shape, what they do to each entry by itself; estimates, too."""
    operator = EVERY_SORT[name]
    f = lambda x: jnp.stack([field(x)[:2], 1j * jnp.sin(field(x)[1:])])  # noqa: E731

    @jax.jit
    def both(x):
        def asked(f):
            drawn = stde.estimate(operator, f, x, KEY, 1)
            return stde.apply(operator, f, x), drawn

        got, entries = asked(f), [[asked(lambda x, i=i, j=j: f(x)[i, j]) for j in range(2)] for i in range(2)]
        parts = {"t": x[0], "x": x[1:]}
        like = stde.apply(operator, lambda p: f(jnp.append(p["t"], p["x"])), parts, coordinates="all")
        return [*got, like], [*(jnp.array([[e[n] for e in row] for row in entries]) for n in (0, 1)), got[0]]

    close(*both(X), bound=1e-9)


def test_points_by_the_names_of_coordinates():
    operator = stde.Operator([({"t": 1}, 1.0), ({"x": 2}, -0.5)], coordinates=("x", "t"))
    u = lambda p: jnp.sin(p["x"]) * jnp.exp(p["t"])  # noqa: E731
    at = {"t": 0.1, "x": 0.3}
    how = {"coordinates": "all"}
    exact = lambda at: (stde.apply(operator, u, at, **how), stde.estimate(operator, u, at, KEY, 1, **how))  # noqa: E731
    close(jax.jit(exact)(at), [1.5 * u(at)] * 2)
    with pytest.raises(ValueError, match=r"one number for each name in x, got shapes .*\(2,\)"):
        stde.apply(operator, u, {"t": 0.1, "x": np.ones(2)}, coordinates="all")
