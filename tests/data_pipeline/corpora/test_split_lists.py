import pytest

from data_pipeline.corpora import folds, labelled
from data_pipeline.corpora.protocols import PROTOCOLS
from data_pipeline.corpora.split_lists import parse_splits
from data_pipeline.format.labelled_set import LabelledClip


def write(root, place, names, label="1"):
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"frames/{name} wav/{name}.wav {label}\n" for name in names))


def write_folds(root, n_folds=5, n_clips=10, layout="split{:02d}/{}.csv", label="1"):
    """Lists of clips 0, 1, …; clip i is tested in fold i modulo the number of folds, plus 1."""
    for fold in range(1, n_folds + 1):
        test = [f"{i:05d}" for i in range(n_clips) if i % n_folds + 1 == fold]
        train = [f"{i:05d}" for i in range(n_clips) if i % n_folds + 1 != fold]
        write(root, layout.format(fold, "train"), train, label)
        write(root, layout.format(fold, "test"), test, label)
        write(root, layout.format(fold, "val"), test, label)


@pytest.mark.parametrize(
    "layout", ["split{:02d}/{}.csv", "fold_{}/{}.txt", "{}_{}.csv", "set_{}/{}_list.txt"]
)
def test_the_folds_are_those_of_the_lists(tmp_path, layout):
    write_folds(tmp_path, layout=layout)
    clips = labelled.find("dfew", tmp_path, splits=[str(tmp_path)])
    assert [clip.name for clip in clips] == [f"{i:05d}" for i in range(10)]
    assert [clip.folds["dfew"] for clip in clips] == ["1", "2", "3", "4", "5"] * 2
    assert clips[3].labels == {"emotion": "sad"}
    assert clips[3].audio == str(tmp_path / "wav/00003.wav")


def test_two_protocols_of_a_data_set_are_joined(tmp_path):
    write_folds(tmp_path / "single", label="AN")
    write_folds(tmp_path / "compound", n_clips=8, label="anger_fear")
    clips = labelled.find(
        "mafw", tmp_path, splits=[f"mafw_11={tmp_path}/single", f"mafw_43={tmp_path}/compound"]
    )
    assert clips[6].labels == {"single": "AN", "compound": "anger_fear"}
    assert clips[6].folds == {"mafw_11": "2", "mafw_43": "2"}
    assert clips[9].labels == {"single": "AN"}


def test_a_held_out_test_part_is_in_no_training_part(tmp_path):
    for fold in range(1, 6):
        write(tmp_path, f"split{fold:02d}/train.csv", [f"{i}" for i in range(10) if i % 5 + 1 != fold])
        write(tmp_path, f"split{fold:02d}/val.csv", [f"{i}" for i in range(10) if i % 5 + 1 == fold])
        write(tmp_path, f"split{fold:02d}/test.csv", ["test1", "test2"])
    found = labelled.find("mer2023", tmp_path, splits=[str(tmp_path)])
    assert [clip.folds["mer_multi"] for clip in found] == [*"1234512345", "held-out", "held-out"]
    clips = [LabelledClip(clip.name, 80, 50_000, "", clip.labels, clip.folds) for clip in found]
    fold = folds.split(PROTOCOLS["mer_multi"], clips, 2, "published")
    assert [len(part) for part in fold[1:]] == [8, 2, 2]


def test_one_fold_needs_no_number(tmp_path):
    write(tmp_path, "train.csv", ["p01_task_1_1", "p02_task_1_1"], "3")
    write(tmp_path, "test.csv", ["p03_task_1_1"], "2")
    clips = labelled.find("avcaffe", tmp_path, splits=[f"avcaffe_arousal={tmp_path}"])
    assert [clip.folds["avcaffe_arousal"] for clip in clips] == ["train", "train", "1"]
    assert [clip.speaker for clip in clips] == ["p01", "p02", "p03"]


def test_a_missing_list_is_named(tmp_path):
    write_folds(tmp_path)
    (tmp_path / "split04" / "train.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no train list of fold 4 of dfew: put it at split04/train\.csv"
    ):
        labelled.find("dfew", tmp_path, splits=[str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"none is no directory"):
        labelled.find("dfew", tmp_path, splits=[f"{tmp_path}/none"])


@pytest.mark.parametrize(
    ("place", "names", "label", "message"),
    [
        ("split03/test.csv", ["00002", "00004"], "1", "00004 is in fold 3 and in fold 5 of dfew"),
        ("split03/train.csv", ["00000", "00002"], "1", "00002 is in the training part of fold 3 of dfew"),
        ("split03/train.csv", ["00000"], "2", "00000 has .*neutral.* in one list and .*sad.* in another"),
        ("split06/test.csv", ["00002"], "1", "is of fold 6, and dfew has folds 1 to 5"),
        ("other/test.csv", ["00002"], "1", "does not tell its fold: put it into a folder such as split01"),
        ("fold3/test.csv", ["00002"], "1", "are the same part of fold 3: keep one"),
    ],
)
def test_lists_that_contradict_each_other_are_one_line(tmp_path, place, names, label, message):
    write_folds(tmp_path / "lists")
    write(tmp_path / "lists", place, names, label)
    with pytest.raises(ValueError, match=message) as caught:
        labelled.find("dfew", tmp_path, splits=[f"{tmp_path}/lists"])
    assert "\n" not in str(caught.value)


def test_the_protocol_of_lists_must_be_clear():
    assert parse_splits("dfew", ["lists"]) == {"dfew": "lists"}
    assert parse_splits("mafw", ["mafw_11=a", "mafw_43=b=c"]) == {"mafw_11": "a", "mafw_43": "b=c"}
    with pytest.raises(ValueError, match="must be PROTOCOL=DIR, with one of mafw_11, mafw_43"):
        parse_splits("mafw", ["lists"])
    with pytest.raises(ValueError, match="names decide the folds of crema_d: use --annotations"):
        parse_splits("crema_d", ["lists"])
