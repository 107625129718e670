"""What learners get installs and runs where there is no network."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import nbformat
import pytest

from tools import wheelhouse
from tools.classroom import learners, run_requirements
from tools.lessons import ROOT

pytestmark = pytest.mark.classroom
STEM = "09_transformations"


@pytest.fixture(scope="module")
def wheels():
    """build/wheelhouse, made anew unless it holds what today's requirements ask for."""
    out = wheelhouse.OUT
    made = (out / "manifest.json").is_file()
    if not made or (out / "requirements.txt").read_text("utf-8") != run_requirements():
        wheelhouse.wheelhouse(out, resolved=False)
    return out


def offline(folder, command, **variables):
    """Run a shell command in a folder, in a network namespace of its own."""
    sandbox = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--chdir", str(folder)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    environment = {**clean, "JAX_PLATFORMS": "cpu", **variables}
    done = subprocess.run([*sandbox, "sh", "-ec", command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_release_installs_and_runs_without_a_network(wheels, tmp_path):
    room = tmp_path / "learners"
    learners(room)
    assert not (room / "notebooks" / "solutions").exists() and (room / "requirements.txt").is_file()
    (room / "wheelhouse").symlink_to(wheels)
    python = sys.executable
    assert offline(room, f"{python} -c 'import socket; print(*[name for _, name in socket.if_nameindex()])'") == "lo\n"
    install = (
        ".venv/bin/python -m pip install --quiet --no-compile --no-index --find-links wheelhouse -r requirements.txt"
    )
    offline(room, f"{python} -m venv .venv; {install}", PIP_CONFIG_FILE=os.devnull)
    offline(room / "notebooks" / "exercises", f"../../.venv/bin/jupyter execute --inplace {STEM}.ipynb")
    ran = nbformat.read(room / "notebooks" / "exercises" / f"{STEM}.ipynb", as_version=4)
    said = "".join(output.text for cell in ran.cells for output in cell.get("outputs", []) if output.name == "stdout")
    assert said.count("not attempted: ") == 3 and said.count("\n") == 3
    asked = "from course import checks; checks.td_gradient.solution()"
    assert "comes without solutions" in offline(room, f".venv/bin/python -c '{asked}'")


def test_the_manifest_tells_hash_and_licence_of_every_wheel(wheels):
    told = json.loads((wheels / "manifest.json").read_text("utf-8"))["wheels"]
    assert [one["file"] for one in told] == sorted(path.name for path in wheels.glob("*.whl"))
    smallest = min(told, key=lambda one: (wheels / one["file"]).stat().st_size)
    assert hashlib.sha256((wheels / smallest["file"]).read_bytes()).hexdigest() == smallest["sha256"]
    assert [one["name"] for one in told if one["licence"] == "not said"] == []
    assert not any(one["name"].startswith("nvidia") for one in told)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT\nLicense: old", "MIT"),
        ("License: long\nClassifier: License :: OSI Approved :: BSD License", "BSD License"),
        ("License: MIT License\n        and its text", "MIT License"),
        ("Name: x", "not said"),
    ],
)
def test_a_licence_is_found_where_packages_put_it(metadata, expected):
    assert wheelhouse.licence(metadata) == expected


def test_builds_for_gpus_are_refused(tmp_path, monkeypatch):
    def pip(command, **_):
        with zipfile.ZipFile(tmp_path / "nvidia_cublas-13.0-py3-none-any.whl", "w"):
            return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(wheelhouse.subprocess, "run", pip)
    monkeypatch.setattr(wheelhouse.platform, "python_version", lambda: "3.11.9")
    with pytest.raises(wheelhouse.WheelhouseError, match="expected CPU builds, got nvidia_cublas"):
        wheelhouse.download(ROOT / "requirements.txt", tmp_path, [])
    monkeypatch.setattr(wheelhouse.platform, "python_version", lambda: "3.12.1")
    with pytest.raises(wheelhouse.WheelhouseError, match=r"expected Linux x86_64, Python 3\.11, got"):
        wheelhouse.download(ROOT / "requirements.txt", tmp_path, [])


def test_a_system_without_a_solution_is_named(tmp_path, monkeypatch):
    said = "error: No solution found\n  cause: torch has no wheel\n"
    monkeypatch.setattr(
        wheelhouse.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said)
    )
    wheelhouse.lists(ROOT / "requirements.txt", tmp_path)
    page = (tmp_path / "README.md").read_text("utf-8")
    assert "windows, Python 3.12: no list. error: No solution found cause: torch has no wheel" in page
    assert "torch has no wheel" in (tmp_path / "resolved" / "windows-3.12.txt").read_text("utf-8")
