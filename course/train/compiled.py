"""A whole training run as one compiled program: batches, steps and epochs inside `lax.scan`. Needs JAX and optax.

Lesson: 10_jit_speed; 11_ensembles maps `train_run` over seeds, folds and hyperparameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from course.batching import checked_batch_size, integer

Params = Any
"""A pytree of arrays."""


def batch_orders(key: jax.Array, rows: int, batch_size: int) -> jax.Array:
    """Draw one epoch's batches: row numbers (rows // batch_size, batch_size) int32, no row twice.

    Taught in 10_jit_speed.
    """
    steps = rows // batch_size
    return shuffled(key, rows)[: steps * batch_size].reshape(steps, batch_size)


def shuffled(key: jax.Array, rows: int) -> jax.Array:
    """Draw a random order of row numbers: (rows,) int32.

    `jax.random.permutation` sorts pairs (random number, row), which XLA does slowly on a CPU. Up to 4096 rows a
    pair fits into one integer, random bits above, row below; sorting those is about four times faster.

    Taught in 10_jit_speed.
    """
    if rows > 4096:  # too few random bits would be left, and equal ones keep their order
        return jax.random.permutation(key, rows)
    low = 2 ** (rows - 1).bit_length() - 1
    pairs = jax.random.bits(key, (rows,)) & ~jnp.uint32(low) | jnp.arange(rows, dtype=jnp.uint32)
    return (jnp.sort(pairs) & low).astype(jnp.int32)


def train_run(
    loss_fn: Callable[[Params, jax.Array, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    keys: jax.Array,
    batch_size: int,
) -> tuple[Params, jax.Array]:
    """Train for one epoch per key, all of it traceable: wrap it in `jit`, map it with `vmap`.

    Args:
      loss_fn: (params, x (B, ...), y (B, ...)) -> scalar.
      optimizer: an optax optimizer.
      params: initial parameters, a pytree.
      x: features, (n, ...).
      y: labels, (n, ...).
      keys: one PRNG key per epoch, (epochs,); each shuffles its epoch.
      batch_size: rows per batch, 1 <= batch_size <= n; what is left over at the end of an epoch is not visited in it.
    Returns:
      The trained parameters, and the loss of every step, (epochs, n // batch_size).
    Raises:
      ValueError: x and y differ in length, keys are not one per epoch, or the batch size does not fit. The numbers in x
        and y may be traced and are not looked at; `fit` does that.
      TypeError: the batch size is no integer.
    """
    checked_batch_size(batch_size, _rows(x, y))
    if jnp.ndim(keys) - (not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)) != 1 or len(keys) < 1:
        raise ValueError(f"expected one key per epoch, (epochs,), got {keys.shape}; jax.random.split(key, epochs)")
    return _train_run(loss_fn, optimizer, params, x, y, keys, batch_size)


def _train_run(
    loss_fn: Callable[[Params, jax.Array, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    keys: jax.Array,
    batch_size: int,
) -> tuple[Params, jax.Array]:
    """Taught in 10_jit_speed as `train_run`."""

    def step(carry: tuple[Params, Any], rows: jax.Array) -> tuple[tuple[Params, Any], jax.Array]:
        params, opt_state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params, x[rows], y[rows])
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    def epoch(carry: tuple[Params, Any], key: jax.Array) -> tuple[tuple[Params, Any], jax.Array]:
        return jax.lax.scan(step, carry, batch_orders(key, len(x), batch_size))

    (params, _), losses = jax.lax.scan(epoch, (params, optimizer.init(params)), keys)
    return params, losses


@partial(jax.jit, static_argnames=("apply_fn", "loss", "optimizer", "batch_size"))
def _compiled_run(
    apply_fn: Callable[[Params, jax.Array], jax.Array],
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    keys: jax.Array,
    batch_size: int,
) -> tuple[Params, jax.Array]:
    def mean_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return loss(apply_fn(params, x), y).mean()

    return train_run(mean_loss, optimizer, params, x, y, keys, batch_size)


def fit(
    apply_fn: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    optimizer: optax.GradientTransformation,
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: jax.Array,
    epochs: int,
    batch_size: int,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = optax.sigmoid_binary_cross_entropy,
    drop_last: bool = False,
) -> tuple[Params, jax.Array]:
    """Check the arguments, then train in one compiled call of `train_run`.

    Called again with the same functions and shapes it does not compile again.

    Args:
      apply_fn: (params, x (B, ...)) -> predictions (B, ...), of the shape of the labels.
      params: initial parameters, a pytree; left unchanged.
      optimizer: an optax optimizer; pass the same object each time, a new one is a new program.
      x: features, (n, ...), finite.
      y: labels, (n, ...), finite; from 0 to 1 for the default loss.
      key: PRNG key, consumed once; shuffles every epoch.
      epochs: >= 1.
      batch_size: rows per batch, 1 <= batch_size <= n; divides n unless `drop_last`.
      loss: (predictions, labels) -> one loss per example.
      drop_last: leave the rows of a short last batch out of each epoch (others each time).
    Returns:
      The trained parameters, and the loss of every step, (epochs, n // batch_size).
    Raises:
      ValueError: an argument does not fit; the message says expected, got and remedy.
      TypeError: epochs or batch_size is no integer, or x or y holds no real numbers.
    Example:
      >>> fit(lambda w, x: x @ w, jnp.zeros(2), optax.sgd(0.1), jnp.ones((4, 2)), jnp.ones(4),
      ...     key=jax.random.key(0), epochs=3, batch_size=2)[1].shape
      (3, 2)
    """
    features, targets = _on_device("features", x), _on_device("labels", y)
    _check(apply_fn, params, features, targets, loss, epochs, batch_size, drop_last)
    return _compiled_run(
        apply_fn, loss, optimizer, params, features, targets, jax.random.split(key, epochs), batch_size
    )


def _rows(x: jax.Array, y: jax.Array) -> int:
    if jnp.ndim(x) == 0 or jnp.ndim(y) == 0 or len(x) != len(y):
        raise ValueError(
            f"expected x (n, ...) and y (n, ...) of one length, got {jnp.shape(x)} and {jnp.shape(y)}; features and "
            "labels have come apart"
        )
    return len(x)


def _on_device(name: str, values: ArrayLike) -> jax.Array:
    """Finite real numbers as a JAX array; in the 32 bits that JAX makes of 64, if they hold them."""
    given = values if isinstance(values, jax.Array) else np.asarray(values)
    if not jnp.issubdtype(given.dtype, np.bool_) and (
        not jnp.issubdtype(given.dtype, jnp.number) or jnp.issubdtype(given.dtype, jnp.complexfloating)
    ):
        raise TypeError(f"expected {name} as real numbers, got {given.dtype}; make numbers of them first")
    with np.errstate(over="ignore"):  # infinity is found below
        array = jnp.asarray(given)
    cut = jnp.issubdtype(given.dtype, jnp.integer) and array.dtype != given.dtype
    fits = np.asarray(array) == given if cut else jnp.isfinite(array)
    if not bool(fits.all()):
        place = np.unravel_index(int(np.argmin(fits)), given.shape)
        raise ValueError(
            f"expected finite {name} that {array.dtype} holds, got {given[place]} in row {place[0] if place else 0}; "
            "fill missing values first, and bring large ones to scale"
        )
    return array


def _check(
    apply_fn: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    x: jax.Array,
    y: jax.Array,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    epochs: int,
    batch_size: int,
    drop_last: bool,
) -> None:
    rows = _rows(x, y)
    if integer("epochs", epochs) < 1:
        raise ValueError(f"expected epochs >= 1, got {epochs}; nothing to train")
    batch_size = checked_batch_size(batch_size, rows)
    if rows % batch_size and not drop_last:
        raise ValueError(
            f"expected a batch_size that divides the {rows} rows, got {batch_size}; pass drop_last=True to leave "
            f"{rows % batch_size} of them out of each epoch"
        )
    if loss is optax.sigmoid_binary_cross_entropy and not bool(((y >= 0) & (y <= 1)).all()):
        row = int(jnp.argmin(((y >= 0) & (y <= 1)).reshape(rows, -1).all(axis=1)))
        raise ValueError(
            f"expected labels from 0 to 1, got {y[row]} in row {row}; make them 0 and 1, or pass the loss they are for"
        )
    predicted = jax.eval_shape(apply_fn, params, x[:batch_size])
    if not hasattr(predicted, "shape") or predicted.shape != y[:batch_size].shape:
        raise ValueError(
            f"expected predictions of the labels' shape {y[:batch_size].shape}, got "
            f"{getattr(predicted, 'shape', type(predicted).__name__)}; they would broadcast in silence: squeeze the "
            "model's last axis, or give the labels one"
        )
