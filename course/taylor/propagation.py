"""A jet pushed through a whole program, equation by equation. Needs JAX. Lesson: 17_taylor_mode."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from course.taylor import gram, one_hot
from course.taylor.one_hot import OneHot
from course.taylor.programs import (
    Checkpoint,
    Constant,
    Equation,
    Program,
    Source,
    at_least_single,
    derivative_dtype,
    is_inexact,
    is_real,
)
from course.taylor.rules import DifferentiationError, Jet, Operation, is_linear, not_differentiable


@dataclass(frozen=True, eq=False)
class Moving:
    """A value that moves with x.

    Attributes:
      jet: the value and its derivatives, as `course.taylor.rules` says; jet[1] may be a `OneHot` or a `Sparse`.
      affine: whether it is an affine function of x, so that jet[1] is the same at all points.
    """

    jet: Jet
    affine: bool = False


jax.tree_util.register_dataclass(Moving, data_fields=["jet"], meta_fields=["affine"])


@dataclass(frozen=True, eq=False)
class Lines:
    """What is the same for a whole propagation: the order K, the number R of lines, and their weights (None: ones)."""

    order: int
    count: int
    weights: jax.Array | None = None


def propagate(program: Program, start: Jet, lines: Lines, compress: bool = False) -> list[Jet]:
    """Push a jet through a function of one array; the outputs as jets, with zeros (None) where they do not depend on x.

    Args:
      program: what to differentiate.
      start: the jet of its argument; its first derivatives do not depend on the point.
      lines: order, number and weights.
      compress: as for `push`.
    """
    found, nothing = push(program, [Moving(start, affine=True)], lines, compress), [None] * lines.order
    return [o.jet if isinstance(o, Moving) else [jnp.asarray(o), *nothing] for o in found]


def push(program: Program, inputs: Sequence[Any], lines: Lines, compress: bool = False) -> list[Any]:
    """Run a program on values that move with x and others that do not: its outputs, each a `Moving` or plain.

    Args:
      program: what to differentiate.
      inputs: a `Moving` or a plain array for each argument.
      lines: order, number and weights.
      compress: whether to replace first derivatives by a factor of their Gram matrix where that makes them fewer;
        order 2 without weights only.
    """
    values = dict(enumerate(inputs))
    sizes = {n: jnp.size(i.jet[0] if isinstance(i, Moving) else i) for n, i in values.items()}
    equations = _wide_first(program, sizes, lines.count) if compress else program.equations
    steps = list(zip(equations, _last_uses(equations, program.outputs), strict=True))
    state = _State(values, lines, compress)
    bend = _last_bend(equations, inputs) if compress else 0
    _run(steps[:bend], state)
    state.compress = False  # no second derivative is made of first ones any more
    _run(steps[bend:], state)
    return [state.look_up(o) for o in program.outputs]


@dataclass(eq=False)
class _State:
    """Where a propagation stands: the values alive, and the lines; `rows` is how many a factor of theirs has."""

    values: dict[int, Any]
    lines: Lines
    compress: bool
    rows: int = 0

    def __post_init__(self) -> None:
        self.rows = self.width(self.values.values())

    def look_up(self, source: Source) -> Any:
        return source.value if isinstance(source, Constant) else self.values[source]

    def width(self, values: Iterable[Any]) -> int:
        return sum(_width(v, self.lines.count) for v in values) if self.compress else 0


Steps = Sequence[tuple[Equation, list[int]]]
"""Equations, each with the values that nothing needs after it."""


def _run(steps: Steps, state: _State, depth: int = 0) -> None:
    """Run equations; those of a part under `jax.checkpoint`, so many parts within others, as one."""
    for part, group in groupby(steps, lambda step: step[0].parts[depth : depth + 1]):
        if part:
            _recompute(part[0], list(group), state, depth)
            continue
        for equation, dying in group:
            results = _step(equation, [state.look_up(i) for i in equation.inputs], state.lines)
            state.values.update(zip(equation.outputs, results, strict=True))
            state.rows += state.width(results) - state.width([state.values.pop(n) for n in dying])
            if state.compress and 0 < state.rows < state.lines.count:
                _compress(state.values)
                state.lines = replace(state.lines, count=state.rows)


def _recompute(part: Checkpoint, steps: Steps, state: _State, depth: int) -> None:
    """Run a part so that a gradient computes it again: all jets go in, since compression may replace them together."""
    used = {i for equation, _ in steps for i in equation.values}
    given = {
        n: v
        for n, v in state.values.items()
        if isinstance(v, Moving | jax.Array) and (n in used or (state.compress and isinstance(v, Moving)))
    }
    arrays, unpack = _packed(given)
    inner, unpack_changed = state, unpack  # both are found when the block is traced

    def block(arrays: list[jax.Array]) -> list[jax.Array]:
        nonlocal inner, unpack_changed
        before = state.values | unpack(arrays)
        inner = replace(state, values=dict(before))
        _run(steps, inner, depth + 1)
        made, unpack_changed = _packed({n: v for n, v in inner.values.items() if v is not before.get(n)})
        return made

    made = jax.checkpoint(block, policy=part.policy, prevent_cse=part.prevent_cse)(arrays)
    kept = {n: v for n, v in state.values.items() if n in inner.values}
    state.values, state.lines, state.rows = kept | unpack_changed(made), inner.lines, inner.rows


def _packed(values: dict[int, Any]) -> tuple[list[jax.Array], Callable[[list[jax.Array]], dict[int, Any]]]:
    """The arrays in these values, each once, and how to put others in their place."""
    leaves, tree = jax.tree.flatten(values)
    unique = {id(leaf): leaf for leaf in leaves}

    def unpack(found: list[jax.Array]) -> dict[int, Any]:
        instead = dict(zip(unique, found, strict=True))
        return jax.tree.unflatten(tree, [instead[id(leaf)] for leaf in leaves])

    return list(unique.values()), unpack


Control = Callable[[Equation, Sequence[Any], Lines], list[Any] | None]
"""As `_step`, for an equation that runs programs; None leaves it to the rules of `course.taylor.rules`."""
CONTROL: dict[str, Control] = {}
"""What to do with each of them, by its primitive's name; see `loops`."""


def control(name: str) -> Callable[[Control], Control]:
    """Register a function for the operation with this name."""

    def register(function: Control) -> Control:
        CONTROL[name] = function
        return function

    return register


_FLAT = frozenset({"ceil", "floor", "round", "sign", "stop_gradient"})  # floating, and constant almost everywhere


def _step(equation: Equation, inputs: Sequence[Any], lines: Lines) -> list[Any]:
    """One equation's outputs, a `Moving` for each that moves with x, else a plain array."""
    if equation.name in CONTROL and any(isinstance(i, Moving) for i in inputs):
        try:
            found = CONTROL[equation.name](equation, inputs, lines)
        except DifferentiationError as error:
            raise not_differentiable(equation.name, lines.order, error.reason) from error
        if found is not None:
            return found
    plain = [i.jet[0] if isinstance(i, Moving) else i for i in inputs]
    outputs = _call(equation, plain)
    moving = [p for p, i in enumerate(inputs) if isinstance(i, Moving) and is_inexact(plain[p])]
    floating = [n for n, o in enumerate(outputs) if is_inexact(o) and jnp.size(o)]
    flat = equation.name in _FLAT and all(is_real(plain[p]) for p in moving)
    if not moving or not floating or flat:
        return outputs  # comparisons, indices, prints: constant almost everywhere; or empty
    if equation.widens:
        plain = [at_least_single(p) for p in plain]

    def call(*parts: jax.Array) -> list[jax.Array]:
        arguments = list(plain)
        for position, part in zip(moving, parts, strict=True):
            arguments[position] = part
        results = equation.smooth(*arguments)
        return [results[n] for n in floating]

    # where `smooth` stays in low precision (a loop, say), derivatives come down to it for this one equation
    jets = [[plain[p], *_cast(inputs[p].jet[1:], jnp.result_type(plain[p]))] for p in moving]
    values = call(*(x[0] for x in jets)) if equation.widens else [outputs[n] for n in floating]
    op = Operation(
        equation.name, equation.params, plain, moving, call, values, lines.order, lines.count, lines.weights,
        push_one_line,
    )  # fmt: skip
    affine = op.linear and all(inputs[p].affine for p in moving)
    for n, derivatives in zip(floating, one_hot.transport(op, *jets), strict=True):
        outputs[n] = Moving([outputs[n], *_cast(derivatives, derivative_dtype(outputs[n]))], affine)
    return outputs


def push_one_line(program: Program, jets: list[Jet], order: int) -> list[Jet]:
    """Jets of all arguments through a program, along one line; no entry has an axis of lines."""
    inputs = [Moving([x[0], *(None if k is None else k[None] for k in x[1:order]), x[order]]) for x in jets]
    found = []
    for o in push(program, inputs, Lines(order, 1)):
        value, *derivatives = one_hot.dense(o.jet) if isinstance(o, Moving) else [jnp.asarray(o), *[None] * order]
        found.append([value, *(None if k is None else k[0] for k in derivatives[:-1]), derivatives[-1]])
    return found


def _call(equation: Equation, inputs: Sequence[Any]) -> list[Any]:
    """The equation's outputs, under `jax.jit` too as numbers where they are indices made of known numbers."""
    known = not any(isinstance(i, jax.core.Tracer) or is_inexact(i) for i in inputs)
    if not known or equation.effects or not inputs:
        return equation.call(*inputs)
    with jax.ensure_compile_time_eval():
        return equation.call(*inputs)


def _cast(derivatives: Sequence[Any], dtype: DTypeLike) -> list[Any]:
    return [each if each is None or each.dtype == dtype else each.astype(dtype) for each in derivatives]


# --- compression -------------------------------------------------------------------------------------------


def _width(value: Any, count: int) -> int:
    """How many rows a factor has for the first derivatives of this value; of one-hot ones, too many to be made."""
    first = value.jet[1] if isinstance(value, Moving) else None
    if isinstance(first, OneHot):
        return count
    return 0 if first is None else gram.width(first)


def _compress(values: dict[int, Any]) -> None:
    """Replace the first derivatives of the values alive by a factor of their Gram matrix."""
    moving = {n: v for n, v in values.items() if isinstance(v, Moving) and v.jet[1] is not None}
    moving = {n: replace(v, jet=one_hot.dense(v.jet)) for n, v in moving.items()}
    # blocks that do not depend on the point come first: under vmap they are factored once for all points
    order = sorted(moving, key=lambda n: not moving[n].affine)
    for n, factor in zip(order, gram.factor([moving[n].jet[1] for n in order]), strict=True):
        value, _, second = moving[n].jet
        values[n] = Moving([value, factor, second], moving[n].affine)


def _wide_first(program: Program, arguments: dict[int, int], count: int) -> Sequence[Equation]:
    """The equations, those that use a wide value moved to the front as far as their inputs allow.

    Once nothing wide is alive, everything that follows sees few first derivatives. `arguments` are their sizes.
    """
    equations = program.equations
    sizes = dict(arguments)
    makers: dict[int, int] = {}  # a value -> the place of the equation that makes it
    effect: int | None = None
    waits_for: list[set[int]] = []
    for n, equation in enumerate(equations):
        waits_for.append({makers[i] for i in equation.values if i in makers})
        if equation.effects:  # they stay in their order
            waits_for[n] |= set() if effect is None else {effect}
            effect = n
        sizes.update(zip(equation.outputs, equation.sizes, strict=True))
        makers.update(dict.fromkeys(equation.outputs, n))
    followers: dict[int, list[int]] = {}
    for n, others in enumerate(waits_for):
        for other in others:
            followers.setdefault(other, []).append(n)

    def ranked(n: int) -> tuple[bool, int]:
        return all(sizes[i] < count for i in equations[n].values), n

    ready, ordered = [ranked(n) for n, others in enumerate(waits_for) if not others], []
    heapq.heapify(ready)
    while ready:
        _, n = heapq.heappop(ready)
        ordered.append(equations[n])
        for follower in followers.get(n, ()):
            waits_for[follower].discard(n)
            if not waits_for[follower]:
                heapq.heappush(ready, ranked(follower))
    return ordered


def _last_bend(equations: Sequence[Equation], inputs: Sequence[Any]) -> int:
    """The place of the last equation that is not linear in what moves."""
    moving, last = {n for n, i in enumerate(inputs) if isinstance(i, Moving)}, 0
    for place, equation in enumerate(equations):
        positions = [p for p, i in enumerate(equation.inputs) if i in moving]
        if positions:
            moving.update(equation.outputs)
            last = last if is_linear(equation.name, positions) else place
    return last


def _last_uses(equations: Sequence[Equation], outputs: Sequence[Source]) -> list[list[int]]:
    """For each equation the values that nothing needs after it."""
    last = {number: position for position, e in enumerate(equations) for number in (*e.outputs, *e.values)}
    dying: list[list[int]] = [[] for _ in equations]
    for number, position in last.items():
        if number not in outputs:
            dying[position].append(number)
    return dying
