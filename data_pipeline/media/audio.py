"""Decodes a clip's sound to 16 kHz mono int16, each sample at the time that its file gives it.

The frames of a track are joined to runs without a gap or a change of rate, layout or format. Each run is
resampled by itself and placed where its first timestamp says. Between two runs there is silence; where two
overlap, the later one counts. A track whose timestamps contradict its samples all the time is refused, for
its sound would be in shreds.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np

from data_pipeline.media.containers import chosen, exact, opened, seconds
from data_pipeline.media.limits import MAX_GAP, MAX_LENGTH_DIFFERENCE, SAMPLE_RATE, check_seconds
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.track_frames import decoded

_LEAST_GAP = 0.005
"""Seconds. Timestamps are rounded; a difference below this is no gap. It does not add up."""
_FEW_RUNS = 5
_MOST_RUNS = 2
"""Runs a second that a track may have, besides a few."""
_CANCELLED = 0.01
"""If mono has less than this share of the channels' mean power, the channels cancel each other."""
_MOST_CANCELLED = 0.1
"""A clip is left out if this share of its sound's energy or more is in frames that cancel."""


def decode_audio(data: bytes, name: str, if_absent: Reason, origin: Fraction) -> tuple[np.ndarray, bool]:
    """Decodes the sound of a file.

    Args:
        data: the file's contents.
        name: the file's name.
        if_absent: the reason to give if the file has no track of sound.
        origin: the time in the file, in s, at which the result begins: earlier sound is cut, and before later
            sound there is silence.

    Returns:
        int16 [n], mono at `SAMPLE_RATE`, and whether the sample rate was changed.

    Raises:
        UnusableClipError: the sound cannot be used.
    """
    if not data:
        raise UnusableClipError(Reason.EMPTY_AUDIO, f"{name} has 0 bytes")
    with opened(data, name, Reason.CORRUPT_AUDIO, Reason.CORRUPT_AUDIO) as container:
        stream = chosen(container.streams.audio)
        if stream is None:
            raise UnusableClipError(if_absent, f"{name} has no sound")
        sound = join(decoded(container, stream, av.AudioFrame), name, origin)
    check_channels(sound, name)
    return sound.samples, sound.resampled


class Sound(NamedTuple):
    """The sound of a track.

    Attributes:
        samples: int16 [n], mono at `SAMPLE_RATE`.
        resampled: whether a sample rate was changed.
        cancelled: whether the channels cancel each other, so that too much of the sound is lost in mono.
    """

    samples: np.ndarray
    resampled: bool
    cancelled: bool


def check_channels(sound: Sound, name: str) -> None:
    """Checks that a sound is not lost in mono.

    Raises:
        UnusableClipError: its channels cancel each other.
    """
    if sound.cancelled:
        detail = (
            f"the channels of {name} cancel each other: keep one, "
            'for example with ffmpeg -af "pan=mono|c0=c0"'
        )
        raise UnusableClipError(Reason.CANCELLED_AUDIO, detail)


def join(
    frames: Iterable[av.AudioFrame],
    name: str,
    origin: Fraction | None,
    any_length: bool = False,
    first_channel: bool = False,
    start: Fraction | None = None,
) -> Sound:
    """Joins the frames of a track to its sound, each frame at its time.

    Args:
        frames: in the order of the file.
        name: the file's name, for messages.
        origin: the time in the file, in s, at which the result begins; None: at the first frame.
        any_length: whether the sound may last longer than `limits.MAX_SECONDS`.
        first_channel: take the first channel instead of mixing all channels.
        start: time of the first frame in s, where it is known better than its timestamp says it.

    Raises:
        UnusableClipError: there is no frame, the sound lasts too long, or its timestamps contradict it.
    """
    mix = _Mix()
    timeline: _Timeline | None = None
    run: _Run | None = None
    for frame in frames:
        if run is None or timeline is None or not run.goes_on_with(frame):
            following = _Run(frame, first_channel, start if run is None else None)
            if timeline is None:
                timeline = _Timeline(following.start if origin is None else origin, name)
            if run is not None:
                timeline.place(run)
            run = following
        run.add(frame)
        mix.add(frame)
        if not any_length:  # the last block may reach beyond the end
            check_seconds(run.end - float(min(timeline.origin, run.start)) - MAX_LENGTH_DIFFERENCE, name)
    if run is None or timeline is None:
        raise UnusableClipError(Reason.EMPTY_AUDIO, f"{name} has no sample")
    timeline.place(run)
    return Sound(timeline.sound(), timeline.resampled, mix.cancelled)


class _Run:
    """Sound without a gap or a change of format.

    Attributes:
        start: its time in s, exactly.
        end: the time after its last sample in s.
        last_block: the time of its last block in s.
        rate: its sample rate in Hz.
    """

    def __init__(self, first: av.AudioFrame, first_channel: bool, start: Fraction | None) -> None:
        self.start = seconds(first.pts, first.time_base) if start is None else start
        self.last_block = self.end = float(self.start)
        self.rate = first.sample_rate
        self._kind = _kind(first)
        self._tick = float(exact(first.time_base))
        self._n_samples = 0
        self._padding = 0.0
        layout = None if first_channel else "mono"  # None keeps all channels
        self._resampler = av.AudioResampler(format="s16p", layout=layout, rate=SAMPLE_RATE)
        self._pieces: list[np.ndarray] = []

    def goes_on_with(self, frame: av.AudioFrame) -> bool:
        late = (frame.pts or 0) * self._tick - self.end
        return _kind(frame) == self._kind and abs(late) < max(_LEAST_GAP, 1.5 * self._tick)

    def add(self, frame: av.AudioFrame) -> None:
        self.last_block = self.end
        self._n_samples += frame.samples
        self.end = float(self.start) + self._n_samples / self.rate
        # AAC comes in blocks of 1,024 samples. Only the duration of the last block tells how much of it is
        # sound.
        if frame.duration:
            self._padding = max(frame.samples / self.rate - frame.duration * self._tick, 0.0)
        self._resample(frame)

    def samples(self) -> np.ndarray:
        """Ends the run and returns its int16 [n] at `SAMPLE_RATE`."""
        self._resample(None)
        whole = np.concatenate([np.zeros(0, np.int16), *self._pieces])
        return whole[: max(len(whole) - round(self._padding * SAMPLE_RATE), 0)]

    def _resample(self, frame: av.AudioFrame | None) -> None:
        # A resampler that has nothing to do returns None for None.
        self._pieces += [part.to_ndarray()[0] for part in self._resampler.resample(frame) if part]


def _kind(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


class _Timeline:
    """The sound so far.

    Attributes:
        origin: the time of its first sample, in s.
        resampled: whether a sample rate was changed.
    """

    def __init__(self, origin: Fraction, name: str) -> None:
        self.origin = origin
        self._name = name
        self._placed: list[tuple[int, np.ndarray]] = []  # each run and its place, in samples
        self._last_block = self._backwards = 0.0
        self._end = float(origin)
        self.resampled = False

    def place(self, run: _Run) -> None:
        """Places a run at its time.

        Raises:
            UnusableClipError: there are two sounds for one time, or none for `MAX_GAP`. Only the last block
                of a run may reach into the next run, as it does where an edit list cuts a film.
        """
        if float(run.start) - self._end >= MAX_GAP:
            gap = f"no sound for {(float(run.start) - self._end) / 3_600:.1f} hours"
            raise UnusableClipError(Reason.CORRUPT_AUDIO, f"the timestamps of {self._name} are wrong: {gap}")
        self._end = run.end
        if self._placed:
            self._backwards += max(self._last_block - float(run.start), 0.0)
            if self._backwards >= MAX_LENGTH_DIFFERENCE:
                detail = f"the timestamps of {self._name} go back by {self._backwards:.2f} s"
                raise UnusableClipError(Reason.OVERLAPPING_AUDIO, detail)
        self._last_block = run.last_block
        self._placed.append((round((run.start - self.origin) * SAMPLE_RATE), run.samples()))
        self.resampled |= run.rate != SAMPLE_RATE

    def sound(self) -> np.ndarray:
        """Returns int16 [n] from the origin to the last run's end. Where runs overlap, the later one is kept.

        Raises:
            UnusableClipError: there are too many runs.
        """
        length = max(0, *(at + len(samples) for at, samples in self._placed))
        if len(self._placed) > _FEW_RUNS + _MOST_RUNS * length / SAMPLE_RATE:
            detail = f"the timestamps of {self._name} contradict its sound {len(self._placed) - 1} times"
            raise UnusableClipError(Reason.CORRUPT_AUDIO, detail)
        sound = np.zeros(length, np.int16)
        for at, samples in self._placed:
            sound[max(at, 0) : max(at + len(samples), 0)] = samples[max(-at, 0) :]
        return sound


class _Mix:
    """Watches whether the channels of a sound cancel each other in mono, as with opposite phases."""

    def __init__(self) -> None:
        self._energy = self._cancelled = 0.0
        self._mixer: av.AudioResampler | None = None
        self._kind = ("", "", 0)

    def add(self, frame: av.AudioFrame) -> None:
        n_channels = frame.layout.nb_channels
        if n_channels < 2 or not frame.samples:
            return
        if self._mixer is None or self._kind != _kind(frame):
            self._kind = _kind(frame)
            self._split = av.AudioResampler(format="fltp", rate=frame.sample_rate)
            self._mixer = av.AudioResampler(format="fltp", layout="mono", rate=frame.sample_rate)
        channels = np.concatenate([part.to_ndarray() for part in self._split.resample(frame)], axis=1)
        mono = np.concatenate([part.to_ndarray() for part in self._mixer.resample(frame)], axis=1)
        power = float(np.square(channels, dtype=np.float64).sum()) / n_channels
        self._energy += power
        if float(np.square(mono, dtype=np.float64).sum()) < _CANCELLED * power:
            self._cancelled += power

    @property
    def cancelled(self) -> bool:
        """Whether too much of the sound is lost."""
        return self._energy > 0 and self._cancelled >= _MOST_CANCELLED * self._energy
