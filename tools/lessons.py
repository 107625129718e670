"""From a lesson's source to its notebook: what build, run, adopt and the guards share.

A source is a percent-format script, notebooks/src/NN_name.py. `as_notebook` turns it into a notebook and adds the
cells that depend on the repository's public address (badges, bootstrap); `execute` runs a notebook.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from time import perf_counter

import jupytext
import nbformat
from jupyter_client.manager import AsyncKernelManager
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from tools import environment
from tools.floor import pins

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
GENERATED = "generated"  # the tag of cells that the build adds; `make adopt` drops them again
CELL_TIMEOUT = 120  # seconds
MISSING = re.compile(r"‹([^›]*)›")  # words that `make new-lesson` leaves to the author


FOLDERS = {"lesson": "", "exercise": "exercises", "solution": "solutions"}  # kind of notebook -> its folder
DROPPED = {"lesson": None, "exercise": "solution", "solution": "stub"}  # kind -> the tag of cells that it goes without


@dataclass(frozen=True)
class Lesson:
    """One notebook's two files. An exercise and its solution have one source between them."""

    stem: str
    root: Path = ROOT
    kind: str = "lesson"

    @property
    def source(self) -> Path:
        return self.root / "notebooks" / "src" / ("" if self.kind == "lesson" else "exercises") / f"{self.stem}.py"

    @property
    def notebook(self) -> Path:
        return self.root / "notebooks" / FOLDERS[self.kind] / f"{self.stem}.ipynb"

    @property
    def name(self) -> str:
        """The notebook's path below notebooks/, without its suffix: "exercises/08_tracing"."""
        return str(PurePosixPath(FOLDERS[self.kind], self.stem))

    @property
    def checks(self) -> Path:
        """The module with an exercise's checks: named like the source, without its number."""
        topic = re.sub(r"^\d+[a-z]?_", "", self.stem)
        return self.root / "course" / "checks" / f"{topic}.py"

    def modules(self) -> list[Path]:
        """The course's modules that the notebook depends on; of the checks, those of its own exercises."""
        if self.kind == "lesson":
            return course_files(self.source, self.root)
        others = self.root / "course" / "checks" / "__init__.py"
        own = [self.checks] if self.checks.is_file() else []
        return course_files(self.source, self.root, also=own, leave=others)


def lessons(root: Path = ROOT) -> list[Lesson]:
    """All lessons, in reading order."""
    return [Lesson(path.stem, root) for path in sorted((root / "notebooks" / "src").glob("*.py"))]


def exercises(root: Path = ROOT, kinds: tuple[str, ...] = ("exercise", "solution")) -> list[Lesson]:
    """All exercise notebooks, to fill in and solved, in reading order."""
    sources = sorted((root / "notebooks" / "src" / "exercises").glob("*.py"))
    return [Lesson(path.stem, root, kind) for path in sources for kind in kinds]


def project(root: Path = ROOT) -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


def address(root: Path = ROOT) -> str:
    """The repository's public address, from the one place where it stands."""
    return project(root)["urls"]["Repository"].rstrip("/").removesuffix(".git")


def renew(page: Path, render: Callable[[str, Path], str], root: Path) -> None:
    """Write a page's generated parts anew, where they differ."""
    old = page.read_text("utf-8")
    new = render(old, root)
    if new != old:
        page.write_text(new, "utf-8")
        print(f"{page.name} renewed")


def on_github(url: str) -> tuple[str, str]:
    """Owner and name of a repository.

    Raises:
      ValueError: the address is not one of GitHub's, from which Colab, Kaggle and Pages take what they show.
    """
    found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", url)
    if found is None:
        raise ValueError(f"expected https://github.com/owner/name, got {url}; see [project.urls] in pyproject.toml")
    return found[1], found[2]


def book_address(root: Path = ROOT) -> str:
    """Where GitHub's Pages serve the book of that repository."""
    owner, name = on_github(address(root))
    site = f"{owner.lower()}.github.io"
    return f"https://{site}/" if name.lower() == site else f"https://{site}/{name}/"


def tag(root: Path = ROOT) -> str:
    """The git tag that hosted notebooks fetch."""
    return f"v{project(root)['version']}"


def badges(name: str, url: str, tag: str) -> dict[str, str]:
    """Markdown badges that open a notebook, named by its path below notebooks/, in Colab and in Kaggle."""
    page = f"{'/'.join(on_github(url))}/blob/{tag}/notebooks/{name}.ipynb"
    colab = "https://colab.research.google.com"
    return {
        "Colab": f"[![Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{page})",
        "Kaggle": "[![Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
        f"(https://kaggle.com/kernels/welcome?src=https://github.com/{page})",
    }


FLAX = "0.12.0"  # the oldest that the course supports, and what hosts get where a lesson needs it
NEW_IN_FLAX = {
    "Dict",
    "InstanceNorm",
    "List",
    "PReLU",
    "Static",
    "check_pytree",
    "flatten",
    "is_data",
    "static",
    "unflatten",
    "with_partitioning",  # older: a name alone; the variable is not born in its place
}

BOOTSTRAP = """\
# Generated by the build. Finds the course: installed, beside this notebook, attached on Kaggle, or cloned at its tag.
import importlib.util
import os
import subprocess
import sys
import tempfile
from glob import iglob

found = importlib.util.find_spec("course")
if found is None or found.origin is None:  # without an origin it is just a folder of that name
    home = os.path.join(tempfile.gettempdir(), "course-{tag}")
    init = os.path.join("course", "__init__.py")
    attached = (path[: -len(init)] for path in iglob("/kaggle/input/**/" + init, recursive=True))
    places = ["..", os.path.join("..", ".."), *attached, home]
    place = next((place for place in places if os.path.isfile(os.path.join(place, init))), None)
    if place is None:
        if not {{"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}} & set(os.environ):
            raise ImportError(
                "expected the course installed or beside this notebook, on a host that is neither Colab nor Kaggle; "
                "run `git clone --branch {tag} {url}` and open the notebooks in it"
            )
        clone = ["git", "clone", "-q", "--depth=1", "--branch={tag}", "{url}", home]
        done = subprocess.run(clone, capture_output=True, text=True)
        if "Remote branch" in done.stderr:
            raise RuntimeError("expected the tag {tag} in {url}, got a repository without it; open a newer notebook")
        if done.returncode:
            raise RuntimeError(
                "expected internet access or an attached copy, got neither; on Kaggle open Settings and turn Internet "
                "on, or attach the course as a data set; run this cell again. git says " + " ".join(done.stderr.split())
            )
        place = home
    sys.path.insert(0, os.path.abspath(place))
"""
UPGRADE = """\

from importlib.metadata import version

if tuple(int(part) for part in version("flax").split(".")[:2]) < (0, 12):  # this lesson needs nnx.{name}
    wheel = next(iglob("/kaggle/input/**/flax-{flax}-*.whl", recursive=True), "flax=={flax}")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", wheel]  # jax and jaxlib stay as they are
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            "expected flax {flax} or newer, got " + version("flax") + " and no internet access to bring it; turn "
            "Internet on, or attach the wheel of flax {flax} as a data set. pip says: " + " ".join(done.stderr.split())
        )
"""


def new_in_flax(lesson: Lesson) -> list[str]:
    """What of flax's NNX a lesson, or a module that it imports, uses that hosts with flax 0.11 do not have."""
    texts = [path.read_text("utf-8") for path in (lesson.source, *lesson.modules())]
    return sorted(set().union(*map(_from_nnx, texts)) & NEW_IN_FLAX)


@cache  # lessons share most modules
def _from_nnx(text: str) -> frozenset[str]:
    return frozenset(
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nnx"
    )


def bootstrap(lesson: Lesson, url: str) -> str:
    """The first code cell: finds the course, and brings flax up to date where the lesson needs it."""
    code = BOOTSTRAP.format(url=url, tag=tag(lesson.root))
    if names := new_in_flax(lesson):
        code += UPGRADE.format(flax=FLAX, name=names[0])
    return code.rstrip()


def as_notebook(lesson: Lesson, url: str | None = None) -> NotebookNode:
    """A lesson's notebook as its source says, unexecuted, with the generated cells in their places."""
    root = lesson.root
    url = url or address(root)
    notebook = jupytext.read(lesson.source, fmt="py:percent")
    dropped = DROPPED[lesson.kind]
    notebook.cells = [cell for cell in notebook.cells if dropped not in cell.metadata.get("tags", [])]
    shown = " ".join(badges(lesson.name, url, tag(root)).values()) if url.startswith("https:") else ""
    _insert(notebook, 1, nbformat.v4.new_markdown_cell(shown))
    first_code = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    _insert(notebook, first_code, nbformat.v4.new_code_cell(bootstrap(lesson, url)))
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        course={
            "source_sha256": sha256(lesson.source.read_bytes()),
            "build_sha256": digest(lesson, notebook),
            **({} if lesson.kind == "lesson" else {"kind": lesson.kind}),
        },
    )
    return notebook


def _insert(notebook: NotebookNode, index: int, cell: NotebookNode) -> None:
    cell.metadata["tags"] = [GENERATED]
    notebook.cells.insert(index, cell)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(lesson: Lesson, composed: NotebookNode) -> str:
    """A hash of all that a built notebook depends on: cells, the code of course modules, results, pinned versions.

    Docstrings and comments of the modules count for nothing, nor do comments and order of the pins.
    """
    cells = [[cell.cell_type, cell.source, cell.metadata] for cell in composed.cells]
    modules = lesson.modules()
    pinned = pins((lesson.root / "requirements.txt").read_text("utf-8"))
    parts = [json.dumps(cells), json.dumps({name: [*map(str, pinned[name])] for name in sorted(pinned)})]
    parts += [bare_code(path.read_text("utf-8")) for path in modules]
    if any(path.name == "results.py" for path in modules):  # it shows published benchmark results
        files = sorted((lesson.root / "benchmarks" / "results").glob("*.json"))
        parts += [path.read_text("utf-8") for path in files]
    return sha256("\n".join(parts).encode())


@cache  # every lesson asks for the same few files
def bare_code(text: str) -> str:
    """A module's code without comments and without strings that stand for themselves: docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [part for part in body if not _is_text(part)]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def course_files(script: Path, root: Path = ROOT, also: Sequence[Path] = (), leave: Path | None = None) -> list[Path]:
    """The course's modules that a script imports, directly or through one another, `__init__.py` of packages included.

    An `__init__.py` without code is left out, and so is the file `leave`; `also` names more modules to start from.
    """
    found: set[Path] = set(also)
    waiting = [script, *also]
    while waiting:
        file = waiting.pop()
        for name in _imported(file.read_text("utf-8"), ".".join(file.relative_to(root).parent.parts)):
            parts = name.split(".")
            above = [root.joinpath(*parts[: n + 1], "__init__.py") for n in range(len(parts))]
            for path in (*above, root.joinpath(*parts).with_suffix(".py")):
                if path not in found and path != leave and path.is_file() and bare_code(path.read_text("utf-8")):
                    found.add(path)
                    waiting.append(path)
    return sorted(found)


@cache
def _imported(text: str, package: str) -> list[str]:
    """Dotted names of what a file in a package imports from the course; some may be functions instead of modules."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == "course"]


def with_ids_of(notebook: NotebookNode, path: Path) -> NotebookNode:
    """The same notebook with the cell ids of an earlier build where cells stayed, and no outputs."""
    if path.is_file():
        metadata, cells = notebook.metadata, [dict(cell.metadata) for cell in notebook.cells]
        notebook = combine_inputs_with_outputs(notebook, nbformat.read(path, as_version=4), fmt="py:percent")
        notebook.metadata = metadata
        for cell, kept in zip(notebook.cells, cells, strict=True):
            cell.metadata = NotebookNode(kept)
    return notebook


@dataclass(frozen=True)
class Execution:
    """How one run of a notebook went."""

    notebook: NotebookNode
    seconds: float
    cpu_seconds: float
    failure: str | None  # "cell 7 (`x = 1`): NameError: …"


def execute(notebook: NotebookNode, folder: Path, kernel: type[AsyncKernelManager] = AsyncKernelManager) -> Execution:
    """Run a notebook in a fresh kernel, in a folder; outputs are stored in it, up to the first failure."""
    os.environ.update(environment.KERNEL)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}}, extra_arguments=["--IPKernelApp.log_level=ERROR"],
        kernel_manager_class=kernel,
    )  # fmt: skip
    running = {"cell": -1}
    client.on_cell_execute = lambda cell, cell_index: running.update(cell=cell_index)
    failure, start, cpu = None, perf_counter(), _cpu_seconds()
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        reason = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
        first_line = notebook.cells[running["cell"]].source.partition("\n")[0]
        failure = f"cell {running['cell'] + 1} (`{first_line}`): {reason.strip().splitlines()[0]}"
    notebook.metadata["language_info"] = NotebookNode(name="python")  # not the interpreter's patch version
    for cell in notebook.cells:  # where Jupyter, nbconvert and the web look for it
        for output in cell.get("outputs", []) if "alt" in cell.metadata else []:
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": cell.metadata["alt"]}
    return Execution(notebook, perf_counter() - start, _cpu_seconds() - cpu, failure)


def _cpu_seconds() -> float:
    usage = os.times()  # the kernel counts once it has ended; Windows says 0
    return usage.children_user + usage.children_system


def execute_all(
    notebooks: dict[str, NotebookNode],
    jobs: int,
    folder: Path,
    run: dict[str, Callable[[NotebookNode, Path], Execution]] | None = None,
) -> Iterator[tuple[str, Execution]]:
    """Run notebooks on several cores; yields (stem, Execution) as they end, under a progress bar.

    `run` has a function in the place of `execute`, by stem.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit((run or {}).get(stem, execute), notebook, folder): stem for stem, notebook in notebooks.items()
        }
        with tqdm(total=len(futures), desc="lessons", unit="lesson", file=sys.stderr) as bar:
            for future in as_completed(futures):
                bar.update()
                bar.set_postfix_str(futures[future])
                yield futures[future], future.result()


# XLA says by the clock that it compiles slowly: on a busy machine it may say so of any program
ALARM = re.compile(
    r"^[^\n]*slow_operation_alarm\.cc(?:.*?attach the results\.(?:\s*\*+)?|[^\n]*)\s*", re.DOTALL | re.MULTILINE
)


def without_alarms(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """A cell's outputs without those that are alarms of XLA alone."""
    return [
        output
        for output in outputs
        if output.output_type != "stream" or output.name != "stderr" or ALARM.sub("", output.text).strip()
    ]


def stderr_of(notebook: NotebookNode, alarms: bool = True) -> list[str]:
    """What cells wrote to stderr (warnings, mostly), each with its cell's number; XLA's alarms only where asked for."""
    return [
        f"cell {number}: {text.splitlines()[-1]}"
        for number, cell in enumerate(notebook.cells, start=1)
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
        and (text := (output.text if alarms else ALARM.sub("", output.text)).strip())
    ]  # fmt: skip


def tagged_output(notebook: NotebookNode, tag: str) -> str:
    """What the cells with a tag printed, joined; an empty text where there are none."""
    return "\n".join(
        output.text.rstrip()
        for cell in notebook.cells
        if cell.cell_type == "code" and tag in cell.metadata.get("tags", [])
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


HEAD = re.compile(r"# %% \[markdown\]\n# # (?P<title>.+)\n#\n# \*\*(?P<question>.+?)\*\* \((?P<minutes>\d+) minutes\)")


def title_of(lesson: Lesson) -> tuple[str, str, int]:
    """Title, question and minutes, from the first cell of a lesson's source."""
    head = HEAD.match(lesson.source.read_text("utf-8"))
    if head is None:
        raise ValueError(
            f"{lesson.source.name}: expected a first cell '# Title', an empty line, '**Question?** (N minutes)'"
        )
    return head["title"], head["question"], int(head["minutes"])


def minutes_of(cells: list[NotebookNode], seconds: float = 0.0) -> float:
    """How long cells take a reader: 200 words of prose a minute, 4 lines of code a minute, and the run itself.

    Code that is quoted in prose counts as code; empty lines, comments and generated cells count for nothing.
    """
    words = lines = 0
    for cell in cells:
        if GENERATED in cell.metadata.get("tags", []):
            continue
        fenced = re.findall(r"```\w*\n(.*?)```", cell.source, re.DOTALL)
        code = [cell.source] if cell.cell_type == "code" else fenced
        if cell.cell_type == "markdown":
            words += len(re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL).split())
        lines += sum(bool(line.strip()) and line.strip()[0] != "#" for text in code for line in text.splitlines())
    return words / 200 + lines / 4 + seconds / 60


EXERCISE = re.compile(
    r"(?m)^(?:# )?## (?:Exercise|Puzzle) (?P<number>\d+): (?P<title>.+) \((?P<minutes>\d+) minutes?\)$"
)


def exercise_minutes(solved: NotebookNode) -> list[int]:
    """How long each exercise of a solved notebook takes, by the formula of the lessons, in whole minutes, from 2 on."""
    parts: list[list[NotebookNode]] = []
    for cell in solved.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            parts.append([])
        if parts:
            parts[-1].append(cell)
    return [max(2, round(minutes_of(part))) for part in parts if EXERCISE.match(part[0].source)]


def with_minutes(source: str, minutes: list[int]) -> str:
    """An exercise source with these minutes in the headings of its exercises, and their sum, in fives, in its title.

    Raises:
      ValueError: a heading is not the first line of its cell, so that its exercise has no minutes.
    """
    headings = len(EXERCISE.findall(source))
    if headings != len(minutes):
        raise ValueError(f"expected {headings} headings that begin a cell, got {len(minutes)}; split the cells")
    rest = iter(minutes)
    text = EXERCISE.sub(lambda m: f"{m[0][: m.start('minutes') - m.start()]}{_minutes(next(rest))})", source)
    if head := HEAD.match(text):
        start, end = head.span("minutes")
        text = f"{text[:start]}{max(5, 5 * round(sum(minutes) / 5))}{text[end:]}"
    return text


def _minutes(number: int) -> str:
    return f"{number} minute{'s' * (number != 1)}"


def stated_minutes(notebook: NotebookNode) -> int:
    """What an executed lesson's title must say, in steps of five; the build leaves the run's seconds in it."""
    return max(5, 5 * round(minutes_of(notebook.cells, notebook.metadata["course"].get("seconds", 0)) / 5))
