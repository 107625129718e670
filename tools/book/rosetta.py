"""The Rosetta stone as pages: an index with a search box, a page for each group, one of names and one of messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rosetta import kinds, messages, names
from tools.book.places import relative
from tools.handout import handout
from tools.lessons import lessons, title_of
from tools.rosetta import (
    by_name,
    everything,
    groups,
    heading,
    in_contents,
    jax_code,
    message_index,
    name_lists,
    opening,
    snippet,
    target,
    title_and_text,
)

Entries = dict[str, list[type[kinds.Pair]]]
# hidden until the script is there: without it the lists below serve; "q" is what Sphinx's own search looks for
SEARCH = """```{raw} html
<form class="rosetta-search" role="search" aria-label="Rosetta stone" action="index.html" hidden>
<label for="rosetta-query">A name of PyTorch, or words of an error message</label>
<input id="rosetta-query" name="find" type="search" autocomplete="off" autocapitalize="off" spellcheck="false">
<p class="rosetta-count" role="status" aria-live="polite"></p>
<ol class="rosetta-results"></ol>
</form>
<script src="search-data.js" defer></script>
<script src="../_static/rosetta.js" defer></script>
```"""

# what one types, and how the titles say it: endings count for nothing, and "iz" is "is"
SYNONYMS = {
    "amp": "mixed precision", "average": "mean", "bf16": "bfloat16", "checkpoint": "save", "concat": "join",
    "cuda": "device", "ddp": "DistributedDataParallel", "ema": "exponential moving average", "eval": "evaluate",
    "fp16": "float16", "fp32": "float32", "gpu": "device", "inference": "evaluate", "l2": "squares parameters",
    "lr": "rate", "multi gpu": "train all devices", "regularization": "weight decay", "rng": "random numbers",
    "scheduler": "schedule", "std": "standard deviation", "summary": "shapes parameters", "weight": "parameters",
}  # fmt: skip
FILLERS = ["a", "an", "and", "are", "can", "do", "does", "for", "how", "i", "in", "is", "it", "my", "no", "of", "on",
           "or", "the", "to", "use", "what", "with"]  # fmt: skip


def write(folder: Path) -> None:
    """The pages rosetta/index, rosetta/GROUP, names and messages, what the search box reads, and the handout."""
    entries = everything()
    covered = by_name(entries)
    stems = {lesson.stem: title_of(lesson)[0] for lesson in lessons()}
    pages = folder / "rosetta"
    pages.mkdir()
    for name, text in (
        ("index", index(entries, covered)),
        ("names", names_page(covered)),
        ("messages", f"# Error messages\n\n{SEARCH}\n\n{message_index(groups(), '{}.md')}\n"),
        *((name, group(name, found, stems)) for name, found in entries.items()),
    ):
        (pages / f"{name}.md").write_text(text, "utf-8")
    data = folder.parent / "extra" / "rosetta" / "search-data.js"  # a script: what a page may load from a disk, too
    data.parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / "extra" / "handout.html").write_text(handout(), "utf-8")
    data.write_text(f"window.rosetta = {json.dumps(search_data(entries, covered), ensure_ascii=False)};\n", "utf-8")


def index(entries: Entries, covered: names.Index) -> str:
    """The page to look things up from."""
    modules = groups()
    contents = [in_contents(name, modules[name], found, "{}.md") for name, found in entries.items()]
    tree = "\n".join(["```{toctree}", ":hidden:", "", *entries, "names", "messages", "```"])
    return "\n\n".join(
        [
            "# Rosetta stone: PyTorch and JAX side by side",
            *opening(entries),
            SEARCH,
            "## By subject",
            ":::{div} rosetta-contents\n" + "\n".join(contents) + "\n:::",
            "## By name or message",
            f"- [Names of PyTorch](names.md): all {len(covered)} of them, each with the entries that answer it\n"
            f"- [Error messages](messages.md): {len(messages.MESSAGES)} of JAX, Flax and Optax, what happened, and "
            "what to write instead",
            "## On paper",
            # Sphinx knows no file that it only copies: HTML
            'The <a href="../handout.html">handout</a> shows what is needed most on two printed pages, PyTorch and JAX '
            "side by side, and ten errors that come first. `make handout` makes a PDF of it.",
            tree,
        ]
    )


def names_page(covered: names.Index) -> str:
    """The index of PyTorch's names."""
    parts = ["# Names of PyTorch", SEARCH]
    for prefix, links in name_lists(covered, "{}.md").items():
        parts += [f"## {prefix}", links]
    return "\n\n".join(parts) + "\n"


def group(name: str, found: list[type[kinds.Pair]], stems: dict[str, str]) -> str:
    """A group's page."""
    title, text = title_and_text(groups()[name])
    parts = [f"# {title}", text, SEARCH]
    for entry in found:
        parts += shown(name, entry, stems)
    return "\n\n".join(parts) + "\n"


def shown(name: str, entry: type[kinds.Pair], stems: dict[str, str]) -> Iterator[str]:
    """One entry: the two sides, the trap with what to write instead, the note."""
    anchor = target(name, entry)
    if "_" in anchor:  # of which docutils makes a hyphen
        yield f'```{{raw}} html\n<span id="{anchor}"></span>\n```'
    yield f"{{#{anchor}}}\n## {entry.__doc__}"
    sides = (("torch", "PyTorch", snippet(entry, "torch")), ("jax", heading(entry), jax_code(entry)))
    yield "\n".join(["::::{div} rosetta-pair", *(column(*side) for side in sides), "::::"])
    fix = column("jax", heading(entry, "fix"), snippet(entry, "fix")) if "fix" in entry.sides() else ""
    if entry.trap:
        stem = entry.lesson[0]
        lesson = f" Shown in [{stems[stem]}]({relative(f'lessons/{stem}', '', f'rosetta/{name}')})." if stem else ""
        yield f"::::{{admonition}} Trap\n:class: warning rosetta-trap\n\n{entry.trap}{lesson}\n\n{fix}\n::::"
    elif fix:
        yield fix
    if entry.note:
        yield entry.note
    unsaid = [name for name in entry.also if name.rpartition(".")[2] not in snippet(entry, "torch")]
    if unsaid:  # one looks for them all the same
        yield f"[Also for {', '.join(f'`{name}`' for name in unsaid)}.]{{.rosetta-also}}"


def column(side: str, label: str, code: str) -> str:
    """Code below the name of what it is."""
    return f":::{{div}} rosetta-{side}\n[{label}]{{.rosetta-side}}\n```python\n{code}\n```\n:::"


def search_data(entries: Entries, covered: names.Index) -> dict[str, Any]:
    """What the search box looks through: entries, and names and messages with the numbers of their entries.

    Returns:
      "synonyms", "fillers": of queries, "groups": {group: title}, "entries": [[anchor, title, is a trap]],
      "names": [[name, [number, …]]], "messages": [[type, text, meaning, number]]; the forms of a type or a text are
      separated by "|".
    """
    modules = groups()
    listed = [(name, entry) for name, found in entries.items() for entry in found]
    number = {entry: place for place, (_, entry) in enumerate(listed)}
    return {
        "synonyms": SYNONYMS,
        "fillers": FILLERS,
        "groups": {name: title_and_text(module)[0] for name, module in modules.items()},
        "entries": [[target(*found), found[1].__doc__.replace("`", ""), bool(found[1].trap)] for found in listed],
        "names": [[name, [number[entry] for _, entry in found]] for name, found in covered.items()],
        "messages": [
            [found.error, found.text, found.meaning.replace("`", ""), number[getattr(modules[name], entry)]]
            for found in messages.MESSAGES
            for name, _, entry in [found.entry.partition(".")]
        ],
    }
