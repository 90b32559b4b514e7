"""An excerpt has the frames and the samples that the whole recording has there, bit for bit."""

from fractions import Fraction

import numpy as np
import pytest
from etils import epath

from data_pipeline.media import excerpt_packets
from data_pipeline.media.decode import Crop, Reason, Stretch, UnusableClipError, load_clip
from data_pipeline.media.excerpt import load_excerpt
from data_pipeline.media.span import Span, span_of
from tests.support import recordings
from tests.support.media_files import remux, with_edits

WHOLE = Crop(0, 0, 48, 64)
TIMES = [(0, 1.2), (0.4, 2.0), (3.32, 4.4), (6.4, 7.96), (8.0, 9.0)]
LONG_GOP = {"g": "200"}  # a key frame after 8 s; x264 makes B-frames by default
OPEN_GOP = {"x264-params": "open-gop=1:keyint=60"}
B_FRAMES = {"bf": "2", "g": "60"}
FAST = {"deadline": "realtime", "cpu-used": "8", "g": "60"}

FILES = [
    ("a.mp4", {"options": LONG_GOP}),
    ("open_gop.mp4", {"options": OPEN_GOP, "rate": 48_000, "layout": "stereo"}),
    ("a.mkv", {"options": LONG_GOP}),
    ("a.webm", {"video": "libvpx", "audio": "libopus", "rate": 48_000, "options": FAST}),
    ("vp9.webm", {"video": "libvpx-vp9", "audio": "libopus", "rate": 48_000, "options": FAST}),
    ("a.avi", {"options": OPEN_GOP, "audio": "libmp3lame"}),
    ("b_frames.avi", {"video": "mpeg4", "audio": "libmp3lame", "options": B_FRAMES}),
    ("pcm.avi", {"video": "mjpeg", "audio": "pcm_s16le", "rate": 16_000}),
    ("a.ts", {"options": LONG_GOP}),
    ("a.flv", {"options": OPEN_GOP}),
    ("a.mpg", {"video": "mpeg2video", "audio": "ac3", "rate": 48_000, "options": B_FRAMES}),
    ("30_a_second.mp4", {"fps": 30, "options": LONG_GOP, "rate": 22_050}),
    ("29.97_a_second.mkv", {"fps": Fraction(30_000, 1_001), "options": LONG_GOP, "rate": 48_000}),
    ("10_a_second.mp4", {"fps": 10, "options": {"g": "40"}}),
    ("flac.mkv", {"audio": "flac", "layout": "5.1"}),
    ("hevc.mkv", {"video": "libx265", "options": {"x265-params": "log-level=none:keyint=60:open-gop=1"}}),
]


def check(video, audio=None, times=TIMES, same_sound=True):
    """Compares excerpts with the whole, and returns the largest difference of samples."""
    video, audio = epath.Path(video), audio and epath.Path(audio)
    whole = load_clip(video, audio, WHOLE)
    worst = 0
    for begin, end in times:
        excerpt = load_excerpt(video, audio, begin, end, WHOLE)
        assert excerpt.jpegs == whole.jpegs[round(begin * 25) : round(end * 25)]
        assert excerpt.frame_size == whole.frame_size
        expected = whole.samples[round(begin * 16_000) : round(end * 16_000)]
        assert len(excerpt.samples) == len(expected)
        difference = np.abs(excerpt.samples.astype(int) - expected).max()
        assert difference == 0 or not same_sound
        worst = max(worst, difference)
    return worst


@pytest.mark.parametrize(("name", "kwargs"), FILES, ids=[name for name, _ in FILES])
def test_containers_and_codecs(tmp_path, name, kwargs):
    recordings.write(tmp_path / name, **kwargs)
    check(tmp_path / name, same_sound=kwargs.get("audio") != "ac3")


SOUNDS = [
    ("a.wav", "pcm_s16le", 44_100, "stereo"),
    ("16_kHz.wav", "pcm_s16le", 16_000, "mono"),
    ("11_kHz.wav", "pcm_s16le", 11_025, "mono"),
    ("a.m4a", "aac", 44_100, "mono"),
    ("a.mp3", "libmp3lame", 44_100, "stereo"),
    ("a.aac", "aac", 48_000, "mono"),
    ("a.flac", "flac", 44_100, "mono"),
    ("a.ogg", "libopus", 48_000, "mono"),
]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A recording without sound."""
    path = tmp_path_factory.mktemp("picture") / "a.mp4"
    recordings.write(path, audio=None, options=LONG_GOP)
    return path


@pytest.mark.parametrize(("name", "codec", "rate", "layout"), SOUNDS, ids=[case[0] for case in SOUNDS])
def test_sound_beside_the_video(tmp_path, picture, name, codec, rate, layout):
    recordings.write(tmp_path / name, video=None, audio=codec, rate=rate, layout=layout)
    check(picture, tmp_path / name)


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


@pytest.mark.parametrize("late", [1.5, -1.5])
@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_picture_and_sound_begin_at_different_times(tmp_path, name, late):
    recordings.write(tmp_path / "a.mp4", options=OPEN_GOP, seconds=11.0)
    delays = {"delay_video": max(late, 0.0), "delay_audio": max(-late, 0.0)}
    remux(tmp_path / "a.mp4", tmp_path / name, **delays)
    whole = load_whole(tmp_path / name)
    for begin, end in TIMES:
        excerpt = load_excerpt(epath.Path(tmp_path / name), None, begin, end, WHOLE)
        assert excerpt.jpegs == whole[0][round(begin * 25) : round(end * 25)]
        expected = whole[1][round(begin * 16_000) : round(end * 16_000)]
        np.testing.assert_array_equal(excerpt.samples, expected)


def load_whole(path):
    """JPEGs and samples of a file whose picture and sound have different lengths."""
    from data_pipeline.media.audio import decode_audio
    from data_pipeline.media.video import decode_video

    data = path.read_bytes()
    picture = decode_video(data, path.name, WHOLE)
    return picture.jpegs, decode_audio(data, path.name, Reason.MISSING_AUDIO, picture.start)[0]


def test_an_edit_list_is_followed(tmp_path):
    recordings.write(tmp_path / "a.mov", audio="pcm_s16le", rate=16_000, options={"g": "50"}, seconds=11.0)
    whole = (tmp_path / "a.mov").read_bytes()
    (tmp_path / "a.mov").write_bytes(with_edits(whole, [(2.0, 0.0), (7.2, 3.2)]))
    check(tmp_path / "a.mov")


def test_a_gap_in_the_sound_is_silence(tmp_path):
    recordings.write(tmp_path / "a.mp4", options=LONG_GOP, rate=16_000)

    def late(packet):
        return 3 * 1_024 * 16 if packet.stream.type == "audio" and packet.pts > 40_000 else 0

    remux(tmp_path / "a.mp4", tmp_path / "gap.mp4", late=late)
    whole = load_whole(tmp_path / "gap.mp4")
    for begin, end in [(1, 3), (3, 5), (4, 6), (6, 8)]:
        excerpt = load_excerpt(epath.Path(tmp_path / "gap.mp4"), None, begin, end, WHOLE)
        np.testing.assert_array_equal(excerpt.samples, whole[1][begin * 16_000 : end * 16_000])


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


def test_noise_that_the_decoder_makes_is_another_but_as_loud(tmp_path):
    """AAC says of a noisy band only how loud it is."""
    recordings.write(tmp_path / "a.mp4", audio_options={"aac_pns": "1", "b": "20000"})
    video = epath.Path(tmp_path / "a.mp4")
    whole = load_clip(video, None, WHOLE).samples[128_000:144_000].astype(float)
    excerpt = load_excerpt(video, None, 8, 9, WHOLE).samples.astype(float)
    assert 0.98 < np.corrcoef(whole, excerpt)[0, 1] < 1
    power = [np.square(np.abs(np.fft.rfft(samples))).sum() for samples in (whole, excerpt)]
    assert power[1] == pytest.approx(power[0], rel=0.05)


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


@pytest.mark.parametrize(
    ("begin", "end", "span"),
    [(0, 1, (0, 25)), (0.28, 0.56, (7, 14)), (1.01, 2.01, (26, 51)), (3_600.04, 3_600.1, (90_001, 90_003))],
)
def test_the_frames_whose_time_is_in_an_excerpt(begin, end, span):
    assert span_of(begin, end) == Span(*span)


@pytest.mark.parametrize(("begin", "end"), [(-1, 1), (1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_what_is_no_excerpt(begin, end):
    with pytest.raises(ValueError, match="0 ≤ begin < end"):
        span_of(begin, end)


def test_an_excerpt_that_is_too_long():
    assert span_of(100, 700) == Span(2_500, 17_500)
    with pytest.raises(UnusableClipError) as caught:
        span_of(100, 700.04)
    assert caught.value.reason == Reason.TOO_LONG
