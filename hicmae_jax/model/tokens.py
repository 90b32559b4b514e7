"""Clips and spectrograms as sequences of tokens, and positions of tokens (paper section 3.1.1)."""

import jax
import jax.numpy as jnp
import numpy as np

# ImageNet statistics, RGB, of pixels in [0, 1].
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


def tubelets(video: jax.Array, tubelet: int, patch: int) -> jax.Array:
    """Cut clips into tubelets.

    Args:
        video: [B, T, H, W, 3] of any dtype.
        tubelet: frames in a tubelet; divides T.
        patch: side in pixels; divides H and W.

    Returns:
        [B, T/tubelet · H/patch · W/patch, tubelet · patch · patch · 3], tokens in (time, height, width)
        order, values in (frame, row, column, channel) order, dtype kept.
    """
    batch, frames, height, width, channels = video.shape
    t, h, w = frames // tubelet, height // patch, width // patch
    # Column and channel stay one dimension: TPUs pad the last dimension to 128, and an array with only the 3
    # channels there would become forty times as large.
    x = video.reshape(batch, t, tubelet, h, patch, w, patch * channels)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6)
    return x.reshape(batch, t * h * w, tubelet * patch * patch * channels)


def from_tubelets(tokens: jax.Array, tubelet: int, patch: int, height: int, width: int) -> jax.Array:
    """Join tubelets to RGB clips of the given size: the inverse of `tubelets`.

    Returns:
        [B, T, height, width, 3], dtype kept.
    """
    batch, count, _ = tokens.shape
    h, w = height // patch, width // patch
    t = count // (h * w)
    x = tokens.reshape(batch, t, h, w, tubelet, patch, patch, 3)
    x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(batch, t * tubelet, height, width, 3)


def audio_patches(log_mel: jax.Array, patch: int) -> jax.Array:
    """Cut spectrograms into square patches.

    Args:
        log_mel: [B, time, frequency].
        patch: side; divides both.

    Returns:
        [B, time/patch · frequency/patch, patch · patch], tokens and the values of a patch in (time,
        frequency) order, dtype kept.
    """
    batch, time, bins = log_mel.shape
    x = log_mel.reshape(batch, time // patch, patch, bins // patch, patch)
    return x.transpose(0, 1, 3, 2, 4).reshape(batch, -1, patch * patch)


def from_audio_patches(tokens: jax.Array, patch: int, bins: int) -> jax.Array:
    """Join audio patches to spectrograms: the inverse of `audio_patches`.

    Returns:
        [B, time, bins], dtype kept.
    """
    batch, count, _ = tokens.shape
    columns = bins // patch
    x = tokens.reshape(batch, count // columns, columns, patch, patch)
    return x.transpose(0, 1, 3, 2, 4).reshape(batch, -1, bins)


def take(tokens: jax.Array, indices: jax.Array) -> jax.Array:
    """Select tokens of each clip.

    Args:
        tokens: [B, N, D].
        indices: int32[B, K].

    Returns:
        [B, K, D]; an index out of range is undefined.
    """
    return jnp.take_along_axis(tokens, indices[..., None], axis=1, mode="promise_in_bounds")


def pixels(values: jax.Array) -> jax.Array:
    """Pixels as float32 in [0, 1]: uint8 is divided by 255, floats must be in this range already.

    Raises:
        TypeError: another type.
    """
    if values.dtype == jnp.uint8:
        return values.astype(jnp.float32) / 255.0
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"video is {values.dtype}; give uint8, or floats in [0, 1]")
    return values.astype(jnp.float32)


def normalise(tubelet_pixels: jax.Array) -> jax.Array:
    """Standardise tubelets of pixels in [0, 1] with ImageNet's mean and deviation.

    Args:
        tubelet_pixels: float32[..., values], the channel varying fastest.
    """
    repeats = tubelet_pixels.shape[-1] // 3
    mean = np.tile(np.asarray(PIXEL_MEAN, np.float32), repeats)
    std = np.tile(np.asarray(PIXEL_STD, np.float32), repeats)
    return (tubelet_pixels - mean) / std


def sinusoidal_positions(count: int, width: int) -> np.ndarray:
    """Fixed positions over the flat token index: sine on even channels, cosine on odd.

    Args:
        count: tokens.
        width: channels; channel j of position p has angle p / 10000^(2⌊j/2⌋ / width).

    Returns:
        float32[count, width].
    """
    channel = np.arange(width)
    angle = np.arange(count)[:, None] / 10000.0 ** (2 * (channel // 2) / width)
    return np.where(channel % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)
