"""Initial parameters of a run, drawn from its seed."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hicmae_jax.model import shapes
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig, MaskConfig, ModelConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE


def parameter_key(seed: int) -> jax.Array:
    """The key of a run's initial parameters, independent of the keys of its batches."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"parameters"))


def initialiser(
    model: ModelConfig, masks: MaskConfig, execution: ExecutionConfig = ExecutionConfig()
) -> Callable[[jax.Array], Mapping[str, Any]]:
    """Make a function key → parameters of the pre-training model (paper section 4.1), to be jitted.

    Args:
        model: configuration of the model.
        masks: any that fit the model; parameters do not depend on them.
        execution: how it is computed.
    """
    inputs = shapes.abstract_inputs(model, masks, 1)
    # The kernel would shard its clips over the devices, and here is only one clip.
    execution = dataclasses.replace(execution, attention="xla")

    def initialise(key: jax.Array) -> Mapping[str, Any]:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), inputs)
        return HiCMAE(model, execution).init(key, *zeros)["params"]

    return initialise


def finetune_initialiser(
    model: ModelConfig,
    finetune: FinetuneConfig,
    execution: ExecutionConfig = ExecutionConfig(),
    from_scratch: bool = False,
) -> Callable[[jax.Array], Mapping[str, Any]]:
    """Make a function key → parameters of the fine-tuning model (paper section 3.4), to be jitted.

    Args:
        model: configuration of the model.
        finetune: outputs, modality and feature fusion.
        execution: how it is computed.
        from_scratch: draw the encoders' matrices as for training without pre-trained weights.
    """
    clips = shapes.abstract_clips(model, 1)
    execution = dataclasses.replace(execution, attention="xla")

    def initialise(key: jax.Array) -> Mapping[str, Any]:
        zeros = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in clips]
        return HiCMAEFinetune(model, finetune, execution, from_scratch).init(key, *zeros)["params"]

    return initialise


def initial_parameters(
    model: ModelConfig, masks: MaskConfig, seed: int, execution: ExecutionConfig = ExecutionConfig()
) -> Mapping[str, Any]:
    """Make the parameters that a run with this seed begins with, on one device.

    Args:
        model: configuration of the model.
        masks: any that fit the model.
        seed: of the run.
        execution: how the model is computed.
    """
    return jax.jit(initialiser(model, masks, execution))(parameter_key(seed))
