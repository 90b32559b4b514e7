"""The loss terms of one level, in their plain form and in float32 (paper equations 8 and 9).

`info_nce_reference` is the readable definition of the contrastive loss; `contrastive.info_nce` computes the
same on many devices.
"""

import jax
import jax.numpy as jnp


def reconstruction_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error over clips, masked tokens *and* their values (equation 8 sums over values).

    Args:
        prediction: [B, N_masked, values].
        target: float32, same shape.

    Returns:
        float32 scalar.
    """
    return jnp.square(prediction.astype(jnp.float32) - target).mean()


def reconstruction_loss_of_clips(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The same for each clip; the mean over clips is `reconstruction_loss`.

    Args:
        prediction: [B, N_masked, values].
        target: float32, same shape.

    Returns:
        float32[B].
    """
    return jnp.square(prediction.astype(jnp.float32) - target).mean((1, 2))


def unit(x: jax.Array) -> jax.Array:
    """Scale features [..., C] to length 1, in float32; features of length 0 stay."""
    x = x.astype(jnp.float32)
    # The lower bound keeps the gradient of a zero feature finite, as in PyTorch's `normalize`.
    return x / jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


def contrastive_logits(video: jax.Array, audio: jax.Array, temperature: float) -> jax.Array:
    """Cosine similarities over the temperature, video → audio.

    Args:
        video: [..., N, C] pooled video features of one level.
        audio: [..., N, C] pooled audio features of the same clips.
        temperature: τ of equation 9.

    Returns:
        float32[..., N, N]; row i is video i against every audio.
    """
    similarity = jnp.einsum("...ic,...jc->...ij", unit(video), unit(audio), precision="highest")
    return similarity / temperature


def info_nce_reference(
    video: jax.Array, audio: jax.Array, temperature: float, group_size: int | None = None
) -> jax.Array:
    """Symmetric InfoNCE of one level: the mean of both directions, averaged over clips (equation 9).

    Args:
        video: [B, C] pooled video features.
        audio: [B, C] pooled audio features.
        temperature: τ.
        group_size: number of consecutive clips that are negatives of each other; None for the whole batch.

    Returns:
        float32 scalar.

    Raises:
        ValueError: the batch is not a multiple of the group size.
    """
    batch, width = video.shape
    group = batch if group_size is None else group_size
    if batch % group:
        raise ValueError(f"batch {batch} is not a multiple of the negatives' group of {group}")
    logits = contrastive_logits(video.reshape(-1, group, width), audio.reshape(-1, group, width), temperature)
    matched = jnp.diagonal(logits, axis1=-2, axis2=-1)
    to_audio = jax.nn.logsumexp(logits, axis=-1) - matched
    to_video = jax.nn.logsumexp(logits, axis=-2) - matched
    return 0.5 * (to_audio + to_video).mean()
