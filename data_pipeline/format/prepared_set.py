"""The directory of a prepared set, which `data_pipeline.preparation` makes and training reads.

====================================================  ==================================================
``dataset.json``                                      what is in it (`PreparedSet`); written last
``video/1.0.0/video-dev.array_record-00000-of-00008``   a TFDS data set: `records.STRIDE` records a clip
``audio/1.0.0/audio-dev.array_record-00000-of-00008``   a TFDS data set: one record a clip
``rejected.jsonl``                                    a line for each rejected clip, with the reason
``plan.json``, ``plan/``, ``manifests/``              the preparation's plan and finished shards
====================================================  ==================================================

Shard `i` of ``video`` and shard `i` of ``audio`` hold the same clips in the same order. So clip `c` is
record `c` of ``audio`` and records ``STRIDE * c`` to ``STRIDE * c + STRIDE - 1`` of ``video``. Rejected clips
are not counted.
"""

import dataclasses
import json

from etils import epath

DESCRIPTION = "dataset.json"
PLAN = "plan.json"
TFDS_VERSION = "1.0.0"
VIDEO, AUDIO = "video", "audio"


@dataclasses.dataclass(frozen=True)
class Shard:
    """A pair of files, by their paths relative to the set's directory.

    Attributes:
        video: ArrayRecord file with `records.STRIDE` records a clip.
        audio: ArrayRecord file with one record a clip.
        n_clips: number of clips, possibly 0.
    """

    video: str
    audio: str
    n_clips: int


@dataclasses.dataclass(frozen=True)
class PreparedSet:
    """The description of a prepared set.

    Attributes:
        split: name of the split it was made from, also the TFDS split.
        n_clips: number of clips.
        n_frames: number of video frames of all clips, at `fps`.
        n_samples: number of audio samples of all clips, at `sample_rate`.
        fps: video frames a second.
        sample_rate: in Hz.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        stride: number of phases, see `records`.
        n_bytes: size of all shards.
        n_resampled: number of clips whose frame or sample rate was changed.
        rejected: number of rejected clips, by reason.
        fingerprint: hash of the data; two sets with the same fingerprint hold the same bytes.
        shards: the files, in order.
        frame_sizes: number of clips by the size of their frames before the crop, such as "224 × 224"; clips
            that 0.1.0 prepared are not counted.
    """

    split: str
    n_clips: int
    n_frames: int
    n_samples: int
    fps: int
    sample_rate: int
    height: int
    width: int
    stride: int
    n_bytes: int
    n_resampled: int
    rejected: dict[str, int]
    fingerprint: str
    shards: tuple[Shard, ...]
    frame_sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Returns the text of ``dataset.json``."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def read_prepared_set(root: epath.PathLike) -> PreparedSet:
    """Reads the description of a prepared set.

    Raises:
        FileNotFoundError: there is none, or its preparation has not finished.
        ValueError: it is damaged or from another version.
    """
    path = epath.Path(root) / DESCRIPTION
    try:
        fields = json.loads(path.read_text())
        fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
        described = PreparedSet(**fields)
        n_clips = sum(shard.n_clips for shard in described.shards)
        if n_clips != described.n_clips:
            raise ValueError(f"its shards have {n_clips} clips, not {described.n_clips}")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: {_what_is_there(epath.Path(root))}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a prepared set: {error}") from error
    return described


def _what_is_there(root: epath.Path) -> str:
    """Says why a directory has no description, and what to do."""
    if not root.exists():
        return "there is no such directory: check the path"
    if (root / PLAN).exists():
        return "its preparation did not finish: run the same launch.prepare again"
    return "this directory is not a prepared set: prepare raw clips with launch.prepare first"


def shard_file(kind: str, split: str, index: int, n_shards: int) -> str:
    """Returns a shard's path relative to the set's directory, as TFDS names it.

    Args:
        kind: `VIDEO` or `AUDIO`.
        split: name of the split.
        index: the shard's number, from 0.
        n_shards: number of shards.
    """
    return f"{tfds_directory(kind)}/{kind}-{split}.array_record-{index:05d}-of-{n_shards:05d}"


def tfds_directory(kind: str) -> str:
    """Returns the directory, relative to the set's, that ``tfds.builder_from_directory`` opens."""
    return f"{kind}/{TFDS_VERSION}"
