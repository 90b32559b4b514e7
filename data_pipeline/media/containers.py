"""Opens a media file and chooses its track (PyAV 18.1 and later)."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import PurePath
from typing import Any, BinaryIO, Protocol, TypeVar

import av
from av.stream import Disposition
from etils import epath

from data_pipeline.common.paths import may_be_file
from data_pipeline.media.reasons import Reason, UnusableClipError

_Stream = TypeVar("_Stream", av.VideoStream, av.AudioStream)

# The demuxer is named. If FFmpeg guessed it, a text file could pass for a playlist and open other files.
_VIDEO = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mp4",
    ".3gp": "mp4",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".avi": "avi",
    ".flv": "flv",
    ".mpg": "mpeg",
    ".mpeg": "mpeg",
    ".ts": "mpegts",
    ".wmv": "asf",
    ".ogv": "ogg",
}
_SOUND = {
    ".wav": "wav",
    ".mp3": "mp3",
    ".m4a": "mp4",
    ".aac": "aac",
    ".flac": "flac",
    ".ogg": "ogg",
    ".opus": "ogg",
}
VIDEOS, SOUNDS = tuple(_VIDEO), tuple(_SOUND)
"""Endings of the files that can be read, in small letters."""

# Titles and other texts, which are not used here, may be in any encoding. PyAV 19 accepts that by itself.
_TEXTS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def not_media(head: bytes) -> Reason:
    """Returns why a file does not open, whatever its first bytes are: it is no media file."""
    return Reason.NOT_MEDIA


def damaged_video(head: bytes) -> Reason:
    """Returns why a video file does not open, by its first 8 bytes: the index of an mp4 file may be lost."""
    return Reason.TRUNCATED_VIDEO if head[4:8] == b"ftyp" else Reason.NOT_MEDIA


@contextmanager
def opened_file(
    path: epath.Path,
    if_absent: Reason,
    corrupt: Reason,
    damaged: Callable[[bytes], Reason] = not_media,
) -> Iterator[av.container.InputContainer]:
    """Opens a file of any length, which is read while it is decoded.

    Args:
        path: of the file; its ending, in any case, says what the file is.
        if_absent: the reason to give if there is no such file.
        corrupt: reason of an error while it is read.
        damaged: gives the reason of an error on opening, by the file's first 8 bytes.

    Yields:
        The open file.

    Raises:
        UnusableClipError: there is no such file, it does not open, or the body raised an error.
        OSError: it exists but cannot be read.
    """
    if not may_be_file(path):
        raise UnusableClipError(if_absent, f"{path.name} is a directory, a pipe or a device")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UnusableClipError(if_absent, f"no file {path.name}") from None
    with file:
        watched = _WatchedFile(file)
        try:
            head = watched.read(8)
            watched.seek(0)
            with opened(watched, path.name, damaged(head), corrupt) as container:
                yield container
        finally:
            if watched.error is not None:
                watched.error.filename = watched.error.filename or os.fspath(path)
                raise watched.error


@contextmanager
def opened_picture(
    path: epath.Path, damaged: Callable[[bytes], Reason] = damaged_video
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Opens a video file of any length, and chooses the track of its picture.

    Args:
        path: of the file.
        damaged: gives the reason of an error on opening, as for `opened_file`.

    Raises:
        UnusableClipError: as `opened_file`, or there is no picture.
        OSError: the file exists but cannot be read.
    """
    with opened_file(path, Reason.MISSING_VIDEO, Reason.CORRUPT_VIDEO, damaged) as container:
        stream = chosen(container.streams.video)
        if stream is None:
            raise UnusableClipError(Reason.NO_VIDEO_STREAM, f"{path.name} has no moving picture")
        yield container, stream


class _WatchedFile:
    """A file for libav, which does not say why it could not be read.

    Attributes:
        error: an error of the machine.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.error: OSError | None = None
        self._file = file
        self.tell = file.tell

    def read(self, n_bytes: int) -> bytes:
        try:
            return self._file.read(n_bytes)
        except OSError as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Returns the new place, or −1 for a place before the file's beginning, where damage may lead."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


@contextmanager
def opened(
    data: bytes | _WatchedFile, name: str, damaged: Reason, corrupt: Reason
) -> Iterator[av.container.InputContainer]:
    """Opens a file's bytes.

    Args:
        data: the file's contents, or the open file.
        name: the file's name: its ending says what the file is.
        damaged: reason of an error on opening.
        corrupt: reason of a later error.

    Yields:
        The open file.

    Raises:
        UnusableClipError: the bytes do not open, or the body raised an error.
    """
    demuxer = {**_VIDEO, **_SOUND}.get(PurePath(name).suffix.lower())
    if demuxer is None:
        raise UnusableClipError(
            Reason.NOT_MEDIA, f"{name} does not end in one of {' '.join([*VIDEOS, *SOUNDS])}"
        )
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        container = av.open(file, "r", format=demuxer, **_TEXTS)
    except (av.error.FFmpegError, OSError) as error:
        raise UnusableClipError(damaged, f"{name} does not open: {error.strerror}") from error
    try:
        with container:
            yield container
    except UnusableClipError:
        raise
    except Exception as error:  # PyAV raises exceptions of many kinds for damaged bytes
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UnusableClipError(corrupt, f"{name} does not decode: {why}") from error


def chosen(streams: Sequence[_Stream]) -> _Stream | None:
    """Returns the track that a player plays: the first default one, or the first if none is the default.

    Still pictures, such as a cover, do not count. None if there is no track.
    """
    moving = [stream for stream in streams if not stream.disposition & _STILL]
    defaults = [stream for stream in moving if stream.disposition & Disposition.default]
    return next(iter(defaults or moving), None)


class _Ratio(Protocol):
    """A ratio of PyAV, whose type depends on its version."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


def seconds(ticks: int | None, time_base: _Ratio | None) -> Fraction:
    """Converts a time of FFmpeg to seconds, exactly; an unknown time is 0."""
    return ticks * exact(time_base) if ticks and time_base else Fraction(0)


def exact(ratio: _Ratio | None) -> Fraction:
    """Converts a ratio of PyAV to a fraction; an unknown one is 0."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio else Fraction(0)
