"""Images

Pooling, padding, resizing, patches and sampling. PyTorch's images are (N, C, H, W). Flax's pools want channels last;
`jnp.pad` and `jax.image.resize` take any layout.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx
from jax import lax

from rosetta.kinds import Pair, normal, raises

IMAGE = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


class MaxPool(Pair):
    """Max pooling"""

    inputs = {"x": normal(2, 3, 8, 8)}
    trap = "The stride is the window's size by default in PyTorch, and 1 in flax. The shapes differ."
    lesson = ("06_porting_layers", "trap:kernel-layout")
    also = (
        "nn.MaxPool1d", "nn.MaxPool2d", "nn.MaxPool3d", "F.max_pool1d", "torch.max_pool1d", "F.max_pool2d",
        "torch.max_pool2d", "F.max_pool3d", "torch.max_pool3d",
    )  # fmt: skip

    def torch(x):
        return F.max_pool2d(x, 2).movedim(1, -1)

    def jax(x):
        return nnx.max_pool(jnp.moveaxis(x, 1, -1), (2, 2))

    def fix(x):
        return nnx.max_pool(jnp.moveaxis(x, 1, -1), (2, 2), strides=(2, 2))

    def differ(theirs, ours):
        return ours.shape == (2, 7, 7, 3) and ours[:, ::2, ::2].tolist() == theirs.tolist()

    def claims():
        for function, dims in ((F.max_pool1d, 1), (F.max_pool3d, 3)):
            x = np.random.default_rng(0).normal(size=(2, 3) + (4,) * dims).astype(np.float32)
            ours = nnx.max_pool(jnp.moveaxis(x, 1, -1), (2,) * dims, strides=(2,) * dims)
            assert jnp.moveaxis(ours, -1, 1).tolist() == function(torch.from_numpy(x), 2).tolist()


class PaddedMaxPool(Pair):
    """Max pooling with padding, channels first"""

    inputs = {"x": normal(2, 3, 8, 8)}
    note = "Both pad with minus infinity. `reduce_window` pools the axes that its window names."

    def torch(x):
        return F.max_pool2d(x, 3, stride=2, padding=1)

    def jax(x):
        pads = ((0, 0), (0, 0), (1, 1), (1, 1))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), pads)

    def claims():
        x = -jnp.ones((1, 2, 2, 1))
        assert nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1))).ravel().tolist() == [-1]


class DilatedMaxPool(Pair):
    """Max pooling with dilation"""

    inputs = {"x": normal(2, 3, 7, 7)}
    note = "Flax's pools have no dilation, and `lax.reduce_window` with `window_dilation` has no gradient: nine slices."

    def torch(x):
        return F.max_pool2d(x, 3, stride=1, dilation=2)

    def jax(x):
        slices = [x[:, :, i : i + 3, j : j + 3] for i in (0, 2, 4) for j in (0, 2, 4)]
        return jnp.stack(slices).max(0)

    def claims():
        def pool(x):
            options = {"window_strides": (1, 1), "padding": "VALID", "window_dilation": (2, 2)}
            return lax.reduce_window(x, -jnp.inf, lax.max, (3, 3), **options).sum()

        assert pool(jnp.ones((7, 7))) == 9 and raises(NotImplementedError, jax.grad(pool), jnp.ones((7, 7)))


class CeilMode(Pair):
    """Pooling that rounds sizes up (ceil_mode)"""

    inputs = {"x": normal(2, 3, 7, 7)}
    note = "Flax's pools round down, as PyTorch's do by default: pad the end so that the last window fits."

    def torch(x):
        return F.max_pool2d(x, 2, ceil_mode=True).movedim(1, -1)

    def jax(x):
        return nnx.max_pool(jnp.moveaxis(x, 1, -1), (2, 2), strides=(2, 2), padding=((0, 1), (0, 1)))


class PooledTies(Pair):
    """Global max pooling"""

    inputs = {"x": normal(2, 3, 4, 4)}
    note = (
        "Where several pixels share the maximum, as after a ReLU, `adaptive_max_pool2d` and `max_pool` give the first "
        "one the whole gradient, and `max` divides it among them, as `amax` does in PyTorch."
    )
    also = (
        "nn.AdaptiveMaxPool1d", "nn.AdaptiveMaxPool2d", "nn.AdaptiveMaxPool3d", "F.adaptive_max_pool1d",
        "F.adaptive_max_pool3d",
    )  # fmt: skip

    def torch(x):
        return F.adaptive_max_pool2d(x, 1).flatten(1)

    def jax(x):
        return x.max(axis=(2, 3))

    def claims():
        zeros = torch.zeros(1, 1, 2, 2, requires_grad=True)
        (first,) = torch.autograd.grad(F.adaptive_max_pool2d(zeros, 1).sum(), zeros)
        (window,) = torch.autograd.grad(F.max_pool2d(zeros, 2).sum(), zeros)
        (shared,) = torch.autograd.grad(zeros.amax((2, 3)).sum(), zeros)
        ours = jax.grad(lambda x: x.max(axis=(2, 3)).sum())(jnp.zeros((1, 1, 2, 2)))
        pooled = jax.grad(lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2)).sum())(jnp.zeros((1, 2, 2, 1)))
        assert first.flatten().tolist() == window.flatten().tolist() == pooled.ravel().tolist() == [1, 0, 0, 0]
        assert shared.flatten().tolist() == ours.ravel().tolist() == [0.25] * 4


class PoolIndices(Pair):
    """Max pooling with indices, and unpooling"""

    inputs = {"x": normal(2, 3, 4, 6)}
    note = (
        "Flax's pools return no indices: `argmax` in windows that do not overlap. Unpooling puts each maximum back "
        "where it was, and zeros elsewhere."
    )
    also = ("nn.MaxUnpool1d", "nn.MaxUnpool2d", "nn.MaxUnpool3d", "F.max_unpool1d", "F.max_unpool3d")

    def torch(x):
        values, indices = F.max_pool2d(x, 2, return_indices=True)
        return values, F.max_unpool2d(values, indices, 2)

    def jax(x):
        windows = x.reshape(2, 3, 2, 2, 3, 2).swapaxes(3, 4).reshape(2, 3, 2, 3, 4)
        best = jax.nn.one_hot(windows.argmax(-1), 4)
        kept = (windows * best).reshape(2, 3, 2, 3, 2, 2).swapaxes(3, 4)
        return windows.max(-1), kept.reshape(x.shape)


class AveragePool(Pair):
    """Average pooling with padding"""

    inputs = {"x": normal(2, 3, 8, 8)}
    note = "Both count the padded zeros unless `count_include_pad=False`."
    also = (
        "nn.AvgPool1d", "nn.AvgPool2d", "nn.AvgPool3d", "F.avg_pool1d", "torch.avg_pool1d", "F.avg_pool2d",
        "F.avg_pool3d",
    )  # fmt: skip

    def torch(x):
        return F.avg_pool2d(x, 3, stride=2, padding=1).movedim(1, -1)

    def jax(x):
        return nnx.avg_pool(jnp.moveaxis(x, 1, -1), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class CountPadding(Pair):
    """Average pooling that leaves the padding out"""

    inputs = {"x": normal(2, 3, 8, 8)}
    note = "`divisor_override=d`: the average times the window's size, divided by d."

    def torch(x):
        average = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return average.movedim(1, -1), F.avg_pool2d(x, 2, divisor_override=1).movedim(1, -1)

    def jax(x):
        x, pads = jnp.moveaxis(x, 1, -1), ((1, 1), (1, 1))
        average = nnx.avg_pool(x, (3, 3), strides=(2, 2), padding=pads, count_include_pad=False)
        return average, 4 * nnx.avg_pool(x, (2, 2), strides=(2, 2))


class GlobalPool(Pair):
    """Global average pooling"""

    inputs = {"x": normal(2, 3, 8, 8)}
    also = (
        "nn.AdaptiveAvgPool1d", "nn.AdaptiveAvgPool2d", "nn.AdaptiveAvgPool3d", "F.adaptive_avg_pool1d",
        "F.adaptive_avg_pool3d",
    )  # fmt: skip

    def torch(x):
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    def jax(x):
        return jnp.moveaxis(x, 1, -1).mean(axis=(1, 2))


class AdaptivePool(Pair):
    """Adaptive average pooling to any size"""

    inputs = {"x": normal(2, 3, 8, 8)}
    note = (
        "Flax has none. Window i reaches from ⌊i n / 3⌋ to ⌈(i + 1) n / 3⌉; windows overlap where 3 does not divide n. "
        "With `max` in place of `mean` it is `adaptive_max_pool2d`."
    )
    also = (
        "nn.AdaptiveAvgPool1d", "nn.AdaptiveAvgPool2d", "nn.AdaptiveAvgPool3d", "F.adaptive_avg_pool1d",
        "F.adaptive_avg_pool3d", "torch.adaptive_avg_pool1d",
    )  # fmt: skip

    def torch(x):
        return F.adaptive_avg_pool2d(x, 3)

    def jax(x):
        def pool(x):
            n = x.shape[-1]
            return jnp.stack([x[..., i * n // 3 : -(-(i + 1) * n // 3)].mean(-1) for i in range(3)], -1)

        return pool(pool(x).mT).mT

    def claims():
        x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)

        def pool(x):
            n = x.shape[-1]
            return jnp.stack([x[..., i * n // 3 : -(-(i + 1) * n // 3)].max(-1) for i in range(3)], -1)

        theirs = F.adaptive_max_pool2d(torch.from_numpy(x), 3)
        np.testing.assert_array_equal(theirs, pool(pool(jnp.asarray(x)).mT).mT)


class LPPool(Pair):
    """Power-average pooling"""

    inputs = {"x": normal(2, 3, 8, 8)}
    note = "PyTorch sums in a window: the average times its size."
    also = ("nn.LPPool1d", "nn.LPPool2d", "nn.LPPool3d", "F.lp_pool1d", "F.lp_pool3d")

    def torch(x):
        return F.lp_pool2d(x, 2.0, 2).movedim(1, -1)

    def jax(x):
        return jnp.sqrt(4 * nnx.avg_pool(jnp.moveaxis(x, 1, -1) ** 2, (2, 2), strides=(2, 2)))


class PadImages(Pair):
    """Pad images: zeros, reflect, replicate, circular"""

    inputs = {"x": normal(2, 3, 4, 4)}
    note = "PyTorch counts from the last axis: (left, right, top, bottom). Negative numbers crop: `jax.lax.pad`."
    also = (
        "nn.ZeroPad1d", "nn.ZeroPad2d", "nn.ZeroPad3d", "nn.ConstantPad1d", "nn.ConstantPad2d", "nn.ConstantPad3d",
        "nn.ReflectionPad1d", "nn.ReflectionPad2d", "nn.ReflectionPad3d", "nn.ReplicationPad1d", "nn.ReplicationPad2d",
        "nn.ReplicationPad3d", "nn.CircularPad1d", "nn.CircularPad2d", "nn.CircularPad3d",
    )  # fmt: skip

    def torch(x):
        modes = ("constant", "reflect", "replicate", "circular")
        return tuple(F.pad(x, (1, 1, 2, 2), mode=mode) for mode in modes)

    def jax(x):
        widths, modes = ((0, 0), (0, 0), (2, 2), (1, 1)), ("constant", "reflect", "edge", "wrap")
        return tuple(jnp.pad(x, widths, mode=mode) for mode in modes)

    def claims():
        x = np.arange(12, dtype=np.float32).reshape(3, 4)
        theirs = F.pad(torch.from_numpy(x), (-1, 0, 0, -2), value=7.0)
        assert theirs.tolist() == jax.lax.pad(x, np.float32(7), ((0, -2, 0), (-1, 0, 0))).tolist()


class Enlarge(Pair):
    """Enlarge images"""

    inputs = {"x": normal(2, 3, 4, 4)}
    note = "By whole factors these two agree. Other factors, `align_corners` and bicubic have entries of their own."
    also = ("F.interpolate", "nn.Upsample", "nn.UpsamplingNearest2d", "F.upsample", "F.upsample_nearest")

    def torch(x):
        return tuple(F.interpolate(x, scale_factor=2, mode=mode) for mode in ("nearest", "bilinear"))

    def jax(x):
        return tuple(jax.image.resize(x, (2, 3, 8, 8), method) for method in ("nearest", "bilinear"))


class EnlargeVolumes(Pair):
    """Enlarge signals and volumes"""

    inputs = {"signal": normal(2, 3, 5), "volume": normal(1, 2, 3, 3, 3)}

    def torch(signal, volume):
        longer = F.interpolate(signal, size=9, mode="linear")
        return longer, F.interpolate(volume, scale_factor=2, mode="trilinear")

    def jax(signal, volume):
        return jax.image.resize(signal, (2, 3, 9), "linear"), jax.image.resize(volume, (1, 2, 6, 6, 6), "linear")


class EnlargeByFactor(Pair):
    """Enlarge images by a factor that is not whole"""

    inputs = {"x": normal(2, 3, 5, 5)}
    trap = (
        "Where the new size is rounded down, here from 7.5 to 7, PyTorch steps by the factor and `jax.image.resize` by "
        "the ratio of the sizes. PyTorch's `recompute_scale_factor=True` steps by the ratio too."
    )

    def torch(x):
        return F.interpolate(x, scale_factor=1.5, mode="bilinear")

    def jax(x):
        return jax.image.resize(x, (2, 3, 7, 7), "bilinear")

    def fix(x):
        scale, shift = jnp.array([1.5, 1.5]), jnp.zeros(2)
        return jax.image.scale_and_translate(x, (2, 3, 7, 7), (2, 3), scale, shift, "linear")

    def differ(theirs, ours):
        return theirs.shape == ours.shape and np.abs(theirs.numpy() - ours).max() > 0.1

    def claims():
        x = torch.arange(25.0).square().reshape(1, 1, 5, 5)
        theirs = F.interpolate(x, scale_factor=1.5, mode="bilinear", recompute_scale_factor=True)
        np.testing.assert_allclose(theirs, jax.image.resize(x.numpy(), (1, 1, 7, 7), "bilinear"), rtol=1e-5)


class NearestNeighbour(Pair):
    """Nearest neighbour at a ratio that is not whole"""

    inputs = {"x": normal(2, 3, 5)}
    trap = "PyTorch's `nearest` rounds every position down. JAX's takes the nearest pixel: PyTorch's `nearest-exact`."

    def torch(x):
        return F.interpolate(x, size=7)

    def jax(x):
        return jax.image.resize(x, (2, 3, 7), "nearest")

    def fix(x):
        return x[..., jnp.arange(7) * 5 // 7]

    def differ(theirs, ours):
        places = torch.arange(5.0).reshape(1, 1, 5)
        exact = F.interpolate(places, size=7, mode="nearest-exact")
        resized = jax.image.resize(places.numpy(), (1, 1, 7), "nearest")
        return not np.allclose(theirs, ours) and resized.tolist() == exact.tolist() == [[[0, 1, 1, 2, 3, 3, 4]]]


class AlignCorners(Pair):
    """Resize with aligned corners"""

    inputs = {"x": normal(2, 3, 5, 5)}
    note = (
        "`jax.image.resize` has no `align_corners`; `scale_and_translate` puts pixel i at (i + 0.5) scale + "
        "translation. The ratios are (new - 1) / (old - 1)."
    )
    also = ("nn.UpsamplingBilinear2d", "F.upsample_bilinear")

    def torch(x):
        return F.interpolate(x, size=(3, 9), mode="bilinear", align_corners=True)

    def jax(x):
        scale = jnp.array([2 / 4, 8 / 4])
        shape, shift = (2, 3, 3, 9), 0.5 - 0.5 * scale
        return jax.image.scale_and_translate(x, shape, (2, 3), scale, shift, "linear", antialias=False)

    def claims():
        x = torch.randn(1, 1, 3, 3)
        theirs = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        np.testing.assert_array_equal(torch.nn.UpsamplingBilinear2d(scale_factor=2)(x), theirs)


class Bicubic(Pair):
    """Bicubic resizing"""

    inputs = {"x": normal(2, 3, 4)}
    tolerance = 1e-4
    trap = (
        "The kernels differ: PyTorch's has a = -0.75 and repeats the pixels at the border, JAX's has a = -0.5 and "
        "leaves out what is beyond it. There is no switch. (Shown: one row, doubled.)"
    )

    def torch(x):
        return F.interpolate(x[:, :, None], size=(1, 8), mode="bicubic")[:, :, 0]

    def jax(x):
        return jax.image.resize(x, (2, 3, 8), "bicubic")

    def fix(x):
        places = (jnp.arange(8) + 0.5) / 2 - 0.5
        d = jnp.abs(places[:, None] - jnp.arange(-2, 6))
        near, far = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        kernel = jnp.where(d < 1, near, jnp.where(d < 2, far, 0))
        return jnp.pad(x, ((0, 0), (0, 0), (2, 2)), mode="edge") @ kernel.T

    def differ(theirs, ours):
        return theirs.shape == ours.shape and 0.02 < np.abs(theirs.numpy() - ours).max() < 1


class Shrink(Pair):
    """Shrink images"""

    inputs = {"x": IMAGE}
    trap = "Both have `antialias`. JAX's default is True, PyTorch's False."
    also = ("F.interpolate",)
    lesson = ("06_porting_layers", "trap:shrink")

    def torch(x):
        return F.interpolate(x, size=(4, 4), mode="bilinear")

    def jax(x):
        return jax.image.resize(x, (2, 3, 4, 4), "bilinear")

    def fix(x):
        return jax.image.resize(x, (2, 3, 4, 4), "bilinear", antialias=False)

    def differ(theirs, ours):
        smoothed = F.interpolate(torch.from_numpy(IMAGE), size=(4, 4), mode="bilinear", antialias=True)
        return np.allclose(ours, smoothed, atol=1e-5) and not np.allclose(ours, theirs, atol=0.1)


class PixelShuffle(Pair):
    """Pixel shuffle, and back"""

    inputs = {"x": normal(2, 12, 3, 4)}
    note = "Channels last, the order of the axes is another: split (N, H, W, C, 2, 2), put (N, H, 2, W, 2, C)."
    also = (
        "nn.PixelShuffle", "torch.pixel_shuffle", "nn.PixelUnshuffle", "torch.pixel_unshuffle",
    )  # fmt: skip

    def torch(x):
        large = F.pixel_shuffle(x, 2)
        return large, F.pixel_unshuffle(large, 2)

    def jax(x):
        n, c, h, w = x.shape
        large = x.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
        back = large.reshape(n, c // 4, h, 2, w, 2).transpose(0, 1, 3, 5, 2, 4).reshape(n, c, h, w)
        return large, back

    def claims():
        x = np.random.default_rng(0).normal(size=(2, 12, 3, 4)).astype(np.float32)
        theirs, last = F.pixel_shuffle(torch.from_numpy(x), 2), np.moveaxis(x, 1, -1)
        ours = last.reshape(2, 3, 4, 3, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(2, 6, 8, 3)
        np.testing.assert_array_equal(theirs, np.moveaxis(ours, -1, 1))


class ChannelShuffle(Pair):
    """Channel shuffle"""

    inputs = {"x": normal(2, 6, 3, 4)}
    also = ("nn.ChannelShuffle", "F.channel_shuffle", "F.native_channel_shuffle")

    def torch(x):
        return torch.channel_shuffle(x, 2)

    def jax(x):
        n, c, h, w = x.shape
        return x.reshape(n, 2, c // 2, h, w).swapaxes(1, 2).reshape(x.shape)


class Unfold(Pair):
    """Patches of images (unfold)"""

    inputs = {"x": normal(2, 3, 5, 6)}
    note = "The order within a patch is channel, row, column on both sides."
    also = ("nn.Unfold",)

    def torch(x):
        return F.unfold(x, 3, padding=1, stride=2)

    def jax(x):
        patches = lax.conv_general_dilated_patches(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        return patches.reshape(*patches.shape[:2], -1)


class Fold(Pair):
    """Add patches into an image (fold)"""

    inputs = {"columns": normal(2, 27, 9)}
    note = "JAX has no fold: it is the transpose of cutting the patches."
    also = ("nn.Fold",)

    def torch(columns):
        return F.fold(columns, (5, 6), 3, padding=1, stride=2)

    def jax(columns):
        def unfold(x):
            return lax.conv_general_dilated_patches(x, (3, 3), (2, 2), ((1, 1), (1, 1))).reshape(2, 27, 9)

        image = jax.ShapeDtypeStruct((2, 3, 5, 6), columns.dtype)
        return jax.linear_transpose(unfold, image)(columns)[0]


class GridSample(Pair):
    """Sample images at a grid of places (grid_sample)"""

    inputs = {"x": normal(2, 3, 4, 5), "grid": lambda rng: rng.uniform(-1.3, 1.3, size=(2, 6, 7, 2)).astype(np.float32)}
    tolerance = 2e-5
    note = (
        "PyTorch's places run from -1 to 1 and name x first. `align_corners=True`: (grid + 1) / 2 * (size - 1). "
        '`padding_mode="border"` is `mode="nearest"` here; PyTorch\'s `mode="nearest"` is `order=0`.'
    )

    def torch(x, grid):
        return F.grid_sample(x, grid, align_corners=False)

    def jax(x, grid):
        size = jnp.array(x.shape[:1:-1])  # (width, height)
        places = ((grid + 1) * size - 1) / 2

        def sample(image, place):
            return jax.scipy.ndimage.map_coordinates(image, [place[..., 1], place[..., 0]], order=1, mode="constant")

        return jax.vmap(jax.vmap(sample, (0, None)))(x, places)

    def claims():
        rng = np.random.default_rng(0)
        x = rng.normal(size=(1, 1, 4, 5)).astype(np.float32)
        grid = rng.uniform(-1.3, 1.3, size=(1, 6, 7, 2)).astype(np.float32)
        theirs = partial(F.grid_sample, torch.from_numpy(x), torch.from_numpy(grid))
        sample = partial(jax.scipy.ndimage.map_coordinates, jnp.asarray(x[0, 0]))
        for aligned in (True, False):
            size = np.array((5, 4))
            places = (grid[0] + 1) / 2 * (size - 1) if aligned else ((grid[0] + 1) * size - 1) / 2
            for options, ours in (
                ({"padding_mode": "zeros"}, {"order": 1, "mode": "constant"}),
                ({"padding_mode": "border"}, {"order": 1, "mode": "nearest"}),
                ({"mode": "nearest"}, {"order": 0, "mode": "constant"}),
            ):
                expected = theirs(align_corners=aligned, **options)[0, 0]
                np.testing.assert_allclose(expected, sample([places[..., 1], places[..., 0]], **ours), atol=2e-5)


class AffineGrid(Pair):
    """Grid of an affine map"""

    inputs = {"theta": normal(2, 2, 3)}
    note = "`align_corners=True`: `jnp.linspace(-1, 1, size)` for both axes."

    def torch(theta):
        return F.affine_grid(theta, (2, 3, 4, 5), align_corners=False)

    def jax(theta):
        y, x = ((2 * jnp.arange(size) + 1) / size - 1 for size in (4, 5))
        y, x = jnp.meshgrid(y, x, indexing="ij")
        return jnp.stack([x, y, jnp.ones((4, 5))], -1) @ theta.mT[:, None]

    def claims():
        theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
        grid = F.affine_grid(theta, (1, 1, 4, 5), align_corners=True)[0]
        np.testing.assert_allclose(grid[0, :, 0], jnp.linspace(-1, 1, 5), atol=1e-6)
        np.testing.assert_allclose(grid[:, 0, 1], jnp.linspace(-1, 1, 4), atol=1e-6)
