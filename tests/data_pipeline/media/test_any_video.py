"""A flash and a click of one moment come out at that moment, whatever file holds them."""

from fractions import Fraction

import numpy as np
import pytest
import simplejpeg
from etils import epath

from data_pipeline.media.face_clip import load_face_clip
from data_pipeline.media.reasons import Notes
from data_pipeline.media.stretch import Stretch
from tests.support.flash_and_click import MOMENT, SECONDS, flash_and_click, frame_times, is_upright, write

SIZE = (96, 128)
A_FRAME = 0.041  # s; the lengths of frames are rounded to ms in some files

CONTAINERS = [
    ("a.mp4", "libx264", "aac", "yuv420p"),
    ("a.MP4", "libx264", "aac", "yuv420p"),
    ("a.m4v", "libx264", "aac", "yuv420p"),
    ("a.mov", "prores_ks", "pcm_s16le", "yuv422p10le"),
    ("a.3gp", "mpeg4", "aac", "yuv420p"),
    ("a.mkv", "libx264", "flac", "yuv420p"),
    ("a.webm", "libvpx-vp9", "libopus", "yuv420p"),
    ("a.avi", "mpeg4", "libmp3lame", "yuv420p"),
    ("b_frames.avi", "libx264", "libmp3lame", "yuv420p"),
    ("intra.avi", "mjpeg", "pcm_s16le", "yuvj420p"),
    ("a.flv", "libx264", "aac", "yuv420p"),
    ("a.mpg", "mpeg2video", "mp2", "yuv420p"),
    ("a.mpeg", "mpeg1video", "mp2", "yuv420p"),
    ("a.ts", "libx264", "aac", "yuv420p"),
    ("a.wmv", "wmv2", "wmav2", "yuv420p"),
    ("hevc_10_bit.mkv", "libx265", "ac3", "yuv420p10le"),
    ("av1.mp4", "libsvtav1", "aac", "yuv420p"),
]


def check(path, size=SIZE):
    """Checks all that a film shows, plays and says of itself."""
    notes = Notes()
    flash, click, pictures = flash_and_click(path, notes)
    assert abs(flash - MOMENT) < A_FRAME
    assert abs(click - MOMENT) < A_FRAME
    assert abs(flash - click) < A_FRAME
    assert abs(len(pictures) - SECONDS * 25) <= 1
    assert all(is_upright(picture, size) for picture in pictures)
    assert notes.lines() == []


@pytest.mark.parametrize(
    ("name", "video", "audio", "pixels"), CONTAINERS, ids=[case[0] for case in CONTAINERS]
)
def test_containers_and_codecs(tmp_path, name, video, audio, pixels):
    quiet = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}}
    rate = 44_100 if name == "a.flv" else 48_000
    write(tmp_path / name, video, audio, pixels=pixels, rate=rate, options=quiet.get(video))
    check(tmp_path / name)


@pytest.mark.parametrize("name", ["b_frames.avi", "a.mkv", "a.webm", "a.ts"])
def test_a_labelled_clip_may_be_in_any_of_them(tmp_path, name):
    codecs = {"video": "libvpx-vp9", "audio": "libopus"} if name == "a.webm" else {"audio": "libmp3lame"}
    write(tmp_path / name, **codecs)
    clip = load_face_clip(None, epath.Path(tmp_path / name), None, Stretch(32))
    white = [simplejpeg.decode_jpeg(jpeg)[16:, 16:].mean() > 150 for jpeg in clip.jpegs]
    assert np.flatnonzero(white).tolist() == [25, 26, 27]
    assert abs(int(np.argmax(np.abs(clip.samples.astype(int)) > 4_000)) / 16_000 - MOMENT) < A_FRAME


@pytest.mark.parametrize("fps", [Fraction(24_000, 1_001), 24, 30, Fraction(30_000, 1_001), 50, 60])
def test_frame_rates(tmp_path, fps):
    write(tmp_path / "a.mp4", times=frame_times(Fraction(fps)))
    check(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_variable_frame_rate(tmp_path, name):
    slow, fast = frame_times(Fraction(10)), frame_times(Fraction(60))
    times = [time for time in slow if time < 0.5] + [time for time in fast if 0.8 <= time < SECONDS]
    times = [Fraction(round(time * 1_000), 1_000) for time in times]
    write(tmp_path / name, times=times)
    check(tmp_path / name)


@pytest.mark.parametrize("turned", [90, 180, 270])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_turned_pictures(tmp_path, name, turned):
    write(tmp_path / name, turned=turned)
    check(tmp_path / name)


@pytest.mark.parametrize("late", [0.32, -0.32, 0.88])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov", "a.webm"])
def test_picture_and_sound_begin_at_different_times(tmp_path, name, late):
    codecs = {"video": "libvpx-vp9", "audio": "libopus"} if name == "a.webm" else {}
    write(tmp_path / name, late=late, **codecs)
    check(tmp_path / name)


@pytest.mark.parametrize(
    ("size", "video", "pixels"), [((97, 131), "mjpeg", "yuvj444p"), ((33, 47), "ffv1", "bgr0")]
)
def test_odd_sizes(tmp_path, size, video, pixels):
    write(tmp_path / "a.mkv", video, size=size, pixels=pixels)
    check(tmp_path / "a.mkv", size)


@pytest.mark.parametrize("layout", ["mono", "stereo", "3.0", "quad", "5.1"])
def test_layouts_of_channels(tmp_path, layout):
    write(tmp_path / "a.mkv", audio="flac", layout=layout)
    check(tmp_path / "a.mkv")


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_sample_rates(tmp_path, rate):
    write(tmp_path / "a.mkv", audio="flac", rate=rate)
    check(tmp_path / "a.mkv")
