"""Read the published benchmark results, which ship with the course. Needs pandas.

A result is a JSON file in benchmarks/results, written by `make bench` and put there by `make publish-results`; a wheel
carries them beside this module. Lessons show them where a run takes longer than a lesson may. Lesson: 10_jit_speed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[1] / "benchmarks" / "results", _HERE.with_name("published_results"))  # a checkout, a wheel
FOLDER = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
"""The published results."""


def load(name: str, platform: str = "cpu", folder: Path = FOLDER) -> dict[str, Any]:
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


def table(result: Mapping[str, Any], title: str) -> pd.DataFrame:
    """One of a result's tables, indexed by the contender's name."""
    return pd.DataFrame(result["tables"][title]).set_index("name")


def measured_on(result: Mapping[str, Any]) -> str:
    """The conditions of a result in one line."""
    c = result["conditions"]
    return f"{c['date']}, {c['cpu']}, cores used: {c['cores']}, {c['software']}"
