"""Modules

Containers, parameters, buffers, hooks and modes. NNX's modules hold their weights, Linen's are handed them. The pairs
below are built from the same weights, carried over by `course.porting`.
"""

import copy

import jax
import jax.flatten_util
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from course import porting
from rosetta.kinds import Layer, Pair, normal, raises

with torch.random.fork_rng():
    torch.manual_seed(0)
    MODEL = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


class OwnModule(Layer):
    """A module with a list of layers"""

    also = ("nn.Module", "nn.ModuleList", "nn.Module.add_module", "nn.Module.register_module")
    inputs = {"x": normal(5, 4)}
    note = (
        "A plain list of modules raises in NNX: `nnx.List` is its `ModuleList`. Linen's `setup` takes plain lists. For "
        "`add_module(name, layer)` write `setattr(self, name, layer)`."
    )

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

    def claims():
        class Model(nnx.Module):
            def __init__(self):
                self.blocks = [nnx.Linear(4, 4, rngs=nnx.Rngs(0))]

        assert raises(ValueError, Model)
        model, name = nnx.Module(), "head"
        setattr(model, name, nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
        assert set(nnx.to_pure_dict(nnx.state(model))) == {name}


class ModuleDict(Layer):
    """A module with a dict of layers"""

    inputs = {"x": normal(5, 3)}
    note = (
        "A plain dict of modules raises in NNX, as a plain list does. Linen's `setup` takes it, and calls the layers "
        "`heads_cat` and `heads_dog`."
    )

    def torch():
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.heads = torch.nn.ModuleDict({name: torch.nn.Linear(3, 2) for name in ("cat", "dog")})

            def forward(self, x):
                return self.heads["cat"](x) - self.heads["dog"](x)

        return Model()

    def nnx(rngs):
        class Model(nnx.Module):
            def __init__(self, rngs):
                self.heads = nnx.Dict({name: nnx.Linear(3, 2, rngs=rngs) for name in ("cat", "dog")})

            def __call__(self, x):
                return self.heads["cat"](x) - self.heads["dog"](x)

        return Model(rngs)

    def claims():
        class Model(nnx.Module):
            def __init__(self):
                self.heads = {"cat": nnx.Linear(3, 2, rngs=nnx.Rngs(0))}

        assert raises(ValueError, Model)

        class InLinen(nn.Module):
            def setup(self):
                self.heads = {name: nn.Dense(2) for name in ("cat", "dog")}

            def __call__(self, x):
                return self.heads["cat"](x) - self.heads["dog"](x)

        variables = InLinen().init(jax.random.key(0), jnp.ones((1, 3)))
        assert variables["params"].keys() == {"heads_cat", "heads_dog"}


class Sequential(Layer):
    """Layers in a row"""

    also = ("nn.Sequential",)
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


class RemoveHead(Layer):
    """Take the last layer off"""

    inputs = {"x": normal(5, 3)}
    also = ("nn.Identity",)

    def torch():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        model[2] = torch.nn.Identity()
        return model

    def nnx(rngs):
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))
        return nnx.Sequential(*model.layers[:-1])

    def linen():
        model = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
        return nn.Sequential(model.layers[:-1])


class OwnParameter(Layer):
    """A weight of your own"""

    also = ("nn.Parameter", "nn.Module.register_parameter")
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


class ParameterDict(Pair):
    """A dict or a list of parameters"""

    note = "In Linen parameters are in dicts in any case. `nnx.List` of `nnx.Param` is the ParameterList."
    also = ("nn.ParameterList",)

    def torch():
        values = torch.nn.ParameterDict({"scale": torch.ones(3), "shift": torch.zeros(2)})
        return {name: value.detach() for name, value in values.items()}

    def nnx():
        values = nnx.Dict({"scale": nnx.Param(jnp.ones(3)), "shift": nnx.Param(jnp.zeros(2))})
        return nnx.to_pure_dict(nnx.state(values, nnx.Param))

    def claims():
        values = nnx.List([nnx.Param(jnp.ones(3)), nnx.Param(jnp.zeros(2))])
        assert [w.shape for w in jax.tree.leaves(nnx.state(values, nnx.Param))] == [(3,), (2,)]


class Buffer(Layer):
    """A buffer: saved, not trained"""

    also = ("nn.Buffer", "nn.Module.register_buffer")
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

    def claims():
        model = Buffer.sides()["nnx"](nnx.Rngs(0))
        assert set(nnx.grad(lambda model: model(jnp.ones((1, 4))).sum())(model)) == {"out"}
        assert set(nnx.to_pure_dict(nnx.state(model))) == {"mean", "out"}
        assert Buffer.sides()["linen"]().init(jax.random.key(0), jnp.ones((1, 4))).keys() == {"params", "buffers"}


class NamedBuffers(Pair):
    """Names of the buffers"""

    note = "A filter by type picks what you want: `nnx.BatchStat`, `nnx.Param`, `nnx.RngState`; in Linen, a collection."
    also = ("nn.Module.buffers", "nn.Module.named_buffers", "nn.Module.get_buffer")

    def torch():
        norm = torch.nn.BatchNorm1d(3)
        return sorted(name.removeprefix("running_") for name, buffer in norm.named_buffers() if buffer.ndim)

    def nnx():
        norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        return sorted(nnx.to_pure_dict(nnx.state(norm, nnx.BatchStat)))

    def linen():
        norm = nn.BatchNorm(use_running_average=False)
        return sorted(norm.init(jax.random.key(0), jnp.ones((2, 3)))["batch_stats"])

    def claims():
        drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        assert len(jax.tree.leaves(nnx.state(drop, nnx.RngState))) == 2  # a key and a counter


class CountWeights(Pair):
    """Count the parameters"""

    also = ("nn.Module.parameters",)

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

    also = ("nn.Module.named_parameters", "nn.Module.state_dict")
    note = "Compared: the names of the layers, and the number of weights. Flax sorts by name, PyTorch by creation."

    def torch():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        return sorted((name.split(".")[0], p.numel()) for name, p in model.named_parameters())

    def nnx():
        rngs = nnx.Rngs(0)
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))
        weights = nnx.to_flat_state(nnx.state(model, nnx.Param))
        return sorted((str(path[1]), p[...].size) for path, p in weights)  # path: ("layers", 0, "kernel")


class WalkLayers(Pair):
    """Walk over all layers"""

    note = (
        "`nnx.iter_graph` gives parents after their children, variables too. In Linen: `nn.tabulate`, or the tree "
        "itself."
    )
    also = (
        "nn.Module.modules", "nn.Module.named_modules", "nn.Module.children", "nn.Module.named_children",
    )  # fmt: skip

    def torch():
        inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        model = torch.nn.Sequential(inner, torch.nn.Linear(4, 2))
        return sorted(name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear))

    def nnx():
        inner = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu)
        model = nnx.Sequential(inner, nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
        paths = [path for path, layer in nnx.iter_graph(model) if isinstance(layer, nnx.Linear)]
        return sorted(".".join(str(part) for part in path if part != "layers") for path in paths)

    def claims():
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
        found = [node for _, node in nnx.iter_graph(model)]
        assert found[-1] is model and any(node is model.layers[0].kernel for node in found)


class LayerByPath(Pair):
    """A layer by its path"""

    also = ("nn.Module.get_submodule", "nn.Module.get_parameter")

    def torch():
        inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        model = torch.nn.Sequential(inner, torch.nn.Linear(4, 2))
        return tuple(model.get_submodule("0.0").weight.T.shape), tuple(model.get_parameter("1.bias").shape)

    def nnx():
        inner = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu)
        model = nnx.Sequential(inner, nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
        return model.layers[0].layers[0].kernel.shape, nnx.state(model)["layers"][1]["bias"].shape

    def linen():
        model = nn.Sequential([nn.Sequential([nn.Dense(4), nn.relu]), nn.Dense(2)])
        params = model.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
        return params["layers_0"]["layers_0"]["kernel"].shape, params["layers_1"]["bias"].shape


class PenaliseWeights(Pair):
    """Squares of all parameters, summed (L2 penalty)"""

    inputs = {"x": normal(4, 3)}
    tolerance = 2e-5
    no_gradient = "of the weights, compared here"
    also = ("nn.Module.parameters",)

    def torch(x):
        layer = torch.nn.Linear(3, 2, bias=False)
        torch.nn.init.constant_(layer.weight, 0.5)
        (layer(x).sum() + 0.1 * sum(weight.square().sum() for weight in layer.parameters())).backward()
        return layer.weight.grad.T

    def nnx(x):
        def loss(layer):
            squares = [(weight**2).sum() for weight in jax.tree.leaves(nnx.state(layer, nnx.Param))]
            return layer(x).sum() + 0.1 * sum(squares)

        layer = nnx.Linear(3, 2, kernel_init=nnx.initializers.constant(0.5), use_bias=False, rngs=nnx.Rngs(0))
        return nnx.grad(loss)(layer)["kernel"][...]


class OneVector(Pair):
    """All weights as one vector, and back"""

    inputs = {"weight": normal(4, 3), "bias": normal(4)}
    no_gradient = "PyTorch writes into the parameters"
    note = "The order is another: flax's names are sorted, bias before kernel, and the kernel is transposed."
    also = ("nn.utils.parameters_to_vector", "nn.utils.vector_to_parameters")

    def torch(weight, bias):
        params = [torch.nn.Parameter(weight), torch.nn.Parameter(bias)]
        vector = torch.nn.utils.parameters_to_vector(params)
        torch.nn.utils.vector_to_parameters(2 * vector, params)
        return len(vector), params[0].T, params[1]

    def jax(weight, bias):
        vector, unravel = jax.flatten_util.ravel_pytree({"kernel": weight.T, "bias": bias})
        params = unravel(2 * vector)
        return len(vector), params["kernel"], params["bias"]


class TrainEval(Pair):
    """Switch between training and evaluation"""

    also = ("nn.Module.train", "nn.Module.eval")
    inputs = {"x": normal(8, 3)}
    no_gradient = "PyTorch's own is off where the averages change before `backward`"
    note = "Linen's models have no mode: it is an argument of the call, here `use_running_average`."

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

    def linen(x):
        norm = nn.BatchNorm()
        variables = norm.init(jax.random.key(0), x, use_running_average=True)
        evaluated = norm.apply(variables, x, use_running_average=True)
        trained, updated = norm.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        return evaluated, trained


class FrozenNorm(Pair):
    """Batch normalisation that stays in evaluation"""

    inputs = {"x": normal(16, 3)}
    no_gradient = "the averages are no part of the graph"
    note = "`model.train()` reaches every layer, so the norms are set back after it, on both sides."

    def torch(x):
        model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3))
        model.train()
        model[0].eval()
        model(x)
        return model[0].running_mean, model[1].running_mean

    def nnx(x):
        model = nnx.Sequential(*(nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0)) for _ in range(2)))
        model.train()
        model.layers[0].eval()
        model(x)
        return model.layers[0].mean[...], model.layers[1].mean[...]


class TrainLastLayer(Pair):
    """Gradients of the last layer only"""

    also = ("nn.Module.requires_grad_",)
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


class CopyModel(Pair):
    """Copy a model"""

    note = "`copy.deepcopy` works for NNX's modules as well. Linen's weights are never changed: nothing to copy."

    def torch():
        model = torch.nn.Linear(3, 4)
        other = copy.deepcopy(model)
        torch.nn.init.ones_(other.bias)
        return bool((model.bias == 1).any()), bool((other.bias == 1).all())

    def nnx():
        model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        other = nnx.clone(model)
        other.bias[...] = jnp.ones(4)
        return bool((model.bias[...] == 1).any()), bool((other.bias[...] == 1).all())

    def claims():
        model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        other = copy.deepcopy(model)
        other.bias[...] = jnp.ones(4)
        assert not model.bias.any() and other.bias.all()


class SharedLayer(Pair):
    """One layer used twice"""

    note = "Tied by assignment: `decoder.kernel = encoder.kernel` in NNX, one `nnx.Param` with two names."

    def torch():
        layer = torch.nn.Linear(4, 4)
        model = torch.nn.Sequential(layer, torch.nn.ReLU(), layer)
        return sum(weight.numel() for weight in model.parameters())

    def nnx():
        layer = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
        model = nnx.Sequential(layer, nnx.relu, layer)
        return sum(weight.size for weight in jax.tree.leaves(nnx.state(model, nnx.Param)))

    def linen():
        layer = nn.Dense(4)
        variables = nn.Sequential([layer, nn.relu, layer]).init(jax.random.key(0), jnp.ones((1, 4)))
        return sum(weight.size for weight in jax.tree.leaves(variables))

    def claims():
        encoder, decoder = (nnx.Linear(4, 4, use_bias=False, rngs=nnx.Rngs(0)) for _ in range(2))
        decoder.kernel = encoder.kernel
        model = nnx.Sequential(encoder, decoder)
        assert [weight.size for weight in jax.tree.leaves(nnx.state(model, nnx.Param))] == [16]
        ones = nnx.grad(lambda model: model(jnp.ones((1, 4))).sum())(model)
        assert len(jax.tree.leaves(ones)) == 1


class LazySizes(Pair):
    """Layers that find out their input's size"""

    inputs = {"x": normal(5, 3)}
    no_gradient = "shapes"
    note = "Linen's layers see it at `init`, NNX's want to be told."
    also = (
        "nn.LazyLinear", "nn.LazyConv1d", "nn.LazyConv2d", "nn.LazyConv3d", "nn.LazyBatchNorm1d", "nn.LazyBatchNorm2d",
        "nn.LazyConvTranspose1d", "nn.LazyConvTranspose2d",
        "nn.LazyBatchNorm3d", "nn.LazyConvTranspose3d", "nn.LazyInstanceNorm1d", "nn.LazyInstanceNorm2d",
        "nn.LazyInstanceNorm3d",
    )  # fmt: skip

    def torch(x):
        layer = torch.nn.LazyLinear(4)
        layer(x)
        return layer.in_features

    def nnx(x):
        return nnx.Linear(x.shape[-1], 4, rngs=nnx.Rngs(0)).in_features

    def linen(x):
        return nn.Dense(4).init(jax.random.key(0), x)["params"]["kernel"].shape[0]


class PromotedInput(Pair):
    """A float32 input to a bfloat16 layer"""

    inputs = {"x": normal(5, 3)}
    trap = (
        "PyTorch raises. Flax promotes weights and input to float32 and works in that, without a word; with `dtype=` "
        "it works in bfloat16, whatever comes in."
    )

    def torch(x):
        return torch.nn.Linear(3, 4).to(torch.bfloat16)(x)

    def nnx(x):
        return nnx.Linear(3, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(x)

    def linen(x):
        return nn.Dense(4, param_dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x)[0]

    def fix(x):
        return nnx.Linear(3, 4, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(x)

    def differ(theirs, ours, fixed):
        return isinstance(theirs, RuntimeError) and ours.dtype == jnp.float32 and fixed.dtype == jnp.bfloat16


class FunctionalCall(Pair):
    """A module as a function of its weights"""

    inputs = {"x": normal(5, 3), "weight": normal(4, 3), "bias": normal(4)}
    note = "`nnx.split` gives the definition, which is no array, and the state; any state of that structure fits."
    also = ("nn.utils.stateless.functional_call",)

    def torch(x, weight, bias):
        return torch.func.functional_call(torch.nn.Linear(3, 4), {"weight": weight, "bias": bias}, (x,))

    def nnx(x, weight, bias):
        definition, state = nnx.split(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
        nnx.replace_by_pure_dict(state, {"kernel": weight.T, "bias": bias})
        return nnx.merge(definition, state)(x)

    def linen(x, weight, bias):
        return nn.Dense(4).apply({"params": {"kernel": weight.T, "bias": bias}}, x)


class Ensemble(Pair):
    """Several models at once"""

    inputs = {"x": normal(5, 3)}
    no_gradient = "other weights on each side"
    note = "Compared: the shape of the outputs, and whether those of the second model are what it returns alone."
    also = ("func.stack_module_state",)

    def torch(x):
        models = [torch.nn.Linear(3, 2) for _ in range(4)]
        weights, buffers = torch.func.stack_module_state(models)
        outputs = torch.func.vmap(lambda w: torch.func.functional_call(models[0], w, x))(weights)
        return tuple(outputs.shape), torch.allclose(outputs[1], models[1](x), atol=1e-6)

    def nnx(x):
        keys = jax.random.split(jax.random.key(0), 4)
        models = nnx.vmap(lambda key: nnx.Linear(3, 2, rngs=nnx.Rngs(key)))(keys)
        outputs = nnx.vmap(lambda model: model(x))(models)
        second = nnx.Linear(3, 2, rngs=nnx.Rngs(keys[1]))
        return outputs.shape, bool(jnp.allclose(outputs[1], second(x), atol=1e-6))

    def linen(x):
        keys, layer = jax.random.split(jax.random.key(0), 4), nn.Dense(2)
        variables = jax.vmap(layer.init, (0, None))(keys, x)
        outputs = jax.vmap(layer.apply, (0, None))(variables, x)
        second = layer.apply(layer.init(keys[1], x), x)
        return outputs.shape, bool(jnp.allclose(outputs[1], second, atol=1e-6))


class Parametrisation(Pair):
    """A weight computed from another (parametrize)"""

    inputs = {"x": normal(5, 3), "raw": normal(4, 3)}
    note = "Keep what is trained as the parameter, and compute the weight in the call."
    also = ("nn.utils.parametrize.register_parametrization",)

    def torch(x, raw):
        layer = torch.nn.Linear(3, 4, bias=False)
        torch.nn.utils.parametrize.register_parametrization(layer, "weight", torch.nn.Softplus())
        return torch.func.functional_call(layer, {"parametrizations.weight.original": raw}, x)

    def jax(x, raw):
        return x @ jax.nn.softplus(raw).T


class Hooks(Pair):
    """What the layers return (forward hooks)"""

    also = ("nn.Module.register_forward_hook",)
    inputs = {"x": normal(5, 3)}
    no_gradient = "intermediate results"
    note = "NNX: call the layers one by one. (`MODEL` is two linear layers of PyTorch's in a row.)"

    def torch(x):
        model, seen = copy.deepcopy(MODEL), {}
        for name, layer in model.named_children():
            layer.register_forward_hook(lambda layer, args, output, name=name: seen.update({name: output}))
        model(x)
        return seen["0"], seen["1"]

    def nnx(x):
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
        seen = [x]
        for layer in porting.torch_to_nnx(MODEL, model).layers:
            seen.append(layer(seen[-1]))
        return seen[1:]

    def linen(x):
        model = nn.Sequential([nn.Dense(4), nn.Dense(2)])
        variables = porting.torch_to_linen(MODEL, jax.eval_shape(model.init, jax.random.key(0), x))
        _, state = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
        return [state["intermediates"][name]["__call__"][0] for name in ("layers_0", "layers_1")]


class ChangingHooks(Pair):
    """Hooks that change a layer's input or output"""

    inputs = {"x": normal(5, 3), "weight": normal(4, 3)}
    note = "NNX has no hooks: a subclass. Linen's interceptor sees every call of a method, `context.module` says whose."
    also = (
        "nn.Module.register_forward_pre_hook", "nn.Module.register_forward_hook",
        "nn.modules.module.register_module_forward_hook",
    )  # fmt: skip

    def torch(x, weight):
        layer = torch.nn.Linear(3, 4, bias=False)
        layer.register_forward_pre_hook(lambda layer, args: (args[0] + 1,))
        layer.register_forward_hook(lambda layer, args, output: 2 * output)
        return torch.func.functional_call(layer, {"weight": weight}, x)

    def nnx(x, weight):
        class Hooked(nnx.Linear):
            def __call__(self, x):
                return 2 * super().__call__(x + 1)

        return Hooked(3, 4, kernel_init=lambda *_: weight.T, use_bias=False, rngs=nnx.Rngs(0))(x)

    def linen(x, weight):
        def hook(call, args, kwargs, context):
            return 2 * call(args[0] + 1)

        with nn.intercept_methods(hook):
            return nn.Dense(4, use_bias=False).apply({"params": {"kernel": weight.T}}, x)

    def claims():
        seen = []
        with nn.intercept_methods(lambda call, args, kwargs, context: seen.append(context) or call(*args, **kwargs)):
            nn.Dense(4).init_with_output(jax.random.key(0), jnp.ones((1, 3)))
        assert isinstance(seen[-1].module, nn.Dense) and seen[-1].method_name == "__call__"


class BackwardHook(Pair):
    """Gradient at a layer's output (backward hook)"""

    inputs = {"x": normal(5, 3), "first": normal(4, 3), "second": normal(2, 4)}
    no_gradient = "it is one"
    note = "Cut the model there. A hook that *changes* a gradient is a backward pass of your own: `jax.custom_vjp`."
    also = ("nn.Module.register_full_backward_hook",)

    def torch(x, first, second):
        seen, layer = [], torch.nn.Linear(3, 4, bias=False)
        layer.weight = torch.nn.Parameter(first)
        layer.register_full_backward_hook(lambda layer, inputs, outputs: seen.append(outputs[0]))
        F.linear(torch.tanh(layer(x.requires_grad_())), second).sum().backward()
        return seen[0]

    def jax(x, first, second):
        hidden = x @ first.T
        return jax.grad(lambda hidden: (jnp.tanh(hidden) @ second.T).sum())(hidden)
