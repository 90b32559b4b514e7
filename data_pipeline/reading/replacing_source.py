"""Reads samples of several sets by number. Reading never fails: a broken clip is replaced by another.

In terabytes of storage something is always broken. A record that does not parse, a frame that does not decode
or a missing shard must not stop a training run, and must not change which clips other hosts train on. So a
hash of the broken clip's number chooses its replacement: the same clip on every host, in every run and after
every restart. `ReplacingSource.read` only returns which clip it read. The process that trains finds out why
(`ReplacingSource.diagnose`) and reports each broken clip once.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath

from data_pipeline.common.errors import typed_line
from data_pipeline.reading.named_sets import NamedSets, set_names
from data_pipeline.reading.requests import NO_CLIP, ClipRequest, hash_of

_ATTEMPTS = 32  # clips chosen by hash, the first of which is the requested one
_PROBES = 256  # clips of a set that are tried at the start until one can be read


class UnusableSampleError(ValueError):
    """A clip that can be read but not trained on; the message says why."""


class Sampling(Protocol):
    """How samples are cut out of clips; the set that reads them knows the rest."""

    @property
    def frames(self) -> int:
        """Frames in a sample."""
        ...


class SampleSet(Protocol):
    """One set, read sample by sample. Picklable.

    Attributes:
        root: the set's directory.
    """

    root: epath.Path

    def __len__(self) -> int:
        """Returns the number of clips."""
        ...

    def read(self, clip: int, draw: float, sampling: Any, frames: np.ndarray, audio: np.ndarray) -> int:
        """Reads one sample into the caller's arrays, or raises any exception.

        Args:
            clip: number of the clip in this set.
            draw: uniform in [0, 1); decides all that is random in the sample.
            sampling: how to cut a sample out of the clip.
            frames: uint8[T, H, W, 3] to fill.
            audio: int16[N] to fill; the part after the end of the sound is set to 0.

        Returns:
            How many of the N samples are sound.
        """
        ...

    def name(self, clip: int) -> str:
        """Returns a clip's name and where it is stored."""
        ...


class ReplacingSource:
    """Several sets, read as one. Reading never fails.

    Attributes:
        sets: the sets; example ids count the clips of the first set, then those of the second, and so on.
        sampling: how samples are cut.
        frame_shape: (height, width, 3) of the frames.
        audio_samples: largest number of audio samples that belong to one sample.

    Args:
        sets: the sets.
        sampling: how to cut samples; it also has `frames`, their number in a sample.
        frame_shape: (height, width, 3).
        audio_samples: largest number of audio samples of a sample.

    Raises:
        ValueError: a set has no readable clip.
    """

    def __init__(
        self,
        sets: Sequence[SampleSet],
        sampling: Sampling,
        frame_shape: tuple[int, int, int],
        audio_samples: int,
    ) -> None:
        self.sets = tuple(sets)
        self.sampling = sampling
        self.frame_shape = frame_shape
        self.audio_samples = audio_samples
        self._fallbacks = [self._readable_clip(s) for s in self.sets]

    def __len__(self) -> int:
        """Returns the number of clips in all sets."""
        return sum(len(clips) for clips in self.sets)

    def first_example(self, number: int) -> int:
        """Returns the example id of the first clip of set `number`."""
        return sum(len(clips) for clips in self.sets[:number])

    def named_sets(self) -> NamedSets:
        """Returns the sets with the short names by which they are logged."""
        names = set_names([os.fspath(clips.root) for clips in self.sets])
        return NamedSets(names, tuple(map(self.first_example, range(len(names)))))

    def read(self, request: ClipRequest, frames: np.ndarray, audio: np.ndarray) -> tuple[int, int]:
        """Reads a sample, or its replacement, into the caller's arrays.

        Args:
            request: sample to read.
            frames: uint8[T, H, W, 3] to fill.
            audio: int16[audio_samples] to fill.

        Returns:
            (example id of the clip that was read, number of samples of sound). If no clip at all could be
            read: `NO_CLIP` and 0, and both arrays are filled with 0.
        """
        for number, clip in self._candidates(request.example):
            try:
                samples = self.sets[number].read(clip, request.draw, self.sampling, frames, audio)
            except Exception:  # of any kind: `diagnose` tells the trainer why
                continue
            return self.first_example(number) + clip, samples
        frames[:], audio[:] = 0, 0
        return NO_CLIP, 0

    def diagnose(self, request: ClipRequest) -> dict[int, str]:
        """Returns why a clip was replaced: example id → one line for each clip that cannot be read."""
        frames, audio = self.empty_sample()
        broken = {}
        for number, clip in self._candidates(request.example):
            try:
                self.sets[number].read(clip, request.draw, self.sampling, frames, audio)
            except Exception as error:
                name = self.sets[number].name(clip)
                broken[self.first_example(number) + clip] = f"{name}: {typed_line(error, 300)}"
            else:
                break
        return broken

    def name(self, example: int) -> str:
        """Returns a clip's name and where it is stored."""
        number, clip = next(self._candidates(example))
        return self.sets[number].name(clip)

    def empty_sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns arrays that `read` can fill: uint8[T, H, W, 3] and int16[audio_samples]."""
        return (
            np.empty((self.sampling.frames, *self.frame_shape), np.uint8),
            np.empty(self.audio_samples, np.int16),
        )

    def _candidates(self, example: int) -> Iterator[tuple[int, int]]:
        """Yields (set, clip) of the requested clip, then of at most 32 replacements from the same set."""
        number, clip = 0, example
        while clip >= len(self.sets[number]):
            clip -= len(self.sets[number])
            number += 1
        yield number, clip
        for attempt in range(1, _ATTEMPTS):
            yield number, hash_of(clip, attempt) % len(self.sets[number])
        yield number, self._fallbacks[number]

    def _readable_clip(self, clips: SampleSet) -> int:
        """Finds a clip that can be read: the last replacement, should all others be unreadable."""
        frames, audio = self.empty_sample()
        last = None
        probes = min(_PROBES, len(clips))
        for clip in (probe * len(clips) // probes for probe in range(probes)):
            try:
                clips.read(clip, 0.0, self.sampling, frames, audio)
            except Exception as error:
                last = error
            else:
                return clip
        raise ValueError(
            f"{clips.root}: none of {probes} clips tried can be read ({type(last).__name__}: {last})"
        ) from last
