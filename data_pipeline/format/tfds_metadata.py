"""Metadata with which ``tfds.builder_from_directory`` opens the shards, without TensorFlow."""

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from data_pipeline.common.paths import file_length
from data_pipeline.format import prepared_set
from data_pipeline.format.records import FEATURE, STRIDE

_DESCRIPTIONS = {
    prepared_set.VIDEO: f"Faces of talking people: {STRIDE} records a clip, each every {STRIDE}th frame.",
    prepared_set.AUDIO: "The sound of talking people: one record a clip.",
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
        directory = root / prepared_set.tfds_directory(kind)
        template = tfds.core.ShardedFileTemplate(
            data_dir=directory, dataset_name=kind, split=described.split, filetype_suffix="array_record"
        )
        split = tfds.core.SplitInfo(
            name=described.split,
            shard_lengths=[length for _, length in shards],
            num_bytes=sum(file_length(root / path) for path, _ in shards),
            filename_template=template,
        )
        tfds.folder_dataset.write_metadata(
            data_dir=directory,
            # np.object_, because np.bytes_ would strip zeros at the end.
            features=tfds.features.FeaturesDict({FEATURE: tfds.features.Tensor(shape=(), dtype=np.object_)}),
            split_infos=[split],
            version=prepared_set.TFDS_VERSION,
            check_data=False,  # it needs TensorFlow; every record was read back when its shard was written
            description=_DESCRIPTIONS[kind],
            metadata=tfds.core.MetadataDict(fingerprint=described.fingerprint),
        )
