"""Sequences

Embeddings, recurrent networks and attention. Flax has time in axis 1, as PyTorch has it under `batch_first=True`.
`ATTENTION`, `CELL`, `LSTM_LAYER` and `BOTH_WAYS` are PyTorch's layers, whose weights `course.porting` carries over.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx
from jax.experimental import checkify

from course import layers, porting
from rosetta.kinds import Layer, Pair, integers, normal, raises
from tools.environment import double_precision


def seeded(layer, *arguments, **options):
    """A layer with the same weights in every run; torch's global stream of numbers stays where it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return layer(*arguments, **options)


ATTENTION = seeded(torch.nn.MultiheadAttention, 4, 2, batch_first=True)
CELL = seeded(torch.nn.LSTMCell, 3, 4)
LSTM_LAYER = seeded(torch.nn.LSTM, 3, 4, batch_first=True)
BOTH_WAYS = seeded(torch.nn.LSTM, 3, 4, bidirectional=True, batch_first=True)


class Embedding(Layer):
    """Embedding layer"""

    also = ("nn.Embedding",)
    inputs = {"tokens": integers(0, 10, 4, 3)}

    def torch():
        return torch.nn.Embedding(10, 5)

    def nnx(rngs):
        return nnx.Embed(10, 5, rngs=rngs)

    def linen():
        return nn.Embed(10, 5)


class EmbeddingFunction(Pair):
    """Rows of a table of vectors"""

    inputs = {"tokens": integers(0, 10, 4, 3), "table": normal(10, 5)}
    note = "Given vectors in a layer: `embed.embedding[...] = table`. Frozen: `jax.lax.stop_gradient(table)[tokens]`."
    also = ("nn.Embedding.from_pretrained", "F.embedding", "torch.embedding")

    def torch(tokens, table):
        return F.embedding(tokens, table)

    def jax(tokens, table):
        return table[tokens]

    def claims():
        table, tokens = jnp.arange(20.0).reshape(10, 2), jnp.array([3, 7])
        embed = nnx.Embed(10, 2, rngs=nnx.Rngs(0))
        embed.embedding[...] = table
        frozen = torch.nn.Embedding.from_pretrained(torch.tensor(table.tolist()))
        assert embed(tokens).tolist() == table[tokens].tolist() == frozen(torch.tensor([3, 7])).tolist()
        assert not frozen.weight.requires_grad
        assert not jax.grad(lambda table: jax.lax.stop_gradient(table)[tokens].sum())(table).any()


class PaddingRow(Pair):
    """Embedding with a padding index"""

    inputs = {"tokens": integers(0, 4, 3, 5)}
    no_gradient = "it is one"
    trap = (
        "With `padding_idx=0` row 0 starts at zero and gets no gradient in PyTorch. Flax's `Embed` has no such "
        "argument: row 0 is trained as the others. (Compared: the table's gradient.)"
    )
    also = ("nn.Embedding",)

    def torch(tokens):
        embed = torch.nn.Embedding(4, 2, padding_idx=0)
        embed(tokens).sum().backward()
        return embed.weight.grad

    def nnx(tokens):
        embed = nnx.Embed(4, 2, rngs=nnx.Rngs(0))
        return nnx.grad(lambda embed: embed(tokens).sum())(embed)["embedding"][...]

    def fix(tokens):
        embed = layers.Embed(4, 2, padding_idx=0, rngs=nnx.Rngs(0))  # from course import layers
        return nnx.grad(lambda embed: embed(tokens).sum())(embed)["embedding"][...]

    def differ(theirs, ours):
        return np.allclose(theirs[1:], ours[1:]) and not theirs[0].any() and bool(ours[0].all())

    def claims():
        assert raises(TypeError, lambda: nnx.Embed(4, 2, padding_idx=0, rngs=nnx.Rngs(0)))
        assert not torch.nn.Embedding(4, 2, padding_idx=0).weight[0].any()
        assert not layers.Embed(4, 2, padding_idx=0, rngs=nnx.Rngs(0)).embedding[0].any()


class EmbeddingRange(Pair):
    """Index an embedding out of range"""

    inputs = {"tokens": np.array([10, 12])}
    trap = "PyTorch raises. Flax returns NaN, for the whole row; a negative index counts from the end."
    lesson = ("06b_porting_sequences", "trap:embedding-init")

    def torch(tokens):
        return torch.nn.Embedding(10, 5)(tokens)

    def nnx(tokens):
        return nnx.Embed(10, 5, rngs=nnx.Rngs(0))(tokens)

    def linen(tokens):
        embed = nn.Embed(10, 5)
        return embed.apply(embed.init(jax.random.key(0), tokens), tokens)

    def fix(tokens):
        def lookup(tokens):
            checkify.check(jnp.all(tokens < 10), "no such row")  # from jax.experimental import checkify
            return nnx.Embed(10, 5, rngs=nnx.Rngs(0))(tokens)

        error, rows = checkify.checkify(lookup)(tokens)
        return error.get()  # error.throw() raises it

    def differ(theirs, ours, fixed):
        nothing = ours.shape == (2, 5) and bool(jnp.isnan(ours).all())
        return isinstance(theirs, IndexError) and nothing and "no such row" in fixed

    def claims():
        embed = nnx.Embed(10, 5, rngs=nnx.Rngs(0))
        assert embed(jnp.array([-1]))[0].tolist() == embed.embedding[9].tolist()


class EmbeddingBag(Pair):
    """Sum or mean of embeddings (EmbeddingBag)"""

    inputs = {"tokens": integers(0, 10, 4, 3), "table": normal(10, 5)}
    note = "Bags of several lengths are given by their first places, here 0, 2 and 7, of twelve tokens in a row."
    also = ("nn.EmbeddingBag", "torch.embedding_bag")

    def torch(tokens, table):
        starts = torch.tensor([0, 2, 7])
        bags = F.embedding_bag(tokens.flatten(), table, starts, mode="sum")
        return F.embedding_bag(tokens, table, mode="mean"), bags

    def jax(tokens, table):
        bag = jnp.searchsorted(jnp.array([0, 2, 7]), jnp.arange(12), side="right") - 1
        bags = jax.ops.segment_sum(table[tokens.ravel()], bag, num_segments=3)
        return table[tokens].mean(1), bags


class EmbeddingMaxNorm(Pair):
    """Embedding with a largest norm"""

    inputs = {"tokens": integers(0, 10, 6), "table": lambda rng: (2 * rng.normal(size=(10, 5))).astype(np.float32)}
    tolerance = 1e-5
    no_gradient = "PyTorch clips the table in place, outside the graph"
    note = "PyTorch writes the clipped rows into the table; Flax's `Embed` has no `max_norm`: clip what you look up."

    def torch(tokens, table):
        return F.embedding(tokens, table, max_norm=1.0)

    def jax(tokens, table):
        rows = table[tokens]
        norms = jnp.linalg.norm(rows, axis=-1, keepdims=True)
        return jnp.where(norms > 1, rows / (norms + 1e-7), rows)

    def claims():
        table = torch.full((2, 4), 3.0)
        F.embedding(torch.tensor([1]), table, max_norm=1.0)
        assert table[0].tolist() == [3] * 4 and abs(table[1].norm() - 1) < 1e-6


class LearnedPositions(Pair):
    """Token and position embeddings"""

    inputs = {"tokens": integers(0, 10, 2, 4), "table": normal(10, 5), "places": normal(8, 5)}

    def torch(tokens, table, places):
        return F.embedding(tokens, table) + F.embedding(torch.arange(tokens.shape[1]), places)

    def jax(tokens, table, places):
        return table[tokens] + places[: tokens.shape[1]]


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


class PlainRNN(Layer):
    """Plain RNN"""

    also = ("nn.RNN", "nn.RNNCell")
    inputs = {"x": normal(2, 6, 3)}
    note = 'With `nonlinearity="relu"`: `activation_fn=nnx.relu`. `course.porting` adds PyTorch\'s two biases up.'

    def torch():
        return torch.nn.RNN(3, 4, batch_first=True)

    def nnx(rngs):
        return nnx.RNN(nnx.SimpleCell(3, 4, rngs=rngs))

    def linen():
        return nn.RNN(nn.SimpleCell(4))

    def claims():
        theirs = torch.nn.RNN(3, 4, batch_first=True, nonlinearity="relu")
        ours = porting.torch_to_nnx(theirs, nnx.RNN(nnx.SimpleCell(3, 4, activation_fn=nnx.relu, rngs=nnx.Rngs(0))))
        x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
        np.testing.assert_allclose(theirs(torch.from_numpy(x))[0].detach(), ours(jnp.asarray(x)), atol=1e-5)


class LSTM(Layer):
    """LSTM over a sequence"""

    also = ("nn.LSTM",)
    inputs = {"x": normal(2, 6, 3)}
    note = "Flax scans a cell along axis 1. The last state: `RNN(..., return_carry=True)`, with the carry as (c, h)."

    def torch():
        return torch.nn.LSTM(3, 4, batch_first=True)

    def nnx(rngs):
        return nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs))

    def linen():
        return nn.RNN(nn.OptimizedLSTMCell(4))


class CellState(Pair):
    """One step of an LSTM cell"""

    inputs = {"x": normal(2, 3), "h": normal(2, 4), "c": normal(2, 4)}
    trap = (
        "PyTorch's state is (h, c), flax's carry is (c, h), and it comes first. Both have the same shape, so "
        "exchanging them is not noticed."
    )
    also = ("nn.LSTMCell",)

    def torch(x, h, c):
        return CELL(x, (h, c))

    def nnx(x, h, c):
        cell = porting.torch_to_nnx(CELL, nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
        return cell((h, c), x)[0]

    def fix(x, h, c):
        cell = porting.torch_to_nnx(CELL, nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
        (c, h), output = cell((c, h), x)  # output is h
        return h, c

    def differ(theirs, ours):
        return all(not np.allclose(a.detach(), b, atol=0.05) for a, b in zip(theirs, ours, strict=True))

    def claims():
        cell = nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))
        (_, h), output = cell((jnp.ones((2, 4)), jnp.ones((2, 4))), jnp.ones((2, 3)))
        assert output.tolist() == h.tolist()


class TimeFirst(Layer):
    """Time or batch first"""

    inputs = {"x": normal(4, 4, 3)}
    trap = (
        "Without `batch_first=True` PyTorch's first axis is time, in recurrent layers and in attention; flax's is the "
        "batch. Nothing complains."
    )
    also = ("nn.RNN", "nn.GRU", "nn.LSTM")

    def torch():
        return torch.nn.LSTM(3, 4)

    def nnx(rngs):
        return nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs))

    def linen():
        return nn.RNN(nn.OptimizedLSTMCell(4))

    def fix(rngs):
        return nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs), time_major=True)

    def differ(theirs, ours):
        return theirs.shape == ours.shape and not np.allclose(theirs.detach(), ours, atol=1e-2)

    def claims():
        assert not torch.nn.RNN(3, 4).batch_first and not torch.nn.GRU(3, 4).batch_first
        assert not torch.nn.MultiheadAttention(4, 2).batch_first


class FirstAndLastState(Pair):
    """First and last state of an LSTM"""

    inputs = {"x": normal(2, 5, 3), "h": normal(2, 4), "c": normal(2, 4)}
    note = "PyTorch's states have an axis for levels and directions in front."

    def torch(x, h, c):
        output, (h, c) = LSTM_LAYER(x, (h[None], c[None]))
        return output, h[0], c[0]

    def nnx(x, h, c):
        rnn = porting.torch_to_nnx(LSTM_LAYER, nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))))
        (c, h), output = rnn(x, initial_carry=(c, h), return_carry=True)
        return output, h, c


class LSTMBiases(Pair):
    """Biases of an LSTM, in training"""

    inputs = {"x": normal(2, 3)}
    no_gradient = "it is one"
    trap = (
        "PyTorch's LSTM adds two biases, flax's has one. Outputs agree after a port; but each of the two has the whole "
        "gradient, so a step of SGD moves their sum twice as far."
    )
    lesson = ("06b_porting_sequences", "trap:lstm-biases")

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

    def fix(x):
        zeros = nnx.initializers.zeros
        cell = layers.LSTMCell(3, 4, kernel_init=zeros, recurrent_kernel_init=zeros, rngs=nnx.Rngs(0))
        carry = (jnp.zeros((2, 4)), jnp.zeros((2, 4)))  # from course import layers
        grads = nnx.grad(lambda cell: cell(carry, x)[1].sum())(cell)
        return grads["dense_i"]["bias"][...] + grads["dense_h"]["bias"][...]

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


class PadSequences(Pair):
    """Pad sequences, and cut them again"""

    inputs = {"x": normal(4, 3), "y": normal(2, 3)}
    note = "The shapes depend on the data, so this comes before anything that is compiled."

    def torch(x, y):
        padded = torch.nn.utils.rnn.pad_sequence([x, y], batch_first=True, padding_value=-1.0)
        return padded, torch.nn.utils.rnn.unpad_sequence(padded, torch.tensor([4, 2]), batch_first=True)

    def jax(x, y):
        padded = jnp.stack([jnp.pad(z, ((0, 4 - len(z)), (0, 0)), constant_values=-1) for z in (x, y)])
        return padded, [row[:length] for row, length in zip(padded, (4, 2), strict=True)]


class PackedSequences(Pair):
    """Sequences of several lengths (packed)"""

    inputs = {"x": normal(3, 5, 3), "lengths": np.array([5, 2, 3])}
    note = (
        "Flax takes the padded sequences and `seq_lengths`. The last state is that of each sequence's end; outputs "
        "beyond it are computed and not zero, so they are set to zero here, as `pad_packed_sequence` returns them."
    )
    also = ("nn.utils.rnn.pack_sequence", "nn.utils.rnn.PackedSequence")

    def torch(x, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, (h, c) = LSTM_LAYER(packed)
        return torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0], h[0], c[0]

    def nnx(x, lengths):
        rnn = porting.torch_to_nnx(LSTM_LAYER, nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))))
        (c, h), output = rnn(x, seq_lengths=lengths, return_carry=True)
        inside = jnp.arange(5) < lengths[:, None]
        return jnp.where(inside[..., None], output, 0), h, c

    def claims():
        rnn = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
        assert rnn(jnp.ones((1, 4, 3)), seq_lengths=jnp.array([2]))[0, 2:].all()


class PackedBidirectional(Pair):
    """Both directions of sequences of several lengths"""

    inputs = {"x": normal(3, 5, 3), "lengths": np.array([5, 2, 3])}
    note = "With `seq_lengths` the backward cell starts at each sequence's own end."

    def torch(x, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return torch.nn.utils.rnn.pad_packed_sequence(BOTH_WAYS(packed)[0], batch_first=True)[0]

    def nnx(x, lengths):
        forward, backward = (nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))) for _ in range(2))
        rnn = porting.torch_to_nnx(BOTH_WAYS, nnx.Bidirectional(forward, backward))
        inside = jnp.arange(5) < lengths[:, None]
        return jnp.where(inside[..., None], rnn(x, seq_lengths=lengths), 0)


class GRU(Layer):
    """GRU over a sequence"""

    also = ("nn.GRU",)
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
    also = ("nn.GRUCell",)
    lesson = ("06b_porting_sequences", "trap:gru-bias")

    def torch():
        return torch.nn.GRU(3, 4, batch_first=True)

    def nnx(rngs):
        return nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))

    def fix(rngs):
        return nnx.RNN(layers.GRUCell(3, 4, rngs=rngs))  # from course import layers

    def differ(theirs, ours):
        return isinstance(ours, porting.PortingError) and "b_hn" in str(ours)


class Attention(Layer):
    """Multi-head attention"""

    also = ("nn.MultiheadAttention",)
    inputs = {"query": normal(2, 5, 8), "key": normal(2, 4, 8), "value": normal(2, 4, 8)}
    note = "NNX's asks for `decode=False`, here or in the call; with a single argument all three are the query."

    def torch():
        return torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def nnx(rngs):
        return nnx.MultiHeadAttention(num_heads=2, in_features=8, decode=False, rngs=rngs)

    def linen():
        return nn.MultiHeadDotProductAttention(num_heads=2)

    def claims():
        attention, x = nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0)), jnp.ones((1, 2, 8))
        assert raises(ValueError, attention, x)
        assert attention(x, decode=False).tolist() == attention(x, x, x, decode=False).tolist()


class OtherSizes(Layer):
    """Attention to vectors of another size"""

    inputs = {"query": normal(2, 5, 8), "key": normal(2, 4, 6), "value": normal(2, 4, 6)}
    note = "NNX wants one size for keys and values; Linen sees the sizes, and they may be two."

    def torch():
        return torch.nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)

    def nnx(rngs):
        return nnx.MultiHeadAttention(2, 8, in_kv_features=6, decode=False, rngs=rngs)

    def linen():
        return nn.MultiHeadDotProductAttention(2)

    def claims():
        q, k, v = jnp.ones((1, 5, 8)), jnp.ones((1, 4, 6)), jnp.ones((1, 4, 7))
        output, _ = jax.eval_shape(nn.MultiHeadDotProductAttention(2).init_with_output, jax.random.key(0), q, k, v)
        assert output.shape == (1, 5, 8)
        ours = nnx.MultiHeadAttention(2, 8, in_kv_features=6, decode=False, rngs=nnx.Rngs(0))
        assert raises(TypeError, ours, q, k, v)


class AttentionMask(Pair):
    """Attention mask"""

    no_gradient = "see the causal one"
    inputs = {"x": normal(2, 4, 4), "mask": lambda rng: np.arange(4)[:, None] % 2 == np.arange(4) % 2}
    trap = (
        "`True` hides a position in PyTorch's `MultiheadAttention` and shows it in flax (and in PyTorch's own "
        "`scaled_dot_product_attention`). A causal mask that is carried over shows the future alone."
    )
    lesson = ("06b_porting_sequences", "trap:attention-mask")
    also = ("nn.MultiheadAttention",)

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


class KeyPadding(Pair):
    """Attention that ignores padding"""

    inputs = {"x": normal(2, 4, 4), "padding": np.array([[False] * 4, [False, False, True, True]])}
    trap = (
        "True is padding in `key_padding_mask`, and what is seen in flax's `mask`, which needs axes for heads and "
        "queries as well: (batch, 1, 1, keys)."
    )

    def torch(x, padding):
        return ATTENTION(x, x, x, key_padding_mask=padding)[0]

    def nnx(x, padding):
        attention = porting.torch_to_nnx(ATTENTION, nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)))
        return attention(x, mask=padding[:, None, None])

    def fix(x, padding):
        attention = porting.torch_to_nnx(ATTENTION, nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)))
        return attention(x, mask=~padding[:, None, None])

    def differ(theirs, ours):
        return theirs.shape == ours.shape and not np.allclose(theirs.detach(), ours, atol=1e-2)


class CombinedMasks(Pair):
    """Causal and padding masks together"""

    inputs = {"x": normal(2, 4, 4), "tokens": np.array([[3, 1, 2, 5], [4, 6, 0, 0]])}
    note = "0 is padding here. Both of flax's masks say what is seen, both of PyTorch's what is hidden."

    def torch(x, tokens):
        hidden = torch.ones(4, 4, dtype=torch.bool).triu(1)
        return ATTENTION(x, x, x, attn_mask=hidden, key_padding_mask=tokens == 0)[0]

    def nnx(x, tokens):
        attention = porting.torch_to_nnx(ATTENTION, nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)))
        mask = nnx.combine_masks(nnx.make_causal_mask(tokens), (tokens > 0)[:, None, None])
        return attention(x, mask=mask)


class AttentionWeights(Pair):
    """Attention weights"""

    inputs = {"x": normal(2, 4, 4)}
    no_gradient = "intermediate results"
    note = (
        "PyTorch returns their mean over the heads, or with `average_attn_weights=False` each head's. (`nn` is "
        "Linen's; its function fits NNX's projections.)"
    )

    def torch(x):
        return ATTENTION(x, x, x, need_weights=True)[1]

    def nnx(x):
        attention = porting.torch_to_nnx(ATTENTION, nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)))
        return nn.dot_product_attention_weights(attention.query(x), attention.key(x)).mean(1)

    def linen(x):
        attention = nn.MultiHeadDotProductAttention(2)
        variables = porting.torch_to_linen(ATTENTION, jax.eval_shape(attention.init, jax.random.key(0), x))
        _, state = attention.apply(variables, x, sow_weights=True, mutable=["intermediates"])
        return state["intermediates"]["attention_weights"][0].mean(1)

    def claims():
        x = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
        z = torch.from_numpy(x)
        theirs = ATTENTION(z, z, z, need_weights=True, average_attn_weights=False)[1].detach()
        attention = porting.torch_to_nnx(ATTENTION, nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)))
        ours = nn.dot_product_attention_weights(attention.query(jnp.asarray(x)), attention.key(jnp.asarray(x)))
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


class CausalAttention(Pair):
    """Causal attention as a function"""

    inputs = {"q": normal(2, 5, 2, 4), "k": normal(2, 5, 2, 4), "v": normal(2, 5, 2, 4)}
    note = (
        "(batch, heads, time, width) in PyTorch, (batch, time, heads, width) in JAX. JAX's softmax runs in float32 "
        "whatever the dtype, also in float64."
    )
    also = ("F.scaled_dot_product_attention",)

    def torch(q, k, v):
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    def jax(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)

    def claims():
        q = np.random.default_rng(0).normal(size=(2, 5, 2, 4))
        z = torch.from_numpy(q).transpose(1, 2)
        theirs = F.scaled_dot_product_attention(z, z, z, is_causal=True).transpose(1, 2)
        with double_precision():
            ours = jax.nn.dot_product_attention(*[jnp.asarray(q)] * 3, is_causal=True)
        assert ours.dtype == jnp.float64 and 1e-9 < np.abs(np.asarray(ours) - theirs.numpy()).max() < 1e-6


class CausalMask(Pair):
    """A causal mask"""

    note = "`generate_square_subsequent_mask(4)` is minus infinity where this has False, and 0 elsewhere."
    also = ("nn.Transformer.generate_square_subsequent_mask",)

    def torch():
        return ~torch.ones(4, 4, dtype=torch.bool).triu(1)

    def nnx():
        return nnx.make_causal_mask(jnp.ones(4), dtype=bool)[0]

    def linen():
        return nn.make_causal_mask(jnp.ones(4), dtype=bool)[0]

    def claims():
        theirs = torch.nn.Transformer.generate_square_subsequent_mask(4).numpy()
        np.testing.assert_array_equal(theirs, np.where(CausalMask.sides()["nnx"](), 0, -np.inf))


class BiasedAttention(Pair):
    """Scores added to those of attention"""

    inputs = {"q": normal(2, 3, 2, 4), "k": normal(2, 5, 2, 4), "v": normal(2, 5, 2, 4), "bias": normal(2, 3, 5)}
    note = "PyTorch takes numbers or booleans as `attn_mask`; JAX numbers as `bias`, booleans as `mask` (True is seen)."

    def torch(q, k, v, bias):
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.3).transpose(1, 2)

    def jax(q, k, v, bias):
        return jax.nn.dot_product_attention(q, k, v, bias=bias[None], scale=0.3)

    def claims():
        q = np.random.default_rng(0).normal(size=(1, 4, 1, 2)).astype(np.float32)
        mask, z = np.tril(np.ones((4, 4), bool)), torch.from_numpy(q).transpose(1, 2)
        theirs = F.scaled_dot_product_attention(z, z, z, attn_mask=torch.from_numpy(mask)).transpose(1, 2)
        ours = jax.nn.dot_product_attention(q, q, q, mask=mask[None, None])
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


class GroupedQueries(Pair):
    """Grouped-query attention"""

    inputs = {"q": normal(2, 3, 4, 4), "k": normal(2, 5, 2, 4), "v": normal(2, 5, 2, 4)}
    note = "JAX sees by the shapes that several heads of queries share one of keys."

    def torch(q, k, v):
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2)

    def jax(q, k, v):
        return jax.nn.dot_product_attention(q, k, v)


class NothingToSee(Pair):
    """Attention where nothing may be seen"""

    inputs = {"q": normal(1, 2, 1, 4), "mask": np.array([[True, False], [False, False]])}
    trap = (
        "Where a query may see no key, PyTorch's function returns zeros, its `MultiheadAttention` NaN, and JAX the "
        "mean of all values. (Here the second query.)"
    )

    def torch(q, mask):
        q = q.transpose(1, 2)
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask).transpose(1, 2)

    def jax(q, mask):
        return jax.nn.dot_product_attention(q, q, q, mask=mask[None, None])

    def fix(q, mask):
        output = jax.nn.dot_product_attention(q, q, q, mask=mask[None, None])
        return jnp.where(mask.any(-1)[:, None, None], output, 0)

    def differ(theirs, ours):
        alike = np.allclose(theirs[:, 0], ours[:, 0], atol=1e-5)
        return alike and not theirs[:, 1].any() and bool(jnp.abs(ours[:, 1]).min() > 1e-5)

    def claims():
        x, hidden = torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
        assert bool(ATTENTION(x, x, x, key_padding_mask=hidden)[0].isnan().all())
        q = np.random.default_rng(0).normal(size=(1, 3, 1, 4)).astype(np.float32)
        ours = jax.nn.dot_product_attention(q, q, q, mask=np.zeros((1, 1, 3, 3), bool))
        np.testing.assert_allclose(ours, np.broadcast_to(q.mean(1, keepdims=True), q.shape), atol=1e-5)


class EncoderLayer(Layer):
    """Transformer encoder layer"""

    inputs = {"x": normal(2, 5, 8)}
    tolerance = 2e-5
    note = (
        "Flax has no ready layer. PyTorch's defaults are `batch_first=False`, `dropout=0.1`, `dim_feedforward=2048`, "
        "ReLU, and norms after each sum; with `norm_first=True` `x + f(norm(x))` takes the place of `norm(x + f(x))`."
    )
    also = ("nn.TransformerEncoder",)

    def torch():
        return torch.nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)

    def nnx(rngs):
        class EncoderLayer(nnx.Module):
            def __init__(self, rngs):
                self.self_attn = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
                self.linear1, self.linear2 = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)
                self.norm1, self.norm2 = (nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs) for _ in range(2))

            def __call__(self, x):
                x = self.norm1(x + self.self_attn(x))
                return self.norm2(x + self.linear2(nnx.relu(self.linear1(x))))

        return EncoderLayer(rngs)

    def claims():
        assert not any("transformer" in name.lower() for name in [*dir(nnx), *dir(nn)])
        layer = torch.nn.TransformerEncoderLayer(8, 2)
        assert not layer.self_attn.batch_first and not layer.norm_first and layer.dropout.p == 0.1
        assert layer.linear1.out_features == 2048 and layer.activation is F.relu and layer.norm1.eps == 1e-5
        first = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True).eval()
        ours = porting.torch_to_nnx(first, EncoderLayer.sides()["nnx"](nnx.Rngs(0)))
        x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
        z = jnp.asarray(x)
        z = z + ours.self_attn(ours.norm1(z))
        z = z + ours.linear2(nnx.relu(ours.linear1(ours.norm2(z))))
        np.testing.assert_allclose(first(torch.from_numpy(x)).detach(), z, atol=2e-5)
