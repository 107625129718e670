"""Run a torch and a flax model on one input and find the first layer where they part. Needs torch, JAX and flax.

Torch reports its layers through forward hooks, Linen through `intercept_methods`; NNX has no such thing over the whole
supported range, so its classes' `__call__` is wrapped while the model runs. Lesson: 06_porting_layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx
from torch import nn

from course.layouts import Path, find

Array = TypeVar("Array", jax.Array, torch.Tensor)

LIKELY: dict[tuple[type[nn.Module], ...], str] = {
    (nn.Linear,): "its bias, its weights",
    (nn.Conv1d, nn.Conv2d, nn.Conv3d): "padding (flax's default is SAME), strides, dilation, groups",
    (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d): "padding, strides, the flipped kernel",
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm): "epsilon, the running averages, train or eval",
    (nn.LayerNorm,): "epsilon: 1e-5 in torch, 1e-6 in flax",
    (nn.GroupNorm,): "epsilon: 1e-5 in torch, 1e-6 in flax; the number of groups",
    (nn.Embedding, nn.EmbeddingBag): "indices out of range, padding_idx",
    (nn.LSTM, nn.LSTMCell): "the first carry, the order of the axes, padding",
    (nn.GRU, nn.GRUCell): "the first carry, the order of the axes, b_hn",
    (nn.MultiheadAttention,): "the mask: True hides a position in torch and shows it in flax; dropout",
    (nn.GELU,): "approximate: False in torch, True in flax",
    (
        nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
        nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
        nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    ): "padding, strides, what an average counts",
}  # fmt: skip


class Row(NamedTuple):
    """One layer: the largest gaps of its input and of its output, and the output's largest value, in torch."""

    layer: str
    kind: str
    input_gap: float
    output_gap: float
    size: float
    shapes: str


@dataclass
class Comparison:
    """The rows in torch's order, the whole model last; `str()` says where the two part.

    Attributes:
      rows: one for every call of a layer that both sides have; `pandas.DataFrame(rows)` makes a table.
      tolerance: gaps up to tolerance * max(1, size) count as none.
      skipped: torch's layers that flax has no module for (activations, Flatten, ...).
      hints: a row's layer -> where to look if it is the first to differ.
    """

    rows: list[Row]
    tolerance: float
    skipped: list[str]
    hints: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def first(self) -> Row | None:
        """The first layer whose output differs, or None."""
        return next((row for row in self.rows if self._differs(row.output_gap, row)), None)

    def _differs(self, gap: float, row: Row) -> bool:
        return not gap <= self.tolerance * max(1.0, row.size)  # a NaN differs

    def __str__(self) -> str:
        row, common = self.first, len(self.rows) - 1
        if row is None:
            worst = max(self.rows, key=lambda row: row.output_gap)
            return (
                f"{common} layers in common, all equal within {self.tolerance:.0e}; largest gap {worst.output_gap:.1e}"
            )
        text = f"{row.layer} ({row.kind}) is the first of {common} common layers to differ: "
        text += row.shapes if np.isinf(row.output_gap) else f"by {row.output_gap:.1e}, values up to {row.size:.1e}"
        if row.kind == "whole model":
            return f"{text}; every common layer agrees: look at what follows the last one"
        if self._differs(row.input_gap, row):
            return (
                f"{text}; its input differs already: look at what stands before it (order of axes, flatten, activation)"
            )
        return f"{text}; its input agrees: look at {self.hints.get(row.layer, 'its settings')}"


class _Call(NamedTuple):
    input: np.ndarray | None
    output: np.ndarray


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
      example: the input, an array or a tuple of arrays, as torch takes it.
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
    as_tuple = tuple(example) if isinstance(example, tuple | list) else (example,)
    flax_tuple = as_tuple if flax_example is None else (
        tuple(flax_example) if isinstance(flax_example, tuple | list) else (flax_example,)
    )  # fmt: skip
    theirs = _run_torch(torch_module, [torch.from_numpy(np.array(x)) for x in as_tuple])
    inputs = [jnp.asarray(x) for x in flax_tuple]
    if isinstance(module, nnx.Module):
        ours = _run_nnx(module, inputs, flax_kwargs)
    elif module.scope is not None:
        ours = _run_linen(module, inputs, flax_kwargs)
    else:
        raise ValueError("module must hold its variables, got an unbound Linen module; pass model.bind(variables)")
    rows: list[Row] = []
    skipped: list[str] = []
    hints: dict[str, str] = {}
    layers = dict(torch_module.named_modules())
    for name, calls in theirs.items():
        place = find(name, (), ours, names) if name else ()
        if place not in ours:
            skipped.append(name)
            continue
        for k, (theirs_call, ours_call) in enumerate(zip(calls, ours[place], strict=False)):
            label = (name + f", call {k + 1}" if k else name) if name else "(output)"
            kind = type(layers[name]).__name__ if name else "whole model"
            rows.append(_row(label, kind, theirs_call, ours_call))
            hints[label] = next(
                (hint for types, hint in LIKELY.items() if isinstance(layers[name], types)), "its settings"
            )
    return Comparison(rows, tolerance, skipped, hints)


def _row(layer: str, kind: str, theirs: _Call, ours: _Call) -> Row:
    return Row(
        layer,
        kind,
        0.0 if theirs.input is None or ours.input is None else _gap(theirs.input, ours.input),
        _gap(theirs.output, ours.output),
        float(np.abs(theirs.output).max(initial=0)),
        f"{theirs.output.shape} in torch, {ours.output.shape} in flax",
    )


def _gap(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The largest difference, in the order of torch's axes that is closest; infinite where no shapes agree."""
    orders = [theirs]
    if theirs.ndim > 2:
        orders += [np.moveaxis(theirs, 1, -1), np.swapaxes(theirs, 0, 1)]
    gaps = [
        np.abs(order.astype(float) - ours.astype(float)).max(initial=0) for order in orders if order.shape == ours.shape
    ]
    return float(min(gaps, default=np.inf))


def _run_torch(module: torch.nn.Module, inputs: list[torch.Tensor]) -> dict[str, list[_Call]]:
    calls: dict[str, list[_Call]] = {}
    training = {layer: layer.training for layer in module.modules()}
    with ExitStack() as stack, torch.no_grad():
        for name, layer in module.named_modules():

            def hook(layer: torch.nn.Module, args: Any, output: Any, name: str = name) -> None:
                given, result = _first(args, torch.Tensor), _first(output, torch.Tensor)
                if result is not None:
                    call = _Call(None if given is None else _numpy(given), _numpy(result))
                    calls.setdefault(name, []).append(call)

            handle = layer.register_forward_hook(hook)
            stack.callback(handle.remove)
        try:
            module.eval()(*inputs)
        finally:
            for layer, flag in training.items():
                layer.training = flag
    return calls


def _run_nnx(module: nnx.Module, inputs: list[jax.Array], kwargs: Mapping[str, Any]) -> dict[Path, list[_Call]]:
    module = nnx.clone(module)
    module.eval()
    layers = {id(node): (path, node) for path, node in nnx.iter_graph(module) if isinstance(node, nnx.Module)}
    calls: dict[Path, list[_Call]] = {}
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


def _run_linen(module: linen.Module, inputs: list[jax.Array], kwargs: Mapping[str, Any]) -> dict[Path, list[_Call]]:
    calls: dict[Path, list[_Call]] = {}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__":
            _keep(calls, context.module.path, args, output)
        return output

    module, variables = module.unbind()
    with linen.intercept_methods(record):
        module.apply(variables, *inputs, **kwargs)
    return calls


def _keep(calls: dict[Path, list[_Call]], path: Path, args: Any, output: Any) -> None:
    given, result = _first(args, jax.Array), _first(output, jax.Array)
    if result is not None and not isinstance(result, jax.core.Tracer):  # inside a scan there are no numbers
        known = given is not None and not isinstance(given, jax.core.Tracer)
        calls.setdefault(path, []).append(_Call(np.asarray(given) if known else None, np.asarray(result)))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy, as the next layer may work in place; NumPy has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def _first(tree: Any, kind: type[Array]) -> Array | None:
    """The first array in nested tuples and dicts: a recurrent layer returns its output and its carry."""
    if isinstance(tree, kind):
        return tree
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, tuple | list):
        return next((found for item in tree if (found := _first(item, kind)) is not None), None)
    return None
