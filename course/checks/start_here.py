"""Checks of the exercises on the four habits and the traps of the first week. Needs NumPy and JAX.

Lesson: 00_start_here.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, predicted_parts, same, wrong

LESSON = "00_start_here"
NOISE = 0.1  # standard deviation of the noise that augmented() adds


@check(
    LESSON,
    "An array does not change: .at[ids].add(rows) returns the changed copy, and adds where an id comes twice.",
    "What does JAX make of the index -1? And of one past the end, in a write?",
    "A mask would make a shape that depends on values. Turn what is padding into something harmless, with jnp.where.",
    "Either the padding's rows become zero, or its ids become len(table), where a write is dropped.",
    points=3,
)
def padded_sum(rng: np.random.Generator, padded_sum: Any) -> None:
    """Rows added to a table at their ids, -1 left out, with and without jit; against torch's index_add_."""
    import torch

    def fresh(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return torch.from_numpy(table.copy()).index_add_(0, torch.from_numpy(ids), torch.from_numpy(rows)).numpy()

    for answer, how in ((padded_sum, ""), (padded_sum, " under jit")):
        call = function(answer, "padded_sum(table, ids, rows)")
        n, d = rng.integers(4, 7, 2)
        table, rows = rng.normal(size=(n, d)).astype("f"), rng.normal(size=(8, d)).astype("f")
        ids = np.array([1, -1, 0, 1, n - 1, 1, -1, 2], np.int32)
        ids[2:5] = rng.permutation(ids[2:5])
        real = ids != -1
        wrapped, lost = np.where(real, ids, n - 1), table.copy()
        lost[ids[real]] += rows[real]  # NumPy: the last of equal ids counts
        written = table.copy()
        written[ids[real]] = rows[real]
        expected = fresh(table, ids[real], rows[real])
        arrays = jnp.asarray(table), jnp.asarray(ids), jnp.asarray(rows)
        same(
            (jax.jit(call) if how else call)(*arrays), expected, f"the table of {n} rows{how}",
            slips={
                "padding landed in the last row: -1 counts from the end": fresh(table, wrapped, rows),
                "padding landed in row 0": fresh(table, np.maximum(ids, 0), rows),
                "an id that comes twice: its rows must all be added, .at[ids].add(rows)": lost,
                "rows were written over the table's; add them": written,
                "the table as it came: .at[...] returns a changed copy, which nobody kept": table,
                "the table's own values are missing": expected - table,
            },
        )  # fmt: skip


@check(
    LESSON,
    "A key is used once. How many independent draws are there, and does each image have its own?",
    "Split the key: one for the coins, one for the noise.",
    "A draw has a shape: bernoulli(coin_key, 0.5, (len(images), 1, 1)) is a coin an image.",
    "jnp.where(coins, images[:, :, ::-1], images) + 0.1 * jax.random.normal(noise_key, images.shape)",
    points=3,
)
def augmented(rng: np.random.Generator, augmented: Any) -> None:
    """Images flipped by their own coins, with their own noise, from a key that is used once."""

    def alert(key: jax.Array, images: jax.Array) -> Any:
        try:
            return augmented(key, images)
        except jax.errors.KeyReuseError:
            wrong(
                "augmented(key, images) uses a key twice.",
                slip="two draws from one key are not independent; split it, and draw each time from a new one",
            )

    answer = function(alert if callable(augmented) else augmented, "augmented(key, images)")
    n, height, width = 200, *rng.integers(3, 6, 2)
    images = jnp.asarray(10 * rng.normal(size=(n, height, width)), jnp.float32)
    key, other = (jax.random.key(int(seed)) for seed in rng.choice(10**6, 2, replace=False))
    first = answer(key, images)
    # what the draws are made of shows best in the result, so the result comes first, and the debugger last
    if not hasattr(first, "shape") or first.shape != images.shape:
        wrong("augmented(key, images) has another shape.", expected=images, got=first)
    if not np.array_equal(first, answer(key, images)):
        wrong(
            "one key gave two results.",
            slip="a generator or a key outside the function was drawn from; draw from the argument alone",
        )
    if np.array_equal(first, answer(other, images)):
        wrong("two keys gave one result.", slip="the argument key is not used")
    result, given = np.asarray(first, np.float64), np.asarray(images, np.float64)
    turned = {
        "as it was": given, "flipped": given[:, :, ::-1], "upside down": given[:, ::-1],
        "upside down and flipped": given[:, ::-1, ::-1],
    }  # fmt: skip
    off = np.stack([abs(result - one).max(axis=(1, 2)) for one in turned.values()])  # (4, n)
    if off.min(axis=0).max() > 2:  # 20 standard deviations of the noise
        wrong(
            "an image is neither itself nor flipped, within the noise.",
            slip=f"noise of standard deviation {NOISE} on the image itself, one image flipped on its own",
        )
    kind = off.argmin(axis=0)
    if kind.max() > 1:
        wrong("an image stands upside down.", slip="the axes are (image, row, column): left and right are the last")
    share = kind.mean()
    if share in (0.0, 1.0):
        text = f"{'none' if share == 0 else 'all'} of {n} images are flipped."
        wrong(text, slip="one coin for all images; draw one an image")
    if abs(share - 0.5) > 6 * 0.5 / n**0.5:
        wrong(f"{share:.2f} of {n} images are flipped, where half is expected.", slip="the probability")
    noise = result - np.where(kind[:, None, None] == 1, turned["flipped"], given)
    if noise.std() < 1e-4:
        wrong("there is no noise.")
    for added_first in (False, True):  # to the image that is then flipped
        fixed = np.where(kind[:, None, None] == 1, noise[:, :, ::-1], noise) if added_first else noise
        for axis, what in enumerate(("image", "row", "column")):
            if np.ptp(fixed, axis=axis).max() < 1e-4:
                wrong(f"every {what} has the same noise.", slip="noise of too small a shape; draw it with images.shape")
    size = noise.size
    if abs(noise.std() - NOISE) > 6 * NOISE / (2 * size) ** 0.5 or abs(noise.mean()) > 6 * NOISE / size**0.5:
        slip = "the variance for the standard deviation" if abs(noise.std() - NOISE**0.5) < 0.02 else ""
        slip = "the variance for the standard deviation" if abs(noise.std() - NOISE**2) < 0.002 else slip
        wrong("the noise is not normal with mean 0 and std 0.1.", expected=NOISE, got=float(noise.std()), slip=slip)
    with jax.debug_key_reuse(True):
        answer(jax.random.key(0), images[:4])


@check(
    LESSON,
    "What does the object remember between two calls? That goes in as `state`, and comes out anew.",
    "Build a new dict: the given one belongs to the caller.",
    'Return {"total": total, "weight": weight}, total / weight.',
    points=2,
)
def smooth(rng: np.random.Generator, smooth: Any) -> None:
    """Two streams smoothed in turns, with and without jit; against the object that changes itself."""

    class Smoother:
        def __init__(self, decay: float, like: np.ndarray) -> None:
            self.decay, self.total, self.weight = decay, np.zeros_like(like), 0.0

        def __call__(self, x: np.ndarray) -> np.ndarray:
            self.total = self.decay * self.total + (1 - self.decay) * x
            self.weight = self.decay * self.weight + (1 - self.decay)
            return self.total / self.weight

    call = function(smooth, "smooth(state, x, decay)")
    for step, how in ((call, ""), (jax.jit(call), " under jit")):
        size, decay = int(rng.integers(2, 5)), float(rng.uniform(0.6, 0.9))
        objects = [Smoother(decay, np.zeros(size)) for _ in range(2)]
        states: list[Any] = [{"total": jnp.zeros(size), "weight": jnp.zeros(())} for _ in range(2)]
        for turn in range(6):
            which = turn % 2
            x = rng.normal(2.0, 1.0, size)
            before, given = dict(states[which]), states[which]
            pair = step(given, jnp.asarray(x, jnp.float32), decay)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                slip = "y without the new state: whoever calls must get both" if hasattr(pair, "shape") else ""
                wrong("expected two results, (state, y).", got=pair, slip=slip)
            if any(given.get(name) is not value for name, value in before.items()):
                wrong(
                    "smooth changed the dict that it was given.", slip="a side effect: build a new dict and return it"
                )
            y = objects[which](x)
            expected = {"total": objects[which].total, "weight": objects[which].weight}
            state, got = pair
            if isinstance(got, dict) and not isinstance(state, dict):
                wrong("expected (state, y), in this order.", got=pair, slip="the two results are swapped")
            where = f"in call {turn // 2 + 1} of stream {which + 1}{how}"
            shared: dict[str, Any] = {"total": objects[1 - which].total, "weight": objects[1 - which].weight}
            same(
                state, expected, f"the state {where}", rtol=1e-4,
                slips={
                    "the state as it came: return what was computed from it": before,
                    "the two factors are swapped: decay goes with the old": {
                        "total": (1 - decay) * np.asarray(before["total"]) + decay * x,
                        "weight": (1 - decay) * np.asarray(before["weight"]) + decay,
                    },
                    "both streams share one state: it was kept outside the function": {
                        "total": decay * shared["total"] + (1 - decay) * x,
                        "weight": decay * shared["weight"] + (1 - decay),
                    },
                },
            )  # fmt: skip
            same(
                got, y, f"y {where}", rtol=1e-4,
                slips={
                    "the total, not divided by the weight": expected["total"],
                    "the old average; y is the new one": lambda before=before: np.asarray(before["total"])
                    / max(float(before["weight"]), 1e-9),
                },
            )  # fmt: skip
            states[which] = state


@check(
    LESSON,
    "Print inside `double` what it is given, and look at when that prints.",
    "An array never changes; an index past the end raises nothing; jnp.split follows NumPy.",
    "Is a key that was split another key afterwards?",
    points=2,
)
def first_week(rng: np.random.Generator, predictions: Any) -> None:
    """Five predictions, against what the code does."""
    traced = []

    def double(batch: jax.Array) -> jax.Array:
        traced.append(batch.shape)
        batch *= 2
        return batch.sum()

    data = jnp.arange(1, 11).reshape(5, 2)
    compiled = jax.jit(double)
    for batch in (data[:2], data[2:4], data[4:], data[:2]):
        compiled(batch)
    key = jax.random.key(int(rng.integers(10**6)))
    before = jax.random.normal(key)
    jax.random.split(key)
    truth = {
        "traced": len(traced),
        "first": int(data[0, 0]),
        "beyond": int(data[7, 1]),
        "piece": jnp.split(data, 5)[0].shape,
        "equal": bool(before == jax.random.normal(key)),
    }
    if isinstance(predictions, dict) and isinstance(predictions.get("beyond"), str):
        wrong("beyond: expected int.", got=predictions["beyond"], slip="JAX raises nothing for an index past the end")
    predicted_parts(
        predictions, truth,
        {
            "traced": {
                4: "that is torch, or no jit: Python's lines run while JAX traces, once a shape",
                1: "a program is for one shape; the last batch but one is shorter",
                3: "batches of one shape share a program, whatever their values",
            },
            "first": {
                2: "in torch data[:2] is a view; here it is an array of its own, and `*=` binds a name",
                4: "in torch data[:2] is a view; here it is an array of its own, and `*=` binds a name",
            },
            "beyond": {0: "a read past the end is not filled with zeros", 1: "an index does not wrap around"},
            "piece": {(5, 2): "that is torch.split, by the size of a piece; jnp.split takes the number of pieces"},
            "equal": {False: "split makes new keys, and leaves the old one as it was: a key has no state"},
        },
    )  # fmt: skip
