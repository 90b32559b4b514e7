"""Decodes a clip's picture to cropped or stretched JPEG frames at 25 a second."""

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
import simplejpeg

from data_pipeline.media.containers import chosen, exact, opened, seconds
from data_pipeline.media.faces import DETECTOR
from data_pipeline.media.frame_times import frames_on_screen
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
class FaceCrop:
    """The largest face of a clip is found, followed and cut out of every frame (`face_crop`).

    Attributes:
        side: of the square that is kept, in pixels.
        detector: what finds the face.
    """

    side: int = 160
    detector: str = DETECTOR

    @property
    def height(self) -> int:
        """Height of what is kept, in pixels."""
        return self.side

    @property
    def width(self) -> int:
        """Width of what is kept, in pixels."""
        return self.side


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


def decode_frames(data: bytes, name: str, encode: Callable[[Fraction, np.ndarray], bytes]) -> Picture:
    """Decodes the picture of a video file.

    Args:
        data: the file's contents.
        name: the file's name; its ending says which container it is.
        encode: makes the JPEG of a frame, of its time since the first decoded one, in s, and its picture,
            uint8[H, W, 3], RGB. It gets the frames in the order of the file.

    Raises:
        UnusableClipError: it cannot be used.
    """
    jpegs: list[bytes] = []
    times: list[int] = []  # in ticks
    ends: list[int] = []
    source = _Source(data, name)
    for frame, picture in source:
        assert frame.pts is not None  # or `decoded` raises an error
        times.append(frame.pts)
        ends.append(frame.pts + (frame.duration or round(1 / FPS / source.tick)))
        jpegs.append(encode((frame.pts - times[0]) * source.tick, picture))
        check_seconds((ends[-1] - times[0]) * float(source.tick), name)
    # Timestamps decide, should frames come in another order. Of equal times the last one counts.
    order = sorted(range(len(times)), key=times.__getitem__)
    first = times[order[0]] if order else 0
    length = ends[order[-1]] - first if order else 0
    check_seconds(float(length * source.tick), name)
    held = (length + max(first, 0)) * source.tick  # the header may count the delay of a late picture
    if not order or source.declared - held >= MAX_LENGTH_DIFFERENCE:
        stated = f"of the {float(source.declared):.2f} s of picture that its header says"
        raise UnusableClipError(
            Reason.TRUNCATED_VIDEO, f"{name} holds {float(length * source.tick):.2f} s {stated}"
        )
    shown = frames_on_screen([times[index] - first for index in order], length, source.tick)
    resampled = order != list(range(len(jpegs))) or not np.array_equal(shown, np.arange(len(jpegs)))
    return Picture([jpegs[order[index]] for index in shown], first * source.tick, source.size, resampled)


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
        damaged = Reason.TRUNCATED_VIDEO if self._data[4:8] == b"ftyp" else Reason.NOT_MEDIA
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
