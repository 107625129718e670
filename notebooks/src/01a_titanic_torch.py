# %% [markdown]
# # 01a · Who survives? The program you know, in PyTorch
#
# **What does a complete PyTorch training program do, step by step?** (20 minutes)

# %% [markdown]
# After this lesson you can
#
# - name the ten steps that lessons `01b` and `01c` repeat in Flax NNX and Flax Linen,
# - say which of them rely on state that PyTorch keeps for you,
# - tell how good a Titanic model can be, and which columns would be cheating.
#
# You know PyTorch: nothing here is new to you but the data. Read it as the reference that the next two
# lessons quote.

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from course import metrics, timing
from course.data import FEATURES, Features, labels, load_titanic, split
from course.loaders import make_loader

# %%
SEED, BATCH, EPOCHS, RATE = 0, 32, 40, 1e-3
TABLE = None  # None: the 1309 passengers that ship with the course; or a path to Kaggle's train.csv

plt.rcParams["figure.figsize"], plt.rcParams["figure.dpi"] = (6, 3), 80
torch.set_num_threads(1)  # a model this small loses more to threads than it gains

# %% [markdown] tags=["step:data"]
# ## Step 1 · Data
#
# One row per passenger. `survived` is the label.

# %%
passengers = load_titanic(TABLE)
passengers[["survived", "pclass", "sex", "age", "fare", "embarked", "name"]].head(4)

# %% [markdown]
# Missing values are part of this table. We count them before anything else touches it.

# %%
passengers.isna().sum().loc[lambda count: count > 0].to_dict()

# %% [markdown]
# Two columns are traps. `boat` is the lifeboat that picked someone up, `body` the number of a body that was
# found. Both were written down *after* the sinking: they hold the answer.

# %%
if "boat" in passengers:  # Kaggle's table does not have them
    leak = (passengers["boat"].notna() == (passengers["survived"] == 1)).mean()
    found_dead = passengers.loc[passengers["body"].notna(), "survived"].mean()
    print(f"'has a boat number' predicts survival with accuracy {leak:.2f}")
    print(f"survivors among those with a body number: {found_dead:.0%}")

# %% [markdown]
# A model with these columns looks brilliant and has learned nothing, so we leave them out, here and in every
# later lesson. What remains becomes 15 numbers per passenger: age, log fare, siblings and parents
# standardised; class, sex, port and title as 0 or 1. `course.data.Features` is twenty lines: read it.
#
# The split is stratified and seeded. `Features.fit` sees the training passengers only: a median taken over
# everybody would carry test passengers into training.

# %%
train, valid, test = split(passengers, SEED)
features = Features.fit(train)
print(len(train), "train,", len(valid), "validation,", len(test), "test")
print("a missing value becomes:", features.fill)
pd.Series(features(train)[0], FEATURES).round(2).to_frame("one passenger").T


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


# %%
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
# The weights come from a global random generator: whoever draws before you changes what you get.

# %%
torch.manual_seed(SEED)
model = TitanicMLP()
for name, weight in model.named_parameters():
    print(f"{name:14} {tuple(weight.shape)}")

torch.manual_seed(SEED)
torch.rand(1)  # one innocent draw in between
shifted = TitanicMLP()
print("same seed, same weights:", torch.equal(model.hidden.weight, shifted.hidden.weight))

# %% [markdown] tags=["step:forward"]
# ## Step 4 · A forward pass
#
# One call on one batch gives one logit per passenger. `model(x)` also records a graph for the backward pass.

# %%
logits = model(x)
print(tuple(logits.shape), "recorded:", logits.grad_fn is not None)

# %% [markdown]
# A logit for each passenger, a label for each passenger: this loss insists that the shapes agree. Remember
# the error. In lesson `01b` the same slip raises nothing.

# %%
try:
    binary_cross_entropy_with_logits(logits.unsqueeze(-1), y)
except ValueError as error:
    print(f"{type(error).__name__}: {error}")

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
# `backward()` returns nothing. It leaves the gradient in each parameter's `.grad` …

# %%
def loss_fn(model, x, y):
    logits = model(x)
    return binary_cross_entropy_with_logits(logits, y)


loss = loss_fn(model, x, y)
print("returned:", loss.backward())
print("left in .grad:", tuple(model.out.weight.grad.shape))

# %% [markdown]
# … and *adds* to what is there already. Hence `zero_grad()` in every PyTorch loop.

# %%
once = model.out.weight.grad.clone()
loss_fn(model, x, y).backward()
print("after a second backward():", torch.allclose(model.out.weight.grad, 2 * once))


# %% [markdown] tags=["step:update"]
# ## Step 7 · Update
#
# `step()` reads every `.grad` and overwrites every weight. The old weights are gone.

# %%
def train_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = loss_fn(model, x, y)
    loss.backward()
    optimizer.step()
    return loss.detach()


before = loss_fn(model, x, y).item()
train_step(model, optimizer, x, y)
print("loss on this batch went down:", loss_fn(model, x, y).item() < before)


# %% [markdown] tags=["step:train"]
# ## Step 8 · The training loop
#
# Losses stay tensors until the epoch ends: `.item()` on a GPU waits for it, and once an epoch is enough.

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


# %% [markdown]
# First three epochs on the clock, five times after a warm-up; keep the median in mind for `01b` and `01c`.
# Then a fresh model, a fresh loader and all epochs. Run this notebook yourself and a progress bar shows how
# far it is.

# %% tags=["nbval-ignore-output", "speed"] volatile="milliseconds"
eager = timing.measure(fit, model, optimizer, loader, 3)
print(f"PyTorch, eager      {1e3 * eager.steady_s:6.0f} ms for 3 epochs")

# %%
torch.manual_seed(SEED)
model = TitanicMLP()
optimizer = torch.optim.Adam(model.parameters(), RATE)
loader = make_loader(features(train), labels(train), BATCH, SEED)
history = fit(model, optimizer, loader, EPOCHS, valid=(x_valid, y_valid))
print("epochs:", len(history), " training loss fell:", history["train"].iloc[-1] < history["train"].iloc[0])

# %% [markdown] tags=["step:curves"]
# ## Step 9 · Learning curves
#
# Both losses, epoch by epoch.

# %%
history.plot(xlabel="epoch", ylabel="mean loss", title="PyTorch")
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

# %%
def fit_predict(train, test):
    features = Features.fit(train)
    torch.manual_seed(SEED)
    model = TitanicMLP()
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    fit(model, optimizer, make_loader(features(train), labels(train), BATCH, SEED), EPOCHS)
    with torch.no_grad():
        return model(torch.from_numpy(features(test))).numpy()


# %%
table = metrics.baselines(passengers, SEED)
table.loc["PyTorch MLP"] = metrics.summary(metrics.cross_validate(fit_predict, passengers, SEED))
table.round(2)

# %% tags=["report"]
mlp, boosting = table.loc["PyTorch MLP"], table.loc["gradient boosting"]
assert mlp["accuracy"] >= 0.80 and mlp["accuracy"] >= boosting["accuracy"] - boosting["sd"]
print(f"accuracy {mlp['accuracy']:.2f} over 5 folds: at least 0.80, and within one sd of boosting  ok")

# %% [markdown]
# ## Summary
#
# - Ten steps; weights, gradients, optimizer state and the random generator live *inside* objects and change
#   in place.
# - `backward()` adds to `.grad`, `step()` overwrites weights, `manual_seed` is global: three side effects.
# - The small network does no better than boosting or plain logistic regression on these features. Columns
#   that promise more may hold the answer.
#
# Next: [01b · the same program in Flax NNX](01b_titanic_nnx.ipynb), which keeps objects and updates in place
# and takes away the first and the third side effect; then [01c](01c_titanic_linen.ipynb), which takes away
# the second too.
