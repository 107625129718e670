# %% [markdown]
# # 06 · Exercises: Porting layers
#
# **Can you carry a network over, and say where a wrong one goes wrong?** (15 minutes)

# %% [markdown]
# Three exercises to the [lesson](../06_porting_layers.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx

from course import checks

# %% [markdown]
# ## Exercise 1: The first that differs (3 minutes)
#
# The model on torch's side:
#
# ```python
# x = self.norm(self.conv(x))            # Conv2d(1, 2, 3, stride=2, padding=1), BatchNorm2d(2)
# return self.out(F.gelu(x).flatten(1))  # Linear
# ```
#
# **Given** its port, right in every respect, and six changes to it, each made alone:
#
# - `"same 8"`: the convolution has `padding="SAME"`, the images are 8 by 8;
# - `"same 7"`: the convolution has `padding="SAME"`, the images are 7 by 7;
# - `"momentum"`: the norm has `momentum=0.5`;
# - `"gelu"`: `nnx.gelu(x)`, without `approximate=False`;
# - `"order"`: `gelu` stands before the norm;
# - `"flatten"`: `x.reshape(len(x), -1)`, without a transposition, on the 4 by 4 maps of an 8 by 8 image.
#
# **Asked** for the layer that `porting.compare` calls the first to differ: `"conv"`, `"norm"`, `"out"`, or `"none"`.
#
# **Checked** by making the six ports and comparing them in float64.

# %% tags=["stub"]
first_differing = {"same 8": ..., "same 7": ..., "momentum": ..., "gelu": ..., "order": ..., "flatten": ...}

# %% tags=["solution"]
first_differing = {
    "same 8": "conv",  # one zero is lacking, and "SAME" puts it at the end
    "same 7": "none",  # two are lacking: one on each side, which is torch's padding=1
    "momentum": "none",  # compare runs in eval mode, where the averages stand still
    "gelu": "out",  # a function has no layer of its own; the next one's input is wrong
    "order": "norm",
    "flatten": "out",
}

# %%
checks.first_differing(first_differing)

# %% [markdown]
# ## Exercise 2: A decoder by hand (6 minutes)
#
# A decoder runs the other way: a vector becomes a small image with many channels, which then grows. Here it is in
# torch.


# %%
class TorchDecoder(torch.nn.Module):
    def __init__(self, latent, shape, channels):  # shape: (C, H, W)
        super().__init__()
        self.shape = shape
        self.fc = torch.nn.Linear(latent, int(np.prod(shape)))
        self.up = torch.nn.ConvTranspose2d(shape[0], channels, 3, stride=2)

    def forward(self, z):  # (B, latent) -> (B, channels, 2 H + 1, 2 W + 1)
        return self.up(self.fc(z).unflatten(1, self.shape))


# %% [markdown]
# And with flax's layers. `reshape` goes to channels last at once, and no call shall pay for a transposition.


# %%
def decode(params, z, shape, channels):  # shape: (C, H, W)
    c, h, w = shape
    x = z @ params["fc"]["kernel"] + params["fc"]["bias"]  # (B, H W C)
    up = nn.ConvTranspose(channels, (3, 3), strides=(2, 2), padding="VALID")
    return up.apply({"params": params["up"]}, x.reshape(-1, h, w, c))


# %% [markdown]
# **Given** `arrays`, torch's four arrays by name (`"fc.weight"`, `"fc.bias"`, `"up.weight"`, `"up.bias"`; the weight of
# `up` has the axes (in, out, H, W)), and `shape`, (C, H, W).
#
# **Asked** for `params`, a dict `{"fc": {"kernel": …, "bias": …}, "up": {"kernel": …, "bias": …}}` with which `decode`
# returns torch's images, channels last. By hand, with `reshape`, `transpose` and their like.
#
# **Checked** array by array, for random sizes; what each must be is read off torch's own layers.


# %% tags=["stub"]
def decoder_weights(arrays, shape):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def decoder_weights(arrays, shape):
    kernel = arrays["fc.weight"].T.reshape(-1, *shape)  # (latent, C, H, W)
    bias = arrays["fc.bias"].reshape(shape)  # (C, H, W)
    fc = {"kernel": kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1), "bias": bias.transpose(1, 2, 0).ravel()}
    up = arrays["up.weight"].transpose(2, 3, 0, 1)[::-1, ::-1]  # (H, W, in, out), and torch's kernel is mirrored
    return {"fc": fc, "up": {"kernel": up, "bias": arrays["up.bias"]}}


# %%
checks.decoder_weights(decoder_weights)

# %% [markdown]
# ## Exercise 3: A network of your own (5 minutes)


# %%
class TorchEncoder(torch.nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 6, 4, stride=2, padding=2)
        self.norm = torch.nn.GroupNorm(3, 6)
        self.out = torch.nn.Linear(6 * 2 * 3, classes)

    def forward(self, x):  # (B, channels, 8, 12)
        x = F.gelu(self.norm(self.conv(x)))  # (B, 6, 5, 7)
        x = F.max_pool2d(x, 2)  # (B, 6, 2, 3)
        return self.out(x.flatten(1))  # (B, 36) -> (B, classes)


# %% [markdown]
# **Given** this model, and images with channels last, (B, 8, 12, channels).
#
# **Asked** for the NNX module `Encoder(channels, classes, rngs=rngs)`, with layers `conv`, `norm` and `out`, that gives
# torch's logits once it has torch's weights.
#
# **Checked** with weights of a random `TorchEncoder`, carried over by `porting.torch_to_nnx`, in float64; where the
# logits differ, `porting.compare` has its say.


# %% tags=["stub"]
class Encoder(nnx.Module):
    def __init__(self, channels, classes, *, rngs):
        raise NotImplementedError("your turn")

    def __call__(self, x):  # (B, 8, 12, channels) -> (B, classes)
        raise NotImplementedError("your turn")


# %% tags=["solution"]
class Encoder(nnx.Module):
    def __init__(self, channels, classes, *, rngs):
        self.conv = nnx.Conv(channels, 6, (4, 4), strides=2, padding=((2, 2), (2, 2)), rngs=rngs)
        self.norm = nnx.GroupNorm(6, num_groups=3, epsilon=1e-5, rngs=rngs)
        self.out = nnx.Linear(6 * 2 * 3, classes, rngs=rngs)

    def __call__(self, x):  # (B, 8, 12, channels) -> (B, classes)
        x = nnx.gelu(self.norm(self.conv(x)), approximate=False)
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return self.out(jnp.moveaxis(x, -1, 1).reshape(len(x), -1))  # torch's order, for `out`'s weights


# %%
checks.encoder_port(Encoder)

# %% [markdown]
# Back to the [lesson](../06_porting_layers.ipynb), or on to the next one:
# [06b · Porting sequences](../06b_porting_sequences.ipynb). [Solutions](../solutions/06_porting_layers.ipynb).
