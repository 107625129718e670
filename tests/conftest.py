"""Shared by all tests."""

import jax
import pytest

from tools import environment

environment.compile_quickly()


@pytest.fixture
def x64():
    """float64 for one test; JAX has to be asked for it."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
