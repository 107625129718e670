"""One run in several processes: killed, stopped, damaged, and continued by more or fewer of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course.launch import launch
from tools.lessons import ROOT

pytestmark = pytest.mark.processes
TRAINING = Path(__file__).with_name("training.py")
STEPS = 6
LAUNCH = [sys.executable, "-m", "course.launch", "--processes", "2"]


@pytest.fixture
def train(tmp_path, capfd):
    """Run the training; its exit code and what it printed."""

    def run(processes, axis="rows", *event, devices=1, folder=tmp_path / "run", steps=STEPS):
        arguments = [str(folder), axis, str(steps), *map(str, event)]
        code = launch(TRAINING, arguments, processes=processes, devices=devices, timeout_s=120)
        out, err = capfd.readouterr()
        return code, out + err

    return run


@pytest.fixture(scope="session")
def bits(tmp_path_factory):
    """What an undisturbed run of one process ends in."""
    found = {}

    def of(train):
        if not found:
            code, printed = train(1, folder=tmp_path_factory.mktemp("undisturbed"))
            assert code == 0, printed
            found["bits"] = bits_in(printed)
        return found["bits"]

    return of


def bits_in(printed):
    return re.findall(r"bits (\w+)", printed)[0]


def steps_in(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def test_four_processes_write_and_others_read(train, bits):
    code, printed = train(4, "rows", steps=2)
    assert code == 0, printed
    assert train(3, "rows")[0] == 1  # three do not divide eight rows: JAX says so
    readers = ((2, "columns", 2, 3), (3, "none", 1, 4), (1, "rows", 2, 5), (4, "columns", 1, 6))
    for processes, axis, devices, steps in readers:
        code, printed = train(processes, axis, devices=devices, steps=steps)
        assert code == 0 and f"found {steps - 1}" in printed, printed
    assert bits_in(printed) == bits(train)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_it_continues_to_the_same_bits(train, bits, processes):
    code, printed = train(processes, "rows", "SIGKILL", 3)
    assert code == 137 and f"process {processes - 1} was killed by SIGKILL" in printed, printed
    code, printed = train(processes, "rows")
    assert code == 0 and "found 2" in printed and bits_in(printed) == bits(train), printed


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_one_is_obeyed_by_all_at_the_same_step(train, tmp_path, bits, name):
    code, printed = train(2, "rows", name, 3)
    assert code == 130 and printed.count("stopped at step 3 and saved") == 2, printed
    assert steps_in(tmp_path / "run") == [2, 3]
    code, printed = train(2, "rows")
    assert code == 0 and "found 3" in printed and bits_in(printed) == bits(train), printed


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_all_step_back_from_a_damaged_checkpoint(train, tmp_path, bits, damage):
    code, printed = train(2, "rows", steps=4)
    assert code == 0, printed
    for file in (tmp_path / "run" / "checkpoints" / "4" / "arrays" / "d").iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        match damage:
            case "flip":
                file.write_bytes(content)
            case "cut":
                file.write_bytes(content[: len(content) // 2])
            case "remove":
                os.unlink(file)
    code, printed = train(2, "rows")
    assert code == 0, printed
    assert printed.count("that of step 4 is damaged") == 2 and printed.count("found 3") == 2, printed
    assert bits_in(printed) == bits(train) and (tmp_path / "run" / "damaged" / "4").is_dir()


def test_another_model_is_refused_by_the_name_of_its_leaf(train, tmp_path):
    assert train(2, "rows", steps=2)[0] == 0
    code, printed = train(2, "none", "narrow")
    assert code == 1 and "Traceback" not in printed, printed
    assert "state['w']: 'float32 (8, 64)' there, 'float32 (8, 48)' here" in printed
    assert steps_in(tmp_path / "run") == [1, 2]


def test_a_full_disk_of_one_leaves_the_checkpoint_before(train, tmp_path, bits):
    code, printed = train(2, "rows", "full", 3)
    assert code == 1 and re.search(
        r"\[1\] expected room and permission for the checkpoint of step 3 in .*too large", printed
    ), printed
    assert 3 not in steps_in(tmp_path / "run")
    code, printed = train(2, "rows")
    assert code == 0 and "found 2" in printed and bits_in(printed) == bits(train), printed


@pytest.mark.parametrize("processes", [1, 2])
def test_a_folder_that_cannot_be_made(train, tmp_path, processes):
    (tmp_path / "file").write_text("")
    code, printed = train(processes, folder=tmp_path / "file" / "run")
    assert code == 1 and "Traceback" not in printed, printed
    assert re.search(r"expected to write into .*, got (NotADirectory|FileExists)Error: .*; mend that, or take", printed)


@pytest.mark.skipif(
    not shutil.which("bwrap"), reason="bubblewrap makes read-only folders and small disks, also for root"
)
@pytest.mark.parametrize(
    ("disk", "said"),
    [
        ("--ro-bind {0} {0}", r"expected to write into {0}/run, got OSError: .*Read-only file system"),
        ("--size 100000 --tmpfs {0}", r"expected room and permission for the checkpoint of step \d in .*No space left"),
    ],
)
@pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")
def test_a_disk_for_all_processes(tmp_path, disk, said):
    job = [*LAUNCH, TRAINING, tmp_path / "run", "rows", STEPS]
    command = ["bwrap", "--dev-bind", "/", "/", *disk.format(tmp_path).split(), *map(str, job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    if "bwrap:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 1 and re.search(said.format(tmp_path), done.stderr), done.stderr


def test_a_second_job_is_refused_and_the_first_goes_on(train, tmp_path):
    job = [*LAUNCH, TRAINING, tmp_path / "run", "rows", "2", "wait", "2"]
    first = subprocess.Popen(job, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert any("waiting" in line for line in first.stdout)
    code, printed = train(2, "rows")
    assert code == 1 and "Traceback" not in printed, printed
    assert "expected one process at a time in" in printed and first.poll() is None
    first.terminate()
    first.communicate(timeout=30)
    code, printed = train(2, "rows")
    assert code == 0 and "found" in printed, printed
