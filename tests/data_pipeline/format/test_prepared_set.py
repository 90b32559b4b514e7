import dataclasses
import json
import os

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


def refusal(root, text):
    """What is wrong with a dataset.json of this text, in words."""
    path = root / prepared_set.DESCRIPTION
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="does not describe a prepared set") as caught:
        read_prepared_set(root)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path} does not describe a prepared set: ")
    return message.removeprefix(f"{path} does not describe a prepared set: ")


def shards(*changes):
    """Shards of 3 clips in all, changed from the first on."""
    first, second = json.loads(DESCRIBED.to_json())["shards"]
    return {"shards": [old | new for old, new in zip((first, second), (*changes, {}, {}))]}


AN_INT = "must be a whole number of at least"
WRONG = [
    ({"unknown": 1}, "unknown is a field that this version does not know"),
    ({"n_clips": 7}, "n_clips is 7, but its shards have 3 clips"),
    ({"n_clips": "3"}, f"n_clips {AN_INT} 0, not '3'"),
    ({"n_clips": 3.0}, f"n_clips {AN_INT} 0, not 3.0"),
    ({"n_clips": True}, f"n_clips {AN_INT} 0, not True"),
    ({"n_clips": None}, f"n_clips {AN_INT} 0, not None"),
    ({"n_frames": -1}, f"n_frames {AN_INT} 0, not -1"),
    ({"n_bytes": float("nan")}, f"n_bytes {AN_INT} 0, not nan"),
    ({"fps": 0}, f"fps {AN_INT} 1, not 0"),
    ({"fps": float("inf")}, f"fps {AN_INT} 1, not inf"),
    ({"sample_rate": -16_000}, f"sample_rate {AN_INT} 1, not -16000"),
    ({"height": 0}, f"height {AN_INT} 1, not 0"),
    ({"width": [160]}, f"width {AN_INT} 1, not [160]"),
    ({"stride": 8}, "stride is 8; this version reads 4 only"),
    ({"n_resampled": 4}, "n_resampled is 4, more than n_clips, 3"),
    ({"split": ""}, "split must be a text, not ''"),
    ({"split": 1}, "split must be a text, not 1"),
    ({"fingerprint": None}, "fingerprint must be a text, not None"),
    ({"rejected": []}, "rejected must be an object, not []"),
    ({"rejected": {"not_media": -2}}, f"rejected.not_media {AN_INT} 0, not -2"),
    ({"frame_sizes": None}, "frame_sizes must be an object, not None"),
    ({"frame_sizes": {"224 × 224": True}}, f"frame_sizes.224 × 224 {AN_INT} 0, not True"),
    ({"shards": None}, "shards must be a list, not None"),
    ({"shards": {"video": 1}}, "shards must be a list, not {'video': 1}"),
    ({"shards": [7]}, "shards[0] is not an object: 7"),
    ({"shards": [{"video": "v"}]}, "shards[0].audio is missing"),
    (shards({}, {"more": 1}), "shards[1].more is a field that this version does not know"),
    (shards({"n_clips": 4}, {"n_clips": -1}), f"shards[1].n_clips {AN_INT} 0, not -1"),
    (shards({"video": 5}), "shards[0].video must be a text, not 5"),
    (shards({"video": ""}), "shards[0].video must be a text, not ''"),
    (
        shards({}, {"video": "video/a"}),
        "shards[1].video is video/a, as shards[0].video is: each file may be there once",
    ),
    (
        shards({}, {"audio": "video/b"}),
        "shards[1].audio is video/b, as shards[1].video is: each file may be there once",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_field_is_named(tmp_path, change, message):
    assert refusal(tmp_path, json.dumps(json.loads(DESCRIBED.to_json()) | change)) == message


PATHS = [
    "../a",
    "..",
    "video/../../a",
    "/etc/passwd",
    "video/./b",
    "video//a",
    "./video/b",
    "video/a/",
    "a\0b",
    ".",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_shard_lies_in_the_directory_and_has_one_name(tmp_path, kind, path):
    message = refusal(tmp_path, json.dumps(json.loads(DESCRIBED.to_json()) | shards({}, {kind: path})))
    assert message == f"shards[1].{kind} must be the plain path of a file below {tmp_path}, not {path!r}"


LATER = ("frame_sizes", "layout")  # earlier versions did not write them


@pytest.mark.parametrize("lacking", [LATER, LATER[1:]])
def test_the_description_of_an_earlier_version_is_read(tmp_path, lacking):
    fields = json.loads(dataclasses.replace(DESCRIBED, layout="folder").to_json())
    for name in lacking:
        del fields[name]
    (tmp_path / prepared_set.DESCRIPTION).write_text(json.dumps(fields))
    sizes = {} if "frame_sizes" in lacking else DESCRIBED.frame_sizes
    assert read_prepared_set(tmp_path) == dataclasses.replace(DESCRIBED, frame_sizes=sizes)


@pytest.mark.parametrize(
    "field", [field.name for field in dataclasses.fields(PreparedSet) if field.name not in LATER]
)
def test_a_missing_field_is_named(tmp_path, field):
    fields = json.loads(DESCRIBED.to_json())
    del fields[field]
    assert refusal(tmp_path, json.dumps(fields)) == f"{field} is missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "it is not an object: []"),
        ("null", "it is not an object: None"),
        ("[" * 100_000, "recursion"),
        (b"\xff\xfe", "codec can't decode"),
        ('{"fps": 25, "fps": 30}', "fps is there twice"),
        (DESCRIBED.to_json()[:14], "Unterminated string"),
    ],
)
def test_a_damaged_text_is_one_clear_error(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_shard_that_is_no_file_is_refused_and_not_waited_for(tmp_path, kind, make):
    (tmp_path / kind).mkdir()
    make(tmp_path / kind / "b")
    assert refusal(tmp_path, DESCRIBED.to_json()) == (
        f"shards[1].{kind} is {kind}/b, which is a directory, a pipe or a device: put the file there"
    )


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_a_description_that_is_no_file_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / prepared_set.DESCRIPTION)
    with pytest.raises(ValueError, match=r"dataset\.json does not describe a prepared set: it is no file"):
        read_prepared_set(tmp_path)


def test_a_shard_may_be_a_link(tmp_path):
    (tmp_path / "video").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "video/a").symlink_to(tmp_path / "file")
    (tmp_path / "video/b").symlink_to(tmp_path / "missing")
    (tmp_path / prepared_set.DESCRIPTION).write_text(DESCRIBED.to_json())
    assert read_prepared_set(tmp_path) == DESCRIBED
