"""A process of grade_one.py under bubblewrap: no network, no files but its own, and an end to its patience.

What it may see: Python, the installed packages, course and data, read-only; an empty /tmp. What it may take: processes,
memory, file sizes and time up to the limits below. With its first process the whole process namespace ends.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import secrets
import selectors
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import psutil

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 2**20
MEMORY, PROCESSES = 4096 * MEGABYTE, 32  # resident, of all processes of a sandbox
THREADS = 64 + 8 * (os.cpu_count() or 1)  # of all its processes; libraries start some for each core
KEPT = 2000  # characters of what a submission prints
ENDLESS = "a loop without an end, compiled perhaps"
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
    "COURSE_PROGRESS": "", "TQDM_DISABLE": "1", "MPLBACKEND": "Agg", "LANG": "C.UTF-8",
}  # fmt: skip
USERS = itertools.cycle(range(60_000, 65_000))  # one a sandbox: the limit on processes is a user's


class Refused(Exception):
    """A submission cannot be read, or nothing may be graded here; the message says expected, got, remedy."""


def _bubblewrap(root: Path, root_user: bool) -> list[str]:
    """The command that runs another one in the sandbox."""
    command = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    command += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox", "--clearenv"]
    if root_user:  # grade_one.py goes on as a user without rights, which takes these two
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for place, size in {"/dev/shm": 64 * MEGABYTE, "/tmp": 256 * MEGABYTE}.items():
        command += ["--perms", "1777", "--size", str(size), "--tmpfs", place]
    for folder in ("/bin", "/lib", "/lib64", "/lib32", "/sbin"):
        place = Path(folder)
        if place.is_symlink():
            command += ["--symlink", os.readlink(place), folder]
        elif place.is_dir():
            command += ["--ro-bind", folder, folder]
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    places = ["/usr", "/etc/ld.so.cache", sys.base_prefix, sys.prefix, *site.getsitepackages(), *packages]
    places += [str(root / "course"), str(root / "data"), str(root / "tools" / "grade_one.py")]
    places = [place for place in dict.fromkeys(map(os.path.abspath, places)) if os.path.exists(place)]
    above = {str(folder) for place in places for folder in Path(place).parents} - {"/", "/tmp"}
    for folder in sorted(above):  # else bwrap makes them for its own user alone
        command += ["--perms", "0755", "--dir", folder]
    for place in places:
        command += ["--ro-bind", place, place]
    for name, value in {**ENVIRONMENT, "PATH": "/usr/bin:/bin", "HOME": "/tmp"}.items():
        command += ["--setenv", name, value]
    return [*command, "--remount-ro", "/", "--chdir", "/tmp"]


@functools.cache
def sandbox(root: Path = ROOT) -> tuple[tuple[str, ...], bool]:
    """The sandbox's command, and whether what it runs must leave root's rights behind itself.

    Raises:
      Refused: this system has no bubblewrap, or it does not work here.
    """
    reason = "a system other than Linux" if not sys.platform.startswith("linux") else "no bwrap"
    if sys.platform.startswith("linux") and shutil.which("bwrap"):
        for as_root in [True, False] if os.getuid() == 0 else [False]:
            command = _bubblewrap(root, as_root)
            done = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True)
            if done.returncode == 0:
                return tuple(command), as_root
            reason = "bwrap, which says: " + done.stderr.strip()[-300:]
    raise Refused(
        f"not graded: expected Linux with bubblewrap, to run strangers' code in, got {reason}; install the package "
        "bubblewrap, or say `make grade TRUSTED=1` for work that you would run yourself"
    )


def run_job(job: dict, *, trusted: bool, seconds: float, root: Path = ROOT) -> tuple[list[dict], str, str]:
    """Run one process of grade_one.py to its end, or to the end of its limits.

    Args:
      job: what `grade_one.grade` reads.
      trusted: no sandbox.
      seconds: the longest time from one report to the next.
      root: the folder that has course, data and tools.
    Returns:
      The reports in order; why it ended before the last one, or ""; the first of what it printed.
    Raises:
      Refused: the system has no sandbox and the work is not trusted, or it is Windows.
    """
    if sys.platform == "win32":
        raise Refused("not graded: expected Linux or macOS, got Windows; run `make grade` in WSL")
    command, as_root = ((), False) if trusted else sandbox(root)
    user = next(USERS) if as_root else None
    token = secrets.token_hex(16)
    extra = _tasks_of_user() if user is None and not trusted else 0
    limits = {"RLIMIT_AS": 4 * MEMORY, "RLIMIT_FSIZE": 64 * MEGABYTE, "RLIMIT_CORE": 0, "RLIMIT_CPU": 600}
    limits |= {} if trusted else {"RLIMIT_NPROC": THREADS + extra, "RLIMIT_NOFILE": 1024}
    about = {"token": token, "root": str(root), "user": user, "limits": limits, "sandboxed": not trusted}
    script = root / "tools" / "grade_one.py"
    with tempfile.TemporaryDirectory(prefix="grade-") as folder:
        process = subprocess.Popen(
            [*command, sys.executable, "-s", "-P", str(script)], cwd=folder, start_new_session=True,
            env={**os.environ, **ENVIRONMENT}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            return _follow(process, json.dumps({**job, **about}).encode(), token, seconds)
        finally:
            _end(process)


def _tasks_of_user() -> int:
    """Processes and threads that this user has already; older kernels count them in."""
    found = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        if process.info["uids"] and process.info["uids"].real == os.getuid():
            found += process.info["num_threads"] or 1
    return found


def _follow(process: subprocess.Popen, job: bytes, token: str, seconds: float) -> tuple[list[dict], str, str]:
    """Feed a process its job, read reports and prints as they come, and watch its time, its memory, its children."""
    assert process.stdin and process.stdout and process.stderr
    reports: list[dict] = []
    printed, pending = "", b""
    with selectors.DefaultSelector() as ready:
        for pipe in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
        ready.register(process.stdin, selectors.EVENT_WRITE)
        ready.register(process.stdout, selectors.EVENT_READ)
        ready.register(process.stderr, selectors.EVENT_READ)
        since, worked, look, latest = monotonic(), 0.0, 0.0, monotonic() + 20 * seconds
        while True:
            now = monotonic()
            # where the machine is busy with other things, three times as long
            idle = now > since + seconds and _worked(process.pid) - worked < seconds / 2
            if now > min(latest, since + seconds * (3 if idle else 1)):
                return reports, f"no result within {seconds:.0f} seconds: {ENDLESS}", printed
            if now > look:
                look = now + 0.1
                if process.poll() is not None and not ready.select(0):
                    break
                if too_much := _excess(process.pid):
                    return reports, too_much, printed
            for key, _ in ready.select(0.1):
                if key.fileobj is process.stdin:
                    try:
                        job = job[os.write(key.fd, job[:65536]) :]
                    except OSError:
                        job = b""
                    if not job:
                        ready.unregister(process.stdin)
                        process.stdin.close()
                    continue
                content = os.read(key.fd, 65536)
                if not content:
                    ready.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    printed += content.decode("utf-8", "replace")[: KEPT - len(printed)]
                else:
                    pending = (pending + content)[-100_000:]
                    *lines, pending = pending.split(b"\n")
                    for line in lines:
                        if (report := _report(line, token)) is not None:
                            reports.append(report)
                            since, worked = monotonic(), _worked(process.pid)
                            if report["event"] == "end":
                                return reports, "", printed
            if process.stdout not in ready.get_map() and process.poll() is not None:
                break
    return reports, f"the process ended before the result, with status {process.returncode}", printed


def _report(line: bytes, token: str) -> dict | None:
    try:
        report = json.loads(line)
        if secrets.compare_digest(str(report.pop("token")), token):
            return {key: str(report[key]) for key in ("event", "exercise", "kind", "message")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _worked(pid: int) -> float:
    """Core-seconds of a process's children."""
    return _sum(_family(pid), lambda one: sum(one.cpu_times()[:2]))


def _excess(pid: int) -> str:
    """What a process and its children take too much of, or nothing."""
    family = _family(pid)
    if len(family) > PROCESSES:
        return f"more than {PROCESSES} processes"
    if _sum(family, lambda one: one.memory_info().rss) <= MEMORY:  # counts what forks share again and again
        return ""
    used = _sum(family, lambda one: one.memory_full_info().pss)
    return f"more than {MEMORY // MEGABYTE} MB of memory" if used > MEMORY else ""


def _sum(family: list[psutil.Process], of: Callable[[psutil.Process], float]) -> float:
    total = 0.0
    for one in family:
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            total += of(one)
    return total


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started: with the sandbox's first process its process namespace goes."""
    family = _family(process.pid)
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for one in family:
        with contextlib.suppress(psutil.Error):
            one.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    process.kill()
    process.wait()
