"""A function as a flat list of equations that can be called one by one. Needs JAX.

This is the only module that touches `jax.extend`. Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core


@dataclass(frozen=True)
class Constant:
    """An input that does not depend on the function's argument."""

    value: Any


@dataclass(frozen=True)
class Equation:
    """One primitive operation, applied to numbered values and constants.

    Attributes:
      name: the primitive's, for instance "tanh".
      inputs: one entry per input, a value's number or a `Constant`.
      outputs: the numbers of the values it makes.
      call: the operation itself, (*inputs) -> list of outputs; it can be transformed like any JAX function and keeps
        custom derivative rules.
      params: the primitive's parameters.
    """

    name: str
    inputs: tuple[int | Constant, ...]
    outputs: tuple[int, ...]
    call: Callable[..., list]
    params: dict


@dataclass(frozen=True)
class Program:
    """A traced function: value 0 is its argument; `outputs` are value numbers or constants."""

    equations: tuple[Equation, ...]
    outputs: tuple[int | Constant, ...]
    tree: Any  # how the outputs were nested


# Calls that only wrap other equations: what is inside is taken out.
_WRAPPERS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
             "checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr"}  # fmt: skip


def trace(f: Callable, x: jax.Array) -> Program:
    """Trace f at the shape and dtype of x into a flat program, without equations that nothing depends on."""
    closed, shape = jax.make_jaxpr(f, return_shape=True)(x)
    numbers = iter(range(1, 10**9))
    equations: list[Equation] = []
    outputs = _flatten(closed.jaxpr, [Constant(c) for c in closed.consts], [0], numbers, equations)
    return Program(tuple(_needed(equations, outputs)), tuple(outputs), jax.tree.structure(shape))


def _flatten(jaxpr, constants, inputs, numbers: Iterator[int], equations: list[Equation]) -> list:
    """Append a jaxpr's equations to the list, wrappers opened; returns what its outputs are."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

    def look_up(variable):
        return Constant(variable.val) if isinstance(variable, core.Literal) else known[variable]

    for eqn in jaxpr.eqns:
        inputs = [look_up(variable) for variable in eqn.invars]
        inner = eqn.params.get(_WRAPPERS.get(eqn.primitive.name, ""))
        if inner is not None:
            consts = [Constant(c) for c in getattr(inner, "consts", ())]
            known.update(
                zip(
                    eqn.outvars,
                    _flatten(getattr(inner, "jaxpr", inner), consts, inputs, numbers, equations),
                    strict=True,
                )
            )
            continue
        made = {variable: next(numbers) for variable in eqn.outvars}
        known.update(made)
        call = _caller(jaxpr, eqn)
        equations.append(Equation(eqn.primitive.name, tuple(inputs), tuple(made.values()), call, eqn.params))
    return [look_up(variable) for variable in jaxpr.outvars]


def _caller(jaxpr, eqn) -> Callable[..., list]:
    """One equation as a function of all its inputs; a literal keeps its value whatever is passed for it."""
    positions = [i for i, v in enumerate(eqn.invars) if not isinstance(v, core.Literal)]
    variables = [eqn.invars[p] for p in positions]
    if len(set(variables)) < len(variables):  # x * x: two inputs of their own, so that they can differ
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in variables]
        variables = jax.make_jaxpr(lambda *inputs: inputs)(*shapes).jaxpr.invars
        inputs = list(eqn.invars)
        for p, variable in zip(positions, variables, strict=True):
            inputs[p] = variable
        eqn = eqn.replace(invars=inputs)
    kept = [i for i, v in enumerate(eqn.outvars) if type(v).__name__ != "DropVar"]
    outputs = [eqn.outvars[i] for i in kept]
    single = jaxpr.replace(constvars=[], invars=variables, outvars=outputs, eqns=[eqn])
    function = core.jaxpr_as_fun(core.ClosedJaxpr(single, []))
    return partial(_call, function, positions, kept, len(eqn.outvars))


def _call(function, positions, kept, count, *inputs) -> list:
    outputs: list = [None] * count
    for i, output in zip(kept, function(*(inputs[p] for p in positions)), strict=True):
        outputs[i] = output
    return outputs


def _needed(equations: list[Equation], outputs: list) -> list[Equation]:
    """The equations on which an output depends."""
    needed, kept = {o for o in outputs if isinstance(o, int)}, []
    for equation in reversed(equations):
        if needed & set(equation.outputs):
            needed |= {i for i in equation.inputs if isinstance(i, int)}
            kept.append(equation)
    return kept[::-1]


def is_inexact(value) -> bool:
    """Whether derivatives can flow through a value: real or complex floating point."""
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def is_real(value) -> bool:
    """Whether a value is real floating point."""
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)
