"""What every check is made of: outcomes, a guarded call of the answer, comparison by value. Needs NumPy and JAX.

A check never trusts the notebook: it draws its inputs anew, calls the answer under a time limit, uses libraries as they
were when the course was imported, and turns whatever the answer does into one of three outcomes.

Lesson: 00_start_here.
"""

from __future__ import annotations

import _thread
import inspect
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from course.checks import record, solutions
from course.failures import last_lines

LIMIT = 20.0  # seconds that one check may take
TODO = "your turn"  # what a stub raises: NotImplementedError(TODO)
ALARM = signal.SIGALRM if hasattr(signal, "SIGALRM") else None  # Windows has none
REGISTRY: dict[str, Check] = {}  # by name, in the order of the lessons

# learners overwrite names, of libraries too; a check runs with what they were
_TRUSTED: tuple[str, ...] = (
    "builtins",
    "numpy",
    "numpy.linalg",
    "numpy.random",
    "jax",
    "jax.numpy",
    "jax.lax",
    "jax.random",
    "jax.nn",
)
_TRUSTED += ("jax.tree", "jax.tree_util", "optax", "flax.nnx", "flax.linen", "torch", "torch.nn", "torch.nn.functional")
_ORIGINALS = {name: dict(vars(sys.modules[name])) for name in _TRUSTED if name in sys.modules}


class Incorrect(AssertionError):
    """An answer that a check refuses. Its text says expected, got and the likely slip."""

    def _render_traceback_(self) -> list[str]:  # what IPython prints in place of a traceback through this module
        return [f"incorrect: {self}"]


class NotAttempted(Exception):
    """The stub is still there."""


class _TimeUp(BaseException):
    """The time limit; no Exception, so that an answer's own `except Exception` lets it through."""


@dataclass(frozen=True)
class Outcome:
    """What a check came to: kind is "correct", "not attempted" or "incorrect"; message says why."""

    kind: str
    message: str


@dataclass
class Check:
    """One exercise's check: call it with the answer; ask it for a `hint()`, and in the end for the `solution()`."""

    judge: Callable[..., None]
    lesson: str
    hints: tuple[str, ...]
    points: int
    shown: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        return self.judge.__name__

    @property
    def answers(self) -> list[str]:
        """Names of the answers that the check takes, in order."""
        return list(inspect.signature(self.judge).parameters)[1:]

    def __repr__(self) -> str:
        return f"checks.{self.name}({', '.join(self.answers)}), .hint(), .solution(): {inspect.getdoc(self.judge)}"

    def __call__(self, *answers: Any, seed: int | None = None) -> None:
        """Check an answer and print the outcome.

        Args:
          answers: what the exercise asks for: a function, a class, a value.
          seed: the inputs' seed, to repeat a check; drawn anew where None.
        Raises:
          Incorrect: the answer is refused; expected, got and the likely slip are in the text.
        """
        outcome = self.outcome(*answers, seed=seed)
        record.keep(self.name, self.lesson, outcome.kind)
        if outcome.kind == "incorrect":
            raise Incorrect(outcome.message) from None
        print(outcome.message)

    def outcome(self, *answers: Any, seed: int | None = None) -> Outcome:
        """The same without printing, recording or raising: for whoever grades."""
        seed = random.SystemRandom().randrange(10**6) if seed is None else seed
        again = f"checks.{self.name}({', '.join(self.answers)}, seed={seed})"
        try:
            with _originals(), _global_state(), _time_limit(LIMIT):
                _require_answers(self.answers, answers)
                self.judge(np.random.default_rng(seed), *answers)
        except NotAttempted:
            return Outcome("not attempted", f"not attempted: {self.name}")
        except Incorrect as error:
            return Outcome("incorrect", f"{self.name}: {error}\n  repeat    {again}")
        except _TimeUp:
            return Outcome("incorrect", f"{self.name}: stopped after {LIMIT:.0f} seconds.\n{_row('likely', ENDLESS)}")
        except (Exception, SystemExit) as error:  # whatever an answer can make of a check's own lines
            text = "the check could not use the answer.\n" + _row("got", last_lines(error, 4))
            return Outcome("incorrect", f"{self.name}: {text}\n  repeat    {again}")
        return Outcome("correct", f"correct: {self.name}")

    def hint(self, number: int | None = None) -> None:
        """Print one hint: the next one, or that of a number, from 1 on."""
        if number is None:
            number = self.shown = min(self.shown + 1, len(self.hints))
        if not 1 <= number <= len(self.hints):
            raise ValueError(f"expected a hint from 1 to {len(self.hints)}, got {number}")
        print(f"hint {number} of {len(self.hints)}: {self.hints[number - 1]}")

    def solution(self) -> None:
        """Print the solution's cell, or that this release has none."""
        print(solutions.find(self.name, self.lesson) or "this release of the course comes without solutions")


def check(lesson: str, *hints: str, points: int = 1) -> Callable[[Callable[..., None]], Check]:
    """Make a check of a function `judge(rng, *answers)`, which raises where an answer is wrong.

    Args:
      lesson: stem of the lesson, or of the exercise notebook where it has no lesson.
      hints: two or more, from a nudge to the line that does it.
      points: what the exercise counts in a grade, >= 1.
    Raises:
      ValueError: the name is taken.
    """

    def make(judge: Callable[..., None]) -> Check:
        if judge.__name__ in REGISTRY:
            raise ValueError(f"expected a name of its own, got {judge.__name__}, of {REGISTRY[judge.__name__].lesson}")
        made = REGISTRY[judge.__name__] = Check(judge, lesson, hints, points)
        return made

    return make


def progress() -> None:
    """Print which exercises are done: each of this notebook, and how many of the course."""
    known: dict[str, list[str]] = {}
    for name, one in REGISTRY.items():
        known.setdefault(one.lesson, []).append(name)
    print(record.table({lesson: known[lesson] for lesson in sorted(known)}))


# --- what a judge is written with --------------------------------------------------------------------------


def wrong(text: str, *, expected: Any = None, got: Any = None, slip: str = "") -> NoReturn:
    """Refuse the answer.

    Args:
      text: what is wrong, a sentence.
      expected, got: shown with dtype and shape where they are arrays; left out where None.
      slip: the likely slip and its remedy.
    Raises:
      Incorrect: always.
    """
    rows = [text]
    rows += [_row("expected", describe(expected))] if expected is not None else []
    rows += [_row("got", describe(got))] if got is not None else []
    rows += [_row("likely", slip)] if slip else []
    raise Incorrect("\n".join(rows))


def function(answer: Any, usage: str, *, writes: bool = False) -> Callable[..., Any]:
    """The answer as a function that a judge can call: its errors become refusals, a stub "not attempted".

    Args:
      answer: what the learner handed in.
      usage: how it is called, for messages: "step(state, batch)".
      writes: whether it may change NumPy arrays and tensors that it is given.
    Raises:
      Incorrect: it is no function; later, in calls: it raised, or it changed an argument in place.
    """
    if not callable(answer):
        slip = "" if not hasattr(answer, "shape") else "hand in the function, not the result of calling it"
        wrong(f"expected a function {usage}.", got=answer, slip=slip)

    def call(*args: Any, **kwargs: Any) -> Any:
        before = [] if writes else _copies((args, kwargs))
        try:
            result = answer(*args, **kwargs)
        except NotImplementedError as error:
            if str(error) in ("", TODO):
                raise NotAttempted from None
            raised(error, usage)
        except (NotAttempted, Incorrect):
            raise
        except (Exception, SystemExit) as error:
            raised(error, usage)
        if result is ...:
            raise NotAttempted
        if any(not _equal(kept, now) for kept, now in zip(before, _copies((args, kwargs)), strict=False)):
            wrong(f"{usage} changed its argument.", slip="an in-place update; make a copy, or write x.at[i].set(v)")
        return result

    return call


def raised(error: BaseException, usage: str) -> NoReturn:
    """Refuse an answer that raised, with the end of its message and, for the commonest errors, what to do."""
    remedies = {
        "TracerBoolConversionError": "`if` on a traced value; use jnp.where or lax.cond",
        "TracerIntegerConversionError": "a traced value where Python needs an int; mark it static, or use lax",
        "TracerArrayConversionError": "NumPy inside a transformed function; use jnp",
        "ConcretizationTypeError": "a traced value where Python needs a number; mark it static, or use lax",
        "NonConcreteBooleanIndexError": "a boolean mask makes a shape that depends on values; use jnp.where",
        "UnexpectedTracerError": "a traced value was kept outside the function; return it",
        "RecursionError": "the function calls itself without an end",
    }
    text = str(error)
    slip = remedies.get(type(error).__name__, "")
    if "item assignment" in text:
        slip = "an in-place update; JAX arrays are immutable: x = x.at[i].set(v)"
    elif "positional argument" in text or "unexpected keyword argument" in text:
        slip = f"the arguments; it is called as {usage}"
    wrong(f"{usage} raised an error.", got=_Verbatim(last_lines(error, 5)), slip=slip)


def same(
    got: Any, expected: Any, what: str, *, rtol: float = 1e-5, atol: float = 1e-6,
    slips: Mapping[str, Any] | None = None, dtype: Any = None, exact_shape: bool = True,
) -> None:  # fmt: skip
    """Refuse a value that differs from the oracle's, and name the slip that leads to it.

    Args:
      got: the answer's value: an array of NumPy, JAX or torch, a number, or a tree (dict, list, tuple) of them.
      expected: the oracle's, of the same kinds.
      what: what is compared, for messages: "the loss of 5 examples".
      rtol, atol: |got - expected| <= atol + rtol * max|expected|, for each leaf.
      slips: what went wrong, as a sentence -> the value that it leads to (or a function that gives it).
      dtype: the dtype that got must have, where it matters.
      exact_shape: False takes (), (1,) and (n, 1) for one another.
    Raises:
      Incorrect: structure, shape, dtype or values differ.
    """
    oracle = _leaves(expected)
    if list(oracle) == [""] and isinstance(got, list | tuple) and all(isinstance(part, int | float) for part in got):
        got = np.asarray(got)
    given = _leaves(got)
    right = _close(given, oracle, rtol, atol)  # but for its dtype
    for text, value in ({} if right else slips or {}).items():
        try:
            value = value() if callable(value) else value
            other = _leaves(np.asarray(value) if list(oracle) == [""] and isinstance(value, list | tuple) else value)
        except Exception:  # this slip cannot be made for this input
            continue
        if not _close(other, oracle, rtol, atol) and _close(given, other, 10 * rtol, 10 * atol):
            wrong(f"{what} is not right.", expected=expected, got=got, slip=text)
    if given.keys() != oracle.keys():
        if got is None:
            wrong(f"{what} is None.", expected=expected, slip="a function without `return`")
        lacking, surplus = sorted(oracle.keys() - given.keys()), sorted(given.keys() - oracle.keys())
        named = {"without": lacking[:4], "with": surplus[:4]}
        parts = [
            f"{word} {', '.join(path or 'a value of its own' for path in paths)}"
            for word, paths in named.items()
            if paths
        ]
        wrong(f"{what} has another structure: {' and '.join(parts)}.", expected=expected, got=got)
    for path, reference in oracle.items():
        where = f"{what}{path and f', at {path}'}"
        _same_leaf(given[path], reference, where, rtol, atol, dtype, exact_shape)


def predicted(answer: Any, truth: Any, what: str, slips: Mapping[Any, str] | None = None) -> None:
    """Refuse a prediction (an int, a str, a bool, or a tuple of ints) without giving the truth away.

    Args:
      answer: the learner's; text is compared without regard to case and spaces around it.
      truth: measured by the check itself.
      what: what is predicted, for messages.
      slips: a wrong value -> how one comes to think so.
    Raises:
      Incorrect: another kind of value, or another value.
    """
    plain = _plain(answer)
    if type(plain) is not type(_plain(truth)):
        wrong(f"{what}: expected {type(truth).__name__}.", got=answer)
    if plain != _plain(truth):
        known = {_plain(value): text for value, text in (slips or {}).items()}
        slip = known.get(plain, "run the code that the exercise shows, and print at each step")
        wrong(f"{what}: not what happens.", got=answer, slip=slip)


def keyed(answer: Any, keys: Iterable[Any]) -> None:
    """Refuse what is not a dict with exactly these keys."""
    keys = list(keys)
    if not isinstance(answer, dict) or set(answer) != set(keys):
        got = _Verbatim(", ".join(map(str, answer))[:200]) if type(answer) is dict else answer
        wrong(f"expected a dict with the keys {', '.join(map(str, keys))}.", got=got)


def predicted_parts(
    answer: Any, truth: Mapping[Any, Any], slips: Mapping[Any, Mapping[Any, str]] | None = None, what: str = "{}"
) -> None:
    """Refuse a dict of predictions that lacks a part, or has one that is wrong; see `predicted`.

    Args:
      answer: the learner's.
      truth: part -> what happens, measured by the check itself.
      slips: part -> its slips.
      what: how a part is called in messages; its key replaces the braces.
    """
    keyed(answer, truth)
    for name, value in truth.items():
        predicted(answer[name], value, what.format(name), (slips or {}).get(name))


def operations(f: Callable[..., Any], *args: Any) -> Counter[str]:
    """How often each primitive stands in the jaxpr of f at args, inner jaxprs included."""
    counts: Counter[str] = Counter()
    waiting = [jax.make_jaxpr(f)(*args).jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            counts[equation.primitive.name] += 1
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
                inner = getattr(value, "jaxpr", value)
                waiting += [inner] if hasattr(inner, "eqns") else []
    return counts


@contextmanager
def float64() -> Iterator[None]:
    """JAX with 64-bit types inside the block, and afterwards as it was."""
    before = jnp.result_type(float) == jnp.float64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def describe(value: Any, limit: int = 200) -> str:
    """A value in a line or two: dtype, shape and the first numbers of an array, the shapes of a tree."""
    if isinstance(value, _Verbatim):
        return value.text
    try:
        leaves = _leaves(value)
        if list(leaves) == [""]:
            return _describe_array(leaves[""]) if not isinstance(value, str) else repr(value)[:limit]
        rows = [f"{path} {_describe_array(leaf)}" for path, leaf in list(leaves.items())[:4]]
        return f"{type(value).__name__} of " + ", ".join(rows) + (", …" if len(leaves) > 4 else "")
    except Exception:  # an answer may be anything, and its repr may fail too
        return f"a {type(value).__name__}"


# --- inside ------------------------------------------------------------------------------------------------

ENDLESS = "a loop without an end, or one that runs in Python where a compiled one is asked for"


@dataclass(frozen=True)
class _Verbatim:
    text: str


def _row(name: str, text: str) -> str:
    return f"  {name:<9} " + text.replace("\n", "\n" + " " * 12)


def _require_answers(names: list[str], answers: tuple[Any, ...]) -> None:
    """As many answers as the check takes, and none of them a stub."""
    if len(answers) != len(names):
        wrong(f"expected {len(names)} answers, ({', '.join(names)}), got {len(answers)}.")
    for name, answer in zip(names, answers, strict=True):
        if answer is ...:
            raise NotAttempted
        if type(answer) in (dict, list, tuple) and answer:
            parts = answer.items() if isinstance(answer, dict) else enumerate(answer)
            blank = [key for key, part in parts if part is ...]
            if len(blank) == len(answer):
                raise NotAttempted
            if blank:
                wrong(f"{name} is filled in only in part; still `...`: {', '.join(map(str, blank))}.")


def _plain(value: Any) -> Any:
    """A prediction without its wrapping: np.int64(3) is 3, " Yes" is "yes", [1, 2] is (1, 2)."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, list | tuple):
        return tuple(_plain(part) for part in value)
    if isinstance(value, dict):
        return tuple((_plain(key), _plain(part)) for key, part in value.items())
    if isinstance(value, np.generic) or (isinstance(value, jax.Array) and value.ndim == 0):
        return value.item()
    return value


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    """Path -> leaf as a NumPy array; a single array has the path ''."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: leaf is None)
    return {jax.tree_util.keystr(path): _as_array(leaf) for path, leaf in pairs if leaf is not None}


def _as_array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.core.Tracer):
        wrong("a traced value has left the function that was traced.", slip="a tracer kept in a list or a global")
    if hasattr(leaf, "detach"):
        leaf = leaf.detach().cpu().numpy()
    array = np.asarray(leaf)
    if array.dtype == object:
        wrong("expected numbers in an array.", got=_Verbatim(f"a {type(leaf).__name__}"))
    return array


def _describe_array(array: np.ndarray) -> str:
    if array.dtype.kind not in "biufc" and array.dtype.itemsize > 2:
        return f"{array.dtype} {array.tolist()}"[:200]
    shown = np.array2string(array.reshape(-1)[:6], precision=5, separator=" ", suppress_small=False)
    return f"{array.dtype} {array.shape} {shown}{' …' if array.size > 6 else ''}"


def _close(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rtol: float, atol: float) -> bool:
    return a.keys() == b.keys() and all(
        a[path].shape == b[path].shape and _off(a[path], b[path]) <= atol + rtol * _size(b[path]) for path in a
    )


def _off(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference; infinite where only one of the two is NaN or infinite, or they are no numbers."""
    if a.dtype.kind in "USO" or b.dtype.kind in "USO":
        return 0.0 if a.shape == b.shape and (a == b).all() else np.inf
    a, b = np.atleast_1d(_wide(a)), np.atleast_1d(_wide(b))
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        apart = np.where(alike, 0.0, np.abs(a - b))
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


def _size(a: np.ndarray) -> float:
    if a.dtype.kind in "USO":
        return 0.0
    a = np.abs(_wide(a))
    return float(np.max(a, initial=0.0, where=np.isfinite(a)))


def _wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)


def _same_leaf(
    got: np.ndarray, expected: np.ndarray, where: str, rtol: float, atol: float, dtype: Any, exact_shape: bool
) -> None:
    if got.shape != expected.shape and not exact_shape and got.size == expected.size:
        got = got.reshape(expected.shape)
    if got.shape != expected.shape:
        slip = ""
        if got.shape == expected.shape[::-1]:
            slip = "the transpose: two axes are swapped"
        elif got.size == expected.size:
            slip = "an axis too many, or too few: the number of values is right"
        elif expected.shape == ():
            slip = "a reduction is missing"
        elif got.shape == ():
            slip = "a reduction too many"
        wrong(f"{where} has another shape.", expected=expected, got=got, slip=slip)
    if dtype is not None and got.dtype != np.dtype(dtype):
        slip = "float32 where float64 is due" if got.dtype == np.float32 and np.dtype(dtype) == np.float64 else ""
        wrong(f"{where} has another dtype: {got.dtype}, not {np.dtype(dtype)}.", expected=expected, got=got, slip=slip)
    if _off(got, expected) <= atol + rtol * _size(expected):
        return
    slip = ""
    if got.dtype.kind in "fc" and not np.isfinite(_wide(got)).all() and np.isfinite(_wide(expected)).all():
        slip = "nan or inf: a division by zero, a log of zero, or a step that is too long"
    elif got.dtype.kind in "biufc" and expected.dtype.kind in "biufc" and _size(got) > 0 and _size(expected) > 0:
        with np.errstate(all="ignore"):
            ratio = float(np.vdot(_wide(expected), _wide(got)).real / np.vdot(_wide(expected), _wide(expected)).real)
            proportional = _off(_wide(got), ratio * _wide(expected)) <= 1e-3 * _size(got)
        if proportional:
            slip = "the sign" if abs(ratio + 1) < 1e-3 else f"a factor: got is expected times {ratio:.4g}"
            slip = "" if abs(ratio - 1) < 1e-3 else slip
    wrong(f"{where} is not right.", expected=expected, got=got, slip=slip)


def _copies(tree: Any) -> list[np.ndarray]:
    """Copies of the arrays in a tree that can be written to: NumPy's, and torch's."""
    leaves = jax.tree.leaves(tree)
    kept = [leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else leaf for leaf in leaves]
    return [leaf.copy() for leaf in kept if isinstance(leaf, np.ndarray)]


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and (a.tobytes() == b.tobytes())


@contextmanager
def _originals() -> Iterator[None]:
    """Libraries as they were when the course was imported: a learner may have overwritten `jnp.sum`."""
    changed = {
        (name, key): vars(sys.modules[name])[key]
        for name, kept in _ORIGINALS.items()
        for key, value in kept.items()
        if not key.startswith("_") and vars(sys.modules[name]).get(key, value) is not value
    }
    for name, key in changed:
        setattr(sys.modules[name], key, _ORIGINALS[name][key])
    try:
        yield
    finally:
        for (name, key), value in changed.items():
            setattr(sys.modules[name], key, value)


@contextmanager
def _global_state() -> Iterator[None]:
    """Torch as a check needs it, recording gradients in float32, and afterwards as the learner left it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _TimeUp in a block that takes longer, and again every second, should it be caught.

    Where the machine is busy with other things, a block may take up to five times as long. Only the main thread can be
    interrupted, and only Python: a loop inside a compiled program runs on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    begun, worked = time.monotonic(), time.process_time()
    done, fired = threading.Event(), threading.Event()

    def stop(*_: Any) -> None:
        own_time = time.process_time() - worked > seconds / 2  # on a busy machine the rest was not this check's
        if not own_time and time.monotonic() - begun < 5 * seconds:
            return
        fired.set()
        if ALARM is not None:
            raise _TimeUp
        _thread.interrupt_main()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            stop()
            wait = 1.0

    if ALARM is None:
        number, before = signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored
        threading.Thread(target=watch, daemon=True).start()
    else:
        number, before = ALARM, signal.signal(ALARM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    except KeyboardInterrupt:
        if fired.is_set():
            raise _TimeUp from None
        raise
    finally:
        if ALARM is None:
            done.set()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)
