# %% [markdown]
# # Capstone after 07 · A sequence model with packed input
#
# **Does a whole PyTorch program train in JAX as it did, loss for loss?** (15 minutes)

# %% [markdown]
# Five exercises on one program, after lessons 06 to [07b](../07b_real_checkpoint.ipynb). Fill in the cells that say
# `your turn` and run the check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the
# solution, and `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax import nnx
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from course import checks, layers

torch.set_num_threads(1)

# %% [markdown]
# ## The program
#
# Sentences of 3 to 12 words, good ones, bad ones, and "not". Is the mood bad, neither, or good?


# %%
GOOD, BAD, NOT = range(12, 16), range(16, 19), 19  # 1 to 11 say nothing, 0 is the padding


def mood(sentence):  # 0, 1 or 2: more bad words than good ones, as many, or fewer
    score, sign = 0, 1
    for word in sentence:
        score += sign * ((word in GOOD) - (word in BAD))
        sign = -1 if word == NOT else 1  # "not" turns the next word around
    return 1 + (score > 0) - (score < 0)


def reviews(seed, count):
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(1, 20, length) for length in rng.integers(3, 13, count)]
    return sentences, np.array([mood(sentence) for sentence in sentences])


# %% [markdown]
# The model: an LSTM reads each sentence both ways. `pack_padded_sequence` tells it where each sentence ends, so that
# the padding is never read, and the way back starts at the last word.


# %%
class TorchReader(torch.nn.Module):
    def __init__(self, words, width, hidden, classes):
        super().__init__()
        self.embed = torch.nn.Embedding(words, width, padding_idx=0)
        self.rnn = torch.nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(2 * hidden, classes)

    def forward(self, tokens, lengths):  # (B, T), (B,) -> (B, classes)
        x = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.rnn(x)  # h: (2, B, hidden), what the two directions know in the end
        return self.out(torch.cat([h[0], h[1]], dim=1))


# %% [markdown]
# Batches are padded to their own longest sentence, and the last one may be short.


# %%
def torch_batches(sentences, labels, size):
    for start in range(0, len(sentences), size):
        part = [torch.from_numpy(sentence) for sentence in sentences[start : start + size]]
        lengths = torch.tensor([len(sentence) for sentence in part])
        yield pad_sequence(part, batch_first=True), lengths, torch.from_numpy(labels[start : start + size])


# %%
def torch_fit(model, sentences, labels, size, epochs):  # -> the loss of every step
    sgd, losses = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9), []
    for _ in range(epochs):
        for tokens, lengths, targets in torch_batches(sentences, labels, size):
            sgd.zero_grad()
            loss = F.cross_entropy(model(tokens, lengths), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            sgd.step()
            losses.append(loss.item())
    return losses


# %%
@torch.no_grad()
def torch_accuracy(model, sentences, labels, size):
    right = 0
    for tokens, lengths, targets in torch_batches(sentences, labels, size):
        right += (model(tokens, lengths).argmax(dim=1) == targets).sum().item()
    return right / len(sentences)


# %%
torch.manual_seed(0)
train, test = reviews(0, 420), reviews(1, 200)
torch_reader = TorchReader(20, 8, 12, 3)
torch_losses = torch_fit(torch_reader, *train, 64, 20)
for epoch in (0, 9, 19):
    print(f"epoch {epoch + 1:2}: mean loss {np.mean(torch_losses[7 * epoch : 7 * epoch + 7]):.1f}")
accuracy = torch_accuracy(torch_reader, *test, 64)
print("better than chance by far:", accuracy > 0.6)

# %% [markdown]
# ## Exercise 1: The model (3 minutes)
#
# **Given** `TorchReader`. `nnx.RNN` takes `seq_lengths=…`, and so does `nnx.Bidirectional`, which holds two of them;
# with `return_carry=True` it returns `((forward, backward), outputs)`, each carry an LSTM's `(c, h)`.
#
# **Asked** for the NNX module `Reader(words, width, hidden, classes, rngs=rngs)`, with `embed`, `rnn` (an
# `nnx.Bidirectional`) and `out`, called as `reader(tokens, lengths)`. It will train beside torch's: take the cells from
# `course.layers`.
#
# **Checked** with the weights of a random `TorchReader`, carried over by `porting.torch_to_nnx`: the logits of
# sentences of unlike length.


# %% tags=["stub"]
class Reader(nnx.Module):
    def __init__(self, words, width, hidden, classes, *, rngs):
        raise NotImplementedError("your turn")

    def __call__(self, tokens, lengths):  # (B, T), (B,) -> (B, classes)
        raise NotImplementedError("your turn")


# %% tags=["solution"]
class Reader(nnx.Module):
    def __init__(self, words, width, hidden, classes, *, rngs):
        self.embed = layers.Embed(words, width, padding_idx=0, rngs=rngs)
        forward, backward = (nnx.RNN(layers.LSTMCell(width, hidden, rngs=rngs), rngs=rngs) for _ in range(2))
        self.rnn = nnx.Bidirectional(forward, backward, rngs=rngs)
        self.out = nnx.Linear(2 * hidden, classes, rngs=rngs)

    def __call__(self, tokens, lengths):  # (B, T), (B,) -> (B, classes)
        carries, _ = self.rnn(self.embed(tokens), seq_lengths=lengths, return_carry=True)
        return self.out(jnp.concatenate([h for _, h in carries], axis=1))  # a carry is (c, h)


# %%
checks.reader_model(Reader)

# %% [markdown]
# ## Exercise 2: Batches of one shape (3 minutes)
#
# A compiled step is compiled again for every new shape. torch's batches have as many shapes as there are longest
# sentences, and the last one is short.
#
# **Given** `sentences`, a list of arrays, `labels` (n,), the batch `size`, and a `length` that no sentence exceeds.
#
# **Asked** for a list of batches, each a tuple `(tokens, lengths, labels, real)` of NumPy arrays with the shapes
# `(size, length)`, `(size,)`, `(size,)`, `(size,)`, whole numbers and, in `real`, bools. The order is torch's. The last
# batch is filled up; `real` is False in the rows that were added. Let these have the length 1, and zeros elsewhere.
#
# **Checked** against torch's batches, row by row, for numbers that leave a rest and numbers that do not.


# %% tags=["stub"]
def batches(sentences, labels, size, length):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def batches(sentences, labels, size, length):
    count = -(-len(sentences) // size)  # rounded up
    tokens, lengths = np.zeros((count * size, length), np.int32), np.ones(count * size, np.int32)
    targets, real = np.zeros(count * size, np.int32), np.arange(count * size) < len(sentences)
    for row, sentence in enumerate(sentences):
        tokens[row, : len(sentence)], lengths[row], targets[row] = sentence, len(sentence), labels[row]
    return list(zip(*(np.split(a, count) for a in (tokens, lengths, targets, real)), strict=True))


# %%
checks.reader_batches(batches)

# %% [markdown]
# ## Exercise 3: One step (4 minutes)
#
# **Given** a model, called as `model(tokens, lengths)`, and a batch as in exercise 2.
#
# **Asked** for `make_optimizer(model)`, an `nnx.Optimizer` that follows `torch_fit`'s rule, and
# `train_step(model, optimizer, batch)`, compiled, which makes a step and returns the loss.
#
# **Checked** against torch, loss and all weights, after one step and after three, on batches with rows that are not
# real: torch's batch never had them. (`clip_grad_norm_` adds 1e-6 to the norm, Optax does not; the check knows.)


# %% tags=["stub"]
def make_optimizer(model):
    raise NotImplementedError("your turn")


def train_step(model, optimizer, batch):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def make_optimizer(model):
    rule = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.2, momentum=0.9))
    return nnx.Optimizer(model, rule, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, batch):
    tokens, lengths, labels, real = batch

    def loss_fn(model):
        losses = optax.softmax_cross_entropy_with_integer_labels(model(tokens, lengths), labels)
        return jnp.where(real, losses, 0.0).sum() / real.sum()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


# %%
checks.reader_step(make_optimizer, train_step)

# %% [markdown]
# ## Exercise 4: How many are right (2 minutes)
#
# **Given** a model, and a list of batches as in exercise 2.
#
# **Asked** for the share of the sentences that the model labels rightly, a number.
#
# **Checked** with random models, and batches whose last one has few real rows.


# %% tags=["stub"]
def accuracy_of(model, batches):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def accuracy_of(model, batches):
    right = total = 0
    for tokens, lengths, labels, real in batches:
        right += int(((model(tokens, lengths).argmax(axis=1) == labels) & real).sum())
        total += int(real.sum())
    return right / total


# %%
checks.reader_accuracy(accuracy_of)

# %% [markdown]
# ## Exercise 5: The whole run (2 minutes)
#
# **Given** everything above.
#
# **Asked** for `fit(model, sentences, labels, size, length, epochs)`, which trains the model as `torch_fit` does and
# returns the loss of every step, a list of numbers.
#
# **Checked** with your `Reader`: from the same weights and on the same sentences as torch, the losses of all steps
# and the weights in the end.


# %% tags=["stub"]
def fit(model, sentences, labels, size, length, epochs):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def fit(model, sentences, labels, size, length, epochs):
    optimizer, losses = make_optimizer(model), []
    for _ in range(epochs):
        for batch in batches(sentences, labels, size, length):
            losses.append(float(train_step(model, optimizer, batch)))
    return losses


# %%
checks.reader_run(Reader, fit)

# %% [markdown]
# Back to [07b · A real checkpoint](../07b_real_checkpoint.ipynb), or on to the next lesson:
# [08 · What jit sees](../08_tracing.ipynb). [Solutions](../solutions/capstone_07_sequence.ipynb).
