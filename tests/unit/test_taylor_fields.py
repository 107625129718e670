"""Functions with values of any shape, real or complex, and points of any shape, have the derivatives of nested jvp."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from course import taylor

D, WIDTH = 4, 1  # narrower than d even where a complex value counts twice: there is something to compress
RNG = np.random.default_rng(4)
FIRST, LAST = RNG.normal(size=(D, WIDTH)), RNG.normal(size=(WIDTH, D))
PHASES = RNG.normal(size=(D, WIDTH)) + 1j * RNG.normal(size=(D, WIDTH))
X = RNG.uniform(0.2, 1.0, size=D)
SIX = RNG.uniform(0.2, 1.0, size=6)
POWERS = (2, 0, 1, 0)

pytestmark = pytest.mark.usefixtures("x64")


def close(got, want, bound=1e-11):
    """Equal within the bound in every leaf, of the same shapes and dtypes."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


def along(f, v):
    return lambda x: jax.jvp(f, (x,), (v,))[1]


def mixed(f, x, powers):
    """A mixed partial derivative by nested jvp."""
    for axis, power in enumerate(powers):
        for _ in range(power):
            f = along(f, jnp.eye(len(x))[axis])
    return f(x)


def laplacian(f):
    """By nested jvp, for values of any shape."""
    return lambda x: jnp.trace(jax.jacfwd(jax.jacfwd(f))(x), axis1=-2, axis2=-1)


def net(x):
    return jnp.tanh(x @ FIRST) @ LAST


def waves(x):
    return jnp.exp(1j * (x @ FIRST))


REAL = {
    "a network": net,
    "one column": lambda x: net(x)[:1],
    "a matrix": lambda x: jnp.outer(jnp.sin(x), x),
    "entry by entry": lambda x: jnp.sin(x) * x**2,
    "times a norm": lambda x: x * jnp.sqrt(x @ x),
    "the point itself": lambda x: x,
    "no entry": lambda x: jnp.sin(x)[:0],
    "a loop": lambda x: jax.lax.scan(lambda c, xi: (jnp.sin(c) * xi + x[:2], c * xi), x[2:], x)[1],
    "some entries fixed": lambda x: jnp.ones((2, D)).at[1].set(jnp.cos(x)),
    "constant": lambda x: jnp.ones((2, 3)),
    "a gradient": jax.grad(lambda x: (net(x) ** 2).sum()),
}
COMPLEX = {
    "waves": lambda x: waves(x) @ (LAST + 0.5j),
    "a square of moduli": lambda x: jnp.abs(x @ PHASES) ** 2,
    "an analytic function of complex numbers": lambda x: jnp.tanh(0.2 * x @ PHASES) @ LAST,
    "neither real nor analytic": lambda x: jnp.conj(x @ PHASES) * (x @ PHASES) ** 2,
    "from real parts": lambda x: jax.lax.complex(net(x), x).reshape(2, 2),
    "one number": lambda x: (waves(x) * (x @ PHASES)).sum(),
    "polar": lambda x: jnp.exp(1j * jnp.angle(x @ PHASES)) * jnp.log(x @ PHASES),
}
FIELDS = REAL | COMPLEX
QUICK = {"one column", "no entry", "a matrix", "waves"}


def table(cases, quick):
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in quick)) for n in cases]
    )


@table(FIELDS, quick=QUICK)
def test_laplacians_of_any_values(name):
    """One call gives for all entries what nested jvp gives, in every way of asking, under jit, vmap and grad."""
    f, axes = FIELDS[name], np.array([0, 2, 2])

    def ours(x):
        others = [taylor.laplacian(f, x, each) for each in (axes, np.eye(D)[axes])]
        return [*taylor.value_and_laplacian(f, x), taylor.laplacian(f, x, compress=False), *others]

    def nested(x):
        second = jnp.diagonal(jax.jacfwd(jax.jacfwd(f))(x), axis1=-2, axis2=-1)
        return [f(x), *[second.sum(-1)] * 2, *[second[..., axes].sum(-1)] * 2]

    def slope(way):
        return jax.grad(lambda x: jnp.cos(way(x)[1].real + way(x)[1].imag).sum())

    def both(x):
        return [(way(x), slope(way)(x)) for way in (ours, nested)]

    close(*jax.jit(lambda x: jax.vmap(both)(jnp.stack([x, 1.1 * x])))(X), bound=1e-10)


@table(sorted(FIELDS.keys() - {"a gradient"}), quick=())
def test_higher_derivatives_of_any_values(name):
    f, weights = FIELDS[name], np.array([1.5, -2.0])

    def ours(x):
        high = [taylor.weighted(f, x, np.array([0, 2]), weights, order) for order in (1, 3, 4)]
        return [*high, taylor.biharmonic(f, x), taylor.partial_derivative(f, x, POWERS)]

    def nested(x):
        high = [
            sum(w * mixed(f, x, k * e) for w, e in zip(weights, np.eye(D, dtype=int)[[0, 2]], strict=True))
            for k in (1, 3, 4)
        ]
        squares = [2 * (e + g) for e in np.eye(D, dtype=int) for g in np.eye(D, dtype=int)]
        return [*high, sum(mixed(f, x, each) for each in squares), mixed(f, x, POWERS)]

    close(*jax.jit(lambda x: (ours(x), nested(x)))(X), bound=1e-9)  # of size 1e3, and of both signs


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_values_keep_their_dtype(dtype):
    def f(x):
        return jnp.exp(x.astype(dtype))

    got = jax.jit(lambda x: [*taylor.value_and_laplacian(f, x), taylor.weighted(f, x, [0, 1], [1.0, 1.0], 3)])(
        jnp.ones(3, jnp.float32)
    )
    assert [part.dtype for part in got] == [dtype] * 3
    np.testing.assert_allclose(got, np.exp(1) * np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]]), rtol=1e-6)


def test_integers_have_no_derivatives():
    value, second = taylor.value_and_laplacian(lambda x: jnp.sign(x).astype(int), X)
    assert (value.tolist(), second.tolist()) == ([1] * D, [0] * D)


def test_a_wide_output_takes_no_more_than_a_matrix():
    """Of a field (d,) -> (d,) nothing larger than (d, d) is made; with a narrow layer before it, nothing larger than d
    times its width, and entry by entry nothing larger than d."""
    d = 50
    first, last = RNG.normal(size=(d, 7)), RNG.normal(size=(7, d))
    cases = {
        lambda x: jnp.tanh(x @ RNG.normal(size=(d, d))) * x: d * d,
        lambda x: jnp.tanh(jnp.tanh(x @ first) @ last): d * 7,
        lambda x: jnp.sin(x) * x**3: d,
    }
    for f, most in cases.items():
        program = jax.make_jaxpr(lambda x, f=f: taylor.laplacian(f, x))(jnp.ones(d))
        assert max(v.aval.size for eqn in program.eqns for v in eqn.outvars) == most


# --- points of any shape -------------------------------------------------------------------------------------

ELECTRONS = SIX.reshape(2, 3)
TIME_AND_PLACE = {"t": np.asarray(0.3), "x": X[:3]}


def repelled(r):
    apart = r[:, None] - r[None, :]
    return jnp.exp(-(r**2).sum()) / (1 + (apart**2).sum(-1)) + jnp.sin(r[0, 0] * r[1, 2])


def heat(p):
    return jnp.exp(-p["t"]) * jnp.sin(p["x"] * jnp.sum(p["x"])) * p["t"] ** 2


POINTS = {
    "a number": (np.asarray(0.4), lambda x: jnp.sin(x**2), [0, 0], 2),
    "electrons": (ELECTRONS, repelled, [0, 5, 5], [[0, 2, 0], [0, 0, 1]]),
    "a row": (X, net, [1], (1, 0, 0, 2)),
    "a dict": (TIME_AND_PLACE, heat, [0, 3], {"t": 1, "x": (0, 2, 0)}),
    "nested": (
        (ELECTRONS, [X[0], X[:0]]),
        lambda p: repelled(p[0]) * jnp.cos(p[1][0]),
        [6],
        (np.zeros((2, 3), int), [2, []]),
    ),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "a dict")) for n in POINTS])
def test_points_of_any_shape(name):
    """With coordinates="all" a point is what ravel_pytree makes of it, and so are directions and multi-indices."""
    x, f, axes, powers = POINTS[name]
    flat, unravel = ravel_pytree(x)
    rows = RNG.normal(size=(4, len(flat)))
    weights, axes, every = jnp.arange(1.0, 1 + len(axes)), np.array(axes), partial(jax.tree.map, jnp.asarray)
    flat_powers = ravel_pytree(every(powers))[0].astype(int).tolist()

    @jax.jit
    def both(x, flat):
        every = {"coordinates": "all"}
        got = [
            *taylor.value_and_laplacian(f, x, **every),
            *(taylor.laplacian(f, x, each, **every) for each in (jax.vmap(unravel)(rows), axes, jnp.asarray(axes))),
            taylor.weighted(f, x, axes, weights, 3, **every),
            taylor.biharmonic(f, x, **every),
            taylor.partial_derivative(f, x, powers, **every),
        ]

        def g(z):
            return f(unravel(z))

        hessian, some = jax.jacfwd(jax.jacfwd(g))(flat), np.eye(len(flat))[axes]
        summed = [jnp.einsum("ri,...ij,rj", each, hessian, each) for each in (rows, some, some)]
        third = sum(w * along(along(along(g, v), v), v)(flat) for w, v in zip(weights, some, strict=True))
        twice, partly = laplacian(laplacian(g))(flat), mixed(g, flat, flat_powers)
        return got, [f(x), laplacian(g)(flat), *summed, third, twice, partly]

    close(*both(x, flat), bound=1e-9)


def test_points_of_any_shape_under_vmap_and_grad():
    def ours(r):
        return taylor.laplacian(lambda r: repelled(r).sum(), r, coordinates="all")

    def nested(r):
        return laplacian(lambda z: repelled(z.reshape(2, 3)).sum())(r.ravel())

    batch = jnp.stack([ELECTRONS, 2 * ELECTRONS])
    close(*jax.jit(lambda batch: [jax.vmap(jax.value_and_grad(way))(batch) for way in (ours, nested)])(batch))


def test_leaves_of_several_dtypes():
    """The point has their common dtype, the function is given each leaf in its own."""
    x = {"single": jnp.ones(2, jnp.float32), "double": jnp.ones(3)}

    def f(x):
        assert {name: leaf.dtype for name, leaf in x.items()} == {"single": jnp.float32, "double": jnp.float64}
        return (x["single"] ** 3).sum() * (x["double"] ** 2).sum()

    found = jax.jit(lambda x: taylor.laplacian(f, x, coordinates="all"))(x)
    assert (float(found), found.dtype) == (6 * 2 * 3 + 2 * 3 * 2, jnp.float64)


def test_one_reshaped_array_is_as_cheap_as_a_flat_one():
    w = RNG.normal(size=(60, 5))

    def sizes(f, x):
        program = jax.make_jaxpr(lambda x: taylor.laplacian(f, x, coordinates="all"))(x)
        return [v.aval.size for eqn in program.eqns for v in eqn.outvars]

    f = lambda x: jnp.tanh(x @ w).sum() + (x**3).sum()  # noqa: E731
    flat, shaped = sizes(f, jnp.ones(60)), sizes(lambda x: f(x.ravel()), jnp.ones((6, 10)))
    assert max(flat) == max(shaped) == 300


def call(x, *args, function=taylor.laplacian, f=lambda x: 0.0, **options):
    return lambda: function(f, x, *args, **({"coordinates": "all"} | options))


REFUSED = {
    "another word": (call(X, coordinates="every"), """coordinates as "all" or None, got 'every'"""),
    "a number": (call(X, coordinates=3), "or None, got 3"),
    "nothing": (call(None), r"at least one entry, got \[\]; without coordinates"),
    "no entry": (call({"x": jnp.ones((0, 3))}), r"at least one entry, got \[\(0, 3\)\]"),
    "an integer leaf": (call({"n": 3, "x": X}), r"in x, got int at x\['n'\]; close over what is no coordinate"),
    "a complex leaf": (call([X, X + 1j]), r"in x, got complex128 at x\[1\]; close over"),
    "integers": (call(np.ones((2, 3), int)), r"floating dtype, got int64; write 1\.0"),
    "flat directions": (
        call(ELECTRONS, np.ones((2, 6))),
        r"\('R', 2, 3\), or integers \(R,\).*got \[\(2, 6\)\]; stack",
    ),
    "axes beyond": (call(ELECTRONS, np.array([6])), "axes from 0 to 5, got 6 to 6"),
    "other directions": (call(TIME_AND_PLACE, {"t": np.ones(2)}), r"'x': \('R', 3\)\}, or integers .*got dict; stack"),
    "uneven directions": (
        call(TIME_AND_PLACE, {"t": np.ones(1), "x": np.ones((2, 3))}),
        r"got \[\(1,\), \(2, 3\)\]; stack",
    ),
    "no directions": (call(ELECTRONS, np.ones((0, 2, 3))), r"R >= 1, got float64 \(0, 6\)"),
    "a flat multi-index": (
        call(ELECTRONS, 6 * (1,), function=taylor.partial_derivative),
        r"multi-index like x, integers of shape \(2, 3\), got \(1, 1, 1, 1, 1, 1\); write 0",
    ),
    "halves": (
        call(TIME_AND_PLACE, {"t": 0.5, "x": (1, 0, 0)}, function=taylor.partial_derivative),
        r"expected 4 integers >= 0.*got \[0\.5, 1, 0, 0\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_leaf_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"in x, got str at x\['a'\]; close over"):
        call({"a": "one", "x": X})()
