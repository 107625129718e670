# %% [markdown]
# # 07 · Porting checkpoints
#
# **How does a file of weights become a JAX model, and how do you prove that nothing got lost?** (30 minutes)

# %% [markdown]
# After this lesson you can
#
# - fill an NNX or Linen model from a file, without torch, whatever the layers are called there,
# - leave out what flax does without, and keep what only flax has,
# - prove a port by the way back and by an equal training step, and go on with a run that torch began.

# %%
import tempfile
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from course import layers, porting

# %%
SEED, RATE = 0, 1e-2

torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64, so that a gap of 1e-8 is a mistake and not rounding
rng = np.random.default_rng(SEED)


def gap(a, b):
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


# %% [markdown]
# ## A file is names and arrays
#
# In [06](06_porting_layers.ipynb) both models were at hand. What you get from others is a file. Here is one from a
# small torch model; `read_checkpoint` reads `.npz` and `.safetensors` with no torch installed, and `.pt` with it.

# %%
class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 6, 3, stride=2, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(6)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(6, 6) for _ in range(2)])
        self.out = torch.nn.Linear(6, 3)

    def forward(self, x):  # (B, 1, 8, 8)
        x = F.relu(self.norm(self.stem(x))).mean((2, 3))  # (B, 6)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.out(x)


torch.manual_seed(SEED)
torch_net, images = TorchNet().double(), rng.normal(1.0, 1.0, (8, 1, 8, 8))
_ = torch_net(torch.from_numpy(images))  # once in training mode, so that the running averages say something
with tempfile.TemporaryDirectory() as folder:
    np.savez(f"{folder}/net.npz", **{name: tensor.numpy() for name, tensor in torch_net.state_dict().items()})
    arrays = porting.read_checkpoint(f"{folder}/net.npz")
pd.DataFrame([(name, str(a.dtype), a.shape) for name, a in arrays.items()], columns=["name", "dtype", "shape"])


# %% [markdown]
# Nobody says that `stem` is a convolution or `norm` a BatchNorm; flax's module at the same path does, and
# `arrays_to_nnx` lays the weights out for it. Padding in pairs and channels last are from 06; the norm is
# `course.layers.BatchNorm`, flax's with torch's running variance (more of it with the training step).

# %%
class NnxNet(nnx.Module):
    def __init__(self, classes=3, *, rngs):
        self.stem = nnx.Conv(1, 6, (3, 3), strides=2, padding=((1, 1), (1, 1)), use_bias=False, rngs=rngs)
        self.norm = layers.BatchNorm(6, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(2)])
        self.out = nnx.Linear(6, classes, rngs=rngs)

    def __call__(self, x):  # (B, 8, 8, 1)
        x = nnx.relu(self.norm(self.stem(x))).mean((1, 2))
        for block in self.blocks:
            x = x + jnp.tanh(block(x))
        return self.out(x)


nhwc = np.moveaxis(images, 1, -1)
net = porting.arrays_to_nnx(arrays, NnxNet(rngs=nnx.Rngs(SEED)))
net.eval()
assert gap(torch_net.eval()(torch.from_numpy(images)), net(nhwc)) < 1e-12
print(f"{len(arrays)} arrays of a file, the same logits within 1e-12  ok")

# %% [markdown]
# ## Other names
#
# Their paths are seldom yours, and a file holds what you have no use for. Here are the same weights as somebody
# else may have called them. **How many problems will the port report, the first one or all?**

# %%
theirs = {"stem": "encoder.patch", "norm": "encoder.bn", "out": "classifier"}
theirs |= {f"blocks.{n}": f"encoder.layer.{n}.dense" for n in range(2)}
foreign = {}
for name, array in arrays.items():
    layer, _, last = name.rpartition(".")
    foreign[f"{theirs[layer]}.{last}"] = array
foreign["encoder.position_ids"] = np.arange(64)

try:
    porting.arrays_to_nnx(foreign, NnxNet(rngs=nnx.Rngs(SEED)))
except porting.PortingError as error:
    print(f"{len(error.problems)} problems, the first and the last:")
    for problem in error.problems[0], error.problems[-1]:
        print(f"- {problem.torch or problem.flax}:")
        print(textwrap.fill(f"{problem.wrong}; {problem.remedy}", 110))

# %% [markdown]
# All of them, from both sides: 12 arrays without a place (*expected* is where the array would go by its own name, *got*
# the places that are free), then 12 places without an array. Nothing was copied.
#
# `names` says where torch's path leads in flax; a star stands for one part of it, so one line serves every block. (With
# no star on flax's side, `{"encoder.layer.*.dense": "blocks"}`, the layers are stacked along a first axis, as `nn.scan`
# and `nnx.vmap` keep them.) `ignore` names what flax does without.

# %%
names = {"encoder.patch": "stem", "encoder.bn": "norm", "encoder.layer.*.dense": "blocks/*", "classifier": "out"}
named = porting.arrays_to_nnx(foreign, NnxNet(rngs=nnx.Rngs(SEED)), names, ["encoder.position_ids"])
named.eval()
assert gap(net(nhwc), named(nhwc)) == 0
print("the same logits to the bit  ok")

# %% [markdown]
# A key that names nothing is an error as well:

# %%
try:
    porting.mapping(foreign, named, names | {"encoder.layers.*.dense": "blocks/*"}, ["encoder.position_ids"])
except porting.PortingError as error:
    print(textwrap.fill(str(error), 110))

# %% [markdown]
# What only flax has goes into `keep`: it stays as it was drawn. So a new head, five classes instead of three, is
# `keep` for the new layer and `ignore` for the old one.

# %%
headed = NnxNet(classes=5, rngs=nnx.Rngs(SEED))
drawn = np.asarray(headed.out.kernel[...])
body = {path: place for path, place in names.items() if place != "out"}
porting.arrays_to_nnx(foreign, headed, body, ["encoder.position_ids", "classifier"], keep=["out"])
headed.eval()
assert gap(drawn, headed.out.kernel[...]) == 0 and gap(net.stem.kernel[...], headed.stem.kernel[...]) == 0
print("logits:", headed(nhwc).shape, "  the head as it was drawn, the rest from the file  ok")


# %% [markdown]
# ## Lists, and weights of your own
#
# Where the paths differ by habit only, nothing need be said: `blocks.0` of torch is `blocks/0` in NNX and `blocks_0` in
# Linen; the items of a `Sequential` are found as well (the rules are in `course/porting/layouts.py`). Dropout has no
# weights.
#
# A weight of your own keeps its name, its shape *and its axes*: torch's (4, 1, 1) means channels, and channels last it
# falls on the height. Where the height is 4 as well, nothing raises. Here as (4, 1, 1), then as (4,). `(output)` is
# what the model returns: `conv` agrees, so look behind it.

# %%
class TorchGain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.gain = torch.nn.Conv2d(4, 4, 1), torch.nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x):  # (B, 4, 4, 4)
        return self.conv(x) * self.gain


class NnxGain(nnx.Module):
    def __init__(self, shape, *, rngs):
        self.conv, self.shape = nnx.Conv(4, 4, (1, 1), rngs=rngs), shape
        self.gain = nnx.Param(jnp.ones((4, 1, 1)))

    def __call__(self, x):
        return self.conv(x) * self.gain[...].reshape(self.shape)


torch_gain, maps = TorchGain().double(), rng.normal(size=(2, 4, 4, 4))
for shape in ((4, 1, 1), (4,)):
    gained = porting.torch_to_nnx(torch_gain, NnxGain(shape, rngs=nnx.Rngs(SEED)))
    found = porting.compare(torch_gain, gained, maps, np.moveaxis(maps, 1, -1), tolerance=1e-10)
    print("-", str(found).partition("; largest gap")[0])


# %% [markdown]
# A deep recurrent network is one layer in torch, and in flax a list of `RNN`s: one for each level, the second as wide
# as the first one's output, and an `nnx.Bidirectional` of two where it reads both ways. `names` says where they are; ""
# is torch's whole model.

# %%
class Levels(nnx.Module):
    def __init__(self, *, rngs):
        def both_ways(width):
            cells = [nnx.OptimizedLSTMCell(width, 5, param_dtype=jnp.float64, rngs=rngs) for _ in range(2)]
            return nnx.Bidirectional(*(nnx.RNN(cell, rngs=rngs) for cell in cells), rngs=rngs)

        self.levels = nnx.List([both_ways(4), both_ways(10)])

    def __call__(self, x):  # (B, T, 4)
        for level in self.levels:
            x = level(x)  # (B, T, 10)
        return x


words = rng.normal(size=(2, 6, 4))
deep = torch.nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True).double()
levels = porting.torch_to_nnx(deep, Levels(rngs=nnx.Rngs(SEED)), names={"": "levels"})
assert gap(deep(torch.from_numpy(words))[0], levels(words)) < 1e-12
print("two levels, both directions: equal within 1e-12  ok")


# %% [markdown]
# ## What arrays cannot tell
#
# The same file fills a Linen model; `arrays_to_linen` takes a tree of variables, as `model.init` returns it. But a tree
# is arrays as well, without layers. A kernel with as many channels in as out may belong to a convolution or to a
# transposed one, whose kernel the port must flip. The shapes are the same, so the port asks.

# %%
class Square(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(4, (3, 3), padding="VALID", name="conv")(x)


maps = rng.normal(size=(2, 4, 6, 6))
square = torch.nn.Conv2d(4, 4, 3).double()
file = {f"conv.{name}": tensor.numpy() for name, tensor in square.state_dict().items()}
channels_last = np.moveaxis(maps, 1, -1)
try:
    porting.arrays_to_linen(file, Square().init(jax.random.key(SEED), channels_last))
except porting.PortingError as error:
    print(textwrap.fill(str(error), 110))

# %% [markdown]
# After *got* stand the kinds that fit, then the remedies. The last one, `porting.linen_template`, runs the model on
# stand-ins and notes of each kernel which layer asked for it. (An NNX module needs no such help: it is made of layers.)

# %%
variables = porting.arrays_to_linen(file, porting.linen_template(Square(), channels_last))
expected = square(torch.from_numpy(maps)).movedim(1, -1)
assert gap(expected, Square().apply(variables, channels_last)) < 1e-12
print("with linen_template: equal within 1e-12  ok")

# %% [markdown]
# ## The way back
#
# A port that loses nothing can be undone. `nnx_to_arrays` returns torch's names and layouts (`nnx_to_torch` fills a
# torch module with them); its second argument says what the result looks like: the file's own arrays. Every number
# must be the one that came.

# %%
back = porting.nnx_to_arrays(net, arrays)
assert back.keys() == arrays.keys() and all(np.array_equal(back[name], array) for name, array in arrays.items())
print(len(back), "arrays came back to the bit  ok")

empty = porting.nnx_to_torch(net, TorchNet().double())
assert all(torch.equal(t, empty.state_dict()[name]) for name, t in torch_net.state_dict().items())
print("and fill a torch module with the tensors that left  ok")

# %% [markdown]
# ## The proof: an equal training step
#
# Equal outputs prove the forward pass in eval mode, no more. Training needs equal gradients, equal updates, equal
# running averages. So: one step of Adam in training mode, on both sides. torch's:

# %%
targets = rng.integers(0, 3, 8)
adam = torch.optim.Adam(torch_net.parameters(), RATE)


def torch_step():
    adam.zero_grad()
    loss = F.cross_entropy(torch_net.train()(torch.from_numpy(images)), torch.from_numpy(targets))
    loss.backward()
    adam.step()
    return loss.detach()


torch_loss = torch_step()


# %% [markdown]
# And in NNX. `nnx.value_and_grad` differentiates by the `Param`s alone; the running averages change as the model
# runs, and `nnx.jit` writes them back.

# %%
@nnx.jit
def loss_and_grads(model, images, targets):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), targets).mean()

    return nnx.value_and_grad(loss_fn)(model)


net.train()
optimizer = nnx.Optimizer(net, optax.adam(RATE), wrt=nnx.Param)
loss, grads = loss_and_grads(net, nhwc, targets)
optimizer.update(net, grads)
assert gap(torch_loss, loss) < 1e-12
print("losses agree within 1e-12  ok")

# %% [markdown]
# Gradients have the layouts of their weights, so they go back the same way: `nnx_to_arrays` takes a tree of them.
# (`gradients=True` matters where one bias of flax stands for two of torch's: each of the two has the whole
# gradient.) Should one differ, read the list from its end: gradients flow backwards, and the last layer that
# disagrees is the first to look at.

# %%
torch_grads = {name: p.grad.numpy() for name, p in torch_net.named_parameters()}
carried = porting.nnx_to_arrays(grads, torch_grads, gradients=True)
assert all(gap(torch_grads[name], carried[name]) < 1e-12 for name in torch_grads)
print(f"{len(carried)} gradients agree within 1e-12  ok")

trained = porting.nnx_to_arrays(net, arrays)
for name, tensor in torch_net.state_dict().items():
    assert gap(tensor, trained[name]) < 1e-8, name  # Adam divides by gradients, some of them tiny
print(f"{len(trained)} arrays after the step, running averages included, within 1e-8  ok")

# %% [markdown]
# With flax's own `BatchNorm` one number would be off, and no setting removes it: torch averages the unbiased variance,
# N/(N-1) times flax's ([02](02_same_numbers.ipynb)), and for images N is batch × height × width. It matters in
# evaluation alone: in training both normalise by the batch's own variance.

# %%
maps = rng.normal(size=(8, 4, 4, 6))
torch_norm = torch.nn.BatchNorm2d(6).double()
torch_norm(torch.from_numpy(maps).movedim(-1, 1))
for kind in (nnx.BatchNorm, layers.BatchNorm):
    norm = porting.torch_to_nnx(torch.nn.BatchNorm2d(6).double(), kind(6, momentum=0.9, rngs=nnx.Rngs(SEED)))
    norm(maps)
    means, variances = gap(torch_norm.running_mean, norm.mean[...]), gap(torch_norm.running_var, norm.var[...])
    where = "flax" if kind is nnx.BatchNorm else "course.layers"
    print(f"{where}: running means within 1e-12: {means < 1e-12}, variances within 1e-12: {variances < 1e-12}")
new_share = 0.1 * maps.var(axis=(0, 1, 2))  # the average started at 1
assert gap(torch_norm.running_var, 0.9 + new_share * 128 / 127) < 1e-12
print("torch's is flax's with the factor 128/127 on the new share  ok")

# %% [markdown]
# ## Going on with a run that torch began
#
# Weights are not the whole run: Adam has two moments for each of them, the running means of the gradient and of its
# square, and they are laid out like gradients. Here is what a file of that run would hold; then torch makes its second
# step:

# %%
weights = {name: tensor.numpy().copy() for name, tensor in torch_net.state_dict().items()}
moments = {key: {name: adam.state[p][key].numpy().copy() for name, p in torch_net.named_parameters()}
           for key in ("exp_avg", "exp_avg_sq")}  # fmt: skip
torch_step()
moved = gap(weights["out.weight"], torch_net.out.weight)
print(len(weights), "weights and averages;", *(f"{key}: {len(arrays)}" for key, arrays in moments.items()))


# %% [markdown]
# A fresh JAX model takes torch's weights and makes the second step as well. Optax calls the moments `mu` and `nu`; they
# stand in the first of the states that `optax.adam` chains, beside the count. With the moments left at
# zero, **will the second step be a little off, or a lot?**

# %%
def second_step(carry):
    model, rule = porting.arrays_to_nnx(weights, NnxNet(rngs=nnx.Rngs(SEED))), optax.adam(RATE)
    model.train()
    params = nnx.state(model, nnx.Param)
    first, *others = rule.init(params)
    if carry:
        mu = porting.arrays_to_nnx(moments["exp_avg"], first.mu, gradients=True)
        nu = porting.arrays_to_nnx(moments["exp_avg_sq"], first.nu, gradients=True)
        first = first._replace(count=first.count + 1, mu=mu, nu=nu)
    _, grads = loss_and_grads(model, nhwc, targets)
    updates, _ = rule.update(grads, (first, *others), params)
    nnx.update(model, optax.apply_updates(params, updates))
    return gap(torch_net.out.weight.T, model.out.kernel[...])


print(f"moments at zero: off by {second_step(carry=False) / moved:.1f} of the step's own length")
assert second_step(carry=True) < 1e-8
print("moments carried: equal within 1e-8  ok")

# %% [markdown]
# Moments at zero are not wrong by rounding: Adam's first step is as long as its rate allows, whatever the gradient.
# (Other optimizers have other state: momentum's `trace` in Optax is torch's `momentum_buffer`. It goes the same way.)
#
# ## A porting order
#
# 1. Read the file: names, shapes. Build the model with the layers at these paths, or with `names`; look at
#    `porting.mapping`. Where arrays cannot tell a kind (a square kernel: convolution or transposed?), the error says
#    what to add; for Linen, `porting.linen_template(model, x)` in the place of `model.init` knows.
# 2. Settings from the source: padding in pairs, strides of pools, epsilon, `approximate=False`, masks the other way
#    round. Between the layers: channels last, the flatten order, activations before or after the norm.
# 3. In float64 and eval mode, one batch through both, `porting.compare`. Mend the first layer, ask again.
# 4. The loss, padding included; the gradients, carried back; one step in training mode, dropout 0.
# 5. The way back, to the bit. Only then float32, dropout, and speed.
#
# The page [ROSETTA.md](../ROSETTA.md) has the layers, losses and functions that no lesson needed; the format of such
# files stands in the [safetensors documentation](https://huggingface.co/docs/safetensors).
#
# ## Summary
#
# - A file is names and arrays; flax's module says what each layer is. `names` for other paths, `ignore` for what flax
#   does without, `keep` for what only flax has.
# - A port is proved in float64: equal outputs, gradients and training step, and the way back to the bit.
# - Weights are not the whole run. Adam's moments are laid out like gradients and travel like them.
#
# Next: [07b · a real checkpoint](07b_real_checkpoint.ipynb), on a published network that hears pitch.
