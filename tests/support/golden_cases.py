"""Golden files: their content, the inputs and weights that belong to them, and the tolerances."""

import dataclasses
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.media.log_mel_constants import ENERGY_FLOOR, MEAN, STANDARD_DEVIATION
from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from tests.goldens import recipe

# Quantity: (relative tolerance, magnitude below which the error is taken relative to this magnitude).
# The pairs give 1e-5 absolute near zero for losses, logits, predictions and features.
TOLERANCES = {
    **dict.fromkeys(("loss", "loss_video", "loss_audio", "loss_contrastive", "logits"), (1e-4, 0.1)),
    **dict.fromkeys(("pred_video", "pred_audio", "target_video", "target_audio", "feature"), (1e-4, 0.1)),
    **dict.fromkeys(("grad_norm", "grad_norms"), (1e-3, 1e-5)),
    "trajectory": (1e-4, 0.1),
    "trajectory_grad_norm": (1e-4, 1e-3),
    "final_param_norms": (1e-4, 1e-3),
    "schedule": (1e-4, None),  # a thousandth of the peak
    "lr_scale": (1e-6, 1e-9),
    "weight_decay": (0.0, 1.0),
}
PER_PARAMETER = ("grad_norms", "final_param_norms", "lr_scale", "weight_decay")
TRAJECTORY = ("trajectory", "trajectory_grad_norm", "schedule", "final_param_norms")
REQUIRED = {
    "pretrain": (
        *("loss", "loss_video", "loss_audio", "loss_contrastive", "logits", "pred_video", "pred_audio"),
        *("target_video", "target_audio", "grad_norms", "grad_norm"),
    ),
    "finetune": ("logits", "feature", "loss", "grad_norms", "lr_scale", "weight_decay"),
}
NOT_MODEL = ("temperature", "loss_weight", "frame_difference", "seed", "batch", "mask_ratio")
NOT_MODEL += ("mask_ratio_audio", "num_classes", "train")
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
        kind: pretrain, finetune, log_mel or crop_resize.
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
        return [str(name) for name in self.arrays["grad_names"]]

    @property
    def steps(self) -> int:
        """Number of optimiser steps in the file."""
        return len(self.arrays["trajectory"]) if "trajectory" in self.arrays else 0

    def model_config(self) -> ModelConfig:
        """The model that the file's config describes."""
        return ModelConfig(**{name: value for name, value in self.config.items() if name not in NOT_MODEL})

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
    if "pred_video" in arrays:
        kind = "pretrain"
    elif "feature" in arrays:
        kind = "finetune"
    elif arrays.keys() == {"boxes", "resized"} and len(arrays["boxes"]) == len(arrays["resized"]):
        kind = "crop_resize"
    elif arrays and all(LOG_MEL_NAME.fullmatch(name) for name in arrays):
        kind = "log_mel"
    else:
        raise GoldenError(
            f"{path}: of no known kind, holds neither pred_video nor feature, nor boxes and as many resized, "
            "nor seed*_samples* alone"
        )
    golden = Golden(path, kind, config, arrays)
    if kind in REQUIRED:
        _check_form(golden)
    return golden


def _check_form(golden: Golden) -> None:
    config, arrays = golden.config, golden.arrays
    required = {"seed", "batch", "num_classes"}
    if golden.kind == "pretrain":
        required = set(NOT_MODEL) - {"num_classes", "train"}
    expected = {"grad_names", *REQUIRED[golden.kind]}
    trained = golden.kind == "pretrain" and set(TRAJECTORY) & set(arrays)
    if trained:
        required |= {"train"}
        expected |= set(TRAJECTORY)
    problems = {
        "config lacks": required - set(config),
        "config does not define": set(config) - set(NOT_MODEL) - {f.name for f in _fields(ModelConfig)},
        "lacks": expected - set(arrays),
        "no rule to check": set(arrays) - expected,
        "config.train lacks": set(TRAIN) - set(config["train"]) if trained and "train" in config else (),
    }
    lines = [f"{what} {', '.join(sorted(names))}" for what, names in problems.items() if names]
    if lines:
        raise GoldenError(f"{golden.path}: {'; '.join(lines)}")
    try:
        model = golden.model_config()
        if golden.kind == "pretrain":
            golden.loss_config()
            MaskConfig(video_ratio=config["mask_ratio"], audio_ratio=config["mask_ratio_audio"]).sizes(model)
    except (ValueError, TypeError) as error:
        raise GoldenError(f"{golden.path}: {error}") from None


def _fields(config: type) -> tuple[Any, ...]:
    return dataclasses.fields(config)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The weights that tests/goldens/recipe.py gives to these PyTorch names."""
    return {name: recipe.weight(name, shape) for name, shape in shapes.items()}


@dataclasses.dataclass(frozen=True)
class Line:
    """The verdict on one quantity: its worst error, where that is, and its tolerance."""

    quantity: str
    worst: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return bool(self.worst <= self.tolerance)

    def __str__(self) -> str:
        verdict = "ok  " if self.ok else "MISS"
        error = f"worst {self.worst:.2e}  tolerance {self.tolerance:<6g}"
        return f"{verdict} {self.quantity:<28} {error}  {self.note}".rstrip()


def compare(golden: Golden, computed: Quantities, names: Sequence[str]) -> Iterator[Line]:
    """Compare the outputs of a model with a pretrain or finetune file, quantity by quantity.

    Args:
        golden: the file.
        computed: the same quantities of the model at hand; per-parameter ones in the order of `names`.
        names: the model's PyTorch names.
    """
    missing, extra = sorted(set(golden.names) - set(names)), sorted(set(names) - set(golden.names))
    note = f"{len(golden.names)} parameters"
    if missing or extra:
        note = f"the model lacks {', '.join(missing) or 'none'}; has besides {', '.join(extra) or 'none'}"
    yield Line("names", len(missing) + len(extra), 0, note)
    common = [name for name in golden.names if name in names]
    for quantity in golden.arrays:
        if quantity == "grad_names":
            continue
        expected, actual = golden.arrays[quantity], np.asarray(computed[quantity])
        if quantity in PER_PARAMETER:
            if len(expected) != len(golden.names):
                yield Line(quantity, np.inf, 0, f"{len(expected)} values of {len(golden.names)} parameters")
                continue
            expected = expected[[golden.names.index(name) for name in common]]
            actual = actual[[list(names).index(name) for name in common]]
        if quantity.startswith(("pred_", "target_")) and expected.ndim == actual.ndim:
            actual = actual[:, : expected.shape[1]]
        yield _line(quantity, expected, actual, common if quantity in PER_PARAMETER else None)


def _line(quantity: str, expected: np.ndarray, actual: np.ndarray, names: Sequence[str] | None) -> Line:
    tolerance, floor = TOLERANCES[quantity]
    if expected.shape != actual.shape:
        return Line(quantity, np.inf, tolerance, f"shape {actual.shape}, should be {expected.shape}")
    if not expected.size:
        return Line(quantity, 0.0, tolerance, "empty")
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    magnitude = np.maximum(np.abs(expected), 1e-3 * np.abs(expected).max() if floor is None else floor)
    error = np.nan_to_num(np.abs(actual - expected) / magnitude, nan=np.inf)
    where = np.unravel_index(error.argmax(), error.shape)
    note = f"{actual[where]:.8g}, should be {expected[where]:.8g}"
    place = names[where[0]] if names else f"at {tuple(map(int, where))}" if where else ""
    return Line(quantity, float(error[where]), tolerance, f"{note} {place}".rstrip())


def log_mel_line(name: str, expected: np.ndarray, actual: np.ndarray) -> Line:
    """Compare log-mel features: 1e-4 absolute, 1e-3 where a bin is at the energy floor."""
    if expected.shape != actual.shape:
        return Line(name, np.inf, 1e-4, f"shape {actual.shape}, should be {expected.shape}")
    floor = (np.log(ENERGY_FLOOR) - MEAN) / (2 * STANDARD_DEVIATION)
    error = np.nan_to_num(np.abs(actual - expected), nan=np.inf)
    at_floor = expected < floor + 1e-3
    worst = float(np.where(at_floor, error / 10, error).max())
    return Line(name, worst, 1e-4, f"absolute; {at_floor.mean():.0%} of bins at the floor, held to 1e-3")


def crop_resize_lines(box: np.ndarray, expected: np.ndarray, actual: np.ndarray) -> list[Line]:
    """Compare one crop in grey levels: 1.01 at most, 0.35 on average (Pillow rounds after each pass)."""
    name = "box " + ",".join(map(str, box))
    error = np.nan_to_num(np.abs(actual - expected.astype(np.float64)), nan=np.inf)
    return [
        Line(f"{name} at most", float(error.max()), 1.01, "grey levels"),
        Line(f"{name} mean", float(error.mean()), 0.35, "grey levels"),
    ]


def log_mel_waveform(name: str) -> np.ndarray:
    """The waveform float32[samples] that `seed{S}_samples{N}` or `silence_samples{N}` names."""
    source, _, samples = name.partition("_samples")
    if source == "silence":
        return np.zeros(int(samples), np.float32)
    return recipe.waveform(int(source.removeprefix("seed")), int(samples))
