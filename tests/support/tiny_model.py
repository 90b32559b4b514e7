"""The smallest model that has every part, and inputs for it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.model import masking, sizes
from hicmae_jax.model.config import ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.inputs import ModelInputs

# Of the 2 × 4 video and 2 × 2 audio tokens, half are visible and half masked.
MASKS = MaskConfig(video_ratio=0.5, audio_ratio=0.5)


def model_config(**overrides: Any) -> ModelConfig:
    fields = {
        "image_size": 32,
        "frames": 4,
        "audio_frames": 32,
        "audio_bins": 32,
        "encoder_dim": 32,
        "encoder_heads": 2,
        "encoder_depth": 3,
        "decoder_dim": 24,
        "decoder_heads": 2,
        "decoder_depth": 3,
        "fusion_depth": 1,
        "skip_layers": (1, 3),
    }
    return sizes.model_config("mu", **(fields | overrides))


def inputs(config: ModelConfig, masks: MaskConfig = MASKS, batch: int = 4, seed: int = 0) -> ModelInputs:
    """Random inputs; the video is uint8."""
    rng = np.random.default_rng(seed)
    shape = (batch, config.frames, config.image_size, config.image_size, 3)
    video = jnp.asarray(rng.integers(0, 256, shape, dtype=np.uint8))
    log_mel = jnp.asarray(rng.standard_normal((batch, config.audio_frames, config.audio_bins)), jnp.float32)

    def draw(stream: int, kind: str, *of: Any):
        keys = jax.random.split(jax.random.key(seed + stream), batch)
        return jax.vmap(lambda key: masking.draw_mask(kind, key, *of))(keys)

    of_video = (masks.video_ratio, masks.video_decode_fraction, masks.video_decode_kind)

    return ModelInputs(
        video,
        log_mel,
        draw(1, masks.video_kind, config.video_grid, *of_video),
        draw(2, masks.audio_kind, config.audio_grid, masks.audio_ratio, masks.audio_decode_fraction),
    )


def parameters(
    config: ModelConfig,
    seed: int = 0,
    masks: MaskConfig = MASKS,
    execution: ExecutionConfig = ExecutionConfig(),
) -> Any:
    """Random parameters of a realistic scale; none has a special value such as 0 or 1."""
    init = HiCMAE(config, execution).init
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs(config, masks, batch=1))
    return random_like(shapes["params"], seed)


def random_like(shapes: Any, seed: int = 0) -> Any:
    """Random values for a tree of parameter shapes."""
    rng = np.random.default_rng(seed)

    def fill(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        noise = 0.1 * rng.standard_normal(leaf.shape)
        return jnp.asarray(noise + (path[-1].key == "scale"), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)
