# %% [markdown]
# # 04 · Optimizers
#
# **What does an optimizer become when it owns neither the weights nor its own state?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - build PyTorch's optimizers from Optax's links, and prove by numbers that they are the same,
# - recognise the defaults, orders and arguments that differ without an error,
# - write a rule of your own,
# - schedule, read and set a learning rate, and lower it when progress ends.

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
from torch.optim import lr_scheduler

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

# %% [markdown]
# ## A rule without weights
#
# `torch.optim.Adam(model.parameters(), lr)` holds three things: references to your weights, its moments, and the
# learning rate. `step()` changes all but the rate, in place.
#
# An Optax optimizer keeps only the rate. It is a *gradient transformation*, a pair of functions: `init(params)` makes a
# state, `update(grads, state, params)` returns *updates* and the next state. `optax.chain` makes one such pair of
# several, its *links*, and most optimizers are chains. Here are both sides as a drawing, and below it the state of such
# a chain.

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

# %% [markdown]
# The state has one entry for each link. `mu` and `nu` are trees like the weights, torch's `exp_avg` and `exp_avg_sq`;
# `count` is the number of updates. The last link counts because its rate is a function of that number; a plain number
# as the rate would keep nothing.
#
# Now a step on real weights: the Titanic network of 01a to 01c and one batch. Its weights are drawn once, in torch,
# and handed to NNX and Linen, which are asked for shapes alone (`eval_shape`).

# %%
torch.manual_seed(SEED)
source = titanic_torch.TitanicMLP(width=8)
net = titanic_linen.TitanicMLP(width=8)
shapes = nnx.eval_shape(lambda: titanic_nnx.TitanicMLP(width=8, rngs=nnx.Rngs(SEED)))
model = porting.torch_to_nnx(source, shapes)
params = porting.torch_to_linen(source, jax.eval_shape(net.init, jax.random.key(SEED), x)["params"])


@jax.jit
def loss_fn(params):
    return titanic_linen.loss_fn(params, net.apply, x, y)


theirs = titanic_torch.loss_fn(source, x_torch, y_torch).item()
ours = nnx.jit(titanic_nnx.loss_fn)(model, x, y)
print(f"loss: torch {theirs:.4f}, NNX {ours:.4f}, Linen {loss_fn(params):.4f}")

# %% [markdown]
# Three losses, one number. A step by hand is three lines: gradients, `update`, `optax.apply_updates`. Beside it, the
# updates are also subtracted, as one subtracts a gradient.
#
# **Predict.** torch's step is `p -= lr * grad`. Which loss is torch's after one step of Adam, that of
# `params - updates` or that of `params + updates`?

# %% tags=["trap:apply-updates"]
rule = optax.adam(RATE)
state = rule.init(params)

grads = jax.jit(jax.grad(loss_fn))(params)
updates, state = jax.jit(rule.update)(grads, state, params)
added = optax.apply_updates(params, updates)  # jax.tree.map of p + u
taken = jax.tree.map(lambda p, u: p - u, params, updates)

titanic_torch.train_step(source, optim.Adam(source.parameters(), RATE), x_torch, y_torch)
theirs = titanic_torch.loss_fn(source, x_torch, y_torch).item()
print(f"torch after step() {theirs:.4f}")
print(f"params - updates   {loss_fn(taken):.4f}")
print(f"params + updates   {loss_fn(added):.4f}, gap below 1e-5: {abs(theirs - loss_fn(added)) < 1e-5}")

# %% [markdown]
# The sum is torch's. What `update` returns is to be *added*: it carries the learning rate and the minus already.
# Subtracted it leads uphill, from 0.69 to 0.78, without an error.
#
# In NNX, `nnx.Optimizer` wraps a rule, keeps its state in `opt_state`, and writes the new weights into the model. In
# Linen, `TrainState.apply_gradients` returns a new state ([01c](01c_titanic_linen.ipynb)). Both do the last two of the
# three lines.
#
# **Predict.** Somebody writes `optimizer.update(grads, model)`, arguments swapped. Does it raise, train the wrong
# way, or something else?

# %%
value_and_grad = nnx.jit(nnx.value_and_grad(titanic_nnx.loss_fn))
for swapped in True, False:
    trained = nnx.clone(model)
    optimizer, losses = nnx.Optimizer(trained, optax.sgd(0.5), wrt=nnx.Param), []
    for _ in range(20):
        loss, grads = value_and_grad(trained, x, y)
        if swapped:
            optimizer.update(grads, trained)
        else:
            optimizer.update(model=trained, grads=grads)
        losses.append(f"{loss:.4f}")
    print("swapped:" if swapped else "named:  ", *losses[::6], f" steps counted: {optimizer.step[...]}")


# %% [markdown]
# It trains nothing. The gradients were taken for weights and the weights for gradients, so the *gradients* were
# updated, and thrown away. The optimizer counts its steps, and the loss stays where it was. Arguments that are named
# can't be swapped.
#
# ## Same name, other numbers
#
# Is Optax's rule torch's? The quickest proof needs no network: `walk` takes one array of weights through a list of
# gradients, on both sides. To begin with, momentum: rate 1, four gradients of 1.

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


for how in {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}:
    make, rule = (lambda p, how=how: optim.SGD(p, 1.0, **how)), optax.sgd(1.0, **how)
    for name, path in zip(("torch", "Optax"), walk(make, rule, np.float32(0), np.ones(4, np.float32)), strict=True):
        print(name, *(f"{weight:8.3f}" for weight in path), "", how)


# %% [markdown]
# Momentum and Nesterov mean the same on both sides. Momentum is a sum of gradients, in which a gradient counts 0.9
# times as much with each step, and the rate multiplies the sum.
#
# Weight decay does not mean the same. `compare` makes a table of several rules: torch's, Optax's as one writes it
# first, and Optax's put right. It shows the weight that the first try gets most wrong in the end, and whether the rule
# put right stays close to torch's in all weights at all steps. The weight below is 1, and ten gradients are 0: decay is
# all that moves it. AdamW has its default decay, the other two have 0.1; the rate is 0.1 throughout.
#
# **Predict.** With equal rates and decays, which weight is smaller after ten steps of torch, SGD's or Adam's?

# %% tags=["trap:momentum-decay"]
def compare(rules, start, pushes):
    rows = {}
    for name, (make, *tries) in rules.items():
        (theirs, wrong), (_, right) = (walk(make, rule, start, pushes) for rule in tries)
        ends = (f"{path[-1].flat[np.abs(theirs - wrong)[-1].argmax()]:.3f}" for path in (theirs, wrong, right))
        rows[name] = *ends, np.abs(theirs - right).max() < 2e-5
    return pd.DataFrame(rows, index=["torch", "Optax, first try", "put right", "gap below 2e-5"]).T


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
# Decay needs the weights, so `update` must be handed them as its third argument, which most links don't ask for.

# %%
rule = optax.adamw(RATE)
with fails(ValueError):
    rule.update(jnp.zeros(1), rule.init(jnp.ones(1)))

# %% [markdown]
# How to read it: some link of the chain multiplies by the weights, and the call was `update(grads, state)`. Always hand
# over `params`: links that don't need them ignore them.
#
# Four more rules walk through five random gradients of twelve weights. Each row's name says what differs.

# %% tags=["trap:rmsprop", "trap:n-adam"]
momentum = optax.sgd(RATE, momentum=0.9)
but_first = optax.scale_by_schedule(lambda count: jnp.where(count == 0, 1.0, 0.5))
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
}  # fmt: skip
start, pushes = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(5, 4, 3)).astype(np.float32)
compare(rules, start, pushes)


# %% [markdown]
# torch's dampening starts the momentum with the whole first gradient, so halving them all is another rule. RMSprop
# decays by 0.9 in Optax. (Adagrad's `eps` is inside the root in Optax; without it, a sum of 0 still gives no step.)
# Three of the four are put right by arguments or by a link in front. torch's NAdam is another algorithm than Optax's;
# `course.optimizers` has it.
#
# ## A rule of your own
#
# AMSGrad is such a case as well: `optax.amsgrad` corrects the bias of the second moment and then takes the maximum,
# torch takes the maximum first. To get torch's, write a transformation: a named tuple for the state, and two
# functions. (`one_minus_power(b, n, dtype)` is Adam's 1 - bⁿ, computed so that float32 loses no digits:
# [02](02_same_numbers.ipynb).)

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


# %% [markdown]
# Nothing here knows a weight: `init` makes zeros in the shape of what it is handed, `update` maps over trees. It
# returns a direction; rate and minus come from a link behind it. (`safe_increment` adds 1, and stops at the largest
# int32.) `course.optimizers.amsgrad` is this rule with its arguments checked. The row below has `optax.amsgrad` as the
# first try and ours as put right.

# %% tags=["trap:amsgrad"]
ours = optax.chain(scale_by_amsgrad(), optax.scale_by_learning_rate(RATE))
written, packaged = (walk(optim.Adam, rule, start, pushes)[1] for rule in (ours, optimizers.amsgrad(RATE)))
print("ours and course.optimizers.amsgrad are equal to the bit:", (written == packaged).all())
compare({"Adam(amsgrad=True)": (lambda p: optim.Adam(p, RATE, amsgrad=True), optax.amsgrad(RATE), ours)}, start, pushes)


# %% [markdown]
# Put right, the weight is torch's. AMSGrad's price is a third tree as large as the weights.
#
# ## Schedules
#
# A torch scheduler pokes a new rate into the optimizer when *you* call `scheduler.step()`. An Optax schedule is a
# function from the number of updates to a rate, and stands where the rate would. `torch_rates` writes down the rates
# of torch's; Optax's is handed to `optax.sgd`, which gets gradients of 1.

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


rule = optax.sgd(optax.exponential_decay(RATE, transition_steps=10, decay_rate=0.1, staircase=True))
state, updates = rule.init(jnp.zeros(())), []
for _ in range(12):
    update, state = rule.update(jnp.ones(()), state)  # a gradient of 1: the update is minus the rate
    updates.append(f"{update:.2f}")
print("torch's rates  ", *(f"{rate:5.2f}" for rate in torch_rates(lambda o: lr_scheduler.StepLR(o, 10))[:12]))
print("Optax's updates", *updates, " count in the state:", *jax.tree.leaves(state))


# %% [markdown]
# The rate falls at the same update, and there was nothing to call: the optimizer's state counts. It counts batches,
# not epochs.
#
# Seven schedules follow, as one writes them first and put right. Each is named by what to look out for; the table
# shows the rates where the first try is farthest from torch's.
#
# **Predict.** `StepLR(o, 10)` keeps its rate of 0.1 for ten updates. What does `optax.exponential_decay(0.1, 10, 0.1)`
# give for the last of the ten?

# %% tags=["trap:step-lr"]
def compare_rates(schedules):
    rows = {}
    for name, (theirs, *both) in schedules.items():
        wrong, right = (np.array(jax.jit(jax.vmap(schedule))(jnp.arange(40))) for schedule in both)
        curves[name] = theirs, wrong, right
        worst = np.abs(theirs - wrong).argmax()
        rows[name] = *(f"{curve[worst]:.4f}" for curve in curves[name]), np.abs(theirs - right).max() < 1e-6
    return pd.DataFrame(rows, index=["torch", "Optax, first try", "put right", "gap below 1e-6"]).T


stairs, multi, curves = optax.exponential_decay, optax.piecewise_constant_schedule, {}
compare_rates({
    "StepLR needs staircase": (torch_rates(lambda o: lr_scheduler.StepLR(o, 10)),
        stairs(RATE, 10, 0.1), stairs(RATE, 10, 0.1, staircase=True)),
    "an epoch is 5 updates": (torch_rates(lambda o: lr_scheduler.StepLR(o, 2), every=5),
        stairs(RATE, 2, 0.1, staircase=True), stairs(RATE, 2 * 5, 0.1, staircase=True)),
    "MultiStepLR: scales multiply": (torch_rates(lambda o: lr_scheduler.MultiStepLR(o, [10, 20], gamma=0.5)),
        multi(RATE, {10: 0.5, 20: 0.25}), multi(RATE, {10: 0.5, 20: 0.5})),
})  # fmt: skip


# %% [markdown]
# An eighth of it: without `staircase=True` the rate falls a little with every update. Where torch's scheduler is called
# once an epoch, multiply its numbers by the number of batches in an epoch. And the scales of
# `piecewise_constant_schedule` multiply one another, as `gamma` does.
#
# The other four are smooth.

# %% tags=["trap:cosine-lr"]
def warm_up(o):
    parts = lr_scheduler.LinearLR(o, 0.1, total_iters=10), lr_scheduler.CosineAnnealingLR(o, 30)
    return lr_scheduler.SequentialLR(o, parts, [10])


cosine, cycle, warm = optax.cosine_decay_schedule, optax.cosine_onecycle_schedule, optax.warmup_cosine_decay_schedule
past = jnp.pi / 20
compare_rates({
    "alpha is a fraction": (torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.03)),
        cosine(RATE, 40, alpha=0.03), cosine(RATE, 40, alpha=0.03 / RATE)),
    "past T_max torch climbs": (torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 20)),
        cosine(RATE, 20), lambda step: RATE * (1 + jnp.cos(past * step)) / 2),
    "decay_steps has the warm-up": (torch_rates(warm_up),
        warm(0.01, RATE, 10, decay_steps=30), warm(0.01, RATE, 10, decay_steps=10 + 30)),
    "OneCycleLR is a step early": (torch_rates(lambda o: lr_scheduler.OneCycleLR(o, RATE, 50)),
        cycle(50, RATE), cycle(50 - 1, RATE, pct_start=14 / 49)),
})  # fmt: skip

# %% [markdown]
# `eta_min` is a rate, `alpha` the fraction of the first rate that is left. `decay_steps` is the length of the whole,
# warm-up included. What Optax has no schedule for is a function that you write, as for the cosine that climbs again.
# A picture says of all seven what the first try does.

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
# torch's `OneCycleLR` peaks one update before the place that its `pct_start` names. It also moves the momentum
# (`cycle_momentum=True`), which Optax's leaves alone.
#
# ## Read the rate, set the rate
#
# Where is the present rate? In torch it is `optimizer.param_groups[0]["lr"]`. `optax.inject_hyperparams` puts the
# numbers of a rule into its state, under `hyperparams`, where they can be read, and written between two steps of a
# jitted program. The list `traces` gets an entry whenever the function is traced, which is when it is compiled.
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
# time. In NNX the place is `optimizer.opt_state.hyperparams["learning_rate"][...]`. To *read* the rate, a schedule
# needs none of this: call it with the count.
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
# No. torch lets two bad epochs pass and acts at the third, epoch 5. Optax acts at the second bad one: give it one more.
# Optax's link wants a value with every update, and judges the mean of `accumulation_size` of them, by default of 1. The
# course's may be fed once an epoch, because an update without one does not count, and it has torch's other settings
# (`mode`, `cooldown`, …). Both are chained behind a rule: `rule.update(grads, state, params, value=loss)`, in NNX
# `optimizer.update(model, grads, value=loss)`.
#
# ## float64, almost
#
# For a comparison with torch to the last digit one turns on 64-bit mode. But Optax counts in int32, and in JAX int32
# divided by a Python integer is float32, in 64-bit mode as well. Here are four rates at a count of 7; exact are 0.03
# and, for the cosine, 0.020610737385.

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
# write the schedule yourself and divide by a float. In training this is a curiosity; in a parity test it is a riddle.
#
# ## Summary
#
# - An Optax rule is two functions. Weights and state are yours, they go in and come out. Updates are added, and the
#   order of the links in a chain is the algorithm.
# - Equal names hide unequal numbers: AdamW's decay, the place of a decay, `staircase`, `patience`. Walk one weight
#   through a few gradients on both sides before you train.
# - Two slips are silent: `update(grads, model)` trains nothing, and a schedule overwrites the rate that you set by
#   hand.
# - What Optax lacks is written in twenty lines, and runs under `jit` like the rest.
#
# ## Further reading
#
# - [Optax: Getting started](https://optax.readthedocs.io/en/latest/getting_started.html): chains, states and updates
#   in the words of their authors.
# - [flax.nnx.Optimizer](https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/training/optimizer.html): the
#   wrapper of a rule, with its `opt_state` and `step`.
# - [Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101): why AdamW, and where the decay stands.
# - [On the Convergence of Adam and Beyond](https://arxiv.org/abs/1904.09237): AMSGrad and why.
# - [torch.optim](https://docs.pytorch.org/docs/stable/optim.html): PyTorch's rules with their formulas.
#
# Exercises: [your turn](exercises/04_optimizers.ipynb).
#
# Next: [04b · Training rules](04b_training_rules.ipynb).
