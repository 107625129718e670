"""The Titanic MLP and its training loop in Flax NNX. Needs JAX, flax, optax, pandas and tqdm.

Lesson: 01b_titanic_nnx; later lessons import it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import optax
import pandas as pd
from flax import nnx
from jax.typing import ArrayLike
from tqdm import tqdm


class TitanicMLP(nnx.Module):
    """15 features, one hidden ReLU layer, one logit.

    Taught in 01b_titanic_nnx.
    """

    def __init__(self, features: int = 15, width: int = 64, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(features, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.hidden(x))  # (B, width)
        return self.out(x).squeeze(-1)  # (B,)


def loss_fn(model: nnx.Module, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean binary cross-entropy of the model's logits: x (B, d), y (B,) -> ().

    Taught in 01b_titanic_nnx.
    """
    logits = model(x)
    return optax.sigmoid_binary_cross_entropy(logits, y).mean()


def train_step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    """One update of the model in place; returns the loss before it, ().

    Not compiled: wrap it in `nnx.jit`. Taught in 01b_titanic_nnx as `eager_step`.
    """
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def eval_step(model: nnx.Module, x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss, compiled: once for every shape.

    Taught in 01b_titanic_nnx.
    """
    return loss_fn(model, x, y)


def fit(
    model: nnx.Module,
    optimizer: nnx.Optimizer,
    loader: Iterable[tuple[ArrayLike, ArrayLike]],
    epochs: int,
    valid: tuple[jax.Array, jax.Array] | None = None,
    step: Callable[[nnx.Module, nnx.Optimizer, jax.Array, jax.Array], jax.Array] = train_step,
) -> pd.DataFrame:
    """Train for some epochs; returns a table with a row per epoch: mean training loss, validation loss if asked.

    Taught in 01b_titanic_nnx.
    """
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = [step(model, optimizer, jnp.asarray(x), jnp.asarray(y)) for x, y in loader]
        row = {"train": jnp.stack(losses).mean().item()}
        if valid is not None:
            row["valid"] = eval_step(model, *valid).item()
        history.append(row)
    return pd.DataFrame(history)
