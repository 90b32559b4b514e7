"""Golden files: their kinds, their content, and the inputs and weights that belong to them."""

import dataclasses
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from tests.goldens import recipe

# An array that only files of this kind hold.
MARKS = {
    "pred_video": "pretrain",
    "feature": "finetune",
    "trajectory_outputs": "finetune_steps",
    "layer_id": "groups",
    "train_frames": "clips",
    "operations": "augmentation",
    "box_draws": "mixing",
    "case0_loss_mse": "regression",
    "case0_uar": "class_metrics",
    "case0_scores": "merging",
}
TRAJECTORY = ("trajectory", "trajectory_grad_norm", "schedule", "final_param_norms")
# What files of a model hold besides the names of its parameters.
REQUIRED = {
    "pretrain": (
        *("loss", "loss_video", "loss_audio", "loss_contrastive", "logits", "pred_video", "pred_audio"),
        *("target_video", "target_audio", "grad_norms", "grad_norm"),
    ),
    "finetune": ("logits", "feature", "loss", "grad_norms", "lr_scale", "weight_decay"),
    "finetune_steps": (
        *TRAJECTORY,
        *("trajectory_outputs", "final_outputs", "grad_norms", "grad_norms_last"),
    ),
    "groups": ("layer_id", "lr_scale", "weight_decay", "parameters"),
}
# Patterns of arrays that are no results.
INPUTS = {
    "groups": r"run\d+_steps",
    "clips": "train|evaluation",
    "augmentation": "crop_boxes_y_x_h_w",
    "mixing": "box_draws",
    "merging": r"case\d+_file",  # shows how the published code writes scores
}
# What the config of a file holds besides the choices of the model: names that it must hold, and others.
PRETRAIN = (
    "temperature",
    "loss_weight",
    "frame_difference",
    "seed",
    "batch",
    "mask_ratio",
    "mask_ratio_audio",
)
CONFIG: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pretrain": (PRETRAIN, ("num_classes", "train")),
    "finetune": (("seed", "batch", "num_classes"), (*PRETRAIN, "train")),
    "finetune_steps": (("seed", "batch", "outputs", "task", "loss", "drop_path", "train"), ()),
    "groups": (("size", "classes", "layer_decay", "weight_decay", "runs"), ()),
}
TRAIN = ("lr", "min_lr", "epochs", "steps_per_epoch", "warmup_epochs", "weight_decay", "betas")
LOG_MEL_NAME = re.compile(r"(seed\d+|silence)_samples\d+")
LABEL_SMOOTHING = 0.1
LAYER_DECAY = 0.75

Quantities = dict[str, np.ndarray]


class GoldenError(Exception):
    """A golden file that cannot be checked; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Golden:
    """A golden file.

    Attributes:
        path: the file.
        kind: one of `MARKS`, log_mel or crop_resize.
        config: its JSON, empty for the last two.
        arrays: everything else.
    """

    path: Path
    kind: str
    config: dict[str, Any]
    arrays: Quantities

    @property
    def names(self) -> list[str]:
        """PyTorch names of the parameters, in the order of the per-parameter quantities."""
        return [str(name) for name in self.arrays[self.name_array]]

    @property
    def name_array(self) -> str:
        """Which array holds the names of the parameters."""
        return "names" if self.kind == "groups" else "grad_names"

    @property
    def inputs(self) -> list[str]:
        """Arrays that are no results."""
        return [name for name in self.arrays if re.fullmatch(INPUTS.get(self.kind, ""), name)]

    @property
    def steps(self) -> int:
        """Number of optimiser steps in the file."""
        return len(self.arrays["trajectory"]) if "trajectory" in self.arrays else 0

    def model_config(self) -> ModelConfig:
        """The model that the file's config describes."""
        others = {name for names in CONFIG[self.kind] for name in names}
        choices = {name: value for name, value in self.config.items() if name not in others}
        if self.kind == "finetune_steps":
            choices = {"skip_layers": (self.config["encoder_depth"],)} | choices  # none has an effect
        return ModelConfig(**choices)

    def loss_config(self) -> LossConfig:
        """The objective that the file's config describes."""
        return LossConfig(
            contrastive_weight=self.config["loss_weight"],
            temperature=self.config["temperature"],
            negatives="global",
            frame_difference=self.config["frame_difference"],
        )

    def clips(self, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Video uint8[B, T, H, W, 3] and log-mel float32[B, time, bins] of a training step."""
        seed, batch, model = self.config["seed"] + 1000 * step, self.config["batch"], self.model_config()
        video = recipe.video(seed, batch, model.frames, model.image_size)
        return video, recipe.log_mel(seed + 1, batch, model.audio_frames, model.audio_bins)

    def masks(self, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Video and audio masks bool[B, tokens] of a training step, True = masked."""
        config, model = self.config, self.model_config()
        seed, batch = config["seed"] + 1000 * step, config["batch"]
        video = recipe.tube_mask(seed + 2, batch, *model.video_grid, config["mask_ratio"])
        return video, recipe.random_mask(seed + 3, batch, model.audio_tokens, config["mask_ratio_audio"])

    def labels(self) -> np.ndarray:
        """The class of every clip of a fine-tuning case."""
        return np.arange(self.config["batch"]) % self.config["num_classes"]


def load(path: str | Path) -> Golden:
    """Read a golden file.

    Raises:
        GoldenError: no such file, not an .npz, or not of the documented form.
    """
    path = Path(path)
    try:
        with np.load(path) as content:
            arrays = {name: content[name] for name in content.files}
        config = json.loads(str(arrays.pop("config", "{}")))
    except FileNotFoundError:
        raise GoldenError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise GoldenError(f"{path}: not a readable .npz of goldens ({error})") from None
    golden = Golden(path, _kind(path, arrays), config, arrays)
    if golden.kind in REQUIRED:
        _check_form(golden)
    return golden


def _kind(path: Path, arrays: Quantities) -> str:
    for mark, kind in MARKS.items():
        if mark in arrays:
            return kind
    if arrays.keys() == {"boxes", "resized"} and len(arrays["boxes"]) == len(arrays["resized"]):
        return "crop_resize"
    if arrays and all(LOG_MEL_NAME.fullmatch(name) for name in arrays):
        return "log_mel"
    raise GoldenError(
        f"{path}: of no known kind, holds none of {', '.join(MARKS)}, nor boxes and as many resized, "
        "nor seed*_samples* alone"
    )


def _check_form(golden: Golden) -> None:
    config, arrays = golden.config, golden.arrays
    required, optional = map(set, CONFIG[golden.kind])
    expected = {golden.name_array, *REQUIRED[golden.kind]}
    if golden.kind == "groups":
        expected |= {
            f"run{r}_{what}" for r in range(len(config.get("runs", ()))) for what in ("steps", "rate")
        }
    if golden.kind == "pretrain" and set(TRAJECTORY) & set(arrays):
        required |= {"train"}
        expected |= set(TRAJECTORY)
    known = required | optional
    if golden.kind != "groups":
        known |= {field.name for field in dataclasses.fields(ModelConfig)}
    trained = "train" in required and "train" in config
    problems = {
        "config lacks": required - set(config),
        "config does not define": set(config) - known,
        "lacks": expected - set(arrays),
        "no rule to check": set(arrays) - expected,
        "config.train lacks": set(TRAIN) - set(config["train"]) if trained else (),
    }
    lines = [f"{what} {', '.join(sorted(names))}" for what, names in problems.items() if names]
    if lines:
        raise GoldenError(f"{golden.path}: {'; '.join(lines)}")
    if golden.kind != "groups":
        _check_choices(golden)


def _check_choices(golden: Golden) -> None:
    """Refuse choices of a model, an objective or masks that cannot be."""
    config = golden.config
    try:
        model = golden.model_config()
        if golden.kind == "pretrain":
            golden.loss_config()
            MaskConfig(video_ratio=config["mask_ratio"], audio_ratio=config["mask_ratio_audio"]).sizes(model)
    except (ValueError, TypeError) as error:
        raise GoldenError(f"{golden.path}: {error}") from None


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The weights that tests/goldens/recipe.py gives to these PyTorch names."""
    return {name: recipe.weight(name, shape) for name, shape in shapes.items()}


def log_mel_waveform(name: str) -> np.ndarray:
    """The waveform float32[samples] that `seed{S}_samples{N}` or `silence_samples{N}` names."""
    source, _, samples = name.partition("_samples")
    if source == "silence":
        return np.zeros(int(samples), np.float32)
    return recipe.waveform(int(source.removeprefix("seed")), int(samples))
