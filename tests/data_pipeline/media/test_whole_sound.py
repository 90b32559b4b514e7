"""Sound of the user's files, from the picture's start; what can be followed is noted, not refused."""

from fractions import Fraction

import av
import numpy as np
import pytest

from data_pipeline.media import limits
from data_pipeline.media.encode import write_m4a, write_mp4, write_wav
from data_pipeline.media.reasons import Notes, Reason, UnusableClipError
from data_pipeline.media.whole_sound import read_sound
from tests.support.flash_and_click import write
from tests.support.media_files import grey_steps, remux, tone, write_sound

SOUNDS = [
    ("a.wav", "pcm_s16le", "mono"),
    ("a.mp3", "libmp3lame", "stereo"),
    ("a.m4a", "aac", "stereo"),
    ("a.aac", "aac", "mono"),
    ("a.flac", "flac", "5.1"),
    ("a.ogg", "libopus", "stereo"),
    ("a.opus", "libopus", "mono"),
]


def click_of(samples):
    """When the sound becomes loud, in s."""
    return int(np.argmax(np.abs(samples.astype(int)) > 4_000)) / 16_000


@pytest.mark.parametrize(("name", "codec", "layout"), SOUNDS, ids=[case[0] for case in SOUNDS])
def test_files_of_sound(tmp_path, name, codec, layout):
    write(tmp_path / name, video=None, audio=codec, layout=layout)
    notes = Notes()
    samples = read_sound(tmp_path / name, None, notes)
    assert samples.dtype == np.int16
    assert abs(len(samples) - 32_000) < 0.08 * 16_000  # encoders add up to two blocks
    assert abs(click_of(samples) - 1.0) < 0.08
    assert notes.lines() == []


def test_a_file_beside_the_video_begins_with_the_picture(tmp_path):
    write_wav(tmp_path / "a.wav", tone(1.0))
    samples = read_sound(tmp_path / "a.wav")
    np.testing.assert_allclose(samples, tone(1.0) * 32_767, atol=1)


def test_sound_before_the_start_is_cut_and_before_later_sound_is_silence(tmp_path):
    write_wav(tmp_path / "a.wav", tone(1.0))
    samples = read_sound(tmp_path / "a.wav", Fraction(1, 4))
    np.testing.assert_allclose(samples, tone(1.0)[4_000:] * 32_767, atol=1)
    samples = read_sound(tmp_path / "a.wav", Fraction(-1, 4))
    assert not samples[:4_000].any()
    np.testing.assert_allclose(samples[4_000:], tone(1.0) * 32_767, atol=1)


def test_no_sound_is_none(tmp_path):
    write_mp4(tmp_path / "silent.mp4", grey_steps(10))
    write_m4a(tmp_path / "empty.m4a", np.zeros(0, np.int16))
    notes = Notes()
    assert read_sound(tmp_path / "silent.mp4", Fraction(0), notes) is None
    assert notes.lines() == []
    assert read_sound(tmp_path / "empty.m4a", Fraction(0), notes) is None


def test_no_file_and_no_media_are_refused(tmp_path):
    (tmp_path / "text.mp3").write_text("hello" * 1_000)
    (tmp_path / "empty.wav").write_bytes(b"")
    for name, reasons in (
        ("absent.wav", [Reason.MISSING_AUDIO]),
        ("empty.wav", [Reason.NOT_MEDIA]),
        ("text.mp3", [Reason.NOT_MEDIA, Reason.CORRUPT_AUDIO]),
    ):
        with pytest.raises(UnusableClipError) as caught:
            read_sound(tmp_path / name)
        assert caught.value.reason in reasons, name


@pytest.mark.parametrize("against", [-1.0, -0.9])
def test_of_channels_that_cancel_the_first_is_taken(tmp_path, against):
    left = tone(2.0)
    write_sound(tmp_path / "a.m4a", [(0, np.stack([left, against * left], axis=1), 16_000)])
    notes = Notes()
    samples = read_sound(tmp_path / "a.m4a", notes=notes)
    np.testing.assert_allclose(samples, left * 32_767, atol=1)
    assert [line.split(":")[0] for line in notes.lines()] == [Reason.CANCELLED_AUDIO]


def test_a_damaged_packet_is_silence(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000).astype(np.float32)
    write_sound(tmp_path / "a.m4a", [(0, noise, 16_000)])
    data = bytearray((tmp_path / "a.m4a").read_bytes())
    with av.open(str(tmp_path / "a.m4a")) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    place, size = packets[3]
    data[place : place + size] = b"\x55" * size
    (tmp_path / "damaged.m4a").write_bytes(data)
    notes = Notes()
    samples = read_sound(tmp_path / "damaged.m4a", notes=notes)
    expected = np.rint(noise * 32_767)
    expected[3 * 4_096 : 4 * 4_096] = 0  # samples of an ALAC packet
    np.testing.assert_allclose(samples, expected, atol=1)
    assert [line.split(":")[0] for line in notes.lines()] == [Reason.CORRUPT_AUDIO]


def test_sound_may_be_longer_than_a_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SECONDS", 1)
    write_wav(tmp_path / "a.wav", tone(3.0))
    assert len(read_sound(tmp_path / "a.wav")) == 48_000


def test_a_timestamp_hours_ahead_takes_no_memory(tmp_path):
    write_sound(tmp_path / "near.mp4", [(0, tone(2.0), 16_000)])
    remux(tmp_path / "near.mp4", tmp_path / "far.mp4", late=lambda packet: 10**9 if packet.pts else 0)
    with pytest.raises(UnusableClipError) as caught:
        read_sound(tmp_path / "far.mp4")
    assert caught.value.reason == Reason.CORRUPT_AUDIO
