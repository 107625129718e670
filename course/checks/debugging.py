"""Checks of the exercises on looking inside: NaN in a gradient, keys used twice, errors that compile.

Needs NumPy and JAX. Lesson: 08c_debugging.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, same, wrong
from course.failures import last_lines

LESSON = "08c_debugging"


@check(
    LESSON,
    "The slope of the root at 0 is infinite, and `where` around the root multiplies it by 0: NaN.",
    "Not only the diagonal: two points may coincide. Ask the squared distance, not the indices.",
    "Two of them: safe = jnp.where(squared > 0, squared, 1.0), then jnp.where(squared > 0, jnp.sqrt(safe), 0.0).",
    points=2,
)
def distance_gradient(rng: np.random.Generator, distances: Any) -> None:
    """Pairwise distances and their gradient, with points that coincide, against torch.cdist."""
    import torch

    answer = function(distances, "distances(x)")
    n, d = (int(size) for size in rng.integers(4, 7, 2))
    apart = rng.normal(size=(n, d)).astype("f")
    together = apart.copy()
    together[-1] = together[1]
    for x, which in ((apart, f"{n} points"), (together, f"{n} points, two of which coincide")):
        leaf, weights = torch.tensor(x, requires_grad=True), rng.normal(size=(n, n)).astype("f")
        table = torch.cdist(leaf, leaf, compute_mode="donot_use_mm_for_euclid_dist")
        (table * torch.tensor(weights)).sum().backward()
        expected = table.detach().numpy()
        got = answer(jnp.asarray(x))
        same(
            got, expected, f"the distances of {which}", rtol=1e-5, atol=1e-6,
            slips={
                "squared distances: the root is missing": expected**2,
                "a sum of absolute differences; torch.cdist takes the root of the sum of squares":
                    np.abs(x[:, None] - x[None]).sum(-1),
                "the norms of the points, not of their differences": np.linalg.norm(x, axis=1),
            },
        )  # fmt: skip
        zeros = np.asarray(got)[expected == 0]
        if zeros.any():
            wrong(
                f"the distances of {which} are not exactly 0 where points coincide.", got=zeros,
                slip="an epsilon under the root; or squares by a matrix product, which round: take the differences",
            )  # fmt: skip

        def total(x: jax.Array, weights: np.ndarray = weights) -> jax.Array:
            return (answer(x) * weights).sum()

        slopes = jax.grad(total)(jnp.asarray(x))
        if not np.isfinite(np.asarray(slopes)).all():
            slip = "only the diagonal is guarded: other points may coincide, too"
            if x is apart:
                slip = "0 times an infinite slope: a second `where` inside, so that the root never sees the 0"
            wrong(f"the gradient for {which} is not finite.", got=slopes, slip=slip)
        same(
            slopes, np.asarray(leaf.grad), f"the gradient for {which}", rtol=1e-4, atol=1e-5,
            slips={"no gradient at all: stop_gradient, or NumPy, is in the way": np.zeros_like(x)},
        )  # fmt: skip


@check(
    LESSON,
    "with jax.debug_key_reuse(True): jax.jit(augmented)(jax.random.key(0), images) says where a key is used again.",
    "Four draws need four keys: the flips, the two layers of noise, the dropped pixels.",
    "Each turn of the loop needs a key of its own, too: for noise_key in (first, second).",
    "flip_key, first, second, drop_key = jax.random.split(key, 4); then `key` itself is used up.",
    points=3,
)
def unused_keys(rng: np.random.Generator, augmented: Any) -> None:
    """An augmentation in which no key is used twice; by JAX's own checker, and by the statistics of what comes out."""
    answer = function(augmented, "augmented(key, images)")
    n, size = 200, 8
    ramp = np.arange(size) - (size - 1) / 2
    images = jnp.asarray(np.broadcast_to(10 * ramp, (n, size, size)), jnp.float32)
    jitted, first, second = jax.jit(answer), *(jax.random.key(int(seed)) for seed in rng.choice(10**6, 2, False))
    try:
        with jax.debug_key_reuse(True):
            out = jitted(first, images)
    except jax.errors.KeyReuseError as error:
        wrong(
            "a key is used twice.", got=f"KeyReuseError: {last_lines(error, 1)}",
            slip="split once, one key for each draw; a key that was split, or drawn from, is used up",
        )  # fmt: skip
    if jnp.shape(out) != (n, size, size):
        wrong("expected images of the same shape.", expected=images, got=out)
    out = np.asarray(out, np.float64)
    again, other = (np.asarray(jitted(key, images), np.float64) for key in (first, second))
    if not np.array_equal(out, again):
        wrong("the same key gives other images.", slip="random numbers that do not come from the key")
    if np.array_equal(out, other):
        wrong("two keys give the same images.", slip="a key made inside is a constant; draw from the one handed in")
    dropped = out == 0
    flipped = (out * ramp).sum((1, 2)) < 0
    noise = out - 10 * np.where(flipped[:, None, None], -ramp, ramp)
    kept = noise[~dropped]
    if kept.size == 0 or not 0.05 < flipped.mean() < 0.95:
        wrong(f"{flipped.mean():.0%} of the images are flipped, not about half.", slip="one flip for the whole batch")
    if (dropped == dropped[0]).all():
        wrong("every image loses the same pixels.", slip="a mask of one image's shape; draw it for all images")
    # Bounds of six standard deviations: of a share, of a mean, of a standard deviation.
    if abs(dropped.mean() - 0.25) > 6 * (0.1875 / dropped.size) ** 0.5:
        wrong(f"{dropped.mean():.1%} of the pixels are dropped, not about 25 %.")
    spread, due = float(kept.std()), 0.1 * 2**0.5
    if abs(kept.mean()) > 6 * due / kept.size**0.5:
        wrong(
            f"the noise of the pixels that are kept has mean {kept.mean():.3f}, not about 0.",
            slip="the noise and the dropped pixels come from the same random numbers",
        )
    if abs(spread - due) > 6 * due / (2 * kept.size) ** 0.5:
        slip = ""
        if abs(spread - 0.2) < 0.01:
            slip = "both layers of noise are the same noise: a key for each turn of the loop"
        elif abs(spread - 0.1) < 0.005:
            slip = "one layer of noise; the function has two"
        wrong(f"the noise has standard deviation {spread:.3f}, not about {due:.3f}.", slip=slip)


@check(
    LESSON,
    "checkify.checkify(f, errors=...) puts a check behind every operation; the error comes out as a result.",
    "checkify.index_checks finds indices out of range, checkify.float_checks NaN and divisions by zero; | joins them.",
    "jit around checkify, once, before the inner function is defined; in it, call, error.throw(), return the value.",
    points=3,
)
def strict_function(rng: np.random.Generator, strict: Any) -> None:
    """A wrapper that raises where PyTorch would, and at NaN; compiled once."""
    answer = function(strict, "strict(f)")
    n, d = int(rng.integers(4, 8)), int(rng.integers(2, 4))
    table = rng.uniform(0.5, 2, (n, d)).astype("f")
    traces: list[int] = []

    def pooled(table: jax.Array, ids: jax.Array, total: jax.Array) -> jax.Array:
        traces.append(1)
        return jnp.log(table[ids]).sum(0) / total

    def expect(safe: Callable[..., Any], args: tuple[Any, ...], what: str, slip: str) -> None:
        try:
            value = safe(*map(jnp.asarray, args))
        except (Exception, SystemExit) as error:
            if not isinstance(error, ValueError | jax.errors.JaxRuntimeError | FloatingPointError | IndexError):
                wrong(f"strict(f) raised another error at {what}.", got=f"{type(error).__name__}: {error}"[:200])
            return
        if isinstance(value, tuple):
            slip = "the error is returned with the value: call error.throw(), and return the value alone"
        wrong(f"strict(f) did not raise at {what}.", got=value, slip=slip)

    safe = function(answer(pooled), "strict(f)(*args)")
    ids = rng.integers(0, n, 3).astype(np.int32)
    bad = table.copy()
    bad[ids[0]] = -1.0
    one = np.float32(rng.uniform(1, 2))
    calls: list[int] = []
    for numbers in (ids, np.array([-1, 0, n - 1], np.int32)):
        got = safe(jnp.asarray(table), jnp.asarray(numbers), jnp.asarray(one))
        if isinstance(got, tuple | list) and len(got) == 2 and jnp.shape(got[1]) == (d,):
            wrong(
                "strict(f)(*args) returned two results.", got=str(got)[:120],
                slip="checkify's pair, (error, value): call error.throw(), and return the value alone",
            )  # fmt: skip
        same(got, np.log(table[numbers]).sum(0) / one, "the value where nothing is wrong", rtol=1e-4)
        calls.append(len(traces))
    raw = answer(pooled)
    expect(raw, (table, ids + n, one), "an index out of range", "checks of indices: errors=checkify.index_checks | …")
    expect(raw, (table, ids - 2 * n, one), "a negative index out of range", "an index below -n is out of range, too")
    expect(raw, (bad, ids, one), "the logarithm of a negative number", "checks of NaN: checkify.float_checks")
    expect(raw, (table, ids, np.float32(0)), "a division by zero", "NaN is not all: checkify.float_checks has division")
    if not traces:
        wrong("strict(f)(*args) did not call f.")
    if calls[1] > calls[0]:
        wrong(
            "f is traced again at a second call with the same shapes.",
            slip="checkify alone runs f anew at every call: wrap it in jax.jit, once, outside the inner function",
        )
