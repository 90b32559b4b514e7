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
    config.steps = 800
    config.warmup_steps = 40
    _shrink(config)
    # 2 of the 4 places stay visible, and 8 of 32 patches of sound.
    config.masks.video_ratio = 0.5
    config.masks.audio_ratio = 0.75
    # A small batch has few negatives: take all. Of a few hundred steps all must count, so the rate peaks at
    # 1e-3 (at a batch of 32), and contrast weighs more.
    config.loss.negatives = "global"
    config.loss.contrastive_weight = 0.1
    config.optimizer.base_rate = 8e-3
    config.optimizer.base_minimum = 8e-4

    config.checkpoint.every = 80
    config.log.every = 10
    config.evaluation.clips = 96
    config.evaluation.batch = 32
    config.evaluation.every = 200
    return config


def _finetune() -> ConfigDict:
    config = finetune.get_config("made_up")
    config.size = "mu"
    config.batch = 16
    config.epochs = config.warmup_epochs = None
    config.steps = 300
    config.warmup_steps = 30
    _shrink(config)
    # The augmentation is the recipe's, but noise for erasing would be a quarter of a step on a CPU.
    config.preprocess.erase = 0.0
    # The rate is as high as so few steps allow. Only the last epoch is validated.
    config.optimizer.rate_rule = "fixed"
    config.optimizer.base_rate = 2e-3
    config.optimizer.base_minimum = 2e-5
    config.checkpoint.every = 1_000
    config.log.every = 10
    config.scoring.epochs = 1_000
    return config


def _shrink(config: ConfigDict) -> None:
    # Fewer and smaller frames over the same 2.56 s, in large patches.
    config.model.image_size = 64
    config.model.frames = 8
    config.data.stride = 8
    config.model.patch = 32
    config.model.encoder_dim = 96
    config.model.encoder_heads = 4
    config.model.encoder_depth = 4
    config.model.skip_layers = (2, 3, 4)
    config.model.fusion_depth = 1
    config.model.decoder_dim = 48
    config.model.decoder_heads = 2
    # The activations of so few visible tokens are small enough to keep, and a loop over four small layers
    # takes longer on a CPU than the layers written out.
    config.execution.dtype = "float32"
    config.execution.scan_encoders = False
    config.execution.remat_encoder = "none"
