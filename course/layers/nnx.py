"""NNX layers that train as PyTorch's do. Needs JAX and flax. Lesson: 06b_porting_sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from course.layers.statistics import unbiased


class LSTMCell(nnx.OptimizedLSTMCell):
    """An LSTM cell with both of torch's biases, `dense_i.bias` and `dense_h.bias`; flax's has one.

    The outputs of torch's and flax's cells are equal; under an optimizer two biases, each with the whole gradient, move
    their sum twice as far as one. Arguments as for `nnx.OptimizedLSTMCell`.
    """

    def __init__(self, in_features: int, hidden_features: int, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(in_features, hidden_features, rngs=rngs, **options)
        self.dense_i = _with_bias(self.dense_i, rngs, options)


class GRUCell(nnx.GRUCell):
    """A GRU cell with torch's second bias, `dense_h.bias`: its last third is `b_hn`, which the reset gate multiplies.

    Without it a torch GRU has no counterpart in NNX (Linen's cell has it). Arguments as for `nnx.GRUCell`.
    """

    def __init__(self, in_features: int, hidden_features: int, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(in_features, hidden_features, rngs=rngs, **options)
        self.dense_h = _with_bias(self.dense_h, rngs, options)


def _with_bias(layer: nnx.Linear, rngs: nnx.Rngs, options: dict[str, Any]) -> nnx.Linear:
    """The same layer with a bias."""
    names = {"dtype", "param_dtype", "bias_init"} & options.keys()
    new = nnx.Linear(layer.in_features, layer.out_features, rngs=rngs, **{name: options[name] for name in names})
    new.kernel = layer.kernel
    return new


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation whose running variance is torch's: of the unbiased variance, N/(N-1) times flax's.

    N counts all but the features: examples, height and width, on all devices of `axis_name`. In training mode torch and
    flax normalise alike, by the batch's own, biased variance. `num_batches_tracked`, (), int32, counts the batches.
    Arguments as for `nnx.BatchNorm`, with torch's momentum (0.9 in flax's sense) for a default.

    Raises:
      ValueError: one number per feature in training mode: its unbiased variance is none. Or a `mask`, whose numbers
        are not counted.
    """

    def __init__(self, num_features: int, *, momentum: float = 0.9, rngs: nnx.Rngs, **options: Any):
        super().__init__(num_features, momentum=momentum, rngs=rngs, **options)
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalise x (..., features); in training mode the running averages move."""
        frozen = self.use_running_average if use_running_average is None else use_running_average
        if frozen:
            return super().__call__(x, use_running_average=True, mask=mask)
        correct = unbiased(x.size // self.num_features, x.shape, self.axis_name, mask)
        before = self.var[...]
        y = super().__call__(x, use_running_average=False)
        self.var[...] = correct(self.momentum * before, self.var[...])
        self.num_batches_tracked[...] += 1
        return y


class Embed(nnx.Embed):
    """An embedding with torch's `padding_idx`: the row starts at zero and gets no gradient.

    Args:
      num_embeddings, features: as for `nnx.Embed`.
      padding_idx: the row; negative ones count from the end.
    Raises:
      ValueError: there is no such row.
    """

    def __init__(self, num_embeddings: int, features: int, *, padding_idx: int, rngs: nnx.Rngs, **options: Any):
        if not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"expected padding_idx below {num_embeddings}, got {padding_idx}; name a row of the table")
        super().__init__(num_embeddings, features, rngs=rngs, **options)
        self.padding_idx = padding_idx % num_embeddings
        self.embedding[...] = self.embedding[...].at[self.padding_idx].set(0)

    def __call__(self, inputs: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
        """Rows of the table, (..., features)."""
        rows = super().__call__(inputs, *arguments, **options)
        padding = (jnp.asarray(inputs) == self.padding_idx)[..., None]
        return jnp.where(padding, jax.lax.stop_gradient(rows), rows)
