"""Random boxes in a frame, for the random resized crop and random erasing of fine-tuning.

Both draw an area and a log-uniform ratio of the sides, and try again if the box does not fit. Here all tries
are drawn at once and the first that fits is taken, so there is no loop.
"""

import math

import jax
import jax.numpy as jnp

CROP_TRIES, CROP_AREA, CROP_RATIO = 10, (0.08, 1.0), (3 / 4, 4 / 3)
"""Areas are shares of the frame's; ratios are width / height. Published code."""
ERASE_TRIES, ERASE_AREA, ERASE_RATIO = 100, (0.02, 1 / 3), (0.3, 1 / 0.3)


def draw_resized_crop(key: jax.Array, side: int) -> jax.Array:
    """Draw the box of a random resized crop.

    Args:
        key: a typed PRNG key.
        side: of the square frame, pixels.

    Returns:
        int32[4], (x, y, width, height); the whole frame if none of 10 boxes fits.
    """
    box, fits = _draw_box(key, side, side, CROP_TRIES, CROP_AREA, CROP_RATIO)
    return jnp.where(fits, box, jnp.array([0, 0, side, side]))


def draw_erased_box(key: jax.Array, side: int, probability: float) -> jax.Array:
    """Draw the box that random erasing fills with noise.

    Args:
        key: a typed PRNG key.
        side: of the square frame, pixels.
        probability: of a clip to be erased at all.

    Returns:
        int32[4], (x, y, width, height), each side shorter than the frame's; four zeros if nothing is erased,
        which is also so if none of 100 boxes fits.
    """
    erased_key, box_key = jax.random.split(key)
    box, fits = _draw_box(box_key, side, side - 1, ERASE_TRIES, ERASE_AREA, ERASE_RATIO)
    return jnp.where(fits & jax.random.bernoulli(erased_key, probability), box, 0)


def _draw_box(
    key: jax.Array, side: int, longest: int, tries: int, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[jax.Array, jax.Array]:
    """The first (x, y, width, height) of `tries` with no side above `longest`, and whether there is one."""
    area_key, ratio_key, x_key, y_key = jax.random.split(key, 4)
    areas = side**2 * jax.random.uniform(area_key, (tries,), minval=area[0], maxval=area[1])
    low, high = map(math.log, ratio)
    ratios = jnp.exp(jax.random.uniform(ratio_key, (tries,), minval=low, maxval=high))
    widths = jnp.round(jnp.sqrt(areas * ratios)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(areas / ratios)).astype(jnp.int32)
    fitting = (jnp.minimum(widths, heights) > 0) & (jnp.maximum(widths, heights) <= longest)
    # A sum over the one try that is taken, instead of a gather.
    taken = jnp.arange(tries) == jnp.argmax(fitting)
    width, height = (jnp.where(taken & fitting, sides, 0).sum() for sides in (widths, heights))
    x = jax.random.randint(x_key, (), 0, side - width + 1)
    y = jax.random.randint(y_key, (), 0, side - height + 1)
    return jnp.stack([x, y, width, height]), fitting.any()
