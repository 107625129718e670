"""Answers to the exercises of 00_start_here."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong

GENERATOR = np.random.default_rng(0)
TRUE = {"traced": 2, "first": 1, "beyond": 10, "piece": (1, 2), "equal": True}

wrong("first_week", "that is torch, or no jit")(TRUE | {"traced": 4})
wrong("first_week", "batches of one shape share")(TRUE | {"traced": 3})
wrong("first_week", "in torch data[:2] is a view")(TRUE | {"first": 4})
wrong("first_week", "raises nothing")(TRUE | {"beyond": "IndexError"})
wrong("first_week", "that is torch.split")(TRUE | {"piece": (5, 2)})
wrong("first_week", "a key has no state")(TRUE | {"equal": False})
wrong("first_week", "expected a dict")({"traced": 2})
right("first_week")(dict(reversed(TRUE.items())))
right("first_week")(TRUE | {"piece": [1, 2], "traced": np.int64(2), "equal": np.True_})

wrong("padded_sum", "padding landed in the last row")(lambda table, ids, rows: table.at[ids].add(rows))
wrong("padded_sum", "padding landed in row 0")(lambda table, ids, rows: table.at[jnp.maximum(ids, 0)].add(rows))
wrong("padded_sum", "a boolean mask makes a shape")(
    lambda table, ids, rows: table.at[ids[ids != -1]].add(rows[ids != -1])
)


@wrong("padded_sum", "which nobody kept")
def not_kept(table, ids, rows):
    table.at[jnp.where(ids == -1, len(table), ids)].add(rows)
    return table


@wrong("padded_sum", "a function without `return`")
def not_returned(table, ids, rows):
    table = table.at[jnp.where(ids == -1, len(table), ids)].add(rows)


@wrong("padded_sum", "rows were written over")
def set_not_add(table, ids, rows):
    for i, row in zip(ids, rows, strict=True):
        table = jnp.where(i == -1, table, table.at[i].set(row))
    return table


@wrong("padded_sum", "its rows must all be added")
def last_of_equals(table, ids, rows):
    ids = jnp.where(ids == -1, len(table), ids)
    return table.at[ids].set(table[ids] + rows)


@wrong("padded_sum", "the table's own values are missing")
def segments_alone(table, ids, rows):
    return jax.ops.segment_sum(rows, jnp.where(ids == -1, len(table), ids), len(table))


@wrong("padded_sum", "an in-place update")
def in_place(table, ids, rows):
    table[ids] += rows
    return table


@right("padded_sum")
def rows_of_zeros(table, ids, rows):
    return table.at[ids].add(jnp.where(ids[:, None] == -1, 0, rows))


@right("padded_sum")
def one_hot(table, ids, rows):
    return table + jax.nn.one_hot(ids, len(table)).T @ rows


@right("padded_sum")
def looped(table, ids, rows):
    for i, row in zip(ids, rows, strict=True):
        table = jnp.where(i == -1, table, table.at[i].add(row))
    return table


@wrong("augmented", "one coin for all images")
def one_coin(key, images):
    coin_key, noise_key = jax.random.split(key)
    coin = jax.random.bernoulli(coin_key, 0.5)
    return jnp.where(coin, images[:, :, ::-1], images) + 0.1 * jax.random.normal(noise_key, images.shape)


@wrong("augmented", "draw it with images.shape")
def one_noise(key, images):
    coin_key, noise_key = jax.random.split(key)
    coins = jax.random.bernoulli(coin_key, 0.5, (len(images), 1, 1))
    return jnp.where(coins, images[:, :, ::-1], images) + 0.1 * jax.random.normal(noise_key, images.shape[1:])


@wrong("augmented", "two draws from one key")
def one_key(key, images):
    coins = jax.random.bernoulli(key, 0.5, (len(images), 1, 1))
    return jnp.where(coins, images[:, :, ::-1], images) + 0.1 * jax.random.normal(key, images.shape)


@wrong("augmented", "two draws from one key")
def parent_and_child(key, images):
    coins = jax.random.bernoulli(key, 0.5, (len(images), 1, 1))
    _, noise_key = jax.random.split(key)
    return jnp.where(coins, images[:, :, ::-1], images) + 0.1 * jax.random.normal(noise_key, images.shape)


@wrong("augmented", "draw from the argument alone")
def numpy_generator(key, images):
    coins = GENERATOR.random((len(images), 1, 1)) < 0.5
    return jnp.where(coins, images[:, :, ::-1], images) + 0.1 * GENERATOR.normal(size=images.shape)


@wrong("augmented", "the argument key is not used")
def a_seed_inside(key, images):
    return split_and_draw(jax.random.key(0), images)


@wrong("augmented", "an image stands upside down")
def wrong_axis(key, images):
    coin_key, noise_key = jax.random.split(key)
    coins = jax.random.bernoulli(coin_key, 0.5, (len(images), 1, 1))
    return jnp.where(coins, images[:, ::-1], images) + 0.1 * jax.random.normal(noise_key, images.shape)


@wrong("augmented", "the variance for the standard deviation")
def variance(key, images):
    coin_key, noise_key = jax.random.split(key)
    coins = jax.random.bernoulli(coin_key, 0.5, (len(images), 1, 1))
    return jnp.where(coins, images[:, :, ::-1], images) + 0.1**0.5 * jax.random.normal(noise_key, images.shape)


wrong("augmented", "the argument key is not used")(lambda key, images: images)


def split_and_draw(key, images):
    keys = jax.random.split(key, 2)
    images = images + 0.1 * jax.random.normal(keys[1], images.shape)
    return jnp.where(jax.random.uniform(keys[0], (len(images), 1, 1)) < 0.5, jnp.flip(images, axis=2), images)


right("augmented")(split_and_draw)


@right("augmented")
def image_by_image(key, images):
    def one(key, image):
        coin_key, noise_key = jax.random.split(key)
        image = jnp.where(jax.random.bernoulli(coin_key), image[:, ::-1], image)
        return image + 0.1 * jax.random.normal(noise_key, image.shape)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


@right("augmented")
def folded(key, images):
    coins = jax.random.bernoulli(jax.random.fold_in(key, 0), 0.5, (len(images),))
    noise = jax.random.normal(jax.random.fold_in(key, 1), images.shape) * 0.1
    return jnp.where(coins[:, None, None], jnp.fliplr(images.swapaxes(0, 1).swapaxes(1, 2)).transpose(2, 0, 1),
                     images) + noise  # fmt: skip


def new_state(state, x, decay):
    total, weight = decay * state["total"] + (1 - decay) * x, decay * state["weight"] + 1 - decay
    return {"total": total, "weight": weight}, total / weight


wrong("smooth", "y without the new state")(lambda state, x, decay: new_state(state, x, decay)[1])
wrong("smooth", "the state as it came")(lambda state, x, decay: (state, new_state(state, x, decay)[1]))
wrong("smooth", "the two results are swapped")(lambda state, x, decay: new_state(state, x, decay)[::-1])
wrong("smooth", "decay goes with the old")(lambda state, x, decay: new_state(state, x, 1 - decay))


@wrong("smooth", "a side effect: build a new dict")
def changes_the_dict(state, x, decay):
    state["total"] = decay * state["total"] + (1 - decay) * x
    state["weight"] = decay * state["weight"] + (1 - decay)
    return state, state["total"] / state["weight"]


@wrong("smooth", "the total, not divided")
def no_division(state, x, decay):
    state, _ = new_state(state, x, decay)
    return state, state["total"]


MEMORY = {}


@wrong("smooth", "kept outside the function")
def a_global(state, x, decay):
    MEMORY[decay], y = new_state(MEMORY.get(decay, state), x, decay)
    return MEMORY[decay], y


@wrong("smooth", "raised an error")
def asks_for_a_value(state, x, decay):
    weight = float(decay * state["weight"] + (1 - decay))
    total = decay * state["total"] + (1 - decay) * x
    return {"total": total, "weight": weight}, total / weight


right("smooth")(lambda state, x, decay: list(new_state(state, x, decay)))


@right("smooth")
def by_tree(state, x, decay):
    now = {"total": x, "weight": jnp.ones(())}
    state = jax.tree.map(lambda old, new: new + decay * (old - new), state, now)
    return state, state["total"] / state["weight"]
