"""Answers to the exercises of 16_derivative_cliff."""

import jax
import jax.numpy as jnp

from tests.answers import right, wrong


def slopes_of(critic, params, x):
    return jax.vmap(jax.grad(critic, argnums=1), in_axes=(None, 0))(params, x)


def by_params(penalty):
    return lambda critic, params, x: jax.grad(lambda p: penalty(slopes_of(critic, p, x)))(params)


def norms(slopes, axis=1):
    return jnp.linalg.norm(slopes, axis=axis)


wrong("critic_penalty", "one norm of all examples together")(by_params(lambda s: (jnp.linalg.norm(s) - 1) ** 2))
wrong("critic_penalty", "the squared norm")(by_params(lambda s: jnp.mean(((s**2).sum(1) - 1) ** 2)))
wrong("critic_penalty", "driven to 0")(by_params(lambda s: jnp.mean(norms(s) ** 2)))
wrong("critic_penalty", "over the examples")(by_params(lambda s: jnp.mean((norms(s, 0) - 1) ** 2)))
wrong("critic_penalty", "the sum, not the mean")(by_params(lambda s: jnp.sum((norms(s) - 1) ** 2)))
wrong("critic_penalty", "it was stopped")(by_params(lambda s: jnp.mean((norms(jax.lax.stop_gradient(s)) - 1) ** 2)))


@wrong("critic_penalty", "1 / n of each")
def gradient_of_the_mean(critic, params, x):
    def penalty(params):
        slopes = jax.grad(lambda x: jax.vmap(critic, (None, 0))(params, x).mean())(x)
        return jnp.mean((norms(slopes) - 1) ** 2)

    return jax.grad(penalty)(params)


@wrong("critic_penalty", "another structure")
def the_penalty_itself(critic, params, x):
    return jnp.mean((norms(slopes_of(critic, params, x)) - 1) ** 2)


@right("critic_penalty")
def like_torch(critic, params, x):
    def penalty(params):
        slopes = jax.grad(lambda x: jax.vmap(critic, (None, 0))(params, x).sum())(x)
        return jnp.mean((jnp.sqrt((slopes**2).sum(1)) - 1) ** 2)

    return jax.grad(penalty)(params)


@right("critic_penalty")
def one_example_at_a_time(critic, params, x):
    def penalty(params, x):
        return (jnp.linalg.norm(jax.grad(critic, 1)(params, x)) - 1) ** 2

    one = jax.jit(jax.grad(penalty))
    grads = [one(params, row) for row in x]
    return jax.tree.map(lambda *parts: sum(parts) / len(x), *grads)


wrong("arrays_carried", "they get no tangents")({1: 8, 2: 16, 3: 32})
wrong("arrays_carried", "as many as a Taylor series")({1: 6, 2: 8, 3: 10})
wrong("arrays_carried", "still carried, once each")({1: 4, 2: 8, 3: 16})
wrong("arrays_carried", "time is a float")({1: 7, 2: 13, 3: 25})
wrong("arrays_carried", "not one")({1: 2, 2: 4, 3: 8})
wrong("arrays_carried", "the keys 1, 2, 3")({1: 6, 2: 10})
wrong("arrays_carried", "expected int")({1: 6.0, 2: 10.0, 3: 18.0})
wrong("arrays_carried", "only in part")({1: 6, 2: 10, 3: ...})
right("arrays_carried")({1: 6, 2: 10, 3: 18})
right("arrays_carried")({3: jnp.asarray(18), 2: 10, 1: 6})


def entry(f, x, i, pick=lambda row, i: row[i]):
    return pick(jax.jvp(jax.grad(f), (x,), (jax.nn.one_hot(i, len(x), dtype=x.dtype),))[1], i)


def blocks(x, block):
    return jnp.arange(len(x)).reshape(-1, block)


wrong("laplacian_in_blocks", "all rows at once")(lambda f, x, block: jnp.trace(jax.hessian(f)(x)))


@wrong("laplacian_in_blocks", "one direction at a time")
def map_alone(f, x, block):
    return jax.lax.map(lambda i: entry(f, x, i), jnp.arange(len(x))).sum()


@wrong("laplacian_in_blocks", "a Python loop")
def python_loop(f, x, block):
    return sum(jax.vmap(lambda i: entry(f, x, i))(row).sum() for row in blocks(x, block))


@wrong("laplacian_in_blocks", "all entries of the Hessian")
def sum_of_rows(f, x, block):
    return jax.lax.map(jax.vmap(lambda i: entry(f, x, i, lambda row, i: row.sum())), blocks(x, block)).sum()


@wrong("laplacian_in_blocks", "not yet added up")
def unsummed(f, x, block):
    return jax.lax.map(lambda row: jax.vmap(lambda i: entry(f, x, i))(row).sum(), blocks(x, block))


@wrong("laplacian_in_blocks", "or the identity")
def rows_of_the_identity(f, x, block):
    eye = jnp.eye(len(x)).reshape(-1, block, len(x))
    second = jax.vmap(lambda v: jax.jvp(jax.grad(f), (x,), (v,))[1] @ v)
    return jax.lax.map(lambda rows: second(rows).sum(), eye.astype(x.dtype)).sum()


@wrong("laplacian_in_blocks", "the mean over the blocks")
def mean_of_blocks(f, x, block):
    return jax.lax.map(lambda row: jax.vmap(lambda i: entry(f, x, i))(row).sum(), blocks(x, block)).mean()


@wrong("laplacian_in_blocks", "only the last block")
def rebinding(f, x, block):
    def step(total, row):
        return jax.vmap(lambda i: entry(f, x, i))(row).sum(), None

    return jax.lax.scan(step, jnp.zeros((), x.dtype), blocks(x, block))[0]


@right("laplacian_in_blocks")
def with_batch_size(f, x, block):
    return jax.lax.map(lambda i: entry(f, x, i), jnp.arange(len(x)), batch_size=block).sum()


@right("laplacian_in_blocks")
def in_a_fori_loop(f, x, block):
    def add(n, total):
        units = jnp.zeros((block, len(x)), x.dtype)
        units = units.at[jnp.arange(block), n * block + jnp.arange(block)].set(1.0)
        slopes = jax.vmap(lambda v: jax.jvp(lambda x: jax.jvp(f, (x,), (v,))[1], (x,), (v,))[1])(units)
        return total + slopes.sum()

    return jax.lax.fori_loop(0, len(x) // block, add, jnp.zeros((), x.dtype))
