"""Makes one shard of a labelled set; the unit of work, as `shard_writer` is for pre-training.

`write_labelled_shard` may be repeated or interrupted: a file appears only when it is complete. The manifest
appears last. A shard is finished if its manifest is there.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora.found_clip import FoundClip
from data_pipeline.format.labelled_record import encode_clip, parse_clip
from data_pipeline.format.labelled_set import LabelledClip, shard_file
from data_pipeline.format.payload import ARRAY_RECORD_OPTIONS
from data_pipeline.media.face_clip import load_face_clip
from data_pipeline.media.limits import SAMPLE_RATE
from data_pipeline.media.reasons import UnusableClipError
from data_pipeline.media.stretch import Stretch
from data_pipeline.preparation.shard_writer import finished_manifest, manifest_file, sha256


@dataclasses.dataclass(frozen=True)
class LabelledShardSpec:
    """A work item.

    Attributes:
        output: directory of the labelled set.
        dataset: name of the data set.
        side: height and width of stored frames, in pixels.
        index: number of the shard, from 0.
        n_shards: number of shards.
        find_face: whether the largest face of each video is kept instead of its whole frames.
        clips: what the shard shall hold, in order.
    """

    output: str
    dataset: str
    side: int
    index: int
    n_shards: int
    find_face: bool
    clips: tuple[FoundClip, ...]

    @property
    def file(self) -> str:
        """Path of the shard relative to the set's directory."""
        return shard_file(self.dataset, self.index, self.n_shards)


def write_labelled_shard(spec: LabelledShardSpec, on_clip: Callable[[], None] = lambda: None) -> None:
    """Makes a shard unless it is finished.

    Args:
        spec: description of the shard.
        on_clip: called after every clip; an exception that it raises ends the work.

    Raises:
        OSError: a file cannot be read or written.
        RuntimeError: a record that was written cannot be read back.
    """
    output = epath.Path(spec.output)
    if read_labelled_manifest(spec):
        return
    with atomic_files.staging(output) as directory:
        written = directory / "clips"
        kept, rejected = _write_records(spec, written, on_clip)
        _check_records([clip["name"] for clip in kept], written)
        file = {"bytes": written.stat().st_size, "sha256": sha256(written)}
        atomic_files.publish(written, output / spec.file)
    manifest = {"clips": kept, "rejected": rejected, "files": {spec.file: file}}
    text = json.dumps(manifest, ensure_ascii=False) + "\n"
    atomic_files.publish_text(text, output, manifest_file(spec.index))


def read_labelled_manifest(spec: LabelledShardSpec) -> dict | None:
    """Reads the manifest of a shard, which lists what the shard holds.

    Returns:
        None if the shard is not finished, or its file does not have the size in the manifest. Otherwise
        ``clips``: the fields of each `LabelledClip`, in order; ``rejected``: ``clip``, ``reason`` and
        ``message`` of each rejected clip; ``files``: path → ``bytes`` and ``sha256``.
    """
    return finished_manifest(epath.Path(spec.output), spec.index, [spec.file])


def _write_records(
    spec: LabelledShardSpec, path: Path, on_clip: Callable[[], None]
) -> tuple[list[dict], list[dict[str, str]]]:
    """Writes the clips' records; returns the clips that were kept and those that were rejected."""
    kept: list[dict] = []
    rejected: list[dict[str, str]] = []
    writer = ArrayRecordWriter(str(path), ARRAY_RECORD_OPTIONS)
    try:
        for clip in spec.clips:
            try:
                record, described = _make_record(clip, Stretch(spec.side), spec.find_face)
            except UnusableClipError as error:
                rejected.append({"clip": clip.name, "reason": error.reason, "message": error.detail})
            else:
                writer.write(record)
                kept.append(dataclasses.asdict(described))
            on_clip()
    finally:
        writer.close()
    return kept, rejected


def _make_record(clip: FoundClip, stretch: Stretch, find_face: bool) -> tuple[bytes, LabelledClip]:
    frames, video, audio = (place and epath.Path(place) for place in (clip.frames, clip.video, clip.audio))
    loaded = load_face_clip(frames, video, audio, stretch, find_face)
    record = encode_clip(
        clip.name,
        loaded.jpegs,
        loaded.samples,
        height=stretch.side,
        width=stretch.side,
        sample_rate=SAMPLE_RATE,
    )
    described = LabelledClip(
        clip.name, len(loaded.jpegs), len(loaded.samples), clip.speaker, dict(clip.labels), dict(clip.folds)
    )
    return record, described


def _check_records(names: Sequence[str], path: Path) -> None:
    """Reads all records back and checks that they are complete, intact and in order.

    Raises:
        RuntimeError: they are not.
    """
    reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
    try:
        if reader.num_records() != len(names):
            raise RuntimeError(f"{path}: {reader.num_records()} records of {len(names)} read back")
        for index, name in enumerate(names):
            if (found := parse_clip(reader.read([index])[0]).clip) != name:
                raise RuntimeError(f"{path}: record {index} is {found}, not {name}")
    finally:
        reader.close()
