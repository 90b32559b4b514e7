"""Pictures of a finished fold, and of all finished folds together.

::

    <fold>/map.png              test clips by their features: video, audio, fused (paper figure 9)
    <fold>/layer_weights.png    the learned weight of each encoder layer
    <fold>/attention.png        where the encoders look in one test clip
    <folds>/confusion.png       matrices of confusion, all folds and each (paper figure 10)
    <folds>/emotions.png        recall of each emotion with intervals, by the last and by the best epoch
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from hicmae_jax.evaluation import emotion_metrics
from hicmae_jax.evaluation.figures import (
    attention_rollout,
    confusion,
    embedding_map,
    emotion_bars,
    layer_weights,
)
from hicmae_jax.evaluation.fold_table import FoldResult
from hicmae_jax.evaluation.intervals import recall_intervals
from hicmae_jax.evaluation.rollout import attention_rollout as roll_out
from hicmae_jax.model.config import ModelConfig
from hicmae_jax.preprocessing.finetune import FinetunePreprocessConfig, preprocess_clips
from hicmae_jax.runs.fold_data import FoldData
from hicmae_jax.weights.torch_names import unstack_layers

MOST_ON_MAP = 2_000
"""Clips on a map, evenly spaced over the test clips: t-SNE of more takes minutes, and points hide points."""


def draw_fold(
    directory: epath.Path,
    data: FoldData,
    params: Mapping[str, Any],
    model: ModelConfig,
    preprocess: FinetunePreprocessConfig,
    features: np.ndarray,
    targets: np.ndarray,
) -> None:
    """Draw what a fold has learnt.

    Args:
        directory: directory of the run.
        data: its fold.
        params: parameters of the last epoch.
        model: configuration of the model.
        preprocess: as in training; what is random is switched off.
        features: float[N, 4C] (or C) of the test clips.
        targets: float32[N, K], one-hot or dimensions.
    """
    if any("blocks" in params.get(name, ()) for name in ("encoder", "encoder_audio")):
        params = unstack_layers(params)
    name = f"{data.protocol.name}, fold {data.config.fold}"
    _draw_layer_weights(directory, params, name)
    _draw_attention(directory, data, params, model, preprocess, name)
    if not data.protocol.regression and len(features) >= 8:
        _draw_map(directory, data.outputs, features, targets, model.encoder_dim, name)


def draw_folds(
    directory: epath.Path, results: Sequence[FoldResult], outputs: Sequence[str], title: str
) -> None:
    """Draw the scores of all finished folds of a classification.

    Args:
        directory: directory of the folds.
        results: of the finished folds.
        outputs: names of the classes.
        title: of the figures.
    """
    classes = len(outputs)

    def matrix(result: FoldResult) -> np.ndarray:
        return emotion_metrics.confusion(result.true, emotion_metrics.predictions(result.last), classes)

    of_folds = {f"fold {result.fold}": matrix(result) for result in results}
    pooled = sum(of_folds.values())
    assert isinstance(pooled, np.ndarray)
    matrices = {"all folds": pooled, **of_folds} if len(results) > 1 else of_folds
    confusion.draw(matrices, outputs, f"{title}, last epoch").savefig(directory / "confusion.png", dpi=100)
    true = np.concatenate([result.true for result in results])
    units = [unit for result in results for unit in result.units]
    recalls, intervals = {}, {}
    for epoch in ("last", "best"):
        scores = [result.outputs(epoch) for result in results]
        kept = [each for each in scores if each is not None]
        if len(kept) == len(results):
            together = np.concatenate(kept)
            counts = emotion_metrics.confusion(true, emotion_metrics.predictions(together), classes)
            recalls[f"{epoch} epoch"] = emotion_metrics.recalls(counts)
            intervals[f"{epoch} epoch"] = recall_intervals(true, together, units)
    counts_of = np.bincount(true, minlength=classes).tolist()
    figure = emotion_bars.draw(recalls, intervals, outputs, counts_of, title)
    figure.savefig(directory / "emotions.png", dpi=100)


def _draw_layer_weights(directory: epath.Path, params: Mapping[str, Any], name: str) -> None:
    logits = {
        modality: np.asarray(params[f"{modality}_layer_weights"])
        for modality in ("video", "audio")
        if f"{modality}_layer_weights" in params
    }
    if logits:
        powers = {modality: np.exp(each - each.max()) for modality, each in logits.items()}
        weights = {modality: each / each.sum() for modality, each in powers.items()}
        layer_weights.draw(weights, name).savefig(directory / "layer_weights.png", dpi=100)


def _draw_attention(
    directory: epath.Path,
    data: FoldData,
    params: Mapping[str, Any],
    model: ModelConfig,
    preprocess: FinetunePreprocessConfig,
    name: str,
) -> None:
    """Draw one test clip; only where the model takes both modalities."""
    if not {"encoder", "encoder_audio"} <= set(params):
        return
    clip: Any = next(iter(data.test_views(1)[0]))
    video, log_mel = preprocess_clips(clip, jax.random.key(0), 0, preprocess.for_evaluation())
    maps = roll_out(params, model, video, log_mel)
    assert maps.video is not None
    assert maps.audio is not None
    shown = data.sets[0].about.clips[data.test.chosen[0][int(clip["example"][0])]].name
    figure = attention_rollout.draw(
        np.asarray(video[0]), np.asarray(log_mel[0]), maps.video[0], maps.audio[0], f"{name}: {shown}"
    )
    figure.savefig(directory / "attention.png", dpi=100)


def _draw_map(
    directory: epath.Path,
    outputs: Sequence[str],
    features: np.ndarray,
    targets: np.ndarray,
    width: int,
    name: str,
) -> None:
    chosen = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST_ON_MAP)).astype(int))
    features, labels = features[chosen].astype(np.float32), targets[chosen].argmax(-1)
    parts = {"features": features}
    if features.shape[1] == 4 * width:
        # The order of `FinetuneOutput.feature`.
        video, audio, fused = np.split(features, (width, 2 * width), axis=1)
        parts = {"video": video, "audio": audio, "fused": fused}
    places = {part: embedding_map.coordinates(each) for part, each in parts.items()}
    embedding_map.draw(places, labels, outputs, name).savefig(directory / "map.png", dpi=100)
