"""Initialisation

An initialiser of JAX is a function of a key, a shape and a dtype that returns the weights; a layer takes it as
`kernel_init` or `bias_init`. Kernels are (in, out) there and (out, in) in PyTorch, so `fan_in` means the same.
"""

import jax
import jax.numpy as jnp
import torch
from flax import linen as nn
from flax import nnx

from rosetta.kinds import Layer, Pair, key, normal


class LinearInit(Pair):
    """Initial weights of a linear layer"""

    inputs = {"key": key()}
    tolerance = 0.02
    no_gradient = "random draws"
    trap = (
        "PyTorch draws weights and biases uniformly within ±1/√in. Flax draws the weights from a truncated normal, "
        "wider by √3, and sets the biases to zero. (Compared: spreads times √in.)"
    )
    lesson = ("02_same_numbers", "flax's biases are all zero")

    def torch():
        torch.manual_seed(0)
        layer = torch.nn.Linear(1000, 1000)
        return tuple(weight.std() * 1000**0.5 for weight in (layer.weight, layer.bias))

    def nnx(key):
        layer = nnx.Linear(1000, 1000, rngs=nnx.Rngs(key))
        return tuple(weight[...].std() * 1000**0.5 for weight in (layer.kernel, layer.bias))

    def fix(key):
        def bias_init(key, shape, dtype):
            return jax.random.uniform(key, shape, dtype, -(1000**-0.5), 1000**-0.5)

        kernel_init = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        layer = nnx.Linear(1000, 1000, kernel_init=kernel_init, bias_init=bias_init, rngs=nnx.Rngs(key))
        return tuple(weight[...].std() * 1000**0.5 for weight in (layer.kernel, layer.bias))

    def differ(theirs, ours):
        return abs(ours[0] / theirs[0].item() - 3**0.5) < 0.02 and ours[1] == 0


class InitialisersByName(Pair):
    """Glorot (Xavier) and He (Kaiming) initial weights"""

    inputs = {"key": key()}
    tolerance = 0.02
    no_gradient = "random draws"
    note = "Compared: their spreads. An initializer is a function of a key, a shape (in, out) and a dtype."

    def torch():
        torch.manual_seed(0)
        glorot = torch.nn.init.xavier_uniform_(torch.empty(300, 200))
        he = torch.nn.init.kaiming_normal_(torch.empty(300, 200), nonlinearity="relu")
        return glorot.std(), he.std()

    def jax(key):
        glorot = jax.nn.initializers.glorot_uniform()(key, (200, 300))
        he = jax.nn.initializers.he_normal()(key, (200, 300))
        return glorot.std(), he.std()


class OwnInit(Layer):
    """Initial values of your own"""

    inputs = {"x": normal(5, 3)}

    def torch():
        layer = torch.nn.Linear(3, 4)
        torch.nn.init.constant_(layer.weight, 0.5)
        torch.nn.init.zeros_(layer.bias)
        return layer

    def nnx(rngs):
        return nnx.Linear(3, 4, kernel_init=nnx.initializers.constant(0.5), bias_init=nnx.initializers.zeros, rngs=rngs)

    def linen():
        return nn.Dense(4, kernel_init=nn.initializers.constant(0.5), bias_init=nn.initializers.zeros)


class EmbeddingInit(Pair):
    """Initial weights of an embedding"""

    inputs = {"key": key()}
    tolerance = 0.05
    no_gradient = "random draws"
    trap = "A fresh embedding has standard deviation 1 in PyTorch, and 1/√width in flax."
    lesson = ("06_porting_layers", "theirs.weight.std().item()")

    def torch():
        torch.manual_seed(0)
        return torch.nn.Embedding(1000, 64).weight.std()

    def nnx(key):
        return nnx.Embed(1000, 64, rngs=nnx.Rngs(key)).embedding[...].std()

    def linen(key):
        return nn.Embed(1000, 64).init(key, jnp.array([0]))["params"]["embedding"].std()

    def fix(key):
        normal = nnx.initializers.normal(1.0)
        return nnx.Embed(1000, 64, embedding_init=normal, rngs=nnx.Rngs(key)).embedding[...].std()

    def differ(theirs, ours):
        return abs(theirs - 1) < 0.05 and abs(ours - 1 / 8) < 0.01
