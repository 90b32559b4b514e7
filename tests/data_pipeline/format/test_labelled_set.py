import dataclasses
import json

import pytest

from data_pipeline.format import labelled_set
from data_pipeline.format.labelled_set import (
    LabelledClip,
    LabelledSet,
    LabelledShard,
    clip_line,
    read_labelled_set,
)
from tests.support.set_fixtures import write_set

CLIPS = (
    LabelledClip("Actor_01/ä", 70, 44_800, "01", {"emotion": "calm"}),
    LabelledClip("b", 3, 2_000, "", {"arousal": 0.5, "single": "AN"}, {"mafw_11": "2", "mafw_43": "train"}),
)
SET = LabelledSet(
    dataset="crema_d",
    n_clips=2,
    height=160,
    width=160,
    sample_rate=16_000,
    rejected={"missing_audio": 3},
    fingerprint="abc",
    shards=(
        LabelledShard(labelled_set.shard_file("crema_d", 0, 2), 2),
        LabelledShard(labelled_set.shard_file("crema_d", 1, 2), 0),
    ),
    clips=CLIPS,
)


def write(root, described=SET, **changed):
    fields = json.loads(described.to_json()) | changed
    (root / "labelled.json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    (root / "clips.jsonl").write_text("".join(map(clip_line, described.clips)), encoding="utf-8")
    return root


def test_round_trip(tmp_path):
    assert read_labelled_set(write(tmp_path)) == SET


def test_the_names_of_shards_are_those_of_tfds():
    assert SET.shards[0].path == "clips/1.0.0/clips-crema_d.array_record-00000-of-00002"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": None}, "dataset is missing"),
        ({"width": "160"}, "width must be a whole number of at least 0, not '160'"),
        ({"height": True}, "height must be a whole number"),
        ({"extra": 1}, "extra is a field that is not known"),
        ({"n_clips": 3}, "n_clips is 3, but its shards have 2 clips"),
        ({"shards": [{"path": "../x", "n_clips": 2}]}, "a shard must be the plain path of a file in the set"),
        ({"shards": [3]}, "3 is not an object"),
    ],
)
def test_a_damaged_description_is_one_line(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_labelled_set(write(tmp_path, **changed))
    assert "labelled.json does not describe a labelled set" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", r"clips\.jsonl, line 2: folds is missing"),
        ("no json", r"clips\.jsonl, line 2: "),
        (clip_line(CLIPS[0]).replace('"calm"', "null").strip(), "label emotion must be a text or a number"),
        (clip_line(CLIPS[1]).replace('"2"', "2").strip(), "fold of mafw_11 must be a text"),
    ],
)
def test_a_damaged_list_is_one_line(tmp_path, line, message):
    path = write(tmp_path) / "clips.jsonl"
    path.write_text(path.read_text(encoding="utf-8").split("\n")[0] + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_labelled_set(tmp_path)


def test_a_list_of_another_length_is_found(tmp_path):
    path = write(tmp_path) / "clips.jsonl"
    path.write_text(clip_line(CLIPS[0]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"clips\.jsonl has 1 lines, labelled\.json says 2 clips"):
        read_labelled_set(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"clips\.jsonl is missing: copy the whole directory"):
        read_labelled_set(tmp_path)


def test_what_is_no_labelled_set_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory: check the path"):
        read_labelled_set(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"prepare one with launch\.prepare --dataset"):
        read_labelled_set(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="its preparation did not finish"):
        read_labelled_set(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"this is a set for pre-training \(dataset\.json\)"):
        read_labelled_set(write_set(tmp_path / "other", [64]))


def test_a_clip_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLIPS[0].name = "x"
