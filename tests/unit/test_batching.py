"""The NumPy collate function and the order of an epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from course.batching import batches, epoch_permutations, numpy_collate


def test_rows_and_labels_are_stacked():
    samples = [(np.full(3, i, np.float32), np.float32(i)) for i in range(4)]
    x, y = numpy_collate(samples)
    assert x.shape == (4, 3) and x.dtype == np.float32
    assert y.shape == (4,) and y.dtype == np.float32
    np.testing.assert_array_equal(y, [0, 1, 2, 3])


def test_structures_are_kept():
    batch = numpy_collate([{"x": np.zeros(2), "more": (1, [np.ones(1)])}] * 3)
    assert batch["x"].shape == (3, 2)
    assert batch["more"][0].shape == (3,) and batch["more"][1][0].shape == (3, 1)


@given(
    st.integers(1, 9),
    hnp.array_shapes(max_dims=3),
    st.sampled_from([np.float32, np.float64, np.int64, np.bool_]),
)
def test_a_batch_is_numpys_own_stack(count, shape, dtype):
    rng = np.random.default_rng(count)
    samples = [rng.normal(size=shape).astype(dtype) for _ in range(count)]
    batch = numpy_collate(samples)
    assert batch.dtype == dtype
    np.testing.assert_array_equal(batch, np.stack(samples))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "expected at least one sample, got none"),
        ([np.zeros(2), np.zeros(3)], "samples of one structure and shape"),
        ([(np.zeros(2), 1), (np.zeros(2),)], "samples of one structure and shape"),
        ([{"x": 1}, {"y": 1}], "samples of one structure and shape"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        numpy_collate(samples)


@given(st.integers(1, 50), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_every_epoch_visits_every_row_once(rows, epochs, seed):
    orders = epoch_permutations(rows, epochs, seed)
    assert orders.shape == (epochs, rows) and orders.dtype == np.int32
    assert (np.sort(orders, axis=1) == np.arange(rows)).all()
    np.testing.assert_array_equal(orders, epoch_permutations(rows, epochs, seed))


def test_epochs_and_seeds_differ():
    orders = epoch_permutations(100, 2, seed=0)
    assert (orders[0] != orders[1]).any()
    assert (orders != epoch_permutations(100, 2, seed=1)).any()


@pytest.mark.parametrize(("rows", "epochs"), [(0, 1), (1, 0), (-1, 3)])
def test_nothing_to_visit_is_refused(rows, epochs):
    with pytest.raises(ValueError, match=f"got rows={rows}, epochs={epochs}"):
        epoch_permutations(rows, epochs, 0)


@given(st.integers(1, 40), st.data())
def test_batches_are_full_and_in_order(rows, data):
    size = data.draw(st.integers(1, rows))
    order = epoch_permutations(rows, 1, seed=rows)[0]
    x, y = np.arange(2 * rows).reshape(rows, 2), np.arange(rows)
    got = list(batches((x, y), order, size))
    assert len(got) == rows // size
    assert all(a.shape == (size, 2) and b.shape == (size,) for a, b in got)
    np.testing.assert_array_equal(np.concatenate([b for _, b in got]), order[: rows // size * size])


@pytest.mark.parametrize("size", [0, -1, 11])
def test_a_batch_size_that_does_not_fit_is_refused(size):
    with pytest.raises(ValueError, match=rf"expected 1 <= batch_size <= 10 \(the rows\), got {size}"):
        batches((np.zeros((10, 2)),), np.arange(10), size)


def test_arrays_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"arrays of one length, got \[9, 10\]"):
        batches((np.zeros((10, 2)), np.zeros(9)), np.arange(9), 3)
