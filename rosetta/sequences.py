"""Sequences

Embeddings, recurrent networks and attention. Flax has time in axis 1, as PyTorch has it under `batch_first=True`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from course import porting
from rosetta.kinds import Layer, Pair, integers, normal

ATTENTION = torch.nn.MultiheadAttention(4, 2, batch_first=True)


class Embedding(Layer):
    """Embedding layer"""

    inputs = {"tokens": integers(0, 10, 4, 3)}

    def torch():
        return torch.nn.Embedding(10, 5)

    def nnx(rngs):
        return nnx.Embed(10, 5, rngs=rngs)

    def linen():
        return nn.Embed(10, 5)


class EmbeddingRange(Layer):
    """Index an embedding out of range"""

    inputs = {"tokens": lambda rng: np.array([10, 12])}
    trap = "PyTorch raises. Flax returns NaN, for the whole row; a negative index counts from the end."
    lesson = ("06_porting_layers", "ours(jnp.array([1000]))")

    def torch():
        return torch.nn.Embedding(10, 5)

    def nnx(rngs):
        return nnx.Embed(10, 5, rngs=rngs)

    def linen():
        return nn.Embed(10, 5)

    def differ(theirs, ours):
        return isinstance(theirs, IndexError) and ours.shape == (2, 5) and bool(jnp.isnan(ours).all())


class TiedWeights(Pair):
    """Tied weights"""

    inputs = {"tokens": integers(0, 10, 4), "table": normal(10, 5)}
    note = "`attend` multiplies by the table, so the table gets the gradients of both uses."

    def torch(tokens, table):
        return F.embedding(tokens, table) @ table.T

    def nnx(tokens, table):
        embed = nnx.Embed(10, 5, rngs=nnx.Rngs(0))
        embed.embedding[...] = table
        return embed.attend(embed(tokens))

    def linen(tokens, table):
        embed = nn.Embed(10, 5).bind({"params": {"embedding": table}})
        return embed.attend(embed(tokens))


class LSTM(Layer):
    """LSTM over a sequence"""

    inputs = {"x": normal(2, 6, 3)}
    note = "Flax scans a cell along axis 1. The last state: `RNN(..., return_carry=True)`, with the carry as (c, h)."

    def torch():
        return torch.nn.LSTM(3, 4, batch_first=True)

    def nnx(rngs):
        return nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs))

    def linen():
        return nn.RNN(nn.OptimizedLSTMCell(4))


class LSTMBiases(Pair):
    """Biases of an LSTM, in training"""

    inputs = {"x": normal(2, 3)}
    no_gradient = "it is one"
    trap = (
        "PyTorch's LSTM adds two biases, flax's has one. Outputs agree after a port; but each of the two has the whole "
        "gradient, so a step of SGD moves their sum twice as far."
    )
    lesson = ("06_porting_layers", "move their sum twice as far")

    def torch(x):
        cell = torch.nn.LSTMCell(3, 4)
        for weight in cell.parameters():
            torch.nn.init.zeros_(weight)
        cell(x)[0].sum().backward()
        return cell.bias_ih.grad + cell.bias_hh.grad

    def nnx(x):
        zeros = nnx.initializers.zeros
        cell = nnx.OptimizedLSTMCell(3, 4, kernel_init=zeros, recurrent_kernel_init=zeros, rngs=nnx.Rngs(0))
        carry = (jnp.zeros((2, 4)), jnp.zeros((2, 4)))
        grads = nnx.grad(lambda cell: cell(carry, x)[1].sum())(cell)
        return grads["dense_h"]["bias"][...]

    def differ(theirs, ours):
        return np.allclose(theirs, 2 * ours, atol=1e-6) and float(abs(ours).max()) > 0.1


class StackedLSTM(Layer):
    """LSTM of several levels"""

    inputs = {"x": normal(2, 6, 3)}
    note = "`course.porting` finds level k at item k. Dropout between the levels is a layer of its own in flax."

    def torch():
        return torch.nn.LSTM(3, 4, num_layers=2, batch_first=True)

    def nnx(rngs):
        levels = [nnx.OptimizedLSTMCell(size, 4, rngs=rngs) for size in (3, 4)]
        return nnx.Sequential(*(nnx.RNN(cell) for cell in levels))

    def linen():
        return nn.Sequential([nn.RNN(nn.OptimizedLSTMCell(4)) for _ in range(2)])


class BidirectionalLSTM(Layer):
    """LSTM in both directions"""

    inputs = {"x": normal(2, 6, 3)}
    note = "Outputs are joined, forward first, as in PyTorch."

    def torch():
        return torch.nn.LSTM(3, 4, bidirectional=True, batch_first=True)

    def nnx(rngs):
        forward, backward = (nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs)) for _ in range(2))
        return nnx.Bidirectional(forward, backward)

    def linen():
        forward, backward = (nn.RNN(nn.OptimizedLSTMCell(4)) for _ in range(2))
        return nn.Bidirectional(forward, backward)


class GRU(Layer):
    """GRU over a sequence"""

    inputs = {"x": normal(2, 6, 3)}
    note = "In NNX `nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))`, with one bias less: see the next entry."

    def torch():
        return torch.nn.GRU(3, 4, batch_first=True)

    def linen():
        return nn.RNN(nn.GRUCell(4))


class GRUBias(Layer):
    """Biases of a GRU in NNX"""

    inputs = {"x": normal(2, 6, 3)}
    trap = (
        "NNX's GRUCell has no bias for the new gate's recurrent part (`b_hn`), and none of the others can stand in for "
        "it. PyTorch's weights do not convert; Linen's cell has it."
    )
    lesson = ("06_porting_layers", "the reset gate multiplies one of the two")

    def torch():
        return torch.nn.GRU(3, 4, batch_first=True)

    def nnx(rngs):
        return nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))

    def differ(theirs, ours):
        return isinstance(ours, porting.PortingError) and "b_hn" in str(ours)


class Attention(Layer):
    """Multi-head attention"""

    inputs = {"query": normal(2, 5, 8), "key": normal(2, 4, 8), "value": normal(2, 4, 8)}
    note = "NNX's asks for `decode=False`, here or in the call; with a single argument all three are the query."

    def torch():
        return torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def nnx(rngs):
        return nnx.MultiHeadAttention(num_heads=2, in_features=8, decode=False, rngs=rngs)

    def linen():
        return nn.MultiHeadDotProductAttention(num_heads=2)


class AttentionMask(Pair):
    """Attention mask"""

    no_gradient = "see the causal one"
    inputs = {"x": normal(2, 4, 4), "mask": lambda rng: np.arange(4)[:, None] % 2 == np.arange(4) % 2}
    trap = (
        "`True` hides a position in PyTorch's `MultiheadAttention` and shows it in flax (and in PyTorch's own "
        "`scaled_dot_product_attention`). A causal mask that is carried over shows the future alone."
    )
    lesson = ("06_porting_layers", "means *hidden* in torch's")

    def torch(x, mask):
        return tuple(ATTENTION(x, x, x, attn_mask=m)[0] for m in (mask, ~mask))

    def nnx(x, mask):
        attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
        porting.torch_to_nnx(ATTENTION, attention)
        return tuple(attention(x, mask=m) for m in (mask, ~mask))

    def fix(x, mask):
        attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
        porting.torch_to_nnx(ATTENTION, attention)
        return tuple(attention(x, mask=~m) for m in (mask, ~mask))

    def differ(theirs, ours):
        swapped = all(np.allclose(a.detach(), b, atol=1e-5) for a, b in zip(theirs, ours[::-1], strict=True))
        return swapped and not np.allclose(theirs[0].detach(), ours[0], atol=1e-2)


class CausalAttention(Pair):
    """Causal attention as a function"""

    inputs = {"q": normal(2, 5, 2, 4), "k": normal(2, 5, 2, 4), "v": normal(2, 5, 2, 4)}
    note = (
        "(batch, heads, time, width) in PyTorch, (batch, time, heads, width) in JAX. JAX's softmax runs in float32 "
        "whatever the dtype, also in float64."
    )

    def torch(q, k, v):
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    def jax(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)
