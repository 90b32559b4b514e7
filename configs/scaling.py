"""Small runs on made-up faces for a study of scaling: `--config=scaling`.

`python -m benchmarks.scaling_study` changes the widths and the length. All else is the same in every run.
"""

from ml_collections import ConfigDict

from configs import evidence


def get_config() -> ConfigDict:
    """The recipe `evidence:pretrain` with fewer clips in a step, and no evaluation before the end."""
    config = evidence.get_config("pretrain")
    config.batch = 16
    config.warmup_steps = 20
    config.checkpoint.every = 1_000
    config.checkpoint.keep = 1
    config.evaluation.clips = 192
    config.evaluation.batch = 64
    return config
