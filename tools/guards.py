"""What must hold for the repository as a whole. Each guard returns a list of faults, empty when all is well.

tests/repo/test_guards.py asks them about this repository; test_guards_fail.py plants a fault in front of each.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from nbformat import NotebookNode

from tools.lessons import GENERATED, Lesson, address, badges, compose, tag

STEPS = ["data", "model", "init", "forward", "optimizer", "grad", "update", "train", "curves", "evaluate"]
MIME_TYPES = {"text/plain", "text/html", "image/png"}
MAX_NOTEBOOK_BYTES = 250_000
CELLS = range(25, 46)
MAX_CODE_LINES = 25
MAX_QUOTED_LINES = 6


def tags_of(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def first_line(cell: NotebookNode) -> str:
    return cell.source.partition("\n")[0]


# --- sources and notebooks ---------------------------------------------------------------------------------


def source_and_notebook_differ(lesson: Lesson, built: NotebookNode) -> list[str]:
    """By content, never by file time."""
    expected = [(cell.cell_type, cell.source, cell.metadata) for cell in compose(lesson).cells]
    got = [(cell.cell_type, cell.source, cell.metadata) for cell in built.cells]
    if expected == got:
        return []
    index = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    return [
        f"{lesson.stem}: cell {index + 1} differs between source and notebook; after an edit of the source run "
        f"`make build`, after an edit of the notebook `make adopt NB={lesson.notebook.relative_to(lesson.root)}`"
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
            faults += [f"{where}: forbidden output type {kind}" for kind in sorted(set(data) - MIME_TYPES)]
            if output.get("name") == "stderr":
                faults.append(f"{where}: writes to stderr: {output.text.strip()[:80]}")
            if "text/html" in data and "dataframe" not in data["text/html"]:
                faults.append(f"{where}: HTML that is no DataFrame")
            for pattern, what in [
                (r"\b0x[0-9a-f]{6,}", "a memory address"),
                (r"it/s\]|%\|", "a progress bar"),
                (r"/home/|/Users/|site-packages", "a path of one machine"),
            ]:
                if re.search(pattern, data.get("text/plain", "")):
                    faults.append(f"{where}: prints {what}")
    return faults


def undescribed_pictures(name: str, notebook: NotebookNode) -> list[str]:
    """A picture has a description in its cell's metadata, and in its own, for those who do not see it."""
    faults = []
    for cell in notebook.cells:
        alt = cell.metadata.get("alt", "")
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            if len(alt.split()) < 10:
                faults.append(f'{name}: `{first_line(cell)}` draws; expected `# %% alt="what is seen"`, got {alt!r}')
            elif output.metadata.get("image/png", {}).get("alt") != alt:
                faults.append(f"{name}: `{first_line(cell)}`: the picture does not carry its description; build it")
    return faults


def long_lines(name: str, source: str) -> list[str]:
    """At most 120 characters; the head of a cell, with a picture's description, may be longer."""
    lines = enumerate(source.splitlines(), start=1)
    return [f"{name}, line {n}: over 120 characters" for n, line in lines if len(line) > 120 and line[:4] != "# %%"]


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
            faults.append(f"{name}, {step}: the quotation does not stand in the original: {quoted[1]!r}")
        elif len(quoted[1].splitlines()) > MAX_QUOTED_LINES:
            faults.append(f"{name}, {step}: expected at most {MAX_QUOTED_LINES} quoted lines")
    return faults


# --- the package -------------------------------------------------------------------------------------------


def taught_differs_from_packaged(module: str, package_code: str, lesson_code: dict[str, str]) -> list[str]:
    """What says 'Taught in NN_name' in the package stands in that lesson: same syntax tree, but for docstrings,
    annotations and, for a private function taught under a public name (as `name`), the name."""
    faults = []
    for node in ast.parse(package_code).body:
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
        elif bare_dump(taught[-1]) != bare_dump(node, {node.name: name}):
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


def undeclared_imports(module: str, allowed: set[str], watched: set[str], path: str = ".") -> list[str]:
    """Import a module in a fresh process and see which of the watched packages came along."""
    code = f"import sys, {module}; print(*[name for name in {sorted(watched)} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if done.returncode:
        return [f"{module}: can't be imported: {done.stderr.strip().splitlines()[-1]}"]
    return [
        f"{module}: imports {name}, expected only {sorted(allowed)}"
        for name in done.stdout.split()
        if name not in allowed
    ]


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
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    faults = []
    for target in targets:
        if re.match(r"https?://|#|mailto:", target):
            continue
        if not (folder / target.partition("#")[0]).exists():
            faults.append(f"{name}: links to {target}, which does not exist")
    return faults


def wrong_badges(name: str, text: str, root: Path) -> list[str]:
    """Every Colab and Kaggle link is one that the build would write today, for a notebook that exists."""
    links = re.findall(r"\]\((https://(?:colab\.research\.google\.com/github|kaggle\.com/kernels)/[^)]+)\)", text)
    faults = []
    for link in links:
        stem = re.search(r"/([^/]+)\.ipynb$", link)
        known = stem and Lesson(stem[1], root).notebook.is_file()
        right = known and any(f"]({link})" in badge for badge in badges(stem[1], address(root), tag(root)).values())
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
        f"requirements.txt: {line!r} does not say what it is for"
        for line in text.splitlines()
        if line.strip() and not line.startswith("#") and not re.search(r"\s# \S+", line)
    ]


def unquoted_readme_code(text: str, lesson_code: str) -> list[str]:
    """The training steps on README's first screen are the lessons' own lines (a jit decorator aside)."""
    faults = []
    for block in re.findall(r"```python\n(.*?)\n```", text, re.DOTALL):
        lines = "\n".join(line for line in block.splitlines() if not line.startswith("@"))
        if len(block.splitlines()) > MAX_QUOTED_LINES:
            faults.append(f"README.md: expected at most {MAX_QUOTED_LINES} lines in `{lines.partition(chr(10))[0]}`")
        if f"\n{lines}\n" not in f"\n{lesson_code}\n":
            faults.append(f"README.md: the code `{lines.partition(chr(10))[0]}` does not stand in a lesson")
    return faults
