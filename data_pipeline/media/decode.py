"""Decode a clip's files: face frames as JPEG at 25 frames a second, sound as 16 kHz mono int16 (PyAV).

A clip that cannot be used raises `UnusableClipError` with a `Reason`. Three things are mended, not refused:
another frame rate (each 1/25 s gets the frame nearest in time), another sample rate or more channels
(resampled, mixed down), and sound that comes only as the video file's own track. A file whose *declared* rate
is wrong gives itself away because its sound and picture then last differently. An error of the machine (a
disk, a network, a permission) is no fault of the clip: it is left to the caller as `OSError`. Only reading a
file can meet one, and files are read before they are decoded; whatever goes wrong then is the file's fault.

Memory: one decoded frame at a time, the clip's JPEGs and samples, and the file itself. Clips are refused
above `MAX_SECONDS` and files above `MAX_BYTES`, so a stray film in the tree cannot exhaust the machine.
"""

import dataclasses
import enum
import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter
from etils import epath

from data_pipeline.format.clip_sampling import FEWEST_SAMPLES
from data_pipeline.format.records import STRIDE

FPS = 25
SAMPLE_RATE = 16_000
JPEG_QUALITY = 90  # with 4:2:0 chroma, as H.264 has it
MIN_FRAMES = STRIDE  # one for every phase
MAX_LENGTH_DIFFERENCE = (
    0.1  # seconds between sound and picture from which the published list leaves a clip out
)
MAX_SECONDS = 600
MAX_BYTES = 2**30

# The demuxer is named, never guessed: guessing lets a text file pass for a playlist that names other files.
_CONTAINERS = {".mp4": "mp4", ".m4a": "mp4", ".wav": "wav"}


class Reason(enum.StrEnum):
    """Why a clip cannot be used."""

    MISSING_VIDEO = "missing_video"  # sound without a picture
    NOT_MEDIA = "not_media"  # not the kind of file its name promises
    NO_VIDEO_STREAM = "no_video_stream"
    TRUNCATED_VIDEO = "truncated_video"  # the file ends before what its header announces
    CORRUPT_VIDEO = "corrupt_video"  # it opens, but does not decode
    FRAME_TOO_SMALL = "frame_too_small"  # the crop does not fit
    TOO_FEW_FRAMES = "too_few_frames"
    MISSING_AUDIO = "missing_audio"  # neither a file of its own nor a track in the video file
    EMPTY_AUDIO = "empty_audio"
    CORRUPT_AUDIO = "corrupt_audio"
    TOO_SHORT_AUDIO = "too_short_audio"
    LENGTH_MISMATCH = "length_mismatch"  # sound and picture differ by 0.1 s or more
    TOO_LONG = "too_long"


class UnusableClipError(Exception):
    """A clip that cannot be used, for `reason`; `detail` is one line for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


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
class Clip:
    """A decoded clip.

    Attributes:
        jpegs: its frames at `FPS`, cropped.
        samples: (n_samples,) int16, mono, at `SAMPLE_RATE`.
        resampled: whether the frame rate or the sample rate had to be changed.
    """

    jpegs: list[bytes]
    samples: np.ndarray
    resampled: bool


def load_clip(video: epath.Path, audio: epath.Path | None, crop: Crop) -> Clip:
    """Decodes a clip and checks that it can be used.

    Args:
        video: an mp4 file.
        audio: an m4a or wav file; None for the video file's own track.
        crop: the part of each frame to keep.

    Raises:
        UnusableClipError: if the files cannot be used.
        OSError: if they cannot be read for a reason other than their absence.
    """
    video_bytes = _read(video, Reason.MISSING_VIDEO)
    jpegs, video_start, video_resampled = _decode_video(video_bytes, video, crop)
    if len(jpegs) < MIN_FRAMES:
        raise UnusableClipError(Reason.TOO_FEW_FRAMES, f"{len(jpegs)} frames, {MIN_FRAMES} are needed")
    if audio is None:
        samples, start, audio_resampled = _decode_audio(video_bytes, video, Reason.MISSING_AUDIO)
        samples = _shift(samples, round((start - video_start) * SAMPLE_RATE))
    else:
        audio_bytes = _read(audio, Reason.MISSING_AUDIO)
        samples, _, audio_resampled = _decode_audio(audio_bytes, audio, Reason.EMPTY_AUDIO)
    if not len(samples):
        raise UnusableClipError(Reason.EMPTY_AUDIO, "no sound in it")
    if len(samples) < FEWEST_SAMPLES:
        raise UnusableClipError(
            Reason.TOO_SHORT_AUDIO, f"{len(samples)} samples, {FEWEST_SAMPLES} are needed"
        )
    check_lengths(len(jpegs), len(samples))
    return Clip(jpegs, samples, video_resampled or audio_resampled)


def check_lengths(n_frames: int, n_samples: int) -> None:
    """Checks that a clip's picture at `FPS` and its sound at `SAMPLE_RATE` last equally long, or nearly.

    Raises:
        UnusableClipError: if they differ by `MAX_LENGTH_DIFFERENCE` or more.
    """
    # Counted in samples, which is exact: 1.2 s - 1.1 s is less than 0.1 s in floating point.
    if abs(n_samples - n_frames * SAMPLE_RATE // FPS) >= MAX_LENGTH_DIFFERENCE * SAMPLE_RATE:
        raise UnusableClipError(
            Reason.LENGTH_MISMATCH,
            f"{n_samples / SAMPLE_RATE:.3f} s of sound, {n_frames / FPS:.3f} s of picture",
        )


def _read(path: epath.Path, if_absent: Reason) -> bytes:
    try:
        if path.stat().length > MAX_BYTES:
            raise UnusableClipError(Reason.TOO_LONG, f"{path.name} has more than {MAX_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableClipError(if_absent, f"no file {path.name}") from None
    except IsADirectoryError:
        raise UnusableClipError(if_absent, f"{path.name} is a directory") from None
    except OSError as error:
        if not error.filename:  # reading, unlike opening, does not say what
            error.filename = os.fspath(path)
        raise


def _decode_video(data: bytes, path: epath.Path, crop: Crop) -> tuple[list[bytes], float, bool]:
    """Returns the cropped frames at `FPS` as JPEG, the time of the first in s, and if the rate changed."""
    damaged = Reason.TRUNCATED_VIDEO if data[4:8] == b"ftyp" else Reason.NOT_MEDIA
    jpegs, starts, end = [], [], 0.0
    to_rgb = VideoReformatter()  # one for all frames: a conversion's set-up costs more than the conversion
    with _open(data, path, damaged, Reason.CORRUPT_VIDEO) as container:
        if not container.streams.video:
            raise UnusableClipError(Reason.NO_VIDEO_STREAM, f"{path.name} has no picture")
        stream = container.streams.video[0]
        declared = float((stream.duration or 0) * stream.time_base)
        for frame in _decode(container, stream):
            starts.append(float(frame.pts * frame.time_base))
            end = starts[-1] + float((frame.duration or 0) * frame.time_base or 1 / FPS)
            jpegs.append(_jpeg(frame, crop, to_rgb))
            _check_length(end - starts[0], path)
    length = end - starts[0] if starts else 0.0
    if not starts or declared - length >= MAX_LENGTH_DIFFERENCE:
        detail = f"{path.name} holds {length:.2f} s of the {declared:.2f} s of picture that it announces"
        raise UnusableClipError(Reason.TRUNCATED_VIDEO, detail)
    nearest = _nearest_frames(np.array(starts) - starts[0], length)
    resampled = not np.array_equal(nearest, np.arange(len(jpegs)))
    return [jpegs[index] for index in nearest], starts[0], resampled


def _nearest_frames(times: np.ndarray, length: float) -> np.ndarray:
    """For every 1/`FPS` s of `length` s, the index of the frame nearest in time, the earlier one at a tie.

    Args:
        times: (n_frames,) float64, presentation times in s, ascending from 0.
        length: how long the frames last altogether, in s.
    """
    wanted = np.arange(round(length * FPS)) / FPS
    return np.searchsorted((times[1:] + times[:-1]) / 2, wanted)


def _jpeg(frame: av.VideoFrame, crop: Crop, to_rgb: VideoReformatter) -> bytes:
    bottom, right = crop.top + crop.height, crop.left + crop.width
    if frame.height < bottom or frame.width < right:
        detail = (
            f"frames of {frame.height} × {frame.width} have no rows up to {bottom} and columns up to {right}"
        )
        raise UnusableClipError(Reason.FRAME_TOO_SMALL, detail)
    rgb = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
    face = np.ascontiguousarray(rgb[crop.top : bottom, crop.left : right])
    return simplejpeg.encode_jpeg(face, JPEG_QUALITY, "RGB", "420")


def _decode_audio(data: bytes, path: epath.Path, if_absent: Reason) -> tuple[np.ndarray, float, bool]:
    """Returns (n_samples,) int16 mono at `SAMPLE_RATE`, their start in s, and whether the rate changed."""
    if not data:
        raise UnusableClipError(Reason.EMPTY_AUDIO, f"{path.name} has 0 bytes")
    with _open(data, path, Reason.CORRUPT_AUDIO, Reason.CORRUPT_AUDIO) as container:
        if not container.streams.audio:
            raise UnusableClipError(if_absent, f"{path.name} has no sound")
        frames = _decode(container, container.streams.audio[0])
        first = next(frames, None)
        if first is None:
            raise UnusableClipError(Reason.EMPTY_AUDIO, f"{path.name} has no sample")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        pieces, n_samples, padding = [np.zeros(0, np.int16)], 0, 0.0
        for frame in itertools.chain([first], frames, [None]):  # None makes the resampler give out its rest
            for part in resampler.resample(frame):
                pieces.append(part.to_ndarray()[0])
                n_samples += part.samples
            _check_length(n_samples / SAMPLE_RATE - MAX_LENGTH_DIFFERENCE, path)
            if frame is not None and frame.duration:
                padding = frame.samples / frame.sample_rate - float(frame.duration * frame.time_base)
        start = float(first.pts * first.time_base)
    # AAC comes in blocks of 1,024 samples; how much of the last one is sound, only its duration says.
    n_samples -= max(round(padding * SAMPLE_RATE), 0)
    return np.concatenate(pieces)[:n_samples], start, first.sample_rate != SAMPLE_RATE


def _shift(samples: np.ndarray, late: int) -> np.ndarray:
    """Sound that begins `late` samples after the picture gets as much silence; what is early goes."""
    return np.concatenate([np.zeros(max(late, 0), samples.dtype), samples[max(-late, 0) :]])


def _check_length(seconds: float, path: epath.Path) -> None:
    if seconds > MAX_SECONDS:
        raise UnusableClipError(Reason.TOO_LONG, f"{path.name} lasts more than {MAX_SECONDS} s")


@contextmanager
def _open(
    data: bytes, path: epath.Path, damaged: Reason, corrupt: Reason
) -> Iterator[av.container.InputContainer]:
    """Opens a file's bytes; what fails gets the reason `damaged` on opening and `corrupt` in the body."""
    try:
        # Titles and the like may be in any encoding, and nobody reads them here.
        container = av.open(io.BytesIO(data), format=_CONTAINERS[path.suffix], metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise UnusableClipError(damaged, f"{path.name} does not open: {error.strerror}") from error
    try:
        with container:
            yield container
    except UnusableClipError:
        raise
    except Exception as error:  # PyAV meets damaged bytes with exceptions of many kinds
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UnusableClipError(corrupt, f"{path.name} does not decode: {why}") from error


def _decode(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream
) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Yields the frames up to the file's end, be that before the end that its header announces.

    Raises:
        ValueError: if the codec is unknown, or a frame has no time.
    """
    if stream.codec_context is None:
        raise ValueError("its codec is unknown")
    stream.codec_context.thread_count = 1  # processes are the unit of parallelism
    for packet in container.demux(stream):
        if packet.is_corrupt:  # libav marks a packet that the file's end cuts short
            return
        for frame in packet.decode():
            if frame.pts is None:
                raise ValueError("a frame has no time")
            yield frame
