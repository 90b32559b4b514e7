"""Scores of a model in training on clips it never sees: every loss term, and retrieval at every level."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.evaluation.batched import BatchedApply
from hicmae_jax.evaluation.embeddings import embed_clips
from hicmae_jax.evaluation.reconstruction import score_clips
from hicmae_jax.evaluation.retrieval import retrieval
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.objective import losses
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig

KS = (1, 5, 10)
_info_nce = jax.jit(losses.info_nce_reference, static_argnums=(2, 3))


class HeldOut:
    """Parameters → scores, compiled at the first call and never again.

    Clips, windows and masks are the same at every call, and nothing is augmented, so that scores differ only
    by the parameters. Every process must call it, and gets the same scores.

    Args:
        clips: what to score on.
        preprocess: geometry and masks.
        loss: the objective's choices.
        negatives: clips that are contrasted with each other, as many as in training (the batch, or the size
            of its groups) for the contrastive terms to be comparable; no more than there are clips. Clips
            left over are not contrasted.
        mesh: the devices that hold the parameters; None takes one.
        reading: entered while each batch is read, for those who watch.
        execution: how the model is computed.
    """

    def __init__(
        self,
        clips: FixedClips,
        preprocess: PreprocessConfig,
        loss: LossConfig,
        negatives: int,
        mesh: jax.sharding.Mesh | None = None,
        reading: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        execution: ExecutionConfig = ExecutionConfig(),
    ) -> None:
        self._clips = clips
        self._reading = reading
        self._loss = loss
        self._negatives = negatives
        self._score = BatchedApply(score_clips(preprocess, loss, execution), clips.batch, mesh)
        self._embed = BatchedApply(embed_clips(preprocess, execution), clips.batch, mesh)

    def __call__(self, params: Any) -> dict[str, float]:
        """Score parameters.

        Returns:
            `held_out/` followed by: `total`, `video`, `audio`, `contrastive`, `contrastive_level_0`, … as in
            training; `recall@k/layer_i`, the mean of both directions, for k of 1, 5 and 10; `chance@k`;
            `clips`, how many could be read.

        Raises:
            OSError: no clip can be read.
            ValueError: features that are not finite.
        """
        terms = self._score(params, self._batches())
        count = len(terms.video)
        pairs = zip(terms.video_levels, terms.audio_levels, strict=True)
        levels = [contrast(*pair, self._loss.temperature, self._negatives) for pair in pairs]
        video, audio, contrastive = (
            float(terms.video.mean()),
            float(terms.audio.mean()),
            float(np.sum(levels)),
        )
        scores = {
            "total": video + audio + self._loss.contrastive_weight * contrastive,
            "video": video,
            "audio": audio,
            "contrastive": contrastive,
            **{f"contrastive_level_{i}": level for i, level in enumerate(levels)},
        }
        for layer, features in self._embed(params, self._batches()).items():
            for k, recall in retrieval(*features, ks=KS)["mean"].items():
                scores[f"recall@{k}/layer_{layer}"] = recall.recall
                scores[f"chance@{k}"] = recall.chance
        scores["clips"] = float(count)
        return {f"held_out/{name}": value for name, value in scores.items()}

    def _batches(self) -> Iterator[HostBatch[np.ndarray]]:
        batches = iter(self._clips)
        while True:
            with self._reading():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def contrast(video: np.ndarray, audio: np.ndarray, temperature: float, negatives: int) -> float:
    """Contrastive loss of one level over as many whole groups of clips as there are.

    Args:
        video: float32[N, C].
        audio: float32[N, C].
        temperature: of the softmax.
        negatives: clips in a group; all N if that is fewer.
    """
    group = min(negatives, len(video))
    whole = len(video) // group * group
    return float(_info_nce(*jax.device_put((video[:whole], audio[:whole])), temperature, group))
