# %% [markdown]
# # 09 · Transformations
#
# **What else can be done with a function that is pure?** (30 minutes)

# %% [markdown]
# After this lesson you can
#
# - differentiate forwards and backwards, per example and to second order, and say which direction is cheaper,
# - write a derivative of your own, trade memory for time, and transpose a linear function,
# - compose all of it freely, in JAX and in `torch.func`.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import func

# %%
SEED = 0
jax.config.update("jax_enable_x64", True)  # float64 on both sides: equal means equal within 1e-12
torch.set_default_dtype(torch.float64)


# %% [markdown]
# A *transformation* takes a function and returns a function. `jit` was one (08). Each of the following has a
# counterpart in `torch.func`, PyTorch's own functional side, and every cell checks the two against each
# other.

# %%
def check(what, ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.detach(), rtol=0, atol=1e-12)
    print(f"{what}: JAX = torch  ok")


rng = np.random.default_rng(SEED)
w, x, y = rng.normal(size=3), rng.normal(size=(8, 3)), (rng.random(8) > 0.5).astype(float)
wt, xt, yt = map(torch.from_numpy, (w, x, y))


# %% [markdown]
# ## 1 · `grad` and `value_and_grad`
#
# A loss of one example: weights, features, label. `argnums` says what to differentiate by, the first argument
# by default.

# %%
def loss(w, x, y):
    logit = x @ w
    return jnp.logaddexp(0.0, logit) - y * logit


def loss_torch(w, x, y):
    logit = x @ w
    return torch.logaddexp(torch.zeros_like(logit), logit) - y * logit


check("grad", jax.grad(loss)(w, x[0], y[0]), func.grad(loss_torch)(wt, xt[0], yt[0]))
value, grads = jax.value_and_grad(loss, argnums=(0, 1))(w, x[0], y[0])
grads_torch, value_torch = func.grad_and_value(loss_torch, argnums=(0, 1))(wt, xt[0], yt[0])
check("value and both gradients", (value, *grads), (value_torch, *grads_torch))

# %% [markdown]
# Not everywhere do the two agree. The slope at a kink is a choice, and so is which way a complex gradient points;
# `jax.nn.relu` has PyTorch's choice. Nor do they take the same things (second cell): PyTorch accumulates, passes
# over integers and unused weights, and runs backward through any loop. `jax.grad` returns zeros for an unused
# weight and refuses the rest.

# %% tags=["trap:maximum-at-zero"]
kinks = {
    "maximum(x, 0) at 0": (lambda x: jnp.maximum(x, 0), torch.relu, [0.0]),
    "clip at its bounds": (lambda x: jnp.clip(x, 0, 1), lambda x: x.clamp(0, 1), [0.0, 1.0]),
    "abs at 0": (jnp.abs, torch.abs, [0.0]),
    "norm at 0": (jnp.linalg.norm, torch.linalg.norm, [0.0, 0.0]),
    "std of equal values": (jnp.std, lambda x: x.std(correction=0), [1.0, 1.0]),
    "|z|^2, z complex": (lambda z: jnp.abs(z) ** 2, lambda z: z.abs() ** 2, [1.0 + 2.0j]),
}
for what, (ours, theirs, at) in kinks.items():
    in_jax = np.array(jax.grad(lambda x, f=ours: f(x).sum())(jnp.array(at)))
    in_torch = func.grad(lambda x, f=theirs: f(x).sum())(torch.tensor(at)).numpy()
    assert not np.allclose(in_jax, in_torch)
    print(f"{what:20} JAX {in_jax!s:12} torch {in_torch}")
assert jax.grad(jax.nn.relu)(0.0) == 0

# %% tags=["trap:accumulates"]
params = {"w": wt.clone().requires_grad_(), "unused": torch.ones(2, requires_grad=True), "steps": torch.tensor(7)}
for _ in range(2):
    (xt[:1] @ params["w"]).backward()  # the loss has shape (1,)
doubled = start = torch.ones((), requires_grad=True)
while doubled < 10:
    doubled = 2 * doubled
doubled.backward()
print("torch: twice the gradient:", np.allclose(params["w"].grad, 2 * x[0]), " unused:", params["unused"].grad, end=" ")
print(" integer:", params["steps"].grad, " through the loop:", start.grad.item())

grads = jax.grad(lambda params: x[0] @ params["w"])({"w": w, "unused": np.ones(2)})
print("jax: once:", np.allclose(grads["w"], x[0]), " an unused weight:", grads["unused"])
attempts = {
    "a loss of shape (1,)": lambda: jax.grad(lambda w: x[:1] @ w)(w),
    "a counter in params": lambda: jax.grad(lambda params: x[0] @ params["w"])({"w": w, "steps": 7}),
    "lax.while_loop": lambda: jax.grad(lambda x: jax.lax.while_loop(lambda y: y < 10, lambda y: 2 * y, x))(1.0),
}
for what, attempt in attempts.items():
    try:
        attempt()
    except (TypeError, ValueError) as error:
        print(f"jax, {what}: {type(error).__name__}")


# %% [markdown]
# ## 2 · `jvp` and `vjp`
#
# Derivatives have two directions. `jvp` pushes a tangent forward along with the computation: one column of
# the Jacobian, no memory of the way. `vjp` pulls a cotangent back: one row, and the way has to be remembered.
# `grad` is `vjp` with a 1.

# %%
def layer(w):
    return jnp.tanh(x @ w)


def layer_torch(w):
    return torch.tanh(xt @ w)


tangent, cotangent = rng.normal(size=3), rng.normal(size=8)
out, pushed = jax.jvp(layer, (w,), (tangent,))
check("jvp", (out, pushed), func.jvp(layer_torch, (wt,), (torch.from_numpy(tangent),)))
out, pull = jax.vjp(layer, w)
out_torch, pull_torch = func.vjp(layer_torch, wt)
check("vjp", pull(cotangent), pull_torch(torch.from_numpy(cotangent)))
print("the same number from both ends:", np.isclose(cotangent @ pushed, pull(cotangent)[0] @ tangent))

# %% [markdown]
# ## 3 · `vmap`
#
# `loss` was written for one example. `vmap` runs it on many, by rewriting each operation into its batched
# form. `in_axes` says which arguments have the extra axis: not the weights. Mind two consequences (second cell):
# examples share a key that comes from outside, where PyTorch asks what is meant; and a `lax.cond` whose
# condition differs from example to example computes both branches for all of them.

# %%
losses = jax.vmap(loss, in_axes=(None, 0, 0))(w, x, y)
check("vmap", losses, func.vmap(loss_torch, in_dims=(None, 0, 0))(wt, xt, yt))
for function, features, label in ((loss, x[0], y[0]), (jax.vmap(loss, in_axes=(None, 0, 0)), x, y)):
    first = jax.make_jaxpr(function)(w, features, label).eqns[0]
    print(first.primitive, "of", *(variable.aval.shape for variable in first.invars))

# %% tags=["trap:noise-under-vmap"]
key, rows, ran = jax.random.key(SEED), np.array([-1.0, -4.0]), []
noisy = jax.vmap(lambda row: 0 * row + jax.random.normal(key))(rows)
own = jax.vmap(jax.random.normal)(jax.random.split(key, 2))
print("one key for all examples, equal:", bool(noisy[0] == noisy[1]), " a key each:", bool(own[0] == own[1]))
try:
    func.vmap(lambda row: 0 * row + torch.randn(()))(torch.from_numpy(rows))
except RuntimeError as error:
    print("torch:", type(error).__name__)


def root_or_zero(x):
    def root(x):
        jax.debug.callback(lambda: ran.append("root"))
        return jnp.sqrt(x)

    return jax.lax.cond(x > 0, root, jnp.zeros_like, x)


one_by_one = [root_or_zero(row) for row in rows]
jax.effects_barrier()
before = len(ran)
in_torch = torch.stack([row.sqrt() if row > 0 else 0 * row for row in torch.tensor(rows)])
check("an if in each row", jax.vmap(root_or_zero)(rows), in_torch)
jax.effects_barrier()
print("the root ran", before, "times; vmap runs both branches:", len(ran) > before)

# %% [markdown]
# ## 4 · Per-example gradients
#
# In a PyTorch loop that means one `backward()` per example. Composed, it is one line: the gradient of one
# loss, mapped over examples.

# %%
per_example = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(w, x, y)  # (8, 3)
check("vmap of grad", per_example, func.vmap(func.grad(loss_torch), in_dims=(None, 0, 0))(wt, xt, yt))

leaf, one_by_one = wt.clone().requires_grad_(), []
for i in range(len(y)):
    leaf.grad = None
    loss_torch(leaf, xt[i], yt[i]).backward()
    one_by_one.append(leaf.grad)
check("a loop of backward()", per_example, torch.stack(one_by_one))

# %% [markdown]
# ## 5 · Jacobians and Hessians
#
# `jacfwd` builds a Jacobian column by column (one `jvp` per input), `jacrev` row by row (one `vjp` per
# output). `layer` has 3 inputs and 8 outputs: forward takes 3 passes, reverse 8.

# %%
forward, reverse = jax.jacfwd(layer)(w), jax.jacrev(layer)(w)  # (8, 3) both
check("jacfwd", forward, func.jacfwd(layer_torch)(wt))
check("jacrev", reverse, func.jacrev(layer_torch)(wt))
print("both directions agree:", np.allclose(forward, reverse, rtol=0, atol=1e-12))


# %% [markdown]
# A Hessian is a Jacobian of a gradient, and `jax.hessian` is just `jacfwd(jacrev(f))`. Often its product with
# a vector is enough: push a tangent through the gradient, *forward over reverse*, and never build the matrix.

# %%
def total(w):
    return jax.vmap(loss, in_axes=(None, 0, 0))(w, x, y).sum()


def total_torch(w):
    return func.vmap(loss_torch, in_dims=(None, 0, 0))(w, xt, yt).sum()


hessian = jax.hessian(total)(w)
check("hessian", hessian, func.hessian(total_torch)(wt))
_, product = jax.jvp(jax.grad(total), (w,), (tangent,))
_, product_torch = func.jvp(func.grad(total_torch), (wt,), (torch.from_numpy(tangent),))
check("Hessian-vector product", product, product_torch)
print("the same as the matrix times the vector:", np.allclose(hessian @ tangent, product))


# %% [markdown]
# ## 6 · A derivative of your own
#
# `log(1 + exp(x))` is right at 1000 only if written with care, and its derivative is right only if *it* is
# written with care. First the failure:

# %%
def log1pexp(x):
    return jnp.log1p(jnp.exp(x))


print("at 1000: value", log1pexp(1000.0), " slope", jax.grad(log1pexp)(1000.0))


# %% [markdown]
# `custom_jvp` lets you state value and derivative. JAX derives the backward pass from the forward rule.

# %%
@jax.custom_jvp
def log1pexp(x):
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@log1pexp.defjvp
def log1pexp_jvp(primals, tangents):
    (x,), (v,) = primals, tangents
    return log1pexp(x), jax.nn.sigmoid(x) * v


points = np.array([-1000.0, 0.0, 1.0, 1000.0])
slopes = jax.vmap(jax.grad(log1pexp))(points)
theirs = torch.nn.functional.softplus
points_torch = torch.from_numpy(points)
check("custom_jvp", (log1pexp(points), slopes), (theirs(points_torch), func.vmap(func.grad(theirs))(points_torch)))


# %% [markdown]
# Where only a backward rule makes sense, `custom_vjp` takes one; it is `autograd.Function` with its two
# halves. The classic: round on the way forward, pretend that you didn't on the way back.

# %%
@jax.custom_vjp
def straight_through(x):
    return jnp.round(x)


straight_through.defvjp(lambda x: (jnp.round(x), None), lambda saved, g: (g,))


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


leaf = torch.tensor([0.2, 1.7], requires_grad=True)
(StraightThrough.apply(leaf) ** 2).sum().backward()
check("custom_vjp", jax.grad(lambda x: (straight_through(x) ** 2).sum())(jnp.array([0.2, 1.7])), leaf.grad)
print("plain rounding has slope", jax.grad(jnp.round)(0.2))


# %% [markdown]
# ## 7 · `checkpoint`: memory for time
#
# Backward needs what forward computed. `jax.checkpoint` throws it away and computes it again. The pullback
# that `vjp` returns is a pytree of exactly those saved arrays, so we can count them.

# %%
def deep(x, wrap):
    block = wrap(lambda x: jnp.sin(jnp.sin(jnp.sin(x))))
    for _ in range(10):
        x = block(x)
    return x.sum()


long = jnp.linspace(0.0, 1.0, 1000)
for name, wrap in {"saved": lambda block: block, "with jax.checkpoint": jax.checkpoint}.items():
    _, pull = jax.vjp(lambda x, wrap=wrap: deep(x, wrap), long)
    print(f"{name:20} {sum(leaf.size for leaf in jax.tree.leaves(pull)):6} numbers kept for backward")

# %%
from torch.utils.checkpoint import checkpoint

leaf = torch.from_numpy(np.array(long)).requires_grad_()
out = leaf
for _ in range(10):
    out = checkpoint(lambda x: torch.sin(torch.sin(torch.sin(x))), out, use_reentrant=False)
out.sum().backward()
check("gradient through checkpoint", jax.grad(lambda x: deep(x, jax.checkpoint))(long), leaf.grad)

# %% [markdown]
# ## 8 · `linear_transpose`
#
# Backward of a linear function is its transpose. JAX can hand it to you: here a blur, and the function that
# torch users know as `conv_transpose1d`.

# %%
taps = np.array([1.0, 2.0, 1.0])


def blur(signal):
    return jnp.convolve(signal, taps, mode="valid")  # (n,) -> (n - 2,)


signal, other = rng.normal(size=10), rng.normal(size=8)
(transposed,) = jax.linear_transpose(blur, signal)(other)
in_torch = torch.nn.functional.conv_transpose1d(torch.from_numpy(other)[None, None], torch.from_numpy(taps)[None, None])
check("linear_transpose", transposed, in_torch[0, 0])
print("<blur(s), o> = <s, transposed(o)>:", np.isclose(blur(signal) @ other, signal @ transposed))


# %% [markdown]
# ## 9 · All together
#
# Because each takes a function and returns one, they nest in any order. How does the loss after one training
# step depend on the learning rate? A derivative *through* a gradient step, batched over learning rates,
# compiled:

# %%
def after_one_step(rate):
    return total(w - rate * jax.grad(total)(w))


def after_one_step_torch(rate):
    return total_torch(wt - rate * func.grad(total_torch)(wt))


rates = np.linspace(0.0, 1.0, 5)
slopes = jax.jit(jax.vmap(jax.grad(after_one_step)))(rates)
check("jit of vmap of grad through grad", slopes, func.vmap(func.grad(after_one_step_torch))(torch.from_numpy(rates)))


# %% [markdown]
# The diagonal of a Hessian, for parameters in a pytree and a loop inside: still the same three words.

# %%
def rolled(params):
    state = jnp.ones(3)
    for _ in range(3):
        state = jnp.tanh(params["matrix"] @ state + params["bias"])
    return state.sum()


params = {"matrix": rng.normal(size=(3, 3)), "bias": rng.normal(size=3)}



def curvature(v):
    slope = jax.grad(lambda bias: rolled(params | {"bias": bias}))
    return jax.jvp(slope, (params["bias"],), (v,))[1] @ v


diagonal = jax.vmap(curvature)(jnp.eye(3))
full = jax.hessian(rolled)(params)["bias"]["bias"]
print("diagonal of the Hessian:", np.allclose(diagonal, np.diag(full), rtol=0, atol=1e-12), " shape", diagonal.shape)

# %% [markdown]
# What it costs: every layer of transformation is traced in Python before anything runs, so the first call is
# slow (08), and nested derivatives grow fast (lesson 16 measures how fast).
#
# ## Summary
#
# - `jvp` pushes, `vjp` pulls, `grad` is `vjp` with a 1; few inputs ask for forward, few outputs for reverse.
# - `vmap` writes the batched program for you; `vmap(grad(…))` are per-example gradients.
# - `torch.func` has the same words. In JAX they are the foundation and nest with `jit`, control flow and
#   pytrees.
#
# Next: [10 · jit speed](10_jit_speed.ipynb): the Titanic loop, faster rung by rung.
