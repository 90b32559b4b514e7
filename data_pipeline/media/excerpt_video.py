"""Decodes the picture of an excerpt of a recording, as if the whole file had been decoded and then cut.

Decoding begins at the last key frame before the excerpt, which is found by the file's index, or by reading
the packets before it without decoding them. Frames are sought by their times, so a file must not go back in
time. All else is as in `video`.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import av
import numpy as np
from etils import epath

from data_pipeline.media.containers import exact, opened_picture
from data_pipeline.media.excerpt_packets import PicturePackets, go_to
from data_pipeline.media.frame_times import nearest_frame
from data_pipeline.media.limits import MAX_GAP, MAX_LENGTH_DIFFERENCE
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.span import Span
from data_pipeline.media.track_frames import TimesOfAvi, whole_frames
from data_pipeline.media.upright import Upright
from data_pipeline.media.video import Encode, Encoded, Picture


class _Way(NamedTuple):
    """A way to find the key frame from which an excerpt is decoded.

    Attributes:
        back: where reading begins, in s before the excerpt; None: at the file's beginning.
        before: how long before the excerpt the key frame is at least, in s; None: all frames are decoded.
    """

    back: Fraction | None
    before: Fraction | None


_WAYS = (
    _Way(Fraction(1), Fraction(0)),
    _Way(Fraction(30), Fraction(2)),  # the time of a key frame in the file may be too early
    _Way(None, Fraction(2)),
    _Way(None, None),
)
"""Tried in this order."""


def decode_excerpt(path: epath.Path, span: Span, encode: Encode) -> Picture:
    """Decodes the picture of an excerpt.

    Args:
        path: of the video file.
        span: the excerpt.
        encode: makes the JPEG of a frame; its time counts from the excerpt's begin.

    Returns:
        The picture; `Picture.start` is the time of the first frame of the file. Its last frames are missing
        if the file ends less than `MAX_LENGTH_DIFFERENCE` before the excerpt does.

    Raises:
        UnusableClipError: the excerpt cannot be used, or reaches beyond the end of the file.
        OSError: the file cannot be read.
    """
    encoded, source = Encoded(), _Source(path, span)
    for time, frame, picture in source:
        encoded.add(frame, encode(time, picture))
    length = span.end if source.goes_on else (encoded.span()[1] - source.first) * source.tick
    if span.end - length >= MAX_LENGTH_DIFFERENCE:
        detail = f"{path.name} ends at {float(length):.2f} s, the excerpt at {float(span.end):.2f} s"
        raise UnusableClipError(Reason.TRUNCATED_VIDEO, detail)
    gap = span.begin - (encoded.times[0] - source.first) * source.tick
    if gap >= MAX_GAP:
        detail = f"the timestamps of {path.name} are wrong: no frame for {float(gap) / 3_600:.1f} hours"
        raise UnusableClipError(Reason.CORRUPT_VIDEO, detail)
    numbers = slice(span.first, span.last)
    ticks = -(-length // source.tick)
    jpegs, resampled = encoded.on_screen(source.first, ticks, source.tick, numbers)
    return Picture(jpegs, source.first * source.tick, source.size, resampled)


class _Source:
    """The frames that are on the screen in an excerpt.

    Attributes:
        first: time of the first frame of the file, in ticks.
        tick: unit of the frames' times, in s.
        size: (height, width) of the pictures in pixels.
        goes_on: whether the picture lasts up to the excerpt's end.
    """

    def __init__(self, path: epath.Path, span: Span) -> None:
        self.first, self.tick = 0, Fraction(1)
        self.size = (0, 0)
        self.goes_on = False
        self._path, self._span = path, span
        self._times: TimesOfAvi | None = None  # known when the first frame of the file is decoded
        self._damage: str | None = None

    def __iter__(self) -> Iterator[tuple[Fraction, av.VideoFrame, np.ndarray]]:
        """Yields the time of each frame after the excerpt's begin, in s, the frame, and its picture."""
        upright: Upright | None = None
        for way in _WAYS:
            with opened_picture(self._path) as (container, stream):
                if upright is None:
                    upright = self._begin(container, stream)
                if way.back is not None and not go_to(container, stream, self._before(way.back)):
                    continue
                packets = self._packets(container, stream, way)
                frames = self._decoded(container, stream, packets)
                first = next(frames, None)
                if self._damage is None and (first is None or not self._fits(first, way)):
                    continue
                for frame in self._on_screen(chain([first] if first else [], frames)):
                    time = (_time(frame) - self.first) * self.tick - self._span.begin
                    yield max(time, Fraction(0)), frame, upright.picture(frame)
                self.goes_on |= packets.goes_on
                if self._damage is not None:
                    excerpt = f"{float(self._span.begin):.2f} s to {float(self._span.end):.2f} s"
                    detail = f"{self._path.name} does not decode from {excerpt}: {self._damage}"
                    raise UnusableClipError(Reason.CORRUPT_VIDEO, detail)
                return
        raise UnusableClipError(Reason.CORRUPT_VIDEO, f"{self._path.name} has no frame that decodes")

    def _begin(self, container: av.container.InputContainer, stream: av.VideoStream) -> Upright:
        """Decodes the first frame of the file: it decides on the clock and on the size of the pictures."""
        self._times = TimesOfAvi(stream)
        first = next(whole_frames(container, stream, av.VideoFrame, _ignore, times=self._times), None)
        if first is None:
            raise UnusableClipError(Reason.CORRUPT_VIDEO, f"{self._path.name} has no frame that decodes")
        upright = Upright(exact(stream.sample_aspect_ratio), self._path.name)
        upright.picture(first)
        self.first, self.tick, self.size = first.pts or 0, exact(first.time_base), upright.size
        return upright

    def _before(self, back: Fraction) -> Fraction:
        """The time in the file, in s, that comes before the excerpt."""
        return self.first * self.tick + max(self._span.begin - back, Fraction(0))

    def _packets(
        self, container: av.container.InputContainer, stream: av.VideoStream, way: _Way
    ) -> PicturePackets:
        before = None if way.before is None else self._before(way.before)
        until = self.first * self.tick + self._span.end
        if self._times is not None and self._times.delay is not None:
            until += self._times.delay * self.tick
        return PicturePackets(container, stream, before, until)

    def _decoded(
        self, container: av.container.InputContainer, stream: av.VideoStream, packets: PicturePackets
    ) -> Iterator[av.VideoFrame]:
        """Yields the frames of packets, and notes what is damaged.

        Frames that are decoded after the key frame but shown before it may refer to others before it.
        """

        def note(what: str, at: int | None) -> None:
            if at is None or packets.key is None or at >= packets.key:
                self._damage = self._damage or what

        for frame in whole_frames(container, stream, av.VideoFrame, note, packets, self._times):
            if packets.key is None or _time(frame) >= packets.key:
                yield frame

    def _fits(self, first: av.VideoFrame, way: _Way) -> bool:
        """Whether all frames of the excerpt come after this one, which refers to no other."""
        return way.before is None or (first.key_frame and self._number(first) <= self._span.first)

    def _number(self, frame: av.VideoFrame) -> int:
        """The number of the 1/`FPS` s in which a frame begins."""
        return nearest_frame(_time(frame) - self.first, self.tick)

    def _on_screen(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Leaves out the frames before and after the excerpt, except one that is still there as it begins."""
        held: av.VideoFrame | None = None
        begun = False
        for frame in frames:
            number = self._number(frame)
            if number >= self._span.last:
                self.goes_on = True
            elif number >= self._span.first or begun:
                if not begun and held is not None and number > self._span.first:
                    yield held
                begun = True
                yield frame
            elif held is None or _time(frame) >= _time(held):
                held = frame
        if not begun and held is not None:
            yield held


def _time(frame: av.VideoFrame) -> int:
    """The time of a frame in ticks."""
    assert frame.pts is not None  # `whole_frames` gives a time to all
    return frame.pts


def _ignore(what: str, at: int | None) -> None:
    """Leaves a damage before the first frame unnoted."""
