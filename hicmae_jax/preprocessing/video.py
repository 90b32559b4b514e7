"""Cropping and resizing of clips on the device, as matrix products."""

import functools
import math

import jax
import jax.numpy as jnp

CROP_SCALES = (1.0, 0.875, 0.75, 0.66)
"""Crop sides as shares of the stored side: 160, 140, 120 and 105 pixels of 160."""
CROP_SIZES = tuple((i, j) for i in range(4) for j in range(4) if abs(i - j) <= 1)
"""(height, width) as indices of CROP_SCALES, at most one step different."""
CROP_ANCHORS = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)
"""Positions (x, y) of a crop, in quarters of the margin that it leaves."""


def check_frames(shape: tuple[int, ...], count: int) -> None:
    """Refuse a batch of clips that are not square or have another number of frames.

    Args:
        shape: of the stored frames, [B, T, S, S, 3].
        count: frames that the model takes.

    Raises:
        ValueError: names the shape and what is expected.
    """
    if len(shape) != 5 or shape[1] != count or shape[2] != shape[3]:
        raise ValueError(
            f"frames have shape {shape}; expected {count} square frames a clip, [B, {count}, S, S, 3]"
        )


def whole_frames(clips: int, stored: int) -> jax.Array:
    """Boxes int32[clips, 4] of whole frames of side `stored`, for `crop_resize`."""
    return jnp.tile(jnp.array([0, 0, stored, stored]), (clips, 1))


def draw_crop(key: jax.Array, stored: int) -> jax.Array:
    """Draw a multi-scale crop: each pair of sides and each anchor is equally likely.

    Args:
        key: a typed PRNG key.
        stored: side of the stored frames, pixels.

    Returns:
        int32[4], (x, y, width, height).
    """
    size_key, anchor_key = jax.random.split(key)
    sides = jnp.array([int(stored * scale) for scale in CROP_SCALES])
    size = jnp.array(CROP_SIZES)[jax.random.randint(size_key, (), 0, len(CROP_SIZES))]
    height, width = sides[size]
    anchor = jnp.array(CROP_ANCHORS)[jax.random.randint(anchor_key, (), 0, len(CROP_ANCHORS))]
    return jnp.stack(
        [anchor[0] * ((stored - width) // 4), anchor[1] * ((stored - height) // 4), width, height]
    )


def resize_matrix(start: jax.Array, length: jax.Array, size_in: int, size_out: int) -> jax.Array:
    """Make the matrix that crops one axis and resizes it as Pillow's bilinear filter does.

    Pixel centres lie at halves. When the crop shrinks, the filter's triangle widens by the ratio
    (antialiasing). Pixels outside the crop have no weight.

    Args:
        start: first pixel of the crop.
        length: pixels in the crop.
        size_in: pixels before.
        size_out: pixels after.

    Returns:
        float32[size_out, size_in]; each row sums to 1.
    """
    ratio = length / size_out
    centre = start + (jnp.arange(size_out)[:, None] + 0.5) * ratio
    pixel = jnp.arange(size_in)[None, :]
    weights = jnp.maximum(0, 1 - jnp.abs(pixel + 0.5 - centre) / jnp.maximum(ratio, 1))
    weights = jnp.where((pixel >= start) & (pixel < start + length), weights, 0)
    return weights / weights.sum(-1, keepdims=True)


def crop_resize(frames: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """Crop each clip by its own box and resize all clips to one size, bilinear as in Pillow.

    Args:
        frames: uint8[B, T, S, S, 3].
        boxes: int32[B, 4], (x, y, width, height), the same for all frames of a clip.
        size: side of the result, pixels.

    Returns:
        float32[B, T, size, size, 3] on the scale of the input, not rounded.
    """
    rows, columns = _matrices(boxes, frames.shape[2], size)
    return _resize_columns(columns, _resize_rows(rows, frames.astype(jnp.float32)))


def crop_resize_rounded(frames: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """Crop and resize as `crop_resize` does, and round to whole grey levels.

    As in Pillow, the columns come first, each pass is rounded, and halves are rounded up. An array of bytes
    also moves a quarter of the memory of float32.

    Args:
        frames: uint8[B, T, S, S, 3].
        boxes: int32[B, 4], as for `crop_resize`.
        size: side of the result, pixels.

    Returns:
        uint8[B, T, size, size, 3].
    """
    stored = frames.shape[2]
    rows, columns = _matrices(boxes, stored, size)
    # Bytes are exact in bfloat16, too. Where the weights are as well, so are the products of both, in any
    # float32 arithmetic, and GPUs read and write half as much.
    dtype = jnp.bfloat16 if _weights_have_8_bits(stored, size) else jnp.float32
    rows, columns = rows.astype(dtype), columns.astype(dtype)
    resized = _rounded(_resize_columns(columns, frames.astype(dtype)))
    return _rounded(_resize_rows(rows, resized.astype(dtype)))


def _matrices(boxes: jax.Array, stored: int, size: int) -> tuple[jax.Array, jax.Array]:
    """The matrices [B, size, stored] that resize the rows and the columns of every clip."""
    matrices = jax.vmap(resize_matrix, (0, 0, None, None))
    rows = matrices(boxes[:, 1], boxes[:, 3], stored, size)
    columns = matrices(boxes[:, 0], boxes[:, 2], stored, size)
    return rows, columns


# HIGH is three bfloat16 passes on a TPU and tf32 on a GPU. Its weights keep at least 11 bits, so a value up
# to 255 is off by about 0.1 grey levels. One bfloat16 pass (8 bits) would be off by 0.5.


_resize_rows = functools.partial(
    jnp.einsum, "boh,bthwc->btowc", precision=jax.lax.Precision.HIGH, preferred_element_type=jnp.float32
)
_resize_columns = functools.partial(
    jnp.einsum, "bpw,btowc->btopc", precision=jax.lax.Precision.HIGH, preferred_element_type=jnp.float32
)


def _weights_have_8_bits(stored: int, size: int) -> bool:
    """Whether the weights of all crops that `draw_crop` draws, and of the whole frame, are exact in bfloat16.

    When a crop of n pixels grows to `size`, its weights are multiples of 1 / (2 · size / gcd(n, size)).
    """
    sides = [stored, *(int(stored * scale) for scale in CROP_SCALES)]
    parts = [2 * size // math.gcd(side, size) for side in sides]
    return stored <= size and all(part <= 128 and part & (part - 1) == 0 for part in parts)


def _rounded(values: jax.Array) -> jax.Array:
    return jnp.floor(values + 0.5).astype(jnp.uint8)
