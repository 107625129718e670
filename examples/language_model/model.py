"""The GPT in Flax NNX: RMSNorm before each part, rotary positions, no biases. Needs JAX, flax and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from examples.language_model.config import Config

Constrain = Callable[[jax.Array], jax.Array]  # says how activations are split over a mesh


def rotary(context: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of rotary positions (Su et al. 2021), each (context, 1, size // 2), float64."""
    frequencies = 10_000.0 ** (-np.arange(0, size, 2) / size)
    angles = np.arange(context)[:, None, None] * frequencies
    return np.cos(angles), np.sin(angles)


def rotate(x: jax.Array) -> jax.Array:
    """Queries or keys x (batch, length, heads, size), turned by their positions."""
    cos, sin = (jnp.asarray(table, x.dtype) for table in rotary(x.shape[1], x.shape[3]))
    left, right = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attention of each token to those before it and itself; all (batch, length, heads, size).

    `jax.nn.dot_product_attention` takes its softmax in float32 whatever the dtype, 1e-9 away from a float64 twin.
    """
    scores = jnp.einsum("bqhs,bkhs->bhqk", query, key) / math.sqrt(query.shape[-1])
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    before = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(before, scores, -jnp.inf)).astype(value.dtype)
    return jnp.einsum("bhqk,bkhs->bqhs", weights, value)


class Block(nnx.Module):
    """Attention to the tokens before, then an MLP, each added to its input."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        dtypes: Any = {"dtype": jnp.dtype(config.dtype), "param_dtype": jnp.dtype(config.param_dtype)}
        linear: Callable[..., nnx.Linear] = partial(nnx.Linear, use_bias=False, rngs=rngs, **dtypes)
        norm = partial(nnx.RMSNorm, config.width, epsilon=1e-6, rngs=rngs, **dtypes)
        width, hidden, zeros = config.width, config.hidden, nnx.initializers.zeros_init()
        self.heads = config.heads
        self.attention_norm, self.mlp_norm = norm(), norm()
        self.query, self.key, self.value = (linear(width, width) for _ in range(3))
        self.out = linear(width, width, kernel_init=zeros)  # a block begins as the identity
        self.up, self.down = linear(width, hidden), linear(hidden, width, kernel_init=zeros)
        self.dropout = nnx.Dropout(config.dropout)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """x (batch, length, width) to the same; `rngs` draws what is dropped, None drops nothing."""
        drop = partial(self.dropout, deterministic=rngs is None, rngs=rngs)
        y = self.attention_norm(x)
        query, key, value = (
            part(y).reshape(*y.shape[:2], self.heads, -1) for part in (self.query, self.key, self.value)
        )
        mixed = attend(rotate(query), rotate(key), value)
        x = x + drop(self.out(mixed.reshape(x.shape)))
        return x + drop(self.down(nnx.gelu(self.up(self.mlp_norm(x)))))


class GPT(nnx.Module):
    """Tokens to the logits of the ones that follow.

    Args:
      config: its first part is the model's.
      rngs: draws the weights from its stream `params`.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        dtypes: Any = {"dtype": jnp.dtype(config.dtype), "param_dtype": jnp.dtype(config.param_dtype)}
        self.remat = config.remat
        self.embed = nnx.Embed(config.vocab, config.width, rngs=rngs, **dtypes)
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = nnx.RMSNorm(config.width, epsilon=1e-6, rngs=rngs, **dtypes)
        self.head = nnx.Linear(config.width, config.vocab, use_bias=False, rngs=rngs, **dtypes)

    def __call__(
        self, tokens: jax.Array, key: jax.Array | None = None, constrain: Constrain = lambda x: x
    ) -> jax.Array:
        """Logits (batch, length, vocab), at least float32, of tokens (batch, length), int32.

        Args:
          key: draws what is dropped; None, in evaluation, drops nothing.
          constrain: applied to the activations between blocks.
        """
        x = constrain(self.embed(tokens))
        for i, block in enumerate(self.blocks):
            rngs = None if key is None else nnx.Rngs(jax.random.fold_in(key, i))
            run = nnx.remat(Block.__call__) if self.remat else Block.__call__
            x = constrain(run(block, x, rngs))
        logits = self.head(self.norm(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
