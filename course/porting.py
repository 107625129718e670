"""Carry weights between PyTorch, Flax NNX and Flax Linen. Needs torch, JAX and flax.

A layer is found by its path: `model.hidden` in torch is `model.hidden` in NNX and `params["hidden"]` in
Linen. Both of flax's APIs store a layer's weights under the same names and in the same layout, so one rule a
layer type serves both. Shown in 02_same_numbers.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

Path = tuple[str, ...]
Weights = dict[Path, np.ndarray]  # ("hidden", "kernel") -> array in flax's layout


class PortingError(ValueError):
    """Weights that do not fit; the message names the layer, expected, got and remedy."""


# For each torch layer: its parameter -> (flax's name, the transposition that takes one layout to the other).
# A transposition of two axes is its own inverse, so the same rules serve both directions.
_RULES = {
    torch.nn.Linear: {"weight": ("kernel", (1, 0)), "bias": ("bias", (0,))},  # (out, in) <-> (in, out)
}


def torch_to_nnx(torch_module: torch.nn.Module, module: nnx.Module) -> nnx.Module:
    """Copy a torch module's weights into an NNX module that has layers at the same paths.

    Args:
      torch_module: the source; any module whose weights all sit in `torch.nn.Linear` layers.
      module: the target, changed in place; (out, in) weights become (in, out) kernels, in torch's dtype.
    Returns:
      `module`.
    Raises:
      PortingError: a layer is missing on one side, has another shape, or is of a type without a rule; or the
        weights are float64 and JAX has x64 off.
    """
    nnx.update(module, unflatten_dict(_as_jax(_fit(_from_torch(torch_module), _flat_nnx(module), "torch", "nnx"))))
    return module


def torch_to_linen(torch_module: torch.nn.Module, params: dict[str, Any]) -> dict[str, Any]:
    """Linen parameters with a torch module's weights; arguments, layouts and errors as for `torch_to_nnx`.

    Args:
      torch_module: the source.
      params: the target's tree, as `model.init(key, x)["params"]` returns it; left unchanged.
    Returns:
      A new tree of the same structure and shapes, in torch's dtype.
    """
    return unflatten_dict(_as_jax(_fit(_from_torch(torch_module), flatten_dict(params), "torch", "linen")))


def nnx_to_torch(module: nnx.Module, torch_module: torch.nn.Module) -> torch.nn.Module:
    """Copy an NNX module's weights into a torch module in place; returns it. Errors as for `torch_to_nnx`."""
    return _into_torch(_flat_nnx(module), torch_module, "nnx")


def linen_to_torch(params: dict[str, Any], torch_module: torch.nn.Module) -> torch.nn.Module:
    """Copy Linen parameters into a torch module in place; returns it. Errors as for `torch_to_nnx`."""
    return _into_torch(flatten_dict(params), torch_module, "linen")


def _flat_nnx(module: nnx.Module) -> dict[Path, jax.Array]:
    flat = flatten_dict(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    return {tuple(map(str, path)): weight for path, weight in flat.items()}  # a list's items are numbers


def _layers(torch_module: torch.nn.Module):
    """Yield (flax path, torch parameter, transposition) for every weight of a torch module."""
    for name, layer in torch_module.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        if not own:
            continue
        if type(layer) not in _RULES:
            known = ", ".join(kind.__name__ for kind in _RULES)
            raise PortingError(
                f"layer {name or '(root)'!r}: expected one of {known}, got {type(layer).__name__}; "
                "copy its weights by hand or add a rule for it"
            )
        for key, parameter in own.items():
            flax_name, axes = _RULES[type(layer)][key]
            yield (*name.split("."), flax_name) if name else (flax_name,), parameter, axes


def _from_torch(torch_module: torch.nn.Module) -> Weights:
    # a copy: NumPy would share the tensor's memory, and torch trains in place
    return {
        path: np.array(parameter.detach().cpu().numpy().transpose(axes), order="C")
        for path, parameter, axes in _layers(torch_module)
    }


def _into_torch(source: dict[Path, jax.Array], torch_module: torch.nn.Module, side: str) -> torch.nn.Module:
    source = _fit({path: np.asarray(w) for path, w in source.items()}, _from_torch(torch_module), side, "torch")
    with torch.no_grad():
        for path, parameter, axes in _layers(torch_module):
            parameter.copy_(torch.from_numpy(source[path].transpose(axes).copy()))
    return torch_module


def _fit(source: Weights, target: dict[Path, Any], source_side: str, target_side: str) -> Weights:
    """The source's weights, once every path and shape is known to agree with the target's."""
    for path in [*target, *source]:
        name, layer = "/".join(path), ".".join(path[:-1])
        if path not in source or path not in target:
            has, lacks = (target_side, source_side) if path in target else (source_side, target_side)
            there = sorted("/".join(p) for p in (target if lacks == target_side else source))
            raise PortingError(
                f"layer {layer!r}: expected {name} on both sides, got it in {has} alone ({lacks} has "
                f"{', '.join(there)}); give the layers the same names, and a bias on both sides or on none"
            )
        if source[path].shape != target[path].shape:
            raise PortingError(
                f"layer {layer!r}: expected {name} of shape {target[path].shape} as in {target_side}, got "
                f"{source[path].shape} from {source_side} (both in flax's layout); build both with the same sizes"
            )
    return source


def _as_jax(weights: Weights) -> dict[Path, jax.Array]:
    for path, weight in weights.items():
        if weight.dtype == np.float64 and not jax.config.jax_enable_x64:
            raise PortingError(
                f"layer {'.'.join(path[:-1])!r}: expected a dtype that JAX keeps, got float64, which it would cut to "
                "float32; call jax.config.update('jax_enable_x64', True) first, or torch_module.float()"
            )
    return {path: jnp.asarray(weight) for path, weight in weights.items()}
