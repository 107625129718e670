"""Lessons and exercises as pages: the committed notebooks with their outputs, made fit for the web.

Below each check of an exercise stand its hints and its solution, folded. The notebooks themselves can be downloaded.
"""

from __future__ import annotations

import ast
import html
import re
import shutil
from keyword import iskeyword
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.book.places import docname, rewritten
from tools.lessons import GENERATED, ROOT, Lesson, exercises, lessons

CALL = re.compile(r"^checks\.(?P<name>\w+)\(", re.MULTILINE)
HOW = (
    "Launch this page with the rocket above, or type `make lab` in your copy of the course. The folds below each check "
    "hold what `checks.NAME.hint()` and `checks.NAME.solution()` print there."
)


def write(folder: Path) -> None:
    """Every lesson and every exercise, each in its page's place below a folder; beside it, what is downloaded."""
    stage(folder.parent / "extra" / "notebooks")
    for lesson in (*lessons(), *exercises(kinds=("exercise",))):
        path = lesson.notebook.relative_to(ROOT).as_posix()
        page = docname(path)
        assert page is not None, path
        target = folder / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(for_the_web(lesson, path, page), target)


def stage(downloads: Path) -> None:
    """Every notebook as it is in the repository, solutions too, in a folder that the site carries."""
    shutil.rmtree(downloads, ignore_errors=True)
    for notebook in (*lessons(), *exercises()):
        target = downloads / f"{notebook.name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notebook.notebook, target)


def for_the_web(lesson: Lesson, path: str, page: str) -> NotebookNode:
    """The committed notebook: links lead to pages, pictures keep their description, the bootstrap cell is folded."""
    notebook = nbformat.read(lesson.notebook, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not _badges(cell)]
    if lesson.kind == "exercise":
        notebook.cells = with_folds(notebook.cells, lesson)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = rewritten(cell.source, path, page)
        elif GENERATED in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [GENERATED, "hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": "The cell that finds the course on a host"}
        elif "alt" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
    return notebook


def _badges(cell: NotebookNode) -> bool:
    """The generated cell of badges: the book's header has these buttons."""
    return cell.cell_type == "markdown" and GENERATED in cell.metadata.get("tags", [])


# --- hints and solutions -----------------------------------------------------------------------------------


def with_folds(cells: list[NotebookNode], exercise: Lesson) -> list[NotebookNode]:
    """The cells of an exercise notebook, with how to work below the title, and folds below each check."""
    solved = nbformat.read(exercise.root / "notebooks" / "solutions" / exercise.notebook.name, as_version=4)
    said = {call["name"]: _printed(cell) for cell in solved.cells if (call := _check_of(cell))}
    title, *rest = cells
    kept = [title, nbformat.v4.new_markdown_cell(HOW)]
    for cell in rest:
        if cell.cell_type == "markdown":
            # the page would lead to itself
            link = rf"\[([^\]]+)\]\(\.\./solutions/{exercise.stem}\.ipynb\)"
            cell.source = re.sub(link, lambda found: download(exercise, found[1]), cell.source)
        kept.append(cell)
        if call := _check_of(cell):
            kept.append(nbformat.v4.new_markdown_cell(folds(call["name"], exercise, said[call["name"]])))
    return kept


def folds(name: str, exercise: Lesson, said: str) -> str:
    """The hints of a check, one fold each, and a fold with the solution and what the check said to it."""
    from course.checks import core, solutions  # brings JAX, for which other pages need not wait

    check = core.REGISTRY[name]
    code = solutions.find(name, exercise.stem)
    if code is None:
        raise LookupError(
            f"expected a cell tagged `solution` above checks.{name} in {exercise.notebook.name}, got none"
        )
    hints = [
        f":::{{dropdown}} Hint {number} of {len(check.hints)}\n:class-container: course-fold\n\n{as_html(hint)}\n:::"
        for number, hint in enumerate(check.hints, 1)
    ]
    solution = [":::{dropdown} Solution", ":class-container: course-fold", "", "```python", code, "```", ""]
    solution += [f"`checks.{name}` says: `{said}`.", "", download(exercise, "All solutions as a notebook"), ":::"]
    return "\n\n".join([*hints, "\n".join(solution)])


def as_html(hint: str) -> str:
    """A hint is plain text; Markdown would find emphasis and maths in it, and turn the quotes of its code."""
    parts = re.split(r"`([^`]+)`", hint)
    parts[::2] = [with_code(part) for part in parts[::2]]
    parts[1::2] = [_code(part) for part in parts[1::2]]
    return f"<p>{''.join(parts)}</p>"


# --- code in the plain text of a hint ------------------------------------------------------------------------

WORD = re.compile(r"(.*?)((?:'s)?[.,;:?!]*\s*)", re.DOTALL)  # what may be code, and what follows it in a sentence
BRACKETS = re.compile(r"([(\[])(.*)([)\]][.,;:?!]*\s*)", re.DOTALL)
OPERATORS = {"+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "<", ">", "<=", ">=", "==", "!=", "="}
BUILTINS = {"dict", "enumerate", "float", "getattr", "int", "len", "list", "range", "set", "tuple", "type", "zip"}
BEFORE_CODE = {"is", "then", "where", "with"}  # a clause may begin behind these, too


def with_code(text: str) -> str:
    """Prose as HTML, with what is code in it marked.

    Code is what Python parses and what hardly means mathematics: dotted names, names_like_this, keywords, matrix
    products and the like. The longest counts: clauses between punctuation, operations, then single words.
    """
    words, shown, start = _words(text), [], 0
    while start < len(words):
        for end in _ends(words, start):
            code, rest = WORD.fullmatch("".join(words[start:end])).groups()
            if _is_code(code, heads=rest.startswith(":")):
                shown.append(_code(code) + html.escape(rest, quote=False))
                start = end
                break
        else:
            inside = BRACKETS.fullmatch(words[start])
            plain = html.escape(words[start], quote=False)
            shown.append(f"{inside[1]}{with_code(inside[2])}{inside[3]}" if inside else plain)
            start += 1
    return "".join(shown)


def _code(text: str) -> str:
    return f"<code>{html.escape(text, quote=False)}</code>"


def _words(text: str) -> list[str]:
    """The text cut after blanks, but for those inside brackets."""
    words, depth = [""], 0
    for part in re.findall(r"\S+\s*|\s+", text):
        words[-1] += part
        depth = max(0, depth + sum((letter in "([{") - (letter in ")]}") for letter in part))
        if depth == 0:
            words.append("")
    return [word for word in words if word]


def _ends(words: list[str], start: int) -> list[int]:
    """Where code that begins with a word may end, the farthest first."""
    pauses = [number for number, word in enumerate(words, 1) if word.rstrip().endswith((":", ";", ".", ",", "?"))]
    pauses += [len(words)] if len(words) not in pauses else []
    begins = start == 0 or start in pauses or words[start - 1].strip().lower() in BEFORE_CODE
    clauses = [number for number in pauses if number > start] if begins else []
    operation = [start + 1]
    while operation[-1] not in pauses and words[operation[-1]].strip() in OPERATORS and operation[-1] + 2 <= len(words):
        operation.append(operation[-1] + 2)
    return [*reversed(clauses), *reversed(operation)]


def _is_code(text: str, *, heads: bool) -> bool:
    """Whether a piece of a sentence is Python and no mathematics; `heads`: it may open a block, as "with f():" does."""
    if re.search(r"[.?!] |\w @\w", text):  # two sentences; "under @nn.compact"
        return False
    if any(not iskeyword(name) for name in re.findall(r"(\w+) [(\[]", text)):  # a (b + c) is a product
        return False
    text = text.replace("…", "...")
    keyword = re.match(r"[a-z]\w+=(?!=)", text)  # an argument: "ddof=1", "mask="
    if keyword and keyword[0] == text:
        return True
    spellings = [text, f"_{text}" if re.match(r"\.[a-z]|\[", text) else "", text[text.startswith("@") :]]
    spellings += [f"{text}: pass"] if heads or text.startswith("for ") else []
    for spelling in filter(None, spellings):
        try:
            tree = ast.parse(spelling)
        except SyntaxError:
            continue
        if len(tree.body) > 1 and any(isinstance(getattr(part, "value", None), ast.Name) for part in tree.body):
            return False  # "f(x); then"
        return not any(map(_is_prose, ast.walk(tree))) and bool(keyword or any(map(_is_only_code, ast.walk(tree))))
    return False


def _is_prose(node: ast.AST) -> bool:
    """What Python and English or mathematics share: "is", "and", "x: y", "a, b", "x^2"."""
    english = ast.AnnAssign | ast.BoolOp | ast.IfExp | ast.Is | ast.IsNot | ast.In | ast.NotIn | ast.Not | ast.BitXor
    return isinstance(node, english) or (isinstance(node, ast.Expr) and _is_list(node.value))


def _is_list(node: ast.expr) -> bool:
    return isinstance(node, ast.Tuple) and bool(node.elts) and node.col_offset == node.elts[0].col_offset  # no brackets


def _is_only_code(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return len(name) > 1 or len(attribute) > 1 or attribute == "T"
        case ast.Call(func=ast.Name(id=name)):
            return name in BUILTINS or not node.args
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Name()):
            return not (len(name) == 1 and name.isupper())  # F[f], E[x]
        case ast.Name(id=name):
            return re.match(r"[A-Za-z]\w+_\w|_+[a-z]{2}", name) is not None  # u_xx is mathematics
    kinds = ast.Attribute | ast.Subscript | ast.Slice | ast.Lambda | ast.Dict | ast.DictComp | ast.FunctionDef
    return isinstance(node, kinds | ast.keyword | ast.MatMult | ast.FloorDiv | ast.Mod | ast.Pow | ast.BitAnd | ast.Eq)


def download(exercise: Lesson, text: str) -> str:
    """A link to the solved notebook as it is in the repository."""
    address = f"../notebooks/solutions/{exercise.stem}.ipynb"
    return f'<a class="download-solution" href="{address}" download>{text}</a>'


def _check_of(cell: NotebookNode) -> re.Match | None:
    """The call of a check, in the cell that has one."""
    return CALL.search(cell.source) if cell.cell_type == "code" else None


def _printed(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs).strip()
