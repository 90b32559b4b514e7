"""Scores of a model during training, on held-out clips: every loss term, and retrieval at every level."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.fixed_clips import FixedClips
from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.evaluation.batched import BatchedApply, watched_batches
from hicmae_jax.evaluation.embeddings import embed_clips
from hicmae_jax.evaluation.reconstruction import MaskedForward, score_clips
from hicmae_jax.evaluation.retrieval import retrieval
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.objective import losses
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig

KS = (1, 5, 10)
_info_nce = jax.jit(losses.info_nce_reference, static_argnums=(2, 3))


class HeldOut:
    """Parameters → scores; it compiles at the first call only.

    Clips, their start times and masks are the same at every call, and nothing is augmented, so scores depend
    only on the parameters. Every process must call it, and gets the same scores.

    Args:
        clips: the held-out clips.
        preprocess: geometry and masks.
        loss: choices of the objective.
        negatives: number of clips that are contrasted with each other. For terms that compare with those of
            training, give the batch or the size of its groups. It is reduced to the number of clips. Clips
            that do not fill a group are not contrasted.
        mesh: devices that hold the parameters; None takes one.
        reading: a context manager to enter while a batch is read, for a watchdog.
        execution: how the model is computed.
        sets: the sets whose losses are scores too; None for none.
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
        sets: NamedSets | None = None,
    ) -> None:
        self.features: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._clips = clips
        self._reading = reading
        self._loss = loss
        self._negatives = negatives
        self._sets = sets
        self._score = BatchedApply(score_clips(preprocess, loss, execution), clips.batch, mesh)
        self._embed = BatchedApply(embed_clips(preprocess, execution), clips.batch, mesh)

    def __call__(self, params: Any) -> dict[str, float]:
        """Score parameters.

        Returns:
            `total`, `video`, `audio`, `contrastive`, `contrastive_level_0`, … as in training;
            `recall@k/layer_i`, the mean of both directions, for k of 1, 5 and 10, and beside it
            `recall@k/layer_i/video_to_audio` and `recall@k/layer_i/audio_to_video`; `chance@k`; `clips`,
            the number of clips that could be read. With `sets`, `video/<name>` and `audio/<name>` of each one
            of which a clip could be read.

        Raises:
            OSError: no clip can be read.
            ValueError: features are not finite.
        """
        examples: list[np.ndarray] = []
        terms = self._score(params, _noting(self._batches(), examples))
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
        if self._sets is not None:
            scores |= losses_by_set(terms, np.concatenate(examples), self._sets)
        self.features = self._embed(params, self._batches())
        for layer, (of_video, of_audio) in self.features.items():
            scores |= recalls(of_video, of_audio, layer)
        scores["clips"] = float(count)
        return scores

    def _batches(self) -> Iterator[HostBatch[np.ndarray]]:
        return watched_batches(self._clips, self._reading)


def _noting(batches: Iterator[HostBatch[np.ndarray]], examples: list[np.ndarray]) -> Iterator[HostBatch]:
    """Pass batches on, and add the ids of their clips to a list."""
    for batch in batches:
        examples.append(batch["example"])
        yield batch


def losses_by_set(terms: MaskedForward, examples: np.ndarray, sets: NamedSets) -> dict[str, float]:
    """Mean losses over the clips of each set.

    Args:
        terms: of clips, as NumPy arrays.
        examples: int[B], ids of these clips.
        sets: the sets that they come from.

    Returns:
        `video/<name>` and `audio/<name>` of each set that a clip comes from.
    """
    numbers = sets.numbers(examples)
    return {
        f"{term}/{sets.names[number]}": float(losses[numbers == number].mean())
        for term, losses in (("video", terms.video), ("audio", terms.audio))
        for number in np.unique(numbers)
    }


def recalls(video: np.ndarray, audio: np.ndarray, layer: int) -> dict[str, float]:
    """Retrieval at one layer, in each direction and as their mean.

    Args:
        video: float[N, C].
        audio: float[N, C] of the same clips.
        layer: number of the layer, for the names.

    Returns:
        Name → recall@k, and `chance@k`; see `HeldOut`.

    Raises:
        ValueError: features are not finite.
    """
    scores = {}
    for direction, by_k in retrieval(video, audio, ks=KS, resamples=1).items():
        ending = "" if direction == "mean" else f"/{direction.replace(' ', '_')}"
        for k, recall in by_k.items():
            scores[f"recall@{k}/layer_{layer}{ending}"] = recall.recall
            scores[f"chance@{k}"] = recall.chance
    return scores


def contrast(video: np.ndarray, audio: np.ndarray, temperature: float, negatives: int) -> float:
    """Contrastive loss of one level, over all whole groups of clips.

    Args:
        video: float32[N, C].
        audio: float32[N, C].
        temperature: of the softmax.
        negatives: number of clips in a group; N if N is smaller.
    """
    group = min(negatives, len(video))
    whole = len(video) // group * group
    return float(_info_nce(*jax.device_put((video[:whole], audio[:whole])), temperature, group))
