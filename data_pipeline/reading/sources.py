"""Random access to prepared sets of pre-training, and to several of them as one source."""

from collections.abc import Sequence

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from data_pipeline.common.buckets import is_bucket
from data_pipeline.format import records
from data_pipeline.format.clip_sampling import FEWEST_SAMPLES, ClipSampling
from data_pipeline.format.prepared_set import DESCRIPTION, PreparedSet, read_prepared_set
from data_pipeline.reading.replacing_source import ReplacingSource, UnusableSampleError
from data_pipeline.reading.sample_arrays import fill_frames, fill_sound
from data_pipeline.reading.shard_cache import ShardCache
from data_pipeline.reading.shards import allow_open_files, open_shards
from data_pipeline.reading.staged_records import StagedRecords
from data_pipeline.reading.staged_set import StagedSet, keep_all, stage


class ClipSet:
    """One prepared set, read sample by sample.

    Each process opens a file when it first reads from it, and keeps it open. Picklable.

    Attributes:
        root: the set's directory.
        about: its description.
        staged: the place of its shards in a cache; None for a set on a disk.
        audio: its audio records, one a clip.
        video: its video records, `records.STRIDE` a clip.

    Its shards are opened by `open`.

    Args:
        root: the set's directory, on a disk or in a bucket.
        cache: where shards of a set in a bucket are put.

    Raises:
        FileNotFoundError: there is no finished prepared set at `root`.
        ValueError: its description is damaged, it has no clip, or it is in a bucket and there is no cache.
        OSError: the bucket cannot be read.
    """

    audio: ArrayRecordDataSource | StagedRecords
    video: ArrayRecordDataSource | StagedRecords

    def __init__(self, root: epath.PathLike, cache: ShardCache | None = None) -> None:
        self.root = epath.Path(root)
        self.about: PreparedSet
        self.staged: StagedSet | None = None
        if is_bucket(root):
            self.staged, self.about = stage(root, cache, (DESCRIPTION,), read_prepared_set, _files)
        else:
            self.about = read_prepared_set(self.root)
        if not self.about.n_clips:
            raise ValueError(f"{self.root} holds no clip: see its rejected.jsonl")

    def open(self, sets: int = 1, window: int = 0) -> None:
        """Open the shards. Those of a set in a bucket must all be in the cache, if there is no window.

        Args:
            sets: number of sets that are opened together, see `open_shards`.
            window: shards over which clips are shuffled: so many are kept open at a time, if the set is in a
                bucket; 0 for all.

        Raises:
            ValueError: the description contradicts a shard.
        """
        self.audio = self._open("audio", 1, sets, window)
        self.video = self._open("video", records.STRIDE, sets, window)

    def _open(
        self, kind: str, records_a_clip: int, sets: int, window: int
    ) -> ArrayRecordDataSource | StagedRecords:
        shards = [shard for shard in self.about.shards if shard.n_clips]
        lengths = {getattr(shard, kind): records_a_clip * shard.n_clips for shard in shards}
        if self.staged is not None and window:
            return StagedRecords(self.staged, lengths, window)
        directory = self.root if self.staged is None else self.staged.directory
        paths = {str(directory / file): count for file, count in lengths.items()}
        return open_shards(self.root / DESCRIPTION, paths, sets)

    def __len__(self) -> int:
        """Returns the number of clips."""
        return self.about.n_clips

    def read(
        self, clip: int, draw: float, sampling: ClipSampling, frames: np.ndarray, audio: np.ndarray
    ) -> int:
        """Reads one sample into the caller's arrays.

        Args:
            clip: number of the clip in this set.
            draw: uniform in [0, 1); decides the first frame.
            sampling: how to cut a sample out of the clip.
            frames: uint8[T, H, W, 3] to fill.
            audio: int16[N] to fill; the part after the end of the sound is set to 0.

        Returns:
            How many of the N samples are sound.

        Raises:
            Exception: of many kinds, if the clip cannot be read or used.
        """
        # No checksum: ArrayRecord already verifies a hash of every record that it reads.
        sound = records.parse_audio(self.audio[clip], checksum=False)
        if (sound.fps, sound.sample_rate) != (self.about.fps, self.about.sample_rate):
            raise UnusableSampleError(f"{sound.fps} fps, {sound.sample_rate} Hz: not as the set says")
        start = sampling.start(draw, sound.n_frames)
        indices = sampling.frame_indices(start, sound.n_frames)
        first, count = sampling.audio_span(start, indices[-1], sound.n_frames, sound.fps, sound.sample_rate)
        samples = sound.samples[first : first + count]
        if len(samples) < FEWEST_SAMPLES:
            raise UnusableSampleError(f"{len(samples)} samples of sound from frame {start} on")
        phase = start % records.STRIDE
        video = records.parse_video(self.video[records.STRIDE * clip + phase], checksum=False)
        if (video.clip, video.phase) != (sound.clip, phase):
            raise UnusableSampleError(f"video record is of phase {video.phase} of {video.clip}")
        fill_frames(frames, indices, lambda index: video.jpeg((index - phase) // records.STRIDE))
        return fill_sound(audio, samples)

    def name(self, clip: int) -> str:
        """Returns where a clip is stored, and its name if one of its records can still be read."""
        for data, first, count, parse in (
            (self.audio, clip, 1, records.parse_audio),
            (self.video, records.STRIDE * clip, records.STRIDE, records.parse_video),
        ):
            for index in range(first, first + count):
                try:
                    return f"{parse(data[index]).clip} (clip {clip} of {self.root})"
                except Exception:  # of any kind: another record may be intact
                    continue
        return f"clip {clip} of {self.root}"


class ClipSource(ReplacingSource):
    """Several prepared sets, read as one. Reading never fails.

    All shards of sets in buckets are fetched first; with a window, they are fetched when they are read.

    Args:
        roots: the sets' directories, on disks or in buckets.
        sampling: how to cut samples.
        cache: where shards of sets in buckets are put.
        window: shards over which clips are shuffled; 0 for all.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: sets differ in frame size or rates, the stride is not a multiple of the stored one, a set
            has no readable clip, there is no cache or it is too small, or the limit on open files is too low.
        OSError: a bucket cannot be read.
    """

    sets: tuple[ClipSet, ...]
    sampling: ClipSampling

    def __init__(
        self,
        roots: Sequence[epath.PathLike],
        sampling: ClipSampling,
        cache: ShardCache | None = None,
        window: int = 0,
    ) -> None:
        if not roots:
            raise ValueError("no prepared set is named: give at least one directory")
        sets = tuple(ClipSet(root, cache) for root in roots)
        if sampling.stride % records.STRIDE:
            raise ValueError(f"stride {sampling.stride} is not a multiple of {records.STRIDE}, as stored")
        formats = {(s.about.height, s.about.width, s.about.fps, s.about.sample_rate) for s in sets}
        if len(formats) > 1:
            raise ValueError(f"sets differ in (height, width, fps, sample rate): {sorted(formats)}")
        height, width, fps, sample_rate = formats.pop()
        # A shard of the cache is open twice: to be read and to be kept.
        allow_open_files(sum((2 if s.staged is None else 4) * len(s.about.shards) for s in sets))
        _bring(sets, window)
        for clips in sets:
            clips.open(len(sets), window)
        super().__init__(sets, sampling, (height, width, 3), sampling.audio_samples(fps, sample_rate))


def _files(about: PreparedSet) -> list[str]:
    return [file for shard in about.shards if shard.n_clips for file in (shard.video, shard.audio)]


def _bring(sets: Sequence[ClipSet], window: int) -> None:
    """Put sets of buckets into the cache; with a window, only check that there is room for two windows."""
    in_buckets = [(clips.staged, clips.about) for clips in sets if clips.staged is not None]
    if not window:
        remedy = "raise data.cache_gb, or shuffle over windows of shards (data.shuffle_window)"
        keep_all([staged for staged, _ in in_buckets], remedy)
        return
    for staged, about in in_buckets:
        pairs = [sum(staged.sizes.get(file, 0) for file in (s.video, s.audio)) for s in about.shards]
        needed = sum(sorted(pairs, reverse=True)[: 2 * window])
        what = f"{staged.url}, two windows of {window} pairs"
        staged.cache.claim(needed, what, "raise data.cache_gb or lower data.shuffle_window")
