"""Answers to the exercises of 10_jit_speed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.answers import right, wrong


def clocked(wait, reduce=np.median, warm=True):
    def answer(f, x, clock, repeats):
        def seconds():
            start = clock()
            wait(f(x))
            return clock() - start

        first = seconds()
        later = [seconds() for _ in range(repeats)]
        return first, float(reduce(later if warm else [first, *later]))

    return answer


everything = jax.block_until_ready
wrong("first_and_steady", "when the work is queued")(clocked(lambda tree: tree))
wrong("first_and_steady", "only the first leaf")(clocked(lambda tree: tree["loss"].block_until_ready()))
wrong("first_and_steady", "the mean; one disturbed call")(clocked(everything, np.mean))
wrong("first_and_steady", "the minimum, not the median")(clocked(everything, np.min))
wrong("first_and_steady", "all later calls together")(clocked(everything, np.sum))
wrong("first_and_steady", "is among the later ones")(clocked(everything, warm=False))
wrong("first_and_steady", "the pair is swapped")(lambda *args: clocked(everything)(*args)[::-1])
wrong("first_and_steady", "AttributeError")(clocked(lambda tree: tree.block_until_ready()))


@wrong("first_and_steady", "the first call is not waited for")
def a_call_to_warm_up(f, x, clock, repeats):
    start = clock()
    result = f(x)
    first = clock() - start
    everything(result)
    seconds = []
    for _ in range(repeats):
        start = clock()
        everything(f(x))
        seconds.append(clock() - start)
    return first, np.median(seconds)


@wrong("first_and_steady", "then `repeats` more")
def a_call_too_many(f, x, clock, repeats):
    pair = clocked(everything)(f, x, clock, repeats)
    f(x)
    return pair


right("first_and_steady")(clocked(lambda tree: [leaf.block_until_ready() for leaf in jax.tree.leaves(tree)]))
right("first_and_steady")(clocked(lambda tree: jax.tree.map(np.asarray, tree)))


def fit(better=jnp.less, remember=True, fresh=False, stateless=False, before=False, result=None):
    def answer(loss_fn, optimizer, params, train, valid, orders):
        x, y = train

        def step(carry, rows):
            params, state = carry
            updates, new = optimizer.update(jax.grad(loss_fn)(params, x[rows], y[rows]), state, params)
            return (optax.apply_updates(params, updates), state if stateless else new), 0

        def epoch(carry, rows):
            params, state, best, best_loss = carry
            early = loss_fn(params, *valid)
            state = optimizer.init(params) if fresh else state
            (params, state), _ = jax.lax.scan(step, (params, state), rows)
            loss = loss_fn(params, *valid)
            take = better(loss, best_loss)
            best = jax.tree.map(lambda a, b: jnp.where(take, a, b), params, best)
            kept = jnp.where(take, loss, best_loss) if remember else loss
            return (params, state, best, kept), early if before else loss

        start = -jnp.inf if better is jnp.greater else jnp.inf
        carry, losses = jax.lax.scan(epoch, (params, optimizer.init(params), params, start), orders)
        return (carry[2], losses) if result is None else result(carry, losses)

    return answer


wrong("fit_keeping_best", "the last weights, not the best")(fit(result=lambda carry, losses: (carry[0], losses)))
wrong("fit_keeping_best", "the worst weights")(fit(better=jnp.greater))
wrong("fit_keeping_best", "the optimizer's state starts anew")(fit(fresh=True))
wrong("fit_keeping_best", "no momentum")(fit(stateless=True))
wrong("fit_keeping_best", "taken before the epoch")(fit(before=True))
wrong("fit_keeping_best", "the best weights alone")(fit(result=lambda carry, losses: carry[2]))
wrong("fit_keeping_best", "another structure")(fit(result=lambda carry, losses: (carry[2], losses, carry[3])))


def in_python(jit):
    def answer(loss_fn, optimizer, params, train, valid, orders):
        state, best, best_loss, losses = optimizer.init(params), params, jnp.inf, []
        grad, value = jit(jax.grad(loss_fn)), jit(loss_fn)
        for epoch in orders:
            for rows in epoch:
                updates, state = optimizer.update(grad(params, train[0][rows], train[1][rows]), state, params)
                params = optax.apply_updates(params, updates)
            losses.append(value(params, *valid))
            if losses[-1] < best_loss:
                best, best_loss = params, losses[-1]
        return best, jnp.stack(losses)

    return answer


wrong("fit_keeping_best", "a Python loop over epochs or steps")(in_python(lambda f: f))
wrong("fit_keeping_best", "a Python loop over epochs or steps")(in_python(jax.jit))


@right("fit_keeping_best")
def all_weights_then_the_best(loss_fn, optimizer, params, train, valid, orders):
    def step(carry, rows):
        params, state = carry
        grads = jax.grad(loss_fn)(params, train[0][rows], train[1][rows])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, rows):
        carry, _ = jax.lax.scan(step, carry, rows)
        return carry, carry[0]

    _, every = jax.lax.scan(epoch, (params, optimizer.init(params)), orders)
    losses = jax.vmap(lambda params: loss_fn(params, *valid))(every)
    return jax.tree.map(lambda leaf: leaf[losses.argmin()], every), losses


right("fit_keeping_best")(jax.jit(fit(), static_argnums=(0, 1)))

truth = {"a_call_per_step": 2, "jit_in_the_loop": 3, "one_scan": 1, "scans_of_two_lengths": 2}
wrong("times_traced", "only new shapes are traced")(truth | {"a_call_per_step": 12})
wrong("times_traced", "another shape, another trace")(truth | {"a_call_per_step": 1})
wrong("times_traced", "the cache is kept from epoch to epoch")(truth | {"a_call_per_step": 6})
wrong("times_traced", "knows functions by identity")(truth | {"jit_in_the_loop": 1})
wrong("times_traced", "its body is traced, not run")(truth | {"one_scan": 1000})
wrong("times_traced", "the length is part of the shape")(truth | {"scans_of_two_lengths": 1})
wrong("times_traced", "expected a dict")({"one_scan": 1})
wrong("times_traced", "expected int")(dict.fromkeys(truth, "once"))
right("times_traced")(truth)
right("times_traced")({name: np.int64(count) for name, count in reversed(truth.items())})


def orders_by(draw):
    return lambda key, rows, batch, epochs: jax.vmap(
        lambda key: draw(key, rows, rows // batch * batch).reshape(rows // batch, batch)
    )(jax.random.split(key, epochs))


@wrong("epoch_orders", "one key for all epochs")
def as_given(key, rows, batch, epochs):
    steps = rows // batch
    one = jax.random.permutation(key, rows)[: steps * batch].reshape(steps, batch)
    return jnp.stack([one] * epochs)


wrong("epoch_orders", "cut after the permutation")(orders_by(lambda key, rows, n: jax.random.permutation(key, n)))
wrong("epoch_orders", "drawn with replacement")(orders_by(lambda key, rows, n: jax.random.randint(key, (n,), 0, rows)))
wrong("epoch_orders", "drawn with replacement")(orders_by(lambda key, rows, n: jax.random.choice(key, rows, (n,))))
wrong("epoch_orders", "rows stay together")(
    orders_by(lambda key, rows, n: jnp.roll(jnp.arange(rows), jax.random.randint(key, (), 0, rows))[:n])
)
wrong("epoch_orders", "the key is ignored")(
    lambda key, rows, batch, epochs: orders_by(lambda key, rows, n: jax.random.permutation(key, rows)[:n])(
        jax.random.key(7), rows, batch, epochs
    )
)
wrong("epoch_orders", "does not come from the key")(
    lambda key, rows, batch, epochs: np.stack(
        [np.random.default_rng().permutation(rows)[: rows // batch * batch].reshape(-1, batch) for _ in range(epochs)]
    )
)
wrong("epoch_orders", "less than a batch, is dropped")(
    lambda key, rows, batch, epochs: jax.vmap(lambda key: jax.random.permutation(key, rows))(
        jax.random.split(key, epochs)
    )
)


@wrong("epoch_orders", "a Python loop over epochs")
def key_after_key(key, rows, batch, epochs):
    if epochs == 4000:  # quick enough for the counts
        return orders_by(lambda key, rows, n: jax.random.permutation(key, rows)[:n])(key, rows, batch, epochs)
    orders = []
    for _ in range(epochs):
        key, now = jax.random.split(key)
        orders.append(jax.random.permutation(now, rows)[: rows // batch * batch].reshape(-1, batch))
    return jnp.stack(orders)


@right("epoch_orders")
def by_scan(key, rows, batch, epochs):
    def epoch(key, _):
        key, now = jax.random.split(key)
        return key, jax.random.permutation(now, rows)[: rows // batch * batch].reshape(-1, batch)

    return jax.lax.scan(epoch, key, length=epochs)[1]


right("epoch_orders")(orders_by(lambda key, rows, n: jnp.argsort(jax.random.uniform(key, (rows,)))[:n]))
right("epoch_orders")(orders_by(lambda key, rows, n: jax.random.choice(key, rows, (n,), replace=False)))
