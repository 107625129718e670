"""A small convolutional network as plain functions, in JAX and in PyTorch. Needs JAX and torch.

The second experiment of Frostig, Johnson and Leary (2018): one training step, compiled in pieces of different size.
Lesson: 12_tracing_paper.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

Params = list[tuple[jax.Array, jax.Array]]
"""Weight and bias of each layer."""
Layer = Callable[[tuple[jax.Array, jax.Array], jax.Array], jax.Array]
"""((weight, bias), values) -> values."""
WIDTHS = (3, 32, 64, 64)
"""Channels: those of the image, then those behind each convolution."""
CLASSES = 10
"""How many classes the last layer tells apart."""


def init(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights of three 3x3 convolutions (HWIO) and a dense layer (in, out), with biases; float32, scaled by fan-in."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 3, i, o) for i, o in pairwise(WIDTHS)] + [(4 * 4 * WIDTHS[-1], CLASSES)]
    scaled = [rng.normal(size=shape) * (2 / np.prod(shape[:-1])) ** 0.5 for shape in shapes]
    return [(w.astype(np.float32), np.zeros(w.shape[-1], np.float32)) for w in scaled]


def conv_layer(param: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """3x3 convolution with stride 2 and one row of zeros around, then ReLU: (B, H, W, C) -> (B, H/2, W/2, C').

    Taught in 12_tracing_paper.
    """
    w, b = param
    x = jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(x + b)


def dense_layer(param: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """Flatten and multiply: (B, H, W, C) -> (B, classes).

    Taught in 12_tracing_paper.
    """
    w, b = param
    return x.reshape(len(x), -1) @ w + b


LAYERS: tuple[Layer, ...] = (conv_layer, conv_layer, conv_layer, dense_layer)
"""The network, layer by layer."""


def loss_fn(params: Params, x: jax.Array, y: jax.Array, layers: tuple[Layer, ...] = LAYERS) -> jax.Array:
    """Mean cross-entropy: images (B, 32, 32, 3), classes (B,) int -> ().

    Taught in 12_tracing_paper.
    """
    for layer, param in zip(layers, params, strict=True):
        x = layer(param, x)
    return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1).mean()


def sgd_step(
    params: Params, x: jax.Array, y: jax.Array, layers: tuple[Layer, ...] = LAYERS
) -> tuple[Params, jax.Array]:
    """One step of gradient descent; returns the next parameters and the loss.

    Taught in 12_tracing_paper.
    """
    loss, grads = jax.value_and_grad(loss_fn)(params, x, y, layers)
    return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), loss


_pullback_of = {layer: jax.jit(partial(jax.vjp, layer)) for layer in set(LAYERS)}  # x -> layer(x), how to go back
_call = jax.jit(lambda pullback, cotangent: pullback(cotangent))
_head = jax.jit(jax.value_and_grad(lambda logits, y: loss_fn([], logits, y, ())))
_descend = jax.jit(lambda params, grads: jax.tree.map(lambda p, g: p - 0.01 * g, params, grads))


def layerwise_step(params: Params, x: jax.Array, y: jax.Array) -> tuple[Params, jax.Array]:
    """The same step from pieces: every layer and every layer's derivative compiled apart, Python in between.

    Taught in 12_tracing_paper.
    """
    pullbacks, grads = [], []
    for layer, param in zip(LAYERS, params, strict=True):
        x, pullback = _pullback_of[layer](param, x)
        pullbacks.append(pullback)
    loss, cotangent = _head(x, y)
    for pullback in reversed(pullbacks):
        grad, cotangent = _call(pullback, cotangent)
        grads.append(grad)
    return _descend(params, grads[::-1]), loss


class TorchNet(torch.nn.Module):
    """The same network in torch, channels first.

    Taught in 12_tracing_paper.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList(torch.nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(WIDTHS))
        self.dense = torch.nn.Linear(4 * 4 * WIDTHS[-1], CLASSES)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = torch.relu(conv(x))
        x = x.permute(0, 2, 3, 1).flatten(1)  # JAX flattens (H, W, C)
        return F.cross_entropy(self.dense(x), y)


def torch_net(params: list[tuple[np.ndarray, np.ndarray]]) -> TorchNet:
    """A `TorchNet` with the given weights: HWIO becomes OIHW, (in, out) becomes (out, in)."""
    net = TorchNet()
    with torch.no_grad():
        for layer, (w, b) in zip([*net.convs, net.dense], params, strict=True):
            axes = (3, 2, 0, 1) if w.ndim == 4 else (1, 0)
            layer.weight.copy_(torch.tensor(np.array(w).transpose(axes).copy()))
            layer.bias.copy_(torch.tensor(np.array(b)))
    return net


def torch_sgd_step(
    net: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    parameters: list[torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
) -> torch.Tensor:
    """One step of gradient descent in place; returns the loss before it."""
    loss = net(x, y)
    grads = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter -= 0.01 * grad
    return loss.detach()
