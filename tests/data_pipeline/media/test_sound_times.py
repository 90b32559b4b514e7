"""The right track is taken, and each of its samples is at the time that its file gives it."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from etils import epath

from data_pipeline.media import audio, containers, track_frames
from data_pipeline.media.decode import Reason, load_clip
from data_pipeline.media.encode import write_m4a, write_mp4, write_wav
from tests.support.media_files import (
    SMALL,
    add_picture_track,
    add_sound_track,
    grey_steps,
    mux_pictures,
    mux_sound,
    numbers,
    reason_of,
    remux,
    tone,
    with_edits,
    without_length,
    write_sound,
)

RATE = 16_000


def noise(seconds, seed=0, rate=RATE):
    """Sound that fits itself at one place only."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate))


def silence(seconds):
    return np.zeros(round(seconds * RATE))


def is_sound(samples, expected):
    np.testing.assert_allclose(samples, np.concatenate(expected) * 32_767, atol=1)


@pytest.fixture
def files(tmp_path):
    """A video file of 2 s and a sound file for a test to write."""
    write_mp4(tmp_path / "clip.mp4", grey_steps(50))
    return epath.Path(tmp_path / "clip.mp4"), epath.Path(tmp_path / "clip.m4a")


def samples_of(files, parts, codec="alac"):
    write_sound(files[1], parts, codec)
    return load_clip(*files, SMALL).samples


def write_film(path, tracks, dispositions=None, codec="alac"):
    """Writes 2 s of picture and tracks of sound: parts and disposition each."""
    with av.open(str(path), "w", format="mp4" if codec == "alac" else "mov") as container:
        video = add_picture_track(container, grey_steps(50))
        streams = [
            add_sound_track(container, parts, codec, disposition)
            for parts, disposition in zip(tracks, dispositions or [None] * len(tracks), strict=True)
        ]
        mux_pictures(container, video, grey_steps(50))
        for stream, parts in zip(streams, tracks, strict=True):
            mux_sound(container, stream, parts)


@pytest.mark.parametrize("dispositions", [(0, Disposition.default), (Disposition.default, 0), (0, 0)])
def test_the_default_track_is_taken(tmp_path, dispositions):
    film = epath.Path(tmp_path / "film.mp4")
    tracks = [[(0, noise(2.0, seed), RATE)] for seed in range(2)]
    write_film(film, tracks, dispositions)
    with av.open(str(film)) as container:  # FFmpeg makes the first track the default if none is
        marked = [stream.disposition & Disposition.default for stream in container.streams.audio]
    is_sound(load_clip(film, None, SMALL).samples, [noise(2.0, marked.index(Disposition.default))])


@pytest.mark.parametrize("announced", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0])
@pytest.mark.parametrize("seconds", [2.0, 1.999, 1.937])
def test_a_wav_without_a_length_loses_nothing(files, tmp_path, announced, seconds):
    wav = epath.Path(tmp_path / "clip.wav")
    write_wav(wav, noise(seconds))
    whole = wav.read_bytes()
    wav.write_bytes(without_length(whole, announced))
    is_sound(load_clip(files[0], wav, SMALL).samples, [noise(seconds)])
    wav.write_bytes(b"RIFF\xff\xff\xff\xff" + without_length(whole, announced)[8:])
    is_sound(load_clip(files[0], wav, SMALL).samples, [noise(seconds)])


@pytest.mark.parametrize("kept", [63_998, 63_997, 62_001, 61_441])
def test_a_wav_that_ends_within_a_sample_keeps_all_whole_ones(files, tmp_path, kept):
    """Also if the last packet of 2,048 bytes holds less than one sample, as with 61,441 bytes."""
    wav = epath.Path(tmp_path / "clip.wav")
    write_wav(wav, noise(2.0))
    whole = wav.read_bytes()
    start = whole.index(b"data") + 8
    for header in (whole, without_length(whole, 0xFFFFFFFF)):
        wav.write_bytes(header[:start] + whole[start : start + kept])
        is_sound(load_clip(files[0], wav, SMALL).samples, [noise(2.0)[: kept // 2]])


@pytest.mark.parametrize("dtype", ["<i4", "<f4"])
def test_a_stereo_wav_without_a_length(files, tmp_path, dtype):
    wav = epath.Path(tmp_path / "clip.wav")
    stereo = np.stack([noise(2.0)] * 2, axis=1)
    pcm = (stereo * (2**31 - 1) if dtype == "<i4" else stereo).astype(dtype).tobytes()
    form = struct.pack("<HHIIHH", 1 if dtype == "<i4" else 3, 2, RATE, RATE * 8, 8, 32)
    wav.write_bytes(
        b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xff" + pcm
    )
    is_sound(load_clip(files[0], wav, SMALL).samples, [noise(2.0)])


def test_a_gap_becomes_silence(files):
    samples = samples_of(files, [(0, noise(0.5), RATE), (0.8, noise(1.2, 1), RATE)])
    is_sound(samples, [noise(0.5), silence(0.3), noise(1.2, 1)])


@pytest.fixture
def change_times(monkeypatch):
    """Lets a test change the decoded frames' times, for no mp4 file can go back in time."""

    def change(new_time):
        def changed(*args):
            for number, frame in enumerate(track_frames.decoded(*args)):
                frame.pts, frame.duration = new_time(number, frame.pts), 0
                yield frame

        monkeypatch.setattr(audio, "decoded", changed)

    return change


def test_a_block_ends_where_its_duration_says(files):
    samples = samples_of(files, [(0, noise(1.0), RATE), (0.95, noise(1.05, 1), RATE)])
    is_sound(samples, [noise(1.0)[:15_200], noise(1.05, 1)])


def test_a_block_ends_where_the_next_one_begins(files, change_times):
    write_sound(files[1], [(0, noise(2.05), RATE)])
    change_times(lambda number, time: time - 800 * (number > 3))
    at = 4 * 4_096  # samples of an ALAC frame
    is_sound(load_clip(*files, SMALL).samples, [noise(2.05)[: at - 800], noise(2.05)[at:]])


def test_two_sounds_for_one_time_are_refused(files, change_times):
    write_sound(files[1], [(0, noise(2.05), RATE)])
    change_times(lambda number, time: time - (4_096 + 1_700) * (number > 3))
    assert reason_of(*files) == Reason.OVERLAPPING_AUDIO
    change_times(lambda number, time: time % 16_384)  # back to the beginning, as after a splice
    assert reason_of(*files) == Reason.OVERLAPPING_AUDIO


@pytest.mark.parametrize("faster", [1.02, 0.98])
def test_a_clock_that_contradicts_the_sample_rate_is_refused(files, tmp_path, faster):
    """Holes or cuts of 5 ms everywhere would be left of the sound."""
    write_m4a(tmp_path / "right.m4a", tone(8.0))
    remux(
        tmp_path / "right.m4a",
        tmp_path / "wrong.mp4",
        late=lambda packet: round(packet.pts / faster) - packet.pts,
    )
    (tmp_path / "wrong.mp4").rename(files[1])
    assert reason_of(*files) == Reason.CORRUPT_AUDIO


@pytest.mark.parametrize(
    ("edits", "frames", "sounds"),
    [
        ([(0.64, 0.0), (0.72, 1.28)], [*range(16), *range(32, 50)], [(0.0, 0.64), (1.28, 2.0)]),
        ([(0.8, 1.2), (0.8, 0.0)], [*range(30, 50), *range(20)], [(1.2, 2.0), (0.0, 0.8)]),
        ([(0.8, 0.0), (0.8, 0.0)], [*range(20), *range(20)], [(0.0, 0.8), (0.0, 0.8)]),
        ([(0.4, None), (0.8, 0.2)], [*range(5, 25)], [(0.2, 1.0)]),
        ([(1.0, 0.6)], [*range(15, 40)], [(0.6, 1.6)]),
    ],
    ids=["cut out", "exchanged", "repeated", "late", "ends cut off"],
)
def test_an_edit_list_is_followed(tmp_path, edits, frames, sounds):
    """Where a later edit begins within a packet of 64 ms, FFmpeg may begin its sound with that packet."""
    film = epath.Path(tmp_path / "film.mp4")
    write_film(film, [[(0, noise(2.0), RATE)]], codec="pcm_s16le")
    film.write_bytes(with_edits(film.read_bytes(), edits))
    clip = load_clip(film, None, SMALL)
    assert numbers(clip) == frames
    expected = np.concatenate([noise(2.0)[round(a * RATE) : round(b * RATE)] for a, b in sounds])
    np.testing.assert_allclose(clip.samples[: len(expected)], expected * 32_767, atol=1)
    assert len(clip.samples) - len(expected) < 1_024  # FFmpeg does not cut the last packet


def test_a_gap_in_aac_becomes_silence(files, tmp_path):
    whole = tmp_path / "whole.m4a"
    write_m4a(whole, tone(1.6))
    first = 16 * 1_024  # packets before it stay

    def late(packet):
        return 0 if packet.pts < first else 6_400

    remux(whole, tmp_path / "gap.mp4", late=late)
    (tmp_path / "gap.mp4").rename(files[1])
    samples = load_clip(*files, SMALL).samples
    assert len(samples) == 32_000
    before, after = slice(4_000, first - 1_024), slice(first + 6_400 + 1_024, 30_000)
    assert np.corrcoef(samples[before], tone(1.6)[before])[0, 1] > 0.999
    assert np.corrcoef(samples[after], tone(1.6)[after.start - 6_400 : after.stop - 6_400])[0, 1] > 0.999
    assert np.abs(samples[first : first + 6_400].astype(int)).max() < 400


@pytest.mark.parametrize("coarse", [16, 44, 160])
def test_rounded_timestamps_make_no_gap(files, tmp_path, coarse):
    """Rounded to 1 ms, 2.8 ms and 10 ms: the first two are below 5 ms, the last one is not."""
    write_sound(tmp_path / "exact.mp4", [(0, noise(2.0), RATE)])

    def late(packet):
        return round(packet.pts / coarse) * coarse - packet.pts

    remux(tmp_path / "exact.mp4", tmp_path / "rounded.mp4", late=late)
    (tmp_path / "rounded.mp4").rename(files[1])
    samples = load_clip(*files, SMALL).samples
    if coarse < 80:
        is_sound(samples, [noise(2.0)])
    assert abs(len(samples) - 32_000) <= 80


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("codec", ["file", "track"])
def test_late_sound_begins_with_silence(files, tmp_path, codec, rate):
    parts = [(0.08, noise(1.92, rate=rate), rate)]
    if codec == "file":
        samples = samples_of(files, parts)
    else:
        write_film(tmp_path / "film.mp4", [parts])
        samples = load_clip(epath.Path(tmp_path / "film.mp4"), None, SMALL).samples
    assert abs(len(samples) - 32_000) <= 1
    assert not samples[:1_270].any()
    assert np.abs(samples[1_290:1_400].astype(int)).max() > 3_000
    if rate == RATE:
        is_sound(samples, [silence(0.08), noise(1.92)])


def test_sound_before_the_first_frame_is_cut(tmp_path):
    """An edit list cuts it from both tracks, or only from the sound, whose picture begins later."""
    film = epath.Path(tmp_path / "film.mp4")
    write_film(film, [[(0, noise(2.4), RATE)]])
    remux(film, tmp_path / "late.mp4", delay_video=0.4)
    is_sound(load_clip(epath.Path(tmp_path / "late.mp4"), None, SMALL).samples, [noise(2.4)[6_400:]])
    write_film(film, [[(-0.4, noise(2.4), RATE)]])
    samples = load_clip(film, None, SMALL).samples
    assert len(samples) == 32_000
    is_sound(samples[-16_000:], [noise(2.4)[-16_000:]])


def pitch(samples, start, stop):
    """The strongest frequency, in Hz, between two times in s."""
    part = samples[round(start * RATE) : round(stop * RATE)]
    return np.abs(np.fft.rfft(part)).argmax() / (stop - start)


@pytest.mark.parametrize("rates", [(48_000, 32_000), (32_000, 48_000)])
def test_the_sample_rate_may_change_midway(files, rates):
    parts = [(at, tone(1.0, rate), rate) for at, rate in enumerate(rates)]
    samples = samples_of(files, parts, "ac3")
    assert abs(len(samples) - 32_000) < 1_600
    assert pitch(samples, 0.2, 0.8) == pytest.approx(440, abs=2)
    assert pitch(samples, 1.2, 1.8) == pytest.approx(440, abs=2)


def test_the_layout_may_change_midway(files):
    mono = tone(1.0, 48_000)
    samples = samples_of(files, [(0, mono, 48_000), (1, np.stack([mono, mono], axis=1), 48_000)], "ac3")
    assert abs(len(samples) - 32_000) < 1_600
    for start in (0.2, 1.2):
        assert pitch(samples, start, start + 0.6) == pytest.approx(440, abs=2)


def stereo(left, right):
    return [(0, np.stack([left, right], axis=1), RATE)]


def test_channels_are_mixed(files):
    a, b = noise(2.0), noise(2.0, 1)
    is_sound(samples_of(files, stereo(a, b)), [(a + b) / 2])
    is_sound(samples_of(files, stereo(a, a)), [a])
    is_sound(samples_of(files, stereo(a, 0 * a)), [a / 2])
    is_sound(samples_of(files, stereo(0 * a, 0 * a)), [0 * a])


@pytest.mark.parametrize("against", [-1.0, -0.9])
def test_channels_that_cancel_are_refused(files, against):
    a = noise(2.0)
    write_sound(files[1], stereo(a, against * a))
    assert reason_of(*files) == Reason.CANCELLED_AUDIO


def test_channels_that_cancel_for_a_while_are_refused(files):
    a = noise(2.0)
    write_sound(files[1], stereo(a, np.where(np.arange(len(a)) < 20_000, a, -a)))
    assert reason_of(*files) == Reason.CANCELLED_AUDIO


def test_faint_hum_of_opposite_phases_does_not_matter(files):
    """Pauses between words often hold some."""
    a = noise(2.0)
    speech = np.where(np.arange(len(a)) % 8_000 < 4_000, a, 0)
    hum = 0.001 * tone(2.0)
    is_sound(samples_of(files, stereo(speech + hum, speech - hum)), [speech])


def test_frames_without_a_time_are_refused(files):
    write_sound(files[1], [(0, noise(2.0), RATE)])

    class WithoutTimes:
        def __init__(self, container):
            self.container = container

        def demux(self, stream):
            for packet in self.container.demux(stream):
                packet.pts = packet.dts = None
                yield packet

    with av.open(str(files[1])) as container, pytest.raises(ValueError, match="a frame has no time"):
        list(track_frames.decoded(WithoutTimes(container), container.streams.audio[0], av.AudioFrame))


def test_a_time_far_ahead_takes_no_memory(files, tmp_path):
    write_sound(tmp_path / "near.mp4", [(0, noise(2.0), RATE)])
    remux(tmp_path / "near.mp4", tmp_path / "far.mp4", late=lambda packet: 10**9 if packet.pts else 0)
    (tmp_path / "far.mp4").rename(files[1])
    assert reason_of(*files) == Reason.TOO_LONG


def test_times_are_exact():
    assert containers.seconds(1, Fraction(1, 3)) == Fraction(1, 3)
    assert containers.seconds(None, Fraction(1, 3)) == containers.seconds(5, None) == 0
    assert containers.exact(None) == 0
