"""Jets of which the lower derivatives are read, too: many terms of an operator from one propagation. Needs JAX.

Lesson: 18_stde.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from course.taylor import arguments
from course.taylor.functions import Field, _highest, _one_array, _start
from course.taylor.programs import Program, trace
from course.taylor.propagation import Lines, propagate

Table = dict[tuple[int, ...], jax.Array]
"""Orders along some axes -> that mixed partial derivative, (*out)."""


def along_lines(
    f: Field, x: jax.Array, directions: ArrayLike, weights: jax.Array, order: int
) -> tuple[jax.Array, list[jax.Array], jax.Array]:
    """f, its derivatives of order 1 … K - 1 along each line, (R, *out), and the weighted sum of those of order K.

    Weights may be complex: then two jets are pushed, one of which has the lower derivatives.
    """
    parts = [weights.real, weights.imag] if jnp.iscomplexobj(weights) else [weights]
    found = [_pushed(_one_array(f, x), x, directions, part, order)[0] for part in parts]
    value, lower, top = found[0]
    return value, lower, top if len(parts) == 1 else top + 1j * found[1][2]


def table(f: Field, x: jax.Array, powers: tuple[int, ...], wanted: Iterable[tuple[int, ...]], axes: ArrayLike) -> Table:
    """The mixed partial derivatives of the wanted orders along axes, all from the jets of the highest one.

    One axis after the other, the first innermost: a jet along an axis, of the program of the jets before it.

    Args:
      f: (d,) -> (*out).
      x: point, (d,).
      powers: the highest order along each axis.
      wanted: orders along each axis, none above `powers`.
      axes: (n,) integers, which may be traced.
    """
    axes, wanted = jnp.asarray(axes), list(wanted)
    if not powers:
        return {(): f(x)}
    inner = sorted({orders[:-1] for orders in wanted})

    def before(x: jax.Array) -> list[jax.Array]:
        found = table(f, x, powers[:-1], inner, axes[:-1])
        return [found[orders] for orders in inner]

    program = _one_array(f, x) if len(powers) == 1 else trace(before, x)
    jets = _pushed(program, x, axes[-1:], jnp.ones(1, x.dtype), powers[-1])
    columns = {
        orders: [value, *(each[0] for each in lower), top]
        for orders, (value, lower, top) in zip(inner, jets, strict=True)
    }
    return {orders: columns[orders[:-1]][orders[-1]] for orders in wanted}


def _pushed(
    program: Program, x: jax.Array, directions: ArrayLike, weights: jax.Array, order: int
) -> list[tuple[jax.Array, list[jax.Array], jax.Array]]:
    """The jets of a program's outputs, as `along_lines` returns them, each in its output's dtype."""
    order = arguments.derivative_order(order)
    start, count = arguments.lines(x, directions)
    lines = Lines(order, count, weights)
    found = []
    for y in propagate(program, [x, *_start(start, lines)], lines):
        nothing = jnp.zeros((count, *y[0].shape), y[0].dtype)
        lower = [nothing if each is None else each.astype(y[0].dtype) for each in y[1:order]]
        found.append((y[0], lower, _highest(y)))
    return found
