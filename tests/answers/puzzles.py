"""Answers to the puzzles."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong

vmap, scan, where = jax.vmap, jax.lax.scan, jnp.where

wrong("all_pairs", "rows and columns swapped")(
    lambda f, x, y: vmap(vmap(f, in_axes=(0, None)), in_axes=(None, 0))(x, y)
)
wrong("all_pairs", "the arguments swapped")(lambda f, x, y: vmap(lambda a: vmap(lambda b: f(b, a))(y))(x))
wrong("all_pairs", "broadcasting is not asked for")(lambda f, x, y: f(x[:, None], y[None, :]))
wrong("all_pairs", "a Python loop")(lambda f, x, y: jnp.array([[f(a, b) for b in y] for a in x]))
wrong("all_pairs", "broadcasting is not asked for")(lambda f, x, y: vmap(f, in_axes=(0, None))(x, y))
wrong("all_pairs", "ValueError")(lambda f, x, y: vmap(f)(x, y))
wrong("all_pairs", "only pairs with i = j")(lambda f, x, y: vmap(f)(*(a[: min(len(x), len(y))] for a in (x, y))))
wrong("all_pairs", "another shape")(lambda f, x, y: vmap(f)(jnp.repeat(x, len(y)), jnp.tile(y, len(x))))
right("all_pairs")(lambda f, x, y: vmap(lambda a: vmap(lambda b: f(a, b))(y))(x))
right("all_pairs")(lambda f, x, y: vmap(f)(jnp.repeat(x, len(y)), jnp.tile(y, len(x))).reshape(len(x), len(y)))
right("all_pairs")(jax.jit(lambda f, x, y: vmap(vmap(f, (None, 0)), (0, None))(x, y), static_argnums=0))

wrong("column_summaries", "results lie in rows")(lambda g, x: vmap(g, in_axes=1)(x))
wrong("column_summaries", "results lie in rows")(lambda g, x: vmap(g)(x.T))
wrong("column_summaries", "rows were mapped, and results lie in rows")(lambda g, x: vmap(g)(x))
wrong("column_summaries", "rows were mapped, not columns")(lambda g, x: vmap(g, out_axes=1)(x))
wrong("column_summaries", "a Python loop")(lambda g, x: jnp.stack([g(c) for c in x.T], axis=1))
wrong("column_summaries", "unless it is told")(lambda g, x: g(x))
right("column_summaries")(lambda g, x: vmap(g, 1, 1)(x))
right("column_summaries")(lambda g, x: vmap(g)(x.T).T)


def scores_of(outer, inner, batch):
    def scores(score, q, k):
        return vmap(vmap(vmap(score, inner), outer), batch)(q, k)

    return scores


wrong("batch_scores", "the last two axes are swapped")(scores_of((None, 0), (0, None), (0, 0)))
wrong("batch_scores", "another shape")(lambda score, q, k: scores_of((0, None), (None, 0), 0)(score, q, k)[0])
wrong("batch_scores", "score takes one vector")(lambda score, q, k: vmap(score)(q, k))
wrong("batch_scores", "score takes one vector")(lambda score, q, k: score(q[:, :, None], k[:, None]))
wrong("batch_scores", "q of each example met k of every")(
    lambda score, q, k: vmap(vmap(vmap(vmap(score, (None, 0)), (0, None)), (None, 0)), (0, None))(q, k)
)
wrong("batch_scores", "a Python loop")(
    lambda score, q, k: jnp.stack([vmap(lambda u, i=i: vmap(lambda v: score(u, v))(k[i]))(q[i]) for i in range(len(q))])
)
wrong("batch_scores", "the batch axis is not the first")(
    lambda score, q, k: vmap(vmap(vmap(score), (None, 1), 0), (1, None), 0)(q, k)
)
wrong("batch_scores", "only pairs at the same position")(
    lambda score, q, k: vmap(vmap(score))(*(a[:, : min(q.shape[1], k.shape[1])] for a in (q, k)))
)
right("batch_scores")(lambda score, q, k: vmap(lambda a, c: vmap(lambda u: vmap(lambda v: score(u, v))(c))(a))(q, k))
right("batch_scores")(lambda score, q, k: vmap(vmap(vmap(score), (None, 1), 1), (1, None), 1)(q, k))


def balance_by(turn):
    return lambda start, moves: scan(turn, start, moves)


wrong("floored_balance", "without the floor")(balance_by(lambda b, m: (b + m, b + m)))
wrong("floored_balance", "the balance before each move")(balance_by(lambda b, m: (jnp.maximum(b + m, 0), b)))
wrong("floored_balance", "the floor comes after the sum")(
    lambda start, moves: (jnp.maximum(start + moves.sum(), 0), jnp.maximum(start + jnp.cumsum(moves), 0))
)
wrong("floored_balance", "the pair is swapped")(
    lambda start, moves: scan(lambda b, m: (jnp.maximum(b + m, 0),) * 2, start, moves)[::-1]
)
wrong("floored_balance", "the history alone")(
    lambda start, moves: scan(lambda b, m: (jnp.maximum(b + m, 0),) * 2, start, moves)[1]
)
wrong("floored_balance", "`if` on a traced value")(
    balance_by(lambda b, m: (b + m, b + m) if b + m > 0 else (0 * b, 0 * b))
)
wrong("floored_balance", "the floor holds the moves")(balance_by(lambda b, m: (b + jnp.maximum(m, 0),) * 2))
wrong("floored_balance", "raised an error")(balance_by(lambda b, m: jnp.maximum(b + m, 0)))


@wrong("floored_balance", "a Python loop")
def written_out(start, moves):
    history = []
    for move in moves:
        start = jnp.maximum(start + move, 0)
        history.append(start)
    return start, jnp.stack(history)


@right("floored_balance")
def reflected(start, moves):
    free = start + jnp.cumsum(moves)
    history = free - jnp.minimum(jax.lax.cummin(free), 0)
    return history[-1], history


@right("floored_balance")
def by_where(start, moves):
    def turn(balance, move):
        new = where(balance + move > 0, balance + move, 0.0)
        return new, new

    return list(scan(turn, start, moves))


def returns_by(turn, **options):
    return lambda rewards, ends, gamma: scan(
        lambda later, now: (turn(later, *now, gamma),) * 2, jnp.zeros(()), (rewards, ends), **options
    )[1]


def cut(later, reward, end, gamma):
    return reward + gamma * where(end, 0, later)


wrong("returns_to_go", "the scan walks forward")(returns_by(cut))
wrong("returns_to_go", "ends are ignored")(returns_by(lambda g, r, e, gamma: r + gamma * g, reverse=True))
wrong("returns_to_go", "without gamma")(returns_by(lambda g, r, e, gamma: r + where(e, 0, g), reverse=True))
wrong("returns_to_go", "the own reward of the last step")(
    returns_by(lambda g, r, e, gamma: where(e, 0, r) + gamma * where(e, 0, g), reverse=True)
)
wrong("returns_to_go", "the cut is a step early")(
    lambda r, e, gamma: returns_by(cut, reverse=True)(r, jnp.append(e[1:], False), gamma)
)
wrong("returns_to_go", "from the end")(lambda r, e, gamma: returns_by(cut)(r[::-1], e[::-1], gamma))
wrong("returns_to_go", "lax.scan has reverse=True")(lambda r, e, gamma: returns_by(cut)(r[::-1], e[::-1], gamma)[::-1])
wrong("returns_to_go", "`if` on a traced value")(
    returns_by(lambda g, r, e, gamma: r if e else r + gamma * g, reverse=True)
)


@wrong("returns_to_go", "a Python loop")
def backwards_in_python(rewards, ends, gamma):
    later, out = 0.0, []
    for t in reversed(range(len(rewards))):
        later = rewards[t] + gamma * (1 - ends[t]) * later
        out.insert(0, later)
    return jnp.stack(out)


right("returns_to_go")(returns_by(lambda g, r, e, gamma: r + gamma * g * (1 - e), reverse=True))


@right("returns_to_go")
def with_a_counter(rewards, ends, gamma):
    n = len(rewards)

    def body(i, out):
        t = n - 1 - i
        return out.at[t].set(rewards[t] + where(ends[t], 0.0, gamma * out[t + 1]))

    return jax.lax.fori_loop(0, n, body, jnp.zeros(n + 1))[:n]


def softmax_of(mask, fill=-jnp.inf, axis=-1):
    return lambda s: jax.nn.softmax(where(mask(len(s)), s, fill), axis=axis)


def tri(n):
    return jnp.tri(n, dtype=bool)


wrong("causal_weights", "nothing is masked")(jax.nn.softmax)
wrong("causal_weights", "the future, not the past")(softmax_of(lambda n: tri(n).T))
wrong("causal_weights", "after the softmax")(lambda s: jnp.tril(jax.nn.softmax(s)))
wrong("causal_weights", "exp(0) is 1")(lambda s: jax.nn.softmax(jnp.tril(s)))
wrong("causal_weights", "down the columns")(softmax_of(tri, axis=0))
wrong("causal_weights", "a row may look at itself")(softmax_of(lambda n: jnp.tri(n, k=-1, dtype=bool)))
wrong("causal_weights", "a Python loop")(
    lambda s: jnp.stack(
        [jnp.concatenate([jax.nn.softmax(s[i, : i + 1]), jnp.zeros(len(s) - i - 1)]) for i in range(len(s))]
    )
)
right("causal_weights")(softmax_of(tri, fill=-1e30))
right("causal_weights")(lambda s: (w := jnp.tril(jnp.exp(s))) / w.sum(1, keepdims=True))
right("causal_weights")(lambda s: jax.nn.softmax(s, where=tri(len(s))))


def bags(values, owners, k):
    return jnp.zeros(k).at[owners].add(values), jnp.zeros(k).at[owners].add(1)


wrong("bag_means", "the sums, not the means")(lambda v, o, k: bags(v, o, k)[0])
wrong("bag_means", "an empty bag is nan")(lambda v, o, k: bags(v, o, k)[0] / bags(v, o, k)[1])
wrong("bag_means", "the last value of each owner is kept")(lambda v, o, k: jnp.zeros(k).at[o].set(v))
wrong("bag_means", "divided by the number of all values")(lambda v, o, k: bags(v, o, k)[0] / len(v))
wrong("bag_means", "a count too many")(lambda v, o, k: bags(v, o, k)[0] / (bags(v, o, k)[1] + 1))
wrong("bag_means", "makes a shape that depends on values")(lambda v, o, k: jnp.stack([v[o == j] for j in range(k)]))
wrong("bag_means", "a Python loop over the owners")(
    lambda v, o, k: jnp.stack([(v * (o == j)).sum() / jnp.maximum((o == j).sum(), 1) for j in range(k)])
)


@wrong("bag_means", "NumPy inside a transformed function")
def in_numpy(values, owners, k):
    sums = np.zeros(k)
    np.add.at(sums, owners, values)
    return sums / np.maximum(np.bincount(owners, minlength=k), 1)


right("bag_means")(lambda v, o, k: jax.ops.segment_sum(v, o, k) / jnp.bincount(o, length=k).clip(1))


@right("bag_means")
def by_one_hot(values, owners, k):
    mine = owners == jnp.arange(k)[:, None]
    return mine @ values / jnp.maximum(mine.sum(1), 1)


wrong("one_hot_labels", "-1 counts from the end")(lambda y, k: jnp.eye(k, dtype=jnp.float32)[y])
wrong("one_hot_labels", "the padding has become class 0")(lambda y, k: jax.nn.one_hot(jnp.maximum(y, 0), k))
wrong("one_hot_labels", "the comparison alone")(lambda y, k: y[:, None] == jnp.arange(k))
wrong("one_hot_labels", "labels down")(lambda y, k: (y == jnp.arange(k)[:, None]).astype("f"))
wrong("one_hot_labels", "labels start at 0")(lambda y, k: (y[:, None] == jnp.arange(1, k + 1)).astype("f"))
wrong("one_hot_labels", "the rule is to compare")(
    lambda y, k: where(y[:, None] >= 0, jnp.eye(k, dtype=jnp.float32)[y], 0)
)
wrong("one_hot_labels", "a Python loop")(
    lambda y, k: jnp.stack([(jnp.arange(k) == y[i]).astype("f") for i in range(y.shape[0])])
)
right("one_hot_labels")(lambda y, k: jax.nn.one_hot(y, k))
right("one_hot_labels")(lambda y, k: vmap(lambda one: where(jnp.arange(k) == one, 1.0, 0.0))(y))


def ragged(starts, inside, fill=0):
    def table(tokens, lengths, width):
        places = jnp.arange(width)
        return where(inside(places, lengths[:, None]), tokens[starts(lengths)[:, None] + places], fill)

    return table


def begin(lengths):
    return jnp.cumsum(lengths) - lengths


def before(places, lengths):
    return places < lengths


wrong("padded_rows", "goes on with the tokens of the next")(ragged(begin, lambda p, n: p >= 0))
wrong("padded_rows", "cumsum gives where a row ends")(ragged(jnp.cumsum, before))
wrong("padded_rows", "not <=")(ragged(begin, lambda p, n: p <= n))
wrong("padded_rows", "they lie without gaps")(lambda t, n, w: ragged(lambda n: w * jnp.arange(len(n)), before)(t, n, w))
wrong("padded_rows", "padded on the left")(
    lambda t, n, w: where(
        (shift := jnp.arange(w) - (w - jnp.minimum(n, w))[:, None]) >= 0, t[begin(n)[:, None] + shift], 0
    )
)
wrong("padded_rows", "is not right")(ragged(begin, before, -1))
wrong("padded_rows", "raised an error")(
    lambda t, n, w: jnp.stack([jnp.pad(row, (0, w - len(row))) for row in jnp.split(t, jnp.cumsum(n))])
)


@wrong("padded_rows", "a Python loop")
def row_by_row(tokens, lengths, width):
    rows, starts = [], begin(lengths)
    for i in range(len(lengths)):
        row = tokens[starts[i] + jnp.arange(width)]
        rows.append(where(jnp.arange(width) < lengths[i], row, 0))
    return jnp.stack(rows)


@right("padded_rows")
def by_slices(tokens, lengths, width):
    padded = jnp.pad(tokens, (0, width))
    rows = vmap(lambda start: jax.lax.dynamic_slice(padded, (start,), (width,)))(begin(lengths))
    return rows * (jnp.arange(width) < lengths[:, None])


@right("padded_rows")
def by_scatter(tokens, lengths, width):
    row = jnp.searchsorted(jnp.cumsum(lengths), jnp.arange(len(tokens)), side="right")
    place = jnp.arange(len(tokens)) - begin(lengths)[row]
    return jnp.zeros((len(lengths), width), tokens.dtype).at[row, place].set(tokens, mode="drop")


wrong("entropy_terms", "guards the value, not the derivative")(lambda p: where(p > 0, p * jnp.log(p), 0))
wrong("entropy_terms", "mask it")(lambda p: p * jnp.log(p))
wrong("entropy_terms", "the value hides it")(lambda p: (q := jnp.maximum(p, 0)) * jnp.log(q + 1e-9))
wrong("entropy_terms", "the value hides it")(lambda p: where(p >= 0, p * jnp.log(where(p > 1e-12, p, 1e-12)), 0))
wrong("entropy_terms", "the sign")(lambda p: -where(p > 0, (q := where(p > 0, p, 1)) * jnp.log(q), 0))
wrong("entropy_terms", "the sum")(lambda p: where(p > 0, (q := where(p > 0, p, 1)) * jnp.log(q), 0).sum())
wrong("entropy_terms", "`if` on a traced value")(lambda p: jnp.stack([a * jnp.log(a) if a > 0 else 0 * a for a in p]))
wrong("entropy_terms", "absolute value")(lambda p: p * jnp.log(where(p == 0, 1, jnp.abs(p))))
wrong("entropy_terms", "guards the value, not the derivative")(lambda p: jnp.nan_to_num(p * jnp.log(p)))
right("entropy_terms")(lambda p: (q := where(p > 0, p, 1)) * jnp.log(q))
right("entropy_terms")(vmap(lambda p: where(p > 0, jnp.log(q := where(p > 0, p, 1)) * q, 0.0)))


def noisy(of_one):
    return lambda key, x, ids: vmap(lambda row, i: of_one(key, row, i))(x, ids)


draw, fold = jax.random.normal, jax.random.fold_in
wrong("row_noise", "one key for all rows")(noisy(lambda key, row, i: row + draw(key, row.shape)))
wrong("row_noise", "one draw for the whole table")(lambda key, x, ids: x + draw(key, x.shape))
wrong("row_noise", "from split")(
    lambda key, x, ids: x + vmap(lambda k: draw(k, x.shape[1:]))(jax.random.split(key, len(x)))
)
wrong("row_noise", "does not know the id")(lambda key, x, ids: noisy(
    lambda key, row, i: row + draw(fold(key, i), row.shape))(key, x, jnp.arange(len(x))))  # fmt: skip
wrong("row_noise", "one number a row")(noisy(lambda key, row, i: row + draw(fold(key, i))))
wrong("row_noise", "without the rows")(noisy(lambda key, row, i: draw(fold(key, i), row.shape)))
wrong("row_noise", "a Python loop")(
    lambda key, x, ids: x + jnp.stack([draw(fold(key, ids[i]), x.shape[1:]) for i in range(len(x))])
)
wrong("row_noise", "is not right")(noisy(lambda key, row, i: row + draw(jax.random.key(i), row.shape)))
right("row_noise")(lambda key, x, ids: x + vmap(lambda i: draw(fold(key, i), x.shape[1:]))(ids))
right("row_noise")(lambda key, x, ids: x + vmap(draw, (0, None))(vmap(fold, (None, 0))(key, ids), x.shape[1:]))


def joined(join):
    def states(a, b, start):
        factors, terms = jax.lax.associative_scan(join, (a, b))
        return factors * start + terms

    return states


def join(p, q):
    return p[0] * q[0], q[0] * p[1] + q[1]


wrong("linear_recurrence", "start is ignored")(lambda a, b, start: joined(join)(a, b, 0.0))
wrong("linear_recurrence", "in the wrong order")(joined(lambda p, q: (p[0] * q[0], p[0] * q[1] + p[1])))
wrong("linear_recurrence", "start is added")(lambda a, b, start: joined(join)(a, b, 0.0) + start)
wrong("linear_recurrence", "a division by products of a")(
    lambda a, b, start: jnp.cumprod(a) * (start + jnp.cumsum(b / jnp.cumprod(a)))
)
wrong("linear_recurrence", "without their a")(lambda a, b, start: jnp.cumprod(a) * start + jnp.cumsum(b))
wrong("linear_recurrence", "lax.scan or a loop")(
    lambda a, b, start: scan(lambda h, ab: (ab[0] * h + ab[1],) * 2, start, (a, b))[1]
)
wrong("linear_recurrence", "the last state alone")(lambda a, b, start: joined(join)(a, b, start)[-1])
wrong("linear_recurrence", "start is among the results")(
    lambda a, b, start: jnp.append(start, joined(join)(a, b, start))
)


@wrong("linear_recurrence", "a Python loop")
def step_by_step(a, b, start):
    states = []
    for t in range(len(a)):
        start = a[t] * start + b[t]
        states.append(start)
    return jnp.stack(states)


@right("linear_recurrence")
def start_as_a_step(a, b, start):
    a, b = jnp.append(0.0, a), jnp.append(start, b)
    return jax.lax.associative_scan(join, (a, b))[1][1:]


@right("linear_recurrence")
def by_doubling(a, b, start):
    b, shift = b.at[0].add(a[0] * start), 1
    while shift < len(a):
        b = b + a * jnp.pad(b, (shift, 0))[: len(a)]
        a, shift = a * jnp.pad(a, (shift, 0))[: len(a)], 2 * shift
    return b
