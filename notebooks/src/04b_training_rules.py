# %% [markdown]
# # 04b · Training rules
#
# **How do you treat some weights, some gradients or some steps differently?** (60 minutes)

# %% [markdown]
# After this lesson you can
#
# - give some weights another rate, no decay, or no step at all,
# - clip and accumulate gradients, and average weights, with torch's numbers,
# - train two networks with two optimizers in one step,
# - run L-BFGS without a closure, and count its work.

# %%
from copy import deepcopy

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import torch
from flax import nnx
from optax import sigmoid_binary_cross_entropy as cross_entropy
from torch.nn.functional import binary_cross_entropy_with_logits as torch_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course import optimizers, plots, porting
from course.data import Features, labels, load_titanic, split
from course.failures import fails
from course.train import titanic_linen, titanic_nnx, titanic_torch

# %%
SEED, BATCH, RATE = 0, 32, 0.1

plots.use()
torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)  # float64 throughout, so that a gap is a mistake and no rounding
rng, optim, sgd = np.random.default_rng(SEED), torch.optim, optax.sgd(RATE)
train, _, _ = split(load_titanic(), SEED)
x, y = (part[:BATCH].astype(np.float64) for part in (Features.fit(train)(train), labels(train)))
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y)

# %% [markdown]
# The network is that of 01a to 01c, on one batch; all three copies have the weights that torch drew. The same gradient
# serves the first two sections.

# %%
torch.manual_seed(SEED)
source = titanic_torch.TitanicMLP(width=8).double()
net = titanic_linen.TitanicMLP(width=8)
shapes = nnx.eval_shape(lambda: titanic_nnx.TitanicMLP(width=8, rngs=nnx.Rngs(SEED)))
model = porting.torch_to_nnx(source, shapes)
params = porting.torch_to_linen(source, jax.eval_shape(net.init, jax.random.key(SEED), x)["params"])


@jax.jit
def loss_fn(params):
    return titanic_linen.loss_fn(params, net.apply, x, y)


grads = jax.jit(jax.grad(loss_fn))(params)
theirs, ours = titanic_torch.loss_fn(source, x_torch, y_torch), nnx.jit(titanic_nnx.loss_fn)(model, x, y)
print(f"loss: torch {theirs:.6f}, NNX {ours:.6f}, Linen {loss_fn(params):.6f}")


# %% [markdown]
# ## Some weights differently
#
# torch has parameter groups. Optax has trees: `optax.partition` (once `multi_transform`) takes rules by name, and a
# tree of names, in which one name may stand for a whole branch. Below, the last layer learns ten times as fast.
# `stepped` is the step of [04](04_optimizers.ipynb) as a function: new weights from old ones and a rule.

# %%
def stepped(rule):
    updates, _ = rule.update(grads, rule.init(params), params)
    return optax.apply_updates(params, updates)


def show(name, before, theirs, ours):
    before, theirs, ours = (number.item() for number in (before, theirs, ours))
    near = abs(theirs - ours) < 1e-9
    print(f"{name:15} {before:+.4f} -> torch {theirs:+.4f}, JAX {ours:+.4f}, gap below 1e-9: {near}")


trained = deepcopy(source)
groups = [{"params": trained.hidden.parameters(), "lr": 0.01}, {"params": trained.out.parameters(), "lr": 0.1}]
titanic_torch.train_step(trained, optim.SGD(groups), x_torch, y_torch)

rule = optax.partition({"slow": optax.sgd(0.01), "fast": optax.sgd(0.1)}, {"hidden": "slow", "out": "fast"})
new = stepped(rule)
show("a hidden bias", source.hidden.bias[0], trained.hidden.bias[0], new["hidden"]["bias"][0])
show("the last bias", source.out.bias[0], trained.out.bias[0], new["out"]["bias"][0])

# %% [markdown]
# The tree of names stands where torch has lists of parameters. Each rule keeps a state for its own weights. (In NNX the
# weights are an `nnx.State`, and so must the names be: `nnx.State({"hidden": "slow", "out": "fast"})`. A plain dict
# raises a ValueError.)
#
# The usual reason for groups is weight decay: matrices decay, biases don't. For that AdamW takes a *mask*, a tree of
# booleans or a function that makes one.
#
# **Predict.** The first port below forgets the mask. The rate is 0.1, the decay 0.5, and the hidden bias, as seen
# above, 0.1013. How far from torch's does one step leave that bias?

# %%
trained = deepcopy(source)
groups = [{"params": [weight], "weight_decay": 0.5 if weight.ndim > 1 else 0.0} for weight in trained.parameters()]
titanic_torch.train_step(trained, optim.AdamW(groups, RATE), x_torch, y_torch)
rows = {"torch, groups": [trained.hidden.weight[0, 0], trained.hidden.bias[0], trained.out.bias[0]]}

for name, mask in ("no mask", None), ("mask", lambda params: jax.tree.map(lambda p: p.ndim > 1, params)):
    new = stepped(optax.adamw(RATE, weight_decay=0.5, mask=mask))
    rows[f"Optax, {name}"] = [new["hidden"]["kernel"][0, 0], new["hidden"]["bias"][0], new["out"]["bias"][0]]
rows = {name: [number.item() for number in row] for name, row in rows.items()}
table = pd.DataFrame(rows, index=["a hidden weight", "a hidden bias", "the last bias"]).T
print("with the mask, gap below 1e-9:", (table.iloc[0] - table.iloc[2]).abs().max() < 1e-9)
table.round(4)

# %% [markdown]
# By 0.005, rate times decay times weight. Without a mask everything decays, in torch too if there are no groups. Adam's
# own step is twenty times as long here, so the slip is easily overlooked.
#
# ## Some weights not at all
#
# To freeze the hidden layer, torch says `requires_grad_(False)`. Optax has `optax.masked(rule, mask)`: "apply the
# rule where the mask is true". That sounds like freezing the rest.
#
# **Predict.** By how much does a weight move for which the mask is false?

# %% tags=["trap:freeze"]
frozen = deepcopy(source)
frozen.hidden.requires_grad_(False)
titanic_torch.train_step(frozen, optim.SGD(frozen.parameters(), RATE), x_torch, y_torch)

kernel = grads["hidden"]["kernel"]
at = np.unravel_index(abs(kernel).argmax(), kernel.shape)
print(f"loss {loss_fn(params):.4f}; a hidden weight has the gradient {kernel[at]:+.4f}")
moved = (frozen.hidden.weight - source.hidden.weight).T[at].item()
print(f"torch      moves it by {moved:+.4f}, loss {titanic_torch.loss_fn(frozen, x_torch, y_torch):.4f}")
for name, rule in {
    "masked": optax.masked(sgd, {"hidden": False, "out": True}),
    "partition": optax.partition({"on": sgd, "off": optax.set_to_zero()}, {"hidden": "off", "out": "on"}),
}.items():
    new = stepped(rule)
    moved = new["hidden"]["kernel"][at] - params["hidden"]["kernel"][at]
    print(f"{name:10} moves it by {moved:+.4f}, loss {loss_fn(new):.4f}")

# %% [markdown]
# By its whole gradient, uphill: `masked` passes through what it leaves out, and `apply_updates` adds it. What freezes
# is `optax.partition` with `optax.set_to_zero()`. (`optax.freeze(mask)` zeroes updates where the mask is *true*. It
# belongs at the end of a chain: in front of AdamW the weights would still decay.)
#
# In NNX one freezes by *filter* ([03](03_state_and_trees.ipynb)). `wrt=` says which variables the optimizer keeps
# state for and changes. `nnx.DiffState(0, filter)` says "differentiate by argument 0, these variables of it", so that
# the gradient of the rest is not even computed.

# %%
head = nnx.All(nnx.Param, nnx.PathContains("out"))
head_grads = nnx.jit(nnx.grad(titanic_nnx.loss_fn, argnums=nnx.DiffState(0, head)))(model, x, y)
print("gradients:", *nnx.to_flat_state(head_grads).paths)

nnx.Optimizer(model, sgd, wrt=head).update(model, head_grads)
for name in "hidden", "out":
    before, theirs = (getattr(network, name).weight[0, 0] for network in (source, frozen))
    show(name, before, theirs, getattr(model, name).kernel[...][0, 0])

# %% [markdown]
# The hidden layer stays, on both sides. The filter stands in two places, and the two must agree. Here gradients of the
# head meet an optimizer of everything.

# %%
with fails(ValueError, lines=12):
    nnx.Optimizer(model, sgd, wrt=nnx.Param).update(model, head_grads)

# %% [markdown]
# How to read it: "different numbers of pytree children" (older versions: "Mismatch custom node data") means that two
# trees met in one `tree.map`; the key that only one of them has, `hidden`, names the branch that the other lacks.
#
# ## Some gradients smaller
#
# Clipping is a link in front: `optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE))`. Below, a gradient is
# clipped to the norm at the left; what is left is given in units of that norm and should be 1. Then gradient and limit
# are both made smaller.
#
# **Predict.** Is it 1 at all three sizes, on both sides?

# %% tags=["trap:clip-tiny-norm"]
start, pushes = rng.normal(size=(4, 3)), rng.normal(size=(5, 4, 3))
for largest in (1.0, 1e-3, 1e-6):
    push = largest * pushes[0]
    weight = torch.nn.Parameter(torch.zeros(4, 3).double())
    weight.grad = torch.tensor(push)
    torch.nn.utils.clip_grad_norm_([weight], largest)
    left = [weight.grad.norm().item() / largest]
    for clip in (optax.clip_by_global_norm(largest), optimizers.clip_by_global_norm(largest)):
        clipped, _ = clip.update(push, clip.init(push))
        left.append(float(optax.tree.norm(clipped)) / largest)
    print(f"{largest:5.0e}: torch leaves {left[0]:.3f}, Optax {left[1]:.3f}, course.optimizers {left[2]:.3f}")

# %% [markdown]
# Not in torch. It divides by the norm *plus 1e-6*, Optax by the norm. At ordinary norms that is a millionth; where
# gradients are tiny, torch clips more than it was asked to. `course.optimizers.clip_by_global_norm` does as torch
# does.
#
# ## Some steps not at all
#
# In torch, gradients of several batches accumulate in `.grad` when nobody zeroes it. In Optax accumulation is a rule
# around a rule, `optax.MultiSteps`. Below, both handle two batches as one.
#
# **Predict.** `MultiSteps(sgd, 2)` steps once for two batches. Where does the weight end, where torch's does?

# %% tags=["trap:accumulate"]
weights = torch.nn.Parameter(torch.tensor(start))
for push in pushes[:2]:
    (weights * torch.tensor(push)).sum().backward()  # no zero_grad between
optim.SGD([weights], RATE).step()
print(f"torch: one weight {start[0, 0]:.4f}, after two batches and one step {weights[0, 0]:.4f}")

for name, how in ("MultiSteps(sgd, 2)", {}), ("use_grad_mean=False", {"use_grad_mean": False}):
    rule, path = optax.MultiSteps(sgd, every_k_schedule=2, **how), [jnp.asarray(start)]
    state, update = rule.init(path[0]), jax.jit(rule.update)
    for push in pushes[:2]:
        updates, state = update(push, state, path[-1])
        path.append(optax.apply_updates(path[-1], updates))
    near = np.abs(path[2] - weights.detach().numpy()).max() < 1e-6
    print(f"{name:19}: {path[1][0, 0]:.4f}, then {path[2][0, 0]:.4f}   gap below 1e-6: {near}")

# %% [markdown]
# It goes half as far. `MultiSteps` leaves the weights alone until the last batch of a group, and then takes the *mean*
# where torch's `.grad` holds the sum; `use_grad_mean=False` sums as well. torch code that divides its loss by the
# number of batches is served by the mean. The price is one more tree as large as the weights, where torch has `.grad`
# anyway. (Optax 0.2.8 keeps that tree in float32 unless `accumulator_dtype` says otherwise, so the gap is judged at
# 1e-6 here.)
#
# ## A moving average of the weights
#
# torch's `AveragedModel` averages weights over steps. Optax has two things that sound alike: `optax.ema(0.9)` and
# `optax.incremental_update(new, old, step_size=0.1)`. A weight makes its noisy way up, and all three follow it.
#
# **Predict.** torch's decay is 0.9. Which of Optax's two gives its numbers?

# %% tags=["trap:moving-average"]
path = 1 + np.arange(25) / 8 + 0.4 * rng.normal(size=25)
live = torch.nn.Linear(1, 1, bias=False).double()
average = AveragedModel(live, multi_avg_fn=get_ema_multi_avg_fn(0.9))
ema, smooth = optax.ema(0.9), jnp.asarray(path[0])
state, rows = ema.init(smooth), []
for weight in map(jnp.asarray, path):
    live.weight.data.fill_(weight.item())
    average.update_parameters(live)
    smooth = optax.incremental_update(weight, smooth, step_size=0.1)
    corrected, state = ema.update(weight, state)
    rows.append([average.module.weight.item(), smooth.item(), corrected.item()])
table = pd.DataFrame(rows, columns=["torch AveragedModel", "optax.incremental_update", "optax.ema"])
theirs, smooth, corrected = table.to_numpy().T
print("gap of the first two below 1e-9:", abs(theirs - smooth).max() < 1e-9)
table.iloc[[0, 1, 24]].round(3)

# %% [markdown]
# `incremental_update`, with the number spelt the other way round: `step_size=0.1` is torch's decay of 0.9. Both start
# at the first weights. `optax.ema` starts at zero and corrects for that, which is another average; it is made for
# updates.

# %% alt="A noisy rising row of dots, the weight, and three averages over 25 updates. The orange dashed line of torch's AveragedModel lies on the blue one of optax.incremental_update; both start at the first weight and lag behind. The green line of optax.ema leaves them at once, keeps closer to the weight, and stays a little above them in the end."
figure, axis = plt.subplots()
axis.plot(path, color="grey", linestyle="", marker=".", label="the weight")
axis.plot(smooth, color=plots.JAX, linewidth=4, alpha=0.5, marker="", label="optax.incremental_update")
axis.plot(theirs, color=plots.TORCH, linestyle="--", marker="", label="torch AveragedModel")
axis.plot(corrected, color=plots.OTHERS[0], linestyle="-.", marker="", label="optax.ema")
axis.set(xlabel="update", ylabel="value")
axis.legend()
plt.show()
print("optax.ema is above torch's average in the end, by", (corrected - theirs)[-1].round(3))

# %% [markdown]
# The average is one more tree that you own and save. BatchNorm's running statistics were gathered with the live weights
# and don't fit it: torch has `update_bn`, here you run the data through the averaged network once more.
#
# ## Two optimizers in one step
#
# A small GAN: a generator turns two random numbers into one, a discriminator tells those from samples around 3. Each
# has its own loss and its own optimizer. In torch both losses write into `.grad`. So there is a `detach`, and a
# `zero_grad` of the discriminator after the generator's loss went through it.

# %%
torch.manual_seed(SEED)
generator, discriminator = (titanic_torch.TitanicMLP(size, 16).double() for size in (2, 1))  # any small network
networks = []
for network, size in (generator, 2), (discriminator, 1):
    shapes = nnx.eval_shape(lambda size=size: titanic_nnx.TitanicMLP(size, 16, rngs=nnx.Rngs(SEED)))
    networks.append(porting.torch_to_nnx(network, shapes))
samples, noise = rng.normal(3, 0.5, size=(100, 64, 1)), rng.normal(size=(100, 64, 2))
real_label, fake_label = torch.ones(64).double(), torch.zeros(64).double()
g_optimizer = optim.Adam(generator.parameters(), 0.01, betas=(0.5, 0.999))
d_optimizer, theirs = optim.SGD(discriminator.parameters(), 0.1), []

for real, z in zip(torch.from_numpy(samples), torch.from_numpy(noise), strict=True):
    fake = generator(z)[:, None]  # (B, 1)
    d_optimizer.zero_grad()
    d_loss = torch_entropy(discriminator(real), real_label) + torch_entropy(discriminator(fake.detach()), fake_label)
    d_loss.backward()
    d_optimizer.step()
    g_optimizer.zero_grad()
    g_loss = torch_entropy(discriminator(fake), real_label)
    g_loss.backward()
    g_optimizer.step()
    theirs.append((d_loss.item(), g_loss.item(), fake.mean().item()))
print("torch, mean of the fakes after 0, 25, 50, 99 steps:", *(f"{theirs[n][2]:.3f}" for n in (0, 25, 50, 99)))


# %% [markdown]
# The fakes pass 3 and come back.
#
# In NNX each loss is differentiated by its first argument, the other network is only read, and gradients are return
# values: nothing to detach, nothing to zero. Both optimizers are arguments of one jitted step, which writes back what
# changed in all four objects. It starts with torch's weights and sees the same samples and noise.

# %%
def d_loss(discriminator, fake, real):
    return (cross_entropy(discriminator(real), 1.0) + cross_entropy(discriminator(fake), 0.0)).mean()


def g_loss(generator, discriminator, z):
    return cross_entropy(discriminator(generator(z)[:, None]), 1.0).mean()


@nnx.jit
def gan_step(generator, discriminator, g_optimizer, d_optimizer, real, z):
    of_d, grads = nnx.value_and_grad(d_loss)(discriminator, generator(z)[:, None], real)
    d_optimizer.update(discriminator, grads)
    of_g, grads = nnx.value_and_grad(g_loss)(generator, discriminator, z)
    g_optimizer.update(generator, grads)
    return of_d, of_g


rules = optax.adam(0.01, b1=0.5), optax.sgd(0.1)
both = [nnx.Optimizer(network, rule, wrt=nnx.Param) for network, rule in zip(networks, rules, strict=True)]
ours = [gan_step(*networks, *both, real, z) for real, z in zip(samples, noise, strict=True)]
print("gap of all losses below 1e-9:", abs(np.array(theirs)[:, :2] - np.array(ours)).max() < 1e-9)
for n in (0, 25, 50, 99):
    print(f"step {n:2}  d_loss {theirs[n][0]:.6f} {ours[n][0]:.6f}   g_loss {theirs[n][1]:.6f} {ours[n][1]:.6f}")


# %% [markdown]
# Equal within 1e-9 over 100 steps, with two different rules. What is an order of calls in torch's loop is a matter of
# arguments in JAX. (With Linen the generator's loss must be handed the discriminator's *new* params; here they were
# updated in place.)
#
# ## L-BFGS
#
# `torch.optim.LBFGS` wants a closure, because its line search asks for the loss again and again. Below it walks
# through Rosenbrock's banana, a narrow bent valley whose lowest point has the loss 0, and every call is counted.
#
# **Predict.** How many iterations is one `step()` of torch's, and how many calls of the closure?

# %%
def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def closure():
    calls.append("called")
    lbfgs.zero_grad()
    loss = rosenbrock(weights)
    loss.backward()
    return loss


weights, calls = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True), []
lbfgs = optim.LBFGS([weights], line_search_fn="strong_wolfe")
for step in (1, 2):
    lbfgs.step(closure)
    done, now = lbfgs.state[weights]["n_iter"], rosenbrock(weights).item()
    print(f"torch, step {step}: {done} iterations, {len(calls)} calls, loss {now:.1e}")

# %% [markdown]
# One `step()` of torch's is up to 20 iterations, here 19, because 25 calls are its other limit.
#
# One update of `optax.lbfgs` is *one* iteration. The call that suits every other rule is not enough for it:

# %%
rule, w = optax.lbfgs(), jnp.array([-1.2, 1.0])
state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), rule.init(w))  # no weak types: compiled once
with fails(TypeError):
    jax.jit(rule.update)(jax.grad(rosenbrock)(w), state, w)


# %% [markdown]
# How to read it: the message names what the call lacks, `value`, `grad` and `value_fn`. The line search runs inside the
# compiled program, so `update` must be handed the function beside value and gradient.
# `optax.value_and_grad_from_state` takes both from the state, where the last search left them. `counted` notes each
# call that Python sees, and the state says how often the search evaluated the function.
#
# **Predict.** The searches of 33 steps evaluate the function 43 times. How many of these calls does Python see?

# %%
def counted(w):
    calls.append("called")
    return rosenbrock(w)


@jax.jit
def lbfgs_step(w, state):
    value, grad = value_and_grad(w, state=state)
    updates, state = rule.update(grad, state, w, value=value, grad=grad, value_fn=counted)
    return optax.apply_updates(w, updates), state


value_and_grad, calls, searched = optax.value_and_grad_from_state(counted), [], 0
for step in range(1, 34):
    w, state = lbfgs_step(w, state)
    searched += int(optax.tree.get(state, "num_linesearch_steps"))
    if step in (19, 33):
        print(f"Optax, step {step}: {searched} evaluations, loss {rosenbrock(w):.1e}; Python saw {len(calls)} calls")

# %% [markdown]
# Three, all of them while the step was traced. Inside `jit`, a counter in Python counts traces, not work. Iteration for
# iteration both sides do about the same work. (Optax remembers the last 10 iterations, `memory_size`; torch 100,
# `history_size`.)
#
# ## Summary
#
# - Weights are chosen by a tree, of names for `optax.partition`, of booleans for a decay's mask; in NNX by a filter.
#   To freeze, use `set_to_zero` or a filter: `optax.masked` moves what it should leave alone.
# - Clipping is a link in front, accumulation a rule around a rule. torch's epsilon of 1e-6 and the mean of `MultiSteps`
#   are where the numbers part.
# - A moving average of weights is `optax.incremental_update`; `optax.ema` is another.
# - Two optimizers are two states in one jitted step. L-BFGS must be handed the function.
#
# ## Further reading
#
# - [Optax: combining optimizers](https://optax.readthedocs.io/en/latest/api/combining_optimizers.html): chains and
#   `partition`, all arguments.
# - [flax.nnx.Optimizer](https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/training/optimizer.html): `wrt`
#   and its filters.
# - [clip_grad_norm_](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html): torch's
#   clipping and its arguments.
# - [Generative Adversarial Networks](https://arxiv.org/abs/1406.2661): the two losses, and why the generator's is
#   turned round.
# - [Optax: L-BFGS](https://optax.readthedocs.io/en/latest/_collections/examples/lbfgs.html): the line search, and a
#   loop that stops by itself.
#
# Exercises: [your turn](exercises/04b_training_rules.ipynb).
#
# Next: [05 · Precision](05_precision.ipynb).
