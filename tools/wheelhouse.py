"""`make wheelhouse`: every wheel that learners need, for Linux and Python 3.11, so that a room needs no network.

Writes build/wheelhouse/: the wheels (CPU builds), manifest.json with each one's hash and licence, and for other systems
`resolved/`, a full list a system and Python, with the commands that fetch it. Run it where there is a network; hand it
out beside build/classroom/learners.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

from packaging.utils import parse_wheel_filename

from tools.classroom import run_requirements
from tools.lessons import ROOT

OUT = ROOT / "build" / "wheelhouse"
GPU = ("nvidia-", "triton", "jax-cuda", "cuda-")
# uv's name of a system -> the tags that pip takes
SYSTEMS = {
    "windows": ["win_amd64"],
    "aarch64-apple-darwin": [
        *(f"macosx_{number}_0_{kind}" for number in (14, 13, 12, 11) for kind in ("arm64", "universal2")),
        *("macosx_10_13_universal2", "macosx_10_9_universal2"),
    ],
    "aarch64-unknown-linux-gnu": [*(f"manylinux_2_{n}_aarch64" for n in (28, 27, 26, 24, 17)), "manylinux2014_aarch64"],
}
PYTHONS = ("3.11", "3.12", "3.13")

README = """\
# Wheels for Linux (x86_64) and Python 3.11, and lists for other systems

With this folder beside the learners' one:

```
python3.11 -m venv .venv
.venv/bin/python -m pip install --no-index --find-links wheelhouse -r requirements.txt
```

`manifest.json` has each file's SHA-256 and licence. `resolved/` lists all packages for other systems and Pythons; each
list is fetched, on any machine with a network, into a folder that then serves as this one does:

{commands}
"""


class WheelhouseError(Exception):
    """No wheelhouse can be made; the message says expected, got, remedy."""


def download(requirements: Path, out: Path, extra: list[str]) -> None:
    """Download all wheels that requirements need, for this Python and system.

    Raises:
      WheelhouseError: not Linux and Python 3.11, a package is not to be had, or builds for GPUs came along.
    """
    here = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if not here.startswith("Linux x86_64, Python 3.11."):
        raise WheelhouseError(f"expected Linux x86_64, Python 3.11, got {here}; run it there, or use resolved/ below")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(out)]
    if subprocess.run([*command, "-r", str(requirements), *extra]).returncode:
        raise WheelhouseError("expected every package of requirements.txt, got pip's error above")
    gpu = sorted(path.name for path in out.glob("*.whl") if path.name.replace("_", "-").startswith(GPU))
    if gpu:
        raise WheelhouseError(
            f"expected CPU builds, got {', '.join(gpu[:3])}, …; name the index of PyTorch's CPU builds (pytorch.org "
            'says which): make wheelhouse PIP_ARGS="--extra-index-url …"'
        )


def licence(metadata: str) -> str:
    """A package's licence, from its metadata: the expression, the classifiers, or the first line of the old field."""
    fields = Parser().parsestr(metadata, headersonly=True)
    classified = [
        line.rpartition(" :: ")[2] for line in fields.get_all("Classifier", []) if line.startswith("License ::")
    ]
    old = (fields["License"] or "").strip().partition("\n")[0]
    return fields["License-Expression"] or ", ".join(classified) or old or "not said"


def manifest(out: Path) -> dict:
    """File, version, hash and licence of every wheel in a folder."""
    wheels = []
    for path in sorted(out.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as wheel:
            inside = next(
                entry for entry in wheel.namelist() if entry.count("/") == 1 and entry.endswith(".dist-info/METADATA")
            )
            said = licence(wheel.read(inside).decode("utf-8"))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        wheels.append({"file": path.name, "name": name, "version": str(version), "sha256": digest, "licence": said})
    return {"system": "Linux x86_64", "python": "3.11", "wheels": wheels}


def resolve(requirements: Path, system: str, python: str, target: Path) -> str:
    """Write the list of all packages for a system and a Python with uv; returns why that can't be, or "".

    Raises nothing: where there is no solution, the file says so.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", str(requirements), "--python-platform", system, "--quiet"]
    command += [
        "--python-version",
        python,
        "--only-binary",
        ":all:",
        "--no-header",
        "--no-annotate",
        "--no-python-downloads",
    ]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_NO_PROGRESS": "1"}  # torch has none for 13
    done = subprocess.run([*command, "--output-file", str(target)], capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("warning")]
    reason = " ".join(" ".join(lines).split())
    target.write_text(f"# No list for {system}, Python {python}. uv says: {reason}\n", "utf-8")
    return reason


def fetch_command(system: str, python: str) -> str:
    tags = " ".join(f"--platform {tag}" for tag in SYSTEMS[system])
    return (
        f"python -m pip download --no-deps --only-binary=:all: --implementation cp --python-version {python} {tags} "
        f"-r resolved/{system}-{python}.txt --dest {system}-{python}"
    )


def lists(requirements: Path, out: Path) -> None:
    """Write resolved/ and the README with its commands."""
    (out / "resolved").mkdir()
    commands = []
    for system in SYSTEMS:
        for python in PYTHONS:
            reason = resolve(requirements, system, python, out / "resolved" / f"{system}-{python}.txt")
            if reason:
                commands.append(f"{system}, Python {python}: no list. {reason}")
            else:
                commands.append(f"{system}, Python {python}:\n\n```\n{fetch_command(system, python)}\n```")
    (out / "README.md").write_text(README.format(commands="\n\n".join(commands)), "utf-8")


def wheelhouse(out: Path = OUT, root: Path = ROOT, extra: list[str] | None = None, resolved: bool = True) -> None:
    """Make the folder anew.

    Args:
      out: the folder.
      root: the repository.
      extra: arguments for pip.
      resolved: whether to make the lists for other systems too.
    Raises:
      WheelhouseError: see `download`.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    requirements = out / "requirements.txt"
    requirements.write_text(run_requirements(root), "utf-8")
    if resolved:
        lists(requirements, out)
    download(requirements, out, extra or [])
    (out / "manifest.json").write_text(json.dumps(manifest(out), indent=1) + "\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("pip_args", nargs="*", help="after --, passed to pip: --extra-index-url of CPU builds")
    options = parser.parse_args()
    try:
        wheelhouse(options.out, extra=options.pip_args)
    except WheelhouseError as error:
        print(f"no wheelhouse: {error}")
        return 1
    wheels = list(options.out.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 2**20
    print(f"{options.out}: {len(wheels)} wheels, {size:.0f} MB; manifest.json, resolved/, README.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
