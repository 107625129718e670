# %% [markdown]
# # 01a · Exercises: Who survives? The program you know, in PyTorch
#
# **What does a PyTorch program do besides what it returns?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../01a_titanic_torch.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import torch

from course import checks

# %% [markdown]
# ## Exercise 1: What did that step change? (5 minutes)
#
# In JAX, all that a step reads and changes will be its arguments and its results. To port one, you must know what that
# is. Write the detective.
#
# **Given** a function `step(model, optimizer, x, y)`, which you do not know, and the four things that it is called
# with. The optimizer is `torch.optim.Adam`.
#
# **Asked** for a function that runs the step once and returns the set of what the step changed, by these names:
#
# - `"weights"`, the model's parameters, and `"gradients"`, what their `.grad` holds,
# - `"buffers"`, such as BatchNorm's averages,
# - `"optimizer"`, the tensors that the optimizer keeps in `optimizer.state`,
# - `"generator"`, torch's global generator, whose state `torch.get_rng_state()` returns.
#
# **Checked** with eight steps, from a whole training step to one that writes to a single bias.


# %% tags=["stub"]
def changed(step, model, optimizer, x, y):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def changed(step, model, optimizer, x, y):
    def look():
        places = {
            "weights": model.parameters(),
            "gradients": [weight.grad for weight in model.parameters()],
            "buffers": model.buffers(),
            "optimizer": [tensor for moments in optimizer.state.values() for tensor in moments.values()],
            "generator": [torch.get_rng_state()],
        }
        return {name: [t if t is None else t.detach().clone() for t in place] for name, place in places.items()}

    def alike(a, b):
        return a is b if a is None or b is None else torch.equal(a, b)

    before = look()
    step(model, optimizer, x, y)
    after = look()
    return {p for p in before if len(before[p]) != len(after[p]) or not all(map(alike, before[p], after[p]))}


# %%
checks.changed(changed)

# %% [markdown]
# ## Exercise 2: Ages by class (2 minutes)
#
# Passengers of the first class were older. So a missing age is better guessed from the class than from everybody.
#
# **Given** two pandas tables, `train` and `test`, with columns `pclass` (1, 2 or 3) and `age` (years, NaN where
# missing). Every class has known ages in `train`.
#
# **Asked** for two arrays of ages, `(n_train,)` and `(n_test,)`: a missing one becomes the median of its class, then
# all are standardised, with the mean and the standard deviation (divided by n) of the filled training ages. Nothing
# may flow from `test` into either. The tables stay as they are.
#
# **Checked** against plain NumPy, on random tables, the test passengers being older.


# %% tags=["stub"]
def ages_by_class(train, test):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def ages_by_class(train, test):
    medians = train.groupby("pclass")["age"].median()
    filled = [table["age"].fillna(table["pclass"].map(medians)).to_numpy() for table in (train, test)]
    mean, scale = filled[0].mean(), filled[0].std()  # NumPy's std divides by n, pandas' by n - 1
    return tuple((ages - mean) / scale for ages in filled)


# %%
checks.ages_by_class(ages_by_class)

# %% [markdown]
# ## Exercise 3: A loss that leaves no trace (3 minutes)
#
# **Given** a model with BatchNorm and dropout that returns one logit per row, in training or in eval mode, and a
# `loader` of batches `(x, y)`. The last batch is shorter.
#
# **Asked** for the mean over all rows of the binary cross-entropy, as the model gives it in eval mode; a number. Leave
# the model as you found it: weights, averages, gradients, mode.
#
# **Checked** with random models in both modes, and a last batch unlike the others.


# %% tags=["stub"]
def mean_loss(model, loader):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def mean_loss(model, loader):
    was_training, total, rows = model.training, 0.0, 0
    model.eval()
    with torch.no_grad():
        for x, y in loader:
            losses = torch.nn.functional.binary_cross_entropy_with_logits(model(x), y, reduction="none")
            total, rows = total + losses.sum().item(), rows + len(y)
    model.train(was_training)
    return total / rows


# %%
checks.mean_loss(mean_loss)

# %% [markdown]
# ## Exercise 4: A collate for sequences (3 minutes)
#
# A compiled program has fixed shapes. Sequences of any length would need a program each, so they are padded, to few
# lengths.
#
# **Given** `samples`, a list of pairs: a float32 tensor of shape `(length, d)`, each of its own length, and a label, a
# float. And `multiple`, an int.
#
# **Asked** for a collate function that returns three tensors: `x` of shape `(B, L, d)`, zeros after the end of each
# sequence; `mask` of shape `(B, L)`, True where there is a row of the sequence; `y` of shape `(B,)`, float32. `L` is
# the smallest multiple of `multiple` that holds the longest sequence.
#
# **Checked** with random lengths; a sequence may hold a row of zeros.


# %% tags=["stub"]
def padded_collate(samples, multiple):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def padded_collate(samples, multiple):
    sequences, labels = zip(*samples, strict=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    length = -(-max(map(len, sequences)) // multiple) * multiple  # rounded up
    x = torch.zeros(len(samples), length, sequences[0].shape[1])
    for row, sequence in zip(x, sequences, strict=True):
        row[: len(sequence)] = sequence
    return x, torch.arange(length) < lengths[:, None], torch.tensor(labels)


# %%
checks.padded_collate(padded_collate)

# %% [markdown]
# Back to the [lesson](../01a_titanic_torch.ipynb), or on to the next one:
# [01b · Who survives? The same program in Flax NNX](../01b_titanic_nnx.ipynb).
# [Solutions](../solutions/01a_titanic_torch.ipynb).
