# %% [markdown]
# # 06b · Porting sequences
#
# **What becomes of recurrent layers, attention masks and padded sentences?** (65 minutes)

# %% [markdown]
# After this lesson you can
#
# - write a recurrent layer as a Python loop over time, as `jax.lax.scan` and as `nnx.RNN`, and port an LSTM or GRU into
#   it,
# - turn `attn_mask` and `key_padding_mask` into the one mask that flax takes,
# - write a loss that leaves padding out, without a NaN,
# - name what flax lacks for parity, and take it from `course.layers`.

# %%
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
SEED, RATE, TOLERANCE = 0, 0.1, 1e-10

plots.use()
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64, so that a gap of 1e-8 is a mistake and not rounding
F64 = {"param_dtype": jnp.float64}  # embeddings and recurrent layers compute in the dtype that they were built with
rng = np.random.default_rng(SEED)


def gap(a, b):  # the largest difference
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


def shown(number):
    return f"below {TOLERANCE:.0e}" if number < TOLERANCE else f"{number:.2g}"


# %% [markdown]
# ## Embeddings
#
# A table of vectors is the same thing on both sides, and its weights need no transposition. Two differences show up in
# no comparison of ported weights. The first is the table that you start with:

# %% tags=["trap:embedding-init"]
torch.manual_seed(SEED)
torch_table, table = torch.nn.Embedding(1000, 64), nnx.Embed(1000, 64, rngs=nnx.Rngs(SEED))
print(f"standard deviation, fresh: torch {torch_table.weight.std().item():.2f}, flax {table.embedding[...].std():.3f}")
print(f"1/sqrt(64) = {64**-0.5:.3f}")

# %% [markdown]
# torch draws with standard deviation 1, flax with 1/√width: a model trained from scratch starts elsewhere. The second
# difference is an index that is out of range. torch raises an `IndexError`.
#
# **Predict.** What does flax do with index 1000 of a table of 1000 rows, and with index -1?

# %%
with fails(IndexError):
    torch_table(torch.tensor([1000]))
print("flax, index 1000:", table(jnp.array([1000]))[0, :3])
print("flax, index -1:  ", table(jnp.array([-1]))[0, :3].round(4), " last row:", table.embedding[-1, :3].round(4))


# %% [markdown]
# NaN, and the last row. A compiled program can't raise over a value that it meets while it runs, so flax fills in NaN,
# which at least spreads to the loss. (It looks up by `jnp.take`; plain indexing of the array would give the last row,
# as in [00](00_start_here.ipynb).) A negative index counts from the end, as in Python: a token -1 for padding reads a
# real row, and nothing tells. (`layers.Embed` has torch's `padding_idx`, whose row gets no gradient.)
#
# ## A recurrent layer is a loop
#
# torch's `LSTM` takes the whole sequence. flax has a *cell* for one step, a function of what it remembers and of one
# input: `carry, y = cell(carry, x)`. The *carry* starts as zeros. So a recurrent layer is a Python loop over time, and
# nothing else. (`OptimizedLSTMCell` is the LSTM with the matrices of its four gates multiplied at once, as torch does.)
#
# **Predict.** torch returns its last state as `(h, c)`. In which order does flax's carry hold the two?

# %%
def unrolled(cell, x):  # (B, T, 4) -> the last carry, and (B, T, 5)
    carry, outputs = (jnp.zeros((len(x), 5)), jnp.zeros((len(x), 5))), []
    for t in range(x.shape[1]):
        carry, y = cell(carry, x[:, t])
        outputs.append(y)
    return carry, jnp.stack(outputs, axis=1)


torch.manual_seed(SEED)
lstm, words = torch.nn.LSTM(4, 5, batch_first=True).double(), rng.normal(size=(2, 6, 4))
rnn = nnx.RNN(nnx.OptimizedLSTMCell(4, 5, **F64, rngs=nnx.Rngs(SEED)), rngs=nnx.Rngs(SEED))
cell = porting.torch_to_nnx(lstm, rnn).cell
y, (h, c) = lstm(torch.from_numpy(words))
carry, ours = unrolled(cell, words)
print("torch:", y[0, -1].detach().numpy().round(4))
print("loop: ", ours[0, -1].round(4), " gap over all steps:", shown(gap(y, ours)))
print("carry[0] is h, gap:", shown(gap(carry[0], h[0])), "  carry[0] is c, gap:", shown(gap(carry[0], c[0])))

# %% [markdown]
# The loop gives torch's numbers, and flax's carry is `(c, h)`, the other way round. Whoever hands torch's state over
# and forgets to swap gets no error, for both have the same shape.
#
# The picture has the same cell at every step; only the carry moves on.

# %% alt="Above, the loop: four blue rounded boxes named cell in a row, x0 to x3 entering from below, y0 to y3 leaving above, and an arrow named carry from each cell to the one behind it, beginning with zeros. Right, the scan: one such box with an arrow that leads the carry back into it, all of x entering and all of y leaving."
diagram = plots.Diagram(height=2.5)
before = diagram.array(0.5, 1.2, "zeros", width=0.7)
for t in range(4):
    x = 1.6 + 1.15 * t
    box = diagram.function(x, 1.2, "cell", side="jax", width=0.65)
    diagram.arrow(before, box, "carry" if t else "", side="jax")
    diagram.arrow(diagram.array(x, 0.3, f"x{t}", width=0.5, height=0.35), box)
    diagram.arrow(box, diagram.array(x, 2.05, f"y{t}", width=0.5, height=0.35))
    before = box
diagram.note(3.3, 2.4, "the loop: the cell's operations once a step")
scan = diagram.function(7.0, 1.2, "cell", side="jax", width=0.65)
diagram.arrow(diagram.array(7.0, 0.3, "all of x", width=0.9, height=0.35), scan)
diagram.arrow(scan, diagram.array(7.0, 2.05, "all of y", width=0.9, height=0.35))
diagram.arrow((7.33, 1.3), (7.33, 1.1), side="jax", bend=-2.6)
diagram.note(7.68, 1.42, "carry", side="jax", size=8.5)
diagram.note(7.0, 2.4, "the scan: once in all")
plt.show()
print("steps:", words.shape[1], " outputs:", ours.shape, " carry:", [part.shape for part in carry])


# %% [markdown]
# `jax.lax.scan(cell, carry, xs)` is that loop as one operation: it calls `cell` on each entry of the *first* axis of
# `xs`, hands the carry on, and stacks the outputs. So time moves to the front and back. `nnx.RNN` does this for you.
# The program that JAX records (a *jaxpr*, [08](08_tracing.ipynb)) shows why one would want it:

# %%
def scanned(cell, x):
    zeros = jnp.zeros((len(x), 5))
    carry, y = jax.lax.scan(cell, (zeros, zeros), jnp.moveaxis(x, 1, 0))  # time first
    return carry, jnp.moveaxis(y, 0, 1)


print("scan against the loop, gap:   ", shown(gap(scanned(cell, words)[1], ours)))
print("nnx.RNN against the loop, gap:", shown(gap(rnn(words), ours)))
for steps in (6, 60):
    zeros = np.zeros((2, steps, 4))
    sizes = [len(jax.make_jaxpr(lambda x, f=f: f(cell, x))(zeros).eqns) for f in (unrolled, scanned)]
    print(f"{steps} steps: the loop records {sizes[0]} operations, the scan {sizes[1]}")


# %% [markdown]
# All three agree. The loop's program grows with the sequence, and with it the time to compile. The scan's does not: one
# of its four operations is the scan, which holds the cell's program once; the others move axes and make zeros. A loop
# is fine for six steps, and for finding out what a cell does.
#
# ## A tagger
#
# A label for every token: embedding, LSTM, linear layer. `nnx.RNN` stands where torch has `LSTM`, and has the time
# on axis 1, as `batch_first=True`.

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


# %%
def port_nnx(source, make, **settings):
    model = porting.torch_to_nnx(source, make(**settings, rngs=nnx.Rngs(SEED)))
    model.eval()
    return model


def verdict(comparison):
    return str(comparison).partition("; largest gap")[0]  # what follows is rounding


torch.manual_seed(SEED)
torch_tagger, tokens = TorchTagger().double(), rng.integers(0, 10, (3, 6))
nnx_tagger = port_nnx(torch_tagger, NnxTagger)
print("torch:", torch_tagger(torch.from_numpy(tokens))[0, 0].detach().numpy().round(4))
print("NNX:  ", nnx_tagger(tokens)[0, 0].round(4))
print(verdict(porting.compare(torch_tagger, nnx_tagger, tokens, tolerance=TOLERANCE)))
pd.DataFrame(porting.mapping(torch_tagger, nnx_tagger)).drop(columns=["torch_shape", "flax_shape"])


# %% [markdown]
# Row 3: torch's LSTM has two biases and adds them up, flax's has one. The outputs agree all the same.
#
# Linen has a surprise of its own. Under `nn.compact` a cell belongs to the model that builds it, so its weights stand
# beside `rnn` and not below it, and the port does not find them:

# %%
class LinenTagger(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(10, 4, name="embed")(tokens)
        x = nn.RNN(nn.OptimizedLSTMCell(5, **F64), name="rnn")(x)
        return nn.Dense(3, name="out")(x)


linen_tagger = LinenTagger()
template = jax.eval_shape(linen_tagger.init, jax.random.key(SEED), tokens)
try:
    porting.torch_to_linen(torch_tagger, template)
except porting.PortingError as error:
    print(f"PortingError, {len(error.problems)} problems, the first:")
    print(textwrap.fill(f"{error.problems[0].wrong}; {error.problems[0].remedy}", 100))

# %% [markdown]
# How to read it: the port lists every array without a place. *expected* is where torch's weight would go by its own
# name, *got* the places in Linen's tree that are still free, then comes a guess, and the `names=` that would say so.
# Say so:

# %%
linen_weights = porting.torch_to_linen(torch_tagger, template, names={"rnn": "OptimizedLSTMCell_0"})
ours = linen_tagger.apply(linen_weights, tokens)
print("Linen:", ours[0, 0].round(4), " gap to NNX over all tokens:", shown(gap(nnx_tagger(tokens), ours)))

# %% [markdown]
# A GRU has two biases as well, and here they do not add up: the reset gate multiplies one of the two, called `b_hn`.
# Linen's cell has it. NNX's has not:

# %% tags=["trap:gru-bias"]
gru = torch.nn.GRU(4, 5, batch_first=True).double()
with fails(porting.PortingError):
    port_nnx(gru, lambda rngs: nnx.RNN(nnx.GRUCell(4, 5, **F64, rngs=rngs), rngs=rngs))
with_b_hn = port_nnx(gru, lambda rngs: nnx.RNN(layers.GRUCell(4, 5, **F64, rngs=rngs), rngs=rngs))
theirs = gru(torch.from_numpy(words))[0]
print("torch:         ", theirs[0, -1].detach().numpy().round(4))
print("layers.GRUCell:", with_b_hn(words)[0, -1].round(4), " gap over all steps:", shown(gap(theirs, with_b_hn(words))))

# %% [markdown]
# How to read it: the sizes fit, but a number would be lost, so the port refuses. `layers.GRUCell` is NNX's cell with
# that bias, in a few lines; [course/layers](../course/layers/nnx.py) has what flax lacks and parity needs.
#
# ## A loss that skips the padding
#
# Sentences are padded to one length, and the padding has the label -100. torch's `cross_entropy` leaves it out
# (`ignore_index=-100` is its default) and averages over the rest. Optax returns a loss for every token and knows no
# such label: it looks up the logit at index -100.
#
# **Predict.** Of 3 classes there is no logit -100. What is the loss there, and what is it with 200 classes?

# %% tags=["trap:ignore-index"]
labels = rng.integers(0, 3, (3, 6))
labels[0, 4:], labels[2, 2:] = -100, -100
expected = F.cross_entropy(torch_tagger(torch.from_numpy(tokens)).flatten(0, 1), torch.from_numpy(labels).flatten())
cross_entropy = jax.jit(optax.softmax_cross_entropy_with_integer_labels)
per_token = cross_entropy(nnx_tagger(tokens), labels)
print("labels, first sentence:", labels[0], " loss:", per_token[0].round(3))
print("mean over all:", per_token.mean(), "  torch:", round(expected.item(), 3))

many = np.zeros((1, 200))
many[0, 100] = 9.0  # the class that -100 means among 200
print("200 classes, label -100:", cross_entropy(many, np.array([-100])).round(3))


# %% [markdown]
# NaN is the lucky case. With a hundred classes or more, -100 is a class counted from the end and the loss a plausible
# number. Put a real label in its place *before* the loss, so that no NaN ever exists (a NaN that is masked
# afterwards can still reach the gradient), and average over the real tokens.

# %% tags=["trap:per-example"]
def masked_loss(model, tokens, labels):
    mask = labels != -100
    per_token = cross_entropy(model(tokens), jnp.where(mask, labels, 0))
    return jnp.where(mask, per_token, 0).sum() / mask.sum()


loss = masked_loss(nnx_tagger, tokens, labels)
diluted = np.where(labels != -100, per_token, 0).mean()
print(f"torch {expected.item():.6f}  masked_loss {loss:.6f}  gap {shown(gap(expected, loss))}")
print(f"masked, but averaged over the padding too: {diluted:.6f}")

# %% [markdown]
# Back to the LSTM's biases. Outputs agree, and so do the gradients: each of torch's two biases has the gradient that
# flax's one bias has.
#
# **Predict.** After one step of SGD on both sides, do the taggers still agree?

# %% tags=["trap:lstm-biases"]
expected.backward()  # torch's masked loss, from above
grads = nnx.jit(nnx.grad(masked_loss))(nnx_tagger, tokens, labels)
grad, theirs = grads["rnn"]["cell"]["dense_h"]["bias"][...], torch_tagger.rnn
biases = theirs.bias_ih_l0, theirs.bias_hh_l0
print("gaps of the gradients:", " and ".join(shown(gap(bias.grad, grad)) for bias in biases))


def sum_moves(trained):
    before = sum(biases).detach()
    torch.optim.SGD(trained, RATE).step()
    return (sum(biases).detach() - before).numpy()


flax_moves = -RATE * grad
both, one = sum_moves(biases), sum_moves(biases[1:])
for name, moves in ("flax's bias", flax_moves), ("torch's sum of two", both), ("one of the two frozen", one):
    print(f"{name:22}", (1e4 * moves[:4]).round(3), "e-4   ratio to flax's:", (moves / flax_moves).mean().round(3))


# %% [markdown]
# No. Both of torch's biases move, so their sum moves twice as far: under SGD, a doubled learning rate for the bias.
# To train in parity, freeze one of torch's two, or give flax two as well: `layers.LSTMCell`.
#
# ## A transformer
#
# One block, causal, with one matrix as input embedding and as output layer. In NNX that tie is a call:
# `embed.attend(x)` multiplies by the embedding. (`decode=False`: without the cache of past keys that generation uses.)
# The NNX class has a switch for each of four things that one may overlook; the defaults are what one would write at
# first.

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
# Ported as written, compared, mended where it differs, and compared again, until nothing is left, as in
# [06](06_porting_layers.ipynb).
#
# **Predict.** Four differences are in that class. How many of them raise an error?

# %% tags=["trap:attention-mask"]
torch.manual_seed(SEED)
torch_lm = TorchLM().double()
sentences = rng.integers(0, 11, (2, 5))
settings, rows = {}, []
for mended in ({}, {"epsilon": 1e-5}, {"torch_mask": False}, {"attention_fn": float64_attention}, {"tanh": False}):
    settings |= mended
    nnx_lm = port_nnx(torch_lm, NnxLM, **settings)
    first = porting.compare(torch_lm, nnx_lm, sentences, tolerance=TOLERANCE).first
    if first is None:
        rows.append((*mended, "none", "", ""))
    else:
        size = "below 1e-06" if first.output_gap < 1e-6 else f"{first.output_gap:.0e}"
        rows.append((*(mended or ["as written"]), first.layer, size, first.input_gap < TOLERANCE))
table = pd.DataFrame(rows, columns=["just mended", "first that differs", "by", "its input agrees"])
assert list(table["first that differs"]) == ["norm1", "attention", "attention", "down", "none"]
table

# %% [markdown]
# None. Four differences, each found behind the one before:
#
# 1. `norm1`: epsilon, the fifth default of [02](02_same_numbers.ipynb), 1e-5 in torch and 1e-6 in flax.
# 2. `attention`: `True` in a mask means *hidden* in torch's `MultiheadAttention` and *visible* in flax. As written,
#    a token saw the future, and neither the past nor itself.
# 3. `attention` again, no mistake of ours: NNX's attention calls `jax.nn.dot_product_attention`, whose softmax runs in
#    float32 whatever the dtype. Linen's does not. For a proof in float64, pass NNX a function of your own.
# 4. `down`: `gelu`, the fourth default of 02, the tanh approximation in JAX. As a function it has no layer of its own;
#    the search names the layer behind it, whose *input* is wrong already.
#
# Masks deserve a second look. torch has two: `attn_mask` (T, T), and `key_padding_mask` (B, T) for padded sentences.
# flax has one, (B, 1, T, T), with an axis for the heads. Negate both, and a key must be allowed by *both*: `&`.

# %%
later = np.triu(np.ones((5, 5), bool), 1)  # torch's: True is hidden
padding = np.array([[False] * 5, [False] * 3 + [True] * 2])  # the second sentence has three words
mask = ~later & ~padding[:, None, None, :]  # flax's: True is visible
z = rng.normal(size=(2, 5, 8))
t_z, t_later, t_padding = map(torch.from_numpy, (z, later, padding))
theirs, _ = torch_lm.attention(t_z, t_z, t_z, attn_mask=t_later, key_padding_mask=t_padding, need_weights=False)
print("flax's mask:", mask.shape)
for name, tried in {"~later & ~padding": mask, "~later | ~padding": ~later | ~padding[:, None, None, :]}.items():
    print(f"{name}: gap to torch {shown(gap(theirs, nnx_lm.attention(z, mask=tried)))}")

# %% alt="Heat maps of masks for five tokens, True in full colour. PyTorch, orange: attn_mask with True above the diagonal; key_padding_mask with True at the last two keys of the second sentence. JAX, blue: flax's mask for sentence 0 with True on and below the diagonal, for sentence 1 the same without the last two columns."
diagram = plots.Diagram(height=2.2)
size = 0.26
diagram.cells(1.15, 1.05, later, side="torch", size=size, text="", marked=later, title="attn_mask")
diagram.cells(3.0, 1.05, padding, side="torch", size=size, text="", marked=padding, title="key_padding_mask")
for sentence in range(2):
    seen = mask[sentence, 0]
    place = 5.0 + 1.85 * sentence
    diagram.cells(place, 1.05, seen, side="jax", size=size, text="", marked=seen, title=f"mask, sentence {sentence}")
diagram.note(2.1, 2.05, "PyTorch: True (full colour) is hidden", side="torch")
diagram.note(5.95, 2.05, "flax: True (full colour) is visible", side="jax")
for x, rows in ((1.15, "query"), (3.0, "sentence"), (5.0, "query"), (6.85, "query")):
    diagram.note(x, 0.2, "key →", size=8)
    diagram.axes.text(x - 0.78, 1.05, f"← {rows}", rotation=90, ha="center", va="center", fontsize=8)
plt.show()
print("hidden by torch's two:", later.sum(), "and", padding.sum(), "  visible in flax:", mask.sum(axis=(1, 2, 3)))

# %% [markdown]
# With `|` a key is visible as soon as one of the two allows it, so the padding leaks in, and the future as well.
# Neither side raises. A row that allows no key at all has no right answer: torch returns NaN or zeros (by
# `need_weights` and by mode), flax the mean of all values, our `float64_attention` with its -inf NaN. Let no query be
# without a key.
#
# And the tie? A second matrix for the output would be trained apart, so the port refuses it.

# %%
untied = nnx.clone(nnx_lm)
untied.head = nnx.Linear(8, 11, use_bias=False, rngs=nnx.Rngs(SEED))
with fails(porting.PortingError):
    porting.torch_to_nnx(torch_lm, untied)
tied = porting.mapping(torch_lm, nnx_lm)[-1]
print(f"with `attend`: {tied.torch} -> {tied.rule}")

# %% [markdown]
# How to read it: two names in torch are one tensor, and flax has two arrays for them. `embed.attend` needs no array of
# its own.
#
# ## Summary
#
# - A recurrent layer is a loop over a cell: `carry, y = cell(carry, x)`. `jax.lax.scan` and `nnx.RNN` are that loop
#   as one operation.
# - What raises is cheap. A mask the wrong way round, an index of -1, a label of -100, the tanh `gelu` and a second bias
#   raise nothing: compare numbers.
# - In float64 a difference is a mistake. What remains has a name: two biases of an LSTM, `b_hn` of a GRU, attention's
#   float32 softmax; `course.layers` has what flax lacks.
#
# ## Further reading
#
# - [flax.nnx recurrent layers](https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html): the
#   cells' equations, `RNN`, `Bidirectional`
# - [torch.nn.GRU](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html): torch's equations, with `b_hn`
#   inside the reset gate's product
# - [jax.lax.scan](https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html): its meaning as a Python loop
# - [torch.nn.MultiheadAttention](https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html): both
#   masks and their shapes
# - [dot_product_attention](https://docs.jax.dev/en/latest/_autosummary/jax.nn.dot_product_attention.html): JAX's side,
#   where True is visible
#
# Exercises: [your turn](exercises/06b_porting_sequences.ipynb).
#
# Next: [07 · Porting checkpoints](07_porting_checkpoints.ipynb).
