"""Random access to prepared sets. Reading never fails: a clip that cannot be read is replaced by another.

In terabytes of storage something is always broken. A record that does not parse, a frame that does not decode
or a missing shard must not stop a training run, and must not change which clips other hosts train on. So a
hash of the broken clip's number chooses its replacement: the same clip on every host, in every run and after
every restart. `ClipSource.read` only returns which clip it read. The process that trains finds out why
(`ClipSource.diagnose`) and reports each broken clip once.
"""

import os
import resource
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import simplejpeg
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from data_pipeline.common.errors import typed_line
from data_pipeline.common.paths import is_local
from data_pipeline.format import records
from data_pipeline.format.clip_sampling import FEWEST_SAMPLES, ClipSampling
from data_pipeline.format.prepared_set import DESCRIPTION, PreparedSet, read_prepared_set
from data_pipeline.reading.requests import NO_CLIP, ClipRequest, hash_of

_ATTEMPTS = 32  # clips chosen by hash, the first of which is the requested one
_PROBES = 256  # clips of a set that are tried at the start until one can be read
_SPARE_FILES = 256  # open files that the process needs besides the shards
_CHECKED = 384  # shards of a kind whose records are counted at the start: all, in sets of the usual size
_OPENERS = 32  # threads that open shards at the start: a network file system takes milliseconds for each


class UnusableSampleError(ValueError):
    """A clip that can be read but not trained on; the message says why."""


class _WholeFile(NamedTuple):
    """ArrayRecord's file instruction. A file described by it is opened only when it is first read."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


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

    Raises:
        FileNotFoundError: there is no finished prepared set at `root`.
        ValueError: its description is damaged or contradicts a shard, it has no clip, or it lies in a bucket.
    """

    def __init__(self, root: epath.PathLike) -> None:
        self.root = epath.Path(root)
        if not is_local(self.root):
            raise ValueError(
                f"{self.root}: shards are read as files; mount the bucket (gcsfuse) or copy the set"
            )
        self.about: PreparedSet = read_prepared_set(self.root)
        if not self.about.n_clips:
            raise ValueError(f"{self.root} holds no clip: see its rejected.jsonl")
        self.audio = self._open("audio", 1)
        self.video = self._open("video", records.STRIDE)

    def _open(self, kind: str, records_a_clip: int) -> ArrayRecordDataSource:
        lengths = {
            str(self.root / getattr(shard, kind)): records_a_clip * shard.n_clips
            for shard in self.about.shards
            if shard.n_clips
        }
        checked = list(lengths)[:: -(-len(lengths) // _CHECKED)]
        with ThreadPoolExecutor(_OPENERS) as pool:
            for file, found in zip(checked, pool.map(_records_in, checked)):
                if found not in (lengths[file], None):
                    raise ValueError(
                        f"{self.root / DESCRIPTION}: {file} should hold {lengths[file]} records but holds "
                        f"{found}: copy the whole set again"
                    )
        return ArrayRecordDataSource([_WholeFile(file, 0, n, n) for file, n in lengths.items()])

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
        for row, (frame, index) in enumerate(zip(frames, indices)):
            if row and index == indices[row - 1]:
                frame[:] = frames[row - 1]
                continue
            jpeg = video.jpeg((index - phase) // records.STRIDE)
            if simplejpeg.decode_jpeg(jpeg, buffer=frame).shape != frame.shape:
                raise UnusableSampleError(f"frame {index} is not {frame.shape[0]} × {frame.shape[1]}")
        audio[: len(samples)] = samples
        audio[len(samples) :] = 0
        return len(samples)

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


class ClipSource:
    """Several prepared sets, read as one. Reading never fails.

    Attributes:
        sets: the sets; example ids count the clips of the first set, then those of the second, and so on.
        sampling: how samples are cut.
        frame_shape: (height, width, 3) of the stored frames.
        audio_samples: largest number of audio samples that belong to one sample.

    Args:
        roots: the sets' directories.
        sampling: how to cut samples.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: sets differ in frame size or rates, the stride is not a multiple of the stored one, a set
            has no readable clip, or the limit on open files is too low.
    """

    def __init__(self, roots: Sequence[epath.PathLike], sampling: ClipSampling) -> None:
        if not roots:
            raise ValueError("no prepared set is named: give at least one directory")
        self.sampling = sampling
        self.sets = tuple(ClipSet(root) for root in roots)
        if sampling.stride % records.STRIDE:
            raise ValueError(f"stride {sampling.stride} is not a multiple of {records.STRIDE}, as stored")
        formats = {(s.about.height, s.about.width, s.about.fps, s.about.sample_rate) for s in self.sets}
        if len(formats) > 1:
            raise ValueError(f"sets differ in (height, width, fps, sample rate): {sorted(formats)}")
        height, width, fps, sample_rate = formats.pop()
        self.frame_shape = (height, width, 3)
        self.audio_samples = sampling.audio_samples(fps, sample_rate)
        _allow_open_files(2 * sum(len(s.about.shards) for s in self.sets))
        self._fallbacks = [self._readable_clip(s) for s in self.sets]

    def __len__(self) -> int:
        """Returns the number of clips in all sets."""
        return sum(len(clips) for clips in self.sets)

    def first_example(self, number: int) -> int:
        """Returns the example id of the first clip of set `number`."""
        return sum(len(clips) for clips in self.sets[:number])

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

    def _readable_clip(self, clips: ClipSet) -> int:
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


def _records_in(file: str) -> int | None:
    """Returns the number of records in a shard; None if it is missing or damaged, which reading reports."""
    try:
        os.stat(file)  # ArrayRecord would open a missing file as one without records
        reader = ArrayRecordReader(file, "readahead_buffer_size:0,max_parallelism:0")
        count = reader.num_records()
        reader.close()
    except Exception:  # ArrayRecord raises exceptions of many kinds
        return None
    return count or None  # a file without a footer seems to have none


def _allow_open_files(files: int) -> None:
    """Raises this process's limit on open files, which its workers inherit, as far as needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ValueError(
            f"{files} shards stay open, but the limit on open files is {hard}: raise `ulimit -n`"
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
