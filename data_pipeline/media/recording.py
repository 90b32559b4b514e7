"""Tells how long the picture of a recording lasts, without decoding it."""

from collections.abc import Iterable
from fractions import Fraction

import av
from etils import epath

from data_pipeline.media.containers import exact, opened_picture, seconds
from data_pipeline.media.excerpt_packets import go_to, readable
from data_pipeline.media.limits import FPS
from data_pipeline.media.reasons import Reason, UnusableClipError

_END = 10
"""Seconds before the end that the header of the file states, from which packets are read."""


def recording_seconds(video: epath.Path) -> float:
    """Tells how long the picture of a video file lasts, from its first frame to the end of the last one.

    It is what the header says of the picture. If that says nothing, as in mkv, webm and flv, it is what the
    times of the packets at the file's end say, or of all packets, if the end cannot be found.

    Args:
        video: a file of any length.

    Returns:
        Its length in s.

    Raises:
        UnusableClipError: there is no such file, it is no media file, or there is no picture in it.
        OSError: it exists but cannot be read.
    """
    for near_the_end in (True, False):
        with opened_picture(video) as (container, stream):
            if stream.duration:
                return float(seconds(stream.duration, stream.time_base))
            if near_the_end:
                stated = Fraction(container.duration or 0, av.time_base)  # of picture and sound
                if not go_to(container, stream, stated - _END):
                    continue
                begin, (_, end) = stream.start_time, _span(readable(container, stream))
            else:
                begin, end = _span(readable(container, stream))
            if begin is not None and end is not None:
                return float(seconds(end - begin, stream.time_base))
    raise UnusableClipError(Reason.CORRUPT_VIDEO, f"{video.name} holds no frame")


def _span(packets: Iterable[av.Packet]) -> tuple[int | None, int | None]:
    """Returns when the first frame begins and the last one ends, in ticks; None if there is no packet."""
    begins: int | None = None
    ends: int | None = None
    for packet in packets:
        if packet.pts is not None:
            begins = packet.pts if begins is None else min(begins, packet.pts)
            end = packet.pts + (packet.duration or round(1 / FPS / exact(packet.time_base)))
            ends = end if ends is None else max(ends, end)
    return begins, ends
