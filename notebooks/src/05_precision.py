# %% [markdown]
# # 05 · Precision
#
# **How many bits does a training step need, and who decides?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - say what bfloat16 and float16 can hold, and which updates get lost in them,
# - train in bfloat16 as under `torch.autocast`, and say which arrays must stay float32,
# - measure what 16 bits save on your machine, in bytes and in milliseconds,
# - scale a float16 loss as `GradScaler` does, and read an underflow and an overflow from numbers.

# %%
import re

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import nnx
from flax.training.dynamic_scale import DynamicScale
from sklearn.datasets import load_digits

from course import batching, plots, porting, timing
from course.failures import fails

# %%
SEED, BATCH, EPOCHS, RATE = 0, 64, 8, 4e-3

torch.set_num_threads(1)
plots.use()
jax.config.update("jax_pprint_use_color", False)  # plain text, wherever you read this

pixels, digits = load_digits(return_X_y=True)  # 1797 pictures of 8 x 8 pixels, ten classes
x, y = (pixels / 16).astype(np.float32), digits.astype(np.int32)
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y).long()
batches = batching.epoch_permutations(1024, EPOCHS, SEED).reshape(-1, BATCH)  # (EPOCHS * 16, BATCH) row numbers

# %% [markdown]
# ## Three types of numbers
#
# Beside its sign a float32 spends 8 bits on the exponent and 23 on the digits. Two types of 16 bits divide them
# differently: bfloat16 ("brain float") takes 8 and 7, float16 5 and 10. This is 0.001 in each of them: the sign,
# the exponent on dark ground, the digits.

# %% alt="The number 0.001 as three rows of bits: 32 squares for float32, 16 for bfloat16, 16 for float16. The first square of a row is the sign; then come the exponent's squares, dark: eight, eight and five. The 16 squares of bfloat16 are the same as the first 16 of float32; those of float16 are others."
d = plots.Diagram(height=2.1)
rows = {}
for place, name in zip((1.75, 1.05, 0.35), ("float32", "bfloat16", "float16"), strict=True):
    kind, value = jnp.finfo(name), np.asarray(jnp.asarray(0.001, name))
    bits = np.binary_repr(int(value.view(f"uint{kind.bits}")), kind.bits)
    exponent = [0 < i <= kind.nexp for i in range(kind.bits)]
    d.cells(1.2 + 0.1 * kind.bits, place, [int(bit) for bit in bits], side="jax", size=0.2, marked=exponent)
    d.note(1.1, place, name, align="right")
    rows[name] = {
        "0.001 is": f"{float(value):.9f}", "largest": f"{float(kind.max):.1e}",
        "smallest above 0": f"{float(kind.smallest_subnormal):.1e}", "next after 1": f"1 + {float(kind.eps):.1e}",
    }  # fmt: skip
plt.show()
pd.DataFrame(rows).T

# %% [markdown]
# bfloat16 is a float32 without its second half: the same reach, with two or three decimal digits. float16 has three
# or four digits, and ends at 65,504 above and 6e-8 below.
#
# What does that do to training? An optimizer does little else than add small numbers to larger ones.
#
# **Predict.** Start at 1 and add 0.001, a thousand times, with every sum kept in the type. Where does each one end,
# in PyTorch and in JAX?

# %%
rows = {}
for name in ("float32", "bfloat16", "float16"):
    torch_kind = getattr(torch, name)
    ours, theirs = jnp.ones((), name), torch.ones((), dtype=torch_kind)
    for _ in range(1000):
        ours, theirs = ours + jnp.asarray(0.001, name), theirs + torch.tensor(0.001, dtype=torch_kind)
    rows[name] = theirs.item(), float(ours)
pd.DataFrame(rows, index=["torch ends at", "JAX ends at"]).T

# %% [markdown]
# The types are the same on both sides, and so are the results. In bfloat16 the next number after 1 is 1.0078: 1.001 is
# rounded back to 1, a thousand times. float16 comes near because its steps of 0.00098 happen to be almost 0.001.
#
# ## A step in mixed precision
#
# So the weights stay in float32, and the products, where the time goes, are calculated in 16 bits: that is mixed
# precision. The picture is its plan, for PyTorch and JAX alike.
#
# **Predict.** In float32 a weight, its gradient and Adam's two moments take 16 bytes. How many does a weight take in
# mixed precision?

# %% alt="A diagram of one training step. Tall boxes are float32: weights, loss, gradients and Adam's moments. Half as tall boxes are bfloat16: the copy of the weights, the input and the logits. Arrows run from the weights over a cast to the copy, through the layers to the logits, over a cast to the loss, and back over the gradients to the optimizer, which adds to the float32 weights."
d = plots.Diagram(height=2.8)
tall, flat = {"side": "jax", "height": 0.66}, {"height": 0.36}
weights = d.array(0.85, 2.3, "weights\nfloat32", **tall)
copy = d.array(2.75, 2.3, "copy, bfloat16", **flat)
given = d.array(3.0, 1.5, "x, bfloat16", **flat)
layers = d.function(4.25, 2.3, "layers", width=0.8)
logits = d.array(5.65, 2.3, "logits, bfloat16", width=1.25, **flat)
loss = d.array(7.4, 2.3, "loss\nfloat32", width=0.9, **tall)
grads = d.array(4.6, 0.5, "gradients\nfloat32", **tall)
rule = d.function(2.6, 0.5, "optimizer", width=1.0, height=0.5)
moments = d.array(0.85, 0.5, "moments\nfloat32", **tall)
for start, end in ((copy, layers), (layers, logits), (given, layers), (grads, rule), (moments, rule)):
    d.arrow(start, end)
for start, end in ((weights, copy), (logits, loss)):
    d.arrow(start, end, "cast")
d.arrow(rule, weights), d.arrow(loss, grads, side="jax")
d.note(1.1, 1.35, "+ update")
d.note(6.75, 1.2, "jax.grad: back through\nthe same casts", side="jax")
d.note(7.2, 0.4, "tall: 32 bits\nflat: 16 bits")
plt.show()
full, half = (jnp.dtype(kind).itemsize for kind in (jnp.float32, jnp.bfloat16))
print(f"bytes for each weight: {4 * full} in float32, {4 * full + half} in mixed precision")

# %% [markdown]
# More, not less: the copy comes on top, while the step needs it. What can get smaller is what arises in the layers,
# between the two casts: activations, of which a large batch has many more than there are weights.
#
# In JAX this plan is a program that you can read. `jax.make_jaxpr` prints what a function does to arrays, an operation
# a line ([08](08_tracing.ipynb)); `f32[10]` is ten numbers in float32. Here is the upper row for one dense layer.

# %%
layer = nnx.eval_shape(lambda: nnx.Linear(64, 10, dtype=jnp.bfloat16, rngs=nnx.Rngs(SEED)))  # types, no numbers
print(jax.make_jaxpr(lambda layer, x: layer(x).astype(jnp.float32))(layer, x[:BATCH]))
slopes = jax.eval_shape(nnx.grad(lambda layer: layer(x).astype(jnp.float32).sum()), layer)
print("gradients:", {name: str(slope.dtype) for name, slope in slopes.items()})


# %% [markdown]
# `convert_element_type` is the cast. Input, kernel and bias go down to bfloat16, and the logits up to float32. The
# gradient of a cast is a cast back, so gradients are float32 by themselves.
#
# ## Who decides?
#
# `torch.autocast` writes the casts, operation by operation: products in bfloat16, losses in float32. In JAX nobody
# does, but you. (The device has a word too: what it may do to the operands of float32 products stands in
# [00](00_start_here.ipynb).)
#
# **Predict.** Someone casts only the input to bfloat16, without autocast. In which type does torch's dense layer
# compute, and in which flax's?

# %%
def dense(**options):
    return nnx.eval_shape(lambda: nnx.Linear(64, 10, **options, rngs=nnx.Rngs(SEED)))


torch.manual_seed(SEED)
linear = torch.nn.Linear(64, 10)
with fails(RuntimeError):
    linear(x_torch.bfloat16())
print("flax: logits in", jax.eval_shape(lambda layer, x: layer(x), dense(), x.astype(jnp.bfloat16)).dtype)

# %% [markdown]
# torch refuses, and names both: `mat1` is the input, `mat2` the weights. flax *promotes*: a layer computes in the type
# that holds both, and for bfloat16 and float32 that is float32. No error, and nothing gained.
#
# In flax you say the type for each layer, in NNX and Linen with the same two words: `dtype` is what it computes in,
# `param_dtype` what it stores. (torch's `dtype=` of a layer is flax's `param_dtype`.) Beside autocast:

# %% tags=["trap:layer-dtype"]
with torch.autocast("cpu", dtype=torch.bfloat16):
    torch_logits = linear(x_torch)
rows = {"torch.autocast": [str(array.dtype).removeprefix("torch.") for array in (linear.weight, torch_logits)]}
for word in ("param_dtype", "dtype"):
    layer = dense(**{word: jnp.bfloat16})
    logits = jax.eval_shape(lambda layer: layer(x), layer)
    rows[f"flax, {word}=bfloat16"] = [str(array.dtype) for array in (layer.kernel, logits)]
pd.DataFrame(rows, index=["weights", "logits"]).T


# %% [markdown]
# `dtype=jnp.bfloat16` is what autocast does for products. `param_dtype` alone is the worst of both: the float32 input
# promotes the layer, so that nothing is gained, and the weights have two or three digits, so that small updates are
# lost, as you will see.
#
# Then comes the loss. Here the logits are bfloat16 on both sides.
#
# **Predict.** In which type is the loss, under autocast and in Optax? A loss of 2.343: what does bfloat16 make of it?

# %% tags=["trap:loss-dtype"]
def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


with torch.autocast("cpu", dtype=torch.bfloat16):
    theirs = torch.nn.functional.cross_entropy(torch_logits, y_torch).detach()
ours = jax.eval_shape(cross_entropy, logits, y)
mended = jax.eval_shape(lambda logits: cross_entropy(logits.astype(jnp.float32), y), logits)
print(f"logits in {logits.dtype}, loss under autocast in {str(theirs.dtype).removeprefix('torch.')}")
print(f"loss in Optax in {ours.dtype}, of logits.astype(float32) in {mended.dtype}")

loss, gap = float(jnp.asarray(theirs.item(), ours.dtype)), 2 * float(jnp.finfo(ours.dtype).eps)  # between 2 and 4
print(f"{theirs:.3f} becomes {loss:.3f}; its neighbours are {loss - gap:.3f} and {loss + gap:.3f}")


# %% [markdown]
# Nothing in JAX knows that a loss deserves float32. So the rule has two parts: `dtype=jnp.bfloat16` in every layer, and
# one cast of the logits, `logits.astype(jnp.float32)`, before the loss.
#
# ## The same run, four times
#
# A network with BatchNorm, in both frameworks. NNX's takes the `dtype`, and hands it to every layer.

# %%
class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.norm = torch.nn.Linear(64, 128), torch.nn.BatchNorm1d(128)
        self.out = torch.nn.Linear(128, 10)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.hidden(x))))


class Net(nnx.Module):
    def __init__(self, dtype=None, *, rngs):
        self.hidden = nnx.Linear(64, 128, dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(128, momentum=0.9, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(128, 10, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.norm(self.hidden(x))))


# %% [markdown]
# The training step is the usual one plus the cast of the logits. torch's is the usual one plus `autocast`, around the
# forward pass and the loss only.

# %%
@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: cross_entropy(model(x).astype(jnp.float32), y))(model)
    optimizer.update(model, grads)
    return loss


def torch_run(dtype=None):
    torch.manual_seed(SEED)
    model, losses = TorchNet(), []
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    for chosen in batches:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = torch.nn.functional.cross_entropy(model(x_torch[chosen]), y_torch[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def jax_run(model):
    optimizer = nnx.Optimizer(model, optax.sgd(RATE), wrt=nnx.Param)
    losses = [train_step(model, optimizer, x[chosen], y[chosen]) for chosen in batches]
    return np.array(losses)  # waits once, at the end


# %% [markdown]
# Four runs: float32, `torch.autocast`, flax with `dtype=bfloat16`, and flax with weights that are themselves rounded
# to bfloat16, which is what `param_dtype=bfloat16`, or torch's `model.bfloat16()`, makes them. `porting` hands torch's
# initial weights to JAX, and the batches are the same too.
#
# **Predict.** Which of the four curves leaves the others, how early, and to which side?

# %% alt="Four loss curves over eight epochs. Float32, bfloat16 in JAX and autocast in PyTorch lie on one another and fall from 2.3 to 1.5. The run whose weights are bfloat16 falls more slowly from the first epoch on and ends at 1.7."
def same_start(dtype=None):
    torch.manual_seed(SEED)
    return porting.torch_to_nnx(TorchNet(), nnx.eval_shape(lambda: Net(dtype, rngs=nnx.Rngs(SEED))))


rounded = same_start(jnp.bfloat16)
nnx.update(rounded, jax.tree.map(lambda p: p.astype(jnp.bfloat16), nnx.state(rounded, nnx.Param)))
runs = {
    "JAX float32": jax_run(same_start()),
    "torch.autocast bfloat16": torch_run(torch.bfloat16),
    "JAX dtype=bfloat16": jax_run(same_start(jnp.bfloat16)),
    "JAX weights in bfloat16": jax_run(rounded),
}
curves = pd.DataFrame(runs).groupby(lambda step: 1 + step // 16).mean()  # 16 steps an epoch
figure, axis = plots.panels(1, height=3.2)
drawn = plots.lines(axis, curves.index, curves, xlabel="epoch", ylabel="training loss")
drawn[0].set(linewidth=8, alpha=0.35)  # three curves in one place: a band,
drawn[2].set(linestyle="", markersize=11, markerfacecolor="none")  # a dashed line, and open squares
axis.legend()
plt.show()
print(curves.iloc[[0, 4, -1]].round(2).to_string())
same = curves.iloc[:, :3]
assert (same.max(axis=1) - same.min(axis=1)).max() < 5e-3
print("float32, autocast and dtype=bfloat16: within 0.005 of each other in every epoch  ok")


# %% [markdown]
# Three curves are one. What mixed precision rounds away averages out; what the fourth run rounds away is the update
# itself, and that is a bias: a step below 0.2 % to 0.4 % of a weight is lost as a whole. Nothing warns. A small
# learning rate, or the end of a decaying schedule, makes it worse.
#
# ## What is gained?
#
# First the memory. The forward pass keeps activations for the backward pass. torch shows them to a hook; each array
# counts once, however often it is kept.

# %%
def torch_loss(model, autocast):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        return torch.nn.functional.cross_entropy(model(x_torch), y_torch)


def kept_by_torch(autocast):
    seen = {}
    keep = lambda tensor: seen.setdefault(tensor.data_ptr(), tensor)  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        torch_loss(TorchNet(), autocast)
    return sum(tensor.nbytes for tensor in seen.values()) / 1e6


full, half = kept_by_torch(False), kept_by_torch(True)
print(f"torch keeps {full:.2f} MB in float32, {half:.2f} MB under autocast: {half / full:.0%}")


# %% [markdown]
# In JAX the function that `jax.vjp` returns, the backward pass, carries what was kept: it is a tree, and these are its
# leaves. With `eval_shape` around it, nothing is calculated. (The loss must be a pure function of the weights here;
# `nnx.split` and `nnx.merge` make it one, as in [03](03_state_and_trees.ipynb).)
#
# **Predict.** The same network, the same 1797 digits. What part of the bytes remains in JAX, and what is it that does
# not shrink?

# %%
def pure_loss(dtype):
    graphdef, params, rest = nnx.split(same_start(dtype), nnx.Param, ...)

    def loss_fn(params):
        model = nnx.merge(graphdef, params, rest, copy=True)
        return cross_entropy(model(x).astype(jnp.float32), y)

    return loss_fn, params


def kept_by_jax(dtype):
    loss_fn, params = pure_loss(dtype)
    kept = jax.tree.leaves(jax.eval_shape(lambda params: jax.vjp(loss_fn, params)[1], params))
    sizes = pd.Series([a.size * a.dtype.itemsize / 1e6 for a in kept], [str(a.dtype) for a in kept])
    return sizes.groupby(level=0).sum()


table = pd.DataFrame({"float32": kept_by_jax(None), "dtype=bfloat16": kept_by_jax(jnp.bfloat16)}).fillna(0)
table.loc["MB together"] = table.sum()
table.round(2)


# %% [markdown]
# Three quarters, where autocast kept half. BatchNorm is why: flax calculates it in float32 whatever its `dtype`, and
# keeps arrays of that type; its result is bfloat16. The `bool` is ReLU's mask. (That JAX's list is the longer one says
# little: it is the plan before `jit`, which fuses, and calculates again what is cheap.)
#
# Now the time, and the memory of the compiled program.
#
# **Predict.** On your machine, is a step faster in bfloat16: in PyTorch, and in JAX?

# %% tags=["nbval-ignore-output"] volatile="milliseconds, and what the compiler makes of the step"
def fastest(function, *args):  # of 50 calls: other programs only ever make it slower
    return f"{1000 * min(timing.seconds(function, *args) for _ in range(50)):.1f}"


rows = {}
for name, dtype in {"float32": None, "bfloat16": jnp.bfloat16}.items():
    loss_fn, params = pure_loss(dtype)
    step = jax.jit(jax.value_and_grad(loss_fn)).lower(params).compile()
    model, autocast = TorchNet(), dtype is not None
    rows[name] = {
        "torch: ms": fastest(lambda model=model, autocast=autocast: torch_loss(model, autocast).backward()),
        "JAX: ms": fastest(step, params),
        "JAX: MB while it runs": f"{step.memory_analysis().temp_size_in_bytes / 1e6:.1f}",
        "JAX: products in": " ".join(sorted(set(re.findall(r"= (\w+)\[\S+ dot\(", step.as_text())))),
    }
print(timing.environment())
pd.DataFrame(rows)


# %% [markdown]
# Measured where this notebook was built, on a CPU: torch gains, and JAX loses. The last row says why: XLA compiled the
# products for float32 here, with conversions around them. No memory is saved either. Speed comes where the hardware has
# units for the type *and* the compiler uses them: tensor cores, TPUs. (There the last row may be empty, since products
# are calls into a library.) So time your own step before you believe in it ([10](10_jit_speed.ipynb)).
#
# ## float16: scale the loss
#
# Where the hardware has bfloat16, use it and skip `GradScaler`: it has float32's range. Older GPUs, the T4 of free
# hosted notebooks among them, have tensor cores for float16 and none for bfloat16. And float16 ends at 6e-8 below.
# Here the true gradient is 2.4e-8.
#
# **Predict.** The loss is float32 and right, and the weight is float32. Which gradients arrive, with the product in
# float16, with the loss scaled by 1024, with the loss scaled by 2³², and in bfloat16?

# %%
def small_loss(weight, dtype):
    return (weight.astype(dtype) * jnp.asarray(1e-4, dtype)).astype(jnp.float32) / 4096  # slope 1e-4 / 4096


def torch_slope(scale, dtype):
    weight = torch.ones((), requires_grad=True)
    (scale * (weight.to(dtype) * torch.tensor(1e-4, dtype=dtype)).float() / 4096).backward()
    return weight.grad.item() / scale


rows = {}
for name, scale in ("float16", 1.0), ("float16", 1024.0), ("float16", 2.0**32), ("bfloat16", 1.0):
    slope = jax.grad(lambda weight, scale=scale, name=name: scale * small_loss(weight, name))(jnp.ones(())) / scale
    rows[f"{name}, scale {scale:.0f}"] = torch_slope(scale, getattr(torch, name)), float(slope)
print(f"the loss with float16 inside: {small_loss(jnp.ones(()), 'float16'):.2e}")
pd.DataFrame(rows, index=["torch: gradient", "JAX: gradient"]).T.map("{:.2e}".format)


# %% [markdown]
# Unscaled the gradient underflows to 0: the weight stops learning, and the loss does not tell. Scaled by 1024 on the
# way out and divided in float32 afterwards, it is right. Too large a scale overflows: the gradient is `inf`, the next
# step makes the weights infinite, and the next loss is `nan`. bfloat16 needs none of this.
#
# So the scale should be as large as goes, and nobody knows how large that is. It is searched for: at a gradient that
# is not finite, skip the step and halve; after some good steps, double. In torch that is `torch.amp.GradScaler`. It
# starts here from 2²², too large on purpose.

# %%
def torch_scaled(interval, steps=12):
    torch.manual_seed(SEED)
    model, scaler = TorchNet(), torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=interval)
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    for chosen in batches[:steps]:
        with torch.autocast("cpu", dtype=torch.float16):
            loss = torch.nn.functional.cross_entropy(model(x_torch[chosen]), y_torch[chosen])
        yield np.log2(scaler.get_scale()), loss.item()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer), scaler.update()


runs = {"torch, 4": np.array(list(torch_scaled(4)))}  # (12 steps, scale and loss)
print("log2 of the scale:", *runs["torch, 4"][:, 0].astype(int))

# %% [markdown]
# The first four steps are lost to the search: they overflow, and each halves the scale. At 2¹⁸ four steps are good
# (`growth_interval`), the scale is doubled, overflows at once and is halved again. So it goes on, step for step.
#
# In flax this is `DynamicScale`, with one difference: it hands you a flag, `finite`, and skipping is yours.
# `jnp.where(finite, new, old)` over weights *and* optimizer state does it inside `jit`. The step returns both outcomes,
# so that you can see what happens to those who forget.
#
# `DynamicScale` differentiates a function of a tree, so the model is split again: trained weights, and the rest, which
# comes back as the second output (`has_aux`).

# %%
sgd = optax.sgd(RATE)
graphdef, start, rest = nnx.split(same_start(jnp.float16), nnx.Param, ...)


@jax.jit
def scaled_step(scaler, params, opt_state, rest, x, y):
    def loss_fn(params):
        model = nnx.merge(graphdef, params, rest, copy=True)  # boxes of its own to write averages into
        loss = cross_entropy(model(x).astype(jnp.float32), y)
        return loss, nnx.state(model, nnx.Not(nnx.Param))

    scaler, finite, (loss, rest), grads = scaler.value_and_grad(loss_fn, has_aux=True)(params)
    updates, changed = sgd.update(grads, opt_state, params)
    new, old = (optax.apply_updates(params, updates), changed), (params, opt_state)
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
    return scaler, finite, loss, rest, kept, new


# %% [markdown]
# **Predict.** Three runs: flax with torch's `growth_interval` of 4, with 3, and with 3 but taking every step, finite or
# not. Which of them walks through the same scales as torch, and what becomes of the last one?

# %% tags=["trap:loss-scale"]
def jax_scaled(interval, skip=True):
    counts = {"scale": jnp.float32(2**22), "fin_steps": jnp.int32(0)}  # Python numbers here would compile twice
    scaler, kept, others = DynamicScale(**counts, growth_interval=interval), (start, sgd.init(start)), rest
    for chosen in batches[:12]:
        scale = np.log2(float(scaler.scale))
        scaler, _, loss, others, skipping, taken = scaled_step(scaler, *kept, others, x[chosen], y[chosen])
        kept = skipping if skip else taken
        yield scale, float(loss)


for name, how in {"flax, 4": (4,), "flax, 3": (3,), "no skip": (3, False)}.items():
    runs[name] = np.array(list(jax_scaled(*how)))
steps = range(1, 13)
scales = pd.DataFrame({name: run[:, 0].astype(int) for name, run in runs.items()}, steps)
losses = pd.DataFrame({name: run[:, 1].round(2) for name, run in runs.items()}, steps)
pd.concat([scales, losses], axis=1, keys=["log2 of the scale", "loss"])

# %% [markdown]
# torch doubles after four good steps, flax after five if it is told 4: give it torch's number less one. The first three
# runs stay together, at nearly the same losses.
#
# The last run takes every step. One that overflowed was enough, the first: from the second on the loss is `nan`, and
# the scale falls with every step, because it cannot help weights that are lost. Read such a log backwards to the first
# `nan`, and look at the step *before* it; [08c](08c_debugging.ipynb) finds the operation.
#
# Two more: flax's gradients come divided, so clipping needs no `unscale_`. And the scale is state: it belongs in the
# checkpoint, of which [05b](05b_checkpoints.ipynb) tells.
#
# ## Summary
#
# - bfloat16: `dtype=jnp.bfloat16` in the layers, logits cast to float32, weights and optimizer state left in float32.
#   Nothing is scaled.
# - autocast decides for each operation. In JAX you do, and what you don't say is promoted to float32, or stays 16 bits,
#   without a word.
# - Mixed precision adds a copy of the weights and shrinks activations. What it saves, in bytes and milliseconds,
#   depends on layers, compiler and device: measure your own step.
# - float16: scale the loss with `DynamicScale`, skip the step yourself where `finite` is False, give it torch's
#   `growth_interval` less one, and save it.
#
# ## Further reading
#
# - [Mixed Precision Training](https://arxiv.org/abs/1710.03740): float32 master weights and loss scaling, where both
#   come from.
# - [A Study of BFLOAT16 for Deep Learning Training](https://arxiv.org/abs/1905.12322): the same hyperparameters,
#   without a scaled loss, from vision to language.
# - [torch.amp](https://docs.pytorch.org/docs/stable/amp.html): which operations autocast runs in which type, and
#   `GradScaler`.
# - [Type promotion semantics](https://docs.jax.dev/en/latest/type_promotion.html): which type two types make, and how
#   to have a mixture refused.
# - [flax.training.dynamic_scale](https://github.com/google/flax/blob/main/flax/training/dynamic_scale.py): the whole
#   of `DynamicScale`, one page of code.
#
# Exercises: [your turn](exercises/05_precision.ipynb).
#
# Next: [05b · Checkpoints](05b_checkpoints.ipynb).
