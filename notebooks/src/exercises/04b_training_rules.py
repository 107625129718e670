# %% [markdown]
# # 04b · Exercises: Training rules
#
# **Can you train some weights, some rows and some steps in a way of their own?** (10 minutes)

# %% [markdown]
# Four exercises to the [lesson](../04b_training_rules.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from course import checks

# %% [markdown]
# ## Exercise 1: A rate for every depth (3 minutes)
#
# To fine-tune a deep network one lets each layer learn more slowly than the one above it. In PyTorch:
#
# ```python
# depth = len(layers)
# groups = [{"params": head.parameters(), "lr": rate}]
# for i, layer in enumerate(layers):
#     groups.append({"params": layer.parameters(), "lr": rate * factor ** (depth - i)})
# optimizer = torch.optim.Adam(groups)
# ```
#
# **Given** `params`, a dict with the branches `"layer0"`, `"layer1"`, … (there may be a dozen) and `"head"`.
#
# **Asked** for Optax's rule with the same steps.
#
# **Checked** against torch's groups, with few layers and with many.


# %% tags=["stub"]
def layerwise(params, rate, factor):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def layerwise(params, rate, factor):
    depth = len(params) - 1
    numbers = {name: depth if name == "head" else int(name.removeprefix("layer")) for name in params}
    rules = {name: optax.adam(rate * factor ** (depth - number)) for name, number in numbers.items()}
    return optax.partition(rules, {name: name for name in params})


# %%
checks.layerwise_rates(layerwise)

# %% [markdown]
# ## Exercise 2: A large batch in small parts (3 minutes)
#
# ```python
# for a, b in zip(x.chunk(parts), y.chunk(parts)):
#     (loss(params, a, b) / parts).backward()
# ```
#
# **Given** this loop, which holds the activations of one part at a time; in JAX `loss(params, x, y)`, a mean over rows,
# `params`, a dict of arrays, and arrays `x`, `y` whose number of rows is a multiple of `parts`.
#
# **Asked** for the gradient, a dict like `params`, in a program that does not grow with `parts`: a `lax.scan`.
#
# **Checked** against torch's `.grad`; then the check looks at the rows that `loss` is handed, at how often it is
# traced, and for a loop in the recorded program.


# %% tags=["stub"]
def in_parts(loss, params, x, y, parts):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def in_parts(loss, params, x, y, parts):
    def add(total, part):
        return jax.tree.map(jnp.add, total, jax.grad(loss)(params, *part)), None

    split = [array.reshape(parts, -1, *array.shape[1:]) for array in (x, y)]
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), split)
    return jax.tree.map(lambda g: g / parts, total)


# %%
checks.gradient_in_parts(in_parts)

# %% [markdown]
# ## Exercise 3: Biases only (3 minutes)
#
# ```python
# for name, p in model.named_parameters():
#     p.requires_grad_(name.endswith("bias"))
# optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=decay)
# ```
#
# **Given** an NNX model, `loss(model, x, y)`, a `rule` of Optax, and a list of pairs `(x, y)`.
#
# **Asked** for a step with each batch, that trains the biases and leaves every other weight alone to the bit. No
# gradient and no moment of the others is to be kept. Return the `nnx.Optimizer`.
#
# **Checked** with AdamW, which decays whatever it is given; biases against torch's.


# %% tags=["stub"]
def train_biases(model, loss, rule, batches):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def train_biases(model, loss, rule, batches):
    biases = nnx.All(nnx.Param, nnx.PathContains("bias"))
    optimizer = nnx.Optimizer(model, rule, wrt=biases)
    grad = nnx.grad(loss, argnums=nnx.DiffState(0, biases))
    for x, y in batches:
        optimizer.update(model, grad(model, x, y))
    return optimizer


# %%
checks.trained_biases(train_biases)

# %% [markdown]
# ## Exercise 4: Skip the spikes (3 minutes)
#
# ```python
# norm = torch.nn.utils.get_total_norm([p.grad for p in weights])
# if norm <= limit:  # False for nan
#     optimizer.step()
# ```
#
# **Given** this guard, in which a step that is skipped leaves no trace: weights and moments stay as they were.
#
# **Asked** for the same around any `rule` of Optax, to work under `jit`.
#
# **Checked** in six steps of SGD with momentum, two of them too long, against NumPy; then with a `nan`.


# %% tags=["stub"]
def without_spikes(rule, limit):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def without_spikes(rule, limit):
    def update(grads, state, params=None):
        calm = optax.global_norm(grads) <= limit
        updates, new = rule.update(grads, state, params)
        updates = jax.tree.map(lambda u: jnp.where(calm, u, 0), updates)
        return updates, jax.tree.map(lambda new, old: jnp.where(calm, new, old), new, state)

    return optax.GradientTransformation(rule.init, update)


# %%
checks.skipped_steps(without_spikes)

# %% [markdown]
# Back to the [lesson](../04b_training_rules.ipynb), or on to the next one:
# [05 · Precision](../05_precision.ipynb). [Solutions](../solutions/04b_training_rules.ipynb).
