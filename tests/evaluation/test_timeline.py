"""Timelines show the numbers of every window, and of no other time."""

import numpy as np
import pytest

from hicmae_jax.evaluation.embedded_file import EmbeddedFile, Place, joined
from hicmae_jax.evaluation.figures import timeline
from hicmae_jax.evaluation.figures.palette import COLOURS

LABELS = ("angry", "calm", "sad")


def emotions(places, scores):
    rows = [{"scores": np.array(each, np.float32)} for each in scores]
    return joined("a.mp4", [Place(*place, "audio-visual") for place in places], rows, ())


def draw(found, labels=LABELS, regression=False):
    picture = np.full((8, 8, 3), 90, np.uint8)
    return timeline.draw(found, [picture] * len(found.begin), labels, regression)


def bars(axes):
    return [
        [(bar.get_x(), bar.get_width(), bar.get_y(), bar.get_height()) for bar in group]
        for group in axes.containers
    ]


def test_the_bars_of_overlapping_windows_meet_in_the_middle_and_reach_both_ends(tmp_path):
    found = emotions([(0, 2, 0), (1, 3, 0), (5, 7, 0)], [(0.7, 0.2, 0.1), (0.1, 0.8, 0.1), (0.2, 0.2, 0.6)])
    figure = draw(found)
    angry, calm, sad = bars(figure.axes[0])
    assert [bar[:2] for bar in angry] == [(0, 1.5), (1.5, 1.5), (5, 2)]
    np.testing.assert_allclose([bar[3] for bar in calm], [0.2, 0.8, 0.2])
    np.testing.assert_allclose([bar[2] + bar[3] for bar in sad], 1)
    figure.savefig(tmp_path / "a.png")


def test_each_face_has_a_row_and_what_is_not_shown_is_counted():
    found = emotions([(face, face + 1, face) for face in range(8)], [(1, 0, 0)] * 8)
    figure = draw(found)
    assert len(figure.axes) == timeline.MOST_FACES
    assert figure.get_suptitle() == "a.mp4 (2 more faces)"
    assert figure.axes[3].get_ylabel() == "face 3\nprobability"
    assert bars(figure.axes[3])[0] == [(3, 1, 0, 1)]


def test_of_many_classes_the_likeliest_are_shown_and_the_others_summed():
    labels = tuple(f"c{number}" for number in range(43))
    scores = np.full(43, 0.01)
    scores[40] = 0.58
    figure = draw(emotions([(0, 1, 0)], [scores]), labels)
    named = {group.get_label(): group[0].get_height() for group in figure.axes[0].containers}
    assert len(named) == len(COLOURS)
    assert named["c40"] == pytest.approx(0.58)
    assert named["others"] == pytest.approx(0.01 * (43 - len(COLOURS) + 1))


def test_dimensions_and_similarities_are_lines():
    found = emotions([(0, 2, 0), (1, 3, 0)], [(0.5, -1, 2), (0.7, 0, 1)])
    lines = {
        line.get_label(): line.get_xydata().tolist() for line in draw(found, regression=True).axes[0].lines
    }
    np.testing.assert_allclose(lines["calm"], [(1, -1), (2, 0)])
    arrays = {"video_3": np.array([[1.0, 0], [1, 1]]), "audio_3": np.array([[2.0, 0], [1, -1]])}
    places = (np.array([0.0, 1]), np.array([2.0, 3]), np.zeros(2, int), np.array(["audio-visual"] * 2))
    (line,) = draw(EmbeddedFile("a.mp4", *places, arrays), ()).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [1, 0])
    alone = draw(EmbeddedFile("a.mp4", *places, {"video_3": arrays["video_3"]}), ())
    assert alone.axes[0].get_ylabel() == "one modality,\nnothing to compare"
