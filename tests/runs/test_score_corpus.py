"""A fine-tuned run is scored on other data over the shared emotions, and on the test clips of its fold."""

import json
import shutil

import numpy as np
import pytest
from etils import epath

from hicmae_jax.runs.score_corpus import score_corpus
from hicmae_jax.weights.encoders import load_encoders
from hicmae_jax.weights.export import export
from tests.support import corpus_fixtures, finetune_fixtures
from tests.support.finetune_fixtures import write_labelled_set
from tests.support.run_fixtures import run_module

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_labelled_set(tmp_path_factory.mktemp("set"), 24, speakers=4, scrambled=(1,))


@pytest.fixture(scope="module")
def fold(data, tmp_path_factory):
    config = finetune_fixtures.config(data)
    return finetune_fixtures.write_run(tmp_path_factory.mktemp("run") / "fold-1", config, steps=(3, 5))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Clips of two classes that the run knows, and of one between them that it does not know."""
    classes = ("happy", "calm", "angry")
    return write_labelled_set(tmp_path_factory.mktemp("other"), 12, 4, dataset="ravdess", classes=classes)


def numbered(root):
    """Speakers of RAVDESS have numbers from 1."""
    clips = root / "clips.jsonl"
    clips.write_text(clips.read_text().replace('"s00"', '"s09"'))
    return root


def test_other_data_are_scored_over_the_shared_emotions(fold, other, tmp_path):
    written = score_corpus(fold, numbered(other), "ravdess", tmp_path / "out", batch=8)
    assert written["classes"] == ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    assert (written["step"], written["clips"], written["left_out"]) == (5, 8, [])
    assert json.loads((tmp_path / "out/scores.json").read_text())["scores"] == written["scores"]
    with np.load(tmp_path / "out/predictions.npz") as arrays:
        # Clips of ravdess in order: happy, calm, angry, and so on.
        assert arrays["name"].tolist() == [f"clip{c:03}" for c in range(12) if c % 3 != 1]
        assert arrays["true"].tolist() == [3, 0] * 4
        np.testing.assert_allclose(arrays["scores"].sum(-1), 1, rtol=1e-6)
        accuracy = 100 * np.mean(arrays["scores"].argmax(-1) == arrays["true"])
    assert written["scores"]["WAR"] == pytest.approx(accuracy)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".npz", ".png"}
    with pytest.raises(FileExistsError, match=r"scores\.json exists: delete it or give another --output"):
        score_corpus(fold, other, "ravdess", tmp_path / "out")


def test_only_the_test_clips_of_the_runs_own_set_are_scored(fold, data, tmp_path):
    whole = score_corpus(fold, data, "made_up", tmp_path / "whole", best=True)
    assert (whole["step"], whole["epoch"]) == (3, "best")
    assert whole["scored"] == "the test clips of fold 1 of made_up"
    assert whole["clips"] == 11
    (left_out,) = whole["left_out"]
    assert left_out.startswith("clip001 (clip 1 of ")
    with np.load(tmp_path / "whole/predictions.npz") as arrays:
        assert set(arrays["speaker"]) == {"s00", "s01"}
        assert arrays["scores"].shape == (11, 6)
        scores = arrays["scores"]
    for missing in ("video", "audio"):
        score_corpus(fold, data, "made_up", tmp_path / missing, best=True, missing=missing)
        with np.load(tmp_path / missing / "predictions.npz") as arrays:
            assert not np.allclose(arrays["scores"], scores)


def test_a_copy_of_the_set_is_known_and_one_prepared_otherwise_is_refused(fold, data, tmp_path):
    shutil.copytree(data, tmp_path / "copy")
    assert score_corpus(fold, tmp_path / "copy", "made_up", tmp_path / "out")["clips"] == 11
    about = tmp_path / "copy/labelled.json"
    about.write_text(about.read_text().replace("made_up24", "another"))
    with pytest.raises(ValueError, match=r"is not the run's own set, but may have clips of its training"):
        score_corpus(fold, tmp_path / "copy", "made_up", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_set_of_the_union_is_refused(data, other, tmp_path):
    sets = {"data__sets": (str(data), str(numbered(other))), "data__other_protocols": ("ravdess",)}
    union = finetune_fixtures.write_run(tmp_path / "fold-1", finetune_fixtures.config(data, **sets))
    with pytest.raises(ValueError, match="the run was trained on these clips"):
        score_corpus(union, other, "ravdess", tmp_path / "out")


MISTAKES = [
    (
        {"protocol": "mafw_11"},
        "holds ravdess, not mafw, whose protocol mafw_11 is: choose",
    ),
    ({"protocol": "ravdes"}, "'ravdes' is not a protocol: choose one of"),
    ({"data": "none"}, r"none/labelled\.json is missing: there is no such directory"),
    ({"run": "none"}, "none"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:16] for _, message in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_is_written(fold, other, tmp_path, changes, message):
    named = {key: tmp_path / value if value == "none" else value for key, value in changes.items()}
    chosen = {"run": fold, "data": other, "protocol": "ravdess"} | named
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        score_corpus(output=tmp_path / "out", **chosen)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_modality_that_the_run_does_not_know_cannot_be_hidden(data, tmp_path):
    config = finetune_fixtures.config(data, finetune__modality="audio")
    run = finetune_fixtures.write_run(tmp_path / "fold-1", config)
    with pytest.raises(ValueError, match=r"missing video: .*fold-1 knows audio only"):
        score_corpus(run, data, "made_up", tmp_path / "out", missing="video")


def test_commands_for_pre_training_name_a_fine_tuned_run(fold, data, tmp_path):
    done = run_module("launch.evaluate", f"--run={fold}", f"--data={data}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 1
    assert done.stderr.startswith("evaluate: the run is one of fine-tuning, not of pre-training")
    assert done.stderr.count("\n") == 1


def test_a_fine_tuned_run_is_exported_and_begins_another(fold, tmp_path):
    export(str(fold), 3, epath.Path(tmp_path / "a.safetensors"), check=False)
    ours, theirs = load_encoders(tmp_path / "a.safetensors"), load_encoders(fold, 3)
    assert ours.config == theirs.config
    assert {"head.weight", "fc_norm.bias", "video_layer_weights"} <= set(ours.state)
    for name, value in theirs.state.items():
        np.testing.assert_array_equal(ours.state[name], value)
    with pytest.raises(ValueError, match="is a fine-tuning run, which --check does not compare"):
        export(str(fold), 3, epath.Path(tmp_path / "b.safetensors"), check=True)
