"""Carry weights and buffers between PyTorch, Flax NNX and Flax Linen. Needs torch, JAX and flax.

A layer is found by its path: torch's `model.blocks[1].norm` has the same path in NNX, and is
`params["blocks_1"]["norm"]` in Linen; `names` says where they differ. `course.layouts` knows each layer's layout,
`course.activations` finds the first layer whose output differs. Lesson: 06_porting_layers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from course.activations import compare
from course.layouts import WITHOUT_COUNTERPART, Leaf, Path, PortingError, Tensors, find, known, recast_cell, spellings

__all__ = [
    "PortingError", "compare", "linen_to_nnx", "linen_to_torch", "mapping", "nnx_to_linen", "nnx_to_torch",
    "torch_to_linen", "torch_to_nnx",
]  # fmt: skip

Names = Mapping[str, str]
CONTAINERS = (
    torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.ParameterList, torch.nn.ParameterDict,
)  # fmt: skip


class Mapped(NamedTuple):
    """One of flax's arrays, the torch tensors that it comes from, and what changes on the way."""

    torch: str
    torch_shape: tuple[int, ...]
    flax: str
    flax_shape: tuple[int, ...]
    rule: str


def torch_to_nnx(
    torch_module: torch.nn.Module, module: nnx.Module, names: Names | None = None, ignore: Iterable[str] = ()
) -> nnx.Module:
    """Copy a torch module's weights and buffers into an NNX module that has layers at the same paths.

    Args:
      torch_module: the source.
      module: the target, changed in place; its arrays take torch's dtypes.
      names: where a path differs: torch's path of a layer -> flax's, {"fc1": "head/dense"}.
      ignore: torch's paths of weights and buffers that the target does without, ("mask",).
    Returns:
      `module`.
    Raises:
      PortingError: a weight that is missing on one side, used twice, of another shape, or of a layer without a rule;
        64-bit numbers while JAX has x64 off; a GRU whose `b_hn` is not zero, as NNX's cell has no counterpart to it
        (Linen's has).
    """
    target = _Nnx(module)
    target.write(_as_jax(_match(torch_module, target.arrays, "nnx", names, ignore).to_flax()))
    return module


def torch_to_linen(
    torch_module: torch.nn.Module, variables: Mapping[str, Any], names: Names | None = None, ignore: Iterable[str] = ()
) -> dict[str, Any]:
    """Linen variables with a torch module's weights and buffers; arguments and errors as for `torch_to_nnx`.

    Args:
      torch_module: the source.
      variables: the target, as `model.init(key, x)` returns it, or its "params" alone (a tree with neither "params" nor
        "batch_stats" is taken for that); left unchanged.
      names, ignore: as for `torch_to_nnx`.
    Returns:
      A new tree of the same structure and shapes, in torch's dtypes.
    """
    target = _Linen(variables)
    return target.tree(_as_jax(_match(torch_module, target.arrays, "linen", names, ignore).to_flax()))


def nnx_to_torch(
    module: nnx.Module, torch_module: torch.nn.Module, names: Names | None = None, ignore: Iterable[str] = ()
) -> torch.nn.Module:
    """Copy an NNX module's weights into a torch module, in place; returns it. Arguments as for `torch_to_nnx`."""
    arrays = _Nnx(module).arrays
    return _match(torch_module, arrays, "nnx", names, ignore).to_torch(arrays)


def linen_to_torch(
    variables: Mapping[str, Any], torch_module: torch.nn.Module, names: Names | None = None, ignore: Iterable[str] = ()
) -> torch.nn.Module:
    """Copy Linen variables into a torch module, in place; returns it. Arguments as for `torch_to_linen`."""
    arrays = _Linen(variables).arrays
    return _match(torch_module, arrays, "linen", names, ignore).to_torch(arrays)


def nnx_to_linen(module: nnx.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Linen variables with an NNX module's weights; the same layers at the same paths.

    Args:
      module: the source.
      variables: the target's tree; left unchanged.
    Returns:
      A new tree of the same structure.
    Raises:
      PortingError: a weight that is missing on one side, or of another shape.
    """
    target = _Linen(variables)
    return target.tree(_across(_Nnx(module).arrays, target.arrays, "nnx", "linen"))


def linen_to_nnx(variables: Mapping[str, Any], module: nnx.Module) -> nnx.Module:
    """Copy Linen variables into an NNX module, in place; returns it. Errors as for `nnx_to_linen`."""
    target = _Nnx(module)
    target.write(_across(_Linen(variables).arrays, target.arrays, "linen", "nnx"))
    return module


def mapping(
    torch_module: torch.nn.Module,
    target: nnx.Module | Mapping[str, Any],
    names: Names | None = None,
    ignore: Iterable[str] = (),
) -> list[Mapped]:
    """What goes where, without copying anything; arguments and errors as for `torch_to_nnx` and `torch_to_linen`.

    Returns:
      A row for every array of `target` (an NNX module or Linen variables), in torch's order; then a row for what stays
      behind. `pandas.DataFrame(rows)` makes a table of it.
    """
    side, flat = ("nnx", _Nnx(target)) if isinstance(target, nnx.Module) else ("linen", _Linen(target))
    return _match(torch_module, flat.arrays, side, names, ignore).rows()


class _Nnx:
    """An NNX module's arrays by path, random streams and caches aside."""

    def __init__(self, module: nnx.Module):
        kept = nnx.Not(nnx.Any(nnx.RngState, nnx.Cache, nnx.Intermediate))
        flat = flatten_dict(nnx.to_pure_dict(nnx.state(module, kept)))
        self.module, self.paths = module, {tuple(map(str, path)): path for path in flat}  # a list's items are numbers
        self.arrays = {tuple(map(str, path)): array for path, array in flat.items()}

    def write(self, arrays: dict[Path, jax.Array]) -> None:
        streams = flatten_dict(nnx.to_pure_dict(nnx.state(self.module, nnx.RngState)))
        for path, stream in streams.items():
            if isinstance(stream, jax.ShapeDtypeStruct):
                raise PortingError(
                    f"nnx's {'/'.join(map(str, path))}: expected a random stream with a key, got the abstract one that "
                    "nnx.eval_shape leaves, and torch has none to fill it with; build a module with dropout or "
                    "recurrent layers itself, not its shape"
                )
        nnx.update(self.module, unflatten_dict({self.paths[path]: array for path, array in arrays.items()}))


class _Linen:
    """A Linen tree's arrays by path, the collection's name taken off."""

    def __init__(self, variables: Mapping[str, Any]):
        self.bare = not variables.keys() & {"params", "batch_stats"}
        flat = flatten_dict({"params": variables} if self.bare else dict(variables))
        self.paths = {path[1:]: path for path in flat}
        self.arrays = {path[1:]: array for path, array in flat.items()}

    def tree(self, arrays: dict[Path, jax.Array]) -> dict[str, Any]:
        tree = unflatten_dict({self.paths[path]: array for path, array in arrays.items()})
        return tree.get("params", {}) if self.bare else tree


@dataclass
class _Layer:
    """A torch layer, or a user's module with weights of its own; its tensors, and where they are in flax."""

    name: str
    tensors: dict[str, torch.Tensor]
    spellings: list[list[Leaf]]
    places: list[tuple[Leaf, Path]]

    def path(self, tensor: str) -> str:
        return f"{self.name}.{tensor}" if self.name else tensor

    def numpy(self) -> Tensors:
        return {name: _numpy(tensor) for name, tensor in self.tensors.items()}

    def source(self, leaf: Leaf) -> str:
        rows = "" if leaf.rows is ... else f"[{leaf.rows.start}:{leaf.rows.stop}]"
        return " + ".join(self.path(name) + rows for name in leaf.torch)

    def shown(self, leaf: Leaf | str) -> str:
        """A tensor, or the tensors of a leaf, with the shape."""
        if isinstance(leaf, str):
            return f"torch's {self.path(leaf)} {tuple(self.tensors[leaf].shape)}"
        return f"torch's {self.source(leaf)} {tuple(self.tensors[leaf.torch[0]][leaf.rows].shape)}"


@dataclass
class _Match:
    """Every layer of a torch module with its places in flax; nothing is left over on either side."""

    torch_module: torch.nn.Module
    layers: list[_Layer]
    behind: list[Mapped]

    def to_flax(self) -> dict[Path, np.ndarray]:
        return {path: leaf.read(layer.numpy()) for layer in self.layers for leaf, path in layer.places}

    def to_torch(self, arrays: Mapping[Path, Any]) -> torch.nn.Module:
        with torch.no_grad():
            for layer in self.layers:
                tensors = {name: array.copy() for name, array in layer.numpy().items()}
                for leaf, path in layer.places:
                    array, kept = np.asarray(arrays[path]), tensors[leaf.torch[0]].dtype
                    if not np.can_cast(array.dtype, kept):
                        raise PortingError(
                            f"{layer.shown(leaf)}: expected a dtype that holds {_at(path, arrays)} of {array.dtype}, "
                            f"got {kept}; make the torch module as wide first, with .double() or .float()"
                        )
                    leaf.write(array, tensors)
                for name in {name for leaf, _ in layer.places for name in leaf.torch}:
                    layer.tensors[name].copy_(_tensor(tensors[name]))
        return self.torch_module

    def rows(self) -> list[Mapped]:
        rows = []
        for layer in self.layers:
            tensors = layer.numpy()
            for leaf, path in layer.places:
                shape = tensors[leaf.torch[0]][leaf.rows].shape
                rows.append(Mapped(layer.source(leaf), shape, "/".join(path), leaf.read(tensors).shape, leaf.rule))
        return rows + self.behind


def _layers(torch_module: torch.nn.Module) -> Iterator[_Layer]:
    """The torch layers that hold weights or buffers: those with a rule whole, of others what is theirs alone."""
    inside: tuple[str, ...] = ()
    for name, module in torch_module.named_modules(remove_duplicate=False):
        if name.startswith(inside) and inside:
            continue
        tensors = {key: t for key, t in module.state_dict(keep_vars=True).items() if isinstance(t, torch.Tensor)}
        try:
            leaves = spellings(module)
        except PortingError as error:
            raise PortingError(f"torch's {name or '(root)'}, {error}") from None
        if leaves is not None:
            inside += (f"{name}.",) if name else ("",)
            # without a bias torch has None in its place
            leaves = [[leaf for leaf in spelling if tensors.keys() >= set(leaf.torch)] for spelling in leaves]
        else:
            tensors = {key: tensor for key, tensor in tensors.items() if "." not in key}
            # torch's own types are many, private ones among them; where a class is defined tells whose it is
            own = type(module).__module__.startswith("torch.nn") and not isinstance(module, CONTAINERS)
            if tensors and own:
                raise PortingError(
                    f"torch's {name or '(root)'}: expected one of {known()}, got {type(module).__name__} with "
                    f"{', '.join(f'{key} {tuple(t.shape)}' for key, t in tensors.items())}; copy its weights by hand, "
                    "or add a rule to course/layouts.py"
                )
            leaves = [[Leaf((key,), (key,)) for key in tensors]]
        if tensors:
            yield _Layer(name, tensors, leaves, [])


def _match(
    torch_module: torch.nn.Module, arrays: Mapping[Path, Any], side: str, names: Names | None, ignore: Iterable[str]
) -> _Match:
    """Give every torch tensor its places among flax's arrays, or say which one has none."""
    ignore, layers, behind = set(ignore), list(_layers(torch_module)), []
    chosen: list[list[tuple[Leaf, Path | None]]] = []  # each layer's likeliest spelling, with its places
    homes: dict[int, dict[str, Path]] = {}  # a tensor -> the torch paths that it has, with a place in flax
    for layer in layers:
        found = [[(leaf, find(layer.name, leaf.flax, arrays, names)) for leaf in leaves] for leaves in layer.spellings]
        chosen.append(max(found, key=lambda pairs: sum(place is not None for _, place in pairs)))
        for leaf, place in chosen[-1]:
            if place is not None and layer.path(leaf.torch[0]) not in ignore:
                homes.setdefault(id(layer.tensors[leaf.torch[0]]), {})[layer.path(leaf.torch[0])] = place

    filled: dict[Path, str] = {}  # flax's path -> torch's
    for layer, places in zip(layers, chosen, strict=True):
        tensors = layer.numpy()
        for name in tensors.keys() - {name for leaf, _ in places for name in leaf.torch}:
            why = "ignored" if layer.path(name) in ignore else WITHOUT_COUNTERPART.get(name)
            if why is None:
                raise PortingError(
                    f"{layer.shown(name)}: expected a weight that flax's layer has too, got one without a counterpart; "
                    f"build the layer without it, or pass ignore=[{layer.path(name)!r}]"
                )
            behind.append(Mapped(layer.path(name), tensors[name].shape, "", (), why))
        for leaf, place in places:
            path, shape = layer.path(leaf.torch[0]), tensors[leaf.torch[0]].shape
            home = homes.get(id(layer.tensors[leaf.torch[0]]), {})
            if path in ignore or (place is None and home and path not in home):
                why = "ignored" if path in ignore else f"tied to {next(iter(home))}"
                behind.append(Mapped(path, shape, "", (), why))
                continue
            if len(home) > 1:
                (one, here), (other, there), *_ = home.items()
                raise PortingError(
                    f"torch's {one} and {other} are one tensor {shape}, expected one array in {side}, got two, which "
                    f"training would part: {_at(here, arrays)} and {_at(there, arrays)}; tie them in flax too (an "
                    "embedding's `attend`), or untie them in torch"
                )
            try:
                made = leaf.read(tensors)
            except PortingError as error:
                raise PortingError(f"torch's {layer.name or '(root)'}: {error}") from None
            if place is None:
                raise PortingError(_missing(layer, leaf, made, arrays, filled, side))
            if place in filled:
                raise PortingError(
                    f"{side}'s {_at(place, arrays)}: expected one torch weight for it, got two: {filled[place]} and "
                    f"{path} {shape}; correct names="
                )
            if arrays[place].shape != made.shape:
                raise PortingError(
                    f"{layer.shown(leaf)}: expected {made.shape} in {side} ({leaf.rule}), got {_at(place, arrays)}; "
                    f"{_hint(leaf, made.shape, arrays[place].shape)}"
                )
            filled[place] = f"{path} {shape}"
            layer.places.append((leaf, place))

    for empty in arrays.keys() - filled.keys():
        weights = _some([layer.shown(name).removeprefix("torch's ") for layer in layers for name in layer.tensors])
        raise PortingError(
            f"{side}'s {_at(empty, arrays)}: expected a torch weight for it, got none; have the layer, and its bias, "
            f"on both sides or on none, or pass names=; torch has {weights}"
        )
    return _Match(torch_module, layers, behind)


def _missing(
    layer: _Layer, leaf: Leaf, made: np.ndarray, arrays: Mapping[Path, Any], filled: Collection[Path], side: str
) -> str:
    """What to say of a torch weight that flax has no place for; the likely places are those of its name and shape."""
    likely = "; give the layers the same names, or pass names="
    for guess in (guess for spelling in layer.spellings for guess in spelling):  # a cell may be spelt another way
        tail, shape = len(guess.flax), guess.read(layer.numpy()).shape
        for path, array in arrays.items():
            if (
                path not in filled
                and path[-tail:] == guess.flax
                and array.shape == shape
                and likely.startswith("; give")
            ):
                above = "/".join(path[:-tail])
                likely = f"; likely {'/'.join(path)}: rename one, or pass names={{{layer.name!r}: {above!r}}}"
    expected = "/".join((*filter(None, layer.name.split(".")), *leaf.flax))
    return (
        f"{layer.shown(leaf)}: expected {expected} {made.shape} in {side} ({leaf.rule}), got "
        f"{_some([_at(path, arrays) for path in arrays if path not in filled])}{likely}"
    )


def _some(items: list[str], most: int = 8) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "") or "nothing"


def _at(path: Path, arrays: Mapping[Path, Any]) -> str:
    return f"{'/'.join(path)} {arrays[path].shape}"


def _hint(leaf: Leaf, expected: tuple[int, ...], got: tuple[int, ...]) -> str:
    """The likely reason for a shape that does not fit."""
    if "flipped" in leaf.rule and got == (*expected[:-2], expected[-1], expected[-2]):
        return "build flax's layer with transpose_kernel=False"
    if "heads" in leaf.rule and np.prod(expected) == np.prod(got):
        return "compare the numbers of heads"
    if sorted(expected) == sorted(got):
        return "these are the same sizes in another order: are in and out exchanged, or a transpose missing?"
    if "IO" in leaf.rule and len(got) == len(expected) and (*expected[:-2], expected[-1]) == (*got[:-2], got[-1]):
        return "the input channels differ: compare groups with feature_group_count"
    return "build both with the same sizes"


def _across(source: Mapping[Path, Any], target: Mapping[Path, Any], here: str, there: str) -> dict[Path, jax.Array]:
    """The arrays of one flax API at the other's paths, recurrent cells respelt."""
    spelt = {_linen_path(path): np.asarray(array) for path, array in source.items()}
    for path in {_linen_path(path)[:-2] for path in target} & {path[:-2] for path in spelt}:
        cell = {p[-2:]: array for p, array in spelt.items() if p[:-2] == path}
        wanted = {_linen_path(p)[-2:] for p in target if _linen_path(p)[:-2] == path}
        if ("dense_i", "kernel") in cell.keys() ^ wanted:
            spelt = {p: array for p, array in spelt.items() if p[:-2] != path or p[-2:] not in cell}
            spelt |= {(*path, *leaf): array for leaf, array in recast_cell(cell).items()}
    places = {_linen_path(path): path for path in target}
    for path in places.keys() ^ spelt.keys():
        has, lacks, shape = (
            (here, there, spelt[path].shape) if path in spelt else (there, here, target[places[path]].shape)
        )
        raise PortingError(
            f"{'/'.join(path)} {shape}: expected it on both sides, got it in {has} alone; add it to {lacks}"
        )
    for path, place in places.items():
        if spelt[path].shape != target[place].shape:
            raise PortingError(
                f"{here}'s {_at(path, spelt)}: expected the same shape in {there}, got {_at(place, target)}; build "
                "both with the same sizes"
            )
    return {place: jnp.asarray(spelt[path]) for path, place in places.items()}


def _linen_path(path: Path) -> Path:
    """blocks/1/if_ -> blocks_1/if"""
    spelt: list[str] = []
    for name in path:
        if name.isdigit() and spelt:
            spelt[-1] += f"_{name}"
        else:
            spelt.append("if" if name == "if_" else name)
    return tuple(spelt)


def _as_jax(arrays: dict[Path, np.ndarray]) -> dict[Path, jax.Array]:
    wide = jax.config.jax_enable_x64  # type: ignore[attr-defined]  # jax makes its options' attributes at run time
    for path, array in arrays.items():
        if not wide and (
            array.dtype in (np.float64, np.complex128)
            or (array.dtype == np.int64 and np.any(array != array.astype(np.int32)))
        ):
            raise PortingError(
                f"{'/'.join(path)} {array.shape}: expected a dtype that JAX keeps, got {array.dtype}, which it would "
                "cut to 32 bits; call jax.config.update('jax_enable_x64', True) first, or torch_module.float()"
            )
    return {path: jnp.asarray(array) for path, array in arrays.items()}


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """A view where the tensor is on the CPU; NumPy gets its bfloat16 from JAX."""
    tensor = tensor.detach().cpu()
    return tensor.view(torch.int16).numpy().view(jnp.bfloat16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _tensor(array: np.ndarray) -> torch.Tensor:
    return (
        torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if array.dtype == jnp.bfloat16
        else torch.from_numpy(array)
    )
