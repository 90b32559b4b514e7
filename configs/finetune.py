"""Fine-tuning as published: `--config=finetune:crema_d`.

The argument is `<protocol>[,runlocal]`: a protocol that `python -m launch.protocols` lists, and `runlocal` to
try the recipe on a laptop. Defaults stand in the dataclasses that have the settings; `python -m
launch.settings --kind=finetune` lists them all. This file says only what the recipe changes.
"""

from ml_collections import ConfigDict

from data_pipeline.corpora.protocols import protocol
from hicmae_jax.settings.finetune import SCHEMA
from hicmae_jax.training.optimizer import FINETUNE


def get_config(argument: str = "made_up") -> ConfigDict:
    """The recipe (paper section 4.2 and its published code).

    Args:
        argument: `<protocol>[,runlocal]`.

    Raises:
        ValueError: an unknown protocol, or anything else after it.
    """
    name, *options = argument.split(",")
    if set(options) - {"runlocal"}:
        raise ValueError(f"{argument!r} is not <protocol>[,runlocal]")
    published = protocol(name)

    config = SCHEMA.defaults()
    config.batch = published.batch
    config.epochs = published.epochs
    config.warmup_epochs = 5
    config.data.protocol = name
    # Directories that `python -m launch.prepare --dataset=…` made: --config.data.sets=data/crema_d
    config.data.sets = ()
    # The weights to begin with: --config.initial.weights=runs/b
    for field in ("base_rate", "base_minimum", "betas", "layer_decay"):
        config.optimizer[field] = FINETUNE[field]
    # The last checkpoint and the best one are enough: a fold takes an hour, not a week.
    config.checkpoint.keep = 1
    if published.regression:
        config.mixing.mixup = config.mixing.cutmix = config.mixing.smoothing = 0.0
    if "runlocal" in options:
        run_locally(config)
    return config


def run_locally(config: ConfigDict) -> None:
    """Shrink model, batch and length to what a laptop does in minutes, and nothing else."""
    config.size = "mu"
    config.batch = 8
    config.epochs = 2
    config.warmup_epochs = 1
    config.log.every = 1
    config.scoring.batch = 8
