"""How PyTorch and Flax lay out the weights of a layer: one table, read in both directions. Needs NumPy only.

Flax keeps what PyTorch keeps, under other names, with other axes, and here and there cut or added up another way. A
`Leaf` says so for one of flax's arrays. A kind of layer has several spellings where flax has: NNX's fused recurrent
cells and Linen's, one matrix a gate; a cell inside an `RNN` or bare. `spellings` returns them all, and
`course.porting.matching` takes the one that the model has. Lesson: 06_porting_layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace

import numpy as np

Path = tuple[str, ...]
"""Where an array stands in a tree: the names on the way."""
Shape = tuple[int, ...]
"""An array's shape."""
Shapes = Mapping[str, Shape]
"""A layer's tensors by name, each with its shape."""


@dataclass(frozen=True)
class Leaf:
    """One of flax's arrays, and what of torch's tensors it is made of.

    Attributes:
      flax: its path below the layer, ("kernel",).
      torch: one tensor's name, or two: flax keeps one bias where torch adds two.
      axes: how they are permuted, "oihw->hwio"; "" as they are.
      flipped: whether the axes besides i and o run backwards.
      reshaped: whether flax may cut an axis in two, into heads.
      cut: how many of flax's first axes are then torch's `in`; None where that is open.
      part: (k, n) for the k-th of n equal parts of the tensors' rows.
      columns: whether these parts are of columns instead.
      zero: such a part of the first of two tensors that flax has no place for.
    """

    flax: Path
    torch: tuple[str, ...]
    axes: str = ""
    flipped: bool = False
    reshaped: bool = False
    cut: int | None = None
    part: tuple[int, int] = (0, 1)
    columns: bool = False
    zero: tuple[int, int] | None = None

    @property
    def rule(self) -> str:
        """What changes, in words."""
        words = []
        if self.axes == "oi->io":
            words.append("(out, in) -> (in, out)")
        elif self.axes:
            words.append(self.axes.upper().replace("->", " -> "))
        if self.flipped:
            words.append(f"flipped along {self.axes.upper().partition('->')[2][:-2]}")
        if len(self.torch) > 1:
            words.append("torch's two biases added")
        return ", ".join(words or ["as it is"]) + ("; b_hn must be zero" if self.zero else "")

    def one(self, shape: Shape) -> Shape:
        """The shape of the part that is taken of a tensor."""
        if not shape:
            return shape
        cut = len(shape) - 1 if self.columns else 0
        return tuple(size // self.part[1] if axis == cut else size for axis, size in enumerate(shape))

    def taken(self, tensor: np.ndarray) -> np.ndarray:
        """That part, as a view."""
        return (
            rows_of(tensor.swapaxes(0, -1), self.part).swapaxes(0, -1) if self.columns else rows_of(tensor, self.part)
        )

    def made(self, shapes: Shapes) -> Shape:
        """The shape that flax's array has before an axis is cut in two."""
        shape = self.one(shapes[self.torch[0]])
        return tuple(shape[axis] for axis in self._order) if self.axes else shape

    def fits(self, made: Shape, flax: Shape) -> bool:
        """Whether an array of the first shape can be flax's: the same, or with heads where some may be."""
        if not self.reshaped or made == flax:
            return made == flax
        while len(made) > 2 and made[0] == 1:  # a convolution of one pixel is a linear layer
            made = made[1:]
        cuts = range(len(flax) + 1) if self.cut is None else [self.cut]
        sizes = [(math.prod(flax[:cut]), math.prod(flax[cut:])) for cut in cuts]
        return math.prod(made) == math.prod(flax) and (len(made) < 2 or made in sizes)

    def read(self, tensors: Mapping[str, np.ndarray], shape: Shape, *, gradients: bool = False) -> np.ndarray:
        """Flax's array, as a copy, of this shape; the gradient of a sum is that of the last, a GRU's input bias."""
        total = self.taken(tensors[self.torch[-1]])
        for name in self.torch[:-1] if not gradients else ():
            total = self.taken(tensors[name]) + total
        if self.axes:
            total = np.transpose(total, self._order)
        return np.array(np.flip(total, self._space).reshape(shape), order="C")

    def write(self, array: np.ndarray, tensors: MutableMapping[str, np.ndarray], *, gradients: bool = False) -> None:
        """Flax's array into torch's tensors, in place; of two that flax adds, the last gets the sum."""
        if self.axes:
            shape = self.made({name: tensor.shape for name, tensor in tensors.items()})
            array = np.transpose(np.flip(array.reshape(shape), self._space), np.argsort(self._order))
        for name in self.torch:
            rows = self.taken(tensors[name])
            rows[...] = array.reshape(rows.shape) if gradients or name == self.torch[-1] else 0

    @property
    def _order(self) -> list[int]:
        here, there = self.axes.split("->")
        return [here.index(axis) for axis in there]

    @property
    def _space(self) -> tuple[int, ...]:
        return tuple(range(len(self.axes.partition("->")[2]) - 2)) if self.flipped else ()


def rows_of(tensor: np.ndarray, part: tuple[int, int]) -> np.ndarray:
    """The k-th of n equal parts of a tensor's rows, as a view."""
    k, n = part
    return tensor if n == 1 else tensor[k * (len(tensor) // n) : (k + 1) * (len(tensor) // n)]


# --- kinds of layers: the shapes of torch's tensors -> spellings -----------------------------------------------

BIAS = Leaf(("bias",), ("bias",))
NORM = [Leaf(("scale",), ("weight",)), BIAS]


def _transposed(flax: Path, name: str, part: tuple[int, int] = (0, 1), cut: int | None = None) -> Leaf:
    return Leaf(flax, (name,), "oi->io", reshaped=cut is not None, cut=cut, part=part)


def _linear(shapes: Shapes) -> Iterator[list[Leaf]]:
    yield [Leaf(("kernel",), ("weight",), "oi->io", reshaped=True), replace(BIAS, reshaped=True)]


def _conv1d_of_gpt2(shapes: Shapes) -> Iterator[list[Leaf]]:
    yield [Leaf(("kernel",), ("weight",), reshaped=True), replace(BIAS, reshaped=True)]


def _conv(shapes: Shapes) -> Iterator[list[Leaf]]:
    space = "hwd"[: len(shapes["weight"]) - 2]
    one = set(shapes["weight"][2:]) == {1}
    yield [Leaf(("kernel",), ("weight",), f"oi{space}->{space}io", reshaped=one), BIAS]


def _conv_transpose(shapes: Shapes) -> Iterator[list[Leaf]]:
    # torch's is the transpose of a convolution, flax's a convolution of the stretched input: they differ by a flip
    space = "hwd"[: len(shapes["weight"]) - 2]
    yield [Leaf(("kernel",), ("weight",), f"io{space}->{space}io", flipped=True), BIAS]


def _norm(shapes: Shapes) -> Iterator[list[Leaf]]:
    yield NORM


def _norm_of_channels_first(shapes: Shapes) -> Iterator[list[Leaf]]:
    """LayerNorm((C, H, W)): flax's has the channels last."""
    space = "hwd"[: len(shapes["weight"]) - 1]
    yield [replace(leaf, axes=f"c{space}->{space}c") for leaf in NORM]


def _batch_norm(shapes: Shapes) -> Iterator[list[Leaf]]:
    yield [*NORM, Leaf(("mean",), ("running_mean",)), Leaf(("var",), ("running_var",))]


def _embedding(shapes: Shapes) -> Iterator[list[Leaf]]:
    yield [Leaf(("embedding",), ("weight",))]


def _prelu(shapes: Shapes) -> Iterator[list[Leaf]]:
    yield [Leaf(("negative_slope",), ("weight",), reshaped=True)]


def _attention(shapes: Shapes) -> Iterator[list[Leaf]]:
    leaves = []
    for k, name in enumerate(("query", "key", "value")):
        # kdim or vdim given: three matrices instead of one
        weight, part = ("in_proj_weight", (k, 3)) if "in_proj_weight" in shapes else (f"{name[0]}_proj_weight", (0, 1))
        leaves.append(_transposed((name, "kernel"), weight, part, cut=1))
        leaves.append(Leaf((name, "bias"), ("in_proj_bias",), reshaped=True, part=(k, 3)))
    out = _transposed(("out", "kernel"), "out_proj.weight", cut=2)
    yield [*leaves, out, Leaf(("out", "bias"), ("out_proj.bias",))]


def _packed(shapes: Shapes, names: tuple[str, ...] = ("query", "key", "value")) -> Iterator[list[Leaf]]:
    leaves, count = [], len(names)
    wide = len(shapes["weight"]) == 2 and shapes.get("bias") == shapes["weight"][1:] != shapes["weight"][:1]
    for k, name in enumerate(names):
        if wide:  # GPT-2's Conv1D: columns
            leaves.append(Leaf((name, "kernel"), ("weight",), reshaped=True, cut=1, part=(k, count), columns=True))
        else:
            leaves.append(_transposed((name, "kernel"), "weight", (k, count), cut=1))
        leaves.append(Leaf((name, "bias"), ("bias",), reshaped=True, part=(k, count)))
    yield leaves


def _packed_pair(shapes: Shapes) -> Iterator[list[Leaf]]:
    return _packed(shapes, ("key", "value"))


# a cell's gates in torch's order; one matrix a gate has these letters in Linen, in NNX all are fused
GATES = {4: "ifgo", 3: "rzn", 1: ("",)}


# how a cell's matrices are spelt: fused, one a gate, or fused with both biases as in course.layers
FUSED, GATES_APART, BOTH_BIASES = "fused", "gates apart", "both biases"
TWO_BIASES = {("dense_i", "bias"), ("dense_h", "bias")}


def _cell(gates: int, suffix: str, spelling: str) -> list[Leaf]:
    ih, hh = f"weight_ih{suffix}", f"weight_hh{suffix}"
    biases = (f"bias_ih{suffix}", f"bias_hh{suffix}") if gates == 4 else (f"bias_hh{suffix}", f"bias_ih{suffix}")
    kernels = [_transposed(("dense_i", "kernel"), ih), _transposed(("dense_h", "kernel"), hh)]
    if spelling == BOTH_BIASES:
        return [*kernels, *(Leaf((f"dense_{side[5]}", "bias"), (side,)) for side in biases)]
    if spelling == FUSED:
        added = ("dense_h" if gates == 4 else "dense_i", "bias")
        return [*kernels, Leaf(added, biases, zero=(2, 3) if gates == 3 else None)]
    leaves = []
    for k, gate in enumerate(GATES[gates]):
        part = (k, gates)
        leaves.append(_transposed((f"i{gate}", "kernel"), ih, part))
        leaves.append(_transposed((f"h{gate}", "kernel"), hh, part))
        if gate == "n":  # the reset gate multiplies b_hn, so Linen keeps both
            leaves.append(Leaf(("in", "bias"), biases[1:], part=part))
            leaves.append(Leaf(("hn", "bias"), biases[:1], part=part))
        else:
            leaves.append(Leaf((f"{'h' if gates == 4 else 'i'}{gate}", "bias"), biases, part=part))
    return leaves


def _recurrent(shapes: Shapes) -> Iterator[list[Leaf]]:
    """A torch layer holds every level and direction; flax has one cell each, inside an `RNN` or bare."""
    suffixes = [name.removeprefix("weight_ih") for name in shapes if name.startswith("weight_ih")]
    rows, width = shapes[f"weight_hh{suffixes[0]}"]
    gates = rows // width
    if suffixes == [""]:  # a cell
        yield from (_cell(gates, "", spelling) for spelling in (FUSED, GATES_APART, BOTH_BIASES))
        return
    levels, both = len([s for s in suffixes if "reverse" not in s]), any("reverse" in s for s in suffixes)
    for inner in [("cell",), ()]:
        for spelling in (FUSED, GATES_APART, BOTH_BIASES):
            leaves = []
            for suffix in suffixes:
                level = [re.sub(r"\D", "", suffix)] if levels > 1 else []
                way = ["backward_rnn" if "reverse" in suffix else "forward_rnn"] if both else []
                for leaf in _cell(gates, suffix, spelling):
                    leaves.append(replace(leaf, flax=(*level, *way, *inner, *leaf.flax)))
            yield leaves


def _own(shapes: Shapes) -> Iterator[list[Leaf]]:
    # a vector may be cut into heads
    yield [Leaf((name,), (name,), reshaped=len(shape) == 1) for name, shape in shapes.items()]


KINDS: dict[str, Callable[[Shapes], Iterator[list[Leaf]]]] = {
    "Linear": _linear,
    "Conv1D": _conv1d_of_gpt2,  # a linear layer whose weight is (in, out)
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Norm": _norm,
    "ChannelsFirstNorm": _norm_of_channels_first,
    "BatchNorm": _batch_norm,
    "Embedding": _embedding,
    "PReLU": _prelu,
    "MultiheadAttention": _attention,
    "qkv": _packed,  # one linear layer (or Conv1D) whose rows are all of query, then key, then value, as in ViT
    "kv": _packed_pair,  # the same of key and value
    "Recurrent": _recurrent,  # LSTM, GRU and RNN, and their cells
    "own": _own,  # arrays of the same name on both sides, as they are
}

NORMS = ("Norm", "ChannelsFirstNorm")
# torch reads this count where BatchNorm's momentum is None, and nowhere else
WITHOUT_COUNTERPART = {"num_batches_tracked": "stays: flax needs no such count"}


def likely(shapes: Shapes) -> list[str]:
    """The kinds of layer that have tensors of these names and numbers of axes, the likeliest first."""
    kinds = []
    if shapes.keys() & {"in_proj_weight", "q_proj_weight"}:
        kinds = ["MultiheadAttention"]
    elif any(name.startswith("weight_ih") for name in shapes):
        kinds = ["Recurrent"]
    elif "running_mean" in shapes:
        kinds = ["BatchNorm"]
    elif "weight" in shapes:
        rank = len(shapes["weight"])
        kinds = {0: [], 1: ["Norm", "PReLU"], 2: ["Linear", "Embedding"]}.get(rank, ["Conv", "ConvTranspose"])
        kinds = [*kinds, *NORMS] if rank > 1 else kinds
    return [*kinds, "own"]


def spellings(kind: str, shapes: Shapes) -> list[list[Leaf]] | None:
    """The leaves that flax may keep for a layer of a kind: a list for every spelling, without what torch lacks.

    None where tensors of these shapes are of no such layer.
    """
    try:
        found = [[leaf for leaf in leaves if shapes.keys() >= set(leaf.torch)] for leaves in KINDS[kind](shapes)]
    except (KeyError, ValueError, IndexError, ZeroDivisionError):  # no weight, or one with other axes
        return None
    for leaf in (leaf for leaves in found for leaf in leaves):
        ranks = {len(shapes[name]) for name in leaf.torch}
        if len(ranks) > 1 or (leaf.axes and ranks != {leaf.axes.index("->")}) or (leaf.part[1] > 1 and ranks == {0}):
            return None
    return found


def recast_cell(leaves: Mapping[Path, np.ndarray], *, both: bool = False) -> dict[Path, np.ndarray] | None:
    """A recurrent cell's leaves in its other spelling: fused matrices (NNX) for one a gate (Linen), or the reverse.

    Args:
      leaves: {("dense_i", "kernel"): ..., ...} or {("ii", "kernel"): ..., ...}.
      both: whether the fused spelling has both biases, as in course.layers.
    Returns:
      The same cell, or None for a GRU with b_hn where the fused spelling has no place for it.
    """
    if any(path[-1] == "kernel" and array.ndim > 2 for path, array in leaves.items()):  # a stack of cells
        cells = [
            recast_cell(dict(zip(leaves, each, strict=True)), both=both) for each in zip(*leaves.values(), strict=True)
        ]
        return None if None in cells else {path: np.stack([c[path] for c in cells if c]) for path in cells[0] or {}}
    fused = ("dense_i", "kernel") in leaves
    first = next(path for path in leaves if path[0] in ({"dense_h"} if fused else {"hi", "hr", "h"}))
    width, columns = leaves[first[0], "kernel"].shape
    gates = columns // width if fused else {"hi": 4, "hr": 3, "h": 1}[first[0]]
    into = {"hi": "ii", "hr": "ir", "h": "i", "dense_h": "dense_i"}[first[0]]
    inputs, dtype = leaves[into, "kernel"].shape[0], leaves[into, "kernel"].dtype
    shapes: dict[str, Shape] = {"weight_ih": (gates * width, inputs), "weight_hh": (gates * width, width)}
    shapes |= {"bias_ih": (gates * width,), "bias_hh": (gates * width,)}
    tensors = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
    with_both = BOTH_BIASES if both or leaves.keys() >= TWO_BIASES else FUSED
    here, there = (with_both, GATES_APART) if fused else (GATES_APART, with_both)
    for leaf in _cell(gates, "", here):
        if leaf.flax in leaves:
            leaf.write(np.asarray(leaves[leaf.flax]), tensors)
    biased = any(path[-1] == "bias" for path in leaves)
    found = [leaf for leaf in _cell(gates, "", there) if biased or leaf.flax[-1] != "bias"]
    if any(leaf.zero and rows_of(tensors[leaf.torch[0]], leaf.zero).any() for leaf in found):
        return None
    made = {leaf.flax: leaf.made(shapes) for leaf in found}
    return {leaf.flax: leaf.read(tensors, made[leaf.flax]) for leaf in found}
