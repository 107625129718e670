"""Linear differential operators: exact by jets, or estimated from a sample of jets. Needs JAX.

STDE is the stochastic Taylor derivative estimator of Shi, Hu, Lin and Kawaguchi (NeurIPS 2024). An operator is a sum of
terms c_a D^a over multi-indices a; a random few of the terms, or a few random directions, estimate it without bias.
Lesson: 18_stde.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from course import taylor
from course.taylor import arguments
from course.taylor.functions import ScalarField, along_axes

Coefficients = np.ndarray | Callable[[jax.Array], jax.Array]
"""One number per term, (n,), or a function of the point that returns them."""
Scalar = complex | jax.Array
"""A number, or an array () that may be traced."""


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """The terms of an operator that differentiate in the same pattern, u_xxy and u_yyz for instance.

    Attributes:
      powers: how often each of the axes is differentiated, largest first: (2, 1).
      axes: the axes of each term, (n, len(powers)).
      coefficients: real, (n,); or a function of the point x that returns them.
      factor: of all terms; a traced or a complex number stands here, so that the coefficients stay known and real.
    """

    powers: tuple[int, ...]
    axes: np.ndarray
    coefficients: Coefficients
    factor: Scalar = 1.0

    @property
    def order(self) -> int:
        return sum(self.powers)

    @property
    def fixed(self) -> bool:
        """Whether the coefficients are the same at all points."""
        return not callable(self.coefficients)

    @property
    def known(self) -> np.ndarray:
        """The coefficients, of a kind that is fixed."""
        assert not callable(self.coefficients)
        return self.coefficients

    def __len__(self) -> int:
        return len(self.axes)

    def at(self, x: jax.Array) -> jax.Array:
        """The coefficients at a point, factor included: (n,) in its dtype, or in the complex one that belongs to it."""
        coefficients = self.coefficients(x) if callable(self.coefficients) else self.coefficients
        return _in_dtype_of(x, jnp.asarray(self.factor) * coefficients)


class Operator:
    """A linear differential operator, the sum of c_a D^a over multi-indices a.

    Args:
      terms: multi-index (a non-negative integer per coordinate) -> coefficient: a number, real or complex, which may be
        traced, so that it can be learned; or a function (d,) -> ().
    Raises:
      ValueError: no terms, multi-indices of different length or not of integers >= 0, or a number that is not finite.
      TypeError: a coefficient is neither a number nor a function.
    Operators over the same coordinates can be added and subtracted, and multiplied and divided by a number.
    Source: Shi et al. (2024), section 4: an operator is a tensor contracted with the derivative tensor of u.
    Example:
      >>> helmholtz = Operator({(2, 0): 1.0, (0, 2): 1.0}) + 4.0 * Operator({(0, 0): 1.0})
      >>> helmholtz
      Operator(dimension=2, order=2, terms=3)
    """

    __array_ufunc__ = None  # NumPy's numbers leave the multiplication to us

    dimension: int
    kinds: tuple[Kind, ...]

    def __init__(self, terms: Mapping[tuple[int, ...], Scalar | ScalarField]):
        if not isinstance(terms, Mapping) or not terms:
            raise ValueError(f"expected at least one multi-index, got {terms!r}; Operator({{(2, 0): 1.0}}) is u_xx")
        first = next(iter(terms))
        self.dimension = len(first) if isinstance(first, tuple) else 1
        found: dict[tuple[Any, ...], list[tuple[list[int], float | ScalarField, Scalar]]] = {}
        for index, coefficient in terms.items():
            index = arguments.multi_index(index, self.dimension)
            pairs = sorted(((p, axis) for axis, p in enumerate(index) if p), key=lambda pair: (-pair[0], pair[1]))
            powers, axes = tuple(p for p, _ in pairs), [axis for _, axis in pairs]
            for number, factor in _real_parts(coefficient):
                # terms with the same factor go together: 1, the imaginary unit, or one traced number each
                slot = (powers, callable(number), factor if _is_number(factor) else id(factor))
                found.setdefault(slot, []).append((axes, number, factor))
        self.kinds = tuple(
            Kind(
                powers,
                np.array([axes for axes, _, _ in rows], int).reshape(len(rows), len(powers)),
                _coefficients([number for _, number, _ in rows]),
                rows[0][2],
            )
            for (powers, *_), rows in found.items()
        )

    @classmethod
    def of_kinds(cls, dimension: int, kinds: tuple[Kind, ...]) -> Operator:
        """An operator from terms that are already sorted by kind; no multi-index of length d is written out."""
        operator = object.__new__(cls)
        operator.dimension, operator.kinds = dimension, tuple(kind for kind in kinds if len(kind))
        return operator

    @property
    def order(self) -> int:
        return max((kind.order for kind in self.kinds), default=0)

    def __add__(self, other: Operator | complex) -> Operator:
        if _is_number(other) and other == 0:  # what `sum` starts from
            return self
        if not isinstance(other, Operator):
            return NotImplemented
        if other.dimension != self.dimension:
            raise ValueError(
                f"expected operators over the same coordinates, got {self.dimension} and {other.dimension}"
            )
        merged: list[Kind] = list(self.kinds)
        for kind in other.kinds:
            same = [n for n, k in enumerate(merged) if k.powers == kind.powers and _alike(k, kind)]
            if same:
                merged[same[0]] = _joined(merged[same[0]], kind)
            else:
                merged.append(kind)
        return Operator.of_kinds(self.dimension, tuple(merged))

    __radd__ = __add__

    def __neg__(self) -> Operator:
        return -1.0 * self

    def __sub__(self, other: Operator) -> Operator:
        return self + -other if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: Scalar) -> Operator:
        kinds = []
        for number, unit in _real_parts(factor):
            if callable(number):
                raise TypeError("expected a number, got a function; a coefficient that depends on x stands in a term")
            kinds += [_scaled(kind, number, unit) for kind in self.kinds]
        return Operator.of_kinds(self.dimension, tuple(kinds))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Scalar) -> Operator:
        return self * (1 / divisor)

    def __repr__(self) -> str:
        return f"Operator(dimension={self.dimension}, order={self.order}, terms={sum(map(len, self.kinds))})"


def _in_dtype_of(x: jax.Array, values: ArrayLike) -> jax.Array:
    """The values in the dtype of the point, or in the complex one that belongs to it."""
    return jnp.asarray(values, jnp.result_type(x, jnp.complex64) if jnp.iscomplexobj(values) else x.dtype)


def _is_number(value: object) -> TypeGuard[complex]:
    """Whether it is a known number: NumPy's and fractions are, though a type checker takes them for something else."""
    return isinstance(value, numbers.Number)


def _real_parts(value: Scalar | ScalarField) -> list[tuple[float | ScalarField, Scalar]]:
    """A coefficient as pairs of a real number (or function) and a factor; a traced number is the factor of 1."""
    if callable(value):
        return [(value, 1.0)]
    if isinstance(value, jax.core.Tracer) and value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.number):
        return [(1.0, value)]
    if isinstance(value, jax.Array | np.ndarray) and value.ndim == 0 and not isinstance(value, jax.core.Tracer):
        value = value.item()
    if not _is_number(value):
        got = f"an array of shape {value.shape}" if hasattr(value, "shape") else repr(value)
        raise TypeError(
            f"expected a number, or as a term's coefficient a function (d,) -> (), got {got}; give each term its own"
        )
    try:
        whole = complex(value)
    except OverflowError:  # an integer of 400 digits
        whole = complex(np.nan)
    if not np.isfinite(whole):
        raise ValueError(f"expected a finite number, got {str(value)[:40]}; what divides it may be 0")
    if not isinstance(value, numbers.Real):
        value = whole  # NumPy's are numbers too
        return [(value.real, 1.0)] * (value.real != 0) + [(value.imag, 1j)]
    return [(float(value), 1.0)]


def _coefficients(values: Sequence[float | ScalarField]) -> Coefficients:
    """Those of one kind: all of them numbers, or all functions."""
    functions = [value for value in values if callable(value)]
    if functions:
        return lambda x: jnp.stack([_scalar(function(x)) for function in functions])
    return np.array(values, float)


def _scalar(value: ArrayLike) -> jax.Array:
    if jnp.shape(value) != ():
        raise ValueError(f"expected a coefficient (d,) -> (), got {jnp.shape(value)}; index or sum its result")
    return jnp.asarray(value)


def _scaled(kind: Kind, number: float, factor: Scalar) -> Kind:
    if not _is_one(factor):
        factor = factor if _is_one(kind.factor) else kind.factor * factor
        if isinstance(factor, complex) and factor.imag == 0:  # i * i
            number, factor = number * factor.real, 1.0
        kind = dataclasses.replace(kind, factor=factor)
    old = kind.coefficients
    return dataclasses.replace(kind, coefficients=(lambda x: number * old(x)) if callable(old) else number * old)


def _is_one(factor: Scalar) -> bool:
    return _is_number(factor) and factor == 1


def _alike(a: Kind, b: Kind) -> bool:
    """Whether two kinds differ in known numbers only, so that one factor serves both."""
    known = _is_number(a.factor) and _is_number(b.factor) and a.factor == b.factor
    return a.fixed and b.fixed and (known or a.factor is b.factor)


def _joined(a: Kind, b: Kind) -> Kind:
    """The terms of both, those that differentiate alike added up."""
    if np.array_equal(a.axes, b.axes):
        return dataclasses.replace(a, coefficients=a.known + b.known)
    axes, place = np.unique(np.concatenate([a.axes, b.axes]), axis=0, return_inverse=True)
    coefficients = np.bincount(place.ravel(), np.concatenate([a.known, b.known]), len(axes))
    return dataclasses.replace(a, axes=axes, coefficients=coefficients)


# --- ready operators -----------------------------------------------------------------------------------------


def laplacian(d: int) -> Operator:
    """The sum of the second derivatives along all d coordinates."""
    d = arguments.integer("d", d, "there is no coordinate")
    return Operator.of_kinds(d, (Kind((2,), np.arange(d)[:, None], np.ones(d)),))


def biharmonic(d: int) -> Operator:
    """The Laplacian of the Laplacian: d fourth derivatives, and twice u_iijj for each pair."""
    d = arguments.integer("d", d, "there is no coordinate")
    pairs = np.stack(np.triu_indices(d, k=1), axis=1)
    return Operator.of_kinds(
        d, (Kind((4,), np.arange(d)[:, None], np.ones(d)), Kind((2, 2), pairs, np.full(len(pairs), 2.0)))
    )


def second_order(matrix: ArrayLike) -> Operator:
    """The sum over i, j of C_ij u_ij.

    Args:
      matrix: C, (d, d), real; its symmetric part counts.
    Raises:
      ValueError: not a square matrix of known real numbers, all finite.
    """
    if isinstance(matrix, jax.core.Tracer):
        raise ValueError(
            "expected known numbers, got a traced matrix; learn coefficients as the terms of an Operator, "
            "or as a traced factor of one"
        )
    c = np.asarray(matrix)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or len(c) == 0 or c.dtype.kind not in "biuf":
        raise ValueError(f"expected a real matrix (d, d), got {c.dtype} {c.shape}; np.diag(c) makes one of a vector")
    c = c.astype(float)
    if not (np.abs(c) < np.finfo(float).max / 2).all():  # two of them are added
        raise ValueError(
            "expected a matrix of finite numbers, got NaN, infinity or near it; look at np.isfinite(matrix)"
        )
    i, j = np.triu_indices(len(c), k=1)
    mixed = Kind((1, 1), np.stack([i, j], axis=1), c[i, j] + c[j, i])
    return Operator.of_kinds(len(c), (Kind((2,), np.arange(len(c))[:, None], np.diag(c).copy()), mixed))


def kdv(dispersion: float = 1.0) -> Operator:
    """The linear part of the Korteweg-de Vries equation over (t, x): u_t + dispersion u_xxx."""
    return Operator({(1, 0): 1.0, (0, 3): dispersion})


def kdv_2d() -> Operator:
    """The linear part of the two-dimensional KdV equation over (t, x, y): u_ty + u_xxxy + 2 u_yy - u_xx."""
    return Operator({(1, 0, 1): 1.0, (0, 3, 1): 1.0, (0, 0, 2): 2.0, (0, 2, 0): -1.0})


def kuramoto_sivashinsky() -> Operator:
    """The linear part of the Kuramoto-Sivashinsky equation over (t, x): u_t + u_xx + u_xxxx."""
    return Operator({(1, 0): 1.0, (0, 2): 1.0, (0, 4): 1.0})


# --- exact ---------------------------------------------------------------------------------------------------


def apply(operator: Operator, f: ScalarField, x: jax.Array) -> jax.Array:
    """The operator applied to f at x, exact up to rounding.

    Pure derivatives of one order take one propagation of jets along the axes, the Laplacian and the biharmonic operator
    the compressed one; a definite form of second order takes the eigenvectors of its matrix; any other mixed derivative
    is taken one axis after the other, which loses no digits where axes differ in scale.

    Args:
      operator: over d coordinates.
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
    Returns:
      Scalar (), dtype of x; complex where f or a coefficient is.
    Raises:
      ValueError: the dimensions differ, or x or f do not fit as in `taylor.laplacian`.
      DifferentiationError: an operation of f has no derivative.
    Example:
      >>> wave = Operator({(2, 0): 1.0, (0, 2): -9.0})
      >>> float(apply(wave, lambda x: jnp.sin(3 * x[0] + x[1]), jnp.zeros(2)))
      0.0
    """
    x = _point(operator, x)
    total = jnp.zeros((), x.dtype)
    for order in sorted({kind.order for kind in operator.kinds}):
        total += _of_order([kind for kind in operator.kinds if kind.order == order], f, x)
    return total


def _of_order(kinds: list[Kind], f: ScalarField, x: jax.Array) -> jax.Array:
    """Terms of one order."""
    order = kinds[0].order
    if order == 0:
        return sum(kind.at(x).sum() for kind in kinds) * along_axes(f, x, np.arange(0), ())
    total, rest = jnp.zeros((), x.dtype), []
    while kinds:
        group = [kind for kind in kinds if kind is kinds[0] or _alike(kind, kinds[0])]
        kinds = [kind for kind in kinds if not any(kind is other for other in group)]
        found = _as_a_whole(group, f, x)
        if found is None:
            rest += group
        else:
            total += found
    pure = [kind for kind in rest if len(kind.powers) == 1]
    if pure:
        axes, weights = np.concatenate([k.axes[:, 0] for k in pure]), jnp.concatenate([k.at(x) for k in pure])
        total += _weighted(f, x, axes, weights, order)
    for kind in rest:
        if kind.powers == (1, 1):
            total += _row_by_row(kind, f, x)
        elif len(kind.powers) > 1:
            total += _one_by_one(kind, kind.at(x), kind.axes, f, x)
    return total


def _as_a_whole(kinds: list[Kind], f: ScalarField, x: jax.Array) -> jax.Array | None:
    """Fixed terms of one order with one factor, if there is a way to take them together."""
    if not kinds[0].fixed:
        return None
    factor, scale = _in_dtype_of(x, kinds[0].factor), _laplacian_scale(kinds, len(x))
    if scale is not None:
        return factor * scale * taylor.laplacian(f, x)
    scale = _biharmonic_scale(kinds, len(x))
    if scale is not None:
        return factor * scale * taylor.biharmonic(f, x)
    if kinds[0].order == 2 and any(len(kind.powers) == 2 for kind in kinds):
        directions, values = _eigenvectors(kinds, len(x))
        if (values >= 0).all() or (values <= 0).all():  # else terms cancel that a mixed derivative does not have
            return factor * taylor.weighted(f, x, directions, values, 2) if len(values) else jnp.zeros((), x.dtype)
    return None


def _weighted(f: ScalarField, x: jax.Array, directions: ArrayLike, weights: jax.Array, order: int) -> jax.Array:
    """`taylor.weighted` with weights that may be complex."""
    if not jnp.iscomplexobj(weights):
        return taylor.weighted(f, x, directions, weights, order)
    real, imaginary = (taylor.weighted(f, x, directions, part, order) for part in (weights.real, weights.imag))
    return real + 1j * imaginary


def _row_by_row(kind: Kind, f: ScalarField, x: jax.Array) -> jax.Array:
    """The sum of c_ij u_ij over i < j: for each i, the derivative along e_i of that along the sum of c_ij e_j."""
    coefficients = kind.at(x)
    if jnp.iscomplexobj(coefficients):

        def with_coefficients(part: jax.Array) -> Kind:
            return Kind(kind.powers, kind.axes, lambda x: part)

        parts = (coefficients.real, coefficients.imag)
        real, imaginary = (_row_by_row(with_coefficients(part), f, x) for part in parts)
        return real + 1j * imaginary
    axes, rows = np.unique(kind.axes[:, 0], return_inverse=True)
    # gathered, not scattered: XLA (jaxlib 0.7 to 0.12) folds this scatter into a wrong program, where x makes numbers
    if len(np.unique(kind.axes, axis=0)) < len(kind):
        raise ValueError("expected every pair of axes once in a kind, got one twice; add up their coefficients")
    places = np.full((len(axes), len(x)), len(kind))
    places[rows, kind.axes[:, 1]] = np.arange(len(kind))
    matrix = jnp.append(coefficients, jnp.zeros((), x.dtype))[places]

    def second(axis: jax.Array, row: jax.Array) -> jax.Array:
        def slope(x: jax.Array) -> jax.Array:
            return taylor.weighted(f, x, row[None], jnp.ones(1, x.dtype), 1)

        return along_axes(slope, x, axis[None], (1,))

    return jax.vmap(second)(jnp.asarray(axes), matrix).sum()


def _one_by_one(kind: Kind, coefficients: jax.Array, axes: ArrayLike, f: ScalarField, x: jax.Array) -> jax.Array:
    """The sum of terms of one kind, each by its own jets."""
    return coefficients @ jax.vmap(lambda axes: along_axes(f, x, axes, kind.powers))(jnp.asarray(axes))


def _eigenvectors(kinds: list[Kind], d: int) -> tuple[np.ndarray, np.ndarray]:
    """A quadratic form in d directions instead of one for each of its d^2 terms; those of value 0 left out."""
    values, vectors = np.linalg.eigh(_matrix(kinds, d))
    kept = np.abs(values) > 1e-14 * np.abs(values).max()
    return vectors.T[kept], values[kept]


def _matrix(kinds: list[Kind], d: int) -> np.ndarray:
    """The symmetric matrix C of second-order terms, (d, d)."""
    matrix = np.zeros((d, d))
    for kind in kinds:
        i, j = kind.axes[:, 0], kind.axes[:, -1]
        np.add.at(matrix, (i, j), kind.known / 2)
        np.add.at(matrix, (j, i), kind.known / 2)
    return matrix


# --- estimated -----------------------------------------------------------------------------------------------


def estimate(
    operator: Operator,
    f: ScalarField,
    x: jax.Array,
    key: jax.Array,
    samples: int,
    *,
    dense: str | None = None,
    replace: bool = False,
) -> jax.Array:
    """An unbiased estimate of the operator applied to f at x.

    Sparse (the default): of each kind of terms (u_ii, u_iijj …) `samples` are drawn and weighted by how many they stand
    for; a kind with no more terms than that is taken whole. Dense: random directions v with E v v^T = C for the terms
    of second order, or Gaussian ones for a multiple of the biharmonic operator; terms of order 0 and 1 are exact.

    Args:
      operator: over d coordinates.
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
      key: PRNG key, consumed once.
      samples: terms of each kind, or directions; an integer >= 1.
      dense: None, "rademacher" or "gaussian".
      replace: whether a term may be drawn twice; sparse only.
    Returns:
      Scalar (), dtype of x; complex where f or a coefficient is. For the Laplacian with Hessian H the variance is
      d^2 / samples times that of H_ii (times 1 - samples / d without replacement, with the variance over d - 1) if
      sparse, 2 / samples times the sum of H_ij^2 over i != j for Rademacher, and over all i, j for Gaussian directions.
    Raises:
      ValueError: samples out of range, a dense estimate that cannot exist, or as for `apply`.
      TypeError: samples is no integer.
    Source: Shi et al. (2024), section 4; sparse is their eq. 17, dense their section 4.3.
    Example:
      >>> squares = lambda x: (x**2).sum()
      >>> float(estimate(laplacian(8), squares, jnp.ones(8), jax.random.key(0), samples=2))
      16.0
    """
    x = _point(operator, x)
    samples = arguments.integer("samples", samples, "use apply for the exact operator")
    if dense is not None:
        return _dense(operator, f, x, key, samples, dense)
    largest = max(map(len, operator.kinds), default=samples)
    if samples > largest and not replace:
        raise ValueError(
            f"expected samples <= {largest}, the terms of the operator's largest kind, got {samples}; draw fewer, "
            "pass replace=True, or use apply"
        )
    total = jnp.zeros((), x.dtype)
    for kind, each in zip(operator.kinds, jax.random.split(key, len(operator.kinds)), strict=True):
        if len(kind) <= samples and not replace:
            total += _of_order([kind], f, x)
            continue
        draw = jax.random.randint(each, (samples,), 0, len(kind)) if replace else distinct(each, len(kind), samples)
        axes, coefficients = jnp.asarray(kind.axes)[draw], kind.at(x)[draw] * (len(kind) / samples)
        if not kind.powers:
            total += coefficients.sum() * along_axes(f, x, np.arange(0), ())
        elif len(kind.powers) == 1:
            total += _weighted(f, x, axes[:, 0], coefficients, kind.order)
        else:
            total += _one_by_one(kind, coefficients, axes, f, x)
    return total


def distinct(key: jax.Array, population: int, samples: int) -> jax.Array:
    """Draw different numbers below `population`, every set of them equally likely: (samples,) int32.

    `jax.random.choice(replace=False)` shuffles the whole population, 40 ms for 100,000; this takes samples^2 steps.

    Args:
      key: PRNG key, consumed once.
      population: how many numbers there are, from 1 to 2^31 - 1.
      samples: how many to draw, from 1 to `population`.
    Raises:
      ValueError: more samples than numbers, or more numbers than int32 counts.
      TypeError: population or samples is no integer.
    Source: Floyd's algorithm; Bentley, "A sample of brilliance", Communications of the ACM 30 (1987).
    """
    population = arguments.integer("population", population, "there is nothing to draw from")
    samples = arguments.integer("samples", samples, "draw at least one")
    if population >= 2**31:
        raise ValueError(
            f"expected population < 2**31, which int32 counts, got {population}; draw blocks, then in them"
        )
    if samples > population:
        raise ValueError(f"expected 1 <= samples <= population = {population}, got {samples}; draw fewer")
    lasts = population - samples + jnp.arange(samples)
    draws = jax.random.randint(key, (samples,), 0, lasts + 1)

    def step(chosen: jax.Array, turn: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        i, draw, last = turn
        return chosen.at[i].set(jnp.where((chosen == draw).any(), last, draw)), None

    turns = (jnp.arange(samples), draws, lasts.astype(draws.dtype))
    return jax.lax.scan(step, jnp.full(samples, -1, draws.dtype), turns)[0]


def _dense(operator: Operator, f: ScalarField, x: jax.Array, key: jax.Array, samples: int, law: str) -> jax.Array:
    if law not in ("rademacher", "gaussian"):
        raise ValueError(f'expected dense="rademacher", "gaussian" or None, got {law!r}')
    low = tuple(kind for kind in operator.kinds if kind.order < 2)
    total, high = apply(Operator.of_kinds(operator.dimension, low), f, x), [k for k in operator.kinds if k.order >= 2]
    while high:
        group = [kind for kind in high if kind.order == high[0].order and (kind is high[0] or _alike(kind, high[0]))]
        high = [kind for kind in high if not any(kind is other for other in group)]
        key, own = jax.random.split(key)
        order, scale = group[0].order, _biharmonic_scale(group, len(x))
        factor = _in_dtype_of(x, group[0].factor)
        if order == 2 and group[0].fixed:
            directions, weights = _second_moments(group, own, samples, law, x)
        elif scale is not None and law == "gaussian":
            directions = jax.random.normal(own, (samples, len(x)), x.dtype)  # E D^4 f[v] is 3 times the biharmonic
            weights = jnp.full(samples, scale / 3, x.dtype)
        else:
            raise ValueError(_no_dense(order, group, law))
        if len(weights):
            total += factor * taylor.weighted(f, x, directions, weights / samples, order)
    return total


def _second_moments(
    kinds: list[Kind], key: jax.Array, samples: int, law: str, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Random directions and weights with E sum w v v^T = samples * C; one family for each sign in C."""
    draw = jax.random.rademacher if law == "rademacher" else jax.random.normal
    if all(len(kind.powers) == 1 for kind in kinds):
        values = np.zeros(len(x))
        for kind in kinds:
            np.add.at(values, kind.axes[:, 0], kind.known)
        vectors = None
    else:
        vectors, values = _eigenvectors(kinds, len(x))
    directions, weights = [jnp.zeros((0, len(x)), x.dtype)], [jnp.zeros(0, x.dtype)]
    for sign, own in zip((1.0, -1.0), jax.random.split(key), strict=True):
        roots = np.sqrt(np.maximum(sign * values, 0))
        if roots.any():
            v = draw(own, (samples, len(roots)), x.dtype) * jnp.asarray(roots, x.dtype)
            directions.append(v if vectors is None else v @ jnp.asarray(vectors, x.dtype))
            weights.append(jnp.full(samples, sign, x.dtype))
    return jnp.concatenate(directions), jnp.concatenate(weights)


def _no_dense(order: int, kinds: list[Kind], law: str) -> str:
    if any(not kind.fixed for kind in kinds):
        reason = "its coefficients depend on x, and directions are drawn before x is seen"
    elif order % 2:
        reason = f"it has order {order}, and their odd moments are zero"
    elif all(kind.powers == (order,) for kind in kinds):
        reason = (
            f"a sum of pure derivatives of order {order} needs E v_i^2 v_j^{order - 2} = 0 for i != j; with positive "
            "weights only directions along the axes have that"
        )
    else:
        reason = f"their moments of order {order} do not match its coefficients"
    return f"expected an operator that {law} directions can estimate, got one that they can't: {reason}; use dense=None"


def unbiased_square(residual: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """The product of two independent draws of a residual: its mean is the square of the residual's mean.

    Args:
      residual: key -> estimate, any shape.
      key: PRNG key, consumed once.
    Returns:
      The product, entry by entry; it may be negative.
    Source: Shi et al. (2024), the unbiased form of their loss.
    """
    first, second = jax.random.split(key)
    return residual(first) * residual(second)


def biased_square(residual: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """The square of one draw, as in the paper's runs: its mean is too large by the estimate's variance.

    Args:
      residual: key -> estimate, any shape.
      key: PRNG key, consumed once.
    Returns:
      The square, entry by entry; half the work of `unbiased_square`, and never negative.
    """
    return residual(key) ** 2


# --- small parts ---------------------------------------------------------------------------------------------


def _point(operator: Operator, x: jax.Array) -> jax.Array:
    x = arguments.point(x)
    if len(x) != operator.dimension:
        raise ValueError(
            f"expected x of the operator's {operator.dimension} coordinates, got {x.shape}; make the operator for those"
        )
    return x


def _laplacian_scale(kinds: list[Kind], d: int) -> float | None:
    """The coefficient, if these terms are a multiple of the Laplacian over all coordinates."""
    if len(kinds) != 1 or kinds[0].powers != (2,) or not _equal(kinds[0].known):
        return None
    return float(kinds[0].known[0]) if np.array_equal(np.sort(kinds[0].axes[:, 0]), np.arange(d)) else None


def _biharmonic_scale(kinds: list[Kind], d: int) -> float | None:
    """The factor, if these terms are a multiple of the biharmonic operator in d > 1 coordinates."""
    by_powers = {kind.powers: kind for kind in kinds}
    if set(by_powers) != {(4,), (2, 2)} or len(kinds) != 2 or not kinds[0].fixed:
        return None
    pure, mixed = by_powers[4,], by_powers[2, 2]
    complete = (
        len({*pure.axes[:, 0]}) == len(pure) == d and len({*map(tuple, mixed.axes)}) == len(mixed) == d * (d - 1) // 2
    )
    if not (complete and _equal(pure.known) and _equal(mixed.known)):
        return None
    scale = pure.known[0]
    return float(scale) if mixed.known[0] == 2 * scale else None


def _equal(values: np.ndarray) -> bool:
    return bool(np.all(values == values[0]))
