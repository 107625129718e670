"""Answers to the exercises of 11_ensembles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.answers import right, wrong


def folded(train, score=None, mean=None):
    """An answer: train and score make weights of held; mean averages losses by the score's weights."""
    score = score or (lambda held: held)
    mean = mean or (lambda losses, weight: (losses * weight).sum() / weight.sum())

    def answer(fit, loss_fn, x, y, folds, k):
        def of_fold(j):
            held = (folds == j).astype(jnp.float32)
            return mean(loss_fn(fit(x, y, train(held)), x, y), score(held))

        return jax.vmap(of_fold)(jnp.arange(k))

    return answer


def rest(held):
    return 1 - held


wrong("cross_validated", "a leak")(folded(jnp.ones_like))
wrong("cross_validated", "the loss is that of the training rows")(folded(rest, rest))
wrong("cross_validated", "masks swapped")(folded(lambda held: held, rest))
wrong("cross_validated", "trained and scored on the fold")(folded(lambda held: held))
wrong("cross_validated", "the loss is that of all rows")(folded(rest, jnp.ones_like))
wrong("cross_validated", "divide by the number held out")(folded(rest, mean=lambda losses, w: (losses * w).mean()))
wrong("cross_validated", "the sum, not the mean")(folded(rest, mean=lambda losses, w: (losses * w).sum()))
wrong("cross_validated", "one loss a fold")(lambda *args: folded(rest)(*args).mean())
wrong("cross_validated", "makes a shape that depends on values")(
    lambda fit, loss_fn, x, y, folds, k: jax.vmap(
        lambda j: loss_fn(fit(x, y, folds != j), x[folds == j], y[folds == j]).mean()
    )(jnp.arange(k))
)
wrong("cross_validated", "fit takes all rows")(
    lambda fit, loss_fn, x, y, folds, k: fit(x[folds != 0], y[folds != 0], jnp.ones(int((folds != 0).sum())))
)


@wrong("cross_validated", "a Python loop over folds")
def loop_over_folds(fit, loss_fn, x, y, folds, k):
    scores = []
    for j in range(k):
        held = folds == j
        scores.append(loss_fn(fit(x, y, 1.0 - held), x[held], y[held]).mean())
    return jnp.stack(scores)


@right("cross_validated")
def parameters_first(fit, loss_fn, x, y, folds, k):
    held = folds == jnp.arange(k)[:, None]
    params = jax.vmap(lambda out: fit(x, y, 1.0 - out))(held)
    losses = jax.vmap(lambda params: loss_fn(params, x, y))(params)
    return jnp.mean(losses, axis=1, where=held)


right("cross_validated")(
    lambda fit, loss_fn, x, y, folds, k: jax.lax.map(
        lambda j: jnp.average(loss_fn(fit(x, y, jnp.where(folds == j, 0.0, 1.0)), x, y), weights=folds == j),
        jnp.arange(k),
    )
)


def bernoulli(p, labels):
    return -jnp.where(labels > 0, jnp.log(p), jnp.log(1 - p))


def log_p(logits, labels):
    return jax.nn.log_sigmoid(logits * (2 * labels - 1))


wrong("ensemble_log_loss", "the mean of the members' losses")(
    lambda z, y: optax.sigmoid_binary_cross_entropy(z, jnp.broadcast_to(y, z.shape)).mean()
)
wrong("ensemble_log_loss", "the logits are averaged")(
    lambda z, y: optax.sigmoid_binary_cross_entropy(z.mean(0), y).mean()
)
wrong("ensemble_log_loss", "a probability that is 0 in float32")(
    lambda z, y: bernoulli(jax.nn.sigmoid(z).mean(0), y).mean()
)
wrong("ensemble_log_loss", "a probability that is clipped")(
    lambda z, y: -jnp.log(jax.nn.sigmoid(z * (2 * y - 1)).mean(0).clip(1e-7, 1 - 1e-7)).mean()
)
wrong("ensemble_log_loss", "the members' number is missing")(lambda z, y: -jax.nn.logsumexp(log_p(z, y), axis=0).mean())
wrong("ensemble_log_loss", "the sum over rows")(
    lambda z, y: -(jax.nn.logsumexp(log_p(z, y), axis=0) - jnp.log(len(z))).sum()
)
wrong("ensemble_log_loss", "the loss of the other label")(
    lambda z, y: -(jax.nn.logsumexp(log_p(-z, y), axis=0) - jnp.log(len(z))).mean()
)
wrong("ensemble_log_loss", "the sign")(lambda z, y: (jax.nn.logsumexp(log_p(z, y), axis=0) - jnp.log(len(z))).mean())
wrong("ensemble_log_loss", "their mean is asked for")(
    lambda z, y: jnp.log(len(z)) - jax.nn.logsumexp(log_p(z, y), axis=0)
)
right("ensemble_log_loss")(
    lambda z, y: jnp.log(len(z)) - jax.nn.logsumexp(-jax.nn.softplus(jnp.where(y == 1, -z, z)), axis=0).mean()
)


@right("ensemble_log_loss")
def largest_first(logits, labels):
    logs = log_p(logits, labels)
    top = logs.max(0)
    return -jnp.mean(top + jnp.log(jnp.exp(logs - top).mean(0)))


pmean = jax.lax.pmean


def normalised_by(mean_of, var_of, root=lambda var, eps: jnp.sqrt(var + eps)):
    def answer(x, axis_name, eps):
        mean = mean_of(x, axis_name)
        var = var_of(x, mean, axis_name)
        return (x - mean) / root(var, eps), mean, var

    return answer


def common(x, name):
    return pmean(x.mean(0), name)


def around(x, mean, name):
    return pmean(((x - mean) ** 2).mean(0), name)


def own(x, name):
    return x.mean(0)


wrong("sync_batch_norm", "statistics of its own")(normalised_by(own, lambda x, mean, name: x.var(0)))
wrong("sync_batch_norm", "it misses how far their means lie apart")(
    normalised_by(common, lambda x, mean, name: pmean(x.var(0), name))
)
wrong("sync_batch_norm", "each device's own variance")(normalised_by(common, lambda x, mean, name: x.var(0)))
wrong("sync_batch_norm", "each device's own mean")(
    normalised_by(own, lambda x, mean, name: around(x, common(x, name), name))
)
wrong("sync_batch_norm", "divides by n - 1")(
    normalised_by(
        common,
        lambda x, mean, name: (n := jax.lax.psum(len(x), name)) / (n - 1) * around(x, mean, name),
    )
)
wrong("sync_batch_norm", "eps is added to the root")(
    normalised_by(common, around, lambda var, eps: jnp.sqrt(var) + eps)
)
wrong("sync_batch_norm", "NameError")(normalised_by(lambda x, name: pmean(x.mean(0), "data"), around))
wrong("sync_batch_norm", "is not right")(normalised_by(lambda x, name: jax.lax.psum(x.mean(0), name), around))
wrong("sync_batch_norm", "eps is among the variance")(
    lambda x, name, eps: (*(n := normalised_by(common, around)(x, name, eps))[:2], n[2] + eps)
)


@right("sync_batch_norm")
def moments(x, axis_name, eps):
    mean, square = pmean((x.mean(0), (x**2).mean(0)), axis_name)
    var = square - mean**2
    return [(x - mean) * jax.lax.rsqrt(var + eps), mean, var]


@right("sync_batch_norm")
def gathered(x, axis_name, eps):
    rows = jax.lax.all_gather(x, axis_name).reshape(-1, x.shape[1])
    return (x - rows.mean(0)) / jnp.sqrt(rows.var(0) + eps), rows.mean(0), rows.var(0)


truth = {
    "one_batch": (5, 7, 2),
    "members_outside": (5, 4, 7, 2),
    "batches_outside": (4, 5, 7, 2),
    "members_last": (7, 2, 5),
    "gradient_of_w": (5, 3, 2),
}
wrong("mapped_shapes", "the members' axis is missing")(truth | {"one_batch": (7, 2)})
wrong("mapped_shapes", "the outer vmap's axis stands first")(truth | {"members_outside": (4, 5, 7, 2)})
wrong("mapped_shapes", "the batches' axis is missing")(truth | {"batches_outside": (5, 7, 2)})
wrong("mapped_shapes", "puts the new axis last")(truth | {"members_last": (5, 7, 2)})
wrong("mapped_shapes", "one gradient for all of them")(truth | {"gradient_of_w": (5, 7, 3, 2)})
wrong("mapped_shapes", "expected a dict")({"one_batch": (5, 7, 2)})
wrong("mapped_shapes", "expected tuple")(truth | {"one_batch": "5 x 7 x 2"})
right("mapped_shapes")(truth)
right("mapped_shapes")({name: list(map(np.int64, shape)) for name, shape in truth.items()})
