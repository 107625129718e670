"""Modules

Containers, parameters, buffers, hooks and modes. NNX's modules hold their weights, Linen's are handed them. The pairs
below are built from the same weights, carried over by `course.porting`.
"""

import jax
import jax.numpy as jnp
import torch
from flax import linen as nn
from flax import nnx

from rosetta.kinds import Layer, Pair, normal


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
