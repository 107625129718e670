"""The course's own text, split into documents to learn from and documents held out. Needs nothing but Python.

It is what lessons, exercises and pages say, and the docstrings of the package, read from the repository each time, in
the order of paths, so that all processes have the same.
"""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def documents(root: Path = ROOT) -> dict[str, str]:
    """The course's text by path: prose of the lessons' sources, pages, docstrings.

    Raises:
      FileNotFoundError: the folder is none of the repository.
    """
    texts = {path: (root / path).read_text("utf-8") for path in ("README.md", "CONTRIBUTING.md", "TEACHING.md")}
    for file in sorted((root / "notebooks" / "src").rglob("*.py")):
        cells = re.split(r"^# %%", file.read_text("utf-8"), flags=re.MULTILINE)
        prose = (cell.partition("\n")[2] for cell in cells if cell.startswith(" [markdown]"))
        texts[file.relative_to(root).as_posix()] = re.sub("^# ?", "", "\n".join(prose), flags=re.MULTILINE)
    for file in sorted((root / "course").rglob("*.py")):
        nodes = ast.walk(ast.parse(file.read_text("utf-8")))
        documented = ast.Module, ast.ClassDef, ast.FunctionDef
        strings = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
        texts[file.relative_to(root).as_posix()] = "\n\n".join(filter(None, strings))
    return {path: text for path, text in texts.items() if text.strip()}


def split(texts: dict[str, str]) -> tuple[list[str], list[str]]:
    """Documents to train on, and every tenth or so, by its name's hash, held out. A lesson and its exercises, which
    speak of the same, have one name."""
    parts: tuple[list[str], list[str]] = [], []
    for path, text in texts.items():
        parts[hashlib.sha256(Path(path).stem.encode()).digest()[0] % 10 == 0].append(text)
    return parts
