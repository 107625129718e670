"""Layers

Channels come last in flax, and weights are called `kernel` (in, out), `scale` and `embedding`. A layer's settings have
other defaults more often than other names. The pairs below are built from the same weights, carried over by
`course.porting`.
"""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from course import layers, porting
from rosetta.kinds import Layer, Pair, key, normal, positive, raises


def faint(*shape):
    return lambda rng: (1e-3 * rng.normal(size=shape)).astype(np.float32)


class Linear(Layer):
    """Linear layer"""

    also = ("nn.Linear",)
    inputs = {"x": normal(5, 3)}
    note = "NNX wants both sizes and randomness, Linen the output's size: it sees the input's at `init`."

    def torch():
        return torch.nn.Linear(3, 4)

    def nnx(rngs):
        return nnx.Linear(3, 4, rngs=rngs)

    def linen():
        return nn.Dense(4)


class LinearFunction(Pair):
    """Linear layer as a function"""

    inputs = {"x": normal(5, 3), "weight": normal(4, 3), "bias": normal(4)}
    note = "Flax's kernel is the transpose, (in, out): `x @ kernel + bias`."

    def torch(x, weight, bias):
        return F.linear(x, weight, bias)

    def jax(x, weight, bias):
        return x @ weight.T + bias


class Bilinear(Pair):
    """Bilinear layer"""

    inputs = {"x": normal(5, 3), "y": normal(5, 2), "weight": normal(4, 3, 2), "bias": normal(4)}
    note = "Flax has no such layer: two parameters of your own, and this line."
    also = ("nn.Bilinear", "torch.bilinear")

    def torch(x, y, weight, bias):
        return F.bilinear(x, y, weight, bias)

    def jax(x, y, weight, bias):
        return jnp.einsum("bi,oij,bj->bo", x, weight, y) + bias

    def claims():
        assert not any("bilinear" in name.lower() for name in [*dir(nnx), *dir(nn)])


class Convolution(Layer):
    """Convolution layer"""

    also = ("nn.Conv1d", "nn.Conv2d")
    inputs = {"x": normal(2, 3, 8, 10)}
    channels_first = True
    note = "The input is (batch, height, width, channels) in flax, and the kernel (height, width, in, out)."

    def torch():
        return torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def nnx(rngs):
        return nnx.Conv(3, 4, (3, 3), strides=2, padding=((1, 1), (1, 1)), rngs=rngs)

    def linen():
        return nn.Conv(4, (3, 3), strides=2, padding=((1, 1), (1, 1)))


class Convolution3d(Layer):
    """Convolution in three dimensions"""

    inputs = {"x": normal(1, 2, 5, 5, 5)}
    channels_first = True

    def torch():
        return torch.nn.Conv3d(2, 3, 2, stride=2)

    def nnx(rngs):
        return nnx.Conv(2, 3, (2, 2, 2), strides=2, padding="VALID", rngs=rngs)

    def linen():
        return nn.Conv(3, (2, 2, 2), strides=2, padding="VALID")


class ConvolutionPadding(Layer):
    """Padding of a convolution by default"""

    inputs = {"x": normal(2, 3, 8, 7)}
    channels_first = True
    trap = "PyTorch pads nothing by default; flax pads with `SAME`, and the output keeps its size."
    lesson = ("06_porting_layers", "trap:convolution-padding")

    def torch():
        return torch.nn.Conv2d(3, 4, 3)

    def nnx(rngs):
        return nnx.Conv(3, 4, (3, 3), rngs=rngs)

    def linen():
        return nn.Conv(4, (3, 3))

    def fix(rngs):
        return nnx.Conv(3, 4, (3, 3), padding="VALID", rngs=rngs)

    def differ(theirs, ours):
        return ours.shape[2:] == (8, 7) and np.allclose(ours[:, :, 1:-1, 1:-1], theirs, atol=1e-5)


class SamePadding(Layer):
    """Convolution that keeps the size"""

    inputs = {"x": normal(2, 3, 8)}
    channels_first = True
    note = 'Even kernels too: both pad the end more. PyTorch has `padding="same"` for a stride of 1 alone.'

    def torch():
        return torch.nn.Conv1d(3, 4, 3, dilation=2, padding="same")

    def nnx(rngs):
        return nnx.Conv(3, 4, (3,), kernel_dilation=2, rngs=rngs)

    def linen():
        return nn.Conv(4, (3,), kernel_dilation=2)

    def claims():
        assert raises(ValueError, lambda: torch.nn.Conv1d(3, 4, 4, stride=2, padding="same"))
        theirs, x = torch.nn.Conv1d(3, 4, 4, padding="same"), torch.randn(2, 3, 8)
        with warnings.catch_warnings(action="ignore"):  # that torch pads first
            expected = theirs(x).mT.detach()
        ours = porting.torch_to_nnx(theirs, nnx.Conv(3, 4, (4,), rngs=nnx.Rngs(0)))
        np.testing.assert_allclose(expected, ours(jnp.asarray(x.mT.numpy())), atol=1e-5)


class StridedSame(Layer):
    """Padding of a strided convolution"""

    inputs = {"x": np.arange(1, 7, dtype=np.float32).reshape(1, 1, 6)}
    channels_first = True
    trap = (
        "`SAME` and PyTorch's `padding=1` give the same shape, and with a stride of 2 other numbers: `SAME` pads the "
        "end alone. (All weights are 1 here, x is 1 to 6.)"
    )
    lesson = ("06_porting_layers", "trap:strided-same")

    def torch():
        layer = torch.nn.Conv1d(1, 1, 3, stride=2, padding=1, bias=False)
        torch.nn.init.ones_(layer.weight)
        return layer

    def nnx(rngs):
        return nnx.Conv(1, 1, (3,), strides=2, padding="SAME", use_bias=False, rngs=rngs)

    def linen():
        return nn.Conv(1, (3,), strides=2, padding="SAME", use_bias=False)

    def fix(rngs):
        return nnx.Conv(1, 1, (3,), strides=2, padding=((1, 1),), use_bias=False, rngs=rngs)

    def differ(theirs, ours):
        return theirs.tolist() == [[[3, 9, 15]]] and ours.tolist() == [[[6, 12, 11]]]


class CircularConvolution(Pair):
    """Circular or reflecting convolution"""

    inputs = {"x": normal(2, 3, 8), "weight": normal(4, 3, 3)}
    note = (
        '`padding_mode` of PyTorch\'s layers; in flax `padding="CIRCULAR"`, `"REFLECT"`, or `jnp.pad` before any of '
        "them."
    )

    def torch(x, weight):
        layer = torch.nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular", bias=False)
        return torch.func.functional_call(layer, {"weight": weight}, x).mT

    def linen(x, weight):
        layer = nn.Conv(4, (3,), padding="CIRCULAR", use_bias=False)
        return layer.apply({"params": {"kernel": weight.transpose(2, 1, 0)}}, x.mT)

    def claims():
        x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
        theirs = torch.nn.Conv1d(3, 4, 3, padding=1, padding_mode="reflect", bias=False)
        kernel = theirs.weight.detach().numpy().transpose(2, 1, 0)
        expected = theirs(torch.from_numpy(x)).mT.detach()
        for padding, given in (("REFLECT", x), ("VALID", np.pad(x, ((0, 0), (0, 0), (1, 1)), mode="reflect"))):
            layer = nnx.Conv(3, 4, (3,), padding=padding, use_bias=False, rngs=nnx.Rngs(0))
            layer.kernel[...] = jnp.asarray(kernel)
            np.testing.assert_allclose(expected, layer(jnp.asarray(given).mT), atol=1e-5)


class GroupedConvolution(Layer):
    """Grouped, depthwise and dilated convolution"""

    inputs = {"x": normal(2, 4, 9)}
    channels_first = True
    note = "Depthwise: as many groups as input channels."

    def torch():
        return torch.nn.Conv1d(4, 8, 3, groups=4, dilation=2)

    def nnx(rngs):
        return nnx.Conv(4, 8, (3,), feature_group_count=4, kernel_dilation=2, padding="VALID", rngs=rngs)

    def linen():
        return nn.Conv(8, (3,), feature_group_count=4, kernel_dilation=2, padding="VALID")


class ConvolutionFunction(Pair):
    """Convolution as a function"""

    also = ("torch.conv1d", "F.conv1d", "torch.conv2d", "F.conv2d", "F.conv3d", "torch.conv3d")
    inputs = {"x": normal(2, 3, 8, 8), "weight": normal(4, 3, 3, 3), "bias": normal(4)}
    note = "`lax.conv` takes PyTorch's layouts, (N, C, H, W) and (O, I, H, W), and those of one and three dimensions."

    def torch(x, weight, bias):
        return F.conv2d(x, weight, bias, stride=2)

    def jax(x, weight, bias):
        return jax.lax.conv(x, weight, window_strides=(2, 2), padding="VALID") + bias[:, None, None]

    def claims():
        rng = np.random.default_rng(0)
        for function, dims in ((F.conv1d, 1), (F.conv3d, 3)):
            x, weight = (rng.normal(size=shape + (3,) * dims).astype(np.float32) for shape in ((2, 3), (4, 3)))
            theirs = function(torch.from_numpy(x), torch.from_numpy(weight), padding=1)
            np.testing.assert_allclose(theirs, jax.lax.conv(x, weight, (1,) * dims, ((1, 1),) * dims), atol=1e-4)


class KernelLayout(Pair):
    """Weights of a convolution, as they are"""

    inputs = {"x": normal(2, 3, 6, 6), "weight": normal(3, 3, 3, 3)}
    trap = (
        "PyTorch keeps (out, in, H, W), flax (H, W, in, out). With equal sizes nothing complains, and the numbers are "
        "others."
    )
    lesson = ("06_porting_layers", "trap:kernel-layout")

    def torch(x, weight):
        return F.conv2d(x, weight).movedim(1, -1)

    def jax(x, weight):
        layer = nn.Conv(3, (3, 3), padding="VALID", use_bias=False)
        return layer.apply({"params": {"kernel": weight}}, jnp.moveaxis(x, 1, -1))

    def fix(x, weight):
        layer = nn.Conv(3, (3, 3), padding="VALID", use_bias=False)
        return layer.apply({"params": {"kernel": weight.transpose(2, 3, 1, 0)}}, jnp.moveaxis(x, 1, -1))

    def differ(theirs, ours):
        return theirs.shape == ours.shape and np.abs(ours - theirs.numpy()).max() > 1


class TransposedConvolution(Layer):
    """Transposed convolution"""

    inputs = {"x": normal(2, 3, 5)}
    channels_first = True
    note = "PyTorch's padding p is (size - 1 - p) on each side in flax, here 5 - 1 - 1."
    also = ("nn.ConvTranspose1d", "nn.ConvTranspose2d", "nn.ConvTranspose3d")

    def torch():
        return torch.nn.ConvTranspose1d(3, 4, 5, stride=2, padding=1)

    def nnx(rngs):
        return nnx.ConvTranspose(3, 4, (5,), strides=2, padding=((3, 3),), rngs=rngs)

    def linen():
        return nn.ConvTranspose(4, (5,), strides=(2,), padding=((3, 3),))


class OutputPadding(Layer):
    """Transposed convolution with output padding"""

    inputs = {"x": normal(1, 3, 4, 4)}
    channels_first = True
    note = "Kernel size - 1 - padding on both sides, and `output_padding` more at the end: the image doubles in size."

    def torch():
        return torch.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)

    def nnx(rngs):
        return nnx.ConvTranspose(3, 4, (3, 3), strides=2, padding=((1, 2), (1, 2)), rngs=rngs)

    def linen():
        return nn.ConvTranspose(4, (3, 3), strides=(2, 2), padding=((1, 2), (1, 2)))


class FlippedKernel(Pair):
    """Kernel of a transposed convolution"""

    also = (
        "F.conv_transpose1d", "torch.conv_transpose1d", "F.conv_transpose2d", "torch.conv_transpose2d",
        "F.conv_transpose3d", "torch.conv_transpose3d",
    )  # fmt: skip
    inputs = {"x": np.ones((1, 1, 1), np.float32), "kernel": np.arange(1, 4, dtype=np.float32).reshape(3, 1, 1)}
    trap = (
        "JAX convolves with the kernel as it is, PyTorch with its mirror image. Shapes agree; weights that are carried "
        "over must be flipped along the spatial axes. (`kernel` is (width, in, out).)"
    )
    lesson = ("06_porting_layers", "trap:flipped-kernel")

    def torch(x, kernel):
        return F.conv_transpose1d(x.mT, kernel.permute(1, 2, 0)).mT

    def jax(x, kernel):
        return jax.lax.conv_transpose(x, kernel, (1,), "VALID")

    def fix(x, kernel):
        return jax.lax.conv_transpose(x, jnp.flip(kernel, 0), (1,), "VALID")

    def differ(theirs, ours):
        return theirs.flatten().tolist() == [1, 2, 3] and ours.ravel().tolist() == [3, 2, 1]


class GroupedTransposed(Pair):
    """Grouped transposed convolution"""

    inputs = {"x": normal(2, 4, 5), "weight": normal(4, 1, 4)}
    note = (
        "Flax's ConvTranspose has no groups: a convolution with gaps in its input and the flipped kernel. (Depthwise "
        "here, padded by 4 - 1 - 1.)"
    )

    def torch(x, weight):
        return F.conv_transpose1d(x, weight, stride=2, padding=1, groups=4)

    def jax(x, weight):
        kernel = weight[..., ::-1]  # (channels, 1, width)
        options = {"lhs_dilation": (2,), "feature_group_count": 4}
        return jax.lax.conv_general_dilated(x, kernel, (1,), ((2, 2),), **options)

    def claims():
        for layer in (lambda **groups: nnx.ConvTranspose(4, 4, (3,), rngs=nnx.Rngs(0), **groups), nn.ConvTranspose):
            assert raises(TypeError, lambda layer=layer: layer(feature_group_count=4))


class Flatten(Pair):
    """Flatten before a linear layer"""

    also = ("nn.Flatten", "torch.flatten")

    inputs = {"x": normal(2, 3, 4, 5)}
    trap = (
        "Channels last, the same numbers are flattened in another order. The shapes agree, so PyTorch's weights of the "
        "next layer fit, and mean something else."
    )
    lesson = ("06_porting_layers", "trap:flatten")

    def torch(x):
        return x.flatten(1)

    def jax(x):
        x = jnp.moveaxis(x, 1, -1)  # as flax has it
        return x.reshape(len(x), -1)

    def fix(x):
        x = jnp.moveaxis(x, 1, -1)
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)

    def differ(theirs, ours):
        return ours.tolist() == theirs.reshape(2, 3, 20).mT.flatten(1).tolist()


class Unflatten(Pair):
    """Unflatten"""

    inputs = {"x": normal(2, 12)}
    also = ("nn.Unflatten", "torch.unflatten")

    def torch(x):
        return x.unflatten(1, (3, 4))

    def jax(x):
        return x.reshape(len(x), 3, 4)


class BatchNorm(Layer):
    """Batch normalisation, in evaluation"""

    also = ("nn.BatchNorm1d", "nn.BatchNorm3d", "F.batch_norm")

    inputs = {"x": normal(4, 3, 5, 5)}
    channels_first = True
    note = "In Linen the mode is an argument, and `batch_stats` is a collection beside `params`."

    def torch():
        norm = torch.nn.BatchNorm2d(3)
        norm(2 + 3 * torch.randn(4, 3, 5, 5))  # so that the averages are not 0 and 1
        return norm.eval()

    def nnx(rngs):
        return nnx.BatchNorm(3, use_running_average=True, momentum=0.9, rngs=rngs)

    def linen():
        return nn.BatchNorm(use_running_average=True, momentum=0.9)

    def claims():
        norm = nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))
        np.testing.assert_allclose(norm(jnp.full((2, 3), 5.0)), 5, rtol=1e-4)
        assert not norm.mean[...].any()


class BatchNormMomentum(Pair):
    """Momentum of batch normalisation"""

    inputs = {"x": normal(32, 3)}
    no_gradient = "running averages are state"
    trap = (
        "PyTorch's `momentum` is the share of the new batch, 0.1; flax's is the share of the old average, 0.99. By "
        "default flax's averages move ten times slower."
    )
    lesson = ("02_same_numbers", "trap:batch-norm-momentum")

    def torch(x):
        norm = torch.nn.BatchNorm1d(3)
        norm(x)
        return norm.running_mean

    def nnx(x):
        norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        norm(x)
        return norm.mean[...]

    def linen(x):
        norm = nn.BatchNorm(use_running_average=False)
        _, updated = norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])
        return updated["batch_stats"]["mean"]

    def fix(x):
        norm = nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0))
        norm(x)
        return norm.mean[...]

    def differ(theirs, ours):
        return np.allclose(theirs, 10 * ours, atol=1e-5)


class CumulativeAverage(Pair):
    """Batch normalisation with the plain average of batches"""

    inputs = {"x": normal(16, 3)}
    no_gradient = "running averages are state"
    note = (
        "PyTorch's `momentum=None`. Flax has a number there, the share of the old average: set it before each batch. "
        "Under `nnx.jit` every new number compiles again."
    )

    def torch(x):
        norm = torch.nn.BatchNorm1d(3, momentum=None)
        for batch in (x, 2 * x, x + 1):
            norm(batch)
        return norm.running_mean

    def nnx(x):
        norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        for k, batch in enumerate((x, 2 * x, x + 1)):
            norm.momentum = k / (k + 1)
            norm(batch)
        return norm.mean[...]

    def claims():
        norm, traced = nnx.BatchNorm(3, rngs=nnx.Rngs(0)), []
        step = nnx.jit(lambda norm, x: traced.append(norm.momentum) or norm(x))
        for norm.momentum in (0.0, 0.5, 0.5):
            step(norm, jnp.ones((2, 3)))
        assert traced == [0, 0.5]


class RunningVariance(Pair):
    """Running variance of batch normalisation"""

    inputs = {"x": normal(32, 3)}
    no_gradient = "running averages are state"
    trap = (
        "PyTorch averages the unbiased variance of each batch, N/(N-1) times flax's, which has no switch. It affects "
        "evaluation, and small batches most."
    )
    lesson = ("02_same_numbers", "trap:batch-norm-momentum")

    def torch(x):
        norm = torch.nn.BatchNorm1d(3)
        norm(x)
        return norm.running_var

    def nnx(x):
        norm = nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0))
        norm(x)
        return norm.var[...]

    def fix(x):
        norm = layers.BatchNorm(3, rngs=nnx.Rngs(0))  # from course import layers
        norm(x)
        return norm.var[...]

    def differ(theirs, ours):
        return np.allclose(theirs - 0.9, (ours - 0.9) * 32 / 31, atol=1e-6) and not np.allclose(theirs, ours, atol=1e-3)


class BatchStatistics(Pair):
    """Batch normalisation without running averages"""

    inputs = {"x": normal(16, 3)}
    note = "With `track_running_stats=False` PyTorch uses the batch's own statistics in evaluation as well."
    also = ("F.batch_norm", "torch.batch_norm")

    def torch(x):
        return torch.nn.BatchNorm1d(3, track_running_stats=False).eval()(x)

    def nnx(x):
        return nnx.BatchNorm(3, rngs=nnx.Rngs(0))(x, use_running_average=False)

    def linen(x):
        norm = nn.BatchNorm(use_running_average=False)
        return norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])[0]


class BatchNormUnderJit(Pair):
    """Batch normalisation in a compiled step"""

    inputs = {"x": normal(16, 3)}
    no_gradient = "the averages are no part of the graph"
    trap = (
        "`jax.jit` works on a copy of an NNX module: the running averages stay as they were, without a word. `nnx.jit` "
        "writes them back."
    )
    lesson = ("03_state_and_trees", "trap:batch-norm-under-jit")

    def torch(x):
        norm = torch.nn.BatchNorm1d(3)
        torch.compile(norm, backend="eager")(x)
        return norm.running_mean

    def nnx(x):
        norm = nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0))
        jax.jit(lambda norm, x: norm(x))(norm, x)
        return norm.mean[...]

    def fix(x):
        norm = nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0))
        nnx.jit(lambda norm, x: norm(x))(norm, x)
        return norm.mean[...]

    def differ(theirs, ours):
        return bool(theirs.any()) and not ours.any()


class LayerNorm(Layer):
    """Layer normalisation"""

    also = ("nn.LayerNorm", "F.layer_norm")
    inputs = {"x": faint(5, 16)}
    trap = "PyTorch adds 1e-5 to the variance, flax 1e-6. It shows where the variance is small."
    lesson = ("02_same_numbers", "trap:layer-norm")

    def torch():
        return torch.nn.LayerNorm(16)

    def nnx(rngs):
        return nnx.LayerNorm(16, rngs=rngs)

    def linen():
        return nn.LayerNorm()

    def fix(rngs):
        return nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs)

    def differ(theirs, ours):
        return np.abs(ours - theirs.numpy()).max() > 0.1


class NormOfImages(Layer):
    """Layer normalisation over several dimensions"""

    inputs = {"x": faint(2, 3, 4, 4)}
    channels_first = True
    note = (
        "Channels last, weights included; `course.porting` turns them. NNX's has weights along one axis: take "
        "`reduction_axes=(1, 2, 3)`, `use_scale=False`, `use_bias=False`, and multiply by a parameter of your own."
    )

    def torch():
        return torch.nn.LayerNorm((3, 4, 4))

    def linen():
        axes = (1, 2, 3)
        return nn.LayerNorm(epsilon=1e-5, reduction_axes=axes, feature_axes=axes)

    def claims():
        x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
        plain = {"reduction_axes": (1, 2, 3), "use_bias": False, "use_scale": False}
        ours = nnx.LayerNorm(3, epsilon=1e-5, rngs=nnx.Rngs(0), **plain)(jnp.asarray(x))
        np.testing.assert_allclose(F.layer_norm(torch.from_numpy(x), (4, 4, 3)), ours, atol=1e-5)
        assert nnx.LayerNorm(3, rngs=nnx.Rngs(0)).scale[...].shape == (3,)


class NormWithoutWeights(Layer):
    """Norms without weights"""

    inputs = {"x": faint(5, 8)}

    def torch():
        return torch.nn.LayerNorm(8, elementwise_affine=False)

    def nnx(rngs):
        return nnx.LayerNorm(8, epsilon=1e-5, use_bias=False, use_scale=False, rngs=rngs)

    def linen():
        return nn.LayerNorm(epsilon=1e-5, use_bias=False, use_scale=False)


class NormFunctions(Pair):
    """Norms as functions"""

    inputs = {"x": normal(5, 8), "weight": normal(8), "bias": normal(8)}
    note = (
        "`jax.nn.standardize` has the fast variance of flax's norms, which cancels where the mean is large: pass it "
        "`variance=x.var(-1, keepdims=True)`."
    )
    also = ("torch.layer_norm", "torch.rms_norm")

    def torch(x, weight, bias):
        return F.layer_norm(x, (8,), weight, bias), F.rms_norm(x, (8,), weight, eps=1e-6)

    def jax(x, weight, bias):
        normed = jax.nn.standardize(x, epsilon=1e-5) * weight + bias
        return normed, x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight

    def claims():
        x = (np.random.default_rng(0).normal(size=(5, 16)) * 0.05 + 3000).astype(np.float32)
        theirs = F.layer_norm(torch.from_numpy(x), (16,)).numpy()
        fast = jax.nn.standardize(jnp.asarray(x), epsilon=1e-5)
        exact = jax.nn.standardize(jnp.asarray(x), variance=jnp.asarray(x).var(-1, keepdims=True), epsilon=1e-5)
        assert np.abs(theirs - fast).max() > 1 and np.abs(theirs - exact).max() < 0.02


class FastVariance(Layer):
    """Layer normalisation of numbers far from zero"""

    inputs = {"x": lambda rng: (rng.normal(size=(5, 16)) * 0.05 + 3000).astype(np.float32)}
    tolerance = 0.02
    no_gradient = "float32 has three digits left here"
    trap = (
        "Flax computes a variance as the mean of squares minus the square of the mean, which cancels where the mean is "
        "large: here nothing is left of it. All norms of flax have the switch `use_fast_variance`."
    )

    def torch():
        return torch.nn.LayerNorm(16)

    def nnx(rngs):
        return nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs)

    def linen():
        return nn.LayerNorm(epsilon=1e-5)

    def fix(rngs):
        return nnx.LayerNorm(16, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def differ(theirs, ours):
        return np.abs(theirs.numpy()).max() < 8 and np.abs(ours - theirs.numpy()).max() > 0.5

    def claims():
        for norm in (nnx.LayerNorm, nnx.BatchNorm, nnx.GroupNorm, nnx.InstanceNorm, nnx.RMSNorm):
            options = {"num_groups": 2} if norm is nnx.GroupNorm else {}
            assert norm(4, rngs=nnx.Rngs(0), use_fast_variance=False, **options).use_fast_variance is False
            assert norm(4, rngs=nnx.Rngs(0), **options).use_fast_variance is True
            assert getattr(nn, norm.__name__)(**options, use_fast_variance=False).use_fast_variance is False
            assert getattr(nn, norm.__name__)(**options).use_fast_variance is True


class GroupNorm(Layer):
    """Group normalisation"""

    also = ("nn.GroupNorm", "F.group_norm", "torch.group_norm")
    inputs = {"x": faint(3, 6, 4, 4)}
    channels_first = True
    note = "The default epsilons differ: see the next entry."

    def torch():
        return torch.nn.GroupNorm(2, 6)

    def nnx(rngs):
        return nnx.GroupNorm(6, num_groups=2, epsilon=1e-5, rngs=rngs)

    def linen():
        return nn.GroupNorm(num_groups=2, epsilon=1e-5)


class GroupNormEpsilon(Layer):
    """Epsilon of group normalisation"""

    inputs = {"x": faint(5, 16)}
    trap = "PyTorch adds 1e-5 to the variance, flax 1e-6, as in layer normalisation."
    lesson = ("02_same_numbers", "trap:layer-norm")

    def torch():
        return torch.nn.GroupNorm(4, 16)

    def nnx(rngs):
        return nnx.GroupNorm(16, num_groups=4, rngs=rngs)

    def linen():
        return nn.GroupNorm(num_groups=4)

    def fix(rngs):
        return nnx.GroupNorm(16, num_groups=4, epsilon=1e-5, rngs=rngs)

    def differ(theirs, ours):
        return 0.1 < np.abs(ours - theirs.numpy()).max() < 3


class InstanceNorm(Layer):
    """Instance normalisation"""

    inputs = {"x": faint(2, 3, 5, 5)}
    channels_first = True
    note = "PyTorch's has no weights by default, flax's has, and an epsilon of 1e-6."
    also = ("nn.InstanceNorm1d", "nn.InstanceNorm3d", "F.instance_norm", "torch.instance_norm")

    def torch():
        return torch.nn.InstanceNorm2d(3)

    def nnx(rngs):
        return nnx.InstanceNorm(3, epsilon=1e-5, use_bias=False, use_scale=False, rngs=rngs)

    def linen():
        return nn.InstanceNorm(epsilon=1e-5, use_bias=False, use_scale=False)

    def claims():
        ours = nnx.InstanceNorm(3, rngs=nnx.Rngs(0))
        assert torch.nn.InstanceNorm2d(3).weight is None and ours.scale[...].shape == (3,) and ours.epsilon == 1e-6


class RMSNorm(Layer):
    """RMS normalisation"""

    also = ("F.rms_norm",)
    inputs = {"x": faint(5, 8)}
    note = "PyTorch's default epsilon is the spacing of the dtype, 1.2e-7 in float32; flax's is 1e-6."

    def torch():
        return torch.nn.RMSNorm(8, eps=1e-6)

    def nnx(rngs):
        return nnx.RMSNorm(8, rngs=rngs)

    def linen():
        return nn.RMSNorm()

    def claims():
        x = 1e-4 * torch.randn(5, 8)
        assert torch.equal(torch.nn.RMSNorm(8)(x), F.rms_norm(x, (8,), eps=torch.finfo(torch.float32).eps))
        assert nnx.RMSNorm(8, rngs=nnx.Rngs(0)).epsilon == nn.RMSNorm().epsilon == 1e-6


class LocalResponseNorm(Pair):
    """Local response normalisation"""

    inputs = {"x": normal(2, 6, 4, 4)}
    note = "JAX has none: an average of squares over neighbouring channels."
    also = ("nn.LocalResponseNorm",)

    def torch(x):
        return F.local_response_norm(x, 3, alpha=0.5, beta=0.75, k=2.0)

    def jax(x):
        squares = jnp.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
        mean = sum(squares[:, i : i + x.shape[1]] for i in range(3)) / 3
        return x / (2 + 0.5 * mean) ** 0.75

    def claims():
        assert not any("response" in name.lower() for name in [*dir(jax.nn), *dir(nnx), *dir(nn)])


class WeightNorm(Pair):
    """Weight normalisation"""

    inputs = {"x": normal(5, 3), "v": normal(4, 3), "g": positive(4, 1)}
    note = (
        "PyTorch starts with g = |v|, flax's `scale` with 1, which is another layer. In PyTorch `original0` is the "
        "scale, `original1` the kernel's transpose; `remove_parametrizations` multiplies them out, as the last line "
        "here does."
    )
    also = ("nn.utils.weight_norm", "nn.utils.parametrize.remove_parametrizations", "nn.utils.remove_weight_norm")

    def torch(x, v, g):
        layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 4, bias=False))
        weight = "parametrizations.weight.original"
        output = torch.func.functional_call(layer, {weight + "0": g, weight + "1": v}, x)
        return output, x @ (g * v / v.norm(dim=1, keepdim=True)).T

    def linen(x, v, g):
        layer = nn.WeightNorm(nn.Dense(4, use_bias=False))
        scale = {"layer_instance/kernel/scale": g[:, 0]}
        output = layer.apply({"params": {"layer_instance": {"kernel": v.T}, **scale}}, x)
        return output, x @ (v.T / jnp.linalg.norm(v.T, axis=0) * g[:, 0])

    def claims():
        plain = torch.nn.Linear(3, 4)
        before = plain.weight.detach().clone()
        layer = torch.nn.utils.parametrizations.weight_norm(plain)
        np.testing.assert_allclose(layer.weight.detach(), before, atol=1e-6)
        torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")
        np.testing.assert_allclose(layer.weight.detach(), before, atol=1e-6)
        ours = nn.WeightNorm(nn.Dense(4)).init(jax.random.key(0), jnp.ones((1, 3)))["params"]
        assert ours["layer_instance/kernel/scale"].tolist() == [1, 1, 1, 1]


class SpectralNorm(Pair):
    """Spectral normalisation"""

    inputs = {"x": normal(5, 3), "weight": normal(4, 3)}
    tolerance = 1e-3
    note = (
        "Both take one step of the power iteration a call in training; 20 steps here, so that it has converged. Flax "
        "keeps its vectors in `batch_stats`."
    )
    also = ("nn.utils.spectral_norm",)

    def torch(x, weight):
        layer = torch.nn.Linear(3, 4, bias=False)
        layer = torch.nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=20)
        return torch.func.functional_call(layer, {"parametrizations.weight.original": weight}, x)

    def linen(x, weight):
        layer = nn.SpectralNorm(nn.Dense(4, use_bias=False), n_steps=20)
        variables = layer.init(jax.random.key(0), x, update_stats=False)
        variables = {**variables, "params": {"layer_instance": {"kernel": weight.T}}}
        return layer.apply(variables, x, update_stats=True, mutable=["batch_stats"])[0]

    def claims():
        steps = inspect.signature(torch.nn.utils.parametrizations.spectral_norm).parameters["n_power_iterations"]
        assert steps.default == 1
        variables = nn.SpectralNorm(nn.Dense(4)).init(jax.random.key(0), jnp.ones((1, 3)), update_stats=False)
        assert {"params", "batch_stats"} == variables.keys() and nn.SpectralNorm(nn.Dense(4)).n_steps == 1


class Normalize(Pair):
    """Scale vectors to length 1"""

    inputs = {"x": normal(5, 3)}
    note = "The gradient at a row of zeros is NaN here and 1e12 in PyTorch: neither is of use."

    def torch(x):
        return F.normalize(x, dim=-1)

    def jax(x):
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)

    def claims():
        theirs = torch.func.grad(lambda x: F.normalize(x, dim=-1).sum())(torch.zeros(1, 3))
        ours = jax.grad(lambda x: Normalize.sides()["jax"](x).sum())(jnp.zeros((1, 3)))
        assert np.allclose(theirs, 1e12) and jnp.isnan(ours).all()


class DropoutEval(Pair):
    """Dropout, in evaluation"""

    inputs = {"x": normal(4, 5)}
    note = "Linen's mode is an argument, of the constructor or of the call; without it, it raises."

    def torch(x):
        drop = torch.nn.Dropout(0.5)
        drop.eval()
        return drop(x)

    def nnx(x):
        drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        drop.eval()
        return drop(x)

    def linen(x):
        return nn.Dropout(0.5, deterministic=True).apply({}, x)

    def claims():
        keys = {"dropout": jax.random.key(0)}
        assert raises(ValueError, lambda: nn.Dropout(0.5).apply({}, jnp.ones(3), rngs=keys))
        assert nn.Dropout(0.5).apply({}, jnp.ones(3), deterministic=True).tolist() == [1, 1, 1]


class DropoutTrain(Pair):
    """Dropout, in training"""

    also = ("nn.Dropout", "torch.dropout", "torch.dropout_")

    inputs = {"key": key()}
    no_gradient = "random draws"
    note = "Compared: the values that are left of ones. All divide by 1 - rate in training."

    def torch():
        return F.dropout(torch.ones(1000), 0.25, training=True).unique()

    def nnx(key):
        return jnp.unique(nnx.Dropout(0.25, rngs=nnx.Rngs(dropout=key))(jnp.ones(1000)))

    def linen(key):
        dropout = nn.Dropout(0.25, deterministic=False)
        return jnp.unique(dropout.apply({}, jnp.ones(1000), rngs={"dropout": key}))


class DropChannels(Pair):
    """Dropout of whole channels"""

    inputs = {"key": key()}
    no_gradient = "random draws"
    note = "`broadcast_dims` are the axes that share a draw, here height and width. (Compared: values left of ones.)"
    also = ("nn.Dropout1d", "nn.Dropout2d", "nn.Dropout3d", "F.dropout1d", "F.dropout3d", "torch.feature_dropout")

    def torch():
        images = F.dropout2d(torch.ones(50, 8, 4, 4), 0.25, training=True)
        return images.mean((2, 3)).unique()

    def nnx(key):
        drop = nnx.Dropout(0.25, broadcast_dims=(1, 2), rngs=nnx.Rngs(dropout=key))
        return jnp.unique(drop(jnp.ones((50, 4, 4, 8))).mean((1, 2)))

    def linen(key):
        drop = nn.Dropout(0.25, broadcast_dims=(1, 2), deterministic=False)
        images = drop.apply({}, jnp.ones((50, 4, 4, 8)), rngs={"dropout": key})
        return jnp.unique(images.mean((1, 2)))


class AlphaDropout(Pair):
    """Alpha dropout"""

    inputs = {"key": key()}
    no_gradient = "random draws"
    note = (
        "JAX has none. What is dropped gets SELU's lowest value, and all are scaled so that mean and variance stay. "
        "Whole channels: a mask of shape (N, C, 1, 1). (Compared: values left of ones.)"
    )
    also = (
        "nn.AlphaDropout", "torch.alpha_dropout", "nn.FeatureAlphaDropout", "F.feature_alpha_dropout",
        "torch.feature_alpha_dropout",
    )  # fmt: skip

    def torch():
        return F.alpha_dropout(torch.ones(1000), 0.25, training=True).unique()

    def jax(key):
        low, rate = -1.0507009873554805 * 1.6732632423543772, 0.25
        keep = jax.random.bernoulli(key, 1 - rate, (1000,))
        scale = ((1 - rate) * (1 + rate * low**2)) ** -0.5
        return jnp.unique(scale * (jnp.where(keep, jnp.ones(1000), low) - rate * low))

    def claims():
        low, rate, x = -1.0507009873554805 * 1.6732632423543772, 0.25, np.random.default_rng(0).normal(size=100_000)
        keep = jax.random.bernoulli(jax.random.key(0), 1 - rate, x.shape)
        dropped = ((1 - rate) * (1 + rate * low**2)) ** -0.5 * (np.where(keep, x, low) - rate * low)
        assert abs(dropped.mean()) < 0.01 and abs(dropped.std() - 1) < 0.01
        assert not any("alpha" in name.lower() for name in [*dir(jax.nn), *dir(nnx), *dir(nn)])
        theirs = F.feature_alpha_dropout(torch.ones(50, 8, 4, 4), 0.25, training=True)
        assert theirs.flatten(2).var(2).max() < 1e-10 and len(theirs.mean((2, 3)).round(decimals=4).unique()) == 2


class DropoutUnderJit(Pair):
    """Dropout in a compiled step"""

    trap = (
        "`jax.jit` works on a copy of an NNX module, its counter of draws included: every call drops the same "
        "elements. `nnx.jit` counts on."
    )
    lesson = ("03_state_and_trees", "trap:batch-norm-under-jit")

    def torch():
        drop = torch.compile(torch.nn.Dropout(0.5), backend="eager")
        return torch.equal(drop(torch.ones(100)), drop(torch.ones(100)))

    def nnx():
        drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        call = jax.jit(lambda drop, x: drop(x))
        return bool(jnp.array_equal(call(drop, jnp.ones(100)), call(drop, jnp.ones(100))))

    def fix():
        drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        call = nnx.jit(lambda drop, x: drop(x))
        return bool(jnp.array_equal(call(drop, jnp.ones(100)), call(drop, jnp.ones(100))))

    def differ(theirs, ours):
        return (theirs, ours) == (False, True)
