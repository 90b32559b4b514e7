"""The part of a recording that is cut out: some frames at 25 a second, and the sound of their time."""

import math
from fractions import Fraction
from typing import NamedTuple

from data_pipeline.media.limits import FPS, MAX_SECONDS, SAMPLE_RATE
from data_pipeline.media.reasons import Reason, UnusableClipError


class Span(NamedTuple):
    """The frames [first, last) of a recording, counted at `FPS` from the picture's first frame."""

    first: int
    last: int

    @property
    def begin(self) -> Fraction:
        """When it begins, in s after the picture's first frame."""
        return Fraction(self.first, FPS)

    @property
    def end(self) -> Fraction:
        """When it ends, in s after the picture's first frame."""
        return Fraction(self.last, FPS)

    @property
    def n_samples(self) -> int:
        """The number of samples of sound at `SAMPLE_RATE`."""
        return (self.last - self.first) * SAMPLE_RATE // FPS


def span_of(begin: float, end: float) -> Span:
    """Returns the frames whose time, their number / `FPS` in s, is in [begin, end).

    Args:
        begin: in s after the picture's first frame.
        end: in s after the picture's first frame.

    Raises:
        ValueError: there is no such part of a recording.
        UnusableClipError: it lasts more than `MAX_SECONDS`.
    """
    if not 0 <= begin < end < math.inf:
        raise ValueError(f"an excerpt must have 0 ≤ begin < end, got {begin} s to {end} s")
    # Rounded, because 0.28 * 25 is more than 7 in floating point.
    first, last = (math.ceil(round(time * FPS, 6)) for time in (begin, end))
    if last - first > MAX_SECONDS * FPS:
        raise UnusableClipError(Reason.TOO_LONG, f"an excerpt of more than {MAX_SECONDS} s")
    return Span(first, last)
