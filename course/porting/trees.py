"""Flax's side: an NNX module's or a Linen tree's arrays by path, and back into it. Needs JAX, flax and NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from flax.core import unfreeze
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict

from course.porting.layouts import TWO_BIASES, Path, recast_cell
from course.porting.matching import Target, at, find
from course.porting.problems import PortingError, Problem

CONVOLUTIONS = {
    nnx.Conv: "Conv", nnx.ConvTranspose: "ConvTranspose", linen.Conv: "Conv", linen.ConvTranspose: "ConvTranspose",
}  # fmt: skip


def _convolutions(layers: Iterable[tuple[Path, Any]]) -> tuple[dict[Path, str], tuple[Problem, ...]]:
    """Kernels with as many channels in as out look alike: which are of convolutions, which of transposed ones."""
    kinds: dict[Path, str] = {}
    problems = []
    for path, layer in layers:
        kind = next((kind for cls, kind in CONVOLUTIONS.items() if isinstance(layer, cls)), None)
        if kind is not None:
            kinds[path] = kind
        if kind == "ConvTranspose" and layer.transpose_kernel:
            problems.append(
                Problem("", None, at(path), None, "expected transpose_kernel=False, got True",
                        "build flax's layer with transpose_kernel=False: porting flips the kernel")
            )  # fmt: skip
    return kinds, tuple(problems)


def named(thing: Any) -> str:
    """The type of a thing, for a message; or that it is a class itself."""
    return f"the class {thing.__name__}, not an instance" if isinstance(thing, type) else type(thing).__name__


class NnxTree:
    """An NNX module's arrays by path, random streams and caches aside; or those of a state, of gradients say."""

    def __init__(self, module: nnx.Module | nnx.State):
        kinds: dict[Path, str] = {}
        problems: tuple[Problem, ...] = ()
        self.module = module
        if isinstance(module, nnx.Module):
            kept = nnx.Not(nnx.Any(nnx.RngState, nnx.Cache, nnx.Intermediate))
            state = nnx.state(module, kept)
            nodes = nnx.iter_graph(module)
            kinds, problems = _convolutions((tuple(map(str, path)), node) for path, node in nodes)
        elif isinstance(module, nnx.State):
            state = module
        else:
            raise TypeError(
                f"expected an nnx.Module or an nnx.State, got {named(module)}; the torch side comes first, "
                "Linen's variables go to the functions for Linen"
            )
        streams = {path for path, variable in nnx.to_flat_state(state) if isinstance(variable, nnx.RngState)}
        flat = {path: a for path, a in flatten_dict(nnx.to_pure_dict(state)).items() if path not in streams}
        self.paths = {tuple(map(str, path)): path for path in flat}  # a list's items are numbers
        self.target = Target("nnx", {tuple(map(str, path)): array for path, array in flat.items()}, kinds, problems)

    def write(self, arrays: Mapping[Path, jax.Array]) -> Any:
        """Put arrays into the module, in place, or into a copy of the state."""
        tree = unflatten_dict({self.paths[path]: array for path, array in arrays.items()})
        if isinstance(self.module, nnx.State):
            state = jax.tree.map(lambda leaf: leaf, self.module)
            nnx.replace_by_pure_dict(state, tree)
            return state
        streams = flatten_dict(nnx.to_pure_dict(nnx.state(self.module, nnx.RngState)))
        _concrete(
            {tuple(map(str, path)): stream for path, stream in streams.items()},
            "expected a random stream with a key, got the abstract one that nnx.eval_shape leaves, and torch has none "
            "to fill it with",
            "build a module with dropout or recurrent layers itself, not its shape",
        )
        _concrete(
            {path: array for path, array in self.target.arrays.items() if path not in arrays},
            "expected an array to keep, got the shape that nnx.eval_shape leaves", "build the module itself",
        )  # fmt: skip
        nnx.update(self.module, tree)
        return self.module


class LinenTemplate(dict[str, Any]):
    """Linen variables as shapes, and which kernels are of which kind of convolution."""

    kinds: Mapping[Path, str]
    problems: tuple[Problem, ...]


def linen_template(model: linen.Module, *inputs: Any, **options: Any) -> LinenTemplate:
    """The variables of a Linen model as shapes, without computing anything; a target that says what its layers are.

    Args:
      model: a Linen module.
      inputs: an example, arrays or `jax.ShapeDtypeStruct`s.
      options: what else its `__call__` is given, train=False.
    Returns:
      A dict as `model.init` makes it, of `jax.ShapeDtypeStruct`s.
    """
    if not isinstance(model, linen.Module):
        raise TypeError(f"expected a Linen module, got {named(model)}; an nnx.Module is a target itself")
    layers: dict[Path, Any] = {}
    arrays = {number: item for number, item in enumerate(inputs) if any(map(_is_array, jax.tree.leaves(item)))}

    def init(key: jax.Array, arrays: dict[int, Any]) -> Any:  # flags, True and False, stay as they are
        return model.init(key, *(arrays.get(number, item) for number, item in enumerate(inputs)), **options)

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
        layers[context.module.path] = context.module
        return call(*args, **kwargs)

    with linen.intercept_methods(note):
        shapes = jax.eval_shape(init, jax.random.key(0), arrays)
    template = LinenTemplate(shapes)
    template.kinds, template.problems = _convolutions(layers.items())
    return template


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


class LinenTree:
    """A Linen tree's arrays by path, the collection's name taken off."""

    def __init__(self, variables: Mapping[str, Any]):
        if isinstance(variables, linen.Module):
            raise TypeError(
                f"expected Linen variables, a dict, got the module {named(variables)}; pass what its init returns, or "
                "porting.linen_template(model, x)"
            )
        if not isinstance(variables, Mapping) or isinstance(variables, nnx.State):
            raise TypeError(
                f"expected Linen variables, a dict, got {named(variables)}; the torch side comes first, NNX "
                "modules go to the functions for NNX"
            )
        self.variables, self.bare = unfreeze(dict(variables)), not variables.keys() & {"params", "batch_stats"}
        unboxed = linen.meta.unbox(self.variables)
        flat = flatten_dict({"params": unboxed} if self.bare else unboxed, keep_empty_nodes=True)
        self.empty = {path: array for path, array in flat.items() if array is empty_node or array is None}
        self.paths: dict[Path, Path] = {}
        for path in flat.keys() - self.empty.keys():
            if (other := self.paths.setdefault(path[1:], path)) != path:
                wrong = f"expected one collection that has it, got {path[0]!r} and {other[0]!r}"
                remedy = "carry one collection at a time, {'params': variables['params']}"
                raise PortingError([Problem("", None, at(path[1:]), None, wrong, remedy)])
        self.paths = {path[1:]: path for path in flat if path not in self.empty}
        arrays = {path: flat[where] for path, where in self.paths.items()}
        kinds, problems = getattr(variables, "kinds", {}), getattr(variables, "problems", ())
        self.target = Target("linen", arrays, kinds, problems)

    def write(self, arrays: Mapping[Path, jax.Array]) -> dict[str, Any]:
        """A tree of the same structure, boxes included, with these arrays; the others as they are."""
        kept = {path: array for path, array in self.target.arrays.items() if path not in arrays}
        _concrete(kept, "expected an array to keep, got a shape", "make it with model.init, not jax.eval_shape")
        flat = {self.paths[path]: {**kept, **arrays}[path] for path in self.paths}
        tree = unflatten_dict(flat | self.empty)
        tree = tree.get("params", {}) if self.bare else tree
        return linen.meta.replace_boxed(self.variables, tree)


def _concrete(arrays: Mapping[Path, Any], wrong: str, remedy: str) -> None:
    problems = [
        Problem("", None, at(path), array.shape, wrong, remedy)
        for path, array in arrays.items() if isinstance(array, jax.ShapeDtypeStruct)
    ]  # fmt: skip
    if problems:
        raise PortingError(problems)


def across(source: Target, target: Target) -> dict[Path, jax.Array]:
    """The arrays of one flax API at the other's paths, recurrent cells respelt."""
    _concrete(source.arrays, "expected an array to carry over, got a shape", "build the model itself, not its shape")
    in_linen = (source if source.side == "linen" else target).arrays
    spelt = {linen_path(path, in_linen): np.asarray(array) for path, array in source.arrays.items()}
    places, problems = {linen_path(path, in_linen): path for path in target.arrays}, []
    for path in {path[:-2] for path in places} & {path[:-2] for path in spelt}:
        cell = {p[-2:]: array for p, array in spelt.items() if len(p) > 1 and p[:-2] == path}
        wanted = {p[-2:] for p in places if len(p) > 1 and p[:-2] == path}
        if ("dense_i", "kernel") in cell.keys() ^ wanted and any(p[0] in RECURRENT for p in cell.keys() | wanted):
            leaves = {p: array for p, array in cell.items() if p[0] in RECURRENT}
            recast = recast_cell(leaves, both=wanted >= TWO_BIASES)
            if recast is None:
                problems.append(
                    Problem("", None, at(path), None, f"expected b_hn of zeros in {source.side}'s GRU, got others",
                            f"{target.side}'s fused cell has no b_hn: build course.layers.GRUCell, or zero it")
                )  # fmt: skip
            else:
                spelt = {p: a for p, a in spelt.items() if len(p) < 2 or p[:-2] != path or p[-2] not in RECURRENT}
                spelt |= {(*path, *leaf): array for leaf, array in recast.items()}
    for path in sorted(places.keys() ^ spelt.keys()):
        has, lacks = (source, target) if path in spelt else (target, source)
        shape = spelt[path].shape if path in spelt else target.arrays[places[path]].shape
        wrong = f"expected it on both sides, got it in {has.side} alone"
        problems.append(Problem("", None, at(path), shape, wrong, f"add it to {lacks.side}"))
    flipped = [{problem.flax for problem in side.problems} for side in (source, target)]
    before = {linen_path(path, in_linen): path for path in source.arrays}
    for path in sorted(places.keys() & before.keys()):
        layers = before[path][:-1], places[path][:-1]
        kinds = source.kinds.get(layers[0]), target.kinds.get(layers[1])
        turned = [at(layer) in there for layer, there in zip(layers, flipped, strict=True)]
        if path[-1] == "kernel" and None not in kinds and (kinds[0] != kinds[1] or turned[0] != turned[1]):
            there, here = (f"{kind}, transpose_kernel={flag}" for kind, flag in zip(kinds, turned, strict=True))
            wrong = f"expected the same layer in {target.side}, got {here} for {there}"
            problems.append(Problem("", None, at(path), spelt[path].shape, wrong, "build both alike"))
    for path in places.keys() & spelt.keys():
        shape = target.arrays[places[path]].shape
        if spelt[path].shape != shape:
            wrong = f"expected the same shape in {target.side}, got {shape}"
            problems.append(Problem("", None, at(path), spelt[path].shape, wrong, "build both with the same sizes"))
    if problems:
        raise PortingError(problems)
    return {place: jnp.asarray(spelt[path]) for path, place in places.items()}


RECURRENT = {"dense_i", "dense_h", "i", "h", *(f"{side}{gate}" for side in "ih" for gate in "ifgorzn")}


def linen_path(path: Path, there: Mapping[Path, Any]) -> Path:
    """The spelling of a path that Linen has; where it has none, blocks/1/if_ -> blocks_1/if."""
    if (found := find(path, there)) is not None:
        return found
    spelt: list[str] = []
    for name in path:
        if name.isdigit() and spelt:
            spelt[-1] += f"_{name}"
        else:
            spelt.append("if" if name == "if_" else name)
    return tuple(spelt)
