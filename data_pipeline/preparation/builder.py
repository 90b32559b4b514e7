"""Makes a prepared set from a corpus of clips: plan, make the shards, describe the set.

A finished shard is never made again. So the same command continues after an interruption, and the result does
not depend on the number of processes, on interruptions or on the runner.
"""

import collections
import hashlib
import json
from collections.abc import Callable

from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora.layouts import Corpus
from data_pipeline.format import prepared_set
from data_pipeline.format.prepared_set import PreparedSet, Shard
from data_pipeline.format.records import STRIDE
from data_pipeline.format.tfds_metadata import write_tfds_metadata
from data_pipeline.media import decode as media
from data_pipeline.preparation.output_lock import locked
from data_pipeline.preparation.plan import Options, Plan, ensure_plan
from data_pipeline.preparation.shard_writer import ShardSpec, read_manifest

REJECTED = "rejected.jsonl"

Runner = Callable[[list[ShardSpec], Plan], None]


def prepare(corpus: Corpus, output: epath.PathLike, options: Options, run: Runner) -> PreparedSet:
    """Prepares a corpus.

    Args:
        corpus: where its clips are.
        output: directory of the prepared set, see `prepared_set`.
        options: the user's choices.
        run: makes the shards of the work items that it is given: those that are not finished yet.

    Returns:
        What the set holds, as its ``dataset.json`` says.

    Raises:
        FileNotFoundError: an input is missing or does not have its layout.
        ValueError: `output` was begun with other options, another input or another decoder, or no clip can
            be used.
        OSError: a file cannot be read or written.
        RuntimeError: a shard is missing after `run`, or another process is preparing the same set.
    """
    output = epath.Path(output)
    with locked(output):
        plan = ensure_plan(corpus, output, options)  # refuses a directory with other files in it
        inputs = corpus.directories(plan.layout)
        specs = [ShardSpec(inputs, str(output), index) for index in range(plan.n_shards)]
        missing = [spec for spec in specs if not read_manifest(output, plan, spec.index)]
        _check_decoder(output, plan, len(missing))
        atomic_files.clear(output)
        run(missing, plan)
        described = _describe(output, plan)
        atomic_files.clear(output)
    return described


def _check_decoder(output: epath.Path, plan: Plan, n_missing: int) -> None:
    """Refuses to make the missing shards of a set whose other shards were decoded in another way."""
    if n_missing and plan.decoder_version != media.DECODER_VERSION:
        raise ValueError(
            f"{output} was begun by a version that decodes some clips differently (decoder "
            f"{plan.decoder_version}, this is {media.DECODER_VERSION}), and {n_missing} of {plan.n_shards} "
            "shards are missing: choose another --output, or finish it with that version"
        )


def _describe(output: epath.Path, plan: Plan) -> PreparedSet:
    """Writes the files that describe the finished shards, ``dataset.json`` last."""
    manifests = []
    for index in range(plan.n_shards):
        manifest = read_manifest(output, plan, index)
        if manifest is None:
            raise RuntimeError(f"{output}: shard {index} is not finished; run the same command again")
        manifests.append(manifest)
    rejected = sorted(
        (line for manifest in manifests for line in manifest["rejected"]), key=lambda line: line["path"]
    )
    atomic_files.publish_text("".join(json.dumps(line) + "\n" for line in rejected), output, REJECTED)
    clips = [clip for manifest in manifests for clip in manifest["clips"]]
    sizes: collections.Counter[str] = collections.Counter()
    for manifest in manifests:
        sizes.update(manifest.get("frame_sizes", {}))  # manifests of version 0.1.0 have none
    if not clips:
        raise ValueError(f"no clip can be used; {output / REJECTED} says why")
    described = PreparedSet(
        split=plan.options.split,
        n_clips=len(clips),
        n_frames=sum(n_frames for _, n_frames, _, _ in clips),
        n_samples=sum(n_samples for _, _, n_samples, _ in clips),
        fps=media.FPS,
        sample_rate=media.SAMPLE_RATE,
        height=plan.options.crop.height,
        width=plan.options.crop.width,
        stride=STRIDE,
        n_bytes=sum(file["bytes"] for manifest in manifests for file in manifest["files"].values()),
        n_resampled=sum(resampled for _, _, _, resampled in clips),
        rejected=dict(sorted(collections.Counter(line["reason"] for line in rejected).items())),
        fingerprint=_fingerprint(manifests),
        shards=tuple(
            Shard(
                prepared_set.shard_file(prepared_set.VIDEO, plan.options.split, index, plan.n_shards),
                prepared_set.shard_file(prepared_set.AUDIO, plan.options.split, index, plan.n_shards),
                len(manifest["clips"]),
            )
            for index, manifest in enumerate(manifests)
        ),
        frame_sizes=dict(sorted(sizes.items())),
        layout=plan.layout,
    )
    write_tfds_metadata(output, described)
    atomic_files.publish_text(described.to_json(), output, prepared_set.DESCRIPTION)
    return described


def _fingerprint(manifests: list[dict]) -> str:
    """Returns a hash of the names and contents of all shards."""
    lines = [
        f"{name} {file['sha256']}\n" for manifest in manifests for name, file in manifest["files"].items()
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
