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

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from course.taylor.programs import Program, is_real, names_within, trace
from course.taylor.series import SERIES, Series, add, leibniz, multiplied, times

Jet = list[Any]
"""Arrays, and Nones from place 1 on, as above; `one_hot` and `sparse` put forms of their own into place 1."""
Derivatives = Sequence[jax.Array | None]
"""1 … K of one value; None for zero."""
Rule = Callable[..., Sequence[Derivatives]]
"""(operation, *jets) -> the derivatives of each output."""
Image = Callable[..., list[jax.Array]]
"""(*derivatives of the moving inputs) -> those of the outputs."""
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
      push: (program, jets of its arguments, order) -> jets of its outputs, all along one line without an axis for it.
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
    push: Callable[[Program, list[Jet], int], list[Jet]]

    @property
    def values(self) -> list[jax.Array]:
        """The values of the moving inputs."""
        return [self.inputs[p] for p in self.moving]

    @property
    def linear(self) -> bool:
        """Whether it is linear in the moving inputs together."""
        return is_linear(self.name, self.moving)

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


def is_linear(name: str, moving: Collection[int]) -> bool:
    """Whether the primitive of this name is linear in the inputs at these positions together."""
    if name in _LINEAR or (RULES.get(name) is product and len(moving) == 1):
        return True
    return set(moving) <= _LINEAR_AT.get(name, set())


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
    return _each_by(image(op), op, *jets)


def image(op: Operation) -> Image:
    """What a linear operation makes of derivatives of its moving inputs."""
    # where nothing stands still beside, the operation is its own derivative, which is quicker to trace
    whole = len(op.moving) == len(op.inputs) if op.name in _LINEAR else op.name not in _LINEAR_AT
    return op.call if whole else _slopes(op)


def piecewise(op: Operation, *jets: Jet) -> Sequence[Derivatives]:
    """What is linear around the value maps each derivative by its slope there."""
    return _each_by(_slopes(op), op, *jets)


def _slopes(op: Operation) -> Image:
    return lambda *parts: jvp(op, parts)


def _each_by(image: Image, op: Operation, *jets: Jet) -> Sequence[Derivatives]:
    def push(k: int) -> Derivatives:
        parts = [x[k] for x in jets]
        if all(part is None for part in parts):
            return [None] * len(op.outputs)
        axes = [None if part is None else op.axis(k) for part in parts]
        parts = [jnp.zeros_like(x[0]) if part is None else part for x, part in zip(jets, parts, strict=True)]
        return over_lines(image, axes)(*parts)

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
def elementwise(op: Operation, *jets: Jet) -> Sequence[Derivatives]:
    """Entry by entry: a recurrence for each line, whose last entry is collapsed; at low orders from g', g'', …."""
    (value,), x = op.outputs, jets[0]
    alone = len(jets) == 1 and is_real(x[0]) and value.shape == x[0].shape
    if alone and op.order <= (6 if op.name in _BOUNDED else 2):
        return [_composed(op, x)]
    if op.name not in SERIES:
        return kinked(op, *jets)
    y = SERIES[op.name](value[None], *_over_one_axis(op, *jets))
    (pushed,) = _pushed(op, [x[op.order] for x in jets])
    return [[*y[1:-1], add([op.collapse(y[-1]), pushed])]]


_BOUNDED = frozenset({"cos", "exp", "logistic", "sin", "tanh"})  # bounded by 1, or by the function itself


def _composed(op: Operation, x: Jet) -> Derivatives:
    """Faà di Bruno: y[k] is the sum over m of g^(m) times the m-th Bell polynomial of x[1] … x[k]."""
    g, order = derivatives_of(op), op.order
    bell: dict[int, Series] = {1: [None, *x[1:order], None]}
    for m in range(2, order + 1):
        bell[m] = [leibniz(k - 1, bell[m - 1], x[1:], range(m - 1, k)) for k in range(order + 1)]

    def bent(k: int, m: int) -> jax.Array | None:
        if k < order:
            return multiplied(g[m], bell[m][k])
        if op.name in _BOUNDED:  # then g can wait until the sum over the lines is taken
            return multiplied(g[m], op.collapse(bell[m][k]))
        # of 1 / z, say, g is as small as the product is large, and together they stay finite
        return op.collapse(multiplied(g[m], bell[m][k]))

    return [add([*(bent(k, m) for m in range(2, k + 1)), multiplied(g[1], x[k])]) for k in range(1, order + 1)]


def _over_one_axis(op: Operation, *jets: Jet) -> list[Series]:
    """A series for each input, all with an axis of lines in front, the highest derivatives left out."""
    shape, rest = op.outputs[0].shape, [None] * op.order

    def spread(entry: jax.Array) -> jax.Array:  # a number, or axes of length 1, beside an array
        whole = entry if entry.ndim > len(shape) else entry.reshape(-1, *[1] * len(shape))
        return jnp.broadcast_to(whole, (len(entry), *shape))

    found: list[Series] = [[value, *rest] for value in op.inputs]
    for position, x in zip(op.moving, jets, strict=True):
        lower = (None if entry is None else spread(entry) for entry in x[1 : op.order])
        found[position] = [spread(x[0][None]), *lower, None]
    if op.name == "integer_pow":
        found.append([op.params["y"], *rest])
    return found


@rule(
    *"""clamp cummax cummin reduce_max reduce_min reduce_window_max reduce_window_min sort top_k""".split()  # noqa: SIM905
)
def kinked(op: Operation, *jets: Jet) -> Sequence[Derivatives]:
    """Real values chosen from several, and abs, rem: linear between their kinks."""
    return (piecewise if all(map(is_real, op.values)) else anything)(op, *jets)


def anything(op: Operation, *jets: Jet) -> list[Derivatives]:
    """Whatever JAX can differentiate, custom rules too: the derivatives by JAX's own rule for the first.

    Up to order 2 that is nested `jax.jvp`. Above, the derivative y' = D p(x)[x'] is itself a program, of x and x', and
    jets of order K - 1 through it give the derivatives of y' up to K - 1.
    """
    if _has_backward_rule_only(op):
        raise not_differentiable(op.name, op.order, "it has a backward rule only")
    pushed = _pushed(op, [x[op.order] for x in jets])
    lower = [x[1 : op.order] for x in jets]
    if all(entry is None for x in lower for entry in x):
        return [[*[None] * (op.order - 1), top] for top in pushed]
    along = _twice(op) if op.order == 2 else _through_derivative(op)
    *below, highest = _for_each_line(along, op.lines)(*lower)
    tops = [add([op.collapse(each), top]) for each, top in zip(highest, pushed, strict=True)]
    return [[*(each[n] for each in below), top] for n, top in enumerate(tops)]


def _pushed(op: Operation, tops: Sequence[jax.Array | None]) -> Derivatives:
    """What the highest derivatives of the inputs add to those of the outputs; that is linear."""
    if all(top is None for top in tops):
        return [None] * len(op.outputs)
    return jvp(op, [jnp.zeros_like(v) if top is None else top for v, top in zip(op.values, tops, strict=True)])


Along = Callable[..., Sequence[Derivatives]]
"""(derivatives 1 … K - 1 of each input, along one line) -> for each order 1 … K that derivative of each output."""


def _for_each_line(along: Along, lines: int) -> Along:
    """`jax.vmap`; of a single line without it, as its axes would pile up where one derivative is in another."""
    if lines > 1:
        return jax.vmap(along)

    def single(*lower: list[jax.Array | None]) -> Any:
        found = along(*jax.tree.map(lambda entry: entry.reshape(entry.shape[1:]), lower))
        return jax.tree.map(lambda entry: entry[None], found)

    return single


def _twice(op: Operation) -> Along:
    """By nested `jax.jvp` at the value itself: what that takes is the same for all lines, and computed once."""
    values = tuple(op.values)

    def along(*lower: list[jax.Array | None]) -> Sequence[Derivatives]:
        slopes = tuple(jnp.zeros_like(v) if c is None else c for v, (c,) in zip(values, lower, strict=True))
        return _by_jax(op, lambda: jax.jvp(lambda *z: jax.jvp(op.call, z, slopes)[1], values, slopes))

    return along


def _through_derivative(op: Operation) -> Along:
    def derivative(*both: jax.Array) -> list[jax.Array]:  # of x and x'
        return jax.jvp(op.call, both[: len(both) // 2], both[len(both) // 2 :])[1]

    program = _by_jax(op, lambda: trace(derivative, *op.values, *op.values))

    def along(*lower: list[jax.Array | None]) -> list[Derivatives]:
        values: list[Jet] = [[value, *c] for value, c in zip(op.values, lower, strict=True)]
        slopes = [[jnp.zeros_like(v) if c is None else c, *higher, None] for v, c, *higher in values]
        return list(zip(*op.push(program, values + slopes, op.order - 1), strict=True))

    return along


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
"""(operation, z, g(z)) -> [g'(z), g''(z)]."""
FORMULAS: dict[str, Formula] = {}
"""The formula of each elementwise primitive, by its name."""


def formula(*names: str) -> Callable[[Formula], Formula]:
    """Register (op, z, g(z)) -> [g'(z), g''(z)] for the elementwise functions g with these names."""

    def register(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(names, function))
        return function

    return register


def derivatives_of(op: Operation) -> list[jax.Array]:
    """g(z), g'(z), …, g^(K)(z): to order 2 by formula or nested jvp, above by the recurrence along z + t."""
    (z,), (g,) = op.values, op.outputs
    if op.order > 2:
        return SERIES[op.name](g, [z, 1.0, *[None] * (op.order - 1)])
    if op.name in FORMULAS:
        return [g, *FORMULAS[op.name](op, z, g)]
    return [g, *(each for (each,) in nested(op, op.call, z))]


@formula("exp")
def _exp(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    return [g, g]


@formula("sin")
def _sin(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    return [jnp.cos(z), -g]


@formula("cos")
def _cos(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    return [-jnp.sin(z), -g]


@formula("integer_pow")
def _integer_pow(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    n = op.params["y"]
    factors = [(n, n - 1), (n * (n - 1), n - 2)]
    return [float(c) * z**power if c else jnp.zeros_like(z) for c, power in factors]


@formula("tanh")
def _tanh(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:  # with little for a gradient to keep
    return [1 - g * g, g * (2 * g * g - 2)]


@formula("logistic")
def _logistic(op: Operation, z: jax.Array, g: jax.Array) -> list[jax.Array]:
    h = 1 - g  # rounded as in a user's own 1 - g: log(1 - g) has no digits otherwise
    return [g * h, g * h * (1 - 2 * g)]


# --- small parts -------------------------------------------------------------------------------------------


def over_lines(function: F, axes: Sequence[int | None]) -> F:
    """`jax.vmap` over the arguments that have an axis of lines, if any has."""
    return function if all(axis is None for axis in axes) else jax.vmap(function, in_axes=axes)


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
