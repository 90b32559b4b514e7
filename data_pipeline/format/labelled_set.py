"""The directory of a labelled prepared set, which fine-tuning reads.

==============================================================  ========================================
``labelled.json``                                               what is in it; written last
``clips.jsonl``                                                 a line a clip, in the order of the records
``clips/1.0.0/clips-crema_d.array_record-00000-of-00008``       a TFDS data set: a record a clip
``rejected.jsonl``                                              a line for each rejected clip, with the reason
``plan.json``, ``plan/``, ``manifests/``                        the preparation's plan and finished shards
==============================================================  ========================================

Clip `c` of ``clips.jsonl`` is record `c` over all shards, in the order of ``labelled.json``
(`labelled_record`). The TFDS split has the name of the data set. Rejected clips are not counted.
"""

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from etils import epath

from data_pipeline.common.paths import may_be_file
from data_pipeline.format import prepared_set

LABELLED = "labelled.json"
CLIPS = "clips.jsonl"
KIND = "clips"
"""Name of the TFDS data set."""
TRAIN = "train"
"""In `LabelledClip.folds`: the clip is in the training part of every fold."""
HELD_OUT = "held-out"
"""In `LabelledClip.folds`: the clip is in the training part of no fold."""


@dataclasses.dataclass(frozen=True)
class LabelledClip:
    """A clip of a labelled set.

    Attributes:
        name: unique in the set.
        n_frames: number of frames, at the clip's own rate.
        n_samples: number of samples of sound.
        speaker: who is held out together: the speaker or the recording session; "" if it is not known.
        labels: name of a label → class as text, or a number for regression.
        folds: name of a protocol → number of the fold whose test part has the clip, as text, or `TRAIN` or
            `HELD_OUT`. Only where files that come with the data set decide.
    """

    name: str
    n_frames: int
    n_samples: int
    speaker: str
    labels: Mapping[str, str | float]
    folds: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LabelledShard:
    """A file of records.

    Attributes:
        path: relative to the set's directory.
        n_clips: number of clips, possibly 0.
    """

    path: str
    n_clips: int


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """The description of a labelled prepared set.

    Attributes:
        dataset: name of the data set, also the TFDS split.
        n_clips: number of clips.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        sample_rate: in Hz.
        rejected: number of rejected clips, by reason.
        fingerprint: hash of the records and of the clips' list; sets with the same fingerprint are the same.
        shards: the files, in order.
        clips: the clips, in the order of the records.
    """

    dataset: str
    n_clips: int
    height: int
    width: int
    sample_rate: int
    rejected: dict[str, int]
    fingerprint: str
    shards: tuple[LabelledShard, ...]
    clips: tuple[LabelledClip, ...]

    def to_json(self) -> str:
        """Returns the text of ``labelled.json``: all but the clips."""
        fields = {name: value for name, value in vars(self).items() if name not in ("clips", "shards")} | {
            "shards": [dataclasses.asdict(shard) for shard in self.shards]
        }
        return json.dumps(fields, indent=1) + "\n"


def clip_line(clip: LabelledClip) -> str:
    """Returns the line of a clip in ``clips.jsonl``, with its line break."""
    fields = vars(clip) | {"labels": dict(clip.labels), "folds": dict(clip.folds)}
    return json.dumps(fields, ensure_ascii=False) + "\n"


def shard_file(dataset: str, index: int, n_shards: int) -> str:
    """Returns a shard's path relative to the set's directory, as TFDS names it.

    Args:
        dataset: name of the data set.
        index: the shard's number, from 0.
        n_shards: number of shards.
    """
    directory = prepared_set.tfds_directory(KIND)
    return f"{directory}/{KIND}-{dataset}.array_record-{index:05d}-of-{n_shards:05d}"


def read_labelled_set(root: epath.PathLike) -> LabelledSet:
    """Reads the description of a labelled set and checks all that can be checked without opening a shard.

    Args:
        root: the set's directory.

    Raises:
        FileNotFoundError: there is none, its preparation has not finished, or it is a set for pre-training.
        ValueError: it is damaged or from another version, or is in a bucket.
    """
    root = epath.Path(root)
    prepared_set.check_on_disk(root)
    path = root / LABELLED
    try:
        fields = json.loads(_text(path))
        _check(LabelledSet, fields, omitted=("clips",))
        for shard in fields["shards"]:
            _check(LabelledShard, shard)
            _check_path(shard["path"])
        shards = tuple(LabelledShard(**shard) for shard in fields["shards"])
        if (held := sum(shard.n_clips for shard in shards)) != fields["n_clips"]:
            raise ValueError(f"n_clips is {fields['n_clips']}, but its shards have {held} clips")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: {_what_is_there(root)}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} does not describe a labelled set: {error}") from error
    clips = _read_clips(root / CLIPS, fields["n_clips"])
    return LabelledSet(**{**fields, "shards": shards, "clips": clips})


def _read_clips(path: epath.Path, n_clips: int) -> tuple[LabelledClip, ...]:
    try:
        lines = _text(path).split("\n")[:-1]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: copy the whole directory of the set again") from None
    if len(lines) != n_clips:
        raise ValueError(
            f"{path} has {len(lines)} lines, {LABELLED} says {n_clips} clips: copy the set again"
        )
    clips = []
    for number, line in enumerate(lines, start=1):
        try:
            fields = json.loads(line)
            _check(LabelledClip, fields)
            _check_labels(fields["labels"], fields["folds"])
            clips.append(LabelledClip(**fields))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: {error}: copy the set again") from error
    return tuple(clips)


def _text(path: epath.Path) -> str:
    if not may_be_file(path):
        raise ValueError(f"{path} is no file")
    return path.read_text(encoding="utf-8")


_JSON_TYPES: dict[Any, tuple[type, str]] = {
    int: (int, "a whole number of at least 0"),
    str: (str, "a text"),
    dict[str, int]: (dict, "an object"),
    Mapping[str, str | float]: (dict, "an object"),
    Mapping[str, str]: (dict, "an object"),
    tuple[LabelledShard, ...]: (list, "a list"),
}


def _check(kind: type, fields: object, omitted: tuple[str, ...] = ()) -> None:
    """Checks that a JSON object has the fields of a dataclass, without those omitted, of their types."""
    if not isinstance(fields, dict):
        raise ValueError(f"{fields!r:.60} is not an object")
    types = {field.name: field.type for field in dataclasses.fields(kind) if field.name not in omitted}
    if odd := sorted(set(types) ^ set(fields)):
        raise ValueError(f"{odd[0]} is {'missing' if odd[0] in types else 'a field that is not known'}")
    for name, declared in types.items():
        wanted, words = _JSON_TYPES[declared]
        value = fields[name]
        if type(value) is not wanted or (isinstance(value, int) and value < 0):  # True is an int, too
            raise ValueError(f"{name} must be {words}, not {value!r:.60}")


def _check_labels(labels: dict[str, Any], folds: dict[str, Any]) -> None:
    for name, label in labels.items():
        if type(label) not in (str, float, int):
            raise ValueError(f"label {name} must be a text or a number, not {label!r:.60}")
    for name, fold in folds.items():
        if not isinstance(fold, str):
            raise ValueError(f"fold of {name} must be a text, not {fold!r:.60}")


def _check_path(path: str) -> None:
    if path.startswith(("/", "..")) or "\0" in path or posixpath.normpath(path) != path:
        raise ValueError(f"a shard must be the plain path of a file in the set, not {path!r:.60}")


def _what_is_there(root: epath.Path) -> str:
    """Says why a directory has no description, and what to do."""
    if not root.exists():
        return "there is no such directory: check the path"
    if (root / prepared_set.DESCRIPTION).exists():
        return (
            f"this is a set for pre-training ({prepared_set.DESCRIPTION}): prepare a labelled data set with "
            "launch.prepare --dataset=…"
        )
    if (root / prepared_set.PLAN).exists():
        return "its preparation did not finish: run the same launch.prepare again"
    return "this directory is not a labelled set: prepare one with launch.prepare --dataset=…"
