"""How long a function takes: its first call and its steady state, never mixed. Needs JAX.

Lesson: 01b_titanic_nnx.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any, NamedTuple, ParamSpec

import jax

P = ParamSpec("P")


class Timing(NamedTuple):
    """Seconds of the first call, which holds tracing, compiling and a run, and of a later one, the median."""

    first_s: float
    steady_s: float


def seconds(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Seconds of one call, the computation included: JAX returns before it is done, so this waits for it."""
    start = perf_counter()
    jax.block_until_ready(function(*args, **kwargs))  # leaves that are not JAX arrays pass through
    return perf_counter() - start


def measure(function: Callable[..., object], *args: Any, repeats: int = 5) -> Timing:
    """Time a function's first call apart from its steady state.

    Args:
      function: what to time; its result may hold JAX arrays, which are waited for. Called before, it has nothing left
        to compile, and the first call is like the others.
      *args: passed to every call.
      repeats: later calls, of which the median counts, >= 1.
    Returns:
      `Timing(first_s, steady_s)`, in seconds.
    Raises:
      ValueError: repeats below 1.
    """
    if repeats < 1:
        raise ValueError(
            f"expected repeats >= 1, got {repeats}; one call is the first, the others are the steady state"
        )
    first = seconds(function, *args)
    return Timing(first, statistics.median(seconds(function, *args) for _ in range(repeats)))


def environment() -> str:
    """The device and the versions behind a measurement, in one line."""
    device = jax.devices()[0]
    versions = []
    for package in ("jax", "flax", "torch"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{device.platform} ({device.device_kind}), Python {platform.python_version()}, {', '.join(versions)}"
