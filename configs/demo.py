"""Runs of minutes on two CPU cores: the small model of `configs.evidence`, and still fewer steps.

`--config=demo` pre-trains, `--config=demo:finetune` fine-tunes the same model.
"""

from ml_collections import ConfigDict

from configs import evidence


def get_config(argument: str = "pretrain") -> ConfigDict:
    """What the demo changes of the recipe of one of the two stages.

    Args:
        argument: `pretrain` or `finetune`.

    Raises:
        ValueError: another stage.
    """
    config = evidence.get_config(argument)
    config.log.every = 10
    if argument == "pretrain":
        config.steps = 800
        config.warmup_steps = 40
        # Of a few hundred steps all must count, so contrast weighs more.
        config.loss.contrastive_weight = 0.1
        config.checkpoint.every = 80
        config.evaluation.clips = 96
        config.evaluation.batch = 32
        config.evaluation.every = 200
    return config
