"""The NNX and Linen loops learn, jitted and not, and change what they should."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from course.batching import batches, epoch_permutations
from course.train import titanic_linen, titanic_nnx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 15)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.float32)
ADAM = optax.adam(1e-2)


class Loader:
    """Anything that can be iterated over once an epoch is a loader."""

    def __init__(self, epochs=20):
        self.orders = iter(epoch_permutations(len(X), epochs, seed=0))

    def __iter__(self):
        return batches((X, Y), next(self.orders), 32)


def nnx_pair():
    model = titanic_nnx.TitanicMLP(rngs=nnx.Rngs(0))
    return model, nnx.Optimizer(model, ADAM, wrt=nnx.Param)


def linen_state():
    model = titanic_linen.TitanicMLP()
    params = model.init(jax.random.key(0), X[:1])["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=ADAM)


def test_models_give_one_logit_a_passenger():
    assert nnx_pair()[0](X).shape == (96,)
    state = linen_state()
    assert state.apply_fn({"params": state.params}, X).shape == (96,)
    assert nnx_pair()[0](X[0]).shape == state.apply_fn({"params": state.params}, X[0]).shape == ()
    assert nnx_pair()[0].hidden.kernel.shape == state.params["hidden"]["kernel"].shape == (15, 64)


def test_an_nnx_step_changes_the_model_in_place():
    model, optimizer = nnx_pair()
    before, expected = np.array(model.out.kernel[...]), titanic_nnx.loss_fn(model, X, Y)
    loss = titanic_nnx.train_step(model, optimizer, X, Y)
    assert float(loss) == float(expected)
    assert (np.array(model.out.kernel[...]) != before).any()


def test_a_linen_step_returns_a_new_state():
    state = linen_state()
    before = jax.tree.map(np.array, state.params)
    after, _ = titanic_linen.train_step(state, X, Y)
    jax.tree.map(np.testing.assert_array_equal, state.params, before)
    assert (int(state.step), int(after.step)) == (0, 1)
    assert (np.array(after.params["out"]["kernel"]) != before["out"]["kernel"]).any()


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda step: step, "jit"])
def test_fit_learns_and_records_an_epoch_a_row(wrap):
    jitted = wrap == "jit"
    epochs = 15 if jitted else 3
    nnx_step = nnx.jit(titanic_nnx.train_step) if jitted else titanic_nnx.train_step
    linen_step = jax.jit(titanic_linen.train_step) if jitted else titanic_linen.train_step
    by_nnx = titanic_nnx.fit(*nnx_pair(), Loader(), epochs, (X, Y), nnx_step)
    state, by_linen = titanic_linen.fit(linen_state(), Loader(), epochs, (X, Y), linen_step)
    for history in (by_nnx, by_linen):
        assert history.shape == (epochs, 2) and list(history) == ["train", "valid"]
        assert history["valid"].iloc[-1] < (0.5 if jitted else 0.95) * history["valid"].iloc[0]
    assert int(state.step) == epochs * 3
