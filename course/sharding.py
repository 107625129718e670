"""What a compiled program sends between devices, and what a device holds of a sharded tree.

`instructions` reads XLA's text; `collectives` counts in it, as does `examples.language_model.plan`. Needs JAX, NumPy
and pandas. Lesson: 13_many_devices.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
"""The collectives of XLA's compiled text, in the order of the table."""

_LINE = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|calls|to_apply)=%?([\w.\-]+)")


class Instruction(NamedTuple):
    """A line of XLA's text, `%name = result kind(operands), attributes`."""

    name: str
    result: str  # its type: "f32[8,16]{1,0}", "(f32[8]{0}, s32[])"
    kind: str
    rest: str  # operands and attributes
    times: int  # how often it runs in one call of the program

    @property
    def operands(self) -> list[str]:
        """The names of the arrays that it takes."""
        return re.findall(r"%([\w.\-]+)", self.rest.split(")", 1)[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its result, the first one of a tuple."""
        return tuple(int(n) for n in _ARRAY.findall(self.result)[0][1].split(",") if n)

    @property
    def bytes(self) -> int:
        """Of its result; of a collective's whole array, which of a reduce-scatter is what it takes."""
        sizes = []
        for dtype, shape in _ARRAY.findall(self.result):
            bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])  # f32, bf16, s4, c64, f8e4m3fn
            sizes.append(math.prod(int(n) for n in shape.split(",") if n) * bits // 8)
        if self.kind.endswith("-start") and self.kind != "all-reduce-start":
            return max(sizes)  # operands stand among them
        return sum(sizes) * (len(self.group) if self.kind == "reduce-scatter" else 1)

    @property
    def group(self) -> tuple[int, ...]:
        """The devices of a collective's first group, or a permute's first pair that differs.

        Raises:
          ValueError: its groups are written in none of the ways that are known here.
        """
        if pairs := re.search(r"source_target_pairs=\{\{(.*?)\}\}", self.rest):
            steps = [tuple(map(int, pair.split(","))) for pair in pairs[1].split("},{")]
            return next((pair for pair in steps if pair[0] != pair[1]), steps[0])
        if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", self.rest):  # {{0,1},{2,3}}
            return tuple(map(int, listed[1].split(",")))
        if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", self.rest):
            return tuple(_iota(iota[2])[: int(iota[1])].tolist())  # [2,4]<=[4,2]T(1,0)
        if axes := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", self.rest):
            return _along(*axes.groups())  # mesh['a'=2,'b'=4] {'b'}
        raise ValueError(
            f"expected the groups of a collective, got {self.rest[:200]!r}; this XLA writes them in another way"
        )


def instructions(text: str, turns: int = 1) -> list[Instruction]:
    """The instructions of a program's text.

    Args:
      text: of an HLO module, as `compiled.as_text()` gives it.
      turns: of each loop of which the text does not say how many it takes.
    Example: >>> {line.kind for line in instructions(compiled.as_text())}
    """
    everybody = re.search(r"num_partitions=(\d+)", text)
    devices = everybody[1] if everybody else "1"
    lines: list[tuple[str, tuple[str, str, str, str]]] = []  # each in its computation
    calls: list[tuple[str, str, int]] = []  # (who, whom, how often)
    name = ""
    for line in text.replace("replica_groups={}", f"replica_groups=[1,{devices}]<=[{devices}]").splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line):
            name = head[1]
        elif found := _LINE.match(line):
            lines.append((name, (found[1], found[2], found[3], found[4])))
            known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            often = 1 if found[3] != "while" else int(known[1]) if known else turns
            calls += [(name, called, often) for called in _CALLED.findall(line)]
    times: dict[str, int] = {}
    for _ in calls:  # as deep as calls may nest
        before = dict(times)
        times |= {whom: times.get(who, 1) * often for who, whom, often in calls}
        if times == before:
            break
    return [Instruction(*line, times.get(name, 1)) for name, line in lines]


def collectives(compiled: Any) -> pd.DataFrame:
    """The collectives of a compiled program, as each device takes part in them in one call.

    Those in a loop count once a turn where the text says how many turns it takes (`lax.scan`, `lax.fori_loop` with
    fixed bounds), else once.

    Args:
      compiled: what `jax.jit(f).lower(...).compile()` gives.
    Returns:
      A row for each kind and group size: `kind` (all-reduce, all-gather, reduce-scatter, collective-permute,
      all-to-all), `devices` (how many take part in one, 0 for a collective-permute), `count`, and `bytes`, summed over
      them: of the whole array (what an all-gather gives, what a reduce-scatter takes, what an all-reduce, an
      all-to-all or a permute gives on one device). No rows where nothing is sent.
    Raises:
      TypeError: it is not compiled.
    Example: >>> collectives(jax.jit(step).lower(params, x).compile())
    """
    if not isinstance(compiled, jax.stages.Compiled):
        raise TypeError(
            f"compiled must be a jax.stages.Compiled, got {type(compiled).__name__}; "
            "pass jax.jit(f).lower(...).compile()"
        )
    counts, sizes = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for line in instructions(compiled.as_text() or ""):
        if (kind := line.kind.removesuffix("-start")) in KINDS:
            row = kind, 0 if kind == "collective-permute" else len(line.group)
            counts[row] += line.times
            sizes[row] += line.times * line.bytes
    rows = sorted(counts, key=lambda row: (KINDS.index(row[0]), row[1]))
    table = [{"kind": row[0], "devices": row[1], "count": counts[row], "bytes": sizes[row]} for row in rows]
    return pd.DataFrame(table, columns=["kind", "devices", "count", "bytes"])


def bytes_per_device(tree: Any) -> int:
    """How many bytes of a tree's arrays one device holds.

    Args:
      tree: of arrays, or of `jax.ShapeDtypeStruct`s; a leaf without a sharding counts whole.
    Returns:
      Bytes on each device of the shardings' meshes.
    Raises:
      TypeError: a leaf has no shape and dtype.
      ValueError: a sharding does not divide its array (JAX's message).
    Example: >>> bytes_per_device(jax.device_put(jnp.ones((8, 4)), NamedSharding(mesh, P("data"))))   # 16 of 128
    """
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise TypeError(
                f"expected arrays or jax.ShapeDtypeStructs, got {type(leaf).__name__} at "
                f"{jax.tree_util.keystr(path) or 'the root'}; pass a tree of arrays"
            )
        sharding = getattr(leaf, "sharding", None)
        shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
        total += math.prod(shape) * leaf.dtype.itemsize
    return total


def _iota(text: str) -> np.ndarray:
    """Devices in the order that "[4,2]T(1,0)" means."""
    sizes, _, order = text.partition("T")
    devices = np.arange(math.prod(json.loads(sizes))).reshape(json.loads(sizes))
    return (devices.transpose([int(axis) for axis in order.strip("()").split(",")]) if order else devices).ravel()


def _along(mesh: str, order: str | None, taken: str) -> tuple[int, ...]:
    """The first group along the axes `taken` of a mesh, "'a'=2,'b'=4"; of an axis 'b':(1)2 two of the parts."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    devices = _iota(order) if order else np.arange(math.prod(sizes.values()))
    parts = {
        name: (int(before or 1), int(part or sizes[name]))
        for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", taken)
    }
    shape, place = [], []  # an axis 'a':(2)4 of size 16 is split into 2, 4 and 2, of which the 4 take part
    for name, size in sizes.items():
        before, part = parts.get(name, (1, 1))
        shape += [before, part, size // before // part]
        place += [0, slice(None) if name in parts else 0, 0]
    return tuple(np.ravel(devices.reshape(shape)[tuple(place)]).tolist())
