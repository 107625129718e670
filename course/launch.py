"""One program in several processes of this machine: what `torchrun --standalone` is to PyTorch, for JAX on the CPU.

    python -m course.launch --processes 4 [--devices 2] [--timeout 600] [--port 9999] script.py [its arguments]

starts four processes of the script, each in a process group of its own and with so many simulated CPU devices. The
script begins with

    from course import launch
    launch.join()

before anything else of JAX; started alone it runs as one process. Each line that a process prints gets "[0] ", "[1] ",
… before it. The first process that fails ends all (SIGTERM, ten seconds later by force), and its exit code is the
launcher's, 128 + N where signal N killed it. Ctrl-C and SIGTERM are handed on to all, a second one kills them; what is
not over after `--timeout` seconds is ended with exit code 124. Where the launcher itself is killed, the processes that
have joined end within a second.

Who listens: the coordinator, which is process 0, at 127.0.0.1 and the port (a free one unless `--port` is given), for
`join` passes `coordinator_bind_address`; JAX by itself opens that port on all addresses. And gloo, which carries the
collectives, one port a process, on the address that this machine's own name (`hostname`) has; no argument, variable or
option of JAX changes that. On most Linux systems it is 127.0.0.1 or 127.0.1.1 (/etc/hosts). Where it is another, the
launcher says so and how to change it. Needs nothing but Python; `join` needs JAX. Lesson: 14_many_processes.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import queue
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO

LOOPBACK = "127.0.0.1"
GRACE_S = 10.0  # from SIGTERM to KILL
KILL = signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM
TIMED_OUT = 124  # as timeout(1) exits

# --- in each process -----------------------------------------------------------------------------------------------


def join(timeout_s: float = 60) -> None:
    """Join the other processes that the launcher started; do nothing in a program that was started alone.

    Call it before any other use of JAX. Afterwards `jax.devices()` are those of all processes, `jax.local_devices()`
    this one's, and `jax.process_index()` says which it is.

    Args:
      timeout_s: seconds to wait for the coordinator, and then for the other processes.
    Raises:
      TimeoutError: nobody listens at the coordinator's address.
      RuntimeError: the coordinator is there, and some process did not come; or JAX was used before.
    Lesson: 14_many_processes.
    """
    if "COURSE_COORDINATOR" not in os.environ:
        return
    import jax

    address, index = os.environ["COURSE_COORDINATOR"], int(os.environ["COURSE_PROCESS"])
    if "COURSE_LAUNCHER" in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ["COURSE_LAUNCHER"]),), daemon=True).start()
    if index:
        _wait_for(address, timeout_s)
    before = signal.getsignal(signal.SIGTERM)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address,
        int(os.environ["COURSE_PROCESSES"]),
        index,
        cluster_detection_method="deactivate",  # within a Slurm or Kubernetes job, too, the launcher decides
        initialization_timeout=max(1, round(timeout_s)),
        coordinator_bind_address=address,
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # JAX's preemption service has put its own there, which only takes note


def _wait_for(address: str, timeout_s: float) -> None:
    """Until somebody listens there: JAX's own client ends the whole process where nobody does."""
    host, port = address.rsplit(":", 1)
    end = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"expected the coordinator (process 0) at {address} within {timeout_s:g} s, got {error}; did "
                    "process 0 start, and call join()? Its own lines say why not"
                ) from None
        time.sleep(0.05)


def _run(script: str) -> None:
    """Run the script as `python script` would; where it fails, leave at once.

    JAX shuts down as Python does, and waits for all other processes then: the launcher would learn minutes later that
    one has failed.
    """
    sys.argv = sys.argv[1:]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
        return
    except SystemExit as end:
        if end.code is None or end.code == 0:
            raise
        code = end.code if isinstance(end.code, int) else 1
        if code is not end.code:
            print(end.code, file=sys.stderr)
    except BaseException as error:
        code, frames = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1, error.__traceback__
        while frames and frames.tb_frame.f_code.co_filename != script:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames or error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _end_with(launcher: int) -> None:
    """End this process, and those that it started, once the launcher is gone."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os.killpg(os.getpgrp(), KILL)


# --- the launcher --------------------------------------------------------------------------------------------------


class _Asked(Exception):
    """The launcher got a signal."""


def launch(
    script: Path | str,
    arguments: Sequence[str] = (),
    *,
    processes: int,
    devices: int | None = None,
    port: int = 0,
    timeout_s: float | None = None,
) -> int:
    """Run a script in several processes, and wait for them.

    Args:
      script: a Python file.
      arguments: handed to the script.
      processes: how many, >= 1.
      devices: simulated CPU devices of each, >= 1; what the environment says where not given.
      port: of the coordinator on the loopback address; 0 takes a free one.
      timeout_s: seconds that all of it may take; no limit where not given.
    Returns:
      An exit code: 0; that of the process that failed first, 128 + N where signal N killed it; 124 after `timeout_s`;
      128 + N where this process got signal N.
    Raises:
      FileNotFoundError: there is no such script.
      ValueError: processes, devices, port or timeout_s out of range.
      OSError: the port is in use.
    Lesson: 14_many_processes.
    """
    if not Path(script).is_file():
        raise FileNotFoundError(f"expected a Python file, got {str(script)!r}, which is none; check the path")
    for name, value, least in (("processes", processes, 1), ("devices", devices, 1), ("timeout_s", timeout_s, 1e-9)):
        if value is not None and value < least:
            raise ValueError(f"expected {name} {'> 0' if least < 1 else '>= 1'}, got {value}; give another number")
    environment = os.environ | {
        "COURSE_COORDINATOR": f"{LOOPBACK}:{free_port(port)}",
        "COURSE_PROCESSES": str(processes),
        "COURSE_LAUNCHER": str(os.getpid()),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "PYTHONUNBUFFERED": "1",
    }
    if devices is not None:
        environment["JAX_NUM_CPU_DEVICES"] = str(devices)
        # XLA has as many threads as it counts cores, and too few hang: steps in flight on simulated devices wait for
        # each other within a collective (seen with 2 devices on one core, and with 8 on eight)
        environment.setdefault("NPROC", str(max(os.cpu_count() or 1, 4 * devices)))
    command = [
        sys.executable,
        "-c",
        f"from course import launch; launch._run({str(script)!r})",
        str(script),
        *arguments,
    ]
    with _Processes() as started:
        try:
            for index in range(processes):
                started.add(command, environment | {"COURSE_PROCESS": str(index)})
            return started.wait(timeout_s)
        except _Asked as asked:
            number = asked.args[0]
            _say(f"got {signal.Signals(number).name}; handing it on to all")
            started.end(number)
            return 128 + number


class _Processes:
    """Processes in groups of their own, their lines and their ends; on leaving the block all are gone."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self.pumps: list[threading.Thread] = []
        self.over: queue.SimpleQueue[int] = queue.SimpleQueue()  # indices, in the order in which they ended
        self.lock = threading.Lock()

    def __enter__(self) -> _Processes:
        self.handlers = {}
        if threading.current_thread() is threading.main_thread():  # Python lets no other handle signals
            self.handlers = {n: signal.signal(n, self._asked) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.handlers:
            signal.signal(number, signal.SIG_IGN)  # what follows takes no time, and must happen
        self._signal(KILL)  # also what a process has started and left behind
        for process in self.processes:
            process.wait()
        for pump in self.pumps:
            pump.join(timeout=1)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _asked(self, number: int, _: FrameType | None) -> None:
        raise _Asked(number)

    def add(self, command: list[str], environment: dict[str, str]) -> None:
        index = len(self.processes)
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", process_group=0,
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None and process.stderr is not None
        for lines, out in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
            self.pumps.append(threading.Thread(target=self._pump, args=(index, lines, out), daemon=True))
            self.pumps[-1].start()
        threading.Thread(target=self._await, args=(index, process), daemon=True).start()

    def _await(self, index: int, process: subprocess.Popen[str]) -> None:
        process.wait()
        self.over.put(index)

    def _pump(self, index: int, lines: IO[str], out: IO[str]) -> None:
        with lines:
            for line in lines:
                with self.lock, suppress(BrokenPipeError):  # nobody reads any more, as under `| head`
                    out.write(f"[{index}] {line if line.endswith(chr(10)) else line + chr(10)}")
                    out.flush()

    def wait(self, timeout_s: float | None) -> int:
        """Until all are over, one has failed, or it took too long."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for _ in self.processes:
            try:
                index = self.over.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
            except queue.Empty:
                running = [str(i) for i, process in enumerate(self.processes) if process.poll() is None]
                _say(f"not over after {timeout_s:g} s: process {', '.join(running)}; ending all")
                self.end(signal.SIGTERM)
                return TIMED_OUT
            code = self.processes[index].returncode
            if code:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
                _say(f"process {index} {how}; ending all")
                self.end(signal.SIGTERM)
                return 128 - code if code < 0 else code
        return 0

    def end(self, number: int) -> None:
        """Send a signal to all, and wait; what does not obey in time, or a second request, ends in `__exit__`."""
        with suppress(_Asked):
            self._signal(number)
            end = time.monotonic() + GRACE_S
            while time.monotonic() < end and any(process.poll() is None for process in self.processes):
                time.sleep(0.02)

    def _signal(self, number: int) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError, PermissionError):  # nobody is left in its group (macOS: zombies)
                os.killpg(process.pid, number)


def free_port(port: int = 0) -> int:
    """That port of the loopback address if it is free; a free one for 0.

    Raises:
      OSError: it is in use.
      ValueError: no such port.
    Lesson: 14_many_processes.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"expected a port from 1 to 65535, or 0 for a free one, got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the coordinator does
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise OSError(
                f"expected a free port, got {LOOPBACK}:{port}, which is in use ({error.strerror}); give another, or "
                "none for a free one"
            ) from None
        return int(probe.getsockname()[1])


def gloo_address() -> str:
    """The address on which gloo listens in every process: that of this machine's own name.

    Lesson: 14_many_processes.
    """
    try:
        return str(socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return LOOPBACK  # a name without an address: gloo takes the loopback


def _say(text: str) -> None:
    print(f"course.launch: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see the module's docstring."""
    parser = argparse.ArgumentParser("python -m course.launch", description="One program in several processes.")
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--devices", type=int, help="simulated CPU devices of each")
    parser.add_argument("--timeout", type=float, help="seconds that all of it may take")
    parser.add_argument("--port", type=int, default=0, help="of the coordinator on 127.0.0.1; a free one by default")
    parser.add_argument("script", help="a Python file that calls course.launch.join()")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to the script")
    given = parser.parse_args(arguments)
    address = gloo_address()
    if given.processes > 1 and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        _say(
            f"gloo will listen on {address}, which is not the loopback address, because this machine's name "
            f"{socket.gethostname()!r} resolves to it; the line '{LOOPBACK} {socket.gethostname()}' in /etc/hosts "
            "keeps it on this machine"
        )
    try:
        return launch(
            given.script, given.arguments, processes=given.processes, devices=given.devices, port=given.port,
            timeout_s=given.timeout,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        _say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
