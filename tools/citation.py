"""CITATION.cff's generated lines: the public address, the version, and the date of its release."""

from __future__ import annotations

import re
from pathlib import Path

from tools.lessons import ROOT, address, project, renew


def render(text: str, root: Path = ROOT) -> str:
    """The same file with its generated lines written anew; a version without a section in CHANGELOG.md has no date."""
    version = project(root)["version"]
    released = re.search(
        rf"(?m)^## {re.escape(version)} \((\d{{4}}-\d\d-\d\d)\)$", (root / "CHANGELOG.md").read_text("utf-8")
    )
    lines = [f"repository-code: {address(root)}", f"version: {version}"]
    lines += [f"date-released: {released[1]}"] if released else []
    kept = [line for line in text.splitlines() if not re.match(r"(repository-code|version|date-released): ", line)]
    return "\n".join([*kept, *lines]) + "\n"


def update_citation(root: Path = ROOT) -> None:
    renew(root / "CITATION.cff", render, root)
