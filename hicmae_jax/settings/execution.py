"""Chooses what a recipe leaves open about how the model is computed."""

from typing import Any

from hicmae_jax.model.config import PLAIN_LAYOUT, ModelConfig
from hicmae_jax.settings import attention
from hicmae_jax.settings.schema import AUTO


def settle(values: dict[str, Any], model: ModelConfig, platform: str, cpu_layout: str) -> None:
    """Choose dtype, layout, attention and recomputation where they are `auto`, in place.

    Args:
        values: of all settings, by dotted name.
        model: the model that is computed.
        platform: of the devices, as `chips.platform` names it.
        cpu_layout: layout of matrix products on CPUs.

    Raises:
        ValueError: one line: the attention that is asked for does not fit the platform or the model.
    """
    if values["execution.dtype"] == AUTO:
        values["execution.dtype"] = "float32" if platform == "cpu" else "bfloat16"
    if values["execution.layout"] == AUTO:
        values["execution.layout"] = cpu_layout if platform == "cpu" else PLAIN_LAYOUT
    kind, dtype = values["execution.attention"], values["execution.dtype"]
    values["execution.attention"] = attention.choose(kind, dtype, model, platform)
    if values["execution.remat_encoder"] == AUTO:
        # GPUs have the memory, and without a loop less traffic; see `docs/scale.md`.
        values["execution.remat_encoder"] = "none" if values["execution.attention"] == "cudnn" else "full"
