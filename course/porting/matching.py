"""Which of torch's arrays goes where in flax: layers by their paths, kinds by what both sides have. Needs NumPy only.

A match is made of flat mappings, so that it asks neither for torch nor for a torch module: names to arrays on torch's
side, paths to arrays on flax's. It either places every array of both sides, or lists all that is in the way.
Lesson: 06_porting_layers.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from course.porting.layouts import KINDS, NORMS, WITHOUT_COUNTERPART, Leaf, Path, Shape, likely, rows_of, spellings
from course.porting.problems import PortingError, Problem, some

Arrays = Mapping[str, np.ndarray]
"""Arrays by name, as in a state dict."""


REFUSED = "refused"  # in a kind's place: one problem says all of such a layer


class Known(NamedTuple):
    """What a module tells of a layer: its kind, and of attention the number of heads."""

    kind: str
    heads: int | None = None


@dataclass(frozen=True)
class Target:
    """Flax's side of a match.

    Attributes:
      side: "nnx" or "linen".
      arrays: by path; shapes are enough.
      kinds: a layer's path -> the kind of its module, as far as one is at hand.
      problems: settings of flax's layers that torch has no counterpart to.
    """

    side: str
    arrays: Mapping[Path, Any]
    kinds: Mapping[Path, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


class Mapped(NamedTuple):
    """One of flax's arrays, the torch tensors that it comes from, and what changes on the way."""

    torch: str
    torch_shape: tuple[int, ...]
    flax: str
    flax_shape: tuple[int, ...]
    rule: str


@dataclass
class Layer:
    """Torch arrays that go together: those of one layer, or of a module with arrays of its own."""

    name: str
    shapes: dict[str, Shape]
    known: Known | None = None

    def path(self, tensor: str) -> str:
        return f"{self.name}.{tensor}" if self.name else tensor

    def source(self, leaf: Leaf) -> str:
        """The tensors of a leaf, with the rows that it is made of."""
        size = (self.shape(leaf) or (1,))[-1 if leaf.columns else 0]
        rows = f"{leaf.part[0] * size}:{(leaf.part[0] + 1) * size}"
        rows = "" if leaf.part[1] == 1 else f"[:, {rows}]" if leaf.columns else f"[{rows}]"
        return " + ".join(self.path(name) + rows for name in leaf.torch)

    def shape(self, leaf: Leaf) -> Shape:
        """The shape of these rows."""
        return leaf.one(self.shapes[leaf.torch[0]])

    def tensors(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {name: arrays[self.path(name)] for name in self.shapes if self.path(name) in arrays}


@dataclass
class Place:
    """One of flax's arrays with the leaf that fills it, or several, stacked along a first axis."""

    path: Path
    shape: Shape
    parts: list[tuple[int | None, Layer, Leaf]]

    @property
    def stacked(self) -> bool:
        """Whether several of torch's layers are one array here."""
        return self.parts[0][0] is not None

    @property
    def torch(self) -> tuple[str, Shape]:
        """The first of its sources, with the shape."""
        _, layer, leaf = self.parts[0]
        return layer.source(leaf), layer.shape(leaf)


@dataclass
class Match:
    """Every array of both sides in its place."""

    places: list[Place]
    behind: list[Mapped]
    tied: dict[str, str] = field(default_factory=dict)  # a name without a place of its own -> that of the same memory

    def to_flax(self, arrays: Arrays, *, gradients: bool = False) -> dict[Path, np.ndarray]:
        """Flax's arrays, made of torch's."""
        made = {}
        for place in self.places:
            shape = place.shape[1:] if place.stacked else place.shape
            parts = [leaf.read(layer.tensors(arrays), shape, gradients=gradients) for _, layer, leaf in place.parts]
            made[place.path] = np.stack(parts) if place.stacked else parts[0]
        return made

    def to_torch(self, found: Mapping[Path, Any], arrays: Arrays, *, gradients: bool = False) -> dict[str, np.ndarray]:
        """Torch's arrays, made of flax's; of `arrays` the names, shapes and dtypes, and what stays as it is."""
        made = {name: np.array(array) for name, array in arrays.items()}
        problems = [
            Problem(*place.torch, at(place.path), place.shape, "expected an array to carry back, got a shape",
                    "build the model itself, not its shape")
            for place in self.places if not hasattr(found[place.path], "__array__")
        ]  # fmt: skip
        if problems:
            raise PortingError(problems)
        for place in self.places:
            array = np.asarray(found[place.path])
            for number, (_, layer, leaf) in enumerate(place.parts):
                kept = arrays[layer.path(leaf.torch[0])].dtype
                if leaf.zero and gradients:
                    wrong = "expected the gradient of b_hn too, got that of one bias for both"
                    remedy = (
                        "NNX's GRUCell has no b_hn, and cannot know its gradient: use course.layers.GRUCell or Linen's"
                    )
                    problems.append(Problem(*place.torch, at(place.path), place.shape, wrong, remedy))
                elif np.can_cast(array.dtype, kept):
                    part = array[number] if place.stacked else array
                    leaf.write(part, layer.tensors(made), gradients=gradients)
                else:
                    wrong = f"expected a dtype in torch that holds {array.dtype}, got {kept}"
                    remedy = "make the torch side as wide first, with .double() or .float()"
                    problems.append(Problem(*place.torch, at(place.path), place.shape, wrong, remedy))
        if problems:
            raise PortingError(problems)
        for name, home in self.tied.items():
            view = made[name].transpose(np.argsort([-step for step in arrays[name].strides], kind="stable"))
            order = np.argsort([-step for step in arrays[home].strides], kind="stable")
            view[...] = made[home].transpose(order).reshape(view.shape)  # in the order of their one memory
        return made

    @property
    def torch_names(self) -> set[str]:
        """Torch's arrays that flax has a place for."""
        parts = [part for place in self.places for part in place.parts]
        return {layer.path(name) for _, layer, leaf in parts for name in leaf.torch}

    @property
    def rows(self) -> list[Mapped]:
        """What goes where, in torch's order; then what stays behind."""
        rows = []
        for place in self.places:
            for number, (index, layer, leaf) in enumerate(place.parts):
                flax = at(place.path) + ("" if index is None else f"[{number}]")
                shape = place.shape if index is None else place.shape[1:]
                rows.append(Mapped(layer.source(leaf), layer.shape(leaf), flax, shape, leaf.rule))
        return rows + self.behind


def at(path: Path) -> str:
    """A path in flax as one string."""
    return "/".join(path)


# --- names ---------------------------------------------------------------------------------------------------


class Patterns:
    """Names of layers or arrays, "blocks.*.norm": a star stands for one part of a path. Knows which were of use."""

    def __init__(self, patterns: Iterable[str], what: str):
        if isinstance(patterns, str) or not isinstance(patterns, Iterable):
            remedy = f"{what}=[{patterns!r}]" if isinstance(patterns, str) else f"{what}=[]"
            raise TypeError(f"expected {what} as a collection of names, got {patterns!r}; write {remedy}")
        patterns = list(patterns)
        if wrong := [pattern for pattern in patterns if not isinstance(pattern, str)]:
            raise TypeError(f"expected {what} to hold names, got {wrong[0]!r}; write paths as text, 'blocks.0.norm'")
        self.what, self.used = what, set[str]()
        self.compiled = {pattern: _compiled(pattern) for pattern in patterns}

    def find(self, name: str, *, whole: bool = False) -> tuple[str, tuple[str, ...], str] | None:
        """The longest pattern that is `name`, or, unless `whole`, a layer above it; what its stars are; the rest."""
        found = []
        for pattern, compiled in self.compiled.items():
            if (match := compiled.match(name)) and not (whole and match.end() < len(name)):
                found.append((match.end(), -pattern.count("*"), pattern, match))
        if not found:
            return None
        *_, pattern, match = max(found, key=lambda entry: entry[:2])
        self.used.add(pattern)
        return pattern, match.groups(), name[match.end() :].removeprefix(".")

    def unused(self, there: Iterable[str]) -> Iterator[Problem]:
        """Patterns that met nothing: a slip, as nobody writes them for nothing."""
        there = list(there)
        for pattern in self.compiled.keys() - self.used:
            near = difflib.get_close_matches(pattern, [name for name in there if name != pattern], 1, 0.4)
            remedy = f"do you mean {near[0]!r}?" if near else "take it out, or correct it"
            wrong = f"expected {self.what}={pattern!r} to name something, it names nothing"
            yield Problem("", None, "", None, wrong, remedy)


def _compiled(pattern: str) -> re.Pattern[str]:
    dotted = pattern.replace("/", ".")
    return re.compile(re.escape(dotted).replace(r"\*", r"([^.]+)") + r"(?![^.])" if dotted else "")


class Told:
    """What a caller says beside the two sides: names, ignore, keep, treat_as."""

    def __init__(
        self, names: Mapping[str, str] | None = None, ignore: Iterable[str] = (), keep: Iterable[str] = (),
        treat_as: Mapping[str, str] | None = None,
    ):  # fmt: skip
        self.names, self.kinds = _texts(names, "names"), _texts(treat_as, "treat_as")
        self.patterns, self.treat_as = Patterns(self.names, "names"), Patterns(self.kinds, "treat_as")
        self.ignore, self.keep = Patterns(ignore, "ignore"), Patterns(keep, "keep")

    def kind(self, layer: str) -> str | None:
        """What `treat_as` says of a layer; of this one, not of what is inside."""
        if not layer and "" not in self.kinds:
            return None
        found = self.treat_as.find(layer, whole=True)
        return None if found is None else self.kinds[found[0]]

    def faults(self) -> Iterator[Problem]:
        """What cannot be meant."""
        for kind in sorted(set(self.kinds.values()) - KINDS.keys()):
            wrong = f"expected treat_as one of {', '.join(KINDS)}, got {kind!r}"
            yield Problem("", None, "", None, wrong, "correct it")
        for torch, flax in self.names.items():
            if not 0 <= torch.count("*") - flax.count("*") <= 1:
                wrong = (
                    f"expected names={{{torch!r}: {flax!r}}} to have as many stars on both sides, or one more in torch"
                )
                yield Problem("", None, "", None, wrong, "one star may be left, for the layers of a stack")


def _texts(given: Mapping[str, str] | None, what: str) -> dict[str, str]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"expected {what} as a dict of paths, got {given!r}; write {what}={{'fc1': ...}}")
    for path, text in (given or {}).items():
        if not isinstance(path, str) or not isinstance(text, str):
            raise TypeError(f"expected {what} to hold text, got {path!r}: {text!r}; write {what}={{'fc1': 'head'}}")
    return dict(given or {})


class Names:
    """Where flax has what torch has: by the same path, or by what `names` says."""

    def __init__(self, told: Told, there: Mapping[Path, Any]):
        self.told, self.there = told, there

    def find(self, layer: str, leaf: str, below: Path) -> tuple[Path | None, int | None]:
        """The path of an array in flax, None where there is none, and its place in a stack, None where it is alone.

        Args:
          layer: torch's path of the layer, "" for the root.
          leaf: the tensor's name below it, which `names` may give a place of its own.
          below: what flax calls it below the layer.
        """
        found = self.told.patterns.find(f"{layer}.{leaf}" if layer else leaf)
        if found is None:
            return find(_parts(layer) + below, self.there), None
        pattern, groups, rest = found
        flax, index = _filled(self.told.names[pattern], groups)
        if not rest and pattern:  # the array itself
            return find(_parts(flax), self.there), index
        rest = rest.removesuffix(leaf).removesuffix(".")
        return find(_parts(flax) + _parts(rest) + below, self.there), index


def _parts(path: str) -> Path:
    return tuple(filter(None, path.replace("/", ".").split(".")))


def _filled(flax: str, groups: tuple[str, ...]) -> tuple[str, int | None]:
    """What the stars stand for, put into flax's path; one that is left over counts the layers of a stack."""
    stars = flax.count("*")
    for group in groups[:stars]:
        flax = flax.replace("*", group, 1)
    left = groups[stars:]
    return flax, int(left[-1]) if left and left[-1].isdecimal() else None


def _in_nnx(path: Path) -> str:
    """blocks_1/norm -> blocks.1.norm"""
    return re.sub(r"_(\d+)(?![^.])", r".\1", ".".join(path))


def find(path: Path, there: Mapping[Path, Any]) -> Path | None:
    """The spelling of a path that exists in flax, or None."""
    return next((spelt for spelt in _spelt(path) if spelt in there), None)


def _spelt(path: Path) -> Iterator[Path]:
    """Items of lists and dicts are blocks/1 and heads/cat in NNX, blocks_1 and heads_cat in Linen.

    Flax's Sequential keeps its items under `layers`.
    """
    if not path:
        yield ()
        return
    for start in _spelt(path[:-1]):
        yield (*start, path[-1])
        if path[-1].isdigit():
            yield (*start, "layers", path[-1])
            yield (*start, f"layers_{path[-1]}")
        elif path[-1] == "if":  # a keyword of Python's: NNX's cell cannot have an attribute of this name
            yield (*start, "if_")
        if start:
            yield (*start[:-1], f"{start[-1]}_{path[-1]}")


# --- matching ------------------------------------------------------------------------------------------------


def layers_of(arrays: Mapping[str, Any], known: Mapping[str, Known]) -> list[Layer]:
    """Torch's arrays by layer: the part of a name before the last dot, attention with what it holds inside."""
    whole = {
        name.rpartition(".")[0] for name in arrays if name.rpartition(".")[2] in ("in_proj_weight", "q_proj_weight")
    }
    whole |= {name for name, layer in known.items() if layer.kind == "MultiheadAttention"}
    layers: dict[str, Layer] = {}
    for name, array in arrays.items():
        start = name.rpartition(".")[0]
        start = next((layer for layer in whole if not layer or start == layer or start.startswith(f"{layer}.")), start)
        layer = layers.setdefault(start, Layer(start, {}, known.get(start)))
        layer.shapes[name.removeprefix(f"{start}.") if start else name] = np.shape(array)
    return list(layers.values())


def match(
    arrays: Arrays,
    target: Target,
    told: Told,
    *,
    known: Mapping[str, Known] | None = None,
    problems: Iterable[Problem] = (),
    back: bool = False,
    gradients: bool = False,
) -> Match:
    """Give every torch array its place in flax, or say of all of them at once what is in the way.

    Args:
      arrays, target: the two sides.
      told: what the caller says of them.
      known: what a torch module says of its layers, by path.
      problems: what is wrong already.
      back: whether torch's values are to be replaced, so that nothing depends on them.
      gradients: whether they are gradients or moments.
    Raises:
      PortingError: with one problem for everything that does not fit.
    """
    return _Matching(arrays, target, told, known or {}, [*problems, *told.faults()], back, gradients).run()


class _Matching:
    """The state of one match: what is placed, what stays behind, what is wrong."""

    def __init__(
        self, arrays: Arrays, target: Target, told: Told, known: Mapping[str, Known], problems: list[Problem],
        back: bool, gradients: bool,
    ):  # fmt: skip
        self.arrays, self.target, self.told, self.problems = arrays, target, told, problems
        self.back, self.gradients = back, gradients
        self.kept = {path for path in target.arrays if told.keep.find(".".join(path)) or told.keep.find(_in_nnx(path))}
        self.there = {path: array for path, array in target.arrays.items() if path not in self.kept}
        self.names = Names(told, self.there)
        self.problems += [problem for problem in target.problems if not told.keep.find(problem.flax)]
        refused = [name for name, layer in known.items() if layer.kind == REFUSED]
        self.layers = [
            layer for layer in layers_of(arrays, known)
            if not any(not name or layer.name == name or layer.name.startswith(f"{name}.") for name in refused)
        ]  # fmt: skip
        self.refused = bool(refused)
        self.has_conv1d = "Conv1D" in self.told.kinds.values() or any(map(_is_wide, self.layers))
        self.behind: list[Mapped] = []
        self.tied: dict[str, str] = {}
        self.places: dict[Path, Place] = {}

    def run(self) -> Match:
        chosen = [(layer, *self.choose(layer)) for layer in self.layers]
        homes = self.homes(chosen)
        self.check_overlaps(chosen)
        for layer, kind, found in chosen:
            self.place(layer, kind, found, homes)
        self.check_stacks()
        for path in self.there:
            if path in self.places or self.told.ignore.find(".".join(path)) or self.refused:
                continue
            self.wrong(
                None, None, path, "expected a torch weight for it, got none",
                f"have the layer, and its bias, on both sides or on none, or pass names= or keep=[{at(path)!r}]",
            )  # fmt: skip
        torch_names = [name for layer in self.layers for name in (layer.name, *map(layer.path, layer.shapes))]
        for patterns, there in (
            (self.told.patterns, torch_names), (self.told.ignore, torch_names), (self.told.treat_as, torch_names),
            (self.told.keep, list(map(at, self.target.arrays))),
        ):  # fmt: skip
            if not self.gradients and not self.refused:  # of what was told for the weights, some names only buffers
                self.problems += patterns.unused(there)
        if self.problems:
            raise PortingError(self.problems)
        return Match(list(self.places.values()), self.behind, self.tied)

    def wrong(self, layer: Layer | None, leaf: Leaf | str | None, path: Path | None, wrong: str, remedy: str) -> None:
        torch: tuple[str, Shape | None] = ("", None)
        if layer is not None and isinstance(leaf, Leaf):
            torch = layer.source(leaf), layer.shape(leaf)
        elif layer is not None:
            torch = (layer.path(leaf), layer.shapes[leaf]) if isinstance(leaf, str) else (layer.name or "(root)", None)
        flax: tuple[str, Shape | None] = ("", None)
        if path is not None:
            flax = at(path), np.shape(self.target.arrays[path])
        self.problems.append(Problem(*torch, *flax, wrong, remedy))

    def ignored(self, layer: Layer, tensor: str) -> bool:
        return self.told.ignore.find(layer.path(tensor)) is not None

    def choose(self, layer: Layer) -> tuple[str, list[tuple[Leaf, Path | None, int | None]]]:
        """A layer's kind and the spelling that flax has, with the places of its leaves."""
        told = self.told.kind(layer.name)
        if told in KINDS:
            kinds = [told]
        elif layer.known and not (layer.known.kind == "Norm" and len(layer.shapes.get("weight", ())) > 1):
            kinds = [layer.known.kind]
        else:
            kinds = [*NORMS] if layer.known else likely(layer.shapes)
        found = []
        for kind in kinds:
            spelt = spellings(kind, layer.shapes)
            if spelt is None and (told in KINDS or layer.known):
                wrong = f"expected the tensors of a {kind}, got {layer.shapes}"
                self.wrong(layer, None, None, wrong, "correct treat_as" if told else "say what it is by treat_as=")
            for leaves in spelt or []:
                leaves = [self.without_ignored(layer, leaf) for leaf in leaves]
                places = [(leaf, *self.names.find(layer.name, leaf.torch[0], leaf.flax)) for leaf in leaves]
                found.append((kind, places))
        if not found:
            return "own", []
        most = max(_found(places) for _, places in found)
        best = [(kind, places) for kind, places in found if _found(places) == most]
        best = [entry for entry in best if entry[0] != "own"] or best
        if len({kind for kind, _ in best}) > 1 and most:
            best = self.decided(layer, best)
        kind, places = best[0]
        if kind == "Linear" and not told and not layer.known and self.has_conv1d:
            rows, columns = layer.shapes["weight"]
            if rows == columns:
                wrong = (
                    f"expected to be told what it is where others are Conv1D, got {layer.shapes['weight']}, which fits"
                )
                remedy = f"say which, treat_as={{{layer.name!r}: 'Conv1D'}} or 'Linear'"
                self.wrong(layer, "weight", None, f"{wrong} both", remedy)
        for name in sorted(layer.shapes.keys() - {name for leaf, *_ in places for name in leaf.torch}):
            path, index = self.names.find(layer.name, name, (name,))
            if path is not None:  # a layer with more than its kind has, on both sides: LoRA
                places.append((Leaf((name,), (name,)), path, index))
        return kind, places

    def without_ignored(self, layer: Layer, leaf: Leaf) -> Leaf:
        """Of two biases that flax adds, the one that is not ignored."""
        left = tuple(name for name in leaf.torch if not self.ignored(layer, name))
        if not left or left == leaf.torch:
            return leaf
        return replace(leaf, torch=left, zero=leaf.zero if left[0] == leaf.torch[0] else None)

    def decided(self, layer: Layer, best: list) -> list:
        """Of several kinds that flax's names allow, the one of flax's module, or the only one whose shapes fit."""
        first = next(path for _, path, _ in best[0][1] if path is not None)
        if (kind := self.target.kinds.get(first[:-1])) is not None:
            return [entry for entry in best if entry[0] == kind] or best
        fitting = [entry for entry in best if all(self.fits(layer, *place) for place in entry[1])]
        if len({kind for kind, _ in fitting}) > 1:
            kinds = " and ".join(kind for kind, _ in fitting)
            remedy = f"say which, treat_as={{{layer.name!r}: {fitting[0][0]!r}}}"
            if "ConvTranspose" in kinds:
                remedy += ", or pass flax's module, which knows, as the target or as template=: an nnx.Module, or "
                remedy += "porting.linen_template(model, x)"
            self.wrong(
                layer, "weight", first, f"expected weights of one kind of layer, got some that fit {kinds}", remedy
            )
        return fitting or best

    def fits(self, layer: Layer, leaf: Leaf, path: Path | None, index: int | None) -> bool:
        if path is None:
            return True
        shape = np.shape(self.target.arrays[path])
        return leaf.fits(leaf.made(layer.shapes), shape if index is None else shape[1:])

    def homes(self, chosen: list) -> dict[tuple, dict[str, Path]]:
        """Memory that holds a tensor -> the names that the tensor has, with a place in flax."""
        homes: dict[tuple, dict[str, Path]] = defaultdict(dict)
        if self.gradients:  # one array may stand for several gradients
            return homes
        for layer, _, found in chosen:
            for leaf, path, _ in found:
                name = layer.path(leaf.torch[0])
                if path is not None and not self.ignored(layer, leaf.torch[0]):
                    homes[_memory(self.arrays[name], name)][name] = path
        return homes

    def check_overlaps(self, chosen: list) -> None:
        """Tensors that are parts of others: flax's arrays have memory of their own."""
        found = {
            layer.path(name): (layer, leaf, path)
            for layer, _, leaves in chosen for leaf, path, _ in leaves for name in leaf.torch
            if path is not None and not self.gradients and not self.ignored(layer, name)
        }  # fmt: skip
        spans = sorted((*_span(self.arrays[name]), name) for name in found)
        furthest: tuple[int, str] | None = None
        for start, end, name in spans:
            if furthest is not None and start < furthest[0]:
                one, other = self.arrays[furthest[1]], self.arrays[name]
                if _memory(one, "") != _memory(other, "") and _overlap(one, other):
                    layer, leaf, path = found[name]
                    self.wrong(
                        layer, leaf, path,
                        f"expected memory of its own, got some that {furthest[1]} has too, which training would part",
                        f"give it its own in torch, .clone(), or pass ignore=[{name!r}] and take it from the other in "
                        "flax",
                    )  # fmt: skip
            furthest = max(furthest or (end, name), (end, name))

    def place(self, layer: Layer, kind: str, found: list, homes: dict) -> None:
        told = {name for leaf, *_ in found for name in leaf.torch}
        for name in (name for name in layer.shapes if name not in told):
            why = "ignored" if self.ignored(layer, name) else WITHOUT_COUNTERPART.get(name)
            if why is None:
                self.wrong(
                    layer, name, None, "expected a weight that flax's layer has too, got one without a counterpart",
                    f"build the layer without it, or pass ignore=[{layer.path(name)!r}]",
                )  # fmt: skip
            else:
                self.behind.append(Mapped(layer.path(name), layer.shapes[name], "", (), why))
        for leaf, path, index in found:
            self.place_leaf(layer, kind, leaf, path, index, homes)

    def place_leaf(
        self, layer: Layer, kind: str, leaf: Leaf, path: Path | None, index: int | None, homes: dict
    ) -> None:
        name = layer.path(leaf.torch[0])
        home = homes.get(_memory(self.arrays[name], name), {})
        if (ignored := self.ignored(layer, leaf.torch[0])) or (path is None and home and name not in home):
            why = "ignored" if ignored else f"tied to {next(iter(home))}"
            if not ignored:
                self.tied[name] = next(iter(home))
            self.behind.append(Mapped(name, layer.shapes[leaf.torch[0]], "", (), why))
            return
        if path is None:
            self.missing(layer, kind, leaf)
            return
        if len(home) > 1 and name != next(iter(home)):
            (one, here), *_ = home.items()
            self.wrong(
                layer, leaf, path,
                f"expected one array in {self.target.side} for {one} and {name}, which are one tensor, got two, which "
                f"training would part: {at(here)} and {at(path)}",
                "tie them in flax too (an embedding's `attend`), or untie them in torch",
            )  # fmt: skip
        cut = -1 if leaf.columns else 0
        uneven = [
            layer.shapes[n] for n in leaf.torch if leaf.part[1] > 1 and (layer.shapes[n] or (1,))[cut] % leaf.part[1]
        ]
        if uneven:
            wrong = f"expected rows that can be cut into {leaf.part[1]}, got {uneven[0]}"
            self.wrong(layer, leaf, path, wrong, "is it of another kind? say so by treat_as=, or cut it yourself")
            return
        if leaf.zero and not self.back and not self.gradients and rows_of(self.arrays[name], leaf.zero).any():
            self.wrong(
                layer, leaf, path, f"expected zeros in the last third of {leaf.torch[0]} (b_hn), got others",
                "NNX's GRUCell has no b_hn, and no other weight can stand in for it: build course.layers.GRUCell or "
                "Linen's, which have one, or zero it",
            )  # fmt: skip
        shape, made = np.shape(self.target.arrays[path]), leaf.made(layer.shapes)
        one = shape if index is None else shape[1:]
        if not leaf.fits(made, one):
            what = f" ({leaf.rule})" if leaf.rule != "as it is" else ""
            self.wrong(
                layer, leaf, path, f"expected {made} in {self.target.side}{what}, got {one}", hint(leaf, made, one)
            )
        elif (
            layer.known and layer.known.heads and leaf.axes and len(one) == 3
            and (len(leaf.flax) > 1 or path[-2:-1] in (("query",), ("out",)))  # keys and values may share heads
        ):  # fmt: skip
            heads = one[0] if path[-2] == "out" else one[1]
            if heads != layer.known.heads:
                wrong = f"expected {layer.known.heads} heads in {self.target.side}, got {heads} in {one}"
                self.wrong(layer, leaf, path, wrong, "compare the numbers of heads")
        first = self.places.get(path)
        if first is not None and index is not None and first.stacked:
            dtypes = {str(self.arrays[other.path(there.torch[0])].dtype) for _, other, there in first.parts}
            if (dtype := str(self.arrays[name].dtype)) not in dtypes:
                wrong = f"expected one dtype in a stack, got {dtype} after {', '.join(dtypes)}"
                self.wrong(layer, leaf, path, wrong, "convert the layers of torch to one dtype")
        if path in self.places and (index is None or not self.places[path].stacked):
            _, other, there = self.places[path].parts[0]
            self.wrong(
                layer, leaf, path, f"expected one torch weight for it, got two: {other.source(there)} and {name}",
                "correct names=",
            )  # fmt: skip
            return
        self.places.setdefault(path, Place(path, shape, [])).parts.append((index, layer, leaf))

    def missing(self, layer: Layer, kind: str, leaf: Leaf) -> None:
        """Say what flax has instead; the likely place is the first free one of its name and shape."""
        kept, _ = Names(self.told, self.target.arrays).find(layer.name, leaf.torch[0], leaf.flax)
        if kept is not None:
            remedy = f"say that it is not wanted, ignore=[{layer.path(leaf.torch[0])!r}], or do not keep it"
            self.wrong(layer, leaf, kept, "expected a place for it, got one that keep= leaves alone", remedy)
            return
        free = [path for path in self.there if path not in self.places]
        made, likely = leaf.made(layer.shapes), "give the layers the same names, or pass names="
        others = spellings(kind, layer.shapes) or []  # a cell may be spelt another way
        for guess in (guess for spelt in others for guess in spelt):
            tail = len(guess.flax)
            shapes = {path: np.shape(self.target.arrays[path]) for path in free if path[-tail:] == guess.flax}
            there = [path for path, shape in shapes.items() if guess.fits(guess.made(layer.shapes), shape)]
            if there and (place := at(there[0][:-tail])) == layer.name.replace(".", "/"):
                conv1d = (
                    ": 'Conv1D' for GPT-2's" if kind == "own" and leaf.torch == ("weight",) and len(made) == 2 else ""
                )
                likely = f"say what {layer.name!r} is by treat_as=, a kind of course.porting.layouts.KINDS{conv1d}"
                break
            if there:
                likely = f"likely {at(there[0])}: rename one, or pass names={{{layer.name!r}: {place!r}}}"
                break
        expected = "/".join((*filter(None, layer.name.split(".")), *leaf.flax))
        what = f" ({leaf.rule})" if leaf.rule != "as it is" else ""
        shown = some([f"{at(path)} {np.shape(self.target.arrays[path])}" for path in free], most=4)
        wrong = f"expected {expected} {made} in {self.target.side}{what}, got {shown}"
        if (prefix := self.prefix(layer, leaf)) is not None:
            likely = f"pass names={{{prefix!r}: ''}}, if that is before every name"
        elif likely.startswith("give the layers"):
            likely = self.packed(layer, leaf) or self.lacking(layer, leaf) or likely
        elif likely.startswith("say what"):
            likely = self.lacking(layer, leaf) or likely
        if (twin := self.twin(layer.path(leaf.torch[0]))) is not None:
            likely += f"; it equals {twin}: if the two are tied, ignore=[{layer.path(leaf.torch[0])!r}]"
        self.wrong(layer, leaf, None, wrong, likely)

    def prefix(self, layer: Layer, leaf: Leaf) -> str | None:
        """What stands before a layer's name in torch alone: module, of DataParallel; _orig_mod, of compile."""
        parts = layer.name.split(".")
        for count in range(1, len(parts)):
            path, _ = self.names.find(".".join(parts[count:]), leaf.torch[0], leaf.flax)
            if path is not None and leaf.fits(leaf.made(layer.shapes), np.shape(self.target.arrays[path])):
                return ".".join(parts[:count])
        return None

    def packed(self, layer: Layer, leaf: Leaf) -> str | None:
        """Whether flax has query, key and value for one matrix."""
        shape = layer.shapes[leaf.torch[0]]
        for path in self.there:
            if path[-2:] == ("value", "kernel") and path not in self.places and len(shape) == 2:
                size = int(np.prod(np.shape(self.target.arrays[path])))
                kind = {3: "qkv", 2: "kv"}.get(int(np.prod(shape)) // size) if size else None
                if kind is not None and shape[0] != shape[1] and np.prod(shape) % size == 0:
                    place = f"names={{{layer.name!r}: {at(path[:-2])!r}}}, treat_as={{{layer.name!r}: {kind!r}}}"
                    rows = "query, key and value" if kind == "qkv" else "key and value"
                    return f"if its rows are {rows}, pass {place}"
        return None

    def lacking(self, layer: Layer, leaf: Leaf) -> str | None:
        """Whether flax has the layer, but not this array of it."""
        beside = [(*leaf.flax[:-1], name) for name in ("kernel", "scale")]
        if leaf.flax[-1] != "bias" or all(self.names.find(layer.name, "weight", p)[0] is None for p in beside):
            return None
        return f"build flax's layer with it, use_bias=True, or pass ignore={[layer.path(name) for name in leaf.torch]}"

    def twin(self, name: str) -> str | None:
        """A tensor of the same numbers: a file may hold a tied weight twice."""
        array = self.arrays[name]
        if not array.size or (array == array.flat[0]).all():  # zeros are like others by chance
            return None
        for other, there in self.arrays.items():  # the first few tell of most that they differ
            same = other != name and there.shape == array.shape and np.array_equal(there.flat[:9], array.flat[:9])
            if same and np.array_equal(there, array):
                return other
        return None

    def check_stacks(self) -> None:
        for place in self.places.values():
            if place.stacked:
                place.parts.sort(key=lambda part: part[0] or 0)
                got = [index for index, *_ in place.parts]
                count = place.shape[0] if place.shape else 0
                if got != [number + (got[0] or 0) for number in range(count)]:  # the first may be another array
                    wrong = f"expected the layers 0 to {count - 1} for its first axis, got "
                    wrong += some(list(map(str, got)))
                    self.wrong(None, None, place.path, wrong, "stack as many layers in flax as torch has")


def _found(places: list) -> int:
    return sum(path is not None for _, path, _ in places)


def _memory(array: np.ndarray, name: str) -> tuple:
    """Where an array's numbers are: a tensor and its transpose are at one place."""
    array = np.asarray(array)
    return (array.__array_interface__["data"][0], array.nbytes) if array.size else (name,)


def _is_wide(layer: Layer) -> bool:
    """Whether a matrix is (in, out), as in GPT-2's Conv1D: its bias has a number for every column."""
    weight, bias = layer.shapes.get("weight", ()), layer.shapes.get("bias")
    return len(weight) == 2 and bias == weight[1:] != weight[:1]


def _span(array: np.ndarray) -> tuple[int, int]:
    """The addresses that an array lies between."""
    array = np.asarray(array)
    start = array.__array_interface__["data"][0]
    steps = [(size - 1) * step for size, step in zip(array.shape, array.strides, strict=True) if size]
    low, high = (sum(step for step in steps if (step < 0) == below) for below in (True, False))
    return start + low, start + high + (array.itemsize if array.size else 0)


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    try:
        return np.shares_memory(one, other, max_work=10_000)  # type: ignore[arg-type]  # NumPy's stubs know two of the numbers
    except np.exceptions.TooHardError:
        return False


def hint(leaf: Leaf, expected: Shape, got: Shape) -> str:
    """The likely reason for a shape that does not fit."""
    if leaf.flax == ("negative_slope",) and got == ():
        return f"flax's PReLU has one slope: write a layer whose negative_slope has the shape {expected}"
    if leaf.flipped and got == (*expected[:-2], expected[-1], expected[-2]):
        return "build flax's layer with transpose_kernel=False"
    if leaf.reshaped and len(got) > len(expected) and np.prod(expected) == np.prod(got):
        return "compare the numbers of heads"
    if leaf.axes == "oi->io" and got == expected[::-1]:
        return (
            "these are the same sizes in another order: are in and out exchanged, or is it GPT-2's Conv1D, treat_as=?"
        )
    if sorted(expected) == sorted(got):
        return "these are the same sizes in another order: are in and out exchanged, or a transpose missing?"
    if (
        leaf.axes.startswith("oi")
        and len(got) == len(expected) > 2
        and (*expected[:-2], expected[-1]) == (*got[:-2], got[-1])
    ):
        return "the input channels differ: compare groups with feature_group_count"
    return "build both with the same sizes"
