"""Makes a labelled set of the clips that `corpora.labelled` has found.

A finished shard is never made again. So the same command continues after an interruption, and the result does
not depend on the number of processes or on interruptions.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence

from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora import folds
from data_pipeline.corpora.found_clip import FoundClip
from data_pipeline.corpora.protocols import Protocol, protocols_of
from data_pipeline.format import labelled_set, payload
from data_pipeline.format.labelled_set import LabelledClip, LabelledSet, LabelledShard
from data_pipeline.format.prepared_set import PLAN
from data_pipeline.format.tfds_metadata import write_labelled_metadata
from data_pipeline.media import stretch
from data_pipeline.media.decode import DECODER_VERSION
from data_pipeline.media.limits import SAMPLE_RATE
from data_pipeline.preparation.builder import REJECTED
from data_pipeline.preparation.labelled_shards import LabelledShardSpec, read_labelled_manifest
from data_pipeline.preparation.output_lock import locked

CLIPS_A_SHARD = 256  # about 250 MB for clips of 3 s
WHOLE, FACE = "whole", "face"
_FEWEST_SHARDS = 8  # so that several processes can prepare even a small set

Runner = Callable[[list[LabelledShardSpec]], None]


@dataclasses.dataclass(frozen=True)
class LabelledPlan:
    """All that decides the contents of the shards, except the clips' files.

    Attributes:
        dataset: name of the data set.
        side: height and width of stored frames, in pixels.
        n_clips: number of clips that were found.
        clips_sha256: hash of their names, speakers, labels and folds.
        n_shards: number of shards.
        jpeg_quality: quality of the frames' JPEGs.
        record_version: version of the records' layout.
        decoder_version: of what decodes the clips.
        crop: what is kept of videos: "whole" frames or the "face".
    """

    dataset: str
    side: int
    n_clips: int
    clips_sha256: str
    n_shards: int
    jpeg_quality: int = stretch.QUALITY
    record_version: int = payload.VERSION
    decoder_version: int = DECODER_VERSION
    crop: str = WHOLE


def prepare_labelled(
    dataset: str,
    clips: Sequence[FoundClip],
    output: epath.PathLike,
    side: int,
    run: Runner,
    crop: str = WHOLE,
) -> LabelledSet:
    """Prepares a labelled set.

    Args:
        dataset: name of the data set.
        clips: the clips that were found, sorted by name.
        output: directory of the set, see `labelled_set`.
        side: height and width of stored frames, in pixels.
        run: makes the shards of the work items that it is given: those that are not finished yet.
        crop: what to keep of videos: `WHOLE` frames or the largest `FACE`.

    Returns:
        What the set holds.

    Raises:
        ValueError: `output` was begun with other options or clips, `folds.check` finds a mistake, or no clip
            can be used.
        OSError: a file cannot be read or written.
        RuntimeError: a shard is missing after `run`, or another process is preparing the same set.
    """
    output = epath.Path(output)
    stretch.Stretch(side)
    # Before the work, so that a wrong label is not found after hours.
    bare = [LabelledClip(clip.name, 0, 0, clip.speaker, clip.labels, clip.folds) for clip in clips]
    for protocol in protocols_with_labels(dataset, bare):
        folds.check(protocol, bare)
    with locked(output):
        n_shards = min(max(-(-len(clips) // CLIPS_A_SHARD), _FEWEST_SHARDS), len(clips))
        plan = LabelledPlan(dataset, side, len(clips), _digest(clips), n_shards, crop=crop)
        _ensure_plan(output, plan)
        specs = [
            LabelledShardSpec(
                str(output), dataset, side, index, n_shards, crop == FACE, _members(clips, index, n_shards)
            )
            for index in range(n_shards)
        ]
        atomic_files.clear(output)
        run([spec for spec in specs if not read_labelled_manifest(spec)])
        described = _describe(output, plan, specs)
        atomic_files.clear(output)
    return described


def protocols_with_labels(dataset: str, clips: Sequence[LabelledClip]) -> list[Protocol]:
    """Returns the protocols of a data set whose labels some of the clips have."""
    return [
        protocol
        for protocol in protocols_of(dataset)
        if any(({protocol.label, *protocol.outputs} & set(clip.labels)) for clip in clips)
    ]


def _members(clips: Sequence[FoundClip], index: int, n_shards: int) -> tuple[FoundClip, ...]:
    return tuple(clips[index * len(clips) // n_shards : (index + 1) * len(clips) // n_shards])


def _digest(clips: Sequence[FoundClip]) -> str:
    """Returns a hash of what is known of the clips, without their paths: the input may be moved."""
    lines = (json.dumps([clip.name, clip.speaker, clip.labels, clip.folds], sort_keys=True) for clip in clips)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _ensure_plan(output: epath.Path, plan: LabelledPlan) -> None:
    """Writes the plan, or compares it with the one that is there."""
    path = output / PLAN
    if not path.exists():
        others = sorted({entry.name for entry in output.iterdir()} - {atomic_files.UNFINISHED})
        if others:
            raise ValueError(f"{output} holds {others[0]} but no {PLAN}: choose an empty --output")
        text = json.dumps(dataclasses.asdict(plan), indent=1) + "\n"
        atomic_files.publish_text(text, output, PLAN)
        return
    try:
        begun = LabelledPlan(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no plan of a labelled set: choose another --output: {error}") from error
    for field in dataclasses.fields(plan):
        then, now = getattr(begun, field.name), getattr(plan, field.name)
        if then != now:
            raise ValueError(
                f"{output} was begun with other options or clips ({field.name} was {then} and is now {now}): "
                "choose another --output"
            )


def _describe(output: epath.Path, plan: LabelledPlan, specs: Sequence[LabelledShardSpec]) -> LabelledSet:
    """Writes the files that describe the finished shards, ``labelled.json`` last."""
    manifests = []
    for spec in specs:
        manifest = read_labelled_manifest(spec)
        if manifest is None:
            raise RuntimeError(f"{output}: shard {spec.index} is not finished; run the same command again")
        manifests.append(manifest)
    rejected = [line for manifest in manifests for line in manifest["rejected"]]
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rejected)
    atomic_files.publish_text(lines, output, REJECTED)
    clips = tuple(LabelledClip(**fields) for manifest in manifests for fields in manifest["clips"])
    if not clips:
        raise ValueError(f"no clip can be used; {output / REJECTED} says why")
    listed = "".join(map(labelled_set.clip_line, clips))
    atomic_files.publish_text(listed, output, labelled_set.CLIPS)
    described = LabelledSet(
        dataset=plan.dataset,
        n_clips=len(clips),
        height=plan.side,
        width=plan.side,
        sample_rate=SAMPLE_RATE,
        rejected=dict(sorted(collections.Counter(line["reason"] for line in rejected).items())),
        fingerprint=_fingerprint(manifests, listed),
        shards=tuple(
            LabelledShard(spec.file, len(manifest["clips"])) for spec, manifest in zip(specs, manifests)
        ),
        clips=clips,
    )
    write_labelled_metadata(output, described)
    atomic_files.publish_text(described.to_json(), output, labelled_set.LABELLED)
    return described


def _fingerprint(manifests: Sequence[dict], listed: str) -> str:
    """Returns a hash of the contents of all shards and of the clips' list."""
    hashes = [file["sha256"] for manifest in manifests for file in manifest["files"].values()]
    return hashlib.sha256("\n".join([*hashes, listed]).encode()).hexdigest()
