"""Scores a fine-tuning model gives to clips: probabilities of classes, or dimensions, as mean over views."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.fixed_clips import ListedClips
from hicmae_jax.evaluation import merging
from hicmae_jax.evaluation.batched import BatchedApply, watched_batches
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig, ModelConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.preprocessing.finetune import FinetunePreprocessConfig, preprocess_clips
from hicmae_jax.preprocessing.missing import hide


class ClipScores(NamedTuple):
    """What a model says of clips.

    Attributes:
        example: int32[N], ids of the clips that could be read, in order.
        scores: float32[N, K], probabilities of the classes, or the dimensions; the mean over the views.
        feature: float32[N, 4C] (or C), input of the head; the mean over the views.
    """

    example: np.ndarray
    scores: np.ndarray
    feature: np.ndarray


class EmotionScorer:
    """(parameters, views of clips) → scores; it compiles at the first call only.

    Nothing is augmented. Every process must call it, and gets the same scores.

    Args:
        model: configuration of the model.
        finetune: outputs and modality.
        preprocess: as in training; what is random is switched off, see `for_evaluation`.
        regression: whether the outputs are dimensions; otherwise they become probabilities.
        batch: clips computed at a time.
        execution: how it is computed.
        mesh: devices that share a batch; None takes one device.
        missing: `video` or `audio` hides that modality from a model of both; empty hides none.
        reading: a context manager to enter while a batch is read, for a watchdog.

    Raises:
        ValueError: a modality to hide that is none.
    """

    def __init__(
        self,
        model: ModelConfig,
        finetune: FinetuneConfig,
        preprocess: FinetunePreprocessConfig,
        regression: bool,
        batch: int,
        execution: ExecutionConfig = ExecutionConfig(),
        mesh: jax.sharding.Mesh | None = None,
        missing: str = "",
        reading: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        if missing not in ("", "video", "audio"):
            raise ValueError(f"missing modality {missing!r}: choose video or audio, or leave it out")
        deterministic = dataclasses.replace(finetune, drop_path=0.0)
        network = HiCMAEFinetune(model, deterministic, execution)
        settings = preprocess.for_evaluation()

        def score(params: Any, clips: HostBatch[jax.Array]) -> Mapping[str, jax.Array]:
            video, log_mel = preprocess_clips(clips, jax.random.key(0), 0, settings)
            if missing:
                shape = clips["example"].shape
                hidden = [jax.numpy.full(shape, missing == name) for name in ("video", "audio")]
                video, log_mel = hide(video, log_mel, *hidden)
            output: Any = network.apply({"params": params}, video, log_mel)
            return {"example": clips["example"], "outputs": output.logits, "feature": output.feature}

        self._regression = regression
        self._reading = reading
        self._apply = BatchedApply(score, batch, mesh)

    def __call__(self, params: Any, views: Sequence[ListedClips]) -> ClipScores:
        """Score clips.

        Args:
            params: parameters of the fine-tuning model.
            views: the same clips in one or several views. A clip that cannot be read in one of them is left
                out; its view lists it in `broken`.

        Raises:
            OSError: no clip can be read.
        """
        found = [self._apply(params, watched_batches(view, self._reading)) for view in views]
        common = sorted(set.intersection(*(set(view["example"].tolist()) for view in found)))
        if not common:
            raise OSError("no clip can be read in all of its views")
        kept = [np.isin(view["example"], common) for view in found]
        merged = merging.merge_views(
            [str(example) for example in common] * len(views),
            np.repeat(np.arange(len(views)), len(common)).tolist(),
            np.concatenate([view["outputs"][rows] for view, rows in zip(found, kept)]),
            regression=self._regression,
        )
        features = [view["feature"][rows] for view, rows in zip(found, kept)]
        return ClipScores(
            np.array(common, np.int32), merged.scores.astype(np.float32), np.mean(features, axis=0)
        )
