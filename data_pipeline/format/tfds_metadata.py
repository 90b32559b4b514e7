"""Metadata with which ``tfds.builder_from_directory`` opens the shards, without TensorFlow."""

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from data_pipeline.common.paths import file_length
from data_pipeline.format import labelled_set, prepared_set
from data_pipeline.format.records import FEATURE, STRIDE

_DESCRIPTIONS = {
    prepared_set.VIDEO: f"Faces of talking people: {STRIDE} records a clip, each every {STRIDE}th frame.",
    prepared_set.AUDIO: "The sound of talking people: one record a clip.",
    labelled_set.KIND: "Labelled clips of talking people: one record a clip, with its frames and its sound.",
}


def write_tfds_metadata(root: epath.Path, described: prepared_set.PreparedSet) -> None:
    """Writes the metadata of both data sets of a prepared set; all shards must exist.

    The only feature is the payload of a record, which `records.parse_video` and `records.parse_audio` read.
    """
    files = {
        prepared_set.VIDEO: [(shard.video, STRIDE * shard.n_clips) for shard in described.shards],
        prepared_set.AUDIO: [(shard.audio, shard.n_clips) for shard in described.shards],
    }
    for kind, shards in files.items():
        _write(root, kind, described.split, shards, described.fingerprint)


def write_labelled_metadata(root: epath.Path, described: labelled_set.LabelledSet) -> None:
    """Writes the metadata of a labelled set; all shards must exist.

    The only feature is the payload of a record, which `labelled_record.parse_clip` reads.
    """
    shards = [(shard.path, shard.n_clips) for shard in described.shards]
    _write(root, labelled_set.KIND, described.dataset, shards, described.fingerprint)


def _write(root: epath.Path, kind: str, split: str, shards: list[tuple[str, int]], fingerprint: str) -> None:
    """Writes the metadata of one TFDS data set with one split.

    Args:
        root: directory of the set.
        kind: name of the TFDS data set.
        split: name of the split.
        shards: path relative to `root` and number of records of each file.
        fingerprint: hash of the data.
    """
    directory = root / prepared_set.tfds_directory(kind)
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=kind, split=split, filetype_suffix="array_record"
    )
    described = tfds.core.SplitInfo(
        name=split,
        shard_lengths=[length for _, length in shards],
        num_bytes=sum(file_length(root / path) for path, _ in shards),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        # np.object_, because np.bytes_ would strip zeros at the end.
        features=tfds.features.FeaturesDict({FEATURE: tfds.features.Tensor(shape=(), dtype=np.object_)}),
        split_infos=[described],
        version=prepared_set.TFDS_VERSION,
        check_data=False,  # it needs TensorFlow; every record was read back when its shard was written
        description=_DESCRIPTIONS[kind],
        metadata=tfds.core.MetadataDict(fingerprint=fingerprint),
    )
