"""Answers to the exercises of 08c_debugging."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from tests.answers import right, wrong


def squares(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


wrong("distance_gradient", "a second `where` inside")(lambda x: jnp.sqrt(squares(x)))
wrong("distance_gradient", "a second `where` inside")(lambda x: jnp.linalg.norm(x[:, None] - x[None], axis=-1))
wrong("distance_gradient", "a second `where` inside")(lambda x: jnp.where(squares(x) > 0, jnp.sqrt(squares(x)), 0.0))
wrong("distance_gradient", "an epsilon under the root")(lambda x: jnp.sqrt(squares(x) + 1e-13))
wrong("distance_gradient", "squared distances")(squares)
wrong("distance_gradient", "a sum of absolute differences")(lambda x: jnp.abs(x[:, None] - x[None]).sum(-1))
wrong("distance_gradient", "stop_gradient, or NumPy, is in the way")(
    lambda x: jax.lax.stop_gradient(jnp.sqrt(squares(x)))
)


@wrong("distance_gradient", "only the diagonal is guarded")
def guards_the_diagonal(x):
    diagonal = jnp.eye(len(x), dtype=bool)
    return jnp.where(diagonal, 0.0, jnp.sqrt(jnp.where(diagonal, 1.0, squares(x))))


@right("distance_gradient")
def with_a_mask(x):
    squared = squares(x)
    apart = squared > 0
    return jnp.sqrt(squared + ~apart) * apart


@right("distance_gradient")
@jax.jit
def by_two_vmaps(x):
    def distance(a, b):
        same = jnp.all(a == b)
        return jnp.where(same, 0.0, jnp.linalg.norm(jnp.where(same, 1.0, a - b)))

    return jax.vmap(lambda a: jax.vmap(lambda b: distance(a, b))(x))(x)


def augment(flip_key, noise_keys, drop_key, images, *, flip_shape=None, drop_shape=None):
    flip = jax.random.bernoulli(flip_key, 0.5, flip_shape or (len(images), 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    for key in noise_keys:
        images = images + 0.1 * jax.random.normal(key, images.shape)
    return jnp.where(jax.random.bernoulli(drop_key, 0.25, drop_shape or images.shape), 0.0, images)


wrong("unused_keys", "a key is used twice")(lambda key, images: augment(key, [key, key], key, images))


@wrong("unused_keys", "a key is used twice")
def one_key_for_the_loop(key, images):
    a, b, c = jax.random.split(key, 3)
    return augment(a, [b, b], c, images)


@wrong("unused_keys", "a key that was split, or drawn from, is used up")
def draws_from_the_parent(key, images):
    a, b, c = jax.random.split(key, 3)
    return augment(key, [a, b], c, images)


@wrong("unused_keys", "both layers of noise are the same noise")
def folds_in_the_same_number(key, images):
    a, b, c = (jax.random.fold_in(key, i) for i in (0, 1, 2))
    return augment(a, [b, jax.random.fold_in(key, 1)], c, images)


@wrong("unused_keys", "come from the same random numbers")
def noise_and_mask_from_equal_keys(key, images):
    a, b, c = (jax.random.fold_in(key, i) for i in (0, 1, 2))
    return augment(a, [b, c], jax.random.fold_in(key, 2), images)


@wrong("unused_keys", "a key made inside is a constant")
def made_inside(key, images):
    return augment(*(lambda a, b, c, d: (a, [b, c], d))(*jax.random.split(jax.random.key(0), 4)), images)


@wrong("unused_keys", "one layer of noise")
def a_single_layer(key, images):
    a, b, c = jax.random.split(key, 3)
    return augment(a, [b], c, images)


@wrong("unused_keys", "one flip for the whole batch")
def flips_all_or_none(key, images):
    a, b, c, d = jax.random.split(key, 4)
    return augment(a, [b, c], d, images, flip_shape=(1, 1, 1))


@wrong("unused_keys", "draw it for all images")
def the_same_pixels(key, images):
    a, b, c, d = jax.random.split(key, 4)
    return augment(a, [b, c], d, images, drop_shape=images.shape[1:])


@right("unused_keys")
def splits_on_the_way(key, images):
    key, a = jax.random.split(key)
    key, b = jax.random.split(key)
    c, d = jax.random.split(key)
    return augment(a, [b, c], d, images)


@right("unused_keys")
def folds_in(key, images):
    flip, drop, *noise = (jax.random.fold_in(key, i) for i in range(4))
    return augment(flip, noise, drop, images)


def watching(errors, *, throw=True, jit=True, inside=False, pair=False):
    def strict(f):
        checked = checkify.checkify(f, errors=errors)
        compiled = jax.jit(checked) if jit else checked

        def call(*args):
            again = jax.jit(lambda *args: checked(*args)) if inside else compiled
            error, value = again(*args)
            if throw:
                error.throw()
            return (error, value) if pair else value

        return call

    return strict


everything = checkify.index_checks | checkify.float_checks
wrong("strict_function", "checks of indices")(watching(checkify.float_checks))
wrong("strict_function", "checks of NaN")(watching(checkify.index_checks))
wrong("strict_function", "NaN is not all")(watching(checkify.index_checks | checkify.nan_checks))
wrong("strict_function", "did not raise at an index out of range")(watching(everything, throw=False))
wrong("strict_function", "call error.throw(), and return the value alone")(watching(everything, pair=True))
wrong("strict_function", "wrap it in jax.jit")(watching(everything, jit=False))
wrong("strict_function", "once, outside the inner function")(watching(everything, inside=True))
wrong("strict_function", "expected a function")(lambda f: checkify.checkify(f)(np.ones((4, 2)), np.array([0]), 1.0))
wrong("strict_function", "did not raise at an index out of range")(jax.jit)
right("strict_function")(watching(checkify.all_checks))
right("strict_function")(watching(checkify.index_checks | checkify.nan_checks | checkify.div_checks))


@right("strict_function")
def with_get(f):
    run = jax.jit(checkify.checkify(f, errors=everything))

    def call(*args):
        error, value = run(*args)
        if message := error.get():
            raise ValueError(message)
        return value

    return call
