"""What a process makes of the launcher's variables; programs in several processes are in tests/processes."""

import os
import re
import socket

import pytest

from course import launch

NAMES = ("COURSE_COORDINATOR", "COURSE_PROCESSES", "COURSE_PROCESS")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "values",
    [
        ("127.0.0.1:9911",),
        ("127.0.0.1:9911", "2"),
        ("127.0.0.1:9911", "", "1"),
        ("", "2", "1"),
        ("127.0.0.1:9911", "2", "x"),
        ("127.0.0.1:9911", "2", "2"),
        ("127.0.0.1:9911", "2", "-1"),
        ("127.0.0.1:9911", "0", "0"),
        ("127.0.0.1:99111", "2", "1"),
        ("127.0.0.1", "2", "1"),
        (":9911", "2", "1"),
    ],
)
def test_variables_that_are_set_in_part_or_wrongly(monkeypatch, values):
    for name, value in zip(NAMES, values, strict=False):
        monkeypatch.setenv(name, value)
    said = r"expected COURSE_COORDINATOR=host:port, .*, got .*; start the script with python -m course.launch, or unset"
    with pytest.raises(ValueError, match=said) as caught:
        launch.join()
    assert all(f"{name}={os.environ.get(name, '')}" in str(caught.value) for name in NAMES)


def told(monkeypatch, port, index):
    for name, value in zip(NAMES, (f"127.0.0.1:{port}", "2", str(index)), strict=True):
        monkeypatch.setenv(name, value)


def test_a_coordinator_that_never_comes_is_named(monkeypatch):
    port = launch.free_port()
    told(monkeypatch, port, 1)
    with pytest.raises(TimeoutError, match=rf"at 127\.0\.0\.1:{port} within 0\.1 s, got .*; did process 0 start"):
        launch.join(timeout_s=0.1)


def test_a_port_that_somebody_took_meanwhile(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told(monkeypatch, port, 0)
        with pytest.raises(OSError, match=re.escape(f"expected a free port, got 127.0.0.1:{port}, which is in use")):
            launch.join()
