"""`make guards`: what must hold for the repository as a whole. Each guard returns its faults, none when all is well.

`of_lesson`, `of_package` and `of_pages` ask the guards about this repository, for the command and for
tests/repo/test_guards.py; test_guards_fail.py plants a fault in front of each guard. With paths, the command asks about
these files alone: what the pre-commit hook does.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import jupytext
import nbformat
from nbformat import NotebookNode

from tools import citation, links, readme, speed, teaching
from tools.lessons import (
    GENERATED,
    MISSING,
    ROOT,
    Lesson,
    address,
    as_notebook,
    badges,
    exercises,
    lessons,
    stated_minutes,
    tag,
)

STEPS = ["data", "model", "init", "forward", "optimizer", "grad", "update", "train", "curves", "evaluate"]
MIME_TYPES = {"text/plain", "text/html", "image/png"}
MAX_NOTEBOOK_BYTES = 250_000
CELLS = range(25, 46)
MAX_CODE_LINES = 25
MAX_QUOTED_LINES = 6
SIBLINGS = ("01a_titanic_torch", "01b_titanic_nnx", "01c_titanic_linen")
POSIX_ONLY = (
    r"\bos\.(fork|wait\w*|sched_getaffinity|getuid|uname)\b|\bSIG(KILL|ALRM)\b|import (resource|fcntl|pwd|grp)\b"
)
PREDICT = "**Predict.**"
# prose that speaks of a cell which is elsewhere
STEERING = (
    r"(?i)\b(first|second|third|fourth|last|next|previous|following) cells?\b|\bcells? (before|after|above|below)\b"
)
READING = r"(?m)^- \[[^\]]+\]\(https://[^\s)]+\)[:,] \S"

# A package as prose names it -> the module that it is, and what else comes along with it.
PACKAGES = {
    "NumPy": ("numpy", ""),
    "pandas": ("pandas", "NumPy"),
    "scikit-learn": ("sklearn", "NumPy pandas"),
    "matplotlib": ("matplotlib", "NumPy"),
    "torch": ("torch", "NumPy tqdm"),
    "JAX": ("jax", "NumPy filelock"),
    "optax": ("optax", "NumPy JAX filelock"),
    "flax": ("flax", "NumPy JAX optax filelock"),
    "Orbax": ("orbax", "NumPy JAX filelock"),
    "tqdm": ("tqdm", ""),
    "filelock": ("filelock", ""),
}


def tags_of(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def first_line(cell: NotebookNode) -> str:
    return cell.source.partition("\n")[0]


# --- sources and notebooks ---------------------------------------------------------------------------------


def source_and_notebook_differ(lesson: Lesson, built: NotebookNode) -> list[str]:
    """By content, never by file time."""
    expected = [(cell.cell_type, cell.source, cell.metadata) for cell in as_notebook(lesson).cells]
    got = [(cell.cell_type, cell.source, cell.metadata) for cell in built.cells]
    if expected == got:
        return []
    index = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    adopt = f", after an edit of the notebook `make adopt NB={lesson.notebook.relative_to(lesson.root)}`"
    return [
        f"{lesson.name}: cell {index + 1} differs between source and notebook; after an edit of the source run "
        f"`make build`{adopt if lesson.kind == 'lesson' else ''}"
    ]


def not_executed_in_order(name: str, notebook: NotebookNode) -> list[str]:
    """Every code cell, 1 to N: a cell without a count is never compared by nbval."""
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if counts == list(range(1, len(counts) + 1)):
        return []
    return [f"{name}: expected execution counts 1 to {len(counts)}, got {counts}; run `make build`"]


def forbidden_outputs(name: str, notebook: NotebookNode, size: int) -> list[str]:
    """Only text, tables and small pictures; nothing that changes from run to run, nothing of this machine."""
    faults = []
    if size > MAX_NOTEBOOK_BYTES:
        faults.append(f"{name}: expected at most {MAX_NOTEBOOK_BYTES} bytes, got {size}; smaller or fewer pictures")
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            where = f"{name}, cell {number} (`{first_line(cell)}`)"
            if output.output_type == "error":
                faults.append(f"{where}: stored error {output.ename}; catch it and print it")
                continue
            data = output.get("data", {"text/plain": output.get("text", "")})
            faults += [
                f"{where}: forbidden output type {kind}; show text, a table or a PNG"
                for kind in sorted(set(data) - MIME_TYPES)
            ]
            if output.get("name") == "stderr":
                faults.append(f"{where}: writes to stderr, remove the cause: {output.text.strip()[:80]}")
            if "text/html" in data and "dataframe" not in data["text/html"]:
                faults.append(f"{where}: HTML that is no DataFrame; print it instead")
            for pattern, what in [
                (r"\b0x[0-9a-f]{6,}", "a memory address"),
                (r"it/s\]|%\|", "a progress bar"),
                (r"/home/|/Users/|site-packages", "a path of one machine"),
            ]:
                if re.search(pattern, data.get("text/plain", "")):
                    faults.append(f"{where}: prints {what}; leave it out")
    return faults


def undescribed_pictures(name: str, notebook: NotebookNode) -> list[str]:
    """A picture has a description in its cell's metadata, and in its own, for those who do not see it."""
    faults = []
    for cell in notebook.cells:
        alt = cell.metadata.get("alt", "")
        pictures = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        if alt and not pictures:
            faults.append(
                f"{name}: `{first_line(cell)}` describes a picture and stored none; build it without MPLBACKEND"
            )
        for output in pictures:
            if len(alt.split()) < 10:
                faults.append(f'{name}: `{first_line(cell)}` draws; expected `# %% alt="what is seen"`, got {alt!r}')
            elif output.metadata.get("image/png", {}).get("alt") != alt:
                faults.append(f"{name}: `{first_line(cell)}`: the picture does not carry its description; build it")
    return faults


def unread_errors(name: str, notebook: NotebookNode) -> list[str]:
    """An error that a lesson shows is printed with its message, not by name alone."""
    return [
        f"{name}: `{first_line(cell)}` names an error; print its message: `with fails(TypeError):`, course.failures"
        for cell in notebook.cells
        if cell.cell_type == "code" and re.search(r"type\(\w+\)\.__name__", cell.source) and "except" in cell.source
    ]


def few_predictions(name: str, notebook: NotebookNode) -> list[str]:
    """At least two questions that a code cell right below answers."""
    pairs = list(pairwise(cell for cell in notebook.cells if GENERATED not in tags_of(cell)))
    asked = [(cell, below) for cell, below in pairs if cell.cell_type == "markdown" and PREDICT in cell.source]
    faults = [
        f"{name}: `{first_line(cell)}`: expected a question in the last lines and a code cell below, got none"
        for cell, below in asked
        if "?" not in cell.source.partition(PREDICT)[2] or below.cell_type != "code"
    ]
    if len(asked) < 2:
        faults.append(f"{name}: expected two questions ('{PREDICT} What does this print?'), got {len(asked)}")
    return faults


def steering(name: str, notebook: NotebookNode) -> list[str]:
    """Prose stands at the cell that it speaks of."""
    return [
        f"{name}: says {found[0]!r}; move the words to that cell"
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for found in re.finditer(STEERING, cell.source)
    ]


def poor_reading_list(name: str, notebook: NotebookNode) -> list[str]:
    """Two to five primary sources in the last cell, each with a word on what is there."""
    text = notebook.cells[-1].source.partition("## Further reading\n")[2].partition("\nNext: ")[0]
    rows = [line for line in text.splitlines() if line.startswith("- ")]
    wrong = [row for row in rows if not re.match(READING, row)]
    faults = [f"{name}: expected '- [title](https://…): what is there', got {row!r}" for row in wrong]
    if not 2 <= len(rows) <= 5:
        faults.append(
            f"{name}: expected two to five links under '## Further reading' in the last cell, got {len(rows)}"
        )
    return faults


def untrue_minutes(name: str, notebook: NotebookNode) -> list[str]:
    """The title says what reading speed and the run come to; the build writes it."""
    said, expected = re.search(r"\((\d+) minutes\)", notebook.cells[0].source), stated_minutes(notebook)
    if said and int(said[1]) == expected:
        return []
    return [f"{name}: expected ({expected} minutes), got {said and said[1]}; run `make build`"]


def long_lines(name: str, source: str) -> list[str]:
    """At most 120 characters; the head of a cell, with a picture's description, may be longer."""
    lines = enumerate(source.splitlines(), start=1)
    return [
        f"{name}, line {n}: over 120 characters; break it"
        for n, line in lines
        if len(line) > 120 and line[:4] != "# %%"
    ]


def posix_only(name: str, source: str) -> list[str]:
    """What Windows lacks is asked for before it is used, in the same line."""
    return [
        f"{name}, line {number}: {found[0]} is missing on Windows; ask `hasattr` in the same line, or do without"
        for number, line in enumerate(source.splitlines(), start=1)
        if (found := re.search(POSIX_ONLY, line)) and "hasattr" not in line and line.lstrip()[0] != "#"
    ]


def missing_words(name: str, source: NotebookNode) -> list[str]:
    """What `make new-lesson` leaves to write, ‹in marks like these›, cell by cell."""
    return [
        f"{name}, cell {number} (`{first_line(cell)[:60]}`): words are missing: ‹{mark}›; write them"
        for number, cell in enumerate(source.cells, start=1)
        for mark in MISSING.findall(cell.source + cell.metadata.get("alt", ""))
    ]


def missing_words_of(name: str, text: str) -> list[str]:
    """The same for a module, line by line."""
    return [
        f"{name}, line {number}: words are missing: ‹{mark}›; write them"
        for number, line in enumerate(text.splitlines(), start=1)
        for mark in MISSING.findall(line)
    ]


def unexplained_volatile_cells(name: str, notebook: NotebookNode) -> list[str]:
    """A cell whose outputs are not compared says why in its metadata, and no other cell does."""
    faults = []
    for cell in notebook.cells:
        ignored, reason = "nbval-ignore-output" in tags_of(cell), cell.metadata.get("volatile", "").strip()
        if ignored and not reason:
            faults.append(
                f"{name}: `{first_line(cell)}` is not compared; expected the reason in its head, as in "
                '`# %% tags=["nbval-ignore-output"] volatile="milliseconds"`, got none'
            )
        elif reason and not ignored:
            faults.append(f'{name}: `{first_line(cell)}` has volatile="{reason}" and is compared; remove the reason')
    return faults


def misshapen_lesson(name: str, notebook: NotebookNode) -> list[str]:
    """Fixed opening and close, 25 to 45 cells, short code cells."""
    faults = []
    cells = [cell for cell in notebook.cells if GENERATED not in tags_of(cell)]
    code = [cell for cell in cells if cell.cell_type == "code"]
    if len(cells) not in CELLS:
        faults.append(
            f"{name}: expected {CELLS.start} to {CELLS.stop - 1} cells, got {len(cells)}; split or join lessons"
        )
    for cell in code:
        if (lines := len(cell.source.splitlines())) > MAX_CODE_LINES:
            faults.append(f"{name}: `{first_line(cell)}`: expected at most {MAX_CODE_LINES} lines, got {lines}")
    number = name.split("_")[0]
    opening = [
        (cells[0].source.startswith(f"# {number} · "), f"the title '# {number} · …' first"),
        (cells[1].source.startswith("After this lesson you can"), "'After this lesson you can' second"),
        (re.match(r"(import|from) ", code[0].source) is not None, "imports in the first code cell"),
        (re.match(r"SEED\b", code[1].source) is not None, "configuration (SEED, …) in the second code cell"),
        ("## Summary" in cells[-1].source, "'## Summary' in the last cell"),
        (cells[-1].source.count("\n- ") >= 3, "three bullets in the summary"),
        ("\nNext: " in cells[-1].source, "'Next: …' in the last cell"),
    ]
    return faults + [f"{name}: expected {what}" for holds, what in opening if not holds]


def siblings_disagree(notebooks: dict[str, NotebookNode]) -> list[str]:
    """The three Titanics share ten step tags, in one order."""
    faults = []
    for name, notebook in notebooks.items():
        steps = [t.removeprefix("step:") for cell in notebook.cells for t in tags_of(cell) if t.startswith("step:")]
        if steps != STEPS:
            faults.append(f"{name}: expected the steps {STEPS}, got {steps}")
    return faults


def unfaithful_quotations(name: str, notebook: NotebookNode, original: NotebookNode) -> list[str]:
    """Every step opens with at most six torch lines that stand verbatim, and together, in the original."""
    code = "\n".join(cell.source for cell in original.cells if cell.cell_type == "code")
    faults = []
    for cell in notebook.cells:
        step = next((t for t in tags_of(cell) if t.startswith("step:")), None)
        if step is None:
            continue
        quoted = re.search(r"```python\n(.*?)\n```", cell.source, re.DOTALL)
        if quoted is None:
            faults.append(f"{name}, {step}: expected the PyTorch lines that it replaces, got none")
        elif f"\n{quoted[1]}\n" not in f"\n{code}\n":
            faults.append(
                f"{name}, {step}: the quotation does not stand in the original; quote today's lines: {quoted[1]!r}"
            )
        elif len(quoted[1].splitlines()) > MAX_QUOTED_LINES:
            faults.append(f"{name}, {step}: expected at most {MAX_QUOTED_LINES} quoted lines")
    return faults


# --- the package -------------------------------------------------------------------------------------------


def taught_differs_from_packaged(module: str, package_code: str, lesson_code: dict[str, str]) -> list[str]:
    """What says 'Taught in NN_name' in the package stands in that lesson: same syntax tree, but for docstrings,
    annotations and names that are private in the package: of its variables, and of a function taught `as` another."""
    faults = []
    packaged = ast.parse(package_code).body
    targets = [target for node in packaged if isinstance(node, ast.Assign) for target in node.targets]
    private = {target.id for target in targets if isinstance(target, ast.Name) and target.id.startswith("_")}
    names = {name: name.lstrip("_") for name in private}  # a lesson has no users to hide a variable from
    for node in packaged:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        mark = re.search(r"Taught in (\w+)(?: as `(\w+)`)?", ast.get_docstring(node) or "")
        if mark is None:
            continue
        lesson, name = mark[1], mark[2] or node.name
        taught = [
            other
            for other in ast.parse(lesson_code.get(lesson, "")).body
            if isinstance(other, ast.FunctionDef | ast.ClassDef) and other.name == name
        ]
        if not taught:
            faults.append(f"{module}.{node.name}: expected {name} in {lesson}, got no such definition")
        elif bare_dump(taught[-1]) != bare_dump(node, names | {node.name: name}):
            faults.append(f"{module}.{node.name}: differs from {name} in {lesson}; make them the same code")
    return faults


def bare_dump(node: ast.AST, names: dict[str, str] | None = None) -> str:
    """A syntax tree as text, without docstrings and annotations, names replaced."""
    names = names or {}
    node = ast.parse(ast.unparse(node)).body[0]  # a copy
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            part.name = names.get(part.name, part.name)
            if ast.get_docstring(part) is not None:
                part.body = part.body[1:] or [ast.Pass()]
        if isinstance(part, ast.FunctionDef):
            part.returns = None
        if isinstance(part, ast.arg):
            part.annotation = None
        if isinstance(part, ast.AnnAssign) and part.value is None:
            part.annotation = ast.Name("Any")
        if isinstance(part, ast.AnnAssign):
            part.annotation = ast.Name("Any")
        if isinstance(part, ast.Name):
            part.id = names.get(part.id, part.id)
    return ast.dump(node)


def stated_needs(docstring: str) -> set[str] | None:
    """What a docstring says between "Needs" and the next stop, split into names; None where it does not say."""
    said = re.search(r"\bNeeds\s([^.;]+)", docstring)
    if said is None:
        return None
    words = " ".join(said[1].split()).removesuffix(" only")
    return set() if words == "nothing but Python" else set(re.split(r", and |, | and ", words))


def unstated_needs(module: str, docstring: str) -> list[str]:
    """A module's docstring says what the module needs, in names that PACKAGES knows."""
    needs = stated_needs(docstring)
    if needs is None:
        return [f"{module}: expected 'Needs NumPy and JAX.', or what else it imports, in its docstring, got no 'Needs'"]
    if unknown := sorted(needs - set(PACKAGES)):
        return [
            f"{module}: expected it to need some of {', '.join(PACKAGES)}, got {unknown}; see PACKAGES in this file"
        ]
    return []


def untrue_needs(docstrings: dict[str, str], path: Path = ROOT) -> list[str]:
    """Import each module, without what the packages around it import, and see which packages our modules ask for."""
    modules = {
        module: {name: str(path.joinpath(*name.split("."))) for name in parents(module)} for module in docstrings
    }
    environment = os.environ | {"PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", WATCH_IMPORTS, json.dumps(modules)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    faults = []
    for module, (asked, trouble) in json.loads(done.stdout.splitlines()[-1]).items():
        if trouble:
            faults.append(f"{module}: can't be imported: {trouble}")
            continue
        needs, found = (
            stated_needs(docstrings[module]) or set(),
            {name for name in PACKAGES if PACKAGES[name][0] in asked},
        )
        faults += [
            f"{module}: imports {name}; say so in its docstring, or don't" for name in sorted(found - brought(needs))
        ]
        faults += [f"{module}: says that it needs {name}, and does not" for name in sorted(needs - brought(found))]
    return faults


# {module: {package around it: folder}} -> {module: [what our modules asked for while it was imported, what went wrong]}
WATCH_IMPORTS = """
import builtins, importlib, json, sys, types
modules, load, answers = json.loads(sys.argv[1]), builtins.__import__, {}
ours = {module.partition(".")[0] for module in modules}

def watched(name, globals=None, *rest, **more):
    if (globals or {}).get("__name__", "").partition(".")[0] in ours:
        asked.add(name.partition(".")[0])
    return load(name, globals, *rest, **more)

builtins.__import__ = watched
for module, around in modules.items():
    for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
        del sys.modules[name]
    for name, folder in around.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [folder]
    asked, trouble = set(), ""
    try:
        importlib.import_module(module)
    except ImportError as error:
        trouble = f"{type(error).__name__}: {error}"
    answers[module] = sorted(asked), trouble
print(json.dumps(answers))
"""


def brought(names: set[str]) -> set[str]:
    """These packages, and what comes along with them."""
    return names.union(*(PACKAGES[name][1].split() for name in names & set(PACKAGES)))


def parents(module: str) -> list[str]:
    """The packages around a module, outermost first."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def lessons_of(docstring: str) -> list[str]:
    """The lessons that a docstring names after "Lesson:" or "Lessons:", up to the next stop."""
    said = re.search(r"\bLessons?:\s([^.;]+)", docstring)
    return re.split(r",\s+", said[1]) if said else []


def untrue_index(index: str, docstrings: dict[str, str], stems: list[str]) -> list[str]:
    """`course`'s docstring has a line for each module, or package that offers names: module, lesson, what it is for.
    The lesson exists and is the first that the module itself names; lines stand in reading order."""
    rows = re.findall(r"^ *([\w.]+) {2,}(\d\w+) {2,}\S", index, re.MULTILINE)
    listed = [f"course.{name}" for name, _ in rows]
    inside = [name for name in docstrings if set(parents(name)) & set(docstrings) - {"course"}]
    expected = set(docstrings) - {"course"} - set(inside)
    faults = [f"course: its index has no line for {name}; add one" for name in sorted(expected - set(listed))]
    faults += [f"course: its index lists {name}, which is not there, or twice; remove the line"
               for name in sorted(set(listed)) if name not in expected or listed.count(name) > 1]  # fmt: skip
    for name, lesson in zip(listed, (lesson for _, lesson in rows), strict=True):
        own = lessons_of(docstrings.get(name, ""))[:1]
        if lesson not in stems:
            faults.append(f"course: its index sends {name} to {lesson}; there is no such lesson")
        if name in docstrings and own != [lesson]:
            faults.append(f"course: its index sends {name} to {lesson}, expected what the module says, got {own}")
    order = [lesson for _, lesson in rows]
    if order != sorted(order):
        later = next(b for a, b in pairwise(order) if a > b)
        faults.append(f"course: its index is not in reading order: move the line of {later} up")
    return faults


def undocumented_names(module: str, code: str) -> list[str]:
    """Every public function and class has a docstring; the module says in its own what it needs or serves."""
    tree = ast.parse(code)
    faults = [] if ast.get_docstring(tree) else [f"{module}: expected a module docstring"]
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            faults.append(f"{module}.{node.name}: expected a docstring")
    return faults


# --- pages -------------------------------------------------------------------------------------------------


def broken_links(name: str, text: str, folder: Path) -> list[str]:
    """Relative links in Markdown must point at files."""
    text = re.sub(r"```.*?```|`[^`\n]+`", "", text, flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    faults = []
    for target in targets:
        if re.match(r"https?://|#|mailto:", target):
            continue
        if not (folder / target.partition("#")[0]).exists():
            faults.append(f"{name}: links to {target}, which does not exist")
    return faults


def misshapen_links(name: str, text: str) -> list[str]:
    """External links, in Markdown or bare: https, in one piece, with a host, without the sentence's punctuation."""
    faults = [
        f"{name}: {found[0]!r} is no link; expected [words](https://…)"
        for form in (
            r"\][ \t]+\(https?://[^)\s]*",
            r"\)\[https?://[^\]\s]*",
            r"\]\(https?://[^)\n]*$",
            r"\]\[https?://\S*",
        )
        for found in re.finditer(form, text, re.MULTILINE)
    ]
    faults += [
        f"{name}: the link {cut} has parentheses; write %28 and %29"
        for cut in re.findall(r"https?://[^\s<>()\[\]{}\"'`\\|…]+\([^\s()]*\)", text)
    ]
    targets = re.findall(r"\]\(\s*(https?://[^)\n]*)\)", text) + re.findall(r"<(https?://[^>\n]*)>", text)
    for target in targets:
        if re.search(r"\s", target):
            faults.append(f"{name}: the link {target!r} has a space in it; write %20, or leave it out")
        elif target[-1] in ".,;:!?":
            faults.append(f"{name}: the link {target} ends in {target[-1]!r}; move that behind the link")
    for url in links.links_of(text):
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "") if parts.port is None else ""
        except ValueError:
            host = ""
        if not re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", host):
            faults.append(f"{name}: the link {url} has no host like docs.jax.dev; mend its address")
        elif not url.startswith("https://"):
            faults.append(f"{name}: expected https://{url.partition('://')[2]}, got http")
        elif not url.isascii():
            faults.append(f"{name}: expected ASCII in the link {url}; write other letters as %XX")
    return faults


def wrong_badges(name: str, text: str, root: Path) -> list[str]:
    """Every Colab and Kaggle link is one that the build would write today, for a notebook that exists."""
    links = re.findall(r"\]\((https://(?:colab\.research\.google\.com/github|kaggle\.com/kernels)/[^)]+)\)", text)
    faults = []
    for link in links:
        place = re.search(r"/notebooks/(.+)\.ipynb$", link)
        known = place and (root / "notebooks" / f"{place[1]}.ipynb").is_file()
        right = known and any(f"]({link})" in badge for badge in badges(place[1], address(root), tag(root)).values())
        if not right:
            faults.append(f"{name}: the badge {link} is not today's; run `make build`")
    return faults


def unknown_targets(name: str, text: str, makefile: str) -> list[str]:
    """Commands `make x` in a page must exist in the Makefile, and every target must have its line of help."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    helped = set(re.findall(r"^([a-z][a-z-]*):.*## ", makefile, re.MULTILINE))
    faults = [
        f"{name}: says `make {target}`, the Makefile has no such target"
        for target in sorted(
            set(re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z][a-z-]*)|^make ([a-z][a-z-]*)", text, re.MULTILINE))
        )
        for target in target
        if target and target not in targets
    ]
    return faults + [f"Makefile: {target} has no line of help" for target in sorted(targets - helped)]


def purposeless_requirements(text: str) -> list[str]:
    """One line of purpose for each dependency."""
    return [
        f"requirements.txt: {line!r} does not say what it is for; add a comment"
        for line in text.splitlines()
        if line.strip() and not line.startswith("#") and not re.search(r"\s# \S+", line)
    ]


def unquoted_readme_code(text: str, lesson_code: str) -> list[str]:
    """The training steps on README's first screen are the lessons' own lines, but for decorators and the comment that
    follows a function's head."""
    faults = []
    text = re.sub(r"^(def .*:)  # .*$", r"\1", text, flags=re.MULTILINE)
    for block in re.findall(r"```python\n(.*?)\n```", text, re.DOTALL):
        lines = "\n".join(line for line in block.splitlines() if not line.startswith("@"))
        if len(block.splitlines()) > MAX_QUOTED_LINES:
            faults.append(f"README.md: expected at most {MAX_QUOTED_LINES} lines in `{lines.partition(chr(10))[0]}`")
        if f"\n{lines}\n" not in f"\n{lesson_code}\n":
            faults.append(f"README.md: the code `{lines.partition(chr(10))[0]}` does not stand in a lesson; quote one")
    return faults


def stale_readme(text: str, root: Path) -> list[str]:
    """What the build writes into README is what it would write today."""
    stale = [str(path.relative_to(root)) for path in speed.stale_pictures(root)]
    stale += ["README.md: its generated parts"] * (readme.render(text, root) != text)
    return [f"{what} stale; run `make build`" for what in stale]


def stale_citation(text: str, root: Path) -> list[str]:
    """CITATION.cff names today's version, the date of its release, and the public address."""
    return [] if citation.render(text, root) == text else ["CITATION.cff: is stale; run `make build`"]


def untrue_teaching(text: str, root: Path) -> list[str]:
    """TEACHING.md's timetables are today's, and every heading that it names is one of that lesson."""
    faults = [] if teaching.render(text, root) == text else ["TEACHING.md: its timetables are stale; run `make build`"]
    for stem, part in re.findall(r"(?ms)^### \[[^\]]+\]\(notebooks/(\w+)\.ipynb\)\n(.*?)(?=^##|\Z)", text):
        lesson = Lesson(stem, root).source
        headings = re.findall(r"(?m)^# ## (.+)$", lesson.read_text("utf-8")) if lesson.is_file() else []
        faults += [
            f"TEACHING.md: {stem} has no heading {named!r}; name one that it has"
            for named in re.findall(r"(?m)^- \*\*(.+?)\*\*:", part)
            if named not in headings
        ]
    return faults


# --- all of them, about this repository ---------------------------------------------------------------------


def modules(root: Path = ROOT) -> dict[str, str]:
    """Dotted name -> code of every module of the package; an empty `__init__.py` is none."""
    files = sorted(path for path in root.glob("course/**/*.py") if path.stat().st_size)
    names = [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in files]
    return {name: path.read_text("utf-8") for name, path in zip(names, files, strict=True)}


def docstring_of(code: str) -> str:
    return ast.get_docstring(ast.parse(code)) or ""


def as_source(lesson: Lesson) -> NotebookNode:
    return jupytext.read(lesson.source, fmt="py:percent")


def of_lesson(lesson: Lesson) -> list[str]:
    """What every guard of lessons finds in one; of one that is not written yet, only which words are missing."""
    if lesson.source.is_file() and (missing := missing_words(lesson.stem, as_source(lesson))):
        return missing
    if not lesson.notebook.is_file():
        return [f"{lesson.stem}: expected {lesson.notebook.name}, got no such file; run `make build`"]
    name, built = lesson.stem, nbformat.read(lesson.notebook, as_version=4)
    prose = "\n\n".join(cell.source for cell in built.cells if cell.cell_type == "markdown")
    faults = [
        *source_and_notebook_differ(lesson, built),
        *not_executed_in_order(name, built),
        *forbidden_outputs(name, built, lesson.notebook.stat().st_size),
        *long_lines(name, lesson.source.read_text("utf-8")),
        *posix_only(name, lesson.source.read_text("utf-8")),
        *unexplained_volatile_cells(name, built),
        *misshapen_lesson(name, built),
        *undescribed_pictures(name, built),
        *unread_errors(name, built),
        *few_predictions(name, built),
        *steering(name, built),
        *poor_reading_list(name, built),
        *untrue_minutes(name, built),
        *broken_links(name, prose, lesson.notebook.parent),
        *wrong_badges(name, prose, lesson.root),
        *misshapen_links(name, prose),
    ]
    if name in SIBLINGS:
        faults += siblings_disagree({name: built})
    if name in SIBLINGS[1:]:
        original = nbformat.read(Lesson(SIBLINGS[0], lesson.root).notebook, as_version=4)
        faults += unfaithful_quotations(name, built, original)
    return faults


def of_package(root: Path = ROOT) -> list[str]:
    """What every guard of modules finds that has no need to import them."""
    code = modules(root)
    lesson_code = {lesson.stem: lesson.source.read_text("utf-8") for lesson in lessons(root)}
    docstrings = {module: docstring_of(text) for module, text in code.items()}
    faults = untrue_index(docstrings.get("course", ""), docstrings, list(lesson_code))
    for module, text in code.items():
        faults += taught_differs_from_packaged(module, text, lesson_code)
        if not module.startswith("course.checks.programs."):  # given to learners as they stand, comments and all
            faults += undocumented_names(module, text)
        faults += posix_only(module, text)
        faults += unstated_needs(module, docstrings[module])
        faults += misshapen_links(module, text)
    return faults


def of_pages(root: Path = ROOT) -> list[str]:
    """What every guard of Markdown pages and requirements finds."""
    faults, makefile = [], (root / "Makefile").read_text("utf-8")
    for page in sorted([*root.glob("*.md"), *root.glob("data/*.md"), *root.glob(".github/*.md")]):
        text = page.read_text("utf-8")
        faults += broken_links(page.name, text, page.parent)
        faults += wrong_badges(page.name, text, root)
        faults += unknown_targets(page.name, text, makefile)
    for path, text in links.texts(root).items():
        if not path.startswith(("course/", "notebooks/")):  # asked above
            faults += misshapen_links(path, text)
    faults += stale_citation((root / "CITATION.cff").read_text("utf-8"), root)
    text = (root / "README.md").read_text("utf-8")
    faults += stale_readme(text, root)
    faults += untrue_teaching((root / "TEACHING.md").read_text("utf-8"), root)
    faults += unquoted_readme_code(text, "\n".join(Lesson(s, root).source.read_text("utf-8") for s in SIBLINGS))
    return faults + purposeless_requirements((root / "requirements.txt").read_text("utf-8"))


def of_files(paths: list[Path], root: Path = ROOT) -> list[str]:
    """What the guards find in these files: lessons and exercises, by source or notebook; in others, their links."""
    from tools.exercise_guards import of_exercise  # it knows this module

    given, package = {path.resolve() for path in paths}, modules(root)
    faults = [f for lesson in lessons(root) if {lesson.source, lesson.notebook} & given for f in of_lesson(lesson)]
    asked = [one for one in exercises(root) if {one.source, one.notebook} & given]
    faults += [fault for one in asked for fault in of_exercise(one, package)]
    others = {name: text for name, text in links.texts(root).items() if root / name in given}
    return faults + [
        fault for name, text in others.items() if name[:10] != "notebooks/" for fault in misshapen_links(name, text)
    ]


def main() -> int:
    from tools.exercise_guards import of_exercises

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="files to ask about; the whole repository where none")
    if paths := parser.parse_args().paths:
        faults = of_files(paths)
        print(*faults, sep="\n", end="\n" if faults else "")
        return 1 if faults else 0
    known, code = lessons(), modules()
    faults = [fault for lesson in known for fault in of_lesson(lesson)] + of_package() + of_pages() + of_exercises()
    faults += untrue_needs({module: docstring_of(text) for module, text in code.items()})
    print(*faults, f"{len(known)} lessons, {len(code)} modules; faults: {len(faults) or 'none'}", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
