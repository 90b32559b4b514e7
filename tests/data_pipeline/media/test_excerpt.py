"""An excerpt has the frames that the whole recording has there, bit for bit, and the same sound."""

from fractions import Fraction

import numpy as np
import pytest
from etils import epath

from data_pipeline.media import excerpt_packets
from data_pipeline.media.decode import Crop, Stretch, load_clip
from data_pipeline.media.excerpt import load_excerpt
from tests.support import recordings
from tests.support.excerpts import LONG_GOP, OPEN_GOP, TIMES, WHOLE, check
from tests.support.media_files import remux, with_edits

B_FRAMES = {"bf": "2", "g": "60"}
FAST = {"deadline": "realtime", "cpu-used": "8", "g": "60"}

FILES = [
    ("a.mp4", {"options": LONG_GOP}),
    ("open_gop.mp4", {"options": OPEN_GOP, "rate": 48_000, "layout": "stereo"}),
    ("a.mkv", {"options": LONG_GOP}),
    ("a.webm", {"video": "libvpx", "audio": "libopus", "rate": 48_000, "options": FAST}),
    pytest.param(
        "vp9.webm",
        {"video": "libvpx-vp9", "audio": "libopus", "rate": 48_000, "options": FAST},
        marks=pytest.mark.slow,
    ),
    pytest.param("a.avi", {"options": OPEN_GOP, "audio": "libmp3lame"}, marks=pytest.mark.slow),
    ("b_frames.avi", {"video": "mpeg4", "audio": "libmp3lame", "options": B_FRAMES}),
    pytest.param("pcm.avi", {"video": "mjpeg", "audio": "pcm_s16le", "rate": 16_000}, marks=pytest.mark.slow),
    ("a.ts", {"options": LONG_GOP}),
    pytest.param("a.flv", {"options": OPEN_GOP}, marks=pytest.mark.slow),
    pytest.param(
        "a.mpg",
        {"video": "mpeg2video", "audio": "ac3", "rate": 48_000, "options": B_FRAMES},
        marks=pytest.mark.slow,
    ),
    ("30_a_second.mp4", {"fps": 30, "options": LONG_GOP, "rate": 22_050}),
    pytest.param(
        "29.97_a_second.mkv",
        {"fps": Fraction(30_000, 1_001), "options": LONG_GOP, "rate": 48_000},
        marks=pytest.mark.slow,
    ),
    pytest.param("10_a_second.mp4", {"fps": 10, "options": {"g": "40"}}, marks=pytest.mark.slow),
    pytest.param("flac.mkv", {"audio": "flac", "layout": "5.1"}, marks=pytest.mark.slow),
    pytest.param(
        "hevc.mkv",
        {"video": "libx265", "options": {"x265-params": "log-level=none:keyint=60:open-gop=1"}},
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("name", "kwargs"), FILES)
def test_containers_and_codecs(tmp_path, name, kwargs):
    recordings.write(tmp_path / name, **kwargs)
    check(tmp_path / name, same_sound=kwargs.get("audio") != "ac3")


def test_a_variable_frame_rate(tmp_path):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([5, 17, 33, 40, 100, 400], 150)).tolist()
    times = [time for time in times if time < 9_000]
    recordings.write(tmp_path / "a.mkv", times=[0, *times], options={"g": "40"})
    check(tmp_path / "a.mkv", times=TIMES[:-1])


def test_a_frame_that_stays_through_the_excerpt(tmp_path):
    times = [*range(0, 2_000, 40), *range(8_000, 9_000, 40)]
    recordings.write(tmp_path / "a.mp4", times=times, options={"g": "20"})
    check(tmp_path / "a.mp4")


def test_an_edit_list_is_followed(tmp_path):
    recordings.write(tmp_path / "a.mov", audio="pcm_s16le", rate=16_000, options={"g": "50"}, seconds=11.0)
    whole = (tmp_path / "a.mov").read_bytes()
    (tmp_path / "a.mov").write_bytes(with_edits(whole, [(2.0, 0.0), (7.2, 3.2)]))
    check(tmp_path / "a.mov")


@pytest.mark.parametrize("options", ["frag_keyframe+empty_moov", "faststart"])
def test_other_kinds_of_index(tmp_path, options):
    recordings.write(tmp_path / "a.mp4", options=OPEN_GOP)
    remux(tmp_path / "a.mp4", tmp_path / "other.mp4", movflags=options)
    check(tmp_path / "other.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_without_an_index_the_file_is_read_from_its_beginning(tmp_path, name, monkeypatch):
    for module in ("excerpt_video", "excerpt_sound"):
        monkeypatch.setattr(f"data_pipeline.media.{module}.go_to", lambda *args: False)
    recordings.write(tmp_path / name, options=OPEN_GOP, audio="libmp3lame")
    check(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_an_index_that_leads_to_the_end_is_not_followed(tmp_path, name, monkeypatch):
    def to_the_end(container, stream, seconds):
        return excerpt_packets.go_to(container, stream, Fraction(17, 2))

    for module in ("excerpt_video", "excerpt_sound"):
        monkeypatch.setattr(f"data_pipeline.media.{module}.go_to", to_the_end)
    recordings.write(tmp_path / name, options=OPEN_GOP, audio="libmp3lame")
    check(tmp_path / name)


def test_few_packets_wait_in_memory(tmp_path, monkeypatch):
    recordings.write(tmp_path / "a.mp4", options=OPEN_GOP)
    monkeypatch.setattr(excerpt_packets, "_MOST_BYTES", 1_000)
    check(tmp_path / "a.mp4")


def test_packets_that_are_all_called_key_frames(tmp_path, monkeypatch):
    """As by an mp4 file without a table of key frames: the decoder knows which are."""
    monkeypatch.setattr(excerpt_packets, "_is_key", lambda packet: True)
    recordings.write(tmp_path / "a.mp4", options=LONG_GOP)
    check(tmp_path / "a.mp4")


@pytest.mark.parametrize("crop", [Crop(8, 8, 32, 40), Stretch(32)])
def test_what_is_kept_of_a_frame(tmp_path, crop):
    recordings.write(tmp_path / "a.mp4", options=OPEN_GOP)
    video = epath.Path(tmp_path / "a.mp4")
    whole, excerpt = load_clip(video, None, crop), load_excerpt(video, None, 3, 4, crop)
    assert excerpt.jpegs == whole.jpegs[75:100]


def test_what_counts_as_resampled(tmp_path):
    recordings.write(tmp_path / "25.mp4", rate=16_000)
    recordings.write(tmp_path / "30.mp4", rate=16_000, fps=30)
    for name, resampled in (("25.mp4", False), ("30.mp4", True)):
        assert load_excerpt(epath.Path(tmp_path / name), None, 6, 8, WHOLE).resampled == resampled
