"""The landing page: book/index.md, its parts made of README, the lessons' sources and the published measurements."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from course import plots, results
from tools.book.page import launch_addresses
from tools.book.places import rewritten
from tools.book.side_by_side import FRAMEWORKS, TRIO, steps
from tools.lessons import ROOT, Lesson, address, lessons, project, title_of
from tools.speed import LOOP, in_words, ladder_table, save, styled

PAGE = "index"
LAPLACIANS = ("exact, course.taylor", "folx", "jax.hessian", "torch.func Hessian trace")

# what a PyTorch user will recognise in a lesson; every name stands in its source. A lesson that is not listed gets
# the names of PyTorch that it uses and few others do.
RECOGNISED = {
    "00_start_here": "`DataLoader`, `backward()`, `.to(device)`, and where each of them went",
    "01a_titanic_torch": "everything: `Dataset`, `DataLoader`, `nn.Module`, `backward()`",
    "01b_titanic_nnx": "your `DataLoader`, modules with `__init__`, an optimizer that changes weights in place",
    "01c_titanic_linen": "`state_dict()`, now a plain dict that you hold",
    "02_same_numbers": "the defaults of `Linear`, `AdamW`, `LayerNorm` and `gelu`, which differ",
    "03_state_and_trees": "`BatchNorm1d`, `Dropout`, `train()` and `eval()`, `load_state_dict`",
    "04_optimizers": "`torch.optim` and its schedulers, from `StepLR` to `ReduceLROnPlateau`",
    "04b_training_rules": "parameter groups, `requires_grad_(False)`, `clip_grad_norm_`, `AveragedModel`",
    "05_precision": "`torch.autocast` and `GradScaler`",
    "05b_checkpoints": "`torch.save`, `state_dict` and a run that is killed",
    "06_porting_layers": "`Conv2d`, NCHW, `flatten(1)`",
    "06b_porting_sequences": "`GRU`, `LSTM`, `MultiheadAttention`, `key_padding_mask`",
    "07_porting_checkpoints": "a `.pt` file, and the names in its state dict",
    "07b_real_checkpoint": "a published convolutional network, `F.pad` and `BatchNorm2d` included",
    "08_tracing": "`torch.compile` and its graph breaks",
    "08b_compiling": "`torch.compile`, recompiling, `torch.cuda.synchronize()`",
    "08c_debugging": "`pdb`, `detect_anomaly`, `torch.profiler`",
    "09_transformations": "`torch.func`: `grad`, `vmap`, `jvp`, `vjp`",
    "09b_custom_rules": "`autograd.Function` and `utils.checkpoint`",
    "10_jit_speed": "the loop over a `DataLoader`, `torch.compile`, `torch.cuda.synchronize()`",
    "11_ensembles": "`stack_module_state`, `functional_call`, `DistributedDataParallel`",
    "12_tracing_paper": "`torch.compile` of a whole model, `cross_entropy`, Python loops",
    "16_derivative_cliff": "`autograd.grad` with `create_graph=True`, again and again",
    "17_taylor_mode": "`torch.func`, and what it does not have: a Taylor mode",
    "17b_jets_at_work": "`torch.func.hessian`, and the trace that you take of it",
    "18_stde": "Hutchinson's estimate of a trace, beside `torch.func.hessian`",
    "18b_stde_checked": "nested `torch.func.grad`, as the reference",
    "19_million_dimensions": "a PINN's residual in `torch.func`: `grad`, `jvp`, `vmap`",
    "20_high_order_pdes": "a PINN: `autograd.grad` with `create_graph=True`, and Adam",
    "20b_all_equations": "the ansatz and the residual in `autograd.grad`, in float64",
    "22_functional_derivatives": "the gradient in `.grad`, when the leaf is a function",
    "22b_more_functionals": "`autograd.grad` twice through the nodes, kernels and operators as matrices",
}


def write(folder: Path) -> None:
    """The page index, from book/index.md with its parts put in, and the pictures that README does not have."""
    for dark in (False, True):
        draw_laplacians(folder / "pictures" / picture("laplacians", dark), dark)
    page = folder / f"{PAGE}.md"
    page.write_text(page_text((ROOT / "book" / "index.md").read_text("utf-8")), "utf-8")


def page_text(text: str) -> str:
    """book/index.md with each line "% part: NAME" replaced by that part."""
    makers = {
        "opening": opening,
        "steps": training_steps,
        "buttons": buttons,
        "ladder": ladder,
        "laplacians": laplacians,
        "cards": cards,
        "cite": cite,
        "versions": lambda: section("Versions"),
        "licence": lambda: section("Licence"),
        "toctrees": toctrees,
    }
    asked = re.findall(r"(?m)^% part: (\w+)$", text)
    if sorted(asked) != sorted(makers):
        raise ValueError(f"book/index.md: expected one line '% part: NAME' for each of {sorted(makers)}, got {asked}")
    return re.sub(r"(?m)^% part: (\w+)$", lambda match: makers[match[1]](), text)


# --- from README --------------------------------------------------------------------------------------------


@cache
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def opening() -> str:
    """README's first paragraph: what the course is."""
    return rewritten(readme().split("\n\n")[1], "README.md", PAGE)


def section(heading: str) -> str:
    """What README says below one of its headings."""
    found = re.search(rf"(?ms)^## {heading}\n\n(.*?)(?=^## |\Z)", readme())
    if found is None:
        raise ValueError(f"expected the heading '## {heading}' in README.md, got none")
    return rewritten(found[1].strip(), "README.md", PAGE)


def parts() -> dict[tuple[str, str], list[Lesson]]:
    """(part, what it answers) -> its lessons, as README's map has them; a lesson without a row joins the one before."""
    rows = re.findall(r"(?m)^\| ((?:\d\d[a-z]? ?)+) \| (.+?) \| (.+?) \|$", section("The course's map"))
    place = {number: (part, answers) for numbers, part, answers in rows for number in numbers.split()}
    if not place:
        raise ValueError("expected rows '| numbers | part | what it answers |' below README's map, got none")
    found: dict[tuple[str, str], list[Lesson]] = {}
    part = next(iter(place.values()))
    for lesson in lessons():
        part = place.get(lesson.stem.partition("_")[0], part)
        found.setdefault(part, []).append(lesson)
    return found


# --- the training step, three times -------------------------------------------------------------------------


def training_steps() -> str:
    """The function `train_step` of the Titanic trio in tabs, decorators included."""
    tabs = ["::::{tab-set}", ":sync-group: framework", ""]
    for key, stem in TRIO.items():
        code = train_step(Lesson(stem))
        tabs += [f":::{{tab-item}} {FRAMEWORKS[key]}", f":sync: {key}", "", "```python", code, "```", ":::", ""]
    return "\n".join([*tabs, "::::"])


def train_step(lesson: Lesson) -> str:
    """The source of `train_step` in a lesson's step "update"."""
    for cell in steps(lesson)["update"].cells:
        for node in ast.parse(cell).body:
            if isinstance(node, ast.FunctionDef) and node.name == "train_step":
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                return "\n".join(cell.splitlines()[first - 1 : node.end_lineno])
    raise ValueError(f"{lesson.source.name}: expected a function train_step in the step 'update', got none")


def buttons() -> str:
    first = lessons()[0]
    colab = launch_addresses(first)["Colab"]
    return f"""\
::::{{grid}} 1 2 2 2
:gutter: 2
:class-container: landing-buttons

:::{{grid-item}}
```{{button-ref}} lessons/{first.stem}
:color: primary
:expand:

Start with lesson {first.stem.partition("_")[0]}
```
:::

:::{{grid-item}}
```{{button-link}} {colab}
:color: primary
:outline:
:expand:

Open it in Colab
```
:::

:::{{grid-item}}
```{{button-ref}} side_by_side
:color: primary
:outline:
:expand:

Side by side
```
:::

:::{{grid-item}}
```{{button-ref}} rosetta/index
:color: primary
:outline:
:expand:

Rosetta stone
```
:::
::::"""


# --- the lessons --------------------------------------------------------------------------------------------


def cards() -> str:
    """A card for each lesson, part by part."""
    written = []
    for (part, answers), found in parts().items():
        written += [f"### {part[0].upper()}{part[1:]}\n", f"{answers[0].upper()}{answers[1:]}.\n"]
        written += [":::::{grid} 1 2 2 3", ":gutter: 2", ":class-container: landing-cards", ""]
        written += [*map(card, found), ":::::", ""]
    return "\n".join(written)


def card(lesson: Lesson) -> str:
    title, question, minutes = title_of(lesson)
    return f"""\
::::{{grid-item-card}} {title}
:link: lessons/{lesson.stem}
:link-type: doc

{question}

**You will recognise** {recognised(lesson)}.
:::{{card-footer}}
{minutes} minutes
:::
::::
"""


def recognised(lesson: Lesson) -> str:
    """What a PyTorch user will recognise: a phrase kept here, else the torch names that are most this lesson's own."""
    if lesson.stem in RECOGNISED:
        return RECOGNISED[lesson.stem]
    used = {other.stem: torch_names(other) for other in lessons()}
    spread = Counter(name for names in used.values() for name in names)
    names = sorted(used[lesson.stem], key=lambda name: (spread[name], name))[:3]
    return ", ".join(f"`{name}`" for name in names) or "the idea, not the names"


@cache
def torch_names(lesson: Lesson) -> frozenset[str]:
    """The names of torch in a lesson's code, without the module's: `Dropout`, `clip_grad_norm_`."""
    tree = ast.parse(lesson.source.read_text("utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = {
        alias.asname or alias.name.partition(".")[0]
        for node in imported
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).partition(".")[0] == "torch"
    }
    return frozenset(_last_names(tree, ours))


def _last_names(tree: ast.Module, roots: set[str]) -> Iterator[str]:
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in roots:
                yield node.attr


# --- measured speed -----------------------------------------------------------------------------------------


def picture(name: str, dark: bool) -> str:
    return f"{name}-{'dark' if dark else 'light'}.svg"


def _figure(name: str, alt: str) -> str:
    """One picture for light pages and one for dark ones, of which the theme shows one."""
    images = ((picture(name, dark), "only-dark" if dark else "only-light") for dark in (False, True))
    return "\n\n".join(f"```{{image}} pictures/{file}\n:alt: {alt}\n:class: {shown}\n```" for file, shown in images)


def ladder() -> str:
    """The speed ladder: picture, caption, the numbers."""
    table = ladder_table()
    slower = " and ".join(f"`{name}`" for name, row in table.iterrows() if row.times < 1)
    result = results.load("titanic_speed")
    rounds = result["tables"][LOOP][0]["rounds"]
    rows = [f"| {name} | {row.seconds:.3g} | {row.times:.2g} |" for name, row in table.iterrows()]
    head = ["| | seconds | times as fast as PyTorch eager |", "|---|--:|--:|"]
    return "\n\n".join(
        [
            _figure("ladder", in_words(table)),
            f"500 epochs of the Titanic loop, batch 32, 837 rows, float32, medians of {rounds} rounds; "
            f"{results.measured_on(result)}. Slower than PyTorch eager: {slower}.",
            "\n".join([":::{dropdown} The numbers", *head, *rows, ":::"]),
        ]
    )


def laplacian_table() -> pd.DataFrame:
    """Milliseconds of each way to the Laplacian, over dimension; NaN where it was not measured."""
    result = results.load("operators")
    columns = {}
    for title in result["tables"]:
        if found := re.fullmatch(r"d = ([\d,]+)", title):
            columns[int(found[1].replace(",", ""))] = results.table(result, title)["value_ms"]
    return pd.DataFrame(columns).loc[[*LAPLACIANS]].T.sort_index()


def draw_laplacians(path: Path, dark: bool) -> None:
    table = laplacian_table()
    with styled(dark):
        _, axis = plt.subplots(figsize=(5.6, 3.4))
        plots.lines(axis, table.index, table, log="xy", xlabel="dimension d", ylabel="milliseconds")
        save(path)


def laplacians() -> str:
    """The exact Laplacian over dimension: picture, caption, the numbers."""
    table, result = laplacian_table(), results.load("operators")
    ours, rival = table[LAPLACIANS[0]], table[LAPLACIANS[1]]
    ratios = {d: rival[d] / ours[d] for d in table.index if pd.notna(rival[d])}
    lost = [f"{d:,}" for d, ratio in ratios.items() if ratio < 1]
    largest = max(ratios)
    says = f"At d = {largest:,} `course.taylor` is {ratios[largest]:.0f} times as fast as folx"
    says += f"; at d = {' and '.join(lost)} folx is the faster one." if lost else "."
    said = "; ".join(
        f"{name} from {column.dropna().iloc[0]:.2g} at d = {column.dropna().index[0]:,} to "
        f"{column.dropna().iloc[-1]:.2g} at d = {column.dropna().index[-1]:,}"
        for name, column in table.items()
    )
    head = ["| d | " + " | ".join(table.columns) + " |", "|--:|" + "--:|" * len(table.columns)]
    rows = [
        f"| {d:,} | " + " | ".join("–" if pd.isna(value) else f"{value:.3g}" for value in row) + " |"
        for d, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return "\n\n".join(
        [
            _figure("laplacians", f"Lines on logarithmic axes, milliseconds of one exact Laplacian: {said}."),
            f"The exact Laplacian of a network over d coordinates, milliseconds, without the gradient; "
            f"{results.measured_on(result)}. {says} A line ends where its method was too slow or too large to measure.",
            "\n".join([":::{dropdown} The numbers", *head, *rows, ":::"]),
        ]
    )


# --- the rest -----------------------------------------------------------------------------------------------


def cite() -> str:
    """An entry for BibTeX, from pyproject.toml and the licence's year."""
    year = re.search(r"\b(20\d\d)\b", (ROOT / "LICENSE").read_text("utf-8"))
    return f"""\
```bibtex
@misc{{torch_to_jax_course,
  title   = {{From PyTorch to JAX}},
  author  = {{{{The PyTorch-to-JAX course authors}}}},
  year    = {{{year[1] if year else ""}}},
  note    = {{Version {project()["version"]}}},
  url     = {{{address()}}}
}}
```"""


def toctrees() -> str:
    """What the sidebar lists, and the order of previous and next: lessons by part, exercises, reference, about."""
    trees = {part[0].upper() + part[1:]: [f"lessons/{x.stem}" for x in found] for (part, _), found in parts().items()}
    trees["Practise"] = ["exercises/index"]
    trees["Look it up"] = ["side_by_side", "rosetta/index", "api/index"]
    trees["About"] = ["teaching", "contributing", "changes"]
    blocks = [["```{toctree}", f":caption: {name}", ":hidden:", "", *pages, "```", ""] for name, pages in trees.items()]
    return "\n".join(line for block in blocks for line in block)
