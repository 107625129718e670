"""Run a torch and a flax model on one input and find the first layer where they part. Needs JAX, flax and NumPy.

Torch reports its layers through forward hooks (`course.porting.modules`), Linen through `intercept_methods`; NNX has no
such thing over the whole supported range, so its classes' `__call__` is wrapped while the model runs.
Lesson: 06_porting_layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from course.porting.layouts import Path
from course.porting.matching import Names, Told
from course.porting.problems import PortingError

if TYPE_CHECKING:
    import torch


class Row(NamedTuple):
    """One call of a layer: the largest gaps of its input and output, the output's largest value, shapes and dtypes.

    Of several outputs it is the one that differs most, if both sides have as many, else the first.
    """

    layer: str
    kind: str
    input_gap: float
    output_gap: float
    size: float
    shapes: str
    dtypes: str


@dataclass
class Comparison:
    """The rows in torch's order, the whole model last; `str()` says where the two part.

    Attributes:
      rows: one for every call of a layer that both sides have; `pandas.DataFrame(rows)` makes a table.
      tolerance: gaps up to tolerance * max(1, size) count as none.
      skipped: torch's layers that flax has no module for (activations, Flatten, ...).
      hints: a row's layer -> where to look if it is the first to differ.
      calls: layers that are called more often on one side: -> how often in torch and in flax.
    """

    rows: list[Row]
    tolerance: float
    skipped: list[str]
    hints: Mapping[str, str] = field(default_factory=dict, repr=False)
    calls: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def first(self) -> Row | None:
        """The first layer whose output differs, or None."""
        return next((row for row in self.rows if self._differs(row.output_gap, row)), None)

    def _differs(self, gap: float, row: Row) -> bool:
        return not gap <= self.tolerance * max(1.0, row.size)  # a NaN differs

    def __str__(self) -> str:
        often = "".join(
            f"; {layer} is called {theirs} times in torch and {ours} in flax"
            for layer, (theirs, ours) in self.calls.items()
        )
        if not any(row.kind == "whole model" for row in self.rows):
            often += "; the models' own outputs are not compared: one of them has no array"
        return self._verdict() + often

    def _verdict(self) -> str:
        row, common = self.first, sum(row.kind != "whole model" for row in self.rows)
        if row is None:
            worst = max(self.rows, key=lambda row: row.output_gap)
            return (
                f"{common} layers in common, all equal within {self.tolerance:.0e}; largest gap {worst.output_gap:.1e}"
            )
        text = f"{row.layer} ({row.kind}) is the first of {common} common layers to differ: "
        text += row.shapes if np.isinf(row.output_gap) else f"by {row.output_gap:.1e}, values up to {row.size:.1e}"
        text += f" ({row.dtypes})" if "in torch" in row.dtypes else ""
        if row.kind == "whole model":
            return f"{text}; every common layer agrees: look at what follows the last one"
        if self._differs(row.input_gap, row):
            return (
                f"{text}; its input differs already: look at what stands before it (order of axes, flatten, activation)"
            )
        return f"{text}; its input agrees: look at {self.hints.get(row.layer, 'its settings')}"


class Call(NamedTuple):
    """What a layer was given first and what it returned first; its output's dtype there; what it returned besides."""

    input: np.ndarray | None
    output: np.ndarray
    dtype: str
    name: str = ""  # in a dict or dataclass of outputs
    others: tuple[tuple[np.ndarray, str, str], ...] = ()

    @property
    def outputs(self) -> list[tuple[np.ndarray, str, str]]:
        return [(self.output, self.dtype, self.name), *self.others]


def compare(
    torch_module: torch.nn.Module,
    module: nnx.Module | linen.Module,
    example: Any,
    flax_example: Any = None,
    *,
    tolerance: float = 1e-5,
    names: Mapping[str, str] | None = None,
    **flax_kwargs: Any,
) -> Comparison:
    """Run both models in eval mode and compare layer by layer; neither is changed.

    Args:
      torch_module: the reference.
      module: an NNX module, or a Linen module bound to its variables: `model.bind(variables)`.
      example: the input as torch takes it: an array, a tuple of several, or a dict of keyword arguments.
      flax_example: the same as flax takes it, where that differs (images with channels last).
      tolerance: how much is no difference: absolute up to 1, relative beyond.
      names: torch's path of a layer -> flax's, as for `porting.torch_to_nnx`.
      flax_kwargs: for the flax model's call, `train=False`.
    Returns:
      A Comparison; print it. Arrays of unlike axes (channels first or last, batch or time first) are compared in the
      order that brings them closest.
    Raises:
      ValueError: a Linen module without variables.
    """
    from course.porting import modules

    modules.tensors_of(torch_module)  # it is one
    if not isinstance(module, nnx.Module | linen.Module):
        raise TypeError(f"expected an NNX module or a bound Linen module, got {type(module).__name__}")
    args, kwargs = _arguments(example)
    theirs = modules.run(torch_module, args, kwargs)
    flax_args, flax_named = jax.tree.map(jnp.asarray, _arguments(example if flax_example is None else flax_example))
    flax_kwargs = flax_named | flax_kwargs
    if isinstance(module, nnx.Module):
        ours = _run_nnx(module, flax_args, flax_kwargs)
    elif module.scope is not None:
        ours = _run_linen(module, flax_args, flax_kwargs)
    else:
        raise ValueError("module must hold its variables, got an unbound Linen module; pass model.bind(variables)")
    rows: list[Row] = []
    skipped: list[str] = []
    hints: dict[str, str] = {}
    often: dict[str, tuple[int, int]] = {}
    layers, told = dict(torch_module.named_modules()), Told(names)
    places = Names(told, ours)
    for name, calls in theirs.items():
        place = places.find(name, "", ())[0] if name else ()
        if place is None or place not in ours:
            skipped.append(name)
            continue
        if len(calls) != len(ours[place]):
            often[name or "(output)"] = len(calls), len(ours[place])
        for k, (theirs_call, ours_call) in enumerate(zip(calls, ours[place], strict=False)):
            label = (name + f", call {k + 1}" if k else name) if name else "(output)"
            kind = type(layers[name]).__name__ if name else "whole model"
            rows.append(_row(label, kind, theirs_call, ours_call))
            hints[label] = modules.likely_slip(layers[name])
    if unused := list(told.patterns.unused(layers)):
        raise PortingError(unused)
    return Comparison(rows, tolerance, skipped, hints, often)


def _arguments(example: Any) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments: a dict is keywords, a tuple or list several inputs, anything else one."""
    if isinstance(example, dict):
        return [], example
    return (list(example) if isinstance(example, tuple | list) else [example]), {}


def _row(layer: str, kind: str, theirs: Call, ours: Call) -> Row:
    """Of several outputs the one that differs most; the first where the two sides have not as many."""
    input_gap = 0.0 if theirs.input is None or ours.input is None else _gap(theirs.input, ours.input)
    rows = []
    for (a, dtype, _), (b, other, _) in _pairs(theirs.outputs, ours.outputs):
        size, shapes = float(np.abs(a).max(initial=0)), f"{a.shape} in torch, {b.shape} in flax"
        dtypes = dtype if dtype == other else f"{dtype} in torch, {other} in flax"
        rows.append(Row(layer, kind, input_gap, _gap(a, b), size, shapes, dtypes))
    return max(rows, key=lambda row: np.nan_to_num(row.output_gap / max(1.0, row.size), nan=np.inf))


def _pairs(theirs: list, ours: list) -> Iterator[tuple]:
    """Outputs that belong together: by their names where both sides have the same, else by their order."""
    if len(theirs) != len(ours):
        return zip(theirs[:1], ours[:1], strict=True)
    names = [output[-1] for output in theirs]
    if len(set(names)) == len(names) and set(names) == {output[-1] for output in ours}:
        theirs, ours = (sorted(outputs, key=lambda output: output[-1]) for outputs in (theirs, ours))
    return zip(theirs, ours, strict=True)


def _gap(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The largest difference, in the order of torch's axes that is closest; infinite where no shapes agree."""
    orders = [theirs]
    if theirs.ndim > 2:
        orders += [np.moveaxis(theirs, 1, -1), np.swapaxes(theirs, 0, 1)]
    kind = complex if theirs.dtype.kind == "c" or ours.dtype.kind == "c" else float
    gaps = [
        np.abs(order.astype(kind) - ours.astype(kind)).max(initial=0) for order in orders if order.shape == ours.shape
    ]
    return float(min(gaps, default=np.inf))


def _run_nnx(module: nnx.Module, inputs: list[jax.Array], kwargs: Mapping[str, Any]) -> dict[Path, list[Call]]:
    module = nnx.clone(module)
    module.eval()
    layers = {id(node): (path, node) for path, node in nnx.iter_graph(module) if isinstance(node, nnx.Module)}
    calls: dict[Path, list[Call]] = {}
    running: set[int] = set()  # a subclass may call its parent's __call__: one layer, one record

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def record(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
            if id(self) not in layers or id(self) in running:
                return call(self, *args, **kwargs)
            running.add(id(self))
            output = call(self, *args, **kwargs)
            running.remove(id(self))
            _keep(calls, tuple(map(str, layers[id(self)][0])), args, output)
            return output

        return record

    with ExitStack() as stack:
        kinds = {type(node): type(node).__call__ for _, node in layers.values() if callable(node)}
        for kind, call in kinds.items():
            stack.enter_context(mock.patch.object(kind, "__call__", wrapped(call)))
        module(*inputs, **kwargs)
    return calls


def _run_linen(module: linen.Module, inputs: list[jax.Array], kwargs: Mapping[str, Any]) -> dict[Path, list[Call]]:
    calls: dict[Path, list[Call]] = {}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__":
            _keep(calls, context.module.path, args, output)
        return output

    module, variables = module.unbind()
    with linen.intercept_methods(record):
        module.apply(variables, *inputs, **kwargs)
    return calls


def _keep(calls: dict[Path, list[Call]], path: Path, args: Any, output: Any) -> None:
    given, found = first_of(args, jax.Array), list(arrays_in(output, jax.Array))
    if found and not any(isinstance(array, jax.core.Tracer) for _, array in found):  # inside a scan are no numbers
        known = given is not None and not isinstance(given, jax.core.Tracer)
        first, *others = [(np.asarray(array), str(array.dtype), name) for name, array in found]
        calls.setdefault(path, []).append(Call(np.asarray(given) if known else None, *first, tuple(others)))


def first_of(tree: Any, kind: type) -> Any:
    """The first array in nested tuples and dicts: a recurrent layer returns its output and its carry."""
    return next((array for _, array in arrays_in(tree, kind)), None)


def arrays_in(tree: Any, kind: type, name: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays in nested tuples, dicts and dataclasses, with their names in these."""
    if isinstance(tree, kind):
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from arrays_in(item, kind, f"{name}.{key}")
    elif isinstance(tree, tuple | list):
        for number, item in enumerate(tree):
            yield from arrays_in(item, kind, name and f"{name}.{number}")
    elif is_dataclass(tree):
        for entry in fields(tree):
            yield from arrays_in(getattr(tree, entry.name), kind, f"{name}.{entry.name}")
