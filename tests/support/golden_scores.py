"""Computing the goldens of losses and metrics of fine-tuning, and of the merging of views."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from sklearn.metrics import recall_score

from hicmae_jax.evaluation.emotion_metrics import class_scores, confusion, predictions
from hicmae_jax.evaluation.merging import Merged, merge_tasks, merge_views
from hicmae_jax.evaluation.regression_metrics import METRICS, regression_scores
from hicmae_jax.objective.finetune import REGRESSION_LOSSES, regression_loss
from tests.goldens import finetune_recipe
from tests.support.golden_cases import Golden
from tests.support.golden_compare import Comparison

IN_PERCENT = ("CCC", "PCC", "acc")  # here; shares in the files


def _dimension_metrics(true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """`metric_ccc`, … → [mean, each dimension], as the files hold them."""
    names = [f"dimension {d}" for d in range(true.shape[1])]
    scores = regression_scores(true, predicted, names)
    return {
        f"metric_{metric.lower()}": np.array(
            [scores[metric], *(scores[f"{metric} {name}"] for name in names)]
        )
        / (100 if metric in IN_PERCENT else 1)
        for metric in METRICS
    }


def regression(golden: Golden) -> Iterator[Comparison]:
    """Losses of dimensions, their gradients, and the metrics."""
    functions = {
        kind: jax.jit(jax.value_and_grad(lambda x, y, kind=kind: regression_loss(kind, x, y)))
        for kind in REGRESSION_LOSSES
    }
    for number, case in enumerate(golden.config["cases"]):
        true = finetune_recipe.dimensions(case["seed"], case["batch"], case["outputs"])
        predicted = finetune_recipe.predictions(case["seed"] + 1, true)
        found = _dimension_metrics(true, predicted)
        for kind, function in functions.items():
            found[f"loss_{kind}"], found[f"grad_{kind}"] = function(predicted, true)
        for quantity, value in found.items():
            name = f"case{number}_{quantity}"
            expected = golden.arrays[name]
            if quantity.startswith("grad_") and np.isnan(expected).all():
                # One clip has no correlation. The published gradient is not a number there; ours is 0.
                expected = np.zeros_like(expected)
            yield name, expected, np.asarray(value)


def class_metrics(golden: Golden) -> Iterator[Comparison]:
    """Metrics of classes, predictions and confusion."""
    for number, case in enumerate(golden.config["cases"]):
        true = finetune_recipe.skewed_labels(
            case["seed"], case["count"], case["classes"], tuple(case["absent"])
        )
        logits = finetune_recipe.logits(case["seed"] + 1, true, case["classes"])[0]
        logits[:, case["never_predicted"]] -= 100
        scores, predicted = class_scores(true, logits), predictions(logits)
        occurring = np.union1d(true, predicted)
        found = {
            name.lower().replace(" ", "_"): np.array(scores[name] / 100)
            for name in ("UAR", "WAR", "weighted F1", "micro F1", "macro F1")
        }
        found |= {"acc1": np.array(scores["top-1"]), "acc5": np.array(scores["top-5"])}
        found |= {
            "predictions": predicted,
            "confusion": confusion(true, predicted, case["classes"])[np.ix_(occurring, occurring)],
        }
        for quantity, value in found.items():
            name = f"case{number}_{quantity}"
            expected = golden.arrays[name]
            if quantity == "uar" and np.isnan(expected):
                # A class is predicted and never true. The published UAR is not a number there.
                expected = np.array(recall_score(true, predicted, labels=np.unique(true), average="macro"))
            yield name, expected, value


def _merge(names: Sequence[str], outputs: np.ndarray, regression: bool) -> Merged:
    """Merge all views, every second clip from another process, and the first clips twice."""
    rows = [
        (name, view, outputs[view, clip]) for view in range(len(outputs)) for clip, name in enumerate(names)
    ]
    rows = rows[::2] + rows[:3] + rows[1::2] + rows[:5]
    clips, views, values = zip(*rows, strict=True)
    return merge_views(list(clips), list(views), np.stack(values), regression=regression)


def _in_order(merged: Merged, names: Sequence[str]) -> list[int]:
    return [merged.names.index(name) for name in names]


def merging(golden: Golden) -> Iterator[Comparison]:
    """Scores of views merged to those of clips or tasks, and some metrics."""
    kinds = {"class": _merged_classes, "avcaffe": _merged_tasks, "regression": _merged_dimensions}
    for number, case in enumerate(golden.config["cases"]):
        for quantity, value in kinds[case["kind"]](case).items():
            yield f"case{number}_{quantity}", golden.arrays[f"case{number}_{quantity}"], np.asarray(value)


def _merged_classes(case: dict[str, Any]) -> dict[str, Any]:
    true = finetune_recipe.skewed_labels(case["seed"], case["clips"], case["classes"])
    logits = finetune_recipe.logits(case["seed"] + 1, true, case["classes"], case["views"])
    names = [f"clip {i}" for i in range(case["clips"])]
    merged = _merge(names, logits, regression=False)
    assert len(merged.names) == case["clips"]
    scores = merged.scores[_in_order(merged, names)]
    found = class_scores(true, scores)
    return {
        "scores": scores,
        "predictions": predictions(scores),
        "top1": found["top-1"],
        "top5": found["top-5"],
    }


def _merged_tasks(case: dict[str, Any]) -> dict[str, Any]:
    size = case["clips_of_a_task"]
    true = np.repeat(finetune_recipe.skewed_labels(case["seed"], case["tasks"], case["classes"]), size)
    logits = finetune_recipe.logits(case["seed"] + 1, true, case["classes"], case["views"])
    names = [f"aff{i // size:02d}_task_1_{i % size:04d}" for i in range(len(true))]
    merged = _merge(names, logits, regression=False)
    tasks, task_true = merge_tasks(merged, true[[names.index(name) for name in merged.names]])
    order = _in_order(tasks, [f"aff{task:02d}_task_1" for task in range(case["tasks"])])
    return {
        "labels": task_true[order],
        "scores": tasks.scores[order],
        "predictions": predictions(tasks.scores)[order],
        "top1": class_scores(task_true, tasks.scores)["top-1"],
    }


def _merged_dimensions(case: dict[str, Any]) -> dict[str, Any]:
    true = finetune_recipe.dimensions(case["seed"], case["clips"], case["outputs"])
    outputs = [finetune_recipe.predictions(case["seed"] + 1 + view, true) for view in range(case["views"])]
    names = [f"clip {i}" for i in range(case["clips"])]
    merged = _merge(names, np.stack(outputs), regression=True)
    scores = merged.scores[_in_order(merged, names)]
    return {"scores": scores, **_dimension_metrics(true, scores)}
