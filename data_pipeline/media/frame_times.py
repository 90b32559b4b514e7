"""Which frame is on the screen in each 1/25 s: the frames' timestamps decide."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from data_pipeline.media.limits import FPS


def frames_on_screen(times: Sequence[Fraction], length: Fraction) -> np.ndarray:
    """Picks the frame for every 1/`FPS` s, as FFmpeg's filter ``fps`` does.

    Each time is rounded to the nearest multiple of 1/`FPS` s, upwards from the middle. A frame stays until
    the next one begins, however long that takes. Of several frames that begin in the same 1/`FPS` s the last
    one is taken.

    Args:
        times: the frames' presentation times in s, ascending from 0.
        length: duration of all frames, in s.

    Returns:
        (round(length * FPS),) int64, indices of frames.
    """
    begins = np.array([nearest(time * FPS) for time in times])
    return np.searchsorted(begins, np.arange(nearest(length * FPS)), side="right") - 1


def nearest(value: Fraction) -> int:
    """Rounds to the nearest whole number, upwards from the middle."""
    return math.floor(value + Fraction(1, 2))
