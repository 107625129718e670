# %% [markdown]
# # 01c · Exercises: Who survives? The same program in Flax Linen
#
# **Can you work with a model that owns nothing?** (20 minutes)

# %% [markdown]
# Four exercises to the [lesson](../01c_titanic_linen.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from course import checks

# %% [markdown]
# ## Exercise 1: What is in the tree? (3 minutes)
#
# ```python
# class Net(nn.Module):
#     @nn.compact
#     def __call__(self, x):
#         x = nn.relu(nn.Dense(8)(x))
#         x = nn.Dense(4, use_bias=False)(x)
#         return nn.Dense(1, name="head")(x)
#
# model = Net()
# params = model.init(jax.random.key(0), jnp.zeros((32, 5)))["params"]
# state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))
# ```
#
# **Given** this model and state.
#
# **Asked** for `second`, the name in `params` of the layer that makes 4 columns of 8 (a str); `kernel`, the shape of
# the first layer's kernel (a tuple); `arrays`, how many arrays `params` holds, and `leaves`, how many leaves `state`
# has (ints); `rows` and `columns`, whether `apply` takes an input of shape `(7, 5)`, and one of `(32, 6)` (bools).
#
# **Checked** by building them.

# %% tags=["stub"]
tree = {"second": ..., "kernel": ..., "arrays": ..., "leaves": ..., "rows": ..., "columns": ...}

# %% tags=["solution"]
tree = {"second": "Dense_1", "kernel": (5, 8), "arrays": 5, "leaves": 17, "rows": True, "columns": False}

# %%
checks.linen_tree(tree)

# %% [markdown]
# ## Exercise 2: Two inputs, one tower (5 minutes)
#
# ```python
# class Siamese(nn.Module):
#     def __init__(self, features, width, size):
#         super().__init__()
#         self.hidden, self.out = nn.Linear(features, width), nn.Linear(width, size)
#
#     def tower(self, x):
#         return self.out(torch.tanh(self.hidden(x)))
#
#     def forward(self, a, b):
#         return ((self.tower(a) - self.tower(b)) ** 2).sum(-1)
# ```
#
# **Given** this model of PyTorch, which sends two inputs through the same layers.
#
# **Asked** for the Linen module `Siamese(width, size)`. Its parameters are those of one tower, under the names `hidden`
# and `out`.
#
# **Checked** by the tree that `init` returns, and against torch with the same weights, for random sizes.


# %% tags=["stub"]
class Siamese(nn.Module):
    width: int
    size: int

    def __call__(self, a, b):
        raise NotImplementedError("your turn")


# %% tags=["solution"]
class Siamese(nn.Module):
    width: int
    size: int

    def setup(self):
        self.hidden, self.out = nn.Dense(self.width), nn.Dense(self.size)

    def tower(self, x):
        return self.out(nn.tanh(self.hidden(x)))

    def __call__(self, a, b):
        return ((self.tower(a) - self.tower(b)) ** 2).sum(-1)


# %%
checks.siamese(Siamese)

# %% [markdown]
# ## Exercise 3: Stop early, keep the best (7 minutes)
#
# ```python
# best_loss, waited, steps = float("inf"), 0, 0
# for batch in batches:
#     step(model, batch)
#     steps += 1
#     loss = evaluate(model)
#     if loss < best_loss:
#         best, best_loss, waited = copy.deepcopy(model.state_dict()), loss, 0
#     else:
#         waited += 1
#         if waited == patience:
#             break
# ```
#
# **Given** a pure function `step(state, batch)`, which returns the next state and a training loss, a function
# `evaluate(state)`, the first state, a list of batches, and `patience`.
#
# **Asked** for the same loop without objects: return the best state and the number of steps, `(best, steps)`.
#
# **Checked** against a loop that copies, on random runs that get worse for a while.


# %% tags=["stub"]
def best_state(step, evaluate, state, batches, patience):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def best_state(step, evaluate, state, batches, patience):
    best, best_loss, waited, steps = state, float("inf"), 0, 0
    for batch in batches:
        state, _ = step(state, batch)
        steps += 1
        loss = evaluate(state)
        if loss < best_loss:
            best, best_loss, waited = state, loss, 0
        else:
            waited += 1
            if waited == patience:
                break
    return best, steps


# %%
checks.best_state(best_state)

# %% [markdown]
# ## Exercise 4: Many rates, one program (7 minutes)
#
# This search for a learning rate is right, and compiles a program for each rate.
#
# ```python
# def sweep(loss, params, rates, steps):
#     finals = []
#     for rate in rates:
#         tx = optax.adam(rate)
#
#         @jax.jit
#         def step(params, opt_state):
#             updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
#             return optax.apply_updates(params, updates), opt_state
#
#         tuned, opt_state = params, tx.init(params)
#         for _ in range(steps):
#             tuned, opt_state = step(tuned, opt_state)
#         finals.append(loss(tuned))
#     return finals
# ```
#
# **Given** a function `loss(params)`, first parameters, a list of rates and a number of steps.
#
# **Asked** for the same losses, with a number of traces that depends neither on the number of rates nor on the steps.
# `optax.scale_by_adam()` is Adam without the rate: its updates still have to be multiplied by `-rate`.
#
# **Checked** against torch's Adam, for random rates, and by counting how often `loss` is traced.


# %% tags=["stub"]
def sweep(loss, params, rates, steps):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def sweep(loss, params, rates, steps):
    tx = optax.scale_by_adam()

    @jax.jit
    def step(params, opt_state, rate):
        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
        return jax.tree.map(lambda p, u: p - rate * u, params, updates), opt_state

    finals = []
    for rate in rates:
        tuned, opt_state = params, tx.init(params)
        for _ in range(steps):
            tuned, opt_state = step(tuned, opt_state, rate)
        finals.append(loss(tuned))
    return finals


# %%
checks.sweep(sweep)

# %% [markdown]
# Back to the [lesson](../01c_titanic_linen.ipynb), or on to the next one:
# [02 · The same numbers](../02_same_numbers.ipynb). [Solutions](../solutions/01c_titanic_linen.ipynb).
