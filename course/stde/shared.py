"""Terms that share jets: lower derivatives are read from the jet of a higher one. Needs JAX. Lesson: 18_stde."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from course import taylor
from course.stde import jets
from course.stde.kinds import Kind, alike, common, factor_at, in_dtype_of
from course.taylor.functions import Field, along_axes

Powers = tuple[int, ...]
FEW = 8
"""So many lines of second order cost little uncompressed, and first derivatives along them can be read."""
MANY = 64
"""Of more mixed terms than that, nothing is read for others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Waiting:
    """Terms of a kind, some of which are taken already.

    Attributes:
      kind: all of them.
      left: which are not taken, (n,).
      whole: whether they are the Laplacian in so many dimensions that it is better compressed than in parts.
    """

    kind: Kind
    left: np.ndarray
    whole: bool

    @classmethod
    def of(cls, kind: Kind, d: int) -> Waiting:
        """All terms of a kind."""
        whole = kind.powers == (2,) and len(kind) > FEW and common(kind, d) is not None
        return cls(kind, np.ones(len(kind), bool), whole)

    @property
    def axes(self) -> np.ndarray:
        """The axis of each pure derivative, (n,)."""
        return self.kind.listed[:, 0]

    def take(self, rows: np.ndarray, x: jax.Array) -> jax.Array:
        """The coefficients of these terms at x, which are left no longer."""
        self.left[rows] = False
        return self.kind.at(x) if len(rows) == len(self.kind) else self.kind.at(x)[rows]


def total(kinds: list[Kind], f: Field, x: jax.Array) -> jax.Array:
    """The sum of these terms at x, mixed ones first: what can be read from their jets is."""
    parts = [jnp.zeros((), x.dtype)]
    mixed = sorted((kind for kind in kinds if len(kind.powers) > 1), key=lambda kind: -kind.order)
    others = [Waiting.of(kind, len(x)) for kind in kinds if len(kind.powers) <= 1]
    if sum(map(len, mixed)) <= MANY:
        parts += _by_tables(mixed, others, f, x)
    else:
        parts += [one_by_one(kind, kind.at(x), kind.listed, f, x) for kind in mixed]
    for order in sorted({each.kind.order for each in others}, reverse=True):
        parts += _along_lines(order, others, f, x)
    return jnp.asarray(sum(parts))


def one_by_one(kind: Kind, coefficients: jax.Array, axes: ArrayLike, f: Field, x: jax.Array) -> jax.Array:
    """The sum of terms of one kind, each by its own jets."""
    return jnp.tensordot(coefficients, jax.vmap(lambda axes: along_axes(f, x, axes, kind.powers))(jnp.asarray(axes)), 1)


def _by_tables(mixed: list[Kind], others: list[Waiting], f: Field, x: jax.Array) -> list[jax.Array]:
    """Mixed terms, and those others whose powers some of them reach: a term is read where a head reaches its powers."""
    heads: dict[Powers, list[tuple[int, ...]]] = {}  # the axes of each head
    reads: dict[tuple[Powers, Powers], list[tuple[Waiting, list[int], list[int]]]] = {}
    for each in [*(Waiting.of(kind, len(x)) for kind in mixed), *others]:
        found: dict[tuple[Powers, Powers], list[tuple[int, int]]] = {}  # what is read of which -> terms and heads
        for row in _candidates(each, heads):
            axes = tuple(each.kind.listed[row].tolist())
            place = _reached(dict(zip(axes, each.kind.powers, strict=True)), heads)
            if place is None and len(axes) > 1:
                heads.setdefault(each.kind.powers, []).append(axes)
                place = each.kind.powers, each.kind.powers, len(heads[each.kind.powers]) - 1
            if place is not None:
                found.setdefault(place[:2], []).append((row, place[2]))
        for key, pairs in found.items():
            rows, numbers = map(list, zip(*pairs, strict=True))
            reads.setdefault(key, []).append((each, rows, numbers))
    parts = []
    for powers, group in heads.items():
        wanted = [orders for own, orders in reads if own == powers]
        tables = jax.vmap(partial(jets.table, f, x, powers, wanted))(np.array(group))
        for orders in wanted:
            for each, rows, numbers in reads[powers, orders]:
                parts.append(jnp.tensordot(each.take(np.array(rows), x), tables[orders][np.array(numbers)], 1))
    return parts


def _candidates(each: Waiting, heads: dict[Powers, list[tuple[int, ...]]]) -> list[int]:
    """The terms that may be read from a head: of pure ones, those along the axes of one."""
    rows = np.arange(len(each.kind))
    if len(each.kind.powers) == 1:
        rows = rows[np.isin(each.axes, [axis for group in heads.values() for axes in group for axis in axes])]
    return [] if each.whole else rows.tolist()


def _reached(term: dict[int, int], heads: dict[Powers, list[tuple[int, ...]]]) -> tuple[Powers, Powers, int] | None:
    """The powers of a head that reaches those of a term (axis -> power), the term's among them, and its number."""
    for powers, group in heads.items():
        for number, axes in enumerate(group):
            if all(axis in axes and power <= powers[axes.index(axis)] for axis, power in term.items()):
                return powers, tuple(term.get(axis, 0) for axis in axes), number
    return None


def _along_lines(order: int, others: list[Waiting], f: Field, x: jax.Array) -> list[jax.Array]:
    """The pure terms of an order that are left, and those of lower order that can be read from their jets."""
    own = [(each, np.flatnonzero(each.left)) for each in others if each.kind.order == order and each.left.any()]
    if not own:
        return []
    first = own[0][0].kind
    if order == 0:
        return [sum(each.take(rows, x).sum() for each, rows in own) * along_axes(f, x, np.arange(0), ())]
    numbers = all(alike(first, each.kind) for each, _ in own)  # of one factor
    blocks: dict[bytes, list] = {}  # the axes of each kind -> these, and their coefficients
    for each, rows in own:
        axes, taken = each.axes[rows], each.take(rows, x)
        blocks.setdefault(axes.tobytes(), [axes]).append(each.kind.known[rows] if numbers else taken)
    lines, weights = np.concatenate([axes for axes, *_ in blocks.values()]), [sum(w) for _, *w in blocks.values()]
    lower = [(each, _readable(each, lines)) for each in others if each.kind.order < order]
    lower = [(each, rows) for each, rows in lower if len(rows)]
    factor = in_dtype_of(x, factor_at(x, first.factor)) if numbers else jnp.ones((), x.dtype)
    everywhere = np.array_equal(np.sort(lines), np.arange(len(x)))
    slopes = any(each.kind.order for each, _ in lower)
    if numbers and order == 2 and _equal(weights, lines) and (len(lines) > FEW or (everywhere and not slopes)):
        # the compressed Laplacian, which has f, but no first derivatives
        value, top = taylor.value_and_laplacian(f, x, None if everywhere else lines)
        read = [each.take(rows, x).sum() * value for each, rows in lower if not each.kind.order]
        return [in_dtype_of(x, factor * weights[0][0]) * top, *read]
    stacked = in_dtype_of(x, np.concatenate(weights)) if numbers else jnp.concatenate(weights)
    value, below, top = jets.along_lines(f, x, lines, stacked, order)
    place = np.zeros(len(x), int)
    place[lines] = np.arange(len(lines))
    parts = [factor * top]
    for each, rows in lower:
        if each.kind.order:
            slopes_of = below[each.kind.order - 1][place[each.axes[rows]]]
            parts.append(jnp.tensordot(each.take(rows, x), slopes_of, 1))
        else:
            parts.append(each.take(rows, x).sum() * value)
    return parts


def _readable(each: Waiting, lines: np.ndarray) -> np.ndarray:
    """The terms left that are lower derivatives along these lines, or f itself."""
    rows = np.flatnonzero(each.left)
    near = rows[np.isin(each.axes[rows], lines)] if each.kind.order else rows
    return near[:0] if each.whole and len(near) < len(each.kind) else near


def _equal(weights: list[np.ndarray], lines: np.ndarray) -> bool:
    """Whether all weights are one number, and no line stands there twice."""
    known = np.concatenate(weights)
    return bool((known == known[0]).all()) and len(np.unique(lines)) == len(lines)
