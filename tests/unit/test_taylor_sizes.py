"""How long the program of high derivatives is: of one operation it grows as the square of the order.

Lines of the printed program are counted. Versions of jax print a little differently, so bounds are round numbers.
"""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.scipy import special

from course import taylor


def size(f, order, x):
    """Of the derivatives of f along a line."""
    return str(jax.make_jaxpr(lambda x: taylor.derivatives(f, x, jnp.ones_like(x), order))(x)).count("\n")


def curved(x):
    """No derivative of it is zero, so that no term of a rule is left out; between 0.1 and 0.9."""
    return 0.5 + 0.4 * jnp.sin(x)


FUNCTIONS = {
    "x / (1 + x * x)": lambda x: x / (1 + x * x), "quotient": lambda x: x / (1 + jnp.sin(x)), "1 / x": lambda x: 1 / x,
    "x ** y": lambda x: x ** (1 + x), "x ** 2.5": lambda x: x**2.5, "x ** 2.0": lambda x: x**2.0,
    "2 ** x": lambda x: 2**x, "x ** 7": lambda x: x**7, "x ** -3": lambda x: x**-3,
    "sqrt(1 + x**2)": lambda x: jnp.sqrt(1 + x**2),
    "logsumexp": lambda x: jax.nn.logsumexp(jnp.stack([x, x * x])), "arctan2": lambda x: jnp.arctan2(x, 1 + x * x),
    "max": lambda x: jnp.maximum(x, 0.5), "rsqrt": lax.rsqrt, "silu": jax.nn.silu, "gelu": jax.nn.gelu,
    "relu": jax.nn.relu, "logistic": jax.nn.sigmoid, "product": lambda x: x * jnp.exp(x), "erf": special.erf,
    "erfc": special.erfc, "erf_inv": special.erfinv, "arccosh": lambda x: jnp.arccosh(1 + x),
    "sorted": lambda x: jnp.sort(jnp.stack([x, x * x])), "largest": lambda x: jnp.stack([x, x * x]).max(),
} | {
    name: getattr(jnp, name)
    for name in """tanh exp exp2 expm1 log log1p sin cos tan sinh cosh arctan arcsin arccos arcsinh arctanh cbrt square
    sqrt abs""".split()  # noqa: SIM905
}  # fmt: skip


QUICK = {"x / (1 + x * x)", "x ** y", "sqrt(1 + x**2)", "logsumexp", "tanh"}


@pytest.mark.parametrize("shape", [(), pytest.param((3,), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in FUNCTIONS])
def test_a_program_grows_as_the_square_of_the_order(name, shape):
    sizes = [size(lambda x: FUNCTIONS[name](curved(x)), order, jnp.full(shape, 0.3)) for order in (4, 8, 16)]
    assert sizes[1] <= 3000
    assert sizes[1] <= 4.6 * sizes[0] and sizes[2] <= 4.6 * sizes[1]


CUBIC = {  # a rule that calls its own function, or derivatives that solve no equation
    "softplus": jax.nn.softplus, "logaddexp": lambda x: jnp.logaddexp(x, x * x), "log_sigmoid": jax.nn.log_sigmoid,
    "lgamma": special.gammaln, "digamma": special.digamma,
    "cumlogsumexp": lambda x: lax.cumlogsumexp(jnp.stack([x, x])),
    "product": lambda x: jnp.stack([x, x * x]).prod(), "modulus": lambda x: jnp.abs(x + 1j),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CUBIC)
def test_a_program_without_a_recurrence_grows_as_the_cube_of_the_order(name):
    sizes = [size(lambda x: CUBIC[name](curved(x)), order, jnp.full(3, 0.3)) for order in (4, 8)]
    assert sizes[1] <= 10_000 and sizes[1] <= 5 * sizes[0]  # jax 0.7 prints nearly twice as many lines


@pytest.mark.slow
def test_runge_kutta_unrolled():
    def slope(y):
        return jnp.stack([y[1], (1 - y[0] * y[0]) * y[1] - y[0] / (1 + y[1] * y[1])])

    def f(y):
        for _ in range(4):
            a = slope(y)
            b = slope(y + 0.05 * a)
            c = slope(y + 0.05 * b)
            y = y + 0.1 / 6 * (a + 2 * b + 2 * c + slope(y + 0.1 * c))
        return y

    assert size(f, 5, jnp.array([0.3, 0.5])) <= 8000  # by partitions and nested jvp four times as many
