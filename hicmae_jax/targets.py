"""What the decoders are asked to reconstruct (paper section 3.1.3).

Both functions take tokens that were already selected, so that only masked tokens cost anything, and
return float32 whatever they are given.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-6  # added to the standard deviation, as the published code does


def _standardise(values: jax.Array, axis: int) -> jax.Array:
    # A flat patch, such as padding, becomes exact zeros first: the rounding of its mean, which changes with
    # the number of devices, would be divided by EPSILON.
    values = values - jax.lax.slice_in_dim(values, 0, 1, axis=axis)
    centred = values - values.mean(axis, keepdims=True)
    # Unbiased deviation of a patch that may be flat: the mean is out already, so this is its second moment.
    variance = jnp.square(centred).sum(axis, keepdims=True) / (values.shape[axis] - 1)
    return centred / (jnp.sqrt(variance) + EPSILON)


def video_targets(tubelet_pixels: jax.Array, tubelet: int, frame_difference: bool = True) -> jax.Array:
    """Targets of video tokens.

    Each colour channel of a tubelet is standardised over its frames, rows and columns with the unbiased
    deviation. With `frame_difference` every frame but the tubelet's first is then replaced by its change
    from the frame before, of the standardised values.

    Args:
        tubelet_pixels: float[B, N, tubelet · patch · patch · 3], un-normalised pixels in [0, 1], in
            (frame, row, column, channel) order.
        tubelet: frames in a tubelet.
        frame_difference: whether to target appearance and motion (the paper) or appearance alone.

    Returns:
        float32 of the same shape and order.
    """
    batch, count, values = tubelet_pixels.shape
    x = tubelet_pixels.astype(jnp.float32).reshape(batch, count, values // 3, 3)
    x = _standardise(x, axis=2).reshape(batch, count, tubelet, values // tubelet)
    if frame_difference:
        x = jnp.concatenate([x[:, :, :1], x[:, :, 1:] - x[:, :, :-1]], axis=2)
    return x.reshape(batch, count, values)


def audio_targets(patches: jax.Array) -> jax.Array:
    """Targets of audio tokens: each patch standardised with the unbiased deviation.

    Args:
        patches: float[B, N, patch · patch] of the normalised log-mel.

    Returns:
        float32 of the same shape.
    """
    return _standardise(patches.astype(jnp.float32), axis=2)
