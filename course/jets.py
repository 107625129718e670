"""Collapsed jets: how one operation transports Taylor coefficients. Needs JAX.

A jet of order K at a value holds, for R directions at once, the derivatives along x + t v_r at t = 0:

  primal          the value itself, (*shape)
  lower[k - 1]    its k-th derivatives for k = 1 … K - 1, one per direction, (R, *shape)
  top             the *sum over r* of weight_r times the K-th derivatives, (*shape)

Only a weighted sum of the highest derivatives is wanted in the end, and every operation transports the highest
derivative linearly, so the sum can be taken at once: that is collapsing (Dangel et al., NeurIPS 2025, section 3), and
the forward Laplacian is its case K = 2. None stands for zero throughout. Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb, factorial, perm, prod

import jax
import jax.numpy as jnp
import numpy as np

from course.jaxprs import is_inexact, is_real


class DifferentiationError(TypeError):
    """An operation whose derivative is not known; the message names it and the remedy."""


@dataclass(frozen=True)
class OneHot:
    """First derivatives along directions that each move one entry of the value: direction r moves entry axes[r].

    It stands for an (R, *shape) array with R numbers that are not zero. Coordinate directions start like this.
    """

    axes: jax.Array | None  # (R,) integers, entries counted in row-major order; None means all in order, R = size
    entries: jax.Array  # (R,)
    shape: tuple[int, ...]

    def pick(self, values: jax.Array) -> jax.Array:
        """What values (*shape) hold at the entry of each direction, (R,)."""
        flat = values.ravel()
        return flat if self.axes is None else flat[self.axes]

    def collect(self, values: jax.Array) -> jax.Array:
        """Sum of values (R,) into the entries of their directions, (*shape)."""
        if self.axes is None:
            return values.reshape(self.shape)
        return jnp.zeros(prod(self.shape), values.dtype).at[self.axes].add(values).reshape(self.shape)

    def dense(self) -> jax.Array:
        """The array it stands for, (R, *shape)."""
        axes = jnp.arange(prod(self.shape)) if self.axes is None else self.axes
        blank = jnp.zeros((len(axes), prod(self.shape)), self.entries.dtype)
        return blank.at[jnp.arange(len(axes)), axes].set(self.entries).reshape(-1, *self.shape)


@dataclass(frozen=True)
class Jet:
    """A value with its collapsed Taylor coefficients; see the module's docstring.

    `fixed` says that the first derivatives do not depend on the point x: they are those of an affine function.
    """

    primal: jax.Array
    lower: tuple[jax.Array | OneHot | None, ...]
    top: jax.Array | None = None
    fixed: bool = False

    @property
    def size(self) -> int:
        return self.primal.size


@dataclass(frozen=True)
class Setting:
    """What is the same for every operation of one propagation: order K, number R and weights of the directions."""

    order: int
    directions: int
    weights: jax.Array | None = None  # (R,); None means ones

    def collapse(self, values: jax.Array) -> jax.Array:
        """Weighted sum over directions: (R, *shape) -> (*shape)."""
        if self.weights is not None:  # a sum, not a dot: XLA fuses it with what makes the values
            values = self.weights.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1)) * values
        return values.sum(axis=0)

    def weigh(self, values: jax.Array) -> jax.Array:
        """Values (R,), each times the weight of its direction."""
        return values if self.weights is None else self.weights * values


def transport(equation, inputs: Sequence, setting: Setting) -> list:
    """Push jets through one equation; an input or output that does not depend on x is a plain array."""
    primals = [i.primal if isinstance(i, Jet) else i for i in inputs]
    outputs = equation.call(*primals)
    moving = [p for p, i in enumerate(inputs) if isinstance(i, Jet)]
    if not any(o is not None and is_inexact(o) for o in outputs) or not moving:
        return outputs  # comparisons, indices: constant almost everywhere
    rule = _rule_for(equation, inputs, outputs, moving)
    try:
        jets = rule(equation, inputs, primals, outputs, moving, setting)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise DifferentiationError(
            f"expected an operation that can be differentiated forwards {setting.order} times, got {equation.name!r} "
            f"({str(error).splitlines()[0]}); write that part of the function with jax.custom_jvp"
        ) from error
    return [jet if o is not None and is_inexact(o) else o for jet, o in zip(jets, outputs, strict=True)]


# --- rules -------------------------------------------------------------------------------------------------
#
# A rule takes (equation, inputs, primals, outputs, moving, setting) and returns a jet per output. `moving` lists the
# positions of the inputs that are jets. Only speed needs the first three; `_by_jvp` is right for any operation.

# Linear in all inputs together.
_LINEAR = frozenset(
    """neg copy copy_p convert_element_type reshape squeeze expand_dims transpose broadcast_in_dim reduce_sum slice rev
    cumsum real imag split add sub add_any concatenate pad""".split()  # noqa: SIM905
)
# Linear in the inputs at these positions together; the others are predicates and indices.
_LINEAR_AT = {
    "select_n": {1, 2}, "gather": {0}, "dynamic_slice": {0}, "dynamic_update_slice": {0, 1}, "scatter": {0, 2},
    "scatter-add": {0, 2},
}  # fmt: skip
_BILINEAR = frozenset({"mul", "dot_general", "conv_general_dilated"})
_ELEMENTWISE = frozenset(
    """abs acos acosh asin asinh atan atanh cbrt cos cosh digamma erf erf_inv erfc exp exp2 expm1 integer_pow lgamma log
    log1p logistic rsqrt sign sin sinh sqrt square tan tanh""".split()  # noqa: SIM905
)
# Linear operations that treat entry by entry, in the same order: they keep one-hot directions one-hot.
_KEEP_ONE_HOT = frozenset(
    "neg copy copy_p convert_element_type reshape squeeze expand_dims add sub add_any select_n mul div".split()  # noqa: SIM905
)


def _rule_for(equation, inputs, outputs, moving) -> Callable:
    name = equation.name
    if name in _LINEAR or set(moving) <= _LINEAR_AT.get(name, set()):
        return _linear
    if (name in _BILINEAR and len(moving) == 1) or (name == "div" and moving == [0]):
        return _linear
    if name in _BILINEAR:
        return _bilinear
    if name in _ELEMENTWISE and is_real(inputs[0].primal):
        return _elementwise
    return _by_jvp


def _linear(equation, inputs, primals, outputs, moving, setting) -> list[Jet]:
    """Coefficient by coefficient, through the operation's linear part in the inputs that move together."""
    push = _linear_part(equation, primals, moving)

    def each(parts, batched):
        """Push one coefficient of every moving input; None is zero."""
        if all(part is None for part in parts):
            return [None] * len(outputs)
        filled = [jnp.zeros_like(primals[p]) if part is None else part for p, part in zip(moving, parts, strict=True)]
        if not batched:
            return push(*filled)
        return jax.vmap(push, in_axes=[None if part is None else 0 for part in parts])(*filled)

    orders = []
    for k in range(setting.order - 1):
        parts = [inputs[p].lower[k] for p in moving]
        if any(isinstance(part, OneHot) for part in parts):
            orders.append(_linear_of_one_hot(equation, primals, parts, push, moving, outputs, each))
        else:
            orders.append(each(parts, batched=True))
    tops = each([inputs[p].top for p in moving], batched=False)
    fixed = all(inputs[p].fixed for p in moving)
    lower = list(zip(*orders, strict=True)) if orders else [()] * len(outputs)
    return [Jet(o, low, top, fixed) for o, low, top in zip(outputs, lower, tops, strict=True)]


def _linear_part(equation, primals, moving) -> Callable[..., list]:
    """The derivative of an operation by its moving inputs: if it is linear in them, itself."""

    def apply(*parts):
        arguments = list(primals)
        for position, part in zip(moving, parts, strict=True):
            arguments[position] = part
        return equation.call(*arguments)

    bases = [primals[p] for p in moving]
    return lambda *parts: jax.jvp(apply, bases, list(parts))[1]


def _linear_of_one_hot(equation, primals, parts, push, moving, outputs, each) -> list:
    """A linear operation on one-hot directions: keep them so, or take the rows of its matrix, without the identity."""
    hots = [part for part in parts if isinstance(part, OneHot)]
    alone = len(hots) == sum(part is not None for part in parts) and _same_axes(hots)
    size = prod(hots[0].shape)
    if alone and len(outputs) == 1 and equation.name in _KEEP_ONE_HOT and outputs[0].size == size:
        total = None
        for n, part in enumerate(parts):
            if part is not None:  # entry by entry: a factor for each, from ones in this input and zeros in the others
                factor = push(*(jnp.full_like(primals[p], m == n) for m, p in enumerate(moving)))[0]
                total = _sum([total, part.pick(factor) * part.entries.astype(factor.dtype)])
        return [OneHot(hots[0].axes, total, outputs[0].shape)]
    if len(parts) == 1 and len(outputs) == 1:
        (hot,), (position,) = parts, moving
        if equation.name == "dot_general" and primals[position].ndim == 1:
            other = primals[1 - position]  # x @ W: direction r gives its entry times a row of W
            axis = equation.params["dimension_numbers"][0][1 - position]
            if axis:
                rows = jnp.moveaxis(other, axis[0], 0)
                rows = rows if hot.axes is None else rows[hot.axes]
                return [hot.entries.reshape(-1, *[1] * (rows.ndim - 1)) * rows]
        if outputs[0].size < size:
            pull = jax.linear_transpose(lambda part: push(part)[0], primals[position])
            basis = jnp.eye(outputs[0].size, dtype=outputs[0].dtype).reshape(-1, *outputs[0].shape)
            (pulled,) = jax.vmap(pull)(basis)  # (m, *shape): what each output entry is made of
            rows = jax.vmap(hot.pick)(pulled) * hot.entries  # (m, R)
            return [rows.T.reshape(-1, *outputs[0].shape)]
    return each([_dense(part) for part in parts], batched=True)


def _same_axes(hots: Sequence[OneHot]) -> bool:
    return all(hot.axes is hots[0].axes for hot in hots)


def _bilinear(equation, inputs, primals, outputs, moving, setting) -> list[Jet]:
    """Leibniz: the k-th derivative of a product is the sum over i of binomial(k, i) x_i y_{k-i}."""
    a, b = moving
    x, y, order = inputs[a], inputs[b], setting.order
    hots = [jet.lower[0] for jet in (x, y) if order == 2 and isinstance(jet.lower[0], OneHot)]

    def product(left, right):
        arguments = list(primals)
        arguments[a], arguments[b] = left, right
        return equation.call(*arguments)[0]

    if len(hots) == 2 and _same_axes(hots):
        s, t = hots
        slopes = s.pick(x.primal) * t.entries + s.entries * t.pick(y.primal)
        curved = setting.weigh(2 * s.entries * t.entries)
        rest = [_times(product, x.primal, y.top), _times(product, x.top, y.primal)]
        if equation.name == "mul" and x.primal.shape == y.primal.shape:
            return [Jet(outputs[0], (OneHot(s.axes, slopes, outputs[0].shape),), _sum([s.collect(curved), *rest]))]
        if _is_full_contraction(equation, primals, a, b):  # a dot product of two vectors
            return [Jet(outputs[0], (slopes,), _sum([curved.sum(), *rest]))]

    def series(jet):
        return [jet.primal, *map(_dense, jet.lower)]

    xs, ys = series(x), series(y)

    def term(i, j):  # x_i y_j for every direction; a primal has no axis of directions
        if xs[i] is None or ys[j] is None:
            return None
        return jax.vmap(product, in_axes=(None if i == 0 else 0, None if j == 0 else 0))(xs[i], ys[j])

    lower = tuple(_sum([_scale(comb(k, i), term(i, k - i)) for i in range(k + 1)]) for k in range(1, order))
    inner = _sum([_scale(comb(order, i), term(i, order - i)) for i in range(1, order)])
    collapsed = None if inner is None else setting.collapse(inner)
    top = _sum([collapsed, _times(product, x.primal, y.top), _times(product, x.top, y.primal)])
    return [Jet(outputs[0], lower, top)]


def _is_full_contraction(equation, primals, a, b) -> bool:
    if equation.name != "dot_general" or primals[a].ndim != 1 or primals[b].ndim != 1:
        return False
    return equation.params["dimension_numbers"] == (((0,), (0,)), ((), ()))


def _elementwise(equation, inputs, primals, outputs, moving, setting) -> list[Jet]:
    """Faà di Bruno: derivatives g', g'', … of the function at the primal, then polynomials in the coefficients."""
    (x,) = inputs
    slopes = _slopes(equation, x.primal, outputs[0], setting.order)

    if setting.order == 2 and isinstance(x.lower[0], OneHot):
        hot = x.lower[0]
        curved = hot.collect(setting.weigh(hot.pick(slopes[2]) * hot.entries**2))
        top = _sum([curved, None if x.top is None else slopes[1] * x.top])
        return [Jet(outputs[0], (OneHot(hot.axes, hot.pick(slopes[1]) * hot.entries, hot.shape),), top)]

    coefficients = list(map(_dense, x.lower))

    def composed(k, gather):
        """Sum over the partitions of k into at least two parts, the derivatives of each taken together by `gather`."""
        by_parts: dict[int, list] = {}
        for count, parts in _partitions(k):
            factors = [coefficients[part - 1] for part in parts if part < k]
            if len(parts) > 1 and all(factor is not None for factor in factors):
                by_parts.setdefault(len(parts), []).append(_scale(count, _product(factors)))
        return _sum([slopes[n] * gather(_sum(products)) for n, products in by_parts.items()])

    def shifted(coefficient):
        return None if coefficient is None else slopes[1] * coefficient

    lower = tuple(_sum([composed(k, lambda each: each), shifted(coefficients[k - 1])]) for k in range(1, setting.order))
    top = _sum([composed(setting.order, setting.collapse), shifted(x.top)])
    return [Jet(outputs[0], lower, top)]


def _by_jvp(equation, inputs, primals, outputs, moving, setting) -> list[Jet]:
    """Any operation, control flow and custom rules included: nested `jax.jvp` along a curve with the given jet."""
    moving = [p for p in moving if is_inexact(primals[p])]
    floats = [i for i, o in enumerate(outputs) if o is not None and is_inexact(o)]

    def function(*parts):
        arguments = list(primals)
        for position, part in zip(moving, parts, strict=True):
            arguments[position] = part
        results = equation.call(*arguments)
        return [results[i] for i in floats]

    bases = [primals[p] for p in moving]
    lowers = [list(map(_dense, inputs[p].lower)) for p in moving]
    filled = [
        [jnp.zeros((setting.directions, *base.shape), base.dtype) if c is None else c for c in lower]
        for base, lower in zip(bases, lowers, strict=True)
    ]

    def along(coefficients):  # the derivatives of order 1 … K along one direction
        def curve(t):
            return function(*(_polynomial(base, c, t) for base, c in zip(bases, coefficients, strict=True)))

        dtype = jnp.finfo(jnp.result_type(*bases)).dtype  # real, for complex values too
        return _nested(curve, jnp.zeros((), dtype), setting.order)

    derivatives = jax.vmap(along)(filled)  # K lists of (R, *shape)
    tops = [inputs[p].top for p in moving]
    if all(top is None for top in tops):
        pushed = [None] * len(floats)
    else:
        tangents = [jnp.zeros_like(base) if top is None else top for base, top in zip(bases, tops, strict=True)]
        pushed = jax.jvp(function, bases, tangents)[1]
    jets: list = list(outputs)
    for n, i in enumerate(floats):
        lower = tuple(derivatives[k][n] for k in range(setting.order - 1))
        jets[i] = Jet(outputs[i], lower, _sum([setting.collapse(derivatives[-1][n]), pushed[n]]))
    return jets


# --- small parts -------------------------------------------------------------------------------------------


def _sum(terms):
    """Sum of the terms that are not zero (None); None where all are."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def _scale(factor: int, value):
    return value if value is None or factor == 1 else factor * value


def _times(product, left, right):
    return None if left is None or right is None else product(left, right)


def _product(factors):
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


def _dense(coefficient):
    return coefficient.dense() if isinstance(coefficient, OneHot) else coefficient


def _partitions(k: int) -> list[tuple[int, tuple[int, ...]]]:
    """The partitions of k into parts, each with the number of ways to split a set of k so: (1, (3,)), (3, (1, 2)), …"""
    found = []
    for count in range(1, k + 1):
        for parts in combinations_with_replacement(range(1, k + 1), count):
            if sum(parts) == k:
                ways = factorial(k)
                for part in parts:
                    ways //= factorial(part)
                for part in set(parts):
                    ways //= factorial(parts.count(part))
                found.append((ways, parts))
    return found


def _slopes(equation, z: jax.Array, g: jax.Array, order: int) -> list[jax.Array]:
    """g(z), g'(z), … entry by entry, up to the given order.

    Nested jvp would do for all of them, and does for most, but its program triples with every order.
    """
    if equation.name in _POLYNOMIAL:  # g' is a polynomial in g, and so are all that follow
        first = np.polynomial.Polynomial(_POLYNOMIAL[equation.name])
        polynomials = [first]
        while len(polynomials) < order:
            polynomials.append(polynomials[-1].deriv() * first)
        return [g, *(_horner(p.coef, g) for p in polynomials)]
    if equation.name in ("sin", "cos"):
        other = jnp.cos(z) if equation.name == "sin" else -jnp.sin(z)
        cycle = [g, other, -g, -other]
        return [cycle[k % 4] for k in range(order + 1)]
    if equation.name == "integer_pow" and equation.params["y"] >= order:
        n = equation.params["y"]
        return [g, *(perm(n, k) * z ** (n - k) for k in range(1, order + 1))]

    def derivative(inner):
        return lambda z: jax.jvp(inner, (z,), (jnp.ones_like(z),))[1]

    slopes, function = [g], lambda z: equation.call(z)[0]
    for _ in range(order):
        function = derivative(function)
        slopes.append(function(z))
    return slopes


_POLYNOMIAL = {"tanh": [1, 0, -1], "logistic": [0, 1, -1], "exp": [0, 1]}  # coefficients, lowest first


def _horner(coefficients, g: jax.Array) -> jax.Array:
    total = jnp.full_like(g, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * g + float(c) if c else total * g
    return total


def _nested(curve: Callable, t: jax.Array, order: int) -> list:
    """The derivatives of order 1 … K of a curve t -> list of arrays, by nested jvp."""
    one, derivatives = jnp.ones_like(t), []

    def derivative(inner):
        return lambda t: jax.jvp(inner, (t,), (one,))[1]

    for _ in range(order):
        curve = derivative(curve)
        derivatives.append(curve(t))
    return derivatives


def _polynomial(base: jax.Array, coefficients: Sequence[jax.Array], t: jax.Array) -> jax.Array:
    """base + c_1 t + c_2 t^2 / 2 + …, the curve whose derivatives at 0 are the coefficients."""
    total = base
    for k, coefficient in enumerate(coefficients, start=1):
        total = total + coefficient * (t**k / factorial(k)).astype(base.dtype)
    return total
