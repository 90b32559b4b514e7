"""Makes one shard: the unit of work of a preparation, in a local process as on a cluster.

`write_shard` may be repeated, interrupted, or run twice at the same time: a file appears only when it is
complete. The manifest appears last. A shard is finished if its manifest is there.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.common.paths import file_length
from data_pipeline.corpora import clip_files
from data_pipeline.corpora.clip_files import ClipFiles
from data_pipeline.format import prepared_set, records
from data_pipeline.format.records import STRIDE
from data_pipeline.media import decode as media
from data_pipeline.preparation import frame_sizes
from data_pipeline.preparation.plan import Plan, read_clips, read_plan

_KINDS = (prepared_set.VIDEO, prepared_set.AUDIO)


@dataclasses.dataclass(frozen=True)
class ShardSpec:
    """A work item.

    Attributes:
        inputs: directories from which the paths of clips are given.
        output: directory of the prepared set, which already holds the plan.
        index: number of the shard, from 0.
    """

    inputs: tuple[str, ...]
    output: str
    index: int


def write_shard(spec: ShardSpec, on_clip: Callable[[], None] = lambda: None) -> None:
    """Makes a shard unless it is finished.

    Args:
        spec: description of the shard.
        on_clip: called after every clip; an exception that it raises ends the work.

    Raises:
        OSError: a file cannot be read or written.
        RuntimeError: a record that was written cannot be read back.
    """
    output = epath.Path(spec.output)
    plan = read_plan(output)
    if read_manifest(output, plan, spec.index):
        return
    files = {
        kind: prepared_set.shard_file(kind, plan.options.split, spec.index, plan.n_shards) for kind in _KINDS
    }
    with atomic_files.staging(output) as directory:
        written = {kind: directory / kind for kind in _KINDS}
        manifest = _write_records(spec, plan, written, on_clip)
        _check_records(manifest["clips"], written)
        manifest["files"] = {
            files[kind]: {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for kind, path in written.items()
        }
        for kind, path in written.items():
            atomic_files.publish(path, output / files[kind])
    atomic_files.publish_text(json.dumps(manifest) + "\n", output, manifest_file(spec.index))


def manifest_file(index: int) -> str:
    """Returns the path of a shard's manifest relative to the set's directory."""
    return f"manifests/{index:05d}.json"


def read_manifest(output: epath.Path, plan: Plan, index: int) -> dict | None:
    """Reads the manifest of a shard, which lists what the shard holds.

    Returns:
        None if the shard is not finished, or if its files do not have the sizes in the manifest. Otherwise
        ``clips``: [name, number of frames, number of samples, whether resampled] of each clip, in order;
        ``rejected``: ``path``, ``reason`` and ``message`` of each rejected clip; ``frame_sizes``: size of
        frames before the crop → number of clips; ``files``: path → ``bytes`` and ``sha256``.
    """
    files = [prepared_set.shard_file(kind, plan.options.split, index, plan.n_shards) for kind in _KINDS]
    return finished_manifest(output, index, files)


def finished_manifest(output: epath.Path, index: int, files: Sequence[str]) -> dict | None:
    """Reads the manifest of a shard of any set.

    Args:
        output: directory of the set.
        index: number of the shard.
        files: the shard's files, relative to the set's directory.

    Returns:
        None if the shard is not finished, or if its files do not have the sizes in the manifest.
    """
    try:
        manifest = json.loads((output / manifest_file(index)).read_text(encoding="utf-8"))
        sizes = {name: manifest["files"][name]["bytes"] for name in files}
        whole = all(file_length(output / name) == size for name, size in sizes.items())
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return manifest if whole else None


def _write_records(spec: ShardSpec, plan: Plan, files: dict[str, Path], on_clip: Callable[[], None]) -> dict:
    """Writes the clips' records and returns the manifest without ``files``."""
    crop = plan.options.crop
    writers = {
        kind: ArrayRecordWriter(str(path), records.ARRAY_RECORD_OPTIONS) for kind, path in files.items()
    }
    clips: list[list] = []
    rejected: list[dict[str, str]] = []
    sizes: collections.Counter[str] = collections.Counter()
    try:
        for files_of_clip in read_clips(epath.Path(spec.output), spec.index):
            name = files_of_clip.name
            try:
                clip = clip_files.load(files_of_clip, spec.inputs, crop)
            except media.UnusableClipError as error:
                rejected.append(_rejected(files_of_clip, error))
            else:
                _write_clip(name, clip, crop, writers)
                clips.append([name, len(clip.jpegs), len(clip.samples), clip.resampled])
                sizes[frame_sizes.name(clip.frame_size)] += 1
            on_clip()
    finally:
        for writer in writers.values():
            writer.close()
    return {"clips": clips, "rejected": rejected, "frame_sizes": dict(sorted(sizes.items()))}


def _rejected(clip: ClipFiles, error: media.UnusableClipError) -> dict[str, str]:
    line = {"path": clip.video.path, "reason": str(error.reason), "message": error.detail}
    return line if clip.span is None else {**line, "clip": clip.name}


def _write_clip(name: str, clip: media.Clip, crop: media.Part, writers: dict[str, ArrayRecordWriter]) -> None:
    n_frames = len(clip.jpegs)
    for phase in range(STRIDE):
        record = records.encode_video(
            name,
            clip.jpegs[phase::STRIDE],
            n_frames=n_frames,
            phase=phase,
            stride=STRIDE,
            fps=media.FPS,
            height=crop.height,
            width=crop.width,
        )
        writers[prepared_set.VIDEO].write(record)
    record = records.encode_audio(
        name, clip.samples, n_frames=n_frames, fps=media.FPS, sample_rate=media.SAMPLE_RATE
    )
    writers[prepared_set.AUDIO].write(record)


def _check_records(clips: list, files: dict[str, Path]) -> None:
    """Reads all records back and checks that they are complete, intact and in order.

    Raises:
        RuntimeError: they are not.
    """
    expected = {
        prepared_set.VIDEO: [(name, phase) for name, *_ in clips for phase in range(STRIDE)],
        prepared_set.AUDIO: [(name, 0) for name, *_ in clips],
    }
    for kind, path in files.items():
        reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
        try:
            if reader.num_records() != len(expected[kind]):
                raise RuntimeError(
                    f"{path}: {reader.num_records()} records of {len(expected[kind])} read back"
                )
            for index, (name, phase) in enumerate(expected[kind]):
                stored = reader.read([index])[0]
                if kind == prepared_set.VIDEO:
                    record = records.parse_video(stored)
                    found = (record.clip, record.phase)
                else:
                    found = (records.parse_audio(stored).clip, 0)
                if found != (name, phase):
                    raise RuntimeError(f"{path}: record {index} is {found}, not {(name, phase)}")
        finally:
            reader.close()


def sha256(path: Path) -> str:
    """Returns the hash of a file's contents, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
