# %% [markdown]
# # 06 · Porting models
#
# **How do you carry a whole model over, and find the layer that differs?** (45 minutes)

# %% [markdown]
# After this lesson you can
#
# - write a PyTorch model in NNX and Linen, and carry its weights and running averages over,
# - find the first layer that disagrees, by hand and with `porting.compare`,
# - name the settings that two frameworks read differently, by the number that each of them costs,
# - tell what flax lacks for parity, and take it from `course.layers`.

# %%
import copy
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
SEED = 0

torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64, so that a gap of 1e-8 is a mistake and not rounding
F64 = {"param_dtype": jnp.float64}  # embeddings and recurrent layers compute in the dtype that they were built with
rng = np.random.default_rng(SEED)


def gap(a, b):
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


# %% [markdown]
# ## A convolutional network
#
# Three things must agree: the weights, the settings of every layer, and what happens between the layers.
# [02](02_same_numbers.ipynb) had two dense layers, and one transpose was all. Here is a network with more to lose, and
# the same in NNX, written down as it reads.
#
# torch keeps images as (batch, channels, height, width), flax as (batch, height, width, channels): "NCHW" and "NHWC".
# So the input moves an axis; the layers find the channels at the end.

# %%
class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 4, 3)
        self.conv2 = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.norm, self.out = torch.nn.BatchNorm2d(6), torch.nn.Linear(6 * 3 * 3, 3)

    def forward(self, x):  # (B, 1, 8, 8)
        x = F.relu(self.conv1(x))  # (B, 4, 6, 6)
        x = F.relu(self.norm(self.conv2(x)))  # (B, 6, 3, 3)
        return self.out(x.flatten(1))


class NaiveCNN(nnx.Module):
    def __init__(self, pad1="SAME", pad2="SAME", *, rngs):  # flax's default
        self.conv1 = nnx.Conv(1, 4, (3, 3), padding=pad1, rngs=rngs)
        self.conv2 = nnx.Conv(4, 6, (3, 3), strides=2, padding=pad2, use_bias=False, rngs=rngs)
        self.norm, self.out = nnx.BatchNorm(6, momentum=0.9, rngs=rngs), nnx.Linear(6 * 3 * 3, 3, rngs=rngs)

    def __call__(self, x):  # (B, 8, 8, 1)
        x = nnx.relu(self.conv1(x))
        x = nnx.relu(self.norm(self.conv2(x)))
        return self.out(x.reshape(len(x), -1))


# %% [markdown]
# `torch_to_nnx` overwrites the weights of a fresh NNX model: each one goes to the layer of the same path. torch pads
# nothing unless told. flax pads so that the size stays (`"SAME"`), which is kind here: the first batch raises. With
# `"VALID"`, no padding, in the first layer the model runs. **Will the logits be right?**

# %% tags=["trap:convolution-padding"]
def port_nnx(source, make, **settings):
    model = porting.torch_to_nnx(source, make(**settings, rngs=nnx.Rngs(SEED)))
    model.eval()
    return model


torch.manual_seed(SEED)
torch_cnn, images = TorchCNN().double(), rng.normal(1.0, 1.0, (8, 1, 8, 8))
torch_cnn(torch.from_numpy(images))  # once in training mode, so that the running averages say something
logits = torch_cnn.eval()(torch.from_numpy(images))

nhwc = np.moveaxis(images, 1, -1)
for padding in ("SAME", "VALID"):
    naive = port_nnx(torch_cnn, NaiveCNN, pad1=padding)
    try:
        print(f"{padding}: same shape, every weight arrived, and the logits differ by {gap(logits, naive(nhwc)):.2f}")
    except TypeError as error:
        print(f"{padding}: {type(error).__name__} in the last layer; conv1 made", naive.conv1(nhwc).shape)
assert gap(logits, naive(nhwc)) > 0.1
pd.DataFrame(porting.mapping(torch_cnn, naive)).drop(columns="flax_shape")


# %% [markdown]
# The table lists every array of the NNX model with the tensor that it came from, and what changed: O and I are a
# kernel's output and input channels. Nothing is missing, or the port would have raised. So it is a setting, or
# something between the layers. Where?
#
# ## Find the first layer that disagrees, by hand
#
# One mistake spoils everything after it, so the *first* difference is the one to look at. torch shows what
# its layers return to a forward hook. An NNX module has no hooks, but its layers are attributes, weights
# included: call them one by one. Batches of images are compared in one order of axes.

# %%
def torch_outputs(model, x):
    seen, model = {}, copy.deepcopy(model)  # the hooks stay on the copy
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, args, output, name=name: seen.update({name: output.detach().numpy()}))
    model(torch.from_numpy(x))
    return seen


def nnx_outputs(model, x):
    seen = {"conv1": model.conv1(x)}
    seen["conv2"] = model.conv2(nnx.relu(seen["conv1"]))
    seen["norm"] = model.norm(seen["conv2"])
    return {**seen, "out": model(x)}


def first_gap(theirs, ours):  # None where all agree
    for name, output in theirs.items():
        here = np.moveaxis(ours[name], -1, 1) if output.ndim == 4 else ours[name]
        if gap(output, here) > 1e-10:
            return f"{name} differs, by up to {gap(output, here):.2f}"


theirs = torch_outputs(torch_cnn, images)
print(first_gap(theirs, nnx_outputs(naive, nhwc)))

# %% [markdown] tags=["trap:strided-same"]
# `conv1` agrees, `conv2` does not. Its padding is `"SAME"`, and this time the sizes agree. With stride 2 the three
# output rows need one padded row in all; `"SAME"` puts it below, torch's `padding=1` puts one above and one below
# and leaves the last unused. A kernel of ones over the numbers 1 to 6 shows it. Write torch's numbers as pairs,
# (before, after) for each axis, and never `"SAME"` for a strided layer.

# %%
row, ones = np.arange(1.0, 7.0), torch.ones(1, 1, 3, dtype=torch.float64)
sums = F.conv1d(torch.from_numpy(row)[None, None], ones, stride=2, padding=1).numpy().ravel()
print("three windows: torch, padding=1", sums)
for padding in ("SAME", ((1, 1),)):
    settings = {"strides": 2, "padding": padding, "use_bias": False, "kernel_init": nnx.initializers.ones}
    layer = nnx.Conv(1, 1, (3,), **settings, rngs=nnx.Rngs(SEED))
    print(f"               flax, {padding}", layer(row[:, None]).ravel())

padded = port_nnx(torch_cnn, NaiveCNN, pad1="VALID", pad2=((1, 1), (1, 1)))
print("the model with pairs:", first_gap(theirs, nnx_outputs(padded, nhwc)))


# %% [markdown]
# The next mistake appears behind the first one. `norm` agrees and `out` does not, so it lies between them:
# `reshape`. Flattening (3, 3, 6) gives another order than flattening (6, 3, 3), both give 54 numbers, and the
# weights of `out` are sorted for torch's order. Either permute those weights, or flatten in torch's order.
# The second leaves the weights as they are. (A new model would flatten as it likes, or average over height and
# width, and this trap would not exist.)

# %% tags=["trap:flatten"]
class NnxCNN(NaiveCNN):
    def __call__(self, x):
        x = nnx.relu(self.conv1(x))
        x = nnx.relu(self.norm(self.conv2(x)))
        x = x.transpose(0, 3, 1, 2)  # torch's order, for `out`'s weights
        return self.out(x.reshape(len(x), -1))


nnx_cnn = port_nnx(torch_cnn, NnxCNN, pad1="VALID", pad2=((1, 1), (1, 1)))
assert first_gap(theirs, nnx_outputs(nnx_cnn, nhwc)) is None
print("every layer agrees within 1e-10  ok")


# %% [markdown]
# In Linen, `capture_intermediates=True` records what every module returns, in a tuple with an entry for each call.
# `train` is an argument there, and the running averages travel in a collection of their own. `torch_to_linen` fills a
# tree of arrays; `jax.eval_shape` ([03](03_state_and_trees.ipynb)) makes one without computing it.

# %%
class LinenCNN(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3), padding="VALID", name="conv1")(x))
        x = nn.Conv(6, (3, 3), strides=2, padding=((1, 1), (1, 1)), use_bias=False, name="conv2")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        x = x.transpose(0, 3, 1, 2)
        return nn.Dense(3, name="out")(x.reshape(len(x), -1))


def port_linen(source, model, example, **options):
    template = jax.eval_shape(model.init, jax.random.key(SEED), example)
    return porting.torch_to_linen(source, template, **options)


linen_cnn = LinenCNN()
variables = port_linen(torch_cnn, linen_cnn, nhwc)
_, seen = linen_cnn.apply(variables, nhwc, capture_intermediates=True, mutable=["intermediates"])
ours = {name: seen["intermediates"][name]["__call__"][0] for name in theirs}
assert first_gap(theirs, ours) is None
print("collections:", *variables, "  every layer agrees within 1e-10  ok")


# %% [markdown]
# ## The same search, ready-made
#
# `porting.compare` does this for any model: hooks on torch's side, Linen's `intercept_methods`, and for NNX a
# wrapper around every layer's `__call__`. It runs both in eval mode, matches the layers by path, takes the
# order of axes that fits, and says what it thinks of the first difference. Read the words about the input first: if
# *it agrees*, the layer is at fault; if it *differs already*, what stands before the layer. (A Linen model goes in
# with its variables tied to it: that is `bind`.)

# %%
def verdict(comparison):
    return str(comparison).partition("; largest gap")[0]  # what follows is rounding


cnns = {"naive": naive, "padded": padded, "NnxCNN": nnx_cnn, "LinenCNN": linen_cnn.bind(variables)}
for name, model in cnns.items():
    print(f"- {name}:", verdict(porting.compare(torch_cnn, model, images, nhwc, tolerance=1e-10)))

# %% [markdown]
# ## What this network lacks
#
# Pools, the first line: the stride is the window in torch and 1 in flax. Then a kernel that you carry over yourself:
# torch's are (out, in, H, W), flax's (H, W, in, out). Where all sizes are equal, no shape tells that you forgot to
# transpose.

# %% tags=["trap:kernel-layout"]
print("2 by 2 pools: torch", tuple(F.max_pool2d(torch.from_numpy(images), 2).shape[2:]), end="  ")
print("flax", nnx.max_pool(nhwc, (2, 2)).shape[1:3], "or", nnx.max_pool(nhwc, (2, 2), strides=(2, 2)).shape[1:3])

weight, maps = rng.normal(size=(3, 3, 3, 3)), rng.normal(size=(2, 3, 6, 6))
conv = nn.Conv(3, (3, 3), padding="VALID", use_bias=False)
for name, kernel in ("as it is", weight), ("transposed", weight.transpose(2, 3, 1, 0)):
    ours = conv.apply({"params": {"kernel": kernel}}, np.moveaxis(maps, 1, -1))
    off = gap(F.conv2d(torch.from_numpy(maps), torch.from_numpy(weight)).movedim(1, -1), ours)
    print(f"a 3 by 3 kernel from 3 to 3 channels, {name}: off by {off:.1f}")

# %% [markdown] tags=["trap:flipped-kernel"]
# Transposed convolutions: torch's is the transpose of a convolution, flax's a convolution of the stretched input.
# They are each other's mirror image, so the port flips the kernel, and a padding of p is size - 1 - p in flax,
# `output_padding` added at the end. One input pixel shows the kernel itself.

# %%
source = torch.nn.ConvTranspose1d(1, 1, 3, bias=False, dtype=torch.float64)
with torch.no_grad():
    source.weight.copy_(torch.tensor([[[1.0, 2.0, 3.0]]]))
target = nnx.ConvTranspose(1, 1, (3,), padding="VALID", use_bias=False, rngs=nnx.Rngs(SEED))
target.kernel[...] = jnp.arange(1, 4, dtype=jnp.float32).reshape(3, 1, 1)
pixel = np.ones((1, 1, 1))
print("torch:", source(torch.from_numpy(pixel)).detach().numpy().ravel(), end="  ")
print("flax, same kernel:", target(pixel).ravel(), end="  ")
print("ported:", porting.torch_to_nnx(source, target)(pixel).ravel())

row = rng.normal(size=(1, 5, 2))
source = torch.nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1, output_padding=1).double()
target = nnx.ConvTranspose(2, 3, (4,), strides=2, padding=((2, 3),), rngs=nnx.Rngs(SEED))  # 4 - 1 - 1, and 1 more
assert gap(source(torch.from_numpy(row).mT).mT, porting.torch_to_nnx(source, target)(row)) < 1e-12
print("size 4, stride 2, padding 1, output_padding 1: equal within 1e-12  ok")


# %% [markdown]
# ## A recurrent network
#
# A tagger: a label for every token. torch's LSTM runs over the sequence by itself; flax has a *cell* for one
# step, and `RNN` scans it along the time axis, axis 1, starting from zeros, the first *carry*.
# (`OptimizedLSTMCell` is the LSTM with the matrices of its four gates multiplied at once, as torch does.)

# %%
class TorchTagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.rnn = torch.nn.LSTM(4, 5, batch_first=True)
        self.out = torch.nn.Linear(5, 3)

    def forward(self, tokens):  # (B, T) -> (B, T, 3)
        return self.out(self.rnn(self.embed(tokens))[0])


class NnxTagger(nnx.Module):
    def __init__(self, *, rngs):
        self.embed = nnx.Embed(10, 4, **F64, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(4, 5, **F64, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, tokens):
        return self.out(self.rnn(self.embed(tokens)))


# %% [markdown]
# Linen has one more surprise: under `nn.compact` a cell belongs to the model that builds it, so its weights
# stand beside `rnn` and not below it. How to read the error: *expected* is where torch's weight would go by its own
# name, *got* the places in Linen's tree that are still free. Then comes a guess, and the `names=` that would say so.

# %%
class LinenTagger(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(10, 4, name="embed")(tokens)
        x = nn.RNN(nn.OptimizedLSTMCell(5, **F64), name="rnn")(x)
        return nn.Dense(3, name="out")(x)


torch.manual_seed(SEED)
torch_tagger, linen_tagger = TorchTagger().double(), LinenTagger()
tokens = rng.integers(0, 10, (3, 6))
try:
    port_linen(torch_tagger, linen_tagger, tokens)
except porting.PortingError as error:
    print(f"{len(error.problems)} problems, the first:")
    print(textwrap.fill(f"{error.problems[0].wrong}; {error.problems[0].remedy}", 110))
linen_weights = port_linen(torch_tagger, linen_tagger, tokens, names={"rnn": "OptimizedLSTMCell_0"})
nnx_tagger = port_nnx(torch_tagger, NnxTagger)
for name, model in ("NNX", nnx_tagger), ("Linen", linen_tagger.bind(linen_weights)):
    print(f"{name}:", verdict(porting.compare(torch_tagger, model, tokens, tolerance=1e-10)))
pd.DataFrame(porting.mapping(torch_tagger, nnx_tagger)).drop(columns=["torch_shape", "flax_shape"])

# %% [markdown] tags=["trap:gru-bias"]
# Row 3: torch's LSTM has two biases and adds them up, flax's has one. The output agrees. For a GRU it is not
# that simple: the reset gate multiplies one of the two, called `b_hn`. Linen's cell has it; NNX's has not, and
# the port is refused unless `b_hn` is zero. `layers.GRUCell` is NNX's with that bias, in three lines: `course.layers`
# has what flax lacks and parity needs.

# %%
gru, words = torch.nn.GRU(4, 5, batch_first=True).double(), rng.normal(size=(2, 6, 4))
try:
    port_nnx(gru, lambda rngs: nnx.RNN(nnx.GRUCell(4, 5, **F64, rngs=rngs), rngs=rngs))
except porting.PortingError as error:
    print(textwrap.fill(str(error), 110))
linen_gru = nn.RNN(nn.GRUCell(5, **F64))
weights = port_linen(gru, linen_gru, words)
assert gap(gru(torch.from_numpy(words))[0], linen_gru.apply(weights, words)) < 1e-12
with_b_hn = port_nnx(gru, lambda rngs: nnx.RNN(layers.GRUCell(4, 5, **F64, rngs=rngs), rngs=rngs))
assert gap(gru(torch.from_numpy(words))[0], with_b_hn(words)) < 1e-12
print("Linen's hn/bias is b_hn:", gap(weights["params"]["cell"]["hn"]["bias"], gru.bias_hh_l0[10:]) == 0)

# %% [markdown]
# Two differences of an embedding that no comparison of ported weights shows: a fresh one has standard deviation 1 in
# torch and 1/√width in flax; and an index out of range raises in torch and gives NaN in flax, where a negative one
# counts from the end. (And `layers.Embed` has the `padding_idx` whose row gets no gradient.)

# %% tags=["trap:embedding-init"]
torch.manual_seed(SEED)
theirs, ours = torch.nn.Embedding(1000, 64), nnx.Embed(1000, 64, rngs=nnx.Rngs(SEED))
print(f"fresh: torch {theirs.weight.std().item():.2f}, flax {ours.embedding[...].std():.3f}, 1/√64 is {64**-0.5:.3f}")
try:
    theirs(torch.tensor([1000]))
except IndexError as error:
    print("torch:", type(error).__name__, "  flax:", ours(jnp.array([1000]))[0, :2])
assert bool((ours(jnp.array([-1])) == ours.embedding[-1]).all())
print("flax, index -1: the last row  ok")

# %% [markdown] tags=["trap:ignore-index"]
# ### A loss that skips the padding
#
# Sentences are padded to one length, and the padding has the label -100. torch's `cross_entropy` leaves it out
# and averages over the rest. Optax returns a loss for every token and knows no such label: it looks up the
# logit at index -100. That is out of range and gives NaN, which is the lucky case. With a hundred classes or
# more it is a class counted from the end, and a plausible number.
#
# Put a real label in its place *before* the loss, so that no NaN ever exists, and average over the real tokens.

# %% tags=["trap:per-example"]
labels = rng.integers(0, 3, (3, 6))
labels[0, 4:], labels[2, 2:] = -100, -100
expected = F.cross_entropy(torch_tagger(torch.from_numpy(tokens)).flatten(0, 1), torch.from_numpy(labels).flatten())
cross_entropy = jax.jit(optax.softmax_cross_entropy_with_integer_labels)
per_token = cross_entropy(nnx_tagger(tokens), labels)
print("a loss per token:", per_token.shape, " NaN:", int(jnp.isnan(per_token).sum()), " mean:", per_token.mean())

many = np.zeros((1, 200))
many[0, 100] = 9.0  # the class that -100 means among 200
print("with 200 classes, the loss of label -100:", cross_entropy(many, np.array([-100])).round(3))


def masked_loss(model, tokens, labels):
    mask = labels != -100
    per_token = cross_entropy(model(tokens), jnp.where(mask, labels, 0))
    return jnp.where(mask, per_token, 0).sum() / mask.sum()


too_small = np.where(labels != -100, per_token, 0).mean()
print(f"torch {expected.item():.3f}  masked, but averaged over the padding too {too_small:.3f}")
assert gap(expected, masked_loss(nnx_tagger, tokens, labels)) < 1e-12
print("masked_loss: equal to torch's within 1e-12  ok")

# %% [markdown] tags=["trap:lstm-biases"]
# ### Two biases under training
#
# Outputs agree, gradients agree, and yet one step of SGD parts the taggers: torch's two biases, each with the whole
# gradient, move their sum twice as far as flax moves its one bias. To train in parity, freeze one of torch's two, or
# give flax two as well: `layers.LSTMCell`. (`course.layers` has one more, `BatchNorm` with torch's running variance; it
# comes in [07](07_porting_checkpoints.ipynb).)

# %%
rate, lstm = 0.1, torch_tagger.rnn
expected.backward()  # torch's masked loss, from above
grads = nnx.jit(nnx.grad(masked_loss))(nnx_tagger, tokens, labels)
grad = grads["rnn"]["cell"]["dense_h"]["bias"][...]
assert gap(lstm.bias_ih_l0.grad, grad) < 1e-12 and gap(lstm.bias_hh_l0.grad, grad) < 1e-12


def sum_moves(trained):
    before = (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach()
    torch.optim.SGD(trained, rate).step()
    return (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach() - before


flax_moves = -rate * grad
assert gap(sum_moves([lstm.bias_ih_l0, lstm.bias_hh_l0]), 2 * flax_moves) < 1e-12
assert gap(sum_moves([lstm.bias_hh_l0]), flax_moves) < 1e-12
print("torch's two biases moved twice as far as flax's one; with one of them frozen, as far  ok")


# %% [markdown]
# ## A transformer
#
# One block, causal, with one matrix as input embedding and as output layer. In NNX that tie is a call:
# `embed.attend(x)` multiplies by the embedding. (`decode=False`: no cache of past keys, as for generation.)
#
# The NNX class has a switch for each of four things that one may overlook; the defaults are what one would
# write at first.

# %%
class TorchLM(torch.nn.Module):
    def __init__(self, words=11, width=8, heads=2):
        super().__init__()
        self.embed = torch.nn.Embedding(words, width)
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attention = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        self.up, self.down = torch.nn.Linear(width, 16), torch.nn.Linear(16, width)
        self.head = torch.nn.Linear(width, words, bias=False)
        self.head.weight = self.embed.weight  # tied

    def forward(self, tokens):  # (B, T) -> (B, T, words)
        later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        x = self.embed(tokens)
        z = self.norm1(x)
        x = x + self.attention(z, z, z, attn_mask=later, need_weights=False)[0]
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x)


# %%
class NnxLM(nnx.Module):
    def __init__(self, epsilon=1e-6, torch_mask=True, attention_fn=nnx.dot_product_attention, tanh=True, *, rngs):
        self.torch_mask, self.tanh = torch_mask, tanh
        self.embed = nnx.Embed(11, 8, **F64, rngs=rngs)
        self.norm1 = nnx.LayerNorm(8, epsilon=epsilon, rngs=rngs)
        self.norm2 = nnx.LayerNorm(8, epsilon=epsilon, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, attention_fn=attention_fn, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

    def __call__(self, tokens):
        later = jnp.triu(jnp.ones((tokens.shape[1], tokens.shape[1]), bool), 1)
        x = self.embed(tokens)
        x = x + self.attention(self.norm1(x), mask=later if self.torch_mask else ~later)
        x = x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=self.tanh))
        return self.embed.attend(x)


def float64_attention(query, key, value, mask, **_):  # (B, T, heads, width / heads)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)), value)


# %% [markdown]
# Ported as written, compared, mended where it differs, and compared again, until nothing is left. **Which of the four
# raises an error?**

# %%
torch.manual_seed(SEED)
torch_lm = TorchLM().double()
sentences = rng.integers(0, 11, (2, 5))
settings, rows = {}, []
for mended in ({}, {"epsilon": 1e-5}, {"torch_mask": False}, {"attention_fn": float64_attention}, {"tanh": False}):
    settings |= mended
    nnx_lm = port_nnx(torch_lm, NnxLM, **settings)
    first = porting.compare(torch_lm, nnx_lm, sentences, tolerance=1e-10).first
    if first is None:
        rows.append((*mended, "none", "", ""))
    else:
        size = "below 1e-06" if first.output_gap < 1e-6 else f"{first.output_gap:.0e}"
        rows.append((*(mended or ["as written"]), first.layer, size, first.input_gap < 1e-10))
table = pd.DataFrame(rows, columns=["just mended", "first that differs", "by", "its input agrees"])
assert list(table["first that differs"]) == ["norm1", "attention", "attention", "down", "none"]
table

# %% [markdown] tags=["trap:attention-mask"]
# None of them. Four differences, each found behind the one before:
#
# 1. `LayerNorm` adds 1e-5 to the variance in torch, 1e-6 in flax.
# 2. `True` in a mask means *hidden* in torch's `MultiheadAttention` and *visible* in flax. As written, every token saw
#    the future, neither the past nor itself; the last one, with nothing left to see, the average of all. No error.
# 3. No mistake of ours: NNX's attention calls `jax.nn.dot_product_attention`, whose softmax runs in float32
#    whatever the dtype. Linen's does not. For a proof in float64, pass NNX a function of your own.
# 4. `gelu` is the tanh approximation in JAX unless told otherwise. As a function it has no layer of its own; the
#    search names the next layer, and its *input* is wrong already.
#
# And the tie? A second matrix for the output would be trained apart, so the port refuses it.

# %%
untied = nnx.clone(nnx_lm)
untied.head = nnx.Linear(8, 11, use_bias=False, rngs=nnx.Rngs(SEED))
try:
    porting.torch_to_nnx(torch_lm, untied)
except porting.PortingError as error:
    print(textwrap.fill(str(error), 110))
print("with `attend`:", porting.mapping(torch_lm, nnx_lm)[-1])


# %%
class LinenLM(nn.Module):  # the same block, with nothing overlooked
    @nn.compact
    def __call__(self, tokens):
        mask = nn.make_causal_mask(tokens)  # flax's kind: True is visible
        embed = nn.Embed(11, 8, name="embed")
        x = embed(tokens)
        z = nn.LayerNorm(epsilon=1e-5, name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(z, mask=mask)
        z = nn.Dense(16, name="up")(nn.LayerNorm(epsilon=1e-5, name="norm2")(x))
        return embed.attend(x + nn.Dense(8, name="down")(nn.gelu(z, approximate=False)))


linen_lm = LinenLM()
lm_weights = port_linen(torch_lm, linen_lm, sentences)
print("Linen:", verdict(porting.compare(torch_lm, linen_lm.bind(lm_weights), sentences, tolerance=1e-10)))

# %% [markdown]
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

per_row, w = np.array(cross_entropy(a, classes)), weights[classes]  # a loss and a weight for each row
huber = optax.huber_loss(a, b, delta=0.5).mean()
smooth, plain = (jax.image.resize(eye, (2, 2), "bilinear", antialias=antialias)[0, 0] for antialias in (True, False))
cosine = jax.jit(optax.losses.cosine_similarity)
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
assert gap(table["torch"], table["right"]) < 1e-12 and not (table["torch"] == table["as it reads"]).any()
table.round(4)

# %% [markdown]
# The page [ROSETTA.md](../ROSETTA.md) has the layers, losses and functions that no lesson needed. A layer that
# `porting` does not know: write it in torch first, out of layers that it knows, and compare with the original there.
#
# ## Summary
#
# - Weights either fit or raise. What gets lost in silence are settings, and what happens between the layers: order of
#   axes, flattening, masks, activations.
# - The first layer that disagrees is the one to look at; mend it and ask again, for the next hides behind it.
# - In float64 a difference is a mistake. What remains has a name: two biases of an LSTM, `b_hn` of a GRU, attention's
#   float32 softmax; `course.layers` has what flax lacks.
#
# Next: [07 · porting checkpoints](07_porting_checkpoints.ipynb), on files of weights, and on proving a port by a
# training step.
