"""Linen layers that train as PyTorch's do. Needs JAX and flax. Lesson: 06b_porting_sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from course.layers.statistics import unbiased


class LSTMCell(nn.RNNCellBase):
    """An LSTM cell with both of torch's biases, `dense_i.bias` and `dense_h.bias`; flax's has one.

    The outputs of torch's and flax's cells are equal; under an optimizer two biases, each with the whole gradient, move
    their sum twice as far as one. The four gates are one product, in torch's order: input, forget, cell, output.

    Attributes:
      features: width of the hidden state.
      dtype: of the computation; None: of inputs and weights.
      param_dtype: of the weights.
    """

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32
    num_feature_axes: int = 1  # the last axis of the inputs; nn.RNN asks for it

    @nn.compact
    def __call__(
        self, carry: tuple[jax.Array, jax.Array], inputs: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """One step: carry (c, h), each (..., features), and inputs (..., in) to the new carry and h."""
        c, h = carry
        dense = {"features": 4 * self.features, "dtype": self.dtype, "param_dtype": self.param_dtype}
        of_state = nn.Dense(**dense, kernel_init=nn.initializers.orthogonal(), name="dense_h")(h)
        i, f, g, o = jnp.split(nn.Dense(**dense, name="dense_i")(inputs) + of_state, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Zeros for inputs of this shape, (..., in)."""
        zeros = jnp.zeros((*input_shape[:-1], self.features), self.param_dtype)
        return zeros, zeros


class BatchNorm(nn.BatchNorm):
    """Batch normalisation whose running variance is torch's: of the unbiased variance, N/(N-1) times flax's.

    N counts all but the features: examples, height and width, on all devices of `axis_name`. In training mode torch and
    flax normalise alike, by the batch's own, biased variance. `num_batches_tracked`, (), int32, counts the batches.
    Arguments as for `nn.BatchNorm`, with torch's momentum and epsilon for defaults.

    Raises:
      ValueError: one number per feature in training mode: its unbiased variance is none. Or a `mask`, whose numbers
        are not counted.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalise x (..., features); in training mode the running averages move, where they are mutable."""
        frozen = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        if frozen or self.is_initializing():
            y = super().__call__(x, use_running_average, mask=mask)
            if self.is_initializing() and not self.has_variable("batch_stats", "num_batches_tracked"):
                self.put_variable("batch_stats", "num_batches_tracked", jnp.zeros((), jnp.int32))
            return y
        before: jax.Array = self.get_variable("batch_stats", "var")
        correct = unbiased(x.size // before.size, x.shape, self.axis_name, mask)
        y = super().__call__(x, use_running_average)
        moved: jax.Array = self.get_variable("batch_stats", "var")
        self.put_variable("batch_stats", "var", correct(self.momentum * before, moved))
        count: jax.Array = self.get_variable("batch_stats", "num_batches_tracked")
        self.put_variable("batch_stats", "num_batches_tracked", count + 1)
        return y


class Embed(nn.Embed, kw_only=True):
    """An embedding with torch's `padding_idx`: the row starts at zero and gets no gradient.

    Attributes:
      num_embeddings: number of rows, as for `nn.Embed`.
      features: length of a row.
      padding_idx: the row; negative ones count from the end.
    Raises:
      ValueError: there is no such row.
    """

    padding_idx: int

    def setup(self) -> None:
        size = self.num_embeddings
        if not -size <= self.padding_idx < size:
            raise ValueError(f"expected padding_idx below {size}, got {self.padding_idx}; name a row of the table")
        self.embedding = self.param("embedding", self._table, (size, self.features), self.param_dtype)

    def _table(self, key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
        return self.embedding_init(key, shape, dtype).at[self.padding_idx].set(0)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Rows of the table, (..., features)."""
        rows = super().__call__(inputs)
        padding = (jnp.asarray(inputs) == self.padding_idx % self.num_embeddings)[..., None]
        return jnp.where(padding, jax.lax.stop_gradient(rows), rows)
