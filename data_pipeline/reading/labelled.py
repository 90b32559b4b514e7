"""Labelled sets, read sample by sample for fine-tuning and scoring: a window of frames and its sound.

A source holds the clips of one part of the data only, such as the training clips of a fold. So a clip that
cannot be read is replaced by one of the same part, never by a test clip.
"""

import abc
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from data_pipeline.common.buckets import is_bucket
from data_pipeline.format.finetune_sampling import FinetuneSampling
from data_pipeline.format.labelled_record import parse_clip
from data_pipeline.format.labelled_set import CLIPS, LABELLED, LabelledClip, LabelledSet, read_labelled_set
from data_pipeline.reading import randaugment
from data_pipeline.reading.replacing_source import ReplacingSource
from data_pipeline.reading.requests import hash_of
from data_pipeline.reading.sample_arrays import fill_frames, fill_sound
from data_pipeline.reading.shard_cache import ShardCache
from data_pipeline.reading.shards import allow_open_files, open_shards
from data_pipeline.reading.staged_set import StagedSet, keep_all, stage

VIEWS = 2
"""Windows of a clip that are scored: its first frames and its last (published code)."""


class Cutting(abc.ABC):
    """How samples are cut out of labelled clips.

    Attributes:
        augment: apply RandAugment to the frames.

    Args:
        sampling: number of frames and stride.
        augment: apply RandAugment to the frames.
    """

    def __init__(self, sampling: FinetuneSampling, augment: bool = False) -> None:
        self._sampling = sampling
        self.augment = augment

    @property
    def frames(self) -> int:
        """Frames in a sample."""
        return self._sampling.frames

    def cut(self, draw: float, n_frames: int, n_samples: int) -> tuple[list[int], tuple[int, int]]:
        """Returns the frames of the sample, and its first sample of sound and one past the last.

        Args:
            draw: uniform in [0, 1); decides all that is random.
            n_frames: frames of the clip.
            n_samples: samples of sound of the clip.
        """
        indices = self._indices(draw, n_frames)
        return indices, self._sampling.audio_span(indices[0], n_frames, n_samples)

    @abc.abstractmethod
    def _indices(self, draw: float, n_frames: int) -> list[int]:
        """Returns the frames of the sample."""


class DrawnWindow(Cutting):
    """A training sample: a window that starts at a random frame."""

    def _indices(self, draw: float, n_frames: int) -> list[int]:
        return self._sampling.train_frames(self._sampling.train_start(draw, n_frames), n_frames)


class View(Cutting):
    """A sample for scoring: the first or the last frames of a clip, whatever is drawn.

    Args:
        sampling: number of frames and stride.
        number: 0 for the first frames, 1 for the last.
    """

    def __init__(self, sampling: FinetuneSampling, number: int) -> None:
        super().__init__(sampling)
        self._number = number

    def _indices(self, draw: float, n_frames: int) -> list[int]:
        return self._sampling.view_frames(n_frames, self._number)


class RootedSet(NamedTuple):
    """A labelled set and where it is.

    Attributes:
        root: its directory.
        about: its description, with all clips.
        staged: the place of its shards in a cache; None for a set on a disk.
    """

    root: epath.Path
    about: LabelledSet
    staged: StagedSet | None = None


class LabelledReader:
    """Chosen clips of one labelled set, read sample by sample. Picklable.

    Attributes:
        root: the set's directory.
        clips: what is known of each chosen clip, in order.

    Args:
        labelled: the set.
        chosen: numbers of the clips in the set, in the order that they have here.
    """

    def __init__(self, labelled: RootedSet, chosen: Sequence[int]) -> None:
        self.root = labelled.root
        self._chosen = tuple(map(int, chosen))
        self.clips: tuple[LabelledClip, ...] = tuple(labelled.about.clips[i] for i in self._chosen)
        self._staged = labelled.staged  # which keeps the shards in the cache
        directory = self.root if labelled.staged is None else labelled.staged.directory
        lengths = {str(directory / s.path): s.n_clips for s in labelled.about.shards if s.n_clips}
        self._records = open_shards(self.root / LABELLED, lengths)

    def __len__(self) -> int:
        """Returns the number of chosen clips."""
        return len(self._chosen)

    def read(self, clip: int, draw: float, sampling: Cutting, frames: np.ndarray, audio: np.ndarray) -> int:
        """Reads one sample into the caller's arrays.

        Args:
            clip: number of the clip here.
            draw: uniform in [0, 1); decides all that is random in the sample.
            sampling: how to cut the sample, and whether to augment it.
            frames: uint8[T, H, W, 3] to fill.
            audio: int16[N] to fill; the part after the end of the sound is set to 0.

        Returns:
            How many of the N samples are sound.

        Raises:
            Exception: of many kinds, if the clip cannot be read or used.
        """
        # No checksum: ArrayRecord already verifies a hash of every record that it reads.
        record = parse_clip(self._records[self._chosen[clip]], checksum=False)
        indices, (first, end) = sampling.cut(draw, record.n_frames, len(record.samples))
        fill_frames(frames, indices, record.jpeg)
        if sampling.augment:
            # The same draw in every run and on every host, and another one in each epoch.
            operations = randaugment.draw(hash_of(self._chosen[clip], int(draw * 2**53)))
            frames[:] = randaugment.apply(frames, operations)
        return fill_sound(audio, record.samples[first:end])

    def name(self, clip: int) -> str:
        """Returns a clip's name and where it is stored."""
        return f"{self.clips[clip].name} (clip {self._chosen[clip]} of {self.root})"


class LabelledSource(ReplacingSource):
    """Chosen clips of several labelled sets, read as one source.

    Attributes:
        clips: what is known of each clip, by example id.

    Args:
        sets: the sets.
        chosen: numbers of the chosen clips of each set.
        cutting: how samples are cut.
        sampling: the number of frames and the stride that `cutting` has.

    Raises:
        ValueError: no clip is chosen, sets differ in frame size or sample rate, none of the clips can be
            read, or the limit on open files is too low.
    """

    sets: tuple[LabelledReader, ...]

    def __init__(
        self,
        sets: Sequence[RootedSet],
        chosen: Sequence[Sequence[int]],
        cutting: Cutting,
        sampling: FinetuneSampling,
    ) -> None:
        pairs = [(labelled, clips) for labelled, clips in zip(sets, chosen, strict=True) if len(clips)]
        if not pairs:
            raise ValueError("no clip is chosen of the labelled sets")
        formats = {(s.about.height, s.about.width, s.about.sample_rate) for s, _ in pairs}
        if len(formats) > 1:
            raise ValueError(f"sets differ in (height, width, sample rate): {sorted(formats)}")
        height, width, _ = formats.pop()
        # A shard of the cache is open twice: to be read and to be kept.
        allow_open_files(sum((1 if s.staged is None else 2) * len(s.about.shards) for s, _ in pairs))
        readers = [LabelledReader(*pair) for pair in pairs]
        longest = max(
            sampling.longest_span(clip.n_frames, clip.n_samples)
            for reader in readers
            for clip in reader.clips
        )
        super().__init__(readers, cutting, (height, width, 3), longest)
        self.clips = tuple(clip for reader in readers for clip in reader.clips)


def read_sets(roots: Sequence[epath.PathLike], cache: ShardCache | None = None) -> list[RootedSet]:
    """Reads the descriptions of labelled sets, and fetches the shards of those in buckets.

    Args:
        roots: their directories.
        cache: where shards of sets in buckets are put.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: a set is damaged or of another kind, or is in a bucket and there is no cache, or a cache
            that is too small.
        OSError: a bucket cannot be read.
    """
    sets = []
    for root in roots:
        if is_bucket(root):
            staged, about = stage(root, cache, (LABELLED, CLIPS), read_labelled_set, _files)
            sets.append(RootedSet(epath.Path(root), about, staged))
        else:
            sets.append(RootedSet(epath.Path(root), read_labelled_set(root)))
    keep_all([one.staged for one in sets if one.staged is not None], "raise data.cache_gb")
    return sets


def _files(about: LabelledSet) -> list[str]:
    return [shard.path for shard in about.shards if shard.n_clips]
