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
    channel = np.arange(parts[0].shape[-1]) % channels

    def total(parts: Sequence[jax.Array]) -> list[jax.Array]:
        sums = [
            [jnp.where(channel == c, x, 0).sum(-1, keepdims=True) for x in parts] for c in range(channels)
        ]
        return [sum(of_parts[1:], start=of_parts[0]) for of_parts in sums]

    def spread(of_channel: Sequence[jax.Array]) -> jax.Array:
        result = of_channel[-1]
        for c in range(channels - 1):
            result = jnp.where(channel == c, of_channel[c], result)
        return result

    # Subtracting the first pixel turns a constant patch, such as padding, into exact zeros. Otherwise the
    # rounding error of its mean, which depends on the number of devices, would be divided by EPSILON. The
    # masked sum selects the first pixel from a whole register.
    head = parts[0][..., :LANES]
    lane = np.arange(head.shape[-1])
    first = spread([jnp.where(lane == c, head, 0).sum(-1, keepdims=True) for c in range(channels)])
    shifted = [x - first for x in parts]
    count = len(parts) * len(channel) // channels
    mean = spread([x / count for x in total(shifted)])
    centred = [x - mean for x in shifted]
    # The mean is subtracted already, so the unbiased variance is the sum of squares over (count - 1).
    deviations = [jnp.sqrt(x / (count - 1)) for x in total([jnp.square(x) for x in centred])]
    scale = spread([1 / (x + EPSILON) for x in deviations])
    return [x * scale for x in centred]


def video_targets(tubelet_pixels: jax.Array, tubelet: int, frame_difference: bool = True) -> jax.Array:
    """Targets of video tokens.

    Each colour channel of a tubelet is standardised over its frames, rows and columns with the unbiased
    deviation. With `frame_difference`, each frame of the tubelet but the first is then replaced by the
    difference of its standardised values from those of the frame before.

    Args:
        tubelet_pixels: float[B, N, tubelet · patch · patch · 3], un-normalised pixels in [0, 1], in
            (frame, row, column, channel) order.
        tubelet: frames in a tubelet.
        frame_difference: True targets appearance and motion (the paper), False only appearance.

    Returns:
        float32 of the same shape and order.
    """
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
