"""The laws of a report: of the loss and of each downstream score, with the prediction of the next size."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from hicmae_jax.model import sizes
from hicmae_jax.model.flops import flops
from hicmae_jax.studies.fitted_law import FittedLaw, Prediction, fit_law
from hicmae_jax.studies.law_points import AXES, Points
from hicmae_jax.studies.price import count_parameters
from hicmae_jax.studies.report_runs import ReportedRun
from hicmae_jax.studies.report_table import OF_SIZE, differing, follows_size

LENGTHS = ("epochs", "warmup_epochs", "warmup_steps", "warmup_examples", "optimizer.decay_share", "seed")
"""Settings that may differ between runs of one law, besides those of the model."""


@dataclasses.dataclass(frozen=True)
class Score:
    """What a law is fitted to.

    Attributes:
        title: in words.
        of: its value of a run; None if the run has none.
        falls: whether lower is better; if not, it lies between 0 and 1 and its distance from 1 is fitted.
    """

    title: str
    of: Callable[[ReportedRun], float | None]
    falls: bool = False

    def fitted(self, value: float) -> float:
        """What falls: the value, or its distance from 1."""
        return value if self.falls else 1 - value

    @property
    def fitted_title(self) -> str:
        """Name of what falls."""
        return self.title if self.falls else f"1 - {self.title}"


LOSS = Score("reconstruction loss", lambda run: run.loss, falls=True)
DOWNSTREAM = (
    Score("UAR of the linear probe", lambda run: run.uar),
    Score("recall@5", lambda run: run.recall),
)


@dataclasses.dataclass(frozen=True)
class NextSize:
    """A larger model than the largest of the runs.

    Attributes:
        name: in words.
        parameters: number of parameters.
        flops_a_clip: operations for one clip, forward and backward.
    """

    name: str
    parameters: float
    flops_a_clip: float


@dataclasses.dataclass(frozen=True)
class ScoreLaw:
    """The law of a score, or why there is none.

    Attributes:
        score: the score.
        runs: the runs that it was fitted to.
        law: the law; None if there is none.
        missing: what is missing for a law, in one line; empty if there is one.
        next_size: the next size; None without a law.
        prediction: its prediction after as many clips as the longest run; None without a law.
    """

    score: Score
    runs: Sequence[ReportedRun]
    law: FittedLaw | None = None
    missing: str = ""
    next_size: NextSize | None = None
    prediction: Prediction | None = None


def law_of(score: Score, runs: Sequence[ReportedRun]) -> ScoreLaw:
    """Fit a law to a score of all runs that are fit for it.

    Args:
        score: the score.
        runs: all runs.
    """
    used = [run for run in runs if run.unfit is None and score.of(run) is not None]
    if not used:
        return ScoreLaw(score, used, missing=f"no finished run has a {score.title}")
    rows = [(run.parameters, run.examples, score.fitted(score.of(run) or 0.0)) for run in used]
    points = Points(*np.array(rows, np.float64).T)
    if missing := _missing(points, used):
        return ScoreLaw(score, used, missing=missing)
    try:
        law = fit_law(points)
    except ValueError as error:
        return ScoreLaw(score, used, missing=str(error))
    size = next_size(used)
    prediction = law.predict(size.parameters, float(points.examples.max()))
    return ScoreLaw(score, used, law, "", size, prediction)


def _missing(points: Points, runs: Sequence[ReportedRun]) -> str:
    if points.loss.min() <= 0:
        return "a run has the best value that there is, so nothing is left to fall"
    for name, other in zip(AXES, ("sizes", "numbers of clips"), strict=True):
        if name not in points.axes:
            only = f"{len(runs)} fit runs have" if len(runs) > 1 else "the only fit run has"
            return f"{only} {getattr(points, name)[0]:,.0f} {name}: train at least three {other}"
    return ""


def also_differing(runs: Sequence[ReportedRun]) -> list[str]:
    """Settings in which fitted runs differ besides size, length and seed: the law mixes their effects."""
    of_model = [f"model.{field}" for field in OF_SIZE]
    return [name for name in differing(runs) if name not in (*LENGTHS, *of_model)]


def next_size(runs: Sequence[ReportedRun]) -> NextSize:
    """The next size of the table of sizes; beside it, a model larger by the ratio of the two largest ones.

    Args:
        runs: runs of at least two sizes, all begun.
    """
    largest = max(runs, key=lambda run: run.parameters or 0)
    assert largest.settings is not None
    assert largest.parameters is not None
    assert largest.flops_a_clip is not None
    if follows_size(largest):
        names = list(sizes.SIZES)
        for name in names[names.index(largest.settings.size) + 1 :]:
            of_size = sizes.model_config(name)
            fields = {field: getattr(of_size, field) for field in OF_SIZE}
            model = dataclasses.replace(largest.settings.model, **fields)
            parameters = count_parameters(model, largest.settings.masks)
            if parameters > largest.parameters:
                return NextSize(
                    f"size {name}", parameters, sum(flops(model, largest.settings.masks).training.values())
                )
    known = sorted({run.parameters or 0 for run in runs})
    ratio = known[-1] / known[-2]
    return NextSize(
        f"a model {ratio:.3g} times as large", largest.parameters * ratio, largest.flops_a_clip * ratio
    )
