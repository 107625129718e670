"""Checks of the exercises on many models in one program, and on means over devices. Needs NumPy and JAX.

Lesson: 11_ensembles.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, keyed, predicted_parts, same, wrong

LESSON = "11_ensembles"


def _measured_shapes() -> dict[str, tuple[int, ...]]:
    """The shapes of the exercise, by tracing it."""

    def apply(params: Any, x: Any) -> Any:
        return x @ params["w"] + params["b"]

    def loss(params: Any, x: Any) -> Any:
        return (apply(params, x) ** 2).mean()

    members = {"w": jnp.zeros((5, 3, 2)), "b": jnp.zeros((5, 2))}
    x, batches = jnp.zeros((7, 3)), jnp.zeros((4, 7, 3))
    over_members, over_batches = (0, None), (None, 0)
    programs = {
        "one_batch": lambda: jax.vmap(apply, over_members)(members, x),
        "members_outside": lambda: jax.vmap(jax.vmap(apply, over_batches), over_members)(members, batches),
        "batches_outside": lambda: jax.vmap(jax.vmap(apply, over_members), over_batches)(members, batches),
        "members_last": lambda: jax.vmap(apply, over_members, out_axes=-1)(members, x),
        "gradient_of_w": lambda: jax.vmap(jax.grad(loss), over_members)(members, x)["w"],
    }
    return {name: jax.eval_shape(program).shape for name, program in programs.items()}


@check(
    LESSON,
    "One model on one batch gives (7, 2). Each vmap adds one axis, first unless out_axes says otherwise.",
    "The outer vmap's axis stands before the inner one's. A gradient by a leaf has the leaf's shape.",
    points=2,
)
def mapped_shapes(rng: np.random.Generator, shapes: Any) -> None:
    """Shapes that come out of five vmaps, measured."""
    slips: dict[str, dict[Any, str]] = {
        "one_batch": {(7, 2): "the members' axis is missing", (7, 5, 2): "vmap puts its axis first"},
        "members_outside": {
            (4, 5, 7, 2): "the outer vmap's axis stands first",
            (4, 7, 2): "the members' axis is missing",
            (5, 7, 2): "the batches' axis is missing",
        },
        "batches_outside": {
            (5, 4, 7, 2): "the outer vmap's axis stands first",
            (4, 7, 2): "the members' axis is missing",
            (5, 7, 2): "the batches' axis is missing",
        },
        "members_last": {(5, 7, 2): "out_axes=-1 puts the new axis last", (7, 5, 2): "-1 is the last axis"},
        "gradient_of_w": {
            (3, 2): "each member has a gradient of its own",
            (5, 7, 3, 2): "the loss is a mean over the rows: one gradient for all of them",
            (5,): "that is the shape of the losses",
        },
    }
    keyed(shapes, slips)
    predicted_parts(shapes, _measured_shapes(), slips, "the shape of {}")


def _ridge(x: Any, y: Any, weight: Any) -> Any:
    """Weights of a ridge regression in which a row counts by its weight; NumPy or JAX."""
    return jnp.linalg.solve((x.T * weight) @ x + 0.1 * jnp.eye(x.shape[1]), x.T @ (weight * y))


def _subset(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same from a subset's rows alone, in float64."""
    x, y = x.astype(float), y.astype(float)
    return np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ y)


@check(
    LESSON,
    "Folds differ in size, and vmap wants one shape for all. What keeps the shape and takes a row away?",
    "Write the function of one fold's number j: the weight of a row is (folds != j); then map it over jnp.arange(k).",
    "The held-out mean is (losses * held).sum() / held.sum(), with held = (folds == j).",
    points=3,
)
def cross_validated(rng: np.random.Generator, cross_validated: Any) -> None:
    """Held-out losses of all folds by masks, in one vmap; against a loop over subsets of rows."""
    answer = function(cross_validated, "cross_validated(fit, loss_fn, x, y, folds, k)")
    for k in (3, int(rng.integers(4, 6))):
        folds = rng.permutation(np.append(np.repeat(np.arange(k), 3), rng.integers(0, k, 3)))
        n, d = len(folds), 3
        x, y = rng.normal(size=(n, d)).astype("f"), (3 * rng.normal(size=n)).astype("f")
        calls: list[int] = []

        def fit(x: Any, y: Any, weight: Any, calls: list[int] = calls, n: int = n) -> Any:
            if not (np.shape(x) == (n, 3) and np.shape(y) == np.shape(weight) == (n,)):
                wrong("fit takes all rows, (n, d), (n,) and their weights, (n,).", got=np.shape(weight))
            calls.append(n)
            return _ridge(x, y, weight)

        def loss_fn(params: Any, x: Any, y: Any) -> Any:
            return (x @ params - y) ** 2

        def of(j: int, train: np.ndarray, score: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> np.ndarray:
            return (x[score] @ _subset(x[train], y[train]) - y[score]) ** 2

        held = [folds == j for j in range(k)]

        def each(form: Any, held: Any = held) -> np.ndarray:
            return np.array([form(j, out) for j, out in enumerate(held)])

        expected = each(lambda j, out: of(j, ~out, out).mean())
        got = answer(fit, loss_fn, jnp.asarray(x), jnp.asarray(y), jnp.asarray(folds), k)
        same(
            got, expected, f"the losses of {k} folds", rtol=1e-4, atol=1e-5,
            slips={
                "every fold trains on all rows, the held-out ones too: a leak": each(
                    lambda j, out: of(j, out | True, out).mean()
                ),
                "the loss is that of the training rows": each(lambda j, out: of(j, ~out, ~out).mean()),
                "masks swapped: trained on the fold, scored on the rest": each(lambda j, out: of(j, out, ~out).mean()),
                "trained and scored on the fold": each(lambda j, out: of(j, out, out).mean()),
                "the loss is that of all rows": each(lambda j, out: of(j, ~out, out | True).mean()),
                "masked losses are averaged over all rows; divide by the number held out": each(
                    lambda j, out: of(j, ~out, out).sum() / len(out)
                ),
                "the sum, not the mean": each(lambda j, out: of(j, ~out, out).sum()),
                "the mean over folds; one loss a fold is asked for": expected.mean(),
            },
        )  # fmt: skip
        if len(calls) > 2:
            wrong(f"fit ran {len(calls)} times in Python.", slip="a Python loop over folds; vmap traces it once")


@check(
    LESSON,
    "What is averaged is the probability that each member gives to the right label.",
    "log of a mean of exponentials: jax.nn.logsumexp(log_p, axis=0) - jnp.log(members).",
    "log_p = jax.nn.log_sigmoid(jnp.where(labels > 0, logits, -logits)), of shape (members, n).",
    points=2,
)
def ensemble_log_loss(rng: np.random.Generator, ensemble_log_loss: Any) -> None:
    """The log loss of averaged probabilities, also where they underflow; against torch in double precision."""
    import torch

    answer = function(ensemble_log_loss, "ensemble_log_loss(logits, labels)")
    for scale in (2.0, 2.0, 250.0):
        for _ in range(100):  # until every slip is told from the truth
            members, n = (int(size) for size in rng.integers(3, 8, 2))
            logits = (scale * rng.uniform(0.7, 1.3, (members, n)) * rng.choice([-1, 1], n)).astype("f")
            labels = rng.integers(0, 2, n).astype("f")
            labels[0], logits[:, 0] = 1, -np.abs(logits[:, 0])  # all members are wrong about one row
            signed = torch.from_numpy(np.where(labels > 0, logits, -logits)).double()
            log_p = torch.nn.functional.logsigmoid(signed)
            each = np.log(members) - torch.logsumexp(log_p, 0)
            mean_logit = -torch.nn.functional.logsigmoid(signed.mean(0))
            other = (np.log(members) - torch.logsumexp(torch.nn.functional.logsigmoid(-signed), 0)).mean()
            clipped = -torch.log(signed.sigmoid().mean(0).clip(1e-7, 1 - 1e-7)).mean()
            expected = float(each.mean())
            near = [float(-log_p.mean()), float(mean_logit.mean()), float(each.mean() - np.log(members)), float(other)]
            if min(abs(value / expected - 1) for value in near) > 3e-3:
                break
        got = answer(jnp.asarray(logits), jnp.asarray(labels))
        if scale > 100 and np.shape(got) == () and not np.isfinite(np.asarray(got, float)):
            wrong(
                "the loss of members that are wrong and sure is not finite.", expected=expected, got=got,
                slip="the log of a probability that is 0 in float32; jax.nn.log_sigmoid and logsumexp stay in logs",
            )  # fmt: skip
        same(
            got, expected, f"the log loss of {members} members, logits near {scale:g}", rtol=1e-5,
            slips={
                "the mean of the members' losses; average the probabilities first": float(-log_p.mean()),
                "the logits are averaged, not the probabilities": float(mean_logit.mean()),
                "the sum over rows, not the mean": float(each.sum()),
                "the members' number is missing: logsumexp is a sum, not a mean": float(each.mean() - np.log(members)),
                "the loss of the other label: the sign is turned where the label is 0": float(other),
                "the sign": -expected,
                "a probability that is clipped: the loss of sure and wrong members stops at its log": float(clipped),
                "one loss a row; their mean is asked for": each.numpy(),
            },
        )  # fmt: skip


@check(
    LESSON,
    "Which two means over all rows does a variance need? Each is a mean over devices of means over rows.",
    "jax.lax.pmean(local, axis_name) is the mean over the axis, the same on every device.",
    "First the common mean; then jax.lax.pmean(((x - mean) ** 2).mean(0), axis_name).",
    points=3,
)
def sync_batch_norm(rng: np.random.Generator, sync_batch_norm: Any) -> None:
    """BatchNorm over rows that lie on several devices, here an axis of vmap; against torch on all rows."""
    import torch

    answer = function(sync_batch_norm, "sync_batch_norm(x, axis_name, eps)")
    for axis_name in ("devices", "rows"):
        devices, rows, d = (int(size) for size in rng.integers(3, 6, 3))
        x = (rng.normal(size=(devices, rows, d)) + 2 * rng.normal(size=(devices, 1, 1))).astype("f")
        eps = float(rng.choice([5e-2, 2e-1]))
        everything = torch.from_numpy(x.reshape(-1, d))
        out = torch.nn.BatchNorm1d(d, eps=eps, affine=False)(everything).numpy().reshape(x.shape)
        mean, var = everything.mean(0).numpy(), everything.var(0, correction=0).numpy()
        local, within = x.mean(1, keepdims=True), x.var(1, keepdims=True)

        def three(centre: Any, spread: Any, eps: float = eps, x: np.ndarray = x) -> tuple[np.ndarray, ...]:
            shape = (len(x), x.shape[2])
            centre, spread = (np.broadcast_to(part, (len(x), 1, x.shape[2])) for part in (centre, spread))
            return (x - centre) / np.sqrt(spread + eps), centre.reshape(shape), spread.reshape(shape)

        expected = (out, np.broadcast_to(mean, (devices, d)), np.broadcast_to(var, (devices, d)))
        got = jax.vmap(
            lambda x, name=axis_name, eps=eps: tuple(answer(x, name, eps)), axis_name=axis_name
        )(jnp.asarray(x))  # fmt: skip
        unbiased = everything.var(0).numpy()
        same(
            got, expected, f"(normalised, mean, var) on {devices} devices", rtol=1e-5, atol=1e-5,
            slips={
                "each device has statistics of its own: that is BatchNorm under DDP": three(local, within),
                "the mean of the devices' variances; it misses how far their means lie apart": three(
                    mean, within.mean(0)
                ),
                "a common mean, but each device's own variance": three(mean, within),
                "a common variance, but each device's own mean": three(local, var),
                "the variance divides by n - 1; normalising divides by n": three(mean, unbiased),
                "eps is added to the root, not under it": (
                    (x - mean) / (np.sqrt(var) + eps), expected[1], expected[2],
                ),
                "psum, a sum over devices; pmean is the mean": three(devices * mean, devices * var),
                "eps is among the variance that is returned": (out, expected[1], expected[2] + eps),
            },
        )  # fmt: skip
