"""The data sets open with TFDS, in a new process that never imports TensorFlow."""

import json
import subprocess
import sys

import pytest

from tests.support import corpus_fixtures

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)

READ = """
import json, sys
import tensorflow_datasets as tfds
from data_pipeline.format import records

root = sys.argv[1]
read = {}
for kind, parse in (("video", records.parse_video), ("audio", records.parse_audio)):
    builder = tfds.builder_from_directory(f"{root}/{kind}/1.0.0")
    source = builder.as_data_source(split="dev")
    by_name = tfds.data_source(kind, split="dev", data_dir=root)
    assert len(source) == len(by_name) == builder.info.splits["dev"].num_examples
    assert source[0] == by_name[0]
    read[kind] = [parse(example[records.FEATURE]).clip for example in source]
    read["fingerprint"] = builder.info.metadata["fingerprint"]
assert "tensorflow" not in sys.modules
print(json.dumps(read))
"""


def test_both_data_sets_open_with_tfds_without_tensorflow(tmp_path):
    names = corpus_fixtures.write_corpus(tmp_path / "in")
    corpus_fixtures.files_of(tmp_path / "in", names[2])[0].write_bytes(b"no film")
    described = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out")
    output = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "out")], check=True, capture_output=True, text=True
    ).stdout
    read = json.loads(output)
    assert sorted(read["audio"]) == names[:2] + names[3:]
    assert read["video"] == [name for name in read["audio"] for _ in range(4)]
    assert read["fingerprint"] == described.fingerprint
