"""Reconstruction targets (paper section 3.1.3), always float32.

Both functions take the masked tokens only, so that no work is done for the others.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-6  # added to the standard deviation, as the published code does

LANES = 128  # of a TPU's registers; slicing at multiples of it moves no data


def _standardise(parts: Sequence[jax.Array], channels: int) -> list[jax.Array]:
    """Standardise each channel of each patch over all parts.

    Args:
        parts: [B, N, values] each, channels interleaved.
        channels: number of channels.
    """
    # Values and channels stay one dimension: TPUs would pad a dimension of three channels to 128.
    values = parts[0].shape[-1]
    channel = np.arange(values) % channels

    def total(parts: Sequence[jax.Array]) -> list[jax.Array]:
        sums = [
            [jnp.where(channel == c, x, 0).sum(-1, keepdims=True) for x in parts] for c in range(channels)
        ]
        return [sum(of_parts[1:], start=of_parts[0]) for of_parts in sums]

    # Subtracting the first pixel turns a constant patch, such as padding, into exact zeros. Otherwise the
    # rounding error of its mean, which depends on the number of devices, would be divided by EPSILON. The
    # masked sum selects the first pixel from a whole register.
    head = parts[0][..., :LANES]
    lane = np.arange(head.shape[-1])
    first = _spread([jnp.where(lane == c, head, 0).sum(-1, keepdims=True) for c in range(channels)], values)
    shifted = [x - first for x in parts]
    count = len(parts) * len(channel) // channels
    mean = _spread([x / count for x in total(shifted)], values)
    centred = [x - mean for x in shifted]
    # The mean is subtracted already, so the unbiased variance is the sum of squares over (count - 1).
    deviations = [jnp.sqrt(x / (count - 1)) for x in total([jnp.square(x) for x in centred])]
    scale = _spread([1 / (x + EPSILON) for x in deviations], values)
    return [x * scale for x in centred]


def _spread(of_channel: Sequence[jax.Array], values: int) -> jax.Array:
    """One number a channel, [B, N, 1] each → [B, N, values] with the channels interleaved."""
    channel = np.arange(values) % len(of_channel)
    result = of_channel[-1]
    for c in range(len(of_channel) - 1):
        result = jnp.where(channel == c, of_channel[c], result)
    return result


def _statistics_of_bytes(values: jax.Array, channels: int) -> tuple[list[jax.Array], list[jax.Array]]:
    """Mean and unbiased deviation of every channel of every patch, in grey levels.

    All sums are of integers, so they are exact in any order and a constant patch has deviation 0.

    Args:
        values: uint8[B, N, values], channels interleaved.
        channels: number of channels.

    Returns:
        float32[B, N, 1] for each channel: means, and deviations.
    """
    channel = np.arange(values.shape[-1]) % channels
    count = values.shape[-1] // channels
    means, deviations = [], []
    for c in range(channels):
        of_channel = jnp.where(channel == c, values.astype(jnp.int32), 0)
        total = of_channel.sum(-1, keepdims=True)
        squares = jnp.square(of_channel).sum(-1, keepdims=True)
        # The sum of squares about the whole number below the mean, then about the mean itself.
        floor = total // count
        rest = (total - count * floor).astype(jnp.float32)
        about_floor = squares - floor * (2 * total - count * floor)
        about_mean = about_floor.astype(jnp.float32) - jnp.square(rest) / count
        means.append(total.astype(jnp.float32) / count)
        deviations.append(jnp.sqrt(jnp.maximum(about_mean, 0) / (count - 1)))
    return means, deviations


def _video_targets_of_bytes(pixels: jax.Array, tubelet: int, frame_difference: bool) -> jax.Array:
    """`video_targets` of uint8; XLA can compute it where the loss reads it, so that no target is stored."""
    values = pixels.shape[-1]
    means, deviations = _statistics_of_bytes(pixels, channels=3)
    before = _spread(means, values)
    if frame_difference:
        # Shift by one frame. A pad of negative size cuts; XLA fuses it, unlike joining two arrays.
        frame = values // tubelet
        shifted = jax.lax.pad(pixels, jnp.uint8(0), [(0, 0, 0), (0, 0, 0), (frame, -frame, 0)])
        before = jnp.where(np.arange(values) < frame, before, shifted.astype(jnp.float32))
    scale = _spread([1 / (x + 255 * EPSILON) for x in deviations], values)
    return (pixels.astype(jnp.float32) - before) * scale


def video_targets(tubelet_pixels: jax.Array, tubelet: int, frame_difference: bool = True) -> jax.Array:
    """Targets of video tokens.

    Each colour channel of a tubelet is standardised over its frames, rows and columns with the unbiased
    deviation. With `frame_difference`, each frame of the tubelet but the first is then replaced by the
    difference of its standardised values from those of the frame before.

    Args:
        tubelet_pixels: [B, N, tubelet · patch · patch · 3], un-normalised pixels, uint8 or floats in [0, 1],
            in (frame, row, column, channel) order.
        tubelet: frames in a tubelet.
        frame_difference: True targets appearance and motion (the paper), False only appearance.

    Returns:
        float32 of the same shape and order.
    """
    if tubelet_pixels.dtype == jnp.uint8:
        return _video_targets_of_bytes(tubelet_pixels, tubelet, frame_difference)
    # The frames stay separate arrays: XLA would write a joint array to memory before standardising it.
    frames = _standardise(jnp.split(tubelet_pixels.astype(jnp.float32), tubelet, axis=-1), channels=3)
    if frame_difference:
        frames = [frames[0], *(b - a for a, b in itertools.pairwise(frames))]
    return jnp.concatenate(frames, axis=-1)


def audio_targets(patches: jax.Array) -> jax.Array:
    """Targets of audio tokens: each patch standardised with the unbiased deviation.

    Args:
        patches: float[B, N, patch · patch] of the normalised log-mel.

    Returns:
        float32 of the same shape.
    """
    return _standardise([patches.astype(jnp.float32)], channels=1)[0]
