import json

import pytest

from data_pipeline.format import prepared_set
from data_pipeline.format.prepared_set import PreparedSet, Shard, read_prepared_set

DESCRIBED = PreparedSet(
    split="dev",
    n_clips=3,
    n_frames=600,
    n_samples=384_000,
    fps=25,
    sample_rate=16_000,
    height=160,
    width=160,
    stride=4,
    n_bytes=10**6,
    n_resampled=1,
    rejected={"not_media": 2},
    fingerprint="ab" * 32,
    shards=(Shard("video/a", "audio/a", 3), Shard("video/b", "audio/b", 0)),
)


def test_description_survives_the_file(tmp_path):
    (tmp_path / prepared_set.DESCRIPTION).write_text(DESCRIBED.to_json())
    assert read_prepared_set(tmp_path) == DESCRIBED


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], "there is no such directory: check the path"),
        (["dev/mp4"], "this directory is not a prepared set: prepare raw clips with launch.prepare first"),
        (["plan.json", "video"], "its preparation did not finish: run the same launch.prepare again"),
    ],
)
def test_other_directories_are_refused_with_a_reason(tmp_path, present, message):
    for name in present:
        (tmp_path / "set" / name).mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as missing:
        read_prepared_set(tmp_path / "set")
    assert str(missing.value) == f"{tmp_path}/set/dataset.json is missing: {message}"


@pytest.mark.parametrize(
    "change", [{"unknown": 1}, {"shards": [{"video": "v"}]}, {"shards": None}, {"n_clips": 7}]
)
def test_a_damaged_description_is_one_clear_error(tmp_path, change):
    (tmp_path / prepared_set.DESCRIPTION).write_text(json.dumps(json.loads(DESCRIBED.to_json()) | change))
    with pytest.raises(ValueError, match="does not describe a prepared set"):
        read_prepared_set(tmp_path)
