"""Timestamps decide which frame is on the screen, as FFmpeg's filter `fps` has it."""

from fractions import Fraction

import av
import numpy as np
import pytest
from etils import epath

from data_pipeline.media import track_frames, video
from data_pipeline.media.decode import Reason, load_clip
from data_pipeline.media.encode import write_wav
from data_pipeline.media.frame_times import frames_on_screen
from tests.support.media_files import (
    SMALL,
    grey_steps,
    numbers,
    reason_of,
    remux,
    tone,
    write,
    write_pictures,
)


def fps_filter(times, last, ticks=1_000):
    """Indices of the frames that FFmpeg's filter `fps` shows; times and the last duration in ticks."""
    graph, time_base = av.filter.Graph(), Fraction(1, ticks)
    source = graph.add(
        "buffer", video_size="16x16", pix_fmt="gray16le", time_base=str(time_base), pixel_aspect="1/1"
    )
    rate, sink = graph.add("fps", "25"), graph.add("buffersink")
    source.link_to(rate)
    rate.link_to(sink)
    graph.configure()
    for index, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), index, np.uint16), format="gray16le")
        frame.pts, frame.time_base, frame.duration = time, time_base, last
        source.push(frame)
    source.push(None)
    shown = []
    while True:
        try:
            shown.append(int(sink.pull().to_ndarray()[0, 0]))
        except EOFError:
            return shown


def on_screen(times, last, ticks=1_000):
    return frames_on_screen(times, times[-1] + last, Fraction(1, ticks)).tolist()


@pytest.mark.parametrize("fps", [10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 120, Fraction(30_000, 1_001)])
def test_each_frame_rate_is_converted_as_ffmpeg_does(fps):
    ticks, step = 1_000 * Fraction(fps).numerator, 1_000 * Fraction(fps).denominator
    times = [step * index for index in range(round(fps * 4))]
    assert on_screen(times, step, ticks) == fps_filter(times, step, ticks)
    assert fps != 25 or on_screen(times, step, ticks) == list(range(100))


@pytest.mark.parametrize("seed", range(20))
def test_any_times_are_converted_as_ffmpeg_does(seed):
    """Gaps, bursts, and several frames in one 1/25 s."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([1, 7, 20, 33, 40, 60, 500], size=80)
    times = [0, *np.cumsum(steps).tolist()]
    last = int(rng.integers(1, 300))
    assert on_screen(times, last) == fps_filter(times, last)


@pytest.fixture
def files(tmp_path):
    return epath.Path(tmp_path / "clip.mp4"), epath.Path(tmp_path / "clip.wav")


def shown(files, times, seconds):
    """Numbers of the frames that are stored of a video with frames at these times in ms."""
    write_pictures(files[0], grey_steps(len(times)), times)
    write_wav(files[1], tone(seconds))
    return numbers(load_clip(*files, SMALL))


def test_the_last_picture_is_held_over_a_gap(files):
    times = [*range(0, 400, 40), *range(1_000, 2_000, 40)]
    assert shown(files, times, 2.0) == [*range(9), *[9] * 16, *range(10, 35)]


def test_of_equal_times_the_last_frame_counts(files):
    assert shown(files, [0, 40, 80, 80, 80, 120, 160], 0.2) == [0, 1, 4, 5, 6]


def test_frames_out_of_order_are_put_in_order(files):
    write_pictures(files[0], grey_steps(6), [0, 80, 40, 120, 200, 160])
    write_wav(files[1], tone(0.24))
    clip = load_clip(*files, SMALL)
    assert numbers(clip)[:5] == [0, 2, 1, 3, 5]
    assert clip.resampled


def test_times_that_go_back_far_take_no_memory(files, monkeypatch):
    def decoded(*args):
        for number, frame in enumerate(track_frames.decoded(*args)):
            frame.pts -= 10**12 * (number == 3)
            yield frame

    monkeypatch.setattr(video, "decoded", decoded)
    write_pictures(files[0], grey_steps(10))
    assert reason_of(*files) == Reason.TOO_LONG


@pytest.mark.parametrize("fps", [20, 24, 30, 50, Fraction(30_000, 1_001)])
def test_files_of_other_frame_rates(files, fps):
    write(files, n_frames=round(fps), seconds=1.0, fps=fps)
    clip = load_clip(*files, SMALL)
    assert clip.resampled
    with av.open(str(files[0])) as container:
        frames = list(container.decode(video=0))
        ticks = frames[0].time_base.denominator
    assert numbers(clip) == fps_filter([frame.pts for frame in frames], frames[-1].duration, ticks)


def test_an_edit_list_cuts_the_beginning(files, tmp_path):
    write(files, n_frames=60, seconds=2.0, samples=tone(2.4))
    remux(files[0], tmp_path / "cut.mp4", delay_video=-0.4, delay_audio=-0.4)
    video = epath.Path(tmp_path / "cut.mp4")
    clip = load_clip(video, files[1], SMALL)
    assert numbers(clip) == list(range(10, 60))
    assert not clip.resampled
    with_its_sound = load_clip(video, None, SMALL)
    assert with_its_sound.jpegs == clip.jpegs
    assert abs(len(with_its_sound.samples) - 32_000) <= 16
    expected = tone(2.4)[6_400:]
    assert np.corrcoef(with_its_sound.samples[4_000:28_000], expected[4_000:28_000])[0, 1] > 0.999


def test_an_edit_list_delays_picture_and_sound(files, tmp_path):
    write(files, samples=tone(2.0))
    remux(files[0], tmp_path / "late.mp4", delay_video=0.4, delay_audio=0.4)
    late = load_clip(epath.Path(tmp_path / "late.mp4"), None, SMALL)
    clip = load_clip(files[0], None, SMALL)
    assert late.jpegs == clip.jpegs
    np.testing.assert_array_equal(late.samples, clip.samples)
