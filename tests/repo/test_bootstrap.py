"""The first code cell of a lesson, run in a process that looks like a host: no course installed, an older flax, and the
repository's address is a local clone's."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.lessons import BOOTSTRAP, FLAX, ROOT, UPGRADE, Lesson, as_notebook, lessons, new_in_flax, tag

SITE = next(path for path in sys.path if path.endswith("site-packages"))
AFTER = "\nimport course; from importlib.metadata import version; print(version('flax'), course.__file__)"


def git(*args, cwd):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *args], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def remote(tmp_path):
    """A repository with today's package and data, at the tag."""
    folder = tmp_path / "remote"
    copy_course(folder)
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "the course", cwd=folder)
    git("tag", tag(), cwd=folder)
    return folder


def copy_course(folder):
    for part in ("course", "data"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


class Host:
    """A hosted notebook. Its packages are this environment's, but `course` is not among them (-S skips the link that
    makes it importable) and an old flax stands before the real one. Its registry is a folder of wheels, empty at first:
    no internet access."""

    def __init__(self, folder):
        self.packages, self.wheels, self.temporary, self.attached = (
            folder / name for name in ("packages", "wheels", "tmp", "attached")
        )
        self.notebooks = folder / "work" / "notebooks"
        for place in (self.packages, self.wheels, self.temporary, self.attached, self.notebooks):
            place.mkdir(parents=True)
        old = self.packages / "flax-0.11.2.dist-info"
        old.mkdir()
        (old / "METADATA").write_text("Metadata-Version: 2.1\nName: flax\nVersion: 0.11.2\n")
        self.url = (folder / "nowhere").as_uri()
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(self.temporary), "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": f"{self.packages}{os.pathsep}{SITE}",
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_TARGET": str(self.packages),
            "PIP_UPGRADE": "1", "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
        }  # fmt: skip

    def run(self, upgrade=False, after=""):
        """Run the cell, with or without the part that brings flax up to date."""
        code = BOOTSTRAP.format(url=self.url, tag=tag()) + UPGRADE.format(flax=FLAX, name="List") * upgrade
        code = code.replace("/kaggle/input", str(self.attached)) + after
        command = [sys.executable, "-S", "-c", code]
        return subprocess.run(command, env=self.environment, cwd=self.notebooks, capture_output=True, text=True)

    def finds(self, upgrade=False):
        """(version of flax, file of course)"""
        done = self.run(upgrade, after=AFTER)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def make_wheel(folder: Path) -> None:
    """A stand-in for flax's wheel: a package of that name and version, with a dependency."""
    info = f"flax-{FLAX}.dist-info"
    with zipfile.ZipFile(folder / f"flax-{FLAX}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("flax/__init__.py", f"__version__ = '{FLAX}'\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: flax\nVersion: {FLAX}\nRequires-Dist: jax>=99\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_an_installed_course_is_used_and_nothing_is_changed(host):
    host.environment["PYTHONPATH"] += os.pathsep + str(ROOT)
    done = host.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(host.temporary.iterdir())


def test_a_course_beside_the_notebook_comes_before_an_attached_one(host):
    copy_course(host.notebooks.parent)
    copy_course(host.attached / "somebody" / "torch-to-jax")
    assert host.finds() == ["0.11.2", str(host.notebooks.parent / "course" / "__init__.py")]


def test_without_internet_an_attached_copy_is_used(host):
    copy_course(host.attached / "datasets" / "somebody" / "torch-to-jax")
    (host.notebooks / "course").mkdir()  # a folder of that name is no course
    _, where = host.finds()
    assert where.startswith(str(host.attached)) and not list(host.temporary.iterdir())


@pytest.mark.parametrize("mark", ["KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG"])
def test_on_a_host_it_clones_the_tag_once_and_leaves_flax_alone(host, remote, mark):
    del host.environment["KAGGLE_KERNEL_RUN_TYPE"]
    host.environment[mark], host.url = "x", remote.as_uri()
    make_wheel(host.wheels)
    for _ in range(2):  # a learner runs the cell again
        flax, where = host.finds()
        assert flax == "0.11.2" and where.startswith(str(host.temporary))
    shutil.rmtree(remote)
    host.finds()


def test_a_lesson_that_needs_a_newer_flax_brings_flax_and_nothing_else(host):
    copy_course(host.notebooks.parent)
    make_wheel(host.wheels)
    for _ in range(2):
        assert host.finds(upgrade=True)[0] == FLAX
        installed = {path.name for path in host.packages.iterdir()}
        assert installed <= {"flax", f"flax-{FLAX}.dist-info", "flax-0.11.2.dist-info"}


def test_without_internet_an_attached_wheel_of_flax_is_used(host):
    copy_course(host.attached / "course")
    (host.attached / "wheels").mkdir()
    make_wheel(host.attached / "wheels")
    assert host.finds(upgrade=True)[0] == FLAX


def test_a_flax_that_is_new_enough_is_left_alone(host):
    copy_course(host.notebooks.parent)
    shutil.rmtree(host.packages / "flax-0.11.2.dist-info")
    assert host.run(upgrade=True).returncode == 0
    assert not list(host.packages.iterdir())


def last_line(done):
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("mark", ["KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG"])
def test_without_internet_it_names_the_switch_and_the_data_set(host, mark):
    del host.environment["KAGGLE_KERNEL_RUN_TYPE"]
    host.environment[mark] = "x"
    message = last_line(host.run())
    assert message.startswith("RuntimeError: expected internet access or an attached copy")
    assert "turn Internet on" in message and "data set" in message


def test_a_missing_tag_is_named(host, remote):
    git("tag", "-d", tag(), cwd=remote)
    host.url = remote.as_uri()
    assert last_line(host.run()).startswith(f"RuntimeError: expected the tag {tag()} in {host.url}")


def test_on_a_host_of_another_kind_it_says_what_to_do(host, remote):
    del host.environment["KAGGLE_KERNEL_RUN_TYPE"]
    host.url = remote.as_uri()  # it would answer, but nobody asked to fetch anything
    message = last_line(host.run())
    assert message.startswith("ImportError: expected the course installed or beside") and "git clone" in message
    assert not list(host.temporary.iterdir())


def test_a_flax_that_can_not_be_brought_is_named(host):
    copy_course(host.notebooks.parent)
    message = last_line(host.run(upgrade=True))
    assert message.startswith(f"RuntimeError: expected flax {FLAX} or newer, got 0.11.2 and no internet access")


def test_the_cell_in_a_lesson_is_the_tested_one_with_the_public_address():
    url = "https://github.com/someone/somewhere"
    for stem, needs_new_flax in [("01b_titanic_nnx", False), ("07_porting_checkpoints", True)]:
        notebook = as_notebook(Lesson(stem), url)
        (cell,) = [c for c in notebook.cells if c.cell_type == "code" and "generated" in c.metadata.get("tags", [])]
        assert cell.source.startswith(BOOTSTRAP.format(url=url, tag=tag()).rstrip())
        assert ("pip" in cell.source) == needs_new_flax
        assert "torch" not in cell.source.replace("pytorch", "").replace("torch-to-jax", "")


@pytest.mark.slow
def test_few_lessons_need_a_newer_flax_than_hosts_have():
    assert sum(bool(new_in_flax(lesson)) for lesson in lessons()) <= 4
