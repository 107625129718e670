"""Kernels as Colab and Kaggle start them: in the host's folder, with the host's mark, and without the course.

Each kernel runs under bubblewrap and has no network. What a host with internet fetches comes from this machine: git
takes a local repository for the course's address, pip a folder of wheels for the index.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode

from course import data
from tools import environment
from tools.lessons import ROOT, Execution, address, execute, tag

MARKS = {"Colab": "COLAB_RELEASE_TAG", "Kaggle": "KAGGLE_KERNEL_RUN_TYPE"}
FOLDERS = {"Colab": "/content", "Kaggle": "/kaggle/working"}
DATASET, COMPETITION = "datasets/someone/torch-to-jax-course", "competitions/titanic"  # where Kaggle mounts such things
KINDS = {DATASET: "course attached", COMPETITION: "competition attached"}
REPOSITORY, WHEELS, PACKAGES = "/host/course.git", "/host/wheels", "/host/packages"
ROWS = {"train.csv": 891, "test.csv": 418}  # of the competition


class HostError(Exception):
    """No host can be made here; the message says expected, got, remedy."""


@dataclass(frozen=True)
class Host:
    """How one host is set up. Paths are this machine's.

    Attributes:
      name: "Colab" or "Kaggle".
      repository: with internet, what answers at the course's address (`repository`).
      wheels: with internet, what pip finds.
      inputs: folders that are mounted below /kaggle/input, by their names there.
      packages: packages that stand before the environment's.
    """

    name: str
    repository: Path | None = None
    wheels: Path | None = None
    inputs: dict[str, Path] = field(default_factory=dict)
    packages: Path | None = None

    def __str__(self) -> str:
        internet = "internet" if self.repository else "no internet"
        return ", ".join([self.name, internet, *(KINDS[name] for name in self.inputs)])

    def command(self, scratch: Path) -> list[str]:
        """The command that runs another one on this host; what it writes to its folder lies in scratch/work."""
        for name in ("work", "link", "brought"):
            (scratch / name).mkdir(exist_ok=True)
        (scratch / "empty").touch()
        command = ["bwrap", "--die-with-parent", "--unshare-net", "--clearenv"]
        for place in sorted(Path("/").iterdir()):  # not "/" as a whole: the host's folders must be made in it
            if place.is_symlink():
                command += ["--symlink", os.readlink(place), str(place)]
            elif place.is_dir() and place.name not in ("proc", "dev", "tmp", "kaggle", "content", "host"):
                command += ["--ro-bind", str(place), str(place)]
        command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind", sys.prefix, sys.prefix]
        for link in _links_to_the_course():
            command += ["--ro-bind", str(scratch / "empty"), str(link)]
        command += ["--bind", str(scratch / "link"), str(scratch / "link")]
        command += ["--bind", str(scratch / "work"), FOLDERS[self.name]]
        command += ["--bind", str(scratch / "brought"), PACKAGES]
        for place, source in [(REPOSITORY, self.repository), (WHEELS, self.wheels)]:
            command += ["--ro-bind", str(source), place] if source else []
        for name, source in self.inputs.items():
            command += ["--ro-bind", str(source), f"/kaggle/input/{name}"]
        if self.packages:
            command += ["--ro-bind", str(self.packages), str(self.packages)]
        for name, value in self.variables().items():
            command += ["--setenv", name, value]
        return [*command, "--chdir", FOLDERS[self.name]]

    def variables(self) -> dict[str, str]:
        """The environment of a kernel."""
        places = [PACKAGES, *([str(self.packages)] if self.packages else [])]
        return {
            **environment.KERNEL,
            "JPY_PARENT_PID": "1",  # bubblewrap ends the kernel with its parent; ipykernel need not watch
            MARKS[self.name]: "Interactive",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(places),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": WHEELS,
            "PIP_TARGET": PACKAGES,  # the environment serves every kernel, so what one brings lies before it
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.file://{REPOSITORY}.insteadOf",
            "GIT_CONFIG_VALUE_0": address(),
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
        }


def execute_on(host: Host, notebook: NotebookNode, folder: Path | None = None) -> Execution:
    """Run a notebook in a fresh kernel on a host; like `execute`, but the folder is the host's.

    The interrupt with which Jupyter begins a shutdown ends bubblewrap and kernel at once; core-seconds stay unknown.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = host.command(Path(scratch))

        class Kernel(AsyncKernelManager):
            def __init__(self, **options):
                # sockets of the file system: a network of its own has no ports in common with this one
                file = str(Path(scratch, "link", "kernel.json"))
                super().__init__(transport="ipc", connection_file=file, **options)

            def format_kernel_cmd(self, extra_arguments=None):
                return [*command, *super().format_kernel_cmd(extra_arguments)]

        return execute(notebook, Path(scratch), kernel=Kernel)


def _links_to_the_course() -> list[Path]:
    """What makes the course importable in this environment: files of an editable installation."""
    return [path for folder in site.getsitepackages() for path in Path(folder).glob("*torch_to_jax_course*.pth")]


@cache
def check() -> None:
    """Find out whether hosts can be made here.

    Raises:
      HostError: this system has no bubblewrap, or it does not work, or the environment's course cannot be hidden.
    """
    if not sys.platform.startswith("linux") or not shutil.which("bwrap"):
        raise HostError(f"expected Linux and bubblewrap, got {sys.platform} without; apt-get install bubblewrap")
    with tempfile.TemporaryDirectory() as scratch:
        code = "import importlib.util; found = importlib.util.find_spec('course'); print(found and found.origin)"
        command = [*Host("Kaggle").command(Path(scratch)), sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise HostError(f"expected bubblewrap to work, got {' '.join(done.stderr.split())}; see `man bwrap`")
    if done.stdout.strip() != "None":
        raise HostError(
            f"expected a host without the course, got {done.stdout.strip()}; take that away and install it with "
            "`pip install --no-deps --editable .`"
        )


def repository(folder: Path, root: Path = ROOT) -> Path:
    """Make a repository of what lessons read of the working tree, at the tag that hosted notebooks fetch."""
    for part in ("course", "data", "benchmarks/results"):
        shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    identity = ["-c", "user.name=course", "-c", "user.email=course@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "The course"], ["tag", tag(root)]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True)
    return folder


def competition(folder: Path) -> Path:
    """Make the Titanic competition's tables of our passengers, cut up and named like Kaggle's."""
    frame = data.load_titanic().sample(frac=1, random_state=0)
    frame = frame.rename(columns={name: column.alias for name, column in data.COLUMNS.items()})
    frame.insert(0, "PassengerId", range(1, len(frame) + 1))
    frame = frame[["PassengerId", *(column.alias for column in data.COLUMNS.values())]]
    folder.mkdir(parents=True)
    frame.head(ROWS["train.csv"]).to_csv(folder / "train.csv", index=False)
    frame.drop(columns="Survived").tail(ROWS["test.csv"]).to_csv(folder / "test.csv", index=False)
    return folder
