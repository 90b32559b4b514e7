"""Videos of the user: any length is read frame by frame, and what can be followed is noted, not refused."""

import contextlib
import io
import os

import av
import numpy as np
import pytest

from data_pipeline.media import video_stream
from data_pipeline.media.encode import write_mp4, write_wav
from data_pipeline.media.reasons import Notes, Reason, UnusableClipError
from data_pipeline.media.video_stream import VideoStream
from data_pipeline.media.whole_sound import read_sound
from tests.support.damaged_bytes import damaged
from tests.support.flash_and_click import write
from tests.support.media_files import grey_steps, remux, tone, write_pictures


def numbers(frames):
    """The numbers of the frames that `grey_steps` made."""
    return [round(picture.mean() / 4) for _, picture in frames]


def read(path):
    """The frames of a file, and the reasons and numbers of the notes on it."""
    notes = Notes()
    frames = list(VideoStream(path).frames(notes=notes))
    return frames, [line.split(":")[0] for line in notes.lines()]


def reason_of(path):
    with pytest.raises(UnusableClipError) as caught:
        list(VideoStream(path).frames())
    assert "\n" not in str(caught.value)
    assert os.path.basename(path) in caught.value.detail
    return caught.value.reason


def test_every_frame_and_what_the_file_says(tmp_path):
    write_mp4(tmp_path / "a.mp4", grey_steps(50), crf=5)
    video = VideoStream(tmp_path / "a.mp4")
    assert (video.start, video.stated, video.size) == (0, 2.0, (32, 48))
    frames = list(video.frames())
    assert [frame.number for frame in frames] == numbers(frames) == list(range(50))
    assert all(frame.picture.dtype == np.uint8 and frame.picture.shape == (32, 48, 3) for frame in frames)
    assert numbers(video.frames()) == list(range(50))  # once more, from the beginning


@pytest.mark.parametrize("every", [2, 5, 7, 60])
def test_only_some_of_the_frames(tmp_path, every):
    write_mp4(tmp_path / "a.mp4", grey_steps(50), crf=5)
    frames = list(VideoStream(tmp_path / "a.mp4").frames(every))
    assert [frame.number for frame in frames] == numbers(frames) == list(range(0, 50, every))


def test_only_some_of_the_frames_where_one_is_held(tmp_path):
    write_pictures(tmp_path / "a.mp4", grey_steps(4), times=[0, 40, 500, 540])
    frames = list(VideoStream(tmp_path / "a.mp4").frames(5))
    assert [frame.number for frame in frames] == [0, 5, 10]
    assert numbers(frames) == [0, 1, 1]


def test_a_late_picture_begins_at_its_first_frame(tmp_path):
    write_mp4(tmp_path / "a.mp4", grey_steps(10), samples=tone(1.0))
    remux(tmp_path / "a.mp4", tmp_path / "late.mp4", delay_video=0.6)
    video = VideoStream(tmp_path / "late.mp4")
    assert float(video.start) == pytest.approx(0.6)
    assert numbers(video.frames()) == list(range(10))


@pytest.mark.parametrize("n_frames", [1, 5])
def test_a_very_short_video(tmp_path, n_frames):
    write_mp4(tmp_path / "a.mp4", grey_steps(n_frames))
    assert numbers(VideoStream(tmp_path / "a.mp4").frames()) == list(range(n_frames))


def test_an_interlaced_picture_is_taken_as_it_is(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in grey_steps(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    frames, reasons = read(tmp_path / "a.mp4")
    assert numbers(frames) == list(range(10))
    assert reasons == [Reason.INTERLACED_VIDEO]


def test_a_transparent_picture_lies_on_black(tmp_path):
    pictures = np.full((10, 32, 48, 4), 200, np.uint8)
    pictures[:, :, :24, 3] = 0
    pictures[:, :, 24:, 3] = 255
    pictures[:, 16:, 24:, 3] = 51
    write_pictures(tmp_path / "a.mp4", pictures)
    frames, reasons = read(tmp_path / "a.mp4")
    assert len(frames) == 10
    for _, picture in frames:
        assert (picture[:, :24] == 0).all()
        assert (picture[:16, 24:] == 200).all()
        assert (picture[16:, 24:] == 40).all()
    assert reasons == [Reason.TRANSPARENT_VIDEO]


@pytest.mark.parametrize(
    ("later", "kept"),
    [((32, 96), (slice(8, 24), slice(None))), ((64, 48), (slice(None), slice(12, 36)))],
)
def test_a_frame_of_another_shape_fits_into_the_first(tmp_path, later, kept):
    white = np.full((32, 48, 3), 255, np.uint8)
    write_pictures(tmp_path / "a.mp4", [white] * 5 + [np.full((*later, 3), 255, np.uint8)] * 5)
    frames, reasons = read(tmp_path / "a.mp4")
    fitted = np.zeros((32, 48, 3), np.uint8)
    fitted[kept] = 255
    assert all((picture == 255).all() for _, picture in frames[:5])
    assert all((picture == fitted).all() for _, picture in frames[5:])
    assert len(frames) == 10
    assert reasons == [Reason.CHANGING_VIDEO]


@pytest.mark.parametrize(("degrees", "upright"), [(10, 0), (80, 1)])
def test_a_tilted_picture_is_turned_to_the_nearest_right_angle(tmp_path, degrees, upright):
    coded = np.zeros((32, 48, 3), np.uint8)
    coded[:16, :24] = 255
    write_pictures(
        tmp_path / "a.mp4", [coded] * 10, setup=lambda stream: stream.set_display_rotation(degrees)
    )
    frames, reasons = read(tmp_path / "a.mp4")
    assert all(np.array_equal(picture, np.rot90(coded, upright)) for _, picture in frames)
    assert reasons == [Reason.TILTED_VIDEO]


def test_a_damaged_frame_is_replaced_by_the_one_before(tmp_path):
    write_pictures(tmp_path / "a.mp4", grey_steps(20))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    for number in (7, 8, 12):
        place, size = packets[number]
        data[place : place + size] = bytes(size)
    (tmp_path / "damaged.mp4").write_bytes(data)
    frames, reasons = read(tmp_path / "damaged.mp4")
    assert numbers(frames) == [*range(7), 6, 6, 9, 10, 11, 11, *range(13, 20)]
    assert [frame.number for frame in frames] == list(range(20))
    assert reasons == [Reason.CORRUPT_VIDEO]


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path):
    write_mp4(tmp_path / "a.mp4", grey_steps(50), preset="ultrafast", crf=5)
    remux(tmp_path / "a.mp4", tmp_path / "index_first.mp4", movflags="faststart")
    data = (tmp_path / "index_first.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 2 // 3])
    frames, reasons = read(tmp_path / "half.mp4")
    assert 5 < len(frames) < 50
    assert numbers(frames) == list(range(len(frames)))
    assert Reason.TRUNCATED_VIDEO in reasons


def test_a_timestamp_hours_ahead_is_refused(tmp_path):
    write_mp4(tmp_path / "a.mp4", grey_steps(10))
    hours = lambda packet: round(5 * 3_600 / packet.time_base) if packet.pts else 0  # noqa: E731
    remux(tmp_path / "a.mp4", tmp_path / "far.mp4", late=hours)
    assert reason_of(tmp_path / "far.mp4") == Reason.CORRUPT_VIDEO


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.wmv", "a.webm", "a.flv", "a.mpg"])
@pytest.mark.parametrize("data", [b"", b"#EXTM3U\nhttp://localhost/1.ts\n" * 50, bytes(range(256)) * 40])
def test_what_is_no_video(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert reason_of(tmp_path / name) in (Reason.NOT_MEDIA, Reason.NO_VIDEO_STREAM, Reason.CORRUPT_VIDEO)


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    (tmp_path / "directory.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "notes.txt").write_text("hello")
    assert reason_of(tmp_path / "absent.mp4") == Reason.MISSING_VIDEO
    assert reason_of(tmp_path / "directory.mp4") == Reason.MISSING_VIDEO
    assert reason_of(tmp_path / "pipe.mp4") == Reason.MISSING_VIDEO
    assert reason_of(tmp_path / "notes.txt") == Reason.NOT_MEDIA


def test_a_file_of_sound_has_no_picture(tmp_path):
    write_wav(tmp_path / "a.wav", tone(1.0))
    assert reason_of(tmp_path / "a.wav") == Reason.NO_VIDEO_STREAM


class FailingPath:
    """A path on a disk that fails after the first kilobytes of a file."""

    name = "a.mp4"

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fspath(self.path)

    def open(self, mode):
        return FailingFile(self.path, mode)


class FailingFile(io.FileIO):
    def read(self, n_bytes=-1):
        if self.tell() > 4_000:
            raise OSError(5, "Input/output error")
        return super().read(min(n_bytes, 4_096))


def test_a_file_that_cannot_be_read_is_an_error_of_the_machine(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), np.uint8)
    write_mp4(tmp_path / "a.mp4", noise, crf=5)
    assert (tmp_path / "a.mp4").stat().st_size > 8_000
    video = VideoStream(tmp_path / "a.mp4")
    monkeypatch.setattr(video, "_path", FailingPath(tmp_path / "a.mp4"))
    with pytest.raises(OSError, match="Input/output error") as caught:
        list(video.frames())
    assert not isinstance(caught.value, av.error.FFmpegError)


def test_an_error_of_the_caller_stays_what_it_is(tmp_path):
    write_mp4(tmp_path / "a.mp4", grey_steps(10))

    def use():
        for frame in VideoStream(tmp_path / "a.mp4").frames():
            frame.number / 0

    with pytest.raises(ZeroDivisionError):
        use()


def test_few_frames_are_in_memory(tmp_path, monkeypatch):
    """Each frame is converted when it is asked for, so a film of hours takes no more than a clip."""
    converted = []
    picture = video_stream.Upright.picture

    def counted(self, frame):
        converted.append(frame.pts)
        return picture(self, frame)

    write_mp4(tmp_path / "a.mp4", grey_steps(50), crf=5)
    video = VideoStream(tmp_path / "a.mp4")
    monkeypatch.setattr(video_stream.Upright, "picture", counted)
    for number, _ in video.frames(every=10):
        assert len(converted) == number // 10 + 1
    assert len(converted) == 5


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.flv", "a.mpg"])
def test_damaged_bytes_raise_only_unusable_clip_error(tmp_path, name, capfd):
    codecs = {"a.avi": {"audio": "libmp3lame"}, "a.mpg": {"video": "mpeg2video", "audio": "mp2"}}
    write(tmp_path / name, rate=44_100, **codecs.get(name, {}))
    whole = (tmp_path / name).read_bytes()
    for data in damaged(whole):
        (tmp_path / name).write_bytes(data)
        notes, start = Notes(), None
        with contextlib.suppress(UnusableClipError):
            video = VideoStream(tmp_path / name)
            start = video.start
            assert len(list(video.frames(notes=notes))) < 100_000
        with contextlib.suppress(UnusableClipError):
            read_sound(tmp_path / name, start, notes)
    assert capfd.readouterr().err == ""  # PyAV writes there what it cannot raise
