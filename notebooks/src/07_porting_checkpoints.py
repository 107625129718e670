# %% [markdown]
# # 07 · Porting checkpoints
#
# **How does a file of weights become a JAX model, and how do you prove that nothing got lost?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - fill an NNX or Linen model from a file, without torch, whatever the layers are called there,
# - leave out what flax does without, and keep what only flax has,
# - prove a port by the way back and by an equal training step, and find a wrong gradient by reading from the end,
# - go on with a run that torch began.

# %%
import tempfile
import textwrap

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from course import layers, plots, porting
from course.failures import fails

# %%
SEED, RATE, TOLERANCE = 0, 1e-2, 1e-10

plots.use()
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64, so that a gap of 1e-8 is a mistake and not rounding
rng = np.random.default_rng(SEED)


def gap(a, b):  # the largest difference
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


def shown(number, tolerance=TOLERANCE):
    return f"below {tolerance:.0e}" if number < tolerance else f"{number:.2g}"


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
# `arrays_to_nnx` lays the weights out for it. `nnx.eval_shape` makes a model of shapes alone: why draw numbers that the
# file replaces? Padding in pairs and channels last are from 06; the norm is `course.layers.BatchNorm`, flax's with
# torch's running variance (more of it with the training step).

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


def shapes(kind=NnxNet):
    return nnx.eval_shape(lambda: kind(rngs=nnx.Rngs(SEED)))


nhwc = np.moveaxis(images, 1, -1)
net = porting.arrays_to_nnx(arrays, shapes())
net.eval()
logits = torch_net.eval()(torch.from_numpy(images))
print("torch:", logits[0].detach().numpy().round(4))
print("NNX:  ", net(nhwc)[0].round(4), " gap over all images:", shown(gap(logits, net(nhwc))))

# %% [markdown]
# ## Other names
#
# Their paths are seldom yours, and a file may hold what you have no use for. Here are the same 12 arrays as somebody
# else may have called them, and one more, `position_ids`. No name is one of ours.
#
# **Predict.** How many problems does the port report: the first one, 13, or more?

# %%
theirs = {"stem": "encoder.patch", "norm": "encoder.bn", "out": "classifier"}
theirs |= {f"blocks.{n}": f"encoder.layer.{n}.dense" for n in range(2)}
foreign = {}
for name, array in arrays.items():
    layer, _, last = name.rpartition(".")
    foreign[f"{theirs[layer]}.{last}"] = array
foreign["encoder.position_ids"] = np.arange(64)

try:
    porting.arrays_to_nnx(foreign, shapes())
except porting.PortingError as error:
    print(f"PortingError, {len(error.problems)} problems, the first and the last:")
    for problem in error.problems[0], error.problems[-1]:
        print(f"- {problem.torch or problem.flax}:")
        print(textwrap.fill(f"{problem.wrong}; {problem.remedy}", 100))

# %% [markdown]
# All of them, from both sides: 12 arrays without a place (*expected* is where the array would go by its own name,
# *got* the places that are free), then 12 places without an array. Nothing was copied. (Of the 13 arrays one raises
# no problem: BatchNorm's count of batches, which the port lets stay behind.)
#
# `names` says where torch's path leads in flax; a star stands for one part of it, so one line serves every block. (With
# no star on flax's side, `{"encoder.layer.*.dense": "blocks"}`, the layers are stacked along a first axis, as `nn.scan`
# and `nnx.vmap` keep them.) `ignore` names what flax does without.

# %%
IGNORED = ["encoder.position_ids"]
names = {"encoder.patch": "stem", "encoder.bn": "norm", "encoder.layer.*.dense": "blocks/*", "classifier": "out"}
named = porting.arrays_to_nnx(foreign, shapes(), names, IGNORED)
named.eval()
print("logits:", named(nhwc)[0].round(4), " equal to the bit:", bool((net(nhwc) == named(nhwc)).all()))
with fails(porting.PortingError):
    porting.mapping(foreign, named, names | {"encoder.layers.*.dense": "blocks/*"}, IGNORED)

# %% [markdown]
# The error is about a slip of the pen, `layers` for `layer`: a key that names nothing is refused, or it would be a wish
# that nobody heard.
#
# What only flax has goes into `keep`: it stays as it was drawn. So a new head, five classes instead of three, is
# `keep` for the new layer and `ignore` for the old one.

# %%
headed = NnxNet(classes=5, rngs=nnx.Rngs(SEED))
drawn = np.asarray(headed.out.kernel[...])
body = {path: place for path, place in names.items() if place != "out"}
porting.arrays_to_nnx(foreign, headed, body, [*IGNORED, "classifier"], keep=["out"])
headed.eval()
print("logits:", headed(nhwc).shape)
print("head, first row, before:", drawn[0].round(3), " after:", np.asarray(headed.out.kernel[0]).round(3))
print("stem from the file, gap:", shown(gap(net.stem.kernel[...], headed.stem.kernel[...])))

# %% alt="The file's layers as orange boxes on the left, the flax model's as blue boxes on the right. Arrows marked names lead from encoder.patch to stem, from encoder.bn to norm, and two marked with a star from encoder.layer.0.dense and .1.dense to blocks/0 and blocks/1. The file's classifier and position_ids end in the word ignore; the word keep leads to flax's out."
diagram = plots.Diagram(height=2.85)
places = {"encoder.patch": "stem", "encoder.bn": "norm"}
places |= {f"encoder.layer.{n}.dense": f"blocks/{n}" for n in range(2)}
for row, path in enumerate([*places, "classifier", "encoder.position_ids"]):
    y = 2.35 - 0.42 * row
    source = diagram.array(1.9, y, path, side="torch", width=1.9, height=0.32)
    if path in places:
        target = diagram.array(6.1, y, places[path], side="jax", width=1.2, height=0.32)
        diagram.arrow(source, target, "names, *" if "layer" in path else "names")
    else:
        diagram.arrow(source, (3.6, y))
        diagram.note(3.95, y, "ignore")
diagram.arrow((4.95, 0.67), diagram.array(6.1, 0.67, "out, new", side="jax", width=1.2, height=0.32))
diagram.note(4.7, 0.67, "keep")
diagram.note(1.9, 2.7, "the file", side="torch")
diagram.note(6.1, 2.7, "the model", side="jax")
plt.show()
print("left out:", sum(name.startswith(("classifier", *IGNORED)) for name in foreign), "arrays of", len(foreign))


# %% [markdown]
# ## Lists, and weights of your own
#
# Where the paths differ by habit only, nothing need be said: `blocks.0` of torch is `blocks/0` in NNX and `blocks_0` in
# Linen; the items of a `Sequential` are found as well (the rules are in
# [course/porting/layouts.py](../course/porting/layouts.py)). Dropout has no weights.
#
# A weight of your own keeps its name, its shape *and its axes*: torch's (4, 1, 1) means channels, and channels last it
# falls on the height. Where the height is 4 as well, nothing raises. Here it is used as it is, then reshaped to (4,):

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
    found = porting.compare(torch_gain, gained, maps, np.moveaxis(maps, 1, -1), tolerance=TOLERANCE)
    print(textwrap.fill(f"{shape}: {str(found).partition('; largest gap')[0]}", 100))


# %% [markdown]
# `(output)` is what the model returns: `conv` agrees, so the mistake stands behind it.
#
# A deep recurrent network is one layer in torch, and in flax a list of `RNN`s: one for each level, which reads what
# the level before it returns. Where a level reads both ways, it is an `nnx.Bidirectional` of two. `names` says where
# they are; "" is torch's whole model.

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
expected, ours = deep(torch.from_numpy(words))[0], levels(words)
print("torch:", expected[0, 0, :4].detach().numpy().round(4))
print("NNX:  ", ours[0, 0, :4].round(4), " gap over both levels and directions:", shown(gap(expected, ours)))


# %% [markdown]
# ## What arrays cannot tell
#
# A file fills a Linen model as well; `arrays_to_linen` takes a tree of variables, as `model.init` returns it. But a
# tree is arrays as well, without layers. A kernel with as many channels in as out may belong to a convolution or to a
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
with fails(porting.PortingError):
    porting.arrays_to_linen(file, jax.eval_shape(Square().init, jax.random.key(SEED), channels_last))

# %% [markdown]
# How to read it: after *got* stand the kinds that fit, then the remedies. The last one, `porting.linen_template`, runs
# the model on stand-ins and notes of each kernel which layer asked for it. (An NNX module needs no such help: it is
# made of layers.)

# %%
variables = porting.arrays_to_linen(file, porting.linen_template(Square(), channels_last))
expected, ours = square(torch.from_numpy(maps)).movedim(1, -1), Square().apply(variables, channels_last)
print("torch:", expected[0, 0, 0].detach().numpy().round(4))
print("Linen:", ours[0, 0, 0].round(4), " gap over all:", shown(gap(expected, ours)))

# %% [markdown]
# ## The way back
#
# A port that loses nothing can be undone. `nnx_to_arrays` returns torch's names and layouts (`nnx_to_torch` fills a
# torch module with them); its second argument says what the result looks like: the file's own arrays. Every number
# must be the one that came.

# %%
back = porting.nnx_to_arrays(net, arrays)
equal = sum(np.array_equal(back[name], array) for name, array in arrays.items())
print(f"{equal} of {len(arrays)} arrays came back to the bit; names equal:", back.keys() == arrays.keys())

filled = porting.nnx_to_torch(net, TorchNet().double()).state_dict()
equal = sum(torch.equal(tensor, filled[name]) for name, tensor in torch_net.state_dict().items())
print(f"{equal} of {len(filled)} tensors of a torch module are those that left")

# %% [markdown]
# ## The proof: an equal training step
#
# Equal outputs prove the forward pass in eval mode, no more. Training needs equal gradients, equal updates, equal
# running averages. So: one step of Adam in training mode, on both sides. `nnx.value_and_grad` differentiates by the
# `Param`s alone; the running averages change as the model runs, and `nnx.jit` writes them back.

# %%
targets = rng.integers(0, 3, 8)
adam = torch.optim.Adam(torch_net.parameters(), RATE)


def torch_step():
    adam.zero_grad()
    loss = F.cross_entropy(torch_net.train()(torch.from_numpy(images)), torch.from_numpy(targets))
    loss.backward()
    adam.step()
    return loss.item()


# %%
@nnx.jit
def loss_and_grads(model, images, targets):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), targets).mean()

    return nnx.value_and_grad(loss_fn)(model)


net.train()
optimizer = nnx.Optimizer(net, optax.adam(RATE), wrt=nnx.Param)
torch_loss = torch_step()
loss, grads = loss_and_grads(net, nhwc, targets)
optimizer.update(net, grads)
print(f"losses: torch {torch_loss:.6f}, NNX {loss:.6f}, gap {shown(abs(torch_loss - loss))}")

# %% [markdown]
# Gradients have the layouts of their weights, so they go back the same way: `nnx_to_arrays` takes a tree of them.
# (`gradients=True` matters where one bias of flax stands for two of torch's: each of the two has the whole gradient.)

# %%
torch_grads = {name: p.grad.numpy() for name, p in torch_net.named_parameters()}


def gradient_gaps(grads):
    carried = porting.nnx_to_arrays(grads, torch_grads, gradients=True)
    return {name: gap(torch_grads[name], carried[name]) for name in torch_grads}


print(f"{len(torch_grads)} gradients, the largest gap:", shown(max(gradient_gaps(grads).values())))
trained = porting.nnx_to_arrays(net, arrays)
worst = max(gap(tensor, trained[name]) for name, tensor in torch_net.state_dict().items())
print(f"{len(trained)} arrays after the step, running averages included, the largest gap:", shown(worst, 1e-8))


# %% [markdown]
# Adam divides by gradients, some of them tiny, so after the step the bound is 1e-8.
#
# What if a gradient is wrong? Here is a mistake that no output shows: the second block gets its input through
# `stop_gradient`, torch's `detach`. Forward it does nothing.
#
# **Predict.** Which gradients go wrong: those of the layers before the second block, or those of the block and behind?

# %%
class Detached(NnxNet):
    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x))).mean((1, 2))
        first, second = self.blocks
        x = x + jnp.tanh(first(x))
        x = x + jnp.tanh(second(jax.lax.stop_gradient(x)))
        return self.out(x)


detached = porting.arrays_to_nnx(arrays, shapes(Detached))
detached.train()
wrong_loss, wrong_grads = loss_and_grads(detached, nhwc, targets)
found = dict(reversed(gradient_gaps(wrong_grads).items()))
print(f"losses: torch {torch_loss:.6f}, NNX {wrong_loss:.6f}, gap {shown(abs(torch_loss - wrong_loss))}")
for name, size in found.items():
    print(f"{name:15} gap of the gradient {shown(size)}")

# %% alt="Bars of the gradients' gaps on a logarithmic axis, from the last layer to the first. out.bias, out.weight, blocks.1.bias and blocks.1.weight are tiny and blue; blocks.0.bias is the first red bar; the bars behind it, blocks.0.weight, norm.bias, norm.weight and stem.weight, are pale red."
first_wrong = next(name for name, size in found.items() if size > TOLERANCE)
figure, axis = plots.panels(1, height=2.8)
for name, size in found.items():
    red = "#C00000" if name == first_wrong else "#E8B0B0"
    colour, hatch = (red if size > TOLERANCE else plots.JAX), ("//" if name == first_wrong else "")
    axis.bar(name, max(size, 1e-17), color=colour, hatch=hatch, edgecolor="white")
axis.axhline(TOLERANCE, color="black", linewidth=1, linestyle=":")
axis.tick_params(axis="x", rotation=30)
axis.set(yscale="log", ylim=(1e-18, 10), ylabel="gap", title="Gradients, read from the last layer to the first")
plt.show()
print("the first red bar, from the end:", first_wrong)

# %% [markdown]
# Those before it. Gradients flow backwards: read the list from its end, and the first that disagrees is the one to look
# at. `blocks.1` is right and `blocks.0` wrong, so the mistake is in what leads from one to the other.
#
# One more number is proved by a training step alone. torch's BatchNorm and flax's get the same weights and one batch
# in training mode. torch averages the *unbiased* variance, N/(N-1) times flax's ([02](02_same_numbers.ipynb)).
#
# **Predict.** For 8 images of 4 × 4 points with 6 channels, what is N: 8, 16 or 128?

# %%
maps = rng.normal(size=(8, 4, 4, 6))
torch_norm = torch.nn.BatchNorm2d(6).double()
expected = torch_norm(torch.from_numpy(maps).movedim(-1, 1)).movedim(1, -1)
print("torch's running variance:", torch_norm.running_var[:3].numpy().round(6))
for where, kind in ("flax", nnx.BatchNorm), ("course.layers", layers.BatchNorm):
    norm = porting.torch_to_nnx(torch.nn.BatchNorm2d(6).double(), kind(6, momentum=0.9, rngs=nnx.Rngs(SEED)))
    outputs, mean = gap(expected, norm(maps)), gap(torch_norm.running_mean, norm.mean[...])
    variance = gap(torch_norm.running_var, norm.var[...])
    print(f"{where}: running variance", norm.var[:3].round(6), " gaps:")
    print(f"    outputs {shown(outputs)}, running mean {shown(mean)}, running variance {shown(variance)}")
new_share = 0.1 * maps.var(axis=(0, 1, 2))  # the average started at 1
for n in 8, 16, 128:
    print(f"0.9 + new share * N/(N-1), N = {n:3}:", (0.9 + new_share * n / (n - 1))[:3].round(6))

# %% [markdown]
# 128: a channel has batch × height × width numbers. Outputs and running mean agree; the variance alone differs, and
# no setting of flax's removes that. It matters in evaluation alone: in training both normalise by the batch's own
# variance. `course.layers.BatchNorm` keeps torch's.
#
# ## Going on with a run that torch began
#
# Weights are not the whole run: Adam has two moments for each of them, the running means of the gradient and of its
# square, and they are laid out like gradients. Here is what a file of that run would hold; then torch makes its second
# step.

# %%
weights = {name: tensor.numpy().copy() for name, tensor in torch_net.state_dict().items()}
moments = {key: {name: adam.state[p][key].numpy().copy() for name, p in torch_net.named_parameters()}
           for key in ("exp_avg", "exp_avg_sq")}  # fmt: skip
torch_step()
moved = torch_net.out.weight.detach().numpy() - weights["out.weight"]
print(len(weights), "weights and averages;", *(f"{key}: {len(arrays)}" for key, arrays in moments.items()))
print("torch's second step moves out.weight[1] by", moved[1].round(5))


# %% [markdown]
# A fresh JAX model takes torch's weights and makes the second step as well. Optax calls the moments `mu` and `nu`; they
# stand in the first of the states that `optax.adam` chains, beside the count.
#
# **Predict.** With the moments left at zero, is the second step a little off, or a lot?

# %%
def second_step(carry):
    model, rule = porting.arrays_to_nnx(weights, shapes()), optax.adam(RATE)
    model.train()
    params = nnx.state(model, nnx.Param)
    first, *others = rule.init(params)
    if carry:
        mu = porting.arrays_to_nnx(moments["exp_avg"], first.mu, gradients=True)
        nu = porting.arrays_to_nnx(moments["exp_avg_sq"], first.nu, gradients=True)
        first = first._replace(count=first.count + 1, mu=mu, nu=nu)
    _, grads = loss_and_grads(model, nhwc, targets)
    updates, _ = rule.update(grads, (first, *others), params)
    return np.asarray(updates["out"]["kernel"][...]).T


print("torch:          ", moved[1].round(5))
for name, carry in ("moments at zero", False), ("moments carried", True):
    ours = second_step(carry)
    print(f"{name}:", ours[1].round(5), " gap:", shown(gap(moved, ours), 1e-8))

# %% [markdown]
# A lot: where torch moves by 0.004, the step without moments moves by 0.01. It counts as the first, and Adam's first
# step is as long as its rate, whatever the gradient. (Other optimizers have other state: momentum's `trace` in Optax is
# torch's `momentum_buffer`. It goes the same way.)
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
# The page [ROSETTA.md](../ROSETTA.md) has the layers, losses and functions that no lesson needed.
#
# ## Summary
#
# - A file is names and arrays; flax's module says what each layer is. `names` for other paths, `ignore` for what flax
#   does without, `keep` for what only flax has.
# - A port is proved in float64: equal outputs, gradients and training step, and the way back to the bit.
# - Outputs are read from the front, gradients from the end: the first that disagrees is the one to look at.
# - Weights are not the whole run. Adam's moments are laid out like gradients and travel like them.
#
# ## Further reading
#
# - [Safetensors](https://huggingface.co/docs/safetensors/index): the file format, and why it holds arrays and no code.
# - [torch.load](https://docs.pytorch.org/docs/stable/generated/torch.load.html): what `weights_only` keeps out of a
#   `.pt` file.
# - [torch.nn.BatchNorm2d](https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html): which variance is
#   used where, and the two meanings of momentum.
# - [Adam](https://arxiv.org/abs/1412.6980): the two moments and their correction, by Kingma and Ba, section 2 and 3.
#
# Exercises: [your turn](exercises/07_porting_checkpoints.ipynb).
#
# Next: [07b · A real checkpoint](07b_real_checkpoint.ipynb).
