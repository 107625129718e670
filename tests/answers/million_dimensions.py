"""Answers to the exercises of 19_million_dimensions."""

import jax
import jax.numpy as jnp
import optax

from course import taylor
from tests.answers import right, wrong


def in_ball(s):
    return lambda x: (1 - x @ x) * s(x)


wrong("bratu_source", "u without its factor")(lambda s, x: taylor.laplacian(s, x) + jnp.exp(s(x)))
wrong("bratu_source", "the factor counts in the Laplacian too")(
    lambda s, x: (1 - x @ x) * taylor.laplacian(s, x) + jnp.exp(in_ball(s)(x))
)
wrong("bratu_source", "e^s, not e^u")(lambda s, x: taylor.laplacian(in_ball(s), x) + jnp.exp(s(x)))
wrong("bratu_source", "only the Laplacian")(lambda s, x: taylor.laplacian(in_ball(s), x))
wrong("bratu_source", "the sign of e^u")(lambda s, x: taylor.laplacian(in_ball(s), x) - jnp.exp(in_ball(s)(x)))
wrong("bratu_source", "the sum of all entries")(lambda s, x: jax.hessian(in_ball(s))(x).sum() + jnp.exp(in_ball(s)(x)))
wrong("bratu_source", "a whole Hessian")(lambda s, x: jnp.trace(jax.hessian(in_ball(s))(x)) + jnp.exp(in_ball(s)(x)))


def by_hand(two_d, along=4.0):
    def source(s, x):
        value, slope = jax.value_and_grad(s)(x)
        factor = 1 - x @ x
        lap = factor * taylor.laplacian(s, x) - along * x @ slope - two_d(len(x)) * value
        return lap + jnp.exp(factor * value)

    return source


wrong("bratu_source", "the Laplacian of |x|^2 is 2 d")(by_hand(lambda d: 2))
wrong("bratu_source", "without its term -4")(by_hand(lambda d: 2 * d, along=0.0))
right("bratu_source")(by_hand(lambda d: 2 * d))


@right("bratu_source")
def one_axis_at_a_time(s, x):
    u = in_ball(s)

    def second(i):
        e = jnp.zeros_like(x).at[i].set(1)
        return jax.jvp(jax.grad(u), (x,), (e,))[1][i]

    return jax.lax.map(second, jnp.arange(len(x))).sum() + jnp.exp(u(x))


def shell(factor, lift=lambda a, inner, outer: inner + a * (outer - inner), use=lambda network, x: network(x)):
    def ansatz(network, x, inner, outer):
        return lift((x @ x - 1) / 3, inner, outer) + factor(jnp.sqrt(x @ x)) * use(network, x)

    return ansatz


def across(r):
    return (r - 1) * (2 - r)


wrong("shell_ansatz", "the lift is missing")(shell(across, lift=lambda a, inner, outer: 0))
wrong("shell_ansatz", "inner and outer are swapped")(
    shell(across, lift=lambda a, inner, outer: outer + a * (inner - outer))
)
wrong("shell_ansatz", "the factor is missing")(shell(lambda r: 1))
wrong("shell_ansatz", "on the inner surface only")(shell(lambda r: 1 - r**2))
wrong("shell_ansatz", "on the outer surface only")(shell(lambda r: 4 - r**2))
wrong("shell_ansatz", "a square")(shell(lambda r: across(r) ** 2))
wrong("shell_ansatz", "min, max or abs")(shell(lambda r: jnp.minimum(r - 1, 2 - r)))
wrong("shell_ansatz", "does not depend on the network")(shell(across, use=lambda network, x: 0))
wrong("shell_ansatz", "as lift + factor * network(x)")(
    shell(across, use=lambda network, x: network(x / jnp.sqrt(x @ x)))
)
wrong("shell_ansatz", "zero inside")(shell(lambda r: across(r) * (r - 1.5)))
wrong("shell_ansatz", "zero inside")(shell(lambda r: jnp.sin(2 * jnp.pi * r)))
right("shell_ansatz")(shell(across))
right("shell_ansatz")(shell(lambda r: jnp.sin(jnp.pi * (r - 1))))


@right("shell_ansatz")
def harmonic_lift(network, x, inner, outer):
    r = jnp.linalg.norm(x)
    return outer + (inner - outer) * (2 / r - 1) - 5 * across(r) * network(x)


NAMES = "mean of cosines", "one coordinate", "length", "sine of the sum", "product of cosines", "largest"


def predicted(*falling):
    return {name: "falls" if name in falling else "stays" for name in NAMES}


wrong("flat_in_the_end", "the length |x| does not")(predicted(*NAMES))
wrong("flat_in_the_end", "a mean over coordinates")(predicted())
wrong("flat_in_the_end", "cancels in a relative error")(predicted("mean of cosines", "one coordinate", "largest"))
wrong("flat_in_the_end", "exp(-2 |x|^2)")(predicted("mean of cosines", "one coordinate", "product of cosines"))
wrong("flat_in_the_end", "beside a 1 that stays")(predicted("mean of cosines"))
wrong("flat_in_the_end", "add up to about |x|")(predicted("mean of cosines", "one coordinate", "sine of the sum"))
wrong("flat_in_the_end", "expected str")(predicted() | {"mean of cosines": True})
right("flat_in_the_end")(predicted("mean of cosines", "one coordinate"))
right("flat_in_the_end")(
    {name: text.upper() for name, text in reversed(predicted("mean of cosines", "one coordinate").items())}
)


def loop(keys=jax.random.split, carry=True, fresh_state=False, late=False, sum_it=False):
    def train(loss_fn, optimizer, params, key, steps):
        def step(state, key):
            now, opt_state = state
            loss, grads = jax.value_and_grad(loss_fn)(now, key)
            opt_state = optimizer.init(now) if fresh_state else opt_state
            updates, opt_state = optimizer.update(grads, opt_state, now)
            after = optax.apply_updates(now, updates)
            loss = loss_fn(after, key) if late else loss
            return (after, opt_state) if carry else (params, opt_state), loss

        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), keys(key, steps))
        return params, losses.sum() if sum_it else losses

    return train


def same_key(key, steps):
    return jnp.stack([key] * steps)


wrong("train_on_fresh_points", "the key is reused")(loop(keys=same_key))
wrong("train_on_fresh_points", "must be carried on")(loop(carry=False))
wrong("train_on_fresh_points", "the optimizer's state must be carried")(loop(fresh_state=True))
wrong("train_on_fresh_points", "from after its step")(loop(late=True))
wrong("train_on_fresh_points", "the shape of losses")(loop(sum_it=True))


def python_loop(jit, one=lambda params, losses: (params, losses)):
    def train(loss_fn, optimizer, params, key, steps):
        @jit
        def step(params, opt_state, key):
            loss, grads = jax.value_and_grad(loss_fn)(params, key)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, loss

        opt_state, losses = optimizer.init(params), []
        for each in jax.random.split(key, steps):
            params, opt_state, loss = step(params, opt_state, each)
            losses.append(loss)
        return one(params, jnp.stack(losses))

    return train


wrong("train_on_fresh_points", "a Python loop; jax.lax.scan")(python_loop(lambda f: f))
wrong("train_on_fresh_points", "a Python loop around a compiled step")(python_loop(jax.jit))
wrong("train_on_fresh_points", "expected (params, losses)")(python_loop(jax.jit, lambda params, losses: params))


@right("train_on_fresh_points")
def with_folded_keys(loss_fn, optimizer, params, key, steps):
    return loop(keys=lambda key, steps: jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(steps)))(
        loss_fn, optimizer, params, key, steps
    )


@right("train_on_fresh_points")
def with_a_carried_key(loss_fn, optimizer, params, key, steps):
    def body(i, state):
        params, opt_state, key, losses = state
        key, now = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_fn)(params, now)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, key, losses.at[i].set(loss)

    start = params, optimizer.init(params), key, jnp.zeros(steps, jnp.float32)
    params, _, _, losses = jax.jit(lambda start: jax.lax.fori_loop(0, steps, body, start))(start)
    return params, losses
