"""The recipe `configs/pretrain.py:B` with a model so small that a step takes milliseconds, and its data."""

from pathlib import Path
from typing import Any

from configs import pretrain as recipe
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings.pretrain import PretrainSettings
from tests.support.set_fixtures import write_set

# It has one of each part of the recipe: scanned encoders, a tap, fusion, a cross block, groups of negatives.
OVERRIDES: dict[str, Any] = {
    "batch": 8,
    "epochs": None,
    "warmup_epochs": None,
    "steps": 6,
    "warmup_steps": 2,
    "model.image_size": 32,
    "model.frames": 4,
    "model.audio_frames": 32,
    "model.encoder_dim": 16,
    "model.encoder_heads": 2,
    "model.encoder_depth": 2,
    "model.skip_layers": (2,),
    "model.decoder_dim": 16,
    "model.decoder_heads": 2,
    "model.decoder_depth": 2,
    "model.fusion_depth": 1,
    # There are 8 video and 16 audio tokens.
    "masks.video_ratio": 0.5,
    "masks.audio_ratio": 0.5,
    "loss.negatives": "group:2",
    # So large that a wrong gradient shows within a few steps.
    "optimizer.base_rate": 0.1,
    "data.threads": 1,
    "checkpoint.every": 2,
    "log.every": 1,
}


def config(data: Path | str = "unused", **changes: Any) -> PretrainSettings:
    """The shrunk recipe with further changes, such as `checkpoint__every=5` for `checkpoint.every`."""
    settings = recipe.get_config("B")
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    settings.update_from_flattened_dict(OVERRIDES | {"data.sets": (str(data),)} | changes)
    return run_config.from_config_dict(settings, "cpu")


def arguments(data: Path | str, run: Path | str, **changes: Any) -> list[str]:
    """The same recipe as arguments of `launch.pretrain`."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    values = OVERRIDES | {"data.sets": (str(data),)} | changes
    return [
        "--config=pretrain:B",
        f"--run={run}",
        *(f"--config.{name}={_as_text(value)}" for name, value in values.items()),
    ]


def _as_text(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, tuple) else str(value)


def write_clips(root: Path, count: int = 20) -> Path:
    """Write a prepared set of noise; 20 clips are two batches and a half."""
    return write_set(root, [64 + clip for clip in range(count)], noisy=True)
