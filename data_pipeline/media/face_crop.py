"""The part of a picture that the model sees of a face: one convention, everywhere.

The model was trained on rows 0–159 and columns 32–191 of the 224 × 224 frames of VoxCeleb2. The public
tracking tool of VoxCeleb's authors (SyncNet's pipeline) cuts such frames out of a film as follows: the square
that has the centre of the detector's box and, as its side s, the longer side of the box; 0.2 s more at the
left and at the right, nothing more above and 0.4 s more below. So a frame is 1.4 s wide and high, s takes
224 / 1.4 = 160 of its pixels, and the square lies in rows 0–159 and columns 32–191. The part that the model
sees **is the square of the detector's box**: there is no margin.

Outside the picture, it is grey (110 of 255), as in that tool.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

OUTSIDE = 110
"""Grey level of what lies outside the picture."""


class Square(NamedTuple):
    """A square part of a picture; it may reach beyond the picture.

    Attributes:
        left: column of its left edge, in pixels.
        top: row of its upper edge, in pixels.
        side: in pixels.
    """

    left: float
    top: float
    side: float


def crop_box(box: np.ndarray) -> Square:
    """Returns the part of a picture that the model sees of a face.

    Args:
        box: float [4], left, top, right and bottom edge of the face in pixels.

    Returns:
        The square that has the box's centre and, as its side, the longer side of the box.

    Raises:
        ValueError: the box is empty.
    """
    left, top, right, bottom = map(float, box)
    side = max(right - left, bottom - top)
    if not side > 0:
        raise ValueError(f"the face's box {[left, top, right, bottom]} is empty")
    return Square((left + right - side) / 2, (top + bottom - side) / 2, side)


def cut(picture: np.ndarray, square: Square, side: int) -> np.ndarray:
    """Cuts a square out of a picture and scales it, bilinearly with antialiasing.

    Args:
        picture: uint8 RGB [H, W, 3].
        square: the part; places between two pixels are followed.
        side: of the result, in pixels.

    Returns:
        uint8 RGB [side, side, 3]; `OUTSIDE` where the square reaches beyond the picture.
    """
    left, top = math.floor(square.left), math.floor(square.top)
    right, bottom = math.ceil(square.left + square.side), math.ceil(square.top + square.side)
    part = np.full((bottom - top, right - left, 3), OUTSIDE, np.uint8)
    height, width = picture.shape[:2]
    rows = slice(max(top, 0), max(min(bottom, height), 0))
    columns = slice(max(left, 0), max(min(right, width), 0))
    inside = picture[rows, columns]
    if inside.size:
        at_row, at_column = rows.start - top, columns.start - left
        part[at_row : at_row + inside.shape[0], at_column : at_column + inside.shape[1]] = inside
    x, y = square.left - left, square.top - top
    box = (x, y, min(x + square.side, right - left), min(y + square.side, bottom - top))
    return np.asarray(Image.fromarray(part).resize((side, side), Image.Resampling.BILINEAR, box=box))
