"""Solutions, looked up where they live: in notebooks/solutions, never in the package. Needs nothing but Python.

Lesson: 00_start_here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "notebooks" / "solutions"


def find(name: str, lesson: str, folder: Path = FOLDER) -> str | None:
    """The code of the solution's cells: those tagged `solution` above the cell that calls the check.

    Args:
      name: the check's.
      lesson: stem of the notebook.
      folder: where the solved notebooks are.
    Returns:
      The code; None where there is no such notebook or cell.
    """
    path = folder / f"{lesson}.ipynb"
    if not path.is_file():
        return None
    kept: list[str] = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        code = "".join(cell["source"])
        if "solution" in cell["metadata"].get("tags", []):
            kept.append(code)
        elif cell["cell_type"] == "code" and re.search(rf"\bchecks\.{name}\(", code):
            return "\n\n".join(kept) or None
        elif cell["cell_type"] == "markdown" and code.startswith("## "):
            kept = []
    return None
