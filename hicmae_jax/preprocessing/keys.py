"""Random keys of a batch: one a clip for each purpose."""

import zlib

import jax


def clip_keys(seed_key: jax.Array, purpose: str, step: jax.Array | int, example: jax.Array) -> jax.Array:
    """Make one key for each clip and a named purpose; a key depends only on seed, purpose, step and example.

    Args:
        seed_key: a typed PRNG key, the same throughout a run.
        purpose: name of the random stream. Its checksum is folded in, so a new purpose never changes the
            draws of another.
        step: number of the step.
        example: int32[B], ids of the clips.

    Returns:
        Keys [B].
    """
    stream = jax.random.fold_in(jax.random.fold_in(seed_key, zlib.crc32(purpose.encode())), step)
    return jax.vmap(jax.random.fold_in, (None, 0))(stream, example)
