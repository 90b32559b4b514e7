"""Surveys the contents of a prepared set, and verifies that every record can be read.

`survey` reads descriptions and a sample of records, so it takes seconds for a set of any size. `verify` reads
everything: it checks the checksum of each record, decodes each JPEG, and compares each clip's picture, sound
and entry in the manifest.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from data_pipeline.common.cores import usable_cores
from data_pipeline.common.errors import one_line
from data_pipeline.common.paths import file_length
from data_pipeline.format import records
from data_pipeline.format.prepared_set import AUDIO, VIDEO, PreparedSet, read_prepared_set
from data_pipeline.format.records import STRIDE, AudioRecord, VideoRecord
from data_pipeline.media.decode import check_lengths
from data_pipeline.preparation.shard_writer import manifest_file

SAMPLED_CLIPS = 128  # clips whose frames are measured
CLIPS_A_TASK = 16
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class ListedClip(NamedTuple):
    """A clip as its shard's manifest lists it."""

    name: str
    n_frames: int
    n_samples: int


class Problem(NamedTuple):
    """A fault in a set.

    Attributes:
        clip: name of the clip, or how many clips.
        place: the file or record.
        what: the fault, in words.
    """

    clip: str
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.clip} ({self.place}): {self.what}"


@dataclass(frozen=True)
class Survey:
    """The contents of a prepared set.

    Attributes:
        about: its description.
        listed: the clips of each shard, in order, from the manifests.
        frame_bytes: int64[n], sizes in bytes of the JPEGs of some clips.
        sampled: the number of these clips.
    """

    about: PreparedSet
    listed: tuple[tuple[ListedClip, ...], ...]
    frame_bytes: np.ndarray
    sampled: int

    @property
    def speakers(self) -> set[str]:
        """Names of the speakers: the first part of the clips' names."""
        return {clip.name.split("/")[0] for shard in self.listed for clip in shard}

    @property
    def recordings(self) -> set[str]:
        """Names of the videos, ``speaker/video``."""
        return {clip.name.rsplit("/", 1)[0] for shard in self.listed for clip in shard}

    @property
    def seconds(self) -> np.ndarray:
        """Duration of each clip's picture in s, float64[clips]."""
        frames = [clip.n_frames for shard in self.listed for clip in shard]
        return np.array(frames) / self.about.fps


def survey(root: epath.PathLike) -> Survey:
    """Reads the descriptions of a prepared set and some of its records.

    Raises:
        FileNotFoundError: there is no finished prepared set at `root`, or a manifest is missing.
        ValueError: the set's description or a manifest is damaged, or they contradict each other.
    """
    root = epath.Path(root)
    about = read_prepared_set(root)
    listed = tuple(_read_list(root, index) for index in range(len(about.shards)))
    for shard, clips in zip(about.shards, listed, strict=True):
        if len(clips) != shard.n_clips:
            raise ValueError(f"{root}: {shard.audio} has {shard.n_clips} clips, its manifest {len(clips)}")
    places = [(index, clip) for index, clips in enumerate(listed) for clip in range(len(clips))]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(SAMPLED_CLIPS, len(places))).astype(int))
    sizes = []
    for index, clip in (places[number] for number in chosen):
        try:
            reader = ArrayRecordReader(str(root / about.shards[index].video), _READER_OPTIONS)
            record = records.parse_video(reader.read([STRIDE * clip])[0])
            reader.close()
        except Exception:  # `verify` reports what cannot be read
            continue
        sizes.append(np.diff(record.offsets))
    return Survey(about, listed, np.concatenate(sizes or [np.zeros(0, int)]), len(sizes))


def _read_list(root: epath.Path, index: int) -> tuple[ListedClip, ...]:
    path = root / manifest_file(index)
    try:
        clips = json.loads(path.read_text(encoding="utf-8"))["clips"]
        return tuple(ListedClip(name, n_frames, n_samples) for name, n_frames, n_samples, _ in clips)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: copy the whole directory of the prepared set") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a shard's manifest: {error}") from error


def verify(
    root: epath.PathLike, surveyed: Survey, workers: int | None, on_clips: Callable[[int], None]
) -> list[Problem]:
    """Reads every record of a set and decodes every frame.

    Args:
        root: directory of the set.
        surveyed: result of `survey` for the set.
        workers: threads; by default one a core.
        on_clips: called with the number of clips that have just been checked.

    Returns:
        The faults, in the order of the set; empty if there are none.
    """
    root = epath.Path(root)
    tasks = [
        (index, range(start, min(start + CLIPS_A_TASK, len(clips))))
        for index, clips in enumerate(surveyed.listed)
        for start in range(0, len(clips), CLIPS_A_TASK)
    ]
    found: dict[int, list[Problem]] = {}
    # Threads, because checksums and JPEG decoding release the interpreter lock.
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        futures = {
            pool.submit(_check_clips, root, surveyed, *task): number for number, task in enumerate(tasks)
        }
        for future in as_completed(futures):
            number = futures[future]
            found[number] = future.result()
            on_clips(len(tasks[number][1]))
    in_order = [problem for number in range(len(tasks)) for problem in found[number]]
    # Several tasks report the same unreadable file; keep one report.
    return list(dict.fromkeys([*_check_totals(surveyed), *in_order]))


def _check_totals(surveyed: Survey) -> Iterator[Problem]:
    about, clips = surveyed.about, [clip for shard in surveyed.listed for clip in shard]
    for what, stated, counted in (
        ("clips", about.n_clips, len(clips)),
        ("frames", about.n_frames, sum(clip.n_frames for clip in clips)),
        ("samples", about.n_samples, sum(clip.n_samples for clip in clips)),
        ("names", len(clips), len({clip.name for clip in clips})),
    ):
        if stated != counted:
            yield Problem("all clips", "dataset.json", f"{stated} {what}, the manifests list {counted}")


def _check_clips(root: epath.Path, surveyed: Survey, index: int, clips: range) -> list[Problem]:
    """Checks some clips of one pair of shards."""
    shard, listed = surveyed.about.shards[index], surveyed.listed[index]
    problems, readers = [], {}
    for kind, file, count in ((AUDIO, shard.audio, len(listed)), (VIDEO, shard.video, STRIDE * len(listed))):
        try:
            file_length(root / file)  # ArrayRecord would open a missing file as one without records
            readers[kind] = ArrayRecordReader(str(root / file), _READER_OPTIONS)
            if readers[kind].num_records() != count:
                raise ValueError(f"{readers[kind].num_records()} records of {count}")
        except Exception as error:  # ArrayRecord raises exceptions of many kinds
            readers.pop(kind, None)
            problems.append(Problem(f"all {len(listed)} clips", file, one_line(error, 300)))
    for clip in clips:
        problems += _check_clip(surveyed.about, listed[clip], shard.audio, shard.video, readers, clip)
    for reader in readers.values():
        reader.close()
    return problems


def _check_clip(
    about: PreparedSet, listed: ListedClip, audio: str, video: str, readers: dict, clip: int
) -> Iterator[Problem]:
    if AUDIO in readers:
        try:
            _check_sound(about, listed, records.parse_audio(readers[AUDIO].read([clip])[0]))
        except Exception as error:
            yield Problem(listed.name, f"record {clip} of {audio}", one_line(error, 300))
    for phase in range(STRIDE if VIDEO in readers else 0):
        number = STRIDE * clip + phase
        try:
            _check_picture(about, listed, phase, records.parse_video(readers[VIDEO].read([number])[0]))
        except Exception as error:
            yield Problem(listed.name, f"record {number} of {video}", one_line(error, 300))


def _check_sound(about: PreparedSet, listed: ListedClip, sound: AudioRecord) -> None:
    found = ListedClip(sound.clip, sound.n_frames, len(sound.samples))
    if found != listed:
        raise ValueError(f"holds {_clip(found)}, not {_clip(listed)}")
    if (sound.fps, sound.sample_rate) != (about.fps, about.sample_rate):
        raise ValueError(f"{sound.fps:g} fps, {sound.sample_rate} Hz, not {about.fps}, {about.sample_rate}")
    check_lengths(sound.n_frames, len(sound.samples))


def _check_picture(about: PreparedSet, listed: ListedClip, phase: int, picture: VideoRecord) -> None:
    found = (picture.clip, picture.n_frames, picture.phase, picture.stride)
    wanted = (listed.name, listed.n_frames, phase, about.stride)
    if found != wanted:
        raise ValueError(f"(clip, frames, phase, stride) are {found}, not {wanted}")
    size = (about.height, about.width, 3)
    if (picture.height, picture.width, picture.fps) != (about.height, about.width, about.fps):
        raise ValueError(f"{picture.height} × {picture.width} at {picture.fps:g} fps, not as the set says")
    for index in range(picture.n_stored):
        frame = phase + about.stride * index
        try:
            shape = simplejpeg.decode_jpeg(picture.jpeg(index)).shape
        except ValueError as error:
            raise ValueError(f"frame {frame}: {error}") from error
        if shape != size:
            raise ValueError(f"frame {frame} is {shape[0]} × {shape[1]}, not {size[0]} × {size[1]}")


def _clip(clip: ListedClip) -> str:
    return f"{clip.name} of {clip.n_frames} frames and {clip.n_samples} samples"
