"""How well masked tokens are reconstructed, and what the reconstruction looks like.

Every contender is given the same clips under the same masks, which depend on the clip alone. A prediction
of zero is a contender: in the target's units it is each patch's own mean, so a picture made of it already
shows a face, in squares of one colour.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.model import tokens
from hicmae_jax.model.config import LossConfig, ModelConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.masking import TokenMask
from hicmae_jax.objective.pretrain import masked_targets
from hicmae_jax.objective.targets import EPSILON
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch

ZERO = "zero prediction"


class MaskedForward(NamedTuple):
    """What the masked forward pass says of each clip of a batch; means over clips are the loss's terms.

    Attributes:
        video: float32[B] squared error, mean over masked tokens and their values.
        audio: likewise.
        zero_video: float32[B] the same error of predicting zero, the patch's mean.
        zero_audio: likewise.
        video_levels: one float32[B, C] a tapped layer, for the contrastive loss.
        audio_levels: likewise.
    """

    video: jax.Array
    audio: jax.Array
    zero_video: jax.Array
    zero_audio: jax.Array
    video_levels: tuple[jax.Array, ...]
    audio_levels: tuple[jax.Array, ...]


def score_clips(
    preprocess: PreprocessConfig, loss: LossConfig
) -> Callable[[Any, HostBatch[jax.Array]], MaskedForward]:
    """A function (parameters, host batch) → `MaskedForward`, without augmentation; for `BatchedApply`.

    Args:
        preprocess: geometry, and the masks to score under.
        loss: says what the targets are.
    """
    config = preprocess.for_evaluation()
    model = HiCMAE(config.model)

    def score(params: Any, batch: HostBatch[jax.Array]) -> MaskedForward:
        inputs = preprocess_batch(batch, jax.random.key(0), 0, config)
        output = model.apply({"params": params}, *inputs)
        video, audio = masked_targets(model, *inputs, loss.frame_difference)
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
    """Mean errors of every contender and of predicting zero.

    Args:
        scores: contender → its `MaskedForward` over the same clips, NumPy arrays.

    Returns:
        Contender → `video`, `audio` and `total`, their sum, which is the loss without its contrastive term.
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
    """Clips to look at; what is masked and not predicted is NaN.

    Attributes:
        video: float32[B, T, H, W, 3], about in [0, 1].
        log_mel: float32[B, time, bins], normalised.
    """

    video: jax.Array
    log_mel: jax.Array


def draw_clips(
    preprocess: PreprocessConfig, loss: LossConfig
) -> Callable[[Any, HostBatch[jax.Array]], dict[str, Picture]]:
    """A function (parameters, host batch) → pictures, without augmentation; for `BatchedApply`.

    Args:
        preprocess: geometry, and the masks to draw under.
        loss: says what the targets, and so the predictions, are.

    Returns:
        The function; its pictures are `original`, `masked`, `model` and `ZERO`.
    """
    config = preprocess.for_evaluation()
    model = HiCMAE(config.model)

    def draw(params: Any, batch: HostBatch[jax.Array]) -> dict[str, Picture]:
        inputs = preprocess_batch(batch, jax.random.key(0), 0, config)
        output = model.apply({"params": params}, *inputs)
        clip = (inputs.video, inputs.log_mel)
        masks = (inputs.video_mask, inputs.audio_mask)

        def picture(video: jax.Array, audio: jax.Array) -> Picture:
            return rebuild(*clip, *masks, video, audio, config.model, loss.frame_difference)

        nothing = (jnp.full_like(output.video, jnp.nan), jnp.full_like(output.audio, jnp.nan))
        zero = (jnp.zeros_like(output.video), jnp.zeros_like(output.audio))
        return {
            "original": Picture(*clip),
            "masked": picture(*nothing),
            "model": picture(output.video, output.audio),
            ZERO: picture(*zero),
        }

    return draw


def rebuild(
    video: jax.Array,
    log_mel: jax.Array,
    video_mask: TokenMask,
    audio_mask: TokenMask,
    video_prediction: jax.Array,
    audio_prediction: jax.Array,
    config: ModelConfig,
    frame_difference: bool = True,
) -> Picture:
    """Clips with their masked tokens replaced by predictions.

    A prediction is of standardised values: it is given the mean and deviation of the patch that it stands
    for, as figures of masked autoencoders do. Visible tokens come from the original.

    Args:
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.
        video_mask: int32[B, ·] indices.
        audio_mask: likewise.
        video_prediction: float32[B, N_masked, tubelet values].
        audio_prediction: float32[B, N_masked, patch values].
        config: geometry.
        frame_difference: whether a tubelet's later frames are predicted as the change from the one before.
    """
    patches = tokens.pixels(tokens.tubelets(video, config.tubelet, config.patch))
    own = tokens.take(patches, video_mask.masked)
    batch, count, values = own.shape
    if frame_difference:
        frames = video_prediction.reshape(batch, count, config.tubelet, -1)
        video_prediction = jnp.cumsum(frames, axis=2)
    channels = (batch, count, values // 3, 3)
    filled = _with_statistics_of(own.reshape(channels), video_prediction.reshape(channels))
    side = config.image_size
    rebuilt = tokens.from_tubelets(
        _fill(patches, video_mask, filled.reshape(own.shape)), config.tubelet, config.patch, side, side
    )
    spectra = tokens.audio_patches(log_mel, config.patch)
    filled = _with_statistics_of(tokens.take(spectra, audio_mask.masked), audio_prediction)
    return Picture(
        rebuilt,
        tokens.from_audio_patches(_fill(spectra, audio_mask, filled), config.patch, config.audio_bins),
    )


def _with_statistics_of(own: jax.Array, standardised: jax.Array) -> jax.Array:
    """Undo `targets`: mean and unbiased deviation of `own` over axis 2."""
    deviation = own.std(axis=2, ddof=1, keepdims=True) + EPSILON
    return standardised * deviation + own.mean(axis=2, keepdims=True)


def _fill(original: jax.Array, mask: TokenMask, predicted: jax.Array) -> jax.Array:
    """Visible tokens of the original and predicted ones; NaN where neither is, as in dual masking."""
    rows = jnp.arange(len(original))[:, None]
    canvas = jnp.full_like(original, jnp.nan)
    canvas = canvas.at[rows, mask.visible].set(tokens.take(original, mask.visible))
    return canvas.at[rows, mask.masked].set(predicted)
