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
        ([{"x": 1}, {"x": 2, "y": 3}], r"differ \(keys \['x'\] and \['x', 'y'\]\)"),
        ([{"x": 1, "y": 3}, {"x": 2}], r"differ \(keys"),
        ([{"x": 1}, (1,)], "dict and tuple in one place"),
        ([(1, {"x": (1, 2)}), (1, {"x": (1, 2, 3)})], r"lengths \[2, 3\]"),
        ([(1,), 1], "object and tuple in one place"),
        ([1, "a"], "object and str in one place"),
        ([None, None], "up to 64 bits as leaves, got None"),
        ([1, None], "up to 64 bits as leaves, got None"),
        ([np.array([None]), np.array([None])], "up to 64 bits as leaves, got array"),
        ([{1}, {2}], "up to 64 bits as leaves"),
        ([2**70, 1], "got 1180591620717411303424"),
        ([1, 2**70], "got 1180591620717411303424"),
        ([2**62 + 1, 0.5], "got 4611686018427387905, which float64 does not hold"),
        ([2**62 - 1, 0.5], "got 4611686018427387903, which float64 does not hold"),
        ([np.array(2**62 + 1), np.array(0.5)], "which float64 does not hold"),
        ([np.array([2**62 + 1]), np.array([0.5, 1.0])], "samples of one structure and shape"),
        ({"x": np.zeros(2)}, "list of samples, got dict"),
        ("ab", "list of samples, got str"),
        ((sample for sample in [1]), "list of samples, got generator"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        numpy_collate(samples)


def test_numbers_and_arrays_of_no_axes_go_together():
    assert numpy_collate([np.array(1), 2]).tolist() == [1, 2]
    np.testing.assert_array_equal(numpy_collate([1, np.nan]), [1.0, np.nan])


def test_the_first_sample_says_in_which_order_keys_come():
    assert list(numpy_collate([{"x": 1, "y": 2}, {"y": 4, "x": 3}])) == ["x", "y"]


@pytest.mark.parametrize(("sample", "other"), [(0.5, True), (np.float32(1), 1), (np.zeros(3), np.ones(3, int))])
def test_leaves_of_one_dtype_are_not_looked_at_one_by_one(sample, other, monkeypatch):
    """A loader collates batch after batch: the way that compares dtypes is for leaves that differ."""
    monkeypatch.delattr(np, "result_type")
    assert len(numpy_collate([sample] * 3)) == 3
    with pytest.raises(AttributeError, match="result_type"):
        numpy_collate([sample, other])


def nested(leaves):
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner), max_leaves=5
    )


def listed(batch, sample):
    """The batch's part for one sample in that sample's own form."""
    if isinstance(batch, dict):
        return {key: listed(value, sample) for key, value in batch.items()}
    return [listed(value, sample) for value in batch] if isinstance(batch, tuple) else batch[sample].item()


LEAVES = st.integers() | st.floats(allow_nan=False) | st.booleans() | st.text("abé")


@given(st.lists(nested(LEAVES), min_size=1, max_size=3))
def test_a_batch_holds_what_the_samples_hold_or_is_refused(samples):
    """Whatever the structures: nothing is dropped, rounded, cut or turned into something else."""
    try:
        batch = numpy_collate(samples)
    except ValueError as error:
        assert "; " in str(error)
        return
    for n, sample in enumerate(samples):
        assert listed(batch, n) == sample


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


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (epoch_permutations(10, 3, 0), r"got int32 \(3, 10\); pass one row"),
        (np.arange(10) > 3, r"got bool \(10,\).*flatnonzero"),
        (np.arange(10.0), "got float64"),
        (np.array(["0", "1"]), "got <U1"),
        (np.arange(11), "from 0 to 9, got 0 to 10"),
        (-np.arange(10), "from 0 to 9, got -9 to 0"),
        (np.array([-1, 0]), "from 0 to 9, got -1 to 0"),
        (np.array([0, 2**40]), "from 0 to 9, got 0 to 1099511627776"),
        (3, r"got int64 \(\)"),
    ],
)
def test_an_order_of_other_rows_is_refused(order, message):
    with pytest.raises(ValueError, match=message):
        batches((np.zeros((10, 2)),), order, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batches(np.zeros((3, 2)), np.arange(3), 1), r"tuple of arrays, got one array \(3, 2\)"),
        (lambda: batches((np.zeros(3),), np.arange(3), 1.0), "batch_size as an integer, got 1.0"),
        (lambda: batches((np.zeros(3),), np.arange(3), True), "batch_size as an integer, got True"),
        (lambda: epoch_permutations(2.5, 1, 0), "rows as an integer, got 2.5"),
        (lambda: epoch_permutations(2, "1", 0), "epochs as an integer, got '1'"),
        (lambda: epoch_permutations(2, 1, None), "expected a seed, got None"),
    ],
)
def test_what_is_no_integer_or_no_list_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batches((), np.arange(3), 1), r"arrays of one length, got \[\]"),
        (lambda: batches((np.float64(1),), np.arange(1), 1), "or have no rows"),
        (lambda: batches((np.zeros(0),), np.arange(0), 1), "or have no rows"),
        (lambda: batches((np.zeros(3),), np.arange(0), 1), r"expected 1 <= batch_size <= 0 \(the rows\), got 1"),
        (lambda: epoch_permutations(2**31, 1, 0), "more than int32 can number"),
    ],
)
def test_what_has_no_rows_or_too_many_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_as_many_rows_are_visited_as_int32_can_number(monkeypatch):
    class Rng:
        def permutation(self, rows):
            return np.array([rows - 1])  # instead of 16 GB

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Rng())
    assert epoch_permutations(2**31 - 1, 1, 0).tolist() == [[2**31 - 2]]


def test_lists_are_arrays_too():
    ((x,),) = batches(([5, 6, 7],), [2, 0], 2)
    assert x.tolist() == [7, 5]
    assert [x.tolist() for (x,) in batches(([5, 6, 7],), [2, 1], 1)] == [[7], [6]]  # not every row need be visited
