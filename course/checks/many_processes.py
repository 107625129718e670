"""Checks of the exercises on shares, seeds, a common stop and resharding. Needs NumPy and JAX.

Lesson: 14_many_processes.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, same, wrong

LESSON = "14_many_processes"


@check(
    LESSON,
    "How many batches has the process with most rows? That is how many all have.",
    "Number all places, filled or not, from 0 to processes * count * size - 1; this process has every processes-th.",
    "A place beyond the last row gets the weight 0, and any row number that exists: np.minimum(place, rows - 1).",
    points=2,
)
def weighted_batches(rng: np.random.Generator, evaluation_batches: Any) -> None:
    """Batches of equal number and shape on all processes, each row with weight 1 once; judged by counting."""
    answer = function(evaluation_batches, "evaluation_batches(process, processes, rows, size)")
    processes, size = int(rng.integers(3, 6)), int(rng.integers(3, 6))
    one_more = processes * size * int(rng.integers(2, 4)) + int(rng.integers(1, processes))
    sizes = [one_more, processes * size * 2, processes * size + size + 1, processes - 1]
    for rows in sizes:
        setting = f"{rows} rows, {processes} processes, batches of {size}"
        found = [_batches(answer(process, processes, rows, size), rows, size, setting) for process in range(processes)]
        counts = [len(batches) for batches in found]
        if len(set(counts)) > 1:
            wrong(
                f"{setting}: the processes have {counts} batches.",
                slip="one has a batch more, and waits for the others for ever; all need as many as the longest share",
            )
        weights: Counter[int] = Counter()
        for chosen, weight in itertools.chain(*found):
            for row, one in zip(chosen.tolist(), weight.tolist(), strict=True):
                weights[row] += one
        _each_once(weights, rows, setting)
        due = -(-rows // (processes * size))
        if counts[0] != due:
            wrong(
                f"{setting}: {due} batches each would do.", got=counts[0], slip="batches in which no row has a weight"
            )


def _batches(got: Any, rows: int, size: int, setting: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """An answer as pairs of arrays (size,), refused where it has another form."""
    try:
        pairs = [(np.asarray(chosen), np.asarray(weight)) for chosen, weight in got]
    except (TypeError, ValueError):
        wrong("expected a list of pairs (row numbers, weights).", got=got, slip="a forgotten return, or no weights")
    for chosen, weight in pairs:
        if chosen.shape != (size,) or weight.shape != (size,):
            wrong(
                f"{setting}: expected shapes ({size},) and ({size},), got {chosen.shape} and {weight.shape}.",
                slip="a short last batch: it does not fit into the global array; fill it up, with weight 0",
            )
        if chosen.dtype.kind not in "iu" or weight.dtype.kind not in "biuf":
            wrong(f"{setting}: expected whole row numbers, and numbers for weights.", got=chosen)
        if chosen.min() < 0 or chosen.max() >= rows:
            wrong(
                f"{setting}: expected row numbers from 0 to {rows - 1}.", got=chosen,
                slip="what fills up has a row number beyond the data; the loader reads it all the same",
            )  # fmt: skip
    return pairs


def _each_once(weights: Counter[int], rows: int, setting: str) -> None:
    once = [weights[row] for row in range(rows)]
    if once == [1.0] * rows:
        return
    slip = "weights are 1 for a row and 0 for what fills up"
    if max(once) == 2 and min(once) >= 1:
        slip = "the rows that fill up count twice, as with DistributedSampler; their weight is 0"
    elif max(once) == 1 and sum(value == 0 for value in once) and set(once) <= {0, 1}:
        slip = "rows are left out, as with drop_last=True"
    elif min(once) > 1:
        slip = "every process has all rows: cut out its share, [process::processes]"
    wrong(f"{setting}: not every row has the weight 1 once.", got=np.array(once), slip=slip)


@check(
    LESSON,
    "Ask of each key: on which of process, epoch and step may it depend?",
    "Split the seed's key in three first, so that no two purposes share one.",
    "jax.random.fold_in once for each number: fold_in(fold_in(noise, process), step). A sum of two numbers makes one.",
    points=2,
)
def keys_of_processes(rng: np.random.Generator, keys_of: Any) -> None:
    """Three keys of each process, epoch and step; judged by which of them are equal."""
    answer = function(keys_of, "keys_of(seed, process, epoch, step)")
    seed, processes, epochs, per_epoch = int(rng.integers(1, 1000)), 6, 3, 4

    def keys(seed: int, process: int, step: int) -> dict[str, bytes]:
        got = answer(seed, process, step // per_epoch, step)
        if not isinstance(got, dict) or set(got) != {"weights", "order", "noise"}:
            wrong('expected a dict of "weights", "order" and "noise".', got=got)
        return {name: _key_bytes(name, key) for name, key in got.items()}

    grid = list(itertools.product(range(processes), range(epochs * per_epoch)))
    found = {place: keys(seed, *place) for place in grid}
    if found[0, 0] != keys(seed, 0, 0):
        wrong("the same arguments give other keys.", slip="a generator that goes on from call to call")

    def differ(name: str, along: str) -> bool:
        """Whether a key changes with the process alone, or with the step alone."""
        here = found[0, 0][name]
        others = (
            [(p, 0) for p in range(processes)] if along == "process" else [(0, s) for s in range(epochs * per_epoch)]
        )
        return any(found[place][name] != here for place in others)

    if differ("weights", "process"):
        wrong("weights: another key on each process.", slip="each process trains weights of its own, without a word")
    if differ("weights", "step"):
        wrong("weights: the key changes with the step.", slip="weights are drawn once; a restart must draw the same")
    if differ("order", "process"):
        wrong(
            "order: another key on each process.", slip="shares of different orders overlap: rows twice, others never"
        )
    orders = [found[0, step]["order"] for step in range(epochs * per_epoch)]
    if len(set(orders)) == 1:
        wrong("order: the same key in every epoch.", slip="every epoch has the same order, as without set_epoch")
    if len(set(orders)) != epochs:
        wrong("order: the key changes within an epoch.", slip="the step where the epoch is due")
    noises = [found[place]["noise"] for place in grid]
    if not differ("noise", "process"):
        wrong("noise: the same key on every process.", slip="all processes add the same noise to their own rows")
    if not differ("noise", "step"):
        wrong("noise: the same key in every step.", slip="the step is left out")
    if len(set(noises)) < len(noises):
        wrong(
            "noise: two pairs of process and step have one key.",
            slip="a sum of process and step, or the epoch for the step; fold in one number after the other",
        )
    if {found[0, 0]["weights"], *orders} & set(noises) or found[0, 0]["weights"] in orders:
        wrong("one key serves two purposes.", slip="split the seed's key in three before anything is folded in")
    made = _folded([found[0, 0]["weights"], *dict.fromkeys(orders)], epochs * per_epoch)
    if made & {*orders, *noises}:
        wrong(
            "a key is used, and others are folded from it.",
            slip="weights and order use keys of their own; split the seed's key in three before anything is folded in",
        )
    other = keys(seed + 1, 0, 0)
    if any(other[name] == found[0, 0][name] for name in other):
        wrong("another seed gives the same key.", slip="the seed is ignored")
    if len({*noises} | {keys(seed + 1, *place)["noise"] for place in grid[:24]}) < len(noises) + 24:
        wrong("two seeds share keys.", slip="seed + process, or seed + step: this seed's next one is another's first")


def _key_bytes(name: str, key: Any) -> bytes:
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    if not isinstance(key, jax.Array) or key.dtype != jnp.uint32 or key.ndim != 1:
        wrong(f"{name}: expected one PRNG key.", got=key, slip="jax.random.key makes a key, split an array of them")
    return np.asarray(key).tobytes()


def _folded(keys: list[bytes], numbers: int) -> set[bytes]:
    """What folding one number in, or one after the other, makes of keys of JAX's usual kind."""
    made = [key for key in keys if len(key) == 8]
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
    found: set[bytes] = set()
    for _ in range(2 if made else 0):
        parents = jax.random.wrap_key_data(
            jnp.array([np.frombuffer(key, np.uint32) for key in made]), impl="threefry2x32"
        )
        made = [
            row.tobytes() for row in np.asarray(jax.random.key_data(fold(parents, jnp.arange(numbers)))).reshape(-1, 2)
        ]
        found |= {*made}
    return found


class _Stuck(BaseException):
    """A collective that cannot end; no Exception, so that an answer does not catch it."""


class _Processes:
    """Processes played by threads: a collective goes on once all have called it."""

    def __init__(self, count: int) -> None:
        self.count, self.round, self.result, self.problem = count, 0, 0.0, ""
        self.lock, self.waiting, self.left = threading.Condition(), dict[int, tuple[str, float]](), set[int]()

    def collective(self, index: int, name: str, value: float) -> float:
        with self.lock:
            self.waiting[index] = name, value
            self._look()
            now = self.round
            if len(self.waiting) == self.count and not self.problem:
                self.result = float(np.mean([self.waiting[i][1] for i in range(self.count)]))
                self.waiting, self.round = {}, now + 1
                self.lock.notify_all()
            self.lock.wait_for(lambda: self.problem or self.round > now)
            if self.problem:
                raise _Stuck
            return self.result

    def leave(self, index: int) -> None:
        with self.lock:
            self.left.add(index)
            self._look()

    def _look(self) -> None:
        names = {name for name, _ in self.waiting.values()}
        if len(names) > 1:
            self.problem = self.problem or "order"
        elif self.waiting and self.left:
            self.problem = self.problem or "left"
        if self.problem:
            self.lock.notify_all()

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """What each process returns; what one of them raised is raised here."""
        results, raised = [None] * self.count, list[BaseException]()

        def one(index: int) -> None:
            try:
                results[index] = work(index)
            except _Stuck:
                pass
            except BaseException as error:  # carried over into the thread that asks
                raised.append(error)
            finally:
                self.leave(index)

        threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=5)
        if raised:
            raise raised[0]
        if any(thread.is_alive() for thread in threads):
            wrong("a process does not come to its end.", slip="a loop that neither stops nor calls a collective")
        return results


def _stop(losses: np.ndarray, patience: int, *, last: bool = False) -> int:
    """How many epochs are trained on a list of losses; `last` compares with the epoch before in place of the best."""
    best, waited = np.inf, 0
    for epoch, loss in enumerate(losses):
        waited = 0 if loss < best else waited + 1
        best = loss if last else min(best, loss)
        if waited == patience:
            return epoch + 1
    return len(losses)


@check(
    LESSON,
    "Which numbers are the same on all processes? Only those may decide.",
    "Every process calls the same collectives in the same order: train_epoch, then all_mean, in each epoch.",
    "loss = all_mean(evaluate()); the rest stays as it is.",
    points=2,
)
def common_stop(rng: np.random.Generator, train: Any) -> None:
    """An early stop on the loss of all rows; judged by running three processes as threads."""
    answer = function(train, "train(train_epoch, evaluate, all_mean, patience, epochs)")
    count, epochs = 3, 24
    for patience in (2, 3):
        while True:  # losses whose local stops differ from each other and from the common one
            losses = 1 / np.arange(1.0, 13.0).repeat(2) + rng.normal(size=(count, epochs)) * 0.12
            mean = losses.mean(axis=0)
            due, local = _stop(mean, patience), [_stop(one, patience) for one in losses]
            slips = {
                "the first process that would stop stops all; the mean loss is to decide": min(local),
                "all wait for the last process that would stop; the mean loss is to decide": max(local),
                "it never stops early": epochs,
                "a comparison with the epoch before, in place of the best one": _stop(mean, patience, last=True),
                "one epoch more: it is over once patience epochs in a row were no better": _stop(mean, patience + 1),
                "one epoch less than patience": _stop(mean, patience - 1),
            }
            if len({due, *local}) == count + 1 and due not in slips.values() and len(set(slips.values())) == len(slips):
                break
        together = _Processes(count)

        def work(
            index: int, together: _Processes = together, losses: np.ndarray = losses, patience: int = patience
        ) -> Any:
            done = 0

            def train_epoch() -> None:
                nonlocal done
                together.collective(index, "train_epoch", 0.0)
                done += 1

            def evaluate() -> float:
                return float(losses[index, min(max(done, 1), epochs) - 1])

            returned = answer(
                train_epoch,
                evaluate,
                lambda number: together.collective(index, "all_mean", float(number)),
                patience,
                epochs,
            )
            return returned, done

        results = together.run(work)
        if together.problem == "left":
            wrong(
                "the job hangs: a process has left, and the others wait for it in a collective.",
                slip="each process decides by a number of its own; decide by all_mean(loss), the same on all",
            )
        if together.problem == "order":
            wrong(
                "the job hangs: some processes are in train_epoch, the others in all_mean.",
                slip="a collective that only some of them call, under a condition that differs",
            )
        trained = {done for _, done in results}
        if trained != {due}:
            got = min(trained)
            slip = next((text for text, value in slips.items() if value == got), "")
            wrong(f"patience {patience}: expected {due} epochs, trained {got}.", slip=slip)
        for returned, _ in results:
            same(returned, due, "the number of epochs that is returned", slips={"counted from 0": due - 1})


@check(
    LESSON,
    "slice(None).indices(n) is (0, n, 1): with it every index becomes numbers.",
    "Along one axis two parts share max(starts) up to min(stops); if that is empty along any axis, they share nothing.",
    "The shared rows stand at start - held.start in the part, and at start - wanted.start in the region.",
    points=3,
)
def region_of_parts(rng: np.random.Generator, read_region: Any) -> None:
    """A region of an array that lies in parts; judged by slicing the whole, and by what was loaded."""
    answer = function(read_region, "read_region(parts, wanted, shape)")
    for written, read in (((2, 2), (3, 1)), ((4, 1), (1, 2)), ((1, 3), (2, 3))):
        shape = 12 + 12 * int(rng.integers(1, 3)), 12 + 12 * int(rng.integers(3, 5))
        whole = rng.integers(1, 2**20, size=shape).astype(np.float32 if written[0] > 1 else np.int32)
        loaded: list[int] = []

        def load(number: int, index: tuple[slice, ...], whole: np.ndarray = whole, loaded: list[int] = loaded) -> Any:
            loaded.append(number)
            return whole[index].copy()

        cuts = _cuts(shape, written)
        order = rng.permutation(len(cuts)).tolist()
        parts = [(cuts[n], lambda n=n, index=cuts[n], load=load: load(n, index)) for n in order]
        for wanted in _cuts(shape, read):
            loaded.clear()
            got = answer(parts, wanted, shape)
            place = np.zeros(shape, bool)
            place[wanted] = True
            touched = {n for n, index in enumerate(cuts) if place[index].any()}
            first = min(touched)
            same(
                got, whole[wanted], f"the region {_text(wanted)} of {shape}", rtol=0, atol=0,
                slips={
                    "the whole array, and not the region": whole,
                    "one part, where the region lies across several": whole[cuts[first]],
                    "a part that was to fill only some of the region": whole[cuts[max(touched)]],
                },
            )  # fmt: skip
            if not isinstance(got, np.ndarray) or got.dtype != whole.dtype:
                kind = getattr(got, "dtype", type(got).__name__)
                wrong(
                    f"expected a NumPy array of {whole.dtype}, got {kind}.", slip="np.zeros and np.empty make float64"
                )
            if set(loaded) - touched:
                wrong(
                    f"{len(set(loaded))} parts were loaded, and {len(touched)} hold something of the region.",
                    slip="all parts are read: a process would need room for the whole array; load() after comparing",
                )
            if len(loaded) > len(set(loaded)):
                wrong("a part was loaded more than once.", slip="keep what load() returned")


def _cuts(shape: tuple[int, ...], counts: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The indices of the shards of an array, as JAX gives them: slice(None) for an axis that is whole."""
    axes = [
        [slice(None)] if count == 1 else [slice(i * n // count, (i + 1) * n // count, None) for i in range(count)]
        for n, count in zip(shape, counts, strict=True)
    ]
    return list(itertools.product(*axes))


def _text(index: tuple[slice, ...]) -> str:
    return "[" + ", ".join(":" if cut == slice(None) else f"{cut.start}:{cut.stop}" for cut in index) + "]"
