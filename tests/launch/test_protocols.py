"""The list of protocols says what `data_pipeline.corpora.protocols` knows."""

from data_pipeline.corpora.protocols import PROTOCOLS, protocol
from launch import protocols


def test_every_protocol_is_listed_with_all_columns():
    lines = protocols.listing().splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(PROTOCOLS)
    assert len(lines) == len(protocols.HEADS) * len(PROTOCOLS)


def test_a_row_is_in_words():
    assert protocols.row(protocol("iemocap"))[:7] == (
        "iemocap",
        "iemocap",
        "4: anger neutral happiness sadness; excitement counts as happiness",
        "5 by session",
        "5,531",
        "50, 56, 4",
        "UAR 68.21, WAR 68.36",
    )
    assert protocols.row(protocol("crema_d_4")).folds == "5 by speaker, only fold 5 is tested"
    assert protocols.row(protocol("mafw_43")).outputs == "43, named by the data"
    assert protocols.row(protocol("mer_multi")).published == "weighted F1 71.33, UAR 64.15"
    assert protocols.row(protocol("mer2024"))[3:7] == (
        "5 by lists, all tested on one held-out part",
        "any number",
        "50, 56, 4",
        protocols.NONE,
    )
    assert protocols.row(protocol("werewolf_xl")).published.startswith("PCC arousal 33.74, ")
    assert protocols.row(protocol("avcaffe_valence")).clips == "58,112, scores averaged over a task's clips"
