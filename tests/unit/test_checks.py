"""The frame around every check: outcomes, refusals with their reasons, progress, hints and solutions.

The checks of the exercises themselves are tried on kept answers, in tests/answers.
"""

import json
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course.checks import core, record, solutions
from course.checks.core import Check, Incorrect, function, operations, predicted, same, wrong


def made(judge, *hints):
    return Check(judge, "00_lesson", hints, 1)


def doubled(rng, answer):
    x = rng.normal(size=4)
    same(function(answer, "f(x)")(x), 2 * x, "2 x", slips={"x, not 2 x": x})


DOUBLED = made(doubled, "add", "x + x")


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", "")
    monkeypatch.setattr(record, "SESSION", {})


class Hostile:
    """An object that fails at everything one may ask of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None

    def __repr__(self):
        raise RuntimeError("repr")

    def __array__(self, *_, **__):
        raise RuntimeError("array")


def stub(x):
    raise NotImplementedError("your turn")


@pytest.mark.parametrize("answer", [stub, ..., lambda x: ..., lambda x: stub(x)])
def test_a_stub_is_not_attempted(answer, capsys):
    DOUBLED(answer)
    assert capsys.readouterr().out == "not attempted: doubled\n"


def test_a_right_answer_is_correct(capsys):
    DOUBLED(lambda x: x + x)
    assert capsys.readouterr().out == "correct: doubled\n"


def test_a_wrong_answer_raises_with_expected_got_slip_and_seed():
    with pytest.raises(Incorrect) as caught:
        DOUBLED(lambda x: x, seed=3)
    text = str(caught.value)
    assert text.startswith("doubled: 2 x is not right.\n  expected  float64 (4,) [")
    assert "\n  got       float64 (4,) [" in text
    assert "\n  likely    x, not 2 x\n" in text
    assert text.endswith("\n  repeat    checks.doubled(answer, seed=3)")
    assert caught.value._render_traceback_() == [f"incorrect: {text}"]


def test_the_seed_repeats_the_inputs():
    assert DOUBLED.outcome(lambda x: x, seed=5) == DOUBLED.outcome(lambda x: x, seed=5)
    assert DOUBLED.outcome(lambda x: x, seed=5) != DOUBLED.outcome(lambda x: x, seed=6)


@pytest.mark.parametrize(
    "answer",
    [None, 0, "x", b"x", {}, [], set(), object(), Hostile(), int, print, exit, type, np.zeros(3), jnp.zeros(3),
     lambda: 1, lambda x: 1 / 0, lambda x: Hostile(), lambda x: object(), lambda x: {"a": None}, lambda x: [x, [x]],
     lambda x: "text", lambda x: jax.random.key(0), lambda x: x.astype(str), lambda x: (yield x), 1j, iter([1])],
    ids=lambda answer: type(answer).__name__,
)  # fmt: skip
def test_no_answer_breaks_a_check(answer):
    outcome = DOUBLED.outcome(answer, seed=0)
    assert outcome.kind == "incorrect"
    assert "doubled: " in outcome.message


def test_a_number_of_answers_that_is_wrong_is_said():
    assert "expected 1 answers, (answer), got 2" in DOUBLED.outcome(stub, stub).message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: np.negative(2 * x), "the sign"),
        (lambda x: x / 2, "a factor: got is expected times 0.25"),
        (lambda x: (2 * x)[None], "an axis too many"),
        (lambda x: (2 * x).sum(), "a reduction too many"),
        (lambda x: 2 * x * np.nan, "nan or inf"),
        (lambda x: None, "a function without `return`"),
        (lambda x: {"y": 2 * x}, "without a value of its own and with ['y']"),
        (lambda x, y: x, "it is called as f(x)"),
        (lambda x: jnp.asarray(x).__setitem__(0, 1.0), "x = x.at[i].set(v)"),
        (lambda x: jax.jit(lambda x: x if x[0] > 0 else -x)(x), "use jnp.where or lax.cond"),
        (lambda x: jax.jit(lambda x: np.sin(x))(x), "NumPy inside a transformed function"),
        (lambda x: 2 * np.sort(x), ""),
    ],
)
def test_common_slips_are_named(answer, said):
    assert said in DOUBLED.outcome(answer, seed=1).message


def test_the_transpose_and_the_dtype_are_named():
    with pytest.raises(Incorrect, match="two axes are swapped"):
        same(np.zeros((2, 3)), np.zeros((3, 2)), "m")
    with pytest.raises(Incorrect, match="float32 where float64 is due"):
        same(np.zeros(2, "f"), np.zeros(2), "m", dtype=np.float64)
    with pytest.raises(Incorrect, match="a reduction is missing"):
        same(np.zeros(2), np.zeros(()), "m")


def test_an_argument_that_is_changed_is_noticed():
    def in_place(x):
        x *= 2
        return x

    assert "changed its argument" in DOUBLED.outcome(in_place, seed=0).message
    call = function(in_place, "f(x)", writes=True)
    assert call(np.ones(2)).tolist() == [2, 2]


def test_an_error_of_jax_about_what_it_lacks_is_no_stub():
    def lacking(x):
        raise NotImplementedError("Differentiation rule for 'x' not implemented")

    outcome = DOUBLED.outcome(lacking, seed=0)
    assert outcome.kind == "incorrect"
    assert "Differentiation rule" in outcome.message


def test_trees_lists_and_optional_shapes():
    same([1.0, 2.0], np.array([1.0, 2.0]), "a list")
    same({"a": (1, 2)}, {"a": [1, 2]}, "a tree")
    same(np.ones((3, 1)), np.ones(3), "a column", exact_shape=False)
    with pytest.raises(Incorrect, match=r"a tree has another structure: without \['b'\] and with \['c'\]"):
        same({"a": 1, "c": 1}, {"a": 1, "b": 1}, "a tree")
    with pytest.raises(Incorrect, match=r"a tree, at \['a'\] is not right"):
        same({"a": 1, "b": 1}, {"a": 2, "b": 1}, "a tree")


def test_infinities_and_nan_compare_as_values():
    same(np.array([np.inf, np.nan, 1]), np.array([np.inf, np.nan, 1]), "v")
    with pytest.raises(Incorrect):
        same(np.array([np.inf, 1.0]), np.array([-np.inf, 1.0]), "v")


def test_a_slip_that_cannot_be_computed_is_passed_over():
    with pytest.raises(Incorrect, match="the second"):
        same(3.0, 1.0, "n", slips={"the first": lambda: 1 / 0, "the second": lambda: 3.0})


def test_a_slip_that_is_near_the_truth_does_not_refuse_it():
    same(1.0, 1.0, "n", slips={"no slip": 1.0})
    same(1.0, 1.0, "n", slips={"near": 1.0 + 5e-6}, rtol=1e-6)


def test_a_slip_may_be_a_list():
    with pytest.raises(Incorrect, match="in reverse"):
        same(np.array([2.0, 1.0]), np.array([1.0, 2.0]), "a pair", slips={"in reverse": [2.0, 1.0]})


def test_a_dict_of_predictions_is_looked_at_part_by_part():
    truth = {"a": 1, "b": "x"}
    core.predicted_parts({"b": "X", "a": 1}, truth)
    for answer in ({"a": 1}, {"a": 1, "b": "x", "c": 2}, [1, "x"], None):
        with pytest.raises(Incorrect, match="expected a dict with the keys a, b"):
            core.predicted_parts(answer, truth)
    with pytest.raises(Incorrect, match=r"part a: not what happens\.(.|\n)*two too many"):
        core.predicted_parts({"a": 3, "b": "x"}, truth, {"a": {3: "two too many"}}, "part {}")


def test_predictions_do_not_give_the_truth_away():
    predicted(" Float32 ", "float32", "the dtype")
    predicted([3, np.int64(2)], (3, 2), "the shape")
    with pytest.raises(Incorrect, match="the cache is forgotten") as caught:
        predicted(7, 12345, "the count", slips={7: "the cache is forgotten"})
    assert "12345" not in str(caught.value)
    for other in (True, 1.0, "1", None, (1,)):
        with pytest.raises(Incorrect, match="expected int"):
            predicted(other, 1, "the count")


def test_blanks_in_a_collection():
    quiz = made(lambda rng, answer: None)
    assert quiz.outcome({"a": ..., "b": ...}).kind == "not attempted"
    assert "still `...`: b" in quiz.outcome({"a": 1, "b": ...}).message
    assert quiz.outcome({"a": 1}).kind == "correct"


def test_operations_counts_inside_loops_and_branches():
    def f(x):
        y, _ = jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=3)
        return jax.lax.cond(y > 0, jnp.cos, jax.jit(jnp.tan), y)

    counts = operations(f, 1.0)
    assert [counts[name] for name in ("scan", "sin", "cos", "tan", "exp")] == [1, 1, 1, 1, 0]


def test_float64_is_left_as_it_was():
    before = jnp.ones(()).dtype
    with core.float64():
        assert jnp.ones(()).dtype == jnp.float64
    assert jnp.ones(()).dtype == before


def endless(x):
    while True:
        pass


def endless_and_stubborn(x):
    while True:
        try:
            while True:
                pass
        except BaseException:
            time.perf_counter()
            if len(CAUGHT) < 1:
                CAUGHT.append(1)
                continue
            raise


CAUGHT: list[int] = []


@pytest.mark.parametrize("answer", [endless, endless_and_stubborn])
def test_an_endless_loop_is_stopped(answer, monkeypatch):
    monkeypatch.setattr(core, "LIMIT", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    outcome = DOUBLED.outcome(answer)
    assert outcome.kind == "incorrect"
    assert "a loop without an end" in outcome.message
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_slow_answer_on_a_busy_machine_is_not_stopped(monkeypatch):
    """Time that other processes took is not the answer's; a wait without an end is."""
    monkeypatch.setattr(core, "LIMIT", 0.2)
    waiting = threading.Event()

    def slow(x):
        waiting.wait(0.4)
        return 2 * x

    def asleep(x):
        waiting.wait()

    assert DOUBLED.outcome(slow).kind == "correct"
    assert "a loop without an end" in DOUBLED.outcome(asleep).message


def test_an_endless_loop_is_stopped_without_alarms(monkeypatch):
    monkeypatch.setattr(core, "LIMIT", 0.2)
    monkeypatch.setattr(core, "ALARM", None)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background
    try:
        assert "a loop without an end" in DOUBLED.outcome(endless).message
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_keyboard_interrupt_reaches_the_learner():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DOUBLED(interrupted)


def test_overwritten_names_of_libraries_do_not_matter(monkeypatch):
    """`jax.hessian = mine` in a notebook changes neither the oracle nor what is there afterwards."""

    def hessian(rng, answer):
        same(answer, jax.hessian(lambda x: x**2)(1.0), "the second derivative")

    def mine(f):
        return lambda x: 7.0

    monkeypatch.setattr(jax, "hessian", mine)
    monkeypatch.setattr(np, "abs", None)
    assert made(hessian).outcome(2.0).kind == "correct"
    assert made(hessian).outcome(7.0).kind == "incorrect"
    assert jax.hessian is mine


def test_hints_are_numbered_and_end(capsys):
    for _ in range(3):
        DOUBLED.hint()
    DOUBLED.hint(1)
    numbers = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert numbers == ["hint 1 of 2", "hint 2 of 2", "hint 2 of 2", "hint 1 of 2"]
    with pytest.raises(ValueError, match="expected a hint from 1 to 2, got 3"):
        DOUBLED.hint(3)


def test_a_check_says_how_it_is_used():
    assert repr(DOUBLED).startswith("checks.doubled(answer), .hint(), .solution()")


def notebook(*cells):
    kinds = {"s": ("code", ["solution"]), "c": ("code", []), "m": ("markdown", [])}
    return json.dumps(
        {
            "cells": [
                {"cell_type": kinds[k][0], "metadata": {"tags": kinds[k][1]}, "source": text.splitlines(True)}
                for k, text in cells
            ]
        }
    )


def test_solutions_are_looked_up(tmp_path):
    cells = [("m", "## One"), ("s", "a = 1\nb = 2"), ("c", "checks.one(a)"), ("m", "## Two"), ("c", "checks.two(b)")]
    (tmp_path / "00_lesson.ipynb").write_text(notebook(*cells), "utf-8")
    assert solutions.find("one", "00_lesson", tmp_path) == "a = 1\nb = 2"
    assert solutions.find("two", "00_lesson", tmp_path) is None
    assert solutions.find("three", "00_lesson", tmp_path) is None
    assert solutions.find("one", "01_lesson", tmp_path) is None


def test_a_release_without_solutions_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(solutions.find, "__defaults__", (tmp_path,))
    DOUBLED.solution()
    assert capsys.readouterr().out == "this release of the course comes without solutions\n"


class TestProgress:
    @pytest.fixture
    def file(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "deep" / "progress.json"))
        return tmp_path / "deep" / "progress.json"

    def test_what_was_correct_stays_so(self, file):
        for kind in ("not attempted", "correct", "incorrect"):
            record.keep("one", "00_lesson", kind)
        record.keep("two", "00_lesson", "incorrect")
        assert json.loads(file.read_text("utf-8")) == {"00_lesson": {"one": "correct", "two": "incorrect"}}

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"00_lesson": 3}', "\x00"])
    def test_a_broken_file_counts_as_none(self, file, content):
        file.parent.mkdir()
        file.write_text(content, "utf-8")
        record.keep("one", "00_lesson", "correct")
        assert record.load() == {"00_lesson": {"one": "correct"}}

    def test_where_nothing_can_be_written_the_check_goes_on(self, monkeypatch, tmp_path, capsys):
        (tmp_path / "plain").write_text("", "utf-8")
        monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "plain" / "progress.json"))
        DOUBLED(lambda x: 2 * x)
        assert capsys.readouterr().out == "correct: doubled\n"

    def test_where_the_file_is(self, monkeypatch, tmp_path):
        monkeypatch.delenv("COURSE_PROGRESS")
        monkeypatch.setattr(record, "ROOT", tmp_path / "course")
        places = {"course/notebooks/exercises": "course/work", "elsewhere": "elsewhere"}
        for folder, expected in places.items():
            (tmp_path / folder).mkdir(parents=True)
            monkeypatch.chdir(tmp_path / folder)
            assert record.path() == tmp_path / expected / "progress.json"
        (tmp_path / "course/notebooks/solutions").mkdir()
        monkeypatch.chdir(tmp_path / "course/notebooks/solutions")
        assert record.path() is None

    def test_the_table(self, file):
        record.keep("one", "00_lesson", "correct")
        record.keep("two", "00_lesson", "not attempted")
        known = {"00_lesson": ["one", "two", "three"], "01_lesson": ["four"]}
        assert record.table(known).splitlines() == [
            "one         correct",
            "two         not attempted",
            "three       ",
            "",
            "lesson      correct  of",
            "00_lesson         1   3",
            "the course        1   4",
        ]


def test_wrong_says_what_it_is_given():
    with pytest.raises(Incorrect, match=r"^no\.\n  expected  int64 \(\) \[1\]\n  got       'x'\n  likely    a slip$"):
        wrong("no.", expected=1, got="x", slip="a slip")
