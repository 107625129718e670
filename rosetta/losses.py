"""Losses and metrics

Optax returns a loss for every example; the mean is yours to take, and `reduction=` has no counterpart. Predictions come
first, labels second, as in PyTorch. No loss checks shapes: what broadcasts is computed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

from rosetta.kinds import Pair, booleans, integers, normal, positive


def signs(*shape):
    return lambda rng: rng.choice([-1.0, 1.0], size=shape).astype(np.float32)


def distributions(*shape):
    def draw(rng):
        weights = rng.uniform(0.1, 1, size=shape)
        return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)

    return draw


class MeanSquares(Pair):
    """Mean squared error"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}

    def torch(x, y):
        return F.mse_loss(x, y)

    def jax(x, y):
        return optax.squared_error(x, y).mean()


class HalfSquares(Pair):
    """Mean squared error by `l2_loss`"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    trap = "`optax.l2_loss` is half the square: half the loss, half the gradient, as with half the learning rate."
    lesson = ("06_porting_layers", "optax.l2_loss(a, b).mean()")

    def torch(x, y):
        return F.mse_loss(x, y)

    def jax(x, y):
        return optax.l2_loss(x, y).mean()

    def fix(x, y):
        return optax.squared_error(x, y).mean()

    def differ(theirs, ours):
        return np.allclose(theirs, 2 * ours, rtol=1e-5) and float(ours) > 0


class MeanAbsolute(Pair):
    """Mean absolute error"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}

    def torch(x, y):
        return F.l1_loss(x, y)

    def jax(x, y):
        return jnp.abs(x - y).mean()


class Huber(Pair):
    """Huber loss"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}

    def torch(x, y):
        return F.huber_loss(x, y, delta=0.5)

    def jax(x, y):
        return optax.huber_loss(x, y, delta=0.5).mean()


class SmoothL1(Pair):
    """Smooth L1 loss"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    trap = "`smooth_l1_loss` with `beta` is the Huber loss with that `delta`, divided by it. They agree at 1 alone."
    lesson = ("06_porting_layers", "smooth_l1_loss, beta 0.5")

    def torch(x, y):
        return F.smooth_l1_loss(x, y, beta=0.5)

    def jax(x, y):
        return optax.huber_loss(x, y, delta=0.5).mean()

    def fix(x, y):
        return optax.huber_loss(x, y, delta=0.5).mean() / 0.5

    def differ(theirs, ours):
        return np.allclose(theirs, 2 * ours, rtol=1e-5) and float(ours) > 0


class CrossEntropy(Pair):
    """Cross entropy with integer labels"""

    inputs = {"logits": normal(6, 4), "labels": integers(0, 4, 6)}

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


class PerExample(Pair):
    """Reduction of a loss"""

    inputs = {"logits": normal(6, 4), "labels": integers(0, 4, 6)}
    trap = "PyTorch returns the mean, Optax a loss for every example. `jax.grad` refuses what is no scalar."
    lesson = ("06_porting_layers", 'print("a loss per token:"')

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    def fix(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def differ(theirs, ours):
        return ours.shape == (6,) and np.allclose(ours.mean(), theirs, rtol=1e-5)


class SoftLabels(Pair):
    """Cross entropy with probabilities as labels"""

    inputs = {"logits": normal(6, 4), "labels": distributions(6, 4)}
    note = "One-hot labels too. PyTorch tells by the labels' dtype which one is meant; Optax has two functions."

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy(logits, labels).mean()


class OneHot(Pair):
    """One-hot labels"""

    inputs = {"labels": integers(0, 4, 6)}
    note = "PyTorch's are integers, JAX's float32. A label out of range raises in PyTorch, in JAX it is a row of zeros."

    def torch(labels):
        return F.one_hot(labels, 4).float()

    def jax(labels):
        return jax.nn.one_hot(labels, 4)


class LabelSmoothing(Pair):
    """Label smoothing"""

    inputs = {"logits": normal(6, 4), "labels": integers(0, 4, 6)}

    def torch(logits, labels):
        return F.cross_entropy(logits, labels, label_smoothing=0.1)

    def jax(logits, labels):
        smooth = optax.smooth_labels(jax.nn.one_hot(labels, 4), 0.1)
        return optax.softmax_cross_entropy(logits, smooth).mean()


class ClassWeights(Pair):
    """Class weights"""

    inputs = {"logits": normal(4, 3), "labels": np.array([0, 2, 1, 1]), "weight": np.array([1, 2, 5], np.float32)}
    no_gradient = "PyTorch has none by the weights"
    trap = "PyTorch divides by the sum of the weights of the labels, not by how many there are."
    lesson = ("06_porting_layers", "cross_entropy, weight=w")

    def torch(logits, labels, weight):
        return F.cross_entropy(logits, labels, weight=weight)

    def jax(logits, labels, weight):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (weight[labels] * losses).mean()

    def fix(logits, labels, weight):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (weight[labels] * losses).sum() / weight[labels].sum()

    def differ(theirs, ours):
        return np.allclose(4 * ours, (1 + 5 + 2 + 2) * theirs, rtol=1e-5)


class IgnoreIndex(Pair):
    """Labels to ignore"""

    inputs = {"logits": normal(6, 4), "labels": lambda rng: np.array([0, 3, -100, 1, -100, 2])}
    trap = (
        "PyTorch leaves out the label -100. Optax looks it up: NaN with fewer than a hundred classes, otherwise the "
        "class counted from the end, and a plausible number."
    )
    lesson = ("06_porting_layers", "more it is a class counted from the end")

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def fix(logits, labels):
        mask = labels != -100
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(mask, labels, 0))
        return jnp.where(mask, losses, 0).sum() / mask.sum()

    def differ(theirs, ours):
        return bool(jnp.isnan(ours)) and bool(torch.isfinite(theirs))


class PerPixel(Pair):
    """Cross entropy for every pixel"""

    inputs = {"logits": normal(2, 4, 3, 5), "labels": integers(0, 4, 2, 3, 5)}
    note = "The classes are axis 1 in PyTorch and the last one in Optax; `axis=1` takes PyTorch's."

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(jnp.moveaxis(logits, 1, -1), labels).mean()


class NegativeLogLikelihood(Pair):
    """Negative log likelihood"""

    inputs = {"logits": normal(6, 4), "labels": integers(0, 4, 6)}

    def torch(logits, labels):
        return F.nll_loss(F.log_softmax(logits, dim=-1), labels)

    def jax(logits, labels):
        log_p = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=-1).mean()


class BinaryCrossEntropy(Pair):
    """Binary cross entropy with logits"""

    inputs = {"logits": normal(6), "labels": booleans(6)}

    def torch(logits, labels):
        return F.binary_cross_entropy_with_logits(logits, labels.float())

    def jax(logits, labels):
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


class BroadcastLabels(Pair):
    """Logits (n, 1) and labels (n,)"""

    inputs = {"logits": normal(6, 1), "labels": lambda rng: np.array([0, 1, 1, 0, 1, 0], np.float32)}
    trap = "PyTorch raises. In JAX they broadcast to (n, n), and the mean of all the wrong terms looks like a loss."
    lesson = ("01b_titanic_nnx", "no error, but shape")

    def torch(logits, labels):
        return F.binary_cross_entropy_with_logits(logits, labels)

    def jax(logits, labels):
        return optax.sigmoid_binary_cross_entropy(logits, labels)

    def fix(logits, labels):
        return optax.sigmoid_binary_cross_entropy(logits.squeeze(-1), labels)

    def differ(theirs, ours, fixed):
        return isinstance(theirs, ValueError) and ours.shape == (6, 6) and jnp.array_equal(jnp.diag(ours), fixed)


class PositiveWeight(Pair):
    """Weight of the positive class"""

    inputs = {"logits": normal(6), "labels": positive(6)}
    note = (
        "Labels may lie between 0 and 1. For 0 and 1 alone, "
        "`jnp.where(labels, 3.0, 1.0) * optax.sigmoid_binary_cross_entropy(logits, labels)` is the same."
    )

    def torch(logits, labels):
        return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=torch.tensor(3.0))

    def jax(logits, labels):
        positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return -(3.0 * labels * positive + (1 - labels) * negative).mean()

    def claims():
        logits = jnp.linspace(-2.0, 2.0, 6)
        for labels, same in ((jnp.arange(6) % 2, True), (jnp.full(6, 0.3), False)):
            short = jnp.where(labels, 3.0, 1.0) * optax.sigmoid_binary_cross_entropy(logits, labels)
            assert (abs(short.mean() - PositiveWeight.sides()["jax"](logits, labels)) < 1e-6) == same


class KullbackLeibler(Pair):
    """Kullback-Leibler divergence"""

    inputs = {"logits": normal(6, 4), "target": distributions(6, 4)}
    note = (
        "Both take the log of the prediction first and the target second, which is no log. The mean over examples is "
        "`batchmean` in PyTorch; its default divides by the classes too, and warns. `log_target=True` is "
        "`optax.losses.kl_divergence_with_log_targets`."
    )

    def torch(logits, target):
        return F.kl_div(F.log_softmax(logits, dim=-1), target, reduction="batchmean")

    def jax(logits, target):
        return optax.kl_divergence(jax.nn.log_softmax(logits), target).mean()


class CosineSimilarity(Pair):
    """Cosine similarity"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}

    def torch(x, y):
        return F.cosine_similarity(x, y, dim=-1)

    def jax(x, y):
        return optax.losses.cosine_similarity(x, y)


class CosineOfZero(Pair):
    """Cosine similarity with a zero vector"""

    inputs = {"x": lambda rng: np.zeros((2, 3), np.float32), "y": normal(2, 3)}
    trap = "PyTorch's epsilon is 1e-8, and the result 0. Optax's is 0 by default, and the result NaN."
    lesson = ("06_porting_layers", "cosine_similarity to 0")
    no_gradient = "at a kink"

    def torch(x, y):
        return F.cosine_similarity(x, y, dim=-1)

    def jax(x, y):
        return optax.losses.cosine_similarity(x, y)

    def fix(x, y):
        return optax.losses.cosine_similarity(x, y, epsilon=1e-8)

    def differ(theirs, ours):
        return theirs.tolist() == [0, 0] and bool(jnp.isnan(ours).all())


class Hinge(Pair):
    """Hinge loss"""

    inputs = {"x": normal(6), "y": signs(6)}
    note = "Labels are -1 and 1. PyTorch has no plain hinge loss; `hinge_embedding_loss` is another."

    def torch(x, y):
        return (1 - x * y).clamp(min=0).mean()

    def jax(x, y):
        return optax.hinge_loss(x, y).mean()


class Triplet(Pair):
    """Triplet margin loss"""

    inputs = {"anchor": normal(5, 3), "positive": normal(5, 3), "negative": normal(5, 3)}

    def torch(anchor, positive, negative):
        return F.triplet_margin_loss(anchor, positive, negative)

    def jax(anchor, positive, negative):
        return optax.losses.triplet_margin_loss(anchor, positive, negative).mean()


class CTC(Pair):
    """CTC loss"""

    inputs = {"logits": normal(2, 6, 5), "labels": lambda rng: np.array([[1, 2, 2], [3, 1, 0]])}
    no_gradient = "PyTorch's is by `log_softmax`, and takes it to be there"
    note = "PyTorch: time first, log-probabilities, lengths. Optax: batch first, logits, a 1 wherever there is padding."

    def torch(logits, labels):
        log_p = logits.log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(log_p, labels, torch.tensor([6, 5]), torch.tensor([3, 2]), reduction="none")

    def jax(logits, labels):
        logit_paddings = jnp.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1.0]])
        return optax.ctc_loss(logits, logit_paddings, labels, jnp.array([[0, 0, 0], [0, 0, 1.0]]))


class SumOrMean(Pair):
    """Gradient of a sum or of a mean"""

    inputs = {"w": normal(3), "x": normal(6, 3), "y": normal(6)}
    no_gradient = "it is one"
    note = "Compared: the gradient of a sum, divided by how many there are, and the gradient of the mean."

    def torch(w, x, y):
        w.requires_grad_()
        F.mse_loss(x @ w, y, reduction="sum").backward()
        return w.grad / 6

    def jax(w, x, y):
        return jax.grad(lambda w: optax.squared_error(x @ w, y).mean())(w)


class Accuracy(Pair):
    """Classification accuracy"""

    inputs = {"logits": normal(20, 4), "labels": integers(0, 4, 20)}

    def torch(logits, labels):
        return (logits.argmax(-1) == labels).float().mean()

    def jax(logits, labels):
        return (logits.argmax(-1) == labels).mean()


class TopK(Pair):
    """Accuracy among the top k"""

    inputs = {"logits": normal(20, 6), "labels": integers(0, 6, 20)}

    def torch(logits, labels):
        return (logits.topk(3).indices == labels[:, None]).any(-1).float().mean()

    def jax(logits, labels):
        return (jax.lax.top_k(logits, 3)[1] == labels[:, None]).any(-1).mean()
