"""Checks of the exercises on collectives written by hand. Needs NumPy and JAX.

No devices are needed: `jax.vmap` with an axis name runs a function on many parts at once, collectives included. Lesson:
13b_collectives_by_hand.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from course.checks.core import check, function, operations, same, wrong

LESSON = "13b_collectives_by_hand"
SENT = ("psum", "pmax", "pmin", "all_gather", "all_to_all", "reduce_scatter")
"""How the names of the primitives begin that a ring does without."""


@check(
    LESSON,
    "What do the devices have to agree on: the mean, or the two numbers that it is made of?",
    "A mean of means is right only where every device has the same weight.",
    "jax.lax.psum(a number, 'data') gives every device the sum; sum numerators and weights, then divide.",
    points=2,
)
def weighted_mean_of_all(rng: np.random.Generator, global_mean: Any) -> None:
    """The weighted mean over all devices, on each of them, with NumPy on the whole."""
    answer = function(global_mean, "global_mean(values, weight)")
    for n, rows in rng.integers(3, 6, (2, 2)):
        values, weight = rng.normal(1, 1, (n, rows)).astype("f"), rng.uniform(0.5, 1.5, (n, rows)).astype("f")
        weight[0, 1:], weight[1, :2] = 0, 0  # padding, more of it on the first device
        local = (values * weight).sum(1) / weight.sum(1)
        total = (values * weight).sum() / weight.sum()

        def each(values: Any, weight: Any) -> Any:
            return answer(values, weight)

        got = jax.vmap(each, axis_name="data")(jnp.asarray(values), jnp.asarray(weight))
        same(
            got, np.full(n, total), f"the mean on each of {n} devices", rtol=1e-4,
            slips={
                "each device has its own mean; the devices must talk": local,
                "a mean of the devices' means; they do not weigh the same": np.full(n, local.mean()),
                "a sum of the devices' means": np.full(n, local.sum()),
                "a sum, not a mean: divide by the weights of all devices": np.full(n, (values * weight).sum()),
                "the sum of all devices over the weight of one": (values * weight).sum() / weight.sum(1),
                "the sum of one device over the weight of all": (values * weight).sum(1) / weight.sum(),
                "the weights are not used": np.full(n, values.mean()),
                "divided by the number of rows, padding included": np.full(n, (values * weight).mean()),
            },
        )  # fmt: skip


@check(
    LESSON,
    "Two things go round: what you pass on, and what you keep. Add what arrives to what you keep.",
    "jax.lax.ppermute(x, 'data', [(i, (i + 1) % devices) for i in range(devices)]) is a neighbour's x.",
    "Pass on what arrived, not the running total; devices - 1 turns.",
    points=3,
)
def sum_by_ring(rng: np.random.Generator, ring_sum: Any) -> None:
    """A sum over devices by ppermute alone: values on every device, and the primitives that stand in it."""
    answer = function(ring_sum, "ring_sum(x, devices)")
    for n in (5, int(rng.integers(3, 5))):
        x = rng.normal(size=(n, int(rng.integers(2, 5)))).astype("f")

        def each(x: Any, n: int = n) -> Any:
            return answer(x, n)

        got = jax.vmap(each, axis_name="data")(jnp.asarray(x))
        total = np.broadcast_to(x.sum(0), x.shape)
        doubled = x.copy()
        for _ in range(n - 1):
            doubled = doubled + np.roll(doubled, 1, 0)
        back = x.copy()
        for _ in range(n - 1):
            back = back + np.roll(back, -1, 0)
        rolled = "what is passed on is the running total, so parts count several times; pass on what arrived"
        same(
            got, total, f"the sum on each of {n} devices", rtol=1e-4, atol=1e-5,
            slips={
                "nothing is passed on: each device has its own part": x,
                "one turn: the sum with one neighbour": x + np.roll(x, 1, 0),
                "one turn, the other way round: the sum with one neighbour": x + np.roll(x, -1, 0),
                rolled: doubled,
                rolled + " ": back,
                "one turn too many: the own part counts twice": total + x,
                "the own part is missing; start with it": total - x,
                "a turn is missing; devices - 1 are due": total - np.roll(x, 1, 0),
                "a turn is missing; devices - 1 are due ": total - np.roll(x, -1, 0),
                "the mean, not the sum": total / n,
                "the sum over the part as well": np.full(n, x.sum()),
            },
        )  # fmt: skip
        mapped = jax.shard_map(
            each, mesh=AbstractMesh((n,), ("data",)), in_specs=P("data"), out_specs=P("data"), check_vma=False
        )
        used = operations(mapped, jnp.ones((n, 2)))
        if others := sorted(name for name in used if name.startswith(SENT)):
            wrong(
                "the sum is right, but not by ppermute alone.", got=", ".join(others),
                slip="psum and its kin do it in one line; here the ring is asked",
            )  # fmt: skip
        if used["ppermute"] > n:
            wrong(f"{used['ppermute']} sends; {n - 1} are enough for {n} devices.", slip="pass on once a turn")


@check(
    LESSON,
    "The key is the same on all devices. What is different on each?",
    "jax.random.fold_in(key, jax.lax.axis_index('data')) is a key of the device's own.",
    "What is kept is divided by 1 - rate, as torch does, so that the mean stays.",
    points=2,
)
def dropout_on_each(rng: np.random.Generator, dropout: Any) -> None:
    """Dropout's mask on eight devices: different, reproducible, scaled."""
    answer = function(dropout, "dropout(key, x, rate)")
    rate = float(rng.choice([0.2, 0.3, 0.7, 0.8]))
    x = jnp.full((8, 1000), 2.0, jnp.float32)

    def draw(seed: int) -> np.ndarray:
        keys = jax.random.key(seed)
        got = jax.vmap(lambda x: answer(keys, x, rate), axis_name="data")(x)
        if not hasattr(got, "shape") or got.shape != x.shape:
            wrong("dropout must return an array of x's shape.", expected=x, got=got)
        return np.asarray(got)

    seed = int(rng.integers(10**6))
    first, again, other = draw(seed), draw(seed), draw(seed + 1)
    if not (first == again).all():
        wrong("the same key gives another mask.", slip="a key of its own, or NumPy's random numbers; use the key given")
    kept = first != 0
    if kept.all():
        wrong("nothing is dropped.", got=first)
    if (kept == kept[0]).all():
        wrong(
            "all eight devices drop the same places.",
            slip="one key for all; fold in the device's index, jax.lax.axis_index('data')",
        )
    if len({row.tobytes() for row in kept}) < 8:
        wrong("two devices drop the same places.", slip="each of the eight needs a key of its own")
    if (first == other).all():
        wrong("another key gives the same mask.", slip="the key that is given must be used, not one made of the index")
    share = kept.mean()
    spread = 6 * (rate * (1 - rate) / kept.size) ** 0.5  # six standard deviations: a chance of 2e-9
    if abs(share - (1 - rate)) > spread:
        slip = "rate is what is dropped; bernoulli's p is what is kept" if abs(share - rate) < spread else ""
        wrong(f"of rate {rate} a share of {share:.3f} is kept.", expected=1 - rate, got=share, slip=slip)
    same(
        first[kept], np.full(kept.sum(), 2 / (1 - rate), "f"), f"what is kept of 2.0 at rate {rate}",
        slips={
            "not scaled: the mean shrinks": np.full(kept.sum(), 2.0),
            "divided by rate; by 1 - rate is due": np.full(kept.sum(), 2 / rate),
            "multiplied by 1 - rate; divide": np.full(kept.sum(), 2 * (1 - rate)),
        },
    )  # fmt: skip


@check(
    LESSON,
    "Device 0 holds the first rows, device 1 the next. Which rows would it like in micro-batch 0?",
    "Neighbouring rows should go to different micro-batches: row i to micro-batch i % count, for one.",
    "rows.reshape(-1, count, ...) has neighbours along axis 1; then swap axes 0 and 1.",
    points=2,
)
def striped_micro_batches(rng: np.random.Generator, micro_batches: Any) -> None:
    """Micro-batches of which each device has an equal share of its own rows, in any order within a device."""
    answer = function(micro_batches, "micro_batches(rows, count)")
    for tail in ((), (3,)):
        devices, count, share = int(rng.choice([4, 8])), int(rng.choice([2, 3])), int(rng.integers(2, 4))
        batch = devices * count * share
        rows = np.arange(batch, dtype="f").reshape(-1, *[1] * len(tail)) * np.ones(tail, "f")
        got = answer(jnp.asarray(rows), count)
        shape = (count, batch // count, *tail)
        if not hasattr(got, "shape") or got.shape != shape:
            slip = ""
            if hasattr(got, "shape") and got.shape == (shape[1], shape[0], *tail):
                slip = "the micro-batches are axis 0: lax.scan goes along it"
            wrong(f"{count} micro-batches of {batch} rows have another shape.", expected=str(shape), got=got, slip=slip)
        numbers = np.asarray(got).reshape(count, batch // count, -1)[..., 0].astype(int)
        if sorted(numbers.ravel()) != list(range(batch)):
            wrong("each row must be in one micro-batch, once.", got=numbers, slip="rows are lost, repeated or changed")
        home = numbers // (count * share)  # the device that holds the row
        wanted = np.arange(batch // count) // share  # the device that this place of a micro-batch belongs to
        if (home == wanted).all():
            continue
        held = [len(set(micro)) for micro in home]
        slip = "rows stay with their device only if each device's are in its own part of axis 1, in the devices' order"
        if max(held) < devices:
            slip = f"micro-batch 0 has rows of {held[0]} of {devices} devices, so rows must travel; take some of each"
        wrong(f"rows of {devices} devices are not where they were.", expected=wanted, got=home[0], slip=slip)
