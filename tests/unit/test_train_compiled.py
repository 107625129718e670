"""The compiled run: equal to a plain loop, compiled once, strict about its arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course.train import compiled

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.float32)
SGD = optax.sgd(0.1)
traces = []


def linear(params, x):
    traces.append(x.shape)
    return x @ params["w"] + params["b"]


PARAMS = {"w": jnp.zeros(3), "b": jnp.zeros(())}


def fit(**changes):
    arguments = {"apply_fn": linear, "params": PARAMS, "optimizer": SGD, "x": X, "y": Y, "key": jax.random.key(0)}
    arguments |= {"epochs": 4, "batch_size": 32} | changes
    return compiled.fit(**arguments)


@settings(deadline=None, max_examples=8)  # every number of rows is compiled anew
@given(st.integers(1, 5000), st.integers(0, 2**31 - 1))
@pytest.mark.slow
def test_an_order_visits_every_row_once(rows, seed):
    order = np.asarray(compiled.shuffled(jax.random.key(seed), rows))
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 5])
def test_few_rows_come_once_each(rows):
    orders = jax.vmap(lambda key: compiled.shuffled(key, rows))(jax.random.split(jax.random.key(0), 50))
    assert orders.dtype == np.int32 and (np.sort(orders, axis=1) == np.arange(rows)).all()
    assert compiled.batch_orders(jax.random.key(0), rows, 2).shape == (rows // 2, 2)


def test_above_4096_rows_the_order_is_jaxs_own():
    for rows, own in ((100, False), (4096, False), (4097, True)):
        program = jax.make_jaxpr(lambda key, rows=rows: compiled.shuffled(key, rows))(jax.random.key(0))
        assert ("shuffle" in str(program)) == own


@pytest.mark.slow
def test_orders_are_uniform():
    """Each of four rows comes first in a quarter of 20,000 orders, within 4 standard errors."""
    orders = jax.vmap(lambda key: compiled.shuffled(key, 4))(jax.random.split(jax.random.key(0), 20_000))
    share = np.bincount(np.asarray(orders[:, 0]), minlength=4) / 20_000
    assert np.abs(share - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 20_000)
    patterns = len(np.unique(np.asarray(orders), axis=0))
    assert patterns == 24


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [SGD, optax.adamw(0.1, weight_decay=0.5)], ids=["sgd", "adamw"])
def test_the_run_equals_a_plain_loop(optimizer):
    """AdamW, because it is one that must be given the parameters."""
    params, losses = fit(optimizer=optimizer)
    assert losses.shape == (4, 3)

    def mean_loss(params, x, y):
        return optax.sigmoid_binary_cross_entropy(linear(params, x), y).mean()

    by_hand, opt_state, expected = PARAMS, optimizer.init(PARAMS), []
    for key in jax.random.split(jax.random.key(0), 4):
        for rows in compiled.batch_orders(key, 96, 32):
            loss, grads = jax.value_and_grad(mean_loss)(by_hand, X[rows], Y[rows])
            updates, opt_state = optimizer.update(grads, opt_state, by_hand)
            by_hand = optax.apply_updates(by_hand, updates)
            expected.append(loss)
    np.testing.assert_allclose(losses.ravel(), expected, rtol=0, atol=1e-6)  # float32, summed in another order
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), params, by_hand)


def test_it_learns_and_leaves_its_input_alone():
    before = jax.tree.map(np.array, PARAMS)
    _, losses = fit(epochs=30)
    assert losses[-1].mean() < 0.6 * losses[0].mean()
    jax.tree.map(np.testing.assert_array_equal, PARAMS, before)


def test_a_second_call_does_not_compile_again():
    fit(epochs=2)
    traces.clear()
    fit(epochs=2, key=jax.random.key(7))
    assert traces == []


def test_one_epoch_in_one_batch():
    assert fit(epochs=1, batch_size=96)[1].shape == (1, 1)


def test_keys_decide_the_batches():
    same, again, other = (fit(key=jax.random.key(k))[1] for k in (0, 0, 1))
    np.testing.assert_array_equal(same, again)
    assert (np.asarray(same) != np.asarray(other)).any()


@pytest.mark.slow
def test_a_run_can_be_mapped_over_learning_rates():
    def run(rate):
        def mean_loss(params, x, y):
            return optax.sigmoid_binary_cross_entropy(linear(params, x), y).mean()

        keys = jax.random.split(jax.random.key(0), 3)
        return compiled.train_run(mean_loss, optax.sgd(rate), PARAMS, jnp.asarray(X), jnp.asarray(Y), keys, 32)[1]

    together = jax.vmap(run)(jnp.array([0.01, 0.1]))
    np.testing.assert_allclose(together[1], run(0.1), rtol=0, atol=1e-6)


def test_a_short_last_batch_is_left_out_when_asked():
    _, losses = fit(batch_size=40, drop_last=True)
    assert losses.shape == (4, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"expected 1 <= batch_size <= 96 \(the rows\), got 0"),
        ({"batch_size": 97}, r"expected 1 <= batch_size <= 96 \(the rows\), got 97"),
        ({"batch_size": 40}, r"divides the 96 rows, got 40; pass drop_last=True to leave 16 of them out"),
        ({"epochs": 0}, "expected epochs >= 1, got 0"),
        ({"x": X[:90]}, r"of one length, got \(90, 3\) and \(96,\)"),
        ({"x": X[0, 0]}, r"of one length, got \(\) and \(96,\)"),
        ({"y": Y[0]}, r"of one length, got \(96, 3\) and \(\)"),
        ({"x": np.float32(np.inf)}, "expected finite features.* got inf in row 0"),
        ({"x": X[:0], "y": Y[:0]}, r"expected 1 <= batch_size <= 0 \(the rows\)"),
        ({"x": np.where(np.arange(96)[:, None] == 5, np.nan, X)}, "expected finite features.* got nan in row 5"),
        ({"x": np.where(np.arange(96)[:, None] == 7, np.inf, X)}, "expected finite features.* got inf in row 7"),
        (
            {"x": np.where(np.arange(96)[:, None] == 9, 1e300, X.astype(float))},
            "features that float32 holds, got 1e[+]300 in row 9",
        ),
        ({"x": np.full((96, 3), -(2**40) - 7)}, "features that int32 holds, got -1099511627783 in row 0"),
        ({"x": np.full((96, 3), 2**40 + 7)}, "features that int32 holds, got 1099511627783 in row 0"),
        ({"y": np.where(np.arange(96) == 5, np.nan, Y)}, "expected finite labels.* got nan in row 5"),
        ({"y": 2 * Y - 1}, rf"labels from 0 to 1, got -1\.0 in row {Y.argmin()}"),
        ({"y": (2 * Y).astype(int)}, f"labels from 0 to 1, got 2 in row {Y.argmax()}"),
        ({"y": np.where(np.arange(96) == 50, -0.5, Y)}, r"labels from 0 to 1, got -0\.5 in row 50"),
        ({"y": np.where(np.arange(192) == 101, 1.5, 0).reshape(96, 2)}, r"from 0 to 1, got \[0\.  1\.5\] in row 50"),
        ({"apply_fn": lambda p, x: (linear(p, x), x)}, r"labels' shape \(32,\), got tuple"),
        ({"y": Y[:, None]}, r"labels' shape \(32, 1\), got \(32,\)"),
        ({"apply_fn": lambda p, x: linear(p, x)[:, None]}, r"labels' shape \(32,\), got \(32, 1\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fit(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 32.0}, "batch_size as an integer, got 32.0"),
        ({"batch_size": True}, "batch_size as an integer, got True"),
        ({"epochs": 2.5}, "epochs as an integer, got 2.5"),
        ({"x": X.astype(object)}, "features as real numbers, got object"),
        ({"x": X * 1j}, "features as real numbers, got complex64"),
        ({"y": np.where(Y > 0, "yes", "no")}, "labels as real numbers, got <U3"),
    ],
)
def test_arguments_of_another_type_are_refused(changes, message):
    with pytest.raises(TypeError, match=message):
        fit(**changes)


def test_features_of_64_bits_are_rounded_and_trained_on():
    np.testing.assert_array_equal(fit(x=X.astype(float) + 0.1)[1], fit(x=(X.astype(float) + 0.1).astype(np.float32))[1])


def test_labels_between_0_and_1_or_for_another_loss_are_trained_on():
    assert jnp.isfinite(fit(y=0.1 + 0.8 * Y)[1]).all()
    assert jnp.isfinite(fit(y=Y > 0.5)[1]).all()
    assert jnp.isfinite(fit(y=7 * Y - 3, loss=optax.squared_error)[1]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 97}, r"expected 1 <= batch_size <= 96 \(the rows\), got 97"),
        ({"batch_size": 0}, "got 0; choose"),
        ({"batch_size": 32.0}, "batch_size as an integer, got 32.0"),
        ({"y": Y[:90]}, r"of one length, got \(96, 3\) and \(90,\)"),
        ({"keys": jax.random.split(jax.random.key(0), 0)}, r"one key per epoch, \(epochs,\), got \(0,\)"),
        ({"keys": jax.random.PRNGKey(0)}, r"one key per epoch, \(epochs,\), got \(2,\)"),
        ({"keys": jax.random.key(0)}, r"one key per epoch, \(epochs,\), got \(\); jax\.random\.split"),
        ({"keys": jax.random.split(jax.random.key(0), (2, 3))}, r"one key per epoch, \(epochs,\), got \(2, 3\)"),
    ],
)
def test_a_run_that_would_train_nothing_or_on_other_labels_is_refused(changes, message):
    """A batch larger than the rows gave the weights back untrained; labels that end early were read at the last one."""
    arguments = {"x": jnp.asarray(X), "y": jnp.asarray(Y), "keys": jax.random.split(jax.random.key(0), 2)}
    arguments |= {"batch_size": 32} | changes
    with pytest.raises((TypeError, ValueError), match=message):
        compiled.train_run(lambda w, x, y: ((x @ w["w"] - y) ** 2).mean(), SGD, PARAMS, **arguments)


def test_keys_of_the_old_kind_are_keys_too():
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    loss = lambda w, x, y: ((x @ w["w"] - y) ** 2).mean()  # noqa: E731
    run = lambda keys: compiled.train_run(loss, SGD, PARAMS, jnp.asarray(X), jnp.asarray(Y), keys, 32)[1]  # noqa: E731
    assert jax.eval_shape(run, keys).shape == (3, 3)
