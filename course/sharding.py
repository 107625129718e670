"""What a compiled program sends between devices, and what a device holds of a sharded tree. Needs JAX and pandas.

Lesson: 13_many_devices.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import jax
import pandas as pd

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
"""The collectives of XLA's compiled text, in the order of the table."""

_OPERATION = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\((.*)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_WHILE = re.compile(r" while\(.*body=%?([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")


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
    text, counts, sizes = compiled.as_text() or "", Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    turns = _turns(text)
    for name, lines in _computations(text).items():
        for line in lines:
            if not (found := _OPERATION.search(line)):
                continue
            result, kind, start, rest = found.groups()
            size, devices = _bytes(result, kind, bool(start)), _group(kind, rest, text)
            if kind == "reduce-scatter":
                size *= devices
            counts[kind, devices] += turns.get(name, 1)
            sizes[kind, devices] += turns.get(name, 1) * size
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


def _computations(text: str) -> dict[str, list[str]]:
    """Name of each computation -> its lines."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line):
            lines = found.setdefault(head[1], [])
        else:
            lines.append(line)
    return found


def _turns(text: str) -> dict[str, int]:
    """Name of each computation that a loop of known length runs -> how often, loops around it included."""
    calls: list[tuple[str, str, int]] = []  # (who, whom, how often)
    for name, lines in _computations(text).items():
        for line in lines:
            if loop := _WHILE.search(line):
                known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                calls.append((name, loop[1], int(known[1]) if known else 1))
            else:
                calls += [(name, called, 1) for called in _CALLED.findall(line)]
    turns: dict[str, int] = {}
    for _ in calls:  # as deep as calls may nest
        before = dict(turns)
        turns |= {whom: turns.get(who, 1) * often for who, whom, often in calls}
        if turns == before:
            break
    return turns


def _bytes(result: str, kind: str, start: bool) -> int:
    """Of a result's type; a tuple is several arrays, and of an asynchronous start operands and results."""
    sizes = [
        math.prod(int(n) for n in shape.split(",") if n) * _bits(dtype) // 8 for dtype, shape in _ARRAY.findall(result)
    ]
    if start and kind != "all-reduce":  # (operands, results, …), of which all-reduce-start has the results alone
        return max(sizes) if kind != "reduce-scatter" else min(sizes)
    return sum(sizes)


def _bits(dtype: str) -> int:
    """Of XLA's name of a dtype: f32, bf16, s4, u8, c64, f8e4m3fn; pred is a byte."""
    return 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])


def _group(kind: str, rest: str, text: str) -> int:
    """How many devices take part: from {{0,1},{2,3}}, [2,2]<=[4] or mesh['a'=2,'b'=2] {'a'}; {} is all of them."""
    if kind == "collective-permute":
        return 0
    if axes := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes[1])}
        parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", axes[2])
        return math.prod(int(part) if part else sizes[name] for name, part in parts)
    if shape := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(shape[1])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return listed[1].count(",") + 1
    everybody = re.search(r"num_partitions=(\d+)", text)
    return int(everybody[1]) if everybody else 1
