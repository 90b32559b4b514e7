"""Area under the ROC curve of each class against the rest, for many weightings of the same clips at once."""

import numpy as np


def one_vs_rest_auc(true: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the curve of each class against the rest, mean over classes, in %.

    The paper reports an AUC without a definition; this is the macro average of one against the rest. It is
    the probability that a clip of the class scores above one of the rest, and equal scores count half.

    Args:
        true: int[N], classes from 0.
        scores: float[N, K], higher is more likely.
        weights: [..., N] of at least 0, for example how often each clip is drawn; None for 1.

    Returns:
        float64[...], the mean over the classes that some clips have and some have not; NaN if there is none.
    """
    true = np.asarray(true)
    weights = np.ones(len(true)) if weights is None else np.asarray(weights, np.float64)
    total, classes = np.zeros(weights.shape[:-1]), np.zeros(weights.shape[:-1])
    for k, of_class in enumerate(scores.T):
        area = _area(true == k, of_class, weights)
        defined = np.isfinite(area)
        total += np.where(defined, area, 0)
        classes += defined
    return np.where(classes > 0, 100 * total / np.maximum(classes, 1), np.nan)


def _area(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the curve of one class in [0, 1], NaN if all clips with weight have it or none has.

    Args:
        positive: bool[N].
        scores: float[N].
        weights: float64[..., N].
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # of each run of equal scores
    weights, positive = weights[..., order], positive[order]
    has = np.add.reduceat(weights * positive, first, axis=-1)
    rest = np.add.reduceat(weights * ~positive, first, axis=-1)
    below = rest.cumsum(-1) - rest / 2
    pairs = has.sum(-1) * rest.sum(-1)
    return np.where(pairs > 0, (has * below).sum(-1) / np.where(pairs > 0, pairs, 1), np.nan)
