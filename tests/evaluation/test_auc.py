"""The area under the curve: scikit-learn with and without weights, equal scores, classes without clips."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hicmae_jax.evaluation.auc import one_vs_rest_auc
from tests.goldens import finetune_recipe


def case(seed, count=150, classes=5, absent=()):
    true = finetune_recipe.skewed_labels(seed, count, classes, absent)
    return true, finetune_recipe.logits(seed + 1, true, classes)[0]


def reference(true, scores, weights=None):
    weights = np.ones(len(true)) if weights is None else weights
    present = np.unique(true[weights > 0])
    return 100 * np.mean([roc_auc_score(true == k, scores[:, k], sample_weight=weights) for k in present])


def test_it_agrees_with_scikit_learn():
    for seed in range(5):
        true, scores = case(seed, absent=(3,))
        assert one_vs_rest_auc(true, scores) == pytest.approx(reference(true, scores), rel=1e-12)
        coarse = scores.round()  # many equal scores
        assert one_vs_rest_auc(true, coarse) == pytest.approx(reference(true, coarse), rel=1e-12)


def test_weights_count_clips_as_often_as_they_are_drawn():
    true, scores = case(7)
    weights = np.random.RandomState(0).randint(0, 3, (4, len(true)))
    found = one_vs_rest_auc(true, scores, weights)
    for row, area in zip(weights, found, strict=True):
        assert area == pytest.approx(reference(true, scores, row), rel=1e-12)
        drawn = np.repeat(np.arange(len(true)), row)
        assert area == pytest.approx(one_vs_rest_auc(true[drawn], scores[drawn]), rel=1e-12)


def test_constant_scores_are_chance():
    assert one_vs_rest_auc(np.array([0, 1, 2]), np.ones((3, 3))) == 50


def test_one_class_alone_has_no_area():
    true = np.array([0, 0, 1])
    assert np.isnan(one_vs_rest_auc(true[:2], np.eye(3)[:2]))
    alone, both = one_vs_rest_auc(true, np.eye(3), np.array([[1, 1, 0], [1, 1, 1]]))
    assert np.isnan(alone)
    assert both == pytest.approx(100 * (0.75 + 0.25) / 2)
