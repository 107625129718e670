"""`make release VERSION=1.2.0`: refuse what can't be published, run the checks, write CHANGELOG.md, commit and tag.

What is new stands in CHANGELOG.md under "## Unreleased" before; the release puts version and date over it. Notebooks
name the tag that they fetch, so they are built anew with it. Nothing is pushed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tools.citation import update_citation
from tools.lessons import ROOT, address, project

PLACEHOLDER = "your-organisation"
UNRELEASED = "## Unreleased\n"
CHECKS = (["make", "build"], ["make", "lint"], ["make", "test"], ["make", "test-lessons"], ["make", "run"])


class ReleaseError(Exception):
    """The repository can't be released; the message says why and what to do."""


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def faults(version: str, root: Path) -> list[str]:
    """What stands in the way of a release, each with its remedy; nothing where all is well."""
    found = []
    current = project(root)["version"]
    try:
        if Version(version) < Version(current) or str(Version(version)) != version:
            found.append(f"expected a version like {current} or newer, got {version}")
    except InvalidVersion:
        found.append(f"expected a version like {current}, got {version!r}; say make release VERSION=…")
    if PLACEHOLDER in address(root):
        found.append(
            f"expected the repository's public address, got the placeholder {address(root)}; change [project.urls] "
            "in pyproject.toml, run `make build` and commit"
        )
    if dirty := git(root, "status", "--porcelain").strip():
        found.append(f"expected a clean tree, got changes; commit them first:\n{dirty}")
    if f"v{version}" in git(root, "tag").split():
        found.append(f"expected a new version, got {version}, which is tagged; say a higher one")
    if not unreleased(root):
        found.append("expected in CHANGELOG.md what is new under '## Unreleased', got nothing; write it and commit")
    return found


def unreleased(root: Path) -> str:
    """What CHANGELOG.md says under "Unreleased"."""
    text = (root / "CHANGELOG.md").read_text("utf-8")
    return re.split(r"(?m)^## ", text.partition(UNRELEASED)[2])[0].strip()


def release(version: str, root: Path = ROOT, run: Callable[[list[str]], int] | None = None) -> None:
    """Check, write the version, the section of CHANGELOG.md and CITATION.cff, commit, tag.

    Args:
      version: as in "1.2.0".
      root: the repository.
      run: executes a command and returns its exit status.
    Raises:
      ReleaseError: something stands in the way, or a check failed; then files are as they were before.
    """
    if found := faults(version, root):
        raise ReleaseError("\n".join(found))
    for path, old, new in [
        (root / "pyproject.toml", f'version = "{project(root)["version"]}"', f'version = "{version}"'),
        (root / "CHANGELOG.md", UNRELEASED, f"{UNRELEASED}\n## {version} ({date.today().isoformat()})\n"),
    ]:
        path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    update_citation(root)
    for command in CHECKS:
        if (run or (lambda command: subprocess.run(command, cwd=root).returncode))(command):
            git(root, "checkout", "--", ".")
            raise ReleaseError(f"expected `{' '.join(command)}` to pass, it failed; mend it and start again")
    git(root, "add", "--all")
    git(root, "commit", "--message", f"Release {version}", "--message", "What is new stands in CHANGELOG.md.")
    git(root, "tag", "--annotate", f"v{version}", "--message", f"Release {version}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version")
    version = parser.parse_args().version
    try:
        release(version)
    except ReleaseError as error:
        print(f"not released: {error}")
        return 1
    print(f"released {version}; publish it with `git push --follow-tags`")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
