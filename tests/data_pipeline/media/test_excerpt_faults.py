"""A fault of an excerpt has the same reason as in a whole clip; a fault elsewhere does not matter."""

import contextlib
from pathlib import Path

import av
import numpy as np
import pytest
from etils import epath

from data_pipeline.media import face_video, limits
from data_pipeline.media.decode import Crop, FaceCrop, Reason, UnusableClipError, load_clip
from data_pipeline.media.encode import write_mp4, write_wav
from data_pipeline.media.excerpt import load_excerpt
from data_pipeline.media.faces import Face
from tests.support import recordings
from tests.support.damaged_bytes import damaged
from tests.support.face_pictures import FACE, film
from tests.support.media_files import remux, tone

WHOLE = Crop(0, 0, 48, 64)
A_SECOND = {"g": "25"}


def reason_of(video, audio, begin, end, crop=WHOLE):
    with pytest.raises(UnusableClipError) as caught:
        load_excerpt(epath.Path(video), audio and epath.Path(audio), begin, end, crop)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def is_whole(damaged, whole, begin, end):
    """Whether an excerpt of a damaged file is that of the whole one."""
    one, other = (load_excerpt(epath.Path(path), None, begin, end, WHOLE) for path in (damaged, whole))
    return one.jpegs == other.jpegs and np.array_equal(one.samples, other.samples)


@pytest.fixture
def video(tmp_path):
    """A recording with a key frame every second."""
    recordings.write(tmp_path / "a.mp4", audio="flac", rate=48_000, options=A_SECOND)
    return tmp_path / "a.mp4"


def damage(path, kind, second):
    """Write a copy of a file in which the packet of a moment is destroyed."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        packet = next(packet for packet in packets if packet.pts * packet.time_base >= second)
        data[packet.pos : packet.pos + packet.size] = b"\x55" * packet.size
    copy = path.with_name(f"damaged_{kind}.mp4")
    copy.write_bytes(data)
    return copy


def test_a_damaged_frame_refuses_the_excerpts_that_need_it(video):
    damaged = damage(video, "video", 5.2)
    with pytest.raises(UnusableClipError):
        load_clip(epath.Path(damaged), None, WHOLE)
    for begin, end in [(4.6, 5.6), (5.2, 5.4), (5.4, 6.4), (1, 9)]:
        assert reason_of(damaged, None, begin, end) == Reason.CORRUPT_VIDEO
    for begin, end in [(0, 5), (3.4, 4.8), (6, 8), (6.2, 9)]:
        assert is_whole(damaged, video, begin, end)


def test_a_damaged_sound_refuses_the_excerpts_that_need_it(video):
    damaged = damage(video, "audio", 5.2)
    for begin, end in [(4.6, 5.6), (5, 7)]:
        assert reason_of(damaged, None, begin, end) == Reason.CORRUPT_AUDIO
    for begin, end in [(0, 5), (3.4, 4.8), (6, 8)]:
        assert is_whole(damaged, video, begin, end)


def test_an_excerpt_beyond_the_end_is_refused(video):
    for begin, end in [(8, 9.12), (9, 10), (20, 21), (20_000, 20_001)]:
        assert reason_of(video, None, begin, end) == Reason.TRUNCATED_VIDEO
    assert reason_of(video, None, 8.96, 9.04) == Reason.TOO_FEW_FRAMES
    assert len(load_excerpt(epath.Path(video), None, 8, 9.08, WHOLE).jpegs) == 25


def test_a_file_that_was_cut_short_is_whole_up_to_there(video, tmp_path):
    remux(video, tmp_path / "index_first.mp4", movflags="faststart")
    data = (tmp_path / "index_first.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    cut = epath.Path(tmp_path / "cut.mp4")
    assert is_whole(cut, video, 1, 4)
    for begin, end in [(4, 7), (7, 8)]:
        assert reason_of(cut, None, begin, end) == Reason.TRUNCATED_VIDEO
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:-2_000])  # the index, which comes last, is lost
    assert reason_of(cut, None, 1, 4) == Reason.TRUNCATED_VIDEO


def test_broken_files_have_their_reason(video, tmp_path):
    broken = tmp_path / "broken.mp4"
    assert reason_of(broken, None, 0, 1) == Reason.MISSING_VIDEO
    broken.write_text("no film\n" * 100)
    assert reason_of(broken, None, 0, 1) == Reason.NOT_MEDIA
    recordings.write(broken, video=None)
    assert reason_of(broken, None, 0, 1) == Reason.NO_VIDEO_STREAM
    recordings.write(broken, audio=None)
    assert reason_of(broken, None, 0, 1) == Reason.MISSING_AUDIO
    sound = tmp_path / "broken.wav"
    assert reason_of(video, sound, 0, 1) == Reason.MISSING_AUDIO
    sound.write_bytes(b"")
    assert reason_of(video, sound, 0, 1) == Reason.EMPTY_AUDIO
    sound.write_text("no sound\n" * 100)
    assert reason_of(video, sound, 0, 1) == Reason.CORRUPT_AUDIO
    assert reason_of(video, None, 3, 4, Crop()) == Reason.FRAME_TOO_SMALL
    assert reason_of(video, None, 3, 3.12) == Reason.TOO_FEW_FRAMES


def test_too_little_sound_is_refused(video, tmp_path):
    sound = tmp_path / "a.wav"
    write_wav(sound, tone(6.0))
    assert reason_of(video, sound, 5, 7) == Reason.LENGTH_MISMATCH
    assert reason_of(video, sound, 5, 6.12) == Reason.LENGTH_MISMATCH
    assert reason_of(video, sound, 7, 8) == Reason.EMPTY_AUDIO
    assert reason_of(video, sound, 5.96, 6.16) == Reason.TOO_SHORT_AUDIO
    assert len(load_excerpt(epath.Path(video), epath.Path(sound), 5, 6.08, WHOLE).samples) == 16_000


def test_channels_that_cancel_are_refused(video, tmp_path):
    sound = tmp_path / "a.flac"
    stereo = np.concatenate([np.stack([tone(4.0)] * 2), np.stack([tone(4.0), -tone(4.0)])], axis=1)
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("flac", rate=16_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stereo), format="fltp", layout="stereo")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert reason_of(video, sound, 5, 7) == Reason.CANCELLED_AUDIO
    assert len(load_excerpt(epath.Path(video), epath.Path(sound), 1, 3, WHOLE).samples) == 32_000


def test_the_whole_file_may_be_of_any_length_and_size(video, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SECONDS", 2)
    with pytest.raises(UnusableClipError, match="too_long"):
        load_clip(epath.Path(video), None, WHOLE)
    assert len(load_excerpt(epath.Path(video), None, 5, 7, WHOLE).jpegs) == 50
    monkeypatch.setattr("data_pipeline.media.decode.MAX_BYTES", 10)
    with pytest.raises(UnusableClipError, match="too_long"):
        load_clip(epath.Path(video), None, WHOLE)
    assert len(load_excerpt(epath.Path(video), None, 5, 7, WHOLE).jpegs) == 50


def test_a_read_error_is_not_the_files_fault(video, tmp_path):
    unreadable = tmp_path / "disk_error.mp4"
    Path(unreadable).symlink_to("/proc/self/mem")  # it opens, and then every read fails
    with pytest.raises(OSError, match=r"Input/output error.*disk_error\.mp4"):
        load_excerpt(epath.Path(unreadable), None, 1, 2, WHOLE)
    with pytest.raises(OSError, match=r"Input/output error.*disk_error\.mp4"):
        load_excerpt(epath.Path(video), epath.Path(unreadable), 1, 2, WHOLE)


def test_a_timestamp_hours_ahead_is_refused(video, tmp_path):
    def late(packet):
        far = packet.pts * packet.time_base > 5 and packet.stream.type == "video"
        return round(5 * 3_600 / packet.time_base) if far else 0

    remux(video, tmp_path / "far.mp4", late=late)
    assert reason_of(tmp_path / "far.mp4", None, 4_000, 4_001) == Reason.CORRUPT_VIDEO
    assert is_whole(tmp_path / "far.mp4", video, 2, 4)


def test_the_largest_face_of_the_excerpt_is_followed(tmp_path, monkeypatch):
    """A face that is larger elsewhere in the recording is not looked for."""
    seen = []

    def detect(picture):
        seen.append(picture)
        return [Face(FACE.astype(float), 1.0)]

    monkeypatch.setattr(face_video, "check_installed", lambda: None)
    monkeypatch.setattr(face_video, "detect", detect)
    frames = film(40, step=1)
    write_mp4(tmp_path / "a.mp4", frames, crf=5)
    write_wav(tmp_path / "a.wav", tone(1.6))
    files = epath.Path(tmp_path / "a.mp4"), epath.Path(tmp_path / "a.wav")
    assert len(load_excerpt(*files, 0.4, 1.4, FaceCrop(64)).jpegs) == 25
    assert len(seen) == 6  # every fifth frame, and the last one
    shown = [np.abs(frames - picture.astype(int)).mean(axis=(1, 2, 3)).argmin() for picture in seen]
    assert shown == [10, 15, 20, 25, 30, 34]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.flv", "a.mpg"])
def test_damaged_bytes_raise_only_unusable_clip_error(tmp_path, name, capfd):
    codecs = {"a.avi": {"audio": "libmp3lame"}, "a.mpg": {"video": "mpeg2video", "audio": "mp2"}}
    recordings.write(tmp_path / name, options=A_SECOND, seconds=6.0, **codecs.get(name, {}))
    whole = (tmp_path / name).read_bytes()
    for data in damaged(whole):
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(UnusableClipError):
            load_excerpt(epath.Path(tmp_path / name), None, 4, 5, WHOLE)
    assert capfd.readouterr().err == ""  # PyAV writes there what it cannot raise
