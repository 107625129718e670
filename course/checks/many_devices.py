"""Checks of the exercises on shards, rules and the memory of a device. Needs NumPy, pandas, JAX and flax.

No devices are needed: shardings on an abstract mesh know shapes and bytes. Lesson: 13_many_devices.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

from course.checks.core import check, function, predicted_parts, same, wrong
from course.sharding import bytes_per_device

LESSON = "13_many_devices"


def _spec(got: Any, length: int, usage: str) -> tuple[Any, ...]:
    """An answer's PartitionSpec as a tuple of the array's length; one-name tuples are that name."""
    if not isinstance(got, P):
        slip = "return P(*entries), not the entries" if isinstance(got, tuple | list) else ""
        wrong(f"{usage} must return a jax.sharding.PartitionSpec.", got=got, slip=slip)
    parts = [part[0] if isinstance(part, tuple) and len(part) == 1 else part for part in got]
    return tuple(parts + [None] * (length - len(parts)))


@check(
    LESSON,
    "A spec goes along the axes of the array: its first entry is for axis 0, and what it doesn't name is whole.",
    "Divide the length of an axis by the number of devices along the axis of the mesh that cuts it: 4 or 2.",
    "Eight devices hold something always: where there are fewer parts than devices, some parts exist several times.",
    points=2,
)
def shards_on_a_mesh(rng: np.random.Generator, shards: Any) -> None:
    """What a device holds under five specs; measured with NamedSharding on an abstract mesh."""
    mesh = AbstractMesh((4, 2), ("data", "model"))
    shape = (64, 256)

    def held(*spec: Any) -> tuple[int, ...]:
        return NamedSharding(mesh, P(*spec)).shard_shape(shape)

    different = math.prod(shape) // math.prod(held("model"))
    truth = {
        "a": held("data"),
        "b": held(None, "model"),
        "c": held(("data", "model")),
        "d": bytes_per_device(
            jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P("model", "data")))
        ),
        "e": 8 // different,
    }
    slips: dict[str, dict[Any, str]] = {
        "a": {shape: "that is the array's shape, which stays; asked is what one device holds",
              (8, 256): "by all eight devices; along data there are four", (64, 64): "the first entry is for axis 0"},
        "b": {(32, 256): "None stands for axis 0; model cuts axis 1", (64, 64): "by four; along model there are two",
              (64, 32): "by all eight; along model there are two"},
        "c": {(16, 128): "both names are in one entry, so both cut axis 0",
              (16, 256): "both axes of the mesh cut axis 0: in 4 times 2 parts"},
        "d": {2048: "numbers, not bytes; a float32 has four", 65536: "all of it; the array is cut",
              32768: "cut by model alone; data cuts axis 1", 16384: "eight bytes a number; float32 has four"},
        "e": {1: "along data nothing is cut", 2: "two is the number of different parts", 8: "it is cut along model"},
    }  # fmt: skip
    predicted_parts(shards, truth, slips, "part {}")


@check(
    LESSON,
    "Go through the rules in order, not through the axes: an earlier rule has the first claim to an axis of the mesh.",
    "A rule applies where its name is among the axes and none of its mesh axes is taken. Others leave None.",
    "A value may be a tuple of mesh axes: make a tuple of every value, and keep a set of what is taken.",
    points=3,
)
def spec_from_rules(rng: np.random.Generator, spec_of: Any) -> None:
    """Logical names to a PartitionSpec, against flax's logical_to_mesh_axes."""
    usage = "spec_of(axes, rules)"
    answer = function(spec_of, usage)
    n, m = rng.permutation(["embed", "mlp", "heads", "vocab", "kv"]).tolist(), rng.permutation(["x", "y", "z"]).tolist()
    cases: list[tuple[tuple[Any, ...], list[tuple[str, Any]]]] = [
        ((n[0], n[1]), [(n[1], m[1]), (n[0], m[0])]),
        ((n[0], None, n[2]), [(n[0], m[0])]),
        ((n[1], n[0]), [(n[0], m[0]), (n[1], m[0])]),
        ((n[0], n[1], n[2]), [(n[0], (m[0], m[1])), (n[1], m[1]), (n[2], m[2])]),
        ((), [(n[0], m[0])]),
    ]
    for axes, rules in cases:
        expected = _spec(nn.logical_to_mesh_axes(axes, rules), len(axes), usage)
        got = _spec(answer(axes, rules), len(axes), usage)
        if got == expected:
            continue
        flat = [one for part in got if part is not None for one in (part if isinstance(part, tuple) else (part,))]
        table, first = dict(rules), []
        for axis in axes:
            first.append(table.get(axis) if table.get(axis) not in first else None)
        slip = ""
        if set(flat) & set(n):
            slip = "logical names; a spec has the mesh's"
        elif len(flat) != len(set(flat)):
            slip = "an axis of the mesh cuts two axes of the array; each can be used once"
        elif got == tuple(first):
            slip = "the first axis of the array wins; the earlier rule should"
        elif len(got) != len(expected) or sorted(map(str, got)) == sorted(map(str, expected)):
            slip = "the order of the rules, not of the array's axes"
        elif all(part is None for part in got):
            slip = "nothing is cut; rules are pairs (name, mesh axes)"
        wrong(f"the spec of {axes} under {rules} is not right.", expected=str(expected), got=str(got), slip=slip)


@check(
    LESSON,
    "What divides an axis is the size of the mesh's axis, or the product where the entry is a tuple of them.",
    "A spec may be shorter than the shape; the rest is whole. An array that is not cut counts whole on every device.",
    "Weights and Adam's two moments: three arrays of the shard's shape, four bytes a number.",
    points=3,
)
def training_bytes(rng: np.random.Generator, bytes_on_device: Any) -> None:
    """Bytes of weights and moments on a device, against shardings on an abstract mesh."""
    answer = function(bytes_on_device, "bytes_on_device(shapes, specs, mesh)")
    for data, model in ((4, 2), (2, 4), (8, 1)):
        a, b, c, d = (int(k) for k in rng.choice([24, 40, 56, 72, 88], 4, replace=False))
        shapes = {"embed": (a * 8, b * 8), "up": (b * 8, c * 8), "down": (c * 8, b * 8), "bias": (d,), "scale": (7,)}
        specs = {"embed": P(("data", "model")), "up": P("data", "model"), "down": P(None, "data"), "bias": P("model"),
                 "scale": P()}  # fmt: skip
        sizes = {"data": data, "model": model}
        mesh = AbstractMesh((data, model), ("data", "model"))
        structs = {
            name: jax.ShapeDtypeStruct(shapes[name], jnp.float32, sharding=NamedSharding(mesh, specs[name]))
            for name in shapes
        }
        truth, whole = bytes_per_device(structs), 4 * sum(map(math.prod, shapes.values()))
        no_tuples = truth + 4 * (model - 1) * math.prod(shapes["embed"]) // (data * model)
        same(
            answer(dict(shapes), dict(specs), dict(sizes)), 3 * truth,
            f"the bytes on a mesh of {data} x {model}", rtol=0, atol=0.5,
            slips={
                "the weights alone; Adam keeps two numbers for each": truth,
                "one moment; Adam keeps two": 2 * truth,
                "numbers, not bytes": 3 * truth // 4,
                "eight bytes a number; they are float32": 6 * truth,
                "nothing is cut": 3 * whole,
                "everything is divided by all devices; only what is cut is": 3 * whole / (data * model),
                "of an entry with two names only the first cuts": 3 * no_tuples,
            },
        )  # fmt: skip
    try:
        got = bytes_on_device({"w": (6, 4)}, {"w": P("data")}, {"data": 4, "model": 2})
    except ValueError:
        return
    except Exception as error:
        wrong("a cut that is not even must raise ValueError.", got=f"{type(error).__name__}: {error}")
    wrong(
        "6 rows over 4 devices: expected a ValueError, as JAX raises.", got=got, slip="`//` rounds; test with `%` first"
    )


@check(
    LESSON,
    "Candidates are the axes whose length `devices` divides; take the longest of them.",
    "The spec has None for the axes before the one that is cut: P(None, 'data') cuts axis 1.",
    "Without a candidate the array stays whole: P().",
    points=2,
)
def fsdp_axis(rng: np.random.Generator, fsdp_spec: Any) -> None:
    """The longest axis that divides, by brute force, for kernels, biases and odd shapes."""
    usage = "fsdp_spec(shape, devices)"
    answer = function(fsdp_spec, usage)
    n = int(rng.choice([4, 6, 8]))
    k = rng.permutation(np.arange(2, 9))
    low, middle, high = (int(v) * n for v in sorted(k[:3]))
    odd = high + 1
    shapes = [
        (odd,),
        (high, low),
        (low, high),
        (low, odd),
        (3, 3, low, middle),
        (),
        (middle,),
        (low, low),
        (1, odd, low),
    ]
    for shape in shapes:
        best: int | None = None
        for axis, length in enumerate(shape):
            if length % n == 0 and (best is None or length > shape[best]):
                best = axis
        expected = tuple("data" if axis == best else None for axis in range(len(shape)))
        got = _spec(answer(shape, n), len(shape), usage)
        if got == expected:
            continue
        cuts = [axis for axis, part in enumerate(got) if part is not None]
        longest = max(range(len(shape)), key=lambda axis: shape[axis], default=None)
        slip = ""
        if len(cuts) > 1:
            slip = "one axis of the mesh can cut one axis of the array only"
        elif cuts and len(got) > len(shape):
            slip = "more entries than the array has axes"
        elif cuts and shape[cuts[0]] % n:
            slip = f"{n} does not divide axis {cuts[0]}" + (", the longest" if cuts[0] == longest else "")
        elif not cuts and best is not None:
            slip = "an axis can be cut, though not the first, or not the longest"
        elif cuts and cuts[0] < (best or 0):
            slip = "the first axis that divides; asked is the longest"
        elif cuts:
            slip = "not the longest axis that divides, or of equal ones not the first"
        wrong(f"the spec of {shape} for {n} devices is not right.", expected=str(expected), got=str(got), slip=slip)
