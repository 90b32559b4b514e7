import hashlib

import numpy as np
import pytest

from data_pipeline.corpora import folds
from data_pipeline.corpora.clip_names import told
from data_pipeline.corpora.protocols import PROTOCOLS
from data_pipeline.format.labelled_set import HELD_OUT, TRAIN, LabelledClip
from tests.support import data_set_names

MSP_IMPROV = {
    "F01": 411,
    "F02": 690,
    "F03": 856,
    "F04": 515,
    "F05": 710,
    "F06": 720,
    "M01": 505,
    "M02": 638,
    "M03": 766,
    "M04": 529,
    "M05": 697,
    "M06": 750,
}
"""Clips of each speaker in the published split files."""
WEREWOLF_XL = (
    *(600, 297, 549, 576, 643, 681, 258, 435, 639, 505, 271, 639, 460, 687, 517),
    *(415, 494, 493, 659, 658, 957, 700, 374, 179, 381, 301, 227, 401, 25, 436),
)
"""Clips of the prefixes 01 to 30 in the published split files."""


def named(dataset, names):
    """Clips whose names tell speaker and label."""
    clips = []
    for name in names:
        speaker, emotion = told(dataset, name)
        clips.append(LabelledClip(name, 80, 50_000, speaker, {"emotion": emotion}))
    return clips


def made_up(n_clips=60, n_speakers=10):
    classes = PROTOCOLS["made_up"].outputs
    return [
        LabelledClip(f"clip{i}", 80, 50_000, f"speaker{i % n_speakers}", {"emotion": classes[i % 6]})
        for i in range(n_clips)
    ]


def official(n_clips=40, protocol="dfew", n_folds=5, others=()):
    classes = PROTOCOLS[protocol].outputs
    return [
        LabelledClip(
            f"{i:05d}",
            80,
            50_000,
            "",
            {"emotion": classes[i % len(classes)]},
            {protocol: others[i] if i < len(others) else str(i % n_folds + 1)},
        )
        for i in range(n_clips)
    ]


@pytest.mark.parametrize(
    ("dataset", "names", "published"),
    [
        (
            "crema_d",
            data_set_names.crema_d_published(),
            "b49c638a07c274caad749b201790ea0a548515c127859c7d792d40a918e9333e",
        ),
        (
            "ravdess",
            data_set_names.ravdess(),
            "ccfdb6344088510994d2e795c0b6eac159b28ea268f9e1cb2babbffda31291e0",
        ),
    ],
    ids=["crema_d", "ravdess"],
)
def test_folds_and_labels_are_those_of_the_published_split_files(dataset, names, published):
    """The hash is of a line ``<clip> <label> <test fold>`` for each clip of the published files, sorted."""
    protocol, clips = PROTOCOLS[dataset], named(dataset, names)
    labels, numbers = folds.targets(protocol, clips), folds.fold_numbers(protocol, clips)
    lines = sorted(f"{clip.name} {label} {fold}\n" for clip, label, fold in zip(clips, labels, numbers))
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == published


def test_the_sizes_of_folds_by_session_are_those_of_the_published_split_files():
    names = [
        f"MSP-IMPROV-S01A-{speaker}-P-FM{turn:02d}" for speaker, n in MSP_IMPROV.items() for turn in range(n)
    ]
    clips = [
        LabelledClip(name, 80, 50_000, told("msp_improv", name).speaker, {"emotion": "A"}) for name in names
    ]
    protocol = PROTOCOLS["msp_improv"]
    assert folds.differences(protocol, clips) == ["msp_improv: 7,787 clips, the protocol has 7,798"]


def test_the_sizes_of_folds_by_prefix_are_those_of_the_published_split_files():
    protocol = PROTOCOLS["werewolf_xl"]
    labels = dict.fromkeys(protocol.outputs, 0.5)
    clips = [
        LabelledClip(f"{prefix:02d}_01_{i}", 80, 50_000, f"{prefix:02d}", labels)
        for prefix, n in enumerate(WEREWOLF_XL, start=1)
        for i in range(n)
    ]
    assert folds.differences(protocol, clips) == ["werewolf_xl: 14,457 clips, the protocol has 14,632"]


def test_differences_name_fold_and_numbers():
    whole = named("crema_d", data_set_names.crema_d())
    assert folds.differences(PROTOCOLS["crema_d"], whole) == []
    assert folds.differences(PROTOCOLS["crema_d"], whole[1:]) == [
        "crema_d fold 1: 1,462 clips, the protocol has 1,463",
        "crema_d: 7,441 clips, the protocol has 7,442",
    ]
    listed = named("crema_d", data_set_names.crema_d_published())
    assert folds.differences(PROTOCOLS["crema_d_4"], listed) == []
    less = [line for line in folds.differences(PROTOCOLS["werewolf_xl"], [])]
    assert less[0] == "werewolf_xl fold 1: 0 clips, the published split file has 3,346"


def test_four_classes_leave_the_others_out():
    clips = named("crema_d", data_set_names.crema_d_published())
    protocol = PROTOCOLS["crema_d_4"]
    fold = folds.split(protocol, clips, 5, "published")
    assert (len(fold.train), len(fold.test)) == (3_873, 1_023)
    labels = folds.targets(protocol, clips)
    assert labels.dtype == np.int32
    assert set(labels[fold.train]) == {0, 1, 2, 3}
    assert {clips[i].labels["emotion"] for i in np.flatnonzero(labels == -1)} == {"DIS", "FEA"}


@pytest.mark.parametrize("fold", [1, 2])
def test_published_selection_validates_on_the_test_fold(fold):
    parts = folds.split(PROTOCOLS["made_up"], made_up(), fold, "published")
    assert np.array_equal(parts.validation, parts.test)
    assert sorted([*parts.train, *parts.test]) == list(range(60))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fold", [1, 2])
def test_honest_selection_holds_out_whole_speakers(fold, seed):
    clips = made_up()
    parts = folds.split(PROTOCOLS["made_up"], clips, fold, "honest", seed=seed)
    speakers = [{clips[i].speaker for i in indices} for indices in parts[1:]]
    assert speakers[0].isdisjoint(speakers[1])
    assert speakers[2].isdisjoint(speakers[0] | speakers[1])
    assert sorted(np.concatenate(parts[1:])) == list(range(60))
    assert len(speakers[1]) == 1  # 6 of 30 clips are nearest to 15 %
    assert np.array_equal(parts.test, folds.split(PROTOCOLS["made_up"], clips, fold, "published").test)


def test_held_out_speakers_depend_on_the_seed_and_not_on_the_order_of_clips():
    clips, protocol = made_up(200, 40), PROTOCOLS["made_up"]

    def held(clips, seed):
        return {clips[i].speaker for i in folds.split(protocol, clips, 1, "honest", seed=seed).validation}

    assert held(clips, 0) == held(clips[::-1], 0)
    assert len({frozenset(held(clips, seed)) for seed in range(5)}) > 3


def test_unknown_speakers_are_held_out_by_class():
    clips, protocol = official(140), PROTOCOLS["dfew"]
    parts = folds.split(protocol, clips, 3, "honest")
    assert set(parts.validation).isdisjoint(parts.train)
    assert set(parts.test).isdisjoint({*parts.train, *parts.validation})
    # 16 training clips of each class, of which 15 % are 2.
    assert np.bincount(folds.targets(protocol, clips)[parts.validation]).tolist() == [2] * 7
    assert "who speaks is not known" in folds.selection_rule(protocol, clips, "honest")


def test_official_folds_may_have_clips_that_are_never_tested_or_never_trained():
    clips = official(40, others=(TRAIN, HELD_OUT))
    for fold in range(1, 6):
        parts = folds.split(PROTOCOLS["dfew"], clips, fold, "published")
        assert 0 in parts.train
        assert 1 not in np.concatenate(parts[1:])


def test_a_held_out_test_part_is_the_same_in_every_fold():
    clips = official(40, "mer_multi", others=(HELD_OUT,) * 6)
    for fold in range(1, 6):
        parts = folds.split(PROTOCOLS["mer_multi"], clips, fold, "published")
        assert parts.test.tolist() == list(range(6))
        assert {clips[i].folds["mer_multi"] for i in parts.validation} == {str(fold)}
        assert len(parts.train) == 34 - len(parts.validation)


def test_merged_labels_are_one_class():
    labels = ["anger", "excitement", "happiness", "frustration"]
    clips = [
        LabelledClip(name, 80, 50_000, f"session{i + 1}", {"emotion": name}) for i, name in enumerate(labels)
    ]
    protocol = PROTOCOLS["iemocap"]
    assert folds.targets(protocol, clips).tolist() == [0, 2, 2, -1]
    assert folds.fold_numbers(protocol, clips).tolist() == [1, 2, 3, folds.LEFT_OUT]


def test_classes_that_only_the_data_tell_are_sorted():
    protocol = PROTOCOLS["mafw_43"]
    clips = [
        LabelledClip(f"{i}", 80, 50_000, "", {"compound": f"{42 - i % 43:02d}"}, {"mafw_43": "1"})
        for i in range(86)
    ]
    assert folds.classes(protocol, clips)[:2] == ("00", "01")
    assert folds.targets(protocol, clips)[:2].tolist() == [42, 41]
    with pytest.raises(ValueError, match="the clips have 42 classes of compound, the protocol 43"):
        folds.fold_numbers(protocol, clips[1:43])


def test_regression_has_a_row_of_numbers_a_clip():
    protocol = PROTOCOLS["werewolf_xl"]
    whole = LabelledClip("01_1", 80, 50_000, "01", {"dominance": 1.0, "arousal": -0.5, "valence": 2.0})
    without = LabelledClip("07_1", 80, 50_000, "07", {"arousal": 0.5})
    found = folds.targets(protocol, [whole, without])
    assert found.dtype == np.float32
    assert found[0].tolist() == [-0.5, 2.0, 1.0]
    assert np.isnan(found[1]).all()
    assert folds.fold_numbers(protocol, [whole, without]).tolist() == [1, folds.LEFT_OUT]


def changed(**fields):
    clips = made_up()
    clips[7] = LabelledClip(**{**vars(clips[7]), **fields})
    return clips


@pytest.mark.parametrize(
    ("protocol", "clips", "message"),
    [
        ("made_up", changed(name="clip3"), "made_up clip clip3 is listed 2 times"),
        (
            "made_up",
            changed(labels={"emotion": "JOY"}),
            "made_up clip clip7 has the label 'JOY': made_up knows",
        ),
        ("made_up", changed(speaker=""), "made_up clip clip7 has no speaker"),
        (
            "dfew",
            official(9, others=("6",)),
            "dfew clip 00000 is in fold '6' of dfew, which has folds 1 to 5",
        ),
        (
            "crema_d",
            [LabelledClip("1092_A", 80, 50_000, "1092", {"emotion": "ANG"})],
            "crema_d clip 1092_A has the speaker '1092', whose number is not in 1001 to 1091",
        ),
        (
            "werewolf_xl",
            [LabelledClip("01_1", 80, 50_000, "01", {"arousal": "much", "valence": 1.0, "dominance": 1.0})],
            "clip 01_1: .* are not numbers",
        ),
    ],
    ids=["twice", "label", "speaker", "fold", "number", "regression"],
)
def test_a_mistake_in_the_data_is_one_line(protocol, clips, message):
    with pytest.raises(ValueError, match=message) as caught:
        folds.split(PROTOCOLS[protocol], clips, 1, "published")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((made_up(), 3, "published"), "made_up has folds 1 to 2: there is no fold 3"),
        ((made_up(), 1, "best"), "selection 'best' is not known"),
        ((made_up(n_speakers=2), 1, "honest"), "training part has 1 speaker, of which none can be held out"),
        ((made_up(n_speakers=1), 2, "published"), "made_up fold 2: the validation part has no clip"),
    ],
    ids=["fold", "selection", "one speaker to train on", "one speaker"],
)
def test_a_split_that_is_not_possible_is_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        folds.split(PROTOCOLS["made_up"], *arguments)
