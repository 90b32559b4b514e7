"""Decodes the frames of a track, each with the time at which it is shown or heard."""

import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, TypeVar

import av

from data_pipeline.media.containers import exact, seconds

OnDamage = Callable[[str, int | None], None]
"""Called for a packet or a frame that is left out: a few words, and its time in ticks if that is known."""

_Frame = TypeVar("_Frame", av.VideoFrame, av.AudioFrame)
_Stream = av.VideoStream | av.AudioStream


def decoded(container: av.container.InputContainer, stream: _Stream, kind: type[_Frame]) -> Iterator[_Frame]:
    """Yields the frames of a track, of type `kind`, up to the file's end, even if that comes too early.

    Raises:
        ValueError: the codec is unknown, or a frame is damaged or has no time.
    """
    _begin(stream)
    times = TimesOfAvi(stream)
    for packet in container.demux(stream):
        if packet.is_corrupt and not _usable_if_cut(stream, packet.size):
            return
        _keep_end(packet, stream)
        for frame in times.corrected(packet, packet.decode()):
            assert isinstance(frame, kind)
            if frame.pts is None or not frame.time_base:
                raise ValueError("a frame has no time")
            if frame.is_corrupt:  # the decoder has filled it with guesses
                raise ValueError("a frame is damaged")
            yield frame


def whole_frames(
    container: av.container.InputContainer,
    stream: _Stream,
    kind: type[_Frame],
    on_damage: OnDamage,
    packets: Iterable[av.Packet] | None = None,
    times: "TimesOfAvi | None" = None,
) -> Iterator[_Frame]:
    """Yields the frames of a track that are whole, as far as the file can be read.

    A frame without a time comes right after the one before it.

    Args:
        container: the open file.
        stream: the track.
        kind: type of its frames.
        on_damage: called for each packet or frame that is left out.
        packets: of the track, which are decoded; by default all from the file's place on.
        times: what is known of the times in an avi file, if frames before these were decoded.

    Raises:
        ValueError: the codec is unknown.
        OSError: the file cannot be read.
    """
    _begin(stream)
    times = times or TimesOfAvi(stream)
    packets = iter(container.demux(stream) if packets is None else packets)
    after: int | None = None  # the time after the last frame, in ticks
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            on_damage(f"the file cannot be read to its end: {error.strerror}", None)
            return
        if packet.is_corrupt and not _usable_if_cut(stream, packet.size):
            on_damage("a packet is damaged", packet.pts)
            continue
        _keep_end(packet, stream)
        try:
            frames = times.corrected(packet, packet.decode())
        except av.error.FFmpegError as error:
            on_damage(f"a packet does not decode: {error.strerror}", packet.pts)
            continue
        for frame in frames:
            assert isinstance(frame, kind)
            if frame.pts is None:
                frame.pts = after  # as at the end of a wmv file
            if frame.pts is None or not frame.time_base:
                on_damage("a frame has no time", None)
                continue
            after = frame.pts + _ticks(frame)
            if frame.is_corrupt:
                on_damage("a frame is damaged", frame.pts)
            else:
                yield frame


def _begin(stream: _Stream) -> None:
    if stream.codec_context is None:
        raise ValueError("its codec is unknown")
    # Processes are the unit of parallelism. And PyAV may wait without end for a thread that wants to log, if
    # another library has switched its messages on.
    if stream.codec_context.thread_count != 1:  # it cannot be set again after frames were decoded
        stream.codec_context.thread_count = 1


def _ticks(frame: av.VideoFrame | av.AudioFrame) -> int:
    """Returns how long a frame lasts."""
    if isinstance(frame, av.AudioFrame):
        return round(Fraction(frame.samples, frame.sample_rate) / exact(frame.time_base))
    return frame.duration


class TimesOfAvi:
    """Gives the pictures of an avi file their times.

    An avi file has only the times at which packets are decoded. What libav makes of them has the wrong order
    if pictures refer to later ones (B-frames). The decoder's order is right. The first picture is shown at
    the time of the first packet, and the others as much later as they leave the decoder later.

    Attributes:
        delay: number of ticks by which the decoder holds a frame back; None if that is not known, or if the
            file is of another kind.
    """

    def __init__(self, stream: _Stream) -> None:
        self._is_avi = stream.container.format.name == "avi" and isinstance(stream, av.VideoStream)
        self._first_packet: int | None = None
        self.delay: int | None = None
        self._next = 0

    def corrected(self, packet: av.Packet, frames: list[Any]) -> list[Any]:
        """Corrects the times of the frames that came out of the decoder after a packet."""
        if not self._is_avi:
            return frames
        if self._first_packet is None:
            self._first_packet = packet.dts
        for frame in frames:
            if self.delay is None:
                self.delay = (frame.dts or 0) - (self._first_packet or 0)
            # At the file's end the decoder gives the frames that it holds back, without a time.
            frame.pts = self._next if frame.dts is None else frame.dts - self.delay
            self._next = frame.pts + (frame.duration or 1)
        return frames


def _keep_end(packet: av.Packet, stream: _Stream) -> None:
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


def _usable_if_cut(stream: _Stream, n_bytes: int) -> bool:
    """Tells whether a packet that libav calls corrupt, because the file's end cuts it short, can be decoded.

    The last packet of a sound without compression is always cut short if the header announces no length, as
    in a wav that went through a pipe. Each of its samples is there or not; none can be wrong.
    """
    if not isinstance(stream, av.AudioStream) or not stream.codec_context.name.startswith("pcm_"):
        return False
    return n_bytes >= stream.codec_context.format.bytes * stream.codec_context.layout.nb_channels
