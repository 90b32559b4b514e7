"""Checks a law where it is used: on the largest runs, from the others, beside predictions without a law."""

import dataclasses
from typing import Any

import numpy as np

from hicmae_jax.studies.law_fit import fit
from hicmae_jax.studies.law_points import Points

SHARE = 0.2
"""Share of the pairs of N and D that are held out, those with the largest N · D."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The largest runs and what was predicted for them from the others.

    Attributes:
        runs: the runs held out.
        predictions: name of the predictor → float64[n] predicted losses; the first is `law`.
    """

    runs: Points
    predictions: dict[str, np.ndarray]

    def errors(self) -> dict[str, float]:
        """Name of the predictor → mean of its relative errors without their signs."""
        return {
            name: float(np.mean(np.abs(predicted / self.runs.loss - 1)))
            for name, predicted in self.predictions.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The runs and their predictions in types of JSON."""
        of_runs = {name: getattr(self.runs, name).tolist() for name in ("parameters", "examples", "loss")}
        predicted = {name: values.tolist() for name, values in self.predictions.items()}
        return {"runs": of_runs, "predictions": predicted, "errors": self.errors()}


def hold_out(points: Points) -> HeldOut | str:
    """Fit the law without the largest runs, and predict them.

    Args:
        points: runs to which a law can be fitted.

    Returns:
        The predictions, or why none can be made, in one line.
    """
    first = [int(np.argmax(points.groups == group)) for group in range(points.groups.max() + 1)]
    order = np.argsort(points.compute[first], kind="stable")
    largest = order[len(order) - max(round(SHARE * len(order)), 1) :]
    held = np.isin(points.groups, largest)
    rest, largest_runs = points.take(~held), points.take(held)
    try:
        if rest.axes != points.axes:
            raise ValueError("the others have one size or one number of examples")
        law = fit(rest).law
    except ValueError as error:
        return f"the largest runs cannot be held out: {error}"
    predictions = {
        "law": law.loss(largest_runs.parameters, largest_runs.examples),
        "power law in compute": _power_law(rest, largest_runs.compute),
        "no further gain": np.full(len(largest_runs), rest.loss.min()),
    }
    return HeldOut(largest_runs, predictions)


def front(compute: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """The Pareto front: indices of runs that no run with as little compute beats, by compute.

    Args:
        compute: float64[n].
        loss: float64[n]; lower is better.
    """
    if not len(loss):
        return np.empty(0, int)
    order = np.lexsort([loss, compute])
    lowest = np.minimum.accumulate(loss[order])
    better = np.concatenate([[True], lowest[1:] < lowest[:-1]])
    return order[better]


def _power_law(points: Points, compute: np.ndarray) -> np.ndarray:
    """Losses that a power law through the Pareto front gives; the best loss if the front is one run."""
    best = front(points.compute, points.loss)
    if len(best) < 2:
        return np.full(len(compute), points.loss.min())
    slope, offset = np.polyfit(np.log(points.compute[best]), np.log(points.loss[best]), 1)
    return np.exp(offset + slope * np.log(compute))
