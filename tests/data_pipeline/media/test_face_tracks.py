"""Detections of some frames become tracks with a smooth box in every frame."""

import numpy as np
import pytest

from data_pipeline.media.face_tracks import EVERY, LONGEST_GAP, link, overlap
from data_pipeline.media.faces import Face


def face(left, top, width=40, height=50, confidence=1.0):
    return Face(np.array([left, top, left + width, top + height], float), confidence)


def looks(last, *places):
    """Faces in every `EVERY`-th frame up to `last`; each place maps a frame's number to a face or None."""
    return [
        (number, [found for place in places if (found := place(number)) is not None])
        for number in range(0, last + 1, EVERY)
    ]


def test_a_face_that_stays_is_one_track():
    (track,) = link(looks(50, lambda number: face(100, 80, confidence=0.9 + number / 1_000)))
    assert (track.begin, track.end, track.boxes.shape) == (0, 51, (51, 4))
    np.testing.assert_allclose(track.boxes, np.tile([100, 80, 140, 130], (51, 1)))
    assert track.confidence == pytest.approx(0.925)
    assert track.presence == pytest.approx(51 * 50)


def test_boxes_between_two_looks_are_interpolated():
    (track,) = link(looks(50, lambda number: face(100 + 2 * number, 80)))
    np.testing.assert_allclose(track.boxes[:, 0], 100 + 2 * np.arange(51))
    np.testing.assert_allclose(track.boxes[:, 2] - track.boxes[:, 0], 40)


def test_one_box_far_out_does_not_count():
    def place(number):
        return face(100, 80, height=90) if number == 25 else face(100, 80)

    (track,) = link(looks(50, place))
    np.testing.assert_allclose(track.boxes, np.tile([100, 80, 140, 130], (51, 1)))


def test_jitter_is_smoothed():
    rng = np.random.default_rng(0)
    jitter = rng.normal(0, 3, 60)
    (track,) = link(looks(250, lambda number: face(100 + jitter[number // EVERY], 80)))
    assert np.abs(np.diff(track.boxes[:, 0])).max() < 0.6
    assert track.boxes[:, 0].std() < 0.8 * jitter[:51].std()


def test_two_faces_are_two_tracks_and_the_largest_comes_first():
    small, large = lambda number: face(10, 10), lambda number: face(200, 50, 80, 100)
    first, second = link(looks(50, small, large))
    assert first.boxes[0].tolist() == [200, 50, 280, 150]
    assert second.boxes[0].tolist() == [10, 10, 50, 60]


def test_a_face_that_is_seen_longer_comes_before_a_larger_one():
    def small(number):
        return face(10, 10)

    def large(number):
        return face(200, 50, 80, 100) if number < 10 else None

    first, second = link(looks(100, small, large))
    assert (first.end - first.begin, second.end - second.begin) == (101, 6)


def test_faces_that_pass_each_other_keep_their_tracks():
    def left_to_right(number):
        return face(100 + 2 * number, 80)

    def right_to_left(number):
        return face(300 - 2 * number, 140)

    tracks = link(looks(100, left_to_right, right_to_left))
    assert sorted(track.boxes[0, 0] < track.boxes[-1, 0] for track in tracks) == [False, True]


@pytest.mark.parametrize(("missing", "n_tracks"), [(LONGEST_GAP - EVERY, 1), (LONGEST_GAP + EVERY, 2)])
def test_a_short_gap_is_bridged_and_a_long_one_ends_the_track(missing, n_tracks):
    def place(number):
        return None if 25 < number <= 25 + missing else face(100, 80)

    tracks = link(looks(100, place))
    assert len(tracks) == n_tracks
    assert sum(track.end - track.begin for track in tracks) == (101 if n_tracks == 1 else 26 + 101 - 60)


def test_a_jump_begins_another_track():
    def place(number):
        return face(100, 80) if number <= 50 else face(180, 80)

    tracks = link(looks(100, place))
    assert sorted((track.begin, track.end) for track in tracks) == [(0, 51), (55, 101)]


def test_before_and_after_its_frames_the_box_stays():
    (track,) = link([(20, [face(100, 80)])])
    assert (track.begin, track.end) == (20, 21)
    for number in (0, 20, 99):
        assert track.box(number).tolist() == [100, 80, 140, 130]


def test_no_face_is_no_track():
    assert link(looks(50)) == []
    assert link([]) == []


def test_overlap():
    one = np.array([0, 0, 10, 10.0])
    assert overlap(one, one) == 1
    assert overlap(one, one + np.array([5, 0, 5, 0])) == pytest.approx(1 / 3)
    assert overlap(one, one + 20) == 0
