"""Decodes a clip's files: face frames as JPEG at 25 frames a second, sound as 16 kHz mono int16 (PyAV).

Accepted and converted: another frame rate (each 1/25 s gets the frame nearest in time), another sample rate
or several channels (resampled and mixed to mono), and sound that is only a track of the video file.

A clip that cannot be used raises `UnusableClipError` with a `Reason`. One such reason is that sound and
picture have different lengths, as they have if a file declares a wrong rate. An error of the machine (disk,
network, permission) is not the clip's fault and raises `OSError`. They are distinguished because a file is
read before it is decoded: only reading can meet an error of the machine.

Memory: one decoded frame at a time, the clip's JPEGs and samples, and the file itself. Clips above
`MAX_SECONDS` and files above `MAX_BYTES` are refused, so that a film among the clips cannot fill the memory.
"""

import dataclasses
import enum
import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TypeVar

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
MAX_LENGTH_DIFFERENCE = 0.1
"""Seconds. A clip whose sound and picture differ by this or more is left out, as in the published list."""
MAX_SECONDS = 600
MAX_BYTES = 2**30

_Frame = TypeVar("_Frame", av.VideoFrame, av.AudioFrame)

# The demuxer is named. If FFmpeg guessed it, a text file could pass for a playlist and open other files.
_CONTAINERS = {".mp4": "mp4", ".m4a": "mp4", ".wav": "wav"}


class Reason(enum.StrEnum):
    """Why a clip cannot be used."""

    MISSING_VIDEO = "missing_video"  # there is a sound file but no video file
    NOT_MEDIA = "not_media"  # another kind of file than its name says
    NO_VIDEO_STREAM = "no_video_stream"
    TRUNCATED_VIDEO = "truncated_video"  # the file is shorter than its header says
    CORRUPT_VIDEO = "corrupt_video"  # the file opens but does not decode
    FRAME_TOO_SMALL = "frame_too_small"  # smaller than the crop
    TOO_FEW_FRAMES = "too_few_frames"
    MISSING_AUDIO = "missing_audio"  # neither a sound file nor a track in the video file
    EMPTY_AUDIO = "empty_audio"
    CORRUPT_AUDIO = "corrupt_audio"
    TOO_SHORT_AUDIO = "too_short_audio"
    LENGTH_MISMATCH = "length_mismatch"  # the lengths of sound and picture differ by 0.1 s or more
    TOO_LONG = "too_long"


class UnusableClipError(Exception):
    """A clip that cannot be used.

    Attributes:
        reason: the kind of fault.
        detail: one line that describes it.
    """

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
        resampled: whether the frame rate or the sample rate was changed.
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

    Returns:
        The clip.

    Raises:
        UnusableClipError: the files cannot be used, or a file is missing.
        OSError: a file exists but cannot be read.
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
    """Checks that the lengths of a clip's picture (at `FPS`) and sound (at `SAMPLE_RATE`) agree.

    Raises:
        UnusableClipError: they differ by `MAX_LENGTH_DIFFERENCE` or more.
    """
    # In samples, because 1.2 - 1.1 is less than 0.1 in floating point.
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
        if not error.filename:  # an error while reading, unlike one while opening, does not name the file
            error.filename = os.fspath(path)
        raise


def _decode_video(data: bytes, path: epath.Path, crop: Crop) -> tuple[list[bytes], float, bool]:
    """Returns the cropped frames at `FPS` as JPEG, the first's time in s, and whether the rate changed."""
    damaged = Reason.TRUNCATED_VIDEO if data[4:8] == b"ftyp" else Reason.NOT_MEDIA
    jpegs: list[bytes] = []
    starts: list[float] = []
    end = 0.0
    to_rgb = VideoReformatter()  # one for all frames: to set up a conversion costs more than to convert
    with _open(data, path, damaged, Reason.CORRUPT_VIDEO) as container:
        if not container.streams.video:
            raise UnusableClipError(Reason.NO_VIDEO_STREAM, f"{path.name} has no picture")
        stream = container.streams.video[0]
        declared = _seconds(stream.duration, stream.time_base)
        for frame in _decode(container, stream, av.VideoFrame):
            starts.append(_seconds(frame.pts, frame.time_base))
            end = starts[-1] + (_seconds(frame.duration, frame.time_base) or 1 / FPS)
            jpegs.append(_jpeg(frame, crop, to_rgb))
            _check_length(end - starts[0], path)
    length = end - starts[0] if starts else 0.0
    if not starts or declared - length >= MAX_LENGTH_DIFFERENCE:
        detail = f"{path.name} holds {length:.2f} s of the {declared:.2f} s of picture that its header says"
        raise UnusableClipError(Reason.TRUNCATED_VIDEO, detail)
    nearest = _nearest_frames(np.array(starts) - starts[0], length)
    resampled = not np.array_equal(nearest, np.arange(len(jpegs)))
    return [jpegs[index] for index in nearest], starts[0], resampled


def _nearest_frames(times: np.ndarray, length: float) -> np.ndarray:
    """Picks the nearest frame in time for every 1/`FPS` s.

    Args:
        times: (n_frames,) float64, presentation times in s, ascending from 0.
        length: duration of all frames, in s.

    Returns:
        (round(length * FPS),) indices of frames; the earlier frame where two are equally near.
    """
    wanted = np.arange(round(length * FPS)) / FPS
    return np.searchsorted((times[1:] + times[:-1]) / 2, wanted)


def _jpeg(frame: av.VideoFrame, crop: Crop, to_rgb: VideoReformatter) -> bytes:
    bottom, right = crop.top + crop.height, crop.left + crop.width
    if frame.height < bottom or frame.width < right:
        detail = (
            f"frames are {frame.height} × {frame.width}; the crop needs {bottom} rows and {right} columns"
        )
        raise UnusableClipError(Reason.FRAME_TOO_SMALL, detail)
    rgb = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
    face = np.ascontiguousarray(rgb[crop.top : bottom, crop.left : right])
    return simplejpeg.encode_jpeg(face, JPEG_QUALITY, "RGB", "420")


def _decode_audio(data: bytes, path: epath.Path, if_absent: Reason) -> tuple[np.ndarray, float, bool]:
    """Returns int16[n_samples], mono at `SAMPLE_RATE`, its start in s, and whether the rate changed."""
    if not data:
        raise UnusableClipError(Reason.EMPTY_AUDIO, f"{path.name} has 0 bytes")
    with _open(data, path, Reason.CORRUPT_AUDIO, Reason.CORRUPT_AUDIO) as container:
        if not container.streams.audio:
            raise UnusableClipError(if_absent, f"{path.name} has no sound")
        frames = _decode(container, container.streams.audio[0], av.AudioFrame)
        first = next(frames, None)
        if first is None:
            raise UnusableClipError(Reason.EMPTY_AUDIO, f"{path.name} has no sample")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        pieces, n_samples, padding = [np.zeros(0, np.int16)], 0, 0.0
        for frame in itertools.chain([first], frames, [None]):  # None flushes the resampler
            for part in resampler.resample(frame):
                pieces.append(part.to_ndarray()[0])
                n_samples += part.samples
            _check_length(n_samples / SAMPLE_RATE - MAX_LENGTH_DIFFERENCE, path)
            if frame is not None and frame.duration:
                padding = frame.samples / frame.sample_rate - _seconds(frame.duration, frame.time_base)
        start = _seconds(first.pts, first.time_base)
    # AAC comes in blocks of 1,024 samples. Only the duration of the last block tells how much of it is sound.
    n_samples -= max(round(padding * SAMPLE_RATE), 0)
    return np.concatenate(pieces)[:n_samples], start, first.sample_rate != SAMPLE_RATE


def _shift(samples: np.ndarray, late: int) -> np.ndarray:
    """Aligns sound with the picture: adds `late` samples of silence before it, or cuts -`late` samples."""
    return np.concatenate([np.zeros(max(late, 0), samples.dtype), samples[max(-late, 0) :]])


def _check_length(seconds: float, path: epath.Path) -> None:
    if seconds > MAX_SECONDS:
        raise UnusableClipError(Reason.TOO_LONG, f"{path.name} lasts more than {MAX_SECONDS} s")


@contextmanager
def _open(
    data: bytes, path: epath.Path, damaged: Reason, corrupt: Reason
) -> Iterator[av.container.InputContainer]:
    """Opens a file's bytes. An error on opening has the reason `damaged`, a later one `corrupt`."""
    try:
        # "replace", because titles and other texts, which are not used here, may be in any encoding.
        container = av.open(
            io.BytesIO(data), "r", format=_CONTAINERS[path.suffix.lower()], metadata_errors="replace"
        )
    except av.error.FFmpegError as error:
        raise UnusableClipError(damaged, f"{path.name} does not open: {error.strerror}") from error
    try:
        with container:
            yield container
    except UnusableClipError:
        raise
    except Exception as error:  # PyAV raises exceptions of many kinds for damaged bytes
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UnusableClipError(corrupt, f"{path.name} does not decode: {why}") from error


def _decode(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream, kind: type[_Frame]
) -> Iterator[_Frame]:
    """Yields the frames of a stream, of type `kind`, up to the file's end, even if that comes too early.

    Raises:
        ValueError: the codec is unknown, or a frame has no time.
    """
    if stream.codec_context is None:
        raise ValueError("its codec is unknown")
    stream.codec_context.thread_count = 1  # processes are the unit of parallelism
    for packet in container.demux(stream):
        if packet.is_corrupt:  # libav marks a packet that the file's end cuts short
            return
        for frame in packet.decode():
            assert isinstance(frame, kind)
            if frame.pts is None or frame.time_base is None:
                raise ValueError("a frame has no time")
            yield frame


def _seconds(ticks: int | None, time_base: Fraction | None) -> float:
    """Converts a time of FFmpeg to seconds; an unknown time is 0."""
    return float(ticks * time_base) if ticks and time_base else 0.0
