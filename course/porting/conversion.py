"""From torch to NNX and Linen, from either back, and across; with a torch module or with arrays alone.

Needs JAX, flax and NumPy; the functions that take a torch module need torch as well. Lessons: 06_porting_layers,
07_porting_checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from course.porting import matching
from course.porting.layouts import Path
from course.porting.matching import Arrays, Mapped, Match, Target, Told, at
from course.porting.problems import PortingError, Problem
from course.porting.trees import LinenTree, NnxTree, across

if TYPE_CHECKING:
    import torch

Names = Mapping[str, str]


# --- arrays alone --------------------------------------------------------------------------------------------


def arrays_to_nnx(
    arrays: Arrays,
    module: nnx.Module,
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
    gradients: bool = False,
    template: nnx.Module | None = None,
) -> nnx.Module:
    """Copy arrays that are laid out and named as in torch into an NNX module that has layers at the same paths.

    Args:
      arrays: name -> array, as `read_checkpoint` or {name: tensor.numpy() for name, tensor in state_dict.items()}.
      module: the target, changed in place, its arrays take these dtypes; or an `nnx.State`, for gradients and
        optimizer moments, which is left alone.
      names: where a path differs: torch's path of a layer or of an array -> flax's, {"fc1": "head/dense"}. A star
        stands for one part of a path, {"h.*.attn": "blocks/*/attention"}; with none on flax's side the layers are
        stacked along the first axis, as `nn.scan` and `nnx.vmap` have them: {"h.*": "blocks"}.
      ignore: paths of layers or arrays that the other side does without, ["mask", "head"]; stars as in `names`.
      keep: flax's paths of layers or arrays that stay as they are: a new head, LoRA; Linen's also as NNX has them,
        "blocks/*/lora".
      treat_as: torch's path of a layer -> its kind, one of `course.porting.layouts.KINDS`, where names and shapes do
        not tell, or a module's class is another: {"h.*.attn.c_attn": "Conv1D"}. "qkv" and "kv" are for rows that are
        all of query, then all of key, then all of value; with other orders, head by head say, sort the rows first.
      gradients: whether these are gradients, or an optimizer's moments, instead of weights: where flax has one bias
        for two of torch's, each of the two has the whole gradient. What is told may then name nothing, a buffer.
      template: the NNX module, or what `linen_template` makes, where flax's side is a state or a tree of arrays alone,
        gradients say: it knows of square kernels whether they are of a transposed convolution.
    Returns:
      `module`.
    Raises:
      PortingError: a list of all that does not fit: an array that is missing on one side, used twice, of another
        shape; 64-bit numbers while JAX has x64 off; a key of names, ignore, keep or treat_as that names nothing; a GRU
        whose `b_hn` is not zero, as NNX's cell has no counterpart to it (Linen's has).
    """
    target, arrays = NnxTree(module), _checked(arrays)
    told = Told(names, ignore, keep, treat_as)
    found = matching.match(arrays, _knowing(target, template), told, gradients=gradients)
    return target.write(_as_jax(found.to_flax(arrays, gradients=gradients)))


def arrays_to_linen(
    arrays: Arrays,
    variables: Mapping[str, Any],
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
    gradients: bool = False,
    template: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Linen variables with arrays that are laid out and named as in torch; arguments and errors as for `arrays_to_nnx`.

    Args:
      arrays: name -> array.
      variables: the target, left unchanged: as `model.init(key, x)` returns it, or its "params" alone (a tree with
        neither "params" nor "batch_stats" is taken for that), or as `linen_template` makes it, which knows of square
        kernels whether they are of a transposed convolution.
      names, ignore, keep, treat_as, gradients, template: as for `arrays_to_nnx`.
    Returns:
      A new tree of the same structure and shapes, in these dtypes.
    """
    target, arrays = LinenTree(variables), _checked(arrays)
    told = Told(names, ignore, keep, treat_as)
    found = matching.match(arrays, _knowing(target, template), told, gradients=gradients)
    return target.write(_as_jax(found.to_flax(arrays, gradients=gradients)))


def nnx_to_arrays(
    module: nnx.Module | nnx.State,
    like: Arrays,
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
    gradients: bool = False,
    template: nnx.Module | None = None,
) -> dict[str, np.ndarray]:
    """An NNX module's arrays, laid out and named as in torch.

    Args:
      module: the source, or an `nnx.State`: gradients, an optimizer's moments.
      like: name -> array: what the result looks like, in names, shapes and dtypes; arrays that flax does without keep
        these values. The checkpoint that the model came from, say.
      names, ignore, keep, treat_as, gradients, template: as for `arrays_to_nnx`.
    """
    target, like = _knowing(NnxTree(module), template), _checked(like)
    return _back(target, like, Told(names, ignore, keep, treat_as), gradients)


def linen_to_arrays(
    variables: Mapping[str, Any],
    like: Arrays,
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
    gradients: bool = False,
    template: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Linen variables, or a tree of gradients, laid out and named as in torch; arguments as for `nnx_to_arrays`."""
    target, like = _knowing(LinenTree(variables), template), _checked(like)
    return _back(target, like, Told(names, ignore, keep, treat_as), gradients)


def _knowing(tree: NnxTree | LinenTree, template: Any) -> Target:
    """A tree's arrays, with the kinds of layers that a template knows."""
    if template is None:
        return tree.target
    known = type(tree)(template).target
    return replace(tree.target, kinds=known.kinds, problems=known.problems)


def _back(target: Target, like: Arrays, told: Told, gradients: bool) -> dict[str, np.ndarray]:
    found = matching.match(like, target, told, back=True, gradients=gradients)
    return found.to_torch(target.arrays, like, gradients=gradients)


def _checked(arrays: Arrays) -> dict[str, np.ndarray]:
    """Names and arrays, or what to pass instead."""
    if not isinstance(arrays, Mapping):
        raise TypeError(
            f"expected a dict of names and arrays, got {type(arrays).__name__}; a torch module goes to torch_to_nnx "
            "or torch_to_linen, a file to read_checkpoint"
        )
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"expected names of arrays as text, got {name!r}; write 'blocks.0.weight'")
        if isinstance(array, Mapping):
            raise TypeError(
                f"{name}: expected a NumPy array, got a dict; torch's side comes first, its names in one piece, "
                "'fc.weight'"
            )
        if not isinstance(array, np.ndarray | jax.Array | np.generic):
            raise TypeError(
                f"{name}: expected a NumPy array, got {type(array).__name__}; convert tensors with tensor.numpy()"
            )
    found = {name: np.asarray(array) for name, array in arrays.items()}
    found = {name: a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("=")) for name, a in found.items()}
    for name, array in found.items():
        if array.dtype in (np.longdouble, np.clongdouble) and array.dtype not in (np.float64, np.complex128):
            raise TypeError(f"{name}: expected numbers of 64 bits at most, got {array.dtype}; convert them with astype")
        if array.dtype.kind in "OSUMm" or array.dtype.type is np.void:
            raise TypeError(f"{name}: expected an array of numbers, got {array.dtype}; leave it out")
    return found


# --- with a torch module -------------------------------------------------------------------------------------


def torch_to_nnx(
    torch_module: torch.nn.Module,
    module: nnx.Module,
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
) -> nnx.Module:
    """Copy a torch module's weights and buffers into an NNX module that has layers at the same paths.

    What the module's layers are is known here, and their settings too: what flax cannot express is refused.

    Args:
      torch_module: the source.
      module: the target, changed in place; its arrays take torch's dtypes.
      names, ignore, keep, treat_as: as for `arrays_to_nnx`; what `treat_as` names is taken at its word.
    Returns:
      `module`.
    Raises:
      PortingError: as for `arrays_to_nnx`; and a setting that flax has not, a class with a `forward` of its own, a
        parametrized weight.
    """
    target, arrays, found = _match_module(torch_module, NnxTree, module, Told(names, ignore, keep, treat_as))
    return target.write(_as_jax(found.to_flax(arrays)))


def torch_to_linen(
    torch_module: torch.nn.Module,
    variables: Mapping[str, Any],
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
) -> dict[str, Any]:
    """Linen variables with a torch module's weights and buffers.

    Args:
      torch_module: the source.
      variables: the target, as for `arrays_to_linen`; left unchanged. Only `linen_template` tells of a square
        ConvTranspose whether its `transpose_kernel` is True; arrays alone are taken for one where it is False.
      names, ignore, keep, treat_as: as for `torch_to_nnx`, as are the errors.
    Returns:
      A new tree of the same structure and shapes, in torch's dtypes.
    """
    target, arrays, found = _match_module(torch_module, LinenTree, variables, Told(names, ignore, keep, treat_as))
    return target.write(_as_jax(found.to_flax(arrays)))


def nnx_to_torch(
    module: nnx.Module,
    torch_module: torch.nn.Module,
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
) -> torch.nn.Module:
    """Copy an NNX module's weights into a torch module, in place; returns it. Arguments as for `torch_to_nnx`."""
    return _into_module(torch_module, NnxTree, module, Told(names, ignore, keep, treat_as))


def linen_to_torch(
    variables: Mapping[str, Any],
    torch_module: torch.nn.Module,
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
) -> torch.nn.Module:
    """Copy Linen variables into a torch module, in place; returns it. Arguments as for `torch_to_linen`."""
    return _into_module(torch_module, LinenTree, variables, Told(names, ignore, keep, treat_as))


def mapping(
    source: torch.nn.Module | Arrays,
    target: nnx.Module | Mapping[str, Any],
    names: Names | None = None,
    ignore: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    treat_as: Names | None = None,
) -> list[Mapped]:
    """What goes where, without copying anything; arguments and errors as for the functions that copy.

    Args:
      source: a torch module, or arrays by torch's names.
      target: an NNX module or Linen variables.
      names, ignore, keep, treat_as: as for `arrays_to_nnx`.
    Returns:
      A row for every array of `target`, in torch's order; then a row for what stays behind. `pandas.DataFrame(rows)`
      makes a table of it.
    """
    tree: Any = NnxTree if isinstance(target, nnx.Module | nnx.State) else LinenTree
    told = Told(names, ignore, keep, treat_as)
    if isinstance(source, Mapping):
        return matching.match(_checked(source), tree(target).target, told).rows
    return _match_module(source, tree, target, told)[2].rows


def _match_module(
    torch_module: torch.nn.Module, tree: Any, flax: Any, told: Told, back: bool = False
) -> tuple[Any, dict[str, np.ndarray], Match]:
    """Flax's side as a tree, torch's arrays, and their match."""
    from course.porting import modules

    arrays = {name: modules.to_numpy(tensor, name) for name, tensor in modules.tensors_of(torch_module).items()}
    target, (known, problems) = tree(flax), modules.known_layers(torch_module, told)
    return target, arrays, matching.match(arrays, target.target, told, known=known, problems=problems, back=back)


def _into_module(torch_module: torch.nn.Module, tree: Any, flax: Any, told: Told) -> torch.nn.Module:
    import torch

    from course.porting import modules

    target, arrays, found = _match_module(torch_module, tree, flax, told, back=True)
    made, tensors = found.to_torch(target.target.arrays, arrays), modules.tensors_of(torch_module)
    problems = [
        Problem(name, tuple(tensors[name].shape), "", None, "expected a tensor with memory for all of its numbers, got "
                "an expanded one, which cannot be written to", "make it a tensor of its own in torch, .clone()")
        for name in sorted(found.torch_names)
        if any(step == 0 < size - 1 for step, size in zip(tensors[name].stride(), tensors[name].shape, strict=True))
    ]  # fmt: skip
    if problems:
        raise PortingError(problems)
    with torch.no_grad():
        for name in found.torch_names:
            tensors[name].copy_(modules.to_tensor(made[name]))
    return torch_module


# --- between NNX and Linen -----------------------------------------------------------------------------------


def nnx_to_linen(module: nnx.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Linen variables with an NNX module's weights; the same layers at the same paths.

    Args:
      module: the source.
      variables: the target's tree; left unchanged.
    Returns:
      A new tree of the same structure.
    Raises:
      PortingError: a weight that is missing on one side, or of another shape; all of them at once.
    """
    target = LinenTree(variables)
    return target.write(across(NnxTree(module).target, target.target))


def linen_to_nnx(variables: Mapping[str, Any], module: nnx.Module) -> nnx.Module:
    """Copy Linen variables into an NNX module, in place; returns it. Errors as for `nnx_to_linen`."""
    target = NnxTree(module)
    return target.write(across(LinenTree(variables).target, target.target))


def _as_jax(arrays: Mapping[Path, np.ndarray]) -> dict[Path, jax.Array]:
    wide = jax.config.jax_enable_x64  # type: ignore[attr-defined]  # jax makes its options' attributes at run time
    problems = []
    narrow = {"int64": np.int32, "uint64": np.uint32}
    for path, array in arrays.items():
        kept = narrow.get(str(array.dtype))
        if not wide and (
            array.dtype in (np.float64, np.complex128) or (kept is not None and np.any(array != array.astype(kept)))
        ):
            wrong = f"expected a dtype that JAX keeps, got {array.dtype}, which it would cut to 32 bits"
            remedy = (
                "call jax.config.update('jax_enable_x64', True) first, or convert the torch side to 32 bits, .float()"
            )
            problems.append(Problem("", None, at(path), array.shape, wrong, remedy))
    if problems:
        raise PortingError(problems)
    return {path: jnp.asarray(array) for path, array in arrays.items()}
