"""Scores of classes: the goldens, scikit-learn, absent classes, constant predictions, ties."""

import numpy as np
import pytest
from sklearn import metrics as reference

from hicmae_jax.evaluation.emotion_metrics import (
    class_scores,
    confusion,
    predictions,
    recalls,
    scores_of_confusion,
    top_k,
)
from tests.goldens import finetune_recipe
from tests.support.golden_check import assert_agrees


def test_scores_agree_with_the_goldens():
    assert_agrees("class_metrics")


def sensitivity(true, predicted):
    present = np.unique(true)
    return reference.recall_score(true, predicted, labels=present, average="macro")


def random_case(seed, classes=6, absent=(), count=200):
    true = finetune_recipe.skewed_labels(seed, count, classes, absent)
    logits = finetune_recipe.logits(seed + 1, true, classes)[0]
    return true, logits


def assert_as_scikit_learn(true, scores):
    predicted = scores.argmax(1)
    found = class_scores(true, scores)
    expected = {
        "UAR": sensitivity(true, predicted),
        "WAR": reference.accuracy_score(true, predicted),
        "top-1": reference.accuracy_score(true, predicted),
        **{
            f"{average} F1": reference.f1_score(true, predicted, average=average, zero_division=0)
            for average in ("weighted", "macro", "micro")
        },
        "AUC": np.mean([reference.roc_auc_score(true == k, scores[:, k]) for k in np.unique(true)]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(
        {name: 100 * value for name, value in expected.items()}, rel=1e-12
    )


@pytest.mark.parametrize("absent", [(), (3,), (0, 5)])
def test_scores_agree_with_scikit_learn(absent):
    for seed in range(5):
        assert_as_scikit_learn(*random_case(seed, absent=absent))


def test_a_constant_prediction_scores_chance():
    true, scores = random_case(3, absent=(2,))
    scores[:] = [0, 9, 0, 0, 0, 0]
    assert_as_scikit_learn(true, scores)
    found = class_scores(true, scores)
    assert found["UAR"] == pytest.approx(100 / 5)
    assert found["AUC"] == pytest.approx(50)


def test_recall_of_a_class_that_never_occurs_is_not_a_number():
    true, logits = random_case(5, absent=(4,))
    counts = confusion(true, predictions(logits), 6)
    assert counts[:, 4].sum() > 0
    found = recalls(counts)
    assert np.isnan(found[4])
    present = [0, 1, 2, 3, 5]
    expected = reference.recall_score(true, logits.argmax(1), labels=present, average=None)
    np.testing.assert_allclose(found[present], 100 * expected)


def test_one_class_alone():
    true, scores = np.zeros(4, int), np.eye(3)[[0, 0, 1, 0]]
    found = class_scores(true, scores)
    assert found["UAR"] == found["WAR"] == 75
    assert found["macro F1"] == pytest.approx(100 * (6 / 7) / 2)
    assert np.isnan(found["AUC"])


def test_many_matrices_at_once():
    matrices = [confusion(true, logits.argmax(1), 6) for true, logits in map(random_case, range(3))]
    together = scores_of_confusion(np.stack([*matrices, np.zeros((6, 6), int)]))
    for number, matrix in enumerate(matrices):
        for name, score in scores_of_confusion(matrix).items():
            assert together[name][number] == score
    assert all(np.isnan(score[3]) for score in together.values())


def test_equal_scores():
    scores = np.array([[0.5, 0.5, 0], [0.2, 0.4, 0.4], [0.1, 0.1, 0.1]])
    np.testing.assert_array_equal(predictions(scores), [0, 1, 0])
    assert top_k([1, 2, 2], scores, 1) == 0
    assert top_k([1, 2, 2], scores, 2) == pytest.approx(200 / 3)
    assert top_k([1, 2, 2], scores, 9) == 100


def test_recall_agrees_with_audmetric():
    audmetric = pytest.importorskip("audmetric")
    true, logits = random_case(8)
    predicted = logits.argmax(1)
    scores = class_scores(true, logits)
    assert scores["UAR"] == pytest.approx(100 * audmetric.unweighted_average_recall(true, predicted))
    assert scores["WAR"] == pytest.approx(100 * audmetric.accuracy(true, predicted))


def test_bad_input_is_refused():
    true, logits = random_case(1, count=5)
    with pytest.raises(ValueError, match="true class -1 of clip 2 is not in 0 … 5"):
        class_scores(np.where(np.arange(5) == 2, -1, true), logits)
    with pytest.raises(ValueError, match=r"true classes \(4,\) and predicted classes \(5,\)"):
        class_scores(true[:4], logits)
    with pytest.raises(ValueError, match=r"scores \(5,\)"):
        class_scores(true, logits[:, 0])
    with pytest.raises(ValueError, match="at least 1"):
        class_scores(true[:0], logits[:0])
    logits[3, 1] = np.nan
    with pytest.raises(ValueError, match="scores of 1 of 5 clips are not finite, first clip 3"):
        class_scores(true, logits)
