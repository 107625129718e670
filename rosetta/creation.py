"""Creation and dtypes

Arrays are made as in NumPy. Without x64, JAX's widest types are float32 and int32.
"""

import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, integers, normal


class FromList(Pair):
    """From a Python list"""

    def torch():
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def jax():
        return jnp.array([[1.0, 2.0], [3.0, 4.0]])


class Clamp(Pair):
    """Limit values to a range"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        return x.clamp(-1, 1)

    def jax(x):
        return jnp.clip(x, -1, 1)


class LargeIntegers(Pair):
    """An integer beyond 32 bits, from NumPy"""

    inputs = {"x": integers(0, 9, 3)}
    trap = "JAX has no int64 unless `jax_enable_x64` is set: the upper bits go, without a word."
    lesson = ("00_start_here", "2**40")

    def torch(x):
        return x + torch.from_numpy(np.array(2**40))

    def jax(x):
        return x + jnp.asarray(np.array(2**40))

    def differ(theirs, ours):
        return theirs.dtype == torch.int64 and ours.dtype == jnp.int32 and bool((ours < 9).all())
