"""Classes of two protocols are joined by the emotion that they name."""

import pytest

from data_pipeline.corpora.protocols import PROTOCOLS, protocol
from data_pipeline.corpora.shared_labels import EMOTIONS, shared_classes

CATEGORICAL = [
    name for name, each in PROTOCOLS.items() if not each.regression and set(each.outputs) & set(EMOTIONS)
]


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (
            "crema_d",
            "ravdess",
            {"neutral": "NEU", "happy": "HAP", "angry": "ANG", "fearful": "FEA"},
        ),
        ("crema_d_4", "dfew", {"happy": "HAP", "sad": "SAD", "neutral": "NEU", "anger": "ANG"}),
        ("mafw_11", "mer_multi", {"worry": "AX", "surprise": "SU", "neutral": "NE"}),
        ("msp_improv", "mafw_11", {"AN": "A", "HA": "H", "NE": "N", "SA": "S"}),
        ("iemocap", "msp_improv", {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}),
    ],
)
def test_classes_of_the_same_emotion_are_joined(own, other, expected):
    mine, theirs = protocol(own), protocol(other)
    named = {theirs.outputs[k]: mine.outputs[v] for k, v in shared_classes(mine, theirs).items()}
    assert expected.items() <= named.items()
    if own in ("crema_d_4", "msp_improv", "iemocap"):
        assert named == expected


def test_an_emotion_that_only_the_other_data_have_is_left_out():
    shared = shared_classes(protocol("crema_d"), protocol("ravdess"))
    calm = protocol("ravdess").outputs.index("calm")
    assert calm not in shared
    assert len(shared) == 6


@pytest.mark.parametrize("own", CATEGORICAL)
@pytest.mark.parametrize("other", CATEGORICAL)
def test_no_two_classes_become_one_and_the_way_back_is_the_same(own, other):
    there, back = (shared_classes(*map(protocol, pair)) for pair in ((own, other), (other, own)))
    assert {value: key for key, value in there.items()} == back
    if own == other:
        assert there == {number: number for number in range(len(protocol(own).outputs))}


@pytest.mark.parametrize("other", ["werewolf_xl", "avcaffe_arousal", "mafw_43"])
def test_protocols_without_single_emotions_share_none(other):
    message = f"{other} has no single emotions as classes, so it shares none"
    with pytest.raises(ValueError, match=message):
        shared_classes(protocol("crema_d"), protocol(other))
    with pytest.raises(ValueError, match=message):
        shared_classes(protocol(other), protocol("crema_d"))
