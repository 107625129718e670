# %% [markdown]
# # 09b · Custom rules, memory, and NNX's transforms
#
# **What if the derivative that JAX finds is not the one you want?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - state a derivative yourself, with several inputs, static settings and saved values, as in `autograd.Function`,
# - read what a wrong rule says, and find the slip that says nothing,
# - trade time for memory with `jax.checkpoint`, and measure whether you got it,
# - choose between `jax.grad` and `nnx.grad`, and say which state a `jax.*` transform loses.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import torch
from flax import errors, nnx
from jax.test_util import check_grads
from torch import func
from torch.utils.checkpoint import checkpoint

from course import plots
from course.failures import fails

# %%
SEED, WIDTH, LAYERS = 0, 64, 16
plots.use()
np.set_printoptions(precision=4, suppress=True)
jax.config.update("jax_enable_x64", True)  # float64 on both sides: equal means a gap below 1e-12
torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(SEED)


def beside(what, ours, theirs):
    ours, theirs = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(side)]) for side in (ours, theirs))
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() < 1e-12
    print(f"{what}: gap below 1e-12\n  JAX   {ours[:6].round(4) + 0.0}\n  torch {theirs[:6].round(4) + 0.0}")


# %% [markdown]
# ## Kinks: a slope is a choice
#
# JAX differentiates operation by operation, each by a rule that somebody wrote. Where a function has a kink, the rule
# had to choose.
#
# **Predict.** `jnp.maximum(x, 0)` and `jax.nn.relu(x)` have equal values everywhere. Which slope has each at 0, and
# which of them is PyTorch's ReLU?

# %% tags=["trap:maximum-at-zero"]
kinks = {
    "maximum(x, 0) at 0": (lambda x: jnp.maximum(x, 0), torch.relu, [0.0]),
    "nn.relu at 0": (jax.nn.relu, torch.relu, [0.0]),
    "clip at its bounds": (lambda x: jnp.clip(x, 0, 1), lambda x: x.clamp(0, 1), [0.0, 1.0]),
    "abs at 0": (jnp.abs, torch.abs, [0.0]),
    "norm at 0": (jnp.linalg.norm, torch.linalg.norm, [0.0, 0.0]),
    "std of equal values": (jnp.std, lambda x: x.std(correction=0), [1.0, 1.0]),
    "|z|² at 1+2j": (lambda z: jnp.abs(z) ** 2, lambda z: z.abs() ** 2, [1.0 + 2.0j]),
}
for what, (ours, theirs, at) in kinks.items():
    in_jax = np.array(jax.grad(lambda x, f=ours: f(x).sum())(jnp.array(at)))
    in_torch = func.grad(lambda x, f=theirs: f(x).sum())(torch.tensor(at)).numpy()
    assert np.allclose(in_jax, in_torch) == (what == "nn.relu at 0")
    print(f"{what:20} JAX {in_jax!s:12} torch {in_torch}")


# %% [markdown]
# `maximum` and `clip` share the gradient between equal arguments; `jax.nn.relu` has PyTorch's 0. A complex gradient is
# the conjugate of PyTorch's: descend along `jnp.conj(grad)`. The rows with `nan` are the dangerous ones. A norm of
# zeros, or a standard deviation of equal values, spoils the whole gradient, since a NaN times anything is a NaN.
#
# ## `custom_jvp`: a forward rule
#
# `jax.custom_jvp` takes the function as it is and a rule of yours: given `primals` and `tangents`, return the value and
# its directional derivative. That derivative is linear in the tangents, so JAX can turn it around (*transpose* it) and
# has the backward pass, too. Here is a norm with PyTorch's choice:

# %%
@jax.custom_jvp
def length(x):
    return jnp.linalg.norm(x)


@length.defjvp
def length_jvp(primals, tangents):
    (x,), (v,) = primals, tangents
    out = length(x)
    safe = jnp.where(out > 0, out, 1.0)  # the branch not taken must not divide by zero either
    return out, jnp.where(out > 0, x @ v / safe, 0.0)


points = np.array([[0.0, 0.0], [3.0, 4.0]])
ours = jax.vmap(jax.value_and_grad(length))(points)
slopes, values = func.vmap(func.grad_and_value(torch.linalg.norm))(torch.from_numpy(points))
beside("length and its gradient", ours, (values, slopes))


# %% [markdown]
# Several inputs mean several tangents, and the rule adds up their shares. `defjvps` does the adding: one small
# function for each input, `None` for zero.
#
# The example is softplus with a sharpness `beta` that is trained too. Written down as in the formula it fails where
# `beta · x` is large, in its value and in its gradients:

# %%
def naive(x, beta):
    return jnp.log1p(jnp.exp(beta * x)) / beta


print("value", naive(500.0, 2.0), " gradients", *jax.grad(naive, argnums=(0, 1))(500.0, 2.0))


# %%
@jax.custom_jvp
def softplus(x, beta):
    return (jnp.maximum(beta * x, 0) + jnp.log1p(jnp.exp(-jnp.abs(beta * x)))) / beta


softplus.defjvps(
    lambda v, out, x, beta: jax.nn.sigmoid(beta * x) * v,
    lambda v, out, x, beta: (x * jax.nn.sigmoid(beta * x) - out) / beta * v,
)


def softplus_torch(x, beta):
    return torch.logaddexp(torch.zeros_like(x), beta * x) / beta


x, beta = np.array([-500.0, 0.0, 0.3, 500.0]), 2.0
ours = [jax.vmap(jax.grad(softplus, argnums=argument), in_axes=(0, None))(x, beta) for argument in (0, 1)]
leaves = torch.from_numpy(x).requires_grad_(), torch.full((4,), beta, requires_grad=True)
softplus_torch(*leaves).sum().backward()
beside("by x, four times", ours[0], leaves[0].grad)
beside("by beta, four times", ours[1], leaves[1].grad)

# %% [markdown]
# JAX never compares a rule of yours with the function: whatever it returns is the derivative. So check it, against
# finite differences, forward and backward, with `check_grads`. Below it looks at the right rule, and then at one that
# forgot `beta`.

# %%
arguments = (np.array([0.3, 1.0]), 2.0)
check_grads(softplus, arguments, order=2, modes=("fwd", "rev"))
print("softplus: first and second derivatives  ok")


@jax.custom_jvp
def forgetful(x, beta):
    return softplus(x, beta)


forgetful.defjvps(lambda v, out, x, beta: jax.nn.sigmoid(x) * v, None)
with fails(AssertionError, lines=7):
    check_grads(forgetful, arguments, order=1, modes=("fwd",))


# %% [markdown]
# `ACTUAL` is the rule, `DESIRED` the finite difference. The two differ in the first digit or two: this is no rounding.
#
# ## `custom_vjp`: a backward rule
#
# Quantised training rounds weights to a few levels. The slope of rounding is zero:

# %%
def rounded(x, scale, bits):
    top = 2 ** (bits - 1) - 1  # 3 bits: levels -3 to 3
    return scale * jnp.clip(jnp.round(x / scale), -top, top)


weights = np.array([-1.0, -0.5, 0.13, 0.24, 0.51, 0.9])
print("rounded  ", rounded(weights, 0.2, 3))
print("gradient ", jax.grad(lambda weights: (rounded(weights, 0.2, 3) ** 2).sum())(weights))


# %% [markdown]
# Nothing would ever train. The *straight-through estimator* passes the gradient on as if nothing had been rounded, but
# not for weights out of range. And the scale gets a gradient of its own (Esser et al., 2020). No function has this
# derivative, so it is stated as a backward rule: `autograd.Function`'s two halves.

# %%
@partial(jax.custom_vjp, nondiff_argnums=(2,))
def quantize(x, scale, bits):
    return rounded(x, scale, bits)


def quantize_fwd(x, scale, bits):  # the arguments as they are
    return rounded(x, scale, bits), x / scale  # the value, and what backward needs


def quantize_bwd(bits, ratio, g):  # static settings first, what was saved, the cotangent
    top = 2 ** (bits - 1) - 1
    inside = jnp.abs(ratio) <= top
    by_scale = jnp.where(inside, jnp.round(ratio) - ratio, top * jnp.sign(ratio))
    return g * inside, (g * by_scale).sum()  # one for each argument that is not static


quantize.defvjp(quantize_fwd, quantize_bwd)


# %% [markdown]
# `nondiff_argnums` names what is a setting and no array: it can steer Python, as in `2 ** (bits - 1)`. Beside it
# PyTorch, where saved tensors and settings hang on `ctx`, and a setting's gradient is `None`:

# %%
class Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, bits):
        ctx.top, ratio = 2 ** (bits - 1) - 1, x / scale
        ctx.save_for_backward(ratio)
        return scale * ratio.round().clamp(-ctx.top, ctx.top)

    @staticmethod
    def backward(ctx, g):
        (ratio,) = ctx.saved_tensors
        inside = ratio.abs() <= ctx.top
        by_scale = torch.where(inside, ratio.round() - ratio, ctx.top * ratio.sign())
        return g * inside, (g * by_scale).sum(), None


leaves = torch.tensor(weights, requires_grad=True), torch.tensor(0.2, requires_grad=True)
(Quantize.apply(*leaves, 3) ** 2).sum().backward()
ours = jax.grad(lambda weights, scale: (quantize(weights, scale, 3) ** 2).sum(), argnums=(0, 1))(weights, 0.2)
beside("by the weights", ours[0], leaves[0].grad)
beside("by the scale", ours[1], leaves[1].grad)

# %% [markdown]
# **Predict.** We map both over rows, `jax.vmap` here and `torch.func.vmap` there. Neither has a rule for batches. What
# happens?

# %%
table = np.stack([weights, 2 * weights])
print(jax.vmap(lambda row: quantize(row, 0.2, 3))(table))
with fails(RuntimeError):
    func.vmap(lambda row: Quantize.apply(row, torch.tensor(0.2), 3))(torch.from_numpy(table))


# %% [markdown]
# JAX maps the body and, under `grad`, your two halves as well: they are made of operations that it knows. PyTorch asks
# for a `setup_context` (and for `generate_vmap_rule = True`), because `ctx` is filled by a side effect.
#
# Four slips. Three of them speak:

# %%
def attempt(bwd, **options):
    scaled = jax.custom_vjp(lambda x, scale: x * scale, **options)
    scaled.defvjp(lambda x, scale: (x * scale, x), bwd)
    return jax.grad(lambda x: scaled(x, 10.0).sum())(np.array([1.0, 2.0, 3.0]))


with fails(TypeError):
    jax.jvp(lambda x: quantize(x, 0.2, 3), (weights,), (weights,))
with fails(TypeError):
    attempt(lambda x, g: (10.0 * g,))
with fails(ValueError):
    attempt(lambda x, g: (10.0 * g, g * x))

# %% [markdown]
# - *can't apply forward-mode autodiff (jvp) to a custom_vjp function*: a backward rule can't be run forwards. `jacfwd`
#   says the same; use `jacrev`, or write a `custom_jvp`. (The `jvp` of a `grad` does run: it differentiates your two
#   halves as they stand, here through the rounding, and returns zeros.)
# - *must produce a tuple of length equal to the number of arguments*: one cotangent is missing. PyTorch says *returned
#   an incorrect number of gradients*.
# - *the shapes do not match*: a cotangent has the shape of its argument, so a broadcast argument needs a sum.
#
# The fourth slip is silent. With `scale` as a static setting the gradient is `scale` everywhere.
#
# **Predict.** `quantize_bwd` takes the setting first, then what was saved, then the cotangent. Which gradient comes out
# if a rule takes the setting last?

# %%
print("setting first:", attempt(lambda scale, x, g: (g * scale,), nondiff_argnums=(1,)))
print("setting last: ", attempt(lambda x, g, scale: (g * scale,), nondiff_argnums=(1,)))
with fails(jax.errors.UnexpectedTracerError, lines=8):
    jax.jit(quantize)(weights, 0.2, 3)
print("static for jit too:", jax.jit(quantize, static_argnums=2)(weights, 0.2, 3))

# %% [markdown]
# Static settings come *first*, wherever they stand in the function. In the other order the names are shifted: `g` was
# the saved `x`, and no shape complained. `check_grads` with `modes=("rev",)` finds it.
#
# A static setting must also be static for the `jit` around it: `static_argnums`, or a `partial`. The words to search
# for are *Tracers cannot be passed as non-differentiable arguments*.
#
# ## `checkpoint`: memory for time
#
# Backward needs what forward computed. `jax.checkpoint`, as `torch.utils.checkpoint`, keeps only the inputs of a block
# and computes the rest again. Sixteen blocks with two products each:

# %%
matrices = (rng.normal(size=(LAYERS, WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
rows = rng.normal(size=(1024, WIDTH)).astype(np.float32)


def block(x, w):
    return jnp.tanh(jnp.tanh(x @ w) @ w)


def looped(rows, matrices, wrap):
    for w in matrices:
        rows = wrap(block)(rows, w)
    return (rows**2).mean()


def scanned(rows, matrices, wrap):
    rows, _ = jax.lax.scan(wrap(lambda x, w: (block(x, w), None)), rows, matrices)
    return (rows**2).mean()


def looped_torch(rows, matrices, wrap):
    for w in matrices:
        rows = wrap(lambda x, w: torch.tanh(torch.tanh(x @ w) @ w))(rows, w)
    return (rows**2).mean()


# %% [markdown]
# What is kept can be counted on both sides: PyTorch offers a hook for each saved tensor, and the pullback that
# `jax.vjp` returns is a pytree of the saved arrays.

# %%
MB = 2**20


def kept(rows, wrap):
    _, pull = jax.vjp(lambda rows: looped(rows, matrices, wrap), rows)
    sizes = {id(leaf): np.asarray(leaf).nbytes for leaf in jax.tree.leaves(pull)}
    return pull(np.float32(1))[0], sum(sizes.values()) / MB


def kept_torch(rows, wrap):
    leaf, seen = torch.from_numpy(rows).requires_grad_(), {}

    def note(tensor):
        seen[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = looped_torch(leaf, torch.from_numpy(matrices), wrap)
    out.backward()
    return leaf.grad, sum(seen.values()) / MB


# %%
def plain(function):
    return function


def checkpointed(function):
    return partial(checkpoint, function, use_reentrant=False)


results = {"PyTorch": kept_torch(rows, plain), "PyTorch, checkpoint": kept_torch(rows, checkpointed)}
results |= {"JAX": kept(rows, plain), "JAX, checkpoint": kept(rows, jax.checkpoint)}
for name, (grad, size) in results.items():
    largest, gap = (np.abs(np.asarray(grad) - other).max() for other in (0, np.asarray(results["JAX"][0])))
    same = gap < 1e-4 * largest
    print(f"{name:20} {size:5.2f} MB kept; largest slope {largest:.3e}, gap to JAX below 1e-4 of it: {same}")

# %% [markdown]
# Block by block only the inputs stay: 16 of them, 4 MB, then the matrices and the result. (For a `tanh` JAX keeps two
# arrays, PyTorch one.) That is what is kept *op by op*. Inside `jit` the compiler decides what lives when, and says so
# beforehand.
#
# **Predict.** We compile the gradient of the Python loop and of the `lax.scan`, each with and without
# `jax.checkpoint`. Both loops compute the same. Does `checkpoint` save memory in both?

# %% tags=["nbval-ignore-output"] volatile="bytes, which the compiler chooses for the processor"
policy = partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
programs = {
    "loop": (looped, plain),
    "loop, checkpoint": (looped, jax.checkpoint),
    "scan": (scanned, plain),
    "scan, keep products": (scanned, policy),
    "scan, checkpoint": (scanned, jax.checkpoint),
}
temporary = {}
for name, (network, wrap) in programs.items():
    gradient = jax.grad(lambda rows, network=network, wrap=wrap: network(rows, matrices, wrap))
    temporary[name] = jax.jit(gradient).lower(rows).compile().memory_analysis().temp_size_in_bytes / MB
    products = LAYERS * str(jax.make_jaxpr(gradient)(rows)).count("dot_general")
    print(f"{name:20} {temporary[name]:5.1f} MB", f"for {products} products" if network is scanned else "")

# %% alt="Two panels of horizontal bars in megabytes. Left, kept between forward and backward: PyTorch 8, with checkpoint 4.5, JAX 16.5, with checkpoint 4.5. Right, temporary memory of the compiled gradient: the loop with checkpoint takes no less than without; the scan takes most, and with checkpoint a fraction of it."
figure, axes = plots.panels(2, height=2.6)
sizes = {name: size for name, (_, size) in results.items()}
for axis, bars, title in zip(axes, (sizes, temporary), ("kept, op by op", "compiled: temporary"), strict=True):
    for name, size in list(bars.items())[::-1]:
        side = plots.style(name)
        hatch = "//" if "checkpoint" in name else ""
        axis.barh(name, size, color=side["color"], hatch=hatch, edgecolor="white")
    axis.set(title=title, xlabel="MB")
    axis.grid(axis="y", visible=False)
plt.show()
assert temporary["scan, checkpoint"] < temporary["scan"] / 3
print("checkpoint in the scan: less than a third of the memory  ok")


# %% [markdown]
# In the scan, `checkpoint` paid: 96 products instead of 64, for less than a third of the memory. A `policy` chooses
# what to keep; with the products kept and only `tanh` computed again, no product is repeated. In the loop it bought
# nothing on this CPU: there XLA sees all blocks at once, and its 8 MB are one array for each `tanh` either way. Where
# memory is short, scan over the layers first, then checkpoint, and read `memory_analysis()` on the device that you
# train on.
#
# ## NNX: a transform for each transform
#
# An NNX module is a pytree, so `jax.grad` and `jax.checkpoint` accept it. But a transform of `jax` hands the function a
# copy, and what the call writes into the copy is gone. `nnx.jit`, `nnx.grad`, `nnx.vmap`, `nnx.scan`, `nnx.remat` carry
# it back.
#
# **Predict.** A block with BatchNorm, in training mode, is called once under each. After which calls has the running
# mean moved?

# %%
class Block(nnx.Module):
    def __init__(self, width, *, rngs):
        self.linear = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return x + jnp.tanh(self.norm(self.linear(x)))


def loss(model, x):
    return (model(x) ** 2).mean()


few = rng.normal(size=(8, 4)).astype(np.float32)
for name, transform in {
    "jax.jit": jax.jit, "nnx.jit": nnx.jit, "jax.grad": jax.grad, "nnx.grad": nnx.grad,
    "jax.checkpoint": jax.checkpoint, "nnx.remat": nnx.remat,
}.items():  # fmt: skip
    model = Block(4, rngs=nnx.Rngs(SEED))
    transform(loss)(model, few)
    print(f"{name:15} running mean after the call {model.norm.mean[...].round(3)}")


# %% [markdown]
# No error, no warning, and averages that are still at their start when `model.eval()` uses them. (`nnx.value_and_grad`
# keeps them too, and `has_aux=True` works as in JAX.)
#
# `jax.grad` has a second flaw: it differentiates by every array of the module. And a module that the function takes
# from outside, instead of as an argument, can't be written to at all.

# %%
class Noisy(Block):
    def __init__(self, width, *, rngs):
        super().__init__(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def leaves_of(tree):
    state = tree if isinstance(tree, nnx.State) else nnx.state(tree)
    return sorted(".".join(path) for path, _ in nnx.to_flat_state(state))


model = Block(4, rngs=nnx.Rngs(SEED))
print("jax.grad:", leaves_of(jax.grad(loss)(model, few)))
value, grads = nnx.value_and_grad(loss)(model, few)
print("nnx.grad:", leaves_of(grads), " value", value.round(4))
biases = nnx.DiffState(0, nnx.All(nnx.Param, nnx.PathContains("bias")))  # 0: the argument
print("biases:  ", leaves_of(nnx.grad(loss, argnums=biases)(model, few)))
with fails(TypeError):
    jax.grad(loss)(Noisy(4, rngs=nnx.Rngs(SEED)), few)
with fails(errors.TraceContextError):
    nnx.grad(lambda x: loss(model, x))(few)


# %% [markdown]
# `nnx.grad` takes the Params, or what a `DiffState` picks. `jax.grad` returned gradients for two running averages as
# well, and an optimizer would move them, by weight decay if by nothing else. On the model with dropout it met the
# counter of the random stream, an integer: read *got uint32* as "a key or a counter is among the weights". *Cannot
# mutate … from a different trace level* means: pass the module as an argument.
#
# `nnx.vmap` and `nnx.scan` need to know which arrays have the extra axis. `split_rngs` draws different weights for each
# row; `StateAxes` gives an axis by kind of variable, and `...` is the rest.

# %%
@nnx.split_rngs(splits=3)
@nnx.vmap(in_axes=(0,))
def make(rngs):
    return Block(4, rngs=rngs)


def call(model, x):
    return model(x)


models = make(nnx.Rngs(SEED))
print("three models: kernel", models.linear.kernel.shape, " running mean", models.norm.mean.shape)
shared = nnx.StateAxes({nnx.Param: 0, ...: None})
with fails(ValueError):
    nnx.vmap(call, in_axes=(shared, None))(models, few)
everything = nnx.StateAxes({nnx.Param: 0, nnx.BatchStat: 0, ...: None})
print("outputs", nnx.vmap(call, in_axes=(everything, None))(models, few).shape)
print("running means, first entries:", models.norm.mean[:, 0].round(3))


# %% [markdown]
# Read the message from its end: the running mean came out with an axis (*output was batched*) where the `StateAxes`
# said that there is none (*axis spec None*). The path in between names the variable.
#
# The same stack can be read as three *layers* of one network. `nnx.scan` runs through them: the activations are the
# carry, the layers are sliced along axis 0. Compiled, this is one block in a loop, whatever the depth.

# %%
def through(x, layer):
    return layer(x)


def by_lax(models, x):
    return jax.lax.scan(lambda x, layer: (layer(x), None), x, models)[0]


scans = {"nnx.scan": through, "nnx.scan of nnx.remat": nnx.remat(through)}
for name, function in scans.items():
    models = make(nnx.Rngs(SEED))
    out = nnx.scan(function, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(few, models)
    print(f"{name:22} output {out[0, :3].round(3)}, running means {models.norm.mean[:, 0].round(3)}")
models = make(nnx.Rngs(SEED))
out = by_lax(models, few)
print(f"{'jax.lax.scan':22} output {out[0, :3].round(3)}, running means {models.norm.mean[:, 0].round(3)}")

# %% [markdown]
# One output, and again the `jax` version forgets. Where a module keeps no state (no BatchNorm, no dropout), either will
# do, and `jax.*` has less to carry: lesson [10](10_jit_speed.ipynb) measures what carrying costs.
#
# ## Summary
#
# - `custom_jvp` takes a forward rule and gives both directions; `custom_vjp` takes a backward rule and gives no other.
# - In a `custom_vjp`, static settings come first in the backward rule. JAX checks shapes, not slopes: `check_grads`
#   does.
# - `checkpoint` pays inside a `scan`; in an unrolled loop the compiler may have done it already. Measure.
# - On modules with state use `nnx.*`: `jax.*` drops what the call wrote, and `jax.grad` differentiates by everything.
#
# ## Further reading
#
# - [jax.custom_vjp](https://docs.jax.dev/en/latest/_autosummary/jax.custom_vjp.html): the decorator's reference,
#   `nondiff_argnums` included
# - [Extending torch.func](https://docs.pytorch.org/docs/stable/notes/extending.func.html): `setup_context` and
#   `generate_vmap_rule` of `autograd.Function`
# - [Learned Step Size Quantization](https://arxiv.org/abs/1902.08153): where the gradient by the scale comes from
# - [Gradient checkpointing](https://docs.jax.dev/en/latest/gradient-checkpointing.html): policies, and how to see
#   what is saved
# - [Flax NNX transformations](https://flax.readthedocs.io/en/latest/guides/transforms.html): `StateAxes`, `DiffState`
#   and the rules of state
#
# Exercises: [your turn](exercises/09b_custom_rules.ipynb).
#
# Next: [10 · The Titanic loop, faster rung by rung](10_jit_speed.ipynb).
