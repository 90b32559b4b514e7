"""Views of a video without looking for faces: the square in the middle, or the whole frame."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from data_pipeline.media.reasons import Notes
from data_pipeline.media.video_stream import VideoStream
from data_pipeline.media.video_windows import Seen, View


def centre(side: int) -> View:
    """The largest square in the middle of each frame, scaled to `side` pixels."""

    def look(stream: VideoStream, notes: Notes) -> Callable[[int, np.ndarray], list[Seen]]:
        height, width = stream.size
        edge = min(height, width)
        left, top = (width - edge) / 2, (height - edge) / 2
        box = (left, top, left + edge, top + edge)
        return lambda number, picture: [Seen(0, _scaled(picture, box, side))]

    return look


def whole(side: int) -> View:
    """The whole frame, stretched to a square of `side` pixels as fine-tuning sees it (published code)."""

    def look(stream: VideoStream, notes: Notes) -> Callable[[int, np.ndarray], list[Seen]]:
        height, width = stream.size
        return lambda number, picture: [Seen(0, _scaled(picture, (0, 0, width, height), side))]

    return look


def _scaled(picture: np.ndarray, box: tuple[float, float, float, float], side: int) -> np.ndarray:
    """Bilinear, with antialiasing."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
