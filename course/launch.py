"""One program in several processes of this machine: what `torchrun --standalone` is to PyTorch, for JAX on the CPU.

    python -m course.launch --processes 4 [--devices 2] [--timeout 600] [--port 9999] script.py [its arguments]

starts four processes of the script, each in a process group of its own and with so many simulated CPU devices. The
script begins with

    from course import launch
    launch.join()

before anything else of JAX; started alone it runs as one process. Each line that a process prints gets "[0] ", "[1] ",
… before it. The first process that fails ends all (SIGTERM, ten seconds later by force), and its exit code is the
launcher's, 128 + N where signal N killed it; who was killed counts as the first. Ctrl-C and SIGTERM are handed on to
all, a second one kills them; what is not over after `--timeout` seconds is ended with exit code 124. Where the launcher
itself is killed, all end within a second.

Who listens: the coordinator, which is process 0, at 127.0.0.1 and the port (a free one unless `--port` is given), for
`join` passes `coordinator_bind_address`; JAX by itself opens that port on all addresses. And gloo, which carries the
collectives, one port a process, on the address that this machine's own name (`hostname`) has; no argument, variable or
option of JAX changes that. On most Linux systems it is 127.0.0.1 or 127.0.1.1 (/etc/hosts). Where it is another, the
launcher says so and how to change it. Needs nothing but Python; `join` needs JAX. Lesson: 14_many_processes.
"""

from __future__ import annotations

import argparse
import io
import ipaddress
import os
import queue
import re
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
      OSError: process 0 found the port in use.
      ValueError: the launcher's variables, COURSE_..., are set in part, or to something else.
      RuntimeError: JAX was used before.
    Where the coordinator is there, and some process does not come in time, the process ends with exit code 1.
    Lesson: 14_many_processes.
    """
    told = {name: os.environ.get(name, "") for name in ("COURSE_COORDINATOR", "COURSE_PROCESSES", "COURSE_PROCESS")}
    if not any(told.values()):
        return
    address, processes, index = told.values()
    host, _, port = address.rpartition(":")
    numbers = host and all(re.fullmatch("[0-9]{1,5}", text) for text in (port, processes, index))
    if not numbers or int(index) >= int(processes) or int(port) >= 2**16:
        raise ValueError(
            "expected COURSE_COORDINATOR=host:port, COURSE_PROCESSES=N and COURSE_PROCESS from 0 to N - 1, got "
            f"{' '.join(f'{name}={text}' for name, text in told.items())}; start the script with python -m "
            "course.launch, or unset all three"
        )
    import jax

    if jax.distributed.is_initialized():
        return
    if int(index):
        _wait_for(host, int(port), timeout_s)
    else:
        free_port(int(port))  # gRPC ends the whole process where it is not
    before = signal.getsignal(signal.SIGTERM)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    late = threading.Timer(timeout_s, _give_up, (processes, address, timeout_s))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            address,
            int(processes),
            int(index),
            cluster_detection_method="deactivate",  # within a Slurm or Kubernetes job, too, the launcher decides
            initialization_timeout=round(timeout_s) + 60,  # after which JAX's client ends the process, by SIGABRT
            coordinator_bind_address=address,
        )
    finally:
        late.cancel()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # JAX's preemption service has put its own there, which only takes note


def _give_up(processes: str, address: str, timeout_s: float) -> None:
    _say(
        f"expected all {processes} processes at the coordinator, {address}, within {timeout_s:g} s, got fewer; did "
        "each start, and call join()? Their own lines say why not"
    )
    os._exit(1)


def _wait_for(host: str, port: int, timeout_s: float) -> None:
    """Until somebody listens there: JAX's own client ends the whole process where nobody does."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"expected the coordinator (process 0) at {host}:{port} within {timeout_s:g} s, got {error}; did "
                    "process 0 start, and call join()? Its own lines say why not"
                ) from None
        time.sleep(0.05)


def _run(script: str, launcher: int) -> None:
    """Run the script as `python script` would; where it fails, leave at once, and where the launcher is gone.

    JAX shuts down as Python does, and waits for all other processes then: the launcher would learn minutes later that
    one has failed.
    """
    threading.Thread(target=_end_with, args=(launcher,), daemon=True).start()
    assert isinstance(sys.stdout, io.TextIOWrapper)  # a pipe
    sys.stdout.reconfigure(line_buffering=True)  # whole lines at once, or what gloo prints comes into their middle
    sys.argv = sys.argv[1:]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
        _finish()
        return
    except SystemExit as end:
        if end.code is None or end.code == 0:
            _finish()
            raise
        code = end.code if isinstance(end.code, int) else 1
        if code is not end.code:
            print(end.code, file=sys.stderr)
    except BaseException as error:
        code, frames = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1, error.__traceback__
        while frames and frames.tb_frame.f_code.co_filename != script:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _finish() -> None:
    """Wait until the devices of this process have done what was asked of them.

    The script may have read a result from one device while another was still connecting to its peers, where it would
    wait for ever once they are gone: one run of two devices in fifty on a busy machine did not end.
    """
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        devices = jax.local_devices()  # what all of them take part in begins when all before it is over
        spread = jax.sharding.NamedSharding(jax.sharding.Mesh(devices, "x"), jax.sharding.PartitionSpec("x"))
        ones = jax.device_put(jax.numpy.ones(len(devices)), spread)
        jax.block_until_ready(jax.jit(lambda x: x.sum())(ones))


def _end_with(launcher: int) -> None:
    """End this process, and those that it started, once the launcher is gone."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os.killpg(os.getpgrp(), KILL)


# --- the launcher --------------------------------------------------------------------------------------------------


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
      OSError: the port is in use, or there is no room for so many processes.
    Lesson: 14_many_processes.
    """
    if not Path(script).is_file():
        raise FileNotFoundError(f"expected a Python file, got {str(script)!r}, which is none; check the path")
    for name, value, least in (("processes", processes, 1), ("devices", devices, 1), ("timeout_s", timeout_s, 1e-9)):
        if value is not None and not least <= value <= threading.TIMEOUT_MAX:  # NaN is none of them
            most = f" and <= {threading.TIMEOUT_MAX:g}" if least < 1 else ""
            raise ValueError(
                f"expected {name} {'> 0' if least < 1 else '>= 1'}{most}, got {value}; give another number"
            )
    environment = os.environ | {
        "COURSE_COORDINATOR": f"{LOOPBACK}:{free_port(port)}",
        "COURSE_PROCESSES": str(processes),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "PYTHONIOENCODING": "utf-8",
    }
    if devices is not None:
        environment["JAX_NUM_CPU_DEVICES"] = str(devices)
        # XLA has as many threads as it counts cores, and too few hang: steps in flight on simulated devices wait for
        # each other within a collective (seen with 2 devices on one core, and with 8 on eight)
        environment.setdefault("NPROC", str(max(os.cpu_count() or 1, 4 * devices)))
    command = [
        sys.executable,
        "-c",
        f"from course import launch; launch._run({str(script)!r}, {os.getpid()})",
        str(script),
        *arguments,
    ]
    with _Processes() as started:
        for index in range(processes):
            try:
                started.add(command, environment | {"COURSE_PROCESS": str(index)})
            except (OSError, RuntimeError) as error:  # of files, memory, processes or threads there are too few
                raise OSError(
                    f"expected room for {processes} processes, got {error} after {index}; start fewer"
                ) from None
        return started.wait(timeout_s)


class _Processes:
    """Processes in groups of their own, their lines and their ends; on leaving the block all are gone."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self.pumps: list[threading.Thread] = []
        # indices, in the order in which they ended; -N where the launcher got signal N
        self.over: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.lock = threading.Lock()

    def __enter__(self) -> _Processes:
        self.handlers = {}
        if threading.current_thread() is threading.main_thread():  # Python lets no other handle signals
            asked = (signal.SIGINT, signal.SIGTERM)
            self.handlers = {n: signal.signal(n, lambda number, _: self.over.put(-number)) for n in asked}
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.handlers:
            signal.signal(number, signal.SIG_IGN)  # what follows takes no time, and must happen
        self._signal(KILL)  # also what a process has started and left behind
        for process in self.processes:
            process.wait()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        for pump in self.pumps:
            pump.join(timeout=1)  # who left the group may hold the pipe for ever
            while pump.is_alive() and self.lock.locked():  # whoever reads our lines is slow
                pump.join(timeout=1)

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
                with self.lock, suppress(OSError, ValueError):  # nobody reads any more, as under `| head`; a full disk
                    print(f"[{index}] {line.removesuffix(chr(10))}", file=out, flush=True)

    def wait(self, timeout_s: float | None) -> int:
        """Until all are over, one has failed, or it took too long."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        left = len(self.processes)
        while left:
            try:
                index = self.over.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
            except queue.Empty:
                running = [str(i) for i, process in enumerate(self.processes) if process.poll() is None]
                _say(f"not over after {timeout_s:g} s: process {', '.join(running)}; ending all")
                self.end(signal.SIGTERM)
                return TIMED_OUT
            if index < 0:
                _say(f"got {signal.Signals(-index).name}; handing it on to all")
                self.end(-index)
                return 128 - index
            left -= 1
            code = self.processes[index].returncode
            if code:
                time.sleep(0.2)  # others fail for want of one that was killed, and may be over before it
                codes = [process.poll() or 0 for process in self.processes]
                killed = [i for i, one in enumerate(codes) if one < 0 and one != -signal.SIGABRT]  # JAX aborts others
                index = killed[0] if killed and index not in killed else index
                code = codes[index]
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
                _say(f"process {index} {how}; ending all")
                self.end(signal.SIGTERM)
                return 128 - code if code < 0 else code
        return 0

    def end(self, number: int) -> None:
        """Send a signal to all, and wait; what does not obey in time, or a second request, ends in `__exit__`."""
        self._signal(number)
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end and any(process.poll() is None for process in self.processes):
            with suppress(queue.Empty):
                if self.over.get(timeout=0.02) < 0:
                    return

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
    with suppress(OSError):  # nobody reads it
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of what a terminal without UTF-8 does not have
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
