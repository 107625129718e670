"""Layers

Channels come last in flax, and weights are called `kernel` (in, out), `scale` and `embedding`. A layer's settings have
other defaults more often than other names. The pairs below are built from the same weights, carried over by
`course.porting`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from rosetta.kinds import Layer, Pair, key, normal


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
