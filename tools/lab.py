"""`make lab`: copy the exercises into work/, where answers are safe from git and from builds, and open JupyterLab.

work/ is ignored by git. A copy that holds answers is never written to: where the course has a newer version, that lies
beside it as NAME.new.ipynb. A copy whose code is as it was copied is replaced.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.lessons import ROOT

COPIED = ".copied.json"  # in work/: file -> hash of the cells as copied


def copy_exercises(root: Path = ROOT) -> list[str]:
    """Bring work/ up to date without touching an answer.

    Args:
      root: the repository.
    Returns:
      What was done and what there is to know, a line each.
    """
    work = root / "work"
    work.mkdir(exist_ok=True)
    record = work / COPIED
    try:
        copied = dict(json.loads(record.read_text("utf-8")))
    except (OSError, ValueError):
        copied = {}
    said = []
    for source in sorted((root / "notebooks" / "exercises").glob("*.ipynb")):
        notebook = for_work(nbformat.read(source, as_version=4))
        own, beside = work / source.name, work / f"{source.stem}.new.ipynb"
        if not own.exists():
            said.append(f"new        work/{own.name}")
            target = own
        elif build_of(own) == build_of(source):
            continue
        elif (now := cells_of(own)) and now == copied.get(own.name):
            said.append(f"renewed    work/{own.name}: it held no answers")
            target = own
        elif not beside.exists() or cells_of(beside) == copied.get(beside.name):
            said.append(f"has answers, and a newer version   work/{own.name}: the newer one is work/{beside.name}")
            target = beside
        else:
            said.append(f"has answers, and a newer version   work/{own.name}: and so has work/{beside.name}; keep one")
            continue
        if target == beside and build_of(beside) == build_of(source):
            continue
        nbformat.write(notebook, target)
        copied[target.name] = cells_of(target)
    record.write_text(json.dumps(copied, indent=1, sort_keys=True) + "\n", "utf-8")
    return said


def for_work(notebook: NotebookNode) -> NotebookNode:
    """The notebook with links that hold in work/."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../", "](../notebooks/")
    return notebook


def build_of(path: Path) -> str | None:
    """The build that a notebook carries in its metadata; None where it cannot be read."""
    try:
        return json.loads(path.read_text("utf-8"))["metadata"]["course"]["build_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cells_of(path: Path) -> str | None:
    """A hash of a notebook's cells without outputs: saving and running leave it as it is; None where it is none."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        sources = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-lab", action="store_true", help="copy, and open nothing")
    options = parser.parse_args()
    print(*(copy_exercises() or ["work/ is up to date"]), sep="\n", flush=True)
    if options.no_lab:
        return 0
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={ROOT}",
        "--LabApp.default_url=/lab/tree/work",
    ]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    raise SystemExit(main())
