"""Taylor mode gives the derivatives that nested jax.jvp, jax.grad and jax.hessian give, for whatever JAX can trace.

Results are compared in float64, where both sides round to about 1e-15; the looser bounds say why. Compiled references
are built without XLA's optimisations (`compiled`): these tests ask for numbers, and compiling is most of their time.
"""

from functools import partial
from itertools import product
from math import prod

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax

from course import taylor

D, WIDTH = 6, 3  # the width is below the dimension, so that compression has something to do
RNG = np.random.default_rng(0)
WEIGHTS = [RNG.normal(size=shape) for shape in ((D, WIDTH), (WIDTH, WIDTH), (WIDTH,), (WIDTH,))]
X = np.abs(RNG.normal(size=D)) + 0.1  # positive: some of the functions have powers and logarithms
ROWS = RNG.normal(size=(4, D))
AXES = np.array([4, 1, 1])
MATRIX = RNG.normal(size=(D, D))


pytestmark = pytest.mark.usefixtures("x64")


def close(got, want, bound=1e-11):
    """Equal within the bound, absolute for small numbers and relative for large ones, in every leaf."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert jnp.shape(a) == jnp.shape(b)
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


def net_of(weights, x, act=jnp.tanh):
    w1, w2, w3, b = weights
    return act(act(x @ w1 + b) @ w2 + b) @ w3


def shallow(weights, x):
    return jnp.tanh(x @ weights[0]) @ weights[1]


def net(x, act=jnp.tanh):
    return net_of([w.astype(x.dtype) for w in WEIGHTS], x, act)


@jax.custom_jvp
def own_rule(x):
    return jnp.sin(x)


@own_rule.defjvp
def _(primals, tangents):
    return own_rule(primals[0]), 1.5 * jnp.cos(primals[0]) * tangents[0]  # wrong on purpose: it can be recognised


class Field:
    """A callable with parameters inside, as Equinox modules are."""

    def __init__(self):
        self.weights = WEIGHTS

    def __call__(self, x):
        return net_of(self.weights, x)


def recurrence(x):
    return lax.scan(lambda c, xi: (c * jnp.cos(xi) + xi, c * xi), jnp.ones((), x.dtype), x)[0]


def branches(x):
    return lax.cond(x[0] > 0, lambda x: (x**3).sum(), lambda x: jnp.sin(x).sum() * x[1], x)


def counted(x):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1]) * x[0]), (0, x[1]))[1]


def positive_definite(x):
    return jnp.outer(x[:3], x[:3]) + 4 * jnp.eye(3)


FIELDS = {
    "boundary factor times a net": lambda x: (1 - x @ x) * net(x),
    "relu": lambda x: net(x, jax.nn.relu),
    "softplus": lambda x: net(x, jax.nn.softplus),
    "own custom_jvp": lambda x: net(x, own_rule),
    "cond": branches,
    "scan": recurrence,
    "constant": lambda x: jnp.ones((), x.dtype),
}
SLOW_FIELDS = {
    "literal minus": lambda x: (3 - x).prod(),
    "at set": lambda x: x.at[2].set(x[0] * x[1]).prod(),
    "callable class": Field(),
    "checkpoint in jit": jax.jit(jax.checkpoint(net)),
    "net": net,
    "gelu": lambda x: net(x, jax.nn.gelu),
    "silu": lambda x: net(x, jax.nn.silu),
    "boundary factor of squares": lambda x: (1 - (x**2).sum()) * net(x),
    "literal plus": lambda x: 1 + (x**2).sum(),
    "logsumexp": jax.nn.logsumexp,
    "logaddexp": lambda x: jnp.logaddexp(x[0], x[1]) * x[2],
    "while": counted,
    "fori": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * x.sum(), x[0]),
    "sort": lambda x: jnp.sort(x)[:3].prod(),
    "cholesky": lambda x: jnp.linalg.cholesky(positive_definite(x)).sum(),
    "solve": lambda x: jnp.linalg.solve(positive_definite(x), x[3:]).sum(),
    "product": jnp.prod,
    "arctan2 and tan": lambda x: jnp.arctan2(x[0], x[1]) * jnp.tan(x[2]),
    "neighbours": lambda x: jnp.sin(x[:-1] + jnp.cos(x[1:]) + x[1:] * jnp.cos(x[:-1])).sum(),
    "quadratic form": lambda x: x @ MATRIX @ x,
    "linear": lambda x: x.sum(),
    "max": lambda x: jnp.max(x) * x.sum(),
    "norm": jnp.linalg.norm,
    "where and cumsum": lambda x: net(x) * jnp.cumsum(x)[4] + jnp.where(x > 0, x**2, x**3).sum(),
    "power": lambda x: (x**2.5).sum(),
    "quotient": lambda x: (1 / (1 + x**2)).sum(),
    "mean and variance": lambda x: jnp.mean(x) * jnp.var(x),
    "stop_gradient": lambda x: (lax.stop_gradient(x) * x**2).sum(),
    "convolution": lambda x: jnp.convolve(x, x[:3]).sum() ** 2,
}
EVERY = FIELDS | SLOW_FIELDS
NO_REVERSE = {"while"}  # JAX cannot differentiate a while loop backwards, and so not the references either


def table(names, slow=(), thorough=()):
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(n, marks=[pytest.mark.slow] * (n in slow) + [pytest.mark.thorough] * (n in thorough))
            for n in names
        ],
    )


def hessian(f):
    return jax.jacfwd(jax.jacfwd(f))


# --- the Laplacian -----------------------------------------------------------------------------------------


@table(EVERY, slow=EVERY.keys() - {"own custom_jvp", "constant"}, thorough=sorted(EVERY)[::2])
def test_laplacian_in_every_way_of_asking(name):
    """Value, all axes, rows, some axes, with and without compression, under vmap, its gradient: from one Hessian."""
    f = EVERY[name]

    def ours(x):
        ways = [*taylor.value_and_laplacian(f, x), taylor.laplacian(f, x, compress=False), taylor.laplacian(f, x, ROWS)]
        return [*ways, *(taylor.laplacian(f, x, AXES, compress=c) for c in (False, True))]

    def reference(x):
        matrix = hessian(f)(x)
        trace, some = jnp.trace(matrix), jnp.diag(matrix)[AXES].sum()
        return [f(x), trace, trace, jnp.einsum("ri,ij,rj", ROWS, matrix, ROWS), some, some]

    def with_gradient(way, x):
        def laplacian(x):
            found = way(x)
            return found[1], found

        return way(x) if name in NO_REVERSE else jax.grad(laplacian, has_aux=True)(x)

    @jax.jit
    def both(x):
        return [(with_gradient(way, x), jax.vmap(way)(jnp.stack([x, 1.1 * x]))) for way in (ours, reference)]

    got, want = both(X)
    close(got, want)
    assert all(each.dtype == jnp.float64 for each in jax.tree.leaves(got[0]))


@pytest.mark.slow
@table(FIELDS)
def test_laplacian_one_operation_at_a_time(name):
    f = FIELDS[name]
    close(taylor.value_and_laplacian(f, X), jax.jit(lambda x: (f(x), jnp.trace(hessian(f)(x))))(X))


@pytest.mark.slow
def test_gradient_by_parameters_under_vmap_in_one_jit():
    def loss(laplacian, weights):
        return jax.vmap(lambda x: laplacian(lambda y: (1 - y @ y) * shallow(weights, y), x))(jnp.stack([X, -X])).sum()

    @jax.jit
    def both(weights):
        ours = jax.grad(lambda w: loss(lambda f, x: taylor.laplacian(f, x), w))(weights)
        return ours, jax.grad(lambda w: loss(lambda f, x: jnp.trace(hessian(f)(x)), w))(weights)

    close(*both([jnp.asarray(w) for w in WEIGHTS[:3:2]]))


@table(["softplus", "boundary factor times a net"], slow=["boundary factor times a net"])
def test_laplacian_in_float32(name):
    f, x = FIELDS[name], jnp.asarray(X, jnp.float32)
    got = jax.jit(lambda x: taylor.value_and_laplacian(f, x))(x)
    assert [part.dtype for part in got] == [jnp.float32] * 2
    close(got, jax.jit(lambda x: (f(x), jnp.trace(hessian(f)(x))))(X), bound=1e-4)  # a thousand float32 epsilons


def test_wide_coefficients_are_compressed_and_the_identity_is_never_made():
    wide, x = RNG.normal(size=(50, WIDTH)), jnp.zeros(50)

    def f(x):
        return net_of([wide, *WEIGHTS[1:]], x)

    for way in (taylor.value_and_laplacian, taylor.laplacian):
        texts = {
            compressed: str(jax.make_jaxpr(lambda x, way=way, how=how: way(f, x, **how))(x))
            for compressed, how in ((True, {}), (False, {"compress": False}))
        }
        assert "cholesky" in texts[True] and "cholesky" not in texts[False]
        assert not any("[50,50]" in text for text in texts.values())


def cubes(x):
    return (x**3).sum()


INTEGER_ROWS = np.array([[1, 2, 0], [0, 1, 1], [3, 0, 1]])
DIRECTIONS = [
    ([0, 2], [1, 0, 1]),
    ([2, 2], [0, 0, 2]),
    *((rows, (rows**2).sum(0)) for rows in (INTEGER_ROWS, INTEGER_ROWS[:1])),
]


def test_directions_are_axes_or_rows_and_may_be_named():
    got = jax.jit(lambda x: [taylor.laplacian(cubes, x, directions=each) for each, _ in DIRECTIONS])(X[:3])
    close(got, [6 * X[:3] @ weights for _, weights in DIRECTIONS])
    for way in (taylor.value_and_laplacian, taylor.laplacian):
        with pytest.raises(TypeError, match="positional argument"):
            way(cubes, X, None, False)


def test_points_of_one_and_of_many_coordinates():
    close(jax.jit(lambda x: taylor.laplacian(cubes, x))(X[:1]), 6 * X[0])
    many = np.linspace(0, 1, 300)
    close(jax.jit(lambda x: taylor.laplacian(cubes, x, np.eye(300)[[299]]))(many), 6.0)
    close(jax.jit(lambda x: taylor.partial_derivative(cubes, x, (2,) + 299 * (0,)))(many + 1), 6.0)


FOUR = np.ones(4)
REFUSED = [
    (lambda: taylor.laplacian(cubes, 1.0), r"x must be \(d,\), got \(\); wrap"),
    (lambda: taylor.laplacian(cubes, FOUR, np.array([0, 4])), "expected axes from 0 to 3, got 0 to 4"),
    (lambda: taylor.laplacian(cubes, FOUR, 1), r"\(R, 4\).*got int64 \(\)"),
    (lambda: taylor.laplacian(cubes, FOUR, np.zeros(0, int)), r"\(R, 4\).*got int64 \(0,\)"),
    (lambda: taylor.laplacian(cubes, FOUR, np.ones((2, 3))), r"\(R, 4\).*got float64 \(2, 3\)"),
    (lambda: taylor.laplacian(cubes, FOUR, np.ones((2, 4, 1))), r"\(R, 4\).*got float64 \(2, 4, 1\)"),
    (lambda: taylor.weighted(cubes, FOUR, [0, 1], np.ones(3), 2), r"one weight per direction, \(2,\), got \(3,\)"),
    (
        lambda: taylor.weighted(cubes, FOUR, [0, 1], [[1.0], [1.0, 2.0]], 2),
        r"weights as an array of numbers, got \[\[1",
    ),
    (lambda: taylor.derivatives(cubes, FOUR, np.ones(5), 2), r"x's shape \(4,\), got \(5,\); one direction"),
    (lambda: taylor.derivatives(lambda x: None, FOUR, FOUR, 2), "expected f to return one array, got 0; return"),
    (lambda: taylor.derivatives(cubes, FOUR, FOUR, 41), "expected order <= 40, got 41; derivatives grow"),
    (lambda: taylor.partial_derivative(cubes, FOUR, 5 * (1,)), r"expected 4 integers >= 0.*got \(1, 1, 1, 1, 1\)"),
    (lambda: taylor.interpolation(()), r"a tuple of integers >= 1, got \(\)"),
    (lambda: taylor.interpolation((1.5, 2)), r"a tuple of integers >= 1, got \(1\.5, 2\)"),
    (lambda: taylor.interpolation(3), "a tuple of integers >= 1, got 3"),
    (
        lambda: jax.jit(lambda a: taylor.weighted(cubes, FOUR, [0, 1], [a, 1.0], 2))(1.0),
        r"weights as an array of numbers, got \[.*Trace",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_linear_field_has_no_second_derivative():
    got = jax.jit(lambda x: [taylor.laplacian(jnp.sum, x), taylor.weighted(jnp.sum, x, [0, 1], jnp.ones(2), 2)])(FOUR)
    assert got == [0, 0]


def test_the_highest_order():
    direction = np.array([3.0, 4.0])
    got = jax.jit(lambda x: taylor.derivatives(lambda x: 2 * x, x, direction, 40))(np.ones(2))
    assert got.tolist() == [[2.0, 2.0], [6.0, 8.0], *[[0.0, 0.0]] * 39]


@table(["shallow", "boundary factor times a net"], slow=["boundary factor times a net"])
def test_hessian_of_a_compressed_laplacian(name):
    f = EVERY.get(name, partial(shallow, WEIGHTS[:3:2]))
    first, second = (jax.jit(hessian(lambda y, c=c: taylor.laplacian(f, y, compress=c)))(X) for c in (True, False))
    close(first, second, bound=1e-10)


@pytest.mark.parametrize(
    ("d", "kind", "dtype"),
    [
        (4, "duplicate columns", jnp.float32),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in product((4, 40), ("duplicate columns", "independent"), (jnp.float32, jnp.float64))
        ),
    ],
)
def test_gradient_with_a_nearly_singular_gram_matrix(d, kind, dtype):
    rng = np.random.default_rng(1)
    first = rng.normal(size=(d, WIDTH)) / d**0.5
    if kind == "duplicate columns":
        first[:, 1] = first[:, 0]
    x, first, *rest = (jnp.asarray(w, dtype) for w in (rng.normal(size=d), first, *WEIGHTS[1:]))

    @jax.jit
    def both(first):
        def laplacian(first, compress):
            return taylor.laplacian(lambda y: net_of([first, *rest], y), x, compress=compress)

        return [jax.grad(laplacian)(first, c) for c in (True, False)]

    got, want = both(first)
    assert float(jnp.abs(got - want).max() / jnp.abs(want).max()) < 1000 * jnp.finfo(dtype).eps


def test_directions_along_which_a_live_value_stands_still():
    def f(x):
        return jnp.logaddexp(x[0], x[1]) * x[2]

    got = jax.jit(lambda x: taylor.laplacian(f, x, AXES))(X)  # none of them is axis 0: a Gram matrix with a zero
    share = 1 / (1 + np.exp(X[0] - X[1]))
    close(got, 2 * share * (1 - share) * X[2])


@pytest.mark.slow
def test_zero_weights_have_the_right_gradient():
    """With weights zero, (1 - x.x) w.tanh(W x) has the Laplacian -(4 + 2 d) x.(W w) to first order in W."""
    last = WEIGHTS[2]

    @jax.jit
    def gradients(first, x):
        def laplacian(first, x):
            return taylor.laplacian(lambda y: (1 - y @ y) * shallow([first, last], y), x)

        return jax.grad(laplacian, argnums=(0, 1))(first, x)

    want = -(4 + 2 * D) * np.outer(X, last), np.zeros(D)
    close(gradients(jnp.zeros((D, WIDTH)), X), want, bound=1e-7)  # the jitter is all that a Gram matrix of zeros has


# --- along lines, and mixed --------------------------------------------------------------------------------


def along(f, v):
    """The derivative of f along v, as a function."""
    return lambda x: jax.jvp(f, (x,), (v,))[1]


def nested(f, x, v, order):
    """D^0 f … D^order f along v by nested jvp."""
    found = []
    for _ in range(order + 1):
        found.append(f(x))
        f = along(f, v)
    return jnp.stack(found)


AT_ZERO = {"relu": jax.nn.relu, "softplus": jax.nn.softplus, "logaddexp": lambda z: jnp.logaddexp(z, 0.0),
           "own custom_jvp": own_rule, "abs": jnp.abs, "elu": jax.nn.elu, "silu": jax.nn.silu, "gelu": jax.nn.gelu,
           "leaky_relu": jax.nn.leaky_relu, "guarded": lambda z: jnp.where(z > 0, z, 0.0) ** 2}  # fmt: skip


@table(AT_ZERO, slow=["abs", "elu", "silu", "gelu", "leaky_relu", "guarded"])
def test_rules_of_their_own_hold_at_zero(name):
    g = AT_ZERO[name]
    got, want = jax.jit(lambda x: (taylor.derivatives(g, x, 1.0, 3), nested(g, x, 1.0, 3)))(0.0)
    np.testing.assert_array_equal(got, want)


@table(["boundary factor times a net", *FIELDS], slow=FIELDS)
def test_derivatives_along_a_line(name):
    f, order = EVERY[name], 4
    got, want = jax.jit(lambda x, v: (taylor.derivatives(f, x, v, order), nested(f, x, v, order)))(X, ROWS[0])
    close(got, want)


def test_derivatives_of_a_function_with_many_outputs_and_any_shape():
    def f(x):
        return jnp.sin(x[0]) * x[1]

    x, v = X.reshape(2, 3), ROWS[0].reshape(2, 3)
    got, first, want = jax.jit(
        lambda x, v: (taylor.derivatives(f, x, v, 3), taylor.derivatives(f, x, v, 1), nested(f, x, v, 3))
    )(x, v)
    assert got.shape == (4, 3)
    close([got, first], [want, want[:2]])


def mixed(f, x, multi_index):
    """A mixed partial derivative by nested jvp."""
    for axis, power in enumerate(multi_index):
        for _ in range(power):
            f = along(f, jnp.eye(len(x))[axis])
    return f(x)


INDICES = [(0, 0, 0), (1, 0, 0), (0, 2, 0), (2, 1, 0), (1, 1, 1)]
MORE_INDICES = [(0, 4, 0), (2, 0, 2), (3, 1, 0), (1, 2, 1)]
THREE = {
    "exponential of a quotient": lambda x: jnp.exp(x[0] / (1 + x[1] ** 2)) * x[2] ** 3,
    "net": lambda x: (1 - x @ x) * net_of([WEIGHTS[0][:3], *WEIGHTS[1:]], x),
    "scan": recurrence,
    "logaddexp": lambda x: jnp.logaddexp(x[0] * x[1], x[2]),
}


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("exponential of a quotient", INDICES),
        *[pytest.param(name, INDICES[3:] + MORE_INDICES, marks=pytest.mark.slow) for name in THREE],
    ],
)
def test_partial_is_the_nested_derivative(name, indices):
    f = THREE[name]
    got, want = jax.jit(
        lambda x: ([taylor.partial_derivative(f, x, i) for i in indices], [mixed(f, x, i) for i in indices])
    )(X[:3])
    close(got, want, bound=1e-10)  # the weights of an interpolation have both signs


@hypothesis.given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(lambda powers: sum(powers) <= 6),
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
)
@hypothesis.settings(max_examples=30, deadline=None)
def test_interpolation_differentiates_every_exponential(powers, slopes):
    """exp(a x) has the derivative (a j)^k along j at 0, and the mixed derivative prod a^i."""
    powers, slopes = tuple(powers), np.array(slopes[: len(powers)])
    directions, weights = taylor.interpolation(powers)
    terms = weights * (directions @ slopes) ** sum(powers)
    want = prod(float(a) ** p for a, p in zip(slopes, powers, strict=True))
    assert abs(terms.sum() - want) < 1e-12 * (1 + np.abs(terms).sum())


def test_weighted_sums_any_order_along_rows_and_axes():
    f, weights = THREE["exponential of a quotient"], jnp.array([1.0, 2.0, -0.5])
    axes = np.array([1, 1, 2])

    @jax.jit
    def both(x):
        got = [[taylor.weighted(f, x, rows, weights, k) for rows in (axes, np.eye(3)[axes])] for k in (1, 2, 3)]
        want = [3 * mixed(f, x, (0, k, 0)) - 0.5 * mixed(f, x, (0, 0, k)) for k in (1, 2, 3)]
        return got, [[each] * 2 for each in want]

    close(*both(X[:3]))


def test_biharmonic_of_an_exponential():
    a = ROWS[0]

    def f(x):
        return jnp.exp(a @ x)

    def laplacian(x):
        return taylor.laplacian(f, x)

    got = jax.jit(lambda x: (taylor.biharmonic(f, x), taylor.laplacian(laplacian, x)))(X)
    close(got, (np.exp(a @ X) * (a @ a) ** 2,) * 2)


@pytest.mark.slow
@table(THREE)
def test_laplacian_of_the_laplacian_is_the_biharmonic(name):
    f = THREE[name]

    def laplacian(f):
        return lambda x: taylor.laplacian(f, x)

    twice, directly, apart = jax.jit(
        lambda x: (
            laplacian(laplacian(f))(x),
            taylor.biharmonic(f, x),
            sum(mixed(f, x, tuple(np.add(*2 * np.eye(3, dtype=int)[[i, j]]))) for i, j in product(range(3), repeat=2)),
        )
    )(X[:3])
    close([twice, directly], [apart, apart], bound=1e-9)  # fourth derivatives of size 100, of either sign
