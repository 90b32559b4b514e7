"""The frames whose time is in an excerpt, without errors of floating point."""

import pytest

from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.span import Span, span_of


@pytest.mark.parametrize(
    ("begin", "end", "span"),
    [(0, 1, (0, 25)), (0.28, 0.56, (7, 14)), (1.01, 2.01, (26, 51)), (3_600.04, 3_600.1, (90_001, 90_003))],
)
def test_the_frames_whose_time_is_in_an_excerpt(begin, end, span):
    assert span_of(begin, end) == Span(*span)


def test_its_sound_is_as_long_as_its_frames():
    span = span_of(1.01, 2.01)
    assert (float(span.begin), float(span.end), span.n_samples) == (1.04, 2.04, 16_000)


@pytest.mark.parametrize(("begin", "end"), [(-1, 1), (1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_what_is_no_excerpt(begin, end):
    with pytest.raises(ValueError, match="0 ≤ begin < end"):
        span_of(begin, end)


def test_an_excerpt_that_is_too_long():
    assert span_of(100, 700) == Span(2_500, 17_500)
    with pytest.raises(UnusableClipError) as caught:
        span_of(100, 700.04)
    assert caught.value.reason == Reason.TOO_LONG
