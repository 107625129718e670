"""Networks for equations, written without a framework, and those of flax made alike. Needs JAX.

Lessons: 19_million_dimensions, 21_your_own_equation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from course.taylor import arguments

Apply = Callable[[Any, jax.Array], jax.Array]
"""(params, x (inputs,)) -> () or (1,)."""


def init_mlp(key: jax.Array, sizes: tuple[int, ...]) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases of a tanh network: normal with variance 1 / inputs, the last layer zero.

    Args:
      key: PRNG key, consumed once.
      sizes: width of every layer, input first: (d, 128, 128, 128, 1).
    Returns:
      A list of (weight (in, out), bias (out,)).
    Raises:
      ValueError: fewer than two sizes, or one below 1.
      TypeError: one is no integer.
    """
    sizes = tuple(arguments.integer("every size", size, "a layer has at least one unit") for size in sizes)
    if len(sizes) < 2:
        raise ValueError(f"expected at least two sizes, got {sizes}; (d, 1) is a linear function")
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        (jax.random.normal(k, (m, n)) / jnp.sqrt(m), jnp.zeros(n))
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]
    last, bias = layers[-1]
    return [*layers[:-1], (jnp.zeros_like(last), bias)]


def mlp(params: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    """A tanh network as a scalar field, (d,) -> (). Pure: nothing in it knows about derivatives.

    Raises:
      ValueError: the last layer has more than one output.
    """
    for weight, bias in params[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = params[-1]
    if weight.shape[-1] != 1:
        raise ValueError(f"expected a last layer (width, 1), got {weight.shape}; take one network for each output")
    return (x @ weight + bias)[0]


Layers = list[tuple[jax.Array, jax.Array]]


def init_layered_mlp(key: jax.Array, sizes: tuple[int, ...]) -> tuple[jax.Array, Layers]:
    """Parameters of a tanh network that a natural-gradient step without J can train: its first weights stand apart.

    Args:
      key: PRNG key, consumed once.
      sizes: as for `init_mlp`, three or more.
    Returns:
      (weight (d, w), rest). The weight is zero, so that the network begins as zero and with no direction; rest has the
      first layer's coefficients of |x|^2 and its bias, (w,) each, zero too, then (weight, bias) of all others, of which
      the last one is not zero: where it is, nothing that comes before it can be seen.
    Raises:
      ValueError: fewer than three sizes, or one below 1.
      TypeError: one is no integer.
    """
    if len(sizes) < 3:
        raise ValueError(f"expected at least three sizes, got {sizes}; (d, width, 1) is the smallest network")
    own, last = jax.random.split(key)
    layers = init_mlp(own, sizes[1:])
    output = jax.random.normal(last, layers[-1][0].shape) / jnp.sqrt(sizes[-2])
    return jnp.zeros(sizes[:2]), [(jnp.zeros(sizes[1]), jnp.zeros(sizes[1])), *layers[:-1], (output, layers[-1][1])]


def after_layer(rest: Layers, h: jax.Array, q: jax.Array) -> jax.Array:
    """What a layered tanh network makes of h = x @ weight (w,) and q = |x|^2 (), as a scalar ()."""
    (radial, bias), *layers = rest
    return mlp(layers, jnp.tanh(h + q * radial + bias))


@dataclass(frozen=True)
class Mlp:
    """A tanh network, `mlp`, whose inputs are counted when it is drawn; like a module of Linen, it has no weights.

    Attributes:
      width: of every hidden layer.
      depth: how many hidden layers.
    """

    width: int = 32
    depth: int = 3

    def init(self, key: jax.Array, x: jax.Array) -> Any:
        """Weights for inputs like x (inputs,)."""
        return init_mlp(key, (len(x), *[self.width] * self.depth, 1))

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        """(inputs,) -> ()."""
        return mlp(params, x)


@dataclass(frozen=True)
class ModifiedMlp(Mlp):
    """A tanh network whose hidden layers each mix two encodings of the input: a = (1 - z) first + z second.

    Source: Wang, Teng and Perdikaris (2021), section 2.6.
    """

    def init(self, key: jax.Array, x: jax.Array) -> Any:
        """Weights for inputs like x (inputs,)."""
        own, first, second = jax.random.split(key, 3)
        encoders = [init_mlp(k, (len(x), self.width, 1))[0] for k in (first, second)]
        return {"layers": super().init(own, x), "encoders": encoders}

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        """(inputs,) -> ()."""
        first, second = (jnp.tanh(x @ weight + bias) for weight, bias in params["encoders"])
        for weight, bias in params["layers"][:-1]:
            z = jnp.tanh(x @ weight + bias)
            x = (1 - z) * first + z * second
        return mlp(params["layers"][-1:], x)


@dataclass(frozen=True)
class FourierFeatures:
    """A network that is given cosines and sines of random directions, fixed while it is trained.

    Attributes:
      network: what follows, with `init` and `apply`.
      features: how many directions.
      scale: standard deviation of their components: about the highest frequency, in radians per unit, to be learned.
    Source: Tancik et al. (2020); for equations Wang, Wang and Perdikaris (2021).
    """

    network: Any = Mlp()
    features: int = 32
    scale: float = 2.0

    def init(self, key: jax.Array, x: jax.Array) -> Any:
        """Weights for inputs like x (inputs,)."""
        own, directions = jax.random.split(key)
        frequencies = self.scale * jax.random.normal(directions, (len(x), self.features))
        return {"frequencies": frequencies, "network": self.network.init(own, jnp.zeros(2 * self.features))}

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        """(inputs,) -> ()."""
        angles = x @ jax.lax.stop_gradient(params["frequencies"])
        return self.network.apply(params["network"], jnp.concatenate([jnp.cos(angles), jnp.sin(angles)]))


def drawn(network: Any, key: jax.Array, inputs: int) -> tuple[Apply, Any]:
    """Any network as a function of parameters and one input, and its parameters.

    Args:
      network: what has `init(key, x)` and `apply(params, x)`, such as `Mlp` or a module of Linen; a module of NNX,
        whose Params are trained; or a pair (function of (params, x), params).
      key: PRNG key, consumed once, for `init`.
      inputs: how many numbers the network is given.
    Returns:
      (params, x (inputs,)) -> (), and the parameters.
    Raises:
      TypeError: something else.
      ValueError: the network's value is no single number, or calling it changes it.
    """
    x = jnp.zeros(inputs)
    nnx = sys.modules.get("flax.nnx")  # who has a module of NNX has imported it
    if isinstance(network, type):
        raise TypeError(f"expected a network, got the class {network.__name__}; call it: {network.__name__}(...)")
    if isinstance(network, tuple) and len(network) == 2 and callable(network[0]):
        apply, params = network
    elif hasattr(network, "init") and hasattr(network, "apply"):
        apply, params = network.apply, network.init(key, x)
    elif nnx is not None and isinstance(network, nnx.Module):
        graph, params, keys, rest = nnx.split(network, nnx.Param, nnx.RngKey, ...)
        apply = lambda params, x: nnx.merge(graph, params, keys, rest)(x)  # noqa: E731
        called = nnx.clone(network)  # merged modules share their variables, in newer releases
        called(x)
        after = nnx.split(called, nnx.Param, nnx.RngKey, ...)[3]
        if not all(map(jnp.array_equal, jax.tree.leaves(rest), jax.tree.leaves(after))):
            raise ValueError(
                "expected a network that is a function of its input, got one that changes when it is called; call its "
                "eval(), which fixes dropout and norms, or leave those out"
            )
    else:
        raise TypeError(
            f"expected a network with init and apply, a module of NNX, or a pair (function, params), got "
            f"{type(network).__name__}; as in (lambda params, x: ..., params)"
        )
    found = jax.eval_shape(apply, params, x)
    if getattr(found, "shape", None) not in ((), (1,)):
        raise ValueError(
            f"expected a network ({inputs},) -> () or (1,), got {jax.tree.map(jnp.shape, found)}; end it in one unit"
        )
    return (lambda params, x: apply(params, x).reshape(())), params
