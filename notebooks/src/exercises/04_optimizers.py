# %% [markdown]
# # 04 · Exercises: Optimizers
#
# **Can you make Optax step as PyTorch does, and where it has no such rule, write one?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../04_optimizers.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import optax
import torch

from course import checks

# %% [markdown]
# ## Exercise 1: The rule of an optimizer (4 minutes)
#
# A program is to be migrated while it trains: you get torch's optimizer as it is now, and want the rule that goes on.
#
# **Given** an optimizer, of the class `torch.optim.SGD`, `Adam` or `AdamW`. Its numbers stand in
# `optimizer.param_groups[0]`, where a scheduler may have changed the rate.

# %%
weight = torch.nn.Parameter(torch.zeros(3))
for kind in torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW:
    group = kind([weight]).param_groups[0]
    wanted = "lr", "momentum", "nesterov", "betas", "eps", "weight_decay"
    print(f"{kind.__name__:5}", {name: group[name] for name in wanted if name in group})

# %% [markdown]
# **Asked** for an Optax rule that takes the same steps, starting from a fresh state. You may ignore all settings that
# are not printed.
#
# **Checked** by walking a weight through random gradients, with random settings, on both sides.


# %% tags=["stub"]
def rule_like(optimizer):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def rule_like(optimizer):
    group = optimizer.param_groups[0]
    rate, decay = group["lr"], group["weight_decay"]
    if type(optimizer) is torch.optim.SGD:
        rule = optax.sgd(rate, momentum=group["momentum"], nesterov=group["nesterov"])
        return optax.chain(optax.add_decayed_weights(decay), rule)
    numbers = dict(zip(("b1", "b2"), group["betas"], strict=True), eps=group["eps"])
    if type(optimizer) is torch.optim.AdamW:
        return optax.adamw(rate, **numbers, weight_decay=decay)
    return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate, **numbers))


# %%
checks.ported_rule(rule_like)

# %% [markdown]
# ## Exercise 2: A loop with three slips (4 minutes)
#
# ```python
# for _ in range(steps):
#     state = rule.init(params)
#     grads = jax.grad(loss)(params)
#     updates, state = rule.update(grads, state)
#     params = jax.tree.map(lambda p, u: p - u, params, updates)
# return params
# ```
#
# **Given** this loop. It goes uphill, its momentum is forgotten, and with `optax.adamw` it raises.
#
# **Asked** for the weights after `steps` steps of the corrected loop, for any rule. Python must not call `loss` once
# per step (compile the step, or use `lax.scan`).
#
# **Checked** against torch's loop, with SGD and AdamW; the check counts how often Python calls `loss`.


# %% tags=["stub"]
def fitted(loss, params, rule, steps):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def fitted(loss, params, rule, steps):
    def step(carry, _):
        params, state = carry
        updates, state = rule.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), length=steps)
    return params


# %%
checks.fitted_weights(fitted)

# %% [markdown]
# ## Exercise 3: Warm restarts (4 minutes)
#
# ```python
# optimizer = torch.optim.SGD(weights, peak)
# scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=first, eta_min=floor)
# for epoch in range(epochs):
#     for batch in batches:  # per_epoch of them
#         ...
#         optimizer.step()
#     scheduler.step()
# ```
#
# **Given** this in PyTorch: `t` epochs after a restart the rate is `floor + (peak - floor) * (1 + cos(π t / first)) /
# 2`, and every `first` epochs it starts again.
#
# **Asked** for a schedule as Optax wants it, a function of the count of *updates*, that works under `jit`.
#
# **Checked** against torch's scheduler, over two restarts.


# %% tags=["stub"]
def warm_restarts(peak, floor, first, per_epoch):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def warm_restarts(peak, floor, first, per_epoch):
    def schedule(count):
        t = count // per_epoch % first
        return floor + (peak - floor) * (1 + jnp.cos(jnp.pi * t / first)) / 2

    return schedule


# %%
checks.restarting_rate(warm_restarts)

# %% [markdown]
# ## Exercise 4: A cautious rule (3 minutes)
#
# Momentum may move a weight against its present gradient. A *cautious* optimizer leaves such moves out
# ([Liang et al., 2024](https://arxiv.org/abs/2411.16085)). In PyTorch, for each tensor of weights `p`, where `u` is
# what the optimizer is about to subtract from it:
#
# ```python
# agree = (u * p.grad > 0).to(p.dtype)
# p -= u * agree / agree.mean().clamp(min=1e-3)
# ```
#
# **Given** any `rule` of Optax.
#
# **Asked** for the rule `cautious(rule)`, whose updates are treated in this way; its `update` must work under `jit`.
#
# **Checked** in six steps around SGD with momentum, against NumPy; then around a rule that needs the weights.


# %% tags=["stub"]
def cautious(rule):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def cautious(rule):
    def masked(u, g):
        agree = (u * g < 0).astype(u.dtype)  # Optax's updates are added
        return u * agree / jnp.maximum(agree.mean(), 1e-3)

    def update(grads, state, params=None):
        updates, state = rule.update(grads, state, params)
        return jax.tree.map(masked, updates, grads), state

    return optax.GradientTransformation(rule.init, update)


# %%
checks.cautious_rule(cautious)

# %% [markdown]
# Back to the [lesson](../04_optimizers.ipynb), or on to the next one:
# [04b · Training rules](../04b_training_rules.ipynb). [Solutions](../solutions/04_optimizers.ipynb).
