"""Taylor mode: high derivatives of any JAX function by pushing jets through its operations. Needs JAX.

Every function here takes a point, not a batch: wrap calls in `jax.vmap`, `jax.jit` or `jax.grad` as you like.
Lesson: 17_taylor_mode. The transport of jets through one operation is in course.jets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import product
from math import factorial, prod

import jax
import jax.numpy as jnp
import numpy as np

from course import jets
from course.jaxprs import Constant, Equation, Program, trace
from course.jets import DifferentiationError, Jet, OneHot, Setting


def derivatives(f: Callable, x: jax.Array, v: jax.Array, order: int) -> jax.Array:
    """All derivatives of f along a line up to an order: d^k/dt^k f(x + t v) at t = 0.

    Args:
      f: any function of one array, (*shape) -> (*out).
      x: point, (*shape) float.
      v: direction, (*shape).
      order: highest derivative, >= 1.
    Returns:
      D^0 f … D^order f along v, (order + 1, *out).
    Raises:
      ValueError: x and v differ in shape, x is not floating, or order below 1.
      DifferentiationError: an operation of f has no derivative.
    Source: Griewank and Walther, Evaluating Derivatives, chapter 13; Shi et al. (2024), section 3.
    Example:
      >>> derivatives(jnp.exp, jnp.array(0.0), jnp.array(2.0), order=3).tolist()
      [1.0, 2.0, 4.0, 8.0]
    """
    x = _floating(x)
    v = jnp.asarray(v, x.dtype)
    if v.shape != x.shape:
        raise ValueError(f"expected a direction of x's shape {x.shape}, got {v.shape}; one direction per call")
    if order < 1:
        raise ValueError(f"expected order >= 1, got {order}; order 0 is f(x)")
    setting = Setting(order, directions=1)
    if order == 1:
        return jnp.stack(_first_order(f, x, v))
    program = trace(f, x)
    if len(program.outputs) != 1:
        raise ValueError(
            f"expected f to return one array, got {len(program.outputs)}; return them stacked, or one by one"
        )
    (out,) = _propagate(program, Jet(x, (v[None], *[None] * (order - 2))), setting)
    return jnp.stack([out.primal, *(_or_zero(c, out.primal, 1)[0] for c in out.lower), _or_zero(out.top, out.primal)])


def laplacian(
    f: Callable, x: jax.Array, directions: jax.Array | None = None, *, compress: bool = True
) -> tuple[jax.Array, jax.Array]:
    """The value of f and the sum over directions r of D^2 f[v_r, v_r]; the Laplacian where they are all coordinates.

    Collapsed Taylor mode: one second-order coefficient, not one per direction. What follows a point of the program
    depends on the first-order coefficients C (R, m) alive there only through their Gram matrix C^T C. Where they are
    together narrower than the number of directions, m < R, they are replaced by a square factor of it. For a network
    that finds the linear first layer by itself and makes the cost almost independent of the dimension.

    Args:
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
      directions: (R, d); or integers (R,), the numbers of coordinate axes; or None, all d of them.
      compress: whether to replace wide coefficients by a factor of their Gram matrix.
    Returns:
      (f(x), sum of second derivatives), both () in x's dtype. Exact up to rounding and a relative jitter of ten machine
      epsilons in the factorisation; ten times m of them if the coefficients are linearly dependent.
    Raises:
      ValueError: x is not one-dimensional or not floating, f is not scalar, or directions do not fit.
      DifferentiationError: an operation of f has no derivative.
    Source: Dangel et al. (NeurIPS 2025), section 3; Li et al., forward Laplacian (2024).
    Example:
      >>> [float(part) for part in laplacian(lambda x: (x**2).sum(), jnp.ones(3))]
      [3.0, 6.0]
    """
    x = point(x)
    program = _scalar_program(f, x)
    start, count = _directions(x, directions)
    (out,) = _propagate(program, Jet(x, (start,), fixed=True), Setting(2, count), compress)
    return out.primal, _or_zero(out.top, out.primal)


def weighted(f: Callable, x: jax.Array, directions: jax.Array, weights: jax.Array, order: int) -> jax.Array:
    """The sum over directions r of weight_r times D^order f along v_r, with one collapsed top coefficient.

    Args:
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
      directions: (R, d), or integers (R,), the numbers of coordinate axes.
      weights: (R,), of any sign.
      order: >= 1.
    Returns:
      Scalar (), dtype of x.
    Raises:
      ValueError and DifferentiationError as for `laplacian`.
    Source: Dangel et al. (NeurIPS 2025), section 3.
    """
    x = point(x)
    start, count = _directions(x, directions)
    weights = jnp.asarray(weights, x.dtype)
    if weights.shape != (count,):
        raise ValueError(f"expected one weight per direction, ({count},), got {weights.shape}")
    if order < 1:
        raise ValueError(f"expected order >= 1, got {order}; order 0 is f(x)")
    program = _scalar_program(f, x)
    setting = Setting(order, count, weights)
    if order == 1:
        top = start.collect(weights) if isinstance(start, OneHot) else weights @ start
        return _first_order(f, x, top)[1]
    (out,) = _propagate(program, Jet(x, (start, *[None] * (order - 2)), fixed=True), setting)
    return _or_zero(out.top, out.primal)


def biharmonic(f: Callable, x: jax.Array) -> jax.Array:
    """The Laplacian of the Laplacian of f, by collapsed fourth-order jets along the e_i and the e_i + e_j, e_i - e_j.

    The sum over i, j of d^4 f / dx_i^2 dx_j^2 is 1/6 of the sum over pairs i < j of the fourth derivatives along both
    e_i + e_j and e_i - e_j, plus (4 - d) / 3 of that along the e_i.

    Args:
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
    Returns:
      Scalar (), dtype of x; d^2 directions are propagated, 3 d^2 + 2 coefficients a value. The `laplacian` of a
      `laplacian` carries (d + 2)^2 and is about twice as fast for a network (benchmarks/operators.py).
    Raises:
      ValueError and DifferentiationError as for `laplacian`.
    Source: polarisation; Dangel et al. (NeurIPS 2025), section 3, propagate the same sum along other directions.
    Example:
      >>> float(biharmonic(lambda x: (x**4).sum(), jnp.ones(3)))
      72.0
    """
    x = point(x)
    d = len(x)
    eye = np.eye(d)
    i, j = np.triu_indices(d, k=1)
    directions = np.concatenate([eye, eye[i] + eye[j], eye[i] - eye[j]])
    weights = np.concatenate([np.full(d, (4 - d) / 3), np.full(2 * len(i), 1 / 6)])
    return weighted(f, x, directions, weights, order=4)


def partial(f: Callable, x: jax.Array, multi_index: Sequence[int]) -> jax.Array:
    """Any mixed partial derivative, from univariate jets in a few directions.

    Args:
      f: scalar field, (d,) -> ().
      x: point, (d,) float.
      multi_index: how often to differentiate by each coordinate, d integers >= 0: (2, 0, 1) is d^3 f / dx_0^2 dx_2.
    Returns:
      Scalar (), dtype of x.
    Raises:
      ValueError: the multi-index does not fit x; else as for `laplacian`.
      DifferentiationError: an operation of f has no derivative.
    Source: Griewank, Utke and Walther (2000), equation (13), through `interpolation`.
    Example:
      >>> float(partial(lambda x: x[0] ** 2 * x[1], jnp.array([3.0, 5.0]), (2, 1)))
      2.0
    """
    x = point(x)
    multi_index = tuple(multi_index)
    if len(multi_index) != len(x) or any(i < 0 or i != int(i) for i in multi_index):
        raise ValueError(f"expected {len(x)} integers >= 0, one per coordinate of x, got {multi_index}")
    axes = [axis for axis, power in enumerate(multi_index) if power]
    if not axes:
        return f(x)
    powers = tuple(int(multi_index[axis]) for axis in axes)
    steps, weights = interpolation(powers)
    directions = np.zeros((len(steps), len(x)))
    directions[:, axes] = steps
    return weighted(f, x, directions, weights, order=sum(powers))


@cache
def interpolation(powers: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Directions and weights that make a mixed partial derivative out of derivatives along lines.

    d^i f = sum over j of weight_j * D^k f along j, over all multi-indices j with |j| = k = |i|.

    Args:
      powers: the multi-index i, without zeros.
    Returns:
      directions (R, n) with integer entries, and weights (R,), float64, computed in exact fractions.
    Source: Griewank, Utke and Walther (2000), equations (12) and (13); their Taylor coefficients are D^k / k!.
    """
    k = sum(powers)
    steps, weights = [], []
    for j in product(range(k + 1), repeat=len(powers)):
        if sum(j) != k:
            continue
        weight = Fraction(0)
        for m in product(*(range(p + 1) for p in powers)):
            if any(m):
                size = sum(m)
                sign = (-1) ** (k - size)
                ways = prod(_binomial(Fraction(p), q) for p, q in zip(powers, m, strict=True))
                shares = prod(_binomial(Fraction(k * q, size), r) for q, r in zip(m, j, strict=True))
                weight += sign * ways * shares * Fraction(size, k) ** k
        if weight:
            steps.append(j)
            weights.append(float(weight / factorial(k)))
    return np.array(steps, float), np.array(weights)


def _binomial(top: Fraction, bottom: int) -> Fraction:
    """top (top - 1) … (top - bottom + 1) / bottom!, for any rational top."""
    return prod((top - i for i in range(bottom)), start=Fraction(1)) / factorial(bottom)


# --- propagation through a program -------------------------------------------------------------------------


def _propagate(program: Program, start: Jet, setting: Setting, compress: bool = False) -> list[Jet]:
    """Push a jet through all equations; the outputs as jets, constant ones with zero coefficients."""
    values: dict[int, object] = {0: start}
    equations = _wide_first(program, start, setting) if compress else list(program.equations)
    last_use = _last_uses(equations)
    outputs = {o for o in program.outputs if isinstance(o, int)}

    def look_up(i):
        return i.value if isinstance(i, Constant) else values[i]

    for position, equation in enumerate(equations):
        results = jets.transport(equation, [look_up(i) for i in equation.inputs], setting)
        values.update(zip(equation.outputs, results, strict=True))
        if compress:
            for number in [n for n in values if last_use.get(n, -1) <= position and n not in outputs]:
                del values[number]
            live = {n: v for n, v in values.items() if isinstance(v, Jet) and last_use.get(n, -1) > position}
            setting = _compress(values, live, setting)
    zero = (None,) * (setting.order - 1)
    found = [look_up(o) for o in program.outputs]
    return [o if isinstance(o, Jet) else Jet(jnp.asarray(o), zero) for o in found]


def _wide_first(program: Program, start: Jet, setting: Setting) -> list[Equation]:
    """The equations, those that use a wide value moved to the front as far as their inputs allow.

    Once nothing wide is alive, everything that follows sees few first-order coefficients.
    """
    sizes = jax.eval_shape(lambda x: _sizes(program, x), start.primal)
    known, waiting, ordered = {0}, list(program.equations), []
    while waiting:
        ready = [
            e for e in waiting if all(i in known for i in e.inputs if isinstance(i, int))
            and any(isinstance(i, int) and sizes[i].size >= setting.directions for i in e.inputs)
        ]  # fmt: skip
        equation = ready[0] if ready else waiting[0]
        waiting.remove(equation)
        ordered.append(equation)
        known.update(equation.outputs)
    return ordered


def _sizes(program: Program, x: jax.Array) -> dict[int, jax.Array]:
    values = {0: x}
    for equation in program.equations:
        inputs = [i.value if isinstance(i, Constant) else values[i] for i in equation.inputs]
        values.update(zip(equation.outputs, equation.call(*inputs), strict=True))
    return values


def _last_uses(equations: list[Equation]) -> dict[int, int]:
    return {i: position for position, e in enumerate(equations) for i in e.inputs if isinstance(i, int)}


def _compress(values: dict, live: dict[int, Jet], setting: Setting) -> Setting:
    """Replace the live first-order coefficients by a square factor of their Gram matrix, if that makes them fewer."""
    width = sum(jet.size for jet in live.values() if jet.lower[0] is not None)
    moving = {n: jet for n, jet in live.items() if jet.lower[0] is not None}
    if not moving or width >= setting.directions or any(isinstance(jet.lower[0], OneHot) for jet in moving.values()):
        return setting
    # blocks that do not depend on the point come first: under vmap they are computed once for all points
    order = sorted(moving, key=lambda n: not moving[n].fixed)
    blocks = [moving[n].lower[0].reshape(setting.directions, -1) for n in order]  # (R, m_n)
    for number, factor in zip(order, _gram_factor(blocks), strict=True):
        jet = moving[number]
        factor = factor.astype(jet.primal.dtype)
        values[number] = Jet(jet.primal, (factor.reshape(width, *jet.primal.shape),), jet.top, jet.fixed)
    return Setting(setting.order, width)


@jax.custom_jvp
def _gram_factor(blocks: list[jax.Array]) -> list[jax.Array]:
    """Blocks F_n (m, m_n) with the same inner products as the given C_n (R, m_n): F_i^T F_j = C_i^T C_j, m = sum m_n.

    A block Cholesky factorisation L L^T of the Gram matrix, F = L^T, so that the large first block, if it is the same
    for all points, is factored once.
    """
    factors: list[jax.Array] = []  # factors[n] has the rows of L_n1^T … L_nn^T so far
    for block in blocks:
        above = _undo(factors, jnp.concatenate([c.T @ block for c in blocks[: len(factors)]])) if factors else None
        gram = block.T @ block
        size = jnp.sqrt(jnp.diag(gram))
        last = _cholesky(gram if above is None else gram - above.T @ above, size).T
        factors.append(last if above is None else jnp.concatenate([above, last]))
    rows = len(factors[-1])
    return [jnp.pad(factor, ((0, rows - len(factor)), (0, 0))) for factor in factors]


@_gram_factor.defjvp
def _gram_factor_jvp(primals, tangents):
    """dF = F^-T C^T dC: not Cholesky's own derivative, but as good, because only F^T F counts; and better conditioned.

    With Q = C F^-1, which has orthonormal columns, F = Q^T C, and d(F^T F) = d(C^T C) holds with Q kept fixed. This
    derivative is not triangular, so that higher ones need a general solver here.
    """
    (blocks,), (changes,) = primals, tangents
    factors = _gram_factor(blocks)
    transposed = jnp.concatenate(factors, axis=1).T
    pulled = [jnp.concatenate([block.T @ change for block in blocks]) for change in changes]
    return factors, [jnp.linalg.solve(transposed, each) for each in pulled]


def _undo(factors: list[jax.Array], target: jax.Array) -> jax.Array:
    """F^-T target by forward substitution, for the square F made of these columns, upper triangular block by block."""
    parts: list[jax.Array] = []
    start = 0
    for factor in factors:
        stop = start + factor.shape[1]
        rest = target[start:stop]
        if parts:
            rest = rest - factor[:start].T @ jnp.concatenate(parts)
        last = factor[start:stop].T
        one = len(last) == 1
        parts.append(rest / last if one else jax.scipy.linalg.solve_triangular(last, rest, lower=True))
        start = stop
    return jnp.concatenate(parts)


def _cholesky(matrix: jax.Array, size: jax.Array) -> jax.Array:
    """Lower Cholesky factor of the matrix scaled by its columns' sizes; one of low rank gets a larger jitter."""
    info = jnp.finfo(matrix.dtype)
    size = jnp.maximum(size, info.tiny**0.25)
    scaled = matrix / jnp.outer(size, size)
    if len(matrix) == 1:  # a batch of 1 x 1 matrices is a batch of square roots; rounding may leave it below zero
        return size[:, None] * jnp.sqrt(jnp.maximum(scaled, 0) + 10 * info.eps)
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)
    lower = jnp.linalg.cholesky(scaled + 10 * info.eps * eye)
    safe = jnp.linalg.cholesky(scaled + 10 * len(matrix) * info.eps * eye)
    return size[:, None] * jnp.where(jnp.isnan(lower).any(), safe, lower)


# --- arguments ---------------------------------------------------------------------------------------------


def _floating(x) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"expected x of a floating dtype, got {x.dtype}; write 1.0 for 1, or x.astype(float)")
    return x


def point(x) -> jax.Array:
    """A point (d,) of floating dtype as an array, or an error that says what is wrong with it."""
    x = _floating(x)
    if x.ndim != 1:
        raise ValueError(f"x must be (d,), got {x.shape}; wrap the call in jax.vmap for a batch of points")
    return x


def _directions(x: jax.Array, directions) -> tuple[jax.Array | OneHot, int]:
    """First coefficients and their number, from directions as users give them."""
    if directions is None:
        return OneHot(None, jnp.ones_like(x), x.shape), len(x)
    known = not isinstance(directions, jax.core.Tracer)
    directions = np.asarray(directions) if known else directions
    if directions.ndim == 1 and jnp.issubdtype(directions.dtype, jnp.integer) and len(directions):
        if known and not 0 <= directions.min() <= directions.max() < len(x):
            raise ValueError(f"expected axes from 0 to {len(x) - 1}, got {directions.min()} to {directions.max()}")
        directions = jnp.asarray(directions)
        return OneHot(directions, jnp.ones(len(directions), x.dtype), x.shape), len(directions)
    if directions.ndim != 2 or directions.shape[1] != len(x) or len(directions) == 0:
        raise ValueError(
            f"expected directions (R, {len(x)}), one per row, or integers (R,), the numbers of axes, with R >= 1, "
            f"got {directions.dtype} {directions.shape}"
        )
    return jnp.asarray(directions, x.dtype), len(directions)


def _first_order(f: Callable, x: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Value and derivative along v by plain `jax.jvp`."""
    try:
        return jax.jvp(f, (x,), (v,))
    except TypeError as error:
        raise DifferentiationError(
            f"expected a function that can be differentiated forwards, got an operation that cannot "
            f"({str(error).splitlines()[0]}); write that part of the function with jax.custom_jvp"
        ) from error


def _scalar_program(f: Callable, x: jax.Array) -> Program:
    shape = jax.eval_shape(f, x)
    if jax.tree.structure(shape) != jax.tree.structure(0) or shape.shape != ():
        got = jax.tree.map(lambda leaf: leaf.shape, shape)
        raise ValueError(f"expected a scalar field (d,) -> (), got an output of shape {got}; squeeze f's last axis")
    return trace(f, x)


def _or_zero(coefficient, primal: jax.Array, *lead: int) -> jax.Array:
    return jnp.zeros((*lead, *primal.shape), primal.dtype) if coefficient is None else coefficient
