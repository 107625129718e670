"""Compression: fewer first derivatives that do the work of many, in second-order sums. Needs JAX.

What follows a point of a program enters the sum over lines r of D^2 h[c_r, c_r] only through the first derivatives C
(R, m) of the values alive there, as sum over i, j of (C^T C)_ij d_i d_j h. So any F with F^T F = C^T C can stand for C;
a square one has m rows, however many lines there were. That holds for a sum with equal weights, of order 2.
Source: any factor of a weight matrix serves a weighted Laplacian, Dangel et al. (NeurIPS 2025), section 3; to take one
of the first derivatives themselves, at any narrow point of the program, is ours.
Lesson: 17b_jets_at_work.
"""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from course.taylor.programs import at_least_single
from course.taylor.sparse import Sparse


def factor(blocks: list[jax.Array]) -> list[jax.Array]:
    """Blocks F_n (m, *shape_n) with the same inner products as the given C_n (R, *shape_n); m is the sum of sizes.

    A complex entry counts twice, for its real and its imaginary part.
    """
    flat = [_as_real(block.reshape(len(block), -1)) for block in blocks]
    common = jnp.result_type(*flat)
    flat = [at_least_single(each.astype(common)) for each in flat]
    # factored once, and derivatives given to *these* numbers: a second evaluation might round a small pivot otherwise
    factors = _moving(flat, _factor([jax.lax.stop_gradient(each) for each in flat]))
    return [
        _as_dtype(each, block.dtype).reshape(-1, *block.shape[1:]) for each, block in zip(factors, blocks, strict=True)
    ]


def width(block: jax.Array | Sparse) -> int:
    """How many rows a first derivative (R, *shape) adds to the factor."""
    return prod(block.shape[1:]) * (2 if jnp.issubdtype(block.dtype, jnp.complexfloating) else 1)


def _as_real(block: jax.Array) -> jax.Array:
    return jnp.concatenate([block.real, block.imag], axis=1) if jnp.iscomplexobj(block) else block


def _as_dtype(block: jax.Array, dtype: DTypeLike) -> jax.Array:
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return block.astype(dtype)
    real, imaginary = jnp.split(block, 2, axis=1)
    return jax.lax.complex(real, imaginary).astype(dtype)


def _factor(blocks: list[jax.Array]) -> list[jax.Array]:
    """Blocks F_n (m, m_n) of the C_n (R, m_n), by a Cholesky factorisation L L^T of the Gram matrix, F = L^T.

    Block by block, so that a large first block, if it is the same for all points of a batch, is factored once. Columns
    are scaled to length 1 first, which makes the result independent of their size.
    """
    lengths, factors = _lengths(blocks), []
    units = [jnp.where(length > 0, length, 1) for length in lengths]  # each of its own block alone, see above
    scaled: list[jax.Array] = []  # the factors of the scaled columns, with the rows of L_n1^T … L_nn^T so far
    for n, block in enumerate(blocks):
        above = None
        if scaled:
            cross = jnp.concatenate([_gram(c, block, u, units[n]) for c, u in zip(blocks[:n], units[:n], strict=True)])
            above = _undo(scaled, cross)
        gram = _gram(block, block, units[n], units[n])
        last = _cholesky(gram if above is None else gram - above.T @ above).T
        scaled.append(last if above is None else jnp.concatenate([above, last]))
    rows = len(scaled[-1])
    for each, size in zip(scaled, _sizes(lengths), strict=True):
        factors.append(jnp.pad(each, ((0, rows - len(each)), (0, 0))) * size)
    return factors


@jax.custom_jvp
def _moving(blocks: list[jax.Array], factors: list[jax.Array]) -> list[jax.Array]:
    """The factors of the blocks, as they are, with derivatives."""
    return factors


@_moving.defjvp
def _moving_jvp(
    primals: tuple[list[jax.Array], list[jax.Array]], tangents: tuple[list[jax.Array], list[jax.Array]]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """dF = F^-T C^T dC: not Cholesky's own derivative, but as good, because only F^T F counts; and better conditioned.

    With Q = C F^-1, which has orthonormal columns, F = Q^T C, and d(F^T F) = d(C^T C) holds with Q kept fixed. This
    derivative is not triangular, so that higher ones need a general solver here.
    """
    (blocks, factors), (changes, _) = primals, tangents
    factors, sizes = _moving(blocks, factors), _sizes(_lengths(blocks))
    transposed = jnp.concatenate([f / s for f, s in zip(factors, sizes, strict=True)], axis=1).T
    pulled = [
        jnp.concatenate([(c.T @ change) / s[:, None] for c, s in zip(blocks, sizes, strict=True)]) for change in changes
    ]
    return factors, [jnp.linalg.solve(transposed, each) for each in pulled]


def _lengths(blocks: list[jax.Array]) -> list[jax.Array]:
    """The length of each column, constant for derivatives.

    Their squares must not under- or overflow: in float32 first derivatives between 1e-18 and 1e18.
    """
    return [jnp.sqrt(jnp.diag(jax.lax.stop_gradient(block.T @ block))) for block in blocks]


def _sizes(lengths: list[jax.Array]) -> list[jax.Array]:
    """These lengths, where columns of zeros get one that is small beside the others, or beside 1."""
    largest = jnp.stack([each.max() for each in lengths]).max()
    small = jnp.where(largest > 0, largest, 1) * jnp.finfo(largest.dtype).eps
    return [jnp.where(each > 0, each, small) for each in lengths]


def _gram(a: jax.Array, b: jax.Array, size_a: jax.Array, size_b: jax.Array) -> jax.Array:
    """The inner products of columns scaled to length 1."""
    return (a.T @ b) / size_a[:, None] / size_b


def _undo(factors: list[jax.Array], target: jax.Array) -> jax.Array:
    """F^-T target by forward substitution, for the square F made of these columns, upper triangular block by block."""
    parts: list[jax.Array] = []
    start = 0
    for each in factors:
        stop = start + each.shape[1]
        rest = target[start:stop]
        if parts:
            rest = rest - each[:start].T @ jnp.concatenate(parts)
        last = each[start:stop].T
        one = len(last) == 1
        parts.append(rest / last if one else jax.scipy.linalg.solve_triangular(last, rest, lower=True))
        start = stop
    return jnp.concatenate(parts)


def _cholesky(matrix: jax.Array) -> jax.Array:
    """Lower Cholesky factor of a Gram matrix of unit columns; a singular one gets a little of the identity added."""
    eps = jnp.finfo(matrix.dtype).eps
    if len(matrix) == 1:  # a batch of 1 x 1 matrices is a batch of square roots; rounding may leave it below zero
        return jnp.sqrt(jnp.maximum(matrix, 10 * eps))
    eye, share = jnp.eye(len(matrix), dtype=matrix.dtype), jnp.zeros((), matrix.dtype)
    for larger in (4 * len(matrix) ** 0.5, 10 * len(matrix), None):
        lower = jnp.linalg.cholesky(matrix + share * eps * eye)
        if larger is not None:  # each attempt waits for the one before: at once, they can lock up XLA's two threads
            works = (jnp.diag(lower) ** 2 > 5 * eps).all()  # no pivot is a rounding error; a NaN does not
            share = jnp.where(works, share, larger)
    return lower
