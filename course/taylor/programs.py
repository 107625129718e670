"""A function as a flat list of equations that can be called one by one. Needs JAX.

This is the only module that touches `jax.extend`. Lesson: 17_taylor_mode.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Constant:
    """An input that does not depend on the function's argument."""

    value: Any


Source = int | Constant
"""Where an operation's input comes from: the number of a value, or a constant."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A part of a function under `jax.checkpoint`; the two arguments are that function's."""

    policy: Callable[..., Any] | None
    prevent_cse: bool


@dataclass(frozen=True, eq=False)
class Equation:
    """One primitive operation, applied to numbered values and constants.

    Attributes:
      name: the primitive's, for instance "tanh".
      inputs: one entry per input, a value's number or a `Constant`.
      outputs: the numbers of the values it makes.
      sizes: how many entries each of these values has.
      call: the operation itself, (*inputs) -> list of outputs; it can be transformed like any JAX function and keeps
        custom derivative rules.
      smooth: what to differentiate in its place: the same without side effects, and, if `widens`, for inputs that
        `at_least_single` has converted.
      widens: whether `smooth` computes in single precision what `call` computes in bfloat16 or float16.
      params: the primitive's parameters.
      effects: whether calling it does something, such as printing, besides making values.
      parts: the parts under `jax.checkpoint` that it belongs to, the outermost first.
    """

    name: str
    inputs: tuple[Source, ...]
    outputs: tuple[int, ...]
    sizes: tuple[int, ...]
    call: Callable[..., list[Any]]
    smooth: Callable[..., list[Any]]
    widens: bool = False
    params: dict[str, Any] = field(default_factory=dict)
    effects: bool = False
    parts: tuple[Checkpoint, ...] = ()

    @property
    def values(self) -> list[int]:
        """The numbers of the values among its inputs."""
        return [i for i in self.inputs if not isinstance(i, Constant)]


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function of one or several arrays: values 0, 1, … are its arguments.

    Attributes:
      arguments: how many.
      equations: in the order in which they are run.
      outputs: value numbers or constants.
      result: shapes and dtypes of what the function returns, nested as there.
    """

    arguments: int
    equations: tuple[Equation, ...]
    outputs: tuple[Source, ...]
    result: Any


# Calls that only wrap other equations: what is inside is taken out.
_WRAPPERS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
             "checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr"}  # fmt: skip


def trace(f: Callable[..., Any], *arrays: jax.Array) -> Program:
    """Trace f at the shapes and dtypes of its arguments into a flat program."""
    return flat(*jax.make_jaxpr(f, return_shape=True)(*arrays))


def flat(closed: core.ClosedJaxpr, result: Any = None) -> Program:
    """A jaxpr as a flat program, without equations that nothing depends on."""
    count = len(closed.jaxpr.invars)
    equations: list[Equation] = []
    consts = [Constant(c) for c in closed.consts]
    outputs = _flatten(closed.jaxpr, consts, range(count), itertools.count(count), equations)
    return Program(count, tuple(_needed(equations, outputs)), tuple(outputs), result)


def traced(f: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], Any]:
    """f, traced once for all calls with arguments of these shapes; and the shapes and dtypes of what it returns."""
    closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
    function, tree = core.jaxpr_as_fun(closed), jax.tree.structure(shape)
    return lambda *args: jax.tree.unflatten(tree, function(*jax.tree.leaves(args))), shape


def as_function(closed: core.ClosedJaxpr) -> Callable[..., list[Any]]:
    """A program inside a primitive as a function."""
    return core.jaxpr_as_fun(closed)


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many it carries; the others are sliced."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    fixed, carried, _ = params["ft_in"].unpack()  # from jax 0.12 on
    return len(fixed), len(carried)


def _flatten(
    jaxpr: core.Jaxpr,
    constants: Sequence[Source],
    inputs: Sequence[Source],
    numbers: Iterator[int],
    equations: list[Equation],
    parts: tuple[Checkpoint, ...] = (),
) -> list[Source]:
    """Append a jaxpr's equations to the list, wrappers opened; returns what its outputs are."""
    known: dict[core.Var, Source] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

    def look_up(variable: core.Var | core.Literal) -> Source:
        return Constant(variable.val) if isinstance(variable, core.Literal) else known[variable]

    for eqn in jaxpr.eqns:
        inputs = [look_up(variable) for variable in eqn.invars]
        inner = eqn.params.get(_WRAPPERS.get(eqn.primitive.name, ""))
        if inner is None:
            fresh = [next(numbers) for _ in eqn.outvars]
            equations.append(_equation(jaxpr, eqn, inputs, fresh, parts))
            made: Sequence[Source] = fresh
        else:
            consts = [Constant(c) for c in getattr(inner, "consts", ())]
            within = parts
            if "policy" in eqn.params:
                within = (*parts, Checkpoint(eqn.params["policy"], eqn.params["prevent_cse"]))
            made = _flatten(getattr(inner, "jaxpr", inner), consts, inputs, numbers, equations, within)
        known.update(zip(eqn.outvars, made, strict=True))
    return [look_up(variable) for variable in jaxpr.outvars]


def _equation(
    jaxpr: core.Jaxpr,
    eqn: core.JaxprEqn,
    inputs: list[Source],
    outputs: list[int],
    parts: tuple[Checkpoint, ...],
) -> Equation:
    avals = [variable.aval for variable in (*eqn.invars, *eqn.outvars)]
    call = _caller(jaxpr, eqn)
    smooth: Callable[..., list[Any]]
    opaque = any(_is_jaxpr(part) for value in eqn.params.values() for part in _parts(value))
    widens = not opaque and any(_is_low(getattr(aval, "dtype", None)) for aval in avals)
    if widens:
        smooth = partial(_bind, eqn.primitive, {name: _widened(value) for name, value in eqn.params.items()})
    elif opaque and eqn.effects:
        smooth = _caller(jaxpr, _silenced(eqn))
    else:
        smooth = call
    sizes = tuple(getattr(variable.aval, "size", 1) for variable in eqn.outvars)
    return Equation(
        eqn.primitive.name,
        tuple(inputs),
        tuple(outputs),
        sizes,
        call,
        smooth,
        widens,
        eqn.params,
        bool(eqn.effects),
        parts,
    )


def _caller(jaxpr: core.Jaxpr, eqn: core.JaxprEqn) -> Callable[..., list[Any]]:
    """One equation as a function of all its inputs; a literal keeps its value whatever is passed for it."""
    positions = [i for i, v in enumerate(eqn.invars) if not isinstance(v, core.Literal)]
    variables = [eqn.invars[p] for p in positions]
    if len(set(variables)) < len(variables):  # x * x: two inputs of their own, so that they can differ
        avals: list[Any] = [v.aval for v in variables]  # jax types these as values without a shape
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        variables = jax.make_jaxpr(lambda *inputs: inputs)(*shapes).jaxpr.invars
        inputs = list(eqn.invars)
        for p, variable in zip(positions, variables, strict=True):
            inputs[p] = variable
        eqn = eqn.replace(invars=inputs)
    # by name, as the oldest supported jax.extend.core does not offer the type
    kept = [i for i, v in enumerate(eqn.outvars) if type(v).__name__ != "DropVar"]
    outputs = [eqn.outvars[i] for i in kept]
    single = jaxpr.replace(constvars=[], invars=variables, outvars=outputs, eqns=[eqn], effects=eqn.effects)
    function = core.jaxpr_as_fun(core.ClosedJaxpr(single, []))
    return partial(_call, function, positions, kept, len(eqn.outvars))


def _call(
    function: Callable[..., list[Any]], positions: list[int], kept: list[int], count: int, *inputs: Any
) -> list[Any]:
    outputs: list[Any] = [None] * count
    for i, output in zip(kept, function(*(inputs[p] for p in positions)), strict=True):
        outputs[i] = output
    return outputs


def _needed(equations: list[Equation], outputs: Sequence[Source]) -> list[Equation]:
    """The equations on which an output depends, and those that have an effect."""
    needed, kept = {o for o in outputs if not isinstance(o, Constant)}, []
    for equation in reversed(equations):
        if equation.effects or needed & set(equation.outputs):
            needed.update(equation.values)
            kept.append(equation)
    return kept[::-1]


# --- what rules differentiate ------------------------------------------------------------------------------


def _parts(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _is_jaxpr(value: object) -> TypeGuard[core.Jaxpr | core.ClosedJaxpr]:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def names_within(params: Mapping[str, Any]) -> set[str]:
    """The names of all primitives in the programs that a primitive is given: the body of a loop, branches."""
    names: set[str] = set()
    for part in (part for value in params.values() for part in _parts(value) if _is_jaxpr(part)):
        for eqn in getattr(part, "jaxpr", part).eqns:
            names |= {eqn.primitive.name} | names_within(eqn.params)
    return names


def _bind(primitive: core.Primitive, params: Mapping[str, Any], *inputs: Any) -> list[Any]:
    outputs = primitive.bind(*inputs, **params)
    return list(outputs) if primitive.multiple_results else [outputs]


def _widened(value: Any) -> Any:
    return np.dtype(np.float32) if isinstance(value, np.dtype) and _is_low(value) else value


def _silenced(eqn: core.JaxprEqn) -> core.JaxprEqn:
    """An equation without the equations inside it that have an effect and no output: it prints once, not per pass."""

    def silent(value: Any) -> Any:
        if isinstance(value, core.Jaxpr):  # from jax 0.12 on a closed one is one, too
            eqns = [_silenced(inner) for inner in value.eqns if inner.outvars or not inner.effects]
            effects = frozenset().union(*(inner.effects for inner in eqns))
            return value.replace(eqns=eqns, effects=effects)
        if isinstance(value, core.ClosedJaxpr):
            return value.replace(jaxpr=silent(value.jaxpr))
        return tuple(map(silent, value)) if isinstance(value, tuple) and any(map(_is_jaxpr, value)) else value

    if not eqn.effects:
        return eqn
    params = {name: silent(value) for name, value in eqn.params.items()}
    inner = [part for value in params.values() for part in _parts(value) if _is_jaxpr(part)]
    return eqn.replace(params=params, effects=frozenset().union(*(part.effects for part in inner)))


# --- dtypes ------------------------------------------------------------------------------------------------


def is_inexact(value: Any) -> bool:
    """Whether derivatives can flow through a value: real or complex floating point, and not None (an unused output)."""
    return value is not None and jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def is_real(value: Any) -> bool:
    """Whether a value is real floating point, and not None."""
    return value is not None and jnp.issubdtype(jnp.result_type(value), jnp.floating)


def _is_low(dtype: np.dtype | None) -> bool:
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def derivative_dtype(value: ArrayLike) -> np.dtype:
    """The dtype of a value's derivatives: its own, but float32 where it has less precision than that."""
    dtype = jnp.result_type(value)
    return np.dtype(np.float32) if _is_low(dtype) else dtype


def at_least_single(value: Any) -> Any:
    """A value in the dtype of its derivatives."""
    return jnp.asarray(value, derivative_dtype(value)) if _is_low(jnp.result_type(value)) else value
