"""One score for each clip or task, from the scores of several views (as in the published code)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

GROUP_FIELDS = 3
"""Clips of AVCAffe belong to one task if these many first fields of their names agree."""


class Merged(NamedTuple):
    """Scores of clips or tasks.

    Attributes:
        names: of the clips or tasks, in the order in which they first come.
        scores: float64[N, K], probabilities of classes or regressed dimensions.
    """

    names: tuple[str, ...]
    scores: np.ndarray


def merge_views(
    names: Sequence[str], views: Sequence[int], outputs: np.ndarray, *, regression: bool
) -> Merged:
    """Average every clip's views: their softmax, or for dimensions their outputs.

    A view of a clip that comes again counts once, as its first occurrence. Several processes repeat clips to
    get batches of one size.

    Args:
        names: of the clip of every row.
        views: number of the view of every row.
        outputs: float[M, K], logits or dimensions.
        regression: True for dimensions.

    Raises:
        ValueError: lengths differ, outputs are not finite, or a clip lacks a view that another clip has.
    """
    outputs = np.asarray(outputs, np.float64)
    if not len(names) == len(views) == len(outputs) or outputs.ndim != 2 or not len(names):
        raise ValueError(
            f"{len(names)} names, {len(views)} views and outputs {outputs.shape} must be rows of one table"
        )
    _check_finite(names, outputs)
    values = outputs if regression else softmax(outputs)
    of_clip: dict[str, dict[int, np.ndarray]] = {}
    for name, view, value in zip(names, views, values):
        of_clip.setdefault(name, {}).setdefault(int(view), value)
    wanted = set().union(*of_clip.values())
    for name, found in of_clip.items():
        if missing := sorted(wanted - set(found)):
            raise ValueError(f"clip {name} has no view {missing[0]}, other clips have: score all views again")
    return Merged(
        tuple(of_clip),
        np.stack([np.mean([found[v] for v in sorted(found)], axis=0) for found in of_clip.values()]),
    )


def merge_tasks(merged: Merged, true: np.ndarray) -> tuple[Merged, np.ndarray]:
    """Average the scores of all clips of a task (AVCAffe).

    Args:
        merged: scores of clips.
        true: [N] or [N, D], the truth of every clip.

    Returns:
        Scores of tasks, and the truth of every task.

    Raises:
        ValueError: a name has too few fields, or two clips of a task differ in their truth.
    """
    true = np.asarray(true)
    if len(true) != len(merged.names):
        raise ValueError(f"{len(true)} labels for {len(merged.names)} clips")
    clips: dict[str, list[int]] = {}
    for place, name in enumerate(merged.names):
        clips.setdefault(task_of(name), []).append(place)
    for task, places in clips.items():
        for place in places:
            if not np.array_equal(true[place], true[places[0]]):
                raise ValueError(
                    f"clips {merged.names[places[0]]} and {merged.names[place]} of task {task} have the "
                    f"labels {true[places[0]]} and {true[place]}: correct the annotation"
                )
    scores = np.stack([merged.scores[places].mean(0) for places in clips.values()])
    return Merged(tuple(clips), scores), true[[places[0] for places in clips.values()]]


def task_of(name: str) -> str:
    """The task of an AVCAffe clip, `aff01_2_x` of `aff01_2_x_0007`: the first three fields of its name.

    Raises:
        ValueError: the name has fewer than three fields.
    """
    fields = name.split("_")
    if len(fields) < GROUP_FIELDS or not all(fields[:GROUP_FIELDS]):
        raise ValueError(f"clip {name!r}: its task is the first three fields between `_`, and it has fewer")
    return "_".join(fields[:GROUP_FIELDS])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64[..., K] of logits [..., K]."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _check_finite(names: Sequence[str], outputs: np.ndarray) -> None:
    bad = ~np.isfinite(outputs).all(1)
    if bad.any():
        raise ValueError(
            f"outputs of {bad.sum()} of {len(bad)} rows are not finite, first clip {names[bad.argmax()]}: "
            "check the checkpoint"
        )
