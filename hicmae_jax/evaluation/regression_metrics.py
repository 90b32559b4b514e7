"""Scores of regressed dimensions, such as arousal and valence (paper section 4.1)."""

from collections.abc import Sequence

import numpy as np

METRICS = ("CCC", "PCC", "MAE", "MSE", "RMSE", "acc")


def regression_scores(true: np.ndarray, predicted: np.ndarray, dimensions: Sequence[str]) -> dict[str, float]:
    """All scores of regressed clips, each as the mean over dimensions and for every dimension.

    - `CCC`: concordance correlation from unbiased moments, in %; NaN for one clip.
    - `PCC`: Pearson correlation in %. For one clip it counts as 100, as in the published code. It is NaN
      where truth or prediction is constant.
    - `MAE`, `MSE`, `RMSE`: errors in units of the labels. The mean RMSE is the mean of the dimensions' RMSE.
    - `acc`: 100 - 100 · MAE, as in the published code.

    Args:
        true: float[N, D], labels.
        predicted: float[N, D].
        dimensions: names of the D dimensions.

    Returns:
        `CCC`, … → mean over dimensions; `CCC arousal`, … → one dimension.

    Raises:
        ValueError: there is no clip, shapes do not fit, or values are not finite.
    """
    true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    _check(true, predicted, dimensions)
    error = predicted - true
    mae, mse = np.abs(error).mean(0), np.square(error).mean(0)
    of = {
        "CCC": 100 * concordance(true, predicted),
        "PCC": 100 * correlation(true, predicted),
        "MAE": mae,
        "MSE": mse,
        "RMSE": np.sqrt(mse),
        "acc": 100 * (1 - mae),
    }
    means = {name: float(of[name].mean()) for name in METRICS}
    return means | {
        f"{name} {dimension}": float(of[name][d])
        for name in METRICS
        for d, dimension in enumerate(dimensions)
    }


def concordance(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Concordance correlation from unbiased moments.

    Args:
        true: float[N, D].
        predicted: float[N, D].

    Returns:
        float64[D] in [-1, 1]; NaN for one clip, and where truth and prediction are the same constant.
    """
    true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if len(true) < 2:
        return np.full(true.shape[1], np.nan)
    shift = true.mean(0) - predicted.mean(0)
    whole = _variance(true) + _variance(predicted) + np.square(shift)
    return _ratio(2 * _covariance(true, predicted), whole)


def correlation(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pearson correlation.

    Args:
        true: float[N, D].
        predicted: float[N, D].

    Returns:
        float64[D] in [-1, 1]; 1 for one clip, NaN where truth or prediction is constant.
    """
    true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if len(true) < 2:
        return np.ones(true.shape[1])
    return _ratio(_covariance(true, predicted), np.sqrt(_variance(true) * _variance(predicted)))


def _check(true: np.ndarray, predicted: np.ndarray, dimensions: Sequence[str]) -> None:
    if true.shape != predicted.shape or true.shape[1:] != (len(dimensions),) or not len(true):
        raise ValueError(
            f"labels {true.shape} and predictions {predicted.shape} must both be [clips, {len(dimensions)}] "
            f"with at least one clip, for the dimensions {', '.join(dimensions)}"
        )
    for name, values in (("labels", true), ("predictions", predicted)):
        bad = ~np.isfinite(values).all(1)
        if bad.any():
            raise ValueError(
                f"{name} of {bad.sum()} of {len(bad)} clips are not finite, first clip {bad.argmax()}: "
                f"check the {'annotation' if name == 'labels' else 'checkpoint'}"
            )


def _variance(x: np.ndarray) -> np.ndarray:
    """Unbiased variance [D] over clips, exactly 0 for constant values (their mean may be rounded)."""
    return np.where(np.ptp(x, axis=0) > 0, x.var(0, ddof=1), 0)


def _covariance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Unbiased covariance [D] over clips."""
    return ((x - x.mean(0)) * (y - y.mean(0))).sum(0) / (len(x) - 1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
