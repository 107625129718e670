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


def along(third, second=lambda f, x, v: jax.grad(f)(x) @ v):
    return lambda f, x, v: (f(x), second(f, x, v), third(f, x, v))


def h_v(f, x, v):
    return jax.jvp(jax.grad(f), (x,), (v,))[1]


def pairs(f, x, v):
    return jax.jvp(lambda x: jax.jvp(f, (x,), (v,)), (x,), (v,))


wrong("hessian_vector", "H v, a vector, in place of v H v")(along(h_v))
wrong("hessian_vector", "the gradient, in place of the slope")(
    along(lambda f, x, v: v @ h_v(f, x, v), lambda f, x, v: jax.grad(f)(x))
)
wrong("hessian_vector", "the gradient and H v, in place of")(lambda f, x, v: (f(x), *jax.jvp(jax.grad(f), (x,), (v,))))
wrong("hessian_vector", "the pairs as the outer jax.jvp returns them")(pairs)
wrong("hessian_vector", "the slope twice")(lambda f, x, v: (*pairs(f, x, v)[0], pairs(f, x, v)[1][0]))
wrong("hessian_vector", "half of it, as in Taylor's formula")(along(lambda f, x, v: v @ h_v(f, x, v) / 2))
wrong("hessian_vector", "divided by the length of v")(
    lambda f, x, v: (lambda a, b: (*a, b[1]))(*pairs(f, x, v / jnp.linalg.norm(v)))
)
wrong("hessian_vector", "the trace of H")(along(lambda f, x, v: jnp.trace(jax.hessian(f)(x))))
wrong("hessian_vector", "x and v are swapped")(lambda f, x, v: (lambda a, b: (*a, b[1]))(*pairs(f, v, x)))
wrong("hessian_vector", "x H v, not v H v")(along(lambda f, x, v: x @ h_v(f, x, v)))
wrong("hessian_vector", "the order: value, slope")(lambda f, x, v: (v @ h_v(f, x, v), *pairs(f, x, v)[0][::-1]))
wrong("hessian_vector", "builds the whole matrix")(along(lambda f, x, v: v @ jax.hessian(f)(x) @ v))
wrong("hessian_vector", "another structure")(lambda f, x, v: pairs(f, x, v)[0])
wrong("hessian_vector", "NumPy inside a transformed function")(
    along(lambda f, x, v: jax.jvp(lambda x: np.dot(jax.grad(f)(x), v), (x,), (v,))[1])
)


@right("hessian_vector")
def on_a_line(f, x, v):
    def line(t):
        return f(x + t * v)

    return line(0.0), jax.grad(line)(0.0), jax.grad(jax.grad(line))(0.0)


@right("hessian_vector")
def gradient_first(f, x, v):
    gradient, product = jax.jvp(jax.grad(f), (x,), (v,))
    return f(x), gradient @ v, product @ v


@right("hessian_vector")
def in_a_list(f, x, v):
    value, gradient = jax.value_and_grad(f)(x)
    return [value, gradient @ v, v @ jax.vjp(jax.grad(f), x)[1](v)[0]]


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
