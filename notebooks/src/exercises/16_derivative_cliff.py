# %% [markdown]
# # 16 · Exercises: The derivative cliff
#
# **Can you keep derivatives of derivatives small?** (10 minutes)

# %% [markdown]
# Three exercises to the [lesson](../16_derivative_cliff.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import torch

from course import checks

# %% [markdown]
# ## Exercise 1: A penalty on a gradient (3 minutes)
#
# The critic of a Wasserstein GAN should have gradients of norm 1 with respect to its inputs. In PyTorch that is a
# backward pass through a backward pass:

# %%
w, v = torch.ones(3, 4, requires_grad=True), torch.ones(4, requires_grad=True)
x = torch.linspace(-1, 1, 6).reshape(2, 3).requires_grad_()

(slope,) = torch.autograd.grad((torch.tanh(x @ w) @ v).sum(), x, create_graph=True)
penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
penalty.backward()
print(v.grad)

# %% [markdown]
# **Given** `critic(params, x)`, a number for one example `x` of shape `(d,)`; `params`, a dict of arrays; examples `x`
# of shape `(n, d)`.
#
# **Asked** for the gradient of that penalty by `params`, a dict like `params`.
#
# **Checked** against PyTorch's double backward pass, for random weights and sizes.


# %% tags=["stub"]
def critic_penalty(critic, params, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def critic_penalty(critic, params, x):
    def penalty(params):
        slopes = jax.vmap(jax.grad(critic, argnums=1), in_axes=(None, 0))(params, x)  # (n, d)
        return jnp.mean((jnp.linalg.norm(slopes, axis=1) - 1) ** 2)

    return jax.grad(penalty)(params)


# %%
checks.critic_penalty(critic_penalty)

# %% [markdown]
# ## Exercise 2: What does the loop carry? (3 minutes)
#
# A pendulum swings for twenty steps. Its loop carries four arrays; the last two only say how late it is.


# %%
def swing(length):
    def step(carry, _):
        angle, speed, time, count = carry
        speed = speed - 0.1 * jnp.sin(angle) / length
        return (angle + 0.1 * speed, speed, time + 0.1, count + 1), None

    (angle, *_), _ = jax.lax.scan(step, (0.5, 0.0, 0.0, 0), length=20)
    return angle


def along(f):
    return lambda t: jax.jvp(f, (t,), (1.0,))[1]


# %% [markdown]
# **Given** `swing` and `along`: `along(along(swing))` is the second derivative of the angle by the length.
#
# **Asked** for your prediction, before you run anything: how many arrays does the loop of the first, of the second and
# of the third derivative carry? Whole numbers.
#
# **Checked** against the carry of the `scan` in the jaxpr of each derivative.

# %% tags=["stub"]
arrays_carried = {1: ..., 2: ..., 3: ...}

# %% tags=["solution"]
arrays_carried = {k: 2 * 2**k + 2 for k in (1, 2, 3)}  # angle and speed double; time and count have no slope

# %%
checks.arrays_carried(arrays_carried)

# %% [markdown]
# ## Exercise 3: A Laplacian in blocks (3 minutes)
#
# `jax.hessian` takes all $d$ directions at once and holds $d \times d$ numbers. `lax.map` takes one after the other and
# is slow. Between them lies a block of directions at a time.
#
# **Given** `f`, a function of `x` of shape `(d,)` with a number as its value, and `block`, a whole number that divides
# `d`.
#
# **Asked** for the Laplacian of `f` at `x`, the sum of its $d$ second derivatives, `block` directions at once and the
# blocks one after the other. No array of $d \times d$ numbers, the identity included, and no Python loop.
#
# **Checked** against the trace of `jax.hessian`; and in your function's jaxpr, for 128 inputs in blocks of 8, by the
# size of the largest array and by the number of equations, which must not grow with `d`.


# %% tags=["stub"]
def laplacian_in_blocks(f, x, block):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def laplacian_in_blocks(f, x, block):
    def second(i):
        unit = jax.nn.one_hot(i, len(x), dtype=x.dtype)
        return jax.jvp(jax.grad(f), (x,), (unit,))[1][i]

    rows = jnp.arange(len(x)).reshape(-1, block)
    return jax.lax.map(jax.vmap(second), rows).sum()


# %%
checks.laplacian_in_blocks(laplacian_in_blocks)

# %% [markdown]
# Back to the [lesson](../16_derivative_cliff.ipynb), or on to the next one:
# [17 · Taylor mode](../17_taylor_mode.ipynb). [Solutions](../solutions/16_derivative_cliff.ipynb).
