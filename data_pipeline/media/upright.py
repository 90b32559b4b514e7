"""Turns decoded frames into upright RGB pictures with square pixels, all of one size."""

import functools
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation, VideoReformatter

from data_pipeline.media.reasons import OnFault, Reason, refuse

_LEAST_STRETCH = Fraction(1, 100)
"""Pixels whose sides differ by less count as square: a crop of 301 × 300 scaled to 224 × 224 leaves that."""
_TAN_ONE_DEGREE = 0.0175


class Upright:
    """Makes all frames of a video upright, and as large as the first one.

    Attributes:
        size: (height, width) of the pictures in pixels; (0, 0) before the first one.
    """

    def __init__(self, pixel_aspect: Fraction, name: str, on_fault: OnFault = refuse) -> None:
        """Begins a video.

        Args:
            pixel_aspect: width of a pixel over its height; 0 if unknown, which counts as 1.
            name: the file's name, for messages.
            on_fault: called for a frame that `picture` cannot follow.
        """
        square = not pixel_aspect or abs(pixel_aspect - 1) < _LEAST_STRETCH
        self._pixel_aspect = Fraction(1) if square else pixel_aspect
        self._name = name
        self._on_fault = on_fault
        self._to_rgb = VideoReformatter()  # to set up a conversion costs more than to convert
        self.size = (0, 0)

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """Converts a frame.

        If `on_fault` returns, an interlaced frame is taken as it is, a tilted one is turned by the nearest
        multiple of 90°, a transparent one is laid on black, and one of another shape than the first is scaled
        to fit into it, on black.

        Returns:
            uint8 RGB [height, width, 3] of `size`.

        Raises:
            UnusableClipError: by default, if the frame is tilted, interlaced or transparent, or its shape is
                not that of the first one.
        """
        if frame.interlaced_frame:
            detail = f"{self._name} is interlaced: convert it with ffmpeg -vf bwdif"
            self._on_fault(Reason.INTERLACED_VIDEO, detail)
        swapped, flips = self._orientation(frame)
        width, height = frame.width, frame.height
        if self._pixel_aspect != 1:
            width = round(width * self._pixel_aspect)
        size = (width, height) if swapped else (height, width)
        if self.size == (0, 0):
            self.size = size
        fitted = self._fitted(size)
        height, width = fitted[::-1] if swapped else fitted
        rgb = self._rgb(frame, width, height)
        upright = np.flip(rgb.swapaxes(0, 1) if swapped else rgb, flips)
        return upright if fitted == self.size else _on_black(upright, self.size)

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the size to which a frame is scaled: that of the first one, or less to keep its shape."""
        if size == self.size:
            return size
        ratio = Fraction(size[0] * self.size[1], size[1] * self.size[0])  # of the shapes
        if abs(ratio - 1) < _LEAST_STRETCH:
            return self.size
        change = f"from {self.size[0]} × {self.size[1]} to {size[0]} × {size[1]}"
        self._on_fault(Reason.CHANGING_VIDEO, f"the frames of {self._name} change their shape {change}")
        height, width = self.size
        return (height, max(round(width / ratio), 1)) if ratio > 1 else (max(round(height * ratio), 1), width)

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        if _may_be_transparent(frame.format.name):
            rgba = self._to_rgb.reformat(frame, format="rgba", threads=1).to_ndarray()
            if rgba[..., 3].min() < 255:
                detail = (
                    f"{self._name} is transparent: lay it on a background with ffmpeg -filter_complex overlay"
                )
                self._on_fault(Reason.TRANSPARENT_VIDEO, detail)
                frame = _opaque(rgba)
        if (width, height) == (frame.width, frame.height):
            return self._to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
        # Bicubic, as FFmpeg scales by itself.
        return self._to_rgb.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1
        ).to_ndarray()

    def _orientation(self, frame: av.VideoFrame) -> tuple[bool, tuple[int, ...]]:
        """Reads how the header turns and mirrors a frame.

        Returns:
            Whether rows and columns are exchanged, and the axes that are flipped after that.
        """
        side_data: Any = frame.side_data  # PyAV 18 declares another type than it has
        data = side_data.get(Type.DISPLAYMATRIX)
        if data is None:
            return False, ()
        # The point (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(float)
        swapped = bool(abs(b) > abs(a))
        across, down, rest = (c, b, (a, d)) if swapped else (a, d, (b, c))
        if max(map(abs, rest)) > _TAN_ONE_DEGREE * min(abs(across), abs(down)) or not across or not down:
            detail = f"the header of {self._name} turns the picture by another angle than 90°, 180° or 270°"
            self._on_fault(Reason.TILTED_VIDEO, detail)
        return swapped, tuple(axis for axis, scale in ((0, down), (1, across)) if scale < 0)


def _on_black(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Lays a picture on the middle of a black one of the given (height, width)."""
    whole = np.zeros((*size, 3), np.uint8)
    top, left = ((outer - inner) // 2 for outer, inner in zip(size, picture.shape))
    whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole


def _opaque(rgba: np.ndarray) -> av.VideoFrame:
    """Lays a picture, uint8 [height, width, 4], on black."""
    rgb = rgba[..., :3].astype(np.uint16) * rgba[..., 3:] // 255
    return av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")


@functools.cache
def _may_be_transparent(pixel_format: str) -> bool:
    described = VideoFormat(pixel_format)
    return described.has_palette or any(component.is_alpha for component in described.components)
