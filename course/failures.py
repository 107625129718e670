"""Errors that a lesson means to show: raised, caught, and printed so that they can be read. Needs nothing but Python.

Lesson: 00_start_here.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH = 100  # characters
NOISE = [
    (r"\x1b\[[0-9;]*m", ""),  # colours
    (r"(?m)^-{8,}\n?", ""),
    (r"(?m)^(For simplicity, JAX has removed|The stack trace below excludes|The preceding stack trace).*\n?", ""),
    (r"Exception raised from [\s\S]*", ""),  # torch's C++ frames
    (r"(\S*/ipykernel_\d+/\d+\.py|<ipython-input-[^>]+>)(:\d+(:\d+)?)?", "this notebook"),
    (r"(?<![\w/:.])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'\"]+[\\/])+([^\s\\/:'\"]+)", r"…/\1"),  # a path of this machine
    (r" with object id \d+", ""),
    (r" (object )?at 0x[0-9a-fA-F]+|(?<=\w) \d{12,}(?=>)|\bid(=|: ?)\d{9,}", ""),
]


@contextmanager
def fails(*kinds: type[BaseException], lines: int = 6) -> Iterator[None]:
    """Run a block that must fail, and print what a traceback would end with.

    Args:
      kinds: the errors that are expected; any Exception where none is named.
      lines: how many lines to print at most, >= 3; of a longer message, the first two and the last ones.
    Raises:
      AssertionError: the block did not fail. An error of another kind goes through.
    Example:
      >>> with fails(ZeroDivisionError):
      ...     1 / 0
      ZeroDivisionError: division by zero
    """
    expected = kinds or (Exception,)
    try:
        yield
    except expected as error:
        print(last_lines(error, lines))
    else:
        wanted = " or ".join(kind.__name__ for kind in kinds) or "an error"
        raise AssertionError(f"expected {wanted}, got none; the lesson's text no longer holds on these versions")


def last_lines(error: BaseException, lines: int = 6) -> str:
    """An error's type and message, without paths, addresses and colours, wrapped at 100 characters.

    Args:
      error: a caught exception.
      lines: how many lines at most, >= 3; of a longer message, the first two and the last ones.
    Returns:
      What a traceback would end with.
    Example:
      >>> last_lines(ValueError("no file /home/me/run/data.csv"))
      'ValueError: no file …/data.csv'
    """
    text = f"{type(error).__name__}: {error}"
    for pattern, instead in NOISE:
        text = re.sub(pattern, instead, text)
    wrapped = [
        row
        for line in text.splitlines()
        if line.strip()
        for row in textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    ]
    if len(wrapped) > lines:
        wrapped = [*wrapped[:2], "  …", *wrapped[len(wrapped) + 3 - lines :]]
    return "\n".join(wrapped)
