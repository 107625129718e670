"""Pictures: which axes get which numbers, and whose lines look how."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from course import plots


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def shown(side):
    return [label.get_text() for label in side.get_ticklabels() if label.get_text()]


@pytest.mark.parametrize(
    ("values", "some"),
    [([1, 20], ["1", "2", "5", "10", "20"]), ([1, 3000], ["1", "10", "100", "1,000"]),
     ([1, 1e8], ["$\\mathdefault{10^{0}}$"])],
)  # fmt: skip
def test_a_logarithmic_axis_has_numbers_that_can_be_read(axis, values, some):
    plots.lines(axis, [0, 1], {"ours": values}, log="y", ylabel="ms")
    axis.figure.canvas.draw()
    assert set(some) <= set(shown(axis.yaxis)) and axis.get_ylabel() == "ms"
    assert axis.get_yscale() == "log" and axis.get_xscale() == "linear"
    assert ("2" in shown(axis.yaxis)) == (values[1] == 20)


def test_pytorch_is_told_by_its_name_and_takes_no_place_from_the_others(axis):
    drawn = plots.lines(axis, [0, 1], {"a": [1, 2], "PyTorch": [2, 3], "b": [3, 4]})
    assert [line.get_color() for line in drawn] == [plots.COLOURS[0], plots.TORCH, plots.COLOURS[1]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "PyTorch", "b"]


def test_a_field_lies_as_it_is_indexed_and_signed_ones_have_zero_in_the_middle(axis):
    x, y = np.linspace(0, 1, 4), np.linspace(0, 2, 5)
    plots.field(axis, x, y, np.add.outer(x, y), signed=True, title="sum")
    (low, high) = axis.collections[0].get_clim()
    assert low == -high and axis.get_xlim() == (0, 1) and axis.get_ylim() == (0, 2)
    assert not any(line.get_visible() for line in axis.get_xgridlines()) and axis.get_title() == "sum"
