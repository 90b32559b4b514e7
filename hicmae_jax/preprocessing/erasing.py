"""Random erasing: one box in all frames of a clip is replaced by noise."""

import jax
import jax.numpy as jnp

from hicmae_jax.model.tokens import PIXEL_MEAN, PIXEL_STD


def erase(key: jax.Array, video: jax.Array, box: jax.Array) -> jax.Array:
    """Fill a box of one clip with noise, independent in each frame, pixel and channel.

    The noise is normal with mean 0 and deviation 1 after the model's own normalisation. So here it has
    ImageNet's mean and deviation of each channel, and may lie outside [0, 1].

    Args:
        key: a typed PRNG key.
        video: float[T, S, S, 3] in [0, 1].
        box: int32[4], (x, y, width, height); the same in all frames. A box of width 0 fills nothing.

    Returns:
        float[T, S, S, 3].
    """
    x, y, width, height = box
    row, column = jnp.arange(video.shape[1])[:, None], jnp.arange(video.shape[2])[None, :]
    inside = (row >= y) & (row < y + height) & (column >= x) & (column < x + width)
    noise = jax.random.normal(key, video.shape, video.dtype)
    mean, deviation = jnp.array(PIXEL_MEAN, video.dtype), jnp.array(PIXEL_STD, video.dtype)
    return jnp.where(inside[..., None], noise * deviation + mean, video)
