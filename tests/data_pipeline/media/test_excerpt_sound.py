"""An excerpt has the samples that the whole sound has there; the few exceptions stay within their bounds."""

import av
import numpy as np
import pytest
from etils import epath

from data_pipeline.media.decode import load_clip
from data_pipeline.media.excerpt import load_excerpt
from tests.support import recordings
from tests.support.excerpts import LONG_GOP, OPEN_GOP, TIMES, WHOLE, check
from tests.support.media_files import remux, tone

SOUNDS = [
    ("a.wav", "pcm_s16le", 44_100, "stereo"),
    ("16_kHz.wav", "pcm_s16le", 16_000, "mono"),
    ("11_kHz.wav", "pcm_s16le", 11_025, "mono"),
    ("a.m4a", "aac", 44_100, "mono"),
    ("a.mp3", "libmp3lame", 44_100, "stereo"),
    pytest.param("a.aac", "aac", 48_000, "mono", marks=pytest.mark.slow),
    pytest.param("a.flac", "flac", 44_100, "mono", marks=pytest.mark.slow),
    pytest.param("a.ogg", "libopus", 48_000, "mono", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A recording without sound."""
    path = tmp_path_factory.mktemp("picture") / "a.mp4"
    recordings.write(path, audio=None, options=LONG_GOP)
    return path


@pytest.mark.parametrize(("name", "codec", "rate", "layout"), SOUNDS)
def test_sound_beside_the_video(tmp_path, picture, name, codec, rate, layout):
    recordings.write(tmp_path / name, video=None, audio=codec, rate=rate, layout=layout)
    check(picture, tmp_path / name)


@pytest.mark.parametrize("late", [1.5, -1.5])
@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", pytest.param("late.ts", marks=pytest.mark.slow)])
def test_picture_and_sound_begin_at_different_times(tmp_path, name, late):
    recordings.write(tmp_path / "a.mp4", options=OPEN_GOP, seconds=11.0)
    delays = {"delay_video": max(late, 0.0), "delay_audio": max(-late, 0.0)}
    remux(tmp_path / "a.mp4", tmp_path / name, **delays)
    check(tmp_path / name)


def test_a_gap_in_the_sound_is_silence(tmp_path):
    recordings.write(tmp_path / "a.mp4", options=LONG_GOP, rate=16_000)

    def late(packet):
        return 3 * 1_024 * 16 if packet.stream.type == "audio" and packet.pts > 40_000 else 0

    remux(tmp_path / "a.mp4", tmp_path / "gap.mp4", late=late)
    check(tmp_path / "gap.mp4", times=[*TIMES, (1, 3), (3, 5), (4, 5), (5, 7)])
    assert not load_excerpt(epath.Path(tmp_path / "gap.mp4"), None, 4, 5, WHOLE).samples.any()


def test_sound_that_is_written_after_the_picture(tmp_path):
    """Reading from the place of the picture does not meet the sound of that time."""
    recordings.write(tmp_path / "a.mp4", options=OPEN_GOP)
    with av.open(str(tmp_path / "a.mp4")) as old, av.open(str(tmp_path / "a.mkv"), "w") as new:
        streams = {stream: new.add_stream_from_template(stream) for stream in old.streams}
        packets = [packet for packet in old.demux() if packet.dts is not None]
        for packet in sorted(packets, key=lambda packet: packet.stream.type == "audio"):
            packet.stream = streams[packet.stream]
            new.mux_one(packet)
    check(tmp_path / "a.mkv")


def test_noise_that_the_decoder_makes_is_another_but_as_loud(tmp_path):
    """AAC says of a noisy band only how loud it is."""
    recordings.write(tmp_path / "a.mp4", audio_options={"aac_pns": "1", "b": "20000"})
    video = epath.Path(tmp_path / "a.mp4")
    whole = load_clip(video, None, WHOLE).samples[128_000:144_000].astype(float)
    excerpt = load_excerpt(video, None, 8, 9, WHOLE).samples.astype(float)
    assert 0.98 < np.corrcoef(whole, excerpt)[0, 1] < 1
    assert np.square(excerpt).mean() == pytest.approx(np.square(whole).mean(), rel=0.05)


def test_a_decoder_that_carries_its_rounding_on_differs_in_the_last_two_bits(tmp_path):
    recordings.write(tmp_path / "a.ts", audio="mp2", options=OPEN_GOP)
    assert check(tmp_path / "a.ts", same_sound=False) <= 2


def test_a_rate_without_a_common_step_shifts_by_less_than_a_sample(tmp_path, picture):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=44_056, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(9.0, 44_056)[None], format="fltp", layout="mono")
        frame.sample_rate = 44_056
        resampler = av.AudioResampler("s16", "mono", 44_056)
        container.mux([packet for part in resampler.resample(frame) for packet in stream.encode(part)])
    steepest = 0.3 * 32_767 * 2 * np.pi * 440 / 16_000  # a sample of the tone
    assert 0 < check(picture, tmp_path / "a.wav", same_sound=False) < steepest
