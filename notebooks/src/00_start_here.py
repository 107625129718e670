# %% [markdown]
# # 00 · Start here
#
# **What moves and what stays when a PyTorch developer meets JAX?** (55 minutes)

# %% [markdown]
# After this lesson you can
#
# - train a model in JAX, and say why one would move from PyTorch, and when not to,
# - name the four habits that change: arrays, functions, randomness, state,
# - recognise the six traps of the first week by their error, or by their silence,
# - feed JAX from `DataLoader` workers that do not hang,
# - read what JAX says about devices, memory and precision.

# %%
import os
import pickle
import subprocess
import sys
import warnings
from importlib.metadata import version

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import torch
from flax import nnx
from packaging.version import Version

from course import loaders, plots, results
from course.failures import fails

# %%
SEED = 0
plots.use()

# %% [markdown]
# ## A model trains
#
# A small network learns a sine. JAX brings arrays, derivatives and the compiler, Flax the layers, Optax the
# optimizer. Flax has two kinds of layers: NNX, objects as in torch, used here, and Linen, which keeps all state
# outside. (Later you will meet Orbax for checkpoints, and Equinox, another library of layers.)

# %% tags=["starts-training"]
x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]  # (64, 1)
y = np.sin(3 * x)
rngs = nnx.Rngs(SEED)
model = nnx.Sequential(nnx.Linear(1, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 1, rngs=rngs))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: ((model(x) - y) ** 2).mean())(model)
    optimizer.update(model, grads)
    return loss


for step in range(401):
    loss = train_step(model, optimizer, x, y)
    if step % 100 == 0:
        print(f"step {step:3}: loss {loss:.3f}")
print(f"at 0.5: {model(np.array([[0.5]])).item():.2f}, the sine there: {np.sin(1.5):.2f}")

# %% [markdown]
# What is new stands in four places:
#
# - `rngs`: nothing draws numbers unless you hand it a source of them.
# - `value_and_grad(f)` is a function. Calling it returns the loss and the gradients: there is no `backward()`, no
#   `.grad`, nothing to set to zero.
# - `update(model, grads)`: the optimizer keeps its moments, and gets model and gradients as arguments.
#   `wrt=nnx.Param` names what it trains: the weights.
# - `@nnx.jit`: the first call compiles the whole step, derivative and update included; later calls run it. `jax.jit`
#   does the same for functions of arrays, without objects. And no `.to(device)`: JAX computes on the best device that
#   it finds.
#
# ## Why move at all?
#
# For what a compiler can do with a whole program. This course has measured it: the Titanic network (15-64-1, batch
# 32) for 500 epochs, in several forms of one loop. [10](10_jit_speed.ipynb) builds each of them, and `make bench`
# measures them again on your machine.

# %%
speed = results.load("titanic_speed")
seconds = results.table(speed, "one model, seconds per 500 epochs")["median_s"]
many = results.table(speed, "many models, seconds per 500 epochs")["median_s"].filter(like="256 models, own")
step = results.table(results.load("tracing_paper"), "one convolutional step, seconds")["median_s"]
print(results.measured_on(speed))
rows = ["torch eager + DataLoader", "torch preloaded, fused Adam", "torch.compile, fused Adam"]
rows += ["nnx un-jitted + loader", "@nnx.jit + loader", "Linen, jax.jit + loader"]
rows += ["one compiled run", "one compiled run, first call"]
print("seconds:     ", many.round(1).to_dict())
print("milliseconds:", (1e3 * step[["conv step: per step", "conv step: torch eager"]]).round(1).to_dict())
seconds[rows].to_frame("seconds").assign(times_as_fast=seconds["torch eager + DataLoader"] / seconds[rows]).round(2)

# %% [markdown]
# Read all rows, not only the best. The two lines above the table are 256 models trained at once, by `jax.vmap` (it
# makes a function of many models out of a function of one) and by torch's batched products, and one training step of
# a small convolutional network, by `jax.jit` ("per step") and by torch.
#
# - JAX **wins** where much of the time is Python's and the whole program can be compiled: many small steps, a
#   whole training run in one call, hundreds of models at once; and high derivatives, which lessons 16 to 22
#   measure. Compiling has its price: the last row is the run above it with compiling included.
# - It is a **tie** where the arithmetic takes the time: both sides compute the convolutions about equally fast.
# - JAX **loses** if you forget `jit`, by far. And plain `@nnx.jit` on a model this small is slower than eager
#   torch: it takes the objects apart and puts them together around each call.
#
# So **don't move** if one step keeps the device busy for long and `torch.compile` already serves you; if the
# shapes change with every call, since each new shape compiles again; or if you need a checkpoint, a library or a
# serving stack that exists for PyTorch alone. And these numbers come from one CPU core: they say nothing about
# your GPU.
#
# Now the four habits that change.
#
# ## 1 · Arrays do not change
#
# `t[0] = 9` writes to a tensor. A JAX array refuses. (`fails` runs what must fail, and prints the end of the
# traceback.)

# %% tags=["trap:write-element"]
j = jnp.zeros(3)
with fails(TypeError):
    j[0] = 9
changed = j.at[0].set(9)
print(changed, j)

# %% [markdown]
# The message names its remedy. `.at[0].set(9)` returns a changed copy, and the old array stays what it was.
# Outside `jit` each copy costs; inside, the compiler writes in place where nobody needs the old array.
#
# ## 2 · A derivative is a function
#
# `backward()` leaves its gradient on the tensor, and a second one adds to it. JAX turns a function into its
# derivative, which you call.

# %%
w = torch.tensor(3.0, requires_grad=True)
(w**2).backward()
(w**2).backward()
slope = jax.grad(lambda w: w**2)
print("torch, twice:", w.grad.item(), "  jax, twice:", slope(3.0), slope(3.0), "  and its slope:", jax.grad(slope)(3.0))

# %% [markdown]
# Nothing is left behind, so nothing accumulates; and `slope` is a function like any other, so it has a derivative
# too. The price: the function must be *pure*. Its result depends on its arguments alone, and it changes nothing
# else.
#
# ## 3 · Randomness is an argument
#
# torch keeps a hidden generator, which each draw changes. In JAX you hold a key, and pass it.
#
# **Predict.** Two draws, one key: what does the second draw give?

# %% tags=["trap:draw-twice"]
key = jax.random.key(SEED)
print("one key:   ", jax.random.uniform(key, (3,)), jax.random.uniform(key, (3,)))
first, second = jax.random.split(key)
print("split keys:", jax.random.uniform(first, (3,)), jax.random.uniform(second, (3,)))
with jax.debug_key_reuse(True), fails(jax.errors.KeyReuseError):
    key = jax.random.key(SEED)
    jax.random.normal(key, (3,)), jax.random.normal(key, (3,))

# %% [markdown]
# The same numbers: drawing does not change a key. It is the commonest mistake of the first week, and silent: two
# layers with equal weights, a dropout mask that never changes. `split` makes new keys of one. While you learn,
# switch the check on for good: `jax.config.update("jax_debug_key_reuse", True)`. In its message "previously-consumed"
# is a key that was used before, and "index 0" is its place among the draw's arguments: the first.
#
# ## 4 · State goes in and comes out
#
# On the left, a torch module: it changes itself while you call it. On the right a pure function: it takes the
# state, and returns the next one.

# %% alt="Two diagrams. Left, dashed orange: x goes into a module that holds weights and averages, y comes out, and an arrow from the module back to itself says: changes itself. Right, blue: x and state go into a function, y and the new state come out, and a dashed arrow carries the new state back to the next call."
diagram = plots.Diagram(height=2.4)
diagram.note(1.9, 2.25, "PyTorch: the module owns its state", side="torch")
module = diagram.function(1.9, 0.85, "model(x)", side="torch", width=1.5, height=1.3)
diagram.array(1.9, 0.45, "weights, averages", side="torch", width=1.25, height=0.3)
diagram.arrow(diagram.array(0.4, 0.85, "x", width=0.5), module)
diagram.arrow(module, diagram.array(3.4, 0.85, "y", width=0.5))
diagram.arrow((2.4, 1.5), (1.4, 1.5), "changes itself", side="torch", bend=0.5, dashed=True)

diagram.note(6.1, 2.25, "JAX: state goes in and comes out", side="jax")
diagram.function(6.1, 1.3, "step(state, x)", side="jax", width=1.4, height=1.2)
diagram.arrow(diagram.array(4.75, 1.6, "x", width=0.7), (5.4, 1.6))
diagram.arrow(diagram.array(4.75, 1.05, "state", side="jax", width=0.7), (5.4, 1.05))
diagram.arrow((6.8, 1.6), diagram.array(7.45, 1.6, "y", width=0.75))
diagram.arrow((6.8, 1.05), diagram.array(7.45, 1.05, "new state", side="jax", width=0.75))
diagram.arrow((7.45, 0.8), (4.75, 0.8), "carried to the next call", side="jax", bend=-0.2, offset=-0.2, dashed=True)
plt.show()
print("state of the sine's model:", [array.shape for array in jax.tree.leaves(nnx.state(model, nnx.Param))])


# %% [markdown]
# So the state is data: here two biases and two kernels, which `nnx.jit` hands in and takes back. What happens to a
# plain object that changes itself under `jit`? This one counts its calls, and multiplies by the count.
#
# **Predict.** Three calls with 10: which results, and which count? (torch gives 10, 20, 30, and 3.)

# %%
class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x * self.calls


counter = Counter()
compiled = jax.jit(counter)
print("object:  ", [float(compiled(10.0)) for _ in range(3)], " count:", counter.calls)

counted = jax.jit(lambda calls, x: (calls + 1, x * (calls + 1)))  # state in, state out
calls, outputs = 0, []
for _ in range(3):
    calls, y = counted(calls, 10.0)
    outputs.append(float(y))
print("function:", outputs, " count:", calls)


# %% [markdown]
# The object's Python ran once, at the first call: `jit` recorded the operations on `x`, with 1 as a constant, and
# later calls replay the recording. No error, no warning. The function returns what it changed, and counts.
#
# Weights, moments, BatchNorm's averages, keys: all of it is state, and this is its pattern. Flax NNX lets you
# write objects and does the taking and returning inside `nnx.jit` ([01b](01b_titanic_nnx.ipynb)); Flax Linen shows
# it ([01c](01c_titanic_linen.ipynb)).
#
# ## Six traps of the first week
#
# Each of these lines works in PyTorch. First: a function that works in place, on a row of a matrix.
#
# **Predict.** What do the two matrices hold afterwards?

# %% tags=["trap:view"]
def center_(x):
    x -= x.mean()
    return x


t, j = torch.ones(2, 2).cumsum(1), jnp.ones((2, 2)).cumsum(1)
row = center_(t[0]), center_(j[0])
print("torch:", t.tolist(), "  jax:", j.tolist())
print("mended:", j.at[0].set(row[1]).tolist())

# %% [markdown]
# **1 · `-=` binds a name.** An array can't change, so `x -= m` means `x = x - m`: a new array under an old name,
# inside the function. And `j[0]` is an array of its own, where `t[0]` is a view. Return the new value, and put it
# where it belongs.
#
# The next one is about integers. Hashes and row ids are often 64 bits wide.

# %% tags=["trap:integer-dtype"]
ids, large = np.array([2**40 + 5]), np.full(4, 2**30, np.int32)
print("torch:", torch.from_numpy(ids), " sum", torch.from_numpy(large).sum())
print("jax:  ", repr(jnp.asarray(ids)), " sum", jnp.asarray(large).sum())
print("float64 becomes", jnp.asarray(np.array([0.1])).dtype)

# %% [markdown]
# **2 · JAX has 32 bits**, unless `jax_enable_x64` is set before the first array. NumPy's int64 and float64 become
# int32 and float32, the upper bits go without a word, and sums wrap. Number such ids anew in NumPy before they
# reach JAX, or switch on x64, which brings int64 and float64 back.
#
# Then, words. `jax.numpy` speaks NumPy: a few words are spelled like PyTorch's and mean something else.

# %% tags=["trap:same-word"]
a = np.arange(4, dtype=np.float32)
t, j = torch.from_numpy(a), jnp.asarray(a)
print("x.std()            torch", t.std().numpy().round(2), " jax", j.std().round(2), " mended", j.std(ddof=1).round(2))
print("x.median           torch", t.median().item(), " jax", jnp.median(j))
print("x[:2].repeat(2)    torch", t[:2].repeat(2).numpy(), " jax", j[:2].repeat(2), " mended", jnp.tile(j[:2], 2))
print("split(x, 1)        torch", len(t.split(1)), "pieces  jax", len(jnp.split(j, 1)), "piece")
with fails(TypeError):
    j.size(0)

# %% [markdown]
# **3 · Same word, other meaning.** The quiet ones are worse than the loud: N - 1 or N, the lower or the mean of
# the middle two, the whole or each element, the length of a piece or the number of pieces. `'int' object is not
# callable` means that `size` is a number here; say `x.shape[0]`. `transpose` wants all axes (`swapaxes` wants
# two), and `view` is for dtypes (`reshape` is for shapes).
#
# **Predict.** `x` has four elements. What happens to `x[10]`, and to a write there?

# %% tags=["trap:no-error"]
t, j = torch.arange(4), jnp.arange(4)
with fails(IndexError):
    t[10]
print("x[10]:", j[10], "  written at 10:", j.at[10].set(9))
with fails(RuntimeError):
    t // 0
print("x // 0:", j // 0, "  Cholesky of -1:", jnp.linalg.cholesky(-jnp.eye(1)))
print("made visible:", jnp.asarray([0.0, 1.0]).at[10].get(mode="fill", fill_value=jnp.nan))


# %% [markdown]
# **4 · No error.** A compiled program on an accelerator can't stop in the middle, so JAX does not raise on a bad
# *value*, jitted or not. A read past the end gives the last element, a write there is dropped, a division by zero is
# some number, a failed factorisation is NaN. Check indices in NumPy before they come in; [08c](08c_debugging.ipynb)
# makes such errors visible inside.
#
# What does raise, and often in the first week: asking for a value inside `jit`, for a log, say.

# %%
@jax.jit
def logged(w):
    loss = (w**2).sum()
    print("loss:", loss.item())
    return loss


with fails(jax.errors.ConcretizationTypeError):
    logged(jnp.ones(3))

# %% [markdown]
# **5 · Inside `jit` there are shapes, no values.** Read the message from its end: which argument the value depends
# on, in which function, and what asked for it. While a function is recorded, `loss` is a *tracer*, a stand-in with
# a shape and a dtype. `.item()`, `float()`, `if loss > 1` and NumPy functions ask it for a value that does not
# exist yet. Return the loss and print it outside, or say `jax.debug.print`.
#
# For the same reason a shape can't depend on values:

# %% tags=["trap:mask"]
j = jnp.array([0, 5, 0, 7])
print("outside jit:", j[j > 0])
with fails(IndexError):
    jax.jit(lambda x: x[x > 0])(j)
print("with a size:", jax.jit(lambda x: x[jnp.nonzero(x > 0, size=3, fill_value=0)])(j))
print("masked sum: ", jax.jit(lambda x: jnp.where(x > 0, x, 0).sum())(j))


# %% [markdown]
# **6 · Masks.** "Array boolean indices must be concrete": the compiler would have to know how many elements the
# mask selects. Give a `size` (the place left over holds `x[0]` here), or keep the shape and mask with `where`, as
# sums and losses can.
#
# Six of many. The [Rosetta stone](../ROSETTA.md#contents) has them all: entries marked **Trap**, both sides run by
# the tests. Take it as a quiz: open [indexing](../ROSETTA.md#indexing), [reductions](../ROSETTA.md#reductions) or
# [linear algebra](../ROSETTA.md#linear_algebra), read the PyTorch side of a trap, and say what JAX gives before
# you look. At its end are the [error messages](../ROSETTA.md#error-messages), by the words that you would search
# for.
#
# ## DataLoader workers
#
# JAX has no loader; torch's will do (Grain is one made for JAX). This course uses `num_workers=0`, the default. If
# you need workers, see what happens first. This data set adds noise to its images; the noise comes from JAX or from
# NumPy.

# %%
class Noisy(torch.utils.data.Dataset):
    def __init__(self, images, noise):
        self.images, self.noise = images, noise

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index] + self.noise(index, self.images.shape[1:])


def jax_noise(seed, shape):
    return np.asarray(jax.random.normal(jax.random.key(seed), shape))


def numpy_noise(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def first_batch(dataset, start, timeout):
    options = dict(num_workers=1, timeout=timeout, multiprocessing_context=start)
    return next(iter(torch.utils.data.DataLoader(dataset, batch_size=4, **options)))


# %% [markdown]
# On Linux, Python up to 3.13 starts workers by `fork`. Both kinds of noise are tried that way, each with a `timeout`.
#
# **Predict.** Which of the two arrives?

# %% tags=["trap:workers"]
images = np.zeros((8, 32, 32), np.float32)
if sys.platform == "linux" and __name__ == "__main__":  # elsewhere workers are spawned, see below
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fails(RuntimeError):
            first_batch(Noisy(images, jax_noise), "fork", timeout=3)
        print("noise from NumPy:", tuple(first_batch(Noisy(images, numpy_noise), "fork", timeout=60).shape))
    print("warned:", next(str(w.message).partition(". ")[2] for w in caught if "JAX" in str(w.message)))
else:
    print("skipped: fork is Linux's way")

# %% [markdown]
# NumPy's. "DataLoader timed out" means: the worker is alive, and waits; without a `timeout` it would wait for ever.
# JAX computes in threads, and `fork` copies a process without them: the copy hands its work to a pool in which nobody
# works. A short test may pass all the same: a call that needs no thread gets through, and before JAX's first
# operation there are none to miss. A worker that stays away from JAX runs: load and augment in NumPy there, and let
# the main process do the rest. JAX warns at each fork all the same.
#
# `spawn` is the clean way, and what macOS and Windows do: a worker is a new Python, without threads to miss.
# (Linux gets there with `forkserver`, the default from Python 3.14 on.) The worker gets the data set as a pickle,
# which has a catch if you defined it in a notebook. Here is what a spawned worker does first; then a loader whose
# data set lives in a module.

# %%
program = "import pickle, sys; pickle.load(sys.stdin.buffer)"
sent = pickle.dumps(Noisy(images, numpy_noise))
worker = subprocess.run([sys.executable, "-c", program], input=sent, capture_output=True)
print(worker.stderr.decode().splitlines()[-1])
if __name__ == "__main__":  # a script needs this line: its spawned workers run it again, from the start
    rows, labels = first_batch(loaders.Passengers(images, np.arange(8)), "spawn", timeout=100)
    print("from a module:", tuple(rows.shape), labels.tolist())

# %% [markdown]
# A pickle names its class, and the new Python has no such class: its `__main__` is another one. In a notebook you
# find this message in the log, and `DataLoader worker (pid(s) …) exited unexpectedly` as the error. The mend: put
# the data set into a module, as this course does with `loaders.Passengers`. A spawned worker takes seconds to
# start, since it imports torch again; `persistent_workers=True` pays that once.
#
# ## GPU and TPU
#
# | device | install |
# |---|---|
# | NVIDIA GPU, Linux | `pip install -U "jax[cuda13]"` (older drivers: `"jax[cuda12]"`) |
# | Google TPU | `pip install -U "jax[tpu]"` |
# | CPU, also macOS and Windows | `pip install -U jax` |
#
# The first brings CUDA along: only NVIDIA's driver must be there. On Colab and Kaggle leave the installed jax
# alone; for AMD and others see the installation page under "Further reading". Then ask.

# %% tags=["nbval-ignore-output"] volatile="this machine's devices and settings"
print(jax.default_backend(), jax.devices())
if jax.default_backend() == "cpu":
    with fails(RuntimeError):
        jax.devices("gpu")
print({name: value for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))})

# %% [markdown]
# The error says what was asked for, 'gpu', and what is there. Unasked, a JAX without CUDA computes on the CPU, with at
# most a warning ("Falling back to cpu"). So look at `jax.devices()` before you wonder about speed. Four environment
# variables, to be set before JAX is imported:
#
# - `JAX_PLATFORMS=cpu` leaves the GPU alone. `JAX_PLATFORMS=cuda` fails where there is none, instead of falling
#   back.
# - `XLA_PYTHON_CLIENT_PREALLOCATE=false`: by default JAX takes 75 % of a GPU's memory at its first operation, and
#   `nvidia-smi` shows that, not what you use. If torch shares the GPU with JAX, in one process or two, switch it
#   off, or give JAX its share: `XLA_CLIENT_MEM_FRACTION=.4` (before: `XLA_PYTHON_CLIENT_MEM_FRACTION`). What JAX
#   has taken it keeps.
# - `JAX_DEFAULT_MATMUL_PRECISION=float32`: by default the operands of float32 products may be rounded, to TF32 (10
#   bits instead of 23) on recent NVIDIA GPUs, to bfloat16 (7 bits) on TPUs. torch's default for matrix products is
#   full float32. Training rarely minds; a comparison with torch does, and so does a solver.
#
# And when memory ends? A loss whose logits are (n, 1) and whose labels are (n,):

# %%
logits, labels = jnp.ones((2**24, 1)), jnp.ones(2**24)
with fails(jax.errors.JaxRuntimeError):
    jax.block_until_ready(logits - labels)
print(f"asked for: {logits.size * labels.size * 4 / 2**30:,.0f} GiB")
print(f"held now:  {sum(array.nbytes for array in jax.live_arrays()) / 2**20:.0f} MiB")

# %% [markdown]
# "RESOURCE_EXHAUSTED: Out of memory" is what `torch.OutOfMemoryError` is in PyTorch; on a GPU it says "while
# trying to allocate", and jax 0.7 on a CPU may say INTERNAL in front of "Out of memory". Divide the bytes by
# 2**30, and ask which array is that large: here (n, 1) met (n,), and broadcasting made (n, n) of them. JAX
# computes asynchronously, so the error may come at a later line than its cause. If the sum is the trouble,
# `jax.live_arrays()` lists what is held. Then: a smaller batch, `jax.checkpoint` ([09b](09b_custom_rules.ipynb)),
# donated arguments ([08](08_tracing.ipynb)).
#
# ## Is this environment ready?
#
# The course runs on Python 3.11 to 3.13, jax 0.7.2 or newer, flax 0.12.0 or newer. Colab and Kaggle have flax 0.11.2:
# most lessons run on it as it is, and the others bring 0.12.0 themselves.

# %% tags=["nbval-ignore-output"] volatile="versions"
print("Python", sys.version.split()[0], "on", jax.devices()[0].device_kind)
for package in ("jax", "jaxlib", "flax", "optax", "torch", "numpy", "pandas", "scikit-learn"):
    print(f"{package:14}{version(package)}")
assert sys.version_info >= (3, 11), "this Python is too old: install 3.13"
assert sys.version_info < (3, 14), "this Python is too new, the course ran on none like it: install 3.13"
assert Version(version("jax")) >= Version("0.7.2"), "jax is too old: upgrade to 0.7.2 or newer"
assert Version(version("flax")) >= Version("0.11.2"), "flax is too old: pip install --no-deps flax==0.12.0"
print("ready  ok")

# %% [markdown]
# ## Summary
#
# - Arrays don't change; a derivative is a function; keys are arguments; state goes in and comes out.
# - JAX wins where a whole program can be compiled. Without `jit` it loses, and where the arithmetic takes the time it
#   is a tie.
# - What bites in the first week is mostly silent: a name rebound, 32 bits, NumPy's words, an index past the end, a
#   key used twice. Inside `jit` it is loud: no values, no shapes that depend on them.
# - Loader workers stay away from JAX, and a spawned worker's data set lives in a module.
#
# The lessons `01a`, `01b` and `01c` are one program told three times; from 02 on both sides run in one notebook.
# What a lesson teaches, later ones import from the package `course`: the same code, its arguments checked.
#
# ## Further reading
#
# - [JAX: the sharp bits](https://docs.jax.dev/en/latest/notebooks/Common_Gotchas_in_JAX.html): JAX's own list of
#   traps, with the reasons.
# - [Installing JAX](https://docs.jax.dev/en/latest/installation.html): every platform, driver versions, nightly
#   builds.
# - [GPU memory allocation](https://docs.jax.dev/en/latest/gpu_memory_allocation.html): preallocation, fractions,
#   causes of out-of-memory errors.
# - [torch.utils.data](https://docs.pytorch.org/docs/stable/data.html): how workers are started on each platform,
#   and what is sent to them.
#
# Exercises: [your turn](exercises/00_start_here.ipynb).
#
# Next: [01a · Who survives? The program you know, in PyTorch](01a_titanic_torch.ipynb).
