"""What of `course` the reference shows: which modules have a page, and which names stand on it. Nothing is imported."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import cache

from tools.guards import lessons_of, modules, parents
from tools.lessons import ROOT

INDEX = "api/index"
CHECKS = "course.checks"  # one page, without the modules inside


@dataclass(frozen=True)
class Definition:
    """Where a name is defined: the file, its lines there, and the module's own name for it."""

    path: str
    node: ast.stmt
    full_name: str
    words: str = ""  # a constant's: the text in quotes below it

    @property
    def is_property(self) -> bool:
        decorators = [ast.unparse(one) for one in getattr(self.node, "decorator_list", [])]
        return bool({"property", "cached_property", "functools.cached_property"} & set(decorators))


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of the package, parsed."""
    return {name: ast.parse(code) for name, code in modules().items()}


def docstring(module: str) -> str:
    return ast.get_docstring(trees()[module]) or ""


def file_of(module: str) -> str:
    """A module's path in the repository."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


@cache
def own_names(module: str) -> dict[str, Definition]:
    """What a module itself defines under public names: functions, classes, and constants that have words."""
    found, body = {}, trees()[module].body
    for node, below in zip(body, [*body[1:], None], strict=True):
        words = _text(below)
        for name in _names(node):
            if not name.startswith("_") and (words or isinstance(node, ast.FunctionDef | ast.ClassDef)):
                found[name] = Definition(file_of(module), node, f"{module}.{name}", words)
    return found


def _text(node: ast.stmt | None) -> str:
    """What a text that stands for itself says, as Python's documentation tools read it; empty for any other line."""
    alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return inspect.cleandoc(node.value.value) if alone else ""


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if not isinstance(node, ast.Assign) or ast.unparse(node.value).startswith(("TypeVar(", "ParamSpec(")):
        return []
    return [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]


@cache
def offered(module: str) -> dict[str, Definition]:
    """What a package's `__all__` offers, defined in the modules inside; modules themselves left out."""
    tree, found = trees()[module], {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in trees():
            for alias in node.names:
                if alias.name in own_names(node.module):
                    found[alias.name] = own_names(node.module)[alias.name]
    said = next((node.value for node in tree.body if "__all__" in _names(node)), None)
    return {name: found[name] for name in ast.literal_eval(said) if name in found} if said else {}


@cache
def public_names(module: str) -> dict[str, Definition]:
    """What stands on a module's page: what a package offers, or what a module defines that its package does not."""
    if found := offered(module):
        return found
    above = {name.full_name for parent in parents(module) if parent in trees() for name in offered(parent).values()}
    return {name: what for name, what in own_names(module).items() if what.full_name not in above}


@cache
def pages() -> list[str]:
    """The modules with a page: those that name their lesson and have functions or classes that no package offers."""
    return [
        module
        for module in trees()
        if module != "course"
        and not module.startswith(f"{CHECKS}.")
        and lessons_of(docstring(module))
        and any(isinstance(what.node, ast.FunctionDef | ast.ClassDef) for what in public_names(module).values())
    ]


def page_of(module: str) -> str:
    """The page that shows a module: its own, or that of the package around it."""
    around = [name for name in (module, *reversed(parents(module))) if name in pages()]
    return f"api/{around[0]}" if around else INDEX


@cache
def definitions() -> dict[str, Definition]:
    """All that the reference shows, by the name that it has there: functions, classes, constants, and methods."""
    found = {f"{module}.{name}": what for module in pages() for name, what in public_names(module).items()}
    found[f"{CHECKS}.core.Check"] = own_names(f"{CHECKS}.core")["Check"]
    for name, what in list(found.items()):
        for node in members(what):
            found[f"{name}.{node.name}"] = Definition(what.path, node, f"{what.full_name}.{node.name}")
    return found


def members(what: Definition) -> list[ast.FunctionDef]:
    """The methods of a class that have a docstring and no underscore, but for `__call__`."""
    if not isinstance(what.node, ast.ClassDef):
        return []
    return [
        node
        for node in what.node.body
        if isinstance(node, ast.FunctionDef)
        and ast.get_docstring(node)
        and (not node.name.startswith("_") or node.name == "__call__")
    ]


@cache
def aliases() -> dict[str, str]:
    """Every spelling of a public name or module, "course.porting.conversion.mapping" for one, to its place."""
    found = {module: module for module in pages()}
    for name, what in definitions().items():
        found |= {what.full_name: name, name: name}
    return found


@cache
def scope(module: str) -> dict[str, str]:
    """The package's names that a module's code can write, its own and imported ones, with their full names."""
    found = {name: what.full_name for name, what in own_names(module).items()}
    for node in trees()[module].body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course"):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def written(name: str, module: str) -> str | None:
    """The place of a name, dotted or not, as the code behind a page writes it; None where it is not of the package."""
    behind = {module, *(what.full_name.rpartition(".")[0] for what in public_names(module).values())}
    first, dot, rest = name.partition(".")
    full_names = (scope(one)[first] + dot + rest for one in sorted(behind) if first in scope(one))
    return next((aliases()[full] for full in full_names if full in aliases()), None)


def place(name: str, module: str) -> str | None:
    """The full name that a docstring of a module means by a short one; None where it means nothing public."""
    around = [f"{parent}.{name}" for parent in (module, *reversed(parents(module)))]
    return next((aliases()[spelled] for spelled in (*around, name) if spelled in aliases()), None)
