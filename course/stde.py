"""Linear differential operators: exact by jets, or estimated from a sample of jets. Needs JAX.

STDE is the stochastic Taylor derivative estimator of Shi, Hu, Lin and Kawaguchi (NeurIPS 2024). An operator is a sum of
terms c_a D^a over multi-indices a; a random few of the terms, or a few random directions, estimate it without bias.
Lesson: 18_stde.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from course import taylor

Coefficients = np.ndarray | Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Kind:
    """The terms of an operator that differentiate in the same pattern, u_xxy and u_yyz for instance.

    Attributes:
      powers: how often each of the axes is differentiated, largest first: (2, 1).
      axes: the axes of each term, (n, len(powers)).
      coefficients: (n,), or a function of the point x that returns them.
    """

    powers: tuple[int, ...]
    axes: np.ndarray
    coefficients: Coefficients

    @property
    def order(self) -> int:
        return sum(self.powers)

    def __len__(self) -> int:
        return len(self.axes)

    def at(self, x: jax.Array) -> jax.Array:
        """The coefficients at a point, (n,) in its dtype."""
        values = self.coefficients(x) if callable(self.coefficients) else self.coefficients
        return jnp.asarray(values, x.dtype)


class Operator:
    """A linear differential operator, the sum of c_a D^a over multi-indices a.

    Args:
      terms: multi-index (a non-negative integer per coordinate) -> coefficient, a number or a function (d,) -> ().
    Raises:
      ValueError: no terms, multi-indices of different length, or one that is not of integers >= 0.
    Operators over the same coordinates can be added, and multiplied by a number.
    Source: Shi et al. (2024), section 4: an operator is a tensor contracted with the derivative tensor of u.
    Example:
      >>> helmholtz = Operator({(2, 0): 1.0, (0, 2): 1.0}) + 4.0 * Operator({(0, 0): 1.0})
      >>> helmholtz
      Operator(dimension=2, order=2, terms=3)
    """

    def __init__(self, terms: Mapping[tuple[int, ...], float | Callable]):
        if not terms:
            raise ValueError("expected at least one multi-index, got none; Operator({(2, 0): 1.0}) is u_xx")
        self.dimension = len(next(iter(terms)))
        found: dict[tuple, list] = {}
        for index, coefficient in terms.items():
            if len(index) != self.dimension or any(p < 0 or p != int(p) for p in index):
                raise ValueError(f"expected multi-indices of {self.dimension} integers >= 0, got {index}")
            pairs = sorted(((int(p), axis) for axis, p in enumerate(index) if p), key=lambda pair: (-pair[0], pair[1]))
            powers, axes = tuple(p for p, _ in pairs), [axis for _, axis in pairs]
            found.setdefault((powers, callable(coefficient)), []).append((axes, coefficient))
        self.kinds = tuple(
            Kind(powers, np.array([a for a, _ in rows], int).reshape(len(rows), len(powers)), _coefficients(rows))
            for (powers, _), rows in found.items()
        )

    @classmethod
    def of_kinds(cls, dimension: int, kinds: tuple[Kind, ...]) -> Operator:
        """An operator from terms that are already sorted by kind; no multi-index of length d is written out."""
        operator = object.__new__(cls)
        operator.dimension, operator.kinds = dimension, tuple(kind for kind in kinds if len(kind))
        return operator

    @property
    def order(self) -> int:
        return max(kind.order for kind in self.kinds)

    def __add__(self, other: Operator) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        if other.dimension != self.dimension:
            raise ValueError(
                f"expected operators over the same coordinates, got {self.dimension} and {other.dimension}"
            )
        merged: dict[tuple, Kind] = {}
        for number, kind in enumerate((*self.kinds, *other.kinds)):
            slot = (kind.powers, number) if callable(kind.coefficients) else (kind.powers,)
            merged[slot] = _joined(merged[slot], kind) if slot in merged else kind
        return Operator.of_kinds(self.dimension, tuple(merged.values()))

    def __mul__(self, factor: float) -> Operator:
        kinds = (Kind(kind.powers, kind.axes, _scaled(kind.coefficients, factor)) for kind in self.kinds)
        return Operator.of_kinds(self.dimension, tuple(kinds))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"Operator(dimension={self.dimension}, order={self.order}, terms={sum(map(len, self.kinds))})"


def _coefficients(rows: list) -> Coefficients:
    values = [coefficient for _, coefficient in rows]
    if callable(values[0]):
        return lambda x: jnp.stack([value(x) for value in values])
    return np.array(values, float)


def _scaled(coefficients: Coefficients, factor: float) -> Coefficients:
    return (lambda x: factor * coefficients(x)) if callable(coefficients) else factor * coefficients


def _joined(a: Kind, b: Kind) -> Kind:
    return Kind(a.powers, np.concatenate([a.axes, b.axes]), np.concatenate([a.coefficients, b.coefficients]))


# --- ready operators -----------------------------------------------------------------------------------------


def laplacian(d: int) -> Operator:
    """The sum of the second derivatives along all d coordinates."""
    return Operator.of_kinds(d, (Kind((2,), np.arange(d)[:, None], np.ones(d)),))


def biharmonic(d: int) -> Operator:
    """The Laplacian of the Laplacian: d fourth derivatives, and twice u_iijj for each pair."""
    pairs = np.stack(np.triu_indices(d, k=1), axis=1)
    return Operator.of_kinds(
        d, (Kind((4,), np.arange(d)[:, None], np.ones(d)), Kind((2, 2), pairs, np.full(len(pairs), 2.0)))
    )


def second_order(matrix) -> Operator:
    """The sum over i, j of C_ij u_ij.

    Args:
      matrix: C, (d, d); its symmetric part counts.
    Raises:
      ValueError: not a square matrix.
    """
    c = np.asarray(matrix, float)
    if c.ndim != 2 or c.shape[0] != c.shape[1]:
        raise ValueError(f"expected a matrix (d, d), got {c.shape}; np.diag(c) makes one of a vector")
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


def apply(operator: Operator, f: Callable, x: jax.Array) -> jax.Array:
    """The operator applied to f at x, exact, by one propagation of collapsed jets per order of its terms.

    Directions and weights follow from the multi-indices: coordinate axes where the derivatives are pure, the
    eigenvectors of the coefficient matrix at order 2, the interpolation formula for any other mixed derivative.

    Args:
      operator: over d coordinates.
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
    Returns:
      Scalar (), dtype of x.
    Raises:
      ValueError: the dimensions differ, or x or f do not fit as in `taylor.laplacian`.
      DifferentiationError: an operation of f has no derivative.
    Example:
      >>> wave = Operator({(2, 0): 1.0, (0, 2): -9.0})
      >>> float(apply(wave, lambda x: jnp.sin(3 * x[0] + x[1]), jnp.zeros(2)))
      0.0
    """
    x = _point(operator, x)
    if _is_laplacian(operator):
        return operator.kinds[0].coefficients[0] * taylor.laplacian(f, x)[1]
    total = jnp.zeros((), x.dtype)
    for order in sorted({kind.order for kind in operator.kinds}):
        kinds = [kind for kind in operator.kinds if kind.order == order]
        scale = _biharmonic_scale(kinds, operator.dimension)
        if scale is not None:
            total += scale * taylor.biharmonic(f, x)
        elif order == 0:
            total += sum(kind.at(x).sum() for kind in kinds) * f(x)
        else:
            total += taylor.weighted(f, x, *_directions(kinds, x), order)
    return total


def _directions(kinds: list[Kind], x: jax.Array) -> tuple:
    """Directions, or axes, and weights that make up terms of one order exactly."""
    order = kinds[0].order
    fixed = not any(callable(kind.coefficients) for kind in kinds)
    if all(len(kind.powers) == 1 for kind in kinds):
        return np.concatenate([kind.axes[:, 0] for kind in kinds]), jnp.concatenate([kind.at(x) for kind in kinds])
    if order == 2 and fixed:
        return _eigenvectors(kinds, len(x))
    parts = [_interpolated(kind.powers, kind.axes, kind.at(x), len(x)) for kind in kinds]
    return jnp.concatenate([d for d, _ in parts]), jnp.concatenate([w for _, w in parts])


def _eigenvectors(kinds: list[Kind], d: int) -> tuple[np.ndarray, np.ndarray]:
    """A quadratic form in d directions instead of one for each of its d^2 terms."""
    values, vectors = np.linalg.eigh(_matrix(kinds, d))
    kept = np.abs(values) > 1e-14 * np.abs(values).max()
    return vectors.T[kept], values[kept]


def _matrix(kinds: list[Kind], d: int) -> np.ndarray:
    """The symmetric matrix C of second-order terms, (d, d)."""
    matrix = np.zeros((d, d))
    for kind in kinds:
        i, j = kind.axes[:, 0], kind.axes[:, -1]
        np.add.at(matrix, (i, j), kind.coefficients / 2)
        np.add.at(matrix, (j, i), kind.coefficients / 2)
    return matrix


def _interpolated(powers: tuple[int, ...], axes, coefficients: jax.Array, d: int) -> tuple[jax.Array, jax.Array]:
    """Directions (n * m, d) and weights (n * m,) for n terms of one kind."""
    steps, weights = taylor.interpolation(powers)  # (m, len(powers)), (m,)
    axes = jnp.asarray(axes)
    blank = jnp.zeros((len(axes), len(steps), d), coefficients.dtype)
    rows = jnp.arange(len(axes))[:, None, None]
    directions = blank.at[rows, jnp.arange(len(steps))[:, None], axes[:, None, :]].set(jnp.asarray(steps, blank.dtype))
    return directions.reshape(-1, d), jnp.outer(coefficients, jnp.asarray(weights, blank.dtype)).ravel()


# --- estimated -----------------------------------------------------------------------------------------------


def estimate(
    operator: Operator,
    f: Callable,
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
      samples: terms of each kind, or directions; >= 1.
      dense: None, "rademacher" or "gaussian".
      replace: whether a term may be drawn twice; sparse only.
    Returns:
      Scalar (), dtype of x. For the Laplacian with Hessian H the variance is d^2 / samples times that of H_ii (times
      1 - samples / d without replacement, with the variance over d - 1) if sparse, 2 / samples times the sum of H_ij^2
      over i != j for Rademacher, and over all i, j for Gaussian directions.
    Raises:
      ValueError: samples out of range, a dense estimate that cannot exist, or as for `apply`.
    Source: Shi et al. (2024), section 4; sparse is their eq. 17, dense their section 4.3.
    Example:
      >>> squares = lambda x: (x**2).sum()
      >>> float(estimate(laplacian(8), squares, jnp.ones(8), jax.random.key(0), samples=2))
      16.0
    """
    x = _point(operator, x)
    if samples < 1:
        raise ValueError(f"expected samples >= 1, got {samples}; use apply for the exact operator")
    if dense is not None:
        return _dense(operator, f, x, key, samples, dense)
    largest = max(map(len, operator.kinds))
    if samples > largest and not replace:
        raise ValueError(
            f"expected samples <= {largest}, the terms of the operator's largest kind, got {samples}; draw fewer, "
            "pass replace=True, or use apply"
        )
    total = jnp.zeros((), x.dtype)
    for kind, each in zip(operator.kinds, jax.random.split(key, len(operator.kinds)), strict=True):
        if len(kind) <= samples and not replace:
            total += apply(Operator.of_kinds(operator.dimension, (kind,)), f, x)
            continue
        draw = jax.random.randint(each, (samples,), 0, len(kind)) if replace else distinct(each, len(kind), samples)
        axes, coefficients = jnp.asarray(kind.axes)[draw], kind.at(x)[draw] * (len(kind) / samples)
        if not kind.powers:
            total += coefficients.sum() * f(x)
        elif len(kind.powers) == 1:
            total += taylor.weighted(f, x, axes[:, 0], coefficients, kind.order)
        else:
            total += taylor.weighted(f, x, *_interpolated(kind.powers, axes, coefficients, len(x)), kind.order)
    return total


def distinct(key: jax.Array, population: int, samples: int) -> jax.Array:
    """Draw different numbers below `population`, every set of them equally likely: (samples,) int32.

    `jax.random.choice(replace=False)` shuffles the whole population, 40 ms for 100,000; this takes samples^2 steps.

    Args:
      key: PRNG key, consumed once.
      population: how many numbers there are.
      samples: how many to draw, at most `population`.
    Source: Floyd's algorithm; Bentley, "A sample of brilliance", Communications of the ACM 30 (1987).
    """
    lasts = population - samples + jnp.arange(samples)
    draws = jax.random.randint(key, (samples,), 0, lasts + 1)

    def step(chosen, turn):
        i, draw, last = turn
        return chosen.at[i].set(jnp.where((chosen == draw).any(), last, draw)), None

    turns = (jnp.arange(samples), draws, lasts.astype(draws.dtype))
    return jax.lax.scan(step, jnp.full(samples, -1, draws.dtype), turns)[0]


def _dense(operator: Operator, f: Callable, x: jax.Array, key: jax.Array, samples: int, law: str) -> jax.Array:
    if law not in ("rademacher", "gaussian"):
        raise ValueError(f'expected dense="rademacher", "gaussian" or None, got {law!r}')
    low = tuple(kind for kind in operator.kinds if kind.order < 2)
    high = [kind for kind in operator.kinds if kind.order >= 2]
    total = apply(Operator.of_kinds(operator.dimension, low), f, x) if low else jnp.zeros((), x.dtype)
    for order in sorted({kind.order for kind in high}):
        kinds = [kind for kind in high if kind.order == order]
        key, own = jax.random.split(key)
        scale = _biharmonic_scale(kinds, operator.dimension)
        if order == 2 and not any(callable(kind.coefficients) for kind in kinds):
            directions, weights = _second_moments(kinds, own, samples, law, x)
            total += taylor.weighted(f, x, directions, weights / samples, 2)
        elif scale is not None and law == "gaussian":
            directions = jax.random.normal(own, (samples, len(x)), x.dtype)  # E D^4 f[v] is 3 times the biharmonic
            total += taylor.weighted(f, x, directions, jnp.full(samples, scale / (3 * samples), x.dtype), 4)
        else:
            raise ValueError(_no_dense(order, kinds, law))
    return total


def _second_moments(kinds: list[Kind], key: jax.Array, samples: int, law: str, x: jax.Array) -> tuple:
    """Random directions and weights with E sum w v v^T = samples * C; one family for each sign in C."""
    draw = jax.random.rademacher if law == "rademacher" else jax.random.normal
    if all(len(kind.powers) == 1 for kind in kinds):
        values = np.zeros(len(x))
        for kind in kinds:
            np.add.at(values, kind.axes[:, 0], kind.coefficients)
        vectors = None
    else:
        vectors, values = _eigenvectors(kinds, len(x))
    directions, weights = [], []
    for sign, own in zip((1.0, -1.0), jax.random.split(key), strict=True):
        roots = np.sqrt(np.maximum(sign * values, 0))
        if roots.any():
            v = draw(own, (samples, len(roots)), x.dtype) * jnp.asarray(roots, x.dtype)
            directions.append(v if vectors is None else v @ jnp.asarray(vectors, x.dtype))
            weights.append(jnp.full(samples, sign, x.dtype))
    return jnp.concatenate(directions), jnp.concatenate(weights)


def _no_dense(order: int, kinds: list[Kind], law: str) -> str:
    if any(callable(kind.coefficients) for kind in kinds):
        reason = "its coefficients depend on x, and directions are drawn before x is seen"
    elif order % 2:
        reason = f"it has order {order}, and a symmetric distribution has no odd moments"
    elif all(kind.powers == (order,) for kind in kinds):
        reason = (
            f"a sum of pure derivatives of order {order} needs E v_i^2 v_j^{order - 2} = 0 for i != j, which only "
            "directions along the axes have"
        )
    else:
        reason = f"the moments of order {order} of {law} directions do not match its coefficients"
    return f"expected an operator that has a dense estimate, got one that has none: {reason}; use dense=None"


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
    x = taylor.point(x)
    if len(x) != operator.dimension:
        raise ValueError(f"expected x of the operator's {operator.dimension} coordinates, got {x.shape}")
    return x


def _equal(values) -> bool:
    return not callable(values) and bool(np.all(values == values[0]))


def _is_laplacian(operator: Operator) -> bool:
    """Whether an operator is a number times the Laplacian over all coordinates, which has a faster way."""
    if len(operator.kinds) != 1 or operator.kinds[0].powers != (2,):
        return False
    kind = operator.kinds[0]
    return _equal(kind.coefficients) and np.array_equal(np.sort(kind.axes[:, 0]), np.arange(operator.dimension))


def _biharmonic_scale(kinds: list[Kind], d: int) -> float | None:
    """The factor, if these fourth-order terms are a multiple of the biharmonic operator in d > 1 coordinates."""
    by_powers = {kind.powers: kind for kind in kinds}
    if set(by_powers) != {(4,), (2, 2)} or len(kinds) != 2:
        return None
    pure, mixed = by_powers[4,], by_powers[2, 2]
    complete = (
        len({*pure.axes[:, 0]}) == len(pure) == d and len({*map(tuple, mixed.axes)}) == len(mixed) == d * (d - 1) // 2
    )
    if not (complete and _equal(pure.coefficients) and _equal(mixed.coefficients)):
        return None
    scale = pure.coefficients[0]
    return float(scale) if mixed.coefficients[0] == 2 * scale else None
