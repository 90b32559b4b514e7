"""The inputs of the pre-training model."""

from typing import NamedTuple

import jax

from hicmae_jax.model.masking import TokenMask


class ModelInputs(NamedTuple):
    """A batch as the pre-training model takes it: `model.apply({"params": params}, *inputs)`.

    Attributes:
        video: [B, T, H, W, 3], uint8 or floats in [0, 1]; the model normalises by ImageNet's statistics.
        log_mel: float[B, time, bins], normalised.
        video_mask: int32[B, ·] token indices, of T/2 · (H/16)² tokens.
        audio_mask: int32[B, ·] token indices, of time/16 · bins/16 tokens.
    """

    video: jax.Array
    log_mel: jax.Array
    video_mask: TokenMask
    audio_mask: TokenMask
