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
import posixpath
from typing import Any

from etils import epath

from data_pipeline.common.paths import is_local, may_be_file
from data_pipeline.format.records import STRIDE

DESCRIPTION = "dataset.json"
PLAN = "plan.json"
TFDS_VERSION = "1.0.0"
VIDEO, AUDIO = "video", "audio"

_AT_LEAST_1 = {"fps", "sample_rate", "height", "width"}  # all other numbers may be 0


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
        layout: of the files it was made from (`corpora.layouts`); names of clips of ``voxceleb2`` begin with
            the speaker.
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
    layout: str = "voxceleb2"

    def to_json(self) -> str:
        """Returns the text of ``dataset.json``."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def read_prepared_set(root: epath.PathLike) -> PreparedSet:
    """Reads the description of a prepared set and checks all that can be checked without opening a shard.

    A shard that is missing is no error: the clips of the others can be read.

    Raises:
        FileNotFoundError: there is none, or its preparation has not finished.
        ValueError: it is damaged or from another version, a shard is no file, or the set is in a bucket.
    """
    root = epath.Path(root)
    check_on_disk(root)
    path = root / DESCRIPTION
    try:
        if not may_be_file(path):
            raise ValueError("it is no file")
        fields = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
        _check_fields(PreparedSet, fields, "")
        for number, shard in enumerate(fields["shards"]):
            _check_fields(Shard, shard, f"shards[{number}].")
        shards = tuple(Shard(**shard) for shard in fields["shards"])
        described = PreparedSet(**{**fields, "shards": shards})
        _check_sums(described)
        _check_files(root, shards)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: {_what_is_there(root)}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not describe a prepared set: {error}") from error
    return described


def check_on_disk(root: epath.Path) -> None:
    """Refuses a directory in a bucket, whose shards no reader can open.

    Raises:
        ValueError: it is in a bucket.
    """
    if not is_local(root):
        raise ValueError(
            f"{root} is in a bucket, and this command reads from disks only: mount the bucket (gcsfuse) or "
            "copy the set"
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object of its fields, none of which may be there twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is there twice")
    return fields


def _check_fields(kind: type, fields: object, where: str) -> None:
    """Checks that a JSON object has the fields of a dataclass, of their types and not negative.

    Args:
        kind: the dataclass.
        fields: what should be the object.
        where: the name of the object, with a dot, for messages.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"{where.rstrip('.') or 'it'} is not an object: {_short(fields)}")
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    # The fields with a default came later; earlier versions did not write them.
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    for name in (*required, *fields):
        if name not in fields:
            raise ValueError(f"{where}{name} is missing")
        if name not in types:
            raise ValueError(f"{where}{name} is a field that this version does not know")
    for name, value in fields.items():
        if types[name] is int:
            _check_count(f"{where}{name}", value, 1 if name in _AT_LEAST_1 else 0)
        elif types[name] is str and not (isinstance(value, str) and value):
            raise ValueError(f"{where}{name} must be a text, not {_short(value)}")
        elif name in ("rejected", "frame_sizes"):
            _check_counts(name, value)
        elif name == "shards" and not isinstance(value, list):
            raise ValueError(f"shards must be a list, not {_short(value)}")


def _check_counts(name: str, value: object) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, not {_short(value)}")
    for kind, count in value.items():
        _check_count(f"{name}.{kind}", count, 0)


def _check_count(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:  # True is an int, too
        raise ValueError(f"{name} must be a whole number of at least {least}, not {_short(value)}")


def _check_sums(described: PreparedSet) -> None:
    if described.stride != STRIDE:
        raise ValueError(f"stride is {described.stride}; this version reads {STRIDE} only")
    n_clips = sum(shard.n_clips for shard in described.shards)
    if n_clips != described.n_clips:
        raise ValueError(f"n_clips is {described.n_clips}, but its shards have {n_clips} clips")
    if described.n_resampled > described.n_clips:
        raise ValueError(f"n_resampled is {described.n_resampled}, more than n_clips, {described.n_clips}")


def _check_files(root: epath.Path, shards: tuple[Shard, ...]) -> None:
    """Checks that the shards' paths stay in the directory, are there once, and lead to nothing but files."""
    seen: dict[str, str] = {}
    for number, shard in enumerate(shards):
        for kind in (VIDEO, AUDIO):
            name, file = f"shards[{number}].{kind}", getattr(shard, kind)
            outside = file.startswith("/") or file.split("/")[0] in (".", "..")
            if outside or "\0" in file or posixpath.normpath(file) != file:
                raise ValueError(f"{name} must be the plain path of a file below {root}, not {_short(file)}")
            if file in seen:
                raise ValueError(f"{name} is {file}, as {seen[file]} is: each file may be there once")
            seen[file] = name
            if not may_be_file(root / file):
                raise ValueError(
                    f"{name} is {file}, which is a directory, a pipe or a device: put the file there"
                )


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


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
