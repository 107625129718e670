"""What CONTRIBUTING.md promises to a stranger, as a script: fork, `make new-lesson`, write the words, build, check.

`python -m tests.repo.fork FOLDER` does it in a new FOLDER and ends with `make check`; test_new_lesson.py does the same
without the check.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tools.lessons import MISSING, ROOT

STEM = "08z_line_fit"
WORDS = {
    "title": "One line, fitted twice",
    "title of the lesson": "One line, fitted twice",
    "the question that this lesson answers, in one sentence": "Do two frameworks walk the same way down the same slope",
    "what a reader can do afterwards, first": "write the gradient of a loss as a value that a function returns",
    "what a reader can do afterwards, second": "say when a compiled step runs in Python again",
    "what a reader can do afterwards, third": "carry a loop of updates over from PyTorch and show that nothing changed",
    "the idea in a paragraph: what a PyTorch user does today, what moves, and why it matters": (
        "In PyTorch a gradient appears on the tensor that it belongs to. In JAX it is what a function returns.\n"
        "# For a model of three weights nothing else has to change, so the two sides can be compared number by number."
    ),
    "the PyTorch side: what the reader knows, and which of its lines will move": (
        "`backward()` walks the graph and leaves the gradient in `w_torch.grad`. That line is the one that moves."
    ),
    "the JAX side: what is new in it, line by line": (
        "The loss is a function of the weights. `value_and_grad` makes of it a function that returns loss and gradient."
    ),
    "what moved between the two, and which numbers must agree": (
        "The gradient moved from an attribute to a return value. Its three numbers must be the same."
    ),
    "what the reader should think of before the question": "A compiled step meets 64 rows, then 32, then 64.",
    "what does this print, and why": "How often does Python run the step's body",
    "the answer to the question": "Twice: each shape has a program of its own, and the third call finds the first one.",
    "the mistake that everybody makes here": "Then comes what everybody tries once: to write into an array.",
    "how to read this message, and the remedy": "The message names the remedy: `.at[…].set(…)` returns a new array.",
    "heading of the second half": "Fifty steps",
    "the second idea, on the PyTorch side": "An optimizer updates the weights in place, and the loop is Python's.",
    "the second idea, on the JAX side": "The same loop as `lax.scan`: the weights go in and come out.",
    "what the two runs have in common, and what may differ": "Data, start and rate are the same.",
    "how closely do they agree": "Are they equal, or only close",
    "why the difference is what it is": "Sums of another order round otherwise in the last digit.",
    "the first thing to keep": "A gradient is a return value.",
    "the second thing to keep": "A program is looked up by the shapes of its arguments.",
    "the third thing to keep": "Arrays do not change; functions return new ones.",
    "title of a primary source": "Automatic differentiation",
    "title of another": "The sharp bits",
    "its address": "docs.jax.dev/en/latest/automatic-differentiation.html",
    "what is there": "in JAX's own words.",
    "what the exercises find out, in one sentence": "Can you write the gradient, the step and the losses yourself",
    "title of the first exercise": "A gradient",
    "title of the second exercise": "A step",
    "title of the third exercise": "A loss for each row",
    "what is given: weights `w`, rows `x`, targets `y`": "weights `w`, rows `x` and targets `y`",
    "what is given: the same, and a rate": "the same, and a `rate`",
    "what is given: the same": "the same",
    "what is asked: `gradient(w, x, y)`, of the mean squared error of `x @ w`": (
        "`gradient(w, x, y)` of the mean squared error of `x @ w`"
    ),
    "what is asked: `step(w, x, y, rate)`, the weights after one step of gradient descent": (
        "`step(w, x, y, rate)`: the weights after one step of gradient descent"
    ),
    "what is asked: `losses(w, x, y)`, one squared error for each row": "`losses(w, x, y)`: a square for each row",
    "against which oracle": "against the formula, in float64",
    "what the exercises are about": "fitting a line: gradient, step, loss of each row",
    "a nudge": "Write the loss as a function of `w` first.",
    "the line that does it": "Then `jax.grad` and `jax.vmap` do the rest.",
    "what is checked, and against what": "The answer on random rows, against the formula in float64",
    "a likely slip, here a sum for a mean": "a sum where a mean is asked for",
    "besides these, what people would really write: five wrong answers or more to each check, two right ones": (
        "one of each kind that every check must refuse"
    ),
}


def commands(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command in the fork, with the environment that runs this script."""
    environment = os.environ | {"PYTHONPATH": str(folder), "COURSE_PROGRESS": ""}
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, env=environment)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`make` in the fork, which takes the environment as it is."""
    return commands(folder, "make", "--old-file=.venv/.ready", *arguments)


def fork(folder: Path) -> None:
    """Clone the last commit, and give the clone this environment."""
    subprocess.run(["git", "clone", "--quiet", "--no-tags", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to(sys.prefix)


def new_lesson(folder: Path) -> subprocess.CompletedProcess:
    number, _, name = STEM.partition("_")
    return make(folder, "new-lesson", f"NUMBER={number}", f"NAME={name}")


def files(folder: Path) -> list[Path]:
    """The four files whose words the author writes."""
    topic = STEM.partition("_")[2]
    sources = [folder / "notebooks" / "src" / sub / f"{STEM}.py" for sub in ("", "exercises")]
    return [*sources, folder / "course" / "checks" / f"{topic}.py", folder / "tests" / "answers" / f"{topic}.py"]


def missing(folder: Path) -> list[str]:
    return [mark for path in files(folder) for mark in MISSING.findall(path.read_text("utf-8"))]


def write_words(folder: Path) -> None:
    for path in files(folder):
        path.write_text(MISSING.sub(lambda mark: WORDS[mark[1]], path.read_text("utf-8")), "utf-8")


def enter_in_the_map(folder: Path) -> None:
    """README's map gets the number, behind that of the lesson before."""
    readme = folder / "README.md"
    text = readme.read_text("utf-8")
    assert text.count(" 08c |") == 1
    readme.write_text(text.replace(" 08c |", f" 08c {STEM.partition('_')[0]} |"), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    fork(folder)
    steps = [
        ("make new-lesson", lambda: new_lesson(folder)),
        ("make build", lambda: commands(folder, sys.executable, "-m", "tools.build", STEM)),
        ("make guards", lambda: make(folder, "guards")),
        ("make check", lambda: make(folder, "check")),
    ]
    for name, run in steps:
        done = run()
        print(
            f"== {name}: {done.returncode}", *done.stdout.splitlines()[-15:], *done.stderr.splitlines()[-5:], sep="\n"
        )
        if done.returncode:
            return 1
        if name == "make new-lesson":
            print(f"{len(missing(folder))} places for words")
            write_words(folder)
            enter_in_the_map(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
