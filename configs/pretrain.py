"""Pre-training as published: `--config=pretrain:B`.

The argument is `<size>[,runlocal]`: a size of `python -m launch.sizes`, and `runlocal` to try the recipe on a
laptop. Defaults stand in the dataclasses that have the settings; `python -m launch.settings` lists them all
with types, limits and meanings. This file says only what the recipe changes. Any setting can be changed
on the command line, `--config.loss.negatives=global`, or in a file like this one that starts from
`get_config`. `none` unsets a whole number.
"""

from ml_collections import ConfigDict

from hicmae_jax.settings.pretrain import SCHEMA


def get_config(argument: str = "B") -> ConfigDict:
    """The recipe (paper section 4.1, and its published code where the two differ).

    Args:
        argument: `<size>[,runlocal]`.

    Raises:
        ValueError: anything else after the size.
    """
    size, *options = argument.split(",")
    if set(options) - {"runlocal"}:
        raise ValueError(f"{argument!r} is not <size>[,runlocal]")

    config = SCHEMA.defaults()
    config.size = size
    # One encoder layer is compiled instead of ten. Scanning without recomputing would keep every layer's
    # attention for the backward pass, so the two go together, but on GPUs (`execution.remat_encoder`: auto).
    config.execution.scan_encoders = True
    # Directories that `python -m launch.prepare` made: --config.data.sets=data/dev, or of two sets
    # --config.data.sets="('data/dev', 'data/more')".
    config.data.sets = ()
    if "runlocal" in options:
        run_locally(config)
    return config


def run_locally(config: ConfigDict) -> None:
    """Shrink batch, length and intervals to what a laptop does in minutes, and nothing else."""
    config.batch = 8
    config.loss.negatives = "group:4"
    config.epochs = config.warmup_epochs = None
    config.steps = 20
    config.warmup_steps = 4
    config.checkpoint.every = 10
    config.log.every = 1
    config.evaluation.clips = 8
    config.evaluation.batch = 8
