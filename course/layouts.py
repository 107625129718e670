"""How PyTorch and Flax lay out the weights of a layer: one table, read in both directions. Needs torch.

Flax keeps what PyTorch keeps, under other names, with other axes, and here and there cut or added up another way. A
`Leaf` says so for one of flax's arrays. NNX and Linen share their leaves, recurrent cells apart; where a layer has
several spellings, `spellings` returns them all and `course.porting` takes the one that the model has.
Lesson: 06_porting_layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from torch import nn

Path = tuple[str, ...]
Tensors = dict[str, np.ndarray]
Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
ConvTranspose = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class PortingError(ValueError):
    """Weights that do not fit; the message names both paths, both shapes and the likely remedy."""


def _same(array: np.ndarray) -> np.ndarray:
    return array


@dataclass(frozen=True)
class Leaf:
    """One of flax's arrays, and the rows of torch's tensors that it is made of.

    Attributes:
      flax: its path below the layer, ("kernel",).
      torch: one tensor's name, or two: flax keeps one bias where torch adds two.
      rule: what changes, in words.
      rows: the rows of the tensors that make up this array; all of them by default.
      to_flax, to_torch: the change of layout, and back.
      must_be_zero: rows of the first of two tensors that flax has no place for.
    """

    flax: Path
    torch: tuple[str, ...]
    rule: str = "as it is"
    rows: slice | EllipsisType = ...
    to_flax: Callable[[np.ndarray], np.ndarray] = field(default=_same, repr=False)
    to_torch: Callable[[np.ndarray], np.ndarray] = field(default=_same, repr=False)
    must_be_zero: slice | None = None

    def read(self, tensors: Tensors) -> np.ndarray:
        """Flax's array, as a copy, made of torch's tensors."""
        first, *others = self.torch
        if self.must_be_zero is not None and tensors[first][self.must_be_zero].any():
            raise PortingError(
                f"expected zeros in the last third of {first} (b_hn), got others; NNX's GRUCell has no b_hn, and no "
                "other weight can stand in for it: port to Linen's GRUCell, which has one, or zero it"
            )
        total = tensors[first][self.rows]
        for name in others:
            total = total + tensors[name][self.rows]
        return np.array(self.to_flax(total), order="C")

    def write(self, array: np.ndarray, tensors: Tensors) -> None:
        """Flax's array into torch's tensors, in place; of two that flax adds, the last gets the sum."""
        tensors[self.torch[0]][self.rows] = 0
        tensors[self.torch[-1]][self.rows] = self.to_torch(array)


def _transposed(flax: Path, name: str, rows: slice | EllipsisType = ...) -> Leaf:
    return Leaf(flax, (name,), "(out, in) -> (in, out)", rows, np.transpose, np.transpose)


def _linear(layer: nn.Linear) -> Iterator[list[Leaf]]:
    yield [_transposed(("kernel",), "weight"), Leaf(("bias",), ("bias",))]


def _conv(layer: Conv) -> Iterator[list[Leaf]]:
    space = "HWD"[: len(layer.kernel_size)]
    kernel = Leaf(
        ("kernel",), ("weight",), f"OI{space} -> {space}IO",
        to_flax=lambda weight: np.moveaxis(weight, (0, 1), (-1, -2)),
        to_torch=lambda kernel: np.moveaxis(kernel, (-1, -2), (0, 1)),
    )  # fmt: skip
    yield [kernel, Leaf(("bias",), ("bias",))]


def _conv_transpose(layer: ConvTranspose) -> Iterator[list[Leaf]]:
    if layer.groups != 1:
        raise PortingError(f"expected groups=1, got {layer.groups}; flax's ConvTranspose has no groups")
    space = tuple(range(len(layer.kernel_size)))
    axes = "HWD"[: len(space)]
    # torch's is the transpose of a convolution, flax's a convolution of the stretched input: they differ by a flip
    kernel = Leaf(
        ("kernel",), ("weight",), f"IO{axes} -> {axes}IO, flipped along {axes}",
        to_flax=lambda weight: np.flip(np.moveaxis(weight, (0, 1), (-2, -1)), space),
        to_torch=lambda kernel: np.moveaxis(np.flip(kernel, space), (-2, -1), (0, 1)),
    )  # fmt: skip
    yield [kernel, Leaf(("bias",), ("bias",))]


def _norm(layer: nn.Module) -> Iterator[list[Leaf]]:
    yield [Leaf(("scale",), ("weight",)), Leaf(("bias",), ("bias",))]


def _batch_norm(layer: BatchNorm) -> Iterator[list[Leaf]]:
    if layer.track_running_stats and layer.momentum is None:
        raise PortingError("expected a momentum, got None: flax has no cumulative average; set layer.momentum=0.1")
    for norm in _norm(layer):
        yield [*norm, Leaf(("mean",), ("running_mean",)), Leaf(("var",), ("running_var",))]


def _embedding(layer: nn.Embedding) -> Iterator[list[Leaf]]:
    yield [Leaf(("embedding",), ("weight",))]


def _attention(layer: nn.MultiheadAttention) -> Iterator[list[Leaf]]:
    width, heads, each = layer.embed_dim, layer.num_heads, layer.head_dim
    leaves = []
    for k, name in enumerate(("query", "key", "value")):
        rows, weight = slice(k * width, (k + 1) * width), "in_proj_weight"
        if layer.in_proj_weight is None:  # kdim or vdim given: three matrices instead of one
            rows, weight = ..., f"{name[0]}_proj_weight"
        kernel = Leaf(
            (name, "kernel"), (weight,), "(out, in) -> (in, heads, out / heads)", rows,
            to_flax=lambda w: w.T.reshape(w.shape[1], heads, each),
            to_torch=lambda k: k.reshape(k.shape[0], width).T,
        )  # fmt: skip
        bias = Leaf(
            (name, "bias"), ("in_proj_bias",), "(out,) -> (heads, out / heads)", slice(k * width, (k + 1) * width),
            to_flax=lambda b: b.reshape(heads, each),
            to_torch=lambda b: b.reshape(width),
        )  # fmt: skip
        leaves += [kernel, bias]
    out = Leaf(
        ("out", "kernel"), ("out_proj.weight",), "(out, in) -> (heads, in / heads, out)",
        to_flax=lambda w: w.T.reshape(heads, each, width),
        to_torch=lambda k: k.reshape(width, width).T,
    )  # fmt: skip
    yield [*leaves, out, Leaf(("out", "bias"), ("out_proj.bias",))]


ADDED = "torch's two biases added"


def _lstm_cell(width: int, suffix: str, fused: bool) -> list[Leaf]:
    biases = (f"bias_ih{suffix}", f"bias_hh{suffix}")
    if fused:
        return [
            _transposed(("dense_i", "kernel"), f"weight_ih{suffix}"),
            _transposed(("dense_h", "kernel"), f"weight_hh{suffix}"),
            Leaf(("dense_h", "bias"), biases, ADDED),
        ]
    leaves = []
    for k, gate in enumerate("ifgo"):
        rows = slice(k * width, (k + 1) * width)
        leaves += [
            _transposed((f"i{gate}", "kernel"), f"weight_ih{suffix}", rows),
            _transposed((f"h{gate}", "kernel"), f"weight_hh{suffix}", rows),
            Leaf((f"h{gate}", "bias"), biases, ADDED, rows),
        ]
    return leaves


def _gru_cell(width: int, suffix: str, fused: bool) -> list[Leaf]:
    biases = (f"bias_hh{suffix}", f"bias_ih{suffix}")
    if fused:
        b_hn = slice(2 * width, 3 * width)
        return [
            _transposed(("dense_i", "kernel"), f"weight_ih{suffix}"),
            _transposed(("dense_h", "kernel"), f"weight_hh{suffix}"),
            Leaf(("dense_i", "bias"), biases, f"{ADDED}; b_hn must be zero", must_be_zero=b_hn),
        ]
    leaves = []
    for k, gate in enumerate("rzn"):
        rows = slice(k * width, (k + 1) * width)
        leaves += [
            _transposed((f"i{gate}", "kernel"), f"weight_ih{suffix}", rows),
            _transposed((f"h{gate}", "kernel"), f"weight_hh{suffix}", rows),
        ]
        if gate == "n":  # the reset gate multiplies b_hn, so Linen keeps both
            leaves += [Leaf(("in", "bias"), biases[1:], rows=rows), Leaf(("hn", "bias"), biases[:1], rows=rows)]
        else:
            leaves.append(Leaf((f"i{gate}", "bias"), biases, ADDED, rows))
    return leaves


def _recurrent(layer: nn.LSTM | nn.GRU | nn.LSTMCell | nn.GRUCell) -> Iterator[list[Leaf]]:
    """A torch layer holds every level and direction; flax has one cell each, inside an `RNN` or bare."""
    cell = _lstm_cell if isinstance(layer, nn.LSTM | nn.LSTMCell) else _gru_cell
    if isinstance(layer, nn.RNNCellBase):
        yield from (cell(layer.hidden_size, "", fused) for fused in (True, False))
        return
    if layer.proj_size:
        raise PortingError(f"expected proj_size=0, got {layer.proj_size}; flax's cells have no projection")
    ways = {("forward_rnn",): "", ("backward_rnn",): "_reverse"} if layer.bidirectional else {(): ""}
    for inner in [("cell",), ()]:
        for fused in (True, False):
            leaves = []
            for level in range(layer.num_layers):
                for way, suffix in ways.items():
                    path = (*([str(level)] if layer.num_layers > 1 else []), *way, *inner)
                    for leaf in cell(layer.hidden_size, f"_l{level}{suffix}", fused):
                        leaves.append(replace(leaf, flax=path + leaf.flax))
            yield leaves


# each rule is called with layers of its key's type only
_RULES: dict[type[nn.Module], Callable[[Any], Iterator[list[Leaf]]]] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv, nn.Conv2d: _conv, nn.Conv3d: _conv,
    nn.ConvTranspose1d: _conv_transpose, nn.ConvTranspose2d: _conv_transpose, nn.ConvTranspose3d: _conv_transpose,
    nn.BatchNorm1d: _batch_norm, nn.BatchNorm2d: _batch_norm, nn.BatchNorm3d: _batch_norm,
    nn.LayerNorm: _norm, nn.RMSNorm: _norm, nn.GroupNorm: _norm,
    nn.Embedding: _embedding,
    nn.MultiheadAttention: _attention,
    nn.LSTM: _recurrent, nn.LSTMCell: _recurrent, nn.GRU: _recurrent, nn.GRUCell: _recurrent,
}  # fmt: skip

# torch reads this count where BatchNorm's momentum is None, and nowhere else
WITHOUT_COUNTERPART = {"num_batches_tracked": "stays: flax needs no such count"}


def spellings(layer: torch.nn.Module) -> list[list[Leaf]] | None:
    """The leaves that flax may keep for a layer: a list for every spelling, or None for a type without a rule.

    Raises:
      PortingError: flax has no such layer with this layer's settings.
    """
    for kind in type(layer).__mro__:
        if kind in _RULES:
            try:
                return list(_RULES[kind](layer))
            except PortingError as error:
                raise PortingError(f"{type(layer).__name__}: {error}") from None
    return None


def known() -> str:
    """The types of torch's layers that have a rule."""
    return ", ".join(kind.__name__ for kind in _RULES)


def recast_cell(leaves: dict[Path, np.ndarray]) -> dict[Path, np.ndarray]:
    """A recurrent cell's leaves in its other spelling: fused matrices (NNX) for one a gate (Linen), or the reverse.

    Args:
      leaves: {("dense_i", "kernel"): ..., ...} or {("ii", "kernel"): ..., ...}.
    Raises:
      PortingError: a GRU with b_hn, which the fused spelling has no place for.
    """
    fused, gru = ("dense_i", "kernel") in leaves, ("hn", "kernel") in leaves
    inputs = leaves["dense_i" if fused else "ir" if gru else "ii", "kernel"].shape[0]
    recurrent = leaves["dense_h" if fused else "hr" if gru else "hi", "kernel"]
    width = recurrent.shape[0]
    gru = gru or (fused and recurrent.shape[1] == 3 * width)
    cell, gates = (_gru_cell, 3) if gru else (_lstm_cell, 4)
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates * width, inputs), "weight_hh": (gates * width, width)}
    shapes |= {"bias_ih": (gates * width,), "bias_hh": (gates * width,)}
    tensors = {name: np.zeros(shape, recurrent.dtype) for name, shape in shapes.items()}
    for leaf in cell(width, "", fused):
        leaf.write(np.asarray(leaves[leaf.flax]), tensors)
    return {leaf.flax: leaf.read(tensors) for leaf in cell(width, "", not fused)}


def find(name: str, below: Path, there: Collection[Path], names: Mapping[str, str] | None = None) -> Path | None:
    """Where flax has what torch has at `name`, or None.

    Args:
      name: a torch module's path, "blocks.1.norm"; "" for the root.
      below: the path from there on, in flax's names.
      there: the paths that exist in flax.
      names: torch's path of a layer -> flax's, where they differ; the longest that fits is taken.
    """
    for start, flax in sorted((names or {}).items(), key=lambda pair: len(pair[0]), reverse=True):
        if name == start or name.startswith(f"{start}."):
            name = flax.replace("/", ".") + name[len(start) :]
            break
    path = (*filter(None, name.split(".")), *below)
    return next((spelt for spelt in _spelt(path) if spelt in there), None)


def _spelt(path: Path) -> Iterator[Path]:
    """Item 1 of a list is blocks/1 in NNX, blocks_1 in Linen; flax's Sequential keeps its items under `layers`."""
    if not path:
        yield ()
        return
    for start in _spelt(path[:-1]):
        yield (*start, path[-1])
        if path[-1].isdigit():
            yield (*start, "layers", path[-1])
            yield (*start, f"layers_{path[-1]}")
            if start:
                yield (*start[:-1], f"{start[-1]}_{path[-1]}")
        elif path[-1] == "if":  # a keyword of Python's: NNX's cell cannot have an attribute of this name
            yield (*start, "if_")
