"""Pictures: which axes get which numbers, and whose lines look how."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

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
     ([0.001, 0.02], ["0.001", "0.002", "0.02"]), ([1e4, 2e5], ["10,000", "20,000", "200,000"]),
     ([1e4, 3e6], ["10,000", "1,000,000"]), ([1e-3, 1], ["0.001", "1"]), ([1, 1e8], ["$\\mathdefault{10^{0}}$"])],
)  # fmt: skip
def test_a_logarithmic_axis_has_numbers_that_can_be_read(axis, values, some):
    plots.lines(axis, [0, 1], {"ours": values}, log="y", ylabel="ms")
    axis.figure.canvas.draw()
    assert set(some) <= set(shown(axis.yaxis)) and axis.get_ylabel() == "ms"
    assert axis.get_yscale() == "log" and axis.get_xscale() == "linear"
    assert ("2" in {text.strip("0,.") for text in shown(axis.yaxis)}) == (values[1] == 20 * values[0])


def test_pytorch_is_told_by_its_name_and_takes_no_place_from_the_others(axis):
    drawn = plots.lines(axis, x=[0, 1], series={"a": [1, 2], "PyTorch": [2, 3], "b": [3, 4]})
    assert [line.get_color() for line in drawn] == [plots.COLOURS[0], plots.TORCH, plots.COLOURS[1]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "PyTorch", "b"]


def test_colours_and_markers_come_round_again():
    first, sixth, seventh = (plots.style("ours", place) for place in (0, 6, 7))
    assert first == plots.style("ours") == {"color": plots.JAX, "marker": "o", "linestyle": "-"}
    assert (sixth["color"], sixth["marker"]) == (plots.JAX, "X")
    assert (seventh["color"], seventh["marker"]) == (plots.COLOURS[1], "o")


def test_a_lessons_pictures_look_as_they_did():
    with plt.rc_context():
        plots.use()
        assert {name: plt.rcParams[name] for name in LOOK} == LOOK
        cycle = list(plt.rcParams["axes.prop_cycle"])
        assert [each["color"] for each in cycle] == list(plots.COLOURS)
        assert [each["marker"] for each in cycle] == ["o", "s", "^", "D", "v", "P"]
        figure, axes = plots.panels(2)
        assert axes.shape == (2,) and figure.get_size_inches().tolist() == [8, 3.2]
        assert figure.get_size_inches()[0] * figure.dpi == 640
        plt.close(figure)
        figure, alone = plots.panels(1, height=2)
        assert alone is figure.axes[0] and figure.get_size_inches().tolist() == [8, 2]
        plt.close(figure)


LOOK = {
    "figure.figsize": [4.96, 3.4], "figure.dpi": 80, "figure.constrained_layout.use": True, "figure.facecolor": "white",
    "savefig.facecolor": "white", "font.size": 10, "axes.titlesize": 10.5, "legend.fontsize": 9,
    "lines.linewidth": 1.8, "lines.markersize": 5.5, "axes.grid": True, "grid.alpha": 0.3,
    "axes.spines.top": False, "axes.spines.right": False, "image.cmap": "viridis",
}  # fmt: skip


@pytest.mark.parametrize(
    ("high", "levels", "contours", "labelled"),
    [(9, 9, range(10), range(0, 10, 2)), (11, 11, range(12), range(0, 12, 2)), (2, 2, range(3), range(3))],
)
def test_a_field_has_about_as_many_contours_as_asked_and_every_fifth_of_them_is_labelled(
    axis, high, levels, contours, labelled
):
    plots.field(axis, x=[0, 1], y=[0, 1], values=[[0, high], [1, 1]], levels=levels)
    assert axis.collections[0].levels.tolist() == list(contours)  # of one sign: from the least to the largest
    assert axis.figure.axes[1].get_yticks().tolist() == list(labelled)


@pytest.mark.parametrize(("high", "contours"), [(9, 10), (10, 8)])
def test_a_field_has_nine_contours_by_default(axis, high, contours):
    plots.field(axis, [0, 1], [0, 1], [[0, high], [1, 1]])
    assert len(axis.collections[0].levels) == contours


@pytest.mark.parametrize(("largest", "apart"), [(0.05, True), (0.5, False), (500, False), (5000, True)])
def test_a_power_of_ten_stands_apart_where_labels_would_be_long(axis, largest, apart):
    plots.field(axis, [0, 1], [0, 1], [[0, largest], [0, 0]])
    axis.figure.draw_without_rendering()
    assert bool(axis.figure.axes[1].yaxis.get_offset_text().get_text()) == apart


def test_a_field_lies_as_it_is_indexed_and_signed_ones_have_zero_in_the_middle(axis):
    x, y = np.linspace(0, 1, 4), np.linspace(0, 2, 5)
    axis.grid(True)  # as in a lesson
    plots.field(axis, x, y, np.add.outer(x, y), signed=True, title="sum")
    (low, high) = axis.collections[0].get_clim()
    assert low == -high and axis.get_xlim() == (0, 1) and axis.get_ylim() == (0, 2)
    assert not any(line.get_visible() for line in axis.get_xgridlines()) and axis.get_title() == "sum"


def test_boxes_of_the_two_sides_differ_in_more_than_colour():
    diagram = plots.Diagram(height=2)
    ours, theirs = diagram.function(1, 1, "f", side="jax"), diagram.array(3, 1, "x", side="torch")
    diagram.arrow(ours, theirs, "calls")
    assert ours.patch.get_linestyle() != theirs.patch.get_linestyle() and (ours.x, ours.y) == (1, 1)
    assert [text.get_text() for text in diagram.axes.texts] == ["f", "x", "calls"]
    plt.close(diagram.figure)


def test_a_matrix_is_drawn_as_it_is_printed_with_marked_cells_strong():
    diagram = plots.Diagram(height=2)
    whole = diagram.cells(2, 1, [[1, 2, 3], [4, 5, 6]], size=0.5, side="jax", marked=[[True, False, False]] * 2)
    by_text = {text.get_text(): text.get_position() for text in diagram.axes.texts}
    assert by_text["1"] == (1.5, 1.25) and by_text["6"] == (2.5, 0.75)
    strong = [patch.get_xy() for patch in diagram.axes.patches if patch.get_facecolor()[:3] == to_rgb(plots.JAX)]
    assert strong[:2] == [(1.25, 1.0), (1.25, 0.5)]
    assert whole.patch.get_width() == 1.5
    plt.close(diagram.figure)


def test_a_tree_has_a_row_for_every_name():
    diagram = plots.Diagram(height=2)
    diagram.tree(0, 2, {"params": {"kernel": "(4, 8)", "bias": "(8,)"}, "calls": 3})
    names = [text.get_text() for text in diagram.axes.texts]
    assert names == ["params", "kernel", "(4, 8)", "bias", "(8,)", "calls", "3"]
    plt.close(diagram.figure)


def test_a_trunk_ends_at_its_last_branch():
    diagram = plots.Diagram(height=2)
    diagram.tree(0, 2, {"params": {"first": {"a": 1, "b": 2}, "last": {"a": 1, "b": 2}}}, step=0.2)
    rows = {text.get_text(): text.get_position()[1] for text in diagram.axes.texts}
    ends = [line.get_ydata()[1] for line in diagram.axes.lines if len(set(line.get_xdata())) == 1]
    assert min(ends) < rows["last"] and ends[-1] == pytest.approx(rows["last"])
    plt.close(diagram.figure)


def test_stacked_bars_add_up_and_the_first_stands_on_top(axis):
    plots.stacked(axis, {"a": {"x": 1.0, "y": 2.0}, "b": {"y": 3.0}}, xlabel="ms")
    ends = {(round(bar.get_y() + 0.4), bar.get_x(), bar.get_x() + bar.get_width()) for bar in axis.patches}
    assert ends >= {(1, 0, 1), (1, 1, 3), (0, 0, 3)}
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in axis.patches}) == 2
