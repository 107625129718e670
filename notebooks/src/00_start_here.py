# %% [markdown]
# # 00 · Start here
#
# **What moves and what stays when a PyTorch developer meets JAX?** (20 minutes)

# %% [markdown]
# After this lesson you can
#
# - name the four habits that change: arrays, functions, randomness, state,
# - say which familiar words mean something else in JAX, and look up what to say instead,
# - say which JAX library does the work of which part of PyTorch,
# - tell whether your environment is ready, and how the other lessons work.

# %%
import os
import platform
import warnings
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

# %% tags=["trap:write-element"]
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
# [08](08_tracing.ipynb) shows what happens when it isn't.
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

# %% tags=["trap:draw-twice"]
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
# ## Same word, other meaning
#
# `jax.numpy` speaks NumPy. Most of its words are PyTorch's too, and a few mean something else. The next cells run
# a line twice: `x` is a tensor and `xp` is `torch`; then `x` is a JAX array and `xp` is `jax.numpy`. Read them
# once. You need not keep them in your head, only know where they stand.

# %% tags=["trap:integer-dtype"]
def told(result):
    if isinstance(result, tuple | list):
        return f"({', '.join(map(told, result))})"
    return str(np.round(np.asarray(result), 2)) if hasattr(result, "tolist") else str(result).removeprefix("torch.")


def both(x, *lines):
    for line in lines:
        sides = []
        for xp, mine in ((torch, torch.from_numpy(x.copy())), (jnp, jnp.asarray(x))):
            try:
                sides.append(told(eval(line, {"x": mine, "xp": xp, "np": np})))
            except (IndexError, RuntimeError, TypeError, ValueError) as error:
                sides.append(type(error).__name__)
        assert sides[0] != sides[1]
        print(f"{line:44}torch: {sides[0]:25} jax: {sides[1]}")


both(np.array([1, 2, 3, 5], np.float32), "x.std()", "x.var()", "xp.median(x)", "x.max(axis=0)")
both(np.array([4, -4]), "x.dtype", "x.mean()", "x // 0")
both(np.array([2**40 + 5]), "x")
both(np.array([0.1]), "x.dtype")
both(np.full(4, 2**30, np.int32), "x.sum()")
both(np.ones(2, np.float16), "(x / np.sqrt(64)).dtype", "(x @ xp.ones(2)).dtype")

# %% [markdown]
# Line by line:
#
# - `std` and `var` divide by N - 1 in torch, by N in JAX; `ddof=1` mends it. The median of an even number of values
#   is the lower one in torch. `max` along an axis brings its indices in torch; JAX has `argmax` for those.
# - JAX has 32 bits unless you set `jax_enable_x64`. int64 and float64 become int32 and float32, and the upper
#   bits go without a word. A sum of int32 stays int32, too.
# - Compiled code can't raise when it meets a bad value, so JAX doesn't: `x // 0` is *some* number.
# - A NumPy number has a dtype, and JAX heeds it: float16 becomes float32. Divide by `64**0.5`. A product of two
#   dtypes is float32 as well, where torch refuses it.
#
# Now shapes, places and matrices:

# %% tags=["trap:size-of-dimension"]
x = np.zeros((2, 3, 4), np.float32)
both(x, "x.size(0)", "x.view(6, 4).shape", "x.transpose(0, 1).shape")
t, j = torch.from_numpy(x), jnp.asarray(x)
print("each matrix transposed: t.mT", *t.mT.shape, " j.mT", *j.mT.shape, " but j.T", *j.T.shape)
both(np.arange(2), "x.repeat(2)")
both(np.arange(6), "xp.split(x, 2)")
both(np.arange(4, dtype=np.float32), "x[10]", "xp.take(x, xp.asarray([0, 10]))", "x[[0, 2]]")
both(np.eye(2, dtype=np.float32), "xp.linalg.cholesky(-xp.eye(1))", "xp.linalg.solve(xp.stack([x, x]), x).shape")

# %% [markdown]
# JAX's words for the torch column are `x.shape[0]`, `x.reshape(6, 4)`, `x.swapaxes(0, 1)`, `jnp.tile(x, 2)`,
# `jnp.split(x, len(x) // 2)`, `x[jnp.array([0, 2])]` and `solve(a, b[..., None])[..., 0]`. Past the end JAX reads the
# last element, and `take` reads NaN. A factorisation that fails is NaN.
#
# Writing has four more. A slice is a view in torch and an array of its own in JAX. Where an index comes
# twice, torch's `+=` adds once and `.at[].add` twice. A write past the end is dropped. And an array that shares
# its memory with a tensor does change (`jnp.from_dlpack(t.clone())` is safe):

# %% tags=["trap:from-tensor"]
t, j = torch.zeros(3, 2), jnp.zeros((3, 2))
row = t[0]
row += 1
print("torch, a view:", t[0].tolist())
row = j[0]
row += 1
print("jax, a copy:  ", j[0].tolist())

t, j = torch.zeros(3), jnp.zeros(3)
t[[0, 0, 2]] += 1
print("0 comes twice, torch:", t.tolist(), " jax:", j.at[jnp.array([0, 0, 2])].add(1).tolist())
print("past the end:", j.at[10].set(9))

j = jnp.from_dlpack(t)
t[:] = 7
print("written to the tensor, read from the array:", j)

# %% [markdown]
# Two that are about more than arrays. A compiled function (08) must know its shapes beforehand, and how many elements
# a mask selects is not known: give a `size`; the places left over are filled.
#
# And JAX runs threads. A forked copy of the process inherits their locks without the threads, and may hang. On
# Linux, a `DataLoader` forks its worker processes just as the last lines here do. So this course uses none
# (`num_workers=0`, the default); if you need them, pass `multiprocessing_context="spawn"`.

# %% tags=["trap:mask"]
x = jnp.array([0, 5, 0, 7])
print("outside jit:", x[x > 0], jnp.nonzero(x)[0])
try:
    jax.jit(lambda x: x[x > 0])(x)
except IndexError as error:
    print("inside:", type(error).__name__)
print("with a size:", jax.jit(lambda x: jnp.nonzero(x, size=3, fill_value=-1)[0])(x))

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    child = os.fork()
    if child == 0:
        os._exit(0)  # the copy ends at once
    os.waitpid(child, 0)
print(*{str(warning.message).partition(". ")[2] for warning in caught if "JAX" in str(warning.message)})

# %% [markdown]
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

# %% tags=["nbval-ignore-output"] volatile="versions"
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
# - Words follow NumPy, integers and floats have 32 bits, and a bad index or matrix gives a number, not an error.
# - `jax.grad` turns a function into its derivative; nothing is left behind and nothing accumulates.
# - JAX is a core with libraries around it: Flax for models, Optax for optimizers, Orbax for checkpoints.
#
# Next: [01a · the program you know, in PyTorch](01a_titanic_torch.ipynb).
