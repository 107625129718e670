"""ROSETTA.md from the entries in rosetta/: `make rosetta` (or python -m tools.rosetta)."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from pathlib import Path
from types import ModuleType

from rosetta import kinds, messages, names
from tools.lessons import ROOT, lessons, title_of

PAGE = ROOT / "ROSETTA.md"
ALIKE, SAME, EXACT = "JAX, written alike", "JAX, same result", "JAX, exact"  # of a trap, its fix, and a fix without one
LABELS = {"nnx": "# Flax NNX", "linen": "# Flax Linen"}


def groups() -> dict[str, ModuleType]:
    """The group modules in the order of the page."""
    return {name: importlib.import_module(f"rosetta.{name}") for name in kinds.GROUPS}


def snippet(entry: type[kinds.Pair], side: str) -> str:
    """The body of one side's function; what it returns is shown as an expression."""
    source = textwrap.dedent(inspect.getsource(entry.sides()[side]))
    function = ast.parse(source).body[0]
    lines = source.splitlines()
    for found in own_returns(function):
        lines[found.lineno - 1] = lines[found.lineno - 1].replace("return ", "", 1)
    body = "\n".join(lines[function.body[0].lineno - 1 - len(decorators(function.body[0])) :])
    text = "\n".join(re.sub(r"  # (fmt|noqa).*", "", line) for line in textwrap.dedent(body).split("\n"))
    return text.strip("\n")


def decorators(node: ast.stmt) -> list[ast.expr]:
    """Lines that stand above a statement's own line."""
    return getattr(node, "decorator_list", [])


def own_returns(function: ast.FunctionDef) -> list[ast.Return]:
    """The returns of a function that are not those of a function inside it."""
    found, inside = [], list(function.body)
    while inside:
        node = inside.pop()
        if isinstance(node, ast.Return):
            found.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            inside += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def everything() -> dict[str, list[type[kinds.Pair]]]:
    """All entries by group, in the order of the page."""
    return {name: kinds.entries(module) for name, module in groups().items()}


def by_name(entries: dict[str, list[type[kinds.Pair]]]) -> names.Index:
    """PyTorch's names -> the entries that cover them."""
    return names.index([(name, entry) for name, found in entries.items() for entry in found])


def opening(entries: dict[str, list[type[kinds.Pair]]]) -> list[str]:
    """What the stone is and how it is written, in two paragraphs."""
    traps = sum(bool(entry.trap) for found in entries.values() for entry in found)
    total = sum(map(len, entries.values()))
    return [
        f"{total} entries. `make test-thorough` runs both sides of each on random inputs and compares results, and "
        f"gradients where there are any. {traps} entries differ on purpose: these are marked **Trap**, and the "
        f"difference is checked too. *{ALIKE}* is then what one would write first, *{SAME}* what gives PyTorch's "
        "result.",
        "Imports are the usual ones: `F` is torch.nn.functional, `jnp` jax.numpy, `lax` jax.lax, `nnx` flax.nnx, `nn` "
        "flax.linen, `ocp` orbax.checkpoint; `layers`, `optimizers` and `porting` are of this repository's `course`. "
        "Names without a definition are inputs.",
    ]


def page_text() -> str:
    """The whole page."""
    modules, entries = groups(), everything()
    stems = {lesson.stem: title_of(lesson)[0] for lesson in lessons()}
    covered = by_name(entries)
    page = [
        "<!-- written by `make rosetta` from the classes in rosetta/: edit those -->",
        "# Rosetta stone: PyTorch and JAX side by side",
        *opening(entries),
        f"Look it up by subject, by one of [{len(covered)} names of PyTorch](#names-of-pytorch), or by the words of "
        f"[{len(messages.MESSAGES)} error messages](#error-messages) of JAX, Flax and Optax.",
        "## Contents",
    ]
    page.append("\n".join(in_contents(name, modules[name], found) for name, found in entries.items()))
    for name, found in entries.items():
        title, text = title_and_text(modules[name])
        page += [f'## <a id="{name}"></a>{title}', text]
        for entry in found:
            page += shown(name, entry, stems)
    page.append("## Names of PyTorch")
    for prefix, links in name_lists(covered).items():
        page += [f"### {prefix}", links]
    page += ["## Error messages", message_index(modules)]
    return "\n\n".join(page) + "\n"


def shown(group: str, entry: type[kinds.Pair], lesson_names: dict[str, str]) -> list[str]:
    """One entry: its title, the two sides, and what is to be said."""
    page = [
        f'### <a id="{target(group, entry)}"></a>{entry.__doc__}',
        side_by_side(snippet(entry, "torch"), jax_code(entry), heading(entry)),
    ]
    if entry.trap:
        stem = entry.lesson[0]
        shown_in = f" Shown in [{lesson_names.get(stem, stem)}](notebooks/{stem}.ipynb)." if stem else ""
        page.append(f"**Trap.** {entry.trap}{shown_in}")
    if "fix" in entry.sides():
        page.append(f"*{heading(entry, 'fix')}*\n\n```python\n{snippet(entry, 'fix')}\n```")
    if entry.note:
        page.append(entry.note)
    return page


def jax_code(entry: type[kinds.Pair]) -> str:
    """The JAX side: one program, or one for each flavour of Flax, labelled."""
    ours = [name for name in ("jax", "nnx", "linen") if name in entry.sides()]
    return "\n\n".join((f"{LABELS[name]}\n" if name in LABELS else "") + snippet(entry, name) for name in ours)


def name_lists(covered: names.Index, page: str = "") -> dict[str, str]:
    """The index of PyTorch's names, prefix -> a list of links; neighbours with the same entries share a line."""
    rows = []
    for name, found in covered.items():
        prefix, _, last = name.rpartition(".")
        twins = prefix in ("torch", "Tensor") and covered.get(f"torch.{last}") == covered.get(f"Tensor.{last}")
        if not (twins and prefix == "Tensor"):  # it stands beside torch's
            spelt = [name, f"Tensor.{last}"] if twins else [name]
            rows.append((prefix, ", ".join(link(*entry, page) for entry in found), spelt))
    parts = {}
    for prefix, of_prefix in itertools.groupby(rows, key=lambda row: row[0]):
        lines = []
        for links, alike in itertools.groupby(of_prefix, key=lambda row: row[1]):
            spellings = ", ".join(f"`{name}`" for _, _, spelt in alike for name in spelt)
            lines.append(f"- {spellings}: {links}")
        parts[prefix] = "\n".join(lines)
    return parts


def message_index(modules: dict[str, ModuleType], page: str = "") -> str:
    """The index of error messages, in their alphabetical order."""
    lines = []
    for found in sorted(messages.MESSAGES, key=lambda found: (found.error.lower(), found.text.lower())):
        group, _, name = found.entry.partition(".")
        error, text = (" or ".join(map(quoted, words.split("|"))) for words in (found.error, found.text))
        source = f" ([source]({found.source}))" if found.source else ""
        entry = link(group, getattr(modules[group], name), page)
        lines.append(f"- {error}: {text}{source}. {found.meaning} See {entry}.")
    return "\n".join(lines)


def quoted(code: str) -> str:
    """Code in Markdown, backticks included."""
    return f"`` {code} ``" if "`" in code else f"`{code}`"


def in_contents(name: str, module: ModuleType, found: list[type[kinds.Pair]], page: str = "") -> str:
    title, marked = title_and_text(module)[0], sum(bool(entry.trap) for entry in found)
    traps = f", {marked} trap{'s' * (marked > 1)}" if marked else ""
    return f"- [{title}]({page.format(name) or f'#{name}'}): {len(found)} entries{traps}"


def heading(entry: type[kinds.Pair], side: str = "jax") -> str:
    """What stands above the JAX side, or above the fix."""
    if side == "fix":
        return SAME if entry.trap else EXACT
    return ALIKE if entry.trap else "JAX"


def side_by_side(left: str, right: str, heading: str) -> str:
    cells = "</td><td>".join(f"\n\n```python\n{code}\n```\n\n" for code in (left, right))
    return f"<table><tr><th>PyTorch</th><th>{heading}</th></tr><tr><td>{cells}</td></tr></table>"


def title_and_text(module: ModuleType) -> tuple[str, str]:
    """A group's title and its opening words, from the module's docstring."""
    title, _, text = inspect.cleandoc(module.__doc__).partition("\n\n")
    return title, " ".join(text.split())


def target(group: str, entry: type[kinds.Pair]) -> str:
    return f"{group}-{entry.__name__.lower()}"


def link(group: str, entry: type[kinds.Pair], page: str = "") -> str:
    """A link to an entry; `page` is the file that shows a group, "{}.md", or nothing for the same page."""
    return f"[{entry.__doc__}]({page.format(group)}#{target(group, entry)}){', trap' if entry.trap else ''}"


def main(page: Path = PAGE) -> None:
    page.write_text(page_text(), "utf-8")
    print(f"{page.name}: {len(page.read_text('utf-8')) // 1000} KB")


if __name__ == "__main__":
    main()
