# %% [markdown]
# # 09 · Transformations
#
# **What else can be done with a function that is pure?** (70 minutes)

# %% [markdown]
# After this lesson you can
#
# - say where `jax.grad` differs from `backward()`, and read the errors that tell you,
# - clip the gradient of every example on its own, as differentially private training does,
# - find a loss's sharpness by Hessian-vector products, and from it the largest stable learning rate,
# - freeze a target with `stop_gradient`, and say what goes wrong without it.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import torch
from jax.flatten_util import ravel_pytree
from torch import func
from torch.nn import functional as F

from course import plots
from course.data import Features, labels, load_titanic, split
from course.failures import fails

# %%
SEED, BATCH, WIDTH = 0, 32, 8
plots.use()
np.set_printoptions(precision=4, suppress=True)
jax.config.update("jax_enable_x64", True)  # float64 on both sides: equal means a gap below 1e-12
torch.set_default_dtype(torch.float64)

# %% [markdown]
# A *transformation* takes a function and returns a function. `jax.jit` was one ([08](08_tracing.ipynb)). PyTorch has
# the others too, in `torch.func`:
#
# | to get | JAX | `torch.func` |
# |---|---|---|
# | a gradient | `jax.grad`, `jax.value_and_grad` | `grad`, `grad_and_value` |
# | a batched function | `jax.vmap(f, in_axes=…)` | `vmap(f, in_dims=…)` |
# | a Jacobian times a vector, a vector times it | `jax.jvp`, `jax.vjp` | `jvp`, `vjp` |
# | the whole Jacobian, the Hessian | `jax.jacfwd`, `jax.jacrev`, `jax.hessian` | the same names |
#
# We use them for three tasks on one small network, 15 features of a Titanic passenger to one logit. The weights are
# a dict of arrays, and the loss takes one passenger or many. `beside` prints the first numbers of both frameworks and
# asserts that all of them agree.

# %%
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train).astype(np.float64), labels(train).astype(np.float64)
rng = np.random.default_rng(SEED)
shapes = {"w1": (x.shape[1], WIDTH), "b1": (WIDTH,), "w2": (WIDTH,), "b2": ()}
params = {name: np.asarray(0.3 * rng.normal(size=shape)) for name, shape in shapes.items()}


def loss(params, x, y):
    logit = jax.nn.silu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return optax.sigmoid_binary_cross_entropy(logit, y).mean()


def loss_torch(params, x, y):
    logit = F.silu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return F.binary_cross_entropy_with_logits(logit, y)


params_torch, x_torch, y_torch = jax.tree.map(torch.from_numpy, (params, x, y))
print(len(x), "passengers;", sum(leaf.size for leaf in params.values()), "weights")


# %%
def flat(tree):
    tree = jax.tree.map(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, tree)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def beside(what, ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() < 1e-12
    print(f"{what}: {ours.size} numbers, gap below 1e-12")
    print("  JAX  ", ours[:6].round(4) + 0.0)
    print("  torch", theirs[:6].round(4) + 0.0)


beside("gradient", jax.grad(loss)(params, x, y), func.grad(loss_torch)(params_torch, x_torch, y_torch))


# %% [markdown]
# ## Where `grad` is not `backward`
#
# `jax.grad(loss)` differentiates by the first argument, here a dict, and returns a dict of the same form. `argnums`
# asks for other arguments, `has_aux=True` lets the function return something more, such as the probability. In
# PyTorch the one is `.grad` of another leaf, the other a variable that you keep.

# %%
def loss_and_probability(params, x, y):
    logit = jax.nn.silu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return optax.sigmoid_binary_cross_entropy(logit, y).mean(), jax.nn.sigmoid(logit)


both = jax.value_and_grad(loss_and_probability, argnums=(0, 1), has_aux=True)
(value, probability), (grads, by_feature) = both(params, x[0], y[0])
leaf = x_torch[0].clone().requires_grad_()
loss_torch(params_torch, leaf, y_torch[0]).backward()
print("loss", value.round(4), " probability", probability.round(4))
print("gradients", {name: grad.shape for name, grad in grads.items()})
beside("by the features", by_feature, leaf.grad)

# %% [markdown]
# `backward()` writes into the leaves, and adds to what is there. `jax.grad` has no place to write to.
#
# **Predict.** `"spare"` is a weight that the loss does not use. After `backward()` its `.grad` is `None`, and torch's
# optimizers pass it over. What does `jax.grad` return for it, and what does AdamW make of that?

# %% tags=["trap:accumulates"]
leaves = {"w": torch.ones(3, requires_grad=True), "spare": torch.ones(2, requires_grad=True)}
for _ in range(2):
    (x_torch[0, :3] @ leaves["w"]).backward()
print("torch", {name: leaf.grad for name, leaf in leaves.items()})

weights = {"w": jnp.ones(3), "spare": jnp.ones(2)}
for _ in range(2):
    grads = jax.grad(lambda weights: x[0, :3] @ weights["w"])(weights)
print("JAX  ", {name: np.asarray(grad) for name, grad in grads.items()})

decay = optax.adamw(0.1, weight_decay=0.1)
updates, _ = decay.update(grads, decay.init(weights), weights)
print("AdamW moves the spare weight by", np.asarray(updates["spare"]).round(4))

# %% [markdown]
# The spare weight gets zeros, not `None`, so weight decay moves it. And each call starts from nothing, so `"w"` has
# half of torch's sum: to accumulate, add up what the calls return.
#
# Three more things that `backward()` puts up with are errors here:

# %% tags=["trap:grad-refuses"]
with fails(TypeError):
    jax.grad(lambda w: x[:1, :3] @ w)(jnp.ones(3))  # a loss of shape (1,): torch takes any single number
with fails(TypeError):
    jax.grad(lambda weights: x[0, :3] @ weights["w"])({"w": jnp.ones(3), "steps": 7})  # torch passes over integers
with fails(ValueError):
    jax.grad(lambda x: jax.lax.while_loop(lambda y: y < 10, lambda y: 2 * y, x))(1.0)  # torch records any loop

# %% [markdown]
# The first message names the shape: index it or take a mean, `[0]` or `.mean()`. The second names the dtype, but not
# the leaf: look for a counter or a random key among the weights, and pass it as another argument. The third offers
# the way out: a backward pass has to store every turn, and `lax.scan` knows beforehand how many there are.
#
# ## Task 1 · Clip the gradient of every passenger
#
# Differentially private training limits what a single example can do to the weights. Each example's gradient is
# clipped to a length `C` *before* the batch is averaged, and noise covers the rest (Abadi et al., 2016). A PyTorch
# loop takes one `backward()` per example. Here the gradient of one example is a function, and `vmap` maps it.

# %%
batch, batch_torch = (x[:BATCH], y[:BATCH]), (x_torch[:BATCH], y_torch[:BATCH])
each = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(params, *batch)
print({name: grad.shape for name, grad in each.items()})
beside("vmap of grad", each, func.vmap(func.grad(loss_torch), in_dims=(None, 0, 0))(params_torch, *batch_torch))

rows = []
for features, label in zip(*batch_torch, strict=True):
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in params_torch.items()}
    loss_torch(leaves, features, label).backward()
    rows.append({name: leaf.grad for name, leaf in leaves.items()})
beside("a loop of backward()", each, {name: torch.stack([row[name] for row in rows]) for name in each})

# %% [markdown]
# `in_axes=(None, 0, 0)` says what has the extra axis: features and labels, not the weights. Every leaf of the result
# has it too, and that is the price: 32 gradients are in memory at once.
#
# Now the clipping. Note what is clipped: *each* gradient, by the length over all its leaves.

# %%
CLIP = 0.5


def clipped(grad):
    factor = jnp.minimum(1.0, CLIP / optax.tree.norm(grad))
    return jax.tree.map(lambda leaf: factor * leaf, grad)


@jax.jit
def mean_of_clipped(params, x, y):
    each = jax.vmap(lambda *example: clipped(jax.grad(loss)(params, *example)))(x, y)
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), each)


def clipped_torch(grad):
    factor = torch.clamp(CLIP / torch.cat([leaf.ravel() for leaf in grad.values()]).norm(), max=1.0)
    return {name: factor * leaf for name, leaf in grad.items()}


each_torch = func.vmap(lambda *e: clipped_torch(func.grad(loss_torch)(params_torch, *e)))(*batch_torch)
mean_torch = {name: leaf.mean(axis=0) for name, leaf in each_torch.items()}
beside("clipped, then averaged", mean_of_clipped(params, *batch), mean_torch)
print("lengths before clipping:", np.asarray(jax.vmap(optax.tree.norm)(each))[:6].round(2))

# %% [markdown]
# Does it protect? Somebody mistypes the first passenger: features a hundred times too large, and the wrong label. How
# far does the batch's gradient move? Beside it stands what `optax.clip_by_global_norm` and PyTorch's
# `clip_grad_norm_` do: clip the *mean*.

# %%
first = np.arange(BATCH) == 0
mistyped = np.where(first[:, None], 100 * batch[0], batch[0]), np.where(first, 1 - batch[1], batch[1])
ways = {
    "mean, not clipped": jax.grad(loss),
    "mean, then clipped": lambda *arguments: clipped(jax.grad(loss)(*arguments)),
    "clipped, then mean": mean_of_clipped,
}
for name, way in ways.items():
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, way(params, *mistyped), way(params, *batch)))
    print(f"{name:19} one passenger moves the gradient by {moved:.3f}")
print(f"the guarantee        2 C / batch = {2 * CLIP / BATCH:.3f}")


# %% [markdown]
# Only the last way has a bound that falls with the size of the batch, `2 C / batch`, whatever is typed. Clipping the
# mean makes it 0.5 long at most, so it can't move by more than 1; of that, one passenger alone takes 0.8.
#
# Then comes noise, in proportion to the bound. Keys are arguments, so where the noise differs is decided by where the
# keys are split. Here each leaf gets its own. PyTorch asks what you mean when random numbers are drawn under `vmap`.
#
# **Predict.** Does JAX ask, too? Three rows, one key that comes from outside: how many different numbers are drawn?

# %% tags=["trap:noise-under-vmap"]
def private_gradient(key, multiplier, params, x, y):
    leaves, tree = jax.tree.flatten(mean_of_clipped(params, x, y))
    scale, keys = multiplier * CLIP / len(x), jax.random.split(key, len(leaves))
    noise = [scale * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, [leaf + drawn for leaf, drawn in zip(leaves, noise, strict=True)])


for seed in (SEED, SEED, SEED + 1):
    print(f"key {seed}:", flat(private_gradient(jax.random.key(seed), 1.0, params, *batch))[:5].round(4))

with fails(RuntimeError):
    func.vmap(lambda row: row + torch.randn(()))(torch.zeros(3))
key, rows = jax.random.key(SEED), jnp.zeros(3)
outside = jax.vmap(lambda row: row + jax.random.normal(key))(rows)
each_own = jax.vmap(lambda row, key: row + jax.random.normal(key))(rows, jax.random.split(key, 3))
print("a key from outside:", outside.round(3), " a key each:", each_own.round(3))

# %% [markdown]
# JAX does not ask, and draws one number. PyTorch's `randomness="same"` is a key from outside; `randomness="different"`
# is a key for each row, mapped along with it. Noise that should differ and does not raises nothing: look at it once.
# (`optax.contrib.differentially_private_aggregate` does clipping and noise as a gradient transformation. What privacy
# they buy after so many steps is a computation of its own, the *accountant* in the paper.)
#
# **Predict.** `jax.lax.cond` runs one branch. How often does the root run for rows `-1` and `4` one by one, and how
# often in one call of `vmap`?

# %% tags=["trap:cond-under-vmap"]
ran = []


def root_or_zero(value):
    def root(value):
        jax.debug.callback(lambda value: ran.append(float(value)), value)
        return jnp.sqrt(value)

    return jax.lax.cond(value > 0, root, jnp.zeros_like, value)


rows = jnp.array([-1.0, 4.0])
print("one by one:", [float(root_or_zero(row)) for row in rows], end="")
jax.effects_barrier()
print("  the root saw", ran)
ran.clear()
print("vmap:      ", jax.vmap(root_or_zero)(rows).tolist(), end="")
jax.effects_barrier()
print("  the root saw", sorted(ran))


# %% [markdown]
# Same results, different work: rows in one batch can't take different ways, so `vmap` turns `cond` into "both, then
# select". The dear branch always costs its time, and here it took the root of -1, a NaN that was thrown away.
#
# ## Two directions
#
# A derivative is a Jacobian: a row for each output, a column for each input. Neither direction builds it. `jvp`
# pushes a tangent along with the computation and gets one column, or a mixture of columns. `vjp` pulls a cotangent
# back and gets one row, and to do so it has to remember the way.

# %%
def layer(w):
    return jnp.tanh(x[:4, :3] @ w)  # 3 inputs, 4 outputs


def layer_torch(w):
    return torch.tanh(x_torch[:4, :3] @ w)


at, tangent, cotangent = np.array([0.5, -1.0, 2.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0, 0.0])
at_torch, tangent_torch, cotangent_torch = map(torch.from_numpy, (at, tangent, cotangent))
_, column = jax.jvp(layer, (at,), (tangent,))
_, column_torch = func.jvp(layer_torch, (at_torch,), (tangent_torch,))
beside("jvp", column, column_torch)
_, pull = jax.vjp(layer, at)
_, pull_torch = func.vjp(layer_torch, at_torch)
beside("vjp", pull(cotangent), pull_torch(cotangent_torch))

# %% alt="Two copies of a Jacobian of four rows and three columns. Left: times the tangent (0, 1, 0) it gives its second column, which is marked; an arrow called jvp points to it. Right: the cotangent (0, 0, 1, 0) times it gives its third row, which is marked; an arrow called vjp points down to it."
jacobian = np.asarray(jax.jacfwd(layer)(at))  # (4, 3)
diagram = plots.Diagram(height=2.9)
look = {"size": 0.42, "side": "jax", "text": "{:.2f}"}
left = diagram.cells(0.9, 1.75, jacobian, marked=np.outer(np.ones(4), tangent) > 0, title="Jacobian", **look)
diagram.note(1.7, 1.75, "×", size=13)
start = diagram.cells(2.05, 1.75, tangent[:, None], title="tangent", size=0.42)
diagram.arrow(start, diagram.cells(3.3, 1.75, column[:, None], marked=np.ones((4, 1)) > 0, **look), "jvp")
diagram.cells(4.95, 1.75, cotangent, title="cotangent", size=0.42)
diagram.note(6.0, 1.75, "×", size=13)
right = diagram.cells(6.9, 1.75, jacobian, marked=np.outer(cotangent, np.ones(3)) > 0, title="Jacobian", **look)
diagram.arrow(right, diagram.cells(6.9, 0.25, pull(cotangent)[0], marked=np.ones(3) > 0, **look))
diagram.note(7.1, 0.7, "vjp", align="left", size=8.5)
plt.show()
print("jvp is column 1:", bool(np.allclose(jacobian[:, 1], column)), end="; ")
print("vjp is row 2:", bool(np.allclose(jacobian[2], pull(cotangent)[0])))

# %% [markdown]
# `grad` is `vjp` with the cotangent 1: a loss has one output, so one row is all there is. Whoever wants the whole
# matrix pays by its shape: `jacfwd` runs one `jvp` for each input, `jacrev` one `vjp` for each output.
#
# ## Task 2 · How sharp is this minimum?
#
# Around a minimum the loss is a bowl. Its largest curvature `λ`, the *sharpness*, is the largest eigenvalue of the
# Hessian. First a minimum: full-batch gradient descent, with a little L2, in one compiled loop.

# %%
STEPS, L2 = 3000, 0.01


def total(params):
    return loss(params, x, y) + L2 * optax.tree.norm(params, squared=True)


def total_torch(params):
    return loss_torch(params, x_torch, y_torch) + L2 * sum((leaf**2).sum() for leaf in params.values())


@jax.jit
def descend(params, rates):
    def step(params, rate):
        value, grads = jax.value_and_grad(total)(params)
        return jax.tree.map(lambda leaf, grad: leaf - rate * grad, params, grads), value

    return jax.lax.scan(step, params, rates)


minimum, losses = descend(params, np.full(STEPS, 1.0))
flat_there = bool(optax.tree.norm(jax.grad(total)(minimum)) < 1e-4)
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}; length of the gradient below 1e-4: {flat_there}")


# %% [markdown]
# The Hessian has as many entries as weights squared: out of reach for a real network. Its product with a vector needs
# no matrix. It is the directional derivative of the gradient, the `jvp` of a `grad` (*forward over reverse*), for
# the price of a few gradients. The vector is a dict like the weights.

# %%
@jax.jit
def hvp(params, vector):
    return jax.jvp(jax.grad(total), (params,), (vector,))[1]


def hvp_torch(params, vector):
    return func.jvp(func.grad(total_torch), (params,), (vector,))[1]


vector = {name: np.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}
minimum_torch, vector_torch = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), (minimum, vector))
product = hvp(minimum, vector)
beside("Hessian times vector", product, hvp_torch(minimum_torch, vector_torch))

numbers, as_dict = ravel_pytree(minimum)  # one long vector, and the way back
hessian = jax.jit(jax.hessian(lambda numbers: total(as_dict(numbers))))(numbers)
same = np.abs(hessian @ flat(vector) - flat(product)).max() < 1e-12
print("the matrix", hessian.shape, "times the vector: gap below 1e-12:", bool(same))


# %% [markdown]
# Multiply again and again, and what is left of any vector is the direction of the largest eigenvalue: *power
# iteration*. Its length before it is scaled back to 1 is the eigenvalue.

# %%
@jax.jit
def sharpness(params, vector):
    def turn(vector, _):
        product = hvp(params, vector)
        length = optax.tree.norm(product)
        return jax.tree.map(lambda leaf: leaf / length, product), length

    vector = jax.tree.map(lambda leaf: leaf / optax.tree.norm(vector), vector)
    return jax.lax.scan(turn, vector, length=60)


steepest, lengths = sharpness(minimum, vector)
print("after 1, 5, 20 and 60 products:", np.asarray(lengths)[[0, 4, 19, 59]].round(4))
print("largest eigenvalues of the matrix:", np.linalg.eigvalsh(hessian)[-3:].round(4))
assert abs(lengths[-1] - np.linalg.eigvalsh(hessian)[-1]) < 1e-6
limit = 2 / float(lengths[-1])
print(f"largest stable learning rate, 2/λ: {limit:.3f}")

# %% [markdown]
# Sixty products found the largest of 137 eigenvalues, with the memory of a few gradients instead of a matrix. (They
# find the largest in *absolute* value; at a minimum no eigenvalue is negative.)
#
# Along that direction a step of gradient descent multiplies the distance from the minimum by `1 - rate·λ`. At a rate
# of `2/λ` this is -1.
#
# **Predict.** We push the weights off the minimum by 0.001 and descend, at 5 % below `2/λ` and at 5 % above. What does
# the loss do in each run, and does the second end in `nan`?

# %%
kicked = jax.tree.map(lambda leaf, direction: leaf + 1e-3 * direction, minimum, steepest)
bottom = float(total(minimum))
above = {}
for part in (0.95, 1.05):
    after, losses = descend(kicked, np.full(300, part * limit))
    again, _ = descend(after, np.full(1, part * limit))
    above[f"{part} · 2/λ"] = gaps = np.asarray(losses) - bottom
    growth = (gaps[20] / gaps[0]) ** (1 / 40)  # the loss goes with the distance squared
    print(f"rate {part} · 2/λ: distance times {growth:.3f} a step, by the rule {abs(1 - 2 * part):.3f};", end=" ")
    print(f"after 300 steps the loss is {gaps[-1]:.4f} above the minimum")
    places = [flat(jax.tree.map(jnp.subtract, tree, minimum)) @ flat(steepest) for tree in (after, again)]
    print("  place along the steepest direction after 300 and 301 steps:", np.array(places).round(3) + 0.0)

# %% alt="Loss above the minimum over 100 steps, logarithmic. Below two over lambda the line falls from 5e-7 below 1e-9 within 40 steps. Above it the line climbs to 4e-3, about ten thousand times the start, and stays between 2e-3 and 4e-3."
figure, axis = plots.panels(1)
series = {f"rate {name}": np.where(values > 1e-10, values, np.nan)[:100:4] for name, values in above.items()}
plots.lines(axis, range(0, 100, 4), series, log="y", xlabel="step", ylabel="loss above the minimum")
plt.show()
low, high = above.values()
print("after 50 steps below its start:", low[50] < low[0], "; 1000 times above it:", high[50] > 1000 * high[0])

# %% [markdown]
# The rule holds from both sides. On an exact bowl the second run would go to infinity. A network's loss is no bowl
# farther out: the run is thrown off its minimum and then jumps from one wall to the other and back. No `nan` tells
# you, just a loss that stopped falling. Networks trained by full-batch gradient descent at a fixed rate do end up near
# this limit, which is known as the *edge of stability* (Cohen et al., 2021).
#
# ## Task 3 · A target that holds still
#
# A value function learns from its own predictions: the value of a state should be the reward plus the value of the
# next state. The next state's value is the *target*, and a target is not to be moved. In PyTorch one writes
# `.detach()` or `torch.no_grad()`. Here it is `jax.lax.stop_gradient`: the value passes, the derivative is zero.
#
# An example from Sutton and Barto (*Reinforcement Learning*, section 11.5): from A one gets to B or to C, equally
# often. B ends with reward 1, C with reward 0. So the values of A, B, C are 0.5, 1 and 0.

# %%
NOW, NEXT, REWARD = np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3]), np.array([0.0, 0.0, 1.0, 0.0])


def td_loss(values, stop):
    target = REWARD + jnp.append(values, 0.0)[NEXT]  # the end, number 3, is worth nothing
    if stop:
        target = jax.lax.stop_gradient(target)
    return ((target - values[NOW]) ** 2).mean()


def td_loss_torch(values, stop):
    target = torch.from_numpy(REWARD) + torch.cat([values, torch.zeros(1)])[torch.from_numpy(NEXT)]
    if stop:
        target = target.detach()
    return ((target - values[torch.from_numpy(NOW)]) ** 2).mean()


guess = np.array([0.2, 0.4, 0.6])
for stop in (True, False):
    leaf = torch.tensor(guess, requires_grad=True)
    td_loss_torch(leaf, stop).backward()
    beside(f"gradient, target {'frozen' if stop else 'free'}", jax.grad(td_loss)(guess, stop), leaf.grad)


# %% [markdown]
# Two different gradients from one loss value. Both lead somewhere.
#
# **Predict.** We train three values with each, 2,000 steps. Which run ends with the lower loss, and which with the
# right values?

# %%
def learn(gradient, steps=2000, rate=0.5):
    step = jax.jit(lambda values, _: (values - rate * gradient(values), None))
    return jax.lax.scan(step, jnp.array(guess), length=steps)[0]


for name, stop in {"frozen": True, "free": False}.items():
    values = learn(lambda values, stop=stop: jax.grad(td_loss)(values, stop))
    print(f"target {name:6}: A, B, C = {np.asarray(values).round(4) + 0.0}, loss {td_loss(values, stop):.4f}")


# %% [markdown]
# The free target has *half* the loss and wrong values. It moved B and C towards A, where no reward says so, because
# that makes the difference small. A lower loss is no proof here.
#
# Often no `stop_gradient` is needed. JAX differentiates by the arguments that `argnums` names, so a target that comes
# in as *another* argument holds still by itself. That is how a target network or an EMA teacher is written:

# %%
def teacher_loss(values, teacher):
    return ((REWARD + jnp.append(teacher, 0.0)[NEXT] - values[NOW]) ** 2).mean()


@jax.jit
def teacher_step(carry, _):
    values, teacher = carry
    values = values - 0.5 * jax.grad(teacher_loss)(values, teacher)
    teacher = optax.incremental_update(values, teacher, step_size=0.05)  # 5 % of the way to the new values
    return (values, teacher), None


(values, teacher), _ = jax.lax.scan(teacher_step, (jnp.array(guess), jnp.array(guess)), length=2000)
print("with a teacher: A, B, C =", np.asarray(values).round(4), " teacher", np.asarray(teacher).round(4))
together = jax.grad(lambda both: teacher_loss(both["values"], both["teacher"]))({"values": guess, "teacher": guess})
print("both in one dict: the teacher gets a gradient too:", np.asarray(together["teacher"]).round(4))

# %% [markdown]
# The slip is to keep both in one tree and to differentiate by the tree: then the teacher has a gradient, and an
# optimizer follows it. Nor does it help to apply `stop_gradient` to what `jax.grad` returns; it acts inside the
# function that is differentiated.
#
# ## Summary
#
# - `jax.grad` returns a tree of its first argument's form, zeros for what is unused, and keeps nothing.
# - `vmap(grad(…))` gives every example its gradient: clip those, not their mean. A key from outside is one noise for
#   all.
# - `jvp(grad(…))` multiplies by the Hessian without building it; above `2/λ` gradient descent leaves its minimum.
# - A target needs `stop_gradient`, or a place among the arguments that are not differentiated. Without it the loss
#   may be lower and the answer wrong.
#
# ## Further reading
#
# - [Advanced automatic differentiation](https://docs.jax.dev/en/latest/advanced-autodiff.html): Hessian-vector
#   products, `stop_gradient` and per-example gradients in JAX's own words
# - [torch.func](https://docs.pytorch.org/docs/stable/func.html): the same transformations in PyTorch, with their limits
# - [Deep Learning with Differential Privacy](https://arxiv.org/abs/1607.00133): clipping each gradient, noise, and the
#   accountant
# - [Gradient Descent Typically Occurs at the Edge of Stability](https://arxiv.org/abs/2103.00065): sharpness grows
#   until it reaches `2/λ`
# - [Human-level control through deep reinforcement learning](https://www.nature.com/articles/nature14236): the target
#   network, a frozen copy that catches up now and then
#
# Exercises: [your turn](exercises/09_transformations.ipynb).
# Puzzles: [twelve drawings to think in JAX](exercises/puzzles.ipynb).
#
# Next: [09b · Custom rules, memory, and NNX's transforms](09b_custom_rules.ipynb).
