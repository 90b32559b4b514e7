"""Random access to prepared sets that never fails: an unreadable clip is replaced by another.

Storage of terabytes has broken places. A record that does not parse, a frame that does not decode, a missing
or truncated shard must not stop a training run, nor change which clips the other hosts train on. So a clip
that cannot be read is replaced by one chosen by a hash of its number: the same on every host, in every run
and at every restart. The reader only says which clip it took; naming the broken ones, once each, is left
to the process that trains (`ClipSource.diagnose`).
"""

import resource
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import simplejpeg
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.format import records
from data_pipeline.format.clip_sampling import FEWEST_SAMPLES, ClipSampling
from data_pipeline.format.prepared_set import PreparedSet, read_prepared_set
from data_pipeline.reading.requests import NO_CLIP, ClipRequest, hash_of

_ATTEMPTS = 32
_PROBES = 256
_SPARE_FILES = 256


class UnusableSampleError(ValueError):
    """The clip can be read but cannot be trained on; the message says why."""


class _WholeFile(NamedTuple):
    """ArrayRecord's file instruction: with it, a file is not opened before it is read from."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class ClipSet:
    """One prepared set, read a sample at a time.

    Files are opened when first read from, in each process anew, and stay open. Picklable.

    Attributes:
        root: the set's directory.
        about: its description.
        audio: its audio records, one a clip.
        video: its video records, `records.STRIDE` a clip.

    Raises:
        FileNotFoundError: there is no finished prepared set at `root`.
        ValueError: its description is damaged, it holds no clip, or it lies in a bucket.
    """

    def __init__(self, root: epath.PathLike) -> None:
        self.root = epath.Path(root)
        if not atomic_files.is_local(self.root):
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
        return ArrayRecordDataSource([_WholeFile(file, 0, n, n) for file, n in lengths.items()])

    def __len__(self) -> int:
        """Number of clips."""
        return self.about.n_clips

    def read(
        self, clip: int, draw: float, sampling: ClipSampling, frames: np.ndarray, audio: np.ndarray
    ) -> int:
        """Read one sample into the caller's arrays.

        Args:
            clip: number of the clip in this set.
            draw: uniform in [0, 1), decides the start frame.
            sampling: how to cut a sample out of the clip.
            frames: uint8[T, H, W, 3] to fill.
            audio: int16[N] to fill; what the sound does not reach is set to 0.

        Returns:
            How many of the N samples are sound.

        Raises:
            Exception: of many kinds, if the clip cannot be read or used.
        """
        # ArrayRecord verifies a hash of every record it reads; a second checksum costs more (`records`).
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
        """The clip's name if any of its records still tells it, and where it is stored."""
        for data, first, count, parse in (
            (self.audio, clip, 1, records.parse_audio),
            (self.video, records.STRIDE * clip, records.STRIDE, records.parse_video),
        ):
            for index in range(first, first + count):
                try:
                    return f"{parse(data[index]).clip} (clip {clip} of {self.root})"
                except Exception:  # whatever is wrong with it, another record may tell
                    continue
        return f"clip {clip} of {self.root}"


class ClipSource:
    """Several prepared sets as one, whose reads never fail.

    Attributes:
        sets: the sets; example ids count through them in order.
        sampling: how samples are cut.
        frame_shape: (height, width, 3) of the stored frames.
        audio_samples: most samples of sound in a sample.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: sets that differ in frame size or rates, a stride that the stored phases do not serve, no
            readable clip in a set, or a limit on open files that is too low.
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
        """Number of clips in all sets."""
        return sum(len(clips) for clips in self.sets)

    def first_example(self, number: int) -> int:
        """Example id of the first clip of set `number`."""
        return sum(len(clips) for clips in self.sets[:number])

    def read(self, request: ClipRequest, frames: np.ndarray, audio: np.ndarray) -> tuple[int, int]:
        """Read a sample, or one that stands in for it, into the caller's arrays.

        Args:
            request: what to read.
            frames: uint8[T, H, W, 3] to fill.
            audio: int16[audio_samples] to fill.

        Returns:
            (example id of the clip that was read, number of samples of sound). If nothing at all could be
            read, `NO_CLIP` and 0, with both arrays 0.
        """
        for number, clip in self._candidates(request.example):
            try:
                samples = self.sets[number].read(clip, request.draw, self.sampling, frames, audio)
            except Exception:  # of whatever kind: an error must not leave a worker (see `diagnose`)
                continue
            return self.first_example(number) + clip, samples
        frames[:], audio[:] = 0, 0
        return NO_CLIP, 0

    def diagnose(self, request: ClipRequest) -> dict[int, str]:
        """Why a request was not served by its own clip: example id → one line for each clip tried in vain."""
        frames, audio = self.empty_sample()
        broken = {}
        for number, clip in self._candidates(request.example):
            try:
                self.sets[number].read(clip, request.draw, self.sampling, frames, audio)
            except Exception as error:
                why = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
                broken[self.first_example(number) + clip] = f"{self.sets[number].name(clip)}: {why}"
            else:
                break
        return broken

    def name(self, example: int) -> str:
        """A clip's name and where it is stored."""
        number, clip = next(self._candidates(example))
        return self.sets[number].name(clip)

    def empty_sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Arrays that `read` can fill: uint8[T, H, W, 3] and int16[audio_samples]."""
        return (
            np.empty((self.sampling.frames, *self.frame_shape), np.uint8),
            np.empty(self.audio_samples, np.int16),
        )

    def _candidates(self, example: int) -> Iterator[tuple[int, int]]:
        """(set, clip) wanted, then those that may stand in for it, all of the same set: at most 33."""
        number, clip = 0, example
        while clip >= len(self.sets[number]):
            clip -= len(self.sets[number])
            number += 1
        yield number, clip
        for attempt in range(1, _ATTEMPTS):
            yield number, hash_of(clip, attempt) % len(self.sets[number])
        yield number, self._fallbacks[number]

    def _readable_clip(self, clips: ClipSet) -> int:
        """A clip that can be read, so that even a set with few good clips always has a replacement."""
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


def _allow_open_files(files: int) -> None:
    """Raise this process's limit on open files, which its workers inherit, as far as needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ValueError(
            f"{files} shards stay open, but the limit on open files is {hard}: raise `ulimit -n`"
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
