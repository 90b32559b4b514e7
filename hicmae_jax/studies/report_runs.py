"""The runs of a report: what each one is, what it has cost and what it has reached."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.common.errors import one_line
from hicmae_jax.logs import goodput as goodputs
from hicmae_jax.logs import starts
from hicmae_jax.logs.goodput import Goodput
from hicmae_jax.logs.metrics import FILE as METRICS
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.model.flops import flops
from hicmae_jax.settings import recorded
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.studies import attempts, plan
from hicmae_jax.studies.attempts import BEGUN, DONE, FAILED, NOT_BEGUN, Attempts
from hicmae_jax.studies.plan import PlannedRun
from hicmae_jax.studies.price import count_parameters

CONFIG = "config.json"
BRANCHED = "branched"
"""Event of a run that begins with a checkpoint of another run."""
VIDEO, AUDIO, TOTAL = "held_out/video", "held_out/audio", "held_out/total"
RECALL, UAR = "held_out/recall@5/layer_", "probe/linear_uar"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """One run.

    Attributes:
        name: of the run.
        kind: `run`, `trunk` or `branch`.
        state: `DONE`, `FAILED`, `BEGUN` or `NOT_BEGUN`.
        planned: why a law must not be fitted to it, by its plan; None if it may be.
        planned_steps: steps to its end; None if not known.
        failure: the last line that a failed run has printed; empty for others.
        settings: its settings; None if it has not begun.
        lines: its metrics.
        goodput: see `logs.goodput`; None if it has not begun to train.
    """

    name: str
    kind: str = "run"
    state: str = NOT_BEGUN
    planned: str | None = None
    planned_steps: int | None = None
    failure: str = ""
    settings: PretrainSettings | None = None
    lines: Sequence[Mapping[str, Any]] = ()
    goodput: Goodput | None = None

    @property
    def size(self) -> str | None:
        """Name of the size, before any change to single settings of the model."""
        return None if self.settings is None else self.settings.size

    @property
    def batch(self) -> int | None:
        """Clips in an update."""
        return None if self.settings is None else self.settings.batch

    @functools.cached_property
    def parameters(self) -> int | None:
        """Number of parameters in pre-training, decoders included."""
        if self.settings is None:
            return None
        return count_parameters(self.settings.model, self.settings.masks)

    @functools.cached_property
    def flops_a_clip(self) -> int | None:
        """Operations of the model for one clip, forward and backward."""
        if self.settings is None:
            return None
        return sum(flops(self.settings.model, self.settings.masks).training.values())

    @property
    def steps(self) -> int | None:
        """Steps made, with those of the trunk that a branch begins with."""
        return int(self.lines[-1]["step"]) if self.lines else None

    @property
    def examples(self) -> int | None:
        """Clips seen, with those of the trunk."""
        return self.steps * self.batch if self.steps is not None and self.batch is not None else None

    @property
    def flops(self) -> int | None:
        """Operations of the run, with those of the trunk."""
        if self.examples is None or self.flops_a_clip is None:
            return None
        return self.examples * self.flops_a_clip

    @property
    def loss(self) -> float | None:
        """Reconstruction loss on held-out clips, of picture and sound together, at the last evaluation."""
        return self.curve((VIDEO, AUDIO))[-1][1] if self.curve((VIDEO, AUDIO)) else None

    @property
    def total(self) -> float | None:
        """The whole objective on held-out clips at the last evaluation."""
        return self.last(TOTAL)

    @property
    def recall(self) -> float | None:
        """Recall at 5 of retrieval between picture and sound, from 0 to 1, of the best layer."""
        return self.recalls[-1][1] if self.recalls else None

    @property
    def recalls(self) -> list[tuple[int, float]]:
        """Clips seen and `recall`, for every evaluation."""
        of_lines = [
            (line["step"] * (self.batch or 0), [line[name] for name in line if _is_recall(name)])
            for line in self.lines
        ]
        return [(clips, max(values)) for clips, values in of_lines if values]

    @property
    def uar(self) -> float | None:
        """UAR of the linear probe, from 0 to 1, at its last evaluation."""
        return self.last(UAR)

    @property
    def unfit(self) -> str | None:
        """Why a law must not be fitted to the run, in one line; None if it may be."""
        if self.planned is not None:
            return self.planned
        if self.kind == "trunk":
            return "a trunk, whose rate has not decayed"
        if self.state != DONE:
            return "not finished"
        if self.loss is None:
            return "no loss on held-out clips: its evaluation.sets are empty"
        return None if math.isfinite(self.loss) else "its loss is not finite"

    def last(self, name: str) -> float | None:
        """The last value of a name in the metrics."""
        return next((line[name] for line in reversed(self.lines) if name in line), None)

    def curve(self, names: Sequence[str]) -> list[tuple[int, float]]:
        """Clips seen and the sum of some values, for every line of the metrics that has all of them.

        Args:
            names: names in the metrics.
        """
        batch = self.batch or 0
        return [
            (line["step"] * batch, sum(line[name] for name in names))
            for line in self.lines
            if all(name in line for name in names)
        ]


def of_study(root: Path) -> list[ReportedRun]:
    """All runs of a study, in the order of its plan.

    Args:
        root: directory of the study.

    Raises:
        ValueError: one line: the directory is no study, or a run is damaged.
    """
    study, begun = plan.read(root), Attempts(root)
    found = []
    for run in study.runs:
        state = attempts.state_of(root, run, begun)
        failure = begun[run.name].line if state == FAILED else ""
        found.append(_read(plan.directory_of(root, run.name), run, state, failure))
    return found


def of_directories(directories: Sequence[Path]) -> list[ReportedRun]:
    """Runs of any directories.

    Args:
        directories: directories of pre-training runs.

    Raises:
        ValueError: one line: a directory is no run of pre-training, is given twice, or is damaged.
    """
    found: list[ReportedRun] = []
    for directory in directories:
        if not (directory / CONFIG).is_file():
            raise ValueError(f"{directory} is no run: it has no {CONFIG}")
        same_name = [other for other in directories if other.name == directory.name]
        name = directory.name if len(same_name) == 1 else str(directory)
        if name in (run.name for run in found):
            raise ValueError(f"{directory} is given twice")
        state = DONE if attempts.is_finished(directory) else BEGUN
        branched = any(event["event"] == BRANCHED for event in starts.read_events(directory))
        run = PlannedRun(name, kind="branch" if branched else "run")
        found.append(_read(directory, run, state, ""))
    return found


def _read(directory: Path, run: PlannedRun, state: str, failure: str) -> ReportedRun:
    """What a directory holds of a run; it may not exist."""
    path = directory / CONFIG
    settings = None
    if path.is_file():
        try:
            settings = recorded.load(json.loads(path.read_text(encoding="utf-8")), "cpu")
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: {one_line(error)}") from None
    lines = read_metrics(directory) if (directory / METRICS).is_file() else []
    return ReportedRun(
        name=run.name,
        kind=run.kind,
        state=state,
        planned=run.unfit,
        planned_steps=run.steps or None,
        failure=failure,
        settings=settings,
        lines=lines,
        goodput=goodputs.of_run(directory, lines),
    )


def _is_recall(name: str) -> bool:
    """Whether a name is that of the mean of both directions at some layer."""
    return name.startswith(RECALL) and name.removeprefix(RECALL).isdigit()
