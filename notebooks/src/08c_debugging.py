# %% [markdown]
# # 08c · Looking inside
#
# **A compiled program gives NaN, wrong numbers or no speed: how do you look inside?** (60 minutes)

# %% [markdown]
# After this lesson you can
#
# - print from a compiled program, stop in it, or run it as plain Python,
# - mend a leaked tracer and a NaN gradient, not only find them,
# - check values inside a compiled program with `checkify`,
# - record a profile of a training step and read where its time goes.

# %%
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from time import sleep

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KINETO_LOG_LEVEL="6")  # or the two profilers write to stderr
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import torch
from jax import lax
from jax.experimental import checkify
from torch.profiler import ProfilerActivity, profile

from course import plots
from course.failures import fails

# %%
SEED = 0
torch.set_num_threads(1)
plots.use()


# %% [markdown]
# ## 1 · Print, run un-jitted, stop
#
# The oldest tool first. `print` is Python; `jax.debug.print` takes a format string and the values, and becomes a part
# of the program.
#
# **Predict.** Both stand in the body of a `lax.scan` of three turns. How many lines does each print?

# %%
@jax.jit
def roots(x):
    def turn(x, _):
        print("print:      ", x)
        jax.debug.print("debug.print: {x:.3f}", x=x, ordered=True)
        return jnp.sqrt(x), None

    return lax.scan(turn, x, length=3)[0]


result = roots(jnp.float32(16))
jax.effects_barrier()  # a program prints when it runs, which may be later: wait for it

# %% [markdown]
# `print` runs once, while tracing (08), and sees a tracer; `jax.debug.print` runs at every turn and sees values. It
# works under `grad` and `vmap` too. `ordered=True` keeps the lines in order; without it they may come out of order.
# Each print carries values out of the program, which costs time, so none stays in a training loop.
# (`jax.debug.callback` calls any function of yours in the same way.)
#
# Where a plain `print` or a debugger is wanted, switch compiling off. Everything then runs in Python, even the turns
# of a `scan`: slowly, and with values.

# %%
with jax.disable_jit():
    roots(jnp.float32(16))

# %% [markdown]
# `pdb` works there as in PyTorch. What it cannot show is a bug that only tracing makes.
#
# `jax.debug.breakpoint()` stops inside the compiled program. It opens a prompt in your terminal or notebook and waits
# for you, so this cell runs a small script of its own and types the answers.

# %%
script = """
import jax
import jax.numpy as jnp

@jax.jit
def loss(w, x):
    z = jnp.log(w * x)
    jax.debug.breakpoint()
    return z.sum()

print("loss:", loss(2.0, jnp.array([1.0, -1.0])))
"""
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "stop.py").write_text(script)
    typed = ["p z", "p w * x", "bt", "c"]
    done = subprocess.run(
        [sys.executable, "stop.py"], input="\n".join(typed) + "\n", cwd=folder, capture_output=True, text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
opening, *answers = re.sub(r'"[^"]*(stop.py)"', r"\1", done.stdout).split("(jdb) ")
print(opening.strip())
for key, answer in zip(typed, answers, strict=True):
    print(f"(jdb) {key}\n{answer.rstrip()}")

# %% [markdown]
# `p` prints an expression of the frame's variables, `bt` shows where you are, `u` and `d` move between frames, `c`
# goes on, `q` quits. The frame holds copies: you can look, not change. To stop only when something is wrong, put the
# breakpoint into one branch of a `lax.cond`.
#
# ## 2 · Leaked tracers
#
# You want to keep an activation, and append it to a list, as a hook does in PyTorch.

# %% tags=["trap:collect-in-list"]
kept = []


def layer(x):
    hidden = jnp.tanh(x)
    kept.append(hidden)
    return 2 * hidden


jax.jit(layer)(1.0)
with fails(jax.errors.UnexpectedTracerError, lines=12):
    kept[0] + 1

# %% [markdown]
# How to read it: "side effect, allowing for a reference to an intermediate value" is the `append`. The message names
# the function that was traced and where the value was created, but it comes late: where the tracer is *used*.
#
# `jax.checking_leaks()` raises at the call that lets it *escape*, and says who holds it. It watches tracing, so a
# function that is compiled already shows nothing: set it from the start, or `JAX_CHECK_TRACER_LEAKS=1`.

# %%
with fails(Exception, lines=4), jax.checking_leaks():  # JAX raises a plain Exception here
    jax.jit(lambda x: layer(x) + 1)(1.0)


# %% [markdown]
# The last line is the culprit: the list `kept`. (`self.hidden = …` in a plain class leaks in the same way.)
#
# The mend: return what you want to keep. For many turns, let `scan` stack it.

# %%
@jax.jit
def layer_and_hidden(x):
    hidden = jnp.tanh(x)
    return 2 * hidden, hidden


result, hidden = layer_and_hidden(1.0)
print(f"result {result:.3f}, hidden {hidden:.3f}")
result, every_hidden = lax.scan(lambda x, _: layer_and_hidden(x), jnp.ones(()), length=3)
print("hidden of three layers:", *[f"{hidden:.3f}" for hidden in every_hidden])


# %% [markdown]
# ## 3 · NaN
#
# A square root is not differentiable at 0, so it is guarded.
#
# **Predict.** At `x = [0, 4]` the value of this function is `0 + 2`. What is its gradient at 0, in PyTorch and in
# JAX: 0, infinite, or NaN?

# %%
def guarded(x):
    return jnp.where(x > 0, jnp.sqrt(x), 0.0).sum()


x = jnp.array([0.0, 4.0])
x_torch = torch.tensor([0.0, 4.0], requires_grad=True)
torch.where(x_torch > 0, x_torch.sqrt(), 0.0).sum().backward()
print("value:", guarded(x), " gradient: torch", x_torch.grad.tolist(), " jax", jax.grad(guarded)(x))


# %% [markdown]
# NaN, in both. Backwards, `where` hands each side the gradient where that side was selected, and 0 elsewhere; the
# side multiplies by its own derivative. That of the square root at 0 is infinite, and 0 times infinity is NaN. The
# forward pass never shows it.
#
# The mend is a second `where`, *inside*: the function never sees the bad number.

# %%
def guarded_twice(x):
    safe = jnp.where(x > 0, x, 1.0)
    return jnp.where(x > 0, jnp.sqrt(safe), 0.0).sum()


print("value:", guarded_twice(x), " gradient:", jax.grad(guarded_twice)(x))


# %% [markdown]
# Norms, logarithms, divisions and `arccos` want the same care.
#
# To *find* the place, `jax.debug_nans` checks the result of every compiled call. If it holds a NaN, JAX runs the
# function again, one operation at a time, and raises at the first that made one. (For the backward pass PyTorch has
# `torch.autograd.detect_anomaly`.)

# %%
def log_loss(x):
    shifted = x - 1
    return jnp.log(shifted).sum()


for function in log_loss, jax.grad(guarded):
    try:
        with jax.debug_nans(True):
            jax.jit(function)(x)
    except FloatingPointError as error:
        print(str(error).splitlines()[0])
        frames = traceback.extract_tb(error.__traceback__)
        print("  your lines:", [frame.line for frame in frames if frame.name in ("log_loss", "guarded")])


# %% [markdown]
# "Invalid nan value …" announces the second run; it stands there twice in the first case, since `jnp.log` is a
# compiled function of its own inside yours. In a forward pass the traceback leads to your line. In a backward pass
# the multiplication ("mul") is not yours, and you learn only the operation. Then read the forward pass for a function
# with an infinite derivative: `sqrt`, `log`, `arccos`, a norm or a division at 0.
#
# The switch costs: every result is waited for and read. Turn it on for a run that fails, not for all runs.
#
# ## 4 · Checks that compile
#
# An `assert` on values cannot be traced. `checkify` (in `jax.experimental`: public, and it may still change) turns
# checks into a *result* of the program: `error, value = checked(x)`, and `error.throw()` raises if one failed.

# %% tags=["trap:assert-inside"]
def asserted(x):
    assert (x > 0).all(), "x must be positive"
    return jnp.log(x)


def checked(x):
    checkify.check((x > 0).all(), "x must be positive, its least value is {least}", least=x.min())
    return jnp.log(x)


with fails(jax.errors.TracerBoolConversionError, lines=4):
    jax.jit(asserted)(jnp.ones(2))
jit_checked = jax.jit(checkify.checkify(checked))
error, value = jit_checked(jnp.ones(2))
print("ones:", value, " error:", error.get())
error, value = jit_checked(x)
with fails(checkify.JaxRuntimeError):
    error.throw()

# %% [markdown]
# The `assert` fails even where it would hold: tracing has no values. The check holds or fails when the program runs,
# and its message carries the value.
#
# `checkify` can also put a check behind every operation: for NaN, for division by zero, for indices out of range.

# %%
all_checks = checkify.float_checks | checkify.index_checks
watched = jax.jit(checkify.checkify(jax.value_and_grad(guarded), errors=all_checks))
error, (value, gradient) = watched(x)
print("watched gradient:", error.get())
error, _ = jax.jit(checkify.checkify(lambda x, i: x[i], errors=all_checks))(x, 5)
print("watched index:   ", error.get().partition(". ")[0])
print("without checks:  ", jax.jit(lambda x, i: x[i])(x, 5), "at index 5 of 2")
plain, checks = (
    len(str(jax.make_jaxpr(function)(x)).splitlines())
    for function in (jax.value_and_grad(guarded), checkify.checkify(jax.value_and_grad(guarded), errors=all_checks))
)
print("lines of jaxpr:  ", plain, "without,", checks, "with checks")


# %% [markdown]
# "Division by zero": the derivative of the square root divides by it. So `checkify` names a cause that `debug_nans`
# did not. It also finds what JAX does silently: an index out of range is clamped to the last element. The checks cost
# operations, as the last line counts: they are for debugging and for tests, not for every step.
#
# ## 5 · One key, used twice
#
# The numbers are wrong and nothing is NaN: often a key was used for two draws. PyTorch's generator moves on by
# itself, a key does not.

# %%
def noise_and_mask(key):
    return jax.random.normal(key, (3,)), jax.random.normal(key, (3,)) > 0


def noise_and_own_mask(key):
    noise_key, mask_key = jax.random.split(key)
    return jax.random.normal(noise_key, (3,)), jax.random.normal(mask_key, (3,)) > 0


def show(name, noise, mask):
    print(f"{name:9}", *[f"{value:5.2f}" for value in noise], " mask:", mask)


show("one key:", *noise_and_mask(jax.random.key(SEED)))
with fails(jax.errors.KeyReuseError), jax.debug_key_reuse(True):
    jax.jit(noise_and_mask)(jax.random.key(SEED))
with jax.debug_key_reuse(True):
    show("split:", *jax.jit(noise_and_own_mask)(jax.random.key(SEED)))


# %% [markdown]
# With one key the mask is nothing but the sign of the noise. "Already consumed" says that a draw has used the key of
# argument 0 before. `split` gives each draw its own; the rule is one key, one use.
#
# ## 6 · Where does the time go?
#
# `torch.profiler` has a counterpart in `jax.profiler`. Here is a training step with names for its parts, and a loader
# that waits for a slow disk. `jax.named_scope` names operations of the program, `TraceAnnotation` names what Python
# does.

# %%
def loss_fn(params, x, y):
    with jax.named_scope("hidden"):
        hidden = jnp.tanh(x @ params["w1"])
    with jax.named_scope("out"):
        return ((hidden @ params["w2"] - y) ** 2).mean()


@jax.jit
def step(params, x, y):
    loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
    with jax.named_scope("update"):
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads), loss


# %%
rng = np.random.default_rng(SEED)
table = rng.normal(size=(2048, 256)).astype(np.float32)
params = {"w1": rng.normal(0, 0.06, (256, 512)).astype("f"), "w2": rng.normal(0, 0.04, 512).astype("f")}


def load():
    sleep(0.003)  # a disk that answers after 3 ms
    x = table[rng.integers(len(table), size=512)]
    return x, x[:, 0]


params, loss = step(params, *load())  # compile before, not inside, the profile
print(f"first loss: {loss:.2f}")

# %% [markdown]
# `jax.profiler.trace(folder)` writes two files. TensorBoard's profile plugin (XProf) opens the `.xplane.pb`, and
# [Perfetto](https://ui.perfetto.dev) in a browser opens the `.trace.json.gz`. The latter is gzipped JSON, so a few
# lines of Python read it too: a list of events with a name, a start and a duration in microseconds.

# %%
PYTHON = ("load a batch", "call step", "wait for the loss")


def record(wait, steps=6):
    """Events of a few steps: what Python did, and what the compiled program did."""
    global params
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                with jax.profiler.TraceAnnotation(PYTHON[0]):
                    batch = load()
                with jax.profiler.TraceAnnotation(PYTHON[1]):
                    params, loss = step(params, *batch)
                if wait:
                    with jax.profiler.TraceAnnotation(PYTHON[2]):
                        float(loss)
            jax.block_until_ready(loss)
        (file,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    events = [event for event in events if event.get("ph") == "X"]  # X: an event that has a duration
    return [e for e in events if e["name"] in PYTHON], [e for e in events if "hlo_op" in e.get("args", {})]


python, program = record(wait=True)
print(Counter(event["name"] for event in python), " operations found:", len(program) > 0)

# %% [markdown]
# Events with an `hlo_op` are operations of the compiled program. The program's text knows which `named_scope` each
# came from: add up their times and look the names up.

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
total_us = Counter()
for event in program:
    total_us[event["args"]["hlo_op"]] += event["dur"]
text = step.lower(params, *load()).compile().as_text()
origin = dict(re.findall(r'%?([\w.-]+) = .*op_name="([^"]*)"', text))
print("ms a step  operation                    from")
for name, us in total_us.most_common(5):
    print(f"{us / 6 / 1000:9.3f}  {name:28} {origin.get(name, 'made by the compiler')}")

# %% [markdown]
# How to read a name: `jvp(hidden)` is the forward pass of the scope `hidden` while it is differentiated;
# `transpose(jvp(hidden))` is its backward pass (what these words mean is the subject of 09). A `fusion` is several
# operations in one loop, and the path is that of its last one. (A name with `ynn` is work that XLA hands to a library
# of that name, on a CPU.) Here the two big matrix products, forward and backward, should take most of the program's
# time.
#
# PyTorch's table of the same loss and its gradient, on one thread:

# %% tags=["nbval-ignore-output"] volatile="milliseconds"
w1, w2 = (torch.tensor(np.asarray(params[name]), requires_grad=True) for name in ("w1", "w2"))
x_torch, y_torch = map(torch.from_numpy, load())
with profile(activities=[ProfilerActivity.CPU]) as profiled:
    for _ in range(6):
        ((torch.tanh(x_torch @ w1) @ w2 - y_torch) ** 2).mean().backward()
rows = sorted(profiled.key_averages(), key=lambda row: -row.self_cpu_time_total)
print("ms a step  operation")
for row in rows[:5]:
    print(f"{row.self_cpu_time_total / 6 / 1000:9.3f}  {row.key}")


# %% [markdown]
# PyTorch times each operation as Python calls it. In JAX Python sees one call a step; what happens inside has names
# only because the compiler kept them.
#
# Operations are half of the story. The other half is *when*. The recorded loop reads the loss at every step, as
# `loss.item()` does in many training loops.
#
# **Predict.** What changes if the loop never reads a loss?

# %% tags=["nbval-ignore-output"] volatile="milliseconds" alt="Two timelines of six training steps, drawn above each other on the same scale of milliseconds. In each, one row shows what Python does: loading a batch, calling the step, waiting for the loss; another row shows when the compiled program runs. Above, with waiting, the program stands still while a batch is loaded. Below, without waiting, the program runs while the next batch is loaded."
def span(recorded):  # start and end in microseconds
    events = [event for part in recorded for event in part]
    return min(event["ts"] for event in events), max(event["ts"] + event["dur"] for event in events)


looks = {name: {"color": plots.OTHERS[i], "hatch": plots.HATCHES[i], "ec": "white"} for i, name in enumerate(PYTHON)}
figure, axes = plt.subplots(2, 1, figsize=(plots.WIDTH, 3.2), sharex=True)
for axis, wait in zip(axes, (True, False), strict=True):
    best = min((record(wait) for _ in range(8)), key=lambda recorded: np.ptp(span(recorded)))  # the least disturbed
    first, end = span(best)
    for row, events in zip((1, 0), best, strict=True):
        for event in events:
            bar = ((event["ts"] - first) / 1000, event["dur"] / 1000)
            axis.broken_barh([bar], (row - 0.35, 0.7), **looks.get(event["name"], {"color": plots.JAX}))
    axis.set(yticks=[0, 1], yticklabels=["program", "Python"])
    axis.set_title("waits for each loss" if wait else "never reads a loss", loc="left")
    print(f"{'waiting' if wait else 'not waiting':12} {(end - first) / 6 / 1000:5.1f} ms a step")
axes[1].set_xlabel("ms")
patches = [plt.Rectangle((0, 0), 1, 1, **look) for look in looks.values()]
figure.legend(patches, PYTHON, loc="outside upper right", ncols=3)
plt.show()

# %% [markdown]
# Upper timeline: while Python loads, the program has nothing to do, and the reverse. Lower timeline: Python runs
# ahead and loads the next batch while the program still works on the last. On a GPU this decides whether it is busy.
# So keep losses as arrays, and read them every hundred steps.
#
# ## Summary
#
# - `jax.debug.print` prints values, `jax.debug.breakpoint` stops, `jax.disable_jit` turns the program back into
#   Python.
# - `jax.checking_leaks`, `jax.debug_nans` and `jax.debug_key_reuse` find; returning values, a second `where` and
#   `split` mend.
# - `checkify` makes checks a result of the program, and names what broke, in the backward pass too.
# - A profile says which operation, which scope, and whether Python or the program is waiting.
#
# ## Further reading
#
# - [Debugging runtime values](https://docs.jax.dev/en/latest/debugging/index.html): print, breakpoint and checkify,
#   by the authors.
# - [The checkify transformation](https://docs.jax.dev/en/latest/debugging/checkify_guide.html): what it can check,
#   and its limits.
# - [JAX's FAQ](https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where): the double `where`.
# - [Profiling computation](https://docs.jax.dev/en/latest/profiling.html): XProf, Perfetto, and profiles of a GPU or
#   TPU.
#
# Exercises: [your turn](exercises/08c_debugging.ipynb).
#
# Next: [09 · Transformations](09_transformations.ipynb).
