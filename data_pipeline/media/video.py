"""Decodes a clip's picture to cropped or stretched JPEG frames at 25 a second."""

import dataclasses
from fractions import Fraction

import av
import numpy as np
import simplejpeg

from data_pipeline.media.containers import chosen, exact, opened, seconds
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
    damaged = Reason.TRUNCATED_VIDEO if data[4:8] == b"ftyp" else Reason.NOT_MEDIA
    jpegs: list[bytes] = []
    times: list[int] = []  # in ticks
    ends: list[int] = []
    tick = Fraction(1)
    with opened(data, name, damaged, Reason.CORRUPT_VIDEO) as container:
        stream = chosen(container.streams.video)
        if stream is None:
            raise UnusableClipError(Reason.NO_VIDEO_STREAM, f"{name} has no moving picture")
        declared = seconds(stream.duration, stream.time_base)
        upright = Upright(exact(stream.sample_aspect_ratio), name)
        for frame in decoded(container, stream, av.VideoFrame):
            assert frame.pts is not None  # or `decoded` raises an error
            if not times:
                tick = exact(frame.time_base)
            times.append(frame.pts)
            ends.append(frame.pts + (frame.duration or round(1 / FPS / tick)))
            picture = upright.picture(frame)
            jpegs.append(part.jpeg(picture) if isinstance(part, Stretch) else _jpeg(picture, part))
            check_seconds((ends[-1] - times[0]) * float(tick), name)
    # Timestamps decide, should frames come in another order. Of equal times the last one counts.
    order = sorted(range(len(times)), key=times.__getitem__)
    first = times[order[0]] if order else 0
    length = ends[order[-1]] - first if order else 0
    check_seconds(float(length * tick), name)
    held = (length + max(first, 0)) * tick  # the header may count the delay of a picture that begins late
    if not order or declared - held >= MAX_LENGTH_DIFFERENCE:
        stated = f"of the {float(declared):.2f} s of picture that its header says"
        raise UnusableClipError(Reason.TRUNCATED_VIDEO, f"{name} holds {float(length * tick):.2f} s {stated}")
    shown = frames_on_screen([times[index] - first for index in order], length, tick)
    resampled = order != list(range(len(jpegs))) or not np.array_equal(shown, np.arange(len(jpegs)))
    return Picture([jpegs[order[index]] for index in shown], first * tick, upright.size, resampled)


def _jpeg(picture: np.ndarray, crop: Crop) -> bytes:
    bottom, right = crop.top + crop.height, crop.left + crop.width
    height, width = picture.shape[:2]
    if height < bottom or width < right:
        detail = f"frames are {height} × {width}; the crop needs {bottom} rows and {right} columns"
        raise UnusableClipError(Reason.FRAME_TOO_SMALL, detail)
    face = np.ascontiguousarray(picture[crop.top : bottom, crop.left : right])
    return simplejpeg.encode_jpeg(face, JPEG_QUALITY, "RGB", "420")
