# %% [markdown]
# # 00 · Start here
#
# **What moves and what stays when a PyTorch developer meets JAX?** (15 minutes)

# %% [markdown]
# After this lesson you can
#
# - name the four habits that change: arrays, functions, randomness, state,
# - say which JAX library does the work of which part of PyTorch,
# - tell whether your environment is ready, and how the other lessons work.

# %%
import platform
from importlib.metadata import version

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import torch
from packaging.version import Version

# %%
SEED = 0

# %% [markdown]
# ## What stays
#
# Arrays with shapes and dtypes, broadcasting, automatic differentiation, modules, optimizers. Most lines
# translate word by word:

# %%
a, b = np.arange(6.0, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)
in_torch = torch.softmax(torch.from_numpy(a) * 2 + torch.from_numpy(b), dim=-1).sum(0)
in_jax = jax.nn.softmax(jnp.asarray(a) * 2 + jnp.asarray(b), axis=-1).sum(0)
print("equal within 1e-6:", np.allclose(in_torch, in_jax, rtol=0, atol=1e-6))

# %% [markdown]
# What moves are four habits.
#
# ## 1 · Arrays do not change
#
# A torch tensor can be written to.

# %%
t = torch.zeros(3)
t[0] = 9
t

# %% [markdown]
# A JAX array can't:

# %%
j = jnp.zeros(3)
try:
    j[0] = 9
except TypeError as error:
    print(type(error).__name__)

# %% [markdown]
# You ask for a changed copy instead. The old array stays what it was.

# %%
changed = j.at[0].set(9)
print(changed, j)

# %% [markdown]
# A copy each time sounds expensive, and outside `jit` it is. Inside a compiled function an intermediate array
# is updated in place where nobody needs the old one. Arguments are still copied, unless you give them up
# (`donate_argnums`).
#
# ## 2 · Functions are pure, and a derivative is a function
#
# In torch, `backward()` leaves the gradient on the tensor, a side effect.

# %%
w = torch.tensor(3.0, requires_grad=True)
(w**2).backward()
w.grad


# %% [markdown]
# In JAX you turn a function into its derivative, and call it. JAX records the operations during that call and
# keeps nothing afterwards.

# %%
def square(w):
    return w**2


slope = jax.grad(square)
slope(3.0)

# %% [markdown]
# `slope` is a function like any other, so `jax.grad` takes it too:

# %%
jax.grad(slope)(3.0)

# %% [markdown]
# The price: `square` must be *pure*. Its result depends on its arguments alone, and it changes nothing else.
# [05](05_tracing.ipynb) shows what happens when it isn't.
#
# ## 3 · Randomness is an argument
#
# torch keeps one hidden generator. Each draw changes it:

# %%
torch.manual_seed(SEED)
first, second = torch.rand(2), torch.rand(2)
print("two draws equal:", torch.equal(first, second))

# %% [markdown]
# In JAX you hold a key and pass it. Same key, same numbers; for new numbers, split the key.

# %%
key = jax.random.key(SEED)
print("same key, equal:", bool((jax.random.uniform(key, (2,)) == jax.random.uniform(key, (2,))).all()))
key_1, key_2 = jax.random.split(key)
print("split keys, equal:", bool((jax.random.uniform(key_1, (2,)) == jax.random.uniform(key_2, (2,))).all()))


# %% [markdown]
# Using one key twice is the commonest mistake of the first week: two "random" things come out the same.
#
# ## 4 · State goes in and comes out
#
# A torch module may count its own calls.

# %%
class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


counter = Counter()
print(counter(torch.tensor(10.0)), counter(torch.tensor(10.0)))


# %% [markdown]
# A pure function takes the state and returns the next one.

# %%
def counted(calls, x):
    calls = calls + 1
    return calls, x * calls


calls = 0
calls, y1 = counted(calls, 10.0)
calls, y2 = counted(calls, 10.0)
print(y1, y2)

# %% [markdown]
# Weights, optimizer moments, BatchNorm averages, random keys: all of it is state, and this is its pattern.
# Flax NNX lets you write objects and does the taking and returning for you (01b); Flax Linen shows it (01c).
#
# ## One library there, several here
#
# PyTorch is one package. JAX is arrays, derivatives and a compiler; the rest are libraries that you combine.
# This course uses Flax, Optax and torch's own DataLoader; the other names are ones that you will meet.

# %%
parts = {
    "models": ("torch.nn", "Flax (NNX, Linen), Equinox"),
    "optimizers": ("torch.optim", "Optax"),
    "data": ("torch.utils.data", "torch's DataLoader, Grain, tf.data"),
    "checkpoints": ("torch.save", "Orbax"),
    "compiler": ("torch.compile", "jax.jit → XLA"),
    "arrays, derivatives": ("torch", "jax.numpy, jax.grad, jax.vmap"),
}

# %%
figure, axes = plt.subplots(figsize=(8, 3.2), dpi=80)
for row, (part, sides) in enumerate(reversed(parts.items())):
    core = row < 2  # what `import jax` brings
    for left, width, text, color in [
        (0.0, 2.2, part, "white"),
        (2.3, 2.4, sides[0], "#f6c6ad"),
        (4.8, 4.2, sides[1], "#9dc3e6" if core else "#dae9f5"),
    ]:
        axes.barh(row, width, 0.86, left, color=color)
        axes.text(left + width / 2, row, text, ha="center", va="center", fontsize=9)
axes.text(3.5, 5.6, "one package", ha="center"), axes.text(6.9, 5.6, "JAX (dark) and libraries around it", ha="center")
axes.set_xlim(0, 9), axes.set_ylim(-0.6, 6.1), axes.axis("off")
plt.show()
print(len(parts), "parts; those that `import jax` brings:", *list(parts)[-2:], sep="  ")

# %% [markdown]
# ## Is this environment ready?
#
# The course runs on Python 3.11 to 3.13, jax 0.7.2 or newer, flax 0.12.0 or newer.

# %% tags=["nbval-ignore-output"]
print("Python", platform.python_version(), "on", jax.devices()[0].device_kind)
for package in ("jax", "jaxlib", "flax", "optax", "torch", "numpy", "pandas", "scikit-learn"):
    print(f"{package:14}{version(package)}")


# %%
def at_least(package, wanted):
    return Version(version(package)) >= Version(wanted)


assert at_least("jax", "0.7.2"), "jax is too old: upgrade to 0.7.2 or newer"
assert at_least("flax", "0.12.0"), "flax is too old: pip install --no-deps flax==0.12.0"
print("ready  ok")

# %% [markdown]
# ## How the course works
#
# - Lessons come in reading order. `01a`, `01b` and `01c` are one program told three times, with the same ten
#   steps and the same names.
# - 01b and 01c quote the PyTorch lines that ran in 01a; from 02 on both sides run in one notebook. Where a
#   lesson says "equal", a line before it has checked.
# - What a lesson teaches, later lessons import from the small package `course`: the same code, its arguments
#   checked.
# - Timings differ from machine to machine, so they come out of the run you are looking at.
#
# ## Summary
#
# - Arrays don't change; functions are pure; keys are arguments; state goes in and comes out.
# - `jax.grad` turns a function into its derivative; nothing is left behind and nothing accumulates.
# - JAX is a core with libraries around it: Flax for models, Optax for optimizers, Orbax for checkpoints.
#
# Next: [01a · the program you know, in PyTorch](01a_titanic_torch.ipynb).
