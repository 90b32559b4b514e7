"""Which frame is on the screen in each 1/25 s: the frames' timestamps decide."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from data_pipeline.media.limits import FPS


def frames_on_screen(times: Sequence[int], length: int, tick: Fraction) -> np.ndarray:
    """Picks the frame for every 1/`FPS` s, as FFmpeg's filter ``fps`` does.

    Each time is rounded to the nearest multiple of 1/`FPS` s, upwards from the middle. A frame stays until
    the next one begins, however long that takes. Of several frames that begin in the same 1/`FPS` s the last
    one is taken.

    Args:
        times: the frames' presentation times in ticks, ascending from 0.
        length: duration of all frames, in ticks.
        tick: in s.

    Returns:
        (round(length * tick * FPS),) int64, indices of frames.
    """
    *begins, end = (nearest_frame(time, tick) for time in (*times, length))
    return np.searchsorted(begins, np.arange(end), side="right") - 1


def nearest_frame(time: int, tick: Fraction) -> int:
    """Returns the number of the 1/`FPS` s that begins nearest to a time; of two, the later one.

    Args:
        time: in ticks, from the start of the picture.
        tick: in s.
    """
    # In whole numbers, which are exact, and many times faster than fractions.
    return (2 * FPS * tick.numerator * time + tick.denominator) // (2 * tick.denominator)
