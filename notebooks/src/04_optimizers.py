# %% [markdown]
# # 04 · Optimizers
#
# **What does an optimizer become when it owns neither the weights nor its own state?** (110 minutes)

# %% [markdown]
# After this lesson you can
#
# - build PyTorch's optimizers from Optax's links, and prove by numbers that they are the same,
# - recognise the defaults, orders and arguments that differ without an error,
# - schedule, read and set a learning rate, and treat some weights differently or not at all,
# - write a rule of your own, train two networks in one step, and run L-BFGS.

# %%
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import optax.contrib
import pandas as pd
import torch
from flax import nnx
from optax import sigmoid_binary_cross_entropy as cross_entropy
from torch.nn.functional import binary_cross_entropy_with_logits as torch_entropy
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course import optimizers, plots, porting
from course.data import Features, labels, load_titanic, split
from course.failures import fails
from course.optimizers import one_minus_power
from course.train import titanic_linen, titanic_nnx, titanic_torch

# %%
SEED, BATCH, RATE = 0, 32, 0.1

plots.use()
torch.set_num_threads(1)
rng, optim = np.random.default_rng(SEED), torch.optim
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train)[:BATCH], labels(train)[:BATCH]
x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y)
net = titanic_linen.TitanicMLP(width=8)
shapes = jax.eval_shape(net.init, jax.random.key(SEED), x)["params"]  # all that porting asks for


def fresh():
    """The Titanic network of 01a to 01c, three times, with the same weights."""
    torch.manual_seed(SEED)
    source = titanic_torch.TitanicMLP(width=8)
    model = porting.torch_to_nnx(source, titanic_nnx.TitanicMLP(width=8, rngs=nnx.Rngs(SEED)))
    return source, model, porting.torch_to_linen(source, shapes)


@jax.jit
def loss_fn(params):
    return titanic_linen.loss_fn(params, net.apply, x, y)


# %% [markdown]
# ## A rule without weights
#
# `torch.optim.Adam(model.parameters(), lr)` holds three things: references to your weights, its moments, and the
# learning rate. `step()` changes all but the rate, in place.
#
# An Optax optimizer holds none of them. It is a *gradient transformation*, a pair of functions: `init(params)` makes
# a state, `update(grads, state, params)` returns *updates* and the next state. `optax.chain` makes one such pair of
# several, and most optimizers are chains. The program below draws both, and prints the state of the chain; then one
# step is made by hand, in three lines: gradients, `update`, `optax.apply_updates`.

# %% alt="Above, PyTorch in orange: p.grad goes into optimizer.step, which changes the weights and moments that it holds, in place. Below, JAX in blue: gradients pass through clip, scale_by_adam and times minus rate, come out as updates, and apply_updates adds them to params, which makes new params. Under each link stands a small box with its state, with one arrow in and one arrow out."
diagram = plots.Diagram(height=3.6)
step = diagram.function(3.4, 3.2, "optimizer.step()", side="torch", width=1.6)
diagram.arrow(diagram.array(1.0, 3.2, "p.grad", side="torch", width=0.9), step, side="torch")
held = diagram.array(6.6, 3.2, "held inside:\nweights, moments, rate", side="torch", width=2.1, height=0.55)
diagram.arrow(step, held, "in place", side="torch")

links = (1.75, "clip", 0.8, "nothing"), (3.2, "scale_by_adam", 1.3, "count, mu, nu"), (4.7, "times -rate", 1.1, "count")
boxes = [diagram.array(0.6, 1.85, "grads", side="jax", width=0.8)]
for at, name, width, state in links:
    boxes.append(diagram.function(at, 1.85, name, side="jax", width=width))
    below = diagram.array(at, 0.9, state, side="jax", width=1.15, height=0.35)
    diagram.arrow((at - 0.12, 1.07), (at - 0.12, 1.63), side="jax")
    diagram.arrow((at + 0.12, 1.63), (at + 0.12, 1.07), side="jax")
boxes.append(diagram.array(6.0, 1.85, "updates", side="jax", width=0.85))
boxes.append(diagram.function(7.3, 1.85, "apply_\nupdates", side="jax", width=0.95))
for a, b in pairwise(boxes):
    diagram.arrow(a, b, side="jax")
diagram.arrow(diagram.array(7.3, 0.9, "params", side="jax", width=0.9, height=0.35), boxes[-1], side="jax")
diagram.arrow(boxes[-1], diagram.array(7.3, 2.55, "new params", side="jax", width=1.0, height=0.35), side="jax")
diagram.note(3.2, 0.45, "state: handed in, handed out, owned by you")
plt.show()
chain = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale_by_learning_rate(lambda n: RATE))
print(*(f"{type(part).__name__}{part._fields}" for part in chain.init(jnp.zeros(3))), sep="\n")

# %% tags=["trap:apply-updates"]
source, model, params = fresh()
rule = optax.adam(RATE)
state = rule.init(params)

loss, grads = jax.jit(jax.value_and_grad(loss_fn))(params)
updates, state = jax.jit(rule.update)(grads, state, params)
added = optax.apply_updates(params, updates)  # jax.tree.map of p + u
taken = jax.tree.map(lambda p, u: p - u, params, updates)  # as one subtracts a gradient

titanic_torch.train_step(source, optim.Adam(source.parameters(), RATE), x_torch, y_torch)
theirs = titanic_torch.loss_fn(source, x_torch, y_torch).item()
print(f"before {loss:.4f}, torch after step() {theirs:.4f}")
print(f"params + updates {loss_fn(added):.4f}, gap below 1e-5: {abs(theirs - loss_fn(added)) < 1e-5}")
print(f"params - updates {loss_fn(taken):.4f}")


# %% [markdown]
# The state has one entry for each link. `mu` and `nu` are trees like the weights, torch's `exp_avg` and `exp_avg_sq`;
# `count` is the number of updates. What `update` returns is to be *added*: it carries the learning rate and the minus
# already. Subtracted, as one subtracts a gradient, it leads uphill.
#
# In NNX, `nnx.Optimizer` wraps a rule, keeps its state in `opt_state`, and writes the new weights into the model. In
# Linen, `TrainState.apply_gradients` returns a new state ([01c](01c_titanic_linen.ipynb)). Both do those three lines.
#
# **Predict.** Somebody writes `optimizer.update(grads, model)`, arguments swapped. Does it raise, train the wrong
# way, or something else?

# %%
def train_nnx(swapped):
    (_, model, _), value_and_grad = fresh(), nnx.jit(nnx.value_and_grad(titanic_nnx.loss_fn))
    optimizer, losses = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param), []
    for _ in range(20):
        loss, grads = value_and_grad(model, x, y)
        if swapped:
            optimizer.update(grads, model)
        else:
            optimizer.update(model=model, grads=grads)
        losses.append(f"{loss:.4f}")
    return losses[::6], optimizer.step[...]


for name, swapped in ("update(grads, model)", True), ("update(model=model, grads=grads)", False):
    losses, count = train_nnx(swapped)
    print(f"{name}: losses {' '.join(losses)}, steps counted: {count}")


# %% [markdown]
# It trains nothing. The gradients were taken for weights and the weights for gradients, so the *gradients* were
# updated, and thrown away. The optimizer counts its steps, and the loss stays where it was. Arguments that are named
# can't be swapped.
#
# ## Same name, other numbers
#
# Two helpers for what follows. `walk` takes one array of weights through a list of gradients, in torch and in Optax.
# `compare` does so for a table of rules: torch's, Optax's as one writes it first, and put right. It shows the weight
# that the first try gets most wrong in the end, and whether the rule put right stays close to torch's in all weights
# at all steps. To begin with, momentum: rate 1, four gradients of 1.

# %%
def walk(make, rule, start, pushes):
    weight, ours, update = torch.nn.Parameter(torch.tensor(start)), jnp.asarray(start), jax.jit(rule.update)
    optimizer, state, paths = make([weight]), rule.init(ours), ([], [])
    for push in pushes:
        weight.grad = torch.tensor(push)
        optimizer.step()
        updates, state = update(push, state, ours)
        ours = optax.apply_updates(ours, updates)
        paths[0].append(weight.detach().numpy().copy()), paths[1].append(ours)
    return np.stack(paths[0]), np.stack(paths[1])  # (steps, …) each


def compare(rules, start, pushes):
    rows = {}
    for name, (make, *tries) in rules.items():
        (theirs, wrong), (_, right) = (walk(make, rule, start, pushes) for rule in tries)
        ends = (f"{path[-1].flat[np.abs(theirs - wrong)[-1].argmax()]:.3f}" for path in (theirs, wrong, right))
        rows[name] = *ends, np.abs(theirs - right).max() < 2e-5
    return pd.DataFrame(rows, index=["torch", "Optax, first try", "put right", "gap below 2e-5"]).T


rules = {}
for how in {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}:
    rules[str(how)] = lambda p, how=how: optim.SGD(p, 1.0, **how), *[optax.sgd(1.0, **how)] * 2
compare(rules, np.zeros(1, np.float32), np.ones((4, 1), np.float32))

# %% [markdown]
# Momentum and Nesterov mean the same on both sides: the first try is right. Momentum is a sum of gradients, in which
# a gradient counts 0.9 times as much with each step, and the rate multiplies the sum.
#
# Weight decay does not mean the same. The weight below is 1, and ten gradients are 0: decay is all that moves it.
# AdamW has its default decay, the other two have 0.1; the rate is 0.1 throughout.
#
# **Predict.** With equal rates and decays, which weight is smaller after ten steps, that of SGD or that of Adam?

# %% tags=["trap:momentum-decay"]
decay, sgd = optax.add_decayed_weights(0.1), optax.sgd(RATE)
rules = {
    "AdamW(p, 0.1)": (lambda p: optim.AdamW(p, RATE), optax.adamw(RATE), optax.adamw(RATE, weight_decay=0.01)),
    "SGD(p, 0.1, weight_decay=0.1)": (
        lambda p: optim.SGD(p, RATE, weight_decay=0.1), optax.chain(sgd, decay), optax.chain(decay, sgd)),
    "Adam(p, 0.1, weight_decay=0.1)": (
        lambda p: optim.Adam(p, RATE, weight_decay=0.1), optax.adamw(RATE, weight_decay=0.1),
        optax.chain(decay, optax.adam(RATE))),
}  # fmt: skip
compare(rules, np.ones(1, np.float32), np.zeros((10, 1), np.float32))


# %% [markdown]
# Adam's, by far. torch adds this decay to the gradient, and Adam divides gradients by their size: a small decay
# becomes steps as long as the rate. AdamW mends that, so `optax.adamw` is no stand-in for
# `torch.optim.Adam(weight_decay=…)`. Put the decay in front of `optax.adam`. Behind `optax.sgd` it is neither
# multiplied by the rate nor negated, and the weight *grows*. AdamW's slip is the quiet one: the default decay is 0.01
# in torch and 0.0001 in Optax.
#
# ## A rule of your own
#
# Some torch rules are other algorithms than Optax's of the same name. `optax.amsgrad` corrects the bias of the second
# moment and then takes the maximum, torch takes the maximum first. To get torch's, write a transformation: a named
# tuple for the state, and two functions. It returns a direction; rate and minus come from a link behind it.
# (`one_minus_power(b, n, dtype)` is Adam's 1 - bⁿ, computed so that float32 loses no digits:
# [02](02_same_numbers.ipynb).)
#
# Five rules then walk through five random gradients, ours among them.

# %%
class AMSGradState(NamedTuple):
    count: jax.Array  # updates so far, ()
    mu: optax.Updates  # moments: trees like the weights
    nu: optax.Updates
    nu_max: optax.Updates  # the largest second moments so far


def scale_by_amsgrad(b1=0.9, b2=0.999, eps=1e-8):
    def init(params):
        zeros = (jax.tree.map(jnp.zeros_like, params) for _ in range(3))
        return AMSGradState(jnp.zeros((), jnp.int32), *zeros)

    def update(updates, state, params=None):
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)

        def step(m, v):
            root = jnp.sqrt(v) / jnp.sqrt(one_minus_power(b2, count, v.dtype))
            return m / one_minus_power(b1, count, m.dtype) / (root + eps)

        return jax.tree.map(step, mu, nu_max), AMSGradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


# %% tags=["trap:rmsprop", "trap:n-adam", "trap:amsgrad"]
momentum = optax.sgd(RATE, momentum=0.9)
but_first = optax.scale_by_schedule(lambda count: jnp.where(count == 0, 1.0, 0.5))
ours = optax.chain(scale_by_amsgrad(), optax.scale_by_learning_rate(RATE))
rules = {
    "SGD: dampening spares the first": (
        lambda p: optim.SGD(p, RATE, momentum=0.9, dampening=0.5),
        optax.chain(optax.scale(0.5), momentum), optax.chain(but_first, momentum)),
    "RMSprop: 0.99, eps outside the root": (
        lambda p: optim.RMSprop(p, RATE), optax.rmsprop(RATE), optax.rmsprop(RATE, decay=0.99, eps_in_sqrt=False)),
    "Adagrad: sums start at 0, not 0.1": (
        lambda p: optim.Adagrad(p, RATE), optax.adagrad(RATE),
        optax.adagrad(RATE, initial_accumulator_value=0.0, eps=0.0)),
    "NAdam: the momentum rises slowly": (
        lambda p: optim.NAdam(p, RATE), optax.nadam(RATE), optimizers.nadam(RATE)),
    "Adam(amsgrad=True): ours": (lambda p: optim.Adam(p, RATE, amsgrad=True), optax.amsgrad(RATE), ours),
}  # fmt: skip
start, pushes = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(5, 4, 3)).astype(np.float32)
written, packaged = (walk(optim.Adam, rule, start, pushes)[1] for rule in (ours, optimizers.amsgrad(RATE)))
print("ours and course.optimizers.amsgrad are equal to the bit:", (written == packaged).all())
compare(rules, start, pushes)


# %% [markdown]
# Each name says what differed; the last column covers all twelve weights at all steps. torch's dampening starts the
# momentum with the whole first gradient, so halving them all is another rule. RMSprop decays by 0.9 in Optax.
# `course.optimizers` has torch's NAdam, and this AMSGrad with its arguments checked. AMSGrad's price is a third tree
# as large as the weights.
#
# ## Schedules
#
# A torch scheduler pokes a new rate into the optimizer when *you* call `scheduler.step()`. An Optax schedule is a
# function from the number of updates to a rate, and stands where the rate would. There is nothing to call: the
# optimizer's state counts, and it counts batches, not epochs.
#
# First one schedule at work, then seven as one writes them first and put right, each named by what to look out for,
# then the same seven as curves.

# %%
def torch_rates(make, every=1):
    optimizer, rates = optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE), []
    scheduler = make(optimizer)
    for step in range(1, 41):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return np.array(rates)


def warm_up(o):
    parts = lr_scheduler.LinearLR(o, 0.1, total_iters=10), lr_scheduler.CosineAnnealingLR(o, 30)
    return lr_scheduler.SequentialLR(o, parts, [10])


rule = optax.sgd(optax.exponential_decay(RATE, transition_steps=10, decay_rate=0.1, staircase=True))
state, updates = rule.init(jnp.zeros(())), []
for _ in range(12):
    update, state = rule.update(jnp.ones(()), state)  # a gradient of 1: the update is minus the rate
    updates.append(f"{update:.2f}")
print("torch's rates  ", *(f"{rate:5.2f}" for rate in torch_rates(lambda o: lr_scheduler.StepLR(o, 10))[:12]))
print("Optax's updates", *updates, " count in the state:", *jax.tree.leaves(state))

# %% tags=["trap:step-lr"]
stairs, multi, cosine = optax.exponential_decay, optax.piecewise_constant_schedule, optax.cosine_decay_schedule
cycle, warm, past = optax.cosine_onecycle_schedule, optax.warmup_cosine_decay_schedule, jnp.pi / 20
schedules = {  # torch's, as first written, put right
    "StepLR needs staircase": (torch_rates(lambda o: lr_scheduler.StepLR(o, 10)),
        stairs(RATE, 10, 0.1), stairs(RATE, 10, 0.1, staircase=True)),
    "an epoch is 5 updates": (torch_rates(lambda o: lr_scheduler.StepLR(o, 2), every=5),
        stairs(RATE, 2, 0.1, staircase=True), stairs(RATE, 2 * 5, 0.1, staircase=True)),
    "MultiStepLR: scales multiply": (torch_rates(lambda o: lr_scheduler.MultiStepLR(o, [10, 20], gamma=0.5)),
        multi(RATE, {10: 0.5, 20: 0.25}), multi(RATE, {10: 0.5, 20: 0.5})),
    "alpha is a fraction of it": (torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.03)),
        cosine(RATE, 40, alpha=0.03), cosine(RATE, 40, alpha=0.03 / RATE)),
    "past T_max torch climbs": (torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 20)),
        cosine(RATE, 20), lambda step: RATE * (1 + jnp.cos(past * step)) / 2),
    "decay_steps has the warm-up": (torch_rates(warm_up),
        warm(0.01, RATE, 10, decay_steps=30), warm(0.01, RATE, 10, decay_steps=10 + 30)),
    "OneCycleLR is a step early": (torch_rates(lambda o: lr_scheduler.OneCycleLR(o, RATE, 50)),
        cycle(50, RATE), cycle(50 - 1, RATE, pct_start=14 / 49)),
}  # fmt: skip
curves, gaps, counts = {}, {}, jnp.arange(40)
for name, (theirs, *both) in schedules.items():
    wrong, right = (np.array(jax.jit(jax.vmap(schedule))(counts)) for schedule in both)
    curves[name] = theirs, wrong, right
    gaps[name] = f"{abs(theirs - wrong).max():.4f}", abs(theirs - right).max() < 1e-6
pd.DataFrame(gaps, index=["first try: largest gap", "put right: gap below 1e-6"]).T

# %% alt="Seven small plots of the learning rate over 40 updates. In each, PyTorch's orange dashed curve lies exactly on Optax's blue one, put right, while the black dotted first try leaves them: it falls smoothly instead of in stairs, falls five times too early, drops too deep, ends too low, stays at zero, ends ten updates early, or peaks one update late."
figure, axes = plt.subplots(2, 4, figsize=(plots.WIDTH, 3.9), sharex=True, sharey=True)
for axis, (name, (theirs, wrong, right)) in zip(axes.flat, curves.items(), strict=False):
    axis.plot(right, color=plots.JAX, linewidth=4, alpha=0.5, marker="", label="Optax, put right")
    axis.plot(theirs, color=plots.TORCH, linestyle="--", linewidth=1.4, marker="", label="PyTorch")
    axis.plot(wrong, color="black", linestyle=":", linewidth=1.4, marker="", label="Optax, first try")
    axis.set_title(name, fontsize=8.5)
for axis in (*axes[1, :3], axes[0, 3]):
    axis.set_xlabel("update")
axes[0, 3].tick_params(labelbottom=True)
axes[0, 0].set_ylabel("rate"), axes[1, 0].set_ylabel("rate")
axes[1, 3].axis("off")
axes[1, 3].legend(*axes[0, 0].get_legend_handles_labels(), loc="center", frameon=False)
plt.show()
print("OneCycleLR peaks at update", theirs.argmax(), "and the first try at", wrong.argmax())

# %% [markdown]
# One thing more about `OneCycleLR`: torch's moves the momentum as well (`cycle_momentum=True`).
#
# ## Read the rate, set the rate
#
# Where is the present rate? In torch it is `optimizer.param_groups[0]["lr"]`. `optax.inject_hyperparams` puts the
# numbers of a rule into its state, under `hyperparams`, where they can be read, and written between two steps of a
# jitted program. A list that the traced function appends to counts how often it is traced.
#
# **Predict.** The rate is set to 5 by hand, once where the rule was made with a number, once with a schedule. Which
# next steps have length 5?

# %%
for name, rate in ("number", RATE), ("schedule", optax.exponential_decay(RATE, 1, 0.9)):
    rule, traces = optax.inject_hyperparams(optax.sgd)(learning_rate=rate), []
    update = jax.jit(lambda grad, state, rule=rule, traces=traces: traces.append("traced") or rule.update(grad, state))
    state = rule.init(jnp.zeros(()))
    for words, setting in {"as made": None, "set to jnp.float32(5.0)": jnp.float32(5.0), "set to 5.0": 5.0}.items():
        if setting is not None:
            state.hyperparams["learning_rate"] = setting
        step, state = update(jnp.ones(()), state)
        now = state.hyperparams["learning_rate"]
        print(f"made with a {name:8} {words:23} update {step:.3f}, rate in the state {now:.3f}, traces {len(traces)}")

# %% [markdown]
# Made with a number, the next step has length 5. Made with a schedule, the update computes the rate anew and forgets
# yours, without a word. And write an array: a Python number has another (weak) type, so the step is compiled a second
# time. In NNX the place is `optimizer.opt_state.hyperparams["learning_rate"][...]`.
#
# ## When progress ends
#
# A rate that depends on the loss can't be a function of the count. torch has `ReduceLROnPlateau`, Optax
# `optax.contrib.reduce_on_plateau`, a link that is handed `value=loss` with the update.
#
# **Predict.** The loss is stuck from epoch 2 on. Both sides are told `patience=2`. Do they lower the rate at the same
# epoch?

# %% tags=["trap:plateau"]
losses = [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
optimizer = optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
rates = {"torch, patience=2": [scheduler.step(loss) or optimizer.param_groups[0]["lr"] for loss in losses]}
for name, link in {
    "optax.contrib, patience=2": optax.contrib.reduce_on_plateau(patience=2),
    "optax.contrib, patience=3": optax.contrib.reduce_on_plateau(patience=3),
    "course.optimizers, patience=2": optimizers.reduce_on_plateau(patience=2, learning_rate=RATE),
}.items():
    state, update, rates[name] = link.init(jnp.zeros(())), jax.jit(link.update), []
    for loss in losses:
        scaled, state = update(jnp.asarray(RATE), state, value=loss)
        rates[name].append(float(scaled))
pd.DataFrame(rates, index=[f"epoch {n}" for n in range(1, 8)]).T.round(5)

# %% [markdown]
# No. torch lets two bad epochs pass and acts at the third, epoch 5. Optax acts at the second bad one: give it one
# more. Optax's link wants a value with every update. The course's may be fed once an epoch, because an update without
# one does not count, and it has torch's other settings (`mode`, `cooldown`, …). Both are chained behind a rule:
# `rule.update(grads, state, params, value=loss)`, in NNX `optimizer.update(model, grads, value=loss)`.
#
# ## Some weights differently
#
# torch has parameter groups. Optax has trees: `optax.partition` takes rules by name, and a tree of names, in which
# one name may stand for a whole branch. AdamW takes a *mask* for its decay, a tree of booleans or a function that
# makes one. Below, the last layer learns ten times as fast, and only matrices decay.

# %%
source, model, params = fresh()
groups = [{"params": [weight], "lr": rate, "weight_decay": 0.5 if weight.ndim > 1 else 0.0}
          for layer, rate in ((source.hidden, 0.01), (source.out, 0.1)) for weight in layer.parameters()]  # fmt: skip
titanic_torch.train_step(source, optim.AdamW(groups), x_torch, y_torch)
rows = {"torch, groups": [source.hidden.weight[0, 0].item(), source.hidden.bias[0].item(), source.out.bias[0].item()]}

for name, mask in ("no mask", None), ("mask", lambda params: jax.tree.map(lambda p: p.ndim > 1, params)):
    slow, fast = (optax.adamw(rate, weight_decay=0.5, mask=mask) for rate in (0.01, 0.1))
    rule = optax.partition({"slow": slow, "fast": fast}, {"hidden": "slow", "out": "fast"})
    updates, _ = rule.update(grads, rule.init(params), params)
    new = optax.apply_updates(params, updates)
    rows[f"Optax, {name}"] = [new["hidden"]["kernel"][0, 0], new["hidden"]["bias"][0], new["out"]["bias"][0]]
table = pd.DataFrame(rows, index=["a hidden weight", "a hidden bias", "the last bias"]).T.astype(float)
print("with the mask, gap below 1e-5:", (table.iloc[0] - table.iloc[2]).abs().max() < 1e-5)
table.round(4)

# %% [markdown]
# Without a mask biases decay, in torch too if there are no groups.
#
# To freeze the hidden layer, torch says `requires_grad_(False)`. Optax has `optax.masked(rule, mask)`: "apply the
# rule where the mask is true". That sounds like freezing the rest.
#
# **Predict.** By how much does a weight move for which the mask is false?

# %% tags=["trap:freeze"]
source, model, params = fresh()
source.hidden.requires_grad_(False)
titanic_torch.train_step(source, optim.SGD(source.parameters(), RATE), x_torch, y_torch)
theirs = titanic_torch.loss_fn(source, x_torch, y_torch)

loss, grads = jax.value_and_grad(loss_fn)(params)
at = np.unravel_index(abs(grads["hidden"]["kernel"]).argmax(), grads["hidden"]["kernel"].shape)
print(f"loss {loss:.4f}; a hidden weight has the gradient {grads['hidden']['kernel'][at]:+.4f}")
moved = source.hidden.weight.T[at].item() - params["hidden"]["kernel"][at]
print(f"torch      moves it by {moved:+.4f}, loss {theirs:.4f}")
for name, rule in {
    "masked": optax.masked(sgd, {"hidden": False, "out": True}),
    "partition": optax.partition({"on": sgd, "off": optax.set_to_zero()}, {"hidden": "off", "out": "on"}),
}.items():
    updates, _ = rule.update(grads, rule.init(params), params)
    new = optax.apply_updates(params, updates)
    print(f"{name:10} moves it by {updates['hidden']['kernel'][at]:+.4f}, loss {loss_fn(new):.4f}")

# %% [markdown]
# By its whole gradient, uphill: `masked` passes through what it leaves out, and `apply_updates` adds it. What freezes
# is `optax.partition` with `optax.set_to_zero()`.
#
# In NNX one freezes by *filter* ([03](03_state_and_trees.ipynb)). `wrt=` says which variables the optimizer keeps
# state for and changes. `nnx.DiffState(0, filter)` says "differentiate by argument 0, these variables of it", so that
# the gradient of the rest is not even computed. The two must agree.

# %%
head = nnx.All(nnx.Param, nnx.PathContains("out"))
head_grads = nnx.grad(titanic_nnx.loss_fn, argnums=nnx.DiffState(0, head))(model, x, y)

with fails(ValueError):  # gradients of the head, an optimizer of everything
    nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param).update(model, head_grads)

nnx.Optimizer(model, sgd, wrt=head).update(model, head_grads)
for name, theirs, ours in (("hidden", source.hidden, model.hidden), ("out", source.out, model.out)):
    pair = theirs.weight[0, 0].item(), ours.kernel[...][0, 0].item()
    print(f"{name:7} torch {pair[0]:+.4f}   NNX {pair[1]:+.4f}   gap below 1e-6: {abs(pair[0] - pair[1]) < 1e-6}")

# %% [markdown]
# How to read it: "different numbers of pytree children" (older versions: "Mismatch custom node data") means that two
# trees met in one `tree.map`, and `hidden`, the key in the last line, names the branch that one of them lacks.
#
# ## Clipping and accumulation
#
# Clipping is a link in front: `optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE))`. Below, gradients of
# three sizes are clipped to the norm at the left; what is left should be 1 times that. Accumulation is a rule around
# a rule, `optax.MultiSteps`; below it handles two batches as one.

# %% tags=["trap:clip-tiny-norm"]
for largest in (1.0, 1e-3, 1e-6):
    push = np.float32(largest) * pushes[0]
    weight = torch.nn.Parameter(torch.zeros(4, 3))
    weight.grad = torch.tensor(push)
    torch.nn.utils.clip_grad_norm_([weight], largest)
    left = [weight.grad.norm().item() / largest]
    for clip in (optax.clip_by_global_norm(largest), optimizers.clip_by_global_norm(largest)):
        clipped, _ = clip.update(push, clip.init(push))
        left.append(float(optax.tree.norm(clipped)) / largest)
    print(f"{largest:5.0e}: torch leaves {left[0]:.3f}, Optax {left[1]:.3f}, course.optimizers {left[2]:.3f}")

# %% tags=["trap:accumulate"]
weights = torch.nn.Parameter(torch.tensor(start))
for push in pushes[:2]:
    (weights * torch.tensor(push)).sum().backward()  # no zero_grad between
optim.SGD([weights], RATE).step()
print(f"torch: one weight {start[0, 0]:.4f}, after two batches and one step {weights[0, 0]:.4f}")

for name, inner in ("sgd", sgd), ("chain(scale(2.0), sgd)", optax.chain(optax.scale(2.0), sgd)):
    _, path = walk(optim.SGD, optax.MultiSteps(inner, every_k_schedule=2), start, pushes[:2])
    near = np.abs(path[1] - weights.detach().numpy()).max() < 1e-6
    print(f"MultiSteps({name}, 2): {path[0, 0, 0]:.4f}, then {path[1, 0, 0]:.4f}   gap below 1e-6: {near}")

# %% [markdown]
# torch divides by the norm *plus 1e-6*, Optax by the norm. At ordinary norms that is a millionth; where gradients are
# tiny, torch clips more than it was asked to. `course.optimizers.clip_by_global_norm` does as torch does.
#
# `MultiSteps` leaves the weights alone until the last batch of a group, and then takes the *mean* where torch's
# `.grad` holds the sum. torch code that divides its loss by the number of batches needs no factor. The price is one
# more tree as large as the weights, where torch has `.grad` anyway.
#
# ## A moving average of the weights
#
# torch's `AveragedModel` starts at the first weights. `optax.ema` starts at zero and corrects for that, which is
# another average; it is made for updates. `optax.incremental_update` is torch's. Here a weight makes its noisy way
# up.

# %% tags=["trap:moving-average"] alt="A noisy rising row of dots, the weight, and three averages over 25 updates. The orange dashed line of torch's AveragedModel lies on the blue one of optax.incremental_update; both start at the first weight and lag behind. The green line of optax.ema leaves them at once, keeps closer to the weight, and stays a little above them in the end."
path = 1 + np.arange(25) / 8 + 0.4 * rng.normal(size=25)
live = torch.nn.Linear(1, 1, bias=False)
average = AveragedModel(live, multi_avg_fn=get_ema_multi_avg_fn(0.9))
ema, smooth = optax.ema(0.9), jnp.float32(path[0])
state, rows = ema.init(smooth), []
for weight in map(jnp.float32, path):
    live.weight.data.fill_(weight.item())
    average.update_parameters(live)
    smooth = optax.incremental_update(weight, smooth, step_size=0.1)
    corrected, state = ema.update(weight, state)
    rows.append([smooth.item(), average.module.weight.item(), corrected.item()])
smooth, theirs, corrected = np.array(rows).T

figure, axis = plt.subplots()
axis.plot(path, color="grey", linestyle="", marker=".", label="the weight")
axis.plot(smooth, color=plots.JAX, linewidth=4, alpha=0.5, marker="", label="optax.incremental_update")
axis.plot(theirs, color=plots.TORCH, linestyle="--", marker="", label="torch AveragedModel")
axis.plot(corrected, color=plots.OTHERS[0], linestyle="-.", marker="", label="optax.ema")
axis.set(xlabel="update", ylabel="value")
axis.legend()
plt.show()
words = "at update {}: incremental_update {:.3f}, AveragedModel {:.3f}, optax.ema {:.3f}"
print(*(words.format(n, *rows[n]) for n in (0, 1, 24)), sep="\n")
print("gap of the first two below 1e-5:", abs(smooth - theirs).max() < 1e-5)

# %% [markdown]
# The number is spelt the other way round: `step_size=0.1` is torch's decay of 0.9. The average is one more tree that
# you own and save; running statistics of BatchNorm do not fit it.
#
# ## float64, almost
#
# For a comparison with torch to the last digit one turns on 64-bit mode. But Optax counts in int32, and in JAX int32
# divided by a Python number is float32, in 64-bit mode as well. Here are four rates of the seventh update; exact are
# 0.03 and, for the cosine, 0.020610737385.

# %%
jax.config.update("jax_enable_x64", True)  # for the rest of this lesson; in a program, its first line
linear, count = optax.linear_schedule(0.1, 0.0, transition_steps=10), jnp.asarray(7, jnp.int32)
for name, schedule in {
    "linear_schedule": linear,
    "linear_schedule of a float": lambda step: linear(jnp.asarray(step, float)),
    "written out, step / 10.0": lambda step: 0.1 * (1 - step / 10.0),
    "cosine_decay_schedule": optax.cosine_decay_schedule(0.1, 10),
}.items():
    rate = jnp.asarray(schedule(count))
    print(f"{name:28} {rate:.12f}  {rate.dtype}")

# %% [markdown]
# The linear schedule divides the count and returns float32: 1e-9 off, and so are the steps. `exponential_decay` and
# `warmup_cosine_decay_schedule` do the same. Hand them a float, `lambda step: schedule(jnp.asarray(step, float))`, or
# write the division with a float. In training this is a curiosity; in a parity test it is a riddle.
#
# ## Two optimizers in one step
#
# A small GAN: a generator turns two random numbers into one, a discriminator tells those from samples around 3. Each
# has its own loss and its own optimizer. In torch both losses write into `.grad`. So there is a `detach`, and a
# `zero_grad` of the discriminator after the generator's loss went through it. In NNX each loss is differentiated by
# its first argument, the other network is only read, and gradients are return values: nothing to detach, nothing to
# zero. Both optimizers are arguments of one jitted step, which writes back what changed in all four objects.

# %%
torch.manual_seed(SEED)
generator, discriminator = (titanic_torch.TitanicMLP(size, 16).double() for size in (2, 1))  # any small network
networks = [porting.torch_to_nnx(source, titanic_nnx.TitanicMLP(size, 16, rngs=nnx.Rngs(SEED)))
            for source, size in ((generator, 2), (discriminator, 1))]  # fmt: skip
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
# Equal within 1e-9 over 100 steps, with two different rules; the fakes pass 3 and come back. What is an order of
# calls in torch's loop is a matter of arguments in JAX. (With Linen the generator's loss must be handed the
# discriminator's *new* params; here they were updated in place.)
#
# ## L-BFGS
#
# `torch.optim.LBFGS` wants a closure, because its line search asks for the loss again and again. Below it walks
# through Rosenbrock's banana, and every call is counted. Then the same with `optax.lbfgs`. One update of Optax's is
# *one* iteration. The line search runs inside the compiled program, so `update` must be handed the function beside
# value and gradient. `optax.value_and_grad_from_state` takes both from the state, where the last search left them.
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


# %%
def counted(w):
    calls.append("traced")
    return rosenbrock(w)


@jax.jit
def lbfgs_step(w, state):
    value, grad = value_and_grad(w, state=state)
    updates, state = rule.update(grad, state, w, value=value, grad=grad, value_fn=counted)
    return optax.apply_updates(w, updates), state


rule, value_and_grad, calls = optax.lbfgs(), optax.value_and_grad_from_state(counted), []
w, searched = jnp.array([-1.2, 1.0]), 0
state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), rule.init(w))  # no weak types: compiled once
with fails(TypeError):  # what suits every other rule
    jax.jit(rule.update)(jax.grad(rosenbrock)(w), state, w)
for step in range(1, 34):
    w, state = lbfgs_step(w, state)
    searched += int(optax.tree.get(state, "num_linesearch_steps"))
    if step in (19, 33):
        print(f"Optax, step {step}: {searched} evaluations, loss {rosenbrock(w):.1e}; Python saw {len(calls)} calls")

# %% [markdown]
# One `step()` of torch's is up to 20 iterations, here 19, because 25 calls are its other limit. The TypeError names
# what the call lacks: `value`, `grad`, `value_fn`. Iteration for iteration both do about the same work (Optax
# remembers the last 10 of them, `memory_size`; torch 100, `history_size`). But Python sees Optax's function only
# while it is traced: inside `jit`, a counter in Python counts traces, not work.
#
# ## Summary
#
# - An Optax rule is two functions. Weights and state are yours, they go in and come out. Updates are added, and the
#   order of the links in a chain is the algorithm.
# - Equal names hide unequal numbers: AdamW's decay, the place of a decay, `staircase`, `patience`, the mean of
#   `MultiSteps`. Walk one weight through a few gradients on both sides before you train.
# - Three slips are silent: `update(grads, model)` trains nothing, `optax.masked` moves what it should freeze, and a
#   schedule overwrites the rate that you set by hand.
# - What Optax lacks is written in twenty lines, and runs under `jit` like the rest. Two optimizers are two states in
#   one step; L-BFGS must be handed the function.
#
# ## Further reading
#
# - [Optax: Getting started](https://optax.readthedocs.io/en/latest/getting_started.html): chains, states and updates
#   in the words of their authors.
# - [flax.nnx.Optimizer](https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/training/optimizer.html): the
#   wrapper and its filters.
# - [Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101): why AdamW, and where the decay stands.
# - [On the Convergence of Adam and Beyond](https://arxiv.org/abs/1904.09237): AMSGrad and why.
# - [torch.optim](https://docs.pytorch.org/docs/stable/optim.html): PyTorch's rules with their formulas.
#
# Next: [05 · Precision](05_precision.ipynb).
