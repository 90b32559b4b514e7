"""How sure a law is: it is fitted again to runs that are drawn from the same runs with replacement.

What is drawn are pairs of N and D, each with all its runs: seeds of one pair share what the law gets wrong
there, so they are no independent evidence.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hicmae_jax.studies.law import Law, losses
from hicmae_jax.studies.law_fit import TO_DEVIATION, Fit, refit
from hicmae_jax.studies.law_points import Points

DRAWS = 400
LEVEL = 0.9
TRIES = 20
"""A draw whose runs do not determine the law is drawn again, so often at most for each one that is wanted."""


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """Laws of drawn runs.

    Attributes:
        laws: one for each draw.
        noise: float64[n], how far the log loss of each run lies above the law, without the share by which a
            fit to few runs shrinks it.
        seed: of the draws.
    """

    laws: Sequence[Law]
    noise: np.ndarray
    seed: int

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise in log loss, by the median of its size: outliers do not count."""
        return float(TO_DEVIATION * np.median(np.abs(self.noise)))

    def interval_of_law(self, parameters: float, examples: float) -> tuple[float, float]:
        """Interval at `LEVEL` of the expected loss."""
        return _interval(losses(self.laws, parameters, examples))

    def interval_of_run(self, parameters: float, examples: float) -> tuple[float, float]:
        """Interval at `LEVEL` of the loss of one new run, which lies off the law as others do."""
        drawn = np.random.default_rng(self.seed).choice(self.noise, len(self.laws))
        return _interval(losses(self.laws, parameters, examples) * np.exp(drawn))

    def interval_of(self, name: str) -> tuple[float, float] | None:
        """Interval at `LEVEL` of a number of the law, such as `alpha`; None if the law does not have it."""
        values = [getattr(law, name) for law in self.laws]
        return None if None in values else _interval(np.array(values))


def bootstrap(points: Points, fit: Fit, draws: int = DRAWS, seed: int = 0) -> Bootstrap:
    """Fit the law to drawn runs.

    Args:
        points: the runs.
        fit: the law of all runs.
        draws: how often runs are drawn.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(points.groups == group) for group in range(points.groups.max() + 1)]
    laws: list[Law] = []
    for _ in range(TRIES * draws):
        drawn = generator.integers(len(members), size=len(members))
        sample = points.take(np.concatenate([members[group] for group in drawn]))
        if sample.axes == points.axes and len(np.unique(drawn)) >= points.numbers:
            laws.append(refit(sample, fit))
        if len(laws) == draws:
            break
    free = max(len(points) - points.numbers, 1)
    return Bootstrap(laws, -fit.residuals * np.sqrt(len(points) / free), seed)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
