"""Scores of a fold's test clips, by the last epoch and by the best one, written beside its checkpoints."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora.protocols import TASK, Protocol
from hicmae_jax.checkpoints.best import BEST
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.evaluation import emotion_metrics, merging, regression_metrics
from hicmae_jax.evaluation.emotion_scores import ClipScores, EmotionScorer
from hicmae_jax.hosts import agreement
from hicmae_jax.runs import fold_figures
from hicmae_jax.runs.fold_data import FoldData
from hicmae_jax.settings.finetune import FinetuneSettings

LAST = "last"
SCORES = "scores.json"


def scores_of(
    protocol: Protocol, outputs: Sequence[str], targets: np.ndarray, scores: np.ndarray
) -> dict[str, float]:
    """Scores of predictions; for a regression also `CCC`, the mean over dimensions.

    Args:
        protocol: of the data set.
        outputs: names of the classes or dimensions.
        targets: float32[N, K], one-hot or dimensions.
        scores: float32[N, K], probabilities or dimensions.
    """
    if protocol.regression:
        return regression_metrics.regression_scores(targets, scores, outputs)
    return emotion_metrics.class_scores(targets.argmax(-1), scores)


def are_complete(directory: epath.Path) -> bool:
    """Whether a fold is scored, as the first process sees it; every process must ask."""
    return bool(agreement.exchange("yes" if (directory / SCORES).exists() else "")[0])


def score_fold(
    run: epath.Path,
    directory: epath.Path,
    data: FoldData,
    scorer: EmotionScorer,
    config: FinetuneSettings,
    steps_per_epoch: int,
) -> None:
    """Score the test clips with the last and the best checkpoint of a finished run, and draw pictures.

    `scores.json` is written last.

    Args:
        run: directory of the run, with its checkpoints.
        directory: directory for its files; the same but for a run in a bucket.
        data: its fold.
        scorer: of its model.
        config: its settings.
        steps_per_epoch: updates in an epoch.

    Raises:
        OSError: no clip can be read, or a file cannot be written.
        ValueError: a checkpoint is damaged.
    """
    views = data.test_views(config.scoring.batch)
    steps, flags = {LAST: find_step(run)}, list(data.flags)
    try:
        steps[BEST] = find_step(run, BEST)
    except FileNotFoundError:  # as of constant predictions of dimensions, whose correlation is undefined
        steps[BEST] = steps[LAST]
        flags.append(f"fold {data.config.fold}: no epoch has a score in validation, so the best is the last")
    by_step: dict[int, ClipScores] = {}
    params: Any = None
    for step in sorted(set(steps.values())):  # the last epoch comes last, for the pictures
        params, _ = load_parameters(run, step)
        by_step[step] = scorer(params, views)
    written: dict[str, Any] = {
        "protocol": data.protocol.name,
        "fold": data.config.fold,
        "data": list(data.fingerprints.values()),
        "selection": data.selection,
        "outputs": list(data.outputs),
        "flags": flags,
        "left_out": sorted({line for view in views for line in view.broken.values()}),
    }
    with agreement.all_or_none():
        if jax.process_index() > 0:
            return
        for epoch, step in steps.items():
            arrays = _arrays(data, by_step[step])
            counted = count(data.protocol, arrays)
            figures = scores_of(data.protocol, data.outputs, counted.true, counted.scores)
            written[epoch] = {"step": step, "epoch": step / steps_per_epoch, **in_json(figures)}
            write_arrays(directory / f"{epoch}.npz", arrays)
        arrays = _arrays(data, by_step[steps[LAST]])
        fold_figures.draw_fold(
            directory, data, params, config.model, config.preprocess, arrays["feature"], arrays["true"]
        )
        atomic_files.replace_text(directory / SCORES, json.dumps(written, indent=1) + "\n")


def in_json(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Scores for a JSON file, which has no NaN: None stands for a score that is not defined."""
    return {name: float(value) if math.isfinite(value) else None for name, value in figures.items()}


class Counted(NamedTuple):
    """What a protocol counts: test clips, or tasks of several clips (AVCAffe).

    Attributes:
        names: of the clips or tasks.
        units: speaker or session of each.
        true: float32[N, K], one-hot or dimensions.
        scores: float[N, K], probabilities or dimensions.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    true: np.ndarray
    scores: np.ndarray


def count(protocol: Protocol, arrays: Mapping[str, np.ndarray]) -> Counted:
    """What the protocol counts, from the arrays of `last.npz` or `best.npz`."""
    names, units = (tuple(arrays[key].tolist()) for key in ("name", "speaker"))
    if protocol.averaged_over != TASK:
        return Counted(names, units, arrays["true"], arrays["scores"])
    tasks, true = merging.merge_tasks(merging.Merged(names, arrays["scores"]), arrays["true"])
    unit_of = {merging.task_of(name): unit for name, unit in zip(names, units)}
    return Counted(tasks.names, tuple(unit_of[name] for name in tasks.names), true, tasks.scores)


def _arrays(data: FoldData, found: ClipScores) -> dict[str, np.ndarray]:
    """The arrays of a file of scores: a row a clip."""
    numbers = data.test.chosen[0][found.example]
    clips = [data.sets[0].about.clips[number] for number in numbers]
    return {
        "name": np.array([clip.name for clip in clips]),
        "speaker": np.array([clip.speaker for clip in clips]),
        "true": data.test.targets[found.example],
        "scores": found.scores,
        "feature": found.feature.astype(np.float16),
    }


def write_arrays(path: epath.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a compressed `.npz`, which appears complete or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # NumPy also has an option of this form
    with atomic_files.replacing(path) as partial:
        partial.write_bytes(buffer.getvalue())
