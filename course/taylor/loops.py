"""Loops and branches: a loop carries the jets of what moves in it. Needs JAX.

The body of a loop is a program like any other: jets are pushed through it once, for all its steps. Which derivatives
are zero must hold at every step. That is found by trying, as JAX does for tangents, from what goes into the first one.
A condition sees values only. Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from course.taylor import one_hot
from course.taylor.programs import Equation, as_function, derivative_dtype, flat, is_inexact, scan_counts, traced
from course.taylor.propagation import Lines, Moving, control, push
from course.taylor.rules import Jet


@control("scan")
def scan(equation: Equation, inputs: Sequence[Any], lines: Lines) -> list[Any]:
    """A loop of known length, over slices of xs; `ys` are what its steps give out."""
    params, body = equation.params, flat(equation.params["jaxpr"])
    fixed, carried = scan_counts(params)
    consts, xs = inputs[:fixed], [_swapped(_jet(i), lines) for i in inputs[fixed + carried :]]

    def step(carry: list[Jet], slices: list[Jet]) -> tuple[list[Jet], list[Jet]]:
        outputs = [_jet(o) for o in push(body, [*consts, *map(_moving, [*carry, *slices])], lines)]
        return outputs[:carried], outputs[carried:]

    slices = jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape[1:], part.dtype), xs)
    step, carry = _settle(step, [_jet(i) for i in inputs[fixed : fixed + carried]], slices)
    carry, ys = lax.scan(step, carry, xs, params["length"], params["reverse"], params["unroll"])
    return [_moving(o) for o in [*carry, *(_swapped(y, lines) for y in ys)]]


@control("while")
def while_loop(equation: Equation, inputs: Sequence[Any], lines: Lines) -> list[Any]:
    """A loop of unknown length."""
    params, body = equation.params, flat(equation.params["body_jaxpr"])
    first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    asked = [_jet(i)[0] for i in inputs[:first]]
    goes_on = as_function(params["cond_jaxpr"])

    def step(carry: list[Jet]) -> tuple[list[Jet]]:
        return ([_jet(o) for o in push(body, [*inputs[first:last], *map(_moving, carry)], lines)],)

    step, start = _settle(step, [_jet(i) for i in inputs[last:]])
    carry = lax.while_loop(
        lambda carry: goes_on(*asked, *(x[0] for x in carry))[0], lambda carry: step(carry)[0], start
    )
    return [_moving(o) for o in carry]


@control("cond")
def branch(equation: Equation, inputs: Sequence[Any], lines: Lines) -> list[Any] | None:
    """One of several programs; where only some of them make a derivative, the others make zeros."""
    if equation.params.get("branches_platforms"):  # chosen when XLA compiles
        return None
    index, *operands = inputs
    programs = [flat(each) for each in equation.params["branches"]]
    pushed = [traced(lambda p=p: [_jet(o) for o in push(p, operands, lines)]) for p in programs]
    shapes = [shape for _, shape in pushed]

    def filled(call: Callable[[], list[Jet]]) -> list[Jet]:
        found = call()
        for others in shapes:
            found = [_filled(x, other) for x, other in zip(found, others, strict=True)]
        return found

    return [_moving(o) for o in lax.switch(index, [lambda c=call: filled(c) for call, _ in pushed])]


# --- jets as pytrees: arrays, and None for zero -------------------------------------------------------------


def _jet(value: Any) -> Jet:
    """A value of a program as a jet of arrays; what does not move has nothing beside its value."""
    x = one_hot.dense(value.jet) if isinstance(value, Moving) else [value]
    if all(each is None for each in x[1:]):
        x = x[:1]
    array = x[0] if isinstance(x[0], jax.Array) else jnp.asarray(x[0], x[0].dtype)
    return [array, *(None if each is None else each.astype(derivative_dtype(array)) for each in x[1:])]


def _moving(x: Jet) -> Any:
    """The other way round; a value without entries has no derivatives."""
    return Moving(x) if is_inexact(x[0]) and x[0].size and any(each is not None for each in x[1:]) else x[0]


def _filled(x: Jet, like: Jet) -> Jet:
    """With zeros for the derivatives that it lacks and the other jet, of the same value, has."""
    x = [*x, *[None] * (len(like) - len(x))]
    like = [*like, *[None] * (len(x) - len(like))]
    return [
        jnp.zeros(o.shape, o.dtype) if each is None and o is not None else each for each, o in zip(x, like, strict=True)
    ]


def _swapped(x: Jet, lines: Lines) -> Jet:
    """The axis of steps in front of that of lines, or the other way round."""
    return [p if p is None or k not in range(1, lines.order) else jnp.swapaxes(p, 0, 1) for k, p in enumerate(x)]


def _settle(step: Callable[..., Any], carry: list[Jet], *rest: Any) -> tuple[Callable[..., Any], list[Jet]]:
    """A step (carry, …) -> (carry, …) and what goes into the first one, zeros filled in until both are alike."""

    def alike(carry: list[Jet], *rest: Any) -> Any:
        after, *others = step(carry, *rest)
        return [_filled(x, before) for x, before in zip(after, carry, strict=True)], *others

    while True:
        call, (after, *_) = traced(alike, carry, *rest)
        filled = [_filled(x, other) for x, other in zip(carry, after, strict=True)]
        if len(jax.tree.leaves(filled)) == len(jax.tree.leaves(carry)):
            return call, carry
        carry = filled
