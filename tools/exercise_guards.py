"""What must hold for exercises, part of `make guards`. Each guard returns its faults, none when all is well.

`of_exercises` asks the guards about this repository; tests/repo/test_exercise_guards.py plants a fault for each.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from tools import guards
from tools.lessons import EXERCISE, ROOT, Lesson, as_notebook, exercise_minutes, exercises, lessons, with_minutes

COUNTS = {"puzzles": range(12, 13)}  # exercises in a notebook
COUNT = range(3, 7)
SAYS = ("**Given**", "**Asked**", "**Checked**")
TODO = r'raise NotImplementedError\("your turn"\)|(?<!\w)\.\.\.'
CALL = re.compile(r"checks\.(\w+)\([^\n]*\)")
WORDS = {"exercise": "not attempted", "solution": "correct"}  # what a check of each kind of notebook says


def sections(source: NotebookNode) -> list[list[NotebookNode]]:
    """The cells of each exercise of a source, stub and solution included, from its heading on."""
    parts: list[list[NotebookNode]] = []
    for cell in source.cells:
        if cell.cell_type == "markdown" and EXERCISE.match(cell.source):
            parts.append([])
        elif parts and cell.cell_type == "markdown" and cell.source.startswith(("## ", "Back to ")):
            break
        if parts:
            parts[-1].append(cell)
    return parts


def called(cells: list[NotebookNode]) -> list[str]:
    """Names of the checks that cells call and do nothing else."""
    return [found[1] for cell in cells if cell.cell_type == "code" and (found := CALL.fullmatch(cell.source.strip()))]


def misshapen_exercises(name: str, source: NotebookNode) -> list[str]:
    """Three to six exercises, numbered; each says what is given, asked, checked; stub, solution, one check."""
    faults, parts = [], sections(source)
    allowed = COUNTS.get(name, COUNT)
    if len(parts) not in allowed:
        faults.append(f"{name}: expected {allowed.start} to {allowed.stop - 1} exercises, got {len(parts)}")
    if source.cells[-1].cell_type != "markdown" or f"](../solutions/{name}.ipynb)" not in source.cells[-1].source:
        faults.append(f"{name}: expected a link to ../solutions/{name}.ipynb in the last cell")
    for number, part in enumerate(parts, start=1):
        where = f"{name}, exercise {number}"
        said = EXERCISE.match(part[0].source)
        prose = "\n".join(cell.source for cell in part if cell.cell_type == "markdown")
        kinds = [kind for cell in part for kind in guards.tags_of(cell) if kind in ("stub", "solution")]
        if said and int(said["number"]) != number:
            faults.append(f"{where}: expected its number in the heading, got {said['number']}")
        faults += [f"{where}: expected a paragraph {word}, got none" for word in SAYS if word not in prose]
        if not re.fullmatch(r"(stub )+(solution )+", "".join(f"{kind} " for kind in kinds)):
            faults.append(f"{where}: expected stubs and then solutions, got {kinds or 'none'}")
        if len(called(part[-1:])) != 1 or len(called(part)) != 1:
            faults.append(f"{where}: expected one check, `checks.NAME(answer)`, alone in the last cell")
        faults += [
            f"{where}: the stub `{guards.first_line(cell)}` leaves nothing to do; "
            'expected `raise NotImplementedError("your turn")` or `...`'
            for cell in part
            if "stub" in guards.tags_of(cell) and not re.search(TODO, cell.source)
        ]
        faults += [
            f"{where}: `{guards.first_line(cell)}`: expected at most {guards.MAX_CODE_LINES} lines"
            for cell in part
            if cell.cell_type == "code" and len(cell.source.splitlines()) > guards.MAX_CODE_LINES
        ]
    return faults


def wrong_outcomes(name: str, notebook: NotebookNode, kind: str) -> list[str]:
    """An untouched notebook stored "not attempted" for each check, a solved one "correct"."""
    faults = []
    for cell in notebook.cells:
        for check in called([cell]):
            printed = "".join(output.get("text", "") for output in cell.outputs)
            if printed != f"{WORDS[kind]}: {check}\n":
                faults.append(f"{name}: expected '{WORDS[kind]}: {check}', got {printed[:80]!r}; run `make build`")
    return faults


def untrue_exercise_minutes(name: str, text: str, solved: NotebookNode) -> list[str]:
    """Headings and title say what the formula of the lessons comes to."""
    same = with_minutes(text, exercise_minutes(solved)) == text
    return [] if same else [f"{name}: its minutes are not what its words and lines come to; run `make build`"]


def defined_checks(code: str) -> dict[str, int]:
    """Name -> number of hints of the checks that a module defines."""
    return {
        node.name: len(mark.args) - 1
        for node in ast.parse(code).body
        if isinstance(node, ast.FunctionDef)
        for mark in node.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) in ("check", "core.check")
    }


def unmatched_checks(name: str, source: NotebookNode, code: str) -> list[str]:
    """A notebook calls each check of its module once, and each has two hints or more."""
    asked, known = sorted(called(source.cells)), defined_checks(code)
    faults = [f"{name}: expected the checks {sorted(known)}, got {asked}"] if asked != sorted(known) else []
    return faults + [
        f"{name}: {check}: expected two hints or more, got {hints}" for check, hints in known.items() if hints < 2
    ]


@cache  # every notebook asks for every module
def definitions(code: str) -> dict[str, str]:
    """Bare code -> name of the functions and classes in a text, nested ones included; they are all called `it`."""
    return {
        guards.bare_dump(node, {node.name: "it"}): node.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def packaged_solutions(name: str, source: NotebookNode, package: dict[str, str]) -> list[str]:
    """No module of the checks holds a solution."""
    solved = "\n".join(cell.source for cell in source.cells if "solution" in guards.tags_of(cell))
    tops = {guards.bare_dump(node, {node.name: "it"}): node.name for node in ast.parse(solved).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)}  # fmt: skip
    return [
        f"{module}: {definitions(code)[dump]} is the solution {tops[dump]} of {name}; write an oracle of another kind"
        for module, code in package.items()
        if module.startswith("course.checks")
        for dump in tops.keys() & definitions(code).keys()
    ]


def differing_programs(name: str, source: NotebookNode, code: str) -> list[str]:
    """A program that a notebook gives, and that its checks hold as well, is the same in both."""
    given = {
        node.name: node
        for cell in source.cells
        if cell.cell_type == "code" and not {"stub", "solution"} & {*guards.tags_of(cell)}
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    return [
        f"{name}: {node.name} differs from the checks' copy; make them the same code"
        for node in ast.parse(code).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.name in given
        and guards.bare_dump(node) != guards.bare_dump(given[node.name])
    ]


def lessons_without_exercises(stems: list[str], text_of: dict[str, str]) -> list[str]:
    """Every lesson has exercises, and links to them at its end."""
    faults = []
    for lesson, text in text_of.items():
        if lesson not in stems:
            faults.append(f"{lesson}: expected exercises, notebooks/src/exercises/{lesson}.py, got none")
        if f"Exercises: [your turn](exercises/{lesson}.ipynb)." not in text:
            faults.append(f"{lesson}: expected 'Exercises: [your turn](exercises/{lesson}.ipynb).' in its last cell")
    return faults


def importers_of_checks(package: dict[str, str]) -> list[str]:
    """Checks may know the whole course; nothing of it knows them."""
    return [
        f"{module}: imports course.checks; move what it needs out of the checks"
        for module, code in package.items()
        if not module.startswith("course.checks") and re.search(r"(?m)^\s*(from|import) course\.checks\b", code)
    ]


def of_exercise(exercise: Lesson, package: dict[str, str]) -> list[str]:
    """What every guard finds in one exercise notebook, to fill in or solved; of one that is not written yet, only which
    words are missing."""
    name, text = exercise.name, exercise.source.read_text("utf-8")
    missing = guards.missing_words(name, guards.as_source(exercise))
    for path in (exercise.checks, exercise.root / "tests" / "answers" / exercise.checks.name):
        if path.is_file():
            where = path.relative_to(exercise.root).as_posix()
            missing += guards.missing_words_of(where, path.read_text("utf-8"))
    if missing:
        return missing if exercise.kind == "exercise" else []  # both have one source
    if not exercise.notebook.is_file():
        return [f"{name}: expected {exercise.notebook.name}, got no such file; run `make build`"]
    built = nbformat.read(exercise.notebook, as_version=4)
    prose = "\n\n".join(cell.source for cell in built.cells if cell.cell_type == "markdown")
    faults = [
        *guards.source_and_notebook_differ(exercise, built),
        *guards.not_executed_in_order(name, built),
        *guards.forbidden_outputs(name, built, exercise.notebook.stat().st_size),
        *guards.unexplained_volatile_cells(name, built),
        *guards.undescribed_pictures(name, built),
        *guards.broken_links(name, prose, exercise.notebook.parent),
        *guards.wrong_badges(name, prose, exercise.root),
        *guards.misshapen_links(name, prose),
        *wrong_outcomes(name, built, exercise.kind),
    ]
    if exercise.kind == "exercise":  # what the source says is the same for both
        stem, source = exercise.stem, jupytext.read(exercise.source, fmt="py:percent")
        code = exercise.checks.read_text("utf-8") if exercise.checks.is_file() else ""
        program = exercise.checks.parent / "programs" / exercise.checks.name
        faults += [
            *guards.long_lines(name, text),
            *guards.posix_only(name, text),
            *guards.steering(name, built),
            *misshapen_exercises(stem, source),
            *untrue_exercise_minutes(stem, text, as_notebook(Lesson(stem, exercise.root, "solution"))),
            *unmatched_checks(stem, source, code),
            *packaged_solutions(stem, source, package),
            *differing_programs(stem, source, program.read_text("utf-8") if program.is_file() else ""),
        ]
    return faults


def of_exercises(root: Path = ROOT) -> list[str]:
    """What every guard finds in all of them."""
    package = guards.modules(root)
    faults = [fault for exercise in exercises(root) for fault in of_exercise(exercise, package)]
    faults += importers_of_checks(package)
    texts = {lesson.stem: lesson.source.read_text("utf-8") for lesson in lessons(root)}
    return faults + lessons_without_exercises([e.stem for e in exercises(root, ("exercise",))], texts)
