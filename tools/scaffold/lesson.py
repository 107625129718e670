# %% [markdown]
# # NN · ‹title›
#
# **‹the question that this lesson answers, in one sentence›?** (5 minutes)

# %% [markdown]
# After this lesson you can
#
# - ‹what a reader can do afterwards, first›,
# - ‹what a reader can do afterwards, second›,
# - ‹what a reader can do afterwards, third›.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import torch

from course.failures import fails

# %%
SEED, ROWS, STEPS, RATE = 0, 64, 50, 0.1
rng = np.random.default_rng(SEED)

# %% [markdown]
# ## The idea
#
# ‹the idea in a paragraph: what a PyTorch user does today, what moves, and why it matters›

# %%
x = rng.normal(size=(ROWS, 3)).astype(np.float32)
y = x @ np.array([1.0, -2.0, 0.5], np.float32)
print("x", x.shape, "y", y.shape)

# %% [markdown]
# ## In PyTorch
#
# ‹the PyTorch side: what the reader knows, and which of its lines will move›

# %%
w_torch = torch.zeros(3, requires_grad=True)
loss_torch = ((torch.from_numpy(x) @ w_torch - torch.from_numpy(y)) ** 2).mean()
loss_torch.backward()
print(f"loss {loss_torch.item():.4f}, gradient", np.round(w_torch.grad.numpy(), 3))


# %% [markdown]
# ## In JAX
#
# ‹the JAX side: what is new in it, line by line›

# %%
def loss_fn(w, x, y):
    return ((x @ w - y) ** 2).mean()


w = jnp.zeros(3)
loss, grads = jax.value_and_grad(loss_fn)(w, x, y)
print(f"loss {loss:.4f}, gradient", np.round(np.asarray(grads), 3))

# %% [markdown]
# ‹what moved between the two, and which numbers must agree›

# %%
np.testing.assert_allclose(grads, w_torch.grad.numpy(), rtol=1e-5)
print("the same gradient  ok")

# %% [markdown]
# ‹what the reader should think of before the question›
#
# **Predict.** ‹what does this print, and why›?

# %%
traced = []


@jax.jit
def step(w, x, y):
    traced.append(w.shape)
    return w - RATE * jax.grad(loss_fn)(w, x, y)


first, second = step(w, x, y), step(w, x[:32], y[:32])
third = step(first, x, y)
print("calls: 3, times that Python ran:", len(traced))

# %% [markdown]
# ‹the answer to the question›
#
# ‹the mistake that everybody makes here›

# %%
with fails(TypeError):
    w[0] = 1.0

# %% [markdown]
# ‹how to read this message, and the remedy›

# %%
changed = w.at[0].set(1.0)
print("before:", w, " after:", changed)

# %% [markdown]
# ## ‹heading of the second half›
#
# ‹the second idea, on the PyTorch side›

# %%
optimizer = torch.optim.SGD([w_torch], lr=RATE)
for _ in range(STEPS):
    optimizer.zero_grad()
    loss_torch = ((torch.from_numpy(x) @ w_torch - torch.from_numpy(y)) ** 2).mean()
    loss_torch.backward()
    optimizer.step()
print("PyTorch:", np.round(w_torch.detach().numpy(), 2))

# %% [markdown]
# ‹the second idea, on the JAX side›

# %%
w, _ = jax.lax.scan(lambda w, _: (step(w, x, y), None), w, length=STEPS)
print("JAX:    ", np.round(np.asarray(w), 2))

# %% [markdown]
# ‹what the two runs have in common, and what may differ›
#
# **Predict.** ‹how closely do they agree›?

# %%
difference = np.abs(w - w_torch.detach().numpy()).max()
print("largest difference below 1e-5 ", "ok" if difference < 1e-5 else difference)

# %% [markdown]
# ‹why the difference is what it is›

# %%
assert difference < 1e-5
print("the same weights after", STEPS, "steps  ok")

# %% [markdown]
# ## Summary
#
# - ‹the first thing to keep›
# - ‹the second thing to keep›
# - ‹the third thing to keep›
#
# ## Further reading
#
# - [‹title of a primary source›](https://‹its address›): ‹what is there›
# - [‹title of another›](https://‹its address›): ‹what is there›
#
# Exercises: [your turn](exercises/NN_TOPIC.ipynb).
#
# Next: NEXT
