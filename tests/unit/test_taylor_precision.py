"""Float32 and lower: no rule loses many more digits than nested differentiation of the same program.

Errors are the largest over a grid of points, relative to the largest value, against float64. The factors are those that
the documentation promises: ten for float32, three for lower precision.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.scipy import special

from course import stde, taylor

EPS = float(jnp.finfo(jnp.float32).eps)


pytestmark = pytest.mark.usefixtures("x64")


def along(f, v):
    return lambda x: jax.jvp(f, (x,), (v,))[1]


def error(found, exact):
    exact = np.asarray(exact, float)
    scale = np.abs(exact).max(axis=-1)
    return np.abs(np.asarray(found, float) - exact).max(axis=-1) / np.where(scale == 0, 1, scale)


def grid(lower, upper, points=61):
    return np.linspace(lower, upper, points)


ELEMENTWISE = {
    "tanh": (jnp.tanh, grid(-9, 9)), "logistic": (jax.nn.sigmoid, grid(-20, 20)), "exp": (jnp.exp, grid(-5, 5)),
    "sin": (jnp.sin, grid(-7, 7)), "cos": (jnp.cos, grid(-7, 7)), "x^3": (lambda x: x**3, grid(-3, 3)),
    "x^12": (lambda x: x**12, grid(-3, 3)), "x^-3": (lambda x: lax.integer_pow(x, -3), grid(0.5, 4)),
    "1 / x": (lambda x: 1 / x, grid(0.5, 4)), "silu": (jax.nn.silu, grid(-9, 9)),
    "log(1 - logistic)": (lambda x: jnp.log(1 - jax.nn.sigmoid(x)), grid(-9, 9)),
    "softplus": (jax.nn.softplus, grid(-9, 9)), "gelu": (jax.nn.gelu, grid(-6, 6)),
    "exact gelu": (lambda x: jax.nn.gelu(x, approximate=False), grid(-6, 6)),
    "sech^2": (lambda x: 1 / jnp.cosh(x) ** 2, grid(-5, 5)), "bell": (lambda x: jnp.exp(-x * x), grid(-3, 3)),
    "log": (jnp.log, grid(0.3, 5)), "log1p": (jnp.log1p, grid(-0.5, 5)), "expm1": (jnp.expm1, grid(-4, 4)),
    "exp2": (jnp.exp2, grid(-5, 5)), "sqrt": (jnp.sqrt, grid(0.3, 5)), "rsqrt": (lax.rsqrt, grid(0.3, 5)),
    "cbrt": (jnp.cbrt, grid(0.3, 5)), "x^2.5": (lambda x: x**2.5, grid(0.3, 4)), "erf": (special.erf, grid(-5, 5)),
    "erfc": (special.erfc, grid(-5, 5)), "erf_inv": (special.erfinv, grid(-0.8, 0.8)),
    "lgamma": (special.gammaln, grid(0.6, 6)), "digamma": (special.digamma, grid(0.6, 5)),
    "tan": (jnp.tan, grid(-1, 1)), "asin": (jnp.arcsin, grid(-0.7, 0.7)), "acos": (jnp.arccos, grid(-0.7, 0.7)),
    "atan": (jnp.arctan, grid(-4, 4)), "sinh": (jnp.sinh, grid(-3, 3)), "cosh": (jnp.cosh, grid(-3, 3)),
    "asinh": (jnp.arcsinh, grid(-4, 4)), "acosh": (jnp.arccosh, grid(1.5, 5)), "atanh": (jnp.arctanh, grid(-0.7, 0.7)),
    "atan2": (lambda x: jnp.arctan2(x, 1.5), grid(-3, 3)), "abs": (jnp.abs, grid(-3, 3, 62)),
}  # fmt: skip
QUICK = {"exp", "x^3"}
THOROUGH = [pytest.mark.slow, pytest.mark.thorough]  # the rest
FORMULAS = {"tanh", "logistic", "exp", "sin", "cos", "x^3", "x^12", "x^-3", "silu", "gelu"}  # not by nested jvp
HIGHEST = 8 if os.environ.get("FUZZ") else 4  # of the others; the references take half a minute to compile at order 8


@pytest.mark.parametrize("name", [pytest.param(n, marks=THOROUGH * (n not in QUICK)) for n in ELEMENTWISE])
def test_elementwise_functions_in_float32(name):
    f, x = ELEMENTWISE[name]
    order = 8 if name in FORMULAS else HIGHEST

    def nested(x):
        found, g = [], f
        for _ in range(order + 1):
            found.append(g(x))
            g = along(g, jnp.ones_like(x))
        return jnp.stack(found)

    @jax.jit
    def three(x):
        single = x.astype(jnp.float32)
        ours = jax.vmap(lambda x: taylor.derivatives(f, x, jnp.float32(1), order), out_axes=1)(single)
        return ours, nested(single), nested(single.astype(float))

    ours, theirs, exact = three(x)
    assert ours.dtype == jnp.float32
    assert (error(ours, exact) <= 10 * np.maximum(error(theirs, exact), EPS)).all()


RNG = np.random.default_rng(5)
HIDDEN, OUT = RNG.normal(size=(4, 6)) / 2, RNG.normal(size=6)
INDICES = [(1, 1), (3, 1), (2, 2), (1, 1, 1), (2, 1, 1), (1, 1, 1, 1), (3, 3), (5, 3), (1, 7)]
SCALES = [(1.0, 1.0, 1.0, 1.0), (1.0, 30.0, 3.0, 100.0), (100.0, 1.0, 10.0, 1.0)]


def field(scales):
    def f(x):
        d = len(x)
        return jnp.tanh((x * jnp.asarray(scales[:d], x.dtype)) @ jnp.asarray(HIDDEN[:d], x.dtype)) @ jnp.asarray(
            OUT, x.dtype
        )

    return f


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("index", [pytest.param(i, marks=THOROUGH * (i not in INDICES[:1])) for i in INDICES], ids=str)
def test_mixed_partials_in_float32_whatever_the_scales_of_the_axes(index, scales):
    f = field(scales)

    def nested(x):
        g = f
        for axis, power in enumerate(index):
            for _ in range(power):
                g = along(g, jnp.eye(len(index), dtype=x.dtype)[axis])
        return g(x)

    operator = stde.Operator({index: 2.0})

    @jax.jit
    def found(x):
        single = x.astype(jnp.float32)
        ours = jax.vmap(lambda x: taylor.partial_derivative(f, x, index))(single)
        applied = jax.vmap(lambda x: stde.apply(operator, f, x))(single) if sum(index) <= 4 else 2 * ours
        return ours, applied / 2, jax.vmap(nested)(single), jax.vmap(nested)(single.astype(float))

    points = np.random.default_rng(1).normal(size=(40, len(index))) / np.array(scales[: len(index)])
    ours, applied, theirs, exact = found(points)
    bound = 10 * max(float(error(theirs, exact)), EPS)
    assert error(ours, exact) <= bound and error(applied, exact) <= bound


@pytest.mark.parametrize("matrix", [np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [2.0, -0.001]])])
def test_forms_of_second_order_in_float32_whatever_the_scales_of_the_axes(matrix):
    f, operator = field((1.0, 100.0)), stde.second_order(matrix)

    @jax.jit
    def three(x):
        single = x.astype(jnp.float32)
        by_hessian = jax.vmap(lambda x: (jnp.asarray(matrix, x.dtype) * jax.hessian(f)(x)).sum())
        ours = jax.vmap(lambda x: stde.apply(operator, f, x))(single)
        return ours, by_hessian(single), by_hessian(single.astype(float))

    ours, theirs, exact = three(np.random.default_rng(1).normal(size=(40, 2)) / np.array([1.0, 100.0]))
    assert error(ours, exact) <= 10 * max(float(error(theirs, exact)), EPS)


# --- lower than float32 ------------------------------------------------------------------------------------

W, V = RNG.normal(size=(20, 16)) / 20**0.5, RNG.normal(size=(16, 16)) / 4
LOW = {
    "one layer": lambda c, x: jnp.tanh(c(x) @ c(W)),
    "two layers": lambda c, x: jnp.tanh(jnp.tanh(c(x) @ c(W)) @ c(V)),
    "gelu": lambda c, x: jax.nn.gelu(c(x) @ c(W)),
    "softplus": lambda c, x: jax.nn.softplus(c(x) @ c(W)),
    "softmax": lambda c, x: jax.nn.softmax(c(x) @ c(W)),
    "scan": lambda c, x: lax.scan(lambda h, _: (jnp.tanh(h @ c(V)), None), c(x) @ c(W), length=2)[0],
    "normalised": lambda c, x: jnp.sin((h := c(x) @ c(W)) - h.mean()) / jnp.sqrt(h.var() + c(0.1)),
}


@pytest.mark.parametrize("low", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=THOROUGH * (n != "one layer")) for n in LOW])
def test_low_precision_inside_float32(name, low):
    weights = jnp.asarray(RNG.normal(size=16) / 4, jnp.float32)

    def f(x, dtype=low):  # the same rounded weights in both precisions
        def cast(a):
            return jnp.asarray(a, low).astype(dtype) if a is not x else x.astype(dtype)

        return LOW[name](cast, x).astype(jnp.float32) @ weights

    @jax.jit
    def three(x):
        ours = jax.vmap(lambda x: taylor.laplacian(f, x))(x)
        nested = jax.vmap(lambda x: jnp.trace(jax.hessian(f)(x)))(x)
        return ours, nested, jax.vmap(lambda x: jnp.trace(jax.hessian(lambda x: f(x, jnp.float32))(x)))(x)

    ours, theirs, exact = three(jnp.asarray(RNG.normal(size=(48, 20)), jnp.float32))
    assert ours.dtype == jnp.float32
    assert error(ours, exact) <= 3 * error(theirs, exact)


@pytest.mark.slow
@pytest.mark.parametrize("low", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
def test_a_point_or_a_layer_of_low_precision(low):
    x = jnp.asarray([0.1, 0.2, 0.3], low)
    f = lambda x: jnp.tanh(x).sum() * x[0]  # noqa: E731
    assert [part.dtype for part in taylor.value_and_laplacian(f, x)] == [low, low]
    assert taylor.derivatives(f, x, x, 3).dtype == low
    assert taylor.partial_derivative(f, x, (2, 1, 0)).dtype == low
    model = nnx.Linear(3, 4, dtype=low, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    got = taylor.laplacian(lambda x: jnp.tanh(model(x)).astype(jnp.float32).sum(), jnp.float32(x))
    assert got.dtype == jnp.float32 and jnp.isfinite(got)


@pytest.mark.parametrize("size", [1e-13, *(pytest.param(s, marks=THOROUGH) for s in (1e-15, 1e-8, 1.0, 1e6))])
def test_small_and_large_weights_in_float32(size):
    """exp(s z) / s^2 with z the sum of three coordinates has the Laplacian 3 exp(s z), whatever s is."""
    w, x = jnp.full((3, 2), size, jnp.float32), jnp.zeros(3, jnp.float32)

    def f(x):
        return jnp.exp((x @ w)[0]) / jnp.float32(size) ** 2

    np.testing.assert_allclose(
        jax.jit(lambda x: taylor.laplacian(f, x))(x), 3.0, rtol=2e-5
    )  # dependent columns: 20 epsilons of jitter
    mixed = jnp.concatenate([w, jnp.ones((3, 1), jnp.float32)], axis=1)

    def g(x):
        z = x @ mixed
        return jnp.exp(z[0]) / jnp.float32(size) ** 2 + jnp.sin(z[2])

    np.testing.assert_allclose(jax.jit(lambda x: taylor.laplacian(g, x))(x), 3.0, rtol=2e-5)
