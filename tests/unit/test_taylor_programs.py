"""What course.taylor makes of a function: its program, its side effects, and clear words where it cannot go on."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback

from course import functional, stde, taylor
from course.taylor import DifferentiationError, gram, one_hot, programs, propagation, rules
from course.taylor.programs import Constant, is_inexact, is_real, trace

ONES = np.ones(3)
POINT = np.array([0.3, 0.5, 0.7])
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("x64")


def trace_of_hessian(f):
    return lambda x: jnp.trace(jax.jacfwd(jax.jacfwd(f))(x))


def total(x):
    return (x**2).sum()


@pytest.mark.parametrize(
    "kind",
    [
        *(programs.Constant, programs.Equation, programs.Program, propagation.Moving, propagation.Lines),
        *(rules.Operation, one_hot.OneHot, stde.Kind, functional.Functional),
    ],
)
def test_what_holds_arrays_is_compared_by_identity_and_stays_as_it_is(kind):
    """Two arrays have no truth value, and a program is looked up while it is taken apart."""
    one, other = (object.__new__(kind) for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, dataclasses.fields(kind)[0].name, 0)


# --- programs ----------------------------------------------------------------------------------------------


def test_trace_opens_wrappers_and_drops_what_nothing_depends_on():
    def f(x):
        jnp.exp(x)
        return jax.jit(lambda x: jax.checkpoint(jnp.tanh)(x) * 2)(x).sum()

    program = trace(f, ONES)
    assert [equation.name for equation in program.equations] == ["tanh", "mul", "reduce_sum"]
    assert program.outputs == program.equations[-1].outputs
    assert [equation.sizes for equation in program.equations] == [(3,), (3,), (1,)]


def test_an_output_that_nothing_uses_carries_no_derivative():  # it may be None
    (loop, _) = trace(lambda x: lax.fori_loop(0, 2, lambda i, h: h * i, x).sum(), ONES).equations
    count, carried = loop.call(*(i.value if isinstance(i, Constant) else ONES for i in loop.inputs))
    assert is_real(carried) and not is_real(count)
    assert not is_real(None) and not is_inexact(None)


def test_equations_can_be_called_with_inputs_that_differ_and_keep_their_literals():
    square, shifted = trace(lambda x: x * x + 2.0, ONES).equations
    assert square.inputs == (0, 0)
    np.testing.assert_array_equal(square.call(ONES, 3 * ONES)[0], 3 * ONES)
    assert isinstance(shifted.inputs[1], Constant)
    np.testing.assert_array_equal(shifted.call(ONES, None)[0], 3 * ONES)


def test_outputs_may_be_constants_and_inputs():
    program = trace(lambda x: (x, 1.0), ONES)
    assert program.equations == () and program.outputs[0] == 0 and isinstance(program.outputs[1], Constant)


A, W, C = RNG.normal(size=(4, 3)), RNG.normal(size=4), RNG.normal(size=3)
PHASES = np.array([1 + 2j, 2 - 1j, 0.5j])
SAME = {
    "a matrix first": lambda x: W @ jnp.tanh(A @ x) + C @ x,
    "the same array twice": lambda x: (A @ x) @ (A @ x) + (A @ jnp.sin(x)).sum(),
    "a complex product": lambda x: jnp.abs(x @ PHASES) ** 2,
    "complex and wider than x": lambda x: jnp.abs(jnp.exp(1j * (A @ x)) @ W) ** 2,
    "a complex state, normalised": lambda x: (
        jnp.angle(jnp.exp(1j * (x @ C)) * (2 + x[0])) / jnp.linalg.norm(x * PHASES)
    ),
    "float32 inside": lambda x: (x.astype(jnp.float32) ** 3).sum() * x[0],
    "a loop with an integer beside": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * x, x).sum() + x @ x,
    "parts of no length": lambda x: jnp.concatenate([x[3:], jnp.sin(x[:2])]) @ x[:2],
    "a spectrum": lambda x: jnp.abs(jnp.fft.fft(x))[1],
    "a number and an array": lambda x: (jnp.arctan2(x[0], W) * x[1] * W).sum(),  # one operation takes both
}


@pytest.mark.parametrize("name", SAME)
def test_laplacians_that_were_wrong_once(name):
    f = SAME[name]
    got, uncompressed, want = jax.jit(
        lambda x: (taylor.laplacian(f, x), taylor.laplacian(f, x, compress=False), trace_of_hessian(f)(x))
    )(POINT)
    bound = 1e-5 if name == "float32 inside" else 1e-12
    np.testing.assert_allclose([got, uncompressed], want, rtol=bound)


def test_one_coordinate_as_a_number_and_as_an_array():
    def f(x):
        number = x.reshape(())
        return (number * W + x * number + jnp.sin(number) * jnp.tanh(x)).sum()

    got, want = jax.jit(lambda x: (taylor.laplacian(f, x), trace_of_hessian(f)(x)))(POINT[:1])
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_complex_field_has_a_complex_laplacian():
    def f(x):
        return jnp.exp(1j * (x @ C))

    got = jax.jit(lambda x: taylor.value_and_laplacian(f, x))(POINT)
    np.testing.assert_allclose(got[1], -(C @ C) * got[0], rtol=1e-13)
    along = jax.jit(lambda x: taylor.derivatives(f, x, C, 3))(POINT)
    np.testing.assert_allclose(along[3], (1j * (C @ C)) ** 3 * got[0], rtol=1e-12)


# --- side effects ------------------------------------------------------------------------------------------


def nested(c):
    return lax.cond(c > 0, lambda c: jax.debug.print("nested {}", c) or c**2, lambda c: c, c)


def prints(x):
    jax.debug.print("first {}", x[0])
    io_callback(lambda: print("callback"), None)
    c = lax.scan(lambda c, _: (jax.debug.print("scan {}", c) or jnp.sin(c) * x[1], None), x[0], None, length=2)[0]
    c = lax.cond(c > 0, lambda c: jax.debug.print("cond {}", c) or nested(c), lambda c: c, c)
    jax.debug.print("last {}", c)
    return c


@pytest.mark.parametrize(
    "way",
    [
        lambda x: jax.jvp(prints, (x,), (x,)),
        pytest.param(lambda x: taylor.laplacian(prints, x), marks=pytest.mark.slow),
        lambda x: taylor.derivatives(prints, x, x, 1),
        jax.jit(lambda x: taylor.derivatives(prints, x, x, 3)),
    ],
    ids=["jax.jvp", "laplacian", "order 1", "jit"],
)
def test_what_a_function_prints_is_printed_once(way, capfd):
    way(jnp.asarray(POINT))
    jax.effects_barrier()
    words = sorted(line.split()[0] for line in capfd.readouterr().out.splitlines())
    assert words == ["callback", "cond", "first", "last", "nested", "scan", "scan"]


def test_effects_stay_in_their_order(capfd):
    def f(x):
        jax.debug.print("one {}", x.sum(), ordered=True)  # of one number
        jax.debug.print("two {}", x, ordered=True)  # of a wide value, which compression would take first
        return jnp.tanh(A[:2] @ x).sum()

    jax.jit(lambda x: taylor.laplacian(f, x))(POINT)
    jax.effects_barrier()
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == ["one", "two"]


# --- what cannot be done says so ---------------------------------------------------------------------------


def back_only(x):
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda slope, g: (g * slope,))
    return sine(x).sum()


def back_only_within(x):
    """One such function inside another, both inside a call."""
    sine = jax.custom_vjp(back_only)
    sine.defvjp(lambda x: (back_only(x), x), lambda x, g: (g * jnp.cos(x),))
    return jax.jit(sine)(x)


@jax.custom_jvp
def in_two_lines(x):
    return x.sum()


@in_two_lines.defjvp
def _(primals, tangents):
    raise NotImplementedError("no rule yet\nfor this one")


def outside(x):
    return jax.pure_callback(lambda z: z, jax.ShapeDtypeStruct((), x.dtype), x.sum())


EYE = np.eye(3)
REFUSED = {
    "a batch": (lambda: taylor.laplacian(total, np.ones((2, 3))), r"must be \(d,\), got \(2, 3\); wrap.*jax\.vmap"),
    "positions": (lambda: taylor.laplacian(total, np.ones((2, 3))), r'or pass coordinates="all" if all'),
    "a batch in weighted": (lambda: taylor.weighted(total, np.ones((2, 3)), EYE, ONES, 2), r"\(2, 3\); wrap"),
    "a batch in biharmonic": (lambda: taylor.biharmonic(total, np.ones((2, 3))), r"\(2, 3\); wrap"),
    "a batch in partial": (
        lambda: taylor.partial_derivative(total, np.ones((2, 3)), (1, 0, 0)), r"\(2, 3\); wrap"
    ),
    "no coordinates": (lambda: taylor.laplacian(total, np.ones(0)), r"d >= 1, got \(0,\); without coordinates"),
    "a dict": (lambda: taylor.laplacian(total, {"a": ONES}), r"got dict; jax\.flatten_util\.ravel_pytree.*coordinates"),
    "nothing": (lambda: taylor.derivatives(total, None, ONES, 2), "one array, got NoneType"),
    "integers": (lambda: taylor.laplacian(total, np.ones(3, int)), r"floating dtype, got int64; write 1\.0 for 1"),
    "complex numbers": (lambda: taylor.laplacian(total, ONES + 0j), r"floating dtype, got complex128"),
    "integers in derivatives": (lambda: taylor.derivatives(total, np.ones(3, int), ONES, 2), r"got int64; write 1\.0"),
    "two outputs": (lambda: taylor.laplacian(lambda x: (x.sum(), 1), ONES), "one array, got outputs of.*let f return"),
    "two outputs along a line": (
        lambda: taylor.derivatives(lambda x: (x, x), ONES, ONES, 2), "one array, got 2; return them stacked"
    ),
    "long directions": (lambda: taylor.laplacian(total, ONES, np.ones((2, 4))), r"\(R, 3\).*got float64 \(2, 4\)"),
    "one direction": (lambda: taylor.laplacian(total, ONES, ONES), r"\(R, 3\).*got float64 \(3,\)"),
    "no directions": (lambda: taylor.laplacian(total, ONES, np.ones((0, 3))), r"R >= 1, got float64 \(0, 3\)"),
    "complex directions": (lambda: taylor.laplacian(total, ONES, 1j * EYE), "real directions, got complex"),
    "a mask": (lambda: taylor.laplacian(total, ONES, ONES > 0), r"integers \(R,\).*got bool \(3,\)"),
    "axes beyond": (lambda: taylor.laplacian(total, ONES, np.array([0, 7])), "axes from 0 to 2, got 0 to 7"),
    "axes below": (lambda: taylor.laplacian(total, ONES, np.array([-1])), "axes from 0 to 2, got -1 to -1"),
    "weights": (lambda: taylor.weighted(total, ONES, EYE, np.ones(2), 2), r"one weight.*\(3,\), got \(2,\)"),
    "complex weights": (lambda: taylor.weighted(total, ONES, EYE, 1j * ONES, 2), "real weights, got complex"),
    "order 0": (lambda: taylor.weighted(total, ONES, EYE, ONES, 0), r"order >= 1, got 0; order 0 is f\(x\)"),
    "order 0 along a line": (lambda: taylor.derivatives(total, ONES, ONES, 0), r"order >= 1, got 0; order 0 is f\(x\)"),
    "order 2.0": (lambda: taylor.derivatives(total, ONES, ONES, 2.0), r"order as an integer >= 1, got 2\.0; pass"),
    "a short direction": (lambda: taylor.derivatives(total, ONES, np.ones(2), 2), r"shape \(3,\), got \(2,\); one"),
    "a short multi-index": (lambda: taylor.partial_derivative(total, ONES, (1,)), r"3 integers >= 0.*got \(1,\)"),
    "a negative multi-index": (
        lambda: taylor.partial_derivative(total, ONES, (1, -1, 0)), r"3 integers >= 0.*got \(1, -1, 0\)"
    ),
    "letters": (lambda: taylor.partial_derivative(total, ONES, "xxy"), "3 integers >= 0.*got 'xxy'"),
    "no direction": (lambda: taylor.derivatives(total, ONES, None, 2), "directions as an array of numbers, got None"),
    "weights in words": (lambda: taylor.weighted(total, ONES, EYE, "abc", 2), "weights as an array of numb.*got 'abc'"),
    "rows of different length": (lambda: taylor.laplacian(total, [[1.0], [1.0, 2.0]]), "x as one array, got list"),
    "a complex point": (lambda: taylor.laplacian(total, 1j * ONES), r"got complex128; make a real and an imaginary"),
    "a key": (lambda: taylor.laplacian(total, jax.random.key(0)), r"got key<fry>; that is a random key"),
    "a dict as result": (lambda: taylor.laplacian(lambda x: {"a": x.sum()}, ONES), r"'a': \(\).*let f return one"),
    "no result": (lambda: taylor.laplacian(lambda x: None, ONES), "got outputs of shapes None; does f end without"),
    "a zero power": (lambda: taylor.interpolation((2, 0)), r"integers >= 1, got \(2, 0\); leave out axes that are not"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused_with_a_remedy(name):
    call, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("axes", [[0, 9], [0, 3], [-1, 1]])
def test_traced_axes_that_do_not_exist_make_nan(axes):
    f = lambda x: jnp.tanh(A @ x).sum() + x @ x  # noqa: E731
    for compress in (True, False):
        got = jax.jit(lambda a, c=compress: [taylor.laplacian(g, POINT, a, compress=c) for g in (f, total)])(
            jnp.array(axes)
        )
        assert np.isnan(got).all()
    assert jnp.isnan(jax.jit(lambda a: taylor.weighted(f, POINT, a, ONES[:2], 1))(jnp.array(axes)))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    ("f", "operation", "reason"),
    [
        (outside, "pure_callback", ".+"),
        (back_only, "custom_vjp_call", "it has a backward rule only"),
        (lambda x: lax.cond(x[0] > 0, outside, jnp.sum, x), "cond", ".+"),
        (lambda x: lax.scan(lambda y, _: (y + back_only(x), None), x[0], None, 3)[0], "scan", "it has a backward.+"),
        (lambda x: lax.scan(lambda y, _: (y + back_only_within(x), None), x[0], None, 3)[0], "scan", "it has a back.+"),
        (in_two_lines, "custom_jvp_call", "no rule yet"),
    ],
    ids=["pure_callback", "custom_vjp", "inside cond", "custom_vjp inside scan", "deep inside", "in two lines"],
)
def test_an_operation_without_a_derivative_is_named_with_the_remedy(f, operation, reason, order):
    message = rf"{order} times, got '{operation}.*\({reason}\); write.*with jax\.custom_jvp"
    with pytest.raises(DifferentiationError, match=message):
        taylor.weighted(f, ONES, EYE, ONES, order)


def test_a_function_with_a_backward_rule_only_works_once_it_has_a_forward_rule():
    @jax.custom_jvp
    def sine(x):
        return jnp.sin(x)

    sine.defjvps(lambda t, ans, x: t * jnp.cos(x))
    got = jax.jit(lambda x: taylor.value_and_laplacian(lambda x: sine(x).sum(), x))(ONES)
    np.testing.assert_allclose(got, [3 * np.sin(1.0), -3 * np.sin(1.0)])


@pytest.mark.parametrize("error", [TypeError, ValueError, NotImplementedError])
def test_a_fault_of_our_own_rules_is_raised_as_it_is(monkeypatch, error):
    def faulty(*_):
        raise error("a slip in a rule")

    monkeypatch.setattr(rules, "add", faulty)
    with pytest.raises(error, match="a slip in a rule") as caught:
        taylor.laplacian(lambda x: jax.scipy.special.i0e(x).sum(), ONES)
    assert not isinstance(caught.value, DifferentiationError)


def test_an_error_of_the_function_itself_is_raised_as_it_is():
    for order in (1, 2):
        with pytest.raises(TypeError, match="shape") as caught:
            taylor.derivatives(lambda x: x @ jnp.ones(5), ONES, ONES, order)
        assert not isinstance(caught.value, DifferentiationError)


def test_a_backward_rule_that_x_does_not_reach_is_no_obstacle():
    def f(x):
        return lax.scan(lambda y, _: (y * x[0] + back_only(ONES), None), x[0], None, 2)[0]

    got = taylor.derivatives(f, POINT, ONES, 1)
    np.testing.assert_allclose(got, jax.jvp(f, (POINT,), (ONES,)))


def test_compression_is_the_default(monkeypatch):
    asked = []
    monkeypatch.setattr(gram, "factor", lambda blocks: asked.append(len(blocks)) or blocks)
    narrow = np.ones((5, 2))
    for operator in (taylor.laplacian, taylor.value_and_laplacian):
        operator(lambda x: jnp.tanh(x @ narrow).sum(), np.ones(5))
        operator(lambda x: jnp.tanh(x @ narrow).sum(), np.ones(5), compress=False)
    assert len(asked) >= 2 and len(asked) % 2 == 0
    once = len(asked)
    taylor.laplacian(lambda x: jnp.tanh(x @ narrow).sum(), np.ones(5), compress=False)
    assert len(asked) == once


def test_directions_of_interpolation_are_few_and_cannot_be_spoiled():
    directions, weights = taylor.interpolation((1,) * 7)
    assert len(directions) == 64 and len(taylor.interpolation((2, 2))[0]) == 4
    assert taylor.interpolation(np.ones(7, int))[0] is directions
    for array in (directions, weights):
        with pytest.raises(ValueError, match="read-only"):
            array *= 2


# --- found by trying ---------------------------------------------------------------------------------------

GUARDED = {  # NaN in what is not chosen, or in what stands still
    "where": (lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0).sum() * x[1], [-0.31, 0.52, 0.77]),
    "slice": (lambda x: jnp.sqrt(x)[1:].sum() * x[2], [-0.31, 0.52, 0.77]),
    "stop_gradient": (lambda x: (jnp.sqrt(lax.stop_gradient(x)) * x**2).sum(), [0.0, 0.5, 0.7]),
    "floor": (lambda x: (jnp.sqrt(jnp.floor(x)) + x**2).sum(), [0.3, 0.5, 0.7]),
    "sign": (lambda x: jnp.sqrt(jnp.sign(x - 0.3)).sum() + (x**2).sum(), [0.3, 0.5, 0.7]),
    "callback": (
        lambda x: x[0] ** 2 * jax.pure_callback(
            lambda x: np.asarray(x), jax.ShapeDtypeStruct((), float), lax.stop_gradient(x[1]),
            vmap_method="sequential"),
        [0.3, 0.5, 0.7]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("compress", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("name", GUARDED)
def test_what_is_not_chosen_or_stands_still_may_have_no_derivative(x64, name, compress):
    f, x = GUARDED[name]
    x = jnp.array(x)
    want = sum(jax.jvp(lambda x, v=v: jax.jvp(f, (x,), (v,))[1], (x,), (v,))[1] for v in jnp.eye(3))
    np.testing.assert_allclose(taylor.laplacian(f, x, compress=compress), want, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1.7, 2.9))])
def test_a_biharmonic_of_dependent_first_derivatives(x64, spread):
    i, j = np.triu_indices(5, 1)  # ten distances of five points, which have nine degrees of freedom

    def f(x):
        p = x.reshape(5, 3)
        return jnp.exp(-jnp.sqrt(((p[i] - p[j]) ** 2).sum(-1))).sum()

    x = jnp.sin(spread * jnp.arange(15.0) + 1)
    got, want = jax.jit(
        lambda x: (taylor.biharmonic(f, x), jnp.trace(jax.hessian(lambda x: jnp.trace(jax.hessian(f)(x)))(x)))
    )(x)
    np.testing.assert_allclose(got, want, rtol=1e-11)


OVERFLOWING = {  # the inner derivatives' product is as large as the outer derivative is small
    "1 / cosh": (lambda x: 1 / jnp.cosh(x), 60), "1 / cosh^2": (lambda x: 1 / jnp.cosh(x) ** 2, 40),
    "Lennard-Jones": (lambda x: 1 / (x * x) ** 6 - 1 / (x**2) ** 3, 100),
    "log cosh": (lambda x: jnp.log(jnp.cosh(x)), 40),
    "logistic": (lambda x: 1 / (1 + jnp.exp(-x)), 40), "1 / sqrt": (lambda x: 1 / jnp.sqrt(1 + x * x) ** 3, 3000),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERFLOWING)
def test_large_times_small_stays_finite_in_float32(name):
    f, far = OVERFLOWING[name]
    x = jnp.linspace(0.9, far, 61, dtype=jnp.float32)
    found = jax.jit(jax.vmap(lambda x: taylor.derivatives(f, x, jnp.ones((), x.dtype), 4)))(x)
    assert np.isfinite(found).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_more_directions_than_a_point_of_low_precision_has(dtype):
    got = taylor.laplacian(lambda x: jnp.exp(x.astype(float)).prod(), jnp.zeros(3, dtype), jnp.ones((7, 3)))
    np.testing.assert_allclose(got, 63, rtol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [np.array([200, 5], np.uint8), np.array([100, 5], np.int8)])
def test_axes_of_a_small_integer_type(axes):
    x = jnp.linspace(-1, 1, 300)
    got = taylor.laplacian(lambda x: (x**3).sum(), x, axes)
    np.testing.assert_allclose(got, 6 * x[axes.astype(int)].sum(), rtol=1e-5)


@pytest.mark.slow
def test_compression_at_many_points_ends():
    """In a process of its own: factors of one batch, computed at once, have locked up XLA's thread pool."""
    program = """
import jax, jax.numpy as jnp
from course import taylor
first = jax.random.normal(jax.random.key(0), (300, 128)) / 17
second = jax.random.normal(jax.random.key(1), (128, 128)) / 11
f = lambda x: jnp.tanh(jnp.tanh(x @ first) @ second).sum() / (1 + x @ x)
run = jax.jit(jax.vmap(lambda x: taylor.laplacian(f, x)))
for n in range(30):
    run(jax.random.normal(jax.random.key(n), (200, 300)) / 17).block_until_ready()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


@pytest.mark.parametrize("way", [jax.vmap, lambda f: jax.jit(jax.vmap(f))], ids=["vmap", "jit"])
def test_two_sums_into_entries_of_one_program(way):
    """XLA folds scatters into zeros that it knows; of two in one fusion it made a wrong program."""

    def f(x):
        v = jnp.concatenate([x, jnp.sin(x)])
        return jnp.sin(jnp.cumsum(v) + jnp.cumprod(jnp.tanh(v))) @ jnp.arange(1.0, 7) + jnp.sin(v).sum()

    points = jnp.stack([POINT, 0.8 * POINT])
    got = way(lambda x: taylor.weighted(f, x, np.array([1]), jnp.ones(1), 2))(points)
    np.testing.assert_allclose(got, jax.vmap(lambda x: jax.hessian(f)(x)[1, 1])(points), rtol=2e-5)
