"""A fold of fine-tuning: files, scores, resuming, initial weights, frozen parts, unions, refused mistakes."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from data_pipeline.corpora.protocols import protocol
from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.runs import finetune, fold_report, fold_scores
from hicmae_jax.settings import finetune as settings_of
from hicmae_jax.weights.encoders import load_encoders
from tests.support import corpus_fixtures, finetune_fixtures, run_fixtures
from tests.support.finetune_fixtures import config, write_labelled_set

pytestmark = [
    pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS),
    pytest.mark.usefixtures("compiled_once"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_labelled_set(tmp_path_factory.mktemp("set"), 48)


def settings(data, **changes):
    return config(data, **({"epochs": 3, "checkpoint__every": 2} | changes))


def run(chosen, directory, encoders=None, **choices):
    finetune.run(chosen, directory, encoders, show_progress=False, **choices)
    return json.loads((directory / "scores.json").read_text())


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run: its directory and its scores."""
    directory = tmp_path_factory.mktemp("run") / "fold-1"
    return directory, run(settings(data), directory)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run of pre-training with the same encoders."""
    model = {"fusion_depth": 1, "audio_frames": finetune_fixtures.MODEL.audio_frames}
    about = run_fixtures.config("unused", **model)
    return run_fixtures.write_run(tmp_path_factory.mktemp("pretrained"), about)


def test_a_fold_has_scores_of_its_test_clips_by_both_epochs(whole):
    directory, scores = whole
    assert scores["protocol"] == "made_up"
    assert scores["selection"] == "on speakers held out of the training part"
    assert scores["last"]["step"] == 6
    for epoch in ("last", "best"):
        with np.load(directory / f"{epoch}.npz") as arrays:
            assert arrays["scores"].shape == arrays["true"].shape == (24, 6)
            np.testing.assert_allclose(arrays["scores"].sum(-1), 1, rtol=1e-5)
            assert set(arrays["speaker"]) == {"s00", "s01", "s02", "s03"}
            accuracy = 100 * np.mean(arrays["scores"].argmax(-1) == arrays["true"].argmax(-1))
        assert scores[epoch]["WAR"] == pytest.approx(accuracy)


def test_the_best_epoch_has_the_best_validation(whole):
    directory, scores = whole
    lines = [line for line in read_metrics(directory) if "validation/WAR" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    best = max(lines, key=lambda line: (line["validation/WAR"], -line["step"]))
    assert scores["best"]["step"] == best["step"]


def test_an_interrupted_fold_resumes_bit_for_bit(whole, data, tmp_path):
    directory, scores = whole
    shutil.copytree(directory, tmp_path / "run")
    for name in ("checkpoints/6", "scores.json", "last.npz", "best.npz"):
        path = tmp_path / "run" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # The best checkpoint may be the one of step 6 too; only those of earlier steps are left to begin from.
    assert run(settings(data), tmp_path / "run") == scores
    ours, theirs = (load_parameters(d)[0] for d in (tmp_path / "run", directory))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    for epoch in ("last", "best"):
        with np.load(directory / f"{epoch}.npz") as a, np.load(tmp_path / "run" / f"{epoch}.npz") as b:
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])


def test_a_fold_goes_on_and_is_scored_in_a_bucket(whole, data, bucket, capsys):
    directory, scores = whole
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    left_out = ("checkpoints/6/", "scores.json", "last.npz", "best.npz")
    for name, path in files.items():
        if not name.startswith(left_out):
            bucket.put(f"shop/ft/fold-1/{name}", path.read_bytes())
    finetune.run(settings(data), "gs://shop/ft/fold-1", None, show_progress=False)
    finetune.run(settings(data), "gs://shop/ft/fold-1", None, show_progress=False)
    out = capsys.readouterr().out
    first, second = (int(step) for step in re.findall(r"going on    from step (\d) of 6", out))
    assert first < 6 == second
    assert out.count("finished    already: gs://shop/ft/fold-1") == 1
    found = bucket.under("gs://shop/ft/fold-1")
    assert json.loads(found["scores.json"]) == scores
    ours, theirs = (load_parameters(place)[0] for place in ("gs://shop/ft/fold-1", directory))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_finished_fold_is_not_run_again(whole, data, capsys):
    directory, scores = whole
    before = (directory / "scores.json").stat().st_mtime_ns
    assert run(settings(data), directory) == scores
    assert (directory / "scores.json").stat().st_mtime_ns == before
    assert "finished    already" in capsys.readouterr().out


def test_without_a_validation_score_the_last_epoch_is_the_best_and_the_table_says_so(
    whole, data, tmp_path, monkeypatch
):
    shutil.copytree(whole[0], tmp_path / "run")
    (tmp_path / "run/scores.json").unlink()
    found = fold_scores.find_step

    def without_scores(directory, step=None):
        if step == "best":
            raise FileNotFoundError("no checkpoint has a score")
        return found(directory, step)

    monkeypatch.setattr(fold_scores, "find_step", without_scores)
    scores = run(settings(data), tmp_path / "run")
    assert scores["best"] == scores["last"]
    assert scores["flags"] == ["fold 1: no epoch has a score in validation, so the best is the last"]


def test_easy_emotions_are_learnt(data, tmp_path):
    """Brightness and loudness tell the class, so that a run without augmentation must find it."""
    easy = settings(
        data,
        epochs=25,
        optimizer__base_rate=0.1,
        optimizer__layer_decay=1.0,
        data__randaugment=False,
        preprocess__crop=False,
        preprocess__erase=0.0,
        preprocess__gain=False,
        mixing__probability=0.0,
        checkpoint__every=1000,
        scoring__epochs=25,
    )
    assert run(easy, tmp_path / "run")["last"]["UAR"] > 80


def test_initial_weights_are_those_of_the_run(pretrained, data, tmp_path):
    encoders = load_encoders(pretrained)
    chosen = settings(data, initial__weights=str(pretrained), epochs=2, checkpoint__keep=9)
    chosen = settings_of.from_config_dict(chosen.to_dict(), "cpu", encoders.config)
    run(chosen, tmp_path / "run", encoders)
    params, _ = (
        load_parameters(tmp_path / "run", 0) if (tmp_path / "run/checkpoints/0").exists() else (None, None)
    )
    theirs, _ = load_parameters(pretrained)
    if params is None:
        pytest.fail("the first checkpoint is gone, so its weights cannot be compared")
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], theirs["encoder"])
    jax.tree.map(np.testing.assert_array_equal, params["encoder_fusion"], theirs["encoder_fusion"])


@pytest.mark.parametrize(
    ("mode", "still"),
    [("frozen", ("encoder", "encoder_audio", "encoder_fusion")), ("linear", ("encoder", "fc_norm"))],
)
def test_what_is_frozen_stays(mode, still, data, tmp_path):
    chosen = settings(data, epochs=2, tuning__mode=mode, checkpoint__keep=9)
    run(chosen, tmp_path / "run")
    (first, _), (last, _) = (load_parameters(tmp_path / "run", step) for step in (0, 4))
    for name in still:
        jax.tree.map(np.testing.assert_array_equal, first[name], last[name])
    assert (first["head"]["kernel"] != last["head"]["kernel"]).any()
    moved = (first["video_layer_weights"] != last["video_layer_weights"]).any()
    assert moved == (mode == "frozen")


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_one_modality_is_trained_and_scored_alone(modality, data, tmp_path):
    scores = run(settings(data, epochs=2, finetune__modality=modality), tmp_path / "run")
    params, _ = load_parameters(tmp_path / "run")
    assert ("encoder" in params) == (modality == "video")
    assert ("encoder_audio" in params) == (modality == "audio")
    assert "encoder_fusion" not in params
    assert np.isfinite(scores["last"]["UAR"])


def test_the_table_says_which_folds_are_missing(whole):
    table = fold_report.write_report(whole[0].parent, protocol("made_up"), "made_up")
    assert "unfinished: 1 of 2 folds have results; missing: fold 2" in table
    assert "best epoch, mean of folds" in table
    written = json.loads((whole[0].parent / "scores.json").read_text())
    assert written["figures"]["last"]["pooled"]["WAR"]["value"] == pytest.approx(whole[1]["last"]["WAR"])


def test_a_union_trains_on_the_shared_emotions_of_both_sets(data, tmp_path):
    other = write_labelled_set(
        tmp_path / "other", 24, dataset="ravdess", classes=("happy", "calm", "sad", "angry"), name="01-"
    )
    # The speakers of RAVDESS are numbered from 1; that of the made-up clips from 0.
    clips = other / "clips.jsonl"
    clips.write_text(clips.read_text().replace('"s00"', '"s08"'))
    chosen = settings(data, data__sets=(str(data), str(other)), data__other_protocols=("ravdess",))
    fold = finetune.FoldData(chosen.data, chosen.model.frames, 0)
    assert [len(numbers) for numbers in fold.train.chosen] == [18, 18]
    counts = fold.train.targets.sum(0)
    # ANG DIS FEA HAP NEU SAD: three of each of its own, and six angry, happy and sad ones of the others.
    assert counts.tolist() == [9, 3, 3, 9, 3, 9]
    assert len(fold.test) == 24


def test_few_labels_are_the_same_share_of_each_class(data):
    chosen = settings(data, data__labels_share=0.34)
    fold = finetune.FoldData(chosen.data, chosen.model.frames, 0)
    assert fold.train.targets.sum(0).tolist() == [1] * 6
    again = finetune.FoldData(chosen.data, chosen.model.frames, 0)
    np.testing.assert_array_equal(fold.train.chosen[0], again.train.chosen[0])


MISTAKES = [
    ({"data__fold": 3}, "made_up has folds 1 to 2: there is no fold 3"),
    ({"data__protocol": "crema_d"}, "holds made_up, but crema_d is a protocol of crema_d"),
    ({"batch": 40}, "training clips are fewer than a batch of 40"),
    ({"loss__kind": "ccc"}, "needs dimensions, but the data set has classes"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:20] for _, message in MISTAKES])
def test_a_mistake_is_one_line_before_anything_is_written(changes, message, data, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        run(settings(data, **changes), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
