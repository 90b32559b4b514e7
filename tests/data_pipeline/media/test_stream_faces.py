"""Faces of a film are followed, and cut out of its frames."""

import time

import numpy as np
import pytest

from data_pipeline.media import faces, stream_faces
from data_pipeline.media.encode import write_mp4
from data_pipeline.media.face_crop import crop_box, cut
from data_pipeline.media.face_tracks import overlap
from data_pipeline.media.faces import Face
from data_pipeline.media.stream_faces import find_tracks
from data_pipeline.media.video_stream import VideoStream
from tests.support.face_pictures import FACE, film, needs_detector


def test_each_fifth_frame_is_looked_at(tmp_path, monkeypatch):
    seen = []

    def find(picture):
        seen.append(picture)
        return [Face(FACE.astype(float), 1.0)] if len(seen) <= 4 else []

    monkeypatch.setattr(stream_faces, "check_installed", lambda: None)
    monkeypatch.setattr(stream_faces, "detect", find)
    write_mp4(tmp_path / "a.mp4", film(50))
    (track,) = find_tracks(VideoStream(tmp_path / "a.mp4"))
    assert len(seen) == 10
    assert (track.begin, track.end) == (0, 16)
    np.testing.assert_allclose(track.box(7), FACE)


@needs_detector
def test_two_real_faces_are_followed_and_cut_out(tmp_path):
    frames = np.concatenate([film(30, width=240), film(30, width=240)[:, :, ::-1]], axis=2)
    write_mp4(tmp_path / "a.mp4", frames, crf=10)
    video = VideoStream(tmp_path / "a.mp4")
    tracks = find_tracks(video)
    mirrored = np.array([480 - FACE[2], FACE[1], 480 - FACE[0], FACE[3]])
    assert len(tracks) == 2
    left, right = sorted(tracks, key=lambda track: track.box(0)[0])
    assert overlap(left.box(29), FACE) > 0.75
    assert overlap(right.box(29), mirrored) > 0.7
    expected = cut(frames[0], crop_box(FACE), 160).astype(int)
    for number, picture in video.frames():
        face = cut(picture, crop_box(left.box(number)), 160)
        assert np.abs(face - expected).mean() < 25


@pytest.mark.parametrize("frames", [1, 4, 60])
def test_threads_find_the_same_tracks(tmp_path, monkeypatch, frames):
    def find(picture):
        time.sleep(0.002 * (picture[0, 0, 0] % 3))  # some frames take longer
        left = float(picture[0, 0, 0])
        return [Face(np.array([left, 10, left + 40, 60]), 1.0)]

    monkeypatch.setattr(stream_faces, "check_installed", lambda: None)
    monkeypatch.setattr(stream_faces, "detect", find)
    pictures = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 64, 64, 3))
    write_mp4(tmp_path / "a.mp4", pictures, crf=1)
    video = VideoStream(tmp_path / "a.mp4")
    (alone,), (together,) = find_tracks(video), find_tracks(video, threads=3)
    assert (alone.begin, alone.end) == (together.begin, together.end)
    np.testing.assert_array_equal(alone.boxes, together.boxes)


def test_a_missing_detector_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "installed", lambda: False)
    write_mp4(tmp_path / "a.mp4", film(5))
    with pytest.raises(ImportError, match=r"hicmae_jax\[face\]"):
        find_tracks(VideoStream(tmp_path / "a.mp4"))
