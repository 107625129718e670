"""Answers to the exercises of 08_tracing."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.answers import right, wrong

FROZEN = {"a": 12.0, "b": 12.0, "c": 20.0, "d": 28.0, "entries": 3, "kind": "tracer"}

wrong("frozen_values", "no part of the key")(FROZEN | {"b": 20.0})
wrong("frozen_values", "a new shape is a new key")(FROZEN | {"c": 12.0})
wrong("frozen_values", "a new dtype is a new key")(FROZEN | {"d": 20.0})
wrong("frozen_values", "Python runs only while tracing")(FROZEN | {"entries": 4})
wrong("frozen_values", "a dtype is a part of the key too")(FROZEN | {"entries": 2})
wrong("frozen_values", "a shape and a dtype, and no values")(FROZEN | {"kind": "array"})
wrong("frozen_values", "filled in only in part")(FROZEN | {"kind": ...})
wrong("frozen_values", "expected a dict")([12.0, 12.0, 20.0, 28.0, 3, "tracer"])
right("frozen_values")({"kind": " Tracer", "entries": 3, "a": 12, "b": 12, "c": 20, "d": 28})
right("frozen_values")({key: jnp.asarray(v) if isinstance(v, float) else v for key, v in FROZEN.items()})


def welford(*, twice=None, ddof=1, keep_count=True, keep_state=True, old_shift=False):
    def standardise(state, row):
        count = state["count"] + 1
        delta = row - state["mean"]
        mean = state["mean"] + delta / count
        first, second = {None: (delta, row - mean), "old": (delta,) * 2, "new": (row - mean,) * 2}[twice]
        m2 = state["m2"] + first * second
        shift = delta if old_shift else row - mean
        out = jnp.where(count < 2, shift, shift / jnp.sqrt(m2 / (count - ddof)))
        new = {"count": count if keep_count else state["count"], "mean": mean, "m2": m2}
        return new if keep_state else state, out

    return standardise


wrong("standardised_stream", "not carried on")(welford(keep_state=False))
wrong("standardised_stream", "not carried on")(welford(keep_count=False))
wrong("standardised_stream", "with the old mean")(welford(twice="old"))
wrong("standardised_stream", "with the new mean")(welford(twice="new"))
wrong("standardised_stream", "a division by count")(welford(ddof=0))
wrong("standardised_stream", "shifted by the old mean")(welford(old_shift=True))


@wrong("standardised_stream", "`if` on a traced value")
def with_an_if(state, row):
    new, out = welford()(state, row)
    if new["count"] < 2:
        return new, row - new["mean"]
    return new, out


@wrong("standardised_stream", "a side effect")
def writes_into_the_dict(state, row):
    new, out = welford()(state, row)
    state.update(new)
    return state, out


@wrong("standardised_stream", "the state is lost")
def returns_the_row(state, row):
    return welford()(state, row)[1]


@wrong("standardised_stream", "the state comes first")
def results_swapped(state, row):
    return welford()(state, row)[::-1]


@wrong("standardised_stream", "another dtype")
def a_count_that_becomes_float(state, row):
    new, out = welford()(state, row)
    return new | {"count": new["count"] * 1.0}, out


remembered = {"count": 0, "mean": 0.0, "m2": 0.0}


@wrong("standardised_stream", "not carried on")
def remembers_in_a_global(state, row):
    new, out = welford()({"count": jnp.int32(0), "mean": jnp.zeros(len(row)), "m2": jnp.zeros(len(row))}, row)
    remembered.update(new)
    return state, out


@right("standardised_stream")
def with_cond(state, row):
    count = state["count"] + 1
    delta = row - state["mean"]
    mean = state["mean"] + delta / count
    m2 = state["m2"] + delta * (row - mean)
    centred = row - mean
    out = lax.cond(count < 2, lambda: centred, lambda: centred * lax.rsqrt(m2 / (count - 1)))
    return dict(count=count, mean=mean, m2=m2), out


right("standardised_stream")(jax.jit(welford()))


def power(*, go_on=None, first=jnp.inf, keep=True, square=False):
    def power_iteration(a, tol):
        def turn(carry):
            v, _, value, turns = carry
            v = a @ v
            norm = jnp.linalg.norm(v)
            v = v / norm
            new = norm if square else v @ a @ v
            return v, value if keep else new, new, turns + 1

        v = jnp.ones(len(a), a.dtype) / jnp.sqrt(jnp.asarray(len(a), a.dtype))
        settled = go_on or (lambda value, old, tol: jnp.abs(value - old) > tol * jnp.abs(value))
        value = v @ a @ v
        start = (v, jnp.asarray(first, a.dtype) if first is not None else value, value, 0)
        _, _, value, turns = lax.while_loop(lambda c: settled(c[2], c[1], tol), turn, start)
        return value, turns

    return power_iteration


wrong("power_iteration", "when to go on, not when to stop")(
    power(go_on=lambda value, old, tol: jnp.abs(value - old) <= tol * jnp.abs(value))
)
wrong("power_iteration", "when to go on, not when to stop")(power(first=None))
wrong("power_iteration", "keep the old value before the new is made")(power(keep=False))
wrong("power_iteration", "the tolerance is taken as absolute")(
    power(go_on=lambda value, old, tol: jnp.abs(value - old) > tol)
)


@wrong("power_iteration", "a turn too few")
def counts_from_the_second(a, tol):
    value, turns = power()(a, tol)
    return value, turns - 1


@wrong("power_iteration", "`if` on a traced value")
def a_python_while(a, tol):
    v = jnp.ones(len(a)) / len(a) ** 0.5
    old, value, turns = jnp.inf, v @ a @ v, 0
    while abs(value - old) > tol * abs(value):
        v = a @ v
        v = v / jnp.linalg.norm(v)
        old, value, turns = value, v @ a @ v, turns + 1
    return value, turns


@wrong("power_iteration", "lax.while_loop stops")
def a_hundred_masked_turns(a, tol):
    def turn(i, carry):
        v, old, value, turns = carry
        go_on = jnp.abs(value - old) > tol * jnp.abs(value)
        w = a @ v
        w = w / jnp.linalg.norm(w)
        new = w, value, w @ a @ w, turns + 1
        return jax.tree.map(lambda new, old: jnp.where(go_on, new, old), new, carry)

    v = jnp.ones(len(a), a.dtype) / jnp.sqrt(jnp.asarray(len(a), a.dtype))
    start = v, jnp.asarray(jnp.inf, a.dtype), v @ a @ v, 0
    return lax.fori_loop(0, 100, turn, start)[2:]


@wrong("power_iteration", "the number of turns")
def always_fifty(a, tol):
    def turn(i, v):
        return a @ v / jnp.linalg.norm(a @ v)

    v = lax.fori_loop(0, 50, turn, jnp.ones(len(a), a.dtype))
    return v @ a @ v, 50


@right("power_iteration")
def with_a_dict(a, tol):
    def turn(c):
        w = a @ c["v"]
        w = w / jnp.sqrt(jnp.sum(w**2))
        new = jnp.einsum("i,ij,j", w, a, w)
        return {"v": w, "value": new, "n": c["n"] + 1, "on": jnp.abs(new - c["value"]) > tol * jnp.abs(new)}

    v = jnp.ones(len(a), a.dtype) / jnp.sqrt(jnp.asarray(len(a), a.dtype))
    end = lax.while_loop(lambda c: c["on"], turn, {"v": v, "value": v @ a @ v, "n": 0, "on": True})
    return [end["value"], end["n"]]


right("power_iteration")(jax.jit(power()))
