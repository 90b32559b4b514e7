"""Decodes a clip's picture to cropped or stretched JPEG frames at 25 a second."""

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
import simplejpeg

from data_pipeline.media.containers import chosen, damaged_video, exact, opened, seconds
from data_pipeline.media.faces import DETECTOR
from data_pipeline.media.frame_times import frames_on_screen
from data_pipeline.media.kept_square import KeptSquare
from data_pipeline.media.limits import FPS, MAX_LENGTH_DIFFERENCE, check_seconds
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.stretch import Stretch
from data_pipeline.media.track_frames import decoded
from data_pipeline.media.upright import Upright

JPEG_QUALITY = 90  # with 4:2:0 chroma, as H.264 has it


@dataclasses.dataclass(frozen=True)
class Crop:
    """The part of a frame that is kept, in pixels; by default the face of a 224 × 224 VoxCeleb2 frame."""

    top: int = 0
    left: int = 32
    height: int = 160
    width: int = 160

    def __post_init__(self) -> None:
        if self.top < 0 or self.left < 0 or self.height < 1 or self.width < 1:
            raise ValueError(f"a crop needs top, left ≥ 0 and height, width ≥ 1, got {self}")

    def jpeg(self, picture: np.ndarray) -> bytes:
        """Returns the JPEG of this part of a frame.

        Args:
            picture: uint8[H, W, 3], RGB.

        Raises:
            UnusableClipError: the frame is too small.
        """
        bottom, right = self.top + self.height, self.left + self.width
        height, width = picture.shape[:2]
        if height < bottom or width < right:
            detail = f"frames are {height} × {width}; the crop needs {bottom} rows and {right} columns"
            raise UnusableClipError(Reason.FRAME_TOO_SMALL, detail)
        part = np.ascontiguousarray(picture[self.top : bottom, self.left : right])
        return simplejpeg.encode_jpeg(part, JPEG_QUALITY, "RGB", "420")


@dataclasses.dataclass(frozen=True)
class FaceCrop(KeptSquare):
    """The largest face of a clip is found, followed and cut out of every frame (`face_crop`).

    Attributes:
        side: of the square that is kept, in pixels.
        detector: what finds the face.
    """

    detector: str = DETECTOR


@dataclasses.dataclass(frozen=True)
class Picture:
    """The picture of a clip.

    Attributes:
        jpegs: its frames at `FPS`, cropped or stretched.
        start: time of the first frame in its file, in s.
        frame_size: (height, width) of a frame before the crop, upright and with square pixels.
        resampled: whether the frame rate was changed.
    """

    jpegs: list[bytes]
    start: Fraction
    frame_size: tuple[int, int]
    resampled: bool


Encode = Callable[[Fraction, np.ndarray], bytes]
"""Makes the JPEG of a frame. It gets the frames in the order of the file: the time since the first decoded
one, in s, and the picture, uint8[H, W, 3], RGB."""


def decode_video(data: bytes, name: str, part: Crop | Stretch) -> Picture:
    """Decodes the picture of a video file.

    Args:
        data: the file's contents.
        name: the file's name; its ending says which container it is.
        part: the part of each frame to keep; or how to stretch each whole frame.

    Raises:
        UnusableClipError: it cannot be used.
    """
    return decode_frames(data, name, lambda time, picture: part.jpeg(picture))


def decode_frames(data: bytes, name: str, encode: Encode) -> Picture:
    """Decodes the picture of a video file.

    Args:
        data: the file's contents.
        name: the file's name; its ending says which container it is.
        encode: makes the JPEG of a frame.

    Raises:
        UnusableClipError: it cannot be used.
    """
    encoded = Encoded()
    source = _Source(data, name)
    for frame, picture in source:
        since = (frame.pts or 0) - (encoded.times[0] if encoded.times else frame.pts or 0)
        encoded.add(frame, encode(since * source.tick, picture))
        check_seconds((encoded.ends[-1] - encoded.times[0]) * float(source.tick), name)
    first, end = encoded.span()
    length = end - first
    check_seconds(float(length * source.tick), name)
    held = (length + max(first, 0)) * source.tick  # the header may count the delay of a late picture
    if not encoded.jpegs or source.declared - held >= MAX_LENGTH_DIFFERENCE:
        stated = f"of the {float(source.declared):.2f} s of picture that its header says"
        raise UnusableClipError(
            Reason.TRUNCATED_VIDEO, f"{name} holds {float(length * source.tick):.2f} s {stated}"
        )
    jpegs, resampled = encoded.on_screen(first, length, source.tick)
    return Picture(jpegs, first * source.tick, source.size, resampled)


class Encoded:
    """Frames that are encoded, in the order in which they were decoded.

    Attributes:
        jpegs: of the frames.
        times: when each begins, in ticks of the file.
        ends: when each ends, if no other one comes before.
    """

    def __init__(self) -> None:
        self.jpegs: list[bytes] = []
        self.times: list[int] = []
        self.ends: list[int] = []

    def add(self, frame: av.VideoFrame, jpeg: bytes) -> None:
        """Adds a frame, which has a time."""
        assert frame.pts is not None  # or `decoded` raises an error
        self.times.append(frame.pts)
        self.ends.append(frame.pts + (frame.duration or round(1 / FPS / exact(frame.time_base))))
        self.jpegs.append(jpeg)

    def span(self) -> tuple[int, int]:
        """Returns when the first frame begins and the last one ends, in ticks; (0, 0) if there is none."""
        order = self._order()
        return (self.times[order[0]], self.ends[order[-1]]) if order else (0, 0)

    def on_screen(
        self, first: int, length: int, tick: Fraction, numbers: slice = slice(None)
    ) -> tuple[list[bytes], bool]:
        """Picks the frame for every 1/`FPS` s.

        Args:
            first: when the picture begins, in ticks.
            length: how long it lasts, in ticks.
            tick: in s.
            numbers: those 1/`FPS` s that are wanted; by default all.

        Returns:
            The JPEGs, and whether they are other frames than those that were added.
        """
        order = self._order()
        shown = frames_on_screen([self.times[index] - first for index in order], length, tick)[numbers]
        resampled = order != list(range(len(order))) or not np.array_equal(shown, np.arange(len(order)))
        return [self.jpegs[order[index]] for index in shown], resampled

    def _order(self) -> list[int]:
        # Timestamps decide, should frames come in another order. Of equal times the last one counts.
        return sorted(range(len(self.times)), key=self.times.__getitem__)


class _Source:
    """The frames of a video file. An error of the loop that takes them is not taken for one of the file.

    Attributes:
        declared: how long the picture lasts by the file's header, in s.
        tick: unit of the frames' times, in s.
        size: (height, width) of the pictures in pixels.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.declared, self.tick = Fraction(0), Fraction(1)
        self.size = (0, 0)
        self._data, self._name = data, name

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, np.ndarray]]:
        """Yields each frame and its upright picture, uint8[H, W, 3], RGB."""
        damaged = damaged_video(self._data[:8])
        with opened(self._data, self._name, damaged, Reason.CORRUPT_VIDEO) as container:
            stream = chosen(container.streams.video)
            if stream is None:
                raise UnusableClipError(Reason.NO_VIDEO_STREAM, f"{self._name} has no moving picture")
            self.declared = seconds(stream.duration, stream.time_base)
            upright = Upright(exact(stream.sample_aspect_ratio), self._name)
            for frame in decoded(container, stream, av.VideoFrame):
                picture = upright.picture(frame)
                if self.size == (0, 0):
                    self.tick, self.size = exact(frame.time_base), upright.size
                yield frame, picture
