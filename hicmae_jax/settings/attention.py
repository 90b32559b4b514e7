"""Choose how attention is computed, by the devices, the dtype and the widths of the model."""

from hicmae_jax.model.config import ModelConfig
from hicmae_jax.settings.schema import AUTO

CUDNN_CHANNELS = range(8, 129, 8)
"""Channels of a head that cuDNN's attention takes on all of those GPUs; Hopper and later take more."""


def choose(asked: str, dtype: str, model: ModelConfig, platform: str) -> str:
    """The kind of attention of a run.

    Args:
        asked: `execution.attention`: a kind, or `auto`.
        dtype: `execution.dtype` of the run.
        model: the widths.
        platform: of the devices, as `chips.platform` names it.

    Returns:
        What was asked. For `auto`: `pallas` on TPUs; `cudnn` on GPUs if it can compute this model; or `xla`.

    Raises:
        ValueError: one line: what forbids the kind that was asked, and how to go on.
    """
    obstacle = _cudnn_obstacle(dtype, model, platform)
    if asked == AUTO:
        return "pallas" if platform == "tpu" else "xla" if obstacle else "cudnn"
    if asked == "pallas" and platform != "tpu":
        raise ValueError(
            f"execution.attention = 'pallas' is a kernel for TPUs, which {platform} would interpret: say "
            "auto or xla"
        )
    if asked == "cudnn" and obstacle:
        raise ValueError(f"execution.attention = 'cudnn' {obstacle}; or say auto or xla")
    return asked


def _cudnn_obstacle(dtype: str, model: ModelConfig, platform: str) -> str | None:
    """What keeps cuDNN from computing the attention of a model, as the end of a sentence; None if nothing."""
    if platform != "cuda":
        return f"needs an NVIDIA GPU of compute capability 8 or later, not {platform}: use other devices"
    if dtype != "bfloat16":
        return f"computes in bfloat16, and execution.dtype = {dtype!r}: change the dtype"
    for stack in ("encoder", "decoder"):
        width, heads = getattr(model, f"{stack}_dim"), getattr(model, f"{stack}_heads")
        if width // heads not in CUDNN_CHANNELS:
            return (
                f"takes heads of {', '.join(map(str, CUDNN_CHANNELS[:2]))}, … {CUDNN_CHANNELS[-1]} channels, "
                f"and model.{stack}_dim = {width} with model.{stack}_heads = {heads} has {width // heads}: "
                "change these"
            )
    return None
