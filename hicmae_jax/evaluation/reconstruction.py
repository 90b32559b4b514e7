"""Errors of reconstructed tokens, and pictures of the reconstruction.

All contenders get the same clips under the same masks, which depend only on the clip. One contender always
predicts zero. In the target's units, zero is the mean of each patch, so its picture shows the clip in squares
of one colour.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.model import tokens
from hicmae_jax.model.config import ExecutionConfig, ModelConfig
from hicmae_jax.model.hicmae import HiCMAE, forward
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.model.masking import TokenMask
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import masked_targets
from hicmae_jax.objective.targets import EPSILON
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch

ZERO = "zero prediction"


class MaskedForward(NamedTuple):
    """Errors and features of each clip of a batch; the means of the errors over clips are loss terms.

    Attributes:
        video: float32[B], mean squared error over masked video tokens and their values.
        audio: float32[B], likewise for audio.
        zero_video: float32[B], the same error for a prediction of zero.
        zero_audio: float32[B], likewise for audio.
        video_levels: float32[B, C] for each tapped layer, for the contrastive loss.
        audio_levels: likewise for audio.
    """

    video: jax.Array
    audio: jax.Array
    zero_video: jax.Array
    zero_audio: jax.Array
    video_levels: tuple[jax.Array, ...]
    audio_levels: tuple[jax.Array, ...]


def score_clips(
    preprocess: PreprocessConfig, loss: LossConfig, execution: ExecutionConfig = ExecutionConfig()
) -> Callable[[Any, HostBatch[jax.Array]], MaskedForward]:
    """Make a function (parameters, host batch) → `MaskedForward`, without augmentation, for `BatchedApply`.

    Args:
        preprocess: geometry and masks.
        loss: defines the targets.
        execution: how the model is computed.
    """
    config = preprocess.for_evaluation()
    model = HiCMAE(config.model, execution)

    def score(params: Any, batch: HostBatch[jax.Array]) -> MaskedForward:
        inputs = preprocess_batch(batch, jax.random.key(0), 0, config)
        output = forward(model, params, inputs)
        video, audio = masked_targets(model, inputs, loss.frame_difference)
        assert output.video is not None
        assert output.audio is not None
        return MaskedForward(
            jnp.square(output.video - video).mean((1, 2)),
            jnp.square(output.audio - audio).mean((1, 2)),
            jnp.square(video).mean((1, 2)),
            jnp.square(audio).mean((1, 2)),
            output.video_levels,
            output.audio_levels,
        )

    return score


def reconstruction_errors(scores: Mapping[str, MaskedForward]) -> dict[str, dict[str, float]]:
    """Mean errors of every contender and of a prediction of zero.

    Args:
        scores: contender → its `MaskedForward` of the same clips, NumPy arrays.

    Returns:
        Contender → `video`, `audio` and their sum `total`, which is the loss without its contrastive term.
    """
    pairs = {name: (of.video, of.audio) for name, of in scores.items()}
    any_of_them = next(iter(scores.values()))
    pairs[ZERO] = any_of_them.zero_video, any_of_them.zero_audio
    errors = {}
    for name, (video, audio) in pairs.items():
        of_video, of_audio = float(video.mean()), float(audio.mean())
        errors[name] = {"video": of_video, "audio": of_audio, "total": of_video + of_audio}
    return errors


# --- Pictures -----------------------------------------------------------------------------------------------


class Picture(NamedTuple):
    """Clips to draw; tokens that are masked and not predicted are NaN.

    Attributes:
        video: float32[B, T, H, W, 3], about in [0, 1].
        log_mel: float32[B, time, bins], normalised.
    """

    video: jax.Array
    log_mel: jax.Array


def draw_clips(
    preprocess: PreprocessConfig, loss: LossConfig, execution: ExecutionConfig = ExecutionConfig()
) -> Callable[[Any, HostBatch[jax.Array]], dict[str, Picture]]:
    """Make a function (parameters, host batch) → pictures, without augmentation, for `BatchedApply`.

    Args:
        preprocess: geometry and masks.
        loss: defines the targets, and so the meaning of a prediction.
        execution: how the model is computed.

    Returns:
        The function; its pictures are named `original`, `masked`, `model` and `ZERO`.
    """
    config = preprocess.for_evaluation()
    model = HiCMAE(config.model, execution)

    def draw(params: Any, batch: HostBatch[jax.Array]) -> dict[str, Picture]:
        inputs = preprocess_batch(batch, jax.random.key(0), 0, config)
        output = forward(model, params, inputs)
        assert output.video is not None
        assert output.audio is not None
        video, audio = output.video, output.audio

        def picture(video: jax.Array, audio: jax.Array) -> Picture:
            return rebuild(inputs, video, audio, config.model, loss.frame_difference)

        return {
            "original": Picture(tokens.pixels(inputs.video), inputs.log_mel),
            "masked": picture(jnp.full_like(video, jnp.nan), jnp.full_like(audio, jnp.nan)),
            "model": picture(video, audio),
            ZERO: picture(jnp.zeros_like(video), jnp.zeros_like(audio)),
        }

    return draw


def rebuild(
    inputs: ModelInputs,
    video_prediction: jax.Array,
    audio_prediction: jax.Array,
    config: ModelConfig,
    frame_difference: bool = True,
) -> Picture:
    """Replace the masked tokens of clips by predictions.

    A prediction holds standardised values. It gets the mean and deviation of the original patch, as is usual
    in figures of masked autoencoders. Visible tokens come from the original.

    Args:
        inputs: clips and masks.
        video_prediction: float32[B, N_masked, tubelet values].
        audio_prediction: float32[B, N_masked, patch values].
        config: geometry.
        frame_difference: whether later frames of a tubelet are predicted as changes from the frame before.
    """
    patches = tokens.pixels(tokens.tubelets(inputs.video, config.tubelet, config.patch))
    own = tokens.take(patches, inputs.video_mask.masked)
    batch, count, values = own.shape
    if frame_difference:
        frames = video_prediction.reshape(batch, count, config.tubelet, -1)
        video_prediction = jnp.cumsum(frames, axis=2)
    channels = (batch, count, values // 3, 3)
    filled = _with_statistics_of(own.reshape(channels), video_prediction.reshape(channels))
    side = config.image_size
    rebuilt = tokens.from_tubelets(
        _fill(patches, inputs.video_mask, filled.reshape(own.shape)), config.tubelet, config.patch, side, side
    )
    spectra = tokens.audio_patches(inputs.log_mel, config.patch)
    filled = _with_statistics_of(tokens.take(spectra, inputs.audio_mask.masked), audio_prediction)
    spectra = _fill(spectra, inputs.audio_mask, filled)
    return Picture(rebuilt, tokens.from_audio_patches(spectra, config.patch, config.audio_bins))


def _with_statistics_of(own: jax.Array, standardised: jax.Array) -> jax.Array:
    """Undo the standardisation of `targets` with the mean and unbiased deviation of `own` over axis 2."""
    deviation = own.std(axis=2, ddof=1, keepdims=True) + EPSILON
    return standardised * deviation + own.mean(axis=2, keepdims=True)


def _fill(original: jax.Array, mask: TokenMask, predicted: jax.Array) -> jax.Array:
    """Join the original's visible tokens and the predictions; NaN at tokens that dual masking leaves out."""
    rows = jnp.arange(len(original))[:, None]
    canvas = jnp.full_like(original, jnp.nan)
    canvas = canvas.at[rows, mask.visible].set(tokens.take(original, mask.visible))
    return canvas.at[rows, mask.masked].set(predicted)
