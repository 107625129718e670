"""Recurrent networks: two levels, both directions, packed sequences, a GRU, one behind convolutions, an ODE."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course import layers
from tests.structures.convolutions import linen_layers, nnx_conv_norm
from tests.structures.structure import F64, Structure, images, tokens

WIDTH = 5

# --- 12: two levels, both directions, sentences of several lengths -------------------------------------------


class TorchTagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, WIDTH, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2)
        self.fc, self.classifier = nn.Linear(2 * WIDTH, 3), nn.Linear(2 * WIDTH, 2)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        output, (h, _) = self.lstm(packed)
        output, _ = pad_packed_sequence(output, batch_first=True)
        return self.fc(output), self.classifier(torch.cat([h[-2], h[-1]], 1))


def mask_of(ids, lengths):
    return (jnp.arange(ids.shape[1]) < lengths[:, None])[..., None]


def last_states(carries):
    """The hidden states that both directions end with."""
    return jnp.concatenate([hidden for _, hidden in carries], -1)


class NnxTagger(nnx.Module):
    def __init__(self, *, rngs):
        def rnn(inputs):
            return nnx.RNN(nnx.OptimizedLSTMCell(inputs, WIDTH, rngs=rngs, **F64), rngs=rngs)

        self.embedding = layers.Embed(9, 4, padding_idx=0, rngs=rngs, **F64)
        self.lstm = nnx.List([nnx.Bidirectional(rnn(n), rnn(n), rngs=rngs) for n in (4, 2 * WIDTH)])
        self.fc = nnx.Linear(2 * WIDTH, 3, rngs=rngs, **F64)
        self.classifier = nnx.Linear(2 * WIDTH, 2, rngs=rngs, **F64)

    def __call__(self, ids, lengths):
        x, mask = self.embedding(ids), mask_of(ids, lengths)
        for level in self.lstm:
            carries, x = level(x, seq_lengths=lengths, return_carry=True)
            x = jnp.where(mask, x, 0)
        return self.fc(x), self.classifier(last_states(carries))


class LinenTagger(linen.Module):
    def setup(self):
        def rnn():
            return linen.RNN(linen.OptimizedLSTMCell(WIDTH, **F64))

        self.embedding, self.lstm = linen.Embed(9, 4, **F64), [linen.Bidirectional(rnn(), rnn()) for _ in range(2)]
        self.fc, self.classifier = linen.Dense(3, **F64), linen.Dense(2, **F64)

    def __call__(self, ids, lengths):
        x, mask = self.embedding(ids), mask_of(ids, lengths)
        x = jnp.where(ids[..., None] == 0, jax.lax.stop_gradient(x), x)  # padding_idx
        for level in self.lstm:
            carries, x = level(x, seq_lengths=lengths, return_carry=True)
            x = jnp.where(mask, x, 0)
        return self.fc(x), self.classifier(last_states(carries))


def sentences(rng):
    lengths = np.array([4, 6, 3])
    return [np.where(np.arange(6) < lengths[:, None], rng.integers(1, 9, (3, 6)), 0), lengths]


# --- 13: a GRU -----------------------------------------------------------------------------------------------


class TorchGRUClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.gru = nn.Embedding(9, 4), nn.GRU(4, WIDTH, batch_first=True)
        self.fc = nn.Linear(WIDTH, 3)

    def forward(self, ids):
        _, h = self.gru(self.embed(ids))
        return self.fc(h[-1])


class NnxGRUClassifier(nnx.Module):
    def __init__(self, *, rngs):
        self.embed = nnx.Embed(9, 4, rngs=rngs, **F64)
        self.gru = nnx.RNN(layers.GRUCell(4, WIDTH, rngs=rngs, **F64), rngs=rngs)
        self.fc = nnx.Linear(WIDTH, 3, rngs=rngs, **F64)

    def __call__(self, ids):
        return self.fc(self.gru(self.embed(ids))[:, -1])


class LinenGRUClassifier(linen.Module):
    def setup(self):
        self.embed, self.gru = linen.Embed(9, 4, **F64), linen.RNN(linen.GRUCell(WIDTH, **F64))
        self.fc = linen.Dense(3, **F64)

    def __call__(self, ids):
        return self.fc(self.gru(self.embed(ids))[:, -1])


# --- 24: CRNN ------------------------------------------------------------------------------------------------


class TorchCRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2, 2),
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d((2, 1), (2, 1)),
        )  # fmt: skip
        self.rnn = nn.LSTM(4 * 2, WIDTH, bidirectional=True)
        self.fc = nn.Linear(2 * WIDTH, 6)

    def forward(self, x):  # (B, 1, 8, W)
        x = self.cnn(x).flatten(1, 2).permute(2, 0, 1)  # (T, B, channels * height)
        return self.fc(self.rnn(x)[0]).log_softmax(2)


def pool_both(x):
    return nnx.max_pool(x, (2, 2), (2, 2))


def pool_height(x):
    return nnx.max_pool(x, (2, 1), (2, 1))


def columns(x):  # (B, H, W, C) -> (B, W, C * H)
    return x.transpose(0, 2, 3, 1).reshape(len(x), x.shape[2], -1)


class NnxCRNN(nnx.Module):
    def __init__(self, *, rngs):
        one, two = nnx_conv_norm(1, 3, 3, rngs), nnx_conv_norm(3, 4, 3, rngs)
        self.cnn = nnx.Sequential(*one, nnx.relu, pool_both, *two, nnx.relu, pool_height)
        rnns = [nnx.RNN(nnx.OptimizedLSTMCell(8, WIDTH, rngs=rngs, **F64), rngs=rngs) for _ in range(2)]
        self.rnn = nnx.Bidirectional(*rnns, rngs=rngs)
        self.fc = nnx.Linear(2 * WIDTH, 6, rngs=rngs, **F64)

    def __call__(self, x):
        return jax.nn.log_softmax(self.fc(self.rnn(columns(self.cnn(x)))).swapaxes(0, 1))


class LinenCRNN(linen.Module):
    train: bool = False

    def setup(self):
        conv, norm = linen_layers(self.train)
        one, two = [conv(3, (3, 3)), norm(), linen.relu], [conv(4, (3, 3)), norm(), linen.relu]
        self.cnn = linen.Sequential([*one, pool_both, *two, pool_height])
        self.rnn = linen.Bidirectional(*(linen.RNN(linen.OptimizedLSTMCell(WIDTH, **F64)) for _ in range(2)))
        self.fc = linen.Dense(6, **F64)

    def __call__(self, x):
        return jax.nn.log_softmax(self.fc(self.rnn(columns(self.cnn(x)))).swapaxes(0, 1))


# --- 31: a neural ODE, four steps of Runge and Kutta ---------------------------------------------------------

STEPS, SIZE = 4, 0.25


def runge_kutta(f, x):
    k1 = f(x)
    k2 = f(x + SIZE / 2 * k1)
    k3 = f(x + SIZE / 2 * k2)
    return x + SIZE / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + SIZE * k3))


class TorchODE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 2)
        self.func = nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, WIDTH))

    def forward(self, x):
        x = self.encoder(x)
        for _ in range(STEPS):
            x = runge_kutta(self.func, x)
        return self.head(x)


class NnxODE(nnx.Module):
    def __init__(self, *, rngs):
        self.encoder, self.head = nnx.Linear(2, WIDTH, rngs=rngs, **F64), nnx.Linear(WIDTH, 2, rngs=rngs, **F64)
        one, two = nnx.Linear(WIDTH, 7, rngs=rngs, **F64), nnx.Linear(7, WIDTH, rngs=rngs, **F64)
        self.func = nnx.Sequential(one, jnp.tanh, two)

    def __call__(self, x):
        x, _ = jax.lax.scan(lambda x, _: (runge_kutta(self.func, x), None), self.encoder(x), length=STEPS)
        return self.head(x)


class LinenODE(linen.Module):
    def setup(self):
        self.encoder, self.head = linen.Dense(WIDTH, **F64), linen.Dense(2, **F64)
        self.func = linen.Sequential([linen.Dense(7, **F64), jnp.tanh, linen.Dense(WIDTH, **F64)])

    def __call__(self, x):
        def step(model, x, _):
            return runge_kutta(model.func, x), None

        options = {"variable_broadcast": "params", "split_rngs": {"params": False}, "length": STEPS}
        x, _ = linen.scan(step, **options)(self, self.encoder(x), None)
        return self.head(x)


STRUCTURES = {
    "LSTM, packed": Structure(TorchTagger, NnxTagger, LinenTagger(), sentences, summed=("nnx", "linen")),
    "GRU": Structure(
        TorchGRUClassifier, NnxGRUClassifier, LinenGRUClassifier(), tokens(9, 2, 5), summed=("linen",), two_biases=True
    ),
    "CRNN": Structure(
        TorchCRNN, NnxCRNN, LinenCRNN(), images(2, 1, 8, 10), images=(0,), summed=("nnx", "linen")
    ),
    "neural ODE": Structure(TorchODE, NnxODE, LinenODE(), images(3, 2)),
}  # fmt: skip
