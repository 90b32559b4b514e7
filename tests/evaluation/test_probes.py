"""Probes on planted clusters, against both classifiers done by hand, and on any number of devices."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from data_pipeline.format.finetune_sampling import FinetuneSampling
from hicmae_jax.evaluation import probes
from hicmae_jax.evaluation.batched import BatchedApply
from hicmae_jax.evaluation.probe_clips import probe_clips
from hicmae_jax.evaluation.probes import Probes, probe_features, probe_scores
from hicmae_jax.preprocessing.pretrain import PreprocessConfig
from hicmae_jax.training import sharding
from tests.support import tiny_model
from tests.support.finetune_fixtures import MODEL, write_labelled_set

PREPROCESS = PreprocessConfig(model=MODEL, masks=tiny_model.MASKS)


def planted(separation, clips=240, width=12, classes=4, seed=0):
    """Clusters in noise: features, classes, and which two thirds are fitted."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(clips) % classes
    centres = separation * rng.standard_normal((classes, width))
    features = centres[kinds] + rng.standard_normal((clips, width))
    return features.astype(np.float32), kinds, np.arange(clips) < 2 * clips // 3


# --- The classifiers ----------------------------------------------------------------------------------------


def test_separate_clusters_are_told_without_mistake():
    scores = probe_scores(*planted(separation=8), n_classes=4)
    assert scores == {
        **dict.fromkeys(("linear_uar", "linear_war", "knn_uar", "knn_war"), 1.0),
        "chance_uar": 0.25,
        "clips": 80.0,
        "clips_fitted": 160.0,
    }


def test_noise_scores_chance():
    """The mean of 20 sets of 80 clips: five standard deviations are 5 · sqrt(0.25 · 0.75 / 1,600) = 0.054."""
    found = [probe_scores(*planted(0, seed=seed), n_classes=4) for seed in range(20)]
    for name in ("linear_uar", "linear_war", "knn_uar", "knn_war"):
        assert np.mean([scores[name] for scores in found]) == pytest.approx(0.25, abs=0.054), name


def standardised(features, fitted):
    x = features.astype(np.float64)
    mean, deviation = x[fitted].mean(0), x[fitted].std(0)
    return (x - mean) / deviation / np.sqrt(x.shape[1])


def recall_of(true, predicted):
    return np.mean([np.mean(predicted[true == kind] == kind) for kind in np.unique(true)])


def test_the_linear_probe_is_the_minimum_of_its_loss():
    """Cross-entropy over clips, and |weights|² / 2 over `STRENGTH`, minimised from other first values."""
    features, kinds, fitted = planted(separation=0.5)
    x = standardised(features, fitted)
    seen, true = x[fitted], kinds[fitted]

    def loss(flat):
        weights, bias = flat[:48].reshape(12, 4), flat[48:]
        log_shares = scipy.special.log_softmax(seen @ weights + bias, axis=1)
        wrong = np.exp(log_shares) - np.eye(4)[true]
        value = -log_shares[np.arange(len(true)), true].sum() + (weights**2).sum() / (2 * probes.STRENGTH)
        slope = seen.T @ wrong + weights / probes.STRENGTH
        return value, np.concatenate([slope.ravel(), wrong.sum(0)])

    found = scipy.optimize.minimize(loss, np.full(52, 0.1), jac=True, method="BFGS").x
    predicted = (x[~fitted] @ found[:48].reshape(12, 4) + found[48:]).argmax(1)
    scores = probe_scores(features, kinds, fitted, n_classes=4)
    assert 0.3 < scores["linear_uar"] < 0.95
    assert scores["linear_uar"] == pytest.approx(recall_of(kinds[~fitted], predicted), abs=0.013)
    assert scores["linear_war"] == pytest.approx(np.mean(kinds[~fitted] == predicted), abs=0.013)


def test_nearest_clips_vote_by_the_inverse_of_their_distance():
    features, kinds, fitted = planted(separation=0.5)
    x = standardised(features, fitted)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    predicted = []
    for row in x[~fitted]:
        distances = 1 - x[fitted] @ row
        nearest = np.argsort(distances)[: probes.NEIGHBOURS]
        votes = np.bincount(kinds[fitted][nearest], 1 / distances[nearest], minlength=4)
        predicted.append(votes.argmax())
    scores = probe_scores(features, kinds, fitted, n_classes=4)
    assert 0.3 < scores["knn_uar"] < 0.95
    assert scores["knn_uar"] == pytest.approx(recall_of(kinds[~fitted], np.array(predicted)))
    assert scores["knn_war"] == pytest.approx(np.mean(kinds[~fitted] == predicted))


def test_uar_weighs_classes_equally_and_chance_counts_those_that_are_scored():
    features, kinds, fitted = planted(separation=8)
    kept = fitted | (kinds != 3)
    scores = probe_scores(features[kept], kinds[kept], fitted[kept], n_classes=4)
    assert scores["chance_uar"] == pytest.approx(1 / 3)
    # The clips of class 1 that are scored get the features of class 0: two of three classes are right.
    swapped = np.where(((kinds == 1) & ~fitted)[:, None], features[0], features)
    kept = fitted | (kinds != 1) | (np.arange(240) > 220)
    scores = probe_scores(swapped[kept], kinds[kept], fitted[kept], n_classes=4)
    assert scores["linear_uar"] == pytest.approx(3 / 4)
    assert scores["linear_war"] == pytest.approx(60 / 65)


def test_features_of_any_scale_score_the_same():
    features, kinds, fitted = planted(separation=0.5)
    scaled = features * np.logspace(-3, 3, 12) + 100
    assert probe_scores(scaled, kinds, fitted, 4) == probe_scores(
        features.astype(np.float64), kinds, fitted, 4
    )


def test_features_that_are_not_finite_are_refused():
    features, kinds, fitted = planted(1)
    features[[3, 7], 0] = np.nan
    with pytest.raises(ValueError, match="features of 2 of 240 labelled clips are not finite"):
        probe_scores(features, kinds, fitted, 4)


# --- The model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Brightness and loudness follow the emotion; two clips cannot be read."""
    root = write_labelled_set(
        tmp_path_factory.mktemp("data") / "set", n_clips=96, speakers=16, scrambled=(50, 90)
    )
    return probe_clips(root, "", 512, FinetuneSampling(frames=4, stride=4), batch=8)


def test_a_model_is_probed_the_same_on_any_number_of_devices(clips):
    """Also with classes that have nothing to do with the clips, where any change of a feature may show."""
    params = tiny_model.parameters(MODEL)
    mixed = np.random.default_rng(0).permutation(clips.classes)
    alone = Probes(clips, PREPROCESS)
    scores = alone(params)
    assert (scores["clips_fitted"], scores["clips"]) == (28, 18)
    assert scores["linear_uar"] > 0.9
    alone._clips = dataclasses.replace(clips, classes=mixed)
    scores = alone(params)
    assert scores["linear_uar"] < 0.5
    assert alone(params) == scores
    spread = Probes(alone._clips, PREPROCESS, sharding.make_mesh(fsdp=2))
    assert spread(params) == scores
    assert spread(tiny_model.parameters(MODEL, seed=1)) != scores


def test_the_features_are_those_of_both_encoders_at_each_level(clips):
    found = BatchedApply(probe_features(PREPROCESS), 8)(tiny_model.parameters(MODEL), clips.clips)
    # Layers 1 and 3 of both modalities, 32 wide.
    assert found["features"].shape == (46, 128)
    assert len(found["example"]) == 46
    assert len(np.unique(found["features"][0].reshape(4, 32), axis=0)) == 4
