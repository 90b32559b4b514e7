"""Decodes the sound of an excerpt of a recording, as if the whole track had been decoded and then cut.

`audio` counts the samples of a track from its first one, and resamples it as a whole. So an excerpt has the
samples of the whole track only if its own first sample is counted and resampled alike. `_Count` counts it
without decoding what is before; sound is resampled from a sample on at which both sample rates meet.

The samples are the same, bit for bit, with these exceptions:

* The file gives times that are rounded, and its packets have different lengths, or samples are missing
  somewhere before: the excerpt lies as its own times say, from which `audio` lets sound differ by up to 5 ms.
* Both sample rates meet too seldom, as 44,056 Hz and 16 kHz do: the sound is shifted by less than a sample.
* The decoder makes noise of its own, for bands of which the file only says how loud they are (AAC with
  noise substitution, AC-3, WMA): another noise, as loud. Where it is faint, few samples differ, by 1.
* The decoder of MP2 carries its rounding on: samples differ by up to 2.
"""

import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from typing import Any

import av
import numpy as np
from etils import epath

from data_pipeline.media.audio import check_channels, join
from data_pipeline.media.containers import chosen, exact, opened_file, seconds
from data_pipeline.media.excerpt_packets import go_to, readable
from data_pipeline.media.limits import SAMPLE_RATE
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.track_frames import whole_frames

_LEAD = Fraction(1, 4)
"""Seconds of sound before the excerpt that are decoded rightly; the resampler needs some."""
_TAIL = Fraction(1, 20)
"""The same after the excerpt."""
_PRIMING = 150
"""Packets before those, from which the decoder gets its state: 3 s of AAC or Opus."""
_BACKS = (Fraction(4), Fraction(30), None)
"""Where reading begins, in s before the excerpt; None: at the file's beginning. Tried in this order."""
_ROUNDED = Fraction(3, 2)
"""Ticks by which the times of two frames may be wrong, because they are rounded."""
_LEAST_BACK = 3
"""Seconds before the excerpt at which reading begins at the latest."""


def decode_excerpt_sound(
    path: epath.Path, begin: Fraction, n_samples: int, if_no_file: Reason, if_no_sound: Reason
) -> tuple[np.ndarray, bool]:
    """Decodes the sound of an excerpt.

    Args:
        path: of the file.
        begin: when it begins by the file's clock, in s.
        n_samples: how long it lasts at `SAMPLE_RATE`.
        if_no_file: the reason to give if there is no such file.
        if_no_sound: the reason to give if the file has no track of sound.

    Returns:
        int16 [n], mono at `SAMPLE_RATE`, with n < `n_samples` if the sound ends before, and whether the
        sample rate was changed.

    Raises:
        UnusableClipError: the sound cannot be used.
        OSError: the file cannot be read.
    """
    count: _Count | None = None
    for back in _BACKS:
        with opened_file(path, if_no_file, Reason.CORRUPT_AUDIO, _damaged) as container:
            stream = chosen(container.streams.audio)
            if stream is None:
                raise UnusableClipError(if_no_sound, f"{path.name} has no sound")
            if count is None:
                count = _Count(islice(whole_frames(container, stream, av.AudioFrame, _ignore), 3))
            if back is not None and not _moved(container, stream, begin - back, count):
                continue
            source = _Source(container, stream, begin, begin + Fraction(n_samples, SAMPLE_RATE), path.name)
            if back is not None and not source.begins_before(begin - _LEAST_BACK):
                continue
            return _joined(source, count, begin, n_samples, path.name)
    raise AssertionError("reading from the beginning always succeeds")


def _damaged(head: bytes) -> Reason:
    """Returns why a file does not open, by its first bytes."""
    return Reason.CORRUPT_AUDIO if head else Reason.EMPTY_AUDIO


def _moved(
    container: av.container.InputContainer, stream: av.AudioStream, time: Fraction, count: "_Count"
) -> bool:
    """Moves the reading to a time, in s, if that is not before the track's first frame."""
    # The index of a video file may list its key frames only.
    return time > count.start and go_to(container, chosen(container.streams.video) or stream, time)


def _joined(
    source: "_Source", count: "_Count", begin: Fraction, n_samples: int, name: str
) -> tuple[np.ndarray, bool]:
    frames, start = _aligned(iter(source), count, begin)
    first = next(frames, None)
    if first is None and source.goes_on:  # it is silent
        return np.zeros(n_samples, np.int16), False
    sound = join(chain([first] if first else [], frames), name, begin, any_length=True, start=start)
    check_channels(sound, name)
    samples = sound.samples[:n_samples]
    if source.goes_on:
        samples = np.pad(samples, (0, n_samples - len(samples)))
    return samples, sound.resampled


def _aligned(
    frames: Iterator[av.AudioFrame], count: "_Count", begin: Fraction
) -> tuple[Iterator[av.AudioFrame], Fraction | None]:
    """Leaves out samples up to one that is a sample at `SAMPLE_RATE`, too, if the whole track is resampled.

    Returns:
        The frames, and the time of the first one by the track's count, in s; None if its own time counts.
    """
    first = next(frames, None)
    if first is None:
        return frames, None
    n_before = count.samples_before(first)
    if n_before is None or seconds(first.pts, first.time_base) > begin - _LEAD:  # a run begins here
        return chain([first], frames), None
    rate = first.sample_rate
    step = 2 * rate // math.gcd(rate, SAMPLE_RATE)  # an even number of samples, for the rounding of places
    n_left_out = -n_before % step
    if n_left_out > rate * _LEAD / 2:  # both rates meet so seldom that a filter has no exact phases
        n_left_out = 0
    start = count.start + Fraction(n_before + n_left_out, rate)
    while first is not None and n_left_out >= first.samples:
        n_left_out -= first.samples
        first = next(frames, None)
    return chain([_without(first, n_left_out)] if first else [], frames), start


def _without(frame: av.AudioFrame, n_samples: int) -> av.AudioFrame:
    """Returns a frame without its first samples."""
    if not n_samples:
        return frame
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    samples: Any = np.ascontiguousarray(frame.to_ndarray()[:, n_samples * width :])
    rest = av.AudioFrame.from_ndarray(samples, frame.format, frame.layout)
    rest.sample_rate, rest.time_base = frame.sample_rate, frame.time_base
    later = Fraction(n_samples, frame.sample_rate) / exact(frame.time_base)
    rest.pts = (frame.pts or 0) + round(later)
    return rest


class _Count:
    """Counts the samples of a track before a frame, from the frame's time.

    Attributes:
        start: time of the track's first frame in s.
    """

    def __init__(self, frames: Iterator[av.AudioFrame]) -> None:
        """Begins with the first three frames of the track; of the first one, priming may be cut off."""
        first = list(frames)
        self.start = seconds(first[0].pts, first[0].time_base) if first else Fraction(0)
        self._rate = first[0].sample_rate if first else 0
        lengths = [frame.samples for frame in first]
        self._offset = lengths[0] if lengths else 0
        self._length = lengths[1] if len(lengths) == 3 and lengths[1] == lengths[2] else 0

    def samples_before(self, frame: av.AudioFrame) -> int | None:
        """Returns how many samples of the track come before a frame; None if that is not known."""
        tick = exact(frame.time_base) * frame.sample_rate  # in samples
        passed = (seconds(frame.pts, frame.time_base) - self.start) * frame.sample_rate
        if frame.sample_rate != self._rate:
            return None
        if (1 / tick).denominator == 1 and passed.denominator == 1:  # its clock counts samples
            return int(passed)
        if not self._length:
            return None
        counted = self._offset + round((passed - self._offset) / self._length) * self._length
        return counted if abs(counted - passed) <= _ROUNDED * tick else None


class _Source:
    """The frames of an excerpt, and of `_LEAD` s before and `_TAIL` s after it.

    Attributes:
        goes_on: whether there is sound after them.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.AudioStream,
        begin: Fraction,
        end: Fraction,
        name: str,
    ) -> None:
        self.goes_on = False
        self._container, self._stream, self._name = container, stream, name
        self._begin, self._end = begin - _LEAD, end + _TAIL
        self._tick = exact(stream.time_base)
        packets = readable(container, stream)
        self._first = next(packets, None)
        self._packets = chain([self._first] if self._first else [], packets)

    def begins_before(self, time: Fraction) -> bool:
        """Whether the packets that are read begin before a time, in s."""
        return self._first is not None and seconds(self._first.pts, self._first.time_base) <= time

    def __iter__(self) -> Iterator[av.AudioFrame]:
        for frame in whole_frames(
            self._container, self._stream, av.AudioFrame, self._check, self._primed_packets()
        ):
            time = seconds(frame.pts, frame.time_base)
            if time >= self._end:
                self.goes_on = True
                return
            if time + Fraction(frame.samples, frame.sample_rate) > self._begin:
                yield frame

    def _primed_packets(self) -> Iterator[av.Packet]:
        """Yields the packets of the excerpt, after `_PRIMING` ones before them."""
        begin = math.ceil(self._begin / self._tick)
        before: deque[av.Packet] = deque(maxlen=_PRIMING)
        for packet in self._packets:
            before.append(packet)
            if packet.pts is None or packet.pts >= begin:
                break
        yield from before
        yield from self._packets

    def _check(self, what: str, at: int | None) -> None:
        """Refuses damage within the excerpt."""
        if at is None or self._begin <= at * self._tick < self._end:
            raise UnusableClipError(Reason.CORRUPT_AUDIO, f"{self._name} does not decode: {what}")


def _ignore(what: str, at: int | None) -> None:
    """Leaves damage at the track's beginning unnoted."""
