"""Small runs on the made-up emotions that measure what pre-training and its parts are worth.

`--config=evidence:pretrain` and `--config=evidence:finetune` belong together: one model, 64 × 64 pixels and 8
frames. `python -m benchmarks.evidence` runs both in all variants.
"""

from ml_collections import ConfigDict

from configs import finetune, pretrain

MODEL = {
    "image_size": 64,
    "frames": 8,
    "patch": 32,
    "encoder_dim": 96,
    "encoder_heads": 4,
    "encoder_depth": 4,
    "skip_layers": (2, 3, 4),
    "decoder_dim": 48,
    "decoder_heads": 2,
    "fusion_depth": 1,
}
STRIDE = 8
"""8 frames then span the 2.56 s that 16 frames of the paper do."""


def get_config(argument: str = "finetune") -> ConfigDict:
    """The recipe of one of the two stages.

    Args:
        argument: `pretrain` or `finetune`.

    Raises:
        ValueError: another stage.
    """
    stages = {"pretrain": _pretrain, "finetune": _finetune}
    if argument not in stages:
        raise ValueError(f"{argument!r} is not pretrain or finetune")
    return stages[argument]()


def _pretrain() -> ConfigDict:
    config = pretrain.get_config("mu")
    config.batch = 32
    config.epochs = config.warmup_epochs = None
    config.steps = 1_600
    config.warmup_steps = 80
    _shrink(config)
    # 2 of the 4 places stay visible, and 8 of 32 patches of sound. A small batch has few negatives: take all.
    config.masks.video_ratio = 0.5
    config.masks.audio_ratio = 0.75
    config.loss.negatives = "global"
    config.optimizer.base_rate = 8e-3
    config.optimizer.base_minimum = 8e-4
    config.checkpoint.every = 200
    config.log.every = 20
    return config


def _finetune() -> ConfigDict:
    config = finetune.get_config("made_up")
    config.size = "mu"
    config.batch = 16
    config.epochs = config.warmup_epochs = None
    config.steps = 300
    config.warmup_steps = 30
    _shrink(config)
    # The augmentation stays that of the recipe, because a few clips are soon learnt by heart; but noise for
    # erasing would be a quarter of a step on a CPU. The rate is as high as so few steps allow. Only the last
    # epoch is validated.
    config.preprocess.erase = 0.0
    config.optimizer.rate_rule = "fixed"
    config.optimizer.base_rate = 2e-3
    config.optimizer.base_minimum = 2e-5
    config.checkpoint.every = 1_000
    config.log.every = 20
    config.scoring.epochs = 1_000
    return config


def _shrink(config: ConfigDict) -> None:
    for name, value in MODEL.items():
        config.model[name] = value
    config.data.stride = STRIDE
    # Small layers written out are faster on a CPU than a loop that recomputes them.
    config.execution.dtype = "float32"
    config.execution.scan_encoders = False
    config.execution.remat_encoder = "none"
