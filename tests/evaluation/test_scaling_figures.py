"""Figures of a scaling study show every run, hollow if it is not fitted, and mark what is extrapolated."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex

from hicmae_jax.evaluation.figures import scaling
from hicmae_jax.evaluation.figures.scaling import Curve, Point

POINTS = [
    Point(1e16, 0.6, "T"),
    Point(2e16, 0.5, "T"),
    Point(4e15, 0.9, "T", fitted=False),
    Point(8e16, 0.4, "S"),
]


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def test_scores_are_joined_and_unfit_runs_are_hollow_and_apart():
    (axes,) = scaling.draw_points(POINTS, "clips", "score").axes
    joined = [line.get_xydata().tolist() for line in axes.lines]
    assert joined == [[[1e16, 0.6], [2e16, 0.5]], [[8e16, 0.4]]]
    drawn = {one.get_label(): one for one in axes.collections}
    assert list(drawn) == ["T", "T, unfit", "S"]
    assert len(drawn["T, unfit"].get_facecolors()) == 0
    assert len(drawn["T"].get_facecolors()) == 1
    assert axes.get_xscale() == "log"


def test_lines_join_the_means_of_seeds():
    points = [Point(1.0, 0.5, "T"), Point(2.0, 0.2, "T"), Point(2.0, 0.4, "T")]
    (axes,) = scaling.draw_points(points, "clips", "score").axes
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.5], [2, 0.3]])
    (drawn,) = axes.collections
    assert len(drawn.get_offsets()) == 3


def test_the_law_is_dashed_beyond_its_longest_run_and_has_a_band_where_it_predicts():
    places = np.geomspace(1e16, 1e17, 5)
    measured = Curve(places, places * 0 + 0.5, "T", 4e16)
    predicted = Curve(places * 4, places * 0 + 0.3, "B", None, places * 0 + 0.2, places * 0 + 0.4)
    figure = scaling.draw_law(POINTS, [measured, predicted], [(1e16, 0.6), (2e16, 0.5)], "FLOP", "loss")
    (axes,) = figure.axes
    solid, dashed, none, extrapolated, front = axes.lines
    assert [solid.get_linestyle(), dashed.get_linestyle(), extrapolated.get_linestyle()] == ["-", "--", "--"]
    assert solid.get_xdata().max() <= 4e16
    assert dashed.get_xdata()[0] == solid.get_xdata()[-1]
    assert dashed.get_xdata()[-1] == pytest.approx(1e17)
    assert len(none.get_xdata()) == 0
    assert len(extrapolated.get_xdata()) == 5
    assert (extrapolated.get_label(), front.get_label()) == ("B", "Pareto front")
    (band,) = (one for one in axes.collections if type(one).__name__ == "FillBetweenPolyCollection")
    assert band.get_datalim(axes.transData).bounds[1] == pytest.approx(0.2)


def test_histories_have_the_colour_of_their_group():
    runs = {"T": [("a", [(0, 1.0), (9, 0.5)]), ("b", [(0, 1.0)])], "S": [("c", [(0, 2.0), (9, 0.2)])]}
    (axes,) = scaling.draw_histories(runs, "clips", "loss").axes
    colours = [to_hex(line.get_color()) for line in axes.lines]
    assert colours[0] == colours[1] != colours[2]
    assert labels(axes) == ["T", "S"]


def test_goodput_has_the_progress_and_the_loss_of_every_part():
    figure = scaling.draw_goodput({"a": [(4.0, 3.0), (2.0, 2.0)], "a name with $ and $": [(1.0, 0.0)]})
    (axes,) = figure.axes
    bars = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert bars == [(0, 3), (3, 1), (4, 2), (6, 0), (0, 0), (0, 1)]
    assert labels(axes) == ["progress", "lost"]
    figure.savefig(io.BytesIO(), format="svg")  # a formula would fail


@pytest.mark.parametrize(
    "draw",
    [
        lambda: scaling.draw_points([], "x", "y"),
        lambda: scaling.draw_law([], [], [], "x", "y"),
        lambda: scaling.draw_histories({}, "x", "y"),
        lambda: scaling.draw_goodput({}),
    ],
)
def test_a_figure_without_runs_is_refused(draw):
    with pytest.raises(ValueError, match="no run to draw"):
        draw()
