"""Many Titanic models at once, made faster step by step; a part of benchmarks.titanic_speed. Lesson: 11_ensembles."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from optax import sigmoid_binary_cross_entropy

from course.train import compiled


@jax.custom_vjp
def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x @ w of data x, with x transposed in memory for the weights' gradient.

    XLA on a CPU has a fast batched product where the summed axis is the left side's last and the right side's first.
    x.T @ g is not of that form until the transposed x is an array of its own, which the barrier makes it.
    """
    return x @ w


product.defvjp(lambda x, w: (x @ w, x), lambda x, g: (None, jax.lax.optimization_barrier(x.T) @ g))


def loss_fn(graphdef: nnx.GraphDef, params: nnx.State, x: jax.Array, y: jax.Array) -> jax.Array:
    """titanic_nnx.loss_fn, its first layer by `product`."""
    model = nnx.merge(graphdef, params)
    hidden = nnx.relu(product(x, model.hidden.kernel[...]) + model.hidden.bias[...])  # (B, width)
    return sigmoid_binary_cross_entropy(model.out(hidden).squeeze(-1), y).mean()


def adam(rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """optax.adam with one division a parameter instead of three: the bias corrections are one scalar."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.int32(0), zeros, zeros

    def update(grads, state, params=None):
        count = state[0] + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state[1], grads)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state[2], grads)
        root = jnp.sqrt(1 - b2**count)
        scale = -rate * root / (1 - b1**count)
        return jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps * root), mean, square), (count, mean, square)

    return optax.GradientTransformation(init, update)


def orders(keys: jax.Array, rows: int, batch_size: int) -> np.ndarray:
    """compiled.batch_orders of every key, (..., rows // batch_size, B): drawn by JAX, sorted by NumPy."""
    low, steps = np.uint32(2 ** (rows - 1).bit_length() - 1), rows // batch_size
    pairs = np.sort(np.asarray(_pairs(keys, rows, low)), axis=-1)[..., : steps * batch_size]
    return (pairs & low).astype(np.int32).reshape(*keys.shape, steps, batch_size)


@partial(jax.jit, static_argnums=(1, 2))
def _pairs(keys: jax.Array, rows: int, low: int) -> jax.Array:
    bits = jax.vmap(lambda key: jax.random.bits(key, (rows,)))(keys.ravel()).reshape(*keys.shape, rows)
    return bits & ~low | jnp.arange(rows, dtype=jnp.uint32)


@dataclass(frozen=True)
class Way:
    """How many models are trained.

    Attributes:
      group: models that train together, one group after the other.
      loss_fn: (params, x, y) -> scalar.
      optimizer: optax's or `adam`.
      outside: batches are drawn before the run, sorted by NumPy.
      unroll: steps in a turn of the scan.
      donate: give the initial parameters' memory to the result.
    """

    group: int
    loss_fn: Callable
    optimizer: optax.GradientTransformation
    outside: bool = True
    unroll: int = 1
    donate: bool = False


def run_of(way: Way, x: jax.Array, y: jax.Array, batch_size: int) -> Callable:
    """One model's run, (params, rows (steps, B) or keys (epochs,)) -> the trained parameters, losses (steps,)."""

    def train_rows(params, rows):
        def step(carry, rows):
            params, opt_state = carry
            loss, grads = jax.value_and_grad(way.loss_fn)(params, x[rows], y[rows])
            updates, opt_state = way.optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        (params, _), losses = jax.lax.scan(step, (params, way.optimizer.init(params)), rows, unroll=way.unroll)
        return params, losses

    def train_keys(params, keys):
        params, losses = compiled.train_run(way.loss_fn, way.optimizer, params, x, y, keys, batch_size)
        return params, losses.ravel()

    return train_rows if way.outside else train_keys


def trainer(way: Way, x: jax.Array, y: jax.Array, batch_size: int) -> Callable:
    """Many models' runs, (params (M, ...), keys (M, epochs)) -> the trained parameters, losses (M, steps)."""
    run = jax.jit(jax.vmap(run_of(way, x, y, batch_size)), donate_argnums=(0,) if way.donate else ())

    def train(params, keys):
        done = []
        for at in range(0, len(keys), way.group):
            some, drawn = jax.tree.map(lambda leaf, at=at: leaf[at : at + way.group], params), keys[at : at + way.group]
            if way.outside:
                drawn = orders(drawn, len(x), batch_size).reshape(len(drawn), -1, batch_size)
            done.append(run(some, drawn))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *done)

    return train
