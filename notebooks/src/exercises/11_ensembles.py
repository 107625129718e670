# %% [markdown]
# # 11 · Exercises: Hundreds of models in one program
#
# **Can you write for one model and one device, and run it for many?** (15 minutes)

# %% [markdown]
# Four exercises to the [lesson](../11_ensembles.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks

# %% [markdown]
# ## Exercise 1: Which shape comes out? (6 minutes)
#
# **Given** five members of an ensemble, their weights stacked, and four batches of seven rows.

# %%
members = {"w": jnp.zeros((5, 3, 2)), "b": jnp.zeros((5, 2))}
x, batches = jnp.zeros((7, 3)), jnp.zeros((4, 7, 3))
over_members, over_batches = (0, None), (None, 0)


def apply(params, x):
    return x @ params["w"] + params["b"]


def loss(params, x):
    return (apply(params, x) ** 2).mean()


programs = {
    "one_batch": lambda: jax.vmap(apply, over_members)(members, x),
    "members_outside": lambda: jax.vmap(jax.vmap(apply, over_batches), over_members)(members, batches),
    "batches_outside": lambda: jax.vmap(jax.vmap(apply, over_members), over_batches)(members, batches),
    "members_last": lambda: jax.vmap(apply, over_members, out_axes=-1)(members, x),
    "gradient_of_w": lambda: jax.vmap(jax.grad(loss), over_members)(members, x)["w"],
}

# %% [markdown]
# **Asked** for the shape of each result, a tuple, before you call any.
#
# **Checked** by calling them.

# %% tags=["stub"]
shapes = {"one_batch": ..., "members_outside": ..., "batches_outside": ..., "members_last": ..., "gradient_of_w": ...}

# %% tags=["solution"]
shapes = {
    "one_batch": (5, 7, 2),
    "members_outside": (5, 4, 7, 2),
    "batches_outside": (4, 5, 7, 2),
    "members_last": (7, 2, 5),
    "gradient_of_w": (5, 3, 2),
}

# %%
checks.mapped_shapes(shapes)

# %% [markdown]
# ## Exercise 2: Cross-validation in one call (3 minutes)
#
# ```python
# for j in range(k):
#     held = folds == j
#     params = fit(x[~held], y[~held])
#     scores.append(loss_fn(params, x[held], y[held]).mean())
# ```
#
# `x[held]` has another shape in every turn, and no `vmap` can do that. So nothing is cut out: rows get weights.
#
# **Given** `fit(x, y, weight)`, which returns the parameters from *all* rows, a row of weight 0 counting for nothing;
# `loss_fn(params, x, y)`, one loss per row, `(n,)`; `x` of shape `(n, d)` and `y` of shape `(n,)`; `folds` of shape
# `(n,)`, the fold of each row, from 0 to `k - 1`; and the Python number `k`. Folds differ in size.
#
# **Asked** for the mean held-out loss of each fold, `(k,)`. No Python loop.
#
# **Checked** against the loop above, for a regression whose solution is known, and by counting how often `fit` runs.


# %% tags=["stub"]
def cross_validated(fit, loss_fn, x, y, folds, k):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def cross_validated(fit, loss_fn, x, y, folds, k):
    def of_fold(j):
        held = (folds == j).astype(x.dtype)
        params = fit(x, y, 1 - held)
        return (held * loss_fn(params, x, y)).sum() / held.sum()

    return jax.vmap(of_fold)(jnp.arange(k))


# %%
checks.cross_validated(cross_validated)

# %% [markdown]
# ## Exercise 3: An ensemble that is wrong and sure (2 minutes)
#
# **Given** `logits` of shape `(members, n)`, the members' logits for the label 1, and `labels` of shape `(n,)`, 0 or 1.
#
# **Asked** for the log loss of the ensemble, a number: `-log` of the probability of the right label, averaged over
# rows. The ensemble's probability is the mean of its members' probabilities. It must be right where all members give
# the right label a probability that is 0 in float32.
#
# **Checked** against torch in double precision, with logits near 2 and near 250.


# %% tags=["stub"]
def ensemble_log_loss(logits, labels):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def ensemble_log_loss(logits, labels):
    log_p = jax.nn.log_sigmoid(jnp.where(labels > 0, logits, -logits))
    return -jnp.mean(jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(logits)))


# %%
checks.ensemble_log_loss(ensemble_log_loss)

# %% [markdown]
# ## Exercise 4: SyncBatchNorm by hand (2 minutes)
#
# Code that runs once for each device (under `pmap`, say) sees the rows of one device. `torch.nn.SyncBatchNorm` takes
# its statistics from the rows of all.
#
# **Given** `x` of shape `(rows, d)`, the rows of one device; the `axis_name` of the devices; and `eps`. All devices
# have the same number of rows.
#
# **Asked** for the tuple `(normalised, mean, var)`: `x` normalised as `torch.nn.BatchNorm1d(d, eps, affine=False)`
# would in training mode with the rows of all devices, and the two statistics `(d,)` that it uses.
#
# **Checked** under `jax.vmap(..., axis_name=...)`, for which operations across devices, such as `lax.pmean`, mean the
# same as under `pmap`, so one device will do; against torch on all rows. Devices differ in their means.


# %% tags=["stub"]
def sync_batch_norm(x, axis_name, eps):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def sync_batch_norm(x, axis_name, eps):
    mean = jax.lax.pmean(x.mean(0), axis_name)
    var = jax.lax.pmean(((x - mean) ** 2).mean(0), axis_name)
    return (x - mean) / jnp.sqrt(var + eps), mean, var


# %%
checks.sync_batch_norm(sync_batch_norm)

# %% [markdown]
# Back to the [lesson](../11_ensembles.ipynb), or on to the next one:
# [12 · The tracing paper, rebuilt](../12_tracing_paper.ipynb). [Solutions](../solutions/11_ensembles.ipynb).
