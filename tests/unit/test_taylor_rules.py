"""Inside course.taylor: rules against the rule for anything, the fast path of axes against the rules, compression."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from course import taylor
from course.taylor import gram, one_hot, propagation, rules
from course.taylor.one_hot import OneHot
from course.taylor.programs import Constant, Equation, Program, trace
from course.taylor.propagation import Lines, Moving

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 4))
EPS = np.finfo(float).eps


pytestmark = pytest.mark.usefixtures("x64")


def jets(count, shape, order, lines):
    """Random jets of values between 0.2 and 0.8, some derivatives zero (None)."""
    found = []
    for n in range(count):
        lower = [None if (n + k) % 4 == 3 else jnp.asarray(RNG.normal(size=(lines, *shape))) for k in range(1, order)]
        found.append([jnp.asarray(RNG.uniform(0.2, 0.8, shape)), *lower, jnp.asarray(RNG.normal(size=shape))])
    return found


def operation(f, values, order, lines, weights=None):
    """The last operation of a function of several arrays, all of which move."""

    def packed(flat):
        sizes = np.cumsum([v.size for v in values])[:-1]
        return f(*(part.reshape(v.shape) for part, v in zip(jnp.split(flat, sizes), values, strict=True)))

    equation = trace(packed, jnp.concatenate([v.ravel() for v in values])).equations[-1]
    moving = iter(values)
    inputs = [given.value if isinstance(given, Constant) else next(moving) for given in equation.inputs]
    positions = [i for i, given in enumerate(equation.inputs) if not isinstance(given, Constant)]
    return rules.Operation(
        equation.name, equation.params, inputs, positions, equation.call, equation.call(*inputs), order, lines, weights,
        propagation.push_one_line,
    )  # fmt: skip


PRODUCTS = {
    "mul": (jnp.multiply, 2, (4,)),
    "dot_general": (jnp.matmul, 2, (4, 4)),
    "conv_general_dilated": (lambda x, y: lax.conv(x, y, (1, 1), "SAME"), 2, (1, 1, 4, 4)),
}
ELEMENTWISE = {
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "exp": jnp.exp,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "log": jnp.log,
    "integer_pow": lambda x: lax.integer_pow(x, 3),
    "sqrt": jnp.sqrt,
    "erf": jax.scipy.special.erf,
    "abs": jnp.abs,
    "negative power": lambda x: lax.integer_pow(x, -2),
    "pow": lambda x: x**2.5,
    "high power": lambda x: x**11,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log1p": jnp.log1p,
    "rsqrt": lax.rsqrt,
    "cbrt": jnp.cbrt,
    "square": lax.square,
    "tan": jnp.tan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "asinh": jnp.arcsinh,
    "atanh": jnp.arctanh,
    "erfc": jax.scipy.special.erfc,
    "erf_inv": jax.scipy.special.erfinv,
    "lgamma": lax.lgamma,
    "digamma": lax.digamma,
}
TWO = {
    "div": jnp.divide, "pow": lax.pow, "atan2": lax.atan2, "max": lax.max, "rem": lax.rem,
}  # fmt: skip
LINEAR = {
    "sub": (jnp.subtract, 2), "reduce_sum": (lambda x: lax.reduce_sum(x, (0,)), 1), "cumsum": (lax.cumsum, 1),
    "transpose": (lambda x: lax.transpose(x, (1, 0)), 1), "concatenate": (lambda x, y: lax.concatenate([x, y], 0), 2),
}  # fmt: skip
CASES = [(name, f, count, shape) for name, (f, count, shape) in PRODUCTS.items()]
CASES += [(name, f, 1, (3,)) for name, f in ELEMENTWISE.items()]
CASES += [(f"{name} of two", f, 2, (3,)) for name, f in TWO.items()]
CASES += [(name, f, count, (2, 3)) for name, (f, count) in LINEAR.items()]


@pytest.mark.parametrize("order", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 3, 5))])
@pytest.mark.parametrize(("name", "f", "count", "shape"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_is_what_nested_jvp_gives(name, f, count, shape, order):
    given = jets(count, shape, order, lines=3)
    op = operation(f, [x[0] for x in given], order, 3, jnp.array([1.0, -2.0, 0.5]))
    assert op.linear == (name in LINEAR) and (op.linear or rules.RULES[op.name] is not rules.anything)
    got, want = jax.jit(lambda given: (rules.transport(op, *given), rules.anything(op, *given)))(given)
    for a, b in zip(got[0], want[0], strict=True):
        np.testing.assert_allclose(0 if a is None else a, 0 if b is None else b, rtol=1e-12, atol=1e-11)


def nested(f, x, order):
    """The derivatives 0 … order along 1."""
    found = []
    for _ in range(order + 1):
        found.append(f(x))
        f = lambda x, f=f: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]  # noqa: E731
    return jnp.stack(found)


STILL = {  # one of two inputs; and numbers beside arrays
    "1 / x": lambda x, p: 1 / x, "p / x": lambda x, p: p / x, "2 ** x": lambda x, p: 2**x, "p ** x": lambda x, p: p**x,
    "x ** 2.5": lambda x, p: x**2.5, "x ** -1.5": lambda x, p: x**-1.5, "x ** 2.0": lambda x, p: x**2.0,
    "x ** p": lambda x, p: x**p, "atan2": lambda x, p: jnp.arctan2(p, x), "max": lambda x, p: jnp.maximum(x, p),
    "0 ** x": lambda x, p: 0.0**x, "an array of exponents": lambda x, p: x ** jnp.array([2.0, 0.5, 3.5]),
    "complex": lambda x, p: jnp.exp(1j * x) / (x + 2j) + jnp.sqrt(x + 1j) + (x + 1j) ** 1.5 + jnp.log(x * p + 1j),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", STILL)
def test_where_one_input_stands_still(name):
    def f(x, p):
        return STILL[name](jnp.sin(x), p)

    x = jnp.array([0.3, 0.9, 1.2])
    got, want = jax.jit(
        lambda x, p: (taylor.derivatives(lambda x: f(x, p), x, jnp.ones(3), 5), nested(lambda x: f(x, p), x, 5))
    )(x, 2.7)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


AT_ZERO = {  # -> how many derivatives of it are finite, of x ** 3.0 by products more than by nested jvp
    "x ** 2.0": (lambda x, p: x**2.0, 2), "x ** 1.5": (lambda x, p: x**1.5, 1), "x ** 3.5": (lambda x, p: x**3.5, 3),
    "x ** p": (lambda x, p: x**p, 2), "x ** (p + x)": (lambda x, p: x ** (p + x), 2), "x ** 4": (lambda x, p: x**4, 5),
    "0 ** (1 + x)": (lambda x, p: 0.0 ** (1 + x), 5), "abs": (lambda x, p: jnp.abs(x), 5),
    "max": (lambda x, p: jnp.maximum(x, 0.0), 5), "log1p": (lambda x, p: jnp.log1p(x), 5),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_ZERO)
def test_at_zero_what_is_finite_stays_finite(name):
    """And so does its gradient, one order below."""
    f, finite = AT_ZERO[name]

    @jax.jit
    def both(x, p):
        ways = [
            lambda x, k: taylor.derivatives(lambda x: f(x, p), x, 1.0, k)[k],
            lambda x, k: nested(lambda x: f(x, p), x, k)[k],
        ]
        return [([way(x, k) for k in range(1, finite + 1)], jax.grad(way)(x, max(finite - 1, 1))) for way in ways]

    (got, slope), (want, wanted) = both(0.0, 2.5)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    if finite > 1:
        np.testing.assert_allclose(slope, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-15, 1e-7, 1.0, 1e7, 1e15])
def test_small_and_large_arguments_in_single_precision(size):
    """Along a line as long as the argument, derivatives of powers are as large as the value."""
    p = {"1 / x": -1.0, "sqrt": 0.5, "rsqrt": -0.5, "cbrt": 1 / 3}
    functions = [lambda x: 1 / x, jnp.sqrt, lax.rsqrt, jnp.cbrt]
    x = jnp.asarray(size, jnp.float32)
    got = jax.jit(lambda x: [taylor.derivatives(f, x, x, 4) for f in [*functions, jnp.log]])(x)
    for power, found in zip(p.values(), got, strict=False):
        falling = np.cumprod([1.0, *(power - np.arange(4))])
        np.testing.assert_allclose(found, falling * float(x) ** power, rtol=1e-5)
    np.testing.assert_allclose(got[-1][1:], [1, -1, 2, -6], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "linear", "other"),
    [
        ("mul", [{0}, {1}], [{0, 1}]),
        ("div", [{0}], [{1}, {0, 1}]),
        ("gather", [{0}], [{1}]),
        ("dynamic_slice", [{0}], [{1}]),
        ("dynamic_update_slice", [{0}, {1}, {0, 1}], [{2}]),
        ("scatter", [{0}, {2}, {0, 2}], [{1}]),
        ("scatter-add", [{0}, {2}, {0, 2}], [{1}]),
        ("triangular_solve", [{1}], [{0}, {0, 1}]),
        ("select_n", [{1}, {1, 2, 3}], [{0}]),
    ],
)
def test_in_which_inputs_an_operation_is_linear(name, linear, other):
    for moving in linear + other:
        op = rules.Operation(name, {}, [], sorted(moving), lambda *_: [], [], 2, 1, None, propagation.push_one_line)
        assert op.linear == (moving in linear)


@pytest.mark.parametrize(("f", "count"), [(jnp.multiply, 2), (jnp.log, 1)], ids=["mul", "log"])
def test_a_lower_derivative_does_not_see_a_higher_one(f, count):
    given = [[x[0], *[jnp.ones((2, 3))] * 3, jnp.full(3, jnp.nan)] for x in jets(count, (3,), 2, 2)]
    op = operation(f, [x[0] for x in given], 4, 2)
    ((*lower, highest),) = jax.jit(lambda given: rules.transport(op, *given))(given)
    assert np.isfinite(lower).all() and np.isnan(highest).all()


@pytest.mark.parametrize("name", ["tanh", "logistic", "exp", "sin", "cos", "integer_pow"])
def test_a_formula_keeps_the_program_of_a_high_derivative_short(name):
    f = ELEMENTWISE[name] if name != "integer_pow" else lambda x: x**12
    program = jax.make_jaxpr(lambda x: taylor.derivatives(f, x, 1.0, 7))(0.3)
    assert len(str(program).splitlines()) < 200  # nested jvp: from 300 of exp to 3600 of tanh; JAX 0.7 prints longer


def test_of_a_second_derivative_of_tanh_a_gradient_keeps_less_than_of_any_other_sigmoid():
    def kept(f):
        backward = jax.eval_shape(lambda x: jax.vjp(lambda x: taylor.derivatives(f, x, x, 2), x)[1], jnp.ones(3))
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert kept(jnp.tanh) < kept(jax.nn.sigmoid)


# --- axes --------------------------------------------------------------------------------------------------

PLACES, WEIGHTS = jnp.array([2, 0, 2]), jnp.array([1.0, -2.0, 0.5])
TENSOR = RNG.normal(size=(4, 3, 2))


def square(x):
    return x.reshape(2, 2)


def together(*parts):
    return jnp.concatenate([part.ravel() for part in parts])


FAST = {  # (f, whether its first derivatives are one-hot again); the last operation counts
    "neg": (jnp.negative, True),
    "reshape": (lambda x: x.reshape(2, 2), True),
    "a number times": (lambda x: 3 * x, True),
    "an array times": (lambda x: A[0] * x, True),
    "divided by": (lambda x: x / A[1], True),
    "sum of two": (lambda x: jnp.sin(x) + x * A[0], True),
    "where": (lambda x: jnp.where(A[0] > 0, x, 2 * x), True),
    "product": (lambda x: jnp.sin(x) * jnp.tanh(2 * x), True),
    "square": (lambda x: x * x, True),
    "elementwise": (lambda x: jnp.tanh(jnp.exp(2 * x)), True),
    "power": (lambda x: x**3, True),
    "x @ W": (lambda x: x @ A, False),
    "A @ x": (lambda x: A @ x, False),
    "outer product": (lambda x: jnp.outer(x, A[0]), False),
    "dot product": (lambda x: jnp.sin(x) @ jnp.tanh(2 * x), False),
    "square norm": (lambda x: x @ x, False),
    "several products": (
        lambda x: together(
            jnp.tensordot(x * A[0], TENSOR, 1),
            jnp.tensordot(jnp.sin(x), x, 0),
            square(x) @ A[:2, :2],
            square(x) @ square(x),
            jnp.tensordot(square(x), square(x), ((0, 1), (1, 0))),
        ),
        False,
    ),
    "several others": (
        lambda x: together(
            x + A @ x, jnp.multiply(*jnp.split(x, 2)), jnp.prod(jnp.exp(x)), jnp.arctan2(x, jnp.sin(x)), jnp.cumsum(x)
        ),
        False,
    ),
    "dot with a vector": (lambda x: x @ A[0], False),
    "slice": (lambda x: x[1:3], False),
    "sum": (jnp.sum, False),
    "gather": (lambda x: x[PLACES[:2]], False),
    "reversed": (lambda x: x[::-1], False),
    "concatenate": (lambda x: jnp.concatenate([x, x]), False),
    "quadratic form": (lambda x: x @ A @ x, False),
    "complex": (lambda x: x * (1 + 2j), False),
    "empty": (lambda x: x[4:], False),
}


@pytest.mark.parametrize("axes", [None, PLACES], ids=["all", "some"])
@pytest.mark.parametrize("name", FAST)
def test_axes_take_the_fast_path_to_the_same_numbers(name, axes):
    f, stays = FAST[name]
    x = jnp.asarray(RNG.uniform(0.2, 0.9, 4))
    start, lines = one_hot.along_axes(axes, x), Lines(2, 4) if axes is None else Lines(2, len(axes), WEIGHTS)
    kept = []

    def both(x):
        ends = []
        for first in (start, start.dense()):
            (y,) = propagation.propagate(trace(f, x), [x, first, None], lines)
            kept.append(isinstance(y[1], OneHot))
            ends.append([0.0 if entry is None else entry for entry in one_hot.dense(y)])
        return ends

    got, want = jax.jit(both)(x)
    assert kept == [stays, False]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def test_axes_and_rows_give_the_same_third_derivatives():
    def f(x):
        return (jnp.sin(x) * jnp.tanh(2 * x)).sum() + x**2 @ x + jnp.tanh(x @ A).sum()

    got, want = jax.jit(lambda x: [taylor.weighted(f, x, rows, WEIGHTS, 3) for rows in (PLACES, jnp.eye(4)[PLACES])])(
        jnp.asarray(RNG.uniform(0.2, 0.9, 4))
    )
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_matrix_is_read_by_rows_and_the_identity_never_made():
    """The first derivatives of x @ W along all axes are W; along some, its rows."""
    w, x = jnp.asarray(RNG.normal(size=(300, 5))), jnp.ones(300)
    for f in (lambda x: x @ w, lambda x: w.T @ x):
        for axes, want in ((None, w), (PLACES, w[PLACES])):
            lines = Lines(2, len(want))

            def run(x, f=f, axes=axes, lines=lines):
                return propagation.propagate(trace(f, x), [x, one_hot.along_axes(axes, x), None], lines)[0][1]

            np.testing.assert_array_equal(run(x), want)
            text = str(jax.make_jaxpr(run)(x))
            assert "300,300" not in text and "dot_general" in text


NEVER_DENSE = {
    "x @ W": (lambda x: (2 * x) @ jnp.ones((300, 400)), None), "W @ x": (lambda x: jnp.ones((400, 300)) @ x, None),
    "sum": (jnp.sum, None), "dot product": (lambda x: x @ x, None), "slice": (lambda x: (x * x)[:4], None),
    "reversed": (lambda x: x[::-1], PLACES),
}  # fmt: skip


@pytest.mark.parametrize("name", NEVER_DENSE)
def test_the_identity_is_never_made(name):
    f, axes = NEVER_DENSE[name]

    def run(x):
        lines = Lines(2, 300 if axes is None else len(axes))
        return one_hot.dense(propagation.propagate(trace(f, x), [x, one_hot.along_axes(axes, x), None], lines)[0])[1]

    assert "300,300" not in str(jax.make_jaxpr(run)(jnp.ones(300)))


# --- compression -------------------------------------------------------------------------------------------


def inner_products(blocks):
    flat = [b.reshape(len(b), -1) for b in blocks]
    real = jnp.concatenate([part for b in flat for part in ([b.real, b.imag] if jnp.iscomplexobj(b) else [b])], axis=1)
    return real.T @ real


BLOCKS = {
    "one": [RNG.normal(size=(9, 3))],
    "several, one of them single": [RNG.normal(size=(9, 3)), RNG.normal(size=(9,)), RNG.normal(size=(9, 2, 2))],
    "complex": [RNG.normal(size=(9, 3)) + 1j * RNG.normal(size=(9, 3)), RNG.normal(size=(9, 1))],
    "of all sizes": [RNG.normal(size=(9, 3)) * np.array([1e-30, 1.0, 1e20]), 1e-9 * RNG.normal(size=(9, 1))],
    "dependent": [np.repeat(RNG.normal(size=(9, 1)), 3, axis=1) / 100, RNG.normal(size=(9, 1))],
    "with zeros": [np.stack([np.zeros(9), 1e-3 * RNG.normal(size=9)], axis=1), np.zeros((9, 1))],
    "all zero": [np.zeros((9, 2))],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "with zeros")) for n in BLOCKS])
def test_a_factor_has_the_same_inner_products(name):
    blocks = list(map(jnp.asarray, BLOCKS[name]))
    factors = jax.jit(gram.factor)(blocks)
    assert {len(f) for f in factors} == {sum(map(gram.width, blocks))}
    got, want = inner_products(factors), inner_products(blocks)
    size = jnp.sqrt(jnp.maximum(jnp.diag(want), 0 if want.any() else 1))
    # ten times their number in epsilons, where columns depend on each other; zeros stay below the others' rounding
    bound = 50 * jnp.finfo(want.dtype).eps
    zero = jnp.finfo(want.dtype).eps ** 2 * size.max() ** 2
    assert (jnp.abs(got - want) <= bound * (jnp.outer(size, size) + zero)).all()


def test_single_columns_need_no_solver():
    """A batch of them is a batch of square roots and quotients."""
    program = str(jax.make_jaxpr(gram.factor)([jnp.ones((9, 1)), jnp.ones(9), jnp.ones((9, 1))]))
    assert "sqrt" in program and "cholesky" not in program and "triangular_solve" not in program


@pytest.mark.slow
def test_independent_columns_are_factored_to_rounding():
    blocks = [jnp.asarray(RNG.normal(size=(40, 12)), jnp.float32)]
    got, want = inner_products(jax.jit(gram.factor)(blocks)), inner_products(blocks)
    assert jnp.abs(got - want).max() < 5e-6 * jnp.abs(want).max()  # a jitter of ten epsilons would not show; 120 would


@pytest.mark.slow
@pytest.mark.parametrize("name", ["several, one of them single", "complex", "dependent"])
def test_the_derivative_of_a_factor(name):
    blocks = list(map(jnp.asarray, BLOCKS[name]))
    change = [jnp.asarray(RNG.normal(size=b.shape)).astype(b.dtype) for b in blocks]

    def moved(t):
        return inner_products(gram.factor([b + t * c for b, c in zip(blocks, change, strict=True)]))

    def exactly(t):
        return inner_products([b + t * c for b, c in zip(blocks, change, strict=True)])

    for f, g in ((moved, exactly), (jax.jacfwd(moved), jax.jacfwd(exactly))):
        got, want = jax.jit(lambda f=f, g=g: (jax.jacfwd(f)(0.0), jax.jacfwd(g)(0.0)))()
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * jnp.abs(want).max())


def compresses(f, x, **how):
    return "cholesky" in str(jax.make_jaxpr(lambda x: taylor.laplacian(f, x, **how))(x))


def test_compression_comes_as_soon_as_few_first_derivatives_are_alive():
    x, narrow, wide = jnp.ones(6), jnp.asarray(RNG.normal(size=(6, 2))), jnp.asarray(RNG.normal(size=(6, 7)))

    def late(x):  # something wide is needed until the end
        return jnp.tanh(x @ narrow).sum() * jnp.tanh(x @ wide).sum()

    def never(x):
        return jnp.tanh(jnp.concatenate([jnp.tanh(x @ narrow), x])).sum()

    assert compresses(lambda x: jnp.tanh(jnp.tanh(x @ narrow) @ narrow.T).sum(), x)
    assert compresses(late, x) and not compresses(never, x)
    assert not compresses(lambda x: (jnp.tanh(x @ wide) @ wide.T)[:2] * 2.0, x)  # nothing follows that bends
    assert not compresses(late, x, directions=np.eye(6)[:2])  # two directions are fewer than anything
    assert not compresses(lambda x: jnp.tanh(x @ wide[:, :6]).sum(), x)  # as many first derivatives as directions


@pytest.mark.parametrize("width", [6, 7])
def test_what_is_wide_is_used_up_first(width):
    wide, narrow, middle = (jnp.asarray(RNG.normal(size=shape)) for shape in ((6, width), (width, 2), (2, 3)))

    def f(x):
        wider = x @ wide
        return jnp.tanh(jnp.tanh(wider @ narrow) @ middle).sum() + (wider**2).sum()  # written last, made first

    program = str(jax.make_jaxpr(lambda x: taylor.laplacian(f, x))(jnp.ones(6)))
    assert "6,2]" in program and "3,3]" in program and "6,3]" not in program


@pytest.mark.slow
def test_the_highest_orders_in_single_precision():
    """Nothing is divided by a factorial: 35! is beyond float32."""
    got = taylor.derivatives(jnp.sin, jnp.ones((), jnp.float32), 1.0, 40)
    np.testing.assert_allclose(got, [np.sin(1.0 + k * np.pi / 2) for k in range(41)], rtol=1e-6)
    with pytest.raises(ValueError, match="expected order <= 40, got 41; derivatives grow like factorials"):
        taylor.weighted(lambda x: jnp.sin(x).sum(), jnp.ones(2), jnp.array([1]), jnp.ones(1), 41)


@pytest.mark.parametrize("member", [Moving, Lines, rules.Operation, OneHot, Constant, Equation, Program])
def test_values_are_never_compared_nor_changed(member):
    """Arrays inside: == would be an array."""
    assert member.__eq__ is object.__eq__ and member.__dataclass_params__.frozen


def test_what_does_not_fit_together_is_refused(monkeypatch):
    x, given = jnp.ones(3), jets(1, (3,), 2, 3)
    op = operation(jnp.arctan2, [x, x], 2, 3)
    (equation,) = (program := trace(jnp.sin, x)).equations
    again = replace(equation, inputs=equation.outputs, outputs=(9,))
    wrong = {
        "too few jets": lambda: rules.anything(op, *given),
        "too few jets without a top": lambda: rules.anything(op, [*given[0][:2], None]),
        "too few outputs": lambda: rules.anything(replace(op, outputs=[]), *[[x, jnp.ones((3, 3)), None]] * 2),
        "values without a number": lambda: push(replace(equation, outputs=())),
        "values without a size": lambda: push(replace(equation, sizes=()), compress=True),
        "a rule without outputs": lambda: push(replace(equation, name="none")),
        "a rule with too many parts": lambda: push(replace(equation, name="twice")),
        "factors lost": lambda: push(equation, again, compress=True, count=4),
    }

    def push(*equations, count=3, **how):
        start = [x, jnp.ones((count, 3)), None]
        return propagation.propagate(replace(program, equations=equations), start, Lines(2, count), **how)

    monkeypatch.setitem(rules.RULES, "none", lambda op, x: [])
    monkeypatch.setitem(rules.RULES, "twice", lambda op, x: [op.call(x[0], x[0])])
    monkeypatch.setattr(gram, "factor", lambda blocks: [])
    for what, call in wrong.items():
        with pytest.raises(ValueError, match=r"zip\(\)"):
            pytest.fail(f"{what}: {call()}")


@pytest.mark.parametrize(
    ("matrix", "share"),
    [
        ([[1.0, 0.5], [0.5, 1.0]], 0),
        ([[1.0, 1.0], [1.0, 1.0]], 4 * 2**0.5),  # singular: the smaller share is enough
        ([[1.0, 1.0 + 3e-15], [1.0 + 3e-15, 1.0]], 20),  # rounded to below zero: the larger one
        ([[1.0, 0.0], [0.0, 5.5 * EPS]], 0),  # a pivot is one above five epsilons
        ([[1.0, 0.0], [0.0, 4.5 * EPS]], 4 * 2**0.5),
        ([[1.0, 0.0], [0.0, 1e-12]], 0),
    ],
)
def test_a_singular_matrix_is_factored_with_the_smallest_share_of_the_identity(matrix, share):
    lower = gram._cholesky(jnp.array(matrix))
    assert np.isfinite(lower).all()
    np.testing.assert_allclose(lower @ lower.T, np.array(matrix) + share * EPS * np.eye(2), rtol=1e-15)


@pytest.mark.parametrize(("pivot", "want"), [(0.5, 0.5), (0.0, 10 * EPS), (-3 * EPS, 10 * EPS)])
def test_a_single_pivot_is_at_least_ten_epsilons(pivot, want):
    np.testing.assert_allclose(gram._cholesky(jnp.array([[pivot]])) ** 2, want, rtol=1e-15)


def test_a_layer_first_is_factored_once_for_all_points():
    narrow = jnp.asarray(RNG.normal(size=(6, 2)))

    def f(x):
        norm = x @ x  # its first derivative differs from point to point
        return jnp.tanh(x @ narrow).sum() * norm

    program = str(jax.make_jaxpr(jax.vmap(lambda x: taylor.laplacian(f, x)))(jnp.ones((5, 6))))
    assert "cholesky" in program and "5,2,2]" not in program


@pytest.mark.slow
def test_a_column_of_zeros_beside_small_ones_in_single_precision():
    narrow = jnp.asarray([[1e-13, 0, 2e-13]] * 4, jnp.float32)

    def f(x):
        return (jnp.sin(1 + x @ narrow) / 1e-26).sum()

    got, want = taylor.laplacian(f, jnp.ones(4, jnp.float32)), -4 * 5 * np.sin(1)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_columns_that_are_all_zero(dtype):
    """A share of the identity makes their Gram matrix definite: its square must not be seen, nor make NaN."""

    def laplacian(weights):
        return taylor.laplacian(lambda x: jnp.cos(1 + x @ weights).sum(), jnp.ones(4, dtype))

    got, gradient = jax.jit(jax.value_and_grad(laplacian))(jnp.zeros((4, 3), dtype))
    assert abs(got) < 1e-18 and abs(gradient).max() < 1e-18
