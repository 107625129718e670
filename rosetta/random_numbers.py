"""Random numbers

There is no hidden generator: whoever draws passes a key, and the same key gives the same numbers. Split a key for every
new draw. JAX and PyTorch never draw equal numbers; here shapes, dtypes, ranges, means and spreads are compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, integers, key, normal, plain, positive, raises, spd


class Draws:
    """A mixin: draws are compared by shape and kind, and their range, mean and spread with the known ones."""

    mean, spread, bounds = 0.0, 1.0, (-np.inf, np.inf)

    @classmethod
    def result(cls, side, drawn):
        torch.manual_seed(1)
        draws = plain(super().result(side, drawn))
        assert draws.size >= 1000, "too few to judge"
        assert abs(draws.mean() - cls.mean) < 5 * cls.spread / np.sqrt(draws.size), (side, draws.mean())
        assert abs(draws.std() / cls.spread - 1) < 0.1, (side, draws.std())
        assert cls.bounds[0] <= draws.min() and draws.max() <= cls.bounds[1], (side, draws.min(), draws.max())
        return draws.shape, draws.dtype.kind


class OneSeed(Pair):
    """Repeat a draw with its seed"""

    also = ("cuda.manual_seed", "cuda.manual_seed_all", "random.manual_seed")

    def torch():
        torch.manual_seed(0)
        first = torch.rand(3)
        torch.manual_seed(0)
        return torch.equal(first, torch.rand(3))

    def jax():
        first = jax.random.uniform(jax.random.key(0), (3,))
        return jnp.array_equal(first, jax.random.uniform(jax.random.key(0), (3,)))

    def claims():
        assert OneSeed.torch() and OneSeed.jax()


class DrawTwice(Pair):
    """Draw twice"""

    inputs = {"key": key()}
    trap = "Drawing does not change a key. The second draw with it gives the same numbers, without a word."
    lesson = ("00_start_here", "trap:draw-twice")

    def torch():
        first, second = torch.rand(3), torch.rand(3)
        return torch.equal(first, second)

    def jax(key):
        first, second = jax.random.uniform(key, (3,)), jax.random.uniform(key, (3,))
        return jnp.array_equal(first, second)

    def fix(key):
        first_key, second_key = jax.random.split(key)
        first, second = jax.random.uniform(first_key, (3,)), jax.random.uniform(second_key, (3,))
        return jnp.array_equal(first, second)

    def differ(theirs, ours):
        return theirs is False and bool(ours) is True


class StepNumbers(Pair):
    """Numbers of their own for every step"""

    note = "`fold_in` needs no keys of earlier steps, so a run that resumes at step 500 draws what it would have drawn."

    def torch():
        draws = [torch.rand((), generator=torch.Generator().manual_seed(step)) for step in range(4)]
        return torch.stack(draws).unique().shape

    def jax():
        key = jax.random.key(0)
        draws = [jax.random.uniform(jax.random.fold_in(key, step)) for step in range(4)]
        return jnp.unique(jnp.stack(draws)).shape

    def claims():
        assert StepNumbers.torch() == StepNumbers.jax() == (4,)


class OwnGenerator(Pair):
    """A generator of one's own"""

    note = "A key is a value: whoever holds it can draw, and nobody else's draws change what it gives."
    also = ("torch.Generator", "random.fork_rng")

    def torch():
        generator = torch.Generator().manual_seed(3)
        first = torch.rand(2, generator=generator)
        torch.rand(2)  # of another stream
        return torch.equal(first, torch.rand(2, generator=generator.manual_seed(3)))

    def jax():
        key, other = jax.random.key(3), jax.random.key(4)
        first = jax.random.uniform(key, (2,))
        jax.random.uniform(other, (2,))
        return jnp.array_equal(first, jax.random.uniform(key, (2,)))

    def claims():
        assert OwnGenerator.torch() and OwnGenerator.jax()


class KeysInLoop(Pair):
    """Draw in a loop"""

    inputs = {"key": key()}

    def torch():
        draws = [torch.randn(2) for _ in range(5)]
        return torch.stack(draws).unique().shape

    def jax(key):
        draws = []
        for _ in range(5):
            key, now = jax.random.split(key)
            draws.append(jax.random.normal(now, (2,)))
        return jnp.unique(jnp.stack(draws)).shape


class KeysInScan(Draws, Pair):
    """Draw in a compiled loop"""

    inputs = {"key": key()}
    mean, spread = 0.0, 5**0.5

    def torch():
        x = torch.zeros(2000)
        for _ in range(5):
            x = x + torch.randn(2000)
        return x

    def jax(key):
        def step(x, key):
            return x + jax.random.normal(key, x.shape), None

        return jax.lax.scan(step, jnp.zeros(2000), jax.random.split(key, 5))[0]


class NumPyInJit(Pair):
    """NumPy's or Python's generator in a compiled function"""

    inputs = {"key": key()}
    trap = "It runs once, while the program is written: every later call adds the same number."

    def torch():
        step = torch.compile(lambda x: x + torch.rand(()), backend="eager")
        return torch.equal(step(torch.zeros(())), step(torch.zeros(())))

    def jax():
        step = jax.jit(lambda x: x + np.random.default_rng().random())
        return jnp.array_equal(step(0.0), step(0.0))

    def fix(key):
        step = jax.jit(lambda x, key: x + jax.random.uniform(key))
        first, second = jax.random.split(key)
        return jnp.array_equal(step(0.0, first), step(0.0, second))

    def differ(theirs, ours):
        return theirs is False and bool(ours) is True


class Uniform(Draws, Pair):
    """Uniform numbers in a range"""

    inputs = {"key": key()}
    mean, spread, bounds = 0.5, 5 / 12**0.5, (-2, 3)
    also = ("torch.rand", "torch.rand_like", "distributions.Uniform")

    def torch():
        return torch.empty(50, 40).uniform_(-2, 3)

    def jax(key):
        return jax.random.uniform(key, (50, 40), minval=-2, maxval=3)


class NormalLike(Draws, Pair):
    """Noise of the shape of a tensor"""

    inputs = {"key": key(), "x": normal(50, 40)}
    mean, spread = 0.0, 0.1
    also = ("torch.randn",)

    def torch(x):
        return 0.1 * torch.randn_like(x)

    def jax(key, x):
        return 0.1 * jax.random.normal(key, x.shape, x.dtype)


class NormalWithMoments(Draws, Pair):
    """Normal numbers of a given mean and spread"""

    inputs = {"key": key()}
    mean, spread = 5.0, 2.0
    also = ("Tensor.normal_", "distributions.Normal")

    def torch():
        return torch.normal(5.0, 2.0, size=(50, 40))

    def jax(key):
        return 5.0 + 2.0 * jax.random.normal(key, (50, 40))


class TruncatedNormal(Draws, Pair):
    """Truncated normal numbers"""

    inputs = {"key": key()}
    mean, spread, bounds = 0.0, 1.0791, (-2, 2)  # normal numbers of spread 2, cut where they exceed 2
    trap = "The bounds are numbers in PyTorch. In JAX they are standard deviations, and the result is to be scaled."

    def torch():
        return torch.nn.init.trunc_normal_(torch.empty(5000), std=2.0, a=-2.0, b=2.0)

    def jax(key):
        return 2.0 * jax.random.truncated_normal(key, -2.0, 2.0, (5000,))

    def fix(key):
        return 2.0 * jax.random.truncated_normal(key, -2.0 / 2.0, 2.0 / 2.0, (5000,))

    def differ(ours):
        largest = jnp.abs(TruncatedNormal.jax(jax.random.key(0))).max()
        return isinstance(ours, AssertionError) and 3.9 < largest <= 4


class Exponential(Draws, Pair):
    """Exponential numbers, with a rate"""

    inputs = {"key": key()}
    mean, spread, bounds = 0.5, 0.5, (0, np.inf)
    note = "JAX's have rate 1: divide by the rate."
    also = ("distributions.Exponential",)

    def torch():
        return torch.empty(5000).exponential_(2.0)

    def jax(key):
        return jax.random.exponential(key, (5000,)) / 2.0


class Gamma(Draws, Pair):
    """Gamma numbers"""

    inputs = {"key": key()}
    mean, spread, bounds = 3 / 2, 3**0.5 / 2, (0, np.inf)
    also = ("distributions.Gamma",)

    def torch():
        return torch.distributions.Gamma(3.0, rate=2.0).sample((5000,))

    def jax(key):
        return jax.random.gamma(key, 3.0, (5000,)) / 2.0


class Beta(Draws, Pair):
    """Beta and Dirichlet numbers"""

    inputs = {"key": key()}
    mean, spread, bounds = 0.4, 0.2, (0, 1)
    note = "`jax.random.dirichlet(key, alpha, shape)` for several classes."
    also = ("distributions.Beta", "distributions.Dirichlet")

    def torch():
        return torch.distributions.Beta(2.0, 3.0).sample((2000,))

    def jax(key):
        return jax.random.beta(key, 2.0, 3.0, (2000,))

    def claims():
        rows = jax.random.dirichlet(jax.random.key(0), jnp.array([2.0, 3.0]), (5000,))
        theirs = torch.distributions.Dirichlet(torch.tensor([2.0, 3.0])).sample((5000,))
        assert rows.shape == theirs.shape and abs(rows[:, 0].mean() - theirs[:, 0].mean().item()) < 0.02


class Poisson(Draws, Pair):
    """Poisson numbers"""

    inputs = {"key": key()}
    mean, spread, bounds = 3.0, 3**0.5, (0, np.inf)
    note = "Floats in PyTorch, integers in JAX."
    also = ("distributions.Poisson",)

    def torch():
        return torch.poisson(torch.full((2000,), 3.0))

    def jax(key):
        return jax.random.poisson(key, 3.0, (2000,)).astype(jnp.float32)

    def claims():
        assert jax.random.poisson(jax.random.key(0), 3.0).dtype == jnp.int32


class Binomial(Draws, Pair):
    """Binomial numbers"""

    inputs = {"key": key()}
    mean, spread, bounds = 3.0, 2.1**0.5, (0, 10)
    note = "`jax.random.multinomial` counts several classes, as `distributions.Multinomial` does."
    also = ("torch.binomial", "distributions.Binomial", "distributions.Multinomial")

    def torch():
        return torch.distributions.Binomial(10, 0.3).sample((2000,))

    def jax(key):
        return jax.random.binomial(key, 10, 0.3, (2000,))

    def claims():
        weights = np.array([0.2, 0.3, 0.5], np.float32)
        ours = jax.random.multinomial(jax.random.key(0), 10_000, jnp.array(weights))
        for counts in (ours, torch.distributions.Multinomial(10_000, torch.tensor(weights)).sample()):
            assert counts.sum() == 10_000 and np.allclose(counts / 10_000, weights, atol=0.03)


class Geometric(Draws, Pair):
    """Number of tries until a success"""

    inputs = {"key": key()}
    mean, spread, bounds = 2.5, 3.75**0.5, (1, np.inf)
    note = "Both count from 1. `distributions.Geometric` counts the failures, from 0."

    def torch():
        return torch.empty(5000).geometric_(0.4)

    def jax(key):
        return jax.random.geometric(key, 0.4, (5000,)).astype(jnp.float32)

    def claims():
        assert torch.distributions.Geometric(0.9).sample((50,)).min() == 0


class Laplace(Draws, Pair):
    """Laplace, Gumbel, Cauchy, logistic and lognormal numbers"""

    inputs = {"key": key()}
    mean, spread = 0.0, 2**0.5
    note = "Standard ones in JAX: scale and shift them. `gumbel`, `cauchy`, `logistic`, `lognormal`, `t` are there too."
    also = (
        "distributions.Laplace", "distributions.Gumbel", "distributions.Cauchy", "distributions.LogNormal",
        "distributions.StudentT", "Tensor.cauchy_", "Tensor.log_normal_",
    )  # fmt: skip

    def torch():
        return torch.distributions.Laplace(0.0, 1.0).sample((5000,))

    def jax(key):
        return jax.random.laplace(key, (5000,))

    def claims():
        torch.manual_seed(0)
        theirs = {"gumbel": "Gumbel", "cauchy": "Cauchy", "lognormal": "LogNormal"}
        quartiles = {"gumbel": (0.367, 1.246), "cauchy": (0, 1), "logistic": (0, 1.099), "lognormal": (1, 1.963)}
        for name, expected in quartiles.items():
            draws = getattr(jax.random, name)(jax.random.key(0), shape=(20_000,))
            assert np.allclose(np.quantile(draws, [0.5, 0.75]), expected, atol=0.07), name
            if name in theirs:
                draws = getattr(torch.distributions, theirs[name])(0.0, 1.0).sample((20_000,))
                assert np.allclose(np.quantile(draws, [0.5, 0.75]), expected, atol=0.07), name
        assert np.isclose(np.quantile(jax.random.t(jax.random.key(0), 3.0, (20_000,)), 0.75), 0.765, atol=0.05)


class RandomSigns(Draws, Pair):
    """Random signs"""

    inputs = {"key": key()}
    mean, spread, bounds = 0.0, 1.0, (-1, 1)

    def torch():
        return 2.0 * torch.randint(0, 2, (2000,)) - 1

    def jax(key):
        return jax.random.rademacher(key, (2000,), jnp.float32)


class RandomOrthogonal(Pair):
    """Random orthogonal matrix"""

    inputs = {"key": key()}
    note = "All orthogonal matrices are as likely, so the mean of many is 0."

    def torch():
        q = torch.nn.init.orthogonal_(torch.empty(4, 4))
        return q @ q.mT

    def jax(key):
        q = jax.random.orthogonal(key, 4)
        return q @ q.mT

    def claims():
        mean = jax.random.orthogonal(jax.random.key(0), 4, (2000,)).mean(0)
        assert jnp.abs(mean).max() < 0.05


class Integers(Draws, Pair):
    """Random integers"""

    inputs = {"key": key()}
    mean, spread, bounds = 4.5, (99 / 12) ** 0.5, (0, 9)
    note = (
        "The shape comes first, the upper end is excluded in both. A bound of 2.5 is a TypeError in PyTorch; "
        "JAX cuts it to 2 without a word."
    )
    also = ("torch.randint_like", "Tensor.random_")

    def torch():
        return torch.randint(0, 10, (2000,))

    def jax(key):
        return jax.random.randint(key, (2000,), 0, 10)

    def claims():
        assert raises(TypeError, torch.randint, 0, 2.5, (3,))
        assert jax.random.randint(jax.random.key(0), (50,), 0, 2.5).max() == 1


class Categorical(Draws, Pair):
    """Sample classes from logits"""

    inputs = {"key": key(), "logits": np.log(np.array([0.2, 0.3, 0.5], np.float32))}
    mean, spread, bounds = 1.3, 0.61**0.5, (0, 2)
    also = ("distributions.Categorical",)

    def torch(logits):
        return torch.distributions.Categorical(logits=logits).sample((2000,))

    def jax(key, logits):
        return jax.random.categorical(key, logits, shape=(2000,))


class ShuffleRows(Pair):
    """Shuffle the rows of a tensor"""

    inputs = {"key": key()}
    note = "`jax.random.permutation(key, 5)`, with a number, is `torch.randperm(5)`."
    also = ("torch.randperm",)

    def torch():
        x = torch.arange(10).reshape(5, 2)
        shuffled = x[torch.randperm(len(x))]
        return shuffled[shuffled[:, 0].argsort()]

    def jax(key):
        x = jnp.arange(10).reshape(5, 2)
        shuffled = jax.random.permutation(key, x)
        return shuffled[shuffled[:, 0].argsort()]

    def claims():
        order = jax.random.permutation(jax.random.key(0), 100)
        assert sorted(order.tolist()) == [*range(100)] and (order != jnp.arange(100)).sum() > 80


class WithoutReplacement(Pair):
    """Sample without replacement"""

    inputs = {"key": key(), "weights": np.array([0.1, 0.0, 0.3, 0.6], np.float32)}
    note = "The defaults are opposite: `torch.multinomial` draws without replacement, `jax.random.choice` with."

    def torch(weights):
        chosen = torch.multinomial(weights, 3)
        return chosen.sort().values

    def jax(key, weights):
        chosen = jax.random.choice(key, 4, (3,), replace=False, p=weights)
        return jnp.sort(chosen)

    def claims():
        assert raises(RuntimeError, torch.multinomial, torch.ones(3), 10)
        assert jax.random.choice(jax.random.key(0), 3, (10,)).shape == (10,)


class WithReplacement(Draws, Pair):
    """Sample by weights, with replacement"""

    inputs = {"key": key(), "weights": np.array([0.2, 0.3, 0.5], np.float32)}
    mean, spread, bounds = 1.3, 0.61**0.5, (0, 2)
    also = ("torch.multinomial", "Tensor.multinomial")

    def torch(weights):
        return torch.multinomial(weights, 2000, replacement=True)

    def jax(key, weights):
        return jax.random.choice(key, 3, (2000,), p=weights)


class LogDensity(Pair):
    """Log densities of distributions"""

    inputs = {"x": normal(5), "mean": normal(5), "std": positive(5), "cov": spd(5)}
    tolerance = 5e-5  # a Cholesky factor by each
    note = "Parameters come as loc and scale in JAX; a gamma's scale is 1 / rate."
    also = ("distributions.MultivariateNormal",)

    def torch(x, mean, std, cov):
        gamma = torch.distributions.Gamma(3.0, 2.0).log_prob(std)
        many = torch.distributions.MultivariateNormal(mean, cov).log_prob(x)
        return torch.distributions.Normal(mean, std).log_prob(x), gamma, many

    def jax(x, mean, std, cov):
        gamma = jax.scipy.stats.gamma.logpdf(std, 3.0, scale=1 / 2.0)
        many = jax.scipy.stats.multivariate_normal.logpdf(x, mean, cov)
        return jax.scipy.stats.norm.logpdf(x, mean, std), gamma, many


class CategoricalLogProb(Pair):
    """Log probability and entropy of classes"""

    inputs = {"logits": normal(4, 3), "action": integers(0, 3, 4)}

    def torch(logits, action):
        policy = torch.distributions.Categorical(logits=logits)
        return policy.log_prob(action), policy.entropy()

    def jax(logits, action):
        logp = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(logp, action[:, None], axis=1)[:, 0]
        return chosen, -(jnp.exp(logp) * logp).sum(axis=1)


class DivergenceOfNormals(Pair):
    """KL divergence of two normal distributions"""

    inputs = {"mean": normal(4), "std": positive(4)}
    note = "The term of a variational autoencoder."
    also = ("distributions.kl_divergence", "distributions.kl.kl_divergence")

    def torch(mean, std):
        q, p = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
        return torch.distributions.kl_divergence(q, p)

    def jax(mean, std):
        return (mean**2 + std**2 - 1) / 2 - jnp.log(std)


class Reparametrised(Pair):
    """Gradient through a draw: rsample"""

    inputs = {"key": key(), "mean": np.float32([1.0]), "std": np.float32([2.0])}
    no_gradient = "its result is a gradient"
    tolerance = 0.1  # of 20,000 draws: the slopes are 2 mean and 2 std

    def torch(mean, std):
        both = mean.requires_grad_(), std.requires_grad_()
        z = torch.distributions.Normal(mean, std).rsample((20_000,))
        return torch.autograd.grad((z**2).mean(), both)

    def jax(key, mean, std):
        def loss(mean, std):
            return ((mean + std * jax.random.normal(key, (20_000, 1))) ** 2).mean()

        return jax.grad(loss, argnums=(0, 1))(mean, std)


class SampleWithoutGradient(Pair):
    """No gradient through a draw: sample"""

    inputs = {"key": key(), "mean": normal()}
    no_gradient = "its result is a gradient"
    trap = "`sample` is cut off from its parameters. In JAX a draw that is computed from them is not."

    def torch(mean):
        mean.requires_grad_()
        loss = mean + torch.distributions.Normal(mean, 1.0).sample()
        return torch.autograd.grad(loss, mean)[0]

    def jax(key, mean):
        return jax.grad(lambda mean: mean + (mean + jax.random.normal(key)))(mean)

    def fix(key, mean):
        return jax.grad(lambda mean: mean + jax.lax.stop_gradient(mean + jax.random.normal(key)))(mean)

    def differ(theirs, ours):
        return (theirs.item(), ours.item()) == (1, 2)


class DropoutMask(Draws, Pair):
    """Dropout by hand"""

    inputs = {"key": key(), "x": np.ones((50, 40), np.float32)}
    mean, spread, bounds = 1.0, (0.2 / 0.8) ** 0.5, (0, 1.2501)
    no_gradient = "the masks differ"
    also = ("Tensor.bernoulli_", "Tensor.bernoulli", "distributions.Bernoulli")

    def torch(x):
        keep = torch.bernoulli(torch.full_like(x, 0.8))
        return x * keep / 0.8

    def jax(key, x):
        keep = jax.random.bernoulli(key, 0.8, x.shape)
        return x * keep / 0.8


class NoiseUnderVmap(Pair):
    """Noise for each example under vmap"""

    inputs = {"key": key(), "x": np.zeros(4, np.float32)}
    no_gradient = "the numbers are random"
    trap = (
        "PyTorch refuses a draw under `vmap` until `randomness` says what is meant. JAX gives every example the same "
        "numbers, since they share the key."
    )
    lesson = ("09_transformations", "trap:noise-under-vmap")

    def torch(x):
        return torch.func.vmap(lambda x: x + torch.randn(()))(x)

    def jax(key, x):
        return jax.vmap(lambda x: x + jax.random.normal(key))(x)

    def fix(key, x):
        keys = jax.random.split(key, len(x))
        return jax.vmap(lambda key, x: x + jax.random.normal(key))(keys, x)

    def differ(theirs, ours, fixed):
        return isinstance(theirs, RuntimeError) and len(set(ours.tolist())) == 1 and len(set(fixed.tolist())) == 4
