import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.format.clip_sampling import ClipSampling

PAPER = ClipSampling()
SAMPLINGS = st.builds(ClipSampling, frames=st.integers(1, 20), stride=st.integers(1, 8))
DRAWS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("n_frames", "end"),
    [
        (64, [52, 56, 60]),
        (63, [52, 56, 60]),
        (62, [52, 56, 60]),
        (61, [52, 56, 56]),
        (58, [52, 56, 56]),
        (57, [52, 52, 52]),
        (1, [0, 0, 0]),
    ],
)
def test_short_clips_repeat_their_last_frame(n_frames, end):
    assert PAPER.start(0.999, n_frames) == 0
    indices = PAPER.frame_indices(0, n_frames)
    assert indices[-3:] == end
    assert len(indices) == 16


def test_starts_are_uniform():
    draws = (np.arange(137_000) + 0.5) / 137_000
    starts, counts = np.unique([PAPER.start(draw, 200) for draw in draws], return_counts=True)
    np.testing.assert_array_equal(starts, np.arange(200 - 64 + 1))
    np.testing.assert_array_equal(counts, 1_000)


@pytest.mark.parametrize(
    ("start", "n_frames", "span"),
    [
        (0, 200, (0, 41_600)),
        (3, 200, (1_920, 41_600)),
        (136, 200, (87_040, 40_960)),  # the clip's last frame is 199
        (0, 64, (0, 40_960)),
        (0, 61, (0, 39_040)),
        (0, 1, (0, 640)),
    ],
)
def test_audio_span(start, n_frames, span):
    indices = PAPER.frame_indices(start, n_frames)
    assert PAPER.audio_span(indices[0], indices[-1], n_frames, 25.0, 16_000) == span


def test_audio_is_2600_ms_at_most():
    assert PAPER.audio_samples(25.0, 16_000) == 41_600
    assert ClipSampling(frames=8).audio_samples(25.0, 16_000) == 33 * 640


@given(SAMPLINGS, DRAWS, st.integers(1, 400))
def test_frames_lie_in_the_clip_in_one_phase(sampling, draw, n_frames):
    start = sampling.start(draw, n_frames)
    indices = sampling.frame_indices(start, n_frames)
    assert len(indices) == sampling.frames
    assert indices[0] == start
    assert 0 <= min(indices) <= max(indices) < n_frames
    assert {index % sampling.stride for index in indices} == {start % sampling.stride}
    if n_frames >= sampling.window:
        assert indices == list(range(start, start + sampling.window, sampling.stride))


@given(SAMPLINGS, DRAWS, st.integers(1, 400), st.sampled_from([24.0, 25.0, 29.97]))
def test_sound_covers_the_frames_and_fits_the_batch(sampling, draw, n_frames, fps):
    indices = sampling.frame_indices(sampling.start(draw, n_frames), n_frames)
    first, count = sampling.audio_span(indices[0], indices[-1], n_frames, fps, 16_000)
    assert 0 < count <= sampling.audio_samples(fps, 16_000)
    assert first <= 16_000 * indices[0] / fps
    assert first + count >= 16_000 * (indices[-1] + 1) / fps - 2


@pytest.mark.parametrize("arguments", [{"frames": 0}, {"stride": 0}])
def test_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        ClipSampling(**arguments)
