"""Computes what a trained model says of windows of a video: features, and emotions if it was fine-tuned."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.media.limits import FPS, SAMPLE_RATE
from data_pipeline.media.windows import Window
from hicmae_jax.evaluation.batched import BatchedApply
from hicmae_jax.evaluation.embeddings import features
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.preprocessing.finetune import FinetunePreprocessConfig, preprocess_clips
from hicmae_jax.preprocessing.missing import hide
from hicmae_jax.weights.trained import Trained

Modality = Literal["audio-visual", "video", "audio"]
"""What a window holds."""


def modality_of(window: Window) -> Modality:
    """What a window holds."""
    if window.sound is None:
        return "video"
    return "audio" if window.frames is None else "audio-visual"


class WindowModel:
    """A trained model for windows of any modality; each kind of window is compiled once.

    Without one modality, a pre-training model gives the features of the other; a model fine-tuned for both
    sees zeros in its place, as in `preprocessing.missing`.

    Args:
        trained: the model.
        batch: windows computed at a time.
        execution: how it is computed.
    """

    def __init__(self, trained: Trained, batch: int, execution: ExecutionConfig = ExecutionConfig()) -> None:
        self._params = jax.device_put(trained.params)
        self._model, self.batch = trained.model, batch
        sampling = ClipSampling(trained.model.frames, trained.stride)
        self._samples = sampling.audio_samples(FPS, SAMPLE_RATE)
        self._apply = {
            modality: BatchedApply(_function(trained, modality, execution), batch)
            for modality in get_args(Modality)
        }
        self._wanted = "audio-visual" if trained.finetune is None else trained.finetune.modality

    def lacking(self, modality: Modality) -> str | None:
        """The modality without which the model can say nothing of such windows; None if it can."""
        wanted = self._wanted
        return None if "audio-visual" in (wanted, modality) or wanted == modality else wanted

    def __call__(self, windows: Sequence[Window]) -> dict[str, np.ndarray]:
        """Compute one row for each window.

        Args:
            windows: of one modality.

        Returns:
            Of a pre-training model what `embeddings.features` returns, float32[N, C] each. Of a fine-tuned
            one `scores` float32[N, K] (probabilities of the classes, or the dimensions) and `feature`
            float32[N, 4C] or [N, C], the input of the head.
        """
        modality = modality_of(windows[0])
        parts = (self._clips(windows[at : at + self.batch]) for at in range(0, len(windows), self.batch))
        return self._apply[modality](self._params, parts)

    def _clips(self, windows: Sequence[Window]) -> HostBatch[np.ndarray]:
        model = self._model
        shape = (len(windows), model.frames, model.image_size, model.image_size, 3)
        frames, audio = np.zeros(shape, np.uint8), np.zeros((len(windows), self._samples), np.int16)
        samples = np.zeros(len(windows), np.int32)
        for row, window in enumerate(windows):
            if window.frames is not None:
                frames[row] = window.frames
            if window.sound is not None:
                samples[row] = len(window.sound)
                audio[row, : samples[row]] = window.sound
        return {
            "frames": frames,
            "audio": audio,
            "samples": samples,
            "example": np.arange(len(windows), dtype=np.int32),
        }


def _function(
    trained: Trained, modality: Modality, execution: ExecutionConfig
) -> Callable[[Any, HostBatch[jax.Array]], Mapping[str, jax.Array]]:
    settings = FinetunePreprocessConfig(model=trained.model).for_evaluation()

    def compute(params: Any, clips: HostBatch[jax.Array]) -> Mapping[str, jax.Array]:
        video, log_mel = preprocess_clips(clips, jax.random.key(0), 0, settings)
        if trained.finetune is None:
            given = (None if modality == "audio" else video, None if modality == "video" else log_mel)
            return features(params, *given, trained.model, execution)
        clip = jnp.ones(len(video), bool)
        video, log_mel = hide(video, log_mel, clip & (modality == "audio"), clip & (modality == "video"))
        tuned = HiCMAEFinetune(trained.model, trained.finetune, execution)
        output: Any = tuned.apply({"params": params}, video, log_mel)
        scores = output.logits if trained.regression else jax.nn.softmax(output.logits)
        return {"scores": scores, "feature": output.feature}

    return compute
