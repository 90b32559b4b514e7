"""Comparing computed quantities with those of a golden file: the tolerances, and one line a quantity."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data_pipeline.media.log_mel_constants import ENERGY_FLOOR, MEAN, STANDARD_DEVIATION
from tests.support.golden_cases import Golden, GoldenError, Quantities

ABSOLUTE = np.inf
THOUSANDTH_OF_PEAK = None
EXACT = (0.0, ABSOLUTE)

# Quantity: (relative tolerance, magnitude below which the error is taken relative to this magnitude).
# The pairs of the models give 1e-5 absolute near zero for losses, logits, predictions and features.
TOLERANCES: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys(("loss", "loss_video", "loss_audio", "loss_contrastive", "logits"), (1e-4, 0.1)),
    **dict.fromkeys(("pred_video", "pred_audio", "target_video", "target_audio", "feature"), (1e-4, 0.1)),
    **dict.fromkeys(("grad_norm", "grad_norms", "grad_norms_last"), (1e-3, 1e-5)),
    "trajectory": (1e-4, 0.1),
    "trajectory_grad_norm": (1e-4, 1e-3),
    **dict.fromkeys(("trajectory_outputs", "final_outputs"), (1e-3, 0.1)),
    "final_param_norms": (1e-4, 1e-3),
    **dict.fromkeys(("schedule", "rate"), (1e-4, THOUSANDTH_OF_PEAK)),
    "lr_scale": (1e-6, 1e-9),
    "layer_id": (1e-5, ABSOLUTE),  # computed from the scale
    **dict.fromkeys(("weight_decay", "parameters"), EXACT),
    # Clips, their augmentation and mixing.
    **dict.fromkeys(("train_frames", "train_audio", "evaluation_frames", "evaluation_audio"), EXACT),
    **dict.fromkeys(("operations", "boxes"), EXACT),
    **dict.fromkeys(("crops", "video"), (1e-5, ABSOLUTE)),
    "target": (1e-6, ABSOLUTE),
    "box_lambda": (1e-6, 1e-9),
    # Losses, metrics and scores of fine-tuning.
    **dict.fromkeys(("loss_mse", "loss_l1", "loss_smooth_l1", "loss_ccc", "loss_pcc"), (1e-5, 1e-9)),
    # 1e-6 absolute near zero, where terms cancel.
    **dict.fromkeys(("grad_mse", "grad_l1", "grad_smooth_l1", "grad_ccc", "grad_pcc"), (1e-4, 1e-2)),
    **dict.fromkeys(("metric_acc", "metric_mae", "metric_mse", "metric_rmse"), (1e-5, 1e-9)),
    **dict.fromkeys(("metric_pcc", "metric_ccc", "uar", "war", "acc1", "acc5", "top1", "top5"), (1e-5, 1e-9)),
    **dict.fromkeys(("weighted_f1", "micro_f1", "macro_f1", "scores"), (1e-5, 1e-9)),
    **dict.fromkeys(("predictions", "confusion", "labels"), EXACT),
}
TOLERANCES_OF_KIND = {"finetune_steps": {"final_param_norms": (3e-5, 1e-3)}}
PER_PARAMETER = ("grad_norms", "grad_norms_last", "final_param_norms", "lr_scale", "weight_decay", "layer_id")
CASE = re.compile(r"^(case|run)\d+_")

Comparison = tuple[str, np.ndarray, np.ndarray]
"""Name of an array in the file, the expected values, the computed ones."""


def tolerance_of(kind: str, quantity: str) -> tuple[float, float | None]:
    """The tolerance of a quantity, which may be of one case of many, in files of a kind."""
    quantity = CASE.sub("", quantity)
    return TOLERANCES_OF_KIND.get(kind, {}).get(quantity, TOLERANCES[quantity])


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
    """Compare the outputs of a model with the file of a model, quantity by quantity.

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
        if quantity == golden.name_array or quantity in golden.inputs:
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
        rule = tolerance_of(golden.kind, quantity)
        yield _line(quantity, rule, expected, actual, common if quantity in PER_PARAMETER else None)


def compare_cases(golden: Golden, comparisons: Iterable[Comparison]) -> list[Line]:
    """Compare what a file holds of many cases: one line a quantity, that of the worst case.

    Values that are not a number in both are equal.

    Args:
        golden: the file.
        comparisons: every array of the file that is no input.

    Raises:
        GoldenError: the file holds an array to which nothing was compared, or lacks one.
    """
    worst: dict[str, Line] = {}
    compared = set()
    try:
        for name, expected, actual in comparisons:
            compared.add(name)
            quantity = CASE.sub("", name)
            expected, actual = _without_common_nan(np.asarray(expected), np.asarray(actual))
            line = _line(quantity, tolerance_of(golden.kind, quantity), expected, actual, None)
            if name != quantity:
                line = dataclasses.replace(line, note=f"{line.note} in {name.removesuffix('_' + quantity)}")
            if quantity not in worst or not line.worst <= worst[quantity].worst:
                worst[quantity] = line
    except KeyError as error:
        raise GoldenError(f"{golden.path}: lacks {error}") from error
    if unknown := set(golden.arrays) - compared - set(golden.inputs):
        raise GoldenError(f"{golden.path}: no rule to check {', '.join(sorted(unknown))}")
    return list(worst.values())


def _without_common_nan(expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if expected.shape != actual.shape:
        return expected, actual
    both = np.isnan(expected) & np.isnan(actual)
    return np.where(both, 0, expected), np.where(both, 0, actual)


def _line(
    quantity: str,
    rule: tuple[float, float | None],
    expected: np.ndarray,
    actual: np.ndarray,
    names: Sequence[str] | None,
) -> Line:
    tolerance, floor = rule
    if expected.shape != actual.shape:
        return Line(quantity, np.inf, tolerance, f"shape {actual.shape}, should be {expected.shape}")
    if not expected.size:
        return Line(quantity, 0.0, tolerance, "empty")
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    if floor is THOUSANDTH_OF_PEAK:
        floor = 1e-3 * np.abs(expected).max()
    magnitude = 1.0 if floor == ABSOLUTE else np.maximum(np.abs(expected), floor)
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
