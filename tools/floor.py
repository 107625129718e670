"""Print requirements.txt with the lines of requirements/floor.txt in place of its own (`make test-floor`)."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def pins(text: str) -> dict[str, list[Requirement]]:
    """Package name -> its requirements, comments dropped."""
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if stated := line.partition("#")[0].strip():
            requirement = Requirement(stated)
            found.setdefault(requirement.name, []).append(requirement)
    return found


if __name__ == "__main__":
    merged = pins((ROOT / "requirements.txt").read_text("utf-8"))
    merged |= pins((ROOT / "requirements" / "floor.txt").read_text("utf-8"))
    print(*(requirement for requirements in merged.values() for requirement in requirements), sep="\n")
