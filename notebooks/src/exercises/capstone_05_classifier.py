# %% [markdown]
# # Capstone after 05 · A classifier with augmentation
#
# **Can you move a training script to NNX, augmentation and BatchNorm included, loss for loss?** (10 minutes)

# %% [markdown]
# A capstone to the lessons up to [05b](../05b_checkpoints.ipynb), in four parts. First a PyTorch program, whole; then
# your migration, part by part, each checked against it. Fill in the cells that say `your turn` and run the check below
# each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and `checks.progress()`
# what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import optax
import torch
from flax import nnx
from sklearn.datasets import load_digits

from course import checks, layers

torch.set_num_threads(1)

# %% [markdown]
# ## The program
#
# Pictures of digits, 8 x 8 pixels; a convolution with BatchNorm, pooling, and a linear layer:


# %%
class DigitNetTorch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8 * 4 * 4, 10)

    def forward(self, x):  # (n, 1, 8, 8)
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.nn.functional.max_pool2d(x, 2)
        return self.head(x.flatten(1))


# %% [markdown]
# The augmentation flips some images and shifts each by up to a pixel; what is drawn is separate from what is done
# with it. (A mirrored digit is still told apart from the others, and the flip is here for the exercise.)


# %%
def augment_torch(images, flips, shifts):  # (n, 1, 8, 8), (n,) bool, (n, 2) of 0, 1, 2
    images = torch.where(flips[:, None, None, None], images.flip(3), images)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    rows = [image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, shifts.tolist(), strict=True)]
    return torch.stack(rows)


def accuracy_torch(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


# %%
def train_torch(model, x, y, batches, flips, shifts):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    losses = []
    model.train()
    for rows, flip, shift in zip(batches, flips, shifts, strict=True):
        optimizer.zero_grad()
        logits = model(augment_torch(x[rows], flip, shift))
        loss = torch.nn.functional.cross_entropy(logits, y[rows], label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# The run: 60 batches of 64, and the digits that it has not seen.

# %%
pixels, digits = load_digits(return_X_y=True)
x = torch.tensor(pixels.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
y = torch.tensor(digits)

torch.manual_seed(0)
model = DigitNetTorch()
batches = torch.stack([torch.randperm(1500)[:64] for _ in range(60)])
flips, shifts = torch.rand(60, 64) < 0.5, torch.randint(0, 3, (60, 64, 2))
losses = train_torch(model, x, y, batches, flips, shifts)
print("loss, steps 0, 20, 40, 59:", *(f"{losses[step]:.2f}" for step in (0, 20, 40, 59)))
print(f"accuracy on unseen digits {accuracy_torch(model, x[1500:], y[1500:]):.2f}")

# %% [markdown]
# ## Exercise 1: The augmentation (3 minutes)
#
# **Given** a key and a number of images, `n`; then images of shape `(n, 8, 8, 1)`, flips `(n,)` and shifts `(n, 2)`.
#
# **Asked** for `draw(key, n)`, which returns flips, bool, each true with probability 1/2, and shifts, whole numbers,
# each 0, 1 or 2; and for `augment(images, flips, shifts)`, which does what `augment_torch` does. No Python loop over
# images.
#
# **Checked** by counts and correlations of 4,000 draws, and against torch on random images.


# %% tags=["stub"]
def draw(key, n):
    raise NotImplementedError("your turn")


def augment(images, flips, shifts):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def draw(key, n):
    key_flips, key_shifts = jax.random.split(key)
    return jax.random.bernoulli(key_flips, 0.5, (n,)), jax.random.randint(key_shifts, (n, 2), 0, 3)


def augment(images, flips, shifts):
    def one(image, flip, shift):
        image = jnp.where(flip, image[:, ::-1], image)
        padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
        return jax.lax.dynamic_slice(padded, (shift[0], shift[1], 0), image.shape)

    return jax.vmap(one)(images, flips, shifts)


# %%
checks.digit_augment(draw, augment)

# %% [markdown]
# ## Exercise 2: The model (3 minutes)
#
# **Given** `DigitNetTorch`, in the program.
#
# **Asked** for the class `DigitNet`, an `nnx.Module` made by `DigitNet(rngs=...)`, with layers `conv`, `norm` and
# `head` that take torch's weights as they are, for images `(n, 8, 8, 1)`.
#
# **Checked** after `porting.torch_to_nnx`: the logits in both modes, and the running averages after one batch.


# %% tags=["stub"]
class DigitNet(nnx.Module):
    def __init__(self, *, rngs):
        raise NotImplementedError("your turn")

    def __call__(self, x):
        raise NotImplementedError("your turn")


# %% tags=["solution"]
class DigitNet(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), padding=1, rngs=rngs)
        self.norm = layers.BatchNorm(8, rngs=rngs)  # with torch's running variance
        self.head = nnx.Linear(8 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return self.head(x.transpose(0, 3, 1, 2).reshape(len(x), -1))  # flattened as torch does, channels first


# %%
checks.digit_model(DigitNet)

# %% [markdown]
# ## Exercise 3: The accuracy (2 minutes)
#
# **Given** a `model` like yours, in training mode, images `x` and classes `y`.
#
# **Asked** for the share of right answers in evaluation mode; the model must be training after the call, as before.
#
# **Checked** against torch, with an eye on the running averages and the mode.


# %% tags=["stub"]
def accuracy(model, x, y):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def accuracy(model, x, y):
    model.eval()
    share = (model(x).argmax(axis=1) == y).mean()
    model.train()
    return share


# %%
checks.digit_accuracy(accuracy)

# %% [markdown]
# ## Exercise 4: The run (4 minutes)
#
# **Given** a `model` like yours in training mode, `x` of shape `(n, 8, 8, 1)`, classes `y`, and for each step a row of
# `batches`, `flips` and `shifts`.
#
# **Asked** for the losses, one a step; the model is trained in place. Compile the step.
#
# **Checked** against `train_torch` from the same weights: all losses, and the logits of the trained model.


# %% tags=["stub"]
def train(model, x, y, batches, flips, shifts):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def train(model, x, y, batches, flips, shifts):
    tx = optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(0.1, momentum=0.9))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    def loss_fn(model, images, labels):
        smoothed = optax.smooth_labels(jax.nn.one_hot(labels, 10), 0.1)
        return optax.softmax_cross_entropy(model(images), smoothed).mean()

    @nnx.jit
    def step(model, optimizer, rows, flip, shift):
        loss, grads = nnx.value_and_grad(loss_fn)(model, augment(x[rows], flip, shift), y[rows])
        optimizer.update(model, grads)
        return loss

    model.train()
    losses = [step(model, optimizer, *each) for each in zip(batches, flips, shifts, strict=True)]
    return jnp.stack(losses)


# %%
checks.digit_run(train)

# %% [markdown]
# Back to the [lesson](../05b_checkpoints.ipynb), or on to the next one:
# [06 · Porting layers](../06_porting_layers.ipynb). [Solutions](../solutions/capstone_05_classifier.ipynb).
