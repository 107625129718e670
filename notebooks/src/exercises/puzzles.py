# %% [markdown]
# # Puzzles: think in JAX
#
# **What remains of a loop when the arrays do the work?** (40 minutes)

# %% [markdown]
# Twelve puzzles to [09 · Transformations](../09_transformations.ipynb). Each says by a loop or a formula what is
# wanted, and draws it: given arrays grey, the wanted one blue. Each solution is a line or a few. The rule is part of
# the puzzle and is checked: Python loops over the data are out everywhere. Every answer must also work under `jax.jit`.
# Fill in the cells that say `your turn` and run the check below each. `checks.NAME.hint()` prints one hint at a time,
# `checks.NAME.solution()` the solution, and `checks.progress()` what is done. The minutes count reading and typing;
# thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from course import checks, plots
from course.checks.puzzles_drawing import draw

plots.use()

# %% [markdown]
# ## Puzzle 1: Every pair (3 minutes)
#
# **Given** a function `f` of two numbers, `x` of shape `(m,)`, `y` of shape `(n,)`.
#
# **Asked** for the table `(m, n)` with `f(x[i], y[j])` in row `i`, column `j`.
#
# **Rule**: `f` gets numbers, not arrays, so broadcasting is no way. Only `jax.vmap`.
#
# **Checked** against two loops; `f` counts how often it runs and refuses arrays.

# %% alt="A column x of three numbers, a row y of four, and an arrow called f to a blue table of three rows and four columns. In the column one number is filled, in the row another, and in the table the one square where their row and column meet."
x, y = np.array([1, 2, 3]), np.array([10, 20, 30, 40])
table = np.array([[a + b for b in y] for a in x])  # here f adds
at = np.arange(3) == 1, np.arange(4) == 2
draw({"x": x[:, None], "y": y}, {"f(x[i], y[j])": table}, "f", marked={
    "x": at[0][:, None], "y": at[1], "f(x[i], y[j])": np.outer(*at),
})  # fmt: skip


# %% tags=["stub"]
def all_pairs(f, x, y):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def all_pairs(f, x, y):
    return jax.vmap(jax.vmap(f, in_axes=(None, 0)), in_axes=(0, None))(x, y)


# %%
checks.all_pairs(all_pairs)

# %% [markdown]
# ## Puzzle 2: Columns in, columns out (3 minutes)
#
# **Given** a function `g` that takes one column, `(n,)`, and returns three numbers, `(3,)`; and `x` of shape `(n, m)`.
#
# **Asked** for the results of all columns, standing as columns: `(3, m)`.
#
# **Rule**: one `jax.vmap`; the axes go into its arguments.
#
# **Checked** against a loop over columns; `g` counts how often it runs and refuses anything but a column.

# %% alt="A table x of four rows and five columns, an arrow called g, and a blue table of three rows and five columns. The third column is filled on both sides."
x = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3], [5, 8, 9, 7, 9], [3, 2, 3, 8, 4]])
summaries = np.array([(c.min(), c.max(), c.sum()) for c in x.T]).T  # here g takes smallest, largest, sum
third = np.arange(5) == 2
draw({"x": x}, {"min, max, sum": summaries}, "g", marked={
    "x": np.outer(np.ones(4), third), "min, max, sum": np.outer(np.ones(3), third),
})  # fmt: skip


# %% tags=["stub"]
def column_summaries(g, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def column_summaries(g, x):
    return jax.vmap(g, in_axes=1, out_axes=1)(x)


# %%
checks.column_summaries(column_summaries)

# %% [markdown]
# ## Puzzle 3: Pairs within an example (3 minutes)
#
# **Given** `score(u, v)`, a number for two vectors `(d,)`; `q` of shape `(b, s, d)` and `k` of shape `(b, t, d)`.
#
# **Asked** for the scores `(b, s, t)`: in example `i`, each vector of `q[i]` with each of `k[i]`, and none with those
# of another example.
#
# **Rule**: `score` gets vectors. Only `jax.vmap`.
#
# **Checked** against three loops; `score` counts how often it runs and refuses other shapes.

# %% alt="A table q of two rows, a column of three rows k, and an arrow called score to a blue block of two rows and three columns: one example. The second row of q and the third of k are filled, and the square in the second row and third column of the result."
q, k = np.array([[1, 0], [2, 1]]), np.array([[1, 1], [0, 3], [2, 2]])  # of one example: s = 2, t = 3, d = 2
scores = np.array([[u @ v for v in k] for u in q])  # here the score is the inner product
draw({"q[i]": q, "k[i]": k}, {"scores[i]": scores}, "score", marked={
    "q[i]": [[0, 0], [1, 1]], "k[i]": [[0, 0], [0, 0], [1, 1]], "scores[i]": [[0, 0, 0], [0, 0, 1]],
})  # fmt: skip


# %% tags=["stub"]
def batch_scores(score, q, k):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def batch_scores(score, q, k):
    of_pairs = jax.vmap(jax.vmap(score, in_axes=(None, 0)), in_axes=(0, None))
    return jax.vmap(of_pairs)(q, k)


# %%
checks.batch_scores(batch_scores)

# %% [markdown]
# ## Puzzle 4: A balance with a floor (4 minutes)
#
# **Given** a number `start` and `moves` of shape `(n,)`.
#
# **Asked** for the pair of the last balance and the history `(n,)` of balances, each after its move. No balance falls
# below zero: what cannot be paid is forgiven, and the next move starts from zero.
#
# **Rule**: no `cumsum` can do it; one `lax.scan` can.
#
# **Checked** against a loop, and by whether the program grows with `n`.

# %% alt="A square start with 3, a row of six moves, and an arrow called scan to a blue row, the history: 1, 0, 2, 0, 4, 3, and a blue square, the last balance 3. Two zeros in the history are filled: the floor."
start, moves = 3, np.array([-2, -4, 2, -3, 4, -1])
history, balance = [], start
for move in moves:
    balance = max(balance + move, 0)
    history.append(balance)
draw({"start": [start], "moves": moves}, {"last": [balance], "history": history}, "scan",
     marked={"history": np.equal(history, 0)})  # fmt: skip


# %% tags=["stub"]
def floored_balance(start, moves):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def floored_balance(start, moves):
    def turn(balance, move):
        balance = jnp.maximum(balance + move, 0)
        return balance, balance

    return jax.lax.scan(turn, start, moves)


# %%
checks.floored_balance(floored_balance)

# %% [markdown]
# ## Puzzle 5: Rewards to come (3 minutes)
#
# **Given** `rewards` of shape `(n,)`, booleans `ends` of shape `(n,)` that are true at the last step of an episode, and
# a number `gamma`.
#
# **Asked** for the returns `(n,)`: a step's reward, plus `gamma` times the return of the next step if that belongs to
# the same episode.
#
# **Rule**: no array is turned round.
#
# **Checked** against a loop from the end, by whether the program grows with `n`, and for `[::-1]` in it.

# %% alt="A row of six rewards and a row ends in which the third and the last square are filled. An arrow to a blue row of returns, 1.75, 1.5, 1, 8, 12, 8; the squares of the two ends are filled, there the return is the reward."
rewards, ends, gamma = np.array([1, 1, 1, 2, 8, 8]), np.arange(6) % 3 == 2, 0.5
returns, later = np.zeros(6), 0.0
for t in reversed(range(6)):
    later = returns[t] = rewards[t] + gamma * (0.0 if ends[t] else later)
draw({"rewards": rewards, "ends": ends}, {"returns": returns}, "gamma = 0.5", marked={"returns": ends})


# %% tags=["stub"]
def returns_to_go(rewards, ends, gamma):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def returns_to_go(rewards, ends, gamma):
    def turn(later, now):
        reward, end = now
        later = reward + gamma * jnp.where(end, 0, later)
        return later, later

    return jax.lax.scan(turn, jnp.zeros_like(rewards[0]), (rewards, ends), reverse=True)[1]


# %%
checks.returns_to_go(returns_to_go)

# %% [markdown]
# ## Puzzle 6: Only the past (3 minutes)
#
# **Given** `scores` of shape `(n, n)`.
#
# **Asked** for weights `(n, n)`: row `i` is the softmax of `scores[i, : i + 1]`, and zeros behind it.
#
# **Rule**: `lax` and loops are not needed; one mask is.
#
# **Checked** against a loop over rows, and by whether the program grows with `n`.

# %% alt="A table of scores, four by four, on and below its diagonal filled, and an arrow called softmax to a blue table of weights whose squares on and below the diagonal are filled: 1, then 0.5 and 0.5, then three of 0.33, then four of 0.25; above it zeros."
scores, past = np.array([[2, 5, 1, 3], [1, 1, 4, 0], [0, 0, 0, 9], [2, 2, 2, 2]]), np.tri(4, dtype=bool)
weights = np.zeros((4, 4))
for i in range(4):
    powers = np.exp(scores[i, : i + 1])
    weights[i, : i + 1] = powers / powers.sum()
marked = {"scores": past, "weights": past}
draw({"scores": scores}, {"weights": weights}, "softmax", marked=marked, text="{:.2g}", size=0.42)


# %% tags=["stub"]
def causal_weights(scores):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def causal_weights(scores):
    places = jnp.arange(len(scores))
    return jax.nn.softmax(jnp.where(places <= places[:, None], scores, -jnp.inf), axis=-1)


# %%
checks.causal_weights(causal_weights)

# %% [markdown]
# ## Puzzle 7: Means of bags (3 minutes)
#
# **Given** `values` of shape `(n,)`, their `owners` of shape `(n,)`, integers from 0 to `k - 1`, and the Python number
# `k`.
#
# **Asked** for the mean of each owner's values, `(k,)`; 0 for an owner without any.
#
# **Rule**: no loop over owners either.
#
# **Checked** against a loop over owners, under `jax.jit`, and by whether the program grows with `k`.

# %% alt="A row of six values, a row of their owners, 2 0 2 3 0 2, and an arrow called mean to a blue row of four means, 3, 0, 5, 7. The values of owner 2 are filled, and so is the third mean."
values, owners, k = np.array([4, 1, 5, 7, 5, 6]), np.array([2, 0, 2, 3, 0, 2]), 4
means = [values[owners == j].mean() if (owners == j).any() else 0 for j in range(k)]
draw({"values": values, "owners": owners}, {"means": means}, "mean", marked={
    "values": owners == 2, "owners": owners == 2, "means": np.arange(k) == 2,
})  # fmt: skip


# %% tags=["stub"]
def bag_means(values, owners, k):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def bag_means(values, owners, k):
    sums = jnp.zeros(k).at[owners].add(values)
    return sums / jnp.maximum(jnp.bincount(owners, length=k), 1)


# %%
checks.bag_means(bag_means)

# %% [markdown]
# ## Puzzle 8: One-hot, without indices (3 minutes)
#
# **Given** integer `labels` of shape `(n,)`, from 0 to `k - 1`, or -1 for padding, and the Python number `k`.
#
# **Asked** for `(n, k)`, float32: row `i` is 1 at column `labels[i]`, else 0. A row of padding is all 0.
#
# **Rule**: no lookup by values (no gather), no scatter: compare. (`[:, None]` is fine.)
#
# **Checked** against a loop, under `jax.jit`, and by the operations of the program. (`F.one_hot` raises at -1. What
# would `jnp.eye(k)[labels]` do?)

# %% alt="A column of five labels, 1, 3, -1, 0, 1, and an arrow to a blue table of five rows and four columns: a filled square in column 1, 3, none, 0, 1."
labels, k = np.array([1, 3, -1, 0, 1]), 4
rows = np.zeros((5, k))
for i, label in enumerate(labels):
    if label >= 0:
        rows[i, label] = 1
draw({"labels": labels[:, None]}, {"rows": rows}, marked={"rows": rows, "labels": labels[:, None] < 0})


# %% tags=["stub"]
def one_hot_labels(labels, k):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def one_hot_labels(labels, k):
    return (labels[:, None] == jnp.arange(k)).astype(jnp.float32)


# %%
checks.one_hot_labels(one_hot_labels)

# %% [markdown]
# ## Puzzle 9: From ragged to padded (3 minutes)
#
# **Given** `tokens` of shape `(total,)`, the rows of a ragged table one after another; their `lengths` of shape `(b,)`,
# which add up to `total`; and the Python number `width`.
#
# **Asked** for the table `(b, width)`, what `pad_sequence(..., batch_first=True)` gives: short rows padded with 0 on
# the right. Rows longer than `width` are cut.
#
# **Rule**: it must work under `jax.jit`, where `lengths` are traced values.
#
# **Checked** against a loop over rows, and by whether the program grows with `b`.

# %% alt="A row of seven tokens, 11 to 17, a row of lengths 2, 0, 4, 1, and an arrow to a blue table of four rows and three columns: 11 12 0, then zeros, then 13 14 15, then 17 0 0. Squares with tokens are filled; 16 was cut."
tokens, lengths, width = np.arange(11, 18), np.array([2, 0, 4, 1]), 3
table, start = np.zeros((4, width)), 0
for i, length in enumerate(lengths):
    row = tokens[start : start + length][:width]
    table[i, : len(row)] = row
    start += length
draw({"tokens": tokens, "lengths": lengths}, {"table": table}, "width = 3", marked={"table": table > 0})


# %% tags=["stub"]
def padded_rows(tokens, lengths, width):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def padded_rows(tokens, lengths, width):
    starts, places = jnp.cumsum(lengths) - lengths, jnp.arange(width)
    return jnp.where(places < lengths[:, None], tokens[starts[:, None] + places], 0)


# %%
checks.padded_rows(padded_rows)

# %% [markdown]
# ## Puzzle 10: A branch that must not poison (3 minutes)
#
# **Given** `p` of shape `(n,)`, some entries zero or below.
#
# **Asked** for `p log p` where `p > 0`, and 0 elsewhere. The derivative must be `log p + 1` and 0 likewise: no `nan`,
# no tricks with small numbers.
#
# **Rule**: only `jnp.where` and `jnp.log`, no ready-made `xlogy` or `entr`.
#
# **Checked** by the formulas, the values and then `jax.grad`.

# %% alt="A row p, -0.5, 0, 0.5, 1, with the positive numbers filled, and an arrow to two blue rows: terms 0, 0, -0.35, 0, and slopes 0, 0, 0.31, 1, the last two filled in each."
p = np.array([-0.5, 0.0, 0.5, 1.0])
terms = [a * np.log(a) if a > 0 else 0 for a in p]
slopes = [np.log(a) + 1 if a > 0 else 0 for a in p]
marked = dict.fromkeys(("p", "terms", "slopes"), p > 0)
draw({"p": p}, {"terms": terms, "slopes": slopes}, marked=marked, text="{:.2g}", size=0.42)


# %% tags=["stub"]
def entropy_terms(p):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def entropy_terms(p):
    safe = jnp.where(p > 0, p, 1.0)
    return jnp.where(p > 0, safe * jnp.log(safe), 0.0)


# %%
checks.entropy_terms(entropy_terms)

# %% [markdown]
# ## Puzzle 11: Noise that knows its row (4 minutes)
#
# **Given** a `key`, `x` of shape `(n, d)`, and integers `ids` of shape `(n,)`, a name for each row.
#
# **Asked** for `x` with noise, `(n, d)`. The noise of row `i` is `jax.random.normal(its_key, (d,))`, where `its_key` is
# made from `key` and `ids[i]` by `jax.random.fold_in`: so a row keeps its noise when the batch is shuffled.
#
# **Rule**: one `jax.vmap`.
#
# **Checked** against a loop over rows, then with the same rows in another order, and by whether the program grows.

# %% alt="A column of ids 7, 3, 5, and an arrow to a blue table of noise with three rows; then the same rows in the order 3, 5, 7. The row of id 7 is filled in both: its three numbers are the same."
ids, order = np.array([7, 3, 5]), np.array([1, 2, 0])
noise = np.array([jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (3,)) for i in ids]).round(1)
marked = {"ids": ids == 7, "noise": ids == 7, "ids, shuffled": ids[order] == 7, "noise again": ids[order] == 7}
draw(
    {"ids": ids[:, None]},
    {"noise": noise, "ids, shuffled": ids[order][:, None], "noise again": noise[order]},
    marked={name: np.outer(rows, np.ones(3 if "noise" in name else 1)) for name, rows in marked.items()},
)


# %% tags=["stub"]
def row_noise(key, x, ids):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def row_noise(key, x, ids):
    def of_one(row, i):
        return row + jax.random.normal(jax.random.fold_in(key, i), row.shape)

    return jax.vmap(of_one)(x, ids)


# %%
checks.row_noise(row_noise)

# %% [markdown]
# ## Puzzle 12: A recurrence in parallel (4 minutes)
#
# **Given** `a` and `b` of shape `(n,)`, and a number `start`.
#
# **Asked** for the states `h` of shape `(n,)` with `h[t] = a[t] * h[t - 1] + b[t]`, and `start` before the first: the
# core of a linear state-space layer.
#
# **Rule**: not step by step. `jax.lax.associative_scan` joins neighbours in about `log2(n)` rounds; what must the join
# of two steps be? An entry of `a` may be 0.
#
# **Checked** against a loop, for loops in the program, and by how fast it grows with `n`.

# %% alt="A row a with a zero in fourth place, a row b of ones, a square start with 4, and an arrow to a blue row of states: 3, 2.5, 2.25, 1, 1.5, 1.75. The square of the zero and the state there are filled: the past is forgotten."
a, b, start = np.array([0.5, 0.5, 0.5, 0, 0.5, 0.5]), np.ones(6), 4.0
states, h = [], start
for factor, term in zip(a, b, strict=True):
    h = factor * h + term
    states.append(h)
draw({"a": a, "b": b, "start": [start]}, {"states": states}, marked={"a": a == 0, "states": a == 0})


# %% tags=["stub"]
def linear_recurrence(a, b, start):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def linear_recurrence(a, b, start):
    def join(first, then):
        return first[0] * then[0], then[0] * first[1] + then[1]

    factors, terms = jax.lax.associative_scan(join, (a, b))
    return factors * start + terms


# %%
checks.linear_recurrence(linear_recurrence)

# %% [markdown]
# Back to the [lesson](../09_transformations.ipynb), or on to the next one:
# [09b · Custom rules, memory, and NNX's transforms](../09b_custom_rules.ipynb).
# [Solutions](../solutions/puzzles.ipynb).
