"""Scores of classified emotions, in % as in the paper (section 4.1).

Except for AUC and top-k, all of them follow from a matrix of confusion. They are computed for many matrices
at once, so that `intervals` can resample speakers.
"""

import numpy as np
from sklearn.metrics import confusion_matrix

from hicmae_jax.evaluation.auc import one_vs_rest_auc

PERCENT = 100.0
OF_CONFUSION = ("UAR", "WAR", "weighted F1", "macro F1", "micro F1")
"""Names of the scores that follow from a matrix of confusion."""


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count clips by true and predicted class.

    Args:
        true: int[N], classes from 0.
        predicted: int[N], classes from 0.
        classes: number of classes K.

    Returns:
        int64[K, K]; a row is a true class, a column a predicted one.

    Raises:
        ValueError: there is no clip, the lengths differ, or a class is not below `classes`.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.ndim != 1 or true.shape != predicted.shape or not len(true):
        raise ValueError(
            f"true classes {true.shape} and predicted classes {predicted.shape} must be two lists of one "
            "length of at least 1"
        )
    for name, values in (("true", true), ("predicted", predicted)):
        outside = np.flatnonzero((values < 0) | (values >= classes))
        if len(outside):
            raise ValueError(
                f"{name} class {values[outside[0]]} of clip {outside[0]} is not in 0 … {classes - 1}: "
                "leave out clips without a class of the protocol"
            )
    return confusion_matrix(true, predicted, labels=np.arange(classes)).astype(np.int64)


def recalls(counts: np.ndarray) -> np.ndarray:
    """Recall of every class in %.

    Args:
        counts: [..., K, K], matrices of confusion.

    Returns:
        float64[..., K]; NaN for a class that never occurs in the truth.
    """
    own = np.diagonal(counts, axis1=-2, axis2=-1)
    return PERCENT * _ratio(own, counts.sum(-1), empty=np.nan)


def scores_of_confusion(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The scores `OF_CONFUSION` of one or many matrices.

    UAR is the mean recall of the classes that occur in the truth. WAR is accuracy, and so is the micro F1.
    The weighted F1 weights classes by their share of the truth. The macro F1 is the mean over classes that
    occur in truth or prediction. (Where a class is predicted but never true, the published UAR is not a
    number; here that class has no recall and is left out.)

    Args:
        counts: [..., K, K], matrices of confusion.

    Returns:
        Name → float64[...] in %; NaN for a matrix without clips.
    """
    counts = np.asarray(counts, np.float64)
    own = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(-1), counts.sum(-2)
    f1 = _ratio(2 * own, true + predicted, empty=0)
    total = true.sum(-1)
    accuracy = _ratio(own.sum(-1), total, empty=np.nan)
    scores = {
        "UAR": _mean_where(_ratio(own, true, empty=0), true > 0),
        "WAR": accuracy,
        "weighted F1": _ratio((f1 * true).sum(-1), total, empty=np.nan),
        "macro F1": _mean_where(f1, true + predicted > 0),
        "micro F1": accuracy,
    }
    return {name: PERCENT * score for name, score in scores.items()}


def top_k(true: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Share of clips whose class is among the k highest scores, in %.

    Args:
        true: int[N], classes from 0.
        scores: float[N, K]; of equal scores, that of the lower class counts as higher.
        k: number of candidates; all classes if there are fewer.
    """
    highest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return PERCENT * float((highest == np.asarray(true)[:, None]).any(1).mean())


def class_scores(true: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """All scores of classified clips.

    Args:
        true: int[N], classes from 0.
        scores: float[N, K], higher is more likely.

    Returns:
        Name → score in %: those of `OF_CONFUSION`, `AUC`, `top-1` and `top-5`.

    Raises:
        ValueError: as `predictions` and `confusion`.
    """
    predicted = predictions(scores)
    scores = np.asarray(scores, np.float64)
    counts = confusion(true, predicted, scores.shape[1])
    found = {name: float(score) for name, score in scores_of_confusion(counts).items()}
    top = {f"top-{k}": top_k(true, scores, k) for k in (1, 5)}
    return {**found, "AUC": float(one_vs_rest_auc(true, scores)), **top}


def predictions(scores: np.ndarray) -> np.ndarray:
    """The class with the highest score, int64[N]; of equal scores the lower class.

    Args:
        scores: float[N, K].

    Raises:
        ValueError: scores have another shape, or are not finite.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ValueError(f"scores {scores.shape} must have a row for each clip and a column for each class")
    bad = ~np.isfinite(scores).all(1)
    if bad.any():
        raise ValueError(
            f"scores of {bad.sum()} of {len(bad)} clips are not finite, first clip {bad.argmax()}: "
            "check the checkpoint"
        )
    return scores.argmax(1)


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float) -> np.ndarray:
    """Part / whole, and `empty` where the whole is 0."""
    filled = whole > 0
    return np.where(filled, part / np.where(filled, whole, 1), empty)


def _mean_where(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that count; NaN if none does."""
    return _ratio(np.where(counted, values, 0).sum(-1), counted.sum(-1), empty=np.nan)
