"""Which names of PyTorch an entry covers: those that its PyTorch side writes, and the spellings in its `also`.

Names are spelled as programs spell them: `torch.stack`, `Tensor.clamp`, `nn.Linear`, `F.relu`, `optim.Adam`,
`lr_scheduler.StepLR`, `utils.data.DataLoader`.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from rosetta import kinds

Located = tuple[str, type[kinds.Pair]]  # (group, entry)
Index = dict[str, list[Located]]

SHORT = {"torch.nn.functional": "F", "torch.optim.lr_scheduler": "lr_scheduler", "torch.Tensor": "Tensor"}
PROPERTIES = {"H", "T", "device", "dtype", "grad", "grad_fn", "imag", "is_leaf", "mT", "ndim", "real", "shape"}
# what a call on some object may be, when it is none on a tensor
OTHERS = {*dir(torch.nn.Module), *dir(torch.optim.Optimizer), *dir(list), *dir(dict), *dir(str)}


def names(entry: type[kinds.Pair]) -> dict[str, bool]:
    """The names that an entry covers -> whether the entry lists it in `also`."""
    written = _with_twins(_written(entry.sides()["torch"]))
    return {**dict.fromkeys(written, False), **dict.fromkeys(entry.also, True)}


def resolve(name: str) -> Any:
    """What a name stands for. AttributeError: PyTorch has no such thing."""
    parts = name.split(".")
    long = {short: path for path, short in SHORT.items()}.get(parts[0])
    path = ([*long.split("."), *parts[1:]] if long else parts if parts[0] == "torch" else ["torch", *parts])[1:]
    found = torch
    for part in path:
        found = getattr(found, part)
    return found


def index(entries: list[Located], most: int = 2) -> Index:
    """Name -> the entries that cover it, the best first, of (group, entry); alphabetical, at most so many for a name.

    The best are those that list the name, then those whose titles say it, then those that say least besides.
    """
    ranked: dict[str, list[tuple[tuple[bool, bool, int, int], Located]]] = {}
    for place, (group, entry) in enumerate(entries):
        found = names(entry)
        title = re.findall(r"\w+", (entry.__doc__ or "").lower())
        for name, listed in found.items():
            said = name.rpartition(".")[2].strip("_").lower() in title
            ranked.setdefault(name, []).append(((not listed, not said, len(found), place), (group, entry)))
    in_order = sorted(ranked, key=lambda name: (name.rpartition(".")[0].lower(), name.lower(), name))
    return {name: [entry for _, entry in sorted(ranked[name], key=lambda item: item[0])[:most]] for name in in_order}


def _written(function: Any) -> Iterator[str]:
    """The names in a function's source, in the order of the syntax tree."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in inner:
            value = function.__globals__.get(node.id)
            if inspect.isclass(value) or inspect.isroutine(value):
                yield from _public(value)
        elif isinstance(node, ast.Attribute):
            root, chain = _chain(node)
            value = function.__globals__.get(root) if root else None
            if isinstance(value, ModuleType):
                if id(node) not in inner and value.__name__.partition(".")[0] == "torch":
                    yield from _below(value, chain)
            elif node.attr in (dir(torch.Tensor) if id(node) in called else PROPERTIES) and node.attr not in OTHERS:
                yield f"Tensor.{node.attr}"


def _chain(node: ast.expr) -> tuple[str, list[str]]:
    """`a.b.c` as ("a", ["b", "c"]); no root where it is something else that has the attributes."""
    chain: list[str] = []
    while isinstance(node, ast.Attribute):
        chain.insert(0, node.attr)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else ""), chain


def _below(module: ModuleType, chain: list[str]) -> Iterator[str]:
    """The name of what a chain of attributes of a torch module leads to: the first that is no module."""
    found, path = module, module.__name__
    for part in chain:
        found, path = getattr(found, part), f"{path}.{part}"
        if found is not torch.Tensor and not isinstance(found, ModuleType):
            if callable(found):
                yield _short(path)
            return


def _public(value: Any) -> Iterator[str]:
    """The shortest path below torch at which a class or a function of torch's is found."""
    parts = (value.__module__ or "").split(".")
    for count in range(1, len(parts) + 1) if parts[0] == "torch" else ():
        name = ".".join([*parts[:count], value.__name__])
        try:
            if resolve(name) is value:
                yield _short(name)
                return
        except AttributeError:
            pass


def _short(path: str) -> str:
    for long, short in SHORT.items():
        if path.startswith(f"{long}."):
            return short + path[len(long) :]
    below = path.removeprefix("torch.")
    return below if "." in below else path


def _with_twins(found: Iterator[str]) -> Iterator[str]:
    """`torch.clamp` beside `Tensor.clamp`, and the other way: one function, spelled twice."""
    for name in found:
        yield name
        owner, _, last = name.rpartition(".")
        twin = {"torch": torch.Tensor, "Tensor": torch}.get(owner)
        if not last.endswith("_") and callable(getattr(twin, last, None)) and not isinstance(getattr(twin, last), type):
            yield f"{'Tensor' if owner == 'torch' else 'torch'}.{last}"
