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
# That last line is the first trap. Without it JAX turns float64 into float32 without a word.
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
# PyTorch draws them. `course.porting` carries them over: same paths, `weight` (out, in) becomes `kernel`
# (in, out).

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
# The two flax libraries run the same arithmetic on the same arrays, so they agree to the bit. Torch sums in
# another order, and that is all that is left.
#
# ## In float32
#
# float32 keeps 7 digits. For 500 steps that is enough to compare losses: within 1e-6 for SGD, 5e-6 for Adam,
# whose division by a small second moment magnifies rounding.

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
# And beyond 500 steps (the grey line)? Let Adam go on for all epochs, and put beside it a comparison that
# involves no JAX at all: torch in float32 against torch in float64.

# %%
source, _, (linen, params) = three_models(torch.float32)
torch32 = run_torch(source, torch.optim.Adam(source.parameters(), RATE), batches(np.float32))
linen32 = run_linen(linen, params, adam, batches(np.float32))


# %%
def drift(a, b):
    return np.maximum.accumulate(np.abs(a - b))


curves = {"torch 32 - Linen 32": drift(torch32, linen32), "torch 32 - torch 64": drift(torch32, torch64),
          "torch 64 - Linen 64": drift(torch64, linen64)}  # fmt: skip
for name, curve in curves.items():
    plt.loglog(np.arange(1, len(curve) + 1), np.maximum(curve, 1e-17), label=name)
plt.axvline(500, color="grey", lw=0.5)
plt.xlabel("step"), plt.ylabel("largest gap so far"), plt.legend(), plt.title("Adam, same weights, same batches")
plt.show()

# %%
ours, own = drift(torch32, linen32)[-1], drift(torch32, torch64)[-1]
assert own > 1e-4 and ours < 10 * own
print("torch in float32 has left torch in float64 by more than 1e-4:", own > 1e-4)
print("torch and Linen in float32 are no further apart than ten times that:", ours < 10 * own)

# %% [markdown]
# Nothing is wrong with either side. A hidden unit close to zero lands on one side of ReLU's kink or on the
# other, depending on the last bit; from there two float32 runs are two different runs. So: compare float64
# over whole runs, float32 over a few hundred steps, and long float32 runs by their accuracy.
#
# ## What breaks parity: five defaults
#
# Each pair below was meant to be "the same". First the number that shows it isn't, then what to write.
#
# **1 · Initial weights.** torch draws U(±1/√fan_in), flax a normal with variance 1/fan_in (LeCun): larger by
# √3. Biases: torch draws them, flax sets zero.

# %%
torch.manual_seed(SEED)
theirs = torch.nn.Linear(1000, 1000)
ours = nnx.Linear(1000, 1000, rngs=nnx.Rngs(SEED))
ratio = float(ours.kernel[...].std()) / theirs.weight.std().item()
print(f"standard deviation, flax / torch: {ratio:.2f}   (the square root of 3 is {3**0.5:.2f})")

# %%
like_torch = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
ours = nnx.Linear(1000, 1000, kernel_init=like_torch, rngs=nnx.Rngs(SEED))
ratio = float(ours.kernel[...].std()) / theirs.weight.std().item()
print(f"with variance_scaling(1/3, 'fan_in', 'uniform'): {ratio:.2f}")


# %% [markdown]
# **2 · Optimizer defaults.** Adam's agree. AdamW's do not: torch decays weights by 0.01, optax by 0.0001.

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
# average, 0.99. And torch stores the unbiased variance, N/(N-1) times flax's.

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
corrected = 0.9 + (np.asarray(ours.var[...]) - 0.9) * 32 / 31  # the old average was 1, weighted 0.9
assert gap(theirs.running_var, corrected) < 1e-6
print("the rest of the variance is the factor 32/31  ok")

# %% [markdown]
# **4 · GELU.** torch's is exact; `jax.nn.gelu` and `nnx.gelu` are the tanh approximation unless told otherwise.

# %%
z = np.linspace(-4, 4, 1001)
exact = torch.nn.functional.gelu(torch.from_numpy(z))
print(f"by default: {gap(exact, nnx.gelu(z)):.1e}")
assert gap(exact, nnx.gelu(z, approximate=False)) < 1e-12
print("with approximate=False: within 1e-12  ok")

# %% [markdown]
# **5 · Epsilon.** LayerNorm adds 1e-5 to the variance in torch, 1e-6 in flax. It shows where the variance is
# small.

# %%
faint = 1e-3 * np.random.default_rng(SEED).normal(size=(8, 16))
theirs = torch.nn.LayerNorm(16, dtype=torch.float64)(torch.from_numpy(faint))
for eps in (1e-6, 1e-5):
    ours = nnx.LayerNorm(16, epsilon=eps, dtype=jnp.float64, rngs=nnx.Rngs(SEED))(faint)
    print(f"epsilon={eps:.0e}: {'equal within 1e-5' if gap(theirs, ours) < 1e-5 else f'gap {gap(theirs, ours):.2f}'}")

# %% [markdown]
# ## Summary
#
# - Same weights, same batches: float64 losses agree within 1e-12 over 13,000 steps; NNX and Linen to the bit.
# - In float32 expect 1e-6 (SGD) or 5e-6 (Adam) for 500 steps, and no promise after that, not even from torch
#   to itself.
# - What breaks parity is hardly ever arithmetic. It is defaults: initial weights, weight decay, momentum, GELU,
#   epsilon.
#
# Next: lesson 03, on state that is not weights: BatchNorm, dropout, optimizer state.
