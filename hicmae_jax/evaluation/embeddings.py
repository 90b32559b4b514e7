"""Features of clips from each modality's encoder, at the tapped layers and the last."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.model import tokens
from hicmae_jax.model.config import ExecutionConfig, ModelConfig
from hicmae_jax.model.hicmae import Encoder
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch


def evaluated_layers(config: ModelConfig) -> tuple[int, ...]:
    """The tapped layers and the last layer, 1-based."""
    return tuple(sorted({*config.skip_layers, config.encoder_depth}))


def level_features(
    params: Mapping[str, Any],
    video: jax.Array,
    log_mel: jax.Array,
    config: ModelConfig,
    execution: ExecutionConfig = ExecutionConfig(),
) -> dict[int, tuple[jax.Array, jax.Array]]:
    """Features of both encoders with every token visible, pooled as for the contrastive loss.

    The fusion encoder is not used. Its streams have information of both modalities, so that retrieving a
    clip's sound by its picture would show nothing.

    Args:
        params: parameters of the pre-training model.
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.
        config: configuration of the model.
        execution: how it is computed.

    Returns:
        Layer → (float32[B, C] of the video, float32[B, C] of the audio), the mean over tokens of the layer's
        normalised output.

    Raises:
        ValueError: clips of another geometry.
    """
    config.check_clips(video.shape, log_mel.shape)
    patches = tokens.pixels(tokens.tubelets(video, config.tubelet, config.patch))
    layers = evaluated_layers(config)

    def pooled(encoder: str, values: jax.Array) -> list[jax.Array]:
        positions = jnp.asarray(tokens.sinusoidal_positions(values.shape[1], config.encoder_dim))[None]
        variables = {"params": params[encoder]}
        output: Any = Encoder(config, execution).apply(variables, values, positions, layers)
        _, taps = output
        return [tap.mean(axis=1, dtype=jnp.float32) for tap in taps]

    of_video = pooled("encoder", tokens.normalise(patches))
    of_audio = pooled("encoder_audio", tokens.audio_patches(log_mel, config.patch))
    return dict(zip(layers, zip(of_video, of_audio, strict=True), strict=True))


def embed_clips(
    preprocess: PreprocessConfig, execution: ExecutionConfig = ExecutionConfig()
) -> Callable[[Any, HostBatch[jax.Array]], Any]:
    """Make a function (parameters, unaugmented host batch) → `level_features`, for `BatchedApply`."""
    config = preprocess.for_evaluation()

    def embed(params: Any, batch: HostBatch[jax.Array]) -> Any:
        inputs = preprocess_batch(batch, jax.random.key(0), 0, config)
        return level_features(params, inputs.video, inputs.log_mel, config.model, execution)

    return embed
