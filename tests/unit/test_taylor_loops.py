"""Jets through loops and branches, against nested jvp; and parts that a gradient computes again (jax.checkpoint)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from course import taylor

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 3)) / 2
POINT = np.array([0.3, 0.5, 0.7])

pytestmark = pytest.mark.usefixtures("x64")


def recurrent(x):  # x is a constant of the loop, and the carry moves from its second step on
    carry, outputs = lax.scan(
        lambda c, s: (jnp.tanh(c @ W + s * x), c[0] * s), jnp.zeros(3), jnp.arange(4.0), _split_transpose=True
    )
    return (carry * carry).sum() + outputs.sum()


def passed_on(x):  # what moves reaches the second carry at once, the first one step later; integers beside
    def step(c, s):
        return (c[0] * s + c[1], c[2], jnp.sin(s), c[3] + 1), (c[0], c[3], 2.0)

    carry, outputs = lax.scan(step, (x[0], 1.0, 0.0, 0), jnp.concatenate([x, x]), reverse=True, unroll=2)
    return carry[0] * carry[1] + carry[2] + (outputs[0] * outputs[1]).sum()


def without_steps(x):
    carry, outputs = lax.scan(lambda c, s: (c * s, c), x[0], x[:0])
    return carry**3 + outputs.sum()


def until(x):  # of a moving condition, too
    return lax.while_loop(
        lambda c: (c[0] < 3) & (c[1][0] < 50 + x[0]), lambda c: (c[0] + 1, jnp.sin(c[1]) * x + c[1]), (0, jnp.ones(3))
    )[1].sum()


def newton(x):
    def step(c):
        y = c[1]
        return c[0] + 1, y - (y**3 + y - x) / (3 * y * y + 1)

    return (lax.while_loop(lambda c: c[0] < 9, step, (0, x))[1] ** 2).sum()


def branches(x):  # each makes other zeros
    chosen = lax.switch(1, [lambda x: (1.0, x), lambda x: (x[0] ** 3, jnp.ones(3)), lambda x: (x[0], x * x)], x)
    return chosen[0] + chosen[1] @ x + lax.cond(x[0] > 0, lambda x: x[1] ** 2, lambda x: 0.0, x)


def within(x):
    def step(c, s):
        d, _ = lax.scan(
            lambda d, t: (lax.cond(t > 1, lambda d: jnp.sin(d) * x, lambda d: d * c, d), None), c, jnp.arange(3.0)
        )
        return d, d

    return lax.scan(step, x, jnp.arange(2.0))[1].sum()


def complex_state(x):
    step = lambda c, s: (c * jnp.exp(1j * s) + s, jnp.abs(c))  # noqa: E731
    carry, outputs = lax.scan(step, 1.0 + 0.5j, x)
    return (carry * carry.conj()).real + outputs.sum()


LOOPS = {
    "recurrent": recurrent, "passed on": passed_on, "without steps": without_steps,
    "until": until, "newton": newton,
    "dynamic bound": lambda x: lax.fori_loop(0, jnp.asarray(3), lambda i, c: c * x + jnp.cos(c) * i, jnp.ones(3)).sum(),
    "fori": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * x + i, x).sum() + x @ x,
    "map": lambda x: lax.map(lambda s: jnp.sin(s) * s, x).sum() ** 2,
    "branches": branches, "within": within, "complex": complex_state,
    "a checkpoint in a loop": lambda x: lax.scan(
        jax.checkpoint(lambda c, s: (jnp.tanh(c @ W) * s, None)), x, x
    )[0].sum(),
}  # fmt: skip
NO_REVERSE = ("until", "newton", "dynamic bound")


def nested(f, x, v, order):
    g = lambda t: f(x + t * v)  # noqa: E731
    for _ in range(order):
        g = lambda t, g=g: jax.jvp(g, (t,), (jnp.ones_like(t),))[1]  # noqa: E731
    return g(jnp.zeros(()))


@pytest.mark.slow
@pytest.mark.parametrize("order", [pytest.param(n, marks=[pytest.mark.thorough] * (n in (1, 4))) for n in (1, 2, 3, 4)])
@pytest.mark.parametrize("name", LOOPS)
def test_any_order_through_a_loop(name, order):
    f, directions, weights = LOOPS[name], RNG.normal(size=(4, 3)), RNG.normal(size=4)
    want = jax.jit(jax.vmap(lambda v: nested(f, POINT, v, order)))(directions) @ weights
    got = jax.jit(lambda x: taylor.weighted(f, x, directions, weights, order))(POINT)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_a_loop_and_a_branch_at_order_three():
    got = jax.jit(lambda x: taylor.derivatives(within, x, POINT, 3))(POINT)
    np.testing.assert_allclose(got[3], jax.jit(lambda x: nested(within, x, POINT, 3))(POINT), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_laplacian_under_vmap_and_grad(name):
    f, points = LOOPS[name], np.stack([POINT, -0.8 * POINT])
    plain = lambda x: jnp.trace(jax.jacfwd(jax.jacfwd(f))(x))  # noqa: E731
    ways = [lambda x: taylor.laplacian(f, x), lambda x: taylor.laplacian(f, x, compress=False), plain]
    *got, want = jax.jit(lambda x: [jax.vmap(way)(x) for way in ways])(points)
    np.testing.assert_allclose(got, [want, want], rtol=1e-10)
    if name not in NO_REVERSE:
        *got, want = jax.jit(lambda x: [jax.grad(way)(x) for way in ways])(POINT)
        np.testing.assert_allclose(got, [want, want], rtol=1e-10)


def test_axes_of_a_sequence():
    """x is what the loop runs over: one-hot first derivatives are made dense."""
    f = lambda x: lax.scan(lambda c, s: (jnp.sin(c) * s + s, None), 1.0, x)[0]  # noqa: E731
    got, some = jax.jit(lambda x: (taylor.laplacian(f, x), taylor.laplacian(f, x, np.array([2, 0]))))(POINT)
    second = np.diag(jax.jit(jax.hessian(f))(POINT))
    np.testing.assert_allclose([got, some], [second.sum(), second[0] + second[2]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_loop_in_low_precision_has_derivatives_in_single(dtype):
    def f(x):
        start = (x.astype(dtype), jnp.ones((), dtype))
        carry = lax.scan(lambda c, s: ((c[0] * c[1], c[0].sum()), None), start, None, length=3)[0]
        return (carry[0].astype(float) * x).sum()

    x = jnp.ones(3) / 4
    # f is s^2 q with the sum s = 3/4 of x and q = x @ x: 2 d q + 8 s^2 + 2 d s^2
    got = jax.jit(lambda x: taylor.laplacian(f, x))(x)
    np.testing.assert_allclose(got, 6 * 3 / 16 + 8 * 9 / 16 + 6 * 9 / 16, rtol=2e-2)  # of values with 8 bits


def test_a_program_of_a_loop_grows_as_the_square_of_the_order():
    f = lambda x: lax.scan(lambda c, s: (c * s + c * c, None), x, jnp.arange(4.0))[0]  # noqa: E731
    lines = [
        len(str(jax.make_jaxpr(lambda x, k=k: taylor.derivatives(f, x, 1.0, k)[-1])(0.3)).splitlines())
        for k in (2, 4, 8)
    ]
    assert lines[2] < 700 and lines[2] - lines[1] < 4.5 * (lines[1] - lines[0])


# --- jax.checkpoint ----------------------------------------------------------------------------------------

policies = jax.checkpoint_policies
WRAPS = {
    "nothing": lambda f: f, "all": jax.checkpoint, "static": lambda f: jax.checkpoint(f, prevent_cse=False),
    "dots": lambda f: jax.checkpoint(f, policy=policies.dots_saveable),
    "names": lambda f: jax.checkpoint(f, policy=policies.save_only_these_names("act")),
    "nested": lambda f: jax.checkpoint(lambda *a: jax.checkpoint(f)(*a)),
}  # fmt: skip
LAYERS = RNG.normal(size=(3, 2, 4, 4)) / 2


def network(wrap, first, in_loop=False):
    def block(h, w):
        for each in w:
            h = checkpoint_name(jnp.tanh(jnp.sin(h @ each)), "act")
        return h

    def f(layers, x):
        h = x @ first
        if in_loop:
            return lax.scan(lambda h, w: (wrap(block)(h, w), None), h, layers)[0].sum()
        for w in layers:
            h = wrap(block)(h, w)
        return h.sum() + x[0] * h[0]

    return f


@pytest.mark.slow
@pytest.mark.parametrize("d", [3, 12])  # fewer directions than the network is wide; more, which are compressed
def test_a_checkpoint_changes_no_result(d):
    first, x = RNG.normal(size=(d, 4)) / 2, np.linspace(-1, 1, d)

    def all_of(layers):
        found = []
        for name in WRAPS:
            f = network(WRAPS[name], first)
            found.append(jax.value_and_grad(lambda p, f=f: taylor.laplacian(lambda x: f(p, x), x))(layers))
        f = network(WRAPS["nothing"], first)
        return found, jax.value_and_grad(lambda p: jnp.trace(jax.hessian(lambda x: f(p, x))(x)))(layers)

    found, want = jax.jit(all_of)(LAYERS)
    for value, gradient in found:
        np.testing.assert_allclose(value, want[0], rtol=1e-10)
        np.testing.assert_allclose(gradient, want[1], rtol=1e-8, atol=1e-10)


def products(wrap, d=12):
    """How many matrix products the gradient of the Laplacian takes."""
    f = network(WRAPS[wrap], RNG.normal(size=(d, 4)))
    lap = lambda p: taylor.laplacian(lambda x: f(p, x), np.ones(d))  # noqa: E731
    return str(jax.make_jaxpr(jax.grad(lap))(LAYERS)).count("dot_general")


def test_what_a_checkpoint_does_not_keep_is_computed_again():
    kept, again, policy = products("nothing"), products("all"), products("dots")
    assert kept < again and policy < again


@pytest.mark.slow
def test_a_checkpoint_takes_less_memory():
    first, points = RNG.normal(size=(10, 32)) / 3, RNG.normal(size=(16, 10))
    layers = RNG.normal(size=(6, 4, 32, 32)) / 6

    def memory(wrap):
        f = network(WRAPS[wrap], first, in_loop=True)
        loss = lambda p: jax.vmap(lambda x: taylor.laplacian(lambda x: f(p, x), x))(points).sum()  # noqa: E731
        return jax.jit(jax.grad(loss)).lower(layers).compile().memory_analysis().temp_size_in_bytes

    assert memory("all") < memory("nothing") / 2  # measured: a fifth
