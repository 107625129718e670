# %% [markdown]
# # 01a · Who survives? The program you know, in PyTorch
#
# **What does a complete PyTorch training program do, step by step?** (40 minutes)

# %% [markdown]
# After this lesson you can
#
# - name the ten steps that lessons `01b` and `01c` repeat in Flax NNX and Flax Linen,
# - say which of them rely on state that PyTorch keeps for you,
# - tell how good a Titanic model can be, and which columns would be cheating.
#
# You know PyTorch: only the data are new to you. Read it as the reference that the next two lessons quote, and
# watch for what changes behind your back: that is what JAX takes away.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from course import metrics, plots
from course.data import FEATURES, Features, labels, load_titanic, split
from course.failures import fails
from course.loaders import make_loader

# %%
SEED, BATCH, EPOCHS, RATE = 0, 32, 40, 1e-3
TABLE = None  # None: the 1309 passengers that ship with the course; or a path to Kaggle's train.csv

plots.use()
torch.set_num_threads(1)  # a model this small loses more to threads than it gains

# %% [markdown] tags=["step:data"]
# ## Step 1 · Data
#
# One row per passenger; `survived` is the label. Missing values are part of this table, so we count them before
# anything else touches it.

# %%
passengers = load_titanic(TABLE)
print("missing:", passengers.isna().sum().loc[lambda count: count > 0].to_dict())
passengers[["survived", "pclass", "sex", "age", "fare", "embarked", "name"]].head(4)

# %% [markdown]
# `boat` is the lifeboat that picked somebody up, `body` the number of a body that was found.
#
# **Predict.** How often is this rule right: "who has a boat number survived, who has none did not"?

# %%
if "boat" in passengers:  # Kaggle's table does not have them
    leak = (passengers["boat"].notna() == (passengers["survived"] == 1)).mean()
    found_dead = passengers.loc[passengers["body"].notna(), "survived"].mean()
    print(f"the rule 'has a boat number' is right for {leak:.1%}")
    print(f"survivors among those with a body number: {found_dead:.0%}")

# %% [markdown]
# Both columns were written down *after* the sinking: they hold the answer. A model that sees them looks
# brilliant and has learned nothing, so we leave them out, here and in every later lesson.
#
# What remains becomes 15 numbers a passenger, by `course.data.Features` ([source](../course/data.py)):
#
# - a missing age or fare becomes the median, a missing port the most frequent one,
# - the fare becomes log(1 + fare), then age, fare, siblings and parents are standardised,
# - class, sex, port and the title in the name become 0 or 1, a column for each.
#
# Medians, means and scales are constants to be fitted. On which passengers?

# %%
train, valid, test = split(passengers, SEED)  # by a seed, each with the same share of survivors
features, leaking = Features.fit(train), Features.fit(passengers)
print(len(train), "train,", len(valid), "validation,", len(test), "test")
for name, fitted in {"the training passengers": features, "everybody": leaking}.items():
    print(f"fitted on {name}: fare {fitted.fill['fare']:.2f}, mean age {fitted.mean[0]:.3f}")

# %% [markdown]
# The two differ: constants of everybody carry test passengers into training. Here the leak is small, elsewhere it
# can decide a result. So `Features.fit` sees `train` alone, and the other two splits are transformed with its
# constants. One passenger without an age, before and after:

# %%
one = train[train["age"].isna()].iloc[:1]
columns = [*("age", "fare", "sibsp", "parch"), *["pclass"] * 3, "sex", *["embarked"] * 3, *["name"] * 4]
before = [str(one[column].iloc[0])[:24] for column in columns]
after = features(one)[0]  # (15,) float32
by_hand = (train["age"].median() - features.mean[0]) / features.scale[0]
print(f"age by hand: ({train['age'].median()} - {features.mean[0]:.2f}) / {features.scale[0]:.2f} = {by_hand:.2f}")
pd.DataFrame({"column": columns, "before": before, "after": after.round(2)}, FEATURES)


# %% [markdown]
# `Dataset` and `DataLoader`: the dataset returns one row and its label; the loader shuffles, groups 32 of
# them and *collates* them into tensors. The generator belongs to the loader, so this shuffle depends on
# nothing else. `drop_last` leaves the short last batch out; 01b says why we want that.
# `course.loaders.make_loader` wraps these lines for later use.

# %%
class Passengers(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


train_set = Passengers(features(train), labels(train))
shuffle = torch.Generator().manual_seed(SEED)
loader = DataLoader(train_set, BATCH, shuffle=True, drop_last=True, generator=shuffle)
x, y = next(iter(loader))
print(type(x).__name__, tuple(x.shape), x.dtype, "and", tuple(y.shape), y.dtype)

# validation and test become one batch each
x_valid, y_valid = torch.from_numpy(features(valid)), torch.from_numpy(labels(valid))
x_test, y_test = torch.from_numpy(features(test)), torch.from_numpy(labels(test))


# %% [markdown] tags=["step:model"]
# ## Step 2 · Model
#
# One hidden layer. `__init__` creates layers *and their weights*; `forward` uses them.

# %%
class TitanicMLP(nn.Module):
    def __init__(self, features=15, width=64):
        super().__init__()
        self.hidden = nn.Linear(features, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        x = torch.relu(self.hidden(x))  # (B, width)
        return self.out(x).squeeze(-1)  # (B,)


# %% [markdown] tags=["step:init"]
# ## Step 3 · Instantiation and initial weights
#
# Printing a module shows its layers. Their weights come from a global random generator, so whoever draws before
# you changes what you get.

# %%
torch.manual_seed(SEED)
model = TitanicMLP()
print(model, "\nparameters:", sum(weight.numel() for weight in model.parameters()))

torch.manual_seed(SEED)
torch.rand(1)  # one innocent draw in between
shifted = TitanicMLP()
print("same seed, first weight:", *(f"{m.hidden.weight[0, 0].item():.4f}" for m in (model, shifted)))

# %% [markdown]
# A parameter is registered under its name, and PyTorch guards the name: a bare tensor can't take its place.

# %%
with fails(TypeError):
    model.out.weight = torch.zeros(1, 64)

# %% [markdown]
# The message names what fits: an `nn.Parameter`. To keep the parameter and change its values, write
# `model.out.weight.copy_(...)` under `no_grad()`. Remember the guard: `01b` asks for it again.

# %% [markdown] tags=["step:forward"]
# ## Step 4 · A forward pass
#
# One call on one batch gives one logit per passenger, and records a graph for the backward pass. The loss insists
# that logits and labels have one shape:

# %%
logits = model(x)
print(tuple(logits.shape), "recorded:", logits.grad_fn is not None)

with fails(ValueError):
    binary_cross_entropy_with_logits(logits.unsqueeze(-1), y)

# %% [markdown]
# "Target" is the labels, "input" the logits: one of them has an axis too many. `01b` makes the same slip.

# %% [markdown] tags=["step:optimizer"]
# ## Step 5 · Optimizer
#
# The optimizer takes hold of the model's parameters and will change them in place. Adam's moments do not
# exist yet: torch makes them in the first step.

# %%
optimizer = torch.optim.Adam(model.parameters(), RATE)
print("state before the first step:", len(optimizer.state), "entries")


# %% [markdown] tags=["step:grad"]
# ## Step 6 · Loss and gradients
#
# `backward()` returns nothing. It leaves the gradient in each parameter's `.grad`, and *adds* to what is there
# already. Hence `zero_grad()` in every PyTorch loop.

# %%
def loss_fn(model, x, y):
    logits = model(x)
    return binary_cross_entropy_with_logits(logits, y)


loss = loss_fn(model, x, y)
print("returned:", loss.backward())
print("left in .grad:", tuple(model.out.weight.grad.shape))

once = model.out.bias.grad.item()
loss_fn(model, x, y).backward()
print(f"gradient of the last bias: {once:.4f}, after a second backward(): {model.out.bias.grad.item():.4f}")


# %% [markdown] tags=["step:update"]
# ## Step 7 · Update
#
# `step()` reads every `.grad` and overwrites every weight. The old weights are gone, and the loss on the batch
# falls.

# %%
def train_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = loss_fn(model, x, y)
    loss.backward()
    optimizer.step()
    return loss.detach()


losses = [train_step(model, optimizer, x, y).item() for _ in range(3)]
print("loss on this batch:", *(f"{loss:.3f}" for loss in losses))


# %% [markdown] tags=["step:train"]
# ## Step 8 · The training loop
#
# Losses stay tensors until the epoch ends: `.item()` on a GPU waits for it, and once an epoch is enough. Run
# this notebook yourself and a progress bar shows how far it is.

# %%
def fit(model, optimizer, loader, epochs, valid=None, step=train_step):
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = [step(model, optimizer, x, y) for x, y in loader]
        row = {"train": torch.stack(losses).mean().item()}
        if valid is not None:
            with torch.no_grad():
                row["valid"] = loss_fn(model, *valid).item()
        history.append(row)
    return pd.DataFrame(history)


# %%
torch.manual_seed(SEED)
model = TitanicMLP()
optimizer = torch.optim.Adam(model.parameters(), RATE)
loader = make_loader(features(train), labels(train), BATCH, SEED)
history = fit(model, optimizer, loader, EPOCHS, valid=(x_valid, y_valid))
history.iloc[[0, -1]].round(2)

# %% [markdown] tags=["step:curves"]
# ## Step 9 · Learning curves
#
# Both losses, epoch by epoch.

# %% alt="Two falling curves over 40 epochs, the mean loss of training and of validation: from above 0.6 both drop below 0.45 within ten epochs, then flatten near 0.4; validation stays a little below training."
figure, axis = plt.subplots()
losses = {f"PyTorch, {name}": history[name] for name in history}
lines = plots.lines(axis, history.index, losses, xlabel="epoch", ylabel="mean loss")
lines[1].set(marker="s", linestyle=":", markerfacecolor="white")
plt.setp(lines, markevery=4)
axis.legend()
plt.show()
gap = history["valid"].iloc[-1] - history["train"].iloc[-1]
print("validation loss within 0.1 of training loss:", abs(gap) < 0.1)

# %% [markdown] tags=["step:evaluate"]
# ## Step 10 · Evaluation
#
# The test passengers were not used for anything so far.

# %%
with torch.no_grad():
    test_logits = model(x_test)
accuracy = metrics.accuracy(test_logits, y_test)
rule = metrics.accuracy(metrics.gender_rule(test), y_test)
print(f"network {accuracy:.2f}, the rule 'women survive, men don't' {rule:.2f}")
metrics.confusion(test_logits, y_test)


# %% [markdown]
# A test split this small is noisy: the column `sd` below says how far the score moves from one fifth of the
# passengers to the next. Cross-validation gives every passenger one prediction by a model that never saw
# them. Beside the network stand that rule and two scikit-learn models, on the same features and folds.

# %% tags=["report"]
def fit_predict(train, test):
    features = Features.fit(train)
    torch.manual_seed(SEED)
    model = TitanicMLP()
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    fit(model, optimizer, make_loader(features(train), labels(train), BATCH, SEED), EPOCHS)
    with torch.no_grad():
        return model(torch.from_numpy(features(test))).numpy()


table = metrics.baselines(passengers, SEED)
table.loc["PyTorch MLP"] = metrics.summary(metrics.cross_validate(fit_predict, passengers, SEED))
mlp, boosting = table.loc["PyTorch MLP"], table.loc["gradient boosting"]
assert mlp["accuracy"] >= 0.80 and mlp["accuracy"] >= boosting["accuracy"] - boosting["sd"]
print(f"accuracy {mlp['accuracy']:.2f} over 5 folds: at least 0.80, and within one sd of boosting  ok")
table.round(2)

# %% [markdown]
# Last, these weights are kept, in memory and on disk, a line each. Then training goes on for one more epoch, and
# both are loaded into a new model.
#
# **Predict.** Which of the two still gives the test logits from above?

# %%
kept, file = model.state_dict(), Path(tempfile.mkdtemp()) / "titanic.pt"
torch.save(kept, file)

fit(model, optimizer, loader, 1)
restored = TitanicMLP()
for name, weights in {"memory": kept, "file": torch.load(file)}.items():
    restored.load_state_dict(weights)
    with torch.no_grad():
        moved = (restored(x_test) - test_logits).abs().max().item()
    print(f"{name:6}: test logits moved by up to {moved:.1f}")

# %% [markdown]
# The file. A file holds copies, but `state_dict()` is a dict of the live tensors, and "in place" means: for
# everybody who holds them. To keep the values in memory, write `copy.deepcopy(model.state_dict())`. `01c` shows a
# framework in which nothing changes under your hands.

# %% [markdown]
# ## Summary
#
# - Ten steps; weights, gradients, optimizer state and the random generator live *inside* objects and change
#   in place.
# - Three side effects: `backward()` adds to `.grad`, `step()` overwrites weights (a kept `state_dict()` too), and
#   `manual_seed` is global.
# - The small network does no better than boosting or plain logistic regression on these features. Columns
#   that promise more may hold the answer.
#
# ## Further reading
#
# - [Autograd mechanics](https://docs.pytorch.org/docs/stable/notes/autograd.html): what a forward pass records,
#   and what `no_grad` leaves out.
# - [Reproducibility](https://docs.pytorch.org/docs/stable/notes/randomness.html): the global generators, and how
#   to seed a `DataLoader`.
# - [Saving and loading models](https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html): says, too,
#   that `state_dict()` is a reference.
# - [Titanic on OpenML](https://www.openml.org/d/40945): the table that ships with the course, with its columns
#   described.
#
# Exercises: [your turn](exercises/01a_titanic_torch.ipynb).
#
# Next: [01b · Who survives? The same program in Flax NNX](01b_titanic_nnx.ipynb).
# NNX keeps objects and updates in place, and takes away the first and the third side effect; Linen, in
# [01c](01c_titanic_linen.ipynb), takes away the second too.
