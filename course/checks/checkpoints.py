"""Checks of the exercises on the place in the data, strict loading and a run that is saved. Needs NumPy, JAX and optax.

Lesson: 05b_checkpoints.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from course.checks.core import check, function, same, wrong

LESSON = "05b_checkpoints"


@check(
    LESSON,
    "The epoch is step // batches, and the batch within it step % batches, where batches = rows // size.",
    "One permutation of all rows for an epoch, drawn from seed and epoch; the batch is a slice of it.",
    "Two numbers into one generator without a clash: np.random.default_rng([seed, epoch]), or "
    "jax.random.fold_in(jax.random.key(seed), epoch).",
    points=2,
)
def resumable_batches(rng: np.random.Generator, batch_at: Any) -> None:
    """Row numbers of any batch from seed and step alone; judged by what an order of batches must satisfy."""
    answer = function(batch_at, "batch_at(seed, step, rows, size)")
    size = int(rng.integers(3, 6))
    per_epoch, epochs = int(rng.integers(5, 8)), 8
    rows, seed = per_epoch * size + 2, int(rng.integers(1000))

    def batch(seed: int, step: int) -> list[int]:
        got = answer(seed, step, rows, size)
        shape, kind = np.shape(got), getattr(got, "dtype", np.asarray(got).dtype)
        if shape != (size,) or not np.issubdtype(kind, np.integer):
            wrong(f"batch_at is to return {size} row numbers.", got=got, slip="a forgotten return, or the wrong slice")
        return [int(n) for n in np.asarray(got)]

    steps = rng.permutation(per_epoch * epochs).tolist()  # in any order, as killed runs begin
    found = {step: batch(seed, step) for step in steps}
    if any(not 0 <= n < rows for chosen in found.values() for n in chosen):
        wrong(f"expected row numbers from 0 to {rows - 1}.", got=np.array(found[0]))
    orders = [[row for n in range(per_epoch) for row in found[e * per_epoch + n]] for e in range(epochs)]
    some = steps[0]
    if batch(seed, some) != found[some]:
        wrong(
            f"batch {some} is another one when it is asked for again.",
            slip="a generator that goes on from call to call: a killed run would have lost its place",
        )
    if orders[0] == list(range(per_epoch * size)):
        wrong("the rows come as they stand.", got=np.array(orders[0]), slip="nothing is shuffled")
    repeated = [len(set(order)) < len(order) for order in orders]
    if any(repeated):
        wrong(
            f"{sum(repeated)} of {epochs} epochs have a row twice.", got=np.array(orders[repeated.index(True)]),
            slip="every batch is drawn by itself; draw one permutation an epoch, and cut it into batches",
        )  # fmt: skip
    if all(order == orders[0] for order in orders):
        wrong("every epoch has the same order.", slip="the epoch is to be drawn from as well as the seed")
    together = [{frozenset(order[n : n + size]) for n in range(0, len(order), size)} for order in orders]
    if all(sets == together[0] for sets in together):
        wrong("the same rows are together in every epoch.", slip="batches are shuffled as a whole, and not their rows")
    if any(order[size : 2 * size] != found[per_epoch * e + 1] for e, order in enumerate(orders)):
        wrong("the order depends on the order of calls.", slip="a generator that goes on from call to call")
    left = {frozenset(range(rows)) - frozenset(order) for order in orders}
    if len(left) == 1:
        wrong(
            f"rows {sorted(next(iter(left)))} are never chosen.",
            slip="permute all rows and cut afterwards, so that others are left out in every epoch",
        )
    other = [batch(seed + 1, step) for step in range(2 * per_epoch)]
    if other[0] == found[0]:
        wrong("another seed gives the same batches.", slip="the seed is ignored")
    if other[0] == found[per_epoch]:
        wrong(
            "the first epoch of seed + 1 is the second of seed.",
            slip="seed + epoch: runs with neighbouring seeds share their epochs; fold the epoch in, or seed with both",
        )


@check(
    LESSON,
    "jax.tree.leaves_with_path(params); a name is jax.tree_util.keystr(path, simple=True, separator='.').",
    "Collect everything that is wrong in a list first, then raise once.",
    "Unexpected names are set(arrays) - set(the example's names).",
    "jnp.asarray(array, leaf.dtype) makes the array what the example says.",
    points=3,
)
def strict_loading(rng: np.random.Generator, load_strict: Any) -> None:
    """A flat file's arrays in the shape of a tree, and an error that names all that does not fit."""
    answer = function(load_strict, "load_strict(arrays, params)")
    names = ["stem.kernel", "stem.bias", "blocks.first.scale", "blocks.first.bias", "blocks.second.scale", "head.bias"]
    shape = (int(rng.integers(2, 5)),)
    params: dict[str, Any] = {}
    for name in names:
        *branches, leaf = name.split(".")
        place = params
        for branch in branches:
            place = place.setdefault(branch, {})
        place[leaf] = jnp.zeros(shape, jnp.bfloat16 if name == "head.bias" else jnp.float32)
    values = {name: rng.integers(-20, 20, shape).astype("f") / 4 for name in names}
    shuffled = {names[n]: values[names[n]] for n in rng.permutation(len(names))}
    if list(shuffled) == sorted(names):
        shuffled = dict(reversed(shuffled.items()))

    def nested(arrays: list[np.ndarray]) -> Any:
        return jax.tree.unflatten(jax.tree.structure(params), arrays)

    expected = nested([values[name] for name in sorted(names)])
    got = answer(shuffled, params)
    same(
        got, expected, "the tree of six arrays", rtol=0, atol=1e-6,
        slips={
            "the example's own values": nested([np.zeros(shape, "f")] * len(names)),
            "arrays and leaves were zipped in the order in which they came; go by name": (
                nested(list(shuffled.values()))),
            "a flat dict; the example is nested": shuffled,
        },
    )  # fmt: skip
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(got)}
    if kinds != {"float32", "bfloat16"} or str(got["head"]["bias"].dtype) != "bfloat16":
        wrong("a leaf has another dtype than in the example.", slip="jnp.asarray(array, leaf.dtype)")

    def refuse(arrays: dict[str, np.ndarray], what: str, culprits: list[str], slip: str) -> None:
        try:
            load_strict(arrays, params)
        except ValueError as error:
            unnamed = [name for name in culprits if name not in str(error)]
            spared = [name for name in names if name not in culprits and name in str(error)]
            if unnamed:
                wrong(
                    f"{what}: the error does not name {', '.join(unnamed)}.", got=str(error),
                    slip="list all that is wrong, and raise once",
                )  # fmt: skip
            if spared:
                wrong(f"{what}: the error names {', '.join(spared)}, which fits.", got=str(error))
        except Exception as error:  # the learner's function raised another than it should
            wrong(
                f"{what}: {type(error).__name__}, where a ValueError was due.",
                slip="compare the names before you ask for an array",
            )
        else:
            wrong(f"{what}: accepted without a word.", slip=slip)

    gone = [names[n] for n in rng.permutation(len(names))[:2]]
    lacking = {name: array for name, array in shuffled.items() if name not in gone}
    refuse(lacking, "two arrays missing", gone, "what is missing keeps the example's values")
    extra = ["old.bias", "tail.kernel"]
    more = {"old.bias": values["stem.bias"], **shuffled, "tail.kernel": values["stem.bias"]}
    refuse(more, "two arrays too many", extra, "only the example's names are looked at; compare both sets")
    odd = names[int(rng.integers(len(names)))]
    refuse(shuffled | {odd: values[odd][:-1]}, "an array too short", [odd], "shapes are not compared")
    refuse(
        shuffled | {odd: values[odd][:, None]}, "an array with an axis too many", [odd],
        "a reshape, or a comparison of sizes: equal sizes are not equal shapes",
    )  # fmt: skip
    wrong_all = {**lacking, "old.bias": values["stem.bias"]}
    spoiled = next(name for name in names if name not in gone)
    wrong_all[spoiled] = values[spoiled][:-1]
    refuse(wrong_all, "missing, too many and too short at once", [*gone, "old.bias", spoiled], "")


@check(
    LESSON,
    "The whole dict is one tree: save it at once, not its weights alone.",
    "with ocp.StandardCheckpointer() as checkpointer: waits at its end; force=True replaces what is there.",
    "restore(folder, example) gives the example's types back: without it Optax's states are dicts.",
    points=2,
)
def saved_run(rng: np.random.Generator, save_run: Any, load_run: Any) -> None:
    """A run of weights, moments, key and step, saved twice, read back elsewhere; it must go on to the bit."""
    save, load = function(save_run, "save_run(folder, run)"), function(load_run, "load_run(folder, example)")
    rule, size = optax.adam(0.1), int(rng.integers(2, 6))

    def fresh(scale: float, number: int) -> dict[str, Any]:
        params = {"w": jnp.asarray(scale * rng.normal(size=size), jnp.float32)}
        return {
            "params": params, "opt_state": rule.init(params), "key": jax.random.key(number),
            "step": jnp.zeros((), jnp.int32),
        }  # fmt: skip

    def advance(run: dict[str, Any], steps: int) -> dict[str, Any]:
        for _ in range(steps):
            key, noise = jax.random.split(run["key"])
            grads = {"w": run["params"]["w"] + jax.random.normal(noise, (size,), jnp.float32) * (1 + run["step"])}
            updates, opt_state = rule.update(grads, run["opt_state"], run["params"])
            params = optax.apply_updates(run["params"], updates)
            run = {"params": params, "opt_state": opt_state, "key": key, "step": run["step"] + 1}
        return run

    example = fresh(0.0, 0)
    first = advance(fresh(1.0, int(rng.integers(1, 1000))), int(rng.integers(2, 5)))
    second = advance(first, 3)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve() / "run"
        save(folder, first)
        save(folder, second)
        if not folder.exists():
            wrong(
                "save_run has returned, and its folder is not there.",
                slip="it is written in the background: wait_until_finished(), or leave the with block",
            )
        moved = Path(name).resolve() / "moved"
        shutil.move(folder, moved)
        got = load(moved, example)
    if got is None:
        wrong("load_run returned None.", slip="a forgotten return")
    if not isinstance(got, dict) or set(got) != set(example):
        wrong(
            f"expected a dict with {', '.join(example)}.", got=sorted(map(str, got)) if isinstance(got, dict) else got
        )
    state = got["opt_state"]
    if not isinstance(state, tuple) or type(state[0]) is not type(example["opt_state"][0]):
        wrong(
            "opt_state is not Adam's state any more: the next update would raise.",
            slip="restored without the example, tuples come back as lists and Optax's states as dicts",
        )
    if not jnp.issubdtype(getattr(got["key"], "dtype", np.float32), jax.dtypes.prng_key):
        wrong("key is no PRNG key any more.", slip="its data alone; jax.random.wrap_key_data makes a key of them")
    for part, value in second.items():
        same(
            got[part], value, f'run["{part}"]', rtol=0, atol=0,
            slips={
                f"{part} is the example's: it was not saved, or not restored": example[part],
                f"{part} is from the first save; the second was to replace it": first[part],
            },
        )  # fmt: skip
        for now, due in zip(jax.tree.leaves(got[part]), jax.tree.leaves(value), strict=True):
            if now.dtype != due.dtype:
                wrong(f'run["{part}"] has another dtype: {now.dtype}, not {due.dtype}.')
    same(
        advance(got, 2)["params"], advance(second, 2)["params"], "the weights two steps on, to the bit,", rtol=0, atol=0
    )
