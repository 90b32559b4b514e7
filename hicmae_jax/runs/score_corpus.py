"""Scores a fine-tuned run on a labelled set: another data set over the shared emotions, or its own test fold.

::

    <output>/scores.json      scores with intervals over speakers, and what was scored
    <output>/predictions.npz  names, speakers, true classes, probabilities and features of the clips
    <output>/confusion.png    matrix of confusion
    <output>/emotions.png     recall of each emotion, with intervals
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora import folds, protocols
from data_pipeline.corpora.protocols import Protocol
from data_pipeline.corpora.shared_labels import shared_classes
from data_pipeline.reading.fixed_clips import ListedClips
from data_pipeline.reading.labelled import VIEWS, LabelledSource, RootedSet, View, read_sets
from hicmae_jax.checkpoints.best import BEST
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.evaluation import emotion_metrics
from hicmae_jax.evaluation.emotion_scores import ClipScores, EmotionScorer
from hicmae_jax.evaluation.figures import confusion, emotion_bars
from hicmae_jax.evaluation.intervals import class_intervals, recall_intervals
from hicmae_jax.runs import fold_scores
from hicmae_jax.runs.fold_data import FoldData, sampling_of
from hicmae_jax.runs.unseen_tests import may_share_clips
from hicmae_jax.settings import finetune as settings
from hicmae_jax.settings.finetune import FinetuneSettings
from hicmae_jax.training import chips

SCORES, PREDICTIONS, CONFUSION, EMOTIONS = (
    "scores.json",
    "predictions.npz",
    "confusion.png",
    "emotions.png",
)


@dataclasses.dataclass(frozen=True)
class _Clips:
    """What is scored.

    Attributes:
        labelled: the set.
        chosen: numbers of the clips.
        outputs: names of the model's classes.
        classes: the model's classes that may be answered.
        true: int[N], their places in `classes`.
        about: in words, which clips these are.
    """

    labelled: RootedSet
    chosen: np.ndarray
    outputs: tuple[str, ...]
    classes: tuple[int, ...]
    true: np.ndarray
    about: str


def score_corpus(
    run: epath.PathLike,
    data: epath.PathLike,
    protocol: str,
    output: epath.PathLike,
    *,
    best: bool = False,
    missing: str = "",
    batch: int = 32,
) -> dict[str, Any]:
    """Score a fine-tuned run on a labelled set.

    Args:
        run: directory of the run of a fold.
        data: directory of the labelled set.
        protocol: protocol of that set.
        output: directory to write to.
        best: take the checkpoint of the best validation, instead of the last.
        missing: `video` or `audio` is hidden from a model of both.
        batch: clips computed at a time.

    Returns:
        What `scores.json` says.

    Raises:
        FileNotFoundError: no such run, checkpoint or set.
        FileExistsError: a file to write exists.
        ValueError: run, set and protocol do not fit each other, or a checkpoint is damaged.
        OSError: no clip can be read.
    """
    output = epath.Path(output)
    for name in (SCORES, PREDICTIONS, CONFUSION, EMOTIONS):
        if (output / name).exists():
            raise FileExistsError(f"{output / name} exists: delete it or give another --output")
    step = find_step(run, BEST if best else None)
    params, record = load_parameters(run, step)
    config = settings.recorded(record["config"], chips.platform(jax.devices()[0]))
    own = protocols.protocol(config.data.protocol)
    if own.regression:
        raise ValueError(f"{run} has learnt {', '.join(own.outputs)}, which are no emotions to compare")
    (labelled,) = read_sets([data])
    if missing and config.finetune.modality != "audio-visual":
        raise ValueError(f"missing {missing}: {run} knows {config.finetune.modality} only")
    clips = _clips(config, own, labelled, protocols.protocol(protocol), list(record["data"].values()))
    views = _views(config, own, clips, batch)
    found = _scorer(config, len(clips.outputs), missing, batch)(params, views)
    arrays = _arrays(clips, found)
    about = {
        "run": str(run),
        "step": step,
        "epoch": BEST if best else "last",
        "data": str(data),
        "missing": missing or None,
        "left_out": sorted({line for view in views for line in view.broken.values()}),
    }
    written = about | _figures(clips, arrays)
    _write(output, written, arrays)
    return written


def _arrays(clips: _Clips, found: ClipScores) -> dict[str, np.ndarray]:
    """What `predictions.npz` keeps: a row a clip; probabilities of the classes that may be answered."""
    scores = found.scores[:, clips.classes]
    known = [clips.labelled.about.clips[number] for number in clips.chosen[found.example]]
    return {
        "name": np.array([clip.name for clip in known]),
        "speaker": np.array([clip.speaker for clip in known]),
        "true": clips.true[found.example],
        "scores": scores / np.maximum(scores.sum(-1, keepdims=True), 1e-12),
        "feature": found.feature.astype(np.float16),
    }


def _figures(clips: _Clips, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores with their intervals, and what was scored."""
    true, scores, units = arrays["true"], arrays["scores"], arrays["speaker"].tolist()
    return {
        "scored": clips.about,
        "classes": tuple(clips.outputs[number] for number in clips.classes),
        "clips": len(true),
        "scores": fold_scores.in_json(emotion_metrics.class_scores(true, scores)),
        "intervals": {
            name: list(fold_scores.in_json({"low": each.low, "high": each.high}).values())
            for name, each in class_intervals(true, scores, units).items()
        },
    }


def _clips(
    config: FinetuneSettings, own: Protocol, labelled: RootedSet, other: Protocol, trained_on: list[str]
) -> _Clips:
    """The clips to score: those of other data with a shared emotion, or the run's own test fold."""
    # Imported weights do not say which set they have seen; then their data set decides.
    own_set = (
        trained_on[0] == labelled.about.fingerprint if trained_on else labelled.about.dataset == own.dataset
    )
    if own_set:
        if other.name != own.name:
            raise ValueError(
                f"{labelled.root} is the run's own data: score it with --protocol={own.name}, which knows "
                "its test clips"
            )
        data = dataclasses.replace(config.data, sets=(str(labelled.root),), other_protocols=())
        fold = FoldData(data, config.model.frames, config.seed)
        about = f"the test clips of fold {config.data.fold} of {own.name}"
        every = tuple(range(len(fold.outputs)))
        return _Clips(labelled, fold.test.chosen[0], fold.outputs, every, fold.test.targets.argmax(-1), about)
    if labelled.about.fingerprint in trained_on:
        raise ValueError(
            f"{labelled.root}: the run was trained on these clips, so its scores would say little"
        )
    if labelled.about.dataset != other.dataset:
        raise ValueError(
            f"{labelled.root} holds {labelled.about.dataset}, not {other.dataset}, whose protocol "
            f"{other.name} is: choose another --protocol"
        )
    for name in (own.name, *config.data.other_protocols):
        if may_share_clips(name, other.name):
            raise ValueError(
                f"{labelled.root} is not the run's own set, but may have clips of its training ({name}): "
                "give the run's own set, whose test clips are known"
            )
    shared = shared_classes(own, other)
    theirs = folds.targets(other, labelled.about.clips)
    chosen = np.flatnonzero(np.isin(theirs, list(shared)))
    classes = tuple(sorted(shared.values()))
    true = np.array([classes.index(shared[number]) for number in theirs[chosen].tolist()])
    about = f"all {len(chosen):,} clips of {other.name} with one of {len(classes)} shared emotions"
    return _Clips(labelled, chosen, own.outputs, classes, true, about)


def _views(config: FinetuneSettings, own: Protocol, clips: _Clips, batch: int) -> list[ListedClips]:
    """The clips in each of their views, cut as the run cuts them."""
    sampling = sampling_of(config.data, own, config.model.frames)
    views = []
    for number in range(VIEWS):
        source = LabelledSource([clips.labelled], [clips.chosen.tolist()], View(sampling, number), sampling)
        views.append(ListedClips(source, range(len(clips.chosen)), batch, config.data.threads))
    return views


def _scorer(config: FinetuneSettings, outputs: int, missing: str, batch: int) -> EmotionScorer:
    return EmotionScorer(
        config.model,
        config.for_outputs(outputs),
        config.preprocess,
        regression=False,
        batch=batch,
        execution=config.execution,
        missing=missing,
    )


def _write(output: epath.Path, written: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    names = written["classes"]
    true, scores, units = arrays["true"], arrays["scores"], arrays["speaker"].tolist()
    matrix = emotion_metrics.confusion(true, emotion_metrics.predictions(scores), len(names))
    title = written["scored"]
    confusion.draw({"all clips": matrix}, names, title).savefig(output / CONFUSION, dpi=100)
    bars = emotion_bars.draw(
        {"recall": emotion_metrics.recalls(matrix)},
        {"recall": recall_intervals(true, scores, units)},
        names,
        matrix.sum(-1).tolist(),
        title,
    )
    bars.savefig(output / EMOTIONS, dpi=100)
    fold_scores.write_arrays(output / PREDICTIONS, arrays)
    atomic_files.replace_text(output / SCORES, json.dumps(written, indent=1) + "\n")
