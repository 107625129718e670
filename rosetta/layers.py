"""Layers and modules

Channels come last in flax, and weights are called `kernel` (in, out), `scale` and `embedding`. A layer's settings have
other defaults more often than other names. NNX's modules hold their weights, Linen's are handed them. The pairs below
are built from the same weights, carried over by `course.porting`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from course import porting
from rosetta.kinds import Layer, Pair, integers, key, normal
from tools.environment import double_precision

GRID = np.linspace(-4, 4, 81, dtype=np.float32)
IMAGE = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
ATTENTION = torch.nn.MultiheadAttention(4, 2, batch_first=True)


def faint(*shape):
    return lambda rng: (1e-3 * rng.normal(size=shape)).astype(np.float32)


class Linear(Layer):
    """Linear layer"""

    inputs = {"x": normal(5, 3)}
    note = "NNX wants both sizes and randomness, Linen the output's size: it sees the input's at `init`."

    def torch():
        return torch.nn.Linear(3, 4)

    def nnx(rngs):
        return nnx.Linear(3, 4, rngs=rngs)

    def linen():
        return nn.Dense(4)


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


class Convolution(Layer):
    """Convolution layer"""

    inputs = {"x": normal(2, 3, 8, 7)}
    channels_first = True
    note = "The input is (batch, height, width, channels) in flax, and the kernel (height, width, in, out)."

    def torch():
        return torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def nnx(rngs):
        return nnx.Conv(3, 4, (3, 3), strides=2, padding=((1, 1), (1, 1)), rngs=rngs)

    def linen():
        return nn.Conv(4, (3, 3), strides=2, padding=((1, 1), (1, 1)))


class ConvolutionPadding(Layer):
    """Padding of a convolution by default"""

    inputs = {"x": normal(2, 3, 8, 7)}
    channels_first = True
    trap = "PyTorch pads nothing by default; flax pads with `SAME`, and the output keeps its size."
    lesson = ("06_porting_layers", 'for padding in ("SAME", "VALID"):')

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


class StridedSame(Layer):
    """Padding of a strided convolution"""

    inputs = {"x": np.arange(1, 7, dtype=np.float32).reshape(1, 1, 6)}
    channels_first = True
    trap = (
        "`SAME` and PyTorch's `padding=1` give the same shape, and with a stride of 2 other numbers: `SAME` pads the "
        "end alone. (All weights are 1 here, x is 1 to 6.)"
    )
    lesson = ("06_porting_layers", "puts it below")

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

    inputs = {"x": normal(2, 3, 8, 8), "weight": normal(4, 3, 3, 3)}
    note = "`jax.lax.conv` takes PyTorch's layouts, (N, C, H, W) and (O, I, H, W). It has no bias."

    def torch(x, weight):
        return F.conv2d(x, weight, stride=2)

    def jax(x, weight):
        return jax.lax.conv(x, weight, window_strides=(2, 2), padding="VALID")


class KernelLayout(Pair):
    """Weights of a convolution, as they are"""

    inputs = {"x": normal(2, 3, 6, 6), "weight": normal(3, 3, 3, 3)}
    trap = (
        "PyTorch keeps (out, in, H, W), flax (H, W, in, out). With equal sizes nothing complains, and the numbers are "
        "others."
    )
    lesson = ("06_porting_layers", "weight.transpose(2, 3, 1, 0)")

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
    note = "PyTorch's padding p is (size - 1 - p) on each side in flax; `output_padding` is added at the end."

    def torch():
        return torch.nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1)

    def nnx(rngs):
        return nnx.ConvTranspose(3, 4, (3,), strides=2, padding=((1, 1),), rngs=rngs)

    def linen():
        return nn.ConvTranspose(4, (3,), strides=(2,), padding=((1, 1),))


class FlippedKernel(Pair):
    """Kernel of a transposed convolution"""

    inputs = {"x": np.ones((1, 1, 1), np.float32), "kernel": np.arange(1, 4, dtype=np.float32).reshape(3, 1, 1)}
    trap = (
        "JAX convolves with the kernel as it is, PyTorch with its mirror image. Shapes agree; weights that are carried "
        "over must be flipped along the spatial axes. (`kernel` is (width, in, out).)"
    )
    lesson = ("06_porting_layers", "each other's mirror image")

    def torch(x, kernel):
        return F.conv_transpose1d(x.mT, kernel.permute(1, 2, 0)).mT

    def jax(x, kernel):
        return jax.lax.conv_transpose(x, kernel, (1,), "VALID")

    def fix(x, kernel):
        return jax.lax.conv_transpose(x, jnp.flip(kernel, 0), (1,), "VALID")

    def differ(theirs, ours):
        return theirs.flatten().tolist() == [1, 2, 3] and ours.ravel().tolist() == [3, 2, 1]


class Flatten(Pair):
    """Flatten before a linear layer"""

    inputs = {"x": normal(2, 3, 4, 5)}
    trap = (
        "Channels last, the same numbers are flattened in another order. The shapes agree, so PyTorch's weights of the "
        "next layer fit, and mean something else."
    )
    lesson = ("06_porting_layers", "torch's order, for `out`'s weights")

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


class BatchNorm(Layer):
    """Batch normalisation, in evaluation"""

    inputs = {"x": normal(4, 3, 5, 5)}
    channels_first = True
    note = "In Linen the mode is an argument, and `batch_stats` is a collection beside `params`."

    def torch():
        return torch.nn.BatchNorm2d(3).eval()

    def nnx(rngs):
        return nnx.BatchNorm(3, use_running_average=True, momentum=0.9, rngs=rngs)

    def linen():
        return nn.BatchNorm(use_running_average=True, momentum=0.9)


class BatchNormMomentum(Pair):
    """Momentum of batch normalisation"""

    inputs = {"x": normal(32, 3)}
    no_gradient = "running averages are state"
    trap = (
        "PyTorch's `momentum` is the share of the new batch, 0.1; flax's is the share of the old average, 0.99. By "
        "default flax's averages move ten times slower."
    )
    lesson = ("02_same_numbers", "is the share of the *new* batch")

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


class RunningVariance(Pair):
    """Running variance of batch normalisation"""

    inputs = {"x": normal(32, 3)}
    no_gradient = "running averages are state"
    trap = (
        "PyTorch averages the unbiased variance of each batch, N/(N-1) times flax's; there is no switch. It affects "
        "evaluation, and small batches most."
    )
    lesson = ("02_same_numbers", "torch averages the unbiased variance")

    def torch(x):
        norm = torch.nn.BatchNorm1d(3)
        norm(x)
        return norm.running_var

    def nnx(x):
        norm = nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0))
        norm(x)
        return norm.var[...]

    def differ(theirs, ours):
        return np.allclose(theirs - 0.9, (ours - 0.9) * 32 / 31, atol=1e-6) and not np.allclose(theirs, ours, atol=1e-3)


class BatchNormUnderJit(Pair):
    """Batch normalisation in a compiled step"""

    inputs = {"x": normal(16, 3)}
    no_gradient = "the averages are no part of the graph"
    trap = (
        "`jax.jit` works on a copy of an NNX module: the running averages stay as they were, without a word. `nnx.jit` "
        "writes them back."
    )
    lesson = ("03_state_and_trees", '"jax.jit", jax.jit(NNXNet.__call__)')

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

    inputs = {"x": faint(5, 16)}
    trap = "PyTorch adds 1e-5 to the variance, flax 1e-6. It shows where the variance is small."
    lesson = ("02_same_numbers", "LayerNorm adds 1e-5 to the variance")

    def torch():
        return torch.nn.LayerNorm(16)

    def nnx(rngs):
        return nnx.LayerNorm(16, rngs=rngs)

    def linen():
        return nn.LayerNorm()

    def fix(rngs):
        return nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs)

    def differ(theirs, ours):
        share = theirs.var(1, correction=0, keepdim=True)  # v / (v + 1e-5)
        variance = (1e-5 * share / (1 - share)).numpy()
        return np.allclose(ours, theirs.numpy() * np.sqrt((variance + 1e-5) / (variance + 1e-6)), atol=1e-3)


class GroupNorm(Layer):
    """Group normalisation"""

    inputs = {"x": normal(3, 6, 4, 4)}
    channels_first = True
    note = "Flax's default epsilon is 1e-6, PyTorch's 1e-5."

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
    lesson = ("02_same_numbers", "GroupNorm does the same")

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


class RMSNorm(Layer):
    """RMS normalisation"""

    inputs = {"x": normal(5, 8)}
    note = "PyTorch's default epsilon is the spacing of the dtype, 1.2e-7 in float32; flax's is 1e-6."

    def torch():
        return torch.nn.RMSNorm(8, eps=1e-6)

    def nnx(rngs):
        return nnx.RMSNorm(8, rngs=rngs)

    def linen():
        return nn.RMSNorm()


class Embedding(Layer):
    """Embedding layer"""

    inputs = {"tokens": integers(0, 10, 4, 3)}

    def torch():
        return torch.nn.Embedding(10, 5)

    def nnx(rngs):
        return nnx.Embed(10, 5, rngs=rngs)

    def linen():
        return nn.Embed(10, 5)


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


class EmbeddingRange(Layer):
    """Index an embedding out of range"""

    inputs = {"tokens": lambda rng: np.array([10, 12])}
    trap = "PyTorch raises. Flax returns NaN, for the whole row; a negative index counts from the end."
    lesson = ("06_porting_layers", "ours(jnp.array([1000]))")

    def torch():
        return torch.nn.Embedding(10, 5)

    def nnx(rngs):
        return nnx.Embed(10, 5, rngs=rngs)

    def linen():
        return nn.Embed(10, 5)

    def differ(theirs, ours):
        return isinstance(theirs, IndexError) and ours.shape == (2, 5) and bool(jnp.isnan(ours).all())


class TiedWeights(Pair):
    """Tied weights"""

    inputs = {"tokens": integers(0, 10, 4), "table": normal(10, 5)}
    note = "`attend` multiplies by the table, so the table gets the gradients of both uses."

    def torch(tokens, table):
        return F.embedding(tokens, table) @ table.T

    def nnx(tokens, table):
        embed = nnx.Embed(10, 5, rngs=nnx.Rngs(0))
        embed.embedding[...] = table
        return embed.attend(embed(tokens))

    def linen(tokens, table):
        embed = nn.Embed(10, 5).bind({"params": {"embedding": table}})
        return embed.attend(embed(tokens))


class LSTM(Layer):
    """LSTM over a sequence"""

    inputs = {"x": normal(2, 6, 3)}
    note = "Flax scans a cell along axis 1. The last state: `RNN(..., return_carry=True)`, with the carry as (c, h)."

    def torch():
        return torch.nn.LSTM(3, 4, batch_first=True)

    def nnx(rngs):
        return nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs))

    def linen():
        return nn.RNN(nn.OptimizedLSTMCell(4))


class LSTMBiases(Pair):
    """Biases of an LSTM, in training"""

    inputs = {"x": normal(2, 3)}
    no_gradient = "it is one"
    trap = (
        "PyTorch's LSTM adds two biases, flax's has one. Outputs agree after a port; but each of the two has the whole "
        "gradient, so a step of SGD moves their sum twice as far."
    )
    lesson = ("06_porting_layers", "move their sum twice as far")

    def torch(x):
        cell = torch.nn.LSTMCell(3, 4)
        for weight in cell.parameters():
            torch.nn.init.zeros_(weight)
        cell(x)[0].sum().backward()
        return cell.bias_ih.grad + cell.bias_hh.grad

    def nnx(x):
        zeros = nnx.initializers.zeros
        cell = nnx.OptimizedLSTMCell(3, 4, kernel_init=zeros, recurrent_kernel_init=zeros, rngs=nnx.Rngs(0))
        carry = (jnp.zeros((2, 4)), jnp.zeros((2, 4)))
        grads = nnx.grad(lambda cell: cell(carry, x)[1].sum())(cell)
        return grads["dense_h"]["bias"][...]

    def differ(theirs, ours):
        return np.allclose(theirs, 2 * ours, atol=1e-6) and float(abs(ours).max()) > 0.1


class StackedLSTM(Layer):
    """LSTM of several levels"""

    inputs = {"x": normal(2, 6, 3)}
    note = "`course.porting` finds level k at item k. Dropout between the levels is a layer of its own in flax."

    def torch():
        return torch.nn.LSTM(3, 4, num_layers=2, batch_first=True)

    def nnx(rngs):
        levels = [nnx.OptimizedLSTMCell(size, 4, rngs=rngs) for size in (3, 4)]
        return nnx.Sequential(*(nnx.RNN(cell) for cell in levels))

    def linen():
        return nn.Sequential([nn.RNN(nn.OptimizedLSTMCell(4)) for _ in range(2)])


class BidirectionalLSTM(Layer):
    """LSTM in both directions"""

    inputs = {"x": normal(2, 6, 3)}
    note = "Outputs are joined, forward first, as in PyTorch."

    def torch():
        return torch.nn.LSTM(3, 4, bidirectional=True, batch_first=True)

    def nnx(rngs):
        forward, backward = (nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs)) for _ in range(2))
        return nnx.Bidirectional(forward, backward)

    def linen():
        forward, backward = (nn.RNN(nn.OptimizedLSTMCell(4)) for _ in range(2))
        return nn.Bidirectional(forward, backward)


class GRU(Layer):
    """GRU over a sequence"""

    inputs = {"x": normal(2, 6, 3)}
    note = "In NNX `nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))`, with one bias less: see the next entry."

    def torch():
        return torch.nn.GRU(3, 4, batch_first=True)

    def linen():
        return nn.RNN(nn.GRUCell(4))


class GRUBias(Layer):
    """Biases of a GRU in NNX"""

    inputs = {"x": normal(2, 6, 3)}
    trap = (
        "NNX's GRUCell has no bias for the new gate's recurrent part (`b_hn`), and none of the others can stand in for "
        "it. PyTorch's weights do not convert; Linen's cell has it."
    )
    lesson = ("06_porting_layers", "the reset gate multiplies one of the two")

    def torch():
        return torch.nn.GRU(3, 4, batch_first=True)

    def nnx(rngs):
        return nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))

    def differ(theirs, ours):
        return isinstance(ours, porting.PortingError) and "b_hn" in str(ours)


class Attention(Layer):
    """Multi-head attention"""

    inputs = {"query": normal(2, 5, 8), "key": normal(2, 4, 8), "value": normal(2, 4, 8)}
    note = "NNX's asks for `decode=False`, here or in the call; with a single argument all three are the query."

    def torch():
        return torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def nnx(rngs):
        return nnx.MultiHeadAttention(num_heads=2, in_features=8, decode=False, rngs=rngs)

    def linen():
        return nn.MultiHeadDotProductAttention(num_heads=2)


class AttentionMask(Pair):
    """Attention mask"""

    no_gradient = "see the causal one"
    inputs = {"x": normal(2, 4, 4), "mask": lambda rng: np.arange(4)[:, None] % 2 == np.arange(4) % 2}
    trap = (
        "`True` hides a position in PyTorch's `MultiheadAttention` and shows it in flax (and in PyTorch's own "
        "`scaled_dot_product_attention`). A causal mask that is carried over shows the future alone."
    )
    lesson = ("06_porting_layers", "means *hidden* in torch's")

    def torch(x, mask):
        return tuple(ATTENTION(x, x, x, attn_mask=m)[0] for m in (mask, ~mask))

    def nnx(x, mask):
        attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
        porting.torch_to_nnx(ATTENTION, attention)
        return tuple(attention(x, mask=m) for m in (mask, ~mask))

    def fix(x, mask):
        attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
        porting.torch_to_nnx(ATTENTION, attention)
        return tuple(attention(x, mask=~m) for m in (mask, ~mask))

    def differ(theirs, ours):
        swapped = all(np.allclose(a.detach(), b, atol=1e-5) for a, b in zip(theirs, ours[::-1], strict=True))
        return swapped and not np.allclose(theirs[0].detach(), ours[0], atol=1e-2)


class CausalAttention(Pair):
    """Causal attention as a function"""

    inputs = {"q": normal(2, 5, 2, 4), "k": normal(2, 5, 2, 4), "v": normal(2, 5, 2, 4)}
    note = (
        "(batch, heads, time, width) in PyTorch, (batch, time, heads, width) in JAX. JAX's softmax runs in float32 "
        "whatever the dtype, also in float64."
    )

    def torch(q, k, v):
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    def jax(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)


class Activations(Pair):
    """Activation functions"""

    inputs = {"x": normal(20)}
    note = (
        "`F.hardtanh` is `jax.nn.hard_tanh`, `F.logsigmoid` is `jax.nn.log_sigmoid`. Defaults agree, and slopes but at "
        "two kinks: that of leaky_relu at 0 is 0.01 in PyTorch and 1 in JAX, that of hardtanh at -1 and 1 is 0 and 1. "
        "Above 20 PyTorch's softplus is x itself, in float64 up to 2e-9 less."
    )

    def torch(x):
        return F.relu(x), F.leaky_relu(x), F.elu(x), F.selu(x), F.silu(x), F.softplus(x), F.mish(x)

    def jax(x):
        return (
            jax.nn.relu(x), jax.nn.leaky_relu(x), jax.nn.elu(x), jax.nn.selu(x), jax.nn.silu(x), jax.nn.softplus(x),
            jax.nn.mish(x),
        )  # fmt: skip

    def claims():
        """Values and slopes at kinks and far out."""
        points = np.array([-50.0, -20, -1, 0, 1, 3, 6, 20, 20.001, 21, 50])
        kinks = {"leaky_relu": {0.0: (0.01, 1)}, "hardtanh": {-1.0: (0, 1), 1.0: (0, 1)}}
        ours = {"hardtanh": "hard_tanh", "logsigmoid": "log_sigmoid"}
        for name in ("relu", "leaky_relu", "elu", "selu", "silu", "softplus", "mish", "hardtanh", "logsigmoid"):
            x, f = torch.tensor(points, requires_grad=True), getattr(jax.nn, ours.get(name, name))
            values = getattr(F, name)(x)
            (slopes,) = torch.autograd.grad(values.sum(), x)
            with double_precision():
                found, tilts = f(jnp.asarray(points)), jax.grad(lambda x, f=f: f(x).sum())(jnp.asarray(points))
            bound = 2.1e-9 if name == "softplus" else 1e-14
            np.testing.assert_allclose(values.detach(), found, atol=bound, rtol=0)
            for point, theirs, mine in zip(points, slopes.tolist(), tilts.tolist(), strict=True):
                theirs_at_kink, mine_at_kink = kinks.get(name, {}).get(float(point), (theirs, theirs))
                assert theirs == theirs_at_kink and abs(mine - mine_at_kink) < bound, (name, point)


class GELU(Pair):
    """GELU activation"""

    inputs = {"x": GRID}
    trap = "PyTorch's is exact, JAX's the tanh approximation by default: 5e-4 apart."
    lesson = ("02_same_numbers", "nnx.gelu(z, approximate=False)")

    def torch(x):
        return F.gelu(x)

    def jax(x):
        return jax.nn.gelu(x)

    def fix(x):
        return jax.nn.gelu(x, approximate=False)

    def differ(theirs, ours):
        by_tanh = F.gelu(torch.from_numpy(GRID), approximate="tanh")
        return np.allclose(ours, by_tanh, atol=1e-5) and 1e-4 < float(abs(ours - theirs.numpy()).max()) < 1e-3


class Normalize(Pair):
    """Scale vectors to length 1"""

    inputs = {"x": normal(5, 3)}

    def torch(x):
        return F.normalize(x, dim=-1)

    def jax(x):
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class DropoutEval(Layer):
    """Dropout, in evaluation"""

    inputs = {"x": normal(4, 5)}
    note = "Linen's mode is an argument, of the constructor or of the call; without it, it raises."

    def torch():
        return torch.nn.Dropout(0.5).eval()

    def nnx(rngs):
        return nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def linen():
        return nn.Dropout(0.5, deterministic=True)


class DropoutTrain(Pair):
    """Dropout, in training"""

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


class DropoutUnderJit(Pair):
    """Dropout in a compiled step"""

    trap = (
        "`jax.jit` works on a copy of an NNX module, its counter of draws included: every call drops the same "
        "elements. `nnx.jit` counts on."
    )
    lesson = ("03_state_and_trees", '"jax.jit", jax.jit(NNXNet.__call__)')

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


class TrainEval(Pair):
    """Switch between training and evaluation"""

    inputs = {"x": normal(8, 3)}
    no_gradient = "PyTorch's own is off where the averages change before `backward`"
    note = "In Linen there is no switch: `model.apply(variables, x, train=False)`, and the model passes it on."

    def torch(x):
        norm = torch.nn.BatchNorm1d(3)
        norm.eval()
        evaluated = norm(x)
        norm.train()
        return evaluated, norm(x)

    def nnx(x):
        norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        norm.eval()
        evaluated = norm(x)
        norm.train()
        return evaluated, norm(x)


class Sequential(Layer):
    """Layers in a row"""

    inputs = {"x": normal(5, 3)}
    note = (
        "Activations are functions in flax, in a row too. PyTorch's layer `0` is `layers/0` in NNX and `layers_0` in "
        "Linen; `course.porting` finds it."
    )

    def torch():
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))

    def nnx(rngs):
        return nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))

    def linen():
        return nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])


class OwnModule(Layer):
    """A module with a list of layers"""

    inputs = {"x": normal(5, 4)}
    note = "A plain list of modules raises in NNX: `nnx.List` is its `ModuleList`. Linen's `setup` takes plain lists."

    def torch():
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(3)])

            def forward(self, x):
                for block in self.blocks:
                    x = x + torch.tanh(block(x))
                return x

        return Model()

    def nnx(rngs):
        class Model(nnx.Module):
            def __init__(self, rngs):
                self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(3)])

            def __call__(self, x):
                for block in self.blocks:
                    x = x + jnp.tanh(block(x))
                return x

        return Model(rngs)

    def linen():
        class Model(nn.Module):
            def setup(self):
                self.blocks = [nn.Dense(4) for _ in range(3)]

            def __call__(self, x):
                for block in self.blocks:
                    x = x + jnp.tanh(block(x))
                return x

        return Model()


class OwnParameter(Layer):
    """A weight of your own"""

    inputs = {"x": normal(5, 4)}

    def torch():
        class Scale(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.factor = torch.nn.Parameter(torch.full((4,), 2.0))

            def forward(self, x):
                return x * self.factor

        return Scale()

    def nnx(rngs):
        class Scale(nnx.Module):
            def __init__(self):
                self.factor = nnx.Param(jnp.ones(4))

            def __call__(self, x):
                return x * self.factor

        return Scale()

    def linen():
        class Scale(nn.Module):
            @nn.compact
            def __call__(self, x):
                return x * self.param("factor", nn.initializers.ones, (4,))

        return Scale()


class Buffer(Layer):
    """A buffer: saved, not trained"""

    inputs = {"x": normal(5, 4)}
    note = "Whatever is an `nnx.Variable` and no `nnx.Param` is not trained; in Linen, what is in another collection."

    def torch():
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("mean", torch.full((4,), 2.0))
                self.out = torch.nn.Linear(4, 2)

            def forward(self, x):
                return self.out(x - self.mean)

        return Model()

    def nnx(rngs):
        class Model(nnx.Module):
            def __init__(self, rngs):
                self.mean = nnx.Variable(jnp.zeros(4))
                self.out = nnx.Linear(4, 2, rngs=rngs)

            def __call__(self, x):
                return self.out(x - self.mean)

        return Model(rngs)

    def linen():
        class Model(nn.Module):
            @nn.compact
            def __call__(self, x):
                mean = self.variable("buffers", "mean", jnp.zeros, (4,))
                return nn.Dense(2, name="out")(x - mean.value)

        return Model()


class CountWeights(Pair):
    """Count the parameters"""

    def torch():
        model = torch.nn.Linear(3, 4)
        return sum(weight.numel() for weight in model.parameters())

    def nnx():
        model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        return sum(weight.size for weight in jax.tree.leaves(nnx.state(model, nnx.Param)))

    def linen():
        variables = nn.Dense(4).init(jax.random.key(0), jnp.zeros((1, 3)))
        return sum(weight.size for weight in jax.tree.leaves(variables["params"]))


class NamedWeights(Pair):
    """Names and shapes of the parameters"""

    note = "Compared: the names of the layers, and the number of weights. Flax sorts by name, PyTorch by creation."

    def torch():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        return sorted((name.split(".")[0], p.numel()) for name, p in model.named_parameters())

    def nnx():
        rngs = nnx.Rngs(0)
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))
        weights = nnx.to_flat_state(nnx.state(model, nnx.Param))
        return sorted((str(path[1]), p[...].size) for path, p in weights)  # path: ("layers", 0, "kernel")


class TrainLastLayer(Pair):
    """Gradients of the last layer only"""

    inputs = {"x": normal(5, 3)}
    no_gradient = "it is one"
    note = "Give `nnx.Optimizer` the same filter as `wrt`. In Linen, differentiate by a part of the tree."

    def torch(x):
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        model[0].requires_grad_(False)
        model(x).sum().backward()
        return [weight.grad is not None for weight in model.parameters()], model[1].bias.grad

    def nnx(x):
        rngs = nnx.Rngs(0)
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs))
        last = nnx.All(nnx.Param, nnx.PathContains(1))
        grads = nnx.grad(lambda model: model(x).sum(), argnums=nnx.DiffState(0, last))(model)
        return [i in grads["layers"] for i in (0, 0, 1, 1)], grads["layers"][1]["bias"][...]


class Hooks(Pair):
    """What the layers return (forward hooks)"""

    inputs = {"x": normal(5, 3)}
    no_gradient = "intermediate results"
    note = (
        "NNX's `sow` under `nnx.capture` came after flax 0.12.0. On every version: call the layers one by one. "
        "(Compared: the shapes.)"
    )

    def torch(x):
        model, seen = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)), {}
        for name, layer in model.named_children():
            layer.register_forward_hook(lambda layer, args, output, name=name: seen.update({name: output.shape}))
        model(x)
        return [tuple(seen[name]) for name in ("0", "1")]

    def linen(x):
        model = nn.Sequential([nn.Dense(4), nn.Dense(2)])
        variables = model.init(jax.random.key(0), x)
        _, state = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
        seen = state["intermediates"]
        return [seen[name]["__call__"][0].shape for name in ("layers_0", "layers_1")]
