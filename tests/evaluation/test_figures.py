"""Figures show every series, contender and interval of their input."""

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from hicmae_jax.evaluation.figures.curves import draw_curves
from hicmae_jax.evaluation.figures.reconstructions import (
    FRAMES_SHOWN,
    HIDDEN,
    draw_reconstructions,
    reconstruction_rows,
)
from hicmae_jax.evaluation.figures.retrieval import draw_retrieval
from hicmae_jax.evaluation.reconstruction import ZERO, Picture
from hicmae_jax.evaluation.retrieval import Recall

LINES = [
    *({"step": step, "loss/total": 3 - step / 10, "rate": step / 10} for step in range(10)),
    *(
        {
            "step": step,
            "held_out/total": 4.0,
            "held_out/recall@5/layer_4": 0.3,
            "held_out/recall@5/layer_4/video_to_audio": 0.2,  # of one direction, so it is not drawn
            "held_out/recall@5/layer_10": 0.4,
            "held_out/chance@5": 0.1,
        }
        for step in (0, 9)
    ),
]


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def lines_of(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_curves_show_training_and_held_out_scores_of_their_own_steps():
    found = panels(draw_curves(LINES))
    assert list(found) == ["total loss", "recall@5, both directions", "learning rate"]
    total = lines_of(found["total loss"])
    assert total["training"] == [[step, 3 - step / 10] for step in range(10)]
    assert total["held out"] == [[0, 4], [9, 4]]
    assert lines_of(found["recall@5, both directions"]) == {
        "held out, layer 4": [[0, 0.3], [9, 0.3]],
        "held out, layer 10": [[0, 0.4], [9, 0.4]],
        "chance": [[0, 0.1], [9, 0.1]],
    }
    assert lines_of(found["learning rate"])["training"][-1] == [9, 0.9]


def test_a_log_without_losses_is_refused():
    with pytest.raises(ValueError, match="1 lines of metrics hold no loss to draw"):
        draw_curves([{"step": 1, "clips/s": 3.0}])


def picture(value, clips=2):
    return Picture(np.full((clips, 8, 32, 32, 3), value), np.full((clips, 64, 128), value))


def test_reconstructions_have_a_row_for_each_contender(tmp_path):
    shared = {"original": picture(0.1), "masked": picture(np.nan), ZERO: picture(0.2)}
    rows = reconstruction_rows(
        {"trained": shared | {"model": picture(0.3)}, "untrained": shared | {"model": picture(0.4)}}
    )
    figure = draw_reconstructions({"some masked": rows, "more masked": rows}, "the title")
    values = [axes.images[0].get_array() for axes in figure.axes]
    assert len(values) == 2 * 2 * 5 * (FRAMES_SHOWN + 1)
    # Blocks side by side, clips below each other, contenders in the order given.
    expected = [0.1, HIDDEN, 0.3, 0.4, 0.2]
    frames = [value for value in values if value.ndim == 3]
    assert [float(frame[0, 0, 0]) for frame in frames[::FRAMES_SHOWN]] == 4 * expected
    assert {text.get_text() for text in figure.texts} >= {"some masked", "more masked", "the title"}
    names = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert names == 2 * ["original", "masked", "trained", "untrained", "zero\nprediction"]
    figure.savefig(tmp_path / "picture.png")


def test_retrieval_shows_recall_interval_and_chance(tmp_path):
    scores = {
        "trained": {4: {1: Recall(0.5, 0.4, 0.7, 0.02)}, 10: {1: Recall(0.6, 0.5, 0.8, 0.02)}},
        "untrained": {4: {1: Recall(0.0, 0.0, 0.0, 0.02)}, 10: {1: Recall(0.1, 0.0, 0.2, 0.02)}},
    }
    figure = draw_retrieval(scores, 48)
    axes = panels(figure)["recall@1"]
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.6, 0.0, 0.1]
    intervals = [
        segment[:, 1].tolist()
        for bars in axes.containers
        if isinstance(bars, ErrorbarContainer)
        for segment in bars.lines[2][0].get_segments()
    ]
    np.testing.assert_allclose(intervals, [[0.4, 0.7], [0.5, 0.8], [0, 0], [0, 0.2]])
    assert [line.get_ydata()[0] for line in axes.lines if line.get_label() == "chance"] == [0.02]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["layer 4", "layer 10"]
    assert "48 held-out clips" in figure.get_suptitle()
    figure.savefig(tmp_path / "retrieval.png")
