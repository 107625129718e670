# %% [markdown]
# # 10 · Exercises: The Titanic loop, faster rung by rung
#
# **Can you take the loop into the program, and measure what that gains?** (20 minutes)

# %% [markdown]
# Four exercises to the [lesson](../10_jit_speed.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

from course import checks

# %% [markdown]
# ## Exercise 1: A clock that waits (2 minutes)
#
# **Given** `f`, compiled, with an argument `x`; a `clock` that returns seconds when called, such as `perf_counter`; and
# a number `repeats`. `f` returns a tree of arrays.
#
# **Asked** for the pair `(first, steady)`: the seconds of the first call, and the median of those of `repeats` later
# ones, each until *all* of its results are there.
#
# **Checked** with a simulated clock and results that are not ready at once, so that no machine can disturb it. One of
# the later calls is much slower than the rest.


# %% tags=["stub"]
def first_and_steady(f, x, clock, repeats):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def first_and_steady(f, x, clock, repeats):
    def seconds():
        start = clock()
        jax.block_until_ready(f(x))
        return clock() - start

    return seconds(), float(np.median([seconds() for _ in range(repeats)]))


# %%
checks.first_and_steady(first_and_steady)

# %% [markdown]
# ## Exercise 2: The best epoch, in one program (7 minutes)
#
# ```python
# best_loss, losses = float("inf"), []
# for epoch in orders:
#     for rows in epoch:
#         optimizer.zero_grad()
#         loss_fn(model, x[rows], y[rows]).backward()
#         optimizer.step()
#     with torch.no_grad():
#         losses.append(loss_fn(model, x_valid, y_valid).item())
#     if losses[-1] < best_loss:
#         best_loss, best = losses[-1], copy.deepcopy(model.state_dict())
# ```
#
# **Given** `loss_fn(params, x, y)`, an optax `optimizer`, a dict `params`, the pairs `train = (x, y)` and `valid`, and
# row numbers `orders` of shape `(epochs, steps, batch)`.
#
# **Asked** for `(best, losses)`: the weights after the epoch with the lowest validation loss, and all validation
# losses, `(epochs,)`. One program: no Python loop, no Python `if`.
#
# **Checked** against torch's loop with momentum, and by counting how often Python runs `loss_fn`.


# %% tags=["stub"]
def fit_keeping_best(loss_fn, optimizer, params, train, valid, orders):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def fit_keeping_best(loss_fn, optimizer, params, train, valid, orders):
    x, y = train

    def step(carry, rows):
        params, state = carry
        grads = jax.grad(loss_fn)(params, x[rows], y[rows])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, rows):
        now, best, best_loss = carry
        now, _ = jax.lax.scan(step, now, rows)
        loss = loss_fn(now[0], *valid)
        best = jax.tree.map(lambda new, old: jnp.where(loss < best_loss, new, old), now[0], best)
        return (now, best, jnp.minimum(loss, best_loss)), loss

    start = (params, optimizer.init(params)), params, jnp.inf
    (_, best, _), losses = jax.lax.scan(epoch, start, orders)
    return best, losses


# %%
checks.fit_keeping_best(fit_keeping_best)

# %% [markdown]
# ## Exercise 3: How often does Python run it? (6 minutes)
#
# **Given** a step and four programs, defined and not run.

# %%
x = jnp.ones(100)


def step(w, x):
    return w - 0.1 * x.mean()


def a_call_per_step():
    w, fast = jnp.zeros(()), jax.jit(step)
    for _ in range(3):  # epochs
        for start in range(0, 100, 32):
            w = fast(w, x[start : start + 32])


def jit_in_the_loop():
    w = jnp.zeros(())
    for _ in range(3):
        w = jax.jit(lambda w, x: step(w, x))(w, x)


# %%
@jax.jit
def run(w, batches):
    return jax.lax.scan(lambda w, x: (step(w, x), None), w, batches)[0]


def one_scan():
    run(jnp.zeros(()), jnp.ones((500, 32)))
    run(jnp.ones(()), jnp.zeros((500, 32)))


def scans_of_two_lengths():  # in a new process: `run` has no cache yet
    for length in (500, 400, 500):
        run(jnp.zeros(()), jnp.ones((length, 32)))


# %% [markdown]
# **Asked** for a prediction: how often does Python execute the body of `step` in each program, run in a new process?
#
# **Checked** by running them with a counter in `step`.

# %% tags=["stub"]
traces = {"a_call_per_step": ..., "jit_in_the_loop": ..., "one_scan": ..., "scans_of_two_lengths": ...}

# %% tags=["solution"]
traces = {"a_call_per_step": 2, "jit_in_the_loop": 3, "one_scan": 1, "scans_of_two_lengths": 2}

# %%
checks.times_traced(traces)

# %% [markdown]
# ## Exercise 4: The shuffle that is none (3 minutes)
#
# A colleague moved the shuffling into the program. The losses look periodic:
#
# ```python
# def epoch_orders(key, rows, batch, epochs):
#     steps = rows // batch
#     def epoch(_):
#         return jax.random.permutation(key, steps * batch).reshape(steps, batch)
#     return jax.vmap(epoch)(jnp.arange(epochs))
# ```
#
# **Given** this function; the last three arguments are Python integers.
#
# **Asked** for the function mended. It returns `(epochs, rows // batch, batch)` row numbers; each epoch has an order of
# its own, and which rows are left out differs from epoch to epoch too. No Python loop.
#
# **Checked** for what an epoch holds, for what differs between epochs, and by counts over 4,000 epochs.


# %% tags=["stub"]
def epoch_orders(key, rows, batch, epochs):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def epoch_orders(key, rows, batch, epochs):
    steps = rows // batch

    def epoch(key):
        return jax.random.permutation(key, rows)[: steps * batch].reshape(steps, batch)

    return jax.vmap(epoch)(jax.random.split(key, epochs))


# %%
checks.epoch_orders(epoch_orders)

# %% [markdown]
# Back to the [lesson](../10_jit_speed.ipynb), or on to the next one:
# [11 · Hundreds of models in one program](../11_ensembles.ipynb). [Solutions](../solutions/10_jit_speed.ipynb).
