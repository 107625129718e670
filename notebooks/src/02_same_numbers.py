# %% [markdown]
# # 02 · The same numbers
#
# **How closely do three frameworks agree when weights and batches are the same?** (25 minutes)

# %% [markdown]
# After this lesson you can
#
# - carry a model's weights from PyTorch to NNX and Linen and check that nothing got lost,
# - say how much agreement to expect in float64 and in float32, and for how long,
# - recognise five defaults that differ silently, by the number each of them costs.

# %%
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

from course import batching, porting
from course.data import Features, labels, load_titanic, split
from course.train import titanic_linen, titanic_nnx, titanic_torch

# %%
SEED, BATCH, EPOCHS, RATE = 0, 32, 500, 1e-3

plt.rcParams["figure.figsize"], plt.rcParams["figure.dpi"] = (6, 3), 80
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # before the first array: JAX is 32-bit unless told otherwise

# %% [markdown]
# The last line avoids the first trap. Without it `jnp.asarray` turns a float64 array into float32 without a
# word; only an explicit `dtype=jnp.float64` earns a warning.
#
# ## One set of batches
#
# A seed fixes the order of the passengers for every epoch, in NumPy, before any framework runs.

# %%
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train), labels(train)
orders = batching.epoch_permutations(len(x), EPOCHS, SEED)
print(orders.shape, "rows to visit,", len(x) // BATCH, "batches an epoch")


# %%
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
def gap(a, b):
    a, b = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (a, b))
    return float(np.abs(a - b).max())


probe = x[:5].astype(np.float64)
expected = source(torch.from_numpy(probe))
assert gap(expected, module(probe)) < 1e-12
assert gap(expected, linen.apply({"params": params}, probe)) < 1e-12
returned = porting.nnx_to_torch(module, titanic_torch.TitanicMLP().double())
assert all(torch.equal(a, b) for a, b in zip(source.parameters(), returned.parameters(), strict=True))
print("equal logits within 1e-12, and the round trip is exact  ok")

# %% [markdown]
# A weight that does not fit is refused, by name:

# %%
try:
    porting.torch_to_nnx(source, titanic_nnx.TitanicMLP(width=32, rngs=nnx.Rngs(SEED)))
except porting.PortingError as error:
    print(error)

# %% [markdown]
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
# All epochs in float64, with Adam. The table shows the losses of a few steps.

# %%
adam = optax.adam(RATE)
torch64 = run_torch(source, torch.optim.Adam(source.parameters(), RATE), batches(np.float64))
nnx64 = run_nnx(module, adam, batches(np.float64))
linen64 = run_linen(linen, params, adam, batches(np.float64))
steps = [0, 1, 2, 100, len(torch64) - 1]
pd.DataFrame({"torch": torch64[steps], "nnx": nnx64[steps], "linen": linen64[steps]}, index=steps).round(8)

# %%
assert gap(torch64, nnx64) < 1e-12 and np.array_equal(nnx64, linen64)
print(f"{len(torch64)} losses: torch = NNX within 1e-12, NNX = Linen to the bit  ok")


# %% [markdown]
# NNX and Linen run the same arithmetic on the same arrays, so they agree to the bit. Torch sums in another
# order; a gap of this size is what rounding leaves.
#
# ## In float32
#
# float32 keeps 7 digits. For 500 steps that is enough to compare losses, within 1e-6 for SGD and 5e-6 for
# Adam.

# %%
def compare_float32(make_torch_optimizer, rule, epochs=20):
    source, module, (linen, params) = three_models(torch.float32)
    a = run_torch(source, make_torch_optimizer(source.parameters()), batches(np.float32, epochs))
    b = run_nnx(module, rule, batches(np.float32, epochs))
    c = run_linen(linen, params, rule, batches(np.float32, epochs))
    return a[:500], b[:500], c[:500]


sgd32 = compare_float32(lambda p: torch.optim.SGD(p, 0.1), optax.sgd(0.1))
adam32 = compare_float32(lambda p: torch.optim.Adam(p, RATE), adam)

# %%
for name, (a, b, c), bound in [("SGD", sgd32, 1e-6), ("Adam", adam32, 5e-6)]:
    assert gap(a, b) < bound and np.array_equal(b, c)
    print(f"{name:5}{len(a)} float32 steps: torch = NNX within {bound:.0e}, NNX = Linen to the bit  ok")

# %% [markdown]
# Why more for Adam? Its bias correction divides by `1 - 0.999**t`. Torch computes that in double precision,
# Optax in JAX's default float type. With x64 on, as here, the two agree; without it, as you will usually
# train, the first divisors lose digits:

# %%
for t in (1, 10, 100):
    exact, rounded = 1 - 0.999**t, 1 - np.float32(0.999) ** np.float32(t)
    print(f"t = {t:3}: relative error of 1 - 0.999**t in float32: {abs(rounded - exact) / exact:.0e}")


# %% [markdown]
# And beyond 500 steps? Let Adam go on, and put beside it a comparison that involves no JAX at all: torch in
# float32 against torch in float64. Then both once more with tanh in place of ReLU.

# %%
class TanhTorch(titanic_torch.TitanicMLP):
    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x))).squeeze(-1)


class TanhLinen(titanic_linen.TitanicMLP):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(self.width, name="hidden")(x))
        return nn.Dense(1, name="out")(x).squeeze(-1)


# %%
def drifts(torch_class, linen, epochs=200):
    losses = {}
    for dtype, kind in ((torch.float32, np.float32), (torch.float64, np.float64)):
        torch.manual_seed(SEED)
        source = torch_class().to(dtype)
        params = porting.torch_to_linen(source, linen.init(jax.random.key(SEED), jnp.zeros((1, 15)))["params"])
        rule = torch.optim.Adam(source.parameters(), RATE)
        losses["torch", kind] = run_torch(source, rule, batches(kind, epochs))
        losses["linen", kind] = run_linen(linen, params, adam, batches(kind, epochs))
    reference = losses["torch", np.float32]
    rivals = {"torch 32, Linen 32": losses["linen", np.float32], "torch 32, torch 64": losses["torch", np.float64]}
    return {name: np.maximum.accumulate(np.abs(reference - rival)) for name, rival in rivals.items()}


curves = {"ReLU": drifts(titanic_torch.TitanicMLP, titanic_linen.TitanicMLP()), "tanh": drifts(TanhTorch, TanhLinen())}

# %%
for (activation, pair), style in zip(curves.items(), ("-", "--"), strict=True):
    for (name, curve), color in zip(pair.items(), ("tab:blue", "tab:orange"), strict=True):
        steps = np.arange(1, len(curve) + 1)
        plt.loglog(steps, np.maximum(curve, 1e-9), style, color=color, label=f"{name}, {activation}")
plt.xlabel("step"), plt.ylabel("largest gap so far"), plt.legend(fontsize=8)
plt.title("Adam: same weights, same batches")
plt.show()
own, kinkless = (curves[activation]["torch 32, torch 64"][-1] for activation in ("ReLU", "tanh"))
assert own > 1e-4 > kinkless
print(f"torch 32 leaves torch 64 by more than 1e-4 with ReLU: {own > 1e-4}, with tanh: {kinkless > 1e-4}")

# %% [markdown]
# Nothing is wrong with either side, and JAX has nothing to do with it. A hidden unit close to zero lands on
# one side of ReLU's kink or on the other, depending on the last bit; from there two float32 runs are two
# different runs. Without the kink (dashed) no pair parts. So: compare float64 over whole runs, float32 over a
# few hundred steps, and long float32 runs by their accuracy.
#
# ## What breaks parity: five defaults
#
# Each pair below was meant to be "the same". First the number that shows it isn't, then what to write.
#
# **1 · Initial weights.** torch draws weights and biases uniformly within ±1/√fan_in. Flax draws weights from
# a truncated normal of variance 1/fan_in (LeCun), larger by √3, and sets biases to zero. Write: a
# `kernel_init` and a `bias_init` of your own.

# %%
torch.manual_seed(SEED)
theirs = torch.nn.Linear(1000, 1000)
ours = nnx.Linear(1000, 1000, rngs=nnx.Rngs(SEED))
ratio = float(ours.kernel[...].std()) / theirs.weight.std().item()
print(f"standard deviation, flax / torch: {ratio:.2f}   (the square root of 3 is {3**0.5:.2f})")
print("flax's biases are all zero:", bool((ours.bias[...] == 0).all()))

# %%
like_torch = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def bias_like_torch(key, shape, dtype=jnp.float32):
    bound = 1000**-0.5  # 1/sqrt(fan_in): a bias's shape does not tell it, so you do
    return jax.random.uniform(key, shape, dtype, -bound, bound)


ours = nnx.Linear(1000, 1000, kernel_init=like_torch, bias_init=bias_like_torch, rngs=nnx.Rngs(SEED))
pairs = (ours.kernel, theirs.weight), (ours.bias, theirs.bias)
ratios = [float(a[...].std()) / b.std().item() for a, b in pairs]
print("kernel and bias spread like torch's, within 10%:", all(0.9 < r < 1.1 for r in ratios))


# %% [markdown]
# **2 · Optimizer defaults.** Adam's agree. AdamW's do not: torch decays weights by 0.01, Optax by 0.0001.
# Write: `weight_decay=0.01`.

# %%
def adamw_gap(rule):
    source, module, _ = three_models(torch.float64)
    a = run_torch(source, torch.optim.AdamW(source.parameters(), RATE), batches(np.float64, 4))
    return gap(a, run_nnx(module, rule, batches(np.float64, 4)))


print(f"largest loss gap in four epochs, both by default: {adamw_gap(optax.adamw(RATE)):.1e}")
assert adamw_gap(optax.adamw(RATE, weight_decay=0.01)) < 1e-12
print("with weight_decay=0.01: within 1e-12  ok")

# %% [markdown]
# **3 · BatchNorm.** torch's `momentum` is the share of the *new* batch, 0.1; flax's is the share of the *old*
# average, 0.99. Write: `momentum=0.9`. And torch averages the unbiased variance, N/(N-1) times flax's; there
# is no switch for that.

# %%
batch = np.random.default_rng(SEED).normal(3.0, 2.0, (32, 4)).astype(np.float32)
theirs = torch.nn.BatchNorm1d(4)
theirs(torch.from_numpy(batch))
for momentum in (0.99, 0.9):
    ours = nnx.BatchNorm(4, momentum=momentum, rngs=nnx.Rngs(SEED))
    ours(batch)
    means, variances = gap(theirs.running_mean, ours.mean[...]), gap(theirs.running_var, ours.var[...])
    print(f"momentum={momentum}: running means differ by {means:.2f}, running variances by {variances:.3f}")

# %%
corrected = 0.9 * 1 + 0.1 * batch.var(axis=0) * 32 / 31  # the average started at 1
assert gap(theirs.running_var, corrected) < 1e-6
print("the rest of the variance is the factor 32/31  ok")

# %% [markdown]
# **4 · GELU.** torch's is exact; `jax.nn.gelu` and `nnx.gelu` are the tanh approximation unless told
# otherwise. Write: `approximate=False`.

# %%
z = np.linspace(-4, 4, 1001)
exact = torch.nn.functional.gelu(torch.from_numpy(z))
print(f"by default: {gap(exact, nnx.gelu(z)):.1e}")
assert gap(exact, nnx.gelu(z, approximate=False)) < 1e-12
print("with approximate=False: within 1e-12  ok")

# %% [markdown]
# **5 · Epsilon.** LayerNorm adds 1e-5 to the variance in torch, 1e-6 in flax; GroupNorm does the same. It shows
# where the variance is small. Write: `epsilon=1e-5`.

# %%
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
# - Same weights, same batches: float64 losses agree within 1e-12 over 13,000 steps; NNX and Linen to the bit.
# - In float32 expect 1e-6 (SGD) or 5e-6 (Adam) for 500 steps, and no promise after that for a network with
#   kinks, not even from torch to itself.
# - What broke parity here was never arithmetic. It was defaults: initial weights, weight decay, momentum,
#   GELU, epsilon.
#
# Next: [03 · state and trees](03_state_and_trees.ipynb), on state that is not weights.
