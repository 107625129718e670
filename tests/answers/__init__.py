"""Answers that learners give: wrong ones, each with the slip that the check must name, and right ones in other styles.

A module here holds those of one exercise notebook. `wrong(check, slip)` and `right(check)` register what they are
called with, as decorators of a function or class or with a value; several answers of one check go in as a tuple.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Kept:
    """One answer to one check; slip is what the message must say, and None where the answer is right."""

    check: str
    answer: tuple
    slip: str | None
    where: str


KEPT: list[Kept] = []


def wrong(check: str, slip: str) -> Callable[..., Any]:
    """Register a wrong answer: a part of the message that names its slip must come out."""
    if not slip:
        raise ValueError("expected a part of the message that names the slip, got nothing")
    return lambda *answers: _keep(check, answers, slip)


def right(check: str) -> Callable[..., Any]:
    """Register a right answer in another style than the solution's."""
    return lambda *answers: _keep(check, answers, None)


def _keep(check: str, answers: tuple, slip: str | None) -> Any:
    KEPT.append(Kept(check, answers, slip, getattr(answers[0], "__module__", "")))
    return answers[0]
