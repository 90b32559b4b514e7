"""How long the picture of a recording lasts, by its header or by the times of its packets."""

import pytest
from etils import epath

from data_pipeline.media import excerpt_packets, recording
from data_pipeline.media.decode import Crop, Reason, UnusableClipError, load_clip
from data_pipeline.media.recording import recording_seconds
from tests.support import recordings
from tests.support.media_files import remux

FILES = [
    ("a.mp4", {}),
    ("a.mkv", {}),
    ("30_a_second.mkv", {"fps": 30}),
    ("a.webm", {"video": "libvpx", "audio": "libopus", "rate": 48_000, "options": {"deadline": "realtime"}}),
    ("a.avi", {"audio": "libmp3lame"}),
    ("a.ts", {}),
    ("a.flv", {}),
]


@pytest.mark.parametrize(("name", "kwargs"), FILES, ids=[name for name, _ in FILES])
def test_containers(tmp_path, name, kwargs):
    recordings.write(tmp_path / name, seconds=4.0, **kwargs)
    path = epath.Path(tmp_path / name)
    n_frames = len(load_clip(path, None, Crop(0, 0, 8, 8)).jpegs)
    assert n_frames == 100
    assert recording_seconds(path) == pytest.approx(4.0, abs=0.002)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_time_before_the_first_frame_does_not_count(tmp_path, name):
    recordings.write(tmp_path / "a.mp4", seconds=4.0)
    remux(tmp_path / "a.mp4", tmp_path / name, delay_video=1.5)
    assert recording_seconds(epath.Path(tmp_path / name)) == pytest.approx(4.0, abs=0.002)


def test_sound_that_is_longer_does_not_count(tmp_path):
    recordings.write(tmp_path / "a.mp4", seconds=4.0)
    remux(tmp_path / "a.mp4", tmp_path / "a.mkv", delay_audio=3.0)
    assert recording_seconds(epath.Path(tmp_path / "a.mkv")) == pytest.approx(4.0, abs=0.002)


def test_only_the_end_of_a_long_file_is_read(tmp_path, monkeypatch):
    recordings.write(tmp_path / "a.mkv", seconds=30.0, options={"g": "25"})
    read = []

    def counted(container, stream):
        for packet in excerpt_packets.readable(container, stream):
            read.append(packet.pts)
            yield packet

    monkeypatch.setattr(recording, "readable", counted)
    assert recording_seconds(epath.Path(tmp_path / "a.mkv")) == pytest.approx(30, abs=0.002)
    assert 250 <= len(read) <= 300
    monkeypatch.setattr(recording, "go_to", lambda *args: False)
    assert recording_seconds(epath.Path(tmp_path / "a.mkv")) == pytest.approx(30, abs=0.002)
    assert len(read) >= 1_000


def test_a_file_that_was_cut_short_lasts_as_long_as_it_can_be_read(tmp_path):
    recordings.write(tmp_path / "a.mkv", options={"g": "25"})
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    assert 3 < recording_seconds(epath.Path(tmp_path / "a.mkv")) < 6


def test_what_is_no_recording(tmp_path):
    def reason(name):
        with pytest.raises(UnusableClipError) as caught:
            recording_seconds(epath.Path(tmp_path / name))
        return caught.value.reason

    assert reason("absent.mp4") == Reason.MISSING_VIDEO
    (tmp_path / "text.mp4").write_text("no film\n" * 100)
    assert reason("text.mp4") == Reason.NOT_MEDIA
    recordings.write(tmp_path / "sound.mp4", video=None, seconds=1.0)
    assert reason("sound.mp4") == Reason.NO_VIDEO_STREAM
    (tmp_path / "disk_error.mp4").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error"):
        recording_seconds(epath.Path(tmp_path / "disk_error.mp4"))
