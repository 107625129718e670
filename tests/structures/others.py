"""Bags of words, twins, operators, graphs."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen, nnx
from torch import nn

from tests.structures.structure import F64, Structure

# --- 16: EmbeddingBag ----------------------------------------------------------------------------------------


class TorchTextClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.fc = nn.EmbeddingBag(11, 4), nn.Linear(4, 3)

    def forward(self, text, offsets):
        return self.fc(self.embedding(text, offsets))


def bags(rows, offsets):
    """The mean of every bag; offsets say where they start."""
    bag = jnp.searchsorted(offsets, jnp.arange(len(rows)), side="right") - 1
    sums = jax.ops.segment_sum(rows, bag, len(offsets))
    return sums / jax.ops.segment_sum(jnp.ones(len(rows)), bag, len(offsets))[:, None]


class NnxTextClassifier(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding, self.fc = nnx.Embed(11, 4, rngs=rngs, **F64), nnx.Linear(4, 3, rngs=rngs, **F64)

    def __call__(self, text, offsets):
        return self.fc(bags(self.embedding(text), offsets))


class LinenTextClassifier(linen.Module):
    @linen.compact
    def __call__(self, text, offsets):
        rows = linen.Embed(11, 4, name="embedding", **F64)(text)
        return linen.Dense(3, name="fc", **F64)(bags(rows, offsets))


# --- 18: Siamese ---------------------------------------------------------------------------------------------


class TorchSiamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU())
        self.fc, self.out = nn.Sequential(nn.Linear(16, 6), nn.Sigmoid()), nn.Linear(6, 1)

    def twin(self, x):
        return self.fc(self.cnn(x).flatten(1))

    def forward(self, one, two):
        return self.out(torch.abs(self.twin(one) - self.twin(two)))


def flat(x):
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def pool(x):
    return nnx.max_pool(x, (2, 2), (2, 2))


class NnxSiamese(nnx.Module):
    def __init__(self, *, rngs):
        conv, linear = partial(nnx.Conv, padding="VALID", rngs=rngs, **F64), partial(nnx.Linear, rngs=rngs, **F64)
        self.cnn = nnx.Sequential(conv(1, 3, (3, 3)), nnx.relu, pool, conv(3, 4, (2, 2)), nnx.relu)
        self.fc, self.out = nnx.Sequential(linear(16, 6), nnx.sigmoid), linear(6, 1)

    def twin(self, x):
        return self.fc(flat(self.cnn(x)))

    def __call__(self, one, two):
        return self.out(jnp.abs(self.twin(one) - self.twin(two)))


class LinenSiamese(linen.Module):
    def setup(self):
        conv = partial(linen.Conv, padding="VALID", **F64)
        self.cnn = linen.Sequential([conv(3, (3, 3)), linen.relu, pool, conv(4, (2, 2)), linen.relu])
        self.fc, self.out = linen.Sequential([linen.Dense(6, **F64), linen.sigmoid]), linen.Dense(1, **F64)

    def twin(self, x):
        return self.fc(flat(self.cnn(x)))

    def __call__(self, one, two):
        return self.out(jnp.abs(self.twin(one) - self.twin(two)))


# --- 26: DeepONet --------------------------------------------------------------------------------------------


def torch_mlp(*sizes):
    layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class TorchDeepONet(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch, self.trunk = torch_mlp(7, 6, 6, 4), torch_mlp(2, 6, 4)
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, u, y):  # (functions, sensors), (points, 2) -> (functions, points)
        return torch.einsum("fk,pk->fp", self.branch(u), torch.tanh(self.trunk(y))) + self.b


class NnxDeepONet(nnx.Module):
    def __init__(self, *, rngs):
        def mlp(*sizes):
            layers = []
            for a, b in pairwise(sizes):
                layers += [nnx.Linear(a, b, rngs=rngs, **F64), jnp.tanh]
            return nnx.Sequential(*layers[:-1])

        self.branch, self.trunk, self.b = mlp(7, 6, 6, 4), mlp(2, 6, 4), nnx.Param(jnp.zeros(()))

    def __call__(self, u, y):
        return self.branch(u) @ jnp.tanh(self.trunk(y)).T + self.b[...]


class LinenDeepONet(linen.Module):
    def setup(self):
        def mlp(*sizes):
            return linen.Sequential([layer for b in sizes for layer in (linen.Dense(b, **F64), jnp.tanh)][:-1])

        self.branch, self.trunk = mlp(6, 6, 4), mlp(6, 4)
        self.b = self.param("b", linen.initializers.zeros, (), jnp.float64)

    def __call__(self, u, y):
        return self.branch(u) @ jnp.tanh(self.trunk(y)).T + self.b


# --- 30: messages along the edges of a graph -----------------------------------------------------------------


class TorchGraphConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.lin_rel, self.lin_root = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, x, edge_index):
        source, target = edge_index
        index = target[:, None].expand(-1, x.shape[1])
        return self.lin_rel(torch.zeros_like(x).scatter_add_(0, index, x[source])) + self.lin_root(x)


class TorchGNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([TorchGraphConv(3, 5), TorchGraphConv(5, 5)])
        self.norms, self.lin = nn.ModuleList([nn.BatchNorm1d(5), nn.BatchNorm1d(5)]), nn.Linear(5, 2)

    def forward(self, x, edge_index, batch):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, edge_index)))
        return self.lin(torch.zeros(2, 5, dtype=x.dtype).index_add_(0, batch, x))


class NnxGraphConv(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.lin_rel = nnx.Linear(inputs, outputs, rngs=rngs, **F64)
        self.lin_root = nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs, **F64)

    def __call__(self, x, edge_index):
        source, target = edge_index
        return self.lin_rel(jax.ops.segment_sum(x[source], target, len(x))) + self.lin_root(x)


class NnxGNN(nnx.Module):
    def __init__(self, *, rngs):
        self.convs = nnx.List([NnxGraphConv(3, 5, rngs=rngs), NnxGraphConv(5, 5, rngs=rngs)])
        self.norms = nnx.List([nnx.BatchNorm(5, momentum=0.9, rngs=rngs, **F64) for _ in range(2)])
        self.lin = nnx.Linear(5, 2, rngs=rngs, **F64)

    def __call__(self, x, edge_index, batch):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x, edge_index)))
        return self.lin(jax.ops.segment_sum(x, batch, 2))


class LinenGraphConv(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x, edge_index):
        source, target = edge_index
        messages = jax.ops.segment_sum(x[source], target, len(x))
        root = linen.Dense(self.outputs, use_bias=False, name="lin_root", **F64)(x)
        return linen.Dense(self.outputs, name="lin_rel", **F64)(messages) + root


class LinenGNN(linen.Module):
    train: bool = False

    def setup(self):
        norm = partial(linen.BatchNorm, use_running_average=not self.train, momentum=0.9, **F64)
        self.convs, self.norms = [LinenGraphConv(5), LinenGraphConv(5)], [norm(), norm()]
        self.lin = linen.Dense(2, **F64)

    def __call__(self, x, edge_index, batch):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = linen.relu(norm(conv(x, edge_index)))
        return self.lin(jax.ops.segment_sum(x, batch, 2))


def two_graphs(rng):
    """One of five nodes, one of three."""
    edges = [[0, 1, 2, 3, 4, 0, 5, 6, 7], [1, 2, 3, 4, 0, 2, 6, 7, 5]]
    return [rng.normal(size=(8, 3)), np.array(edges), np.array([0] * 5 + [1] * 3)]


STRUCTURES = {
    "EmbeddingBag": Structure(
        TorchTextClassifier, NnxTextClassifier, LinenTextClassifier(),
        lambda rng: [rng.integers(0, 11, 9), np.array([0, 4, 6])],
    ),
    "Siamese": Structure(
        TorchSiamese, NnxSiamese, LinenSiamese(), lambda rng: list(rng.normal(size=(2, 3, 1, 8, 8))), images=(0, 1)
    ),
    "DeepONet": Structure(
        TorchDeepONet, NnxDeepONet, LinenDeepONet(), lambda rng: [rng.normal(size=(3, 7)), rng.normal(size=(4, 2))]
    ),
    "GNN": Structure(TorchGNN, NnxGNN, LinenGNN(), two_graphs),
}  # fmt: skip
