"""Answers to the exercises of 09_transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.answers import right, wrong


def norm_of(tree):
    return jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(tree)))


def per_example(loss, params, x, y):
    return jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(params, x, y)


@wrong("clipped_gradient", "nothing is clipped")
def no_clipping(loss, params, x, y, limit):
    return jax.tree.map(lambda g: g.mean(0), per_example(loss, params, x, y))


@wrong("clipped_gradient", "the mean is clipped")
def clip_of_the_mean(loss, params, x, y, limit):
    mean = jax.tree.map(lambda g: g.mean(0), per_example(loss, params, x, y))
    return jax.tree.map(lambda g: g * jnp.minimum(1, limit / norm_of(mean)), mean)


def of_each(factor, reduce):
    def clipped(loss, params, x, y, limit):
        def of_one(x, y):
            grads = jax.grad(loss)(params, x, y)
            return jax.tree.map(lambda g: g * factor(limit, norm_of(grads)), grads)

        return jax.tree.map(reduce, jax.vmap(of_one)(x, y))

    return clipped


wrong("clipped_gradient", "the sum, not the mean")(of_each(lambda c, n: jnp.minimum(1, c / n), lambda g: g.sum(0)))
wrong("clipped_gradient", "made longer")(of_each(lambda c, n: c / n, lambda g: g.mean(0)))
wrong("clipped_gradient", "another shape")(of_each(lambda c, n: jnp.minimum(1, c / n), lambda g: g))


@wrong("clipped_gradient", "every leaf is clipped by its own norm")
def leaf_by_leaf(loss, params, x, y, limit):
    def clip(g):
        norms = jnp.sqrt(jnp.sum(g.reshape(len(g), -1) ** 2, axis=1))
        return (g * jnp.minimum(1, limit / norms).reshape(-1, *[1] * (g.ndim - 1))).mean(0)

    return jax.tree.map(clip, per_example(loss, params, x, y))


@wrong("clipped_gradient", "TypeError")
def gradient_of_a_batch(loss, params, x, y, limit):
    return jax.grad(loss)(params, x, y)


@right("clipped_gradient")
def with_a_batch_of_norms(loss, params, x, y, limit):
    grads = per_example(loss, params, x, y)
    norms = jax.vmap(norm_of)(grads)
    factors = jnp.minimum(1, limit / norms)
    return jax.tree.map(lambda g: jnp.tensordot(factors, g, 1) / len(x), grads)


@right("clipped_gradient")
def with_optax(loss, params, x, y, limit):
    grads = per_example(loss, params, x, y)
    total, _ = optax.per_example_global_norm_clip(jax.tree.leaves(grads), limit)
    return jax.tree.unflatten(jax.tree.structure(params), [g / len(x) for g in total])


wrong("hessian_vector", "the gradient: jax.jvp gives")(lambda f, x, v: jax.jvp(jax.grad(f), (x,), (v,))[0])
wrong("hessian_vector", "v H v, a number")(lambda f, x, v: v @ jax.hessian(f)(x) @ v)
wrong("hessian_vector", "the slope along v")(lambda f, x, v: jax.grad(f)(x) @ v)
wrong("hessian_vector", "H x, not H v")(lambda f, x, v: jax.jvp(jax.grad(f), (x,), (x,))[1])
wrong("hessian_vector", "x and v are swapped")(lambda f, x, v: jax.jvp(jax.grad(f), (v,), (x,))[1])
wrong("hessian_vector", "builds the whole matrix")(lambda f, x, v: jax.hessian(f)(x) @ v)
wrong("hessian_vector", "NumPy inside a transformed function")(
    lambda f, x, v: jax.grad(lambda x: np.dot(jax.grad(f)(x), v))(x)
)
right("hessian_vector")(lambda f, x, v: jax.grad(lambda x: jax.grad(f)(x) @ v)(x))
right("hessian_vector")(lambda f, x, v: jax.grad(lambda x: jax.jvp(f, (x,), (v,))[1])(x))
right("hessian_vector")(lambda f, x, v: jax.vjp(jax.grad(f), x)[1](v)[0])


def td(freeze_target=False, freeze_value=False, mean=jnp.mean, factor=1.0):
    def gradient(w, state, reward, following, gamma):
        def loss(w):
            target, value = reward + gamma * jnp.tanh(following @ w), jnp.tanh(state @ w)
            target = jax.lax.stop_gradient(target) if freeze_target else target
            value = jax.lax.stop_gradient(value) if freeze_value else value
            return factor * mean((value - target) ** 2)

        return jax.grad(loss)(w)

    return gradient


wrong("td_gradient", "the target moves")(td())
wrong("td_gradient", "the value is frozen")(td(freeze_value=True))
wrong("td_gradient", "the sum, not the mean")(td(freeze_target=True, mean=jnp.sum))
wrong("td_gradient", "a factor 1/2")(td(freeze_target=True, factor=0.5))
wrong("td_gradient", "the sign")(td(freeze_target=True, factor=-1.0))
wrong("td_gradient", "a function without `return`")(lambda *_: None)


@right("td_gradient")
def the_target_outside(w, state, reward, following, gamma):
    target = reward + gamma * jnp.tanh(following @ w)
    return jax.grad(lambda w: jnp.mean((jnp.tanh(state @ w) - target) ** 2))(w)


@right("td_gradient")
def by_hand(w, state, reward, following, gamma):
    value = jnp.tanh(state @ w)
    return 2 * ((value - reward - gamma * jnp.tanh(following @ w)) * (1 - value**2)) @ state / len(state)
