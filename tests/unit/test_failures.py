"""Errors that lessons show: what is printed of them, and what is kept out."""

import jax
import jax.numpy as jnp
import pytest

from course.failures import fails, last_lines


def test_the_message_is_printed_with_its_type(capsys):
    with fails(TypeError):
        jnp.zeros(3)[0] = 9
    shown = capsys.readouterr().out
    assert shown.startswith("TypeError: JAX arrays are immutable") and ".at[" in shown


def test_a_block_that_does_not_fail_is_a_fault():
    with pytest.raises(AssertionError, match="expected TypeError or KeyError, got none"), fails(TypeError, KeyError):
        pass


def test_an_error_of_another_kind_goes_through():
    with pytest.raises(ValueError, match="abc"), fails(TypeError):
        int("abc")


def test_any_error_will_do_where_none_is_named(capsys):
    with fails():
        raise IndexError("list index out of range")
    assert capsys.readouterr().out == "IndexError: list index out of range\n"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no file /home/me/run/data.csv", "no file …/data.csv"),
        (r"no file C:\Users\me\data.csv", "no file …/data.csv"),
        ("at /tmp/ipykernel_123/456.py:5:2 for jit", "at this notebook for jit"),
        ("<function f at 0x7f0012345678>", "<function f>"),
        ("<Model object at 0x7f0012345678>", "<Model>"),
        ("BatchTracer with object id 140012345678912", "BatchTracer"),
        ("reachable through <list 140012345678912>", "reachable through <list>"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("see https://docs.jax.dev/en/latest/errors.html", "see https://docs.jax.dev/en/latest/errors.html"),
        ("a / b and 1/2 and x/y", "a / b and 1/2 and x/y"),
        ("bad\nException raised from f at x.cpp (most recent call first):\nframe #0: g", "bad"),
        ("bad\n--------------------\nFor simplicity, JAX has removed its internal frames", "bad"),
    ],
)
def test_paths_addresses_and_frames_are_left_out(message, shown):
    assert last_lines(ValueError(message)) == f"ValueError: {shown}"


def test_a_long_message_keeps_its_start_and_its_end():
    text = last_lines(ValueError("\n".join(f"line {n}" for n in range(20))), lines=5)
    assert text.splitlines() == ["ValueError: line 0", "line 1", "  …", "line 18", "line 19"]


def test_three_lines_are_the_first_two_and_a_sign_that_there_is_more():
    text = last_lines(ValueError("\n".join(f"line {n}" for n in range(20))), lines=3)
    assert text.splitlines() == ["ValueError: line 0", "line 1", "  …"]


def test_long_lines_are_wrapped():
    assert max(map(len, last_lines(ValueError("word " * 60)).splitlines())) <= 100


def test_a_tracers_error_names_the_function_and_no_path():
    def branch(x):
        return x if x > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        jax.jit(branch)(1.0)
    shown = last_lines(caught.value)
    assert "branch" in shown and "…/test_failures.py" in shown
