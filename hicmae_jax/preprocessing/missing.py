"""Hides one modality of a clip, in training so that a model learns to do without, and in scoring.

A hidden input is constant at the mean that normalisation subtracts, so that the model sees zeros.
"""

import jax
import jax.numpy as jnp

from hicmae_jax.model.tokens import PIXEL_MEAN


def hide(
    video: jax.Array, log_mel: jax.Array, no_video: jax.Array, no_audio: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Replace modalities of some clips by constant inputs.

    Args:
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.
        no_video: bool[B], the clips whose video is hidden.
        no_audio: bool[B], the clips whose sound is hidden.

    Returns:
        Video as floats, float32 or the given float dtype, and log-mel features of the same dtype.
    """
    pixels = video.astype(jnp.float32) / 255 if video.dtype == jnp.uint8 else video
    mean = jnp.asarray(PIXEL_MEAN, pixels.dtype)
    pixels = jnp.where(no_video[:, None, None, None, None], mean, pixels)
    return pixels, jnp.where(no_audio[:, None, None], 0, log_mel)


def draw_hidden(key: jax.Array, share: float) -> tuple[jax.Array, jax.Array]:
    """Draw which modality of one clip is hidden.

    Args:
        key: a typed PRNG key.
        share: probability that one is hidden; either is equally likely, never both.

    Returns:
        Two bool scalars: no video, no audio.
    """
    number = jax.random.uniform(key)
    return number < share / 2, (number >= share / 2) & (number < share)
