"""Views of a video without looking for faces: a fixed part of each frame."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from data_pipeline.media.reasons import Notes
from data_pipeline.media.video import Crop
from data_pipeline.media.video_stream import VideoStream
from data_pipeline.media.video_windows import Seen, View

VOXCELEB2_SIDE = 224
"""Side of VoxCeleb2's frames, of which `Crop()` is the face."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""


def centre(side: int) -> View:
    """The largest square in the middle of each frame, scaled to `side` pixels."""

    def box(height: int, width: int) -> Box:
        edge = min(height, width)
        left, top = (width - edge) / 2, (height - edge) / 2
        return left, top, left + edge, top + edge

    return _fixed(box, side)


def whole(side: int) -> View:
    """The whole frame, stretched to a square of `side` pixels as fine-tuning sees it (published code)."""
    return _fixed(lambda height, width: (0, 0, width, height), side)


def voxceleb2(side: int) -> View:
    """The face of a frame of VoxCeleb2, as pre-training sees it; frames of another size are in proportion."""
    crop = Crop()

    def box(height: int, width: int) -> Box:
        down, across = height / VOXCELEB2_SIDE, width / VOXCELEB2_SIDE
        left, top = crop.left * across, crop.top * down
        return left, top, left + crop.width * across, top + crop.height * down

    return _fixed(box, side)


def _fixed(box_of: Callable[[int, int], Box], side: int) -> View:
    def look(stream: VideoStream, notes: Notes) -> Callable[[int, np.ndarray], list[Seen]]:
        box = box_of(*stream.size)

        def cut(number: int, picture: np.ndarray) -> list[Seen]:
            image = Image.fromarray(np.ascontiguousarray(picture))
            scaled = image.resize((side, side), Image.Resampling.BILINEAR, box=box)
            return [Seen(0, 0, np.asarray(scaled))]

        return cut

    return look
