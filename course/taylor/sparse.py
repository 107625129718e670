"""Sparse first derivatives: at each place of a value only the few lines that move it. Needs JAX.

An orbital of one electron moves along its three coordinates, and a distance along six; the other first derivatives are
zeros. Which lines move what is known when a program is traced. Entry by entry the lines of different places need not be
the same ones, so the rules of `course.taylor.rules` carry s entries as they carry R lines, once all inputs have the
same lines at the same place. Where many lines meet, at a determinant or in attention, the dense form takes over.
Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from course.taylor import rules
from course.taylor.programs import is_real
from course.taylor.rules import Jet, Operation
from course.taylor.series import add

Numbers = np.ndarray
"""Line numbers (s, *shape), at each place without repetition and in order; R, the number of lines, stands for none."""


@dataclass(frozen=True, eq=False)
class Sparse:
    """First derivatives (R, *shape) of a value of which at most s at each place are not zero."""

    entries: jax.Array  # (s, *shape)
    numbers: Numbers  # of the entries' lines
    lines: int  # R

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array it stands for."""
        return self.lines, *self.entries.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Of the entries."""
        return self.entries.dtype

    def astype(self, dtype: DTypeLike) -> Sparse:
        """The same in another dtype."""
        return replace(self, entries=self.entries.astype(dtype))

    def spread(self, numbers: Numbers | jax.Array) -> jax.Array:
        """The derivatives along these lines, of which there may be more: (u, *shape)."""
        if isinstance(numbers, np.ndarray) and np.array_equal(numbers, self.numbers):
            return self.entries
        found = add(jnp.where(own == numbers, entry, 0) for own, entry in zip(self.numbers, self.entries, strict=True))
        assert found is not None  # s >= 1
        return found

    def dense(self) -> jax.Array:
        """The array it stands for, (R, *shape)."""
        return self.spread(jnp.arange(self.lines, dtype=np.int32).reshape(-1, *[1] * (self.entries.ndim - 1)))


def _flatten(x: Sparse) -> tuple[tuple[jax.Array], tuple[bytes, tuple[int, ...], int]]:
    return (x.entries,), (x.numbers.astype(np.int32).tobytes(), x.numbers.shape, x.lines)


def _unflatten(known: tuple[bytes, tuple[int, ...], int], parts: tuple[jax.Array]) -> Sparse:
    numbers, shape, lines = known
    return Sparse(*parts, np.frombuffer(numbers, np.int32).reshape(shape), lines)


jax.tree_util.register_pytree_node(Sparse, _flatten, _unflatten)


def transport(op: Operation, *jets: Jet) -> Sequence[Sequence[Any]] | None:
    """As `rules.transport`, for sparse first derivatives; None where dense ones are needed, or as good."""
    firsts = [x[1] for x in jets]
    if not all(isinstance(first, Sparse) for first in firsts) or len(op.outputs) != 1:
        return None
    if op.order != 2 or op.weights is not None or not all(map(is_real, [*op.values, *op.outputs])):
        return None
    op, given = _of_one_shape(op, jets)
    layout = _layout(op, [x[1].numbers for x in given], op.lines)
    if layout is None:
        return None
    inputs, output = layout
    if 4 * len(output) > op.lines:
        return [_sum(op, *given)] if op.name == "reduce_sum" else None
    spread: list[Jet] = [[x, first.spread(n), top] for (x, first, top), n in zip(given, inputs, strict=True)]
    ((moved, top),) = rules.transport(replace(op, lines=len(output)), *spread)
    assert moved is not None  # no input's is
    found: Jet = [Sparse(moved, np.broadcast_to(output, moved.shape), op.lines), top]
    return [found]


def _sum(op: Operation, x: Jet) -> Jet:
    """A sum in which many lines meet: each entry goes to its line at once, the dense array before it is never made."""
    output = op.outputs[0].shape
    kept = np.arange(op.outputs[0].size, dtype=np.int32).reshape(output)
    places = np.broadcast_to(np.expand_dims(kept, op.params["axes"]), x[0].shape)
    # a row more, for the number that stands for none: then XLA need not check all the indices; and see
    # `one_hot.OneHot.collect` on zeros that XLA knows
    moved = jax.lax.optimization_barrier(jnp.zeros((op.lines + 1, op.outputs[0].size), x[1].dtype))
    moved = moved.at[x[1].numbers, places].add(x[1].entries, mode="promise_in_bounds")
    return [moved[:-1].reshape(op.lines, *output), None if x[2] is None else op.call(x[2])[0]]


def _entrywise(op: Operation) -> bool:
    known = op.name in _ENTRYWISE or rules.RULES.get(op.name) is rules.elementwise
    return known and all(value.ndim == op.outputs[0].ndim for value in op.values)


def _of_one_shape(op: Operation, jets: Sequence[Jet]) -> tuple[Operation, Sequence[Jet]]:
    """Operations by entry also take axes of length 1 for longer ones: the same with these repeated."""
    shape = op.outputs[0].shape
    if not _entrywise(op) or all(value.shape == shape for value in op.values):
        return op, jets
    inputs, repeated = list(op.inputs), []
    for position, (x, first, top) in zip(op.moving, jets, strict=True):
        inputs[position] = jnp.broadcast_to(x, shape)
        wide = (len(first.entries), *shape)
        entries, numbers = jnp.broadcast_to(first.entries, wide), np.broadcast_to(first.numbers, wide)
        top = None if top is None else jnp.broadcast_to(top, shape)
        repeated.append([inputs[position], Sparse(entries, numbers, first.lines), top])
    return replace(op, inputs=inputs), repeated


# --- which lines move what an operation makes --------------------------------------------------------------

_ENTRYWISE = frozenset("neg copy copy_p convert_element_type add sub add_any select_n mul".split())  # noqa: SIM905


def _layout(op: Operation, numbers: list[Numbers], lines: int) -> tuple[list[Numbers], Numbers] | None:
    """The numbers to which each input is spread before the operation, and those of its output."""
    if _entrywise(op):
        common = _union(np.concatenate(numbers), lines)
        return [common] * len(numbers), common
    if op.name in _MOVES:
        count = max(map(len, numbers))
        padded = [_padded(own, count, lines) for own in numbers]
        found = [np.full((count, *jnp.shape(i)), lines, np.int32) for i in op.inputs]
        for position, own in zip(op.moving, padded, strict=True):
            found[position] = own
        moved = _MOVES[op.name](op, lines, found)
        return None if moved is None else (padded, moved)
    if op.name == "reduce_sum" or (op.name == "dot_general" and op.linear):
        return _contracted(op, numbers[0], lines)
    return None


def _contracted(op: Operation, numbers: Numbers, lines: int) -> tuple[list[Numbers], Numbers]:
    """A sum along axes: along them, all places get the lines of each other."""
    place, batch, axes = 0, cast(tuple[int, ...], ()), op.params.get("axes")
    if axes is None:
        (place,) = op.moving
        axes, batch = (pair[place] for pair in op.params["dimension_numbers"])
    last = np.moveaxis(numbers, [1 + axis for axis in axes], range(1, 1 + len(axes)))
    common = _union(last.reshape(-1, *last.shape[1 + len(axes) :]), lines)  # (u, *the other axes)
    output = op.outputs[0].ndim
    spread = np.expand_dims(common, [1 + axis for axis in axes])
    if op.name == "dot_general":  # the batch's axes come first, then those of the left and of the right side
        kept = [axis for axis in range(op.values[0].ndim) if axis not in axes]
        common = np.moveaxis(common, [1 + kept.index(axis) for axis in batch], range(1, 1 + len(batch)))
        others = [1] * (output - len(kept))
        split = common.ndim if place == 0 else 1 + len(batch)
        common = common.reshape(*common.shape[:split], *others, *common.shape[split:])
    return [spread], np.broadcast_to(common, (len(common), *op.outputs[0].shape))


def _union(numbers: Numbers, lines: int) -> Numbers:
    """At each place all the lines of (m, *shape), once and in order."""
    numbers = np.sort(numbers, axis=0)
    again = numbers[1:] == numbers[:-1]
    numbers[1:][again] = lines
    numbers = np.sort(numbers, axis=0)
    most = (numbers < lines).sum(axis=0).max(initial=1)
    return numbers[:most]


def _padded(numbers: Numbers, count: int, lines: int) -> Numbers:
    return np.concatenate([numbers, np.full((count - len(numbers), *numbers.shape[1:]), lines, np.int32)])


# --- operations that move entries ----------------------------------------------------------------------------


def _of_one(move: Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]) -> Callable[..., Numbers]:
    return lambda op, lines, found: np.stack([move(each, op.params) for each in found[0]])


def _broadcast(numbers: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for axis, size in zip(params["broadcast_dimensions"], numbers.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(numbers.reshape(shape), params["shape"])


def _slice(numbers: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    steps = params["strides"] or [1] * numbers.ndim
    return numbers[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


def _concatenate(op: Operation, lines: int, found: list[Numbers]) -> Numbers:
    return np.concatenate(found, axis=1 + op.params["dimension"])


def _gather(op: Operation, lines: int, found: list[Numbers]) -> Numbers | None:
    if op.moving != [0] or isinstance(op.inputs[1], jax.core.Tracer):
        return None  # which entries are taken depends on the run
    params = {**op.params, "fill_value": lines}
    with jax.ensure_compile_time_eval():
        return np.stack([jax.lax.gather(jnp.asarray(each), op.inputs[1], **params) for each in found[0]])


_MOVES: dict[str, Callable[[Operation, int, list[Numbers]], Numbers | None]] = {
    "reshape": _of_one(lambda numbers, params: numbers.reshape(params["new_sizes"])),
    "squeeze": _of_one(lambda numbers, params: np.squeeze(numbers, params["dimensions"])),
    "transpose": _of_one(lambda numbers, params: numbers.transpose(params["permutation"])),
    "rev": _of_one(lambda numbers, params: np.flip(numbers, params["dimensions"])),
    "broadcast_in_dim": _of_one(_broadcast), "slice": _of_one(_slice),
    "concatenate": _concatenate, "gather": _gather,
}  # fmt: skip
"""(operation, R, numbers of each input) -> the numbers of its output."""
