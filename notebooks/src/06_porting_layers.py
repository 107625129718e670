# %% [markdown]
# # 06 · Porting layers
#
# **How do you carry a whole model over, and find the layer that differs?** (60 minutes)

# %% [markdown]
# After this lesson you can
#
# - write a PyTorch model in NNX and Linen, and carry its weights and running averages over,
# - find the first layer that disagrees, by hand and with `porting.compare`,
# - say what channels last, `"SAME"` and `flatten` do to a convolutional network, by the numbers that each of them
#   moves.

# %%
import copy
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

from course import plots, porting
from course.failures import fails

# %%
SEED, TOLERANCE = 0, 1e-10

plots.use()
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64, so that a gap of 1e-8 is a mistake and not rounding
rng = np.random.default_rng(SEED)


def gap(a, b):  # the largest difference
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


def shown(number):
    return f"below {TOLERANCE:.0e}" if number < TOLERANCE else f"{number:.2f}"


# %% [markdown]
# ## A convolutional network
#
# Three things must agree: the weights, the settings of every layer, and what happens between the layers.
# [02](02_same_numbers.ipynb) had two dense layers, and one transpose was all. Here is a network with more to lose, and
# the same in NNX, written down as it reads. There padding is an argument, because we will change it; `"SAME"` is flax's
# default.
#
# torch keeps images as (batch, channels, height, width), flax as (batch, height, width, channels): "NCHW" and "NHWC".
# So the input moves one axis, and flax's layers find the channels at the end.

# %%
class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 4, 3)
        self.conv2 = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(6)
        self.out = torch.nn.Linear(6 * 3 * 3, 3)

    def forward(self, x):  # (B, 1, 8, 8)
        x = F.relu(self.conv1(x))  # (B, 4, 6, 6)
        x = F.relu(self.norm(self.conv2(x)))  # (B, 6, 3, 3)
        return self.out(x.flatten(1))  # (B, 54) -> (B, 3)


# %%
class NaiveCNN(nnx.Module):
    def __init__(self, pad1="SAME", pad2="SAME", *, rngs):
        self.conv1 = nnx.Conv(1, 4, (3, 3), padding=pad1, rngs=rngs)
        self.conv2 = nnx.Conv(4, 6, (3, 3), strides=2, padding=pad2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.out = nnx.Linear(6 * 3 * 3, 3, rngs=rngs)

    def __call__(self, x):  # (B, 8, 8, 1)
        x = nnx.relu(self.conv1(x))
        x = nnx.relu(self.norm(self.conv2(x)))
        return self.out(x.reshape(len(x), -1))


# %% [markdown]
# `porting.torch_to_nnx` overwrites the weights of a fresh NNX model: each one goes to the layer of the same path.
# `porting.mapping` lists what goes where. O and I are a kernel's output and input channels, H and W its size.

# %%
def port_nnx(source, make, **settings):
    model = porting.torch_to_nnx(source, make(**settings, rngs=nnx.Rngs(SEED)))
    model.eval()
    return model


torch.manual_seed(SEED)
torch_cnn, images = TorchCNN().double(), torch.from_numpy(rng.normal(1.0, 1.0, (8, 1, 8, 8)))
torch_cnn(images)  # once in training mode, so that the running averages say something
torch_cnn.eval()
nhwc = np.moveaxis(images.numpy(), 1, -1)  # (8, 8, 8, 1)

same = port_nnx(torch_cnn, NaiveCNN)
pd.DataFrame(porting.mapping(torch_cnn, same)).drop(columns="flax_shape")

# %% [markdown]
# Every array has its place, but for a count of batches that flax does without; anything else would have raised. Does
# the model run? torch's `Conv2d` pads nothing unless told, flax's `Conv` pads so that the size stays (at stride 1).

# %% tags=["trap:convolution-padding"]
with fails(TypeError):
    same(nhwc)

# %% [markdown]
# How to read it: `dot_general` is the product in `out`. Its kernel takes 54 numbers, 6 channels of 3 by 3. It was given
# 96, which is 6 channels of 4 by 4: the image was larger than torch's. This mistake is a kind one: it raises.
#
# `padding="VALID"` in the first layer means no padding, as in torch, and the model runs.
#
# **Predict.** Every weight has arrived and every shape is torch's. Are the logits torch's as well?

# %%
naive = port_nnx(torch_cnn, NaiveCNN, pad1="VALID")
logits = torch_cnn(images)
print("torch:", logits[0].detach().numpy().round(4))
print("NNX:  ", naive(nhwc)[0].round(4))
print("gap over all images:", shown(gap(logits, naive(nhwc))))


# %% [markdown]
# No. Weights are the part that raises; what is wrong now is a setting, or something between the layers. Where?
#
# ## Find the first layer that disagrees, by hand
#
# One mistake spoils everything after it, so the *first* difference is the one to look at. torch shows what its
# layers return to a forward hook. An NNX module has no hooks, but its layers are attributes, weights included: call
# them one by one. Batches of images are compared in one order of axes.

# %%
def torch_outputs(model, x):
    seen, model = {}, copy.deepcopy(model)  # the hooks stay on the copy
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, args, output, name=name: seen.update({name: output.detach()}))
    model(x)
    return seen


def nnx_outputs(model, x):
    conv1 = model.conv1(x)
    conv2 = model.conv2(nnx.relu(conv1))
    return {"conv1": conv1, "conv2": conv2, "norm": model.norm(conv2), "out": model(x)}


def gaps(theirs, ours):
    last = {name: output.movedim(1, -1) if output.ndim == 4 else output for name, output in theirs.items()}
    return {name: gap(output, ours[name]) for name, output in last.items()}


theirs = torch_outputs(torch_cnn, images)
for name, size in gaps(theirs, nnx_outputs(naive, nhwc)).items():
    print(f"{name:6} gap {shown(size)}")

# %% [markdown]
# `conv1` agrees and `conv2` is the first that does not. `norm` and `out` may be right: they were given wrong numbers.
#
# `conv2` has stride 2. torch pads one row on each side, `padding=1`; our layer has `"SAME"`, and both return 3 rows.
# Try that in one dimension, on the numbers 1 to 6, with a kernel of three ones, which adds up each window. torch's
# answer is [3, 9, 15].
#
# **Predict.** What does flax return with `"SAME"`?

# %% tags=["trap:strided-same"]
row, ones = np.arange(1.0, 7.0), torch.ones(1, 1, 3, dtype=torch.float64)
sums = F.conv1d(torch.from_numpy(row)[None, None], ones, stride=2, padding=1)
print("torch, padding=1:       ", sums.numpy().ravel())
for padding in ("SAME", ((1, 1),)):
    settings = {"strides": 2, "padding": padding, "use_bias": False, "kernel_init": nnx.initializers.ones}
    layer = nnx.Conv(1, 1, (3,), **settings, rngs=nnx.Rngs(SEED))
    print(f"{f'flax, padding={padding}:':24}", layer(row[:, None]).ravel())


# %% alt="Two rows of squares with their three windows below. Left, PyTorch with padding 1: zero, 1 to 6, zero; the windows start at the zero in front, sum to 3, 9 and 15, and leave the last zero out. Right, flax with SAME: 1 to 6, zero; the windows start at 1, sum to 6, 12 and 11."
def windows(diagram, left, padded, side, title):
    size, sums = 0.38, [sum(padded[2 * k : 2 * k + 3]) for k in range(3)]
    middle = left + size * len(padded) / 2
    diagram.cells(middle, 1.5, padded, side=side, size=size, marked=np.array(padded) != 0, title=title)
    for k, total in enumerate(sums):
        x, y = left + (2 * k + 1.5) * size, 1.06 - 0.36 * k
        diagram.array(x, y, f"sum {total}", side=side, width=3 * size, height=0.3)
    return sums


diagram = plots.Diagram(height=1.95)
torch_sums = windows(diagram, 0.6, [0, 1, 2, 3, 4, 5, 6, 0], "torch", "PyTorch, padding=1")
same_sums = windows(diagram, 4.8, [1, 2, 3, 4, 5, 6, 0], "jax", 'flax, "SAME"')
diagram.note(3.45, 1.08, "never read", side="torch", size=8)
plt.show()
print("sums of the windows drawn:", torch_sums, same_sums)

# %% [markdown]
# Another answer, and no error. Three windows of three with stride 2 cover seven places, one more than there are
# numbers. `"SAME"` adds the missing one *at the end*, so the windows start at 1. torch adds one at both ends; the
# windows start at the zero in front, and the zero behind is never read.
#
# The remedy: write torch's padding as pairs, (before, after) for each axis, and never `"SAME"` for a strided layer
# whose weights come from torch. The model with pairs:

# %%
padded = port_nnx(torch_cnn, NaiveCNN, pad1="VALID", pad2=((1, 1), (1, 1)))
for name, size in gaps(theirs, nnx_outputs(padded, nhwc)).items():
    print(f"{name:6} gap {shown(size)}")

# %% [markdown]
# The next mistake appears behind the first one. `norm` agrees and `out` does not, and between the two stands the
# flattening: `flatten(1)` there, `reshape` here.
#
# A smaller image shows it: two channels of 2 by 2 pixels, numbered as torch stores them, channel 0 with 0 to 3 and
# channel 1 with 4 to 7. torch's `flatten` reads 0 1 2 3 4 5 6 7.
#
# **Predict.** In which order does `reshape` read the same image, channels last?

# %% tags=["trap:flatten"]
small = np.arange(8).reshape(2, 2, 2)  # (C, H, W)
last = np.moveaxis(small, 0, -1)  # (H, W, C), the same image
print("torch:", torch.from_numpy(small).flatten().numpy())
print("flax: ", jnp.asarray(last).reshape(-1))

# %% alt="A small image twice, flattened. Above, PyTorch in orange: two planes of 2 by 2, flattened to 0 to 7 in order, channel 1 in full colour at the end, with weights w0 to w7 over the places. Below, flax in blue: pixels with two numbers each, flattened to 0 4 1 5 2 6 3 7, over the same weights. Arrows lead from each number to its new place and cross."
diagram = plots.Diagram(height=2.9)
flat, alternating, size = small.ravel(), last.ravel(), 0.5
left, weights = 1.45, [f"w{n}" for n in range(8)]
middle = left + 4 * size
for y, side, values, label in (2.1, "torch", flat, "NCHW,\nflattened"), (0.8, "jax", alternating, "NHWC,\nflattened"):
    diagram.cells(middle, y, values, side=side, size=size, marked=values > 3)
    beside = 2.6 if side == "torch" else 0.3
    diagram.cells(middle, beside, weights, size=size, text="{}")
    diagram.note(left - 0.15, y, label, side=side, align="right")
    diagram.note(left - 0.15, beside, "weights\nof `out`", align="right")
for place, number in enumerate(alternating):
    start, end = (left + (number + 0.5) * size, 1.83), (left + (place + 0.5) * size, 1.07)
    diagram.arrow(start, end, dashed=number > 3)
for channel in range(2):
    diagram.cells(6.4 + 0.8 * channel, 2.2, small[channel], side="torch", marked=small[channel] > 3)
diagram.cells(6.8, 0.6, last.reshape(2, 4), side="jax", marked=last.reshape(2, 4) > 3)
diagram.note(6.8, 2.68, "planes: (C, H, W)", side="torch")
diagram.note(6.8, 1.08, "pixels: (H, W, C)", side="jax")
plt.show()
print("the place of number n after the flattening, channels last:", np.argsort(alternating))


# %% [markdown]
# Pixel by pixel, with both channels of a pixel beside each other: the same eight numbers in another order. `out` has a
# weight for each *place*: w2 was trained on the number 2, and channels last it meets the number 1.
#
# Two remedies. The first flattens in torch's order, by a transposition before `reshape`. The weights stay as they are;
# every call moves the array once more.

# %%
class NnxCNN(NaiveCNN):
    def __call__(self, x):
        x = nnx.relu(self.conv1(x))
        x = nnx.relu(self.norm(self.conv2(x)))
        x = x.transpose(0, 3, 1, 2)  # torch's order, for `out`'s weights
        return self.out(x.reshape(len(x), -1))


PAIRS = {"pad1": "VALID", "pad2": ((1, 1), (1, 1))}
nnx_cnn = port_nnx(torch_cnn, NnxCNN, **PAIRS)
print("torch:", logits[0].detach().numpy().round(4))
print("NNX:  ", nnx_cnn(nhwc)[0].round(4), " gap over all images:", shown(gap(logits, nnx_cnn(nhwc))))

# %% [markdown]
# The second permutes the rows of `out`'s kernel, once. Calls cost nothing more; but the weights are no longer torch's,
# and whoever carries them back must undo it. (A new model averages over height and width or flattens as it likes, and
# has no such trap.)

# %%
permuted = port_nnx(torch_cnn, NaiveCNN, **PAIRS)
order = np.arange(54).reshape(6, 3, 3).transpose(1, 2, 0).ravel()  # torch's number of each place, channels last
permuted.out.kernel[...] = permuted.out.kernel[...][order]
print("rows of the kernel:", order[:8], "...  gap:", shown(gap(logits, permuted(nhwc))))

# %% [markdown]
# The search in one picture: the gap behind each layer, for the model as it read and after each of the two mends. The
# first red bar is the layer to look at; what comes behind it says nothing until that one is mended.

# %% alt="Three panels with a bar for each of conv1, conv2, norm and out, on a logarithmic axis. As it read: conv1 is tiny and blue, conv2 is the first red bar, norm and out are pale red. With pairs: only out is red. With the flatten order mended: four tiny blue bars, near 1e-16."
mended = {"as it read": naive, "padding in pairs": padded, "flatten order": nnx_cnn}
figure, panels = plots.panels(3, height=2.6)
first_red = {}
for axis, (title, model) in zip(panels, mended.items(), strict=True):
    found = gaps(theirs, nnx_outputs(model, nhwc))
    wrong = [name for name, size in found.items() if size > TOLERANCE]
    first_red[title] = wrong[0] if wrong else "none"
    for name, size in found.items():
        colour = plots.JAX if name not in wrong else "#C00000" if name == wrong[0] else "#E8B0B0"
        axis.bar(name, max(size, 1e-17), color=colour, hatch="//" if name in wrong[:1] else "", edgecolor="white")
    axis.axhline(TOLERANCE, color="black", linewidth=1, linestyle=":")
    axis.set(yscale="log", ylim=(1e-18, 10), title=f"{title}: {first_red[title]}")
panels[0].set(ylabel="gap")
plt.show()
print("the first red bar:", first_red)


# %% [markdown]
# ## The same search, ready-made
#
# `porting.compare` does this for any model: hooks on torch's side, a wrapper around every NNX layer's `__call__`. It
# runs both in eval mode, matches the layers by path, takes the order of axes that fits, and says what it thinks of the
# first difference.

# %%
def verdict(comparison):
    return textwrap.fill(str(comparison).partition("; largest gap")[0], 100)  # what follows is rounding


for name, model in mended.items():
    print(f"{name}:\n{verdict(porting.compare(torch_cnn, model, images.numpy(), nhwc, tolerance=TOLERANCE))}\n")


# %% [markdown]
# Read the words about the input first. *Its input agrees*: the layer is at fault, look at its settings. *Its input
# differs already*: what stands before it is at fault, here the flattening.
#
# The same model in Linen: `train` is an argument there, and the running averages travel in a collection of their own.
# `torch_to_linen` fills a tree of arrays; `jax.eval_shape` runs `init` on shapes alone and makes one without
# computing. A Linen model goes into `compare` with its variables tied to it: that is `bind`.

# %%
class LinenCNN(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3), padding="VALID", name="conv1")(x))
        x = nn.Conv(6, (3, 3), strides=2, padding=((1, 1), (1, 1)), use_bias=False, name="conv2")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        x = x.transpose(0, 3, 1, 2)
        return nn.Dense(3, name="out")(x.reshape(len(x), -1))


linen_cnn = LinenCNN()
variables = porting.torch_to_linen(torch_cnn, jax.eval_shape(linen_cnn.init, jax.random.key(SEED), nhwc))
print("collections:", *variables)
print("torch:", logits[0].detach().numpy().round(4), " Linen:", linen_cnn.apply(variables, nhwc)[0].round(4))
print(verdict(porting.compare(torch_cnn, linen_cnn.bind(variables), images.numpy(), nhwc, tolerance=TOLERANCE)))

# %% [markdown]
# ## What this network lacks
#
# Pools, the first three lines: the stride is the window in torch, and 1 in flax unless told. Then a kernel that you
# carry over without `porting`: torch's are (out, in, H, W), flax's (H, W, in, out). Where all four sizes are equal, no
# shape tells that you forgot to transpose.

# %% tags=["trap:kernel-layout"]
print("pools: torch, 2 by 2:           ", tuple(F.max_pool2d(images, 2).shape[2:]))
print("       flax, (2, 2):            ", nnx.max_pool(nhwc, (2, 2)).shape[1:3])
print("       flax, strides=(2, 2) too:", nnx.max_pool(nhwc, (2, 2), strides=(2, 2)).shape[1:3])

weight, maps = rng.normal(size=(3, 3, 3, 3)), rng.normal(size=(2, 3, 6, 6))
expected = F.conv2d(torch.from_numpy(maps), torch.from_numpy(weight)).movedim(1, -1)
conv = nn.Conv(3, (3, 3), padding="VALID", use_bias=False)
print("kernel: torch:     ", expected[0, 0, 0].numpy().round(3))
for name, kernel in ("as it is", weight), ("transposed", weight.transpose(2, 3, 1, 0)):
    ours = conv.apply({"params": {"kernel": kernel}}, np.moveaxis(maps, 1, -1))
    print(f"        {name + ':':11}", ours[0, 0, 0].round(3), " gap:", shown(gap(expected, ours)))

# %% [markdown]
# Transposed convolutions: torch's is the transpose of a convolution, flax's a convolution of the stretched input.
# They are each other's mirror image. One input pixel shows the kernel itself.

# %% tags=["trap:flipped-kernel"]
source = torch.nn.ConvTranspose1d(1, 1, 3, bias=False, dtype=torch.float64)
with torch.no_grad():
    source.weight.copy_(torch.tensor([[[1.0, 2.0, 3.0]]]))
target = nnx.ConvTranspose(1, 1, (3,), padding="VALID", use_bias=False, rngs=nnx.Rngs(SEED))
target.kernel[...] = jnp.arange(1, 4, dtype=jnp.float32).reshape(3, 1, 1)
pixel = np.ones((1, 1, 1))
print("torch:            ", source(torch.from_numpy(pixel)).detach().numpy().ravel())
print("flax, same kernel:", target(pixel).ravel())
print("flax, ported:     ", porting.torch_to_nnx(source, target)(pixel).ravel())

row = rng.normal(size=(1, 5, 2))
source = torch.nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1, output_padding=1).double()
target = nnx.ConvTranspose(2, 3, (4,), strides=2, padding=((2, 3),), rngs=nnx.Rngs(SEED))  # 4 - 1 - 1, and 1 more
both = source(torch.from_numpy(row).mT).mT, porting.torch_to_nnx(source, target)(row)
print("size 4, stride 2, padding 1, output_padding 1: shape", both[1].shape, " gap:", shown(gap(*both)))

# %% [markdown]
# The port flips the kernel. The padding is yours: torch's p is size - 1 - p in flax, on both sides, with
# `output_padding` added at the end, as in the last line.
#
# ## Functions: the same name, another number
#
# The last place to look is before and behind the model. Each row of the table has torch's number, what JAX or Optax
# gives for the same words, and what the row's third expression gives, the one to write.
# ([01b](01b_titanic_nnx.ipynb) had one more: logits (n, 1) broadcast against labels (n,).)

# %% tags=["trap:shrink"]
a, b = rng.normal(size=(2, 4, 3))
classes, weights, zero = np.array([0, 2, 1, 1]), np.array([1.0, 2.0, 5.0]), np.zeros(3)
ta, tb, t_classes, t_weights = map(torch.from_numpy, (a, b, classes, weights))
eye = np.eye(4)
t_eye = torch.from_numpy(eye)[None, None]

cross_entropy = jax.jit(optax.softmax_cross_entropy_with_integer_labels)
per_row, w = np.array(cross_entropy(a, classes)), weights[classes]  # a loss and a weight for each row
huber = optax.huber_loss(a, b, delta=0.5).mean()
cosine = jax.jit(optax.losses.cosine_similarity)
smooth, plain = (jax.image.resize(eye, (2, 2), "bilinear", antialias=antialias)[0, 0] for antialias in (True, False))
rows = {
    "mse_loss": (F.mse_loss(ta, tb), optax.l2_loss(a, b).mean(), optax.squared_error(a, b).mean()),
    "smooth_l1_loss, beta 0.5": (F.smooth_l1_loss(ta, tb, beta=0.5), huber, huber / 0.5),
    "cross_entropy, weight=w": (
        F.cross_entropy(ta, t_classes, t_weights), (w * per_row).mean(), (w * per_row).sum() / w.sum()
    ),
    "interpolate, bilinear, 4 to 2": (F.interpolate(t_eye, size=(2, 2), mode="bilinear")[0, 0, 0, 0], smooth, plain),
    "cosine_similarity to 0": (
        F.cosine_similarity(ta[0], torch.zeros(3), dim=0), cosine(a[0], zero), cosine(a[0], zero, epsilon=1e-8)
    ),
}  # fmt: skip
table = pd.DataFrame({name: map(float, row) for name, row in rows.items()}, index=["torch", "as it reads", "right"]).T
assert gap(table["torch"], table["right"]) < TOLERANCE
table.round(4)

# %% [markdown]
# `optax.l2_loss` has a factor 1/2, `huber_loss` is torch's `smooth_l1_loss` times beta, a weighted mean divides by the
# weights' sum, `jax.image.resize` smooths before it shrinks, and Optax's cosine divides by zero. The page
# [ROSETTA.md](../ROSETTA.md) has more. A layer that `porting` does not know: write it in torch first, out of layers
# that it knows, and compare with the original there.
#
# ## Summary
#
# - Weights either fit or raise. What gets lost in silence are settings, and what happens between the layers: padding,
#   the order of axes, flattening.
# - The first layer that disagrees is the one to look at; mend it and ask again, for the next hides behind it. If its
#   input agrees, look at its settings, else at what stands before it.
# - Search in float64: there a difference is a mistake, not rounding.
#
# ## Further reading
#
# - [PyTorch to Flax](https://flax.readthedocs.io/en/stable/migrating/convert_pytorch_to_flax.html): flax's own page,
#   layer by layer, with the flatten and the transposed kernel
# - [jax.lax.conv_general_dilated](https://docs.jax.dev/en/latest/_autosummary/jax.lax.conv_general_dilated.html): what
#   `"SAME"` does where the padding is odd, and `"SAME_LOWER"`
# - [torch.nn.Conv2d](https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html): torch's padding and shapes
# - [A guide to convolution arithmetic](https://arxiv.org/abs/1603.07285): strides, padding and transposed convolutions
#   drawn, by Dumoulin and Visin
#
# Exercises: [your turn](exercises/06_porting_layers.ipynb).
#
# Next: [06b · Porting sequences](06b_porting_sequences.ipynb).
