"""Which labelled clips a probe is fitted to and scored on, and what is refused in one line."""

import re

import numpy as np
import pytest

from data_pipeline.corpora import folds, protocols
from data_pipeline.format.finetune_sampling import FinetuneSampling
from data_pipeline.format.labelled_set import read_labelled_set
from hicmae_jax.evaluation.probe_clips import probe_clips, spread
from tests.support import set_fixtures
from tests.support.finetune_fixtures import write_labelled_set

SAMPLING = FinetuneSampling(frames=4, stride=4)
MADE_UP = protocols.protocol("made_up")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """48 clips of 8 speakers, one of each of the 6 emotions for each speaker."""
    return write_labelled_set(tmp_path_factory.mktemp("data") / "set")


def choose(root, protocol="", count=512, batch=8):
    return probe_clips(root, protocol, count, SAMPLING, batch)


def clips_of(chosen):
    """The clips to fit and those to score."""
    clips = chosen.clips.source.clips
    return clips[: chosen.fitted], clips[chosen.fitted :]


def test_a_third_of_the_training_part_is_scored_and_no_speaker_is_in_both(labelled):
    chosen = choose(labelled)
    fit, scored = clips_of(chosen)
    assert (len(fit), len(scored)) == (18, 6)
    assert not {clip.speaker for clip in fit} & {clip.speaker for clip in scored}
    known = read_labelled_set(labelled).clips
    tested = folds.split(MADE_UP, known, 1, "honest").test
    assert not {known[i].name for i in tested} & {clip.name for clip in (*fit, *scored)}
    emotions = [clip.labels["emotion"] for clip in (*fit, *scored)]
    assert [MADE_UP.outputs[number] for number in chosen.classes] == emotions
    assert chosen.about == (
        "made_up fold 1: 18 clips to fit, 6 to score, on speakers held out of the training part"
    )


def test_fewer_clips_keep_every_class_and_two_thirds_are_fitted(labelled):
    fit, scored = clips_of(choose(labelled, count=9))
    assert (len(fit), len(scored)) == (6, 3)
    assert len({clip.labels["emotion"] for clip in fit}) == 6


def test_clips_are_spread_over_classes_and_over_the_set():
    """The classes repeat after 6 clips, so that every sixth clip would be of one class."""
    classes = np.arange(120) % 6
    part = np.arange(12, 120)
    chosen = spread(part, classes, 18)
    assert len(set(chosen.tolist())) == 18
    assert set(chosen.tolist()) <= set(part.tolist())
    assert np.bincount(classes[chosen]).tolist() == [3] * 6
    for kind in range(6):
        assert np.diff(chosen[classes[chosen] == kind]).tolist() == [36, 36]
    assert spread(part, classes, 500).tolist() == part.tolist()


def test_without_a_speaker_to_hold_out_the_test_part_is_scored_and_named(tmp_path):
    chosen = choose(write_labelled_set(tmp_path / "set", n_clips=24, speakers=2))
    fit, scored = clips_of(chosen)
    assert {clip.speaker for clip in fit} == {"s01"}
    assert {clip.speaker for clip in scored} == {"s00"}
    assert chosen.about.endswith("12 to score, on the test part, because its training part has one speaker")


def test_a_part_that_the_data_set_has_for_this_purpose_is_scored(tmp_path):
    """MER tests every fold on the same clips, and has a validation part for each."""
    root = write_labelled_set(
        tmp_path / "set", dataset="mer2024", classes=protocols.protocol("mer2024").outputs
    )
    lines = (root / "clips.jsonl").read_text().splitlines()
    folds_of = ["1", "2", "held-out", "3"]
    lines = [
        line.replace('"folds": {}', f'"folds": {{"mer2024": "{folds_of[i % 4]}"}}')
        for i, line in enumerate(lines)
    ]
    (root / "clips.jsonl").write_text("\n".join(lines) + "\n")
    fit, scored = clips_of(choose(root))
    assert {clip.folds["mer2024"] for clip in fit} == {"2", "3"}
    assert {clip.folds["mer2024"] for clip in scored} == {"1"}


def test_a_protocol_that_is_not_the_first_of_the_set_can_be_chosen(tmp_path):
    emotions = protocols.protocol("crema_d").outputs
    root = write_labelled_set(tmp_path / "set", dataset="crema_d", classes=emotions)
    listed = (root / "clips.jsonl").read_text()
    # Actors of all folds.
    listed = re.sub('"speaker": "s(..)"', lambda found: f'"speaker": "{1001 + 12 * int(found[1])}"', listed)
    (root / "clips.jsonl").write_text(listed)
    assert choose(root).about.startswith("crema_d fold 1")
    chosen = choose(root, "crema_d_4")
    assert chosen.n_classes == 4
    assert not {"DIS", "FEA"} & {clip.labels["emotion"] for clip in chosen.clips.source.clips}


# --- Mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "count", "error"),
    [
        ("nonsense", 48, "'nonsense' is not a protocol: choose one of crema_d"),
        ("ravdess", 48, "holds made_up, but evaluation.protocol ravdess is a protocol of ravdess"),
        ("", 6, "evaluation.labelled_clips: 4 clips to fit are fewer than the 6 classes of made_up: take"),
    ],
)
def test_a_protocol_or_number_that_does_not_fit_is_refused(labelled, protocol, count, error):
    with pytest.raises(ValueError, match=error) as refused:
        choose(labelled, protocol, count)
    assert len(str(refused.value).splitlines()) == 1


def test_a_set_without_what_a_probe_needs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/labelled\.json is missing: there is no such"):
        choose(tmp_path / "nowhere")
    set_fixtures.write_set(tmp_path / "pre", [64])
    with pytest.raises(FileNotFoundError, match="this is a set for pre-training"):
        choose(tmp_path / "pre")
    write_labelled_set(tmp_path / "one", n_clips=12, speakers=4, classes=("ANG",))
    with pytest.raises(ValueError, match="of fold 1 of made_up to fit are of one class, ANG: a probe needs"):
        choose(tmp_path / "one")
    root = write_labelled_set(tmp_path / "none", n_clips=12, speakers=4)
    listed = (root / "clips.jsonl").read_text().replace('"emotion"', '"mood"')
    (root / "clips.jsonl").write_text(listed)
    with pytest.raises(ValueError, match="no clip has a label 'emotion' of made_up: choose another set"):
        choose(root)
    write_labelled_set(tmp_path / "numbers", n_clips=12, speakers=4, dataset="werewolf_xl")
    with pytest.raises(
        ValueError, match=r"werewolf_xl has numbers .* a probe needs classes: choose"
    ) as refused:
        choose(tmp_path / "numbers")
    assert len(str(refused.value).splitlines()) == 1
