import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.format.finetune_sampling import FinetuneSampling, UnusableSpanError
from tests.support.golden_check import assert_agrees
from tests.support.golden_clips import audio_span
from tests.support.paths import GOLDENS

PAPER = FinetuneSampling()
SAMPLINGS = st.builds(FinetuneSampling, frames=st.integers(2, 20), stride=st.integers(1, 8))
DRAWS = st.floats(0, 1, exclude_max=True)


def test_published_clips_and_views():
    assert_agrees("clips")


def test_no_published_span_exceeds_the_bound():
    clips = np.load(GOLDENS / "clips.npz")
    assert len(clips["train"]) > 400
    for (n, stride, _, samples), (begin, end) in zip(clips["train"].tolist(), clips["train_audio"].tolist()):
        assert end - begin <= FinetuneSampling(stride=stride).longest_span(n, samples)


def test_starts_are_uniform_and_the_last_possible_one_is_never_drawn():
    draws = (np.arange(136_000) + 0.5) / 136_000
    starts, counts = np.unique([PAPER.train_start(draw, 200) for draw in draws], return_counts=True)
    np.testing.assert_array_equal(starts, np.arange(200 - 64))
    np.testing.assert_array_equal(counts, 1_000)


@pytest.mark.parametrize("n_frames", [1, 30, 64, 65])
def test_short_clips_start_at_0(n_frames):
    assert PAPER.train_start(0.999, n_frames) == 0


@given(SAMPLINGS, DRAWS, st.integers(1, 400))
def test_frames_lie_in_the_clip_in_order(sampling, draw, n_frames):
    start = sampling.train_start(draw, n_frames)
    views = [sampling.view_frames(n_frames, view) for view in (0, 1)]
    for indices in (sampling.train_frames(start, n_frames), *views):
        assert len(indices) == sampling.frames
        assert indices == sorted(indices)
        assert indices[0] >= 0
        assert indices[-1] < n_frames
    assert views[0][0] == 0
    if n_frames > sampling.window:
        training = sampling.train_frames(start, n_frames)
        assert (training[0], training[-1]) == (start, start + sampling.window - 1)


@given(SAMPLINGS, DRAWS, st.integers(1, 400), st.integers(0, 200_000))
def test_no_span_exceeds_the_bound_and_the_bound_is_close(sampling, draw, n_frames, n_samples):
    bound = sampling.longest_span(n_frames, n_samples)
    assert bound <= n_samples
    first = sampling.train_frames(sampling.train_start(draw, n_frames), n_frames)[0]
    firsts = [first, *(sampling.view_frames(n_frames, view)[0] for view in (0, 1))]
    for first in firsts:
        begin, end = audio_span(sampling, first, n_frames, n_samples)
        assert end - begin <= bound
        assert (begin, end) == (-1, -1) or 0 <= begin <= end - 1_025 <= n_samples - 1_025
    begin, end = audio_span(sampling, 0, n_frames, n_samples)
    if begin == 0 and n_samples >= 40_960:
        assert bound - end <= 2


@pytest.mark.parametrize(
    ("n_frames", "n_samples", "message"),
    [
        (100, 1_024, "1024 samples of sound: a clip needs 1025"),
        (8_000, 50_000, "400 samples of sound from frame 0 of 8000, of 50000 in the file: a sample needs"),
        (1, 40_960, "0 samples of sound from frame 0 of 1, of 40960"),
    ],
)
def test_a_span_without_enough_sound_is_refused(n_frames, n_samples, message):
    with pytest.raises(UnusableSpanError, match=message):
        PAPER.audio_span(0, n_frames, n_samples)


@pytest.mark.parametrize("arguments", [{"frames": 1}, {"stride": 0}])
def test_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match="at least 2 frames and a stride of 1"):
        FinetuneSampling(**arguments)


def test_a_clip_without_frames_and_a_third_view_are_refused():
    with pytest.raises(ValueError, match="no frame: leave it out"):
        PAPER.train_frames(0, 0)
    with pytest.raises(ValueError, match="no frame: leave it out"):
        PAPER.view_frames(0, 0)
    with pytest.raises(ValueError, match="view 2: choose 0"):
        PAPER.view_frames(100, 2)
