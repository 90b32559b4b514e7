"""Fits the law to runs by variable projection.

For given exponents the law is linear in E, A and B, so only the exponents are searched: first all pairs of a
grid, each with non-negative least squares, then the best pairs are refined together with E, A and B. Nothing
is fitted to minima over runs of equal compute, whose parabolas give biased exponents.

The residual is that of log loss and its cost is Huber's, as in Hoffmann et al. 2022, appendix D.2. They use a
threshold of 1e-3. That is below the noise between runs, so the cost is nearly that of absolute values, which
needs half as many runs again for the same precision. Here the threshold follows the noise, and 1e-3 is its
least value: a run that fits poorly still weighs little, and the others count in full.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from scipy import optimize

from hicmae_jax.studies.law import Law
from hicmae_jax.studies.law_points import EXAMPLES, PARAMETERS, Points

EXPONENTS = (0.02, 3.0)
"""Least and largest exponent."""
GRID = np.geomspace(*EXPONENTS, 20)
STARTS = 3  # pairs of the grid that are refined
LEAST_THRESHOLD = 1e-3
EFFICIENT = 1.345
"""Threshold in standard deviations at which Huber's cost uses 95 % of Gaussian runs (Huber 1981)."""
TO_DEVIATION = 1.4826
"""Standard deviation of Gaussian values of which half are within ±1."""
TINY = 1e-6
"""Share of the loss below which a term counts as zero."""
ROUNDS = 3  # of estimating the noise and fitting again


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law and how well it fits.

    Attributes:
        law: the law.
        threshold: residual in log loss from which a run weighs less.
        residuals: float64[n], log of the law's loss minus log of the loss, by run.
        cost: sum of Huber's costs.
    """

    law: Law
    threshold: float
    residuals: np.ndarray
    cost: float

    @property
    def weights(self) -> np.ndarray:
        """float64[n] in (0, 1], how much each run counts."""
        return self.threshold / np.maximum(np.abs(self.residuals), self.threshold)


class _Problem:
    """Runs in scaled units: coordinates are logarithms without their mean, so all factors are of one size."""

    def __init__(self, points: Points) -> None:
        self.axes = points.axes
        logs = np.log(np.stack([getattr(points, name) for name in self.axes]))
        self.centres = logs.mean(1)
        self.coordinates = logs - self.centres[:, None]  # [K, n]
        self.log_loss = np.log(points.loss)
        self.loss = points.loss

    def columns(self, exponents: Sequence[float] | np.ndarray) -> np.ndarray:
        """float64[n, 1 + K], what E and the factors are multiplied with."""
        powers = np.exp(-np.asarray(exponents)[:, None] * self.coordinates)
        return np.concatenate([np.ones((1, powers.shape[1])), powers]).T

    def residuals(self, numbers: np.ndarray) -> np.ndarray:
        """float64[n]; `numbers` are E, the K factors, the K exponents."""
        factors, exponents = np.split(numbers, [1 + len(self.axes)])
        return np.log(np.maximum(self.columns(exponents) @ factors, 1e-300)) - self.log_loss

    def jacobian(self, numbers: np.ndarray) -> np.ndarray:
        """float64[n, 1 + 2K], derivatives of the residuals."""
        factors, exponents = np.split(numbers, [1 + len(self.axes)])
        columns = self.columns(exponents)
        by_exponent = -columns[:, 1:] * factors[1:] * self.coordinates.T
        return np.concatenate([columns, by_exponent], 1) / np.maximum(columns @ factors, 1e-300)[:, None]

    def refine(self, start: np.ndarray, threshold: float | None) -> optimize.OptimizeResult:
        """Minimise over all numbers from a start; without a threshold the cost is that of squares."""
        count = len(self.axes)
        low = [0.0] * (1 + count) + [EXPONENTS[0]] * count
        high = [np.inf] * (1 + count) + [EXPONENTS[1]] * count
        cost = {} if threshold is None else {"loss": "huber", "f_scale": threshold}
        return optimize.least_squares(
            self.residuals,
            np.clip(start, low, high),
            self.jacobian,
            bounds=(low, high),
            x_scale="jac",
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
            max_nfev=300,
            **cost,
        )

    def numbers(self, law: Law) -> np.ndarray:
        """A law in the units of this problem."""
        of = {PARAMETERS: (law.A, law.alpha), EXAMPLES: (law.B, law.beta)}
        pairs = [of[name] for name in self.axes]
        exponents = np.array([EXPONENTS[0] if exponent is None else exponent for _, exponent in pairs])
        factors = [factor for factor, _ in pairs] * np.exp(-exponents * self.centres)
        return np.array([law.E, *factors, *exponents])

    def law(self, numbers: np.ndarray) -> Law:
        """Numbers of this problem as a law."""
        count = len(self.axes)
        # What makes no difference to any loss comes from the search, which ends a little above the limit.
        without_effect = (self.columns(numbers[1 + count :]) * numbers[: 1 + count]).max(
            0
        ) < TINY * self.loss.min()
        numbers = np.where([*without_effect, *[False] * count], 0.0, numbers)
        factors = numbers[1 : 1 + count] * np.exp(numbers[1 + count :] * self.centres)
        of = dict(
            zip(self.axes, zip(factors.tolist(), numbers[1 + count :].tolist(), strict=True), strict=True)
        )
        A, alpha = of.get(PARAMETERS, (0.0, None))
        B, beta = of.get(EXAMPLES, (0.0, None))
        return Law(float(numbers[0]), A, B, alpha, beta)


def project(
    points: Points, weights: np.ndarray, pairs: Sequence[Sequence[float]]
) -> tuple[np.ndarray, list[Law]]:
    """The best law for each choice of exponents, by non-negative least squares of the relative residuals.

    Args:
        points: n runs that differ in K of N and D.
        weights: float64[n] of the squares.
        pairs: m times K exponents.

    Returns:
        float64[m] half the weighted sums of squares, and m laws.
    """
    problem = _Problem(points)
    roots = np.sqrt(weights)
    costs, laws = np.empty(len(pairs)), []
    for index, exponents in enumerate(pairs):
        factors, norm = optimize.nnls(
            problem.columns(exponents) / problem.loss[:, None] * roots[:, None], roots
        )
        costs[index] = norm**2 / 2
        laws.append(problem.law(np.array([*factors, *exponents])))
    return costs, laws


def fit(points: Points) -> Fit:
    """Fit the law.

    Args:
        points: runs, checked.

    Raises:
        ValueError: one line: too few runs of different N and D, or a loss that rises or is constant.
    """
    points.check()
    problem = _Problem(points)
    costs, laws = project(
        points, np.ones(len(points)), list(itertools.product(GRID, repeat=len(points.axes)))
    )
    starts = [problem.numbers(laws[index]) for index in np.argsort(costs)[:STARTS]]
    best = min((problem.refine(start, None) for start in starts), key=lambda found: found.cost)
    free = max(len(points) - points.numbers, 1)
    for _ in range(ROUNDS):
        spread = TO_DEVIATION * np.median(np.abs(best.fun)) * np.sqrt(len(points) / free)
        threshold = max(LEAST_THRESHOLD, float(EFFICIENT * spread))
        best = problem.refine(best.x, threshold)
    return Fit(problem.law(best.x), threshold, best.fun, float(best.cost))


def refit(points: Points, before: Fit) -> Law:
    """Fit the law to other runs of the same study, beginning with an earlier fit and its threshold.

    Args:
        points: runs that differ in what the earlier ones differed.
        before: the earlier fit.
    """
    problem = _Problem(points)
    return problem.law(problem.refine(problem.numbers(before.law), before.threshold).x)
