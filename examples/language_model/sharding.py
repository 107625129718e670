"""Which array is split along which axis of the mesh: one table, for parameters, moments and batches. Needs JAX.

An axis that the mesh does not have splits nothing, so that the same table is data parallelism on the mesh "data=8",
FSDP (ZeRO) on "fsdp=8", tensor parallelism on "tensor=8", and their product on "data=2,fsdp=2,tensor=2". Lesson:
13_many_devices.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = {"data": "parts of the batch", "fsdp": "parts of the batch, weights split too", "tensor": "parts of each layer"}
RULES = {
    # parameters, by the end of their path; the optimizer's moments and the moving average have the same paths
    r"embed/embedding": ("tensor", "fsdp"),
    r"(query|key|value|up|head)/kernel": ("fsdp", "tensor"),
    r"(out|down)/kernel": ("tensor", "fsdp"),
    # what flows: the batch lies along both axes, and nothing else is split
    r"tokens|activations": ("data fsdp",),
    # all else, scales of norms and counters, is whole on every device
}


class MeshError(ValueError):
    """A mesh that there is none, or an array that it does not split evenly."""


def make_mesh(text: str = "") -> Mesh:
    """The mesh that `text` names, "data=4,tensor=2"; all devices on `data` where it is empty.

    Raises:
      MeshError: an unknown axis, a size that is no number above 0, or another number of devices than there are.
    """
    devices, sizes = jax.device_count(), dict[str, int]()
    for part in (text or f"data={devices}").split(","):
        name, _, size = part.strip().partition("=")
        if name not in AXES or name in sizes or not re.fullmatch("[1-9][0-9]*", size):
            known = ", ".join(f"{axis} ({what})" for axis, what in AXES.items())
            raise MeshError(f"expected axes among {known}, got {part!r} in {text!r}; write --mesh data=4,tensor=2")
        sizes[name] = int(size)
    if math.prod(sizes.values()) != devices:
        got = f"{math.prod(sizes.values())} in {text!r}; the sizes' product is the number of devices"
        raise MeshError(f"expected a mesh of {devices} devices, got {got}")
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), (AxisType.Auto,) * len(sizes))


def spec(name: str, mesh: Mesh) -> PartitionSpec:
    """The rule of an array, by the end of its path, on this mesh."""
    for end, rule in RULES.items():
        if re.fullmatch(f"(.*/)?({end})", name):
            present = (tuple(axis for axis in axes.split() if axis in mesh.shape) for axes in rule)
            return PartitionSpec(*(axes or None for axes in present))
    return PartitionSpec()


def of_tree(tree: Any, mesh: Mesh) -> Any:
    """The sharding of each leaf of a state, arrays or their shapes.

    Raises:
      MeshError: a mesh's axes do not divide the array's.
    """

    def of_leaf(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return checked("/".join(str(part.key) for part in path if hasattr(part, "key")), leaf.shape, mesh)

    return jax.tree.map_with_path(of_leaf, tree)


def checked(name: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """The sharding of the array `name`.

    Raises:
      MeshError: the mesh does not divide it.
    """
    rule = spec(name, mesh)
    for size, axes in zip(shape, rule, strict=False):
        along = (axes,) if isinstance(axes, str) else axes or ()  # PartitionSpec holds a tuple of one as its string
        parts = math.prod(mesh.shape[axis] for axis in along)
        if size % parts:
            raise MeshError(
                f"expected {name} {shape} to divide by {dict(mesh.shape)}, got {size} over {parts} devices along "
                f"{', '.join(along)}; take another mesh, or sizes that divide"
            )
    return NamedSharding(mesh, rule)
