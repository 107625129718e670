"""Images

Pooling, padding, resizing, patches and sampling. PyTorch's images are (N, C, H, W). Flax's pools want channels last;
`jnp.pad` and `jax.image.resize` take any layout.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx

from rosetta.kinds import Pair, normal

IMAGE = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


class MaxPool(Pair):
    """Max pooling"""

    inputs = {"x": normal(2, 3, 8, 8)}
    trap = "The stride is the window's size by default in PyTorch, and 1 in flax. The shapes differ."
    lesson = ("06_porting_layers", "nnx.max_pool(nhwc, (2, 2))")

    def torch(x):
        return F.max_pool2d(x, 2).movedim(1, -1)

    def jax(x):
        return nnx.max_pool(jnp.moveaxis(x, 1, -1), (2, 2))

    def fix(x):
        return nnx.max_pool(jnp.moveaxis(x, 1, -1), (2, 2), strides=(2, 2))

    def differ(theirs, ours):
        return ours.shape == (2, 7, 7, 3) and ours[:, ::2, ::2].tolist() == theirs.tolist()


class AveragePool(Pair):
    """Average pooling with padding"""

    inputs = {"x": normal(2, 3, 8, 8)}
    note = "Both count the padded zeros unless `count_include_pad=False`."

    def torch(x):
        return F.avg_pool2d(x, 3, stride=2, padding=1).movedim(1, -1)

    def jax(x):
        return nnx.avg_pool(jnp.moveaxis(x, 1, -1), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class GlobalPool(Pair):
    """Global average pooling"""

    inputs = {"x": normal(2, 3, 8, 8)}

    def torch(x):
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    def jax(x):
        return jnp.moveaxis(x, 1, -1).mean(axis=(1, 2))


class PadImages(Pair):
    """Reflect, replicate or pad images with zeros"""

    inputs = {"x": normal(2, 3, 4, 4)}

    def torch(x):
        return tuple(F.pad(x, (1, 1, 2, 2), mode=mode) for mode in ("reflect", "replicate", "constant"))

    def jax(x):
        widths = ((0, 0), (0, 0), (2, 2), (1, 1))
        return tuple(jnp.pad(x, widths, mode=mode) for mode in ("reflect", "edge", "constant"))


class Enlarge(Pair):
    """Enlarge images"""

    inputs = {"x": normal(2, 3, 4, 4)}
    note = (
        "Bicubic kernels differ (a is -0.75 in PyTorch, -0.5 in JAX), and JAX's nearest is PyTorch's `nearest-exact`, "
        "which shows where the factor is not whole. There is no `align_corners`. Where a factor does not divide the "
        "size, PyTorch steps by the factor and JAX by the ratio of the sizes: pass PyTorch's "
        "`recompute_scale_factor=True`, or expect images of another sampling."
    )

    def claims():
        x = torch.arange(25.0).square().reshape(1, 1, 5, 5)
        for recomputed, apart in ((None, True), (True, False)):
            theirs = F.interpolate(x, scale_factor=1.5, mode="bilinear", recompute_scale_factor=recomputed)
            ours = jax.image.resize(x.numpy(), theirs.shape, "bilinear")
            assert (np.abs(theirs.numpy() - ours).max() > 1) == apart

    def torch(x):
        return tuple(F.interpolate(x, scale_factor=2, mode=mode) for mode in ("nearest", "bilinear"))

    def jax(x):
        return tuple(jax.image.resize(x, (2, 3, 8, 8), method) for method in ("nearest", "bilinear"))


class Shrink(Pair):
    """Shrink images"""

    inputs = {"x": IMAGE}
    trap = "Both have `antialias`. JAX's default is True, PyTorch's False."
    lesson = ("06_porting_layers", "interpolate, bilinear, 4 to 2")

    def torch(x):
        return F.interpolate(x, size=(4, 4), mode="bilinear")

    def jax(x):
        return jax.image.resize(x, (2, 3, 4, 4), "bilinear")

    def fix(x):
        return jax.image.resize(x, (2, 3, 4, 4), "bilinear", antialias=False)

    def differ(theirs, ours):
        smoothed = F.interpolate(torch.from_numpy(IMAGE), size=(4, 4), mode="bilinear", antialias=True)
        return np.allclose(ours, smoothed, atol=1e-5) and not np.allclose(ours, theirs, atol=0.1)
