"""Torch's side: what a module tells of its layers, and where flax cannot follow. Needs torch, JAX, flax and NumPy.

A layer is known where its class and what the class does are known: a subclass with a `forward` of its own is another
layer. JAX is here for its bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from inspect import getattr_static
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from course.porting.comparison import Call, arrays_in, first_of
from course.porting.layouts import KINDS
from course.porting.matching import REFUSED, Known, Told
from course.porting.problems import Problem
from course.porting.trees import named

RULES: dict[type[nn.Module], str] = {
    nn.Linear: "Linear",
    nn.Conv1d: "Conv", nn.Conv2d: "Conv", nn.Conv3d: "Conv",
    nn.ConvTranspose1d: "ConvTranspose", nn.ConvTranspose2d: "ConvTranspose", nn.ConvTranspose3d: "ConvTranspose",
    nn.BatchNorm1d: "BatchNorm", nn.BatchNorm2d: "BatchNorm", nn.BatchNorm3d: "BatchNorm",
    nn.SyncBatchNorm: "BatchNorm",
    nn.LayerNorm: "Norm", nn.RMSNorm: "Norm", nn.GroupNorm: "Norm",
    nn.InstanceNorm1d: "Norm", nn.InstanceNorm2d: "Norm", nn.InstanceNorm3d: "Norm",
    nn.Embedding: "Embedding", nn.EmbeddingBag: "Embedding",
    nn.PReLU: "PReLU",
    nn.MultiheadAttention: "MultiheadAttention",
    nn.LSTM: "Recurrent", nn.LSTMCell: "Recurrent", nn.GRU: "Recurrent", nn.GRUCell: "Recurrent",
    nn.RNN: "Recurrent", nn.RNNCell: "Recurrent",
}  # fmt: skip
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
LAZY = (nn.UninitializedParameter, nn.UninitializedBuffer)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)

# layers, a setting, the value that flax has, and what to do about another
SETTINGS: list[tuple[tuple[type[nn.Module], ...], str, Callable[[Any], bool], str, str]] = [
    (CONVOLUTIONS, "padding_mode", lambda mode: mode == "zeros", "'zeros'",
     "build both without padding and pad the input yourself, with F.pad and jnp.pad"),
    (TRANSPOSED, "groups", lambda groups: groups == 1, "1",
     "flax's ConvTranspose has no groups: use one layer for each group"),
    (BATCH_NORMS, "track_running_stats", bool, "True",
     "flax's BatchNorm always keeps running averages: normalise by a GroupNorm, or by hand"),
    (BATCH_NORMS, "momentum", lambda momentum: momentum is not None, "0.1",
     "flax has no cumulative average: set layer.momentum"),
    (INSTANCE_NORMS, "track_running_stats", lambda tracked: not tracked, "False",
     "flax's InstanceNorm keeps no running averages"),
    ((nn.MultiheadAttention,), "add_zero_attn", lambda added: not added, "False",
     "flax's attention adds no zeros to its keys: append them to the input"),
    ((nn.MultiheadAttention,), "bias_k", lambda bias: bias is None, "None (add_bias_kv=False)",
     "flax's attention has no key and value of its own: append them to the input"),
    ((nn.Embedding, nn.EmbeddingBag), "max_norm", lambda norm: norm is None, "None",
     "flax's Embed does not clip its rows: clip the table once, or after every step"),
    ((nn.Embedding, nn.EmbeddingBag), "scale_grad_by_freq", lambda scaled: not scaled, "False",
     "flax's gradients count every row as often as it stands in the batch: divide them by these numbers yourself"),
    ((nn.LSTM,), "proj_size", lambda size: size == 0, "0",
     "flax's cells have no projection: put a Linear behind the cell, in a cell of your own"),
    (POOLS[:3], "dilation", lambda dilation: {*np.ravel(dilation)} == {1}, "1",
     "flax's pools have no dilation: gather the windows yourself"),
    (POOLS[4:], "divisor_override", lambda divisor: divisor is None, "None",
     "flax's avg_pool divides by the window's size: multiply afterwards"),
    ((*POOLS, nn.LPPool1d, nn.LPPool2d), "ceil_mode", lambda ceil: not ceil, "False",
     "flax's pools round down: pad the input so that the windows fit"),
]  # fmt: skip
# methods of a layer that may be overridden without changing what it computes
HARMLESS = {
    "__init__", "__repr__", "extra_repr", "reset_parameters", "_reset_parameters", "__setstate__", "to", "train",
}  # fmt: skip


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's weights and buffers by name; those of its `state_dict`."""
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"expected a torch module, got {named(module)}; the torch side comes first, and a state_dict or "
            "another dict of arrays goes to arrays_to_nnx and arrays_to_linen"
        )
    return {
        key: tensor for key, tensor in module.state_dict(keep_vars=True).items() if isinstance(tensor, torch.Tensor)
    }


def known_layers(module: nn.Module, told: Told) -> tuple[dict[str, Known], list[Problem]]:
    """The kind of every layer of a module, and what of it flax cannot follow; what a caller has told is believed."""
    known: dict[str, Known] = {}
    problems: list[Problem] = []
    inside: tuple[str, ...] = ()  # layers that are ported whole, or not at all
    refused: list[str] = []
    for name, layer in module.named_modules(remove_duplicate=False):
        if any(name.startswith(start) for start in inside):
            continue
        if name and told.ignore.find(name, whole=True):
            inside += (f"{name}.",)
            continue
        rule = next((cls for cls in type(layer).__mro__ if cls in RULES), None)
        has_arrays = any(True for _ in layer.parameters(recurse=False)) or any(
            True for _ in layer.buffers(recurse=False)
        )
        kind = told.kind(name) if rule is not None or has_arrays else None
        if kind in ("MultiheadAttention", "qkv"):
            known[name] = Known(kind, _heads(module, name, layer))
        if kind is None or (kind != "own" and rule is not None and _parametrized(layer)):
            problems += (found := _unlike(name, layer, rule))
            if any("a parametrized one" in problem.wrong or "a ScriptModule" in problem.wrong for problem in found):
                refused.append(name)
                inside += (f"{name}." if name else "",)
                continue
            kind = RULES[rule] if rule is not None else "own"
            known[name] = Known(kind, _heads(module, name, layer) if rule is not None else None)
        if kind == "MultiheadAttention":  # it holds a layer of its own
            out = getattr(layer, "out_proj", None)
            if out is not None and told.kind(name) is None and _parametrized(out):
                problems += _unlike(f"{name}.out_proj" if name else "out_proj", out, nn.Linear)
                refused.append(name)
            inside += (f"{name}.",) if name else ("",)
            if not name:
                break
    return {**known, **{name: Known(REFUSED) for name in refused}}, problems


def _heads(module: nn.Module, name: str, layer: nn.Module) -> int | None:
    """The number of heads that attention has, or the module that a projection stands in."""
    holder = module.get_submodule(name.rpartition(".")[0]) if isinstance(layer, nn.Linear) and name else layer
    found = [getattr(holder, key, None) for key in ("num_heads", "num_attention_heads", "n_heads", "n_head")]
    return next((heads for heads in found if type(heads) is int), None)


def _unlike(name: str, layer: nn.Module, rule: type[nn.Module] | None) -> list[Problem]:
    """Where a layer is not what its class says, or has settings that flax has not."""
    kind, here = type(layer).__name__, name or "(root)"
    if isinstance(layer, torch.jit.ScriptModule):
        remedy = (
            "port the module that it was made of, or its arrays alone: arrays_to_nnx or arrays_to_linen, with "
            "{name: tensor.numpy() for name, tensor in model.state_dict().items()}"
        )
        return [Problem(here, None, "", None, "expected layers of torch.nn, got a ScriptModule", remedy)]
    if (remedy := _parametrized(layer)) and (rule is not None or parametrize.is_parametrized(layer)):
        remedy = f"make a plain weight of it first: {remedy}"
        return [Problem(here, None, "", None, f"{kind}: expected a plain weight, got a parametrized one", remedy)]
    if type(layer).__module__.startswith("torch.nn") and (layer._forward_hooks or layer._forward_pre_hooks):
        remedy = "remove it (its handle's remove()), and put what it does into flax's model"
        if rule is not None:
            remedy += f"; if it changes no numbers, treat_as={{{name!r}: {RULES[rule]!r}}}"
        return [Problem(here, None, "", None, f"{kind}: expected no forward hook, got one", remedy)]
    if rule is not None and (changed := _overridden(layer, rule)):
        remedy = (
            f"if it computes what {rule.__name__} does, treat_as={{{name!r}: {RULES[rule]!r}}}; else carry its arrays "
            f"by name, treat_as={{{name!r}: 'own'}}, and write its forward in flax"
        )
        wrong = f"{kind}: expected the methods of {rule.__name__}, got a {' and a '.join(sorted(changed))} of its own"
        return [Problem(here, None, "", None, wrong, remedy)]
    found = []
    for kinds, setting, allowed, value, remedy in SETTINGS:
        if isinstance(layer, kinds) and not allowed(got := getattr(layer, setting)):
            shown = "a tensor" if isinstance(got, torch.Tensor) else repr(got)
            found.append(Problem(here, None, "", None, f"{kind}: expected {setting}={value}, got {shown}", remedy))
    # torch's own types are many, private ones among them; where a class is defined tells whose it is
    own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
    if rule is None and own and type(layer).__module__.startswith("torch.nn") and not isinstance(layer, CONTAINERS):
        arrays = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in own)
        rules = ", ".join(cls.__name__ for cls in RULES)
        found.append(
            Problem(here, None, "", None, f"expected one of {rules}, got {kind} with {arrays}",
                    f"carry its arrays by name, treat_as={{{name!r}: 'own'}}, or as one of {', '.join(KINDS)}")
        )  # fmt: skip
    return found


def _parametrized(layer: nn.Module) -> str:
    """How to make plain tensors of those that a layer computes anew for every call; "" where it has none such."""
    calls = []
    if parametrize.is_parametrized(layer):
        for tensor in cast(Any, layer).parametrizations:
            calls.append(f"torch.nn.utils.parametrize.remove_parametrizations(layer, {tensor!r})")
    kept = {key for key, _ in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]}
    if any(key.endswith("_orig") or (key.endswith("_g") and f"{key[:-1]}v" in kept) for key in kept):
        calls.append("remove_weight_norm, remove_spectral_norm or prune.remove of nn.utils")
    return ", ".join(calls)


def _overridden(layer: nn.Module, rule: type[nn.Module]) -> set[str]:
    """The methods of a layer that its class has written anew."""
    inherited = {name for cls in rule.__mro__ for name in vars(cls) if cls not in (nn.Module, object)}
    special = {"__call__", "__getattr__", "__getattribute__"}
    return {
        name for name in (inherited | {"forward"} | special) - HARMLESS
        if callable(getattr(rule, name, None)) and (name in special or not name.startswith("__"))
        and (getattr_static(type(layer), name) is not getattr_static(rule, name) or name in vars(layer))
    }  # fmt: skip


def to_numpy(tensor: torch.Tensor, name: str = "") -> np.ndarray:
    """A view where the tensor is on the CPU; NumPy gets its bfloat16 from JAX."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or isinstance(tensor, LAZY):
        kind = "lazy" if isinstance(tensor, LAZY) else "quantized" if tensor.is_quantized else f"{tensor.layout}"
        raise ValueError(
            f"{name}: expected a dense tensor with values, got a {kind} one on {tensor.device}; call to_dense(), "
            "dequantize(), load it to the CPU, or run the model once"
        )
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    try:
        return tensor.numpy()
    except TypeError:
        raise ValueError(
            f"{name}: expected a dtype that NumPy has, got {tensor.dtype}; convert the tensor, .float()"
        ) from None


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """The reverse."""
    array = np.array(array, order="C")  # ascontiguousarray makes one axis of none
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


# --- what `compare` runs -------------------------------------------------------------------------------------

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


def likely_slip(layer: nn.Module) -> str:
    """Where to look if this layer is the first to differ."""
    return next((hint for types, hint in LIKELY.items() if isinstance(layer, types)), "its settings")


def run(module: nn.Module, args: list[Any], kwargs: dict[str, Any]) -> dict[str, list[Call]]:
    """Run a module in eval mode on NumPy arrays: what every layer was given and returned, call by call."""
    calls: dict[str, list[Call]] = {}
    training = {layer: layer.training for layer in module.modules()}
    with ExitStack() as stack, torch.no_grad():
        for name, layer in module.named_modules():

            def hook(layer: nn.Module, args: Any, output: Any, name: str = name) -> None:
                given = first_of(args, torch.Tensor)
                found = [
                    (_seen(tensor), str(tensor.dtype).removeprefix("torch."), key)
                    for key, tensor in arrays_in(output, torch.Tensor)
                ]
                if found:  # torch's own layers return states and weights that flax's shape otherwise, or do not return
                    others = () if name and type(layer).__module__.startswith("torch.nn") else tuple(found[1:])
                    call = Call(None if given is None else _seen(given), *found[0], others)
                    calls.setdefault(name, []).append(call)

            handle = layer.register_forward_hook(hook)
            stack.callback(handle.remove)
        try:
            module.eval()(*_tensors(args), **_tensors(kwargs))
        finally:
            for layer, flag in training.items():
                layer.training = flag
    return calls


def _tensors(tree: Any) -> Any:
    """Arrays, nested in dicts, lists and tuples, as tensors; what is none stays."""
    if isinstance(tree, dict):
        return {name: _tensors(item) for name, item in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_tensors(item) for item in tree)
    return to_tensor(np.array(tree)) if isinstance(tree, np.ndarray | jax.Array | np.generic) else tree


def _seen(tensor: torch.Tensor) -> np.ndarray:
    """A copy, as the next layer may work in place; NumPy has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
