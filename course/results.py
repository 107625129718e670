"""Read the committed benchmark results. Needs pandas, and a checkout of the repository.

A result is a JSON file in benchmarks/results, written by `make bench` and put there by `make publish-results`.
Lessons show them where a run takes longer than a lesson may.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def load(name: str, platform: str = "cpu", folder: Path = FOLDER) -> dict:
    """One result file's content: conditions, tables and ratios.

    Args:
      name: the benchmark's, for instance "titanic_speed".
      platform: "cpu", "gpu" or "tpu".
      folder: where result files are.
    Raises:
      FileNotFoundError: there is no such result.
    """
    path = Path(folder) / f"{name}-{platform}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in Path(folder).glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"expected the result {path.stem}, got none in {folder} (there are: {known}); run `make bench` and "
            "`make publish-results` in a checkout of the repository"
        )
    return json.loads(path.read_text("utf-8"))


def table(result: dict, title: str) -> pd.DataFrame:
    """One of a result's tables, indexed by the contender's name."""
    return pd.DataFrame(result["tables"][title]).set_index("name")


def where(result: dict) -> str:
    """The conditions of a result in one line."""
    c = result["conditions"]
    return f"{c['date']}, {c['cpu']}, cores used: {c['cores']}, {c['software']}"
