"""Attention rollout (Abnar and Zuidema, 2020): how much each input token reaches a modality's feature.

In each layer, a token keeps half of itself and takes half from the tokens that it attends to, in the mean
over heads. The product over layers says how much of each input token is in each output token. The feature is
the mean over output tokens.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.model import tokens
from hicmae_jax.model.config import ModelConfig
from hicmae_jax.model.hicmae import Encoder


class Rollout(NamedTuple):
    """Maps of a batch of clips; each clip's map of a modality sums to 1.

    Attributes:
        video: float32[B, slices, rows, columns], a value for each video token; None without the modality.
        audio: float32[B, time, frequency], a value for each audio token; None without the modality.
    """

    video: np.ndarray | None
    audio: np.ndarray | None


def attention_rollout(
    params: Mapping[str, Any], config: ModelConfig, video: jax.Array, log_mel: jax.Array
) -> Rollout:
    """Roll the attention of each encoder out.

    Args:
        params: parameters of a fine-tuning model, one array for each layer.
        config: its configuration.
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.

    Raises:
        ValueError: clips of another geometry.
    """
    config.check_clips(video.shape, log_mel.shape)
    slices, places = config.video_grid
    side = config.image_size // config.patch
    maps: dict[str, np.ndarray] = {}
    if "encoder" in params:
        patches = tokens.pixels(tokens.tubelets(video, config.tubelet, config.patch))
        values = tokens.normalise(patches)
        maps["video"] = _rolled(params["encoder"], config, values).reshape(-1, slices, side, places // side)
    if "encoder_audio" in params:
        values = tokens.audio_patches(log_mel, config.patch)
        maps["audio"] = _rolled(params["encoder_audio"], config, values).reshape(-1, *config.audio_grid)
    return Rollout(maps.get("video"), maps.get("audio"))


def _rolled(params: Mapping[str, Any], config: ModelConfig, values: jax.Array) -> np.ndarray:
    """Share of each input token in the mean output token of an encoder, float32[B, N]."""
    positions = jnp.asarray(tokens.sinusoidal_positions(values.shape[1], config.encoder_dim))[None]
    _, variables = Encoder(config).apply(
        {"params": params},
        values,
        positions,
        [config.encoder_depth],
        capture_intermediates=lambda module, _: module.name == "norm1",
        mutable=["intermediates"],
    )
    batch, count = values.shape[:2]
    share = jnp.full((batch, 1, count), 1 / count)
    # From the last layer to the first, so that only a row of each product is needed.
    for layer in reversed(range(config.encoder_depth)):
        (normed,) = variables["intermediates"][f"blocks_{layer}"]["norm1"]["__call__"]
        attention = _attention(params[f"blocks_{layer}"]["attn"], normed, config.encoder_heads)
        share = 0.5 * share + 0.5 * share @ attention
    return np.asarray(share[:, 0])


def _attention(params: Mapping[str, Any], normed: jax.Array, heads: int) -> jax.Array:
    """Attention float32[B, N, N] of a layer, mean over heads; queries in rows."""
    batch, count, width = normed.shape
    kernel = jnp.asarray(params["qkv"]["kernel"])
    query = normed @ kernel[:, :width] + params["q_bias"]
    key = normed @ kernel[:, width : 2 * width]
    query, key = (x.reshape(batch, count, heads, width // heads) for x in (query, key))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (width // heads) ** -0.5
    return jax.nn.softmax(scores).mean(1)
