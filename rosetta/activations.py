"""Activations

Functions of single numbers are functions in JAX, `jax.nn.silu` for `F.silu` and `nn.SiLU()` alike; flax offers the same
ones as `nnx.silu` and `nn.silu`. Compared: values and slopes, also at kinks and as far out as ±50.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from rosetta.kinds import Layer, Pair, key, normal
from tools.environment import double_precision

GRID = np.linspace(-4, 4, 81, dtype=np.float32)
POINTS = np.array([-50, -21, -20, -6, -3, -1, -0.5, 0, 0.5, 1, 3, 6, 20, 21, 50], np.float32)  # kinks, and far out
ROWS = POINTS.reshape(3, 5)


class Activations(Pair):
    """Activation functions"""

    inputs = {"x": POINTS}
    note = "Defaults agree, and so do slopes at kinks: that of relu at 0 is 0 on both sides."
    also = (
        "nn.ReLU", "F.relu_", "torch.relu_", "Tensor.relu", "Tensor.relu_", "nn.SiLU", "nn.Mish",
    )  # fmt: skip

    def torch(x):
        return F.relu(x), F.silu(x), F.mish(x)

    def jax(x):
        return jax.nn.relu(x), jax.nn.silu(x), jax.nn.mish(x)

    def claims():
        """In float64 too, and what is said here of the functions with names of their own."""
        ours = {
            "hardtanh": "hard_tanh", "logsigmoid": "log_sigmoid", "softsign": "soft_sign", "hardswish": "hard_swish",
            "hardsigmoid": "hard_sigmoid",
        }  # fmt: skip
        plain = ("relu", "relu6", "elu", "selu", "celu", "silu", "mish", "softplus", "leaky_relu", "sigmoid", "tanh")
        kinks = {"leaky_relu": {0.0: (0.01, 1)}, "hardtanh": {-1.0: (0, 1), 1.0: (0, 1)}}
        bounds = {"softplus": 2.1e-9, "hardsigmoid": 1e-8}  # the threshold of 20; torch's 1/6 is a float32
        points = np.append(POINTS, 20.001).astype(np.float64)
        for name in (*plain, *ours):
            x, f = torch.tensor(points, requires_grad=True), getattr(jax.nn, ours.get(name, name))
            values = getattr(F, name)(x)
            (slopes,) = torch.autograd.grad(values.sum(), x)
            with double_precision():
                found, back = jax.vjp(jax.jit(f), jnp.asarray(points))
                (tilts,) = back(jnp.ones_like(found))
            bound = bounds.get(name, 1e-14)
            np.testing.assert_allclose(values.detach(), found, atol=bound, rtol=0)
            for point, theirs, mine in zip(points, slopes.tolist(), tilts.tolist(), strict=True):
                at_kink = kinks.get(name, {}).get(float(point), (theirs, theirs))
                assert theirs == at_kink[0] and abs(mine - at_kink[1]) < bound, (name, point)


class SigmoidTanh(Pair):
    """Sigmoid, tanh and log-sigmoid"""

    inputs = {"x": POINTS}
    also = (
        "nn.Sigmoid", "F.sigmoid", "torch.sigmoid_", "Tensor.sigmoid", "Tensor.sigmoid_", "special.expit", "nn.Tanh",
        "F.tanh", "torch.tanh_", "Tensor.tanh", "Tensor.tanh_", "nn.LogSigmoid",
    )  # fmt: skip

    def torch(x):
        return torch.sigmoid(x), torch.tanh(x), F.logsigmoid(x)

    def jax(x):
        return jax.nn.sigmoid(x), jnp.tanh(x), jax.nn.log_sigmoid(x)


class ExponentialUnits(Pair):
    """ELU, SELU and CELU"""

    inputs = {"x": POINTS}
    also = ("nn.ELU", "F.elu_", "nn.SELU", "F.selu_", "torch.selu", "torch.selu_", "nn.CELU", "F.celu_", "torch.celu",
            "torch.celu_")  # fmt: skip

    def torch(x):
        return F.elu(x, alpha=0.5), F.selu(x), F.celu(x, alpha=2.0)

    def jax(x):
        return jax.nn.elu(x, alpha=0.5), jax.nn.selu(x), jax.nn.celu(x, alpha=2.0)


class HardFunctions(Pair):
    """Hardswish, hardsigmoid, ReLU6 and softsign"""

    inputs = {"x": POINTS}
    also = ("nn.Hardswish", "nn.Hardsigmoid", "nn.ReLU6", "nn.Softsign")

    def torch(x):
        return F.hardswish(x), F.hardsigmoid(x), F.relu6(x), F.softsign(x)

    def jax(x):
        return jax.nn.hard_swish(x), jax.nn.hard_sigmoid(x), jax.nn.relu6(x), jax.nn.soft_sign(x)


class LeakyReLU(Pair):
    """Leaky ReLU"""

    inputs = {"x": POINTS[POINTS != 0]}
    note = "Both slopes are 0.01 by default. At 0 they differ: see the next entry."
    also = ("nn.LeakyReLU", "F.leaky_relu_")

    def torch(x):
        return F.leaky_relu(x), F.leaky_relu(x, 0.2)

    def jax(x):
        return jax.nn.leaky_relu(x), jax.nn.leaky_relu(x, 0.2)


class LeakyReLUAtZero(Pair):
    """Slope of leaky ReLU at 0"""

    inputs = {"x": np.array([-1.0, 0.0, 1.0], np.float32)}
    no_gradient = "it is one"
    trap = "At 0 PyTorch takes the slope of the left, JAX that of the right."

    def torch(x):
        x.requires_grad_()
        return torch.autograd.grad(F.leaky_relu(x).sum(), x)[0]

    def jax(x):
        return jax.grad(lambda x: jax.nn.leaky_relu(x).sum())(x)

    def fix(x):
        return jax.grad(lambda x: jnp.where(x > 0, x, 0.01 * x).sum())(x)

    def differ(theirs, ours):
        return np.allclose(theirs, [0.01, 0.01, 1]) and np.allclose(ours, [0.01, 1, 1])


class Hardtanh(Pair):
    """Slope of hardtanh at its bounds"""

    inputs = {"x": np.array([-2.0, -1.0, 0.5, 1.0, 2.0], np.float32)}
    no_gradient = "it is one"
    trap = "At -1 and 1 PyTorch's slope is 0, JAX's is 1. (The values are equal.)"
    also = ("nn.Hardtanh", "F.hardtanh_")

    def torch(x):
        x.requires_grad_()
        return torch.autograd.grad(F.hardtanh(x).sum(), x)[0]

    def jax(x):
        return jax.grad(lambda x: jax.nn.hard_tanh(x).sum())(x)

    def fix(x):
        return jax.grad(lambda x: jnp.where(jnp.abs(x) < 1, x, jnp.sign(x)).sum())(x)

    def differ(theirs, ours):
        return theirs.tolist() == [0, 0, 1, 0, 0] and ours.tolist() == [0, 1, 1, 1, 0]

    def claims():
        x = jnp.asarray(POINTS)
        np.testing.assert_array_equal(F.hardtanh(torch.from_numpy(POINTS)), jax.nn.hard_tanh(x))
        np.testing.assert_array_equal(jnp.where(jnp.abs(x) < 1, x, jnp.sign(x)), jax.nn.hard_tanh(x))


class Softplus(Pair):
    """Softplus, and its `beta`"""

    inputs = {"x": POINTS}
    note = "Above `beta * x = 20` PyTorch returns x itself: in float32 the same number, in float64 up to 2.1e-9 less."
    also = ("nn.Softplus",)

    def torch(x):
        return F.softplus(x), F.softplus(x, beta=2)

    def jax(x):
        return jax.nn.softplus(x), jax.nn.softplus(2 * x) / 2

    def claims():
        x = np.linspace(20.0001, 40, 1000)
        assert F.softplus(torch.from_numpy(x)).tolist() == x.tolist()
        np.testing.assert_array_equal(jax.nn.softplus(jnp.asarray(x, jnp.float32)), x.astype(np.float32))
        with double_precision():
            assert 2e-9 < float((jax.nn.softplus(jnp.asarray(x)) - x).max()) < 2.1e-9


class Shrinkage(Pair):
    """Hardshrink, softshrink and tanhshrink"""

    inputs = {"x": np.append(GRID, POINTS)}
    note = "Written this way, slopes at the bounds are PyTorch's, 0. `x - jnp.clip(x, -0.5, 0.5)` has 0.5 there."
    also = ("nn.Hardshrink", "torch.hardshrink", "Tensor.hardshrink", "nn.Softshrink", "nn.Tanhshrink")

    def torch(x):
        return F.hardshrink(x, 0.5), F.softshrink(x, 0.5), F.tanhshrink(x)

    def jax(x):
        large = jnp.abs(x) > 0.5
        return jnp.where(large, x, 0), jnp.where(large, x - 0.5 * jnp.sign(x), 0), x - jnp.tanh(x)

    def claims():
        assert float(jax.grad(lambda x: x - jnp.clip(x, -0.5, 0.5))(0.5)) == 0.5


class Threshold(Pair):
    """Threshold"""

    inputs = {"x": np.append(GRID, POINTS)}
    also = ("nn.Threshold", "torch.threshold", "F.threshold_", "torch.threshold_")

    def torch(x):
        return F.threshold(x, 0.5, -7.0)

    def jax(x):
        return jnp.where(x > 0.5, x, -7.0)


class PReLU(Layer):
    """PReLU with one slope"""

    inputs = {"x": lambda rng: POINTS[POINTS != 0]}
    note = (
        "A new layer starts with the slope 0.25 in PyTorch and 0.01 in flax: `negative_slope_init=0.25`. At 0 the "
        "derivative is the slope in PyTorch, and 1 in flax."
    )
    also = ("F.prelu", "torch.prelu", "Tensor.prelu")

    def torch():
        return torch.nn.PReLU()

    def nnx(rngs):
        return nnx.PReLU()

    def linen():
        return nn.PReLU()

    def claims():
        layer, x = torch.nn.PReLU(), torch.zeros(1, requires_grad=True)
        layer(x).backward()
        ours = nnx.PReLU()
        assert layer.weight.item() == x.grad.item() == 0.25
        assert ours.negative_slope[...] == jnp.float32(0.01) and nnx.PReLU(0.25).negative_slope[...] == 0.25
        assert float(jax.grad(lambda x: ours(x))(0.0)) == 1


class PReLUPerChannel(Pair):
    """PReLU with a slope for each channel"""

    inputs = {"x": normal(2, 3, 4, 4), "slopes": normal(3)}
    note = (
        "Flax's PReLU has one slope for all. Make the slopes a parameter of your module, and write this line. Channels "
        "last, they need no reshape."
    )
    also = ("nn.PReLU",)

    def torch(x, slopes):
        return F.prelu(x, slopes)

    def jax(x, slopes):
        return jnp.where(x > 0, x, slopes[:, None, None] * x)

    def claims():
        assert nnx.PReLU().negative_slope[...].shape == ()
        x, slopes = np.zeros((1, 3), np.float32), np.array([0.5, 1, 2], np.float32)
        (theirs,) = torch.autograd.functional.vjp(
            lambda x: F.prelu(x, torch.from_numpy(slopes)), torch.from_numpy(x), torch.ones(1, 3)
        )[1:]
        ours = jax.grad(lambda x: jnp.where(x > 0, x, slopes * x).sum())(jnp.asarray(x))
        assert theirs.tolist() == ours.tolist() == [slopes.tolist()]


class RReLU(Pair):
    """Randomised leaky ReLU"""

    inputs = {"x": lambda rng: rng.uniform(-2, 2, size=20_000).astype(np.float32), "key": key()}
    tolerance = 0.003
    no_gradient = "random draws"
    note = (
        "In evaluation the slope is the middle of the two bounds. (Compared: evaluation, and of training the mean, "
        "spread and bounds of the slopes below 0.)"
    )
    also = ("nn.RReLU", "torch.rrelu", "F.rrelu_", "torch.rrelu_")

    def torch(x):
        torch.manual_seed(0)
        slopes = (F.rrelu(x, 0.1, 0.3, training=True) / x)[x < 0]
        return F.rrelu(x, 0.1, 0.3), slopes.mean(), slopes.std(), slopes.min(), slopes.max()

    def jax(x, key):
        slopes = jax.random.uniform(key, x.shape, minval=0.1, maxval=0.3)
        slopes = (jnp.where(x > 0, x, slopes * x) / x)[x < 0]
        return jnp.where(x > 0, x, 0.2 * x), slopes.mean(), slopes.std(), slopes.min(), slopes.max()


class GLU(Pair):
    """Gated linear unit"""

    inputs = {"x": normal(3, 4)}
    note = "The second half of the last axis is the gate on both sides; the second result is SwiGLU."
    also = ("nn.GLU",)

    def torch(x):
        a, b = x.chunk(2, dim=-1)
        return F.glu(x), F.silu(a) * b

    def jax(x):
        a, b = jnp.split(x, 2, axis=-1)
        return jax.nn.glu(x), jax.nn.silu(a) * b


class GELU(Pair):
    """GELU activation"""

    inputs = {"x": np.append(GRID, POINTS)}
    trap = "PyTorch's is exact, JAX's the tanh approximation by default: 5e-4 apart."
    lesson = ("02_same_numbers", "trap:gelu")
    also = ("nn.GELU",)

    def torch(x):
        return F.gelu(x)

    def jax(x):
        return jax.nn.gelu(x)

    def fix(x):
        return jax.nn.gelu(x, approximate=False)

    def differ(theirs, ours):
        by_tanh = F.gelu(torch.from_numpy(np.append(GRID, POINTS)), approximate="tanh")
        return np.allclose(ours, by_tanh, atol=1e-5) and 1e-4 < float(abs(ours - theirs.numpy()).max()) < 1e-3


class Softmax(Pair):
    """Softmax, log-softmax and softmin"""

    inputs = {"x": ROWS}
    also = (
        "F.softmax", "F.log_softmax", "nn.Softmax", "torch.softmax", "Tensor.softmax", "special.softmax",
        "nn.LogSoftmax", "torch.log_softmax",
        "Tensor.log_softmax", "special.log_softmax", "nn.Softmin",
    )  # fmt: skip

    def torch(x):
        return F.softmax(x, dim=-1), F.log_softmax(x, dim=-1), F.softmin(x, dim=-1)

    def jax(x):
        return jax.nn.softmax(x), jax.nn.log_softmax(x), jax.nn.softmax(-x)


class SoftmaxWithoutDim(Pair):
    """Softmax without a dimension"""

    inputs = {"x": normal(2, 3, 4)}
    trap = (
        "JAX takes the last axis. PyTorch warns, and takes the first of one or three dimensions, the second of two or "
        "four."
    )

    def torch(x):
        with warnings.catch_warnings(action="ignore"):
            return F.softmax(x)

    def jax(x):
        return jax.nn.softmax(x)

    def fix(x):
        return jax.nn.softmax(x, axis=0)

    def differ(theirs, ours):
        return np.allclose(theirs.sum(0), 1) and np.allclose(ours.sum(-1), 1) and not np.allclose(theirs.sum(-1), 1)

    def claims():
        for dims in (1, 2, 3, 4):
            x = torch.randn(2, 3, 4, 5)[(0,) * (4 - dims)]
            with warnings.catch_warnings(record=True, action="always") as said:
                found = F.softmax(x)
            assert torch.equal(found, F.softmax(x, dim=0 if dims in (1, 3) else 1))
            assert "Implicit dimension choice" in str(said[0].message)


class SoftmaxOfChannels(Pair):
    """Softmax over the channels of images"""

    inputs = {"x": normal(2, 3, 4, 4)}
    note = "Channels last, it is the default axis."

    def torch(x):
        return torch.nn.Softmax2d()(x).movedim(1, -1)

    def jax(x):
        return jax.nn.softmax(jnp.moveaxis(x, 1, -1))


class MaskedSoftmax(Pair):
    """Softmax over some of the positions"""

    inputs = {"x": normal(4, 5), "mask": lambda rng: rng.random((4, 5)) < [1, 0.5, 0.5, 0.5, 0.5]}
    note = "True means *counts*. A row without any position is NaN in PyTorch; here it is zeros, with zero gradient."

    def torch(x, mask):
        return x.masked_fill(~mask, -torch.inf).softmax(-1)

    def jax(x, mask):
        return jax.nn.softmax(x, where=mask)

    def claims():
        nothing = torch.full((1, 3), -torch.inf).softmax(-1)
        f = lambda x: jax.nn.softmax(x, where=jnp.zeros(3, bool))  # noqa: E731
        assert bool(nothing.isnan().all()) and not f(jnp.ones(3)).any()
        assert not jax.grad(lambda x: (f(x) * x).sum())(jnp.ones(3)).any()


class GumbelSoftmax(Pair):
    """Gumbel softmax"""

    inputs = {"logits": normal(5), "key": key()}
    tolerance = 0.02
    no_gradient = "random draws"
    note = (
        "Compared: means and spreads of 20,000 draws. `hard=True`: a one-hot forward and the soft gradient, by "
        "`stop_gradient`."
    )

    def torch(logits):
        torch.manual_seed(0)
        draws = F.gumbel_softmax(logits.expand(20_000, 5), tau=0.5)
        return draws.mean(0), draws.std(0)

    def jax(logits, key):
        noise = jax.random.gumbel(key, (20_000, 5))
        draws = jax.nn.softmax((logits + noise) / 0.5)
        return draws.mean(0), draws.std(0)

    def claims():
        logits = np.array([0.3, -1, 2], np.float32)
        x = torch.tensor(logits, requires_grad=True)
        torch.manual_seed(0)
        noise = -torch.empty(3).exponential_().log()
        torch.manual_seed(0)
        theirs = F.gumbel_softmax(x, tau=0.5, hard=True)
        (slope,) = torch.autograd.grad((theirs * torch.arange(3.0)).sum(), x)

        def hard(x):
            soft = jax.nn.softmax((x + noise.numpy()) / 0.5)
            return soft + jax.lax.stop_gradient(jax.nn.one_hot(soft.argmax(), 3) - soft)

        np.testing.assert_allclose(theirs.detach(), hard(jnp.asarray(logits)), atol=1e-6)
        ours = jax.grad(lambda x: (hard(x) * jnp.arange(3.0)).sum())(jnp.asarray(logits))
        np.testing.assert_allclose(slope, ours, atol=1e-5)
