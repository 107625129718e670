"""torch's loader over NumPy rows, and the ways out of it."""

import runpy
import sys

import jax
import numpy as np
import pytest
import torch

from course import loaders
from course.batching import numpy_collate
from course.loaders import Passengers, jax_collate, make_loader, torch_to_numpy_collate

X, Y = np.arange(30, dtype=np.float32).reshape(10, 3), np.arange(10, dtype=np.float32)


def test_without_jax_the_loader_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    assert "make_loader" in runpy.run_path(loaders.__file__)


def visited(loader):
    return [np.asarray(y).tolist() for _, y in loader]


def test_the_dataset_returns_a_row_and_its_label():
    dataset = Passengers(X, Y)
    assert len(dataset) == 10
    row, label = dataset[4]
    np.testing.assert_array_equal(row, X[4])
    assert label == 4


@pytest.mark.parametrize("collate", [numpy_collate, torch_to_numpy_collate, jax_collate])
def test_every_collate_function_gives_torchs_batches(collate):
    reference = [(x.numpy(), y.numpy()) for x, y in make_loader(X, Y, 4, seed=3)]
    got = list(make_loader(X, Y, 4, seed=3, collate_fn=collate))
    assert len(got) == 2  # the short third batch is dropped
    for (x, y), (rx, ry) in zip(got, reference, strict=True):
        assert x.dtype == np.float32 and y.dtype == np.float32
        np.testing.assert_array_equal(x, rx)
        np.testing.assert_array_equal(y, ry)


def test_a_row_may_be_an_image():
    ((x, _),) = make_loader(np.zeros((10, 2, 3), np.float32), Y, 10, seed=0)
    assert x.shape == (10, 2, 3)


def test_what_comes_out():
    samples = [(X[i], Y[i]) for i in range(3)]
    assert type(numpy_collate(samples)[0]) is np.ndarray
    assert isinstance(jax_collate(samples)[0], jax.Array)
    nested = torch_to_numpy_collate([{"x": torch.ones(2), "y": (1, 2.0)}] * 3)
    assert nested["x"].shape == (3, 2) and nested["y"][0].tolist() == [1, 1, 1]


def test_shuffling_depends_on_the_seed_alone():
    first = visited(make_loader(X, Y, 4, seed=0))
    torch.manual_seed(99)
    torch.rand(5)
    assert visited(make_loader(X, Y, 4, seed=0)) == first
    assert visited(make_loader(X, Y, 4, seed=1)) != first
    loader = make_loader(X, Y, 4, seed=0)
    assert visited(loader) != visited(loader)  # another epoch, another order


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_size_that_does_not_fit_is_refused(size):
    with pytest.raises(ValueError, match=rf"expected 1 <= batch_size <= 10 \(the rows\), got {size}"):
        make_loader(X, Y, size, seed=0)


@pytest.mark.parametrize("y", [Y[:9], np.append(Y, 1), Y[:, None], Y[0]])
def test_labels_that_do_not_fit_are_refused(y):
    with pytest.raises(ValueError, match=r"expected x \(n, d\) and y \(n,\)"):
        make_loader(X, y, 4, seed=0)


@pytest.mark.parametrize(
    ("x", "y", "size", "message"),
    [
        (X[:, 0], Y, 4, r"expected x \(n, d\) and y \(n,\)"),
        (np.where(X > 20, np.nan, X), Y, 4, "finite numbers in x, got NaN"),
        (X, np.where(Y > 5, np.inf, Y), 4, "finite numbers in y, got NaN or infinity"),
        (X.astype(object), Y, 4, "finite numbers in x, got object values"),
        (X, Y.astype(str), 4, "finite numbers in y, got <U"),
        (X, Y, 2.0, "batch_size as an integer, got 2.0"),
        (X, Y, True, "batch_size as an integer, got True"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(x, y, size, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make_loader(x, y, size, seed=0)


def test_texts_go_along_without_a_tensor():
    names, numbers = torch_to_numpy_collate([("a", 1), ("b", 2)])
    assert names == ("a", "b") and numbers.tolist() == [1, 2]
    assert numpy_collate([("a", 1), ("b", 2)])[0].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="expected numbers, got 'a'; JAX holds no text"):
        jax_collate([("a", 1), ("b", 2)])


@pytest.mark.parametrize("samples", [[], [{"x": 1}, {"x": 2, "y": 3}], [{"x": 1}, (1,)], [(1,), (1, 2)]])
def test_torchs_collate_drops_nothing_either(samples):
    with pytest.raises(ValueError, match=r"at least one sample|samples of one structure"):
        torch_to_numpy_collate(samples)


@pytest.mark.parametrize("number", [2**40 + 7, -(2**31) - 1, np.uint64(2**32), 1e300, -1e39, np.complex128(1e300j)])
def test_numbers_that_32_bits_do_not_hold_are_refused(number):
    """`jnp.asarray` makes 7 of 2^40 + 7 without a word, and infinity of 1e300."""
    with pytest.raises(ValueError, match=r"expected numbers that u?\w+32 holds|that complex64 holds"):
        jax_collate([(number, 1)])


def test_of_several_numbers_that_do_not_fit_the_first_is_named():
    with pytest.raises(ValueError, match="got 1099511627776; turn on x64"):
        jax_collate([1, 2**40, 2**41])


@pytest.mark.parametrize("number", [2**31 - 1, -(2**31), 0.1, np.inf, np.nan, True])
def test_numbers_that_32_bits_hold_pass(number):
    np.testing.assert_array_equal(jax_collate([number])[0], np.asarray(number, np.asarray(jax_collate([number])).dtype))
