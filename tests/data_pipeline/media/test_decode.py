"""Media files are written and decoded again; each kind of damage has its reason."""

import os
import pickle
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from etils import epath

from data_pipeline.media import limits
from data_pipeline.media.decode import Crop, Reason, UnusableClipError, load_clip
from data_pipeline.media.encode import write_m4a, write_mp4, write_wav
from tests.support.media_files import SMALL, grey_steps, reason_of, remux, tone, write


@pytest.fixture
def files(tmp_path):
    """Paths of a video file and a sound file for a test to write."""
    return epath.Path(tmp_path / "clip.mp4"), epath.Path(tmp_path / "clip.wav")


def test_frames_are_cropped_and_in_order(files):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10, 14, 14, 3), np.uint8)
    frames = coarse.repeat(16, axis=1).repeat(16, axis=2)
    write_mp4(files[0], frames, crf=1)
    write_wav(files[1], tone(0.4))
    clip = load_clip(*files, Crop())
    decoded = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in clip.jpegs])
    assert decoded.shape == (10, 160, 160, 3)
    assert not clip.resampled
    # Errors at the blocks' colour edges are those of halved chroma; any shift or exchange of frames has > 80.
    assert np.abs(decoded.astype(int) - frames[:, :160, 32:192]).mean() < 8


def test_sound_is_what_was_written(files):
    write(files)
    clip = load_clip(*files, SMALL)
    assert clip.samples.dtype == np.int16
    np.testing.assert_allclose(clip.samples, tone(2.0) * 32_767, atol=1)


def test_aac_is_not_shifted_in_time(files, tmp_path):
    write(files)
    write_m4a(tmp_path / "clip.m4a", tone(2.0))
    samples = load_clip(files[0], epath.Path(tmp_path / "clip.m4a"), SMALL).samples
    assert len(samples) == 32_000
    inner = slice(4_000, 28_000)
    assert np.corrcoef(samples[inner], tone(2.0)[inner])[0, 1] > 0.999


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_other_sample_rates_become_16_khz(files, rate):
    write(files, rate=rate)
    clip = load_clip(*files, SMALL)
    assert clip.resampled
    assert abs(len(clip.samples) - 32_000) <= 16
    inner = slice(2_000, 30_000)
    assert np.corrcoef(clip.samples[inner], tone(2.0)[inner])[0, 1] > 0.999


def test_sound_comes_from_the_video_file_if_there_is_no_sound_file(files):
    write(files, samples=tone(2.0))
    samples = load_clip(files[0], None, SMALL).samples
    assert len(samples) == 32_000
    assert np.corrcoef(samples[4_000:28_000], tone(2.0)[4_000:28_000])[0, 1] > 0.999


def test_sound_from_the_video_file_stays_in_step_with_the_picture(files, tmp_path):
    write(files, seconds=1.95, samples=tone(1.95))
    remux(files[0], tmp_path / "late.mp4", delay_audio=0.05)
    samples = load_clip(epath.Path(tmp_path / "late.mp4"), None, SMALL).samples
    late = np.concatenate([np.zeros(800, np.float32), tone(1.95)])
    assert np.corrcoef(samples[4_000:28_000], late[4_000:28_000])[0, 1] > 0.999


def test_broken_pictures_have_their_reason(files, tmp_path, capfd):
    write(files)
    whole = files[0].read_bytes()
    audio = files[1]
    broken = epath.Path(tmp_path / "broken.mp4")
    assert reason_of(broken, audio) == Reason.MISSING_VIDEO
    write_m4a(broken, tone(2.0))
    assert reason_of(broken, audio) == Reason.NO_VIDEO_STREAM
    broken.write_bytes(whole[: len(whole) // 2])  # the index, which comes last, is lost
    assert reason_of(broken, audio) == Reason.TRUNCATED_VIDEO
    remux(files[0], broken, movflags="faststart")
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) * 3 // 4])  # the index, which comes first, is there
    assert reason_of(broken, audio) == Reason.TRUNCATED_VIDEO
    broken.write_text("#EXTM3U\nother.mp4\n" * 100)
    assert reason_of(broken, audio) == Reason.NOT_MEDIA
    broken.write_bytes(b"")
    assert reason_of(broken, audio) == Reason.NOT_MEDIA
    write_mp4(broken, grey_steps(3))
    assert reason_of(broken, audio) == Reason.TOO_FEW_FRAMES
    assert reason_of(files[0], audio, Crop()) == Reason.FRAME_TOO_SMALL
    assert capfd.readouterr() == ("", "")  # libav keeps quiet


def test_broken_sounds_have_their_reason(files, tmp_path):
    write(files)
    broken = epath.Path(tmp_path / "broken.m4a")
    assert reason_of(files[0], broken) == Reason.MISSING_AUDIO
    assert reason_of(files[0], None) == Reason.MISSING_AUDIO
    broken.write_bytes(b"")
    assert reason_of(files[0], broken) == Reason.EMPTY_AUDIO
    write_m4a(broken, tone(0.0))
    assert reason_of(files[0], broken) == Reason.EMPTY_AUDIO
    write_m4a(broken, tone(0.04))
    assert reason_of(files[0], broken) == Reason.TOO_SHORT_AUDIO
    broken.write_text("not sound\n" * 100)
    assert reason_of(files[0], broken) == Reason.CORRUPT_AUDIO


def test_shortest_sound_that_is_used(files):
    write(files, n_frames=4, seconds=1_024 / 16_000)
    assert reason_of(*files) == Reason.TOO_SHORT_AUDIO
    write(files, n_frames=4, seconds=1_025 / 16_000)
    assert len(load_clip(*files, SMALL).samples) == 1_025


@pytest.mark.parametrize(("n_frames", "seconds"), [(50, 1.9), (50, 2.1), (30, 1.1), (30, 1.3)])
def test_sound_and_picture_must_have_equal_lengths(files, n_frames, seconds):
    write(files, n_frames, seconds)  # 1.2 - 1.1 is less than 0.1 in floating point
    assert reason_of(*files) == Reason.LENGTH_MISMATCH
    length = n_frames / 25
    write(files, n_frames, seconds=length + (seconds - length) * 0.99)
    assert len(load_clip(*files, SMALL).jpegs) == n_frames


def test_a_wrong_declared_rate_gives_a_length_mismatch(files):
    write(files, n_frames=50, fps=30)  # 25 fps material under a header that says 30
    assert reason_of(*files) == Reason.LENGTH_MISMATCH


def test_a_too_long_or_too_large_file_is_refused(files, monkeypatch):
    write(files)
    monkeypatch.setattr(limits, "MAX_SECONDS", 1)
    assert reason_of(*files) == Reason.TOO_LONG
    with files[0].open("wb") as file:
        file.truncate(limits.MAX_BYTES + 1)  # takes no room on the disk
    assert reason_of(*files) == Reason.TOO_LONG


def test_ten_minutes_are_not_too_long(files, tmp_path, monkeypatch):
    write(files, n_frames=25, seconds=1.0)
    write_m4a(tmp_path / "clip.m4a", tone(1.0))  # its last block reaches beyond the end
    monkeypatch.setattr(limits, "MAX_SECONDS", 1)
    assert len(load_clip(files[0], epath.Path(tmp_path / "clip.m4a"), SMALL).samples) == 16_000


def test_a_read_error_is_not_the_clips_fault(files, tmp_path):
    write(files)
    unreadable = epath.Path(tmp_path / "disk_error.mp4")
    Path(unreadable).symlink_to("/proc/self/mem")  # it opens, and then every read fails
    with pytest.raises(OSError, match=r"Input/output error.*disk_error\.mp4"):
        load_clip(unreadable, files[1], SMALL)


def test_what_is_no_file_counts_as_missing(files, tmp_path):
    """A pipe would be waited for without end, and a device may never end."""
    write(files)
    os.mkdir(tmp_path / "directory.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    os.symlink("/dev/zero", tmp_path / "device.mp4")
    for name in ("directory", "pipe", "device"):
        other = epath.Path(tmp_path / f"{name}.mp4")
        assert reason_of(other, files[1]) == Reason.MISSING_VIDEO
        assert reason_of(files[0], other) == Reason.MISSING_AUDIO
    dangling = epath.Path(tmp_path / "dangling.mp4")
    Path(dangling).symlink_to("nowhere")
    assert reason_of(dangling, files[1]) == Reason.MISSING_VIDEO


def test_texts_that_are_not_utf8_do_not_matter(files, tmp_path):
    write(files, samples=tone(2.0))
    titled = tmp_path / "titled.mp4"
    with av.open(str(files[0])) as old, av.open(str(titled), "w") as new:
        new.metadata["title"] = "TitleOfTheFilm"
        streams = {stream: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                new.mux(packet)
    whole = titled.read_bytes()
    for text in (b"VideoHandler", b"SoundHandler", b"TitleOfTheFilm"):
        assert whole.count(text) == 1
        whole = whole.replace(text, b"\xe9\xff" + text[2:])
    titled.write_bytes(whole)
    clip = load_clip(epath.Path(titled), None, SMALL)
    assert clip.jpegs == load_clip(files[0], None, SMALL).jpegs


def test_frames_that_the_decoder_guesses_are_refused(files):
    """FFmpeg fills what it cannot decode with something near it, and only marks the frame."""
    rng = np.random.default_rng(0)
    write_mp4(files[0], rng.integers(0, 256, (10, 8, 12, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2))
    write_wav(files[1], tone(0.4))
    whole = files[0].read_bytes()
    with av.open(str(files[0])) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    assert len(packets) == 10
    for start, size in packets:
        hole = bytes(size // 2)  # zeros, as where a download has not arrived
        end = start + size
        files[0].write_bytes(whole[: end - len(hole)] + hole + whole[end:])
        assert reason_of(*files) == Reason.CORRUPT_VIDEO


def test_damaged_bytes_raise_only_unusable_clip_error(files, tmp_path):
    """For bytes changed at random, PyAV raises exceptions from UnicodeDecodeError to AttributeError."""
    write_mp4(files[0], grey_steps(8), samples=tone(0.32))
    write_m4a(tmp_path / "clip.m4a", tone(0.32))
    rng, reasons = np.random.default_rng(0), set()
    for whole in (files[0].read_bytes(), (tmp_path / "clip.m4a").read_bytes()):
        index = range(whole.rindex(b"moov"), len(whole))
        broken = epath.Path(tmp_path / ("broken.mp4" if whole == files[0].read_bytes() else "broken.m4a"))
        for _ in range(150):
            damaged = bytearray(whole)
            for place in rng.choice(index, rng.integers(1, 30)):
                damaged[place] = rng.integers(256)
            broken.write_bytes(bytes(damaged))
            try:
                load_clip(broken, None, SMALL) if broken.suffix == ".mp4" else load_clip(
                    files[0], broken, SMALL
                )
            except UnusableClipError as error:
                reasons.add(error.reason)
    assert {Reason.TRUNCATED_VIDEO, Reason.CORRUPT_VIDEO, Reason.CORRUPT_AUDIO} <= reasons


def test_the_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(UnusableClipError(Reason.TOO_LONG, "an hour")))
    assert (error.reason, error.detail) == (Reason.TOO_LONG, "an hour")


def test_a_crop_must_have_a_size():
    with pytest.raises(ValueError, match="crop"):
        Crop(width=0)
