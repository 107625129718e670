# %% [markdown]
# # 02 · The same numbers
#
# **How closely do three frameworks agree when weights and batches are the same?** (75 minutes)

# %% [markdown]
# After this lesson you can
#
# - carry a model's weights from PyTorch to NNX and Linen and check that nothing got lost,
# - say how much agreement to expect in float64 and in float32, whatever the seed, and what ends it,
# - keep a GPU or a TPU from multiplying with fewer digits than you think,
# - recognise five defaults that differ silently, by the number each of them costs.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

from course import batching, plots, porting
from course.data import Features, labels, load_titanic, split
from course.failures import fails
from course.train import titanic_linen, titanic_nnx, titanic_torch

# %%
SEED, BATCH, EPOCHS, RATE = 0, 32, 500, 1e-3

plots.use()
torch.set_num_threads(1)
jax.config.update("jax_default_matmul_precision", "highest")  # GPUs and TPUs multiply with fewer digits by default
jax.config.update("jax_enable_x64", True)  # before the first array: JAX is 32-bit unless told otherwise


def gap(a, b):
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


def agree(what, a, b, tolerance):
    off = gap(a, b)
    assert off < tolerance, (
        f"{what}: expected a gap below {tolerance:.0e}, got {off:.1e} on a {jax.default_backend()}. Is "
        "jax_default_matmul_precision 'highest'? It must be set before the first product. A TPU has no float64 units: "
        "run this lesson with JAX_PLATFORMS=cpu there"
    )
    print(f"{what}: gap below {tolerance:.0e}")


# %% [markdown]
# `jax_enable_x64` avoids the first trap. Without it `jnp.asarray` turns a float64 array into float32 without a
# word; only an explicit `dtype=jnp.float64` earns a warning. `agree` states what must hold; where it does not, its
# message says what to look at.
#
# ## One set of batches
#
# A seed fixes the order of the passengers for every epoch, in NumPy, before any framework runs.

# %%
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train), labels(train)
orders = batching.epoch_permutations(len(x), EPOCHS, SEED)
print(orders.shape, "rows to visit,", len(x) // BATCH, "batches an epoch")


def batches(dtype, epochs=EPOCHS):
    rows = (x.astype(dtype), y.astype(dtype))
    for order in orders[:epochs]:
        yield from batching.batches(rows, order, BATCH)


# %% [markdown]
# ## One set of weights
#
# PyTorch draws them. `course.porting` carries them over: same paths, `weight` (out, in) becomes `kernel` (in,
# out).

# %%
def three_models(dtype):
    torch.manual_seed(SEED)
    source = titanic_torch.TitanicMLP().to(dtype)
    module = porting.torch_to_nnx(source, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
    linen = titanic_linen.TitanicMLP()
    template = linen.init(jax.random.key(SEED), jnp.zeros((1, 15)))["params"]
    return source, module, (linen, porting.torch_to_linen(source, template))


source, module, (linen, params) = three_models(torch.float64)
print("torch", tuple(source.hidden.weight.shape), " nnx", module.hidden.kernel.shape,
      " linen", params["hidden"]["kernel"].shape)  # fmt: skip

# %% [markdown]
# The same logits for the same passengers? And back again, with nothing lost?

# %%
probe = x[:5].astype(np.float64)
logits = {
    "torch": source(torch.from_numpy(probe)).detach(),
    "nnx": module(probe), "linen": linen.apply({"params": params}, probe),
}  # fmt: skip
print(*(f"{name} {float(values[0]):.6f}" for name, values in logits.items()), sep="\n")
agree("torch and nnx", logits["torch"], logits["nnx"], 1e-12)
agree("torch and linen", logits["torch"], logits["linen"], 1e-12)

returned = porting.nnx_to_torch(module, titanic_torch.TitanicMLP().double())
print("largest gap after the round trip:", max(map(gap, source.parameters(), returned.parameters())))

# %% [markdown]
# A weight that does not fit is refused, by name. The message lists all that is wrong, with what to do:

# %%
with fails(porting.PortingError, lines=12):
    porting.torch_to_nnx(source, titanic_nnx.TitanicMLP(width=32, rngs=nnx.Rngs(SEED)))

# %% [markdown]
# Read it from left to right: torch's name and shape, flax's, and what was expected.
#
# ## How many digits does a product have?
#
# On this CPU a float32 product has float32's digits. Elsewhere it may not: by default JAX lets a recent NVIDIA GPU
# multiply in TensorFloat-32 and a TPU in bfloat16. The result *says* float32. torch's matrix products on a GPU keep all
# digits unless told otherwise (its convolutions do use TensorFloat-32). `jax.lax.reduce_precision` rounds an array to
# as many bits, so we can see the cost without such a chip.
#
# **Predict.** The hidden layer's product for all passengers, its inputs rounded to each format. How many decimal
# places does it share with float64's?

# %%
kernel = source.hidden.weight.detach().numpy().T  # (15, 64), float64
exact = x.astype(np.float64) @ kernel

for name, bits in {"float32": 23, "TensorFloat-32": 10, "bfloat16": 7}.items():
    inputs = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    a, b = (jax.lax.reduce_precision(array, exponent_bits=8, mantissa_bits=bits) for array in inputs)
    below = 10 ** np.ceil(np.log10(gap(exact, a @ b)))
    print(f"{name:15}{bits:3} bits after the point: gap below {below:.0e}")

# %% [markdown]
# Of six decimal places three are left in TensorFloat-32, two in bfloat16: enough to train with, too few to
# compare two frameworks. Hence the line in the configuration,
# `jax.config.update("jax_default_matmul_precision", "highest")`. It costs speed: such chips multiply several times
# faster in the short formats, so take it out again for training.
#
# ## Training, step by step
#
# Three loops, each with its framework's own `train_step` from 01a, 01b and 01c. They return the loss of every
# step.

# %%
nnx_step, linen_step = nnx.jit(titanic_nnx.train_step), jax.jit(titanic_linen.train_step)


def run_torch(model, optimizer, stream):
    step = titanic_torch.train_step
    return np.array([step(model, optimizer, torch.from_numpy(a), torch.from_numpy(b)).item() for a, b in stream])


def run_nnx(model, rule, stream):
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    return np.array([nnx_step(model, optimizer, a, b) for a, b in stream])


def run_linen(model, params, rule, stream):
    state, losses = TrainState.create(apply_fn=model.apply, params=params, tx=rule), []
    for a, b in stream:
        state, loss = linen_step(state, a, b)
        losses.append(loss)
    return np.array(losses)


# %% [markdown]
# In float64, with Adam: torch over all epochs, NNX and Linen over the first 20. The table shows the losses of a
# few steps, to seven digits; the line above it says how far the agreement goes.
#
# **Predict.** Will they be equal to the last bit, torch with NNX, and NNX with Linen?

# %%
adam = optax.adam(RATE)
torch64 = run_torch(source, torch.optim.Adam(source.parameters(), RATE), batches(np.float64))
nnx64 = run_nnx(module, adam, batches(np.float64, 20))
linen64 = run_linen(linen, params, adam, batches(np.float64, 20))
few = len(nnx64)
print(f"{few} losses, to the bit: torch = nnx {np.array_equal(torch64[:few], nnx64)}, "
      f"nnx = linen {np.array_equal(nnx64, linen64)}")  # fmt: skip
agree("torch and nnx", torch64[:few], nnx64, 1e-12)
steps = [0, 1, 2, 100, few - 1]
losses = {"torch": torch64[steps], "nnx": nnx64[steps], "linen": linen64[steps]}
pd.DataFrame(losses, index=steps).map("{:.7f}".format)


# %% [markdown]
# NNX and Linen run the same arithmetic on the same arrays, so they agree to the bit. torch sums in another
# order; a gap of this size is what rounding leaves.
#
# And over the whole run? Step by step, JAX would spend its time on Python. `jax.lax.scan` runs the same
# `train_step` over stacked batches in one compiled loop: it hands the state on from step to step, and stacks what each
# step returns beside it ([10](10_jit_speed.ipynb) measures what that saves). Our step also notes which hidden units are
# on, above zero, for every passenger; we'll want that soon.

# %%
def stack(stream):
    return tuple(np.stack(column) for column in zip(*stream, strict=True))  # (steps, B, 15), (steps, B)


@partial(jax.jit, static_argnums=(0, 1))
def scan_linen(model, rule, params, stacked):
    def step(state, batch):
        hidden = state.params["hidden"]
        on = batch[0] @ hidden["kernel"] + hidden["bias"] > 0  # (B, 64)
        state, loss = titanic_linen.train_step(state, *batch)
        return state, (loss, on)

    state = TrainState.create(apply_fn=model.apply, params=params, tx=rule)
    return jax.lax.scan(step, state, stacked)[1]


whole, _ = scan_linen(linen, adam, params, stack(batches(np.float64)))
print(f"the last loss: torch {torch64[-1]:.7f}, linen {whole[-1]:.7f}")
agree(f"all {len(whole)} losses, torch and linen", torch64, whole, 1e-12)


# %% [markdown]
# ## In float32, whatever the seed
#
# float32 keeps 7 digits. How far do they carry? One run does not tell: another seed draws other weights and
# another order. So here are ten seeds, 500 steps each, for a network with ReLU and for one with tanh.

# %%
class TanhTorch(titanic_torch.TitanicMLP):
    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x))).squeeze(-1)


class TanhLinen(titanic_linen.TitanicMLP):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(self.width, name="hidden")(x))
        return nn.Dense(1, name="out")(x).squeeze(-1)


NETWORKS = {"ReLU": (titanic_torch.TitanicMLP, linen), "tanh": (TanhTorch, TanhLinen())}
RULES = {
    "SGD": (lambda parameters: torch.optim.SGD(parameters, 0.1), optax.sgd(0.1)),
    "Adam": (lambda parameters: torch.optim.Adam(parameters, RATE), adam),
}


# %%
def float32_batches(seed):
    orders = batching.epoch_permutations(len(x), 20, seed)
    rows = x.astype(np.float32), y.astype(np.float32)
    return stack([batch for order in orders for batch in batching.batches(rows, order, BATCH)][:500])


def watch_torch(model, optimizer, stacked):
    losses, on = [], []
    for a, b in zip(*map(torch.from_numpy, stacked), strict=True):
        on.append((model.hidden(a) > 0).numpy())
        losses.append(titanic_torch.train_step(model, optimizer, a, b).item())
    return np.array(losses), np.array(on)


def compare(seed, rule, activation):
    """Gaps of the losses, (500,), and the first step at which a unit is on on one side only (500: none)."""
    (make_torch, tx), (torch_class, linen) = RULES[rule], NETWORKS[activation]
    torch.manual_seed(seed)
    model, stacked = torch_class(), float32_batches(seed)
    template = linen.init(jax.random.key(SEED), jnp.zeros((1, 15)))["params"]
    of_linen, on_linen = map(np.asarray, scan_linen(linen, tx, porting.torch_to_linen(model, template), stacked))
    of_torch, on_torch = watch_torch(model, make_torch(model.parameters()), stacked)
    differ = (on_torch != on_linen).any(axis=(1, 2))  # (500,)
    return np.abs(of_torch - of_linen), differ.argmax() if differ.any() else len(differ)


# %% [markdown]
# `compare` trains both sides and notes where their hidden units part: above zero on one side, not on the other. With
# ReLU the losses are compared until then, with tanh to the end.

# %%
pairs = ("SGD", "ReLU"), ("Adam", "ReLU"), ("Adam", "tanh")
runs = {pair: [compare(seed, *pair) for seed in range(10)] for pair in pairs}
for (rule, activation), run in runs.items():
    if activation == "ReLU":
        said, largest = "while the same units are on in both", max(gaps[: parted + 1].max() for gaps, parted in run)
    else:
        said, largest = "over all 500 steps", max(gaps.max() for gaps, _ in run)
    agree(f"{rule:4} {activation}, ten seeds, {said}", largest, 0.0, 1e-6)

# %% [markdown]
# So tanh needs no condition, and ReLU needs one. Here are the ten runs under Adam with either; a line is the largest
# gap so far.

# %% alt="Two panels over 500 steps, ten lines each, the largest gap of the losses so far. With tanh all lines stay near 1e-7. With ReLU most do as well; what is green and dashed leaves the others at a triangle, where a unit is on in one framework only, and climbs by a factor of ten or more."
figure, axes = plots.panels(2)
for axis, activation in zip(axes, ("ReLU", "tanh"), strict=True):
    for gaps, parted in runs["Adam", activation]:
        largest, leaves = np.maximum.accumulate(np.maximum(gaps, 1e-8)), activation == "ReLU" and parted < len(gaps)
        colour, dashes = (plots.OTHERS[0], "--") if leaves else (plots.JAX, "-")
        axis.semilogy(largest, dashes, color=colour, marker="", alpha=0.8)
        if leaves:
            axis.plot(parted, largest[parted], "^", color=colour)
            crossing = parted, largest[parted]
    axis.set(title=f"{activation}, ten seeds", xlabel="step", ylim=(1e-8, 1e-3))
axes[0].set_ylabel("largest gap so far")
if any(parted < len(gaps) for gaps, parted in runs["Adam", "ReLU"]):
    axes[0].annotate("the kink: a unit is on in one\nframework, off in the other", crossing, (20, 1.5e-4),
                     arrowprops={"arrowstyle": "->"}, fontsize=9)  # fmt: skip
plt.show()
print("no tanh run above 1e-6:", all(gaps.max() < 1e-6 for gaps, _ in runs["Adam", "tanh"]))


# %% [markdown]
# A triangle is the first step at which some hidden unit is on in one framework and off in the other, for one
# passenger: its input was 0 within rounding, and ReLU has its kink there. The unit's gradients now differ by that
# passenger's share, so the next weights do, by far more than rounding; from there the two are different runs.
# Which seeds meet a kink, and when, depends on the last bit, and so on your processor.
#
# Chance makes a poor experiment. Let us put all 64 units on their kinks on purpose, each for one passenger of the
# first batch, and leave JAX out: torch in float32 against torch in float64.
#
# **Predict.** How far will torch be from itself after 500 steps, with ReLU and with tanh: within 1e-6, as JAX was, or
# within 1e-4, or not even that?

# %%
def on_the_kinks(activation, dtype, stacked):
    torch.manual_seed(SEED)
    model, passengers = NETWORKS[activation][0](), torch.from_numpy(stacked[0][0])[torch.arange(64) % BATCH]
    with torch.no_grad():  # each unit's input is 0 for its passenger, in the float32 that the bias is rounded to
        model.hidden.bias.copy_(-(model.hidden.weight.double() * passengers.double()).sum(axis=1))
        inputs = model.to(dtype).hidden(passengers.to(dtype)).diagonal()  # (64,)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    as_dtype = [array.astype(np.float64 if dtype == torch.float64 else np.float32) for array in stacked]
    return inputs, *watch_torch(model, optimizer, as_dtype)


first, at_the_kinks = float32_batches(SEED), {}
for activation in NETWORKS:
    z32, loss32, _ = on_the_kinks(activation, torch.float32, first)
    z64, loss64, _ = on_the_kinks(activation, torch.float64, first)
    assert max(abs(z32).max(), abs(z64).max()) < 1e-6 and ((z32 > 0) != (z64 > 0)).sum() > 10
    at_the_kinks[activation], off = (z32, z64), gap(loss32, loss64)
    print(f"{activation}: torch 32 = torch 64 within 1e-6: {off < 1e-6}, within 1e-4: {off < 1e-4}")

# %% alt="Two panels near zero, at a scale of 1e-8. Left, ReLU with its kink at zero: one point left of it with slope 0, one right of it with slope 1. Right, tanh, a straight line at this scale: the same two points, both with slope 1."
z32, z64 = (z.detach().double().numpy() for z in at_the_kinks["ReLU"])
unit = int(np.where((z32 > 0) != (z64 > 0), np.minimum(abs(z32), abs(z64)), -1).argmax())
pair = {"torch float32": z32[unit], "torch float64": z64[unit]}
reach = 2 * max(abs(z) for z in pair.values())
grid = np.linspace(-reach, reach, 101)
figure, axes = plots.panels(2, height=2.8)
for axis, (name, f) in zip(axes, {"ReLU": jax.nn.relu, "tanh": jnp.tanh}.items(), strict=True):
    axis.plot(grid, f(grid), color="#555555", marker="")
    for place, (precision, z) in enumerate(pair.items()):
        colour, marker = (plots.TORCH, "d") if place == 0 else (plots.JAX, "o")
        slope = float(jax.grad(f)(float(z)))
        axis.plot(z, f(z), marker, color=colour, markersize=8, label=f"{precision}: slope {slope:.0f}")
    axis.set(title=name, xlabel="input of the unit", xlim=(-reach, reach))
    axis.legend(loc="upper left")
plt.show()
print("slopes of ReLU:", sorted(float(jax.grad(jax.nn.relu)(float(z))) for z in pair.values()))


# %% [markdown]
# Both networks start with 64 inputs within 1e-6 of 0, more than ten of them above it in one precision only. The
# picture shows one such unit. Its two inputs are neighbours; what differs is the slope that goes into the gradient.
# With ReLU the runs part; with tanh, which has no kink, nothing happens. Nothing is wrong with either side, and JAX has
# nothing to do with it. So: compare float64 over whole runs; compare float32 while the same units are on, or with a
# smooth activation in ReLU's place; and compare long float32 runs by their accuracy.
#
# ## Adam without x64
#
# One more thing parts the two, and only without x64, as you will usually train. Adam divides its two averages by
# `1 - 0.9**t` and `1 - 0.999**t`. torch computes these numbers in double precision, in Python; Optax in JAX's default
# float type, which is float32 without x64. To see which of them matters, here is Adam with a type for each:

# %%
def adam_with(kind1, kind2):
    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.zeros((), jnp.int32), zeros, zeros

    def update(grads, state, params=None):
        t, (m, v) = state[0] + 1, state[1:]
        m = jax.tree.map(lambda m, g: 0.9 * m + (1 - 0.9) * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + (1 - 0.999) * g**2, v, grads)
        c1, c2 = 1 - jnp.asarray(0.9, kind1) ** t.astype(kind1), 1 - jnp.asarray(0.999, kind2) ** t.astype(kind2)
        c1, c2 = c1.astype(jnp.float32), c2.astype(jnp.float32)
        return jax.tree.map(lambda m, v: -RATE * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), m, v), (t, m, v)

    return optax.GradientTransformation(init, update)


# %% tags=["nbval-ignore-output"] volatile="the last digits of float32 sums"
largest = {}
for kinds in [("float64", "float64"), ("float32", "float64"), ("float64", "float32"), ("float32", "float32")]:
    RULES["trial"] = RULES["Adam"][0], adam_with(*kinds)
    largest[kinds] = compare(SEED, "trial", "tanh")[0].max()
    print(f"1 - 0.9**t in {kinds[0]}, 1 - 0.999**t in {kinds[1]}: largest gap of 500 losses {largest[kinds]:.1e}")
assert all((off > 5e-7) == (kinds[1] == "float32") for kinds, off in largest.items()), (
    "expected float32 of 0.999 alone to matter; is jax_default_matmul_precision 'highest'?"
)

# %%
rounded = float(np.float32(0.999))
print(f"0.999 in float32 is {rounded:.12f}; 1 - 0.999 is off by a share of {(rounded - 0.999) / (1 - 0.999):.1e}")
for t in (1, 10, 100, 3000):
    exact, short = 1 - 0.999**t, 1 - np.float32(0.999) ** np.float32(t)
    print(f"t = {t:4}: 1 - 0.999**t in float32 is off by a share of {(exact - short) / exact:.0e}")

# %% [markdown]
# It is the second correction alone, and the reason is not a subtraction of nearly equal numbers at small `t` but the
# constant. float32's nearest number to 0.999 is wrong in the eighth digit; of `1 - 0.999`, a thousand times smaller,
# that is the fifth digit. It stays so for hundreds of steps, and fades over thousands. Half of that share goes into the
# length of every step (a root is taken), always to the same side. The losses of Adam then agree within 5e-6 instead of
# 1e-6, and weights that are farther apart meet kinks sooner. (`tests/parity` runs ten seeds that way.)
#
# ## What breaks parity: five defaults
#
# Each pair below was meant to be "the same". First the number that shows it isn't, then what to write.
#
# **1 · Initial weights.** torch draws weights and biases uniformly within ±1/√fan_in. Flax draws weights from
# a truncated normal of variance 1/fan_in (LeCun), larger by √3, and sets biases to zero. Write: a
# `kernel_init` and a `bias_init` of your own.

# %% tags=["trap:linear-init"]
torch.manual_seed(SEED)
theirs = torch.nn.Linear(1000, 1000)
ours = nnx.Linear(1000, 1000, rngs=nnx.Rngs(SEED))
ratio = float(ours.kernel[...].std()) / theirs.weight.std().item()
print(f"standard deviation, flax / torch: {ratio:.2f}   (the square root of 3 is {3**0.5:.2f})")
print("flax's biases are all zero:", bool((ours.bias[...] == 0).all()))

like_torch = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def bias_like_torch(key, shape, dtype=jnp.float32):
    bound = 1000**-0.5  # 1/sqrt(fan_in): a bias's shape does not tell it, so you do
    return jax.random.uniform(key, shape, dtype, -bound, bound)


ours = nnx.Linear(1000, 1000, kernel_init=like_torch, bias_init=bias_like_torch, rngs=nnx.Rngs(SEED))
for name, a, b in ("kernel", ours.kernel, theirs.weight), ("bias", ours.bias, theirs.bias):
    print(f"{name}: standard deviation, ours / torch: {float(a[...].std()) / b.std().item():.1f}")


# %% [markdown]
# **2 · Optimizer defaults.** Adam's agree. AdamW's do not: torch decays weights by 0.01, Optax by 0.0001.
# Write: `weight_decay=0.01`.

# %%
def adamw_gap(rule):
    source, module, _ = three_models(torch.float64)
    a = run_torch(source, torch.optim.AdamW(source.parameters(), RATE), batches(np.float64, 4))
    return gap(a, run_nnx(module, rule, batches(np.float64, 4)))


print(f"largest loss gap in four epochs, both by default: {adamw_gap(optax.adamw(RATE)):.1e}")
agree("with weight_decay=0.01", adamw_gap(optax.adamw(RATE, weight_decay=0.01)), 0.0, 1e-12)

# %% [markdown]
# **3 · BatchNorm.** torch's `momentum` is the share of the *new* batch, 0.1; flax's is the share of the *old*
# average, 0.99. Write: `momentum=0.9`. And torch averages the unbiased variance, N/(N-1) times flax's. For that
# flax has no switch; `layers.BatchNorm` of this course does it ([06](06_porting_layers.ipynb)).

# %% tags=["trap:batch-norm-momentum"]
batch = np.random.default_rng(SEED).normal(3.0, 2.0, (32, 4)).astype(np.float32)
theirs = torch.nn.BatchNorm1d(4)
theirs(torch.from_numpy(batch))
for momentum in (0.99, 0.9):
    ours = nnx.BatchNorm(4, momentum=momentum, rngs=nnx.Rngs(SEED))
    ours(batch)
    means, variances = gap(theirs.running_mean, ours.mean[...]), gap(theirs.running_var, ours.var[...])
    print(f"momentum={momentum}: running means differ by {means:.2f}, running variances by {variances:.3f}")

corrected = 0.9 * 1 + 0.1 * batch.var(axis=0) * 32 / 31  # the average started at 1
agree("running variance with the factor 32/31", theirs.running_var, corrected, 1e-6)

# %% [markdown]
# **4 · GELU.** torch's is exact; `jax.nn.gelu` and `nnx.gelu` are the tanh approximation unless told
# otherwise. Write: `approximate=False`.

# %% tags=["trap:gelu"]
z = np.linspace(-4, 4, 1001)
exact = torch.nn.functional.gelu(torch.from_numpy(z))
print(f"by default: {gap(exact, nnx.gelu(z)):.1e}")
agree("with approximate=False", exact, nnx.gelu(z, approximate=False), 1e-12)

# %% [markdown]
# **5 · Epsilon.** LayerNorm adds 1e-5 to the variance in torch, 1e-6 in flax; GroupNorm does the same. It shows
# where the variance is small. Write: `epsilon=1e-5`.

# %% tags=["trap:layer-norm"]
faint = 1e-3 * np.random.default_rng(SEED).normal(size=(8, 16))
norms = {
    "LayerNorm": (torch.nn.LayerNorm(16), lambda **settings: nnx.LayerNorm(16, **settings)),
    "GroupNorm": (torch.nn.GroupNorm(4, 16), lambda **settings: nnx.GroupNorm(16, num_groups=4, **settings)),
}
for name, (theirs, make) in norms.items():
    expected = theirs.double()(torch.from_numpy(faint))
    for eps in (1e-6, 1e-5):
        off = gap(expected, make(epsilon=eps, dtype=jnp.float64, rngs=nnx.Rngs(SEED))(faint))
        print(f"{name}, epsilon={eps:.0e}: {'equal within 1e-5' if off < 1e-5 else f'gap {off:.2f}'}")

# %% [markdown]
# ## Summary
#
# - Same weights, same batches: float64 losses agree within 1e-12 over 13,000 steps; NNX and Linen to the bit
#   as far as both went.
# - In float32 expect 1e-6 for any seed (5e-6 for Adam without x64), as long as the same units are on in both: a
#   ReLU within rounding of its kink parts two runs, torch from itself too. A smooth network has no such end.
# - What broke parity here was never arithmetic. It was defaults: the precision of products, initial weights, weight
#   decay, momentum, GELU, epsilon.
#
# ## Further reading
#
# - [PyTorch, randomness](https://docs.pytorch.org/docs/stable/notes/randomness.html): what torch promises of itself.
# - [JAX, matmul precision](https://docs.jax.dev/en/latest/_autosummary/jax.default_matmul_precision.html): its levels.
# - [Optax, source](https://github.com/google-deepmind/optax/blob/main/optax/tree_utils/_tree_math.py): bias correction.
# - [Adam, Kingma and Ba](https://arxiv.org/abs/1412.6980): section 3 derives the two corrections.
#
# Exercises: [your turn](exercises/02_same_numbers.ipynb).
#
# Next: [03 · State and trees](03_state_and_trees.ipynb).
