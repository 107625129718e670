"""The reference of `course`, from its docstrings: pages for autodoc, and the Sphinx extension that makes them readable.

Docstrings are the house's: Markdown's `backticks`, Google's sections. A module's own becomes the page's text; those of
functions and classes go through autodoc and napoleon. Signatures are the sources', so that names of types stay.
"""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

from tools.book import public
from tools.book.places import in_repository, relative
from tools.lessons import exercises, lessons, title_of

LITERAL = re.compile(r"`([^`\n]+)`")
# what docutils would read as markup, outside of literals
ACTIVE = re.compile(r"`(?P<literal>[^`\n]+)`|[|]|(?<=\S)[*]|(?<=\S )[*](?=\S)|(?<=\w)_(?!\w)")
LESSON = re.compile(rf"\b({'|'.join(lesson.stem for lesson in lessons())})\b")
ROW = re.compile(r"^ *(?P<module>[\w.]+) {2,}(?P<lesson>\d\w+) {2,}(?P<what>\S.*)$", re.MULTILINE)
VALUE = 100  # characters of a constant's value; longer ones stand in the source
PRIVATE = re.compile(r"\b_[A-Z]")  # a value made of what the reference does not show
CHECK = f"{public.CHECKS}.core.Check"


# --- the pages ---------------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    """The pages api/index and api/MODULE, one for each public module."""
    (folder / "api").mkdir()
    (folder / f"{public.INDEX}.md").write_text(index_page(), "utf-8")
    for module in public.pages():
        (folder / f"{public.page_of(module)}.md").write_text(page(module), "utf-8")


def index_page() -> str:
    """The index of the package as a table."""
    text = public.docstring("course")
    rows = [row.groupdict() for row in ROW.finditer(text)]
    lines = [
        "# Reference",
        "",
        "The code behind the lessons, in reading order. Each module says which packages it needs,",
    ]
    lines += ["and the lesson to read with it.", "", "| module | what it holds | needs | lesson |", "|---|---|---|---|"]
    for row in rows:
        module = f"course.{row['module']}"
        cells = [f"[`{row['module']}`]({module}.md)", _linked(row["what"], module), needs(module)]
        lines.append(f"| {' | '.join([*cells, _lesson_link(row['lesson'])])} |")
    listed = [f"course.{row['module']}" for row in rows]
    return "\n".join([*lines, "", _toctree([name for name in listed if name in public.pages()]), ""])


def page(module: str) -> str:
    """One module's page: its docstring, the modules inside, then each name."""
    path = public.file_of(module)
    head = [
        f"# {module}",
        "",
        prose(public.docstring(module), module),
        "",
        f"Source: [`{path}`]({in_repository(path)}).",
        "",
    ]
    inside = [name for name in public.pages() if name.startswith(f"{module}.")]
    if inside:
        head += ["Modules inside, for what the package itself does not offer:", ""]
        head += [f"- [{name}]({name}.md): {_linked(_summary(name), name)}" for name in inside]
        head += ["", _toctree(inside), ""]
    names = _checks() if module == public.CHECKS else [_in_rst(module, _directives(module))]
    return "\n".join([*head, *names, ""])


def prose(text: str, module: str) -> str:
    """A module's docstring as Markdown: lessons and public names become links, indented lines a block of text."""
    text = re.sub(r"(?m)^(?:  .*\n?)+", lambda block: f"```text\n{block[0].rstrip()}\n```\n", text)
    parts = re.split(r"(?ms)(^```.*?^```$)", text)
    parts[::2] = [LESSON.sub(lambda stem: _lesson_link(stem[0]), _linked(part, module)) for part in parts[::2]]
    return "".join(parts)


def needs(module: str) -> str:
    """What a module's docstring says after "Needs"."""
    said = re.search(r"Needs ([^.]+)\.", public.docstring(module))
    return _linked(" ".join(said[1].split()), module) if said else ""


def _summary(module: str) -> str:
    return " ".join(public.docstring(module).partition("\n\n")[0].split()).partition(" Needs ")[0]


def _linked(text: str, module: str) -> str:
    def link(found: re.Match) -> str:
        target = public.place(found[1], module)
        return f"{{py:obj}}`{found[1]} <{target}>`" if target else found[0]

    return LITERAL.sub(link, text)


def _lesson_link(stem: str) -> str:
    return f"[{_title(stem)}]({relative(f'lessons/{stem}', '', public.INDEX)})"


@cache
def _title(stem: str) -> str:
    return title_of(next(lesson for lesson in lessons() if lesson.stem == stem))[0]


def _toctree(modules: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *modules, "```"])


def _in_rst(module: str, directives: list[str]) -> str:
    quiet = ["   :no-index:"] * (module in public.definitions())  # the name leads to the function of that name
    return "\n".join(["```{eval-rst}", f".. py:module:: {module}", *quiet, "", *directives, "```"])


def _directives(module: str) -> list[str]:
    lines = []
    for name, what in public.public_names(module).items():
        lines += _directive(f"{module}.{name}", what)
    return lines


def _directive(name: str, what: public.Definition) -> list[str]:
    """What has autodoc document a function or class; a constant is shown as it stands in the source."""
    if isinstance(what.node, ast.FunctionDef):
        return [f".. autofunction:: {name}", ""]
    if isinstance(what.node, ast.ClassDef):
        inside = ", ".join(node.name for node in public.members(what))
        return [
            f".. autoclass:: {name}",
            *([f"   :members: {inside}", "   :member-order: bysource"] if inside else []),
            "",
        ]
    short = name.rpartition(".")[2]
    options = [f"   :type: {ast.unparse(what.node.annotation)}"] if isinstance(what.node, ast.AnnAssign) else []
    value = _value(what.node, short)
    options += [f"   :value: {value}"] if 0 < len(value) <= VALUE and not PRIVATE.search(value) else []
    words = as_rst(what.words, what.full_name.rpartition(".")[0]).split("\n")
    return [f".. py:data:: {short}", *options, "", *(f"   {line}".rstrip() for line in words), ""]


def _value(node: ast.Assign | ast.AnnAssign, name: str) -> str:
    """A constant's value as the source has it; its own part of it in `TORCH, JAX = ...`."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
        names = [ast.unparse(target) for target in node.targets[0].elts]
        return ast.unparse(node.value.elts[names.index(name)])
    return ast.unparse(node.value) if node.value else ""


def _checks() -> list[str]:
    """The page of the checks: what a check is, and the checks of each exercise notebook."""
    general = [*_directive(CHECK, public.definitions()[CHECK]), f".. autofunction:: {public.CHECKS}.progress", ""]
    parts = [_in_rst(public.CHECKS, general)]
    for found in exercises(kinds=("exercise",)):
        of_this = [(name, what) for name, what in public.public_names(public.CHECKS).items()
                   if what.path == f"course/checks/{found.checks.name}"]  # fmt: skip
        page = relative(f"exercises/{found.stem}", "", public.INDEX)
        parts += ["", f"## {title_of(found)[0]}", "", f"[To the exercises]({page}).", ""]
        parts += ["```{eval-rst}", f".. py:currentmodule:: {public.CHECKS}", ""]
        for name, what in of_this:
            answers = ", ".join(arg.arg for arg in what.node.args.args[1:])
            parts += [
                f".. py:function:: {name}({answers})",
                "",
                f"   {as_rst(ast.get_docstring(what.node), public.CHECKS)}",
                "",
            ]
        parts += ["```"]
    return parts


# --- the extension -----------------------------------------------------------------------------------------


def setup(app: Any) -> dict[str, bool]:
    """Read by Sphinx: "tools.book.api" stands among the extensions."""
    app.connect("env-before-read-docs", load)
    app.connect("autodoc-process-signature", signature)
    app.connect("doctree-read", resolve_types)
    app.connect("html-page-context", mend_signatures)
    app.connect("autodoc-process-docstring", rewrite, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The lines of a name in the repository, for sphinx.ext.linkcode."""
    del domain
    found = public.definitions().get(f"{info['module']}.{info['fullname']}")
    if found is None:
        return None
    return f"{in_repository(found.path)}#L{found.node.lineno}-L{found.node.end_lineno}"


def load(app: Any, env: Any, docnames: list[str]) -> None:
    """Import the package once, before Sphinx forks its readers, of which each would import it again."""
    del app, env
    if any(name.startswith("api/") for name in docnames):
        for module in public.pages():
            importlib.import_module(module)


def resolve_types(app: Any, doctree: nodes.document) -> None:
    """Types in signatures lead where the code means; Sphinx would look for anything called so, anywhere."""
    del app
    for name in doctree.findall(nodes.field_name):
        if name.astext() == "Variables":  # Sphinx's word
            name[:] = [nodes.Text("Attributes")]
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node.get("refdomain") != "py" or "refexplicit" in node or node.get("py:module") not in public.pages():
            continue
        if target := public.written(node["reftarget"], node["py:module"]):
            node["reftarget"], node["reftype"] = target, "obj"
        else:
            node.replace_self(node.children)


def mend_signatures(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx sets a signature of several lines as a list of definitions without terms, which is no valid HTML."""
    del app, templatename, doctree
    if pagename.startswith("api/"):
        spans = {"<dl>": '<span class="sig-lines">', "</dl>": "</span>", "<dd>": "<span>", "</dd>": "</span>"}
        context["body"] = re.sub(
            r'(?s)<dt class="sig .*?</dt>',
            lambda found: re.sub(r"</?d[ld]>", lambda tag: spans[tag[0]], found[0]),
            context["body"],
        )


def signature(
    app: Any, what: str, name: str, obj: Any, options: Any, said: str, returns: str
) -> tuple[str, str | None] | None:
    """A signature as the source has it: what is compiled or of flax hides its own, and types keep their names."""
    del app, what, obj, options, said, returns
    found = public.definitions().get(name)
    if found is None or found.is_property:
        return None
    if isinstance(found.node, ast.ClassDef):
        made_with = _constructor(found.node)
        return (made_with, None) if made_with else None
    method = name.rpartition(".")[0] in public.definitions()
    return _arguments(found.node, method=method), ast.unparse(found.node.returns) if found.node.returns else None


def _arguments(node: ast.FunctionDef, *, method: bool) -> str:
    text = ast.unparse(node.args)
    return f"({re.sub(r'^(self|cls)(, |$)', '', text) if method else text})"


def _constructor(node: ast.ClassDef) -> str:
    """What a class is made with: the arguments of `__init__`, or else its fields."""
    for inside in node.body:
        if isinstance(inside, ast.FunctionDef) and inside.name == "__init__":
            return _arguments(inside, method=True)
    fields = [inside for inside in node.body if isinstance(inside, ast.AnnAssign)]
    texts = [ast.unparse(field) for field in fields if "init=False" not in ast.unparse(field)]
    return f"({', '.join(texts)})" if texts else ""


def rewrite(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring of the house as napoleon and docutils read it, in place."""
    del app, what, obj, options
    found = public.definitions().get(name)
    module = found.full_name if found else name
    own = {node.arg for node in ast.walk(found.node) if isinstance(node, ast.arg)} if found else set()
    lines[:] = as_rst("\n".join(lines), module, own).split("\n")


def as_rst(text: str, module: str, parameters: set[str] = frozenset()) -> str:
    """A docstring in reStructuredText, but for the sections that napoleon reads.

    Args:
      text: as it stands in the source.
      module: whose; names are looked up there first.
      parameters: names that mean an argument, whatever else is called so.
    """

    def inline(found: re.Match) -> str:
        if found["literal"] is None:
            return "\\" + found[0]
        target = None if found["literal"] in parameters else public.place(found["literal"].removesuffix("()"), module)
        shown = f":py:obj:`{found['literal']} <{target}>`" if target else f"``{found['literal']}``"
        after = found.string[found.end() : found.end() + 1]
        return shown + ("\\ " if after.isalnum() else "")

    text = re.sub(r"(?m)^Example: (?=>>>)", "Example:\n  ", text)
    text = re.sub(r"(?m)^(Source|Exact|Leibniz|Lessons?): (?=\S)", r"\n\1: ", text)  # a paragraph of its own
    text = re.sub(r"(?m)(?<=\S)\n(?=[A-Z]\w+:$)", "\n\n", text)
    text = re.sub(r"(?m)^(Returns|Yields):$", lambda head: f":{head[1].lower()}:", text)
    kept, example = [], False
    for line in text.split("\n"):
        example = line.lstrip().startswith((">>>", "...")) or (example and bool(line.strip()))
        kept.append(line if example else ACTIVE.sub(inline, line))
    text = "\n".join(kept)
    return LESSON.sub(lambda stem: f":doc:`{_title(stem[0])} </lessons/{stem[0]}>`", text)
