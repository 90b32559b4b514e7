"""The config in a checkpoint's record, perhaps of other devices, or from before there was some setting."""

import types
from collections.abc import Mapping
from typing import Any

from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings import schema
from hicmae_jax.settings.pretrain import PretrainSettings

SINCE: Mapping[str, Any] = types.MappingProxyType(
    {
        "warmup_examples": None,
        "execution.attention": "xla",
        "optimizer.kind": "adamw",
        "optimizer.rate_rule": "linear",
        "optimizer.schedule": "cosine",
        "optimizer.decay_share": 0.2,
        "optimizer.clip": None,
    }
)
"""Settings that came after the first checkpoints, with the value that says what was done before."""


RENAMED: Mapping[str, str] = types.MappingProxyType(
    {
        f"model.{name}": f"execution.{name}"
        for name in ("dtype", "attention", "scan_encoders", "remat_encoder", "remat_fusion", "remat_decoder")
    }
)
"""Settings that had another name when the first checkpoints were written, with today's name."""


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Value by dotted name of every setting of a record, also of those that it is too old to have.

    Args:
        config: the record's.
    """
    recorded = {RENAMED.get(name, name): value for name, value in schema.flatten(config).items()}
    return dict(SINCE) | recorded


def load(config: Mapping[str, Any], platform: str) -> PretrainSettings:
    """The run that a record describes, to be computed here.

    Its parameters, batches and rates are the recorded ones, and so is its dtype. Attention is this
    platform's: the kernel of another would have to be interpreted.

    Args:
        config: the record's.
        platform: JAX's name of the devices here.

    Raises:
        ValueError: a record of a later version, or a damaged one; a line that names the setting.
    """
    return run_config.from_config_dict(completed(config) | {"execution.attention": "auto"}, platform)
