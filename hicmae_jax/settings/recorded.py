"""Reads the settings in a checkpoint's record, which an older version or other devices may have written."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

from hicmae_jax.model.config import ModelConfig
from hicmae_jax.settings import schema
from hicmae_jax.settings.pretrain import PretrainSettings, from_config_dict

SINCE: Mapping[str, Any] = types.MappingProxyType(
    {
        "warmup_examples": None,
        "execution.attention": "xla",
        "preprocess.pixels": "float32",
        "execution.compiler_options": [],
        "execution.reduce_dtype": "computed",
        "execution.layout": "plain",
        "masks.video_decode_kind": "random",
        "evaluation.video_ratio": None,
        "evaluation.audio_ratio": None,
        "evaluation.picture_every": None,
        "evaluation.labelled": "",
        "evaluation.protocol": "",
        "evaluation.labelled_clips": 512,
        "evaluation.probe_every": None,
        "optimizer.kind": "adamw",
        "optimizer.rate_rule": "linear",
        "optimizer.schedule": "cosine",
        "optimizer.decay_share": 0.2,
        "optimizer.clip": None,
        "checkpoint.branches": [],
        "checkpoint.minutes": None,
        "evaluation.best": "",
        "optimizer.base_width": None,
        "data.share": 1.0,
        "data.temperature": 1.0,
        "log.by_set": False,
        "data.cache": "",
        "data.cache_gb": 0.0,
    }
)
"""Settings that were added after the first checkpoints, with the value that describes what older code did."""

RENAMED: Mapping[str, str] = types.MappingProxyType(
    {
        f"model.{name}": f"execution.{name}"
        for name in ("dtype", "attention", "scan_encoders", "remat_encoder", "remat_fusion", "remat_decoder")
    }
)
"""Old name → name of today, of settings that were renamed after the first checkpoints."""


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record under the names of today, with those that were added since.

    Args:
        config: `config` of the record, nested or by dotted name.

    Returns:
        The value of every setting by dotted name.
    """
    recorded = {RENAMED.get(name, name): value for name, value in schema.flatten(config).items()}
    return {**SINCE, **recorded}


def is_of_finetuning(config: Mapping[str, Any]) -> bool:
    """Whether settings by dotted name are those of a fine-tuning run."""
    return "data.protocol" in config


def model_of(config: Mapping[str, Any]) -> ModelConfig:
    """The model of a run of any kind; of a fine-tuning run, without its head.

    Args:
        config: settings by dotted name, from `completed`.

    Raises:
        ValueError: the record lacks a setting of the model, or has a wrong one.
    """
    fields = {field.name: f"model.{field.name}" for field in dataclasses.fields(ModelConfig)}
    if lacking := [name for name in fields.values() if name not in config]:
        raise ValueError(f"the record of the checkpoint has no {lacking[0]}: it is damaged")
    return ModelConfig(**{field: config[name] for field, name in fields.items()})


def load(config: Mapping[str, Any], platform: str) -> PretrainSettings:
    """Make the settings of the run that a record describes, to compute with them here.

    Parameters, batches, rates and dtype are those of the record. Attention is the one of this platform,
    because it would have to interpret the kernel of another; so is the layout of products, but on CPUs, which
    compute in the one of the record.

    Args:
        config: `config` of the record, nested or by dotted name.
        platform: of the devices here, as `chips.platform` names it.

    Raises:
        ValueError: one line with the name of the setting: the record is of a fine-tuning run, is damaged, or
            is of a later version.
    """
    begun = completed(config)
    if is_of_finetuning(begun):
        raise ValueError(
            "the run is one of fine-tuning, not of pre-training: launch.score scores it, launch.export "
            "exports it, and --config.initial.weights takes its encoders"
        )
    here = begun | {"execution.attention": "auto", "execution.layout": "auto"}
    return from_config_dict(here, platform, begun)
