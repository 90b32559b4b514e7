"""Fills the arrays of one sample: frames from their JPEGs, and sound."""

from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg

from data_pipeline.reading.replacing_source import UnusableSampleError


def fill_frames(frames: np.ndarray, indices: Sequence[int], jpeg: Callable[[int], memoryview]) -> None:
    """Decodes frames straight into the caller's array; a frame that is repeated is decoded once.

    Args:
        frames: uint8[T, H, W, 3] to fill.
        indices: numbers of the T frames in the clip; equal ones follow each other.
        jpeg: number of a frame → its JPEG.

    Raises:
        UnusableSampleError: a frame has another size.
        Exception: of many kinds, if a frame cannot be decoded.
    """
    for row, (frame, index) in enumerate(zip(frames, indices)):
        if row and index == indices[row - 1]:
            frame[:] = frames[row - 1]
        elif simplejpeg.decode_jpeg(jpeg(index), buffer=frame).shape != frame.shape:
            raise UnusableSampleError(f"frame {index} is not {frame.shape[0]} × {frame.shape[1]}")


def fill_sound(audio: np.ndarray, samples: np.ndarray) -> int:
    """Copies sound to the start of the caller's array, and sets the rest to 0.

    Args:
        audio: int16[N] to fill.
        samples: int16[n], n at most N.

    Returns:
        n.
    """
    audio[: len(samples)] = samples
    audio[len(samples) :] = 0
    return len(samples)
