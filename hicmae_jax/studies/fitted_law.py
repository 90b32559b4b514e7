"""A law with everything that says how far to trust it, and its predictions."""

import dataclasses
import math
from typing import Any

import numpy as np

from hicmae_jax.studies import law_bootstrap
from hicmae_jax.studies.law_bootstrap import Bootstrap, bootstrap
from hicmae_jax.studies.law_fit import EXPONENTS, Fit, fit
from hicmae_jax.studies.law_held_out import HeldOut, hold_out
from hicmae_jax.studies.law_points import EXAMPLES, PARAMETERS, Points
from hicmae_jax.studies.law_region import Region, region

TIED = 0.99
"""Correlation of log N with log D from which their terms cannot be told apart."""
NUMBERS = ("E", "A", "B", "alpha", "beta")
TERMS = {PARAMETERS: ("N", "A", "alpha"), EXAMPLES: ("D", "B", "beta")}


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """A law with everything that says how far to trust it.

    Attributes:
        points: the runs.
        fit: the law.
        bootstrap: the laws of drawn runs.
        region: the exponents that fit about as well.
        held_out: predictions of the largest runs, or why there are none.
    """

    points: Points
    fit: Fit
    bootstrap: Bootstrap
    region: Region
    held_out: HeldOut | str

    def numbers(self) -> list[str]:
        """Names of the numbers that the law has."""
        left_out = {one for name, (_, *both) in TERMS.items() if name not in self.points.axes for one in both}
        return [name for name in NUMBERS if name not in left_out]

    def warnings(self) -> list[str]:
        """What limits the use of the law, a line each."""
        return [*_of_axes(self.points), *_of_terms(self)]

    def to_dict(self) -> dict[str, Any]:
        """Everything but a prediction, in types of JSON."""
        ranges = {name: self.region.range_of(name) for name in self.numbers()}
        return {
            **dataclasses.asdict(self.fit.law),
            "runs": len(self.points),
            "intervals": {name: self.bootstrap.interval_of(name) for name in self.numbers()},
            "level": law_bootstrap.LEVEL,
            "draws": len(self.bootstrap.laws),
            "deviation": self.bootstrap.deviation,
            "region": {"tolerance": self.region.tolerance, **ranges},
            "held_out": self.held_out if isinstance(self.held_out, str) else self.held_out.to_dict(),
            "warnings": self.warnings(),
        }

    def predict(self, parameters: float, examples: float) -> "Prediction":
        """Predict the loss of a run.

        Raises:
            ValueError: one line: the law has no term for what the run changes.
        """
        asked = {PARAMETERS: parameters, EXAMPLES: examples}
        for name, value in asked.items():
            if name not in self.points.axes and not math.isclose(value, getattr(self.points, name)[0]):
                raise ValueError(
                    f"all runs have {name} = {getattr(self.points, name)[0]:g}, so the law says nothing of "
                    f"{name} = {value:g}: vary {name} in the runs"
                )
        loss = float(self.fit.law.loss(parameters, examples))
        of_run = self.bootstrap.interval_of_run(parameters, examples)
        of_law = self.bootstrap.interval_of_law(parameters, examples)
        # Draws keep near the first law where other exponents fit as well, so those count too.
        acceptable = self.region.range_of_loss(parameters, examples)
        beyond = {name: value / float(getattr(self.points, name).max()) for name, value in asked.items()}
        return Prediction(
            parameters=parameters,
            examples=examples,
            loss=loss,
            interval=_hull(of_run, acceptable, (loss, loss)),
            interval_of_law=_hull(of_law, acceptable, (loss, loss)),
            beyond=beyond,
        )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted loss of a run.

    Attributes:
        parameters: N of the run.
        examples: D of the run.
        loss: loss that the law gives.
        interval: interval of the loss that the run will have, which lies off the law as other runs do.
        interval_of_law: interval of the loss that the law gives: that of the drawn runs, or wider if laws
            with acceptable exponents predict losses outside it.
        beyond: `parameters` and `examples` → how many times those of the largest run.
    """

    parameters: float
    examples: float
    loss: float
    interval: tuple[float, float]
    interval_of_law: tuple[float, float]
    beyond: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The prediction in types of JSON; the loss is `prediction`."""
        found = dataclasses.asdict(self)
        return {"prediction": found.pop("loss"), **found}


def fit_law(points: Points) -> FittedLaw:
    """Fit the law and find out how far to trust it.

    Args:
        points: the runs.

    Raises:
        ValueError: one line: no law can be fitted to the runs.
    """
    found = fit(points)
    return FittedLaw(points, found, bootstrap(points, found), region(points, found), hold_out(points))


def _hull(*intervals: tuple[float, float]) -> tuple[float, float]:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _of_axes(points: Points) -> list[str]:
    """What the choice of the runs leaves open."""
    lines = []
    for name, (letter, _, exponent) in TERMS.items():
        values = np.unique(getattr(points, name))
        if len(values) == 1:
            lines.append(f"all runs have {name} = {values[0]:g}: the law has no term of {letter}")
        elif len(values) == 2:
            lines.append(
                f"the runs have only two values of {letter}: {exponent} and E are not determined, and "
                f"predictions for another {letter} are guesses; add a third value"
            )
    if len(points.axes) == 2:
        tied = np.corrcoef(np.log(points.parameters), np.log(points.examples))[0, 1]
        if abs(tied) > TIED:
            lines.append(
                "N and D change together in all runs: their terms cannot be told apart; vary one alone"
            )
    return lines


def _of_terms(found: FittedLaw) -> list[str]:
    """Numbers that the runs do not determine."""
    lines, law = [], found.fit.law
    for name in found.points.axes:
        letter, factor, exponent = TERMS[name]
        if getattr(law, factor) == 0:
            lines.append(f"{name} make no difference in these runs: {factor} = 0")
            continue
        low, high = found.region.range_of(exponent) or EXPONENTS
        if low <= EXPONENTS[0] or high >= EXPONENTS[1]:
            lines.append(
                f"{exponent} is hardly determined: values from {low:.2g} to {high:.2g} fit about as well; "
                f"add runs over a wider range of {letter}"
            )
    return lines
