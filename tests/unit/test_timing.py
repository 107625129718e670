"""Timing separates the first call from the others and waits for results."""

import jax
import jax.numpy as jnp
import pytest

from course import timing
from course.timing import Timing, environment, measure, seconds


def test_the_first_call_and_the_later_ones_are_apart():
    calls = []
    result = measure(lambda: calls.append(1), repeats=3)
    assert isinstance(result, Timing) and len(calls) == 4
    assert result.first_s >= 0 and result.steady_s >= 0
    measure(lambda: calls.append(1))
    assert len(calls) == 4 + 6  # five by default


def test_results_of_any_kind_are_waited_for():
    assert seconds(jax.jit(lambda x: {"a": x @ x}), jnp.ones((50, 50))) > 0
    assert seconds(lambda: (1, "text", None)) > 0


def test_no_repeats_is_refused():
    with pytest.raises(ValueError, match="expected repeats >= 1, got 0"):
        measure(lambda: 1, repeats=0)


def test_the_environment_names_device_and_versions():
    line = environment()
    assert line.startswith("cpu") and f"jax {jax.__version__}" in line and "Python 3" in line


def test_of_several_devices_the_first_is_named_and_of_packages_those_there_are(monkeypatch):
    def version(package):
        if package == "flax":
            raise timing.PackageNotFoundError
        return "1.2"

    class Device:
        platform = "tpu"

        def __init__(self, kind):
            self.device_kind = kind

    monkeypatch.setattr(timing, "version", version)
    monkeypatch.setattr(timing.jax, "devices", lambda: [Device("one"), Device("other")])
    line = environment()
    assert line.startswith("tpu (one), Python 3") and line.endswith(", jax 1.2, torch 1.2")


def test_seconds_are_those_of_the_clock_and_the_median_counts(monkeypatch):
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 22.0, 30.0, 37.0])  # calls of 9, 1, 2 and 7 seconds
    monkeypatch.setattr("course.timing.perf_counter", lambda: next(ticks))
    assert measure(lambda: None, repeats=3) == Timing(first_s=9.0, steady_s=2.0)


def test_one_repeat_is_enough():
    calls = []
    measure(lambda: calls.append(1), repeats=1)
    assert len(calls) == 2


def test_a_result_is_waited_for():
    waited = []

    class Result:
        def block_until_ready(self):
            waited.append(self)
            return self

    seconds(lambda: {"a": Result()})
    assert len(waited) == 1
