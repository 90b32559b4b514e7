"""The whole pre-training objective of a batch, from pixels and spectra to one number (equation 11)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from hicmae_jax.model import tokens
from hicmae_jax.model.config import LossConfig
from hicmae_jax.model.hicmae import HiCMAE, PretrainOutput
from hicmae_jax.model.masking import TokenMask
from hicmae_jax.objective import contrastive, losses, targets

Terms = dict[str, jax.Array]
Levels = tuple[Sequence[jax.Array], Sequence[jax.Array]]
"""[B, C] features of every level: video's and audio's."""


def masked_targets(
    model: HiCMAE,
    video: jax.Array,
    log_mel: jax.Array,
    video_mask: TokenMask,
    audio_mask: TokenMask,
    frame_difference: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Targets of the masked tokens only.

    Args:
        model: for its geometry.
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.
        video_mask: int32[B, ·] indices.
        audio_mask: likewise.
        frame_difference: see `targets.video_targets`.

    Returns:
        float32[B, N_masked, tubelet values] and float32[B, N_masked, patch values].
    """
    config = model.config
    video = tokens.take(tokens.tubelets(video, config.tubelet, config.patch), video_mask.masked)
    audio = tokens.take(tokens.audio_patches(log_mel, config.patch), audio_mask.masked)
    return (
        targets.video_targets(tokens.pixels(video), config.tubelet, frame_difference),
        targets.audio_targets(audio),
    )


def reconstruction(output: PretrainOutput, video_target: jax.Array, audio_target: jax.Array) -> Terms:
    """The terms that are means over clips.

    Args:
        output: the model's.
        video_target: float32[B, N_masked, tubelet values].
        audio_target: float32[B, N_masked, patch values].

    Returns:
        float32 scalars `video` and `audio`.
    """
    return {
        "video": losses.reconstruction_loss(output.video, video_target),
        "audio": losses.reconstruction_loss(output.audio, audio_target),
    }


def contrast(levels: Levels, config: LossConfig, mesh: jax.sharding.Mesh | None = None) -> Terms:
    """The terms that compare clips with each other.

    Args:
        levels: `video_levels` and `audio_levels` of a `PretrainOutput`.
        config: temperature, negatives.
        mesh: where the clips lie, see `contrastive.info_nce`.

    Returns:
        float32 scalar `contrastive`, the sum over levels, unweighted, and float32[levels]
        `contrastive_levels`, in `skip_layers` order.
    """
    values = contrastive.info_nce(*levels, config.temperature, config.group_size, mesh)
    return {"contrastive": values.sum(), "contrastive_levels": values}


def combine(
    output: PretrainOutput,
    video_target: jax.Array,
    audio_target: jax.Array,
    config: LossConfig,
    mesh: jax.sharding.Mesh | None = None,
) -> Terms:
    """Loss terms of a batch.

    Args:
        output: the model's.
        video_target: float32[B, N_masked, tubelet values].
        audio_target: float32[B, N_masked, patch values].
        config: weight, temperature, negatives.
        mesh: where the clips lie, see `contrastive.info_nce`.

    Returns:
        The terms of `reconstruction` and `contrast`, and their weighted sum `total`, a float32 scalar.
    """
    apart = reconstruction(output, video_target, audio_target)
    together = contrast((output.video_levels, output.audio_levels), config, mesh)
    total = apart["video"] + apart["audio"] + config.contrastive_weight * together["contrastive"]
    return {"total": total, **apart, **together}


def pretrain_loss(
    model: HiCMAE,
    params: Mapping[str, Any],
    video: jax.Array,
    log_mel: jax.Array,
    video_mask: TokenMask,
    audio_mask: TokenMask,
    config: LossConfig,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[jax.Array, Terms]:
    """Forward pass and loss, ready for `jax.value_and_grad(..., argnums=1, has_aux=True)`.

    Args:
        model: the pre-training model.
        params: its parameters.
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.
        video_mask: int32[B, ·] indices.
        audio_mask: likewise.
        config: the objective's choices.
        mesh: where the clips lie, see `contrastive.info_nce`.

    Returns:
        The total, and every term as `combine` gives them.

    Raises:
        ValueError: if the batch is not a multiple of the negatives' group.
    """
    output = model.apply({"params": params}, video, log_mel, video_mask, audio_mask)
    goals = masked_targets(model, video, log_mel, video_mask, audio_mask, config.frame_difference)
    terms = combine(output, *goals, config, mesh)
    return terms["total"], terms


def levels(
    model: HiCMAE,
    params: Mapping[str, Any],
    video: jax.Array,
    log_mel: jax.Array,
    video_mask: TokenMask,
    audio_mask: TokenMask,
) -> Levels:
    """What is contrasted, from the encoders alone; arguments as for `pretrain_loss`."""
    output = model.apply({"params": params}, video, log_mel, video_mask, audio_mask, reconstruct=False)
    return output.video_levels, output.audio_levels


def without_contrast(
    model: HiCMAE,
    params: Mapping[str, Any],
    video: jax.Array,
    log_mel: jax.Array,
    video_mask: TokenMask,
    audio_mask: TokenMask,
    config: LossConfig,
) -> tuple[jax.Array, Terms, Levels]:
    """The part of the objective that is a mean over clips.

    With `contrastive_weight` times `contrast` of the levels it is what `pretrain_loss` gives; arguments as
    there.

    Returns:
        The sum of the terms, the terms as `reconstruction` gives them, and what is contrasted.
    """
    output = model.apply({"params": params}, video, log_mel, video_mask, audio_mask)
    goals = masked_targets(model, video, log_mel, video_mask, audio_mask, config.frame_difference)
    terms = reconstruction(output, *goals)
    return terms["video"] + terms["audio"], terms, (output.video_levels, output.audio_levels)
