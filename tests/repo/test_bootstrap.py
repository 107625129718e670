"""The bootstrap cell, run in a process that looks like the host: no course installed, an older flax, and the
repository's address is a local clone's."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.lessons import BOOTSTRAP, ROOT, Lesson, as_notebook, tag

SITE = next(path for path in sys.path if path.endswith("site-packages"))
AFTER = (
    "\nimport flax, course.data; from importlib.metadata import version; print(version('flax'), course.data.__file__)"
)


def git(*args, cwd):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *args], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def remote(tmp_path):
    """A repository with today's package and data, at the tag."""
    folder = tmp_path / "remote"
    for part in ("course", "data"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "the course", cwd=folder)
    git("tag", tag(), cwd=folder)
    return folder.as_uri()


@pytest.fixture
def host(tmp_path):
    """The environment of a hosted notebook. Its packages are this environment's, but `course` is not among
    them (-S skips the link that makes it importable) and an old flax stands before the real one."""
    packages, wheels, temporary = tmp_path / "packages", tmp_path / "wheels", tmp_path / "tmp"
    for folder in (packages, wheels, temporary):
        folder.mkdir()
    old = packages / "flax-0.11.2.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: flax\nVersion: 0.11.2\n")
    make_wheel(wheels)
    return {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(temporary), "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{packages}{os.pathsep}{SITE}",
        # the registry of this host is a folder with one wheel, and packages go where the old flax is
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_TARGET": str(packages), "PIP_UPGRADE": "1",
        "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
    }  # fmt: skip


def make_wheel(folder: Path) -> None:
    """A stand-in for the flax 0.12.0 wheel: a package of that name and version, with a dependency."""
    info = "flax-0.12.0.dist-info"
    with zipfile.ZipFile(folder / "flax-0.12.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("flax/__init__.py", "__version__ = '0.12.0'\n")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: flax\nVersion: 0.12.0\nRequires-Dist: jax>=99\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def run(code, environment, cwd):
    return subprocess.run([sys.executable, "-S", "-c", code], env=environment, cwd=cwd, capture_output=True, text=True)


def test_locally_the_cell_is_silent_and_changes_nothing(tmp_path, remote, host):
    del host["KAGGLE_KERNEL_RUN_TYPE"]
    done = run(BOOTSTRAP.format(url=remote, tag=tag()), host, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(Path(host["TMPDIR"]).iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG"])
def test_on_a_host_it_brings_the_course_and_flax_and_nothing_else(tmp_path, remote, host, mark):
    del host["KAGGLE_KERNEL_RUN_TYPE"]
    host[mark] = "x"
    code = BOOTSTRAP.format(url=remote, tag=tag())
    for _ in range(2):  # a learner runs the cell again
        done = run(code + AFTER, host, tmp_path)
        assert done.returncode == 0, done.stderr
        flax, where = done.stdout.split()
        assert flax == "0.12.0" and where.startswith(host["TMPDIR"])
        installed = {path.name for path in Path(host["PYTHONPATH"].split(os.pathsep)[0]).iterdir()}
        assert installed <= {"flax", "flax-0.12.0.dist-info", "flax-0.11.2.dist-info"}


def test_a_flax_that_is_new_enough_is_left_alone(tmp_path, remote, host):
    packages = Path(host["PYTHONPATH"].split(os.pathsep)[0])
    shutil.rmtree(packages / "flax-0.11.2.dist-info")
    done = run(BOOTSTRAP.format(url=remote, tag=tag()), host, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(packages.iterdir())


def test_without_internet_it_names_the_switch(tmp_path, host):
    done = run(BOOTSTRAP.format(url=(tmp_path / "nowhere").as_uri(), tag=tag()), host, tmp_path)
    assert done.returncode != 0
    assert "turn Internet on" in done.stderr


def test_the_cell_in_a_lesson_is_the_tested_one_with_the_public_address():
    notebook = as_notebook(Lesson("00_start_here"), "https://github.com/someone/somewhere")
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and "generated" in c.metadata.get("tags", [])]
    assert cell.source == BOOTSTRAP.format(url="https://github.com/someone/somewhere", tag=tag()).rstrip()
    assert "jaxlib" not in cell.source and "torch" not in cell.source.replace("pytorch", "").replace("torch-to-jax", "")
