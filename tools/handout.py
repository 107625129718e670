"""`make handout`: two printed pages from the Rosetta stone, build/handout.html and, with a Chromium, build/handout.pdf.

The pages are A4; `python -m tools.handout letter` makes them US Letter.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rosetta import kinds, messages
from tools.lessons import ROOT, address
from tools.rosetta import everything, snippet, target, title_and_text
from tools.rosetta import groups as modules

OUT = ROOT / "build"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAPERS = {"a4": "A4", "letter": "letter"}
# what a PyTorch user needs in the first weeks, in entries of a line or two
CHOSEN = (
    "creation-tonumpy", "creation-filled", "creation-onehot", "creation-cast", "creation-sizeofdimension",
    "creation-view", "creation-unsqueeze", "creation-permute", "creation-repeat", "creation-join", "creation-split",
    "indexing-labelofeachrow", "indexing-writeelement", "indexing-writeslice", "indexing-addatrepeatedindices",
    "indexing-gather", "indexing-maskedfill", "indexing-clamp",
    "elementwise-invertmask",
    "reductions-sum", "reductions-maxalong", "reductions-standarddeviation", "reductions-meanofintegers",
    "reductions-median", "reductions-cumulative", "reductions-logsumexp", "reductions-topk",
    "linear_algebra-product", "linear_algebra-solve",
    "random_numbers-uniform", "random_numbers-normallike", "random_numbers-integers", "random_numbers-drawtwice",
    "autograd-lossandgradient", "autograd-detach", "autograd-perexample", "autograd-hessian", "autograd-jvp",
    "control_flow-where", "control_flow-whileloop",
    "layers-linear", "layers-convolution", "layers-layernorm",
    "activations-activations", "activations-gelu", "activations-softmax", "activations-maskedsoftmax",
    "images-maxpool",
    "sequences-embedding", "sequences-lstm", "sequences-attention",
    "losses-halfsquares", "losses-meanabsolute", "losses-perexample", "losses-broadcastlabels", "losses-accuracy",
    "optimizers-momentum", "optimizers-adam", "optimizers-adamw",
    "schedules-cosinefloor",
    "data-batches",
    "devices-hasgpu", "devices-whereisit", "devices-backtohost",
    "compiling-compile",
)  # fmt: skip
# the functions of rosetta/messages.py that raise them
ERRORS = (
    "if_on_tracer", "item_of_tracer", "traced_mask", "numpy_of_tracer", "leaked_tracer", "write", "gradient_of_vector",
    "list_as_static", "carry_changes", "draw_without_key",
)  # fmt: skip

STYLE = """
@page { size: A4; margin: 7mm 9mm; }
body { margin: 0 auto; max-width: 194mm; font: 7.5pt/1.15 "DejaVu Sans", Verdana, Arial, sans-serif; color: #000; }
h1 { margin: 0; font-size: 12pt; }
p { margin: 0.5mm 0 1mm; }
code, pre { font: 7.5pt/1.13 "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; }
col.torch { width: 48%; }
th { padding: 0.2mm 1mm; text-align: left; font-weight: bold; }
thead th { font-size: 8.5pt; border-bottom: 0.7mm solid #777; }
thead th.torch { border-color: #d55e00; } thead th.jax { border-color: #0072b2; }
th.group { background: #eee; }
td { padding: 0.1mm 1mm; vertical-align: top; border-top: 0.1mm solid #bbb; }
tbody { break-inside: avoid; }
tbody.heads { break-after: avoid; }
td.trap { border: 0; padding-top: 0; }
.mark { font-weight: bold; }
@media screen { body { padding: 1rem; font-size: 9pt; } code, pre { font-size: 9pt; } }
"""


def handout(paper: str = "a4") -> str:
    """The page, which needs nothing beside itself.

    Raises:
      ValueError: a chosen entry or message does not exist.
    """
    entries = everything()
    found = {target(group, entry): (group, entry) for group, listed in entries.items() for entry in listed}
    errors = {message.provoke.__name__: message for message in messages.MESSAGES if message.provoke}
    if missing := (set(CHOSEN) - set(found)) | (set(ERRORS) - set(errors)):
        raise ValueError(f"expected entries and messages of rosetta/, got {sorted(missing)}; correct tools/handout.py")
    chosen = [found[name] for name in CHOSEN]
    rows, before = [], ""
    for group, entry in chosen:
        if group != before:
            title = title_and_text(modules()[group])[0]
            rows.append(f'<tbody class="heads"><tr><th class="group" colspan="2">{words(title)}</th></tr></tbody>')
            before = group
        rows.append(row(entry))
    rows.append('<tbody class="heads"><tr><th class="group" colspan="2">Ten errors that come first</th></tr></tbody>')
    rows += [
        f"<tbody><tr><td><code>{html.escape(one(error.error))}: {html.escape(one(error.text))}</code></td>"
        f"<td>{words(error.meaning)}</td></tr></tbody>"
        for error in map(errors.get, ERRORS)
    ]
    total = sum(map(len, entries.values()))
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>From PyTorch to JAX</title>
<link rel="icon" href="data:,">
<style>{STYLE.replace("A4", PAPERS[paper])}</style></head>
<body>
<main>
<h1>From PyTorch to JAX</h1>
<p>{len(chosen)} of {total} entries of the Rosetta stone, {address()}. The right column gives PyTorch’s result.
<span class="mark">⚠</span> marks a trap: what you would write first gives something else. <code>F</code> is
torch.nn.functional, <code>jnp</code> jax.numpy, <code>nnx</code> flax.nnx, <code>nn</code> torch.nn or flax.linen.</p>
<table>
<colgroup><col class="torch"><col></colgroup>
<thead><tr><th class="torch">PyTorch</th><th class="jax">JAX</th></tr></thead>
{chr(10).join(rows)}
</table>
</main>
</body>
</html>
"""


def row(entry: type[kinds.Pair]) -> str:
    """An entry: PyTorch, and what gives the same in JAX; below them the trap."""
    sides = (compact(snippet(entry, "torch")), ours(entry))
    cells = "".join(f"<td><pre>{html.escape(code)}</pre></td>" for code in sides)
    trap = f'<tr><td class="trap" colspan="2"><span class="mark">⚠</span> {words(entry.trap)}</td></tr>'
    return f"<tbody><tr>{cells}</tr>{trap * bool(entry.trap)}</tbody>"


def ours(entry: type[kinds.Pair]) -> str:
    """The fix of a trap, else the JAX side; of NNX and Linen a line each."""
    sides = entry.sides()
    shown = ["fix"] if entry.trap and "fix" in sides else [name for name in ("jax", "nnx", "linen") if name in sides]
    return "\n".join(compact(snippet(entry, name)) for name in shown)


def compact(code: str) -> str:
    """Code without empty lines, and without a last line that only names the result."""
    return re.sub(r"\n\w+(, \w+)*$", "", re.sub(r"\n\s*\n", "\n", code))


def one(forms: str) -> str:
    """The first of the forms of a type or a text."""
    return forms.partition("|")[0]


def words(text: str) -> str:
    """Markdown's code in HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def browser() -> str | None:
    """A Chromium of this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_page(page: Path, pdf: Path, program: str) -> None:
    """A PDF of a page, by a Chromium. CalledProcessError: it failed."""
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless", f"--user-data-dir={profile}", "--no-pdf-header-footer"]
        command += [f"--print-to-pdf={pdf}", page.resolve().as_uri()]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # root has none
        subprocess.run(command, check=True, capture_output=True)


def main(paper: str = "a4") -> None:
    if paper not in PAPERS:
        raise SystemExit(f"expected a paper of {', '.join(PAPERS)}, got {paper}")
    OUT.mkdir(exist_ok=True)
    page, pdf = OUT / "handout.html", OUT / "handout.pdf"
    page.write_text(handout(paper), "utf-8")
    pdf.unlink(missing_ok=True)
    if program := browser():
        print_page(page, pdf, program)
        print(f"{pdf.relative_to(ROOT)}: two pages, {PAPERS[paper]}; print both sides of a sheet at 100 %")
    else:
        print(
            f"{page.relative_to(ROOT)}: print it from a browser; a PDF is made where there is {' or '.join(BROWSERS)}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
