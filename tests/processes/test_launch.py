"""The launcher: prefixes, exit codes, bad input, who listens where, and that nobody is left behind."""

import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course import launch as launcher
from tools.lessons import ROOT

pytestmark = pytest.mark.processes
PROGRAM = Path(__file__).with_name("program.py")
LINUX = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are read from /proc")


def command(*arguments, **environment):
    """The launcher's command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "course.launch", *map(str, arguments)], cwd=ROOT, env=os.environ | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def until(process, words, times=1):
    """What it printed until the words have come so many times."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if sum(words in line for line in lines) == times:
            return "".join(lines)
    raise AssertionError("".join(lines))


def pids_in(printed):
    return [int(pid) for pid in re.findall(r"(?:pid|child) (\d+)", printed)]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, within_s=3):
    end = time.monotonic() + within_s
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.parametrize(("processes", "total"), [(1, 1), (2, 22), (4, 124)])
def test_all_take_part(processes, total):
    process = command("--processes", processes, "--devices", 2, PROGRAM, "go", "--an", "argument")
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 0, printed
    for index in range(processes):
        assert f"[{index}] total {total} devices 2 {2 * processes} pid" in printed
        assert f"[{index}] arguments ['go', '--an', 'argument']" in printed and f"[{index}] to stderr" in printed


def test_started_alone_it_is_one_process():
    done = subprocess.run([sys.executable, PROGRAM, "go"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "total 1 devices" in done.stdout, done.stderr


UNREAD = """
from course import launch
launch.join()
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
mesh = jax.sharding.Mesh(jax.devices(), "x")

def slow_on_the_second(x):
    turns = jax.numpy.where(jax.lax.axis_index("x") == 1, 30_000_000, 1)
    step = lambda state: (state[0] + 1, jax.numpy.sin(state[1]) + 1)
    return jax.lax.while_loop(lambda state: state[0] < turns, step, (0, jax.lax.psum(x, "x")))[1]

spec = PartitionSpec("x")
x = jax.device_put(np.ones(2, np.float32), NamedSharding(mesh, spec))
y = jax.jit(jax.shard_map(slow_on_the_second, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))(x)
np.asarray(y.addressable_shards[0].data)
print("before", y.is_ready())
launch._finish()
print("after", y.is_ready())
"""


def test_a_process_waits_for_devices_that_it_did_not_read(tmp_path):
    (tmp_path / "unread.py").write_text(UNREAD, "utf-8")
    process = command("--processes", 1, "--devices", 2, tmp_path / "unread.py")
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 0 and "[0] before False\n[0] after True" in printed, printed


@pytest.mark.parametrize(("end", "waits"), [("", True), ("raise SystemExit", True), ("raise SystemExit(3)", False)])
def test_it_waits_where_the_script_has_not_failed(tmp_path, end, waits):
    lines = ["from course import launch", "launch._finish = lambda: print('waited')", end]
    (tmp_path / "ends.py").write_text("\n".join(lines), "utf-8")
    printed = command("--processes", 1, tmp_path / "ends.py").communicate(timeout=100)[0]
    assert ("waited" in printed) == waits, printed


@LINUX
@pytest.mark.parametrize(
    ("what", "code", "said"),
    [("fail", 7, "process 1 failed with exit code 7"), ("kill", 137, "process 1 was killed by SIGKILL")],
)
def test_one_failure_ends_all(what, code, said):
    process = command("--processes", 2, PROGRAM, what)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == code and said in printed, printed
    assert len(pids_in(printed)) == 2 and gone(pids_in(printed))


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_all(number):
    process = command("--processes", 2, PROGRAM, "wait")
    printed = until(process, "waiting", 2)
    process.send_signal(number)
    printed += process.communicate(timeout=30)[0]
    assert process.returncode == 128 + number and f"got {number.name}" in printed, printed
    assert gone(pids_in(printed), 0)


@LINUX
def test_who_does_not_obey_is_killed_at_the_second_request():
    process = command("--processes", 2, PROGRAM, "deaf")
    printed = until(process, "waiting", 2)
    process.terminate()
    time.sleep(1)
    assert process.poll() is None and all(map(alive, pids_in(printed)))
    process.terminate()
    process.communicate(timeout=5)
    assert process.returncode == 143 and gone(pids_in(printed), 0)


@LINUX
def test_a_killed_launcher_leaves_nobody():
    process = command("--processes", 2, PROGRAM, "wait")
    pids = pids_in(until(process, "waiting", 2))
    process.kill()
    process.communicate(timeout=10)
    assert gone(pids)


@LINUX
def test_what_a_process_started_ends_with_all():
    process = command("--processes", 1, PROGRAM, "child")
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and len(pids_in(printed)) == 2 and gone(pids_in(printed), 0), printed


def test_too_long():
    process = command("--processes", 2, "--timeout", 25, PROGRAM, "wait")
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 124 and "not over after 25 s: process 0, 1" in printed, printed


def test_a_coordinator_that_never_comes():
    process = command("--processes", 2, PROGRAM, "late")
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1, printed
    assert re.search(
        r"\[1\] TimeoutError: expected the coordinator \(process 0\) at 127\.0\.0\.1:\d+ within 2 s", printed
    )


def test_a_process_that_never_comes():
    process = command("--processes", 2, PROGRAM, "last late")
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "Check failure" not in printed, printed
    assert re.search(r"expected all 2 processes at the coordinator, 127\.0\.0\.1:\d+, within 2 s, got fewer", printed)


# --- scripts that do not use JAX -----------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path):
    """A script of these lines; `me` is the number of its process."""

    def write(lines):
        path = tmp_path / "script.py"
        path.write_text("import os, sys, time\nme = int(os.environ['COURSE_PROCESS'])\n" + lines)
        return path

    return write


@pytest.mark.parametrize(
    ("lines", "code", "said"),
    [
        ("if me: raise OSError('before it joins')\ntime.sleep(60)", 1, "[1] OSError: before it joins"),
        ("if me: sys.exit('some text')\ntime.sleep(60)", 1, "[1] some text"),
        ("if me: sys.exit(-1)\ntime.sleep(60)", 255, "process 1 failed with exit code 255"),
        ("if me: os._exit(3)\ntime.sleep(60)", 3, "process 1 failed with exit code 3"),
        ("if me: import missing_module\ntime.sleep(60)", 1, "[1] ModuleNotFoundError: No module named"),
        ("def f(:", 1, "SyntaxError"),
        ("if me: sys.exit(0)\ntime.sleep(1)\nprint('to the end')", 0, "[0] to the end"),
        ("sys.stdout.write('without an end')", 0, "[1] without an end\n"),
        ("sys.stdout.buffer.write(b'\\xff\\xfe\\0 \\x80\\n')\nprint('last \u00fc')", 0, "[1] last \u00fc"),
    ],
)
def test_whatever_a_script_does(script, lines, code, said):
    process = command("--processes", 2, script(lines))
    printed = process.communicate(timeout=30)[0]
    assert process.returncode == code and said in printed, printed
    assert "launch.py" not in printed  # a traceback begins in the script


@pytest.mark.parametrize(
    ("end", "environment", "code"),
    [
        ("> /dev/full", {}, 0),
        (">&-", {}, 0),
        ("> out", {"PYTHONIOENCODING": "ascii"}, 0),
        ("--and fail > /dev/full 2> /dev/full", {}, 7),
        ("--and fail >&- 2>&-", {}, 7),
        ("--and fail 2>&1 | head -c 1; exit ${PIPESTATUS[0]}", {}, 7),
    ],
)
def test_the_exit_code_is_the_scripts_whoever_reads_it_or_not(tmp_path, script, end, environment, code):
    path = script("for _ in range(200): print('\u00fc' * 10_000)\nif 'fail' in sys.argv: sys.exit(7)")
    line = f"{sys.executable} -m course.launch --processes 2 {path} {end.replace('out', str(tmp_path / 'out'))}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr


def test_a_slow_reader_gets_all_of_it(script):
    process = command("--processes", 2, script("for _ in range(50): print('x' * 10_000)"))
    time.sleep(3)  # both have ended, and what they printed is on its way
    assert len(process.communicate(timeout=30)[0]) == 2 * 50 * (10_000 + len("[0] \n"))


@LINUX
def test_a_killed_launcher_leaves_nobody_that_has_not_joined(script):
    process = command("--processes", 2, script("print('pid', os.getpid(), flush=True)\ntime.sleep(60)"))
    pids = pids_in(until(process, "pid", 2))
    process.kill()
    process.communicate(timeout=10)
    assert gone(pids)


@LINUX
def test_more_processes_than_there_is_room_for(script):
    path = script("print('pid', os.getpid(), flush=True)\ntime.sleep(60)")
    line = f"ulimit -n 32; exec {sys.executable} -m course.launch --processes 100 {path}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert re.search(r"expected room for 100 processes, got .*Too many open files after \d+; start fewer", done.stderr)
    assert gone(pids_in(done.stdout), 0)


def test_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = command("--processes", 2, "--port", port, PROGRAM, "go")
        printed = process.communicate(timeout=30)[0]
    assert process.returncode == 2 and f"expected a free port, got 127.0.0.1:{port}, which is in use" in printed, (
        printed
    )


@pytest.mark.parametrize(
    ("script", "how", "error", "said"),
    [
        ("missing.py", {}, FileNotFoundError, "expected a Python file, got 'missing.py'"),
        (PROGRAM, {"processes": 0}, ValueError, "expected processes >= 1, got 0"),
        (PROGRAM, {"devices": 0}, ValueError, "expected devices >= 1, got 0"),
        (PROGRAM.parent, {}, FileNotFoundError, "expected a Python file, got"),
        (PROGRAM, {"processes": -1}, ValueError, "expected processes >= 1, got -1"),
        (PROGRAM, {"timeout_s": 0}, ValueError, r"expected timeout_s > 0 and <= .*, got 0; give another number"),
        (PROGRAM, {"timeout_s": float("nan")}, ValueError, "expected timeout_s > 0 and <= .*, got nan"),
        (PROGRAM, {"timeout_s": float("inf")}, ValueError, "expected timeout_s > 0 and <= .*, got inf"),
        (PROGRAM, {"port": 70_000}, ValueError, "expected a port from 1 to 65535, or 0"),
    ],
)
def test_bad_input(script, how, error, said):
    with pytest.raises(error, match=said):
        launcher.launch(script, **{"processes": 2} | how)


def test_where_this_machines_name_resolves_elsewhere_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(launcher, "gloo_address", lambda: "192.0.2.7")
    monkeypatch.setattr(launcher, "launch", lambda *_, **__: 0)
    assert launcher.main(["--processes", "2", str(PROGRAM)]) == 0
    assert "gloo will listen on 192.0.2.7, which is not the loopback address" in capsys.readouterr().err


def listening(pids):
    """Addresses at which these processes listen: from the tables of sockets, by the inodes that each process holds."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
            except FileNotFoundError:
                continue  # closed meanwhile
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A: LISTEN
                words = fields[1].split(":")[0]
                packed = b"".join(int(words[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(words), 8))
                address = ipaddress.ip_address(packed)
                found.append(getattr(address, "ipv4_mapped", None) or address)  # ::ffff:127.0.0.1 is 127.0.0.1
    return found


@LINUX
@pytest.mark.skipif(
    not ipaddress.ip_address(launcher.gloo_address().partition("%")[0]).is_loopback,
    reason="this machine's name is no name of the loopback address: gloo listens there, and the launcher says so",
)
def test_only_the_loopback_address_listens():
    process = command("--processes", 2, PROGRAM, "wait")
    pids = pids_in(until(process, "waiting", 2))
    addresses = listening([process.pid, *pids])
    process.terminate()
    process.communicate(timeout=30)
    assert len(addresses) >= 3, addresses  # the coordinator, and gloo in each process
    assert all(address.is_loopback for address in addresses), addresses
