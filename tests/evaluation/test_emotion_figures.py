"""Figures of fine-tuned models show the numbers that they are given, and refuse what does not fit."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

from hicmae_jax.evaluation.figures import (
    attention_rollout,
    confusion,
    embedding_map,
    emotion_bars,
    layer_weights,
)
from hicmae_jax.evaluation.figures.palette import COLOURS, MARKERS, style
from hicmae_jax.evaluation.intervals import Interval

CLASSES = ("ANG", "HAP", "NEU")
COUNTS = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])


def texts(axes):
    return {text.get_position(): text.get_text() for text in axes.texts}


def test_confusion_shows_counts_and_shares_of_rows(tmp_path):
    figure = confusion.draw({"all folds": 2 * COUNTS, "fold 1": COUNTS}, CLASSES, "the title")
    pooled, fold = (axes for axes in figure.axes if axes.get_title())
    assert pooled.get_title() == "all folds: 24 clips, 75.0 % right"
    assert texts(pooled)[(0, 0)] == "75\n12"
    assert texts(fold)[(0, 0)] == "75\n6"
    assert texts(fold)[(0, 1)] == "25\n1"  # x is the prediction, y the truth
    assert [texts(fold)[(j, 2)] for j in range(3)] == ["–"] * 3
    shares = fold.images[0].get_array()
    np.testing.assert_allclose(shares[:2], [[75, 25, 0], [25, 75, 0]])
    assert np.ma.getmaskarray(shares)[2].all()
    assert [label.get_text() for label in fold.get_yticklabels()] == list(CLASSES)
    assert {axes.images[0].get_clim() for axes in (pooled, fold)} == {(0, 80)}
    figure.savefig(tmp_path / "confusion.png")


def test_a_long_title_stays_within_the_figure():
    title = f"made_up: audio-visual, from /{'directory/' * 12}run, step 320, last epoch"
    figure = confusion.draw({"fold 1": COUNTS}, CLASSES, title)
    figure.draw_without_rendering()
    (drawn,) = (text for text in figure.texts if text.get_text())
    assert drawn.get_text().replace("\n", "").replace(" ", "") == title.replace(" ", "")
    box = drawn.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= figure.axes[0].get_window_extent().y1  # and not over the picture


def test_confusion_of_many_classes_has_no_numbers(tmp_path):
    figure = confusion.draw({"all": np.eye(43, dtype=int)}, [f"class {k}" for k in range(43)], "title")
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticklabels()) == 43
    figure.savefig(tmp_path / "confusion.png")


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"fold 2: a matrix \(2, 2\) for 3 classes"):
        confusion.draw({"fold 1": COUNTS, "fold 2": COUNTS[:2, :2]}, CLASSES, "title")
    with pytest.raises(ValueError, match="no matrix"):
        confusion.draw({}, CLASSES, "title")


def test_bars_show_recall_and_interval_of_every_system(tmp_path):
    recalls = {"video": np.array([40.0, 60, np.nan]), "fused": np.array([50.0, 70, 90])}
    missing = Interval(np.nan, np.nan, 1, "one speaker or session only")
    intervals = {
        "video": [Interval(30, 55, 9), Interval(50, 80, 9), missing],
        "fused": [Interval(45, 60, 9), missing, Interval(80, 95, 9)],
    }
    figure = emotion_bars.draw(recalls, intervals, CLASSES, [8, 4, 1000], "title")
    (axes,) = figure.axes
    np.testing.assert_array_equal([bar.get_height() for bar in axes.patches], [40, 60, np.nan, 50, 70, 90])
    bars = [found for found in axes.containers if isinstance(found, ErrorbarContainer)]
    drawn = [found.lines[2][0].get_segments()[0][:, 1] for found in bars]
    np.testing.assert_allclose(drawn, [[30, 55], [50, 80], [45, 60], [80, 95]])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"video, UAR 50.0", "fused, UAR 70.0", "chance"} == set(labels)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ANG\n8", "HAP\n4", "NEU\n1,000"]
    figure.savefig(tmp_path / "bars.png")
    with pytest.raises(ValueError, match="video: 3 recalls, 2 intervals and 3 counts for 3 classes"):
        emotion_bars.draw(recalls, intervals | {"video": [missing] * 2}, CLASSES, [8, 4, 1000], "title")
    with pytest.raises(ValueError, match="no recall"):
        emotion_bars.draw({}, {}, CLASSES, [8, 4, 1000], "title")


def test_maps_show_every_clip_in_the_style_of_its_class(tmp_path):
    labels = np.arange(30) % 2  # no clip of the third class
    places = {
        name: np.random.RandomState(i).rand(30, 2) for i, name in enumerate(("video", "audio", "fused"))
    }
    figure = embedding_map.draw(places, labels, CLASSES, "title")
    assert [axes.get_title() for axes in figure.axes] == list(places)
    for axes in figure.axes:
        groups = [found for found in axes.collections if isinstance(found, PathCollection)]
        for k, group in enumerate(groups):
            np.testing.assert_allclose(group.get_offsets(), places[axes.get_title()][labels == k])
            assert to_hex(group.get_facecolor()[0], keep_alpha=False) == style(k)[0].lower()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CLASSES)
    figure.savefig(tmp_path / "map.png")
    with pytest.raises(ValueError, match=r"audio: places \(29, 2\) for 30 clips"):
        embedding_map.draw(places | {"audio": places["audio"][:29]}, labels, CLASSES, "title")
    with pytest.raises(ValueError, match="no map"):
        embedding_map.draw({}, labels, CLASSES, "title")


def test_neighbours_on_the_map_are_of_one_group():
    rng, groups = np.random.RandomState(0), np.arange(60) % 3
    features = 5 * rng.standard_normal((3, 16))[groups] + rng.standard_normal((60, 16))
    places = embedding_map.coordinates(features)
    np.testing.assert_array_equal(places, embedding_map.coordinates(features))
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(60)
    np.testing.assert_array_equal(groups[distances.argmin(1)], groups)


def test_features_without_a_map_are_refused():
    with pytest.raises(ValueError, match="at least 4 clips, not 3"):
        embedding_map.coordinates(np.ones((3, 8)))
    with pytest.raises(ValueError, match="features of 1 clips are not finite"):
        embedding_map.coordinates(np.where(np.arange(40).reshape(5, 8) == 9, np.nan, 1.0))


def test_layer_weights_show_every_layer(tmp_path):
    weights = {"video": np.array([0.1, 0.2, 0.7]), "audio": np.array([0.5, 0.25, 0.25])}
    figure = layer_weights.draw(weights, "title")
    assert {axes.get_title(): [bar.get_height() for bar in axes.patches] for axes in figure.axes} == {
        name: of_layers.tolist() for name, of_layers in weights.items()
    }
    assert [line.get_ydata()[0] for axes in figure.axes for line in axes.lines] == [1 / 3, 1 / 3]
    figure.savefig(tmp_path / "layers.png")
    with pytest.raises(ValueError, match=r"audio: layer weights add up to 3\.000, not 1: apply softmax"):
        layer_weights.draw(weights | {"audio": np.ones(3)}, "title")
    with pytest.raises(ValueError, match="no layer weights"):
        layer_weights.draw({}, "title")


def test_attention_lies_over_the_frames_and_the_sound(tmp_path):
    frames = np.random.RandomState(0).randint(0, 256, (16, 32, 32, 3)).astype(np.uint8)
    video_map = np.arange(8.0)[:, None, None] * np.ones((8, 2, 2)) / 7
    audio_map = np.arange(32.0).reshape(8, 4)  # 8 steps of time, 4 of frequency
    figure = attention_rollout.draw(frames, np.zeros((128, 64)), video_map, audio_map, "title")
    shown = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(shown) == [f"frame {i}" for i in (0, 2, 4, 6, 9, 11, 13, 15)]
    np.testing.assert_array_equal(shown["frame 9"].images[0].get_array(), frames[9])
    covered = [axes for axes in figure.axes if len(axes.images) == 2]
    # Frame 9 belongs to the slice of frames 8 and 9.
    highest = [float(axes.images[1].get_array().max()) for axes in covered[:-1]]
    np.testing.assert_allclose(highest, np.array([0, 1, 2, 3, 4, 5, 6, 7]) / 7)
    sound = covered[-1].images[1].get_array()
    assert sound[-1, 0] == 0  # the first time and the lowest frequency are at the lower left
    assert sound[0, -1] == 1
    assert sound[0, 0] == pytest.approx(3 / 31)
    figure.savefig(tmp_path / "rollout.png")


@pytest.mark.parametrize(
    ("frames", "log_mel", "video_map", "audio_map", "message"),
    [
        ((15, 8, 8, 3), (64, 32), (8, 2, 2), (4, 2), "frames"),
        ((16, 8, 8), (64, 32), (8, 2, 2), (4, 2), "frames"),
        ((16, 8, 8, 3), (64,), (8, 2, 2), (4, 2), "spectrogram"),
    ],
)
def test_maps_of_another_shape_are_refused(frames, log_mel, video_map, audio_map, message):
    with pytest.raises(ValueError, match=message):
        attention_rollout.draw(*map(np.ones, (frames, log_mel, video_map, audio_map)), "title")


def test_99_classes_have_their_own_style():
    assert len({style(k) for k in range(99)}) == len(COLOURS) * len(MARKERS) == 99
