"""Initialisation

An initialiser of JAX is a function of a key, a shape and a dtype that returns the weights; a layer takes it as
`kernel_init` or `bias_init`. Kernels are (in, out) there and (out, in) in PyTorch, so `fan_in` means the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen as nn
from flax import nnx

from course import layers
from rosetta.kinds import Pair, key


class LinearInit(Pair):
    """Initial weights of a linear layer"""

    also = ("nn.Linear.reset_parameters",)
    inputs = {"key": key()}
    tolerance = 0.02
    no_gradient = "random draws"
    trap = (
        "PyTorch draws weights and biases uniformly within ±1/√in. Flax draws the weights from a truncated normal, "
        "wider by √3, and sets the biases to zero. (Compared: spreads times √in.)"
    )
    lesson = ("02_same_numbers", "trap:linear-init")

    def torch():
        torch.manual_seed(0)
        layer = torch.nn.Linear(100, 2000)
        return tuple(weight.std() * 100**0.5 for weight in (layer.weight, layer.bias))

    def nnx(key):
        layer = nnx.Linear(100, 2000, rngs=nnx.Rngs(key))
        return tuple(weight[...].std() * 100**0.5 for weight in (layer.kernel, layer.bias))

    def fix(key):
        def bias_init(key, shape, dtype):
            return jax.random.uniform(key, shape, dtype, -(100**-0.5), 100**-0.5)

        kernel_init = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        layer = nnx.Linear(100, 2000, kernel_init=kernel_init, bias_init=bias_init, rngs=nnx.Rngs(key))
        return tuple(weight[...].std() * 100**0.5 for weight in (layer.kernel, layer.bias))

    def differ(theirs, ours):
        return abs(ours[0] / theirs[0].item() - 3**0.5) < 0.02 and ours[1] == 0


class ConvolutionInit(Pair):
    """Initial weights of a convolution"""

    inputs = {"key": key()}
    tolerance = 0.02
    no_gradient = "random draws"
    trap = (
        "As for a linear layer, with n = in × height × width: PyTorch draws weights and biases uniformly within ±1/√n, "
        "flax's weights are wider by √3, and its biases zero. (Compared: spreads times √n.)"
    )

    def torch():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(32, 1000, 3)
        return tuple(weight.std() * 288**0.5 for weight in (layer.weight, layer.bias))

    def nnx(key):
        layer = nnx.Conv(32, 1000, (3, 3), rngs=nnx.Rngs(key))
        return tuple(weight[...].std() * 288**0.5 for weight in (layer.kernel, layer.bias))

    def fix(key):
        def bias(key, shape, dtype):
            return jax.random.uniform(key, shape, dtype, -(288**-0.5), 288**-0.5)

        kernel = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        layer = nnx.Conv(32, 1000, (3, 3), kernel_init=kernel, bias_init=bias, rngs=nnx.Rngs(key))
        return tuple(weight[...].std() * 288**0.5 for weight in (layer.kernel, layer.bias))

    def differ(theirs, ours):
        return abs(ours[0] / theirs[0].item() - 3**0.5) < 0.02 and ours[1] == 0 and abs(theirs[1] - 3**-0.5) < 0.02


class TransposedInit(Pair):
    """Initial weights of a transposed convolution"""

    inputs = {"key": key()}
    tolerance = 0.02
    no_gradient = "random draws"
    trap = (
        "PyTorch takes the *output* channels for the inputs here, since the weight is (in, out, height, width). "
        "(Compared: the spread times √(32 × 9), of 128 channels to 32.)"
    )

    def torch():
        torch.manual_seed(0)
        return torch.nn.ConvTranspose2d(128, 32, 3).weight.std() * 288**0.5

    def nnx(key):
        return nnx.ConvTranspose(128, 32, (3, 3), rngs=nnx.Rngs(key)).kernel[...].std() * 288**0.5

    def fix(key):
        kernel = jax.nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        return nnx.ConvTranspose(128, 32, (3, 3), kernel_init=kernel, rngs=nnx.Rngs(key)).kernel[...].std() * 288**0.5

    def differ(theirs, ours):
        return abs(theirs - 3**-0.5) < 0.01 and abs(ours - 0.5) < 0.01


class EmbeddingInit(Pair):
    """Initial weights of an embedding"""

    inputs = {"key": key()}
    tolerance = 0.01
    no_gradient = "random draws"
    trap = "A fresh embedding has standard deviation 1 in PyTorch, and 1/√width in flax."
    lesson = ("06b_porting_sequences", "trap:embedding-init")

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


class RecurrentInit(Pair):
    """Initial weights of an LSTM"""

    inputs = {"key": key()}
    tolerance = 0.004
    no_gradient = "random draws"
    trap = (
        "PyTorch draws all weights and biases uniformly within ±1/√hidden. Flax's input kernels are LeCun normal, its "
        "recurrent ones orthogonal, its biases zero. (Compared: the spreads of the three.)"
    )

    def torch():
        torch.manual_seed(0)
        cell = torch.nn.LSTMCell(100, 64)
        return cell.weight_ih.std(), cell.weight_hh.std(), cell.bias_hh.std()

    def nnx(key):
        cell = nnx.OptimizedLSTMCell(100, 64, rngs=nnx.Rngs(key))
        return cell.dense_i.kernel[...].std(), cell.dense_h.kernel[...].std(), cell.dense_h.bias[...].std()

    def fix(key):
        def u(key, shape, dtype):
            return jax.random.uniform(key, shape, dtype, -1 / 8, 1 / 8)

        same = {"kernel_init": u, "recurrent_kernel_init": u, "bias_init": u}
        cell = layers.LSTMCell(100, 64, **same, rngs=nnx.Rngs(key))  # from course import layers
        return cell.dense_i.kernel[...].std(), cell.dense_h.kernel[...].std(), cell.dense_h.bias[...].std()

    def differ(theirs, ours):
        kernel, recurrent, bias = (float(spread) for spread in ours)
        ours_are = abs(kernel - 0.1) < 0.01 and abs(recurrent - 1 / 16) < 0.01 and bias == 0
        return np.allclose([spread.item() for spread in theirs], 1 / 8 / 3**0.5, atol=0.01) and ours_are


class AttentionInit(Pair):
    """Initial weights of attention"""

    inputs = {"key": key()}
    tolerance = 0.03
    no_gradient = "random draws"
    trap = (
        "PyTorch draws query, key and value by Xavier's rule for the three of them together, and the output as in a "
        "linear layer; flax draws all four from LeCun's normal distribution. All biases are zero. (Compared: spreads "
        "times √width, of the query and of the output.)"
    )

    def torch():
        torch.manual_seed(0)
        layer = torch.nn.MultiheadAttention(64, 2)
        return layer.in_proj_weight[:64].std() * 8, layer.out_proj.weight.std() * 8

    def nnx(key):
        layer = nnx.MultiHeadAttention(2, 64, decode=False, rngs=nnx.Rngs(key))
        return layer.query.kernel[...].std() * 8, layer.out.kernel[...].std() * 8

    def fix(key):
        qkv, out = (nnx.initializers.variance_scaling(scale, "fan_in", "uniform") for scale in (1 / 2, 1 / 3))
        options = {"kernel_init": qkv, "out_kernel_init": out, "decode": False}
        layer = nnx.MultiHeadAttention(2, 64, **options, rngs=nnx.Rngs(key))
        return layer.query.kernel[...].std() * 8, layer.out.kernel[...].std() * 8

    def differ(theirs, ours):
        theirs = [spread.item() for spread in theirs]
        return np.allclose(theirs, (0.5**0.5, 3**-0.5), atol=0.03) and np.allclose(ours, 1, atol=0.03)

    def claims():
        theirs = torch.nn.MultiheadAttention(64, 2)
        ours = nnx.MultiHeadAttention(2, 64, decode=False, rngs=nnx.Rngs(0))
        assert not theirs.in_proj_bias.any() and not theirs.out_proj.bias.any()
        assert not any(layer.bias[...].any() for layer in (ours.query, ours.key, ours.value, ours.out))


class OwnInit(Pair):
    """Initial values of your own"""

    no_gradient = "constants"
    note = "An initialiser is any function of a key, a shape and a dtype."

    def torch():
        layer = torch.nn.Linear(3, 4)
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.constant_(layer.bias, 0.5)
        return layer.weight.T, layer.bias

    def nnx():
        eye = lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype)  # noqa: E731
        layer = nnx.Linear(3, 4, kernel_init=eye, bias_init=nnx.initializers.constant(0.5), rngs=nnx.Rngs(0))
        return layer.kernel[...], layer.bias[...]

    def linen():
        eye = lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype)  # noqa: E731
        layer = nn.Dense(4, kernel_init=eye, bias_init=nn.initializers.constant(0.5))
        params = layer.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
        return params["kernel"], params["bias"]


class InitialiseAgain(Pair):
    """Initialise all linear layers of a built model"""

    note = "In Linen, weights are a tree: `jax.tree_util.tree_map_with_path(function, params)`. (Compared: the biases.)"
    also = ("nn.Module.apply",)

    def torch():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        model.apply(lambda layer: isinstance(layer, torch.nn.Linear) and torch.nn.init.constant_(layer.bias, 0.1))
        return model[0].bias, model[2].bias

    def nnx():
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
        for _, layer in nnx.iter_graph(model):
            if isinstance(layer, nnx.Linear):
                layer.bias[...] = jnp.full_like(layer.bias, 0.1)
        return model.layers[0].bias[...], model.layers[2].bias[...]

    def claims():
        params = nn.Dense(4).init(jax.random.key(0), jnp.ones((1, 3)))["params"]
        new = jax.tree_util.tree_map_with_path(lambda path, x: x + 0.1 if path[-1].key == "bias" else x, params)
        assert new["bias"].tolist() == [jnp.float32(0.1)] * 4 and new["kernel"] is params["kernel"]


class SameSeed(Pair):
    """The same initial weights again"""

    note = "A seed of a model's own does not touch any other stream of numbers; PyTorch's sets the global one."
    also = ("torch.manual_seed",)

    def torch():
        torch.manual_seed(0)
        first = torch.nn.Linear(3, 4)
        torch.manual_seed(0)
        return torch.equal(first.weight, torch.nn.Linear(3, 4).weight)

    def nnx():
        first, second = (nnx.Linear(3, 4, rngs=nnx.Rngs(0)) for _ in range(2))
        return bool(jnp.array_equal(first.kernel[...], second.kernel[...]))

    def linen():
        first, second = (nn.Dense(4).init(jax.random.key(0), jnp.ones((1, 3))) for _ in range(2))
        return bool(jnp.array_equal(first["params"]["kernel"], second["params"]["kernel"]))


class InitialisersByName(Pair):
    """Glorot (Xavier) and He (Kaiming) initial weights"""

    inputs = {"key": key()}
    tolerance = 0.001
    no_gradient = "random draws"
    note = (
        "Compared: their spreads. The shape of a kernel is (in, out). For `glorot_normal` and "
        "`he_normal` see below, on their tails."
    )
    also = ("nn.init.xavier_uniform_", "nn.init.kaiming_uniform_")

    def torch():
        torch.manual_seed(0)
        glorot = torch.nn.init.xavier_uniform_(torch.empty(300, 200))
        he = torch.nn.init.kaiming_uniform_(torch.empty(300, 200), nonlinearity="relu")
        return glorot.std(), he.std()

    def jax(key):
        glorot = jax.nn.initializers.glorot_uniform()(key, (200, 300))
        he = jax.nn.initializers.he_uniform()(key, (200, 300))
        return glorot.std(), he.std()


class GainInit(Pair):
    """Xavier with a gain"""

    inputs = {"key": key()}
    tolerance = 0.001
    no_gradient = "random draws"
    note = (
        "A gain is squared in `scale`. `calculate_gain` is a number: tanh 5/3, relu √2, selu 3/4, leaky_relu √(2 / (1 "
        "+ slope²)), else 1."
    )

    def torch():
        torch.manual_seed(0)
        gain = torch.nn.init.calculate_gain("tanh")
        return torch.nn.init.xavier_uniform_(torch.empty(200, 300), gain=gain).std()

    def jax(key):
        tanh = jax.nn.initializers.variance_scaling((5 / 3) ** 2, "fan_avg", "uniform")
        return tanh(key, (300, 200)).std()

    def claims():
        gains = {"tanh": 5 / 3, "relu": 2**0.5, "selu": 3 / 4, "linear": 1, "sigmoid": 1, "conv2d": 1}
        assert {name: torch.nn.init.calculate_gain(name) for name in gains} == gains
        assert torch.nn.init.calculate_gain("leaky_relu", 0.3) == (2 / (1 + 0.3**2)) ** 0.5


class FanOutInit(Pair):
    """Kaiming by the outputs, for leaky ReLU"""

    inputs = {"key": key()}
    tolerance = 0.0005
    no_gradient = "random draws"
    note = "`scale` is 2 / (1 + slope²). PyTorch's own layout: `in_axis=1, out_axis=0`."

    def torch():
        torch.manual_seed(0)
        weight = torch.empty(64, 32, 3, 3)
        return torch.nn.init.kaiming_uniform_(weight, a=0.5, mode="fan_out").std()

    def jax(key):
        he = jax.nn.initializers.variance_scaling(2 / (1 + 0.5**2), "fan_out", "uniform")
        return he(key, (3, 3, 32, 64)).std()

    def claims():
        he = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=1, out_axis=0)
        assert abs(he(jax.random.key(0), (400, 100)).std() - (2 / 100) ** 0.5) < 0.002


class NormalTails(Pair):
    """Tails of Kaiming and Xavier normal weights"""

    inputs = {"key": key()}
    tolerance = 0.002
    no_gradient = "random draws"
    trap = (
        "JAX's `he_normal`, `glorot_normal` and `lecun_normal` cut the normal distribution off, and keep its spread by "
        "widening it: no weight is beyond 2.3 of them. PyTorch's cut nothing. (Compared: spread and share beyond 2.3.)"
    )
    also = ("nn.init.kaiming_normal_", "nn.init.xavier_normal_")

    def torch():
        torch.manual_seed(0)
        weight = torch.nn.init.kaiming_normal_(torch.empty(300, 200))
        return weight.std(), (abs(weight) > 2.3 * (2 / 200) ** 0.5).float().mean()

    def jax(key):
        weight = jax.nn.initializers.he_normal()(key, (200, 300))
        return weight.std(), (abs(weight) > 2.3 * (2 / 200) ** 0.5).mean()

    def fix(key):
        weight = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")(key, (200, 300))
        return weight.std(), (abs(weight) > 2.3 * (2 / 200) ** 0.5).mean()

    def differ(theirs, ours):
        return abs(theirs[0].item() - ours[0]) < 0.002 and theirs[1] > 0.018 and ours[1] == 0

    def claims():
        key, names = jax.random.key(0), {"he_normal": 2 / 100, "glorot_normal": 2 / 200, "lecun_normal": 1 / 100}
        for name, variance in names.items():
            weight = getattr(jax.nn.initializers, name)()(key, (100, 100))
            assert 2.2 < abs(weight).max() / variance**0.5 < 2.3


class NormalInit(Pair):
    """Normal initial weights by default"""

    inputs = {"key": key()}
    tolerance = 0.02
    no_gradient = "random draws"
    also = ("nn.init.normal_",)
    trap = "`nn.init.normal_` has a spread of 1 by default, JAX's `normal()` of 0.01."

    def torch():
        torch.manual_seed(0)
        return torch.nn.init.normal_(torch.empty(200, 300)).std()

    def jax(key):
        return jax.nn.initializers.normal()(key, (300, 200)).std()

    def fix(key):
        return jax.nn.initializers.normal(1.0)(key, (300, 200)).std()

    def differ(theirs, ours):
        return abs(theirs - 1) < 0.02 and abs(ours - 0.01) < 0.0002


class UniformInit(Pair):
    """Uniform initial weights between two bounds"""

    inputs = {"key": key()}
    tolerance = 0.01
    no_gradient = "random draws"
    trap = (
        "JAX's `uniform(scale)` draws from 0 to scale, 0.01 by default; PyTorch's `uniform_` from 0 to 1 or as told. "
        "(Compared: minimum, mean and maximum.)"
    )

    def torch():
        torch.manual_seed(0)
        weight = torch.nn.init.uniform_(torch.empty(200, 300), -0.5, 0.5)
        return weight.min(), weight.mean(), weight.max()

    def jax(key):
        weight = jax.nn.initializers.uniform(0.5)(key, (300, 200))
        return weight.min(), weight.mean(), weight.max()

    def fix(key):
        weight = jax.random.uniform(key, (300, 200), minval=-0.5, maxval=0.5)
        return weight.min(), weight.mean(), weight.max()

    def differ(theirs, ours):
        return np.allclose(theirs, (-0.5, 0, 0.5), atol=0.01) and np.allclose(ours, (0, 0.25, 0.5), atol=0.01)

    def claims():
        theirs = torch.nn.init.uniform_(torch.empty(1000))
        ours = jax.nn.initializers.uniform()(jax.random.key(0), (1000,))
        assert theirs.min() >= 0 and 0.9 < theirs.max() < 1 and ours.min() >= 0 and 0.009 < ours.max() < 0.01


class TruncatedInit(Pair):
    """Truncated normal initial weights"""

    also = ("nn.init.trunc_normal_",)
    inputs = {"key": key()}
    tolerance = 0.0005
    no_gradient = "random draws"
    trap = (
        "PyTorch cuts at -2 and 2 as they are, with `std=0.02` nothing at all; JAX cuts at two standard deviations, "
        "and the spread comes out as 0.0176."
    )

    def torch():
        torch.manual_seed(0)
        return torch.nn.init.trunc_normal_(torch.empty(200, 300), std=0.02).std()

    def jax(key):
        return jax.nn.initializers.truncated_normal(0.02)(key, (300, 200)).std()

    def fix(key):
        cut = jax.nn.initializers.truncated_normal(0.02, lower=-2 / 0.02, upper=2 / 0.02)
        return cut(key, (300, 200)).std()

    def differ(theirs, ours):
        return abs(theirs - 0.02) < 0.0003 and abs(ours - 0.0176) < 0.0003


class ConstantInit(Pair):
    """Ones, zeros, one value and the identity"""

    no_gradient = "constants"
    note = "A layer takes such functions as `kernel_init`; for the identity, one of your own that returns `jnp.eye`."
    also = ("nn.init.constant_", "nn.init.ones_", "nn.init.zeros_", "nn.init.eye_")

    def torch():
        weight = torch.empty(3, 3)
        ones, value = torch.nn.init.ones_(weight).clone(), torch.nn.init.constant_(weight, 0.5).clone()
        return ones, value, torch.nn.init.eye_(weight)

    def jax():
        key, shape = jax.random.key(0), (3, 3)
        ones, value = jax.nn.initializers.ones(key, shape), jax.nn.initializers.constant(0.5)(key, shape)
        return ones, value, jnp.eye(*shape)

    def claims():
        def eye(key, shape, dtype):
            return jnp.eye(*shape, dtype=dtype)

        assert nnx.Linear(3, 4, kernel_init=eye, rngs=nnx.Rngs(0)).kernel[...].tolist() == jnp.eye(3, 4).tolist()
        assert not any("eye" in name or "identity" in name for name in dir(jax.nn.initializers))


class DiracInit(Pair):
    """A convolution that starts as the identity"""

    no_gradient = "constants"
    note = "JAX has no `dirac_`: the identity in the middle of zeros. (The kernel is (height, width, in, out).)"
    also = ("nn.init.dirac_",)

    def torch():
        layer = torch.nn.Conv2d(3, 4, 3, padding=1)
        return torch.nn.init.dirac_(layer.weight).permute(2, 3, 1, 0)

    def nnx():
        def dirac(key, shape, dtype):
            return jnp.zeros(shape, dtype).at[1, 1].set(jnp.eye(*shape[2:]))

        return nnx.Conv(3, 4, (3, 3), kernel_init=dirac, rngs=nnx.Rngs(0)).kernel[...]

    def claims():
        assert not any("dirac" in name for name in dir(jax.nn.initializers))


class OrthogonalInit(Pair):
    """Orthogonal initial weights"""

    also = ("nn.init.orthogonal_",)
    inputs = {"key": key()}
    no_gradient = "random draws"
    note = "The other matrix: with more rows than columns the columns are orthonormal, on both sides."

    def torch():
        weight = torch.nn.init.orthogonal_(torch.empty(3, 5), gain=2.0)
        return weight @ weight.T

    def jax(key):
        weight = jax.nn.initializers.orthogonal(2.0)(key, (3, 5))
        return weight @ weight.T

    def claims():
        theirs = torch.nn.init.orthogonal_(torch.empty(5, 3))
        ours = jax.nn.initializers.orthogonal()(jax.random.key(0), (5, 3))
        np.testing.assert_allclose(theirs.T @ theirs, np.eye(3), atol=1e-5)
        np.testing.assert_allclose(ours.T @ ours, np.eye(3), atol=1e-5)


class SparseInit(Pair):
    """Sparse initial weights"""

    inputs = {"key": key()}
    tolerance = 1e-4
    no_gradient = "random draws"
    note = (
        "JAX has no `sparse_`. The same number of zeros for every input unit: a column of PyTorch's matrix, a row of a "
        "kernel. (Compared: these numbers and the spread.)"
    )

    def torch():
        torch.manual_seed(0)
        weight = torch.nn.init.sparse_(torch.empty(100, 300), sparsity=0.3, std=0.01)
        return (weight == 0).sum(0), weight.std()

    def jax(key):
        for_ranks, for_weights = jax.random.split(key)
        ranks = jax.random.uniform(for_ranks, (300, 100)).argsort(axis=1)
        weight = jnp.where(ranks < 30, 0, 0.01 * jax.random.normal(for_weights, (300, 100)))
        return (weight == 0).sum(1), weight.std()

    def claims():
        assert not any("sparse" in name for name in dir(jax.nn.initializers))
