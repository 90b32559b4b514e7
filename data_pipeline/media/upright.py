"""Turns decoded frames into upright RGB pictures with square pixels, all of one size."""

import functools
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation, VideoReformatter

from data_pipeline.media.reasons import Reason, UnusableClipError

_LEAST_STRETCH = Fraction(1, 100)
"""Pixels whose sides differ by less count as square: a crop of 301 × 300 scaled to 224 × 224 leaves that."""
_TAN_ONE_DEGREE = 0.0175


class Upright:
    """Makes all frames of a video upright, and as large as the first one.

    Attributes:
        size: (height, width) of the pictures in pixels; (0, 0) before the first one.
    """

    def __init__(self, pixel_aspect: Fraction, name: str) -> None:
        """Begins a video.

        Args:
            pixel_aspect: width of a pixel over its height; 0 if unknown, which counts as 1.
            name: the file's name, for messages.
        """
        square = not pixel_aspect or abs(pixel_aspect - 1) < _LEAST_STRETCH
        self._pixel_aspect = Fraction(1) if square else pixel_aspect
        self._name = name
        self._to_rgb = VideoReformatter()  # to set up a conversion costs more than to convert
        self.size = (0, 0)

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """Converts a frame.

        Returns:
            uint8 RGB [height, width, 3] of `size`.

        Raises:
            UnusableClipError: the frame is tilted, interlaced or transparent, or its shape is not that of the
                first one.
        """
        if frame.interlaced_frame:
            detail = f"{self._name} is interlaced: convert it with ffmpeg -vf bwdif"
            raise UnusableClipError(Reason.INTERLACED_VIDEO, detail)
        swapped, flips = self._orientation(frame)
        width, height = frame.width, frame.height
        if self._pixel_aspect != 1:
            width = round(width * self._pixel_aspect)
        size = (width, height) if swapped else (height, width)
        if self.size == (0, 0):
            self.size = size
        elif size != self.size:
            if abs(Fraction(size[0] * self.size[1], size[1] * self.size[0]) - 1) >= _LEAST_STRETCH:
                change = f"from {self.size[0]} × {self.size[1]} to {size[0]} × {size[1]}"
                detail = f"the frames of {self._name} change their shape {change}"
                raise UnusableClipError(Reason.CHANGING_VIDEO, detail)
            height, width = self.size[::-1] if swapped else self.size
        rgb = self._rgb(frame, width, height)
        return np.flip(rgb.swapaxes(0, 1) if swapped else rgb, flips)

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        if _may_be_transparent(frame.format.name):
            alpha = self._to_rgb.reformat(frame, format="rgba", threads=1).to_ndarray()[..., 3]
            if alpha.min() < 255:
                detail = (
                    f"{self._name} is transparent: lay it on a background with ffmpeg -filter_complex overlay"
                )
                raise UnusableClipError(Reason.TRANSPARENT_VIDEO, detail)
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
            raise UnusableClipError(Reason.TILTED_VIDEO, detail)
        return swapped, tuple(axis for axis, scale in ((0, down), (1, across)) if scale < 0)


@functools.cache
def _may_be_transparent(pixel_format: str) -> bool:
    described = VideoFormat(pixel_format)
    return described.has_palette or any(component.is_alpha for component in described.components)
