"""Losses and metrics

Optax returns a loss for every example, as with `reduction="none"`; the mean, or the sum, is yours to take. Predictions
come first, labels second, as in PyTorch. Few losses check shapes (`squared_error` and `l2_loss` do): in the others what
broadcasts is computed. What Optax does not have is written out, and its gradient comes by itself.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

from rosetta.kinds import Pair, booleans, integers, normal, positive, raises


def signs(*shape):
    return lambda rng: rng.choice([-1.0, 1.0], size=shape).astype(np.float32)


def distributions(*shape):
    def draw(rng):
        weights = rng.uniform(0.1, 1, size=shape)
        return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)

    return draw


def adaptive(rng):
    """torch's adaptive softmax; `adaptive_weights` are its kernels, for JAX."""
    torch.manual_seed(0)
    return torch.nn.AdaptiveLogSoftmaxWithLoss(4, 10, cutoffs=[3])


def adaptive_weights(rng):
    return [jnp.asarray(p.detach().numpy().T) for p in adaptive(rng).parameters()]


class MeanSquares(Pair):
    """Mean squared error"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    also = ("nn.MSELoss", "F.mse_loss")
    note = "`squared_error` raises where the shapes differ; `((x - y) ** 2).mean()` broadcasts."

    def torch(x, y):
        return F.mse_loss(x, y)

    def jax(x, y):
        return optax.squared_error(x, y).mean()

    def claims():
        assert raises((ValueError, AssertionError), optax.squared_error, jnp.ones((6, 1)), jnp.ones(6))
        assert raises((ValueError, AssertionError), optax.l2_loss, jnp.ones((6, 1)), jnp.ones(6))
        assert optax.huber_loss(jnp.ones((6, 1)), jnp.ones(6)).shape == (6, 6)


class HalfSquares(Pair):
    """Mean squared error by `l2_loss`"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    trap = "`optax.l2_loss` is half the square: half the loss, half the gradient, as with half the learning rate."
    lesson = ("06_porting_layers", "trap:shrink")

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
    also = ("nn.L1Loss",)

    def torch(x, y):
        return F.l1_loss(x, y)

    def jax(x, y):
        return jnp.abs(x - y).mean()


class Huber(Pair):
    """Huber loss"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    also = ("nn.HuberLoss",)

    def torch(x, y):
        return F.huber_loss(x, y, delta=0.5)

    def jax(x, y):
        return optax.huber_loss(x, y, delta=0.5).mean()


class SmoothL1(Pair):
    """Smooth L1 loss"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    also = ("nn.SmoothL1Loss",)
    trap = "`smooth_l1_loss` with `beta` is the Huber loss with that `delta`, divided by it. They agree at 1 alone."
    lesson = ("06_porting_layers", "trap:shrink")

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
    also = ("nn.CrossEntropyLoss", "F.cross_entropy")

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


class PerExample(Pair):
    """Reduction of a loss"""

    inputs = {"logits": normal(6, 4), "labels": integers(0, 4, 6)}
    trap = "PyTorch returns the mean, Optax a loss for every example. `jax.grad` refuses what is no scalar."
    lesson = ("06b_porting_sequences", "trap:per-example")

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    def fix(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def differ(theirs, ours):
        return ours.shape == (6,) and np.allclose(ours.mean(), theirs, rtol=1e-5)

    def claims():
        assert raises(TypeError, jax.grad(lambda logits: optax.softmax_cross_entropy(logits, logits)), jnp.ones((6, 4)))


class SoftLabels(Pair):
    """Cross entropy with probabilities as labels"""

    inputs = {"logits": normal(6, 4), "labels": distributions(6, 4)}
    note = "One-hot labels too. PyTorch tells by the labels' dtype which one is meant; Optax has two functions."

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy(logits, labels).mean()


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
    also = ("nn.CrossEntropyLoss",)
    no_gradient = "PyTorch has none by the weights"
    trap = "PyTorch divides by the sum of the weights of the labels, not by how many there are."
    lesson = ("06_porting_layers", "trap:shrink")

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
    lesson = ("06b_porting_sequences", "trap:ignore-index")

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

    def claims():
        logits = jnp.arange(120.0)[None] / 60
        counted, there = (
            optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([i])) for i in (-100, 20)
        )  # fmt: skip
        assert counted == there


class PerPixel(Pair):
    """Cross entropy for every pixel"""

    inputs = {"logits": normal(2, 4, 3, 5), "labels": integers(0, 4, 2, 3, 5)}
    note = "The classes are axis 1 in PyTorch and the last one in Optax; `axis=1` takes PyTorch's."

    def torch(logits, labels):
        return F.cross_entropy(logits, labels)

    def jax(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(jnp.moveaxis(logits, 1, -1), labels).mean()

    def claims():
        logits, labels = jnp.arange(24.0).reshape(2, 4, 3) % 7, jnp.array([[0, 1, 3], [2, 2, 0]])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels, axis=1)
        assert abs(losses.mean() - PerPixel.sides()["jax"](logits, labels)) < 1e-6


class NegativeLogLikelihood(Pair):
    """Negative log likelihood"""

    inputs = {"logits": normal(6, 4), "labels": integers(0, 4, 6)}
    also = ("nn.NLLLoss", "F.nll_loss")

    def torch(logits, labels):
        return F.nll_loss(F.log_softmax(logits, dim=-1), labels)

    def jax(logits, labels):
        log_p = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=-1).mean()


class BinaryCrossEntropy(Pair):
    """Binary cross entropy with logits"""

    inputs = {"logits": normal(6), "labels": booleans(6)}
    also = ("nn.BCEWithLogitsLoss", "F.binary_cross_entropy_with_logits")

    def torch(logits, labels):
        return F.binary_cross_entropy_with_logits(logits, labels.float())

    def jax(logits, labels):
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


class BroadcastLabels(Pair):
    """Logits (n, 1) and labels (n,)"""

    inputs = {"logits": normal(6, 1), "labels": lambda rng: np.array([0, 1, 1, 0, 1, 0], np.float32)}
    trap = "PyTorch raises. In JAX they broadcast to (n, n), and the mean of all the wrong terms looks like a loss."
    lesson = ("01b_titanic_nnx", "trap:broadcast-labels")

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
    also = ("nn.BCEWithLogitsLoss",)
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
    also = ("nn.KLDivLoss", "F.kl_div")
    note = (
        "Both take the log of the prediction first and the target second, which is no log. The mean over examples is "
        "`batchmean` in PyTorch; its default divides by the classes too, and warns."
    )

    def torch(logits, target):
        return F.kl_div(F.log_softmax(logits, dim=-1), target, reduction="batchmean")

    def jax(logits, target):
        return optax.kl_divergence(jax.nn.log_softmax(logits), target).mean()

    def claims():
        log_p, target = torch.full((2, 4), 0.25).log(), torch.tensor([[0.1, 0.2, 0.3, 0.4]]).expand(2, 4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            default = F.kl_div(log_p, target)
        assert any("batchmean" in str(warning.message) for warning in caught)
        assert torch.isclose(4 * default, F.kl_div(log_p, target, reduction="batchmean"))


class CosineSimilarity(Pair):
    """Cosine similarity"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    also = ("nn.CosineSimilarity", "F.cosine_similarity")

    def torch(x, y):
        return F.cosine_similarity(x, y, dim=-1)

    def jax(x, y):
        return optax.losses.cosine_similarity(x, y)


class CosineOfZero(Pair):
    """Cosine similarity with a zero vector"""

    inputs = {"x": lambda rng: np.zeros((2, 3), np.float32), "y": normal(2, 3)}
    trap = "PyTorch's epsilon is 1e-8, and the result 0. Optax's is 0 by default, and the result NaN."
    lesson = ("06_porting_layers", "trap:shrink")
    no_gradient = "at a kink"

    def torch(x, y):
        return F.cosine_similarity(x, y, dim=-1)

    def jax(x, y):
        return optax.losses.cosine_similarity(x, y)

    def fix(x, y):
        return optax.losses.cosine_similarity(x, y, epsilon=1e-8)

    def differ(theirs, ours):
        return theirs.tolist() == [0, 0] and bool(jnp.isnan(ours).all())


class PairwiseDistance(Pair):
    """Distance of each row to its partner"""

    inputs = {"x": lambda rng: np.ones((2, 3), np.float32), "y": lambda rng: np.ones((2, 3), np.float32)}
    also = ("nn.PairwiseDistance", "torch.pairwise_distance")
    trap = (
        "PyTorch adds 1e-6 to the difference, so that equal rows are 1.7e-6 apart and have a gradient. Without it the "
        "distance is 0 and its gradient NaN."
    )
    tolerance = 1e-8  # 1.7e-6 is to be seen

    def torch(x, y):
        return F.pairwise_distance(x, y)

    def jax(x, y):
        return jnp.linalg.norm(x - y, axis=-1)

    def fix(x, y):
        return jnp.linalg.norm(x - y + 1e-6, axis=-1)

    def differ(theirs, ours):
        return np.allclose(theirs, 3**0.5 * 1e-6, rtol=1e-3) and bool((ours == 0).all())

    def claims():
        assert jnp.isnan(jax.grad(lambda x: jnp.linalg.norm(x))(jnp.zeros(3))).all()
        assert jnp.isfinite(jax.grad(lambda x: jnp.linalg.norm(x + 1e-6))(jnp.zeros(3))).all()


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
    also = ("nn.TripletMarginLoss",)

    def torch(anchor, positive, negative):
        return F.triplet_margin_loss(anchor, positive, negative)

    def jax(anchor, positive, negative):
        return optax.losses.triplet_margin_loss(anchor, positive, negative).mean()


class CTC(Pair):
    """CTC loss"""

    inputs = {"logits": normal(2, 6, 5), "labels": lambda rng: np.array([[1, 2, 2], [3, 1, 0]])}
    also = ("nn.CTCLoss", "F.ctc_loss")
    no_gradient = "compared by the mean of CTC losses"
    note = "PyTorch: time first, log-probabilities, lengths. Optax: batch first, logits, a 1 wherever there is padding."

    def torch(logits, labels):
        log_p = logits.log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(log_p, labels, torch.tensor([6, 5]), torch.tensor([3, 2]), reduction="none")

    def jax(logits, labels):
        logit_paddings = jnp.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1.0]])
        return optax.ctc_loss(logits, logit_paddings, labels, jnp.array([[0, 0, 0], [0, 0, 1.0]]))


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


class Sum(Pair):
    """Sum of losses"""

    inputs = {"x": normal(5, 3), "y": normal(5, 3)}
    note = '`reduction="none"` is the function itself, without `.sum()`.'

    def torch(x, y):
        return F.mse_loss(x, y, reduction="sum"), F.mse_loss(x, y, reduction="none")

    def jax(x, y):
        losses = optax.squared_error(x, y)
        return losses.sum(), losses


class WeightedExamples(Pair):
    """A weight for each example"""

    inputs = {"logits": normal(6), "labels": booleans(6), "weight": positive(6)}
    no_gradient = "PyTorch has none by the weights"

    def torch(logits, labels, weight):
        return F.binary_cross_entropy_with_logits(logits, labels.float(), weight=weight)

    def jax(logits, labels, weight):
        return (weight * optax.sigmoid_binary_cross_entropy(logits, labels)).mean()


class BinaryOfProbabilities(Pair):
    """Binary cross entropy of probabilities"""

    inputs = {"p": lambda rng: np.array([0.2, 0.7, 1.0, 0.0], np.float32), "labels": np.array([0, 1, 0, 1], np.float32)}
    also = ("nn.BCELoss",)
    no_gradient = "at 0 and 1 both are huge"
    trap = (
        "PyTorch bounds each logarithm by -100: where the prediction is 0 or 1 and wrong the loss is 100. Written as "
        "in the book it is infinite. Keep to logits where you can."
    )

    def torch(p, labels):
        return F.binary_cross_entropy(p, labels)

    def jax(p, labels):
        return -jnp.where(labels == 1, jnp.log(p), jnp.log1p(-p)).mean()

    def fix(p, labels):
        log_p, log_q = jnp.maximum(jnp.log(p), -100), jnp.maximum(jnp.log1p(-p), -100)
        return -(labels * log_p + (1 - labels) * log_q).mean()

    def differ(theirs, ours):
        return bool(jnp.isinf(ours)) and 50 < theirs < 51


class Gaussian(Pair):
    """Gaussian negative log likelihood"""

    inputs = {"x": normal(6), "y": normal(6), "var": positive(6)}
    also = ("nn.GaussianNLLLoss",)
    note = (
        "`full=True` adds half of log(2 pi). PyTorch keeps the variance above `eps=1e-6`: `jnp.maximum(var, 1e-6)`. "
        "`-jax.scipy.stats.norm.logpdf(y, x, jnp.sqrt(var))` is the full one."
    )

    def torch(x, y, var):
        return F.gaussian_nll_loss(x, y, var)

    def jax(x, y, var):
        return (0.5 * (jnp.log(var) + (x - y) ** 2 / var)).mean()

    def claims():
        x, y, var = jnp.array([0.3, 1.0]), jnp.array([0.1, -1.0]), jnp.array([0.5, 2.0])
        ours = -jax.scipy.stats.norm.logpdf(y, x, jnp.sqrt(var)).mean()
        assert abs(ours - Gaussian.sides()["jax"](x, y, var) - 0.5 * np.log(2 * np.pi)) < 1e-6
        theirs = F.gaussian_nll_loss(*(torch.from_numpy(np.array(a)) for a in (x, y, var)), full=True)
        assert abs(float(theirs) - ours) < 1e-6
        tiny = F.gaussian_nll_loss(torch.ones(2), torch.zeros(2), torch.full((2,), 1e-9))
        assert np.isclose(float(tiny), Gaussian.sides()["jax"](1.0, 0.0, jnp.maximum(1e-9, 1e-6)), rtol=1e-5)


class Poisson(Pair):
    """Poisson negative log likelihood"""

    inputs = {"log_rate": normal(6), "counts": lambda rng: rng.poisson(2.0, 6).astype(np.float32)}
    also = ("nn.PoissonNLLLoss",)
    note = "With `log_input=False` the prediction is the rate itself: `rate - counts * jnp.log(rate + 1e-8)`."

    def torch(log_rate, counts):
        return F.poisson_nll_loss(log_rate, counts)

    def jax(log_rate, counts):
        return (jnp.exp(log_rate) - counts * log_rate).mean()

    def claims():
        rate, counts = np.array([0.5, 2.0], np.float32), np.array([1.0, 3.0], np.float32)
        theirs = F.poisson_nll_loss(torch.from_numpy(rate), torch.from_numpy(counts), log_input=False)
        assert abs(float(theirs) - (rate - counts * np.log(rate + 1e-8)).mean()) < 1e-6


class HingeEmbedding(Pair):
    """Hinge embedding loss"""

    inputs = {"distance": positive(6), "y": signs(6)}
    also = ("nn.HingeEmbeddingLoss",)

    def torch(distance, y):
        return F.hinge_embedding_loss(distance, y, margin=1.0)

    def jax(distance, y):
        return jnp.where(y > 0, distance, jax.nn.relu(1.0 - distance)).mean()


class MarginRanking(Pair):
    """Margin ranking loss"""

    inputs = {"a": normal(6), "b": normal(6), "y": signs(6)}
    also = ("nn.MarginRankingLoss",)

    def torch(a, b, y):
        return F.margin_ranking_loss(a, b, y, margin=0.5)

    def jax(a, b, y):
        return jax.nn.relu(-y * (a - b) + 0.5).mean()


class CosineEmbedding(Pair):
    """Cosine embedding loss"""

    inputs = {"a": normal(6, 3), "b": normal(6, 3), "y": lambda rng: np.array([1, -1, 1, -1, 1, -1])}
    also = ("nn.CosineEmbeddingLoss",)

    def torch(a, b, y):
        return F.cosine_embedding_loss(a, b, y, margin=0.1)

    def jax(a, b, y):
        cosine = optax.losses.cosine_similarity(a, b, epsilon=1e-8)
        return jnp.where(y == 1, 1 - cosine, jax.nn.relu(cosine - 0.1)).mean()


class MultiMargin(Pair):
    """Multi-class margin loss"""

    inputs = {"x": normal(6, 4), "labels": integers(0, 4, 6)}
    also = ("nn.MultiMarginLoss",)
    note = (
        "`optax.losses.multiclass_hinge_loss` is another: the largest violation alone, where this one takes the mean "
        "over all classes, the right one included."
    )

    def torch(x, labels):
        return F.multi_margin_loss(x, labels)

    def jax(x, labels):
        right = jnp.take_along_axis(x, labels[:, None], axis=-1)
        others = 1 - jax.nn.one_hot(labels, x.shape[-1])
        return (others * jax.nn.relu(1.0 - right + x)).mean()

    def claims():
        x, labels = jnp.array([[0.1, 0.5, 0.9]]), jnp.array([0])
        assert abs(optax.losses.multiclass_hinge_loss(x, labels)[0] - 1.8) < 1e-6
        assert abs(MultiMargin.sides()["jax"](x, labels) - (1.4 + 1.8) / 3) < 1e-6


class MultiLabelMargin(Pair):
    """Multi-label margin loss"""

    inputs = {"x": normal(2, 4), "labels": np.array([[3, 0, -1, 1], [2, -1, 0, 0]])}
    also = ("nn.MultiLabelMarginLoss",)
    note = "The labels of a row end at the first -1; what comes after it does not count."

    def torch(x, labels):
        return F.multilabel_margin_loss(x, labels)

    def jax(x, labels):
        ours = jnp.cumprod(labels >= 0, axis=1)[..., None] * jax.nn.one_hot(labels, x.shape[1])
        own = ours.sum(1)  # (B, C), 1 for a label of the row
        pairs = jax.nn.relu(1 - x[:, :, None] + x[:, None, :])
        return (own[:, :, None] * (1 - own)[:, None, :] * pairs).sum() / x.size


class SoftMargin(Pair):
    """Soft margin loss"""

    inputs = {"x": normal(6), "y": signs(6)}
    also = ("nn.SoftMarginLoss",)
    no_gradient = "PyTorch has none by the labels"

    def torch(x, y):
        return F.soft_margin_loss(x, y)

    def jax(x, y):
        return jax.nn.softplus(-x * y).mean()


class MultiLabelSoftMargin(Pair):
    """Multi-label loss, a sigmoid for each class"""

    inputs = {"logits": normal(6, 4), "labels": booleans(6, 4)}
    also = ("nn.MultiLabelSoftMarginLoss",)
    note = "It is the binary cross entropy with logits: PyTorch has two names for it."

    def torch(logits, labels):
        return F.multilabel_soft_margin_loss(logits, labels.float())

    def jax(logits, labels):
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


class TripletWithDistance(Pair):
    """Triplet loss with a distance of your own"""

    inputs = {"a": normal(5, 3), "p": normal(5, 3), "n": normal(5, 3)}
    also = ("nn.TripletMarginWithDistanceLoss",)

    def torch(a, p, n):
        distance = lambda x, y: 1 - F.cosine_similarity(x, y)  # noqa: E731
        return F.triplet_margin_with_distance_loss(a, p, n, distance_function=distance, margin=0.5)

    def jax(a, p, n):
        distance = optax.losses.cosine_distance
        return jax.nn.relu(distance(a, p) - distance(a, n) + 0.5).mean()


class KullbackLeiblerLogTarget(Pair):
    """Kullback-Leibler divergence of two logarithms"""

    inputs = {"logits": normal(6, 4), "target": normal(6, 4)}
    note = "What distillation compares: the student's log-probabilities first, the teacher's second."

    def torch(logits, target):
        log_p, log_q = F.log_softmax(logits, dim=-1), F.log_softmax(target, dim=-1)
        return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)

    def jax(logits, target):
        log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(target)
        return optax.losses.kl_divergence_with_log_targets(log_p, log_q).mean()


class CTCMean(Pair):
    """Mean of CTC losses"""

    inputs = {"logits": normal(2, 6, 5), "labels": lambda rng: np.array([[1, 2, 2], [3, 1, 0]])}
    trap = "PyTorch divides each loss by the length of its target before it takes the mean."

    def torch(logits, labels):
        log_p = logits.log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(log_p, labels, torch.tensor([6, 6]), torch.tensor([3, 2]))

    def jax(logits, labels):
        label_paddings = jnp.array([[0, 0, 0], [0, 0, 1.0]])
        return optax.ctc_loss(logits, jnp.zeros((2, 6)), labels, label_paddings).mean()

    def fix(logits, labels):
        label_paddings = jnp.array([[0, 0, 0], [0, 0, 1.0]])
        losses = optax.ctc_loss(logits, jnp.zeros((2, 6)), labels, label_paddings)
        return (losses / (1 - label_paddings).sum(axis=1)).mean()

    def differ(theirs, ours):
        return 2 < ours / float(theirs) < 3


class Focal(Pair):
    """Focal loss"""

    inputs = {"logits": normal(6), "labels": booleans(6)}
    note = "PyTorch has it in torchvision alone."

    def torch(logits, labels):
        loss = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        return (loss * (1 - torch.exp(-loss)) ** 2).mean()

    def jax(logits, labels):
        return optax.losses.sigmoid_focal_loss(logits, labels.astype(jnp.float32), gamma=2.0).mean()


class Contrastive(Pair):
    """Contrastive loss (InfoNCE, CLIP)"""

    inputs = {"images": normal(4, 3), "texts": normal(4, 3)}

    def torch(images, texts):
        logits = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T / 0.1
        return F.cross_entropy(logits, torch.arange(4))

    def jax(images, texts):
        unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
        logits = unit(images) @ unit(texts).T / 0.1
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(4)).mean()


class Perplexity(Pair):
    """Perplexity of a language model"""

    inputs = {"logits": normal(2, 5, 7), "tokens": integers(0, 7, 2, 5)}

    def torch(logits, tokens):
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).exp()

    def jax(logits, tokens):
        return jnp.exp(optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean())


class ConfusionMatrix(Pair):
    """Confusion matrix"""

    inputs = {"predicted": integers(0, 3, 20), "labels": integers(0, 3, 20)}

    def torch(predicted, labels):
        return torch.bincount(labels * 3 + predicted, minlength=9).view(3, 3)

    def jax(predicted, labels):
        return jnp.zeros((3, 3), int).at[labels, predicted].add(1)


class PrecisionRecall(Pair):
    """Precision and recall"""

    inputs = {"logits": normal(40), "labels": booleans(40)}

    def torch(logits, labels):
        predicted = logits > 0
        hits = (predicted & labels).sum()
        return hits / predicted.sum(), hits / labels.sum()

    def jax(logits, labels):
        predicted = logits > 0
        hits = (predicted & labels).sum()
        return hits / predicted.sum(), hits / labels.sum()


class LastLayer(Pair):
    """Last layer and cross entropy in one"""

    inputs = {"x": normal(6, 3), "w": normal(4, 3), "labels": integers(0, 4, 6)}
    also = ("nn.LinearCrossEntropyLoss",)
    note = "PyTorch may do it in chunks, without all logits at once: here `jax.checkpoint` over `lax.map` does."

    def torch(x, w, labels):
        return F.linear_cross_entropy(x, w, labels)

    def jax(x, w, labels):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w.T, labels).mean()

    def claims():
        x, w, labels = jnp.arange(18.0).reshape(6, 3) / 9, jnp.ones((4, 3)).at[0].set(2.0), jnp.arange(6) % 4

        def chunk(rows):
            return optax.softmax_cross_entropy_with_integer_labels(rows[0] @ w.T, rows[1])

        losses = jax.lax.map(jax.checkpoint(chunk), (x.reshape(2, 3, 3), labels.reshape(2, 3)))
        assert abs(losses.mean() - LastLayer.sides()["jax"](x, w, labels)) < 1e-6


class AdaptiveSoftmax(Pair):
    """Adaptive softmax for many classes"""

    inputs = {"x": normal(6, 4), "labels": integers(0, 10, 6), "model": adaptive, "weights": adaptive_weights}
    also = ("nn.AdaptiveLogSoftmaxWithLoss", "nn.AdaptiveLogSoftmaxWithLoss.log_prob")
    note = (
        "`cutoffs=[3]`: three frequent classes, and one that stands for the rare ones. PyTorch computes no tail for "
        "the former."
    )

    def torch(model, x, labels):
        return model(x, labels).loss

    def jax(weights, x, labels):
        head, down, up = weights
        log_head = jax.nn.log_softmax(x @ head)  # (6, 3 + 1)
        log_tail = log_head[:, 3:] + jax.nn.log_softmax(x @ down @ up)  # (6, 7)
        log_p = jnp.concatenate([log_head[:, :3], log_tail], axis=1)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()
