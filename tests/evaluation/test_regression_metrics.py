"""Scores of dimensions: the goldens, SciPy, constant predictions, one clip."""

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as reference

from hicmae_jax.evaluation.regression_metrics import concordance, correlation, regression_scores
from tests.goldens import finetune_recipe
from tests.support.golden_check import assert_agrees

NAMES = ("arousal", "valence", "dominance")


def inputs(seed, count, dimensions):
    true = finetune_recipe.dimensions(seed, count, dimensions)
    return true, finetune_recipe.predictions(seed + 1, true)


def test_scores_agree_with_the_goldens():
    assert_agrees("regression", ("metric_",))


def test_scores_agree_with_scipy_and_scikit_learn():
    true, predicted = inputs(3, 500, 3)
    scores = regression_scores(true, predicted, NAMES)
    for d, name in enumerate(NAMES):
        x, y = true[:, d].astype(float), predicted[:, d].astype(float)
        assert scores[f"PCC {name}"] == pytest.approx(100 * scipy.stats.pearsonr(x, y).statistic)
        assert scores[f"MAE {name}"] == pytest.approx(reference.mean_absolute_error(x, y))
        assert scores[f"MSE {name}"] == pytest.approx(reference.mean_squared_error(x, y))
        assert scores[f"RMSE {name}"] == pytest.approx(reference.root_mean_squared_error(x, y))
        moments = np.cov(x, y)
        ccc = 2 * moments[0, 1] / (moments[0, 0] + moments[1, 1] + (x.mean() - y.mean()) ** 2)
        assert scores[f"CCC {name}"] == pytest.approx(100 * ccc)
        assert scores[f"acc {name}"] == pytest.approx(100 - 100 * scores[f"MAE {name}"])


def test_a_constant_prediction_has_no_correlation():
    true, predicted = inputs(3, 50, 3)
    predicted[:, 1] = 0.1  # not exact in binary: its mean is rounded
    scores = regression_scores(true, predicted, NAMES)
    assert scores["CCC valence"] == pytest.approx(0)
    assert np.isnan(scores["PCC valence"])
    assert np.isnan(scores["PCC"])
    assert scores["PCC arousal"] > 0
    assert np.isfinite(scores["CCC"])


def test_agreement_is_complete_only_for_equal_values():
    true, _ = inputs(3, 50, 3)
    np.testing.assert_allclose(concordance(true, true), 1)
    np.testing.assert_allclose(correlation(true, -2 * true + 5), -1)
    assert (concordance(true, true + 0.5) < 0.9).all()


def test_concordance_agrees_with_audmetric():
    audmetric = pytest.importorskip("audmetric")
    true, predicted = inputs(4, 80, 1)
    # audmetric's moments are biased, which matters to the difference of the means alone: have none.
    predicted = predicted + true.mean() - predicted.mean()
    found = regression_scores(true, predicted, ["arousal"])
    assert found["CCC"] == pytest.approx(100 * audmetric.concordance_cc(true[:, 0], predicted[:, 0]))


def test_bad_input_is_refused():
    true, predicted = inputs(3, 5, 3)
    with pytest.raises(ValueError, match=r"labels \(5, 3\) and predictions \(4, 3\) must both be"):
        regression_scores(true, predicted[:4], NAMES)
    with pytest.raises(ValueError, match=r"must both be \[clips, 2\]"):
        regression_scores(true, predicted, NAMES[:2])
    with pytest.raises(ValueError, match="at least one clip"):
        regression_scores(true[:0], predicted[:0], NAMES)
    predicted[4, 0] = np.inf
    with pytest.raises(ValueError, match="predictions of 1 of 5 clips are not finite, first clip 4"):
        regression_scores(true, predicted, NAMES)
