"""Random keys of a batch for each purpose: one for the whole step, or one a clip."""

import zlib
from collections.abc import Callable
from typing import Any

import jax


def step_key(seed_key: jax.Array, purpose: str, step: jax.Array | int) -> jax.Array:
    """Make the key of a step for a named purpose; it depends only on seed, purpose and step.

    Args:
        seed_key: a typed PRNG key, the same throughout a run.
        purpose: name of the random stream. Its checksum is folded in, so a new purpose never changes the
            draws of another.
        step: number of the step.

    Returns:
        One key.
    """
    return jax.random.fold_in(jax.random.fold_in(seed_key, zlib.crc32(purpose.encode())), step)


def clip_keys(seed_key: jax.Array, purpose: str, step: jax.Array | int, example: jax.Array) -> jax.Array:
    """Make one key for each clip and a named purpose; a key depends only on seed, purpose, step and example.

    Args:
        seed_key: a typed PRNG key, the same throughout a run.
        purpose: name of the random stream, as in `step_key`.
        step: number of the step.
        example: int32[B], ids of the clips.

    Returns:
        Keys [B].
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(step_key(seed_key, purpose, step), example)


def draw_for_clips(seed_key: jax.Array, step: jax.Array | int, example: jax.Array) -> Callable[..., Any]:
    """Make a function (purpose, function, *arguments) → what `function(key, *arguments)` draws for each clip.

    Args:
        seed_key: a typed PRNG key, the same throughout a run.
        step: number of the step.
        example: int32[B], ids of the clips.

    Returns:
        A function whose results have B as their first dimension.
    """

    def draw(purpose: str, function: Callable[..., Any], *arguments: object) -> Any:
        keys = clip_keys(seed_key, purpose, step, example)
        return jax.vmap(lambda key: function(key, *arguments))(keys)

    return draw
