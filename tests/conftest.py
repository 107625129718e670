"""Shared by all tests."""

import gc

import pytest

from tools import environment


def pytest_configure(config):
    if not config.getoption("numprocesses", None):  # a worker, or the only process: who hands out tests runs none
        environment.compile_quickly()
        gc.set_threshold(100_000, 20, 20)  # tracing makes many objects: a sixth of the time else


@pytest.fixture
def x64():
    """float64 for one test; JAX has to be asked for it."""
    with environment.double_precision():
        yield
