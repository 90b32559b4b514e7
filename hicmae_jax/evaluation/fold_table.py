"""The table of a protocol from the test results of its folds.

A score depends on the checkpoint (the last epoch, or the best by validation) and on how folds are joined (all
test clips pooled, or the mean of the folds' scores). The published numbers do not say which they are. So the
table always has all four, with intervals over speakers for the pooled ones, beside the paper's.
"""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hicmae_jax.evaluation.emotion_metrics import class_scores
from hicmae_jax.evaluation.intervals import DRAWS, LEVEL, Interval, class_intervals, regression_intervals
from hicmae_jax.evaluation.regression_metrics import regression_scores

CHECKPOINTS = ("last", "best")
POOLED, MEAN = "pooled", "mean of folds"
CLASS_METRICS = ("UAR", "WAR", "weighted F1", "macro F1", "AUC")
REGRESSION_METRICS = ("CCC", "PCC", "RMSE")


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """Test results of one fold.

    Attributes:
        fold: its number.
        names: of the N test clips.
        units: speaker or session of every clip; all empty if unknown.
        true: int[N], classes from 0, or float[N, D], labels of dimensions.
        last: float[N, K], scores or predictions of the last epoch.
        best: the same of the best epoch; None if it was not kept.
        best_epoch: number of the best epoch; None if it was not kept.

    Raises:
        ValueError: lengths differ, or a clip comes twice.
    """

    fold: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    true: np.ndarray
    last: np.ndarray
    best: np.ndarray | None = None
    best_epoch: int | None = None

    def __post_init__(self) -> None:
        """Check that there is one row for each clip."""
        lengths = {"names": len(self.names), "units": len(self.units), "true": len(self.true)}
        lengths |= {name: len(rows) for name, rows in self._outputs().items()}
        if len(set(lengths.values())) > 1 or not self.names:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"fold {self.fold}: numbers of clips must agree and be at least 1: {listed}")
        name, count = Counter(self.names).most_common(1)[0]
        if count > 1:
            raise ValueError(f"fold {self.fold}: clip {name} comes {count} times: merge its views first")

    def _outputs(self) -> dict[str, np.ndarray]:
        """Checkpoint → its scores, for those that there are."""
        return {"last": self.last} | ({} if self.best is None else {"best": self.best})

    def outputs(self, checkpoint: str) -> np.ndarray | None:
        """Scores float[N, K] of the last or best epoch; None if it was not kept."""
        return self._outputs().get(checkpoint)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSettings:
    """What a table is about.

    Attributes:
        title: heading, such as `crema_d, HiCMAE-B`.
        outputs: names of classes in order, or of dimensions.
        regression: True for dimensions.
        folds: number of test clips that the protocol has in each fold; None where that is unknown. A fold
            that is not tested does not belong here.
        chosen_by: how the best epoch was chosen, in words.
        unit: what the intervals resample, `speaker` or `session`.
        published: name of a score → the paper's figure in %.
        metrics: names of the scores; empty for the usual ones.
        draws: number of resamples.
        seed: of the resamples.
    """

    title: str
    outputs: tuple[str, ...]
    regression: bool
    folds: Mapping[int, int | None]
    chosen_by: str
    unit: str = "speaker"
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    draws: int = DRAWS
    seed: int = 0

    def names_of_scores(self) -> tuple[str, ...]:
        """Rows of the table: `metrics` or the usual scores, and what the paper reports besides."""
        usual: tuple[str, ...] = CLASS_METRICS
        if self.regression:
            of = ("", *(f" {dimension}" for dimension in self.outputs))
            usual = tuple(f"{metric}{dimension}" for metric in REGRESSION_METRICS for dimension in of)
        return tuple(dict.fromkeys((*(self.metrics or usual), *self.published)))

    def scores(self, true: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
        """All scores of some clips."""
        if self.regression:
            return regression_scores(true, outputs, self.outputs)
        return class_scores(true, outputs)

    def intervals(self, true: np.ndarray, outputs: np.ndarray, units: Sequence[str]) -> dict[str, Interval]:
        """Intervals of the scores of some clips."""
        if self.regression:
            return regression_intervals(true, outputs, self.outputs, units, draws=self.draws, seed=self.seed)
        return class_intervals(true, outputs, units, draws=self.draws, seed=self.seed)


def summarise(results: Sequence[FoldResult], settings: TableSettings) -> dict[str, Any]:
    """Compute all figures of the table.

    Args:
        results: of the finished folds.
        settings: what the table is about.

    Returns:
        A dict for JSON, with None for a figure that does not exist:
        - `title`, `clips`, `units`, `chosen_by`, `published`, `flags` (list of lines);
        - `figures`: checkpoint (`last`, `best`) → `pooled` → score → `value`, `low`, `high`; and
          `mean of folds` → score → `value`, `deviation` (between folds);
        - `folds`: a list of `fold`, `clips`, `units`, `best_epoch`, `last`, `best` (score → value);
        - `interval`: `level`, `draws`, `seed`, `unit`, `notes`.

    Raises:
        ValueError: there is no result, a fold comes twice or is not one of the protocol's, or a score is
            unknown.
    """
    results = sorted(results, key=lambda result: result.fold)
    _check(results, settings)
    folds = [_fold_figures(result, settings) for result in results]
    figures: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for checkpoint in CHECKPOINTS:
        pooled, of_checkpoint = _pooled(results, checkpoint, settings)
        figures[checkpoint] = {POOLED: pooled, MEAN: _mean(folds, checkpoint, settings)}
        notes |= of_checkpoint
    return {
        "title": settings.title,
        "clips": sum(fold["clips"] for fold in folds),
        "units": len({unit for result in results for unit in result.units if unit}),
        "chosen_by": settings.chosen_by,
        "figures": figures,
        "folds": folds,
        "published": dict(settings.published),
        "flags": flags(results, settings),
        "interval": {
            "level": LEVEL,
            "draws": settings.draws,
            "seed": settings.seed,
            "unit": settings.unit,
            "notes": notes,
        },
    }


def flags(results: Sequence[FoldResult], settings: TableSettings) -> list[str]:
    """What a reader of the table must know: folds that are unfinished or of another size, and the like.

    Args:
        results: of the finished folds.
        settings: what the table is about.

    Returns:
        One line each; empty if the results are complete.
    """
    lines = []
    done = {result.fold: result for result in results}
    if missing := [str(fold) for fold in settings.folds if fold not in done]:
        lines.append(
            f"unfinished: {len(done)} of {len(settings.folds)} folds have results; "
            f"missing: fold {', '.join(missing)}"
        )
    for fold, clips in settings.folds.items():
        if fold in done and clips is not None and len(done[fold].names) != clips:
            lines.append(f"fold {fold}: {len(done[fold].names):,} clips, the protocol has {clips:,}")
    if without := [str(result.fold) for result in results if result.best is None]:
        lines.append(f"fold {', '.join(without)}: no best epoch was kept, so there are no figures of it")
    repeated = sum(count > 1 for count in Counter(itertools.chain(*(r.names for r in results))).values())
    if repeated:
        lines.append(
            f"{repeated:,} clips are tested in several folds; the pooled figures count each of their tests"
        )
    if not settings.regression:
        true = set(np.concatenate([result.true for result in results]).tolist())
        if absent := [name for k, name in enumerate(settings.outputs) if k not in true]:
            lines.append(f"no test clip has the class {', '.join(absent)}")
    return lines


def _check(results: Sequence[FoldResult], settings: TableSettings) -> None:
    if not results:
        raise ValueError(f"{settings.title}: no fold has results: finish at least one")
    for fold, count in Counter(result.fold for result in results).items():
        if count > 1:
            raise ValueError(f"{settings.title}: fold {fold} has {count} results: give one")
        if fold not in settings.folds:
            known = ", ".join(map(str, settings.folds))
            raise ValueError(f"{settings.title}: fold {fold} is not one of the protocol's: {known}")
    for result in results:
        for checkpoint in CHECKPOINTS:
            outputs = result.outputs(checkpoint)
            if outputs is not None and outputs.shape[1:] != (len(settings.outputs),):
                raise ValueError(
                    f"{settings.title}: fold {result.fold} has {checkpoint} scores {outputs.shape}, "
                    f"not a column for each of {', '.join(settings.outputs)}"
                )
    known_scores = settings.scores(results[0].true, results[0].last)
    for name in settings.names_of_scores():
        if name not in known_scores:
            known = ", ".join(known_scores)
            raise ValueError(f"{settings.title}: unknown score {name!r}: choose from {known}")


def _fold_figures(result: FoldResult, settings: TableSettings) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "fold": result.fold,
        "clips": len(result.names),
        "units": len({unit for unit in result.units if unit}),
        "best_epoch": result.best_epoch,
    }
    for checkpoint in CHECKPOINTS:
        outputs = result.outputs(checkpoint)
        scores = {} if outputs is None else settings.scores(result.true, outputs)
        figures[checkpoint] = {name: _number(scores.get(name)) for name in settings.names_of_scores()}
    return figures


def _pooled(
    results: Sequence[FoldResult], checkpoint: str, settings: TableSettings
) -> tuple[dict[str, Any], dict[str, str]]:
    """Scores of all test clips together with intervals, and the intervals' notes by name of the score."""
    outputs = [result.outputs(checkpoint) for result in results]
    kept = [output for output in outputs if output is not None]
    if len(kept) < len(outputs):
        return {name: {"value": None, "low": None, "high": None} for name in settings.names_of_scores()}, {}
    true, together = np.concatenate([result.true for result in results]), np.concatenate(kept)
    units = [unit for result in results for unit in result.units]
    scores, intervals = settings.scores(true, together), settings.intervals(true, together, units)
    pooled, notes = {}, {}
    for name in settings.names_of_scores():
        found = intervals.get(name, Interval(np.nan, np.nan, 0))
        pooled[name] = {
            "value": _number(scores[name]),
            "low": _number(found.low),
            "high": _number(found.high),
        }
        if found.note:
            notes[f"{checkpoint} {name}"] = found.note
    return pooled, notes


def _mean(folds: Sequence[Mapping[str, Any]], checkpoint: str, settings: TableSettings) -> dict[str, Any]:
    """Mean of the folds' scores, where each fold counts alike, and their unbiased standard deviation."""
    means = {}
    for name in settings.names_of_scores():
        values = [fold[checkpoint][name] for fold in folds]
        defined = None not in values
        means[name] = {
            "value": float(np.mean(values)) if defined else None,
            "deviation": float(np.std(values, ddof=1)) if defined and len(values) > 1 else None,
        }
    return means


def _number(value: float | None) -> float | None:
    """The number for JSON, which knows no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)
