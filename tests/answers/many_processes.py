"""Answers to the exercises of 14_many_processes."""

import itertools

import jax
import numpy as np

from tests.answers import right, wrong


def batches_of(fill=lambda mine, length: np.resize(mine, length), weight=lambda n, length: np.arange(length) < n,
               count=lambda process, processes, rows, size: -(-rows // (processes * size)),
               cut=lambda process, processes, rows: np.arange(process, rows, processes)):  # fmt: skip
    def evaluation_batches(process, processes, rows, size):
        mine, number = cut(process, processes, rows), count(process, processes, rows, size)
        filled = fill(mine if len(mine) else np.zeros(1, int), number * size)[: number * size].reshape(number, size)
        weights = weight(len(mine), number * size).astype(np.float32).reshape(number, size)
        return list(zip(filled, weights, strict=True))

    return evaluation_batches


def own_count(process, processes, rows, size):
    return max(1, -(-len(range(process, rows, processes)) // size))


wrong("weighted_batches", "waits for the others for ever")(batches_of(count=own_count))
wrong("weighted_batches", "count twice, as with DistributedSampler")(
    batches_of(weight=lambda n, length: np.ones(length))
)
wrong("weighted_batches", "rows are left out, as with drop_last")(
    batches_of(count=lambda process, processes, rows, size: max(1, rows // (processes * size)))
)
wrong("weighted_batches", "every process has all rows")(
    batches_of(cut=lambda process, processes, rows: np.arange(rows), count=lambda p, n, rows, size: -(-rows // size))
)
wrong("weighted_batches", "a row number beyond the data")(
    batches_of(fill=lambda mine, length: np.concatenate([mine, np.full(length, 10**6)]))
)
wrong("weighted_batches", "batches in which no row has a weight")(
    batches_of(count=lambda process, processes, rows, size: 1 + -(-rows // (processes * size)))
)
wrong("weighted_batches", "no weights")(lambda process, processes, rows, size: np.arange(process, rows, processes))


@wrong("weighted_batches", "a short last batch")
def short(process, processes, rows, size):
    mine = np.arange(process, rows, processes)
    return [(part, np.ones(len(part))) for part in np.split(mine, range(size, len(mine), size))]


right("weighted_batches")(batches_of())


@right("weighted_batches")
def contiguous(process, processes, rows, size):
    batches = []
    count = -(-rows // (processes * size))
    for number in range(count):
        places = range((number * processes + process) * size, (number * processes + process + 1) * size)
        batches.append(([p if p < rows else 0 for p in places], [float(p < rows) for p in places]))
    return batches


def keys_from(weights, order, noise):
    key, fold = jax.random.key, jax.random.fold_in

    def keys_of(seed, process, epoch, step):
        given = {"s": seed, "p": process, "e": epoch, "n": step}
        parts = {}
        for number, (name, how) in enumerate({"weights": weights, "order": order, "noise": noise}.items()):
            made = fold(key(given["s"] if "s" in how else 0), number)
            for letter in how.replace("s", ""):
                made = fold(made, given[letter])
            parts[name] = made
        return parts

    return keys_of


wrong("keys_of_processes", "trains weights of its own")(keys_from("sp", "se", "spn"))
wrong("keys_of_processes", "weights are drawn once")(keys_from("sn", "se", "spn"))
wrong("keys_of_processes", "shares of different orders overlap")(keys_from("s", "spe", "spn"))
wrong("keys_of_processes", "as without set_epoch")(keys_from("s", "s", "spn"))
wrong("keys_of_processes", "the step where the epoch is due")(keys_from("s", "sn", "spn"))
wrong("keys_of_processes", "the same noise to their own rows")(keys_from("s", "se", "sn"))
wrong("keys_of_processes", "the step is left out")(keys_from("s", "se", "sp"))
wrong("keys_of_processes", "the epoch for the step")(keys_from("s", "se", "spe"))
wrong("keys_of_processes", "the seed is ignored")(keys_from("", "se", "spn"))


@wrong("keys_of_processes", "trains weights of its own")
def seed_plus_rank(seed, process, epoch, step):
    weights, order, noise = jax.random.split(jax.random.key(seed + process), 3)
    return {"weights": weights, "order": jax.random.fold_in(order, epoch), "noise": jax.random.fold_in(noise, step)}


@wrong("keys_of_processes", "a sum of process and step")
def summed(seed, process, epoch, step):
    return {**keys_from("s", "se", "spn")(seed, process, epoch, step), "noise": jax.random.key(seed + process + step)}


@wrong("keys_of_processes", "serves two purposes")
def unsplit(seed, process, epoch, step):
    key = jax.random.key(seed)
    noise = jax.random.fold_in(jax.random.fold_in(key, process), step)
    return {"weights": key, "order": jax.random.fold_in(jax.random.fold_in(key, 0), epoch), "noise": noise}


@wrong("keys_of_processes", "others are folded from it")
def parent(seed, process, epoch, step):
    key, fold = jax.random.key(seed), jax.random.fold_in
    return {"weights": key, "order": fold(key, epoch), "noise": fold(fold(key, process), step)}


@wrong("keys_of_processes", "others are folded from it")
def order_for_noise(seed, process, epoch, step):
    weights, order = jax.random.split(jax.random.key(seed))
    fold = jax.random.fold_in
    return {"weights": weights, "order": fold(order, epoch), "noise": fold(fold(order, process), step)}


@wrong("keys_of_processes", "two seeds share keys")
def next_seeds(seed, process, epoch, step):
    noise = jax.random.fold_in(jax.random.key(1000 + seed + process), step)
    return {**keys_from("s", "se", "spn")(seed, process, epoch, step), "noise": noise}


right("keys_of_processes")(keys_from("s", "se", "spn"))


@right("keys_of_processes")
def old_style(seed, process, epoch, step):
    noise = jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), 7 + step), process)
    return {
        "weights": jax.random.fold_in(jax.random.PRNGKey(seed), 1),
        "order": jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), 2), epoch),
        "noise": noise,
    }


def stopping(common=lambda loss, all_mean: all_mean(loss), stop=lambda waited, patience, all_mean: waited == patience,
             best_of=min, returned=1, late=0):  # fmt: skip
    def train(train_epoch, evaluate, all_mean, patience, epochs):
        best, waited = float("inf"), 0
        for epoch in range(epochs):
            train_epoch()
            loss = common(evaluate(), all_mean)
            waited = 0 if loss < best else waited + 1
            best = best_of(loss, best)
            if stop(waited, patience + late, all_mean):
                return epoch + returned
        return epochs

    return train


wrong("common_stop", "decides by a number of its own")(stopping(common=lambda loss, all_mean: loss))
wrong("common_stop", "the first process that would stop")(
    stopping(lambda loss, all_mean: loss, lambda waited, patience, all_mean: all_mean(waited >= patience) > 0)
)
wrong("common_stop", "it never stops early")(stopping(stop=lambda waited, patience, all_mean: False))
wrong("common_stop", "one epoch more")(stopping(late=1))
wrong("common_stop", "the epoch before, in place of the best")(stopping(best_of=lambda loss, best: loss))
wrong("common_stop", "one epoch less")(stopping(late=-1))
wrong("common_stop", "counted from 0")(stopping(returned=0))


@wrong("common_stop", "the last process that would stop")
def all_agree(train_epoch, evaluate, all_mean, patience, epochs):
    best, waited, done = float("inf"), 0, False
    for epoch in range(epochs):
        train_epoch()
        loss = evaluate()
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        done = done or waited >= patience
        if all_mean(float(done)) == 1:
            return epoch + 1
    return epochs


@wrong("common_stop", "a collective that only some of them call")
def asks_if_better(train_epoch, evaluate, all_mean, patience, epochs):
    best, waited = float("inf"), 0
    for epoch in range(epochs):
        train_epoch()
        loss = evaluate()
        if loss < best:
            best, waited = all_mean(loss), 0
        else:
            waited += 1
        if waited == patience:
            return epoch + 1
    return epochs


right("common_stop")(stopping())


@right("common_stop")
def by_history(train_epoch, evaluate, all_mean, patience, epochs):
    means = []
    while len(means) < epochs and (len(means) <= patience or min(means[-patience:]) < min(means[:-patience])):
        train_epoch()
        means.append(all_mean(evaluate()))
    return len(means)


def reading(overlaps=lambda both: all(both), dtype=lambda part: part.dtype, whole=False):
    def read_region(parts, wanted, shape):
        array = None
        due = [range(*cut.indices(n)) for cut, n in zip(wanted, shape, strict=True)]
        for index, load in parts:
            held = [range(*cut.indices(n)) for cut, n in zip(index, shape, strict=True)]
            both = [range(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(held, due, strict=True)]
            if overlaps(both):
                part = load()
                array = np.zeros(shape, dtype(part)) if array is None else array
                array[index] = part
        return array if whole else array[wanted]

    return read_region


wrong("region_of_parts", "the whole array, and not the region")(reading(overlaps=lambda both: True, whole=True))
wrong("region_of_parts", "all parts are read")(reading(overlaps=lambda both: True))
wrong("region_of_parts", "np.zeros and np.empty make float64")(reading(dtype=lambda part: float))
wrong("region_of_parts", "the region")(reading(overlaps=lambda both: any(both) and len(both[0]) == 0))


@wrong("region_of_parts", "one part, where the region lies across several")
def first_alone(parts, wanted, shape):
    found = []
    for index, load in parts:
        pairs = zip(index, wanted, shape, strict=True)
        if all(set(range(*a.indices(n))) & set(range(*b.indices(n))) for a, b, n in pairs):
            found.append(([cut.indices(n)[0] for cut, n in zip(index, shape, strict=True)], load))
    return min(found, key=lambda pair: pair[0])[1]()


@wrong("region_of_parts", "NoneType")
def without_indices(parts, wanted, shape):
    region = np.empty([cut.stop - cut.start for cut in wanted])
    for index, load in parts:
        region[index] = load()
    return region


@wrong("region_of_parts", "loaded more than once")
def twice(parts, wanted, shape):
    reading()(parts, wanted, shape)
    return reading()(parts, wanted, shape)


right("region_of_parts")(reading())


@right("region_of_parts")
def by_sets(parts, wanted, shape):
    rows, columns = (range(n)[cut] for cut, n in zip(wanted, shape, strict=True))
    values, kind = {}, None
    for index, load in parts:
        own = [range(n)[cut] for cut, n in zip(index, shape, strict=True)]
        if set(own[0]) & set(rows) and set(own[1]) & set(columns):
            part = load()
            kind = part.dtype
            values |= {place: part[place[0] - own[0][0], place[1] - own[1][0]] for place in itertools.product(*own)}
    return np.array([[values[row, column] for column in columns] for row in rows], kind)
