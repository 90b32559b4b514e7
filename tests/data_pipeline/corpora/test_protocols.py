import pytest

from data_pipeline.corpora.protocols import (
    DATASETS,
    OFFICIAL,
    PROTOCOLS,
    SESSION,
    SPEAKER,
    protocol,
    protocols_of,
)

OUTPUTS = {
    "mafw_11": 11,
    "mafw_43": 43,
    "dfew": 7,
    "mer_multi": 6,
    "mer2024": 6,
    "crema_d": 6,
    "crema_d_4": 4,
    "msp_improv": 4,
    "ravdess": 8,
    "iemocap": 4,
    "werewolf_xl": 3,
    "avcaffe_arousal": 5,
    "avcaffe_valence": 5,
    "made_up": 6,
}
CLIPS = {
    "mafw_11": 9_172,
    "mafw_43": 8_996,
    "dfew": 11_697,
    "mer_multi": 3_373 + 411,
    "crema_d": 7_442,
    "crema_d_4": 4_896,
    "msp_improv": 7_798,
    "ravdess": 1_440,
    "iemocap": 5_531,
    "werewolf_xl": 14_632,
    "avcaffe_arousal": 58_112,
    "avcaffe_valence": 58_112,
}


def test_the_table_has_the_numbers_of_the_paper():
    assert {name: found.n_outputs for name, found in PROTOCOLS.items()} == OUTPUTS
    assert {name: found.clips for name, found in PROTOCOLS.items() if found.clips} == CLIPS


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_a_protocol_agrees_with_itself(name):
    found = protocol(name)
    assert found.name == name
    assert found in protocols_of(found.dataset)
    assert found.fold_by in (SPEAKER, SESSION, OFFICIAL)
    assert found.fold_clips is None or len(found.fold_clips) == found.folds
    assert found.fold_clips is None or sum(found.fold_clips) <= found.clips
    assert set(found.tested_folds) <= set(range(1, found.folds + 1))
    assert not set(found.outputs) & set(found.left_out)
    assert set(found.merged.values()) <= set(found.outputs)
    assert found.regression == (found.metric == "CCC")
    assert found.regression or found.metric in found.published or not found.published


def test_only_the_last_fold_of_four_classes_of_crema_d_is_tested():
    assert protocol("crema_d_4").tested_folds == (5,)
    assert protocol("crema_d").tested_folds == (1, 2, 3, 4, 5)


def test_the_recipes_differ_where_the_published_ones_do():
    recipes = {name: (found.batch, found.epochs, found.stride) for name, found in PROTOCOLS.items()}
    others = {name: recipe for name, recipe in recipes.items() if recipe != (56, 50, 4)}
    assert others == {"mafw_11": (56, 100, 4), "mafw_43": (56, 100, 4), "werewolf_xl": (128, 30, 3)}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'crema' is not a protocol: choose one of crema_d, crema_d_4"):
        protocol("crema")
    with pytest.raises(ValueError, match="choose one of crema_d, mafw"):
        protocols_of("CREMA-D")
    assert len(DATASETS) == 11
