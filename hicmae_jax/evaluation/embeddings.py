"""Features of clips from each modality's encoder, at the tapped layers and the last, and from fusion."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.model import tokens
from hicmae_jax.model.config import ExecutionConfig, ModelConfig
from hicmae_jax.model.hicmae import Encoder, FusionEncoder
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
    found = features(params, video, log_mel, config, execution)
    return {layer: (found[f"video_{layer}"], found[f"audio_{layer}"]) for layer in evaluated_layers(config)}


def features(
    params: Mapping[str, Any],
    video: jax.Array | None,
    log_mel: jax.Array | None,
    config: ModelConfig,
    execution: ExecutionConfig = ExecutionConfig(),
) -> dict[str, jax.Array]:
    """Features of the encoders, and of the fusion encoder if there are both modalities, every token visible.

    Args:
        params: parameters of the pre-training model.
        video: [B, T, H, W, 3], uint8 or floats in [0, 1]; None without.
        log_mel: float[B, time, bins], normalised; None without.
        config: configuration of the model.
        execution: how it is computed.

    Returns:
        `video_<layer>` and `audio_<layer>` of the tapped layers and the last, `fused_video` and
        `fused_audio`, as far as they can be computed: float32[B, C], the mean over tokens of the normalised
        output.

    Raises:
        ValueError: clips of another geometry.
    """
    config.check_clips(None if video is None else video.shape, None if log_mel is None else log_mel.shape)
    layers = evaluated_layers(config)
    found: dict[str, jax.Array] = {}
    lasts: list[jax.Array] = []

    def encode(name: str, module: str, values: jax.Array) -> None:
        positions = jnp.asarray(tokens.sinusoidal_positions(values.shape[1], config.encoder_dim))[None]
        output: Any = Encoder(config, execution).apply({"params": params[module]}, values, positions, layers)
        last, levels = output
        lasts.append(last)
        found.update({f"{name}_{layer}": _mean(level) for layer, level in zip(layers, levels, strict=True)})

    if video is not None:
        patches = tokens.pixels(tokens.tubelets(video, config.tubelet, config.patch))
        encode("video", "encoder", tokens.normalise(patches))
    if log_mel is not None:
        encode("audio", "encoder_audio", tokens.audio_patches(log_mel, config.patch))
    if len(lasts) == 2:
        fused: Any = FusionEncoder(config, execution).apply({"params": params["encoder_fusion"]}, *lasts)
        found |= {"fused_video": _mean(fused[0]), "fused_audio": _mean(fused[1])}
    return found


def _mean(stream: jax.Array) -> jax.Array:
    return stream.mean(axis=1, dtype=jnp.float32)


def embed_clips(
    preprocess: PreprocessConfig, execution: ExecutionConfig = ExecutionConfig()
) -> Callable[[Any, HostBatch[jax.Array]], Any]:
    """Make a function (parameters, unaugmented host batch) → `level_features`, for `BatchedApply`."""
    config = preprocess.for_evaluation()

    def embed(params: Any, batch: HostBatch[jax.Array]) -> Any:
        inputs = preprocess_batch(batch, jax.random.key(0), 0, config)
        return level_features(params, inputs.video, inputs.log_mel, config.model, execution)

    return embed
