"""What is measured: a model, a batch, and the implementations that make an update with it."""

import dataclasses

from hicmae_jax.model import sizes
from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig

SMALL = "small"
"""Beside the sizes of `hicmae_jax.model.sizes`: a model and frames that train in minutes on a CPU."""
SIZES = (*sizes.SIZES, SMALL)
MASKS = MaskConfig()
LOSS = LossConfig(negatives="global")  # so that every batch is possible
RATE, DECAY, BETAS = 1e-4, 0.05, (0.9, 0.95)
"""Learning rate, weight decay and Adam's factors of both optimisers."""
TERMS = ("total", "video", "audio", "contrastive")
"""Terms of the loss to compare."""
SEED = 0
"""Of the weights and of the clips."""

SIDES = {
    "jax": "this project's compiled step",
    "jax-clips": "the same with crop, resizing and log-mel features, from the clips that a host sends",
    "eager": "PyTorch, eager, with the same savings",
    "published": "PyTorch, eager, boolean masks, all tokens embedded, the loss read after each step, and on "
    "a GPU float16 with a gradient scaler",
    "strong": "PyTorch, compiled, with the same savings, fused AdamW, and cuDNN's attention on a GPU",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        size: one of `SIZES`.
        batch: clips in a step.
        sides: names of `SIDES`, in the order of their turns.
        dtype: `float32` or `bfloat16`, of the computation.
        attention: of JAX, see `hicmae_jax.model.config.ExecutionConfig`; None for the one of a run here.
        apart: measure one side after the other, since they do not fit into memory together.
    """

    size: str
    batch: int
    sides: tuple[str, ...]
    dtype: str
    attention: str | None = None
    apart: bool = False

    @property
    def model(self) -> ModelConfig:
        """The configuration of the model."""
        return model_of(self.size)


def model_of(size: str) -> ModelConfig:
    """Configuration of one of `SIZES`."""
    if size != SMALL:
        return sizes.model_config(size)
    return sizes.model_config(
        "mu",
        image_size=96,
        frames=8,
        encoder_dim=128,
        encoder_heads=4,
        encoder_depth=6,
        decoder_dim=64,
        decoder_heads=2,
    )
