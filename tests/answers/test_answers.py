"""Every kept answer gets the verdict that it deserves: wrong ones for their reason, right ones in every style.

Run by `make test-exercises`.
"""

import importlib
from collections import Counter
from pathlib import Path

import pytest

from course import checks
from course.checks.core import REGISTRY
from tests.answers import KEPT

pytestmark = pytest.mark.filterwarnings("ignore")  # a wrong answer may well warn

for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
    if not path.name.startswith("test_"):
        importlib.import_module(f"tests.answers.{path.stem}")


def case(kept):
    """What is compiled for one check is compiled by one worker."""
    name = f"{kept.check}-{'right' if kept.slip is None else kept.slip}"
    return pytest.param(kept, id=name, marks=pytest.mark.xdist_group(kept.check))


@pytest.mark.parametrize("kept", [case(kept) for kept in KEPT if kept.slip])
def test_wrong_answer(kept):
    outcome = REGISTRY[kept.check].outcome(*kept.answer, seed=0)
    assert outcome.kind == "incorrect"
    assert kept.slip in outcome.message


@pytest.mark.parametrize("kept", [case(kept) for kept in KEPT if kept.slip is None])
def test_right_answer(kept):
    outcome = REGISTRY[kept.check].outcome(*kept.answer, seed=1)
    assert outcome.kind == "correct", outcome.message


@pytest.mark.parametrize("name", REGISTRY)
def test_enough_answers_are_kept(name):
    wrongs, rights = (Counter(k.check for k in KEPT if (k.slip is None) == sort)[name] for sort in (False, True))
    assert wrongs >= 5
    assert rights >= 2
    assert name in checks.__all__


@pytest.mark.parametrize("name", REGISTRY)
def test_an_answer_of_any_type_gets_an_outcome(name):
    one = REGISTRY[name]
    for odd in (None, 1, "x", b"", {}, [], object(), int, lambda *_: None, lambda: 1 / 0, float("nan"), print, exit):
        assert one.outcome(*[odd] * len(one.answers), seed=0).kind == "incorrect", odd
    assert one.outcome(*[...] * len(one.answers)).kind == "not attempted"
    assert one.outcome().kind == "incorrect"
