"""Binder and Codespaces get the course's pins, and the programs that read these folders accept them."""

import json
import os
import re
import shutil
import subprocess

import pytest
from packaging.specifiers import SpecifierSet

from tools.lessons import ROOT, project

pytestmark = pytest.mark.doors
BINDER, DEVCONTAINER = ROOT / ".binder", ROOT / ".devcontainer" / "devcontainer.json"
PYTHON = "3.11"  # the one on which outputs are compared
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"


def stated(text):
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_binder_installs_the_courses_pins_and_no_others():
    lines = stated((BINDER / "requirements.txt").read_text("utf-8"))
    assert lines == [f"--extra-index-url {CPU_BUILDS}", "-r ../requirements.txt"]
    assert (BINDER / "runtime.txt").read_text("utf-8").strip() == f"python-{PYTHON}"
    assert SpecifierSet(project()["requires-python"]).contains(PYTHON)


def test_binder_makes_the_course_importable():
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK), "expected an executable postBuild; chmod +x .binder/postBuild"
    subprocess.run(["sh", "-n", script], check=True)
    assert stated(script.read_text("utf-8"))[-1] == "python -m pip install --quiet --no-deps --editable ."


def accepted_by_repo2docker(folder):
    """The build pack that repo2docker chooses, as its own loop chooses it (Repo2Docker.build)."""
    repo2docker = pytest.importorskip("repo2docker.app", reason="make test-doors installs it")
    app = repo2docker.Repo2Docker()
    before = os.getcwd()
    os.chdir(folder)
    try:
        picked = next((pack for each in app.buildpacks if (pack := each(app.base_image)).detect()), None)
        return picked and (type(picked).__name__, picked.python_version, picked.get_assemble_scripts(), *hooks(picked))
    finally:
        os.chdir(before)


def hooks(pack):
    return pack.get_post_build_scripts(), pack.get_start_script()


@pytest.mark.filterwarnings("default")  # repo2docker's own
def test_repo2docker_accepts_the_folder(tmp_path):
    name, python, (install,), after, start = accepted_by_repo2docker(ROOT)
    assert (name, python, after, start) == ("PythonBuildPack", PYTHON, [".binder/postBuild"], None)
    assert install[1].endswith('pip install --no-cache-dir -r ".binder/requirements.txt"')
    shutil.copytree(BINDER, tmp_path / ".binder")
    (tmp_path / ".binder" / "environment.yml").write_text("dependencies: [python=3.12]\n")
    assert accepted_by_repo2docker(tmp_path)[0] == "CondaBuildPack"  # another file would take its place


def make_targets():
    return re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"))


def is_command(value):
    return isinstance(value, str) and re.fullmatch("make [a-z-]+", value) and value.split()[1] in make_targets()


def is_size(value):
    return isinstance(value, str) and re.fullmatch(r"\d+(tb|gb|mb|kb)?", value) is not None


def vscode_is_right(value):
    match value:
        case {"vscode": {"extensions": list(names), "settings": dict(settings)}}:
            interpreter = settings.get("python.defaultInterpreterPath")
            return (
                all(re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", name) for name in names)
                and {"ms-python.python", "ms-toolsai.jupyter"} <= set(names)
                and interpreter == "${containerWorkspaceFolder}/.venv/bin/python"
            )
    return False


# containers.dev, devContainer.base.schema.json: of its fields, those that this file uses
FIELDS = {
    "name": lambda value: value == "From PyTorch to JAX",
    "image": lambda value: value == f"mcr.microsoft.com/devcontainers/python:{PYTHON}",
    "hostRequirements": lambda value: value["cpus"] >= 1 and is_size(value["memory"]) and is_size(value["storage"]),
    "containerEnv": lambda value: value == {"PIP_EXTRA_INDEX_URL": CPU_BUILDS},
    "postCreateCommand": is_command,
    "customizations": vscode_is_right,
}


def wrong_fields(container):
    return [name for name in {*FIELDS, *container} if not (name in FIELDS and FIELDS[name](container.get(name)))]


def test_the_dev_container_is_of_the_same_python_and_sets_up_with_make():
    assert wrong_fields(json.loads(DEVCONTAINER.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "mcr.microsoft.com/devcontainers/python:3.10"),
        ("postCreateCommand", "make everything"),
        ("postCreatCommand", "make setup"),
        ("hostRequirements", {"cpus": 2, "memory": "8 GB", "storage": "32gb"}),
        ("customizations", {"vscode": {"extensions": ["python"], "settings": {}}}),
    ],
)
def test_a_wrong_field_is_found(field, value):
    container = json.loads(DEVCONTAINER.read_text("utf-8")) | {field: value}
    assert wrong_fields(container) == [field]
