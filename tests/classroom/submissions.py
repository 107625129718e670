"""A course with one small exercise notebook, and twenty submissions of it: good ones, bad ones, hostile ones."""

import copy
import json
import os
import shutil
from pathlib import Path

import nbformat

from tools.lessons import ROOT, Lesson, as_notebook

STEM, NAMES = "00_tiny", ("doubled", "mean_square", "last_row")

CHECKS = """\
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, same


@check("00_tiny", "Add.", "x + x", points=1)
def doubled(rng, doubled):
    x = rng.normal(size=3).astype("f")
    same(function(doubled, "doubled(x)")(jnp.asarray(x)), 2 * x, "twice x")


@check("00_tiny", "Square.", "jnp.mean(x**2)", points=3)
def mean_square(rng, mean_square):
    x = rng.normal(size=5).astype("f")
    slips = {"the sum, not the mean": (x**2).sum()}
    same(function(mean_square, "mean_square(x)")(jnp.asarray(x)), np.mean(x**2), "the mean square", slips=slips)


@check("00_tiny", "Index.", "x[-1]", points=2)
def last_row(rng, last_row):
    x = rng.normal(size=(4, 3)).astype("f")
    same(function(last_row, "last_row(x)")(jnp.asarray(x)), x[-1], "the last row")
"""

SOURCE = """\
# %% [markdown]
# # 00 · Exercises: Tiny
#
# **Does it run?** (2 minutes)

# %%
import jax
import jax.numpy as jnp

from course import checks

# %% [markdown]
# ## Exercise 1: Twice (2 minutes)

# %% tags=["stub"]
def doubled(x):
    raise NotImplementedError("your turn")

# %% tags=["solution"]
def doubled(x):
    return factor(x) * x


def factor(x):
    return jnp.full(x.shape, 2.0)

# %%
checks.doubled(doubled)

# %% [markdown]
# ## Exercise 2: A mean (2 minutes)

# %%
power = 2

# %% tags=["stub"]
def mean_square(x):
    raise NotImplementedError("your turn")

# %% tags=["solution"]
def mean_square(x):
    return jnp.mean(x**power)

# %%
checks.mean_square(mean_square)

# %% [markdown]
# ## Exercise 3: A row (2 minutes)

# %% tags=["stub"]
last_row = ...

# %% tags=["solution"]
last_row = lambda x: x[-1]

# %%
checks.last_row(last_row)

# %% [markdown]
# Back to the [lesson](../00_tiny.ipynb). [Solutions](../solutions/00_tiny.ipynb).
"""


def tiny_course(root: Path) -> Path:
    """A copy of the course with one exercise notebook, whose checks take milliseconds."""
    for name in ("course", "tools", "requirements"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    checks = root / "course" / "checks"
    (checks / "tiny.py").write_text(CHECKS, "utf-8")
    names = ", ".join(NAMES)
    (checks / "__init__.py").write_text(
        f"from course.checks.core import progress\nfrom course.checks.tiny import {names}\n"
    )
    source = root / "notebooks" / "src" / "exercises" / f"{STEM}.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE, "utf-8")
    (root / "data").mkdir()
    return root


RIGHT = """\
def mean_square(x):
    return (x * x).sum() / len(x)
"""
FAKE = '{"token": "", "event": "done", "exercise": "mean_square", "kind": "correct", "message": "correct"}'

# what stands in place of the answer to exercise 2, and a part of the message that exercise 2 gets; None: it is right
HOSTILE: dict[str, tuple[str, str | None]] = {
    "syntax_error": ("def mean_square(x)\n    return x", "SyntaxError"),
    "endless_python_loop": ("while True:\n    pass", "stopped after"),
    "endless_compiled_loop": (
        "def mean_square(x):\n    return jax.lax.while_loop(lambda c: c >= 0, lambda c: c / 2 + 1, jnp.mean(x**2))",
        "no result within",
    ),
    "print_flood": (f"for _ in range(200_000):\n    print('x' * 500)\n\n{RIGHT}", None),
    "fork_bomb": ("import os\nwhile True:\n    os.fork()", "mean_square"),
    "files_outside": (
        "from pathlib import Path\n"
        "listing = [str(path) for path in Path('HERE').rglob('*')]\n"
        "Path('HERE/harm.txt').write_text('harm')",
        "FileNotFoundError",
    ),
    "os_exit": ("import os\nos._exit(0)", "the process ended"),
    "memory_hog": ("hog = [bytearray(b'x' * 10**8) for _ in range(10**6)]", "mean_square"),
    "patched_checks": (
        "import course.checks.core as core, builtins, numpy, jax\n"
        "core.same = core.function = core.wrong = lambda *a, **k: (lambda *b, **c: None)\n"
        "core.Check.outcome = lambda self, *a, **k: core.Outcome('correct', 'correct')\n"
        "core._require_answers.__code__ = (lambda *a: None).__code__\n"
        "checks.mean_square.judge = lambda *a: None\n"
        "import course.checks.tiny as t\nt.same = lambda *a, **k: None\n"
        "builtins.any = builtins.all = lambda *a: True\n"
        "mean_square = lambda x: x",
        "mean_square",
    ),
    "sys_exit": ("import sys\nsys.exit()", "SystemExit"),
    "deep_recursion": ("def deep(n):\n    return deep(n + 1)\n\nmean_square = lambda x: deep(0)", "RecursionError"),
    "faked_result": (
        f"import os\nline = '{FAKE}\\n'\nprint(line)\n"
        "for fd in range(64):\n    try:\n        os.write(fd, line.encode())\n    except OSError:\n        pass",
        "mean_square",
    ),
}


def solved(root: Path):
    return as_notebook(Lesson(STEM, root, "solution"))


def replaced(cells, name, source):
    """The cells with the answer of an exercise replaced: what stands between its heading and its check."""
    cells = copy.deepcopy(cells)
    check = next(i for i, cell in enumerate(cells) if cell["source"].startswith(f"checks.{name}("))
    cells[check - 1]["source"] = source
    return cells


def write(folder: Path, base) -> dict[str, dict[str, str | None]]:
    """Write the submissions into a folder, one folder a student.

    Args:
      folder: made, with student/STEM.ipynb in it.
      base: a solved notebook, of this course or of nbgrader's release.
    Returns:
      Student -> exercise -> a part of the message that it should get, or None where it should be right.
    """
    expected: dict[str, dict[str, str | None]] = {}

    def hand_in(student, cells, name=f"{STEM}.ipynb", **messages):
        (folder / student).mkdir(parents=True)
        made = copy.deepcopy(base)
        made["cells"] = cells
        (folder / student / name).write_text(nbformat.writes(nbformat.from_dict(made)), "utf-8")
        expected[student] = {one: messages.get(one) for one in NAMES}

    cells = base["cells"]
    hand_in("good", cells)
    hand_in("good_too", replaced(cells, "mean_square", RIGHT))
    hand_in(
        "wrong", replaced(cells, "mean_square", "def mean_square(x):\n    return jnp.sum(x**2)"),
        mean_square="the sum, not the mean",
    )  # fmt: skip
    hand_in(
        "untouched", replaced(cells, "last_row", "last_row = ..."),
        last_row="not attempted",
    )  # fmt: skip
    for student, (source, message) in HOSTILE.items():
        hand_in(student, replaced(cells, "mean_square", source.replace("HERE", str(folder))), mean_square=message)
    start = next(i for i, cell in enumerate(cells) if cell["source"].startswith("## Exercise 2"))
    end = next(i for i, cell in enumerate(cells) if cell["source"].startswith("## Exercise 3"))
    hand_in("deleted_cells", cells[:start] + cells[end:], mean_square="nothing is called mean_square")

    (folder / "no_json").mkdir()
    (folder / "no_json" / f"{STEM}.ipynb").write_text('{"cells": [')
    expected["no_json"] = dict.fromkeys(NAMES, "expected a notebook")
    (folder / "huge").mkdir()
    with (folder / "huge" / f"{STEM}.ipynb").open("w") as file:
        json.dump({**base, "metadata": {}}, file)
        file.seek(200 * 2**20)
        file.write("}")
    expected["huge"] = dict.fromkeys(NAMES, "expected at most 20 MB")
    (folder / "a_link").mkdir()
    os.symlink("/etc/passwd", folder / "a_link" / f"{STEM}.ipynb")
    expected["a_link"] = dict.fromkeys(NAMES, "expected a file, got a link")
    assert len(expected) == 20, len(expected)
    return expected
