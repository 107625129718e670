"""How one operation carries a jet: one rule for each class of operations. Needs JAX.

A jet of order K is a list of derivatives, those of a value along the lines x + t v_r, r = 1 … R, at t = 0:

  x[0]             the value, (*shape)
  x[1] … x[K-1]    its derivatives of order 1 … K-1, one for each line, (R, *shape)
  x[K]             the weighted *sum over the lines* of its K-th derivatives, (*shape)

None stands for zero. Only a sum of the highest derivatives is wanted in the end, and every operation is linear in the
highest one, so the sum can be taken at once: that is collapsing (Dangel et al., NeurIPS 2025, section 3), and the
forward Laplacian is its case K = 2.

A rule takes the operation and one jet for each input that moves with x, and returns for each output the derivatives 1 …
K. Only speed needs more than one rule: `anything` is right for every operation that JAX can differentiate forwards.
Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb, factorial, prod
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from course.taylor.programs import is_real, names_within

Jet = list[Any]
"""Arrays, and Nones from place 1 on, as above; `one_hot` puts its own form into place 1."""
Derivatives = Sequence[jax.Array | None]
"""1 … K of one value; None for zero."""
Rule = Callable[..., Sequence[Derivatives]]
"""(operation, *jets) -> the derivatives of each output."""
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class DifferentiationError(TypeError):
    """An operation whose derivative is not known; the message names it and the remedy."""

    reason = ""


@dataclass(frozen=True, eq=False)
class Operation:
    """What a rule is told beside the jets: the operation, and what is asked for.

    Attributes:
      name: the primitive's.
      params: the primitive's.
      inputs: all its inputs' values.
      moving: the positions of those that move with x.
      call: (*moving inputs) -> list of the floating outputs; the other inputs are fixed in it.
      outputs: what it makes of the values.
      order: the number K.
      lines: how many there are, R.
      weights: (R,), of the sum that x[K] is; None means ones.
    """

    name: str
    params: Mapping[str, Any]
    inputs: list[Any]
    moving: list[int]
    call: Callable[..., list[jax.Array]]
    outputs: list[jax.Array]
    order: int
    lines: int
    weights: jax.Array | None

    @property
    def values(self) -> list[jax.Array]:
        """The values of the moving inputs."""
        return [self.inputs[p] for p in self.moving]

    @property
    def linear(self) -> bool:
        """Whether it is linear in the moving inputs together."""
        if self.name in _LINEAR or (RULES.get(self.name) is product and len(self.moving) == 1):
            return True
        return set(self.moving) <= _LINEAR_AT.get(self.name, set())

    def collapse(self, values: jax.Array | None) -> jax.Array | None:
        """The weighted sum over the lines: (R, *shape) -> (*shape)."""
        if values is None:
            return None
        if self.weights is not None:  # a sum, not a dot: XLA fuses it with what makes the values
            values = self.weights.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1)) * values
        return values.sum(axis=0)

    def axis(self, k: int) -> int | None:
        """Where the k-th entry of a jet has its axis of lines: in front, or nowhere."""
        return 0 if 0 < k < self.order else None


RULES: dict[str, Rule] = {}
"""The rule of each primitive, by its name."""


def rule(*names: str) -> Callable[[F], F]:
    """Register a function as the rule of the operations with these names."""

    def register(function: F) -> F:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def transport(op: Operation, *jets: Jet) -> Sequence[Derivatives]:
    """Push jets through one operation: the derivatives 1 … K of each of its outputs."""
    if op.linear:
        return linear(op, *jets)
    return RULES.get(op.name, anything)(op, *jets)


# --- the rules ---------------------------------------------------------------------------------------------


def linear(op: Operation, *jets: Jet) -> Sequence[Derivatives]:
    """What is linear maps each derivative as it maps the value."""

    def push(k: int) -> Derivatives:
        parts = [x[k] for x in jets]
        if all(part is None for part in parts):
            return [None] * len(op.outputs)
        axes = [None if part is None else op.axis(k) for part in parts]
        parts = [jnp.zeros_like(x[0]) if part is None else part for x, part in zip(jets, parts, strict=True)]
        return over_lines(image, axes)(*parts)

    def image(*parts: jax.Array) -> list[jax.Array]:
        return op.call(*parts) if whole else jvp(op, parts)

    # where nothing stands still beside, the operation is its own derivative, which is quicker to trace
    whole = len(op.moving) == len(op.inputs) if op.name in _LINEAR else op.name not in _LINEAR_AT
    return list(zip(*map(push, range(1, op.order + 1)), strict=True))


@rule("mul", "dot_general", "conv_general_dilated")
def product(op: Operation, x: Jet, y: Jet) -> list[Derivatives]:
    """Leibniz: the k-th derivative of x y is the sum over i of binomial(k, i) x[i] y[k - i]."""

    def term(k: int, i: int) -> jax.Array | None:
        if x[i] is None or y[k - i] is None:
            return None
        (xy,) = over_lines(op.call, [op.axis(i), op.axis(k - i)])(x[i], y[k - i])
        return times(comb(k, i), xy)

    lower = [add(term(k, i) for i in range(k + 1)) for k in range(1, op.order)]
    inner = op.collapse(add(term(op.order, i) for i in range(1, op.order)))
    return [[*lower, add([inner, term(op.order, 0), term(op.order, op.order)])]]


@rule(
    *"""abs acos acosh asin asinh atan atan2 atanh cbrt cos cosh digamma div erf erf_inv erfc exp exp2 expm1 integer_pow
    lgamma log log1p logistic max min pow rem rsqrt sign sin sinh sqrt square tan tanh""".split()  # noqa: SIM905
)
def elementwise(op: Operation, x: Jet, *others: Jet) -> list[Derivatives]:
    """Faà di Bruno: g(x)[k] is the sum over the partitions of k of g^(number of parts) times the x[part] multiplied."""
    if others or not is_real(x[0]) or op.outputs[0].shape != x[0].shape:
        return anything(op, x, *others)  # two arguments move; or a complex one, and g need not be holomorphic
    g = derivatives_of(op)  # g, g', … at x[0]

    def term(k: int, parts: int, gather: Callable[[jax.Array | None], jax.Array | None]) -> jax.Array | None:
        if op.name in _BOUNDED:  # then g can wait until the sum over the lines is taken
            total = gather(add(times(n, product_of([x[p] for p in each])) for n, each in partitions(k, parts)))
            return None if total is None else g[parts] * total
        # of 1 / z, say, g is as small as the product is large, and together they stay finite
        return gather(add(times(n, product_of([g[parts], *(x[p] for p in each)])) for n, each in partitions(k, parts)))

    def last(k: int) -> jax.Array | None:  # the only partition into one part
        return None if x[k] is None else g[1] * x[k]

    lower = [add([*(term(k, m, lambda each: each) for m in range(2, k + 1)), last(k)]) for k in range(1, op.order)]
    top = add([*(term(op.order, m, op.collapse) for m in range(2, op.order + 1)), last(op.order)])
    return [[*lower, top]]


_BOUNDED = frozenset({"cos", "exp", "logistic", "sin", "tanh"})  # bounded by 1, or by the function itself


def anything(op: Operation, *jets: Jet) -> list[Derivatives]:
    """Nested `jax.jvp` along a curve with the given derivatives: custom rules, all that JAX knows."""
    if _has_backward_rule_only(op):
        raise not_differentiable(op.name, op.order, "it has a backward rule only")
    tops = [x[op.order] for x in jets]
    pushed: Derivatives = [None] * len(op.outputs)
    if any(top is not None for top in tops):
        pushed = jvp(op, [jnp.zeros_like(v) if t is None else t for v, t in zip(op.values, tops, strict=True)])
    if op.order == 1:
        return [[top] for top in pushed]

    def along(*lower: list[jax.Array]) -> list[list[jax.Array]]:  # one line: the derivatives 1 … K of all outputs
        def curve(t: jax.Array) -> list[jax.Array]:
            return op.call(*(polynomial(value, c, t) for value, c in zip(op.values, lower, strict=True)))

        time = jnp.zeros((), jnp.finfo(jnp.result_type(*op.values)).dtype)  # real, where values are complex
        return nested(op, curve, time)

    def filled(x: Jet, k: int) -> jax.Array:
        return jnp.zeros((op.lines, *x[0].shape), x[0].dtype) if x[k] is None else x[k]

    *lower, highest = jax.vmap(along)(*([filled(x, k) for k in range(1, op.order)] for x in jets))
    tops = [add([op.collapse(each), top]) for each, top in zip(highest, pushed, strict=True)]
    return [[*(each[n] for each in lower), top] for n, top in enumerate(tops)]


# --- which operations are linear ---------------------------------------------------------------------------

# In all inputs together.
_LINEAR = frozenset(
    """neg copy copy_p name convert_element_type reshape squeeze expand_dims transpose broadcast_in_dim reduce_sum slice
    rev cumsum real imag conj complex fft split add sub add_any concatenate pad""".split()  # noqa: SIM905
)
# In the inputs at these positions together; the others are predicates, indices, divisors.
_LINEAR_AT = {
    "gather": {0}, "dynamic_slice": {0}, "dynamic_update_slice": {0, 1}, "scatter": {0, 2}, "scatter-add": {0, 2},
    "div": {0}, "triangular_solve": {1}, "select_n": set(range(1, 100)),
}  # fmt: skip


# --- the derivatives of elementwise functions --------------------------------------------------------------

Formula = Callable[[Operation, jax.Array, jax.Array], list[jax.Array]]
"""(operation, z, g(z)) -> [g'(z), …, g^(K)(z)]."""
FORMULAS: dict[str, Formula] = {}
"""The formula of each elementwise primitive, by its name."""


def formula(*names: str) -> Callable[[Formula], Formula]:
    """Register (op, z, g(z)) -> [g'(z), …, g^(K)(z)] for the elementwise functions g with these names."""

    def register(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(names, function))
        return function

    return register


def derivatives_of(op: Operation) -> list[jax.Array]:
    """g(z), g'(z), …, g^(K)(z), by formula; else by nested jvp, whose program nearly triples with each order."""
    (z,), (g,) = op.values, op.outputs
    if op.name in FORMULAS:
        return [g, *FORMULAS[op.name](op, z, g)]
    return [g, *(each for (each,) in nested(op, op.call, z))]


@formula("exp")
def _exp(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    return [g] * op.order


@formula("sin")
def _sin(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    return [[g, jnp.cos(z), -g, -jnp.cos(z)][k % 4] for k in range(1, op.order + 1)]


@formula("cos")
def _cos(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    return [[g, -jnp.sin(z), -g, jnp.sin(z)][k % 4] for k in range(1, op.order + 1)]


@formula("integer_pow")
def _integer_pow(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    n = op.params["y"]
    factors = [prod(range(n - k + 1, n + 1)) for k in range(1, op.order + 1)]  # n (n - 1) … (n - k + 1)
    return [float(c) * z ** (n - k) if c else jnp.zeros_like(z) for k, c in enumerate(factors, start=1)]


@formula("tanh")
def _tanh(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:  # g' = w = 1 - g^2, w' = -2 g w
    if op.order < 3:  # nothing cancels yet, and a gradient has less to keep
        return [1 - g * g, g * (2 * g * g - 2)]
    return _of_sigmoid(g, (1 - g) * (1 + g), 1, 2, op.order)


@formula("logistic")
def _logistic(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    # with h = 1 - g: g' = w = g h, w' = -(g - h) w, (g - h)' = 2 w
    h = 1 - g  # rounded as in a user's own 1 - g: log(1 - g) has no digits otherwise
    if op.order < 3:
        return [g * h, g * h * (1 - 2 * g)]
    return _of_sigmoid(g - h, g * h, 2, 1, op.order)


def _of_sigmoid(s: jax.Array, w: jax.Array, up: int, down: int, order: int) -> list[jax.Array]:
    """w and its derivatives, where s' = up w and w' = -down s w: polynomials in s and in w, small where s is flat.

    As polynomials in the function alone they would cancel there: in float32 a sixth derivative has no digit left.
    """
    terms, found = {(1, 0): 1}, []  # powers of w and s -> coefficient
    for _ in range(order):
        total = add(times(c, product_of([w] * a + [s] * b)) for (a, b), c in terms.items())
        assert total is not None  # it has a term at every order
        found.append(total)
        following: dict[tuple[int, int], int] = {}
        for (a, b), c in terms.items():
            for powers, factor in (((a, b + 1), -down * a), ((a + 1, b - 1), up * b)):
                following[powers] = following.get(powers, 0) + factor * c
        terms = {powers: c for powers, c in following.items() if c}
    return found


# --- small parts -------------------------------------------------------------------------------------------


def add(terms: Iterable[jax.Array | None]) -> jax.Array | None:
    """Sum of the terms that are not zero (None); None where all are."""
    total: jax.Array | None = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def times(factor: int, value: jax.Array | None) -> jax.Array | None:
    """A multiple of what may be zero (None)."""
    return value if value is None or factor == 1 else float(factor) * value


def product_of(factors: Sequence[jax.Array | None]) -> jax.Array | None:
    """Product, entry by entry, of what may be zero (None)."""
    known = [factor for factor in factors if factor is not None]
    return prod(known[1:], start=known[0]) if len(known) == len(factors) else None


def over_lines(function: F, axes: Sequence[int | None]) -> F:
    """`jax.vmap` over the arguments that have an axis of lines, if any has."""
    return function if all(axis is None for axis in axes) else jax.vmap(function, in_axes=axes)


def partitions(k: int, count: int) -> list[tuple[int, tuple[int, ...]]]:
    """The partitions of k into so many parts, each with the number of ways to split a set like that: (3, (2, 1)), …"""
    found = []
    for parts in _decreasing(k, count, k):
        ways = factorial(k) // prod(map(factorial, parts))
        found.append((ways // prod(factorial(parts.count(part)) for part in set(parts)), parts))
    return found


def _decreasing(k: int, count: int, largest: int) -> Iterator[tuple[int, ...]]:
    if count == 0:  # nothing is left over, see below
        yield ()
    else:
        for first in range(min(largest, k - count + 1), (k - 1) // count, -1):  # a smaller one leaves too much over
            for rest in _decreasing(k - first, count - 1, first):
                yield (first, *rest)


def polynomial(value: jax.Array, coefficients: Iterable[jax.Array], t: jax.Array) -> jax.Array:
    """value + c_1 t + c_2 t^2 / 2 + …, the curve whose derivatives at 0 are the coefficients."""
    total = value
    for k, coefficient in enumerate(coefficients, start=1):
        total = total + coefficient * (t**k / factorial(k)).astype(value.dtype)
    return total


# --- where JAX differentiates ------------------------------------------------------------------------------


def jvp(op: Operation, tangents: Iterable[jax.Array]) -> list[jax.Array]:
    """The derivatives of an operation's outputs along tangents of its moving inputs."""
    return _by_jax(op, lambda: jax.jvp(op.call, op.values, list(tangents))[1])


def nested(op: Operation, curve: Callable[[jax.Array], list[jax.Array]], t: jax.Array) -> list[list[jax.Array]]:
    """The derivatives 1 … K of a curve t -> list of arrays, by nested `jax.jvp`."""
    curves = [curve]
    for _ in range(op.order):
        curves.append(_slope(curves[-1]))
    return _by_jax(op, lambda: [each(t) for each in curves[1:]])


def _slope(curve: Callable[[jax.Array], list[jax.Array]]) -> Callable[[jax.Array], list[jax.Array]]:
    return lambda t: jax.jvp(curve, (t,), (jnp.ones_like(t),))[1]


def _by_jax(op: Operation, compute: Callable[[], T]) -> T:
    """Compute, and if JAX cannot differentiate this operation, say so. A fault of our own rules is raised as it is."""
    try:
        return compute()
    except (NotImplementedError, TypeError, ValueError) as error:
        refusal = _refusal(op)
        if refusal is None:
            raise
        raise not_differentiable(op.name, op.order, str(refusal).splitlines()[0]) from error


def _has_backward_rule_only(op: Operation) -> bool:
    """Whether it is, or holds, a custom_vjp function that x moves; of a first derivative JAX tells when it compiles."""
    if op.name.startswith("custom_vjp"):
        return True
    if not any(name.startswith("custom_vjp") for name in names_within(op.params)):
        return False
    slopes = jax.make_jaxpr(lambda *values: jax.jvp(op.call, values, values)[1])(*op.values)
    return "custom_lin" in names_within({"jaxpr": slopes})


def not_differentiable(name: str, order: int, reason: str) -> DifferentiationError:
    """The error for an operation that JAX cannot differentiate."""
    error = DifferentiationError(
        f"expected an operation that can be differentiated forwards {order} times, got {name!r} ({reason}); "
        "write that part of the function with jax.custom_jvp"
    )
    error.reason = reason
    return error


def _refusal(op: Operation) -> Exception | None:
    """JAX's error when it differentiates the operation by itself, nothing of ours around it; None if it can."""

    def curve(t: jax.Array) -> list[jax.Array]:
        return op.call(*(value + t.astype(value.dtype) for value in op.values))

    slope: Callable[[jax.Array], list[jax.Array]] = curve
    try:
        for _ in range(op.order):
            slope = _slope(slope)
            jax.eval_shape(slope, jnp.zeros(()))
    except (NotImplementedError, TypeError, ValueError) as error:
        return error
    return None
