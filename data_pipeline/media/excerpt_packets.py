"""Reads those packets of a track that an excerpt needs, wherever the reading begins in the file."""

import contextlib
import math
from collections.abc import Iterator
from fractions import Fraction

import av

from data_pipeline.media.containers import exact

_MOST_BYTES = 2**26
"""Packets that may have to be decoded wait in memory, up to this number of bytes."""


def go_to(container: av.container.InputContainer, stream: av.stream.Stream, seconds: Fraction) -> bool:
    """Moves the reading to a time, or somewhat before.

    Args:
        container: the open file.
        stream: the track whose key frames are looked for.
        seconds: the time in the file.

    Returns:
        Whether the file can be read from there. It may still be read from a later place than was asked for.
    """
    try:
        container.seek(round(seconds / exact(stream.time_base)), stream=stream)
    except av.error.FFmpegError:  # such a file has no index
        return False
    return True


class PicturePackets:
    """The packets of a picture, from the last key frame before a time to another time.

    Attributes:
        key: time of the key frame in ticks; None if its packet has none, or if all packets are taken.
        goes_on: whether there are packets after the last one that was taken.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        before: Fraction | None,
        until: Fraction,
    ) -> None:
        """Begins where the file is read.

        Args:
            container: the open file.
            stream: the track.
            before: time in s at or before which the key frame is shown; None: all packets are taken.
            until: time in s before which packets are decoded.
        """
        tick: Fraction = exact(stream.time_base)
        self.key: int | None = None
        self.goes_on = False
        self._packets = readable(container, stream)
        self._stream = stream
        self._before = None if before is None else math.floor(before / tick)
        self._until = math.ceil(until / tick)
        # An avi file has only the times at which packets are decoded.
        self._has_times = container.format.name != "avi"

    def __iter__(self) -> Iterator[av.Packet]:
        waiting: list[av.Packet] | None = None if self._before is None else []
        n_bytes = 0
        for packet in self._packets:
            if packet.dts is not None and packet.dts >= self._until:
                self.goes_on = True
                break
            if waiting is None:
                if packet.is_corrupt:  # the file's end cuts it short
                    break
                yield packet
                continue
            if self._begins_before(packet):
                waiting, n_bytes = [], 0
                self.key = packet.pts if self._has_times else None
            elif not waiting:
                continue
            waiting.append(packet)
            n_bytes += packet.size
            if self._may_follow_key(packet) and n_bytes < _MOST_BYTES:
                continue
            yield from waiting
            waiting = None
        yield from waiting or []
        last = av.Packet()  # makes the decoder give the frames that it holds back
        last.stream, last.time_base = self._stream, exact(self._stream.time_base)
        yield last

    def _begins_before(self, packet: av.Packet) -> bool:
        """Whether a packet is of a key frame from which decoding may begin."""
        time = packet.pts if self._has_times else packet.dts
        return _is_key(packet) and time is not None and self._before is not None and time <= self._before

    def _may_follow_key(self, packet: av.Packet) -> bool:
        """Whether a key frame may follow a packet from which decoding may begin."""
        return packet.dts is None or self._before is None or packet.dts <= self._before


def _is_key(packet: av.Packet) -> bool:
    """Whether the file calls a packet one of a key frame. The decoder may find that it is not."""
    return packet.is_keyframe


def readable(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    """Yields the packets of a track that are not empty, as far as the file can be read."""
    with contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            if packet.size:
                yield packet
