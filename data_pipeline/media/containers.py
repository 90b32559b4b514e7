"""Opens a media file, chooses its track and decodes that track's frames (PyAV 18.1 and later)."""

import io
import struct
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

_Frame = TypeVar("_Frame", av.VideoFrame, av.AudioFrame)
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


@contextmanager
def opened_file(
    path: epath.Path, if_absent: Reason, corrupt: Reason
) -> Iterator[av.container.InputContainer]:
    """Opens a file of any length, which is read while it is decoded.

    Args:
        path: of the file; its ending, in any case, says what the file is.
        if_absent: the reason to give if there is no such file.
        corrupt: reason of an error while it is read.

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
    with file, opened(file, path.name, Reason.NOT_MEDIA, corrupt) as container:
        yield container


@contextmanager
def opened(
    data: bytes | BinaryIO, name: str, damaged: Reason, corrupt: Reason
) -> Iterator[av.container.InputContainer]:
    """Opens a file's bytes.

    Args:
        data: the file's contents, or the file, open for reading.
        name: the file's name: its ending says what the file is.
        damaged: reason of an error on opening.
        corrupt: reason of a later error.

    Yields:
        The open file.

    Raises:
        UnusableClipError: the bytes do not open, or the body raised an error.
        OSError: the file cannot be read.
    """
    demuxer = {**_VIDEO, **_SOUND}.get(PurePath(name).suffix.lower())
    if demuxer is None:
        raise UnusableClipError(
            Reason.NOT_MEDIA, f"{name} does not end in one of {' '.join([*VIDEOS, *SOUNDS])}"
        )
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        container = av.open(file, "r", format=demuxer, **_TEXTS)
    except av.error.FFmpegError as error:
        raise UnusableClipError(damaged, f"{name} does not open: {error.strerror}") from error
    try:
        with container:
            yield container
    except UnusableClipError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
            raise  # an error of the machine
        # PyAV raises exceptions of many kinds for damaged bytes.
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UnusableClipError(corrupt, f"{name} does not decode: {why}") from error


def chosen(streams: Sequence[_Stream]) -> _Stream | None:
    """Returns the track that a player plays: the first default one, or the first if none is the default.

    Still pictures, such as a cover, do not count. None if there is no track.
    """
    moving = [stream for stream in streams if not stream.disposition & _STILL]
    defaults = [stream for stream in moving if stream.disposition & Disposition.default]
    return next(iter(defaults or moving), None)


def decoded(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream, kind: type[_Frame]
) -> Iterator[_Frame]:
    """Yields the frames of a track, of type `kind`, up to the file's end, even if that comes too early.

    Raises:
        ValueError: the codec is unknown, or a frame is damaged or has no time.
    """
    if stream.codec_context is None:
        raise ValueError("its codec is unknown")
    stream.codec_context.thread_count = 1  # processes are the unit of parallelism
    for packet in container.demux(stream):
        if packet.is_corrupt and not _usable_if_cut(stream, packet.size):
            return
        _keep_end(packet, stream)
        for frame in packet.decode():
            assert isinstance(frame, kind)
            if frame.pts is None or not frame.time_base:
                raise ValueError("a frame has no time")
            if frame.is_corrupt:  # the decoder has filled it with guesses
                raise ValueError("a frame is damaged")
            yield frame


def whole_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream | av.AudioStream,
    kind: type[_Frame],
    on_damage: Callable[[str], None],
) -> Iterator[_Frame]:
    """Yields the frames of a track that are whole, as far as the file can be read.

    Args:
        container: the open file.
        stream: the track.
        kind: type of its frames.
        on_damage: called with a few words for each packet or frame that is left out.

    Raises:
        ValueError: the codec is unknown.
        OSError: the file cannot be read.
    """
    if stream.codec_context is None:
        raise ValueError("its codec is unknown")
    stream.codec_context.thread_type = "AUTO"
    stream.codec_context.thread_count = 0  # one a core: the file is decoded by one process
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            on_damage(f"the file cannot be read to its end: {error.strerror}")
            return
        if packet.is_corrupt and not _usable_if_cut(stream, packet.size):
            on_damage("a packet is damaged")
            continue
        _keep_end(packet, stream)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            on_damage(f"a packet does not decode: {error.strerror}")
            continue
        for frame in frames:
            assert isinstance(frame, kind)
            if frame.pts is None or not frame.time_base:
                on_damage("a frame has no time")
            elif frame.is_corrupt:  # the decoder has filled it with guesses
                on_damage("a frame is damaged")
            else:
                yield frame


def _keep_end(packet: av.Packet, stream: av.VideoStream | av.AudioStream) -> None:
    """Keeps FFmpeg 9 (PyAV 19) from cutting the delay of a sound that begins late off its end, too.

    What FFmpeg cuts is written at a packet: samples to skip at its beginning, and samples to drop at its end.
    """
    if isinstance(stream, av.AudioStream) and packet.has_sidedata("skip_samples"):
        late = max(seconds(stream.start_time, stream.time_base), Fraction(0))
        side_data = packet.get_sidedata("skip_samples")
        skip, drop, reasons = struct.unpack("<II2s", bytes(side_data))
        drop = max(drop - round(late * stream.rate), 0)
        side_data.update(struct.pack("<II2s", skip, drop, reasons))
        side_data.to_packet(packet)


def _usable_if_cut(stream: av.VideoStream | av.AudioStream, n_bytes: int) -> bool:
    """Tells whether a packet that libav calls corrupt, because the file's end cuts it short, can be decoded.

    The last packet of a sound without compression is always cut short if the header announces no length, as
    in a wav that went through a pipe. Each of its samples is there or not; none can be wrong.
    """
    if not isinstance(stream, av.AudioStream) or not stream.codec_context.name.startswith("pcm_"):
        return False
    return n_bytes >= stream.codec_context.format.bytes * stream.codec_context.layout.nb_channels


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
