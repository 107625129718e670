"""Which Python the Makefile takes, and what it says where none fits."""

import subprocess
import sys

import pytest

from tools.lessons import ROOT

HERE = "{}.{}".format(*sys.version_info)


def find(*versions, python=sys.executable):
    command = ["sh", "tools/find_python.sh", *versions]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHON": python}, capture_output=True, text=True
    )


def test_the_first_that_fits_is_printed():
    done = find("3.1", HERE)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, sys.executable, "")


@pytest.mark.parametrize(("versions", "what"), [(("3.8", "3.9"), "too new"), (("3.98", "3.99"), "too old")])
def test_a_python_that_does_not_fit_is_named_with_one_that_does(versions, what):
    done = find(*versions)
    assert done.returncode == 1 and done.stdout == ""
    assert f"is Python {HERE}, {what}" in done.stderr and f"uv python install {versions[0]}" in done.stderr


def test_without_any_python_it_says_what_is_expected():
    done = find("3.11", python="/nowhere/python")
    assert done.returncode == 1 and "expected /nowhere/python of version 3.11" in done.stderr
