"""Checks of the exercises on tracing: what is frozen, state as an argument, a loop that data end. Needs NumPy and JAX.

Lesson: 08_tracing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, keyed, operations, predicted, same, wrong

LESSON = "08_tracing"


@check(
    LESSON,
    "The body of `step` runs in Python once for each new type of its argument, and not otherwise.",
    "The global is read while Python runs the body. Which of the calls make it run, and what is `scale` then?",
    "Calls 1, 3 and 4 trace; call 2 finds a program that was made when `scale` was 3.",
    points=2,
)
def frozen_values(rng: np.random.Generator, frozen: Any) -> None:
    """What four calls of an impure function return, and how often its Python ran; the check runs them."""
    keys = ("a", "b", "c", "d", "entries", "kind")
    keyed(frozen, keys)
    log: list[jax.Array] = []
    scale = 3.0

    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        log.append(x)
        return scale * x.sum()

    values = {"a": float(step(jnp.ones(4)))}
    scale = 5.0
    values |= {"b": float(step(jnp.ones(4))), "c": float(step(jnp.ones((2, 2))))}
    scale = 7.0
    values |= {"d": float(step(jnp.ones(4, jnp.int32)))}
    slips = {
        "a": {4.0: "`scale` was 3 when the call traced"},
        "b": {20.0: "the new value of the global: but the program was made before, and a global is no part of the key"},
        "c": {
            12.0: "the old value: a new shape is a new key, so the body ran again and read the global as it was then"
        },
        "d": {
            12.0: "the first value: a new dtype is a new key, so the body ran again",
            20.0: "the second value: a new dtype is a new key, so the body ran again",
        },
    }
    for name, value in values.items():
        given = frozen[name]
        if isinstance(given, int) and not isinstance(given, bool):
            given = float(given)
        predicted(given, value, f"call {name}", slips[name])
    predicted(
        frozen["entries"], len(log), "the entries of the log",
        {4: "one a call: the append is Python, and Python runs only while tracing",
         1: "one in all: each new shape and each new dtype is traced",
         2: "one for each shape: a dtype is a part of the key too"},
    )  # fmt: skip
    predicted(
        frozen["kind"], "tracer" if isinstance(log[0], jax.core.Tracer) else "array", "the kind of a log's entry",
        {"array": "what the body sees is a stand-in: a shape and a dtype, and no values"},
    )  # fmt: skip


def _standardise(rows: np.ndarray, slip: str = "") -> list[np.ndarray]:
    """The outputs of PyTorch's class in float64, or with one slip."""
    count, mean, m2, out = 0, np.zeros(rows.shape[1]), np.zeros(rows.shape[1]), []
    for row in rows.astype(np.float64):
        count += 1
        delta = row - mean
        mean = mean + delta / count
        later = delta if slip == "old mean" else row - mean
        m2 = m2 + (later * later if slip == "new mean" else delta * later)
        divisor = count if slip == "biased" else count - 1
        shift = delta if slip == "shift" else row - mean
        out.append(shift if count < 2 else shift / np.sqrt(m2 / divisor))
        if slip == "no state":
            count, mean, m2 = 0, 0 * mean, 0 * m2
    return out


@check(
    LESSON,
    "What the object remembers is a dict that comes in, and a new dict that goes out.",
    "`if` cannot ask a traced count; both results are arrays, so jnp.where can choose.",
    "Do not write into the dict that comes in: return {'count': count, 'mean': mean, 'm2': m2}, row.",
    points=3,
)
def standardised_stream(rng: np.random.Generator, standardise: Any) -> None:
    """A running standardisation as a pure function, jitted, row by row against the class in PyTorch."""
    import torch

    answer = function(standardise, "standardise(state, row)")
    for d in rng.integers(2, 6, 2):
        rows = (rng.normal(size=(6, d)) * rng.uniform(0.5, 3, d) + rng.normal(size=d)).astype("f")
        expected: list[np.ndarray] = []
        traces: list[int] = []
        mean, m2 = torch.zeros(d), torch.zeros(d)
        for count, row in enumerate(torch.tensor(rows), 1):
            delta = row - mean
            mean += delta / count
            m2 += delta * (row - mean)
            expected.append(((row - mean) / (1.0 if count < 2 else (m2 / (count - 1)).sqrt())).numpy())

        def traced(state: Any, row: jax.Array, traces: list[int] = traces) -> Any:
            traces.append(1)
            before = list(state.values())
            result = answer(state, row)
            if any(kept is not now for kept, now in zip(before, state.values(), strict=False)):
                wrong(
                    "standardise(state, row) changed the dict `state` that it was given.",
                    slip="a side effect: make a new dict and return it",
                )
            return result

        step = jax.jit(traced)
        state: Any = {
            "count": jnp.zeros((), jnp.int32), "mean": jnp.zeros(d, jnp.float32), "m2": jnp.zeros(d, jnp.float32)
        }  # fmt: skip
        slips = {
            "the state is not carried on: count, mean and m2 that go out must hold the new row": "no state",
            "m2 takes row - mean twice, with the old mean: once with the old, once with the new": "old mean",
            "m2 takes row - mean twice, with the new mean: once with the old, once with the new": "new mean",
            "a division by count; the class divides by count - 1": "biased",
            "the row is shifted by the old mean; the class shifts by the new one": "shift",
        }
        outs = []
        for row in rows:
            result = step(state, jnp.asarray(row))
            if not isinstance(result, tuple | list) or len(result) != 2:
                wrong("expected two results, (state, row).", got=result, slip="the state is lost: return it, too")
            state, out = result
            if not isinstance(state, dict) or set(state) != {"count", "mean", "m2"}:
                wrong(
                    "the first result must be a dict with count, mean and m2.", got=state,
                    slip="the order of the two results: the state comes first",
                )  # fmt: skip
            outs.append(out)
        same(
            dict(enumerate(outs)), dict(enumerate(expected)), f"a stream of {len(rows)} rows", rtol=1e-4, atol=1e-5,
            slips={text: dict(enumerate(_standardise(rows, kind))) for text, kind in slips.items()},
        )  # fmt: skip
        same(state["count"], np.int32(len(rows)), "the count at the end")
        same({"mean": state["mean"], "m2": state["m2"]}, {"mean": mean.numpy(), "m2": m2.numpy()},
             "the state at the end", rtol=1e-4, atol=1e-5)  # fmt: skip
        if len(traces) > 1:
            wrong(
                f"standardise was traced {len(traces)} times for rows of one shape.",
                slip="the state comes out with another dtype or shape than it went in",
            )


def _growth(a: np.ndarray, tol: float) -> list[float]:
    """Rayleigh quotients of power iteration, until they change by no more than tol, in float64."""
    a = a.astype(np.float64)
    v = np.ones(len(a)) / len(a) ** 0.5
    values = [v @ a @ v]
    while len(values) < 2 or abs(values[-1] - values[-2]) > tol * abs(values[-1]):
        v = a @ v
        v = v / np.linalg.norm(v)
        values.append(v @ a @ v)
    return values


@check(
    LESSON,
    "How many turns there are depends on values, so neither a Python loop nor a fixed count will do.",
    "lax.while_loop(go_on, turn, carry): go_on and turn take the whole carry, here (v, old, value, turns).",
    "Begin with old = inf: then the condition holds before the first turn, as it does in PyTorch.",
    "def go_on(carry): _, old, value, _ = carry; return jnp.abs(value - old) > tol * jnp.abs(value)",
    points=3,
)
def power_iteration(rng: np.random.Generator, power_iteration: Any) -> None:
    """The largest eigenvalue and the number of turns under jit, for several tolerances, in one program a shape."""
    import torch

    answer = function(power_iteration, "power_iteration(a, tol)")
    traces: list[int] = []

    def traced(a: jax.Array, tol: jax.Array) -> Any:
        traces.append(1)
        return answer(a, tol)

    jitted, n, cases = jax.jit(traced), int(rng.integers(4, 8)), 0
    while cases < 2:
        q = np.linalg.qr(rng.normal(size=(n, n)))[0]
        a = ((q * np.linspace(1, rng.uniform(0.1, 0.3), n)) @ q.T * rng.uniform(0.05, 0.2)).astype("f")
        tol = float(np.float32(10 ** rng.uniform(-4, -3)))
        values = _growth(a, tol)
        steps = np.abs(np.diff(values)) / np.abs(values[1:])
        if not 4 <= len(steps) < 90 or np.abs(np.log(steps / tol)).min() < 0.05 or steps.min() < 1e-5:
            continue  # too few turns to tell apart, or one whose end hangs on rounding
        absolute = 1 + int(np.argmax(np.abs(np.diff(values)) <= tol))
        if not 1 < absolute < len(steps) - 1:
            continue
        cases += 1
        if cases == 1:  # in Python first: a loop without an end can be stopped there, in a compiled program it cannot
            with jax.disable_jit():
                answer(jnp.asarray(a), jnp.float32(tol))
        matrix, v = torch.tensor(a), torch.ones(n) / n**0.5
        old, value, turns = torch.tensor(float("inf")), v @ matrix @ v, 0
        while abs(value - old) > tol * abs(value):
            v = matrix @ v
            v = v / v.norm()
            old, value, turns = value, v @ matrix @ v, turns + 1
        result = jitted(jnp.asarray(a), jnp.float32(tol))
        if not isinstance(result, tuple | list) or len(result) != 2:
            wrong("expected two results, (value, turns).", got=result)
        same(
            result[1], np.int32(turns), "the number of turns", rtol=0, atol=0,
            slips={
                "no turn at all: the condition says when to go on, not when to stop": np.int32(0),
                "one turn: `old` and `value` are the same after it; keep the old value before the new is made":
                    np.int32(1),
                "a turn too few: the condition is asked before a turn, and old begins at inf": np.int32(turns - 1),
                "a turn too many": np.int32(turns + 1),
                "the tolerance is taken as absolute; PyTorch's is tol * abs(value)": np.int32(absolute),
            },
        )  # fmt: skip
        same(result[0], value.numpy(), f"the eigenvalue of a ({n}, {n}) matrix", rtol=5e-6)
    if len(traces) > 1:
        wrong(f"power_iteration was traced {len(traces)} times for one shape.", slip="a tolerance that is static")
    found = operations(lambda a, tol: answer(a, tol), jnp.eye(n, dtype=jnp.float32), jnp.float32(1e-3))
    if not found["while"]:
        wrong("there is no loop in the program that values end.", slip="turns beyond the last one are computed for "
              "nothing; lax.while_loop stops")  # fmt: skip
