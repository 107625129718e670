"""A plain tanh network, written without a framework. Needs JAX. Lesson: 19_million_dimensions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from course.taylor import arguments


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
