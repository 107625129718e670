"""The Titanic MLP and its training loop in Flax Linen. Needs JAX, flax, optax, pandas and tqdm.

Lesson: 01c_titanic_linen; later lessons import it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pandas as pd
from flax import linen as nn
from flax.training.train_state import TrainState
from jax.typing import ArrayLike
from tqdm import tqdm


class TitanicMLP(nn.Module):
    """15 features, one hidden ReLU layer, one logit; the parameters live outside.

    Taught in 01c_titanic_linen.
    """

    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(self.width, name="hidden")(x))  # (B, width)
        return nn.Dense(1, name="out")(x).squeeze(-1)  # (B,)


def loss_fn(params: Mapping[str, Any], apply_fn: Callable[..., jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean binary cross-entropy of the model's logits: x (B, d), y (B,) -> ().

    Taught in 01c_titanic_linen.
    """
    logits = apply_fn({"params": params}, x)
    return optax.sigmoid_binary_cross_entropy(logits, y).mean()


def train_step(state: TrainState, x: jax.Array, y: jax.Array) -> tuple[TrainState, jax.Array]:
    """One update; returns the next state and the loss before it, ().

    Not compiled: wrap it in `jax.jit`. Taught in 01c_titanic_linen as `eager_step`.
    """
    loss, grads = jax.value_and_grad(loss_fn)(state.params, state.apply_fn, x, y)
    state = state.apply_gradients(grads=grads)
    return state, loss


@jax.jit
def eval_step(state: TrainState, x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss, compiled: once for every shape, model and optimizer.

    Taught in 01c_titanic_linen.
    """
    return loss_fn(state.params, state.apply_fn, x, y)


def fit(
    state: TrainState,
    loader: Iterable[tuple[ArrayLike, ArrayLike]],
    epochs: int,
    valid: tuple[jax.Array, jax.Array] | None = None,
    step: Callable[[TrainState, jax.Array, jax.Array], tuple[TrainState, jax.Array]] = train_step,
) -> tuple[TrainState, pd.DataFrame]:
    """Train for some epochs; returns the last state and a table with a row per epoch, as in the NNX loop.

    Taught in 01c_titanic_linen.
    """
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = []
        for x, y in loader:
            state, loss = step(state, jnp.asarray(x), jnp.asarray(y))
            losses.append(loss)
        row = {"train": jnp.stack(losses).mean().item()}
        if valid is not None:
            row["valid"] = eval_step(state, *valid).item()
        history.append(row)
    return state, pd.DataFrame(history)
