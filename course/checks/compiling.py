"""Checks of the exercises on compiling: the key of a program, a loop as a scan, ragged batches. Needs NumPy and JAX.

Lesson: 08b_compiling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, keyed, operations, predicted_parts, same, wrong

LESSON = "08b_compiling"


def _program_counts() -> dict[str, int]:
    """The exercise's groups of calls, run: programs made by each."""
    ones = jnp.ones((8, 3), jnp.float32)

    def traces_of(calls: Callable[[Callable[..., Any], Callable[..., Any]], None]) -> int:
        traces: list[str] = []

        def total(batch: Any, scale: Any, mode: str = "sum") -> jax.Array:
            traces.append(mode)
            batch = batch[0] if isinstance(batch, tuple | list) else batch
            return scale * (batch.sum() if mode == "sum" else batch.mean())

        calls(total, jax.jit(total, static_argnames="mode"))
        return len(traces)

    def sizes(_: Any, jitted: Callable[..., Any]) -> None:
        for rows in (8, 8, 5, 8, 5):
            jitted(jnp.ones((rows, 3), jnp.float32), jnp.float32(1))

    def scales(_: Any, jitted: Callable[..., Any]) -> None:
        for scale in (1.0, 2.0, 3, jnp.float32(4), np.float32(5)):
            jitted(ones, scale)

    def modes(_: Any, jitted: Callable[..., Any]) -> None:
        for mode in ("sum", "mean", "sum", "mean"):
            jitted(ones, jnp.float32(1), mode=mode)

    def containers(_: Any, jitted: Callable[..., Any]) -> None:
        for batch in ((ones, ones), [ones, ones], (ones,), (ones, 2 * ones)):
            jitted(batch, jnp.float32(1))

    def partials(total: Callable[..., Any], _: Any) -> None:
        for _ in range(4):
            jax.jit(partial(total, mode="mean"))(ones, jnp.float32(1))

    groups = (sizes, scales, modes, containers, partials)
    return {group.__name__: traces_of(group) for group in groups}


@check(
    LESSON,
    "What is in the key: shapes, dtypes, weak types, the tree's structure, static values; and the function itself.",
    "1.0 and 2.0 have one type, weakly typed float32. 3 has another, and an array of float32 a third.",
    "A tuple is another structure than a list, and a tuple of one another than a tuple of two; values do not matter.",
    points=2,
)
def program_count(rng: np.random.Generator, programs: Any) -> None:
    """How many programs five groups of calls compile; the check counts traces."""
    slips = {
        "sizes": {5: "one a call; a known shape finds its program", 1: "a program is made for fixed shapes"},
        "scales": {
            1: "types are in the key: a Python number is weakly typed, an array is not",
            2: "of Python numbers, an int is another type than a float",
            4: "NumPy's float32 and JAX's are the same type: float32, not weak",
            5: "values are not in the key, types are",
        },
        "modes": {1: "a static value is in the key", 4: "a static value that was there before finds its program"},
        "containers": {
            1: "the tree's structure is in the key",
            2: "the number of parts is in the structure, too, though the function reads only the first",
            4: "the last call has the structure of the first, and values are not in the key",
        },
        "partials": {1: "a partial is known by its identity, and each turn makes a new one"},
    }
    keyed(programs, slips)  # what is no such dict is refused before anything is measured
    predicted_parts(programs, _program_counts(), slips, "programs of {!r}")


def _biquad(x: np.ndarray, b: Any, a: Any, state: Any = (0.0, 0.0), slip: str = "") -> np.ndarray:
    """The filter in float64, in a Python loop, or with one slip."""
    out, (z1, z2) = [], state
    for value in x.astype(np.float64):
        y = b[0] * value + z1
        if slip == "late":
            z2 = b[2] * value - a[1] * y
            z1 = b[1] * value - a[0] * y + z2
        else:
            sign = -1 if slip == "sign" else 1
            z1, z2 = b[1] * value - sign * a[0] * y + z2, b[2] * value - sign * a[1] * y
        if slip == "no state":
            z1, z2 = state
        out.append(y)
    return np.array(out)


@check(
    LESSON,
    "What goes from sample to sample is the pair (z1, z2): the carry. What is kept of each turn is `out`.",
    "lax.scan(turn, state, x) returns the last carry and all outputs stacked, in the order that is asked for.",
    "The carry keeps its dtype: int16 samples must not make an int16 state. Both parts are new, from the old ones.",
    points=3,
)
def biquad_scan(rng: np.random.Generator, biquad: Any) -> None:
    """A recursive filter, in chunks and on integer samples, against PyTorch's loop; a program of fixed size."""
    import torch

    answer = function(biquad, "biquad(state, x, b, a)")
    radius, angle = rng.uniform(0.5, 0.9), rng.uniform(0.5, 2.5)
    a = np.array([-2 * radius * np.cos(angle), radius**2], "f")  # poles inside the unit circle: it dies away
    b = rng.uniform(0.3, 1, 3).astype("f")
    first, second = (int(n) for n in rng.integers(5, 12, 2))
    samples = rng.integers(-90, 90, first + second).astype(np.int16)
    z1, z2, out = torch.zeros(()), torch.zeros(()), []
    states = []
    for value in torch.tensor(samples):
        y = b[0] * value + z1
        z1, z2 = b[1] * value - a[0] * y + z2, b[2] * value - a[1] * y
        out.append(float(y))
        states.append((float(z1), float(z2)))
    expected = np.array(out, "f")

    def run(state: Any, x: np.ndarray, what: str, truth: np.ndarray, before: tuple[float, float]) -> Any:
        result = answer(state, jnp.asarray(x), jnp.asarray(b), jnp.asarray(a))
        if not isinstance(result, tuple | list) or len(result) != 2:
            wrong("expected two results, (state, out).", got=result, slip="the state is lost: return it, too")
        if jnp.shape(result[1]) == (2,) or isinstance(result[1], tuple | list):
            wrong("the second result must be the filtered samples.", got=result[1], slip="the two results are swapped")
        same(
            result[1], truth, what, atol=1e-4,
            slips={
                "the samples after the first chunk begin with an empty state; begin with the one that is handed in":
                    (lambda: _biquad(x, b, a).astype("f")),
                "the state is not carried from sample to sample": _biquad(x, b, a, before, "no state").astype("f"),
                "z1 takes the new z2; it needs the old one": _biquad(x, b, a, before, "late").astype("f"),
                "the sign of a: it is subtracted": _biquad(x, b, a, before, "sign").astype("f"),
                "the last sample comes first": truth[::-1],
                "whole numbers: the state, or the result, took the samples' dtype": np.trunc(truth),
                "only the last sample; scan stacks what a turn returns as its second result": truth[-1],
            },
        )  # fmt: skip
        return result[0]

    zeros = jnp.zeros(2, jnp.float32)
    state = run(zeros, samples[:first], f"a first chunk of {first} samples", expected[:first], (0.0, 0.0))
    same(state, np.array(states[first - 1], "f"), "the state after it", atol=1e-4,
         slips={"z1 and z2 are swapped": np.array(states[first - 1][::-1], "f"), "the state that came in": np.zeros(2)},
         )  # fmt: skip
    run(state, samples[first:], f"a second chunk of {second}", expected[first:], states[first - 1])
    short, long = (operations(answer, zeros, jnp.ones(n, jnp.float32), jnp.asarray(b), jnp.asarray(a)) for n in (6, 24))
    if sum(long.values()) > sum(short.values()):
        wrong(
            f"{sum(short.values())} operations for 6 samples, {sum(long.values())} for 24.",
            slip="a Python loop is unrolled, and the program grows with the samples; lax.scan has one turn in it",
        )


@check(
    LESSON,
    "jit compiles for shapes: let there be only the buckets'. And make the jitted function once, not for each batch.",
    "np.pad x and y to the smallest bucket that holds them, and hand in which rows are real: np.arange(size) < n.",
    "Sum with jnp.sum(losses, where=mask): the loss of a row of zeros may be inf, and 0 * inf is nan.",
    "Add up sums and counts over the batches, and divide once.",
    points=4,
)  # fmt: skip
def bucketed_loss(rng: np.random.Generator, mean_loss: Any) -> None:
    """The mean loss over ragged batches, compiled once a bucket, against PyTorch without padding."""
    import torch

    answer = function(mean_loss, "mean_loss(row_losses, w, batches, buckets)")
    d, buckets = int(rng.integers(2, 5)), (4, 8, 16)
    sizes = [int(n) for n in rng.permutation([4, 8, *rng.integers(1, 4, 2), *rng.integers(5, 8, 2), 11, 13])]
    w = rng.normal(size=d).astype("f")
    batches = [(rng.normal(size=(n, d)).astype("f") + 1, rng.normal(size=n).astype("f")) for n in sizes]
    shapes: list[tuple[int, ...]] = []

    def row_losses(w: Any, x: Any, y: Any) -> jax.Array:
        if isinstance(w * jnp.sum(x), jax.core.Tracer):
            shapes.append(tuple(jnp.shape(x)))
        return (jnp.log(jnp.sum(jnp.abs(x), axis=1)) + jnp.asarray(x) @ w - y) ** 2

    def by_torch(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        rows = torch.tensor(x)
        return ((rows.abs().sum(1).log() + rows @ torch.tensor(w) - torch.tensor(y)) ** 2).numpy()

    rows = [by_torch(x, y) for x, y in batches]
    padded = sum(min(b for b in buckets if b >= n) for n in sizes)
    got = answer(row_losses, jnp.asarray(w), batches, buckets)
    traced = list(shapes)
    with jax.disable_jit():  # compiled, a product with a mask may become a selection; whether it does is luck
        uncompiled = answer(row_losses, jnp.asarray(w), batches, buckets)
    shapes = traced
    if isinstance(got, float | int | np.ndarray | np.generic | jax.Array) and np.shape(got) == ():
        bad = [value for value in (got, uncompiled) if not np.isfinite(np.asarray(value, np.float64)).all()]
        if bad:
            wrong(
                "the mean loss is not finite." if bad[0] is got else "run without jit, the mean loss is not finite.",
                got=bad[0],
                slip="the loss of a padded row is inf here, and 0 * inf is nan: select, with where=mask",
            )  # fmt: skip
    everything = np.concatenate(rows)
    same(
        got, np.float32(everything.mean()), f"the mean loss of {sum(sizes)} rows", rtol=1e-4,
        slips={
            "the mean of the batches' means: a short batch counts as much as a full one":
                np.float32(np.mean([r.mean() for r in rows])),
            "a division by the padded rows; divide by those that are real": np.float32(everything.sum() / padded),
            "the sum, not the mean": np.float32(everything.sum()),
            "only the last batch": np.float32(rows[-1].mean()),
            "full buckets only: ragged batches are dropped": np.float32(
                np.concatenate([r for r, n in zip(rows, sizes, strict=True) if n in buckets]).mean()
            ),
        },
    )  # fmt: skip
    if not shapes:
        wrong("nothing was compiled: row_losses ran with values.", slip="jax.jit is missing")
    lengths = [shape[0] if len(shape) == 2 else 0 for shape in shapes]
    if any(length not in buckets for length in lengths):
        wrong(
            "row_losses was compiled for a size that is no bucket.", expected=buckets, got=sorted(set(lengths)),
            slip="pad each batch to the smallest bucket that holds it",
        )  # fmt: skip
    if len(shapes) > len(set(shapes)):
        wrong(
            f"row_losses was traced {len(shapes)} times for {len(set(shapes))} shapes.",
            slip="a new jitted function for each batch: call jax.jit once, outside the loop",
        )
    if len(set(lengths)) < len(buckets):
        wrong(
            "not every bucket was used.", expected=buckets, got=sorted(set(lengths)),
            slip="each batch goes to the smallest bucket that holds it, or work is wasted on padding",
        )  # fmt: skip
