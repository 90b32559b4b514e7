"""At every moment one face is seen, or each; a video without a face is seen in the middle."""

import numpy as np
import pytest

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.media import face_views, plain_views, stream_faces
from data_pipeline.media.face_tracks import Track
from data_pipeline.media.face_views import all_parts, largest_parts
from data_pipeline.media.faces import Face
from data_pipeline.media.inputs import find_inputs
from data_pipeline.media.reasons import Notes
from data_pipeline.media.video_windows import read_windows
from data_pipeline.media.windows import Windows
from tests.support import flash_and_click

PLAN = Windows(ClipSampling(8, 2), hop=8)


def track(begin, frames, height=50.0):
    return Track(begin, np.tile([0.0, 0.0, 40.0, height], (frames, 1)), 1.0)


def spans(parts):
    return [(part.face, part.begin, part.end) for part in parts]


def test_each_face_is_shown_where_it_is():
    # Four frames more at both ends, because faces are looked for in every fifth frame only.
    assert spans(all_parts([track(100, 101), track(0, 61)])) == [(0, 96, 205), (1, 0, 65)]


def test_of_two_faces_at_one_time_the_one_that_is_seen_most_counts():
    parts = largest_parts([track(100, 101), track(0, 301)])
    assert spans(parts) == [(0, 0, 96), (0, 96, 205), (0, 205, 305)]
    assert largest_parts([track(0, 101), track(20, 41)])[0].end == 105
    assert len(largest_parts([track(0, 101), track(20, 41)])) == 1


def test_short_tracks_do_not_count_beside_longer_ones():
    assert spans(all_parts([track(0, 30), track(50, 3)])) == [(0, 0, 34)]
    assert spans(all_parts([track(0, 3), track(50, 2)])) == [(0, 0, 7)]
    assert all_parts([]) == largest_parts([]) == []


@pytest.fixture
def video(tmp_path):
    flash_and_click.write(tmp_path / "a.mp4")
    return find_inputs([str(tmp_path / "a.mp4")])[0]


def windows_of(video, view, notes=None):
    return list(read_windows(video, notes or Notes(), PLAN, view))


def found_at(monkeypatch, boxes):
    """Let the detector find these boxes in every frame."""
    monkeypatch.setattr(face_views, "check_installed", lambda: None)
    faces = [Face(np.array(box, float), 1.0) for box in boxes]
    monkeypatch.setattr(stream_faces, "check_installed", lambda: None)
    monkeypatch.setattr(stream_faces, "detect", lambda picture: faces)


def test_windows_hold_the_crop_of_the_face(monkeypatch, video):
    # The mark is the top left quarter of 96 × 128 pixels.
    found_at(monkeypatch, [(0, 0, 20, 24), (60, 40, 90, 80)])
    each = windows_of(video, face_views.each(16))
    assert {window.face for window in each} == {0, 1}
    mark = next(window for window in each if window.face == 1)
    np.testing.assert_allclose(mark.frames[0, 4:12, 4:12].mean((0, 1)), flash_and_click.MARK, atol=12)
    largest = windows_of(video, face_views.largest(16))
    assert [window.face for window in largest] == [0] * len(largest)
    assert largest[-1].end == 2.0
    np.testing.assert_allclose(largest[0].frames[0, 4:12, 4:12].mean(), 60, atol=8)


def test_without_a_face_the_middle_is_seen_and_a_note_says_so(monkeypatch, video):
    found_at(monkeypatch, [])
    notes = Notes()
    seen = windows_of(video, face_views.largest(16), notes)
    plain = windows_of(video, plain_views.centre(16))
    np.testing.assert_array_equal(seen[0].frames, plain[0].frames)
    assert notes.lines() == ["no_face: no face is found: the centre of the picture is used"]


def test_plain_views_see_their_part_of_the_frame(video):
    centre = windows_of(video, plain_views.centre(96))[0].frames[0]
    whole = windows_of(video, plain_views.whole(64))[0].frames[0]
    voxceleb2 = windows_of(video, plain_views.voxceleb2(64))[0].frames[0]
    height, width = 96, 128
    expected = flash_and_click.scene(height, width, False)
    np.testing.assert_allclose(centre, expected[:, 16:112], atol=25)
    assert whole[4, 4] == pytest.approx(np.array(flash_and_click.MARK), abs=25)
    # The face of a frame of VoxCeleb2 begins at its top edge, a seventh of the width from the left.
    edge = (expected[0, round(width * 32 / 224) :] == flash_and_click.MARK[0]).any(-1).sum()
    red = (voxceleb2[2, :, 0] > 130).sum()
    assert red == pytest.approx(edge * 64 / (width * 160 / 224), abs=1.5)
