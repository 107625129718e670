"""Random numbers

There is no hidden generator: whoever draws passes a key, and the same key gives the same numbers. Split a key for every
new draw. JAX and PyTorch never draw equal numbers; here shapes, dtypes, ranges, means and spreads are compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, key, normal, plain


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

    def torch():
        torch.manual_seed(0)
        first = torch.rand(3)
        torch.manual_seed(0)
        return torch.equal(first, torch.rand(3))

    def jax():
        first = jax.random.uniform(jax.random.key(0), (3,))
        return jnp.array_equal(first, jax.random.uniform(jax.random.key(0), (3,)))


class DrawTwice(Pair):
    """Draw twice"""

    inputs = {"key": key()}
    trap = "Drawing does not change a key. The second draw with it gives the same numbers, without a word."
    lesson = ("00_start_here", "same key, equal:")

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


class Uniform(Draws, Pair):
    """Uniform numbers in a range"""

    inputs = {"key": key()}
    mean, spread, bounds = 0.5, 5 / 12**0.5, (-2, 3)

    def torch():
        return torch.empty(50, 40).uniform_(-2, 3)

    def jax(key):
        return jax.random.uniform(key, (50, 40), minval=-2, maxval=3)


class NormalLike(Draws, Pair):
    """Noise of the shape of a tensor"""

    inputs = {"key": key(), "x": normal(50, 40)}
    mean, spread = 0.0, 0.1

    def torch(x):
        return 0.1 * torch.randn_like(x)

    def jax(key, x):
        return 0.1 * jax.random.normal(key, x.shape, x.dtype)


class Integers(Draws, Pair):
    """Random integers"""

    inputs = {"key": key()}
    mean, spread, bounds = 4.5, (99 / 12) ** 0.5, (0, 9)
    note = (
        "The shape comes first, the upper end is excluded in both. A bound of 2.5 is a TypeError in PyTorch; "
        "JAX cuts it to 2 without a word."
    )

    def torch():
        return torch.randint(0, 10, (2000,))

    def jax(key):
        return jax.random.randint(key, (2000,), 0, 10)


class Categorical(Draws, Pair):
    """Sample classes from logits"""

    inputs = {"key": key(), "logits": np.log(np.array([0.2, 0.3, 0.5], np.float32))}
    mean, spread, bounds = 1.3, 0.61**0.5, (0, 2)

    def torch(logits):
        return torch.distributions.Categorical(logits=logits).sample((2000,))

    def jax(key, logits):
        return jax.random.categorical(key, logits, shape=(2000,))


class ShuffleRows(Pair):
    """Shuffle the rows of a tensor"""

    inputs = {"key": key()}
    note = "`jax.random.permutation(key, 5)`, with a number, is `torch.randperm(5)`."

    def torch():
        x = torch.arange(10).reshape(5, 2)
        shuffled = x[torch.randperm(len(x))]
        return shuffled[shuffled[:, 0].argsort()]

    def jax(key):
        x = jnp.arange(10).reshape(5, 2)
        shuffled = jax.random.permutation(key, x)
        return shuffled[shuffled[:, 0].argsort()]


class WithoutReplacement(Pair):
    """Sample without replacement"""

    inputs = {"key": key(), "weights": np.array([0.1, 0.2, 0.3, 0.4], np.float32)}
    note = "The defaults are opposite: `torch.multinomial` draws without replacement, `jax.random.choice` with."

    def torch(weights):
        chosen = torch.multinomial(weights, 4)
        return chosen.sort().values

    def jax(key, weights):
        chosen = jax.random.choice(key, 4, (4,), replace=False, p=weights)
        return jnp.sort(chosen)


class DropoutMask(Draws, Pair):
    """Dropout by hand"""

    inputs = {"key": key(), "x": np.ones((50, 40), np.float32)}
    mean, spread, bounds = 1.0, (0.2 / 0.8) ** 0.5, (0, 1.2501)
    no_gradient = "the masks differ"

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
    lesson = ("09_transformations", "one key for all examples")

    def torch(x):
        return torch.func.vmap(lambda x: x + torch.randn(()))(x)

    def jax(key, x):
        return jax.vmap(lambda x: x + jax.random.normal(key))(x)

    def fix(key, x):
        keys = jax.random.split(key, len(x))
        return jax.vmap(lambda key, x: x + jax.random.normal(key))(keys, x)

    def differ(theirs, ours, fixed):
        return isinstance(theirs, RuntimeError) and len(set(ours.tolist())) == 1 and len(set(fixed.tolist())) == 4
