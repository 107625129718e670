"""Answers to the exercises of 13b_collectives_by_hand."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong


def local(values, weight):
    return (values * weight).sum() / weight.sum()


wrong("weighted_mean_of_all", "the devices must talk")(local)
wrong("weighted_mean_of_all", "a mean of the devices' means")(lambda v, w: jax.lax.pmean(local(v, w), "data"))
wrong("weighted_mean_of_all", "a sum of the devices' means")(lambda v, w: jax.lax.psum(local(v, w), "data"))
wrong("weighted_mean_of_all", "a sum, not a mean")(lambda v, w: jax.lax.psum((v * w).sum(), "data"))
wrong("weighted_mean_of_all", "over the weight of one")(lambda v, w: jax.lax.psum((v * w).sum(), "data") / w.sum())
wrong("weighted_mean_of_all", "the weights are not used")(lambda v, w: jax.lax.pmean(v.mean(), "data"))
wrong("weighted_mean_of_all", "padding included")(lambda v, w: jax.lax.pmean((v * w).mean(), "data"))
wrong("weighted_mean_of_all", "unbound")(lambda v, w: jax.lax.psum((v * w).sum(), "batch"))


@right("weighted_mean_of_all")
def of_everything_gathered(values, weight):
    values, weight = (jax.lax.all_gather(part, "data", tiled=True) for part in (values, weight))
    return jnp.average(values, weights=weight)


@right("weighted_mean_of_all")
def of_two_means(values, weight):
    return jax.lax.pmean((values * weight).mean(), axis_name="data") / jax.lax.pmean(weight.mean(), axis_name="data")


def around(n, step=1):
    return [(i, (i + step) % n) for i in range(n)]


def rotate(x, n, step=1):
    return jax.lax.ppermute(x, "data", around(n, step))


def ring(turns, first=lambda x: x, pass_total=False):
    def add(x, devices):
        total, moving = first(x), x
        for _ in range(turns(devices)):
            moving = rotate(total if pass_total else moving, devices)
            total = total + moving
        return total

    return add


wrong("sum_by_ring", "nothing is passed on")(lambda x, devices: x)
wrong("sum_by_ring", "one turn: the sum with one neighbour")(ring(lambda n: 1))
wrong("sum_by_ring", "pass on what arrived")(ring(lambda n: n - 1, pass_total=True))
wrong("sum_by_ring", "one turn too many")(ring(lambda n: n))
wrong("sum_by_ring", "the own part is missing")(ring(lambda n: n - 1, first=jnp.zeros_like))
wrong("sum_by_ring", "here the ring is asked")(lambda x, devices: jax.lax.psum(x, "data"))
wrong("sum_by_ring", "here the ring is asked")(lambda x, devices: jax.lax.all_gather(x, "data").sum(0))
wrong("sum_by_ring", "a turn is missing")(ring(lambda n: n - 2))
wrong("sum_by_ring", "the mean, not the sum")(lambda x, n: ring(lambda n: n - 1)(x, n) / n)


@right("sum_by_ring")
def the_other_way_in_a_loop(x, devices):
    def turn(_, carry):
        total, moving = carry
        moving = rotate(moving, devices, -1)
        return total + moving, moving

    return jax.lax.fori_loop(0, devices - 1, turn, (x, x))[0]


@right("sum_by_ring")
def each_distance_by_itself(x, devices):
    return sum((rotate(x, devices, step) for step in range(1, devices)), x)


def masked(key_of, keep=lambda rate: 1 - rate, scale=lambda x, rate: x / (1 - rate)):
    def drop(key, x, rate):
        return jnp.where(jax.random.bernoulli(key_of(key), keep(rate), x.shape), scale(x, rate), 0)

    return drop


def own(key):
    return jax.random.fold_in(key, jax.lax.axis_index("data"))


wrong("dropout_on_each", "one key for all")(masked(lambda key: key))
wrong("dropout_on_each", "not scaled")(masked(own, scale=lambda x, rate: x))
wrong("dropout_on_each", "rate is what is dropped")(masked(own, keep=lambda rate: rate))
wrong("dropout_on_each", "divided by rate")(masked(own, scale=lambda x, rate: x / rate))
wrong("dropout_on_each", "multiplied by 1 - rate")(masked(own, scale=lambda x, rate: x * (1 - rate)))
wrong("dropout_on_each", "the key that is given must be used")(
    masked(lambda key: jax.random.fold_in(jax.random.key(0), jax.lax.axis_index("data")))
)
wrong("dropout_on_each", "nothing is dropped")(lambda key, x, rate: x)
wrong("dropout_on_each", "another mask")(
    lambda key, x, rate: x * (np.random.default_rng().random(x.shape) > rate) / (1 - rate)
)
right("dropout_on_each")(masked(own))


@right("dropout_on_each")
def with_split_keys(key, x, rate):
    key = jax.random.split(key, jax.lax.psum(1, "data"))[jax.lax.axis_index("data")]
    return x * (jax.random.uniform(key, x.shape) >= rate) / (1 - rate)


wrong("striped_micro_batches", "so rows must travel")(lambda rows, count: rows.reshape(count, -1, *rows.shape[1:]))
wrong("striped_micro_batches", "lax.scan goes along it")(lambda rows, count: rows.reshape(-1, count, *rows.shape[1:]))
wrong("striped_micro_batches", "another shape")(lambda rows, count: rows[::count])
wrong("striped_micro_batches", "rows are lost")(lambda rows, count: jnp.stack([rows[::count]] * count))
wrong("striped_micro_batches", "in the devices' order")(
    lambda rows, count: rows[::-1].reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1)
)
wrong("striped_micro_batches", "TypeError")(lambda rows, count: rows.reshape(len(rows) / count, count).T)
right("striped_micro_batches")(lambda rows, count: jnp.stack([rows[start::count] for start in range(count)]))
right("striped_micro_batches")(lambda rows, count: jnp.moveaxis(jnp.stack(jnp.split(rows, len(rows) // count)), 1, 0))
