"""Answers to the exercises of 13_many_devices."""

import math

from flax import linen as nn
from jax.sharding import PartitionSpec as P

from tests.answers import right, wrong

SHARDS = {"a": (16, 256), "b": (64, 128), "c": (8, 256), "d": 8192, "e": 4}
wrong("shards_on_a_mesh", "which stays")(SHARDS | {"a": (64, 256)})
wrong("shards_on_a_mesh", "by all eight devices")(SHARDS | {"a": (8, 256)})
wrong("shards_on_a_mesh", "model cuts axis 1")(SHARDS | {"b": (32, 256)})
wrong("shards_on_a_mesh", "both names are in one entry")(SHARDS | {"c": (16, 128)})
wrong("shards_on_a_mesh", "numbers, not bytes")(SHARDS | {"d": 2048})
wrong("shards_on_a_mesh", "the number of different parts")(SHARDS | {"e": 2})
right("shards_on_a_mesh")(SHARDS)
right("shards_on_a_mesh")({"e": 8 // 2, "d": 32 * 64 * 4, "c": [8, 256], "b": [64, 128], "a": [16, 256]})


@wrong("spec_from_rules", "an axis of the mesh cuts two axes")
def each_axis_for_itself(axes, rules):
    return P(*(dict(rules).get(axis) for axis in axes))


@wrong("spec_from_rules", "the first axis of the array wins")
def in_the_order_of_the_array(axes, rules):
    table, entries, taken = dict(rules), [], set()
    for axis in axes:
        entry = table.get(axis)
        wanted = {entry} if isinstance(entry, str) else set(entry or ())
        entries.append(None if wanted & taken else entry)
        taken |= wanted
    return P(*entries)


wrong("spec_from_rules", "logical names; a spec has the mesh's")(lambda axes, rules: P(*axes))
wrong("spec_from_rules", "KeyError")(lambda axes, rules: P(*(dict(rules)[axis] for axis in axes)))
wrong("spec_from_rules", "return P(*entries)")(lambda axes, rules: tuple(dict(rules).get(axis) for axis in axes))
wrong("spec_from_rules", "the order of the rules")(lambda axes, rules: P(*(to for name, to in rules if name in axes)))
wrong("spec_from_rules", "nothing is cut")(lambda axes, rules: P())
right("spec_from_rules")(lambda axes, rules: nn.logical_to_mesh_axes(axes, rules))


@right("spec_from_rules")
def entries_in_a_list(axes, rules):
    entries, taken = [None] * len(axes), []
    for name, to in rules:
        to = (to,) if isinstance(to, str) else to
        if name in axes and not any(one in taken for one in to):
            entries[axes.index(name)] = to
            taken += to
    return P(*entries)


def held(shape, spec, mesh, check=True):
    part = list(shape)
    for axis, entry in enumerate(spec):
        for name in (entry,) if isinstance(entry, str) else entry or ():
            if check and part[axis] % mesh[name]:
                raise ValueError("uneven")
            part[axis] //= mesh[name]
    return math.prod(part)


def total(factor, each=held):
    return lambda shapes, specs, mesh: factor * sum(each(shapes[name], specs[name], mesh) for name in shapes)


wrong("training_bytes", "the weights alone")(total(4))
wrong("training_bytes", "one moment")(total(8))
wrong("training_bytes", "numbers, not bytes")(total(3))
wrong("training_bytes", "nothing is cut")(total(12, lambda shape, spec, mesh: math.prod(shape)))
wrong("training_bytes", "everything is divided by all devices")(
    total(12, lambda shape, spec, mesh: math.prod(shape) / math.prod(mesh.values()))
)
wrong("training_bytes", "only the first cuts")(
    total(12, lambda shape, spec, mesh: held(shape, [e[0] if isinstance(e, tuple) else e for e in spec], mesh))
)
wrong("training_bytes", "`//` rounds")(total(12, lambda shape, spec, mesh: held(shape, spec, mesh, check=False)))
right("training_bytes")(total(12))


@right("training_bytes")
def by_division_of_the_whole(shapes, specs, mesh):
    result = 0
    for name, shape in shapes.items():
        entries = [entry if isinstance(entry, tuple) else (entry,) for entry in specs[name] if entry]
        spans = [entry if isinstance(entry, tuple) else (entry,) if entry else () for entry in specs[name]]
        for length, span in zip(shape, spans, strict=False):
            if length % math.prod(mesh[one] for one in span):
                raise ValueError(name)
        result += 12 * math.prod(shape) // math.prod(mesh[one] for entry in entries for one in entry)
    return result


def cut(shape, axis):
    return P() if axis is None else P(*("data" if place == axis else None for place in range(len(shape))))


wrong("fsdp_axis", "does not divide axis 0")(lambda shape, devices: P("data") if shape else P())
wrong("fsdp_axis", ", the longest")(lambda shape, n: cut(shape, shape.index(max(shape)) if shape else None))
wrong("fsdp_axis", "asked is the longest")(
    lambda shape, n: cut(shape, next((axis for axis, length in enumerate(shape) if length % n == 0), None))
)
wrong("fsdp_axis", "can cut one axis of the array only")(
    lambda shape, n: P(*("data" if length % n == 0 else None for length in shape))
)
wrong("fsdp_axis", "an axis can be cut")(lambda shape, n: P())
wrong("fsdp_axis", "of equal ones not the first")(
    lambda shape, n: cut(shape, max((length, axis) for axis, length in enumerate(shape) if length % n == 0)[1]
                         if any(length % n == 0 for length in shape) else None)
)  # fmt: skip


@right("fsdp_axis")
def sorted_candidates(shape, devices):
    candidates = sorted((-length, axis) for axis, length in enumerate(shape) if length % devices == 0)
    return cut(shape, candidates[0][1] if candidates else None)


@right("fsdp_axis")
def with_a_tuple(shape, devices):
    best = None
    for axis, length in enumerate(shape):
        if not length % devices and (best is None or shape[best] < length):
            best = axis
    return P() if best is None else P(*([None] * best + [("data",)]))
