"""The three Titanics side by side, from the step tags of their sources: tabs on a phone, columns on a wide screen."""

from __future__ import annotations

import ast
import html
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, cached_property
from itertools import product
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Comment, _TokenType

from tools.book.places import relative, rewritten
from tools.lessons import Lesson

PAGE = "side_by_side"
FRAMEWORKS = {"torch": "PyTorch", "nnx": "Flax NNX", "linen": "Flax Linen"}
TRIO = {"torch": "01a_titanic_torch", "nnx": "01b_titanic_nnx", "linen": "01c_titanic_linen"}
SAME = 0.5  # two lines are one, changed, where this share of their words agrees; less pairs unrelated lines
MOVED = 0.7  # across steps chance finds more, so the lines must agree better
WORD = 30  # characters without a space that a column surely holds
SENTENCES = 2  # of the prose below a step's heading
# a sentence with one of these tells of the lesson it stands in: what is done, shown or run there
OF_ITS_PLACE = re.compile(r"\b(?:we|us|yourself|(?:this|the) (?:lesson|notebook|cell))\b", re.IGNORECASE)

Token = tuple[_TokenType, str]


@dataclass(frozen=True)
class Step:
    """One step of one program.

    Attributes:
      name: its tag, without "step:".
      heading: "Step 7 · Update".
      quoted: the PyTorch lines that it replaces, as its lesson quotes them.
      words: the first sentences of its prose that hold elsewhere, too.
      cells: the code of all its cells.
    """

    name: str
    heading: str
    quoted: str
    words: str
    cells: tuple[str, ...]


def write(folder: Path) -> None:
    """The page side_by_side."""
    (folder / f"{PAGE}.md").write_text(page_text(), "utf-8")


# --- what the lessons say -----------------------------------------------------------------------------------


@cache
def steps(lesson: Lesson) -> dict[str, Step]:
    """A lesson's steps by name, in their order."""
    found: dict[str, Step] = {}
    cells: list[NotebookNode] = jupytext.read(lesson.source, fmt="py:percent").cells
    for place, cell in enumerate(cells):
        name = next((tag[5:] for tag in cell.metadata.get("tags", []) if tag.startswith("step:")), None)
        if name is None:
            continue
        heading, _, prose = cell.source.removeprefix("## ").partition("\n\n")
        quote = re.match(r"```python\n(.*?)\n```\n+", prose, re.DOTALL)
        prose = prose[quote.end() :] if quote else prose
        code = tuple(c.source for c in _until_heading(cells[place + 1 :]) if c.cell_type == "code")
        found[name] = Step(name, heading, quote[1] if quote else "", _first_sentences(prose), code)
    return found


def _until_heading(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    for cell in cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            return
        yield cell


def _first_sentences(prose: str) -> str:
    """The first sentences of the first paragraph that hold outside the lesson, which may be none.

    One that announces a cell is left out, or ends in a full stop.
    """
    sentences = re.split(r"(?<=[.?])\s+(?=[A-Z`])", " ".join(prose.partition("\n\n")[0].split()))
    if sentences[-1].endswith(":"):
        sentences = sentences[:-1] or [f"{sentences[0][:-1]}."]
    return " ".join([text for text in sentences if not OF_ITS_PLACE.search(text)][:SENTENCES])


@cache
def programs() -> dict[str, dict[str, str]]:
    """framework -> step -> the code that the page shows.

    Of PyTorch these are the cells that its siblings quote, of the siblings those that bind the same names; of all
    three, what these need of other cells. Counters, pictures of ideas and most failures drop out, and so does what
    runs another of the three: no code is left of a step that does only this.
    """
    found = {key: steps(Lesson(stem)) for key, stem in TRIO.items()}
    core: dict[str, set[str]] = {key: set() for key in TRIO}
    for name, step in found["torch"].items():
        quoted = {line for key in ("nnx", "linen") for line in found[key][name].quoted.splitlines()}
        first = [cell for cell in step.cells if quoted & set(cell.splitlines())]
        core["torch"].update(first)
        names = set().union(*(_defined(cell) for cell in first))
        for key in ("nnx", "linen"):
            cells = found[key][name].cells
            core[key].update([cell for cell in cells if names & _defined(cell)] or cells)
    return {key: _sliced(found[key], core[key] - _of_others(found[key], key)) for key in TRIO}


def _of_others(program: dict[str, Step], key: str) -> set[str]:
    """The cells that run another program of the trio, and those that need what came out of it."""
    others = {stem.partition("_")[2] for other, stem in TRIO.items() if other != key}  # modules in course.train
    cells, tainted = set(), set(others)
    for cell in (cell for step in program.values() for cell in step.cells):
        bound, needed = _names(cell)
        if needed & tainted:
            cells.add(cell)
            tainted |= bound
        else:
            tainted -= bound
    return cells


def _sliced(program: dict[str, Step], core: set[str]) -> dict[str, str]:
    """step -> the code of the core cells and what they need: the last statement that binds a name before its use.

    A cell of which more than half is needed stands whole.
    """
    parts = [(step.name, cell, part) for step in program.values() for cell in step.cells for part in _statements(cell)]
    kept = {place for place, (_, cell, _) in enumerate(parts) if cell in core}
    for place in reversed(range(len(parts))):
        if place in kept:
            needed = _names(parts[place][2])[1]
            kept.update(
                next(earlier for earlier in reversed(range(place)) if name in _names(parts[earlier][2])[0])
                for name in needed
                if any(name in _names(part)[0] for _, _, part in parts[:place])
            )
    for cell in {cell for _, cell, _ in parts}:
        own = {place for place, part in enumerate(parts) if part[1] == cell}
        kept |= own if len(own & kept) > len(own) / 2 else set()
    shown: dict[str, str] = dict.fromkeys(program, "")
    last = ""
    for place in sorted(kept):
        step, cell, part = parts[place]
        between = "\n\n" if shown[step] and cell != last else "\n" * bool(shown[step])
        shown[step], last = shown[step] + between + (part if cell == last else part.lstrip("\n")), cell
    return shown


def _statements(cell: str) -> Iterator[str]:
    """A cell's statements, each with the comments and empty lines above it."""
    lines, start = cell.splitlines(), 0
    ends = [node.end_lineno for node in ast.parse(cell).body]
    for end in [*ends[:-1], len(lines)]:
        yield "\n".join(lines[start:end])
        start = end or 0


def _defined(cell: str) -> set[str]:
    """The names that stand on the left at a cell's top level: no loop variables."""
    body = ast.parse(cell).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return names | {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@cache
def _names(code: str) -> tuple[set[str], set[str]]:
    """The globals that a statement binds or fills in, and those that it needs, functions in it included."""
    filled = {
        node.value.id
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
    }
    assigned, used = set(), set()
    tables = [symtable.symtable(code, "cell", "exec")]
    for table in tables:
        tables += table.get_children()
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if top and symbol.is_assigned():
                assigned.add(symbol.get_name())
            if (top or symbol.is_global()) and symbol.is_referenced():
                used.add(symbol.get_name())
    return assigned | filled, used - assigned


# --- which lines moved --------------------------------------------------------------------------------------


@dataclass
class Line:
    """One line of code on the page.

    Attributes:
      step: its step's name.
      tokens: pygments'.
      twins: framework -> the line's counterpart there; a PyTorch line may have two, another has PyTorch's alone. Each
        is the other's, but for a line that repeats what its program has already: there it has the same counterpart.
    """

    step: str
    tokens: list[Token]
    twins: dict[str, Line]

    @cached_property
    def text(self) -> str:
        return "".join(text for _, text in self.tokens)

    @cached_property
    def code(self) -> str:
        return "".join(text for kind, text in self.tokens if kind not in Comment).strip()

    @cached_property
    def words(self) -> list[str]:
        """Names, numbers and strings, by which lines are compared; no comments."""
        return [text for kind, text in self.tokens if kind not in Comment and re.search(r"\w", text)]


@cache
def marked() -> dict[str, dict[str, list[Line]]]:
    """framework -> step -> lines, with their counterparts found."""
    every = {
        key: {name: [Line(name, tokens, {}) for tokens in _lines(code)] for name, code in steps_.items()}
        for key, steps_ in programs().items()
    }
    for key in ("nnx", "linen"):
        for name, old in every["torch"].items():
            _align(old, every[key][name], key)
        both = {k: [line for lines in every[k].values() for line in lines] for k in ("torch", key)}
        _pair_moved(both["torch"], both[key], key)
        _pair_repeated(both["torch"], both[key], key)
        _pair_repeated(both[key], both["torch"], "torch")
    return every


def _lines(code: str) -> Iterator[list[Token]]:
    """Pygments' tokens of each line."""
    line: list[Token] = []
    for kind, text in PythonLexer().get_tokens(code):
        first, *others = text.split("\n")
        line.append((kind, first))
        for other in others:
            yield line
            line = [(kind, other)]


def _likeness(a: Line, b: Line) -> float:
    return SequenceMatcher(None, a.words, b.words, autojunk=False).ratio() if a.words and b.words else 0.0


def _align(old: list[Line], new: list[Line], key: str) -> None:
    """Make twins of lines, in their order, so that their likeness adds up to the most."""
    # squared: one line that is unchanged counts for more than two that resemble others
    like = [[share**2 if (share := _likeness(a, b)) >= SAME else 0.0 for b in new] for a in old]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]  # from place (i, j) to the end
    for i, j in product(reversed(range(len(old))), reversed(range(len(new)))):
        best[i][j] = max(best[i + 1][j], best[i][j + 1], like[i][j] + best[i + 1][j + 1])
    i = j = 0
    while i < len(old) and j < len(new):
        if like[i][j] and best[i][j] == like[i][j] + best[i + 1][j + 1]:
            old[i].twins[key], new[j].twins["torch"] = new[j], old[i]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1


def _pair_moved(old: list[Line], new: list[Line], key: str) -> None:
    """Make twins of what is left of two programs, the most alike first."""
    left = [line for line in old if key not in line.twins], [line for line in new if "torch" not in line.twins]
    alike = [(_likeness(a, b), a, b) for a, b in product(*left)]
    for share, a, b in sorted(alike, key=lambda found: -found[0]):
        if share >= MOVED and key not in a.twins and "torch" not in b.twins:
            a.twins[key], b.twins["torch"] = b, a


def _pair_repeated(lines: list[Line], others: list[Line], key: str) -> None:
    """Give a line without a twin the line that says the same there, or the twin of its own program's same line."""
    paired = [line for line in lines if key in line.twins]
    for line in lines:
        if line.words and key not in line.twins:
            found = [other for other in others if other.code == line.code]
            found = found or [own.twins[key] for own in paired if own.code == line.code]
            if found:
                line.twins[key] = min(found, key=lambda twin: twin.step != line.step)  # its own step's first


# --- the page -----------------------------------------------------------------------------------------------

TOP = """\
---
html_theme.sidebar_secondary.remove: true
---

# Side by side

The three Titanics, {lessons}, step by step: in columns where the screen is wide, else in tabs, and your choice of a
tab is kept. Of each step this is the code that the three have in common, and what it needs to run below imports and
settings. What a lesson shows besides, such as counters, pictures, further failures and runs of the other two, is left
out. Lines are compared with PyTorch, comments aside:

<ul class="sbs-legend">
<li><span class="sbs-line sbs-gone">a line of PyTorch that neither of the others has</span></li>
<li><span class="sbs-line sbs-new">a line that PyTorch does not have</span></li>
<li><span class="sbs-line sbs-changed">a line of PyTorch that another has changed, and there, with
<mark>what is new in it</mark></span></li>
<li><span class="sbs-line">no sign: a line that is the same wherever it stands</span></li>
<li><span class="sbs-line">behind a line, <small class="sbs-note">not in Linen</small> says who lacks it,
<small class="sbs-note">changed in NNX</small> who alone has changed it, <small class="sbs-note">in NNX step 9</small>
where it stands</span></li>
</ul>
"""
OTHERS_ONLY = "At this step the lesson runs all three programs and compares them; that code is left out."


def page_text() -> str:
    """The page as MyST Markdown."""
    links = [
        f"[{stem[:3]}]({relative(f'lessons/{stem}', '', PAGE)}) in {FRAMEWORKS[key]}" for key, stem in TRIO.items()
    ]
    parts = [TOP.format(lessons=", ".join(links))]
    for name, step in steps(Lesson(TRIO["torch"])).items():
        parts += [f"## {step.heading}\n", "::::::{tab-set}\n:sync-group: framework\n:class: side-by-side\n"]
        parts += [_column(key, name) for key in TRIO]
        parts.append("::::::\n")
    return "\n".join(parts)


def _column(key: str, name: str) -> str:
    """One program's step, as a tab."""
    stem = TRIO[key]
    step = steps(Lesson(stem))[name]
    path = f"notebooks/{stem}.ipynb"
    slug = re.sub(r"[^\w\- ]", "", step.heading.lower()).replace(" ", "-")  # MyST's own rule
    shown = programs()[key][name]
    words = step.words if shown else OTHERS_ONLY
    words = rewritten(f"{words} [In the lesson]({stem}.ipynb#{slug}).".lstrip(), path, PAGE)
    lines = "".join(_html(line, key) for line in marked()[key][name])
    code = f'<div class="highlight-python notranslate"><div class="highlight"><pre>{lines}</pre></div></div>'
    block = f"```{{raw}} html\n{code}\n```\n" if shown else ""
    return f":::::{{tab-item}} {FRAMEWORKS[key]}\n:sync: {key}\n\n{words}\n\n{block}:::::\n"


def _html(line: Line, key: str) -> str:
    """A line as a block of its own, with a sign before it and a note behind it."""
    sign, note, kept = "", "", None
    if line.words and key == "torch":
        sign, note = _fate(line)
    elif line.words:
        twin = line.twins.get("torch")
        sign = "new" if twin is None else "" if twin.code == line.code else "changed"
        if sign == "changed" and twin is not None:
            matcher = SequenceMatcher(None, twin.words, line.words, autojunk=False)
            kept = {block.b + i for block in matcher.get_matching_blocks() for i in range(block.size)}
        if twin is not None and twin.step != line.step:
            note = _note(f"from {_step_link(twin.step)}")
    indent = len(line.text) - len(line.text.lstrip())
    classes = f"sbs-line sbs-{sign}" if sign else "sbs-line"
    # the newline stands inside, where it adds no height and a copy of the text has it
    return f'<span class="{classes}" style="--indent:{indent}">{_code(line, kept)}{note}\n</span>'


def _fate(line: Line) -> tuple[str, str]:
    """What became of a PyTorch line: its sign, and the note that says who lacks it, changed it or has it elsewhere."""
    if not line.twins:
        return "gone", ""
    said = []
    changed = [key for key, twin in line.twins.items() if twin.code != line.code]
    for key in ("nnx", "linen"):
        short = FRAMEWORKS[key].removeprefix("Flax ")
        if key not in line.twins:
            # of a step whose code is left out nothing is known
            said += [f"not in {short}"] if programs()[key][line.step] else []
            continue
        alone = changed == [key] and len(line.twins) > 1
        elsewhere = line.twins[key].step != line.step
        where = f"in {short} {_step_link(line.twins[key].step)}" if elsewhere else f"in {short}"
        if alone or elsewhere:
            said.append(f"changed {where}" if alone else where)
    return "changed" if changed else "", _note(", ".join(said))


def _note(text: str) -> str:
    return f' <small class="sbs-note">{text}</small>' if text else ""


def _step_link(name: str) -> str:
    heading = steps(Lesson(TRIO["torch"]))[name].heading
    anchor = "-".join(re.findall(r"[a-z0-9]+", heading.lower()))  # docutils' own rule
    return f'<a href="#{anchor}">{heading.partition(" ·")[0].lower()}</a>'


def _code(line: Line, kept: set[int] | None) -> str:
    """Highlighted as Sphinx does it; of a changed line, words that are not kept are marked."""
    written, place = [], -1
    long = max(map(len, line.text.split()), default=0) > WORD
    for kind, text in line.tokens:
        if not text:
            continue
        escaped = html.escape(text, quote=False)
        if kind not in Comment and re.search(r"\w", text):
            place += 1
            if kept is not None and place not in kept:
                escaped = f"<mark>{escaped}</mark>"
        css = STANDARD_TYPES.get(kind, "")
        written.append(f'<span class="{css}">{escaped}</span>' if css else escaped)
        if long and text.endswith("("):
            written.append("<wbr>")  # spaces alone would leave too few places to go on below
    return "".join(written)
