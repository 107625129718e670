# %% [markdown]
# # NN · Exercises: ‹title of the lesson›
#
# **‹what the exercises find out, in one sentence›?** (5 minutes)

# %% [markdown]
# Three exercises to the [lesson](../NN_TOPIC.ipynb).
# Fill in the cells that say `your turn` and run the check below each. `checks.NAME.hint()` prints one hint at a time,
# `checks.NAME.solution()` the solution, and `checks.progress()` what is done. The minutes count reading and typing;
# thinking comes on top.

# %%
import jax

from course import checks

# %% [markdown]
# ## Exercise 1: ‹title of the first exercise› (2 minutes)
#
# **Given** ‹what is given: weights `w`, rows `x`, targets `y`›.
#
# **Asked** for ‹what is asked: `gradient(w, x, y)`, of the mean squared error of `x @ w`›.
#
# **Checked** ‹against which oracle›.


# %% tags=["stub"]
def gradient(w, x, y):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def gradient(w, x, y):
    return jax.grad(lambda w: ((x @ w - y) ** 2).mean())(w)


# %%
checks.TOPIC_gradient(gradient)

# %% [markdown]
# ## Exercise 2: ‹title of the second exercise› (2 minutes)
#
# **Given** ‹what is given: the same, and a rate›.
#
# **Asked** for ‹what is asked: `step(w, x, y, rate)`, the weights after one step of gradient descent›.
#
# **Checked** ‹against which oracle›.


# %% tags=["stub"]
def step(w, x, y, rate):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def step(w, x, y, rate):
    return w - rate * jax.grad(lambda w: ((x @ w - y) ** 2).mean())(w)


# %%
checks.TOPIC_step(step)

# %% [markdown]
# ## Exercise 3: ‹title of the third exercise› (2 minutes)
#
# **Given** ‹what is given: the same›.
#
# **Asked** for ‹what is asked: `losses(w, x, y)`, one squared error for each row›.
#
# **Checked** ‹against which oracle›.


# %% tags=["stub"]
def losses(w, x, y):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def losses(w, x, y):
    return jax.vmap(lambda row, target: (row @ w - target) ** 2)(x, y)


# %%
checks.TOPIC_losses(losses)

# %% [markdown]
# Back to the [lesson](../NN_TOPIC.ipynb).
# [Solutions](../solutions/NN_TOPIC.ipynb).
