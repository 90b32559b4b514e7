"""Finds the best checkpoint of a run by a score.

The score is in the record of each checkpoint that has one, so the best is known after a restart too::

    record.json    {…, "score": {"name": "held_out/total", "mode": "min", "value": 3.21}}
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from data_pipeline.common import anywhere
from hicmae_jax.checkpoints.listing import RECORD, find_all

BEST = "best"
"""Given instead of a step's number, this means the step of the best checkpoint."""
MODES = ("max", "min")
_SCORE = "score"


@dataclasses.dataclass(frozen=True)
class BestBy:
    """The score by which the best checkpoint is chosen.

    Attributes:
        score: name in the log, such as `held_out/total`.
        mode: `max` if a higher score is better, `min` if a lower one is.
    """

    score: str
    mode: str = "max"

    def __post_init__(self) -> None:
        """Check the mode.

        Raises:
            ValueError: the mode is neither `max` nor `min`.
        """
        if self.mode not in MODES:
            raise ValueError(f"mode = {self.mode!r} of the best checkpoint: choose one of {', '.join(MODES)}")

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a score is better than the best so far, None if there is none; NaN never is."""
        if not math.isfinite(value):
            return False
        return best is None or (value > best if self.mode == "max" else value < best)


class Scored(NamedTuple):
    """A checkpoint that has a score.

    Attributes:
        step: step of the checkpoint.
        value: value of the score.
    """

    step: int
    value: float


def with_score(record: Mapping[str, Any], best: BestBy, value: float) -> dict[str, Any]:
    """The record of a checkpoint with its score; a score that is not finite is left out."""
    if not math.isfinite(value):
        return dict(record)
    return {**record, _SCORE: {"name": best.score, "mode": best.mode, "value": value}}


def find_best(root: epath.Path, best: BestBy | None = None) -> Scored | None:
    """The complete checkpoint with the best score; if scores are equal, the first of them.

    A checkpoint whose record cannot be read counts as one without a score.

    Args:
        root: directory of the checkpoints.
        best: the score to compare; None for the one that the last checkpoint with a score has.

    Returns:
        Its step and score; None if no checkpoint has this score.
    """
    scores = _read_scores(root)
    if not scores:
        return None
    if best is None:
        last = scores[max(scores)]
        best = BestBy(last["name"], last["mode"])
    found: Scored | None = None
    for step, score in sorted(scores.items()):
        best_so_far = None if found is None else found.value
        if score["name"] == best.score and best.is_better(score["value"], best_so_far):
            found = Scored(step, score["value"])
    return found


def _read_scores(root: epath.Path) -> dict[int, dict[str, Any]]:
    """Step → `name`, `mode` and `value` of the score, of each checkpoint that has one."""
    scores = {}
    for step, path in find_all(root).items():
        # A record may be damaged, or its checkpoint may just be removed.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            score = json.loads(anywhere.read(path / RECORD))[_SCORE]
            scores[step] = {"name": score["name"], "mode": score["mode"], "value": float(score["value"])}
    return scores
