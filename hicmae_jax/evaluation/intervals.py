"""Confidence intervals of scores by a bootstrap over speakers or sessions.

Clips of one speaker resemble each other, so resampling single clips would give intervals that are too narrow.
Here whole units (speakers or sessions) are drawn with replacement, as many as there are, and an interval has
the middle share of the scores of all draws. The models stay as they are: the interval does not cover the
variation from one training run to another.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hicmae_jax.evaluation.auc import one_vs_rest_auc
from hicmae_jax.evaluation.emotion_metrics import OF_CONFUSION, predictions, recalls, scores_of_confusion
from hicmae_jax.evaluation.regression_metrics import regression_scores

DRAWS = 1000
LEVEL = 0.95
AT_ONCE = 50  # draws, to limit the memory


class Interval(NamedTuple):
    """A confidence interval.

    Attributes:
        low: lower end; NaN if there is no interval.
        high: upper end.
        units: number of speakers or sessions that were resampled.
        note: why there is no interval, or what it leaves out; empty if there is nothing to say.
    """

    low: float
    high: float
    units: int
    note: str = ""


class Resampling:
    """Draws of units with replacement. They depend on the seed and the number of units alone.

    Attributes:
        units: number of different units.
        counts: int64[draws, units], how often each unit is drawn; units are in sorted order.
        unit_of: int64[N], the unit of every clip.

    Raises:
        ValueError: there is no clip, or some clips have a unit and others have none.
    """

    def __init__(self, units: Sequence[str], draws: int = DRAWS, seed: int = 0) -> None:
        unknown = sum(not unit for unit in units)
        if not len(units) or 0 < unknown < len(units):
            raise ValueError(
                f"{unknown} of {len(units)} clips have no speaker or session: name that of every clip"
            )
        self.known = not unknown
        names, self.unit_of = np.unique(np.asarray(units, str), return_inverse=True)
        self.units = len(names)
        # NumPy guarantees the raw bits of a bit generator in all its versions. The remainder of 64 bits by a
        # number of units is as good as uniform.
        raw = np.random.Philox(key=seed).random_raw((draws, self.units))
        drawn = (raw % np.uint64(self.units)).astype(np.int64)
        self.counts = np.stack([np.bincount(row, minlength=self.units) for row in drawn])

    def missing(self) -> str:
        """Why there can be no interval; empty if there can be one."""
        if not self.known:
            return "the speakers or sessions are unknown"
        if self.units < 2:
            return "one speaker or session only"
        return ""

    def clips(self) -> Iterator[np.ndarray]:
        """Indices of the clips of every draw, int64[M]; none if there can be no interval."""
        if not self.missing():
            for counts in self.counts:
                yield np.repeat(np.arange(len(self.unit_of)), counts[self.unit_of])

    def confusions(self, true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
        """Matrices of confusion of every draw, int64[draws, K, K], as `emotion_metrics.confusion`."""
        cell = np.asarray(true) * classes + np.asarray(predicted)
        found = np.zeros((len(self.counts), classes * classes), np.int64)
        # Only cells that occur: 43 classes have 1,849 cells, of which most are empty.
        used, cell = np.unique(cell, return_inverse=True)
        of_unit = np.bincount(self.unit_of * len(used) + cell, minlength=self.units * len(used))
        # Floats, which are exact here, are multiplied many times as fast as integers.
        found[:, used] = self.counts.astype(float) @ of_unit.reshape(self.units, len(used)).astype(float)
        return found.reshape(-1, classes, classes)

    def aucs(self, true: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """`one_vs_rest_auc` of every draw, float64[draws]."""
        parts = [self.counts[begin : begin + AT_ONCE] for begin in range(0, len(self.counts), AT_ONCE)]
        return np.concatenate([one_vs_rest_auc(true, scores, part[:, self.unit_of]) for part in parts])

    def interval(self, values: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
        """Interval of the values of all draws; draws where a score is undefined (NaN) are left out.

        Args:
            values: float[draws], scores of the draws.
            level: share of the values inside the interval.
        """
        if note := self.missing():
            return Interval(np.nan, np.nan, self.units if self.known else 0, note)
        values = np.asarray(values, np.float64)
        defined = values[np.isfinite(values)]
        if not len(defined):
            return Interval(np.nan, np.nan, self.units, "the score is undefined in every draw")
        left_out = len(values) - len(defined)
        note = f"undefined in {left_out} of {len(values)} draws" if left_out else ""
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high), self.units, note)


def class_intervals(
    true: np.ndarray, scores: np.ndarray, units: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of the scores of classes, in %, from one matrix of confusion for each draw.

    Args:
        true: int[N], classes from 0.
        scores: float[N, K], higher is more likely.
        units: speaker or session of every clip.
        draws: number of resamples.
        seed: of the draws.

    Returns:
        Name → 95 % interval, for `emotion_metrics.OF_CONFUSION` and `AUC`.
    """
    resampling = Resampling(units, draws, seed)
    return {
        name: resampling.interval(values) for name, values in _class_draws(resampling, true, scores).items()
    }


def class_differences(
    true: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    units: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Paired intervals of the difference first - second in all scores of classes, in % points.

    Args:
        true: int[N], classes from 0.
        first: float[N, K], scores of the one system.
        second: float[N, K], scores of the other system for the same clips in the same order.
        units: speaker or session of every clip.
        draws: number of resamples.
        seed: of the draws.

    Returns:
        Name → 95 % interval, for `emotion_metrics.OF_CONFUSION` and `AUC`.
    """
    resampling = Resampling(units, draws, seed)
    of_first, of_second = (_class_draws(resampling, true, scores) for scores in (first, second))
    return {name: resampling.interval(of_first[name] - of_second[name]) for name in of_first}


def regression_intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    dimensions: Sequence[str],
    units: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of all scores of dimensions, in the units of `regression_scores`.

    Args:
        true: float[N, D], labels.
        predicted: float[N, D].
        dimensions: names of the D dimensions.
        units: speaker or session of every clip.
        draws: number of resamples.
        seed: of the draws.

    Returns:
        Name → 95 % interval, for every name of `regression_scores`.
    """
    resampling = Resampling(units, draws, seed)
    found = [regression_scores(true[clips], predicted[clips], dimensions) for clips in resampling.clips()]
    names = regression_scores(true, predicted, dimensions)
    return {name: resampling.interval([scores[name] for scores in found]) for name in names}


def recall_intervals(
    true: np.ndarray, scores: np.ndarray, units: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> list[Interval]:
    """Intervals of the recall of every class in %; arguments as in `class_intervals`."""
    resampling = Resampling(units, draws, seed)
    values = recalls(resampling.confusions(true, predictions(scores), np.shape(scores)[1]))
    return [resampling.interval(of_class) for of_class in values.T]


def _class_draws(resampling: Resampling, true: np.ndarray, scores: np.ndarray) -> Mapping[str, np.ndarray]:
    """Name of a score → its values in all draws."""
    scores = np.asarray(scores)
    if resampling.missing():
        return dict.fromkeys((*OF_CONFUSION, "AUC"), np.array([]))
    confusions = resampling.confusions(true, predictions(scores), scores.shape[1])
    return {**scores_of_confusion(confusions), "AUC": resampling.aucs(true, scores)}
