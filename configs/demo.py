"""Runs of minutes on two CPU cores: made-up talking faces and a small model, otherwise the recipes.

`--config=demo` pre-trains, `--config=demo:finetune` fine-tunes the same model.
"""

from ml_collections import ConfigDict

from configs import finetune, pretrain


def get_config(argument: str = "pretrain") -> ConfigDict:
    """What the demo changes of the recipe of one of the two stages.

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
    config.steps = 320
    config.warmup_steps = 32

    _shrink(config)
    # A small batch has few negatives: take all. Of a few hundred steps all must count, so the rate peaks at
    # 2e-3 (at a batch of 32), and contrast weighs as much as reconstruction.
    config.loss.negatives = "global"
    config.loss.contrastive_weight = 1.0
    config.optimizer.base_rate = 1.6e-2
    config.optimizer.base_minimum = 8e-4

    config.checkpoint.every = 40
    config.log.every = 5
    config.evaluation.clips = 96
    config.evaluation.batch = 32
    config.evaluation.every = 160
    return config


def _finetune() -> ConfigDict:
    config = finetune.get_config("made_up")
    config.size = "mu"
    config.batch = 16
    config.epochs = config.warmup_epochs = None
    config.steps = 100
    config.warmup_steps = 10
    _shrink(config)
    # Noise for erasing would be a quarter of a step on a CPU. The rate is as high as so few steps allow. Only
    # the last epoch is validated.
    config.preprocess.erase = 0.0
    config.optimizer.rate_rule = "fixed"
    config.optimizer.base_rate = 2e-3
    config.optimizer.base_minimum = 2e-5
    config.checkpoint.every = 1_000
    config.log.every = 10
    config.scoring.epochs = 1_000
    return config


def _shrink(config: ConfigDict) -> None:
    # Fewer and smaller frames over the same 2.56 s.
    config.model.image_size = 96
    config.model.frames = 8
    config.data.stride = 8
    config.model.encoder_dim = 128
    config.model.encoder_heads = 4
    config.model.encoder_depth = 6
    config.model.decoder_dim = 64
    config.model.decoder_heads = 2
    # The activations of 16 + 26 visible tokens are small enough to keep, and a loop over six small layers
    # takes nearly twice as long on a CPU as the layers written out.
    config.execution.dtype = "float32"
    config.execution.scan_encoders = False
    config.execution.remat_encoder = "none"
