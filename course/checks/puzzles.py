"""Checks of the puzzles: vmap, scan, masks, keys and associative scans in a few lines. Needs NumPy and JAX.

Lesson: 09_transformations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, operations, same, wrong

LESSON = "puzzles"


def of_one(f: Callable[..., Any], name: str, shape: tuple[int, ...], slip: str) -> tuple[Callable[..., Any], list[int]]:
    """f as a function that refuses arguments of another shape, and a list that grows by one a call."""
    calls: list[int] = []

    def watched(*args: Any) -> Any:
        for arg in args:
            if np.shape(arg) != shape:
                wrong(f"{name} takes arguments of shape {shape}, and was called with {np.shape(arg)}.", slip=slip)
        calls.append(1)
        return f(*args)

    return watched, calls


def ran_once(calls: list[int], name: str) -> None:
    """Refuse an answer that calls a function again and again."""
    if len(calls) > 2:
        wrong(f"{name} ran {len(calls)} times.", slip="a Python loop; under jax.vmap it runs once, on traced values")


def no_loop(answer: Callable[..., Any], small: tuple[Any, ...], large: tuple[Any, ...], times: float = 2.0) -> None:
    """Refuse an answer whose jaxpr grows with the data, which are eight times as many in `large`."""
    few, many = (sum(operations(answer, *args).values()) for args in (small, large))
    if many > times * few + 8:
        wrong(
            f"the program grows with the data: {few} operations become {many}.",
            slip="a Python loop, which tracing writes out turn by turn",
        )


@check(
    LESSON,
    "Fix one x[i]: the row is f mapped over y alone. Then map that over x.",
    "in_axes=(None, 0) holds the first argument and maps the second.",
    "The inner vmap maps y, with in_axes=(None, 0); the outer one maps x, with in_axes=(0, None).",
)
def all_pairs(rng: np.random.Generator, all_pairs: Any) -> None:
    """A function of two numbers on every pair, against two loops."""
    answer = function(all_pairs, "all_pairs(f, x, y)")
    m, n, k = rng.permutation(np.arange(3, 8))[:3]
    for rows, columns in ((m, n), (k, k)):
        x, y = rng.normal(size=rows).astype("f"), rng.normal(size=columns).astype("f")
        c = float(rng.uniform(0.5, 1.5))

        def rule(a: Any, b: Any, c: float = c) -> Any:
            return jnp.sin(c * a) * b + a

        f, calls = of_one(rule, "f", (), "broadcasting is not asked for; map f with jax.vmap")
        got = answer(f, jnp.asarray(x), jnp.asarray(y))
        expected = np.array([[np.sin(c * a) * b + a for b in y] for a in x], "f")
        swapped = np.array([[np.sin(c * b) * a + b for b in y] for a in x], "f")
        same(
            got, expected, f"the table {rows} x {columns}",
            slips={
                "rows and columns swapped: the outer vmap makes the rows, so it must map x": expected.T,
                "the arguments swapped: f(x[i], y[j]), not f(y[j], x[i])": swapped,
                "one vmap walks along x and y together: only pairs with i = j": np.diagonal(expected),
            },
        )  # fmt: skip
        ran_once(calls, "f")


@check(
    LESSON,
    "Which axis of x counts the columns? vmap takes that axis away.",
    "in_axes says which axis is mapped, out_axes where the mapped axis goes in the result.",
    "jax.vmap(g, in_axes=1, out_axes=1)(x)",
)
def column_summaries(rng: np.random.Generator, column_summaries: Any) -> None:
    """A function of one column on all columns, results as columns; against a loop."""
    answer = function(column_summaries, "column_summaries(g, x)")
    n, m = rng.permutation(np.arange(4, 8))[:2]
    for rows, columns in ((n, n), (n, m)):
        x = rng.normal(size=(rows, columns)).astype("f")
        g, calls = of_one(
            lambda c: jnp.stack([c.max() - c.min(), c[0] * c[-1], c.sum()]), "g", (rows,),
            "vmap maps axis 0 unless it is told: columns are counted by axis 1, in_axes=1",
        )  # fmt: skip
        got = answer(g, jnp.asarray(x))

        def summaries(table: np.ndarray) -> np.ndarray:
            return np.array([[c.max() - c.min(), c[0] * c[-1], c.sum()] for c in table.T], "f").T

        expected, of_rows = summaries(x), summaries(x.T)
        same(
            got, expected, f"the summaries of {columns} columns",
            slips={
                "results lie in rows: out_axes=1 puts the mapped axis second": expected.T,
                "rows were mapped, not columns: in_axes=1": of_rows,
                "rows were mapped, and results lie in rows: in_axes=1, out_axes=1": of_rows.T,
            },
        )  # fmt: skip
        ran_once(calls, "g")


@check(
    LESSON,
    "Three axes in the result, three vmaps; write down for each which of q and k it maps.",
    "The batch axis belongs to both at once: in_axes=(0, 0), the default, outside.",
    "Inside: vmap(vmap(score, in_axes=(None, 0)), in_axes=(0, None)), the table of puzzle 1.",
    points=2,
)
def batch_scores(rng: np.random.Generator, batch_scores: Any) -> None:
    """Scores of all pairs of vectors in each example, against three loops."""
    answer = function(batch_scores, "batch_scores(score, q, k)")
    b, s, t, d = rng.permutation(np.arange(2, 7))[:4]
    for queries, keys in ((s, t), (s, s)):
        q, k = rng.normal(size=(b, queries, d)).astype("f"), rng.normal(size=(b, keys, d)).astype("f")
        score, calls = of_one(
            lambda u, v: jnp.abs(u - 2 * v).sum(), "score", (int(d),), "score takes one vector of q and one of k"
        )
        every = np.abs(q[:, None, :, None] - 2 * k[None, :, None, :]).sum(-1)  # (b, b, s, t)
        expected = np.stack([every[i, i] for i in range(b)])
        got = answer(score, jnp.asarray(q), jnp.asarray(k))
        same(
            got, expected, f"the scores of {b} examples",
            slips={
                "the last two axes are swapped: the vmap over q must be outside that over k": expected.swapaxes(1, 2),
                "q of each example met k of every example: the batch axis is mapped for both at once": every,
                "q of each example met k of every example; the batch axis is mapped for both": every.swapaxes(1, 2),
                "one vmap too few: only pairs at the same position": np.diagonal(expected, axis1=1, axis2=2),
                "the batch axis is not the first: the vmap over examples must be outside": np.moveaxis(expected, 0, -1),
            },
        )  # fmt: skip
        ran_once(calls, "score")


@check(
    LESSON,
    "What must one turn know of the turns before? That is the carry; here one number.",
    "A turn returns two things: the new carry, and what is stacked. Here both are the new balance.",
    "jax.lax.scan(lambda balance, move: (jnp.maximum(balance + move, 0),) * 2, start, moves)",
)
def floored_balance(rng: np.random.Generator, floored_balance: Any) -> None:
    """A running sum that cannot fall below zero: last value and history; against a loop."""
    answer = function(floored_balance, "floored_balance(start, moves)")
    for n in rng.integers(6, 10, 2):
        start, moves = np.float32(rng.uniform(0.5, 1)), rng.normal(size=n).astype("f")
        moves[1], moves[2], moves[-2:] = -4, 1.5, (-0.25, -0.5)  # it hits the floor, and leaves it again
        history, balance = [], start
        for move in moves:
            balance = max(balance + move, np.float32(0))
            history.append(balance)
        expected = (np.float32(balance), np.array(history))
        free = start + np.cumsum(moves, dtype="f")
        late, before = np.maximum(free, 0), np.array([start, *history[:-1]])
        lowest = np.maximum(moves, 0)
        got = jax.jit(answer)(jnp.asarray(start), jnp.asarray(moves))
        same(
            got, expected, f"(last balance, history) of {n} moves",
            slips={
                "without the floor: jnp.maximum(..., 0) in every turn": (free[-1], free),
                "the floor comes after the sum; it belongs into every turn": (late[-1], late),
                "the history has the balance before each move: stack the new carry, not the old": (balance, before),
                "the pair is swapped: first the last balance, then the history": (expected[1], expected[0]),
                "the history alone; scan returns a pair": expected[1],
                "the floor holds the moves, not the balance": (start + lowest.sum(), start + np.cumsum(lowest)),
            },
        )  # fmt: skip
    small, large = (jnp.asarray(rng.normal(size=n), jnp.float32) for n in (6, 48))
    no_loop(answer, (jnp.float32(1), small), (jnp.float32(1), large), 4)


@check(
    LESSON,
    "Start from the last reward: what does each step need from the step that follows it in time?",
    "lax.scan(..., reverse=True) walks from the end, and still stacks the results in the order of time.",
    "A turn: later = reward + gamma * jnp.where(end, 0, later), and it returns (later, later).",
    points=2,
)
def returns_to_go(rng: np.random.Generator, returns_to_go: Any) -> None:
    """Discounted sums of later rewards that stop where an episode ends; against a loop from the end."""
    answer = function(returns_to_go, "returns_to_go(rewards, ends, gamma)")
    for n in rng.integers(7, 10, 2):
        rewards, gamma = rng.normal(size=n).astype("f"), np.float32(rng.uniform(0.6, 0.9))
        ends = np.arange(n) == rng.integers(2, n - 3)

        def backwards(stops: np.ndarray, gamma: Any = gamma, rewards: np.ndarray = rewards) -> np.ndarray:
            later, out = 0.0, np.zeros(len(rewards), "f")
            for t in reversed(range(len(rewards))):
                later = rewards[t] + gamma * (0.0 if stops[t] else later)
                out[t] = later
            return out

        expected = backwards(ends)
        forward = backwards(ends[::-1], rewards=rewards[::-1])[::-1]
        got = jax.jit(answer)(jnp.asarray(rewards), jnp.asarray(ends), jnp.asarray(gamma))
        same(
            got, expected, f"the returns of {n} steps",
            slips={
                "the scan walks forward, and sums earlier rewards: reverse=True": forward,
                "the results stand in the order of the walk, from the end": expected[::-1],
                "ends are ignored: rewards of the next episode come in": backwards(np.zeros(n, bool)),
                "the cut is a step early: ends[t] cuts what comes after t, not what t gets": backwards(
                    np.append(ends[1:], False)
                ),
                "without gamma": backwards(ends, np.float32(1)),
                "the own reward of the last step is lost": backwards(ends, rewards=np.where(ends, 0, rewards)),
            },
        )  # fmt: skip
    small, large = ((jnp.ones(n), jnp.arange(n) == 3, jnp.float32(0.5)) for n in (6, 48))
    no_loop(answer, small, large, 4)
    if operations(answer, *small)["rev"]:
        wrong("an array is turned round.", slip="[::-1] or flip; lax.scan has reverse=True")


@check(
    LESSON,
    "A weight is zero where its score was -inf.",
    "The mask is j <= i: jnp.tri(n), or a comparison of two jnp.arange(n), one of them with [:, None].",
    "jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)",
)
def causal_weights(rng: np.random.Generator, causal_weights: Any) -> None:
    """A softmax over the past of each row, against a loop over rows."""
    answer = function(causal_weights, "causal_weights(scores)")
    for n in rng.integers(4, 8, 2):
        scores = rng.normal(size=(n, n)).astype("f")

        def softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
            powers = np.exp(scores)
            return powers / powers.sum(axis, keepdims=True)

        expected = np.zeros((n, n), "f")
        for i in range(n):
            expected[i, : i + 1] = softmax(scores[i, : i + 1])
        past = np.tri(n, dtype=bool)
        strict = np.tri(n, k=-1, dtype=bool)
        with np.errstate(all="ignore"):
            without_now = softmax(np.where(strict, scores, -np.inf))
        same(
            jax.jit(answer)(jnp.asarray(scores)), expected, f"the weights of {n} positions",
            slips={
                "nothing is masked": softmax(scores),
                "the future, not the past: row i looks at j <= i": softmax(np.where(past.T, scores, -np.inf)),
                "the weights are masked after the softmax, and rows no longer sum to 1": softmax(scores) * past,
                "a masked score is 0, and exp(0) is 1: it must be -inf": softmax(np.where(past, scores, 0)),
                "the softmax runs down the columns: axis=-1": softmax(np.where(past, scores, -np.inf), 0),
                "a row may look at itself: j <= i, not j < i": without_now,
            },
        )  # fmt: skip
    no_loop(answer, (jnp.ones((3, 3)),), (jnp.ones((24, 24)),))


@check(
    LESSON,
    "Two sums make a mean: that of the values, and that of ones.",
    "jnp.zeros(k).at[owners].add(values) adds up, also where an owner comes twice.",
    "Divide by jnp.maximum(counts, 1): an empty bag has the sum 0.",
    points=2,
)
def bag_means(rng: np.random.Generator, bag_means: Any) -> None:
    """The mean of the values of each owner, 0 where there is none; against a loop over owners."""
    answer = function(bag_means, "bag_means(values, owners, k)")
    for k in rng.integers(4, 8, 2):
        k = int(k)
        empty = rng.integers(0, k)
        owners = rng.permutation(np.append(np.repeat(np.delete(np.arange(k), empty), 2), [(empty + 1) % k]))
        values = rng.normal(size=len(owners)).astype("f")
        expected, sums, last = np.zeros(k, "f"), np.zeros(k, "f"), np.zeros(k, "f")
        for j in range(k):
            mine = values[owners == j]
            if len(mine):
                expected[j], sums[j], last[j] = mine.mean(), mine.sum(), mine[-1]
        counts = np.bincount(owners, minlength=k)
        got = jax.jit(lambda v, o, k=k: answer(v, o, k))(jnp.asarray(values), jnp.asarray(owners, jnp.int32))
        same(
            got, expected, f"the means of {k} bags",
            slips={
                "the sums, not the means": sums,
                "only the last value of each owner is kept: .at[...].add, not .set": last,
                "only the last value of each owner is kept, then divided: .at[...].add": last / np.maximum(counts, 1),
                "0 / 0: an empty bag is nan": np.where(counts == 0, np.nan, expected),
                "divided by the number of all values, not by the owner's": sums / len(values),
                "a count too many in every bag: jnp.maximum(count, 1), not count + 1": sums / (counts + 1),
            },
        )  # fmt: skip

    def of(k: int) -> tuple[Any, tuple[Any, Any]]:
        return (lambda v, o: answer(v, o, k)), (jnp.ones(2 * k), jnp.arange(2 * k) % k)

    (small_f, small), (large_f, large) = of(4), of(32)
    few, many = sum(operations(small_f, *small).values()), sum(operations(large_f, *large).values())
    if many > 2 * few + 8:
        wrong(f"the program grows with k: {few} operations become {many}.", slip="a Python loop over the owners")


@check(
    LESSON,
    "Row i, column j is 1 where labels[i] == j. Compare a column of labels with a row of classes.",
    "labels[:, None] has shape (n, 1), jnp.arange(k) has (k,): together (n, k).",
    "(labels[:, None] == jnp.arange(k)).astype(jnp.float32)",
)
def one_hot_labels(rng: np.random.Generator, one_hot_labels: Any) -> None:
    """Rows of zeros with a one at the label, and of zeros alone for the label -1; against a loop."""
    answer = function(one_hot_labels, "one_hot_labels(labels, k)")
    for n, k in ((6, 4), tuple(int(size) for size in rng.integers(5, 9, 2))):
        labels = np.append(rng.integers(0, k - 1, n - 3), [-1, k - 1, -1])
        expected = np.zeros((n, k), "f")
        for i, label in enumerate(labels):
            if label >= 0:
                expected[i, label] = 1
        got = jax.jit(lambda labels, k=k: answer(labels, k))(jnp.asarray(labels, jnp.int32))
        if str(getattr(got, "dtype", "")) == "bool":
            wrong("the rows are booleans.", got=got, slip="the comparison alone; .astype(jnp.float32)")
        same(
            got, expected, f"the rows of {n} labels",
            slips={
                "-1 counts from the end, here too: the padding has become the last class": np.eye(k, dtype="f")[labels],
                "the padding has become class 0": np.eye(k, dtype="f")[np.maximum(labels, 0)],
                "the transpose: labels down, labels[:, None]; classes across": expected.T,
                "the classes are 1 to k; labels start at 0": (labels[:, None] == np.arange(1, k + 1)).astype("f"),
            },
        )  # fmt: skip
    for name in ("gather", "scatter", "scatter-add", "scatter_add", "dynamic_update_slice"):
        if operations(lambda labels: answer(labels, 4), jnp.arange(6) % 4)[name]:
            wrong(f"the program has a {name}.", slip="indexing; the rule is to compare")
    no_loop(lambda labels: answer(labels, 4), (jnp.arange(4) % 4,), (jnp.arange(32) % 4,))


@check(
    LESSON,
    "Where does each row start in tokens? The sum of the lengths before it.",
    "starts = jnp.cumsum(lengths) - lengths; the tokens of a row are at starts[:, None] + jnp.arange(width).",
    "Indices past the end are clamped, without an error: what lies past a row's length is replaced by jnp.where.",
    points=3,
)
def padded_rows(rng: np.random.Generator, padded_rows: Any) -> None:
    """Rows of several lengths, one after another in one array, as a padded table; against a loop over rows."""
    answer = function(padded_rows, "padded_rows(tokens, lengths, width)")
    for b in rng.integers(4, 7, 2):
        lengths = rng.permutation(np.append(rng.integers(1, 4, b - 2), [0, 6]))
        lengths[[0, -1]] = rng.integers(2, 4, 2)  # the first and the last are neither empty nor cut
        lengths[1:3] = rng.permutation([0, 6])
        width, tokens = int(rng.integers(4, 6)), rng.permutation(np.arange(10, 10 + lengths.sum()))
        expected, right = np.zeros((2, b, width), int)
        start = 0
        for i, length in enumerate(lengths):
            row = tokens[start : start + length][:width]
            expected[i, : len(row)] = row
            right[i, width - len(row) :] = row
            start += length
        starts, places = np.cumsum(lengths) - lengths, np.arange(width)
        inside = places < lengths[:, None]

        def at(starts: np.ndarray, tokens: np.ndarray = tokens, places: np.ndarray = places) -> np.ndarray:
            return tokens[np.minimum(starts[:, None] + places, len(tokens) - 1)]

        got = jax.jit(lambda t, n, width=width: answer(t, n, width))(
            jnp.asarray(tokens, jnp.int32), jnp.asarray(lengths, jnp.int32)
        )
        same(
            got, expected, f"the table of {b} rows",
            slips={
                "a short row goes on with the tokens of the next: mask what lies past its length": at(starts),
                "cumsum gives where a row ends; it starts there less its length": np.where(
                    inside, at(np.cumsum(lengths)), 0
                ),
                "padded on the left": right,
                "rows are taken to start every `width` tokens; they lie without gaps": np.where(
                    inside, at(width * np.arange(b)), 0
                ),
                "the mask has a place too many: arange(width) < length, not <=": np.where(
                    places <= lengths[:, None], at(starts), 0
                ),
            },
        )  # fmt: skip
    small, large = ((jnp.arange(3 * b), jnp.full(b, 3)) for b in (4, 32))
    no_loop(lambda tokens, lengths: answer(tokens, lengths, 4), small, large)


@check(
    LESSON,
    "The values come out right with one jnp.where. Look at jax.grad of it at 0.",
    "The branch that is thrown away is differentiated too: its inf times 0 is nan. Give it a harmless number first.",
    "safe = jnp.where(p > 0, p, 1.0), then jnp.where(p > 0, safe * jnp.log(safe), 0.0).",
    points=2,
)
def entropy_terms(rng: np.random.Generator, entropy_terms: Any) -> None:
    """p log p with 0 for p <= 0, and its derivative, finite everywhere; against the formulas."""
    answer = function(entropy_terms, "entropy_terms(p)")
    p = rng.permutation(np.append(rng.uniform(0.1, 0.9, rng.integers(3, 7)), [0.0, -0.5])).astype("f")
    positive = p > 0
    ones = np.where(positive, p, 1)
    value, slope = np.where(positive, ones * np.log(ones), 0), np.where(positive, np.log(ones) + 1, 0)
    got = jax.jit(answer)(jnp.asarray(p))
    if np.shape(got) == p.shape and np.isnan(np.asarray(got, float)).any():
        wrong("a term is nan.", expected=value, got=got, slip="0 log 0, or the log of a negative number: mask it")
    same(
        got, value, "the terms",
        slips={
            "the sign: the terms are p log p": -value,
            "the sum; the terms are asked for": value.sum(),
            "the log alone": np.where(positive, np.log(ones), 0),
            "the log of the absolute value: where p < 0 the term is 0": np.where(
                p == 0, 0, p * np.log(np.abs(np.where(p == 0, 1, p)))
            ),
        },
    )  # fmt: skip
    gradient = jax.grad(lambda p: answer(p).sum())(jnp.asarray(p))
    if np.isnan(np.asarray(gradient)).any():
        wrong(
            "the terms are right, their derivative is nan.", expected=slope, got=gradient,
            slip="jnp.where guards the value, not the derivative: 0 times inf. Replace p before the log as well",
        )  # fmt: skip
    tiny = "a small number added or clipped in the log: the value hides it, the derivative at 0 is large"
    if np.abs(np.asarray(gradient)[~positive]).max() > 0.1:
        wrong("the terms are right, their derivative is not.", expected=slope, got=gradient, slip=tiny)
    same(gradient, slope, "the derivative", rtol=1e-4)
    no_loop(answer, (jnp.ones(4),), (jnp.ones(32),))


@check(
    LESSON,
    "A row's key must come from its id, not from its place.",
    "jax.random.fold_in(key, number) makes a key from a key and a number, traced or not.",
    "Map a function of one row and its id: jax.vmap(lambda row, i: ...)(x, ids), with fold_in inside.",
    points=2,
)
def row_noise(rng: np.random.Generator, row_noise: Any) -> None:
    """Noise that belongs to a row's id: against a loop over rows, and the same rows in another order."""
    answer = function(row_noise, "row_noise(key, x, ids)")
    normal, fold = jax.random.normal, jax.random.fold_in
    n, d = (int(size) for size in rng.integers(3, 6, 2))
    key, x = jax.random.key(int(rng.integers(10**6))), jnp.asarray(rng.normal(size=(n, d)))
    ids = jnp.asarray(rng.permutation(20)[:n] + 10)

    def loop(keys: Any) -> jax.Array:
        return jnp.stack([normal(one, (d,)) for one in keys])

    expected = x + loop([fold(key, i) for i in ids])
    same(
        answer(key, x, ids), expected, f"the noisy rows with ids {ids.tolist()}",
        slips={
            "nothing is added": x,
            "one key for all rows: each has the same noise": x + normal(key, (d,)),
            "one draw for the whole table: the noise belongs to the place in it": x + normal(key, (n, d)),
            "a key for each place, from split: the noise does not know the id": x + loop(jax.random.split(key, n)),
            "a key for each place, from its number: the noise does not know the id": x
            + loop([fold(key, i) for i in range(n)]),
            "one number a row; every entry has its own": x
            + jnp.stack([normal(fold(key, i), ()) for i in ids])[:, None],
            "the noise without the rows": expected - x,
        },
    )  # fmt: skip
    order = rng.permutation(n)[: n - 1]
    same(answer(key, x[order], ids[order]), expected[order], "the same rows in another order, one left out")
    small, large = ((key, jnp.ones((n, 2)), jnp.arange(n)) for n in (3, 24))
    no_loop(answer, small, large)


@check(
    LESSON,
    "A step is the function h -> a h + b. Two steps, one after the other, are such a function again. Which?",
    "First (a1, b1), then (a2, b2): a2 (a1 h + b1) + b2, which is the pair (a1 a2, a2 b1 + b2).",
    "jax.lax.associative_scan(combine, (a, b)) gives the pair of all steps up to each; apply it to start.",
    points=3,
)
def linear_recurrence(rng: np.random.Generator, linear_recurrence: Any) -> None:
    """h[t] = a[t] h[t-1] + b[t] in few parallel steps; against a loop."""
    answer = function(linear_recurrence, "linear_recurrence(a, b, start)")
    for n in rng.integers(6, 12, 2):
        a, b = rng.uniform(0.5, 1.2, n).astype("f"), rng.normal(size=n).astype("f")
        start = np.float32(rng.uniform(1, 2))
        a[rng.integers(2, n - 1)] = 0  # a state that forgets

        def by_loop(h: Any, a: np.ndarray = a, b: np.ndarray = b) -> np.ndarray:
            out = []
            for factor, term in zip(a, b, strict=True):
                h = factor * h + term
                out.append(h)
            return np.array(out, "f")

        def swapped(a: np.ndarray = a, b: np.ndarray = b, start: Any = start) -> Any:
            both = jax.jit(
                lambda pairs: jax.lax.associative_scan(lambda p, q: (p[0] * q[0], p[0] * q[1] + p[1]), pairs)
            )((a, b))
            return both[0] * start + both[1]

        expected = by_loop(start)
        got = jax.jit(answer)(jnp.asarray(a), jnp.asarray(b), jnp.asarray(start))
        if np.shape(got) == (n,) and np.isnan(np.asarray(got, float)).any():
            wrong(
                "nan.", expected=expected, got=got, slip="a division by products of a, one of which is 0; combine pairs"
            )
        same(
            got, expected, f"the {n} states", rtol=1e-4,
            slips={
                "start is ignored": by_loop(0.0),
                "the steps are combined in the wrong order: a2 b1 + b2, the later a": swapped,
                "start is added, not carried along: it is multiplied by every a so far": by_loop(0.0) + start,
                "start is among the results": np.append(start, expected),
                "the last state alone": expected[-1],
                "the b are summed without their a": np.cumprod(a) * start + np.cumsum(b),
            },
        )  # fmt: skip
    small, large = ((jnp.ones(n), jnp.ones(n), jnp.float32(1)) for n in (8, 64))
    no_loop(answer, small, large, 4)
    found = operations(answer, *small)
    if found["scan"] or found["while"]:
        wrong(
            "the steps run one after the other.", slip="lax.scan or a loop; lax.associative_scan takes log2(n) rounds"
        )
