"""Print requirements.txt with the lines of constraints-hosted.txt in place of its own (`make test-floor`)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pins(text: str) -> dict[str, list[str]]:
    """Package name -> its requirement lines, comments dropped."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement:
            found.setdefault(re.match(r"[\w.-]+", requirement)[0], []).append(requirement)
    return found


if __name__ == "__main__":
    merged = pins((ROOT / "requirements.txt").read_text("utf-8"))
    merged |= pins((ROOT / "constraints-hosted.txt").read_text("utf-8"))
    print(*(line for lines in merged.values() for line in lines), sep="\n")
