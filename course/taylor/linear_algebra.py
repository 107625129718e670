"""How solutions of linear equations and Cholesky factors carry a jet. Needs JAX.

Both are known by an equation: M x = b, L L^T = A. Its k-th derivative is linear in x[k], or L[k], and what stands
beside it is known from the lower ones: k terms an order, and the factorisation of the value serves every order and all
lines. Nested `jax.jvp` would factor once for each line. Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from course.taylor.programs import Program, flat, is_real, trace
from course.taylor.propagation import Lines, Moving, push
from course.taylor.rules import Derivatives, Jet, Operation, add, anything, over_lines, rule, times

Vector = list[jax.Array]
"""The arrays that an unknown, or a right-hand side, is made of."""


@rule("custom_linear_solve")
def linear_solve(op: Operation, *jets: Jet) -> list[Derivatives]:
    """x with M x = b, for M a program with arrays of its own that move: `jnp.linalg.solve`, `inv`, `cg` and others.

    Of its four programs only M counts; how it is solved, and what that takes from x, leaves the solution as it is.
    """
    counts, programs = op.params["const_lengths"], op.params["jaxprs"]
    matvec, solve = flat(programs.matvec), flat(programs.solve)
    transposed = None if programs.transpose_solve is None else flat(programs.transpose_solve)
    if len(solve.outputs) > len(matvec.outputs):
        return anything(op, *jets)  # it returns more than the solution
    of_matvec, _, of_solve, of_transposed, _ = _split(op.inputs, counts)

    def transpose(_: Any, b: Vector) -> Vector:
        assert transposed is not None
        return _run(transposed, *of_transposed, *b)

    def inverse(b: Vector) -> Vector:
        def multiply(x: Vector) -> Vector:
            return _run(matvec, *of_matvec, *x)

        found: Vector = lax.custom_linear_solve(
            multiply, b, lambda _, b: _run(solve, *of_solve, *b), None if transposed is None else transpose
        )
        return found

    moving = dict(zip(op.moving, jets, strict=True))
    constants, *_, sides = _split([moving.get(p, value) for p, value in enumerate(op.inputs)], counts)
    return _solution(op, matvec, constants, sides, inverse)


@rule("triangular_solve")
def triangular_solve(op: Operation, a: Jet, b: Jet | None = None) -> list[Derivatives]:
    """x with a x = b or x a = b, where only one triangle of a counts, or what lies below or above its diagonal."""
    params = dict(op.params)
    value = a[0]

    def product(a: jax.Array, x: jax.Array) -> jax.Array:
        part = jnp.tril(a) if params["lower"] else jnp.triu(a)
        if params["unit_diagonal"]:
            part = jnp.where(jnp.eye(a.shape[-1], dtype=bool), 1, part)
        part = part.mT if params["transpose_a"] else part
        part = part.conj() if params["conjugate_a"] else part
        return jnp.matmul(*(part, x) if params["left_side"] else (x, part), precision=lax.Precision.HIGHEST)

    def inverse(b: Vector) -> Vector:
        return [lax.linalg.triangular_solve(value, b[0], **params)]

    return _solution(op, trace(product, value, op.outputs[0]), [a], [op.inputs[1] if b is None else b], inverse)


@rule("cholesky")
def cholesky(op: Operation, a: Jet) -> list[Derivatives]:
    """L with L L^T = A: L^-1 L[k] is the lower half of L^-1 (A[k] - the sum of binomial(k, i) L[i] L[k - i]^T) L^-T."""
    lower = jnp.tril(op.outputs[0])
    half = jnp.tril(jnp.ones_like(lower)) - jnp.eye(lower.shape[-1], dtype=lower.dtype) / 2

    def product(x: jax.Array, y: jax.Array) -> jax.Array:  # x y^T
        return jnp.matmul(x, y.mT.conj(), precision=lax.Precision.HIGHEST)

    def solve(rest: jax.Array) -> jax.Array:
        left = lax.linalg.triangular_solve(lower, rest, left_side=True, lower=True)
        both = lax.linalg.triangular_solve(lower, left, lower=True, transpose_a=True, conjugate_a=True)
        return jnp.matmul(lower, half * both, precision=lax.Precision.HIGHEST)

    found: Jet = [lower]
    for k in range(1, op.order + 1):
        pairs = [(i, found[i], found[k - i]) for i in range(1, k)]
        terms = (times(comb(k, i), jax.vmap(product)(x, y)) for i, x, y in pairs if x is not None and y is not None)
        inner = add(terms)
        rest = _minus(a[k], inner if k < op.order else op.collapse(inner))
        found.append(None if rest is None else over_lines(solve, [op.axis(k)])(rest))
    return [found[1:]]


@rule("custom_jvp_call")
def log_determinant(op: Operation, a: Jet, *others: Jet) -> list[Derivatives]:
    """y = log |det A|, if the function is that: y' = tr Y with A Y = A', so Y needs the solutions N[k] of A N = A[k].

    Of the highest derivative only the trace is wanted, and a trace of a product is a sum of n^2 terms.
    """
    if others or op.order == 1 or not _is_log_determinant(op):
        return anything(op, a, *others)

    def trace_of(x: jax.Array, y: jax.Array) -> jax.Array:
        return (x * y.mT).sum(axis=(-2, -1))

    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)

    n = _solutions(a)
    y: Jet = []
    slopes: Jet = []
    for k in range(op.order):
        terms = [(comb(k, i), n[i], y[k - i]) for i in range(1, k + 1)]
        terms = [term for term in terms if term[1] is not None and term[2] is not None]
        if k + 1 < op.order:
            y.append(_minus(n[k + 1], add(times(c, product(left, right)) for c, left, right in terms)))
            slopes.append(_trace(y[k]))
        else:
            inner = op.collapse(add(times(c, trace_of(left, right)) for c, left, right in terms))
            slopes.append(_minus(_trace(n[op.order]), inner))
    return [[None] * op.order, slopes]


def _trace(matrix: jax.Array | None) -> jax.Array | None:
    return None if matrix is None else jnp.trace(matrix, axis1=-2, axis2=-1)


def _is_log_determinant(op: Operation) -> bool:
    """Whether a custom rule is that of `jnp.linalg.slogdet`, told by the program that computes the value."""
    (value,) = op.values
    if not is_real(value) or value.ndim < 2 or value.shape[-1] != value.shape[-2] or len(op.outputs) != 2:
        return False
    (own,) = trace(jnp.linalg.slogdet, value).equations
    return str(own.params.get("call_jaxpr")) == str(op.params["call_jaxpr"])


def _solutions(a: Jet) -> Jet:
    """A, and N[k] with A N[k] = A[k], all by one factorisation."""
    value, *lower, top = a
    sides = [*(each for each in lower if each is not None), *([] if top is None else [top[None]])]
    solve = jax.vmap(lambda side: jnp.linalg.solve(value, side))
    solved = iter(jnp.split(solve(jnp.concatenate(sides)), np.cumsum([len(side) for side in sides])[:-1]))
    lower = [None if each is None else next(solved) for each in lower]
    return [value, *lower, None if top is None else next(solved)[0]]


# --- the unknown of linear equations -----------------------------------------------------------------------


def _solution(
    op: Operation,
    matvec: Program,
    constants: Sequence[Jet | Any],
    b: Sequence[Jet | Any],
    inverse: Callable[[Vector], Vector],
) -> list[Derivatives]:
    """The derivatives of x in M x = b: M x[k] = b[k] - the k-th derivative of M x without its term with x[k].

    Args:
      op: the operation, whose outputs are x.
      matvec: (*constants, *x) -> M x.
      constants: of M; a jet where one moves, else an array.
      b: as the constants.
      inverse: b -> x, for the values of the constants.
    """
    found: list[Jet] = [[value] for value in op.outputs]
    for k in range(1, op.order + 1):
        # what stands in the place of the sum over the lines: below the top a derivative beyond the k-th, left out
        beyond = [] if k == op.order else [None]
        known = [Moving([*c[: k + 1], *beyond]) if isinstance(c, list) else c for c in constants]
        x = [Moving([*jet, None, *beyond]) for jet in found]
        pushed = push(matvec, [*known, *x], Lines(k + len(beyond), op.lines, op.weights))
        rest = [_minus(_entry(side, k), _entry(each, k)) for side, each in zip(b, pushed, strict=True)]
        if all(part is None for part in rest):
            solved: Sequence[jax.Array | None] = rest
        else:
            lines = [] if op.axis(k) is None else [op.lines]
            shapes = [(*lines, *jet[0].shape) for jet in found]
            filled = [
                jnp.zeros(s, jet[0].dtype) if r is None else r for r, s, jet in zip(rest, shapes, found, strict=True)
            ]
            solved = over_lines(inverse, [op.axis(k)])(filled)
        for jet, part in zip(found, solved, strict=True):
            jet.append(part)
    return [jet[1:] for jet in found]


def _entry(side: Moving | Jet | Any, k: int) -> jax.Array | None:
    """The k-th derivative of what may be at rest."""
    jet = side.jet if isinstance(side, Moving) else side
    return jet[k] if isinstance(jet, list) else None


def _minus(x: jax.Array | None, y: jax.Array | None) -> jax.Array | None:
    return add([x, None if y is None else -y])


def _run(program: Program, *inputs: Any) -> list[Any]:
    return push(program, inputs, Lines(1, 1))


def _split(inputs: Sequence[Any], counts: Sequence[int]) -> list[Sequence[Any]]:
    """The inputs in groups of so many, and the rest."""
    ends = [0, *accumulate(counts)]
    return [*(inputs[i:j] for i, j in pairwise(ends)), inputs[ends[-1] :]]
