"""What a structure is, and what several of them need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx

F64 = {"param_dtype": jnp.float64}


@dataclass
class Structure:
    """One model three times.

    Attributes:
      torch, nnx: make the model, nnx with `rngs=`.
      linen: the model; one with BatchNorm has an attribute `train`.
      inputs: a random generator -> the inputs as torch takes them.
      images, image_outputs: which of them have the channels second in torch and last in flax.
      names, ignore, keep, treat_as: what porting is told.
      twice: tied weights, which a file may hold under a second name.
      summed: "nnx", "linen", where flax has one bias for two of torch's.
      two_biases: whether NNX has two biases where Linen has one.
    """

    torch: Callable[[], torch.nn.Module]
    nnx: Callable[..., nnx.Module]
    linen: linen.Module
    inputs: Callable[[np.random.Generator], Sequence[np.ndarray]]
    images: tuple[int, ...] = ()
    image_outputs: tuple[int, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    treat_as: dict[str, str] = field(default_factory=dict)
    twice: tuple[str, ...] = ()
    summed: tuple[str, ...] = ()
    two_biases: bool = False

    @property
    def told(self) -> dict[str, Any]:
        return {"names": self.names, "ignore": self.ignore, "keep": self.keep, "treat_as": self.treat_as}


def channels_last(arrays: Sequence[np.ndarray], which: Sequence[int]) -> list[np.ndarray]:
    return [np.moveaxis(array, 1, -1) if number in which else array for number, array in enumerate(arrays)]


def exact_attention(query, key, value, mask=None, **_):
    """NNX hands over to jax.nn.dot_product_attention, whose softmax is float32 even here; Linen's is exact."""
    return linen.dot_product_attention(query, key, value, mask=mask)


def images(*shape):
    """An input of such a shape."""
    return lambda rng: [rng.normal(size=shape)]


def tokens(high, *shape):
    return lambda rng: [rng.integers(0, high, shape)]
