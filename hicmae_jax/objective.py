"""The whole pre-training objective of a batch, from pixels and spectra to one number (equation 11)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hicmae_jax import losses, targets, tokens
from hicmae_jax.config import LossConfig
from hicmae_jax.masking import TokenMask
from hicmae_jax.model import HiCMAE, PretrainOutput


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


def combine(
    output: PretrainOutput, video_target: jax.Array, audio_target: jax.Array, config: LossConfig
) -> dict[str, jax.Array]:
    """Loss terms of a batch.

    Args:
        output: the model's.
        video_target: float32[B, N_masked, tubelet values].
        audio_target: float32[B, N_masked, patch values].
        config: weight, temperature, negatives.

    Returns:
        float32 scalars `total`, `video`, `audio`, `contrastive` (the sum over levels, unweighted) and
        float32[levels] `contrastive_levels`, in `skip_layers` order.
    """
    video = losses.reconstruction_loss(output.video, video_target)
    audio = losses.reconstruction_loss(output.audio, audio_target)
    levels = [
        losses.info_nce(v, a, config.temperature, config.group_size)
        for v, a in zip(output.video_levels, output.audio_levels, strict=True)
    ]
    contrastive = sum(levels, start=jnp.float32(0))
    return {
        "total": video + audio + config.contrastive_weight * contrastive,
        "video": video,
        "audio": audio,
        "contrastive": contrastive,
        "contrastive_levels": jnp.stack(levels) if levels else jnp.zeros((0,)),
    }


def pretrain_loss(
    model: HiCMAE,
    params: Mapping[str, Any],
    video: jax.Array,
    log_mel: jax.Array,
    video_mask: TokenMask,
    audio_mask: TokenMask,
    config: LossConfig,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Forward pass and loss, ready for `jax.value_and_grad(..., argnums=1, has_aux=True)`.

    Args:
        model: the pre-training model.
        params: its parameters.
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.
        video_mask: int32[B, ·] indices.
        audio_mask: likewise.
        config: the objective's choices.

    Returns:
        The total, and every term as `combine` gives them.

    Raises:
        ValueError: if the batch is not a multiple of the negatives' group.
    """
    output = model.apply({"params": params}, video, log_mel, video_mask, audio_mask)
    goals = masked_targets(model, video, log_mel, video_mask, audio_mask, config.frame_difference)
    terms = combine(output, *goals, config)
    return terms["total"], terms
