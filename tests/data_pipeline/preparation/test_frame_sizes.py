import json

import numpy as np
import pytest

from data_pipeline.format.prepared_set import read_prepared_set
from data_pipeline.media.decode import Crop
from data_pipeline.media.encode import write_mp4
from data_pipeline.preparation import frame_sizes
from data_pipeline.preparation.plan import Options
from data_pipeline.preparation.shard_writer import manifest_file
from tests.support import corpus_fixtures

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)


def test_sizes_are_counted_and_described(tmp_path):
    names = corpus_fixtures.write_corpus(tmp_path / "in", 4)
    for name, (height, width) in zip(names, [(224, 224), (224, 224), (360, 640), (224, 240)], strict=True):
        video, _ = corpus_fixtures.files_of(tmp_path / "in", name)
        length = 20 + int(name[-1])
        write_mp4(video, np.zeros((length, height, width, 3), np.uint8))
    described = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", Options())
    assert described.frame_sizes == {"224 × 224": 2, "224 × 240": 1, "360 × 640": 1}
    assert read_prepared_set(tmp_path / "out") == described
    line = frame_sizes.warning(described.frame_sizes, Crop())
    assert line == (
        "warning: the frames of 2 of 4 clips (50.0%) are not 224 × 224, most of them 224 × 240, so the crop "
        "0,32,160,160 keeps another part of them: find the faces with --crop=face, or prepare these videos "
        "by themselves with the --crop that fits"
    )


def test_the_default_crop_fits_voxceleb2_only():
    assert frame_sizes.warning({}, Crop()) is None
    assert frame_sizes.warning({"224 × 224": 7}, Crop()) is None
    assert "of 7 of 7 clips (100.0%) are not 224 × 224" in frame_sizes.warning({"720 × 1280": 7}, Crop())


def test_another_crop_fits_the_most_frequent_size():
    crop = Crop(280, 560, 160, 160)
    assert frame_sizes.warning({"720 × 1280": 7}, crop) is None
    line = frame_sizes.warning({"720 × 1280": 7, "224 × 224": 1}, crop)
    assert "of 1 of 8 clips (12.5%) are not 720 × 1280, most of them 224 × 224" in line


def test_a_manifest_of_an_older_version_has_no_sizes(tmp_path):
    corpus_fixtures.write_corpus(tmp_path / "in", 2)
    corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out")
    manifest = tmp_path / "out" / manifest_file(0)
    older = json.loads(manifest.read_text())
    assert older.pop("frame_sizes") == {"32 × 48": 1}
    manifest.write_text(json.dumps(older))
    assert corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out").frame_sizes == {"32 × 48": 1}
