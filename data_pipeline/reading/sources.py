"""Random access to prepared sets of pre-training, and to several of them as one source."""

from collections.abc import Sequence

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from data_pipeline.common.paths import is_local
from data_pipeline.format import records
from data_pipeline.format.clip_sampling import FEWEST_SAMPLES, ClipSampling
from data_pipeline.format.prepared_set import DESCRIPTION, PreparedSet, read_prepared_set
from data_pipeline.reading.replacing_source import ReplacingSource, UnusableSampleError
from data_pipeline.reading.sample_arrays import fill_frames, fill_sound
from data_pipeline.reading.shards import allow_open_files, open_shards


class ClipSet:
    """One prepared set, read sample by sample.

    Each process opens a file when it first reads from it, and keeps it open. Picklable.

    Attributes:
        root: the set's directory.
        about: its description.
        audio: its audio records, one a clip.
        video: its video records, `records.STRIDE` a clip.

    Args:
        root: the set's directory.
        sets: number of sets that are opened together, see `open_shards`.

    Raises:
        FileNotFoundError: there is no finished prepared set at `root`.
        ValueError: its description is damaged or contradicts a shard, it has no clip, or it lies in a bucket.
    """

    def __init__(self, root: epath.PathLike, sets: int = 1) -> None:
        self.root = epath.Path(root)
        if not is_local(self.root):
            raise ValueError(
                f"{self.root}: shards are read as files; mount the bucket (gcsfuse) or copy the set"
            )
        self.about: PreparedSet = read_prepared_set(self.root)
        if not self.about.n_clips:
            raise ValueError(f"{self.root} holds no clip: see its rejected.jsonl")
        self.audio = self._open("audio", 1, sets)
        self.video = self._open("video", records.STRIDE, sets)

    def _open(self, kind: str, records_a_clip: int, sets: int) -> ArrayRecordDataSource:
        lengths = {
            str(self.root / getattr(shard, kind)): records_a_clip * shard.n_clips
            for shard in self.about.shards
            if shard.n_clips
        }
        return open_shards(self.root / DESCRIPTION, lengths, sets)

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

    Args:
        roots: the sets' directories.
        sampling: how to cut samples.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: sets differ in frame size or rates, the stride is not a multiple of the stored one, a set
            has no readable clip, or the limit on open files is too low.
    """

    sets: tuple[ClipSet, ...]
    sampling: ClipSampling

    def __init__(self, roots: Sequence[epath.PathLike], sampling: ClipSampling) -> None:
        if not roots:
            raise ValueError("no prepared set is named: give at least one directory")
        sets = tuple(ClipSet(root, len(roots)) for root in roots)
        if sampling.stride % records.STRIDE:
            raise ValueError(f"stride {sampling.stride} is not a multiple of {records.STRIDE}, as stored")
        formats = {(s.about.height, s.about.width, s.about.fps, s.about.sample_rate) for s in sets}
        if len(formats) > 1:
            raise ValueError(f"sets differ in (height, width, fps, sample rate): {sorted(formats)}")
        height, width, fps, sample_rate = formats.pop()
        allow_open_files(2 * sum(len(s.about.shards) for s in sets))
        super().__init__(sets, sampling, (height, width, 3), sampling.audio_samples(fps, sample_rate))
