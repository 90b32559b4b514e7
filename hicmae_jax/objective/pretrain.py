"""The pre-training objective of a batch, from model inputs to one number (paper equations 8 to 11)."""

import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from hicmae_jax.model import tokens
from hicmae_jax.model.hicmae import HiCMAE, PretrainOutput, forward
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.objective import contrastive, losses, targets
from hicmae_jax.objective.config import LossConfig

Terms = dict[str, jax.Array]
"""Loss terms by name."""
OF_CLIPS: Mapping[str, str] = types.MappingProxyType({"video": "video_of_clips", "audio": "audio_of_clips"})
"""Each term that is a mean over clips → the term that has the loss of each clip."""
Levels = tuple[Sequence[jax.Array], Sequence[jax.Array]]
"""Pooled features [B, C] of every tapped layer: the video encoder's and the audio encoder's."""


def masked_targets(
    model: HiCMAE, inputs: ModelInputs, frame_difference: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Targets of the masked tokens (paper section 3.1.3).

    Args:
        model: gives the geometry.
        inputs: of the model.
        frame_difference: see `targets.video_targets`.

    Returns:
        float32[B, N_masked, tubelet values] and float32[B, N_masked, patch values].
    """
    config = model.config
    tubelets = tokens.tubelets(inputs.video, config.tubelet, config.patch)
    patches = tokens.audio_patches(inputs.log_mel, config.patch)
    video = tokens.take(tubelets, inputs.video_mask.masked)
    audio = tokens.take(patches, inputs.audio_mask.masked)
    return (
        targets.video_targets(video, config.tubelet, frame_difference),
        targets.audio_targets(audio),
    )


def reconstruction_terms(
    output: PretrainOutput, video_target: jax.Array, audio_target: jax.Array, of_clips: bool = False
) -> Terms:
    """Terms that are means over clips (equation 8).

    Args:
        output: of the model, with reconstructions.
        video_target: float32[B, N_masked, tubelet values].
        audio_target: float32[B, N_masked, patch values].
        of_clips: whether to give the loss of each clip, too.

    Returns:
        float32 scalars `video` and `audio`; of each clip, float32[B] under the names in `OF_CLIPS`.

    Raises:
        ValueError: `output` has no reconstructions.
    """
    if output.video is None or output.audio is None:
        raise ValueError("the output has no reconstructions: call the model with reconstruct=True")
    pairs = {"video": (output.video, video_target), "audio": (output.audio, audio_target)}
    terms = {name: losses.reconstruction_loss(*pair) for name, pair in pairs.items()}
    if of_clips:
        terms |= {OF_CLIPS[name]: losses.reconstruction_loss_of_clips(*pair) for name, pair in pairs.items()}
    return terms


def contrastive_terms(levels: Levels, config: LossConfig, mesh: jax.sharding.Mesh | None = None) -> Terms:
    """Terms that compare clips with each other (equations 9 and 10).

    Args:
        levels: `video_levels` and `audio_levels` of a `PretrainOutput`.
        config: temperature and negatives.
        mesh: devices that hold the clips, see `contrastive.info_nce`.

    Returns:
        float32 scalar `contrastive`, the unweighted sum over levels, and float32[levels]
        `contrastive_levels`, in `skip_layers` order.
    """
    values = contrastive.info_nce(*levels, config.temperature, config.group_size, mesh)
    return {"contrastive": values.sum(), "contrastive_levels": values}


def loss_terms(
    output: PretrainOutput,
    video_target: jax.Array,
    audio_target: jax.Array,
    config: LossConfig,
    mesh: jax.sharding.Mesh | None = None,
    of_clips: bool = False,
) -> Terms:
    """All loss terms of a batch.

    Args:
        output: of the model, with reconstructions.
        video_target: float32[B, N_masked, tubelet values].
        audio_target: float32[B, N_masked, patch values].
        config: weight, temperature, negatives.
        mesh: devices that hold the clips, see `contrastive.info_nce`.
        of_clips: see `reconstruction_terms`.

    Returns:
        The terms of `reconstruction_terms` and `contrastive_terms`, and their weighted sum `total`
        (equation 11), a float32 scalar.
    """
    means = reconstruction_terms(output, video_target, audio_target, of_clips)
    contrast = contrastive_terms((output.video_levels, output.audio_levels), config, mesh)
    total = means["video"] + means["audio"] + config.contrastive_weight * contrast["contrastive"]
    return {"total": total, **means, **contrast}


def pretrain_loss(
    model: HiCMAE,
    params: Mapping[str, Any],
    inputs: ModelInputs,
    config: LossConfig | None = None,
    mesh: jax.sharding.Mesh | None = None,
    of_clips: bool = False,
) -> tuple[jax.Array, Terms]:
    """Forward pass and loss, ready for `jax.value_and_grad(..., argnums=1, has_aux=True)`.

    Args:
        model: the pre-training model.
        params: its parameters.
        inputs: clips and masks.
        config: choices of the objective; None for the defaults.
        mesh: devices that hold the clips, see `contrastive.info_nce`.
        of_clips: see `reconstruction_terms`.

    Returns:
        The total, and every term as in `loss_terms`.

    Raises:
        ValueError: the batch is not a multiple of the negatives' group.
    """
    config = LossConfig() if config is None else config
    output = forward(model, params, inputs)
    goals = masked_targets(model, inputs, config.frame_difference)
    terms = loss_terms(output, *goals, config, mesh, of_clips)
    return terms["total"], terms


def encode_levels(model: HiCMAE, params: Mapping[str, Any], inputs: ModelInputs) -> Levels:
    """Pooled features for the contrastive terms; only the encoders run.

    Args:
        model: the pre-training model.
        params: its parameters.
        inputs: clips and masks.
    """
    output = forward(model, params, inputs, reconstruct=False)
    return output.video_levels, output.audio_levels


def reconstruction_loss_and_levels(
    model: HiCMAE,
    params: Mapping[str, Any],
    inputs: ModelInputs,
    config: LossConfig,
    of_clips: bool = False,
) -> tuple[jax.Array, Terms, Levels]:
    """The part of the objective that is a mean over clips, and the features for the contrastive part.

    The loss plus `contrastive_weight` times the `contrastive` term of the levels is the total of
    `pretrain_loss`.

    Args:
        model: the pre-training model.
        params: its parameters.
        inputs: clips and masks.
        config: choices of the objective.
        of_clips: see `reconstruction_terms`.

    Returns:
        The sum of the reconstruction terms, these terms, and the levels.
    """
    output = forward(model, params, inputs)
    goals = masked_targets(model, inputs, config.frame_difference)
    terms = reconstruction_terms(output, *goals, of_clips)
    return terms["video"] + terms["audio"], terms, (output.video_levels, output.audio_levels)
