"""Which exponents fit about as well as the best ones.

Runs of a narrow range often determine a prediction well and the exponents badly: a larger `E` with larger
exponents fits as well. A pair of exponents is acceptable if the sum of squares, with the best E, A and B for
this pair, exceeds the least sum by no more than noise explains in 90 % of cases (an F test).
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, stats

from hicmae_jax.studies.law import Law, losses
from hicmae_jax.studies.law_fit import EXPONENTS, GRID, Fit, project
from hicmae_jax.studies.law_points import Points

LEVEL = 0.9
EXACT = 1e-4
"""Root mean square of the residuals in log loss below which any exponents are acceptable."""
SIDE = 31  # pairs on each side of the grid inside the region

Profile = Callable[[float], tuple[float, tuple[float, ...]]]


@dataclasses.dataclass(frozen=True)
class Region:
    """The acceptable exponents.

    Attributes:
        tolerance: by how much the sum of squares may exceed the least one, as a share of it.
        laws: the best law of each acceptable pair of a grid, with the outermost ones.
    """

    tolerance: float
    laws: Sequence[Law]

    def range_of(self, name: str) -> tuple[float, float] | None:
        """Least and largest acceptable value of a number of the law; None if the law does not have it."""
        values = [getattr(law, name) for law in self.laws]
        return None if None in values else (min(values), max(values))

    def range_of_loss(self, parameters: float, examples: float) -> tuple[float, float]:
        """Least and largest loss that acceptable laws predict."""
        predicted = losses(self.laws, parameters, examples)
        return float(predicted.min()), float(predicted.max())


def region(points: Points, fit: Fit) -> Region:
    """Find the acceptable exponents.

    Args:
        points: the runs.
        fit: the law of all runs; runs weigh as in its last step.
    """
    law, count = fit.law, len(points.axes)
    best = tuple(exponent for exponent in (law.alpha, law.beta) if exponent is not None)
    costs, laws = project(points, fit.weights, [best])
    free = max(len(points) - points.numbers, 1)
    tolerance = count / free * float(stats.f.ppf(LEVEL, count, free))
    most = costs[0] * (1 + tolerance) + len(points) * EXACT**2 / 2
    kept, ranges = [laws[0]], []
    for axis in range(count):
        profile = _profile(points, fit.weights, axis)
        ends = [_end(profile, best[axis], limit, most) for limit in EXPONENTS]
        outermost = [profile(end)[1] for end in ends]
        kept += project(points, fit.weights, outermost)[1]
        ranges.append(np.geomspace(ends[0], ends[1], SIDE))
    costs, laws = project(points, fit.weights, list(itertools.product(*ranges)))
    kept += [law for cost, law in zip(costs, laws, strict=True) if cost <= most]
    return Region(tolerance, kept)


def _profile(points: Points, weights: np.ndarray, axis: int) -> Profile:
    """Function: an exponent of one axis → the least cost, and all exponents that have it."""

    def placed(exponent: float, other: float) -> tuple[float, ...]:
        return (exponent, other) if axis == 0 else (other, exponent)

    def profile(exponent: float) -> tuple[float, tuple[float, ...]]:
        if len(points.axes) == 1:
            return float(project(points, weights, [(exponent,)])[0][0]), (exponent,)
        costs, _ = project(points, weights, [placed(exponent, other) for other in GRID])
        index = int(costs.argmin())
        near = np.log(GRID[[max(index - 1, 0), min(index + 1, len(GRID) - 1)]])
        found = optimize.minimize_scalar(
            lambda log: project(points, weights, [placed(exponent, float(np.exp(log)))])[0][0],
            bounds=tuple(near),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return float(found.fun), placed(exponent, float(np.exp(found.x)))

    return profile


def _end(profile: Profile, best: float, limit: float, most: float) -> float:
    """Where the least cost reaches the largest acceptable one, between the best exponent and a limit."""
    if profile(limit)[0] <= most or np.isclose(best, limit):
        return limit
    log = optimize.brentq(
        lambda log: min(profile(float(np.exp(log)))[0], 1e3) - most, np.log(best), np.log(limit), xtol=1e-4
    )
    return float(np.exp(log))
