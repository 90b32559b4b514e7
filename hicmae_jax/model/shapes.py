"""Shapes of the models' inputs and parameters, and parameter counts, without making arrays."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig, MaskConfig, ModelConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.model.masking import TokenMask


def abstract_clips(model: ModelConfig, batch: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes of the video and the log-mel features of a batch, float32."""
    side = model.image_size
    return (
        jax.ShapeDtypeStruct((batch, model.frames, side, side, 3), jnp.float32),
        jax.ShapeDtypeStruct((batch, model.audio_frames, model.audio_bins), jnp.float32),
    )


def abstract_inputs(model: ModelConfig, masks: MaskConfig, batch: int) -> ModelInputs:
    """Shapes of the pre-training inputs of a batch."""
    shape: Any = jax.ShapeDtypeStruct  # in the place of an array

    def indices(visible: int, masked: int) -> TokenMask:
        return TokenMask(shape((batch, visible), jnp.int32), shape((batch, masked), jnp.int32))

    video: Any
    log_mel: Any
    video, log_mel = abstract_clips(model, batch)
    video_sizes, audio_sizes = masks.sizes(model)
    return ModelInputs(video, log_mel, indices(*video_sizes), indices(*audio_sizes))


def abstract_parameters(
    model: ModelConfig, masks: MaskConfig, execution: ExecutionConfig = ExecutionConfig()
) -> Mapping[str, Any]:
    """Shapes of the pre-training model's parameters."""
    inputs = abstract_inputs(model, masks, 1)
    return jax.eval_shape(HiCMAE(model, execution).init, jax.random.key(0), *inputs)["params"]


def pretrain_parameters(model: ModelConfig, masks: MaskConfig) -> int:
    """Number of parameters of the pre-training model."""
    return _count(abstract_parameters(model, masks))


def finetune_parameters(model: ModelConfig, finetune: FinetuneConfig) -> int:
    """Number of parameters of the fine-tuning model, the head included."""
    clips = abstract_clips(model, 1)
    shapes = jax.eval_shape(HiCMAEFinetune(model, finetune).init, jax.random.key(0), *clips)
    return _count(shapes["params"])


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
